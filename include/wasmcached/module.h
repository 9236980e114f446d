/*
 * module: the story: what is wanted, is it here, may this caller have it, who is already fetching it, go and get it, let it go. Everything in this door is loop only.
 */
#pragma once
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/module/events.h>
#include <wasmcached/module/load.h>
#include <wasmcached/module/secrets.h>
#include <wasmcached/module/stats.h>

struct kube; struct kube_secrets;
struct loop; struct store; struct fetch_client; struct registry; struct registry_tree; struct credential_providers; struct modules; struct trust_keys; struct trust_policy;

/* ---- what is wanted: contract section 1, one decoder for API, resources and CLI ---- */
enum module_policy { MODULE_POLICY_UNSPECIFIED, MODULE_POLICY_IF_NOT_PRESENT, MODULE_POLICY_ALWAYS };
struct module_want;                       /* decoded, checked and normalised; counted */
/* A JSON object of the request fields; unknown or wrong members, bad url, sha256, key, secret name, namespace, timeout: ERROR_BAD_REQUEST, BAD_URL,
   BAD_KEY, CHECKSUM_MISMATCH (sha256 against @sha256:), naming the member. */
bool module_want_decode(const struct value *body, struct module_want **ret_want, struct error *err);
struct module_want *module_want_ref(struct module_want *want);
void module_want_unref(struct module_want **want);
bool module_want_is_same_source(const struct module_want *a, const struct module_want *b);  /* the same url, pin and key: what answers one may stand in for the other */
const char *module_want_get_host(const struct module_want *want);  /* whose pull slots it takes; never NULL */
bool module_want_has_secret(const struct module_want *want);       /* carries an inline pullSecret: not to be kept longer than the request */

/* ---- who asks ---- */
struct module_caller {
        const char *namespace;            /* the listener's own; NULL on a trusted socket */
        bool is_trusted;                  /* may name any namespace in the request */
        bool is_admin;                    /* admin socket: without a namespace `path` is the blob's own */
        const char *module_dir;           /* template with {namespace}, as the caller sees it */
        uint64_t holder;                  /* names the asker for leases: equal for the same process, distinct for others */
        const char *handout_namespace;    /* in whose folder the link shall be, if not the request's own namespace (a plugin's module for a workload elsewhere); NULL */
        bool is_patient;                  /* waits as long as the pull takes, whatever the request's timeout */
};

/* ---- the answer ---- */
enum module_source { MODULE_SOURCE_CACHE, MODULE_SOURCE_REVALIDATED, MODULE_SOURCE_PULLED };
const char *module_source_name(enum module_source source);
struct module_object {                    /* contract section 2; texts borrowed for the call */
        const char *path, *sha256, *url, *digest, *verified_format, *verified_key;      /* digest, verified_… NULL if none; sha256 is hex */
        uint64_t size_bytes;
        enum module_source source;
        const char *lease_id;             /* NULL in listings */
        int64_t lease_expires_s;
        /* more, for listings and inspect */
        bool is_pinned, is_stale;
        unsigned leases;
        int64_t created_s, last_used_s;
        const char *const *urls; const char *const *namespaces;    /* NULL-terminated; NULL in answers to module_get */
};
struct module_waiter;                     /* one caller's wait */
/* Exactly one call per waiter, maybe before module_get returns: object or error, the other NULL. */
typedef void (*module_answered)(void *arg, const struct module_object *object, const struct error *err);
/* NULL when answered already. */
struct module_waiter *module_get(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_answered answered, void *arg);
void module_waiter_cancel(struct module_waiter **waiter);          /* the asker is gone; answered() will not be called */

void module_forget_refusals(struct modules *modules, const struct module_want *want);      /* of this source: whoever changed something may try at once */
void module_note_garbage(struct modules *modules);        /* much memory was freed, in small pieces: an idle moment gives it back to the system */

/* ---- what is here ---- */
/* In order of sha256 after `after` (NULL = first), at most `limit`; only what the caller may see. each() per module; returns false when there is more. */
typedef void (*module_each)(void *arg, const struct module_object *object);
bool module_list(struct modules *modules, const struct module_caller *caller, const struct digest *after, size_t limit, module_each each, void *arg);
bool module_find(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, module_each each, void *arg);
/* By url, manifest digest ("sha256:…"), module sha256 or unique prefix (≥ 8): for inspect, export, rm. ERROR_NOT_FOUND, ERROR_BAD_REQUEST (ambiguous). */
bool module_find_name(struct modules *modules, const struct module_caller *caller, const char *name, struct digest *ret_sha256, struct error *err);
/* An open fd of the bytes, identity checked; ERROR_NOT_FOUND when absent or not the caller's. */
bool module_open(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, int *ret_fd, uint64_t *ret_size, struct error *err);
/* JSON of everything known (images, references, grants without MACs, leases, verdicts) for inspect. */
bool module_inspect(struct modules *modules, const struct digest *sha256, struct json_writer *writer, struct error *err);

