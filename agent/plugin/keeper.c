/*
 * How it goes: a round walks all workloads that are known (Pods, and who asked) and marks what their chains need: one item per plugin and folder; what no round needed any more
 *              is let go. A plugin that changes keeps its items, which ask again for its new want.
 * How it fails: an item's failure is its own state; the plugin's other folders and other plugins do not notice.
 * How it ends: keeper_close() cancels every wait; the leases stay as they are, since a restart must not take paths away.
 */
#include <stdio.h>
#include "keeper.h"

struct keeper_watch { struct keeper *keeper; void (*changed)(void *arg); void *arg; struct keeper_watch *next; };

/* ---- telling ---- */

static void note_fired(void *arg)
{
        struct keeper *keeper = arg;
        for (struct keeper_watch *watch = keeper->watches, *next; watch; watch = next) {
                next = watch->next;
                watch->changed(watch->arg);
        }
}

void keeper_changed(struct keeper *keeper, struct folder *folder)
{
        if (folder)
                folder->revision = ++keeper->revision;
        if (!keeper->is_closing)
                loop_timer_again(keeper->note, 0);
}

struct keeper_watch *keeper_watch_start(struct keeper *keeper, void (*changed)(void *arg), void *arg)
{
        ON_LOOP();
        struct keeper_watch *watch = memory_new(1, sizeof *watch);
        *watch = (struct keeper_watch){ keeper, changed, arg, keeper->watches };
        keeper->watches = watch;
        return watch;
}

void keeper_watch_cancel(struct keeper_watch **watch_pointer)
{
        struct keeper_watch *watch = TAKE(*watch_pointer);
        if (!watch)
                return;
        struct keeper_watch **at = &watch->keeper->watches;
        while (*at != watch)
                at = &(*at)->next;
        *at = watch->next;
        free(watch);
}

/* ---- items ---- */

static struct folder *folder_get(struct keeper *keeper, const char *namespace)
{
        struct folder *folder = map_get_text(keeper->folders, namespace);
        if (folder)
                return folder;
        folder = memory_new(1, sizeof *folder);
        folder->namespace = string_copy(namespace);
        map_put_text(keeper->folders, namespace, folder);
        return folder;
}

static void folder_free(void *pointer)
{
        struct folder *folder = pointer;
        free(folder->namespace);
        free(folder);
}

/* Of one namespace's plugins and one host; counted. */
static struct source_host *host_ref(struct keeper *keeper, const struct plugin *plugin)
{
        CLEANUP(buffer_fini) struct buffer key = { 0 };
        const char *name = module_want_get_host(plugin->want);
        buffer_append(&key, plugin->namespace, strlen(plugin->namespace) + 1);
        buffer_append(&key, name, strlen(name) + 1);
        struct source_host *host = map_get(keeper->hosts, key.data, key.used);
        if (!host) {
                host = memory_new(1, sizeof *host);
                host->key = string_copy_bytes(key.data, key.used);
                host->key_bytes = key.used;
                map_put(keeper->hosts, key.data, key.used, host);
        }
        host->users++;
        return host;
}

static void host_free(void *pointer)
{
        struct source_host *host = pointer;
        free(host->key);
        free(host);
}

static void host_unref(struct keeper *keeper, struct source_host *host)
{
        if (--host->users > 0)
                return;
        CLEANUP(cleanup_free) char *key = TAKE(host->key);
        map_remove(keeper->hosts, key, host->key_bytes);
}

void item_count_running(struct item *item, int more)
{
        item->keeper->running += (unsigned)more;
        item->tenant->running += (unsigned)more;
        item->host->running += (unsigned)more;
}

static struct kept *kept_find(const struct keeper *keeper, const struct plugin *plugin)
{
        return map_get(keeper->kept, &plugin, sizeof plugin);
}

static struct item *item_find(const struct kept *kept, const char *namespace)
{
        struct item *item = kept ? kept->items : NULL;
        while (item && strcmp(item->folder->namespace, namespace) != 0)
                item = item->next;
        return item;
}

