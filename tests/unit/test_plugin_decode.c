/* Reading of WasmPlugin and TrafficExtension: every field, its default, and every rule of Istio's CRD and webhook and of contract section 5, each with the field that it names. */
#include "plugin_tools.h"

#define HEX "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define URL "url: \"oci://r.example/a:v1\""
#define KEY "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM\\n5/KAQN0/KjHcorm/J5yctVd7iEcnessRQjU917hmKO6JWVGHpDguIyakZA==\\n-----END PUBLIC KEY-----\\n"
#define S63 "a23456789012345678901234567890123456789012345678901234567890123"
#define S253 S63 "." S63 "." S63 "." "a234567890123456789012345678901234567890123456789012345678901"
#define X16 "xxxxxxxxxxxxxxxx"
#define X256 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16
#define ENV(fields) URL ", vmConfig: {env: [{" fields "}]}"
#define PORTS(ports) URL ", match: [{ports: [" ports "]}]"
#define REF(fields) URL ", targetRefs: [{" fields "}]"
#define GATEWAY "group: gateway.networking.k8s.io, kind: Gateway, name: gw"

/* One problem exactly, of this field, and whether the plugin still has its place. */
enum { PLACED = true, UNPLACED = false };
static const struct { const char *spec, *field, *says; bool is_placed; enum error_code code; } refusals[] = {
        { "",                                            "spec.url", "is missing", PLACED, ERROR_BAD_URL },
        { "url: null",                                   "spec.url", "is missing", PLACED, ERROR_BAD_URL },
        { "url: ''",                                     "spec.url", "is empty", PLACED, ERROR_BAD_URL },
        { "url: 5",                                      "spec.url", "must be a string, not an integer", PLACED, ERROR_BAD_REQUEST },
        { "url: 'ftp://x/y'",                            "spec.url", "scheme \"ftp\" is not supported", PLACED, ERROR_BAD_URL },
        { "url: '%zz'",                                  "spec.url", "", PLACED, ERROR_BAD_URL },
        { "url: 'oci://u:p@r.example/a:1'",              "spec.url", "", PLACED, ERROR_BAD_URL },
        { "url: '/abs/path'",                            "spec.url", "", PLACED, ERROR_BAD_URL },
        { "url: 'oci://r.example/a:1#frag'",             "spec.url", "", PLACED, ERROR_BAD_URL },
        { "url: 'oci://r.example/A:1'",                  "spec.url", "", PLACED, ERROR_BAD_URL },
        { "url: 'oci://r.example/a b'",                  "spec.url", "blank", PLACED, ERROR_BAD_URL },
        { "url: 'https://h.example/m.wasm?x=1'",         "spec.url", "query", PLACED, ERROR_BAD_URL },
        { "url: 'file://opt/m.wasm'",                    "spec.url", "absolute path", PLACED, ERROR_BAD_URL },
        { "urll: x, " URL,                               "spec.urll", "is no field of a WasmPlugin; known are selector", PLACED, ERROR_BAD_REQUEST },
        { URL ", wasm: {}",                              "spec.wasm", "is no field", PLACED, ERROR_BAD_REQUEST },
        { URL ", sha256: ABC",                           "spec.sha256", "64 lower-case hex", PLACED, ERROR_BAD_REQUEST },
        { URL ", sha256: A" S63,                         "spec.sha256", "64 lower-case hex", PLACED, ERROR_BAD_REQUEST },
        { URL ", sha256: 1",                             "spec.sha256", "must be a string", PLACED, ERROR_BAD_REQUEST },
        { "url: 'r.example/a@sha256:" HEX "', sha256: " HEX_B, "spec.sha256", "must agree", PLACED, ERROR_CHECKSUM_MISMATCH },
        { URL ", imagePullPolicy: Sometimes",            "spec.imagePullPolicy", "IfNotPresent", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: ''",                   "spec.imagePullSecret", "must not be empty", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: " S253 "x",            "spec.imagePullSecret", "at most 253", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: other/regcred",        "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: 'kubernetes://regcred'", "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: 'kubernetes://other/regcred'", "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: 'kubernetes-gateway://a/b'", "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: 'invalid://x'",        "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: 'configmap://x'",      "spec.imagePullSecret", "plain name", PLACED, ERROR_BAD_REQUEST },
        { URL ", imagePullSecret: [a]",                  "spec.imagePullSecret", "must be a string, not a list", PLACED, ERROR_BAD_REQUEST },
        { URL ", verificationKey: 'x'",                  "spec.verificationKey", "PEM", PLACED, ERROR_BAD_KEY },
        { URL ", pluginConfig: [1]",                     "spec.pluginConfig", "must be an object, not a list", PLACED, ERROR_BAD_REQUEST },
        { URL ", pluginConfig: text",                    "spec.pluginConfig", "must be an object, not a string", PLACED, ERROR_BAD_REQUEST },
        { URL ", pluginName: ''",                        "spec.pluginName", "must not be empty", PLACED, ERROR_BAD_REQUEST },
        { URL ", pluginName: " X256 "x",                 "spec.pluginName", "at most 256", PLACED, ERROR_BAD_REQUEST },
        { URL ", failStrategy: FAIL",                    "spec.failStrategy", "FAIL_CLOSE, FAIL_OPEN, FAIL_RELOAD", PLACED, ERROR_BAD_REQUEST },
        { URL ", type: TCP",                             "spec.type", "UNSPECIFIED_PLUGIN_TYPE, HTTP, NETWORK", PLACED, ERROR_BAD_REQUEST },
        { URL ", phase: AUTH",                           "spec.phase", "AUTHN, AUTHZ, STATS, UNSPECIFIED_PHASE, not \"AUTH\"", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", phase: UNSPECIFIED",                    "spec.phase", "UNSPECIFIED_PHASE", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", priority: '10'",                        "spec.priority", "must be an integer, not a string", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", priority: 1.5",                         "spec.priority", "64 bits", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", priority: 9223372036854775808",         "spec.priority", "64 bits", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", priority: true",                        "spec.priority", "not a boolean", UNPLACED, ERROR_BAD_REQUEST },

        { URL ", selector: [a]",                         "spec.selector", "must be an object", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchExpressions: []}",      "spec.selector.matchExpressions", "is no field of a selector", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: [a]}",          "spec.selector.matchLabels", "must be an object", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {'': a}}",      "spec.selector.matchLabels", "empty", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {'a*': a}}",    "spec.selector.matchLabels.a*", "wildcard", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {a: '*'}}",     "spec.selector.matchLabels.a", "wildcard", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {a: null}}",    "spec.selector.matchLabels.a", "must be a string, not null", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {a: 1}}",       "spec.selector.matchLabels.a", "must be a string, not integer", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {matchLabels: {a: " S63 "x}}", "spec.selector.matchLabels.a", "at most 63", UNPLACED, ERROR_BAD_REQUEST },
        { REF("kind: Service"),                          "spec.targetRefs[0].name", "is missing", UNPLACED, ERROR_BAD_REQUEST },
        { REF("kind: Service, name: ''"),                "spec.targetRefs[0].name", "must not be empty", UNPLACED, ERROR_BAD_REQUEST },
        { REF("name: x"),                                "spec.targetRefs[0].kind", "is missing", UNPLACED, ERROR_BAD_REQUEST },
        { REF("group: x.io, kind: Foo, name: f"),        "spec.targetRefs[0]", "must be a Service", UNPLACED, ERROR_BAD_REQUEST },
        { REF("group: apps, kind: Service, name: f"),    "spec.targetRefs[0]", "must be a Service", UNPLACED, ERROR_BAD_REQUEST },
        { REF("kind: Gateway, name: f"),                 "spec.targetRefs[0]", "must be a Service", UNPLACED, ERROR_BAD_REQUEST },
        { REF(GATEWAY ", namespace: x"),                 "spec.targetRefs[0].namespace", "must not be set", UNPLACED, ERROR_BAD_REQUEST },
        { REF(GATEWAY ", port: 1"),                      "spec.targetRefs[0].port", "is no field", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", targetRefs: [null]",                    "spec.targetRefs[0]", "must be an object, not null", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", targetRef: {kind: Service}",            "spec.targetRef.name", "is missing", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", targetRef: x",                          "spec.targetRef", "must be an object", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {}, targetRefs: [{" GATEWAY "}]", "spec.targetRefs", "only one of", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", selector: {}, targetRef: {" GATEWAY "}", "spec.targetRef", "only one of", UNPLACED, ERROR_BAD_REQUEST },
        { URL ", targetRef: {" GATEWAY "}, targetRefs: []", "spec.targetRefs", "only one of", UNPLACED, ERROR_BAD_REQUEST },

        { URL ", match: {}",                             "spec.match", "must be a list, not an object", PLACED, ERROR_BAD_REQUEST },
        { URL ", match: [null]",                         "spec.match[0]", "must be an object, not null", PLACED, ERROR_BAD_REQUEST },
        { URL ", match: [{mode: BOTH}]",                 "spec.match[0].mode", "CLIENT_AND_SERVER", PLACED, ERROR_BAD_REQUEST },
        { URL ", match: [{}, {port: 1}]",                "spec.match[1].port", "is no field of a match", PLACED, ERROR_BAD_REQUEST },
        { PORTS("null"),                                 "spec.match[0].ports[0]", "must be an object", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{}"),                                   "spec.match[0].ports[0].number", "is missing", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: 0}"),                          "spec.match[0].ports[0].number", "must be 1 to 65535, not 0", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: 80}, {number: 65536}"),        "spec.match[0].ports[1].number", "not 65536", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: -1}"),                         "spec.match[0].ports[0].number", "not -1", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: '80'}"),                       "spec.match[0].ports[0].number", "must be an integer, not a string", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: 80.5}"),                       "spec.match[0].ports[0].number", "must be an integer", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: 80}, {number: 80}"),           "spec.match[0].ports[1]", "port 80 is there twice", PLACED, ERROR_BAD_REQUEST },
        { PORTS("{number: 80, name: x}"),                "spec.match[0].ports[0].name", "is no field of a port", PLACED, ERROR_BAD_REQUEST },

        { URL ", vmConfig: []",                          "spec.vmConfig", "must be an object", PLACED, ERROR_BAD_REQUEST },
        { URL ", vmConfig: {envs: []}",                  "spec.vmConfig.envs", "is no field", PLACED, ERROR_BAD_REQUEST },
        { URL ", vmConfig: {env: {}}",                   "spec.vmConfig.env", "must be a list", PLACED, ERROR_BAD_REQUEST },
        { URL ", vmConfig: {env: [null]}",               "spec.vmConfig.env[0]", "must be an object", PLACED, ERROR_BAD_REQUEST },
        { ENV("value: x"),                               "spec.vmConfig.env[0].name", "is missing", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: ''"),                               "spec.vmConfig.env[0].name", "must not be empty", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: " X256 "x"),                        "spec.vmConfig.env[0].name", "at most 256", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A}, {name: A"),                     "spec.vmConfig.env[1].name", "there already", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: ISTIO_META_X"),                     "spec.vmConfig.env[0].name", "reserved", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, valueFrom: FILE"),               "spec.vmConfig.env[0].valueFrom", "INLINE, HOST", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, valueFrom: HOST, value: x"),     "spec.vmConfig.env[0].value", "only be set when valueFrom is INLINE", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, valueFrom: HOST, value: ''"),    "spec.vmConfig.env[0].value", "only be set when", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, value: 1"),                      "spec.vmConfig.env[0].value", "must be a string", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, value: " X256 X256 X256 X256 X256 X256 X256 X256 "x"), "spec.vmConfig.env[0].value", "more than 2048", PLACED, ERROR_BAD_REQUEST },
        { ENV("name: A, secret: x"),                     "spec.vmConfig.env[0].secret", "is no field", PLACED, ERROR_BAD_REQUEST },
};

