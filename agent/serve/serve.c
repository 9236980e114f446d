/*
 * How it goes: one daemon of libmicrohttpd, driven by drive.c. One timer, while there are connections, looks for those that take too long.
 * How it fails: making it can fail; afterwards failures belong to single connections.
 * How it ends: serve_close() closes listeners, tells owners, lets answers go out for a while, shuts what is left, and calls back when the last handle is closed. serve_free()
 *              frees.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include "room.h"

enum { OWN_HANDLES = 6, SWEEP_MIN_MS = 20, SWEEP_MAX_MS = 1000 };

const struct serve_limits serve_limits_default = {
        .body_max_bytes = 1 << 20, .header_max_bytes = 8 << 10, .connections_max = 16384, .connections_per_peer = 1024, .waiting_per_peer = 1024,
        .idle_timeout_ms = 60000, .write_timeout_ms = 30000,
};

const char *serve_problem(struct serve *serve, int status, const char *detail)
{
        const char *body = serve->handler.problem ? serve->handler.problem(serve->handler.arg, status, detail) : NULL;

        return body ? body : "{}";
}

/* ---- what libuv calls */

static void serve_close_step(struct serve *serve);

static void watch_ready(uv_poll_t *poll, int status, int events)
{
        (void)status;
        (void)events;
        connection_watch(CONTAINER_OF(poll, struct serve, watch_poll));
}

static void soon_fired(uv_timer_t *timer)
{
        struct serve *serve = CONTAINER_OF(timer, struct serve, soon);

        serve->soon_armed = false;
        serve_run_mhd(serve);
        if (serve->is_closing)
                serve_close_step(serve);
}

void serve_run_soon(struct serve *serve)
{
        if (serve->soon_armed || serve->is_closed)
                return;
        serve->soon_armed = true;
        uv_timer_start(&serve->soon, soon_fired, 0, 0);
}

static void sweep_fired(uv_timer_t *timer)
{
        struct serve *serve = CONTAINER_OF(timer, struct serve, sweep);

        serve->is_sweeping = false;
        connection_sweep(serve);
        if (serve->is_full)
                listener_resume_all(serve);
        serve_run_mhd(serve);                     /* its own timeouts */
        if (serve->is_closing)
                serve_close_step(serve);
}

/* An idle daemon without connections wakes up for nothing. */
void serve_sweep_arm(struct serve *serve)
{
        const struct serve_limits *limits = &serve->limits;

        if (serve->is_sweeping || serve->is_closed || !(serve->connections || serve->is_full || serve->is_closing))
                return;
        int64_t shortest_ms = limits->idle_timeout_ms < limits->write_timeout_ms ? limits->idle_timeout_ms : limits->write_timeout_ms;
        int64_t period_ms = serve->is_closing ? SWEEP_MIN_MS : shortest_ms / 4;

        period_ms = period_ms < SWEEP_MIN_MS ? SWEEP_MIN_MS : period_ms > SWEEP_MAX_MS ? SWEEP_MAX_MS : period_ms;
        serve->is_sweeping = true;
        uv_timer_start(&serve->sweep, sweep_fired, (uint64_t)period_ms, 0);
}

/* ---- libmicrohttpd's notices */

static void connection_noticed(void *arg, struct MHD_Connection *mhd, void **socket_context, enum MHD_ConnectionNotificationCode code)
{
        struct serve *serve = arg;

        if (code == MHD_CONNECTION_NOTIFY_STARTED) {
                *socket_context = serve->adding;
                serve->adding->mhd = mhd;
                return;
        }
        struct connection *connection = *socket_context;

        connection->mhd = NULL;
        if (connection != serve->adding)          /* else connection_hand_over() frees it */
                connection_free(connection);
}

/* Out of the buffers that a connection keeps, those that a single large request blew up go back. */
static void buffer_trim(struct buffer *buffer)
{
        if (buffer->capacity > BUFFER_KEEP_BYTES)
                buffer_fini(buffer);
        else
                buffer_clear(buffer);
}

