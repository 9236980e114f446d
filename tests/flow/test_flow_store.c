/* Space, leases, pins, damage, operators, other sources. */
#include <fcntl.h>
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
static const char *roots[2];

static int begin(void **state)
{
        (void)state;
        flow_init(&flow);
        roots[0] = flow.files;
        flow.options.file_roots = roots;
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

static struct flow_answer ask(const char *repo)
{
        return flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/%s:v1\"}", flow.port, repo);
}

static void give_back(const struct flow_answer *answer)
{
        struct error err;
        assert_true(module_lease_end(flow.modules, &flow_tenant_a, answer->lease, &err));
        flow_run_ms(&flow, 100);
}

static void call_pin(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_pin(f->modules, arg, true, done, done_arg);
}

static void call_remove(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_remove(f->modules, arg, done, done_arg);
}

static void call_verify(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_verify(f->modules, arg, done, done_arg);
}

static void call_refresh(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_refresh(f->modules, arg, done, done_arg);
}

static void call_gc(struct flow *f, void *arg, module_done done, void *done_arg)
{
        module_gc(f->modules, arg != NULL, done, done_arg);
}

static void test_space(void **state)
{
        (void)state;
        flow.options.max_size_bytes = 20 << 20;   /* good/large has 8 MiB */
        flow_open(&flow);
        struct error err;
        struct digest digest;
        free(flow_http(&flow, "POST", "/_set?repo=dyn/one&tag=v1"));
        struct flow_answer large = ask("good/large"), small = ask("dyn/one");
        check_ok(&large, MODULE_SOURCE_PULLED);
        check_ok(&small, MODULE_SOURCE_PULLED);

        /* Leased: nothing may go. */
        assert_true(digest_parse_hex(large.sha256, &digest));
        assert_null(flow_operate(&flow, call_remove, &digest, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_non_null(strstr(err.text, "leased"));
        flow_close(&flow);
        flow.options.max_size_bytes = large.size_bytes + small.size_bytes + 10;
        flow_open(&flow);
        struct flow_answer full = ask("dyn/two");
        assert_int_equal(full.err.code, ERROR_STORE_FULL);
        check_ok(&(struct flow_answer){ .is_ok = true }, MODULE_SOURCE_CACHE);
        struct flow_answer hit = ask("good/large");
        check_ok(&hit, MODULE_SOURCE_CACHE);      /* hits go on */

        /* Given back, but pinned: still nothing. Unleased and unpinned: the least recently used goes. */
        give_back(&hit);
        CLEANUP(cleanup_free) char *pinned = flow_operate(&flow, call_pin, &digest, &err);
        assert_non_null(pinned);
        full = ask("dyn/two");
        assert_int_equal(full.err.code, ERROR_STORE_FULL);
        assert_null(flow_operate(&flow, call_remove, &digest, &err));
        assert_non_null(strstr(err.text, "pinned"));
        give_back(&small);
        struct flow_answer two = ask("dyn/two");
        check_ok(&two, MODULE_SOURCE_PULLED);
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.evicted, 1);
        assert_int_equal(stats.modules, 2);
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_gc, &flow, &err);
        assert_non_null(strstr(json, "\"dryRun\": true"));
}

static void test_leases_expire(void **state)
{
        (void)state;
        flow.options.lease_ms = 600;
        flow_open(&flow);
        struct flow_answer answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_PULLED);
        struct module_stats stats;
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.leases, 1);
        flow_run_ms(&flow, 1300);
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.leases, 0);
        assert_int_equal(stats.modules, 1);       /* age alone is no reason */
        answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_CACHE);
}

/* What could not be written down is not forgotten: it is written later. */
static void test_lease_rows_again(void **state)
{
        (void)state;
        flow_open(&flow);
        struct error err;
        struct module_stats stats;
        struct flow_answer answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_PULLED);
        flow_run_ms(&flow, 300);
        fault_arm("store.commit", 1);
        assert_true(module_lease_end(flow.modules, &flow_tenant_a, answer.lease, &err));
        flow_run_ms(&flow, 500);
        fault_arm("store.commit", 0);
        flow_close(&flow);
        flow_open(&flow);
        module_get_stats(flow.modules, &stats);
        assert_int_equal(stats.leases, 0);
}

