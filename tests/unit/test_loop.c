#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasmcached/loop.h>

static int open_loop(void **state)
{
        struct loop *loop = NULL;
        struct error err = { 0 };

        if (!loop_new(4, &loop, &err))
                return -1;
        *state = loop;
        return 0;
}

/* Asserts inside that nothing was forgotten. */
static int close_loop(void **state)
{
        struct loop *loop = *state;

        loop_free(&loop);
        return 0;
}

static void test_sizes(void **state)
{
        static const struct { unsigned count; bool good; } rows[] = { { 0, false }, { 1, true }, { 1024, true }, { 1025, false } };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct loop *loop = NULL;
                struct error err = { 0 };
                assert_int_equal(loop_new(rows[i].count, &loop, &err), rows[i].good);
                assert_int_equal(loop != NULL, rows[i].good);
                assert_int_equal(err.text[0] == '\0', rows[i].good);
                loop_free(&loop);
                assert_null(loop);
        }
}

static void test_tags_without_loop(void **state)
{
        (void)state;
        assert_true(loop_is_loop_thread());
        assert_true(loop_is_worker_thread());
}

struct work { struct job job; struct loop *loop; unsigned *left; pthread_t ran_on; bool was_loop, was_worker, done_on_loop, done_on_worker; };

static void work_run(struct job *job)
{
        struct work *work = CONTAINER_OF(job, struct work, job);

        work->ran_on = pthread_self();
        work->was_loop = loop_is_loop_thread();
        work->was_worker = loop_is_worker_thread();
}

static void work_done(struct job *job)
{
        struct work *work = CONTAINER_OF(job, struct work, job);

        work->done_on_loop = loop_is_loop_thread();
        work->done_on_worker = loop_is_worker_thread();
        if (--*work->left == 0)
                loop_stop(work->loop);
}

static void test_jobs(void **state)
{
        struct loop *loop = *state;
        static struct work works[100];
        unsigned left = COUNT_OF(works);

        memset(works, 0, sizeof works);
        for (size_t i = 0; i < COUNT_OF(works); i++) {
                works[i] = (struct work){ .job = { .run = work_run, .done = work_done }, .loop = loop, .left = &left };
                job_start(loop, &works[i].job);
        }
        assert_int_equal(job_get_running(loop), COUNT_OF(works));
        loop_run(loop);
        assert_int_equal(left, 0);
        assert_int_equal(job_get_running(loop), 0);
        for (size_t i = 0; i < COUNT_OF(works); i++) {
                assert_false(pthread_equal(works[i].ran_on, pthread_self()));
                assert_true(works[i].was_worker && !works[i].was_loop);
                assert_true(works[i].done_on_loop && !works[i].done_on_worker);
        }
}

/* ---- workers: as many as wait for one, up to the bound; gone with the loop */
struct gate { struct loop *loop; sem_t open; atomic_uint inside, most; unsigned left; pthread_t ran_on; };
struct gated { struct job job; struct gate *gate; };

static unsigned threads_count(void)
{
        unsigned count = 0;
        DIR *folder = opendir("/proc/self/task");
        for (struct dirent *item; folder && (item = readdir(folder));)
                count += item->d_name[0] != '.';
        closedir(folder);
        return count;
}

/* A thread that was joined is in the folder for a moment still. */
static void threads_await(unsigned count)
{
        for (int64_t until_ms = clock_get_ms() + 20000; threads_count() != count && clock_get_ms() < until_ms;)
                usleep(100);
        assert_int_equal(threads_count(), count);
}

static void gated_run(struct job *job)
{
        struct gate *gate = CONTAINER_OF(job, struct gated, job)->gate;
        unsigned now = atomic_fetch_add(&gate->inside, 1) + 1, most = gate->most;
        while (now > most && !atomic_compare_exchange_weak(&gate->most, &most, now))
                ;
        sem_wait(&gate->open);
        atomic_fetch_sub(&gate->inside, 1);
}

