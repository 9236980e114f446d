/* Decoding of requests: every rule of contract section 1 that needs no network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/module/want.h"

#define SHA_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* request → name in the catalog, effective policy (A = Always, I = IfNotPresent) */
static const struct { const char *json, *name; char policy; } good[] = {
        { "{\"url\":\"oci://r.example/team/x:v1\"}",                                             "oci://r.example/team/x:v1",                      'I' },
        { "{\"url\":\"OCI://r.example/team/x:v1\"}",                                             "oci://r.example/team/x:v1",                      'I' },
        { "{\"url\":\"localhost:5000/a/b:1\"}",                                                  "oci://localhost:5000/a/b:1",                     'I' },
        { "{\"url\":\"r.example/team/x\"}",                                                      "oci://r.example/team/x:latest",                  'A' },
        { "{\"url\":\"r.example/team/x:latest\"}",                                               "oci://r.example/team/x:latest",                  'A' },
        { "{\"url\":\"r.example/team/x:latest\",\"imagePullPolicy\":\"UNSPECIFIED_POLICY\"}",    "oci://r.example/team/x:latest",                  'A' },
        { "{\"url\":\"r.example/team/x:latest\",\"imagePullPolicy\":\"IfNotPresent\"}",          "oci://r.example/team/x:latest",                  'I' },
        { "{\"url\":\"r.example/team/x:v1\",\"imagePullPolicy\":\"Always\"}",                    "oci://r.example/team/x:v1",                      'A' },
        { "{\"url\":\"r.example/team/x:latest\",\"sha256\":\"" SHA_A "\"}",                      "oci://r.example/team/x:latest",                  'I' },
        { "{\"url\":\"r.example/team/x:v1\",\"sha256\":\"\",\"imagePullPolicy\":\"Always\"}",    "oci://r.example/team/x:v1",                      'A' },
        { "{\"url\":\"r.example/team/x:v1@sha256:" SHA_A "\",\"imagePullPolicy\":\"Always\"}",   "oci://r.example/team/x@sha256:" SHA_A,           'I' },
        { "{\"url\":\"r.example/team/x@sha256:" SHA_A "\",\"sha256\":\"" SHA_A "\"}",            "oci://r.example/team/x@sha256:" SHA_A,           'I' },
        { "{\"url\":\"HTTPS://R.example:443/X.wasm\"}",                                          "https://r.example/X.wasm",                       'I' },
        { "{\"url\":\"https://%52.example:0443/%78.wasm\"}",                                      "https://r.example/%78.wasm",                     'I' },
        { "{\"url\":\"http://r.example.:08080/x.wasm\"}",                                        "http://r.example:8080/x.wasm",                   'I' },
        { "{\"url\":\"http://2130706433:80/x.wasm\"}",                                           "http://127.0.0.1/x.wasm",                        'I' },
        { "{\"url\":\"http://r.example:8080/x.wasm\",\"imagePullPolicy\":\"Always\"}",           "http://r.example:8080/x.wasm",                   'A' },
        { "{\"url\":\"file:///srv/x.wasm\",\"imagePullPolicy\":\"Always\"}",                     "file:///srv/x.wasm",                             'I' },
        { "{\"url\":\"file:///srv/a%20b.wasm\"}",                                                "file:///srv/a b.wasm",                           'I' },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"a.b-c\",\"namespace\":\"team-a\",\"timeout\":\"5s\",\"resource\":{\"name\":\"p\",\"version\":\"7\"}}", "oci://r.example/x:v1", 'I' },
        { "{\"url\":\"r.example/x:v1\",\"verificationKey\":\"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM\\n5/KAQN0/KjHcorm/J5yctVd7iEcnessRQjU917hmKO6JWVGHpDguIyakZA==\\n-----END PUBLIC KEY-----\\n\"}",
          "oci://r.example/x:v1", 'I' },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"\",\"verificationKey\":\"\",\"sha256\":null}",   "oci://r.example/x:v1",              'I' },
};