static void damage(const char *sha256, bool truncates)
{
        char path[512];
        snprintf(path, sizeof path, "%s/store/blobs/%.2s/%s", flow.root, sha256, sha256);
        assert_int_equal(chmod(path, 0644), 0);
        CLEANUP(cleanup_close) int fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(pwrite(fd, "X", 1, 20), 1);
        if (truncates)
                assert_int_equal(ftruncate(fd, 25), 0);
}

static void test_damage(void **state)
{
        (void)state;
        flow_open(&flow);
        struct error err;
        struct flow_answer answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_PULLED);
        for (int i = 0; i < 2; i++) {
                damage(answer.sha256, i);
                answer = ask("good/raw");
                check_ok(&answer, MODULE_SOURCE_PULLED);          /* never the damaged bytes: quarantined and pulled again */
                struct flow_answer again = ask("good/raw");
                check_ok(&again, MODULE_SOURCE_CACHE);
        }
        /* Only touched: the bytes are proved again, no pull. */
        char path[512];
        snprintf(path, sizeof path, "%s/store/blobs/%.2s/%s", flow.root, answer.sha256, answer.sha256);
        assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
        answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_CACHE);
        assert_int_equal(unlink(path), 0);
        snprintf(path, sizeof path, "%s/store/modules/team-a/%s.wasm", flow.root, answer.sha256);
        assert_int_equal(unlink(path), 0);
        answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_PULLED);

        damage(answer.sha256, false);
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_verify, NULL, &err);
        assert_non_null(strstr(json, answer.sha256));
        flow_run_ms(&flow, 300);                  /* pulled again without being asked */
        answer = ask("good/raw");
        check_ok(&answer, MODULE_SOURCE_CACHE);
}

/* The background pass comes to every module, and when it has been through it begins again. */
static void test_scrub(void **state)
{
        (void)state;
        static const char *const repos[] = { "good/raw", "dyn/scrubbed" };
        struct flow_answer answers[COUNT_OF(repos)];
        struct module_stats stats;
        flow.options.scrub_rate_bytes = 1 << 30;
        flow_open(&flow);
        for (size_t i = 0; i < COUNT_OF(repos); i++) {
                answers[i] = ask(repos[i]);
                check_ok(&answers[i], MODULE_SOURCE_PULLED);
        }
        int64_t now_ms = clock_get_ms();
        for (unsigned round = 1; round <= 4; round++) {
                damage(answers[round % 2].sha256, false);
                for (unsigned tries = 0; tries < 1000; tries++) {
                        module_get_stats(flow.modules, &stats);
                        if (stats.quarantined == round && stats.modules == COUNT_OF(repos))
                                break;
                        scrub_step(flow.modules, now_ms += SCRUB_PAUSE_MS);
                        flow_run_ms(&flow, 10);
                }
                assert_int_equal(stats.quarantined, round);
                assert_int_equal(stats.modules, COUNT_OF(repos));         /* pulled again without being asked */
        }
}

static void test_refresh(void **state)
{
        (void)state;
        flow.options.negative_ms = 60000;
        flow_open(&flow);
        struct error err;
        free(flow_http(&flow, "POST", "/_set?repo=dyn/fresh&tag=v1"));
        struct flow_answer first = ask("dyn/fresh");
        check_ok(&first, MODULE_SOURCE_PULLED);
        free(flow_http(&flow, "POST", "/_set?repo=dyn/fresh&tag=v1"));
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_refresh, NULL, &err);
        assert_non_null(strstr(json, "\"changed\": 1"));
        struct flow_answer second = ask("dyn/fresh");
        check_ok(&second, MODULE_SOURCE_CACHE);
        assert_string_not_equal(first.sha256, second.sha256);
        struct flow_answer pin = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/fresh:v1\",\"sha256\":\"%s\"}", flow.port, second.digest + 7);
        check_ok(&pin, MODULE_SOURCE_CACHE);
        pin = flow_get(&flow, &flow_tenant_a, "{\"url\":\"127.0.0.1:%d/dyn/fresh:v1\",\"sha256\":\"%064d\"}", flow.port, 7);
        assert_int_equal(pin.err.code, ERROR_CHECKSUM_MISMATCH);
}

