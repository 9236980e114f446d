/*
 * How it goes: fsync of the unnamed file, a link at its digest's name, fsync of the folder, then all rows in one transaction: whatever moment a crash picks, a row has its bytes.
 *              The first hand-out, if it is known who waits, is part of it: its link comes before the rows, which so have the last ctime, and its lease among them.
 *              Letting go runs the other way: rows first, then links and file.
 * How it fails: before the link nothing is visible; after it a file without a row is, which the next start adopts. When the index has no room the file is taken back at once.
 *               A bad file under the name (other bytes) goes to quarantine and is replaced, with the hand-outs that pointed at it.
 * How it ends: under names_lock, so that commit, link, verify and removal of one module never cross.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

static bool shard_make(struct store *store, const char *blob, struct error *err)
{
        const char shard[3] = { blob[0], blob[1], '\0' };
        if (mkdirat(store->blobs_fd, shard, 0700) != 0)
                return errno == EEXIST || store_fail(store, err, errno, "cannot make the folder blobs/%s", shard);
        return fsync(store->blobs_fd) == 0 || store_fail(store, err, errno, "cannot make the folder blobs/%s durable", shard);
}

static bool shard_sync(struct store *store, const char *blob, struct error *err)
{
        const char shard[3] = { blob[0], blob[1], '\0' };
        CLEANUP(cleanup_close) int fd = openat(store->blobs_fd, shard, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        errno = fault_hit("store.sync_folder") ? EIO : errno;
        if (fd >= 0 && !fault_hit("store.sync_folder") && fsync(fd) == 0)
                return true;
        return store_fail(store, err, errno, "cannot make the folder blobs/%s durable", shard);
}

/* A file has the name already. Ours by identity = good; else its bytes decide. */
static enum blob_verdict existing_examine(struct store *store, const struct digest *module, const char *blob, struct error *err)
{
        struct store_module row = { 0 };
        struct store_identity now;
        bool is_there = false;
        if (!row_get_module(store, module, &row, &is_there, err))
                return BLOB_UNKNOWN;
        if (is_there && identity_get(store->blobs_fd, blob, &now) && identity_equal(&now, &row.identity))
                return BLOB_GOOD;

        struct blob_exam exam = { .dirfd = store->blobs_fd, .name = blob, .module = module };
        enum blob_verdict verdict = blob_examine(store, &exam, err);
        if (verdict == BLOB_GOOD && !blob_adopt(store, &exam, true, &now, err))
                return BLOB_UNKNOWN;
        return verdict;
}

static bool blob_place(struct store *store, struct blob_writer *writer, const struct digest *module, bool *ret_is_new, struct error *err)
{
        char blob[BLOB_NAME_BYTES];
        blob_format_name(module, blob);
        bool exists = false;
        if (!shard_make(store, blob, err) || !writer_publish(writer, blob, &exists, err))
                return false;
        *ret_is_new = !exists;
        enum blob_verdict verdict = exists ? existing_examine(store, module, blob, err) : BLOB_GOOD;
        if (verdict == BLOB_UNKNOWN)
                return false;
        if (verdict == BLOB_BAD) {
                if (!blob_quarantine(store, store->blobs_fd, blob, err) || !writer_publish(writer, blob, &exists, err))
                        return false;
                if (exists)
                        return refuse(err, ERROR_INTERNAL, "store %s: somebody else writes below blobs/", store->root);
                *ret_is_new = true;
        }
        if (!shard_sync(store, blob, err))
                return false;
        /* Hand-outs of a former file of that name get the new one; usually there is none. */
        return !*ret_is_new || handout_refresh(store, module, err);
}

static const char *text_or_empty(const char *text)
{
        return text ? text : "";
}

static bool image_save(struct store *store, const struct store_image *image, const struct digest *module, struct error *err)
{
        const struct digest *top = digest_is_set(&image->top) ? &image->top : &image->manifest;
        module = digest_is_set(&image->module) ? &image->module : module;
        /* One manifest leads to one module: rows that say otherwise below another index were written by somebody else, or by other rules. */
        if (digest_is_set(&image->seal) && !index_write(store, STATEMENT_IMAGE_ONLY, err, "dd", &image->manifest, module))
                return false;
        return index_write(store, STATEMENT_IMAGE_PUT, err, "ddddttd", &image->manifest, top, module, &image->layer,
                           text_or_empty(image->media_type), text_or_empty(image->layer_type), &image->seal) &&
               (!image->document || index_write(store, STATEMENT_DOCUMENT_PUT, err, "ddt", &image->manifest, top, image->document));
}

