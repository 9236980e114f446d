/* Who sees which plugin, on which traffic, in which order: contract section 5, and Istio's measured answers (ties, waypoints, match). */
#include "plugin_tools.h"

#define URL "url: r.example/a"
#define GW "gateway.networking.k8s.io/gateway-name=gw"
#define WAYPOINT GW " gateway.istio.io/managed=istio.io-mesh-controller"
#define REF(group, kind, name) URL ", targetRefs: [{group: '" group "', kind: " kind ", name: " name "}]"
#define GATEWAY(name) REF("gateway.networking.k8s.io", "Gateway", name)
#define CLASS(name) REF("gateway.networking.k8s.io", "GatewayClass", name)
#define SERVICE(name) REF("", "Service", name)
#define ENTRY(name) REF("networking.istio.io", "ServiceEntry", name)
#define SELECTOR(labels) URL ", selector: {matchLabels: {" labels "}}"

static const struct plugin_service services[] = { { false, "team", "svc" }, { true, "other", "se" } };

/* One plugin, one workload (of the services above where it is a waypoint). */
static const struct { const char *namespace, *spec, *asks, *labels; enum plugin_fit fit; } rows[] = {
        { "team",         URL,                                      "team", "",                    PLUGIN_FIT_YES },
        { "istio-system", URL,                                      "team", "",                    PLUGIN_FIT_YES },
        { "other",        URL,                                      "team", "",                    PLUGIN_FIT_NAMESPACE },
        { "team",         URL,                                      "istio-system", "",            PLUGIN_FIT_NAMESPACE },
        { "istio-system", URL,                                      "istio-system", "",            PLUGIN_FIT_YES },
        { "team",         SELECTOR("app: a"),                       "team", "app=a v=1",           PLUGIN_FIT_YES },
        { "team",         SELECTOR("v: '1', app: a"),               "team", "app=a b=c v=1",       PLUGIN_FIT_YES },
        { "team",         SELECTOR("app: a, v: '2'"),               "team", "app=a v=1",           PLUGIN_FIT_LABELS },
        { "team",         SELECTOR("app: a"),                       "team", "",                    PLUGIN_FIT_LABELS },
        { "team",         SELECTOR("zz: a"),                        "team", "app=a",               PLUGIN_FIT_LABELS },
        { "team",         SELECTOR("app: ''"),                      "team", "app=",                PLUGIN_FIT_YES },
        { "team",         SELECTOR("app: ''"),                      "team", "",                    PLUGIN_FIT_LABELS },
        { "team",         SELECTOR(""),                             "team", "",                    PLUGIN_FIT_YES },
        { "team",         URL ", selector: {}",                     "team", "x=y",                 PLUGIN_FIT_YES },
        { "team",         GATEWAY("gw"),                            "team", "app=a",               PLUGIN_FIT_TARGETS },
        { "team",         SERVICE("svc"),                           "team", "app=a",               PLUGIN_FIT_TARGETS },
        { "team",         GATEWAY("gw"),                            "team", GW,                    PLUGIN_FIT_YES },
        { "team",         URL ", targetRef: {group: gateway.networking.k8s.io, kind: Gateway, name: gw}", "team", GW, PLUGIN_FIT_YES },
        { "team",         GATEWAY("gw2"),                           "team", GW,                    PLUGIN_FIT_TARGETS },
        { "istio-system", GATEWAY("gw"),                            "team", GW,                    PLUGIN_FIT_TARGETS },
        { "team",         SELECTOR("app: a"),                       "team", GW " app=a",           PLUGIN_FIT_YES },
        { "istio-system", URL,                                      "team", GW,                    PLUGIN_FIT_YES },
        { "istio-system", CLASS("istio-waypoint"),                  "team", GW,                    PLUGIN_FIT_TARGETS },
        { "team",         SERVICE("svc"),                           "team", GW,                    PLUGIN_FIT_TARGETS },
        { "team",         URL,                                      "team", WAYPOINT,              PLUGIN_FIT_TARGETS_ONLY },
        { "istio-system", URL,                                      "team", WAYPOINT,              PLUGIN_FIT_TARGETS_ONLY },
        { "team",         SELECTOR("app: a"),                       "team", WAYPOINT " app=a",     PLUGIN_FIT_TARGETS_ONLY },
        { "team",         GATEWAY("gw"),                            "team", WAYPOINT,              PLUGIN_FIT_YES },
        { "istio-system", GATEWAY("gw"),                            "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "team",         URL ", targetRef: {kind: Service, name: svc}", "team", WAYPOINT,         PLUGIN_FIT_YES },
        { "team",         URL ", targetRefs: [{kind: Service, name: x}, {kind: Service, name: svc}]", "team", WAYPOINT, PLUGIN_FIT_YES },
        { "istio-system", CLASS("istio-waypoint"),                  "team", WAYPOINT,              PLUGIN_FIT_YES },
        { "team",         CLASS("istio-waypoint"),                  "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "istio-system", CLASS("istio"),                           "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "team",         SERVICE("svc"),                           "team", WAYPOINT,              PLUGIN_FIT_YES },
        { "team",         SERVICE("se"),                            "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "other",        ENTRY("se"),                              "team", WAYPOINT,              PLUGIN_FIT_YES },
        { "other",        SERVICE("se"),                            "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "team",         ENTRY("se"),                              "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "istio-system", SERVICE("svc"),                           "team", WAYPOINT,              PLUGIN_FIT_TARGETS },
        { "third",        SERVICE("svc"),                           "team", WAYPOINT,              PLUGIN_FIT_NAMESPACE },
        { "team",         URL,                                      "team", "gateway.istio.io/managed=istio.io-mesh-controller", PLUGIN_FIT_YES },
        { "team",         URL,                                      "team", GW " gateway.istio.io/managed=other", PLUGIN_FIT_YES },
        { "team",         URL ", phase: X",                         "team", "",                    PLUGIN_FIT_UNPLACED },
        { "team",         URL ", sha256: X",                        "team", "",                    PLUGIN_FIT_YES },
        { "team",         URL ", selector: {matchLabels: {a: '*'}}", "team", "a=b",                PLUGIN_FIT_UNPLACED },
};

static void test_selection(void **state)
{
        (void)state;
        static const struct plugin_traffic any = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", rows[i].namespace, "p", rows[i].spec);
                CLEANUP(test_workload_fini) struct test_workload asks;
                test_workload_init(&asks, rows[i].asks, rows[i].labels);
                asks.workload.services = services;
                asks.workload.service_count = COUNT_OF(services);
                plugins_put(plugins, "s", plugin_ref(plugin));
                CLEANUP(cleanup_free) char *chain = chain_text(plugins, &asks.workload, NULL);
                enum plugin_fit fit = plugin_get_fit(plugin, "istio-system", &asks.workload, &any);
                if (fit != rows[i].fit || strcmp(chain, fit == PLUGIN_FIT_YES ? "p" : "") != 0)
                        fail_msg("row %zu (%s, %s → %s %s): %s; chain \"%s\"", i, rows[i].namespace, rows[i].spec, rows[i].asks, rows[i].labels, plugin_fit_text(fit), chain);
        }
        CLEANUP(plugin_unref) struct plugin *lua = plugin_of("TrafficExtension", "team", "p", "lua: {inlineCode: x}");
        CLEANUP(test_workload_fini) struct test_workload asks;
        test_workload_init(&asks, "team", "");
        assert_int_equal(plugin_get_fit(lua, "istio-system", &asks.workload, &any), PLUGIN_FIT_IGNORED);
}

#define IN PLUGIN_INBOUND
#define OUT PLUGIN_OUTBOUND
#define GATE PLUGIN_GATEWAY_TRAFFIC
#define NONE PLUGIN_ANY_DIRECTION
#define MATCH(entries) URL ", match: [" entries "]"
static const struct { const char *spec; enum plugin_direction direction; unsigned short port; bool fits; } traffic_rows[] = {
        { URL, IN, 80, true }, { URL, OUT, 0, true }, { MATCH(""), IN, 80, true }, { MATCH("{}"), IN, 80, true }, { MATCH("{}"), GATE, 0, true },
        { MATCH("{mode: SERVER}"), IN, 80, true }, { MATCH("{mode: SERVER}"), OUT, 80, false }, { MATCH("{mode: SERVER}"), GATE, 80, false }, { MATCH("{mode: SERVER}"), NONE, 0, true },
        { MATCH("{mode: CLIENT}"), IN, 80, false }, { MATCH("{mode: CLIENT}"), OUT, 80, true }, { MATCH("{mode: CLIENT}"), GATE, 80, true },
        { MATCH("{mode: UNDEFINED}"), IN, 80, true }, { MATCH("{mode: CLIENT_AND_SERVER}"), OUT, 80, true },
        /* ports */
        { MATCH("{ports: [{number: 80}, {number: 443}]}"), IN, 443, true }, { MATCH("{ports: [{number: 80}]}"), IN, 8080, false },
        { MATCH("{ports: [{number: 80}]}"), IN, 0, false },                              /* direction without port: entries with ports do not match */
        { MATCH("{ports: [{number: 80}]}"), NONE, 0, true },                             /* nothing known: not applied */
        { MATCH("{ports: []}"), IN, 0, true },
        { MATCH("{mode: SERVER, ports: [{number: 80}]}"), NONE, 80, true },              /* port without direction: modes are not looked at */
        { MATCH("{mode: CLIENT, ports: [{number: 80}]}"), NONE, 80, true }, { MATCH("{mode: CLIENT, ports: [{number: 80}]}"), NONE, 81, false },
        { MATCH("{mode: CLIENT}"), NONE, 81, true },
        /* entries are ORed, mode and ports of one ANDed */
        { MATCH("{mode: SERVER, ports: [{number: 80}]}, {mode: CLIENT, ports: [{number: 81}]}"), IN, 81, false },
        { MATCH("{mode: SERVER, ports: [{number: 80}]}, {mode: CLIENT, ports: [{number: 81}]}"), OUT, 81, true },
        { MATCH("{mode: SERVER, ports: [{number: 80}]}, {mode: CLIENT}"), IN, 80, true }, { MATCH("{ports: [{number: 80}]}, {mode: SERVER}"), IN, 9, true },
        /* what of a refused one's match cannot be read is not less than was meant */
        { MATCH("{ports: [{number: 0}]}"), IN, 9, true }, { MATCH("{mode: X, ports: [{number: 9}]}"), OUT, 9, true }, { MATCH("{mode: X, ports: [{number: 9}]}"), OUT, 8, false },
        { URL ", match: x", OUT, 8, true }, { MATCH("{mode: SERVER, ports: [{number: 80}, {number: 80}]}"), IN, 81, false },
};

static void test_traffic(void **state)
{
        (void)state;
        CLEANUP(test_workload_fini) struct test_workload asks;
        test_workload_init(&asks, "team", "");
        for (size_t i = 0; i < COUNT_OF(traffic_rows); i++) {
                CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
                struct plugin_traffic traffic = { traffic_rows[i].direction, traffic_rows[i].port, PLUGIN_ANY_TYPE };
                plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "p", traffic_rows[i].spec));
                CLEANUP(cleanup_free) char *chain = chain_text(plugins, &asks.workload, &traffic);
                if (strcmp(chain, traffic_rows[i].fits ? "p" : "") != 0)
                        fail_msg("row %zu: %s, direction %d, port %u: \"%s\"", i, traffic_rows[i].spec, traffic.direction, traffic.port, chain);
        }
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "h", URL));
        plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "n", URL ", type: NETWORK"));
        static const struct { enum plugin_type type; const char *chain; } types[] = { { PLUGIN_HTTP, "h" }, { PLUGIN_NETWORK, "n" }, { PLUGIN_ANY_TYPE, "h n" } };
        for (size_t i = 0; i < COUNT_OF(types); i++) {
                struct plugin_traffic traffic = { PLUGIN_ANY_DIRECTION, 0, types[i].type };
                CLEANUP(cleanup_free) char *chain = chain_text(plugins, &asks.workload, &traffic);
                assert_string_equal(chain, types[i].chain);
        }
}

