/* Secrets by name, and the cache before them, against tests/fake/kubeapi.py with a clock of our own. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "kube_rig.h"

#define CONFIG "{\"auths\":{}}"
#define CONFIG64 "eyJhdXRocyI6e319"
#define OTHER64 "eyJhdXRocyI6eyJ4Ijp7fX19"

static struct kube *kube;
static int64_t now_ms;

static int64_t get_now_ms(void)
{
        return __atomic_load_n(&now_ms, __ATOMIC_SEQ_CST);
}

static void advance(int64_t ms)
{
        __atomic_add_fetch(&now_ms, ms, __ATOMIC_SEQ_CST);
}

static int reset(void **state)
{
        (void)state;
        STEER("/_reset");
        now_ms = 1000000;
        kube_free(&kube);
        kube = rig_kube("{token: hidden-token}", 0);
        return 0;
}

static int stop(void **state)
{
        kube_free(&kube);
        return rig_stop(state);
}

static void put(const char *name, const char *type, const char *data)
{
        CLEANUP(cleanup_free) char *json = string_format("{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"%s\"},\"type\":\"%s\",\"data\":%s}", name, type, data);
        STEER("/_put", "path", SECRETS, "json", json);
}

#define PULL "kubernetes.io/dockerconfigjson", "{\".dockerconfigjson\":\"" CONFIG64 "\"}"

static struct kube_call call_of(void)
{
        return (struct kube_call){ .kube = kube };
}

static void test_one(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_call call = call_of();
        CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
        put("pull", "kubernetes.io/dockerconfigjson", "{\".dockerconfigjson\":\"" CONFIG64 "\",\"empty\":\"\",\"bytes\":\"AAECAw==\"}");
        if (!kube_fetch_secret(&call, "team-a", "pull", &secret, &err))
                fail_msg("%s", err.text);
        assert_string_equal(kube_secret_get_type(secret), "kubernetes.io/dockerconfigjson");
        assert_string_equal(kube_secret_get_uid(secret), "uid-1001");
        assert_string_equal(kube_secret_get_version(secret), "1001");
        assert_string_equal(secret_get_text(kube_secret_get_data(secret, ".dockerconfigjson")), CONFIG);
        assert_int_equal(secret_get_size(kube_secret_get_data(secret, "empty")), 0);
        assert_int_equal(secret_get_size(kube_secret_get_data(secret, "bytes")), 4);
        assert_memory_equal(secret_get_text(kube_secret_get_data(secret, "bytes")), "\0\1\2\3", 4);
        assert_null(kube_secret_get_data(secret, "other"));
        assert_int_equal(rig_count("\"/api/v1/namespaces/team-a/secrets/pull\", \"authorization\": \"Bearer hidden-token\""), 1);
}

/* What is no pull secret is told apart, by name, and without a byte of it. */
static void test_docker_config(void **state)
{
        (void)state;
        static const struct { const char *type, *data, *piece; bool is_legacy; } rows[] = {
                { PULL, NULL, false },
                { "kubernetes.io/dockercfg", "{\".dockercfg\":\"e30=\"}", NULL, true },
                { "Opaque", "{\".dockerconfigjson\":\"" CONFIG64 "\"}", "is of type Opaque", false },
                { "kubernetes.io/tls", "{}", "is of type kubernetes.io/tls", false },
                { "", "{}", "is of type Opaque", false },
                { "kubernetes.io/dockerconfigjson", "{\".dockercfg\":\"e30=\"}", ".dockerconfigjson is not in it", false },
                { "kubernetes.io/dockerconfigjson", "{\".dockerconfigjson\":\"\"}", ".dockerconfigjson is empty", false },
                { "kubernetes.io/dockerconfigjson", "null", ".dockerconfigjson is not in it", false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                struct kube_call call = call_of();
                CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
                const struct secret *config = NULL;
                bool is_legacy = false;
                put("s", rows[i].type, rows[i].data);
                assert_true(kube_fetch_secret(&call, "team-a", "s", &secret, &err));
                assert_int_equal(kube_secret_get_docker_config(secret, &config, &is_legacy, &err), rows[i].piece == NULL);
                if (!rows[i].piece) {
                        assert_int_equal(is_legacy, rows[i].is_legacy);
                        assert_non_null(config);
                        continue;
                }
                assert_int_equal(err.code, ERROR_SECRET_MISSING);
                assert_true(string_starts_with(err.text, "Secret team-a/s"));
                if (!strstr(err.text, rows[i].piece))
                        fail_msg("%s", err.text);
        }
}

/* Not there, forbidden, and an API server that cannot say: three things. */
static void test_refusals(void **state)
{
        (void)state;
        static const struct { const char *fault, *arg, *namespace, *name; enum error_code code; const char *piece; unsigned requests; } rows[] = {
                { NULL,           "",    "team-a",    "gone",         ERROR_SECRET_MISSING,       "Secret team-a/gone does not exist",    1 },
                { "forbidden",    "",    "team-a",    "pull",         ERROR_SECRET_MISSING,       "Secret team-a/pull may not be read",   1 },
                { NULL,           "",    "team-a",    "../x",         ERROR_SECRET_MISSING,       "no name of a Secret",                  0 },
                { NULL,           "",    "team-a",    "Upper",        ERROR_SECRET_MISSING,       "no name of a Secret",                  0 },
                { NULL,           "",    "team/../x", "pull",         ERROR_SECRET_MISSING,       "no name of a Secret",                  0 },
                { NULL,           "",    "team-a",    "",             ERROR_SECRET_MISSING,       "no name of a Secret",                  0 },
                { NULL,           "",    "team-a",    "a?watch=1",    ERROR_SECRET_MISSING,       "no name of a Secret",                  0 },
                { "plain404",     "",    "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "404",                                  1 },
                { "status",       "403", "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "403",                                  1 },
                { "status",       "401", "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "does not know who we are",             1 },
                { "status",       "500", "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "500",                                  1 },
                { "garbage",      "",    "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "JSON",                                 1 },
                { "html",         "",    "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "text/html",                            1 },
                { "truncate",     "",    "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "JSON",                                 1 },
                { "other-object", "",    "team-a",    "pull",         ERROR_UPSTREAM_ERROR,       "another object",                       1 },
                { "toomany",      "120", "team-a",    "pull",         ERROR_RATE_LIMITED,         "re)initializing",                      1 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                struct kube_call call = call_of();
                struct kube_secret *secret = NULL;
                STEER("/_reset");
                put("pull", PULL);
                if (rows[i].fault)
                        STEER("/_fault", "match", "secrets", "do", rows[i].fault, "arg", rows[i].arg, "count", "9");
                if (kube_fetch_secret(&call, rows[i].namespace, rows[i].name, &secret, &err))
                        fail_msg("row %zu", i);
                if (err.code != rows[i].code || !strstr(err.text, rows[i].piece))
                        fail_msg("row %zu: %s: %s", i, error_get_row(err.code)->name, err.text);
                assert_null(strstr(err.text, "hidden-token"));
                assert_int_equal(rig_count("\"method\""), rows[i].requests);
        }
}

static void test_bad_data(void **state)
{
        (void)state;
        static const char *const rows[] = { "{\"x\":\"no base64!\"}", "{\"x\":7}", "[]", "{\"x\":\"QQ\"}" };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                struct kube_call call = call_of();
                struct kube_secret *secret = NULL;
                put("s", "Opaque", rows[i]);
                assert_false(kube_fetch_secret(&call, "team-a", "s", &secret, &err));
                assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                assert_non_null(strstr(err.text, "Secret team-a/s"));
                assert_null(strstr(err.text, "no base64!"));
        }
}

/* Passing trouble is waited for, as the server says; what does not pass within the deadline is told. */
static void test_retries(void **state)
{
        (void)state;
        static const struct { const char *fault, *count; bool good; enum error_code code; } rows[] = {
                { "toomany", "2", true, ERROR_NONE },      { "unavailable", "2", true, ERROR_NONE },   { "reset", "1", true, ERROR_NONE },
                { "hang", "9", false, ERROR_TIMEOUT },     { "toomany", "9", false, ERROR_RATE_LIMITED },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
                struct kube_call call = call_of();
                STEER("/_reset");
                put("pull", PULL);
                STEER("/_fault", "match", "secrets", "do", rows[i].fault, "arg", "1", "count", rows[i].count);
                call.deadline_ms = clock_get_ms() + (rows[i].good ? 20000 : 4000);
                bool good = kube_fetch_secret(&call, "team-a", "pull", &secret, &err);
                if (good != rows[i].good || err.code * !good != rows[i].code)
                        fail_msg("%s: %s", rows[i].fault, err.text);
                if (rows[i].code == ERROR_RATE_LIMITED)
                        assert_int_equal(err.retry_after_s, 1);
        }
}

static void *cancel_soon(void *arg)
{
        usleep(300000);
        cancel_trigger(arg);
        return NULL;
}

static void test_cancel(void **state)
{
        (void)state;
        static const char *const modes[] = { "hang", "toomany" };
        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                struct error err = { 0 };
                struct kube_secret *secret = NULL;
                struct kube_call call = { .kube = kube, .cancel = cancel_new() };
                pthread_t thread;
                STEER("/_fault", "match", "secrets", "do", modes[i], "arg", "20", "count", "9");
                pthread_create(&thread, NULL, cancel_soon, call.cancel);
                assert_false(kube_fetch_secret(&call, "team-a", "pull", &secret, &err));
                /* a wait that would pass the deadline is not begun */
                assert_true(err.code == ERROR_BUSY || err.code == ERROR_RATE_LIMITED);
                pthread_join(thread, NULL);
                cancel_free(&call.cancel);
                STEER("/_reset");
        }
}

/* ---- the cache */
static struct kube_secrets *secrets_new(void)
{
        return kube_secrets_new(&(struct kube_secrets_options){ .now_ms = get_now_ms });
}

/* The version, or "" and the error's code. */
static char *ask(struct kube_secrets *secrets, const char *name, enum error_code *ret_code)
{
        struct error err = { 0 };
        struct kube_call call = call_of();
        CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
        call.deadline_ms = clock_get_ms() + 8000;
        bool good = kube_secrets_fetch(secrets, &call, "team-a", name, &secret, &err);
        *ret_code = good ? ERROR_NONE : err.code;
        return string_copy(good ? kube_secret_get_version(secret) : "");
}

static void expect(struct kube_secrets *secrets, const char *name, const char *version, enum error_code code, unsigned requests)
{
        enum error_code found = ERROR_NONE;
        CLEANUP(cleanup_free) char *text = ask(secrets, name, &found);
        assert_string_equal(text, version);
        assert_int_equal(found, code);
        assert_int_equal(rig_count("\"method\""), requests);
}

static void test_keeps(void **state)
{
        (void)state;
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        put("pull", PULL);
        expect(secrets, "pull", "1001", ERROR_NONE, 1);
        put("pull", PULL);
        advance(89000);                            /* 2 min less 25 % */
        expect(secrets, "pull", "1001", ERROR_NONE, 1);
        advance(62000);                            /* more than 2 min and 25 % */
        expect(secrets, "pull", "1002", ERROR_NONE, 2);
        expect(secrets, "pull", "1002", ERROR_NONE, 2);
}

static void test_keeps_refusals(void **state)
{
        (void)state;
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        expect(secrets, "pull", "", ERROR_SECRET_MISSING, 1);
        put("pull", PULL);
        expect(secrets, "pull", "", ERROR_SECRET_MISSING, 1);
        advance(10001);
        expect(secrets, "pull", "1001", ERROR_NONE, 2);
        STEER("/_fault", "match", "secrets", "do", "forbidden");
        advance(200000);
        expect(secrets, "pull", "", ERROR_SECRET_MISSING, 3);      /* a refusal takes away what was allowed before */
        advance(29000);
        expect(secrets, "pull", "", ERROR_SECRET_MISSING, 3);
        advance(2000);
        expect(secrets, "pull", "1001", ERROR_NONE, 4);
}

/* An API that cannot be asked is no refusal: what was read before counts for a while. */
static void test_grace(void **state)
{
        (void)state;
        static const char *const modes[] = { "status", "garbage", "plain404" };
        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
                STEER("/_reset");
                put("pull", PULL);
                expect(secrets, "pull", "1001", ERROR_NONE, 1);
                STEER("/_fault", "match", "secrets", "do", modes[i], "arg", "500", "count", "3");
                advance(151000);
                expect(secrets, "pull", "1001", ERROR_NONE, 2);
                expect(secrets, "pull", "1001", ERROR_NONE, 2);            /* asked again after 5 s, not at each request */
                advance(6000);
                expect(secrets, "pull", "1001", ERROR_NONE, 3);
                advance(300000);
                expect(secrets, "pull", "", ERROR_UPSTREAM_ERROR, 4);
                expect(secrets, "pull", "1001", ERROR_NONE, 5);            /* and that was not kept */
        }
}

/* One that hangs is given up before those who ask give up, and is like one that cannot be reached. */
static void test_grace_when_it_hangs(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_call call = call_of();
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
        put("pull", PULL);
        expect(secrets, "pull", "1001", ERROR_NONE, 1);
        STEER("/_fault", "match", "secrets", "do", "hang", "count", "9");
        advance(151000);
        if (!kube_secrets_fetch(secrets, &call, "team-a", "pull", &secret, &err))
                fail_msg("%s", err.text);
        assert_string_equal(kube_secret_get_version(secret), "1001");
}

/* Full: what is idle goes, nothing grows without end. */
static void test_full(void **state)
{
        (void)state;
        enum error_code code;
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        for (int i = 0; i < 1026; i++) {
                CLEANUP(cleanup_free) char *name = string_format("n-%d", i), *version = ask(secrets, name, &code);
                assert_int_equal(code, ERROR_SECRET_MISSING);
        }
        expect(secrets, "n-1025", "", ERROR_SECRET_MISSING, 1026);
        expect(secrets, "n-0", "", ERROR_SECRET_MISSING, 1027);
}

static void test_newer(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_call call = call_of();
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        CLEANUP(kube_secret_unref) struct kube_secret *used = NULL, *newer = NULL, *newest = NULL;
        put("pull", PULL);
        assert_true(kube_secrets_fetch(secrets, &call, "team-a", "pull", &used, &err));
        assert_false(kube_secrets_fetch_newer(secrets, &call, used, &newer, &err));        /* just read */
        assert_int_equal(err.code, ERROR_NONE);
        assert_int_equal(rig_count("\"method\""), 1);
        advance(11000);
        assert_false(kube_secrets_fetch_newer(secrets, &call, used, &newer, &err));        /* read again: the same */
        assert_int_equal(err.code, ERROR_NONE);
        assert_int_equal(rig_count("\"method\""), 2);
        assert_false(kube_secrets_fetch_newer(secrets, &call, used, &newer, &err));        /* and not at each refusal */
        assert_int_equal(rig_count("\"method\""), 2);
        put("pull", "kubernetes.io/dockerconfigjson", "{\".dockerconfigjson\":\"" OTHER64 "\"}");
        advance(11000);
        assert_true(kube_secrets_fetch_newer(secrets, &call, used, &newer, &err));
        assert_string_equal(kube_secret_get_version(newer), "1002");
        assert_true(kube_secrets_fetch_newer(secrets, &call, used, &newest, &err));        /* the next one that used the old: no request */
        assert_int_equal(rig_count("\"method\""), 3);
        STEER("/_delete", "path", SECRETS, "namespace", "team-a", "name", "pull");
        put("pull", PULL);                         /* the same name, another uid: another principal */
        advance(11000);
        kube_secret_unref(&newest);
        assert_true(kube_secrets_fetch_newer(secrets, &call, newer, &newest, &err));
        assert_string_not_equal(kube_secret_get_uid(newest), kube_secret_get_uid(newer));
        STEER("/_delete", "path", SECRETS, "namespace", "team-a", "name", "pull");
        advance(11000);
        struct kube_secret *none = NULL;
        assert_false(kube_secrets_fetch_newer(secrets, &call, newest, &none, &err));
        assert_int_equal(err.code, ERROR_SECRET_MISSING);
}

static void *one_fetch(void *arg)
{
        enum error_code code = ERROR_NONE;
        CLEANUP(cleanup_free) char *version = ask(arg, "pull", &code);
        return (void *)(uintptr_t)(code != ERROR_NONE || strcmp(version, "1001") != 0);
}

static void test_one_request_at_a_time(void **state)
{
        (void)state;
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        pthread_t threads[8];
        put("pull", PULL);
        STEER("/_fault", "match", "secrets", "do", "toomany", "arg", "1");         /* the first one waits a second, so that all others come meanwhile */
        for (size_t i = 0; i < COUNT_OF(threads); i++)
                pthread_create(&threads[i], NULL, one_fetch, secrets);
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
                void *failed = NULL;
                pthread_join(threads[i], &failed);
                assert_null(failed);
        }
        assert_int_equal(rig_count("\"method\""), 2);
}

struct waiter { struct kube_secrets *secrets; struct cancel *cancel; struct error err; };

static void *one_wait(void *arg)
{
        struct waiter *waiter = arg;
        struct kube_secret *secret = NULL;
        struct kube_call call = { .kube = kube, .cancel = waiter->cancel };
        kube_secrets_fetch(waiter->secrets, &call, "team-a", "pull", &secret, &waiter->err);
        kube_secret_unref(&secret);
        return NULL;
}

/* Who asks is cancelled: the one that waited asks itself. Who waits is cancelled: at once. */
static void test_cancelled(void **state)
{
        (void)state;
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        struct waiter waiters[3] = { { secrets, cancel_new(), { 0 } }, { secrets, cancel_new(), { 0 } }, { secrets, cancel_new(), { 0 } } };
        pthread_t threads[3];
        put("pull", PULL);
        STEER("/_fault", "match", "secrets", "do", "hang");
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
                pthread_create(&threads[i], NULL, one_wait, &waiters[i]);
                while (i == 0 && rig_count("\"method\"") == 0)
                        usleep(5000);
        }
        cancel_trigger(waiters[2].cancel);
        pthread_join(threads[2], NULL);
        assert_int_equal(waiters[2].err.code, ERROR_BUSY);
        cancel_trigger(waiters[0].cancel);
        pthread_join(threads[0], NULL);
        assert_int_equal(waiters[0].err.code, ERROR_BUSY);
        pthread_join(threads[1], NULL);
        assert_int_equal(waiters[1].err.code, ERROR_NONE);
        for (size_t i = 0; i < COUNT_OF(waiters); i++)
                cancel_free(&waiters[i].cancel);
}

static void test_purge(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct kube_call call = call_of();
        CLEANUP(kube_secrets_free) struct kube_secrets *secrets = secrets_new();
        CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
        put("pull", PULL);
        assert_true(kube_secrets_fetch(secrets, &call, "team-a", "pull", &secret, &err));
        advance(3600000);
        kube_secrets_purge(secrets);               /* ours stays whole */
        assert_string_equal(secret_get_text(kube_secret_get_data(secret, ".dockerconfigjson")), CONFIG);
        expect(secrets, "pull", "1001", ERROR_NONE, 2);
        STEER("/_fault", "match", "secrets", "do", "status", "arg", "500");
        advance(3600000);
        kube_secrets_purge(secrets);
        expect(secrets, "pull", "", ERROR_UPSTREAM_ERROR, 3);      /* nothing was left to go on with */
}

int main(int argc, char **argv)
{
        cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(test_one, reset),      cmocka_unit_test_setup(test_docker_config, reset), cmocka_unit_test_setup(test_refusals, reset),
                cmocka_unit_test_setup(test_bad_data, reset), cmocka_unit_test_setup(test_retries, reset),       cmocka_unit_test_setup(test_cancel, reset),
                cmocka_unit_test_setup(test_keeps, reset),    cmocka_unit_test_setup(test_keeps_refusals, reset), cmocka_unit_test_setup(test_grace, reset),
                cmocka_unit_test_setup(test_grace_when_it_hangs, reset), cmocka_unit_test_setup(test_full, reset),
                cmocka_unit_test_setup(test_newer, reset),    cmocka_unit_test_setup(test_one_request_at_a_time, reset), cmocka_unit_test_setup(test_cancelled, reset),
                cmocka_unit_test_setup(test_purge, reset),
        };
        return cmocka_run_group_tests(tests, rig_start, stop);
}
