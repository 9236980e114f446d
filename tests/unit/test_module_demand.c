/* Which rules a request falls under: by place, whatever way its name is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/module/demand.h"
#include "../../agent/module/pull.h"

static const char key_text[] = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM\n5/KAQN0/KjHcorm/J5yctVd7iEcnessRQjU917hmKO6JWVGHpDguIyakZA==\n-----END PUBLIC KEY-----\n";

static const struct { const char *match, *url; bool fits; } cases[] = {
        { "r.example/team/*",              "oci://r.example/team/x:v1",                     true },
        { "r.example/team/*",              "r.example/team/x",                              true },
        { "r.example/team/*",              "R.Example/team/x:v1",                           true },
        { "r.example/team/*",              "r.example:443/team/x:v1",                       true },
        { "R.EXAMPLE:443/team/*",          "r.example/team/x:v1",                           true },
        { "r.example/team/*",              "r.example/team/a/b:v1",                         true },
        { "r.example/team/*",              "r.example/teams/x:v1",                          false },
        { "r.example/team/*",              "r.example:5000/team/x:v1",                      false },
        { "r.example:5000/team/*",         "r.example:5000/team/x:v1",                      true },
        { "r.example/team/*",              "other.example/r.example/team/x:v1",             false },
        { "docker.io/library/*",           "docker.io/x:v1",                                true },
        { "index.docker.io/library/x",     "oci://docker.io/x:v1",                          true },
        { "*",                             "r.example/x:v1",                                true },
        { "*",                             "https://r.example/x.wasm",                      true },
        { "*",                             "file:///srv/x.wasm",                            true },
        { "r.example/team/*",              "https://r.example/team/x.wasm",                 true },
        { "r.example/team/*",              "http://r.example/team/x.wasm",                  true },
        { "r.example/team/*",              "HTTPS://R.EXAMPLE:443/team/x.wasm",             true },
        { "r.example/team/*",              "http://r.example:80/team/x.wasm",               true },
        { "r.example:5000/team/*",         "r.example:05000/team/x:v1",                     true },
        { "r.example:005000/team/*",       "oci://R.example:5000/team/x:v1",                true },
        { "r.example/team/*",              "r.example:0443/team/x:v1",                      true },
        { "r.example:5000/team/*",         "http://r.example:05000/team/x.wasm",            true },
        { "r.example/team/*",              "http://r.example:080/team/x.wasm",              true },
        { "r.example/team/*",              "https://r%2eexample/team/x.wasm",               true },
        { "r.example/team/*",              "https://%72.example:0443/team/x.wasm",          true },
        { "r.example/team/*",              "https://r.example./team/x.wasm",                true },
        { "r.example/team/*",              "https://\xef\xbd\x92.example/team/x.wasm",      true },        /* a full-width r, which IDNA maps */
        { "r.example:50*/team/*",          "r.example:5000/team/x:v1",                      true },
        { "127.0.0.1:5000/*",              "127.1:5000/x:v1",                               true },
        { "127.0.0.1:5000/*",              "0x7f.0.0.1:5000/x:v1",                          true },
        { "127.0.0.1:5000/*",              "0177.0.0.1:5000/x:v1",                          true },
        { "127.0.0.1:5000/*",              "2130706433:5000/x:v1",                          true },
        { "127.0.0.1:5000/*",              "[::ffff:7f00:1]:5000/x:v1",                     true },
        { "127.0.0.1:5000/*",              "127.0.0.2:5000/x:v1",                           false },
        { "127.0.0.1/*",                   "http://2130706433/x.wasm",                      true },
        { "127.0.0.1/*",                   "http://[::ffff:127.0.0.1]/x.wasm",              true },
        { "127.0.0.1/*",                   "http://[0:0:0:0:0:ffff:7f00:0001]:80/x.wasm",   true },
        { "10.1.*",                        "10.1.2.3:5000/x:v1",                            true },
        { "[::1]:5000/team/*",             "[::1]:5000/team/x:v1",                          true },
        { "[0::0:1]:05000/team/*",         "[0:0::1]:5000/team/x:v1",                       true },
        { "[::1]/team/*",                  "http://[0000::1]/team/x.wasm",                  true },
        { "[::1]/team/*",                  "http://[::2]/team/x.wasm",                      false },
        { "https://[::1]/team/*",          "https://[::1]:443/team/x.wasm",                 true },
        { "r.example/team/*",              "https://r.example/%74eam/x.wasm",               true },
        { "r.example/team/*",              "https://r.example/%74%65am%2fx.wasm",           true },
        { "r.example/team/*",              "https://r.example//team///x.wasm",              true },
        { "r.example/team/*",              "https://r.example/./team/x.wasm",               true },
        { "r.example/team/*",              "https://r.example/team/./x.wasm",               true },
        { "r.example/team/*",              "https://r.example/other/../team/x.wasm",        true },
        { "r.example/team/*",              "https://r.example/../../team/x.wasm",           true },
        { "r.example/team/*",              "https://r.example/other/%2e%2e/team/x.wasm",    true },
        { "r.example/team/*",              "https://r.example/other/%2E./%2fteam/x.wasm",   true },
        { "r.example/team/*",              "https://r.example/other/..;/x.wasm",            false },
        { "r.example/team/*",              "https://r.example/team/../other/x.wasm",        true },        /* as written it is there too: the stricter reading */
        { "r.example/team/*",              "https://r.example/other/x.wasm",                false },
        { "r.example/team/*",              "https://r.example/v2/team/x/blobs/sha256:00",   true },
        { "r.example/team/*",              "http://r.example/%76%32//team/x%2fblobs/sha256%3a00", true },
        { "r.example:5000/team/*",         "http://r.example:5000/v2/team/blobs/x/blobs/sha256:00", true },
        { "r.example/team/x",              "https://r.example/v2/team/x/manifests/v1",      true },
        { "oci://r.example/team/*",        "https://r.example/a/../v2/team/x/blobs/sha256:00", true },
        { "https://r.example/team/*",      "https://r.example/v2/team/x/blobs/sha256:00",   false },
        { "r.example/team/*",              "https://r.example/v2/other/x/blobs/sha256:00",  false },
        { "r.example/team/*",              "https://r.example/v2/blobs/sha256:00",          false },
        { "r.example/team/*",              "https://r.example/v1/team/x/blobs/sha256:00",   false },
        { "oci://r.example/*",             "r.example/team/x:v1",                           true },
        { "oci://r.example/*",             "https://r.example/team/x.wasm",                 false },
        { "https://r.example/*",           "http://r.example/team/x.wasm",                  false },
        { "https://r.example/*",           "https://r.example:443/team/x.wasm",             true },
        { "/srv/team/*",                   "file:///srv/team/x.wasm",                       true },
        { "/srv/team/*",                   "file:///srv/%74eam/x.wasm",                     true },
        { "/srv/team/*",                   "file:///srv//team/x.wasm",                      true },
        { "file:///srv/team/*",            "file:///srv/team/x.wasm",                       true },
        { "/srv/team/*",                   "file:///srv/other/x.wasm",                      false },
};

