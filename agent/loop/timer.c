/*
 * How it goes: a timer or a signal is a libuv handle with the caller's function behind it.
 * How it fails: watching a signal number that does not exist is a mistake in our code, hence an assertion.
 * How it ends: cancelling closes the handle at once for the caller; libuv gives the memory back one turn of the loop later.
 */
#include <stdlib.h>
#include "room.h"

struct loop_timer { uv_timer_t uv; void (*fire)(void *arg); void *arg; };
struct loop_signal { uv_signal_t uv; void (*caught)(void *arg); void *arg; };

static void timer_fired(uv_timer_t *uv)
{
        struct loop_timer *timer = CONTAINER_OF(uv, struct loop_timer, uv);

        timer->fire(timer->arg);
}

static void timer_arm(struct loop_timer *timer, int64_t after_ms, int64_t repeat_ms)
{
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
