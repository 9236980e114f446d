/*
 * How it goes: what the catalog knows of a request's module goes into the pull before it starts: what it may ask about, whose signatures it is for, which demands are met already.
 * How it fails: it cannot; what is not known is pulled as new.
 * How it ends: copies in the pull, freed with it.
 */
#include <string.h>
#include "modules.h"

void pull_know(struct pull *pull, const struct hit *hit)
{
        if (!hit->entry)
                return;
        const struct digest none = { 0 };
        bool is_unverified = hit->result == HIT_UNVERIFIED;
        pull->is_proof = hit->result == HIT_UNPROVEN || (is_unverified && hit->image);      /* its signatures are looked for by its digest, whatever the tag means by now */
        pull->is_for_signatures = is_unverified;
        if (is_unverified)
                pull->known_module = hit->entry->sha256;
        if (pull->want->kind != WANT_OCI) {
                /* A url proves itself by its bytes: what is known helps only to ask whether they changed. */
                if (hit->result != HIT_UNPROVEN && hit->reference && hit->reference->entry == hit->entry) {
                        pull->known_module = hit->entry->sha256;
                        pull->known_etag = string_copy(hit->reference->etag ? hit->reference->etag : "");
                }
                return;
        }
        /* Content of another repository is nothing that this one could be asked about: it has to bring it. */
        if (!hit->image || !grant_is_shown(pull->want, hit->image, hit->reference)) {
                pull->is_proof = false;
                return;
        }
        bool by_name = hit->reference && hit->reference->image == hit->image;
        pull->known_module = hit->entry->sha256;
        pull->known_manifest = hit->image->manifest;
        pull->known_top = digest_is_set(&pull->want->pin) ? pull->want->pin : by_name ? *reference_get_top(hit->reference) : hit->image->manifest;
        if (hit->result == HIT_REVALIDATE && !by_name)
                pull->known_top = none;
}

void pull_know_verdicts(struct modules *modules, struct pull *pull, const struct ask *ask, const struct hit *hit)
{
        pull->demands = demands_ref((struct demands *)(uintptr_t)hit->demands);
        if (!pull->demands || !hit->entry)
                return;
        struct hit_question question = question_of(modules, ask);
        struct proof_targets targets = hit_get_targets(&question, hit);
        if (targets.is_image)
                targets.top = digest_is_set(&pull->known_top) ? &pull->known_top : NULL;
        pull->known_met = memory_new(pull->demands->count, sizeof *pull->known_met);
        for (size_t i = 0; i < pull->demands->count; i++)
                pull->known_met[i] = demand_find_verdict(modules->verdicts, &pull->demands->items[i], &targets) != NULL;
}
