/* Who asks on a listener of identity pod: identity.c alone, with a serve, pods, reviews and workers that are made here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/kube/process.h>
#include <wasmcached/loop.h>
#include "../../agent/api/front.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"      /* rows of the tables say only what matters to them */
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"

#define U1 "2c48913c-b29f-11e7-9350-020968147796"
#define U2 "deadbeef-b29f-11e7-9350-020968147796"

enum { JOBS_MAX = 16 };
struct serve_request { void *identity, *data; const char *authorization; struct serve_group group; };
struct serve_process { struct serve_peer peer; };

static struct {
        char order[16];
        enum error_code hold, read, check;        /* NONE = good */
        struct kube_cgroup cgroup;                /* of the process that connects, and what keeper is asked for last */
        bool is_early, is_full, is_other_container, may_learn;
        struct { void (*fn)(void *arg); void *arg; } timers[300], watch;
        size_t timer_count, watches;
        enum { NOT_KNOWN, KNOWN } memory;
        bool is_old;                              /* what is remembered, where it is doubted */
        size_t doubts;
        struct kube_caller review;
        enum error_code refusal;                  /* of the review */
        struct job *jobs[JOBS_MAX];
        size_t job_count, asks, handled, answered, reviewed;
        enum api_identified identified;
        struct error err;
        struct api_call call;
        struct cancel *cancel;
        char token[64];
} world;
static struct plugin_label label = { "app", "web" };
static struct plugin_pod pods[] = { { .namespace = "team-a", .name = "web", .uid = U1, .labels = &label, .label_count = 1 }, { .namespace = "team-b", .name = "web", .uid = U2 } };
static struct api_listener by_pod = { .identity = API_IDENTITY_POD }, fixed = { .identity = API_IDENTITY_FIXED, .namespace = "default" };
static struct api api;

/* ---- serve ---- */
static bool step(char name, enum error_code code, struct error *err)
{
        size_t used = strlen(world.order);
        world.order[used] = name;
        return code == ERROR_NONE || refuse(err, code, "step %c", name);
}
const struct serve_peer *serve_process_get_peer(const struct serve_process *process) { return &process->peer; }
bool serve_process_hold(struct serve_process *process, struct error *err) { return process && step('h', world.hold, err); }
bool serve_process_check(const struct serve_process *process, struct error *err) { return process && step('c', world.check, err); }
const char *serve_request_get_content_type(const struct serve_request *request) { return serve_request_get_header(request, "Content-Type"); }
const char *serve_request_get_header(const struct serve_request *request, const char *name) { return strcmp(name, "Authorization") == 0 ? request->authorization : NULL; }
void *serve_request_get_identity(const struct serve_request *request) { return request->identity; }
void serve_request_set_data(struct serve_request *request, void *data) { request->data = data; }
bool serve_request_set_group(struct serve_request *request, const struct serve_group *group)
{
        request->group = *group;
        return !world.is_full;
}

/* ---- kube ---- */
bool kube_process_read(pid_t pid, struct kube_cgroup *ret_cgroup, struct error *err)
{
        assert_int_equal(pid, 4711);
        *ret_cgroup = world.cgroup;
        return step('r', world.read, err);
}
void kube_caller_fini(struct kube_caller *caller)
{
        free(caller->namespace);
        *caller = (struct kube_caller){ 0 };
}
static bool review_give(struct kube_caller *ret_caller, struct error *err)
{
        if (world.refusal != ERROR_NONE)
                return refuse(err, world.refusal, "the server said so");
        *ret_caller = world.review;
        ret_caller->namespace = string_copy(world.review.namespace);
        return true;
}
bool kube_reviews_find(struct kube_reviews *reviews, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        assert_non_null(reviews);
        snprintf(world.token, sizeof world.token, "%s", token);
        return world.memory == KNOWN && review_give(ret_caller, err);
}
bool kube_reviews_doubt(struct kube_reviews *reviews, const char *token)
{
        assert_non_null(reviews);
        assert_string_equal(token, world.token);
        world.doubts++;
        return !world.is_old;
}
bool kube_reviews_fetch(struct kube_reviews *reviews, const struct kube_call *call, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        assert_non_null(reviews);
        assert_string_equal(token, world.token);
        assert_true(call->deadline_ms > 0);
        world.reviewed++;
        return cancel_is_triggered(call->cancel) ? refuse(err, ERROR_BUSY, "cancelled") : review_give(ret_caller, err);
}

