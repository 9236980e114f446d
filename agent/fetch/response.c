/*
 * How it goes: header lines are collected as they come, up to a count and a number of bytes; the questions of run.c are answered from them.
 * How it fails: too many headers, two different lengths, or a coding that would have to be undone (a decompression bomb needs one) are refused.
 * How it ends: fetch_response_free().
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "response.h"

struct fetch_response *response_new(const char *url)
{
        struct fetch_response *response = memory_new(1, sizeof *response);
        response->url = string_copy(url);
        response->error_body.limit = FETCH_ERROR_BODY_BYTES;
        return response;
}

static void headers_clear(struct fetch_response *response)
{
        for (size_t i = 0; i < response->header_count; i++) {
                free(response->headers[i].name);
                free(response->headers[i].value);
        }
        response->header_count = 0;
}

void fetch_response_free(struct fetch_response **reference)
{
        struct fetch_response *response = TAKE(*reference);
        if (!response)
                return;
        headers_clear(response);
        free(response->headers);
        free(response->url);
        buffer_fini(&response->error_body);
        free(response);
}

/* "HTTP/1.1 200 OK", "HTTP/2 200 " */
static bool status_take(struct fetch_response *response, const char *line, size_t length)
{
        const char *space = length > 5 && memcmp(line, "HTTP/", 5) == 0 ? memchr(line, ' ', length) : NULL;
        if (!space)
                return false;
        headers_clear(response);
        response->status = 0;
        for (const char *c = space + 1; c < line + length && *c >= '0' && *c <= '9' && response->status < 1000; c++)
                response->status = response->status * 10 + (*c - '0');
        return true;
}

bool response_add_line(struct fetch_response *response, const char *line, size_t length, struct error *err)
{
        response->header_bytes += length;
        if (response->header_bytes > HEADER_BYTES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "more than %d KiB of response headers", HEADER_BYTES_MAX >> 10);
        while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == '\n' || line[length - 1] == ' ' || line[length - 1] == '\t'))
                length--;
        if (length == 0 || status_take(response, line, length))
                return true;

        const char *colon = memchr(line, ':', length);
        if (!colon || colon == line || line[0] == ' ' || line[0] == '\t')
                return true;
        if (response->header_count == HEADERS_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "more than %d response headers", HEADERS_MAX);
        const char *value = colon + 1, *end = line + length;
        while (value < end && (*value == ' ' || *value == '\t'))
                value++;
        if ((response->header_count & (response->header_count - 1)) == 0)
                response->headers = memory_resize(response->headers, response->header_count ? 2 * response->header_count : 1, sizeof *response->headers);
        response->headers[response->header_count++] =
                (struct response_header){ string_copy_bytes(line, (size_t)(colon - line)), string_copy_bytes(value, (size_t)(end - value)) };
        return true;
}

const char *fetch_response_get_header(const struct fetch_response *response, const char *name, size_t nth)
{
        for (size_t i = 0; i < response->header_count; i++)
                if (strcasecmp(response->headers[i].name, name) == 0 && nth-- == 0)
                        return response->headers[i].value;
        return NULL;
}

/* Digits only; false on anything else or overflow. */
static bool number_take(const char **text, uint64_t *ret_number)
{
        uint64_t number = 0;
        const char *at = *text;
        for (; *at >= '0' && *at <= '9'; at++)
                if (__builtin_mul_overflow(number, 10u, &number) || __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number) || number > INT64_MAX)
                        return false;
        if (at == *text)
                return false;
        *text = at;
        *ret_number = number;
        return true;
}

bool response_read_length(const struct fetch_response *response, int64_t *ret_length, struct error *err)
{
        int64_t length = -1;
        const char *text;
        for (size_t i = 0; (text = fetch_response_get_header(response, "Content-Length", i)); i++) {
                uint64_t number = 0;
                if (!number_take(&text, &number) || *text || (length >= 0 && (uint64_t)length != number))
                        return refuse(err, ERROR_UPSTREAM_ERROR, "broken HTTP: Content-Length is no single number");
                length = (int64_t)number;
        }
        *ret_length = fetch_response_get_header(response, "Transfer-Encoding", 0) ? -1 : length;
        return true;
}

static bool is_coding_box(const char *value)
{
        static const char *const boxes[] = { "gzip", "x-gzip", "zstd" };
        for (size_t i = 0; i < COUNT_OF(boxes); i++)
                if (strcasecmp(value, boxes[i]) == 0)
                        return true;
        return false;
}

bool response_check_codings(const struct fetch_response *response, bool is_boxed, struct error *err)
{
        static const struct { const char *header, *allowed; bool is_of_content; } rows[] = { { "Content-Encoding", "identity", true }, { "Transfer-Encoding", "chunked", false } };
        for (size_t row = 0; row < COUNT_OF(rows); row++) {
                const char *value;
                for (size_t i = 0; (value = fetch_response_get_header(response, rows[row].header, i)); i++) {
                        char shown[64];
                        bool is_box = is_boxed && rows[row].is_of_content && is_coding_box(value);
                        if (*value && !is_box && strcasecmp(value, rows[row].allowed) != 0 && strcasecmp(value, "identity") != 0)
                                return refuse(err, ERROR_UPSTREAM_ERROR, "the server answered with %s: %s though only identity was asked for",
                                              rows[row].header, string_printable(value, strlen(value), shown, sizeof shown));
                }
        }
        return true;
}

bool response_continues(const char *text, uint64_t offset, int64_t total, int64_t *ret_total)
{
        uint64_t first = 0, last = 0, whole = 0;
        if (!text || strncasecmp(text, "bytes ", 6) != 0)
                return false;
        text += 6;
        if (!number_take(&text, &first) || *text++ != '-' || !number_take(&text, &last) || *text++ != '/' || first != offset || last < first)
                return false;
        if (strcmp(text, "*") == 0) {
                *ret_total = total;
                return total < 0 || last + 1 == (uint64_t)total;
        }
        if (!number_take(&text, &whole) || *text || last + 1 != whole || (total >= 0 && whole != (uint64_t)total))
                return false;
        *ret_total = (int64_t)whole;
        return true;
}

const char *response_get_validator(const struct fetch_response *response)
{
        const char *etag = fetch_response_get_header(response, "ETag", 0), *modified = fetch_response_get_header(response, "Last-Modified", 0);
        const char *date = fetch_response_get_header(response, "Date", 0);
        int64_t modified_s = 0, date_s = 0;
        if (etag)
                return etag[0] == '"' ? etag : NULL;
        return modified && date && clock_parse_http_date(modified, &modified_s) && clock_parse_http_date(date, &date_s) && modified_s < date_s ? modified : NULL;
}

int fetch_response_get_status(const struct fetch_response *response)
{
        return response->status;
}

const char *fetch_response_get_url(const struct fetch_response *response)
{
        return response->url;
}

const struct buffer *fetch_response_get_error_body(const struct fetch_response *response)
{
        return &response->error_body;
}

uint64_t fetch_response_get_received(const struct fetch_response *response)
{
        return response->received;
}

unsigned fetch_response_get_retry_after(const struct fetch_response *response)
{
        return response->retry_after_s;
}
