/*
 * How it goes: what is there and counts is handed out by reference; else the first caller loads while the others of the same key wait for what it gets.
 * How it fails: those who waited get the failure of the one who tried, unless that one was only cancelled or out of time: then the next tries. A waiter's own cancel ends its wait.
 * How it ends: what is past its use goes at a purge or when the cache is full; all of it with the cache, when nobody is inside any more.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "room.h"

enum { WAIT_MS = 1000 };

struct cache { struct cache_options options; pthread_mutex_t lock; pthread_cond_t changed; struct map *entries; };

struct slot {
        struct cache_entry held;
        bool is_busy;
        unsigned waiters;
        uint64_t round;                    /* loads that ended */
        struct error failure;              /* of the last load, kept or not */
};

static _Thread_local void (*unref_value)(void *value);      /* map's free function has no argument of ours */

static void slot_free(void *pointer)
{
        struct slot *slot = pointer;
        if (slot->held.value)
                unref_value(slot->held.value);
        free(slot);
}

struct cache *cache_new(const struct cache_options *options)
{
        struct cache *cache = memory_new(1, sizeof *cache);
        pthread_condattr_t attributes;
        cache->options = *options;
        cache->entries = map_new(slot_free);
        pthread_mutex_init(&cache->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&cache->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        return cache;
}

void cache_free(struct cache **reference)
{
        struct cache *cache = TAKE(*reference);
        if (!cache)
                return;
        unref_value = cache->options.unref;
        map_free(&cache->entries);
        pthread_cond_destroy(&cache->changed);
        pthread_mutex_destroy(&cache->lock);
        free(cache);
}

int64_t cache_now_ms(const struct cache *cache)
{
        return cache->options.now_ms ? cache->options.now_ms() : clock_get_ms();
}

static void purge_locked(struct cache *cache, bool all_idle)
{
        const void *key;
        size_t position = 0, key_bytes;
        void *value;
        int64_t now_ms = cache_now_ms(cache);
        unref_value = cache->options.unref;
        while (map_next(cache->entries, &position, &key, &key_bytes, &value)) {
                struct slot *slot = value;
                if (!slot->is_busy && slot->waiters == 0 && (all_idle || now_ms >= slot->held.until_ms))
                        map_remove(cache->entries, key, key_bytes);
        }
}

void cache_purge(struct cache *cache)
{
        pthread_mutex_lock(&cache->lock);
        purge_locked(cache, false);
        pthread_mutex_unlock(&cache->lock);
}

static struct slot *slot_get(struct cache *cache, const char *key)
{
        struct slot *slot = map_get_text(cache->entries, key);
        if (slot)
                return slot;
        if (map_get_count(cache->entries) >= cache->options.entries_max)
                purge_locked(cache, false);
        if (map_get_count(cache->entries) >= cache->options.entries_max)
                purge_locked(cache, true);
        slot = memory_new(1, sizeof *slot);
        map_put_text(cache->entries, key, slot);
        return slot;
}

static bool is_own_failure(enum error_code code)
{
        return code == ERROR_BUSY || code == ERROR_TIMEOUT;
}

/* With the lock held, which is given up meanwhile; the slot is busy, so nobody takes it away. */
static void slot_load(struct cache *cache, struct slot *slot, const struct cache_want *want)
{
        struct cache_entry previous = slot->held, fresh = { .loaded_ms = cache_now_ms(cache) };
        slot->is_busy = true;
        if (previous.value)
                cache->options.ref(previous.value);
        pthread_mutex_unlock(&cache->lock);
        want->load(want->arg, &previous, &fresh);
        if (previous.value)
                cache->options.unref(previous.value);
        pthread_mutex_lock(&cache->lock);

        slot->is_busy = false;
        slot->round++;
        slot->failure = fresh.value ? (struct error){ 0 } : fresh.failure;
        if (fresh.value || !is_own_failure(fresh.failure.code)) {
                if (slot->held.value)
                        cache->options.unref(slot->held.value);
                slot->held = fresh;
        }
        pthread_cond_broadcast(&cache->changed);
}

static void wait_a_while(struct cache *cache, int64_t left_ms)
{
        struct timespec until;
        left_ms = left_ms < WAIT_MS ? left_ms : WAIT_MS;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += left_ms / 1000;
        until.tv_nsec += left_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&cache->changed, &cache->lock, &until);
}

