/*
 * How it goes: strict JSON, then the kind from mediaType and Content-Type, then the descriptors one by one; unknown members are ignored, `urls` of descriptors above all
 *               (CVE-2020-15157).
 * How it fails: what no honest registry sends (no JSON, both layers and manifests, bad digests, embedded data that is not what the descriptor says) is
 *               ERROR_UPSTREAM_ERROR; what is honest but not for us (schema 1, unknown types, too many layers) is ERROR_UNSUPPORTED_IMAGE. A half-read manifest is freed.
 * How it ends: manifest_fini() frees the texts, the embedded data and the document.
 *
 * Rules: [oci] 1.5 steps 4 to 7; type confusion: CVE-2021-41190.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { LAYERS_MAX = 128, CHILDREN_MAX = 1000, TYPE_BYTES_MAX = 255, SHOWN_BYTES = 128 };

static const struct { const char *media_type; bool is_index; } types[] = {
        { "application/vnd.oci.image.manifest.v1+json", false },
        { "application/vnd.docker.distribution.manifest.v2+json", false },
        { "application/vnd.oci.image.index.v1+json", true },
        { "application/vnd.docker.distribution.manifest.list.v2+json", true },
};

static const char *const schema1_types[] = { "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws" };

/* What servers that know nothing of manifests put there; it says nothing, so mediaType or the shape decides. */
static const char *const generic_types[] = { "application/json", "application/octet-stream", "text/plain" };

static const char *shown(const char *text, char out[SHOWN_BYTES])
{
        return string_printable(text, strlen(text), out, SHOWN_BYTES);
}

static bool is_one_of(const char *text, const char *const *list, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (strcasecmp(text, list[i]) == 0)
                        return true;
        return false;
}

static bool kind_find(const char *media_type, enum manifest_kind *ret_kind)
{
        for (size_t i = 0; i < COUNT_OF(types); i++)
                if (strcasecmp(media_type, types[i].media_type) == 0) {
                        *ret_kind = types[i].is_index ? MANIFEST_INDEX : MANIFEST_IMAGE;
                        return true;
                }
        return false;
}

bool content_type_is_generic(const char *type)
{
        return is_one_of(type, generic_types, COUNT_OF(generic_types));
}

char *content_type_strip(const char *content_type)
{
        if (!content_type)
                return NULL;
        content_type += strspn(content_type, " \t");
        size_t length = strcspn(content_type, ";");
        while (length > 0 && strchr(" \t", content_type[length - 1]))
                length--;
        return length > 0 ? string_copy_bytes(content_type, length) : NULL;
}

static bool schema_check(const struct value *document, const char *type, struct error *err)
{
        const struct value *version = value_get_member(document, "schemaVersion");

        if ((type && is_one_of(type, schema1_types, COUNT_OF(schema1_types))) || (version && value_get_kind(version) == VALUE_INT && value_get_int(version) == 1))
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "manifest: schema 1 is not supported; push the image again with a current client");
        if (!version || value_get_kind(version) != VALUE_INT || value_get_int(version) != 2)
                return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: schemaVersion is not 2");
        return true;
}

/* Both absent: the shape decides (image-spec allows mediaType to be left out). */
static bool type_choose(const struct value *document, const char *header_type, const char **ret_type, struct error *err)
{
        char one[SHOWN_BYTES], two[SHOWN_BYTES];
        const char *body_type = NULL;
        enum manifest_kind kind;

        if (!value_read_text(document, "mediaType", ERROR_UPSTREAM_ERROR, &body_type, err))
                return refuse_within(err, "manifest");
        if (!schema_check(document, body_type ? body_type : header_type, err))
                return false;
        if (body_type && header_type && strcasecmp(body_type, header_type) != 0)
                return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: Content-Type \"%s\" and mediaType \"%s\" disagree", shown(header_type, one), shown(body_type, two));

        const char *type = body_type ? body_type : header_type;
        if (!type || (!body_type && content_type_is_generic(type)))
                type = value_get_member(document, "manifests") ? types[2].media_type : types[0].media_type;
        if (!kind_find(type, &kind))
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "manifest: type \"%s\" is neither an image nor an index", shown(type, one));
        *ret_type = type;
        return true;
}

static bool data_check(const struct descriptor *descriptor, const void *bytes, size_t size_bytes)
{
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(descriptor->digest.algorithm);
        struct digest digest;

        hasher_update(hasher, bytes, size_bytes);
        hasher_finish(hasher, &digest);
        return size_bytes == descriptor->size_bytes && digest_equal(&digest, &descriptor->digest);
}

