/*
 * How it goes: an accepted socket is looked at (MSG_PEEK) until its first bytes say which protocol it speaks, and then handed to libmicrohttpd. One epoll descriptor of our own
 *              watches all connections, edge-triggered, for a peer that goes away: libmicrohttpd does not look at suspended ones. Nothing of that costs anything per request.
 * How it fails: too many of one peer, an HTTP/2 preface, a request that does not arrive: a complete answer is written straight to the socket, then it is closed.
 * How it ends: shutdown(2) makes libmicrohttpd see the end and let go; its notice frees the connection. In FIRST it is ours to close.
 *
 * A half-closed peer (it said all it has to say, but listens): on Unix sockets told apart from a vanished one by EPOLLHUP, and answered. On TCP the two look the same, and as
 * for nginx a peer whose FIN came while its request waits counts as gone.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "room.h"

enum { WATCH_EVENTS_PER_TURN = 64, GREETING_BYTES = 16 << 10 };
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";       /* RFC 9113 3.4 */
enum { PREFACE_BYTES = sizeof preface - 1 };

#define TO(phase) (1u << (phase))
static const unsigned moves[] = {
        [PHASE_FIRST]     = TO(PHASE_IDLE) | TO(PHASE_CLOSING),
        [PHASE_IDLE]      = TO(PHASE_RECEIVING) | TO(PHASE_CLOSING),
        [PHASE_RECEIVING] = TO(PHASE_ASKED) | TO(PHASE_SENDING) | TO(PHASE_IDLE) | TO(PHASE_CLOSING),
        [PHASE_ASKED]     = TO(PHASE_SENDING) | TO(PHASE_STREAMING) | TO(PHASE_CLOSING),
        [PHASE_SENDING]   = TO(PHASE_IDLE) | TO(PHASE_CLOSING),
        [PHASE_STREAMING] = TO(PHASE_IDLE) | TO(PHASE_CLOSING),
        [PHASE_CLOSING]   = 0,
};

void connection_move(struct connection *connection, enum connection_phase phase)
{
        assert(moves[connection->phase] & TO(phase));
        connection->phase = phase;
        connection->since_ms = serve_now_ms(connection->serve);
}

/* ---- answers without libmicrohttpd */

void connection_refuse_raw(struct serve *serve, int fd, int status, const char *detail)
{
        const char *body = serve_problem(serve, status, detail);
        char *text = string_format("HTTP/1.1 %d %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n%sConnection: close\r\n\r\n%s", status,
                                   MHD_get_reason_phrase_for((unsigned)status), strlen(body), status == 503 ? "Retry-After: 1\r\n" : "", body);
        char unread[4096];

        (void)send(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
        /* Closing with unread bytes tells the peer ECONNRESET, maybe before it has read the answer. */
        while (recv(fd, unread, sizeof unread, MSG_DONTWAIT) == sizeof unread)
                ;
        free(text);
}

/* ---- peers */

static void peer_identify(int fd, bool is_unix, const struct sockaddr_storage *address, struct peer_key *ret_key, struct serve_peer *ret_peer)
{
        struct peer_key key = { .kind = is_unix ? PEER_PROCESS : PEER_ADDRESS };
        struct serve_peer peer = { .is_unix = is_unix, .uid = (uid_t)-1, .gid = (gid_t)-1 };
        struct ucred credentials;
        socklen_t length = sizeof credentials;

        if (is_unix && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) == 0)
                peer = (struct serve_peer){ true, credentials.pid, credentials.uid, credentials.gid };
        else if (address->ss_family == AF_INET)
                memcpy(key.address, &((const struct sockaddr_in *)address)->sin_addr, sizeof(struct in_addr));
        else if (address->ss_family == AF_INET6)
                memcpy(key.address, &((const struct sockaddr_in6 *)address)->sin6_addr, sizeof(struct in6_addr));
        key.uid = peer.uid;
        key.pid = (uint32_t)peer.pid;
        *ret_key = key;
        *ret_peer = peer;
}

static struct peer_count *peer_join(struct serve *serve, const struct peer_key *key)
{
        struct peer_count *count = map_get(serve->peers, key, sizeof *key);

        if (count && count->connections >= serve->limits.connections_per_peer)
                return NULL;
        if (!count) {
                count = memory_new(1, sizeof *count);
                count->key = *key;
                map_put(serve->peers, key, sizeof *key, count);
        }
        count->connections++;
        return count;
}

