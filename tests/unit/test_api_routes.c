/* The whole room over a serve and a module that are made here: requests are plain structs, answers are kept to be looked at. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube/process.h>
#include <wasmcached/loop.h>
#include "../../agent/api/front.h"

#define SHA "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHB "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* ---- a serve ---- */
struct pair { const char *name, *value; };
struct serve_request {
        const char *method, *path, *body;
        struct pair headers[4], query[5];
        void *tag, *data;
        struct serve_peer peer;
        uint64_t connection;
        int status;
        char type[80], answer[65536], answer_headers[512];
        size_t answer_bytes;
        bool is_file;
        uint64_t offset, count;
        unsigned answers;
};
struct serve_stream { void *data; struct buffer got; bool is_closed; };
static struct serve_stream the_stream;

const char *serve_request_get_method(const struct serve_request *request) { return request->method; }
const char *serve_request_get_path(const struct serve_request *request) { return request->path; }
const char *serve_request_get_content_type(const struct serve_request *request)
{
        return serve_request_get_header(request, "Content-Type");
}

const char *serve_request_get_header(const struct serve_request *request, const char *name)
{
        for (size_t i = 0; i < 4 && request->headers[i].name; i++)
                if (strcasecmp(request->headers[i].name, name) == 0)
                        return request->headers[i].value;
        return NULL;
}
const char *serve_request_get_query(const struct serve_request *request, const char *name, size_t nth)
{
        for (size_t i = 0; i < 5 && request->query[i].name; i++)
                if (strcmp(request->query[i].name, name) == 0 && nth-- == 0)
                        return request->query[i].value;
        return NULL;
}
const char *serve_request_get_query_name(const struct serve_request *request, size_t index) { return index < 5 ? request->query[index].name : NULL; }
const char *serve_request_get_body(const struct serve_request *request, size_t *ret_size)
{
        *ret_size = request->body ? strlen(request->body) : 0;
        return request->body ? request->body : "";
}
const struct serve_peer *serve_request_get_peer(const struct serve_request *request) { return &request->peer; }
void *serve_request_get_tag(const struct serve_request *request) { return request->tag; }
uint64_t serve_request_get_connection(const struct serve_request *request) { return request->connection; }
void serve_request_set_data(struct serve_request *request, void *data) { request->data = data; }
void *serve_request_get_data(const struct serve_request *request) { return request->data; }
void *serve_request_get_identity(const struct serve_request *request) { (void)request; return NULL; }
bool serve_request_set_group(struct serve_request *request, const struct serve_group *group) { return request && group; }

static void answer_keep(struct serve_request *request, const struct serve_answer *answer)
{
        request->status = answer->status;
        request->answers++;
        snprintf(request->type, sizeof request->type, "%s", answer->content_type ? answer->content_type : "");
        request->answer_headers[0] = '\0';
        for (size_t i = 0; i < answer->header_count; i++) {
                size_t used = strlen(request->answer_headers);
                snprintf(request->answer_headers + used, sizeof request->answer_headers - used, "%s: %s\n", answer->headers[i].name, answer->headers[i].value);
        }
}
void serve_answer(struct serve_request *request, const struct serve_answer *answer)
{
        answer_keep(request, answer);
        assert_non_null(answer->body);
        snprintf(request->answer, sizeof request->answer, "%s", answer->body);
        request->answer_bytes = answer->body_bytes;
}
void serve_answer_file(struct serve_request *request, const struct serve_answer *answer, int fd, uint64_t offset, uint64_t count)
{
        answer_keep(request, answer);
        request->is_file = true;
        request->offset = offset;
        request->count = count;
        close(fd);
}
struct serve_stream *serve_answer_stream(struct serve_request *request, const struct serve_answer *answer, void *data)
{
        answer_keep(request, answer);
        the_stream.data = data;
        the_stream.is_closed = false;
        return &the_stream;
}
void serve_stream_write(struct serve_stream *stream, const void *bytes, size_t size_bytes) { buffer_append(&stream->got, bytes, size_bytes); }
void serve_stream_close(struct serve_stream **stream)
{
        (*stream)->is_closed = true;
        *stream = NULL;
}
void *serve_stream_get_data(const struct serve_stream *stream) { return stream->data; }
void serve_get_stats(const struct serve *serve, struct serve_stats *ret_stats)
{
        (void)serve;
        *ret_stats = (struct serve_stats){ .accepted = 7 };
}
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
        (void)loop;
        fn(arg);
}
void fetch_get_stats(struct fetch_stats *ret_stats) { *ret_stats = (struct fetch_stats){ .requests = 11 }; }

/* ---- what identity.c would need; test_api_identity.c has it ---- */
const struct serve_peer *serve_process_get_peer(const struct serve_process *process) { return process ? NULL : NULL; }
bool serve_process_hold(struct serve_process *process, struct error *err) { return process && err; }
bool serve_process_check(const struct serve_process *process, struct error *err) { return process && err; }
bool kube_process_read(pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err) { return pid && ret_cgroup && err; }
bool kube_reviews_find(struct kube_reviews *reviews, const char *token, struct kube_caller *ret_caller, struct error *err) { return reviews && token && ret_caller && err; }
bool kube_reviews_doubt(struct kube_reviews *reviews, const char *token) { return reviews && token; }
bool kube_reviews_fetch(struct kube_reviews *reviews, const struct kube_call *call, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        return reviews && call && token && ret_caller && err;
}
void kube_caller_fini(struct kube_caller *caller) { *caller = (struct kube_caller){ 0 }; }
void job_start(struct loop *loop, struct job *job) { (void)loop, (void)job; }
void kube_pod_read_running(const struct value *object, struct kube_pod *pod) { (void)object, (void)pod; }

