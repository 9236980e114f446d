#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/registry/room.h"

enum { NOW_S = 1767225600 };                       /* 2026-01-01T00:00:00Z */

static const struct { const char *body, *token; int64_t lifetime_ms; const char *why; } answers[] = {
        { "{\"token\":\"T\"}",                                                 "T", 45000, NULL },
        { "{\"access_token\":\"A\"}",                                          "A", 45000, NULL },
        { "{\"token\":\"T\",\"access_token\":\"A\"}",                          "A", 45000, NULL },
        { "{\"token\":\"T\",\"access_token\":\"\"}",                           "T", 45000, NULL },
        { "{\"token\":\"T\",\"access_token\":null,\"x\":[1]}",                 "T", 45000, NULL },
        /* min(0.9 ttl, ttl - 15 s), at least 60 s */
        { "{\"token\":\"T\",\"expires_in\":60}",                               "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":1}",                                "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":0}",                                "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":-5}",                               "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":null}",                             "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":\"300\"}",                          "T", 45000, NULL },
        { "{\"token\":\"T\",\"expires_in\":100}",                              "T", 85000, NULL },
        { "{\"token\":\"T\",\"expires_in\":150}",                              "T", 135000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300}",                              "T", 270000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300.5}",                            "T", 270000, NULL },
        { "{\"token\":\"T\",\"expires_in\":1e300}",                            "T", 77760000, NULL },
        { "{\"token\":\"T\",\"expires_in\":9223372036854775807}",              "T", 77760000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"2026-01-01T00:00:00Z\"}", "T", 270000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"2025-12-31T23:59:00Z\"}", "T", 210000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"2026-01-01T00:05:00Z\"}", "T", 270000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"2025-12-31T23:50:00Z\"}", "T", 0, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"1970-01-01T00:00:00Z\"}", "T", 0, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":\"yesterday\"}",  "T", 270000, NULL },
        { "{\"token\":\"T\",\"expires_in\":300,\"issued_at\":7}",              "T", 270000, NULL },
        { "",                                                                  NULL, 0, "its answer" },
        { "[]",                                                                NULL, 0, "has no token" },
        { "{}",                                                                NULL, 0, "has no token" },
        { "{\"token\":\"\"}",                                                  NULL, 0, "has no token" },
        { "{\"token\":7}",                                                     NULL, 0, "token" },
        { "{\"token\":\"a b\"}",                                               NULL, 0, "characters" },
        { "{\"token\":\"a\\r\\nHost: x\"}",                                    NULL, 0, "characters" },
        { "{\"token\":\"\\u00e9\"}",                                           NULL, 0, "characters" },
        { "{\"token\":\"T\",\"token\":\"U\"}",                                 NULL, 0, "its answer" },
        { "<html>T</html>",                                                    NULL, 0, "its answer" },
};

