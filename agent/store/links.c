/*
 * How it goes: what modules/ should hold follows from the leases; links that no lease holds are removed, missing ones made. Every blob touched is looked at before the first touch
 *              and gets its new ctime into its row after the last one.
 * How it fails: a lease on a damaged module loses it with the module; a folder that cannot be read ends the recovery, as a path that should be gone might stay.
 * How it ends: inside the transaction of the recovery.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

/* A link that should be; a blob whose links we change. */
struct wish { char namespace[STORE_NAMESPACE_BYTES]; struct digest module; bool is_there; };
struct touched { struct digest module; bool is_good; };
struct rebuild { struct store *store; struct store_report *report; struct map *wishes, *touched; };

static bool wishes_load(struct rebuild *rebuild, struct error *err)
{
        sqlite3_stmt *row = index_start(rebuild->store, STATEMENT_LOAD_LEASES, err, "");
        if (!row)
                return false;
        int more;
        while ((more = index_step(rebuild->store, row, err)) == 1) {
                struct wish *wish = memory_new(1, sizeof *wish);
                char name[HANDOUT_NAME_BYTES];
                snprintf(wish->namespace, sizeof wish->namespace, "%s", column_text(row, 1));
                if (column_digest(row, 2, &wish->module) && handout_format_name(wish->namespace, &wish->module, name))
                        map_put_text(rebuild->wishes, name, wish);
                else
                        free(wish);
        }
        index_stop(row);
        return more == 0;
}

/* Before the first change of its links. False: err; a damaged or unknown module is no error, only not good. */
static bool touch(struct rebuild *rebuild, const struct digest *module, bool *ret_is_good, struct error *err)
{
        struct touched *touched = map_get(rebuild->touched, module->bytes, DIGEST_SHA256_BYTES);
        if (!touched) {
                struct error why = { 0 };
                struct store_identity identity;
                touched = memory_new(1, sizeof *touched);
                touched->module = *module;
                touched->is_good = blob_settle(rebuild->store, module, &identity, &why);
                map_put(rebuild->touched, module->bytes, DIGEST_SHA256_BYTES, touched);
                if (!touched->is_good && why.code == ERROR_CHECKSUM_MISMATCH)
                        rebuild->report->quarantined++;
                else if (!touched->is_good && why.code != ERROR_NOT_FOUND) {
                        *err = why;
                        return false;
                }
        }
        *ret_is_good = touched->is_good;
        return true;
}

static bool link_remove(struct rebuild *rebuild, int folder_fd, const char *name, struct error *err)
{
        char hex[65] = "";
        struct digest module;
        bool is_good = false;
        if (strlen(name) == 64 + 5)
                memcpy(hex, name, 64);
        if (digest_parse_hex(hex, &module) && !touch(rebuild, &module, &is_good, err))
                return false;
        if (unlinkat(folder_fd, name, 0) == 0 || errno == ENOENT)
                return true;
        int failure = errno;
        if (failure == EISDIR || failure == EPERM)
                return fs_remove_tree(folder_fd, name, err);
        return store_fail(rebuild->store, err, failure, "cannot remove a link that no lease holds");
}

/* A folder that a kubelet made for a subPath is root's: as long as others may only read and walk it, it is left as it is; whether we can write there shows when we have to. */
static bool folder_let_in(struct rebuild *rebuild, const char *namespace, int fd, bool *ret_is_writable, struct error *err)
{
        struct stat info;
        *ret_is_writable = true;
        if (fchmod(fd, 0755) == 0)
                return true;
        int failure = errno;
        if (failure != EPERM || fstat(fd, &info) != 0 || info.st_uid != 0 || (info.st_mode & 0557) != 0555)
                return store_fail(rebuild->store, err, failure, "cannot open modules/%s to callers", namespace);
        *ret_is_writable = faccessat(rebuild->store->modules_fd, namespace, W_OK | X_OK, AT_EACCESS) == 0;
        if (!*ret_is_writable)
                LOG_WARN("folder_not_writable", LOG_TEXT("folder", namespace),
                         LOG_TEXT("detail", "modules/ of this namespace belongs to root: see \"Running as a DaemonSet\" in the README"));
        return true;
}

static bool folder_check(struct rebuild *rebuild, const char *namespace, struct error *err)
{
        int fd = openat(rebuild->store->modules_fd, namespace, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
        if (!folder) {
                int failure = errno;
                cleanup_close(&fd);
                if (failure == ENOTDIR || failure == ELOOP)
                        return blob_quarantine(rebuild->store, rebuild->store->modules_fd, namespace, err);
                return store_fail(rebuild->store, err, failure, "cannot read modules/%s", namespace);
        }

        bool is_writable = false;
        bool is_good = folder_let_in(rebuild, namespace, fd, &is_writable, err);
        for (struct dirent *entry; is_good && is_writable && (entry = readdir(folder)) != NULL;) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                CLEANUP(cleanup_free) char *name = string_format("%s/%s", namespace, entry->d_name);
                struct wish *wish = map_get_text(rebuild->wishes, name);
                char blob[BLOB_NAME_BYTES];
                struct store_identity ours, theirs;
                if (wish)
                        blob_format_name(&wish->module, blob);
                if (wish && identity_get(rebuild->store->blobs_fd, blob, &ours) && identity_get(fd, entry->d_name, &theirs) &&
                    ours.inode == theirs.inode && ours.device == theirs.device)
                        wish->is_there = true;
                else
                        is_good = link_remove(rebuild, fd, entry->d_name, err);
        }
        closedir(folder);
        return is_good;
}

static bool folders_check(struct rebuild *rebuild, struct error *err)
{
        int fd = openat(rebuild->store->modules_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
        if (!folder) {
                cleanup_close(&fd);
                return store_fail(rebuild->store, err, errno, "cannot read modules/");
        }
        bool is_good = true;
        for (struct dirent *entry; is_good && (entry = readdir(folder)) != NULL;)
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        is_good = folder_check(rebuild, entry->d_name, err);
        closedir(folder);
        return is_good;
}

static bool wishes_grant(struct rebuild *rebuild, struct error *err)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(rebuild->wishes, &position, &key, &key_bytes, &value)) {
                struct wish *wish = value;
                bool is_good = false;
                if (wish->is_there)
                        continue;
                if (!touch(rebuild, &wish->module, &is_good, err) || (is_good && !handout_place(rebuild->store, wish->namespace, &wish->module, err)))
                        return false;
        }
        return true;
}

static bool touched_save(struct rebuild *rebuild, struct error *err)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(rebuild->touched, &position, &key, &key_bytes, &value)) {
                const struct touched *touched = value;
                char blob[BLOB_NAME_BYTES];
                struct store_identity now;
                blob_format_name(&touched->module, blob);
                if (touched->is_good && identity_get(rebuild->store->blobs_fd, blob, &now) && !row_save_identity(rebuild->store, &touched->module, &now, err))
                        return false;
        }
        return true;
}

bool links_rebuild(struct store *store, struct store_report *report, struct error *err)
{
        CLEANUP(map_free) struct map *wishes = map_new(free);
        CLEANUP(map_free) struct map *touched = map_new(free);
        struct rebuild rebuild = { store, report, wishes, touched };
        return wishes_load(&rebuild, err) && folders_check(&rebuild, err) && wishes_grant(&rebuild, err) && touched_save(&rebuild, err);
}