static void test_rules(void **state)
{
        size_t failed = 0;
        struct error err = { 0 };
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        (void)state;
        assert_true(trust_keys_parse(key_text, strlen(key_text), "key", &keys, &err));
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct trust_rule rule = { cases[i].match, keys, policy };
                struct trust_setup setup = { .generation = 1, .policy = policy, .rules = &rule, .rule_count = 1 };
                CLEANUP(cleanup_free) char *body = string_format("{\"url\":\"%s\"}", cases[i].url);
                struct value *value = NULL;
                CLEANUP(module_want_unref) struct module_want *want = NULL;
                assert_true(json_parse(body, strlen(body), ERROR_BAD_REQUEST, &value, &err));
                bool is_read = module_want_decode(value, &want, &err);
                value_free(&value);
                if (!is_read) {
                        print_message("%s is refused: %s\n", cases[i].url, err.text);        /* what is refused needs no rule */
                        continue;
                }
                if ((demands_of(&setup, want) != NULL) != cases[i].fits) {
                        print_error("%s: expected to %s under \"%s\"\n", cases[i].url, cases[i].fits ? "fall" : "not fall", cases[i].match);
                        failed++;
                }
        }
        assert_int_equal(failed, 0);
}

/* The request's own key and every rule that fits are demands of their own; another configuration makes them anew. */
static void test_demands(void **state)
{
        struct error err = { 0 };
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        CLEANUP(trust_policy_unref) struct trust_policy *named = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_EXACT });
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        (void)state;
        assert_true(trust_keys_parse(key_text, strlen(key_text), "key", &keys, &err));
        assert_true(module_want_again("oci://r.example/team/x:v1", MODULE_POLICY_IF_NOT_PRESENT, NULL, NULL, &want, &err));
        struct trust_rule rules[] = { { "r.example/*", keys, policy }, { "other.example/*", keys, policy }, { "*", keys, named } };
        struct trust_setup setup = { .generation = 1, .policy = policy, .rules = rules, .rule_count = COUNT_OF(rules) }, none = { .generation = 2, .policy = policy };
        struct demands *demands = demands_of(&setup, want);
        assert_non_null(demands);
        assert_int_equal(demands->count, 2);
        assert_string_equal(demands->items[0].rule, "r.example/*");
        assert_string_equal(demands->items[1].rule, "*");
        assert_false(digest_equal(&demands->items[0].id, &demands->items[1].id));
        assert_ptr_equal(demands_of(&setup, want), demands);
        assert_null(demands_of(&none, want));
        setup.generation = 3;
        assert_int_equal(demands_of(&setup, want)->count, 2);
}