static void request_completed(void *arg, struct MHD_Connection *mhd, void **state, enum MHD_RequestTerminationCode code)
{
        struct connection *connection = *state;
        (void)arg;
        (void)mhd;

        if (!connection)
                return;
        if (connection->stream)
                stream_connection_done(connection);
        request_fini(&connection->request);
        buffer_trim(&connection->body);
        if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK) {
                if (connection->phase != PHASE_CLOSING)
                        connection_move(connection, PHASE_CLOSING);
                shutdown(connection->fd, SHUT_RDWR);          /* a connection that timed out would only be looked at again at its next event */
                return;
        }
        if (connection->had_request)              /* libmicrohttpd has its descriptor in epoll by now */
                connection_quieten(connection);
        connection->had_request = true;
        connection_set_timeout(connection, 0);
        if (connection->phase != PHASE_CLOSING)
                connection_move(connection, PHASE_IDLE);
}

/* ---- making */

static int fd_limit_get(void)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur > INT32_MAX)
                return INT32_MAX;
        /* Kept free for files and transfers: those who are connected shall be served. */
        int all = (int)limit.rlim_cur, kept = all / 4;
        return all - (kept > 64 ? 64 : kept);
}

static bool mhd_start(struct serve *serve, struct error *err)
{
        /* Room for the headers allowed, their descriptors and the answer's headers. Not more: libmicrohttpd clears all of it after each request, 5 % of a hit per 8 KiB. */
        size_t pool_bytes = serve->limits.header_max_bytes + 4096;

        unsigned flags = MHD_USE_NO_LISTEN_SOCKET | MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_SUPPRESS_DATE_NO_CLOCK | MHD_USE_TURBO;

        serve->mhd = MHD_start_daemon(flags, 0, NULL, NULL, request_handle, serve,
                                      MHD_OPTION_CONNECTION_LIMIT, 1u << 30, MHD_OPTION_CONNECTION_MEMORY_LIMIT, pool_bytes, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
                                      MHD_OPTION_URI_LOG_CALLBACK, request_begin, serve, MHD_OPTION_UNESCAPE_CALLBACK, request_keep_escapes, serve,
                                      MHD_OPTION_NOTIFY_CONNECTION, connection_noticed, serve, MHD_OPTION_NOTIFY_COMPLETED, request_completed, serve, MHD_OPTION_END);
        if (!serve->mhd)
                return refuse(err, ERROR_INTERNAL, "starting the HTTP server: out of memory or descriptors");
        return true;
}

static bool serve_watch(struct serve *serve, struct error *err)
{
        serve->watch_fd = epoll_create1(EPOLL_CLOEXEC);
        serve->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (serve->watch_fd < 0 || serve->reserve_fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "starting the HTTP server");
        uv_timer_init(serve->uv, &serve->sweep);
        uv_timer_init(serve->uv, &serve->soon);
        int r = uv_poll_init(serve->uv, &serve->watch_poll, serve->watch_fd);
        assert(r == 0);                           /* fails for descriptors that epoll does not take; this is epoll's own */
        serve_drive(serve);
        serve->handles_open = OWN_HANDLES;
        uv_poll_start(&serve->watch_poll, UV_READABLE, watch_ready);
        return true;
}

static void serve_destroy(struct serve *serve)
{
        if (serve->mhd)
                MHD_stop_daemon(serve->mhd);
        cleanup_close(&serve->watch_fd);
        cleanup_close(&serve->reserve_fd);
        map_free(&serve->peers);
        free(serve);
}

bool serve_new(struct loop *loop, const struct serve_limits *limits, const struct serve_handler *handler, struct serve **ret_serve, struct error *err)
{
        ON_LOOP();
        struct serve *serve = memory_new(1, sizeof *serve);
        *serve = (struct serve){ .loop = loop, .uv = loop_get_uv(loop), .limits = *limits, .handler = *handler, .watch_fd = -1, .reserve_fd = -1, .fd_limit = fd_limit_get() };

        signal(SIGPIPE, SIG_IGN);                 /* sendfile(2) knows no MSG_NOSIGNAL */
        serve->peers = map_new(free);
        if (!mhd_start(serve, err) || !serve_watch(serve, err)) {
                serve_destroy(serve);
                return false;
        }
        *ret_serve = serve;
        return true;
}

