/*
 * How it goes: the module's descriptor is opened (identity checked by module), the conditions of RFC 9110 13 are looked at in their order, then all of it or one range
 *              is sent by serve.
 * How it fails: 404 as for what is not the caller's, 412 and 416 with the words that are missing, 304 without a body.
 * How it ends: serve closes the descriptor when it is sent; every other path closes it here.
 */
#include <stdio.h>
#include <string.h>
#include "front.h"

struct content { int fd; uint64_t size_bytes; char etag[DIGEST_HEX_BYTES + 2]; };

static void answer_unsatisfiable(struct api_call *call, const struct content *content)
{
        struct error err = { 0 };
        char range[48];
        snprintf(range, sizeof range, "bytes */%llu", (unsigned long long)content->size_bytes);
        refuse(&err, ERROR_BAD_REQUEST, "Range: the module has %llu bytes, the range asked for lies outside", (unsigned long long)content->size_bytes);
        struct api_refusal refusal = { .status = 416, .title = "Range not satisfiable", .header = { "Content-Range", range } };
        api_answer_refusal(call->api, call->request, api_call_route(call), &refusal, &err);
}

static void content_answer(struct api_call *call, struct content *content, const struct serve_answer *answer, const struct api_range *part)
{
        call->api->answers[api_call_route(call)][ERROR_NONE]++;
        serve_answer_file(call->request, answer, content->fd, part->offset, part->count);
        content->fd = -1;
}

/* If-Match and If-None-Match; true when one of them has answered. */
static bool condition_answers(struct api_call *call, struct content *content)
{
        const char *match = serve_request_get_header(call->request, "If-Match");
        const char *none_match = serve_request_get_header(call->request, "If-None-Match");
        if (match && !api_etag_in(match, content->etag, false)) {
                struct error err = { 0 };
                refuse(&err, ERROR_BAD_REQUEST, "If-Match: the entity tag is %s", content->etag);
                api_answer_refusal(call->api, call->request, api_call_route(call), &(struct api_refusal){ .status = 412, .title = "Precondition failed" }, &err);
                return true;
        }
        if (!none_match || !api_etag_in(none_match, content->etag, true))
                return false;
        /* The length is that of a 200 (RFC 9110 8.6: it or none, never 0); serve sends no byte of it. */
        const struct serve_header etag = { "ETag", content->etag };
        content_answer(call, content, &(struct serve_answer){ .status = 304, .headers = &etag, .header_count = 1 }, &(struct api_range){ 0, content->size_bytes });
        return true;
}

static enum api_range_kind range_find(const struct api_call *call, const struct content *content, struct api_range *ret_range)
{
        const char *range = serve_request_get_header(call->request, "Range");
        const char *if_range = serve_request_get_header(call->request, "If-Range");
        *ret_range = (struct api_range){ 0, content->size_bytes };
        if (!range || strcmp(serve_request_get_method(call->request), "GET") != 0 || (if_range && strcmp(if_range, content->etag) != 0))
                return API_RANGE_WHOLE;
        return api_range_parse(range, content->size_bytes, ret_range);
}

static void content_send(struct api_call *call, struct content *content)
{
        struct api_range part;
        enum api_range_kind kind = range_find(call, content, &part);
        if (kind == API_RANGE_NONE) {
                answer_unsatisfiable(call, content);
                return;
        }
        if (kind == API_RANGE_WHOLE)
                part = (struct api_range){ 0, content->size_bytes };

        char range[80];
        snprintf(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)part.offset, (unsigned long long)(part.offset + part.count - 1),
                (unsigned long long)content->size_bytes);
        const struct serve_header headers[] = { { "ETag", content->etag }, { "Accept-Ranges", "bytes" }, { "Content-Range", range } };
        struct serve_answer answer = { .status = kind == API_RANGE_PART ? 206 : 200, .content_type = "application/wasm", .headers = headers,
                .header_count = kind == API_RANGE_PART ? 3 : 2 };
        content_answer(call, content, &answer, &part);
}

void api_handle_content(struct api_call *call)
{
        struct error err = { 0 };
        struct digest sha256;
        struct content content = { .fd = -1 };
        if (!api_parameter_digest(call, &sha256, &err) || !module_open(call->api->options.modules, &call->caller, &sha256, &content.fd, &content.size_bytes, &err)) {
                api_call_fail(call, &err);
                return;
        }
        snprintf(content.etag, sizeof content.etag, "\"%.64s\"", call->parameter);
        if (!condition_answers(call, &content))
                content_send(call, &content);
        cleanup_close(&content.fd);
}
