/*
 * How it goes: the first of its kind is made (POST); the same again within 10 minutes makes it a series, whose count is written at once and then at most once a minute (PATCH).
 * How it fails: over the limits (per object 25 and one more each 5 minutes, in all 50 and one more each second) it is dropped, which is no error; the server's refusal is one.
 * How it ends: what was not seen for 10 minutes is forgotten; the server forgets Events by itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { SERIES_MS = 600000, PATCH_MS = 60000, OBJECT_BURST = 25, OBJECT_REFILL_MS = 300000, ALL_BURST = 50, ALL_REFILL_MS = 1000, EVENT_MS = 10000 };
/* The limits let less than these be alive at a time, so that what is purged is never missed. */
enum { SERIES_MAX = 1024, NOTE_BYTES = 1024, WORD_BYTES = 128 };

#define PATH "/apis/events.k8s.io/v1/namespaces/%s/events"

struct bucket { double tokens; int64_t filled_ms; bool is_used; };
struct series { char *name; int64_t count, seen_ms, written_ms; bool is_busy; };        /* name NULL: not made (yet) */

struct kube_events {
        char *controller, *instance;
        int64_t (*now_ms)(void);
        pthread_mutex_t lock;
        struct map *series;                /* by all that makes an Event the same */
        struct map *objects;               /* uid → struct bucket */
        struct bucket all;
};

static void series_free(void *pointer)
{
        struct series *series = pointer;
        free(series->name);
        free(series);
}

struct kube_events *kube_events_new(const char *controller, const char *instance, int64_t (*now_ms)(void))
{
        struct kube_events *events = memory_new(1, sizeof *events);
        events->controller = string_copy(controller);
        events->instance = string_copy_bytes(instance, strnlen(instance, WORD_BYTES));
        events->now_ms = now_ms ? now_ms : clock_get_ms;
        events->series = map_new(series_free);
        events->objects = map_new(free);
        pthread_mutex_init(&events->lock, NULL);
        return events;
}

void kube_events_free(struct kube_events **reference)
{
        struct kube_events *events = TAKE(*reference);
        if (!events)
                return;
        map_free(&events->series);
        map_free(&events->objects);
        free(events->controller);
        free(events->instance);
        pthread_mutex_destroy(&events->lock);
        free(events);
}

/* ---- limits */
static void bucket_fill(struct bucket *bucket, double burst, int64_t refill_ms, int64_t now_ms)
{
        bucket->tokens = bucket->is_used ? bucket->tokens + (double)(now_ms - bucket->filled_ms) / (double)refill_ms : burst;
        bucket->tokens = bucket->tokens < burst ? bucket->tokens : burst;
        bucket->filled_ms = now_ms;
        bucket->is_used = true;
}

static void purge(struct kube_events *events, int64_t now_ms)
{
        const void *key;
        size_t position = 0, key_bytes;
        void *value;
        while (map_next(events->series, &position, &key, &key_bytes, &value)) {
                struct series *series = value;
                if (!series->is_busy && now_ms - series->seen_ms >= SERIES_MS)
                        map_remove(events->series, key, key_bytes);
        }
        position = 0;
        while (map_next(events->objects, &position, &key, &key_bytes, &value)) {
                bucket_fill(value, OBJECT_BURST, OBJECT_REFILL_MS, now_ms);
                if (((struct bucket *)value)->tokens >= OBJECT_BURST)
                        map_remove(events->objects, key, key_bytes);
        }
}

static bool limits_take(struct kube_events *events, const struct kube_event *event, int64_t now_ms)
{
        struct bucket *bucket;
        if (map_get_count(events->series) >= SERIES_MAX || map_get_count(events->objects) >= SERIES_MAX)
                purge(events, now_ms);
        bucket_fill(&events->all, ALL_BURST, ALL_REFILL_MS, now_ms);
        if (events->all.tokens < 1 || map_get_count(events->series) >= SERIES_MAX || map_get_count(events->objects) >= SERIES_MAX)
                return false;
        bucket = map_get_text(events->objects, event->uid);
        if (!bucket) {
                bucket = memory_new(1, sizeof *bucket);
                map_put_text(events->objects, event->uid, bucket);
        }
        bucket_fill(bucket, OBJECT_BURST, OBJECT_REFILL_MS, now_ms);
        if (bucket->tokens < 1)
                return false;
        bucket->tokens -= 1;
        events->all.tokens -= 1;
        return true;
}

/* ---- bodies */
static const char *namespace_of(const struct kube_event *event)
{
        return event->namespace && *event->namespace ? event->namespace : "default";
}

/* events.k8s.io wants exactly microseconds (kube-measured 2). */
static void time_put(struct json_writer *json, const char *key)
{
        char text[CLOCK_RFC3339_BYTES + 8];
        int64_t now_ms = clock_get_wall_ms();
        clock_format_rfc3339(now_ms / 1000, text);
        snprintf(text + strlen(text) - 1, 10, ".%03d000Z", (int)(now_ms % 1000));
        json_put_text(json, key, text);
}

static void word_put(struct json_writer *json, const char *key, const char *word, size_t bytes_max)
{
        CLEANUP(cleanup_free) char *shown = memory_new(1, bytes_max + 1);
        json_put_text(json, key, string_printable(word, strlen(word), shown, bytes_max + 1));
}

