#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include "serve_rig.h"

/* Here all runs in the test's own thread: nobody has to answer. */
struct place { struct loop *loop; struct serve *serve; char folder[64], path[96]; };

static void place_request(void *arg, struct serve_request *request)
{
        (void)arg;
        rig_reply(request, 200, "ok", 2);
}

static void place_closed(void *arg)
{
        loop_stop(((struct place *)arg)->loop);
}

static int open_place(void **state)
{
        struct place *place = calloc(1, sizeof *place);
        struct serve_handler handler = { .arg = place, .request = place_request, .problem = rig_problem };
        struct error err = { 0 };

        snprintf(place->folder, sizeof place->folder, "/tmp/serve-XXXXXX");
        assert_non_null(mkdtemp(place->folder));
        snprintf(place->path, sizeof place->path, "%s/s", place->folder);
        assert_true(loop_new(1, &place->loop, &err));
        assert_true(serve_new(place->loop, &serve_limits_default, &handler, &place->serve, &err));
        *state = place;
        return 0;
}

static int close_place(void **state)
{
        struct place *place = *state;
        struct error err = { 0 };

        serve_close(place->serve, 0, place_closed, place);
        loop_run(place->loop);
        serve_free(&place->serve);
        loop_free(&place->loop);
        fs_remove_tree(AT_FDCWD, place->folder, &err);
        free(place);
        return 0;
}

static int socket_at(const char *path, bool listens)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        memcpy(address.sun_path, path, strlen(path));
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        if (listens)
                assert_int_equal(listen(fd, 0), 0);
        return fd;
}

static bool answers(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        memcpy(address.sun_path, path, strlen(path));
        bool connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
        close(fd);
        return connected;
}

static void test_fresh(void **state)
{
        static const mode_t modes[] = { 0600, 0660, 0666 };
        struct place *place = *state;
        struct error err = { 0 };
        struct stat status;

        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                char path[128];
                snprintf(path, sizeof path, "%s/a/b%zu/s", place->folder, i);
                mode_t mask = umask(0077);
                assert_true(serve_listen_unix(place->serve, path, modes[i], place, &err));
                umask(mask);
                assert_int_equal(lstat(path, &status), 0);
                assert_true(S_ISSOCK(status.st_mode));
                assert_int_equal(status.st_mode & 07777, modes[i]);
                assert_true(answers(path));
        }
        assert_true(serve_unlisten(place->serve, place));
        assert_false(serve_unlisten(place->serve, place));
        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                char path[128];
                snprintf(path, sizeof path, "%s/a/b%zu/s", place->folder, i);
                assert_int_equal(lstat(path, &status), -1);
        }
}

static void test_left_over(void **state)
{
        struct place *place = *state;
        struct error err = { 0 };

        close(socket_at(place->path, true));
        assert_true(serve_listen_unix(place->serve, place->path, 0600, NULL, &err));
        assert_true(answers(place->path));
}

