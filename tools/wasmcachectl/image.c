/*
 * How it goes: index.json → descriptors → manifests (nested indexes followed) → the layer chosen by the rule of [oci] 5.3 → module; each
 *              blob hashed and counted before it is used.
 * How it fails: the first blob that is not what its descriptor says ends it, by name; an index in which nothing holds Wasm is refused.
 * How it ends: temporary files are unlinked as soon as they are open.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

enum { DOCUMENT_MAX_BYTES = 4 << 20, LAYER_MAX_BYTES = 256 << 20, DEPTH_MAX = 3, CHILDREN_MAX = 1000, LAYERS_MAX = 128, NAME_BYTES = DIGEST_TEXT_BYTES + 16 };

static const char ref_name[] = "org.opencontainers.image.ref.name", containerd_name[] = "io.containerd.image.name";

struct import_walk { struct layout *layout; const char *url_given, *folder, *index; image_found found; void *arg; };

/* ---- one blob, proven ---- */
struct blob_sink { struct sink sink; struct hasher *hasher; uint64_t bytes; struct buffer *buffer; int fd; };

static bool blob_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct blob_sink *blob = CONTAINER_OF(sink, struct blob_sink, sink);

        hasher_update(blob->hasher, bytes, size_bytes);
        blob->bytes += size_bytes;
        if (blob->buffer)
                return buffer_append(blob->buffer, bytes, size_bytes) || refuse(err, ERROR_INTERNAL, "out of memory");
        return fs_write_all(blob->fd, bytes, size_bytes) || refuse_errno(err, ERROR_INTERNAL, errno, "writing a temporary file");
}

static void blob_format_name(const struct digest *digest, char ret_name[NAME_BYTES])
{
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(digest, hex);
        snprintf(ret_name, NAME_BYTES, "blobs/%s/%s", digest->algorithm == DIGEST_SHA512 ? "sha512" : "sha256", hex);
}

/* Into `buffer`, or into `fd` if that is NULL. */
static bool blob_read(struct layout *layout, const struct value *descriptor, uint64_t limit_bytes, struct buffer *buffer, int fd, struct error *err)
{
        const char *text = text_member(descriptor, "digest");
        const struct value *size = value_get_member(descriptor, "size");
        struct digest wanted, found;
        char name[NAME_BYTES];

        if (!text || value_get_kind(size) != VALUE_INT || value_get_int(size) < 0)
                return refuse(err, ERROR_BAD_REQUEST, "a descriptor without digest or size");
        if (!digest_parse(text, strlen(text), ERROR_BAD_REQUEST, &wanted, err))
                return false;
        if ((uint64_t)value_get_int(size) > limit_bytes)
                return refuse(err, ERROR_TOO_LARGE, "%s has %lld bytes, at most %llu are taken", text, (long long)value_get_int(size), (unsigned long long)limit_bytes);

        blob_format_name(&wanted, name);
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(wanted.algorithm);
        struct blob_sink sink = { .sink.write = blob_write, .hasher = hasher, .buffer = buffer, .fd = fd };
        if (!layout_read(layout, name, (uint64_t)value_get_int(size), &sink.sink, err))
                return false;
        if (sink.bytes != (uint64_t)value_get_int(size))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s has %llu bytes, its descriptor says %lld", name, (unsigned long long)sink.bytes, (long long)value_get_int(size));
        hasher_finish(hasher, &found);
        return digest_equal(&wanted, &found) || refuse(err, ERROR_CHECKSUM_MISMATCH, "%s does not have that digest", name);
}

/* ---- the layer ---- */
static bool type_is_one_of(const char *type, const char *const *types)
{
        for (; *types; types++)
                if (strcmp(type, *types) == 0)
                        return true;
        return false;
}

static bool layer_is_raw(const char *type)
{
        static const char *const types[] = {
                "application/vnd.module.wasm.content.layer.v1+wasm", "application/wasm", "application/vnd.wasm.content.layer.v1+wasm",
                "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", NULL,
        };
        return type_is_one_of(type, types);
}

