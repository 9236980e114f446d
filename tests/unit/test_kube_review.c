/* TokenReview and Events against tests/fake/kubeapi.py, which is as strict with them as a real server, with a clock of our own. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <wasmcached/kube/process.h>
#include "kube_rig.h"

#define AUDIENCES "\"audiences\":[\"wasmcached\"]"
#define EXTRA(uid) "\"extra\":{\"authentication.kubernetes.io/pod-name\":[\"web-1\"],\"authentication.kubernetes.io/pod-uid\":[\"" uid "\"],\"authentication.kubernetes.io/node-name\":[\"n1\"]}"
#define USER(name, extra) "\"user\":{\"username\":\"" name "\",\"uid\":\"x\"," extra "}"
#define GOOD "{\"authenticated\":true," AUDIENCES "," USER("system:serviceaccount:team-a:web", EXTRA("u1")) "}"

static struct kube *kube;
static int64_t now_ms;

static int64_t get_now_ms(void)
{
        return now_ms;
}

static int reset(void **state)
{
        (void)state;
        STEER("/_reset");
        now_ms = 1000000;
        kube_free(&kube);
        kube = rig_kube("{token: t}", 0);
        return 0;
}

static int stop(void **state)
{
        kube_free(&kube);
        return rig_stop(state);
}

/* ---- reviews */
static enum error_code review(struct kube_reviews *reviews, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        struct kube_call call = { .kube = kube };
        *err = (struct error){ 0 };
        return kube_reviews_fetch(reviews, &call, token, ret_caller, err) ? ERROR_NONE : err->code;
}

static void test_caller(void **state)
{
        (void)state;
        struct error err;
        struct kube_caller caller = { 0 };
        CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
        STEER("/_token", "token", "secret.tok-en", "json", GOOD);
        if (review(reviews, "secret.tok-en", &caller, &err) != ERROR_NONE)
                fail_msg("%s", err.text);
        assert_string_equal(caller.namespace, "team-a");
        assert_string_equal(caller.service_account, "web");
        assert_string_equal(caller.pod_name, "web-1");
        assert_string_equal(caller.pod_uid, "u1");
        assert_string_equal(caller.node_name, "n1");
        kube_caller_fini(&caller);
        assert_int_equal(rig_count("POST\", \"target\": \"/apis/authentication.k8s.io/v1/tokenreviews"), 1);
        assert_int_equal(rig_count("\\\"audiences\\\":[\\\"wasmcached\\\"]"), 1);
}

/* What is remembered is found without a request, a refusal too, and no longer than it counts. */
static void test_find(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_caller caller = { 0 };
        CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
        STEER("/_token", "token", "secret.tok-en", "json", GOOD);
        assert_false(kube_reviews_find(reviews, "secret.tok-en", &caller, &err));
        assert_int_equal(err.code, ERROR_NONE);
        assert_int_equal(review(reviews, "secret.tok-en", &caller, &err), ERROR_NONE);
        kube_caller_fini(&caller);
        assert_true(kube_reviews_find(reviews, "secret.tok-en", &caller, &err));
        assert_string_equal(caller.pod_uid, "u1");
        assert_string_equal(caller.namespace, "team-a");
        kube_caller_fini(&caller);
        assert_false(kube_reviews_find(reviews, "secret.tok-eN", &caller, &err));
        assert_int_equal(err.code, ERROR_NONE);
        assert_int_equal(review(reviews, "stranger", &caller, &err), ERROR_UNAUTHORIZED);
        err = (struct error){ 0 };
        assert_false(kube_reviews_find(reviews, "stranger", &caller, &err));
        assert_int_equal(err.code, ERROR_UNAUTHORIZED);
        err = (struct error){ 0 };
        assert_false(kube_reviews_find(reviews, "two words", &caller, &err));
        assert_int_equal(err.code, ERROR_UNAUTHORIZED);
        assert_int_equal(rig_count("POST\", \"target\": \"/apis/authentication.k8s.io/v1/tokenreviews"), 2);
        now_ms += 301000;
        err = (struct error){ 0 };
        assert_false(kube_reviews_find(reviews, "secret.tok-en", &caller, &err));
        assert_false(kube_reviews_find(reviews, "stranger", &caller, &err));
        assert_int_equal(err.code, ERROR_NONE);
}

