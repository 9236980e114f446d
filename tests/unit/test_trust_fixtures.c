/*
 * Images and files signed by cosign 2.6.5 and 3.1.3 (tests/unit/data/signatures/README.md), each judged with each key, as the agent goes about it: referrers, then the classic tag,
 * of the image or index, then of the child. The verdicts are ours; the tools' own stand beside them, with the reason where they differ.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <zstd.h>
#include "trust_data_rig.h"

static struct { struct value *data; const struct value *blobs, *keys; } rig;

static int setup(void **state)
{
        (void)state;
        rig.data = rig_data("oci.json");
        rig.blobs = value_get_member(rig.data, "blobs");
        rig.keys = value_get_member(rig.data, "keys");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        value_free(&rig.data);
        return 0;
}

/* What was found so far for one case and key. */
struct search { struct trust_keys *keys; struct trust_policy *policy; struct trust_budget budget; struct rig_verdict verdict; };

static const char *blob(const char *digest)
{
        const char *text = rig_text(rig.blobs, digest);
        struct digest named, ours;
        struct error err;
        assert_true(digest_parse(digest, strlen(digest), ERROR_INTERNAL, &named, &err));
        digest_sha256(text, strlen(text), &ours);
        assert_true(digest_equal(&named, &ours));
        return text;
}

static const char *blob_of(const struct digest *digest)
{
        char text[DIGEST_TEXT_BYTES];
        digest_format(digest, text);
        return blob(text);
}

static bool try(struct search *search, const struct trust_target *target, const struct trust_evidence *evidence)
{
        struct trust_demand demand = { search->keys, search->policy };
        struct trust_failure failure = TRUST_FAILURE_NONE;
        search->verdict.is_good = trust_judge(&demand, target, evidence, &search->budget, &search->verdict.proof, &failure);
        if (!search->verdict.is_good)
                trust_failure_note(&search->verdict.failure, &failure);
        return search->verdict.is_good;
}

static bool try_classic(struct search *search, const struct trust_target *target, const char *manifest)
{
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 };
        struct error err;
        if (!trust_layers_parse(manifest, strlen(manifest), &layers, &err))
                fail_msg("%s", err.text);
        for (size_t i = 0; i < layers.count; i++) {
                struct trust_evidence evidence = rig_simple_evidence(blob_of(&layers.items[i].digest), layers.items[i].signature);
                evidence.log_entry = layers.items[i].log_entry;
                evidence.has_certificate = layers.items[i].has_certificate;
                assert_int_equal(evidence.body_bytes, layers.items[i].size_bytes);
                if (try(search, target, &evidence))
                        return true;
        }
        return false;
}

static bool try_bundle(struct search *search, const struct trust_target *target, const char *manifest)
{
        struct digest layer;
        uint64_t size;
        struct error err;
        if (!trust_bundle_layer_parse(manifest, strlen(manifest), &target->digest, &layer, &size, &err))
                fail_msg("%s", err.text);
        struct trust_evidence evidence = rig_bundle_evidence(blob_of(&layer));
        assert_int_equal(evidence.body_bytes, size);
        return try(search, target, &evidence);
}

static bool try_referrers(struct search *search, const struct trust_target *target, const char *index)
{
        CLEANUP(value_free) struct value *document = NULL;
        struct error err;
        assert_true(json_parse(index, strlen(index), ERROR_INTERNAL, &document, &err));
        const struct value *list = value_get_member(document, "manifests");
        for (size_t i = 0; i < value_get_count(list); i++) {
                const char *manifest = blob(rig_text(value_get_item(list, i), "digest"));
                bool is_classic = strstr(manifest, "\"artifactType\":\"application/vnd.dev.cosign.artifact.sig.v1+json\"") != NULL;
                if (is_classic ? try_classic(search, target, manifest) : try_bundle(search, target, manifest))
                        return true;
        }
        return false;
}

static bool try_target(struct search *search, const struct value *tags, const char *digest, bool is_child)
{
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST, .is_child = is_child };
        struct error err;
        assert_true(digest_parse(digest, strlen(digest), ERROR_INTERNAL, &target.digest, &err));
        CLEANUP(cleanup_free) char *tag = string_format("sha256-%s", digest + 7), *classic_tag = string_format("%s.sig", tag);
        const char *index = value_get_text(value_get_member(tags, tag)), *classic = value_get_text(value_get_member(tags, classic_tag));
        return (index && try_referrers(search, &target, blob(index))) || (classic && try_classic(search, &target, blob(classic)));
}

