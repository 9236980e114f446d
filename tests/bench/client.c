/*
 * How it goes: one request text, given in a file, is asked again and again over a Unix socket:
 *                client rounds CPU SOCKET FILE COUNT ROUNDS   in turn with an echo of the same sizes, both ends of each on CPU: {"echo_ns", "hit_ns"}, medians of rounds
 *                client spread SOCKET FILE MILLISECONDS       in turn with an echo, for that long: {"hit": {"count", "p50_ns", "p99_ns", "max_ns"}, "echo": {…}}
 *                client crowd SOCKET FILE COUNT               from COUNT connections at once: {"answered", "milliseconds", "first", "last"}
 * How it fails: what is not answered with 200 ends the program with 1 and says what came instead.
 * How it ends: the echoing child is ended by the end of its connection.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <wasmcached/base.h>

enum { TEXT_BYTES = 16384, SAMPLES_MAX = 2000000, SLICE_MS = 50 };

struct exchange { int fd; char request[TEXT_BYTES], answer[TEXT_BYTES]; size_t request_bytes, answer_bytes; };

static void die(const char *what, const char *detail)
{
        fprintf(stderr, "bench client: %s: %s\n", what, detail);
        exit(1);
}

static int64_t now_ns(void)
{
        struct timespec now;
        clock_gettime(CLOCK_MONOTONIC, &now);
        return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int unix_connect(const char *path)
{
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
                die(path, strerror(errno));
        return fd;
}

static void pin(int cpu)
{
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        if (sched_setaffinity(0, sizeof set, &set) != 0)
                die("sched_setaffinity", strerror(errno));
}

static void request_load(struct exchange *exchange, const char *path)
{
        FILE *file = fopen(path, "rb");
        if (!file)
                die(path, strerror(errno));
        exchange->request_bytes = fread(exchange->request, 1, TEXT_BYTES, file);
        fclose(file);
}

/* Whole size of an answer, 0 while its head is incomplete. */
static size_t answer_size(const char *text, size_t used)
{
        const char *end = memmem(text, used, "\r\n\r\n", 4), *length = end ? memmem(text, (size_t)(end - text), "Content-Length: ", 16) : NULL;
        return length ? (size_t)(end - text) + 4 + strtoul(length + 16, NULL, 10) : 0;
}

static void ask_first(struct exchange *exchange)
{
        size_t used = 0;
        if (!fs_write_all(exchange->fd, exchange->request, exchange->request_bytes))
                die("write", strerror(errno));
        do {
                ssize_t got = read(exchange->fd, exchange->answer + used, TEXT_BYTES - 1 - used);
                if (got <= 0)
                        die("the connection ended before an answer", strerror(errno));
                used += (size_t)got;
                exchange->answer_bytes = answer_size(exchange->answer, used);
        } while (exchange->answer_bytes == 0 || used < exchange->answer_bytes);
        exchange->answer[used] = '\0';
        if (strncmp(exchange->answer, "HTTP/1.1 200 ", 13) != 0)
                die("not answered with 200", exchange->answer);
}

/* Answers to one question are equally long (its lease stays the same). */
static void ask(struct exchange *exchange)
{
        if (write(exchange->fd, exchange->request, exchange->request_bytes) != (ssize_t)exchange->request_bytes)
                die("write", strerror(errno));
        for (size_t used = 0; used < exchange->answer_bytes;) {
                ssize_t got = read(exchange->fd, exchange->answer + used, exchange->answer_bytes - used);
                if (got <= 0)
                        die("the connection ended before an answer", strerror(errno));
                used += (size_t)got;
        }
}

/* The limit of what a server on one epoll thread can do: it looks at nothing. */
static void echo_serve(int fd, size_t request_bytes, size_t answer_bytes)
{
        char bytes[TEXT_BYTES] = { 0 };
        int epoll = epoll_create1(0);
        struct epoll_event event = { .events = EPOLLIN };
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
        for (size_t used = 0;;) {
                epoll_wait(epoll, &event, 1, -1);
                ssize_t got = read(fd, bytes, sizeof bytes);
                if (got <= 0)
                        _exit(0);
                used += (size_t)got;
                if (used < request_bytes)
                        continue;
                used = 0;
                if (write(fd, bytes, answer_bytes) < 0)
                        _exit(0);
        }
}

static void echo_start(struct exchange *echo, const struct exchange *hit)
{
        int pair[2];
        *echo = *hit;
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
                die("socketpair", strerror(errno));
        pid_t child = fork();
        if (child < 0)
                die("fork", strerror(errno));
        if (child == 0) {
                close(pair[0]);
                echo_serve(pair[1], hit->request_bytes, hit->answer_bytes);
        }
        close(pair[1]);
        echo->fd = pair[0];
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
        return (x > y) - (x < y);
}

static int64_t round_trip_ns(struct exchange *exchange, unsigned count)
{
        int64_t start = now_ns();
        for (unsigned i = 0; i < count; i++)
                ask(exchange);
        return (now_ns() - start) / count;
}

