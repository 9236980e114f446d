/*
 * How it goes: items wait in a queue and ask module a part at a time, so that ten thousand plugins do not take every place in which callers wait, nor those of one namespace,
 *              or of one host, every place of the others, however slow a registry is. What was given is held by its lease, which is renewed after a third of its time and let
 *              go a moment after the last item that had it is gone: somebody may just be opening the path.
 * How it fails: tried again as the kubelet does, after 10 s, doubled up to 5 min. A refresh that fails leaves what was there, with the reason beside it; only a signature that
 *              is missing or wrong takes it away.
 * How it ends: item_stop() cancels the wait; queued ones are passed over.
 */
#include <stdio.h>
#include "keeper.h"

#define HOLDER UINT64_MAX                 /* no caller's: theirs are made of process numbers and counters */

/* ---- leases ---- */

static void held_take(struct item *item, const struct module_object *object)
{
        struct keeper *keeper = item->keeper;
        struct held *held = map_get_text(keeper->held, object->lease_id), *old = item->held;
        int64_t length_ms = (object->lease_expires_s - clock_get_wall_s()) * 1000;
        if (!held) {
                held = memory_new(1, sizeof *held);
                snprintf(held->id, sizeof held->id, "%s", object->lease_id);
                map_put_text(keeper->held, held->id, held);
        }
        held->renewed_ms = clock_get_ms();
        held->length_ms = length_ms > 1000 ? length_ms : 1000;
        held->let_go_ms = 0;
        held->count++;
        if (old && --old->count == 0)
                old->let_go_ms = clock_get_ms() + KEEPER_GRACE_MS;
        item->held = held;
}

void item_let_go(struct item *item)
{
        struct held *held = TAKE(item->held);
        if (held && --held->count == 0)
                held->let_go_ms = clock_get_ms() + KEEPER_GRACE_MS;
        *item->sha256 = '\0';
}

static void items_each_of(struct keeper *keeper, bool (*fits)(const struct item *item, const void *arg), const void *arg)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value))
                for (struct item *item = ((struct kept *)value)->items; item; item = item->next)
                        if (!item->is_running && fits(item, arg))
                                item_queue(item);
}

static bool is_held_by(const struct item *item, const void *arg)
{
        return item->held == arg;
}

/* The lease is gone: its module was removed behind our back, or the clock jumped. Who had it asks again. */
static void held_lose(struct keeper *keeper, struct held *held)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        items_each_of(keeper, is_held_by, held);
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value))
                for (struct item *item = ((struct kept *)value)->items; item; item = item->next)
                        if (item->held == held) {
                                item->held = NULL;
                                *item->sha256 = '\0';
                                if (item->progress == PLUGIN_READY)
                                        item_set_state(item, PLUGIN_PULLING, NULL);
                        }
}

static void held_tick(struct keeper *keeper, struct held *held, int64_t now_ms, bool *ret_is_over)
{
        const struct module_caller caller = { .is_trusted = true, .holder = HOLDER };
        struct error err;
        int64_t expires_s;
        if (held->let_go_ms > 0) {
                *ret_is_over = now_ms >= held->let_go_ms;
                if (*ret_is_over)
                        module_lease_end(keeper->options.modules, &caller, held->id, &err);
        } else if (now_ms - held->renewed_ms >= held->length_ms / 3) {
                *ret_is_over = !module_lease_renew(keeper->options.modules, &caller, held->id, &expires_s, &err);
                held->renewed_ms = now_ms;
                if (*ret_is_over)
                        held_lose(keeper, held);
        }
}

static bool is_due(const struct item *item, const void *arg)
{
        return item->due_ms > 0 && item->due_ms <= *(const int64_t *)arg;
}

void holds_tick(struct keeper *keeper, int64_t now_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(keeper->held, &position, &key, &key_bytes, &value)) {
                bool is_over = false;
                held_tick(keeper, value, now_ms, &is_over);
                if (is_over)
                        map_remove(keeper->held, key, key_bytes);
        }
        items_each_of(keeper, is_due, &now_ms);
}

