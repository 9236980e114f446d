/* What the tests of serve share: a real serve on a loop in a thread of its own, and raw sockets in the test's thread. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <wasmcached/loop.h>
#include <wasmcached/serve.h>

enum { RIG_WAITING_MAX = 512, RIG_PATIENCE_MS = 5000 };

struct rig {
        char folder[64], path[96];
        pthread_t thread;
        sem_t ready, called;
        struct loop *loop;
        struct serve *serve;
        struct serve_limits limits;
        struct error err;
        int file_fd, fds_before;
        struct serve_request *waiting[RIG_WAITING_MAX];
        size_t waiting_count;
        struct serve_stream *streams[RIG_WAITING_MAX];
        size_t stream_count;
        atomic_bool is_stopping;
        atomic_uint requests, gone, streams_gone, waits;
};

/* Of rigs that are made from now on. */
static void *(*rig_arrived)(void *arg, void *tag, struct serve_process *process, struct serve_group *ret_group);

static inline int rig_count_fds(void)
{
        DIR *folder = opendir("/proc/self/fd");
        int count = 0;

        while (readdir(folder))
                count++;
        closedir(folder);
        return count;
}

static inline void rig_reply(struct serve_request *request, int status, const char *text, size_t text_bytes)
{
        struct serve_header header = { "X-Test", "yes" };
        struct serve_answer answer = { .status = status, .content_type = "text/plain", .headers = &header, .header_count = 1, .body = text, .body_bytes = text_bytes };

        serve_answer(request, &answer);
}

static inline void rig_reply_info(struct serve_request *request)
{
        struct buffer text = { 0 };
        size_t size;
        const char *name, *header = serve_request_get_header(request, "x-ask");

        buffer_append_text(&text, serve_request_get_method(request));
        buffer_append_text(&text, " ");
        buffer_append_text(&text, serve_request_get_path(request));
        for (size_t i = 0; (name = serve_request_get_query_name(request, i)); i++) {
                size_t nth = 0;
                for (size_t j = 0; j < i; j++)
                        nth += strcmp(serve_request_get_query_name(request, j), name) == 0;
                buffer_append_text(&text, " ");
                buffer_append_text(&text, name);
                buffer_append_text(&text, "=");
                buffer_append_text(&text, serve_request_get_query(request, name, nth));
        }
        buffer_append_text(&text, header ? " " : "");
        buffer_append_text(&text, header ? header : "");
        serve_request_get_body(request, &size);
        if (serve_request_get_peer(request)->is_unix && serve_request_get_peer(request)->uid != getuid())
                buffer_append_text(&text, " WRONG PEER");
        rig_reply(request, 200, text.data, text.used);
        buffer_fini(&text);
}

static inline void rig_closed(void *arg)
{
        loop_stop(((struct rig *)arg)->loop);
}

static inline void rig_request(void *arg, struct serve_request *request)
{
        struct rig *rig = arg;
        const char *path = serve_request_get_path(request);
        size_t size;
        const char *body = serve_request_get_body(request, &size);

        rig->requests++;
        if (strcmp(path, "/wait") == 0 && rig->waiting_count < RIG_WAITING_MAX) {
                serve_request_set_data(request, rig);
                rig->waiting[rig->waiting_count++] = request;
                rig->waits++;
        } else if (strcmp(path, "/stop") == 0) {
                serve_request_set_data(request, rig);
                rig->waiting[rig->waiting_count++] = request;
                rig->is_stopping = true;
                serve_close(rig->serve, 5000, rig_closed, rig);
        } else if (strcmp(path, "/stream") == 0) {
                struct serve_answer answer = { .status = 200, .content_type = "application/x-ndjson" };
                rig->streams[rig->stream_count++] = serve_answer_stream(request, &answer, rig);
                rig->waits++;
        } else if (strcmp(path, "/file") == 0) {
                struct serve_answer answer = { .status = 206, .content_type = "application/wasm" };
                uint64_t offset = strtoull(serve_request_get_query(request, "offset", 0), NULL, 10), count = strtoull(serve_request_get_query(request, "count", 0), NULL, 10);
                serve_answer_file(request, &answer, dup(rig->file_fd), offset, count);
        } else if (strcmp(path, "/large") == 0) {
                char *text = calloc(1, 8 << 20);
                memset(text, 'x', 8 << 20);
                rig_reply(request, 200, text, 8 << 20);
                free(text);
        } else if (strcmp(path, "/echo") == 0) {
                rig_reply(request, 200, body, size);
        } else if (strcmp(path, "/plain") == 0) {
                struct serve_answer answer = { .status = 200, .content_type = serve_request_get_query(request, "type", 0), .body = body, .body_bytes = size };
                serve_answer(request, &answer);
        } else if (strcmp(path, "/type") == 0) {
                const char *type = serve_request_get_content_type(request);
                rig_reply(request, 200, type ? type : "none", type ? strlen(type) : 4);
        } else if (strcmp(path, "/whoami") == 0) {
                const char *identity = serve_request_get_identity(request);
                rig_reply(request, 200, identity ? identity : "", identity ? strlen(identity) : 0);
        } else if (strcmp(path, "/group") == 0) {
                bool is_moved = serve_request_set_group(request, &(struct serve_group){ { (uint8_t)body[0] } });
                rig_reply(request, 200, is_moved ? "moved" : "full", is_moved ? 5 : 4);
        } else if (strcmp(path, "/empty") == 0) {
                rig_reply(request, 204, NULL, 0);
        } else {
                rig_reply_info(request);
        }
}

