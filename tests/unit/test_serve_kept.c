/* What a connection keeps from one request to the next: its last answer, to be filled anew, and that room to write is no news as long as everything has been sent; and where the
   loop waits for the next one. */
#include "serve_rig.h"
#include "../../agent/serve/room.h"

enum { PLAIN_BYTES = 4000, STALL_MS = 100, REQUESTS_MAX = 2000 };

static int open_rig(void **state)
{
        *state = rig_new(&serve_limits_default);
        return 0;
}

static int close_rig(void **state)
{
        rig_free(*state);
        return 0;
}

/* Asked one after the other on one connection; `type` is what the answer has as Content-Type, "" = none. */
static const struct { const char *method, *path, *body, *type; int status; } rows[] = {
        { "POST", "/plain?type=a/b", "hello", "a/b", 200 },     { "POST", "/plain?type=a/b", "world", "a/b", 200 },       { "POST", "/plain?type=a/b", "world", "a/b", 200 },
        { "POST", "/plain?type=a/c", "again", "a/c", 200 },     { "POST", "/plain?type=a/b", "longer than before", "a/b", 200 }, { "POST", "/plain?type=a/b", "short", "a/b", 200 },
        { "POST", "/plain", "untyped", "", 200 },               { "POST", "/plain?type=a/b", "seven b", "a/b", 200 },     { "POST", "/plain?type=a/b", "", "a/b", 200 },
        { "POST", "/plain?type=a/b", "seven c", "a/b", 200 },   { "POST", "/echo", "seven d", "text/plain", 200 },        { "POST", "/plain?type=a/b", "seven e", "a/b", 200 },
        { "GET", "/empty", "", "text/plain", 204 },             { "POST", "/plain?type=a/b", "seven f", "a/b", 200 },
        { "POST", "/plain?type=application/x-0123456789-0123456789-0123456789", "seven g", "application/x-0123456789-0123456789-0123456789", 200 },
        { "POST", "/plain?type=application/x-0123456789-0123456789-0123456789", "seven h", "application/x-0123456789-0123456789-0123456789", 200 },
        { "POST", "/plain?type=a/b", "seven i", "a/b", 200 },   { "GET", "/plain?%ff", "", "application/problem+json", 400 }, { "POST", "/plain?type=a/b", "seven j", "a/b", 200 },
};

static void check_answer(const struct buffer *text, size_t i)
{
        char line[128];
        print_message("%zu %s %s\n", i, rows[i].path, rows[i].body);
        assert_int_equal(status_of(text), rows[i].status);
        if (rows[i].status == 200)
                assert_string_equal(body_of(text), rows[i].body);
        snprintf(line, sizeof line, "\r\nContent-Type: %s\r\n", rows[i].type);
        if (*rows[i].type)
                assert_non_null(strstr(text->data, line));
        else
                assert_null(strstr(text->data, "Content-Type"));
        assert_int_equal(strstr(text->data, "X-Test") != NULL, strcmp(rows[i].type, "text/plain") == 0);
}

static void test_sequence(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *request = string_format("%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s", rows[i].method, rows[i].path, strlen(rows[i].body), rows[i].body);
                client_say(fd, request);
                assert_true(client_hear(fd, &text));
                check_answer(&text, i);
        }
        close(fd);
        buffer_fini(&text);
}

/* Two connections, in turn: neither fills what the other's answer stands in. */
static void test_two(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fds[2] = { client_dial(rig), client_dial(rig) };
        for (int i = 0; i < 20; i++) {
                char request[160];
                snprintf(request, sizeof request, "POST /plain?type=a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n%c%03d", "ab"[i % 2], i);
                client_say(fds[i % 2], request);
        }
        for (int i = 0; i < 20; i++) {
                char body[16];
                snprintf(body, sizeof body, "%c%03d", "ab"[i % 2], i);
                assert_true(client_hear(fds[i % 2], &text));
                assert_string_equal(body_of(&text), body);
        }
        close(fds[0]);
        close(fds[1]);
        buffer_fini(&text);
}

static bool seen_quiet;

static void look(struct rig *rig)
{
        seen_quiet = rig->serve->connections && rig->serve->connections->is_quiet;
}

static bool becomes_loud(struct rig *rig)
{
        for (int64_t end_ms = clock_get_ms() + RIG_PATIENCE_MS; clock_get_ms() < end_ms; poll(NULL, 0, 1)) {
                rig_call(rig, look);
                if (!seen_quiet)
                        return true;
        }
        return false;
}

static size_t request_make(char *ret_request, unsigned number)
{
        return (size_t)sprintf(ret_request, "POST /plain?type=a/b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%0*u", PLAIN_BYTES, PLAIN_BYTES, number);
}

