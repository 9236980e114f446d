/*
 * How it goes: each object of a file by its kind. Plugins are decoded as everywhere; of a Pod only what selection and identity need is read; a Secret's docker config is decoded
 *              from base64 and kept in memory that is wiped.
 * How it fails: an object that is wrong becomes a row for the listing of resources, with its problems by field; what is no object of ours is a problem of the file, with its line.
 * How it ends: batch_fini() frees what nobody took.
 */
#include <stdio.h>
#include <wasmcached/kube/process.h>
#include "folder.h"

static const char *const metadata_members[] = { "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
        "labels", "annotations", "ownerReferences", "finalizers", "managedFields", "generateName", "selfLink", NULL };

/* ---- the batch ---- */

static void plugin_add(struct batch *batch, struct plugin *plugin)
{
        if ((batch->plugin_count & (batch->plugin_count - 1)) == 0)
                batch->plugins = memory_resize(batch->plugins, batch->plugin_count ? 2 * batch->plugin_count : 1, sizeof(struct plugin *));
        batch->plugins[batch->plugin_count++] = plugin;
}

void file_problem(struct batch *batch, const char *file, size_t line, const char *detail)
{
        struct place at;
        snprintf(at.text, sizeof at.text, "line %zu", line);
        if (!batch->file)
                batch->file = plugin_new_row(PLUGIN_FILE, "", file);
        problem_add(batch->file, ERROR_BAD_REQUEST, &at, "%s", detail);
}

void claims_free(struct claim *claims, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                free(claims[i].namespace);
                free(claims[i].name);
                secret_free(&claims[i].config);
        }
        free(claims);
}

void batch_fini(struct batch *batch)
{
        for (size_t i = 0; i < batch->plugin_count; i++)
                plugin_unref(&batch->plugins[i]);
        for (size_t i = 0; i < batch->pod_count; i++)
                plugin_pod_free(&batch->pods[i]);
        free(batch->plugins);
        free(batch->pods);
        claims_free(batch->claims, batch->claim_count);
        plugin_unref(&batch->file);
        *batch = (struct batch){ 0 };
}

/* ---- what Secret and Pod share ---- */

/* The row is named by what could be read; NULL: not even its name. */
static struct plugin *row_start(struct batch *batch, const char *file, enum plugin_kind kind, const struct value *object, struct reading *ret_metadata)
{
        const struct value *metadata = value_get_member(object, "metadata");
        const struct value *space = value_get_member(metadata, "namespace");
        const char *name = value_get_text(value_get_member(metadata, "name")), *namespace = value_get_kind(space) == VALUE_NULL ? "default" : value_get_text(space);
        struct place at = place_top("metadata"), name_at = place_member(&at, "name"), namespace_at = place_member(&at, "namespace");
        char detail[160];
        if (!name || !*name || !namespace) {
                snprintf(detail, sizeof detail, "a %s without %s", plugin_kind_names[kind], namespace ? "metadata.name" : "a metadata.namespace that is a string");
                file_problem(batch, file, value_get_line(object), detail);
                return NULL;
        }
        struct plugin *row = plugin_new_row(kind, namespace, name);
        if (!string_is_dns(name, 253, true))
                problem_add(row, ERROR_BAD_REQUEST, &name_at, "must be a DNS name: a-z, 0-9, '-' and '.', at most 253");
        if (!string_is_dns(namespace, 63, false))
                problem_add(row, ERROR_BAD_REQUEST, &namespace_at, "must be a DNS label: a-z, 0-9, '-', at most 63");
        reading_start(row, metadata, &at, ret_metadata);
        reading_only(ret_metadata, "metadata", metadata_members);
        return row;
}

static struct claim *claim_add(struct batch *batch, const struct plugin *row)
{
        batch->claims = memory_resize(batch->claims, batch->claim_count + 1, sizeof *batch->claims);
        struct claim *claim = &batch->claims[batch->claim_count++];
        *claim = (struct claim){ .kind = row->kind, .namespace = string_copy(row->namespace), .name = string_copy(row->name) };
        return claim;
}

