/*
 * How it goes: workloads are the Pods that sources name, and whoever asked in the last hour. A round takes them one after the other, a few milliseconds at a time, and marks
 *              what their chains have; what changes meanwhile begins another round when this one is over.
 * How it fails: it does not; of too many that asked, the one that asked longest ago is forgotten.
 * How it ends: workloads_free().
 */
#include "keeper.h"

/* ---- rounds ---- */

void round_want(struct keeper *keeper)
{
        keeper->round_wanted = true;
        keeper_work(keeper);
}

/* `pulls` false: only news of what selects it. */
static void workload_need(struct keeper *keeper, const struct plugin_workload *workload, bool pulls)
{
        static const struct plugin_traffic any = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE };
        struct plugin_chain chain;
        plugins_select(keeper->plugins, workload, &any, &chain);
        for (size_t i = 0; pulls && i < chain.count; i++)
                item_need(keeper, chain.items[i], workload->namespace);
        news_come_by(keeper, workload, &chain);
}

static bool is_meant(const struct keeper *keeper, const struct plugin *plugin, const struct plugin_workload *workload)
{
        static const struct plugin_traffic any = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE };
        enum plugin_fit fit = plugin_get_fit(plugin, keeper->root_namespace, workload, &any);
        return fit == PLUGIN_FIT_YES ||
               (fit == PLUGIN_FIT_UNPLACED && (strcmp(plugin->namespace, workload->namespace) == 0 || strcmp(plugin->namespace, keeper->root_namespace) == 0));
}

bool workloads_include(const struct keeper *keeper, const struct plugin *plugin)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        for (size_t i = 0; i < keeper->pod_count; i++) {
                const struct plugin_pod *pod = keeper->pods[i];
                if (is_meant(keeper, plugin, &(struct plugin_workload){ .namespace = pod->namespace, .labels = pod->labels, .label_count = pod->label_count }))
                        return true;
        }
        while (map_next(keeper->asked, &position, &key, &key_bytes, &value))
                if (is_meant(keeper, plugin, &((const struct asked *)value)->workload))
                        return true;
        return false;
}

static void round_begin(struct keeper *keeper)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        keeper->round_wanted = false;
        keeper->round_runs = true;
        keeper->round++;
        keeper->round_at = keeper->round_asked_count = 0;
        keeper->round_pods = keeper->options.pulls_ahead || news_are_waiting(keeper) ? keeper->pod_count : 0;
        keeper->round_asked = memory_resize(keeper->round_asked, map_get_count(keeper->asked) + 1, sizeof(struct asked *));
        while (map_next(keeper->asked, &position, &key, &key_bytes, &value))
                keeper->round_asked[keeper->round_asked_count++] = value;
}

/* Pods and askers may change between steps: then another round was wanted, and begins at once. */
bool round_step(struct keeper *keeper)
{
        int64_t until_us = clock_get_us() + KEEPER_SLICE_US;
        if (keeper->round_wanted)
                round_begin(keeper);
        if (!keeper->round_runs)
                return true;
        size_t pods = keeper->round_pods;
        for (; keeper->round_at < pods + keeper->round_asked_count; keeper->round_at++) {
                if (clock_get_us() > until_us)
                        return false;
                const struct asked *asked = keeper->round_at >= pods ? keeper->round_asked[keeper->round_at - pods] : NULL;
                if (asked)
                        workload_need(keeper, &asked->workload, true);
                if (keeper->round_at >= pods)
                        continue;
                const struct plugin_pod *pod = keeper->pods[keeper->round_at];
                const struct plugin_workload workload = { .namespace = pod->namespace, .labels = pod->labels, .label_count = pod->label_count };
                workload_need(keeper, &workload, keeper->options.pulls_ahead);
        }
        keeper->round_runs = false;
        items_sweep(keeper);
        news_round_over(keeper);
        return true;
}

/* ---- who asks ---- */

static void text_put(struct buffer *key, const char *text)
{
        buffer_append(key, text, strlen(text) + 1);
}

static void workload_key(const struct plugin_workload *workload, struct buffer *ret_key)
{
        text_put(ret_key, workload->namespace);
        for (size_t i = 0; i < workload->label_count; i++) {
                text_put(ret_key, workload->labels[i].key);
                text_put(ret_key, workload->labels[i].value);
        }
        for (size_t i = 0; i < workload->service_count; i++) {
                buffer_append(ret_key, workload->services[i].is_entry ? "\1" : "\2", 1);
                text_put(ret_key, workload->services[i].namespace);
                text_put(ret_key, workload->services[i].name);
        }
}

