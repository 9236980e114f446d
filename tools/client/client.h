/* What the files of the client library share; none of it is installed. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcache.h>
#include <wasmcached/base.h>

enum {
        CLIENT_LINE_MAX_BYTES = 16 << 10,         /* one header line; the daemon sends a few hundred bytes */
        CLIENT_HEADERS_MAX = 100,
        CLIENT_BODY_MAX_BYTES = 64 << 20,         /* of an answer kept in memory; a listing is paged long before */
        CLIENT_PROBLEM_MAX_BYTES = 256 << 10,
        CLIENT_INPUT_BYTES = 64 << 10,
        CLIENT_PATIENCE_MS = 10000,               /* with a daemon that has once been reached; documented in wasmcache.h */
        CLIENT_BROKEN_MAX = 3,                    /* a daemon that ends whenever it is asked this is not asked for ever */
        CLIENT_PATIENCE_MAX_MS = 3600000,
};

struct wasmcache {
        char *path;
        int fd;                           /* -1: not connected */
        pthread_mutex_t lock;             /* of fd against wasmcache_interrupt() from another thread */
        bool is_interrupted;
        int64_t patience_ms;
        bool has_answered;                /* this connection has carried an answer: if it ends now, that is the keep-alive's end */
        size_t start, end;                /* what of `input` has been received and not used */
        char input[CLIENT_INPUT_BYTES];
};

/* patience.c: how long a call tries again, and when. */
struct patience { int64_t deadline_ms; unsigned tries, broken; };        /* deadline 0 = none; broken: fresh connections that ended without an answer */
bool patience_read_environment(int64_t *ret_patience_ms, bool *ret_is_set, struct error *err);
struct patience patience_begin(int64_t patience_ms);
/* Sleeps: as long as the daemon said, else a little longer each time. False, at once: that would be too late, or wasmcache_interrupt() came. */
bool patience_wait(struct patience *patience, struct wasmcache *cache, unsigned retry_after_s);

/* connection.c */
int connection_open(struct wasmcache *cache, struct patience *patience, struct wasmcache_error *err);        /* tries until its patience ends */
void connection_close(struct wasmcache *cache);
bool connection_is_usable(const struct wasmcache *cache);         /* open, and the daemon has neither closed it nor sent what nobody asked for */
bool connection_send(struct wasmcache *cache, const char *bytes, size_t size_bytes);        /* false with errno */
void connection_set_timeout(struct wasmcache *cache, int64_t timeout_ms);                   /* of silence while receiving; 0 = none */
/* At least one byte into `input`: > 0; 0 = the daemon closed; -1 with errno. */
ssize_t connection_receive(struct wasmcache *cache);

/* http.c */
enum http_framing { HTTP_FRAMING_NONE, HTTP_FRAMING_LENGTH, HTTP_FRAMING_CHUNKED, HTTP_FRAMING_CLOSE };
struct http_head { int status; enum http_framing framing; uint64_t length_bytes; bool keep_alive; unsigned retry_after_s; };
/* ERROR_NOT_FOUND as code: the connection ended before the first byte of the answer. */
bool http_read_head(struct wasmcache *cache, bool is_head_request, struct http_head *ret_head, struct error *err);
/* Non-zero from take ends it early: ret_stopped, and the connection is of no more use. */
typedef int (*http_take)(void *arg, const char *bytes, size_t size_bytes);
bool http_read_body(struct wasmcache *cache, const struct http_head *head, http_take take, void *arg, bool *ret_stopped, struct error *err);

/* request.c */
struct client_request { const char *method, *path, *body; size_t body_bytes; int64_t timeout_ms; };
/* Sends and reads the head, over a new connection if the kept one is gone. */
int client_ask(struct wasmcache *cache, const struct client_request *request, struct patience *patience, struct http_head *ret_head, struct wasmcache_error *err);
int client_fail(struct wasmcache_error *err, int result, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Callers may give NULL; from the public functions on, there always is one. */
#define ERROR_OR_IGNORED(err) ((err) ? (err) : &(struct wasmcache_error){ 0 })
/* The body piece by piece, or the whole answer; a status of 400 and more is WASMCACHE_REFUSED with the problem in `err`. */
int client_stream(struct wasmcache *cache, const struct client_request *request, http_take take, void *arg, struct wasmcache_error *err);
int client_exchange(struct wasmcache *cache, const struct client_request *request, int *ret_status, struct buffer *ret_body, struct wasmcache_error *err);
