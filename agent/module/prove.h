/*
 * prove: what a pull must show of signatures before its content counts. Worker only. Evidence comes from the store first, then from the source, then from the module itself; the
 * room `trust` judges it. [sig] 9.1, 9.2, 9.4
 */
#pragma once
#include "pull.h"

enum { BOXES_MAX = 8, PROVE_LOOK_MS = 15000, PROVE_CANDIDATES_MAX = 32, PROVE_BODY_MAX_BYTES = 1 << 20 };

/* One signature object that was found or stored. */
struct found {
        struct digest target;
        enum trust_form form;
        struct buffer body;
        char *signature, *log_entry, *where;
        bool has_certificate, is_stored;
        enum { FOUND_NEW, FOUND_JUDGED_BLIND /* without the bytes of the target */, FOUND_JUDGED } judged;
        struct digest id;                         /* of the stored row, where somebody asked for it */
};
struct founds { struct found *items; size_t count; uint64_t bytes; };
void found_fini(struct found *found);
struct found *founds_add(struct founds *founds);                   /* zeroed */
/* Takes what `found` has; false (and frees it) when the same is there already. */
bool founds_take(struct founds *founds, struct found *found);
void founds_fini(struct founds *founds);
/* A copy of a stored row; false (and nothing added) when it is of no form that is known. */
bool founds_add_row(struct founds *founds, const struct store_evidence *row);
struct trust_evidence found_get_evidence(const struct found *found);        /* borrowed */

/* A demand that is met, and by what: an index into founds, SIZE_MAX = the module itself. */
struct proven { enum proof_scope scope; struct digest target; size_t demand; struct trust_proof proof; char *where; enum trust_form form; size_t found; };

struct proving {
        const struct demands *demands;
        bool *met;                                /* by demand */
        struct trust_failure *failures;           /* by demand: the nearest miss */
        struct founds founds;
        struct proven *proofs; size_t proof_count;
        struct buffer looked;                     /* what was looked at and what it said, for "looked at: …" */
        struct error unreachable;                 /* the first place that could not be looked at; code ERROR_NONE = all could */
        struct trust_budget budget;
        bool has_tried_stored, has_news;          /* news: evidence that the store has not */
        bool is_over_limit;
        struct digest judged_module; bool is_module_judged;
        struct trust_content noted; bool has_noted;       /* of a packed body whose signatures were good */
        struct trust_content boxes[BOXES_MAX]; size_t box_count;   /* stored: of packed bodies that gave pull->module */
        struct digest body;                       /* of a url, as delivered: what lies beside it is about that */
        unsigned tallies[MODULE_PROOFS][MODULE_PROOF_REASONS];
};
void proving_free(struct proving **proving);
bool proving_is_done(const struct proving *proving);               /* every demand is met */
struct judged_as { enum proof_scope scope; const struct digest *target; size_t demand, found /* SIZE_MAX: the module itself */; };
bool proving_judge_one(struct pull *pull, const struct judged_as *as, const struct trust_target *target, const struct trust_evidence *evidence);
void proving_tally(struct proving *proving, const char *format, enum trust_form form, size_t reason);      /* format NULL: that of the form */
/* Judges everything found about `target` under every demand that is not met. */
void proving_judge(struct pull *pull, enum proof_scope scope, const struct trust_target *target, const struct digest *remembered_as);
void proving_note_looked(struct proving *proving, const char *format, ...) __attribute__((format(printf, 2, 3)));
void proving_note_unreachable(struct proving *proving, const struct error *err);
/* The one sentence; always false. */
bool proving_refuse(struct pull *pull, struct error *err);

/* The steps of a pull; true without demands. */
bool prove_keys(struct pull *pull, struct error *err);             /* first: what was too slow to check of the request's key where it was read */
bool prove_stored(struct pull *pull);                              /* by what is known and stored alone: false = not proved by that, no error */
bool prove_image(struct pull *pull, struct error *err);            /* OCI, resolved: the manifest's signatures, before any byte of a layer */
bool prove_body(struct pull *pull, bool is_module, struct error *err);     /* http(s), file: the body in pull->writer as it came */
bool prove_module(struct pull *pull, struct error *err);           /* the end: what is still open is judged on the module, or refused */
bool prove_save(struct pull *pull, struct error *err);             /* evidence and proofs into the store */
void prove_refuse_unreachable(struct pull *pull, const struct error *was, struct error *err);      /* the source of what is here cannot be asked for its signatures */
/* prove_box.c: what leads from that which is signed to the module, sealed. */
bool box_is_row(const struct store_evidence *row);
void box_add_row(struct pull *pull, const struct store_evidence *row);
void box_judge(struct pull *pull);                                 /* what lies beside a url, by what was noted of the bodies that gave pull->module */
void box_format_row(const struct pull *pull, struct buffer *body, struct store_evidence *ret_row);         /* borrowed from pull and body */
void lead_add_image(struct pull *pull, const struct store_image *row);     /* a row about top or manifest: sets pull->leads_to where its seal is good */
void lead_check_known(struct pull *pull);                          /* forgets what is known of an image if neither signatures nor a seal lead to it: it is asked for anew */
/* prove_oci.c, prove_url.c: look-ups; what they find is in proving->founds, what they cannot see in ->looked and ->unreachable. */
int64_t prove_look_deadline(const struct pull *pull);              /* for all look-ups of one pull together */
bool prove_look_oci(struct pull *pull, bool (*arrived)(struct pull *pull));        /* arrived() judges after each place; true ends the search */
void prove_look_sidecars(struct pull *pull, void (*arrived)(struct pull *pull, void *arg), void *arg);
