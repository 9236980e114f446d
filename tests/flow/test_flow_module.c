/* One pull end to end, single flight, deadlines, cancel, negative cache, policies, restart. */
#include <dirent.h>
#include <sqlite3.h>
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
#include "../../agent/module/modules.h"
#include "flow.h"

static struct flow flow;

static int begin(void **state)
{
        (void)state;
        flow_init(&flow);
        return 0;
}

static int end(void **state)
{
        (void)state;
        flow_fini(&flow);
        return 0;
}

static void check_ok(const struct flow_answer *answer, enum module_source source)
{
        if (!answer->is_ok)
                fail_msg("%s: %s", error_get_row(answer->err.code)->name, answer->err.text);
        assert_int_equal(answer->source, source);
}

static bool is_linked(const char *namespace, const char *sha256)
{
        char path[512];
        snprintf(path, sizeof path, "%s/store/modules/%s/%s.wasm", flow.root, namespace, sha256);
        return access(path, R_OK) == 0;
}

static void test_pull_and_hit(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = flow_get(&flow, &flow_tenant_a, "{\"url\": \"oci://localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&first, MODULE_SOURCE_PULLED);
        assert_true(is_linked("team-a", first.sha256));
        assert_true(strncmp(first.path, "/m/team-a/", 10) == 0);
        flow_forget(&flow);
        struct flow_answer second = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&second, MODULE_SOURCE_CACHE);
        assert_string_equal(first.path, second.path);
        assert_string_equal(first.lease, second.lease);
        struct flow_answer other = flow_get(&flow, &flow_tenant_b, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&other, MODULE_SOURCE_CACHE);
        assert_true(is_linked("team-b", first.sha256));
        struct flow_answer blob = flow_get(&flow, &flow_operator, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&blob, MODULE_SOURCE_CACHE);
        assert_int_equal(access(blob.path, R_OK), 0);
        assert_int_equal(flow_count(&flow, "GET", "/v2/"), 0);

        /* After a restart, with the registry gone: everything is as it was. */
        flow_close(&flow);
        free(flow_http(&flow, "POST", "/_set?down=1"));
        flow_open(&flow);
        struct flow_answer again = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&again, MODULE_SOURCE_CACHE);
        assert_string_equal(again.lease, first.lease);
}

static void count_lease(void *arg, const struct store_lease *row)
{
        (void)row;
        ++*(size_t *)arg;
}

/* Whoever waits for a new module gets link and lease with its commit: one transaction, and all is durable when the answer comes. Another namespace needs one of its own. */
static void test_first_handout(void **state)
{
        (void)state;
        size_t leases = 0;
        struct error err;
        flow_open(&flow);
        fault_arm("store.begin", 2);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&answer, MODULE_SOURCE_PULLED);
        assert_true(is_linked("team-a", answer.sha256));
        fault_arm("store.begin", 1);
        struct flow_answer other = flow_get(&flow, &flow_tenant_b, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        assert_int_equal(other.err.code, ERROR_STORE_FULL);
        fault_arm("store.begin", 0);
        assert_true(store_load_all(flow.store, &(struct store_visitor){ .arg = &leases, .lease = count_lease }, &err));
        assert_int_equal(leases, 1);

        /* Without the link there is no answer, but the module stays. */
        fault_arm("store.link", 1);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v2\"}", flow.port);
        assert_int_equal(answer.err.code, ERROR_STORE_FULL);
        fault_arm("store.link", 0);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v2\"}", flow.port);
        check_ok(&answer, MODULE_SOURCE_CACHE);
}

struct abandon { struct module_waiter *waiter; struct flow_answer answer; };

static size_t links_count(const char *namespace)
{
        char path[512];
        size_t count = 0;
        snprintf(path, sizeof path, "%s/store/modules/%s", flow.root, namespace);
        DIR *folder = opendir(path);
        for (struct dirent *entry; folder && (entry = readdir(folder));)
                count += entry->d_name[0] != '.';
        if (folder)
                closedir(folder);
        return count;
}