static bool grant_save(struct store *store, const struct store_grant *grant, struct error *err)
{
        return index_write(store, STATEMENT_GRANT_PUT, err, "dttttdii", &grant->manifest, text_or_empty(grant->repository), text_or_empty(grant->kind),
                           text_or_empty(grant->namespace), text_or_empty(grant->secret), &grant->credential_mac, grant->granted_s, grant->last_ok_s) &&
               index_write(store, STATEMENT_GRANT_TRIM, err, "dti", &grant->manifest, text_or_empty(grant->repository), (int64_t)GRANTS_PER_REPOSITORY_MAX - 1);
}

static bool others_save(struct store *store, const struct store_commit *commit, const struct digest *module, struct error *err)
{
        const struct store_reference *reference = commit->reference;
        const struct store_resource *resource = commit->resource;
        if (commit->image && !image_save(store, commit->image, module, err))
                return false;
        if (reference && !index_write(store, STATEMENT_REFERENCE_PUT, err, "tdddti", reference->name, &reference->top, &reference->manifest,
                                      digest_is_set(&reference->module) ? &reference->module : module, text_or_empty(reference->etag), reference->checked_s))
                return false;
        if (resource && !index_write(store, STATEMENT_RESOURCE_PUT, err, "ttttdd", text_or_empty(resource->namespace), resource->name, text_or_empty(resource->version),
                                     text_or_empty(resource->reference), digest_is_set(&resource->module) ? &resource->module : module, &resource->manifest))
                return false;
        return !commit->grant || grant_save(store, commit->grant, err);
}

/* created_s grows with every commit that the caller hears of, so that a removal that was decided before does not take it. */
static bool module_save(struct store *store, const struct digest *module, const struct store_identity *identity, bool is_told, struct error *err)
{
        if (identity)
                return index_write(store, STATEMENT_MODULE_PUT, err, "diiiiii", module, (int64_t)identity->device, (int64_t)identity->inode, (int64_t)identity->size_bytes,
                                   identity->mtime_ns, identity->ctime_ns, clock_get_wall_s());
        return !is_told || index_write(store, STATEMENT_MODULE_AGAIN, err, "di", module, clock_get_wall_s());
}

/* What the rows are about: the module, and its file's identity if the commit brought bytes. */
struct subject { struct digest module; struct store_identity identity; bool has_bytes, is_linked; };

static bool rows_save(struct store *store, const struct store_commit *commit, const struct subject *subject, struct store_module *ret_module, struct error *err)
{
        const struct digest *module = &subject->module;
        if (!index_begin(store, err))
                return false;

        struct store_module row = { 0 };
        bool is_there = false;
        bool is_good = module_save(store, module, subject->has_bytes ? &subject->identity : NULL, ret_module != NULL, err) && row_get_module(store, module, &row, &is_there, err);
        if (is_good && !is_there)
                is_good = refuse(err, ERROR_BUSY, "the module was let go in the meantime; ask again");
        is_good = is_good && others_save(store, commit, module, err) && (!subject->is_linked || row_save_lease(store, commit->lease, err)) &&
                  index_meta_put(store, "alive_s", clock_get_wall_s(), err);
        if (!index_end(store, is_good, err))
                return false;
        if (ret_module)
                *ret_module = row;
        return true;
}

/* Which module the rows of a commit without bytes are about. */
static bool commit_find_module(struct store *store, const struct store_commit *commit, struct digest *ret_module, struct error *err)
{
        const struct digest *named[] = {
                commit->image ? &commit->image->module : NULL, commit->reference ? &commit->reference->module : NULL, commit->resource ? &commit->resource->module : NULL,
        };
        for (size_t i = 0; i < COUNT_OF(named); i++)
                if (named[i] && digest_is_set(named[i])) {
                        *ret_module = *named[i];
                        return true;
                }
        if (!commit->grant)
                return refuse(err, ERROR_INTERNAL, "a commit that names no module");

        index_lock(store);
        sqlite3_stmt *row = index_start(store, STATEMENT_IMAGE_MODULE, err, "d", &commit->grant->manifest);
        int more = row ? index_step(store, row, err) : -1;
        *ret_module = commit->grant->manifest;    /* of http and file: the module itself */
        if (more == 1)
                column_digest(row, 0, ret_module);
        if (row)
                index_stop(row);
        index_unlock(store);
        return more >= 0;
}