static void put(struct verdicts *verdicts, const char *target, const char *demand, const char *where)
{
        struct verdict verdict = { .format = "raw", .scope = PROOF_OF_MANIFEST, .where = string_copy(where) };
        digest_sha256(target, strlen(target), &verdict.target);
        digest_sha256(demand, strlen(demand), &verdict.demand);
        verdict_put(verdicts, &verdict);
}

static void join_where(void *arg, const struct verdict *verdict)
{
        buffer_printf(arg, "%s ", verdict->where);
}

static void expect_verdicts(const struct verdicts *verdicts, const char *target, const char *expected)
{
        CLEANUP(buffer_fini) struct buffer found = { 0 };
        struct digest digest, module = { 0 };
        digest_sha256(target, strlen(target), &digest);
        verdicts_visit(verdicts, &digest, &module, join_where, &found);
        assert_string_equal(found.data ? found.data : "", expected);
        const struct verdict *latest = verdicts_get_latest(verdicts, &digest, &module);
        assert_true(latest ? strncmp(latest->where, expected, strlen(latest->where)) == 0 : *expected == '\0');
}

static void count_verdict(void *arg, const struct verdict *verdict)
{
        (void)verdict;
        ++*(size_t *)arg;
}

/* By target, the latest first; one that replaces another is there once, wherever the other stood. */
static void test_verdicts(void **state)
{
        CLEANUP(verdicts_free) struct verdicts *verdicts = verdicts_new();
        (void)state;
        expect_verdicts(verdicts, "t", "");
        put(verdicts, "t", "1", "a");
        put(verdicts, "t", "2", "b");
        put(verdicts, "u", "1", "x");
        put(verdicts, "t", "3", "c");
        expect_verdicts(verdicts, "t", "c b a ");
        put(verdicts, "t", "3", "C");
        expect_verdicts(verdicts, "t", "C b a ");
        put(verdicts, "t", "1", "A");
        expect_verdicts(verdicts, "t", "A C b ");
        put(verdicts, "t", "3", "c");
        expect_verdicts(verdicts, "t", "c A b ");
        put(verdicts, "u", "1", "X");
        expect_verdicts(verdicts, "u", "X ");
        assert_int_equal(verdicts_get_count(verdicts), 4);
        verdicts_clear(verdicts);
        expect_verdicts(verdicts, "t", "");
        put(verdicts, "t", "1", "a");
        expect_verdicts(verdicts, "t", "a ");
}

/* "This manifest is signed and led to that module" says nothing of another module, whatever a row or listing puts under the manifest. */
static void test_verdict_of_another_module(void **state)
{
        struct error err = { 0 };
        CLEANUP(verdicts_free) struct verdicts *verdicts = verdicts_new();
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        struct digest manifest, top, modules[2];
        (void)state;
        assert_true(trust_keys_parse(key_text, strlen(key_text), "key", &keys, &err));
        digest_sha256("manifest", 8, &manifest);
        digest_sha256("top", 3, &top);
        digest_sha256("one", 3, &modules[0]);
        digest_sha256("two", 3, &modules[1]);
        struct demand demand = { .keys = keys, .policy = policy };
        demand_make_id(keys, policy, &demand.id);
        for (int by_top = 0; by_top < 2; by_top++) {
                struct digest target = by_top ? top : manifest;
                struct verdict verdict = { .format = "raw", .scope = PROOF_OF_MANIFEST, .where = string_copy("w"), .target = target, .module = modules[by_top], .demand = demand.id };
                verdict_put(verdicts, &verdict);
                for (int i = 0; i < 2; i++) {
                        const struct proof_targets targets = { .top = &top, .manifest = &manifest, .module = &modules[i], .is_image = true };
                        const struct verdict *found = demand_find_verdict(verdicts, &demand, &targets);
                        assert_int_equal(found != NULL, i <= by_top);
                        assert_true(!found || digest_equal(&found->module, &modules[i]));
                        assert_int_equal(verdicts_get_latest(verdicts, &target, &modules[i]) != NULL, i == by_top);
                }
        }
        assert_int_equal(verdicts_get_count(verdicts), 2);
        /* Both of one target stand beside one another. */
        struct verdict verdict = { .format = "raw", .scope = PROOF_OF_MANIFEST, .where = string_copy("w"), .target = top, .module = modules[0], .demand = demand.id };
        verdict_put(verdicts, &verdict);
        for (int i = 0; i < 2; i++) {
                size_t seen = 0;
                assert_non_null(verdicts_get_latest(verdicts, &top, &modules[i]));
                verdicts_visit(verdicts, &top, &modules[i], count_verdict, &seen);
                assert_int_equal(seen, 1);
        }
        assert_null(verdicts_get_latest(verdicts, &top, &manifest));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_rules), cmocka_unit_test(test_demands), cmocka_unit_test(test_verdicts), cmocka_unit_test(test_verdict_of_another_module) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
