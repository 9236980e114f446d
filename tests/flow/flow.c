/*
 * How it goes: the registry is python3 tests/fake/registry.py on a free port; requests are made on the loop, which runs until they are answered.
 * How it fails: a request that is not answered within 20 s, or a registry that does not start, aborts the test program.
 * How it ends: flow_fini() ends the registry, removes the folder and compares the number of open descriptors.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "flow.h"

enum { ANSWER_MS = 20000 };

const struct module_caller flow_tenant_a = { .namespace = "team-a", .module_dir = "/m/{namespace}", .holder = 11 };
const struct module_caller flow_tenant_b = { .namespace = "team-b", .module_dir = "/m/{namespace}", .holder = 22 };
const struct module_caller flow_operator = { .is_trusted = true, .is_admin = true, .module_dir = "/m/{namespace}", .holder = 33 };

size_t flow_fds(void)
{
        size_t count = 0;
        DIR *folder = opendir("/proc/self/fd");
        while (folder && readdir(folder))
                count++;
        closedir(folder);
        return count;
}

static void registry_start(struct flow *flow)
{
        int in[2], out[2];
        const char *source = getenv("WASMCACHED_SOURCE");
        CLEANUP(cleanup_free) char *script = string_format("%s/tests/fake/registry.py", source ? source : ".");
        assert_int_equal(pipe2(in, O_CLOEXEC), 0);
        assert_int_equal(pipe2(out, O_CLOEXEC), 0);
        flow->registry = fork();
        if (flow->registry == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                dup2(in[0], 0);
                dup2(out[1], 1);
                execlp("python3", "python3", script, "--until-eof", (char *)NULL);
                _exit(127);
        }
        close(in[0]);
        close(out[1]);
        flow->registry_pipe = in[1];
        char line[128] = "";
        for (size_t used = 0; used + 1 < sizeof line && !strchr(line, '\n');) {
                ssize_t got = read(out[0], line + used, sizeof line - 1 - used);
                if (got <= 0)
                        break;
                used += (size_t)got;
        }
        close(out[0]);
        assert_int_equal(sscanf(line, "ready %d %d", &flow->port, &flow->other), 2);
}

void flow_init(struct flow *flow)
{
        const char *tmp = getenv("TMPDIR");
        struct error err;
        struct loop *loop = flow->loop;
        *flow = (struct flow){ .loop = loop };
        if (!flow->loop)
                assert_true(loop_new(8, &flow->loop, &err));
        flow->fds = flow_fds();
        snprintf(flow->root, sizeof flow->root, "%s/wasmcached-flow-XXXXXX", tmp ? tmp : "/tmp");
        assert_non_null(mkdtemp(flow->root));
        snprintf(flow->secrets, sizeof flow->secrets, "%s/secrets", flow->root);
        snprintf(flow->files, sizeof flow->files, "%s/files", flow->root);
        mkdir(flow->secrets, 0700);
        mkdir(flow->files, 0755);
        registry_start(flow);
        flow->fetch_options = (struct fetch_options){ .connect_timeout_ms = 3000, .progress_timeout_ms = 2000, .retries = 0 };
        flow->options = (struct modules_options){
                .max_size_bytes = 1 << 30, .high_watermark = 90, .low_watermark = 80, .lease_ms = 3600000, .slots = 6, .slots_per_host = 4, .pull_timeout_ms = 15000,
                .max_layer_bytes = 64 << 20, .max_module_bytes = 64 << 20, .secrets_dir = flow->secrets, .docker_config = "", .waiters_max = 4000,
        };
}

void flow_open(struct flow *flow)
{
        struct error err = { 0 };
        struct store_report report;
        struct fetch_client *fetch = NULL;
        struct store_options options = { .root = string_format("%s/store", flow->root), .settles_later = true };
        if (!store_open(&options, &flow->store, &report, &err) || !fetch_client_new(&flow->fetch_options, &fetch, &err))
                fail_msg("%s", err.text);
        free((void *)(uintptr_t)options.root);
        if (!modules_new(flow->loop, flow->store, fetch, registry_new(fetch, &(struct registry_options){ 0 }), &flow->options, &flow->modules, &err))
                fail_msg("%s", err.text);
        fetch_client_unref(&fetch);
}

static void stop(void *arg)
{
        loop_stop(arg);
}

void flow_close(struct flow *flow)
{
        modules_close(flow->modules, stop, flow->loop);
        loop_run(flow->loop);
        modules_free(&flow->modules);
        store_close(&flow->store);
}

void flow_fini(struct flow *flow)
{
        struct error err;
        if (flow->modules)
                flow_close(flow);
        close(flow->registry_pipe);
        kill(flow->registry, SIGKILL);         /* it keeps nothing */
        waitpid(flow->registry, NULL, 0);
        fs_remove_tree(AT_FDCWD, flow->root, &err);
        assert_int_equal(flow_fds(), flow->fds);
}

struct module_want *flow_want(const char *json)
{
        struct value *value = NULL;
        struct module_want *want = NULL;
        struct error err = { 0 };
        if (!json_parse(json, strlen(json), ERROR_BAD_REQUEST, &value, &err) || !module_want_decode(value, &want, &err))
                fail_msg("%s: %s", json, err.text);
        value_free(&value);
        return want;
}

