/*
 * How it goes: one lease per namespace, module and asker, renewed by asking again. A row says up to ten seconds more than was promised, so that a busy proxy does not write one
 *              at each hit; what changed is saved in one transaction soon after. A new link's first lease is saved by the
 *              hand-out itself, that of a new module by its commit.
 * How it fails: rows that cannot be written are tried again; the promise in memory holds meanwhile.
 * How it ends: expiry or release; the last lease of a namespace takes its link away, the module stays until its room is needed.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

enum { RETRY_MS = 5000, TOUCH_BATCH = 4096 };

/* ---- what is to be saved ---- */

static void touch_arm(struct modules *modules, int64_t after_ms)
{
        if (!modules->is_touch_running && !modules->is_touch_armed && !modules->is_closing) {
                modules->is_touch_armed = true;
                loop_timer_again(modules->touch_timer, after_ms);
        }
}

void lease_note_dirty(struct modules *modules, struct lease *lease)
{
        if (lease->is_dirty)
                return;
        lease->is_dirty = true;
        buffer_append(&modules->dirty, lease->id, STORE_LEASE_ID_BYTES);
        touch_arm(modules, TOUCH_MS);
}

void entry_note_used(struct modules *modules, struct entry *entry)
{
        bool was_dirty = entry->is_used_dirty;
        catalog_use(&modules->catalog, entry, clock_get_wall_s());
        if (was_dirty || !entry->is_used_dirty)
                return;
        buffer_append(&modules->used, &entry->sha256, sizeof entry->sha256);
        touch_arm(modules, TOUCH_MS);
}

/* ---- leases ---- */

/* What rows say beyond the promise. */
static int64_t slack_get_ms(const struct modules *modules)
{
        int64_t part_ms = modules->setup->options.lease_ms / 8;
        return part_ms < LEASE_SLACK_MS ? part_ms : LEASE_SLACK_MS;
}

static int64_t row_get_expires_s(const struct modules *modules, int64_t expires_s)
{
        return expires_s + (slack_get_ms(modules) + 999) / 1000;
}

void lease_to_row(const struct modules *modules, const struct lease *lease, struct store_lease *ret_row, char ret_holder[20])
{
        snprintf(ret_holder, 20, "%016" PRIx64, lease->holder);
        *ret_row = (struct store_lease){ .module = lease->handout->entry->sha256, .expires_s = row_get_expires_s(modules, lease->expires_s), .holder = ret_holder };
        memcpy(ret_row->id, lease->id, sizeof ret_row->id);
        memcpy(ret_row->namespace, lease->handout->namespace, sizeof ret_row->namespace);
}

void lease_extend(struct modules *modules, struct lease *lease, bool exactly)
{
        int64_t lease_ms = modules->setup->options.lease_ms, slack_ms = slack_get_ms(modules);
        int64_t expires_ms = clock_get_ms() + lease_ms;
        if (!exactly && expires_ms - lease->expires_ms < (slack_ms < LEASE_STEP_MS ? slack_ms : LEASE_STEP_MS))
                return;
        lease->expires_ms = expires_ms;
        lease->expires_s = clock_get_wall_s() + (lease_ms + 999) / 1000;
        if (expires_ms - lease->saved_ms < slack_ms)
                return;
        lease->saved_ms = expires_ms;
        lease_note_dirty(modules, lease);
}

static void lease_name(char ret_id[STORE_LEASE_ID_BYTES])
{
        uint8_t bytes[16];
        random_bytes(bytes, sizeof bytes);
        hex_format(bytes, sizeof bytes, ret_id);
}

void lease_plan(struct modules *modules, const struct ask *ask, const struct digest *module, struct first_handout *ret_first)
{
        int64_t lease_ms = modules->setup->options.lease_ms;
        int64_t expires_s = clock_get_wall_s() + (lease_ms + 999) / 1000;
        *ret_first = (struct first_handout){ .is_wanted = true, .holder = ask->holder, .expires_ms = clock_get_ms() + lease_ms, .expires_s = expires_s };
        ret_first->lease = (struct store_lease){ .module = *module, .expires_s = row_get_expires_s(modules, expires_s), .holder = ret_first->holder_text };
        snprintf(ret_first->holder_text, sizeof ret_first->holder_text, "%016" PRIx64, ask->holder);
        snprintf(ret_first->lease.namespace, sizeof ret_first->lease.namespace, "%s", ask->handout_namespace);
        lease_name(ret_first->lease.id);
}

