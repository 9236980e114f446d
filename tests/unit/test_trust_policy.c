/* Policies and their digests, the identity and annotation rules (4.3, 3.4.6), sentences and which of several is kept (9.5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_rig.h"

#define SIGN "https://sigstore.dev/cosign/sign/v1"
#define SLSA "https://slsa.dev/provenance/v1"
static const char *const sign_only[] = { SIGN, NULL }, *const two[] = { SIGN, SLSA, NULL }, *const turned[] = { SLSA, SIGN, SLSA, NULL }, *const slsa_only[] = { SLSA, NULL }, *const none[] = { NULL };
static const struct trust_annotation ab[] = { { "a", "1" }, { "b", "2" } }, ba[] = { { "b", "2" }, { "a", "1" }, { "b", "2" } }, a1b[] = { { "a", "1b" }, { "", "2" } }, ab3[] = { { "a", "1" }, { "b", "3" } };

static struct digest digest_of(struct trust_policy_options options)
{
        struct trust_policy *policy = trust_policy_new(&options);
        struct digest digest = *trust_policy_get_digest(policy);
        trust_policy_unref(&policy);
        assert_null(policy);
        return digest;
}

#define P(...) (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, __VA_ARGS__ }

static bool same(struct trust_policy_options a, struct trust_policy_options b)
{
        struct digest left = digest_of(a), right = digest_of(b);
        return digest_equal(&left, &right);
}

static void test_digests(void **state)
{
        (void)state;
        assert_true(same(P(.predicates = NULL), P(.predicates = NULL)));
        assert_true(same(P(.predicates = NULL), P(.predicates = sign_only)));             /* the default, spelled out */
        assert_true(same(P(.predicates = two), P(.predicates = turned)));
        assert_true(same(P(.annotations = ab, .annotation_count = 2), P(.annotations = ba, .annotation_count = 3)));
        assert_true(same((struct trust_policy_options){ .formats = 3 }, (struct trust_policy_options){ .formats = 3 | 1u << TRUST_FORMATS }));
        const struct trust_policy_options distinct[] = {
                P(.predicates = NULL), { .formats = 0 }, { .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_MINISIGN }, { .formats = 1u << TRUST_BUNDLE }, { .formats = 1u << TRUST_MESSAGE_SIGNATURE_OCI },
                P(.predicates = two), P(.predicates = slsa_only), P(.predicates = none),
                P(.annotations = ab, .annotation_count = 2), P(.annotations = ab, .annotation_count = 1), P(.annotations = a1b, .annotation_count = 2), P(.annotations = ab3, .annotation_count = 2),
                P(.identity = TRUST_IDENTITY_REPOSITORY), P(.identity = TRUST_IDENTITY_EXACT), P(.requires_top_level = true),
        };
        for (size_t i = 0; i < COUNT_OF(distinct); i++)
                for (size_t k = 0; k < COUNT_OF(distinct); k++) {
                        struct digest left = digest_of(distinct[i]), right = digest_of(distinct[k]);
                        if (digest_equal(&left, &right) != (i == k))
                                fail_msg("%zu and %zu", i, k);
                }
}

static void test_log_keys(void **state)
{
        (void)state;
        EVP_PKEY *first = rig_key("P-256"), *second = rig_key("ED25519");
        struct trust_keys *a = rig_public(first), *b = rig_public(second), *sets[2] = { a, b }, *back[2] = { b, a }, *ab_keys = NULL, *ba_keys = NULL;
        struct error err = { 0 };
        assert_true(trust_keys_join(sets, 2, "logs", &ab_keys, &err));
        assert_true(trust_keys_join(back, 2, "logs", &ba_keys, &err));
        assert_true(same(P(.rekor_keys = ab_keys), P(.rekor_keys = ba_keys)));
        assert_false(same(P(.rekor_keys = ab_keys), P(.rekor_keys = a)));
        assert_false(same(P(.rekor_keys = a), P(.predicates = NULL)));

        struct trust_policy *policy = trust_policy_new(&P(.rekor_keys = a)), *again = trust_policy_ref(policy);
        trust_keys_unref(&a);                              /* the policy has its own reference */
        trust_policy_unref(&policy);
        assert_int_equal(trust_keys_get_count(trust_policy_get_options(again)->rekor_keys), 1);
        trust_policy_unref(&again);
        trust_policy_unref(&again);
        trust_keys_unref(&b);
        trust_keys_unref(&ab_keys);
        trust_keys_unref(&ba_keys);
        EVP_PKEY_free(first);
        EVP_PKEY_free(second);
}

