/*
 * How it goes: a blob is hashed again by a worker, at once for an operator, slowly and one after the other in the background. The file may be handed out meanwhile.
 * How it fails: a damaged blob has been put aside by the store; it leaves the catalog and is asked for again under one of its names.
 * How it ends: closing cancels what runs.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"

struct verify_job {
        struct task task;
        struct digest sha256;
        uint64_t rate_bytes;
        bool is_good;
        struct error err;
        struct store_identity identity;
        verified done; void *arg;
};

struct module_want *repull_want(const struct known_reference *reference, enum module_policy policy)
{
        struct module_want *want = NULL;
        struct error err;
        const struct grant *grant = reference->image ? reference->image->grants : reference->entry->grants;
        while (grant && (grant->kind == GRANT_INLINE || grant->kind == GRANT_IMPORT || !grant_names(grant, reference->name)))
                grant = grant->next;
        if (!grant)
                return NULL;
        bool is_secret = grant->kind == GRANT_SECRET;
        CLEANUP(cleanup_free) char *secret = is_secret ? string_copy_bytes(grant->secret, coordinate_name_length(grant->secret)) : NULL;
        module_want_again(reference->name, policy, is_secret ? grant->namespace : NULL, secret, &want, &err);
        return want;
}

static void repulled(void *arg, const struct module_object *object, const struct error *err)
{
        (void)arg;
        (void)object;
        if (err)
                LOG_WARN("not pulled again", LOG_TEXT("detail", err->text));
}

static void verify_run(struct job *job)
{
        ON_WORKER();
        struct verify_job *verify = CONTAINER_OF(job, struct verify_job, task.job);
        struct modules *modules = verify->task.modules;
        verify->is_good = store_verify(modules->store, &verify->sha256, verify->rate_bytes, modules->verify_cancel, &verify->identity, &verify->err);
}

static void drop_damaged(struct modules *modules, struct entry *entry, const struct error *err)
{
        struct module_want *want = NULL;
        for (const struct known_reference *reference = entry->references; reference && !want; reference = reference->next)
                want = repull_want(reference, MODULE_POLICY_IF_NOT_PRESENT);
        if (entry->is_busy)
                entry->is_doomed = true;
        else
                modules_drop_entry(modules, entry, "quarantined", err->text);
        if (want && !modules->is_closing)
                modules_ask_again(modules, want, repulled, NULL);
        module_want_unref(&want);
}

static void verify_done(struct job *job)
{
        struct verify_job *verify = CONTAINER_OF(job, struct verify_job, task.job);
        struct modules *modules = verify->task.modules;
        struct entry *entry = catalog_find_entry(&modules->catalog, &verify->sha256);
        if (entry) {
                entry->holds--;
                modules->stats.scrubbed_bytes += verify->is_good ? entry->identity.size_bytes : 0;
                /* Also a file that only looks different is what it should be: its bytes were proved. */
                if (verify->is_good && !entry->is_busy && store_check_identity(modules->store, &entry->sha256, NULL, &verify->identity))
                        entry->identity = verify->identity;
                if (!verify->is_good && (verify->err.code == ERROR_CHECKSUM_MISMATCH || verify->err.code == ERROR_NOT_FOUND))
                        drop_damaged(modules, entry, &verify->err);
        }
        verify->done(verify->arg, &verify->sha256, verify->is_good ? NULL : &verify->err);
        free(verify);
        task_end(modules);
}

void verify_start(struct modules *modules, struct entry *entry, uint64_t rate_bytes, verified done, void *arg)
{
        struct verify_job *verify = memory_new(1, sizeof *verify);
        verify->sha256 = entry->sha256;
        verify->rate_bytes = rate_bytes;
        verify->done = done;
        verify->arg = arg;
        entry->holds++;
        task_start(modules, &verify->task, verify_run, verify_done);
}

/* ---- the scrub ---- */

static void scrub_done(void *arg, const struct digest *sha256, const struct error *err)
{
        struct modules *modules = arg;
        (void)err;
        modules->is_scrubbing = false;
        modules->scrub_at = *sha256;
}

void scrub_step(struct modules *modules, int64_t now_ms)
{
        uint64_t rate = modules->setup->options.scrub_rate_bytes;
        if (modules->load)
                return;
        if (rate == 0 || modules->is_scrubbing || now_ms < modules->scrub_next_ms)
                return;

        size_t count, i = 0;
        struct entry *const *sorted = catalog_get_sorted(&modules->catalog, &count);
        for (size_t high = count; i < high;) {
                size_t middle = i + (high - i) / 2;
                if (memcmp(sorted[middle]->sha256.bytes, modules->scrub_at.bytes, DIGEST_SHA256_BYTES) <= 0)
                        i = middle + 1;
                else
                        high = middle;
        }
        if (i == count) {
                modules->scrub_at = (struct digest){ 0 };
                modules->scrub_next_ms = now_ms + SCRUB_PAUSE_MS;
                return;
        }
        modules->is_scrubbing = true;
        verify_start(modules, sorted[i], rate, scrub_done, modules);
}
