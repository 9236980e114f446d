/* Who may have what is cached: tenants, secrets, rotation, restart; secrets that are missing or change. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "flow.h"

static struct flow flow;

static void config_format(char *ret_config, size_t size_bytes, const char *user, const char *password)
{
        snprintf(ret_config, size_bytes, "{\"auths\":{\"127.0.0.1:%d\":{\"username\":\"%s\",\"password\":\"%s\"}}}", flow.port, user, password);
}

static int begin(void **state)
{
        (void)state;
        char good[256], wrong[256];
        flow_init(&flow);
        flow_open(&flow);
        config_format(good, sizeof good, "pull", "secret");
        config_format(wrong, sizeof wrong, "pull", "wrong");
        flow_secret(&flow, "team-a", "good", good);
        flow_secret(&flow, "team-a", "wrong", wrong);
        flow_secret(&flow, "team-b", "good", good);
        flow_secret(&flow, "team-b", "same-under-another-name", good);
        flow_secret(&flow, "team-b", "wrong", wrong);
        return 0;
}

static int end(void **state)
{
        (void)state;
        flow_fini(&flow);
        return 0;
}

static struct flow_answer ask(const struct module_caller *caller, const char *guard, const char *secret)
{
        char field[512] = "";
        if (secret)
                snprintf(field, sizeof field, secret[0] == '{' ? ",\"pullSecret\":%s" : ",\"imagePullSecret\":\"%s\"", secret);
        return flow_get(&flow, caller, "{\"url\":\"127.0.0.1:%d/%s/raw:v1\"%s}", flow.port, guard, field);
}

static void check(const struct flow_answer *answer, enum error_code code, enum module_source source)
{
        if (answer->is_ok != (code == ERROR_NONE) || (!answer->is_ok && answer->err.code != code))
                fail_msg("expected %s, got %s: %s", error_get_row(code)->name, answer->is_ok ? "ok" : error_get_row(answer->err.code)->name, answer->err.text);
        if (answer->is_ok)
                assert_int_equal(answer->source, source);
}

static void test_tenants(void **state)
{
        (void)state;
        static const char *const guards[] = { "basic", "bearer" };
        for (size_t i = 0; i < COUNT_OF(guards); i++) {
                struct flow_answer answer = ask(&flow_tenant_a, guards[i], NULL);
                check(&answer, ERROR_UNAUTHORIZED, 0);
                answer = ask(&flow_tenant_a, guards[i], "good");
                check(&answer, ERROR_NONE, MODULE_SOURCE_PULLED);

                /* It is in the cache now; that gives nobody else a right to it. */
                flow_forget(&flow);
                struct flow_answer denied = ask(&flow_tenant_b, guards[i], NULL);
                check(&denied, ERROR_UNAUTHORIZED, 0);
                denied = ask(&flow_tenant_b, guards[i], "wrong");
                check(&denied, ERROR_UNAUTHORIZED, 0);
                denied = ask(&flow_tenant_b, guards[i], "none");
                check(&denied, ERROR_SECRET_MISSING, 0);
                denied = ask(&flow_tenant_a, guards[i], NULL);
                check(&denied, ERROR_UNAUTHORIZED, 0);

                /* The right secret by content was proved already; the same secret name in another namespace proves nothing by its name. */
                flow_forget(&flow);
                answer = ask(&flow_tenant_b, guards[i], "same-under-another-name");
                check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);
                assert_int_equal(flow_count(&flow, "HEAD", "/v2/"), 0);
        }
}

static void test_proof_costs_one_head(void **state)
{
        (void)state;
        char other[256];
        snprintf(other, sizeof other, "{\"auths\":{\"127.0.0.1:%d\":{\"identitytoken\":\"refresh-token-of-pull\",\"username\":\"pull\",\"password\":\"secret\"}}}", flow.port);
        struct flow_answer answer = ask(&flow_tenant_a, "bearer", "good");
        check(&answer, ERROR_NONE, MODULE_SOURCE_PULLED);
        flow_forget(&flow);
        answer = ask(&flow_tenant_b, "bearer", other);
        check(&answer, ERROR_NONE, MODULE_SOURCE_REVALIDATED);
        assert_int_equal(flow_count(&flow, "GET", "/manifests/"), 0);
        assert_int_equal(flow_count(&flow, "GET", "/blobs/"), 0);

        /* Kept over a restart, with the registry gone; the others stay out. */
        flow_close(&flow);
        free(flow_http(&flow, "POST", "/_set?down=1"));
        flow_open(&flow);
        answer = ask(&flow_tenant_b, "bearer", other);
        check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);
        answer = ask(&flow_tenant_a, "bearer", "good");
        check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);
        answer = ask(&flow_tenant_b, "bearer", "wrong");
        assert_false(answer.is_ok);
        assert_int_not_equal(answer.err.code, ERROR_UNAUTHORIZED);         /* unreachable and refused are different things */
}

