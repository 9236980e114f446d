/*
 * How it goes: small writes that nobody waits for, each its own job: a revoked grant, a reference whose newer meaning an older pull has overwritten, rows of a blob that is gone.
 * How it fails: told in the log; what is in memory is right and the next pull writes it again.
 * How it ends: the job frees itself.
 */
#include <stdlib.h>
#include "modules.h"

enum row_change { ROW_REVOKE, ROW_REFERENCE, ROW_REMOVE };
struct row_job {
        struct task task;
        enum row_change change;
        struct digest digest, module, top;
        char *texts[3];
        int64_t seconds;
};

static bool row_write(const struct row_job *row, struct error *err)
{
        struct store *store = row->task.modules->store;
        struct store_module module;
        struct store_reference reference = {
                .name = row->texts[0], .top = row->top, .manifest = row->digest, .module = row->module, .etag = row->texts[1], .checked_s = row->seconds
        };
        switch (row->change) {
        case ROW_REVOKE:
                return store_remove_grants(store, &row->digest, row->texts[0], grant_kind_names[GRANT_SECRET], row->texts[1], row->texts[2], err);
        case ROW_REFERENCE:
                return store_commit(store, &(struct store_commit){ .reference = &reference }, &module, err);
        default:
                return store_remove_module(store, &row->digest, row->seconds, err);
        }
}

static void row_run(struct job *job)
{
        ON_WORKER();
        struct row_job *row = CONTAINER_OF(job, struct row_job, task.job);
        struct error err;
        if (!row_write(row, &err))
                LOG_WARN("row not written", LOG_TEXT("detail", err.text));
}

static void row_done(struct job *job)
{
        struct row_job *row = CONTAINER_OF(job, struct row_job, task.job);
        struct modules *modules = row->task.modules;
        for (size_t i = 0; i < COUNT_OF(row->texts); i++)
                free(row->texts[i]);
        free(row);
        task_end(modules);
}

static void row_start(struct modules *modules, const struct row_job *values)
{
        struct row_job *row = memory_new(1, sizeof *row);
        *row = *values;
        task_start(modules, &row->task, row_run, row_done);
}

void grants_revoke_start(struct modules *modules, const struct digest *manifest, const char *repository, const struct grant_owner *owner)
{
        row_start(modules, &(struct row_job){ .change = ROW_REVOKE,
                                   .digest = *manifest,
                                   .texts = { string_copy(repository), string_copy(owner->namespace), string_copy(owner->coordinate) } });
}

void reference_save_start(struct modules *modules, const struct known_reference *reference)
{
        struct row_job row = { .change = ROW_REFERENCE,
                .module = reference->entry->sha256,
                .seconds = reference->checked_s,
                .texts = { string_copy(reference->name), string_copy(reference->etag ? reference->etag : "") } };
        if (reference->image) {
                row.digest = reference->image->manifest;
                row.top = *reference_get_top(reference);
        }
        row_start(modules, &row);
}

void rows_remove_start(struct modules *modules, const struct digest *sha256, int64_t created_s)
{
        row_start(modules, &(struct row_job){ .change = ROW_REMOVE, .digest = *sha256, .seconds = created_s });
}
