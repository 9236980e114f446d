/*
 * How it goes: module tells its events; each becomes one line of JSON. Without follow, what is remembered is the whole answer; with it, the answer stays open.
 * How it fails: a reader that is too slow is dropped by serve, which says so by stream_gone.
 * How it ends: by the peer, or by api_close(). A listener is never taken away while module is just telling it something: that is posted to the loop.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "front.h"

struct api_follower {
        struct api *api;
        struct serve_stream *stream;      /* NULL once gone */
        struct module_listener *listener;
        struct buffer line;
        bool is_telling;
        struct api_follower *next, **at;
};

static void put_time(struct json_writer *writer, int64_t wall_ms)
{
        char text[CLOCK_RFC3339_BYTES], full[CLOCK_RFC3339_BYTES + 8];
        clock_format_rfc3339(wall_ms / 1000, text);
        snprintf(full, sizeof full, "%.19s.%03dZ", text, (int)(wall_ms % 1000));
        json_put_text(writer, "time", full);
}

static void event_put(const struct module_event *event, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        const struct { const char *key, *text; } texts[] = {
                { "type", event->type }, { "url", event->url }, { "sha256", event->sha256 }, { "digest", event->digest }, { "namespace", event->namespace },
                { "code", event->code }, { "detail", event->detail },
        };
        json_open_map(&writer, NULL);
        json_put_int(&writer, "number", (int64_t)event->number);
        put_time(&writer, event->wall_ms);
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                if (texts[i].text && *texts[i].text)
                        json_put_text(&writer, texts[i].key, texts[i].text);
        bool is_progress = string_equal(event->type, "progress");
        if (event->bytes > 0 || is_progress)
                json_put_int(&writer, "bytes", (int64_t)event->bytes);
        if (event->total > 0 || (is_progress && event->total >= 0))
                json_put_int(&writer, "total", event->total);
        json_close_map(&writer);
        buffer_append_text(out, "\n");
}

static void collect_happened(void *arg, const struct module_event *event)
{
        event_put(event, arg);
}

static void follower_end(void *arg)
{
        struct api_follower *follower = arg;
        module_unlisten(&follower->listener);
        buffer_fini(&follower->line);
        free(follower);
}

static void follower_unlink(struct api_follower *follower)
{
        *follower->at = follower->next;
        if (follower->next)
                follower->next->at = follower->at;
}

static void follow_happened(void *arg, const struct module_event *event)
{
        struct api_follower *follower = arg;
        if (!follower->stream)
                return;
        buffer_clear(&follower->line);
        event_put(event, &follower->line);
        follower->is_telling = true;
        serve_stream_write(follower->stream, follower->line.data, follower->line.used);
        follower->is_telling = false;
}

void api_events_stream_gone(struct api *api, struct serve_stream *stream)
{
        (void)api;
        struct api_follower *follower = serve_stream_get_data(stream);
        if (!follower)
                return;
        follower->stream = NULL;
        follower_unlink(follower);
        if (follower->is_telling || !follower->listener)
                loop_post(follower->api->options.loop, follower_end, follower);
        else
                follower_end(follower);
}

void api_events_close(struct api *api)
{
        while (api->followers) {
                struct api_follower *follower = api->followers;
                follower_unlink(follower);
                serve_stream_close(&follower->stream);
                follower_end(follower);
        }
}

static void follow_start(struct api_call *call, const char *namespace)
{
        static const struct serve_answer ANSWER = { .status = 200, .content_type = "application/x-ndjson" };
        struct api *api = call->api;
        struct api_follower *follower = memory_new(1, sizeof *follower);
        follower->api = api;
        follower->next = api->followers;
        follower->at = &api->followers;
        if (follower->next)
                follower->next->at = &follower->next;
        api->followers = follower;
        api->answers[api_call_route(call)][ERROR_NONE]++;
        follower->stream = serve_answer_stream(call->request, &ANSWER, follower);
        /* Replays at once; a reader that is gone already is taken away by the posted follower_end(), after this has returned. */
        follower->listener = module_listen(api->options.modules, namespace, true, follow_happened, follower);
}

static bool follow_read(struct api_call *call, bool *ret_follow, const char **ret_namespace, struct error *err)
{
        const char *follow = serve_request_get_query(call->request, "follow", 0);
        const char *namespace = serve_request_get_query(call->request, "namespace", 0);
        if (follow && strcmp(follow, "0") != 0 && strcmp(follow, "1") != 0)
                return refuse(err, ERROR_BAD_REQUEST, "query parameter \"follow\": 0 or 1 is needed");
        if (namespace && !string_is_dns(namespace, 63, false))
                return refuse(err, ERROR_BAD_REQUEST, "query parameter \"namespace\": a DNS label is needed (at most 63 of a-z, 0-9 and -)");
        if (namespace && !call->caller.is_trusted && !string_equal(namespace, call->caller.namespace))
                return refuse(err, ERROR_DENIED, "query parameter \"namespace\": this socket has events of \"%s\" only", call->caller.namespace);
        *ret_follow = follow && *follow == '1';
        *ret_namespace = namespace ? namespace : call->caller.namespace;
        return true;
}

void api_handle_events(struct api_call *call)
{
        struct error err = { 0 };
        const char *namespace = NULL;
        bool follow = false;
        if (!follow_read(call, &follow, &namespace, &err)) {
                api_call_fail(call, &err);
                return;
        }
        if (follow) {
                CLEANUP(cleanup_free) char *kept = string_copy(namespace);         /* the request ends with the answer */
                follow_start(call, kept);
                return;
        }
        struct buffer *body = api_scratch(call->api);
        struct module_listener *listener = module_listen(call->api->options.modules, namespace, true, collect_happened, body);
        module_unlisten(&listener);
        if (!body->data)
                buffer_append_text(body, "");
        api_answer_text(call, 200, "application/x-ndjson", body);
}
