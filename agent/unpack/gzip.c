/*
 * How it goes: one engine (ISA-L; zlib for comparison) inflates member after member into one buffer, which is given when full; CRC and length of each member are checked by the
 *              engine; after the last member zeros may follow (tar-like padding), nothing else.
 * How it fails: truncated, corrupt, wrong checksum, garbage after the last member: upstream_error; expansion: see run_expand().
 * How it ends: the engine's state goes with the stream.
 */
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include "stream.h"

/* RFC 1952 2.3.1: the fourth byte of a member; zlib refuses members with reserved bits set, ISA-L does not look. */
enum { FLAGS_AT = 4, FLAGS_RESERVED = 0xe0 };

enum step { STEP_MORE, STEP_MEMBER_END, STEP_BAD_CHECKSUM, STEP_BAD_HEADER, STEP_BAD_DATA };

struct gzip_stream {
        struct stream stream;
        const struct engine *engine;
        const uint8_t *input;             /* what the stream below gave and was not used yet */
        size_t input_bytes;
        bool input_ended, in_member, in_padding;
        size_t flags_left;                /* bytes of the member up to its flags that were not seen yet */
        struct inflate_state isal;
        struct isal_gzip_header isal_header;      /* kept by us: isal_inflate() forgets a header that is cut by the end of its input */
        bool isal_in_header;
        z_stream zlib;
        unsigned turn;
        uint8_t chunks[2][UNPACK_CHUNK_BYTES];
};

/* Inflates from input into `out`; says how much it made. */
struct engine {
        void (*reset)(struct gzip_stream *gzip);
        enum step (*step)(struct gzip_stream *gzip, uint8_t *out, size_t room, size_t *ret_made);
        void (*release)(struct gzip_stream *gzip);
};

static void isal_engine_reset(struct gzip_stream *gzip)
{
        isal_inflate_reset(&gzip->isal);
        isal_gzip_header_init(&gzip->isal_header);
        gzip->isal.crc_flag = ISAL_GZIP_NO_HDR_VER;        /* the trailer is read and checked by isal_inflate(), the header below */
        gzip->isal_in_header = true;
}

/* Up to the end of the header, or of what there is of it. */
static int isal_run(struct gzip_stream *gzip)
{
        if (gzip->isal_in_header) {
                int result = isal_read_gzip_header(&gzip->isal, &gzip->isal_header);
                if (result != ISAL_DECOMP_OK)
                        return result == ISAL_END_INPUT ? ISAL_DECOMP_OK : result;
                gzip->isal_in_header = false;
        }
        return isal_inflate(&gzip->isal);
}

static enum step isal_engine_step(struct gzip_stream *gzip, uint8_t *out, size_t room, size_t *ret_made)
{
        struct inflate_state *state = &gzip->isal;
        state->next_in = (uint8_t *)(uintptr_t)gzip->input;                /* not written to */
        state->avail_in = (uint32_t)gzip->input_bytes;
        state->next_out = out;
        state->avail_out = (uint32_t)room;
        int result = isal_run(gzip);
        gzip->input = state->next_in;
        gzip->input_bytes = state->avail_in;
        *ret_made = room - state->avail_out;

        if (result == ISAL_INCORRECT_CHECKSUM)
                return STEP_BAD_CHECKSUM;
        if (result == ISAL_INVALID_WRAPPER || result == ISAL_UNSUPPORTED_METHOD)
                return STEP_BAD_HEADER;
        if (result < 0 || result == ISAL_NEED_DICT)
                return STEP_BAD_DATA;
        return !gzip->isal_in_header && state->block_state == ISAL_BLOCK_FINISH ? STEP_MEMBER_END : STEP_MORE;
}

static void isal_engine_release(struct gzip_stream *gzip)
{
        (void)gzip;
}

static void zlib_engine_reset(struct gzip_stream *gzip)
{
        if (gzip->zlib.state)
                inflateReset(&gzip->zlib);
        else if (inflateInit2(&gzip->zlib, 16 + MAX_WBITS) != Z_OK)
                abort();                          /* out of memory for a state of ours */
}

static enum step zlib_engine_step(struct gzip_stream *gzip, uint8_t *out, size_t room, size_t *ret_made)
{
        z_stream *state = &gzip->zlib;
        state->next_in = (Bytef *)(uintptr_t)gzip->input;
        state->avail_in = (uInt)gzip->input_bytes;
        state->next_out = out;
        state->avail_out = (uInt)room;
        int result = inflate(state, Z_NO_FLUSH);
        gzip->input = state->next_in;
        gzip->input_bytes = state->avail_in;
        *ret_made = room - state->avail_out;