/* ---- plugin ---- */
const struct plugin_pod *keeper_find_pod(const struct keeper *keeper, const char *uid)
{
        assert_non_null(keeper);
        for (size_t i = 0; i < COUNT_OF(pods); i++)
                if (strcmp(pods[i].uid, uid) == 0)
                        return &pods[i];
        return NULL;
}
const struct plugin_pod *keeper_find_pod_of(const struct keeper *keeper, const struct kube_cgroup *cgroup, struct error *err)
{
        const struct plugin_pod *pod = keeper_find_pod(keeper, cgroup->pod);
        if (world.is_other_container)
                refuse(err, ERROR_DENIED, "another pod's container");
        else if (!pod)
                refuse(err, ERROR_DENIED, "no such pod");
        return world.is_other_container ? NULL : pod;
}
bool keeper_is_ready(const struct keeper *keeper, struct error *err)
{
        return keeper && (!world.is_early || refuse(err, ERROR_BUSY, "not read yet"));
}

bool keeper_may_learn_of(const struct keeper *keeper, const struct kube_cgroup *cgroup)
{
        return world.may_learn && !keeper_find_pod(keeper, cgroup->pod);
}
struct keeper_watch *keeper_watch_start(struct keeper *keeper, void (*changed)(void *arg), void *arg)
{
        assert_non_null(keeper);
        world.watch.fn = changed, world.watch.arg = arg;
        world.watches++;
        return (struct keeper_watch *)&world.watch;
}
void keeper_watch_cancel(struct keeper_watch **watch)
{
        assert_ptr_equal(TAKE(*watch), &world.watch);
        world.watch.fn = NULL;
        world.watches--;
}

/* ---- loop and api ---- */
struct loop_timer *loop_timer_start(struct loop *loop, int64_t after_ms, int64_t repeat_ms, void (*fire)(void *arg), void *arg)
{
        (void)loop;
        assert_in_range(after_ms, 100, 10000);
        assert_int_equal(repeat_ms, 0);
        world.timers[world.timer_count].fn = fire, world.timers[world.timer_count].arg = arg;
        return (struct loop_timer *)&world.timers[world.timer_count++];
}
void loop_timer_cancel(struct loop_timer **timer)
{
        *(void **)TAKE(*timer) = NULL;
}
void job_start(struct loop *loop, struct job *job)
{
        (void)loop;
        world.jobs[world.job_count++] = job;
}
static void job_finish(size_t index)
{
        world.jobs[index]->run(world.jobs[index]);
        world.jobs[index]->done(world.jobs[index]);
}
struct api_ask *api_ask_new(const struct api_call *call)
{
        struct api_ask *ask = memory_new(1, sizeof *ask);
        ask->request = call->request;
        world.asks++;
        return ask;
}
void api_ask_free(struct api_ask **ask)
{
        world.asks -= *ask != NULL;
        free(TAKE(*ask));
}
void api_answer_error(struct api *the_api, struct serve_request *request, size_t route, const struct error *err)
{
        (void)route;
        assert_true(the_api && request && !request->data);
        assert_int_equal(err->code, ERROR_BUSY);
        world.answered++;
}
static enum api_identified identify(struct serve_request *request, const struct api_review *review)
{
        world.err = (struct error){ 0 };
        world.call = (struct api_call){ .api = &api, .request = request, .listener = &by_pod };
        return world.identified = api_identify(&world.call, review, &world.err);
}
void api_handle_reviewed(struct api *the_api, struct serve_request *request, const struct api_review *review)
{
        assert_ptr_equal(the_api, &api);
        assert_null(request->data);
        world.handled++;
        identify(request, review);
}

/* ---- */
static int reset(void **state)
{
        (void)state;
        memset(&world, 0, sizeof world);
        api = (struct api){ .reviews_end = &api.reviews, .namespaces = map_new(free) };
        api.options.keeper = (struct keeper *)&api;
        api.options.reviews = (struct kube_reviews *)&api;
        api.options.node = "n1";
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, U1);
        world.review = (struct kube_caller){ "team-a", "runner", "web", U1, "n1" };
        return 0;
}

