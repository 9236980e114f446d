/*
 * kube: the Kubernetes API: get a Secret, list and watch, which pod is this, TokenReview, Events. Rules: reference/oci-and-kubernetes.md 3, 4, and kube-measured.md.
 * Everything is for workers and blocks, without threads of its own; any number of workers may use one struct kube. Pure functions say "in memory".
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

enum kube_mode { KUBE_IN_CLUSTER, KUBE_KUBECONFIG };
struct kube_options {
        enum kube_mode mode;
        const char *kubeconfig;           /* file; with KUBE_KUBECONFIG */
        const char *account_dir;          /* NULL = /var/run/secrets/kubernetes.io/serviceaccount; with KUBE_IN_CLUSTER */
        int64_t connect_timeout_ms;       /* 0 = 10 s */
        int64_t backoff_first_ms, backoff_most_ms;         /* of watches and retries; 0 = 800 ms, 30 s */
        int64_t silence_ms;               /* a watch without a line (bookmarks come each minute) for so long is not trusted: list again; 0 = 150 s */
};
struct kube;
/* Reads the configuration; ERROR_BAD_REQUEST names file and field. No request is made. */
bool kube_new(const struct kube_options *options, struct kube **ret_kube, struct error *err);
void kube_free(struct kube **kube);               /* after all that use it have returned */
const char *kube_get_server(const struct kube *kube);              /* "https://host:port[/prefix]" */

/* One question and its bounds. deadline_ms is a clock_get_ms() value, 0 = 30 s from now. */
struct kube_call { struct kube *kube; struct cancel *cancel; int64_t deadline_ms; };

/* What the server said when it said no (a Status object, or what could be read). All zero = it said nothing. */
struct kube_status { int code; char reason[64], cause[64], message[256]; unsigned retry_after_s; };
/*
 * `method` GET, POST or PATCH (merge); `path` with query, from "/api…" on; `body` JSON or NULL. A GET is tried again over broken connections, everything on 429 and 5xx with
 * Retry-After; on 401 the token is read anew and used once. *ret_object is the JSON answer. ret_status may be NULL. Errors: ERROR_UNAUTHORIZED (401), ERROR_DENIED (403),
 * ERROR_NOT_FOUND, ERROR_RATE_LIMITED (429), ERROR_UPSTREAM_ERROR (others, garbage), ERROR_TOO_LARGE, fetch's. Texts: method, URL without query, reason, message; no body of ours.
 */
struct kube_ask { const char *method, *path, *body; };
bool kube_request(const struct kube_call *call, const struct kube_ask *ask, struct value **ret_object, struct kube_status *ret_status, struct error *err);

/* ---- Secrets: one, by name. Shared and immutable; bytes are wiped when the last reference goes. */
struct kube_secret;
struct kube_secret *kube_secret_ref(struct kube_secret *secret);
void kube_secret_unref(struct kube_secret **secret);
const char *kube_secret_get_type(const struct kube_secret *secret);
const char *kube_secret_get_uid(const struct kube_secret *secret);         /* another uid under the same name is another principal */
const char *kube_secret_get_version(const struct kube_secret *secret);     /* resourceVersion: equality only */
const struct secret *kube_secret_get_data(const struct kube_secret *secret, const char *key);      /* NULL: no such key */
/* ERROR_SECRET_MISSING names namespace/name and what lacks: not there, forbidden (403), no name of a Secret. Else kube_request's errors: not reachable is not refused. */
bool kube_fetch_secret(const struct kube_call *call, const char *namespace, const char *name, struct kube_secret **ret_secret, struct error *err);
/* The docker config in it: type and key must be those of a pull secret, and not empty; else ERROR_SECRET_MISSING. In memory; *ret_config belongs to `secret`. */
bool kube_secret_get_docker_config(const struct kube_secret *secret, const struct secret **ret_config, bool *ret_is_legacy, struct error *err);

/* The short cache before it: one request per Secret at a time, whoever asks. An unreachable API lets what was read before count for `grace_ms` more; a refusal never does. */
/* 0 = 2 min (+- 25 %), 10 s, 30 s, 10 s, 5 min; NULL = clock_get_ms */
struct kube_secrets_options { int64_t keep_ms, absent_ms, denied_ms, reread_ms, grace_ms; int64_t (*now_ms)(void); };
struct kube_secrets;
struct kube_secrets *kube_secrets_new(const struct kube_secrets_options *options) __attribute__((returns_nonnull));
void kube_secrets_free(struct kube_secrets **secrets);
bool kube_secrets_fetch(struct kube_secrets *secrets, const struct kube_call *call, const char *namespace, const char *name, struct kube_secret **ret_secret, struct error *err);
/* A registry did not take `used`: reads again, once per `reread_ms`. True: *ret_secret is another version (or uid); false with ERROR_NONE: it is still the same; else the error. */
bool kube_secrets_fetch_newer(struct kube_secrets *secrets, const struct kube_call *call, const struct kube_secret *used, struct kube_secret **ret_secret, struct error *err);
void kube_secrets_purge(struct kube_secrets *secrets);             /* wipes what is out of date; any thread, now and then */

