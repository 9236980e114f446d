/* Who connected: held, looked at, and still the same; and what is counted together. */
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include "serve_rig.h"
#include "../../agent/serve/room.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: x\r\n\r\n"
#define GROUP(name) "POST /group HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n" name

/* ---- what /proc says */

static void test_start_time(void **state)
{
        static const struct { const char *stat; bool good; uint64_t start; } cases[] = {
                { "1 (sh) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n", true, 4711 },
                { "1 (a) S 0 0) S 9 9 9 9 (x) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10\n", true, 4711 },          /* the name is the program's to choose */
                { "1 (S 0 1 1 0 -1 1 1 2 3 4 5 6 7 8 20 0 1 0 1 9 10) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711", true, 4711 },
                { "1 (a\nb) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551615 1", true, UINT64_MAX },
                { "1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 18446744073709551616 1", false, 0 },
                { "1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 -1 1", false, 0 },
                { "1 (a) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 47x 1", false, 0 },
                { "1 (a) S 0 1 1", false, 0 }, { "1 a S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10", false, 0 }, { "", false, 0 }, { ")", false, 0 },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                uint64_t start = 0;
                assert_int_equal(process_parse_start(cases[i].stat, &start), cases[i].good);
                assert_true(start == cases[i].start);
        }
}

static void test_users(void **state)
{
        static const struct { const char *status; uid_t uid; bool has; } cases[] = {
                { "Name:\tsh\nUmask:\t0022\nUid:\t1000\t1001\t1002\t1003\nGid:\t5\t5\t5\t5\n", 1000, true },
                { "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\n", 1001, true }, { "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\n", 1002, true },
                { "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\n", 1003, false }, { "Name:\tsh\nUid:\t1000\t1001\t1002\t1003\n", 0, false },
                { "Name:\tUid:\nGid:\t0\t0\t0\n", 0, false }, { "Name:\tsh\nUid:\t0\n", 0, false }, { "", 0, false },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(cases); i++)
                assert_int_equal(process_parse_has_user(cases[i].status, cases[i].uid), cases[i].has);
}

/* ---- processes that connect */

/* The server's end of a connection that a child made; the child lives until it is killed. */
struct visitor { pid_t pid; int listening, fd; struct serve_process process; };

static void visitor_come(struct visitor *visitor)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        socklen_t length = sizeof(sa_family_t), credentials_length = sizeof(struct ucred);
        struct ucred credentials;
        *visitor = (struct visitor){ .listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
        assert_int_equal(bind(visitor->listening, (struct sockaddr *)&address, length), 0);
        length = sizeof address;
        assert_int_equal(getsockname(visitor->listening, (struct sockaddr *)&address, &length), 0);
        assert_int_equal(listen(visitor->listening, 1), 0);
        visitor->pid = fork();
        assert_true(visitor->pid >= 0);
        if (visitor->pid == 0) {
                int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
                if (connect(fd, (struct sockaddr *)&address, length) < 0)
                        _exit(1);
                for (;;)
                        pause();
        }
        visitor->fd = accept4(visitor->listening, NULL, NULL, SOCK_CLOEXEC);
        assert_true(visitor->fd >= 0);
        assert_int_equal(getsockopt(visitor->fd, SOL_SOCKET, SO_PEERCRED, &credentials, &credentials_length), 0);
        assert_int_equal(credentials.pid, visitor->pid);
        visitor->process = (struct serve_process){ .peer = { true, credentials.pid, credentials.uid, credentials.gid }, .fd = visitor->fd, .pidfd = -1 };
}

static void visitor_die(struct visitor *visitor, bool is_reaped)
{
        siginfo_t info;
        kill(visitor->pid, SIGKILL);
        assert_int_equal(waitid(P_PID, (id_t)visitor->pid, &info, WEXITED | (is_reaped ? 0 : WNOWAIT)), 0);
        visitor->pid = is_reaped ? 0 : visitor->pid;
}

