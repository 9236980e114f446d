/*
 * How it goes: what a worker has judged becomes verdicts in memory, under which later requests are hits without crypto; numbers go to the metrics.
 * How it fails: it does not; a pull that failed leaves numbers only.
 * How it ends: the proofs move out of the pull, which is freed without them.
 */
#include <string.h>
#include "modules.h"
#include "prove.h"

const char *const module_proof_names[MODULE_PROOFS] = {
        "none", "cosign-bundle", "cosign-simple", "wasm-embedded", "wasm-detached", "sigstore-bundle", "raw", "legacy-bundle", "wasmsign1", "minisign",
};
_Static_assert(MODULE_PROOF_REASONS == TRUST_REASONS + 1, "one row for each reason, and one for none");

const char *module_reason_name(size_t reason)
{
        return reason == 0 ? "" : trust_reason_names[reason - 1];
}

void verifications_count(struct modules *modules, struct pull *pull)
{
        if (!pull->proving)
                return;
        for (size_t i = 0; i < MODULE_PROOFS; i++)
                for (size_t j = 0; j < MODULE_PROOF_REASONS; j++)
                        modules->stats.verifications[i][j] += pull->proving->tallies[i][j];
        memset(pull->proving->tallies, 0, sizeof pull->proving->tallies);
}

void verification_count(struct modules *modules, const char *format)
{
        size_t row = 0;
        while (row + 1 < MODULE_PROOFS && strcmp(module_proof_names[row], format) != 0)
                row++;
        modules->stats.verifications[row][0]++;
}

bool pull_has_evidence(const struct pull *pull)
{
        return pull->proving && pull->proving->has_news && pull->proving->proof_count > 0;
}

void verdicts_take(struct modules *modules, struct pull *pull)
{
        struct proving *proving = pull->proving;
        int64_t now_s = clock_get_wall_s();
        for (size_t i = 0; proving && i < proving->proof_count; i++) {
                struct proven *proven = &proving->proofs[i];
                const struct demand *demand = &proving->demands->items[proven->demand];
                const struct digest *module = proven->scope == PROOF_OF_MANIFEST ? &pull->leads_to : &proven->target;
                if (!digest_is_set(module))
                        continue;                 /* a good signature of a manifest whose layer did not come */
                struct verdict verdict = {
                        .format = proven->proof.format,
                        .algorithm = proven->proof.algorithm,
                        .form = trust_form_names[proven->form],
                        .fingerprint = proven->proof.fingerprint,
                        .where = TAKE(proven->where),
                        .annotations = TAKE(proven->proof.annotations),
                        .logged_s = proven->proof.logged_s,
                        .proved_s = now_s,
                        .scope = proven->scope,
                        .target = proven->target,
                        .module = *module,
                        .demand = demand->id,
                };
                char fingerprint[DIGEST_TEXT_BYTES], target[DIGEST_TEXT_BYTES];
                digest_format_hex(&verdict.fingerprint, fingerprint);
                digest_format(&verdict.target, target);
                const char *shown_key = fingerprint, *shown_target = target;
                LOG_INFO("verified", LOG_TEXT("url", pull->want->name), LOG_TEXT("target", shown_target), LOG_TEXT("format", verdict.format), LOG_TEXT("key", shown_key),
                         LOG_TEXT("where", verdict.where));
                if (proven->proof.names_other) {
                        modules->stats.identity_mismatches++;
                        LOG_DEBUG("signed_for_another_name", LOG_TEXT("url", pull->want->name), LOG_TEXT("where", verdict.where));
                }
                verdict_put(modules->verdicts, &verdict);
        }
}
