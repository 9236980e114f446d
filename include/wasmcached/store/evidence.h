/*
 * evidence: what was found that may prove a signature, kept so that a verdict can be computed again without network. Part of the door store.h. Worker, thread-safe.
 * Nothing here is a verdict: whoever reads evidence judges it again; what was exchanged or damaged is at worst no evidence ([sig] 9.4).
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct store;

enum { STORE_EVIDENCE_PER_TARGET_MAX = 64, STORE_EVIDENCE_BYTES_MAX = 8 << 20, STORE_PROOFS_PER_TARGET_MAX = 256 };

/* Texts and bodies are borrowed for the call (in visits: by the visitor); NULL texts are "". */
struct store_evidence {
        struct digest id;                 /* SHA-256 over target … extra, each with its length: computed by the store when saved, compared when loaded */
        struct digest target;             /* what was signed: a manifest (chosen or top), a module, or the file that a module came in */
        const char *kind;                 /* "bundle", "simple", "sidecar" … */
        const char *where;                /* "referrer sha256:…", "tag sha256-….sig" */
        const char *repository;           /* "host/path", or the URL */
        const void *body; size_t body_bytes;
        const char *extra;                /* JSON of what belongs to the body: the signature annotation, …; "" if nothing does */
        int64_t found_s;                  /* when last found; not part of the id */
        struct digest module;             /* which module it goes with, for a target that is itself neither a module nor a manifest here (a file before unboxing); else unset */
};
/* "Under this set of keys and this policy that evidence was accepted": never trusted by itself, it only says what to judge first. One per (target, keys, policy). */
struct store_proof { struct digest target, keys, policy, evidence; int64_t proved_s; };

/* The id that store_save_evidence() gives to this row, for proofs that are saved with it. In memory. */
void store_hash_evidence(const struct store_evidence *row, struct digest *ret_id);

/* One transaction. A row of an id that is there is renewed, a proof of the same (target, keys, policy) replaced; a proof of evidence that is not there for its target is left out.
   More than the limits above per target: what no proof refers to goes first, the oldest first. ERROR_TOO_LARGE: a single row beyond them. ERROR_NOT_FOUND: the store has
   no module or manifest that a target belongs to (so commit first); nothing is saved then. */
bool store_save_evidence(struct store *store, const struct store_evidence *rows, size_t count, const struct store_proof *proofs, size_t proof_count, struct error *err);

/* Evidence of one target, the newest first, then its proofs; either function may be NULL. Rows that are not what their id says are deleted, with one line in the log,
   and neither they nor their proofs are visited. The index is locked meanwhile: visitors copy what they need and do not call the store. */
bool store_load_evidence(struct store *store, const struct digest *target, void (*each)(void *arg, const struct store_evidence *row),
                         void (*proof)(void *arg, const struct store_proof *row), void *arg, struct error *err);
/* The same for many targets in one read transaction, target by target: first the images whose manifest or top it is, without documents, then evidence, then proofs. */
struct store_image;
struct store_evidence_visitor {
        void *arg;
        void (*evidence)(void *arg, const struct store_evidence *row);
        void (*proof)(void *arg, const struct store_proof *row);
        void (*image)(void *arg, const struct store_image *row);
};
bool store_load_targets(struct store *store, const struct digest *targets, size_t count, const struct store_evidence_visitor *visitor, struct error *err);

/* NULL = any. Evidence stays. */
bool store_remove_proofs(struct store *store, const struct digest *target, const struct digest *keys, const struct digest *policy, struct error *err);
