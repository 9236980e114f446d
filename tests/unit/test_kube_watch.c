/* List and watch against tests/fake/kubeapi.py: what a visitor has in the end, and what the server was asked. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "kube_rig.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

enum { PATIENCE_MS = 40000 };

/* What a room above would hold, and everything that it was told. */
struct held {
        struct kube_visitor visitor;
        pthread_mutex_t lock;
        struct map *now, *coming;          /* "namespace/name" → version or problem */
        atomic_uint begins, commits, abandons, lives, losts;
        struct error last;                 /* of LOST */
        atomic_bool seen[ERROR_CODES], refuse_object, has_ended;
        bool takes;
        struct kube *kube;
        struct kube_watch watch;
        struct cancel *cancel;
        pthread_t thread;
        struct error end;
};

static struct held *held_of(struct kube_visitor *visitor)
{
        return CONTAINER_OF(visitor, struct held, visitor);
}

static bool on_begin(struct kube_visitor *visitor, struct error *err)
{
        struct held *held = held_of(visitor);
        (void)err;
        pthread_mutex_lock(&held->lock);
        assert_null(held->coming);
        held->coming = map_new(free);
        held->begins++;
        pthread_mutex_unlock(&held->lock);
        return true;
}

static bool on_object(struct kube_visitor *visitor, struct kube_object *object, struct error *err)
{
        struct held *held = held_of(visitor);
        CLEANUP(cleanup_free) char *key = string_format("%s/%s", object->namespace, object->name);
        if (held->refuse_object)
                return refuse(err, ERROR_STORE_FULL, "enough");
        assert_true(!object->object == (object->problem != NULL));
        assert_true(object->uid && object->version);
        pthread_mutex_lock(&held->lock);
        struct map *map = held->coming ? held->coming : held->now;
        if (object->change == KUBE_DELETE)
                map_remove_text(map, key);
        else
                map_put_text(map, key, string_copy(object->problem ? object->problem->text : object->version));
        pthread_mutex_unlock(&held->lock);
        if (held->takes) {                         /* as a room does that hands it to another thread */
                CLEANUP(value_free) struct value *taken = TAKE(object->object);
        }
        return true;
}

static bool on_commit(struct kube_visitor *visitor, struct error *err)
{
        struct held *held = held_of(visitor);
        (void)err;
        pthread_mutex_lock(&held->lock);
        assert_non_null(held->coming);
        map_free(&held->now);
        held->now = TAKE(held->coming);
        held->commits++;
        pthread_mutex_unlock(&held->lock);
        return true;
}

static void on_abandon(struct kube_visitor *visitor)
{
        struct held *held = held_of(visitor);
        pthread_mutex_lock(&held->lock);
        assert_non_null(held->coming);
        map_free(&held->coming);
        held->abandons++;
        pthread_mutex_unlock(&held->lock);
}

static void on_state(struct kube_visitor *visitor, enum kube_watch_state state, const struct error *err)
{
        struct held *held = held_of(visitor);
        pthread_mutex_lock(&held->lock);
        held->lives += state == KUBE_WATCH_LIVE;
        held->losts += state == KUBE_WATCH_LOST;
        if (state == KUBE_WATCH_LOST) {
                assert_non_null(err);
                held->last = *err;
                held->seen[err->code] = true;
        }
        pthread_mutex_unlock(&held->lock);
}

static bool taking;                        /* of the held that are started from here on */

static void *watch_thread(void *arg)
{
        struct held *held = arg;
        assert_false(kube_watch_run(held->kube, &held->watch, &held->visitor, held->cancel, &held->end));
        held->has_ended = true;
        return NULL;
}

static struct held *held_start_as(const struct kube_watch *watch, struct kube *kube)
{
        struct held *held = memory_new(1, sizeof *held);
        pthread_mutex_init(&held->lock, NULL);
        held->visitor = (struct kube_visitor){ on_begin, on_object, on_commit, on_abandon, on_state };
        held->now = map_new(free);
        held->kube = kube;
        held->watch = *watch;
        held->watch.kind = (struct kube_kind){ "extensions.istio.io", "v1alpha1", "wasmplugins" };
        held->cancel = cancel_new();
        held->takes = taking;
        assert_int_equal(pthread_create(&held->thread, NULL, watch_thread, held), 0);
        return held;
}

