#include <sys/resource.h>
#include "serve_rig.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

static struct serve_limits limits_of_test(void)
{
        struct serve_limits limits = serve_limits_default;

        limits.idle_timeout_ms = 300;
        limits.write_timeout_ms = 1000;
        return limits;
}

static int open_rig(void **state)
{
        *state = rig_new(&serve_limits_default);
        return 0;
}

static int open_hasty_rig(void **state)
{
        struct serve_limits limits = limits_of_test();

        *state = rig_new(&limits);
        return 0;
}

static int open_narrow_rig(void **state)
{
        struct serve_limits limits = serve_limits_default;

        limits.connections_per_peer = 3;
        limits.waiting_per_peer = 2;
        *state = rig_new(&limits);
        return 0;
}

static int open_small_rig(void **state)
{
        struct serve_limits limits = serve_limits_default;

        limits.connections_max = 2;
        *state = rig_new(&limits);
        return 0;
}

static int close_rig(void **state)
{
        rig_free(*state);
        return 0;
}

/* ---- those who go away */

static void test_vanish_while_waiting(void **state)
{
        struct rig *rig = *state;
        int fds[20];

        for (unsigned i = 0; i < COUNT_OF(fds); i++) {
                fds[i] = client_dial(rig);
                client_say(fds[i], GET("/wait"));
        }
        assert_true(rig_reaches(&rig->waits, COUNT_OF(fds), RIG_PATIENCE_MS));
        for (unsigned i = 0; i < COUNT_OF(fds); i++)
                close(fds[i]);
        assert_true(rig_reaches(&rig->gone, COUNT_OF(fds), 1000));
}

/* Also with unread requests behind the one that waits, and by shutdown(2) of both ways. */
static void test_vanish_with_more_to_say(void **state)
{
        struct rig *rig = *state;
        int fd = client_dial(rig), other = client_dial(rig);

        client_say(fd, GET("/wait") GET("/a") GET("/a"));
        client_say(other, GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 2, RIG_PATIENCE_MS));
        close(fd);
        shutdown(other, SHUT_RDWR);
        assert_true(rig_reaches(&rig->gone, 2, 1000));
        close(other);
        assert_int_equal(rig->requests, 2);
}

static void test_half_close_while_waiting(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);

        client_say(fd, GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        shutdown(fd, SHUT_WR);
        assert_false(rig_reaches(&rig->gone, 1, 200));
        rig_call(rig, rig_release);
        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        assert_string_equal(body_of(&text), "released");
        close(fd);
        buffer_fini(&text);
}

/* Half-closed before the request was even read; then closed. */
static void test_half_close_then_close(void **state)
{
        struct rig *rig = *state;
        int fd = client_dial(rig);

        client_say(fd, GET("/wait"));
        shutdown(fd, SHUT_WR);
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        assert_false(rig_reaches(&rig->gone, 1, 100));
        close(fd);
        assert_true(rig_reaches(&rig->gone, 1, 1000));
}

/* All that was asked before the end is answered, then the end comes at once, not after the idle timeout. */
static void test_half_close_answered(void **state)
{
        static const struct { const char *sent; unsigned answers; } cases[] = {
                { GET("/a"), 1 }, { GET("/a") GET("/a") GET("/a"), 3 }, { "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 1 },
                { GET("/a") "GET /b", 1 }, { "GET /b HTTP/1.1\r\n", 0 }, { "", 0 },
        };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++)
                for (int pause_ms = 0; pause_ms < 40; pause_ms += 20) {
                        struct buffer text = { 0 };
                        unsigned count = 0;
                        int fd = client_dial(rig);
                        client_say(fd, cases[i].sent);
                        poll(NULL, 0, pause_ms);
                        shutdown(fd, SHUT_WR);
                        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
                        for (const char *at = text.data; at && (at = strstr(at, "HTTP/1.1 200")); at++)
                                count++;
                        assert_int_equal(count, cases[i].answers);
                        close(fd);
                        buffer_fini(&text);
                }
}

static void test_vanish_in_between(void **state)
{
        static const char *const starts[] = {
                "", "G", "GET /a HT", "GET /a HTTP/1.1\r\nHost: x\r\n", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhel", GET("/large"), GET("/a"), "PRI * HT",
        };
        struct rig *rig = *state;

        for (int round = 0; round < 20; round++)
                for (size_t i = 0; i < COUNT_OF(starts); i++) {
                        int fd = client_dial(rig);
                        client_say(fd, starts[i]);
                        close(fd);
                }
}                                                 /* close_rig finds what leaked */

/* ---- those who are slow */

