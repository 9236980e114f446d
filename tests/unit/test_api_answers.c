/* What the api makes of what module says: answers that wait, are remembered, refused, streamed or held back while a large store is read; numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube/process.h>
#include <wasmcached/loop.h>
#include "api_rig.h"

/* The same words are decoded once; words with a secret each time; a remembered answer follows what module says. */
static void test_memo(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct { struct api_listener *listener; const char *body; unsigned decodes; } steps[] = {
                { &agent, "{\"url\":\"a\"}", 1 }, { &agent, "{\"url\":\"a\"}", 1 }, { &trusted, "{\"url\":\"a\"}", 2 }, { &agent, "{\"url\": \"a\"}", 3 }, { &agent,
                  "{\"url\":\"a\"}", 3 },
                { &agent, "{\"url\":\"a\",\"pullSecret\":{}}", 4 }, { &agent, "{\"url\":\"a\",\"pullSecret\":{}}", 5 },
        };
        static char first[sizeof((struct serve_request *)NULL)->answer];
        for (size_t i = 0; i < COUNT_OF(steps); i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(steps[i].listener, "POST", "/v1/modules", steps[i].body);
                ask(api, request);
                assert_int_equal(request->status, 200);
                assert_int_equal(world.decodes, steps[i].decodes);
                if (!*first)
                        snprintf(first, sizeof first, "%s", request->answer);
                assert_string_equal(request->answer, first);
        }
        for (int i = 0; i < 3 * API_MEMO_ENTRIES; i++) {
                char body[64];
                snprintf(body, sizeof body, "{\"url\":\"%d\"}", i);
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", body);
                ask(api, request);
        }
        assert_int_equal(world.wants, API_MEMO_ENTRIES);
        CLEANUP(cleanup_free) char *large = memory_new(1, API_MEMO_BODY_BYTES + 64);
        sprintf(large, "{\"url\":\"a\"%*s}", API_MEMO_BODY_BYTES, "");
        unsigned before = world.decodes;
        for (int i = 0; i < 2; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", large);
                ask(api, request);
        }
        assert_int_equal(world.decodes, before + 2);
        api_free(&api);
        assert_int_equal(world.wants, 0);
}

static void test_waiting(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        world.is_miss = true;
        CLEANUP(cleanup_free) struct serve_request *late = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
        ask(api, late);
        assert_int_equal(late->answers, 0);
        world.answered(world.arg, &OBJECT, NULL);
        assert_int_equal(late->status, 200);
        assert_null(late->data);

        CLEANUP(cleanup_free) struct serve_request *gone = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
        ask(api, gone);
        handler->gone(handler->arg, gone);
        assert_int_equal(world.cancels, 1);
        assert_int_equal(gone->answers, 0);

        CLEANUP(cleanup_free) struct serve_request *left = request_make(&admin, "POST", "/v1/gc", "");
        ask(api, left);
        handler->gone(handler->arg, left);
        world.done(world.arg, "{}", NULL);
        assert_int_equal(left->answers, 0);
        assert_int_equal(world.cancels, 1);
        api_free(&api);
}

static void test_refusals(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (int code = ERROR_NONE + 1; code < ERROR_CODES; code++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
                world.refusal = (enum error_code)code;
                ask(api, request);
                const struct error_row *row = error_get_row((enum error_code)code);
                CLEANUP(value_free) struct value *problem = NULL;
                struct error err = { 0 };
                assert_true(json_parse(request->answer, strlen(request->answer), ERROR_INTERNAL, &problem, &err));
                assert_int_equal(request->status, row->http_status);
                assert_int_equal(value_get_int(value_get_member(problem, "status")), row->http_status);
                assert_string_equal(value_get_text(value_get_member(problem, "code")), row->name);
                assert_string_equal(value_get_text(value_get_member(problem, "detail")), "told so");
                assert_string_equal(value_get_text(value_get_member(problem, "title")), row->title);
                assert_int_equal(strstr(request->answer_headers, "Retry-After: ") != NULL, row->retry == ERROR_RETRY_LATER);
        }
        api_free(&api);
}