/* "namespace/name spec", put in this and in the reverse order: the chain is the same. */
struct ordered { const char *kind, *namespace, *name, *spec; };
static void expect_order(const struct ordered *items, size_t count, const char *expected)
{
        CLEANUP(test_workload_fini) struct test_workload asks;
        test_workload_init(&asks, "team", "");
        for (int reverse = 0; reverse < 2; reverse++) {
                CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
                struct plugin_chain chain;
                struct buffer text = { 0 };
                for (size_t i = 0; i < count; i++) {
                        const struct ordered *item = &items[reverse ? count - 1 - i : i];
                        plugins_put(plugins, "s", plugin_of(item->kind, item->namespace, item->name, item->spec));
                }
                plugins_select(plugins, &asks.workload, &(struct plugin_traffic){ PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE }, &chain);
                for (size_t i = 0; i < chain.count; i++)
                        buffer_printf(&text, "%s%s/%s%s", i > 0 ? " " : "", chain.items[i]->namespace, chain.items[i]->name, chain.items[i]->kind == PLUGIN_TRAFFIC_EXTENSION ? "(T)" : "");
                CLEANUP(cleanup_free) char *found = buffer_take(&text);
                assert_string_equal(found, expected);
        }
}

static void test_order(void **state)
{
        (void)state;
#define W "WasmPlugin"
#define T "TrafficExtension"
        static const struct ordered phases[] = { { W, "team", "a", URL }, { W, "team", "b", URL ", phase: STATS" }, { W, "team", "c", URL ", phase: AUTHZ" }, { W, "team", "d", URL ", phase: AUTHN" },
                { T, "team", "e", "wasm: {" URL "}, phase: UNSPECIFIED, priority: 1" } };
        expect_order(phases, COUNT_OF(phases), "team/d team/c team/b team/e(T) team/a");
        static const struct ordered priorities[] = { { W, "team", "e", URL ", priority: -2147483648" }, { W, "team", "d", URL ", priority: -5" }, { W, "team", "c", URL }, { W, "team", "f", URL ", priority: 0" },
                { W, "istio-system", "z", URL ", priority: 10" }, { W, "team", "g", URL ", priority: 9223372036854775807" }, { W, "team", "b", URL ", priority: null" }, { W, "team", "h", URL ", priority: -9223372036854775808" } };
        expect_order(priorities, COUNT_OF(priorities), "team/g istio-system/z team/b team/c team/f team/d team/e team/h");
        static const struct ordered ties[] = { { W, "team", "b", URL }, { W, "team", "a0", URL }, { W, "team", "ab", URL }, { W, "team", "a.b", URL }, { W, "team", "a-b", URL }, { W, "team", "a", URL },
                { W, "istio-system", "a", URL }, { T, "team", "a", "wasm: {" URL "}" }, { T, "istio-system", "a", "wasm: {" URL "}" } };
        expect_order(ties, COUNT_OF(ties), "istio-system/a(T) istio-system/a team/a(T) team/a team/a-b team/a.b team/a0 team/ab team/b");
        /* A refused one keeps its place. */
        static const struct ordered refused[] = { { W, "team", "a", URL }, { W, "team", "b", "url: '', priority: 5" }, { W, "team", "c", URL ", priority: 9" }, { T, "team", "l", "lua: {inlineCode: x}" } };
        expect_order(refused, COUNT_OF(refused), "team/c team/b team/a");
}

