/*
 * How it goes: import: each module of the layout goes into a file that only root and the daemon can reach, and the daemon is told where.
 *              export: the module's bytes come over the socket and stand as the one raw layer of a Wasm-variant image, whose digests are all known before the first byte.
 * How it fails: what the daemon sends is hashed again; a layout that could not be finished is not there.
 * How it ends: the temporary folder is removed in every case.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"

/* A larger one is not kept: the body of a request has at most 1 MiB. */
enum { MANIFEST_MAX_BYTES = 256 << 10 };

static const char import_hint[] = "PATH is a folder or a .tar that holds an OCI image layout, as `wasmcachectl export` and `skopeo copy` write it";
static const char export_hint[] = "PATH is a new folder, or a new file that ends in .tar";

/* ---- import ---- */
struct importer { struct ctl *ctl; struct scratch scratch; unsigned count; int result; };

static bool import_one(void *arg, const struct image *image, int fd, struct error *err)
{
        struct importer *importer = arg;
        CLEANUP(cleanup_free) char *path = string_format("%s/module.wasm", importer->scratch.folder);
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;
        struct json_writer writer = { .out = &body };

        if (!scratch_save(&importer->scratch, "module.wasm", fd, err))
                return false;
        json_open_map(&writer, NULL);
        json_put_text(&writer, "url", image->url);
        json_put_text(&writer, "path", path);
        if (image->digest)
                json_put_text(&writer, "digest", image->digest);
        if (image->index)
                json_put_text(&writer, "index", image->index);
        if (image->manifest && strlen(image->manifest) <= MANIFEST_MAX_BYTES)
                json_put_text(&writer, "manifest", image->manifest);
        json_close_map(&writer);
        importer->result = daemon_ask(importer->ctl, "POST", "/v1/import", body.data, &answer);
        if (importer->result != WASMCACHE_OK)
                return refuse(err, ERROR_INTERNAL, "the daemon did not take it");         /* said already */
        importer->count++;
        if (importer->ctl->format == FORMAT_TABLE)
                printf("imported %s %s\n", text_member(answer, "sha256") ? text_member(answer, "sha256") : "", image->url);
        else
                output_value(importer->ctl, answer);
        return true;
}

int command_import(struct ctl *ctl)
{
        CLEANUP(layout_close) struct layout *layout = NULL;
        struct importer importer = { .ctl = ctl, .result = WASMCACHE_OK };
        struct error err = { 0 };

        if (!layout_open(ctl->arguments[0], &layout, &err) || !scratch_make(ctl, &importer.scratch, &err))
                return report_path(import_hint, &err);
        bool done = image_each(layout, ctl->options[OPTION_URL], importer.scratch.folder, import_one, &importer, &err);
        scratch_remove(&importer.scratch);
        if (importer.result != WASMCACHE_OK)
                return importer.result;
        return done ? WASMCACHE_OK : report_path(import_hint, &err);
}

/* ---- export ---- */
static const char config_text[] = "{}";
static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

struct export { struct layout_writer *writer; struct hasher *hasher; uint64_t left_bytes; struct error err; };

static bool document_put(struct layout_writer *writer, const char *name, const char *text, struct error *err)
{
        return layout_put_start(writer, name, strlen(text), err) && layout_put_bytes(writer, text, strlen(text), err);
}

static bool blob_put(struct layout_writer *writer, const char *text, char ret_digest[DIGEST_TEXT_BYTES], struct error *err)
{
        struct digest digest;
        char hex[DIGEST_TEXT_BYTES], name[DIGEST_TEXT_BYTES + 16];

        digest_sha256(text, strlen(text), &digest);
        digest_format_hex(&digest, hex);
        digest_format(&digest, ret_digest);
        snprintf(name, sizeof name, "blobs/sha256/%s", hex);
        return document_put(writer, name, text, err);
}

static void descriptor_put(struct json_writer *writer, const char *key, const char *type, const char *digest, uint64_t size_bytes)
{
        json_open_map(writer, key);
        json_put_text(writer, "mediaType", type);
        json_put_text(writer, "digest", digest);
        json_put_int(writer, "size", (int64_t)size_bytes);
}

/* What is exported, and under which name; the manifest it came with: its digest, that of the index above, its text, each NULL where not known. */
struct subject { const char *sha256, *url, *original, *index, *manifest; uint64_t size_bytes; };

