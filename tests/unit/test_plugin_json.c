/* One entry of a chain and one of the list of resources, to the letter of contract section 2. */
#include "plugin_tools.h"

#define HEX "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static void expect_entry(const char *yaml, const struct plugin_outcome *outcome, const char *expected)
{
        CLEANUP(plugin_unref) struct plugin *plugin = plugin_of_yaml(yaml);
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        plugin_put_chain_entry(&writer, plugin, outcome);
        assert_string_equal(text.data, expected);
}

static void test_chain_entry(void **state)
{
        (void)state;
        expect_entry("{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: authz, namespace: team, resourceVersion: '42'}, spec: {url: 'oci://r.example/a:v1', phase: AUTHZ, priority: 10.0,"
                " type: NETWORK, match: [{mode: SERVER, ports: [{number: 8080}, {number: 80}]}, {}], pluginName: root, pluginConfig: {a: [1, {b: null}]}, failStrategy: FAIL_OPEN,"
                " vmConfig: {env: [{name: A, value: x}, {name: B, valueFrom: HOST}]}}}",
                &(struct plugin_outcome){ PLUGIN_READY, "/m/team/" HEX ".wasm", HEX, "sha256:" HEX, NULL, NULL, NULL },
                "{\"kind\":\"WasmPlugin\",\"namespace\":\"team\",\"name\":\"authz\",\"resourceVersion\":\"42\",\"phase\":\"AUTHZ\",\"priority\":10,\"type\":\"NETWORK\","
                "\"match\":[{\"mode\":\"SERVER\",\"ports\":[{\"number\":8080},{\"number\":80}]},{\"mode\":\"UNDEFINED\",\"ports\":[]}],\"pluginName\":\"root\",\"pluginConfig\":{\"a\":[1,{\"b\":null}]},"
                "\"env\":[{\"name\":\"A\",\"value\":\"x\"},{\"name\":\"B\",\"valueFrom\":\"HOST\"}],\"failStrategy\":\"FAIL_OPEN\",\"url\":\"oci://r.example/a:v1\",\"sha256\":\"" HEX "\",\"digest\":\"sha256:" HEX "\","
                "\"path\":\"/m/team/" HEX ".wasm\",\"state\":\"ready\",\"code\":null,\"detail\":null,\"problems\":[]}");
        expect_entry("{apiVersion: extensions.istio.io/v1alpha1, kind: TrafficExtension, metadata: {name: t, resourceVersion: '1'}, spec: {wasm: {url: r.example/a}}}",
                &(struct plugin_outcome){ PLUGIN_FAILED, NULL, NULL, NULL, "secret_missing", "the Secret is not there", NULL },
                "{\"kind\":\"TrafficExtension\",\"namespace\":\"default\",\"name\":\"t\",\"resourceVersion\":\"1\",\"phase\":\"UNSPECIFIED\",\"priority\":0,\"type\":\"HTTP\",\"match\":[],\"pluginName\":null,"
                "\"pluginConfig\":null,\"env\":[],\"failStrategy\":\"FAIL_CLOSE\",\"url\":\"r.example/a\",\"sha256\":null,\"digest\":null,\"path\":null,\"state\":\"failed\",\"code\":\"secret_missing\","
                "\"detail\":\"the Secret is not there\",\"problems\":[]}");
        /* Refused: what is known from outside is not shown, and every problem is. */
        expect_entry("{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: w, resourceVersion: '1'}, spec: {url: 'ftp://x/y', pluginName: ''}}",
                &(struct plugin_outcome){ PLUGIN_PULLING, "/stale", HEX, NULL, NULL, NULL, NULL },
                "{\"kind\":\"WasmPlugin\",\"namespace\":\"default\",\"name\":\"w\",\"resourceVersion\":\"1\",\"phase\":\"UNSPECIFIED\",\"priority\":0,\"type\":\"HTTP\",\"match\":[],\"pluginName\":null,"
                "\"pluginConfig\":null,\"env\":[],\"failStrategy\":\"FAIL_CLOSE\",\"url\":\"ftp://x/y\",\"sha256\":null,\"digest\":null,\"path\":null,\"state\":\"refused\",\"code\":\"bad_request\","
                "\"detail\":\"spec.pluginName: must not be empty\",\"problems\":[{\"field\":\"spec.pluginName\",\"detail\":\"must not be empty\"},"
                "{\"field\":\"spec.url\",\"detail\":\"scheme \\\"ftp\\\" is not supported; oci, http, https and file are\"}]}");
}

static void each_resource(void *arg, const struct plugin_row *row)
{
        plugin_put_resource(arg, row);
}

static void test_resources(void **state)
{
        (void)state;
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ 0 });
        plugins_put(plugins, "a.yaml", plugin_of("WasmPlugin", "team", "p", "url: r.example/a"));
        plugins_put(plugins, "b.yaml", plugin_of("WasmPlugin", "team", "p", "url: r.example/a, vmConfig: {env: [{name: ''}]}"));
        plugins_put(plugins, "b.yaml", plugin_of("TrafficExtension", "team", "l", "lua: {inlineCode: x}"));
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        CLEANUP(cleanup_free) char *more = NULL;
        struct error err;
        json_open_list(&writer, NULL);
        assert_true(plugins_list(plugins, &(struct plugin_page){ NULL, NULL, 100, each_resource, &writer }, &more, &err));
        json_close_list(&writer);
        assert_string_equal(text.data,
                "[{\"kind\":\"TrafficExtension\",\"namespace\":\"team\",\"name\":\"l\",\"source\":\"b.yaml\",\"state\":\"ignored\",\"problems\":[]},"
                "{\"kind\":\"WasmPlugin\",\"namespace\":\"team\",\"name\":\"p\",\"source\":\"a.yaml\",\"state\":\"accepted\",\"problems\":[]},"
                "{\"kind\":\"WasmPlugin\",\"namespace\":\"team\",\"name\":\"p\",\"source\":\"b.yaml\",\"state\":\"refused\",\"problems\":["
                "{\"field\":\"metadata.name\",\"detail\":\"WasmPlugin team/p is already given by a.yaml; remove it from one of them\"},"
                "{\"field\":\"spec.vmConfig.env[0].name\",\"detail\":\"must not be empty\"}]}]");
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_chain_entry), cmocka_unit_test(test_resources) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