/* ---- what the keeper would need; there is none ---- */
struct loop_timer *loop_timer_start(struct loop *loop, int64_t after_ms, int64_t repeat_ms, void (*fire)(void *arg), void *arg)
{
        (void)loop, (void)after_ms, (void)repeat_ms, (void)fire, (void)arg;
        return NULL;
}
void loop_timer_again(struct loop_timer *timer, int64_t after_ms) { (void)timer, (void)after_ms; }
void loop_timer_cancel(struct loop_timer **timer) { *timer = NULL; }
bool loop_is_loop_thread(void) { return true; }
bool loop_is_worker_thread(void) { return true; }
bool module_want_is_same_source(const struct module_want *a, const struct module_want *b) { return a == b; }
void module_event_emit(struct modules *modules, const struct module_event *event) { (void)modules, (void)event; }
void module_forget_refusals(struct modules *modules, const struct module_want *want) { (void)modules, (void)want; }

/* ---- a module ---- */
struct module_want { unsigned references; bool has_secret; char url[256]; };
const char *module_want_get_host(const struct module_want *want) { return want->url; }
struct module_waiter { int unused; };
struct module_listener { void (*happened)(void *arg, const struct module_event *event); void *arg; };
static struct {
        unsigned decodes, gets, cancels, wants;
        bool is_miss;
        module_answered answered;
        module_done done;
        void *arg;
        struct module_caller caller;
        char told[256], namespace[64];
        struct module_listener *listener;
        enum error_code refusal; unsigned refusal_after_s;
} world;
static struct module_waiter the_waiter;
const char *const module_stage_names[MODULE_STAGES] = { "login", "resolve", "manifest", "download", "unpack", "commit" };
const char *const module_proof_names[MODULE_PROOFS] = { "none", "cosign-bundle" };
const double module_bucket_seconds[MODULE_BUCKETS] = { 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60 };

const char *module_reason_name(size_t reason)
{
        return reason == 0 ? "" : "sig_other_digest";
}

