/*
 * Inside of serve: what its files share.
 *
 * A connection walks through phases, moved by connection_move() alone, which asserts that the move is in its table:
 *
 *   FIRST ──> IDLE ──> RECEIVING ──> ASKED ──> SENDING ──> IDLE …        FIRST      ours alone: no byte has come yet, libmicrohttpd does not know of it
 *     │         │          │           │  └──> STREAMING ─┘              IDLE       between requests                    RECEIVING  a request line came
 *     └─────────┴──────────┴───────────┴─────────> CLOSING               ASKED      the handler has the request         SENDING, STREAMING  an answer is queued
 *                                                                        CLOSING    nothing more is said or heard; libmicrohttpd has yet to let go of it
 */
#pragma once
#include <microhttpd.h>
#include <netinet/in.h>
#include <uv.h>
#include <wasmcached/loop.h>
#include <wasmcached/serve.h>

enum connection_phase { PHASE_FIRST, PHASE_IDLE, PHASE_RECEIVING, PHASE_ASKED, PHASE_SENDING, PHASE_STREAMING, PHASE_CLOSING };

/* What is counted together: one uid and pid, one group, or one address. Lives as long as a connection of it. */
enum peer_kind { PEER_ADDRESS, PEER_PROCESS, PEER_GROUP };
struct peer_key { uint32_t kind, uid, pid; uint8_t address[16]; };
struct peer_count { struct peer_key key; unsigned connections, waiting; };

struct serve_process { struct serve_peer peer; int fd, pidfd; bool is_by_number; uint64_t start; };        /* start, in ticks since boot: only by number */

struct parameter { const char *name, *value; };
struct query { char *text; size_t count; struct parameter *parameters; };

enum { QUERY_PARAMETERS_MAX = 64, URI_MAX_BYTES = 6144, DISCARD_MAX_BYTES = 64 << 20, BUFFER_KEEP_BYTES = 64 << 10, STREAM_QUEUE_MAX_BYTES = 1 << 20 };

struct serve_stream {
        struct connection *connection;            /* NULL once the owner may only close it */
        struct serve_stream *next_gone;
        struct buffer queue;
        size_t sent;                              /* of queue */
        void *data;
        bool is_closed;                           /* by the owner: what is queued is the rest */
        bool is_broken;                           /* by the peer, or too much queued */
        bool is_told;                             /* stream_gone was called or is about to be */
};

struct serve_request {
        const char *method, *path, *target;       /* in libmicrohttpd's memory of this request */
        const char *content_type;                 /* there too; NULL */
        char *path_decoded;                       /* owned; set when the path has escapes */
        char *query_text;                         /* owned; raw */
        struct query query;
        void *data;
        size_t target_bytes;
        uint64_t body_seen_bytes;                 /* also of bytes not kept */
        int refused_status;                       /* 0 = fine so far */
        char refused_detail[160];
        bool headers_seen;
};

struct connection {
        struct serve *serve;
        struct connection *previous, *next;       /* in serve->connections */
        struct listener *listener;                /* NULL once it is gone */
        void *tag;
        struct MHD_Connection *mhd;               /* NULL in FIRST */
        struct peer_count *count;
        struct serve_peer peer;
        void *identity;                           /* the handler's; NULL */
        uint64_t number;
        int64_t since_ms;                         /* uv_now() of the last move */
        int fd;                                   /* libmicrohttpd's, or ours in FIRST */
        enum connection_phase phase;
        bool is_suspended, has_timeout, had_request, in_handler;
        bool is_quiet, is_unsent;                 /* libmicrohttpd is not told when there is room to write; in serve->unsent */
        struct connection *next_unsent;
        struct serve_request request;
        struct buffer body, answer;               /* kept from request to request up to BUFFER_KEEP_BYTES */
        struct MHD_Response *kept;                /* of the last answer, if it was a plain one: the bytes of `answer`, of this type; NULL */
        char kept_type[32];
        struct serve_stream *stream;
};

struct listener {
        uv_poll_t poll;
        struct listener *next;
        struct serve *serve;
        void *tag;
        char *path;                               /* of a socket file that is ours to remove; else NULL */
        dev_t device;
        ino_t inode;
        int fd;
        unsigned open;                            /* connections that came here */
        bool is_unix, is_paused;
};