static void answered(void *arg, const struct module_object *object, const struct error *err)
{
        struct flow_answer *answer = arg;
        assert_false(answer->is_answered);
        answer->is_answered = true;
        answer->is_ok = object != NULL;
        if (err)
                answer->err = *err;
        if (!object)
                return;
        snprintf(answer->path, sizeof answer->path, "%s", object->path);
        snprintf(answer->sha256, sizeof answer->sha256, "%s", object->sha256);
        snprintf(answer->digest, sizeof answer->digest, "%s", object->digest ? object->digest : "");
        snprintf(answer->lease, sizeof answer->lease, "%s", object->lease_id ? object->lease_id : "");
        answer->size_bytes = object->size_bytes;
        answer->source = object->source;
        answer->is_stale = object->is_stale;
        answer->lease_expires_s = object->lease_expires_s;
}

struct module_waiter *flow_start(struct flow *flow, const char *json, const struct module_caller *caller, struct flow_answer *answer)
{
        CLEANUP(module_want_unref) struct module_want *want = flow_want(json);
        *answer = (struct flow_answer){ 0 };
        return module_get(flow->modules, want, caller, answered, answer);
}

void flow_run_ms(struct flow *flow, int64_t ms)
{
        struct loop_timer *timer = loop_timer_start(flow->loop, ms, 0, stop, flow->loop);
        loop_run(flow->loop);
        loop_timer_cancel(&timer);
}

void flow_wait(struct flow *flow, struct flow_answer *answers, size_t count)
{
        int64_t until_ms = clock_get_ms() + ANSWER_MS;
        for (size_t i = 0; i < count; i++)
                while (!answers[i].is_answered) {
                        assert_true(clock_get_ms() < until_ms);
                        flow_run_ms(flow, 5);
                }
}

struct flow_answer flow_get(struct flow *flow, const struct module_caller *caller, const char *format, ...)
{
        char json[4096];
        struct flow_answer answer;
        va_list list;
        va_start(list, format);
        vsnprintf(json, sizeof json, format, list);
        va_end(list);
        flow_start(flow, json, caller, &answer);
        flow_wait(flow, &answer, 1);
        return answer;
}

struct operated { bool is_done; char *json; struct error *err; };

static void operated(void *arg, const char *json, const struct error *err)
{
        struct operated *operated = arg;
        operated->is_done = true;
        operated->json = string_copy(json);
        if (err)
                *operated->err = *err;
}

char *flow_operate(struct flow *flow, flow_call call, void *arg, struct error *ret_err)
{
        struct operated result = { .err = ret_err };
        int64_t until_ms = clock_get_ms() + ANSWER_MS;
        call(flow, arg, operated, &result);
        while (!result.is_done) {
                assert_true(clock_get_ms() < until_ms);
                flow_run_ms(flow, 5);
        }
        return result.json;
}

static bool http_is_whole(const struct buffer *text)
{
        const char *end = text->data ? strstr(text->data, "\r\n\r\n") : NULL, *length = text->data ? strcasestr(text->data, "\r\nContent-Length:") : NULL;
        return end && length && text->used >= (size_t)(end + 4 - text->data) + strtoul(length + 17, NULL, 10);
}

char *flow_http(struct flow *flow, const char *method, const char *path)
{
        CLEANUP(cleanup_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)flow->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        CLEANUP(cleanup_free) char *request = string_format("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", method, path);
        assert_true(fs_write_all(fd, request, strlen(request)));

        struct buffer text = { 0 };
        char piece[4096];
        for (ssize_t got; !http_is_whole(&text) && (got = read(fd, piece, sizeof piece)) > 0;)
                buffer_append(&text, piece, (size_t)got);
        char *whole = buffer_take(&text), *body = strstr(whole, "\r\n\r\n");
        char *copy = string_copy(body ? body + 4 : "");
        free(whole);
        return copy;
}

size_t flow_count(struct flow *flow, const char *method, const char *part)
{
        CLEANUP(cleanup_free) char *text = flow_http(flow, "GET", "/_log");
        struct value *value = NULL;
        struct error err;
        size_t count = 0;
        assert_true(json_parse(text, strlen(text), ERROR_INTERNAL, &value, &err));
        const struct value *list = value_get_kind(value) == VALUE_LIST ? value : value_get_item(value, 0);
        for (size_t i = 0; i < value_get_count(list); i++) {
                const struct value *item = value_get_item(list, i);
                const char *path = value_get_text(value_get_member(item, "path"));
                count += string_equal(value_get_text(value_get_member(item, "method")), method) && path && strstr(path, part);
        }
        value_free(&value);
        return count;
}

void flow_forget(struct flow *flow)
{
        free(flow_http(flow, "GET", "/_log?clear=1"));
}

void flow_secret(struct flow *flow, const char *namespace, const char *name, const char *config)
{
        struct error err;
        CLEANUP(cleanup_free) char *folder = string_format("%s/%s/%s", flow->secrets, namespace, name);
        CLEANUP(cleanup_free) char *file = string_format("%s/.dockerconfigjson", folder);
        if (!config) {
                assert_true(fs_remove_tree(AT_FDCWD, folder, &err));
                return;
        }
        assert_true(fs_make_folders(folder, 0700, &err));
        FILE *out = fopen(file, "we");
        assert_non_null(out);
        fputs(config, out);
        fclose(out);
}