/* ---- list + watch */
struct kube_kind { const char *group, *version, *plural; };        /* group "" = core */
enum kube_change { KUBE_PUT, KUBE_DELETE };
struct kube_object {
        enum kube_change change;
        const char *namespace, *name, *uid, *version;              /* never NULL; namespace "" = none */
        struct value *object;             /* may be taken (TAKE). NULL: it cannot be read (too large, too deep, not JSON), `problem` says why; it exists all the same */
        const struct error *problem;
        size_t size_bytes;                /* of its text */
};
enum kube_watch_state { KUBE_WATCH_LISTING, KUBE_WATCH_LIVE, KUBE_WATCH_LOST };
/* Called on the worker that runs the watch. False ends the watch with their error. What is given is borrowed for the call, unless it says else. */
struct kube_visitor {
        bool (*begin)(struct kube_visitor *visitor, struct error *err);            /* a list begins: its objects replace all others at commit */
        bool (*object)(struct kube_visitor *visitor, struct kube_object *object, struct error *err);        /* between begin and commit: of the list; else one change */
        bool (*commit)(struct kube_visitor *visitor, struct error *err);
        void (*abandon)(struct kube_visitor *visitor);             /* the list broke off: forget what came since begin, what was before holds */
        void (*state)(struct kube_visitor *visitor, enum kube_watch_state state, const struct error *err);  /* may be NULL; err with LOST: why. ERROR_NOT_FOUND: no such kind */
};
struct kube_watch {
        struct kube_kind kind;
        const char *namespace;            /* NULL = all */
        const char *field_selector, *label_selector;       /* NULL = none; "spec.nodeName=NODE" */
        size_t object_bytes_max;          /* 0 = 1 MiB; larger ones are given without content, above 16 times of it the connection is dropped */
        uint64_t list_bytes_max;          /* 0 = 512 MiB */
        bool no_streaming;                /* never ask for a streaming list */
        unsigned window_s;                /* timeoutSeconds of a watch, up to twice as long; 0 = 300 */
};
/* Lists, then watches, over every failure of the server, until cancelled (ERROR_BUSY) or refused by the visitor: always false. Occupies its worker. */
bool kube_watch_run(struct kube *kube, const struct kube_watch *watch, struct kube_visitor *visitor, struct cancel *cancel, struct error *err);

/* ---- Events (events.k8s.io/v1) on an object, deduplicated and rate-limited */
struct kube_event { const char *api_version, *kind, *namespace, *name, *uid; bool is_warning; const char *reason, *action, *note; };
struct kube_events;
struct kube_events *kube_events_new(const char *controller, const char *instance, int64_t (*now_ms)(void)) __attribute__((returns_nonnull));     /* "wasmcached.dev/agent", node */
void kube_events_free(struct kube_events **events);
enum kube_event_end { KUBE_EVENT_WRITTEN, KUBE_EVENT_COUNTED, KUBE_EVENT_DROPPED };         /* made; added to a series, or will be; over the limits */
bool kube_events_write(struct kube_events *events, const struct kube_call *call, const struct kube_event *event, enum kube_event_end *ret_end, struct error *err);

/* ---- who is asking */
struct kube_caller { char *namespace, *service_account, *pod_name, *pod_uid, *node_name; };        /* node_name "" where the server does not say */
void kube_caller_fini(struct kube_caller *caller);
struct kube_reviews;
struct kube_reviews *kube_reviews_new(const char *audience, int64_t (*now_ms)(void)) __attribute__((returns_nonnull));
void kube_reviews_free(struct kube_reviews **reviews);
/* TokenReview with our audience, remembered by hash until the token ends, at most 5 min. ERROR_UNAUTHORIZED: no good token; ERROR_DENIED: good, but of no pod. */
bool kube_reviews_fetch(struct kube_reviews *reviews, const struct kube_call *call, const char *token, struct kube_caller *ret_caller, struct error *err);

struct kube_label { char *name, *value; };
struct kube_pod { char *namespace, *name, *uid, *node_name, *service_account, *mirror_hash, **containers; struct kube_label *labels;
                  size_t label_count, container_count; bool is_ended; };
/* In memory. mirror_hash: of the static pod that this one stands for, else NULL. containers: 64 hex each. ERROR_UPSTREAM_ERROR names the field. */
bool kube_pod_read(const struct value *object, struct kube_pod *ret_pod, struct error *err);
void kube_pod_fini(struct kube_pod *pod);
/* pod: a UID, or with is_static the config hash of a static pod. container: 64 hex, "" where the path has none. */
struct kube_cgroup { char pod[37], container[65]; bool is_static; };
/* The text of /proc/PID/cgroup, v1 and v2, cgroupfs and systemd: the first pod from the root side, only below a kubepods group. In memory. ERROR_DENIED says why it is no pod's. */
bool kube_cgroup_read(const char *text, size_t size_bytes, struct kube_cgroup *ret_cgroup, struct error *err);
