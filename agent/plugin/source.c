/*
 * How it goes: what shall run and with what environment. The fields that say where the module comes from go to module's own decoder, as a request of the resource's namespace,
 *              so that one set of rules serves resources, API and CLI.
 * How it fails: by problem. The decoder stops at the first bad member; that one becomes a problem, is left out (a bad url is replaced), and the rest is asked about again.
 * How it ends: an accepted plugin has its want; a refused one has none, so that nobody can pull for it.
 */
#include <stdio.h>
#include "room.h"

enum { RESOURCE_NAME_MAX = 253 };         /* of module's member resource.name */

static bool env_name_is_repeated(const struct plugin *plugin, const char *name)
{
        for (size_t i = 0; i < plugin->env_count; i++)
                if (strcmp(plugin->envs[i].name, name) == 0)
                        return true;
        return false;
}

/* ISTIO_META_…: an agent takes its orders, pull secrets among them, from such variables; a resource must not be able to write them. */
static bool env_name_check(const struct reading *env, const char *name)
{
        struct place at = place_member(&env->at, "name");
        if (!name)
                return reading_has(env, "name") ? false : problem_add(env->plugin, ERROR_BAD_REQUEST, &at, "is missing");
        if (string_starts_with(name, "ISTIO_META_"))
                return problem_add(env->plugin, ERROR_BAD_REQUEST, &at, "names with the prefix ISTIO_META_ are reserved");
        if (env_name_is_repeated(env->plugin, name))
                return problem_add(env->plugin, ERROR_BAD_REQUEST, &at, "a variable of this name is there already");
        return true;
}

static void env_read(struct plugin *plugin, const struct value *value, const struct place *at)
{
        static const char *const members[] = { "name", "valueFrom", "value", NULL }, *const ways[] = { "INLINE", "HOST", NULL };
        struct reading env;
        if (!reading_start(plugin, value, at, &env))
                return;
        reading_only(&env, "an environment variable", members);

        const char *name = NULL;
        unsigned way = 0;
        reading_text(&env, "name", PLUGIN_ENV_NAME_MAX, &name);
        reading_choice(&env, "valueFrom", ways, &way);
        const struct value *text = reading_get(&env, "value", VALUE_TEXT);
        struct place value_at = place_member(at, "value");
        if (way == 1 && reading_has(&env, "value"))
                problem_add(plugin, ERROR_BAD_REQUEST, &value_at, "may only be set when valueFrom is INLINE; with HOST the value is the proxy's own");
        else if (text && text_count_characters(value_get_text(text)) > PLUGIN_ENV_VALUE_MAX)
                problem_add(plugin, ERROR_BAD_REQUEST, &value_at, "has more than %d characters", PLUGIN_ENV_VALUE_MAX);
        if (env_name_check(&env, name))
                plugin->envs[plugin->env_count++] = (struct plugin_env){ string_copy(name), way == 1 ? NULL : string_copy(text ? value_get_text(text) : "") };
}

void envs_read(const struct reading *wasm)
{
        static const char *const members[] = { "env", NULL };
        struct plugin *plugin = wasm->plugin;
        const struct value *config = reading_get(wasm, "vmConfig", VALUE_MAP);
        struct place config_at = place_member(&wasm->at, "vmConfig"), at = place_member(&config_at, "env");
        struct reading reading;
        if (!config || !reading_start(plugin, config, &config_at, &reading))
                return;
        reading_only(&reading, "vmConfig", members);
        const struct value *list = reading_get(&reading, "env", VALUE_LIST);
        size_t count = value_get_count(list);
        if (count > PLUGIN_ENVS_MAX) {
                problem_add(plugin, ERROR_BAD_REQUEST, &at, "has %zu variables, at most %d are allowed", count, PLUGIN_ENVS_MAX);
                return;
        }
        plugin->envs = count > 0 ? memory_new(count, sizeof *plugin->envs) : NULL;
        for (size_t i = 0; i < count; i++) {
                struct place item = place_item(&at, i);
                env_read(plugin, value_get_item(list, i), &item);
        }
}

/* ---- the source: the request that module shall decode ---- */
struct source { const char *name, *text; };
enum { SOURCE_URL, SOURCE_SHA256, SOURCE_POLICY, SOURCE_SECRET, SOURCE_KEY, SOURCES };