/* Whoever waited vanishes while it is committed: the module stays, the promise that nobody heard does not. */
static void test_abandoned_handout(void **state)
{
        (void)state;
        struct abandon abandon = { 0 };
        struct module_stats stats;
        char json[256], path[512];
        sqlite3 *other;
        flow_open(&flow);
        struct flow_answer first = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:v1\"}", flow.port);
        check_ok(&first, MODULE_SOURCE_PULLED);
        snprintf(json, sizeof json, "{\"url\":\"localhost:%d/good/raw:v2\"}", flow.port);
        /* Somebody else writes to the index: the commit has made its link and waits. */
        snprintf(path, sizeof path, "%s/store/index.sqlite", flow.root);
        assert_int_equal(sqlite3_open_v2(path, &other, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        abandon.waiter = flow_start(&flow, json, &flow_tenant_a, &abandon.answer);
        for (int patience = 0; patience < 2000 && links_count("team-a") < 2; patience++)
                flow_run_ms(&flow, 10);
        assert_int_equal(links_count("team-a"), 2);
        assert_false(abandon.answer.is_answered);
        module_waiter_cancel(&abandon.waiter);
        assert_int_equal(sqlite3_close(other), SQLITE_OK);
        for (int patience = 0; patience < 2000 && links_count("team-a") > 1; patience++)
                flow_run_ms(&flow, 10);
        module_get_stats(flow.modules, &stats);
        assert_false(abandon.answer.is_answered);
        assert_int_equal(stats.modules, 2);
        assert_int_equal(stats.leases, 1);
        assert_int_equal(links_count("team-a"), 1);
        assert_true(is_linked("team-a", first.sha256));
}

static void call_verify(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_verify(f->modules, arg, done, done_arg);
}

/* Found damaged while nobody can bring it again: it is gone until somebody does. */
static void lose(const char *sha256)
{
        char path[512];
        struct error err;
        struct module_stats stats;
        snprintf(path, sizeof path, "%s/store/blobs/%.2s/%s", flow.root, sha256, sha256);
        assert_int_equal(truncate(path, 5), 0);
        free(flow_http(&flow, "POST", "/_set?down=1"));
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_verify, NULL, &err);
        assert_non_null(strstr(json, sha256));
        flow_run_ms(&flow, 300);
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.modules, 0);
        assert_false(is_linked("team-a", sha256));
        free(flow_http(&flow, "POST", "/_set?down=0"));
}

static struct flow_answer ask_kept(const struct module_caller *caller)
{
        struct flow_answer answer = flow_get(&flow, caller, "{\"url\":\"localhost:%d/dyn/kept:v1\"}", flow.port);
        if (!answer.is_ok)
                fail_msg("%s: %s", error_get_row(answer.err.code)->name, answer.err.text);
        flow_run_ms(&flow, 300);
        return answer;
}

/* A path that was told is valid again as soon as its bytes are, whoever brings them; a lease that ran out meanwhile is over. */
static void test_promises(void **state)
{
        (void)state;
        int64_t expires_s;
        struct error err;
        flow_open(&flow);
        struct module_caller second = flow_tenant_a;
        second.holder = 12;
        struct flow_answer answer = ask_kept(&flow_tenant_a), also = ask_kept(&second), other = ask_kept(&flow_tenant_b);
        lose(answer.sha256);
        promises_sweep(flow.modules, clock_get_ms());
        ask_kept(&flow_operator);
        for (int i = 0; i < 2; i++) {
                assert_true(is_linked("team-a", answer.sha256) && is_linked("team-b", answer.sha256));
                flow_close(&flow);
                flow_open(&flow);
        }
        assert_true(module_lease_renew(flow.modules, &flow_tenant_a, answer.lease, &expires_s, &err));
        assert_true(module_lease_renew(flow.modules, &flow_tenant_a, also.lease, &expires_s, &err));
        assert_true(module_lease_renew(flow.modules, &flow_tenant_b, other.lease, &expires_s, &err));
        lose(answer.sha256);
        promises_sweep(flow.modules, clock_get_ms() + 2 * flow.options.lease_ms);
        ask_kept(&flow_tenant_b);
        assert_false(is_linked("team-a", answer.sha256));
        assert_false(module_lease_renew(flow.modules, &flow_tenant_a, answer.lease, &expires_s, &err));
}

static void test_single_flight(void **state)
{
        (void)state;
        enum { WAITERS = 1000 };
        static struct flow_answer answers[WAITERS];
        flow_open(&flow);
        char json[256];
        for (size_t i = 0; i < WAITERS; i++) {
                struct module_caller caller = i % 2 ? flow_tenant_a : flow_tenant_b;
                caller.holder = 100 + i;
                snprintf(json, sizeof json, "{\"url\": \"localhost:%d/dyn/many:%s\"}", flow.port, "v1");
                flow_start(&flow, json, &caller, &answers[i]);
        }
        flow_wait(&flow, answers, WAITERS);
        for (size_t i = 0; i < WAITERS; i++)
                check_ok(&answers[i], MODULE_SOURCE_PULLED);
        assert_int_equal(flow_count(&flow, "GET", "/manifests/"), 1);
        assert_int_equal(flow_count(&flow, "GET", "/blobs/"), 1);
}

