/*
 * How it goes: the loop waits in libmicrohttpd's epoll, of which libuv's own is one entry: a prepare handle runs libmicrohttpd before libuv polls, again as long as requests come,
 *              and an idle handle sees to it that libuv then but looks. Timers bound the wait; jobs, signals and new connections end it.
 * How it fails: with a libmicrohttpd whose epoll entries we do not know it is the other way round, as libuv would have it: its epoll is one entry of libuv's.
 * How it ends: with the handles, before the daemon of libmicrohttpd is stopped.
 *
 * Why not the other way round: an event that passes from one epoll to another is no longer known to come from somebody who is about to wait for the answer (WF_SYNC), so the
 * kernel wakes us on another processor or lets us queue behind what computes there. Measured: a round trip takes a tenth longer, and the slowest hundredth of the hits beside
 * pulls twice as long. And each turn costs one system call more.
 */
#include <string.h>
#include <sys/epoll.h>
#include "room.h"

enum { RUNS_PER_TURN = 16 };

int64_t serve_now_ms(struct serve *serve)
{
        if (serve->is_late) {                     /* libuv's time is of before the wait */
                serve->is_late = false;
                uv_update_time(serve->uv);
        }
        return (int64_t)uv_now(serve->uv);
}

/* True when requests were answered: others have come meanwhile, most likely. */
static bool drive_once(struct serve *serve, int timeout_ms)
{
        uint64_t before = serve->stats.requests;
        loop_next_turn(serve->loop);
        serve->is_late = true;
        MHD_run_wait(serve->mhd, timeout_ms);
        connection_watch_unsent(serve);
        return serve->stats.requests != before;
}

void serve_run_mhd(struct serve *serve)
{
        MHD_UNSIGNED_LONG_LONG timeout = 1;

        if (serve->in_run || serve->is_closed)
                return;
        serve->in_run = true;
        drive_once(serve, 0);
        if (MHD_get_timeout(serve->mhd, &timeout) != MHD_YES)
                timeout = 1;
        serve->in_run = false;
        if (timeout == 0)
                serve_run_soon(serve);
        stream_tell_gone(serve);
        serve_sweep_arm(serve);
}

static void nothing(uv_idle_t *idle)
{
        (void)idle;
}

/* How long libuv would wait, were it not for our idle handle; -1 = for ever; 0 also as long as it has descriptors that it has yet to put into its epoll. */
static int wait_get_ms(struct serve *serve)
{
        uv_update_time(serve->uv);
        uv_idle_stop(&serve->glance);
        int timeout_ms = uv_backend_timeout(serve->uv);
        uv_idle_start(&serve->glance, nothing);
        return timeout_ms;
}

static void wait_prepared(uv_prepare_t *prepare)
{
        struct serve *serve = CONTAINER_OF(prepare, struct serve, wait);

        if (serve->in_run || serve->is_closed)
                return;
        serve->in_run = true;
        for (int i = 0; i < RUNS_PER_TURN && drive_once(serve, wait_get_ms(serve)); i++)
                ;
        serve->in_run = false;
        serve->is_late = false;                   /* libuv looks at the clock as it polls */
        stream_tell_gone(serve);
        serve_sweep_arm(serve);
}

static void mhd_ready(uv_poll_t *poll, int status, int events)
{
        (void)status;
        (void)events;
        serve_run_mhd(CONTAINER_OF(poll, struct serve, mhd_poll));
}

/* libmicrohttpd's entries hold the address of its connection; NULL is what it wakes itself by, and means nothing else. */
static bool version_is_known(void)
{
        const char *version = MHD_get_version();
        return !fault_hit("serve.version") && strcmp(version, "0.9.75") == 0;      /* the one whose source was read; with another the plain way is taken */
}

void serve_drive(struct serve *serve)
{
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

        assert(!serve->uv->data);                 /* another one would wait where it does not hear of us */
        serve->uv->data = serve;
        serve->mhd_fd = MHD_get_daemon_info(serve->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
        uv_prepare_init(serve->uv, &serve->wait);
        uv_idle_init(serve->uv, &serve->glance);
        int r = uv_poll_init(serve->uv, &serve->mhd_poll, serve->mhd_fd);
        assert(r == 0);                           /* fails for descriptors that epoll does not take; this is epoll's own */
        serve->knows_mhd = version_is_known() && epoll_ctl(serve->mhd_fd, EPOLL_CTL_ADD, uv_backend_fd(serve->uv), &event) == 0;
        if (serve->knows_mhd) {
                uv_prepare_start(&serve->wait, wait_prepared);
                uv_idle_start(&serve->glance, nothing);
        } else {
                uv_poll_start(&serve->mhd_poll, UV_READABLE, mhd_ready);
        }
}
