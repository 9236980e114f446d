/* For tests of the whole room api: a serve, a keeper and a module that are made here. Requests are plain structs, answers are kept to be looked at. Include after cmocka.h. */
#pragma once
#include "../../agent/api/front.h"

#define RIG __attribute__((unused)) static

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
RIG struct serve_stream the_stream;

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

RIG void answer_keep(struct serve_request *request, const struct serve_answer *answer)
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
RIG struct {
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
RIG struct module_waiter the_waiter;
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
RIG const struct module_object OBJECT = {
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
RIG void work(const char *told, module_done done, void *arg)
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
RIG bool is_loading;
RIG struct module_whole_wait *whole_wait;
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
RIG void whole_come(const struct error *err)
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
RIG const char *reasons = "";
RIG void daemon_config(void *arg, struct buffer *ret_json)
{
        (void)arg;
        buffer_append_text(ret_json, "{\"store\":{}}");
}
RIG void daemon_reload(void *arg, module_done done, void *done_arg)
{
        (void)arg;
        done(done_arg, "{\"applied\":[]}", NULL);
}
RIG void daemon_ready(void *arg, struct buffer *ret_reasons)
{
        (void)arg;
        buffer_append_text(ret_reasons, reasons);
}

RIG struct api_listener agent = { API_LISTENER_AGENT, API_IDENTITY_FIXED, "default", "/m/{namespace}" };
RIG struct api_listener trusted = { API_LISTENER_AGENT, API_IDENTITY_TRUSTED, NULL, "/m/{namespace}" };
RIG struct api_listener admin = { API_LISTENER_ADMIN, API_IDENTITY_TRUSTED, NULL, "/m/{namespace}" };
RIG struct api_listener probe = { API_LISTENER_METRICS, API_IDENTITY_FIXED, "", "" };

RIG struct api *api_make(void)
{
        memset(&world, 0, sizeof world);
        reasons = "";
        return api_new(&(struct api_options){ .version = "9.9", .callbacks = { NULL, daemon_config, daemon_reload, daemon_ready } });
}

RIG void ask(struct api *api, struct serve_request *request)
{
        const struct serve_handler *handler = api_get_handler(api);
        request->peer = request->peer.pid ? request->peer : (struct serve_peer){ true, 42, 1000, 1000 };
        handler->request(handler->arg, request);
}

RIG struct serve_request *request_make(struct api_listener *listener, const char *method, const char *path, const char *body)
{
        struct serve_request *request = memory_new(1, sizeof *request);
        request->tag = listener;
        request->method = method;
        request->path = path;
        request->body = body;
        return request;
}
