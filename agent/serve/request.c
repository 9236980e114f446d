/*
 * How it goes: libmicrohttpd calls request_begin() at the request line, then request_handle() after the headers, for each piece of body, and when all is there. What it lets
 *              through
 *              and HTTP forbids is looked for here, once, after the headers; then the handler gets the whole request.
 * How it fails: a request that could be read in two ways (smuggling) is answered at once and the connection closed; others are read to their end and answered.
 * How it ends: answered, or given up: request_fini() frees what belonged to this request; buffers stay with the connection.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

/* Escapes stay as they are, or a NUL or bad UTF-8 would be lost before it can be refused. */
size_t request_keep_escapes(void *arg, struct MHD_Connection *mhd, char *text)
{
        (void)arg;
        (void)mhd;
        return strlen(text);
}

static struct connection *connection_of(struct MHD_Connection *mhd)
{
        return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

/* The only look at the target as it was sent; libmicrohttpd takes it apart afterwards. */
void *request_begin(void *arg, const char *uri, struct MHD_Connection *mhd)
{
        struct connection *connection = connection_of(mhd);
        struct serve_request *request = &connection->request;
        (void)arg;

        connection_move(connection, PHASE_RECEIVING);
        request->target = uri;
        request->target_bytes = strlen(uri);
        const char *question = strchr(uri, '?');
        if (question && question[1] && request->target_bytes <= URI_MAX_BYTES)
                request->query_text = string_copy(question + 1);
        if (request->target_bytes > URI_MAX_BYTES)
                request->refused_status = 414;
        else if (!check_target(uri, request->target_bytes))
                request->refused_status = 400;
        return connection;
}

void request_fini(struct serve_request *request)
{
        free(request->path_decoded);
        free(request->query_text);
        query_fini(&request->query);
        *request = (struct serve_request){ 0 };
}

/* ---- checks after the headers */

struct header_check { unsigned hosts, lengths, encodings; const char *bad, *length_text, *type, *end; bool is_chunked, expects; };

static enum MHD_Result header_check(void *arg, enum MHD_ValueKind kind, const char *name, size_t name_bytes, const char *value, size_t value_bytes)
{
        struct header_check *check = arg;
        (void)kind;

