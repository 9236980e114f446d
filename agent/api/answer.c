/*
 * How it goes: every answer of this room leaves through here, and is counted by route and outcome on the way.
 * How it fails: errors become application/problem+json (RFC 9457), made from the one table of errors.
 * How it ends: serve copies; the scratch buffer is used again by the next answer.
 */
#include <stdio.h>
#include <string.h>
#include "front.h"

enum { RETRY_AFTER_MOST_S = 3600 };               /* whatever a peer says */

/* Seconds for Retry-After where the error does not know better: how long such a thing usually lasts. */
static const unsigned RETRY_AFTER_S[ERROR_CODES] = {
        [ERROR_SIGNATURE_UNREACHABLE] = 5, [ERROR_UPSTREAM_UNREACHABLE] = 5, [ERROR_UPSTREAM_ERROR] = 5, [ERROR_RATE_LIMITED] = 10, [ERROR_TIMEOUT] = 1,
                [ERROR_STORE_FULL] = 30, [ERROR_BUSY] = 1, [ERROR_INTERNAL] = 10,
};

struct buffer *api_scratch(struct api *api)
{
        buffer_clear(&api->scratch);
        return &api->scratch;
}

size_t api_call_route(const struct api_call *call)
{
        return (size_t)(call->route - api_routes);
}

static void count(struct api *api, size_t route, enum error_code code)
{
        api->answers[route < api_route_count ? route : API_ROUTES_MAX][code < ERROR_CODES ? code : ERROR_INTERNAL]++;
}

void api_answer_json(struct api *api, struct serve_request *request, size_t route, const struct buffer *body)
{
        count(api, route, ERROR_NONE);
        serve_answer(request, &(struct serve_answer){ .status = 200, .content_type = "application/json", .body = body->data, .body_bytes = body->used });
}

void api_answer_text(struct api_call *call, int status, const char *content_type, const struct buffer *body)
{
        const struct serve_header later = { "Retry-After", "1" };
        count(call->api, api_call_route(call), status < 400 ? ERROR_NONE : ERROR_BUSY);
        serve_answer(call->request, &(struct serve_answer){ .status = status, .content_type = content_type, .headers = &later, .header_count = status == 503,
                .body = body->data, .body_bytes = body->used });
}

void api_answer_nothing(struct api_call *call, int status, const struct serve_header *headers, size_t header_count)
{
        count(call->api, api_call_route(call), ERROR_NONE);
        serve_answer(call->request, &(struct serve_answer){ .status = status, .headers = headers, .header_count = header_count, .body = "" });
}

void api_answer_tagged(struct api *api, struct serve_request *request, size_t route, int status, const char *etag, const struct buffer *body)
{
        const struct serve_header header = { "ETag", etag };
        bool is_whole = status == 200;
        count(api, route, ERROR_NONE);
        serve_answer(request, &(struct serve_answer){ .status = status, .content_type = is_whole ? "application/json" : NULL, .headers = &header, .header_count = 1,
                .body = body->data, .body_bytes = body->used });
}

static void problem_put(const struct error *err, int status, const char *title, struct buffer *out)
{
        const struct error_row *row = error_get_row(err->code);
        char type[64];
        snprintf(type, sizeof type, "urn:wasmcached:error:%s", row->name);
        struct json_writer writer = { .out = out };
        json_open_map(&writer, NULL);
        json_put_text(&writer, "type", type);
        json_put_text(&writer, "title", title ? title : row->title);
        json_put_int(&writer, "status", status);
        json_put_text(&writer, "detail", err->text);
        json_put_text(&writer, "code", row->name);
        json_close_map(&writer);
}

void api_print_problem(const struct error *err, struct buffer *out)
{
        problem_put(err, error_get_row(err->code)->http_status, NULL, out);
}

/* 0 = asking again does not help, however long the refusal is remembered here. */
static unsigned retry_after(const struct error *err)
{
        if (error_get_row(err->code)->retry != ERROR_RETRY_LATER)
                return 0;
        unsigned after = err->retry_after_s ? err->retry_after_s : RETRY_AFTER_S[err->code < ERROR_CODES ? err->code : ERROR_INTERNAL];
        return after < RETRY_AFTER_MOST_S ? after : RETRY_AFTER_MOST_S;
}

void api_answer_refusal(struct api *api, struct serve_request *request, size_t route, const struct api_refusal *refusal, const struct error *err)
{
        const struct error_row *row = error_get_row(err->code);
        int status = refusal->status ? refusal->status : row->http_status;
        struct serve_header headers[2];
        size_t header_count = 0;
        char seconds[16];
        unsigned after = retry_after(err);
        if (after > 0) {
                snprintf(seconds, sizeof seconds, "%u", after);
                headers[header_count++] = (struct serve_header){ "Retry-After", seconds };
        }
        if (refusal->header.name)
                headers[header_count++] = refusal->header;

        count(api, route, err->code ? err->code : ERROR_INTERNAL);
        struct buffer *body = api_scratch(api);
        problem_put(err, status, refusal->title, body);
        serve_answer(request, &(struct serve_answer){
                .status = status, .content_type = "application/problem+json", .headers = headers, .header_count = header_count, .body = body->data, .body_bytes = body->used });
}

void api_answer_error(struct api *api, struct serve_request *request, size_t route, const struct error *err)
{
        api_answer_refusal(api, request, route, &(struct api_refusal){ 0 }, err);
}

void api_call_fail(struct api_call *call, const struct error *err)
{
        api_answer_error(call->api, call->request, api_call_route(call), err);
}