static void item_free(struct item *item)
{
        item_stop(item);
        if (!item->keeper->is_closing)
                item_let_go(item);
        keeper_changed(item->keeper, item->folder);
        item->keeper->item_count--;
        item->folder->users--;
        item->tenant->users--;
        host_unref(item->keeper, item->host);
        free(item->digest);
        free(item->detail);
        free(item);
}

static void kept_free(void *pointer)
{
        struct kept *kept = pointer;
        while (kept->items) {
                struct item *next = kept->items->next;
                item_free(kept->items);
                kept->items = next;
        }
        plugin_unref(&kept->plugin);
        free(kept);
}

void item_need(struct keeper *keeper, const struct plugin *plugin, const char *namespace)
{
        if (!plugin->want)
                return;
        struct kept *kept = kept_find(keeper, plugin);
        struct item *item = item_find(kept, namespace);
        if (!kept) {
                kept = memory_new(1, sizeof *kept);
                kept->plugin = plugin_ref((struct plugin *)(uintptr_t)plugin);
                map_put(keeper->kept, &plugin, sizeof plugin, kept);
        }
        if (!item) {
                item = memory_new(1, sizeof *item);
                *item = (struct item){ .keeper = keeper, .kept = kept, .next = kept->items, .folder = folder_get(keeper, namespace), .since_s = clock_get_wall_s() };
                item->tenant = folder_get(keeper, plugin->namespace);
                item->host = host_ref(keeper, plugin);
                item->folder->users++;
                item->tenant->users++;
                kept->items = item;
                keeper->item_count++;
                item_queue(item);
                keeper_changed(keeper, item->folder);
        }
        item->round = keeper->round;
}

void items_sweep(struct keeper *keeper)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value)) {
                struct kept *kept = value;
                for (struct item **at = &kept->items; *at;) {
                        struct item *item = *at;
                        if (item->round == keeper->round) {
                                at = &item->next;
                                continue;
                        }
                        *at = item->next;
                        item_free(item);
                }
                if (!kept->items)
                        map_remove(keeper->kept, key, key_bytes);
        }
        for (position = 0; map_next(keeper->folders, &position, &key, &key_bytes, &value);)
                if (((struct folder *)value)->users == 0)
                        map_remove(keeper->folders, key, key_bytes);
}

/* ---- resources change ---- */

static void resource_tell(struct keeper *keeper, const struct plugin *plugin, const char *type)
{
        char text[ERROR_TEXT_BYTES];
        const char *detail = text;
        bool is_bad = plugin->problem_count > 0;
        snprintf(text, sizeof text, "%s %s%s%s%s%s%s%s", plugin_kind_names[plugin->kind], plugin->namespace, *plugin->namespace ? "/" : "", plugin->name, is_bad ? ": " : "",
                is_bad ? plugin->problems[0].field : "", is_bad ? ": " : "", is_bad ? plugin->problems[0].detail : "");
        if (is_bad)
                LOG_WARN(type, LOG_TEXT("resource", detail));
        module_event_emit(keeper->options.modules, &(struct module_event){ .type = type, .url = plugin->url, .namespace = plugin->namespace, .detail = detail, .total = -1,
                .code = is_bad ? error_get_row(plugin->code)->name : NULL });
}

/* The items go over to the new version. Another source: what is held does not count any more, but stays until there is something else. */
static void kept_change(struct keeper *keeper, struct kept *kept, const struct plugin *before, const struct plugin *after)
{
        bool is_same = module_want_is_same_source(before->want, after->want);
        map_take(keeper->kept, &before, sizeof before);
        plugin_unref(&kept->plugin);
        kept->plugin = plugin_ref((struct plugin *)(uintptr_t)after);
        map_put(keeper->kept, &after, sizeof after, kept);
        module_forget_refusals(keeper->options.modules, after->want);
        for (struct item *item = kept->items; item; item = item->next) {
                struct source_host *old = item->host;
                item_stop(item);
                item->host = host_ref(keeper, after);
                host_unref(keeper, old);
                item->failures = 0;
                item->due_ms = 0;
                if (!is_same)
                        item_set_state(item, PLUGIN_PULLING, NULL);
                item_queue(item);
        }
}