static void visitor_leave(struct visitor *visitor)
{
        if (visitor->pid > 0)
                visitor_die(visitor, true);
        process_fini(&visitor->process);
        close(visitor->fd);
        close(visitor->listening);
}

static void by_number(bool wanted)
{
#ifdef WASMCACHED_FAULTS
        fault_arm("serve.peerpidfd", wanted);
#endif
}

static void test_alive(void **state)
{
        (void)state;
        for (int numbered = 0; numbered < 2; numbered++) {
                struct visitor visitor;
                struct error err = { 0 };
                by_number(numbered);
                visitor_come(&visitor);
                assert_false(serve_process_check(&visitor.process, &err));         /* not held before it was looked at */
                assert_int_equal(err.code, ERROR_INTERNAL);
                if (!serve_process_hold(&visitor.process, &err) || !serve_process_check(&visitor.process, &err))
                        fail_msg("%s", err.text);
                assert_true(visitor.process.is_by_number || !numbered);
                visitor_leave(&visitor);
        }
        by_number(false);
}

/* Dead before it was held; between hold and check; each gone or still a zombie; by the socket's pidfd and by number. */
static void test_dying(void **state)
{
        (void)state;
        for (int turn = 0; turn < 8; turn++) {
                struct visitor visitor;
                struct error err = { 0 };
                by_number(turn & 1);
                visitor_come(&visitor);
                if (turn & 2)
                        visitor_die(&visitor, turn & 4);
                bool is_held = serve_process_hold(&visitor.process, &err);
                if (!(turn & 2)) {
                        assert_true(is_held);
                        visitor_die(&visitor, turn & 4);
                }
                assert_false(is_held && serve_process_check(&visitor.process, &err));
                assert_int_equal(err.code, ERROR_DENIED);
                assert_non_null(strstr(err.text, "has ended"));
                visitor_leave(&visitor);
        }
        by_number(false);
}

