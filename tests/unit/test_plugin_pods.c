/* Which Pod a cgroup is of: by UID, by mirror hash, never by a container that is another's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <wasmcached/kube.h>
#include "../../agent/plugin/keeper.h"

#define C1 "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"
#define C2 "0000000000000000847915bcff0ecac1273e5b4bed3f6fa1b07350e013596100"
#define C3 "1111111111111111847915bcff0ecac1273e5b4bed3f6fa1b07350e013596100"
#define HASH "0123456789abcdef0123456789abcdef"

static struct keeper keeper;
#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"            /* nothing of these is freed or written */
static char *ones[] = { C1, C3 }, *twos[] = { C2 }, *thieves[] = { C3 };
static struct plugin_pod pods[] = {
        { .namespace = "team-a", .name = "web", .uid = "u1", .containers = ones, .container_count = 2 },
        { .namespace = "team-b", .name = "web", .uid = "u2", .containers = twos, .container_count = 1 },
        { .namespace = "team-b", .name = "thief", .uid = "u3", .containers = thieves, .container_count = 1 },
        { .namespace = "kube-system", .name = "proxy-n1", .uid = "u4", .mirror_hash = HASH },
        { .namespace = "team-c", .name = "one", .uid = "twice" }, { .namespace = "team-d", .name = "other", .uid = "twice" },
        { .namespace = "team-e", .name = "nameless" },
};

static int make(void **state)
{
        (void)state;
        pods_index_clear(&keeper);
        for (size_t i = 0; i < COUNT_OF(pods); i++)
                pods_index_put(&keeper, &pods[i]);
        return 0;
}

static int unmake(void **state)
{
        (void)state;
        pods_index_free(&keeper);
        return 0;
}

static void test_find(void **state)
{
        static const struct { struct kube_cgroup cgroup; const struct plugin_pod *pod; const char *why; } rows[] = {
                { { "u1", C1, false }, &pods[0], NULL }, { { "u2", C2, false }, &pods[1], NULL },
                { { "u1", "", false }, &pods[0], NULL },                                    /* the pod's own group */
                { { "u1", "ffff", false }, &pods[0], NULL },                                /* its status does not list it yet */
                { { "u1", C2, false }, NULL, "listed for team-b/web" }, { { "u2", C1, false }, NULL, "listed for team-a/web" },
                { { "u1", C3, false }, NULL, "more than one pod" },                         /* two claim it */
                { { "u9", C1, false }, NULL, "no pod with the UID u9" },                    /* nobody, though the container is known */
                { { HASH, C2, true }, NULL, "listed for team-b/web" }, { { HASH, "", true }, &pods[3], NULL },
                { { HASH, "", false }, NULL, "no pod with the UID" },
                { { "u4", "", false }, &pods[3], NULL }, { { "u4", "", true }, NULL, "no mirror pod" },
                { { "twice", "", false }, NULL, "more than one pod" }, { { "", "", false }, NULL, "no pod" },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                const struct plugin_pod *pod = keeper_find_pod_of(&keeper, &rows[i].cgroup, &err);
                if (pod != rows[i].pod || (rows[i].why && !strstr(err.text, rows[i].why)))
                        fail_msg("row %zu: %s: %s", i, pod ? pod->name : "none", err.text);
                assert_int_equal(err.code, rows[i].why ? ERROR_DENIED : ERROR_NONE);
        }
        assert_ptr_equal(keeper_find_pod(&keeper, "u1"), &pods[0]);
        assert_null(keeper_find_pod(&keeper, "twice"));
        assert_null(keeper_find_pod(&keeper, "u9"));
}

/* The same Pod indexed twice is still one. */
static void test_again(void **state)
{
        struct error err = { 0 };
        (void)state;
        pods_index_put(&keeper, &pods[0]);
        assert_ptr_equal(keeper_find_pod_of(&keeper, &(struct kube_cgroup){ "u1", C1, false }, &err), &pods[0]);
        pods_index_clear(&keeper);
        assert_null(keeper_find_pod_of(&keeper, &(struct kube_cgroup){ "u1", C1, false }, &err));
}

/* Where the API server tells of Pods: nobody is none before it has, nor while it cannot be asked. */
static void test_expected(void **state)
{
        static const struct kube_cgroup known = { "u1", C1, false }, new = { "u9", "", false }, thief = { "u2", C1, false };
        struct error err = { 0 };
        (void)state;
        keeper.troubles = map_new(NULL);
        assert_false(keeper_may_learn_of(&keeper, &new));          /* nobody tells of any */
        keeper_expect_pods(&keeper, "kubernetes/pods");
        assert_false(keeper_may_learn_of(&keeper, &new));
        assert_null(keeper_find_pod_of(&keeper, &new, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_int_equal(err.retry_after_s, 1);
        assert_non_null(strstr(err.text, "not been listed"));
        assert_ptr_equal(keeper_find_pod_of(&keeper, &known, &err), &pods[0]);                 /* from a manifest */
        keeper_arrive_pods(&keeper, "another");
        assert_false(keeper_may_learn_of(&keeper, &new));
        keeper_arrive_pods(&keeper, "kubernetes/pods");
        assert_true(keeper_may_learn_of(&keeper, &new) && !keeper_may_learn_of(&keeper, &known));
        assert_null(keeper_find_pod_of(&keeper, &new, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        map_put_text(keeper.troubles, "kubernetes/pods", "connection refused");
        assert_null(keeper_find_pod_of(&keeper, &new, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_non_null(strstr(err.text, "what lacks: connection refused"));
        assert_null(keeper_find_pod_of(&keeper, &thief, &err));
        assert_int_equal(err.code, ERROR_DENIED);          /* that is known for sure */
        map_free(&keeper.troubles);
        free(keeper.pods_told_by);
        keeper.pods_told_by = NULL;
        keeper.pods_have_come = false;
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_find), cmocka_unit_test(test_expected), cmocka_unit_test(test_again) };
        return cmocka_run_group_tests(tests, make, unmake);
}
