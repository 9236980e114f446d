/*
 * How it goes: GET /v1/resources lists what sources gave, page by page; explain?plugin= follows one plugin to one workload, step by step, and ends where it stops.
 * How it fails: malformed parameters 400; a plugin that nobody gave is an answer, not an error.
 * How it ends: nothing is changed, except that explaining asks for nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "front.h"

static void resource_each(void *arg, const struct plugin_row *row)
{
        plugin_put_resource(arg, row);
}

void api_handle_resources(struct api_call *call)
{
        struct error err = { 0 };
        struct plugin_page page = { .namespace = serve_request_get_query(call->request, "namespace", 0), .after = serve_request_get_query(call->request, "continue", 0),
                .each = resource_each };
        CLEANUP(cleanup_free) char *next = NULL;
        struct buffer *body = api_scratch(call->api);
        struct json_writer writer = { .out = body };
        page.arg = &writer;
        bool is_good = api_limit_read(call, &page.limit, &err);
        if (is_good && !call->api->options.keeper)
                is_good = refuse(&err, ERROR_NOT_FOUND, "this daemon knows no plugins");
        if (is_good && page.namespace && !string_is_dns(page.namespace, 63, false))
                is_good = refuse(&err, ERROR_BAD_REQUEST, "query parameter \"namespace\": a DNS label is needed (at most 63 of a-z, 0-9 and -)");
        json_open_map(&writer, NULL);
        json_open_list(&writer, "resources");
        if (is_good && !plugins_list(keeper_get_plugins(call->api->options.keeper), &page, &next, &err))
                is_good = refuse_within(&err, "query parameter");
        if (!is_good) {
                api_call_fail(call, &err);
                return;
        }
        json_close_list(&writer);
        if (next)
                json_put_text(&writer, "continue", next);
        json_close_map(&writer);
        api_answer_json(call->api, call->request, api_call_route(call), body);
}

/* ---- explain ---- */

static void step(struct json_writer *writer, const char *check, const char *result, const char *detail)
{
        json_open_map(writer, NULL);
        json_put_text(writer, "check", check);
        json_put_text(writer, "result", result);
        json_put_text(writer, "detail", detail);
        json_close_map(writer);
}

/* "WasmPlugin/ns/name" or "ns/name", which may be of either kind. */
static bool plugin_find(const struct api_call *call, const char *name, const struct plugin **ret_plugin, struct error *err)
{
        CLEANUP(cleanup_free) char *copy = string_copy(name);
        const struct plugins *plugins = keeper_get_plugins(call->api->options.keeper);
        char *save = NULL, *parts[4];
        size_t count = 0;
        for (char *part = strtok_r(copy, "/", &save); part && count < COUNT_OF(parts); part = strtok_r(NULL, "/", &save))
                parts[count++] = part;
        bool is_extension = count == 3 && strcmp(parts[0], plugin_kind_names[PLUGIN_TRAFFIC_EXTENSION]) == 0;
        if (count != 2 && !(count == 3 && (is_extension || strcmp(parts[0], plugin_kind_names[PLUGIN_WASM_PLUGIN]) == 0)))
                return refuse(err, ERROR_BAD_REQUEST, "query parameter \"plugin\": namespace/name is needed, or WasmPlugin/namespace/name, TrafficExtension/namespace/name");
        const char *namespace = parts[count - 2], *last = parts[count - 1];
        *ret_plugin = is_extension ? NULL : plugins_find(plugins, PLUGIN_WASM_PLUGIN, namespace, last);
        if (!*ret_plugin && (count == 2 || is_extension))
                *ret_plugin = plugins_find(plugins, PLUGIN_TRAFFIC_EXTENSION, namespace, last);
        return true;
}

static const char *label_of(const struct api_question *question, const char *key)
{
        for (size_t i = 0; i < question->label_count; i++)
                if (strcmp(question->labels[i].key, key) == 0)
                        return question->labels[i].value;
        return NULL;
}

/* What the plugin wants and the workload lacks, in words. */
static void selector_explain(const struct plugin *plugin, const struct api_question *question, struct buffer *out)
{
        for (size_t i = 0; i < plugin->label_count; i++) {
                const char *has = label_of(question, plugin->labels[i].key);
                if (!has)
                        buffer_printf(out, "; it wants %s=%s, the workload has no such label", plugin->labels[i].key, plugin->labels[i].value);
                else if (strcmp(has, plugin->labels[i].value) != 0)
                        buffer_printf(out, "; it wants %s=%s, the workload has %s=%s", plugin->labels[i].key, plugin->labels[i].value, plugin->labels[i].key, has);
        }
}

