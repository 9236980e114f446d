/*
 * How it goes: head line by line, then the body by its framing (RFC 9112 6.3), handed on piece by piece; nothing is kept here. Strict: the peer is our daemon,
 *              and what that would never send comes from somebody else.
 * How it fails: a line, count or framing outside the grammar or the limits ends the exchange; the connection is then of no more use.
 * How it ends: the body's last byte has been taken, or the taker wants no more.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "client.h"

static bool receive_more(struct wasmcache *cache, const char *what, struct error *err)
{
        ssize_t got = connection_receive(cache);
        if (got > 0)
                return true;
        if (got == 0)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the daemon closed the connection in the middle of %s", what);
        if (errno == EAGAIN || errno == EWOULDBLOCK)
                return refuse(err, ERROR_TIMEOUT, "the daemon did not send %s in time", what);
        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "reading %s from the daemon", what);
}

/* One line without its CRLF, NUL-terminated in place; valid until the next receive. */
static bool line_read(struct wasmcache *cache, const char *what, char **ret_line, struct error *err)
{
        for (size_t looked = 0;;) {
                char *from = cache->input + cache->start;
                size_t there = cache->end - cache->start;
                char *end = memchr(from + looked, '\n', there - looked);

                if (end) {
                        if (end == from || end[-1] != '\r' || memchr(from, '\0', (size_t)(end - from)) || memchr(from, '\r', (size_t)(end - from) - 1))
                                return refuse(err, ERROR_UPSTREAM_ERROR, "what answers is no HTTP server: a malformed line in %s", what);
                        end[-1] = '\0';
                        cache->start += (size_t)(end - from) + 1;
                        *ret_line = from;
                        return true;
                }
                if (there > CLIENT_LINE_MAX_BYTES)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "a line of more than %d bytes in %s", CLIENT_LINE_MAX_BYTES, what);
                looked = there;
                if (!receive_more(cache, what, err))
                        return false;
        }
}

static bool status_parse(const char *line, struct http_head *ret_head, struct error *err)
{
        bool is_http = string_starts_with(line, "HTTP/1.") && (line[7] == '0' || line[7] == '1') && line[8] == ' ';
        for (int i = 9; is_http && i < 12; i++)
                is_http = line[i] >= '0' && line[i] <= '9';
        if (!is_http || (line[12] != ' ' && line[12] != '\0') || line[9] == '0')
                return refuse(err, ERROR_UPSTREAM_ERROR, "what answers is no HTTP/1.1 server");

        *ret_head = (struct http_head){ .status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + line[11] - '0', .framing = HTTP_FRAMING_CLOSE, .keep_alive = line[7] == '1' };
        return true;
}

static bool number_parse(const char *text, unsigned base, uint64_t *ret_number)
{
        uint64_t number = 0;
        const char *at = text;

        for (; *at; at++) {
                unsigned digit = *at >= '0' && *at <= '9' ? (unsigned)(*at - '0') : base == 16 && (*at | 32) >= 'a' && (*at | 32) <= 'f' ? (unsigned)((*at | 32) - 'a') + 10 : 99;
                if (digit >= base || number > (UINT64_MAX >> 1) / base)
                        return false;
                number = number * base + digit;
        }
        *ret_number = number;
        return at != text;
}

static bool header_length(struct http_head *head, const char *value, struct error *err)
{
        uint64_t length;
        if (!number_parse(value, 10, &length) || head->framing == HTTP_FRAMING_CHUNKED || (head->framing == HTTP_FRAMING_LENGTH && head->length_bytes != length))
                return refuse(err, ERROR_UPSTREAM_ERROR, "the daemon's Content-Length is none, or not the only framing");
        head->framing = HTTP_FRAMING_LENGTH;
        head->length_bytes = length;
        return true;
}

static bool header_encoding(struct http_head *head, const char *value, struct error *err)
{
        if (strcasecmp(value, "chunked") != 0 || head->framing != HTTP_FRAMING_CLOSE)
                return refuse(err, ERROR_UPSTREAM_ERROR, "a Transfer-Encoding that is not \"chunked\" alone");
        head->framing = HTTP_FRAMING_CHUNKED;
        return true;
}

static bool header_connection(struct http_head *head, const char *value, struct error *err)
{
        (void)err;
        if (strcasecmp(value, "close") == 0)
                head->keep_alive = false;
        return true;
}

static bool header_retry_after(struct http_head *head, const char *value, struct error *err)
{
        (void)err;
        unsigned seconds;
        if (clock_parse_retry_after(value, clock_get_wall_s(), &seconds))
                head->retry_after_s = seconds;
        return true;
}

static const struct { const char *name; bool (*parse)(struct http_head *head, const char *value, struct error *err); } header_rows[] = {
        { "Content-Length", header_length },
        { "Transfer-Encoding", header_encoding },
        { "Connection", header_connection },
        { "Retry-After", header_retry_after },
};

static bool header_parse(struct http_head *head, char *line, struct error *err)
{
        char *colon = strchr(line, ':');
        if (!colon || colon == line || strcspn(line, " \t") < (size_t)(colon - line))
                return refuse(err, ERROR_UPSTREAM_ERROR, "a malformed header in the daemon's answer");

        *colon = '\0';
        char *value = colon + 1 + strspn(colon + 1, " \t");
        for (size_t length = strlen(value); length > 0 && strchr(" \t", value[length - 1]); length--)
                value[length - 1] = '\0';
        for (size_t i = 0; i < COUNT_OF(header_rows); i++)
                if (strcasecmp(line, header_rows[i].name) == 0)
                        return header_rows[i].parse(head, value, err);
        return true;
}

