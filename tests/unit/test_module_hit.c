/* The decision: what of the cache answers a request, for whom, under which policy; and how long a refusal is remembered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/module/modules.h"

static struct digest digest_of(char c)
{
        struct digest digest = { .algorithm = DIGEST_SHA256 };
        memset(digest.bytes, c, DIGEST_SHA256_BYTES);
        return digest;
}

/* A world: image M (index T above it) is module 1 and is called r/x:v1 and r/x:latest; image P is module 2, private (secret team-a/good, MAC 7), called r/p:v1;
   http module 3; resource team-a/plug version 1 of r/x:latest. */
static void fill(struct catalog *catalog)
{
        catalog_init(catalog);
        for (int i = 1; i <= 3; i++)
                catalog_put_entry(catalog, &(struct store_module){ .sha256 = digest_of((char)i), .identity.size_bytes = 100, .created_s = 1, .last_used_s = i });
        catalog_put_image(catalog, &(struct store_image){ .manifest = digest_of('M'), .top = digest_of('T'), .module = digest_of(1) });
        catalog_put_image(catalog, &(struct store_image){ .manifest = digest_of('P'), .top = digest_of('P'), .module = digest_of(2) });
        static const char *const public[] = { "oci://r.example/x:v1", "oci://r.example/x:latest" };
        for (size_t i = 0; i < COUNT_OF(public); i++)
                catalog_put_reference(catalog, &(struct store_reference){ .name = public[i], .top = digest_of('T'), .manifest = digest_of('M'), .module = digest_of(1), .etag = "" }, 1);
        catalog_put_reference(catalog, &(struct store_reference){ .name = "oci://r.example/p:v1", .top = digest_of('P'), .manifest = digest_of('P'), .module = digest_of(2), .etag = "" }, 1);
        catalog_put_reference(catalog, &(struct store_reference){ .name = "https://r.example/x.wasm", .module = digest_of(3), .etag = "\"e\"\n" }, 1);
        catalog_put_grant(catalog, &(struct store_grant){ .manifest = digest_of('M'), .repository = "r.example/x", .kind = "anonymous" });
        catalog_put_grant(catalog, &(struct store_grant){ .manifest = digest_of('P'), .repository = "r.example/p", .kind = "secret", .namespace = "team-a", .secret = "good", .credential_mac = digest_of(7) });
        catalog_put_grant(catalog, &(struct store_grant){ .manifest = digest_of(3), .repository = "https://r.example/x.wasm", .kind = "anonymous" });
        catalog_put_resource(catalog, &(struct store_resource){ .namespace = "team-a", .name = "plug", .version = "1", .reference = "oci://r.example/x:latest", .module = digest_of(1), .manifest = digest_of('M') }, 1);
}

#define M "4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d"
#define T "5454545454545454545454545454545454545454545454545454545454545454"
#define P "5050505050505050505050505050505050505050505050505050505050505050"
#define U "5555555555555555555555555555555555555555555555555555555555555555"
#define THREE "0303030303030303030303030303030303030303030303030303030303030303"