static void exchange(int fd, unsigned number)
{
        char request[PLAIN_BYTES + 128];
        struct buffer text = { 0 };
        client_say_bytes(fd, request, request_make(request, number));
        assert_true(client_hear(fd, &text));
        assert_int_equal(strtoul(body_of(&text), NULL, 10), number);
        buffer_fini(&text);
}

/* The first request after a wait may be answered before libmicrohttpd has the descriptor in epoll again; then it is the next one's turn. */
static void exchange_until_quiet(struct rig *rig, int fd)
{
        seen_quiet = false;
        for (unsigned i = 0; i < 50 && !seen_quiet; i++) {
                exchange(fd, i);
                rig_call(rig, look);
        }
        assert_true(seen_quiet);
}

/* Nothing was taken for a while; is it that an answer waits for room, or is the machine slow? */
static bool is_stalled(struct rig *rig)
{
        rig_call(rig, look);
        return !seen_quiet;
}

/* Asks without listening, on the last connection made, until nothing more is taken; the last request may be cut: its rest is returned. */
static unsigned ask_until_stalled(struct rig *rig, int fd, char *ret_rest)
{
        char request[PLAIN_BYTES + 128];
        int64_t end_ms = clock_get_ms() + 4 * RIG_PATIENCE_MS;
        for (unsigned number = 0; number < REQUESTS_MAX; number++) {
                size_t size = request_make(request, number);
                for (size_t sent = 0; sent < size;) {
                        struct pollfd item = { .fd = fd, .events = POLLOUT };
                        ssize_t count = poll(&item, 1, STALL_MS) > 0 ? send(fd, request + sent, size - sent, MSG_NOSIGNAL | MSG_DONTWAIT) : 0;
                        if (count <= 0 && !is_stalled(rig) && clock_get_ms() < end_ms)
                                continue;
                        if (count <= 0) {
                                memcpy(ret_rest, request + sent, size - sent);
                                ret_rest[size - sent] = '\0';
                                return number;
                        }
                        sent += (size_t)count;
                }
        }
        return REQUESTS_MAX;
}

/* A peer that does not read fills the socket: the answer that does not fit is sent as soon as there is room, though nobody looks out for room on other days. */
static void test_stall(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        char rest[PLAIN_BYTES + 128];
        int fd = client_dial(rig);
        exchange_until_quiet(rig, fd);
        for (int round = 0; round < 3; round++) {
                unsigned count = ask_until_stalled(rig, fd, rest);
                assert_true(count > 0 && count < REQUESTS_MAX);
                for (unsigned number = 0; number < count; number++) {
                        assert_true(client_hear(fd, &text));
                        assert_int_equal(strtoul(body_of(&text), NULL, 10), number);
                }
                client_say(fd, rest);
                assert_true(client_hear(fd, &text));
                assert_int_equal(strtoul(body_of(&text), NULL, 10), count);
                exchange_until_quiet(rig, fd);
        }
        close(fd);
        buffer_fini(&text);
}

/* The peer that stalled goes away, with and without others beside it. */
static void test_stalled_and_gone(void **state)
{
        struct rig *rig = *state;
        char rest[PLAIN_BYTES + 128];
        int other = client_dial(rig), fd = client_dial(rig);
        for (unsigned i = 0; i < 3; i++) {
                exchange(fd, i);
                exchange(other, i);
        }
        ask_until_stalled(rig, fd, rest);
        exchange(other, 4);
        close(fd);
        exchange(other, 5);
        /* Deaf: its answer breaks, and it is freed within the same run of libmicrohttpd. */
        for (unsigned i = 0; i < 20; i++) {
                char request[PLAIN_BYTES + 128];
                fd = client_dial(rig);
                exchange(fd, 1);
                exchange(fd, 2);
                shutdown(fd, SHUT_RD);
                client_say_bytes(fd, request, request_make(request, i));
                exchange(other, i);
                close(fd);
        }
        close(other);
}