static bool headers_read(struct wasmcache *cache, struct http_head *head, struct error *err)
{
        char *line;
        for (unsigned count = 0; count <= CLIENT_HEADERS_MAX; count++) {
                if (!line_read(cache, "the answer's head", &line, err))
                        return false;
                if (!*line)
                        return true;
                if (!header_parse(head, line, err))
                        return false;
        }
        return refuse(err, ERROR_UPSTREAM_ERROR, "more than %d headers in the daemon's answer", CLIENT_HEADERS_MAX);
}

/* The first byte tells a kept connection that ended from an answer that broke off. */
static bool first_byte_wait(struct wasmcache *cache, struct error *err)
{
        if (cache->start < cache->end)
                return true;
        ssize_t got = connection_receive(cache);
        if (got > 0)
                return true;
        if (got == 0 || errno == ECONNRESET || errno == EPIPE)
                return refuse(err, ERROR_NOT_FOUND, "the daemon closed the connection without an answer");
        if (errno == EAGAIN || errno == EWOULDBLOCK)
                return refuse(err, ERROR_TIMEOUT, "the daemon does not answer");
        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "reading the daemon's answer");
}

bool http_read_head(struct wasmcache *cache, bool is_head_request, struct http_head *ret_head, struct error *err)
{
        struct http_head head;
        char *line;

        if (!first_byte_wait(cache, err))
                return false;
        for (unsigned interim = 0;; interim++) {
                if (!line_read(cache, "the status line", &line, err) || !status_parse(line, &head, err) || !headers_read(cache, &head, err))
                        return false;
                if (head.status >= 200)
                        break;
                if (head.status == 101 || interim == 10)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "an answer of status %d that nobody asked for", head.status);
        }
        if (is_head_request || head.status == 204 || head.status == 304)
                head.framing = HTTP_FRAMING_NONE;
        if (head.framing == HTTP_FRAMING_CLOSE)
                head.keep_alive = false;
        *ret_head = head;
        return true;
}

/* Hands on `length` bytes. */
static bool bytes_read(struct wasmcache *cache, uint64_t length, http_take take, void *arg, bool *ret_stopped, struct error *err)
{
        while (length > 0) {
                if (cache->start == cache->end && !receive_more(cache, "the body", err))
                        return false;

                size_t there = cache->end - cache->start, part = there < length ? there : (size_t)length;
                const char *bytes = cache->input + cache->start;
                cache->start += part;
                length -= part;
                if (take(arg, bytes, part) != 0) {
                        *ret_stopped = true;
                        return true;
                }
        }
        return true;
}

static bool chunk_size_read(struct wasmcache *cache, uint64_t *ret_size, struct error *err)
{
        char *line;
        if (!line_read(cache, "a chunk", &line, err))
                return false;
        line[strcspn(line, ";")] = '\0';          /* chunk extensions say nothing to us */
        for (size_t length = strlen(line); length > 0 && strchr(" \t", line[length - 1]); length--)
                line[length - 1] = '\0';
        return number_parse(line, 16, ret_size) || refuse(err, ERROR_UPSTREAM_ERROR, "a chunk without a size in the daemon's answer");
}

static bool chunks_read(struct wasmcache *cache, http_take take, void *arg, bool *ret_stopped, struct error *err)
{
        struct http_head trailers = { .framing = HTTP_FRAMING_CLOSE };
        for (;;) {
                uint64_t size = 0;
                char *line;

                if (!chunk_size_read(cache, &size, err))
                        return false;
                if (size == 0)
                        return headers_read(cache, &trailers, err);
                if (!bytes_read(cache, size, take, arg, ret_stopped, err))
                        return false;
                if (*ret_stopped)
                        return true;
                if (!line_read(cache, "a chunk", &line, err))
                        return false;
                if (*line)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "a chunk longer than its size in the daemon's answer");
        }
}

static bool rest_read(struct wasmcache *cache, http_take take, void *arg, bool *ret_stopped, struct error *err)
{
        for (;;) {
                if (cache->start < cache->end && !bytes_read(cache, cache->end - cache->start, take, arg, ret_stopped, err))
                        return false;
                if (*ret_stopped)
                        return true;

                ssize_t got = connection_receive(cache);
                if (got == 0)
                        return true;
                if (got < 0)
                        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "reading the body from the daemon");
        }
}

bool http_read_body(struct wasmcache *cache, const struct http_head *head, http_take take, void *arg, bool *ret_stopped, struct error *err)
{
        bool stopped = false, done = true;

        if (head->framing == HTTP_FRAMING_LENGTH)
                done = bytes_read(cache, head->length_bytes, take, arg, &stopped, err);
        else if (head->framing == HTTP_FRAMING_CHUNKED)
                done = chunks_read(cache, take, arg, &stopped, err);
        else if (head->framing == HTTP_FRAMING_CLOSE)
                done = rest_read(cache, take, arg, &stopped, err);
        if (done)
                *ret_stopped = stopped;
        return done;
}
