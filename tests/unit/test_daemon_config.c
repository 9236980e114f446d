#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/api.h>
#include <wasmcached/fetch.h>
#include <wasmcached/module.h>
#include <wasmcached/registry.h>
#include <wasmcached/serve.h>
#include <wasmcached/store.h>
#include "../../agent/daemon/option.h"

static struct config *parse(const char *text)
{
        struct config *config = NULL;
        struct error err = { 0 };
        if (!config_parse(text, strlen(text), "t.yaml", &config, &err))
                fail_msg("%s → %s", text, err.text);
        return config;
}

static char *print_json(const struct config *config)
{
        struct buffer out = { 0 };
        config_print_json(config, &out);
        return buffer_take(&out);
}

/* text → what the error says; NULL = it is taken */
static const struct { const char *text, *error; } rows[] = {
        { "", NULL },
        { "{}", NULL },
        { "# nothing\n", NULL },
        { "store:\n", NULL },
        { "store: {max_size: 512KiB}", "t.yaml:1: store.max_size: \"512KiB\" does not fit; allowed: a size like 512KiB, 10GiB; from 1MiB to 1" },
        { "store: {max_size: 4096MiB}", NULL },
        { "store: {max_size: 104857600}", NULL },
        { "store: {max_size: -1}", "t.yaml:1: store.max_size: -1 does not fit" },
        { "store: {max_size: 1.5}", "t.yaml:1: store.max_size: a value of type number does not fit" },
        { "store: {max_size: [1]}", "t.yaml:1: store.max_size: a " },
        { "store:\n  root: /a\n  max_sise: 1GiB\n",
          "t.yaml:3: store.max_sise: unknown key; did you mean \"max_size\"? allowed: root, max_size, high_watermark, low_watermark, lease_time, scrub_rate" },
        { "stor: {}", "t.yaml:1: stor: unknown key; did you mean \"store\"?" },
        { "max_size: 1GiB", "t.yaml:1: max_size: unknown key here; did you mean \"store.max_size\"?" },
        { "zzzzzzzz: 1", "t.yaml:1: zzzzzzzz: unknown key; allowed: listeners, admin, metrics, store, pull, registries," },
        { "store: 1", "t.yaml:1: store: a value of type integer does not fit; allowed: a map of keys" },
        { "- a", "a map of keys" },
        { "store: {root: a/b}", "t.yaml:1: store.root: \"a/b\" does not fit; allowed: an absolute path" },
        { "store: {root: /a/../b}", "store.root: \"/a/../b\" does not fit" },
        { "store: {root: \"\"}", "store.root: \"\" does not fit" },
        { "store: {low_watermark: 90}", "t.yaml:1: store.low_watermark: 90 is not below store.high_watermark, 90" },
        { "store:\n  high_watermark: 70\n", "store.low_watermark: 80 is not below store.high_watermark, 70" },
        { "store: {high_watermark: 101}", "store.high_watermark: 101 does not fit; allowed: a whole number; from 1 to 100" },
        { "store: {lease_time: 10}", "store.lease_time: 10 does not fit; allowed: a time like" },
        { "store: {lease_time: 0}", "store.lease_time: 0 does not fit" },
        { "pull: {stale_if_error: 0}", NULL },
        { "pull: {slots: 0}", "pull.slots: 0 does not fit; allowed: a whole number; from 1 to 256" },
        { "pull: {slots: \"8\"}", "pull.slots: \"8\" does not fit" },
        { "pull: {retries: 21}", "pull.retries: 21 does not fit" },
        { "pull: {timeout: 5 minutes}", "pull.timeout: \"5 minutes\" does not fit" },
        { "admin: {mode: \"0644\"}", NULL },
        { "admin: {mode: \"644\"}", NULL },
        { "admin: {mode: \"0888\"}", "admin.mode: \"0888\" does not fit; allowed: octal permissions in quotes" },
        { "admin: {mode: \"1777\"}", "admin.mode: \"1777\" does not fit" },
        { "admin: {path: /run/wasmcached/agent.sock}", "listeners[0]: /run/wasmcached/agent.sock is the admin socket's path too" },
        { "listeners: []", NULL },
        { "listeners: {}", "listeners: a value of type object does not fit; allowed: a list of maps" },
        { "listeners: [{mode: \"0600\"}]", "listeners[0]: \"path\" is missing; it is required" },
        { "listeners: [{path: \"\"}]", "listeners[0].path: \"\" does not fit" },
        { "listeners:\n  - path: /a\n  - path: /a\n", "t.yaml:3: listeners[1]: /a is the path of listeners[0] too" },
        { "listeners: [{path: /a, identity: pod}]", NULL },
        { "listeners: [{path: /a, identity: pod, namespace: team-a}]", "t.yaml:1: listeners[0]: namespace \"team-a\" has no meaning with identity pod" },
        { "listeners: [{path: /a, identity: any}]", "allowed: fixed, pod, trusted" },
        { "listeners: [{path: /a, identity: trusted, namespace: x}]", "listeners[0]: namespace \"x\" has no meaning with identity trusted" },
        { "listeners: [{path: /a, namespace: Team}]", "listeners[0].namespace: \"Team\" does not fit; allowed: a DNS label" },
        { "listeners: [{path: /a, namespace: -a}]", "does not fit" },
        { "listeners: [{path: /a, module_dir: \"/x/{namespace}/y\"}]", NULL },
        { "listeners: [{path: /a, module_dir: \"/x/{name}\"}]", "listeners[0].module_dir: \"/x/{name}\" does not fit" },
        { "listeners: [{path: /a, module_dir: \"x\"}]", "does not fit" },
        { "metrics: {address: \"127.0.0.1:9464\"}", NULL },
        { "metrics: {address: \"[::1]:0\"}", NULL },
        { "metrics: {address: \"localhost:1\"}", NULL },
        { "metrics: {address: \"example:9464\"}", "metrics.address: \"example:9464\" does not fit; allowed: host:port" },
        { "metrics: {address: \"127.0.0.1\"}", "does not fit" },
        { "metrics: {address: \"127.0.0.1:70000\"}", "does not fit" },
        { "registries: {\"a.example:5000\": {plain_http: true}}", NULL },
        { "registries: {\"[::1]:5000\": }", NULL },
        { "registries: {\"https://a.example\": {}}", "the key does not fit; allowed: host[:port]" },
        { "registries: {\"a.example/x\": {}}", "the key does not fit" },
        { "registries: {\"A.example\": {}}", "the key does not fit" },
        { "registries: [a]", "registries: a value of type array does not fit; allowed: a map with hosts as keys" },
        { "registries: {a.example: {plainhttp: true}}", "registries.a.example.plainhttp: unknown key; did you mean \"plain_http\"?" },
        { "registries: {a.example: {plain_http: yes please}}", "registries.a.example.plain_http: \"yes please\" does not fit; allowed: true, false" },
        { "registries: {a.example: {client_key: /k}}", "client_key without client_certificate" },
        { "registries: {a.example: {client_certificate: /k}}", "client_certificate without client_key" },
        { "registries: {a.example: {plain_http: true, ca: /k}}", "plain_http with skip_verify, ca" },
        { "registries: {a.example: {mirrors: [\"https://m.example/p\"], token_realms: [t.example]}}", NULL },
        { "registries: {a.example: {mirrors: [m.example]}}", "registries.a.example.mirrors: \"m.example\" does not fit; allowed: a list of: http://" },
        { "registries: {a.example: {mirrors: [\"https://u:p@m.example\"]}}", "does not fit" },
        { "registries: {a.example: {mirrors: [\"https://m.example/?q\"]}}", "does not fit" },
        { "registries: {a.example: {mirrors: \"https://m.example\"}}", "does not fit; allowed: a list of" },
        { "network: {block: [10.0.0.0/8, \"fd00::/8\", 192.0.2.1]}", NULL },
        { "network: {block: [10.0.0.0/33]}", "network.block: \"10.0.0.0/33\" does not fit" },
        { "network: {allow: [10.0.0/8]}", "network.allow: \"10.0.0/8\" does not fit" },
        { "network: {http_proxy: \"http://u:secret@p.example:3128\"}", NULL },
        { "network: {http_proxy: \"socks5://u:secret@p.example\"}", "network.http_proxy: the value (not shown, it may hold a password) does not fit" },
        { "registries_dir: /etc/x", NULL },
        { "registries_dir: x", "t.yaml:1: registries_dir: \"x\" does not fit" },
        { "registries_dir: \"\"", NULL },
        { "manifests: /etc/x", NULL },
        { "manifests: etc/x", "manifests: " },
        { "credentials: {provider_config: /x, provider_bin_dir: /y}", NULL },
        { "credentials:\n  provider_config: /x", "t.yaml:2: credentials.provider_config: without credentials.provider_bin_dir; both or neither" },
        { "credentials: {provider_bin_dir: /x}", "t.yaml:1: credentials.provider_bin_dir: without credentials.provider_config" },
        { "kubernetes: {mode: off}", NULL },
        { "kubernetes: {mode: in-cluster, node: node-a.example, events: false}", NULL },
        { "kubernetes: {mode: kubeconfig, kubeconfig: /k}", NULL },
        { "kubernetes: {mode: kubeconfig, kubeconfig: k}", "kubernetes.kubeconfig: \"k\" does not fit; allowed: an absolute path" },
        { "kubernetes: {node: \"No/node\"}", "kubernetes.node: \"No/node\" is no name of a node" },
        { "kubernetes: {mode: in-cluster}", NULL },
        { "kubernetes: {mode: kubeconfig, kubeconfig: /etc/kubernetes/agent.conf}", NULL },
        { "kubernetes: {mode: kubeconfig}", "t.yaml:1: kubernetes.kubeconfig: missing" },
        { "kubernetes:\n  kubeconfig: /x", "t.yaml:2: kubernetes.kubeconfig: has a meaning only with" },
        { "kubernetes: {token_audience: \"\"}", "t.yaml:1: kubernetes.token_audience: \"\" does not fit" },
        { "kubernetes: {mode: on}", "kubernetes.mode: " },
        { "kubernetes: {root_namespace: istio-system}", NULL },
        { "kubernetes: {root_namespace: other}", NULL },
        { "kubernetes: {root_namespace: No_Label}", "kubernetes.root_namespace: " },
        { "trust: {formats: [bundle, simple, embedded, detached, raw]}", NULL },
        { "trust: {formats: [bundle]}", NULL },
        { "trust: {formats: [pgp]}", "trust.formats: \"pgp\" does not fit; allowed: a list of: bundle, simple" },
        { "trust: {rekor_keys: [/k]}", NULL },
        { "trust: {require_top_level_signature: true}", NULL },
        { "trust: {require: [{match: \"a.example/*\", keys: [/k.pem], annotations: {a: b}, identity: exact}]}", NULL },
        { "trust: {require: [{}]}", "trust.require[0]: \"match\" is missing" },
        { "trust: {require: []}", NULL },
        { "trust:\n  require:\n    - {match: \"a.example/*\"}", "t.yaml:3: trust.require[0]: \"keys\" is missing or empty" },
        { "trust:\n  require:\n    - {match: \"a.example/*\", keys: [/k]}\n    - {match: \"*\", keys: []}", "t.yaml:4: trust.require[1]: \"keys\" is missing or empty" },
        { "trust: {require: [{match: a.example, keys: [/k]}]}", "t.yaml:1: trust.require[0]: match \"a.example\" is a host without a path" },
        { "trust: {require: [{match: \"https://a.example\", keys: [/k]}]}", "allowed: https://a.example/* for all" },
        { "trust: {require: [{match: \"*\", keys: [/k]}, {match: \"a.example?5000*\", keys: [/k]}, {match: /srv/x, keys: [/k]}, {match: \"https://a.example/\", keys: [/k]}]}", NULL },
        { "trust: {signature_repository: \"\"}", NULL },
        { "trust: {signature_repository: \"a.example/signatures\"}", NULL },
        { "trust: {signature_repository: \"localhost:5000/a/b\"}", NULL },
        { "trust: {signature_repository: \"docker.io/team/signatures\"}", NULL },
        { "trust: {signature_repository: \"index.docker.io/team/signatures\"}", NULL },
        { "trust: {signature_repository: a.example}", "trust.signature_repository: \"a.example\" does not fit; allowed: host[:port]/path" },
        { "trust: {signature_repository: team/signatures}", "t.yaml:1: trust.signature_repository: \"team/signatures\" does not fit" },
        { "trust: {signature_repository: \"a.example/Signatures\"}", "does not fit" },
        { "trust: {signature_repository: \"a.example/x/\"}", "does not fit" },
        { "trust: {signature_repository: \"a.example/x:v1\"}", "does not fit" },
        { "trust: {signature_repository: \"a.example/x@sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00\"}", "does not fit" },
        { "trust: {signature_repository: \"oci://a.example/x\"}", "does not fit" },
        { "trust: {signature_repository: \"https://a.example/x\"}", "does not fit" },
        { "log: {level: debug, format: json}", NULL },
        { "log: {level: off}", NULL },
        { "log: {level: loud}", "log.level: \"loud\" does not fit; allowed: debug, info, warn, error, off" },
        { "limits: {body: 1KiB, connections: 1, idle_timeout: 100ms}", NULL },
        { "limits: {connections: 0}", "limits.connections: 0 does not fit" },
        { "files: {roots: [/srv/a, /srv/b]}", NULL },
        { "files: {roots: [srv]}", "files.roots: \"srv\" does not fit; allowed: a list of: an absolute path" },
        { "files: {roots: [\"\"]}", "files.roots: \"\" does not fit" },
        { "a: 1\na: 2\n", "t.yaml" },
        { "log: {}\na: [", "t.yaml:" },
};

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(config_free) struct config *config = NULL;
                struct error err = { 0 };
                bool taken = config_parse(rows[i].text, strlen(rows[i].text), "t.yaml", &config, &err);
                if (taken != (rows[i].error == NULL) || (!taken && !strstr(err.text, rows[i].error)))
                        fail_msg("%s → %s", rows[i].text, taken ? "taken" : err.text);
                assert_int_equal(config != NULL, taken);
                if (!taken) {
                        assert_int_equal(err.code, ERROR_BAD_REQUEST);
                        assert_null(strstr(err.text, "secret@"));
                }
        }
}

