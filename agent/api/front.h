/* front: what the files of this room share: the api, one call on its way through a route, one answer that is waited for. Loop only. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/api.h>
#include <wasmcached/base.h>
#include <wasmcached/module.h>
#include <wasmcached/plugin/keeper.h>
#include <wasmcached/serve.h>

enum { API_PARAMETER_BYTES = 160, API_ROUTES_MAX = 48, API_MEMO_ENTRIES = 256, API_MEMO_BODY_BYTES = 4096 };

struct api_call;
struct api_follower;
struct api_memo;
struct api_chains;
struct api_poll;
struct api_review;
struct api_newcomer;

enum api_who { API_AGENT = 1 << API_LISTENER_AGENT, API_ADMIN = 1 << API_LISTENER_ADMIN, API_METRICS = 1 << API_LISTENER_METRICS };

struct api_query { const char *name, *prose; };
struct api_route {
        const char *method;               /* GET answers HEAD too, unless it streams */
        const char *path;                 /* at most one {parameter}, a whole segment */
        unsigned who;                     /* enum api_who */
        void (*handle)(struct api_call *call);
        const struct api_query *query;    /* allowed names, ends with a NULL name; NULL = none */
        const char *schema;               /* of the body; NULL = none is taken */
        const char *answer;               /* schema of 200, or a media type ("application/wasm"); NULL = 204 without a body */
        const char *summary;
        bool is_stream, needs_all;        /* needs_all: waits while a large store is read in the background */
};
extern const struct api_route api_routes[];
extern const size_t api_route_count;

/* One request while its handler runs; on the dispatcher's stack. */
struct api_call {
        struct api *api;
        struct serve_request *request;
        const struct api_route *route;
        const struct api_listener *listener;
        struct module_caller caller;
        const struct plugin_pod *pod;     /* with identity pod: the caller's, borrowed for the call; NULL where only its namespace is known */
        char parameter[API_PARAMETER_BYTES];
};

/* One request that waits for module. Belongs to the api's list until it is answered, or nobody wants the answer any more. */
struct api_ask {
        struct api *api;
        struct serve_request *request;    /* NULL once the peer is gone */
        struct module_waiter *waiter;     /* of module_get() */
        struct module_caller caller;
        size_t route;
        bool is_answered;                 /* before module's call returned */
        struct api_poll *poll;            /* of GET /v1/plugins with wait */
        struct api_review *review;        /* of its token */
        struct module_whole_wait *whole;  /* for the rest of a large store */
        struct api_newcomer *newcomer;    /* whose pod is waited for */
        struct api_memo_entry *entry;     /* only while module_get() runs: where the rendered answer is remembered */
        struct api_ask *next_spare;
};

struct api {
        struct api_options options;
        struct serve_handler handler;
        struct serve *serve;
        struct api_memo *memo;
        struct buffer scratch;            /* the body being written; reused */
        struct buffer problem;            /* for serve's own errors */
        struct buffer openapi;
        struct api_ask *spare;
        struct api_follower *followers;
        struct api_chains *chains;        /* rendered ones, and who waits for another */
        struct map *namespaces;           /* texts that callers point to */
        struct api_review *reviews, **reviews_end;
        unsigned reviews_running, newcomer_count;
        struct api_newcomer *newcomers;
        struct keeper_watch *newcomers_watch;     /* while there are any */
        unsigned asks;                    /* given out */
        bool is_closing;
        int64_t started_wall_s, expires_s;
        char expires_text[CLOCK_RFC3339_BYTES];
        uint64_t answers[API_ROUTES_MAX + 1][ERROR_CODES];      /* last row: no route; ERROR_NONE = well */
};

/* ---- route.c ---- */
/* NULL with `err` and an HTTP status: no such path, other methods (`ret_allow` lists them), not for this listener. */
const struct api_route *api_route_find(const struct api_listener *listener, const char *method, const char *path, char ret_parameter[API_PARAMETER_BYTES], struct buffer *ret_allow,
        int *ret_status, struct error *err);
bool api_query_repeats(const char *name);
bool api_query_check(const struct serve_request *request, const struct api_route *route, struct error *err);