static void test_refusals(void **state)
{
        (void)state;
        static const struct { const char *json; enum error_code code; const char *piece; } rows[] = {
                { NULL, ERROR_UNAUTHORIZED, "invalid bearer token" },
                { "{}", ERROR_UNAUTHORIZED, "not good" },
                { "{\"authenticated\":false," AUDIENCES "," USER("system:serviceaccount:team-a:web", EXTRA("u1")) "}", ERROR_UNAUTHORIZED, "not good" },
                { "{\"authenticated\":\"true\"," AUDIENCES "," USER("system:serviceaccount:team-a:web", EXTRA("u1")) "}", ERROR_UNAUTHORIZED, "not good" },
                { "{\"authenticated\":true," USER("system:serviceaccount:team-a:web", EXTRA("u1")) "}", ERROR_UNAUTHORIZED, "audience" },
                { "{\"authenticated\":true,\"audiences\":[\"other\"]," USER("system:serviceaccount:team-a:web", EXTRA("u1")) "}", ERROR_UNAUTHORIZED, "audience" },
                { "{\"authenticated\":true," AUDIENCES "," USER("kubernetes-admin", EXTRA("u1")) "}", ERROR_DENIED, "no service account" },
                { "{\"authenticated\":true," AUDIENCES "," USER("system:serviceaccount:team-a", EXTRA("u1")) "}", ERROR_DENIED, "no service account" },
                { "{\"authenticated\":true," AUDIENCES "," USER("system:serviceaccount:../x:web", EXTRA("u1")) "}", ERROR_DENIED, "no service account" },
                { "{\"authenticated\":true," AUDIENCES "," USER("system:serviceaccount:team-a:web", "\"extra\":{}") "}", ERROR_DENIED, "bound to no pod" },
                { "{\"authenticated\":true," AUDIENCES "," USER("system:serviceaccount:team-a:web", "\"extra\":{\"authentication.kubernetes.io/pod-uid\":[\"a\",\"b\"]}") "}",
                  ERROR_DENIED, "bound to no pod" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err;
                struct kube_caller caller = { 0 };
                CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
                if (rows[i].json)
                        STEER("/_token", "token", "hidden-token", "json", rows[i].json);
                enum error_code code = review(reviews, "hidden-token", &caller, &err);
                if (code != rows[i].code || !strstr(err.text, rows[i].piece))
                        fail_msg("row %zu: %s: %s", i, error_get_row(code)->name, err.text);
                assert_null(strstr(err.text, "hidden-token"));
                assert_null(caller.namespace);
        }
}

/* What is no token is not sent anywhere; what we are refused is not the caller's fault, and is not remembered. */
static void test_odd_tokens(void **state)
{
        (void)state;
        struct error err;
        struct kube_caller caller = { 0 };
        CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
        CLEANUP(cleanup_free) char *large = memory_new(1, 20000);
        memset(large, 'x', 19999);
        const char *const odd[] = { "", "a b", "a\"b", "a\nb", "\xc3\xa4", large };
        for (size_t i = 0; i < COUNT_OF(odd); i++)
                assert_int_equal(review(reviews, odd[i], &caller, &err), ERROR_UNAUTHORIZED);
        assert_int_equal(rig_count("\"method\""), 0);
        static const struct { const char *mode, *arg; enum error_code code; } rows[] = {
                { "forbidden", "", ERROR_UPSTREAM_ERROR }, { "status", "500", ERROR_UPSTREAM_ERROR }, { "garbage", "", ERROR_UPSTREAM_ERROR }, { "plain404", "", ERROR_UPSTREAM_ERROR },
        };
        STEER("/_token", "token", "t", "json", GOOD);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                STEER("/_fault", "match", "tokenreviews", "do", rows[i].mode, "arg", rows[i].arg);
                assert_int_equal(review(reviews, "t", &caller, &err), rows[i].code);
        }
        assert_int_equal(review(reviews, "t", &caller, &err), ERROR_NONE);
        kube_caller_fini(&caller);
}

static void ask_again(struct kube_reviews *reviews, const char *token, enum error_code code, unsigned requests)
{
        struct error err;
        struct kube_caller caller = { 0 };
        assert_int_equal(review(reviews, token, &caller, &err), code);
        kube_caller_fini(&caller);
        assert_int_equal(rig_count("\"method\""), requests);
}