/* Seconds only where asking again can help, also for a refusal that is remembered for a while, and for what a peer asks for. */
static void test_retry_after(void **state)
{
        (void)state;
        static const struct { enum error_code code; unsigned after_s; const char *header; } cases[] = {
                { ERROR_BUSY, 0, "Retry-After: 1\n" },                { ERROR_BUSY, 7, "Retry-After: 7\n" },
                { ERROR_RATE_LIMITED, 0, "Retry-After: 10\n" },       { ERROR_RATE_LIMITED, 42, "Retry-After: 42\n" },
                { ERROR_RATE_LIMITED, 9999999, "Retry-After: 3600\n" }, { ERROR_STORE_FULL, 0, "Retry-After: 30\n" },
                { ERROR_TIMEOUT, 0, "Retry-After: 1\n" },             { ERROR_SIGNATURE_UNREACHABLE, 0, "Retry-After: 5\n" },
                { ERROR_UPSTREAM_UNREACHABLE, 0, "Retry-After: 5\n" }, { ERROR_UPSTREAM_ERROR, 3, "Retry-After: 3\n" },
        };
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(cases) + ERROR_CODES; i++) {
                enum error_code code = i < COUNT_OF(cases) ? cases[i].code : (enum error_code)(i - COUNT_OF(cases));
                if (code == ERROR_NONE || (i >= COUNT_OF(cases) && error_get_row(code)->retry == ERROR_RETRY_LATER))
                        continue;
                CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "POST", "/v1/modules", "{\"url\":\"a\"}");
                world.refusal = code;
                world.refusal_after_s = i < COUNT_OF(cases) ? cases[i].after_s : 9;
                ask(api, request);
                assert_string_equal(request->answer_headers, i < COUNT_OF(cases) ? cases[i].header : "");
        }
        api_free(&api);
}

static void test_caller(void **state)
{
        (void)state;
        struct api *api = api_make();
        uint64_t holders[4];
        for (int i = 0; i < 4; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(i == 3 ? &admin : &agent, "PUT", "/v1/leases/00ff", "");
                request->connection = (uint64_t)i;
                request->peer = (struct serve_peer){ true, i == 2 ? 0 : 42, 1000, 1000 };
                const struct serve_handler *handler = api_get_handler(api);
                handler->request(handler->arg, request);
                holders[i] = world.caller.holder;
                assert_int_equal(world.caller.is_trusted, i == 3);
                assert_int_equal(world.caller.is_admin, i == 3);
                assert_true(i == 3 ? world.caller.namespace == NULL : string_equal(world.caller.namespace, "default"));
        }
        assert_true(holders[0] == holders[1]);
        assert_true(holders[0] != holders[2]);
        api_free(&api);
}

static void test_events_follow(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        for (int i = 0; i < 2; i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(i ? &admin : &agent, "GET", "/v1/events", "");
                request->query[0] = (struct pair){ "follow", "1" };
                buffer_clear(&the_stream.got);
                ask(api, request);
                assert_string_equal(request->type, "application/x-ndjson");
                assert_string_equal(world.namespace, i ? "(all)" : "default");
                world.listener->happened(world.listener->arg, &(struct module_event){ .number = 2, .type = "progress", .total = 9 });
                assert_non_null(strstr(the_stream.got.data, "\"number\":1,"));
                assert_non_null(strstr(the_stream.got.data, "\"bytes\":0,\"total\":9}\n"));
                if (i)
                        api_close(api);
                else
                        handler->stream_gone(handler->arg, &the_stream);
                assert_null(world.listener);
                assert_int_equal(the_stream.is_closed, i == 1);
        }
        CLEANUP(cleanup_free) struct serve_request *request = request_make(&agent, "GET", "/healthz", "");
        ask(api, request);
        assert_int_equal(request->status, 503);
        buffer_fini(&the_stream.got);
        api_free(&api);
}