static void manifest_write(const struct subject *subject, const char *config_digest, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        CLEANUP(cleanup_free) char *layer_digest = string_format("sha256:%s", subject->sha256);

        json_open_map(&writer, NULL);
        json_put_int(&writer, "schemaVersion", 2);
        json_put_text(&writer, "mediaType", "application/vnd.oci.image.manifest.v1+json");
        descriptor_put(&writer, "config", "application/vnd.module.wasm.config.v1+json", config_digest, strlen(config_text));
        json_close_map(&writer);
        json_open_list(&writer, "layers");
        descriptor_put(&writer, NULL, "application/vnd.module.wasm.content.layer.v1+wasm", layer_digest, subject->size_bytes);
        json_open_map(&writer, "annotations");
        json_put_text(&writer, "org.opencontainers.image.title", "plugin.wasm");
        json_close_map(&writer);
        json_close_map(&writer);
        json_close_list(&writer);
        json_open_map(&writer, "annotations");
        json_put_text(&writer, "wasmcached.source.url", subject->url);
        if (subject->original)
                json_put_text(&writer, "wasmcached.source.digest", subject->original);
        if (subject->index)
                json_put_text(&writer, "wasmcached.source.index", subject->index);
        json_close_map(&writer);
        json_close_map(&writer);
}

static void index_write(const struct subject *subject, const char *manifest_digest, size_t manifest_bytes, struct buffer *out)
{
        struct json_writer writer = { .out = out };

        json_open_map(&writer, NULL);
        json_put_int(&writer, "schemaVersion", 2);
        json_put_text(&writer, "mediaType", "application/vnd.oci.image.index.v1+json");
        json_open_list(&writer, "manifests");
        descriptor_put(&writer, NULL, "application/vnd.oci.image.manifest.v1+json", manifest_digest, manifest_bytes);
        json_open_map(&writer, "annotations");
        json_put_text(&writer, "org.opencontainers.image.ref.name", subject->url);
        if (subject->original)
                json_put_text(&writer, "wasmcached.source.digest", subject->original);
        json_close_map(&writer);
        json_close_map(&writer);
        json_close_list(&writer);
        json_close_map(&writer);
}

static bool documents_put(struct layout_writer *writer, const struct subject *subject, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer manifest = { 0 }, index = { 0 };
        char digest[DIGEST_TEXT_BYTES], original[DIGEST_TEXT_BYTES];

        if (!document_put(writer, "oci-layout", layout_text, err) || !blob_put(writer, config_text, digest, err))
                return false;
        manifest_write(subject, digest, &manifest);
        if (!blob_put(writer, manifest.data, digest, err))
                return false;
        if (subject->manifest && !string_equal(subject->original, digest) && !blob_put(writer, subject->manifest, original, err))
                return false;
        index_write(subject, digest, manifest.used, &index);
        return document_put(writer, "index.json", index.data, err);
}

static int content_take(void *arg, const char *bytes, size_t size)
{
        struct export *export = arg;

        if (size > export->left_bytes)
                return !refuse(&export->err, ERROR_CHECKSUM_MISMATCH, "the daemon sent more bytes than the module has");
        export->left_bytes -= size;
        hasher_update(export->hasher, bytes, size);
        return !layout_put_bytes(export->writer, bytes, size, &export->err);
}

static int content_put(struct ctl *ctl, struct layout_writer *writer, const struct subject *subject)
{
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        CLEANUP(cleanup_free) char *path = string_format("/v1/modules/%s/content", subject->sha256);
        CLEANUP(cleanup_free) char *name = string_format("blobs/sha256/%s", subject->sha256);
        struct export export = { .writer = writer, .hasher = hasher, .left_bytes = subject->size_bytes };
        struct wasmcache_error err = { 0 };
        struct digest found;
        char hex[DIGEST_TEXT_BYTES];

        if (!layout_put_start(writer, name, subject->size_bytes, &export.err))
                return report_path(export_hint, &export.err);
        int result = wasmcache_stream(ctl->cache, path, content_take, &export, &err);
        if (result != WASMCACHE_OK)
                return report_daemon(ctl, result, &err);
        hasher_finish(hasher, &found);
        digest_format_hex(&found, hex);
        if (export.err.code == ERROR_NONE && !string_equal(hex, subject->sha256))
                refuse(&export.err, ERROR_CHECKSUM_MISMATCH, "what the daemon sent does not have the digest %s", subject->sha256);
        return export.err.code == ERROR_NONE ? WASMCACHE_OK : report_path(export_hint, &export.err);
}

/* The name that was asked for, if it is one; else --url, else the module's first. */
static const char *subject_url(const struct ctl *ctl, const struct value *object)
{
        const struct value *urls = value_get_member(object, "urls");
        const char *asked = ctl->arguments[0];

        if (ctl->options[OPTION_URL])
                return ctl->options[OPTION_URL];
        if (strchr(asked, '/'))
                return asked;
        return value_get_count(urls) > 0 ? value_get_text(value_get_item(urls, 0)) : text_member(object, "url");
}