/* Remembered until the token ends, at most 5 minutes; an opaque one a minute; a refusal 10 s. */
static void test_remembers(void **state)
{
        (void)state;
        CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
        char claims[64];
        char *tokens[2];
        static const int64_t lifetimes_s[] = { 3600, 100 };
        for (size_t i = 0; i < COUNT_OF(tokens); i++) {
                snprintf(claims, sizeof claims, "{\"exp\":%lld,\"x\":\"\xc3\xbf?>\"}", (long long)(clock_get_wall_s() + lifetimes_s[i]));
                CLEANUP(cleanup_free) char *text = base64_encode(claims, strlen(claims));
                for (char *c = text; *c; c++)
                        *c = *c == '+' ? '-' : *c == '/' ? '_' : *c == '=' ? '\0' : *c;
                tokens[i] = string_format("e30.%s.c2ln", text);
                STEER("/_token", "token", tokens[i], "json", GOOD);
        }
        STEER("/_token", "token", "opaque", "json", GOOD);
        ask_again(reviews, tokens[0], ERROR_NONE, 1);
        ask_again(reviews, tokens[1], ERROR_NONE, 2);
        ask_again(reviews, "opaque", ERROR_NONE, 3);
        ask_again(reviews, "bad", ERROR_UNAUTHORIZED, 4);
        now_ms += 9000;
        ask_again(reviews, "bad", ERROR_UNAUTHORIZED, 4);
        now_ms += 2000;
        ask_again(reviews, "bad", ERROR_UNAUTHORIZED, 5);
        ask_again(reviews, "opaque", ERROR_NONE, 5);
        now_ms += 50000;
        ask_again(reviews, "opaque", ERROR_NONE, 6);
        ask_again(reviews, tokens[1], ERROR_NONE, 6);
        now_ms += 40000;
        ask_again(reviews, tokens[1], ERROR_NONE, 7);              /* it would have ended by now */
        ask_again(reviews, tokens[0], ERROR_NONE, 7);
        now_ms += 200000;
        ask_again(reviews, tokens[0], ERROR_NONE, 8);
        free(tokens[0]);
        free(tokens[1]);
}

/* What is doubted counts for 10 s from its review on, and for everybody. */
static void test_doubts(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_caller caller = { 0 };
        CLEANUP(kube_reviews_free) struct kube_reviews *reviews = kube_reviews_new("wasmcached", get_now_ms);
        STEER("/_token", "token", "opaque", "json", GOOD);
        assert_false(kube_reviews_doubt(reviews, "opaque"));
        ask_again(reviews, "opaque", ERROR_NONE, 1);
        now_ms += 9999;
        assert_true(kube_reviews_doubt(reviews, "opaque"));
        ask_again(reviews, "opaque", ERROR_NONE, 1);
        now_ms += 1;
        assert_false(kube_reviews_doubt(reviews, "opaque"));
        assert_false(kube_reviews_find(reviews, "opaque", &caller, &err));
        assert_int_equal(err.code, ERROR_NONE);
        ask_again(reviews, "opaque", ERROR_NONE, 2);
        now_ms += 11000;
        ask_again(reviews, "opaque", ERROR_NONE, 2);               /* nobody doubts it any more: the Pod has come */
        assert_false(kube_reviews_doubt(reviews, "opaque"));
        ask_again(reviews, "opaque", ERROR_NONE, 3);
}

/* ---- events */
static const struct kube_event refused = { "extensions.istio.io/v1alpha1", "WasmPlugin", "team-a", "authz", "uid-1", true, "Refused", "Pull", "checksum_mismatch: it is \"another\"" };

static enum kube_event_end write_event(struct kube_events *events, const struct kube_event *event)
{
        struct error err = { 0 };
        struct kube_call call = { .kube = kube };
        enum kube_event_end end = KUBE_EVENT_DROPPED;
        if (!kube_events_write(events, &call, event, &end, &err))
                fail_msg("%s", err.text);
        return end;
}

static void test_event(void **state)
{
        (void)state;
        CLEANUP(kube_events_free) struct kube_events *events = kube_events_new("wasmcached.dev/agent", "node-1", get_now_ms);
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_WRITTEN);
        assert_int_equal(rig_count("POST\", \"target\": \"/apis/events.k8s.io/v1/namespaces/team-a/events\""), 1);
        CLEANUP(cleanup_free) char *log = rig_steer("/_log", NULL);
        static const char *const pieces[] = { "\\\"reportingController\\\":\\\"wasmcached.dev/agent\\\"", "\\\"reportingInstance\\\":\\\"node-1\\\"", "\\\"type\\\":\\\"Warning\\\"",
                                              "\\\"uid\\\":\\\"uid-1\\\"", "\\\"name\\\":\\\"authz.", "\\\"kind\\\":\\\"WasmPlugin\\\"" };
        for (size_t i = 0; i < COUNT_OF(pieces); i++)
                if (!strstr(log, pieces[i]))
                        fail_msg("%s is not in %s", pieces[i], log);
}

