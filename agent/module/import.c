/*
 * How it goes: an operator's file is copied into the store, unboxed and checked like a pulled body, and gets the name it shall have, with a grant for everybody on this node.
 * How it fails: like a pull; nothing is left.
 * How it ends: the fd is closed, the answer has been given.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "modules.h"

struct import_job { struct task task; struct pull pull; int fd; uint64_t sequence; bool is_done; struct error err; module_done done; void *arg; };

static bool import_copy(struct import_job *import, struct error *err)
{
        enum { PIECE_BYTES = 256 << 10 };
        CLEANUP(cleanup_free) char *piece = memory_new(1, PIECE_BYTES);
        struct sink *sink = blob_writer_get_sink(import->pull.writer);
        for (off_t at = 0;;) {
                ssize_t got = pread(import->fd, piece, PIECE_BYTES, at);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return refuse_errno(err, ERROR_INTERNAL, errno, "reading the file to import");
                if (got == 0)
                        return true;
                if (!sink->write(sink, piece, (size_t)got, err))
                        return false;
                at += got;
        }
}

static bool import_store(struct import_job *import, struct error *err)
{
        struct pull *pull = &import->pull;
        struct stat st;
        uint64_t limit = pull->setup->options.max_layer_bytes > pull->setup->options.max_module_bytes ? pull->setup->options.max_layer_bytes
                                                                                                      : pull->setup->options.max_module_bytes;
        if (fstat(import->fd, &st) != 0 || !S_ISREG(st.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "what is to be imported is no regular file");
        if ((uint64_t)st.st_size > limit)
                return refuse(err, ERROR_TOO_LARGE, "the file has %lld bytes, at most %llu are taken", (long long)st.st_size, (unsigned long long)limit);
        if (!pull_open_writer(pull, limit, (uint64_t)st.st_size, DIGEST_SHA256, &pull->writer, err) || !import_copy(import, err) || !pull_unpack_body(pull, err))
                return false;

        struct pull_rows rows;
        pull->now_s = clock_get_wall_s();
        pull->grant_kind = GRANT_IMPORT;
        pull_get_rows(pull, &rows);
        struct store_commit commit = { .writer = pull->writer, .image = pull->wants_image_row ? &rows.image : NULL, .reference = &rows.reference, .grant = &rows.grant };
        return store_commit(pull->store, &commit, &pull->row, err);
}

static void import_run(struct job *job)
{
        ON_WORKER();
        struct import_job *import = CONTAINER_OF(job, struct import_job, task.job);
        import->is_done = import_store(import, &import->err);
}

static void import_answer(struct import_job *import)
{
        struct modules *modules = import->task.modules;
        struct pull *pull = &import->pull;
        struct pull_rows rows;
        pull_get_rows(pull, &rows);
        struct entry *entry = catalog_find_entry(&modules->catalog, &pull->module);
        bool is_new = !entry;
        pull->row.is_pinned |= entry && entry->is_pinned;
        if (!entry || !entry->is_busy)
                entry = catalog_put_entry(&modules->catalog, &pull->row);
        if (pull->wants_image_row)
                catalog_put_image(&modules->catalog, &rows.image);
        catalog_put_reference(&modules->catalog, &rows.reference, import->sequence);
        catalog_put_grant(&modules->catalog, &rows.grant);
        refusals_clear(modules, pull->want->name);
        if (is_new)
                promises_return(modules, entry);

        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(&entry->sha256, hex);
        event_tell(modules, "imported", &(struct module_event){ .url = pull->want->name, .sha256 = hex, .bytes = entry->identity.size_bytes });
        CLEANUP(cleanup_free) char *json = string_format("{\"sha256\": \"%s\", \"size\": %llu}", hex, (unsigned long long)entry->identity.size_bytes);
        import->done(import->arg, json, NULL);
}

static void import_done(struct job *job)
{
        struct import_job *import = CONTAINER_OF(job, struct import_job, task.job);
        struct modules *modules = import->task.modules;
        if (import->is_done)
                import_answer(import);
        else
                import->done(import->arg, NULL, &import->err);
        close(import->fd);
        pull_fini(&import->pull);
        module_want_unref(&import->pull.want);
        setup_unref(&import->pull.setup);
        free(import);
        evict_check(modules);
        task_end(modules);
}

/* What manifest this module came from is the operator's word: said beside the name, by a digest in it, or not at all. Two words must agree. */
static bool origin_find(const struct module_want *want, const struct module_origin *said, struct module_origin *ret_origin, struct error *err)
{
        struct module_origin origin = said ? *said : (struct module_origin){ 0 };

        if (want->kind != WANT_OCI) {
                *ret_origin = (struct module_origin){ 0 };
                return true;
        }
        if (!digest_is_set(&origin.manifest))
                origin.manifest = want->pin;
        if (!digest_is_set(&origin.top))
                origin.top = origin.manifest;
        if (digest_is_set(&want->pin) && !digest_equal(&want->pin, &origin.manifest) && !digest_equal(&want->pin, &origin.top))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the digest in the name is not that of the image that is to be imported", want->name);
        if (origin.document) {
                CLEANUP(hasher_free) struct hasher *hasher = hasher_new(origin.manifest.algorithm);
                struct digest found;
                hasher_update(hasher, origin.document, strlen(origin.document));
                hasher_finish(hasher, &found);
                if (!digest_is_set(&origin.manifest) || !digest_equal(&found, &origin.manifest))
                        return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the manifest that was given does not have the digest of the image", want->name);
        }
        *ret_origin = origin;
        return true;
}

void module_import(struct modules *modules, const char *url, const struct module_origin *origin_or_null, int fd, module_done done, void *arg)
{
        ON_LOOP();
        struct error err;
        struct module_want *want = NULL;
        struct module_origin origin;
        bool is_right = !modules->is_closing || refuse(&err, ERROR_BUSY, "the daemon is stopping");
        if (!is_right || !module_want_again(url, MODULE_POLICY_IF_NOT_PRESENT, NULL, NULL, &want, &err) || !origin_find(want, origin_or_null, &origin, &err)) {
                module_want_unref(&want);
                close(fd);
                done(arg, NULL, &err);
                return;
        }
        struct import_job *import = memory_new(1, sizeof *import);
        *import = (struct import_job){ .fd = fd, .done = done, .arg = arg, .sequence = ++modules->sequence };
        import->pull.want = want;
        import->pull.setup = setup_ref(modules->setup);
        import->pull.store = modules->store;
        import->pull.namespace = string_copy("");
        import->pull.top = origin.top;
        import->pull.manifest_digest = origin.manifest;
        import->pull.document = string_copy(origin.document);
        import->pull.wants_image_row = digest_is_set(&origin.manifest);
        task_start(modules, &import->task, import_run, import_done);
}
