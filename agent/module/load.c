/*
 * How it goes: a worker looks at the blobs if the last end was unclean, reads every row into a catalog of its own, and hands that over whole. Meanwhile requests go on: a batch of
 *              them has the rows of what they may mean read by another worker, all rows of each such module, and what is a hit then is answered. When the whole catalog is there,
 *              the entries that were in use already take the place of what it has for them. A small store is read before the loop runs.
 * How it fails: an index that cannot be read ends the daemon; the next start looks all of it through. A look-up that fails waits for the whole.
 * How it ends: who waits goes on, from the start of his walk; closing cancels the reading, and what was read is dropped.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "modules.h"

enum { LOOK_BATCH = 64 };

struct module_whole_wait { struct module_whole_wait *next; struct modules *modules; module_whole whole; void *arg; };

/* A request, with copies of what it names. */
struct look_question { char *name, *namespace, *resource; struct digest pin; };
struct look {
        struct task task;
        struct load *load;
        struct waiter_list waiting;
        size_t count;
        struct look_question questions[LOOK_BATCH];
        struct catalog found;
        bool is_good;
        struct error err;
};

struct load {
        struct task task;
        struct cancel *cancel;
        struct catalog whole;
        struct store_report report;
        bool is_good, has_ended, has_failed;
        struct error err;
        /* loop */
        struct waiter_list asking, waiting;       /* to be looked up; for the whole */
        struct look *look;                        /* the one that runs */
        struct map *looked;                       /* modules whose rows have been read alone: what is in the modules' catalog of them is newer than what the whole one says */
        struct store_reader *reader;              /* of look-ups, one after the other */
};

/* ---- rows into a catalog ---- */

static void load_module(void *arg, const struct store_module *row)
{
        catalog_put_entry(arg, row);
}

static void load_image(void *arg, const struct store_image *row)
{
        struct catalog *catalog = arg;
        if (map_get_count(catalog->images) == 0)
                map_reserve(catalog->images, map_get_count(catalog->entries));
        catalog_put_image(catalog, row);
}

static void load_reference(void *arg, const struct store_reference *row)
{
        struct catalog *catalog = arg;
        if (map_get_count(catalog->references) == 0)
                map_reserve(catalog->references, map_get_count(catalog->entries));
        catalog_put_reference(catalog, row, 0);
}

static void load_grant(void *arg, const struct store_grant *row)
{
        catalog_put_grant(arg, row);
}

static void load_resource(void *arg, const struct store_resource *row)
{
        catalog_put_resource(arg, row, 0);
}

/* Expired ones are taken in too: the sweep ends them as it ends all others, link included. */
static void load_lease(void *arg, const struct store_lease *row)
{
        struct catalog *catalog = arg;
        struct entry *entry = catalog_find_entry(catalog, &row->module);
        if (!entry || catalog_find_lease_id(catalog, row->id))
                return;
        struct lease *lease = catalog_put_lease(catalog, entry, row->namespace, row->id, strtoull(row->holder ? row->holder : "", NULL, 16));
        lease->expires_s = row->expires_s;
        lease->expires_ms = clock_get_ms() + (row->expires_s - clock_get_wall_s()) * 1000;
        lease->handout->is_linked = row->namespace[0] != '\0';
}

struct use { int64_t last_used_s; struct entry *entry; };

static int by_last_use(const void *a, const void *b)
{
        const struct use *left = a, *right = b;
        return (left->last_used_s > right->last_used_s) - (left->last_used_s < right->last_used_s);
}

static void sort_by_use(struct catalog *catalog)
{
        size_t count = map_get_count(catalog->entries), i = 0;
        bool is_sorted = true;
        CLEANUP(cleanup_free) struct use *uses = memory_new(count + 1, sizeof *uses);
        for (struct entry *entry = catalog->oldest; entry; entry = entry->newer) {
                uses[i] = (struct use){ entry->last_used_s, entry };
                is_sorted = is_sorted && (i == 0 || uses[i - 1].last_used_s <= uses[i].last_used_s);
                i++;
        }
        if (is_sorted)
                return;
        qsort(uses, count, sizeof *uses, by_last_use);
        catalog->oldest = uses[0].entry;
        catalog->newest = uses[count - 1].entry;
        for (i = 0; i < count; i++) {
                uses[i].entry->older = i > 0 ? uses[i - 1].entry : NULL;
                uses[i].entry->newer = i + 1 < count ? uses[i + 1].entry : NULL;
        }
}

static struct store_visitor catalog_visitor(struct catalog *catalog, struct cancel *cancel)
{
        return (struct store_visitor){ .arg = catalog, .module = load_module, .image = load_image, .reference = load_reference, .grant = load_grant, .resource = load_resource,
                                       .lease = load_lease, .without_documents = true, .cancel = cancel };
}

/* ---- the whole, on a worker ---- */