/* ---- answer.c: each of them answers and counts; the request is invalid afterwards ---- */
void api_answer_json(struct api *api, struct serve_request *request, size_t route, const struct buffer *body);
void api_answer_text(struct api_call *call, int status, const char *content_type, const struct buffer *body);
void api_answer_nothing(struct api_call *call, int status, const struct serve_header *headers, size_t header_count);
void api_answer_error(struct api *api, struct serve_request *request, size_t route, const struct error *err);
/* Another status than the error's own, and one header more (NULL = none). */
struct api_refusal { int status; const char *title; struct serve_header header; };
void api_answer_refusal(struct api *api, struct serve_request *request, size_t route, const struct api_refusal *refusal, const struct error *err);
void api_call_fail(struct api_call *call, const struct error *err);
size_t api_call_route(const struct api_call *call);
struct buffer *api_scratch(struct api *api);              /* cleared */

/* Status 200, or 304, of which serve sends only the length; with ETag. */
void api_answer_tagged(struct api *api, struct serve_request *request, size_t route, int status, const char *etag, const struct buffer *body);

/* ---- identity.c: identity pod ---- */
enum api_identified { API_IDENTIFIED, API_REFUSED, API_CROWDED, API_WAITS };       /* CROWDED: 429; WAITS: api_handle_reviewed() will be called, unless the request goes */
void *api_arrived(void *arg, void *tag, struct serve_process *process, struct serve_group *ret_group);
/* Fills the call's pod, and its caller's namespace and holder. `review` NULL at first, then the one that was waited for. */
enum api_identified api_identify(struct api_call *call, const struct api_review *review, struct error *err);
void api_handle_reviewed(struct api *api, struct serve_request *request, const struct api_review *review);
void api_review_gone(struct api_review *review);
void api_reviews_close(struct api *api);

/* ---- newcomer.c: a caller whose pod is not known, but may be in a moment ---- */
/* False: too many wait. Else api_handle_reviewed() will be called with API_HAS_WAITED. */
bool api_newcomer_start(struct api_call *call, const struct kube_cgroup *cgroup);
extern const struct api_review *const API_HAS_WAITED;
void api_newcomer_gone(struct api_newcomer *newcomer);
void api_newcomers_close(struct api *api);

/* ---- question.c: GET /v1/plugins and explain: which workload, which traffic ---- */
struct api_question {
        char *namespace;
        struct plugin_label *labels; size_t label_count;           /* sorted by key */
        struct plugin_service *services; size_t service_count;
        struct plugin_traffic traffic;
        bool has_times;
};
/* From the query's parameters, by the rules of the listener. api_question_fini() in any case. */
bool api_question_read(struct api_call *call, struct api_question *ret_question, struct error *err);
void api_question_set_pod(struct api_question *question, const struct plugin_pod *pod);        /* its labels */
void api_question_fini(struct api_question *question);
struct plugin_workload api_question_workload(const struct api_question *question);       /* borrowed */

/* ---- chains.c ---- */
struct api_chains *api_chains_new(struct api *api) __attribute__((returns_nonnull));
void api_chains_close(struct api_chains *chains);         /* who waits is told that the daemon stops */
void api_chains_free(struct api_chains **chains);
void api_poll_gone(struct api_poll **poll);
/* What of it is in the folder of this namespace, as this listener's callers see it. */
char *api_plugin_path(const struct api_listener *listener, const char *namespace, const char *sha256);

/* ---- ask.c ---- */
struct api_ask *api_ask_new(const struct api_call *call) __attribute__((returns_nonnull));
void api_ask_free(struct api_ask **ask);
void api_ask_gone(struct api_ask *ask);
/* True: the request is handled from its beginning when everything is in the catalog. */
bool api_ask_for_all(struct api_call *call);
/* A module_done: the JSON as 200, or the problem. */
void api_ask_done(void *arg, const char *json, const struct error *err);

/* ---- body.c ---- */
/* Content-Type absent or application/json (else a 415 is answered), one JSON object with these members only (NULL-terminated; none = the body may be empty too). Answers
   itself when false. */
bool api_body_read(struct api_call *call, const char *const *names, struct value **ret_body);
bool api_body_is_json(struct api_call *call);
bool api_parameter_digest(struct api_call *call, struct digest *ret_sha256, struct error *err);