static void test_series(void **state)
{
        (void)state;
        CLEANUP(kube_events_free) struct kube_events *events = kube_events_new("wasmcached.dev/agent", "node-1", get_now_ms);
        struct kube_event other = refused;
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_WRITTEN);
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_COUNTED);       /* written at once */
        assert_int_equal(rig_count("PATCH"), 1);
        for (int i = 0; i < 20; i++)
                assert_int_equal(write_event(events, &refused), KUBE_EVENT_COUNTED);
        assert_int_equal(rig_count("PATCH"), 1);
        now_ms += 61000;
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_COUNTED);
        assert_int_equal(rig_count("PATCH"), 2);
        assert_int_equal(rig_count("\\\"count\\\":23"), 1);
        assert_int_equal(rig_count("\"type\": \"application/merge-patch+json\""), 2);
        other.note = "another reason";
        assert_int_equal(write_event(events, &other), KUBE_EVENT_WRITTEN);
        other = refused;
        other.uid = "uid-2";                       /* recreated under the same name */
        assert_int_equal(write_event(events, &other), KUBE_EVENT_WRITTEN);
        now_ms += 601000;
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_WRITTEN);       /* a series has ended */
        STEER("/_reset");                          /* the server has forgotten it (Events live an hour) */
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_COUNTED);
        assert_int_equal(rig_count("PATCH"), 1);
        assert_int_equal(rig_count("POST"), 1);
}

static void test_limits(void **state)
{
        (void)state;
        CLEANUP(kube_events_free) struct kube_events *events = kube_events_new("wasmcached.dev/agent", "node-1", get_now_ms);
        unsigned ends[3] = { 0 };
        char note[32], uid[32];
        for (int i = 0; i < 30; i++) {             /* one object that changes its mind all the time */
                struct kube_event event = refused;
                snprintf(note, sizeof note, "%d", i);
                event.note = note;
                ends[write_event(events, &event)]++;
        }
        assert_int_equal(ends[KUBE_EVENT_WRITTEN], 25);
        assert_int_equal(ends[KUBE_EVENT_DROPPED], 5);
        for (int i = 0; i < 40; i++) {             /* and many objects at once */
                struct kube_event event = refused;
                snprintf(uid, sizeof uid, "other-%d", i);
                event.uid = uid;
                ends[write_event(events, &event)]++;
        }
        assert_int_equal(ends[KUBE_EVENT_WRITTEN], 50);
        now_ms += 2000;
        struct kube_event event = refused;
        event.uid = "later";
        assert_int_equal(write_event(events, &event), KUBE_EVENT_WRITTEN);
        assert_int_equal(rig_count("POST"), 51);
}

/* However many objects there are in a day, what is remembered of them has an end, and none is refused for it. */
static void test_many_objects(void **state)
{
        (void)state;
        CLEANUP(kube_events_free) struct kube_events *events = kube_events_new("wasmcached.dev/agent", "node-1", get_now_ms);
        char uid[32];
        for (int i = 0; i < 1200; i++) {
                struct kube_event event = refused;
                snprintf(uid, sizeof uid, "many-%d", i);
                event.uid = uid;
                now_ms += 1000;
                assert_int_equal(write_event(events, &event), KUBE_EVENT_WRITTEN);
        }
}

/* Long and odd texts are made fit; what cannot be is refused before it is sent; a refusal of the server is told, and the next one tries again. */
static void test_event_bounds(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_call call = { .kube = kube };
        enum kube_event_end end;
        CLEANUP(kube_events_free) struct kube_events *events = kube_events_new("wasmcached.dev/agent", "node-1", get_now_ms);
        CLEANUP(cleanup_free) char *note = memory_new(1, 5001), *name = memory_new(1, 254);
        struct kube_event event = refused;
        memset(note, 'n', 5000);
        memset(name, 'a', 253);
        name[10] = name[199] = '.';
        note[3] = '\n';
        event.note = note;
        event.name = name;
        assert_int_equal(write_event(events, &event), KUBE_EVENT_WRITTEN);
        event.name = "../x";
        assert_false(kube_events_write(events, &call, &event, &end, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        STEER("/_fault", "match", "events", "do", "forbidden");
        assert_false(kube_events_write(events, &call, &refused, &end, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_int_equal(write_event(events, &refused), KUBE_EVENT_WRITTEN);
        event = refused;
        event.namespace = "";                      /* of the cluster */
        event.uid = "u3";
        assert_int_equal(write_event(events, &event), KUBE_EVENT_WRITTEN);
        assert_int_equal(rig_count("/namespaces/default/events"), 1);
}

int main(int argc, char **argv)
{
        cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_caller, reset), cmocka_unit_test_setup(test_find, reset),      cmocka_unit_test_setup(test_refusals, reset),
                cmocka_unit_test_setup(test_odd_tokens, reset), cmocka_unit_test_setup(test_doubts, reset),
                cmocka_unit_test_setup(test_remembers, reset), cmocka_unit_test_setup(test_event, reset),    cmocka_unit_test_setup(test_series, reset),
                cmocka_unit_test_setup(test_limits, reset),    cmocka_unit_test_setup(test_event_bounds, reset),
                cmocka_unit_test_setup(test_many_objects, reset),
        };
        return cmocka_run_group_tests(tests, rig_start, stop);
}