static inline void rig_gone(void *arg, struct serve_request *request)
{
        struct rig *rig = arg;

        assert(serve_request_get_data(request) == rig);
        for (size_t i = 0; i < rig->waiting_count; i++)
                if (rig->waiting[i] == request)
                        rig->waiting[i--] = rig->waiting[--rig->waiting_count];
        rig->gone++;
}

static inline void rig_stream_gone(void *arg, struct serve_stream *stream)
{
        struct rig *rig = arg;

        assert(serve_stream_get_data(stream) == rig);
        for (size_t i = 0; i < rig->stream_count; i++)
                if (rig->streams[i] == stream)
                        rig->streams[i--] = rig->streams[--rig->stream_count];
        rig->streams_gone++;
}

static inline const char *rig_problem(void *arg, int status, const char *detail)
{
        static _Thread_local char text[512];
        (void)arg;

        snprintf(text, sizeof text, "{\"status\": %d, \"detail\": \"%s\"}", status, detail);
        return text;
}

static inline void rig_stop(void *arg)
{
        struct rig *rig = arg;

        serve_close(rig->serve, 200, rig_closed, rig);
}

static inline void *rig_main(void *arg)
{
        struct rig *rig = arg;
        struct serve_handler handler = { .arg = rig, .arrived = rig_arrived, .request = rig_request, .gone = rig_gone, .stream_gone = rig_stream_gone,
                                         .problem = rig_problem };

        if (loop_new(2, &rig->loop, &rig->err) && serve_new(rig->loop, &rig->limits, &handler, &rig->serve, &rig->err) &&
            serve_listen_unix(rig->serve, rig->path, 0600, rig, &rig->err)) {
                sem_post(&rig->ready);
                loop_run(rig->loop);
                serve_free(&rig->serve);
                loop_free(&rig->loop);
        } else {
                sem_post(&rig->ready);
        }
        return NULL;
}

static inline struct rig *rig_new(const struct serve_limits *limits)
{
        struct rig *rig = calloc(1, sizeof *rig);
        const char *folder = getenv("TMPDIR");

        snprintf(rig->folder, sizeof rig->folder, "%s/serve-XXXXXX", folder && strlen(folder) < 40 ? folder : "/tmp");
        assert_non_null(mkdtemp(rig->folder));
        snprintf(rig->path, sizeof rig->path, "%s/run/s", rig->folder);
        struct loop *first = NULL;                /* libuv keeps a few descriptors once any loop was made */
        assert_true(loop_new(1, &first, &rig->err));
        loop_free(&first);
        rig->fds_before = rig_count_fds();
        rig->limits = *limits;
        rig->file_fd = memfd_create("file", MFD_CLOEXEC);
        static unsigned content[1 << 18];
        for (unsigned i = 0; i < COUNT_OF(content); i++)
                content[i] = i * 2654435761u;
        assert_int_equal(write(rig->file_fd, content, sizeof content), sizeof content);
        sem_init(&rig->ready, 0, 0);
        sem_init(&rig->called, 0, 0);
        assert_int_equal(pthread_create(&rig->thread, NULL, rig_main, rig), 0);
        sem_wait(&rig->ready);
        assert_string_equal(rig->err.text, "");
        return rig;
}

