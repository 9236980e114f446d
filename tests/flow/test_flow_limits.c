/* A host that says that there are too many requests: all pulls wait for it together, and none is refused for what another one was told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "flow.h"

static struct flow flow;
enum { PULLS = 6, PATIENCE_MS = 120000 };

static int begin(void **state)
{
        (void)state;
        flow_init(&flow);
        flow.fetch_options.retries = 3;
        flow.fetch_options.progress_timeout_ms = 10000;
        flow.options.pull_timeout_ms = PATIENCE_MS;
        flow.options.negative_ms = 1000;
        return 0;
}

static int end(void **state)
{
        (void)state;
        flow_fini(&flow);
        return 0;
}

static void set_rate(const char *query)
{
        CLEANUP(cleanup_free) char *path = string_format("/_set?rate=%s", query);
        free(flow_http(&flow, "POST", path));
}

static void ask_all(const char *prefix, struct flow_answer answers[PULLS])
{
        char json[256];
        memset(answers, 0, PULLS * sizeof *answers);
        for (int i = 0; i < PULLS; i++) {
                snprintf(json, sizeof json, "{\"url\":\"127.0.0.1:%d/dyn/%s-%d:v1\",\"timeout\":\"2m\"}", flow.port, prefix, i);
                flow_start(&flow, json, &flow_tenant_a, &answers[i]);
        }
        for (int64_t until_ms = clock_get_ms() + PATIENCE_MS; clock_get_ms() < until_ms;) {
                int answered = 0;
                for (int i = 0; i < PULLS; i++)
                        answered += answers[i].is_answered;
                if (answered == PULLS)
                        return;
                flow_run_ms(&flow, 50);
        }
        fail_msg("not all were answered");
}

/* What the server allows in a second, and what it says to the others. */
static void test_all_arrive(void **state)
{
        (void)state;
        static const char *const rates[] = { "2&after=1", "3&code=503" };
        flow_open(&flow);
        for (size_t k = 0; k < COUNT_OF(rates); k++) {
                struct flow_answer answers[PULLS];
                char prefix[16];
                snprintf(prefix, sizeof prefix, "r%zu", k);
                set_rate(rates[k]);
                flow_forget(&flow);
                ask_all(prefix, answers);
                for (int i = 0; i < PULLS; i++)
                        if (!answers[i].is_ok)
                                fail_msg("%s: %d: %s", rates[k], i, answers[i].err.text);
                size_t asked = flow_count(&flow, "GET", prefix);
                print_message("%s: %zu requests for %d\n", rates[k], asked, 2 * PULLS);
                assert_in_range(asked, 2 * PULLS + (k == 0), 4 * PULLS);    /* some were refused; not each of them several times */
                set_rate("-1");
                flow_run_ms(&flow, 1100);
        }
}

/* Each has its own tries, and then the answer of the registry; other origins never notice. */
static void test_never_recovers(void **state)
{
        (void)state;
        struct flow_answer answers[PULLS];
        flow.fetch_options.retries = 1;
        flow_open(&flow);
        set_rate("0&after=1");
        flow_forget(&flow);
        ask_all("never", answers);
        for (int i = 0; i < PULLS; i++) {
                assert_int_equal(answers[i].err.code, ERROR_RATE_LIMITED);
                assert_non_null(strstr(answers[i].err.text, "429 too many requests"));
                assert_true(answers[i].err.retry_after_s >= 1);
        }
        assert_int_equal(flow_count(&flow, "GET", "never"), 2 * PULLS);
}

/* One is told to wait longer than the others have time. */
static void test_deadline(void **state)
{
        (void)state;
        struct flow_answer first = { 0 }, other, elsewhere;
        char json[128];
        flow.options.pull_timeout_ms = 8000;
        flow_open(&flow);
        set_rate("0&after=30");
        flow_forget(&flow);
        first = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/first:v1\"}", flow.port);
        assert_int_equal(first.err.code, ERROR_RATE_LIMITED);
        assert_int_equal(first.err.retry_after_s, 30);
        other = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/other:v1\"}", flow.port);
        assert_int_equal(other.err.code, ERROR_RATE_LIMITED);
        snprintf(json, sizeof json, "http://127.0.0.1:%d answered 429 (too many requests) to another request and is left in peace for", flow.port);
        assert_non_null(strstr(other.err.text, json));
        assert_in_range(other.err.retry_after_s, 20, 30);
        assert_int_equal(flow_count(&flow, "GET", "first"), 1);
        assert_int_equal(flow_count(&flow, "GET", "other"), 0);
        elsewhere = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/elsewhere:v1\"}", flow.other);
        assert_true(elsewhere.is_ok);
}