static void test_defaults(void **state)
{
        (void)state;
        CLEANUP(config_free) struct config *config = parse("");
        assert_int_equal(config->listener_count, 1);
        assert_string_equal(config->listeners[0].path, "/run/wasmcached/agent.sock");
        assert_int_equal(config->listeners[0].mode, 0666);
        assert_int_equal(config->listeners[0].identity, CONFIG_IDENTITY_FIXED);
        assert_string_equal(config->listeners[0].namespace, "default");
        assert_string_equal(config->listeners[0].module_dir, "/var/lib/wasmcached/modules/{namespace}");
        assert_string_equal(config->admin.path, "/run/wasmcached/admin.sock");
        assert_int_equal(config->admin.mode, 0600);
        assert_string_equal(config->metrics.address, "");
        assert_int_equal(config->store.max_size_bytes, 10LL << 30);
        assert_int_equal(config->store.high_watermark, 90);
        assert_int_equal(config->store.low_watermark, 80);
        assert_int_equal(config->store.lease_time_ms, 3600000);
        assert_int_equal(config->store.scrub_rate_bytes, 8 << 20);
        assert_int_equal(config->pull.slots, 8);
        assert_int_equal(config->pull.slots_per_host, 4);
        assert_int_equal(config->pull.timeout_ms, 300000);
        assert_int_equal(config->pull.connect_timeout_ms, 10000);
        assert_int_equal(config->pull.progress_timeout_ms, 30000);
        assert_int_equal(config->pull.retries, 3);
        assert_int_equal(config->pull.max_layer_size_bytes, 256 << 20);
        assert_int_equal(config->pull.max_module_size_bytes, 256 << 20);
        assert_int_equal(config->pull.stale_if_error_ms, 0);
        assert_int_equal(config->pull.negative_time_ms, 10000);
        assert_null(config->files.roots[0]);
        assert_string_equal(config->trust.formats[4], "raw");
        assert_string_equal(config->kubernetes.root_namespace, "istio-system");
        assert_int_equal(config->log.level, LOG_LEVEL_INFO);
        assert_int_equal(config->log.format, LOG_FORMAT_LOGFMT);
        assert_int_equal(config->limits.body_bytes, 1 << 20);
}