/* ---- states ---- */

static void item_tell(const struct item *item, const char *type)
{
        char text[ERROR_TEXT_BYTES];
        const char *detail = text, *sha256 = item->sha256;
        const struct plugin *plugin = item->kept->plugin;
        const char *code = item->code ? error_get_row(item->code)->name : NULL;
        snprintf(text, sizeof text, "%s %s/%s%s%s", plugin_kind_names[plugin->kind], plugin->namespace, plugin->name, item->detail ? ": " : "", item->detail ? item->detail : "");
        if (item->code)
                LOG_WARN(type, LOG_TEXT("plugin", detail), LOG_TEXT("code", code), LOG_TEXT("folder", item->folder->namespace));
        else
                LOG_INFO(type, LOG_TEXT("plugin", detail), LOG_TEXT("sha256", sha256), LOG_TEXT("folder", item->folder->namespace));
        module_event_emit(item->keeper->options.modules, &(struct module_event){ .type = type, .url = plugin->url, .sha256 = *item->sha256 ? item->sha256 : NULL,
                .digest = item->digest, .namespace = item->folder->namespace, .code = code, .detail = detail, .total = -1 });
        keeper_tell(item->keeper, &(struct keeper_news){ .happening = item->code ? KEEPER_REFUSED : string_equal(type, "plugin_recovered") ? KEEPER_RECOVERED : KEEPER_PULLED,
                .plugin = plugin, .is_of_module = true, .code = code, .detail = item->detail, .sha256 = sha256 });
}

void item_set_state(struct item *item, enum plugin_progress progress, const struct error *err)
{
        bool is_same_text = err ? string_equal(item->detail, err->text) && item->code == err->code : item->code == ERROR_NONE;
        if (item->progress == progress && is_same_text)
                return;
        if (item->progress != progress)
                item->since_s = clock_get_wall_s();
        item->progress = progress;
        item->code = err ? err->code : ERROR_NONE;
        free(item->detail);
        item->detail = err ? string_copy(err->text) : NULL;
        keeper_changed(item->keeper, item->folder);
}

static void item_ready(struct item *item, const struct module_object *object)
{
        bool was_failing = item->code != ERROR_NONE || item->told_refused, is_other = strcmp(item->sha256, object->sha256) != 0 || !string_equal(item->digest, object->digest);
        held_take(item, object);
        snprintf(item->sha256, sizeof item->sha256, "%s", object->sha256);
        free(item->digest);
        item->digest = string_copy(object->digest);
        item->failures = 0;
        item->told_refused = false;
        item->due_ms = 0;
        if (is_other)
                keeper_changed(item->keeper, item->folder);
        item_set_state(item, PLUGIN_READY, NULL);
        if (object->source != MODULE_SOURCE_CACHE)
                item->keeper->pulled++;
        if (was_failing)
                item_tell(item, "plugin_recovered");
        else if (is_other && object->source != MODULE_SOURCE_CACHE)
                item_tell(item, "plugin_pulled");
}

/* What was handed out once may go on being used, unless it is known to be something that nobody vouches for. */
static bool is_proof_of_bad(enum error_code code)
{
        return code == ERROR_SIGNATURE_MISSING || code == ERROR_SIGNATURE_INVALID || code == ERROR_BAD_KEY;
}

