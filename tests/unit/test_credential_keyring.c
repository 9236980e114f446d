#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/credential.h>

/* Tables of kubelet's keyring (pkg/credentialprovider keyring_test.go), in own words, and what the rules imply beyond them. */
static const struct { const char *key, *host, *path; bool fits; } rows[] = {
        /* globs in host labels */
        { "*.kubernetes.io",             "prefix.kubernetes.io",      "x",          true },
        { "prefix.*.io",                 "prefix.kubernetes.io",      "x",          true },
        { "prefix.kubernetes.*",         "prefix.kubernetes.io",      "x",          true },
        { "*-good.kubernetes.io",        "prefix-good.kubernetes.io", "x",          true },
        { "*.kubernetes.io",             "kubernetes.io",             "x",          false },
        { "r.example.com",               "r.example",                 "x",          false },      /* as many labels on both sides */
        { "r.example",                   "r.example.com",             "x",          false },
        { "r.example.*",                 "r.example",                 "x",          false },
        { "*.*.kubernetes.io",           "prefix.kubernetes.io",      "x",          false },
        { "*.*.kubernetes.io",           "a.prefix.kubernetes.io",    "x",          true },
        { "*.kubernetes.io",             "a.b.kubernetes.io",         "x",          false },
        { "*kubernetes.io",              "a.kubernetes.io",           "x",          false },
        { "*",                           "localhost",                 "x",          true },
        { "*",                           "a.b",                       "x",          false },
        { "*.*.*.*",                     "10.0.0.1",                  "x",          true },
        { "kube.*.io",                   "kubernetes.io",             "x",          false },
        { "*.io",                        "kubernetes.com",            "x",          false },
        { "registr?.io",                 "registry.io",               "x",          true },
        { "registr?.io",                 "registr.io",                "x",          false },
        { "r[a-f]gistry.io",             "registry.io",               "x",          true },
        { "r[^a-f]gistry.io",            "registry.io",               "x",          false },
        { "r[!a-f]gistry.io",            "registry.io",               "x",          true },      /* '!' is a member, not a negation */
        { "r[!x]gistry.io",              "registry.io",               "x",          false },
        { "r[e.io",                      "re.io",                     "x",          false },
        { "r[].io",                      "r].io",                     "x",          false },
        { "r[-a].io",                    "r-.io",                     "x",          false },      /* broken, as in Go */
        { "r[-a].io",                    "ra.io",                     "x",          false },
        { "r[a-].io",                    "ra.io",                     "x",          false },
        { "r[a-].io",                    "r-.io",                     "x",          false },
        { "r[a",                         "ra",                        "x",          false },
        { "r[^",                         "ra",                        "x",          false },
        { "r[\\",                        "ra",                        "x",          false },
        { "r[\\]]",                      "r]",                        "x",          true },
        { "r\\",                         "r\\",                       "x",          false },
        { "r[a-c]",                      "rd",                        "x",          false },
        { "r\\*.io",                     "r*.io",                     "x",          true },
        { "r\\*.io",                     "rx.io",                     "x",          false },
        { "a*b*c.io",                    "a-b-b-c.io",                "x",          true },
        { "a*b*c.io",                    "a-b-b-d.io",                "x",          false },
        /* paths are string prefixes, without globs */
        { "*.kubernetes.io/blah",        "prefix.kubernetes.io",      "blah",       true },
        { "prefix.*.io/foo",             "prefix.kubernetes.io",      "foo/bar",    true },
        { "*.kubernetes.io/blah",        "prefix.kubernetes.io",      "bar",        false },
        { "r.example/pong",                "r.example",                "pongz",      true },
        { "r.example/pong/",               "r.example",                "pong",       false },
        { "r.example/pong/",               "r.example",                "pong/x",     true },
        { "r.example/*",                   "r.example",                "x",          false },
        { "r.example/",                    "r.example",                "x",          true },
        { "r.example/A",                   "r.example",                "a",          false },
        { "r.example/a%2Fb",               "r.example",                "a/b",        true },
        { "r.example/a%zz",                "r.example",                "a%zz",       false },
        { "r.example/a%2",                 "r.example",                "a%2",        false },
        { "r.example/a%2x",                "r.example",                "a%2x",       false },
        { "r.example/a%00b",               "r.example",                "a",          false },
        { "r.example/a\x7f",               "r.example",                "a\x7f",      false },
        { "r.example/a\x1f",               "r.example",                "a\x1f",      false },
        { "r.example/a?b=c#d",             "r.example",                "a",          true },
        /* ports are compared as texts */
        { "*.kubernetes.io:1111/blah",   "prefix.kubernetes.io:1111", "blah",       true },
        { "prefix.*.io:1111/foo",        "prefix.kubernetes.io:1111", "foo/bar",    true },
        { "*.kubernetes.io:8080",        "prefix.kubernetes.io",      "x",          false },
        { "*.kubernetes.io",             "prefix.kubernetes.io:8080", "x",          false },
        { "*.kubernetes.io:1111",        "prefix.kubernetes.io:2222", "x",          false },
        { "*.kubernetes.io:*",           "prefix.kubernetes.io:8080", "x",          false },
        { "registry.io:443",             "registry.io",               "x",          false },
        { "https://registry.io",         "registry.io:443",           "x",          false },
        { "registry.io:",                "registry.io",               "x",          true },
        { "localhost:5000",              "localhost:5000",            "x",          true },
        { "[::1]:5000",                  "[::1]:5000",                "x",          true },
        { "[::1]",                       "[::1]",                     "x",          false },
        { "a:1:2",                       "a:1:2",                     "x",          true },
        /* schemes and /v1/, /v2/ */
        { "https://r.example",             "r.example",                "x",          true },
        { "http://r.example",              "r.example",                "x",          true },
        { "https://r.example/v1/",         "r.example",                "x",          true },
        { "https://r.example/v2/",         "r.example",                "x",          true },
        { "r.example/v1/",                 "r.example",                "x",          true },
        { "https://r.example/v2/team",     "r.example",                "team/x",     true },
        { "https://r.example/v2/team",     "r.example",                "other/x",    false },
        { "https://r.example/v1",          "r.example",                "x",          false },
        { "https://r.example/v3/",         "r.example",                "x",          false },
        { "HTTPS://r.example",             "r.example",                "x",          false },
        { "https://index.docker.io/v1/", "docker.io",                 "library/x",  false },
        { "https://index.docker.io/v1",  "index.docker.io",           "library/x",  false },
        { "docker.io",                   "docker.io",                 "library/x",  true },
        { "docker.io/library",           "docker.io",                 "library/x",  true },
        { "R.example",                     "r.example",                "x",          false },
        { "user:secret@r.example",         "r.example",                "x",          true },
        /* no URL: useless */
        { "",                            "",                          "x",          false },
        { "https://",                    "",                          "x",          false },
        { "r.example\n",                   "r.example",                "x",          false },
        { "r .example",                    "r .example",                 "x",          false },
        { "r.example:http",                "r.example:http",           "x",          false },
};