/* A group stands in the place of uid and pid. */
static struct peer_key peer_of_group(const struct serve_group *group)
{
        struct peer_key key = { .kind = PEER_GROUP };
        memcpy(key.address, group->bytes, sizeof group->bytes);
        return key;
}

static void *peer_arrive(const struct listener *listener, int fd, const struct serve_peer *peer, struct peer_key *key)
{
        static const struct serve_group none = { 0 };
        struct serve *serve = listener->serve;
        struct serve_process process = { .peer = *peer, .fd = fd, .pidfd = -1 };
        struct serve_group group = { 0 };
        if (!serve->handler.arrived)
                return NULL;
        void *identity = serve->handler.arrived(serve->handler.arg, listener->tag, &process, &group);
        process_fini(&process);
        if (memcmp(&group, &none, sizeof group) != 0)
                *key = peer_of_group(&group);
        return identity;
}

static void peer_leave(struct serve *serve, struct peer_count *count)
{
        if (--count->connections > 0)
                return;
        struct peer_key key = count->key;

        map_remove(serve->peers, &key, sizeof key);
}

bool connection_set_group(struct connection *connection, const struct serve_group *group)
{
        struct serve *serve = connection->serve;
        struct peer_key key = peer_of_group(group);
        if (memcmp(&key, &connection->count->key, sizeof key) == 0)
                return true;
        struct peer_count *count = peer_join(serve, &key);
        if (!count)
                return false;
        if (count->waiting >= serve->limits.waiting_per_peer) {
                peer_leave(serve, count);
                return false;
        }
        if (connection->is_suspended) {
                connection->count->waiting--;
                count->waiting++;
        }
        peer_leave(serve, connection->count);
        connection->count = count;
        return true;
}

/* ---- coming and going */

/* The end of the peer is always watched for; `events` besides. */
static bool connection_watch_for(struct connection *connection, int operation, uint32_t events)
{
        struct epoll_event event = { .events = events | EPOLLRDHUP | EPOLLET, .data.ptr = connection };

        return epoll_ctl(connection->serve->watch_fd, operation, connection->fd, &event) == 0;
}

/* From here on the descriptor is libmicrohttpd's, which closes it also when it fails. */
static void connection_hand_over(struct connection *connection)
{
        struct serve *serve = connection->serve;
        struct sockaddr address = { .sa_family = AF_UNIX };       /* only kept by it, never read */

        connection_move(connection, PHASE_IDLE);
        serve->adding = connection;
        enum MHD_Result result = MHD_add_connection(serve->mhd, connection->fd, &address, sizeof address);
        serve->adding = NULL;
        if (result == MHD_YES)
                serve_run_soon(serve);
        else
                connection_free(connection);
}

/* ---- room to write

   libmicrohttpd asks epoll for output of every connection, always: each answer that a peer reads would wake us, for nothing. Of a hit's CPU time that is a twelfth. A connection
   that has sent everything is therefore asked for input alone; one whose answer does not leave at once, for both again (to change an entry is to look anew: no edge is lost). */

static bool connection_ask_for(struct connection *connection, uint32_t output)
{
        struct epoll_event event = { .events = EPOLLIN | EPOLLPRI | EPOLLET | output, .data.ptr = connection->mhd };

        return epoll_ctl(connection->serve->mhd_fd, EPOLL_CTL_MOD, connection->fd, &event) == 0;
}

void connection_quieten(struct connection *connection)
{
        if (!connection->is_quiet && connection->serve->knows_mhd)
                connection->is_quiet = connection_ask_for(connection, 0);
}

void connection_may_stall(struct connection *connection)
{
        if (!connection->is_quiet || connection->is_unsent)
                return;
        connection->is_unsent = true;
        connection->next_unsent = connection->serve->unsent;
        connection->serve->unsent = connection;
}

/* Nearly all have been sent by now. */
void connection_watch_unsent(struct serve *serve)
{
        struct connection *connection;

        while ((connection = serve->unsent) != NULL) {
                serve->unsent = connection->next_unsent;
                connection->is_unsent = false;
                if (connection->is_quiet && connection->phase != PHASE_IDLE && connection->phase != PHASE_CLOSING)
                        connection->is_quiet = !connection_ask_for(connection, EPOLLOUT);
        }
}

static void unsent_leave(struct connection *connection)
{
        struct connection **at = &connection->serve->unsent;

        while (connection->is_unsent && *at != connection)
                at = &(*at)->next_unsent;
        if (connection->is_unsent)
                *at = connection->next_unsent;
}