static void expect_problem(const struct plugin *plugin, const char *what, const char *field, const char *says)
{
        if (plugin->state != PLUGIN_REFUSED || plugin->problem_count != 1 || strcmp(plugin->problems[0].field, field) != 0 || !strstr(plugin->problems[0].detail, says))
                fail_msg("%s → state %d, %zu problems: %s: %s", what, plugin->state, plugin->problem_count, plugin->problem_count > 0 ? plugin->problems[0].field : "none",
                        plugin->problem_count > 0 ? plugin->problems[0].detail : "");
        assert_null(plugin->want);
}

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(refusals); i++) {
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", "team", "p", refusals[i].spec);
                expect_problem(plugin, refusals[i].spec, refusals[i].field, refusals[i].says);
                if (plugin->is_placed != refusals[i].is_placed || plugin->code != refusals[i].code)
                        fail_msg("%s → is_placed %d, code %d", refusals[i].spec, plugin->is_placed, plugin->code);
        }
}

static const struct { const char *spec, *field, *says; bool is_placed; } extension_refusals[] = {
        { "",                                                "spec", "exactly one of wasm and lua", PLACED },
        { "wasm: null, lua: null",                           "spec", "exactly one of", PLACED },
        { "wasm: {" URL "}, lua: {inlineCode: x}",           "spec", "exactly one of", PLACED },
        { "wasm: {}",                                        "spec.wasm.url", "is missing", PLACED },
        { "wasm: x",                                         "spec.wasm", "must be an object", PLACED },
        { URL ", wasm: {" URL "}",                           "spec.url", "is no field of a TrafficExtension", PLACED },
        { "wasm: {" URL ", phase: AUTHN}",                   "spec.wasm.phase", "is no field of wasm", PLACED },
        { "wasm: {" URL ", sha256: ABC}",                    "spec.wasm.sha256", "64 lower-case hex", PLACED },
        { "wasm: {" URL ", imagePullSecret: a/b}",           "spec.wasm.imagePullSecret", "plain name", PLACED },
        { "wasm: {" URL ", vmConfig: {env: [{}]}}",          "spec.wasm.vmConfig.env[0].name", "is missing", PLACED },
        { "wasm: {" URL "}, phase: UNSPECIFIED_PHASE",       "spec.phase", "UNSPECIFIED, not", UNPLACED },
        { "wasm: {" URL "}, targetRef: {" GATEWAY "}",       "spec.targetRef", "is no field of a TrafficExtension", PLACED },
        { "wasm: {" URL "}, selector: {}, targetRefs: []",   "spec.targetRefs", "only one of", UNPLACED },
        { "lua: {}",                                         "spec.lua.inlineCode", "is missing", UNPLACED },
        { "lua: {inlineCode: ''}",                           "spec.lua.inlineCode", "must not be empty", UNPLACED },
        { "lua: {inlineCode: x, file: y}",                   "spec.lua.file", "is no field of lua", UNPLACED },
        { "lua: x",                                          "spec.lua", "must be an object", UNPLACED },
};