struct serve {
        struct loop *loop;
        uv_loop_t *uv;
        struct serve_limits limits;
        struct serve_handler handler;
        struct serve_stats stats;
        struct MHD_Daemon *mhd;
        struct connection *connections, *adding;  /* adding: the one inside MHD_add_connection() */
        struct connection *unsent;                /* quiet ones, answered in this run of libmicrohttpd */
        struct listener *listeners;
        struct map *peers;
        struct serve_stream *streams_gone;        /* broken while the owner was writing: it is told from the loop */
        uv_prepare_t wait; uv_idle_t glance;       /* or mhd_poll: drive.c */
        uv_poll_t mhd_poll, watch_poll;
        uv_timer_t sweep, soon;
        uint64_t next_number;
        unsigned handles_open, timeouts;
        int mhd_fd, watch_fd, reserve_fd, fd_limit;
        bool knows_mhd;                           /* its epoll entries are as we know them: drive.c, connection_quieten() */
        bool is_late;                             /* uv_now() is of before the wait */
        bool in_run, is_sweeping, is_closing, is_closed, soon_armed, is_full;
        int64_t close_deadline_ms;
        void (*closed)(void *arg);
        void *closed_arg;
};

/* drive.c */
void serve_drive(struct serve *serve);             /* from now on, until its handles are closed */
void serve_run_mhd(struct serve *serve);           /* does not wait */
int64_t serve_now_ms(struct serve *serve);

/* serve.c */
void serve_run_soon(struct serve *serve);
void serve_sweep_arm(struct serve *serve);         /* looks at connections in a while, as long as there is one */
const char *serve_problem(struct serve *serve, int status, const char *detail);

/* connection.c */
void connection_accept(struct listener *listener, int fd, const struct sockaddr_storage *address);
void connection_move(struct connection *connection, enum connection_phase phase);
void connection_free(struct connection *connection);                /* from libmicrohttpd's notice, or in FIRST */
void connection_close(struct connection *connection);               /* shuts the socket; libmicrohttpd then lets go of it */
void connection_suspend(struct connection *connection);
void connection_resume(struct connection *connection);
void connection_set_timeout(struct connection *connection, int64_t timeout_ms);     /* without progress; 0 = none */
bool connection_set_group(struct connection *connection, const struct serve_group *group);
void connection_end_wait(struct connection *connection);            /* the request has been answered or is given up */
void connection_quieten(struct connection *connection);             /* all is sent: room to write is no news, until there is more to send than fits */
void connection_may_stall(struct connection *connection);           /* before something is sent that may not fit */
void connection_watch_unsent(struct serve *serve);
void connection_watch(struct serve *serve);                         /* what the watch descriptor tells */
void connection_sweep(struct serve *serve);
void connection_refuse_raw(struct serve *serve, int fd, int status, const char *detail);

/* ---- process.c */
bool process_parse_start(const char *stat, uint64_t *ret_start);
bool process_parse_has_user(const char *status, uid_t uid);
void process_fini(struct serve_process *process);

/* listen.c */
void listener_close(struct listener *listener);
void listener_resume_all(struct serve *serve);

/* request.c: called by libmicrohttpd */
enum MHD_Result request_handle(void *arg, struct MHD_Connection *mhd, const char *url, const char *method, const char *version,
                               const char *upload, size_t *upload_bytes, void **state);
void *request_begin(void *arg, const char *uri, struct MHD_Connection *mhd);
void request_fini(struct serve_request *request);
size_t request_keep_escapes(void *arg, struct MHD_Connection *mhd, char *text);

/* answer.c */
void answer_problem(struct connection *connection, int status, const char *detail, bool close);
void response_forget(struct connection *connection);

/* ---- fallback.c: what libmicrohttpd refuses by itself is made a problem on its way out */
enum MHD_Result response_send(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response);
void stream_break(struct serve_stream *stream);
void stream_tell_gone(struct serve *serve);
void stream_connection_done(struct connection *connection);

/* check.c: pure functions over text from outside */
/* The first bytes of a connection: the status to refuse them with, 0 if there is nothing against them (yet). */
int greeting_check(const char *head, size_t length, size_t header_max_bytes, const char **ret_detail);
bool check_target(const char *target, size_t target_bytes);         /* origin-form, visible ASCII */
/* Percent-decodes `length` bytes into `ret_text` (room for length + 1), '+' to blank if `plus_is_blank`; false for an invalid escape, NUL or bad UTF-8. */
bool check_decode(const char *text, size_t length, bool plus_is_blank, char *ret_text);
bool check_utf8(const char *text, size_t length);
bool check_token(const char *text, size_t length);                  /* RFC 9110 5.6.2 */
bool check_field_value(const char *text, size_t length);
bool query_parse(const char *text, struct query *ret_query);        /* false: malformed or more than QUERY_PARAMETERS_MAX */
void query_fini(struct query *query);
