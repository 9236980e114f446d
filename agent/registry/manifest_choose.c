/*
 * How it goes: every child of an index gets a rank, every layer of an image a form, both from tables; the best rank wins, the first among equals.
 * How it fails: nothing fits, or more than one fits where one is allowed: ERROR_UNSUPPORTED_IMAGE that lists what there is.
 * How it ends: what is returned points into the manifest.
 *
 * Rules: [oci] 1.6 (children), 5.1 and 5.3 (layers).
 */
#include <string.h>
#include <strings.h>
#include <sys/utsname.h>
#include <wasmcached/registry.h>

enum { LIST_BYTES = 384, SHOWN_BYTES = 96 };

/* Lower is better; [oci] 1.6. wkg writes os "wasip2" for core modules too (measured), so such a child is better than none. */
enum rank { RANK_WASM, RANK_NO_PLATFORM, RANK_ONLY, RANK_HOST, RANK_AMD64, RANK_WASM_OTHER, RANK_NONE };

static const char *const child_types[] = {
        "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json", NULL,
};

/* artifactType of what is about an image, not an image. An artifactType alone says nothing: crane copies the config's type there (measured). */
static const char *const about_types[] = {
        "application/vnd.dev.sigstore.", "application/vnd.dev.cosign", "application/vnd.cncf.notary.", "application/vnd.in-toto", "application/spdx", "text/spdx",
                "application/vnd.cyclonedx",
        "application/vnd.syft", "application/sarif", "application/vnd.docker.attestation", "application/vnd.goharbor.harbor.sbom", "application/vnd.goharbor.harbor.accessory",
        "application/vnd.security.", "application/vnd.openvex", NULL,
};

static bool is_child(const struct descriptor *item)
{
        bool known = false;

        for (const char *const *type = child_types; *type; type++)
                known |= strcasecmp(item->media_type, *type) == 0;
        if (!known || item->is_attestation)
                return false;
        for (const char *const *type = about_types; item->artifact_type && *type; type++)
                if (string_starts_with_nocase(item->artifact_type, *type))
                        return false;
        return true;
}

static const char *host_architecture(const struct utsname *name)
{
        static const struct { const char *machine, *architecture; } rows[] = {
                { "x86_64", "amd64" }, { "aarch64", "arm64" }, { "i386", "386" }, { "i586", "386" }, { "i686", "386" }, { "armv6l", "arm" }, { "armv7l", "arm" },
                        { "loongarch64", "loong64" },
        };

        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (strcmp(name->machine, rows[i].machine) == 0)
                        return rows[i].architecture;
        return name->machine;
}

static bool text_is(const char *text, const char *const *list)
{
        for (; *list; list++)
                if (strcasecmp(text, *list) == 0)
                        return true;
        return false;
}

static enum rank rank_find(const struct descriptor *item, const char *architecture)
{
        static const char *const wasm_architectures[] = { "wasm", "wasm32", NULL }, *const wasm_systems[] = { "", "wasi", "wasip1", "js", "wasm", NULL };
        const char *os = item->platform_os ? item->platform_os : "", *cpu = item->platform_architecture ? item->platform_architecture : "";

        if (!*os && !*cpu)
                return RANK_NO_PLATFORM;
        if (text_is(cpu, wasm_architectures))
                return text_is(os, wasm_systems) ? RANK_WASM : RANK_WASM_OTHER;
        if (strcmp(os, "linux") == 0 && strcmp(cpu, architecture) == 0)
                return RANK_HOST;
        return strcmp(os, "linux") == 0 && strcmp(cpu, "amd64") == 0 ? RANK_AMD64 : RANK_NONE;
}

static void platform_append(struct buffer *list, const struct descriptor *item)
{
        CLEANUP(cleanup_free) char *name = string_format("%s/%s%s%s", item->platform_os ? item->platform_os : "", item->platform_architecture ? item->platform_architecture : "",
                                                         item->platform_variant ? "/" : "", item->platform_variant ? item->platform_variant : "");
        char text[SHOWN_BYTES];

        string_printable(name, strlen(name), text, sizeof text);
        if (list->used + strlen(text) + 2 < LIST_BYTES)
                buffer_printf(list, "%s%s", list->used > 0 ? ", " : "", text);
}

static bool child_refuse(const struct manifest *index, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer list = { 0 };
        size_t count = 0;

        for (size_t i = 0; i < index->item_count; i++)
                if (is_child(&index->items[i])) {
                        platform_append(&list, &index->items[i]);
                        count++;
                }
        if (count == 0)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "index: none of its %zu children is an image", index->item_count);
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "index: no child for wasm, no child without platform and none for linux on this host; its platforms are: %s", list.data);
}

