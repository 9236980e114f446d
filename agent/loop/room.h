/* Inside of loop: what its files share. */
#pragma once
#include <uv.h>
#include <wasmcached/loop.h>

struct post { struct post *next; void (*fn)(void *arg); void *arg; };

struct loop {
        uv_loop_t uv;
        unsigned jobs_running;
        uv_prepare_t turning;
        uint64_t turn;

        uv_async_t posted;
        uv_mutex_t posts_lock;                    /* guards the two below */
        struct post *posts_first, **posts_end;
};
