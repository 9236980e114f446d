/*
 * How it goes: a descriptor that the loop polls, level-triggered: the function is called again and again until what is there has been read.
 * How it fails: a descriptor that epoll does not take (a regular file) gives NULL; an error or hang-up counts as readable, so that the reader meets it.
 * How it ends: cancelling stops polling at once; libuv gives the memory back one turn of the loop later.
 */
#include <stdlib.h>
#include "room.h"

struct loop_watch { uv_poll_t uv; void (*readable)(void *arg); void *arg; };

static void watch_polled(uv_poll_t *uv, int status, int events)
{
        struct loop_watch *watch = CONTAINER_OF(uv, struct loop_watch, uv);

        (void)status;
        (void)events;
        watch->readable(watch->arg);
}

static void watch_closed(uv_handle_t *handle)
{
        free(CONTAINER_OF(handle, struct loop_watch, uv));
}

struct loop_watch *loop_watch_start(struct loop *loop, int fd, void (*readable)(void *arg), void *arg)
{
        ON_LOOP();
        struct loop_watch *watch = memory_new(1, sizeof *watch);

        watch->readable = readable;
        watch->arg = arg;
        if (uv_poll_init(&loop->uv, &watch->uv, fd) < 0) {
                free(watch);
                return NULL;
        }
        int r = uv_poll_start(&watch->uv, UV_READABLE, watch_polled);
        assert(r == 0);                           /* fails only for handles that are closing */
        return watch;
}

void loop_watch_cancel(struct loop_watch **watch)
{
        if (!*watch)
                return;
        ON_LOOP();
        uv_close((uv_handle_t *)&TAKE(*watch)->uv, watch_closed);
}