static void test_module_dir_follows_root(void **state)
{
        (void)state;
        CLEANUP(config_free) struct config *config = parse("store: {root: /srv/w}");
        assert_string_equal(config->listeners[0].module_dir, "/srv/w/modules/{namespace}");
}

static const char FULL[] =
        "listeners:\n  - {path: /run/a.sock, mode: \"0660\", namespace: team-a, module_dir: \"/m/{namespace}\"}\n  - {path: /run/b.sock, identity: trusted}\n"
        "metrics: {address: \"[::1]:9464\"}\n"
        "store: {root: /srv/w, max_size: 1536MiB, lease_time: 1h30m}\n"
        "pull: {slots: 2, stale_if_error: 1500ms}\n"
        "registries: {\"r.example:5000\": {ca: /ca.pem, mirrors: [\"https://m.example/p\", \"http://n.example\"], token_realms: [t.example, \"u.example:8443\"]}, "
        "localhost: {plain_http: true}}\n"
        "files: {roots: [/srv/modules]}\n"
        "network: {block: [10.0.0.0/8], no_proxy: \"a, b\", https_proxy: \"http://p.example:3128\"}\n"
        "log: {level: off, format: json}\n";

/* What is printed is read back to the same. */
static void test_print(void **state)
{
        (void)state;
        const char *const texts[] = { "", FULL };
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                CLEANUP(config_free) struct config *config = parse(texts[i]);
                CLEANUP(buffer_fini) struct buffer yaml = { 0 };
                config_print_yaml(config, &yaml);
                CLEANUP(config_free) struct config *again = parse(yaml.data);
                CLEANUP(cleanup_free) char *json = print_json(config);
                CLEANUP(cleanup_free) char *json_again = print_json(again);
                assert_string_equal(json, json_again);
        }
}