static const char wasm[] = "\0asm\1\0\0\0";

static void write_file(const char *name, const char *tail)
{
        char path[512];
        snprintf(path, sizeof path, "%s/%s", flow.files, name);
        FILE *file = fopen(path, "we");
        fwrite(wasm, 1, 8, file);
        fwrite(tail, 1, strlen(tail), file);
        fclose(file);
}

static void test_files(void **state)
{
        (void)state;
        char path[512];
        flow_open(&flow);
        /* An empty custom section of another name makes another module. */
        write_file("x.wasm", "");
        struct flow_answer first = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/x.wasm\"}", flow.files);
        check_ok(&first, MODULE_SOURCE_PULLED);
        struct flow_answer same = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/x.wasm\"}", flow.files);
        check_ok(&same, MODULE_SOURCE_CACHE);
        same = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/x.wasm\",\"sha256\":\"%s\"}", flow.files, first.sha256);
        check_ok(&same, MODULE_SOURCE_CACHE);
        struct flow_answer wrong = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/x.wasm\",\"sha256\":\"%064d\"}", flow.files, 1);
        assert_int_equal(wrong.err.code, ERROR_CHECKSUM_MISMATCH);
        snprintf(path, sizeof path, "%s/link.wasm", flow.files);
        assert_int_equal(symlink("/etc/passwd", path), 0);
        wrong = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/link.wasm\"}", flow.files);
        assert_int_equal(wrong.err.code, ERROR_DENIED);
        wrong = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file:///etc/passwd\"}");
        assert_int_equal(wrong.err.code, ERROR_DENIED);
        wrong = flow_get(&flow, &flow_tenant_a, "{\"url\":\"file://%s/none.wasm\"}", flow.files);
        assert_int_equal(wrong.err.code, ERROR_NOT_FOUND);
}

/* Hundreds of first hand-outs at the same moment, many links to a transaction: each has its own outcome. */
enum { MANY = 300 };
static struct flow_answer many[MANY];

static void many_start(const char *namespace)
{
        const struct module_caller caller = { .namespace = namespace, .module_dir = flow_tenant_b.module_dir, .holder = 7 };
        memset(many, 0, sizeof many);
        for (unsigned i = 0; i < MANY; i++) {
                CLEANUP(cleanup_free) char *json = string_format("{\"url\":\"file://%s/m%u.wasm\"}", flow.files, i);
                flow_start(&flow, json, &caller, &many[i]);
        }
}

static char *many_link(const char *namespace, unsigned i)
{
        return string_format("%s/store/modules/%s/%s.wasm", flow.root, namespace, many[i].sha256);
}

static void many_check(const char *namespace)
{
        for (unsigned i = 0; i < MANY; i++) {
                CLEANUP(cleanup_free) char *path = many_link(namespace, i);
                struct stat info;
                assert_true(many[i].is_ok);
                assert_int_equal(stat(path, &info), 0);
                assert_int_equal(info.st_size, 8 + 7);
        }
}

static void many_open(void)
{
        for (unsigned i = 0; i < MANY; i++) {
                CLEANUP(cleanup_free) char *path = string_format("%s/m%u.wasm", flow.files, i);
                FILE *file = fopen(path, "we");
                assert_non_null(file);
                fwrite(wasm, 1, 8, file);
                fprintf(file, "%c%c%c%04u", 0, 5, 4, i);               /* a custom section with that name */
                fclose(file);
        }
        flow_open(&flow);
        many_start("team-a");
        flow_wait(&flow, many, MANY);
        many_check("team-a");
}