static void test_extension_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(extension_refusals); i++) {
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("TrafficExtension", "team", "p", extension_refusals[i].spec);
                expect_problem(plugin, extension_refusals[i].spec, extension_refusals[i].field, extension_refusals[i].says);
                if (plugin->is_placed != extension_refusals[i].is_placed)
                        fail_msg("%s → is_placed %d", extension_refusals[i].spec, plugin->is_placed);
        }
}

#define GROUP "apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, "
#define SPEC "spec: {" URL "}"
static const struct { const char *object, *field, *says; bool is_placed; } envelopes[] = {
        { GROUP "metadata: {name: a}",                                  "spec", "is missing", UNPLACED },
        { GROUP "metadata: {name: a}, spec: null",                      "spec", "is missing", UNPLACED },
        { GROUP "metadata: {name: a}, spec: []",                        "spec", "must be an object, not a list", UNPLACED },
        { GROUP "metadata: {name: a}, specs: {}, " SPEC,                "specs", "is no field of a resource", PLACED },
        { GROUP SPEC,                                                   "metadata", "must be an object, not null", UNPLACED },
        { GROUP "metadata: {}, " SPEC,                                  "metadata.name", "is missing", UNPLACED },
        { GROUP "metadata: {name: 7}, " SPEC,                           "metadata.name", "must be a string", UNPLACED },
        { GROUP "metadata: {name: ''}, " SPEC,                          "metadata.name", "DNS name", UNPLACED },
        { GROUP "metadata: {name: A_b}, " SPEC,                         "metadata.name", "DNS name", PLACED },
        { GROUP "metadata: {name: a, namespace: a.b}, " SPEC,           "metadata.namespace", "DNS label", PLACED },
        { GROUP "metadata: {name: a, namespace: [a]}, " SPEC,           "metadata.namespace", "must be a string", UNPLACED },
        { GROUP "metadata: {name: a, nmaespace: b}, " SPEC,             "metadata.nmaespace", "is no field of metadata", PLACED },
        { GROUP "metadata: {name: a, resourceVersion: 7}, " SPEC,       "metadata.resourceVersion", "must be a string", PLACED },
        { GROUP "metadata: {name: a, resourceVersion: \"a\\nb\"}, " SPEC, "metadata.resourceVersion", "control character", PLACED },
        { "apiVersion: extensions.istio.io/v1, kind: WasmPlugin, metadata: {name: a}, " SPEC, "apiVersion", "extensions.istio.io/v1alpha1", PLACED },
        { "kind: WasmPlugin, metadata: {name: a}, " SPEC,               "apiVersion", "must be", PLACED },
        { "apiVersion: extensions.istio.io/v1alpha1, kind: Foo, metadata: {name: a}, " SPEC, "kind", "must be", PLACED },
};

