/*
 * How it goes: the request goes out in one piece over the kept connection; if that one turns out to have ended, again over a new one (every route of the
 *              daemon may be asked twice). A daemon that says busy is asked again, as long as the call is patient.
 * How it fails: not reached = WASMCACHE_UNREACHABLE; an answer of 400 and more = WASMCACHE_REFUSED with the daemon's own words (RFC 9457) in the error.
 * How it ends: after the body's last byte the connection is kept unless the daemon said otherwise; after any failure it is closed.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "client.h"

int client_fail(struct wasmcache_error *err, int result, const char *format, ...)
{
        va_list list;
        va_start(list, format);
        *err = (struct wasmcache_error){ 0 };
        vsnprintf(err->text, sizeof err->text, format, list);
        va_end(list);
        return result;
}

static bool token_valid(const char *text, bool is_path)
{
        for (const unsigned char *at = (const unsigned char *)text; *at; at++)
                if (*at <= ' ' || *at == 0x7f)
                        return false;
        return text[0] && (!is_path || text[0] == '/');
}

static bool request_send(struct wasmcache *cache, const struct client_request *request)
{
        CLEANUP(buffer_fini_secret) struct buffer out = { 0 };

        buffer_reserve(&out, strlen(request->path) + request->body_bytes + 512);        /* no copy of a secret stays behind in a block that grew */
        buffer_printf(&out, "%s %s HTTP/1.1\r\nHost: wasmcached\r\n", request->method, request->path);
        buffer_append_text(&out, "User-Agent: libwasmcache/" WASMCACHED_VERSION "\r\nAccept: application/json, */*\r\n");
        if (request->body)
                buffer_printf(&out, "Content-Type: application/json\r\nContent-Length: %zu\r\n", request->body_bytes);
        else if (strcmp(request->method, "POST") == 0 || strcmp(request->method, "PUT") == 0)
                buffer_append_text(&out, "Content-Length: 0\r\n");
        buffer_append_text(&out, "\r\n");
        if (request->body)
                buffer_append(&out, request->body, request->body_bytes);
        connection_set_timeout(cache, request->timeout_ms);
        if (connection_send(cache, out.data, out.used))
                return true;
        return errno == EPIPE;                    /* a daemon that refuses a body without reading it may have answered before it closed */
}

int client_ask(struct wasmcache *cache, const struct client_request *request, struct patience *patience, struct http_head *ret_head, struct wasmcache_error *err)
{
        struct error problem = { 0 };
        if (!token_valid(request->method, false) || !token_valid(request->path, true))
                return client_fail(err, WASMCACHE_USAGE, "a method and a path that begins with '/', without blanks, are needed");

        for (unsigned try = 0;; try++) {
                bool is_kept = try == 0 && cache->has_answered && connection_is_usable(cache);
                int result = is_kept ? WASMCACHE_OK : connection_open(cache, patience, err);
                if (result != WASMCACHE_OK)
                        return result;
                if (!request_send(cache, request))
                        refuse_errno(&problem, ERROR_NOT_FOUND, errno, "sending the request");
                else if (http_read_head(cache, strcmp(request->method, "HEAD") == 0, ret_head, &problem)) {
                        cache->has_answered = true;
                        return WASMCACHE_OK;
                }
                connection_close(cache);
                if (problem.code != ERROR_NOT_FOUND || (!is_kept && (++patience->broken > CLIENT_BROKEN_MAX || !patience_wait(patience, cache, 0))))
                        return client_fail(err, WASMCACHE_UNREACHABLE, "%s: %s", cache->path, problem.text);
        }
}

/* The daemon's problem, if it is one; text of others is not trusted to be readable. */
static void problem_read(const struct http_head *head, const struct buffer *body, struct wasmcache_error *err)
{
        struct value *problem = NULL;
        struct error ignored = { 0 };
        const char *code = NULL, *detail = NULL, *title = NULL;

        *err = (struct wasmcache_error){ .status = head->status, .retry_after_s = head->retry_after_s };
        if (body->used > 0 && json_parse(body->data, body->used, ERROR_UPSTREAM_ERROR, &problem, &ignored)) {
                code = value_get_text(value_get_member(problem, "code"));
                detail = value_get_text(value_get_member(problem, "detail"));
                title = value_get_text(value_get_member(problem, "title"));
        }
        if (!detail || !*detail)
                detail = title;
        if (code)
                string_printable(code, strlen(code), err->code, sizeof err->code);
        if (detail)
                string_printable(detail, strlen(detail), err->text, sizeof err->text);
        else
                snprintf(err->text, sizeof err->text, "the daemon answered with status %d and no explanation", head->status);
        value_free(&problem);
}

