/*
 * How it goes: what probes and operators ask in a few words: alive, ready, the description of the routes, the daemon in numbers.
 * How it fails: not ready is 503 with one line per reason.
 * How it ends: one answer each.
 */
#include <string.h>
#include <unistd.h>
#include "front.h"

static const char TEXT_PLAIN[] = "text/plain; charset=utf-8";

void api_handle_health(struct api_call *call)
{
        struct buffer *body = api_scratch(call->api);
        buffer_append_text(body, "ok\n");
        api_answer_text(call, 200, TEXT_PLAIN, body);
}

static void reasons_get(const struct api *api, struct buffer *ret_reasons)
{
        const struct api_callbacks *callbacks = &api->options.callbacks;
        if (callbacks->readiness)
                callbacks->readiness(callbacks->arg, ret_reasons);
}

void api_handle_ready(struct api_call *call)
{
        struct buffer *body = api_scratch(call->api);
        reasons_get(call->api, body);
        bool is_ready = body->used == 0;
        if (is_ready)
                buffer_append_text(body, "ready\n");
        api_answer_text(call, is_ready ? 200 : 503, TEXT_PLAIN, body);
}

void api_handle_openapi(struct api_call *call)
{
        api_answer_text(call, 200, "application/yaml", &call->api->openapi);
}

static void put_reasons(struct json_writer *writer, const struct api *api)
{
        CLEANUP(buffer_fini) struct buffer reasons = { 0 };
        reasons_get(api, &reasons);
        json_put_bool(writer, "ready", reasons.used == 0);
        json_open_list(writer, "reasons");
        for (char *rest = reasons.data, *line; (line = strsep(&rest, "\n")); )
                if (*line)
                        json_put_text(writer, NULL, line);
        json_close_list(writer);
}

static void put_store(struct json_writer *writer, const struct module_stats *stats)
{
        json_open_map(writer, "store");
        json_put_bool(writer, "healthy", stats->store_health == 0);
        /* What is not counted yet is left out: half a number is none. */
        const struct { const char *name; int64_t value; bool is_counted; } numbers[] = {
                { "bytes", (int64_t)stats->store_bytes, true }, { "budget", (int64_t)stats->store_budget_bytes, false }, { "modules", (int64_t)stats->modules, true },
                { "references", (int64_t)stats->references, true }, { "grants", (int64_t)stats->grants, true }, { "leases", (int64_t)stats->leases, true },
                { "pins", (int64_t)stats->pins, true },
        };
        for (size_t i = 0; i < COUNT_OF(numbers); i++)
                if (!numbers[i].is_counted || !stats->is_loading)
                        json_put_int(writer, numbers[i].name, numbers[i].value);
        json_put_int(writer, "evicted", (int64_t)stats->evicted);
        json_put_int(writer, "quarantined", (int64_t)stats->quarantined);
        json_put_bool(writer, "loading", stats->is_loading);
        json_close_map(writer);
}

static void put_pulls(struct json_writer *writer, const struct module_stats *stats)
{
        json_open_map(writer, "requests");
        json_put_int(writer, "hits", (int64_t)stats->hits);
        json_put_int(writer, "misses", (int64_t)stats->misses);
        json_put_int(writer, "revalidations", (int64_t)stats->revalidations);
        json_put_int(writer, "waiting", stats->waiters);
        json_close_map(writer);
        json_open_map(writer, "pulls");
        json_put_int(writer, "running", stats->flights);
        json_put_int(writer, "queued", stats->flights_queued);
        json_put_int(writer, "done", (int64_t)stats->pulls_done);
        json_put_int(writer, "failed", (int64_t)stats->pulls_failed);
        json_put_int(writer, "refusals", stats->refusals);
        json_put_int(writer, "bytes", (int64_t)stats->bytes_downloaded);
        json_close_map(writer);
}

void api_handle_status(struct api_call *call)
{
        struct api *api = call->api;
        struct module_stats stats = { 0 };
        struct serve_stats connections = { 0 };
        char started[CLOCK_RFC3339_BYTES];
        module_get_stats(api->options.modules, &stats);
        if (api->serve)
                serve_get_stats(api->serve, &connections);
        clock_format_rfc3339(api->started_wall_s, started);

        struct buffer *body = api_scratch(api);
        struct json_writer writer = { .out = body };
        json_open_map(&writer, NULL);
        json_put_text(&writer, "version", api->options.version);
        json_put_int(&writer, "pid", getpid());
        json_put_text(&writer, "started", started);
        put_reasons(&writer, api);
        put_store(&writer, &stats);
        put_pulls(&writer, &stats);
        json_open_map(&writer, "connections");
        json_put_int(&writer, "open", connections.open);
        json_put_int(&writer, "accepted", (int64_t)connections.accepted);
        json_put_int(&writer, "refused", (int64_t)connections.refused);
        json_put_int(&writer, "streams", connections.streams);
        json_close_map(&writer);
        json_close_map(&writer);
        api_answer_json(api, call->request, api_call_route(call), body);
}
