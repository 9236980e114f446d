#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include <cmocka.h>
#include "fetch_fake.h"
#include "../../agent/fetch/gate.h"

#define A "http://a.example:80"
#define B "http://b.example:80"

static struct gates gates;

static int begin(void **state)
{
        (void)state;
        gates_init(&gates);
        return 0;
}

static int end(void **state)
{
        (void)state;
        gates_fini(&gates);
        return 0;
}

/* A visitor that sleeps as a worker does: until it is woken, or the time has come. */
struct visitor { struct gate_visit visit; int wakeups[2]; struct error err; bool is_passed; int64_t passed_ms; atomic_bool is_done; pthread_t thread; };

static void visitor_sleep(void *arg, int64_t until_ms)
{
        struct visitor *visitor = arg;
        char byte;
        int64_t left_ms = until_ms - clock_get_ms();
        struct timeval time = { .tv_sec = left_ms > 60000 ? 60 : left_ms / 1000, .tv_usec = left_ms > 60000 ? 0 : left_ms % 1000 * 1000 };
        fd_set set;
        FD_ZERO(&set);
        FD_SET(visitor->wakeups[0], &set);
        if (left_ms > 0 && select(visitor->wakeups[0] + 1, &set, NULL, NULL, &time) == 1)
                assert_int_equal(read(visitor->wakeups[0], &byte, 1), 1);
}

static void visitor_wake(void *arg)
{
        struct visitor *visitor = arg;
        assert_int_equal(write(visitor->wakeups[1], "", 1), 1);
}

static void visitor_init(struct visitor *visitor, const char *origin)
{
        *visitor = (struct visitor){ .visit = { .origin = origin, .url = origin, .sleep = visitor_sleep, .wake = visitor_wake, .arg = visitor } };
        assert_int_equal(pipe(visitor->wakeups), 0);
}

static void visitor_fini(struct visitor *visitor)
{
        close(visitor->wakeups[0]);
        close(visitor->wakeups[1]);
}

static void *visitor_run(void *arg)
{
        struct visitor *visitor = arg;
        visitor->is_passed = gate_pass(&gates, &visitor->visit, &visitor->err);
        visitor->passed_ms = clock_get_ms();
        atomic_store(&visitor->is_done, true);
        return NULL;
}

static void visitor_start(struct visitor *visitor)
{
        struct fetch_stats before, now;
        fetch_get_stats(&before);
        assert_int_equal(pthread_create(&visitor->thread, NULL, visitor_run, visitor), 0);
        do {                                               /* until it stands in the queue: so the order is known */
                usleep(1000);
                fetch_get_stats(&now);
        } while (now.waits == before.waits && !atomic_load(&visitor->is_done));
}

static bool pass(const char *origin, struct gate_visit *ret_visit, struct error *err)
{
        CLEANUP(visitor_fini) struct visitor visitor;
        visitor_init(&visitor, origin);
        visitor.visit.deadline_ms = ret_visit->deadline_ms;
        visitor.visit.no_wait = ret_visit->no_wait;
        bool is_passed = gate_pass(&gates, &visitor.visit, err);
        *ret_visit = visitor.visit;
        return is_passed;
}

static struct gate_visit passed(const char *origin)
{
        struct gate_visit visit = { 0 };
        struct error err = { 0 };
        if (!pass(origin, &visit, &err))
                fail_msg("%s", err.text);
        return visit;
}

/* How long it is closed after this answer to a request that has just passed. */
static int64_t close_ms(int status, unsigned said_s)
{
        struct gate_visit visit = passed(A);
        int told = 0;
        gate_note(&gates, &visit, status, said_s);
        int64_t left_ms = gate_get_left_ms(&gates, A, &told);
        assert_int_equal(told, left_ms > 0 ? status : 0);
        return left_ms;
}

static void test_open(void **state)
{
        (void)state;
        static const int statuses[] = { 200, 206, 301, 401, 404, 408, 500, 502, 504 };
        for (size_t i = 0; i < COUNT_OF(statuses); i++)
                assert_int_equal(close_ms(statuses[i], 30), 0);
        assert_int_equal(passed(A).round, 0);
}

