/*
 * How it goes: a token that is good for a while yet is copied out; else the first caller exchanges while the others of the same key wait for what it gets.
 * How it fails: those who waited get the error of the one who tried, unless that one was only cancelled or out of time: then the next tries. A cancelled or late waiter
 *               leaves at once.
 * How it ends: entries live in memory only; expired ones go when the map is full, all with the registry.
 *
 * The key holds origin, realm, service, scopes and the login's fingerprint: a token of one tenant is never given to another ([oci] 2.4).
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "room.h"

enum { ENTRIES_MAX = 4096, WAIT_MS_MAX = 1000 };

struct token_entry {
        struct secret *token;                      /* NULL: none */
        int64_t expires_ms;
        bool is_busy;                              /* somebody exchanges */
        unsigned waiters;
        uint64_t round;                            /* finished exchanges */
        struct error failure;                      /* of the last one; ERROR_NONE when it went well */
};

void token_entry_free(void *value)
{
        struct token_entry *entry = value;
        secret_free(&entry->token);
        free(entry);
}

static char *key_format(const struct token_want *want)
{
        char fingerprint[DIGEST_TEXT_BYTES];
        CLEANUP(cleanup_free) char *origin = fetch_url_origin(want->call->endpoint);

        fingerprint_format(want->call->registry, want->call->login, fingerprint);
        return string_format("%s\n%s\n%s\n%s\n%s", origin ? origin : want->call->endpoint, want->realm, want->service ? want->service : "", want->scopes, fingerprint);
}

static bool is_good(const struct token_entry *entry)
{
        return entry->token && clock_get_ms() < entry->expires_ms;
}

static void entries_purge(struct registry *registry, bool all_idle)
{
        const void *key;
        size_t position = 0, key_bytes;
        void *value;

        while (map_next(registry->tokens, &position, &key, &key_bytes, &value)) {
                struct token_entry *entry = value;
                if (!entry->is_busy && entry->waiters == 0 && (all_idle || !is_good(entry)))
                        map_remove(registry->tokens, key, key_bytes);
        }
}

static struct token_entry *entry_get(struct registry *registry, const char *key)
{
        struct token_entry *entry = map_get_text(registry->tokens, key);

        if (entry)
                return entry;
        if (map_get_count(registry->tokens) >= ENTRIES_MAX)
                entries_purge(registry, false);
        if (map_get_count(registry->tokens) >= ENTRIES_MAX)
                entries_purge(registry, true);
        entry = memory_new(1, sizeof *entry);
        map_put_text(registry->tokens, key, entry);
        return entry;
}

static void wait_a_while(struct registry *registry, int64_t deadline_ms)
{
        int64_t left_ms = deadline_ms > 0 ? deadline_ms - clock_get_ms() : WAIT_MS_MAX;
        struct timespec until;

        if (left_ms > WAIT_MS_MAX)
                left_ms = WAIT_MS_MAX;
        if (left_ms <= 0)
                return;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += left_ms / 1000;
        until.tv_nsec += left_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&registry->changed, &registry->lock, &until);
}

/* With the lock held; true when the exchange under way has ended. */
static bool entry_wait(struct token_entry *entry, const struct registry_call *call, struct error *err)
{
        uint64_t round = entry->round;
        bool ok = true;

        entry->waiters++;
        while (ok && entry->round == round) {
                if (cancel_is_triggered(call->cancel))
                        ok = refuse(err, ERROR_BUSY, "cancelled while waiting for a token of %s", call->endpoint);
                else if (call->deadline_ms > 0 && clock_get_ms() >= call->deadline_ms)
                        ok = refuse(err, ERROR_TIMEOUT, "the deadline passed while waiting for a token of %s", call->endpoint);
                else
                        wait_a_while(call->registry, call->deadline_ms);
        }
        entry->waiters--;
        return ok;
}

/* With the lock held, which is given up meanwhile. */
static void entry_exchange(struct token_entry *entry, const struct token_want *want, struct secret **ret_token)
{
        struct registry *registry = want->call->registry;
        struct token_answer answer = { 0 };
        struct error failure = { 0 };

        entry->is_busy = true;
        pthread_mutex_unlock(&registry->lock);
        int64_t start_ms = clock_get_ms();
        bool ok = token_exchange(want, &answer, &failure);
        pthread_mutex_lock(&registry->lock);

        entry->is_busy = false;
        entry->round++;
        entry->failure = failure;
        if (ok) {
                entry->failure.code = ERROR_NONE;
                secret_free(&entry->token);
                entry->token = answer.token;
                entry->expires_ms = start_ms + answer.lifetime_ms;
                *ret_token = secret_copy(answer.token);
        }
        pthread_cond_broadcast(&registry->changed);
}

static bool is_own_failure(enum error_code code)
{
        return code == ERROR_BUSY || code == ERROR_TIMEOUT;
}

static bool token_get_locked(const struct token_want *want, const char *key, struct secret **ret_token, bool *ret_is_fresh, struct error *err)
{
        struct token_entry *entry = entry_get(want->call->registry, key);

        *ret_is_fresh = false;
        while (!is_good(entry)) {
                *ret_is_fresh = true;
                if (!entry->is_busy) {
                        entry_exchange(entry, want, ret_token);
                        if (!*ret_token)
                                *err = entry->failure;
                        return *ret_token != NULL;
                }
                /* Held by the waiter count, so that no purge takes it away. */
                if (!entry_wait(entry, want->call, err))
                        return false;
                if (entry->failure.code == ERROR_NONE && entry->token)
                        break;
                if (entry->failure.code != ERROR_NONE && !is_own_failure(entry->failure.code)) {
                        *err = entry->failure;
                        return false;
                }
        }
        *ret_token = secret_copy(entry->token);
        return true;
}

static void waiters_wake(void *arg)
{
        struct registry *registry = arg;

        pthread_mutex_lock(&registry->lock);
        pthread_cond_broadcast(&registry->changed);
        pthread_mutex_unlock(&registry->lock);
}

bool token_fetch(const struct token_want *want, struct secret **ret_token, bool *ret_is_fresh, struct error *err)
{
        struct registry *registry = want->call->registry;
        CLEANUP(cleanup_free) char *key = key_format(want);
        struct secret *token = NULL;
        bool is_fresh = false;

        /* The one who exchanges has the waker replaced and taken back by fetch meanwhile; it no longer needs it then. */
        if (want->call->cancel)
                cancel_set_waker(want->call->cancel, waiters_wake, registry);
        pthread_mutex_lock(&registry->lock);
        bool ok = token_get_locked(want, key, &token, &is_fresh, err);
        pthread_mutex_unlock(&registry->lock);
        if (want->call->cancel)
                cancel_set_waker(want->call->cancel, NULL, NULL);

        if (!ok)
                return false;
        *ret_token = token;
        *ret_is_fresh = is_fresh;
        return true;
}

void token_drop(const struct token_want *want, const struct secret *token)
{
        struct registry *registry = want->call->registry;
        CLEANUP(cleanup_free) char *key = key_format(want);

        pthread_mutex_lock(&registry->lock);
        struct token_entry *entry = map_get_text(registry->tokens, key);
        if (entry && entry->token && secret_equal(entry->token, token))
                secret_free(&entry->token);
        pthread_mutex_unlock(&registry->lock);
}
