/* config: the configuration file as plain values, what can be said about it, and what the rooms get of it. In memory except config_load(). */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct api_listener; struct fetch_options; struct keeper_options; struct kube_options; struct modules_options; struct modules_trust;
struct registry_options; struct serve_limits; struct store_options;

enum { CONFIG_FILE_MAX_BYTES = 1 << 20 };
#define CONFIG_FILE_DEFAULT "/etc/wasmcached/config.yaml"

enum config_identity { CONFIG_IDENTITY_FIXED, CONFIG_IDENTITY_POD, CONFIG_IDENTITY_TRUSTED };
enum config_kubernetes { CONFIG_KUBERNETES_OFF, CONFIG_KUBERNETES_IN_CLUSTER, CONFIG_KUBERNETES_KUBECONFIG };
enum config_format { CONFIG_FORMAT_LOGFMT, CONFIG_FORMAT_JSON };

/* Texts are never NULL ("" = unset) once read, lists end with NULL; all of it lives as long as the config. Numbers are int64_t in the unit of the name. */
struct config_listener { const char *path; int64_t mode, identity; const char *namespace, *module_dir; };
struct config_registry {
        const char *host;                 /* host[:port] as in references */
        bool plain_http, skip_verify;
        const char *ca, *client_certificate, *client_key;
        const char *const *mirrors, *const *token_realms;
};
struct config_require { const char *match; const char *const *keys, *const *annotations; int64_t identity; };

struct config {
        struct config_listener *listeners; size_t listener_count;
        struct { const char *path; int64_t mode; } admin;
        struct { const char *address; } metrics;
        struct { const char *root; int64_t max_size_bytes, high_watermark, low_watermark, lease_time_ms, scrub_rate_bytes; } store;
        struct {
                int64_t slots, slots_per_host, timeout_ms, connect_timeout_ms, progress_timeout_ms, retries, max_layer_size_bytes, max_module_size_bytes,
                        stale_if_error_ms, negative_time_ms;
                bool ahead;
        } pull;
        struct config_registry *registries; size_t registry_count;
        const char *registries_dir;
        struct { const char *const *roots; } files;
        struct { const char *const *block, *const *allow; const char *http_proxy, *https_proxy, *no_proxy; } network;
        struct { const char *secrets_dir, *docker_config, *provider_config, *provider_bin_dir; } credentials;
        struct {
                const char *const *formats, *const *predicates, *const *rekor_keys;
                const char *signature_repository;
                bool require_top_level_signature;
                struct config_require *require; size_t require_count;
        } trust;
        struct { int64_t mode; const char *kubeconfig, *node, *token_audience, *root_namespace; bool events; } kubernetes;
        const char *manifests;
        struct { int64_t level, format; } log;              /* enum log_level, enum log_format */
        struct { int64_t body_bytes, headers_bytes, connections, connections_per_peer, waiters, waiting_per_peer, idle_timeout_ms, write_timeout_ms; } limits;

        void **owned; size_t owned_count;         /* everything above points in here; config_keep() */
};

/* Reads the file. `path` NULL = CONFIG_FILE_DEFAULT, which may be absent: defaults then. Worker.
   ERROR_BAD_REQUEST "FILE:LINE: KEY: what is wrong; allowed: …"; ERROR_NOT_FOUND for a named file that is absent. */
bool config_load(const char *path, struct config **ret_config, struct error *err);
/* The same of a text; `file` is the name in errors. Empty text = {} = defaults. */
bool config_parse(const char *text, size_t size_bytes, const char *file, struct config **ret_config, struct error *err);
void config_free(struct config **config);
/* Gives `memory` (of malloc, may be NULL) to the config, which frees it; returns it. */
void *config_keep(struct config *config, void *memory);

/* Effective configuration as YAML that config_parse() takes, with comments; as JSON for GET /v1/config. Passwords in proxy URLs are left out of both. */
void config_print_yaml(const struct config *config, struct buffer *out);
void config_print_json(const struct config *config, struct buffer *out);
/* wasmcached.yaml(5) in mdoc, from the option table. */
void config_print_manual(struct buffer *out);

/* What differs between two configurations, as key names in the order of the table. Keys that need a restart keep in `next` what `running` has, so that `next` is what
   the daemon really does. */
struct config_changes { const char **applied, **restart; size_t applied_count, restart_count; };
bool config_reload(const struct config *running, struct config *next, struct config_changes *ret_changes, struct error *err);
void config_changes_fini(struct config_changes *changes);
/* For people: "applied: log.level, pull.slots; needs a restart: listeners", "nothing changed". */
void config_changes_print_text(const struct config_changes *changes, struct buffer *out);
/* {"applied": ["log.level"], "needsRestart": []} */
void config_changes_print_json(const struct config_changes *changes, struct buffer *out);

/* What the rooms want to know; borrowed from the config, which must stay as long as the result is used. */
void config_to_serve_limits(const struct config *config, struct serve_limits *ret_limits);
void config_to_store_options(const struct config *config, struct store_options *ret_options);
void config_to_fetch_options(struct config *config, struct fetch_options *ret_options);
void config_to_registry_options(struct config *config, struct registry_options *ret_options);
/* Borrows the trust, which config_load_trust() read. */
void config_to_modules_options(struct config *config, const struct modules_trust *trust, struct modules_options *ret_options);
void config_to_keeper_options(const struct config *config, struct keeper_options *ret_options);
/* False: kubernetes.mode is off. */
bool config_to_kube_options(const struct config *config, struct kube_options *ret_options);
/* Reads the key files that `trust:` names. Blocks. ERROR_NOT_FOUND: a file is absent; else ERROR_BAD_REQUEST; option and file named. */
bool config_load_trust(const struct config *config, struct modules_trust *ret_trust, struct error *err);
void config_trust_fini(struct modules_trust *trust);
/* Tags for serve_listen_…(): one per configured listener, one for admin, one for metrics. */
void config_to_listener(const struct config_listener *listener, struct api_listener *ret_listener);
void config_to_admin_listener(struct config *config, struct api_listener *ret_listener);
void config_to_metrics_listener(struct api_listener *ret_listener);
void config_apply_log(const struct config *config);
