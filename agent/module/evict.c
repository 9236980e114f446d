/*
 * How it goes: what is used = modules, what running pulls have reserved, what is on its way out. Above the high watermark the least recently used go until the low one; a pull
 *              waits for the room it needs.
 * How it fails: nothing leased, pinned or in use is ever let go, so there may be no room: the pull is refused before it downloads.
 * How it ends: victims leave the catalog at once and the disk by a worker; flights that wait for room go on then.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"

struct leave_job {
        struct task task;
        size_t count;
        struct { struct digest sha256; int64_t created_s; } victims[EVICT_BATCH];
        uint64_t bytes;
};

uint64_t evict_get_used(const struct modules *modules)
{
        return modules->catalog.bytes + modules->reserved_bytes + modules->leaving_bytes;
}

static void leave_run(struct job *job)
{
        ON_WORKER();
        struct leave_job *leave = CONTAINER_OF(job, struct leave_job, task.job);
        for (size_t i = 0; i < leave->count; i++) {
                struct error err;
                if (!store_remove_module(leave->task.modules->store, &leave->victims[i].sha256, leave->victims[i].created_s, &err))
                        LOG_WARN("not removed", LOG_TEXT("detail", err.text));
        }
}

static void leaving_answer(struct modules *modules)
{
        struct leaving_waiter *waiter = TAKE(modules->leaving_waiters);
        while (waiter) {
                struct leaving_waiter *next = waiter->next;
                waiter->done(waiter->arg, waiter->json, NULL);
                free(waiter->json);
                free(waiter);
                waiter = next;
        }
}

void leaving_wait(struct modules *modules, char *json, module_done done, void *arg)
{
        struct leaving_waiter *waiter = memory_new(1, sizeof *waiter);
        *waiter = (struct leaving_waiter){ .next = modules->leaving_waiters, .done = done, .arg = arg, .json = json };
        modules->leaving_waiters = waiter;
        if (modules->leaving == 0)
                leaving_answer(modules);
}

static void leave_done(struct job *job)
{
        struct leave_job *leave = CONTAINER_OF(job, struct leave_job, task.job);
        struct modules *modules = leave->task.modules;
        modules->leaving--;
        modules->leaving_bytes -= leave->bytes;
        free(leave);
        if (modules->leaving == 0)
                leaving_answer(modules);
        flights_room_made(modules);
        task_end(modules);
}

static void leave_add(struct modules *modules, struct leave_job *leave, struct entry *entry, const char *event)
{
        char sha256[DIGEST_TEXT_BYTES];
        digest_format_hex(&entry->sha256, sha256);
        const char *shown = sha256;
        leave->victims[leave->count].sha256 = entry->sha256;
        leave->victims[leave->count++].created_s = entry->created_s;
        leave->bytes += entry->identity.size_bytes;
        modules->stats.evicted++;
        modules->stats.evicted_bytes += entry->identity.size_bytes;
        LOG_INFO(event, LOG_TEXT("sha256", shown), LOG_NUMBER("bytes", entry->identity.size_bytes));
        event_tell(modules, event, &(struct module_event){ .sha256 = sha256, .url = entry->references ? entry->references->name : NULL, .bytes = entry->identity.size_bytes });
        catalog_remove_entry(&modules->catalog, &entry);
}

static void leave_start(struct modules *modules, struct leave_job *leave)
{
        modules->leaving++;
        modules->leaving_bytes += leave->bytes;
        task_start(modules, &leave->task, leave_run, leave_done);
}

void evict_entry(struct modules *modules, struct entry *entry, const char *event)
{
        struct leave_job *leave = memory_new(1, sizeof *leave);
        leave_add(modules, leave, entry, event);
        leave_start(modules, leave);
}

/* What will be used once all that is leaving has left. */
static uint64_t staying(const struct modules *modules)
{
        return modules->catalog.bytes + modules->reserved_bytes;
}

size_t evict_down_to(struct modules *modules, uint64_t target_bytes, bool dry_run, uint64_t *ret_bytes)
{
        struct leave_job *leave = NULL;
        uint64_t freed = 0, before = staying(modules);
        size_t count = 0;
        for (struct entry *entry = modules->catalog.oldest, *newer; entry && before - freed > target_bytes; entry = newer) {
                newer = entry->newer;
                if (catalog_get_obstacle(entry))
                        continue;
                freed += entry->identity.size_bytes;
                count++;
                if (dry_run)
                        continue;
                if (!leave)
                        leave = memory_new(1, sizeof *leave);
                leave_add(modules, leave, entry, "evicted");
                if (leave->count == EVICT_BATCH)
                        leave_start(modules, TAKE(leave));
        }
        if (leave)
                leave_start(modules, leave);
        *ret_bytes = freed;
        return count;
}

static uint64_t watermark(const struct modules *modules, unsigned percent)
{
        return modules->setup->options.max_size_bytes / 100 * percent + modules->setup->options.max_size_bytes % 100 * percent / 100;
}

enum room evict_make_room(struct modules *modules, uint64_t bytes)
{
        uint64_t budget = modules->setup->options.max_size_bytes, freed;
        if (budget == 0)
                return ROOM_MADE;
        uint64_t high = watermark(modules, modules->setup->options.high_watermark), low = watermark(modules, modules->setup->options.low_watermark);
        if (bytes > budget)
                return ROOM_NONE;
        if (staying(modules) + bytes > high) {
                evict_down_to(modules, 0, true, &freed);
                if (staying(modules) - freed + bytes > budget)
                        return ROOM_NONE;
                evict_down_to(modules, low > bytes ? low - bytes : 0, false, &freed);
        }
        return evict_get_used(modules) + bytes > budget && modules->leaving > 0 ? ROOM_BEING_MADE : ROOM_MADE;
}

void evict_check(struct modules *modules)
{
        uint64_t freed;
        if (modules->load)
                return;
        if (modules->setup->options.max_size_bytes > 0 && staying(modules) > watermark(modules, modules->setup->options.high_watermark))
                evict_down_to(modules, watermark(modules, modules->setup->options.low_watermark), false, &freed);
}
