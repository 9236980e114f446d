/* What the tests of room plugin share: resources from texts, workloads from "k=v" texts, chains as one text. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/plugin.h>

static inline struct plugin *plugin_of_yaml(const char *yaml)
{
        CLEANUP(value_free) struct value *value = NULL;
        struct error err;
        if (!yaml_parse(yaml, strlen(yaml), ERROR_BAD_REQUEST, &value, &err))
                fail_msg("%s\n%s", err.text, yaml);
        return plugin_decode(value);
}

/* `spec` is what stands between the braces. */
static inline struct plugin *plugin_of(const char *kind, const char *namespace, const char *name, const char *spec)
{
        CLEANUP(cleanup_free) char *yaml = string_format("{apiVersion: extensions.istio.io/v1alpha1, kind: %s, metadata: {namespace: %s, name: %s}, spec: {%s}}", kind, namespace, name, spec);
        return plugin_of_yaml(yaml);
}

/* "a=1 b=2" */
struct test_workload { struct plugin_workload workload; struct plugin_label labels[8]; char *text; };
static inline void test_workload_init(struct test_workload *test, const char *namespace, const char *labels)
{
        *test = (struct test_workload){ .workload = { .namespace = namespace, .labels = test->labels }, .text = string_copy(labels) };
        char *save = NULL;
        for (char *word = strtok_r(test->text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
                char *equals = strchr(word, '=');
                *equals = '\0';
                test->labels[test->workload.label_count++] = (struct plugin_label){ word, equals + 1 };
        }
}
static inline void test_workload_fini(struct test_workload *test)
{
        free(test->text);
}

/* "name name …" */
static inline char *chain_text(struct plugins *plugins, const struct plugin_workload *workload, const struct plugin_traffic *traffic)
{
        static const struct plugin_traffic any = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE };
        struct plugin_chain chain;
        struct buffer text = { 0 };
        plugins_select(plugins, workload, traffic ? traffic : &any, &chain);
        for (size_t i = 0; i < chain.count; i++)
                buffer_printf(&text, "%s%s", i > 0 ? " " : "", chain.items[i]->name);
        return buffer_take(&text);
}