static void load_run(struct job *job)
{
        ON_WORKER();
        struct load *load = CONTAINER_OF(job, struct load, task.job);
        struct store *store = load->task.modules->store;
        const struct store_visitor visitor = catalog_visitor(&load->whole, load->cancel);
        while (fault_hit("module.load") && !cancel_is_triggered(load->cancel))
                nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        bool is_settled = store_settle(store, load->cancel, &load->report, &load->err);
        if (!is_settled && load->err.code == ERROR_STORE_FULL) {
                LOG_WARN("store_recovery_incomplete", LOG_TEXT("detail", load->err.text));
                is_settled = true;
        }
        load->is_good = is_settled && store_load_all(store, &visitor, &load->err);
        if (load->is_good)
                sort_by_use(&load->whole);
        malloc_trim(0);
}

/* ---- look-ups ---- */

static void look_run(struct job *job)
{
        ON_WORKER();
        struct look *look = CONTAINER_OF(job, struct look, task.job);
        struct load *load = look->load;
        const struct store_visitor visitor = catalog_visitor(&look->found, load->cancel);
        look->is_good = load->reader || store_reader_open(load->task.modules->store, &load->reader, &look->err);
        for (size_t i = 0; look->is_good && i < look->count; i++) {
                const struct look_question *question = &look->questions[i];
                const struct store_question rows = { question->name, digest_is_set(&question->pin) ? &question->pin : NULL, question->namespace, question->resource };
                look->is_good = store_load_found(load->reader, &rows, &visitor, &look->err);
        }
}

/* What is in use, or was and is gone, is not what its rows were. */
static void look_take(struct modules *modules, struct look *look)
{
        struct load *load = look->load;
        for (struct entry *entry = look->found.oldest, *newer; entry; entry = newer) {
                newer = entry->newer;
                if (map_get(load->looked, entry->sha256.bytes, DIGEST_SHA256_BYTES))
                        catalog_remove_entry(&look->found, &entry);
                else
                        map_put(load->looked, entry->sha256.bytes, DIGEST_SHA256_BYTES, load);
        }
        catalog_move(&look->found, &modules->catalog);
}

static void look_free(struct look *look)
{
        for (size_t i = 0; i < look->count; i++) {
                free(look->questions[i].name);
                free(look->questions[i].namespace);
                free(look->questions[i].resource);
        }
        catalog_fini(&look->found);
        free(look);
}

static void load_finish(struct modules *modules);
static void look_start(struct load *load);

static void look_done(struct job *job)
{
        struct look *look = CONTAINER_OF(job, struct look, task.job);
        struct load *load = look->load;
        struct modules *modules = look->task.modules;
        struct waiter_list waiting;
        load->look = NULL;
        if (look->is_good)
                look_take(modules, look);
        else if (!modules->is_closing)
                LOG_WARN("rows not read", LOG_TEXT("detail", look->err.text));
        bool is_good = look->is_good;
        waiters_take(&look->waiting, &waiting);
        look_free(look);
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                waiter->is_looked_up = true;
                if (is_good || load->has_failed)
                        waiter_step(waiter);
                else
                        load_wait(modules, waiter);
        }
        if (load->has_ended)
                load_finish(modules);
        else
                look_start(load);
        task_end(modules);
}

static void look_start(struct load *load)
{
        if (load->look || load->has_ended || !load->asking.head)
                return;
        struct look *look = memory_new(1, sizeof *look);
        look->load = load;
        catalog_init(&look->found);
        while (load->asking.head && look->count < LOOK_BATCH) {
                struct module_waiter *waiter = load->asking.head;
                const struct module_want *want = waiter->ask.want;
                waiter_leave(waiter);
                waiter_join(waiter, &look->waiting);
                look->questions[look->count++] = (struct look_question){ string_copy(want->name), string_copy(waiter->ask.namespace), string_copy(want->resource_name), want->pin };
        }
        load->look = look;
        task_start(load->task.modules, &look->task, look_run, look_done);
}

static void load_refuse(struct load *load, struct module_waiter *waiter)
{
        if (waiter->explain)
                waiter->explain(waiter, &load->err);
        else
                waiter_refuse(waiter, &load->err);
}

void load_look_up(struct modules *modules, struct module_waiter *waiter)
{
        struct load *load = modules->load;
        if (load->has_failed) {
                load_refuse(load, waiter);
                return;
        }
        waiter_join(waiter, &load->asking);
        look_start(load);
}

void load_wait(struct modules *modules, struct module_waiter *waiter)
{
        if (modules->load->has_failed)
                load_refuse(modules->load, waiter);
        else
                waiter_join(waiter, &modules->load->waiting);
}

/* ---- the end ---- */

static void load_discard(struct load **load_pointer)
{
        struct load *load = TAKE(*load_pointer);
        catalog_fini(&load->whole);
        map_free(&load->looked);
        store_reader_close(&load->reader);
        cancel_free(&load->cancel);
        free(load);
}

