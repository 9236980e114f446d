/*
 * How it goes: between what is signed and the module that is handed out lies a step that is not done again: a packed body was unpacked, a manifest's layer was. That it gave this
 *              module is sealed when it was seen, with the hashes that signatures are over; a verdict that is computed again goes from signature to digest, and through the seal to
 *              the module.
 * How it fails: without a good seal nothing leads from a signature to a module, however good it is: the source has to give the content again. Nobody else is concerned.
 * How it ends: rows of the store; what was read of them is the proving's.
 */
#include <string.h>
#include "prove.h"
#include "seal.h"

static const char kind[] = "packed-body";

/* ---- packed bodies ---- */

bool box_is_row(const struct store_evidence *row)
{
        return strcmp(row->kind, kind) == 0;
}

void box_add_row(struct pull *pull, const struct store_evidence *row)
{
        struct proving *proving = pull->proving;
        if (proving->box_count < BOXES_MAX && seal_content_open(store_get_seal_key(pull->store), row, &proving->boxes[proving->box_count]))
                proving->box_count++;
}

void box_judge(struct pull *pull)
{
        struct proving *proving = pull->proving;
        for (size_t i = 0; i < proving->box_count && !proving_is_done(proving); i++) {
                struct trust_target target = { .kind = TRUST_TARGET_FILE, .digest = { .algorithm = DIGEST_SHA256 }, .content = &proving->boxes[i] };
                memcpy(target.digest.bytes, proving->boxes[i].sha256, DIGEST_SHA256_BYTES);
                proving_judge(pull, PROOF_OF_FILE, &target, &pull->module);
                for (size_t j = 0; j < proving->founds.count; j++)
                        proving->founds.items[j].judged = FOUND_NEW;       /* about other bytes than those that come next */
        }
}

void box_format_row(const struct pull *pull, struct buffer *body, struct store_evidence *ret_row)
{
        seal_content(store_get_seal_key(pull->store), &pull->module, &pull->proving->noted, body);
        *ret_row = (struct store_evidence){ .target = pull->module, .kind = kind, .where = pull->want->name, .repository = pull->want->repository, .body = body->data,
                                            .body_bytes = body->used, .extra = "", .found_s = clock_get_wall_s() };
}

/* ---- images ---- */

void lead_add_image(struct pull *pull, const struct store_image *row)
{
        bool is_walked = pull->outcome == PULL_RESOLVED;           /* from top to manifest, by this very pull */
        bool is_below = is_walked || digest_equal(&pull->top, &pull->manifest_digest) || digest_equal(&row->top, &pull->top);
        bool is_asked = is_walked || digest_equal(&row->module, &pull->known_module);
        if (is_below && is_asked && digest_equal(&row->manifest, &pull->manifest_digest) && seal_image_is_good(store_get_seal_key(pull->store), row))
                pull->leads_to = row->module;
}

/* By this demand a signature within the module itself is enough, whatever led to it. */
static bool is_met_within(const struct proving *proving, size_t demand, const struct digest *module)
{
        for (size_t i = 0; proving && i < proving->proof_count; i++)
                if (proving->proofs[i].demand == demand && proving->proofs[i].scope == PROOF_OF_MODULE && digest_equal(&proving->proofs[i].target, module))
                        return true;
        return false;
}

bool lead_is_to(const struct pull *pull, const struct digest *module)
{
        if (!pull->demands || digest_equal(&pull->leads_to, module))
                return true;
        for (size_t i = 0; i < pull->demands->count; i++)
                if (!(pull->known_met && pull->known_met[i]) && !is_met_within(pull->proving, i, module))
                        return false;
        /* Verdicts of before are about this very module. */
        return pull->outcome == PULL_UNCHANGED && digest_equal(&pull->known_module, module);
}

void lead_check_known(struct pull *pull)
{
        if (!pull->demands || !digest_is_set(&pull->known_manifest) || prove_stored(pull) || digest_equal(&pull->leads_to, &pull->known_module))
                return;
        pull->known_top = pull->known_manifest = pull->known_module = (struct digest){ 0 };
        pull->is_proof = false;
}