bool module_want_decode(const struct value *body, struct module_want **ret_want, struct error *err)
{
        const char *url = NULL;
        world.decodes++;
        if (!value_read_text(body, "url", ERROR_BAD_REQUEST, &url, err))
                return false;
        if (!url)
                return refuse(err, ERROR_BAD_REQUEST, "url: missing");
        struct module_want *want = memory_new(1, sizeof *want);
        want->references = 1;
        want->has_secret = value_get_member(body, "pullSecret");
        snprintf(want->url, sizeof want->url, "%s", url);
        world.wants++;
        *ret_want = want;
        return true;
}
struct module_want *module_want_ref(struct module_want *want)
{
        want->references++;
        return want;
}
void module_want_unref(struct module_want **want)
{
        struct module_want *old = TAKE(*want);
        if (old && --old->references == 0) {
                world.wants--;
                free(old);
        }
}
bool module_want_has_secret(const struct module_want *want) { return want->has_secret; }
const char *module_source_name(enum module_source source) { return source == MODULE_SOURCE_CACHE ? "cache" : "pulled"; }
static const struct module_object OBJECT = {
        .path = "/m/default/" SHA ".wasm", .sha256 = SHA, .url = "oci://r.example/\"x\":v1", .digest = "sha256:" SHB, .size_bytes = 4711, .lease_id = "00ff",
                .lease_expires_s = 1767225600,
        .urls = (const char *const[]){ "oci://r.example/x:v1", NULL }, .namespaces = (const char *const[]){ "default", NULL },
};
struct module_waiter *module_get(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_answered answered, void *arg)
{
        (void)modules;
        (void)want;
        world.gets++;
        world.caller = *caller;
        world.answered = answered;
        world.arg = arg;
        if (world.is_miss)
                return &the_waiter;
        struct error err = { 0 };
        if (world.refusal)
                refuse(&err, world.refusal, "told so");
        err.retry_after_s = world.refusal_after_s;
        answered(arg, world.refusal ? NULL : &OBJECT, world.refusal ? &err : NULL);
        return NULL;
}
void module_waiter_cancel(struct module_waiter **waiter)
{
        world.cancels++;
        *waiter = NULL;
}
bool module_list(struct modules *modules, const struct module_caller *caller, const struct digest *after, size_t limit, void (*each)(void *arg,
        const struct module_object *object), void *arg)
{
        (void)modules;
        world.caller = *caller;
        snprintf(world.told, sizeof world.told, "limit %zu after %s", limit, after ? "x" : "none");
        struct module_object object = OBJECT;
        object.lease_id = NULL;
        each(arg, &object);
        return limit > 1;
}
bool module_find(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, void (*each)(void *arg, const struct module_object *object), void *arg)
{
        (void)modules;
        (void)caller;
        if (sha256->bytes[0] != 0xaa)
                return false;
        each(arg, &OBJECT);
        return true;
}
bool module_find_name(struct modules *modules, const struct module_caller *caller, const char *name, struct digest *ret_sha256, struct error *err)
{
        (void)modules;
        (void)caller;
        return strcmp(name, "here") == 0 ? digest_parse_hex(SHA, ret_sha256) : refuse(err, ERROR_NOT_FOUND, "no %s", name);
}
bool module_open(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, int *ret_fd, uint64_t *ret_size, struct error *err)
{
        (void)modules;
        (void)caller;
        if (sha256->bytes[0] != 0xaa)
                return refuse(err, ERROR_NOT_FOUND, "not here");
        *ret_fd = dup(0);
        *ret_size = 1000;
        return true;
}
bool module_inspect(struct modules *modules, const struct digest *sha256, struct json_writer *writer, struct error *err)
{
        (void)modules;
        (void)sha256;
        (void)err;
        json_open_map(writer, NULL);
        json_close_map(writer);
        return true;
}
bool module_lease_renew(struct modules *modules, const struct module_caller *caller, const char *id, int64_t *ret_expires_s, struct error *err)
{
        (void)modules;
        world.caller = *caller;
        *ret_expires_s = 1767225600;
        return strcmp(id, "00ff") == 0 || refuse(err, ERROR_NOT_FOUND, "no lease");
}
bool module_lease_end(struct modules *modules, const struct module_caller *caller, const char *id, struct error *err)
{
        int64_t ignored;
        return module_lease_renew(modules, caller, id, &ignored, err);
}
static void work(const char *told, module_done done, void *arg)
{
        snprintf(world.told, sizeof world.told, "%s", told);
        world.done = done;
        world.arg = arg;
        if (!world.is_miss)
                done(arg, "{\"done\":true}", NULL);
}
void module_pin(struct modules *modules, const struct digest *sha256, bool is_pinned, module_done done, void *arg)
{
        (void)modules;
        (void)sha256;
        work(is_pinned ? "pin" : "unpin", done, arg);
}
void module_remove(struct modules *modules, const struct digest *sha256, module_done done, void *arg)
{
        (void)modules;
        (void)sha256;
        work("remove", done, arg);
}
void module_gc(struct modules *modules, bool dry_run, module_done done, void *arg)
{
        (void)modules;
        work(dry_run ? "gc dry" : "gc", done, arg);
}
void module_verify(struct modules *modules, const struct digest *sha256_or_null, module_done done, void *arg)
{
        (void)modules;
        work(sha256_or_null ? "verify one" : "verify all", done, arg);
}
void module_refresh(struct modules *modules, const char *url_or_null, module_done done, void *arg)
{
        (void)modules;
        work(url_or_null ? url_or_null : "refresh all", done, arg);
}
void module_explain(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg)
{
        (void)modules;
        (void)caller;
        work(want->url, done, arg);
}
void module_manifest(struct modules *modules, const struct digest *manifest, module_done done, void *arg)
{
        char text[DIGEST_TEXT_BYTES];
        (void)modules;
        digest_format(manifest, text);
        work(text, done, arg);
}
void module_import(struct modules *modules, const char *url, const struct module_origin *origin_or_null, int fd, module_done done, void *arg)
{
        (void)modules;
        assert_int_equal(digest_is_set(&origin_or_null->manifest), strcmp(url, "from") == 0);
        assert_int_equal(digest_is_set(&origin_or_null->top), strcmp(url, "from") == 0);
        assert_int_equal(origin_or_null->document != NULL, strcmp(url, "from") == 0);
        assert_int_equal(close(fd), 0);
        work(url, done, arg);
}
struct module_listener *module_listen(struct modules *modules, const char *namespace, bool replay, void (*happened)(void *arg, const struct module_event *event), void *arg)
{
        (void)modules;
        (void)replay;
        struct module_listener *listener = memory_new(1, sizeof *listener);
        *listener = (struct module_listener){ happened, arg };
        world.listener = listener;
        snprintf(world.namespace, sizeof world.namespace, "%s", namespace ? namespace : "(all)");
        happened(arg, &(struct module_event){ .number = 1, .wall_ms = 1767225600123, .type = "pulled", .url = "u", .bytes = 5, .total = -1 });
        return listener;
}
void module_unlisten(struct module_listener **listener)
{
        world.listener = NULL;
        free(TAKE(*listener));
}
void module_try_key(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_done done, void *arg)
{
        (void)modules;
        (void)want;
        (void)caller;
        done(arg, "{\"verdict\":\"verified\"}", NULL);
}
/* One wait at a time is enough here. */
struct module_whole_wait { module_whole whole; void *arg; };
static bool is_loading;
static struct module_whole_wait *whole_wait;
bool module_is_whole(const struct modules *modules)
{
        (void)modules;
        return !is_loading;
}
struct module_whole_wait *module_when_whole(struct modules *modules, module_whole whole, void *arg)
{
        (void)modules;
        assert_null(whole_wait);
        whole_wait = memory_new(1, sizeof *whole_wait);
        *whole_wait = (struct module_whole_wait){ whole, arg };
        return whole_wait;
}
void module_whole_cancel(struct module_whole_wait **wait)
{
        assert_ptr_equal(*wait, whole_wait);
        whole_wait = NULL;
        free(TAKE(*wait));
}
static void whole_come(const struct error *err)
{
        static const struct store_report *const nothing;
        struct module_whole_wait *wait = TAKE(whole_wait);
        is_loading = false;
        wait->whole(wait->arg, nothing, err);
        free(wait);
}
void module_get_stats(const struct modules *modules, struct module_stats *ret_stats)
{
        (void)modules;
        *ret_stats = (struct module_stats){ .hits = 5, .store_bytes = 99, .is_loading = is_loading };
        ret_stats->verifications[1][0] = 7;
        ret_stats->verifications[0][1] = 3;
        ret_stats->stages[0].buckets[0] = 2;
        ret_stats->stages[0].buckets[MODULE_BUCKETS] = 1;
        ret_stats->stages[0].count = 3;
        ret_stats->stages[0].sum_us = 1500000;
}

