/*
 * How it goes: one snapshot of all numbers, one table of metrics; simple ones name a member of the snapshot, families with labels have a function. Written as Prometheus
 *              text 0.0.4 or OpenMetrics 1.0.
 * How it fails: it does not. Labels are routes, error codes, stages and versions only: their number is bounded.
 * How it ends: text in the caller's buffer.
 */
#include <string.h>
#include <strings.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <wasmcached/fetch.h>
#include "front.h"

struct numbers {
        const struct api *api;
        struct module_stats module;
        struct serve_stats serve;
        struct fetch_stats fetch;
        struct keeper_stats keeper;
        uint64_t log_dropped;
        double started_s, cpu_s;
        bool store_healthy;
};

enum metric_type { COUNTER, GAUGE, HISTOGRAM };
enum metric_width { FAMILY, U64, U32, SIZE, REAL, TRUTH };
struct output { const struct numbers *numbers; bool open_metrics; struct buffer *out; };
struct metric {
        const char *name;                 /* without the _total of counters */
        enum metric_type type;
        const char *unit;                 /* the last part of the name, for OpenMetrics; "" = none */
        enum metric_width width;
        size_t offset;
        void (*put)(const struct output *output, const char *name);
        const char *help;
};

static void put_requests(const struct output *output, const char *name)
{
        const struct api *api = output->numbers->api;
        for (size_t i = 0; i <= API_ROUTES_MAX; i++)
                for (size_t code = 0; code < ERROR_CODES; code++) {
                        if (api->answers[i][code] == 0 || (i >= api_route_count && i < API_ROUTES_MAX))
                                continue;
                        bool is_route = i < api_route_count;
                        buffer_printf(output->out, "wasmcached_%s_total{method=\"%s\",route=\"%s\",code=\"%s\"} %llu\n", name, is_route ? api_routes[i].method : "none",
                                is_route ? api_routes[i].path : "none", code ? error_get_row((enum error_code)code)->name : "ok", (unsigned long long)api->answers[i][code]);
                }
}

static void put_answers(const struct output *output, const char *name)
{
        for (size_t code = 0; code < ERROR_CODES; code++)
                buffer_printf(output->out, "wasmcached_%s_total{code=\"%s\"} %llu\n", name, code ? error_get_row((enum error_code)code)->name : "ok",
                        (unsigned long long)output->numbers->module.answers_by_code[code]);
}

static void put_stages(const struct output *output, const char *name)
{
        const struct module_stats *module = &output->numbers->module;
        for (size_t stage = 0; stage < MODULE_STAGES; stage++) {
                uint64_t sum = 0;
                for (size_t i = 0; i < MODULE_BUCKETS; i++) {
                        sum += module->stages[stage].buckets[i];
                        double bound = module_bucket_seconds[i];
                        const char *whole = bound >= 1 && bound - (double)(int64_t)bound < 1e-9 ? ".0" : "";
                        buffer_printf(output->out, "wasmcached_%s_bucket{stage=\"%s\",le=\"%g%s\"} %llu\n", name, module_stage_names[stage], bound, whole, (unsigned long long)sum);
                }
                sum += module->stages[stage].buckets[MODULE_BUCKETS];
                buffer_printf(output->out, "wasmcached_%s_bucket{stage=\"%s\",le=\"+Inf\"} %llu\n", name, module_stage_names[stage], (unsigned long long)sum);
                buffer_printf(output->out, "wasmcached_%s_sum{stage=\"%s\"} %.6f\n", name, module_stage_names[stage], (double)module->stages[stage].sum_us / 1e6);
                buffer_printf(output->out, "wasmcached_%s_count{stage=\"%s\"} %llu\n", name, module_stage_names[stage], (unsigned long long)sum);
        }
}

static void put_verifications(const struct output *output, const char *name)
{
        for (size_t format = 0; format < MODULE_PROOFS; format++)
                for (size_t reason = 0; reason < MODULE_PROOF_REASONS; reason++) {
                        unsigned long long number = output->numbers->module.verifications[format][reason];
                        if (number > 0)
                                buffer_printf(output->out, "wasmcached_%s_total{format=\"%s\",result=\"%s\",reason=\"%s\"} %llu\n", name, module_proof_names[format],
                                              reason == 0 ? "verified" : "refused", module_reason_name(reason), number);
                }
}

