/*
 * fetch: one HTTP client (libcurl): request in, body into a sink; limits, redirects, address filter, retries, resume, cancel.
 * A client may be used by many workers at once; each request has a private multi handle out of a pool that keeps connections warm per origin.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

enum { FETCH_REDIRECTS_MAX = 10, FETCH_ERROR_BODY_BYTES = 64 << 10 };

/* How one host[:port] (as written in references) is reached; NULL or false where not configured. */
struct fetch_host {
        const char *host;
        bool plain_http;                  /* http:// allowed and used; loopback hosts ("localhost", 127/8, ::1) are allowed http without it */
        bool skip_verify;                 /* TLS without verification, this host only */
        const char *ca;                   /* PEM file, in addition to the system's */
        const char *client_certificate, *client_key;
};

struct fetch_options {
        int64_t connect_timeout_ms, progress_timeout_ms;                   /* progress: less than 1 byte within it = upstream_unreachable */
        unsigned retries;                                                  /* further tries after the first, full-jitter 0.5 s … 30 s, Retry-After up to 60 s */
        const struct fetch_host *hosts; size_t host_count;
        const char *const *block, *const *allow;                           /* CIDRs, NULL-terminated; allow wins over block and over the built-in blocks */
        const char *http_proxy, *https_proxy, *no_proxy;                   /* empty = the environment's; Go's NO_PROXY rules; never for loopback */
};

struct fetch_client;
/* Checks and copies everything (CIDRs, files readable, proxy URLs); ERROR_BAD_REQUEST names the option. Any thread. */
bool fetch_client_new(const struct fetch_options *options, struct fetch_client **ret_client, struct error *err);
struct fetch_client *fetch_client_ref(struct fetch_client *client);        /* any thread */
void fetch_client_unref(struct fetch_client **client);                     /* the last one closes the connections */
/* Is http:// (without TLS) allowed for this host[:port]; is TLS used by default. In memory. */
bool fetch_client_is_plain(const struct fetch_client *client, const char *host);
/* How long requests to the origin of `url` wait yet because it answered 429 or 503 (*ret_status); 0 = they do not. In memory, any thread. */
int64_t fetch_client_get_wait_ms(struct fetch_client *client, const char *url, int *ret_status);

enum fetch_method { FETCH_GET, FETCH_HEAD, FETCH_POST, FETCH_PATCH };
struct fetch_header { const char *name, *value; };

/* How one endpoint is reached, where its asker knows more of it than the options, which win where they speak of the host. Holds for the origin of the url alone. */
struct fetch_endpoint {
        bool skip_verify;
        const char *const *ca;            /* PEM files besides the system's, NULL-terminated; NULL = none */
        const char *client_certificate, *client_key;                       /* PEM files; no key = it is in the certificate's */
        const struct fetch_header *headers; size_t header_count;           /* sent too; Authorization only where the request has none */
        int64_t connect_timeout_ms;       /* 0 = as the options say */
};

/* Trust and identity of one request out of memory, in the place of all that is configured for its host. PEM texts; NULL where there is none. */
struct fetch_tls {
        const char *ca;                   /* these CAs and no others; NULL = the system's */
        const char *client_certificate, *client_key;
        const char *server_name;          /* what the certificate must be for, where that is not the URL's host */
        bool skip_verify;
};

