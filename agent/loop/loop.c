/*
 * How it goes: one uv_loop_t per struct loop. Other threads reach it by loop_post(): a list under a mutex, and an uv_async_t that wakes the loop, which then takes
 *              the whole list and calls it in order.
 * How it fails: only making it can fail (descriptors, memory); afterwards nothing here has errors.
 * How it ends: loop_free() waits for jobs, calls what is posted, closes the async handle and asserts that uv_loop_close() finds nothing else.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "room.h"
#include <wasmcached/base/thread.h>

enum { WORKERS_MAX = 1024 };                      /* as libuv's own pool has it */

static atomic_uint loops_alive;
static _Thread_local bool is_loop_thread;
static _Thread_local bool is_running;             /* inside loop_run: from here on blocking hurts somebody */

bool loop_is_loop_thread(void)
{
        return is_loop_thread || atomic_load_explicit(&loops_alive, memory_order_relaxed) == 0;
}

/* Not the tag of pool threads alone: a job may have helper threads of its own, and before the loop runs its thread may block too. */
bool loop_is_worker_thread(void)
{
        return !is_running;
}

static void posts_call(struct loop *loop)
{
        uv_mutex_lock(&loop->posts_lock);
        struct post *post = loop->posts_first;
        loop->posts_first = NULL;
        loop->posts_end = &loop->posts_first;
        uv_mutex_unlock(&loop->posts_lock);

        while (post) {
                struct post *next = post->next;
                post->fn(post->arg);
                free(post);
                post = next;
        }
}

static void posted_wake(uv_async_t *handle)
{
        posts_call(CONTAINER_OF(handle, struct loop, posted));
}

void loop_next_turn(struct loop *loop)
{
        loop->turn++;
}

static void turn_begin(uv_prepare_t *handle)
{
        loop_next_turn(CONTAINER_OF(handle, struct loop, turning));
}

uint64_t loop_get_turn(const struct loop *loop)
{
        return is_running ? loop->turn : 0;
}

/* The handles that are open are closed, which takes a turn; nothing else may be left. */
static void loop_close_handles(struct loop *loop)
{
        /* Closing handles are done with after one turn; what is then still there was forgotten by its owner, and waiting for it would hang. */
        for (int turn = 0; turn < 3 && uv_loop_alive(&loop->uv); turn++)
                uv_run(&loop->uv, UV_RUN_NOWAIT);

        int r = uv_loop_close(&loop->uv);
        if (r != 0)
                uv_print_all_handles(&loop->uv, stderr);
        assert(r == 0);
}

static void loop_discard(struct loop *loop)
{
        workers_close(loop);
        uv_close((uv_handle_t *)&loop->posted, NULL);
        loop_close_handles(loop);
        free(loop);
}

bool loop_new(unsigned worker_count, struct loop **ret_loop, struct error *err)
{
        if (worker_count == 0 || worker_count > WORKERS_MAX)
                return refuse(err, ERROR_INTERNAL, "a worker pool of %u threads was asked for; 1 to %d are possible", worker_count, WORKERS_MAX);

        struct loop *loop = memory_new(1, sizeof *loop);
        loop->job_pipe[0] = loop->job_pipe[1] = loop->done_fd = -1;
        int r = uv_loop_init(&loop->uv);
        if (r < 0) {
                free(loop);
                return refuse_errno(err, ERROR_INTERNAL, -r, "making the event loop");
        }
        r = uv_async_init(&loop->uv, &loop->posted, posted_wake);
        if (r < 0) {
                uv_loop_close(&loop->uv);
                free(loop);
                return refuse_errno(err, ERROR_INTERNAL, -r, "making the event loop's wake-up descriptor");
        }
        if (!workers_open(loop, worker_count, err)) {
                loop_discard(loop);
                return false;
        }
        r = uv_mutex_init(&loop->posts_lock);
        assert(r == 0);                           /* a default pthread mutex needs nothing that could lack */
        loop->posts_end = &loop->posts_first;
        loop->turn = 1;
        uv_prepare_init(&loop->uv, &loop->turning);
        uv_prepare_start(&loop->turning, turn_begin);
        uv_unref((uv_handle_t *)&loop->turning);
        soon_open(loop);
        atomic_fetch_add(&loops_alive, 1);
        is_loop_thread = true;
        *ret_loop = loop;
        return true;
}

void loop_run(struct loop *loop)
{
        ON_LOOP();
        is_running = true;
        thread_lead();
        uv_run(&loop->uv, UV_RUN_DEFAULT);
        is_running = false;
}

void loop_stop(struct loop *loop)
{
        ON_LOOP();
        uv_stop(&loop->uv);
}

static bool loop_has_posts(struct loop *loop)
{
        uv_mutex_lock(&loop->posts_lock);
        bool has = loop->posts_first != NULL;
        uv_mutex_unlock(&loop->posts_lock);
        return has;
}

void loop_free(struct loop **loop_ref)
{
        ON_LOOP();
        struct loop *loop = TAKE(*loop_ref);

        if (!loop)
                return;
        while (loop->jobs_running > 0 || loop_has_posts(loop))
                uv_run(&loop->uv, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&loop->posted, NULL);
        uv_close((uv_handle_t *)&loop->turning, NULL);
        uv_close((uv_handle_t *)&loop->soon, NULL);
        uv_close((uv_handle_t *)&loop->done_poll, NULL);
        loop_close_handles(loop);
        workers_close(loop);
        uv_mutex_destroy(&loop->posts_lock);
        free(loop);
        is_loop_thread = false;
        atomic_fetch_sub(&loops_alive, 1);
}

void *loop_get_uv(struct loop *loop)
{
        return &loop->uv;
}

void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg)
{
        struct post *post = memory_new(1, sizeof *post);
        *post = (struct post){ .fn = fn, .arg = arg };

        uv_mutex_lock(&loop->posts_lock);
        *loop->posts_end = post;
        loop->posts_end = &post->next;
        /* Under the lock: once the loop has taken the last post its owner may free it, so nothing may touch the handle after that. */
        uv_async_send(&loop->posted);
        uv_mutex_unlock(&loop->posts_lock);
}
