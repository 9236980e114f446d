/*
 * How it goes: a listening socket is polled by the loop; each turn accepts a bounded number, so that a storm of connections does not starve those that are there.
 * How it fails: out of descriptors, or close to it, a connection is accepted by the reserve descriptor, answered 503 and closed: it neither waits for ever nor keeps the loop
 *              spinning.
 *              At connections_max accepting pauses; the backlog waits. A listener that has few connections goes on: callers cannot lock operators and probes out.
 * How it ends: listener_close() closes the socket and removes its file, if the file is still the one that was made here.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "room.h"

enum { ACCEPTS_PER_TURN = 64, BACKLOG = 4096 /* the kernel cuts it to net.core.somaxconn */, OWN_PART = 16 };

/* ---- accepting */

/* A sixteenth of connections_max is each listener's own, whatever the others have. */
static bool listener_has_room(const struct listener *listener)
{
        const struct serve *serve = listener->serve;
        return serve->stats.open < serve->limits.connections_max || listener->open < serve->limits.connections_max / OWN_PART;
}

static void listener_pause(struct listener *listener)
{
        if (!listener->is_paused)
                uv_poll_stop(&listener->poll);
        listener->is_paused = true;
        listener->serve->is_full = true;
        serve_sweep_arm(listener->serve);
}

static void listener_ready(uv_poll_t *poll, int status, int events);

void listener_resume_all(struct serve *serve)
{
        if (serve->is_closing)
                return;
        serve->is_full = false;
        for (struct listener *listener = serve->listeners; listener; listener = listener->next) {
                if (listener->is_paused && listener_has_room(listener)) {
                        uv_poll_start(&listener->poll, UV_READABLE, listener_ready);
                        listener->is_paused = false;
                }
                serve->is_full |= listener->is_paused;
        }
}

static void listener_refuse(struct listener *listener, int fd)
{
        listener->serve->stats.refused++;
        connection_refuse_raw(listener->serve, fd, 503, "out of file descriptors; ask again in a moment");
        close(fd);
}

/* No descriptor is left: the reserve makes room for one, for as long as it takes to say so. False when even that fails. */
static bool listener_refuse_by_reserve(struct listener *listener)
{
        struct serve *serve = listener->serve;

        if (serve->reserve_fd < 0)
                serve->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (serve->reserve_fd < 0)
                return false;
        close(serve->reserve_fd);
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
                listener_refuse(listener, fd);
        serve->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return fd >= 0;
}

/* False when there is nothing more to accept in this turn. */
static bool listener_accept(struct listener *listener)
{
        struct serve *serve = listener->serve;
        struct sockaddr_storage address = { 0 };
        socklen_t length = sizeof address;

        if (!listener_has_room(listener)) {
                listener_pause(listener);
                return false;
        }
        int fd = accept4(listener->fd, (struct sockaddr *)&address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && fd < serve->fd_limit)
                connection_accept(listener, fd, &address);
        else if (fd >= 0)
                listener_refuse(listener, fd);
        else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                if (listener_refuse_by_reserve(listener))
                        return true;
                listener_pause(listener);         /* the next sweep tries again */
                return false;
        } else {
                return errno == ECONNABORTED || errno == EINTR;
        }
        return true;
}

static void listener_ready(uv_poll_t *poll, int status, int events)
{
        struct listener *listener = CONTAINER_OF(poll, struct listener, poll);
        (void)status;
        (void)events;

        for (int i = 0; i < ACCEPTS_PER_TURN; i++)
                if (!listener_accept(listener))
                        return;
}

/* ---- making */

static bool listener_add(struct serve *serve, int fd, bool is_unix, void *tag, struct error *err)
{
        struct listener *listener = memory_new(1, sizeof *listener);
        int flags = fcntl(fd, F_GETFL);
        *listener = (struct listener){ .serve = serve, .fd = fd, .is_unix = is_unix, .tag = tag };

        fcntl(fd, F_SETFD, FD_CLOEXEC);
        int r = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : uv_poll_init(serve->uv, &listener->poll, fd);
        if (r < 0) {
                free(listener);
                return refuse_errno(err, ERROR_INTERNAL, -r, "watching a listening socket");
        }
        serve->handles_open++;
        listener->next = serve->listeners;
        serve->listeners = listener;
        uv_poll_start(&listener->poll, UV_READABLE, listener_ready);
        return true;
}

