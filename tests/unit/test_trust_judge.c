/* What trust_judge() sees to before and after a judge: form, kind of target, top level, sizes, budget, and that nothing is left of a proof that failed. The judges here are the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_rig.h"

static struct { const char *name; bool good; unsigned calls; struct judgement seen; } judged;

static bool judge_any(struct judgement *judgement, const char *name)
{
        judged.name = name;
        judged.calls++;
        judged.seen = *judgement;
        judgement->proof->format = "raw";
        judgement->proof->annotations = string_copy("{}");         /* half a proof, also when it fails: no leak, nothing handed out */
        return judged.good || miss(judgement->failure, TRUST_OTHER_KEY, "no key fits");
}

#define JUDGE(name) bool name(struct judgement *judgement) { return judge_any(judgement, #name); }
JUDGE(judge_bundle)
JUDGE(judge_simple)
JUDGE(judge_embedded)
JUDGE(judge_sidecar_sig)
JUDGE(judge_sidecar_legacy)
JUDGE(judge_sidecar_minisig)

static const struct form { enum trust_form form; const char *name, *judge; bool kinds[3]; } forms[] = {
        { TRUST_FORM_BUNDLE, "bundle", "judge_bundle", { true, false, false } }, { TRUST_FORM_SIMPLE, "simple", "judge_simple", { true, false, false } },
        { TRUST_FORM_EMBEDDED, "embedded", "judge_embedded", { false, false, true } }, { TRUST_FORM_SIDECAR_BUNDLE, "sidecar-bundle", "judge_bundle", { false, true, false } },
        { TRUST_FORM_SIDECAR_SIG, "sidecar-sig", "judge_sidecar_sig", { false, true, true } }, { TRUST_FORM_SIDECAR_LEGACY, "sidecar-legacy", "judge_sidecar_legacy", { false, true, false } },
        { TRUST_FORM_SIDECAR_MINISIG, "sidecar-minisig", "judge_sidecar_minisig", { false, true, false } },
};

static struct trust_policy *policy, *top_policy;

static int setup(void **state)
{
        (void)state;
        policy = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        top_policy = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .requires_top_level = true });
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        trust_policy_unref(&policy);
        trust_policy_unref(&top_policy);
        return 0;
}

static struct trust_failure failure;
static struct trust_proof proof;
static struct trust_budget budget;

static bool judge(const struct trust_policy *by, const struct trust_target *target, const struct trust_evidence *evidence, bool good)
{
        struct trust_demand demand = { NULL, by };
        failure = TRUST_FAILURE_NONE;
        proof = (struct trust_proof){ .logged_s = 77 };
        judged.good = good;
        judged.calls = 0;
        return trust_judge(&demand, target, evidence, &budget, &proof, &failure);
}

static void test_dispatch(void **state)
{
        (void)state;
        budget = TRUST_BUDGET;
        assert_int_equal(COUNT_OF(forms), TRUST_FORMS);
        for (size_t i = 0; i < COUNT_OF(forms); i++) {
                assert_string_equal(trust_form_names[forms[i].form], forms[i].name);
                for (enum trust_target_kind kind = TRUST_TARGET_MANIFEST; kind <= TRUST_TARGET_MODULE; kind++) {
                        struct trust_target target = { .kind = kind };
                        struct trust_evidence evidence = { .form = forms[i].form, .where = "here" };
                        bool good = judge(policy, &target, &evidence, true);
                        assert_int_equal(good, forms[i].kinds[kind]);
                        assert_int_equal(judged.calls, good);
                        if (good) {
                                assert_string_equal(judged.name, forms[i].judge);
                                assert_ptr_equal(judged.seen.target, &target);
                                assert_ptr_equal(judged.seen.evidence, &evidence);
                                assert_ptr_equal(judged.seen.policy, trust_policy_get_options(policy));
                                assert_ptr_equal(judged.seen.budget, &budget);
                                assert_string_equal(proof.format, "raw");
                                assert_int_equal(proof.logged_s, 0);
                                assert_int_equal(failure.reason, TRUST_REASONS);
                                trust_proof_fini(&proof);
                                assert_null(proof.annotations);
                        } else {
                                assert_int_equal(failure.reason, TRUST_NOT_ACCEPTED);
                                assert_int_equal(strncmp(failure.text, "here: a signature of the form ", 30), 0);
                                assert_int_equal(proof.logged_s, 77);
                        }
                }
        }
}

