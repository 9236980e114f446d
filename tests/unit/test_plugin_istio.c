/*
 * 400 random cases (objects, proxy) with what Istio's own code answered: which objects its CRD and its webhook refuse, and the chain of each phase. Every difference must be explained by
 * a row below, and every row explains exactly as many as it says: a new difference fails, and so does one that is gone.
 */
#include "plugin_tools.h"

#define DATA "/data/istio-answers.jsonl.gz"
enum { CASES = 400, OBJECTS_MAX = 32, CHAIN_MAX = 64 };

/* Verdicts: what decides is a problem of ours with this field and value, or (Istio refuses, we accept) the value of the field. "*" = any value; "x*" = a prefix. */
static struct row { const char *field, *value, *reason; unsigned expected, found; } verdicts[] = {
        { "url", "host:5000/x:v1", "contract 1: without scheme:// it is an OCI reference, port included; Istio takes \"host\" for a scheme", 21, 0 },
        { "url", "oci://reg.example/a/b:v1#frag", "contract 1: a fragment is refused", 52, 0 },
        { "url", "oci://u:p@reg.example/a:1", "contract 1: userinfo is refused", 56, 0 },
        { "url", "oci://reg.example/a b", "contract 1: blanks are refused", 42, 0 },
        { "url", "oci://reg.EXAMPLE/A/B:V1", "contract 1: an upper-case path is refused", 44, 0 },
        { "url", "https://h.example:8443/m.wasm?x=1&y=%20", "contract 1: a query is refused", 58, 0 },
        { "url", "file://opt/m.wasm", "contract 1: file:// needs an absolute path", 40, 0 },
        { "url", "/abs/path", "contract 1: without a scheme it is an OCI reference, and this is none", 50, 0 },
        { "sha256", "bbbb*", "contract 1: must agree with the @sha256:aaaa of the url before any network I/O; Istio fails at the pull", 5, 0 },
        { "imagePullSecret", "other/regcred", "contract 1: a plain name; Istio rewrites the namespace", 67, 0 },
        { "imagePullSecret", "kubernetes://other/regcred", "contract 1: a plain name; Istio rewrites the namespace", 61, 0 },
        { "imagePullSecret", "kubernetes://regcred", "contract 1: a plain name", 52, 0 },
        { "imagePullSecret", "invalid://x", "contract 1: a plain name; Istio's agent fails at the pull", 51, 0 },
        { "verificationKey", "*", "contract 1: text that is no key is an error at once; Istio never looks at it", 124, 0 },
        { "name", "ISTIO_META_*", "contract 5: the prefix is reserved", 247, 0 },
};

/* Chains. */
enum { IN_CHAIN_LUA, IN_CHAIN_UNREADABLE, IN_OURS_STAND_IN, IN_OURS_URL, ORDER_ABSENT, ORDER_TIE, CHAIN_ROWS };
static struct row chains[CHAIN_ROWS] = {
        [IN_CHAIN_LUA] = { "Istio's only", "a TrafficExtension with lua", "contract 5: it needs no module; `ignored`, in no chain", 19, 0 },
        [IN_CHAIN_UNREADABLE] = { "Istio's only", "refused, selection cannot be read (validation bypassed in Istio)", "contract 5: a stand-in needs a selection that can be read", 1, 0 },
        [IN_OURS_STAND_IN] = { "ours only", "refused", "contract 5: a refused resource keeps its place as a stand-in; Istio never gets it, or drops it with a log line", 71, 0 },
        [IN_OURS_URL] = { "ours only", "scheme-less url with a port", "contract 1: it is an OCI reference", 13, 0 },
        [ORDER_ABSENT] = { "order", "one priority is absent", "contract 5: an absent priority is 0, as documented; Istio's code takes the lowest int32", 17, 0 },
        [ORDER_TIE] = { "order", "equal priorities", "contract 5: name, then namespace; Istio: proxy's namespace first, then creation time, then a synthetic name", 11, 0 },
};

struct object { const struct value *raw; struct plugin *plugin; bool is_dropped_by_istio; };      /* by validation, where enforced, or silently by istiod */
struct istio_case { const char *id; struct value *value; struct object objects[OBJECTS_MAX]; size_t count; };

static const char *text_of(const struct value *map, const char *name)
{
        const char *text = value_get_text(value_get_member(map, name));
        return text ? text : "";
}

static struct object *object_find(struct istio_case *test, const char *kind, const char *namespace, const char *name)
{
        for (size_t i = 0; i < test->count; i++) {
                const struct plugin *plugin = test->objects[i].plugin;
                if (strcmp(plugin_kind_names[plugin->kind], kind) == 0 && strcmp(plugin->namespace, namespace) == 0 && strcmp(plugin->name, name) == 0)
                        return &test->objects[i];
        }
        fail_msg("%s: no object %s %s/%s", test->id, kind, namespace, name);
        return NULL;
}

