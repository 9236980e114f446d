/*
 * How it goes: libarchive walks the entries of what the stream below gives; the data blocks of the chosen entry are passed on as they lie in the buffer of the decompressor;
 *              the archive and everything below it are then read to their end, so that late damage and a second plugin.wasm are
 *              noticed. Nothing is ever written under an archive's name.
 * How it fails: no or two plugin.wasm, links, devices, hostile names, sparse files: unsupported_image; too many entries or too long headers: too_large;
 *               truncated or corrupt: upstream_error.
 * How it ends: the archive handle goes with the stream.
 */
#include <archive.h>
#include <archive_entry.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "stream.h"
#include "tar_header.h"

/* All that one header may have read: libarchive keeps long names, pax records and sparse maps in memory. Counted in pieces of UNPACK_CHUNK_BYTES. */
enum { HEADER_MAX_BYTES = 3 * UNPACK_CHUNK_BYTES, NAMES_SHOWN = 4, BLOCK_BYTES = 512, TYPE_OFFSET = 156 };

static const char wanted_name[] = "plugin.wasm";

struct tar_stream {
        struct stream stream;
        struct archive *archive;
        struct error below_err;           /* of the stream below: libarchive only hears that reading failed */
        bool below_ended;
        size_t header_bytes;              /* read since the current header began */
        bool in_header;
        const uint8_t *piece;             /* what libarchive was given last */
        size_t piece_bytes;
        uint64_t piece_offset;            /* of its first byte in the archive */
        uint8_t before[BLOCK_BYTES];      /* the bytes before it, the last of them at the end */
        uint64_t header_start;            /* of the current header in the archive */
        struct buffer header;             /* what of it lies in pieces before the last one */
        int *choice;                      /* body only */
        int entry;                        /* number of the current one, from 0 */
        bool found, done;
        struct buffer names;              /* the first few, for the error that says that none is plugin.wasm */
};

struct tar_item { bool is_wanted, is_regular; };

/* libarchive hides the type of an entry: the end of the last piece is kept, since a header may lie across two. */
static void piece_remember(struct tar_stream *tar, const uint8_t *bytes, size_t size_bytes)
{
        size_t kept = tar->piece_bytes < BLOCK_BYTES ? tar->piece_bytes : BLOCK_BYTES;
        memmove(tar->before, tar->before + kept, BLOCK_BYTES - kept);
        if (kept > 0)
                memcpy(tar->before + BLOCK_BYTES - kept, tar->piece + tar->piece_bytes - kept, kept);
        tar->piece_offset += tar->piece_bytes;
        tar->piece = bytes;
        tar->piece_bytes = size_bytes;
}

/* The part of the last piece from the header's start up to `end`. */
static const uint8_t *header_part(const struct tar_stream *tar, uint64_t end, size_t *ret_size)
{
        uint64_t from = tar->header_start > tar->piece_offset ? tar->header_start : tar->piece_offset, stop = tar->piece_offset + tar->piece_bytes;
        stop = stop < end ? stop : end;
        *ret_size = from < stop ? (size_t)(stop - from) : 0;
        return *ret_size > 0 ? tar->piece + (from - tar->piece_offset) : NULL;
}

/* The piece is about to go and the header goes on behind it. */
static void header_keep(struct tar_stream *tar)
{
        size_t size_bytes;
        const uint8_t *part = header_part(tar, UINT64_MAX, &size_bytes);
        if (size_bytes > 0)
                buffer_append(&tar->header, part, size_bytes);
}

/* All of the header that libarchive has just read. */
static bool header_check(struct tar_stream *tar, struct error *err)
{
        size_t size_bytes;
        const uint8_t *part = header_part(tar, (uint64_t)archive_filter_bytes(tar->archive, -1), &size_bytes);
        if (tar->header.used == 0)
                return tar_header_check(part, size_bytes, tar->entry, err);
        if (size_bytes > 0)
                buffer_append(&tar->header, part, size_bytes);
        return tar_header_check((const uint8_t *)tar->header.data, tar->header.used, tar->entry, err);
}

