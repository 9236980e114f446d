/*
 * How it goes: plain system calls with the loops that they need.
 * How it fails: errno is in the error, with the path; a failed fsync is never tried again.
 * How it ends: what was opened here is closed here, but for fs_open_beneath.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <wasmcached/base/digest.h>
#include <wasmcached/base/fs.h>
#include <wasmcached/base/memory.h>

enum { BENEATH_TRIES = 100 };

bool fs_load(int dirfd, const char *path, size_t limit_bytes, struct buffer *ret_content, struct error *err)
{
        CLEANUP(cleanup_close) int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        struct stat status;
        char piece[16384];

        if (fd < 0)
                return refuse_errno(err, errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : ERROR_INTERNAL, errno, "cannot open %s", path);
        if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
                return refuse(err, ERROR_INTERNAL, "%s is no regular file", path);
        for (;;) {
                ssize_t got = read(fd, piece, sizeof piece);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return refuse_errno(err, ERROR_INTERNAL, errno, "cannot read %s", path);
                if (got == 0)
                        break;
                if (content.used + (size_t)got > limit_bytes)
                        return refuse(err, ERROR_TOO_LARGE, "%s is larger than %zu bytes", path, limit_bytes);
                if (!buffer_append(&content, piece, (size_t)got))
                        return refuse(err, ERROR_INTERNAL, "out of memory reading %s", path);
        }
        explicit_bzero(piece, sizeof piece);
        buffer_append(&content, "", 0);
        buffer_fini(ret_content);
        *ret_content = content;
        content = (struct buffer){ 0 };
        return true;
}

static bool folder_of_sync(int dirfd, const char *path, struct error *err)
{
        CLEANUP(cleanup_free) char *folder = string_copy(path);
        char *slash = strrchr(folder, '/');

        if (slash)
                *(slash == folder ? slash + 1 : slash) = '\0';
        CLEANUP(cleanup_close) int fd = openat(dirfd, slash ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot open the folder of %s", path);
        return fs_sync_folder(fd, err);
}

bool fs_save(int dirfd, const char *path, const void *bytes, size_t size_bytes, mode_t mode, struct error *err)
{
        uint32_t number;

        random_bytes(&number, sizeof number);
        CLEANUP(cleanup_free) char *temporary = string_format("%s.%08x.tmp", path, number);
        CLEANUP(cleanup_close) int fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);

        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot make %s", temporary);
        if (!fs_write_all(fd, bytes, size_bytes) || fsync(fd) < 0 || renameat(dirfd, temporary, dirfd, path) < 0) {
                refuse_errno(err, ERROR_INTERNAL, errno, "cannot write %s", path);
                unlinkat(dirfd, temporary, 0);
                return false;
        }
        return folder_of_sync(dirfd, path, err);
}

bool fs_make_folders(const char *path, mode_t mode, struct error *err)
{
        CLEANUP(cleanup_free) char *part = string_copy(path);

        for (char *slash = strchr(part + (*part != '\0'), '/');; slash = strchr(slash + 1, '/')) {
                if (slash)
                        *slash = '\0';
                if (mkdir(part, mode) < 0) {
                        struct stat status;
                        int number = errno;

                        /* Read-only file systems answer EROFS for what exists, and EEXIST may be a file. */
                        if (stat(part, &status) < 0 || !S_ISDIR(status.st_mode))
                                return refuse_errno(err, ERROR_INTERNAL, number == EEXIST ? ENOTDIR : number, "cannot make the folder %s", part);
                }
                if (!slash)
                        return true;
                *slash = '/';
        }
}

bool fs_sync_folder(int dirfd, struct error *err)
{
        if (fsync(dirfd) < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot sync a folder");
        return true;
}

bool fs_write_all(int fd, const void *bytes, size_t size_bytes)
{
        const char *at = bytes;

        while (size_bytes > 0) {
                ssize_t put = write(fd, at, size_bytes);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put < 0)
                        return false;
                at += put;
                size_bytes -= (size_t)put;
        }
        return true;
}

bool fs_pwrite_all(int fd, const void *bytes, size_t size_bytes, off_t offset)
{
        const char *at = bytes;

        while (size_bytes > 0) {
                ssize_t put = pwrite(fd, at, size_bytes, offset);

                if (put < 0 && errno == EINTR)
                        continue;
                if (put < 0)
                        return false;
                at += put;
                offset += put;
                size_bytes -= (size_t)put;
        }
        return true;
}

bool fs_pread_all(int fd, void *ret_bytes, size_t size_bytes, off_t offset)
{
        char *at = ret_bytes;

        while (size_bytes > 0) {
                ssize_t got = pread(fd, at, size_bytes, offset);

                if (got < 0 && errno == EINTR)
                        continue;
                if (got == 0)
                        errno = 0;
                if (got <= 0)
                        return false;
                at += got;
                offset += got;
                size_bytes -= (size_t)got;
        }
        return true;
}

int fs_open_beneath(int rootfd, const char *path, int flags)
{
        struct open_how how = { .flags = (uint64_t)(unsigned)flags | O_CLOEXEC, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };

        /* EAGAIN: something was renamed while ".." was looked at, as the kubelet does with every change of a Secret; openat2(2) says: again. */
        for (int tries = 0;; tries++) {
                int fd = (int)syscall(SYS_openat2, rootfd, path, &how, sizeof how);

                if (fd >= 0 || errno != EAGAIN || tries == BENEATH_TRIES)
                        return fd;
        }
}

static bool folder_empty(int fd, struct error *err)
{
        DIR *folder = fdopendir(fd);
        bool is_good = true;

        if (!folder) {
                refuse_errno(err, ERROR_INTERNAL, errno, "cannot read a folder");
                close(fd);
                return false;
        }
        for (struct dirent *entry = readdir(folder); entry && is_good; entry = readdir(folder))
                if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
                        is_good = fs_remove_tree(dirfd(folder), entry->d_name, err);
        closedir(folder);
        return is_good;
}

bool fs_remove_tree(int dirfd, const char *path, struct error *err)
{
        if (unlinkat(dirfd, path, 0) == 0 || errno == ENOENT)
                return true;
        if (errno != EISDIR && errno != EPERM)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot remove %s", path);

        int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot open the folder %s", path);
        if (!folder_empty(fd, err))
                return false;
        if (unlinkat(dirfd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
                return refuse_errno(err, ERROR_INTERNAL, errno, "cannot remove the folder %s", path);
        return true;
}
