/* response: status, headers and error body of one answer, and the numbers that are read out of them. */
#pragma once
#include <wasmcached/fetch.h>

enum { HEADERS_MAX = 1000, HEADER_BYTES_MAX = 256 << 10 };    /* [oci] 1.11 */

struct response_header { char *name, *value; };
struct fetch_response {
        int status;
        char *url;
        struct response_header *headers;
        size_t header_count, header_bytes;
        struct buffer error_body;
        uint64_t received;
        unsigned retry_after_s;
};

struct fetch_response *response_new(const char *url) __attribute__((returns_nonnull));
/* One line of a head as it came, with its line end; a status line starts the head anew. ERROR_UPSTREAM_ERROR beyond the limits. */
bool response_add_line(struct fetch_response *response, const char *line, size_t length, struct error *err);
/* Ends the head: what contradicts itself or would have to be decoded is refused. *ret_length is -1 where none is said. */
bool response_read_length(const struct fetch_response *response, int64_t *ret_length, struct error *err);
bool response_check_codings(const struct fetch_response *response, bool is_boxed, struct error *err);          /* is_boxed: of the request */
/* Content-Range of a 206 that answers "bytes=<offset>-": exactly from `offset` to the end of `total` (-1 unknown) bytes (RFC 9110 14.4). */
bool response_continues(const char *content_range, uint64_t offset, int64_t total, int64_t *ret_total);
/* What If-Range may carry: a strong ETag, or without any a Last-Modified before Date: within that second there may be a second change (RFC 9110 8.8.2.2, 13.1.5). NULL
   where neither was said. Borrowed. */
const char *response_get_validator(const struct fetch_response *response);