/* One version of one object: with `Always`, the registry is asked once for it. */
static void resource_put(struct json_writer *writer, const struct plugin *plugin)
{
        CLEANUP(cleanup_free) char *name = string_format("%s/%s/%s", plugin_kind_names[plugin->kind], plugin->namespace, plugin->name);
        char hex[DIGEST_TEXT_BYTES];
        struct digest digest;
        digest_sha256(name, strlen(name), &digest);
        digest_format_hex(&digest, hex);
        json_open_map(writer, "resource");
        json_put_text(writer, "name", strlen(name) <= RESOURCE_NAME_MAX ? name : hex);
        json_put_text(writer, "version", plugin->version);
        json_close_map(writer);
}

static bool request_decode(const struct plugin *plugin, const struct source *sources, struct module_want **ret_want, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        json_open_map(&writer, NULL);
        for (size_t i = 0; i < SOURCES; i++)
                if (sources[i].text)
                        json_put_text(&writer, sources[i].name, sources[i].text);
        if (plugin->problem_count == 0) {                /* else the want is not kept, and the names may be none */
                json_put_text(&writer, "namespace", plugin->namespace);
                resource_put(&writer, plugin);
        }
        json_close_map(&writer);

        CLEANUP(value_free) struct value *body = NULL;
        return json_parse(text.data, text.used, ERROR_BAD_REQUEST, &body, err) && module_want_decode(body, ret_want, err);
}

/* "sha256: is not …" → SOURCE_SHA256; what names no member is about the key if its code says so, else about the url. *ret_detail is the sentence without the name. */
static size_t blame(const struct source *sources, const struct error *err, const char **ret_detail)
{
        for (size_t i = 0; i < SOURCES; i++) {
                size_t length = strlen(sources[i].name);
                if (strncmp(err->text, sources[i].name, length) == 0 && strncmp(err->text + length, ": ", 2) == 0 && sources[i].text) {
                        *ret_detail = err->text + length + 2;
                        return i;
                }
        }
        *ret_detail = err->text;
        return err->code == ERROR_BAD_KEY && sources[SOURCE_KEY].text ? SOURCE_KEY : SOURCE_URL;
}

/* Ends: each round takes one member away, and a request of the stand-in url alone is good. */
static void source_check(const struct reading *wasm, struct source *sources)
{
        for (size_t round = 0; round <= SOURCES; round++) {
                struct plugin *plugin = wasm->plugin;
                struct error err = { 0 };
                const char *detail;
                CLEANUP(module_want_unref) struct module_want *want = NULL;
                if (request_decode(plugin, sources, &want, &err)) {
                        plugin->want = TAKE(want);
                        return;
                }
                size_t which = blame(sources, &err, &detail);
                struct place at = place_member(&wasm->at, sources[which].name);
                problem_add(plugin, err.code, &at, "%s", detail);
                sources[which].text = which == SOURCE_URL ? "oci://localhost/stand-in:v1" : NULL;
        }
}

void source_read(const struct reading *wasm)
{
        struct plugin *plugin = wasm->plugin;
        struct source sources[SOURCES] = { { "url", NULL }, { "sha256", NULL }, { "imagePullPolicy", NULL }, { "imagePullSecret", NULL }, { "verificationKey", NULL } };
        for (size_t i = 0; i < SOURCES; i++) {
                const struct value *member = i == SOURCE_SECRET ? NULL : reading_get(wasm, sources[i].name, VALUE_TEXT);
                sources[i].text = member ? value_get_text(member) : NULL;
        }
        reading_text(wasm, sources[SOURCE_SECRET].name, PLUGIN_SECRET_NAME_MAX, &sources[SOURCE_SECRET].text);
        plugin->url = string_copy(sources[SOURCE_URL].text);
        struct place at = place_member(&wasm->at, "url");
        if (!reading_has(wasm, "url"))
                problem_add(plugin, ERROR_BAD_URL, &at, "is missing: where the module comes from, as in oci://host/path:tag");
        if (!sources[SOURCE_URL].text)
                sources[SOURCE_URL].text = "oci://localhost/stand-in:v1";
        source_check(wasm, sources);
}