/* The manifest that the module came with, by which an import can prove its digest; NULL where the daemon does not have it. */
static char *manifest_fetch(struct ctl *ctl, const char *digest)
{
        struct wasmcache_error ignored;
        struct error problem;
        struct digest found;
        char hex[DIGEST_TEXT_BYTES];
        CLEANUP(cleanup_free) char *body = NULL;
        CLEANUP(value_free) struct value *answer = NULL;
        size_t size = 0;

        if (!digest || !string_starts_with(digest, "sha256:"))
                return NULL;
        CLEANUP(cleanup_free) char *path = string_format("/v1/manifests/%s", digest + strlen("sha256:"));
        if (wasmcache_call(ctl->cache, "GET", path, NULL, NULL, &body, &size, &ignored) != WASMCACHE_OK || !json_parse(body, size, ERROR_UPSTREAM_ERROR, &answer, &problem))
                return NULL;
        const char *manifest = text_member(answer, "manifest");
        if (!manifest)
                return NULL;
        digest_sha256(manifest, strlen(manifest), &found);
        digest_format_hex(&found, hex);
        return string_equal(hex, digest + strlen("sha256:")) ? string_copy(manifest) : NULL;
}

/* The image that a digest in the name means, else the one that the daemon names first; and the index above it. */
static void subject_find_image(struct subject *subject, const struct value *known)
{
        const struct value *images = value_get_member(known, "images");
        const char *pinned = strchr(subject->url, '@');

        if (pinned)
                subject->original = pinned + 1;
        for (size_t i = 0; subject->original && i < value_get_count(images); i++) {
                const struct value *image = value_get_item(images, i);
                const char *manifest = text_member(image, "manifest"), *top = text_member(image, "top");
                if (!manifest || !top || (!string_equal(manifest, subject->original) && !string_equal(top, subject->original)))
                        continue;
                subject->original = manifest;
                subject->index = string_equal(top, manifest) ? NULL : top;
                return;
        }
}

static void exported_tell(struct ctl *ctl, const struct subject *subject)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(value_free) struct value *told = NULL;
        struct json_writer writer = { .out = &text };
        struct error ignored;

        json_open_map(&writer, NULL);
        json_put_text(&writer, "sha256", subject->sha256);
        json_put_text(&writer, "url", subject->url);
        json_put_text(&writer, "path", ctl->arguments[1]);
        json_close_map(&writer);
        if (json_parse(text.data, text.used, ERROR_INTERNAL, &told, &ignored))
                output_value(ctl, told);
}

int command_export(struct ctl *ctl)
{
        CLEANUP(value_free) struct value *object = NULL, *known = NULL;
        CLEANUP(cleanup_free) char *manifest = NULL;
        CLEANUP(layout_discard) struct layout_writer *writer = NULL;
        char sha256[DIGEST_HEX_BYTES] = "";
        struct error err = { 0 };

        int result = daemon_resolve(ctl, ctl->arguments[0], sha256);
        CLEANUP(cleanup_free) char *path = string_format("/v1/modules/%s", result == WASMCACHE_OK ? sha256 : "");
        if (result == WASMCACHE_OK)
                result = daemon_ask(ctl, "GET", path, NULL, &object);
        CLEANUP(cleanup_free) char *inspect = string_format("/v1/inspect?name=%s", sha256);
        if (result == WASMCACHE_OK)
                result = daemon_ask(ctl, "GET", inspect, NULL, &known);
        if (result != WASMCACHE_OK)
                return result;
        const struct value *size = value_get_member(object, "size");
        struct subject subject = { .sha256 = sha256, .url = subject_url(ctl, object), .original = text_member(object, "digest"), .size_bytes = (uint64_t)value_get_int(size) };
        if (value_get_kind(size) != VALUE_INT || value_get_int(size) < 8 || !subject.url)
                return report_local("name it with --url", "the daemon tells neither size nor name of %s", sha256);

        subject_find_image(&subject, known);
        subject.manifest = manifest = manifest_fetch(ctl, subject.original);
        if (!layout_create(ctl->arguments[1], &writer, &err) || !documents_put(writer, &subject, &err))
                return report_path(export_hint, &err);
        result = content_put(ctl, writer, &subject);
        if (result != WASMCACHE_OK)
                return result;
        if (!layout_commit(writer, &err))
                return report_path(export_hint, &err);
        if (ctl->format == FORMAT_TABLE)
                printf("exported %s to %s\n", sha256, ctl->arguments[1]);
        else
                exported_tell(ctl, &subject);
        return WASMCACHE_OK;
}
