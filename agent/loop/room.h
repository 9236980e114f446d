/* Inside of loop: what its files share. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>
#include <wasmcached/loop.h>

struct post { struct post *next; void (*fn)(void *arg); void *arg; };

struct loop {
        uv_loop_t uv;
        unsigned jobs_running;
        uv_prepare_t turning;
        uint64_t turn;

        /* timer.c */
        uv_idle_t soon;                           /* runs while there are timers that want the next turn */
        struct loop_timer *soon_first, **soon_end;
        uint64_t soon_round;

        uv_async_t posted;
        uv_mutex_t posts_lock;                    /* guards the two below */
        struct post *posts_first, **posts_end;

        /* job.c */
        int job_pipe[2], done_fd;
        uv_poll_t done_poll;
        struct job *backlog, *backlog_last;       /* started while the pipe was full */
        _Atomic(struct job *) done;               /* ran, the last one first */
        pthread_t *workers;
        unsigned worker_count, worker_max;
};

/* ---- timer.c; the handle is the loop's to close */
void soon_open(struct loop *loop);

/* ---- job.c; workers_close() after the last job, when done_poll is closed or was never opened */
bool workers_open(struct loop *loop, unsigned worker_max, struct error *err);
void workers_close(struct loop *loop);
