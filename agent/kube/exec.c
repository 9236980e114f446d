/*
 * How it goes: the program runs without a shell, in its own process group, with stdin from nowhere and no descriptor of ours; what it writes to stdout is one ExecCredential.
 * How it fails: ERROR_UNAUTHORIZED: not there, exit status, a minute over, more than 1 MiB, no ExecCredential. Its stderr is quoted (it is for people), its stdout never.
 * How it ends: in every case the process group is killed and the process reaped before exec_run() returns.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include "room.h"

enum { RUN_MS = 60000, POLL_MS = 1000, OUT_BYTES_MAX = 1 << 20, COMPLAINT_BYTES = 400 };

#define UNAUTHORIZED ERROR_UNAUTHORIZED

extern char **environ;

void exec_plugin_free(struct exec_plugin **plugin)
{
        struct exec_plugin *gone = TAKE(*plugin);
        if (!gone)
                return;
        for (size_t i = 0; i < gone->argument_count; i++)
                free(gone->arguments[i]);
        for (size_t i = 0; i < gone->variable_count; i++) {
                free(gone->variables[i].name);
                explicit_bzero(gone->variables[i].value, strlen(gone->variables[i].value));
                free(gone->variables[i].value);
        }
        free(gone->arguments);
        free(gone->variables);
        free(gone->command);
        free(gone->api_version);
        free(gone->hint);
        free(gone);
}

void exec_credential_fini(struct exec_credential *credential)
{
        secret_free(&credential->token);
        secret_free(&credential->certificate);
        secret_free(&credential->key);
        credential->expires_s = 0;
}

bool exec_credential_parse(const void *bytes, size_t size_bytes, const char *api_version, struct exec_credential *ret_credential, struct error *err)
{
        CLEANUP(value_free) struct value *document = NULL;
        const char *kind = NULL, *version = NULL, *token = NULL, *certificate = NULL, *key = NULL, *expires = NULL;
        const struct value *status = NULL;
        int64_t expires_s = 0;
        if (!json_parse(bytes, size_bytes, UNAUTHORIZED, &document, err) || !value_read_text(document, "kind", UNAUTHORIZED, &kind, err) ||
            !value_read_text(document, "apiVersion", UNAUTHORIZED, &version, err) || !value_read_map(document, "status", UNAUTHORIZED, &status, err))
                return false;
        if (!string_equal(kind, "ExecCredential") || !string_equal(version, api_version))
                return refuse(err, UNAUTHORIZED, "it gave no ExecCredential of %s", api_version);
        if (!value_read_text(status, "token", UNAUTHORIZED, &token, err) || !value_read_text(status, "clientCertificateData", UNAUTHORIZED, &certificate, err) ||
            !value_read_text(status, "clientKeyData", UNAUTHORIZED, &key, err) || !value_read_text(status, "expirationTimestamp", UNAUTHORIZED, &expires, err))
                return refuse_within(err, "status");
        bool has_token = token && *token, has_certificate = certificate && *certificate, has_key = key && *key;
        if (has_certificate != has_key || (!has_token && !has_certificate))
                return refuse(err, UNAUTHORIZED, "its status has neither token nor clientCertificateData with clientKeyData");
        if (expires && !clock_parse_rfc3339(expires, &expires_s))
                return refuse(err, UNAUTHORIZED, "status.expirationTimestamp is no RFC 3339 time");
        *ret_credential = (struct exec_credential){ .token = has_token ? secret_new(token, strlen(token)) : NULL, .expires_s = expires_s,
                                                    .certificate = has_certificate ? secret_new(certificate, strlen(certificate)) : NULL,
                                                    .key = has_key ? secret_new(key, strlen(key)) : NULL };
        return true;
}

/* ---- the child */
static bool is_overridden(const struct exec_plugin *plugin, const char *entry)
{
        size_t length = strcspn(entry, "=");
        for (size_t i = 0; i < plugin->variable_count; i++)
                if (strlen(plugin->variables[i].name) == length && strncmp(plugin->variables[i].name, entry, length) == 0)
                        return true;
        return length == strlen("KUBERNETES_EXEC_INFO") && string_starts_with(entry, "KUBERNETES_EXEC_INFO=");
}