static void test_json(void **state)
{
        (void)state;
        CLEANUP(config_free) struct config *config = parse(FULL);
        CLEANUP(cleanup_free) char *json = print_json(config);
        CLEANUP(value_free) struct value *value = NULL;
        struct error err = { 0 };
        assert_true(json_parse(json, strlen(json), ERROR_INTERNAL, &value, &err));
        assert_string_equal(value_get_text(value_get_member(value_get_member(value, "store"), "max_size")), "1536MiB");
        assert_string_equal(value_get_text(value_get_member(value_get_item(value_get_member(value, "listeners"), 0), "mode")), "0660");
        assert_true(value_get_bool(value_get_member(value_get_member(value_get_member(value, "registries"), "localhost"), "plain_http")));
}

static void test_password_not_shown(void **state)
{
        (void)state;
        CLEANUP(config_free) struct config *config = parse("network: {http_proxy: \"http://user:secret@p.example:3128\"}");
        CLEANUP(buffer_fini) struct buffer yaml = { 0 };
        config_print_yaml(config, &yaml);
        CLEANUP(cleanup_free) char *json = print_json(config);
        assert_null(strstr(yaml.data, "secret@"));
        assert_null(strstr(json, "secret@"));
        assert_non_null(strstr(json, "http://***@p.example:3128"));
        struct fetch_options options;
        config_to_fetch_options(config, &options);
        assert_string_equal(options.http_proxy, "http://user:secret@p.example:3128");
}