static void put_resources(const struct output *output, const char *name)
{
        for (size_t i = 0; plugin_state_names[i]; i++)
                buffer_printf(output->out, "wasmcached_%s{state=\"%s\"} %zu\n", name, plugin_state_names[i], output->numbers->keeper.resources[i]);
}

static void put_plugins(const struct output *output, const char *name)
{
        static const char *const states[] = { "pulling", "ready", "failed" };
        for (size_t i = 0; i < COUNT_OF(states); i++)
                buffer_printf(output->out, "wasmcached_%s{state=\"%s\"} %zu\n", name, states[i], output->numbers->keeper.modules[i]);
}

static void put_build(const struct output *output, const char *name)
{
        buffer_printf(output->out, "wasmcached_%s{version=\"%s\"} 1\n", name, output->numbers->api->options.version);
}

#define AT(width, member) width, offsetof(struct numbers, member), NULL
static const struct metric metrics[] = {
        { "build_info", GAUGE, "", FAMILY, 0, put_build, "Version of the running daemon; always 1." },
        { "start_time_seconds", GAUGE, "seconds", AT(REAL, started_s), "When the daemon started, seconds since 1970." },
        { "cpu_seconds", COUNTER, "seconds", AT(REAL, cpu_s), "CPU time used, user and system." },
        { "http_requests", COUNTER, "", FAMILY, 0, put_requests, "Answers of the API by route and outcome." },
        { "module_answers", COUNTER, "", FAMILY, 0, put_answers, "Answers to module requests by outcome, in the words of the API's error codes; ok = a path was handed out." },
        { "hits", COUNTER, "", AT(U64, module.hits), "Module requests answered from the store without any network." },
        { "misses", COUNTER, "", AT(U64, module.misses), "Module requests answered with what was pulled for them; what is refused counts in module_answers alone." },
        { "revalidations", COUNTER, "", AT(U64, module.revalidations), "Module requests answered after the source said that nothing changed." },
        { "stale_served", COUNTER, "", AT(U64, module.stale_served), "Module requests answered with what was there because the source could not be reached." },
        { "pulls_started", COUNTER, "", AT(U64, module.pulls_started), "Pulls begun, and questions to a source whether it still has what is here." },
        { "pulls_done", COUNTER, "", AT(U64, module.pulls_done), "Those that ended well." },
        { "pulls_failed", COUNTER, "", AT(U64, module.pulls_failed), "Those that were refused or failed." },
        { "pulls_joined", COUNTER, "", AT(U64, module.pulls_joined), "Requests that waited for a pull another one had begun." },
        { "pull_stage_seconds", HISTOGRAM, "seconds", FAMILY, 0, put_stages, "Time of each stage of a pull." },
        { "verifications", COUNTER, "", FAMILY, 0, put_verifications, "Signatures judged, by format and outcome; format none = nothing was there to be judged." },
        { "signature_identity_mismatches", COUNTER, "", AT(U64, module.identity_mismatches), "Good signatures made for another repository than the one asked for." },
        { "downloaded_bytes", COUNTER, "bytes", AT(U64, module.bytes_downloaded), "Bytes of layers and bodies received." },
        { "unpacked_bytes", COUNTER, "bytes", AT(U64, module.bytes_unpacked), "Bytes of modules unpacked." },
        { "flights", GAUGE, "", AT(U32, module.flights), "Pulls running." },
        { "flights_queued", GAUGE, "", AT(U32, module.flights_queued), "Pulls waiting for a slot." },
        { "waiters", GAUGE, "", AT(U32, module.waiters), "Requests waiting for a pull." },
        { "refusals", GAUGE, "", AT(U32, module.refusals), "Refusals remembered (negative cache)." },
        { "secret_errors", COUNTER, "", AT(U64, module.secret_errors), "Pull secrets that were missing, empty or malformed." },
        { "store_size_bytes", GAUGE, "bytes", AT(U64, module.store_bytes), "Bytes of modules in the store." },
        { "store_budget_bytes", GAUGE, "bytes", AT(U64, module.store_budget_bytes), "What they may take (store.max_size)." },
        { "store_healthy", GAUGE, "", AT(TRUTH, store_healthy), "1 when the store can be written, 0 when it is read-only or failing." },
        { "store_loading", GAUGE, "", AT(TRUTH, module.is_loading), "1 while a large store is read after a start; what is in it is not counted yet then, hits are answered." },
        { "store_modules", GAUGE, "", AT(SIZE, module.modules), "Modules in the store." },
        { "store_references", GAUGE, "", AT(SIZE, module.references), "References whose module is known." },
        { "store_grants", GAUGE, "", AT(SIZE, module.grants), "Grants: who has shown that it may have what." },
        { "store_pins", GAUGE, "", AT(SIZE, module.pins), "Pinned modules." },
        { "leases", GAUGE, "", AT(SIZE, module.leases), "Leases that run." },
        { "evicted_modules", COUNTER, "", AT(U64, module.evicted), "Modules let go for the size budget." },
        { "evicted_bytes", COUNTER, "bytes", AT(U64, module.evicted_bytes), "Bytes let go for the size budget." },
        { "quarantined_modules", COUNTER, "", AT(U64, module.quarantined), "Modules found damaged and put aside." },
        { "scrubbed_bytes", COUNTER, "bytes", AT(U64, module.scrubbed_bytes), "Bytes hashed again in the background." },
        { "plugin_resources", GAUGE, "", FAMILY, 0, put_resources, "WasmPlugins and TrafficExtensions that count, by what became of them when they were read." },
        { "plugins", GAUGE, "", FAMILY, 0, put_plugins, "Plugins that workloads need, by state; each namespace that needs one counts." },
        { "plugin_workloads", GAUGE, "", AT(SIZE, keeper.workloads), "Workloads that asked for their chain within the last hour." },
        { "plugin_pods", GAUGE, "", AT(SIZE, keeper.pods), "Pods of this node that sources name." },
        { "plugin_sources_lost", GAUGE, "", AT(SIZE, keeper.troubles), "Watches of the Kubernetes API that are broken; what they gave before stays in force." },
        { "plugin_pulls", COUNTER, "", AT(U64, keeper.pulled), "Modules of plugins that were pulled or revalidated." },
        { "plugin_failures", COUNTER, "", AT(U64, keeper.failed), "Modules of plugins that could not be had; each try counts." },
        { "fetch_requests", COUNTER, "", AT(U64, fetch.requests), "HTTP requests to registries and servers." },
        { "fetch_retries", COUNTER, "", AT(U64, fetch.retries), "Those that were tried again." },
        { "fetch_waits", COUNTER, "", AT(U64, fetch.waits), "Those that waited because their host had answered 429 or 503 to another one." },
        { "fetch_resumes", COUNTER, "", AT(U64, fetch.resumes), "Broken transfers that went on by Range." },
        { "fetch_connections", COUNTER, "", AT(U64, fetch.connections), "Connections opened to registries and servers." },
        { "fetch_received_bytes", COUNTER, "bytes", AT(U64, fetch.bytes), "Bytes received from registries and servers." },
        { "connections_accepted", COUNTER, "", AT(U64, serve.accepted), "Connections of callers accepted." },
        { "connections_refused", COUNTER, "", AT(U64, serve.refused), "Connections of callers closed at once for a limit." },
        { "connections_open", GAUGE, "", AT(U32, serve.open), "Connections of callers now." },
        { "requests_waiting", GAUGE, "", AT(U32, serve.waiting), "Requests not yet answered." },
        { "event_streams", GAUGE, "", AT(U32, serve.streams), "Streams open now." },
        { "sent_bytes", COUNTER, "bytes", AT(U64, serve.bytes_sent), "Bytes sent to callers." },
        { "log_dropped_lines", COUNTER, "", AT(U64, log_dropped), "Log lines that could not be written at once." },
};