struct fetch_request {
        enum fetch_method method;
        const char *url;                  /* absolute http(s) */
        const struct fetch_header *headers; size_t header_count;
        const char *authorization;        /* value of Authorization or NULL; dropped for good when a redirect changes scheme, host or port; given again when one leads back */
        const struct fetch_endpoint *endpoint;                             /* NULL: nothing but the options */
        const char *body, *body_type;     /* POST, PATCH */
        const struct fetch_tls *tls;      /* NULL = as configured for the host */
        const char *accept_type;          /* a 2xx of another media type is ERROR_UPSTREAM_ERROR before a byte of it reaches the sink; NULL = any */
        uint64_t size_limit;              /* of a successful body; more = ERROR_TOO_LARGE, never cut */
        int64_t size_expected;            /* -1 unknown; a Content-Length or a length that differs = ERROR_CHECKSUM_MISMATCH ("N bytes instead of M") */
        int64_t deadline_ms;              /* clock_get_ms() value, 0 = none; over all tries: ERROR_TIMEOUT */
        const int64_t *progress_timeout_ms;        /* NULL = the client's; looked at anew while the body comes: the sink may change it (a stream that is silent by nature) */
        unsigned redirects_max;           /* 0 = a redirect is an error */
        bool no_retry;                    /* else GET and HEAD are retried on 408, 429, 500, 502, 503, 504 and transport errors, POST and PATCH on 429 */
        bool no_wait;                     /* there is another place to ask: a 429 is given back at once, and none is waited for that another request got */
        bool resume;                      /* a broken body goes on by Range at the original URL (416, 200 or a wrong Content-Range: restart) */
        bool is_boxed;                    /* the body may be gzip or zstd, so a Content-Encoding that says so is let through; it comes as it is */
        bool public_only;                 /* loopback and private addresses are refused too (realms of foreign hosts) */
        struct cancel *cancel;            /* may be NULL; ERROR_BUSY within 100 ms */
        void (*progress)(void *arg, uint64_t received, int64_t total);     /* may be NULL; this worker, per piece */
        void *progress_arg;
};

struct fetch_response;
/*
 * Worker. Any HTTP status is success of the call; `body` gets bytes only of a 2xx (may be NULL for HEAD), the first 64 KiB of others are kept in the response.
 * Accept-Encoding is identity: a Content-Encoding in the answer is refused. Errors: ERROR_UPSTREAM_UNREACHABLE (names resolution, TCP, TLS and its reason), ERROR_TIMEOUT,
 * ERROR_TOO_LARGE, ERROR_DENIED (address filter, https→http), ERROR_BAD_URL, ERROR_UPSTREAM_ERROR (redirect loops, broken HTTP), the sink's own.
 * Texts name method, scheme, host and path, never query, userinfo or header. A 429/5xx that lasted is returned as response.
 * An origin that answers 429 or 503 is left in peace by all requests of the client (but those with no_retry) for the Retry-After, at most 60 s, or a short while; then they pass in
 * turn. That is no try of theirs. One whose turn would not come before its deadline: ERROR_RATE_LIMITED (429) or ERROR_UPSTREAM_ERROR (503), with the seconds that are left.
 */
bool fetch_run(struct fetch_client *client, const struct fetch_request *request, struct sink *body, struct fetch_response **ret_response, struct error *err);
void fetch_response_free(struct fetch_response **response);
int fetch_response_get_status(const struct fetch_response *response);
/* The n-th (from 0) header of that name (case-insensitive) of the final answer, NULL after the last. */
const char *fetch_response_get_header(const struct fetch_response *response, const char *name, size_t nth);
const char *fetch_response_get_url(const struct fetch_response *response);               /* where the final answer came from */
const struct buffer *fetch_response_get_error_body(const struct fetch_response *response);
uint64_t fetch_response_get_received(const struct fetch_response *response);
unsigned fetch_response_get_retry_after(const struct fetch_response *response);          /* seconds, 0 = none said */

/* What is wrong with `url` as a module source before any I/O (scheme, userinfo, query, fragment, blanks): ERROR_BAD_URL. Else its origin, as below. */
bool fetch_url_check(const char *url, char **ret_origin, struct error *err);
/* "https://h:p" with the default port filled in; for comparing origins. NULL when `url` is no http(s) URL. Caller frees. */
char *fetch_url_origin(const char *url);

/* Sums since start, for metrics; any thread. */
struct fetch_stats { uint64_t requests, retries, resumes, connections, bytes, waits; };
void fetch_get_stats(struct fetch_stats *ret_stats);