static void gated_done(struct job *job)
{
        struct gate *gate = CONTAINER_OF(job, struct gated, job)->gate;
        if (--gate->left == 0)
                loop_stop(gate->loop);
}

/* Starts `count` jobs at once, waits until as many as may run do, then lets them. More than a pipe holds are started in the last row. */
static void test_workers(void **state)
{
        static const struct { unsigned bound, jobs, fails_at, most; } cases[] = {
                { 4, 1, 0, 1 }, { 4, 3, 0, 3 }, { 4, 4, 0, 4 }, { 4, 100, 0, 4 }, { 1, 50, 0, 1 }, { 8, 30, 2, 1 }, { 8, 30, 4, 3 }, { 3, 20000, 0, 3 },
        };
        static struct gated jobs[20000];
        (void)state;
        unsigned before = threads_count();
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct gate gate = { .left = cases[i].jobs };
                struct error err = { 0 };
                fault_arm("loop.thread", cases[i].fails_at);
                assert_true(loop_new(cases[i].bound, &gate.loop, &err));
                sem_init(&gate.open, 0, 0);
                for (unsigned k = 0; k < cases[i].jobs; k++) {
                        jobs[k] = (struct gated){ { .run = gated_run, .done = gated_done }, &gate };
                        job_start(gate.loop, &jobs[k].job);
                }
                for (int64_t until_ms = clock_get_ms() + 20000; gate.inside < cases[i].most;) {
                        assert_true(clock_get_ms() < until_ms);
                        usleep(100);
                }
                threads_await(before + cases[i].most);
                for (unsigned k = 0; k < cases[i].jobs; k++)
                        sem_post(&gate.open);
                loop_run(gate.loop);
                assert_int_equal(gate.left, 0);
                assert_int_equal(gate.most, cases[i].most);
                assert_int_equal(job_get_running(gate.loop), 0);
                loop_free(&gate.loop);
                threads_await(before);
                sem_destroy(&gate.open);
        }
        fault_arm("loop.thread", 1);
        struct loop *loop = NULL;
        struct error err = { 0 };
        assert_false(loop_new(4, &loop, &err));
        assert_non_null(strstr(err.text, "worker thread"));
        fault_arm("loop.thread", 0);
}

/* One after the other, each started by the one before: one worker does all of them. */
static void chain_run(struct job *job)
{
        struct gate *gate = CONTAINER_OF(job, struct gated, job)->gate;
        if (gate->inside++ == 0)
                gate->ran_on = pthread_self();
        gate->most += pthread_equal(gate->ran_on, pthread_self()) != 0;
}

static void chain_done(struct job *job)
{
        struct gate *gate = CONTAINER_OF(job, struct gated, job)->gate;
        if (--gate->left > 0)
                job_start(gate->loop, job);       /* from within its own done() */
        else
                loop_stop(gate->loop);
}

static void test_chain(void **state)
{
        struct gate gate = { .loop = *state, .left = 500 };
        struct gated first = { { .run = chain_run, .done = chain_done }, &gate };
        job_start(gate.loop, &first.job);
        loop_run(gate.loop);
        assert_int_equal(gate.inside, 500);
        assert_int_equal(gate.most, 500);
}

static struct work late;
static unsigned late_left = 2;

static void late_done(struct job *job)
{
        (void)job;
        late_left--;
}

static void late_first_done(struct job *job)
{
        struct work *work = CONTAINER_OF(job, struct work, job);

        late_left--;
        late = (struct work){ .job = { .run = work_run, .done = late_done } };
        job_start(work->loop, &late.job);
}

/* loop_free() waits for jobs, also for those that are started by done() of others. */
static void test_free_waits(void **state)
{
        struct loop *loop = NULL;
        struct error err = { 0 };
        (void)state;

        assert_true(loop_new(2, &loop, &err));
        struct work first = { .job = { .run = work_run, .done = late_first_done }, .loop = loop };
        late_left = 2;
        job_start(loop, &first.job);
        loop_free(&loop);
        assert_int_equal(late_left, 0);
}