static const struct value *spec_of(const struct object *object)
{
        return value_get_member(object->raw, "spec");
}

static const struct value *wasm_of(const struct object *object)
{
        return object->plugin->kind == PLUGIN_WASM_PLUGIN ? spec_of(object) : value_get_member(spec_of(object), "wasm");
}

/* The value that a problem is about, of the fields that rows name. */
static const char *value_at(const struct object *object, const char *field)
{
        const char *env = strstr(field, "vmConfig.env[");
        if (env)
                return text_of(value_get_item(value_get_member(value_get_member(wasm_of(object), "vmConfig"), "env"), (size_t)atoi(env + 13)), "name");
        const char *dot = strrchr(field, '.');
        return text_of(wasm_of(object), dot ? dot + 1 : field);
}

static bool row_fits(const struct row *row, const char *field, const char *value)
{
        const char *tail = strrchr(field, '.');
        size_t length = strlen(row->value);
        if (strcmp(tail ? tail + 1 : field, row->field) != 0)
                return false;
        return row->value[length - 1] == '*' ? strncmp(row->value, value, length - 1) == 0 : strcmp(row->value, value) == 0;
}

static bool verdict_explain(const struct object *object, const char *field)
{
        for (size_t i = 0; i < COUNT_OF(verdicts); i++)
                if (row_fits(&verdicts[i], field, value_at(object, field))) {
                        verdicts[i].found++;
                        return true;
                }
        return false;
}

static bool has_problem(const struct plugin *plugin, const char *field, size_t length)
{
        for (size_t i = 0; i < plugin->problem_count; i++)
                if (strlen(plugin->problems[i].field) == length && strncmp(plugin->problems[i].field, field, length) == 0)
                        return true;
        return false;
}

/* "WasmPlugin/x/y: spec.sha256: Invalid value: …, spec.url: …": where Istio's CRD names a field, so do we. */
static void check_fields(const struct istio_case *test, const struct object *object, const char *crd)
{
        for (const char *at = strstr(crd, "spec."); at; at = strstr(at + 1, "spec.")) {
                size_t length = strcspn(at, ": ");
                bool is_field = strncmp(at + length, ": Invalid value", 15) == 0 || strncmp(at + length, ": Duplicate value", 17) == 0;
                CLEANUP(cleanup_free) char *field = string_copy_bytes(at, length);
                if (is_field && !has_problem(object->plugin, at, length) && !(strcmp(value_at(object, field), "host:5000/x:v1") == 0))
                        fail_msg("%s: Istio's CRD refuses %s of %s, we do not: %s", test->id, field, object->plugin->name, crd);
        }
}

static void check_verdicts(struct istio_case *test)
{
        const struct value *list = value_get_member(test->value, "verdicts");
        assert_int_equal(value_get_count(list), test->count);
        for (size_t i = 0; i < value_get_count(list); i++) {
                const struct value *verdict = value_get_item(list, i);
                struct object *object = object_find(test, text_of(verdict, "kind"), text_of(verdict, "namespace"), text_of(verdict, "name"));
                const struct plugin *plugin = object->plugin;
                bool is_refused_by_istio = *text_of(verdict, "crdError") || *text_of(verdict, "webhookError");
                object->is_dropped_by_istio = value_get_bool(value_get_member(verdict, "dropped"));
                check_fields(test, object, text_of(verdict, "crdError"));
                if (is_refused_by_istio == (plugin->state == PLUGIN_REFUSED))
                        continue;
                if (is_refused_by_istio && !verdict_explain(object, "url"))
                        fail_msg("%s: %s/%s is refused by Istio, not by us: %s %s", test->id, plugin->namespace, plugin->name, text_of(verdict, "crdError"), text_of(verdict, "webhookError"));
                for (size_t k = 0; k < plugin->problem_count; k++)
                        if (!verdict_explain(object, plugin->problems[k].field))
                                fail_msg("%s: %s/%s is refused by us, not by Istio: %s (\"%s\"): %s", test->id, plugin->namespace, plugin->name, plugin->problems[k].field,
                                        value_at(object, plugin->problems[k].field), plugin->problems[k].detail);
        }
}

/* "WasmPlugin/demo/p1" */
static void drops_read(struct istio_case *test)
{
        const struct value *list = value_get_member(test->value, "dropped");
        for (size_t i = 0; i < value_get_count(list); i++) {
                CLEANUP(cleanup_free) char *kind = string_copy(value_get_text(value_get_item(list, i)));
                char *namespace = strchr(kind, '/'), *name = strrchr(kind, '/');
                *namespace++ = *name++ = '\0';
                object_find(test, kind, namespace, name)->is_dropped_by_istio = true;
        }
}

