/*
 * How it goes: the process that connected is held by a pidfd, then its files in /proc may be read by its number, then it is looked at once more: as long as it lives its number
 *              is nobody else's, so what was read is its own. Linux 6.5 gives the pidfd of the very process that connected; before, one is opened by number and the start time,
 *              the user and the life of what is found there have to be the same before and after.
 * How it fails: a process that has ended, one that cannot be seen from here, another one behind the number: ERROR_DENIED; never a guess.
 * How it ends: serve_process_fini() closes the descriptor; nothing of it outlives the accepting of the connection.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "room.h"

#ifndef SO_PEERPIDFD                              /* asm/socket.h since Linux 6.5 */
#if defined(__hppa__)
#define SO_PEERPIDFD 0x404B
#elif defined(__sparc__)
#define SO_PEERPIDFD 0x0056
#else
#define SO_PEERPIDFD 77
#endif
#endif
enum { STAT_BYTES_MAX = 4096, STATUS_BYTES_MAX = 16 << 10, STAT_START_FIELD = 22 };

/* proc(5): field 22 of /proc/PID/stat. The second one is the program's name in parentheses, and may hold blanks and parentheses itself. */
bool process_parse_start(const char *stat, uint64_t *ret_start)
{
        const char *at = strrchr(stat, ')');
        char *end;
        for (int field = 2; at && field < STAT_START_FIELD; field++)
                at = strchr(at + 1, ' ');
        if (!at || at[1] < '0' || at[1] > '9')
                return false;
        errno = 0;
        uint64_t start = strtoull(at + 1, &end, 10);
        if (errno != 0 || (*end != ' ' && *end != '\n' && *end != '\0'))
                return false;
        *ret_start = start;
        return true;
}

/* "Uid:\treal\teffective\tsaved\tfile system" of /proc/PID/status: is `uid` one of the first three. */
bool process_parse_has_user(const char *status, uid_t uid)
{
        const char *line = strstr(status, "\nUid:");
        unsigned ids[3];
        if (!line || sscanf(line + 5, "%u %u %u", &ids[0], &ids[1], &ids[2]) != 3)
                return false;
        return ids[0] == uid || ids[1] == uid || ids[2] == uid;
}

static bool refuse_ended(struct error *err)
{
        return refuse(err, ERROR_DENIED, "the caller's process has ended, or ended while it was looked at; nobody can be told from it");
}

static bool process_look(const struct serve_process *process, uint64_t *ret_start, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer stat = { 0 }, status = { 0 };
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/stat", (int)process->peer.pid);
        if (!fs_load(AT_FDCWD, path, STAT_BYTES_MAX, &stat, err))
                return refuse_ended(err);
        snprintf(path, sizeof path, "/proc/%d/status", (int)process->peer.pid);
        if (!fs_load(AT_FDCWD, path, STATUS_BYTES_MAX, &status, err) || !process_parse_start(stat.data, ret_start))
                return refuse_ended(err);
        return process_parse_has_user(status.data, process->peer.uid) || refuse(err, ERROR_DENIED, "the process %d is of another user than the caller: its number was given anew",
                (int)process->peer.pid);
}

/* -1 with errno. ENOPROTOOPT: the kernel does not know of it. */
static int pidfd_of_socket(int fd)
{
        int pidfd = -1;
        socklen_t length = sizeof pidfd;
        if (fault_hit("serve.peerpidfd")) {
                errno = ENOPROTOOPT;
                return -1;
        }
        return getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &length) < 0 ? -1 : pidfd;
}

static bool refuse_held(int number, struct error *err)
{
        if (number == EMFILE || number == ENFILE || number == ENOMEM)
                return refuse(err, ERROR_BUSY, "out of file descriptors; connect again in a moment");
        return refuse_ended(err);
}

bool serve_process_hold(struct serve_process *process, struct error *err)
{
        if (!process->peer.is_unix)
                return refuse(err, ERROR_DENIED, "only callers of a Unix socket can be told apart");
        if (process->peer.pid <= 0)
                return refuse(err, ERROR_DENIED, "the caller's process cannot be seen from here, it is in another pid namespace; run the daemon with hostPID, "
                              "or send a service-account token");
        process->pidfd = pidfd_of_socket(process->fd);
        if (process->pidfd < 0 && errno != ENOPROTOOPT)
                return refuse_held(errno, err);
        if (process->pidfd >= 0)
                return true;

        process->is_by_number = true;
        process->pidfd = (int)syscall(SYS_pidfd_open, process->peer.pid, 0);
        if (process->pidfd < 0)
                return refuse_held(errno, err);
        return process_look(process, &process->start, err);
}

bool serve_process_check(const struct serve_process *process, struct error *err)
{
        struct pollfd end = { .fd = process->pidfd, .events = POLLIN };
        uint64_t start = 0;
        if (process->pidfd < 0)
                return refuse(err, ERROR_INTERNAL, "the caller's process was not held while it was looked at");
        if (process->is_by_number && !process_look(process, &start, err))
                return false;
        if (process->is_by_number && start != process->start)
                return refuse(err, ERROR_DENIED, "the process %d is another one than a moment ago: its number was given anew", (int)process->peer.pid);
        return poll(&end, 1, 0) == 0 || refuse_ended(err);
}

const struct serve_peer *serve_process_get_peer(const struct serve_process *process)
{
        return &process->peer;
}

void process_fini(struct serve_process *process)
{
        if (process->pidfd >= 0)
                close(process->pidfd);
        process->pidfd = -1;
}
