/* What stands in the headers of an archive and is read in two ways: refused by its name, wherever in the archive it lies; and what honest writers make. */
#include "unpack_archives.h"

enum { CHUNK = 256 << 10 };

/* A header with `size_bytes` bytes at `offset` replaced, its checksum made good again. */
struct patch { size_t offset; const char *bytes; size_t size_bytes; };

static void put_patched(struct buffer *out, struct tar_entry entry, const struct patch *patch)
{
        size_t at = out->used;
        unsigned sum = 0;
        tar_entry(out, entry);
        memcpy(out->data + at + patch->offset, patch->bytes, patch->size_bytes);
        memset(out->data + at + 148, ' ', 8);
        for (size_t i = 0; i < 512; i++)
                sum += (unsigned char)out->data[at + i];
        snprintf(out->data + at + 148, 8, "%06o", sum);
}

#define PATCH(offset, text) &(struct patch){ offset, text, sizeof text - 1 }
#define TEXT(given) { .name = given, .type = '0', .bytes = "abc", .size_bytes = 3 }

static void nul_name(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(0, "plugin.wasm\0.txt")); }
static void control_name(struct buffer *out) { tar_text(out, "a\nb", "1"); }
static void delete_name(struct buffer *out) { tar_text(out, "a\x7f", "1"); }
static void control_folder(struct buffer *out) { tar_link(out, "a\x1b/", '5', NULL); }
static void control_prefix(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(345, "a\tb")); }
static void nul_prefix(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(345, "a\0b")); }
static void nul_pax(struct buffer *out) { tar_pax(out, "path", "plugin.wasm\0.txt", 16); tar_text(out, "x", "1"); }
static void control_pax(struct buffer *out) { tar_pax(out, "path", "a\rb", 3); tar_text(out, "x", "1"); }
static void nul_sparse_name(struct buffer *out) { tar_pax(out, "GNU.sparse.name", "a\0b", 3); tar_text(out, "x", "1"); }
static void control_gnu(struct buffer *out) { tar_gnu_long(out, "a\1b"); tar_text(out, "x", "1"); }
static void nul_gnu(struct buffer *out) { tar_entry(out, (struct tar_entry){ .name = "././@LongLink", .type = 'L', .bytes = "a\0b", .size_bytes = 4 }); tar_text(out, "x", "1"); }
static void two_sizes(struct buffer *out) { tar_pax(out, "size", "0", 1); tar_text(out, "x", "1"); }
static void two_sizes_larger(struct buffer *out) { tar_pax(out, "size", "600", 3); tar_text(out, "x", "1"); }
static void size_text(struct buffer *out) { tar_pax(out, "size", "1x", 2); tar_text(out, "x", "1"); }
static void size_minus(struct buffer *out) { tar_pax(out, "size", "-1", 2); tar_text(out, "x", "1"); }
static void size_none(struct buffer *out) { tar_pax(out, "size", "", 0); tar_text(out, "x", "1"); }
static void size_junk(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "00000000003x")); }
static void size_eight(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "00000000008\0")); }
static void size_negative(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfd")); }
/* 2^80 + 3, of which 64 bits would say 3. */
static void size_beyond(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "\x80\1\0\0\0\0\0\0\0\0\0\3")); }
static void link_with_size(struct buffer *out) { tar_entry(out, (struct tar_entry){ .name = "x", .type = '1', .link = "first", .bytes = "abc", .size_bytes = 3 }); }

static const struct { void (*build)(struct buffer *out); const char *says; } hostiles[] = {
        { nul_name, "a NUL inside its name" },             { control_name, "control character" },          { delete_name, "control character" },
        { control_folder, "control character" },           { control_prefix, "control character" },        { nul_prefix, "a NUL inside its name" },
        { nul_pax, "a NUL inside its name" },              { control_pax, "control character" },           { nul_sparse_name, "a NUL inside its name" },
        { control_gnu, "control character" },              { nul_gnu, "a NUL inside its name" },           { two_sizes, "two sizes" },
        { two_sizes_larger, "two sizes" },                 { size_text, "a size that is no number" },      { size_none, "a size that is no number" },
        { size_junk, "a size that is no number" },         { size_eight, "a size that is no number" },
        { link_with_size, "is a hard link" },
};