/* Ours, then the configured ones in their place, then KUBERNETES_EXEC_INFO. Borrowed entries first; `ret_own` counts the others, at the end. */
static char **environment_make(const struct exec_plugin *plugin, const char *cluster, size_t *ret_borrowed)
{
        size_t count = 0, used = 0;
        while (environ && environ[count])
                count++;
        char **list = memory_new(count + plugin->variable_count + 2, sizeof *list);
        for (size_t i = 0; i < count; i++)
                if (!is_overridden(plugin, environ[i]))
                        list[used++] = environ[i];
        *ret_borrowed = used;
        for (size_t i = 0; i < plugin->variable_count; i++)
                list[used++] = string_format("%s=%s", plugin->variables[i].name, plugin->variables[i].value);
        list[used++] = string_format("KUBERNETES_EXEC_INFO={\"apiVersion\":\"%s\",\"kind\":\"ExecCredential\",\"spec\":{%s%s%s\"interactive\":false}}", plugin->api_version,
                                     cluster ? "\"cluster\":" : "", cluster ? cluster : "", cluster ? "," : "");
        return list;
}

static void environment_free(char **list, size_t borrowed)
{
        for (char **own = list + borrowed; *own; own++) {
                explicit_bzero(*own, strlen(*own));
                free(*own);
        }
        free(list);
}

static int spawn(const struct exec_plugin *plugin, const char *cluster, const int pipes[2], pid_t *ret_pid)
{
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attributes;
        sigset_t none, all;
        size_t borrowed = 0;
        char **arguments = memory_new(plugin->argument_count + 2, sizeof *arguments), **environment = environment_make(plugin, cluster, &borrowed);
        arguments[0] = plugin->command;
        if (plugin->argument_count > 0)
                memcpy(arguments + 1, plugin->arguments, plugin->argument_count * sizeof *arguments);

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
        posix_spawn_file_actions_adddup2(&actions, pipes[0], 1);
        posix_spawn_file_actions_adddup2(&actions, pipes[1], 2);
        posix_spawn_file_actions_addclosefrom_np(&actions, 3);
        posix_spawnattr_init(&attributes);
        sigemptyset(&none);
        sigfillset(&all);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setpgroup(&attributes, 0);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
        int number = posix_spawnp(ret_pid, plugin->command, &actions, &attributes, arguments, environment);
        posix_spawnattr_destroy(&attributes);
        posix_spawn_file_actions_destroy(&actions);
        environment_free(environment, borrowed);
        free(arguments);
        return number;
}

/* ---- reading what it says */
struct talk { int out, complaints, waker; struct buffer said, complaint; };

static void wake(void *arg)
{
        uint64_t one = 1;
        if (write(*(int *)arg, &one, sizeof one) < 0)
                return;                    /* full: awake already */
}

/* False when `fd` has ended. */
static bool drain(int *fd, struct buffer *into)
{
        char bytes[4096];
        ssize_t count = read(*fd, bytes, sizeof bytes);
        if (count < 0)
                return errno == EINTR || errno == EAGAIN;
        size_t room = into->limit - into->used;
        if (count > 0)
                buffer_append(into, bytes, (size_t)count < room ? (size_t)count : room);
        explicit_bzero(bytes, sizeof bytes);
        return count > 0;
}