static void test_secret_changes(void **state)
{
        (void)state;
        char wrong[256];
        struct flow_answer answer = ask(&flow_tenant_a, "basic", "good");
        check(&answer, ERROR_NONE, MODULE_SOURCE_PULLED);
        config_format(wrong, sizeof wrong, "pull", "rotated");
        flow_secret(&flow, "team-a", "good", wrong);
        flow_run_ms(&flow, 1100);
        answer = ask(&flow_tenant_a, "basic", "good");
        check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);                   /* the same secret, rotated */
        flow_secret(&flow, "team-a", "good", NULL);
        flow_run_ms(&flow, 1100);
        answer = ask(&flow_tenant_a, "basic", "good");
        check(&answer, ERROR_SECRET_MISSING, 0);
        assert_non_null(strstr(answer.err.text, "good"));
}

static void test_namespaces(void **state)
{
        (void)state;
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/good/raw:v1\",\"namespace\":\"team-b\"}", flow.port);
        check(&answer, ERROR_DENIED, 0);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/good/raw:v1\",\"namespace\":\"team-a\"}", flow.port);
        check(&answer, ERROR_NONE, MODULE_SOURCE_PULLED);
        struct digest sha256;
        int fd = -1;
        uint64_t size;
        struct error err;
        assert_true(digest_parse_hex(answer.sha256, &sha256));
        assert_false(module_open(flow.modules, &flow_tenant_b, &sha256, &fd, &size, &err));
        assert_int_equal(err.code, ERROR_NOT_FOUND);
        assert_true(module_open(flow.modules, &flow_tenant_a, &sha256, &fd, &size, &err));
        assert_int_equal(size, answer.size_bytes);
        close(fd);
        int64_t expires;
        assert_false(module_lease_renew(flow.modules, &flow_tenant_b, answer.lease, &expires, &err));
        assert_true(module_lease_renew(flow.modules, &flow_tenant_a, answer.lease, &expires, &err));
        assert_false(module_lease_end(flow.modules, &flow_tenant_b, answer.lease, &err));
        assert_true(module_lease_end(flow.modules, &flow_tenant_a, answer.lease, &err));
        flow_run_ms(&flow, 300);
        char path[512];
        snprintf(path, sizeof path, "%s/store/modules/team-a/%s.wasm", flow.root, answer.sha256);
        assert_int_equal(access(path, F_OK), -1);                          /* the last lease takes the link away */
        assert_false(module_open(flow.modules, &flow_tenant_a, &sha256, &fd, &size, &err));
}

/* What one repository has shown is no other's to give away: it must bring the bytes itself, not its word for them. */
static void test_no_other_vouches(void **state)
{
        (void)state;
        static const char *const liars[] = { "vouch-manifest", "vouch-head", "vouch-page" };
        struct flow_answer mine = ask(&flow_tenant_a, "basic", "good");
        check(&mine, ERROR_NONE, MODULE_SOURCE_PULLED);
        const int ports[] = { flow.port, flow.other };
        for (size_t i = 0; i < COUNT_OF(liars) * COUNT_OF(ports); i++) {
                const char *liar = liars[i / COUNT_OF(ports)];
                int port = ports[i % COUNT_OF(ports)];
                struct flow_answer answer = flow_get(&flow, &flow_tenant_b, "{\"url\":\"127.0.0.1:%d/mode/%s@%s\"}", port, liar, mine.digest);
                check(&answer, ERROR_NOT_FOUND, 0);
                answer = flow_get(&flow, &flow_tenant_b, "{\"url\":\"127.0.0.1:%d/mode/%s:v1\",\"sha256\":\"%s\"}", port, liar, mine.digest + strlen("sha256:"));
                check(&answer, ERROR_NOT_FOUND, 0);
                answer = flow_get(&flow, &flow_tenant_b, "{\"url\":\"127.0.0.1:%d/mode/%s:v1\",\"imagePullPolicy\":\"Always\"}", port, liar);
                check(&answer, ERROR_NOT_FOUND, 0);
        }
        flow_forget(&flow);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_b, "{\"url\":\"127.0.0.1:%d/mode/good-twin:v1\"}", flow.other);
        check(&answer, ERROR_NONE, MODULE_SOURCE_PULLED);                   /* this one has it, and has brought it */
        assert_string_equal(answer.digest, mine.digest);
        assert_int_equal(flow_count(&flow, "GET", "/v2/mode/good-twin/blobs/"), 1);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/mode/good-twin@%s\"}", flow.other, mine.digest);
        check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);                    /* public there */
        answer = ask(&flow_tenant_b, "basic", NULL);
        check(&answer, ERROR_UNAUTHORIZED, 0);                              /* which makes nothing public here */
}

