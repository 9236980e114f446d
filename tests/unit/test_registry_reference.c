#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/registry.h>

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEX128 HEX64 HEX64
#define D256 "sha256:" HEX64

/* text → host, path, tag; `digest` as it must come out. */
static const struct { const char *text, *host, *path, *tag, *digest; bool implied; } good[] = {
        { "alpine",                               "docker.io", "library/alpine", "latest", NULL, true },
        { "alpine:3",                             "docker.io", "library/alpine", "3", NULL, false },
        { "alpine:latest",                        "docker.io", "library/alpine", "latest", NULL, false },
        { "library/alpine",                       "docker.io", "library/alpine", "latest", NULL, true },
        { "team/authz:v1",                        "docker.io", "team/authz", "v1", NULL, false },
        { "docker.io/alpine",                     "docker.io", "library/alpine", "latest", NULL, true },
        { "docker.io/team/a",                     "docker.io", "team/a", "latest", NULL, true },
        { "index.docker.io/alpine:1",             "docker.io", "library/alpine", "1", NULL, false },
        { "index.docker.io/team/a:1",             "docker.io", "team/a", "1", NULL, false },
        { "registry-1.docker.io/alpine:1",        "registry-1.docker.io", "alpine", "1", NULL, false },
        { "docker.io",                            "docker.io", "library/docker.io", "latest", NULL, true },
        { "localhost",                            "docker.io", "library/localhost", "latest", NULL, true },
        { "localhost:5000",                       "docker.io", "library/localhost", "5000", NULL, false },
        { "localhost/a",                          "localhost", "a", "latest", NULL, true },
        { "localhost:5000/a/b:1",                 "localhost:5000", "a/b", "1", NULL, false },
        { "localhosts/a",                         "docker.io", "localhosts/a", "latest", NULL, true },
        { "registry.example/team/authz:v1",       "registry.example", "team/authz", "v1", NULL, false },
        { "registry.example:5000/a",              "registry.example:5000", "a", "latest", NULL, true },
        { "registry.example:1/a",                 "registry.example:1", "a", "latest", NULL, true },
        { "registry.example:65535/a",             "registry.example:65535", "a", "latest", NULL, true },
        { "127.0.0.1:5000/a:b",                   "127.0.0.1:5000", "a", "b", NULL, false },
        { "[::1]/a",                              "[::1]", "a", "latest", NULL, true },
        { "[::1]:5000/a/b:1",                     "[::1]:5000", "a/b", "1", NULL, false },
        { "[2001:DB8::1]:443/a",                  "[2001:DB8::1]:443", "a", "latest", NULL, true },
        { "[fd00:1:2::3]/a@" D256,                "[fd00:1:2::3]", "a", NULL, D256, false },
        { "UPPER/lower",                          "UPPER", "lower", "latest", NULL, true },
        { "Registry.Example/a",                   "Registry.Example", "a", "latest", NULL, true },
        { "xn--n3h.com/a:x",                      "xn--n3h.com", "a", "x", NULL, false },
        { "a-b.c-d.example/a",                    "a-b.c-d.example", "a", "latest", NULL, true },
        { "a@" D256,                              "docker.io", "library/a", NULL, D256, false },
        { "r.io/a:v1@" D256,                      "r.io", "a", "v1", D256, false },
        { "r.io/a@sha512:" HEX128,                "r.io", "a", NULL, "sha512:" HEX128, false },
        { "r.io/a_b/c__d/e-f/g---h/i.j/0",        "r.io", "a_b/c__d/e-f/g---h/i.j/0", "latest", NULL, true },
        { "r.io/a:_.-x",                          "r.io", "a", "_.-x", NULL, false },
        { "r.io/a:UPPER_Tag.1",                   "r.io", "a", "UPPER_Tag.1", NULL, false },
        { "r.io/" HEX64,                          "r.io", HEX64, "latest", NULL, true },
        { HEX64 ":x",                             "docker.io", "library/" HEX64, "x", NULL, false },
        { HEX64 "0",                              "docker.io", "library/" HEX64 "0", "latest", NULL, true },
};

