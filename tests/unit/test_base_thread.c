/* A thread that no signal comes to and that may run wherever its starter may, on one processor and on several. */
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

struct seen { sigset_t blocked; cpu_set_t allowed; };

static void *look(void *arg)
{
        struct seen *seen = arg;
        pthread_sigmask(SIG_SETMASK, NULL, &seen->blocked);
        for (int patience = 0; patience < 200; patience++) {       /* the starter gives all of them back right after the start */
                sched_getaffinity(0, sizeof seen->allowed, &seen->allowed);
                cpu_set_t process;
                sched_getaffinity(getpid(), sizeof process, &process);
                if (CPU_EQUAL(&process, &seen->allowed))
                        break;
                clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = 10000000 }, NULL);
        }
        return arg;
}

static void check(void)
{
        struct seen seen;
        sigset_t before, after;
        cpu_set_t mine;
        pthread_t thread;
        void *returned = NULL;
        pthread_sigmask(SIG_SETMASK, NULL, &before);
        assert_true(thread_start(look, &seen, &thread));
        pthread_sigmask(SIG_SETMASK, NULL, &after);
        assert_int_equal(pthread_join(thread, &returned), 0);
        assert_ptr_equal(returned, &seen);
        assert_int_equal(sched_getaffinity(0, sizeof mine, &mine), 0);
        assert_true(CPU_EQUAL(&mine, &seen.allowed));
        for (int number = 1; number < 32; number++) {
                assert_int_equal(sigismember(&before, number), sigismember(&after, number));
                if (number != SIGKILL && number != SIGSTOP)
                        assert_int_equal(sigismember(&seen.blocked, number), 1);
        }
}

static void test_thread(void **state)
{
        (void)state;
        cpu_set_t all, one;
        check();
        assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
                if (CPU_ISSET(cpu, &all))
                        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
        check();
        assert_int_equal(sched_setaffinity(0, sizeof all, &all), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_thread) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