/* ---- callbacks of the daemon ---- */
static const char *reasons = "";
static void daemon_config(void *arg, struct buffer *ret_json)
{
        (void)arg;
        buffer_append_text(ret_json, "{\"store\":{}}");
}
static void daemon_reload(void *arg, module_done done, void *done_arg)
{
        (void)arg;
        done(done_arg, "{\"applied\":[]}", NULL);
}
static void daemon_ready(void *arg, struct buffer *ret_reasons)
{
        (void)arg;
        buffer_append_text(ret_reasons, reasons);
}

static struct api_listener agent = { API_LISTENER_AGENT, API_IDENTITY_FIXED, "default", "/m/{namespace}" };
static struct api_listener trusted = { API_LISTENER_AGENT, API_IDENTITY_TRUSTED, NULL, "/m/{namespace}" };
static struct api_listener admin = { API_LISTENER_ADMIN, API_IDENTITY_TRUSTED, NULL, "/m/{namespace}" };
static struct api_listener probe = { API_LISTENER_METRICS, API_IDENTITY_FIXED, "", "" };

static struct api *api_make(void)
{
        memset(&world, 0, sizeof world);
        reasons = "";
        return api_new(&(struct api_options){ .version = "9.9", .callbacks = { NULL, daemon_config, daemon_reload, daemon_ready } });
}

static void ask(struct api *api, struct serve_request *request)
{
        const struct serve_handler *handler = api_get_handler(api);
        request->peer = request->peer.pid ? request->peer : (struct serve_peer){ true, 42, 1000, 1000 };
        handler->request(handler->arg, request);
}

static struct serve_request *request_make(struct api_listener *listener, const char *method, const char *path, const char *body)
{
        struct serve_request *request = memory_new(1, sizeof *request);
        request->tag = listener;
        request->method = method;
        request->path = path;
        request->body = body;
        return request;
}