static void whole_tell(struct modules *modules, const struct store_report *report, const struct error *err)
{
        while (modules->whole_waits) {
                struct module_whole_wait *wait = modules->whole_waits;
                modules->whole_waits = wait->next;
                wait->whole(wait->arg, report, err);
                free(wait);
        }
}

/* What went while the rest was read goes from the whole too. */
static void whole_take(struct modules *modules, struct load *load)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(load->looked, &position, &key, &key_bytes, &value)) {
                struct digest sha256 = { .algorithm = DIGEST_SHA256 };
                memcpy(sha256.bytes, key, DIGEST_SHA256_BYTES);
                struct entry *old = catalog_find_entry(&modules->catalog, &sha256) ? NULL : catalog_find_entry(&load->whole, &sha256);
                if (old)
                        catalog_remove_entry(&load->whole, &old);
        }
        catalog_move(&modules->catalog, &load->whole);
        catalog_fini(&modules->catalog);
        modules->catalog = load->whole;
        catalog_init(&load->whole);
}

/* Not whole, and never will be: whoever waits is refused, and who comes until the daemon has ended. */
static void load_fail(struct modules *modules, struct load *load)
{
        struct waiter_list *lists[] = { &load->asking, &load->waiting };
        load->has_failed = true;
        for (size_t i = 0; i < COUNT_OF(lists); i++)
                while (lists[i]->head) {
                        struct module_waiter *waiter = lists[i]->head;
                        waiter_leave(waiter);
                        load_refuse(load, waiter);
                }
        whole_tell(modules, NULL, &load->err);
}

static void load_finish(struct modules *modules)
{
        struct load *load = modules->load;
        struct waiter_list asking, waiting;
        if (!load->is_good || modules->is_closing) {
                if (load->is_good)
                        refuse(&load->err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
                load_fail(modules, load);
                return;
        }
        struct store_report report = load->report;
        whole_take(modules, load);
        waiters_take(&load->asking, &asking);
        waiters_take(&load->waiting, &waiting);
        modules->load = NULL;
        load_discard(&load);
        evict_check(modules);
        rejudge_rules(modules);
        flights_start(modules);
        struct waiter_list *lists[] = { &asking, &waiting };
        for (size_t i = 0; i < COUNT_OF(lists); i++)
                while (lists[i]->head) {
                        struct module_waiter *waiter = lists[i]->head;
                        waiter_leave(waiter);
                        waiter_step(waiter);
                }
        whole_tell(modules, &report, NULL);
}

static void load_done(struct job *job)
{
        struct load *load = CONTAINER_OF(job, struct load, task.job);
        struct modules *modules = load->task.modules;
        load->has_ended = true;
        if (!load->look)
                load_finish(modules);
        task_end(modules);
}

/* ---- life ---- */

bool load_start(struct modules *modules, struct error *err)
{
        struct load *load = modules->load = memory_new(1, sizeof *load);
        load->task.modules = modules;
        load->cancel = cancel_new();
        load->looked = map_new(NULL);
        catalog_init(&load->whole);
        if (store_is_large(modules->store)) {
                task_start(modules, &load->task, load_run, load_done);
                return true;
        }
        load_run(&load->task.job);
        bool is_good = load->is_good;
        if (is_good)
                whole_take(modules, load);
        else
                *err = load->err;
        load_discard(&modules->load);
        return is_good;
}

void load_cancel(struct modules *modules)
{
        struct error err;
        if (modules->load)
                cancel_trigger(modules->load->cancel);
        refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        err.retry_after_s = 1;
        whole_tell(modules, NULL, &err);
}

void load_free(struct modules *modules)
{
        if (modules->load)
                load_discard(&modules->load);
}

bool module_is_whole(const struct modules *modules)
{
        ON_LOOP();
        return !modules->load;
}

struct module_whole_wait *module_when_whole(struct modules *modules, module_whole whole, void *arg)
{
        ON_LOOP();
        static const struct store_report nothing;
        if (!modules->load || modules->load->has_failed) {
                whole(arg, modules->load ? NULL : &nothing, modules->load ? &modules->load->err : NULL);
                return NULL;
        }
        struct module_whole_wait *wait = memory_new(1, sizeof *wait);
        *wait = (struct module_whole_wait){ .modules = modules, .whole = whole, .arg = arg };
        struct module_whole_wait **at = &modules->whole_waits;
        while (*at)
                at = &(*at)->next;
        *at = wait;
        return wait;
}

void module_whole_cancel(struct module_whole_wait **wait_pointer)
{
        ON_LOOP();
        struct module_whole_wait *wait = TAKE(*wait_pointer);
        if (!wait)
                return;
        struct module_whole_wait **at = &wait->modules->whole_waits;
        while (*at && *at != wait)
                at = &(*at)->next;
        if (*at)
                *at = wait->next;
        free(wait);
}
