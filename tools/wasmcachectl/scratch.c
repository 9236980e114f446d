/*
 * How it goes: a folder beside the socket: the daemon reaches that place whatever its sandbox hides from it. As root, folder and files are given to the owner of that place,
 *              the daemon's user.
 * How it fails: a user who may not write there is told whose rights it needs.
 * How it ends: scratch_remove() takes the folder away with all that is in it.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"

enum { PIECE_BYTES = 64 << 10 };

bool scratch_make(const struct ctl *ctl, struct scratch *ret_scratch, struct error *err)
{
        CLEANUP(cleanup_free) char *copy = string_copy(ctl->socket_path);
        CLEANUP(cleanup_free) char *absolute = realpath(dirname(copy), NULL);
        struct stat info;

        if (!absolute || stat(absolute, &info) != 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "the folder of %s", ctl->socket_path);
        CLEANUP(cleanup_free) char *folder = string_format("%s/import-XXXXXX", absolute);
        if (!mkdtemp(folder))
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a folder in %s (%s needs the rights of the daemon's user, or root)", absolute, ctl->command->name);
        if (geteuid() == 0 && chown(folder, info.st_uid, info.st_gid) != 0) {
                refuse_errno(err, ERROR_INTERNAL, errno, "%s", folder);
                rmdir(folder);
                return false;
        }
        *ret_scratch = (struct scratch){ TAKE(folder), info.st_uid, info.st_gid };
        return true;
}

bool scratch_save(const struct scratch *scratch, const char *name, int fd, struct error *err)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/%s", scratch->folder, name);
        CLEANUP(cleanup_close) int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
        char piece[PIECE_BYTES];

        if (out < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "%s", path);
        for (;;) {
                ssize_t got = read(fd, piece, sizeof piece);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0 || (got > 0 && !fs_write_all(out, piece, (size_t)got)))
                        return refuse_errno(err, ERROR_INTERNAL, errno, "%s", path);
                if (got == 0)
                        break;
        }
        return geteuid() != 0 || fchown(out, scratch->uid, scratch->gid) == 0 || refuse_errno(err, ERROR_INTERNAL, errno, "%s", path);
}

void scratch_remove(struct scratch *scratch)
{
        struct error ignored = { 0 };

        if (scratch->folder)
                fs_remove_tree(AT_FDCWD, scratch->folder, &ignored);
        free(TAKE(scratch->folder));
}
