/*
 * How it goes: a worker and its helper (one receives or inflates, the other hashes) are both busy, and the kernel is slow to give them a processor each: it places a thread by
 *              the load of the processors, of niced threads that is next to nothing, and where few processors are mostly busy a wake-up does not look for the idle one
 *              (SIS_UTIL). A pair of them was seen to share one for 20 ms while the other idled. So of few processors each gets a half; of many the helper is only kept off
 *              the one where its worker began. While the thread that answers hits is busy, workers and helpers keep off its processor instead, and are nicer: that costs a
 *              pull little, and a hit does not wait for one. How busy it is its processor time tells, so it pays nothing for being watched.
 * How it fails: without the right to set affinity, or with one processor, the kernel's choice will do. Without the right to be less nice again a worker stays as nice as it was
 *              beside hits; then pulls are a little slower behind a registry on the same machine.
 * How it ends: the process's first thread is never placed, and what it may use is what there is to choose from: when an operator (taskset) or the kubelet (cpusets) changes that,
 *              the next look follows.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <wasmcached/base/clock.h>
#include <wasmcached/base/thread.h>

enum {
        HELPERS_MAX = 4, FEW_PROCESSORS = 4, BUSY_PERCENT = 25,
        NICER_ALONE = 3, NICER_BESIDE_HITS = 10,  /* than the first thread: half and a tenth of its weight */
        LOOK_US = 3 * 1000,                       /* between two looks */
        STALE_US = 200 * 1000,                    /* a look longer ago says nothing of now: the next one decides */
        HOLD_US = 200 * 1000,                     /* busy for as long after the last look that said so: hits come in bursts */
        FIND_US = 100 * 1000,                     /* between two questions where it runs: all that flees moves then */
};

/* By a system call filter, perhaps: not tried again for each pull. */
static atomic_bool is_forbidden;

/* The thread that answers, and what the looks said; used_us < 0: not known. */
static struct { atomic_int tid, processor; atomic_bool is_busy; _Atomic int64_t looked_us, used_us, busy_us, found_us; } lead;

/* Of the calling worker: `mine` and `others` are what it and its helpers have now. */
static _Thread_local struct { pthread_t helpers[HELPERS_MAX]; unsigned count; cpu_set_t mine, others; int64_t placed_us; int nicer; } crew;

void thread_lead(void)
{
        atomic_store(&lead.tid, gettid());
}

/* Its clock has the number that pthread_getcpuclockid() would give for it, which takes a pthread_t that may be gone. */
static int64_t lead_used_us(void)
{
        struct timespec used;
        unsigned tid = (unsigned)atomic_load(&lead.tid);
        return tid != 0 && clock_gettime((clockid_t)(~tid << 3 | 6), &used) == 0 ? used.tv_sec * 1000000LL + used.tv_nsec / 1000 : -1;
}

/* proc_pid_stat(5): the 39th field, counted from the name in parentheses, which is the second. -1: not known. */
static int lead_find(void)
{
        char path[48], text[512];
        snprintf(path, sizeof path, "/proc/self/task/%d/stat", atomic_load(&lead.tid));
        FILE *file = fopen(path, "re");
        if (!file)
                return -1;
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        fclose(file);
        const char *at = strrchr(text, ')');
        for (int field = 2; at && field < 39; field++)
                at = strchr(at + 1, ' ');
        return at ? atoi(at + 1) : -1;
}

/* One look for all workers. */
static void lead_look(int64_t now_us)
{
        int64_t before_us = atomic_load(&lead.looked_us);
        if (now_us - before_us < LOOK_US || !atomic_compare_exchange_strong(&lead.looked_us, &before_us, now_us))
                return;
        int64_t used_us = lead_used_us(), used_before_us = atomic_exchange(&lead.used_us, used_us);
        bool is_known = used_us >= 0 && used_before_us >= 0 && now_us - before_us < STALE_US;
        if (is_known && (used_us - used_before_us) * 100 > (now_us - before_us) * BUSY_PERCENT) {
                if (now_us - atomic_load(&lead.found_us) > FIND_US) {
                        atomic_store(&lead.processor, lead_find());
                        atomic_store(&lead.found_us, now_us);
                }
                atomic_store(&lead.busy_us, now_us);
                atomic_store(&lead.is_busy, true);
        } else if (now_us - atomic_load(&lead.busy_us) > HOLD_US) {
                atomic_store(&lead.is_busy, false);
        }
}