static bool layer_is_tar(const char *type)
{
        static const char *const types[] = {
                "application/vnd.oci.image.layer.v1.tar", "application/vnd.oci.image.layer.v1.tar+gzip", "application/vnd.oci.image.layer.v1.tar+zstd",
                "application/vnd.docker.image.rootfs.diff.tar", "application/vnd.docker.image.rootfs.diff.tar.gzip", "application/vnd.docker.image.rootfs.diff.tar.zstd", NULL,
        };
        return type_is_one_of(type, types);
}

/* [oci] 5.3: a raw Wasm layer (several: the first of Istio's type, else refused), else the last tar layer. */
static bool layer_choose(const struct value *manifest, const struct value **ret_layer, bool *ret_is_raw, struct error *err)
{
        const struct value *layers = value_get_member(manifest, "layers"), *raw = NULL, *tar = NULL;
        unsigned raw_count = 0;
        bool is_istio = false;

        if (value_get_count(layers) > LAYERS_MAX)
                return refuse(err, ERROR_TOO_LARGE, "an image of more than %d layers", LAYERS_MAX);
        for (size_t i = 0; i < value_get_count(layers); i++) {
                const struct value *layer = value_get_item(layers, i);
                const char *type = text_member(layer, "mediaType") ? text_member(layer, "mediaType") : "";
                if (layer_is_tar(type))
                        tar = layer;
                if (!layer_is_raw(type))
                        continue;
                bool is_istio_type = strcmp(type, "application/vnd.module.wasm.content.layer.v1+wasm") == 0;
                if (!raw || (is_istio_type && !is_istio))
                        raw = layer;
                is_istio |= is_istio_type;
                raw_count++;
        }
        if (raw_count > 1 && !is_istio)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "an image of %u Wasm layers", raw_count);
        if (!raw && !tar)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "an image without a Wasm layer");
        *ret_layer = raw ? raw : tar;
        *ret_is_raw = raw != NULL;
        return true;
}

static int temporary_open(const char *folder)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/layer-XXXXXX", folder);
        int fd = mkostemp(path, O_CLOEXEC);
        if (fd >= 0)
                unlink(path);
        return fd;
}

static bool module_check(int fd, struct error *err)
{
        static const unsigned char core[8] = { 0, 'a', 's', 'm', 1, 0, 0, 0 }, component[8] = { 0, 'a', 's', 'm', 0x0d, 0, 1, 0 };
        unsigned char head[8];

        if (!fs_pread_all(fd, head, sizeof head, 0))
                return refuse(err, ERROR_NOT_WASM, "what the layer holds has fewer than 8 bytes");
        if (memcmp(head, component, sizeof head) == 0)
                return refuse(err, ERROR_NOT_WASM, "it is a Wasm component; proxies run core modules only");
        if (memcmp(head, core, sizeof head) != 0)
                return refuse(err, ERROR_NOT_WASM, "what the layer holds is no Wasm module");
        return lseek(fd, 0, SEEK_SET) == 0 || refuse_errno(err, ERROR_INTERNAL, errno, "reading the module");
}

static bool image_take(struct import_walk *walk, const struct value *manifest, const struct image *image, struct error *err)
{
        const struct value *layer = NULL;
        bool is_raw = false;
        if (!layer_choose(manifest, &layer, &is_raw, err))
                return false;

        CLEANUP(cleanup_close) int fd = temporary_open(walk->folder);
        CLEANUP(cleanup_close) int out_fd = is_raw ? -1 : temporary_open(walk->folder);
        if (fd < 0 || (!is_raw && out_fd < 0))
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a temporary file in %s", walk->folder);
        if (!blob_read(walk->layout, layer, LAYER_MAX_BYTES, NULL, fd, err))
                return false;
        if (!is_raw && !unbox_layer(fd, out_fd, err))
                return false;
        int module_fd = is_raw ? fd : out_fd;
        return module_check(module_fd, err) && walk->found(walk->arg, image, module_fd, err);
}

/* ---- what an export was made from ---- */

