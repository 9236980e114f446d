/* Every mode of the scripted registry with the code it shall be answered with; descriptors, temporary files and memory stay where they were. */
#include <dirent.h>
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
#include "flow.h"

enum { MODES_MAX = 400, SLOW_MAX = 16, RSS_GROWTH_KIB = 24 << 10 };

static struct flow flow;
static char *key_member;                          /* `,"verificationKey":"…"` of the keys that the modes are signed with */

static size_t rss_kib(void)
{
        size_t pages = 0;
        FILE *file = fopen("/proc/self/statm", "re");
        if (file && fscanf(file, "%*u %zu", &pages) != 1)
                pages = 0;
        fclose(file);
        return pages * 4;
}

static size_t count_files(const char *folder)
{
        size_t count = 0;
        char path[512];
        snprintf(path, sizeof path, "%s/store/%s", flow.root, folder);
        DIR *open_folder = opendir(path);
        for (struct dirent *item; open_folder && (item = readdir(open_folder));)
                count += item->d_name[0] != '.';
        closedir(open_folder);
        return count;
}

static void ask_registry(const char *options, struct buffer *ret_text)
{
        const char *source = getenv("WASMCACHED_SOURCE");
        CLEANUP(cleanup_free) char *command = string_format("exec python3 %s/tests/fake/registry.py %s", source ? source : ".", options);
        FILE *pipe = popen(command, "re");
        char piece[4096];
        for (size_t got; (got = fread(piece, 1, sizeof piece, pipe)) > 0;)
                buffer_append(ret_text, piece, got);
        pclose(pipe);
}

static void load_key(void)
{
        struct buffer pem = { 0 }, json = { 0 };
        struct json_writer writer = { .out = &json };
        ask_registry("--key", &pem);
        json_open_map(&writer, NULL);
        json_put_text(&writer, "verificationKey", pem.data);
        json_close_map(&writer);
        key_member = string_format(",%.*s", (int)json.used - 2, json.data + 1);
        buffer_fini(&pem);
        buffer_fini(&json);
}

static struct value *load_modes(void)
{
        struct buffer text = { 0 };
        struct value *value = NULL;
        struct error err = { 0 };
        ask_registry("--list --json", &text);
        if (!json_parse(text.data, text.used, ERROR_INTERNAL, &value, &err))
                fail_msg("%s", err.text);
        buffer_fini(&text);
        return value;
}

static const char *member(const struct value *mode, const char *name)
{
        const char *text = value_get_text(value_get_member(mode, name));
        return text ? text : "";
}

static bool code_fits(const char *expected, const char *got)
{
        for (const char *at = expected; *at;) {
                size_t length = strcspn(at, "|");
                if (strlen(got) == length && strncmp(at, got, length) == 0)
                        return true;
                at += length + (at[length] == '|');
        }
        return false;
}

/* The digest of v1 as the registry tells it, "" when there is none. */
static void find_digest(const char *repo, char ret_digest[160])
{
        char path[256];
        struct value *value = NULL;
        struct error err;
        snprintf(path, sizeof path, "/_repo?repo=%s", repo);
        CLEANUP(cleanup_free) char *text = flow_http(&flow, "GET", path);
        ret_digest[0] = '\0';
        if (!json_parse(text, strlen(text), ERROR_INTERNAL, &value, &err))
                return;
        const char *digest = value_get_text(value_get_member(value_get_member(value_get_member(value, "tags"), "v1"), "digest"));
        snprintf(ret_digest, 160, "%s", digest ? digest : "");
        value_free(&value);
}

struct run { const struct value *mode; char repo[128]; struct flow_answer answer; };

static bool is_slow(const struct value *mode)
{
        return strstr(member(mode, "needs"), "slow");
}

static void run_start(struct run *run, const struct value *mode)
{
        char json[2048], digest[160];
        const char *needs = member(mode, "needs");
        run->mode = mode;
        snprintf(run->repo, sizeof run->repo, "mode/%s", member(mode, "name"));
        find_digest(run->repo, digest);
        bool by_digest = strstr(needs, "digest") && *digest;
        snprintf(json, sizeof json, "{\"url\":\"127.0.0.1:%d/%s%s%s\",\"timeout\":\"45s\"%s%s}", flow.port, run->repo, by_digest ? "@" : ":", by_digest ? digest : "v1",
                 strstr(needs, "login") ? ",\"imagePullSecret\":\"pull\"" : "", strstr(needs, "key") ? key_member : "");
        flow_start(&flow, json, &flow_tenant_a, &run->answer);
}

