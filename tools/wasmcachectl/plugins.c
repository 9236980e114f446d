/*
 * How it goes: the workload of the options becomes a query; plugins shows its chain, resources what was read, page by page, explain --plugin why one of them reaches it or not.
 * How it fails: the daemon's word; a listing that broke off prints nothing.
 * How it ends: with the answer on standard output.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

static void workload_put(const struct ctl *ctl, struct buffer *query)
{
        static const struct { enum option option; const char *name; } rows[] = {
                { OPTION_NAMESPACE, "namespace" }, { OPTION_DIRECTION, "direction" }, { OPTION_PORT, "port" }, { OPTION_TYPE, "type" }, { OPTION_PLUGIN, "plugin" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (ctl->options[rows[i].option])
                        query_put(query, rows[i].name, ctl->options[rows[i].option]);
        for (unsigned i = 0; i < ctl->repeated_count; i++) {
                enum option option = ctl->repeated[i].option;
                if (option != OPTION_KEY)
                        query_put(query, option == OPTION_LABEL ? "label" : option == OPTION_SERVICE ? "service" : "serviceEntry", ctl->repeated[i].value);
        }
}

/* The first problem, and how many there are. */
static char *reason_of(const struct value *item)
{
        const struct value *problems = value_get_member(item, "problems"), *first = value_get_item(problems, 0);
        const char *code = text_member(item, "code"), *detail = text_member(item, "detail");
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        if (first)
                buffer_printf(&text, "%s: %s", text_member(first, "field"), text_member(first, "detail"));
        else if (code)
                buffer_printf(&text, "%s%s%s", code, detail ? ": " : "", detail ? detail : "");
        if (value_get_count(problems) > 1)
                buffer_printf(&text, " (and %zu more)", value_get_count(problems) - 1);
        return buffer_take(&text);
}

int command_plugins(struct ctl *ctl)
{
        static const char *const heads[] = { "NAMESPACE", "NAME", "PHASE", "PRIORITY", "STATE", "AGE", "REASON" };
        CLEANUP(value_free) struct value *answer = NULL;
        CLEANUP(buffer_fini) struct buffer path = { 0 };
        struct table table = { .columns = COUNT_OF(heads) };
        buffer_append_text(&path, "/v1/plugins");
        workload_put(ctl, &path);
        if (ctl->format == FORMAT_TABLE)
                query_put(&path, "times", "1");
        int result = daemon_ask(ctl, "GET", path.data, NULL, &answer);
        if (result != WASMCACHE_OK)
                return result;
        if (ctl->format != FORMAT_TABLE) {
                output_value(ctl, answer);
                return WASMCACHE_OK;
        }
        for (size_t i = 0; i < COUNT_OF(heads); i++)
                table_add(&table, heads[i]);
        const struct value *plugins = value_get_member(answer, "plugins");
        for (size_t i = 0; i < value_get_count(plugins); i++) {
                const struct value *plugin = value_get_item(plugins, i);
                CLEANUP(cleanup_free) char *reason = reason_of(plugin);
                char age[24], priority[24];
                format_age(text_member(plugin, "since"), age, sizeof age);
                snprintf(priority, sizeof priority, "%" PRId64, value_get_int(value_get_member(plugin, "priority")));
                const char *const cells[] = { text_member(plugin, "namespace"), text_member(plugin, "name"), text_member(plugin, "phase"), priority, text_member(plugin, "state"),
                        age, reason };
                for (size_t k = 0; k < COUNT_OF(cells); k++)
                        table_add(&table, cells[k]);
        }
        table_print(&table);
        return WASMCACHE_OK;
}

/* ---- resources ---- */

static void resource_row(struct table *table, const struct value *resource)
{
        CLEANUP(cleanup_free) char *reason = reason_of(resource);
        const char *const cells[] = { text_member(resource, "namespace"), text_member(resource, "kind"), text_member(resource, "name"), text_member(resource, "state"),
                text_member(resource, "source"), reason };
        for (size_t i = 0; i < COUNT_OF(cells); i++)
                table_add(table, cells[i]);
}

int command_resources(struct ctl *ctl)
{
        static const char *const heads[] = { "NAMESPACE", "KIND", "NAME", "STATE", "SOURCE", "REASON", NULL };
        if (ctl->options[OPTION_NAMESPACE] && ctl->options[OPTION_ALL_NAMESPACES])
                return report_usage(NULL, "--namespace and --all-namespaces exclude each other");
        return listing_print(ctl, &(struct listing){ "/v1/resources", "resources", ctl->options[OPTION_NAMESPACE], heads, resource_row });
}

int explain_plugin(struct ctl *ctl)
{
        CLEANUP(value_free) struct value *answer = NULL;
        CLEANUP(buffer_fini) struct buffer path = { 0 };
        if (ctl->argument_count > 0)
                return report_usage(NULL, "explain takes URL or --plugin, not both");
        buffer_append_text(&path, "/v1/explain");
        workload_put(ctl, &path);
        int result = daemon_ask(ctl, "GET", path.data, NULL, &answer);
        if (result != WASMCACHE_OK)
                return result;
        if (ctl->format == FORMAT_TABLE)
                explain_print(answer);
        else
                output_value(ctl, answer);
        return WASMCACHE_OK;
}