/* What lies at `path` now may be replaced: nothing, or the socket of a daemon that is dead. */
static bool path_is_free(const struct sockaddr_un *address, struct error *err)
{
        struct stat status;

        if (lstat(address->sun_path, &status) < 0)
                return errno == ENOENT || refuse_errno(err, ERROR_INTERNAL, errno, "looking at '%s'", address->sun_path);
        if (!S_ISSOCK(status.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "'%s' is in the way: it is no socket; remove it or name another path", address->sun_path);

        CLEANUP(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a socket");
        if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN)
                return refuse(err, ERROR_BUSY, "another daemon listens on '%s'; stop it or name another path", address->sun_path);
        if (errno == ECONNREFUSED || errno == ENOENT)
                return true;
        return refuse_errno(err, ERROR_INTERNAL, errno, "'%s' exists and cannot be tried", address->sun_path);
}

static bool folder_make(const char *path, struct error *err)
{
        CLEANUP(cleanup_free) char *folder = string_copy(path);
        char *slash = strrchr(folder, '/');

        if (!slash || slash == folder)
                return true;
        *slash = '\0';
        return fs_make_folders(folder, 0755, err);
}

/* Bound and listening under `temporary`, then renamed: whoever finds the path finds a socket that answers. */
static bool socket_bind(const struct sockaddr_un *address, const struct sockaddr_un *temporary, mode_t mode, int *ret_fd, struct stat *ret_status, struct error *err)
{
        CLEANUP(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct stat status;

        /* The mode before bind(2) is the one it is born with: it is never open to more than `mode` says. */
        if (fd < 0 || fchmod(fd, 0600) < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a socket");
        if (bind(fd, (const struct sockaddr *)temporary, sizeof *temporary) < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "binding '%s'", temporary->sun_path);
        if (chmod(temporary->sun_path, mode) < 0 || listen(fd, BACKLOG) < 0 || lstat(temporary->sun_path, &status) < 0 || rename(temporary->sun_path, address->sun_path) < 0) {
                int number = errno;
                unlink(temporary->sun_path);
                return refuse_errno(err, ERROR_INTERNAL, number, "listening on '%s'", address->sun_path);
        }
        *ret_fd = fd;
        fd = -1;
        *ret_status = status;
        return true;
}

bool serve_listen_unix(struct serve *serve, const char *path, mode_t mode, void *tag, struct error *err)
{
        ON_LOOP();
        struct sockaddr_un address = { .sun_family = AF_UNIX }, temporary = { .sun_family = AF_UNIX };
        const char *slash = strrchr(path, '/');
        size_t folder_bytes = slash ? (size_t)(slash - path) + 1 : 0;
        unsigned char noise[4];
        char noise_hex[2 * sizeof noise + 1];

        random_bytes(noise, sizeof noise);
        hex_format(noise, sizeof noise, noise_hex);
        if (!slash || path[0] != '/' || slash[1] == '\0')
                return refuse(err, ERROR_BAD_REQUEST, "a socket needs an absolute path of a file, not '%s'", path);
        if (strlen(path) >= sizeof address.sun_path || folder_bytes + 1 + strlen(noise_hex) >= sizeof temporary.sun_path)
                return refuse(err, ERROR_BAD_REQUEST, "the path of the socket '%s' is too long: the folder may have %zu bytes, all of it %zu", path,
                              sizeof address.sun_path - sizeof noise_hex - 2, sizeof address.sun_path - 1);
        memcpy(address.sun_path, path, strlen(path));
        snprintf(temporary.sun_path, sizeof temporary.sun_path, "%.*s.%s", (int)folder_bytes, path, noise_hex);

        struct stat status = { 0 };
        int fd = -1;
        if (!folder_make(path, err) || !path_is_free(&address, err) || !socket_bind(&address, &temporary, mode, &fd, &status, err))
                return false;
        if (!listener_add(serve, fd, true, tag, err)) {
                unlink(path);
                close(fd);
                return false;
        }
        serve->listeners->path = string_copy(path);
        serve->listeners->device = status.st_dev;
        serve->listeners->inode = status.st_ino;
        return true;
}

/* "127.0.0.1:9464", "[::1]:9464", "localhost:9464". */
static bool address_parse(const char *text, struct sockaddr_storage *ret_address, socklen_t *ret_length)
{
        const char *colon = strrchr(text, ':');
        char host[INET6_ADDRSTRLEN + 2] = "", *end;
        struct sockaddr_in v4 = { .sin_family = AF_INET };
        struct sockaddr_in6 v6 = { .sin6_family = AF_INET6 };

        if (!colon || colon == text || (size_t)(colon - text) >= sizeof host || colon[1] < '0' || colon[1] > '9')
                return false;
        unsigned long port = strtoul(colon + 1, &end, 10);
        if (*end != '\0' || port > UINT16_MAX)
                return false;

        memcpy(host, text, (size_t)(colon - text));
        size_t length = strlen(host);
        if (host[0] == '[' && host[length - 1] == ']') {
                host[length - 1] = '\0';
                v6.sin6_port = htons((uint16_t)port);
                memcpy(ret_address, &v6, sizeof v6);
                *ret_length = sizeof v6;
                return inet_pton(AF_INET6, host + 1, &((struct sockaddr_in6 *)ret_address)->sin6_addr) == 1;
        }
        v4.sin_port = htons((uint16_t)port);
        memcpy(ret_address, &v4, sizeof v4);
        *ret_length = sizeof v4;
        return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &((struct sockaddr_in *)ret_address)->sin_addr) == 1;
}

bool serve_listen_tcp(struct serve *serve, const char *address, void *tag, uint16_t *ret_port, struct error *err)
{
        ON_LOOP();
        struct sockaddr_storage storage = { 0 };
        socklen_t length;

        if (!address_parse(address, &storage, &length))
                return refuse(err, ERROR_BAD_REQUEST, "'%s' is no address to listen on; \"127.0.0.1:9464\", \"[::1]:9464\" and \"localhost:9464\" are", address);

        CLEANUP(cleanup_close) int fd = socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        int on = 1;
        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a socket");
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (storage.ss_family == AF_INET6)
                setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
        if (bind(fd, (const struct sockaddr *)&storage, length) < 0 || listen(fd, BACKLOG) < 0)
                return refuse_errno(err, errno == EADDRINUSE ? ERROR_BUSY : ERROR_INTERNAL, errno, "listening on %s", address);
        if (getsockname(fd, (struct sockaddr *)&storage, &length) < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "listening on %s", address);
        if (!listener_add(serve, fd, false, tag, err))
                return false;
        fd = -1;
        if (ret_port)
                *ret_port = ntohs(storage.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&storage)->sin6_port : ((struct sockaddr_in *)&storage)->sin_port);
        return true;
}

bool serve_listen_fd(struct serve *serve, int fd, void *tag, struct error *err)
{
        ON_LOOP();
        CLEANUP(cleanup_close) int taken = fd;
        int domain = 0, type = 0, listens = 0;
        socklen_t length = sizeof domain;

        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0 ||
            getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "descriptor %d, handed over to listen on", fd);
        if (!listens || type != SOCK_STREAM || (domain != AF_UNIX && domain != AF_INET && domain != AF_INET6))
                return refuse(err, ERROR_BAD_REQUEST, "descriptor %d, handed over to listen on, is no listening Unix or TCP stream socket", fd);
        if (!listener_add(serve, fd, domain == AF_UNIX, tag, err))
                return false;
        taken = -1;
        return true;
}

/* ---- going */

static void listener_closed(uv_handle_t *handle)
{
        struct listener *listener = CONTAINER_OF(handle, struct listener, poll);

        listener->serve->handles_open--;
        serve_run_soon(listener->serve);
        free(listener);
}

void listener_close(struct listener *listener)
{
        struct serve *serve = listener->serve;
        struct listener **link = &serve->listeners;
        struct stat status;

        while (*link != listener)
                link = &(*link)->next;
        *link = listener->next;
        for (struct connection *connection = serve->connections; connection; connection = connection->next)
                if (connection->listener == listener)
                        connection->listener = NULL;
        if (listener->path && lstat(listener->path, &status) == 0 && status.st_dev == listener->device && status.st_ino == listener->inode)
                unlink(listener->path);
        free(listener->path);
        uv_close((uv_handle_t *)&listener->poll, listener_closed);
        close(listener->fd);
}

bool serve_unlisten(struct serve *serve, void *tag)
{
        ON_LOOP();
        bool found = false;
        struct listener *next;

        for (struct listener *listener = serve->listeners; listener; listener = next) {
                next = listener->next;
                if (listener->tag != tag)
                        continue;
                listener_close(listener);
                found = true;
        }
        return found;
}