enum { POSTS = 2000, POSTERS = 4 };
struct poster { struct loop *loop; unsigned *finished; unsigned next; bool in_order; pthread_t thread; };
struct letter { struct poster *from; unsigned number; };

static void letter_arrive(void *arg)
{
        struct letter *letter = arg;
        struct poster *from = letter->from;

        from->in_order &= letter->number == from->next && loop_is_loop_thread();
        if (++from->next == POSTS && ++*from->finished == POSTERS)
                loop_stop(from->loop);
        free(letter);
}

static void *poster_main(void *arg)
{
        struct poster *poster = arg;

        for (unsigned i = 0; i < POSTS; i++) {
                struct letter *letter = memory_new(1, sizeof *letter);
                *letter = (struct letter){ poster, i };
                loop_post(poster->loop, letter_arrive, letter);
        }
        return NULL;
}

static void test_posts_in_order(void **state)
{
        struct loop *loop = *state;
        struct poster posters[POSTERS];
        unsigned finished = 0;

        for (size_t i = 0; i < POSTERS; i++) {
                posters[i] = (struct poster){ .loop = loop, .finished = &finished, .in_order = true };
                assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
        }
        loop_run(loop);
        for (size_t i = 0; i < POSTERS; i++) {
                pthread_join(posters[i].thread, NULL);
                assert_int_equal(posters[i].next, POSTS);
                assert_true(posters[i].in_order);
        }
}

static void set_true(void *arg)
{
        *(bool *)arg = true;
}

static void test_post_before_free(void **state)
{
        struct loop *loop = NULL;
        struct error err = { 0 };
        bool called = false;
        (void)state;

        assert_true(loop_new(1, &loop, &err));
        loop_post(loop, set_true, &called);
        loop_free(&loop);
        assert_true(called);
}

struct ticks { struct loop *loop; struct loop_timer *timer, *victim; unsigned count; int64_t started_ms, took_ms; };

static void tick_three(void *arg)
{
        struct ticks *ticks = arg;

        if (++ticks->count == 3) {
                loop_timer_cancel(&ticks->timer);
                loop_stop(ticks->loop);
        }
}

static void test_timer_repeats(void **state)
{
        struct ticks ticks = { .loop = *state };

        ticks.timer = loop_timer_start(ticks.loop, 1, 1, tick_three, &ticks);
        loop_run(ticks.loop);
        assert_int_equal(ticks.count, 3);
        assert_null(ticks.timer);
        loop_timer_cancel(&ticks.timer);          /* NULL inside is fine */
}

static void tick_again(void *arg)
{
        struct ticks *ticks = arg;

        ticks->took_ms = clock_get_ms() - ticks->started_ms;
        if (++ticks->count == 1)
                loop_timer_again(ticks->timer, 20);
        else
                loop_stop(ticks->loop);
}

static void test_timer_again(void **state)
{
        struct ticks ticks = { .loop = *state, .started_ms = clock_get_ms() };

        ticks.timer = loop_timer_start(ticks.loop, 5, 0, tick_again, &ticks);
        loop_run(ticks.loop);
        assert_int_equal(ticks.count, 2);
        assert_true(ticks.took_ms >= 23);         /* clocks of libuv are cut to milliseconds */
        loop_timer_cancel(&ticks.timer);
}

static void tick_kill_other(void *arg)
{
        struct ticks *ticks = arg;

        loop_timer_cancel(&ticks->victim);
}

static void tick_fail(void *arg)
{
        (void)arg;
        fail_msg("a cancelled timer fired");
}

static void tick_stop(void *arg)
{
        loop_stop(((struct ticks *)arg)->loop);
}

