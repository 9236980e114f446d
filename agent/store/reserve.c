/*
 * How it goes: the file `reserve` holds a little room on the disk, so that on a full one the index can still be opened and a module be let go, which is what makes room again.
 * How it fails: no room for the reserve itself is no failure; it is made later.
 * How it ends: it stays when the store is closed: the next start may need it.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { RESERVE_BYTES = 512 * 1024 };

void reserve_make(struct store *store)
{
        struct stat info;
        if (store->is_read_only || (fstatat(store->root_fd, "reserve", &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_size == RESERVE_BYTES))
                return;
        unlinkat(store->root_fd, "reserve", 0);
        CLEANUP(cleanup_close) int fd = openat(store->root_fd, "reserve", O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd >= 0 && fallocate(fd, 0, 0, RESERVE_BYTES) != 0)
                unlinkat(store->root_fd, "reserve", 0);
}

bool reserve_release(struct store *store)
{
        return !store->is_read_only && unlinkat(store->root_fd, "reserve", 0) == 0;
}
