/* A large store after a start: hits while it is read in the background, everything else when all of it is there. The faults make a small store large, and hold the reading. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "flow.h"

static struct flow flow;

static int setup(void **state)
{
        (void)state;
        flow_init(&flow);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        fault_arm("module.load", 0);
        fault_arm("store.large", 0);
        flow_fini(&flow);
        return 0;
}

static struct flow_answer get(const struct module_caller *caller, const char *repository, const char *more)
{
        return flow_get(&flow, caller, "{\"url\": \"oci://127.0.0.1:%d/%s:v1\"%s}", flow.port, repository, more);
}

static struct module_waiter *start(const struct module_caller *caller, const char *repository, const char *more, struct flow_answer *answer)
{
        CLEANUP(cleanup_free) char *json = string_format("{\"url\": \"oci://127.0.0.1:%d/%s:v1\"%s}", flow.port, repository, more);
        *answer = (struct flow_answer){ 0 };
        return flow_start(&flow, json, caller, answer);
}

static bool is_there(const char *namespace, const struct flow_answer *answer)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/store/modules/%s/%s.wasm", flow.root, namespace, answer->sha256);
        return access(path, R_OK) == 0;
}

/* Requests of all methods that the registry has seen. */
static size_t asked(const char *part)
{
        return flow_count(&flow, "GET", part) + flow_count(&flow, "HEAD", part);
}

static void check(const struct flow_answer *answer, enum module_source source)
{
        if (!answer->is_ok)
                fail_msg("%s: %s", error_get_row(answer->err.code)->name, answer->err.text);
        assert_int_equal(answer->source, source);
}

/* Closed in order, or as a crash leaves it; then opened with the rest of the store held back. */
static void restart(bool is_crash)
{
        if (flow.modules) {
                CLEANUP(cleanup_free) char *copy = string_format("rm -rf '%s/copy'; cp -a '%s/store' '%s/copy'", flow.root, flow.root, flow.root);
                CLEANUP(cleanup_free) char *back = string_format("rm -rf '%s/store'; mv '%s/copy' '%s/store'", flow.root, flow.root, flow.root);
                if (is_crash)
                        assert_int_equal(system(copy), 0);
                flow_close(&flow);
                if (is_crash)
                        assert_int_equal(system(back), 0);
        }
        fault_arm("store.large", 1);
        fault_arm("module.load", 1);
        flow_forget(&flow);
        flow_open(&flow);
        assert_false(module_is_whole(flow.modules));
}

static void let_go(void)
{
        fault_arm("module.load", 0);
        for (int i = 0; i < 2000 && !module_is_whole(flow.modules); i++)
                flow_run_ms(&flow, 10);
        assert_true(module_is_whole(flow.modules));
}

/* Known by its name, by the digest of its manifest, by a resource: given at once, and nobody is asked. */
static void test_hits(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), other = get(&flow_tenant_a, "mode/good-tar", "");
        check(&first, MODULE_SOURCE_PULLED);
        check(&other, MODULE_SOURCE_PULLED);
        struct flow_answer resource = get(&flow_tenant_a, "mode/good-zstd", ", \"imagePullPolicy\": \"Always\", \"resource\": {\"name\": \"a\", \"version\": \"7\"}");
        check(&resource, MODULE_SOURCE_PULLED);
        for (int is_crash = 0; is_crash < 2; is_crash++) {
                restart(is_crash);
                struct flow_answer again = get(&flow_tenant_a, "good/raw", "");
                check(&again, MODULE_SOURCE_CACHE);
                assert_string_equal(again.sha256, first.sha256);
                assert_string_equal(again.lease, first.lease);    /* the same process: its lease is among the rows that were read */
                again = flow_get(&flow, &flow_tenant_b, "{\"url\": \"oci://127.0.0.1:%d/mode/good-tar@%s\"}", flow.port, other.digest);
                check(&again, MODULE_SOURCE_CACHE);
                again = get(&flow_tenant_a, "mode/good-zstd", ", \"imagePullPolicy\": \"Always\", \"resource\": {\"name\": \"a\", \"version\": \"7\"}");
                check(&again, MODULE_SOURCE_CACHE);
                assert_int_equal(asked("/v2/"), 0);
                assert_false(module_is_whole(flow.modules));

                struct module_stats stats;
                module_get_stats(flow.modules, &stats);
                assert_true(stats.is_loading);
                let_go();
                module_get_stats(flow.modules, &stats);
                assert_false(stats.is_loading);
                assert_int_equal(stats.modules, 3);
                assert_int_equal(stats.references, 3);
                int64_t expires_s;
                struct error err;
                assert_true(module_lease_renew(flow.modules, &flow_tenant_a, first.lease, &expires_s, &err));
                again = get(&flow_tenant_a, "good/raw", "");
                check(&again, MODULE_SOURCE_CACHE);
                assert_int_equal(asked("/v2/"), 0);
        }
}