static void test_envelopes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(envelopes); i++) {
                CLEANUP(cleanup_free) char *yaml = string_format("{%s}", envelopes[i].object);
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of_yaml(yaml);
                expect_problem(plugin, yaml, envelopes[i].field, envelopes[i].says);
                if (plugin->is_placed != envelopes[i].is_placed)
                        fail_msg("%s → is_placed %d", yaml, plugin->is_placed);
                assert_non_null(plugin->name);
                assert_non_null(plugin->namespace);
                assert_non_null(plugin->version);
        }
        CLEANUP(plugin_unref) struct plugin *list = plugin_of_yaml("[a]");
        assert_int_equal(list->state, PLUGIN_REFUSED);
}

/* What other tools accept and we do, too: accepted as it stands. */
static const char *const accepted[] = {
        URL, "url: r.example/a", "url: 'localhost:5000/a/b:1'", "url: 'host:5000/x:v1'", "url: '10.0.0.1:5000/x:v1'", "url: 'OCI://r.example/a:1'", "url: 'HTTP://H.example/m'", "url: 'FILE:///x'", "url: 'ubuntu:22.04'", "url: 'localhost:5000/x'",
        "url: 'https://h.example:8443/m.wasm'", "url: 'file:///opt/m.wasm'", "url: ubuntu", URL ", sha256: ''", URL ", sha256: " HEX, URL ", sha256: null",
        URL ", imagePullPolicy: UNSPECIFIED_POLICY", URL ", imagePullPolicy: null", URL ", imagePullSecret: null", URL ", imagePullSecret: " S253, URL ", verificationKey: ''", URL ", verificationKey: \"" KEY "\"",
        URL ", pluginConfig: {}", URL ", pluginConfig: null", URL ", pluginName: " X256, URL ", pluginName: null", URL ", phase: null", URL ", priority: null",
        URL ", priority: 9223372036854775807", URL ", priority: -9223372036854775808", URL ", selector: {}", URL ", selector: null", URL ", selector: {matchLabels: {}}",
        URL ", selector: {matchLabels: null}", URL ", selector: {matchLabels: {a: ''}}", URL ", selector: {matchLabels: {a: " S63 "}}", URL ", match: []", URL ", match: null",
        URL ", match: [{}]", URL ", match: [{ports: []}]", URL ", match: [{mode: null, ports: null}]", PORTS("{number: 1}, {number: 65535}, {number: 80.0}"), URL ", vmConfig: {}",
        URL ", vmConfig: null", URL ", vmConfig: {env: []}", URL ", vmConfig: {env: null}", ENV("name: A"), ENV("name: A, value: null, valueFrom: HOST"),
        ENV("name: A, value: " X256 X256 X256 X256 X256 X256 X256 X256), ENV("name: " X256), ENV("name: istio_meta_x"), URL ", failStrategy: null", URL ", type: UNSPECIFIED_PLUGIN_TYPE",
        URL ", type: null", URL ", targetRefs: []", URL ", targetRefs: null, selector: {}", REF("kind: Service, name: s"), REF("group: '', kind: Service, name: s, namespace: ''"),
        REF("group: core, kind: Service, name: s"), REF("group: networking.istio.io, kind: ServiceEntry, name: s, namespace: null"),
        REF("group: gateway.networking.k8s.io, kind: GatewayClass, name: istio-waypoint"), URL ", targetRef: {" GATEWAY "}",
};