/* who, what → status, a piece of the answer or of its headers */
static const struct { struct api_listener *listener; const char *method, *path, *body; struct pair header, query[3]; int status; const char *piece; } rows[] = {
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { 0 } }, 200,
          "{\"path\":\"/m/default/" SHA ".wasm\",\"sha256\":\"" SHA "\",\"size\":4711,\"url\":\"oci://r.example/\\\"x\\\":v1\",\"digest\":\"sha256:" SHB
          "\",\"verified\":null,\"source\":\"cache\",\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"pullSecret\":{}}", { 0 }, { { 0 } }, 200,
          "\"source\":\"cache\",\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "application/json" }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "Application/JSON; charset=utf-8" }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "text/plain" }, { { 0 } }, 415, "\"code\":\"bad_request\"" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "application/jsonx" }, { { 0 } }, 415, "application/jsonx" },
        { &agent, "POST", "/v1/modules", "", { 0 }, { { 0 } }, 400, "body" },
        { &agent, "POST", "/v1/modules", "{\"url\":1}", { 0 }, { { 0 } }, 400, "url" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"url\":\"b\"}", { 0 }, { { 0 } }, 400, "body" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"default\"}", { 0 }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"other\"}", { 0 }, { { 0 } }, 403, "\"code\":\"denied\"" },
        { &trusted, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"other\"}", { 0 }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { "x", "1" } }, 400, "query parameter \\\"x\\\": unknown" },
        { &agent, "PATCH", "/v1/modules", "", { 0 }, { { 0 } }, 405, "Allow: POST, GET, HEAD\n" },
        { &agent, "OPTIONS", "/healthz", "", { 0 }, { { 0 } }, 405, "Allow: GET, HEAD\n" },
        { &agent, "HEAD", "/v1/events", "", { 0 }, { { 0 } }, 405, "Allow: GET\n" },
        { &agent, "GET", "/v1/gc", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/plugins", "", { 0 }, { { 0 } }, 404, "urn:wasmcached:error:not_found" },
        { &agent, "GET", "/", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/a/b", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { 0 } }, 200, "{\"modules\":[{\"path\":" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" } }, 200, "\"continue\":\"" SHA "\"}" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" }, { "continue", SHA } }, 200, "continue" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "0" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1001" } }, 400, "from 1 to 1000" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "-1" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" }, { "limit", "2" } }, 400, "given twice" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "continue", "x" } }, 400, "continue" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "namespace", "other" } }, 403, "denied" },
        { &trusted, "GET", "/v1/modules", "", { 0 }, { { "namespace", "other" } }, 200, "modules" },
        { &trusted, "GET", "/v1/modules", "", { 0 }, { { "namespace", "../x" } }, 400, "DNS label" },
        { &agent, "GET", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 200, "\"sha256\":\"" SHA },
        { &agent, "GET", "/v1/modules/" SHB, "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/abc", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &agent, "GET", "/v1/modules/" SHB "/content", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/xyz/content", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { 0 }, { { 0 } }, 200, "ETag: \"" SHA "\"\nAccept-Ranges: bytes\n" },
        { &agent, "HEAD", "/v1/modules/" SHA "/content", "", { "Range", "bytes=0-1" }, { { 0 } }, 200, "ETag" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "Range", "bytes=10-19" }, { { 0 } }, 206, "Content-Range: bytes 10-19/1000\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "Range", "bytes=1000-" }, { { 0 } }, 416, "Content-Range: bytes */1000\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "If-None-Match", "\"x\", W/\"" SHA "\"" }, { { 0 } }, 304, "ETag: \"" SHA "\"\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "If-Match", "\"x\"" }, { { 0 } }, 412, "bad_request" },
        { &agent, "PUT", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 200, "{\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "PUT", "/v1/leases/00ff", "{\"x\":1}", { 0 }, { { 0 } }, 400, "x" },
        { &agent, "PUT", "/v1/leases/none", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "DELETE", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 204, "" },
        { &agent, "GET", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 405, "Allow: PUT, DELETE\n" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { 0 } }, 200, "{\"number\":1,\"time\":\"2026-01-01T00:00:00.123Z\",\"type\":\"pulled\",\"url\":\"u\",\"bytes\":5}\n" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { "follow", "yes" } }, 400, "follow" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { "namespace", "other" } }, 403, "denied" },
        { &agent, "GET", "/healthz", "", { 0 }, { { 0 } }, 200, "ok\n" },
        { &probe, "GET", "/healthz", "", { 0 }, { { 0 } }, 200, "ok\n" },
        { &probe, "GET", "/readyz", "", { 0 }, { { 0 } }, 200, "ready" },
        { &probe, "GET", "/metrics", "", { 0 }, { { 0 } }, 200, "wasmcached_hits_total 5\n" },
        { &probe, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { 0 } }, 404, "not_found" },
        { &probe, "GET", "/v1/config", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &probe, "POST", "/metrics", "", { 0 }, { { 0 } }, 405, "Allow: GET, HEAD\n" },
        { &agent, "GET", "/openapi.yaml", "", { 0 }, { { 0 } }, 200, "openapi: 3.0.3" },
        { &agent, "DELETE", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 403, "admin socket" },
        { &trusted, "POST", "/v1/gc", "", { 0 }, { { 0 } }, 403, "denied" },
        { &admin, "DELETE", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 200, "{\"done\":true}" },
        { &admin, "DELETE", "/v1/modules/zz", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &admin, "PUT", "/v1/pins/" SHA, "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "DELETE", "/v1/pins/" SHA, "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "{\"dryRun\":true}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "{\"dryRun\":1}", { 0 }, { { 0 } }, 400, "dryRun" },
        { &admin, "POST", "/v1/gc", "{\"dry\":true}", { 0 }, { { 0 } }, 400, "dry" },
        { &admin, "POST", "/v1/gc", "[]", { 0 }, { { 0 } }, 400, "a JSON object is needed" },
        { &admin, "POST", "/v1/verify", "{\"sha256\":\"" SHA "\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/verify", "{\"sha256\":\"x\"}", { 0 }, { { 0 } }, 400, "sha256" },
        { &admin, "POST", "/v1/refresh", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/reload", "", { 0 }, { { 0 } }, 200, "{\"applied\":[]}" },
        { &admin, "GET", "/v1/config", "", { 0 }, { { 0 } }, 200, "{\"store\":{}}" },
        { &admin, "GET", "/v1/explain", "", { 0 }, { { "url", "u" }, { "namespace", "n" } }, 200, "done" },
        { &admin, "GET", "/v1/explain", "", { 0 }, { { 0 } }, 400, "url: missing" },
        { &admin, "POST", "/v1/explain", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "GET", "/v1/status", "", { 0 }, { { 0 } }, 200, "\"ready\":true,\"reasons\":[],\"store\":{\"healthy\":true,\"bytes\":99," },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { "name", "here" } }, 200, "{}" },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { "name", "gone" } }, 404, "no gone" },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { 0 } }, 400, "name" },
        { &admin, "GET", "/v1/manifests/" SHA, "", { 0 }, { { 0 } }, 200, "done" }, { &admin, "GET", "/v1/manifests/x", "", { 0 }, { { 0 } }, 400, "64" },
        { &agent, "GET", "/v1/manifests/" SHA, "", { 0 }, { { 0 } }, 403, "operators" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"manifest\":1}", { 0 }, { { 0 } }, 400, "manifest" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 400, "path: missing" },
        { &admin, "POST", "/v1/import", "{\"path\":\"/x\"}", { 0 }, { { 0 } }, 400, "url: missing" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"x\"}", { 0 }, { { 0 } }, 400, "not absolute" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/does/not/exist\"}", { 0 }, { { 0 } }, 404, "cannot open /does/not/exist" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/dev/null\"}", { 0 }, { { 0 } }, 400, "no regular file" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"digest\":\"sha256:abc\"}", { 0 }, { { 0 } }, 400, "digest: " },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"index\":7}", { 0 }, { { 0 } }, 400, "index" },
        { &admin, "POST", "/v1/import", "{\"url\":\"from\",\"path\":\"/proc/self/cmdline\",\"digest\":\"sha256:" SHA "\",\"index\":\"sha256:" SHA "\",\"manifest\":\"{}\"}", { 0 }, { { 0 } },
          200, "done" },
};

static void test_rows(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(rows[i].listener, rows[i].method, rows[i].path, rows[i].body);
                request->headers[0] = rows[i].header;
                memcpy(request->query, rows[i].query, sizeof rows[i].query);
                ask(api, request);
                if (request->answers != 1 || request->status != rows[i].status || (!strstr(request->answer, rows[i].piece) && !strstr(request->answer_headers, rows[i].piece)))
                        fail_msg("row %zu: %s %s %s → %u answers, %d\n%s%s", i, rows[i].method, rows[i].path, rows[i].body, request->answers, request->status,
                                request->answer_headers, request->answer);
                if (request->status >= 400 && rows[i].listener != &probe)
                        assert_string_equal(request->type, "application/problem+json");
                assert_null(request->data);
        }
        api_close(api);
        api_free(&api);
        assert_int_equal(world.wants, 0);
}

