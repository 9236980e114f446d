/*
 * How it goes: the form of the evidence names its judge; what kind of target it may be about, its size and what is left of the budget are looked at before.
 * How it fails: with the judge's reason, the place of the evidence before the sentence; nothing of a proof is left then.
 * How it ends: a proof is handed out whole; trust_proof_fini() frees its annotations.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "room.h"

enum { BODY_BYTES_MAX = 1 << 20 };                        /* of one bundle, payload or sidecar (9.2.7) */
enum { MANIFEST = 1u << TRUST_TARGET_MANIFEST, FILES = 1u << TRUST_TARGET_FILE, MODULE = 1u << TRUST_TARGET_MODULE };

const char *const trust_form_names[TRUST_FORMS] = {
        [TRUST_FORM_BUNDLE] = "bundle", [TRUST_FORM_SIMPLE] = "simple", [TRUST_FORM_EMBEDDED] = "embedded", [TRUST_FORM_SIDECAR_BUNDLE] = "sidecar-bundle",
        [TRUST_FORM_SIDECAR_SIG] = "sidecar-sig", [TRUST_FORM_SIDECAR_LEGACY] = "sidecar-legacy", [TRUST_FORM_SIDECAR_MINISIG] = "sidecar-minisig",
};

static const struct { bool (*judge)(struct judgement *judgement); unsigned kinds; } forms[TRUST_FORMS] = {
        [TRUST_FORM_BUNDLE] = { judge_bundle, MANIFEST },
        [TRUST_FORM_SIMPLE] = { judge_simple, MANIFEST },
        [TRUST_FORM_EMBEDDED] = { judge_embedded, MODULE },
        [TRUST_FORM_SIDECAR_BUNDLE] = { judge_bundle, FILES },
        [TRUST_FORM_SIDECAR_SIG] = { judge_sidecar_sig, FILES | MODULE },          /* detached wasm data is about the module */
        [TRUST_FORM_SIDECAR_LEGACY] = { judge_sidecar_legacy, FILES },
        [TRUST_FORM_SIDECAR_MINISIG] = { judge_sidecar_minisig, FILES },
};

static const char *const kind_names[] = { [TRUST_TARGET_MANIFEST] = "an image", [TRUST_TARGET_FILE] = "a file", [TRUST_TARGET_MODULE] = "a wasm module" };

/* A module in an image that is signed itself says no more about the top level than a signed child does: either may be swapped for another signed one. */
static bool is_below_top(const struct trust_target *target)
{
        return target->is_child || (target->kind == TRUST_TARGET_MODULE && target->repository);
}

static size_t evidence_bytes(const struct trust_evidence *evidence)
{
        return evidence->body_bytes + (evidence->signature ? strlen(evidence->signature) : 0) + (evidence->log_entry ? strlen(evidence->log_entry) : 0);
}

static bool evidence_take(struct judgement *judgement)
{
        const struct trust_evidence *evidence = judgement->evidence;
        const struct trust_target *target = judgement->target;
        size_t size = evidence_bytes(evidence);
        if (!(forms[evidence->form].kinds >> target->kind & 1))
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "a signature of the form %s says nothing about %s", trust_form_names[evidence->form],
                            kind_names[target->kind]);
        if (judgement->policy->requires_top_level && is_below_top(target))
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "only a signature of what the reference names counts (trust.require_top_level_signature); sign the index");
        if (evidence->body_bytes > BODY_BYTES_MAX)
                return miss(judgement->failure, TRUST_LIMIT, "it has %zu bytes, at most %d are looked at", evidence->body_bytes, BODY_BYTES_MAX);
        if (size > judgement->budget->bytes)
                return miss(judgement->failure, TRUST_LIMIT, "too many signatures to examine: no more bytes are taken; remove those that are no longer needed");
        judgement->budget->bytes -= size;
        return true;
}

bool trust_judge(const struct trust_demand *demand, const struct trust_target *target, const struct trust_evidence *evidence, struct trust_budget *budget,
                 struct trust_proof *ret_proof, struct trust_failure *ret_failure)
{
        struct trust_proof proof = { 0 };
        struct trust_failure failure = { .reason = TRUST_MALFORMED, .text = "it cannot be used" };
        struct judgement judgement = { demand, trust_policy_get_options(demand->policy), target, evidence, budget, &failure, &proof };
        if (evidence_take(&judgement) && forms[evidence->form].judge(&judgement)) {
                *ret_proof = proof;
                return true;
        }
        trust_proof_fini(&proof);
        *ret_failure = failure;
        if (evidence->where)
                snprintf(ret_failure->text, sizeof ret_failure->text, "%.110s: %.280s", evidence->where, failure.text);
        return false;
}

void trust_proof_fini(struct trust_proof *proof)
{
        free(proof->annotations);
        *proof = (struct trust_proof){ 0 };
}