static int check_end(void **state)
{
        (void)state;
        map_free(&api.namespaces);
        assert_int_equal(world.asks, 0);
        assert_null(api.reviews);
        assert_null(api.newcomers);
        assert_int_equal(api.newcomer_count + world.watches, 0);
        assert_ptr_equal(api.reviews_end, &api.reviews);
        assert_int_equal(api.reviews_running, 0);
        return 0;
}

static void *arrive(const struct api_listener *listener, struct serve_group *ret_group)
{
        struct serve_process process = { .peer = { true, 4711, 1, 1 } };
        *ret_group = (struct serve_group){ 0 };
        world.order[0] = '\0';
        memset(world.order, 0, sizeof world.order);
        return api_arrived(&api, (void *)(uintptr_t)listener, &process, ret_group);
}

static void test_arriving(void **state)
{
        static const struct { enum error_code hold, read, check; const char *order; } rows[] = {
                { ERROR_NONE, ERROR_NONE, ERROR_NONE, "hrc" }, { ERROR_DENIED, ERROR_NONE, ERROR_NONE, "h" }, { ERROR_NONE, ERROR_DENIED, ERROR_NONE, "hrc" }, { ERROR_NONE, ERROR_DENIED, ERROR_DENIED, "hrc" },
                { ERROR_NONE, ERROR_NONE, ERROR_DENIED, "hrc" }, { ERROR_BUSY, ERROR_NONE, ERROR_NONE, "h" },
        };
        static const struct serve_group none = { 0 };
        struct serve_group group, same;
        (void)state;
        assert_null(arrive(&fixed, &group));
        assert_string_equal(world.order, "");
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                world.hold = rows[i].hold, world.read = rows[i].read, world.check = rows[i].check;
                bool good = i == 0;
                CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
                assert_string_equal(world.order, rows[i].order);
                assert_int_equal(memcmp(&group, &none, sizeof none) != 0, good);
                struct serve_request request = { .identity = identity };
                assert_int_equal(identify(&request, NULL), good ? API_IDENTIFIED : API_REFUSED);
                assert_int_equal(world.err.code, good ? ERROR_NONE : i == 5 ? ERROR_BUSY : ERROR_DENIED);
                assert_true(good || !world.call.caller.namespace);
        }
        world.hold = world.read = world.check = ERROR_NONE;
        free(arrive(&by_pod, &group));
        free(arrive(&by_pod, &same));
        assert_memory_equal(&group, &same, sizeof group);
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, U2);
        free(arrive(&by_pod, &same));
        assert_memory_not_equal(&group, &same, sizeof group);
}

static void test_by_cgroup(void **state)
{
        struct serve_group group;
        (void)state;
        CLEANUP(cleanup_free) void *first = arrive(&by_pod, &group), *again = arrive(&by_pod, &group);
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, U2);
        CLEANUP(cleanup_free) void *other = arrive(&by_pod, &group);
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, "unheard-of");
        CLEANUP(cleanup_free) void *stranger = arrive(&by_pod, &group);
        struct serve_request requests[] = { { .identity = first }, { .identity = again }, { .identity = other }, { .identity = stranger } };
        uint64_t holders[3];
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(identify(&requests[i], NULL), API_IDENTIFIED);
                assert_string_equal(world.call.caller.namespace, i < 2 ? "team-a" : "team-b");
                assert_ptr_equal(world.call.pod, &pods[i / 2]);
                assert_ptr_not_equal(world.call.caller.namespace, pods[i / 2].namespace);        /* it outlives the Pod */
                holders[i] = world.call.caller.holder;
                assert_int_equal(holders[i] >> 62, 3);
        }
        assert_true(holders[0] == holders[1] && holders[0] != holders[2]);
        assert_int_equal(identify(&requests[3], NULL), API_REFUSED);
        assert_int_equal(world.err.code, ERROR_DENIED);
        world.is_early = true;
        assert_int_equal(identify(&requests[3], NULL), API_REFUSED);
        assert_int_equal(world.err.code, ERROR_BUSY);
        assert_int_equal(identify(&requests[0], NULL), API_IDENTIFIED);        /* who is known already need not wait for the rest */
        world.is_other_container = true;
        world.is_early = false;
        assert_int_equal(identify(&requests[0], NULL), API_REFUSED);
        assert_int_equal(world.err.code, ERROR_DENIED);
        api.options.keeper = NULL;
        assert_int_equal(identify(&requests[0], NULL), API_REFUSED);
        assert_int_equal(world.err.code, ERROR_DENIED);
        assert_int_equal(identify(&(struct serve_request){ 0 }, NULL), API_REFUSED);
        assert_int_equal(world.err.code, ERROR_INTERNAL);
}

