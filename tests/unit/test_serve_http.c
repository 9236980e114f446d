#include "serve_rig.h"

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

#define HOST "Host: x\r\n"

/* What is sent → status, part of the body, whether the connection lives on. Status 0: closed without a word. */
static const struct { const char *name, *sent; int status; const char *body; bool stays; } rows[] = {
        { "plain", "GET /a HTTP/1.1\r\n" HOST "\r\n", 200, "GET /a", true },
        { "header", "GET /a HTTP/1.1\r\n" HOST "X-Ask:  b c\r\n\r\n", 200, "GET /a b c", true },
        { "query", "GET /a?b=1&c&b=%2F+x&=&d= HTTP/1.1\r\n" HOST "\r\n", 400, "a parameter without name", true },
        { "query twice", "GET /a?b=1&&c&b=%2F+x&d=k=v HTTP/1.1\r\n" HOST "\r\n", 200, "GET /a b=1 c= b=/ x d=k=v", true },
        { "empty query", "GET /a? HTTP/1.1\r\n" HOST "\r\n", 200, "GET /a", true },
        { "query escape cut", "GET /a?b=%2 HTTP/1.1\r\n" HOST "\r\n", 400, "the query", true },
        { "query NUL", "GET /a?b=%00 HTTP/1.1\r\n" HOST "\r\n", 400, "the query", true },
        { "query no UTF-8", "GET /a?b=%ff HTTP/1.1\r\n" HOST "\r\n", 400, "the query", true },
        { "path escape", "GET /%61%C3%A4%2f HTTP/1.1\r\n" HOST "\r\n", 200, "GET /a\xc3\xa4/", true },
        { "path escape bad", "GET /%6 HTTP/1.1\r\n" HOST "\r\n", 400, "the path", true },
        { "path escape bad 2", "GET /%g0 HTTP/1.1\r\n" HOST "\r\n", 400, "the path", true },
        { "path NUL", "GET /%00 HTTP/1.1\r\n" HOST "\r\n", 400, "the path", true },
        { "path overlong UTF-8", "GET /%c0%af HTTP/1.1\r\n" HOST "\r\n", 400, "the path", true },
        { "path raw UTF-8", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400, "visible ASCII", true },
        { "absolute form", "GET http://x/a HTTP/1.1\r\n" HOST "\r\n", 400, "no", true },
        { "authority form", "CONNECT x:1 HTTP/1.1\r\n" HOST "\r\n", 400, "no", true },
        { "asterisk form", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 400, "no", true },
        { "fragment", "GET /a#b HTTP/1.1\r\n" HOST "\r\n", 400, "no", true },
        { "blank in target", "GET /a b HTTP/1.1\r\n" HOST "\r\n", 400, "no", true },
        { "two blanks", "GET  /a HTTP/1.1\r\n" HOST "\r\n", 400, "single blanks", true },
        { "method no token", "G(T /a HTTP/1.1\r\n" HOST "\r\n", 400, "request line", true },
        { "unknown method", "BREW /a HTTP/1.1\r\n" HOST "\r\n", 200, "BREW /a", true },
        { "no host", "GET /a HTTP/1.1\r\n\r\n", 400, "Host", true },
        { "two hosts", "GET /a HTTP/1.1\r\n" HOST HOST "\r\n", 400, "Host", true },
        { "1.0 without host", "GET /a HTTP/1.0\r\n\r\n", 200, "GET /a", false },
        { "1.0 kept", "GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", 200, "GET /a", true },
        { "close", "GET /a HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200, "GET /a", false },
        { "body", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200, "hello", true },
        { "no body", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200, "", true },
        { "chunked", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n", 200, "hello", true },
        { "chunked, bad size", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\nx\r\nhel\r\n0\r\n\r\n", 400, "", false },
        { "both lengths", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "both", false },
        { "two lengths", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400, "more than one", false },
        { "list of lengths", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello", 400, "", false },
        { "signed length", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: +5\r\n\r\nhello", 400, "", false },
        { "length of words", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: five\r\n\r\nhello", 400, "", false },
        { "length beyond 64 bits", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 99999999999999999999999\r\n\r\n", 413, "", false },
        { "two encodings", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "other than chunked", false },
        { "gzip encoding", "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "other than chunked", false },
        { "encoding in 1.0", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "HTTP/1.0", false },
        { "folded header", "GET /a HTTP/1.1\r\n" HOST "X-Ask: b\r\n c\r\n\r\n", 400, "folded", false },
        { "fold that makes a length", "POST /echo HTTP/1.1\r\n" HOST "Content-Leng: 5\r\n th\r\n\r\nhello", 400, "folded", false },
        { "bare LF after a header", "GET /a HTTP/1.1\r\nHost: x\nX-Ask: b\r\n\r\n", 400, "CR LF", false },
        { "bare LF after the line", "GET /a HTTP/1.1\n" HOST "\r\n", 400, "", true },
        { "blank before colon", "GET /a HTTP/1.1\r\n" HOST "X-Ask : b\r\n\r\n", 400, "no token", false },
        { "no colon", "GET /a HTTP/1.1\r\n" HOST "X-Ask\r\n\r\n", 400, "", false },
        { "empty header name", "GET /a HTTP/1.1\r\n" HOST ": b\r\n\r\n", 400, "", false },
        { "colon for an end", "GET /a HTTP/1.1\r\n" HOST ":\r\nX-Ask: b\r\n\r\n", 400, "empty line", false },
        { "bare LF for an end", "GET /a HTTP/1.1\r\nHost: x\n\r\n", 400, "empty line", false },
        { "bare LF for an end 2", "GET /a HTTP/1.1\r\nHost: x\r\n\n", 400, "empty line", false },
        { "control in value", "GET /a HTTP/1.1\r\n" HOST "X-Ask: a\001b\r\n\r\n", 400, "control character", false },
        { "no version", "GET /a\r\n\r\n", 400, "", false },
        { "version 2 in the line", "GET /a HTTP/2.0\r\n\r\n", 505, "", false },
        { "version of letters", "GET /a HTTP/x.y\r\n\r\n", 400, "", false },
        { "preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "HTTP/2", false },
        { "no preface", "PRINT /a HTTP/1.1\r\n" HOST "\r\n", 200, "PRINT /a", true },
        { "204", "GET /empty HTTP/1.1\r\n" HOST "\r\n", 204, "", true },
        { "continue", "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", 100, "", true },
        { "blank lines before", "\r\n\r\nGET /a HTTP/1.1\r\n" HOST "\r\n", 200, "GET /a", true },
};

/* Whoever refuses, the shape is the same. */
static void check_problem(const struct buffer *text)
{
        int status = status_of(text);
        char member[32];
        if (status < 400)
                return;
        snprintf(member, sizeof member, "\"status\": %d,", status);
        assert_non_null(strstr(text->data, "application/problem+json"));
        assert_null(strcasestr(text->data, "text/html"));
        assert_non_null(strstr(body_of(text), member));
}

static void test_table(void **state)
{
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct buffer text = { 0 };
                int fd = client_dial(rig);
                print_message("%s\n", rows[i].name);
                client_say(fd, rows[i].sent);
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), rows[i].status);
                assert_non_null(strstr(body_of(&text), rows[i].body));
                check_problem(&text);
                if (rows[i].status == 100) {
                        client_say(fd, "hello");
                        assert_true(client_hear(fd, &text));
                        assert_string_equal(body_of(&text), "hello");
                }
                if (rows[i].stays) {
                        client_say(fd, "GET /again HTTP/1.1\r\n" HOST "\r\n");
                        assert_true(client_hear(fd, &text));
                        assert_string_equal(body_of(&text), "GET /again");
                } else {
                        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
                }
                close(fd);
                buffer_fini(&text);
        }
}

/* The same table, one byte at a time. */
static void test_bytewise(void **state)
{
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct buffer text = { 0 };
                int fd = client_dial(rig);
                print_message("%s\n", rows[i].name);
                for (const char *byte = rows[i].sent; *byte; byte++)
                        client_say_bytes(fd, byte, 1);
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), rows[i].status);
                check_problem(&text);
                close(fd);
                buffer_fini(&text);
        }
}

/* And again as the second request of a connection, alone and together with the first. */
static void test_later(void **state)
{
        struct rig *rig = *state;
        static const char good[] = "GET /first HTTP/1.1\r\n" HOST "\r\n";
        for (size_t i = 0; i < 2 * COUNT_OF(rows); i++) {
                size_t row = i / 2;
                struct buffer text = { 0 }, sent = { 0 };
                int fd = client_dial(rig);
                print_message("%s\n", rows[row].name);
                buffer_append_text(&sent, good);
                if (i % 2 == 0) {
                        client_say(fd, good);
                        assert_true(client_hear(fd, &text));
                        buffer_clear(&sent);
                }
                buffer_append_text(&sent, rows[row].sent);
                client_say_bytes(fd, sent.data, sent.used);
                if (i % 2 == 1)
                        assert_true(client_hear(fd, &text));
                assert_string_equal(body_of(&text), "GET /first");
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), rows[row].status);
                check_problem(&text);
                if (!rows[row].stays)
                        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
                close(fd);
                buffer_fini(&text);
                buffer_fini(&sent);
        }
}

static void test_nul_bytes(void **state)
{
        static const struct { const char *text; size_t size; } cases[] = {
#define NUL_ROW(text) { text, sizeof text - 1 }
                NUL_ROW("GET /a\0b HTTP/1.1\r\nHost: x\r\n\r\n"), NUL_ROW("GET /a HTTP/1.1\r\nHost: x\0y\r\n\r\n"), NUL_ROW("G\0T /a HTTP/1.1\r\nHost: x\r\n\r\n"),
                NUL_ROW("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\0000\r\n\r\nhello"),
        };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct buffer text = { 0 };
                int fd = client_dial(rig);
                client_say_bytes(fd, cases[i].text, cases[i].size);
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), 400);
                close(fd);
                buffer_fini(&text);
        }
}