/* running, next → what reload says */
static const struct { const char *running, *next, *said; } reloads[] = {
        { "", "{}", "{\"applied\":[],\"needsRestart\":[]}" },
        { "", "log: {level: debug}", "{\"applied\":[\"log.level\"],\"needsRestart\":[]}" },
        { "", "store: {root: /x, max_size: 1GiB}\nlisteners: [{path: /run/wasmcached/agent.sock, module_dir: \"/var/lib/wasmcached/modules/{namespace}\"}]",
          "{\"applied\":[\"store.max_size\"],\"needsRestart\":[\"store.root\"]}" },
        { "", "listeners: [{path: /a.sock}]", "{\"applied\":[],\"needsRestart\":[\"listeners\"]}" },
        { "registries: {a.example: {ca: /x}}", "registries: {a.example: {ca: /y}}", "{\"applied\":[\"registries\"],\"needsRestart\":[]}" },
        { "network: {http_proxy: \"http://u:a@p\"}", "network: {http_proxy: \"http://u:b@p\"}", "{\"applied\":[\"network.http_proxy\"],\"needsRestart\":[]}" },
        { "admin: {mode: \"0600\"}", "admin: {mode: \"0660\"}\npull: {slots: 3, retries: 1}", "{\"applied\":[\"pull.slots\",\"pull.retries\"],\"needsRestart\":[\"admin.mode\"]}" },
};

