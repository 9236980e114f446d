/*
 * registry: OCI distribution, pull side: reference, challenge, token, manifest, choice of child and layer, blobs. Rules: reference/oci-and-kubernetes.md 1, 2, 5.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct fetch_client;

enum { MANIFEST_BYTES_MAX = 4 << 20 };    /* contract section 7 */

/* host[:port]/path[:tag][@digest] after normalisation (docker.io, library/, latest). Plain value; reference_fini frees. */
struct reference {
        char *host;                       /* "docker.io", "localhost:5000", "[::1]:5000" */
        char *path;                       /* "library/x" */
        char *tag;                        /* NULL when only a digest was given; "latest" when neither was */
        struct digest digest;             /* set wins over tag */
        bool is_tag_implied;              /* neither tag nor digest was written */
};
/* Without scheme. ERROR_BAD_URL says which rule ([oci] 1.1). In memory. */
bool reference_parse(const char *text, struct reference *ret_reference, struct error *err);
void reference_fini(struct reference *reference);
char *reference_format(const struct reference *reference);                 /* "host/path:tag@digest" as far as set; caller frees */

struct descriptor {
        char *media_type, *artifact_type;
        struct digest digest;
        uint64_t size_bytes;
        struct buffer data;               /* embedded content, already checked against size and digest; data.data NULL when none */
        char *platform_os, *platform_architecture, *platform_variant;      /* NULL when there is no platform */
        bool is_attestation;              /* vnd.docker.reference.type = attestation-manifest, or platform unknown/unknown */
};
enum manifest_kind { MANIFEST_IMAGE, MANIFEST_INDEX };
struct manifest {
        enum manifest_kind kind;
        char *media_type, *artifact_type;
        struct descriptor config;         /* image */
        struct descriptor *items; size_t item_count;                       /* layers or children */
        struct value *document;           /* the whole, for annotations */
};
/* Strict ([oci] 1.5): `content_type` (may be NULL) with parameters stripped must agree with mediaType. ERROR_UNSUPPORTED_IMAGE or ERROR_UPSTREAM_ERROR (malformed). In memory. */
bool manifest_parse(const void *bytes, size_t size_bytes, const char *content_type, struct manifest *ret_manifest, struct error *err);
void manifest_fini(struct manifest *manifest);
const char *manifest_get_annotation(const struct manifest *manifest, const char *name);
/* The child for a Wasm proxy on this host ([oci] 1.6); an error lists the platforms there are. */
bool manifest_choose_child(const struct manifest *index, const struct descriptor **ret_child, struct error *err);

enum layer_form { LAYER_WASM, LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD };
/* The layer that holds the module ([oci] 5.3). ERROR_UNSUPPORTED_IMAGE lists the layer types found. */
bool manifest_choose_layer(const struct manifest *image, const struct descriptor **ret_layer, enum layer_form *ret_form, struct error *err);

struct registry_options {
        const char *const *realm_pairs;   /* "registry-host realm-host", NULL-terminated, besides the built-in ones: credentials may go there */
};
/* Token cache per (origin, realm, service, scopes, login). Any thread; memory only. Keeps a reference to `fetch`. */
struct registry;
struct registry *registry_new(struct fetch_client *fetch, const struct registry_options *options) __attribute__((returns_nonnull));
void registry_free(struct registry **registry);

/* One conversation: where, what repository, as whom, until when. */
struct registry_call {
        struct registry *registry;
        const char *endpoint;             /* "https://host[:port][/prefix]": requests go to <endpoint>/v2/<path>/… */
        const char *path;
        const char *mirror_of;            /* host of the reference when the endpoint is a mirror, sent as ?ns=; else NULL */
        const struct login *login;        /* NULL = anonymous */
        struct cancel *cancel;
        int64_t deadline_ms;
        void (*progress)(void *arg, uint64_t received, int64_t total);
        void *progress_arg;
};
/* "https://host" or "http://host", docker.io → registry-1.docker.io. Caller frees. */
char *registry_format_endpoint(struct fetch_client *fetch, const char *host);

struct registry_manifest { struct digest digest; char *content_type; struct buffer bytes; };      /* bytes empty after a HEAD; digest unset if HEAD did not tell */
/* Worker. `name` is a tag or "sha256:…". Errors: ERROR_NOT_FOUND, ERROR_UNAUTHORIZED (401/403, "denied or not found"), ERROR_RATE_LIMITED, ERROR_UPSTREAM_ERROR,
   ERROR_UNSUPPORTED_IMAGE (406), ERROR_TOO_LARGE, ERROR_CHECKSUM_MISMATCH (body is not what the digest says), and fetch's. HEAD falls back to GET where the registry
   cannot ([oci] 1.5). */
bool registry_fetch_manifest(const struct registry_call *call, const char *name, bool head_only, struct registry_manifest *ret_manifest, struct error *err);
void registry_manifest_fini(struct registry_manifest *manifest);
/* Worker. Exactly size_bytes bytes go to `sink` or it fails; the digest is the sink owner's to compare. Embedded data is used without a request. */
bool registry_fetch_blob(const struct registry_call *call, const struct descriptor *descriptor, struct sink *sink, struct error *err);

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

/* Exposed for tests and fuzzing: one WWW-Authenticate header's challenges. */
struct challenge { char *scheme, *realm, *service, *scope, *error; };
/* At most 8; parameters of a malformed tail are dropped, a doubled realm, service or scope refuses that challenge ([oci] 2.1). Caller fini's each. */
size_t challenge_parse(const char *header, struct challenge ret_challenges[8]);
void challenge_fini(struct challenge *challenge);