static void test_closed(void **state)
{
        (void)state;
        static const int statuses[] = { 429, 503 };
        for (size_t i = 0; i < COUNT_OF(statuses); i++) {
                struct gate_visit visit = { .deadline_ms = clock_get_ms() + 20000 };
                struct error err = { 0 };
                begin(NULL);
                assert_in_range(close_ms(statuses[i], 30), 25000, 30000);
                assert_false(pass(A, &visit, &err));
                assert_int_equal(err.code, statuses[i] == 429 ? ERROR_RATE_LIMITED : ERROR_UPSTREAM_ERROR);
                assert_in_range(err.retry_after_s, 20, 30);
                assert_true(string_starts_with(err.text, A " answered "));
                assert_non_null(strstr(err.text, statuses[i] == 429 ? "429 (too many requests)" : "503 (service unavailable)"));
                assert_int_equal(passed(B).round, 0);      /* another origin is not concerned */
                end(NULL);
        }
        begin(NULL);
}

/* Somebody who can ask elsewhere waits for no 429. */
static void test_no_wait(void **state)
{
        (void)state;
        struct gate_visit visit = { .no_wait = true };
        struct error err = { 0 };
        assert_true(pass(A, &visit, &err));
        assert_in_range(close_ms(429, 1), 1, 1000);
        visit = (struct gate_visit){ .no_wait = true };
        assert_false(pass(A, &visit, &err));
        assert_int_equal(err.code, ERROR_RATE_LIMITED);
        gate_note(&gates, &visit, 503, 1);
        visit = (struct gate_visit){ .no_wait = true };
        assert_true(pass(A, &visit, &err));
}

/* In the order in which they came, a gap apart; the last one gives up at its own deadline. */
static void test_turns(void **state)
{
        (void)state;
        enum { VISITORS = 4 };
        struct visitor visitors[VISITORS];
        int64_t closed_ms = clock_get_ms();
        close_ms(429, 2);
        for (int i = 0; i < VISITORS; i++) {
                visitor_init(&visitors[i], A);
                if (i == VISITORS - 1)
                        visitors[i].visit.deadline_ms = closed_ms + 2200;
                visitor_start(&visitors[i]);
        }
        for (int i = 0; i < VISITORS; i++)
                pthread_join(visitors[i].thread, NULL);
        for (int i = 0; i < VISITORS - 1; i++) {
                assert_true(visitors[i].is_passed);
                assert_int_equal(visitors[i].visit.round, 1);
                assert_true(visitors[i].passed_ms >= closed_ms + 2000);
        }
        /* what is measured here is when a thread went on, which is after it passed: from the second one on only the sum is sure */
        assert_true(visitors[VISITORS - 2].passed_ms >= closed_ms + 2000 + (VISITORS - 2) * GATE_GAP_FIRST_MS);
        assert_false(visitors[VISITORS - 1].is_passed);
        assert_int_equal(visitors[VISITORS - 1].err.code, ERROR_RATE_LIMITED);
        assert_true(visitors[VISITORS - 1].err.retry_after_s >= 1);
        for (int i = 0; i < VISITORS; i++)
                visitor_fini(&visitors[i]);
}

/* It closes again while they stand there: who has no time for that is refused at once, and so is who may ask elsewhere. */
static void test_closed_again(void **state)
{
        (void)state;
        struct visitor late, hasty;
        struct gate_visit probe = passed(A);
        gate_note(&gates, &probe, 503, 2);
        visitor_init(&late, A);
        late.visit.deadline_ms = clock_get_ms() + 30000;
        visitor_init(&hasty, A);
        hasty.visit.no_wait = true;
        visitor_start(&late);
        visitor_start(&hasty);
        int64_t noted_ms = clock_get_ms();
        gate_note(&gates, &probe, 429, 60);
        pthread_join(late.thread, NULL);
        pthread_join(hasty.thread, NULL);
        assert_false(late.is_passed);
        assert_false(hasty.is_passed);
        assert_true(clock_get_ms() - noted_ms < 20000);
        assert_in_range(late.err.retry_after_s, 40, 60);
        assert_int_equal(hasty.err.code, ERROR_RATE_LIMITED);
        visitor_fini(&late);
        visitor_fini(&hasty);
}