/* What the server says of a token against what is known otherwise. */
static void test_tokens(void **state)
{
        static const struct { const char *name; struct kube_caller review; bool has_no_cgroup, is_full, is_other; enum api_identified end; const char *piece; } rows[] = {
                { "the same pod", { "team-a", "runner", "web", U1, "n1" }, false, false, false, API_IDENTIFIED, NULL },
                { "no cgroup", { "team-a", "runner", "web", U1, "n1" }, true, false, false, API_IDENTIFIED, NULL },
                { "a pod that is not known here yet", { "team-c", "runner", "new", "u9", "n1" }, true, false, false, API_IDENTIFIED, NULL },
                { "a server that does not tell nodes", { "team-a", "runner", "web", U1, "" }, true, false, false, API_IDENTIFIED, NULL },
                { "another pod's token", { "team-b", "runner", "web", U2, "n1" }, false, false, false, API_REFUSED, "another one" },
                { "a pod on another node", { "team-a", "runner", "web", U1, "n2" }, true, false, false, API_REFUSED, "node" },
                { "another namespace", { "team-b", "runner", "web", U1, "n1" }, true, false, false, API_REFUSED, "namespace" },
                { "another pod's container", { "team-a", "runner", "web", U1, "n1" }, false, false, true, API_REFUSED, "container" },
                { "too many", { "team-a", "runner", "web", U1, "n1" }, true, true, false, API_CROWDED, "too many" },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct serve_group group;
                world.hold = rows[i].has_no_cgroup ? ERROR_DENIED : ERROR_NONE;
                CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
                struct serve_request request = { .identity = identity, .authorization = "Bearer secret.tok-en" };
                world.memory = KNOWN;
                world.review = rows[i].review;
                world.is_full = rows[i].is_full;
                world.is_other_container = rows[i].is_other;
                if (identify(&request, NULL) != rows[i].end || (rows[i].piece && !strstr(world.err.text, rows[i].piece)))
                        fail_msg("%s: %d %s", rows[i].name, world.identified, world.err.text);
                assert_int_equal(world.err.code, rows[i].end == API_IDENTIFIED ? ERROR_NONE : rows[i].end == API_CROWDED ? ERROR_BUSY : ERROR_DENIED);
                assert_null(strstr(world.err.text, "secret"));
                if (rows[i].end != API_IDENTIFIED)
                        continue;
                assert_string_equal(world.call.caller.namespace, rows[i].review.namespace);
                assert_ptr_equal(world.call.pod, keeper_find_pod(api.options.keeper, rows[i].review.pod_uid));
                if (!rows[i].has_no_cgroup)
                        assert_memory_equal(&request.group, &group, sizeof group);         /* it counts for the same, whichever way it was known */
        }
        assert_int_equal(world.job_count, 0);
}

/* A remembered token of a pod that is not known here: perhaps it is new, perhaps it is gone. While the review is young it counts, then the server is asked again. */
static void test_doubts(void **state)
{
        struct serve_group group;
        (void)state;
        world.hold = ERROR_DENIED;
        world.memory = KNOWN;
        CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
        struct serve_request request = { .identity = identity, .authorization = "Bearer a.b" };
        world.is_old = true;
        assert_int_equal(identify(&request, NULL), API_IDENTIFIED);
        assert_int_equal(world.doubts, 0);
        world.review.pod_uid = "u9";
        world.is_old = false;
        assert_int_equal(identify(&request, NULL), API_IDENTIFIED);
        assert_int_equal(world.doubts, 1);
        world.is_old = true;
        assert_int_equal(identify(&request, NULL), API_WAITS);
        assert_int_equal(world.job_count, 1);
        world.refusal = ERROR_UNAUTHORIZED;
        job_finish(0);
        assert_int_equal(world.identified, API_REFUSED);
        assert_int_equal(world.err.code, ERROR_DENIED);
        world.refusal = ERROR_NONE;
        api.options.keeper = NULL;                /* who is told of no pods knows none */
        assert_int_equal(identify(&request, NULL), API_WAITS);
        job_finish(1);
        assert_int_equal(world.identified, API_IDENTIFIED);
}