/* ---- object.c ---- */
/* Members of the module object (contract 2) without source and lease into an open map; `details` adds what operators see. */
void api_object_put(struct json_writer *writer, const struct module_object *object, bool details);
void api_object_put_lease(struct json_writer *writer, const struct module_object *object);
/* The whole answer to POST /v1/modules, remembered by `entry` (may be NULL). Valid until the next answer is printed. */
const struct buffer *api_object_print(struct api *api, const struct module_object *object, struct api_memo_entry *entry);

/* ---- memo.c: decoded wants by (listener, caller's namespace, exact body) ---- */
struct api_memo_entry {
        struct module_want *want;
        size_t key_bytes;
        struct buffer rendered;           /* the last answer: body_bytes for exactly the object below, then the lease, for this lease_id and end */
        size_t body_bytes;
        char lease_id[40];
        int64_t lease_expires_s;
        char *path, *url, *digest, *verified_format, *verified_key, *sha256;
        uint64_t size_bytes;
        enum module_source source;
        unsigned char key[];
};
struct api_memo *api_memo_new(void) __attribute__((returns_nonnull));
void api_memo_free(struct api_memo **memo);
struct api_memo_entry *api_memo_get(const struct api_call *call, const char *body, size_t body_bytes);
/* Takes a reference of `want`. NULL when it is not to be kept: a body that is too long or has a secret. */
struct api_memo_entry *api_memo_put(const struct api_call *call, const char *body, size_t body_bytes, struct module_want *want);

/* ---- range.c: RFC 9110 13, 14 ---- */
enum api_range_kind { API_RANGE_WHOLE, API_RANGE_PART, API_RANGE_NONE };   /* NONE: 416 */
struct api_range { uint64_t offset, count; };
enum api_range_kind api_range_parse(const char *header, uint64_t size_bytes, struct api_range *ret_range);
/* Is `etag` (with quotes) in a header of If-Match or If-None-Match; "*" is any. Weak comparison when `weak`. */
bool api_etag_in(const char *header, const char *etag, bool weak);

/* ---- metrics.c, events.c ---- */
void api_metrics_print(struct api *api, bool open_metrics, struct buffer *out);
bool api_metrics_wants_open(const char *accept);
void api_events_close(struct api *api);
void api_events_stream_gone(struct api *api, struct serve_stream *stream);

/* ---- handlers, one per line of the route table ---- */
void api_handle_get(struct api_call *call);
void api_handle_list(struct api_call *call);
void api_handle_one(struct api_call *call);
void api_handle_content(struct api_call *call);
void api_handle_lease_renew(struct api_call *call);
void api_handle_lease_end(struct api_call *call);
void api_handle_events(struct api_call *call);
void api_handle_metrics(struct api_call *call);
void api_handle_health(struct api_call *call);
void api_handle_ready(struct api_call *call);
void api_handle_openapi(struct api_call *call);
void api_handle_remove(struct api_call *call);
void api_handle_pin(struct api_call *call);
void api_handle_unpin(struct api_call *call);
void api_handle_gc(struct api_call *call);
void api_handle_verify(struct api_call *call);
void api_handle_verify_signature(struct api_call *call);
void api_handle_refresh(struct api_call *call);
void api_handle_reload(struct api_call *call);
void api_handle_config(struct api_call *call);
void api_handle_explain_query(struct api_call *call);
void api_handle_explain(struct api_call *call);
void api_handle_status(struct api_call *call);
void api_handle_inspect(struct api_call *call);
void api_handle_manifest(struct api_call *call);
void api_handle_import(struct api_call *call);
void api_handle_plugins(struct api_call *call);
void api_handle_resources(struct api_call *call);
void api_explain_plugin(struct api_call *call);           /* of GET /v1/explain?plugin= */
/* `limit` of a page, 100 if not given. */
bool api_limit_read(const struct api_call *call, size_t *ret_limit, struct error *err);
/* The want of a request body (decoded or remembered), the namespace rule applied; *ret_entry may be NULL. */
bool api_want_read(struct api_call *call, struct module_want **ret_want, struct api_memo_entry **ret_entry, struct error *err);