struct lease *lease_keep(struct modules *modules, struct entry *entry, const struct first_handout *first)
{
        struct lease *lease = catalog_put_lease(&modules->catalog, entry, first->lease.namespace, first->lease.id, first->holder);
        lease->expires_ms = lease->saved_ms = first->expires_ms;
        lease->expires_s = first->expires_s;
        return lease;
}

struct lease *lease_make(struct modules *modules, struct entry *entry, const char *namespace, uint64_t holder)
{
        struct handout *handout = catalog_find_handout(entry, namespace);
        struct lease *lease = handout ? catalog_find_lease(handout, holder) : NULL;
        if (!lease) {
                char id[STORE_LEASE_ID_BYTES];
                lease_name(id);
                lease = catalog_put_lease(&modules->catalog, entry, namespace, id, holder);
        }
        lease_extend(modules, lease, false);
        return lease;
}

void lease_end(struct modules *modules, struct lease *lease)
{
        struct handout *handout = lease->handout;
        buffer_append(&modules->ended, lease->id, STORE_LEASE_ID_BYTES);
        touch_arm(modules, TOUCH_MS);
        catalog_remove_lease(&modules->catalog, &lease);
        if (handout->lease_count == 0 && handout->is_linked)
                handout_take_away(modules, handout);
        else if (handout->lease_count == 0 && !handout->entry->is_busy)
                handout_drop(handout->entry, handout->namespace);
}

/* A hand-out that did not come about leaves no promise behind. */
void leases_forget(struct modules *modules, struct handout *handout)
{
        while (handout && handout->leases) {
                struct lease *lease = handout->leases;
                buffer_append(&modules->ended, lease->id, STORE_LEASE_ID_BYTES);
                catalog_remove_lease(&modules->catalog, &lease);
        }
}

void leases_sweep(struct modules *modules, int64_t now_ms)
{
        if (now_ms < modules->next_lease_sweep_ms)
                return;
        int64_t every_ms = modules->setup->options.lease_ms / 16;
        modules->next_lease_sweep_ms = now_ms + (every_ms < SWEEP_MS ? SWEEP_MS : every_ms > 15000 ? 15000 : every_ms);

        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        CLEANUP(buffer_fini) struct buffer over = { 0 };
        while (map_next(modules->catalog.leases, &position, &key, &key_bytes, &value)) {
                struct lease *lease = value;
                if (lease->expires_ms <= now_ms)
                        buffer_append(&over, &lease, sizeof lease);
        }
        for (size_t at = 0; at < over.used; at += sizeof(struct lease *)) {
                struct lease *lease;
                memcpy(&lease, over.data + at, sizeof lease);
                lease_end(modules, lease);
        }
        if (modules->untaken_links)
                handouts_sweep(modules);
}

/* Links whose last lease ended while a worker had the file. */
void handouts_sweep(struct modules *modules)
{
        modules->untaken_links = false;
        for (struct entry *entry = modules->catalog.oldest; entry; entry = entry->newer)
                for (struct handout *handout = entry->handouts; handout; handout = handout->next)
                        if (handout->lease_count == 0 && handout->is_linked) {
                                if (entry->is_busy)
                                        modules->untaken_links = true;
                                else {
                                        handout_take_away(modules, handout);
                                        break;
                                }
                        }
}

static bool lease_may(const struct module_caller *caller, const struct lease *lease)
{
        return caller->is_trusted || caller->is_admin || string_equal(caller->namespace, lease->handout->namespace);
}

static struct lease *lease_find(struct modules *modules, const struct module_caller *caller, const char *id, struct error *err)
{
        struct lease *lease = catalog_find_lease_id(&modules->catalog, id);
        if (lease && lease_may(caller, lease) && lease->expires_ms > clock_get_ms())
                return lease;
        refuse(err, ERROR_NOT_FOUND, "there is no such lease: it expired, was given back, or is not yours; ask for the module again");
        return NULL;
}

bool module_lease_renew(struct modules *modules, const struct module_caller *caller, const char *id, int64_t *ret_expires_s, struct error *err)
{
        ON_LOOP();
        struct lease *lease = lease_find(modules, caller, id, err);
        if (!lease)
                return false;
        lease_extend(modules, lease, true);
        entry_note_used(modules, lease->handout->entry);
        *ret_expires_s = lease->expires_s;
        return true;
}