static void test_many_links(void **state)
{
        (void)state;
        many_open();
        damage(many[7].sha256, false);
        CLEANUP(cleanup_free) char *folder = string_format("%s/store/modules/team-b", flow.root), *foreign = many_link("team-b", 9);
        assert_int_equal(mkdir(folder, 0755), 0);
        FILE *file = fopen(foreign, "we");
        assert_non_null(file);
        fclose(file);
        many_start("team-b");
        flow_wait(&flow, many, MANY);
        many_check("team-b");
        for (unsigned i = 0; i < MANY; i++)
                check_ok(&many[i], i == 7 ? MODULE_SOURCE_PULLED : MODULE_SOURCE_CACHE);
        flow_close(&flow);
        flow_open(&flow);
        many_check("team-b");                              /* their leases were written down */

        /* What cannot be written down is not handed out. */
        fault_arm("store.commit", 1);
        many_start("team-c");
        flow_wait(&flow, many, MANY);
        fault_arm("store.commit", 0);
        for (unsigned i = 0; i < MANY; i++)
                assert_true(!many[i].is_ok && many[i].err.code == ERROR_STORE_FULL);
        many_start("team-c");
        flow_wait(&flow, many, MANY);
        many_check("team-c");
}

/* A stop does not wait for those that have not begun; whoever asked has an answer. */
static void test_stop_among_many_links(void **state)
{
        (void)state;
        many_open();
        many_start("team-d");
        flow_close(&flow);
        for (unsigned i = 0; i < MANY; i++)
                assert_true(many[i].is_answered && (many[i].is_ok || many[i].err.code == ERROR_BUSY));
        flow_open(&flow);
        many_start("team-d");
        flow_wait(&flow, many, MANY);
        many_check("team-d");
}

/* When leases end together, their links go together. */
static void test_many_links_go(void **state)
{
        (void)state;
        many_open();
        struct error err;
        for (unsigned i = 0; i < MANY; i++)
                assert_true(module_lease_end(flow.modules, &(struct module_caller){ .is_trusted = true }, many[i].lease, &err));
        for (unsigned tries = 0, left = MANY; left > 0; tries++) {
                left = 0;
                flow_run_ms(&flow, 20);
                for (unsigned i = 0; i < MANY; i++) {
                        CLEANUP(cleanup_free) char *path = many_link("team-a", i);
                        left += access(path, F_OK) == 0;
                }
                assert_true(tries < 1000);
        }
}

static void test_http(void **state)
{
        (void)state;
        flow_open(&flow);
        struct flow_answer first = flow_get(&flow, &flow_tenant_a, "{\"url\":\"http://127.0.0.1:%d/files/plugin.wasm\"}", flow.port);
        check_ok(&first, MODULE_SOURCE_PULLED);
        assert_string_equal(first.digest, "");
        struct flow_answer again = flow_get(&flow, &flow_tenant_a, "{\"url\":\"http://127.0.0.1:%d/files/plugin.wasm\"}", flow.port);
        check_ok(&again, MODULE_SOURCE_CACHE);
        again = flow_get(&flow, &flow_tenant_a, "{\"url\":\"http://127.0.0.1:%d/files/plugin.wasm\",\"imagePullPolicy\":\"Always\"}", flow.port);
        check_ok(&again, MODULE_SOURCE_REVALIDATED);
        again = flow_get(&flow, &flow_tenant_b, "{\"url\":\"http://127.0.0.1:%d/files/plugin.wasm\",\"sha256\":\"%s\"}", flow.port, first.sha256);
        check_ok(&again, MODULE_SOURCE_CACHE);
        again = flow_get(&flow, &flow_tenant_a, "{\"url\":\"http://127.0.0.1:%d/files/none.wasm\"}", flow.port);
        assert_int_equal(again.err.code, ERROR_NOT_FOUND);
}

/* A mirror is asked first, and only with credentials that are meant for it. */
static void test_mirrors(void **state)
{
        (void)state;
        char mirror[64], dead[64], config[512];
        snprintf(mirror, sizeof mirror, "http://127.0.0.1:%d", flow.port);
        snprintf(dead, sizeof dead, "http://127.0.0.1:%d/no-such-prefix", flow.other);
        const char *mirrors[] = { dead, mirror, NULL };
        flow.options.mirrors = &(struct modules_mirrors){ .host = "origin.invalid", .mirrors = mirrors };
        flow.options.mirror_count = 1;
        flow_open(&flow);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"origin.invalid/good/raw:v1\"}");
        check_ok(&answer, MODULE_SOURCE_PULLED);

        snprintf(config, sizeof config, "{\"auths\":{\"origin.invalid\":{\"username\":\"pull\",\"password\":\"secret\"}}}");
        flow_secret(&flow, "team-a", "of-origin", config);
        flow_forget(&flow);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"origin.invalid/basic/raw:v1\",\"imagePullSecret\":\"of-origin\"}");
        assert_false(answer.is_ok);
        CLEANUP(cleanup_free) char *log = flow_http(&flow, "GET", "/_log");
        assert_null(strstr(log, "Basic "));
        snprintf(config, sizeof config, "{\"auths\":{\"127.0.0.1:%d\":{\"username\":\"pull\",\"password\":\"secret\"}}}", flow.port);
        flow_secret(&flow, "team-a", "of-mirror", config);
        answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"origin.invalid/basic/raw:v1\",\"imagePullSecret\":\"of-mirror\"}");
        check_ok(&answer, MODULE_SOURCE_PULLED);
}