static void test_waits_and_streams(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        exchange_until_quiet(rig, fd);
        client_say(fd, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        assert_true(becomes_loud(rig));
        rig_call(rig, rig_release);
        assert_true(client_hear(fd, &text));
        assert_string_equal(body_of(&text), "released");
        exchange_until_quiet(rig, fd);
        client_say(fd, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(client_hear(fd, &text));
        assert_int_equal(text.used - (size_t)(body_of(&text) - text.data), 8 << 20);
        exchange(fd, 4);
        close(fd);
        buffer_fini(&text);
}

static void test_continue(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        exchange_until_quiet(rig, fd);
        for (int i = 0; i < 3; i++) {
                client_say(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), 100);
                client_say(fd, "hello");
                assert_true(client_hear(fd, &text));
                assert_string_equal(body_of(&text), "hello");
        }
        close(fd);
        buffer_fini(&text);
}

/* With a libmicrohttpd that we do not know, everything goes on as it did, only slower. */
static int open_unknown(void **state)
{
        fault_arm("serve.version", 1);
        *state = rig_new(&serve_limits_default);
        fault_arm("serve.version", 0);
        return 0;
}

static void test_unknown(void **state)
{
        struct rig *rig = *state;
        int fd = client_dial(rig);
        for (unsigned i = 0; i < 5; i++)
                exchange(fd, i);
        rig_call(rig, look);
        assert_false(rig->serve->knows_mhd);
        assert_false(seen_quiet);
        close(fd);
        test_sequence(state);
        test_two(state);
}

static atomic_uint fired;

static void fire(void *arg)
{
        (void)arg;
        fired++;
}

static struct loop_timer *timer;
static struct loop_watch *watch;
static int pipe_fds[2];

static void start_timer(struct rig *rig)
{
        timer = loop_timer_start(rig->loop, 20, 20, fire, NULL);
}

static void end_timer(struct rig *rig)
{
        (void)rig;
        loop_timer_cancel(&timer);
}

static void hear(void *arg)
{
        char byte;
        (void)arg;
        assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
        fired++;
}

static void start_watch(struct rig *rig)
{
        watch = loop_watch_start(rig->loop, pipe_fds[0], hear, NULL);
}

static void end_watch(struct rig *rig)
{
        (void)rig;
        loop_watch_cancel(&watch);
}

static bool fires(unsigned count)
{
        for (int64_t end_ms = clock_get_ms() + RIG_PATIENCE_MS; fired < count && clock_get_ms() < end_ms;)
                poll(NULL, 0, 1);
        return fired >= count;
}

/* The loop waits in libmicrohttpd's epoll: timers, descriptors that are watched from now on, and posts end that wait, with and without connections. */
static void test_wait(void **state)
{
        struct rig *rig = *state;
        int fd = -1;
        assert_int_equal(pipe(pipe_fds), 0);
        for (int round = 0; round < 2; round++) {
                if (round == 1) {
                        fd = client_dial(rig);
                        exchange(fd, 1);
                        exchange(fd, 2);
                }
                fired = 0;
                rig_call(rig, start_watch);
                poll(NULL, 0, 50);
                for (unsigned i = 1; i <= 3; i++) {
                        assert_int_equal(write(pipe_fds[1], "x", 1), 1);
                        assert_true(fires(i));
                }
                rig_call(rig, end_watch);
                fired = 0;
                rig_call(rig, start_timer);
                assert_true(fires(3));
                rig_call(rig, end_timer);
        }
        close(fd);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
}

/* Nothing to do is nothing done: no spinning, neither alone nor with a connection that waits for its next request. */
static void test_idle(void **state)
{
        struct rig *rig = *state;
        clockid_t clock;
        struct timespec before, after;
        int fd = client_dial(rig);
        exchange(fd, 1);
        exchange(fd, 2);
        assert_int_equal(pthread_getcpuclockid(rig->thread, &clock), 0);
        clock_gettime(clock, &before);
        poll(NULL, 0, 500);
        clock_gettime(clock, &after);
        assert_true((after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000 < 100);
        close(fd);
}

static void test_type(void **state)
{
        static const struct { const char *headers, *type; } types[] = {
                { "", "none" }, { "Content-Type: a/b\r\n", "a/b" }, { "cOntent-tYpe:a/b; c=d\r\n", "a/b; c=d" }, { "X-Content-Type: a/b\r\n", "none" },
                { "Content-Type: a/b\r\nContent-Type: c/d\r\n", "a/b" },
        };
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);
        for (size_t i = 0; i < COUNT_OF(types); i++) {
                CLEANUP(cleanup_free) char *request = string_format("GET /type HTTP/1.1\r\nHost: x\r\n%s\r\n", types[i].headers);
                client_say(fd, request);
                assert_true(client_hear(fd, &text));
                assert_string_equal(body_of(&text), types[i].type);
        }
        close(fd);
        buffer_fini(&text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_sequence, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_two, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_stall, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_stalled_and_gone, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_waits_and_streams, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_continue, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_type, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_unknown, open_unknown, close_rig),
                cmocka_unit_test_setup_teardown(test_wait, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_wait, open_unknown, close_rig),
                cmocka_unit_test_setup_teardown(test_idle, open_rig, close_rig),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