bool manifest_choose_child(const struct manifest *index, const struct descriptor **ret_child, struct error *err)
{
        const struct descriptor *best = NULL;
        enum rank best_rank = RANK_NONE;
        struct utsname name;
        size_t images = 0;

        if (index->kind != MANIFEST_INDEX)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "manifest: is an image, not an index");
        if (uname(&name) != 0)
                name.machine[0] = '\0';
        for (size_t i = 0; i < index->item_count; i++)
                images += is_child(&index->items[i]);
        for (size_t i = 0; i < index->item_count; i++) {
                if (!is_child(&index->items[i]))
                        continue;
                enum rank rank = rank_find(&index->items[i], host_architecture(&name));
                if (images == 1 && rank > RANK_ONLY)
                        rank = RANK_ONLY;
                if (rank < best_rank) {
                        best = &index->items[i];
                        best_rank = rank;
                }
        }
        if (!best)
                return child_refuse(index, err);
        *ret_child = best;
        return true;
}

/* Where several raw layers of one type are found: Istio and Kubewarden take the first, the CNCF rule says reject. */
enum several { SEVERAL_NO, SEVERAL_FIRST };

static const struct { const char *media_type; enum layer_form form; enum several several; } layer_types[] = {
        { "application/vnd.module.wasm.content.layer.v1+wasm", LAYER_WASM, SEVERAL_FIRST },
        { "application/wasm", LAYER_WASM, SEVERAL_NO },
        { "application/vnd.wasm.content.layer.v1+wasm", LAYER_WASM, SEVERAL_FIRST },
        { "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm", LAYER_WASM, SEVERAL_NO },
        { "application/vnd.oci.image.layer.v1.tar", LAYER_TAR, SEVERAL_NO },
        { "application/vnd.oci.image.layer.v1.tar+gzip", LAYER_TAR_GZIP, SEVERAL_NO },
        { "application/vnd.oci.image.layer.v1.tar+zstd", LAYER_TAR_ZSTD, SEVERAL_NO },
        { "application/vnd.docker.image.rootfs.diff.tar", LAYER_TAR, SEVERAL_NO },
        { "application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER_TAR_GZIP, SEVERAL_NO },
        { "application/vnd.docker.image.rootfs.diff.tar.zstd", LAYER_TAR_ZSTD, SEVERAL_NO },
};
enum { LAYER_TYPE_NONE = COUNT_OF(layer_types) };

static size_t layer_type_find(const struct descriptor *layer)
{
        size_t i = 0;
        while (i < COUNT_OF(layer_types) && strcasecmp(layer->media_type, layer_types[i].media_type) != 0)
                i++;
        return i;
}

static bool layer_refuse(const struct manifest *image, const char *what, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer list = { 0 };
        char text[SHOWN_BYTES];

        for (size_t i = 0; i < image->item_count; i++) {
                string_printable(image->items[i].media_type, strlen(image->items[i].media_type), text, sizeof text);
                if (list.used + strlen(text) + 2 < LIST_BYTES)
                        buffer_printf(&list, "%s%s", list.used > 0 ? ", " : "", text);
        }
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "image: %s; its layer types are: %s", what, list.data);
}

bool manifest_choose_layer(const struct manifest *image, const struct descriptor **ret_layer, enum layer_form *ret_form, struct error *err)
{
        size_t raw_type = LAYER_TYPE_NONE, tar_type = LAYER_TYPE_NONE;
        const struct descriptor *raw = NULL, *tar = NULL;

        if (image->kind != MANIFEST_IMAGE)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "manifest: is an index, not an image");
        if (image->item_count == 0)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "image: has no layers");
        for (size_t i = 0; i < image->item_count; i++) {
                size_t type = layer_type_find(&image->items[i]);
                if (type == LAYER_TYPE_NONE)
                        continue;
                if (layer_types[type].form != LAYER_WASM) {
                        tar = &image->items[i];
                        tar_type = type;
                } else if (!raw) {
                        raw = &image->items[i];
                        raw_type = type;
                } else if (type != raw_type || layer_types[type].several == SEVERAL_NO)
                        return layer_refuse(image, "has more than one wasm layer and none of them is marked as the entry", err);
        }
        if (!raw && !tar)
                return layer_refuse(image, "no layer is a wasm module or a tar", err);
        *ret_layer = raw ? raw : tar;
        *ret_form = raw ? LAYER_WASM : layer_types[tar_type].form;
        return true;
}