static struct held *held_start(const struct kube_watch *watch, int64_t silence_ms)
{
        return held_start_as(watch, rig_kube("{token: t}", silence_ms));
}

static void held_stop(struct held *held, enum error_code code)
{
        cancel_trigger(held->cancel);
        pthread_join(held->thread, NULL);
        assert_int_equal(held->end.code, code);
        assert_null(held->coming);
        map_free(&held->now);
        kube_free(&held->kube);
        cancel_free(&held->cancel);
        free(held);
}

static const char *held_last(struct held *held)
{
        static char text[ERROR_TEXT_BYTES];
        pthread_mutex_lock(&held->lock);
        memcpy(text, held->last.text, sizeof text);
        pthread_mutex_unlock(&held->lock);
        return text;
}

static bool held_says(struct held *held, const char *key, const char *piece)
{
        pthread_mutex_lock(&held->lock);
        const char *text = map_get_text(held->now, key);
        bool says = text && strstr(text, piece);
        pthread_mutex_unlock(&held->lock);
        return says;
}

static bool held_is(struct held *held, const char *names)
{
        pthread_mutex_lock(&held->lock);
        size_t count = 0;
        bool all = true;
        for (const char *at = names; *at; at += *at == ' ') {
                size_t length = strcspn(at, " ");
                CLEANUP(cleanup_free) char *key = string_format("team-a/%.*s", (int)length, at);
                all = all && map_get_text(held->now, key);
                count++;
                at += length;
        }
        all = all && held->commits > 0 && map_get_count(held->now) == count;
        pthread_mutex_unlock(&held->lock);
        return all;
}

#define WAIT_FOR(condition) do { \
        int64_t until_ms_ = clock_get_ms() + PATIENCE_MS; \
        while (!(condition)) { \
                if (clock_get_ms() > until_ms_) \
                        fail_msg("never: %s (last: %s)", #condition, held_last(held)); \
                usleep(5000); \
        } \
} while (0)

static int reset(void **state)
{
        (void)state;
        STEER("/_reset");
        return 0;
}

/* ---- the good ways */
static void test_streaming(void **state)
{
        (void)state;
        static const struct { const char *chunk, *pretty; } ways[] = { { "0", "0" }, { "1", "0" }, { "7", "0" }, { "5", "1" } };
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
                STEER("/_reset");
                STEER("/_set", "chunk", ways[i].chunk, "pretty", ways[i].pretty);
                rig_put("a");
                rig_put("b");
                taking = i % 2;
                struct held *held = held_start(&(struct kube_watch){ 0 }, 0);
                taking = false;
                WAIT_FOR(held_is(held, "a b"));
                rig_put("c");
                WAIT_FOR(held_is(held, "a b c"));
                STEER("/_delete", "path", PLUGINS, "namespace", "team-a", "name", "a");
                WAIT_FOR(held_is(held, "b c"));
                assert_int_equal(held->begins, 1);
                assert_int_equal(rig_count("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"), 1);
                assert_int_equal(rig_count("GET"), 1);
                held_stop(held, ERROR_BUSY);
        }
}

static void test_selectors(void **state)
{
        (void)state;
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"a\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"nodeName\":\"n 1\"}}");
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"b\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"nodeName\":\"n2\"}}");
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-b\",\"name\":\"c\",\"labels\":{\"x\":\"y\"}},\"spec\":{\"nodeName\":\"n 1\"}}");
        struct held *held = held_start(&(struct kube_watch){ .namespace = "team-a", .field_selector = "spec.nodeName=n 1", .label_selector = "x=y" }, 0);
        WAIT_FOR(held_is(held, "a"));
        assert_int_equal(rig_count("/namespaces/team-a/wasmplugins?fieldSelector=spec.nodeName%3Dn%201&labelSelector=x%3Dy&watch=1"), 1);
        held_stop(held, ERROR_BUSY);
}

