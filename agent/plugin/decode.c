/*
 * How it goes: the envelope (apiVersion, metadata), where the plugin has its place (selection, phase, priority), then the Wasm half, which a WasmPlugin has in its spec and a
 *              TrafficExtension in spec.wasm. The rules are those of Istio's CRD and of its webhook together, and contract section 5's own.
 * How it fails: by problems; the plugin is then refused, keeps what could be read, and can still stand in for itself.
 * How it ends: counted; the last plugin_unref() frees.
 */
#include <stdio.h>
#include "room.h"

#define API_GROUP "extensions.istio.io/"

const char *const plugin_kind_names[] = { "TrafficExtension", "WasmPlugin", "Secret", "Pod", "File", NULL };
const char *const plugin_state_names[] = { "accepted", "refused", "ignored", NULL };
const char *const plugin_phase_names[] = { "AUTHN", "AUTHZ", "STATS", "UNSPECIFIED", NULL };
const char *const plugin_type_names[] = { "HTTP", "NETWORK", NULL };
const char *const plugin_fail_strategy_names[] = { "FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD", NULL };

bool plugin_is_resource(const struct value *object)
{
        const char *version = value_get_text(value_get_member(object, "apiVersion")), *kind = value_get_text(value_get_member(object, "kind"));
        return version && kind && string_starts_with(version, API_GROUP) && (string_equal(kind, plugin_kind_names[0]) || string_equal(kind, plugin_kind_names[1]));
}

/* ---- envelope ---- */
static void envelope_read(const struct reading *object)
{
        static const char *const members[] = { "apiVersion", "kind", "metadata", "spec", "status", NULL };
        const struct value *version = reading_get(object, "apiVersion", VALUE_TEXT), *kind = reading_get(object, "kind", VALUE_TEXT);
        struct place version_at = place_top("apiVersion"), kind_at = place_top("kind");
        reading_only(object, "a resource", members);
        if (!string_equal(value_get_text(version), API_GROUP "v1alpha1"))
                problem_add(object->plugin, ERROR_BAD_REQUEST, &version_at, "must be " API_GROUP "v1alpha1");
        if (string_equal(value_get_text(kind), plugin_kind_names[PLUGIN_TRAFFIC_EXTENSION]))
                object->plugin->kind = PLUGIN_TRAFFIC_EXTENSION;
        else if (!string_equal(value_get_text(kind), plugin_kind_names[PLUGIN_WASM_PLUGIN]))
                problem_add(object->plugin, ERROR_BAD_REQUEST, &kind_at, "must be WasmPlugin or TrafficExtension");
}

/* False: cannot be read at all. A text that is no name is a problem, but it still tells resources apart. */
static bool name_read(const struct reading *metadata, const char *member, const char *absent, char **ret_name)
{
        struct plugin *plugin = metadata->plugin;
        bool is_label = absent != NULL;
        struct place at = place_member(&metadata->at, member);
        const struct value *value = reading_get(metadata, member, VALUE_TEXT);
        const char *text = value ? value_get_text(value) : reading_has(metadata, member) ? NULL : absent;
        if (!value && !absent && !reading_has(metadata, member))
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "is missing");
        if (text && !string_is_dns(text, is_label ? 63 : 253, !is_label))
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "must be a DNS %s: a-z, 0-9, '-'%s, at most %d", is_label ? "label" : "name",
                        is_label ? "" : " and '.'", is_label ? 63 : 253);
        *ret_name = string_copy(text ? text : "");
        return text && *text && strlen(text) <= PLUGIN_TARGET_NAME_MAX;
}

static bool metadata_read(const struct reading *object)
{
        static const char *const members[] = { "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
                "labels", "annotations", "ownerReferences", "finalizers", "managedFields", "generateName", "selfLink", NULL };
        struct plugin *plugin = object->plugin;
        struct place at = place_top("metadata");
        struct reading metadata;
        if (!reading_start(plugin, value_get_member(object->map, "metadata"), &at, &metadata)) {
                plugin->name = string_copy("");
                plugin->namespace = string_copy("default");
                return false;
        }
        reading_only(&metadata, "metadata", members);
        bool has_name = name_read(&metadata, "name", NULL, &plugin->name), has_namespace = name_read(&metadata, "namespace", "default", &plugin->namespace);
        const char *version = NULL;
        reading_text(&metadata, "resourceVersion", PLUGIN_VERSION_MAX, &version);
        for (const char *c = version; c && *c; c++)
                if ((unsigned char)*c <= ' ' || *c == 0x7f) {
                        struct place version_at = place_member(&at, "resourceVersion");
                        problem_add(plugin, ERROR_BAD_REQUEST, &version_at, "has a blank or control character in it");
                        version = NULL;
                }
        plugin->version = string_copy(version);
        plugin->uid = string_copy(value_get_text(value_get_member(metadata.map, "uid")));
        return has_name && has_namespace;
}

