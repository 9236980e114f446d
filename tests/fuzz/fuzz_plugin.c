/* Any JSON or YAML as a resource: decoding ends, refused means problems with fields, what is placed selects and orders like the fit says, and all that is written is JSON. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/plugin.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth)
{
        if (!truth)
                abort();
}

static void must_be_json(const struct buffer *text)
{
        CLEANUP(value_free) struct value *value = NULL;
        struct error err;
        must(json_parse(text->data, text->used, ERROR_BAD_REQUEST, &value, &err));
}

static void check(const struct plugin *plugin)
{
        must((plugin->state == PLUGIN_REFUSED) == (plugin->problem_count > 0) && plugin->problem_count <= PLUGIN_PROBLEMS_MAX);
        must((plugin->state == PLUGIN_ACCEPTED) == (plugin->want != NULL) && (plugin->state != PLUGIN_ACCEPTED || plugin->is_placed));
        must(plugin->namespace && plugin->name && plugin->version && *plugin->version && (!plugin->is_placed || *plugin->name));
        for (size_t i = 0; i < plugin->problem_count; i++)
                must(*plugin->problems[i].detail && strlen(plugin->problems[i].field) < 256);
        for (size_t i = 1; i < plugin->label_count; i++)
                must(strcmp(plugin->labels[i - 1].key, plugin->labels[i].key) < 0);

        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        plugin_put_chain_entry(&writer, plugin, &(struct plugin_outcome){ PLUGIN_PULLING, NULL, NULL, NULL, NULL, NULL, NULL });
        must_be_json(&text);
}

static void each(void *arg, const struct plugin_row *row)
{
        plugin_put_resource(arg, row);
}

static void check_set(const struct plugin *plugin, struct plugins *plugins)
{
        struct plugin_label labels[] = { { (char *)(uintptr_t)"app", (char *)(uintptr_t)"a" }, { (char *)(uintptr_t)"gateway.networking.k8s.io/gateway-name", (char *)(uintptr_t)"gw" } };
        static const struct plugin_traffic traffics[] = { { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE }, { PLUGIN_INBOUND, 80, PLUGIN_HTTP }, { PLUGIN_OUTBOUND, 0, PLUGIN_NETWORK } };
        for (size_t i = 0; i < 3 * COUNT_OF(traffics); i++) {
                struct plugin_workload workload = { plugin->namespace, labels, i % 3, NULL, 0 };
                struct plugin_chain chain;
                plugins_select(plugins, &workload, &traffics[i / 3], &chain);
                must(chain.count == (plugin_get_fit(plugin, "istio-system", &workload, &traffics[i / 3]) == PLUGIN_FIT_YES));
        }
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        char *after = NULL;
        struct error err;
        json_open_list(&writer, NULL);
        must(plugins_list(plugins, &(struct plugin_page){ NULL, NULL, 1, each, &writer }, &after, &err) && !after);
        json_close_list(&writer);
        must_be_json(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(value_free) struct value *value = NULL;
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        struct error err;
        if (!json_parse((const char *)data, size, ERROR_BAD_REQUEST, &value, &err) && !yaml_parse((const char *)data, size, ERROR_BAD_REQUEST, &value, &err))
                return 0;
        CLEANUP(plugin_unref) struct plugin *plugin = plugin_decode(value), *again = plugin_decode(value);
        must(plugin->fingerprint == again->fingerprint && strcmp(plugin->version, again->version) == 0);
        check(plugin);
        plugins_put(plugins, "a", plugin_ref(plugin));
        check_set(plugin, plugins);
        return 0;
}