static void test_pages(void **state)
{
        (void)state;
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"p\"}}", "count", "1200");
        struct held *held = held_start(&(struct kube_watch){ .no_streaming = true }, 0);
        WAIT_FOR(held->lives > 0);
        pthread_mutex_lock(&held->lock);
        assert_int_equal(map_get_count(held->now), 1200);
        pthread_mutex_unlock(&held->lock);
        assert_int_equal(rig_count("?limit=500&resourceVersion=0&resourceVersionMatch=NotOlderThan"), 1);
        assert_int_equal(rig_count("?limit=500&continue=500\""), 1);       /* and no version beside it: the server refuses that */
        assert_int_equal(rig_count("?limit=500&continue=1000\""), 1);
        held_stop(held, ERROR_BUSY);
}

/* A server without streaming lists, whatever way it has of saying so. */
static void test_no_streaming(void **state)
{
        (void)state;
        static const char *const ways[] = { "no", "ignored", "etcd34" };
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
                STEER("/_reset");
                STEER("/_set", "streaming", ways[i]);
                rig_put("a");
                bool is_silent = strcmp(ways[i], "ignored") == 0;
                struct held *held = held_start(&(struct kube_watch){ 0 }, is_silent ? 1500 : 0);
                WAIT_FOR(held_is(held, "a"));
                rig_put("b");
                WAIT_FOR(held_is(held, "a b"));
                if (!is_silent)
                        assert_int_equal(held->losts, 0);
                assert_true(held->abandons >= 1);
                assert_int_equal(rig_count("sendInitialEvents"), 1);
                held_stop(held, ERROR_BUSY);
        }
}

/* A window that ends by itself is no loss; the next goes on from the last version, that of a bookmark included. */
static void test_windows(void **state)
{
        (void)state;
        rig_put("a");
        struct held *held = held_start(&(struct kube_watch){ .window_s = 1 }, 0);
        WAIT_FOR(held_is(held, "a"));
        STEER("/_put", "path", "/apis/other/v1/things", "json", "{\"metadata\":{\"name\":\"x\"}}");
        STEER("/_bookmark");
        WAIT_FOR(rig_count("resourceVersion=1002\"") > 0);
        rig_put("b");
        WAIT_FOR(held_is(held, "a b"));
        WAIT_FOR(rig_count("resourceVersion=1003\"") > 1);
        assert_int_equal(held->losts, 0);
        assert_int_equal(held->begins, 1);
        held_stop(held, ERROR_BUSY);
}

