/*
 * How it goes: a caller's file is a hard link in the folder of its namespace; making and removing it changes the blob's ctime, so the row follows. The blob is looked at before,
 *              so that a link never makes a replaced file look like ours.
 *              Of many at once all rows are one transaction, for which the disk is waited for once; between a file and its row another may then look at it, who hashes it again.
 * How it fails: a damaged blob is quarantined instead of linked; a full or read-only disk refuses, links that are there stay.
 * How it ends: folders of namespaces are never removed: a pod may have one mounted.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/store/handout.h>
#include "inside.h"

static bool namespace_valid(const char *namespace, size_t *ret_length)
{
        size_t length = strnlen(namespace, STORE_NAMESPACE_BYTES);
        if (length == 0 || length >= STORE_NAMESPACE_BYTES || namespace[0] == '-' || namespace[length - 1] == '-')
                return false;
        for (size_t i = 0; i < length; i++)
                if (!((namespace[i] >= 'a' && namespace[i] <= 'z') || (namespace[i] >= '0' && namespace[i] <= '9') || namespace[i] == '-'))
                        return false;
        *ret_length = length;
        return true;
}

bool handout_format_name(const char *namespace, const struct digest *module, char ret_name[HANDOUT_NAME_BYTES])
{
        size_t length = 0;
        if (!namespace_valid(namespace, &length))
                return false;
        memcpy(ret_name, namespace, length);
        ret_name[length] = '/';
        hex_format(module->bytes, DIGEST_SHA256_BYTES, ret_name + length + 1);
        memcpy(ret_name + length + 1 + 64, ".wasm", 6);
        return true;
}

/* Loop or worker: no lock, no allocation, one statx. */
bool store_check_identity(const struct store *store, const struct digest *module, const char *namespace, const struct store_identity *identity)
{
        char name[HANDOUT_NAME_BYTES];
        struct store_identity now;
        if (namespace && !handout_format_name(namespace, module, name))
                return false;
        if (!namespace)
                blob_format_name(module, name);
        return identity_get(namespace ? store->modules_fd : store->blobs_fd, name, &now) && identity_equal(&now, identity);
}

