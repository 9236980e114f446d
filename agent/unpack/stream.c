/*
 * How it goes: pieces of at most 256 KiB are pulled from the file upwards; a look at the head copies 512 bytes, everything else is passed on without a copy.
 * How it fails: a cancelled job at the next piece (busy); a source shorter than promised; more expansion than allowed.
 * How it ends: each stream is freed by who made it, top first.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "stream.h"

bool stream_next(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        if (cancel_is_triggered(stream->run->cancel))
                return refuse(err, ERROR_BUSY, "unpacking was cancelled");

        if (stream->head_given < stream->head_bytes) {
                *ret_bytes = stream->head + stream->head_given;
                *ret_size = stream->head_bytes - stream->head_given;
                stream->head_given = stream->head_bytes;
                return true;
        }
        if (stream->rest_bytes > 0) {
                *ret_bytes = stream->rest;
                *ret_size = stream->rest_bytes;
                stream->rest_bytes = 0;
                return true;
        }
        return stream->fill(stream, ret_bytes, ret_size, err);
}

bool stream_peek(struct stream *stream, struct error *err)
{
        while (stream->head_bytes < sizeof stream->head) {
                const uint8_t *bytes;
                size_t size_bytes, room = sizeof stream->head - stream->head_bytes;
                if (cancel_is_triggered(stream->run->cancel))
                        return refuse(err, ERROR_BUSY, "unpacking was cancelled");
                if (!stream->fill(stream, &bytes, &size_bytes, err))
                        return false;
                if (size_bytes == 0)
                        break;

                size_t taken = size_bytes < room ? size_bytes : room;
                memcpy(stream->head + stream->head_bytes, bytes, taken);
                stream->head_bytes += taken;
                stream->rest = bytes + taken;
                stream->rest_bytes = size_bytes - taken;
        }
        return true;
}

void stream_free(struct stream **stream)
{
        struct stream *gone = TAKE(*stream);
        if (gone)
                gone->release(gone);
}

bool run_expand(struct unpack_run *run, size_t more_bytes, struct error *err)
{
        const struct unpack_limits *limits = run->limits;
        run->expanded_bytes += more_bytes;
        if (run->expanded_bytes > limits->expanded_max_bytes)
                return refuse(err, ERROR_TOO_LARGE, "%llu bytes expand to more than %llu bytes, which is the most that one source may",
                        (unsigned long long)run->source_bytes, (unsigned long long)limits->expanded_max_bytes);
        if (run->expanded_bytes > limits->ratio_free_bytes && run->expanded_bytes / limits->ratio_max >= run->source_bytes)
                return refuse(err, ERROR_TOO_LARGE, "%llu bytes expand to more than %u times as much, which looks like a decompression bomb",
                        (unsigned long long)run->source_bytes, limits->ratio_max);
        return true;
}

/* ---- the file at the bottom */
struct file_stream { struct stream stream; struct unpack_source source; uint64_t offset; unsigned turn; uint8_t chunks[2][UNPACK_CHUNK_BYTES]; };

static bool file_fill(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        struct file_stream *file = CONTAINER_OF(stream, struct file_stream, stream);
        uint64_t left = file->source.size_bytes - file->offset;
        size_t size_bytes = left < UNPACK_CHUNK_BYTES ? (size_t)left : UNPACK_CHUNK_BYTES;
        uint8_t *chunk = file->chunks[file->turn++ % 2];

        if (size_bytes > 0 && !fs_pread_all(file->source.fd, chunk, size_bytes, (off_t)file->offset)) {
                int number = errno;
                if (number == 0)
                        return refuse(err, ERROR_INTERNAL, "the file to unpack ends before its %llu bytes", (unsigned long long)file->source.size_bytes);
                return refuse_errno(err, ERROR_INTERNAL, number, "cannot read the file to unpack at byte %llu", (unsigned long long)file->offset);
        }
        file->offset += size_bytes;
        *ret_bytes = chunk;
        *ret_size = size_bytes;
        return true;
}

static void file_release(struct stream *stream)
{
        free(CONTAINER_OF(stream, struct file_stream, stream));
}

struct stream *file_stream_new(struct unpack_run *run, const struct unpack_source *source)
{
        struct file_stream *file = memory_new(1, sizeof *file);
        file->stream = (struct stream){ .run = run, .fill = file_fill, .release = file_release };
        file->source = *source;
        return &file->stream;
}