bool module_lease_end(struct modules *modules, const struct module_caller *caller, const char *id, struct error *err)
{
        ON_LOOP();
        struct lease *lease = lease_find(modules, caller, id, err);
        if (!lease)
                return false;
        lease_end(modules, lease);
        return true;
}

/* ---- saving ---- */

struct touch {
        struct task task;
        struct store_lease *leases; char (*holders)[20]; size_t lease_count;
        struct buffer ended;
        struct store_module *used; size_t used_count;
        bool is_saved;
        struct error err;
};

static void touch_run(struct job *job)
{
        ON_WORKER();
        struct touch *touch = CONTAINER_OF(job, struct touch, task.job);
        struct store_touch rows = {
                .leases = touch->leases, .lease_count = touch->lease_count, .ended = (const void *)touch->ended.data,
                .ended_count = touch->ended.used / STORE_LEASE_ID_BYTES, .used = touch->used, .used_count = touch->used_count,
        };
        touch->is_saved = store_save_touch(touch->task.modules->store, &rows, &touch->err);
}

/* What could not be saved is dirty again. */
static void touch_put_back(struct modules *modules, const struct touch *touch)
{
        for (size_t i = 0; i < touch->lease_count; i++) {
                struct lease *lease = catalog_find_lease_id(&modules->catalog, touch->leases[i].id);
                if (lease && !lease->is_dirty) {
                        lease->is_dirty = true;
                        buffer_append(&modules->dirty, lease->id, STORE_LEASE_ID_BYTES);
                }
        }
        buffer_append(&modules->ended, touch->ended.data ? touch->ended.data : "", touch->ended.used);
}

static void touch_done(struct job *job)
{
        struct touch *touch = CONTAINER_OF(job, struct touch, task.job);
        struct modules *modules = touch->task.modules;
        modules->is_touch_running = false;
        if (!touch->is_saved) {
                LOG_WARN("lease rows not saved", LOG_TEXT("detail", touch->err.text));
                touch_put_back(modules, touch);
                touch_arm(modules, RETRY_MS);
        } else if (modules->dirty.used > 0 || modules->ended.used > 0 || modules->used.used > 0) {
                if (modules->is_closing)
                        leases_save(modules);
                else
                        touch_arm(modules, TOUCH_MS);
        }
        free(touch->leases);
        free(touch->holders);
        free(touch->used);
        buffer_fini(&touch->ended);
        free(touch);
        task_end(modules);
}

static void touch_take_leases(struct modules *modules, struct touch *touch)
{
        size_t count = modules->dirty.used / STORE_LEASE_ID_BYTES;
        touch->leases = memory_new(count + 1, sizeof *touch->leases);
        touch->holders = memory_new(count + 1, sizeof *touch->holders);
        for (size_t i = 0; i < count; i++) {
                struct lease *lease = catalog_find_lease_id(&modules->catalog, modules->dirty.data + i * STORE_LEASE_ID_BYTES);
                if (!lease)
                        continue;
                lease->is_dirty = false;
                lease_to_row(modules, lease, &touch->leases[touch->lease_count], touch->holders[touch->lease_count]);
                touch->lease_count++;
        }
        buffer_clear(&modules->dirty);
}

static void touch_take_used(struct modules *modules, struct touch *touch)
{
        size_t count = modules->used.used / sizeof(struct digest);
        touch->used = memory_new(count + 1, sizeof *touch->used);
        for (size_t i = 0; i < count; i++) {
                struct digest sha256;
                memcpy(&sha256, modules->used.data + i * sizeof sha256, sizeof sha256);
                struct entry *entry = catalog_find_entry(&modules->catalog, &sha256);
                if (!entry)
                        continue;
                entry->is_used_dirty = false;
                touch->used[touch->used_count++] = (struct store_module){ .sha256 = sha256,
                        .identity = entry->identity,
                        .created_s = entry->created_s,
                        .last_used_s = entry->last_used_s,
                        .is_pinned = entry->is_pinned };
        }
        buffer_clear(&modules->used);
}

void leases_save(struct modules *modules)
{
        if (modules->is_touch_running || modules->dirty.used + modules->ended.used + modules->used.used == 0)
                return;
        struct touch *touch = memory_new(1, sizeof *touch);
        touch_take_leases(modules, touch);
        touch_take_used(modules, touch);
        touch->ended = modules->ended;
        modules->ended = (struct buffer){ 0 };
        modules->is_touch_running = true;
        task_start(modules, &touch->task, touch_run, touch_done);
}