static void test_not_ready(void **state)
{
        (void)state;
        struct api *api = api_make();
        reasons = "store: read-only\nno listener\n";
        CLEANUP(cleanup_free) struct serve_request *request = request_make(&probe, "GET", "/readyz", "");
        ask(api, request);
        assert_int_equal(request->status, 503);
        assert_string_equal(request->answer, reasons);
        assert_string_equal(request->answer_headers, "Retry-After: 1\n");
        CLEANUP(cleanup_free) struct serve_request *status = request_make(&admin, "GET", "/v1/status", "");
        ask(api, status);
        assert_non_null(strstr(status->answer, "\"ready\":false,\"reasons\":[\"store: read-only\",\"no listener\"]"));
        api_free(&api);
}

static void test_problem_of_serve(void **state)
{
        (void)state;
        struct api *api = api_make();
        const struct serve_handler *handler = api_get_handler(api);
        const struct { int status; const char *code; } statuses[] = {
                { 400, "bad_request" }, { 408, "timeout" }, { 413, "too_large" }, { 414, "too_large" }, { 429, "busy" }, { 431, "too_large" }, { 500, "internal" }, { 501, "bad_request" }, { 503, "busy" }, { 505, "bad_request" },
        };
        for (size_t i = 0; i < COUNT_OF(statuses); i++) {
                CLEANUP(cleanup_free) char *code = string_format("\"status\":%d,\"detail\":\"a \\\"b\\\"\",\"code\":\"%s\"}", statuses[i].status, statuses[i].code);
                assert_non_null(strstr(handler->problem(handler->arg, statuses[i].status, "a \"b\""), code));
        }
        api_free(&api);
}

static const struct { const char *accept; bool open; } accepts[] = {
        { NULL, false }, { "", false }, { "*/*", false }, { "text/plain", false }, { "application/openmetrics-text", true },
          { "application/openmetrics-text; version=1.0.0", true },
        { "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1", true }, { "text/plain;q=0.9, application/openmetrics-text;q=0.1", false },
        { "application/openmetrics-text;q=0", false }, { "application/openmetrics-textual", false }, { "Application/OpenMetrics-Text", true },
};

/* What lists, changes or lets go of modules waits for the whole of a large store; hits, probes and numbers do not. */
static const struct { struct api_listener *listener; const char *method, *path, *body; bool waits; int status; } loading_rows[] = {
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", false, 200 },
        { &agent, "GET", "/v1/modules", "", true, 200 },
        { &agent, "GET", "/v1/modules/" SHA, "", true, 200 },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", true, 200 },
        { &agent, "PUT", "/v1/leases/00ff", "", true, 200 },
        { &agent, "DELETE", "/v1/leases/00ff", "", true, 204 },
        { &agent, "GET", "/metrics", "", false, 200 },
        { &agent, "GET", "/healthz", "", false, 200 },
        { &agent, "GET", "/readyz", "", false, 200 },
        { &admin, "GET", "/v1/status", "", false, 200 },
        { &admin, "GET", "/v1/config", "", false, 200 },
        { &admin, "POST", "/v1/reload", "", false, 200 },
        { &admin, "DELETE", "/v1/modules/" SHA, "", true, 200 },
        { &admin, "PUT", "/v1/pins/" SHA, "", true, 200 },
        { &admin, "DELETE", "/v1/pins/" SHA, "", true, 200 },
        { &admin, "POST", "/v1/gc", "", true, 200 },
        { &admin, "POST", "/v1/verify", "", true, 200 },
        { &admin, "POST", "/v1/refresh", "", true, 200 },
        { &admin, "POST", "/v1/explain", "{\"url\":\"a\"}", true, 200 },
        { &admin, "POST", "/v1/verify-signature", "{\"url\":\"a\"}", true, 200 },
        { &agent, "PATCH", "/v1/modules", "", false, 405 },
        { &agent, "POST", "/v1/gc", "", false, 403 },
};