/* Everything is copied, sorted and once. */
static void test_copies(void **state)
{
        (void)state;
        char predicate[] = "https://p", name[] = "n", value[] = "v";
        const char *const list[] = { predicate, "https://o", predicate, NULL };
        const struct trust_annotation pairs[] = { { "z", "1" }, { name, value }, { name, value } };
        struct trust_policy *policy = trust_policy_new(&(struct trust_policy_options){ .formats = 5, .predicates = list, .annotations = pairs, .annotation_count = 3,
                                                                                       .identity = TRUST_IDENTITY_EXACT, .requires_top_level = true });
        const struct trust_policy_options *options = trust_policy_get_options(policy);
        memset(predicate, 'x', sizeof predicate - 1);
        name[0] = value[0] = 'x';
        assert_string_equal(options->predicates[0], "https://o");
        assert_string_equal(options->predicates[1], "https://p");
        assert_null(options->predicates[2]);
        assert_int_equal(options->annotation_count, 2);
        assert_string_equal(options->annotations[0].name, "n");
        assert_string_equal(options->annotations[0].value, "v");
        assert_string_equal(options->annotations[1].name, "z");
        assert_int_equal(options->formats, 5);
        assert_int_equal(options->identity, TRUST_IDENTITY_EXACT);
        assert_true(options->requires_top_level);
        assert_null(options->rekor_keys);
        trust_policy_unref(&policy);
        policy = trust_policy_new(&P(.predicates = NULL));
        assert_string_equal(trust_policy_get_options(policy)->predicates[0], SIGN);
        assert_null(trust_policy_get_options(policy)->predicates[1]);
        trust_policy_unref(&policy);
}

static void test_formats(void **state)
{
        (void)state;
        struct trust_policy_options options = P(.predicates = NULL);
        struct judgement judgement = { .policy = &options };
        for (enum trust_format format = 0; format < TRUST_FORMATS; format++)
                assert_int_equal(format_is_on(&judgement, format), format <= TRUST_RAW);
        static const char *const names[] = { "bundle", "simple", "embedded", "detached", "raw", "legacy-bundle", "wasmsign1", "minisign", "rsa-pss", "message-signature-oci" };
        for (size_t i = 0; i < TRUST_FORMATS; i++)
                assert_string_equal(trust_format_names[i], names[i]);
}