/* Of the header that libarchive has just read; '0' when it lies further back than what is kept, which a header read in full does not. */
static unsigned char entry_type(const struct tar_stream *tar)
{
        uint64_t at = (uint64_t)archive_filter_bytes(tar->archive, -1) - (BLOCK_BYTES - TYPE_OFFSET);
        if (at >= tar->piece_offset)
                return at - tar->piece_offset < tar->piece_bytes ? tar->piece[at - tar->piece_offset] : '0';
        return tar->piece_offset - at <= BLOCK_BYTES ? tar->before[BLOCK_BYTES - (tar->piece_offset - at)] : '0';
}

static la_ssize_t tar_read(struct archive *archive, void *arg, const void **ret_bytes)
{
        struct tar_stream *tar = arg;
        const uint8_t *bytes = NULL;
        size_t size_bytes = 0;
        if (tar->in_header && tar->header_bytes > HEADER_MAX_BYTES) {
                refuse(&tar->below_err, ERROR_TOO_LARGE, "a tar header (long name, pax records or sparse map) has more than %d KiB", HEADER_MAX_BYTES >> 10);
                goto failed;
        }
        if (!tar->below_ended && !stream_next(tar->stream.below, &bytes, &size_bytes, &tar->below_err))
                goto failed;

        tar->below_ended = tar->below_ended || size_bytes == 0;
        tar->header_bytes += size_bytes;
        if (tar->in_header)
                header_keep(tar);
        piece_remember(tar, bytes, size_bytes);
        *ret_bytes = bytes;
        return (la_ssize_t)size_bytes;
failed:
        archive_set_error(archive, EIO, "reading failed");
        return -1;
}

static bool tar_refuse(struct tar_stream *tar, struct error *err)
{
        if (tar->below_err.code != ERROR_NONE) {
                *err = tar->below_err;
                return false;
        }

        const char *text = archive_error_string(tar->archive);
        char shown[256];
        string_printable(text ? text : "", text ? strlen(text) : 0, shown, sizeof shown);
        if (strcasestr(shown, "too large") || strcasestr(shown, "> 1MB"))
                return refuse(err, ERROR_TOO_LARGE, "the tar archive has a header (long name or pax records) of more than 1 MiB after entry %d", tar->entry + 1);
        if (string_starts_with(shown, "Truncated") || tar->below_ended)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the tar archive is truncated after entry %d", tar->entry + 1);
        return refuse(err, ERROR_UPSTREAM_ERROR, "the tar archive is corrupt after entry %d: %s", tar->entry + 1, shown);
}

static bool has_parent_segment(const char *name)
{
        for (const char *at = strstr(name, ".."); at; at = strstr(at + 2, ".."))
                if ((at == name || at[-1] == '/') && (at[2] == '\0' || at[2] == '/'))
                        return true;
        return false;
}

static const char *basename_of(const char *name)
{
        const char *slash = strrchr(name, '/');
        return slash ? slash + 1 : name;
}

static void name_remember(struct tar_stream *tar, const char *name)
{
        char shown[96];
        if (tar->entry < NAMES_SHOWN)
                buffer_printf(&tar->names, "%s%s", tar->entry > 0 ? ", " : "", string_printable(name, strlen(name), shown, sizeof shown));
        else if (tar->entry == NAMES_SHOWN)
                buffer_append_text(&tar->names, ", …");
}