/* What makes this object this version of this object; `status` is not part of it. */
static void fingerprint_make(const struct value *object, struct plugin *plugin)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        struct digest digest;
        const struct value *metadata = value_get_member(object, "metadata");
        json_open_list(&writer, NULL);
        json_put_int(&writer, NULL, plugin->kind);
        json_put_text(&writer, NULL, plugin->namespace);
        json_put_text(&writer, NULL, plugin->name);
        json_put_text(&writer, NULL, value_get_text(value_get_member(metadata, "uid")));
        json_put_text(&writer, NULL, plugin->version);
        for (size_t i = 0; i < plugin->problem_count; i++)         /* of what is not in the spec, too */
                json_put_text(&writer, NULL, plugin->problems[i].detail);
        json_put_value(&writer, NULL, value_get_member(object, "spec"));
        json_close_list(&writer);
        digest_sha256(text.data, text.used, &digest);
        memcpy(&plugin->fingerprint, digest.bytes, sizeof plugin->fingerprint);
        if (!plugin->version)
                plugin->version = string_format("%016llx", (unsigned long long)plugin->fingerprint);
}

/* ---- spec ---- */
static void wasm_read(const struct reading *wasm)
{
        static const char *const types[] = { "UNSPECIFIED_PLUGIN_TYPE", "HTTP", "NETWORK", NULL }, *const strategies[] = { "FAIL_CLOSE", "FAIL_OPEN", "FAIL_RELOAD", NULL };
        struct plugin *plugin = wasm->plugin;
        unsigned type = 1, strategy = PLUGIN_FAIL_CLOSE;
        const char *name = NULL;
        reading_text(wasm, "pluginName", PLUGIN_NAME_MAX, &name);
        plugin->plugin_name = string_copy(name);
        reading_choice(wasm, "type", types, &type);
        plugin->type = type == 2 ? PLUGIN_NETWORK : PLUGIN_HTTP;
        reading_choice(wasm, "failStrategy", strategies, &strategy);
        plugin->fail_strategy = strategy;

        const struct value *config = reading_get(wasm, "pluginConfig", VALUE_MAP);
        if (config) {
                struct buffer text = { 0 };
                struct json_writer writer = { .out = &text };
                json_put_value(&writer, NULL, config);
                plugin->config = buffer_take(&text);
        }
        envs_read(wasm);
        source_read(wasm);
}

static void lua_read(const struct reading *spec)
{
        static const char *const members[] = { "inlineCode", NULL };
        struct place at = place_member(&spec->at, "lua"), code_at = place_member(&at, "inlineCode");
        struct reading lua;
        const char *code = NULL;
        if (!reading_start(spec->plugin, value_get_member(spec->map, "lua"), &at, &lua))
                return;
        reading_only(&lua, "lua", members);
        if (reading_text(&lua, "inlineCode", PLUGIN_CODE_MAX, &code) && !code)
                problem_add(spec->plugin, ERROR_BAD_REQUEST, &code_at, "is missing");
}

/* Exactly one half; a lua one is not ours to run, nor to stand in for. */
static void halves_read(const struct reading *spec)
{
        static const char *const members[] = { "url", "sha256", "imagePullPolicy", "imagePullSecret", "verificationKey", "pluginConfig",
                "pluginName", "failStrategy", "vmConfig", "type", NULL };
        struct plugin *plugin = spec->plugin;
        bool has_wasm = reading_has(spec, "wasm"), has_lua = reading_has(spec, "lua");
        struct place at = place_member(&spec->at, "wasm");
        struct reading wasm;
        if (has_wasm == has_lua)
                problem_add(plugin, ERROR_BAD_REQUEST, &spec->at, "exactly one of wasm and lua must be set");
        if (has_wasm && reading_start(plugin, value_get_member(spec->map, "wasm"), &at, &wasm)) {
                reading_only(&wasm, "wasm", members);
                wasm_read(&wasm);
        }
        if (has_lua)
                lua_read(spec);
        if (has_lua && !has_wasm) {
                plugin->state = PLUGIN_IGNORED;
                plugin->is_placed = false;
        }
}