static void test_keys(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                if (keyring_key_matches(rows[i].key, rows[i].host, rows[i].path) != rows[i].fits)
                        fail_msg("key \"%s\" %s %s/%s", rows[i].key, rows[i].fits ? "must fit" : "must not fit", rows[i].host, rows[i].path);
        }
}

/* Configs name each entry's user by its place; the users found, joined by blanks. */
static const struct { const char *first, *second, *host, *path, *users; } orders[] = {
        { "{\"r.io\":{\"username\":\"host\"},\"r.io/a/b\":{\"username\":\"deep\"},\"r.io/a\":{\"username\":\"mid\"}}", NULL, "r.io", "a/b/c", "deep mid host" },
        { "{\"*.io\":{\"username\":\"glob\"},\"r.io\":{\"username\":\"literal\"}}", NULL, "r.io", "x", "literal glob" },
        { "{\"*.io/x\":{\"username\":\"glob-path\"},\"r.io\":{\"username\":\"literal\"}}", NULL, "r.io", "x", "literal glob-path" },
        /* a whole segment before a mere prefix, whatever the lengths */
        { "{\"r.io/team\":{\"username\":\"prefix\"},\"r.io\":{\"username\":\"host\"}}", NULL, "r.io", "teams/x", "host prefix" },
        { "{\"r.io/team\":{\"username\":\"segment\"},\"r.io\":{\"username\":\"host\"}}", NULL, "r.io", "team/x", "segment host" },
        /* several spellings of one key: by the key as written */
        { "{\"r.io\":{\"username\":\"b\"},\"https://r.io/v2/\":{\"username\":\"a\"}}", NULL, "r.io", "x", "a b" },
        /* the same key in two secrets: order of the secrets; different keys: order of the keys */
        { "{\"r.io\":{\"username\":\"one\"}}", "{\"r.io\":{\"username\":\"two\"}}", "r.io", "x", "one two" },
        { "{\"r.io\":{\"username\":\"one\"}}", "{\"r.io/x\":{\"username\":\"two\"}}", "r.io", "x", "two one" },
        { "{\"r.io\":{\"username\":\"same\"}}", "{\"r.io\":{\"username\":\"same\"},\"r.io/x\":{\"username\":\"same\"}}", "r.io", "x", "same" },
        /* the Hub */
        { "{\"https://index.docker.io/v1/\":{\"username\":\"hub\"}}", NULL, "docker.io", "library/x", "hub" },
        { "{\"index.docker.io\":{\"username\":\"hub\"}}", NULL, "docker.io", "team/x", "hub" },
        { "{\"index.docker.io\":{\"username\":\"hub\"},\"docker.io\":{\"username\":\"direct\"}}", NULL, "docker.io", "team/x", "direct" },
        { "{\"https://index.docker.io/v1\":{\"username\":\"hub\"}}", NULL, "docker.io", "team/x", "" },
        { "{\"index.docker.io/team\":{\"username\":\"hub\"}}", NULL, "docker.io", "team/x", "" },
        { "{\"https://index.docker.io/v1/\":{\"username\":\"hub\"}}", NULL, "r.io", "x", "" },
        { "{\"https://index.docker.io/v1/\":{\"username\":\"hub\"}}", NULL, "localhost", "x", "" },
        { "{\"r.io\":{\"username\":\"x\"}}", NULL, "s.io", "x", "" },
};