static int rounds(char **argv)
{
        static struct exchange hit, echo;
        unsigned count = (unsigned)atoi(argv[3]), times = (unsigned)atoi(argv[4]);
        CLEANUP(cleanup_free) int64_t *hits = memory_new(times, sizeof *hits);
        CLEANUP(cleanup_free) int64_t *echoes = memory_new(times, sizeof *echoes);
        pin(atoi(argv[0]));
        request_load(&hit, argv[2]);
        hit.fd = unix_connect(argv[1]);
        ask_first(&hit);
        echo_start(&echo, &hit);
        round_trip_ns(&hit, count);
        round_trip_ns(&echo, count);
        for (unsigned i = 0; i < times; i++) {
                echoes[i] = round_trip_ns(&echo, count);
                hits[i] = round_trip_ns(&hit, count);
        }
        qsort(hits, times, sizeof *hits, compare);
        qsort(echoes, times, sizeof *echoes, compare);
        printf("{\"echo_ns\": %lld, \"hit_ns\": %lld, \"answer_bytes\": %zu}\n", (long long)echoes[times / 2], (long long)hits[times / 2], hit.answer_bytes);
        close(echo.fd);
        wait(NULL);
        return 0;
}

struct spread { int64_t *samples; size_t count; };

static void spread_add(struct spread *spread, struct exchange *exchange, int64_t duration_ns)
{
        for (int64_t start = now_ns(), end = start + duration_ns; start < end && spread->count < SAMPLES_MAX;) {
                ask(exchange);
                int64_t now = now_ns();
                spread->samples[spread->count++] = now - start;
                start = now;
        }
}

static void spread_print(const char *name, struct spread *spread)
{
        qsort(spread->samples, spread->count, sizeof *spread->samples, compare);
        printf("\"%s\": {\"count\": %zu, \"p50_ns\": %lld, \"p99_ns\": %lld, \"max_ns\": %lld}", name, spread->count, (long long)spread->samples[spread->count / 2],
               (long long)spread->samples[spread->count - 1 - spread->count / 100], (long long)spread->samples[spread->count - 1]);
        free(spread->samples);
}

/* The echo in turn with the daemon, SLICE_MS each: what the machine alone makes of a round trip just then. */
static int spread(char **argv)
{
        static struct exchange hit, echo;
        struct spread hits = { memory_new(SAMPLES_MAX, sizeof(int64_t)), 0 }, echoes = { memory_new(SAMPLES_MAX, sizeof(int64_t)), 0 };
        request_load(&hit, argv[1]);
        hit.fd = unix_connect(argv[0]);
        ask_first(&hit);
        echo_start(&echo, &hit);
        for (int64_t end = now_ns() + atoll(argv[2]) * 1000000; now_ns() < end;) {
                spread_add(&hits, &hit, SLICE_MS * 1000000LL);
                spread_add(&echoes, &echo, SLICE_MS * 1000000LL);
        }
        printf("{");
        spread_print("hit", &hits);
        printf(", ");
        spread_print("echo", &echoes);
        printf("}\n");
        close(echo.fd);
        wait(NULL);
        return 0;
}

/* All requests are out before the first answer is read. */
static int crowd(char **argv)
{
        unsigned count = (unsigned)atoi(argv[2]);
        struct rlimit files = { count + 64, count + 64 };
        static struct exchange one;
        CLEANUP(cleanup_free) int *fds = memory_new(count, sizeof *fds);
        request_load(&one, argv[1]);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < count + 64) {
                files.rlim_cur = count + 64;
                setrlimit(RLIMIT_NOFILE, &files);
        }
        for (unsigned i = 0; i < count; i++)
                fds[i] = unix_connect(argv[0]);

        int64_t start = now_ns(), first = 0;
        for (unsigned i = 0; i < count; i++)
                if (!fs_write_all(fds[i], one.request, one.request_bytes))
                        die("write", strerror(errno));
        for (unsigned i = 0; i < count; i++) {
                one.fd = fds[i];
                one.answer_bytes = 0;
                for (size_t used = 0; one.answer_bytes == 0 || used < one.answer_bytes;) {
                        ssize_t got = read(one.fd, one.answer + used, TEXT_BYTES - 1 - used);
                        if (got <= 0)
                                die("a connection ended before its answer", strerror(errno));
                        used += (size_t)got;
                        one.answer[used] = '\0';
                        one.answer_bytes = answer_size(one.answer, used);
                }
                if (strncmp(one.answer, "HTTP/1.1 200 ", 13) != 0)
                        die("not answered with 200", one.answer);
                first = first ? first : now_ns();
        }
        printf("{\"answered\": %u, \"first_us\": %lld, \"last_us\": %lld}\n", count, (long long)(first - start) / 1000, (long long)(now_ns() - start) / 1000);
        return 0;
}

int main(int argc, char **argv)
{
        if (argc == 7 && strcmp(argv[1], "rounds") == 0)
                return rounds(argv + 2);
        if (argc == 5 && strcmp(argv[1], "spread") == 0)
                return spread(argv + 2);
        if (argc == 5 && strcmp(argv[1], "crowd") == 0)
                return crowd(argv + 2);
        fputs("client rounds CPU SOCKET FILE COUNT ROUNDS | spread SOCKET FILE MILLISECONDS | crowd SOCKET FILE COUNT\n", stderr);
        return 2;
}