static const struct { const char *json; enum error_code code; const char *says; } bad[] = {
        { "[]",                                                                                  ERROR_BAD_REQUEST, "object" },
        { "{}",                                                                                  ERROR_BAD_REQUEST, "url" },
        { "{\"url\":7}",                                                                         ERROR_BAD_REQUEST, "url" },
        { "{\"url\":\"\"}",                                                                      ERROR_BAD_URL, "empty" },
        { "{\"url\":\"r.example/x:v1\",\"Sha256\":\"\"}",                                        ERROR_BAD_REQUEST, "Sha256" },
        { "{\"url\":\"ftp://r.example/x\"}",                                                     ERROR_BAD_URL, "ftp" },
        { "{\"url\":\"r.example/Team/x:v1\"}",                                                   ERROR_BAD_URL, "" },
        { "{\"url\":\"oci://r.example/x:v1/\"}",                                                 ERROR_BAD_URL, "" },
        { "{\"url\":\"oci://user:pw@r.example/x:v1\"}",                                          ERROR_BAD_URL, "" },
        { "{\"url\":\"oci://r.example/x:v1?y\"}",                                                ERROR_BAD_URL, "" },
        { "{\"url\":\"r.example/x :v1\"}",                                                       ERROR_BAD_URL, "blank" },
        { "{\"url\":\"https://r\xc3\xa9.example/x\"}",                                           ERROR_BAD_URL, "xn--" },
        { "{\"url\":\"https://u@r.example/x\"}",                                                 ERROR_BAD_URL, "" },
        { "{\"url\":\"https://r.example/x?y=1\"}",                                               ERROR_BAD_URL, "" },
        { "{\"url\":\"https://r.example/x#y\"}",                                                 ERROR_BAD_URL, "" },
        { "{\"url\":\"file://srv/x.wasm\"}",                                                     ERROR_BAD_URL, "absolute" },
        { "{\"url\":\"file:///srv/\"}",                                                          ERROR_BAD_URL, "folder" },
        { "{\"url\":\"file:///srv/../x.wasm\"}",                                                 ERROR_BAD_URL, ".." },
        { "{\"url\":\"file:///srv/%2e%2e/x.wasm\"}",                                             ERROR_BAD_URL, ".." },
        { "{\"url\":\"file:///srv/%00.wasm\"}",                                                  ERROR_BAD_URL, "hex" },
        { "{\"url\":\"r.example/x:v1\",\"sha256\":\"AAAA\"}",                                    ERROR_BAD_REQUEST, "sha256" },
        { "{\"url\":\"r.example/x@sha256:" SHA_A "\",\"sha256\":\"" SHA_B "\"}",                 ERROR_CHECKSUM_MISMATCH, "agree" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullPolicy\":\"always\"}",                         ERROR_BAD_REQUEST, "imagePullPolicy" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"ns/name\"}",                        ERROR_BAD_REQUEST, "imagePullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"kubernetes://x\"}",                 ERROR_BAD_REQUEST, "imagePullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"-x\"}",                             ERROR_BAD_REQUEST, "imagePullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"a..b\"}",                           ERROR_BAD_REQUEST, "imagePullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"..\"}",                             ERROR_BAD_REQUEST, "imagePullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"namespace\":\"Team\"}",                                 ERROR_BAD_REQUEST, "namespace" },
        { "{\"url\":\"r.example/x:v1\",\"namespace\":\"a.b\"}",                                  ERROR_BAD_REQUEST, "namespace" },
        { "{\"url\":\"r.example/x:v1\",\"namespace\":\"\"}",                                     ERROR_BAD_REQUEST, "namespace" },
        { "{\"url\":\"r.example/x:v1\",\"resource\":{\"name\":\"x\"}}",                          ERROR_BAD_REQUEST, "resource" },
        { "{\"url\":\"r.example/x:v1\",\"resource\":{\"name\":\"x\",\"version\":\"1\",\"uid\":\"\"}}",   ERROR_BAD_REQUEST, "resource" },
        { "{\"url\":\"r.example/x:v1\",\"timeout\":\"0s\"}",                                     ERROR_BAD_REQUEST, "timeout" },
        { "{\"url\":\"r.example/x:v1\",\"timeout\":\"soon\"}",                                   ERROR_BAD_REQUEST, "timeout" },
        { "{\"url\":\"r.example/x:v1\",\"timeout\":\"2h\"}",                                     ERROR_BAD_REQUEST, "timeout" },
        { "{\"url\":\"r.example/x:v1\",\"pullSecret\":\"{}\"}",                                  ERROR_BAD_REQUEST, "pullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"pullSecret\":{\"auths\":{}},\"imagePullSecret\":\"a\"}",        ERROR_BAD_REQUEST, "pullSecret" },
        { "{\"url\":\"r.example/x:v1\",\"verificationKey\":\"key\"}",                            ERROR_BAD_KEY, "PEM" },
        { "{\"url\":\"r.example/x:v1\",\"verificationKey\":\"-----BEGIN PRIVATE KEY-----\\nMFkw\\n-----END PRIVATE KEY-----\"}", ERROR_BAD_KEY, "PEM" },
};

static bool decode(const char *json, struct module_want **ret_want, struct error *err)
{
        struct value *value = NULL;
        assert_true(json_parse(json, strlen(json), ERROR_BAD_REQUEST, &value, err));
        bool done = module_want_decode(value, ret_want, err);
        value_free(&value);
        return done;
}

static void test_good(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(good); i++) {
                struct module_want *want = NULL;
                struct error err = { 0 };
                if (!decode(good[i].json, &want, &err))
                        fail_msg("%s: %s", good[i].json, err.text);
                assert_string_equal(want->name, good[i].name);
                assert_int_equal(want->policy, good[i].policy == 'A' ? MODULE_POLICY_ALWAYS : MODULE_POLICY_IF_NOT_PRESENT);
                assert_false(module_want_has_secret(want));
                module_want_unref(&want);
        }
}

static void test_bad(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
                struct module_want *want = NULL;
                struct error err = { 0 };
                print_message("%s\n", bad[i].json);
                assert_false(decode(bad[i].json, &want, &err));
                assert_null(want);
                assert_string_equal(error_get_row(err.code)->name, error_get_row(bad[i].code)->name);
                assert_non_null(strstr(err.text, bad[i].says));
        }
}

static void test_inline_secret(void **state)
{
        (void)state;
        struct module_want *want = NULL;
        struct error err = { 0 };
        assert_true(decode("{\"url\":\"r.example/x:v1\",\"pullSecret\":{\"auths\":{\"r.example\":{\"username\":\"u\",\"password\":\"p-not-to-be-seen\"}}}}", &want, &err));
        assert_true(module_want_has_secret(want));
        struct module_want *again = module_want_ref(want);
        module_want_unref(&want);
        assert_int_equal(again->timeout_ms, WANT_TIMEOUT_MS);
        module_want_unref(&again);
        assert_false(decode("{\"url\":\"r.example/x:v1\",\"pullSecret\":{\"auths\":7}}", &want, &err));
        assert_non_null(strstr(err.text, "pullSecret"));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_inline_secret) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
