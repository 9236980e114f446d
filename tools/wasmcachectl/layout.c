/*
 * How it goes: reading: a file of a folder, or a pass over the archive to the entry of that name (an archive is read as often as it has files that matter: three or four).
 *              Writing: beside the target under a temporary name, then renamed.
 * How it fails: a name outside the layout, another kind of file, more bytes than allowed; the target is never half there.
 * How it ends: layout_close(); layout_discard() removes what was not committed.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "ctl.h"

enum { ARCHIVE_BLOCK_BYTES = 64 << 10, ARCHIVE_ENTRIES_MAX = 100000, PIECE_BYTES = 64 << 10 };

struct layout { char *path; int folder; };        /* folder: -1 = archive */

bool layout_open(const char *path, struct layout **ret_layout, struct error *err)
{
        struct stat info;
        if (stat(path, &info) != 0)
                return refuse_errno(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_BAD_REQUEST, errno, "%s", path);
        if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "%s is neither a folder nor a file", path);

        int folder = -1;
        if (S_ISDIR(info.st_mode) && (folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "%s", path);
        struct layout *layout = memory_new(1, sizeof *layout);
        *layout = (struct layout){ string_copy(path), folder };
        *ret_layout = layout;
        return true;
}

void layout_close(struct layout **layout)
{
        struct layout *ended = TAKE(*layout);
        if (!ended)
                return;
        if (ended->folder >= 0)
                close(ended->folder);
        free(ended->path);
        free(ended);
}

static bool piece_put(struct layout *layout, const char *name, const void *bytes, size_t size_bytes, uint64_t *left_bytes, struct sink *sink, struct error *err)
{
        if (size_bytes > *left_bytes)
                return refuse(err, ERROR_TOO_LARGE, "%s: %s is longer than it may be", layout->path, name);
        *left_bytes -= size_bytes;
        return sink->write(sink, bytes, size_bytes, err);
}

static bool folder_read(struct layout *layout, const char *name, uint64_t limit_bytes, struct sink *sink, struct error *err)
{
        CLEANUP(cleanup_close) int fd = fs_open_beneath(layout->folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        struct stat info;
        char piece[PIECE_BYTES];

        if (fd < 0)
                return refuse_errno(err, errno == ENOENT ? ERROR_NOT_FOUND : ERROR_BAD_REQUEST, errno, "%s/%s", layout->path, name);
        if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "%s/%s is no regular file", layout->path, name);
        for (;;) {
                ssize_t got = read(fd, piece, sizeof piece);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return refuse_errno(err, ERROR_BAD_REQUEST, errno, "%s/%s", layout->path, name);
                if (got == 0)
                        return true;
                if (!piece_put(layout, name, piece, (size_t)got, &limit_bytes, sink, err))
                        return false;
        }
}

static void archive_end(struct archive **archive)
{
        if (*archive)
                archive_read_free(TAKE(*archive));
}

static bool archive_refuse(struct layout *layout, struct archive *archive, struct error *err)
{
        const char *text = archive_error_string(archive);
        char shown[256];
        return refuse(err, ERROR_BAD_REQUEST, "%s: reading the archive: %s", layout->path, text ? string_printable(text, strlen(text), shown, sizeof shown) : "it is damaged");
}

static bool entry_read(struct layout *layout, struct archive *archive, const char *name, uint64_t limit_bytes, struct sink *sink, struct error *err)
{
        char piece[PIECE_BYTES];
        for (;;) {
                la_ssize_t got = archive_read_data(archive, piece, sizeof piece);
                if (got == ARCHIVE_RETRY)
                        continue;
                if (got < 0)
                        return archive_refuse(layout, archive, err);
                if (got == 0)
                        return true;
                if (!piece_put(layout, name, piece, (size_t)got, &limit_bytes, sink, err))
                        return false;
        }
}

static bool archive_read_name(struct layout *layout, const char *name, uint64_t limit_bytes, struct sink *sink, struct error *err)
{
        CLEANUP(archive_end) struct archive *archive = archive_read_new();
        struct archive_entry *entry;

        if (!archive || archive_read_support_format_tar(archive) != ARCHIVE_OK || archive_read_open_filename(archive, layout->path, ARCHIVE_BLOCK_BYTES) != ARCHIVE_OK)
                return archive_refuse(layout, archive, err);
        for (unsigned entries = 0; entries < ARCHIVE_ENTRIES_MAX; entries++) {
                int result = archive_read_next_header(archive, &entry);
                if (result == ARCHIVE_EOF)
                        return refuse(err, ERROR_NOT_FOUND, "%s: there is no %s in the archive", layout->path, name);
                if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
                        return archive_refuse(layout, archive, err);

                const char *found = archive_entry_pathname(entry);
                while (found && (string_starts_with(found, "./") || found[0] == '/'))
                        found += found[0] == '/' ? 1 : 2;
                if (!string_equal(found, name))
                        continue;
                if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry))
                        return refuse(err, ERROR_BAD_REQUEST, "%s: %s is no regular file", layout->path, name);
                return entry_read(layout, archive, name, limit_bytes, sink, err);
        }
        return refuse(err, ERROR_TOO_LARGE, "%s: more than %d entries", layout->path, ARCHIVE_ENTRIES_MAX);
}