/* Chains are made again exactly when something that they were made of has changed; the revision says whether they differ. */
static void test_revision(void **state)
{
        (void)state;
        static const struct plugin_traffic any = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE }, inbound = { PLUGIN_INBOUND, 80, PLUGIN_HTTP };
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ .root_namespace = "root" });
        CLEANUP(test_workload_fini) struct test_workload asks;
        test_workload_init(&asks, "team", "app=a");
        struct plugin_chain chain;
        plugins_select(plugins, &asks.workload, &any, &chain);
        uint64_t empty = chain.revision;
        assert_int_equal(chain.count, 0);

        plugins_put(plugins, "s", plugin_of("WasmPlugin", "other", "p", URL));                 /* not ours to see */
        plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "p", SELECTOR("app: b")));
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_true(chain.count == 0 && chain.revision == empty);

        plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "q", URL ", match: [{mode: CLIENT}]"));
        plugins_select(plugins, &asks.workload, &any, &chain);
        uint64_t one = chain.revision;
        assert_true(chain.count == 1 && one != empty);
        plugins_select(plugins, &asks.workload, &inbound, &chain);
        assert_true(chain.count == 0 && chain.revision == empty);
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_true(chain.count == 1 && chain.revision == one);

        plugins_put(plugins, "s", plugin_of("WasmPlugin", "root", "q", URL));
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_int_equal(chain.count, 2);
        uint64_t two = chain.revision;
        plugins_put(plugins, "s", plugin_of("WasmPlugin", "root", "q", URL ", pluginConfig: {a: 1}"));
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_true(chain.count == 2 && chain.revision != two);
        assert_true(plugins_remove(plugins, "s", PLUGIN_WASM_PLUGIN, "root", "q"));           /* the namespace's last one */
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_true(chain.count == 1 && chain.revision == one);
        assert_true(plugins_remove(plugins, "s", PLUGIN_WASM_PLUGIN, "team", "q"));
        plugins_select(plugins, &asks.workload, &any, &chain);
        assert_true(chain.count == 0 && chain.revision == empty);
}

