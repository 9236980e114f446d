/* fs: the few things about files that are easy to get wrong. All may block. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/error.h>

/* Whole regular file at `path` (relative to `dirfd`, AT_FDCWD allowed) into `ret_content`; larger than `limit_bytes` = ERROR_TOO_LARGE, absent = ERROR_NOT_FOUND,
   anything else ERROR_INTERNAL. Follows symlinks; never blocks on a FIFO. */
bool fs_load(int dirfd, const char *path, size_t limit_bytes, struct buffer *ret_content, struct error *err);
/* Replaces `path` by `bytes`: temp file beside it, fsync, rename, fsync of the folder. */
bool fs_save(int dirfd, const char *path, const void *bytes, size_t size_bytes, mode_t mode, struct error *err);
/* mkdir -p with `mode` for those made here. */
bool fs_make_folders(const char *path, mode_t mode, struct error *err);
bool fs_sync_folder(int dirfd, struct error *err);
/* All of it, over EINTR and short writes. False with errno set. */
bool fs_write_all(int fd, const void *bytes, size_t size_bytes);
bool fs_pwrite_all(int fd, const void *bytes, size_t size_bytes, off_t offset);
bool fs_pread_all(int fd, void *ret_bytes, size_t size_bytes, off_t offset);    /* false also at end of file (errno 0) */
/* Opens `path` beneath `rootfd`: no step outside by "..", symlink or magic link (openat2(2) RESOLVE_BENEATH). -1 with errno. */
int fs_open_beneath(int rootfd, const char *path, int flags);
/* Removes a folder with all in it; for temporary folders of tests and recovery. */
bool fs_remove_tree(int dirfd, const char *path, struct error *err);
