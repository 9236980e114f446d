/*
 * How it goes: what an operator asks for is done at once in memory and then on disk; the answer comes when it is on disk, as a small JSON text.
 * How it fails: something leased, pinned or in use is not removed, and the answer says which of them it is.
 * How it ends: each call answers exactly once.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

static void answer_error(module_done done, void *arg, const struct error *err)
{
        done(arg, NULL, err);
}

static struct entry *find_or_refuse(struct modules *modules, const struct digest *sha256, module_done done, void *arg)
{
        struct entry *entry = catalog_find_entry(&modules->catalog, sha256);
        struct error err;
        if (entry)
                return entry;
        refuse(&err, ERROR_NOT_FOUND, "there is no such module");
        answer_error(done, arg, &err);
        return NULL;
}

static bool refuse_closing(struct modules *modules, module_done done, void *arg)
{
        struct error err;
        if (!modules->is_closing)
                return false;
        refuse(&err, ERROR_BUSY, "the daemon is stopping");
        answer_error(done, arg, &err);
        return true;
}

/* ---- pin ---- */

struct pin_job { struct task task; struct digest sha256; bool is_pinned, is_saved; struct error err; module_done done; void *arg; };

static void pin_run(struct job *job)
{
        ON_WORKER();
        struct pin_job *pin = CONTAINER_OF(job, struct pin_job, task.job);
        pin->is_saved = store_save_pin(pin->task.modules->store, &pin->sha256, pin->is_pinned, &pin->err);
}

static void pin_done(struct job *job)
{
        struct pin_job *pin = CONTAINER_OF(job, struct pin_job, task.job);
        struct modules *modules = pin->task.modules;
        struct entry *entry = catalog_find_entry(&modules->catalog, &pin->sha256);
        if (entry)
                entry->holds--;
        if (entry && pin->is_saved) {
                modules->catalog.pins += (size_t)pin->is_pinned - (size_t)entry->is_pinned;
                entry->is_pinned = pin->is_pinned;
        }
        pin->done(pin->arg, pin->is_saved ? (pin->is_pinned ? "{\"pinned\": true}" : "{\"pinned\": false}") : NULL, pin->is_saved ? NULL : &pin->err);
        free(pin);
        task_end(modules);
}

void module_pin(struct modules *modules, const struct digest *sha256, bool is_pinned, module_done done, void *arg)
{
        ON_LOOP();
        struct entry *entry = refuse_closing(modules, done, arg) ? NULL : find_or_refuse(modules, sha256, done, arg);
        if (!entry)
                return;
        struct pin_job *pin = memory_new(1, sizeof *pin);
        *pin = (struct pin_job){ .sha256 = *sha256, .is_pinned = is_pinned, .done = done, .arg = arg };
        entry->holds++;                           /* not let go between the wish and the row */
        task_start(modules, &pin->task, pin_run, pin_done);
}

/* ---- remove, gc ---- */

/* What is only busy for a moment (its link is being made or taken away after the last lease) is waited for: who gave the lease back may remove at once. */
struct removal { struct modules *modules; struct digest sha256; struct loop_timer *timer; unsigned tries; module_done done; void *arg; };
enum { REMOVAL_TRIES = 100, REMOVAL_PAUSE_MS = 10 };

/* Until the last lease ends, if nobody renews it. */
static unsigned leases_left_s(const struct entry *entry)
{
        int64_t now_ms = clock_get_ms(), last_ms = now_ms;
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next)
                for (const struct lease *lease = handout->leases; lease; lease = lease->next)
                        if (lease->expires_ms > last_ms)
                                last_ms = lease->expires_ms;
        int64_t left_s = (last_ms - now_ms + 999) / 1000;
        return left_s < 1 ? 1 : left_s > UINT_MAX ? UINT_MAX : (unsigned)left_s;
}

static void refuse_obstacle(const struct removal *removal, const struct entry *entry, const char *obstacle)
{
        struct error err;
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(&removal->sha256, hex);
        refuse(&err, ERROR_BUSY, "%s is %s and is not removed; %s", hex, obstacle,
                strcmp(obstacle, "pinned") == 0   ? "unpin it first"
                : strcmp(obstacle, "leased") == 0 ? "its leases must end or be given back first"
                                                  : "try again in a moment");
        if (strcmp(obstacle, "leased") == 0)
                err.retry_after_s = leases_left_s(entry);
        answer_error(removal->done, removal->arg, &err);
}