static bool data_read(const struct value *value, struct descriptor *descriptor, struct error *err)
{
        const char *text = NULL;
        size_t size = 0;

        if (!value_read_text(value, "data", ERROR_UPSTREAM_ERROR, &text, err))
                return false;
        if (!text)
                return true;

        size_t length = strlen(text);
        CLEANUP(buffer_fini) struct buffer data = { 0 };
        if (!buffer_reserve(&data, length / 4 * 3 + 4))
                return refuse(err, ERROR_INTERNAL, "out of memory for embedded data of %zu bytes", length);
        if (!base64_decode(text, length, false, data.data, &size))
                return refuse(err, ERROR_UPSTREAM_ERROR, "embedded data is no base64");
        if (!data_check(descriptor, data.data, size))
                return refuse(err, ERROR_UPSTREAM_ERROR, "embedded data is not what size and digest say");
        data.used = size;
        data.data[size] = '\0';
        descriptor->data = data;
        data = (struct buffer){ 0 };
        return true;
}

static bool platform_read(const struct value *value, struct descriptor *descriptor, struct error *err)
{
        const struct value *platform = NULL;
        const char *os = NULL, *architecture = NULL, *variant = NULL;

        if (!value_read_map(value, "platform", ERROR_UPSTREAM_ERROR, &platform, err))
                return false;
        if (!platform)
                return true;
        if (!value_read_text(platform, "os", ERROR_UPSTREAM_ERROR, &os, err) || !value_read_text(platform, "architecture", ERROR_UPSTREAM_ERROR, &architecture, err) ||
            !value_read_text(platform, "variant", ERROR_UPSTREAM_ERROR, &variant, err))
                return refuse_within(err, "platform");
        descriptor->platform_os = string_copy(os);
        descriptor->platform_architecture = string_copy(architecture);
        descriptor->platform_variant = string_copy(variant);
        return true;
}

static bool attestation_read(const struct value *value, struct descriptor *descriptor, struct error *err)
{
        const struct value *annotations = NULL;

        if (!value_read_map(value, "annotations", ERROR_UPSTREAM_ERROR, &annotations, err))
                return false;
        descriptor->is_attestation = string_equal(value_get_text(value_get_member(annotations, "vnd.docker.reference.type")), "attestation-manifest") ||
                                     (string_equal(descriptor->platform_os, "unknown") && string_equal(descriptor->platform_architecture, "unknown"));
        return true;
}

/* An algorithm that is good elsewhere (sha384, blake3) is not the registry's fault, anything else is. */
static enum error_code digest_code(const char *text)
{
        size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+._-");
        bool known = string_starts_with(text, "sha256:") || string_starts_with(text, "sha512:");
        return !known && length > 0 && text[length] == ':' ? ERROR_UNSUPPORTED_IMAGE : ERROR_UPSTREAM_ERROR;
}

static bool core_read(const struct value *value, struct descriptor *descriptor, struct error *err)
{
        const char *media_type = NULL, *artifact_type = NULL, *digest = NULL;
        int64_t size = -1;

        if (value_get_kind(value) != VALUE_MAP)
                return refuse(err, ERROR_UPSTREAM_ERROR, "is no object");
        if (!value_read_text(value, "mediaType", ERROR_UPSTREAM_ERROR, &media_type, err) || !value_read_text(value, "artifactType", ERROR_UPSTREAM_ERROR, &artifact_type, err) ||
            !value_read_text(value, "digest", ERROR_UPSTREAM_ERROR, &digest, err) || !value_read_int(value, "size", ERROR_UPSTREAM_ERROR, &size, err))
                return false;
        if (!media_type || !*media_type || strlen(media_type) > TYPE_BYTES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "mediaType is missing, empty or longer than %d characters", TYPE_BYTES_MAX);
        if (!digest)
                return refuse(err, ERROR_UPSTREAM_ERROR, "digest is missing");
        if (size < 0)
                return refuse(err, ERROR_UPSTREAM_ERROR, "size is missing or negative");
        if (!digest_parse(digest, strlen(digest), digest_code(digest), &descriptor->digest, err))
                return false;
        descriptor->media_type = string_copy(media_type);
        descriptor->artifact_type = string_copy(artifact_type);
        descriptor->size_bytes = (uint64_t)size;
        return true;
}

static bool descriptor_read(const struct value *value, struct descriptor *descriptor, struct error *err)
{
        return core_read(value, descriptor, err) && data_read(value, descriptor, err) && platform_read(value, descriptor, err) && attestation_read(value, descriptor, err);
}