static bool namespace_make(struct store *store, const char *namespace, struct error *err)
{
        if (mkdirat(store->modules_fd, namespace, 0755) == 0) {
                if (fchmodat(store->modules_fd, namespace, 0755, 0) != 0)         /* the umask may have cut it */
                        return store_fail(store, err, errno, "cannot open the folder modules/%s to callers", namespace);
                return true;
        }
        struct stat info;
        if (errno != EEXIST)
                return store_fail(store, err, errno, "cannot make the folder modules/%s", namespace);
        if (fstatat(store->modules_fd, namespace, &info, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(info.st_mode))
                return refuse(err, ERROR_INTERNAL, "store %s: modules/%s is no folder; remove it", store->root, namespace);
        return true;
}

/* Over whatever is there, in one step: a path that was handed out is never absent in between. */
static bool link_replace(struct store *store, const char *blob, const char *name, struct error *err)
{
        uint64_t number = 0;
        random_bytes(&number, sizeof number);
        char temp[32];
        snprintf(temp, sizeof temp, "link-%016llx", (unsigned long long)number);
        if (linkat(store->blobs_fd, blob, store->tmp_fd, temp, 0) != 0)
                return store_fail(store, err, errno, "cannot link modules/%s", name);
        if (renameat(store->tmp_fd, temp, store->modules_fd, name) == 0)
                return true;
        int failure = errno;
        unlinkat(store->tmp_fd, temp, 0);
        return store_fail(store, err, failure, "cannot link modules/%s", name);
}

static bool link_refuse(struct store *store, const char *namespace, const char *name, int failure, struct error *err)
{
        struct stat info;
        if (failure == EACCES && fstatat(store->modules_fd, namespace, &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_uid != geteuid())
                return refuse(err, ERROR_INTERNAL, "store %s: modules/%s belongs to uid %u (made by a kubelet for a subPath?) and we, uid %u, cannot write there: "
                              "give modules/ our group and mode 2775, remove that folder and restart its pods", store->root, namespace, info.st_uid, geteuid());
        return store_fail(store, err, failure, "cannot link modules/%s", name);
}

bool handout_place(struct store *store, const char *namespace, const struct digest *module, struct error *err)
{
        char name[HANDOUT_NAME_BYTES], blob[BLOB_NAME_BYTES];
        if (!handout_format_name(namespace, module, name))
                return refuse(err, ERROR_BAD_REQUEST, "the namespace is no DNS label");
        blob_format_name(module, blob);

        struct store_identity ours, theirs;
        for (int i = 0; i < 2; i++) {
                if (fault_hit("store.link"))
                        return store_fail(store, err, ENOSPC, "cannot link modules/%s", name);
                if (linkat(store->blobs_fd, blob, store->modules_fd, name, 0) == 0)
                        return true;
                if (errno == ENOENT && i == 0 && namespace_make(store, namespace, err))
                        continue;
                break;
        }
        if (errno != EEXIST)
                return err->code != ERROR_NONE ? false : link_refuse(store, namespace, name, errno, err);
        if (identity_get(store->blobs_fd, blob, &ours) && identity_get(store->modules_fd, name, &theirs) && ours.inode == theirs.inode && ours.device == theirs.device)
                return true;
        return link_replace(store, blob, name, err);
}

bool handout_refresh(struct store *store, const struct digest *module, struct error *err)
{
        char blob[BLOB_NAME_BYTES];
        blob_format_name(module, blob);
        struct store_identity ours = { 0 }, theirs;
        bool is_there = identity_get(store->blobs_fd, blob, &ours), is_good = true;

        int fd = openat(store->modules_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
        if (!folder) {
                cleanup_close(&fd);
                return store_fail(store, err, errno, "cannot read modules/");
        }
        for (struct dirent *entry; is_good && (entry = readdir(folder)) != NULL;) {
                char name[HANDOUT_NAME_BYTES];
                if (!handout_format_name(entry->d_name, module, name))
                        continue;
                if (!identity_get(store->modules_fd, name, &theirs) && errno != EINVAL)
                        continue;
                if (is_there && theirs.inode == ours.inode && theirs.device == ours.device)
                        continue;
                if (is_there)
                        is_good = link_replace(store, blob, name, err);
                else if (unlinkat(store->modules_fd, name, 0) != 0 && errno != ENOENT)
                        is_good = store_fail(store, err, errno, "cannot remove modules/%s", name);
        }
        closedir(folder);
        return is_good;
}

/* A blob's ctime after a link or unlink of ours, which is not in its row yet. */
struct moved { bool is_new; int64_t from_ns; struct store_identity now; };

/* All else must be as it was. */
static bool identity_look(struct store *store, const struct digest *module, const struct store_identity *before, struct moved *ret_moved, struct error *err)
{
        char blob[BLOB_NAME_BYTES];
        blob_format_name(module, blob);
        struct store_identity now;
        if (!identity_get(store->blobs_fd, blob, &now))
                return store_fail(store, err, errno, "cannot stat the module %s", blob + 3);
        if (!identity_same_bytes(&now, before))
                return blob_settle(store, module, &ret_moved->now, err);
        *ret_moved = (struct moved){ !identity_equal(&now, before), before->ctime_ns, now };
        return true;
}

/* Under names_lock, both. */
static bool link_make(struct store *store, const struct store_handout *handout, struct moved *ret_moved, struct error *err)
{
        char name[HANDOUT_NAME_BYTES];
        struct store_identity before, there;
        handout_format_name(handout->namespace, &handout->module, name);
        if (!blob_settle(store, &handout->module, &before, err))
                return false;
        if (identity_get(store->modules_fd, name, &there) && there.inode == before.inode && there.device == before.device) {
                ret_moved->now = before;
                return true;
        }
        return store_refuse_read_only(store, err) && handout_place(store, handout->namespace, &handout->module, err) &&
               identity_look(store, &handout->module, &before, ret_moved, err);
}

static bool link_end(struct store *store, const struct store_handout *handout, struct moved *ret_moved, struct error *err)
{
        char name[HANDOUT_NAME_BYTES], blob[BLOB_NAME_BYTES];
        struct store_module row = { 0 };
        struct store_identity before;
        bool is_there = false;
        handout_format_name(handout->namespace, &handout->module, name);
        blob_format_name(&handout->module, blob);
        if (!store_refuse_read_only(store, err) || !row_get_module(store, &handout->module, &row, &is_there, err))
                return false;
        /* A file that is not as we left it stays suspect: its row is not made to fit. */
        bool is_ours = is_there && identity_get(store->blobs_fd, blob, &before) && identity_equal(&before, &row.identity);
        if (unlinkat(store->modules_fd, name, 0) != 0 && errno != ENOENT)
                return store_fail(store, err, errno, "cannot remove modules/%s", name);
        ret_moved->now = row.identity;
        return !is_ours || identity_look(store, &handout->module, &before, ret_moved, err);
}

static bool handout_change(struct store *store, const struct store_handout *handout, struct moved *ret_moved, struct error *err)
{
        char name[HANDOUT_NAME_BYTES];
        *ret_moved = (struct moved){ 0 };
        if (!handout_format_name(handout->namespace, &handout->module, name))
                return refuse(err, ERROR_BAD_REQUEST, "the namespace is no DNS label");
        return (handout->is_ending ? link_end : link_make)(store, handout, ret_moved, err);
}

/* ---- one, its row before anybody else touches the file */

static bool change_and_save(struct store *store, const struct store_handout *handout, struct store_identity *ret_identity, struct error *err)
{
        struct moved moved;
        names_lock(store, &handout->module);
        bool is_good = handout_change(store, handout, &moved, err) && (!moved.is_new || row_save_identity(store, &handout->module, &moved.now, err));
        names_unlock(store, &handout->module);
        if (is_good)
                *ret_identity = moved.now;
        return is_good;
}

bool store_link(struct store *store, const struct digest *module, const char *namespace, struct store_identity *ret_identity, struct error *err)
{
        return change_and_save(store, &(struct store_handout){ .module = *module, .namespace = namespace }, ret_identity, err);
}

bool store_unlink(struct store *store, const struct digest *module, const char *namespace, struct store_identity *ret_identity, struct error *err)
{
        return change_and_save(store, &(struct store_handout){ .module = *module, .namespace = namespace, .is_ending = true }, ret_identity, err);
}

/* ---- many, all rows in one transaction */

/* A row that is not as it was before any more has been brought further by somebody who looked later. */
static bool handout_save(struct store *store, const struct store_handout *handout, const struct moved *moved, struct error *err)
{
        if (moved->is_new && !index_write(store, STATEMENT_MODULE_FOLLOW, err, "dii", &handout->module, moved->from_ns, moved->now.ctime_ns))
                return false;
        return !handout->lease || row_save_lease(store, handout->lease, err);
}

static bool handouts_save(struct store *store, const struct store_handout *handouts, const struct moved *moved, size_t count, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = index_meta_put(store, "alive_s", clock_get_wall_s(), err);
        for (size_t i = 0; is_good && i < count; i++)
                if (handouts[i].is_done)
                        is_good = handout_save(store, &handouts[i], &moved[i], err);
        return index_end(store, is_good, err);
}

void store_save_handouts(struct store *store, struct store_handout *handouts, size_t count)
{
        CLEANUP(cleanup_free) struct moved *moved = memory_new(count + 1, sizeof *moved);
        struct error err = { 0 };
        size_t rows = 0;
        for (size_t i = 0; i < count; i++) {
                struct store_handout *handout = &handouts[i];
                names_lock(store, &handout->module);
                handout->is_done = handout_change(store, handout, &moved[i], &handout->err);
                names_unlock(store, &handout->module);
                if (handout->is_done)
                        handout->identity = moved[i].now;
                rows += handout->is_done && (moved[i].is_new || handout->lease);
        }
        if (rows == 0 || handouts_save(store, handouts, moved, count, &err))
                return;
        for (size_t i = 0; i < count; i++)
                if (handouts[i].is_done && (moved[i].is_new || handouts[i].lease)) {
                        handouts[i].is_done = false;
                        handouts[i].err = err;
                }
}