static inline void rig_end(struct rig *rig)
{
        if (!rig->is_stopping)
                loop_post(rig->loop, rig_stop, rig);
        pthread_join(rig->thread, NULL);
        close(rig->file_fd);
}

/* After it has ended: no descriptor, no socket file and no waiting request is left. */
static inline void rig_check(struct rig *rig)
{
        struct error err = { 0 };

        assert_int_equal(access(rig->path, F_OK), -1);
        assert_int_equal(rig->waiting_count, 0);
        assert_int_equal(rig->stream_count, 0);
        assert_int_equal(rig_count_fds(), rig->fds_before);
        fs_remove_tree(AT_FDCWD, rig->folder, &err);
        sem_destroy(&rig->ready);
        sem_destroy(&rig->called);
        free(rig);
}

static inline void rig_free(struct rig *rig)
{
        rig_end(rig);
        rig_check(rig);
}

/* Runs `fn` on the loop and waits for it. */
struct rig_call { struct rig *rig; void (*fn)(struct rig *rig); };

static inline void rig_run_call(void *arg)
{
        struct rig_call *call = arg;

        call->fn(call->rig);
        sem_post(&call->rig->called);
}

static inline void rig_call(struct rig *rig, void (*fn)(struct rig *rig))
{
        struct rig_call call = { rig, fn };

        loop_post(rig->loop, rig_run_call, &call);
        sem_wait(&rig->called);
}

static inline void rig_release(struct rig *rig)
{
        while (rig->waiting_count > 0)
                rig_reply(rig->waiting[--rig->waiting_count], 200, "released", 8);
}

static inline bool rig_reaches(atomic_uint *counter, unsigned value, int patience_ms)
{
        for (int64_t end_ms = clock_get_ms() + patience_ms; *counter < value;) {
                if (clock_get_ms() > end_ms)
                        return false;
                poll(NULL, 0, 1);
        }
        return *counter == value;
}

/* ---- clients */

static inline int client_dial(const struct rig *rig)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        memcpy(address.sun_path, rig->path, strlen(rig->path));
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        return fd;
}

static inline void client_say_bytes(int fd, const void *bytes, size_t size)
{
        for (size_t sent = 0; sent < size;) {
                ssize_t count = send(fd, (const char *)bytes + sent, size - sent, MSG_NOSIGNAL);
                if (count < 0)
                        return;                   /* refused early: what was answered counts */
                sent += (size_t)count;
        }
}

static inline void client_say(int fd, const char *text)
{
        client_say_bytes(fd, text, strlen(text));
}

/* Until the end (true) or until `patience_ms` pass without a byte. */
static inline bool client_hear_end(int fd, struct buffer *ret_text, int patience_ms)
{
        char bytes[65536];

        for (;;) {
                struct pollfd item = { .fd = fd, .events = POLLIN };
                if (poll(&item, 1, patience_ms) <= 0)
                        return false;
                ssize_t count = recv(fd, bytes, sizeof bytes, 0);
                if (count <= 0)
                        return true;
                buffer_append(ret_text, bytes, (size_t)count);
        }
}

/* One answer with Content-Length (its body behind the blank line); false when it does not come. */
static inline bool client_hear(int fd, struct buffer *ret_text)
{
        size_t wanted = 0;

        buffer_clear(ret_text);
        while (wanted == 0 || ret_text->used < wanted) {
                struct pollfd item = { .fd = fd, .events = POLLIN };
                char byte[4096];
                if (poll(&item, 1, RIG_PATIENCE_MS) <= 0)
                        return false;
                ssize_t count = recv(fd, byte, wanted ? (wanted - ret_text->used < sizeof byte ? wanted - ret_text->used : sizeof byte) : 1, 0);
                if (count <= 0)
                        return false;
                buffer_append(ret_text, byte, (size_t)count);
                const char *end = wanted ? NULL : strstr(ret_text->data, "\r\n\r\n");
                const char *length = end ? strcasestr(ret_text->data, "\r\nContent-Length:") : NULL;
                if (end)
                        wanted = ret_text->used + (length ? strtoul(length + 17, NULL, 10) : 0);
        }
        return true;
}

static inline int status_of(const struct buffer *text)
{
        return text->used > 12 && strncmp(text->data, "HTTP/1.", 7) == 0 ? atoi(text->data + 9) : 0;
}

static inline const char *body_of(const struct buffer *text)
{
        const char *end = text->data ? strstr(text->data, "\r\n\r\n") : NULL;

        return end ? end + 4 : "";
}