/* ---- a list that goes wrong: nothing of it is kept, what was before holds, and the next one is good */
static void test_bad_lists(void **state)
{
        (void)state;
        static const struct { const char *mode, *arg; enum error_code code; const char *piece; } rows[] = {
                { "garbage",      "",    ERROR_UPSTREAM_ERROR,       "no JSON" },
                { "html",         "",    ERROR_UPSTREAM_ERROR,       "text/html" },
                { "json-as-text", "",    ERROR_UPSTREAM_ERROR,       "text/plain" },
                { "truncate",     "",    ERROR_UPSTREAM_ERROR,       "ends too early" },
                { "no-version",   "",    ERROR_UPSTREAM_ERROR,       "is no list" },
                { "status-200",   "",    ERROR_UPSTREAM_ERROR,       "is no list" },
                { "forbidden",    "",    ERROR_DENIED,               "cannot do that" },
                { "absent",       "",    ERROR_NOT_FOUND,            "404" },
                { "plain404",     "",    ERROR_NOT_FOUND,            "404" },
                { "toomany",      "1",   ERROR_RATE_LIMITED,         "re)initializing" },
                { "unavailable",  "1",   ERROR_UPSTREAM_ERROR,       "503" },
                { "status",       "500", ERROR_UPSTREAM_ERROR,       "500" },
                { "reset",        "",    ERROR_UPSTREAM_UNREACHABLE, "" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                STEER("/_reset");
                rig_put("a");
                struct held *held = held_start(&(struct kube_watch){ .no_streaming = true }, 0);
                WAIT_FOR(held_is(held, "a"));
                STEER("/_fault", "match", "limit=500", "do", rows[i].mode, "arg", rows[i].arg);
                STEER("/_fault", "match", "watch=1", "do", "gone-event");
                STEER("/_close");
                WAIT_FOR(held->seen[rows[i].code] && held->commits == 2);
                assert_true(held_is(held, "a"));
                if (!strstr(held_last(held), rows[i].piece))
                        fail_msg("%s: %s", rows[i].mode, held_last(held));
                assert_null(strstr(held_last(held), "limit="));            /* no query in texts */
                held_stop(held, ERROR_BUSY);
        }
}

/* While the server says no, what is held is what was committed. */
static void test_holds(void **state)
{
        (void)state;
        rig_put("a");
        struct held *held = held_start(&(struct kube_watch){ 0 }, 0);
        WAIT_FOR(held_is(held, "a"));
        STEER("/_fault", "match", "wasmplugins", "do", "forbidden", "count", "8");
        STEER("/_delete", "path", PLUGINS, "namespace", "team-a", "name", "a");
        WAIT_FOR(held_is(held, ""));
        rig_put("b");
        WAIT_FOR(held_is(held, "b"));
        STEER("/_close");
        WAIT_FOR(held->losts >= 6);
        assert_true(held_is(held, "b"));
        WAIT_FOR(held->lives >= 2);
        rig_put("c");
        WAIT_FOR(held_is(held, "b c"));
        held_stop(held, ERROR_BUSY);
}

/* ---- versions */
/* 410 comes as a line in a 200 or as a status; the new list asks for no version and replaces all. */
static void test_expired(void **state)
{
        (void)state;
        static const struct { const char *mode; bool streams; } rows[] = { { "gone-event", true }, { "gone", true }, { "gone-event", false }, { "gone", false } };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                STEER("/_reset");
                rig_put("a");
                rig_put("b");
                struct held *held = held_start(&(struct kube_watch){ .no_streaming = !rows[i].streams }, 0);
                WAIT_FOR(held_is(held, "a b"));
                STEER("/_fault", "match", "watch=1", "do", rows[i].mode);
                STEER("/_close");
                WAIT_FOR(held->commits == 2);
                WAIT_FOR(held_is(held, "a b"));
                assert_int_equal(rig_count(rows[i].streams ? "NotOlderThan\"" : "limit=500\""), rows[i].streams ? 2 : 1);
                held_stop(held, ERROR_BUSY);
        }
}

static void test_deleted_while_away(void **state)
{
        (void)state;
        rig_put("a");
        rig_put("b");
        struct held *held = held_start(&(struct kube_watch){ 0 }, 0);
        WAIT_FOR(held_is(held, "a b"));
        STEER("/_fault", "match", "watch=1", "do", "reset", "count", "3");
        STEER("/_close");
        STEER("/_delete", "path", PLUGINS, "namespace", "team-a", "name", "a");
        STEER("/_expire");
        WAIT_FOR(held_is(held, "b"));
        held_stop(held, ERROR_BUSY);
}

static void test_continue_expired(void **state)
{
        (void)state;
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"p\"}}", "count", "700");
        STEER("/_fault", "match", "continue=", "do", "gone");
        struct held *held = held_start(&(struct kube_watch){ .no_streaming = true }, 0);
        WAIT_FOR(held->lives > 0);
        pthread_mutex_lock(&held->lock);
        assert_int_equal(map_get_count(held->now), 700);
        assert_int_equal(held->abandons, 1);
        pthread_mutex_unlock(&held->lock);
        assert_int_equal(rig_count("GET\", \"target\": \"" PLUGINS "\""), 1);      /* without pages and version */
        held_stop(held, ERROR_BUSY);
}