/* With the lock held; true when the load under way has ended. */
static bool slot_wait(struct cache *cache, struct slot *slot, const struct cache_want *want, struct error *err)
{
        uint64_t round = slot->round;
        bool good = true;
        slot->waiters++;
        while (good && slot->round == round) {
                int64_t left_ms = want->deadline_ms > 0 ? want->deadline_ms - clock_get_ms() : WAIT_MS;
                if (cancel_is_triggered(want->cancel))
                        good = refuse(err, ERROR_BUSY, "cancelled");
                else if (left_ms <= 0)
                        good = refuse(err, ERROR_TIMEOUT, "the deadline passed while another request asked the Kubernetes API for the same");
                else
                        wait_a_while(cache, left_ms);
        }
        slot->waiters--;
        return good;
}

static bool is_good(const struct cache *cache, const struct slot *slot, const struct cache_want *want)
{
        return slot->held.loaded_ms > want->after_ms && cache_now_ms(cache) < slot->held.expires_ms;
}

static bool cache_get_locked(struct cache *cache, const struct cache_want *want, void **ret_value, int64_t *ret_loaded_ms, struct error *err)
{
        struct slot *slot = slot_get(cache, want->key);
        while (!is_good(cache, slot, want)) {
                bool is_loader = !slot->is_busy;
                if (is_loader)
                        slot_load(cache, slot, want);
                else if (!slot_wait(cache, slot, want, err))
                        return false;
                if (is_loader || !is_own_failure(slot->failure.code)) {
                        if (slot->failure.code != ERROR_NONE) {
                                *err = slot->failure;
                                return false;
                        }
                        break;                     /* what was loaded for this caller, or while it waited, is good enough */
                }
        }
        if (!slot->held.value) {
                *err = slot->held.failure;
                return false;
        }
        *ret_value = cache->options.ref(slot->held.value);
        if (ret_loaded_ms)
                *ret_loaded_ms = slot->held.loaded_ms;
        return true;
}

bool cache_find(struct cache *cache, const char *key, void **ret_value, struct error *ret_failure)
{
        pthread_mutex_lock(&cache->lock);
        const struct slot *slot = map_get_text(cache->entries, key);
        bool found = slot && cache_now_ms(cache) < slot->held.expires_ms;
        if (found) {
                *ret_value = slot->held.value ? cache->options.ref(slot->held.value) : NULL;
                if (!slot->held.value)
                        *ret_failure = slot->held.failure;
        }
        pthread_mutex_unlock(&cache->lock);
        return found;
}

bool cache_shorten(struct cache *cache, const char *key, int64_t keep_ms)
{
        pthread_mutex_lock(&cache->lock);
        struct slot *slot = map_get_text(cache->entries, key);
        if (slot && slot->held.expires_ms > slot->held.loaded_ms + keep_ms)
                slot->held.expires_ms = slot->held.loaded_ms + keep_ms;
        bool counts = slot && cache_now_ms(cache) < slot->held.expires_ms;
        pthread_mutex_unlock(&cache->lock);
        return counts;
}

static void waiters_wake(void *arg)
{
        struct cache *cache = arg;
        pthread_mutex_lock(&cache->lock);
        pthread_cond_broadcast(&cache->changed);
        pthread_mutex_unlock(&cache->lock);
}

bool cache_get(struct cache *cache, const struct cache_want *want, void **ret_value, int64_t *ret_loaded_ms, struct error *err)
{
        /* Who loads has the waker replaced and taken back by fetch meanwhile, and no longer needs it then. */
        cancel_set_waker(want->cancel, waiters_wake, cache);
        pthread_mutex_lock(&cache->lock);
        bool good = cache_get_locked(cache, want, ret_value, ret_loaded_ms, err);
        pthread_mutex_unlock(&cache->lock);
        cancel_set_waker(want->cancel, NULL, NULL);
        return good;
}