void serve_set_limits(struct serve *serve, const struct serve_limits *limits)
{
        ON_LOOP();
        serve->limits = *limits;
        listener_resume_all(serve);
}

void serve_get_stats(const struct serve *serve, struct serve_stats *ret_stats)
{
        *ret_stats = serve->stats;
}

/* ---- ending */

static void handle_closed(uv_handle_t *handle)
{
        struct serve *serve = handle->data;

        if (--serve->handles_open == 0)
                serve->closed(serve->closed_arg);
}

/* Nobody is left: the daemon's own handles go. Listeners are closed by now, or their closing comes before these. */
static void serve_finish(struct serve *serve)
{
        uv_handle_t *handles[OWN_HANDLES] = { (uv_handle_t *)&serve->wait, (uv_handle_t *)&serve->glance, (uv_handle_t *)&serve->mhd_poll, (uv_handle_t *)&serve->watch_poll,
                                              (uv_handle_t *)&serve->sweep, (uv_handle_t *)&serve->soon };

        stream_tell_gone(serve);
        serve->is_closed = true;
        serve->uv->data = NULL;
        for (size_t i = 0; i < COUNT_OF(handles); i++) {
                handles[i]->data = serve;
                uv_close(handles[i], handle_closed);
        }
        MHD_stop_daemon(TAKE(serve->mhd));
}

static void connection_dismiss(struct connection *connection)
{
        struct serve *serve = connection->serve;

        if (connection->phase == PHASE_ASKED && connection->is_suspended) {
                serve->handler.gone(serve->handler.arg, &connection->request);
                answer_problem(connection, 503, "the daemon is stopping; ask again in a moment", true);
        } else if (connection->phase == PHASE_STREAMING && connection->stream && !connection->stream->is_closed) {
                struct serve_stream *stream = connection->stream;
                serve->handler.stream_gone(serve->handler.arg, stream);
                serve_stream_close(&stream);
        }
}

static void serve_close_step(struct serve *serve)
{
        struct connection *next;

        if (serve->is_closed || serve->in_run)
                return;
        bool is_late = serve_now_ms(serve) >= serve->close_deadline_ms;
        for (struct connection *connection = serve->connections; connection; connection = next) {
                next = connection->next;
                connection_dismiss(connection);   /* also what came to wait after serve_close(), which a handler may have called */
                if (is_late || connection->phase == PHASE_IDLE || connection->phase == PHASE_FIRST)
                        connection_close(connection);
        }
        if (!serve->connections && serve->handles_open == OWN_HANDLES)
                serve_finish(serve);
        else
                serve_sweep_arm(serve);
}

void serve_stop_listening(struct serve *serve)
{
        ON_LOOP();
        while (serve->listeners)
                listener_close(serve->listeners);
}

bool serve_is_quiet(const struct serve *serve)
{
        for (const struct connection *connection = serve->connections; connection; connection = connection->next)
                if (connection->phase == PHASE_FIRST || (connection->phase == PHASE_IDLE && !connection->had_request) || connection->phase == PHASE_RECEIVING ||
                    connection->phase == PHASE_SENDING || (connection->phase == PHASE_ASKED && !connection->is_suspended))
                        return false;
        return true;
}

void serve_close(struct serve *serve, int64_t grace_ms, void (*closed)(void *arg), void *arg)
{
        ON_LOOP();
        assert(!serve->is_closing);
        serve->is_closing = true;
        serve->close_deadline_ms = serve_now_ms(serve) + grace_ms;
        serve->closed = closed;
        serve->closed_arg = arg;
        serve_stop_listening(serve);
        for (struct connection *connection = serve->connections; connection; connection = connection->next)
                connection_dismiss(connection);
        serve_run_soon(serve);
        serve->is_sweeping = false;               /* from here on in short steps, whenever the next sweep was to be */
        serve_sweep_arm(serve);
}

void serve_free(struct serve **serve_ref)
{
        struct serve *serve = TAKE(*serve_ref);

        if (!serve)
                return;
        assert(serve->is_closed && serve->handles_open == 0);
        serve_destroy(serve);
}