/* A replica that lags, or a store that was restored: our version is of the future. A list says so, a watch is only silent. */
static void test_future(void **state)
{
        (void)state;
        static const bool streams[] = { false, true };
        for (size_t i = 0; i < COUNT_OF(streams); i++) {
                STEER("/_reset");
                rig_put("a");
                struct held *held = held_start(&(struct kube_watch){ .no_streaming = !streams[i] }, 1000);
                WAIT_FOR(held_is(held, "a"));
                STEER("/_close");
                STEER("/_restore");
                STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"b\",\"uid\":\"u\"}}");
                WAIT_FOR(held_is(held, "a b"));
                held_stop(held, ERROR_BUSY);
        }
}

static void test_too_large(void **state)
{
        (void)state;
        rig_put("a");
        STEER("/_fault", "match", "limit=500", "do", "toolarge", "count", "2");
        struct held *held = held_start(&(struct kube_watch){ .no_streaming = true }, 0);
        WAIT_FOR(held_is(held, "a"));
        assert_int_equal(held->losts, 2);
        assert_int_equal(rig_count("limit=500\""), 1);             /* the third asks for no version */
        held_stop(held, ERROR_BUSY);
}

/* ---- events that go wrong */
static void test_bad_events(void **state)
{
        (void)state;
        static const struct { const char *mode, *arg; enum error_code code; } rows[] = {
                { "garbage",     "",        ERROR_UPSTREAM_ERROR },
                { "html",        "",        ERROR_UPSTREAM_ERROR },
                { "truncate",    "",        ERROR_UPSTREAM_UNREACHABLE },
                { "line",        "{\"type\":\"ADDED\"}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"object\":{\"metadata\":{\"name\":\"x\"}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":7,\"object\":{\"metadata\":{\"name\":\"x\"}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"RENAMED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}},\"object\":{\"metadata\":{\"name\":\"y\"}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"ADDED\",\"object\":{nonsense}}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"ADDED\",\"object\":\"text\"}", ERROR_UPSTREAM_ERROR },
                { "line",        "{\"type\":\"BOOKMARK\",\"object\":{\"metadata\":{}}}", ERROR_UPSTREAM_ERROR },
                { "line",        "[{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"name\":\"x\"}}}]", ERROR_UPSTREAM_ERROR },
                { "error-event", "500",     ERROR_UPSTREAM_ERROR },
                { "error-event", "429",     ERROR_RATE_LIMITED },
                { "huge-line",   "2000000", ERROR_TOO_LARGE },
                { "empty-watch", "",        ERROR_UPSTREAM_UNREACHABLE },
                { "toomany",     "1",       ERROR_RATE_LIMITED },
                { "status",      "500",     ERROR_UPSTREAM_ERROR },
                { "absent",      "",        ERROR_NOT_FOUND },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                STEER("/_reset");
                rig_put("a");
                struct held *held = held_start(&(struct kube_watch){ .object_bytes_max = 64 << 10 }, 0);
                WAIT_FOR(held_is(held, "a"));
                STEER("/_fault", "match", "watch=1", "do", rows[i].mode, "arg", rows[i].arg);
                STEER("/_close");
                WAIT_FOR(held->losts > 1 || held->seen[rows[i].code]);
                rig_put("b");
                WAIT_FOR(held_is(held, "a b"));
                if (!held->seen[rows[i].code])
                        fail_msg("%s: %s", rows[i].mode, held_last(held));
                held_stop(held, ERROR_BUSY);
        }
}

/* An object too large or too deep harms no other; it is named, with its reason. */
static void test_unreadable(void **state)
{
        (void)state;
        static const bool streams[] = { true, false };
        for (size_t i = 0; i < COUNT_OF(streams); i++) {
                STEER("/_reset");
                rig_put("a");
                STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"large\"}}", "pad", "100000");
                STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"deep\"}}", "depth", "50");
                rig_put("z");
                struct held *held = held_start(&(struct kube_watch){ .object_bytes_max = 64 << 10, .no_streaming = !streams[i] }, 0);
                WAIT_FOR(held_is(held, "a deep large z"));
                STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"larger\"}}", "pad", "200000");
                rig_put("b");
                WAIT_FOR(held_is(held, "a b deep large larger z"));
                assert_true(held_says(held, "team-a/large", "larger than 65536"));
                assert_true(held_says(held, "team-a/larger", "larger than 65536"));
                assert_true(held_says(held, "team-a/deep", "deeper than"));
                assert_int_equal(held->losts, 0);
                STEER("/_delete", "path", PLUGINS, "namespace", "team-a", "name", "large");
                WAIT_FOR(held_is(held, "a b deep larger z"));
                held_stop(held, ERROR_BUSY);
        }
}