/* The kernel without SO_PEERPIDFD: the number is another process's now. */
static void test_reused_number(void **state)
{
        struct visitor visitor;
        struct error err = { 0 };
        (void)state;
        by_number(true);
        visitor_come(&visitor);
        assert_true(serve_process_hold(&visitor.process, &err));
        if (!visitor.process.is_by_number) {
                print_message("SKIP: a build without faults\n");
                skip();
        }
        visitor.process.start--;
        assert_false(serve_process_check(&visitor.process, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_non_null(strstr(err.text, "given anew"));
        process_fini(&visitor.process);
        visitor.process.peer.uid++;
        err = (struct error){ 0 };
        assert_false(serve_process_hold(&visitor.process, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_non_null(strstr(err.text, "another user"));
        visitor_leave(&visitor);
        by_number(false);
}

static void test_not_seen(void **state)
{
        struct serve_process far = { .peer = { .is_unix = true, .pid = 0 }, .fd = -1, .pidfd = -1 }, tcp = { .peer = { .is_unix = false, .pid = 1 }, .fd = -1, .pidfd = -1 };
        struct error err = { 0 };
        (void)state;
        assert_false(serve_process_hold(&far, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_non_null(strstr(err.text, "hostPID"));
        assert_false(serve_process_hold(&tcp, &err));
        assert_int_equal(err.code, ERROR_DENIED);
}

/* ---- what is known of a connection, and what it counts for */

static atomic_uint arrivals, proofs;
static _Atomic uint8_t next_group;

static void *arrived(void *arg, void *tag, struct serve_process *process, struct serve_group *ret_group)
{
        struct error err = { 0 };
        (void)arg;
        assert(tag && serve_process_get_peer(process)->pid == getpid());
        proofs += serve_process_hold(process, &err) && serve_process_check(process, &err);
        ret_group->bytes[0] = next_group;
        return string_format("visitor %u", ++arrivals);
}

static int open_known(void **state)
{
        struct serve_limits limits = serve_limits_default;
        limits.connections_per_peer = 2;
        limits.waiting_per_peer = 1;
        arrivals = proofs = 0;
        next_group = 0;
        rig_arrived = arrived;
        *state = rig_new(&limits);
        return 0;
}

static int close_known(void **state)
{
        rig_arrived = NULL;
        rig_free(*state);
        return 0;
}

static int asked(int fd, const char *request, const char *wanted)
{
        struct buffer text = { 0 };
        client_say(fd, request);
        assert_true(client_hear(fd, &text));
        int status = status_of(&text);
        if (wanted)
                assert_string_equal(body_of(&text), wanted);
        buffer_fini(&text);
        return status;
}

/* Once per connection, at accept; each of its requests has it. */
static void test_identity(void **state)
{
        int first = client_dial(*state), second = client_dial(*state);
        assert_int_equal(asked(first, GET("/whoami"), "visitor 1"), 200);
        assert_int_equal(asked(second, GET("/whoami"), "visitor 2"), 200);
        assert_int_equal(asked(first, GET("/whoami"), "visitor 1"), 200);
        assert_int_equal(arrivals, 2);
        assert_int_equal(proofs, 2);
        close(first), close(second);
}

/* Both limits are those of the group, whichever process it is; another group has its own. */
static void test_groups(void **state)
{
        struct rig *rig = *state;
        struct buffer text = { 0 };
        next_group = 7;
        int fds[4] = { client_dial(rig), client_dial(rig) };
        assert_int_equal(asked(fds[0], GET("/a"), NULL), 200);
        assert_int_equal(asked(fds[1], GET("/a"), NULL), 200);
        fds[2] = client_dial(rig);
        assert_true(client_hear_end(fds[2], &text, RIG_PATIENCE_MS));
        assert_int_equal(status_of(&text), 503);
        next_group = 8;
        fds[3] = client_dial(rig);
        assert_int_equal(asked(fds[3], GET("/a"), NULL), 200);

        client_say(fds[0], GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        assert_int_equal(asked(fds[1], GET("/a"), NULL), 429);
        client_say(fds[3], GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 2, RIG_PATIENCE_MS));
        rig_call(rig, rig_release);
        for (size_t i = 0; i < COUNT_OF(fds); i++)
                close(fds[i]);
        buffer_fini(&text);
}

/* What a request tells later moves its connection: out of the group that all unknown ones share, into its own while that has room. */
static void test_moving(void **state)
{
        struct rig *rig = *state;
        int fds[4] = { client_dial(rig), client_dial(rig) };
        assert_int_equal(asked(fds[0], GROUP("a"), "moved"), 200);
        assert_int_equal(asked(fds[1], GROUP("a"), "moved"), 200);
        assert_int_equal(asked(fds[1], GROUP("a"), "moved"), 200);      /* it is there already */
        fds[2] = client_dial(rig), fds[3] = client_dial(rig);       /* the two left room here */
        assert_int_equal(asked(fds[2], GROUP("a"), "full"), 200);
        assert_int_equal(asked(fds[3], GROUP("b"), "moved"), 200);
        client_say(fds[0], GET("/wait"));
        assert_true(rig_reaches(&rig->waits, 1, RIG_PATIENCE_MS));
        close(fds[1]);
        assert_int_equal(asked(fds[3], GROUP("a"), "full"), 200);         /* as many wait there as may */
        rig_call(rig, rig_release);
        close(fds[0]), close(fds[2]), close(fds[3]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_start_time), cmocka_unit_test(test_users), cmocka_unit_test(test_alive), cmocka_unit_test(test_dying), cmocka_unit_test(test_reused_number),
                cmocka_unit_test(test_not_seen), cmocka_unit_test_setup_teardown(test_identity, open_known, close_known),
                cmocka_unit_test_setup_teardown(test_groups, open_known, close_known), cmocka_unit_test_setup_teardown(test_moving, open_known, close_known),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