static void test_pipelining(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 }, sent = { 0 };
        int fd = client_dial(rig);

        for (int i = 0; i < 200; i++)
                buffer_append_text(&sent, i % 2 ? "GET /a HTTP/1.1\r\nHost: x\r\n\r\n" : "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello");
        client_say_bytes(fd, sent.data, sent.used);
        for (int i = 0; i < 200; i++) {
                assert_true(client_hear(fd, &text));
                assert_string_equal(body_of(&text), i % 2 ? "GET /a" : "hello");
        }
        close(fd);
        buffer_fini(&text);
        buffer_fini(&sent);
}

/* A request that waits holds back those behind it on its connection, and nobody else. */
static void test_wait_in_pipeline(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig), other = client_dial(rig);

        client_say(fd, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\nGET /a HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        client_say(other, "GET /b HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(client_hear(other, &text));
        rig_call(rig, rig_release);
        assert_true(client_hear(fd, &text));
        assert_string_equal(body_of(&text), "released");
        assert_true(client_hear(fd, &text));
        assert_string_equal(body_of(&text), "GET /a");
        close(fd);
        close(other);
        buffer_fini(&text);
}

static void test_head(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);

        client_say(fd, "HEAD /abc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
        assert_int_equal(status_of(&text), 200);
        assert_non_null(strcasestr(text.data, "Content-Length: 9\r\n"));
        assert_string_equal(body_of(&text), "");
        assert_null(strcasestr(text.data, "Date:"));
        close(fd);
        buffer_fini(&text);
}

static void test_body_limits(void **state)
{
        /* bytes of the body, how → status, connection lives on */
        static const struct { size_t size; bool is_chunked; int status; bool stays; } cases[] = {
                { 1 << 20, false, 200, true }, { (1 << 20) + 1, false, 413, true }, { 5 << 20, false, 413, true },
                { 1 << 20, true, 200, true }, { (1 << 20) + 1, true, 413, true }, { 5 << 20, true, 413, true },
        };
        struct rig *rig = *state;
        char *body = calloc(1, 6 << 20);

        memset(body, 'b', 6 << 20);
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct buffer text = { 0 };
                char head[200];
                int fd = client_dial(rig);
                if (cases[i].is_chunked)
                        snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n%zx\r\n", cases[i].size);
                else
                        snprintf(head, sizeof head, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n", cases[i].size);
                client_say(fd, head);
                client_say_bytes(fd, body, cases[i].size);
                if (cases[i].is_chunked)
                        client_say(fd, "\r\n0\r\n\r\n");
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), cases[i].status);
                if (cases[i].status == 200)
                        assert_int_equal(text.used - (size_t)(body_of(&text) - text.data), cases[i].size);
                client_say(fd, "GET /again HTTP/1.1\r\n" HOST "\r\n");
                assert_int_equal(client_hear(fd, &text), cases[i].stays);
                close(fd);
                buffer_fini(&text);
        }
        free(body);
}

