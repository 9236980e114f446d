/* referrers: what is attached to a manifest. Part of the door registry.h. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct registry_call;

/* What is attached to a manifest, as its registry says: nothing of it is proven, all of it is for finding and ordering only. */
struct registry_referrer {
        struct digest digest;
        uint64_t size_bytes;
        char *media_type, *artifact_type; /* artifact_type NULL or as sent: cosign leaves it out of fallback tags */
        char *predicate_type;             /* annotation dev.sigstore.bundle.predicateType or NULL */
        bool is_from_tag;                 /* the fallback tag named it, not the API */
};
enum { REFERRERS_MAX = 200 };
struct registry_referrers {
        struct registry_referrer *items; size_t count;                     /* what may be signatures, likeliest first, no digest twice; freed by _fini */
        size_t seen, skipped;             /* entries looked at in all; of them of another type, or malformed */
        char *skipped_type;               /* the first type skipped ("application/vnd.cncf.notary.signature"), printable, or NULL */
        bool is_over_limit;               /* more than REFERRERS_MAX entries: no items, `seen` is how many there are at least */
        bool is_api_absent;
        char api_note[96], tag_note[160]; /* "referrers API 404", "tag sha256-… absent"; "" = not asked. For "looked at: …" */
};
/* Worker. Referrers API, page by page; then the fallback tag unless the API named a signature that may be wanted ([sig] 3.2). Nothing there at all is success with count 0;
   errors mean that it could not be looked (never ERROR_NOT_FOUND): registry_fetch_manifest()'s, and ERROR_UPSTREAM_ERROR for pages in a circle, without end or elsewhere. */
bool registry_fetch_referrers(const struct registry_call *call, const struct digest *subject, struct registry_referrers *ret_referrers, struct error *err);
void registry_referrers_fini(struct registry_referrers *referrers);