/* namespace, secret's MAC (0 = none), request → what is to be done */
static const struct { const char *namespace; char mac; const char *json; enum hit_result result; } rows[] = {
        { "team-a", 0, "{\"url\":\"r.example/x:v1\"}",                                                    HIT_YES },
        { "team-b", 0, "{\"url\":\"r.example/x:v1\"}",                                                    HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x:v2\"}",                                                    HIT_ABSENT },
        { "team-a", 0, "{\"url\":\"r.example/x:v1\",\"imagePullPolicy\":\"Always\"}",                     HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"r.example/x\"}",                                                       HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"r.example/x:latest\"}",                                                HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"r.example/x:latest\",\"imagePullPolicy\":\"IfNotPresent\"}",           HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x:latest\",\"sha256\":\"" M "\"}",                           HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x:latest\",\"sha256\":\"" T "\"}",                           HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x:latest\",\"sha256\":\"" U "\"}",                           HIT_ABSENT },
        { "team-a", 0, "{\"url\":\"r.example/x@sha256:" M "\",\"imagePullPolicy\":\"Always\"}",           HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x@sha256:" T "\"}",                                          HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x:new\",\"sha256\":\"" M "\"}",                              HIT_YES },
        /* the same content under another name proves nothing */
        { "team-a", 0, "{\"url\":\"r.example/other@sha256:" M "\"}",                                      HIT_UNPROVEN },
        { "team-a", 0, "{\"url\":\"r.example/other:v1\",\"sha256\":\"" M "\"}",                           HIT_UNPROVEN },
        /* resources: once per version */
        { "team-a", 0, "{\"url\":\"r.example/x\",\"resource\":{\"name\":\"plug\",\"version\":\"1\"}}",    HIT_YES },
        { "team-a", 0, "{\"url\":\"r.example/x\",\"resource\":{\"name\":\"plug\",\"version\":\"2\"}}",    HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"r.example/x:v1\",\"imagePullPolicy\":\"Always\",\"resource\":{\"name\":\"plug\",\"version\":\"1\"}}",   HIT_REVALIDATE },
        { "team-b", 0, "{\"url\":\"r.example/x\",\"resource\":{\"name\":\"plug\",\"version\":\"1\"}}",    HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"r.example/x:v1\",\"resource\":{\"name\":\"plug\",\"version\":\"9\"}}", HIT_YES },
        /* who may */
        { "team-a", 0, "{\"url\":\"r.example/p:v1\"}",                                                    HIT_UNPROVEN },
        { "team-b", 0, "{\"url\":\"r.example/p@sha256:" P "\"}",                                          HIT_UNPROVEN },
        { "team-a", 7, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"good\"}",                       HIT_YES },
        { "team-a", 8, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"good\"}",                       HIT_YES },          /* rotated */
        { "team-a", 0, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"good\"}",                       HIT_UNPROVEN },     /* says nothing about this host any more */
        { "team-b", 8, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"good\"}",                       HIT_UNPROVEN },     /* another tenant's secret of the same name */
        { "team-b", 7, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"mine\"}",                       HIT_YES },          /* the same credential under another name */
        { "team-a", 8, "{\"url\":\"r.example/p:v1\",\"imagePullSecret\":\"other\"}",                      HIT_UNPROVEN },
        { "team-b", 8, "{\"url\":\"r.example/x:v1\",\"imagePullSecret\":\"mine\"}",                       HIT_YES },          /* public for everybody */
        /* http(s), file */
        { "team-a", 0, "{\"url\":\"https://R.example/x.wasm\"}",                                          HIT_YES },
        { "team-a", 0, "{\"url\":\"https://r.example/x.wasm\",\"imagePullPolicy\":\"Always\"}",           HIT_REVALIDATE },
        { "team-a", 0, "{\"url\":\"https://r.example/x.wasm\",\"sha256\":\"" THREE "\"}",                 HIT_YES },
        { "team-a", 0, "{\"url\":\"https://r.example/y.wasm\",\"sha256\":\"" THREE "\"}",                 HIT_UNPROVEN },
        { "team-a", 0, "{\"url\":\"https://r.example/y.wasm\"}",                                          HIT_ABSENT },
        { "team-a", 0, "{\"url\":\"file:///srv/x.wasm\"}",                                                HIT_ABSENT },
};

static struct module_want *decode(const char *json)
{
        struct value *value = NULL;
        struct module_want *want = NULL;
        struct error err = { 0 };
        assert_true(json_parse(json, strlen(json), ERROR_BAD_REQUEST, &value, &err));
        if (!module_want_decode(value, &want, &err))
                fail_msg("%s: %s", json, err.text);
        value_free(&value);
        return want;
}

static void check_rows(const struct catalog *catalog)
{
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s %s\n", rows[i].namespace, rows[i].json);
                CLEANUP(module_want_unref) struct module_want *want = decode(rows[i].json);
                struct digest mac = digest_of(rows[i].mac);
                struct principal principal = { .kind = want->secret_name ? PRINCIPAL_SECRET : PRINCIPAL_NONE, .count = rows[i].mac != 0, .macs = &mac };
                struct hit_question question = { .catalog = catalog, .want = want, .principal = want->secret_name ? &principal : NULL, .namespace = rows[i].namespace };
                struct hit hit;
                hit_decide(&question, &hit);
                assert_string_equal(hit_result_names[hit.result], hit_result_names[rows[i].result]);
                assert_int_equal(hit.entry != NULL, rows[i].result != HIT_ABSENT);
        }
}

static void test_decide(void **state)
{
        (void)state;
        struct catalog catalog;
        fill(&catalog);
        check_rows(&catalog);
        catalog_fini(&catalog);
}

