/*
 * How it goes: signature objects are collected, from the store and from the source, each once; each is judged once under every demand that is still open.
 * How it fails: what does not do leaves the nearest miss and a number for the metrics.
 * How it ends: with the proving that they belong to.
 */
#include <stdlib.h>
#include <string.h>
#include "prove.h"

/* ---- what was found ---- */

void found_fini(struct found *found)
{
        buffer_fini(&found->body);
        free(found->signature);
        free(found->log_entry);
        free(found->where);
}

struct found *founds_add(struct founds *founds)
{
        founds->items = memory_resize(founds->items, founds->count + 1, sizeof *founds->items);
        struct found *found = &founds->items[founds->count++];
        *found = (struct found){ 0 };
        return found;
}

void founds_fini(struct founds *founds)
{
        for (size_t i = 0; i < founds->count; i++)
                found_fini(&founds->items[i]);
        free(founds->items);
        *founds = (struct founds){ 0 };
}

bool founds_add_row(struct founds *founds, const struct store_evidence *row)
{
        size_t form = 0;
        while (form < TRUST_FORMS && strcmp(trust_form_names[form], row->kind) != 0)
                form++;
        struct error err;
        CLEANUP(value_free) struct value *extra = NULL;
        const char *signature = NULL, *log_entry = NULL;
        bool has_certificate = false;
        bool has_extra = row->extra && *row->extra && strcmp(row->extra, "{}") != 0;
        if (form == TRUST_FORMS || (has_extra && !json_parse(row->extra, strlen(row->extra), ERROR_INTERNAL, &extra, &err)))
                return false;
        if (extra && (!value_read_text(extra, "signature", ERROR_INTERNAL, &signature, &err) || !value_read_text(extra, "logEntry", ERROR_INTERNAL, &log_entry, &err) ||
                      !value_read_bool(extra, "certificate", ERROR_INTERNAL, &has_certificate, &err)))
                return false;
        struct found *found = founds_add(founds);
        found->target = row->target;
        found->form = (enum trust_form)form;
        found->is_stored = true;
        found->signature = string_copy(signature);
        found->log_entry = string_copy(log_entry);
        found->has_certificate = has_certificate;
        found->where = string_copy(row->where);
        buffer_append(&found->body, row->body, row->body_bytes);
        return true;
}

struct trust_evidence found_get_evidence(const struct found *found)
{
        return (struct trust_evidence){ .form = found->form, .body = found->body.data ? found->body.data : "", .body_bytes = found->body.used, .signature = found->signature,
                                        .log_entry = found->log_entry, .has_certificate = found->has_certificate, .where = found->where };
}

static bool found_equal(const struct found *a, const struct found *b)
{
        return a->form == b->form && a->has_certificate == b->has_certificate && digest_equal(&a->target, &b->target) && string_equal(a->signature, b->signature) &&
               string_equal(a->log_entry, b->log_entry) && a->body.used == b->body.used && (a->body.used == 0 || memcmp(a->body.data, b->body.data, a->body.used) == 0);
}

bool founds_take(struct founds *founds, struct found *found)
{
        for (size_t i = 0; i < founds->count; i++)
                if (found_equal(&founds->items[i], found)) {
                        found_fini(found);
                        return false;
                }
        *founds_add(founds) = *found;
        return true;
}

/* ---- judging ---- */

void proving_tally(struct proving *proving, const char *format, enum trust_form form, size_t reason)
{
        static const char *const formats[TRUST_FORMS] = {
                [TRUST_FORM_BUNDLE] = "cosign-bundle", [TRUST_FORM_SIMPLE] = "cosign-simple", [TRUST_FORM_EMBEDDED] = "wasm-embedded",
                [TRUST_FORM_SIDECAR_BUNDLE] = "sigstore-bundle", [TRUST_FORM_SIDECAR_SIG] = "raw", [TRUST_FORM_SIDECAR_LEGACY] = "legacy-bundle",
                [TRUST_FORM_SIDECAR_MINISIG] = "minisign",
        };
        size_t row = 0;
        const char *name = format ? format : form < TRUST_FORMS ? formats[form] : module_proof_names[0];
        while (row + 1 < MODULE_PROOFS && strcmp(module_proof_names[row], name) != 0)
                row++;
        proving->tallies[row][reason]++;
}

static bool judge(struct pull *pull, size_t demand, const struct trust_target *target, const struct trust_evidence *evidence, struct trust_proof *ret_proof)
{
        struct proving *proving = pull->proving;
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct trust_demand asked = { .keys = proving->demands->items[demand].keys, .policy = proving->demands->items[demand].policy };
        if (trust_judge(&asked, target, evidence, &proving->budget, ret_proof, &failure)) {
                proving_tally(proving, ret_proof->format, evidence->form, 0);
                return true;
        }
        /* A module without a signature section is no miss: it is one more place that was looked at. */
        if (failure.reason >= TRUST_REASONS || (evidence->form == TRUST_FORM_EMBEDDED && failure.reason == TRUST_ABSENT))
                return false;
        proving_tally(proving, NULL, evidence->form, 1 + (size_t)failure.reason);
        trust_failure_note(&proving->failures[demand], &failure);
        return false;
}

bool proving_judge_one(struct pull *pull, const struct judged_as *as, const struct trust_target *target, const struct trust_evidence *evidence)
{
        struct proving *proving = pull->proving;
        struct trust_proof proof = { 0 };
        if (!judge(pull, as->demand, target, evidence, &proof))
                return false;
        proving->met[as->demand] = true;
        proving->proofs = memory_resize(proving->proofs, proving->proof_count + 1, sizeof *proving->proofs);
        proving->proofs[proving->proof_count++] = (struct proven){
                .scope = as->scope, .target = *as->target, .demand = as->demand, .proof = proof, .where = string_copy(evidence->where), .form = evidence->form, .found = as->found,
        };
        return true;
}

/* Once is enough, but for a signature over the bytes of a manifest, where those were not at hand the first time. */
static bool is_news(const struct found *found, const struct trust_target *target)
{
        return found->judged == FOUND_NEW || (found->judged == FOUND_JUDGED_BLIND && target->bytes && found->form == TRUST_FORM_BUNDLE);
}

void proving_judge(struct pull *pull, enum proof_scope scope, const struct trust_target *target, const struct digest *remembered_as)
{
        struct proving *proving = pull->proving;
        for (size_t demand = 0; demand < proving->demands->count; demand++)
                /* In order of form, the better kept first ([sig] 9.1). */
                for (enum trust_form form = 0; form < TRUST_FORMS && !proving->met[demand]; form++)
                        for (size_t i = 0; i < proving->founds.count && !proving->met[demand]; i++) {
                                const struct found *found = &proving->founds.items[i];
                                if (found->form != form || !digest_equal(&found->target, remembered_as) || !is_news(found, target))
                                        continue;
                                struct trust_evidence evidence = found_get_evidence(found);
                                proving_judge_one(pull, &(struct judged_as){ scope, remembered_as, demand, i }, target, &evidence);
                        }
        for (size_t i = 0; i < proving->founds.count; i++)
                if (digest_equal(&proving->founds.items[i].target, remembered_as))
                        proving->founds.items[i].judged = target->bytes ? FOUND_JUDGED : FOUND_JUDGED_BLIND;
}
