/*
 * How it goes: job_start() writes the job's address into a pipe that all workers read from; the one that got it calls run(), puts the job on the list of those that are done and
 *              wakes the loop by an eventfd; the loop takes the whole list, however many there are, and calls their done() in order. Workers are made as long as jobs
 *              wait for one, up to the bound, and stay.
 * How it fails: not at all; a job that fails says so in the struct that it is embedded in. A pipe that is full leaves jobs in a list until some are done. A worker that cannot be
 *              made is missed, but for the first, which is made with the loop.
 * How it ends: done() always comes, exactly once; a job is never taken back, its run() is told to hurry by a cancel flag of its own. Closing the pipe ends the workers.
 *
 * No lock is shared with the loop's thread: workers are niced, and one that the kernel stops inside a lock (or inside uv_async_send(), which the loop then spins for) would
 * stop the hits with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "room.h"
#include <wasmcached/base/thread.h>

/* A started job's `request` is the next one in the list that it is in; the last one's, and one in no list, is the loop: never NULL. */
static struct job *job_next(const struct loop *loop, const struct job *job)
{
        return job->request == loop ? NULL : job->request;
}

/* ---- workers */

static void job_finish(struct loop *loop, struct job *job)
{
        struct job *first = atomic_load_explicit(&loop->done, memory_order_relaxed);
        do
                job->request = first ? (void *)first : (void *)loop;
        while (!atomic_compare_exchange_weak_explicit(&loop->done, &first, job, memory_order_release, memory_order_relaxed));
        /* Every time, not only for the first of a list: whose worker may be stopped before it comes to this. */
        while (write(loop->done_fd, &(uint64_t){ 1 }, sizeof(uint64_t)) < 0 && errno == EINTR)
                ;
}

static void *worker_run(void *arg)
{
        struct loop *loop = arg;
        struct job *job;
        ssize_t got;

        pthread_setname_np(pthread_self(), "worker");
        /* Hits go first: where there are more threads than processors, the loop's does not queue behind inflating and hashing. How nice a worker is thread_place() sees to.
           Threads that it makes inherit both. If it is refused, all are alike. */
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
        while ((got = read(loop->job_pipe[0], &job, sizeof job)) != 0) {
                if (got < 0) {
                        assert(errno == EINTR);
                        continue;
                }
                assert(got == sizeof job);        /* all writes and reads have this size */
                thread_place();
                job->run(job);
                job_finish(loop, job);
        }
        return NULL;
}

/* Signals stay with the loop's thread. */
static bool worker_start(struct loop *loop)
{
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        bool is_started = !fault_hit("loop.thread") && pthread_create(&loop->workers[loop->worker_count], NULL, worker_run, loop) == 0;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        loop->worker_count += is_started;
        return is_started;
}

/* ---- the loop's side */

static bool job_give(struct loop *loop, struct job *job)
{
        ssize_t count;
        while ((count = write(loop->job_pipe[1], &job, sizeof job)) < 0 && errno == EINTR)
                ;
        assert(count == sizeof job || (count < 0 && errno == EAGAIN));
        return count == sizeof job;
}

static void backlog_give(struct loop *loop)
{
        for (struct job *job; (job = loop->backlog) != NULL;) {
                struct job *next = job_next(loop, job);
                job->request = loop;
                if (!job_give(loop, job)) {
                        job->request = next ? (void *)next : (void *)loop;
                        return;
                }
                loop->backlog = next;
        }
        loop->backlog_last = NULL;
}

void job_start(struct loop *loop, struct job *job)
{
        ON_LOOP();
        assert(!job->request);                    /* started twice */
        job->request = loop;
        loop->jobs_running++;
        if (loop->worker_count < loop->jobs_running && loop->worker_count < loop->worker_max)
                worker_start(loop);
        if (!loop->backlog && job_give(loop, job))
                return;
        if (loop->backlog)
                loop->backlog_last->request = job;
        else
                loop->backlog = job;
        loop->backlog_last = job;
}

/* The list has the last one first. */
static struct job *done_take(struct loop *loop)
{
        struct job *list = atomic_exchange_explicit(&loop->done, NULL, memory_order_acquire), *first = NULL;
        while (list) {
                struct job *next = job_next(loop, list);
                list->request = first ? (void *)first : (void *)loop;
                first = list;
                list = next;
        }
        return first;
}

static void done_ready(uv_poll_t *poll, int status, int events)
{
        struct loop *loop = CONTAINER_OF(poll, struct loop, done_poll);
        uint64_t count;
        (void)status;
        (void)events;

        if (read(loop->done_fd, &count, sizeof count) < 0)
                return;                           /* EAGAIN: woken twice for one */
        struct job *job = done_take(loop);
        backlog_give(loop);
        while (job) {
                struct job *next = job_next(loop, job);
                loop->jobs_running--;
                job->request = NULL;
                job->done(job);
                job = next;
        }
}

unsigned job_get_running(const struct loop *loop)
{
        return loop->jobs_running;
}

/* ---- life */

bool workers_open(struct loop *loop, unsigned worker_max, struct error *err)
{
        loop->worker_max = worker_max;
        loop->workers = memory_new(worker_max, sizeof *loop->workers);
        loop->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        bool is_open = loop->done_fd >= 0 && pipe2(loop->job_pipe, O_CLOEXEC) == 0 && fcntl(loop->job_pipe[1], F_SETFL, O_NONBLOCK) == 0;
        if (!is_open)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making the descriptors of the workers");
        if (!worker_start(loop))
                return refuse(err, ERROR_INTERNAL, "making the first worker thread: the limit of threads or memory is reached");
        int r = uv_poll_init(&loop->uv, &loop->done_poll, loop->done_fd);
        assert(r == 0);                           /* fails only for descriptors that epoll does not take */
        uv_poll_start(&loop->done_poll, UV_READABLE, done_ready);
        return true;
}

void workers_close(struct loop *loop)
{
        cleanup_close(&loop->job_pipe[1]);
        for (unsigned i = 0; i < loop->worker_count; i++)
                pthread_join(loop->workers[i], NULL);
        cleanup_close(&loop->job_pipe[0]);
        cleanup_close(&loop->done_fd);
        free(TAKE(loop->workers));
}
