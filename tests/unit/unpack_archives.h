/* Archives made in memory for the tests of unpack: tar by hand (so that it can lie), gzip by zlib, zstd; and the runner of one row. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>
#include <zlib.h>
#include <zstd.h>
#include <wasmcached/unpack.h>

#define UNUSED __attribute__((unused))

static UNUSED void put(struct buffer *out, const void *bytes, size_t size_bytes)
{
        assert_true(buffer_append(out, bytes, size_bytes));
}

static UNUSED void put_zeros(struct buffer *out, size_t count)
{
        static const char zeros[4096];
        for (; count > 0; count -= count < sizeof zeros ? count : sizeof zeros)
                put(out, zeros, count < sizeof zeros ? count : sizeof zeros);
}

/* A core module of `size_bytes`, compressible about as real ones are. */
static UNUSED void put_wasm(struct buffer *out, size_t size_bytes)
{
        uint32_t seed = 1;
        size_t end = out->used + size_bytes;
        put(out, "\0asm\1\0\0\0", size_bytes < 8 ? size_bytes : 8);
        while (out->used < end) {
                char piece[16];
                seed = seed * 1664525 + 1013904223;
                memset(piece, (int)(seed >> 24), 7);
                memcpy(piece + 7, "call_indirect", 9);
                put(out, piece, end - out->used < sizeof piece ? end - out->used : sizeof piece);
        }
}

struct tar_entry { const char *name; char type; const char *link; const void *bytes; size_t size_bytes; uint64_t claim_bytes; };

static UNUSED void tar_header(struct buffer *out, const struct tar_entry *entry)
{
        char block[512] = "";
        unsigned sum = 0;
        strncpy(block, entry->name, 100);
        memcpy(block + 100, "0000644", 7);
        memcpy(block + 108, "0000000", 7);
        memcpy(block + 116, "0000000", 7);
        snprintf(block + 124, 12, "%011llo", (unsigned long long)(entry->claim_bytes ? entry->claim_bytes : entry->size_bytes));
        memcpy(block + 136, "00000000000", 11);
        memset(block + 148, ' ', 8);
        block[156] = entry->type;
        if (entry->link)
                strncpy(block + 157, entry->link, 100);
        memcpy(block + 257, "ustar\00000", 8);
        for (size_t i = 0; i < sizeof block; i++)
                sum += (unsigned char)block[i];
        snprintf(block + 148, 8, "%06o", sum);
        put(out, block, sizeof block);
}

static UNUSED void tar_entry(struct buffer *out, struct tar_entry entry)
{
        tar_header(out, &entry);
        put(out, entry.bytes, entry.size_bytes);
        put_zeros(out, (512 - entry.size_bytes % 512) % 512);
}

static UNUSED void tar_file(struct buffer *out, const char *name, const struct buffer *content)
{
        tar_entry(out, (struct tar_entry){ .name = name, .type = '0', .bytes = content->data ? content->data : "", .size_bytes = content->used });
}

static UNUSED void tar_text(struct buffer *out, const char *name, const char *text)
{
        tar_entry(out, (struct tar_entry){ .name = name, .type = '0', .bytes = text, .size_bytes = strlen(text) });
}

static UNUSED void tar_link(struct buffer *out, const char *name, char type, const char *link)
{
        tar_entry(out, (struct tar_entry){ .name = name, .type = type, .link = link, .bytes = "" });
}

/* One pax record; the value may hold NULs. */
static UNUSED void pax_record(struct buffer *out, const char *key, const char *value, size_t value_bytes)
{
        size_t length = strlen(key) + value_bytes + 3, digits = 1;
        for (size_t i = 10; i <= length + digits; i *= 10)
                digits++;
        assert_true(buffer_printf(out, "%zu %s=", length + digits, key));
        put(out, value, value_bytes);
        put(out, "\n", 1);
}

static UNUSED void tar_pax_records(struct buffer *out, const struct buffer *records)
{
        tar_entry(out, (struct tar_entry){ .name = "PaxHeaders/x", .type = 'x', .bytes = records->data, .size_bytes = records->used });
}

