/*
 * How it goes: serve hands over a whole request; its route is found in the table, its query checked, and the route's handler answers now or keeps the request in an api_ask.
 * How it fails: every refusal is a problem+json made in answer.c; serve's own errors get the same form through problem().
 * How it ends: api_close() ends streams and refuses what still comes; serve then reports what is open as gone, and api_free() finds nothing left.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "front.h"

/* Leases belong to a process: to the connection where the peer has no pid that we could see (another pid namespace). */
static uint64_t holder_make(const struct serve_request *request)
{
        const struct serve_peer *peer = serve_request_get_peer(request);
        if (!peer->is_unix || peer->pid <= 0)
                return UINT64_C(1) << 63 | serve_request_get_connection(request);
        return ((uint64_t)peer->uid << 31 | (uint64_t)peer->pid) & ~(UINT64_C(1) << 63);
}

static void caller_fill(struct api_call *call)
{
        const struct api_listener *listener = call->listener;
        call->pod = NULL;
        call->caller = (struct module_caller){
                .namespace = listener->namespace,
                .is_trusted = listener->identity == API_IDENTITY_TRUSTED,
                .is_admin = listener->kind == API_LISTENER_ADMIN,
                .module_dir = listener->module_dir,
                .holder = holder_make(call->request),
        };
}

static void refuse_route(struct api_call *call, int status, const struct buffer *allow, const struct error *err)
{
        struct api_refusal refusal = { .status = status };
        if (status == 405) {
                refusal.title = "Method not allowed";
                refusal.header = (struct serve_header){ "Allow", allow->data };
        }
        api_answer_refusal(call->api, call->request, API_ROUTES_MAX, &refusal, err);
}

/* What operators change is on record, with who did it. */
static void audit(const struct api_call *call)
{
        if (call->route->who != API_ADMIN || strcmp(call->route->method, "GET") == 0)
                return;
        const struct serve_peer *peer = serve_request_get_peer(call->request);
        LOG_INFO("admin", LOG_TEXT("method", call->route->method), LOG_TEXT("route", call->route->path), LOG_TEXT("name", call->parameter), LOG_NUMBER("uid", peer->uid),
                LOG_NUMBER("pid", peer->pid));
}

/* Who probes or scrapes need not be a pod's process. False when it is answered already, or will be asked again. */
static bool call_identify(struct api_call *call, const struct api_review *review)
{
        struct api_refusal crowded = { .status = 429 };
        ERROR_UNCLEARED(err);
        enum api_identified identified = API_IDENTIFIED;
        if (call->listener->identity == API_IDENTITY_POD && !(call->route->who & API_METRICS))
                identified = api_identify(call, review, &err);
        if (identified == API_REFUSED)
                api_call_fail(call, &err);
        else if (identified == API_CROWDED)
                api_answer_refusal(call->api, call->request, api_call_route(call), &crowded, &err);
        return identified == API_IDENTIFIED;
}

void api_handle_reviewed(struct api *api, struct serve_request *request, const struct api_review *review)
{
        ERROR_UNCLEARED(err);
        CLEANUP(buffer_fini) struct buffer allow = { 0 };
        UNCLEARED struct api_call call;
        int status = 0;

        call.api = api;
        call.request = request;
        call.listener = serve_request_get_tag(request);
        if (api->is_closing) {
                refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
                api_answer_error(api, request, API_ROUTES_MAX, &err);
                return;
        }
        call.route = api_route_find(call.listener, serve_request_get_method(request), serve_request_get_path(request), call.parameter, &allow, &status, &err);
        if (!call.route) {
                refuse_route(&call, status, &allow, &err);
                return;
        }
        if (!api_query_check(request, call.route, &err)) {
                api_call_fail(&call, &err);
                return;
        }
        caller_fill(&call);
        if (!call_identify(&call, review))
                return;
        if (api_ask_for_all(&call))
                return;
        audit(&call);
        call.route->handle(&call);
}

static void handle_request(void *arg, struct serve_request *request)
{
        api_handle_reviewed(arg, request, NULL);
}

static void handle_gone(void *arg, struct serve_request *request)
{
        (void)arg;
        struct api_ask *ask = serve_request_get_data(request);
        if (ask)
                api_ask_gone(ask);
}

static void handle_stream_gone(void *arg, struct serve_stream *stream)
{
        api_events_stream_gone(arg, stream);
}

/* serve's own refusals, by status; others count as a bad request (4xx) or ours (5xx). A version or coding that we do not speak is the client's choice. */
static enum error_code code_of_status(int status)
{
        static const struct { int status; enum error_code code; } rows[] = {
                { 403, ERROR_DENIED }, { 404, ERROR_NOT_FOUND }, { 408, ERROR_TIMEOUT }, { 413, ERROR_TOO_LARGE }, { 414, ERROR_TOO_LARGE }, { 429, ERROR_BUSY },
                { 431, ERROR_TOO_LARGE }, { 501, ERROR_BAD_REQUEST }, { 503, ERROR_BUSY }, { 505, ERROR_BAD_REQUEST },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].status == status)
                        return rows[i].code;
        return status >= 500 ? ERROR_INTERNAL : ERROR_BAD_REQUEST;
}

static const char *handle_problem(void *arg, int http_status, const char *detail)
{
        struct api *api = arg;
        struct error err = { 0 };
        refuse(&err, code_of_status(http_status), "%s", detail);
        api->answers[API_ROUTES_MAX][err.code]++;
        buffer_clear(&api->problem);
        const struct error_row *row = error_get_row(err.code);
        struct json_writer writer = { .out = &api->problem };
        CLEANUP(cleanup_free) char *type = string_format("urn:wasmcached:error:%s", row->name);
        json_open_map(&writer, NULL);
        json_put_text(&writer, "type", type);
        json_put_text(&writer, "title", row->title);
        json_put_int(&writer, "status", http_status);
        json_put_text(&writer, "detail", err.text);
        json_put_text(&writer, "code", row->name);
        json_close_map(&writer);
        return api->problem.data;
}

struct api *api_new(const struct api_options *options)
{
        struct api *api = memory_new(1, sizeof *api);
        api->options = *options;
        api->memo = api_memo_new();
        api->started_wall_s = clock_get_wall_s();
        api->handler = (struct serve_handler){ .arg = api, .arrived = api_arrived, .request = handle_request, .gone = handle_gone, .stream_gone = handle_stream_gone,
                                              .problem = handle_problem };
        api->chains = api_chains_new(api);
        api->namespaces = map_new(free);
        api->reviews_end = &api->reviews;
        api_print_openapi(options->version, &api->openapi);
        return api;
}

const struct serve_handler *api_get_handler(struct api *api)
{
        return &api->handler;
}

void api_set_serve(struct api *api, struct serve *serve)
{
        api->serve = serve;
}

void api_close(struct api *api)
{
        api->is_closing = true;
        api_events_close(api);
        api_chains_close(api->chains);
        api_reviews_close(api);
        api_newcomers_close(api);
}

void api_free(struct api **api)
{
        struct api *old = TAKE(*api);
        if (!old)
                return;
        api_chains_free(&old->chains);
        assert(old->asks == 0);
        assert(!old->followers);
        for (struct api_ask *ask = old->spare, *next; ask; ask = next) {
                next = ask->next_spare;
                free(ask);
        }
        api_memo_free(&old->memo);
        map_free(&old->namespaces);
        buffer_fini(&old->scratch);
        buffer_fini(&old->problem);
        buffer_fini(&old->openapi);
        free(old);
}