static bool run_check(const struct run *run)
{
        const char *expected = member(run->mode, "code"), *got = run->answer.is_ok ? "ok" : error_get_row(run->answer.err.code)->name;
        print_message("%s: %s %s\n", run->repo, got, run->answer.is_ok ? "" : run->answer.err.text);
        if (code_fits(expected, got) && (run->answer.is_ok || *run->answer.err.text))
                return true;
        print_error("%s: expected %s, got %s\n", run->repo, expected, got);
        return false;
}

/* Those that wait for a timeout of ours wait together. */
static size_t run_slow(const struct value *modes, const char *only)
{
        static struct run runs[SLOW_MAX];
        size_t count = 0, failed = 0;
        for (size_t i = 0; i < value_get_count(modes) && count < SLOW_MAX; i++) {
                const struct value *mode = value_get_item(modes, i);
                if (is_slow(mode) && (!only || strcmp(only, member(mode, "name")) == 0))
                        run_start(&runs[count++], mode);
        }
        for (size_t i = 0; i < count; i++) {
                flow_wait(&flow, &runs[i].answer, 1);
                failed += !run_check(&runs[i]);
        }
        return failed;
}

static void test_modes(void **state)
{
        (void)state;
        struct value *modes = load_modes();
        load_key();
        size_t failed = 0, ran = 0;
        flow_init(&flow);
        flow.fetch_options.progress_timeout_ms = 2000;     /* the drip of a byte a second is to pass, on a busy machine too */
        flow.fetch_options.retries = 2;
        flow.options.slots = flow.options.slots_per_host = SLOW_MAX;
        flow_open(&flow);
        char config[512];
        snprintf(config, sizeof config, "{\"auths\":{\"127.0.0.1:%d\":{\"username\":\"pull\",\"password\":\"secret\"}}}", flow.port);
        flow_secret(&flow, "team-a", "pull", config);

        size_t rss = 0;
        const char *only = getenv("FLOW_MODE");           /* one mode alone, for whoever looks into it */
        for (size_t i = 0; i < value_get_count(modes) && i < MODES_MAX; i++) {
                const struct value *mode = value_get_item(modes, i);
                if (strstr(member(mode, "needs"), "tls") || (only && strcmp(only, member(mode, "name")) != 0))
                        continue;
                if (is_slow(mode))
                        continue;
                struct run run;
                run_start(&run, mode);
                flow_wait(&flow, &run.answer, 1);
                failed += !run_check(&run);
                if (++ran == 20)
                        rss = rss_kib();
        }
        failed += run_slow(modes, only);
        print_message("%zu modes, memory %zu → %zu KiB\n", ran, rss, rss_kib());
        value_free(&modes);
        free(key_member);
        assert_true(only || ran >= 60);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
        for (int i = 0; i < 20 && rss_kib() >= rss + RSS_GROWTH_KIB; i++)
                flow_run_ms(&flow, 250);          /* idle: what pulls left behind is given back */
        print_message("idle: %zu KiB\n", rss_kib());
        assert_true(rss_kib() < rss + RSS_GROWTH_KIB);
#endif
        assert_int_equal(count_files("tmp"), 0);
        assert_int_equal(count_files("quarantine"), 0);
        flow_fini(&flow);
        assert_int_equal(failed, 0);
}

/* Every file of the http source with the code it shall be answered with, by its own address and with the right sha256. */
static void test_files(void **state)
{
        (void)state;
        size_t failed = 0;
        struct value *files = NULL;
        struct error err;
        flow_init(&flow);
        flow_open(&flow);
        CLEANUP(cleanup_free) char *text = flow_http(&flow, "GET", "/files/");
        assert_true(json_parse(text, strlen(text), ERROR_INTERNAL, &files, &err));
        assert_true(value_get_count(files) > 10);
        for (size_t i = 0; i < value_get_count(files); i++) {
                const struct value *file = value_get_item(files, i);
                const char *name = value_get_key(files, i), *expected = member(file, "code");
                struct flow_answer answer = flow_get(&flow, &flow_tenant_a, "{\"url\":\"http://127.0.0.1:%d/files/%s\"}", flow.port, name);
                const char *got = answer.is_ok ? "ok" : error_get_row(answer.err.code)->name;
                if (!code_fits(expected, got)) {
                        print_error("%s: expected %s, got %s: %s\n", name, expected, got, answer.err.text);
                        failed++;
                }
        }
        value_free(&files);
        assert_int_equal(count_files("tmp"), 0);
        flow_fini(&flow);
        assert_int_equal(failed, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_files), cmocka_unit_test(test_modes) };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        loop_free(&flow.loop);
        return failed;
}
