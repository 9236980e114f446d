#include "serve_rig.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"

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

static void write_hello(struct rig *rig)
{
        for (size_t i = 0; i < rig->stream_count; i++)
                serve_stream_write(rig->streams[i], "hello\n", 6);
}

static void end_all(struct rig *rig)
{
        while (rig->stream_count > 0)
                serve_stream_close(&rig->streams[--rig->stream_count]);
}

static void write_then_end(struct rig *rig)
{
        write_hello(rig);
        write_hello(rig);
        end_all(rig);
}

static void write_100k(struct rig *rig)
{
        static char bytes[100000];

        memset(bytes, 's', sizeof bytes);
        for (size_t i = 0; i < rig->stream_count; i++)
                serve_stream_write(rig->streams[i], bytes, sizeof bytes);
}

/* More than fits, and the owner goes on using what it was not yet told of. */
static void write_3m(struct rig *rig)
{
        for (int i = 0; i < 30; i++)
                write_100k(rig);
        if (rig->stream_count > 0)
                assert(serve_stream_get_data(rig->streams[0]) == rig);
}

static void write_3m_then_end(struct rig *rig)
{
        for (int i = 0; i < 30; i++)
                write_100k(rig);
        end_all(rig);
}

static int dial_stream(struct rig *rig, const char *request)
{
        int fd = client_dial(rig);
        unsigned before = rig->waits;

        client_say(fd, request);
        assert_true(rig_reaches(&rig->waits, before + 1, RIG_PATIENCE_MS));
        return fd;
}

static void test_chunks(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = dial_stream(rig, GET("/stream") GET("/after"));

        assert_false(client_hear_end(fd, &text, 100));            /* headers come before any event */
        assert_int_equal(status_of(&text), 200);
        assert_non_null(strcasestr(text.data, "Transfer-Encoding: chunked"));
        buffer_clear(&text);
        rig_call(rig, write_hello);
        assert_false(client_hear_end(fd, &text, 100));
        assert_string_equal(text.data, "6\r\nhello\n\r\n");
        buffer_clear(&text);
        rig_call(rig, write_then_end);
        assert_false(client_hear_end(fd, &text, 100));
        assert_int_equal(strncmp(text.data, "C\r\nhello\nhello\n\r\n0\r\n\r\nHTTP/1.1 200", 34), 0);
        assert_non_null(strstr(text.data, "GET /after"));         /* kept alive */
        assert_int_equal(rig->streams_gone, 0);
        close(fd);
        buffer_fini(&text);
}

static void test_old_client(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = dial_stream(rig, "GET /stream HTTP/1.0\r\n\r\n");

        rig_call(rig, write_then_end);
        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        assert_string_equal(body_of(&text), "hello\nhello\n");
        close(fd);
        buffer_fini(&text);
}

static void test_head(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = dial_stream(rig, "HEAD /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        assert_string_equal(body_of(&text), "");
        assert_true(rig_reaches(&rig->streams_gone, 1, RIG_PATIENCE_MS));
        close(fd);
        buffer_fini(&text);
}

static void test_vanish(void **state)
{
        struct rig *rig = *state;
        int quiet = dial_stream(rig, GET("/stream")), busy = dial_stream(rig, GET("/stream"));

        close(quiet);
        assert_true(rig_reaches(&rig->streams_gone, 1, 1000));
        rig_call(rig, write_3m);
        close(busy);
        assert_true(rig_reaches(&rig->streams_gone, 2, 1000));
}

/* One who listens only is served on. */
static void test_half_close(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = dial_stream(rig, GET("/stream"));

        shutdown(fd, SHUT_WR);
        assert_false(rig_reaches(&rig->streams_gone, 1, 200));
        rig_call(rig, write_hello);
        assert_false(client_hear_end(fd, &text, 100));
        assert_non_null(strstr(text.data, "6\r\nhello\n\r\n"));
        rig_call(rig, end_all);
        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        close(fd);
        buffer_fini(&text);
}

static void test_overflow(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int slow = dial_stream(rig, GET("/stream"));

        rig_call(rig, write_3m);
        assert_true(rig_reaches(&rig->streams_gone, 1, 1000));
        assert_true(client_hear_end(slow, &text, RIG_PATIENCE_MS));
        close(slow);
        buffer_fini(&text);
}

/* The owner lets go before it is told: it is not told any more. */
static void test_overflow_and_end(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int slow = dial_stream(rig, GET("/stream"));

        rig_call(rig, write_3m_then_end);
        assert_true(client_hear_end(slow, &text, RIG_PATIENCE_MS));
        assert_int_equal(rig->streams_gone, 0);
        close(slow);
        buffer_fini(&text);
}

/* Ten times the limit goes through to one who reads. */
static void test_much(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = dial_stream(rig, GET("/stream"));

        for (int i = 0; i < 100; i++) {
                size_t before = text.used;
                rig_call(rig, write_100k);
                while (text.used < before + 100000) {
                        char bytes[65536];
                        ssize_t count = recv(fd, bytes, sizeof bytes, 0);
                        assert_true(count > 0);
                        buffer_append(&text, bytes, (size_t)count);
                }
        }
        rig_call(rig, end_all);
        assert_int_equal(rig->streams_gone, 0);
        close(fd);
        buffer_fini(&text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_chunks, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_old_client, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_head, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_vanish, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_half_close, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_overflow, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_overflow_and_end, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_much, open_rig, close_rig),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