static struct docker_config *config_parse(const char *text)
{
        struct docker_config *config = NULL;
        struct error err = { 0 };
        if (!docker_config_parse(text, strlen(text), DOCKER_CONFIG_LEGACY, &config, &err))
                fail_msg("%s: %s", text, err.text);
        return config;
}

static void test_order(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(orders); i++) {
                CLEANUP(docker_config_free) struct docker_config *first = config_parse(orders[i].first);
                CLEANUP(docker_config_free) struct docker_config *second = orders[i].second ? config_parse(orders[i].second) : NULL;
                const struct docker_config *configs[] = { first, second };
                struct login *logins = NULL;
                size_t count = 99;
                char users[256] = "";

                keyring_find(configs, 2, orders[i].host, orders[i].path, &logins, &count);
                for (size_t l = 0; l < count; l++)
                        snprintf(users + strlen(users), sizeof users - strlen(users), "%s%s", l > 0 ? " " : "", logins[l].username);
                logins_free(&logins, count);
                if (strcmp(users, orders[i].users) != 0)
                        fail_msg("%s for %s/%s: \"%s\" instead of \"%s\"", orders[i].first, orders[i].host, orders[i].path, users, orders[i].users);
        }
}

static void test_nothing(void **state)
{
        (void)state;
        struct login *logins = (struct login *)(void *)&state;
        size_t count = 99;

        keyring_find(NULL, 0, "r.io", "x", &logins, &count);
        assert_int_equal(count, 0);
        assert_null(logins);
        logins_free(&logins, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_keys), cmocka_unit_test(test_order), cmocka_unit_test(test_nothing) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