/* What the current entry is; hostile ones end everything, whatever their name. */
static bool tar_item_check(struct tar_stream *tar, struct archive_entry *entry, struct tar_item *ret_item, struct error *err)
{
        const char *name = archive_entry_pathname(entry);
        if (!name)
                name = archive_entry_pathname_utf8(entry);
        if (!name || !*name)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "entry %d of the tar archive has no readable name", tar->entry + 1);

        char shown[128];
        string_printable(name, strlen(name), shown, sizeof shown);
        if (strlen(name) > UNPACK_NAME_MAX_BYTES)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "entry %d of the tar archive has a name of %zu bytes, at most %d are allowed",
                        tar->entry + 1, strlen(name), UNPACK_NAME_MAX_BYTES);
        if (has_parent_segment(name))
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "entry %d of the tar archive has \"..\" in its name (%s)", tar->entry + 1, shown);
        if (archive_entry_sparse_count(entry) > 0)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "%s is a sparse file in the tar archive; pack it without --sparse", shown);

        struct tar_item item = { .is_wanted = strcmp(basename_of(name), wanted_name) == 0 && archive_entry_filetype(entry) != AE_IFDIR };
        item.is_regular = archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry) && !archive_entry_symlink(entry);
        if (item.is_wanted && !item.is_regular)
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "%s in the tar archive is a link or device, not a file", shown);
        if (item.is_wanted && !memchr("0\0" "7", entry_type(tar), 3))
                return refuse(err, ERROR_UNSUPPORTED_IMAGE, "%s in the tar archive is of type \"%c\", "
                        "not a plain file (a GNU sparse file, perhaps: pack it without --sparse)", shown,
                        isprint(entry_type(tar)) ? entry_type(tar) : '?');
        if (item.is_regular && item.is_wanted && archive_entry_size_is_set(entry) && (uint64_t)archive_entry_size(entry) > tar->stream.run->limits->module_max_bytes)
                return refuse(err, ERROR_TOO_LARGE, "%s has %lld bytes, a module may have %llu (pull.max_module_size)", shown, (long long)archive_entry_size(entry),
                        (unsigned long long)tar->stream.run->limits->module_max_bytes);
        name_remember(tar, name);
        *ret_item = item;
        return true;
}

/* Warnings about the locale's characters are nobody's business; what libarchive would ignore of a broken header might be a name or a size to others. */
static bool is_malformed(const struct tar_stream *tar)
{
        const char *text = archive_error_string(tar->archive);
        return text && (strcasestr(text, "malformed") || strcasestr(text, "invalid") || strcasestr(text, "rejecting"));
}

/* Skips what is left of the current entry and reads the next header. At the end of the archive: *ret_end, and the streams below were read to their end. */
static bool tar_next(struct tar_stream *tar, struct tar_item *ret_item, bool *ret_end, struct error *err)
{
        struct archive_entry *entry;
        if (tar->entry >= 0 && archive_read_data_skip(tar->archive) < ARCHIVE_WARN)
                return tar_refuse(tar, err);

        tar->in_header = true;
        tar->header_bytes = 0;
        if (tar->entry >= 0) {
                tar->header_start = (uint64_t)archive_filter_bytes(tar->archive, -1);
                buffer_clear(&tar->header);
        }
        int result = archive_read_next_header(tar->archive, &entry);
        tar->in_header = false;
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN && result != ARCHIVE_EOF)
                return tar_refuse(tar, err);

        if (result == ARCHIVE_WARN && is_malformed(tar))
                return refuse(err, ERROR_UPSTREAM_ERROR, "the tar archive has a malformed header (pax records, perhaps) after entry %d", tar->entry + 1);

        *ret_end = result == ARCHIVE_EOF;
        if (*ret_end) {
                const void *bytes;
                while (!tar->below_ended)
                        if (tar_read(tar->archive, tar, &bytes) < 0)
                                return tar_refuse(tar, err);
                return true;
        }
        tar->entry++;
        if ((unsigned)tar->entry >= tar->stream.run->limits->tar_entries_max)
                return refuse(err, ERROR_TOO_LARGE, "the tar archive has more than %u entries", tar->stream.run->limits->tar_entries_max);
        return tar_item_check(tar, entry, ret_item, err) && header_check(tar, err);
}

