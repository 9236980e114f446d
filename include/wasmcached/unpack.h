/*
 * unpack: bytes of a layer or body, whose digest has matched, to module bytes: gzip, zstd, tar, Wasm header. Every limit on expansion is enforced here.
 * Reads the source by pread from a file; memory is bounded whatever the input says. Worker; pure apart from that.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct unpack_limits {
        uint64_t module_max_bytes;
        unsigned ratio_max;               /* 200: output : input, looked at beyond ratio_free_bytes of output */
        uint64_t ratio_free_bytes;        /* 1 MiB */
        unsigned tar_entries_max;         /* 10 000 */
        uint64_t expanded_max_bytes;      /* of all that one source expands to, tar padding and other entries included */
};
extern const struct unpack_limits unpack_limits_default;

/* `expanded`: what the archive of a layer has to be, uncompressed and whole (diff_id), or NULL; else ERROR_CHECKSUM_MISMATCH. */
struct unpack_source { int fd; uint64_t size_bytes; const struct digest *expanded; };

enum unpack_box { UNPACK_PLAIN, UNPACK_GZIP, UNPACK_ZSTD };
/* An image's tar layer: the one regular entry whose basename is plugin.wasm; `box` is what the media type promises and the magic must agree (else ERROR_UNSUPPORTED_IMAGE),
   but a plain one may be packed after all, as containerd takes it.
   Errors: ERROR_UNSUPPORTED_IMAGE (no plugin.wasm, two of them, a link, hostile names or headers, sparse), ERROR_NOT_WASM (component and others by name),
   ERROR_TOO_LARGE (which limit, its value), ERROR_UPSTREAM_ERROR (truncated or corrupt data). The module's bytes go to `sink`; on failure some may already have gone. */
bool unpack_layer(const struct unpack_source *source, enum unpack_box box, const struct unpack_limits *limits, struct cancel *cancel, struct sink *sink, struct error *err);
/* http(s) and file bodies: wasm, or gzip, zstd, tar of one, nested at most 3 deep; a tar's first regular file, or the one named plugin.wasm if there is one first in order. */
bool unpack_body(const struct unpack_source *source, const struct unpack_limits *limits, struct cancel *cancel, struct sink *sink, struct error *err);
/* A raw layer: is it a core module (first 8 bytes), else by name what it is instead (component, gzip, zstd, tar, truncated, empty). */
bool unpack_check_wasm(const void *head, size_t head_bytes, uint64_t size_bytes, struct error *err);
