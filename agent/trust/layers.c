/*
 * How it goes: strict JSON, one reading as an image manifest, then the layers that can hold a signature, with what their annotations say.
 * How it fails: with ERROR_SIGNATURE_INVALID and the member that is wrong; an index is no signature (4.1), nor is a manifest without one layer of the right type.
 * How it ends: trust_layers_fini() frees the document, and with it the texts that the layers borrowed.
 *
 * Rules: 3.2.4, 4.1. The manifest is not signed: nothing that is read here proves anything, it only says what to fetch.
 */
#include <stdlib.h>
#include <string.h>
#include "signed.h"

enum { LAYERS_MAX = 64 };

static const char oci_manifest[] = "application/vnd.oci.image.manifest.v1+json", docker_manifest[] = "application/vnd.docker.distribution.manifest.v2+json";
static const char simple_layer[] = "application/vnd.dev.cosign.simplesigning.v1+json", bundle_layer[] = "application/vnd.dev.sigstore.bundle";
static const char signature_name[] = "dev.cosignproject.cosign/signature", log_entry_name[] = "dev.sigstore.cosign/bundle", certificate_name[] = "dev.sigstore.cosign/certificate";

/* An image, whatever its mediaType claims: members of the other kinds are refused, as one text has one reading (CVE-2021-41190). */
static bool image_check(const struct value *document, bool docker_too, struct error *err)
{
        static const char *const foreign[] = { "manifests", "fsLayers" };
        const char *type = NULL;
        int64_t version = 0;

        if (value_get_kind(document) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "is no JSON object");
        if (!value_read_int(document, "schemaVersion", ERROR_SIGNATURE_INVALID, &version, err) || !value_read_text(document, "mediaType", ERROR_SIGNATURE_INVALID, &type, err))
                return false;
        if (version != 2)
                return refuse(err, ERROR_SIGNATURE_INVALID, "schemaVersion is not 2");
        if (type && strcmp(type, oci_manifest) != 0 && !(docker_too && strcmp(type, docker_manifest) == 0))
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" is not the type of an image manifest", SHOWN(type));
        for (size_t i = 0; i < COUNT_OF(foreign); i++)
                if (value_get_member(document, foreign[i]))
                        return refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" has no place in an image manifest", foreign[i]);
        return true;
}

static bool descriptor_read(const struct value *descriptor, const char **ret_type, struct digest *ret_digest, uint64_t *ret_size, struct error *err)
{
        const char *type = NULL, *digest = NULL;
        int64_t size = -1;

        if (value_get_kind(descriptor) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "is no object");
        if (!value_read_text(descriptor, "mediaType", ERROR_SIGNATURE_INVALID, &type, err) || !value_read_text(descriptor, "digest", ERROR_SIGNATURE_INVALID, &digest, err) ||
            !value_read_int(descriptor, "size", ERROR_SIGNATURE_INVALID, &size, err))
                return false;
        if (!type || !digest || size < 0)
                return refuse(err, ERROR_SIGNATURE_INVALID, "mediaType, digest or size is missing or negative");
        if (!digest_parse(digest, strlen(digest), ERROR_SIGNATURE_INVALID, ret_digest, err))
                return false;
        *ret_type = type;
        *ret_size = (uint64_t)size;
        return true;
}

static bool layer_read(const struct value *descriptor, struct trust_layers *layers, const char **ret_other, struct error *err)
{
        const struct value *annotations = NULL;
        struct trust_layer layer = { 0 };
        const char *type;

        if (!descriptor_read(descriptor, &type, &layer.digest, &layer.size_bytes, err))
                return false;
        if (strcmp(type, simple_layer) != 0) {
                *ret_other = *ret_other ? *ret_other : type;
                layers->other_count++;
                return true;
        }
        if (layers->count == LAYERS_MAX)
                return refuse(err, ERROR_SIGNATURE_INVALID, "too many signatures to examine: more than %d in one manifest", LAYERS_MAX);
        if (!value_read_map(descriptor, "annotations", ERROR_SIGNATURE_INVALID, &annotations, err) ||
            !value_read_text(annotations, signature_name, ERROR_SIGNATURE_INVALID, &layer.signature, err) ||
            !value_read_text(annotations, log_entry_name, ERROR_SIGNATURE_INVALID, &layer.log_entry, err))
                return false;
        layer.has_certificate = value_get_member(annotations, certificate_name) != NULL;
        layers->items[layers->count++] = layer;
        return true;
}

