/*
 * How it goes: libarchive reads plain, gzip or zstd tar; the one regular file called plugin.wasm is copied out, everything is counted against limits on the way.
 * How it fails: none, two, a link of that name, too many entries or bytes; nothing is ever written under a name from the archive.
 * How it ends: out_fd holds the module; after a failure it holds anything, and the caller throws it away.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

enum { ENTRIES_MAX = 10000, PIECE_BYTES = 64 << 10 };
static const uint64_t module_max_bytes = 256u << 20, expanded_max_bytes = 1u << 30;       /* contract 7; what a layer may hold in all */

static bool is_module_name(const char *path)
{
        const char *slash = path ? strrchr(path, '/') : NULL;
        return path && strcmp(slash ? slash + 1 : path, "plugin.wasm") == 0;
}

static bool archive_refuse(struct archive *archive, struct error *err)
{
        const char *text = archive_error_string(archive);
        char shown[256];
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer is no readable tar: %s", text ? string_printable(text, strlen(text), shown, sizeof shown) : "it is damaged");
}

static bool entry_copy(struct archive *archive, int out_fd, struct error *err)
{
        char piece[PIECE_BYTES];
        uint64_t copied = 0;

        for (;;) {
                la_ssize_t got = archive_read_data(archive, piece, sizeof piece);
                if (got == ARCHIVE_RETRY)
                        continue;
                if (got < 0)
                        return archive_refuse(archive, err);
                if (got == 0)
                        return true;
                copied += (uint64_t)got;
                if (copied > module_max_bytes)
                        return refuse(err, ERROR_TOO_LARGE, "plugin.wasm has more than %llu bytes", (unsigned long long)module_max_bytes);
                if (!fs_write_all(out_fd, piece, (size_t)got))
                        return refuse_errno(err, ERROR_INTERNAL, errno, "writing the module to a temporary file");
        }
}

static bool entry_check(struct archive_entry *entry, uint64_t *expanded, struct error *err)
{
        la_int64_t size = archive_entry_size_is_set(entry) ? archive_entry_size(entry) : 0;
        if (size < 0 || (uint64_t)size > expanded_max_bytes - *expanded)
                return refuse(err, ERROR_TOO_LARGE, "the layer holds more than %llu bytes", (unsigned long long)expanded_max_bytes);
        *expanded += (uint64_t)size;
        return true;
}

static bool entries_walk(struct archive *archive, int out_fd, struct error *err)
{
        struct archive_entry *entry;
        uint64_t expanded = 0;
        bool found = false;

        for (unsigned entries = 0; entries < ENTRIES_MAX; entries++) {
                int result = archive_read_next_header(archive, &entry);
                if (result == ARCHIVE_EOF)
                        return found || refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer has no plugin.wasm");
                if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
                        return archive_refuse(archive, err);
                if (!entry_check(entry, &expanded, err))
                        return false;
                if (!is_module_name(archive_entry_pathname(entry)))
                        continue;
                if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) || archive_entry_sparse_count(entry) > 0)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "plugin.wasm in the layer is no plain regular file");
                if (found)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer has two files called plugin.wasm");
                if (!entry_copy(archive, out_fd, err))
                        return false;
                found = true;
        }
        return refuse(err, ERROR_TOO_LARGE, "the layer has more than %d entries", ENTRIES_MAX);
}

bool unbox_layer(int fd, int out_fd, struct error *err)
{
        struct archive *archive = archive_read_new();
        bool done = archive != NULL;

        if (lseek(fd, 0, SEEK_SET) != 0)
                done = refuse_errno(err, ERROR_INTERNAL, errno, "reading the layer");
        else if (!done || archive_read_support_format_tar(archive) != ARCHIVE_OK || archive_read_support_filter_gzip(archive) != ARCHIVE_OK ||
                archive_read_support_filter_zstd(archive) != ARCHIVE_OK || archive_read_open_fd(archive, fd, PIECE_BYTES) != ARCHIVE_OK)
                done = archive_refuse(archive, err);
        else
                done = entries_walk(archive, out_fd, err);
        if (archive)
                archive_read_free(archive);
        return done;
}