/* The caller's own time is shorter than what the host asks for: it is told why, and when to come again. */
static void test_timeout_of_the_caller(void **state)
{
        (void)state;
        flow_open(&flow);
        set_rate("0&after=30");
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/patient:v1\",\"timeout\":\"2s\"}", flow.port);
        assert_int_equal(answer.err.code, ERROR_TIMEOUT);
        assert_non_null(strstr(answer.err.text, "answered 429: requests to it wait "));
        assert_in_range(answer.err.retry_after_s, 15, 30);
}

static void call_explain(struct flow *f, void *arg, module_done done, void *done_arg)
{
        struct module_want *want = flow_want(arg);
        module_explain(f->modules, want, &flow_tenant_a, done, done_arg);
        module_want_unref(&want);
}

static void test_explain(void **state)
{
        (void)state;
        struct error err = { 0 };
        char json[128];
        flow.options.pull_timeout_ms = 8000;
        flow_open(&flow);
        snprintf(json, sizeof json, "{\"url\":\"127.0.0.1:%d/dyn/second:v1\"}", flow.port);
        CLEANUP(cleanup_free) char *before = flow_operate(&flow, call_explain, json, &err);
        assert_null(strstr(before, "\"limits\""));
        set_rate("0&after=40");
        flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/first:v1\"}", flow.port);
        CLEANUP(cleanup_free) char *after = flow_operate(&flow, call_explain, json, &err);
        assert_non_null(strstr(after, "\"limits\""));
        assert_non_null(strstr(after, "answered 429: requests to it wait "));
        assert_non_null(strstr(after, "\"verdict\": \"miss\""));
}

/* ---- mirrors: the main port is the mirror that limits, the other port the origin */

static char mirror_url[64], origin_host[32];

static void open_with_mirror(void)
{
        static const char *urls[] = { mirror_url, NULL };
        static struct modules_mirrors mirrors = { origin_host, urls };
        snprintf(mirror_url, sizeof mirror_url, "http://127.0.0.1:%d", flow.port);
        snprintf(origin_host, sizeof origin_host, "127.0.0.1:%d", flow.other);
        flow.options.mirrors = &mirrors;
        flow.options.mirror_count = 1;
        flow_open(&flow);
}

static size_t count_at(const char *path, int port)
{
        CLEANUP(cleanup_free) char *log = flow_http(&flow, "GET", "/_log"), *piece = string_format("\"port\": %d", port);
        size_t count = 0;
        for (const char *at = log; (at = strstr(at, path)); at++) {
                const char *its = strstr(at, "\"port\": ");
                count += its && string_starts_with(its, piece) && !(its[strlen(piece)] >= '0' && its[strlen(piece)] <= '9');
        }
        return count;
}

static void test_next_place(void **state)
{
        (void)state;
        open_with_mirror();
        set_rate("0&after=30");
        flow_forget(&flow);
        for (int i = 0; i < 2; i++) {
                struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"%s/dyn/next-%d:v1\"}", origin_host, i);
                if (!answer.is_ok)
                        fail_msg("%s", answer.err.text);
        }
        assert_int_equal(count_at("dyn/next", flow.port), 1);                  /* asked once, and not again while it is closed */
        assert_int_equal(count_at("dyn/next", flow.other), 4);
}

/* No other place has it: then the one that limits is waited for. */
static void test_only_place(void **state)
{
        (void)state;
        open_with_mirror();
        free(flow_http(&flow, "GET", "/_repo?repo=dyn/only"));
        set_rate("1&after=1");
        free(flow_http(&flow, "GET", "/v2/"));                 /* the one of this second */
        snprintf(origin_host, sizeof origin_host, "127.0.0.1:1");
        flow_close(&flow);
        flow_open(&flow);
        flow_forget(&flow);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"%s/dyn/only:v1\",\"timeout\":\"1m\"}", origin_host);
        if (!answer.is_ok)
                fail_msg("%s", answer.err.text);
        assert_true(count_at("dyn/only", flow.port) >= 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_all_arrive, begin, end), cmocka_unit_test_setup_teardown(test_never_recovers, begin, end),
                cmocka_unit_test_setup_teardown(test_deadline, begin, end), cmocka_unit_test_setup_teardown(test_explain, begin, end),
                cmocka_unit_test_setup_teardown(test_timeout_of_the_caller, begin, end), cmocka_unit_test_setup_teardown(test_next_place, begin, end),
                cmocka_unit_test_setup_teardown(test_only_place, begin, end),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
