/* The set of resources: sources, the same object twice, replacement of all of a source, what is told of changes, and the listing with its continuation. */
#include "plugin_tools.h"
#include <malloc.h>

#define URL "url: r.example/a"

/* What changed, as one text: "+ns/name", "-ns/name", "~ns/name(spec url)". */
static struct buffer told;
static void note(void *arg, const struct plugin *before, const struct plugin *after)
{
        const struct plugin *plugin = after ? after : before;
        assert_ptr_equal(arg, &told);
        buffer_printf(&told, "%s%s%s/%s", told.used > 0 ? " " : "", before && after ? "~" : after ? "+" : "-", plugin->namespace, plugin->name);
}

static void expect_told(const char *text)
{
        assert_string_equal(told.data ? told.data : "", text);
        buffer_clear(&told);
}

static struct plugins *set_new(void)
{
        buffer_fini(&told);
        return plugins_new(&(struct plugins_options){ .changed = note, .arg = &told });
}

static struct plugin *wasm(const char *namespace, const char *name, const char *more)
{
        CLEANUP(cleanup_free) char *spec = string_format(URL "%s", more);
        return plugin_of("WasmPlugin", namespace, name, spec);
}

static void each_row(void *arg, const struct plugin_row *row)
{
        struct buffer *text = arg;
        buffer_printf(text, "%s%s%s/%s@%s%s%s", text->used > 0 ? " " : "", row->plugin->kind == PLUGIN_TRAFFIC_EXTENSION ? "T:" : "", row->plugin->namespace, row->plugin->name, row->source,
                row->shadowed_by ? "<" : "", row->shadowed_by ? row->shadowed_by : "");
}

static void expect_list(struct plugins *plugins, const char *namespace, const char *expected)
{
        struct buffer text = { 0 };
        CLEANUP(cleanup_free) char *more = NULL;
        struct error err;
        assert_true(plugins_list(plugins, &(struct plugin_page){ namespace, NULL, 1000, each_row, &text }, &more, &err));
        assert_null(more);
        CLEANUP(cleanup_free) char *found = buffer_take(&text);
        assert_string_equal(found, expected);
}

static void test_put_and_remove(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        plugins_put(plugins, "kube", wasm("team", "a", ""));
        expect_told("+team/a");
        plugins_put(plugins, "kube", wasm("team", "a", ""));              /* the same again */
        expect_told("");
        plugins_put(plugins, "kube", wasm("team", "a", ", priority: 1"));
        expect_told("~team/a");
        assert_int_equal(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "a")->priority, 1);
        assert_null(plugins_find(plugins, PLUGIN_TRAFFIC_EXTENSION, "team", "a"));
        plugins_put(plugins, "kube", plugin_of("TrafficExtension", "team", "a", "wasm: {" URL "}"));          /* another object */
        expect_told("+team/a");
        expect_list(plugins, NULL, "T:team/a@kube team/a@kube");
        assert_false(plugins_remove(plugins, "file", PLUGIN_WASM_PLUGIN, "team", "a"));
        assert_false(plugins_remove(plugins, "kube", PLUGIN_WASM_PLUGIN, "team", "b"));
        expect_told("");
        assert_true(plugins_remove(plugins, "kube", PLUGIN_WASM_PLUGIN, "team", "a"));
        expect_told("-team/a");
        assert_int_equal(plugins_get_count(plugins), 1);
        assert_null(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "a"));
}

static void test_replace(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        struct plugin *first[] = { wasm("team", "a", ""), wasm("team", "b", ""), wasm("other", "c", "") };
        plugins_replace(plugins, "kube", first, COUNT_OF(first));
        expect_told("+team/a +team/b +other/c");
        plugins_put(plugins, "file", wasm("team", "z", ""));
        buffer_clear(&told);
        struct plugin *second[] = { wasm("team", "d", ""), wasm("team", "b", ""), wasm("other", "c", ", priority: 2") };
        plugins_replace(plugins, "kube", second, COUNT_OF(second));
        expect_told("+team/d ~other/c -team/a");
        expect_list(plugins, NULL, "other/c@kube team/b@kube team/d@kube team/z@file");
        plugins_replace(plugins, "kube", NULL, 0);
        expect_list(plugins, NULL, "team/z@file");
        plugins_replace(plugins, "nobody", NULL, 0);
        plugins_replace(plugins, "file", NULL, 0);
        expect_list(plugins, NULL, "");
        assert_int_equal(plugins_get_count(plugins), 0);
}

