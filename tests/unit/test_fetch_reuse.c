/* A kept connection on which something else comes than the answer: the request goes once more, over a new one. The server is a thread that answers the n-th request of a
   connection by a script. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wasmcached/fetch.h>

static const char good[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/* `later`: sent instead of an answer to the second request of a connection, which is then closed; NULL = every answer is good. `first`: the same for the first request. */
struct server { int fd; unsigned port; pthread_t thread; _Atomic(const char *) first, later; atomic_bool is_reset; atomic_uint connections, requests; };
static struct server server;
static struct fetch_client *client;

/* One request with its body, which is as long as it says. */
static bool request_read(int fd)
{
        char text[8192];
        size_t used = 0;
        for (;;) {
                ssize_t got = recv(fd, text + used, sizeof text - 1 - used, 0);
                if (got <= 0)
                        return false;
                used += (size_t)got;
                text[used] = '\0';
                const char *end = strstr(text, "\r\n\r\n"), *length = strcasestr(text, "\r\nContent-Length:");
                if (end && used >= (size_t)(end + 4 - text) + (length ? strtoul(length + 17, NULL, 10) : 0))
                        return true;
        }
}

static void connection_serve(int fd)
{
        for (unsigned n = 0; request_read(fd); n++) {
                const char *script = n == 0 ? server.first : n == 1 ? server.later : NULL, *text = script ? script : good;
                server.requests++;
                if (send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 || script)
                        break;
        }
        struct linger now = { 1, 0 };
        if (server.is_reset)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

static void *server_run(void *arg)
{
        (void)arg;
        for (int fd; (fd = accept4(server.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0; close(fd)) {
                server.connections++;
                connection_serve(fd);
        }
        return NULL;
}

static int begin(void **state)
{
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t length = sizeof address;
        struct error err;
        (void)state;
        server = (struct server){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
        assert_int_equal(bind(server.fd, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(server.fd, 16), 0);
        assert_int_equal(getsockname(server.fd, (struct sockaddr *)&address, &length), 0);
        server.port = ntohs(address.sin_port);
        assert_true(fetch_client_new(&(struct fetch_options){ .retries = 0, .progress_timeout_ms = 10000 }, &client, &err));
        assert_int_equal(pthread_create(&server.thread, NULL, server_run, NULL), 0);
        return 0;
}

static int end(void **state)
{
        (void)state;
        fetch_client_unref(&client);
        shutdown(server.fd, SHUT_RDWR);
        pthread_join(server.thread, NULL);
        close(server.fd);
        return 0;
}

static bool get(enum fetch_method method, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/x", server.port);
        struct sink_buffer sink;
        struct fetch_request request = { .method = method, .url = url, .size_limit = 1000, .size_expected = -1, .body = "a=b" };
        sink_buffer_init(&sink, &body, "answer");
        *err = (struct error){ 0 };
        if (!fetch_run(client, &request, &sink.sink, &response, err))
                return false;
        assert_int_equal(fetch_response_get_status(response), 200);
        assert_string_equal(body.data, "ok");
        return true;
}

/* What comes instead of the second answer; is the connection reset after it? */
static const struct { const char *text; bool is_reset; } laters[] = {
        { "left over of what came before\r\n", false },       { "x", false },                     { "\r\n\r\n<html>\r\n", false },
        { "HTTP/1.1 2", false },                               { "HTTP/1.1 200 OK\r\nContent-Le", false },
        { "", false },                                         { "", true },                       { "HTTP/1.1 2", true },
        { "garbage garbage garbage", true },
};

static void test_later(void **state)
{
        (void)state;
        struct error err;
        for (size_t i = 0; i < COUNT_OF(laters); i++) {
                print_message("\"%s\" %d\n", laters[i].text, laters[i].is_reset);
                server.is_reset = laters[i].is_reset;
                server.later = NULL;
                assert_true(get(FETCH_GET, &err));
                server.later = laters[i].text;
                unsigned connections = server.connections, requests = server.requests;
                if (!get(FETCH_GET, &err))
                        fail_msg("%s", err.text);
                assert_int_equal(server.connections - connections, 1);
                assert_int_equal(server.requests - requests, 2);
                end(NULL);
                begin(NULL);
        }
}

/* On a connection of its own it is what the server has to say: an error, and no second try where none is configured. */
static void test_first(void **state)
{
        (void)state;
        struct error err;
        for (size_t i = 0; i < COUNT_OF(laters); i++) {
                server.is_reset = laters[i].is_reset;
                server.first = laters[i].text;
                unsigned requests = server.requests;
                assert_false(get(FETCH_GET, &err));
                assert_int_equal(server.requests - requests, 1);
        }
}

/* The new connection says the same: one more try, not many. */
static void test_bounded(void **state)
{
        (void)state;
        struct error err;
        assert_true(get(FETCH_GET, &err));
        server.first = server.later = "garbage\r\n";
        unsigned requests = server.requests;
        assert_false(get(FETCH_GET, &err));
        assert_int_equal(server.requests - requests, 2);
}

/* What may have been done is not done again. */
static void test_post(void **state)
{
        (void)state;
        struct error err;
        assert_true(get(FETCH_GET, &err));
        server.later = "garbage\r\n";
        unsigned requests = server.requests;
        assert_false(get(FETCH_POST, &err));
        assert_int_equal(server.requests - requests, 1);
}

/* More than was announced, at once behind the answer: it is nobody's answer. */
static void test_excess(void **state)
{
        (void)state;
        struct error err;
        server.first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        for (int i = 0; i < 5; i++)
                if (!get(FETCH_GET, &err))
                        fail_msg("%s", err.text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_later, begin, end), cmocka_unit_test_setup_teardown(test_first, begin, end),
                cmocka_unit_test_setup_teardown(test_bounded, begin, end), cmocka_unit_test_setup_teardown(test_post, begin, end),
                cmocka_unit_test_setup_teardown(test_excess, begin, end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
