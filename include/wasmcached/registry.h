/*
 * registry: OCI distribution, pull side: reference, challenge, token, manifest, choice of child and layer, blobs. Rules: reference/oci-and-kubernetes.md 1, 2, 5.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/registry/referrers.h>
#include <wasmcached/fetch.h>

enum { MANIFEST_BYTES_MAX = 4 << 20, CONFIG_BYTES_MAX = 4 << 20 };        /* contract section 7 */

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
/* Has the image a config (OCI's or Docker's) that may say what its layers unpack to? */
bool image_config_is_wanted(const struct manifest *image);
/* What `layer`, one of the image's, unpacks to by its config ([oci] 5.3); unset when that says nothing of it. ERROR_CHECKSUM_MISMATCH, ERROR_UNSUPPORTED_IMAGE. In memory. */
bool image_config_find_diff_id(const struct buffer *config, const struct manifest *image, const struct descriptor *layer, struct digest *ret_digest, struct error *err);

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
        bool is_root;                     /* the endpoint is the root of the API itself: <endpoint>/<path>/… */
        const struct fetch_endpoint *reach;                                /* how it is reached; may be NULL */
        const char *path;
        bool no_wait;                     /* there is another place to ask: fetch's no_wait */
        const char *mirror_of;            /* host of the reference when the endpoint is a mirror, sent as ?ns=; else NULL */
        const struct login *login;        /* NULL = anonymous */
        struct cancel *cancel;
        int64_t deadline_ms;
        void (*progress)(void *arg, uint64_t received, int64_t total);
        void *progress_arg;
};
/* Is a secret of `login` in what is to be told of the image `name`, as it is, as Basic or percent-encoded? A registry may put what it was sent wherever an error quotes it. */
bool login_is_repeated(const struct login *login, const char *name, const char *text);
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

/* ---- containerd's certs.d: <folder>/<host[:port]>/hosts.toml or *.crt, *.cert, *.key; _default for all other hosts ([oci] 6.1) ---- */
enum { REGISTRY_CAN_PULL = 1, REGISTRY_CAN_RESOLVE = 2 };
struct registry_endpoint {
        char *url;                        /* "https://host[:port][/prefix]" without /v2; NULL = the host of the reference */
        bool is_root;                     /* override_path: as in registry_call */
        bool is_tls_told;                 /* ca, client or skip_verify are given: not plain HTTP, where the url leaves it open */
        unsigned can;                     /* REGISTRY_CAN_… */
        struct fetch_endpoint reach;
};
struct registry_tree;                     /* counted, never changed; any thread */
/* Reads the whole folder, which may be absent. What is wrong in one host's folder is logged and refused by registry_tree_find() for that host alone. Blocks. */
bool registry_tree_load(const char *folder, struct registry_tree **ret_tree, struct error *err);
struct registry_tree *registry_tree_ref(struct registry_tree *tree);       /* NULL of NULL */
void registry_tree_unref(struct registry_tree **tree);
/* Where references to `host` are asked for, in order, borrowed from the tree; none = it says nothing of the host.
   ERROR_UPSTREAM_UNREACHABLE "FILE:LINE: …" when its folder is of no use. */
bool registry_tree_find(const struct registry_tree *tree, const char *host, const struct registry_endpoint **ret_endpoints, size_t *ret_count, struct error *err);

/* Exposed for tests and fuzzing: one WWW-Authenticate header's challenges. */
struct challenge { char *scheme, *realm, *service, *scope, *error; };
/* At most 8; parameters of a malformed tail are dropped, a doubled realm, service or scope refuses that challenge ([oci] 2.1). Caller fini's each. */
size_t challenge_parse(const char *header, struct challenge ret_challenges[8]);
void challenge_fini(struct challenge *challenge);
