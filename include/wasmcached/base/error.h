/* error: what went wrong, made once where it is known, and the one table that everything said about errors is derived from. */
#pragma once
#include <stdbool.h>
#include <wasmcached/base/memory.h>

/* The wire names of contract section 2. Order = order of the table in agent/base/error.c. */
enum error_code {
        ERROR_NONE, ERROR_BAD_REQUEST, ERROR_BAD_URL, ERROR_BAD_KEY, ERROR_DENIED, ERROR_NOT_FOUND, ERROR_UNAUTHORIZED, ERROR_SECRET_MISSING,
        ERROR_CHECKSUM_MISMATCH, ERROR_SIGNATURE_MISSING, ERROR_SIGNATURE_INVALID, ERROR_SIGNATURE_UNREACHABLE, ERROR_UNSUPPORTED_IMAGE,
        ERROR_NOT_WASM, ERROR_TOO_LARGE, ERROR_UPSTREAM_UNREACHABLE, ERROR_UPSTREAM_ERROR, ERROR_RATE_LIMITED, ERROR_TIMEOUT,
        ERROR_STORE_FULL, ERROR_BUSY, ERROR_INTERNAL,
        ERROR_CODES
};

enum { ERROR_TEXT_BYTES = 768 };

/* Lives on the caller's stack, last parameter of what can fail, may not be NULL. `text` is for a person: what was tried, where,
   what came back, what to do; never a credential. `retry_after_s` > 0 when the peer named a delay (Retry-After). */
struct error { enum error_code code; unsigned retry_after_s; char text[ERROR_TEXT_BYTES]; };
/* Declares an empty one without clearing all of its text, for the path of a hit. */
#define ERROR_UNCLEARED(name) UNCLEARED struct error name; (name).code = ERROR_NONE, (name).retry_after_s = 0, (name).text[0] = '\0'

/* When asking again makes sense; decides negative caching and Retry-After. */
enum error_retry { ERROR_RETRY_NEVER, ERROR_RETRY_AFTER_CHANGE, ERROR_RETRY_LATER };

struct error_row {
        const char *name;         /* wire name, "bad_url" */
        int http_status;
        enum error_retry retry;
        const char *title;        /* RFC 9457 title: the same for every occurrence */
        const char *help;         /* what to do next, one sentence, for CLI, README and manual */
};

/* Always false, so that a function can end with it. */
bool refuse(struct error *err, enum error_code code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same with ": " and strerror(number) at the end. ENOSPC/EDQUOT turn `code` ERROR_INTERNAL into ERROR_STORE_FULL. */
bool refuse_errno(struct error *err, enum error_code code, int number, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Puts "<prefix>: " before the text that is already there, keeps the code; false again. */
bool refuse_within(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

const struct error_row *error_get_row(enum error_code code);                    /* never NULL; unknown = internal */
bool error_parse_name(const char *name, enum error_code *ret_code);