/* In parts: what is as it was is confirmed, what is not comes with the end, which takes the rest away. */
static void test_list_in_parts(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        CLEANUP(plugin_unref) struct plugin *same = wasm("team", "a", ""), *other = wasm("team", "b", ", priority: 1"), *new = wasm("team", "n", "");
        uint64_t list = plugins_list_open(plugins);
        assert_false(plugins_list_confirm(plugins, "kube", list, same));                       /* no such source yet */
        plugins_list_put(plugins, "kube", list, wasm("team", "a", ""));
        expect_told("+team/a");                                            /* at once */
        plugins_list_put(plugins, "kube", list, wasm("team", "b", ""));
        plugins_list_put(plugins, "kube", list, wasm("team", "c", ""));
        plugins_list_close(plugins, "kube", list, NULL, 0);
        expect_told("+team/b +team/c");
        plugins_put(plugins, "file", wasm("team", "z", ""));
        buffer_clear(&told);

        list = plugins_list_open(plugins);
        assert_false(plugins_list_confirm(plugins, "file", list, same));                       /* another source's */
        assert_true(plugins_list_confirm(plugins, "kube", list, same) && plugins_list_confirm(plugins, "kube", list, same));
        assert_false(plugins_list_confirm(plugins, "kube", list, other) || plugins_list_confirm(plugins, "kube", list, new));
        expect_list(plugins, NULL, "team/a@kube team/b@kube team/c@kube team/z@file");
        struct plugin *rest[] = { plugin_ref(other), plugin_ref(new) };
        plugins_list_close(plugins, "kube", list, rest, COUNT_OF(rest));
        expect_told("~team/b +team/n -team/c");
        expect_list(plugins, NULL, "team/a@kube team/b@kube team/n@kube team/z@file");

        /* Nothing in it; then a list that was not closed, whose marks are worth nothing for the next one. */
        list = plugins_list_open(plugins);
        assert_true(plugins_list_confirm(plugins, "kube", list, same));
        list = plugins_list_open(plugins);
        assert_true(plugins_list_confirm(plugins, "kube", list, new));
        plugins_list_close(plugins, "kube", list, NULL, 0);
        expect_list(plugins, NULL, "team/n@kube team/z@file");
        plugins_list_close(plugins, "kube", plugins_list_open(plugins), NULL, 0);
        plugins_list_close(plugins, "nobody", plugins_list_open(plugins), NULL, 0);
        expect_list(plugins, NULL, "team/z@file");
}

/* An object that changes, or goes, while its list is under way: the last of it counts, and only once. */
static void test_list_with_changes(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        CLEANUP(plugin_unref) struct plugin *first = wasm("team", "a", "");
        plugins_put(plugins, "kube", wasm("team", "a", ""));
        plugins_put(plugins, "kube", wasm("team", "b", ""));
        plugins_put(plugins, "kube", wasm("team", "c", ""));
        uint64_t list = plugins_list_open(plugins);
        assert_true(plugins_list_confirm(plugins, "kube", list, first));
        plugins_list_put(plugins, "kube", list, wasm("team", "b", ", priority: 1"));
        plugins_list_put(plugins, "kube", list, wasm("team", "b", ", priority: 2"));
        assert_true(plugins_remove(plugins, "kube", PLUGIN_WASM_PLUGIN, "team", "b"));
        struct plugin *rest[] = { wasm("team", "a", ", priority: 3"), wasm("team", "a", ", priority: 4"), wasm("team", "n", "") };
        plugins_list_close(plugins, "kube", list, rest, COUNT_OF(rest));
        expect_list(plugins, NULL, "team/a@kube team/n@kube");
        assert_int_equal(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "a")->priority, 4);
}

static int counted(void *arg)
{
        struct plugins *plugins = arg;
        CLEANUP(test_workload_fini) struct test_workload asks;
        test_workload_init(&asks, "team", "");
        struct plugin_chain chain;
        plugins_select(plugins, &asks.workload, &(struct plugin_traffic){ PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE }, &chain);
        return chain.count > 0 ? (int)chain.items[0]->priority : -1;
}

/* The first source name wins, the others wait in line, and none of them is in a chain meanwhile. */
static void test_shadows(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        plugins_put(plugins, "b.yaml", wasm("team", "p", ", priority: 2"));
        assert_int_equal(counted(plugins), 2);
        plugins_put(plugins, "c.yaml", wasm("team", "p", ", priority: 3"));
        expect_told("+team/p");
        assert_int_equal(counted(plugins), 2);
        plugins_put(plugins, "a.yaml", wasm("team", "p", ", priority: 1"));
        expect_told("~team/p");
        assert_int_equal(counted(plugins), 1);
        expect_list(plugins, NULL, "team/p@a.yaml team/p@b.yaml<a.yaml team/p@c.yaml<a.yaml");
        plugins_put(plugins, "c.yaml", wasm("team", "p", ", priority: 4"));                    /* one that waits */
        expect_told("");
        plugins_replace(plugins, "a.yaml", NULL, 0);
        expect_told("~team/p");
        assert_int_equal(counted(plugins), 2);
        plugins_replace(plugins, "b.yaml", NULL, 0);
        assert_int_equal(counted(plugins), 4);
        /* A broken one that comes first stands there, refused: nobody's content counts by accident. */
        plugins_put(plugins, "0.yaml", wasm("team", "p", ", priority: 9, sha256: X"));
        assert_int_equal(counted(plugins), 9);
        assert_int_equal(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "p")->state, PLUGIN_REFUSED);
}

