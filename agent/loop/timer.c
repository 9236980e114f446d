/*
 * How it goes: a timer or a signal is a libuv handle with the caller's function behind it. A timer of no time at all waits in a list for the next turn, which an idle handle
 *              runs: libuv before 1.45 fires a timer that arms itself with 0 again and again without looking at any descriptor, and work done in slices would stop all hits.
 * How it fails: watching a signal number that does not exist is a mistake in our code, hence an assertion.
 * How it ends: cancelling closes the handle at once for the caller; libuv gives the memory back one turn of the loop later.
 */
#include <stdlib.h>
#include "room.h"

struct loop_timer {
        uv_timer_t uv;
        void (*fire)(void *arg); void *arg;
        struct loop *loop;
        struct loop_timer *soon_next, **soon_at;  /* at: NULL = in no list */
        uint64_t soon_round;                      /* the one that it was armed in: fires in a later one */
};
struct loop_signal { uv_signal_t uv; void (*caught)(void *arg); void *arg; };

/* ---- no time at all */

static void soon_leave(struct loop_timer *timer)
{
        struct loop *loop = timer->loop;
        if (!timer->soon_at)
                return;
        *timer->soon_at = timer->soon_next;
        if (timer->soon_next)
                timer->soon_next->soon_at = timer->soon_at;
        else
                loop->soon_end = timer->soon_at;
        timer->soon_at = NULL;
}

static void soon_run(uv_idle_t *idle)
{
        struct loop *loop = CONTAINER_OF(idle, struct loop, soon);
        loop->soon_round++;
        for (struct loop_timer *timer; (timer = loop->soon_first) != NULL && timer->soon_round < loop->soon_round;) {
                soon_leave(timer);
                timer->fire(timer->arg);
        }
        if (!loop->soon_first)
                uv_idle_stop(&loop->soon);
}

static void soon_join(struct loop_timer *timer)
{
        struct loop *loop = timer->loop;
        timer->soon_round = loop->soon_round;
        timer->soon_next = NULL;
        timer->soon_at = loop->soon_end;
        *loop->soon_end = timer;
        loop->soon_end = &timer->soon_next;
        uv_idle_start(&loop->soon, soon_run);
}

void soon_open(struct loop *loop)
{
        loop->soon_end = &loop->soon_first;
        uv_idle_init(&loop->uv, &loop->soon);
}

/* ---- timers */

static void timer_fired(uv_timer_t *uv)
{
        struct loop_timer *timer = CONTAINER_OF(uv, struct loop_timer, uv);

        timer->fire(timer->arg);
}

static void timer_arm(struct loop_timer *timer, int64_t after_ms, int64_t repeat_ms)
{
        soon_leave(timer);
        if (after_ms <= 0 && repeat_ms <= 0) {
                uv_timer_stop(&timer->uv);
                soon_join(timer);
                return;
        }
        /* libuv counts from when this turn of the loop began, which is long ago after a long turn or a slow start. */
        uv_update_time(timer->uv.loop);
        int r = uv_timer_start(&timer->uv, timer_fired, after_ms > 0 ? (uint64_t)after_ms : 0, repeat_ms > 0 ? (uint64_t)repeat_ms : 0);
        assert(r == 0);
}

struct loop_timer *loop_timer_start(struct loop *loop, int64_t after_ms, int64_t repeat_ms, void (*fire)(void *arg), void *arg)
{
        ON_LOOP();
        struct loop_timer *timer = memory_new(1, sizeof *timer);

        timer->fire = fire;
        timer->arg = arg;
        timer->loop = loop;
        uv_timer_init(&loop->uv, &timer->uv);
        timer_arm(timer, after_ms, repeat_ms);
        return timer;
}

void loop_timer_again(struct loop_timer *timer, int64_t after_ms)
{
        ON_LOOP();
        timer_arm(timer, after_ms, 0);
}

static void timer_closed(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct loop_timer, uv));
}

void loop_timer_cancel(struct loop_timer **timer)
{
        if (!*timer)
                return;
        ON_LOOP();
        soon_leave(*timer);
        uv_close((uv_handle_t *)&TAKE(*timer)->uv, timer_closed);
}

static void signal_caught(uv_signal_t *uv, int number)
{
        struct loop_signal *signal = CONTAINER_OF(uv, struct loop_signal, uv);

        (void)number;
        signal->caught(signal->arg);
}

struct loop_signal *loop_signal_start(struct loop *loop, int signal_number, void (*caught)(void *arg), void *arg)
{
        ON_LOOP();
        struct loop_signal *signal = memory_new(1, sizeof *signal);

        signal->caught = caught;
        signal->arg = arg;
        int r = uv_signal_init(&loop->uv, &signal->uv);
        assert(r == 0);
        r = uv_signal_start(&signal->uv, signal_caught, signal_number);
        assert(r == 0);
        return signal;
}

static void signal_closed(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct loop_signal, uv));
}

void loop_signal_cancel(struct loop_signal **signal)
{
        if (!*signal)
                return;
        ON_LOOP();
        uv_close((uv_handle_t *)&TAKE(*signal)->uv, signal_closed);
}