/* Is the manifest with this digest in the layout too, and does it name the same raw layer: then the module is surely that image's. */
static bool original_prove(struct import_walk *walk, const struct value *manifest, const struct digest *digest, struct buffer *ret_text)
{
        char name[NAME_BYTES];
        const struct value *layer = NULL, *original_layer = NULL;
        bool is_raw = false, is_original_raw = false;
        struct error ignored;
        struct digest found;
        CLEANUP(value_free) struct value *original = NULL;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(digest->algorithm);
        struct blob_sink sink = { .sink.write = blob_write, .hasher = hasher, .buffer = ret_text };

        blob_format_name(digest, name);
        if (!layout_read(walk->layout, name, DOCUMENT_MAX_BYTES, &sink.sink, &ignored))
                return false;
        hasher_finish(hasher, &found);
        return digest_equal(&found, digest) && json_parse(ret_text->data ? ret_text->data : "", ret_text->used, ERROR_BAD_REQUEST, &original, &ignored) &&
               layer_choose(manifest, &layer, &is_raw, &ignored) && layer_choose(original, &original_layer, &is_original_raw, &ignored) && is_raw && is_original_raw &&
               text_member(layer, "digest") && string_equal(text_member(layer, "digest"), text_member(original_layer, "digest"));
}

/* Our own exports are images of their own; requests pin the digest of what they were made from. That is taken if it is proved, or if the operator has typed it;
   that of an index, which is not kept, by the operator alone. */
static bool original_find(struct import_walk *walk, const struct value *manifest, struct image *image, struct error *err)
{
        const struct value *annotations = value_get_member(manifest, "annotations");
        const char *text = text_member(annotations, "wasmcached.source.digest"), *index = text_member(annotations, "wasmcached.source.index"), *pinned = strchr(image->url, '@');
        struct digest digest;
        struct error ignored;
        CLEANUP(buffer_fini) struct buffer original = { .limit = DOCUMENT_MAX_BYTES };

        if (!text || !digest_parse(text, strlen(text), ERROR_BAD_REQUEST, &digest, &ignored))
                return true;
        bool is_proved = original_prove(walk, manifest, &digest, &original), is_pinned = pinned && strcmp(pinned + 1, text) == 0;
        bool is_index_pinned = pinned && index && strcmp(pinned + 1, index) == 0;
        if (!is_proved && !is_pinned && !is_index_pinned)
                return true;
        if (((is_pinned && !is_proved) || is_index_pinned) && !walk->url_given)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "the layout cannot prove that its module is the one of %s; if you trust the layout, say so with --url %s", pinned + 1,
                              image->url);
        free(image->digest);
        image->digest = string_copy(text);
        free(image->index);
        image->index = is_index_pinned ? string_copy(index) : NULL;
        free(image->manifest);
        image->manifest = is_proved ? buffer_take(&original) : NULL;
        return true;
}

/* ---- the walk ---- */
static bool manifest_is_index(const struct value *document, const char *type)
{
        return value_get_member(document, "manifests") || (type && (strstr(type, "image.index") || strstr(type, "manifest.list")));
}

static const char *descriptor_name(const struct value *descriptor, const char *inherited)
{
        const struct value *annotations = value_get_member(descriptor, "annotations");
        const char *containerd = text_member(annotations, containerd_name), *name = text_member(annotations, ref_name);

        if (containerd && *containerd)
                return containerd;
        return name && *name ? name : inherited;
}

static bool index_walk(struct import_walk *walk, const struct value *index, const char *name, unsigned depth, struct error *err);

static bool descriptor_walk(struct import_walk *walk, const struct value *descriptor, const char *inherited, unsigned depth, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { .limit = DOCUMENT_MAX_BYTES };
        CLEANUP(value_free) struct value *document = NULL;
        const char *name = descriptor_name(descriptor, inherited);

        if (!blob_read(walk->layout, descriptor, DOCUMENT_MAX_BYTES, &text, -1, err) || !json_parse(text.data ? text.data : "", text.used, ERROR_BAD_REQUEST, &document, err))
                return refuse_within(err, "the manifest %s", text_member(descriptor, "digest") ? text_member(descriptor, "digest") : "of index.json");
        if (depth == 0)
                walk->index = NULL;
        if (manifest_is_index(document, text_member(descriptor, "mediaType"))) {
                if (depth == 0)
                        walk->index = text_member(descriptor, "digest");
                return index_walk(walk, document, name, depth + 1, err);
        }

        const char *url = walk->url_given ? walk->url_given : name;
        if (!url || !strchr(url, '/'))
                return refuse(err, ERROR_BAD_URL, "the layout names the image \"%s\", which says no registry and repository; give the name with --url", url ? url : "");
        struct image image = { string_copy(url), string_copy(text_member(descriptor, "digest")), string_copy(walk->index), string_copy_bytes(text.data, text.used) };
        bool done = original_find(walk, document, &image, err) && image_take(walk, document, &image, err);
        if (!done)
                refuse_within(err, "%s (%s)", image.url, image.digest);
        free(image.url);
        free(image.digest);
        free(image.index);
        free(image.manifest);
        return done;
}