static const struct { const char *text, *why; } bad[] = {
        { "",                                     "is empty" },
        { ":tag",                                 "no repository path" },
        { "/a",                                   "is no repository path" },
        { "a:",                                   "the tag after ':' is empty" },
        { "r.io/a:",                              "the tag after ':' is empty" },
        { "r.io/",                                "no repository path" },
        { "r.io/a/",                              "ends with '/'" },
        { "r.io/a/:x",                            "ends with '/'" },
        { "a/",                                   "ends with '/'" },
        { "r.io//a",                              "is no repository path" },
        { "r.io/a//b",                            "is no repository path" },
        { "r.io/a..b",                            "is no repository path" },
        { "r.io/a___b",                           "is no repository path" },
        { "r.io/a._b",                            "is no repository path" },
        { "r.io/a-",                              "is no repository path" },
        { "r.io/-a",                              "is no repository path" },
        { "r.io/_a",                              "is no repository path" },
        { "r.io/.a",                              "is no repository path" },
        { "r.io/a/../b",                          "is no repository path" },
        { "r.io/a%2fb",                           "is no repository path" },
        { "r.io/\xc3\xa9",                        "is no repository path" },
        { "r.io/a\\b",                            "is no repository path" },
        { "aa/asdf$$^/aa",                        "is no repository path" },
        { "r.io/Team/a",                          "has upper-case letters" },
        { "r.io/team/A:x",                        "has upper-case letters" },
        { "Alpine",                               "has upper-case letters" },
        { "Alpine:1",                             "has upper-case letters" },
        { "team/Alpine",                          "has upper-case letters" },
        { "r.io/A..b",                            "is no repository path" },
        { "r.io/a:b:c",                           "is no tag" },
        { "r.io/a:.b",                            "is no tag" },
        { "r.io/a:-b",                            "is no tag" },
        { "r.io/a:b/c",                           "is no tag" },
        { "r.io/a:b+c",                           "is no tag" },
        { "r.io/a:\x01",                          "\\x01" },
        { "r.io/a\n",                             "blanks" },
        { "r.io/a ",                              "blanks" },
        { " r.io/a",                              "blanks" },
        { "r.io/a:x\n",                           "blanks" },
        { "r.io/a@" D256 "\n",                    "blanks" },
        { "r.io/a?x=y",                           "query" },
        { "r.io/a#x",                             "fragment" },
        { "oci://r.io/a",                         "scheme" },
        { "ftp://r.io/a",                         "scheme" },
        { "user:hunter2@r.io/a",                  "userinfo" },
        { "user@r.io/a:x",                        "userinfo" },
        { "r.io:/a",                              "not between 1 and 65535" },
        { "r.io:0/a",                             "not between 1 and 65535" },
        { "r.io:65536/a",                         "not between 1 and 65535" },
        { "r.io:750050/a",                        "not between 1 and 65535" },
        { "r.io:18446744073709551617/a",          "not between 1 and 65535" },
        { "r.io:5000x/a",                         "is no number" },
        { "r.io:-1/a",                            "is no number" },
        { "r.io:1:2/a",                           "is no number" },
        { ":5000/a",                              "is no host name" },
        { "r_x.io/a",                             "is no host name" },
        { "-r.io/a",                              "is no host name" },
        { "r-.io/a",                              "is no host name" },
        { "r..io/a",                              "is no host name" },
        { "r.io./a",                              "is no host name" },
        { ".r.io/a",                              "is no host name" },
        { "../a",                                 "is no host name" },
        { "::1/a",                                "is no host name" },
        { "[::1/a",                               "is not closed" },
        { "[]:5000/a",                            "is no IPv6 address" },
        { "[fd00123123123]/a",                    "is no IPv6 address" },
        { "[1:2:3:4:5:6:7:8:9]/a",                "is no IPv6 address" },
        { "[::ffff:127.0.0.1]/a",                 "is no IPv6 address" },
        { "[fe80::1%25eth0]/a",                   "is no IPv6 address" },
        { "[::g]/a",                              "is no IPv6 address" },
        { "[::1]5000/a",                          "only a port" },
        { "[::1]:/a",                             "not between 1 and 65535" },
        { "[::1]:65536/a",                        "not between 1 and 65535" },
        { "[::1]:x/a",                            "is no number" },
        { "r.io/a@",                              "reference: " },
        { "r.io/a:@" D256,                        "the tag after ':' is empty" },
        { "r.io/@" D256,                          "no repository path" },
        { "@" D256,                               "no repository path" },
        { "r.io/a@sha256:0123",                   "reference: " },
        { "r.io/a@sha256:" HEX64 "0",             "reference: " },
        { "r.io/a@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef", "reference: " },
        { "r.io/a@sha384:" HEX64 "0123456789abcdef0123456789abcdef", "reference: " },
        { "r.io/a@blake3:" HEX64,                 "reference: " },
        { "r.io/a@md5:0123456789abcdef0123456789abcdef", "reference: " },
        { "r.io/a@SHA256:" HEX64,                 "reference: " },
        { "r.io/a@" HEX64,                        "reference: " },
        { "r.io/a@" D256 "@" D256,                "reference: " },
        { "r.io/a@" D256 ":v1",                   "reference: " },
        { HEX64,                                  "64 hexadecimal digits" },
};