/* Twice in one file: the first counts; a file of nothing but repeats costs little. */
static void test_repeats(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        struct plugin *items[] = { wasm("team", "p", ", priority: 1"), wasm("team", "q", ""), wasm("team", "p", ", priority: 2"), wasm("team", "p", ", priority: 3") };
        plugins_replace(plugins, "f", items, COUNT_OF(items));
        expect_told("+team/p +team/q");
        expect_list(plugins, NULL, "team/p@f team/p@f<f team/p@f<f team/q@f");
        assert_int_equal(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "p")->priority, 1);
        struct plugin *fewer[] = { wasm("team", "p", ", priority: 2"), wasm("team", "q", "") };
        plugins_replace(plugins, "f", fewer, COUNT_OF(fewer));
        expect_told("~team/p");
        expect_list(plugins, NULL, "team/p@f team/q@f");
        assert_int_equal(plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "p")->priority, 2);

        enum { MANY = 5000 };
        CLEANUP(cleanup_free) struct plugin **many = memory_new(MANY, sizeof *many);
        CLEANUP(plugin_unref) struct plugin *one = wasm("team", "p", "");
        for (size_t i = 0; i < MANY; i++)
                many[i] = plugin_ref(one);
        plugins_replace(plugins, "f", many, MANY);
        assert_in_range(plugins_get_count(plugins), 2, 100);
        plugins_replace(plugins, "f", NULL, 0);
        assert_int_equal(plugins_get_count(plugins), 0);
}

/* A change is told when all of it is in place, and what it was is still there to look at. */
static struct plugins *asked;
static void look(void *arg, const struct plugin *before, const struct plugin *after)
{
        bool is_second = ++*(unsigned *)arg > 2;          /* b and c, then a comes and c goes */
        assert_non_null(plugins_find(asked, PLUGIN_WASM_PLUGIN, "team", "b"));
        assert_true((plugins_find(asked, PLUGIN_WASM_PLUGIN, "team", "a") != NULL) == is_second);
        assert_true((plugins_find(asked, PLUGIN_WASM_PLUGIN, "team", "c") != NULL) == !is_second);
        assert_true(before ? strcmp(before->name, "c") == 0 && !after : !is_second || strcmp(after->name, "a") == 0);
}

static void test_told_after(void **state)
{
        (void)state;
        unsigned count = 0;
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ .changed = look, .arg = &count });
        struct plugin *first[] = { wasm("team", "b", ""), wasm("team", "c", "") }, *second[] = { wasm("team", "a", ""), wasm("team", "b", "") };
        asked = plugins;
        plugins_replace(plugins, "s", first, COUNT_OF(first));
        plugins_replace(plugins, "s", second, COUNT_OF(second));
        assert_int_equal(count, 4);
}