/* Without Retry-After: a gap that doubles, once for what was under way together. */
static void test_gap_grows(void **state)
{
        (void)state;
        struct gate_visit together[3] = { passed(A), passed(A), passed(A) };
        int told;
        for (size_t i = 0; i < COUNT_OF(together); i++) {
                gate_note(&gates, &together[i], 429, 0);
                assert_in_range(gate_get_left_ms(&gates, A, &told), 0, GATE_GAP_FIRST_MS);
        }
        assert_in_range(close_ms(429, 0), 0, 2 * GATE_GAP_FIRST_MS);
        static const int64_t gaps[] = { GATE_GAP_MOST_MS, GATE_GAP_MOST_MS };
        for (size_t i = 0; i < COUNT_OF(gaps); i++) {
                int64_t began_ms = clock_get_ms();
                close_ms(503, 0);
                passed(A);
                assert_true(clock_get_ms() - began_ms >= gaps[i]);
                assert_in_range(gate_get_left_ms(&gates, A, &told), 0, GATE_GAP_MOST_MS);
        }
}

/* Good answers open it wide, until it is none; those that were sent before it closed say nothing. */
static void test_gap_shrinks(void **state)
{
        (void)state;
        struct gate_visit before = passed(A);
        close_ms(429, 1);
        for (int i = 0; i < 100; i++)
                gate_note(&gates, &before, 200, 0);
        struct gate_visit visit = passed(A);
        assert_int_equal(visit.round, 1);
        int rounds = 0;
        for (; visit.round == 1 && rounds < 100; rounds++) {
                gate_note(&gates, &visit, 200, 0);
                visit = passed(A);
        }
        assert_in_range(rounds, 5, 15);
        assert_int_equal(visit.round, 0);
}

/* A 503 that names no time, of one url: nothing about the others. Of a second one soon afterwards: the host. */
static void test_503_of_one_url(void **state)
{
        (void)state;
        struct gate_visit one = passed(A), other = passed(A);
        int told = 0;
        one.url = A "/one";
        other.url = A "/other";
        for (int i = 0; i < 5; i++) {
                gate_note(&gates, &one, 503, 0);
                assert_int_equal(gate_get_left_ms(&gates, A, &told), 0);
                assert_int_equal(passed(A).round, 0);
        }
        gate_note(&gates, &other, 503, 0);
        assert_true(gate_get_left_ms(&gates, A, &told) > 0 && told == 503);
        assert_int_equal(passed(A).round, 1);
}

static void test_many_origins(void **state)
{
        (void)state;
        char origin[64];
        int told = 0;
        for (int i = 0; i < GATES_MAX + 1; i++) {
                snprintf(origin, sizeof origin, "http://h%d.example:80", i);
                struct gate_visit visit = passed(origin);
                gate_note(&gates, &visit, 429, 60);
                assert_int_equal(gate_get_left_ms(&gates, origin, &told) > 0, i < GATES_MAX);
        }
        passed(origin);
}

/* ---- requests ---- */

static struct fake fake;
static struct fetch_client *client;

static int setup(void **state)
{
        (void)state;
        struct error err = { 0 };
        fake = fake_start(NULL);
        return fetch_client_new(&(struct fetch_options){ .retries = 2 }, &client, &err) ? 0 : -1;
}

static int teardown(void **state)
{
        (void)state;
        fetch_client_unref(&client);
        fake_stop(&fake);
        return 0;
}

/* By a client of its own, which no gate concerns. */
static char *steer(enum fetch_method method, const char *path)
{
        CLEANUP(fetch_client_unref) struct fetch_client *other = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&(struct fetch_options){ 0 }, &other, &err));
        return fake_steer(other, &fake, method, path);
}

static unsigned count(const char *piece)
{
        CLEANUP(cleanup_free) char *log = steer(FETCH_GET, "/_log");
        unsigned found = 0;
        for (const char *at = log; (at = strstr(at, piece)); at++)
                found++;
        return found;
}

static int status_of(const struct fetch_request *request, struct error *err)
{
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        return fetch_run(client, request, NULL, &response, err) ? fetch_response_get_status(response) : 0;
}

static void restart(void)
{
        struct error err = { 0 };
        fetch_client_unref(&client);
        assert_true(fetch_client_new(&(struct fetch_options){ .retries = 2 }, &client, &err));
        free(steer(FETCH_POST, "/_reset"));
}