/* Into an empty catalog, and over one that says the same of all: every answer is as before, nothing counts twice, and pointers stay valid. */
static void test_move(void **state)
{
        (void)state;
        for (int is_filled = 0; is_filled < 2; is_filled++) {
                struct catalog from, to;
                struct digest sha256 = digest_of(1);
                size_t count, i = 0;
                fill(&from);
                struct { size_t grants, pins, entries, references, images; uint64_t bytes; } before = { from.grants, from.pins, map_get_count(from.entries), map_get_count(from.references),
                                                                                                    map_get_count(from.images), from.bytes };
                if (is_filled)
                        fill(&to);
                else
                        catalog_init(&to);
                struct entry *entry = catalog_find_entry(&from, &sha256), *order[16];
                struct lease *lease = catalog_put_lease(&from, entry, "team-a", "lease", 7);
                for (struct entry *at = (is_filled ? &to : &from)->oldest; at; at = at->newer)
                        order[i++] = at;
                for (size_t j = 0; j < i; j++)
                        order[j] = catalog_find_entry(&from, &order[j]->sha256);
                catalog_use(&from, entry, entry->last_used_s + 100);
                catalog_move(&from, &to);
                check_rows(&to);
                assert_ptr_equal(catalog_find_entry(&to, &sha256), entry);
                assert_ptr_equal(catalog_find_lease_id(&to, "lease"), lease);
                assert_true(to.grants == before.grants && to.pins == before.pins && to.bytes == before.bytes);
                assert_true(map_get_count(to.entries) == before.entries && map_get_count(to.references) == before.references && map_get_count(to.images) == before.images);
                catalog_get_sorted(&to, &count);
                assert_int_equal(count, before.entries);
                /* Used since: the newest. The others stand as they stood. */
                assert_ptr_equal(to.newest, entry);
                i = 0;
                for (struct entry *at = to.oldest; at && at != entry; at = at->newer, i++) {
                        i += order[i] == entry;
                        assert_ptr_equal(at, order[i]);
                }
                assert_null(from.oldest);
                assert_int_equal(map_get_count(from.entries) + map_get_count(from.references) + from.grants + from.bytes, 0);
                while (to.oldest) {
                        entry = to.oldest;
                        catalog_remove_entry(&to, &entry);
                }
                assert_int_equal(map_get_count(to.images) + map_get_count(to.references) + map_get_count(to.leases) + to.grants + to.bytes + to.pins, 0);
                catalog_fini(&from);
                catalog_fini(&to);
        }
}


static void test_never_back_in_time(void **state)
{
        (void)state;
        struct catalog catalog;
        fill(&catalog);
        struct store_reference row = { .name = "oci://r.example/x:v1", .top = digest_of('P'), .manifest = digest_of('P'), .module = digest_of(2), .etag = "" };
        catalog_put_reference(&catalog, &row, 5);
        row = (struct store_reference){ .name = "oci://r.example/x:v1", .top = digest_of('T'), .manifest = digest_of('M'), .module = digest_of(1), .etag = "" };
        struct known_reference *reference = catalog_put_reference(&catalog, &row, 4);
        assert_int_equal(reference->entry->sha256.bytes[0], 2);
        catalog_fini(&catalog);
}

static void test_letting_go(void **state)
{
        (void)state;
        struct catalog catalog;
        fill(&catalog);
        struct digest one = digest_of(1), manifest = digest_of('M'), top = digest_of('T');
        struct entry *entry = catalog_find_entry(&catalog, &one);
        assert_ptr_equal(catalog.oldest, entry);
        catalog_use(&catalog, entry, 100);
        assert_ptr_equal(catalog.newest, entry);
        assert_null(catalog_get_obstacle(entry));
        struct lease *lease = catalog_put_lease(&catalog, entry, "team-a", "00112233445566778899aabbccddeeff", 1);
        assert_string_equal(catalog_get_obstacle(entry), "leased");
        catalog_remove_lease(&catalog, &lease);
        assert_null(catalog_get_obstacle(entry));
        entry->holds++;
        assert_string_equal(catalog_get_obstacle(entry), "in use");
        entry->holds--;
        assert_int_equal(catalog.bytes, 300);
        size_t count;
        assert_ptr_equal(catalog_get_sorted(&catalog, &count)[0], entry);
        assert_int_equal(count, 3);
        catalog_remove_entry(&catalog, &entry);
        assert_null(catalog_find_image(&catalog, &manifest));
        assert_null(catalog_find_image(&catalog, &top));
        assert_null(catalog_find_reference(&catalog, "oci://r.example/x:v1"));
        assert_int_equal(catalog.bytes, 200);
        assert_int_equal(catalog.grants, 2);
        catalog_fini(&catalog);
}