static void asked_free(void *pointer)
{
        struct asked *asked = pointer;
        for (size_t i = 0; i < asked->workload.label_count; i++) {
                free(asked->workload.labels[i].key);
                free(asked->workload.labels[i].value);
        }
        for (size_t i = 0; i < asked->workload.service_count; i++) {
                free((void *)(uintptr_t)asked->workload.services[i].namespace);
                free((void *)(uintptr_t)asked->workload.services[i].name);
        }
        free((void *)(uintptr_t)asked->workload.labels);
        free((void *)(uintptr_t)asked->workload.services);
        free((void *)(uintptr_t)asked->workload.namespace);
        free(asked->key);
        free(asked);
}

static struct asked *asked_new(const struct plugin_workload *workload)
{
        struct asked *asked = memory_new(1, sizeof *asked);
        struct plugin_label *labels = memory_new(workload->label_count + 1, sizeof *labels);
        struct plugin_service *services = memory_new(workload->service_count + 1, sizeof *services);
        for (size_t i = 0; i < workload->label_count; i++)
                labels[i] = (struct plugin_label){ string_copy(workload->labels[i].key), string_copy(workload->labels[i].value) };
        for (size_t i = 0; i < workload->service_count; i++)
                services[i] = (struct plugin_service){ workload->services[i].is_entry, string_copy(workload->services[i].namespace), string_copy(workload->services[i].name) };
        asked->workload = (struct plugin_workload){ string_copy(workload->namespace), labels, workload->label_count, services, workload->service_count };
        return asked;
}

static void asked_forget(struct keeper *keeper, struct asked *asked)
{
        CLEANUP(cleanup_free) char *key = TAKE(asked->key);
        for (size_t i = 0; keeper->round_runs && i < keeper->round_asked_count; i++)
                if (keeper->round_asked[i] == asked)
                        keeper->round_asked[i] = NULL;
        map_remove(keeper->asked, key, asked->key_bytes);
        keeper->has_forgotten = true;
}

static void asked_limit(struct keeper *keeper)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        struct asked *oldest = NULL;
        if (map_get_count(keeper->asked) < KEEPER_ASKED_MAX)
                return;
        while (map_next(keeper->asked, &position, &key, &key_bytes, &value))
                if (!oldest || ((struct asked *)value)->asked_ms < oldest->asked_ms)
                        oldest = value;
        asked_forget(keeper, oldest);
}

void keeper_ask(struct keeper *keeper, const struct plugin_workload *workload)
{
        ON_LOOP();
        CLEANUP(buffer_fini) struct buffer key = { 0 };
        workload_key(workload, &key);
        struct asked *asked = map_get(keeper->asked, key.data, key.used);
        if (!asked) {
                asked_limit(keeper);
                asked = asked_new(workload);
                asked->key_bytes = key.used;
                asked->key = string_copy_bytes(key.data, key.used);
                map_put(keeper->asked, key.data, key.used, asked);
                keeper_work(keeper);
                workload_need(keeper, workload, true);
                if (keeper->untold_unplaced > 0)
                        round_want(keeper);
                queue_start(keeper);              /* what is here already is known in this answer */
        }
        asked->asked_ms = clock_get_ms();
}

void asked_sweep(struct keeper *keeper, int64_t now_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        struct asked *over = NULL;
        while (!over && map_next(keeper->asked, &position, &key, &key_bytes, &value))
                if (now_ms - ((struct asked *)value)->asked_ms > KEEPER_ASKED_KEEP_MS)
                        over = value;
        if (over)
                asked_forget(keeper, over);
        /* Not at once: whoever asks with ever other labels must not make all others be looked at each time. */
        if (!keeper->has_forgotten || now_ms < keeper->next_sweep_ms)
                return;
        keeper->has_forgotten = false;
        keeper->next_sweep_ms = now_ms + KEEPER_SWEEP_MS;
        round_want(keeper);
}

/* ---- Pods ---- */

void plugin_pod_free(struct plugin_pod **pod_pointer)
{
        struct plugin_pod *pod = TAKE(*pod_pointer);
        if (!pod)
                return;
        for (size_t i = 0; i < pod->label_count; i++) {
                free(pod->labels[i].key);
                free(pod->labels[i].value);
        }
        for (size_t i = 0; i < pod->container_count; i++)
                free(pod->containers[i]);
        void *const texts[] = { pod->labels, pod->namespace, pod->name, pod->uid, pod->service_account, pod->node, pod->containers, pod->mirror_hash };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                free(texts[i]);
        free(pod);
}