/* One pax record for the next entry. */
static UNUSED void tar_pax(struct buffer *out, const char *key, const char *value, size_t value_bytes)
{
        CLEANUP(buffer_fini) struct buffer record = { 0 };
        pax_record(&record, key, value, value_bytes);
        tar_pax_records(out, &record);
}

static UNUSED void tar_gnu_long(struct buffer *out, const char *name)
{
        tar_entry(out, (struct tar_entry){ .name = "././@LongLink", .type = 'L', .bytes = name, .size_bytes = strlen(name) + 1 });
}

static UNUSED void tar_end(struct buffer *out)
{
        put_zeros(out, 1024);
}

static UNUSED void gzip_put(struct buffer *out, const void *bytes, size_t size_bytes)
{
        z_stream state = { 0 };
        assert_int_equal(deflateInit2(&state, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_true(buffer_reserve(out, deflateBound(&state, size_bytes)));
        state.next_in = (Bytef *)(uintptr_t)bytes;
        state.avail_in = (uInt)size_bytes;
        state.next_out = (Bytef *)out->data + out->used;
        state.avail_out = (uInt)deflateBound(&state, size_bytes);
        assert_int_equal(deflate(&state, Z_FINISH), Z_STREAM_END);
        out->used += state.total_out;
        deflateEnd(&state);
}

static UNUSED void gzip_replace(struct buffer *buffer)
{
        struct buffer out = { 0 };
        gzip_put(&out, buffer->data ? buffer->data : "", buffer->used);
        buffer_fini(buffer);
        *buffer = out;
}

static UNUSED void zstd_put(struct buffer *out, const void *bytes, size_t size_bytes)
{
        size_t room = ZSTD_compressBound(size_bytes);
        assert_true(buffer_reserve(out, room));
        size_t made = ZSTD_compress(out->data + out->used, room, bytes, size_bytes, 3);
        assert_false(ZSTD_isError(made));
        out->used += made;
}

static UNUSED void zstd_replace(struct buffer *buffer)
{
        struct buffer out = { 0 };
        zstd_put(&out, buffer->data ? buffer->data : "", buffer->used);
        buffer_fini(buffer);
        *buffer = out;
}

static UNUSED struct unpack_source source_open(const struct buffer *content)
{
        int fd = memfd_create("source", MFD_CLOEXEC);
        assert_true(fd >= 0);
        if (content->used > 0)
                assert_int_equal(write(fd, content->data, content->used), content->used);
        return (struct unpack_source){ .fd = fd, .size_bytes = content->used };
}

enum { AS_BODY = -1 };                            /* instead of an enum unpack_box */

static UNUSED bool unpack_run_as(int box, const struct buffer *content, const struct unpack_limits *limits, struct buffer *ret_module, struct error *err)
{
        struct sink_buffer sink;
        struct unpack_source source = source_open(content);
        sink_buffer_init(&sink, ret_module, "module");
        bool good = box == AS_BODY ? unpack_body(&source, limits, NULL, &sink.sink, err) : unpack_layer(&source, (enum unpack_box)box, limits, NULL, &sink.sink, err);
        close(source.fd);
        return good;
}

/* What must come out, or what the error must be. */
static UNUSED void expect_module(const char *row, int box, const struct buffer *content, const struct buffer *module)
{
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct error err = { 0 };
        print_message("%s\n", row);
        if (!unpack_run_as(box, content, &unpack_limits_default, &out, &err))
                fail_msg("%s: %s", row, err.text);
        if (out.used != module->used || memcmp(out.data, module->data, module->used) != 0)
                fail_msg("%s: %zu bytes came out that are not the %zu of the module", row, out.used, module->used);
}

static UNUSED void expect_refusal(const char *row, int box, const struct buffer *content, enum error_code code, const char *says)
{
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct error err = { 0 };
        if (unpack_run_as(box, content, &unpack_limits_default, &out, &err))
                fail_msg("%s: must be refused", row);
        print_message("%s: %s\n", row, err.text);
        if (err.code != code || !strstr(err.text, says))
                fail_msg("%s: code %d, \"%s\" instead of code %d, \"%s\"", row, (int)err.code, err.text, (int)code, says);
}