static void call_explain(struct flow *f, void *arg, module_done done, void *done_arg)
{
        struct module_want *want = flow_want(arg);
        module_explain(f->modules, want, &flow_tenant_a, done, done_arg);
        module_want_unref(&want);
}

#define MANIFEST "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define INDEX    "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define OTHER    "cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"
struct import_order { const char *url, *path; struct module_origin origin; };

static void call_import(struct flow *f, void *arg, module_done done, void *done_arg)
{
        struct import_order *order = arg;
        module_import(f->modules, order->url, &order->origin, open(order->path, O_RDONLY | O_CLOEXEC), done, done_arg);
}

static void heard(void *arg, const struct module_event *event)
{
        size_t *counts = arg;
        counts[0] += strcmp(event->type, "pulled") == 0;
        counts[1] += strcmp(event->type, "refused") == 0;
        counts[2] += strcmp(event->type, "imported") == 0;
}

/* request → verdict, code */
static const struct { const char *json, *verdict, *code; } explanations[] = {
        { "{\"url\":\"r.invalid/x:v1\"}",                                       "\"hit\"",     "null" },
        { "{\"url\":\"r.invalid/x:v2\"}",                                       "\"miss\"",    "null" },
        { "{\"url\":\"r.invalid/x:v1\",\"imagePullPolicy\":\"Always\"}",        "\"miss\"",    "null" },
        { "{\"url\":\"r.invalid/x:v1\",\"namespace\":\"team-b\"}",              "\"refused\"", "\"denied\"" },
        { "{\"url\":\"r.invalid/x:v1\",\"imagePullSecret\":\"none\"}",          "\"refused\"", "\"secret_missing\"" },
        { "{\"url\":\"file:///etc/none.wasm\"}",                                "\"refused\"", "\"denied\"" },
};

static void test_import_and_explain(void **state)
{
        (void)state;
        char path[512];
        size_t counts[3] = { 0 };
        struct error err;
        flow_open(&flow);
        struct module_listener *listener = module_listen(flow.modules, NULL, true, heard, counts);
        write_file("i.wasm", "");
        snprintf(path, sizeof path, "%s/i.wasm", flow.files);
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_import, &(struct import_order){ .url = "r.invalid/x:v1", .path = path }, &err);
        assert_non_null(json);
        assert_null(flow_operate(&flow, call_import, &(struct import_order){ .url = "r.invalid/x:v1", .path = "/etc/hosts" }, &err));
        assert_int_equal(err.code, ERROR_NOT_WASM);
        struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"r.invalid/x:v1\"}");
        check_ok(&answer, MODULE_SOURCE_CACHE);
        assert_non_null(strstr(json, answer.sha256));
        struct digest found;
        assert_true(module_find_name(flow.modules, &flow_tenant_a, "r.invalid/x:v1", &found, &err));
        assert_true(module_find_name(flow.modules, &flow_operator, (char[]){ answer.sha256[0], answer.sha256[1], answer.sha256[2], answer.sha256[3], answer.sha256[4], answer.sha256[5],
                    answer.sha256[6], answer.sha256[7], 0 }, &found, &err));
        assert_false(module_find_name(flow.modules, &flow_tenant_b, "r.invalid/x:v1", &found, &err));
        struct buffer text = { 0 };
        assert_true(module_inspect(flow.modules, &found, &(struct json_writer){ .out = &text }, &err));
        assert_non_null(strstr(text.data, "\"import\""));
        buffer_fini(&text);

        for (size_t i = 0; i < COUNT_OF(explanations); i++) {
                char want[64];
                CLEANUP(cleanup_free) char *request = string_copy(explanations[i].json);
                CLEANUP(cleanup_free) char *told = flow_operate(&flow, call_explain, request, &err);
                print_message("%s\n  %s\n", request, told);
                snprintf(want, sizeof want, "{\"verdict\": %s, \"code\": %s,", explanations[i].verdict, explanations[i].code);
                assert_int_equal(strncmp(told, want, strlen(want)), 0);
        }
        assert_int_equal(counts[2], 1);
        module_unlisten(&listener);
}

