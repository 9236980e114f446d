#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>

static void test_options(void **state)
{
        (void)state;
        static const char *const bad_network[] = { "10.0.0.1/8", NULL };
        static const struct fetch_host bad_host = { .host = "a/b" }, no_file = { .host = "h", .ca = "/nonexistent/ca.pem" }, no_pem = { .host = "h", .ca = "/etc/passwd" },
                                       lonely_key = { .host = "h", .client_key = "/dev/null" };
        static const struct { struct fetch_options options; const char *piece; } rows[] = {
                { { .block = bad_network }, "network.block" }, { { .allow = bad_network }, "network.allow" }, { { .http_proxy = "nope://x" }, "network.http_proxy" },
                { { .hosts = &bad_host, .host_count = 1 }, "a/b" }, { { .hosts = &no_file, .host_count = 1 }, "/nonexistent/ca.pem" },
                { { .hosts = &no_pem, .host_count = 1 }, "holds no PEM" },
                { { .hosts = &lonely_key, .host_count = 1 }, "client_key" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct fetch_client *made = NULL;
                struct error err = { 0 };
                assert_false(fetch_client_new(&rows[i].options, &made, &err));
                print_message("%s\n", err.text);
                assert_null(made);
                assert_int_equal(err.code, ERROR_BAD_REQUEST);
                assert_non_null(strstr(err.text, rows[i].piece));
        }
}

static void test_is_plain(void **state)
{
        (void)state;
        static const struct fetch_host hosts[] = {
                { .host = "plain.test:5000", .plain_http = true }, { .host = "localhost:6000" }, { .host = "localhost:7000", .skip_verify = true },
        };
        struct fetch_options options = { .hosts = hosts, .host_count = 3 };
        CLEANUP(fetch_client_unref) struct fetch_client *made = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &made, &err));
        static const struct { const char *host; bool plain; } plain[] = {
                { "plain.test:5000", true }, { "plain.test", false }, { "localhost:5000", true }, { "localhost", true }, { "127.3.2.1:80", true },
                { "[::1]:5000", true }, { "10.0.0.1:5000", false },
                { "localhost.test", false }, { "localhost:6000", true }, { "localhost:7000", false }, { "127.0.0.1.test", false },
        };
        for (size_t i = 0; i < COUNT_OF(plain); i++) {
                print_message("%s\n", plain[i].host);
                assert_int_equal(fetch_client_is_plain(made, plain[i].host), plain[i].plain);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_options), cmocka_unit_test(test_is_plain) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
