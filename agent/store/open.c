/*
 * How it goes: root and lock, index, recovery; then the store answers.
 * How it fails: everything that was opened is closed again. A full disk during recovery is no failure: hits go on, what could not be repaired waits for the next start.
 * How it ends: store_close() after the last user; the index is marked as orderly ended.
 */
#include <stdlib.h>
#include "inside.h"

static struct store *store_new(void)
{
        struct store *store = memory_new(1, sizeof *store);
        store->root_fd = store->lock_fd = store->blobs_fd = store->modules_fd = store->tmp_fd = store->quarantine_fd = -1;
        for (size_t i = 0; i < STORE_STRIPES; i++)
                pthread_mutex_init(&store->names[i], NULL);

        pthread_mutexattr_t recursive;
        pthread_mutexattr_init(&recursive);
        pthread_mutexattr_settype(&recursive, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init(&store->index.lock, &recursive);
        pthread_mutexattr_destroy(&recursive);
        return store;
}

static bool recover(struct store *store, const struct store_options *options, const struct index_found *found, struct store_report *report, struct error *err)
{
        struct store_report links = { 0 }, blobs = { 0 };
        if (!store_recover(store, found, &links, err))
                return false;
        bool is_good = (options->settles_later && store_is_large(store)) || store_settle(store, NULL, &blobs, err);
        blobs.removed = links.removed;
        blobs.quarantined += links.quarantined;
        *report = blobs;
        return is_good;
}

bool store_open(const struct store_options *options, struct store **ret_store, struct store_report *ret_report, struct error *err)
{
        CLEANUP(store_close) struct store *store = store_new();
        struct index_found found = { 0 };
        struct store_report report = { 0 };
        if (!root_open(store, options->root, err) || !index_open(store, &found, err)) {
                store->index.is_failed = true;            /* closing it is no orderly end */
                return false;
        }
        *err = (struct error){ 0 };               /* of attempts that were made good */
        secret_open(store);

        bool is_good = store->is_read_only || recover(store, options, &found, &report, err);
        if (!is_good && err->code == ERROR_STORE_FULL && reserve_release(store))
                is_good = recover(store, options, &found, &report, err);
        if (!is_good && store->index.is_corrupt)  /* damage that only showed up now */
                is_good = index_discard(store, err) && index_open(store, &found, err) && recover(store, options, &found, &report, err);
        if (!is_good) {
                if (err->code != ERROR_STORE_FULL) {
                        store->index.is_failed = true;    /* nor is this */
                        return false;
                }
                LOG_WARN("store_recovery_incomplete", LOG_TEXT("detail", err->text));
                *err = (struct error){ 0 };
        }
        reserve_make(store);
        report.index_rebuilt = found.is_rebuilt && report.adopted > 0;
        *ret_store = TAKE(store);
        *ret_report = report;
        return true;
}

void store_close(struct store **store)
{
        struct store *gone = TAKE(*store);
        if (!gone)
                return;
        index_close(gone);
        secret_free(&gone->seal_key);
        root_close(gone);
        pthread_mutex_destroy(&gone->index.lock);
        for (size_t i = 0; i < STORE_STRIPES; i++)
                pthread_mutex_destroy(&gone->names[i]);
        free(gone);
}

const void *store_get_key(const struct store *store)
{
        return store->key;
}