static void test_accepted(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(accepted); i++) {
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", "team", "p", accepted[i]);
                if (plugin->state != PLUGIN_ACCEPTED || plugin->problem_count > 0 || !plugin->is_placed || !plugin->want)
                        fail_msg("%s → %s: %s", accepted[i], plugin->problems[0].field, plugin->problems[0].detail);
        }
        /* All but the phase's name is the same in the other kind's wasm half. */
        CLEANUP(plugin_unref) struct plugin *extension = plugin_of("TrafficExtension", "team", "p", "wasm: {" URL ", type: NETWORK, failStrategy: FAIL_OPEN, pluginName: r}, phase: UNSPECIFIED, priority: -5");
        assert_int_equal(extension->state, PLUGIN_ACCEPTED);
        assert_int_equal(extension->kind, PLUGIN_TRAFFIC_EXTENSION);
        assert_int_equal(extension->type, PLUGIN_NETWORK);
        assert_int_equal(extension->fail_strategy, PLUGIN_FAIL_OPEN);
        assert_int_equal(extension->priority, -5);
        assert_string_equal(extension->plugin_name, "r");
        CLEANUP(plugin_unref) struct plugin *lua = plugin_of("TrafficExtension", "team", "p", "lua: {inlineCode: x}, phase: AUTHN");
        assert_int_equal(lua->state, PLUGIN_IGNORED);
        assert_false(lua->is_placed);
        assert_null(lua->want);
}