static void wrap(struct buffer *out, void (*build)(struct buffer *out), size_t before)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 }, filler = { 0 };
        put_wasm(&module, 5000);
        put_zeros(&filler, before);
        tar_file(out, "first", &filler);
        build(out);
        tar_file(out, "plugin.wasm", &module);
        tar_end(out);
}

/* The header begins at the start of a piece, ends with one, or lies across two. */
static void test_hostile(void **state)
{
        (void)state;
        static const size_t befores[] = { 0, 1000, CHUNK - 512, CHUNK - 1024, CHUNK - 1536, CHUNK - 2048, 3 * CHUNK - 1024 };
        for (size_t i = 0; i < COUNT_OF(hostiles); i++)
                for (size_t b = 0; b < COUNT_OF(befores); b++) {
                        CLEANUP(buffer_fini) struct buffer tar = { 0 };
                        wrap(&tar, hostiles[i].build, befores[b]);
                        expect_refusal(hostiles[i].says, UNPACK_PLAIN, &tar, ERROR_UNSUPPORTED_IMAGE, hostiles[i].says);
                        gzip_replace(&tar);
                        expect_refusal(hostiles[i].says, UNPACK_GZIP, &tar, ERROR_UNSUPPORTED_IMAGE, hostiles[i].says);
                }
}

/* libarchive's to say, or ours: never a module. */
static void test_negative(void **state)
{
        (void)state;
        static void (*const negative[])(struct buffer *out) = { size_negative, size_minus, size_beyond };
        for (size_t i = 0; i < COUNT_OF(negative); i++) {
                CLEANUP(buffer_fini) struct buffer tar = { 0 }, out = { 0 };
                struct error err = { 0 };
                wrap(&tar, negative[i], 10);
                assert_false(unpack_run_as(UNPACK_PLAIN, &tar, &unpack_limits_default, &out, &err));
                assert_true(err.code == ERROR_UNSUPPORTED_IMAGE || err.code == ERROR_UPSTREAM_ERROR);
        }
}

static void same_sizes(struct buffer *out) { tar_pax(out, "size", "3", 1); tar_text(out, "x", "abc"); }
static void blank_size(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "          3 ")); }
static void binary_size(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), PATCH(124, "\x80\0\0\0\0\0\0\0\0\0\0\3")); }
static void no_size(struct buffer *out) { put_patched(out, (struct tar_entry){ .name = "d/", .type = '5', .bytes = "" }, PATCH(124, "\0\0\0\0\0\0\0\0\0\0\0\0")); }
static void full_name(struct buffer *out) { char name[101]; memset(name, 'n', 100); name[100] = '\0'; tar_text(out, name, "1"); }
static void utf8_name(struct buffer *out) { tar_text(out, "gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac", "1"); }
/* GNU has times where ustar has the prefix, star has them behind a shorter one. */
static void gnu_times(struct buffer *out) { put_patched(out, (struct tar_entry)TEXT("x"), &(struct patch){ 257, "ustar  \0", 8 }); out->data[out->used - 1024 + 345 + 12] = '\0'; }
static void star_times(struct buffer *out)
{
        char tail[167] = "";
        memcpy(tail, "pre", 3);
        memcpy(tail + 131, "12345670123 12345670123 ", 24);
        memcpy(tail + 163, "tar\0", 4);
        put_patched(out, (struct tar_entry)TEXT("x"), &(struct patch){ 345, tail, sizeof tail });
}
static void pax_others(struct buffer *out) { tar_pax(out, "SCHILY.xattr.user.x", "a\0\1b", 4); tar_text(out, "x", "1"); }
static void hard_link(struct buffer *out) { tar_link(out, "x", '1', "first"); }

static void test_honest(void **state)
{
        (void)state;
        static void (*const honest[])(struct buffer *out) = { same_sizes, blank_size, binary_size, no_size, full_name, utf8_name, gnu_times, star_times, pax_others, hard_link };
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        for (size_t i = 0; i < COUNT_OF(honest); i++) {
                CLEANUP(buffer_fini) struct buffer tar = { 0 };
                char row[16];
                snprintf(row, sizeof row, "honest %zu", i);
                wrap(&tar, honest[i], 700);
                expect_module(row, UNPACK_PLAIN, &tar, &module);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_hostile), cmocka_unit_test(test_negative), cmocka_unit_test(test_honest) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
