/*
 * How it goes: the input is what a client says on a fresh connection, in one piece or in two (the first byte says where to cut, 0xff = nowhere). libmicrohttpd parses, our
 *              checks run,
 *              the handler reads all there is to read, and waits, streams or answers by the path.
 * How it fails: a crash, a sanitizer's finding, or a serve that does not let go of the connection afterwards.
 * How it ends: the client closes; the loop runs until serve has no connection left. Serve and loop live for the whole run.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <wasmcached/loop.h>
#include <wasmcached/serve.h>

enum { TURNS_MAX = 2000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct loop *loop;
static struct serve *serve;
static struct sockaddr_un address = { .sun_family = AF_UNIX };
static volatile size_t sum;                       /* so that reading is not optimised away */

static void read_all(const struct serve_request *request)
{
        const char *name;
        size_t body_bytes;

        sum += strlen(serve_request_get_method(request)) + strlen(serve_request_get_path(request));
        for (size_t i = 0; (name = serve_request_get_query_name(request, i)); i++)
                sum += strlen(name) + strlen(serve_request_get_query(request, name, 0));
        const char *body = serve_request_get_body(request, &body_bytes);
        for (size_t i = 0; i <= body_bytes; i++)
                sum += (unsigned char)body[i];
        if (body[body_bytes] != '\0')
                abort();
        name = serve_request_get_header(request, "x-ask");
        sum += name ? strlen(name) : 0;
}

static void on_request(void *arg, struct serve_request *request)
{
        struct serve_answer answer = { .status = 200, .content_type = "text/plain", .body = "hello", .body_bytes = 5 };
        const char *path = serve_request_get_path(request);
        (void)arg;

        read_all(request);
        if (strcmp(path, "/wait") == 0)
                return;
        if (strcmp(path, "/stream") == 0) {
                struct serve_stream *stream = serve_answer_stream(request, &answer, NULL);
                serve_stream_write(stream, "hello", 5);
                serve_stream_close(&stream);
                return;
        }
        serve_answer(request, &answer);
}

static void on_gone(void *arg, struct serve_request *request)
{
        (void)arg;
        read_all(request);
}

static void on_stream_gone(void *arg, struct serve_stream *stream)
{
        (void)arg;
        (void)stream;
}

static const char *on_problem(void *arg, int status, const char *detail)
{
        (void)arg;
        sum += (size_t)status + strlen(detail);
        return "{}";
}

static char folder[] = "/tmp/fuzz-http-XXXXXX";

static void clean_up(void)
{
        struct error err = { 0 };

        fs_remove_tree(AT_FDCWD, folder, &err);
}

static void start(void)
{
        struct serve_handler handler = { .request = on_request, .gone = on_gone, .stream_gone = on_stream_gone, .problem = on_problem };
        struct error err = { 0 };

        if (!mkdtemp(folder))
                abort();
        atexit(clean_up);
        snprintf(address.sun_path, sizeof address.sun_path, "%s/s", folder);
        if (!loop_new(1, &loop, &err) || !serve_new(loop, &serve_limits_default, &handler, &serve, &err) || !serve_listen_unix(serve, address.sun_path, 0600, NULL, &err))
                abort();
}

struct client { const uint8_t *data; size_t size, cut; int fd; unsigned turn; uint64_t accepted_before; };

/* One turn of the loop after the other: say the first part, the second, close, wait until all is let go. */
static void step(void *arg)
{
        struct client *client = arg;
        struct serve_stats stats;

        if (client->turn == 0)
                (void)!send(client->fd, client->data, client->cut, MSG_NOSIGNAL);
        if (client->turn == 8)
                (void)!send(client->fd, client->data + client->cut, client->size - client->cut, MSG_NOSIGNAL);
        if (client->turn == 16)
                cleanup_close(&client->fd);
        serve_get_stats(serve, &stats);
        if (client->turn > 16 && stats.accepted > client->accepted_before && stats.open == 0) {
                if (stats.waiting > 0 || stats.streams > 0)
                        abort();
                loop_stop(loop);
                return;
        }
        if (client->turn++ > TURNS_MAX)
                abort();
        loop_post(loop, step, client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct serve_stats stats;

        if (!loop)
                start();
        if (size < 2 || size > 65536)
                return 0;
        serve_get_stats(serve, &stats);
        struct client client = { .data = data + 1, .size = size - 1, .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), .accepted_before = stats.accepted };
        client.cut = data[0] == 0xff ? client.size : data[0] % client.size;
        if (connect(client.fd, (struct sockaddr *)&address, sizeof address) < 0)
                abort();
        loop_post(loop, step, &client);
        loop_run(loop);
        return 0;
}