/* False: it is in use for the moment. Else done() was called, or will be when the file is gone. */
static bool remove_try(struct removal *removal)
{
        struct modules *modules = removal->modules;
        struct entry *entry = refuse_closing(modules, removal->done, removal->arg) ? NULL : find_or_refuse(modules, &removal->sha256, removal->done, removal->arg);
        if (!entry)
                return true;
        const char *obstacle = catalog_get_obstacle(entry);
        if (obstacle && strcmp(obstacle, "in use") == 0 && removal->tries++ < REMOVAL_TRIES)
                return false;
        if (obstacle) {
                refuse_obstacle(removal, entry, obstacle);
                return true;
        }
        char *json = string_format("{\"removed\": true, \"bytes\": %llu}", (unsigned long long)entry->identity.size_bytes);
        evict_entry(modules, entry, "removed");
        leaving_wait(modules, json, removal->done, removal->arg);
        return true;
}

static void remove_again(void *arg)
{
        struct removal *removal = arg;
        struct modules *modules = removal->modules;
        if (!remove_try(removal)) {
                loop_timer_again(removal->timer, REMOVAL_PAUSE_MS);
                return;
        }
        loop_timer_cancel(&removal->timer);
        free(removal);
        task_end(modules);
}

void module_remove(struct modules *modules, const struct digest *sha256, module_done done, void *arg)
{
        ON_LOOP();
        struct removal first = { .modules = modules, .sha256 = *sha256, .done = done, .arg = arg };
        if (remove_try(&first))
                return;
        struct removal *removal = memory_new(1, sizeof *removal);
        *removal = first;
        modules->tasks++;
        removal->timer = loop_timer_start(modules->loop, REMOVAL_PAUSE_MS, 0, remove_again, removal);
}

void module_gc(struct modules *modules, bool dry_run, module_done done, void *arg)
{
        ON_LOOP();
        if (refuse_closing(modules, done, arg))
                return;
        const struct modules_options *options = &modules->setup->options;
        uint64_t freed = 0, target = options->max_size_bytes / 100 * options->low_watermark + options->max_size_bytes % 100 * options->low_watermark / 100;
        size_t count = options->max_size_bytes > 0 ? evict_down_to(modules, target, dry_run, &freed) : 0;
        char *json = string_format("{\"dryRun\": %s, \"modules\": %zu, \"bytes\": %llu, \"used\": %llu, \"budget\": %llu}", dry_run ? "true" : "false", count,
                (unsigned long long)freed, (unsigned long long)(modules->catalog.bytes), (unsigned long long)options->max_size_bytes);
        leaving_wait(modules, json, done, arg);
}

/* ---- verify ---- */

struct verify_all {
        struct modules *modules;
        struct digest *digests;
        size_t count, at, good, failed;
        struct buffer damaged;
        struct json_writer writer;
        module_done done;
        void *arg;
};

static void verify_next(struct verify_all *all);

static void verify_one_done(void *arg, const struct digest *sha256, const struct error *err)
{
        struct verify_all *all = arg;
        if (!err)
                all->good++;
        if (err && (err->code == ERROR_CHECKSUM_MISMATCH || err->code == ERROR_NOT_FOUND)) {
                char hex[DIGEST_TEXT_BYTES];
                digest_format_hex(sha256, hex);
                json_put_text(&all->writer, NULL, hex);
        } else if (err) {
                all->failed++;
        }
        verify_next(all);
}

static void verify_end(struct verify_all *all)
{
        CLEANUP(cleanup_free) char *damaged = buffer_take(&all->damaged);
        CLEANUP(cleanup_free) char *json = string_format("{\"checked\": %zu, \"good\": %zu, \"failed\": %zu, \"damaged\": [%s]}", all->count, all->good, all->failed, damaged);
        all->done(all->arg, json, NULL);
        free(all->digests);
        free(all);
}

static void verify_next(struct verify_all *all)
{
        struct entry *entry = NULL;
        while (!entry && all->at < all->count && !all->modules->is_closing)
                entry = catalog_find_entry(&all->modules->catalog, &all->digests[all->at++]);
        if (entry)
                verify_start(all->modules, entry, 0, verify_one_done, all);
        else
                verify_end(all);
}