static int take_into_buffer(void *arg, const char *bytes, size_t size_bytes)
{
        return buffer_append(arg, bytes, size_bytes) ? 0 : 1;
}

/* Reads the body to its end, or as far as `take` wants, and leaves the connection as that allows. */
static int body_finish(struct wasmcache *cache, const struct http_head *head, http_take take, void *arg, struct wasmcache_error *err)
{
        struct error problem = { 0 };
        bool stopped = false;
        bool done = http_read_body(cache, head, take, arg, &stopped, &problem);

        if (!done || stopped || !head->keep_alive)
                connection_close(cache);
        if (!done)
                return client_fail(err, WASMCACHE_UNREACHABLE, "%s: %s", cache->path, problem.text);
        return stopped ? WASMCACHE_REFUSED : WASMCACHE_OK;
}

/* Starting, stopping, full: another try makes sense, if there is patience for it. */
static bool is_busy(const struct wasmcache_error *err)
{
        return err->status == 503 && strcmp(err->code, error_get_row(ERROR_BUSY)->name) == 0;
}

static int exchange_try(struct wasmcache *cache, const struct client_request *request, struct patience *patience, int *ret_status, struct buffer *ret_body,
        struct wasmcache_error *err)
{
        struct http_head head;
        CLEANUP(buffer_fini) struct buffer body = { .limit = CLIENT_BODY_MAX_BYTES };

        int result = client_ask(cache, request, patience, &head, err);
        if (result == WASMCACHE_OK)
                result = body_finish(cache, &head, take_into_buffer, &body, err);
        if (result == WASMCACHE_REFUSED)
                return client_fail(err, WASMCACHE_UNREACHABLE, "%s: an answer of more than %d MiB, or no memory for it", cache->path, CLIENT_BODY_MAX_BYTES >> 20);
        if (result != WASMCACHE_OK)
                return result;

        if (head.status >= 400)
                problem_read(&head, &body, err);
        *ret_status = head.status;
        *ret_body = body;
        body = (struct buffer){ 0 };
        return head.status >= 400 ? WASMCACHE_REFUSED : WASMCACHE_OK;
}

int client_exchange(struct wasmcache *cache, const struct client_request *request, int *ret_status, struct buffer *ret_body, struct wasmcache_error *err)
{
        struct patience patience = patience_begin(cache->patience_ms);

        for (;;) {
                int status = 0;
                int result = exchange_try(cache, request, &patience, &status, ret_body, err);
                if (result != WASMCACHE_REFUSED || !is_busy(err) || !patience_wait(&patience, cache, err->retry_after_s)) {
                        if (status != 0)
                                *ret_status = status;
                        return result;
                }
                buffer_fini(ret_body);
        }
}

int wasmcache_call(struct wasmcache *cache, const char *method, const char *path, const char *body, int *ret_status, char **ret_body, size_t *ret_size, struct wasmcache_error *err)
{
        struct client_request request = { method, path, body, body ? strlen(body) : 0, 0 };
        struct buffer answer = { 0 };
        int status = 0;

        err = ERROR_OR_IGNORED(err);
        int result = client_exchange(cache, &request, &status, &answer, err);
        if (status == 0)
                return result;
        if (ret_status)
                *ret_status = status;
        if (ret_size)
                *ret_size = answer.used;
        if (ret_body)
                *ret_body = buffer_take(&answer);
        buffer_fini(&answer);
        return result;
}

int wasmcache_stream(struct wasmcache *cache, const char *path, int (*take)(void *arg, const char *bytes, size_t size), void *arg, struct wasmcache_error *err)
{
        return client_stream(cache, &(struct client_request){ .method = "GET", .path = path }, take, arg, ERROR_OR_IGNORED(err));
}

int client_stream(struct wasmcache *cache, const struct client_request *request, http_take take, void *arg, struct wasmcache_error *err)
{
        struct patience patience = patience_begin(cache->patience_ms);

        for (;;) {
                struct http_head head;
                int result = client_ask(cache, request, &patience, &head, err);
                if (result != WASMCACHE_OK)
                        return result;
                if (head.status < 400) {
                        result = body_finish(cache, &head, take, arg, err);
                        return result == WASMCACHE_REFUSED ? WASMCACHE_OK : result;
                }

                CLEANUP(buffer_fini) struct buffer body = { .limit = CLIENT_PROBLEM_MAX_BYTES };
                body_finish(cache, &head, take_into_buffer, &body, err);
                problem_read(&head, &body, err);
                if (!is_busy(err) || !patience_wait(&patience, cache, err->retry_after_s))
                        return WASMCACHE_REFUSED;
        }
}