/* Who demands more of the same name at the same moment is refused alone: its flight is another one. */
static void test_flights_apart(void **state)
{
        (void)state;
        static const struct { const char *fields; enum error_code code; } rows[] = {
                { ",\"sha256\":\"0000000000000000000000000000000000000000000000000000000000000000\"", ERROR_CHECKSUM_MISMATCH },
                { ",\"verificationKey\":\"-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\\n"
                  "6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\\n-----END PUBLIC KEY-----\\n\"", ERROR_SIGNATURE_MISSING },
                { "", ERROR_NONE },
        };
        flow_open(&flow);
        struct flow_answer answers[2 * COUNT_OF(rows)];
        for (size_t i = 0; i < COUNT_OF(answers); i++) {
                CLEANUP(cleanup_free) char *json = string_format("{\"url\":\"localhost:%d/dyn/apart:v1\"%s}", flow.port, rows[i % COUNT_OF(rows)].fields);
                flow_start(&flow, json, &flow_tenant_a, &answers[i]);
        }
        flow_wait(&flow, answers, COUNT_OF(answers));
        for (size_t i = 0; i < COUNT_OF(answers); i++)
                assert_int_equal(answers[i].is_ok ? ERROR_NONE : answers[i].err.code, rows[i % COUNT_OF(rows)].code);
}

/* A host that answers nobody takes its own slots only, and all hosts together no more than there are. */
static void test_slots(void **state)
{
        (void)state;
        static const char *const stalled[] = { "stalled-after-head", "stalled-mid-body", "stalled-before-head", "stalled-manifest" };
        static const char *const hosts[] = { "localhost", "127.0.0.1" };
        struct module_waiter *waiters[COUNT_OF(hosts)][COUNT_OF(stalled)];
        struct flow_answer answers[COUNT_OF(hosts)][COUNT_OF(stalled)];
        flow.options.slots = 3;
        flow.options.slots_per_host = 2;
        flow.fetch_options.progress_timeout_ms = 15000;
        flow_open(&flow);
        for (size_t h = 0; h < COUNT_OF(hosts); h++) {
                for (size_t i = 0; i < COUNT_OF(stalled); i++) {
                        CLEANUP(cleanup_free) char *json = string_format("{\"url\":\"%s:%d/mode/%s:v1\"}", hosts[h], flow.port, stalled[i]);
                        waiters[h][i] = flow_start(&flow, json, &flow_tenant_a, &answers[h][i]);
                }
                for (unsigned tries = 0; flow_count(&flow, "GET", "/manifests/") < 2 + h && tries < 100; tries++)
                        flow_run_ms(&flow, 50);
                flow_run_ms(&flow, 500);
                assert_int_equal(flow_count(&flow, "GET", "/manifests/"), 2 + h);
        }
        for (size_t h = 0; h < COUNT_OF(hosts); h++)
                for (size_t i = 0; i < COUNT_OF(stalled); i++)
                        module_waiter_cancel(&waiters[h][i]);
}

static void test_not_found_is_remembered(void **state)
{
        (void)state;
        flow.options.negative_ms = 10000;
        flow_open(&flow);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\": \"localhost:%d/good/raw:none\"}", flow.port);
        assert_int_equal(answer.err.code, ERROR_NOT_FOUND);
        flow_forget(&flow);
        answer = flow_get(&flow, &flow_tenant_b, "{\"url\": \"localhost:%d/good/raw:none\"}", flow.port);
        assert_int_equal(answer.err.code, ERROR_NOT_FOUND);
        assert_true(answer.err.retry_after_s >= 9 && answer.err.retry_after_s <= 10);
        assert_int_equal(flow_count(&flow, "GET", "/v2/"), 0);
}

/* policy of the request, moves the tag before the second ask? → what the second answer comes from, whether it is the new module, requests it may cost */
static const struct { const char *fields; const char *tag; bool moves; enum module_source source; bool is_new; size_t heads, manifests; } policies[] = {
        { "",                                                                                   "v1",     true,  MODULE_SOURCE_CACHE,       false, 0, 0 },
        { ",\"imagePullPolicy\":\"IfNotPresent\"",                                              "latest", true,  MODULE_SOURCE_CACHE,       false, 0, 0 },
        { "",                                                                                   "latest", false, MODULE_SOURCE_REVALIDATED, false, 1, 0 },
        { "",                                                                                   "latest", true,  MODULE_SOURCE_PULLED,      true,  1, 1 },
        { ",\"imagePullPolicy\":\"Always\"",                                                    "v1",     false, MODULE_SOURCE_REVALIDATED, false, 1, 0 },
        { ",\"imagePullPolicy\":\"Always\"",                                                    "v1",     true,  MODULE_SOURCE_PULLED,      true,  1, 1 },
        { ",\"imagePullPolicy\":\"Always\",\"resource\":{\"name\":\"p\",\"version\":\"1\"}",   "v1",     true,  MODULE_SOURCE_CACHE,       false, 0, 0 },
};

