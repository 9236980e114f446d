/* fetch_fake: starts tests/fake/registry.py (or another script there) beside a unit test and talks to it; the server ends with the test, however that ends. */
#pragma once
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <wasmcached/fetch.h>

struct fake { pid_t pid; int in; unsigned port, other, tls; };

/* From the top folder, or from wherever the test program lies (build/<variant>/tests/unit). */
static const char *fake_script(const char *name)
{
        static char path[4096];
        snprintf(path, sizeof path, "tests/fake/%s", name);
        if (access(path, R_OK) == 0)
                return path;
        ssize_t length = readlink("/proc/self/exe", path, sizeof path - 128);
        assert_true(length > 0);
        path[length] = '\0';
        *strrchr(path, '/') = '\0';
        strcat(path, "/../../../../tests/fake/");
        strcat(path, name);
        return path;
}

/* Up to five further arguments, ended by NULL. */
static struct fake fake_start_script(const char *name, const char *const arguments[6])
{
        int in[2], out[2];
        assert_int_equal(pipe(in), 0);
        assert_int_equal(pipe(out), 0);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                dup2(in[0], 0);
                dup2(out[1], 1);
                for (int fd = 3; fd < 256; fd++)
                        close(fd);
                const char *argv[10] = { "python3", fake_script(name), "--until-eof" };
                for (int i = 0; arguments && arguments[i]; i++)
                        argv[3 + i] = arguments[i];
                execvp("python3", (char *const *)(uintptr_t)argv);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        struct fake fake = { .pid = pid, .in = in[1] };
        FILE *stream = fdopen(out[0], "r");
        char line[128] = "";
        assert_non_null(fgets(line, sizeof line, stream));
        assert_true(sscanf(line, "ready %u %u %u", &fake.port, &fake.other, &fake.tls) >= 2);
        fclose(stream);
        return fake;
}

__attribute__((unused)) static struct fake fake_start(const char *const arguments[6])
{
        return fake_start_script("registry.py", arguments);
}

static void fake_stop(struct fake *fake)
{
        close(fake->in);
        kill(fake->pid, SIGTERM);
        waitpid(fake->pid, NULL, 0);
}

/* Body of an answer in `ret_body`; for steering and for simple cases. */
static bool fake_get(struct fetch_client *client, enum fetch_method method, const char *url, struct buffer *ret_body, struct error *err)
{
        struct sink_buffer sink;
        struct fetch_response *response = NULL;
        struct fetch_request request = { .method = method, .url = url, .size_limit = 64 << 20, .size_expected = -1, .redirects_max = FETCH_REDIRECTS_MAX, .body = "" };
        sink_buffer_init(&sink, ret_body, "answer");
        bool good = fetch_run(client, &request, &sink.sink, &response, err);
        fetch_response_free(&response);
        return good;
}

/* A steering call that must work; the text is the caller's. */
__attribute__((unused)) static char *fake_steer(struct fetch_client *client, const struct fake *fake, enum fetch_method method, const char *path)
{
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u%s", fake->port, path);
        struct error err = { 0 };
        if (!fake_get(client, method, url, &body, &err))
                fail_msg("%s", err.text);
        return buffer_take(&body);
}
