/*
 * How it goes: what happens to a plugin is told where it concerns somebody: thousands of nodes must not repeat one mistake. A refused plugin that concerns nobody yet is kept in
 *              mind, and told when a round over the workloads, or one that asks, comes by it; placed ones are in that workload's chain, the others concern all of its namespace.
 * How it fails: a plugin that is repaired before anybody was told of it is forgotten, and so is its recovery.
 * How it ends: what is kept in mind goes with the teller.
 */
#include "keeper.h"

static void plugin_drop(void *pointer)
{
        struct plugin *plugin = pointer;
        plugin_unref(&plugin);
}

static bool is_untold(const struct keeper *keeper, const struct plugin *plugin)
{
        return map_get(keeper->untold, &plugin, sizeof plugin) != NULL;
}

static void untold_put(struct keeper *keeper, const struct plugin *plugin)
{
        map_put(keeper->untold, &plugin, sizeof plugin, plugin_ref((struct plugin *)(uintptr_t)plugin));
        keeper->untold_unplaced += !plugin->is_placed;
}

static void untold_remove(struct keeper *keeper, const struct plugin *plugin)
{
        keeper->untold_unplaced -= !plugin->is_placed;
        map_remove(keeper->untold, &plugin, sizeof plugin);
}

/* Where nobody tells of Pods, whoever reads the manifests is concerned. */
static bool is_of_concern(const struct keeper *keeper, const struct plugin *plugin)
{
        return (keeper->pod_count == 0 && !keeper->pods_told_by) || workloads_include(keeper, plugin);
}

void keeper_tell(struct keeper *keeper, const struct keeper_news *news)
{
        struct keeper_news told = *news;
        if (!keeper->told)
                return;
        told.concerns = news->is_of_module || is_of_concern(keeper, news->plugin);
        keeper->told(keeper->told_arg, &told);
}

static void refusal_tell(struct keeper *keeper, const struct plugin *plugin, bool concerns)
{
        CLEANUP(cleanup_free) char *detail = string_format("%s: %s", plugin->problems[0].field, plugin->problems[0].detail);
        keeper->told(keeper->told_arg,
                &(struct keeper_news){ .happening = KEEPER_REFUSED, .plugin = plugin, .code = error_get_row(plugin->code)->name, .detail = detail, .concerns = concerns });
}

void resource_news(struct keeper *keeper, const struct plugin *before, const struct plugin *after)
{
        bool was_untold = before && is_untold(keeper, before), was_refused = before && before->state == PLUGIN_REFUSED && !was_untold;
        if (was_untold)
                untold_remove(keeper, before);
        if (!keeper->told || !after || after->kind > PLUGIN_WASM_PLUGIN)
                return;
        if (after->state == PLUGIN_REFUSED && after->problem_count > 0) {
                bool concerns = is_of_concern(keeper, after);
                if (!concerns)
                        untold_put(keeper, after);
                refusal_tell(keeper, after, concerns);
        } else if (was_refused)
                keeper_tell(keeper, &(struct keeper_news){ .happening = KEEPER_RECOVERED, .plugin = after, .detail = "every field can be read" });
}

bool news_are_waiting(const struct keeper *keeper)
{
        return keeper->told && map_get_count(keeper->untold) > 0;
}

void news_come_by(struct keeper *keeper, const struct plugin_workload *workload, const struct plugin_chain *chain)
{
        if (!news_are_waiting(keeper))
                return;
        if (keeper->untold_unplaced > 0)
                map_put_text(keeper->spaces, workload->namespace, keeper);
        for (size_t i = 0; i < chain->count; i++)
                if (chain->items[i]->state == PLUGIN_REFUSED && is_untold(keeper, chain->items[i])) {
                        refusal_tell(keeper, chain->items[i], true);
                        untold_remove(keeper, chain->items[i]);
                }
}

void news_round_over(struct keeper *keeper)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (keeper->untold_unplaced > 0 && map_get_count(keeper->spaces) > 0 && map_next(keeper->untold, &position, &key, &key_bytes, &value)) {
                const struct plugin *plugin = value;
                if (plugin->is_placed || (strcmp(plugin->namespace, keeper->root_namespace) != 0 && !map_get_text(keeper->spaces, plugin->namespace)))
                        continue;
                refusal_tell(keeper, plugin, true);
                untold_remove(keeper, plugin);
        }
        map_free(&keeper->spaces);
        keeper->spaces = map_new(NULL);
}

void keeper_set_teller(struct keeper *keeper, void (*told)(void *arg, const struct keeper_news *news), void *arg)
{
        keeper->told = told;
        keeper->told_arg = arg;
        if (told)
                return;
        news_free(keeper);
        news_init(keeper);
}

void news_init(struct keeper *keeper)
{
        keeper->untold = map_new(plugin_drop);
        keeper->spaces = map_new(NULL);
        keeper->untold_unplaced = 0;
}

void news_free(struct keeper *keeper)
{
        map_free(&keeper->untold);
        map_free(&keeper->spaces);
}
