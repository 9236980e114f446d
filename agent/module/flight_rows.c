/*
 * How it goes: which rows a pull that found something is to write: those that say something new, and of what was only checked again no more than one in SAVE_CHECKED_S.
 * How it fails: it cannot; what is not written is asked again after a restart.
 * How it ends: flags in the pull, for the worker that commits.
 */
#include <string.h>
#include "modules.h"

enum { SAVE_CHECKED_S = 30 };

/* A source asked with this request's credentials for what this request may remember. */
void flight_choose_rows(struct flight *flight, bool is_new, const struct entry *entry)
{
        struct pull *pull = &flight->pull;
        struct pull_rows rows;
        struct catalog *catalog = &flight->modules->catalog;
        const struct known_reference *reference = catalog_find_reference(catalog, pull->want->name);
        const struct image *image = catalog_find_image(catalog, &pull->manifest_digest);
        pull->now_s = clock_get_wall_s();
        pull_get_rows(pull, &rows);
        bool is_same_image = image && digest_equal(&image->manifest, &pull->manifest_digest) && digest_equal(image->top, &pull->top);
        bool is_same_reference = reference && entry && reference->entry == entry && (!image || reference->image == image) &&
                                 (!reference->image || digest_equal(reference_get_top(reference), &pull->top)) && pull->now_s - reference->saved_s < SAVE_CHECKED_S;
        pull->wants_image_row = pull->want->kind == WANT_OCI && pull->document && (is_new || !is_same_image);
        pull->wants_reference_row = is_new || (!pull->is_proof && !is_same_reference) || !reference;
        pull->wants_grant_row = is_new || !catalog_find_grant(catalog, &rows.grant);
        pull->wants_resource_row = pull->want->resource_name && pull->want->policy == MODULE_POLICY_ALWAYS;
}

/* What a proof by digest says nothing about is what the tag means. */
void pull_drop_rows_of_proof(struct pull *pull)
{
        if (pull->is_proof && pull->outcome == PULL_UNCHANGED && pull->want->kind == WANT_OCI && !digest_is_set(&pull->want->reference.digest))
                pull->wants_reference_row = false;
}

/* A newer pull of the same name was committed before this older one wrote its row: the newer meaning is written again. */
void flight_keep_newest(struct flight *flight)
{
        struct modules *modules = flight->modules;
        const struct known_reference *reference = catalog_find_reference(&modules->catalog, flight->pull.want->name);
        if (flight->pull.wants_reference_row && reference && reference->sequence > flight->sequence)
                reference_save_start(modules, reference);
}