static void test_total(void **state)
{
        (void)state;
        STEER("/_put", "path", PLUGINS, "json", "{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"p\"}}", "pad", "5000", "count", "100");
        for (int streams = 0; streams < 2; streams++) {
                struct held *held = held_start(&(struct kube_watch){ .list_bytes_max = 200000, .no_streaming = !streams }, 0);
                WAIT_FOR(held->seen[ERROR_TOO_LARGE]);
                assert_int_equal(held->commits, 0);
                held_stop(held, ERROR_BUSY);
        }
}

/* ---- the end */
static void test_cancel(void **state)
{
        (void)state;
        static const char *const modes[] = { "hang", "silent", "toomany" };
        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                STEER("/_reset");
                STEER("/_fault", "match", "watch=1", "do", modes[i], "arg", "50");
                struct held *held = held_start(&(struct kube_watch){ 0 }, 0);
                WAIT_FOR(rig_count("watch=1") == 1);
                usleep(50000);
                int64_t start_ms = clock_get_ms();
                held_stop(held, ERROR_BUSY);
                assert_true(clock_get_ms() - start_ms < 10000);
        }
}

static void test_visitor_refuses(void **state)
{
        (void)state;
        for (int streams = 0; streams < 2; streams++) {
                struct held *held = held_start(&(struct kube_watch){ .no_streaming = !streams }, 0);
                WAIT_FOR(held->lives > 0);
                held->refuse_object = true;
                rig_put("a");
                WAIT_FOR(held->has_ended);            /* by itself */
                held_stop(held, ERROR_STORE_FULL);
        }
}

/* A token that was rotated: the file is read anew, nothing is lost. */
static void test_token_rotated(void **state)
{
        (void)state;
        rig_put("a");
        rig_write("token", "one\n");
        STEER("/_set", "accept", "one");
        struct held *held = held_start_as(&(struct kube_watch){ .window_s = 1 }, rig_kube("{tokenFile: token}", 0));
        WAIT_FOR(held_is(held, "a"));
        rig_write("token", "two\n");
        STEER("/_set", "accept", "two");
        rig_put("b");
        STEER("/_close");
        WAIT_FOR(rig_count("Bearer two") > 0);
        WAIT_FOR(held_is(held, "a b"));
        assert_false(held->seen[ERROR_UNAUTHORIZED]);
        STEER("/_set", "accept", "three");
        STEER("/_close");
        WAIT_FOR(held->seen[ERROR_UNAUTHORIZED]);
        assert_true(held_is(held, "a b"));
        held_stop(held, ERROR_BUSY);
}

int main(int argc, char **argv)
{
        cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_streaming, reset),       cmocka_unit_test_setup(test_selectors, reset),
                cmocka_unit_test_setup(test_pages, reset),           cmocka_unit_test_setup(test_no_streaming, reset),
                cmocka_unit_test_setup(test_windows, reset),         cmocka_unit_test_setup(test_bad_lists, reset),
                cmocka_unit_test_setup(test_holds, reset),           cmocka_unit_test_setup(test_expired, reset),
                cmocka_unit_test_setup(test_deleted_while_away, reset), cmocka_unit_test_setup(test_continue_expired, reset),
                cmocka_unit_test_setup(test_future, reset),          cmocka_unit_test_setup(test_too_large, reset),
                cmocka_unit_test_setup(test_bad_events, reset),      cmocka_unit_test_setup(test_unreadable, reset),
                cmocka_unit_test_setup(test_total, reset),           cmocka_unit_test_setup(test_cancel, reset),
                cmocka_unit_test_setup(test_visitor_refuses, reset), cmocka_unit_test_setup(test_token_rotated, reset),
        };
        return cmocka_run_group_tests(tests, rig_start, rig_stop);
}