static void test_policies(void **state)
{
        (void)state;
        flow_open(&flow);
        for (size_t i = 0; i < COUNT_OF(policies); i++) {
                char repo[64], path[160];
                print_message("%s %s %d\n", policies[i].tag, policies[i].fields, policies[i].moves);
                snprintf(repo, sizeof repo, "dyn/policy%zu", i);
                snprintf(path, sizeof path, "/_set?repo=%s&tag=%s", repo, policies[i].tag);
                free(flow_http(&flow, "POST", path));
                struct flow_answer first = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/%s:%s\"%s}", flow.port, repo, policies[i].tag, policies[i].fields);
                check_ok(&first, MODULE_SOURCE_PULLED);
                if (policies[i].moves)
                        free(flow_http(&flow, "POST", path));
                flow_forget(&flow);
                struct flow_answer second = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/%s:%s\"%s}", flow.port, repo, policies[i].tag, policies[i].fields);
                check_ok(&second, policies[i].source);
                assert_int_equal(strcmp(first.sha256, second.sha256) != 0, policies[i].is_new);
                assert_int_equal(flow_count(&flow, "HEAD", "/manifests/"), policies[i].heads);
                assert_int_equal(flow_count(&flow, "GET", "/manifests/"), policies[i].manifests);
        }
        /* A new version of the resource asks again. */
        struct flow_answer newer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/dyn/policy6:v1\",\"imagePullPolicy\":\"Always\",\"resource\":{\"name\":\"p\",\"version\":\"2\"}}", flow.port);
        check_ok(&newer, MODULE_SOURCE_PULLED);
}

static void test_registry_down(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/dyn/down:v1\"}", flow.port);
        check_ok(&answer, MODULE_SOURCE_PULLED);
        free(flow_http(&flow, "POST", "/_set?down=1"));
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/dyn/down:v1\"}", flow.port);
        check_ok(&answer, MODULE_SOURCE_CACHE);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/dyn/down:v1\",\"imagePullPolicy\":\"Always\"}", flow.port);
        assert_false(answer.is_ok);
        assert_true(answer.err.code == ERROR_UPSTREAM_UNREACHABLE || answer.err.code == ERROR_UPSTREAM_ERROR);
        flow_close(&flow);
        flow.options.stale_if_error_ms = 3600000;
        flow_open(&flow);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"localhost:%d/dyn/down:v1\",\"imagePullPolicy\":\"Always\"}", flow.port);
        check_ok(&answer, MODULE_SOURCE_CACHE);
        assert_true(answer.is_stale);
}

static void test_deadlines_and_cancel(void **state)
{
        (void)state;
        struct flow_answer answers[3];
        char json[256];
        flow.fetch_options.progress_timeout_ms = 15000;
        flow_open(&flow);
        snprintf(json, sizeof json, "{\"url\":\"localhost:%d/mode/stalled-mid-body:v1\",\"timeout\":\"200ms\"}", flow.port);
        flow_start(&flow, json, &flow_tenant_a, &answers[0]);
        flow_wait(&flow, answers, 1);
        assert_int_equal(answers[0].err.code, ERROR_TIMEOUT);
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.flights, 1);       /* the pull goes on */

        snprintf(json, sizeof json, "{\"url\":\"localhost:%d/mode/stalled-after-head:v1\"}", flow.port);
        struct module_waiter *waiter = flow_start(&flow, json, &flow_tenant_a, &answers[1]);
        flow_run_ms(&flow, 300);
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.flights, 2);
        module_waiter_cancel(&waiter);
        flow_run_ms(&flow, 700);
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.flights, 1);       /* nobody waits any more: cancelled */
        assert_false(answers[1].is_answered);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_pull_and_hit, begin, end),
                cmocka_unit_test_setup_teardown(test_first_handout, begin, end),
                cmocka_unit_test_setup_teardown(test_abandoned_handout, begin, end),
                cmocka_unit_test_setup_teardown(test_promises, begin, end),
                cmocka_unit_test_setup_teardown(test_single_flight, begin, end),
                cmocka_unit_test_setup_teardown(test_flights_apart, begin, end),
                cmocka_unit_test_setup_teardown(test_slots, begin, end),
                cmocka_unit_test_setup_teardown(test_not_found_is_remembered, begin, end),
                cmocka_unit_test_setup_teardown(test_policies, begin, end),
                cmocka_unit_test_setup_teardown(test_registry_down, begin, end),
                cmocka_unit_test_setup_teardown(test_deadlines_and_cancel, begin, end),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
