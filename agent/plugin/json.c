/*
 * How it goes: one entry of a workload's chain, one entry of the list of resources, each with every member that contract section 2 names, in its order.
 * How it fails: it does not; what is not known is null.
 * How it ends: the text is in the writer's buffer.
 */
#include <wasmcached/plugin.h>

static void matches_put(struct json_writer *writer, const struct plugin *plugin)
{
        static const char *const modes[] = { "UNDEFINED", "CLIENT", "SERVER", "CLIENT_AND_SERVER" };
        json_open_list(writer, "match");
        for (size_t i = 0; i < plugin->match_count; i++) {
                const struct plugin_match *match = &plugin->matches[i];
                json_open_map(writer, NULL);
                json_put_text(writer, "mode", modes[match->mode]);
                json_open_list(writer, "ports");
                for (size_t k = 0; k < match->port_count; k++) {
                        json_open_map(writer, NULL);
                        json_put_int(writer, "number", match->ports[k]);
                        json_close_map(writer);
                }
                json_close_list(writer);
                json_close_map(writer);
        }
        json_close_list(writer);
}

static void envs_put(struct json_writer *writer, const struct plugin *plugin)
{
        json_open_list(writer, "env");
        for (size_t i = 0; i < plugin->env_count; i++) {
                json_open_map(writer, NULL);
                json_put_text(writer, "name", plugin->envs[i].name);
                if (plugin->envs[i].value)
                        json_put_text(writer, "value", plugin->envs[i].value);
                else
                        json_put_text(writer, "valueFrom", "HOST");
                json_close_map(writer);
        }
        json_close_list(writer);
}

static void problem_put(struct json_writer *writer, const char *field, const char *detail)
{
        json_open_map(writer, NULL);
        json_put_text(writer, "field", field);
        json_put_text(writer, "detail", detail);
        json_close_map(writer);
}

static void problems_put(struct json_writer *writer, const struct plugin *plugin)
{
        for (size_t i = 0; i < plugin->problem_count; i++)
                problem_put(writer, plugin->problems[i].field, plugin->problems[i].detail);
}

/* A refused one says itself why; nothing from outside is known of it. */
static void outcome_put(struct json_writer *writer, const struct plugin *plugin, const struct plugin_outcome *outcome)
{
        static const char *const progress[] = { "pulling", "ready", "failed" };
        bool is_refused = plugin->state != PLUGIN_ACCEPTED;
        CLEANUP(cleanup_free) char *detail = is_refused && plugin->problem_count > 0 ? string_format("%s: %s", plugin->problems[0].field, plugin->problems[0].detail) : NULL;
        json_put_text(writer, "sha256", is_refused ? NULL : outcome->sha256);
        json_put_text(writer, "digest", is_refused ? NULL : outcome->digest);
        json_put_text(writer, "path", is_refused ? NULL : outcome->path);
        json_put_text(writer, "state", is_refused ? "refused" : progress[outcome->progress]);
        json_put_text(writer, "code", is_refused ? error_get_row(plugin->code)->name : outcome->code);
        json_put_text(writer, "detail", is_refused ? detail : outcome->detail);
        if (outcome->since)
                json_put_text(writer, "since", outcome->since);
}

void plugin_put_chain_entry(struct json_writer *writer, const struct plugin *plugin, const struct plugin_outcome *outcome)
{
        json_open_map(writer, NULL);
        json_put_text(writer, "kind", plugin_kind_names[plugin->kind]);
        json_put_text(writer, "namespace", plugin->namespace);
        json_put_text(writer, "name", plugin->name);
        json_put_text(writer, "resourceVersion", plugin->version);
        json_put_text(writer, "phase", plugin_phase_names[plugin->phase]);
        json_put_int(writer, "priority", plugin->priority);
        json_put_text(writer, "type", plugin_type_names[plugin->type]);
        matches_put(writer, plugin);
        json_put_text(writer, "pluginName", plugin->plugin_name);
        json_put_raw(writer, "pluginConfig", plugin->config ? plugin->config : "null");
        envs_put(writer, plugin);
        json_put_text(writer, "failStrategy", plugin_fail_strategy_names[plugin->fail_strategy]);
        json_put_text(writer, "url", plugin->url);
        outcome_put(writer, plugin, outcome);
        json_open_list(writer, "problems");
        problems_put(writer, plugin);
        json_close_list(writer);
        json_close_map(writer);
}

void plugin_put_resource(struct json_writer *writer, const struct plugin_row *row)
{
        const struct plugin *plugin = row->plugin;
        json_open_map(writer, NULL);
        json_put_text(writer, "kind", plugin_kind_names[plugin->kind]);
        json_put_text(writer, "namespace", plugin->namespace);
        json_put_text(writer, "name", plugin->name);
        json_put_text(writer, "source", row->source);
        json_put_text(writer, "state", plugin_state_names[row->shadowed_by ? PLUGIN_REFUSED : plugin->state]);
        json_open_list(writer, "problems");
        if (row->shadowed_by) {
                CLEANUP(cleanup_free) char *detail = string_format("%s %s/%s is already given by %s; remove it from one of them",
                        plugin_kind_names[plugin->kind], plugin->namespace, plugin->name, row->shadowed_by);
                problem_put(writer, "metadata.name", detail);
        }
        problems_put(writer, plugin);
        json_close_list(writer);
        json_close_map(writer);
}