static void descriptor_fini(struct descriptor *descriptor)
{
        free(descriptor->media_type);
        free(descriptor->artifact_type);
        free(descriptor->platform_os);
        free(descriptor->platform_architecture);
        free(descriptor->platform_variant);
        buffer_fini(&descriptor->data);
}

static bool items_read(const struct value *document, const char *name, size_t most, struct manifest *manifest, struct error *err)
{
        const struct value *list = NULL;

        if (!value_get_member(document, name))
                return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: \"%s\" is missing in \"%s\"", name, manifest->media_type);
        if (!value_read_list(document, name, ERROR_UPSTREAM_ERROR, &list, err))
                return refuse_within(err, "manifest");

        size_t count = value_get_count(list);
        if (count > most)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "manifest: has %zu %s, at most %zu are accepted", count, name, most);
        manifest->items = memory_new(count + 1, sizeof *manifest->items);
        for (size_t i = 0; i < count; i++) {
                manifest->item_count = i + 1;
                if (!descriptor_read(value_get_item(list, i), &manifest->items[i], err))
                        return refuse_within(err, "manifest: %s[%zu]", name, i);
        }
        return true;
}

/* One text, one reading: members of the other kind are refused even when null (containerd validateMediaType). */
static bool members_check(const struct value *document, enum manifest_kind kind, struct error *err)
{
        static const char *const of_image[] = { "layers", "config", "fsLayers", NULL }, *const of_index[] = { "manifests", "fsLayers", NULL };
        const char *const *forbidden = kind == MANIFEST_INDEX ? of_image : of_index;

        for (; *forbidden; forbidden++)
                if (value_get_member(document, *forbidden))
                        return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: \"%s\" has no place in an %s (two readings of one text, CVE-2021-41190)", *forbidden,
                                      kind == MANIFEST_INDEX ? "index" : "image");
        return true;
}

static bool image_read(const struct value *document, struct manifest *manifest, struct error *err)
{
        const struct value *config = value_get_member(document, "config");

        if (!config)
                return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: \"config\" is missing in \"%s\"", manifest->media_type);
        if (!descriptor_read(config, &manifest->config, err))
                return refuse_within(err, "manifest: config");
        return items_read(document, "layers", LAYERS_MAX, manifest, err);
}

static bool document_read(const struct value *document, const char *content_type, struct manifest *manifest, struct error *err)
{
        CLEANUP(cleanup_free) char *header_type = content_type_strip(content_type);
        const struct value *annotations = NULL;
        const char *type = NULL, *artifact_type = NULL;

        if (value_get_kind(document) != VALUE_MAP)
                return refuse(err, ERROR_UPSTREAM_ERROR, "manifest: is no JSON object");
        if (!type_choose(document, header_type, &type, err))
                return false;
        kind_find(type, &manifest->kind);
        manifest->media_type = string_copy(type);
        if (!members_check(document, manifest->kind, err))
                return false;
        if (!value_read_text(document, "artifactType", ERROR_UPSTREAM_ERROR, &artifact_type, err) || !value_read_map(document, "annotations", ERROR_UPSTREAM_ERROR,
                &annotations, err))
                return refuse_within(err, "manifest");
        manifest->artifact_type = string_copy(artifact_type);
        return manifest->kind == MANIFEST_INDEX ? items_read(document, "manifests", CHILDREN_MAX, manifest, err) : image_read(document, manifest, err);
}

bool manifest_parse(const void *bytes, size_t size_bytes, const char *content_type, struct manifest *ret_manifest, struct error *err)
{
        struct manifest manifest = { 0 };

        if (size_bytes > MANIFEST_BYTES_MAX)
                return refuse(err, ERROR_TOO_LARGE, "manifest: has %zu bytes, at most %d are accepted", size_bytes, MANIFEST_BYTES_MAX);
        if (!json_parse(bytes, size_bytes, ERROR_UPSTREAM_ERROR, &manifest.document, err))
                return refuse_within(err, "manifest");
        if (!document_read(manifest.document, content_type, &manifest, err)) {
                manifest_fini(&manifest);
                return false;
        }
        *ret_manifest = manifest;
        return true;
}

void manifest_fini(struct manifest *manifest)
{
        for (size_t i = 0; i < manifest->item_count; i++)
                descriptor_fini(&manifest->items[i]);
        free(manifest->items);
        descriptor_fini(&manifest->config);
        free(manifest->media_type);
        free(manifest->artifact_type);
        value_free(&manifest->document);
        *manifest = (struct manifest){ 0 };
}

const char *manifest_get_annotation(const struct manifest *manifest, const char *name)
{
        return value_get_text(value_get_member(value_get_member(manifest->document, "annotations"), name));
}