static void search_case(const struct value *item, struct search *search)
{
        const struct value *targets = value_get_member(item, "targets");
        search->verdict.failure = TRUST_FAILURE_NONE;
        for (size_t i = 0; i < value_get_count(targets); i++)
                if (try_target(search, value_get_member(item, "tags"), value_get_text(value_get_item(targets, i)), i > 0))
                        return;
}

static const struct value *case_find(const char *name)
{
        const struct value *cases = value_get_member(rig.data, "cases");
        for (size_t i = 0; i < value_get_count(cases); i++)
                if (strcmp(rig_text(value_get_item(cases, i), "name"), name) == 0)
                        return value_get_item(cases, i);
        fail_msg("no case %s", name);
        return NULL;
}

static const char *outcome(const struct rig_verdict *verdict)
{
        return verdict->is_good ? verdict->proof.format : verdict->failure.reason == TRUST_REASONS ? "sig_absent" : trust_reason_names[verdict->failure.reason];
}

/* The file of verdicts: [case, key, ours, by the tools, why it differs or ""]; every case with every key is in it. */
static void test_images(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *verdicts = rig_data("oci-verdicts.json");
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT };
        bool print = getenv("PRINT_VERDICTS") != NULL;
        size_t wrong = 0;
        assert_int_equal(value_get_count(verdicts), value_get_count(value_get_member(rig.data, "cases")) * value_get_count(rig.keys));
        for (size_t i = 0; i < value_get_count(verdicts); i++) {
                const struct value *row = value_get_item(verdicts, i);
                const char *name = value_get_text(value_get_item(row, 0)), *key = value_get_text(value_get_item(row, 1)), *ours = value_get_text(value_get_item(row, 2));
                struct search search = { .keys = rig_parse(rig_text(rig.keys, key)), .policy = trust_policy_new(&options), .budget = TRUST_BUDGET };
                search_case(case_find(name), &search);
                if (print)
                        print_message("%s\t%s\t%s\t%s\n", name, key, outcome(&search.verdict), search.verdict.is_good ? search.verdict.proof.algorithm : search.verdict.failure.text);
                else if (strcmp(outcome(&search.verdict), ours) != 0 && ++wrong)
                        print_message("%s with key %s: should be %s, is %s: %s\n", name, key, ours, outcome(&search.verdict), search.verdict.failure.text);
                if (search.verdict.is_good)
                        assert_memory_equal(&search.verdict.proof.fingerprint, trust_keys_get_fingerprint(search.keys, 0), sizeof(struct digest));
                trust_proof_fini(&search.verdict.proof);
                trust_policy_unref(&search.policy);
                trust_keys_unref(&search.keys);
        }
        assert_int_equal(wrong, 0);
}

/* The module as it was before it was packed; the caller frees. */
static struct buffer module_load(void)
{
        const char *source = getenv("WASMCACHED_SOURCE");
        CLEANUP(cleanup_free) char *path = string_format("%s/tests/unit/data/signatures/blobs/plugin.wasm.zst", source ? source : ".");
        CLEANUP(buffer_fini) struct buffer packed = { 0 };
        struct buffer module = { 0 };
        struct error err;
        if (!fs_load(AT_FDCWD, path, 8u << 20, &packed, &err))
                fail_msg("%s", err.text);
        size_t size = (size_t)ZSTD_getFrameContentSize(packed.data, packed.used);
        assert_true(size < 8u << 20 && buffer_reserve(&module, size));
        module.used = ZSTD_decompress(module.data, size, packed.data, packed.used);
        assert_int_equal(module.used, size);
        return module;
}