static bool layers_read(const struct value *document, struct trust_layers *layers, struct error *err)
{
        const struct value *list = NULL;
        const char *other = NULL;

        if (!image_check(document, true, err) || !value_read_list(document, "layers", ERROR_SIGNATURE_INVALID, &list, err))
                return false;
        layers->items = memory_new(LAYERS_MAX, sizeof *layers->items);
        for (size_t i = 0; i < value_get_count(list); i++)
                if (!layer_read(value_get_item(list, i), layers, &other, err))
                        return refuse_within(err, "layers[%zu]", i);
        if (layers->count == 0 && other)
                return refuse(err, ERROR_SIGNATURE_INVALID, "no layer is a signature: expected \"%s\", found \"%s\"", simple_layer, SHOWN(other));
        return layers->count > 0 || refuse(err, ERROR_SIGNATURE_INVALID, "has no layers, so no signature");
}

bool trust_layers_parse(const void *manifest, size_t size_bytes, struct trust_layers *ret_layers, struct error *err)
{
        struct trust_layers layers = { 0 };

        if (!json_parse(manifest, size_bytes, ERROR_SIGNATURE_INVALID, &layers.document, err))
                return refuse_within(err, "signature manifest");
        if (!layers_read(layers.document, &layers, err)) {
                trust_layers_fini(&layers);
                return refuse_within(err, "signature manifest");
        }
        *ret_layers = layers;
        return true;
}

void trust_layers_fini(struct trust_layers *layers)
{
        free(layers->items);
        value_free(&layers->document);
        *layers = (struct trust_layers){ 0 };
}

static bool subject_check(const struct value *document, const struct digest *target, struct error *err)
{
        const struct value *subject = NULL;
        struct digest digest;
        const char *type;
        uint64_t size;

        if (!value_read_map(document, "subject", ERROR_SIGNATURE_INVALID, &subject, err))
                return false;
        if (!subject)
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"subject\" is missing");
        if (!descriptor_read(subject, &type, &digest, &size, err))
                return refuse_within(err, "subject");
        if (!digest_equal(&digest, target)) {
                char text[DIGEST_TEXT_BYTES];

                digest_format(&digest, text);
                return refuse(err, ERROR_SIGNATURE_INVALID, "its subject is %s, another manifest", text);
        }
        return true;
}

static bool bundle_layer_read(const struct value *document, const struct digest *target, struct digest *ret_layer, uint64_t *ret_size, struct error *err)
{
        const struct value *list = NULL;
        struct digest digest;
        const char *type;
        uint64_t size;

        if (!image_check(document, false, err) || !subject_check(document, target, err) || !value_read_list(document, "layers", ERROR_SIGNATURE_INVALID, &list, err))
                return false;
        if (value_get_count(list) != 1)
                return refuse(err, ERROR_SIGNATURE_INVALID, "has %zu layers, a bundle has one", value_get_count(list));
        if (!descriptor_read(value_get_item(list, 0), &type, &digest, &size, err))
                return refuse_within(err, "layers[0]");
        if (!string_starts_with(type, bundle_layer))
                return refuse(err, ERROR_SIGNATURE_INVALID, "its layer \"%s\" is no Sigstore bundle", SHOWN(type));
        if (size > SIGNED_BODY_MAX)
                return refuse(err, ERROR_SIGNATURE_INVALID, "its bundle has %llu bytes, at most %d are read", (unsigned long long)size, SIGNED_BODY_MAX);
        *ret_layer = digest;
        *ret_size = size;
        return true;
}

bool trust_bundle_layer_parse(const void *manifest, size_t size_bytes, const struct digest *target, struct digest *ret_layer, uint64_t *ret_size, struct error *err)
{
        CLEANUP(value_free) struct value *document = NULL;

        if (!json_parse(manifest, size_bytes, ERROR_SIGNATURE_INVALID, &document, err) || !bundle_layer_read(document, target, ret_layer, ret_size, err))
                return refuse_within(err, "bundle manifest");
        return true;
}