/* After a failure the new file goes again, and its link. When the index may or may not have taken its row (`is_sure` false), the next start decides. */
static bool blob_take_back(struct store *store, const struct digest *module, bool is_sure)
{
        char blob[BLOB_NAME_BYTES];
        struct error ignored = { 0 };
        struct store_module row;
        bool is_there = true;
        blob_format_name(module, blob);
        return is_sure && row_get_module(store, module, &row, &is_there, &ignored) && !is_there && unlinkat(store->blobs_fd, blob, 0) == 0 &&
               handout_refresh(store, module, &ignored);
}

static bool commit_bytes(struct store *store, const struct store_commit *commit, struct subject *subject, struct store_module *ret_module, struct error *err)
{
        const struct digest *module = &subject->module;
        char blob[BLOB_NAME_BYTES];
        struct error unlinked = { 0 };
        blob_format_name(module, blob);
        subject->has_bytes = true;
        bool is_new = false, is_placed = blob_place(store, commit->writer, module, &is_new, err);
        subject->is_linked = is_placed && is_new && commit->lease && handout_place(store, commit->lease->namespace, module, &unlinked);
        if (is_placed && !identity_get(store->blobs_fd, blob, &subject->identity))
                is_placed = store_fail(store, err, errno, "cannot stat the module %s", blob + 3);
        if (is_placed && rows_save(store, commit, subject, ret_module, err))
                return true;
        if (is_new && !blob_take_back(store, module, !is_placed || err->code == ERROR_STORE_FULL))
                atomic_store(&store->has_leftovers, true);
        return false;
}

bool store_commit(struct store *store, const struct store_commit *commit, struct store_module *ret_module, struct error *err)
{
        struct subject subject = { 0 };
        if (!store_refuse_read_only(store, err))
                return false;
        if (commit->writer && writer_is_scratch(commit->writer))
                return refuse(err, ERROR_INTERNAL, "scratch content cannot be committed");
        if (commit->writer ? !blob_writer_finish(commit->writer, NULL, &subject.module, NULL, err) : !commit_find_module(store, commit, &subject.module, err))
                return false;

        names_lock(store, &subject.module);
        bool is_good = commit->writer ? commit_bytes(store, commit, &subject, ret_module, err) : rows_save(store, commit, &subject, ret_module, err);
        names_unlock(store, &subject.module);
        if (is_good && commit->lease)
                *commit->ret_is_linked = subject.is_linked;
        return is_good;
}

static bool rows_remove(struct store *store, const struct digest *module, int64_t created_s, struct error *err)
{
        struct store_module row = { 0 };
        bool is_there = false;
        if (!index_begin(store, err))
                return false;
        bool is_good = row_get_module(store, module, &row, &is_there, err);
        if (is_good && is_there && row.created_s != created_s)
                is_good = refuse(err, ERROR_BUSY, "the module was committed again in the meantime and stays");
        return index_end(store, is_good && row_delete_module(store, module, err), err);
}

bool store_remove_module(struct store *store, const struct digest *module, int64_t created_s, struct error *err)
{
        char blob[BLOB_NAME_BYTES];
        blob_format_name(module, blob);
        names_lock(store, module);
        bool is_good = rows_remove(store, module, created_s, err);
        if (!is_good && err->code == ERROR_STORE_FULL && reserve_release(store))
                is_good = rows_remove(store, module, created_s, err);
        if (is_good && (fault_hit("store.unlink") || (unlinkat(store->blobs_fd, blob, 0) != 0 && errno != ENOENT)))
                is_good = store_fail(store, err, errno, "cannot remove the module %s", blob + 3);
        is_good = is_good && handout_refresh(store, module, err);
        if (!is_good && err->code != ERROR_BUSY)
                atomic_store(&store->has_leftovers, true);
        names_unlock(store, module);
        if (is_good)
                reserve_make(store);
        return is_good;
}