/* The same words are decoded once; words with a secret each time; a remembered answer follows what module says. */
static void test_memo(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct { struct api_listener *listener; const char *body; unsigned decodes; } steps[] = {
                { &agent, "{\"url\":\"a\"}", 1 }, { &agent, "{\"url\":\"a\"}", 1 }, { &trusted, "{\"url\":\"a\"}", 2 }, { &agent, "{\"url\": \"a\"}", 3 }, { &agent,
                  "{\"url\":\"a\"}", 3 },
                { &agent, "{\"url\":\"a\",\"pullSecret\":{}}", 4 }, { &agent, "{\"url\":\"a\",\"pullSecret\":{}}", 5 },
        };
        static char first[sizeof((struct serve_request *)NULL)->answer];
        for (size_t i = 0; i < COUNT_OF(steps); i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(steps[i].listener, "POST", "/v1/modules", steps[i].body);
                ask(api, request);
                assert_int_equal(request->status, 200);
                assert_int_equal(world.decodes, steps[i].decodes);
                if (!*first)
                        snprintf(first, sizeof first, "%s", request->answer);
                assert_string_equal(request->answer, first);
        }
        for (int i = 0; i < 3 * API_MEMO_ENTRIES; i++) {
                char body[64];
                snprintf(body, sizeof body, "{\"url\":\"%d\"}", i);
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", body);
                ask(api, request);
        }
        assert_int_equal(world.wants, API_MEMO_ENTRIES);
        CLEANUP(cleanup_free) char *large = memory_new(1, API_MEMO_BODY_BYTES + 64);
        sprintf(large, "{\"url\":\"a\"%*s}", API_MEMO_BODY_BYTES, "");
        unsigned before = world.decodes;
        for (int i = 0; i < 2; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", large);
                ask(api, request);
        }
        assert_int_equal(world.decodes, before + 2);
        api_free(&api);
        assert_int_equal(world.wants, 0);
}

static void test_waiting(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        world.is_miss = true;
        CLEANUP(cleanup_free) struct serve_request *late = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
        ask(api, late);
        assert_int_equal(late->answers, 0);
        world.answered(world.arg, &OBJECT, NULL);
        assert_int_equal(late->status, 200);
        assert_null(late->data);

        CLEANUP(cleanup_free) struct serve_request *gone = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
        ask(api, gone);
        handler->gone(handler->arg, gone);
        assert_int_equal(world.cancels, 1);
        assert_int_equal(gone->answers, 0);

        CLEANUP(cleanup_free) struct serve_request *left = request_make(&admin, "POST", "/v1/gc", "");
        ask(api, left);
        handler->gone(handler->arg, left);
        world.done(world.arg, "{}", NULL);
        assert_int_equal(left->answers, 0);
        assert_int_equal(world.cancels, 1);
        api_free(&api);
}

static void test_refusals(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (int code = ERROR_NONE + 1; code < ERROR_CODES; code++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
                world.refusal = (enum error_code)code;
                ask(api, request);
                const struct error_row *row = error_get_row((enum error_code)code);
                CLEANUP(value_free) struct value *problem = NULL;
                struct error err = { 0 };
                assert_true(json_parse(request->answer, strlen(request->answer), ERROR_INTERNAL, &problem, &err));
                assert_int_equal(request->status, row->http_status);
                assert_int_equal(value_get_int(value_get_member(problem, "status")), row->http_status);
                assert_string_equal(value_get_text(value_get_member(problem, "code")), row->name);
                assert_string_equal(value_get_text(value_get_member(problem, "detail")), "told so");
                assert_string_equal(value_get_text(value_get_member(problem, "title")), row->title);
                assert_int_equal(strstr(request->answer_headers, "Retry-After: ") != NULL, row->retry == ERROR_RETRY_LATER);
        }
        api_free(&api);
}

/* Seconds only where asking again can help, also for a refusal that is remembered for a while, and for what a peer asks for. */
static void test_retry_after(void **state)
{
        (void)state;
        static const struct { enum error_code code; unsigned after_s; const char *header; } cases[] = {
                { ERROR_BUSY, 0, "Retry-After: 1\n" },                { ERROR_BUSY, 7, "Retry-After: 7\n" },
                { ERROR_RATE_LIMITED, 0, "Retry-After: 10\n" },       { ERROR_RATE_LIMITED, 42, "Retry-After: 42\n" },
                { ERROR_RATE_LIMITED, 9999999, "Retry-After: 3600\n" }, { ERROR_STORE_FULL, 0, "Retry-After: 30\n" },
                { ERROR_TIMEOUT, 0, "Retry-After: 1\n" },             { ERROR_SIGNATURE_UNREACHABLE, 0, "Retry-After: 5\n" },
                { ERROR_UPSTREAM_UNREACHABLE, 0, "Retry-After: 5\n" }, { ERROR_UPSTREAM_ERROR, 3, "Retry-After: 3\n" },
        };
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(cases) + ERROR_CODES; i++) {
                enum error_code code = i < COUNT_OF(cases) ? cases[i].code : (enum error_code)(i - COUNT_OF(cases));
                if (code == ERROR_NONE || (i >= COUNT_OF(cases) && error_get_row(code)->retry == ERROR_RETRY_LATER))
                        continue;
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
                world.refusal = code;
                world.refusal_after_s = i < COUNT_OF(cases) ? cases[i].after_s : 9;
                ask(api, request);
                assert_string_equal(request->answer_headers, i < COUNT_OF(cases) ? cases[i].header : "");
        }
        api_free(&api);
}

