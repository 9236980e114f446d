/* pull: what one flight asks of the world. Filled on the loop, run on a worker step by step, read on the loop between steps. */
#pragma once
#include <stdatomic.h>
#include <wasmcached/credential.h>
#include <wasmcached/loop.h>
#include <wasmcached/registry.h>
#include <wasmcached/store.h>
#include "demand.h"
#include "hit.h"
#include "want.h"

/* What is demanded of signatures, with references of its own. */
struct trust_setup {
        unsigned generation;                      /* another one for each configuration of this process */
        struct trust_policy *policy;
        const struct trust_rule *rules; size_t rule_count;
        struct reference signatures; bool has_signatures;           /* signature_repository */
};

/* Options and transport as they were when a flight began; counted on the loop. */
struct setup {
        unsigned references;
        struct trust_setup trust;
        struct fetch_client *fetch;
        struct registry *registry;
        struct modules_options options;           /* own copies of all texts */
};
/* A docker config that workers read while the loop holds it; counted on the loop. */
struct setup *setup_ref(struct setup *setup);
void setup_unref(struct setup **setup);
struct keys { unsigned references; struct docker_config *config; struct digest fingerprint; char *coordinate; };     /* "name@uid" of the Kubernetes API, NULL: elsewhere */

/* Who is handed a new module first: link and lease are part of its commit, so that the answer waits for one transaction, not for three. */
struct first_handout {
        bool is_wanted, is_linked;                /* somebody waits for a path; the commit has made the link */
        struct store_lease lease;
        char holder_text[20]; uint64_t holder;
        int64_t expires_ms, expires_s;
};

enum pull_step { PULL_PROVE /* from what is stored, without network */, PULL_RESOLVE, PULL_DOWNLOAD, PULL_COMMIT };
enum pull_outcome {
        PULL_FAILED,
        PULL_RESOLVED /* layer and size known */,
        PULL_UNPROVED /* what is stored does not prove it: the source is to be asked */,
        PULL_UNCHANGED /* what was known is still true */,
        PULL_STORED /* blob written, to be committed */,
        PULL_COMMITTED
};
enum pull_stage { STAGE_LOGIN, STAGE_RESOLVE, STAGE_MANIFEST, STAGE_DOWNLOAD, STAGE_UNPACK, STAGE_COMMIT };

/* One place to ask: the origin or a mirror, with the logins that fit it. */
struct endpoint {
        char *url;
        bool is_mirror, is_root;                  /* root: of the API, nothing is put before the repository's path */
        unsigned can;                             /* REGISTRY_CAN_… */
        const struct fetch_endpoint *reach;       /* of the setup's tree; may be NULL */
        char *host, *path;                        /* what credentials are looked up by */
        struct login *logins; size_t count, own_count;
        size_t login;                             /* the one that worked; count = anonymous */
        bool no_wait;                             /* another one can be asked instead */
        bool is_limited;                          /* and was, because this one had too many requests */
        bool has_asked;                           /* the credential providers; only when no other login has helped */
};