static void resource_changed(void *arg, const struct plugin *before, const struct plugin *after)
{
        struct keeper *keeper = arg;
        struct kept *kept = before ? kept_find(keeper, before) : NULL;
        bool was_refused = before && before->state == PLUGIN_REFUSED, is_refused = after && after->state == PLUGIN_REFUSED;
        if (before && before->kind <= PLUGIN_WASM_PLUGIN)
                keeper->resources[before->state]--;
        if (after && after->kind <= PLUGIN_WASM_PLUGIN)
                keeper->resources[after->state]++;
        if (kept && after && after->want)
                kept_change(keeper, kept, before, after);
        else if (kept)
                map_remove(keeper->kept, &before, sizeof before);
        if (is_refused)
                resource_tell(keeper, after, "resource_refused");
        else if (after && (was_refused || (!before && map_get_count(keeper->expected) == 0)))
                resource_tell(keeper, after, "resource_accepted");
        resource_news(keeper, before, after);
        keeper_changed(keeper, NULL);
        round_want(keeper);
}

/* ---- work and time ---- */

static void work_fired(void *arg)
{
        struct keeper *keeper = arg;
        if (keeper->is_closing)
                return;
        bool is_done = round_step(keeper);
        is_done &= queue_start(keeper);
        if (!is_done)
                loop_timer_again(keeper->work, 0);
}

void keeper_work(struct keeper *keeper)
{
        if (keeper->is_closing)
                return;
        loop_timer_again(keeper->work, 0);
        if (!keeper->is_ticking)
                loop_timer_again(keeper->tick, KEEPER_TICK_MS);
        keeper->is_ticking = true;
}

static void tick_fired(void *arg)
{
        struct keeper *keeper = arg;
        int64_t now_ms = clock_get_ms();
        keeper->is_ticking = false;
        if (keeper->is_closing)
                return;
        holds_tick(keeper, now_ms);
        asked_sweep(keeper, now_ms);
        if (keeper->item_count + map_get_count(keeper->held) + map_get_count(keeper->asked) == 0)
                return;
        keeper->is_ticking = true;
        loop_timer_again(keeper->tick, KEEPER_TICK_MS);
}

/* ---- what others ask ---- */

void keeper_get_status(const struct keeper *keeper, const struct plugin *plugin, const char *namespace, struct keeper_status *ret_status)
{
        const struct item *item = item_find(kept_find(keeper, plugin), namespace);
        *ret_status = (struct keeper_status){ .progress = PLUGIN_PULLING };
        if (!item)
                return;
        *ret_status = (struct keeper_status){
                .progress = item->progress, .sha256 = *item->sha256 && item->progress != PLUGIN_FAILED ? item->sha256 : NULL, .digest = item->digest, .detail = item->detail,
                .code = item->code, .since_s = item->since_s,
        };
        if (!ret_status->sha256)
                ret_status->digest = NULL;
}

uint64_t keeper_get_revision(const struct keeper *keeper, const char *namespace)
{
        const struct folder *folder = map_get_text(keeper->folders, namespace);
        return folder ? folder->revision : 0;
}

void keeper_get_stats(const struct keeper *keeper, struct keeper_stats *ret_stats)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        *ret_stats = (struct keeper_stats){ .workloads = map_get_count(keeper->asked), .pods = keeper->pod_count,
                .troubles = map_get_count(keeper->troubles), .pulled = keeper->pulled, .failed = keeper->failed };
        memcpy(ret_stats->resources, keeper->resources, sizeof ret_stats->resources);
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value))
                for (const struct item *item = ((const struct kept *)value)->items; item; item = item->next)
                        ret_stats->modules[item->progress]++;
}

struct plugins *keeper_get_plugins(struct keeper *keeper)
{
        return keeper->plugins;
}

const char *keeper_get_root_namespace(const struct keeper *keeper)
{
        return keeper->root_namespace;
}

/* ---- sources ---- */

void keeper_expect(struct keeper *keeper, const char *source)
{
        map_put_text(keeper->expected, source, keeper);
}

void keeper_arrive(struct keeper *keeper, const char *source)
{
        if (map_remove_text(keeper->expected, source))
                keeper_changed(keeper, NULL);
}

void keeper_note_trouble(struct keeper *keeper, const char *source, const char *why)
{
        if (why)
                map_put_text(keeper->troubles, source, string_copy(why));
        else
                map_remove_text(keeper->troubles, source);
}