static void test_in_the_way(void **state)
{
        static const struct { const char *what; enum error_code code; const char *text; } cases[] = {
                { "live", ERROR_BUSY, "another daemon listens" },
                { "live full", ERROR_BUSY, "another daemon listens" },
                { "folder", ERROR_BAD_REQUEST, "it is no socket" },
                { "file", ERROR_BAD_REQUEST, "it is no socket" },
                { "symlink", ERROR_BAD_REQUEST, "it is no socket" },
                { "symlink to nothing", ERROR_BAD_REQUEST, "it is no socket" },
                { "fifo", ERROR_BAD_REQUEST, "it is no socket" },
        };
        struct place *place = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct error err = { 0 };
                struct stat before, after;
                int fd = -1, held[8], held_count = 0;
                char path[128], target[128];
                snprintf(path, sizeof path, "%s/%s", place->folder, cases[i].what);
                snprintf(target, sizeof target, "%s/target", place->folder);
                if (strncmp(cases[i].what, "live", 4) == 0)
                        fd = socket_at(path, true);
                if (strcmp(cases[i].what, "live full") == 0)
                        for (; held_count < 4; held_count++) {
                                struct sockaddr_un address = { .sun_family = AF_UNIX };
                                memcpy(address.sun_path, path, strlen(path));
                                held[held_count] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
                                (void)!connect(held[held_count], (struct sockaddr *)&address, sizeof address);
                        }
                if (strcmp(cases[i].what, "folder") == 0)
                        assert_int_equal(mkdir(path, 0700), 0);
                if (strcmp(cases[i].what, "file") == 0)
                        close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
                if (strcmp(cases[i].what, "symlink") == 0)
                        fd = socket_at(target, false);
                if (strncmp(cases[i].what, "symlink", 7) == 0)
                        assert_int_equal(symlink(fd >= 0 ? target : "/nonexistent/x", path), 0);
                if (strcmp(cases[i].what, "fifo") == 0)
                        assert_int_equal(mkfifo(path, 0600), 0);
                assert_int_equal(lstat(path, &before), 0);

                print_message("%s\n", cases[i].what);
                assert_false(serve_listen_unix(place->serve, path, 0600, NULL, &err));
                assert_int_equal(err.code, cases[i].code);
                assert_non_null(strstr(err.text, cases[i].text));
                assert_int_equal(lstat(path, &after), 0);
                assert_true(before.st_ino == after.st_ino && before.st_mode == after.st_mode);
                while (held_count > 0)
                        close(held[--held_count]);
                cleanup_close(&fd);
        }
}

static void test_bad_paths(void **state)
{
        struct place *place = *state;
        char longest[300];

        memset(longest, 'x', sizeof longest);
        snprintf(longest, sizeof longest, "%s/%0200d", place->folder, 1);
        const char *paths[] = { "s", "./s", "", "/tmp/", "/proc/nowhere/s", longest };
        for (size_t i = 0; i < COUNT_OF(paths); i++) {
                struct error err = { 0 };
                print_message("%s\n", paths[i]);
                assert_false(serve_listen_unix(place->serve, paths[i], 0600, NULL, &err));
                assert_string_not_equal(err.text, "");
        }
}

/* Somebody else's socket at our path stays. */
static void test_close_leaves_others(void **state)
{
        struct place *place = *state;
        struct error err = { 0 };
        struct stat status;

        assert_true(serve_listen_unix(place->serve, place->path, 0600, place, &err));
        unlink(place->path);
        int fd = socket_at(place->path, true);
        assert_true(serve_unlisten(place->serve, place));
        assert_int_equal(lstat(place->path, &status), 0);
        close(fd);
}

static void test_handed_over(void **state)
{
        struct place *place = *state;
        struct error err = { 0 };
        struct stat status;

        assert_true(serve_listen_fd(place->serve, socket_at(place->path, true), place, &err));
        assert_true(answers(place->path));
        assert_true(serve_unlisten(place->serve, place));
        assert_int_equal(lstat(place->path, &status), 0);         /* systemd's, not ours */
}

static void test_handed_over_bad(void **state)
{
        struct place *place = *state;
        char path[128];

        snprintf(path, sizeof path, "%s/quiet", place->folder);
        int fds[] = { socket_at(path, false), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), open("/dev/null", O_RDONLY | O_CLOEXEC), -1 };
        for (size_t i = 0; i < COUNT_OF(fds); i++) {
                struct error err = { 0 };
                assert_false(serve_listen_fd(place->serve, fds[i], NULL, &err));
                assert_int_equal(err.code, ERROR_BAD_REQUEST);
                assert_int_equal(fcntl(fds[i], F_GETFD), -1);     /* taken, also on failure */
        }
}

static void test_tcp(void **state)
{
        static const struct { const char *address; bool good; } cases[] = {
                { "127.0.0.1:0", true }, { "localhost:0", true }, { "[::1]:0", true }, { "127.0.0.1", false }, { ":0", false }, { "127.0.0.1:", false },
                { "127.0.0.1:65536", false }, { "127.0.0.1:-1", false },
                { "127.0.0.1:1x", false }, { "example.org:80", false }, { "::1:80", false }, { "[::1]", false }, { "[127.0.0.1]:80", false }, { "256.0.0.1:80", false },
                { "", false },
                { "127.0.0.1:99999999999999999999", false }, { "[]:1", false },
        };
        struct place *place = *state;

        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct error err = { 0 };
                uint16_t port = 0;
                print_message("%s\n", cases[i].address);
                bool good = serve_listen_tcp(place->serve, cases[i].address, place, &port, &err);
                if (!good && cases[i].good && strchr(cases[i].address, '[') && err.code == ERROR_INTERNAL)
                        continue;                 /* a machine without IPv6 */
                assert_int_equal(good, cases[i].good);
                assert_int_equal(port != 0, cases[i].good);
                if (!good)
                        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        }
}