struct pull {
        struct job job;
        /* given */
        struct setup *setup;
        struct store *store;
        struct module_want *want;
        struct keys *keys;
        struct cancel *cancel;
        int64_t deadline_ms;
        const void *key;                          /* for MACs */
        char *namespace;                          /* of the secret */
        struct principal *principal;
        struct digest known_top, known_manifest, known_module;             /* what the name (or pin) meant before; unset = nothing */
        char *known_etag;
        bool is_proof;                            /* only: may this caller have known_manifest */
        bool is_for_signatures;                   /* only: the content is here and allowed, its signatures are to be looked up */
        bool is_trial;                            /* a dry run: judge, keep nothing, fetch no layer unless it must be judged itself */
        struct demands *demands;                  /* NULL = none */
        bool *known_met;                          /* by demand: met for what is known (known_top, known_manifest, known_module) */
        enum pull_step step;
        /* found */
        enum pull_outcome outcome;
        struct error err;
        struct endpoint *endpoints; size_t endpoint_count, endpoint;
        struct endpoint signatures;               /* where signatures of all images lie, if not beside them; url NULL until asked */
        struct error trouble;                     /* of the node's docker config or a credential provider */
        struct digest top, manifest_digest;
        struct digest leads_to;                   /* the module that they were seen to lead to, by this pull or, under a good seal, by one before; unset = nothing shows it */
        bool is_unled;                            /* nothing shows it of what was known: the source has to give it again */
        struct manifest manifest;
        char *document, *media_type, *layer_type;
        const struct descriptor *layer; enum layer_form form;
        struct proving *proving;                  /* what was looked up and judged; NULL until then */
        struct digest diff_id;                    /* what a tar layer unpacks to; unset = the image does not say */
        struct blob_writer *scratch, *writer;
        struct digest module; uint64_t module_bytes;
        char *etag;
        enum grant_kind grant_kind; struct digest grant_mac;
        struct first_handout first;               /* chosen on the loop right before the commit */
        struct store_module row;
        bool has_committed;                       /* `row` is what the store says */
        bool wants_image_row, wants_reference_row, wants_grant_row, wants_resource_row;
        int64_t now_s;
        int64_t stage_us[MODULE_STAGES];
        _Atomic uint64_t received; _Atomic int64_t total;
};
void pull_run(struct job *job);                   /* worker: the step that `step` says, further steps by itself where the loop has nothing to say */
/* An error quotes paths of redirects, media types and other words of a registry, which knows what it was sent: pull->err without them, if they repeat a credential. */
void pull_hide_credentials(struct pull *pull);
void endpoint_fini(struct endpoint *endpoint);
void pull_fini(struct pull *pull);                /* what workers made; the given is the flight's */
/* The rows that a pull brings, for store (worker) and catalog (loop): borrowed from the pull. */
struct pull_rows { struct store_image image; struct store_reference reference; struct store_grant grant; struct store_resource resource; };
const char *pull_get_coordinate(const struct pull *pull);         /* of the secret, for its grants; NULL without one */
void pull_get_rows(const struct pull *pull, struct pull_rows *ret_rows);

/* mirror.c: their URLs; where the logins for one of them are looked up (host, path). Any thread. */
void mirrors_visit(const struct modules_options *options, const char *host, void (*each)(void *arg, const char *url), void *arg);
void mirror_split(const char *url, const char *path, char **ret_host, char **ret_path);

/* pull_oci.c, pull_url.c; worker. */
struct registry_call pull_make_call(struct pull *pull, const struct endpoint *endpoint);
/* Another repository than the want's own, with the logins that fit it (signature_repository); NULL when credentials cannot be read. Valid until the next one. */
struct endpoint *pull_find_endpoint(struct pull *pull, const struct reference *reference);
/* The first root of file:// that `path` is beneath, symlinks aside, and its length without trailing slashes; ERROR_DENIED. In memory. */
bool setup_find_file_root(const struct setup *setup, const char *path, const char **ret_root, size_t *ret_bytes, struct error *err);
bool pull_open_file(const struct pull *pull, const char *path, int *ret_fd, struct error *err);    /* beneath one of the roots of file:// */
bool pull_oci_resolve(struct pull *pull, struct error *err);
bool pull_oci_download(struct pull *pull, struct error *err);
bool pull_http_download(struct pull *pull, struct error *err);
bool pull_file_download(struct pull *pull, struct error *err);
/* What a body holds, unboxed, into pull->writer; digest and size set, the pin compared. */
bool pull_unpack_body(struct pull *pull, struct error *err);
/* Loop: was it shown that what was found and proved is this module? True where nothing is demanded. */
bool lead_is_to(const struct pull *pull, const struct digest *module);
bool pull_open_writer(struct pull *pull, uint64_t limit, uint64_t hint, enum digest_algorithm algorithm, struct blob_writer **ret_writer, struct error *err);
