/*
 * How it goes: PLUGINS plugins in SPACES namespaces and the root namespace, WORKLOADS workloads: a chain that is remembered, a chain after a change of the root namespace, and what
 *              a plugin takes beside its text: {"plugins", "workloads", "cached_ns", "recompute_ns", "recompute_max_ns", "recompute_max_cpu_ns", "plugin_bytes", "items"}.
 * How it fails: an assertion.
 * How it ends: one line of JSON.
 */
#include <assert.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wasmcached/plugin.h>

enum { PLUGINS = 10000, ROOT_PLUGINS = 500, SPACES = 20, APPS = 10, WORKLOADS = SPACES * APPS, ROUNDS = 50 };

struct workload { struct plugin_workload workload; struct plugin_label label; char space[16], app[16]; };

static int64_t clock_ns(clockid_t clock)
{
        struct timespec now;
        clock_gettime(clock, &now);
        return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static int64_t now_ns(void)
{
        return clock_ns(CLOCK_MONOTONIC);
}

static struct plugin *plugin_make(unsigned i, unsigned priority, size_t *text_bytes)
{
        struct error err;
        CLEANUP(value_free) struct value *value = NULL;
        char space[16];
        snprintf(space, sizeof space, "ns%u", i % SPACES);
        CLEANUP(cleanup_free) char *yaml = string_format("{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: plugin-%u, namespace: %s}, spec: {selector: "
                "{matchLabels: {app: a%u}}, url: \"oci://registry.example/team/plugin-%u:v1\", phase: AUTHZ, priority: %u, pluginConfig: {rules: [{allow: [GET, POST]}]}}}",
                i, i < ROOT_PLUGINS ? "istio-system" : space, i / SPACES % APPS, i, priority);
        bool is_good = yaml_parse(yaml, strlen(yaml), ERROR_BAD_REQUEST, &value, &err);
        assert(is_good);
        *text_bytes += strlen(yaml);
        struct plugin *plugin = plugin_decode(value);
        assert(plugin->state == PLUGIN_ACCEPTED);
        return plugin;
}

static int compare(const void *a, const void *b)
{
        const int64_t *left = a, *right = b;
        return (*left > *right) - (*left < *right);
}

int main(void)
{
        static struct workload workloads[WORKLOADS];
        static struct plugin *items[PLUGINS];
        static int64_t recomputed[ROUNDS * WORKLOADS];
        const struct plugin_traffic traffic = { PLUGIN_INBOUND, 8080, PLUGIN_HTTP };
        struct plugin_chain chain;
        int64_t longest_cpu = 0;
        size_t text_bytes = 0, unused = 0, listed = 0, count = 0;
        struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        for (unsigned i = 0; i < WORKLOADS; i++) {
                struct workload *workload = &workloads[i];
                snprintf(workload->space, sizeof workload->space, "ns%u", i % SPACES);
                snprintf(workload->app, sizeof workload->app, "a%u", i / SPACES % APPS);
                workload->label = (struct plugin_label){ (char *)(uintptr_t)"app", workload->app };
                workload->workload = (struct plugin_workload){ .namespace = workload->space, .labels = &workload->label, .label_count = 1 };
        }
        size_t before = mallinfo2().uordblks;
        for (unsigned i = 0; i < PLUGINS; i++)
                items[i] = plugin_make(i, i % 100, &text_bytes);
        plugins_replace(plugins, "s", items, PLUGINS);
        for (unsigned i = 0; i < WORKLOADS; i++) {
                plugins_select(plugins, &workloads[i].workload, &traffic, &chain);
                listed += chain.count;
        }
        size_t after = mallinfo2().uordblks;

        int64_t began = now_ns();
        for (unsigned round = 0; round < ROUNDS; round++)
                for (unsigned i = 0; i < WORKLOADS; i++)
                        plugins_select(plugins, &workloads[i].workload, &traffic, &chain);
        int64_t cached = (now_ns() - began) / (ROUNDS * WORKLOADS);
        for (unsigned round = 0; round < ROUNDS; round++) {
                plugins_put(plugins, "s", plugin_make(round % ROOT_PLUGINS, 1000 + round, &unused));
                for (unsigned i = 0; i < WORKLOADS; i++) {
                        int64_t used = clock_ns(CLOCK_THREAD_CPUTIME_ID);
                        began = now_ns();
                        plugins_select(plugins, &workloads[i].workload, &traffic, &chain);
                        recomputed[count++] = now_ns() - began;
                        used = clock_ns(CLOCK_THREAD_CPUTIME_ID) - used;
                        longest_cpu = used > longest_cpu ? used : longest_cpu;
                }
        }
        qsort(recomputed, count, sizeof *recomputed, compare);
        printf("{\"plugins\": %d, \"workloads\": %d, \"cached_ns\": %lld, \"recompute_ns\": %lld, \"recompute_max_ns\": %lld, \"recompute_max_cpu_ns\": %lld, "
                "\"plugin_bytes\": %lld, \"items\": %zu}\n", PLUGINS, WORKLOADS, (long long)cached, (long long)recomputed[count / 2], (long long)recomputed[count - 1],
                (long long)longest_cpu, (long long)(after - before - text_bytes) / PLUGINS, listed / WORKLOADS);
        plugins_free(&plugins);
        return 0;
}