static void test_caller(void **state)
{
        (void)state;
        struct api *api = api_make();
        uint64_t holders[4];
        for (int i = 0; i < 4; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(i == 3 ? &admin : &agent, "PUT", "/v1/leases/00ff", "");
                request->connection = (uint64_t)i;
                request->peer = (struct serve_peer){ true, i == 2 ? 0 : 42, 1000, 1000 };
                const struct serve_handler *handler = api_get_handler(api);
                handler->request(handler->arg, request);
                holders[i] = world.caller.holder;
                assert_int_equal(world.caller.is_trusted, i == 3);
                assert_int_equal(world.caller.is_admin, i == 3);
                assert_true(i == 3 ? world.caller.namespace == NULL : string_equal(world.caller.namespace, "default"));
        }
        assert_true(holders[0] == holders[1]);
        assert_true(holders[0] != holders[2]);
        api_free(&api);
}

static void test_events_follow(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        for (int i = 0; i < 2; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(i ? &admin : &agent, "GET", "/v1/events", "");
                request->query[0] = (struct pair){ "follow", "1" };
                buffer_clear(&the_stream.got);
                ask(api, request);
                assert_string_equal(request->type, "application/x-ndjson");
                assert_string_equal(world.namespace, i ? "(all)" : "default");
                world.listener->happened(world.listener->arg, &(struct module_event){ .number = 2, .type = "progress", .total = 9 });
                assert_non_null(strstr(the_stream.got.data, "\"number\":1,"));
                assert_non_null(strstr(the_stream.got.data, "\"bytes\":0,\"total\":9}\n"));
                if (i)
                        api_close(api);
                else
                        handler->stream_gone(handler->arg, &the_stream);
                assert_null(world.listener);
                assert_int_equal(the_stream.is_closed, i == 1);
        }
        CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "GET", "/healthz", "");
        ask(api, request);
        assert_int_equal(request->status, 503);
        buffer_fini(&the_stream.got);
        api_free(&api);
}

static void test_not_ready(void **state)
{
        (void)state;
        struct api *api = api_make();
        reasons = "store: read-only\nno listener\n";
        CLEANUP(cleanup_free) struct serve_request *request = request_make(&probe, "GET", "/readyz", "");
        ask(api, request);
        assert_int_equal(request->status, 503);
        assert_string_equal(request->answer, reasons);
        assert_string_equal(request->answer_headers, "Retry-After: 1\n");
        CLEANUP(cleanup_free) struct serve_request *status = request_make(&admin, "GET", "/v1/status", "");
        ask(api, status);
        assert_non_null(strstr(status->answer, "\"ready\":false,\"reasons\":[\"store: read-only\",\"no listener\"]"));
        api_free(&api);
}

static void test_problem_of_serve(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        const struct { int status; const char *code; } statuses[] = {
                { 400, "bad_request" }, { 408, "timeout" }, { 413, "too_large" }, { 414, "too_large" }, { 429, "busy" }, { 431, "too_large" }, { 500, "internal" }, { 503, "busy" },
        };
        for (size_t i = 0; i < COUNT_OF(statuses); i++) {
                CLEANUP(cleanup_free) char *code = string_format("\"status\":%d,\"detail\":\"a \\\"b\\\"\",\"code\":\"%s\"}", statuses[i].status, statuses[i].code);
                assert_non_null(strstr(handler->problem(handler->arg, statuses[i].status, "a \"b\""), code));
        }
        api_free(&api);
}

static const struct { const char *accept; bool open; } accepts[] = {
        { NULL, false }, { "", false }, { "*/*", false }, { "text/plain", false }, { "application/openmetrics-text", true },
          { "application/openmetrics-text; version=1.0.0", true },
        { "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", true }, { "text/plain;q=0.9, application/openmetrics-text;q=0.1", false },
        { "application/openmetrics-text;q=0", false }, { "application/openmetrics-textual", false }, { "Application/OpenMetrics-Text", true },
};

/* What lists, changes or lets go of modules waits for the whole of a large store; hits, probes and numbers do not. */
static const struct { struct api_listener *listener; const char *method, *path, *body; bool waits; int status; } loading_rows[] = {
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", false, 200 },
        { &agent, "GET", "/v1/modules", "", true, 200 },
        { &agent, "GET", "/v1/modules/" SHA, "", true, 200 },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", true, 200 },
        { &agent, "PUT", "/v1/leases/00ff", "", true, 200 },
        { &agent, "DELETE", "/v1/leases/00ff", "", true, 204 },
        { &agent, "GET", "/metrics", "", false, 200 },
        { &agent, "GET", "/healthz", "", false, 200 },
        { &agent, "GET", "/readyz", "", false, 200 },
        { &admin, "GET", "/v1/status", "", false, 200 },
        { &admin, "GET", "/v1/config", "", false, 200 },
        { &admin, "POST", "/v1/reload", "", false, 200 },
        { &admin, "DELETE", "/v1/modules/" SHA, "", true, 200 },
        { &admin, "PUT", "/v1/pins/" SHA, "", true, 200 },
        { &admin, "DELETE", "/v1/pins/" SHA, "", true, 200 },
        { &admin, "POST", "/v1/gc", "", true, 200 },
        { &admin, "POST", "/v1/verify", "", true, 200 },
        { &admin, "POST", "/v1/refresh", "", true, 200 },
        { &admin, "POST", "/v1/explain", "{\"url\":\"a\"}", true, 200 },
        { &admin, "POST", "/v1/verify-signature", "{\"url\":\"a\"}", true, 200 },
        { &agent, "PATCH", "/v1/modules", "", false, 405 },
        { &agent, "POST", "/v1/gc", "", false, 403 },
};