/* One who asks first, and one who announces more than anybody would read, are told at once. */
static void test_body_refused_early(void **state)
{
        static const char *const heads[] = {
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\nExpect: 100-continue\r\n\r\n",
                "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n",
        };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(heads); i++) {
                struct buffer text = { 0 };
                int fd = client_dial(rig);
                client_say(fd, heads[i]);
                assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
                assert_int_equal(status_of(&text), 413);
                assert_non_null(strstr(text.data, "problem+json"));
                close(fd);
                buffer_fini(&text);
        }
}

static void test_header_limits(void **state)
{
        /* bytes of target and of one header → status */
        static const struct { size_t target, header; int status; } cases[] = {
                { 2, 7000, 200 }, { 2, 8300, 431 }, { 2, 9000, 431 }, { 2, 40000, 431 }, { 6000, 10, 200 }, { 6200, 10, 414 }, { 20000, 10, 414 },
        };
        struct rig *rig = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct buffer sent = { 0 }, text = { 0 };
                int fd = client_dial(rig);
                print_message("target %zu header %zu\n", cases[i].target, cases[i].header);
                buffer_append_text(&sent, "GET /");
                for (size_t j = 1; j < cases[i].target; j++)
                        buffer_append(&sent, "t", 1);
                buffer_append_text(&sent, " HTTP/1.1\r\nHost: x\r\nX-Large: ");
                for (size_t j = 0; j < cases[i].header; j++)
                        buffer_append(&sent, "h", 1);
                buffer_append_text(&sent, "\r\n\r\n");
                client_say_bytes(fd, sent.data, sent.used);
                assert_true(client_hear(fd, &text));
                assert_int_equal(status_of(&text), cases[i].status);
                close(fd);
                buffer_fini(&sent);
                buffer_fini(&text);
        }
}

