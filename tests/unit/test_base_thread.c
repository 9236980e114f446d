/* A helper that no signal comes to; where it and its worker may run, on one processor and on several, beside a thread that answers and is busy, and when the operator narrows it. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

enum { TURNS_MAX = 2000 };

struct seen { sigset_t blocked; atomic_bool is_ending; atomic_int tid; };

static void pause_ms(long ms)
{
        clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

static void *help(void *arg)
{
        struct seen *seen = arg;
        pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
        atomic_store(&seen->tid, gettid());
        while (!atomic_load(&seen->is_ending))
                pause_ms(1);
        return NULL;
}

static cpu_set_t allowed(pid_t tid)
{
        cpu_set_t set;
        assert_int_equal(sched_getaffinity(tid, sizeof set, &set), 0);
        return set;
}

static void helper_start(struct seen *seen, pthread_t *ret_helper)
{
        *seen = (struct seen){ 0 };
        assert_true(thread_start(help, seen, ret_helper));
        for (int turn = 0; turn < TURNS_MAX && atomic_load(&seen->tid) == 0; turn++)
                pause_ms(1);
        assert_int_not_equal(atomic_load(&seen->tid), 0);
}

static void helper_end(struct seen *seen, pthread_t helper)
{
        atomic_store(&seen->is_ending, true);
        thread_join(helper);
}

/* Worker and helper have a half each of few processors; of many the helper lacks one. */
static bool is_apart(const cpu_set_t *all, const cpu_set_t *mine, const cpu_set_t *others)
{
        cpu_set_t both, any;
        CPU_AND(&both, mine, others);
        CPU_OR(&any, mine, others);
        if (CPU_COUNT(all) == 1)
                return CPU_EQUAL(mine, all) && CPU_EQUAL(others, all);
        if (CPU_COUNT(all) <= 4)
                return CPU_COUNT(&both) == 0 && CPU_EQUAL(&any, all) && CPU_COUNT(mine) > 0 && CPU_COUNT(others) > 0;
        return CPU_EQUAL(mine, all) && CPU_COUNT(others) == CPU_COUNT(all) - 1;
}

/* What the tests do runs on a thread of its own, as workers do: the first thread is the measure. */
static void *worker_apart(void *arg)
{
        struct seen one, two;
        pthread_t first, second;
        sigset_t before, after;
        cpu_set_t all = allowed(getpid());
        (void)arg;
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        helper_start(&one, &first);
        helper_start(&two, &second);
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        cpu_set_t mine = allowed(gettid()), others = allowed(one.tid), more = allowed(two.tid);
        assert_true(is_apart(&all, &mine, &others));
        assert_true(CPU_EQUAL(&others, &more));
        for (int number = 1; number < 32; number++) {
                assert_int_equal(sigismember(&before, number), sigismember(&after, number));
                if (number != SIGKILL && number != SIGSTOP)
                        assert_int_equal(sigismember(&one.blocked, number), 1);
        }
        helper_end(&one, first);
        mine = allowed(gettid());
        assert_true(is_apart(&all, &mine, &others));
        helper_end(&two, second);
        mine = allowed(gettid());
        assert_true(CPU_EQUAL(&mine, &all));
        return arg;
}

static void run(void *(*worker)(void *arg))
{
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, worker, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
}

static cpu_set_t first_of(const cpu_set_t *all)
{
        cpu_set_t one;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
                if (CPU_ISSET(cpu, all))
                        CPU_SET(cpu, &one);
        return one;
}

static void test_apart(void **state)
{
        (void)state;
        cpu_set_t all = allowed(0), one = first_of(&all);
        run(worker_apart);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        run(worker_apart);
        assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

/* The measure is narrowed and widened while a helper works: the worker follows. */
static void *worker_narrowed(void *arg)
{
        struct seen seen;
        pthread_t helper;
        cpu_set_t all = allowed(getpid()), one = first_of(&all);
        helper_start(&seen, &helper);
        assert_int_equal(sched_setaffinity(getpid(), sizeof one, &one), 0);
        helper_end(&seen, helper);
        assert_int_equal(sched_setaffinity(getpid(), sizeof all, &all), 0);
        pause_ms(5);
        thread_place();
        cpu_set_t mine = allowed(gettid());
        assert_true(CPU_EQUAL(&mine, &all));
        return arg;
}

static void test_narrowed(void **state)
{
        (void)state;
        run(worker_narrowed);
}

static atomic_bool is_spinning;

static void *spin(void *arg)
{
        thread_lead();
        cpu_set_t *on = arg;
        assert_int_equal(sched_setaffinity(0, sizeof *on, on), 0);
        while (atomic_load(&is_spinning))
                ;
        for (int turn = 0; turn < 2 * TURNS_MAX && !atomic_load(&is_spinning); turn++)       /* until it is set once more: at rest */
                pause_ms(1);
        return NULL;
}

static bool keeps_off(const cpu_set_t *set, const cpu_set_t *taken)
{
        cpu_set_t both;
        CPU_AND(&both, set, taken);
        return CPU_COUNT(&both) == 0;
}

static void *worker_aside(void *arg)
{
        struct seen seen;
        pthread_t helper, busy;
        cpu_set_t all = allowed(getpid()), taken = first_of(&all), mine, others;
        if (CPU_COUNT(&all) < 2)
                return arg;
        atomic_store(&is_spinning, true);
        assert_int_equal(pthread_create(&busy, NULL, spin, &taken), 0);
        helper_start(&seen, &helper);
        int turn = 0;
        do {
                pause_ms(1);
                thread_place();
                mine = allowed(gettid());
                others = allowed(seen.tid);
        } while (++turn < TURNS_MAX && !(keeps_off(&mine, &taken) && keeps_off(&others, &taken)));
        assert_true(turn < TURNS_MAX);
        int first = getpriority(PRIO_PROCESS, (id_t)getpid()), beside = getpriority(PRIO_PROCESS, (id_t)gettid());
        assert_int_equal(beside, first + 10);
        bool may_be_less = setpriority(PRIO_PROCESS, (id_t)gettid(), beside - 1) == 0;

        /* At rest: a half each again. */
        atomic_store(&is_spinning, false);
        turn = 0;
        do {
                pause_ms(1);
                thread_place();
                mine = allowed(gettid());
                others = allowed(seen.tid);
        } while (++turn < TURNS_MAX && CPU_COUNT(&all) <= 4 && !is_apart(&all, &mine, &others));
        assert_true(turn < TURNS_MAX);
        assert_int_equal(getpriority(PRIO_PROCESS, (id_t)gettid()), may_be_less ? first + 3 : beside);
        atomic_store(&is_spinning, true);
        helper_end(&seen, helper);
        pthread_join(busy, NULL);
        return arg;
}

static void test_aside(void **state)
{
        (void)state;
        run(worker_aside);
}

/* The first thread is the measure of all others: a helper of it is placed, it is not. */
static void test_first_thread(void **state)
{
        (void)state;
        struct seen seen;
        pthread_t helper;
        cpu_set_t before = allowed(0);
        helper_start(&seen, &helper);
        cpu_set_t within = allowed(0);
        helper_end(&seen, helper);
        cpu_set_t after = allowed(0);
        assert_true(CPU_EQUAL(&before, &within));
        assert_true(CPU_EQUAL(&before, &after));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_apart), cmocka_unit_test(test_narrowed), cmocka_unit_test(test_aside), cmocka_unit_test(test_first_thread),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