        if (!value || !check_token(name, name_bytes)) {
                check->bad = "a header name that is no token";
                return MHD_NO;
        }
        /* As libmicrohttpd parses in place, name, colon, blanks and value lie in a row and the line ended in CR LF, now two NULs. Otherwise the line was folded, holds a NUL,
           or ended in a bare LF; RFC 9112 2.2, 5.1 and 5.2 let a server refuse all of them. */
        const char *between = name + name_bytes + 1;
        while (between < value && (*between == ' ' || *between == '\t'))
                between++;
        if (between != value || value[value_bytes] != '\0' || value[value_bytes + 1] != '\0') {
                check->bad = "a folded header line, a NUL, or a line that does not end in CR LF";
                return MHD_NO;
        }
        if (!check_field_value(value, value_bytes)) {
                check->bad = "a control character in a header value";
                return MHD_NO;
        }
        check->end = value + value_bytes;
        if (name_bytes == 4 && strcasecmp(name, "host") == 0)
                check->hosts++;
        else if (name_bytes == 14 && strcasecmp(name, "content-length") == 0) {
                check->lengths++;
                check->length_text = value;
        } else if (name_bytes == 17 && strcasecmp(name, "transfer-encoding") == 0) {
                check->encodings++;
                check->is_chunked = strcasecmp(value, "chunked") == 0;
        } else if (name_bytes == 6 && strcasecmp(name, "expect") == 0)
                check->expects = true;
        else if (name_bytes == 12 && !check->type && strcasecmp(name, "content-type") == 0)
                check->type = value;
        return MHD_YES;
}

static bool request_refuse(struct serve_request *request, int status, const char *detail)
{
        request->refused_status = status;
        snprintf(request->refused_detail, sizeof request->refused_detail, "%s", detail);
        return false;
}

/* False for what leaves in doubt where the request ends: answered at once, and nothing more is read. */
static bool request_check_framing(struct serve_request *request, const struct header_check *check, const char *version)
{
        if (check->bad)
                return request_refuse(request, 400, check->bad);
        if (check->encodings > 0 && check->lengths > 0)
                return request_refuse(request, 400, "both Content-Length and Transfer-Encoding");
        if (check->lengths > 1)
                return request_refuse(request, 400, "more than one Content-Length");
        if (check->encodings > 1 || (check->encodings == 1 && !check->is_chunked))
                return request_refuse(request, 400, "a Transfer-Encoding other than chunked");
        if (check->encodings > 0 && strcmp(version, "HTTP/1.0") == 0)
                return request_refuse(request, 400, "Transfer-Encoding in HTTP/1.0");
        return true;
}

static void request_check_line(struct serve_request *request, const char *method, const char *version)
{
        size_t method_bytes = strlen(method);
        bool exact = method + method_bytes + 1 == request->target && version == request->target + request->target_bytes + 1 && version[8] == '\0' && version[9] == '\0';

        if (request->refused_status == 414)
                request_refuse(request, 414, "the request target is longer than 6144 bytes");
        else if (request->refused_status != 0)
                request_refuse(request, 400, "the request target is not an absolute path of visible ASCII characters");
        else if (!check_token(method, method_bytes) || !exact)
                request_refuse(request, 400, "the request line is not \"METHOD TARGET HTTP/1.1\" with single blanks, ended by CR LF");
}

static void request_check_query(struct serve_request *request)
{
        if (request->refused_status == 0 && request->query_text && !query_parse(request->query_text, &request->query))
                request_refuse(request, 400, "the query has an invalid escape, a NUL, bytes that are no UTF-8, a parameter without name, or more than 64 parameters");
}

static void request_check_path(struct serve_request *request, const char *url)
{
        request->path = url;
        if (request->refused_status != 0 || !strchr(url, '%'))
                return;
        size_t length = strlen(url);                              /* at most URI_MAX_BYTES */

        request->path_decoded = memory_new(length + 1, 1);
        if (check_decode(url, length, false, request->path_decoded))
                request->path = request->path_decoded;
        else
                request_refuse(request, 400, "the path has an invalid escape, a NUL, or bytes that are no UTF-8");
}

/* True when the request may go on, even if it is refused in the end. */
static bool request_check(struct connection *connection, const char *url, const char *version)
{
        struct serve_request *request = &connection->request;
        struct header_check check = { .end = version + 8 };
        const struct serve_limits *limits = &connection->serve->limits;
        size_t head_bytes = MHD_get_connection_info(connection->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE)->header_size;

        request_check_line(request, request->method, version);
        MHD_get_connection_values_n(connection->mhd, MHD_HEADER_KIND, header_check, &check);
        /* CR LF CR LF after the last value, and no more: libmicrohttpd also takes a line that starts with a colon, or a bare LF, for the end of the headers. */
        if (!check.bad && request->method + head_bytes != check.end + 4)
                check.bad = "headers that do not end in an empty line";
        request->content_type = check.type;
        if (check.expects)
                connection_may_stall(connection); /* at "100 Continue" */
        bool goes_on = request_check_framing(request, &check, version);
        request_check_path(request, url);
        request_check_query(request);
        if (request->refused_status == 0 && (check.hosts > 1 || (check.hosts == 0 && strcmp(version, "HTTP/1.0") != 0)))
                request_refuse(request, 400, "exactly one Host header is needed");
        if (request->refused_status == 0 && head_bytes > limits->header_max_bytes)
                request_refuse(request, 431, "the request line and headers are larger than allowed");

        uint64_t length = check.length_text ? strtoull(check.length_text, NULL, 10) : 0;
        if (length > limits->body_max_bytes) {
                if (request->refused_status == 0)
                        request_refuse(request, 413, "the body is larger than allowed");
                /* A body that comes anyway is read and thrown away, so that the client sees the answer and not a broken pipe; but not any amount of it. */
                goes_on &= length <= DISCARD_MAX_BYTES && !check.expects;
        }
        return goes_on;
}

/* ---- body and hand-over */

static enum MHD_Result request_take_body(struct connection *connection, const char *upload, size_t upload_bytes)
{
        struct serve_request *request = &connection->request;