static void body_format(const struct kube_events *events, const struct kube_event *event, const char *name, struct buffer *body)
{
        struct json_writer json = { .out = body };
        json_open_map(&json, NULL);
        json_put_text(&json, "apiVersion", "events.k8s.io/v1");
        json_put_text(&json, "kind", "Event");
        json_open_map(&json, "metadata");
        json_put_text(&json, "namespace", namespace_of(event));
        json_put_text(&json, "name", name);
        json_close_map(&json);
        time_put(&json, "eventTime");
        json_put_text(&json, "type", event->is_warning ? "Warning" : "Normal");
        word_put(&json, "reason", event->reason, WORD_BYTES);
        word_put(&json, "action", event->action, WORD_BYTES);
        word_put(&json, "note", event->note, NOTE_BYTES);
        json_put_text(&json, "reportingController", events->controller);
        json_put_text(&json, "reportingInstance", events->instance);
        json_open_map(&json, "regarding");
        json_put_text(&json, "apiVersion", event->api_version);
        json_put_text(&json, "kind", event->kind);
        if (event->namespace && *event->namespace)
                json_put_text(&json, "namespace", event->namespace);
        json_put_text(&json, "name", event->name);
        json_put_text(&json, "uid", event->uid);
        json_close_map(&json);
        json_close_map(&json);
}

static char *event_name_make(const struct kube_event *event)
{
        uint64_t random = 0;
        char hex[17];
        size_t length = strnlen(event->name, 200);
        random_bytes(&random, sizeof random);
        hex_format(&random, sizeof random, hex);
        while (length > 0 && (event->name[length - 1] == '.' || event->name[length - 1] == '-'))
                length--;
        return string_format("%.*s%s%s", (int)length, event->name, length ? "." : "", hex);
}

/* ---- writing */
static bool event_make(const struct kube_events *events, const struct kube_call *call, const struct kube_event *event, char **ret_name, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;
        CLEANUP(cleanup_free) char *name = event_name_make(event), *path = string_format(PATH, namespace_of(event));
        body_format(events, event, name, &body);
        if (!kube_request(call, &(struct kube_ask){ "POST", path, body.data }, &answer, NULL, err))
                return refuse_within(err, "Event");
        *ret_name = TAKE(name);
        return true;
}

/* *ret_is_gone: the server has forgotten it. */
static bool event_count(const struct kube_call *call, const struct kube_event *event, const struct series *series, bool *ret_is_gone, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;
        CLEANUP(cleanup_free) char *path = string_format(PATH "/%s", namespace_of(event), series->name);
        struct kube_status status = { 0 };
        struct json_writer json = { .out = &body };
        json_open_map(&json, NULL);
        json_open_map(&json, "series");
        json_put_int(&json, "count", series->count);
        time_put(&json, "lastObservedTime");
        json_close_map(&json);
        json_close_map(&json);
        bool good = kube_request(call, &(struct kube_ask){ "PATCH", path, body.data }, &answer, &status, err);
        *ret_is_gone = status.code == 404;
        return good || refuse_within(err, "Event");
}

static char *key_format(const struct kube_event *event)
{
        return string_format("%s\n%d\n%s\n%s\n%s", event->uid, event->is_warning, event->reason, event->action, event->note);
}

enum todo { TODO_NOTHING, TODO_MAKE, TODO_COUNT };

/* With the lock held. What is busy is counted by who is at it. */
static enum todo todo_find(struct kube_events *events, const struct kube_event *event, const char *key, struct series **ret_series, enum kube_event_end *ret_end)
{
        int64_t now_ms = events->now_ms();
        struct series *series = map_get_text(events->series, key);
        if (series && !series->is_busy && now_ms - series->seen_ms >= SERIES_MS) {
                map_remove_text(events->series, key);
                series = NULL;
        }
        *ret_end = KUBE_EVENT_COUNTED;
        if (series) {
                series->count++;
                series->seen_ms = now_ms;
                if (series->is_busy || (series->count > 2 && now_ms - series->written_ms < PATCH_MS))
                        return TODO_NOTHING;
        }
        if (!limits_take(events, event, now_ms)) {
                *ret_end = series && series->name ? KUBE_EVENT_COUNTED : KUBE_EVENT_DROPPED;
                return TODO_NOTHING;
        }
        if (!series) {
                series = memory_new(1, sizeof *series);
                series->count = 1;
                series->seen_ms = now_ms;
                map_put_text(events->series, key, series);
        }
        series->is_busy = true;
        series->written_ms = now_ms;
        *ret_series = series;
        *ret_end = series->name ? KUBE_EVENT_COUNTED : KUBE_EVENT_WRITTEN;
        return series->name ? TODO_COUNT : TODO_MAKE;
}

bool kube_events_write(struct kube_events *events, const struct kube_call *call, const struct kube_event *event, enum kube_event_end *ret_end, struct error *err)
{
        CLEANUP(cleanup_free) char *key = key_format(event), *name = NULL;
        struct series *series = NULL;
        struct kube_call bounded = *call;
        bool is_gone = false, good = true;
        if (!string_is_dns(namespace_of(event), 63, false) || !string_is_dns(event->name, 253, true))
                return refuse(err, ERROR_BAD_REQUEST, "Event: the object's namespace or name is none");
        if (bounded.deadline_ms <= 0)
                bounded.deadline_ms = clock_get_ms() + EVENT_MS;

        pthread_mutex_lock(&events->lock);
        enum todo todo = todo_find(events, event, key, &series, ret_end);
        struct series seen = series ? *series : (struct series){ 0 };      /* its name stays while it is busy */
        pthread_mutex_unlock(&events->lock);
        if (todo == TODO_NOTHING)
                return true;

        if (todo == TODO_COUNT)
                good = event_count(&bounded, event, &seen, &is_gone, err);
        if (todo == TODO_MAKE || is_gone)
                good = event_make(events, &bounded, event, &name, err);

        pthread_mutex_lock(&events->lock);
        series->is_busy = false;
        if (name) {
                free(series->name);
                series->name = TAKE(name);
        }
        if (!series->name)
                map_remove_text(events->series, key);      /* the next one tries again */
        pthread_mutex_unlock(&events->lock);
        return good;
}
