/*
 * How it goes: the first bytes of a connection, peeked at, are looked through for what libmicrohttpd would answer by itself, in HTML or not at all.
 * How it fails: 0 = nothing to say, also when too little is there to tell; then libmicrohttpd says it in its own words.
 * How it ends: pure function of the bytes.
 */
#include <string.h>
#include <strings.h>
#include "room.h"

enum { HEADER_RECORD_BYTES = 64, POOL_EXTRA_BYTES = 4096 };       /* what libmicrohttpd keeps per header; what its pool has besides the headers (mhd_start) */

static size_t line_length(const char *line, size_t rest)
{
        const char *end = memchr(line, '\n', rest);
        size_t length = end ? (size_t)(end - line) : rest;
        return length > 0 && line[length - 1] == '\r' ? length - 1 : length;
}

/* "METHOD TARGET HTTP/1.1": only its end decides here, the rest is looked at when it is parsed. */
static int check_version(const char *line, size_t length, const char **ret_detail)
{
        const char *version = length > 9 ? line + length - 9 : "";
        if (length == 0 || strncmp(version, " HTTP/1.1", 9) == 0 || strncmp(version, " HTTP/1.0", 9) == 0)
                return 0;
        if (strncmp(version, " HTTP/", 6) == 0 && version[6] >= '0' && version[6] <= '9') {
                *ret_detail = "this version of HTTP is not spoken here; use HTTP/1.1";
                return 505;
        }
        *ret_detail = "the first line is no HTTP request line";
        return 400;
}

static int check_length(const char *line, size_t length, const char **ret_detail)
{
        static const char name[] = "content-length:";
        size_t at = sizeof name - 1, digits = 0;
        if (length < at || strncasecmp(line, name, at) != 0)
                return 0;
        while (at < length && (line[at] == ' ' || line[at] == '\t'))
                at++;
        while (length > at && (line[length - 1] == ' ' || line[length - 1] == '\t'))
                length--;
        while (at + digits < length && line[at + digits] >= '0' && line[at + digits] <= '9')
                digits++;
        bool is_number = digits > 0 && at + digits == length;
        *ret_detail = is_number ? "the body is larger than allowed" : "Content-Length is no number";
        return !is_number ? 400 : digits > 18 ? 413 : 0;
}

int greeting_check(const char *head, size_t length, size_t header_max_bytes, const char **ret_detail)
{
        size_t lines = 0, at = 0;
        bool is_whole = false;
        for (const char *end; !is_whole && (end = memchr(head + at, '\n', length - at)) != NULL; at = (size_t)(end - head) + 1, lines++) {
                size_t line = line_length(head + at, length - at);
                int status = lines == 0 ? check_version(head, line, ret_detail) : check_length(head + at, line, ret_detail);
                if (status != 0)
                        return status;
                if (lines == 0 && line > URI_MAX_BYTES + 32)
                        return 0;                 /* told apart later (414) */
                is_whole = lines > 0 && line == 0;
        }
        size_t bytes = is_whole ? at : length;
        if (lines == 0 || (bytes <= header_max_bytes && bytes + lines * HEADER_RECORD_BYTES <= header_max_bytes + POOL_EXTRA_BYTES))
                return 0;                         /* an endless target, too */
        *ret_detail = "the request line and headers are larger than allowed";
        return 431;
}