/* A POST is sent again after 429 alone; what is not to be retried neither minds the gate nor closes it; a day is nobody's patience. */
static void test_requests(void **state)
{
        (void)state;
        static const struct { enum fetch_method method; const char *rate; bool no_retry, no_wait; int status; unsigned requests; bool is_closed; } rows[] = {
                { FETCH_GET,  "0&after=1",           false, false, 429, 3, true },  { FETCH_POST, "0&after=1",          false, false, 429, 3, true },
                { FETCH_POST, "0&after=1&code=503",  false, false, 503, 1, true },  { FETCH_GET,  "0&after=1",          true,  false, 429, 1, false },
                { FETCH_GET,  "0&after=20",          false, true,  429, 1, true },  { FETCH_GET,  "0&code=503",         false, true,  503, 3, true },
                { FETCH_GET,  "0&after=61",          false, false, 429, 1, false }, { FETCH_GET,  "0&after=1&code=500", false, false, 500, 3, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%zu: %s\n", i, rows[i].rate);
                struct error err = { 0 };
                int told = 0;
                restart();
                CLEANUP(cleanup_free) char *path = string_format("/_set?rate=%s", rows[i].rate), *url = string_format("http://127.0.0.1:%u/v2/dyn/row-%zu/manifests/v1", fake.port, i);
                struct fetch_request request = { .method = rows[i].method, .url = url, .body = rows[i].method == FETCH_POST ? "a=b" : NULL, .size_limit = 1 << 20, .size_expected = -1,
                                                 .no_retry = rows[i].no_retry, .no_wait = rows[i].no_wait };
                free(steer(FETCH_POST, path));
                assert_int_equal(status_of(&request, &err), rows[i].status);
                assert_int_equal(count("manifests/v1"), rows[i].requests);
                if (rows[i].is_closed && strstr(rows[i].rate, "after"))
                        assert_true(fetch_client_get_wait_ms(client, url, &told) > 0 && told == rows[i].status);
                else if (!rows[i].is_closed)
                        assert_int_equal(fetch_client_get_wait_ms(client, url, &told), 0);
        }
}

/* Nothing is sent through a closed gate: the deadline, and the cancel of one that waits. */
struct cancelling { struct cancel *cancel; uint64_t waits; };

static void *cancel_when_waiting(void *arg)
{
        struct cancelling *cancelling = arg;
        struct fetch_stats now;
        do {
                usleep(1000);
                fetch_get_stats(&now);
        } while (now.waits == cancelling->waits);
        usleep(20000);
        cancel_trigger(cancelling->cancel);
        return NULL;
}

static void test_waiting(void **state)
{
        (void)state;
        struct error err = { 0 };
        restart();
        free(steer(FETCH_POST, "/_set?rate=0&after=50"));
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/v2/dyn/waits/manifests/v1", fake.port);
        struct fetch_request request = { .url = url, .size_limit = 1 << 20, .size_expected = -1, .deadline_ms = clock_get_ms() + 40000 };
        assert_int_equal(status_of(&request, &err), 429);
        assert_int_equal(status_of(&request, &err), 0);
        assert_int_equal(err.code, ERROR_RATE_LIMITED);
        assert_true(string_starts_with(err.text, "GET http://127.0.0.1:"));
        assert_non_null(strstr(err.text, "waits/manifests/v1: http://127.0.0.1:"));

        CLEANUP(cancel_free) struct cancel *cancel = cancel_new();
        pthread_t thread;
        request.cancel = cancel;
        request.deadline_ms = 0;
        struct fetch_stats stats;
        fetch_get_stats(&stats);
        struct cancelling cancelling = { cancel, stats.waits };
        int64_t began_ms = clock_get_ms();
        assert_int_equal(pthread_create(&thread, NULL, cancel_when_waiting, &cancelling), 0);
        assert_int_equal(status_of(&request, &err), 0);
        pthread_join(thread, NULL);
        assert_int_equal(err.code, ERROR_BUSY);
        assert_true(clock_get_ms() - began_ms < 20000);    /* not when it opens */
        assert_int_equal(count("manifests/v1"), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_open, begin, end), cmocka_unit_test_setup_teardown(test_closed, begin, end), cmocka_unit_test_setup_teardown(test_no_wait, begin, end),
                cmocka_unit_test_setup_teardown(test_turns, begin, end), cmocka_unit_test_setup_teardown(test_closed_again, begin, end),
                cmocka_unit_test_setup_teardown(test_gap_grows, begin, end), cmocka_unit_test_setup_teardown(test_gap_shrinks, begin, end),
                cmocka_unit_test_setup_teardown(test_503_of_one_url, begin, end), cmocka_unit_test_setup_teardown(test_many_origins, begin, end), cmocka_unit_test(test_requests), cmocka_unit_test(test_waiting),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