enum greeting { GREETING_WAIT, GREETING_HTTP1, GREETING_HTTP2, GREETING_NONE };

/* By the first bytes, which stay in the socket. */
static enum greeting connection_peek(const struct connection *connection)
{
        char head[PREFACE_BYTES];
        ssize_t length = recv(connection->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);

        if (length < 0 && (errno == EAGAIN || errno == EINTR))
                return GREETING_WAIT;
        if (length <= 0)
                return GREETING_NONE;
        if (memcmp(head, preface, (size_t)length) != 0)
                return GREETING_HTTP1;
        return length == PREFACE_BYTES ? GREETING_HTTP2 : GREETING_WAIT;
}

/* libmicrohttpd answers some requests by itself, in HTML; most of them show in what has come by now. */
static bool connection_screen(const struct connection *connection)
{
        UNCLEARED char head[GREETING_BYTES];
        const char *detail = "";
        ssize_t length = recv(connection->fd, head, sizeof head, MSG_PEEK | MSG_DONTWAIT);
        int status = length > 0 ? greeting_check(head, (size_t)length, connection->serve->limits.header_max_bytes, &detail) : 0;

        if (status != 0)
                connection_refuse_raw(connection->serve, connection->fd, status, detail);
        return status == 0;
}

static void connection_greet(struct connection *connection, int operation)
{
        enum greeting greeting = connection_peek(connection);

        if (greeting == GREETING_HTTP1 && !connection_screen(connection))
                greeting = GREETING_NONE;

        if (greeting == GREETING_HTTP2)
                connection_refuse_raw(connection->serve, connection->fd, 505, "HTTP/2 is not spoken here; use HTTP/1.1");
        bool is_good = greeting == GREETING_HTTP1 || greeting == GREETING_WAIT;

        if (!is_good || !connection_watch_for(connection, operation, greeting == GREETING_WAIT ? EPOLLIN : 0))
                connection_free(connection);
        else if (greeting == GREETING_HTTP1)
                connection_hand_over(connection);
}

void connection_accept(struct listener *listener, int fd, const struct sockaddr_storage *address)
{
        struct serve *serve = listener->serve;
        struct peer_key key;
        struct serve_peer peer;

        peer_identify(fd, listener->is_unix, address, &key, &peer);
        void *identity = peer_arrive(listener, fd, &peer, &key);
        struct peer_count *count = peer_join(serve, &key);
        if (!count) {
                free(identity);
                serve->stats.refused++;
                connection_refuse_raw(serve, fd, 503, "too many connections of this peer; close some of them");
                close(fd);
                return;
        }

        struct connection *connection = memory_new(1, sizeof *connection);
        *connection = (struct connection){ .serve = serve, .listener = listener, .tag = listener->tag, .count = count, .peer = peer, .fd = fd };
        connection->identity = identity;
        connection->next = serve->connections;
        connection->number = ++serve->next_number;
        connection->since_ms = serve_now_ms(serve);
        connection->body.limit = serve->limits.body_max_bytes;
        if (serve->connections)
                serve->connections->previous = connection;
        serve->connections = connection;
        serve->stats.accepted++;
        serve->stats.open++;
        listener->open++;
        serve_sweep_arm(serve);
        connection_greet(connection, EPOLL_CTL_ADD);
}

void connection_free(struct connection *connection)
{
        struct serve *serve = connection->serve;

        if (connection->phase == PHASE_FIRST)
                close(connection->fd);
        if (connection->stream)
                stream_connection_done(connection);
        unsent_leave(connection);
        connection_set_timeout(connection, 0);
        if (connection->next)
                connection->next->previous = connection->previous;
        *(connection->previous ? &connection->previous->next : &serve->connections) = connection->next;
        peer_leave(serve, connection->count);
        request_fini(&connection->request);
        response_forget(connection);
        buffer_fini(&connection->body);
        buffer_fini(&connection->answer);
        free(connection->identity);
        serve->stats.open--;
        if (connection->listener)
                connection->listener->open--;
        free(connection);
        if (serve->is_full)
                listener_resume_all(serve);
        if (serve->is_closing)
                serve_run_soon(serve);
}

void connection_close(struct connection *connection)
{
        if (connection->phase == PHASE_FIRST) {
                connection_free(connection);
                return;
        }
        if (connection->phase != PHASE_CLOSING)
                connection_move(connection, PHASE_CLOSING);
        shutdown(connection->fd, SHUT_RDWR);
        if (connection->is_suspended)
                connection_resume(connection);
}