/* What is no hit waits for the whole, then goes its usual way: an unknown name, another version of a resource. The one that was there is not downloaded again under another name. */
static void test_misses(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), answers[4];
        check(&first, MODULE_SOURCE_PULLED);
        restart(false);
        start(&flow_tenant_a, "mode/good-tar", "", &answers[0]);
        start(&flow_tenant_a, "good/raw", ", \"imagePullPolicy\": \"Always\"", &answers[1]);
        start(&flow_tenant_b, "mode/good-tar", ", \"timeout\": \"100ms\"", &answers[2]);
        struct module_waiter *gone = start(&flow_tenant_b, "mode/good-zstd", "", &answers[3]);
        flow_wait(&flow, &answers[2], 1);
        assert_int_equal(answers[2].err.code, ERROR_TIMEOUT);
        module_waiter_cancel(&gone);
        assert_false(answers[0].is_answered || answers[1].is_answered || answers[3].is_answered);
        assert_int_equal(asked("/v2/"), 0);
        let_go();
        flow_wait(&flow, answers, 2);
        check(&answers[0], MODULE_SOURCE_PULLED);
        check(&answers[1], MODULE_SOURCE_REVALIDATED);
        assert_int_equal(flow_count(&flow, "GET", "good/raw/blobs"), 0);
        assert_true(asked("mode/good-tar/blobs") > 0);
        assert_int_equal(asked("mode/good-zstd"), 0);
}

/* A private image: what was granted to one tenant before the restart is his at once; another one is not let in by what is not read yet. */
static void test_grants(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *config = string_format("{\"auths\": {\"127.0.0.1:%d\": {\"username\": \"pull\", \"password\": \"secret\"}}}", flow.port);
        flow_secret(&flow, "team-a", "pull", config);
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "basic/raw", ", \"imagePullSecret\": \"pull\""), answers[2];
        check(&first, MODULE_SOURCE_PULLED);
        restart(false);
        struct flow_answer again = get(&flow_tenant_a, "basic/raw", ", \"imagePullSecret\": \"pull\"");
        check(&again, MODULE_SOURCE_CACHE);
        again = get(&flow_tenant_b, "basic/raw", ", \"imagePullSecret\": \"pull\"");
        assert_int_equal(again.err.code, ERROR_SECRET_MISSING);
        start(&flow_tenant_b, "basic/raw", "", &answers[0]);
        flow_run_ms(&flow, 100);
        assert_false(answers[0].is_answered);
        assert_int_equal(asked("/v2/"), 0);
        let_go();
        flow_wait(&flow, answers, 1);
        assert_false(answers[0].is_ok);
        assert_int_equal(answers[0].err.code, ERROR_UNAUTHORIZED);
        assert_true(is_there("team-a", &first));
}

static void damage(const char *sha256)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/store/blobs/%.2s/%s", flow.root, sha256, sha256);
        assert_int_equal(chmod(path, 0644), 0);
        CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "X", 1, 20), 1);
}

/* Nothing that was not proved is handed out meanwhile, and what went does not come back with the whole. */
static void test_damage(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), other = get(&flow_tenant_a, "mode/good-tar", ""), answer;
        check(&first, MODULE_SOURCE_PULLED);
        check(&other, MODULE_SOURCE_PULLED);
        for (int is_crash = 0; is_crash < 2; is_crash++) {
                restart(is_crash);
                damage(first.sha256);
                start(&flow_tenant_a, "good/raw", "", &answer);
                flow_run_ms(&flow, 100);
                assert_false(answer.is_answered);         /* in quarantine: to be pulled again, which waits */
                assert_false(is_there("team-a", &first));
                struct flow_answer good = get(&flow_tenant_a, "mode/good-tar", "");
                check(&good, MODULE_SOURCE_CACHE);
                let_go();
                flow_wait(&flow, &answer, 1);
                check(&answer, MODULE_SOURCE_PULLED);
        }
        /* Found by the look at every blob, after a crash: not by anybody's request. */
        restart(true);
        damage(other.sha256);
        let_go();
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.modules, 1);
        answer = get(&flow_tenant_a, "mode/good-tar", "");
        check(&answer, MODULE_SOURCE_PULLED);
}