static void test_slow_requests(void **state)
{
        static const struct { const char *sent; int status; } cases[] = {
                { "", 0 }, { "G", 408 }, { "GET /a HTTP/1.1\r\n", 408 }, { "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhel", 408 }, { "PRI * HT", 0 },
        };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct buffer text = { 0 };
                int fd = client_dial(rig);
                client_say(fd, cases[i].sent);
                assert_true(client_hear_end(fd, &text, 2000));
                assert_int_equal(status_of(&text), cases[i].status);
                close(fd);
                buffer_fini(&text);
        }
}

/* A byte now and then does not help. */
static void test_slow_loris(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        int64_t start_ms = clock_get_ms();
        bool ended = false;

        client_say(fd, "GET /a HTTP/1.1\r\nHost: x\r\nX-Slow: ");
        while (!ended && clock_get_ms() - start_ms < 3000) {
                client_say(fd, "s");
                ended = client_hear_end(fd, &text, 20);
        }
        assert_true(ended);
        assert_int_equal(status_of(&text), 408);
        close(fd);
        buffer_fini(&text);
}

static void test_idle_kept_connection(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);

        client_say(fd, GET("/a"));
        assert_true(client_hear(fd, &text));
        buffer_clear(&text);
        assert_true(client_hear_end(fd, &text, 2000));
        assert_int_equal(text.used, 0);
        close(fd);
        buffer_fini(&text);
}

/* A request that waits has no time limit of ours. */
static void test_waiting_is_not_idle(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);

        client_say(fd, GET("/wait"));
        assert_false(client_hear_end(fd, &text, 900));
        rig_call(rig, rig_release);
        assert_true(client_hear(fd, &text));
        assert_string_equal(body_of(&text), "released");
        close(fd);
        buffer_fini(&text);
}

static unsigned open_connections;

static void count_connections(struct rig *rig)
{
        struct serve_stats stats;

        serve_get_stats(rig->serve, &stats);
        open_connections = stats.open;
}

static void test_clients_that_do_not_read(void **state)
{
        static const char *const requests[] = { GET("/large"), GET("/file?offset=0&count=1048576"), GET("/file?offset=0&count=1048576") GET("/file?offset=0&count=1048576") };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(requests); i++) {
                int fd = client_dial(rig);
                client_say(fd, requests[i]);
                open_connections = 1;
                for (int turn = 0; turn < 500 && open_connections > 0; turn++) {
                        poll(NULL, 0, 10);
                        rig_call(rig, count_connections);
                }
                assert_int_equal(open_connections, 0);
                close(fd);
        }
}

/* ---- those who are many */

static void test_connections_per_peer(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fds[4];

        for (size_t i = 0; i < COUNT_OF(fds); i++)
                fds[i] = client_dial(rig);
        for (size_t i = 0; i < 3; i++) {
                client_say(fds[i], GET("/a"));
                assert_true(client_hear(fds[i], &text));
        }
        buffer_clear(&text);
        assert_true(client_hear_end(fds[3], &text, RIG_PATIENCE_MS));
        assert_int_equal(status_of(&text), 503);
        assert_non_null(strstr(text.data, "Retry-After"));
        close(fds[0]);
        for (int turn = 0; turn < 500; turn++) {  /* the place is free once the end was noticed */
                close(fds[3]);
                fds[3] = client_dial(rig);
                client_say(fds[3], GET("/a"));
                if (client_hear(fds[3], &text) && status_of(&text) == 200)
                        break;
        }
        assert_int_equal(status_of(&text), 200);
        for (size_t i = 1; i < COUNT_OF(fds); i++)
                close(fds[i]);
        buffer_fini(&text);
}

static void test_waiting_per_peer(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fds[3];

        for (size_t i = 0; i < COUNT_OF(fds); i++)
                fds[i] = client_dial(rig);
        client_say(fds[0], GET("/wait"));
        client_say(fds[1], GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 2, RIG_PATIENCE_MS));
        client_say(fds[2], GET("/a"));
        assert_true(client_hear(fds[2], &text));
        assert_int_equal(status_of(&text), 429);
        rig_call(rig, rig_release);
        client_say(fds[2], GET("/a"));
        assert_true(client_hear(fds[2], &text));
        assert_int_equal(status_of(&text), 200);
        for (size_t i = 0; i < COUNT_OF(fds); i++)
                close(fds[i]);
        buffer_fini(&text);
}

/* At connections_max the others wait in the backlog, and are served when there is room. */
static void test_connections_max(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fds[5];

        for (size_t i = 0; i < COUNT_OF(fds); i++) {
                fds[i] = client_dial(rig);
                client_say(fds[i], GET("/a"));
        }
        assert_true(client_hear(fds[0], &text));
        assert_true(client_hear(fds[1], &text));
        assert_int_equal(rig->requests, 2);
        for (size_t i = 0; i < 3; i++) {
                close(fds[i]);
                assert_true(client_hear(fds[i + 2], &text));
                assert_int_equal(status_of(&text), 200);
        }
        close(fds[3]);
        close(fds[4]);
        buffer_fini(&text);
}