/* Until both ends are closed by the program (and all that it started). */
static bool talk_run(struct talk *talk, struct cancel *cancel, struct error *err)
{
        int64_t until_ms = clock_get_ms() + RUN_MS;
        while (talk->out >= 0) {
                struct pollfd polls[] = { { talk->out, POLLIN, 0 }, { talk->complaints, POLLIN, 0 }, { talk->waker, POLLIN, 0 } };
                int64_t left_ms = until_ms - clock_get_ms();
                if (cancel_is_triggered(cancel))
                        return refuse(err, ERROR_BUSY, "cancelled");
                if (left_ms <= 0)
                        return refuse(err, UNAUTHORIZED, "it did not end within %d s", RUN_MS / 1000);
                if (poll(polls, COUNT_OF(polls), (int)(left_ms < POLL_MS ? left_ms : POLL_MS)) < 0 && errno != EINTR)
                        return refuse_errno(err, ERROR_INTERNAL, errno, "poll");
                if (polls[1].revents && !drain(&talk->complaints, &talk->complaint)) {
                        close(talk->complaints);
                        talk->complaints = -1;
                }
                if (polls[0].revents && !drain(&talk->out, &talk->said)) {
                        close(talk->out);
                        talk->out = -1;
                }
                if (talk->said.used == talk->said.limit)
                        return refuse(err, UNAUTHORIZED, "it wrote more than %d bytes", OUT_BYTES_MAX);
        }
        return true;
}

static void talk_fini(struct talk *talk)
{
        int *const fds[] = { &talk->out, &talk->complaints, &talk->waker };
        for (size_t i = 0; i < COUNT_OF(fds); i++)
                cleanup_close(fds[i]);
        buffer_fini_secret(&talk->said);
        buffer_fini(&talk->complaint);
}

static bool end_judge(const struct talk *talk, int status, struct error *err)
{
        char shown[COMPLAINT_BYTES];
        const char *said = talk->complaint.used ? string_printable(talk->complaint.data, talk->complaint.used, shown, sizeof shown) : "";
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return true;
        if (WIFSIGNALED(status))
                return refuse(err, UNAUTHORIZED, "it was ended by signal %d%s%s", WTERMSIG(status), *said ? ": " : "", said);
        return refuse(err, UNAUTHORIZED, "it ended with status %d%s%s", WEXITSTATUS(status), *said ? ": " : "", said);
}

static bool child_run(const struct exec_plugin *plugin, const char *cluster, struct cancel *cancel, struct talk *talk, struct error *err)
{
        int out[2], complaints[2], status = 0;
        pid_t pid = -1;
        if (pipe2(out, O_CLOEXEC) < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "pipe");
        talk->out = out[0];
        if (pipe2(complaints, O_CLOEXEC) < 0) {
                close(out[1]);
                return refuse_errno(err, ERROR_INTERNAL, errno, "pipe");
        }
        talk->complaints = complaints[0];
        int number = spawn(plugin, cluster, (int[]){ out[1], complaints[1] }, &pid);
        close(out[1]);
        close(complaints[1]);
        if (number != 0)
                return refuse(err, UNAUTHORIZED, "it cannot be started: %s%s%s", strerror(number), plugin->hint ? "; " : "", plugin->hint ? plugin->hint : "");

        cancel_set_waker(cancel, wake, &talk->waker);
        bool good = talk_run(talk, cancel, err);
        cancel_set_waker(cancel, NULL, NULL);
        if (!good)
                kill(-pid, SIGKILL);
        siginfo_t ended;
        while (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOWAIT) < 0 && errno == EINTR)
                continue;
        kill(-pid, SIGKILL);               /* what it may have left behind; before the reaping, while the group's number is surely ours */
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                continue;
        return good && end_judge(talk, status, err);
}

bool exec_run(const struct exec_plugin *plugin, const char *cluster, struct cancel *cancel, struct exec_credential *ret_credential, struct error *err)
{
        CLEANUP(talk_fini) struct talk talk = { -1, -1, eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), { .limit = OUT_BYTES_MAX }, { .limit = COMPLAINT_BYTES } };
        buffer_reserve(&talk.said, OUT_BYTES_MAX - 1);             /* all at once: growing would leave copies behind */
        if (child_run(plugin, cluster, cancel, &talk, err) && exec_credential_parse(talk.said.data ? talk.said.data : "", talk.said.used, plugin->api_version, ret_credential, err))
                return true;
        char shown[128];
        return refuse_within(err, "exec: %s", string_printable(plugin->command, strlen(plugin->command), shown, sizeof shown));
}
