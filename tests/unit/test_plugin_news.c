/* What is told of refused plugins, and when: where they concern a workload, be it one that comes later; once; and a recovery only of what was told. */
#include "plugin_tools.h"
#include "../../agent/plugin/keeper.h"

static struct keeper keeper;
static struct buffer told;

static void note(void *arg, const struct keeper_news *news)
{
        static const char signs[] = { [KEEPER_PULLED] = '+', [KEEPER_REFUSED] = '!', [KEEPER_RECOVERED] = '~' };
        assert_ptr_equal(arg, &told);
        if (news->concerns)
                buffer_printf(&told, "%s%c%s", told.used > 0 ? " " : "", signs[news->happening], news->plugin->name);
        assert_true(news->happening != KEEPER_REFUSED || (news->code && strstr(news->detail, "spec.")));
}

static void expect(const char *text)
{
        assert_string_equal(told.data ? told.data : "", text);
        buffer_clear(&told);
}

static void changed(void *arg, const struct plugin *before, const struct plugin *after)
{
        resource_news(arg, before, after);
}

#pragma GCC diagnostic ignored "-Wdiscarded-qualifiers"
static struct plugin_label web = { "app", "web" }, db = { "app", "db" };
static const struct plugin_pod pods[] = { { .namespace = "team", .name = "web", .labels = &web, .label_count = 1 }, { .namespace = "team", .name = "db", .labels = &db, .label_count = 1 },
        { .namespace = "other", .name = "web", .labels = &web, .label_count = 1 } };
static const struct plugin_pod *here[COUNT_OF(pods)];

/* These Pods are here now, and a round goes over them. */
static void go_round(const char *which)
{
        keeper.pod_count = 0;
        for (size_t i = 0; i < COUNT_OF(pods); i++)
                if (strchr(which, (int)('0' + i)))
                        here[keeper.pod_count++] = &pods[i];
        keeper.pods = here;
        for (size_t i = 0; i < keeper.pod_count; i++) {
                const struct plugin_workload workload = { .namespace = here[i]->namespace, .labels = here[i]->labels, .label_count = here[i]->label_count };
                struct plugin_chain chain;
                plugins_select(keeper.plugins, &workload, &(struct plugin_traffic){ PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE }, &chain);
                news_come_by(&keeper, &workload, &chain);
        }
        news_round_over(&keeper);
}

static void put(const char *namespace, const char *name, const char *spec)
{
        plugins_put(keeper.plugins, "s", plugin_of("WasmPlugin", namespace, name, spec));
}

static int make(void **state)
{
        (void)state;
        static char root[] = "istio-system", source[] = "kubernetes/pods";
        keeper = (struct keeper){ .root_namespace = root, .pods_told_by = source, .asked = map_new(NULL) };
        keeper.plugins = plugins_new(&(struct plugins_options){ .changed = changed, .arg = &keeper });
        news_init(&keeper);
        keeper_set_teller(&keeper, note, &told);
        return 0;
}

static int unmake(void **state)
{
        (void)state;
        plugins_free(&keeper.plugins);
        news_free(&keeper);
        map_free(&keeper.asked);
        buffer_fini(&told);
        return 0;
}

#define BAD ", url: \"oci://UPPER\""
#define FOR(app) "selector: {matchLabels: {app: " app "}}"

static void test_pod_comes_later(void **state)
{
        (void)state;
        put("team", "w", FOR("web") BAD);
        put("team", "d", FOR("db") BAD);
        put("istio-system", "all", "phase: AUTHN" BAD);
        put("team", "good", FOR("web") ", url: r.example/a");
        expect("");
        go_round("");
        expect("");
        go_round("2");
        expect("!all");                                    /* of the root namespace, for all */
        go_round("02");
        expect("!w");
        go_round("02");
        go_round("012");
        expect("!d");
        assert_false(news_are_waiting(&keeper));
        put("team", "w", FOR("web") BAD ", priority: 1");         /* another one, no better: said at once, its workload is here */
        expect("!w");
        put("team", "w", FOR("web") ", url: r.example/a");
        expect("~w");
        plugins_remove(keeper.plugins, "s", PLUGIN_WASM_PLUGIN, "team", "d");
        go_round("012");
        expect("");
}

static void test_repaired_before_anybody_came(void **state)
{
        (void)state;
        put("team", "w", FOR("web") BAD);
        put("team", "w", FOR("web") ", url: r.example/a");
        put("team", "x", FOR("web") BAD);
        plugins_remove(keeper.plugins, "s", PLUGIN_WASM_PLUGIN, "team", "x");
        assert_false(news_are_waiting(&keeper));
        go_round("0");
        expect("");
}

/* One whose selection cannot be read may be meant for every workload of its namespace. */
static void test_unplaced(void **state)
{
        (void)state;
        put("team", "u", "selector: 7, url: r.example/a");
        put("third", "t", "selector: 7, url: r.example/a");
        put("istio-system", "r", "selector: 7, url: r.example/a");
        assert_int_equal(keeper.untold_unplaced, 3);
        go_round("");
        expect("");
        go_round("2");
        expect("!r");
        go_round("12");
        expect("!u");
        go_round("012");
        expect("");
        assert_int_equal(keeper.untold_unplaced, 1);
        plugins_remove(keeper.plugins, "s", PLUGIN_WASM_PLUGIN, "third", "t");
        assert_int_equal(keeper.untold_unplaced, 0);
}

/* Nobody tells of Pods: who reads the manifests is concerned. Nobody listens: nothing is kept. */
static void test_without_pods(void **state)
{
        (void)state;
        keeper.pods_told_by = NULL;
        put("team", "w", FOR("web") BAD);
        expect("!w");
        keeper.pods_told_by = (char[]){ "x" };
        put("team", "v", FOR("web") BAD);
        assert_true(news_are_waiting(&keeper));
        keeper_set_teller(&keeper, NULL, NULL);
        assert_false(news_are_waiting(&keeper));
        put("team", "x", FOR("web") BAD);
        keeper_set_teller(&keeper, note, &told);
        go_round("0");
        expect("");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_pod_comes_later, make, unmake), cmocka_unit_test_setup_teardown(test_repaired_before_anybody_came, make, unmake),
                cmocka_unit_test_setup_teardown(test_unplaced, make, unmake), cmocka_unit_test_setup_teardown(test_without_pods, make, unmake),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