static bool is_wasm_platform(const struct value *descriptor)
{
        return string_equal(text_member(value_get_member(descriptor, "platform"), "architecture"), "wasm");
}

/* One image of a nested index: the first for wasm, else the first that has Wasm in it. An entry with another content than Wasm is no failure, one that is damaged is. */
static bool nested_walk(struct import_walk *walk, const struct value *manifests, const char *name, unsigned depth, struct error *err)
{
        struct error problem = { 0 };

        for (unsigned pass = 0; pass < 2; pass++)
                for (size_t i = 0; i < value_get_count(manifests); i++) {
                        const struct value *child = value_get_item(manifests, i);
                        if (is_wasm_platform(child) != (pass == 0))
                                continue;
                        if (descriptor_walk(walk, child, name, depth, &problem))
                                return true;
                        if (problem.code != ERROR_UNSUPPORTED_IMAGE) {
                                *err = problem;
                                return false;
                        }
                }
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "no image of the index has a Wasm layer%s%s", problem.text[0] ? "; the last: " : "", problem.text);
}

/* oras lists the children of an index and what refers to an image in index.json too, without names: where there are names, only the named are what somebody put there. */
static bool roots_walk(struct import_walk *walk, const struct value *manifests, struct error *err)
{
        size_t count = value_get_count(manifests), named = 0;

        for (size_t i = 0; i < count; i++)
                named += descriptor_name(value_get_item(manifests, i), NULL) != NULL;
        size_t wanted = named > 0 ? named : count;
        if (walk->url_given && wanted > 1)
                return refuse(err, ERROR_BAD_REQUEST, "the layout has %zu images, --url names one", wanted);
        for (size_t i = 0; i < count; i++) {
                const struct value *root = value_get_item(manifests, i);
                if ((named == 0 || descriptor_name(root, NULL)) && !descriptor_walk(walk, root, NULL, 0, err))
                        return false;
        }
        return count > 0 || refuse(err, ERROR_UNSUPPORTED_IMAGE, "index.json lists no image");
}

static bool index_walk(struct import_walk *walk, const struct value *index, const char *name, unsigned depth, struct error *err)
{
        const struct value *manifests = value_get_member(index, "manifests");
        size_t count = value_get_count(manifests);

        if (depth > DEPTH_MAX)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "indexes nested more than %d deep", DEPTH_MAX);
        if (count > CHILDREN_MAX)
                return refuse(err, ERROR_TOO_LARGE, "an index of more than %d images", CHILDREN_MAX);
        if (depth > 0)
                return nested_walk(walk, manifests, name, depth, err);
        return roots_walk(walk, manifests, err);
}

static bool document_read(struct layout *layout, const char *name, struct value **ret_document, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { .limit = DOCUMENT_MAX_BYTES };
        struct sink_buffer sink;

        sink_buffer_init(&sink, &text, name);
        if (!layout_read(layout, name, DOCUMENT_MAX_BYTES, &sink.sink, err))
                return refuse_within(err, "this is no OCI image layout");
        return json_parse(text.data ? text.data : "", text.used, ERROR_BAD_REQUEST, ret_document, err) || refuse_within(err, "%s", name);
}

bool image_each(struct layout *layout, const char *url_given, const char *folder, image_found found, void *arg, struct error *err)
{
        CLEANUP(value_free) struct value *mark = NULL, *index = NULL;
        struct import_walk walk = { .layout = layout, .url_given = url_given, .folder = folder, .found = found, .arg = arg };

        if (!document_read(layout, "oci-layout", &mark, err) || !document_read(layout, "index.json", &index, err))
                return false;
        const char *version = text_member(mark, "imageLayoutVersion");
        if (!version || !string_starts_with(version, "1."))
                return refuse(err, ERROR_BAD_REQUEST, "oci-layout names no version that is known (1.x)");
        return index_walk(&walk, index, NULL, 0, err);
}