/* Far more workloads and questions than are remembered, and changes between: always what a fresh look gives. */
static void test_many_askers(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ .root_namespace = "root" });
        for (unsigned i = 0; i < 50; i++) {
                CLEANUP(cleanup_free) char *name = string_format("p%u", i), *spec = string_format(URL ", priority: %u, selector: {matchLabels: {n: '%u'}}, match: [{ports: [{number: %u}]}]", i % 3, i % 10, 1 + i % 4);
                plugins_put(plugins, "s", plugin_of("WasmPlugin", i % 2 ? "team" : "root", name, spec));
        }
        for (unsigned round = 0; round < 3000; round++) {
                CLEANUP(cleanup_free) char *labels = string_format("n=%u x=%u", round % 10, round % 1500);
                CLEANUP(test_workload_fini) struct test_workload asks;
                test_workload_init(&asks, "team", labels);
                struct plugin_traffic traffic = { PLUGIN_ANY_DIRECTION, (uint16_t)(round / 7 % 12), PLUGIN_ANY_TYPE };
                struct plugin_chain chain;
                if (round % 100 == 0)
                        plugins_put(plugins, "s", plugin_of("WasmPlugin", "team", "extra", round % 200 ? URL : SELECTOR("n: '3'")));
                plugins_select(plugins, &asks.workload, &traffic, &chain);
                unsigned fitting = 0;
                for (unsigned i = 0; i <= 50; i++) {
                        CLEANUP(cleanup_free) char *name = i < 50 ? string_format("p%u", i) : string_copy("extra");
                        const struct plugin *plugin = plugins_find(plugins, PLUGIN_WASM_PLUGIN, i == 50 || i % 2 ? "team" : "root", name);
                        fitting += plugin_get_fit(plugin, "root", &asks.workload, &traffic) == PLUGIN_FIT_YES;
                }
                assert_int_equal(chain.count, fitting);
                for (size_t i = 1; i < chain.count; i++)
                        assert_true(chain.items[i - 1]->priority >= chain.items[i]->priority);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_selection), cmocka_unit_test(test_traffic), cmocka_unit_test(test_order), cmocka_unit_test(test_revision), cmocka_unit_test(test_many_askers),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
