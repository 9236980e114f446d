/* A host that is away is left alone, whatever is asked of it; others, hits and refresh are not. */
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
enum { BEFORE = 5 };

static int begin(void **state)
{
        (void)state;
        flow_init(&flow);
        flow.options.negative_ms = 1000;
        return 0;
}

static int end(void **state)
{
        (void)state;
        flow_fini(&flow);
        return 0;
}

static struct flow_answer ask(const char *host, const char *name)
{
        return flow_get(&flow, &flow_tenant_a, "{\"url\":\"%s:%d/dyn/%s:v1\"}", host, flow.port, name);
}

static unsigned long long requests(void)
{
        struct fetch_stats stats;
        fetch_get_stats(&stats);
        return stats.requests;
}

/* Different repositories, so that no refusal of one name is what is seen. */
static void fail_times(const char *prefix, int count)
{
        char name[64];
        for (int i = 0; i < count; i++) {
                snprintf(name, sizeof name, "%s-%d", prefix, i);
                struct flow_answer answer = ask("127.0.0.1", name);
                assert_int_equal(answer.err.code, ERROR_UPSTREAM_UNREACHABLE);
                assert_null(strstr(answer.err.text, "in a row"));
        }
}

static void check_left_alone(const char *name, unsigned seconds)
{
        unsigned long long before = requests();
        struct flow_answer answer = ask("127.0.0.1", name);
        assert_int_equal(answer.err.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_non_null(strstr(answer.err.text, "in a row"));
        assert_non_null(strstr(answer.err.text, name));
        assert_in_range(answer.err.retry_after_s, seconds, 30);
        assert_true(requests() == before);
}

static void set_down(bool is_down)
{
        free(flow_http(&flow, "POST", is_down ? "/_set?down=1" : "/_set?down=0"));
}

static void test_left_alone(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer here = ask("127.0.0.1", "here");
        assert_true(here.is_ok);
        set_down(true);
        fail_times("a", BEFORE);
        check_left_alone("b", 1);
        here = ask("127.0.0.1", "here");
        assert_true(here.is_ok);                           /* a hit needs nobody */
        struct flow_answer other = ask("localhost", "c");
        assert_int_equal(other.err.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_null(strstr(other.err.text, "in a row"));   /* another host by name: asked */

        flow_run_ms(&flow, 1100);
        struct flow_answer again = ask("127.0.0.1", "d");
        assert_null(strstr(again.err.text, "in a row"));   /* asked again, and still away: longer now */
        check_left_alone("e", 2);
        set_down(false);
        flow_run_ms(&flow, 2100);
        again = ask("127.0.0.1", "f");
        assert_true(again.is_ok);
        set_down(true);
        fail_times("g", BEFORE - 1);                       /* an answer starts anew */
}

static void test_other_failures_do_not_count(void **state)
{
        (void)state;
        flow_open(&flow);
        for (int i = 0; i < 3 * BEFORE; i++) {
                struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/good/raw:none-%d\"}", flow.port, i);
                assert_int_equal(answer.err.code, ERROR_NOT_FOUND);
        }
        set_down(true);
        fail_times("a", BEFORE - 1);
        set_down(false);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/good/raw:none\"}", flow.port);
        assert_int_equal(answer.err.code, ERROR_NOT_FOUND);
        set_down(true);
        fail_times("b", BEFORE - 1);
}

static void call_refresh(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_refresh(f->modules, arg, done, done_arg);
}

static void test_refresh(void **state)
{
        (void)state;
        struct error err = { 0 };
        flow_open(&flow);
        set_down(true);
        fail_times("a", BEFORE);
        check_left_alone("b", 1);
        set_down(false);
        free(flow_operate(&flow, call_refresh, NULL, &err));
        struct flow_answer answer = ask("127.0.0.1", "b");
        assert_true(answer.is_ok);
}

static void test_switched_off(void **state)
{
        (void)state;
        flow.options.negative_ms = 0;
        flow_open(&flow);
        set_down(true);
        fail_times("a", 3 * BEFORE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_left_alone, begin, end), cmocka_unit_test_setup_teardown(test_other_failures_do_not_count, begin, end),
                cmocka_unit_test_setup_teardown(test_refresh, begin, end), cmocka_unit_test_setup_teardown(test_switched_off, begin, end),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