/* A repository of a private image that lets itself be led to a login page proves nothing about who asks. */
static void test_page_is_no_proof(void **state)
{
        (void)state;
        struct flow_answer mine = ask(&flow_tenant_a, "basic", "good");
        check(&mine, ERROR_NONE, MODULE_SOURCE_PULLED);
        free(flow_http(&flow, "POST", "/_set?repo=basic/raw&page=1"));
        struct flow_answer answer = ask(&flow_tenant_b, "basic", NULL);
        assert_false(answer.is_ok);
        answer = flow_get(&flow, &flow_tenant_b, "{\"url\":\"127.0.0.1:%d/basic/raw@%s\"}", flow.port, mine.digest);
        assert_false(answer.is_ok);
}

/* Who differs only in what is meant for a mirror is another asker: no flight is shared. What a mirror has shown counts as if the origin had: it is the operator's word that it
   stands for the origin ([oci] 6.1: "or trust configured mirrors explicitly"). */
static void test_mirror_logins(void **state)
{
        (void)state;
        char mirror[64], url[128], of_mirror[256], of_origin[256];
        snprintf(mirror, sizeof mirror, "http://127.0.0.1:%d", flow.port);
        const char *mirrors[] = { mirror, NULL };
        flow_close(&flow);
        flow.options.mirrors = &(struct modules_mirrors){ .host = "origin.invalid", .mirrors = mirrors };
        flow.options.mirror_count = 1;
        flow_open(&flow);
        config_format(of_mirror, sizeof of_mirror, "pull", "secret");
        snprintf(of_origin, sizeof of_origin, "{\"auths\":{\"origin.invalid\":{\"username\":\"pull\",\"password\":\"secret\"}}}");
        static const char *const guards[] = { "basic", "bearer" };
        for (size_t i = 0; i < COUNT_OF(guards); i++) {
                char jsons[3][1024];
                struct flow_answer answers[3];
                snprintf(url, sizeof url, "{\"url\":\"origin.invalid/%s/raw:v1\"", guards[i]);
                snprintf(jsons[0], sizeof jsons[0], "%s,\"pullSecret\":%s}", url, of_mirror);
                snprintf(jsons[1], sizeof jsons[1], "%s}", url);
                snprintf(jsons[2], sizeof jsons[2], "%s,\"pullSecret\":%s}", url, of_origin);
                for (size_t k = 0; k < COUNT_OF(jsons); k++)
                        flow_start(&flow, jsons[k], k == 0 ? &flow_tenant_a : &flow_tenant_b, &answers[k]);
                flow_wait(&flow, answers, COUNT_OF(answers));
                check(&answers[0], ERROR_NONE, MODULE_SOURCE_PULLED);
                assert_false(answers[1].is_ok);
                assert_false(answers[2].is_ok);                            /* right, but not for the mirror; and the origin is not there */

                struct flow_answer again = flow_get(&flow, &flow_tenant_a, "%s", jsons[0]);
                check(&again, ERROR_NONE, MODULE_SOURCE_CACHE);
                again = flow_get(&flow, &flow_tenant_b, "%s", jsons[1]);
                assert_false(again.is_ok);
        }

        /* Without the mirror in the configuration its credentials say nothing about the repository. */
        struct error err;
        struct fetch_client *fetch = NULL;
        flow.options.mirror_count = 0;
        flow_secret(&flow, "team-a", "of-mirror", of_mirror);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "%s,\"imagePullSecret\":\"of-mirror\"}", url);
        check(&answer, ERROR_NONE, MODULE_SOURCE_CACHE);
        assert_true(fetch_client_new(&flow.fetch_options, &fetch, &err));
        assert_true(modules_reload(flow.modules, fetch, registry_new(fetch, &(struct registry_options){ 0 }), &flow.options, &err));
        fetch_client_unref(&fetch);
        answer = flow_get(&flow, &flow_tenant_a, "%s,\"imagePullSecret\":\"of-mirror\"}", url);
        assert_false(answer.is_ok);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_tenants, begin, end),
                cmocka_unit_test_setup_teardown(test_no_other_vouches, begin, end),
                cmocka_unit_test_setup_teardown(test_page_is_no_proof, begin, end),
                cmocka_unit_test_setup_teardown(test_mirror_logins, begin, end),
                cmocka_unit_test_setup_teardown(test_proof_costs_one_head, begin, end),
                cmocka_unit_test_setup_teardown(test_secret_changes, begin, end),
                cmocka_unit_test_setup_teardown(test_namespaces, begin, end),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
