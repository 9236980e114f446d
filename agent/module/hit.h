/* hit: may this request be answered from the cache? One pure function over catalog, want and principal, used by module_get and module_explain alike. */
#pragma once
#include "catalog.h"
#include "want.h"

/* Who asks, as credentials: the logins of the secret (or inline config) that fit the repository. */
enum principal_kind { PRINCIPAL_NONE, PRINCIPAL_SECRET, PRINCIPAL_INLINE };
enum { PRINCIPAL_LOGINS_MAX = 32 };
struct principal {
        unsigned references;
        enum principal_kind kind;
        struct login *logins; size_t count;       /* of its own; the node's come later, on a worker */
        struct digest *macs;
        struct digest fingerprint;                /* over all macs, in order: the part of a flight's key */
};

enum hit_result {
        HIT_YES,                                  /* entry (and image): present, fresh under the policy, allowed */
        HIT_ABSENT,
        HIT_REVALIDATE,                           /* known, but the policy wants the source asked */
        HIT_UNPROVEN,                             /* here, but this caller has not shown that it may have it */
        HIT_FILE,                                 /* a file:// that may have changed: a worker looks */
        HIT_RESULTS
};
extern const char *const hit_result_names[HIT_RESULTS];

struct hit { enum hit_result result; struct entry *entry; struct image *image; struct known_reference *reference; struct grant *grant; };

/* Told each check in turn, for explain; NULL = nobody listens. */
struct hit_trace { void (*told)(void *arg, const char *check, const char *result, const char *detail); void *arg; };

struct hit_question {
        const struct catalog *catalog;
        const struct module_want *want;
        const struct principal *principal;
        const char *namespace;
        const struct hit_trace *trace;
};
void hit_decide(const struct hit_question *question, struct hit *ret_hit);

/* grant.c: the grant that lets this principal have an image (or, image NULL, an entry by its url); NULL = none yet. [oci] 3.10 */
struct grant *grant_find(const struct hit_question *question, const struct entry *entry, const struct image *image);
