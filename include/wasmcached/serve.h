/*
 * serve: listeners, peer identity, HTTP/1.1 (libmicrohttpd, external epoll polled by the loop). Loop only.
 * Knows no route: whole requests go to a handler, which answers now or later.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wasmcached/base.h>

struct loop;
struct serve;                             /* all listeners together */
struct serve_request;
struct serve_stream;

struct serve_limits {
        size_t body_max_bytes;            /* 1 MiB; more = 413 */
        size_t header_max_bytes;          /* 8 KiB per request, as of serve_new(); more = 431. Each KiB costs time at every hit */
        unsigned connections_max;         /* all listeners together; when full, accepting pauses where a listener has a sixteenth or more */
        unsigned connections_per_peer;    /* per uid and pid of the peer (per address on TCP, per group where arrived() gives one); more are closed at once with 503 */
        unsigned waiting_per_peer;        /* requests not yet answered of the same; more = 429 */
        int64_t idle_timeout_ms;          /* keep-alive connection without a request, and a request that does not arrive completely */
        int64_t write_timeout_ms;         /* a client that does not read */
};
extern const struct serve_limits serve_limits_default;

/* SO_PEERCRED at accept; a struct set once, never text. pid 0 = of another pid namespace. */
struct serve_peer { bool is_unix; pid_t pid; uid_t uid; gid_t gid; };

/* What is counted together, whatever its uids and pids are; all zero = nothing of the kind. */
struct serve_group { uint8_t bytes[16]; };
/* The process that connected, as long as arrived() runs. What /proc/<pid> says is its own when it was read after hold() and before a check() that both were true. Neither waits.
   ERROR_DENIED: it has ended, cannot be seen from here (pid 0), or its number is another process's by now. Identity is that of who connected, wherever the socket goes then. */
struct serve_process;
const struct serve_peer *serve_process_get_peer(const struct serve_process *process);
bool serve_process_hold(struct serve_process *process, struct error *err);
bool serve_process_check(const struct serve_process *process, struct error *err);

/*
 * request: exactly once per whole request; the handler keeps `request` until it answers it (any of the serve_answer… functions) or `gone` is called for it,
 *   whichever is first; then it is invalid.
 * arrived: may be NULL. A connection came on a listener of this tag; returns what is known of it from now on (serve_request_get_identity, freed with free()), or NULL.
 *   The group, zeroed before, is what it counts for.
 * gone: the peer vanished (noticed within a second, also while the request waits) or the listener closes. No answer may be given any more.
 */
struct serve_handler {
        void *arg;
        void *(*arrived)(void *arg, void *tag, struct serve_process *process, struct serve_group *ret_group);
        void (*request)(void *arg, struct serve_request *request);
        void (*gone)(void *arg, struct serve_request *request);
        /* The peer of a stream vanished or was too slow (more than 1 MiB unsent); the stream is closed and must not be used again. */
        void (*stream_gone)(void *arg, struct serve_stream *stream);
        /* Errors that serve finds itself (400, 408, 413, 414, 429, 431, 503 …) as the body to send: problem+json of the api. The text lives until the next call. */
        const char *(*problem)(void *arg, int http_status, const char *detail);
};

/* One per loop: the loop waits where it hears of both (agent/serve/drive.c). */
bool serve_new(struct loop *loop, const struct serve_limits *limits, const struct serve_handler *handler, struct serve **ret_serve, struct error *err);
/* Before closing: no new connections any more, those that are there go on. Quiet: nobody is connected who has not asked yet, is asking, or is being answered; who waits is. */
void serve_stop_listening(struct serve *serve);
bool serve_is_quiet(const struct serve *serve);
/* Closes listeners, answers waiting requests' owners with gone(), gives what is being sent `grace_ms`, then calls closed(arg) on the loop; free afterwards. */
void serve_close(struct serve *serve, int64_t grace_ms, void (*closed)(void *arg), void *arg);
void serve_free(struct serve **serve);
void serve_set_limits(struct serve *serve, const struct serve_limits *limits);             /* for what comes from now on */

