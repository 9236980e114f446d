/*
 * How it goes: an atomic flag that is cheap to ask, and a lock round the waker, so that a waker that was taken away is never called.
 * How it fails: it does not.
 * How it ends: cancel_free when neither side needs it any more.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <wasmcached/base/cancel.h>
#include <wasmcached/base/memory.h>

struct cancel { atomic_bool is_triggered; pthread_mutex_t lock; void (*wake)(void *arg); void *arg; };

struct cancel *cancel_new(void)
{
        struct cancel *cancel = memory_new(1, sizeof *cancel);

        pthread_mutex_init(&cancel->lock, NULL);
        return cancel;
}

void cancel_free(struct cancel **cancel)
{
        if (*cancel)
                pthread_mutex_destroy(&(*cancel)->lock);
        free(TAKE(*cancel));
}

void cancel_trigger(struct cancel *cancel)
{
        pthread_mutex_lock(&cancel->lock);
        atomic_store(&cancel->is_triggered, true);
        if (cancel->wake)
                cancel->wake(cancel->arg);
        pthread_mutex_unlock(&cancel->lock);
}

bool cancel_is_triggered(const struct cancel *cancel)
{
        return cancel && atomic_load(&cancel->is_triggered);
}

void cancel_set_waker(struct cancel *cancel, void (*wake)(void *arg), void *arg)
{
        if (!cancel)
                return;
        pthread_mutex_lock(&cancel->lock);
        cancel->wake = wake;
        cancel->arg = arg;
        if (wake && atomic_load(&cancel->is_triggered))
                wake(arg);
        pthread_mutex_unlock(&cancel->lock);
}