static const struct identity_row { enum trust_identity identity; const char *reference, *repository, *tag; bool good; } identities[] = {
        { TRUST_IDENTITY_IGNORE, NULL, NULL, NULL, true }, { TRUST_IDENTITY_IGNORE, "other/x", "host/x", "v1", true }, { TRUST_IDENTITY_IGNORE, "other/x", NULL, NULL, true },
        { TRUST_IDENTITY_IGNORE, "host/x", "host/x", "v1", true }, { TRUST_IDENTITY_IGNORE, "host/x:v2@sha256:00", "host/x", "v1", true },
        { TRUST_IDENTITY_IGNORE, "host/xy", "host/x", "v1", true }, { TRUST_IDENTITY_IGNORE, "host/", "host/x", "v1", true },
        { TRUST_IDENTITY_REPOSITORY, "host/x", "host/x", "v1", true }, { TRUST_IDENTITY_REPOSITORY, "host/x:v2", "host/x", "v1", true }, { TRUST_IDENTITY_REPOSITORY, "host/x", "host/x", NULL, true },
        { TRUST_IDENTITY_REPOSITORY, "host:5000/x:v1", "host:5000/x", NULL, true }, { TRUST_IDENTITY_REPOSITORY, "host:5000/x", "host:5000/x", "v1", true },
        { TRUST_IDENTITY_REPOSITORY, "host/x@sha256:00", "host/x", "v1", true }, { TRUST_IDENTITY_REPOSITORY, "host/x:v1@sha256:00", "host/x", "v1", true },
        { TRUST_IDENTITY_REPOSITORY, "host/x", "host:5000/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host:5000/x", "host/x", "v1", false },
        { TRUST_IDENTITY_REPOSITORY, "host/x", "host/y", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host/xy", "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host/x", "host/xy", "v1", false },
        { TRUST_IDENTITY_REPOSITORY, "Host/x", "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "x", "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "", "host/x", "v1", false },
        { TRUST_IDENTITY_REPOSITORY, "host/x/y:v1", "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host/x ", "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host:v1", "host", "v1", true },
        { TRUST_IDENTITY_REPOSITORY, NULL, "host/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "host/x", NULL, NULL, false }, { TRUST_IDENTITY_REPOSITORY, NULL, NULL, NULL, false },
        { TRUST_IDENTITY_REPOSITORY, "index.docker.io/library/x", "docker.io/library/x", "v1", true }, { TRUST_IDENTITY_REPOSITORY, "docker.io/library/x:v2", "docker.io/library/x", "v1", true },
        { TRUST_IDENTITY_REPOSITORY, "index.docker.io.example/library/x", "docker.io.example/library/x", "v1", false }, { TRUST_IDENTITY_REPOSITORY, "index.host/x", "host/x", "v1", false },
        { TRUST_IDENTITY_EXACT, "index.docker.io/library/x:v1", "docker.io/library/x", "v1", true }, { TRUST_IDENTITY_IGNORE, "index.docker.io/library/x", "docker.io/library/x", "v1", true },
        { TRUST_IDENTITY_EXACT, "host/x:v1", "host/x", "v1", true }, { TRUST_IDENTITY_EXACT, "host/x", "host/x", NULL, true }, { TRUST_IDENTITY_EXACT, "host/x", "host/x", "v1", false },
        { TRUST_IDENTITY_EXACT, "host/x:v2", "host/x", "v1", false }, { TRUST_IDENTITY_EXACT, "host/x:v1", "host/x", NULL, false }, { TRUST_IDENTITY_EXACT, "host/y:v1", "host/x", "v1", false },
        { TRUST_IDENTITY_EXACT, "host/x:v12", "host/x", "v1", false }, { TRUST_IDENTITY_EXACT, "host/x:v", "host/x", "v1", false }, { TRUST_IDENTITY_EXACT, "host/x-v1", "host/x", "v1", false },
        { TRUST_IDENTITY_EXACT, "host:5000/x:v1", "host:5000/x", "v1", true }, { TRUST_IDENTITY_EXACT, NULL, "host/x", "v1", false }, { TRUST_IDENTITY_EXACT, "host/x:v1", NULL, NULL, false },
};

static void test_identity(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(identities); i++) {
                const struct identity_row *row = &identities[i];
                struct trust_policy_options options = P(.identity = row->identity);
                struct trust_target target = { .repository = row->repository, .tag = row->tag };
                struct trust_failure failure = TRUST_FAILURE_NONE;
                struct trust_proof proof = { 0 };
                struct judgement judgement = { .policy = &options, .target = &target, .failure = &failure, .proof = &proof };
                if (policy_check_identity(&judgement, row->reference) != row->good)
                        fail_msg("row %zu: %s against %s", i, row->reference ? row->reference : "-", row->repository ? row->repository : "-");
                assert_int_equal(failure.reason, row->good ? TRUST_REASONS : TRUST_IDENTITY);
                static const char *const others[] = { "other/x", "host/xy", "host/" };
                bool is_other = false;
                for (size_t j = 0; row->identity == TRUST_IDENTITY_IGNORE && row->repository && j < COUNT_OF(others); j++)
                        is_other |= string_equal(row->reference, others[j]);
                assert_int_equal(proof.names_other, is_other);
        }
        struct trust_policy_options options = P(.identity = TRUST_IDENTITY_REPOSITORY);
        struct trust_target target = { .repository = "host/x", .tag = "v1" };
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct judgement judgement = { .policy = &options, .target = &target, .failure = &failure };
        policy_check_identity(&judgement, "other\n/x");
        assert_string_equal(failure.text, "valid signature by this key, but signed for \"other\\x0a/x\", pulled from \"host/x\"");
        options.identity = TRUST_IDENTITY_EXACT;
        policy_check_identity(&judgement, "host/x");
        assert_non_null(strstr(failure.text, "signed for \"host/x\", pulled from \"host/x:v1\""));
        target.tag = NULL;
        policy_check_identity(&judgement, "host/x:v1");
        assert_non_null(strstr(failure.text, "pulled from \"host/x\""));
        policy_check_identity(&judgement, NULL);
        assert_non_null(strstr(failure.text, "names no repository"));
        target.repository = NULL;
        policy_check_identity(&judgement, "host/x:v1");
        assert_non_null(strstr(failure.text, "lies in no repository"));
}

static const struct annotation_row { const char *json; bool good; const char *words; } annotation_rows[] = {
        { "{\"a\":\"1\",\"b\":\"2\"}", true, NULL }, { "{\"b\":\"2\",\"c\":[],\"a\":\"1\"}", true, NULL }, { "{\"a\":\"1\"}", false, "without the annotation b=2" },
        { "{\"a\":\"1\",\"b\":\"3\"}", false, "its annotation b is \"3\" instead of \"2\"" }, { "{\"a\":\"1\",\"b\":2}", false, "without the annotation b=2" }, { "{}", false, "without the annotation a=1" },
        { "{\"A\":\"1\",\"b\":\"2\"}", false, "without the annotation a=1" }, { "{\"a\":\"1 \",\"b\":\"2\"}", false, "is \"1 \"" }, { "{\"a\":\"\\n\",\"b\":\"2\"}", false, "is \"\\x0a\"" },
        { "{\"a\":null,\"b\":\"2\"}", false, "without" }, { "{\"a\":[\"1\"],\"b\":\"2\"}", false, "without" }, { "[\"a\"]", false, "without" }, { NULL, false, "without the annotation a=1" },
};

static void test_annotations(void **state)
{
        (void)state;
        struct trust_policy_options options = P(.annotations = ab, .annotation_count = 2), free_options = P(.predicates = NULL);
        for (size_t i = 0; i < COUNT_OF(annotation_rows); i++) {
                const struct annotation_row *row = &annotation_rows[i];
                CLEANUP(value_free) struct value *value = NULL;
                struct error err = { 0 };
                struct trust_failure failure = TRUST_FAILURE_NONE;
                struct judgement judgement = { .policy = &options, .failure = &failure };
                if (row->json)
                        assert_true(json_parse(row->json, strlen(row->json), ERROR_SIGNATURE_INVALID, &value, &err));
                assert_int_equal(policy_check_annotations(&judgement, value), row->good);
                assert_int_equal(failure.reason, row->good ? TRUST_REASONS : TRUST_ANNOTATION);
                if (row->words && !strstr(failure.text, row->words))
                        fail_msg("%s", failure.text);
                judgement.policy = &free_options;          /* nothing asked for */
                assert_true(policy_check_annotations(&judgement, value));
        }
}

/* ---- words.c ---- */
static void test_miss(void **state)
{
        (void)state;
        struct trust_failure failure = { .others = 5 };
        char big[1000];
        memset(big, 'x', sizeof big - 1);
        big[sizeof big - 1] = '\0';
        assert_false(miss(&failure, TRUST_KEYLESS, "a %d %s", 7, "b"));
        assert_int_equal(failure.reason, TRUST_KEYLESS);
        assert_int_equal(failure.others, 0);
        assert_string_equal(failure.text, "a 7 b");
        assert_false(miss(&failure, TRUST_LIMIT, "%s", big));
        assert_int_equal(strlen(failure.text), sizeof failure.text - 1);
}

static void test_note(void **state)
{
        (void)state;
        struct trust_failure best = TRUST_FAILURE_NONE, other;
        static const struct { enum trust_reason reason; const char *kept; unsigned others; } steps[] = {
                { TRUST_ABSENT, "0", 0 }, { TRUST_OTHER_KEY, "1", 1 }, { TRUST_MALFORMED, "1", 2 }, { TRUST_OTHER_KEY, "1", 3 }, { TRUST_OTHER_DIGEST, "4", 4 }, { TRUST_UNREACHABLE, "4", 5 },
        };
        trust_failure_note(&best, &(struct trust_failure)TRUST_FAILURE_NONE);
        assert_int_equal(best.reason, TRUST_REASONS);
        assert_int_equal(best.others, 0);
        for (size_t i = 0; i < COUNT_OF(steps); i++) {
                miss(&other, steps[i].reason, "%zu", i);
                trust_failure_note(&best, &other);
                assert_string_equal(best.text, steps[i].kept);
                assert_int_equal(best.others, steps[i].others);
        }
        other = (struct trust_failure)TRUST_FAILURE_NONE;
        trust_failure_note(&best, &other);                 /* nothing more */
        assert_int_equal(best.others, 5);
        other.others = 2;
        other.reason = TRUST_WRONG_TYPE;
        trust_failure_note(&best, &other);                 /* one that is the best of three */
        assert_int_equal(best.others, 8);
        assert_int_equal(best.reason, TRUST_OTHER_DIGEST);
        static const char *const names[] = { "sig_other_digest", "sig_wrong_type", "sig_identity", "sig_annotation", "sig_no_log_entry", "sig_truncated_module", "sig_alg", "sig_other_key",
                                             "sig_malformed", "sig_keyless", "sig_not_accepted", "sig_limit", "sig_absent", "sig_unreachable" };
        for (size_t i = 0; i < TRUST_REASONS; i++)
                assert_string_equal(trust_reason_names[i], names[i]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_digests), cmocka_unit_test(test_log_keys), cmocka_unit_test(test_copies), cmocka_unit_test(test_formats), cmocka_unit_test(test_identity),
                cmocka_unit_test(test_annotations), cmocka_unit_test(test_miss), cmocka_unit_test(test_note),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