static void test_good(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(good); i++) {
                CLEANUP(reference_fini) struct reference reference = { 0 };
                struct error err = { 0 };
                char digest[DIGEST_TEXT_BYTES] = "";

                print_message("%s\n", good[i].text);
                assert_true(reference_parse(good[i].text, &reference, &err));
                assert_string_equal(reference.host, good[i].host);
                assert_string_equal(reference.path, good[i].path);
                assert_true(string_equal(reference.tag, good[i].tag));
                assert_int_equal(reference.is_tag_implied, good[i].implied);
                assert_int_equal(digest_is_set(&reference.digest), good[i].digest != NULL);
                if (good[i].digest) {
                        digest_format(&reference.digest, digest);
                        assert_string_equal(digest, good[i].digest);
                }

                /* What is formatted means the same when read again. */
                CLEANUP(cleanup_free) char *text = reference_format(&reference);
                CLEANUP(cleanup_free) char *expected = string_format("%s/%s%s%s%s%s", good[i].host, good[i].path, good[i].tag ? ":" : "", good[i].tag ? good[i].tag : "",
                                                                     good[i].digest ? "@" : "", good[i].digest ? good[i].digest : "");
                assert_string_equal(text, expected);
                CLEANUP(reference_fini) struct reference again = { 0 };
                assert_true(reference_parse(text, &again, &err));
                assert_string_equal(again.host, reference.host);
                assert_string_equal(again.path, reference.path);
        }
}

static void test_bad(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
                struct reference reference = { 0 };
                struct error err = { 0 };

                print_message("%s\n", bad[i].text);
                assert_false(reference_parse(bad[i].text, &reference, &err));
                assert_int_equal(err.code, ERROR_BAD_URL);
                if (!strstr(err.text, bad[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, bad[i].why);
                assert_null(reference.host);
                assert_null(strstr(err.text, "hunter2"));
        }
}

static void test_limits(void **state)
{
        (void)state;
        static const struct { const char *prefix; char fill; size_t count; bool good; const char *why; } rows[] = {
                { "r.io/", 'a', 255, true, NULL },
                { "r.io/", 'a', 256, false, "256 characters" },
                { "", 'a', 247, true, NULL },                /* with library/ it is 255 */
                { "", 'a', 248, false, "256 characters" },
                { "r.io/a:", 't', 128, true, NULL },
                { "r.io/a:", 't', 129, false, "129 characters" },
                { "r.io/", 'a', 4092, false, "4097 characters" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(reference_fini) struct reference reference = { 0 };
                struct error err = { 0 };
                char text[5000];
                size_t used = strlen(rows[i].prefix);

                memcpy(text, rows[i].prefix, used);
                memset(text + used, rows[i].fill, rows[i].count);
                text[used + rows[i].count] = '\0';
                assert_int_equal(reference_parse(text, &reference, &err), rows[i].good);
                if (!rows[i].good)
                        assert_non_null(strstr(err.text, rows[i].why));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_bad), cmocka_unit_test(test_limits) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