static void test_reload(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(reloads); i++) {
                CLEANUP(config_free) struct config *running = parse(reloads[i].running);
                CLEANUP(config_free) struct config *next = parse(reloads[i].next);
                CLEANUP(config_changes_fini) struct config_changes changes = { 0 };
                CLEANUP(buffer_fini) struct buffer said = { 0 };
                struct error err = { 0 };
                assert_true(config_reload(running, next, &changes, &err));
                config_changes_print_json(&changes, &said);
                assert_string_equal(said.data, reloads[i].said);
                assert_string_equal(next->store.root, running->store.root);
                assert_string_equal(next->listeners[0].path, running->listeners[0].path);
                assert_int_equal(next->admin.mode, running->admin.mode);
        }
}

static void test_rooms(void **state)
{
        (void)state;
        CLEANUP(config_free) struct config *config = parse(FULL);
        struct fetch_options fetch;
        struct registry_options registry;
        struct modules_options modules;
        struct store_options store;
        struct serve_limits limits;
        struct api_listener listener;
        config_to_fetch_options(config, &fetch);
        config_to_registry_options(config, &registry);
        config_to_modules_options(config, &(struct modules_trust){ 0 }, &modules);
        config_to_store_options(config, &store);
        config_to_serve_limits(config, &limits);
        assert_int_equal(fetch.host_count, 2);
        assert_string_equal(fetch.hosts[0].ca, "/ca.pem");
        assert_null(fetch.hosts[0].client_key);
        assert_true(fetch.hosts[1].plain_http);
        assert_string_equal(fetch.block[0], "10.0.0.0/8");
        assert_string_equal(registry.realm_pairs[1], "r.example:5000 u.example:8443");
        assert_null(registry.realm_pairs[2]);
        assert_int_equal(modules.slots_per_host, 2);
        assert_int_equal(modules.mirror_count, 2);                 /* all of which something is said, for registries_dir is not looked into for them */
        assert_null(modules.mirrors[1].mirrors[0]);
        assert_string_equal(modules.mirrors[0].mirrors[1], "http://n.example");
        assert_string_equal(modules.file_roots[0], "/srv/modules");
        assert_string_equal(store.root, "/srv/w");
        assert_int_equal(limits.header_max_bytes, 8 << 10);
        config_to_listener(&config->listeners[0], &listener);
        assert_string_equal(listener.namespace, "team-a");
        config_to_listener(&config->listeners[1], &listener);
        assert_int_equal(listener.identity, API_IDENTITY_TRUSTED);
        assert_null(listener.namespace);
        config_to_admin_listener(config, &listener);
        assert_string_equal(listener.module_dir, "/srv/w/modules/{namespace}");
}

/* Every option is in the manual, and no line of text starts a request by accident. */
static void test_manual(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer manual = { 0 };
        config_print_manual(&manual);
        for (size_t i = 0; i < option_count; i++) {
                const char *dot = strrchr(option_table[i].path, '.');
                CLEANUP(cleanup_free) char *tag = string_format(".It Ic %s\n", dot ? dot + 1 : option_table[i].path);
                if (!strstr(manual.data, tag))
                        fail_msg("%s is not in the manual", option_table[i].path);
                assert_true(strlen(option_table[i].prose) > 10);
        }
        CLEANUP(cleanup_free) char *text = buffer_take(&manual);
        for (char *rest = text, *line; (line = strsep(&rest, "\n")); )
                if (line[0] == '.')
                        assert_true(line[1] >= 'A' && line[1] <= 'Z' ? true : line[1] == '\\');
}

static void test_load(void **state)
{
        (void)state;
        char path[] = "/tmp/wasmcached-config-XXXXXX";
        int fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_true(fs_write_all(fd, "pull: {slots: 3}\n", 17));
        close(fd);
        CLEANUP(config_free) struct config *config = NULL;
        struct error err = { 0 };
        assert_true(config_load(path, &config, &err));
        assert_int_equal(config->pull.slots, 3);
        unlink(path);
        CLEANUP(config_free) struct config *none = NULL;
        assert_false(config_load(path, &none, &err));
        assert_int_equal(err.code, ERROR_NOT_FOUND);
        assert_non_null(strstr(err.text, path));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_refusals), cmocka_unit_test(test_defaults), cmocka_unit_test(test_module_dir_follows_root), cmocka_unit_test(test_print),
                        cmocka_unit_test(test_json),
                cmocka_unit_test(test_password_not_shown), cmocka_unit_test(test_reload), cmocka_unit_test(test_rooms), cmocka_unit_test(test_manual), cmocka_unit_test(test_load),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
