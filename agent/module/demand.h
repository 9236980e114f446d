/*
 * demand: what must be proved of what a request gets before it is handed out: by its own key, and by each rule of the node that its name falls under. A verdict is true for one
 * target under one demand and lives in memory only, as long as the process and the configuration that it was reached under.
 */
#pragma once
#include <wasmcached/module.h>
#include <wasmcached/trust.h>
#include "want.h"

enum { VERDICTS_MAX = 1 << 18 };

struct demand {
        struct trust_keys *keys;
        struct trust_policy *policy;
        const char *rule;                         /* match of the rule that demands it, NULL: the request's own key */
        struct digest id;                         /* of keys, policy and, where the policy looks at it, the name asked for */
};
/* Counted; the counter is the loop's, workers only read. */
struct demands { unsigned references; unsigned generation; size_t count; struct digest id; struct demand items[]; };
void demands_unref(struct demands **demands);
/* The name of a demand whose policy does not look at names. */
void demand_make_id(const struct trust_keys *keys, const struct trust_policy *policy, struct digest *ret_id);
struct demands *demands_ref(struct demands *demands);              /* NULL gives NULL */

/* What is demanded of this want now: borrowed from the want, which remembers it until the configuration changes; NULL = nothing. */
struct trust_setup;
struct demands *demands_of(const struct trust_setup *trust, struct module_want *want);

/* What of a request a proof was about. */
enum proof_scope { PROOF_OF_MANIFEST = 'm', PROOF_OF_MODULE = 'w' /* signed within the module itself */, PROOF_OF_FILE = 'f' /* the bytes a url gave, by the module in them */ };
struct verdict {
        struct verdict *next;                     /* the one before it about the same target */
        const char *format, *algorithm, *form;    /* static */
        struct digest fingerprint;
        char *where, *annotations;                /* annotations: JSON, NULL if none */
        char fingerprint_hex[DIGEST_HEX_BYTES];
        int64_t logged_s, proved_s;
        enum proof_scope scope;
        struct digest target, demand;
        struct digest module;                     /* what a manifest was shown to lead to: of another module it says nothing. Of a file or module it is the target */
};
struct verdicts;
struct verdicts *verdicts_new(void) __attribute__((returns_nonnull));
void verdicts_free(struct verdicts **verdicts);
void verdicts_clear(struct verdicts *verdicts);
size_t verdicts_get_count(const struct verdicts *verdicts);
/* Takes where and annotations of `verdict`; replaces. */
void verdict_put(struct verdicts *verdicts, struct verdict *verdict);
/* The latest about this target and module under whatever demand, NULL if there is none, for listings; or every one, for inspect. */
const struct verdict *verdicts_get_latest(const struct verdicts *verdicts, const struct digest *target, const struct digest *module);
void verdicts_visit(const struct verdicts *verdicts, const struct digest *target, const struct digest *module, void (*each)(void *arg, const struct verdict *verdict), void *arg);

/* What a request would get. */
struct proof_targets { const struct digest *top, *manifest, *module; bool is_image; };
/* Is this demand met for it? The verdict that says so, or NULL. */
const struct verdict *demand_find_verdict(const struct verdicts *verdicts, const struct demand *demand, const struct proof_targets *targets);
/* All of them? *ret_first: the one to show (the request's own key before the node's rules), untouched when false. No demands = true with NULL. */
bool demands_are_met(const struct verdicts *verdicts, const struct demands *demands, const struct proof_targets *targets, const struct verdict **ret_first);