/* ---- waiting */

void connection_suspend(struct connection *connection)
{
        connection->is_suspended = true;
        connection->is_quiet = false;             /* libmicrohttpd takes its descriptor out of epoll, and later in again as it likes */
        MHD_suspend_connection(connection->mhd);
}

void connection_resume(struct connection *connection)
{
        connection->is_suspended = false;
        MHD_resume_connection(connection->mhd);
        serve_run_soon(connection->serve);
}

void connection_set_timeout(struct connection *connection, int64_t timeout_ms)
{
        bool wanted = timeout_ms > 0;

        if (wanted == connection->has_timeout)
                return;
        connection->has_timeout = wanted;
        connection->serve->timeouts += wanted ? 1u : -1u;
        if (connection->mhd)
                MHD_set_connection_option(connection->mhd, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)((timeout_ms + 999) / 1000));
}

void connection_end_wait(struct connection *connection)
{
        if (!connection->is_suspended)
                return;
        connection->count->waiting--;
        connection->serve->stats.waiting--;
}

static void connection_vanished(struct connection *connection)
{
        struct serve *serve = connection->serve;

        switch (connection->phase) {
        case PHASE_FIRST:
                connection_free(connection);
                break;
        case PHASE_ASKED:
                connection_end_wait(connection);
                serve->handler.gone(serve->handler.arg, &connection->request);
                connection_close(connection);
                break;
        case PHASE_STREAMING:
                connection_close(connection);
                break;
        case PHASE_IDLE:
        case PHASE_RECEIVING:
        case PHASE_SENDING:
        case PHASE_CLOSING:
                break;                            /* libmicrohttpd looks at these itself */
        }
}

/* libmicrohttpd, edge-triggered too, may have read the last bytes together with the edge that told of the end behind them; resuming makes it try to read once more. */
static void connection_half_closed(struct connection *connection)
{
        if (connection->mhd && !connection->is_suspended && connection->phase != PHASE_STREAMING) {
                connection_suspend(connection);
                connection_resume(connection);
        }
}

static void connection_event(struct connection *connection, uint32_t events)
{
        bool waits = connection->phase == PHASE_ASKED || connection->phase == PHASE_STREAMING;
        bool vanished = (events & (EPOLLHUP | EPOLLERR)) || ((events & EPOLLRDHUP) && waits && !connection->peer.is_unix);

        if (vanished)
                connection_vanished(connection);
        else if (connection->phase == PHASE_FIRST)
                connection_greet(connection, EPOLL_CTL_MOD);
        else if ((events & EPOLLRDHUP) && connection->phase != PHASE_CLOSING)
                connection_half_closed(connection);
}

void connection_watch(struct serve *serve)
{
        struct epoll_event events[WATCH_EVENTS_PER_TURN];
        int count = epoll_wait(serve->watch_fd, events, WATCH_EVENTS_PER_TURN, 0);

        for (int i = 0; i < count; i++)
                connection_event(events[i].data.ptr, events[i].events);
}

static void connection_check_time(struct connection *connection, int64_t now_ms)
{
        const struct serve_limits *limits = &connection->serve->limits;
        int64_t age_ms = now_ms - connection->since_ms;

        switch (connection->phase) {
        case PHASE_FIRST:
        case PHASE_IDLE:
        case PHASE_RECEIVING:
                if (age_ms <= limits->idle_timeout_ms)
                        break;
                /* Bytes came, but no whole request. A kept connection that is merely idle is closed without a word. */
                if (connection->phase == PHASE_RECEIVING || (connection->phase == PHASE_IDLE && !connection->had_request))
                        connection_refuse_raw(connection->serve, connection->fd, 408, "the request did not arrive completely in time");
                connection_close(connection);
                break;
        case PHASE_SENDING:
                if (!connection->has_timeout && age_ms > limits->write_timeout_ms)
                        connection_close(connection);
                break;
        case PHASE_ASKED:
        case PHASE_STREAMING:
        case PHASE_CLOSING:
                break;
        }
}

void connection_sweep(struct serve *serve)
{
        int64_t now_ms = serve_now_ms(serve);
        struct connection *next;

        for (struct connection *connection = serve->connections; connection; connection = next) {
                next = connection->next;
                connection_check_time(connection, now_ms);
        }
}