bool layout_read(struct layout *layout, const char *name, uint64_t limit_bytes, struct sink *sink, struct error *err)
{
        return layout->folder >= 0 ? folder_read(layout, name, limit_bytes, sink, err) : archive_read_name(layout, name, limit_bytes, sink, err);
}

/* ---- writing ---- */
struct layout_writer { char *path, *temporary; struct archive *archive; int folder, file; bool is_committed; };

static bool writer_open_folder(struct layout_writer *writer, struct error *err)
{
        if (!mkdtemp(writer->temporary))
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a folder beside %s", writer->path);
        writer->folder = open(writer->temporary, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (writer->folder < 0 || fchmod(writer->folder, 0755) != 0 || mkdirat(writer->folder, "blobs", 0755) != 0 || mkdirat(writer->folder, "blobs/sha256", 0755) != 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making the folders of %s", writer->path);
        return true;
}

static bool writer_open_archive(struct layout_writer *writer, struct error *err)
{
        int fd = mkostemp(writer->temporary, O_CLOEXEC);
        if (fd < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "making a file beside %s", writer->path);
        writer->file = fd;
        writer->archive = archive_write_new();
        if (!writer->archive || archive_write_set_format_ustar(writer->archive) != ARCHIVE_OK || archive_write_open_fd(writer->archive, fd) != ARCHIVE_OK)
                return refuse(err, ERROR_INTERNAL, "%s: no archive can be written", writer->path);
        return true;
}

bool layout_create(const char *path, struct layout_writer **ret_writer, struct error *err)
{
        struct stat info;
        if (lstat(path, &info) == 0)
                return refuse(err, ERROR_BAD_REQUEST, "%s is already there", path);

        CLEANUP(layout_discard) struct layout_writer *writer = memory_new(1, sizeof *writer);
        *writer = (struct layout_writer){ .path = string_copy(path), .folder = -1, .file = -1 };
        for (size_t length = strlen(writer->path); length > 1 && writer->path[length - 1] == '/'; length--)
                writer->path[length - 1] = '\0';
        writer->temporary = string_format("%s.partial-XXXXXX", writer->path);
        if (!(string_ends_with(writer->path, ".tar") ? writer_open_archive(writer, err) : writer_open_folder(writer, err)))
                return false;
        *ret_writer = TAKE(writer);
        return true;
}

/* No time, owner or mode of this machine: the same module gives the same archive. */
static bool entry_start(struct layout_writer *writer, const char *name, uint64_t size_bytes, struct error *err)
{
        struct archive_entry *entry = archive_entry_new();
        if (!entry)
                return refuse(err, ERROR_INTERNAL, "out of memory");

        archive_entry_set_pathname(entry, name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)size_bytes);
        archive_entry_set_mtime(entry, 0, 0);
        int result = archive_write_header(writer->archive, entry);
        archive_entry_free(entry);
        return result == ARCHIVE_OK || refuse_errno(err, ERROR_INTERNAL, archive_errno(writer->archive), "writing %s", writer->path);
}

bool layout_put_start(struct layout_writer *writer, const char *name, uint64_t size_bytes, struct error *err)
{
        if (writer->archive)
                return entry_start(writer, name, size_bytes, err);
        if (writer->file >= 0)
                close(writer->file);
        writer->file = openat(writer->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        return writer->file >= 0 || refuse_errno(err, ERROR_INTERNAL, errno, "writing %s/%s", writer->path, name);
}

bool layout_put_bytes(struct layout_writer *writer, const void *bytes, size_t size_bytes, struct error *err)
{
        if (writer->archive) {
                if (archive_write_data(writer->archive, bytes, size_bytes) != (la_ssize_t)size_bytes)
                        return refuse_errno(err, ERROR_INTERNAL, archive_errno(writer->archive), "writing %s", writer->path);
                return true;
        }
        return fs_write_all(writer->file, bytes, size_bytes) || refuse_errno(err, ERROR_INTERNAL, errno, "writing %s", writer->path);
}

bool layout_commit(struct layout_writer *writer, struct error *err)
{
        if (writer->archive && archive_write_close(writer->archive) != ARCHIVE_OK)
                return refuse_errno(err, ERROR_INTERNAL, archive_errno(writer->archive), "writing %s", writer->path);
        if (writer->file >= 0 && (fsync(writer->file) != 0 || (writer->archive && fchmod(writer->file, 0644) != 0)))
                return refuse_errno(err, ERROR_INTERNAL, errno, "writing %s", writer->path);
        if (renameat2(AT_FDCWD, writer->temporary, AT_FDCWD, writer->path, RENAME_NOREPLACE) != 0 && (errno != EINVAL || rename(writer->temporary, writer->path) != 0))
                return refuse_errno(err, ERROR_INTERNAL, errno, "renaming what was written to %s", writer->path);
        writer->is_committed = true;
        return true;
}

void layout_discard(struct layout_writer **writer)
{
        struct layout_writer *ended = TAKE(*writer);
        struct error ignored = { 0 };
        if (!ended)
                return;

        if (ended->archive)
                archive_write_free(ended->archive);
        if (ended->file >= 0)
                close(ended->file);
        if (!ended->is_committed && ended->folder >= 0)
                fs_remove_tree(AT_FDCWD, ended->temporary, &ignored);
        else if (!ended->is_committed && ended->temporary)
                unlink(ended->temporary);
        if (ended->folder >= 0)
                close(ended->folder);
        free(ended->path);
        free(ended->temporary);
        free(ended);
}