static void pods_source_free(void *pointer)
{
        struct pods_source *source = pointer;
        for (size_t i = 0; i < source->count; i++)
                plugin_pod_free(&source->pods[i]);
        free(source->pods);
        free(source->name);
        free(source);
}

static int by_name(const void *a, const void *b)
{
        const struct pods_source *const *left = a, *const *right = b;
        return plugin_compare_sources((*left)->name, (*right)->name);
}

static void pod_take(struct keeper *keeper, struct map *seen, struct plugin_pod *pod)
{
        CLEANUP(cleanup_free) char *name = string_format("%s/%s", pod->namespace, pod->name);
        if (map_get_text(seen, name) || (*keeper->node && pod->node && strcmp(pod->node, keeper->node) != 0))
                return;
        map_put_text(seen, name, pod);
        keeper->pods[keeper->pod_count++] = pod;
        pods_index_put(keeper, pod);
}

static void pods_index(struct keeper *keeper)
{
        size_t position = 0, key_bytes, count = 0, sources = 0;
        const void *key;
        void *value;
        CLEANUP(map_free) struct map *seen = map_new(NULL);
        CLEANUP(cleanup_free) struct pods_source **sorted = memory_new(map_get_count(keeper->pod_sources) + 1, sizeof *sorted);
        while (map_next(keeper->pod_sources, &position, &key, &key_bytes, &value)) {
                sorted[sources++] = value;
                count += sorted[sources - 1]->count;
        }
        qsort(sorted, sources, sizeof *sorted, by_name);
        keeper->pods = memory_resize(keeper->pods, count + 1, sizeof(struct plugin_pod *));
        keeper->pod_count = 0;
        pods_index_clear(keeper);
        for (size_t i = 0; i < sources; i++)
                for (size_t k = 0; k < sorted[i]->count; k++)
                        pod_take(keeper, seen, sorted[i]->pods[k]);
}

static void pods_changed(struct keeper *keeper)
{
        pods_index(keeper);
        keeper_changed(keeper, NULL);              /* who waits may have other labels now */
        keeper->round_runs = false;
        round_want(keeper);
}

void keeper_put_pods(struct keeper *keeper, const char *source_name, struct plugin_pod *const *pods, size_t count)
{
        ON_LOOP();
        if (count == 0 && !map_get_text(keeper->pod_sources, source_name))
                return;
        struct pods_source *source = memory_new(1, sizeof *source);
        *source = (struct pods_source){ string_copy(source_name), memory_new(count + 1, sizeof(struct plugin_pod *)), count };
        if (count > 0)
                memcpy(source->pods, pods, count * sizeof(struct plugin_pod *));
        map_put_text(keeper->pod_sources, source_name, source);
        if (count == 0)
                map_remove_text(keeper->pod_sources, source_name);
        pods_changed(keeper);
}

static size_t pod_position(const struct pods_source *source, const char *namespace, const char *name)
{
        size_t i = 0;
        while (i < source->count && (strcmp(source->pods[i]->namespace, namespace) != 0 || strcmp(source->pods[i]->name, name) != 0))
                i++;
        return i;
}

void keeper_put_pod(struct keeper *keeper, const char *source_name, struct plugin_pod *pod)
{
        ON_LOOP();
        struct pods_source *source = map_get_text(keeper->pod_sources, source_name);
        if (!source) {
                keeper_put_pods(keeper, source_name, &pod, 1);
                return;
        }
        size_t at = pod_position(source, pod->namespace, pod->name);
        if (at < source->count)
                plugin_pod_free(&source->pods[at]);
        else
                source->pods = memory_resize(source->pods, ++source->count, sizeof(struct plugin_pod *));
        source->pods[at] = pod;
        pods_changed(keeper);
}

void keeper_remove_pod(struct keeper *keeper, const char *source_name, const char *namespace, const char *name)
{
        ON_LOOP();
        struct pods_source *source = map_get_text(keeper->pod_sources, source_name);
        size_t at = source ? pod_position(source, namespace, name) : 0;
        if (!source || at == source->count)
                return;
        plugin_pod_free(&source->pods[at]);
        source->pods[at] = source->pods[--source->count];
        pods_changed(keeper);
}

size_t keeper_get_pod_count(const struct keeper *keeper)
{
        return keeper->pod_count;
}

void workloads_init(struct keeper *keeper)
{
        keeper->asked = map_new(asked_free);
        keeper->pod_sources = map_new(pods_source_free);
        pods_index_clear(keeper);
}

void workloads_free(struct keeper *keeper)
{
        map_free(&keeper->asked);
        map_free(&keeper->pod_sources);
        pods_index_free(keeper);
        free(keeper->round_asked);
        free(keeper->pods);
}
