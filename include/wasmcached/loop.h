/*
 * loop: the one event loop (libuv), and the jobs that run on workers and return here.
 * Everything here is for the loop thread unless it says "any thread". The loop owns every object that lives longer than a job.
 */
#pragma once
#include <assert.h>
#include <stdbool.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct loop;

/* At most `worker_count` worker threads, made as they are needed; makes the calling thread the loop thread. */
bool loop_new(unsigned worker_count, struct loop **ret_loop, struct error *err);
void loop_run(struct loop *loop);                 /* until loop_stop() */
void loop_stop(struct loop *loop);
/* Runs what is left, then asserts that nothing is: every timer, watch and signal cancelled, every job done. */
void loop_free(struct loop **loop);
/* Another one after each time that the loop waited (or could have): what was looked up in this turn need not be looked up again for the next request of the same batch.
   0 outside of loop_run(): no turn, nothing may be remembered. */
uint64_t loop_get_turn(const struct loop *loop);
void loop_next_turn(struct loop *loop);           /* for serve, which waits by itself */
void *loop_get_uv(struct loop *loop);             /* uv_loop_t *, for serve */

bool loop_is_loop_thread(void);
bool loop_is_worker_thread(void);
/* First line of functions of that kind. Both hold in a program that has no loop (unit tests of worker rooms). */
#define ON_LOOP() assert(loop_is_loop_thread())
#define ON_WORKER() assert(loop_is_worker_thread())

/* Embedded in its owner, which must outlive done(). run() on a worker; done() on the loop afterwards, always. */
struct job { void (*run)(struct job *job); void (*done)(struct job *job); void *request; };
void job_start(struct loop *loop, struct job *job);
unsigned job_get_running(const struct loop *loop);

struct loop_timer;
/* First call after `after_ms`, then every `repeat_ms` (0 = once; the timer stays until cancelled all the same). */
struct loop_timer *loop_timer_start(struct loop *loop, int64_t after_ms, int64_t repeat_ms, void (*fire)(void *arg), void *arg);
void loop_timer_again(struct loop_timer *timer, int64_t after_ms);         /* re-arms, once */
void loop_timer_cancel(struct loop_timer **timer);                          /* NULL inside is fine; never fires again */

struct loop_signal;
struct loop_signal *loop_signal_start(struct loop *loop, int signal_number, void (*caught)(void *arg), void *arg);
void loop_signal_cancel(struct loop_signal **signal);

/* readable(arg) as long as there is something to read from `fd`, which is the caller's and stays open until the watch is cancelled. NULL: it cannot be watched (a file). */
struct loop_watch;
struct loop_watch *loop_watch_start(struct loop *loop, int fd, void (*readable)(void *arg), void *arg);
void loop_watch_cancel(struct loop_watch **watch);                         /* NULL inside is fine; not called again */

/* Any thread: calls fn(arg) once on the loop, in order of posting. */
void loop_post(struct loop *loop, void (*fn)(void *arg), void *arg);