/* Keeps the row if there is something to say. */
static void row_end(struct batch *batch, struct plugin *row)
{
        if (row->problem_count == 0) {
                plugin_unref(&row);
                return;
        }
        plugin_seal_row(row);
        plugin_add(batch, row);
}

/* ---- Secret ---- */

static const struct { const char *type, *key; enum docker_config_kind kind; } secret_types[] = {
        { "kubernetes.io/dockerconfigjson", ".dockerconfigjson", DOCKER_CONFIG_JSON },
        { "kubernetes.io/dockercfg", ".dockercfg", DOCKER_CONFIG_LEGACY },
};

/* All entries are checked, one is wanted. stringData goes before data, as the API server has it. */
static struct secret *entries_read(const struct reading *secret, const char *member, bool is_encoded, const char *wanted)
{
        const struct value *entries = reading_get(secret, member, VALUE_MAP);
        struct place at = place_member(&secret->at, member);
        struct secret *found = NULL;
        for (size_t i = 0; i < value_get_count(entries); i++) {
                const struct value *value = value_get_item(entries, i);
                const char *key = value_get_key(entries, i), *text = value_get_text(value);
                struct place entry_at = place_member(&at, key);
                size_t length = value_get_text_bytes(value), size = length;
                if (!text && value_get_kind(value) != VALUE_NULL) {
                        problem_add(secret->plugin, ERROR_BAD_REQUEST, &entry_at, "must be a string%s", is_encoded ? " in base64" : "; put it in quotes");
                        continue;
                }
                CLEANUP(cleanup_free) char *bytes = memory_new(length + 4, 1);
                if (is_encoded && !base64_decode(text ? text : "", length, false, bytes, &size))
                        problem_add(secret->plugin, ERROR_BAD_REQUEST, &entry_at, "is no base64 (RFC 4648, standard alphabet, padded)");
                else if (wanted && strcmp(key, wanted) == 0)
                        found = secret_new(is_encoded ? bytes : text ? text : "", size);
                explicit_bzero(bytes, length + 4);
        }
        return found;
}

/* Checked once here, so that whoever looks at the resources sees what is wrong before a pull does. */
static void config_check(const struct plugin *row, struct claim *claim)
{
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        if (claim->err.code)
                secret_free(&claim->config);
        else if (!docker_config_parse(secret_get_text(claim->config), secret_get_size(claim->config), claim->config_kind, &config, &claim->err)) {
                refuse_within(&claim->err, "Secret %s/%s", row->namespace, row->name);
                secret_free(&claim->config);
        }
}

static void secret_read(struct batch *batch, const char *file, const struct value *object)
{
        static const char *const members[] = { "apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable", NULL };
        struct reading metadata, secret;
        struct place top = place_top("");
        const char *type = "Opaque";
        struct plugin *row = row_start(batch, file, PLUGIN_SECRET, object, &metadata);
        if (!row)
                return;
        reading_start(row, object, &top, &secret);
        reading_only(&secret, "a Secret", members);
        reading_get(&secret, "immutable", VALUE_BOOL);
        reading_text(&secret, "type", 253, &type);
        size_t which = 0;
        while (which < COUNT_OF(secret_types) && strcmp(secret_types[which].type, type) != 0)
                which++;
        const char *wanted = which < COUNT_OF(secret_types) ? secret_types[which].key : NULL;
        struct secret *encoded = entries_read(&secret, "data", true, wanted), *plain = entries_read(&secret, "stringData", false, wanted);

        struct claim *claim = claim_add(batch, row);
        claim->config = plain ? TAKE(plain) : TAKE(encoded);
        secret_free(&encoded);
        if (wanted)
                claim->config_kind = secret_types[which].kind;
        if (row->problem_count > 0)
                refuse(&claim->err, ERROR_SECRET_MISSING, "Secret %s/%s in %s is refused: %s: %s", row->namespace, row->name, file, row->problems[0].field,
                        row->problems[0].detail);
        else if (!wanted)
                refuse(&claim->err, ERROR_SECRET_MISSING, "Secret %s/%s is of type %.100s; a pull secret is of type %s", row->namespace, row->name, type,
                        secret_types[0].type);
        else if (!claim->config)
                refuse(&claim->err, ERROR_SECRET_MISSING, "Secret %s/%s has no %s", row->namespace, row->name, wanted);
        config_check(row, claim);
        row_end(batch, row);
}