        request->body_seen_bytes += upload_bytes;
        if (request->body_seen_bytes > DISCARD_MAX_BYTES)
                return MHD_NO;
        if (request->refused_status == 0 && !buffer_append(&connection->body, upload, upload_bytes))
                request_refuse(request, 413, "the body is larger than allowed");
        return MHD_YES;
}

static enum MHD_Result request_deliver(struct connection *connection)
{
        struct serve *serve = connection->serve;
        struct serve_request *request = &connection->request;

        if (request->refused_status != 0)
                answer_problem(connection, request->refused_status, request->refused_detail, false);
        else if (serve->is_closing)
                answer_problem(connection, 503, "the daemon is stopping; ask again in a moment", true);
        else if (connection->count->waiting >= serve->limits.waiting_per_peer)
                answer_problem(connection, 429, "too many requests of this peer wait for their answer", false);
        else {
                serve->stats.requests++;
                connection_move(connection, PHASE_ASKED);
                connection->in_handler = true;
                serve->handler.request(serve->handler.arg, request);
                connection->in_handler = false;
        }
        if (connection->phase == PHASE_ASKED) {
                connection->count->waiting++;
                serve->stats.waiting++;
                connection_suspend(connection);
        }
        return connection->phase == PHASE_CLOSING ? MHD_NO : MHD_YES;
}

enum MHD_Result request_handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *upload, size_t *upload_bytes, void **state)
{
        struct connection *connection = *state;
        (void)arg;
        (void)mhd;

        if (connection->phase != PHASE_RECEIVING)
                return MHD_NO;                    /* resumed to be closed */
        if (!connection->request.headers_seen) {
                connection->request.headers_seen = true;
                connection->request.method = method;
                connection->body.limit = connection->serve->limits.body_max_bytes;
                if (!request_check(connection, url, version))
                        answer_problem(connection, connection->request.refused_status, connection->request.refused_detail, true);
                return MHD_YES;
        }
        if (*upload_bytes > 0) {
                enum MHD_Result result = request_take_body(connection, upload, *upload_bytes);
                *upload_bytes = 0;
                return result;
        }
        return request_deliver(connection);
}

/* ---- what a handler may ask */

static const struct connection *connection_of_request(const struct serve_request *request)
{
        return (const struct connection *)(const void *)((const char *)request - offsetof(struct connection, request));
}

const char *serve_request_get_method(const struct serve_request *request)
{
        return request->method;
}

const char *serve_request_get_path(const struct serve_request *request)
{
        return request->path;
}

const char *serve_request_get_header(const struct serve_request *request, const char *name)
{
        return MHD_lookup_connection_value(connection_of_request(request)->mhd, MHD_HEADER_KIND, name);
}

const char *serve_request_get_content_type(const struct serve_request *request)
{
        return request->content_type;
}

const char *serve_request_get_query(const struct serve_request *request, const char *name, size_t nth)
{
        for (size_t i = 0; i < request->query.count; i++)
                if (strcmp(request->query.parameters[i].name, name) == 0 && nth-- == 0)
                        return request->query.parameters[i].value;
        return NULL;
}

const char *serve_request_get_query_name(const struct serve_request *request, size_t index)
{
        return index < request->query.count ? request->query.parameters[index].name : NULL;
}

const char *serve_request_get_body(const struct serve_request *request, size_t *ret_size)
{
        const struct buffer *body = &connection_of_request(request)->body;

        *ret_size = body->used;
        return body->data ? body->data : "";
}

const struct serve_peer *serve_request_get_peer(const struct serve_request *request)
{
        return &connection_of_request(request)->peer;
}

void *serve_request_get_tag(const struct serve_request *request)
{
        return connection_of_request(request)->tag;
}

void *serve_request_get_identity(const struct serve_request *request)
{
        return connection_of_request(request)->identity;
}

bool serve_request_set_group(struct serve_request *request, const struct serve_group *group)
{
        return connection_set_group((struct connection *)(void *)((char *)request - offsetof(struct connection, request)), group);
}

uint64_t serve_request_get_connection(const struct serve_request *request)
{
        return connection_of_request(request)->number;
}

void serve_request_set_data(struct serve_request *request, void *data)
{
        request->data = data;
}

void *serve_request_get_data(const struct serve_request *request)
{
        return request->data;
}