/* A stop, orderly or not, in the middle: waiters are told, and the next start is as this one was. */
static void test_stop(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), answer;
        check(&first, MODULE_SOURCE_PULLED);
        for (int is_crash = 0; is_crash < 2; is_crash++) {
                restart(is_crash);
                start(&flow_tenant_a, "mode/good-tar", "", &answer);
                flow_run_ms(&flow, 30);
                flow_close(&flow);
                assert_int_equal(answer.err.code, ERROR_BUSY);
                restart(false);
                struct flow_answer again = get(&flow_tenant_a, "good/raw", "");
                check(&again, MODULE_SOURCE_CACHE);
                assert_int_equal(asked("/v2/"), 0);
                let_go();
        }
        /* Blobs that were not looked at before a stop are looked at after it: that end was no clean one. */
        restart(true);
        damage(first.sha256);
        flow_close(&flow);
        restart(false);
        let_go();
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.modules, 0);
}

/* A reload meanwhile, and a budget that is too small by now: nothing is let go before it is known what is in use. */
static void test_reload_and_budget(void **state)
{
        (void)state;
        struct error err;
        struct fetch_client *fetch = NULL;
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), other = get(&flow_tenant_b, "mode/good-tar", "");
        check(&first, MODULE_SOURCE_PULLED);
        check(&other, MODULE_SOURCE_PULLED);
        restart(false);
        flow.options.max_size_bytes = 1;
        assert_true(fetch_client_new(&flow.fetch_options, &fetch, &err));
        assert_true(modules_reload(flow.modules, fetch, registry_new(fetch, &(struct registry_options){ 0 }), &flow.options, &err));
        fetch_client_unref(&fetch);
        struct flow_answer again = get(&flow_tenant_a, "good/raw", "");
        check(&again, MODULE_SOURCE_CACHE);
        let_go();
        flow_run_ms(&flow, 100);
        assert_true(is_there("team-a", &first));          /* both are leased */
        assert_true(is_there("team-b", &other));
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.modules, 2);
}

struct told { int count; bool is_good; };
static void told(void *arg, const struct store_report *report, const struct error *err)
{
        struct told *told = arg;
        told->count++;
        told->is_good = report && !err;
}

/* An index that turns out to be damaged while it is read: said so, nobody is answered from half of it, and the next start makes it anew from the blobs. */
static void test_index_damaged(void **state)
{
        (void)state;
        struct told whole = { 0 }, cancelled = { 0 };
        flow_open(&flow);
        struct flow_answer first = get(&flow_tenant_a, "good/raw", ""), answer, late;
        check(&first, MODULE_SOURCE_PULLED);
        restart(false);
        module_when_whole(flow.modules, told, &whole);
        struct module_whole_wait *wait = module_when_whole(flow.modules, told, &cancelled);
        module_whole_cancel(&wait);
        start(&flow_tenant_a, "mode/good-tar", "", &answer);
        flow_run_ms(&flow, 50);
        CLEANUP(cleanup_free) char *hurt = string_format("cd '%s/store' && rm -f index.sqlite-wal index.sqlite-shm && dd if=/dev/urandom of=index.sqlite bs=4096 seek=1"
                                                         " count=40 conv=notrunc status=none", flow.root);
        assert_int_equal(system(hurt), 0);
        fault_arm("module.load", 0);
        flow_wait(&flow, &answer, 1);
        assert_int_equal(answer.err.code, ERROR_INTERNAL);
        assert_int_equal(whole.count, 1);
        assert_false(whole.is_good);
        assert_int_equal(cancelled.count, 0);
        start(&flow_tenant_a, "mode/good-tar", "", &late);
        flow_wait(&flow, &late, 1);
        assert_int_equal(late.err.code, ERROR_INTERNAL);
        module_when_whole(flow.modules, told, &whole);
        assert_int_equal(whole.count, 2);
        flow_close(&flow);
        fault_arm("store.large", 0);
        flow_open(&flow);
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.modules, 1);
        assert_int_equal(stats.references, 0);
        answer = get(&flow_tenant_a, "good/raw", "");
        assert_true(answer.is_ok);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        const struct CMUnitTest tests[] = { ROW(test_hits), ROW(test_misses), ROW(test_grants), ROW(test_damage), ROW(test_stop), ROW(test_reload_and_budget), ROW(test_index_damaged) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
