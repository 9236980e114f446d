/* Objects of a manifest file: Secrets by type, encoding and member, Pods, and what is neither. */
#include "plugin_tools.h"
#include "../../agent/plugin/folder.h"

static void read_yaml(const char *yaml, struct batch *batch)
{
        CLEANUP(value_free) struct value *list = NULL;
        struct error err;
        if (!yaml_parse_all(yaml, strlen(yaml), ERROR_BAD_REQUEST, &list, &err))
                fail_msg("%s: %s", yaml, err.text);
        *batch = (struct batch){ 0 };
        for (size_t i = 0; i < value_get_count(list); i++)
                object_read(batch, "file.yaml", value_get_item(list, i));
}

#define SECRET "apiVersion: v1, kind: Secret, metadata: {name: pull, namespace: team}, "
#define JSON_TYPE "type: kubernetes.io/dockerconfigjson, "
#define CONFIG "'{\"auths\": {\"r.example\": {\"username\": \"u\", \"password\": \"p\"}}}'"
#define ENCODED "eyJhdXRocyI6IHsici5leGFtcGxlIjogeyJ1c2VybmFtZSI6ICJ1IiwgInBhc3N3b3JkIjogInAifX19"
#define LEGACY "eyJyLmV4YW1wbGUiOiB7InVzZXJuYW1lIjogInUiLCAicGFzc3dvcmQiOiAicCJ9fQ=="

static void test_secrets(void **state)
{
        static const struct { const char *members; bool is_useful; const char *says, *field; } rows[] = {
                { JSON_TYPE "data: {.dockerconfigjson: " ENCODED "}", true, NULL, NULL },
                { JSON_TYPE "stringData: {.dockerconfigjson: " CONFIG "}", true, NULL, NULL },
                { JSON_TYPE "data: {.dockerconfigjson: ''}, stringData: {.dockerconfigjson: " CONFIG "}", true, NULL, NULL },
                { JSON_TYPE "immutable: true, data: {other: eA==, .dockerconfigjson: " ENCODED "}", true, NULL, NULL },
                { "type: kubernetes.io/dockercfg, data: {.dockercfg: " LEGACY "}", true, NULL, NULL },
                { "type: kubernetes.io/dockercfg, data: {.dockerconfigjson: " ENCODED "}", false, "has no .dockercfg", NULL },
                { "data: {.dockerconfigjson: " ENCODED "}", false, "is of type Opaque", NULL },
                { JSON_TYPE "data: {}", false, "has no .dockerconfigjson", NULL },
                { JSON_TYPE "data: {.dockerconfigjson: eA==}", false, "team/pull", NULL },
                { JSON_TYPE "data: {.dockerconfigjson: " LEGACY "}", false, "team/pull", NULL },
                { JSON_TYPE "data: {.dockerconfigjson: eA}", false, "refused", "data..dockerconfigjson" },
                { JSON_TYPE "data: {.dockerconfigjson: 'eA ==' }", false, "refused", "data..dockerconfigjson" },
                { JSON_TYPE "data: {other: '!', .dockerconfigjson: " ENCODED "}", false, "refused", "data.other" },
                { JSON_TYPE "data: []", false, "refused", "data" },
                { JSON_TYPE "stringData: {.dockerconfigjson: {}}", false, "refused", "stringData..dockerconfigjson" },
                { JSON_TYPE "spec: {}, data: {.dockerconfigjson: " ENCODED "}", false, "refused", "spec" },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *yaml = string_format("{" SECRET "%s}", rows[i].members);
                CLEANUP(batch_fini) struct batch batch;
                read_yaml(yaml, &batch);
                assert_null(batch.file);
                assert_int_equal(batch.claim_count, 1);
                const struct claim *claim = batch.claims;
                if ((claim->config != NULL) != rows[i].is_useful || (claim->err.code != ERROR_NONE) == rows[i].is_useful)
                        fail_msg("%s → %s", yaml, claim->err.text);
                if (rows[i].says && (!strstr(claim->err.text, rows[i].says) || claim->err.code != ERROR_SECRET_MISSING || strstr(claim->err.text, "password")))
                        fail_msg("%s → %s", yaml, claim->err.text);
                assert_int_equal(batch.plugin_count, rows[i].field ? 1 : 0);
                if (rows[i].field) {
                        assert_int_equal(batch.plugins[0]->kind, PLUGIN_SECRET);
                        assert_int_equal(batch.plugins[0]->state, PLUGIN_REFUSED);
                        assert_string_equal(batch.plugins[0]->problems[0].field, rows[i].field);
                }
        }
}

static void test_pods(void **state)
{
        CLEANUP(batch_fini) struct batch batch;
        (void)state;
        read_yaml("{apiVersion: v1, kind: Pod, metadata: {name: p, uid: u-1, labels: {b: '2', a: ''}}, spec: {nodeName: n, containers: [], anything: 1}, status: {}}\n---\n"
                "{apiVersion: v1, kind: Pod, metadata: {name: q, namespace: team}}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: Q}, spec: []}\n---\n"
                "{apiVersion: v1, kind: Pod, metadata: {name: r, labels: {a: null}}, spek: {}}", &batch);
        assert_int_equal(batch.pod_count, 2);
        const struct plugin_pod *pod = batch.pods[0];
        assert_string_equal(pod->namespace, "default");
        assert_string_equal(pod->uid, "u-1");
        assert_string_equal(pod->node, "n");
        assert_string_equal(pod->service_account, "default");
        assert_int_equal(pod->label_count, 2);
        assert_string_equal(batch.pods[1]->namespace, "team");
        assert_null(batch.pods[1]->uid);
        assert_int_equal(batch.claim_count, 4);             /* a refused one has its name all the same */
        assert_int_equal(batch.plugin_count, 2);
        assert_string_equal(batch.plugins[0]->problems[0].field, "metadata.name");
        assert_string_equal(batch.plugins[0]->problems[1].field, "spec");
        assert_string_equal(batch.plugins[1]->problems[0].field, "spek");
        assert_string_equal(batch.plugins[1]->problems[1].field, "metadata.labels.a");
        assert_true(batch.plugins[0]->fingerprint != batch.plugins[1]->fingerprint);
}

static void test_others(void **state)
{
        CLEANUP(batch_fini) struct batch batch;
        (void)state;
        read_yaml("text\n---\n[]\n---\n{apiVersion: v1, kind: ConfigMap}\n---\n{apiVersion: v2, kind: Secret, metadata: {name: x}}\n---\n"
                "{apiVersion: v1, kind: Secret}\n---\n{apiVersion: v1, kind: Pod, metadata: {name: x, namespace: 5}}\n---\n"
                "{apiVersion: extensions.istio.io/v1alpha1, kind: WasmPlugin, metadata: {name: w}, spec: {url: r.example/a}}", &batch);
        static const char *const lines[] = { "line 1", "line 3", "line 5", "line 7", "line 9", "line 11" };
        assert_int_equal(batch.file->problem_count, COUNT_OF(lines));
        for (size_t i = 0; i < COUNT_OF(lines); i++)
                assert_string_equal(batch.file->problems[i].field, lines[i]);
        assert_non_null(strstr(batch.file->problems[2].detail, "\"ConfigMap\""));
        assert_int_equal(batch.plugin_count, 1);
        assert_int_equal(batch.plugins[0]->state, PLUGIN_ACCEPTED);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_secrets), cmocka_unit_test(test_pods), cmocka_unit_test(test_others) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