static void test_fields(void **state)
{
        (void)state;
        CLEANUP(plugin_unref) struct plugin *plugin = plugin_of_yaml(
                "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: authz, namespace: team, resourceVersion: '42', uid: u, labels: {a: b}, managedFields: [{}]}\n"
                "spec:\n  selector: {matchLabels: {v: '1', app: web}}\n  url: oci://r.example/a:v1\n  sha256: " HEX "\n  imagePullPolicy: Always\n  imagePullSecret: regcred\n"
                "  pluginConfig: {n: 12345678901234567890, f: 2.5, l: [null, true, s, {z: {}}]}\n  pluginName: root\n  phase: AUTHZ\n  priority: 10.0\n  failStrategy: FAIL_RELOAD\n  type: NETWORK\n"
                "  vmConfig: {env: [{name: A, value: x}, {name: B, valueFrom: HOST}, {name: C}]}\n  match: [{mode: SERVER, ports: [{number: 8080}, {number: 80}]}, {mode: CLIENT_AND_SERVER}]\n"
                "status: {conditions: []}\n");
        assert_int_equal(plugin->state, PLUGIN_ACCEPTED);
        assert_string_equal(plugin->namespace, "team");
        assert_string_equal(plugin->name, "authz");
        assert_string_equal(plugin->version, "42");
        assert_int_equal(plugin->label_count, 2);
        assert_string_equal(plugin->labels[0].key, "app");
        assert_string_equal(plugin->labels[1].value, "1");
        assert_string_equal(plugin->url, "oci://r.example/a:v1");
        assert_string_equal(plugin->config, "{\"n\":1.2345678901234567e+19,\"f\":2.5,\"l\":[null,true,\"s\",{\"z\":{}}]}");
        assert_string_equal(plugin->plugin_name, "root");
        assert_int_equal(plugin->phase, PLUGIN_AUTHZ);
        assert_int_equal(plugin->priority, 10);
        assert_int_equal(plugin->fail_strategy, PLUGIN_FAIL_RELOAD);
        assert_int_equal(plugin->type, PLUGIN_NETWORK);
        assert_int_equal(plugin->env_count, 3);
        assert_string_equal(plugin->envs[0].value, "x");
        assert_null(plugin->envs[1].value);
        assert_string_equal(plugin->envs[2].value, "");
        assert_int_equal(plugin->match_count, 2);
        assert_int_equal(plugin->matches[0].mode, PLUGIN_SERVER);
        assert_int_equal(plugin->matches[0].port_count, 2);
        assert_int_equal(plugin->matches[0].ports[0], 8080);
        assert_int_equal(plugin->matches[1].port_count, 0);

        CLEANUP(plugin_unref) struct plugin *bare = plugin_of_yaml("{" GROUP "metadata: {name: a}, spec: {url: r.example/a}}");
        assert_string_equal(bare->namespace, "default");
        assert_int_equal(bare->phase, PLUGIN_UNSPECIFIED);
        assert_int_equal(bare->priority, 0);
        assert_int_equal(bare->type, PLUGIN_HTTP);
        assert_int_equal(bare->fail_strategy, PLUGIN_FAIL_CLOSE);
        assert_null(bare->config);
        assert_null(bare->plugin_name);
        assert_int_equal(strlen(bare->version), 16);
}