/* ---- Pod ---- */

static void labels_read(const struct reading *metadata, struct plugin_pod *pod)
{
        const struct value *labels = reading_get(metadata, "labels", VALUE_MAP);
        struct place at = place_member(&metadata->at, "labels");
        size_t count = value_get_count(labels);
        if (count > PLUGIN_LABELS_MAX) {
                problem_add(metadata->plugin, ERROR_BAD_REQUEST, &at, "has %zu labels, at most %d are allowed", count, PLUGIN_LABELS_MAX);
                return;
        }
        pod->labels = memory_new(count + 1, sizeof *pod->labels);
        for (size_t i = 0; i < count; i++) {
                const struct value *value = value_get_item(labels, i);
                struct place label_at = place_member(&at, value_get_key(labels, i));
                if (value_get_kind(value) != VALUE_TEXT)
                        problem_add(metadata->plugin, ERROR_BAD_REQUEST, &label_at, "must be a string; put it in quotes");
                else
                        pod->labels[pod->label_count++] = (struct plugin_label){ string_copy(value_get_key(labels, i)), string_copy(value_get_text(value)) };
        }
}

void pod_read(struct batch *batch, const char *file, const struct value *object)
{
        static const char *const members[] = { "apiVersion", "kind", "metadata", "spec", "status", NULL };
        struct reading metadata, top_reading, spec;
        struct place top = place_top(""), spec_at = place_top("spec");
        const char *uid = NULL, *account = NULL, *node = NULL;
        struct plugin *row = row_start(batch, file, PLUGIN_POD, object, &metadata);
        if (!row)
                return;
        struct plugin_pod *pod = memory_new(1, sizeof *pod);
        reading_start(row, object, &top, &top_reading);
        reading_only(&top_reading, "a Pod", members);
        labels_read(&metadata, pod);
        reading_text(&metadata, "uid", 253, &uid);
        /* The rest of a Pod's spec is the kubelet's business. */
        if (reading_has(&top_reading, "spec") && reading_start(row, value_get_member(object, "spec"), &spec_at, &spec)) {
                reading_text(&spec, "serviceAccountName", 253, &account);
                reading_text(&spec, "nodeName", 253, &node);
        }
        pod->namespace = string_copy(row->namespace);
        pod->name = string_copy(row->name);
        pod->uid = string_copy(uid);
        pod->service_account = string_copy(account ? account : "default");
        pod->node = string_copy(node);
        struct kube_pod running = { .node_name = pod->node };
        kube_pod_read_running(object, &running);
        pod->containers = running.containers;
        pod->container_count = running.container_count;
        pod->mirror_hash = running.mirror_hash;
        claim_add(batch, row);
        if (row->problem_count > 0)
                plugin_pod_free(&pod);
        else {
                batch->pods = memory_resize(batch->pods, batch->pod_count + 1, sizeof(struct plugin_pod *));
                batch->pods[batch->pod_count++] = pod;
        }
        row_end(batch, row);
}

void object_read(struct batch *batch, const char *file, const struct value *object)
{
        const char *version = value_get_text(value_get_member(object, "apiVersion")), *kind = value_get_text(value_get_member(object, "kind"));
        char shown[80], detail[240];
        if (value_get_kind(object) == VALUE_MAP && plugin_is_resource(object))
                plugin_add(batch, plugin_decode(object));
        else if (string_equal(version, "v1") && string_equal(kind, "Secret"))
                secret_read(batch, file, object);
        else if (string_equal(version, "v1") && string_equal(kind, "Pod"))
                pod_read(batch, file, object);
        else {
                if (!version || !kind)
                        snprintf(detail, sizeof detail, "is no object: apiVersion and kind are needed");
                else
                        snprintf(detail, sizeof detail, "kind \"%s\" of this apiVersion is none that is read here: WasmPlugin and TrafficExtension (extensions.istio.io/v1alpha1), "
                                "Secret, Pod and List (v1)", string_printable(kind, strlen(kind), shown, sizeof shown));
                file_problem(batch, file, value_get_line(object), detail);
        }
}