/* The next block of the chosen entry; *ret_size 0 = its end. */
static bool tar_block(struct tar_stream *tar, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        const void *bytes = NULL;
        size_t size_bytes = 0;
        la_int64_t offset;
        int result;
        do {
                result = archive_read_data_block(tar->archive, &bytes, &size_bytes, &offset);
                if (result < ARCHIVE_WARN)
                        return tar_refuse(tar, err);
        } while (result != ARCHIVE_EOF && size_bytes == 0);

        *ret_bytes = bytes;
        *ret_size = result == ARCHIVE_EOF ? 0 : size_bytes;
        return true;
}

static bool layer_find(struct tar_stream *tar, struct error *err)
{
        while (!tar->found) {
                struct tar_item item;
                bool end;
                if (!tar_next(tar, &item, &end, err))
                        return false;
                if (end && tar->entry < 0)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer has no %s: its tar archive is empty", wanted_name);
                if (end)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer has no %s among its %d entries (%s)",
                                wanted_name, tar->entry + 1, tar->names.data ? tar->names.data : "");
                tar->found = item.is_wanted;
        }
        return true;
}

static bool layer_rest(struct tar_stream *tar, struct error *err)
{
        while (!tar->done) {
                struct tar_item item;
                if (!tar_next(tar, &item, &tar->done, err))
                        return false;
                if (!tar->done && item.is_wanted)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer has more than one %s; which one is meant cannot be told", wanted_name);
        }
        return true;
}

/* With a known choice: up to it. Else: the first regular file if it is plugin.wasm; otherwise the choice is made after all entries
   were seen, and the caller starts again (ERROR_NONE). */
static bool body_find(struct tar_stream *tar, struct error *err)
{
        int first = TAR_CHOICE_UNKNOWN;
        while (!tar->found) {
                struct tar_item item;
                bool end;
                if (!tar_next(tar, &item, &end, err))
                        return false;
                if (end && first == TAR_CHOICE_UNKNOWN)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the tar archive has no regular file");
                if (end || (*tar->choice == TAR_CHOICE_UNKNOWN && item.is_wanted && first != TAR_CHOICE_UNKNOWN)) {
                        *tar->choice = end ? first : tar->entry;
                        return false;
                }
                if (first == TAR_CHOICE_UNKNOWN && item.is_regular)
                        first = tar->entry;
                tar->found = *tar->choice == TAR_CHOICE_UNKNOWN ? item.is_wanted : tar->entry == *tar->choice;
        }
        return true;
}

static bool body_rest(struct tar_stream *tar, struct error *err)
{
        struct tar_item item;
        while (!tar->done)
                if (!tar_next(tar, &item, &tar->done, err))
                        return false;
        return true;
}

static bool tar_fill(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        struct tar_stream *tar = CONTAINER_OF(stream, struct tar_stream, stream);
        *ret_size = 0;
        if (tar->done)
                return true;
        if (!tar->found && !(tar->choice ? body_find(tar, err) : layer_find(tar, err)))
                return false;
        if (!tar_block(tar, ret_bytes, ret_size, err))
                return false;
        return *ret_size > 0 || (tar->choice ? body_rest(tar, err) : layer_rest(tar, err));
}

static void tar_release(struct stream *stream)
{
        struct tar_stream *tar = CONTAINER_OF(stream, struct tar_stream, stream);
        archive_read_free(tar->archive);
        buffer_fini(&tar->names);
        buffer_fini(&tar->header);
        free(tar);
}

struct stream *tar_stream_new_body(struct stream *below, int *choice)
{
        struct tar_stream *tar = memory_new(1, sizeof *tar);
        tar->stream = (struct stream){ .run = below->run, .below = below, .fill = tar_fill, .release = tar_release };
        tar->choice = choice;
        tar->entry = -1;
        tar->archive = archive_read_new();
        if (!tar->archive || archive_read_support_format_tar(tar->archive) != ARCHIVE_OK)
                abort();                          /* out of memory for a handle of ours */

        tar->in_header = true;
        archive_read_open(tar->archive, tar, NULL, tar_read, NULL);        /* what it cannot read, the first header says again */
        return &tar->stream;
}

struct stream *tar_stream_new_layer(struct stream *below)
{
        return tar_stream_new_body(below, NULL);
}
