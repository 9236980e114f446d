/* hit: may this request be answered from the cache? One pure function over catalog, want and principal, used by module_get and module_explain alike. */
#pragma once
#include "catalog.h"
#include "demand.h"
#include "want.h"

/* Who asks, as credentials: the logins of the secret (or inline config) that fit the repository, at its mirrors or at the origin. */
enum principal_kind { PRINCIPAL_NONE, PRINCIPAL_SECRET, PRINCIPAL_INLINE };
struct principal {
        unsigned references;
        enum principal_kind kind;
        bool is_unread;                           /* the Kubernetes API could not be asked what this secret says: nothing but its name is known */
        struct login *logins; size_t count;       /* of its own; the node's come later, on a worker */
        struct digest *macs;
        char *coordinate;                         /* of its secret, under which grants of it are kept: "name@uid" of the Kubernetes API, NULL: its name alone */
        struct digest fingerprint;                /* over all macs, in order, and where each may be used: the part of a flight's key */
};

enum hit_result {
        HIT_YES,                                  /* entry (and image): present, fresh under the policy, allowed */
        HIT_ABSENT,
        HIT_REVALIDATE,                           /* known, but the policy wants the source asked */
        HIT_UNPROVEN,                             /* here, but this caller has not shown that it may have it */
        HIT_UNVERIFIED,                           /* here and allowed, but a signature that is demanded has not been judged in the life of this process */
        HIT_FILE,                                 /* a file:// that may have changed: a worker looks */
        HIT_RESULTS
};
extern const char *const hit_result_names[HIT_RESULTS];

struct hit {
        enum hit_result result; struct entry *entry; struct image *image; struct known_reference *reference; struct grant *grant; const struct verdict *verdict;
        const struct demands *demands;            /* that were asked about; borrowed from the want */
};

/* Told each check in turn, for explain; NULL = nobody listens. */
struct hit_trace { void (*told)(void *arg, const char *check, const char *result, const char *detail); void *arg; };

struct hit_question {
        const struct catalog *catalog;
        const struct module_want *want;
        const struct principal *principal;
        const char *namespace;
        const struct demands *demands;            /* NULL = none */
        const struct verdicts *verdicts;
        const struct hit_trace *trace;
};
void hit_decide(const struct hit_question *question, struct hit *ret_hit);
/* What a hit is about, for verdicts: the digest that the request names or its tag meant, the image's own, the module. Borrowed from catalog and want. */
struct proof_targets hit_get_targets(const struct hit_question *question, const struct hit *hit);

/* grant.c: the grant that lets this principal have an image (or, image NULL, an entry by its url); NULL = none yet. [oci] 3.10 */
struct grant *grant_find(const struct hit_question *question, const struct entry *entry, const struct image *image);
/* Is this name of the catalog one of the grant's repository? */
bool grant_names(const struct grant *grant, const char *name);
/* Has this repository brought the bytes of the image before, to whomever? Only then its bare word that it has the digest lets another caller in: any server can give it. */
bool grant_is_shown(const struct module_want *want, const struct image *image, const struct known_reference *reference);