static void test_timer_cancelled_never_fires(void **state)
{
        struct ticks ticks = { .loop = *state };

        ticks.timer = loop_timer_start(ticks.loop, 1, 0, tick_kill_other, &ticks);
        ticks.victim = loop_timer_start(ticks.loop, 1, 0, tick_fail, NULL);
        struct loop_timer *last = loop_timer_start(ticks.loop, 10, 0, tick_stop, &ticks);
        loop_run(ticks.loop);
        loop_timer_cancel(&ticks.timer);
        loop_timer_cancel(&last);
}

struct caught { struct loop *loop; unsigned count; };

static void catch_it(void *arg)
{
        struct caught *caught = arg;

        if (++caught->count == 2)
                loop_stop(caught->loop);
        else
                raise(SIGUSR1);
}

static void test_signals(void **state)
{
        struct caught caught = { .loop = *state };
        struct loop_signal *signal = loop_signal_start(caught.loop, SIGUSR1, catch_it, &caught);

        raise(SIGUSR1);
        loop_run(caught.loop);
        assert_int_equal(caught.count, 2);
        loop_signal_cancel(&signal);
        assert_null(signal);
        loop_signal_cancel(&signal);
}

static void count_and_stop(void *arg)
{
        struct caught *caught = arg;

        caught->count++;
        loop_stop(caught->loop);
}

/* A loop runs again after it was stopped. */
static void test_run_again(void **state)
{
        struct caught caught = { .loop = *state };

        for (unsigned i = 1; i <= 3; i++) {
                loop_post(caught.loop, count_and_stop, &caught);
                loop_run(caught.loop);
                assert_int_equal(caught.count, i);
        }
}

struct turns { struct loop *loop; uint64_t seen[2]; };

static void turn_note(void *arg)
{
        struct turns *turns = arg;
        turns->seen[0] = loop_get_turn(turns->loop);
        loop_stop(turns->loop);
}

/* What is remembered for one turn is never believed in another one, nor outside of the loop. */
static void test_turns(void **state)
{
        struct turns turns = { .loop = *state };
        for (unsigned i = 0; i < 3; i++) {
                assert_int_equal(loop_get_turn(turns.loop), 0);
                loop_post(turns.loop, turn_note, &turns);
                loop_run(turns.loop);
                assert_true(turns.seen[0] > turns.seen[1]);
                turns.seen[1] = turns.seen[0];
        }
}

struct watched { struct loop *loop; struct loop_watch *watch; int fd; unsigned calls; char got[16]; size_t used; };
static void watch_read(void *arg)
{
        struct watched *watched = arg;
        watched->calls++;
        ssize_t got = read(watched->fd, watched->got + watched->used, 1);         /* one at a time: it comes again for the rest */
        assert_true(got >= 0);
        watched->used += (size_t)got;
        if (got == 0) {                           /* a hang-up is readable too */
                loop_watch_cancel(&watched->watch);
                loop_stop(watched->loop);
        }
}

static void test_watch(void **state)
{
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        struct watched watched = { .loop = *state, .fd = ends[0] };
        watched.watch = loop_watch_start(*state, ends[0], watch_read, &watched);
        assert_non_null(watched.watch);
        assert_int_equal(write(ends[1], "abc", 3), 3);
        close(ends[1]);
        loop_run(*state);
        assert_null(watched.watch);
        assert_string_equal(watched.got, "abc");
        assert_int_equal(watched.calls, 4);
        loop_watch_cancel(&watched.watch);        /* nothing inside is fine */
        close(ends[0]);
        /* a regular file is always readable: it cannot be watched */
        FILE *file = tmpfile();
        assert_non_null(file);
        assert_null(loop_watch_start(*state, fileno(file), watch_read, &watched));
        fclose(file);
}

/* Work in slices: each arms itself again with nothing to wait for; what can be read is read in between. */
struct sliced { struct watched watched; struct loop_timer *timers[4]; int write_fd; unsigned slices[2], slices_at_read; char order[8]; };