static void test_tcp_in_use(void **state)
{
        struct place *place = *state;
        struct error err = { 0 };
        uint16_t port;
        char address[32];

        assert_true(serve_listen_tcp(place->serve, "127.0.0.1:0", NULL, &port, &err));
        snprintf(address, sizeof address, "127.0.0.1:%u", port);
        assert_false(serve_listen_tcp(place->serve, address, NULL, NULL, &err));
        assert_int_equal(err.code, ERROR_BUSY);
}

struct tcp_client { struct place *place; uint16_t port; char text[512]; };

static void *tcp_client_main(void *arg)
{
        struct tcp_client *client = arg;
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(client->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        struct buffer text = { 0 };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
                client_say(fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                shutdown(fd, SHUT_WR);
                client_hear_end(fd, &text, RIG_PATIENCE_MS);
        }
        close(fd);
        snprintf(client->text, sizeof client->text, "%s", text.data ? text.data : "");
        buffer_fini(&text);
        loop_post(client->place->loop, place_closed, client->place);
        return NULL;
}

static void test_tcp_answers(void **state)
{
        struct tcp_client client = { .place = *state };
        struct error err = { 0 };
        pthread_t thread;

        assert_true(serve_listen_tcp(client.place->serve, "127.0.0.1:0", NULL, &client.port, &err));
        pthread_create(&thread, NULL, tcp_client_main, &client);
        loop_run(client.place->loop);
        pthread_join(thread, NULL);
        assert_int_equal(strncmp(client.text, "HTTP/1.1 200", 12), 0);
}

/* Connected, silent when listening ends; then it asks, and is answered. */
struct late { struct place *place; struct loop_timer *timer; atomic_int step; int fd; };

static void late_look(void *arg)
{
        struct late *late = arg;
        struct serve_stats stats;

        serve_get_stats(late->place->serve, &stats);
        if (late->step == 0 && stats.open == 1) {
                serve_stop_listening(late->place->serve);
                assert_false(serve_is_quiet(late->place->serve));
                assert_false(answers(late->place->path));
                late->step = 1;
        } else if (late->step == 2 && serve_is_quiet(late->place->serve)) {
                assert_int_equal(stats.open, 1);
                loop_timer_cancel(&late->timer);
                loop_stop(late->place->loop);
        }
}

static void *late_main(void *arg)
{
        struct late *late = arg;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        char got[13] = "";

        memcpy(address.sun_path, late->place->path, strlen(late->place->path));
        late->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(late->fd, (struct sockaddr *)&address, sizeof address), 0);
        while (late->step == 0)
                usleep(1000);
        client_say(late->fd, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_int_equal(recv(late->fd, got, 12, MSG_WAITALL), 12);
        assert_string_equal(got, "HTTP/1.1 200");
        late->step = 2;
        return NULL;
}

static void test_stop_listening(void **state)
{
        struct late late = { .place = *state, .fd = -1 };
        struct error err = { 0 };
        pthread_t thread;

        assert_true(serve_is_quiet(late.place->serve));
        assert_true(serve_listen_unix(late.place->serve, late.place->path, 0600, late.place, &err));
        late.timer = loop_timer_start(late.place->loop, 1, 1, late_look, &late);
        pthread_create(&thread, NULL, late_main, &late);
        loop_run(late.place->loop);
        pthread_join(thread, NULL);
        close(late.fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_fresh, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_left_over, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_in_the_way, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_bad_paths, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_close_leaves_others, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_handed_over, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_handed_over_bad, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_tcp, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_tcp_in_use, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_tcp_answers, open_place, close_place),
                cmocka_unit_test_setup_teardown(test_stop_listening, open_place, close_place),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