static void test_pages(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        for (unsigned i = 0; i < 25; i++) {
                CLEANUP(cleanup_free) char *name = string_format("p%02u", i);
                plugins_put(plugins, "s", wasm(i % 5 == 0 ? "other" : "team", name, ""));
        }
        for (size_t limit = 1; limit < 30; limit++)
                for (int narrow = 0; narrow < 2; narrow++) {
                        CLEANUP(buffer_fini) struct buffer paged = { 0 }, whole = { 0 };
                        CLEANUP(cleanup_free) char *after = NULL;
                        const char *namespace = narrow ? "team" : NULL;
                        struct error err;
                        unsigned pages = 0;
                        do {
                                char *next;
                                assert_true(plugins_list(plugins, &(struct plugin_page){ namespace, after, limit, each_row, &paged }, &next, &err));
                                assert_true(!next || next[strspn(next, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")] == '\0');
                                free(after);
                                after = next;
                        } while (after && ++pages < 30);
                        char *none;
                        assert_true(plugins_list(plugins, &(struct plugin_page){ namespace, NULL, SIZE_MAX, each_row, &whole }, &none, &err));
                        assert_null(none);
                        assert_string_equal(paged.data, whole.data);
                        assert_int_equal(pages, ((narrow ? 20 : 25) - 1) / limit);
                }
        /* What went away or came between two pages shifts nothing. */
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(cleanup_free) char *after = NULL, *none = NULL;
        struct error err;
        assert_true(plugins_list(plugins, &(struct plugin_page){ "other", NULL, 2, each_row, &text }, &after, &err));
        assert_true(plugins_remove(plugins, "s", PLUGIN_WASM_PLUGIN, "other", "p05"));
        plugins_put(plugins, "s", wasm("other", "p00a", ""));
        plugins_put(plugins, "s", wasm("other", "p06", ""));
        assert_true(plugins_list(plugins, &(struct plugin_page){ "other", after, 100, each_row, &text }, &none, &err));
        assert_string_equal(text.data, "other/p00@s other/p05@s other/p06@s other/p10@s other/p15@s other/p20@s");
        expect_list(plugins, "nobody", "");
        expect_list(plugins, "othe", "");

        char *untouched = NULL;
        static const char *const bad[] = { "", "!", "AAAA", "dGVhbQ", "dGVhbQBwMDEAcwA5IDA", "dGVhbQBwMDEAcwAxIDAx+", "dGVhbQBwMDEAcwAxIA", "dGVhbQBwMDEAcwAxIDAx eA" };
        for (size_t i = 0; i < COUNT_OF(bad); i++)
                if (plugins_list(plugins, &(struct plugin_page){ NULL, bad[i], 10, each_row, &text }, &untouched, &err) || err.code != ERROR_BAD_REQUEST || !strstr(err.text, "continue"))
                        fail_msg("\"%s\" → %s", bad[i], err.text);
        assert_false(plugins_list(plugins, &(struct plugin_page){ "team", after, 10, each_row, &text }, &untouched, &err));
        CLEANUP(cleanup_free) char *huge = memory_new(10000, 1);
        memset(huge, 'A', 9999);
        assert_false(plugins_list(plugins, &(struct plugin_page){ NULL, huge, 10, each_row, &text }, &untouched, &err));
}

/* 10 000 plugins of ordinary size: at most 2 KiB each, index and texts included. Sanitizers and valgrind count otherwise. */
static void test_memory(void **state)
{
        (void)state;
        enum { COUNT = 10000 };
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        CLEANUP(cleanup_free) struct plugin **items = memory_new(COUNT, sizeof *items);
        size_t before = mallinfo2().uordblks;
        for (unsigned i = 0; i < COUNT; i++) {
                CLEANUP(cleanup_free) char *namespace = string_format("ns%u", i % 100), *name = string_format("plugin-%u", i);
                items[i] = wasm(namespace, name, ", selector: {matchLabels: {app: web}}, pluginConfig: {a: 1, b: text}, match: [{mode: SERVER, ports: [{number: 8080}]}], vmConfig: {env: [{name: A, value: x}]}");
        }
        plugins_replace(plugins, "kube", items, COUNT);
        size_t after = mallinfo2().uordblks;
        if (after > before)
                assert_in_range((after - before) / COUNT, 0, 2048);
        assert_int_equal(plugins_get_count(plugins), COUNT);
}

/* What lies on the node holds against what a server says, whatever its file is called. */
static void test_files_go_first(void **state)
{
        (void)state;
        static const char *const sorted[] = { "a.yaml", "kubernetes.yaml", "zzz.yaml", "\xc3\xbc.yaml", "kubernetes/pods", "kubernetes/wasmplugins" };
        for (size_t i = 0; i < COUNT_OF(sorted); i++)
                for (size_t k = 0; k < COUNT_OF(sorted); k++) {
                        int order = plugin_compare_sources(sorted[i], sorted[k]);
                        assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
                }
        CLEANUP(plugins_free) struct plugins *plugins = set_new();
        plugins_put(plugins, "kubernetes/wasmplugins", wasm("team", "a", ", priority: 1"));
        plugins_put(plugins, "zzz.yaml", wasm("team", "a", ", priority: 2"));
        expect_list(plugins, NULL, "team/a@kubernetes/wasmplugins<zzz.yaml team/a@zzz.yaml");
        const struct plugin *first = plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "a");
        assert_string_equal(plugins_get_source(plugins, first), "zzz.yaml");
        plugins_remove(plugins, "zzz.yaml", PLUGIN_WASM_PLUGIN, "team", "a");
        assert_string_equal(plugins_get_source(plugins, plugins_find(plugins, PLUGIN_WASM_PLUGIN, "team", "a")), "kubernetes/wasmplugins");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_put_and_remove), cmocka_unit_test(test_files_go_first),
                cmocka_unit_test(test_replace), cmocka_unit_test(test_list_in_parts), cmocka_unit_test(test_list_with_changes),
                cmocka_unit_test(test_shadows), cmocka_unit_test(test_repeats), cmocka_unit_test(test_told_after), cmocka_unit_test(test_pages), cmocka_unit_test(test_memory),
        };
        int failed = cmocka_run_group_tests(tests, NULL, NULL);
        buffer_fini(&told);
        return failed;
}
