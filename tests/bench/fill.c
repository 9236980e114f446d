/*
 * How it goes: fill ROOT FROM TO: commits small modules, each with its image, reference and anonymous grant, to the store at ROOT, as pulls of oci://127.0.0.1:5000/fill/m<n>:v1 would.
 * How it fails: the first refused commit ends it with 1.
 * How it ends: the store is closed clean. Nothing of it is durable: this program's own fsync does nothing, for a hundred thousand real ones take minutes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include <wasmcached/store.h>
#include "../../agent/module/seal.h"

/* In place of libc's, for SQLite too. */
int fsync(int fd);
int fdatasync(int fd);
int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags);

int fsync(int fd)
{
        (void)fd;
        return 0;
}

int fdatasync(int fd)
{
        (void)fd;
        return 0;
}

int sync_file_range(int fd, off64_t offset, off64_t count, unsigned flags)
{
        (void)fd, (void)offset, (void)count, (void)flags;
        return 0;
}

static bool commit_one(struct store *store, unsigned number, struct error *err)
{
        static const uint8_t magic[] = { 0, 'a', 's', 'm', 1, 0, 0, 0 };
        char module[200], document[700], name[120], repository[80];
        memcpy(module, magic, sizeof magic);
        size_t size = sizeof magic + (size_t)snprintf(module + sizeof magic, sizeof module - sizeof magic, "%cfill%08u", 0, number);
        struct digest sha256, manifest;
        char layer[DIGEST_TEXT_BYTES];
        digest_sha256(module, size, &sha256);
        digest_format(&sha256, layer);
        snprintf(document, sizeof document,
                 "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.module.wasm.config.v1+json\","
                 "\"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},"
                 "\"layers\":[{\"mediaType\":\"application/vnd.module.wasm.content.layer.v1+wasm\",\"digest\":\"%s\",\"size\":%zu}]}", layer, size);
        digest_sha256(document, strlen(document), &manifest);
        snprintf(repository, sizeof repository, "127.0.0.1:5000/fill/m%u", number);
        snprintf(name, sizeof name, "oci://%s:v1", repository);

        struct store_image image = { .manifest = manifest, .top = manifest, .module = sha256, .layer = sha256, .media_type = "application/vnd.oci.image.manifest.v1+json",
                                           .layer_type = "application/vnd.module.wasm.content.layer.v1+wasm", .document = document };
        seal_image(store_get_seal_key(store), &image);
        const struct store_reference reference = { .name = name, .top = manifest, .manifest = manifest, .module = sha256, .etag = "", .checked_s = clock_get_wall_s() };
        const struct store_grant grant = { .manifest = manifest, .repository = repository, .kind = "anonymous", .namespace = "", .secret = "", .granted_s = clock_get_wall_s(),
                                           .last_ok_s = clock_get_wall_s() };
        const struct blob_writer_options options = { .size_limit = size, .size_hint = size, .algorithm = DIGEST_SHA256, .what = "a filling" };
        CLEANUP(blob_writer_free) struct blob_writer *writer = NULL;
        if (!blob_writer_open(store, &options, &writer, err))
                return false;
        struct sink *sink = blob_writer_get_sink(writer);
        return sink->write(sink, module, size, err) && blob_writer_finish(writer, NULL, NULL, NULL, err) &&
               store_commit(store, &(struct store_commit){ .writer = writer, .image = &image, .reference = &reference, .grant = &grant }, NULL, err);
}

int main(int argc, char **argv)
{
        struct error err = { 0 };
        struct store *store = NULL;
        struct store_report report = { 0 };
        if (argc != 4)
                return 2;
        bool is_good = store_open(&(struct store_options){ .root = argv[1] }, &store, &report, &err);
        for (unsigned i = (unsigned)atoi(argv[2]), end = (unsigned)atoi(argv[3]); is_good && i < end; i++)
                is_good = commit_one(store, i, &err);
        if (!is_good)
                fprintf(stderr, "fill: %s\n", err.text);
        if (store)
                store_close(&store);
        return !is_good;
}