static void test_grants_are_bounded(void **state)
{
        (void)state;
        struct catalog catalog;
        fill(&catalog);
        char secret[32];
        for (int i = 0; i < 3 * GRANTS_MAX; i++) {
                snprintf(secret, sizeof secret, "s%d", i);
                catalog_put_grant(&catalog, &(struct store_grant){ .manifest = digest_of('P'), .repository = "r.example/p", .kind = "secret", .namespace = "team-a", .secret = secret });
        }
        assert_int_equal(catalog.grants, 2 + GRANTS_MAX);
        assert_null(catalog_put_grant(&catalog, &(struct store_grant){ .manifest = digest_of('P'), .repository = "r.example/p", .kind = "no-such-kind" }));
        assert_null(catalog_put_grant(&catalog, &(struct store_grant){ .manifest = digest_of('U'), .repository = "r.example/p", .kind = "anonymous" }));
        catalog_fini(&catalog);
}

/* code, peer's own delay, negative_time, failures so far → how long it is remembered */
static const struct { enum error_code code; unsigned retry_after_s; int64_t negative_ms; unsigned failures; int64_t keep_ms; } keeps[] = {
        { ERROR_NOT_FOUND,            0,    10000, 1,  10000 },
        { ERROR_NOT_FOUND,            0,    10000, 2,  20000 },
        { ERROR_NOT_FOUND,            0,    10000, 4,  80000 },
        { ERROR_NOT_FOUND,            0,    10000, 60, REFUSAL_MAX_MS },
        { ERROR_UNSUPPORTED_IMAGE,    0,    1000,  1,  1000 },
        { ERROR_UPSTREAM_UNREACHABLE, 0,    10000, 5,  1000 },
        { ERROR_UPSTREAM_UNREACHABLE, 0,    2000,  1,  200 },
        { ERROR_RATE_LIMITED,         7,    10000, 1,  7000 },
        { ERROR_RATE_LIMITED,         9999, 10000, 1,  REFUSAL_MAX_MS },
};

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(keeps); i++) {
                struct error err = { .code = keeps[i].code, .retry_after_s = keeps[i].retry_after_s };
                print_message("%s %u\n", error_get_row(err.code)->name, keeps[i].failures);
                assert_int_equal(refusal_get_keep_ms(&err, keeps[i].negative_ms, keeps[i].failures), keeps[i].keep_ms);
        }
}

/* A grant for one repository says nothing of another whose name goes on where its own ends. */
static void test_grant_names(void **state)
{
        (void)state;
        static const struct { const char *repository, *name; bool names; } cases[] = {
                { "r.example/x", "oci://r.example/x:v1", true },             { "r.example/x", "oci://r.example/x@sha256:" M, true },
                { "r.example/x", "oci://r.example/xy:v1", false },           { "r.example/x", "oci://r.example/x/y:v1", false },
                { "r.example/x", "oci://r.example/x-private@sha256:" M, false }, { "r.example/x", "oci://other.example/x:v1", false },
                { "https://r.example/x.wasm", "https://r.example/x.wasm", true }, { "https://r.example/x", "https://r.example/x.wasm", false },
                { "https://r.example/x", "https://r.example/x:y", false },
        };
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                CLEANUP(cleanup_free) struct grant *grant = memory_new(1, sizeof *grant + strlen(cases[i].repository) + 1);
                memcpy(grant->repository, cases[i].repository, strlen(cases[i].repository) + 1);
                assert_int_equal(grant_names(grant, cases[i].name), cases[i].names);
        }
}

/* That a manifest leads to this module was seen: said again it stays, said of another module (an import, a row) it is a word alone. */
static void test_led_by_what_was_seen(void **state)
{
        struct catalog catalog;
        struct digest manifest = digest_of('M'), top = digest_of('U');
        (void)state;
        fill(&catalog);
        struct image *image = catalog_find_image(&catalog, &manifest);
        assert_false(image->is_led);
        image->is_led = true;
        image = catalog_put_image(&catalog, &(struct store_image){ .manifest = manifest, .top = top, .module = digest_of(1) });
        assert_true(image->is_led && digest_equal(image->top, &top));
        image = catalog_put_image(&catalog, &(struct store_image){ .manifest = manifest, .top = top, .module = digest_of(2) });
        assert_false(image->is_led);
        catalog_fini(&catalog);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_decide), cmocka_unit_test(test_move), cmocka_unit_test(test_never_back_in_time), cmocka_unit_test(test_letting_go), cmocka_unit_test(test_grants_are_bounded),
                cmocka_unit_test(test_grant_names), cmocka_unit_test(test_refusals), cmocka_unit_test(test_led_by_what_was_seen),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
