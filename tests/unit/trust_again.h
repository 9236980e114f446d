/* For tests of trust: whatever is judged of a file is judged once more without its bytes, by what was noted of them, and has to come out the same. Include after cmocka.h. */
#pragma once
#include <string.h>
#include <wasmcached/trust.h>

struct judged_before { const struct trust_demand *demand; const struct trust_target *target; const struct trust_evidence *evidence; struct trust_budget budget; bool is_good; };

__attribute__((unused)) static void judge_again(const struct judged_before *before, const struct trust_proof *proof, const struct trust_failure *failure)
{
        struct trust_content noted = { 0 };
        struct trust_target target = *before->target;
        struct trust_budget budget = before->budget, second = before->budget;
        struct trust_proof again = { 0 };
        struct trust_failure missed = TRUST_FAILURE_NONE;
        if (target.kind != TRUST_TARGET_FILE || !target.bytes || (before->evidence->body_bytes >= 3 && memcmp(before->evidence->body, "\1\1\1", 3) == 0))
                return;                           /* detached wasm data is about the module itself */
        target.noted = &noted;
        assert_int_equal(trust_judge(before->demand, &target, before->evidence, &budget, &again, &missed), before->is_good);
        trust_proof_fini(&again);
        trust_content_fill(&noted, target.bytes, target.size_bytes);
        target.bytes = NULL;
        target.size_bytes = 0;
        target.noted = NULL;
        target.content = &noted;
        if (trust_judge(before->demand, &target, before->evidence, &second, &again, &missed) != before->is_good)
                fail_msg("without the bytes it is %s: %s", before->is_good ? "refused" : "taken", before->is_good ? missed.text : failure->text);
        if (before->is_good)
                assert_true(again.format == proof->format && again.algorithm == proof->algorithm && digest_equal(&again.fingerprint, &proof->fingerprint) && again.logged_s == proof->logged_s);
        else
                assert_int_equal(missed.reason, failure->reason);
        assert_int_equal(second.verifications, budget.verifications);
        trust_proof_fini(&again);
}