/* ---- chains ---- */
struct proxy { struct plugin_workload workload; struct plugin_traffic traffic; struct plugin_label labels[8]; struct plugin_service services[8]; char *names[8]; };

static void proxy_read(const struct value *value, struct proxy *ret_proxy)
{
        *ret_proxy = (struct proxy){ .workload = { text_of(value, "namespace"), ret_proxy->labels, 0, ret_proxy->services, 0 }, .traffic = { PLUGIN_ANY_DIRECTION, 0, PLUGIN_ANY_TYPE } };
        struct plugin_workload *workload = &ret_proxy->workload;
        const struct value *labels = value_get_member(value, "labels"), *services = value_get_member(value, "services");
        for (size_t i = 0; i < value_get_count(labels); i++)
                ret_proxy->labels[workload->label_count++] = (struct plugin_label){ (char *)(uintptr_t)value_get_key(labels, i), (char *)(uintptr_t)value_get_text(value_get_item(labels, i)) };
        if (strcmp(text_of(value, "nodeType"), "waypoint") == 0)
                ret_proxy->labels[workload->label_count++] = (struct plugin_label){ (char *)(uintptr_t)"gateway.istio.io/managed", (char *)(uintptr_t)"istio.io-mesh-controller" };
        for (size_t i = 0; i < value_get_count(services); i++) {
                char *namespace = string_copy(value_get_text(value_get_item(services, i))), *slash = strchr(namespace, '/'), *mark = strstr(namespace, ":External");
                *slash = '\0';
                if (mark)
                        *mark = '\0';
                ret_proxy->names[i] = namespace;
                ret_proxy->services[workload->service_count++] = (struct plugin_service){ mark != NULL, namespace, slash + 1 };
        }
        static const struct { const char *name; enum plugin_direction direction; } classes[] = {
                { "inbound", PLUGIN_INBOUND }, { "outbound", PLUGIN_OUTBOUND }, { "gateway", PLUGIN_GATEWAY_TRAFFIC },
        };
        for (size_t i = 0; i < COUNT_OF(classes); i++)
                if (strcmp(text_of(value, "class"), classes[i].name) == 0)
                        ret_proxy->traffic.direction = classes[i].direction;
        ret_proxy->traffic.port = (uint16_t)value_get_int(value_get_member(value, "port"));
        const char *chain = text_of(value, "chain");
        ret_proxy->traffic.type = strcmp(chain, "http") == 0 ? PLUGIN_HTTP : strcmp(chain, "network") == 0 ? PLUGIN_NETWORK : PLUGIN_ANY_TYPE;
}

static void proxy_fini(struct proxy *proxy)
{
        for (size_t i = 0; i < COUNT_OF(proxy->names); i++)
                free(proxy->names[i]);
}

static size_t place_in(const struct plugin *const *chain, size_t count, const struct plugin *plugin)
{
        size_t i = 0;
        while (i < count && chain[i] != plugin)
                i++;
        return i;
}

/* Ours lists the object, Istio does not (or the reverse). */
static void member_explain(const struct istio_case *test, const struct object *object, bool is_ours)
{
        const struct plugin *plugin = object->plugin;
        int row = -1;
        if (!is_ours)
                row = plugin->state == PLUGIN_IGNORED ? IN_CHAIN_LUA : plugin->state == PLUGIN_REFUSED && !plugin->is_placed ? IN_CHAIN_UNREADABLE : -1;
        else if (!object->is_dropped_by_istio)
                row = -1;                                 /* we select more than Istio does */
        else if (plugin->state == PLUGIN_REFUSED)
                row = IN_OURS_STAND_IN;
        else if (strcmp(value_at(object, "url"), "host:5000/x:v1") == 0 || strcmp(value_at(object, "url"), "10.0.0.1:5000/x:v1") == 0)
                row = IN_OURS_URL;
        if (row < 0)
                fail_msg("%s: %s %s/%s is in %s chain only", test->id, plugin_kind_names[plugin->kind], plugin->namespace, plugin->name, is_ours ? "our" : "Istio's");
        chains[row].found++;
}

static void order_explain(struct istio_case *test, const struct plugin *first, const struct plugin *second)
{
        const struct object *a = object_find(test, plugin_kind_names[first->kind], first->namespace, first->name), *b = object_find(test, plugin_kind_names[second->kind], second->namespace, second->name);
        bool has_a = value_get_kind(value_get_member(spec_of(a), "priority")) == VALUE_INT, has_b = value_get_kind(value_get_member(spec_of(b), "priority")) == VALUE_INT;
        if (!has_a && has_b)
                chains[ORDER_ABSENT].found++;
        else if (first->priority == second->priority)
                chains[ORDER_TIE].found++;
        else
                fail_msg("%s: %s/%s comes before %s/%s, but not in Istio's chain", test->id, first->namespace, first->name, second->namespace, second->name);
}