struct verdict_texts { const char *verdict, *code; };

static struct verdict_texts plugin_explain(const struct api_call *call, const struct plugin *plugin, const struct api_question *question, struct json_writer *writer)
{
        static const char *const progress[] = { "pulling", "ready", "failed" };
        struct keeper *keeper = call->api->options.keeper;
        struct plugin_workload workload = api_question_workload(question);
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct keeper_status status;
        if (!plugin) {
                step(writer, "resource", "absent", "no source gave a WasmPlugin or TrafficExtension of this name; wasmcachectl resources lists what was read");
                return (struct verdict_texts){ "not_reached", "not_found" };
        }
        buffer_printf(&text, "%s %s/%s, version %s", plugin_kind_names[plugin->kind], plugin->namespace, plugin->name, plugin->version);
        for (size_t i = 0; i < plugin->problem_count; i++)
                buffer_printf(&text, "; %s: %s", plugin->problems[i].field, plugin->problems[i].detail);
        step(writer, "resource", plugin_state_names[plugin->state], text.data);

        enum plugin_fit fit = plugin_get_fit(plugin, keeper_get_root_namespace(keeper), &workload, &question->traffic);
        buffer_clear(&text);
        buffer_printf(&text, "workload in namespace %s: %s", question->namespace, plugin_fit_text(fit));
        if (fit == PLUGIN_FIT_LABELS)
                selector_explain(plugin, question, &text);
        if (fit == PLUGIN_FIT_NAMESPACE)
                buffer_printf(&text, "; it is in %s, the root namespace is %s", plugin->namespace, keeper_get_root_namespace(keeper));
        step(writer, "selection", fit == PLUGIN_FIT_YES ? "ok" : "no", text.data);
        if (fit != PLUGIN_FIT_YES)
                return (struct verdict_texts){ "not_reached", NULL };
        if (plugin->state == PLUGIN_REFUSED) {
                buffer_clear(&text);
                buffer_printf(&text, "it is in the chain, but only as a stand-in by its failStrategy, %s", plugin_fail_strategy_names[plugin->fail_strategy]);
                step(writer, "module", "refused", text.data);
                return (struct verdict_texts){ "refused", error_get_row(plugin->code)->name };
        }
        keeper_get_status(keeper, plugin, question->namespace, &status);
        CLEANUP(cleanup_free) char *path = status.progress == PLUGIN_READY && status.sha256 ? api_plugin_path(call->listener, question->namespace, status.sha256) : NULL;
        step(writer, "module", progress[status.progress], status.detail ? status.detail : path ? path : "it has been asked for, or is when a Pod or a caller needs it");
        const char *code = status.code ? error_get_row(status.code)->name : NULL;
        return (struct verdict_texts){ status.progress == PLUGIN_FAILED ? "refused" : "reached", code };
}

void api_explain_plugin(struct api_call *call)
{
        struct error err = { 0 };
        CLEANUP(api_question_fini) struct api_question question = { 0 };
        CLEANUP(buffer_fini) struct buffer steps = { 0 };
        const struct plugin *plugin = NULL;
        struct json_writer writer = { .out = &steps }, whole = { 0 };
        if (serve_request_get_query(call->request, "url", 0))
                refuse(&err, ERROR_BAD_REQUEST, "query parameters \"plugin\" and \"url\" exclude each other");
        else if (!call->api->options.keeper)
                refuse(&err, ERROR_NOT_FOUND, "this daemon knows no plugins");
        if (err.code || !api_question_read(call, &question, &err) || !plugin_find(call, serve_request_get_query(call->request, "plugin", 0), &plugin, &err)) {
                api_call_fail(call, &err);
                return;
        }
        json_open_list(&writer, NULL);
        struct verdict_texts verdict = plugin_explain(call, plugin, &question, &writer);
        json_close_list(&writer);
        whole.out = api_scratch(call->api);
        json_open_map(&whole, NULL);
        json_put_text(&whole, "verdict", verdict.verdict);
        json_put_text(&whole, "code", verdict.code);
        json_put_raw(&whole, "steps", steps.data);
        json_close_map(&whole);
        api_answer_json(call->api, call->request, api_call_route(call), whole.out);
}