/* The half of `all` that has `here`, and the other one. */
static void halves_make(const cpu_set_t *all, int here, cpu_set_t *ret_mine, cpu_set_t *ret_others)
{
        cpu_set_t half[2];
        int number = 0, mine = 0, first = (CPU_COUNT(all) + 1) / 2;
        CPU_ZERO(&half[0]);
        CPU_ZERO(&half[1]);
        for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
                if (CPU_ISSET(cpu, all)) {
                        int which = number++ >= first;
                        CPU_SET(cpu, &half[which]);
                        if (cpu == here)
                                mine = which;
                }
        *ret_mine = half[mine];
        *ret_others = half[!mine];
}

/* False: there is nothing to choose from, or no right to. */
static bool sets_choose(bool has_helper, cpu_set_t *ret_mine, cpu_set_t *ret_others)
{
        cpu_set_t all;
        int here = sched_getcpu(), taken = -1;
        if (atomic_load(&is_forbidden) || here < 0 || sched_getaffinity(getpid(), sizeof all, &all) != 0 || CPU_COUNT(&all) < 2)
                return false;
        if (atomic_load(&lead.is_busy))
                taken = atomic_load(&lead.processor);

        *ret_mine = *ret_others = all;
        if (taken >= 0 && taken < CPU_SETSIZE && CPU_ISSET(taken, &all)) {
                CPU_CLR(taken, ret_mine);
                CPU_CLR(taken, ret_others);
        } else if (has_helper && CPU_COUNT(&all) <= FEW_PROCESSORS) {
                halves_make(&all, here, ret_mine, ret_others);
        } else if (has_helper && crew.count == 0) {
                CPU_CLR(here, ret_others);
        } else if (has_helper) {
                CPU_AND(ret_others, &all, &crew.others);
        }
        return true;
}

static void sets_apply(const cpu_set_t *mine, const cpu_set_t *others)
{
        if (!CPU_EQUAL(mine, &crew.mine) && gettid() != getpid()) {
                if (sched_setaffinity(0, sizeof *mine, mine) != 0 && errno == EPERM)
                        atomic_store(&is_forbidden, true);
                crew.mine = *mine;
        }
        for (unsigned i = 0; i < crew.count && !CPU_EQUAL(others, &crew.others); i++)
                pthread_setaffinity_np(crew.helpers[i], sizeof *others, others);
        crew.others = *others;
}

/* Helpers are as nice as their worker was when they were started. */
static void nice_apply(void)
{
        int nicer = atomic_load(&lead.is_busy) ? NICER_BESIDE_HITS : NICER_ALONE;
        if (nicer == crew.nicer || gettid() == getpid())
                return;
        setpriority(PRIO_PROCESS, (id_t)gettid(), getpriority(PRIO_PROCESS, (id_t)getpid()) + nicer);
        crew.nicer = nicer;
}

void thread_place(void)
{
        cpu_set_t mine, others;
        int64_t now_us = clock_get_us();
        if (now_us - crew.placed_us < LOOK_US)
                return;
        crew.placed_us = now_us;
        lead_look(now_us);
        nice_apply();
        if (sets_choose(crew.count > 0, &mine, &others))
                sets_apply(&mine, &others);
}

static bool start_placed(void *(*run)(void *arg), void *arg, pthread_t *ret_helper)
{
        cpu_set_t mine, others;
        pthread_attr_t attributes;
        if (crew.count == HELPERS_MAX || !sets_choose(true, &mine, &others) || pthread_attr_init(&attributes) != 0)
                return false;
        int failure = pthread_attr_setaffinity_np(&attributes, sizeof others, &others);
        if (failure == 0)
                failure = pthread_create(ret_helper, &attributes, run, arg);
        pthread_attr_destroy(&attributes);
        if (failure == EPERM)
                atomic_store(&is_forbidden, true);
        if (failure != 0)
                return false;
        sets_apply(&mine, &others);
        crew.helpers[crew.count++] = *ret_helper;
        return true;
}

bool thread_start(void *(*run)(void *arg), void *arg, pthread_t *ret_helper)
{
        sigset_t every, before;
        sigfillset(&every);
        pthread_sigmask(SIG_SETMASK, &every, &before);
        bool is_started = start_placed(run, arg, ret_helper) || pthread_create(ret_helper, NULL, run, arg) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        return is_started;
}

void thread_join(pthread_t helper)
{
        cpu_set_t mine, others;
        pthread_join(helper, NULL);
        for (unsigned i = 0; i < crew.count; i++)
                if (pthread_equal(crew.helpers[i], helper)) {
                        crew.helpers[i] = crew.helpers[--crew.count];
                        break;
                }
        if (crew.count == 0 && sets_choose(false, &mine, &others))
                sets_apply(&mine, &others);
}
