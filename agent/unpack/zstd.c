/*
 * How it goes: libzstd decodes frame after frame (skippable ones by itself) into one buffer, which is given when full.
 * How it fails: corrupt, truncated, content checksum: upstream_error; a window over 128 MiB: too_large, before it is allocated; expansion: see run_expand().
 * How it ends: the decoder goes with the stream.
 */
#include <stdlib.h>
#include <string.h>
#include <zstd.h>
#include <zstd_errors.h>
#include "stream.h"

enum { WINDOW_LOG_MAX = 27 };                     /* contract 7: 128 MiB */

struct zstd_stream {
        struct stream stream;
        ZSTD_DCtx *decoder;
        ZSTD_inBuffer input;
        bool input_ended;
        size_t owed;                      /* what the decoder last hinted; 0 = a frame ended */
        unsigned turn;
        uint8_t chunks[2][UNPACK_CHUNK_BYTES];
};

static bool zstd_load(struct zstd_stream *zstd, struct error *err)
{
        if (zstd->input.pos < zstd->input.size || zstd->input_ended)
                return true;

        const uint8_t *bytes;
        size_t size_bytes;
        if (!stream_next(zstd->stream.below, &bytes, &size_bytes, err))
                return false;
        zstd->input = (ZSTD_inBuffer){ bytes, size_bytes, 0 };
        zstd->input_ended = size_bytes == 0;
        return true;
}

static bool zstd_refuse(size_t result, struct error *err)
{
        if (ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge)
                return refuse(err, ERROR_TOO_LARGE, "the zstd data needs a window of more than 128 MiB; compress it without --ultra --long");
        if (ZSTD_getErrorCode(result) == ZSTD_error_memory_allocation)
                return refuse(err, ERROR_INTERNAL, "out of memory for a zstd window");
        return refuse(err, ERROR_UPSTREAM_ERROR, "the zstd data is corrupt: %s", ZSTD_getErrorName(result));
}

static bool zstd_fill(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        struct zstd_stream *zstd = CONTAINER_OF(stream, struct zstd_stream, stream);
        uint8_t *chunk = zstd->chunks[zstd->turn++ % 2];
        ZSTD_outBuffer output = { chunk, UNPACK_CHUNK_BYTES, 0 };
        while (output.pos < output.size) {
                if (!zstd_load(zstd, err))
                        return false;
                bool exhausted = zstd->input.pos == zstd->input.size;
                if (exhausted && zstd->owed == 0)
                        break;

                size_t before = output.pos;
                size_t result = ZSTD_decompressStream(zstd->decoder, &output, &zstd->input);
                if (ZSTD_isError(result))
                        return zstd_refuse(result, err);
                if (exhausted && result != 0 && output.pos == before)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "the zstd data is truncated");
                zstd->owed = result;
        }

        *ret_bytes = chunk;
        *ret_size = output.pos;
        return run_expand(stream->run, output.pos, err);
}

static void zstd_release(struct stream *stream)
{
        struct zstd_stream *zstd = CONTAINER_OF(stream, struct zstd_stream, stream);
        ZSTD_freeDCtx(zstd->decoder);
        free(zstd);
}

struct stream *zstd_stream_new(struct stream *below)
{
        struct zstd_stream *zstd = memory_new(1, sizeof *zstd);
        zstd->stream = (struct stream){ .run = below->run, .below = below, .fill = zstd_fill, .release = zstd_release };
        zstd->decoder = ZSTD_createDCtx();
        if (!zstd->decoder || ZSTD_isError(ZSTD_DCtx_setParameter(zstd->decoder, ZSTD_d_windowLogMax, WINDOW_LOG_MAX)))
                abort();                          /* out of memory for a state of ours */
        return &zstd->stream;
}