static void put_head(const struct output *output, const struct metric *metric)
{
        static const char *const TYPES[] = { [COUNTER] = "counter", [GAUGE] = "gauge", [HISTOGRAM] = "histogram" };
        const char *suffix = metric->type == COUNTER && !output->open_metrics ? "_total" : "";
        buffer_printf(output->out, "# HELP wasmcached_%s%s %s\n# TYPE wasmcached_%s%s %s\n", metric->name, suffix, metric->help, metric->name, suffix, TYPES[metric->type]);
        if (output->open_metrics && *metric->unit)
                buffer_printf(output->out, "# UNIT wasmcached_%s %s\n", metric->name, metric->unit);
}

/* Half a number is none. */
static bool is_known(const struct numbers *numbers, const struct metric *metric)
{
        static const size_t counted[] = { offsetof(struct numbers, module.store_bytes), offsetof(struct numbers, module.modules), offsetof(struct numbers, module.references),
                                          offsetof(struct numbers, module.grants), offsetof(struct numbers, module.pins), offsetof(struct numbers, module.leases) };
        for (size_t i = 0; numbers->module.is_loading && i < COUNT_OF(counted); i++)
                if (metric->width != FAMILY && metric->offset == counted[i])
                        return false;
        return true;
}

static void put_metric(const struct output *output, const struct metric *metric)
{
        const char *at = (const char *)output->numbers + metric->offset;
        const char *suffix = metric->type == COUNTER ? "_total" : "";
        unsigned long long number = 0;
        put_head(output, metric);
        switch (metric->width) {
        case FAMILY:
                metric->put(output, metric->name);
                return;
        case REAL:
                buffer_printf(output->out, "wasmcached_%s%s %.3f\n", metric->name, suffix, *(const double *)(const void *)at);
                return;
        case U64:
                number = *(const uint64_t *)(const void *)at;
                break;
        case U32:
                number = *(const unsigned *)(const void *)at;
                break;
        case SIZE:
                number = *(const size_t *)(const void *)at;
                break;
        case TRUTH:
                number = *(const bool *)at;
                break;
        }
        buffer_printf(output->out, "wasmcached_%s%s %llu\n", metric->name, suffix, number);
}