/* Bundles of sign-blob and attest-blob, for the file and for one that differs in a byte. */
static void test_files(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *data = rig_data("bundles.json");
        CLEANUP(buffer_fini) struct buffer module = module_load(), other = module_load();
        other.data[other.used - 1] ^= 1;
        struct trust_target targets[2] = { { .kind = TRUST_TARGET_FILE, .bytes = module.data, .size_bytes = module.used }, { .kind = TRUST_TARGET_FILE, .bytes = other.data, .size_bytes = other.used } };
        for (size_t i = 0; i < COUNT_OF(targets); i++)
                digest_sha256(targets[i].bytes, targets[i].size_bytes, &targets[i].digest);
        const struct value *rows = value_get_member(data, "verdicts");
        assert_int_equal(value_get_count(rows), value_get_count(value_get_member(data, "bundles")) * value_get_count(rig.keys));
        for (size_t i = 0; i < value_get_count(rows); i++) {
                const struct value *row = value_get_item(rows, i);
                const char *name = value_get_text(value_get_item(row, 0)), *key = value_get_text(value_get_item(row, 1)), *ours = value_get_text(value_get_item(row, 2));
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(rig_text(rig.keys, key));
                struct trust_evidence evidence = rig_bundle_evidence(rig_text(value_get_member(data, "bundles"), name));
                evidence.form = TRUST_FORM_SIDECAR_BUNDLE;
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(keys, NULL, &targets[0], &evidence), changed = rig_judge(keys, NULL, &targets[1], &evidence);
                if (strcmp(outcome(&verdict), ours) != 0)
                        fail_msg("%s with key %s: should be %s, is %s: %s", name, key, ours, outcome(&verdict), verdict.failure.text);
                assert_false(changed.is_good);
        }
}

/* Statements of attest and attest-blob are taken where their type is asked for. */
static void test_attestations(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *data = rig_data("bundles.json");
        CLEANUP(buffer_fini) struct buffer module = module_load();
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(rig_text(rig.keys, "p256"));
        struct trust_target target = { .kind = TRUST_TARGET_FILE, .bytes = module.data, .size_bytes = module.used };
        digest_sha256(module.data, module.used, &target.digest);
        static const char *const names[] = { "plugin.wasm.v2.att.sigstore.json", "plugin.wasm.v3.att.sigstore.json" }, *const cases[] = { "v2-att-bundle", "v3-att-bundle" };
        static const char *const predicates[] = { "https://example.com/p/v1", NULL };
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .predicates = predicates };
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                struct trust_evidence evidence = rig_bundle_evidence(rig_text(value_get_member(data, "bundles"), names[i]));
                evidence.form = TRUST_FORM_SIDECAR_BUNDLE;
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(keys, &options, &target, &evidence);
                rig_expect(&verdict, RIG_GOOD, "", names[i]);
                struct search search = { .keys = keys, .policy = trust_policy_new(&options), .budget = TRUST_BUDGET };
                search_case(case_find(cases[i]), &search);
                rig_expect(&search.verdict, RIG_GOOD, "", cases[i]);
                trust_proof_fini(&search.verdict.proof);
                trust_policy_unref(&search.policy);
        }
}

/* cosign 2 leaves -a out of its bundles. */
static void test_annotations(void **state)
{
        (void)state;
        static const struct trust_annotation prod = { "env", "prod" }, test = { "env", "test" };
        static const char *const cases[] = { "v3-bundle-anno", "v2-classic-anno", "v3-classic-anno", "v2-bundle-anno" };
        for (size_t i = 0; i < 2 * COUNT_OF(cases); i++) {
                struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .annotations = i % 2 ? &test : &prod, .annotation_count = 1 };
                struct search search = { .keys = rig_parse(rig_text(rig.keys, "p256")), .policy = trust_policy_new(&options), .budget = TRUST_BUDGET };
                search_case(case_find(cases[i / 2]), &search);
                rig_expect(&search.verdict, i % 2 || i / 2 == 3 ? TRUST_ANNOTATION : RIG_GOOD, "env", cases[i / 2]);
                if (search.verdict.is_good)
                        assert_string_equal(search.verdict.proof.annotations, "{\"env\":\"prod\",\"team\":\"x\"}");
                trust_proof_fini(&search.verdict.proof);
                trust_policy_unref(&search.policy);
                trust_keys_unref(&search.keys);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_images), cmocka_unit_test(test_files), cmocka_unit_test(test_attestations), cmocka_unit_test(test_annotations) };
        return cmocka_run_group_tests(tests, setup, teardown);
}
