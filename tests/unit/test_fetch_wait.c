/* How a request waits, is given up, shares its connection and goes by a proxy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>
#include "fetch_run_rig.h"

static unsigned connections(void)
{
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, "/_stats");
        CLEANUP(cleanup_free) char *key = string_format("\"%u\": ", fake.other);
        const char *at = strstr(text, key);
        assert_non_null(at);
        return (unsigned)strtoul(at + strlen(key), NULL, 10);
}

/* Twenty requests one after another: one connection. */
static void test_keep_alive(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.other);
        CLEANUP(cleanup_free) char *missing = string_format("http://127.0.0.1:%u/files/none", fake.other);
        unsigned before = connections();
        for (int i = 0; i < 20; i++) {
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(i % 2 ? url : missing, -1);
                assert_true(fetch_plain(&request, &response, &err));
        }
        assert_true(connections() - before <= 1);
}

struct cancelling { struct cancel *cancel; const char *wait_for; };

/* Triggers when the server has the request in its log, so that the worker surely waits for the answer. */
static void *cancel_when_asked(void *arg)
{
        struct cancelling *cancelling = arg;
        for (int i = 0; i < 5000 && log_count(cancelling->wait_for) == 0; i++)
                usleep(1000);
        cancel_trigger(cancelling->cancel);
        return NULL;
}

static void test_cancel(void **state)
{
        (void)state;
        /* a stall, a body that drips, and the sleep before another try */
        static const char *const paths[] = { "/v2/mode/stalled-before-head/blobs/layer", "/v2/mode/drip/blobs/layer", "/v2/mode/status-429-once/manifests/v1" };
        struct fetch_options options = { .retries = 5, .progress_timeout_ms = 60000 };
        CLEANUP(fetch_client_unref) struct fetch_client *patient = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &patient, &err));
        free(fake_steer(client, &fake, FETCH_POST, "/_reset"));
        for (size_t i = 0; i < COUNT_OF(paths); i++) {
                print_message("%s\n", paths[i]);
                CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u%s", fake.port, paths[i]);
                CLEANUP(cancel_free) struct cancel *cancel = cancel_new();
                CLEANUP(probe_fini) struct probe probe = PROBE;
                struct fetch_response *response = NULL;
                struct cancelling cancelling = { cancel, paths[i] };
                struct fetch_request request = request_of(url, -1);
                request.cancel = cancel;
                pthread_t thread;
                int64_t started_ms = clock_get_ms();
                assert_int_equal(pthread_create(&thread, NULL, cancel_when_asked, &cancelling), 0);
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                pthread_join(thread, NULL);
                assert_int_equal(err.code, ERROR_BUSY);
                assert_true(clock_get_ms() - started_ms < 10000);
                /* and at once if it was triggered before */
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                assert_int_equal(err.code, ERROR_BUSY);
        }
}

static void test_deadline(void **state)
{
        (void)state;
        static const char *const names[] = { "drip", "stalled-before-head" };
        struct fetch_options options = { .retries = 5, .progress_timeout_ms = 60000 };
        CLEANUP(fetch_client_unref) struct fetch_client *patient = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &patient, &err));
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                CLEANUP(cleanup_free) char *url = mode_url(names[i]);
                CLEANUP(probe_fini) struct probe probe = PROBE;
                struct fetch_response *response = NULL;
                struct fetch_request request = request_of(url, -1);
                request.deadline_ms = clock_get_ms() + 300;
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                assert_int_equal(err.code, ERROR_TIMEOUT);
                assert_non_null(strstr(err.text, "not done within"));
        }
}

static void test_reasons(void **state)
{
        (void)state;
        static const struct { const char *url; bool public_only; enum error_code code; const char *piece; } rows[] = {
                { "http://no-such-host.invalid/x",      false, ERROR_UPSTREAM_UNREACHABLE, "could not be resolved (DNS)" },
                { "http://127.0.0.1:1/x?token=hidden",  false, ERROR_UPSTREAM_UNREACHABLE, "refused (127.0.0.1); is the server running, and on this port?" },
                { "http://169.254.1.1/x",               false, ERROR_DENIED,               "169.254.1.1 is refused: link-local; if that is meant to be reached, list" },
                { "http://localhost:1/x",               true,  ERROR_DENIED,               "loopback" },
                { "http://10.1.2.3/x",                  true,  ERROR_DENIED,               "private" },
                { "ftp://127.0.0.1/x",                  false, ERROR_BAD_URL,              "only http" },
                { "http://u:p@127.0.0.1/x",             false, ERROR_BAD_URL,              "user name" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].url);
                struct error err = { 0 };
                struct fetch_response *response = NULL;
                struct fetch_request request = request_of(rows[i].url, -1);
                request.public_only = rows[i].public_only;
                request.no_retry = true;
                assert_false(fetch_plain(&request, &response, &err));
                print_message("   %s\n", err.text);
                assert_int_equal(err.code, rows[i].code);
                assert_non_null(strstr(err.text, rows[i].piece));
                assert_null(strstr(err.text, "hidden"));
        }
}

/* A connection that an ordinary request left warm must not be given to a public_only one. */
static void test_public_only_apart(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.port);
        struct fetch_request request = request_of(url, -1);
        assert_true(fetch_plain(&request, &response, &err));
        request.public_only = true;
        assert_false(fetch_plain(&request, &response, &err));
        assert_int_equal(err.code, ERROR_DENIED);
}

/* The fake is the proxy: it gets absolute URLs, and literals in them are still judged. */
static void test_proxy(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *proxy = string_format("http://user:pw@127.0.0.1:%u", fake.port);
        struct fetch_options options = { .http_proxy = proxy, .no_proxy = "direct.invalid", .progress_timeout_ms = 2000 };
        CLEANUP(fetch_client_unref) struct fetch_client *proxied = NULL;
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &proxied, &err));
        log_clear();
        struct fetch_request request = request_of("http://far.invalid/plugin.wasm", -1);
        request.authorization = "Bearer abc";
        assert_true(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(fetch_response_get_status(response), 404);
        assert_int_equal(log_count("\"path\": \"http://far.invalid/plugin.wasm\""), 1);
        assert_int_equal(log_count("Proxy-Authorization"), 1);

        request.url = "http://169.254.169.254/latest";
        assert_false(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        request.url = "http://direct.invalid/x";
        assert_false(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(err.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_null(strstr(err.text, "pw"));
}

static void *many_gets(void *arg)
{
        const char *url = arg;
        for (int i = 0; i < 20; i++) {
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(url, -1);
                if (!fetch_run(client, &request, &probe.sink, &response, &err) || fetch_response_get_status(response) != 200)
                        return arg;
        }
        return NULL;
}

static void test_threads(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/redirect/plugin.wasm", fake.port);
        pthread_t threads[12];
        for (size_t i = 0; i < COUNT_OF(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, many_gets, url), 0);
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
                void *failed = NULL;
                pthread_join(threads[i], &failed);
                assert_null(failed);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_keep_alive), cmocka_unit_test(test_cancel), cmocka_unit_test(test_deadline), cmocka_unit_test(test_reasons),
                cmocka_unit_test(test_public_only_apart), cmocka_unit_test(test_proxy), cmocka_unit_test(test_threads),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
