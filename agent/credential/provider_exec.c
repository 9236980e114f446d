/*
 * How it goes: the request is put into a pipe, the program is started by posix_spawn (no fork of a process with threads, no shell) in a session of its own with three descriptors
 *              and no other, and its output is read until it ends.
 * How it fails: a status, a signal, too much output, the time; what it said on its standard error goes to the log, printable and cut, and to nobody else.
 * How it ends: in every case its whole process group is killed and it is reaped here; pipes are closed, and what it wrote is wiped if it is not handed over.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "provider.h"

enum { REQUEST_BYTES_MAX = 4096 /* PIPE_BUF: fits into an empty pipe */, STDERR_BYTES_MAX = 4096, READ_BYTES = 16384, WAIT_MS = 60000, LOOK_MS = 20 };

enum { IN, OUT, SAID, PIPES };
struct child { int pipes[PIPES][2]; int pidfd, wake; pid_t pid; struct buffer said; };

static void child_fini(struct child *child)
{
        if (child->pid > 0) {
                kill(-child->pid, SIGKILL);               /* it is not reaped yet, so the number is still its own */
                while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        for (size_t i = 0; i < PIPES; i++) {
                cleanup_close(&child->pipes[i][0]);
                cleanup_close(&child->pipes[i][1]);
        }
        cleanup_close(&child->pidfd);
        cleanup_close(&child->wake);
        buffer_fini_secret(&child->said);
}

static void close_now(int *fd)
{
        cleanup_close(fd);
        *fd = -1;
}

/* Away from 0, 1 and 2, which may be free here and are filled one after the other there. */
static bool pipe_move(int *fd)
{
        if (*fd > STDERR_FILENO)
                return true;
        int moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        close_now(fd);
        *fd = moved;
        return moved >= 0;
}

static bool pipes_open(struct child *child, struct error *err)
{
        child->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (child->wake < 0)
                return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "no descriptor to wait on");
        for (size_t i = 0; i < PIPES; i++)
                if (pipe2(child->pipes[i], O_CLOEXEC) != 0 || !pipe_move(&child->pipes[i][0]) || !pipe_move(&child->pipes[i][1]))
                        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "no pipe to it");
        fcntl(child->pipes[OUT][0], F_SETFL, O_NONBLOCK);
        fcntl(child->pipes[SAID][0], F_SETFL, O_NONBLOCK);
        return true;
}

/* The daemon's environment as the kubelet passes its own, without what systemd meant for the daemon alone; the provider's own settings win. The texts are borrowed. */
static char **environment_make(char *const *own)
{
        static const char *const kept_back[] = { "NOTIFY_SOCKET=", "LISTEN_FDS=", "LISTEN_PID=", "LISTEN_FDNAMES=", "WATCHDOG_USEC=", "WATCHDOG_PID=", "JOURNAL_STREAM=", NULL };
        size_t inherited = 0, added = 0, used = 0;
        while (environ[inherited])
                inherited++;
        while (own[added])
                added++;
        char **merged = memory_new(inherited + added + 1, sizeof *merged);
        for (size_t i = 0; i < inherited + added; i++) {
                char *entry = i < inherited ? environ[i] : own[i - inherited];
                size_t name_bytes = strcspn(entry, "=") + 1;
                bool is_kept = true;
                for (const char *const *name = kept_back; i < inherited && *name; name++)
                        is_kept = is_kept && strncmp(entry, *name, name_bytes) != 0;
                for (size_t k = i < inherited ? 0 : i - inherited + 1; own[k]; k++)
                        is_kept = is_kept && strncmp(entry, own[k], name_bytes) != 0;      /* the last of a name wins */
                if (is_kept)
                        merged[used++] = entry;
        }
        return merged;
}

static int spawn(struct child *child, const struct provider *provider, char **argv, char **environment)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t signals;
        posix_spawn_file_actions_init(&actions);
        posix_spawnattr_init(&attributes);
        posix_spawn_file_actions_adddup2(&actions, child->pipes[IN][0], STDIN_FILENO);
        posix_spawn_file_actions_adddup2(&actions, child->pipes[OUT][1], STDOUT_FILENO);
        posix_spawn_file_actions_adddup2(&actions, child->pipes[SAID][1], STDERR_FILENO);
        posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
        sigemptyset(&signals);
        posix_spawnattr_setsigmask(&attributes, &signals);
        sigfillset(&signals);
        posix_spawnattr_setsigdefault(&attributes, &signals);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        int code = posix_spawn(&child->pid, provider->program, &actions, &attributes, argv, environment);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        if (code != 0)
                child->pid = 0;
        return code;
}

static bool child_start(struct child *child, const struct provider_exec *exec, struct error *err)
{
        const struct provider *provider = exec->provider;
        size_t length = strlen(exec->request), count = 0;
        if (length > REQUEST_BYTES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the request for it has %zu bytes, at most %d are sent", length, REQUEST_BYTES_MAX);
        if (!provider_check_program(provider->program, err)) {
                err->code = ERROR_UPSTREAM_ERROR;
                return false;
        }
        if (!pipes_open(child, err))
                return false;
        if (!fs_write_all(child->pipes[IN][1], exec->request, length))
                return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "writing its request");
        close_now(&child->pipes[IN][1]);

        while (provider->args[count])
                count++;
        CLEANUP(cleanup_free) char **argv = memory_new(count + 2, sizeof *argv);
        CLEANUP(cleanup_free) char **environment = environment_make(provider->environment);
        argv[0] = provider->program;
        memcpy(argv + 1, provider->args, count * sizeof *argv);
        int code = spawn(child, provider, argv, environment);
        if (code != 0)
                return refuse_errno(err, ERROR_UPSTREAM_ERROR, code, "starting %s", provider->program);
        close_now(&child->pipes[IN][0]);
        close_now(&child->pipes[OUT][1]);
        close_now(&child->pipes[SAID][1]);
        child->pidfd = (int)syscall(SYS_pidfd_open, child->pid, 0);        /* where there is none (valgrind, a strict filter), it is looked after every LOOK_MS */
        return true;
}

