/*
 * How it goes: one stream socket to the daemon, opened when needed and kept; received bytes lie in one fixed buffer. A daemon that is being replaced is waited for.
 * How it fails: connect says in words why the daemon is not there; send and receive leave errno to the caller, who knows what was asked.
 * How it ends: connection_close(); wasmcache_interrupt() of another thread shuts the socket down, so that a blocked receive returns.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include "client.h"

enum { SEND_TIMEOUT_S = 30 };                     /* a daemon that reads nothing for so long is not served by waiting on */

static const char *connect_explain(int number)
{
        switch (number) {
        case ENOENT:
                return "there is no such socket: is wasmcached running, and is this its socket?";
        case ECONNREFUSED:
                return "nobody listens there: wasmcached is not running";
        case EACCES:
        case EPERM:
                return "permission denied: this user may not connect there";
        default:
                return strerror(number);
        }
}

static bool timeout_set(int fd, int option, int64_t timeout_ms)
{
        struct timeval value = { .tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000 };
        return setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) == 0;
}

static bool publish(struct wasmcache *cache, int fd)
{
        pthread_mutex_lock(&cache->lock);
        bool may = !cache->is_interrupted;
        if (may)
                cache->fd = fd;
        pthread_mutex_unlock(&cache->lock);
        return may;
}

static int connection_try(struct wasmcache *cache, bool *ret_may_come, struct wasmcache_error *err)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        if (strlen(cache->path) >= sizeof address.sun_path)
                return client_fail(err, WASMCACHE_USAGE, "%s: a socket's path has at most %zu bytes", cache->path, sizeof address.sun_path - 1);
        strcpy(address.sun_path, cache->path);

        connection_close(cache);
        CLEANUP(cleanup_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return client_fail(err, WASMCACHE_UNREACHABLE, "no socket can be made: %s", strerror(errno));
        timeout_set(fd, SO_SNDTIMEO, SEND_TIMEOUT_S * 1000);      /* of connect too, when the queue of the listener is full */
        if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
                *ret_may_come = errno == ENOENT || errno == ECONNREFUSED;
                return client_fail(err, WASMCACHE_UNREACHABLE, "cannot connect to %s: %s", cache->path, connect_explain(errno));
        }
        if (!publish(cache, fd))
                return client_fail(err, WASMCACHE_UNREACHABLE, "interrupted");

        fd = -1;
        return WASMCACHE_OK;
}

int connection_open(struct wasmcache *cache, struct patience *patience, struct wasmcache_error *err)
{
        for (;;) {
                bool may_come = false;
                int result = connection_try(cache, &may_come, err);
                if (result == WASMCACHE_OK || !may_come || !patience_wait(patience, cache, 0))
                        return result;
        }
}

void connection_close(struct wasmcache *cache)
{
        pthread_mutex_lock(&cache->lock);
        int fd = cache->fd;
        cache->fd = -1;
        pthread_mutex_unlock(&cache->lock);

        if (fd >= 0)
                close(fd);
        cache->start = cache->end = 0;
        cache->has_answered = false;
}

bool connection_is_usable(const struct wasmcache *cache)
{
        struct pollfd poller = { .fd = cache->fd, .events = POLLIN | POLLRDHUP };
        return cache->fd >= 0 && cache->start == cache->end && poll(&poller, 1, 0) == 0;
}

bool connection_send(struct wasmcache *cache, const char *bytes, size_t size_bytes)
{
        while (size_bytes > 0) {
                ssize_t sent = send(cache->fd, bytes, size_bytes, MSG_NOSIGNAL);
                if (sent < 0 && errno == EINTR)
                        continue;
                if (sent < 0)
                        return false;
                bytes += sent;
                size_bytes -= (size_t)sent;
        }
        return true;
}

void connection_set_timeout(struct wasmcache *cache, int64_t timeout_ms)
{
        timeout_set(cache->fd, SO_RCVTIMEO, timeout_ms);
}

ssize_t connection_receive(struct wasmcache *cache)
{
        if (cache->start == cache->end)
                cache->start = cache->end = 0;
        else if (cache->end == sizeof cache->input) {
                memmove(cache->input, cache->input + cache->start, cache->end - cache->start);
                cache->end -= cache->start;
                cache->start = 0;
        }

        for (;;) {
                ssize_t got = recv(cache->fd, cache->input + cache->end, sizeof cache->input - cache->end, 0);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got > 0)
                        cache->end += (size_t)got;
                return got;
        }
}

void wasmcache_interrupt(struct wasmcache *cache)
{
        pthread_mutex_lock(&cache->lock);
        cache->is_interrupted = true;
        if (cache->fd >= 0)
                shutdown(cache->fd, SHUT_RDWR);
        pthread_mutex_unlock(&cache->lock);
}