/* A refused one keeps what could be read, for its stand-in; several problems are told at once, but not without end. */
static void test_refused_keeps(void **state)
{
        (void)state;
        CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", "team", "p",
                "url: '%zz', sha256: ABC, imagePullSecret: a/b, verificationKey: k, typo: 1, phase: AUTHN, priority: 7, failStrategy: FAIL_OPEN, selector: {matchLabels: {app: a}}, match: [{mode: SERVER, ports: [{number: 1}, {number: 1}]}, {mode: X, ports: [{number: 1}, {number: 0}]}, 7]");
        static const char *const fields[] = { "spec.typo", "spec.match[0].ports[1]", "spec.match[1].mode", "spec.match[1].ports[1].number", "spec.match[2]", "spec.url", "spec.sha256", "spec.imagePullSecret", "spec.verificationKey" };
        assert_int_equal(plugin->problem_count, COUNT_OF(fields));
        for (size_t i = 0; i < COUNT_OF(fields); i++)
                assert_string_equal(plugin->problems[i].field, fields[i]);
        assert_true(plugin->is_placed);
        assert_int_equal(plugin->phase, PLUGIN_AUTHN);
        assert_int_equal(plugin->priority, 7);
        assert_int_equal(plugin->fail_strategy, PLUGIN_FAIL_OPEN);
        assert_int_equal(plugin->label_count, 1);
        assert_int_equal(plugin->match_count, 3);         /* what cannot be read is not less than was meant */
        assert_int_equal(plugin->matches[0].mode, PLUGIN_SERVER);
        assert_int_equal(plugin->matches[0].port_count, 1);
        assert_int_equal(plugin->matches[1].mode, PLUGIN_UNDEFINED);
        assert_int_equal(plugin->matches[1].port_count, 0);
        assert_int_equal(plugin->matches[2].mode, PLUGIN_UNDEFINED);
        assert_string_equal(plugin->url, "%zz");

        struct buffer many = { 0 };
        for (int i = 0; i < 1000; i++)
                buffer_printf(&many, "x%d: 1, ", i);
        buffer_append_text(&many, URL);
        CLEANUP(cleanup_free) char *spec = buffer_take(&many);
        CLEANUP(plugin_unref) struct plugin *hostile = plugin_of("WasmPlugin", "team", "p", spec);
        assert_int_equal(hostile->problem_count, PLUGIN_PROBLEMS_MAX);
        assert_non_null(strstr(hostile->problems[PLUGIN_PROBLEMS_MAX - 1].detail, "more problems"));
}

