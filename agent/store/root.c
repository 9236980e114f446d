/*
 * How it goes: the root is made or opened, locked, and its folders are made with the modes that keep tenants apart: only modules/ may be entered by others.
 * How it fails: a root that somebody else could change (symlink, foreign owner, writable by all), another daemon on it, folders on several file systems: refused by name.
 *               A read-only file system is no failure; what is missing then stays missing.
 * How it ends: root_close() closes the descriptors; the lock goes with its descriptor, also when the process is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

static bool root_check(const char *root, int fd, struct error *err)
{
        struct stat info;
        if (fstat(fd, &info) != 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "store.root %s", root);
        if (info.st_uid != geteuid() && info.st_uid != 0)
                return refuse(err, ERROR_INTERNAL, "store.root %s belongs to uid %u, the daemon runs as %u; give it to the daemon's user", root, info.st_uid, geteuid());
        if (info.st_mode & S_IWOTH)
                return refuse(err, ERROR_INTERNAL, "store.root %s is writable by everyone (mode %04o); others could have put files there: use a folder of its own",
                              root, info.st_mode & 07777);
        if ((info.st_mode & S_IWGRP) && info.st_uid != geteuid())
                return refuse(err, ERROR_INTERNAL, "store.root %s is writable by its group (mode %04o); chmod g-w", root, info.st_mode & 07777);

        mode_t mode = ((info.st_mode & 07777) | 0711) & ~(mode_t)0022;     /* callers must be able to walk through to modules/ */
        if (mode != (info.st_mode & 07777) && fchmod(fd, mode) != 0 && errno != EROFS)
                return refuse_errno(err, ERROR_INTERNAL, errno, "store.root %s: chmod %04o", root, mode);
        return true;
}

static bool root_enter(struct store *store, const char *path, struct error *err)
{
        size_t length = strlen(path);
        while (length > 1 && path[length - 1] == '/')
                length--;
        if (length == 0 || path[0] != '/')
                return refuse(err, ERROR_INTERNAL, "store.root \"%.200s\" is no absolute path", path);
        store->root = string_copy_bytes(path, length);

        struct stat info;
        if (lstat(store->root, &info) != 0 && errno == ENOENT && !fs_make_folders(store->root, 0755, err))
                return refuse_within(err, "store.root");
        store->root_fd = open(store->root, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (store->root_fd < 0 && (errno == ELOOP || errno == ENOTDIR))
                return refuse(err, ERROR_INTERNAL, "store.root %s is a symlink or no folder; name the folder itself", store->root);
        if (store->root_fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "store.root %s", store->root);
        return root_check(store->root, store->root_fd, err);
}

static bool lock_refuse(struct store *store, struct error *err)
{
        char text[32] = "";
        if (pread(store->lock_fd, text, sizeof text - 1, 0) <= 0 || text[0] < '1' || text[0] > '9')
                return refuse(err, ERROR_BUSY, "store %s is in use by another wasmcached", store->root);
        text[strspn(text, "0123456789")] = '\0';
        return refuse(err, ERROR_BUSY, "store %s is in use by another wasmcached, pid %s", store->root, text);
}

/* An open-file-description lock: unlike POSIX record locks it does not vanish when another descriptor of the file is closed. */
static bool root_lock(struct store *store, struct error *err)
{
        errno = EROFS;
        store->lock_fd = fault_hit("store.read_only") ? -1 : openat(store->root_fd, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (store->lock_fd < 0 && errno == EROFS) {
                store->is_read_only = true;
                store_set_health(store, STORE_READ_ONLY);
                store->lock_fd = openat(store->root_fd, "lock", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
                if (store->lock_fd < 0 && errno == ENOENT)
                        return true;
        }
        if (store->lock_fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "store.root %s: cannot open the lock file", store->root);

        struct flock lock = { .l_type = store->is_read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };
        if (fcntl(store->lock_fd, F_OFD_SETLK, &lock) != 0)
                return errno == EAGAIN || errno == EACCES ? lock_refuse(store, err) : refuse_errno(err, ERROR_INTERNAL, errno, "store.root %s: cannot lock", store->root);
        if (store->is_read_only)
                return true;
        (void)fchmod(store->lock_fd, 0600);       /* whoever can read it could lock it, and keep us from starting */

        char text[32];
        int length = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        if (ftruncate(store->lock_fd, 0) != 0 || pwrite(store->lock_fd, text, (size_t)length, 0) != length)
                return true;                      /* only the pid in the other daemon's message is lost */
        return true;
}

/* An operator may let our own group write in modules/, with the group handed down: a kubelet that mounts modules/<namespace> (subPath) before we made it makes it so, as root. */
static bool mode_is_right(const struct stat *info, mode_t mode)
{
        return (info->st_mode & 07777) == mode || (mode == 0755 && (info->st_mode & 07777) == 02775 && info->st_gid == getegid());
}

static bool folder_open(struct store *store, const char *name, mode_t mode, int *ret_fd, struct error *err)
{
        if (mkdirat(store->root_fd, name, mode) != 0 && errno != EEXIST)
                return store_fail(store, err, errno, "cannot make the folder %s", name);
        int fd = openat(store->root_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return store_fail(store, err, errno, "cannot open %s as a folder", name);
        *ret_fd = fd;

        struct stat info, root;
        if (fstat(fd, &info) != 0 || fstat(store->root_fd, &root) != 0)
                return store_fail(store, err, errno, "cannot stat %s", name);
        if (info.st_dev != root.st_dev)
                return refuse(err, ERROR_INTERNAL, "store %s: %s is on another file system; hard links need one", store->root, name);
        if (!mode_is_right(&info, mode) && fchmod(fd, mode) != 0 && errno != EROFS)
                return store_fail(store, err, errno, "cannot give %s the mode %04o", name, mode);
        return true;
}

bool root_open(struct store *store, const char *path, struct error *err)
{
        if (!root_enter(store, path, err) || !root_lock(store, err))
                return false;

        const struct { const char *name; mode_t mode; int *fd; } folders[] = {
                { "blobs", 0700, &store->blobs_fd }, { "tmp", 0700, &store->tmp_fd }, { "quarantine", 0700, &store->quarantine_fd }, { "modules", 0755, &store->modules_fd },
        };
        for (size_t i = 0; i < COUNT_OF(folders); i++)
                if (!folder_open(store, folders[i].name, folders[i].mode, folders[i].fd, err))
                        return false;
        return store->is_read_only || fs_sync_folder(store->root_fd, err);
}

void root_close(struct store *store)
{
        int *const fds[] = { &store->blobs_fd, &store->tmp_fd, &store->quarantine_fd, &store->modules_fd, &store->root_fd, &store->lock_fd };
        for (size_t i = 0; i < COUNT_OF(fds); i++) {
                cleanup_close(fds[i]);
                *fds[i] = -1;
        }
        free(TAKE(store->root));
}