static void test_loading(void **state)
{
        (void)state;
        struct api *api = api_make();
        struct error err;
        api->options.modules = (void *)&world;
        refuse(&err, ERROR_BUSY, "the daemon is stopping");
        for (size_t i = 0; i < COUNT_OF(loading_rows); i++) {
                print_message("%s %s\n", loading_rows[i].method, loading_rows[i].path);
                is_loading = true;
                CLEANUP(cleanup_free) struct serve_request *request = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, request);
                assert_int_equal(request->answers, !loading_rows[i].waits);
                if (loading_rows[i].waits)
                        whole_come(NULL);
                assert_int_equal(request->answers, 1);
                assert_int_equal(request->status, loading_rows[i].status);

                /* Another one goes before it is there, and one is told that it never will be. */
                if (!loading_rows[i].waits)
                        continue;
                is_loading = true;
                CLEANUP(cleanup_free) struct serve_request *gone = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, gone);
                api_get_handler(api)->gone(api_get_handler(api)->arg, gone);
                assert_null(whole_wait);
                assert_int_equal(gone->answers, 0);
                CLEANUP(cleanup_free) struct serve_request *late = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, late);
                whole_come(&err);
                assert_int_equal(late->status, 503);
        }
        is_loading = true;
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        api_metrics_print(api, false, &text);
        assert_non_null(strstr(text.data, "\nwasmcached_store_loading 1\n"));
        assert_null(strstr(text.data, "wasmcached_store_modules "));
        assert_null(strstr(text.data, "wasmcached_store_size_bytes "));
        assert_non_null(strstr(text.data, "\nwasmcached_store_budget_bytes "));
        CLEANUP(cleanup_free) struct serve_request *status = request_make(&admin, "GET", "/v1/status", "");
        ask(api, status);
        assert_non_null(strstr(status->answer, "\"loading\":true"));
        assert_null(strstr(status->answer, "\"references\""));
        is_loading = false;
        buffer_clear(&text);
        api_metrics_print(api, false, &text);
        assert_non_null(strstr(text.data, "\nwasmcached_store_loading 0\n"));
        assert_non_null(strstr(text.data, "\nwasmcached_store_modules 0\n"));
        api_close(api);
        api_free(&api);
}

static void test_metrics(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(accepts); i++)
                assert_int_equal(api_metrics_wants_open(accepts[i].accept), accepts[i].open);

        CLEANUP(buffer_fini) struct buffer plain = { 0 };
        CLEANUP(buffer_fini) struct buffer open = { 0 };
        api_metrics_print(api, false, &plain);
        api_metrics_print(api, true, &open);
        assert_non_null(strstr(plain.data, "# TYPE wasmcached_hits_total counter\nwasmcached_hits_total 5\n"));
        assert_non_null(strstr(open.data, "# TYPE wasmcached_hits counter\nwasmcached_hits_total 5\n"));
        assert_non_null(strstr(open.data, "# UNIT wasmcached_store_size_bytes bytes\nwasmcached_store_size_bytes 99\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"0.001\"} 2\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"1.0\"} 2\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"+Inf\"} 3\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_sum{stage=\"login\"} 1.500000\n"));
        assert_non_null(strstr(plain.data, "wasmcached_verifications_total{format=\"cosign-bundle\",result=\"verified\",reason=\"\"} 7\n"));
        assert_non_null(strstr(plain.data, "wasmcached_verifications_total{format=\"none\",result=\"refused\",reason=\"sig_other_digest\"} 3\n"));
        assert_non_null(strstr(plain.data, "wasmcached_build_info{version=\"9.9\"} 1\n"));
        assert_true(string_ends_with(open.data, "\n# EOF\n"));
        assert_null(strstr(plain.data, "# EOF"));
        api_free(&api);
}

/* Every line of the table is in the description with its method, and every schema that is named is there. */
static void test_openapi(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        api_print_openapi("9.9", &text);
        for (size_t i = 0; i < api_route_count; i++) {
                const struct api_route *route = &api_routes[i];
                CLEANUP(cleanup_free) char *path = string_format("\n  %s:\n", route->path);
                CLEANUP(cleanup_free) char *summary = string_format("summary: \"%s\"", route->summary);
                const char *at = strstr(text.data, path);
                if (!at || !strstr(at, summary))
                        fail_msg("%s %s is not described", route->method, route->path);
                const char *const names[] = { route->schema, route->answer };
                for (size_t n = 0; n < COUNT_OF(names); n++) {
                        CLEANUP(cleanup_free) char *schema = string_format("\n    %s:", names[n] ? names[n] : "Problem");
                        if (names[n] && !strchr(names[n], '/') && !strstr(text.data, schema))
                                fail_msg("schema %s is not there", names[n]);
                }
        }
        if (system("python3 -c 'import yaml' 2>/dev/null") != 0)
                return;
        FILE *python = popen("python3 -c 'import sys, yaml; d = yaml.safe_load(sys.stdin); sys.exit(0 if len(d[\"paths\"]) > 15 and d[\"openapi\"] == \"3.0.3\" else 1)'", "w");
        assert_non_null(python);
        assert_int_equal(fwrite(text.data, 1, text.used, python), text.used);
        assert_int_equal(pclose(python), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows), cmocka_unit_test(test_memo), cmocka_unit_test(test_waiting), cmocka_unit_test(test_refusals), cmocka_unit_test(test_retry_after),
                cmocka_unit_test(test_caller),
                cmocka_unit_test(test_events_follow), cmocka_unit_test(test_not_ready), cmocka_unit_test(test_problem_of_serve), cmocka_unit_test(test_metrics), cmocka_unit_test(test_loading),
                        cmocka_unit_test(test_openapi),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