/* What there is at the moment; *fd becomes -1 at its end. False: `out` may not take more. */
static bool drain(int *fd, struct buffer *out, bool cut)
{
        char piece[READ_BYTES];
        bool is_good = true;
        while (*fd >= 0 && is_good) {
                ssize_t got = read(*fd, piece, sizeof piece);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0 && errno == EAGAIN)
                        break;
                if (got <= 0) {
                        close_now(fd);
                        break;
                }
                size_t room = out->limit - out->used, taken = (size_t)got < room || !cut ? (size_t)got : room;
                is_good = buffer_append(out, piece, taken);
        }
        explicit_bzero(piece, sizeof piece);
        return is_good;
}

static void wake_up(void *arg)
{
        uint64_t one = 1;
        if (write(*(int *)arg, &one, sizeof one) < 0)
                return;                                   /* full: it is awake already */
}

/* False while it runs. It is not reaped, so that its group can still be killed by its number. */
static bool child_get_status(const struct child *child, siginfo_t *ret_info)
{
        *ret_info = (siginfo_t){ 0 };
        return waitid(P_PID, (id_t)child->pid, ret_info, WEXITED | WNOHANG | WNOWAIT) == 0 && ret_info->si_pid == child->pid;
}

/* Until it has ended and its pipes are read. */
static bool child_watch(struct child *child, const struct provider_exec *exec, struct buffer *output, struct error *err)
{
        int64_t until_ms = clock_get_ms() + exec->timeout_ms;
        bool is_own = exec->deadline_ms > 0 && exec->deadline_ms < until_ms;
        siginfo_t info;
        for (bool has_ended = false; !has_ended;) {
                int64_t left_ms = (is_own ? exec->deadline_ms : until_ms) - clock_get_ms();
                if (cancel_is_triggered(exec->cancel))
                        return refuse(err, ERROR_BUSY, "cancelled");
                if (left_ms <= 0 && is_own)
                        return refuse(err, ERROR_TIMEOUT, "it has not answered within the time of the pull");
                if (left_ms <= 0)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "it has not answered within %lld ms and was killed", (long long)exec->timeout_ms);

                struct pollfd fds[] = { { child->pidfd, POLLIN, 0 }, { child->pipes[OUT][0], POLLIN, 0 }, { child->pipes[SAID][0], POLLIN, 0 }, { child->wake, POLLIN, 0 } };
                int64_t wait_ms = child->pidfd < 0 ? LOOK_MS : WAIT_MS;
                if (poll(fds, COUNT_OF(fds), (int)(left_ms < wait_ms ? left_ms : wait_ms)) < 0 && errno != EINTR)
                        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "waiting for it");
                has_ended = child_get_status(child, &info);
                drain(&child->pipes[SAID][0], &child->said, true);
                if (!drain(&child->pipes[OUT][0], output, false))
                        return refuse(err, ERROR_UPSTREAM_ERROR, "it wrote more than %d bytes and was killed", PROVIDER_STDOUT_MAX);
        }
        return true;
}

static bool status_check(const struct child *child, struct error *err)
{
        siginfo_t info;
        child_get_status(child, &info);
        if (info.si_code != CLD_EXITED)
                return refuse(err, ERROR_UPSTREAM_ERROR, "it was ended by signal %d", info.si_status);
        return info.si_status == 0 || refuse(err, ERROR_UPSTREAM_ERROR, "it ended with status %d", info.si_status);
}

static void said_log(const struct provider *provider, const struct buffer *said)
{
        char text[1024];
        size_t length = said->used;
        while (length > 0 && (said->data[length - 1] == '\n' || said->data[length - 1] == '\r'))
                length--;
        if (length > 0)
                LOG_WARN("credential_provider_said", LOG_TEXT("provider", provider->name), LOG_TEXT("text", string_printable(said->data, length, text, sizeof text)));
}

bool provider_exec(const struct provider_exec *exec, struct buffer *ret_stdout, struct error *err)
{
        CLEANUP(child_fini) struct child child = { .pipes = { { -1, -1 }, { -1, -1 }, { -1, -1 } }, .pidfd = -1, .wake = -1, .said.limit = STDERR_BYTES_MAX };
        CLEANUP(buffer_fini_secret) struct buffer output = { .limit = PROVIDER_STDOUT_MAX };
        if (!buffer_reserve(&output, PROVIDER_STDOUT_MAX))         /* at once: a buffer that grows would leave copies behind that nobody wipes */
                return refuse(err, ERROR_UPSTREAM_ERROR, "no memory for its answer");
        if (!child_start(&child, exec, err))
                return false;
        cancel_set_waker(exec->cancel, wake_up, &child.wake);
        bool is_good = child_watch(&child, exec, &output, err);
        cancel_set_waker(exec->cancel, NULL, NULL);
        is_good = is_good && status_check(&child, err);
        said_log(exec->provider, &child.said);
        if (!is_good)
                return false;
        *ret_stdout = output;
        output = (struct buffer){ 0 };
        return true;
}