void module_verify(struct modules *modules, const struct digest *sha256_or_null, module_done done, void *arg)
{
        ON_LOOP();
        if (refuse_closing(modules, done, arg) || (sha256_or_null && !find_or_refuse(modules, sha256_or_null, done, arg)))
                return;
        struct verify_all *all = memory_new(1, sizeof *all);
        *all = (struct verify_all){ .modules = modules, .done = done, .arg = arg };
        all->writer.out = &all->damaged;
        size_t count = 0;
        struct entry *const *sorted = catalog_get_sorted(&modules->catalog, &count);
        all->digests = memory_new(count + 1, sizeof *all->digests);
        for (size_t i = 0; i < count; i++)
                if (!sha256_or_null || digest_equal(sha256_or_null, &sorted[i]->sha256))
                        all->digests[all->count++] = sorted[i]->sha256;
        verify_next(all);
}

/* ---- refresh ---- */

struct refresh { struct module_want **wants; size_t count, open, same, changed, failed, skipped; struct buffer errors; struct json_writer writer; module_done done; void *arg; };
struct refresh_one { struct refresh *refresh; char *name; char sha256[DIGEST_TEXT_BYTES]; };

static void refresh_end(struct refresh *refresh)
{
        if (--refresh->open > 0)
                return;
        CLEANUP(cleanup_free) char *errors = buffer_take(&refresh->errors);
        CLEANUP(cleanup_free)
        char *json = string_format("{\"asked\": %zu, \"unchanged\": %zu, \"changed\": %zu, \"skipped\": %zu, \"failed\": [%s]}", refresh->count, refresh->same,
                refresh->changed, refresh->skipped, errors);
        refresh->done(refresh->arg, json, NULL);
        free(refresh);
}

static void refresh_answered(void *arg, const struct module_object *object, const struct error *err)
{
        struct refresh_one *one = arg;
        struct refresh *refresh = one->refresh;
        if (err) {
                json_open_map(&refresh->writer, NULL);
                json_put_text(&refresh->writer, "url", one->name);
                json_put_text(&refresh->writer, "code", error_get_row(err->code)->name);
                json_put_text(&refresh->writer, "detail", err->text);
                json_close_map(&refresh->writer);
                refresh->failed++;
        } else if (strcmp(object->sha256, one->sha256) == 0) {
                refresh->same++;
        } else {
                refresh->changed++;
        }
        free(one->name);
        free(one);
        refresh_end(refresh);
}

static void refresh_add(struct refresh *refresh, const struct known_reference *reference)
{
        struct module_want *want = repull_want(reference, MODULE_POLICY_ALWAYS);
        if (!want) {
                refresh->skipped++;
                return;
        }
        refresh->wants = memory_resize(refresh->wants, refresh->count + 1, sizeof *refresh->wants);
        refresh->wants[refresh->count++] = want;
}

static bool refresh_collect(struct modules *modules, const char *url, struct refresh *refresh, struct error *err)
{
        if (!url) {
                for (struct entry *entry = modules->catalog.oldest; entry; entry = entry->newer)
                        for (struct known_reference *reference = entry->references; reference; reference = reference->next)
                                refresh_add(refresh, reference);
                refusals_clear(modules, NULL);
                hosts_clear(modules);
                return true;
        }
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        if (!module_want_again(url, MODULE_POLICY_ALWAYS, NULL, NULL, &want, err))
                return false;
        refusals_clear(modules, want->name);
        hosts_clear(modules);
        struct known_reference *reference = catalog_find_reference(&modules->catalog, want->name);
        if (reference)
                refresh_add(refresh, reference);
        return true;
}

void module_refresh(struct modules *modules, const char *url_or_null, module_done done, void *arg)
{
        ON_LOOP();
        struct error err;
        if (refuse_closing(modules, done, arg))
                return;
        struct refresh *refresh = memory_new(1, sizeof *refresh);
        *refresh = (struct refresh){ .open = 1, .done = done, .arg = arg };
        refresh->writer.out = &refresh->errors;
        if (!refresh_collect(modules, url_or_null, refresh, &err)) {
                free(refresh);
                answer_error(done, arg, &err);
                return;
        }

        struct module_want **wants = TAKE(refresh->wants);
        size_t count = refresh->count;
        for (size_t i = 0; i < count; i++) {
                struct refresh_one *one = memory_new(1, sizeof *one);
                struct known_reference *reference = catalog_find_reference(&modules->catalog, wants[i]->name);
                one->refresh = refresh;
                one->name = string_copy(wants[i]->name);
                if (reference)
                        digest_format_hex(&reference->entry->sha256, one->sha256);
                refresh->open++;
                modules_ask_again(modules, wants[i], refresh_answered, one);
                module_want_unref(&wants[i]);
        }
        free(wants);
        refresh_end(refresh);
}