static void test_header(void **state)
{
        static const struct { const char *header, *token; } rows[] = {
                { "Bearer a.b", "a.b" }, { "bearer a.b", "a.b" }, { "BEARER   a.b", "a.b" }, { "Bearer ", "" }, { "Basic a.b", NULL }, { "Bearera.b", NULL }, { "Bearer", NULL },
                { "", NULL }, { NULL, NULL },
        };
        struct serve_group group;
        (void)state;
        CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
        world.memory = KNOWN;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct serve_request request = { .identity = identity, .authorization = rows[i].header };
                world.token[0] = '\0';
                snprintf(world.token, sizeof world.token, "(none)");
                assert_int_equal(identify(&request, NULL), API_IDENTIFIED);
                assert_string_equal(world.token, rows[i].token ? rows[i].token : "(none)");
        }
        api.options.reviews = NULL;               /* mode off: nobody could say what it is worth */
        struct serve_request request = { .identity = identity, .authorization = "Bearer a.b" };
        assert_int_equal(identify(&request, NULL), API_IDENTIFIED);
        assert_string_equal(world.token, "(none)");
}

/* Asked of the server: what it refuses is refused; when it cannot be asked, the cgroup counts, if there is one. */
static void test_reviews(void **state)
{
        static const struct { enum error_code refusal; bool has_no_cgroup; enum api_identified end; enum error_code code; } rows[] = {
                { ERROR_NONE, false, API_IDENTIFIED, ERROR_NONE }, { ERROR_NONE, true, API_IDENTIFIED, ERROR_NONE },
                { ERROR_UNAUTHORIZED, false, API_REFUSED, ERROR_DENIED }, { ERROR_UNAUTHORIZED, true, API_REFUSED, ERROR_DENIED }, { ERROR_DENIED, false, API_REFUSED, ERROR_DENIED },
                { ERROR_UPSTREAM_UNREACHABLE, false, API_IDENTIFIED, ERROR_NONE }, { ERROR_UPSTREAM_UNREACHABLE, true, API_REFUSED, ERROR_UPSTREAM_UNREACHABLE },
                { ERROR_TIMEOUT, true, API_REFUSED, ERROR_TIMEOUT },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct serve_group group;
                world.hold = rows[i].has_no_cgroup ? ERROR_DENIED : ERROR_NONE;
                CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
                struct serve_request request = { .identity = identity, .authorization = "Bearer a.b" };
                world.refusal = rows[i].refusal;
                world.job_count = 0;
                assert_int_equal(identify(&request, NULL), API_WAITS);
                assert_non_null(request.data);
                assert_int_equal(world.job_count, 1);
                job_finish(0);
                assert_int_equal(world.handled, i + 1);
                assert_int_equal(world.identified, rows[i].end);
                assert_int_equal(world.err.code, rows[i].code);
        }
}

/* At most four at a time; who goes meanwhile is not answered; the others get their turn. */
static void test_many(void **state)
{
        struct serve_group group;
        struct serve_request requests[8];
        (void)state;
        CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
        for (size_t i = 0; i < COUNT_OF(requests); i++) {
                requests[i] = (struct serve_request){ .identity = identity, .authorization = "Bearer a.b" };
                assert_int_equal(identify(&requests[i], NULL), API_WAITS);
        }
        assert_int_equal(world.job_count, 4);
        api_review_gone(((struct api_ask *)requests[1].data)->review);             /* one that runs */
        api_review_gone(((struct api_ask *)requests[5].data)->review);             /* one that waits for its turn */
        assert_int_equal(world.asks, 6);
        for (size_t i = 0; i < world.job_count; i++)
                job_finish(i);
        assert_int_equal(world.job_count, 7);
        assert_int_equal(world.handled, 6);
        assert_null(requests[7].data);
}

