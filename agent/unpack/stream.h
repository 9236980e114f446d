/*
 * What the files of this room share: a stack of streams, each pulling from the one below: file ← gzip or zstd ← tar entry ← …; the innermost one's bytes are the module.
 * A stream says "end" only after everything below it was read and checked to its end.
 */
#pragma once
#include <wasmcached/unpack.h>

enum { UNPACK_CHUNK_BYTES = 256 << 10, UNPACK_HEAD_BYTES = 512, UNPACK_BOXES_MAX = 3, UNPACK_NAME_MAX_BYTES = 4096 };

/* What one unpacking spends; shared by its streams. */
struct unpack_run {
        const struct unpack_limits *limits;
        struct cancel *cancel;
        uint64_t source_bytes, expanded_bytes;
};

struct stream {
        struct unpack_run *run;
        struct stream *below;             /* borrowed; NULL for the file */
        /* The next piece, valid until the call after the next one (so that it can still be hashed while that is made); size 0 = end. */
        bool (*fill)(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err);
        void (*release)(struct stream *stream);
        /* Pieces that were looked at before they are given. */
        uint8_t head[UNPACK_HEAD_BYTES];
        size_t head_bytes, head_given;
        const uint8_t *rest;
        size_t rest_bytes;
};

bool stream_next(struct stream *stream, const uint8_t **ret_bytes, size_t *ret_size, struct error *err);
/* The first UNPACK_HEAD_BYTES or, if it is shorter, all of the stream, in stream->head and head_bytes; they are still given by stream_next. Before the first stream_next only. */
bool stream_peek(struct stream *stream, struct error *err);
void stream_free(struct stream **stream);

/* Counts what a decompressor made: ERROR_TOO_LARGE beyond expanded_max_bytes or the ratio. */
bool run_expand(struct unpack_run *run, size_t more_bytes, struct error *err);

struct stream *file_stream_new(struct unpack_run *run, const struct unpack_source *source) __attribute__((returns_nonnull));
/* Several members, zero padding after the last. By ISA-L, or by zlib with WASMCACHED_INFLATE=zlib in the environment. */
struct stream *gzip_stream_new(struct stream *below) __attribute__((returns_nonnull));
/* Several frames, skippable ones too; windows up to 128 MiB. */
struct stream *zstd_stream_new(struct stream *below) __attribute__((returns_nonnull));

/* Passes on what it gets and refuses its end when all of it is not `expected`. */
struct stream *proof_stream_new(struct stream *below, const struct digest *expected) __attribute__((returns_nonnull));

enum { TAR_CHOICE_UNKNOWN = -1 };
/* The one plugin.wasm of an image layer; two are refused. */
struct stream *tar_stream_new_layer(struct stream *below) __attribute__((returns_nonnull));
/*
 * Of a body: the first plugin.wasm, else the first regular file. If that cannot be told before later entries are seen, fill fails with ERROR_NONE and *choice is the
 * entry's number: the giver then starts again from the source.
 */
struct stream *tar_stream_new_body(struct stream *below, int *choice) __attribute__((returns_nonnull));

/* What the first bytes say. */
enum kind { KIND_EMPTY, KIND_WASM, KIND_GZIP, KIND_ZSTD, KIND_TAR, KIND_OTHER };
enum kind kind_detect(const uint8_t *head, size_t head_bytes);
/* "gzip data", "an ELF program", … */
const char *kind_describe(const uint8_t *head, size_t head_bytes);