static void test_answers(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(answers); i++) {
                struct token_answer answer = { 0 };
                struct error err = { 0 };

                print_message("%s\n", answers[i].body);
                bool ok = token_answer_parse(answers[i].body, strlen(answers[i].body), NOW_S, &answer, &err);
                assert_int_equal(ok, answers[i].token != NULL);
                if (ok) {
                        assert_string_equal(secret_get_text(answer.token), answers[i].token);
                        assert_int_equal(answer.lifetime_ms, answers[i].lifetime_ms);
                        secret_free(&answer.token);
                        continue;
                }
                assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                if (!strstr(err.text, answers[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, answers[i].why);
        }
}

static void test_scopes(void **state)
{
        (void)state;
        static const struct { const char *challenge, *scopes; } rows[] = {
                { NULL,                                        "repository:a/b:pull" },
                { "",                                          "repository:a/b:pull" },
                { "repository:a/b:pull",                       "repository:a/b:pull" },
                { "repository:x/y:pull",                       "repository:x/y:pull repository:a/b:pull" },
                { "repository:host:5000/x:pull",               "repository:host:5000/x:pull repository:a/b:pull" },
                { "repository(plugin):x:pull",                 "repository(plugin):x:pull repository:a/b:pull" },
                { " repository:x:pull  repository:a/b:pull ",  "repository:x:pull repository:a/b:pull" },
                { "aws",                                       "aws repository:a/b:pull" },
                { "repository:a/b:pull,push",                  "repository:a/b:pull" },
                { "repository:a/b:push",                       "repository:a/b:pull" },
                { "repository:a/b:*",                          "repository:a/b:pull" },
                { "repository:a/b:delete",                     "repository:a/b:pull" },
                { "registry:catalog:*",                        "repository:a/b:pull" },
                { "registry::pull",                            "repository:a/b:pull" },
                { "repository::pull",                          "repository:a/b:pull" },
                { "repository:pull",                           "repository:a/b:pull" },
                { "repositoryx:a:pull",                        "repository:a/b:pull" },
                { "push",                                      "repository:a/b:pull" },
                { "*",                                         "repository:a/b:pull" },
                { "repository:\x01:pull",                      "repository:a/b:pull" },
                { "repository:1:pull repository:2:pull repository:3:pull repository:4:pull repository:5:pull",
                        "repository:1:pull repository:2:pull repository:3:pull repository:4:pull repository:a/b:pull" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *scopes = scopes_format("a/b", rows[i].challenge);
                assert_string_equal(scopes, rows[i].scopes);
        }
}

static void test_authorities(void **state)
{
        (void)state;
        static const struct { const char *url, *host; unsigned port; bool is_tls; } rows[] = {
                { "https://a.example", "a.example", 443, true },
                { "HTTPS://A.Example:5000/x?y", "a.example", 5000, true },
                { "http://127.0.0.1:80/", "127.0.0.1", 80, false },
                { "http://[::1]:5000/token", "[::1]", 5000, false },
                { "https://a?b", "a", 443, true },
                { "https://", NULL, 0, false }, { "https:///x", NULL, 0, false }, { "https://:443/", NULL, 0, false }, { "https://a:0", NULL, 0, false }, { "https://a:65536",
                        NULL, 0, false },
                { "https://a:", NULL, 0, false }, { "https://a:x", NULL, 0, false }, { "https://a:123456", NULL, 0, false }, { "https://u@a", NULL, 0, false }, { "https://a#b",
                        NULL, 0, false },
                { "https://a\\b", NULL, 0, false }, { "https://a b", NULL, 0, false }, { "https://a\tb", NULL, 0, false }, { "https://\xc3\xa9", NULL, 0, false },
                        { "https://[::1", NULL, 0, false },
                { "https://[]", NULL, 0, false }, { "https://[::1]x", NULL, 0, false }, { "https://[fe80::1%25eth0]/", NULL, 0, false }, { "ftp://a", NULL, 0, false }, { "//a",
                        NULL, 0, false },
                { "a", NULL, 0, false }, { "", NULL, 0, false }, { "https:/a", NULL, 0, false }, { " https://a", NULL, 0, false }, { "https://a%2eb", NULL, 0, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(authority_fini) struct authority authority = { 0 };
                print_message("%s\n", rows[i].url);
                assert_int_equal(authority_parse(rows[i].url, &authority), rows[i].host != NULL);
                if (rows[i].host) {
                        assert_string_equal(authority.host, rows[i].host);
                        assert_int_equal(authority.port, rows[i].port);
                        assert_int_equal(authority.is_tls, rows[i].is_tls);
                }
        }
}

static void test_quotes(void **state)
{
        (void)state;
        static const struct { const char *body, *quote; } rows[] = {
                { "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no\",\"detail\":{}}]}", "DENIED: no" },
                { "{\"errors\":[{\"code\":\"A\"},{\"code\":\"B\"}]}", "A" },
                { "{\"errors\":[{\"message\":\"no\"}]}",              "no" },
                { "{\"code\":\"UNAUTHORIZED\",\"message\":\"x\"}",    "UNAUTHORIZED: x" },
                { "{\"details\":\"x\"}",                              "x" },
                { "{\"error\":\"invalid_grant\",\"error_description\":\"x\"}", "invalid_grant: x" },
                { "{\"errors\":[]}",                                  "" },
                { "{\"errors\":[7]}",                                 "" },
                { "{}",                                               "" },
                { "",                                                 "" },
                { "<html>",                                           "" },
                { "  \n<!DOCTYPE html>",                              "" },
                { "{\"broken",                                        "" },
                { "404 page not found\n",                             "404 page not found" },
                { "a\x1b[31mb\xff",                                   "a\\x1b[31mb\\xff" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char quote[512];
                print_message("%s\n", rows[i].body);
                answer_quote(rows[i].body, strlen(rows[i].body), quote, sizeof quote);
                assert_string_equal(quote, rows[i].quote);
        }

        char body[4096], quote[512];
        memset(body, 'x', sizeof body);
        answer_quote(body, sizeof body, quote, sizeof quote);
        assert_true(strlen(quote) < sizeof quote && strlen(quote) >= 300);
}

static void test_descriptions(void **state)
{
        (void)state;
        struct secret *secret = secret_new("s", 1);
        const struct { struct login login; const char *text; bool has_basic, has_refresh; } rows[] = {
                { { 0 }, "anonymous", false, false },
                { { .username = (char[]){ "alice" }, .password = secret }, "user 'alice'", true, false },
                { { .username = (char[]){ "al\nice" }, .password = secret }, "user 'al\\x0aice'", true, false },
                { { .username = (char[]){ "alice" } }, "user 'alice'", false, false },
                { { .username = (char[]){ "" }, .password = secret }, "a login without user name", false, false },
                { { .identity_token = secret }, "an identity token", false, true },
                { { .username = (char[]){ "alice" }, .identity_token = secret }, "user 'alice'", false, true },
                { { .username = (char[]){ "<token>" }, .password = secret }, "an identity token", false, true },
                { { .registry_token = secret }, "a registry token", false, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char text[128];
                assert_string_equal(login_describe(&rows[i].login, text, sizeof text), rows[i].text);
                assert_int_equal(login_has_basic(&rows[i].login), rows[i].has_basic);
                assert_int_equal(login_get_refresh_token(&rows[i].login) != NULL, rows[i].has_refresh);
        }
        assert_null(login_get_refresh_token(NULL));
        assert_false(login_has_basic(NULL));
        secret_free(&secret);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_answers), cmocka_unit_test(test_scopes), cmocka_unit_test(test_authorities), cmocka_unit_test(test_quotes),
                        cmocka_unit_test(test_descriptions),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