/* A Unix listener at `path` with file mode `mode`: bound under a temporary name, then renamed over a left-over socket of a dead daemon; a live one
   (connect succeeds), or any other kind of file, is refused (ERROR_BUSY, ERROR_BAD_REQUEST). Makes the folder (0755) if it lacks.
   `tag` (not owned) is given back by serve_request_get_tag. */
bool serve_listen_unix(struct serve *serve, const char *path, mode_t mode, void *tag, struct error *err);
/* "host:port", "[::1]:9464"; no name resolution but "localhost". ret_port (may be NULL) is the port bound, for port 0. */
bool serve_listen_tcp(struct serve *serve, const char *address, void *tag, uint16_t *ret_port, struct error *err);
/* A socket that listens already (systemd). Takes fd. */
bool serve_listen_fd(struct serve *serve, int fd, void *tag, struct error *err);
/* Stops listening there (reload); connections go on until idle. False if there is none with that tag. */
bool serve_unlisten(struct serve *serve, void *tag);

/* Of a request; valid as long as it is. Paths and query values are percent-decoded; a NUL, invalid escape or bad UTF-8 in them has been refused with 400 before. */
const char *serve_request_get_method(const struct serve_request *request);
const char *serve_request_get_path(const struct serve_request *request);                   /* without query */
const char *serve_request_get_header(const struct serve_request *request, const char *name);     /* NULL if absent */
const char *serve_request_get_content_type(const struct serve_request *request);                 /* NULL if absent */
const char *serve_request_get_query(const struct serve_request *request, const char *name, size_t nth);     /* NULL after the last; "" for a name without value */
const char *serve_request_get_query_name(const struct serve_request *request, size_t index);     /* walks all parameters; NULL after the last */
const char *serve_request_get_body(const struct serve_request *request, size_t *ret_size);       /* never NULL, NUL behind the end */
const struct serve_peer *serve_request_get_peer(const struct serve_request *request);
void *serve_request_get_tag(const struct serve_request *request);
void *serve_request_get_identity(const struct serve_request *request);                     /* of the connection: what arrived() returned */
/* The connection, this request with it, counts for another group from now on. False: that one has all it may have, and nothing changes. */
bool serve_request_set_group(struct serve_request *request, const struct serve_group *group);
uint64_t serve_request_get_connection(const struct serve_request *request);                /* number of the connection, never reused */
void serve_request_set_data(struct serve_request *request, void *data);                    /* the handler's own */
void *serve_request_get_data(const struct serve_request *request);

struct serve_header { const char *name, *value; };
struct serve_answer { int status; const char *content_type; const struct serve_header *headers; size_t header_count; const char *body; size_t body_bytes; };
/* Copies everything. To HEAD and with status 304 no body is sent but its length. May be called from within request() or later. */
void serve_answer(struct serve_request *request, const struct serve_answer *answer);
/* `count` bytes of `fd` (taken, closed when sent or gone) from `offset`; headers as given, Content-Length by serve. */
void serve_answer_file(struct serve_request *request, const struct serve_answer *answer, int fd, uint64_t offset, uint64_t count);
/* Chunked; stays open until closed by either side. The stream lives until serve_stream_close() or stream_gone(). */
struct serve_stream *serve_answer_stream(struct serve_request *request, const struct serve_answer *answer, void *data);
void serve_stream_write(struct serve_stream *stream, const void *bytes, size_t size_bytes);      /* queued, copied */
void serve_stream_close(struct serve_stream **stream);                                     /* sends what is queued, then ends */
void *serve_stream_get_data(const struct serve_stream *stream);

struct serve_stats { uint64_t accepted, refused, requests, bytes_sent; unsigned open, waiting, streams; };
void serve_get_stats(const struct serve *serve, struct serve_stats *ret_stats);
