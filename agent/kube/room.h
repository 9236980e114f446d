/* kube, inside: what its files share with each other and with tests, not with other rooms. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wasmcached/base.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube.h>

enum { CONFIG_BYTES_MAX = 1 << 20, PEM_BYTES_MAX = 1 << 20, TOKEN_BYTES_MAX = 64 << 10, ANSWER_BYTES_MAX = 4 << 20, CALL_MS = 30000, RETRY_AFTER_MOST_S = 60 };

/* Where a text comes from: `text` where it is there (…-data), else the file, read anew for every request, so that a rotated one needs nothing. */
struct source { char *path; struct secret *text; };
struct variable { char *name, *value; };

/* ---- exec.c: a client-go credential plugin (client.authentication.k8s.io) */
struct exec_plugin { char *command, *api_version, *hint, **arguments; size_t argument_count; struct variable *variables; size_t variable_count; bool wants_cluster; };
struct exec_credential { struct secret *token, *certificate, *key; int64_t expires_s; };      /* wall clock; 0 = it does not say */
void exec_plugin_free(struct exec_plugin **plugin);
void exec_credential_fini(struct exec_credential *credential);
/* `cluster` is the JSON object for KUBERNETES_EXEC_INFO, or NULL. At most a minute. ERROR_UNAUTHORIZED says what the program did; its stdout is never quoted. */
bool exec_run(const struct exec_plugin *plugin, const char *cluster, struct cancel *cancel, struct exec_credential *ret_credential, struct error *err);
bool exec_credential_parse(const void *bytes, size_t size_bytes, const char *api_version, struct exec_credential *ret_credential, struct error *err);

/* ---- config.c: how the API is reached and as whom; all of it fixed after kube_new */
struct config {
        char *origin;                              /* file that is named in errors */
        char *server, *server_name, *proxy;        /* server without a slash at its end */
        bool skip_verify, is_in_cluster;
        struct source ca, certificate, key, token;
        struct exec_plugin *exec;
};
bool config_read_in_cluster(const char *account_dir, struct config *ret_config, struct error *err);
bool config_read_file(const char *path, struct config *ret_config, struct error *err);
void config_fini(struct config *config);

struct kube {
        struct fetch_client *fetch;
        struct config config;
        int64_t backoff_first_ms, backoff_most_ms, silence_ms;
        pthread_mutex_t lock;                      /* of all below; held while the exec plugin runs: one at a time */
        struct secret *token;                      /* the last that could be read */
        struct exec_credential exec;               /* the last that the plugin gave */
};

/* ---- identity.c: as whom and trusting whom one request is made */
struct identity { struct secret *authorization, *certificate, *key; struct buffer ca; };
bool identity_take(struct kube *kube, struct cancel *cancel, struct identity *ret_identity, struct error *err);
/* The server did not know `refused` (401): true when there is another one now. */
bool identity_renew(struct kube *kube, struct cancel *cancel, struct identity *refused);
void identity_fini(struct identity *identity);

/* ---- request.c */
struct ask {
        enum fetch_method method;
        const char *path, *body, *body_type;
        struct sink *sink;                         /* of a 2xx; no retries then but that after a 401 */
        size_t size_limit;
        const int64_t *progress_timeout_ms;        /* of a stream: looked at while it runs */
};
/* A whole answer or stream. False with *ret_status filled where the server answered; body of a 2xx in the sink. */
bool ask_run(const struct kube_call *call, struct ask *ask, struct kube_status *ret_status, struct error *err);
void status_read(const void *body, size_t body_bytes, int http_status, struct kube_status *ret_status);
/* What a Status (HTTP or in a stream) is as error. */
bool status_refuse(const struct kube_status *status, struct error *err);
/* False when cancelled: ERROR_BUSY. */
bool sleep_ms(struct cancel *cancel, int64_t wait_ms, struct error *err);
int64_t jitter_ms(int64_t ms);                     /* 0 … ms */
void escape_append(struct buffer *text, const char *part);      /* all but RFC 3986 unreserved characters as %XX */

/* ---- process.c */
bool process_read_at(const char *proc, pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err);

/* ---- cut.c: JSON objects out of a stream of bytes, however it is chunked */
enum cut_mode { CUT_LIST, CUT_EVENTS };            /* one …List, its items given one by one; or {"type", "object"} after {"type", "object"} */
struct cut_piece { const char *bytes; size_t size_bytes; bool is_cut; };     /* is_cut: larger than the limit, these are its first bytes */
struct cut {
        enum cut_mode mode;
        size_t piece_bytes_max;
        bool (*object)(struct cut *cut, const struct cut_piece *object, struct error *err);          /* an item, or an event's object */
        bool (*envelope)(struct cut *cut, const char *bytes, size_t size_bytes, struct error *err);  /* what was round it once it is whole: "object":0, "items":[] */
        /* inside */
        struct buffer piece, around, key;
        size_t depth, piece_depth, piece_bytes;
        bool is_text, is_escaped, is_key, in_piece, is_ready, is_value, in_items;
};
void cut_init(struct cut *cut);                    /* after mode, limit and functions are set */
bool cut_write(struct cut *cut, const void *bytes, size_t size_bytes, struct error *err);
bool cut_is_between(const struct cut *cut);        /* nothing half is left */
void cut_fini(struct cut *cut);
/* Names of an object that may be cut off or unreadable: metadata.{namespace, name, uid, resourceVersion} as far as they are there. */
struct cut_names { char *namespace, *name, *uid, *version; };
void cut_names_find(const char *bytes, size_t size_bytes, struct cut_names *ret_names);
void cut_names_fini(struct cut_names *names);

/* ---- cache.c: values by key, one load at a time per key */
struct cache;
/* expires_ms: until when it counts; until_ms: until when it is of any use at all. value NULL: `failure` is what is known. */
struct cache_entry { void *value; struct error failure; int64_t loaded_ms, expires_ms, until_ms; };
struct cache_options { void *(*ref)(void *value); void (*unref)(void *value); int64_t (*now_ms)(void); size_t entries_max; };
struct cache *cache_new(const struct cache_options *options) __attribute__((returns_nonnull));
void cache_free(struct cache **cache);
/* Worker, without the lock: fills `entry` (loaded_ms is set). `previous` is what was there; its value may go on by ref(). ERROR_BUSY and ERROR_TIMEOUT are the caller's own: not
   kept. */
typedef void cache_load(void *arg, const struct cache_entry *previous, struct cache_entry *entry);
/* What was loaded at or before `after_ms` does not count. */
struct cache_want { const char *key; struct cancel *cancel; int64_t deadline_ms, after_ms; cache_load *load; void *arg; };
/* *ret_value has a reference for the caller. ret_loaded_ms may be NULL. */
bool cache_get(struct cache *cache, const struct cache_want *want, void **ret_value, int64_t *ret_loaded_ms, struct error *err);
/* Without loading. False: nothing that counts is known. *ret_value is NULL for a failure, which is in *ret_failure then. */
bool cache_find(struct cache *cache, const char *key, void **ret_value, struct error *ret_failure);
/* What is known of `key` counts until `keep_ms` after its load, and no longer. False: nothing counts (any more). */
bool cache_shorten(struct cache *cache, const char *key, int64_t keep_ms);
void cache_purge(struct cache *cache);
int64_t cache_now_ms(const struct cache *cache);