static bool place_read(const struct reading *spec)
{
        static const char *const wasm_plugin_phases[] = { "AUTHN", "AUTHZ", "STATS", "UNSPECIFIED_PHASE", NULL };
        struct plugin *plugin = spec->plugin;
        bool is_wasm_plugin = plugin->kind == PLUGIN_WASM_PLUGIN;
        unsigned phase = PLUGIN_UNSPECIFIED;
        bool has_selection = selection_read(spec, is_wasm_plugin);
        bool has_phase = reading_choice(spec, "phase", is_wasm_plugin ? wasm_plugin_phases : plugin_phase_names, &phase);
        bool has_priority = reading_integer(spec, "priority", &plugin->priority);
        plugin->phase = phase;
        return has_selection && has_phase && has_priority;
}

static void spec_read(const struct reading *object, bool is_named)
{
        static const char *const wasm_plugin[] = { "selector", "targetRef", "targetRefs", "phase", "priority", "match", "url", "sha256", "imagePullPolicy", "imagePullSecret",
                "verificationKey", "pluginConfig", "pluginName", "failStrategy", "vmConfig", "type", NULL };
        static const char *const traffic_extension[] = { "selector", "targetRefs", "phase", "priority", "match", "wasm", "lua", NULL };
        struct plugin *plugin = object->plugin;
        struct place at = place_top("spec");
        struct reading spec;
        if (!reading_has(object, "spec")) {
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "is missing");
                return;
        }
        if (!reading_start(plugin, value_get_member(object->map, "spec"), &at, &spec))
                return;
        bool is_wasm_plugin = plugin->kind == PLUGIN_WASM_PLUGIN;
        reading_only(&spec, is_wasm_plugin ? "a WasmPlugin" : "a TrafficExtension", is_wasm_plugin ? wasm_plugin : traffic_extension);
        plugin->is_placed = place_read(&spec) && is_named;
        matches_read(&spec);
        if (is_wasm_plugin)
                wasm_read(&spec);
        else
                halves_read(&spec);
}

struct plugin *plugin_decode(const struct value *object)
{
        struct plugin *plugin = memory_new(1, sizeof *plugin);
        struct place top = place_top("");
        struct reading reading;
        plugin->references = 1;
        plugin->kind = PLUGIN_WASM_PLUGIN;
        reading_start(plugin, object, &top, &reading);
        envelope_read(&reading);
        bool is_named = metadata_read(&reading);
        fingerprint_make(object, plugin);
        spec_read(&reading, is_named);
        if (plugin->problem_count > 0) {
                plugin->state = PLUGIN_REFUSED;
                module_want_unref(&plugin->want);
        }
        return plugin;
}

struct plugin *plugin_new_row(enum plugin_kind kind, const char *namespace, const char *name)
{
        struct plugin *plugin = memory_new(1, sizeof *plugin);
        *plugin = (struct plugin){ .references = 1, .kind = kind, .state = PLUGIN_REFUSED, .phase = PLUGIN_UNSPECIFIED };
        plugin->namespace = string_copy(namespace);
        plugin->name = string_copy(name);
        plugin->version = string_copy("");
        return plugin;
}

void plugin_seal_row(struct plugin *plugin)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct digest digest;
        for (size_t i = 0; i < plugin->problem_count; i++)
                buffer_printf(&text, "%s\n%s\n", plugin->problems[i].field, plugin->problems[i].detail);
        digest_sha256(text.data ? text.data : "", text.used, &digest);
        memcpy(&plugin->fingerprint, digest.bytes, sizeof plugin->fingerprint);
}

struct plugin *plugin_ref(struct plugin *plugin)
{
        plugin->references++;
        return plugin;
}

void plugin_unref(struct plugin **plugin_pointer)
{
        struct plugin *plugin = TAKE(*plugin_pointer);
        if (!plugin || --plugin->references > 0)
                return;

        for (size_t i = 0; i < plugin->label_count; i++) {
                free(plugin->labels[i].key);
                free(plugin->labels[i].value);
        }
        for (size_t i = 0; i < plugin->target_count; i++)
                free(plugin->targets[i].name);
        for (size_t i = 0; i < plugin->match_count; i++)
                free(plugin->matches[i].ports);
        for (size_t i = 0; i < plugin->env_count; i++) {
                free(plugin->envs[i].name);
                free(plugin->envs[i].value);
        }
        for (size_t i = 0; i < plugin->problem_count; i++) {
                free(plugin->problems[i].field);
                free(plugin->problems[i].detail);
        }
        void *const texts[] = { plugin->labels, plugin->targets, plugin->matches, plugin->envs, plugin->problems, plugin->namespace, plugin->name, plugin->uid, plugin->version,
                plugin->url, plugin->plugin_name, plugin->config };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                free(texts[i]);
        module_want_unref(&plugin->want);
        free(plugin);
}