        if (result == Z_STREAM_END)
                return STEP_MEMBER_END;
        if (result == Z_OK || result == Z_BUF_ERROR)
                return STEP_MORE;
        const char *message = state->msg ? state->msg : "";
        return strstr(message, "check") ? STEP_BAD_CHECKSUM : strstr(message, "header") || strstr(message, "method") ? STEP_BAD_HEADER : STEP_BAD_DATA;
}

static void zlib_engine_release(struct gzip_stream *gzip)
{
        inflateEnd(&gzip->zlib);
}

static const struct engine engines[] = {        /* ISA-L, zlib */
        { isal_engine_reset, isal_engine_step, isal_engine_release },
        { zlib_engine_reset, zlib_engine_step, zlib_engine_release },
};

static void member_start(struct gzip_stream *gzip)
{
        gzip->engine->reset(gzip);
        gzip->in_member = true;
        gzip->flags_left = FLAGS_AT;
}

/* Looks at the input that the engine gets next; in a header it takes all of it. */
static bool member_flags_good(struct gzip_stream *gzip)
{
        size_t seen = gzip->input_bytes < gzip->flags_left ? gzip->input_bytes : gzip->flags_left;
        bool reached = seen > 0 && seen == gzip->flags_left;
        gzip->flags_left -= seen;
        return !reached || (gzip->input[seen - 1] & FLAGS_RESERVED) == 0;
}

static bool gzip_load(struct gzip_stream *gzip, struct error *err)
{
        if (gzip->input_bytes > 0 || gzip->input_ended)
                return true;
        if (!stream_next(gzip->stream.below, &gzip->input, &gzip->input_bytes, err))
                return false;

        gzip->input_ended = gzip->input_bytes == 0;
        return true;
}

/* Between members: another one begins, or zeros to the end. */
static bool gzip_between(struct gzip_stream *gzip, struct error *err)
{
        if (*gzip->input == 0x1f && !gzip->in_padding) {
                member_start(gzip);
                return true;
        }
        gzip->in_padding = true;
        for (; gzip->input_bytes > 0; gzip->input++, gzip->input_bytes--)
                if (*gzip->input != 0)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt: garbage after its last member");
        return true;
}

static bool gzip_step(struct gzip_stream *gzip, uint8_t *out, size_t room, size_t *ret_made, struct error *err)
{
        size_t before = gzip->input_bytes;
        if (!member_flags_good(gzip))
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt: a member has a bad header");
        switch (gzip->engine->step(gzip, out, room, ret_made)) {
        case STEP_BAD_CHECKSUM:
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt: its checksum or length is not what its trailer says");
        case STEP_BAD_HEADER:
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt: a member has a bad header");
        case STEP_BAD_DATA:
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt");
        case STEP_MEMBER_END:
                gzip->in_member = false;
                return true;
        case STEP_MORE:
                break;
        }
        if (*ret_made == 0 && gzip->input_bytes == before && gzip->input_ended)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is truncated");
        if (*ret_made == 0 && gzip->input_bytes == before)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the gzip data is corrupt: it does not go on");
        return true;
}

static bool gzip_fill(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err)
{
        struct gzip_stream *gzip = CONTAINER_OF(stream, struct gzip_stream, stream);
        uint8_t *chunk = gzip->chunks[gzip->turn++ % 2];
        size_t used = 0;
        while (used < UNPACK_CHUNK_BYTES) {
                if (!gzip_load(gzip, err))
                        return false;
                if (gzip->in_member) {
                        size_t made = 0;
                        if (!gzip_step(gzip, chunk + used, UNPACK_CHUNK_BYTES - used, &made, err))
                                return false;
                        used += made;
                } else if (gzip->input_bytes == 0) {
                        break;
                } else if (!gzip_between(gzip, err)) {
                        return false;
                }
        }

        *ret_bytes = chunk;
        *ret_size = used;
        return run_expand(stream->run, used, err);
}

static void gzip_release(struct stream *stream)
{
        struct gzip_stream *gzip = CONTAINER_OF(stream, struct gzip_stream, stream);
        gzip->engine->release(gzip);
        free(gzip);
}

struct stream *gzip_stream_new(struct stream *below)
{
        struct gzip_stream *gzip = memory_new(1, sizeof *gzip);
        gzip->stream = (struct stream){ .run = below->run, .below = below, .fill = gzip_fill, .release = gzip_release };
        gzip->engine = string_equal(getenv("WASMCACHED_INFLATE"), "zlib") ? &engines[1] : &engines[0];
        isal_inflate_init(&gzip->isal);
        member_start(gzip);
        return &gzip->stream;
}
