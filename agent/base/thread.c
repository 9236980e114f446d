/*
 * How it goes: the caller is about to be busy, so the new thread should not queue behind it. The kernel places a thread by the load of the processors, and of niced threads that
 *              is next to nothing: a pair of them was seen to share one processor for 20 ms while the other idled. So the new thread starts with the caller's processor left
 *              out and gets all of them back at once: it then wakes up where it was last.
 * How it fails: without the right to set affinity, or with one processor, the kernel's choice will do.
 * How it ends: the thread is its starter's to join.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <wasmcached/base/thread.h>

/* By a system call filter, perhaps: not tried again for each pull. */
static atomic_bool is_forbidden;

static bool start_elsewhere(void *(*run)(void *arg), void *arg, pthread_t *ret_thread)
{
        cpu_set_t all, others;
        pthread_attr_t attributes;
        int here = sched_getcpu();
        if (atomic_load(&is_forbidden) || here < 0 || here >= CPU_SETSIZE || sched_getaffinity(0, sizeof all, &all) != 0)
                return false;
        others = all;
        CPU_CLR(here, &others);
        if (CPU_COUNT(&others) == 0 || pthread_attr_init(&attributes) != 0)
                return false;
        int failure = pthread_attr_setaffinity_np(&attributes, sizeof others, &others);
        if (failure == 0)
                failure = pthread_create(ret_thread, &attributes, run, arg);
        pthread_attr_destroy(&attributes);
        if (failure == 0)
                pthread_setaffinity_np(*ret_thread, sizeof all, &all);
        if (failure == EPERM)
                atomic_store(&is_forbidden, true);
        return failure == 0;
}

bool thread_start(void *(*run)(void *arg), void *arg, pthread_t *ret_thread)
{
        sigset_t every, before;
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        bool is_started = start_elsewhere(run, arg, ret_thread) || pthread_create(ret_thread, NULL, run, arg) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return is_started;
}