bool keeper_is_ready(const struct keeper *keeper, struct error *err)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        if (!map_next(keeper->expected, &position, &key, &key_bytes, &value))
                return true;
        const char *why = map_get(keeper->troubles, key, key_bytes);
        refuse(err, ERROR_BUSY, "plugins from %.*s have not been read yet, so no chain can be told; ask again in a moment%s%s", (int)key_bytes, (const char *)key,
                why ? "; what lacks: " : "", why ? why : "");
        err->retry_after_s = 1;
        return false;
}

void keeper_note_secret(struct keeper *keeper, const char *namespace)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value)) {
                struct kept *kept = value;
                for (struct item *item = kept->items; item && strcmp(kept->plugin->namespace, namespace) == 0; item = item->next)
                        if (item->code != ERROR_NONE && !item->is_running) {
                                item->failures = 0;
                                module_forget_refusals(keeper->options.modules, kept->plugin->want);
                                item_queue(item);
                        }
        }
}

/* ---- life ---- */

struct keeper *keeper_new(const struct keeper_options *options)
{
        struct keeper *keeper = memory_new(1, sizeof *keeper);
        keeper->options = *options;
        keeper->root_namespace = string_copy(options->root_namespace ? options->root_namespace : "istio-system");
        keeper->node = string_copy(options->node ? options->node : "");
        keeper->plugins = plugins_new(&(struct plugins_options){ .root_namespace = keeper->root_namespace, .changed = resource_changed, .arg = keeper });
        keeper->kept = map_new(kept_free);
        keeper->folders = map_new(folder_free);
        keeper->hosts = map_new(host_free);
        keeper->held = map_new(free);
        keeper->expected = map_new(NULL);
        keeper->troubles = map_new(free);
        keeper->queue_end = &keeper->queue;
        news_init(keeper);
        keeper->running_max = options->waiting_max > 0 && options->waiting_max < KEEPER_RUNNING_MAX ? options->waiting_max : KEEPER_RUNNING_MAX;
        keeper->tenant_max = (keeper->running_max + KEEPER_TENANT_PART - 1) / KEEPER_TENANT_PART;
        workloads_init(keeper);
        keeper->work = loop_timer_start(options->loop, 0, 0, work_fired, keeper);
        keeper->tick = loop_timer_start(options->loop, KEEPER_TICK_MS, 0, tick_fired, keeper);
        keeper->note = loop_timer_start(options->loop, 0, 0, note_fired, keeper);
        keeper->is_ticking = true;
        keeper->listener = module_listen(options->modules, NULL, false, holds_happened, keeper);
        return keeper;
}

void keeper_set_ahead(struct keeper *keeper, bool pulls_ahead)
{
        keeper->options.pulls_ahead = pulls_ahead;
        round_want(keeper);
}

void keeper_refresh(struct keeper *keeper)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(keeper->kept, &position, &key, &key_bytes, &value))
                for (struct item *item = ((struct kept *)value)->items; item; item = item->next)
                        if (!item->is_running)
                                item_queue(item);
}

void keeper_close(struct keeper *keeper)
{
        ON_LOOP();
        keeper->is_closing = true;
        loop_timer_cancel(&keeper->work);
        loop_timer_cancel(&keeper->tick);
        loop_timer_cancel(&keeper->note);
        module_unlisten(&keeper->listener);
        map_free(&keeper->kept);
        keeper->kept = map_new(kept_free);
}

void keeper_free(struct keeper **keeper_pointer)
{
        struct keeper *keeper = TAKE(*keeper_pointer);
        if (!keeper)
                return;
        if (!keeper->is_closing)
                keeper_close(keeper);
        map_free(&keeper->kept);
        map_free(&keeper->folders);
        map_free(&keeper->hosts);
        map_free(&keeper->held);
        map_free(&keeper->expected);
        map_free(&keeper->troubles);
        news_free(keeper);
        workloads_free(keeper);
        plugins_free(&keeper->plugins);
        free(keeper->root_namespace);
        free(keeper->node);
        free(keeper->pods_told_by);
        free(keeper);
}