static void item_failed(struct item *item, const struct error *err)
{
        int64_t wait_ms = err->code == ERROR_BUSY ? 1000 : KEEPER_BACKOFF_MAX_MS;
        if (err->code != ERROR_BUSY && item->failures < 5)
                wait_ms = (int64_t)KEEPER_BACKOFF_FIRST_MS << item->failures;
        if (wait_ms < (int64_t)err->retry_after_s * 1000)
                wait_ms = (int64_t)err->retry_after_s * 1000;
        item->failures++;
        item->due_ms = clock_get_ms() + (wait_ms < KEEPER_BACKOFF_MAX_MS ? wait_ms : KEEPER_BACKOFF_MAX_MS);
        if (err->code == ERROR_BUSY && item->progress != PLUGIN_FAILED)
                return;
        bool is_new = item->code != err->code;
        item->keeper->failed++;
        bool stays = item->progress == PLUGIN_READY && !is_proof_of_bad(err->code);
        if (!stays)
                item_let_go(item);
        item_set_state(item, stays ? PLUGIN_READY : PLUGIN_FAILED, err);
        if (is_new)
                item_tell(item, "plugin_refused");
        item->told_refused = true;
}

static void item_answered(void *arg, const struct module_object *object, const struct error *err)
{
        struct item *item = arg;
        struct keeper *keeper = item->keeper;
        item->waiter = NULL;
        item->is_running = false;
        item_count_running(item, -1);
        if (object)
                item_ready(item, object);
        else
                item_failed(item, err);
        if (keeper->queue)
                keeper_work(keeper);
}

/* ---- asking ---- */

void item_queue(struct item *item)
{
        struct keeper *keeper = item->keeper;
        item->due_ms = 0;
        if (item->is_queued || keeper->is_closing)
                return;
        item->is_queued = true;
        item->queue_next = NULL;
        *keeper->queue_end = item;
        keeper->queue_end = &item->queue_next;
        keeper_work(keeper);
}

static void item_start(struct item *item)
{
        struct keeper *keeper = item->keeper;
        const struct module_caller caller = { .is_trusted = true, .module_dir = "", .holder = HOLDER, .handout_namespace = item->folder->namespace, .is_patient = true };
        item->is_running = true;
        item_count_running(item, 1);
        struct module_waiter *waiter = module_get(keeper->options.modules, item->kept->plugin->want, &caller, item_answered, item);
        if (waiter)
                item->waiter = waiter;
}

static void queue_take(struct item **at)
{
        struct item *item = *at;
        *at = item->queue_next;
        if (!*at)
                item->keeper->queue_end = at;
        item->is_queued = false;
}

/* Those whose namespace, or host, has enough of them waiting already are passed over until one of them is answered, which comes back here. */
bool queue_start(struct keeper *keeper)
{
        int64_t until_us = clock_get_us() + KEEPER_SLICE_US;
        for (struct item **at = &keeper->queue; *at && keeper->running < keeper->running_max;) {
                struct item *item = *at;
                if (!item->is_running && (item->tenant->running >= keeper->tenant_max || item->host->running >= KEEPER_HOST_MAX)) {
                        at = &item->queue_next;
                        continue;
                }
                if (clock_get_us() >= until_us)
                        return false;
                queue_take(at);
                if (!item->is_running)
                        item_start(item);
        }
        return true;
}

void item_stop(struct item *item)
{
        struct keeper *keeper = item->keeper;
        if (item->is_running) {
                module_waiter_cancel(&item->waiter);
                item->is_running = false;
                item_count_running(item, -1);
        }
        if (!item->is_queued)
                return;
        struct item **at = &keeper->queue;
        while (*at != item)
                at = &(*at)->queue_next;
        queue_take(at);
}

/* ---- what happens to modules ---- */

static bool is_about(const struct item *item, const void *arg)
{
        const struct module_event *event = arg;
        if (string_equal(event->type, "pulled"))
                return event->url && *item->sha256 && string_equal(item->kept->plugin->url, event->url) && !string_equal(item->sha256, event->sha256);
        return event->sha256 && strcmp(item->sha256, event->sha256) == 0;
}

/* A damaged module is pulled again, a tag that an operator refreshed may mean another one. */
void holds_happened(void *arg, const struct module_event *event)
{
        static const char *const types[] = { "pulled", "quarantined", "vanished", "removed" };
        for (size_t i = 0; i < COUNT_OF(types); i++)
                if (string_equal(event->type, types[i]))
                        items_each_of(arg, is_about, event);
}