static void test_loading(void **state)
{
        (void)state;
        struct api *api = api_make();
        struct error err;
        api->options.modules = (void *)&world;
        refuse(&err, ERROR_BUSY, "the daemon is stopping");
        for (size_t i = 0; i < COUNT_OF(loading_rows); i++) {
                print_message("%s %s\n", loading_rows[i].method, loading_rows[i].path);
                is_loading = true;
                CLEANUP(cleanup_free) struct serve_request *request = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, request);
                assert_int_equal(request->answers, !loading_rows[i].waits);
                if (loading_rows[i].waits)
                        whole_come(NULL);
                assert_int_equal(request->answers, 1);
                assert_int_equal(request->status, loading_rows[i].status);

                /* Another one goes before it is there, and one is told that it never will be. */
                if (!loading_rows[i].waits)
                        continue;
                is_loading = true;
                CLEANUP(cleanup_free) struct serve_request *gone = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, gone);
                api_get_handler(api)->gone(api_get_handler(api)->arg, gone);
                assert_null(whole_wait);
                assert_int_equal(gone->answers, 0);
                CLEANUP(cleanup_free) struct serve_request *late = request_make(loading_rows[i].listener, loading_rows[i].method, loading_rows[i].path, loading_rows[i].body);
                ask(api, late);
                whole_come(&err);
                assert_int_equal(late->status, 503);
        }
        is_loading = true;
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        api_metrics_print(api, false, &text);
        assert_non_null(strstr(text.data, "\nwasmcached_store_loading 1\n"));
        assert_null(strstr(text.data, "wasmcached_store_modules "));
        assert_null(strstr(text.data, "wasmcached_store_size_bytes "));
        assert_non_null(strstr(text.data, "\nwasmcached_store_budget_bytes "));
        CLEANUP(cleanup_free) struct serve_request *status = request_make(&admin, "GET", "/v1/status", "");
        ask(api, status);
        assert_non_null(strstr(status->answer, "\"loading\":true"));
        assert_null(strstr(status->answer, "\"references\""));
        is_loading = false;
        buffer_clear(&text);
        api_metrics_print(api, false, &text);
        assert_non_null(strstr(text.data, "\nwasmcached_store_loading 0\n"));
        assert_non_null(strstr(text.data, "\nwasmcached_store_modules 0\n"));
        api_close(api);
        api_free(&api);
}

static void test_metrics(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(accepts); i++)
                assert_int_equal(api_metrics_wants_open(accepts[i].accept), accepts[i].open);

        CLEANUP(buffer_fini) struct buffer plain = { 0 };
        CLEANUP(buffer_fini) struct buffer open = { 0 };
        api_metrics_print(api, false, &plain);
        api_metrics_print(api, true, &open);
        assert_non_null(strstr(plain.data, "# TYPE wasmcached_hits_total counter\nwasmcached_hits_total 5\n"));
        assert_non_null(strstr(open.data, "# TYPE wasmcached_hits counter\nwasmcached_hits_total 5\n"));
        assert_non_null(strstr(open.data, "# UNIT wasmcached_store_size_bytes bytes\nwasmcached_store_size_bytes 99\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"0.001\"} 2\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"1.0\"} 2\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_bucket{stage=\"login\",le=\"+Inf\"} 3\n"));
        assert_non_null(strstr(plain.data, "wasmcached_pull_stage_seconds_sum{stage=\"login\"} 1.500000\n"));
        assert_non_null(strstr(plain.data, "wasmcached_verifications_total{format=\"cosign-bundle\",result=\"verified\",reason=\"\"} 7\n"));
        assert_non_null(strstr(plain.data, "wasmcached_verifications_total{format=\"none\",result=\"refused\",reason=\"sig_other_digest\"} 3\n"));
        assert_non_null(strstr(plain.data, "wasmcached_build_info{version=\"9.9\"} 1\n"));
        assert_true(string_ends_with(open.data, "\n# EOF\n"));
        assert_null(strstr(plain.data, "# EOF"));
        api_free(&api);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_memo), cmocka_unit_test(test_waiting), cmocka_unit_test(test_refusals), cmocka_unit_test(test_retry_after), cmocka_unit_test(test_caller),
                cmocka_unit_test(test_events_follow), cmocka_unit_test(test_not_ready), cmocka_unit_test(test_problem_of_serve), cmocka_unit_test(test_metrics),
                cmocka_unit_test(test_loading),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