static void numbers_get(const struct api *api, struct numbers *ret_numbers)
{
        struct rusage usage = { 0 };
        getrusage(RUSAGE_SELF, &usage);
        *ret_numbers = (struct numbers){ .api = api, .log_dropped = log_get_dropped(), .started_s = (double)api->started_wall_s };
        ret_numbers->cpu_s = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
        module_get_stats(api->options.modules, &ret_numbers->module);
        fetch_get_stats(&ret_numbers->fetch);
        if (api->options.keeper)
                keeper_get_stats(api->options.keeper, &ret_numbers->keeper);
        if (api->serve)
                serve_get_stats(api->serve, &ret_numbers->serve);
        ret_numbers->store_healthy = ret_numbers->module.store_health == 0;
}

void api_metrics_print(struct api *api, bool open_metrics, struct buffer *out)
{
        struct numbers numbers;
        numbers_get(api, &numbers);
        struct output output = { &numbers, open_metrics, out };
        for (size_t i = 0; i < COUNT_OF(metrics); i++)
                if (is_known(&numbers, &metrics[i]))
                        put_metric(&output, &metrics[i]);
        if (open_metrics)
                buffer_append_text(out, "# EOF\n");
}

/* The quality that an Accept header gives to `type`, from its parameters; -1 = not named. */
static double quality_find(const char *accept, const char *type)
{
        size_t type_bytes = strlen(type);
        double best = -1;
        for (const char *item = accept; *item; item += strcspn(item, ",")) {
                item += strspn(item, ", \t");
                size_t length = strcspn(item, ",");
                if (length < type_bytes || strncasecmp(item, type, type_bytes) != 0 || (item[type_bytes] && !strchr("; \t,", item[type_bytes])))
                        continue;
                double quality = 1;
                for (const char *at = memchr(item, ';', length); at && at < item + length; at = memchr(at + 1, ';', (size_t)(item + length - at - 1))) {
                        const char *name = at + 1 + strspn(at + 1, " \t");
                        if (strncasecmp(name, "q=", 2) == 0)
                                quality = strtod(name + 2, NULL);
                }
                best = quality > best ? quality : best;
        }
        return best;
}

bool api_metrics_wants_open(const char *accept)
{
        if (!accept)
                return false;
        double open_metrics = quality_find(accept, "application/openmetrics-text");
        return open_metrics > 0 && open_metrics >= quality_find(accept, "text/plain");
}

void api_handle_metrics(struct api_call *call)
{
        struct buffer *body = api_scratch(call->api);
        bool open_metrics = api_metrics_wants_open(serve_request_get_header(call->request, "Accept"));
        api_metrics_print(call->api, open_metrics, body);
        api_answer_text(call, 200, open_metrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8" : "text/plain; version=0.0.4; charset=utf-8", body);
}