static void slice_one(void *arg)
{
        struct sliced *sliced = arg;
        if (sliced->slices[0]++ == 0)
                assert_int_equal(write(sliced->write_fd, "x", 1), 1);
        assert_true(sliced->slices[0] < 100);             /* libuv 1.44 would never come to the descriptor */
        loop_timer_again(sliced->timers[0], 0);
}

static void slice_two(void *arg)
{
        struct sliced *sliced = arg;
        sliced->slices[1]++;
        loop_timer_again(sliced->timers[1], 0);
}

static void slice_read(void *arg)
{
        struct sliced *sliced = arg;
        sliced->slices_at_read = sliced->slices[0];
        loop_watch_cancel(&sliced->watched.watch);
        loop_stop(sliced->watched.loop);
}

static void test_slices_let_others_in(void **state)
{
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
        struct sliced sliced = { .watched.loop = *state, .write_fd = ends[1] };
        sliced.watched.watch = loop_watch_start(*state, ends[0], slice_read, &sliced);
        sliced.timers[0] = loop_timer_start(*state, 0, 0, slice_one, &sliced);
        sliced.timers[1] = loop_timer_start(*state, 0, 0, slice_two, &sliced);
        loop_run(*state);
        assert_int_equal(sliced.slices_at_read, 1);
        assert_int_equal(sliced.slices[1], 1);             /* both had their turn */
        loop_timer_cancel(&sliced.timers[0]);
        loop_timer_cancel(&sliced.timers[1]);
        close(ends[0]);
        close(ends[1]);
}

static void slice_kill(void *arg)
{
        struct sliced *sliced = arg;
        strcat(sliced->order, "a");
        loop_timer_cancel(&sliced->timers[1]);            /* waits in the same turn */
        loop_timer_again(sliced->timers[2], 10);          /* this one too, and is put off */
}

static void slice_last(void *arg)
{
        struct sliced *sliced = arg;
        strcat(sliced->order, "d");
}

static void slice_stop(void *arg)
{
        struct sliced *sliced = arg;
        strcat(sliced->order, "c");
        loop_stop(sliced->watched.loop);
}

static void test_timers_of_no_time(void **state)
{
        struct sliced sliced = { .watched.loop = *state };
        sliced.timers[0] = loop_timer_start(*state, 0, 0, slice_kill, &sliced);
        sliced.timers[1] = loop_timer_start(*state, 0, 0, tick_fail, NULL);
        sliced.timers[2] = loop_timer_start(*state, 0, 0, slice_stop, &sliced);
        sliced.timers[3] = loop_timer_start(*state, 1000000, 0, slice_last, &sliced);
        loop_timer_again(sliced.timers[3], 0);             /* brought forward; the last in the list */
        loop_timer_again(sliced.timers[0], 0);             /* armed twice fires once, in its new place */
        loop_timer_again(sliced.timers[1], 0);
        loop_timer_again(sliced.timers[2], 0);
        loop_run(*state);
        assert_string_equal(sliced.order, "dac");
        loop_timer_cancel(&sliced.timers[0]);
        loop_timer_cancel(&sliced.timers[2]);
        loop_timer_again(sliced.timers[3], 0);             /* cancelled while it waits */
        loop_timer_cancel(&sliced.timers[3]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tags_without_loop),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test_setup_teardown(test_jobs, open_loop, close_loop),
                cmocka_unit_test(test_workers), cmocka_unit_test_setup_teardown(test_chain, open_loop, close_loop),
                cmocka_unit_test(test_free_waits),
                cmocka_unit_test_setup_teardown(test_posts_in_order, open_loop, close_loop),
                cmocka_unit_test(test_post_before_free),
                cmocka_unit_test_setup_teardown(test_timer_repeats, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_timer_again, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_timer_cancelled_never_fires, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_signals, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_run_again, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_turns, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_watch, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_slices_let_others_in, open_loop, close_loop),
                cmocka_unit_test_setup_teardown(test_timers_of_no_time, open_loop, close_loop),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
