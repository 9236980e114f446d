/*
 * How it goes: the config of an OCI or Docker image lists what each layer is when it is unpacked (rootfs.diff_ids, in the layers' order); the one of a layer is found by its place.
 * How it fails: more of them than layers: which is whose cannot be told. What is no such document, or says less, says nothing: tools push images with any config.
 * How it ends: pure functions; only a digest is returned.
 *
 * Rules: [oci] 5.3 (6); image-spec config.md.
 */
#include <string.h>
#include <strings.h>
#include <wasmcached/registry.h>

/* {"rootfs":{"diff_ids":["sha256:…"]}} */
enum { CONFIG_BYTES_MIN = 26 + 71 };

bool image_config_is_wanted(const struct manifest *image)
{
        static const char *const types[] = { "application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json" };
        const struct descriptor *config = &image->config;
        for (size_t i = 0; i < COUNT_OF(types); i++)
                if (config->media_type && strcasecmp(config->media_type, types[i]) == 0)
                        return config->size_bytes >= CONFIG_BYTES_MIN;
        return false;
}

bool image_config_find_diff_id(const struct buffer *config, const struct manifest *image, const struct descriptor *layer, struct digest *ret_digest, struct error *err)
{
        CLEANUP(value_free) struct value *document = NULL;
        struct error ignored;
        *ret_digest = (struct digest){ 0 };
        if (!json_parse(config->data ? config->data : "", config->used, ERROR_UPSTREAM_ERROR, &document, &ignored))
                return true;

        const struct value *list = value_get_member(value_get_member(document, "rootfs"), "diff_ids");
        size_t count = value_get_kind(list) == VALUE_LIST ? value_get_count(list) : 0;
        if (count > image->item_count)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "image: the config has %zu diff_ids for %zu layers", count, image->item_count);
        if (count < image->item_count)
                return true;

        const char *text = value_get_text(value_get_item(list, (size_t)(layer - image->items)));
        if (!text || !digest_parse(text, strlen(text), ERROR_CHECKSUM_MISMATCH, ret_digest, &ignored))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "image: diff_id %zu of the config is no digest", (size_t)(layer - image->items) + 1);
        return true;
}
