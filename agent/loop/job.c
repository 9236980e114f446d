/*
 * How it goes: job_start() queues run() on libuv's pool; when it returned, done() is called on the loop.
 * How it fails: not at all; a job that fails says so in the struct that it is embedded in.
 * How it ends: done() always comes, exactly once; a job is never taken back, its run() is told to hurry by a cancel flag of its own.
 */
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include "room.h"

enum { WORKER_NICE = 10 };                        /* a tenth of the weight of the loop's thread; within the service's cgroup only, so a busy node does not starve pulls */

struct job_request { uv_work_t work; struct loop *loop; struct job *job; };

/* Hits go first: where there are more threads than processors, the loop's does not queue behind inflating and hashing. Threads that a worker makes inherit it. */
static void worker_yield(void)
{
        static _Thread_local bool is_done;

        if (is_done)
                return;
        is_done = true;
        sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 });
        setpriority(PRIO_PROCESS, (id_t)gettid(), WORKER_NICE);       /* if it is refused, all are alike */
}

static void job_run(uv_work_t *work)
{
        struct job *job = CONTAINER_OF(work, struct job_request, work)->job;

        worker_yield();
        job->run(job);
}

static void job_ran(uv_work_t *work, int status)
{
        struct job_request *request = CONTAINER_OF(work, struct job_request, work);
        struct job *job = request->job;

        assert(status == 0);                      /* nobody calls uv_cancel() */
        request->loop->jobs_running--;
        job->request = NULL;
        free(request);
        job->done(job);
}

void job_start(struct loop *loop, struct job *job)
{
        ON_LOOP();
        assert(!job->request);                    /* started twice */
        struct job_request *request = memory_new(1, sizeof *request);

        request->loop = loop;
        request->job = job;
        job->request = request;
        loop->jobs_running++;
        int r = uv_queue_work(&loop->uv, &request->work, job_run, job_ran);
        assert(r == 0);                           /* fails only without a callback */
}

unsigned job_get_running(const struct loop *loop)
{
        return loop->jobs_running;
}