bool module_lease_renew(struct modules *modules, const struct module_caller *caller, const char *id, int64_t *ret_expires_s, struct error *err);
bool module_lease_end(struct modules *modules, const struct module_caller *caller, const char *id, struct error *err);

/* ---- operators; those that need a worker answer later by done(arg, result, err): result is a JSON text, the other NULL ---- */
typedef void (*module_done)(void *arg, const char *json, const struct error *err);
void module_pin(struct modules *modules, const struct digest *sha256, bool is_pinned, module_done done, void *arg);
void module_remove(struct modules *modules, const struct digest *sha256, module_done done, void *arg);     /* leased, pinned or in use: ERROR_BUSY that says which */
void module_gc(struct modules *modules, bool dry_run, module_done done, void *arg);         /* down to the low watermark */
void module_verify(struct modules *modules, const struct digest *sha256_or_null, module_done done, void *arg);  /* re-hash; damaged ones are quarantined and pulled again */
void module_refresh(struct modules *modules, const char *url_or_null, module_done done, void *arg);         /* clears refusals, asks the source again for this (every) reference */
/* Plain words: {"verdict": "hit|miss|refused", "code", "steps": [{"check", "result", "detail"}]}. Changes nothing, no network. */
void module_explain(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg);
/* Dry run of the want's verificationKey, with the source's signatures as they are now; nothing is kept. {"verdict": "verified|refused", "code", "detail", "signatures"}.
   file:// is not confined to roots here: the caller is an operator. */
void module_try_key(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg);
/* The text of an image's manifest, as it came: {"digest", "manifest"}. ERROR_NOT_FOUND: no image with that digest is here, or it was imported without its manifest. */
void module_manifest(struct modules *modules, const struct digest *manifest, module_done done, void *arg);
/* Adds a module file with the name it shall have: an OCI image or url. `fd` is a regular file (taken), JSON answers {"sha256", …}. Grants kind "import". */
struct module_origin { struct digest manifest, top; const char *document; };     /* the operator's word for its image and the index above; unset = not known. Only of oci names */
void module_import(struct modules *modules, const char *url, const struct module_origin *origin_or_null, int fd, module_done done, void *arg);

/* ---- life ---- */
struct modules_options {
        uint64_t max_size_bytes; unsigned high_watermark, low_watermark;   /* percent */
        int64_t lease_ms; uint64_t scrub_rate_bytes; unsigned slots, slots_per_host;
        int64_t pull_timeout_ms, stale_if_error_ms, negative_ms; uint64_t max_layer_bytes, max_module_bytes;
        const char *const *file_roots, *secrets_dir, *docker_config;       /* file_roots: NULL-terminated */
        struct modules_mirrors { const char *host; const char *const *mirrors; } const *mirrors; size_t mirror_count;  /* URLs, NULL-terminated, maybe none */
        struct registry_tree *tree; struct credential_providers *providers;      /* may be NULL, counted; of hosts in `mirrors` nothing is looked up in the tree */
        struct modules_trust {            /* policy NULL = defaults; rules: of what their pattern fits nothing is handed out without a signature by one of keys */
                struct trust_policy *policy; const char *signature_repository;
                const struct trust_rule { const char *match; struct trust_keys *keys; struct trust_policy *policy; } *rules; size_t rule_count;
        } trust;
        struct kube *kube; struct kube_secrets *kube_secrets;      /* borrowed until no job is left; NULL, both: no Secrets of the Kubernetes API */
        unsigned waiters_max;             /* all together; more = ERROR_BUSY */
};
/* Copies options; loads the catalog from the store, a large one in the background: load.h. Borrows loop and store; keeps references of fetch; owns registry. */
bool modules_new(struct loop *loop, struct store *store, struct fetch_client *fetch, struct registry *registry, const struct modules_options *options,
        struct modules **ret_modules, struct error *err);
/* New options (and transport) for what starts from now on; running flights finish with what they began with. Takes a reference of fetch, owns registry. */
bool modules_reload(struct modules *modules, struct fetch_client *fetch, struct registry *registry, const struct modules_options *options, struct error *err);
/* Cancels flights, answers all waiters (ERROR_BUSY, "stopping"), saves leases; closed(arg) when no job is left. */
void modules_close(struct modules *modules, void (*closed)(void *arg), void *arg);
void modules_free(struct modules **modules);