/* The daemon stops: all are told; those that run end by themselves, without the api. */
static void test_stopping(void **state)
{
        struct serve_group group;
        struct serve_request requests[7];
        (void)state;
        CLEANUP(cleanup_free) void *identity = arrive(&by_pod, &group);
        for (size_t i = 0; i < COUNT_OF(requests); i++) {
                requests[i] = (struct serve_request){ .identity = identity, .authorization = "Bearer a.b" };
                assert_int_equal(identify(&requests[i], NULL), API_WAITS);
        }
        api_review_gone(((struct api_ask *)requests[0].data)->review);
        api_reviews_close(&api);
        assert_int_equal(world.answered, 6);
        assert_int_equal(world.asks, 0);
        assert_null(api.reviews);
        assert_null(api.newcomers);
        assert_int_equal(api.newcomer_count + world.watches, 0);
        for (size_t i = 0; i < 4; i++)
                job_finish(i);
        assert_int_equal(world.job_count, 4);
        assert_int_equal(world.handled, 0);
}

/* A pod that is not known yet, where the API server tells of pods: waited for, and then on its way from the start. */
static void test_newcomers(void **state)
{
        struct serve_group group;
        (void)state;
        CLEANUP(cleanup_free) void *known = arrive(&by_pod, &group);
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, "u-new");
        CLEANUP(cleanup_free) void *new = arrive(&by_pod, &group);
        struct serve_request requests[] = { { .identity = new }, { .identity = new }, { .identity = new }, { .identity = known } };
        world.may_learn = true;
        for (size_t i = 0; i < 3; i++)
                assert_int_equal(identify(&requests[i], NULL), API_WAITS);
        assert_int_equal(identify(&requests[3], NULL), API_IDENTIFIED);
        assert_int_equal(world.watches, 1);

        world.watch.fn(world.watch.arg);          /* other pods came */
        assert_int_equal(world.handled, 0);
        world.timers[1].fn(world.timers[1].arg);  /* its moment is over */
        assert_true(world.handled == 1 && world.identified == API_REFUSED && world.err.code == ERROR_DENIED);
        api_newcomer_gone(((struct api_ask *)requests[2].data)->newcomer);
        api_ask_free(&(struct api_ask *){ requests[2].data });
        assert_null(world.timers[2].fn);

        pods[1].uid = "u-new";
        world.watch.fn(world.watch.arg);
        pods[1].uid = U2;
        assert_true(world.handled == 2 && world.identified == API_IDENTIFIED);
        assert_string_equal(world.call.caller.namespace, "team-b");

        /* With a reason of its own nobody waits: another's container, a process that is in no pod. */
        world.is_other_container = true;
        assert_int_equal(identify(&requests[3], NULL), API_REFUSED);
        world.is_other_container = false;
        world.read = ERROR_DENIED;
        CLEANUP(cleanup_free) void *host = arrive(&by_pod, &group);
        assert_int_equal(identify(&(struct serve_request){ .identity = host }, NULL), API_REFUSED);
}

/* Not more than so many, and none is left at the end. */
static void test_newcomers_end(void **state)
{
        static struct serve_request requests[300];
        struct serve_group group;
        size_t waiting = 0;
        (void)state;
        snprintf(world.cgroup.pod, sizeof world.cgroup.pod, "u-new");
        CLEANUP(cleanup_free) void *new = arrive(&by_pod, &group);
        world.may_learn = true;
        for (size_t i = 0; i < COUNT_OF(requests); i++) {
                requests[i] = (struct serve_request){ .identity = new };
                waiting += identify(&requests[i], NULL) == API_WAITS;
                assert_true(requests[i].data || (world.identified == API_REFUSED && world.err.code == ERROR_DENIED));
        }
        assert_int_equal(waiting, 256);
        api_newcomers_close(&api);
        assert_int_equal(world.answered, 256);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_arriving, reset, check_end), cmocka_unit_test_setup_teardown(test_by_cgroup, reset, check_end),
                cmocka_unit_test_setup_teardown(test_tokens, reset, check_end), cmocka_unit_test_setup_teardown(test_doubts, reset, check_end), cmocka_unit_test_setup_teardown(test_header, reset, check_end),
                cmocka_unit_test_setup_teardown(test_reviews, reset, check_end), cmocka_unit_test_setup_teardown(test_many, reset, check_end),
                cmocka_unit_test_setup_teardown(test_stopping, reset, check_end), cmocka_unit_test_setup_teardown(test_newcomers, reset, check_end),
                cmocka_unit_test_setup_teardown(test_newcomers_end, reset, check_end),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