/* Counts: one more than Istio's CRD allows. */
static void test_counts(void **state)
{
        (void)state;
        static const struct { const char *before, *item, *after, *field; unsigned most; } rows[] = {
                { URL ", vmConfig: {env: [", "{name: A%u}", "]}", "spec.vmConfig.env", 256 },
                { URL ", targetRefs: [", "{kind: Service, name: s%u}", "]", "spec.targetRefs", 16 },
                { URL ", selector: {matchLabels: {", "k%u: v", "}}", "spec.selector.matchLabels", 4096 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                for (unsigned more = 0; more < 2; more++) {
                        struct buffer text = { 0 };
                        buffer_append_text(&text, rows[i].before);
                        for (unsigned k = 0; k < rows[i].most + more; k++) {
                                const char *percent = strchr(rows[i].item, '%');
                                buffer_printf(&text, "%s%.*s%u%s", k > 0 ? ", " : "", (int)(percent - rows[i].item), rows[i].item, k, percent + 2);
                        }
                        buffer_append_text(&text, rows[i].after);
                        CLEANUP(cleanup_free) char *spec = buffer_take(&text);
                        CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", "team", "p", spec);
                        if (more)
                                expect_problem(plugin, rows[i].field, rows[i].field, "are allowed");
                        else
                                assert_int_equal(plugin->state, PLUGIN_ACCEPTED);
                }
}

/* What is ignored is read all the same. */
static void test_lua_code(void **state)
{
        (void)state;
        for (size_t more = 0; more < 2; more++) {
                CLEANUP(cleanup_free) char *code = memory_new(65536 + more + 1, 1);
                memset(code, 'x', 65536 + more);
                CLEANUP(cleanup_free) char *spec = string_format("lua: {inlineCode: %s}", code);
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("TrafficExtension", "team", "p", spec);
                if (more)
                        expect_problem(plugin, "a long lua", "spec.lua.inlineCode", "at most 65536");
                else
                        assert_int_equal(plugin->state, PLUGIN_IGNORED);
        }
}

/* Characters, not bytes, where the CRD counts characters. */
static void test_characters(void **state)
{
        (void)state;
        struct buffer text = { 0 };
        buffer_append_text(&text, URL ", selector: {matchLabels: {a: \"");
        for (int i = 0; i < 63; i++)
                buffer_append_text(&text, "é");
        buffer_append_text(&text, "\"}}");
        CLEANUP(cleanup_free) char *spec = buffer_take(&text);
        CLEANUP(plugin_unref) struct plugin *plugin = plugin_of("WasmPlugin", "team", "p", spec);
        assert_int_equal(plugin->state, PLUGIN_ACCEPTED);
}

/* Equal for the same resource whatever its status says, different as soon as anything else is. */
static void test_fingerprint(void **state)
{
        (void)state;
        static const struct { const char *yaml; bool is_same; } rows[] = {
                { GROUP "metadata: {name: a, resourceVersion: '1', uid: u}, spec: {" URL "}, status: {x: 1}", true }, { GROUP "metadata: {name: a, resourceVersion: '2', uid: u}, spec: {" URL "}", false },
                { GROUP "metadata: {name: a, resourceVersion: '1', uid: w}, spec: {" URL "}", false }, { GROUP "metadata: {name: b, resourceVersion: '1', uid: u}, spec: {" URL "}", false },
                { GROUP "metadata: {name: a, resourceVersion: '1', uid: u}, spec: {" URL ", priority: 1}", false }, { GROUP "metadata: {name: a, resourceVersion: '1', uid: u, x: 1}, spec: {" URL "}", false },
        };
        CLEANUP(plugin_unref) struct plugin *first = plugin_of_yaml("{" GROUP "metadata: {name: a, resourceVersion: '1', uid: u}, spec: {" URL "}}");
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *yaml = string_format("{%s}", rows[i].yaml);
                CLEANUP(plugin_unref) struct plugin *plugin = plugin_of_yaml(yaml);
                if ((plugin->fingerprint == first->fingerprint) != rows[i].is_same)
                        fail_msg("%s", yaml);
        }
}

static void test_is_resource(void **state)
{
        (void)state;
        static const struct { const char *yaml; bool is_ours; } rows[] = {
                { "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin}", true }, { "{apiVersion: extensions.istio.io/v2, kind: TrafficExtension}", true },
                { "{apiVersion: extensions.higress.io/v1alpha1, kind: WasmPlugin}", false }, { "{apiVersion: v1, kind: Secret}", false }, { "{kind: WasmPlugin}", false },
                { "[]", false }, { "{apiVersion: extensions.istio.io/v1alpha1, kind: 7}", false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(value_free) struct value *value = NULL;
                struct error err;
                assert_true(yaml_parse(rows[i].yaml, strlen(rows[i].yaml), ERROR_BAD_REQUEST, &value, &err));
                if (plugin_is_resource(value) != rows[i].is_ours)
                        fail_msg("%s", rows[i].yaml);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals), cmocka_unit_test(test_extension_refusals), cmocka_unit_test(test_envelopes), cmocka_unit_test(test_accepted), cmocka_unit_test(test_fields),
                cmocka_unit_test(test_refused_keeps), cmocka_unit_test(test_counts), cmocka_unit_test(test_lua_code), cmocka_unit_test(test_characters), cmocka_unit_test(test_fingerprint), cmocka_unit_test(test_is_resource),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