/* A process of its own for the clients: the limit of descriptors is for the server alone. */
static int storm_main(const char *path, int result_fd)
{
        enum { CLIENTS = 200 };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        static int fds[CLIENTS];
        unsigned char results[2] = { 0 };

        memcpy(address.sun_path, path, strlen(path));
        for (int i = 0; i < CLIENTS; i++) {
                fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(fds[i], (struct sockaddr *)&address, sizeof address) < 0)
                        return 1;
                client_say(fds[i], GET("/a"));
        }
        for (int i = 0; i < CLIENTS; i++) {
                char text[13] = "";
                struct pollfd item = { .fd = fds[i], .events = POLLIN };
                if (poll(&item, 1, RIG_PATIENCE_MS) == 1 && recv(fds[i], text, 12, MSG_WAITALL) == 12)
                        results[strcmp(text, "HTTP/1.1 503") == 0] += strcmp(text, "HTTP/1.1 200") == 0 || strcmp(text, "HTTP/1.1 503") == 0;
        }
        return write(result_fd, results, sizeof results) != sizeof results;
}

static void test_descriptors_run_out(void **state)
{
        struct rig *rig;
        struct rlimit before, few;
        unsigned char results[2];
        int ends[2];
        (void)state;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        few = (struct rlimit){ 64, before.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        rig = rig_new(&serve_limits_default);
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        char self[200], number[16];
        snprintf(number, sizeof number, "%d", ends[1]);
        assert_true(readlink("/proc/self/exe", self, sizeof self - 1) > 0);
        pid_t child = vfork();
        if (child == 0) {
                setrlimit(RLIMIT_NOFILE, &before);
                fcntl(ends[1], F_SETFD, 0);
                execl("/proc/self/exe", "test_serve_peers", "storm", rig->path, number, (char *)NULL);
                _exit(2);
        }
        close(ends[1]);
        assert_int_equal(read(ends[0], results, sizeof results), sizeof results);
        print_message("%d answered, %d told to come again\n", results[0], results[1]);
        assert_int_equal(results[0] + results[1], 200);
        assert_true(results[0] >= 16 && results[1] >= 100);
        close(ends[0]);

        struct buffer text = { 0 };
        for (int turn = 0; turn < 500 && status_of(&text) != 200; turn++) {
                int fd = client_dial(rig);
                client_say(fd, GET("/a"));
                client_hear(fd, &text);
                close(fd);
        }
        assert_int_equal(status_of(&text), 200);
        buffer_fini(&text);
        rig_free(rig);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

/* ---- the end */

static void test_close_tells_all(void **state)
{
        struct rig *rig = rig_new(&serve_limits_default);
        struct buffer text = { 0 };
        int waits = client_dial(rig), streams = client_dial(rig), idle = client_dial(rig), half = client_dial(rig);
        (void)state;

        client_say(waits, GET("/wait"));
        client_say(streams, GET("/stream"));
        client_say(half, "GET /a HT");
        assert_true(rig_reaches(&rig->waits, 2, RIG_PATIENCE_MS));
        rig_end(rig);
        assert_true(client_hear_end(waits, &text, RIG_PATIENCE_MS));
        assert_int_equal(status_of(&text), 503);
        buffer_clear(&text);
        assert_true(client_hear_end(streams, &text, RIG_PATIENCE_MS));
        assert_string_equal(body_of(&text), "0\r\n\r\n");
        assert_true(client_hear_end(idle, &text, RIG_PATIENCE_MS));
        assert_true(client_hear_end(half, &text, RIG_PATIENCE_MS));
        close(waits), close(streams), close(idle), close(half);
        buffer_fini(&text);
        rig_check(rig);
}

static void test_close_from_a_handler(void **state)
{
        struct rig *rig = rig_new(&serve_limits_default);
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        (void)state;

        client_say(fd, GET("/stop"));
        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        assert_int_equal(status_of(&text), 503);
        assert_int_equal(rig->gone, 1);
        close(fd);
        buffer_fini(&text);
        rig_free(rig);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_vanish_while_waiting, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_vanish_with_more_to_say, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_half_close_while_waiting, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_half_close_then_close, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_half_close_answered, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_vanish_in_between, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_slow_requests, open_hasty_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_slow_loris, open_hasty_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_idle_kept_connection, open_hasty_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_waiting_is_not_idle, open_hasty_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_clients_that_do_not_read, open_hasty_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_connections_per_peer, open_narrow_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_waiting_per_peer, open_narrow_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_connections_max, open_small_rig, close_rig),
                cmocka_unit_test(test_descriptors_run_out),
                cmocka_unit_test(test_close_tells_all),
                cmocka_unit_test(test_close_from_a_handler),
        };

        if (argc == 4 && strcmp(argv[1], "storm") == 0)
                return storm_main(argv[2], atoi(argv[3]));
        return cmocka_run_group_tests(tests, NULL, NULL);
}