static void test_failure(void **state)
{
        (void)state;
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST };
        budget = TRUST_BUDGET;
        assert_false(judge(policy, &target, &(struct trust_evidence){ .form = TRUST_FORM_BUNDLE, .where = "referrer sha256:00" }, false));
        assert_string_equal(failure.text, "referrer sha256:00: no key fits");
        assert_int_equal(failure.reason, TRUST_OTHER_KEY);
        assert_null(proof.format);
        assert_null(proof.annotations);
        assert_int_equal(proof.logged_s, 77);              /* outputs untouched */
        assert_false(judge(policy, &target, &(struct trust_evidence){ .form = TRUST_FORM_BUNDLE }, false));
        assert_string_equal(failure.text, "no key fits");
        char where[600];
        memset(where, 'w', sizeof where - 1);
        where[sizeof where - 1] = '\0';
        assert_false(judge(policy, &target, &(struct trust_evidence){ .form = TRUST_FORM_BUNDLE, .where = where }, false));
        assert_non_null(strstr(failure.text, "w: no key fits"));   /* the place never pushes the sentence out */
}

static void test_top_level(void **state)
{
        (void)state;
        static const struct { struct trust_target target; enum trust_form form; bool good; } rows[] = {
                { { .kind = TRUST_TARGET_MANIFEST, .repository = "h/x" }, TRUST_FORM_BUNDLE, true }, { { .kind = TRUST_TARGET_MANIFEST, .repository = "h/x", .is_child = true }, TRUST_FORM_BUNDLE, false },
                { { .kind = TRUST_TARGET_MANIFEST, .repository = "h/x", .is_child = true }, TRUST_FORM_SIMPLE, false }, { { .kind = TRUST_TARGET_FILE }, TRUST_FORM_SIDECAR_SIG, true },
                { { .kind = TRUST_TARGET_MODULE }, TRUST_FORM_EMBEDDED, true }, { { .kind = TRUST_TARGET_MODULE, .repository = "h/x" }, TRUST_FORM_EMBEDDED, false },
        };
        budget = TRUST_BUDGET;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct trust_evidence evidence = { .form = rows[i].form };
                assert_true(judge(policy, &rows[i].target, &evidence, true));
                trust_proof_fini(&proof);
                assert_int_equal(judge(top_policy, &rows[i].target, &evidence, true), rows[i].good);
                assert_int_equal(judged.calls, rows[i].good);
                if (rows[i].good)
                        trust_proof_fini(&proof);
                else
                        assert_int_equal(failure.reason, TRUST_NOT_ACCEPTED);
                if (!rows[i].good)
                        assert_non_null(strstr(failure.text, "require_top_level_signature"));
        }
}

/* 9.2.7: 1 MiB each, 8 MiB in all, over all judgements of one flight. */
static void test_budget(void **state)
{
        (void)state;
        static char body[(1 << 20) + 1];
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST };
        struct trust_evidence evidence = { .form = TRUST_FORM_SIMPLE, .body = body, .body_bytes = 1 << 20 };
        budget = TRUST_BUDGET;
        assert_int_equal(budget.verifications, 256);
        for (size_t i = 0; i < 8; i++)
                assert_false(judge(policy, &target, &evidence, false));
        assert_int_equal(judged.calls, 1);
        assert_int_equal(budget.bytes, 0);
        evidence.body_bytes = 1;
        assert_false(judge(policy, &target, &evidence, true));
        assert_int_equal(failure.reason, TRUST_LIMIT);
        assert_int_equal(judged.calls, 0);
        evidence.body_bytes = 0;
        assert_true(judge(policy, &target, &evidence, true));
        trust_proof_fini(&proof);

        budget.bytes = 20;
        evidence = (struct trust_evidence){ .form = TRUST_FORM_SIMPLE, .body = body, .body_bytes = 8, .signature = "12345", .log_entry = "1234567" };
        assert_true(judge(policy, &target, &evidence, true));
        trust_proof_fini(&proof);
        assert_int_equal(budget.bytes, 0);
        budget.bytes = 19;
        assert_false(judge(policy, &target, &evidence, true));
        assert_int_equal(failure.reason, TRUST_LIMIT);
        assert_int_equal(budget.bytes, 19);

        budget = TRUST_BUDGET;
        evidence.body_bytes = (1 << 20) + 1;
        assert_false(judge(policy, &target, &evidence, true));
        assert_int_equal(failure.reason, TRUST_LIMIT);
        assert_string_equal(failure.text, "it has 1048577 bytes, at most 1048576 are looked at");
        assert_int_equal(judged.calls, 0);
        assert_int_equal(budget.bytes, 8 << 20);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_dispatch), cmocka_unit_test(test_failure), cmocka_unit_test(test_top_level), cmocka_unit_test(test_budget) };
        return cmocka_run_group_tests(tests, setup, teardown);
}