static void check_phase(struct istio_case *test, enum plugin_phase phase, const struct plugin_chain *ours)
{
        const struct plugin *theirs[CHAIN_MAX], *mine[CHAIN_MAX];
        const struct value *list = value_get_member(value_get_member(test->value, "order"), plugin_phase_names[phase]);
        size_t count = 0, mine_count = 0;
        for (; count < value_get_count(list); count++) {
                const struct value *entry = value_get_item(list, count);
                theirs[count] = object_find(test, text_of(entry, "kind"), text_of(entry, "namespace"), text_of(entry, "name"))->plugin;
        }
        for (size_t i = 0; i < ours->count; i++)
                if (ours->items[i]->phase == phase)
                        mine[mine_count++] = ours->items[i];
        for (size_t i = 0; i < test->count; i++) {
                bool in_mine = place_in(mine, mine_count, test->objects[i].plugin) < mine_count, in_theirs = place_in(theirs, count, test->objects[i].plugin) < count;
                if (in_mine != in_theirs)
                        member_explain(test, &test->objects[i], in_mine);
        }
        for (size_t i = 0; i < mine_count; i++)
                for (size_t k = i + 1; k < mine_count; k++) {
                        size_t a = place_in(theirs, count, mine[i]), b = place_in(theirs, count, mine[k]);
                        if (a < count && b < count && a > b)
                                order_explain(test, mine[i], mine[k]);
                }
}

static void check_chains(struct istio_case *test)
{
        const struct value *value = value_get_member(test->value, "proxy");
        CLEANUP(proxy_fini) struct proxy proxy;
        proxy_read(value, &proxy);
        CLEANUP(plugins_free) struct plugins *plugins = plugins_new(&(struct plugins_options){ .root_namespace = text_of(value, "rootNamespace") });
        for (size_t i = 0; i < test->count; i++)
                plugins_put(plugins, "istio", plugin_ref(test->objects[i].plugin));
        struct plugin_chain chain;
        plugins_select(plugins, &proxy.workload, &proxy.traffic, &chain);
        for (enum plugin_phase phase = PLUGIN_AUTHN; phase <= PLUGIN_UNSPECIFIED; phase++)
                check_phase(test, phase, &chain);
        for (size_t i = 0; i < test->count; i++)
                assert_int_equal(plugin_get_fit(test->objects[i].plugin, text_of(value, "rootNamespace"), &proxy.workload, &proxy.traffic) == PLUGIN_FIT_YES,
                        place_in(chain.items, chain.count, test->objects[i].plugin) < chain.count);
}

static void case_run(const char *line, size_t length)
{
        struct istio_case test = { 0 };
        struct error err;
        if (!json_parse(line, length, ERROR_BAD_REQUEST, &test.value, &err))
                fail_msg("%s", err.text);
        test.id = text_of(test.value, "id");
        const struct value *objects = value_get_member(test.value, "objects");
        for (size_t i = 0; i < value_get_count(objects); i++) {
                const struct value *object = value_get_item(objects, i);
                if (plugin_is_resource(object))
                        test.objects[test.count++] = (struct object){ object, plugin_decode(object), false };
        }
        check_verdicts(&test);
        drops_read(&test);
        check_chains(&test);
        for (size_t i = 0; i < test.count; i++)
                plugin_unref(&test.objects[i].plugin);
        value_free(&test.value);
}

static unsigned rows_check(const struct row *rows, size_t count)
{
        unsigned wrong = 0;
        for (size_t i = 0; i < count; i++)
                if (rows[i].found != rows[i].expected) {
                        print_error("%s \"%s\": %u differences, %u are listed (%s)\n", rows[i].field, rows[i].value, rows[i].found, rows[i].expected, rows[i].reason);
                        wrong++;
                }
        return wrong;
}

static void test_replay(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *file = string_copy(__FILE__);
        *strrchr(file, '/') = '\0';
        CLEANUP(cleanup_free) char *command = string_format("exec gzip -dc '%s" DATA "'", file);
        FILE *stream = popen(command, "r");
        assert_non_null(stream);
        char *line = NULL;
        size_t room = 0;
        unsigned count = 0;
        for (ssize_t length; (length = getline(&line, &room, stream)) > 0; count++)
                case_run(line, (size_t)length);
        free(line);
        assert_int_equal(pclose(stream), 0);
        assert_int_equal(count, CASES);
        assert_int_equal(rows_check(verdicts, COUNT_OF(verdicts)) + rows_check(chains, COUNT_OF(chains)), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_replay) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