static void test_file(void **state)
{
        static const struct { uint64_t offset, count; } cases[] = { { 0, 1 << 20 }, { 0, 1 }, { 12345, 54321 }, { (1 << 20) - 1, 1 }, { 5, 0 } };
        struct rig *rig = *state;
        char *all = malloc(1 << 20);

        assert_int_equal(pread(rig->file_fd, all, 1 << 20, 0), 1 << 20);
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct buffer text = { 0 };
                char head[200];
                int fd = client_dial(rig);
                unsigned long long offset = cases[i].offset, count = cases[i].count;
                snprintf(head, sizeof head, "GET /file?offset=%llu&count=%llu HTTP/1.1\r\nHost: x\r\n\r\n", offset, count);
                for (int again = 0; again < 2; again++) {
                        client_say(fd, head);
                        assert_true(client_hear(fd, &text));
                        assert_int_equal(status_of(&text), 206);
                        assert_int_equal(text.used - (size_t)(body_of(&text) - text.data), cases[i].count);
                        assert_memory_equal(body_of(&text), all + cases[i].offset, cases[i].count);
                }
                snprintf(head, sizeof head, "HEAD /file?offset=%llu&count=%llu HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", offset, count);
                client_say(fd, head);
                buffer_clear(&text);
                assert_true(client_hear_end(fd, &text, RIG_PATIENCE_MS));
                assert_string_equal(body_of(&text), "");
                close(fd);
                buffer_fini(&text);
        }
        free(all);
}

static void test_large_answer(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        int fd = client_dial(rig);

        client_say(fd, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_true(client_hear(fd, &text));
        assert_int_equal(text.used - (size_t)(body_of(&text) - text.data), 8 << 20);
        close(fd);
        buffer_fini(&text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_table, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_bytewise, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_later, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_nul_bytes, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_pipelining, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_wait_in_pipeline, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_head, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_body_limits, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_body_refused_early, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_header_limits, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_file, open_rig, close_rig),
                cmocka_unit_test_setup_teardown(test_large_answer, open_rig, close_rig),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
