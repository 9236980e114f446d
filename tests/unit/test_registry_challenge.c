#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/registry.h>

/* The challenges as "scheme|realm|service|scope|error", '-' for what is absent, joined by ';'. */
static const struct { const char *header, *expected; } rows[] = {
        { "Bearer realm=\"https://auth.example/token\",service=\"registry.example\",scope=\"repository:a/b:pull\"",
                "Bearer|https://auth.example/token|registry.example|repository:a/b:pull|-" },
        { "bearer REALM=\"https://a/t\", Service=\"s\"",                   "bearer|https://a/t|s|-|-" },
        { "Basic realm=\"Registry Realm\"",                                "Basic|Registry Realm|-|-|-" },
        { "Basic",                                                         "Basic|-|-|-|-" },
        { "Basic realm=token",                                             "Basic|token|-|-|-" },
        { "Basic realm = \"x\" , charset = UTF-8",                         "Basic|x|-|-|-" },
        { "Basic realm=\"\"",                                              "Basic||-|-|-" },
        { "Basic realm=\"he\\\"\\l\\lo\"",                                 "Basic|he\"llo|-|-|-" },
        { "Bearer realm=\"https://a/t\",error=\"invalid_token\"",          "Bearer|https://a/t|-|-|invalid_token" },
        { "Bearer realm=\"https://a/t\",scope=\"repository:a:pull repository:b:pull\"", "Bearer|https://a/t|-|repository:a:pull repository:b:pull|-" },
        { "Bearer realm=\"https://a/t\",scope=\"repository:a:pull,push\",service=\"s\"", "Bearer|https://a/t|s|repository:a:pull,push|-" },
        /* olareg, zot (measured) */
        { "Bearer realm=\"http://127.0.0.1:5000/token\",service=\"127.0.0.1:5000\",scope=\"registry::pull\",error=\"unauthorized\"",
                "Bearer|http://127.0.0.1:5000/token|127.0.0.1:5000|registry::pull|unauthorized" },
        { "Bearer realm=\"http://127.0.0.1:5001/auth\",service=\"zot\",scope=\"\"", "Bearer|http://127.0.0.1:5001/auth|zot||-" },
        /* several in one header */
        { "Basic realm=\"x\", Bearer realm=\"https://a/t\",service=\"s\"", "Basic|x|-|-|-;Bearer|https://a/t|s|-|-" },
        { "Negotiate, Basic realm=\"x\"",                                  "Negotiate|-|-|-|-;Basic|x|-|-|-" },
        { "Negotiate YIIabc/+==, Basic realm=\"x\"",                       "Negotiate|-|-|-|-;Basic|x|-|-|-" },
        { ",, Basic realm=\"x\",,service=\"s\", ,",                        "Basic|x|s|-|-" },
        { "Digest realm=\"d\", nonce=\"n\", Bearer realm=\"https://a/t\"", "Digest|d|-|-|-;Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\", Bearer realm=\"https://b/t\"",    "Bearer|https://a/t|-|-|-;Bearer|https://b/t|-|-|-" },
        /* malformed tails keep what was read */
        { "Bearer realm=\"https://a/t\",service=\"s",                      "Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\",service=",                         "Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\" service=\"s\"",                    "Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\",service=\"s\\",                    "Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\",@@@",                              "Bearer|https://a/t|-|-|-" },
        { "Bearer realm=\"https://a/t\",service=\"s\"x,scope=\"q\"",       "Bearer|https://a/t|s|-|-" },
        { "Bearer realm=\"https://a/t",                                    "Bearer|-|-|-|-" },
        { "Bearer realm=https://a/t,service=s",                            "Bearer|-|-|-|-" },
        /* doubled parameters: that challenge is refused, others stay */
        { "Bearer realm=\"https://a/t\",realm=\"https://b/t\"",            "" },
        { "Bearer realm=\"https://a/t\",REALM=\"https://a/t\"",            "" },
        { "Bearer realm=\"https://a/t\",scope=\"a\",scope=\"b\"",          "" },
        { "Bearer realm=\"https://a/t\",service=\"a\",Service=\"a\"",      "" },
        { "Bearer realm=\"https://a/t\",realm=\"x\", Basic realm=\"y\"",   "Basic|y|-|-|-" },
        { "Bearer realm=\"https://a/t\",error=\"a\",error=\"b\"",          "Bearer|https://a/t|-|-|a" },
        /* nothing to read */
        { "",                                                              "" },
        { " , ,",                                                          "" },
        { "realm=\"x\"",                                                   "" },
        { "\"Bearer\" realm=x",                                            "" },
        { "Bearer/1 realm=x",                                              "" },
        { "A, B, C, D, E, F, G, H, I, J",                                  "A|-|-|-|-;B|-|-|-|-;C|-|-|-|-;D|-|-|-|-;E|-|-|-|-;F|-|-|-|-;G|-|-|-|-;H|-|-|-|-" },
};

static void put(char *text, const char *part, const char *end)
{
        strcat(text, part ? part : "-");
        strcat(text, end);
}

static void test_rows(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct challenge challenges[8];
                char text[1024] = "";
                size_t count = challenge_parse(rows[i].header, challenges);

                print_message("%s\n", rows[i].header);
                for (size_t k = 0; k < count; k++) {
                        put(text, k > 0 ? ";" : "", "");
                        put(text, challenges[k].scheme, "|");
                        put(text, challenges[k].realm, "|");
                        put(text, challenges[k].service, "|");
                        put(text, challenges[k].scope, "|");
                        put(text, challenges[k].error, "");
                        challenge_fini(&challenges[k]);
                        assert_null(challenges[k].scheme);
                }
                assert_string_equal(text, rows[i].expected);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
