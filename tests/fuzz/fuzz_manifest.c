/* First line: Content-Type (empty = none); the rest: the body. What is accepted must be consistent. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/registry.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
        size_t type_bytes = line ? (size_t)(line - data) : 0, body_at = line ? type_bytes + 1 : 0;
        CLEANUP(cleanup_free) char *content_type = string_copy_bytes((const char *)data, type_bytes);
        CLEANUP(manifest_fini) struct manifest manifest = { 0 };
        const struct descriptor *item = NULL;
        enum layer_form form;
        struct error err = { 0 };

        if (!manifest_parse(data + body_at, size - body_at, type_bytes > 0 ? content_type : NULL, &manifest, &err)) {
                if (err.code == ERROR_NONE || err.text[0] == '\0')
                        abort();
                return 0;
        }
        manifest_get_annotation(&manifest, "org.opencontainers.image.title");
        bool is_index = manifest.kind == MANIFEST_INDEX;
        bool ok = is_index ? manifest_choose_child(&manifest, &item, &err) : manifest_choose_layer(&manifest, &item, &form, &err);
        if (ok && (item < manifest.items || item >= manifest.items + manifest.item_count))
                abort();
        for (size_t i = 0; i < manifest.item_count; i++)
                if (!digest_is_set(&manifest.items[i].digest) || (manifest.items[i].data.data && manifest.items[i].data.used != manifest.items[i].size_bytes))
                        abort();
        return 0;
}