/* An image that came over an air gap: who pins its manifest or its index, in the field or in the url, has a hit; another name or digest has not. */
static const struct { const char *url, *sha256; enum error_code code; } imported[] = {
        { "r.invalid/x:v1", "", ERROR_NONE },              { "r.invalid/x:v1", MANIFEST, ERROR_NONE },       { "r.invalid/x:v1", INDEX, ERROR_NONE },
        { "r.invalid/x@sha256:" MANIFEST, "", ERROR_NONE }, { "r.invalid/x@sha256:" INDEX, "", ERROR_NONE },  { "r.invalid/x:v2@sha256:" MANIFEST, "", ERROR_NONE },
        { "r.invalid/y@sha256:" MANIFEST, "", ERROR_UPSTREAM_UNREACHABLE },                                   { "r.invalid/x@sha256:" OTHER, "", ERROR_UPSTREAM_UNREACHABLE },
};

static void test_import_with_origin(void **state)
{
        (void)state;
        char path[512];
        struct error err;
        struct import_order order = { .url = "r.invalid/x:v1", .path = path };
        assert_true(digest_parse_hex(MANIFEST, &order.origin.manifest) && digest_parse_hex(INDEX, &order.origin.top));
        flow_open(&flow);
        write_file("i.wasm", "");
        snprintf(path, sizeof path, "%s/i.wasm", flow.files);
        CLEANUP(cleanup_free) char *json = flow_operate(&flow, call_import, &order, &err);
        assert_non_null(json);
        for (size_t i = 0; i < COUNT_OF(imported); i++) {
                CLEANUP(cleanup_free) char *request = string_format("{\"url\":\"%s\",\"sha256\":\"%s\"}", imported[i].url, imported[i].sha256);
                struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "%s", request);
                print_message("%s\n", request);
                if (imported[i].code == ERROR_NONE)
                        check_ok(&answer, MODULE_SOURCE_CACHE);
                else
                        assert_int_equal(answer.err.code, imported[i].code);
        }

        order.url = "r.invalid/x@sha256:" OTHER;
        assert_null(flow_operate(&flow, call_import, &order, &err));
        assert_int_equal(err.code, ERROR_CHECKSUM_MISMATCH);
        order.url = "r.invalid/x@sha256:" INDEX;
        CLEANUP(cleanup_free) char *again = flow_operate(&flow, call_import, &order, &err);
        assert_non_null(again);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_space, begin, end),
                cmocka_unit_test_setup_teardown(test_leases_expire, begin, end),
                cmocka_unit_test_setup_teardown(test_lease_rows_again, begin, end),
                cmocka_unit_test_setup_teardown(test_damage, begin, end),
                cmocka_unit_test_setup_teardown(test_scrub, begin, end),
                cmocka_unit_test_setup_teardown(test_refresh, begin, end),
                cmocka_unit_test_setup_teardown(test_files, begin, end),
                cmocka_unit_test_setup_teardown(test_many_links, begin, end),
                cmocka_unit_test_setup_teardown(test_stop_among_many_links, begin, end),
                cmocka_unit_test_setup_teardown(test_many_links_go, begin, end),
                cmocka_unit_test_setup_teardown(test_http, begin, end),
                cmocka_unit_test_setup_teardown(test_mirrors, begin, end),
                cmocka_unit_test_setup_teardown(test_import_and_explain, begin, end),
                cmocka_unit_test_setup_teardown(test_import_with_origin, begin, end),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
