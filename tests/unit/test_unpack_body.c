#include "unpack_archives.h"

enum { MODULE_BYTES = 300001 };

/* "wasm" boxed as the letters say, innermost first: g(zip), z(std), t(ar), T(ar with README before plugin.wasm), O(ther name only, README behind), e(stargz-like two members) */
static const struct { const char *boxes; enum error_code code; const char *says; } rows[] = {
        { "",      ERROR_NONE, NULL },
        { "g",     ERROR_NONE, NULL },
        { "z",     ERROR_NONE, NULL },
        { "t",     ERROR_NONE, NULL },
        { "T",     ERROR_NONE, NULL },
        { "O",     ERROR_NONE, NULL },
        { "tg",    ERROR_NONE, NULL },
        { "tz",    ERROR_NONE, NULL },
        { "Tg",    ERROR_NONE, NULL },
        { "Og",    ERROR_NONE, NULL },
        { "gt",    ERROR_NONE, NULL },
        { "zT",    ERROR_NONE, NULL },
        { "gg",    ERROR_NONE, NULL },
        { "ggg",   ERROR_NONE, NULL },
        { "gtg",   ERROR_NONE, NULL },
        { "TTT",   ERROR_NONE, NULL },
        { "OTO",   ERROR_NONE, NULL },
        { "zgz",   ERROR_NONE, NULL },
        { "gggg",  ERROR_UNSUPPORTED_IMAGE, "boxed too deep: after 3 boxes (gzip, zstd, tar) it is still gzip data" },
        { "tttt",  ERROR_UNSUPPORTED_IMAGE, "still a tar archive" },
        { "zTgO",  ERROR_UNSUPPORTED_IMAGE, "still zstd data" },
};

static void box_tar(struct buffer *content, char kind)
{
        struct buffer tar = { 0 };
        if (kind == 'T')
                tar_text(&tar, "README", "\x1f\x8b not gzip");
        tar_link(&tar, "folder/", '5', NULL);
        tar_link(&tar, "link", '2', "README");
        tar_file(&tar, kind == 'O' ? "filter.wasm" : "folder/plugin.wasm", content);
        tar_text(&tar, kind == 'O' ? "README" : "other.wasm", "text");
        if (kind != 'O')
                tar_text(&tar, "second/plugin.wasm", "text");
        tar_end(&tar);
        buffer_fini(content);
        *content = tar;
}

static void box(struct buffer *content, const char *boxes)
{
        for (; *boxes; boxes++)
                if (*boxes == 'g')
                        gzip_replace(content);
                else if (*boxes == 'z')
                        zstd_replace(content);
                else
                        box_tar(content, *boxes);
}

static void test_boxes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(buffer_fini) struct buffer module = { 0 }, content = { 0 };
                put_wasm(&module, MODULE_BYTES);
                put_wasm(&content, MODULE_BYTES);
                box(&content, rows[i].boxes);
                if (rows[i].code == ERROR_NONE)
                        expect_module(rows[i].boxes, AS_BODY, &content, &module);
                else
                        expect_refusal(rows[i].boxes, AS_BODY, &content, rows[i].code, rows[i].says);
        }
}

/* Text → boxes → what is said. */
static const struct { const char *name; const void *bytes; size_t size_bytes; const char *boxes; enum error_code code; const char *says; } refusals[] = {
        { "empty",           "",                              0, "",  ERROR_NOT_WASM, "empty" },
        { "gzip of nothing", "",                              0, "g", ERROR_NOT_WASM, "empty" },
        { "HTML",            "\r\n<!DOCTYPE HTML><p>404",    22, "",  ERROR_NOT_WASM, "an HTML page" },
        { "HTML in gzip",    "<html>",                        6, "g", ERROR_NOT_WASM, "an HTML page" },
        { "JSON",            "{\"error\":\"x\"}",            13, "",  ERROR_NOT_WASM, "JSON" },
        { "text",            "Not found",                     9, "",  ERROR_NOT_WASM, "it is text" },
        { "ELF",             "\x7f" "ELF\2\1\1",              7, "",  ERROR_NOT_WASM, "an ELF program" },
        { "zip",             "PK\3\4....",                    8, "",  ERROR_NOT_WASM, "a zip archive" },
        { "wat",             "(module)",                      8, "",  ERROR_NOT_WASM, "WebAssembly text" },
        { "component",       "\0asm\x0d\0\1\0xx",            10, "",  ERROR_NOT_WASM, "component" },
        { "component",       "\0asm\x0d\0\1\0xx",            10, "tg", ERROR_NOT_WASM, "component" },
        { "version 2",       "\0asm\2\0\0\0",                 8, "",  ERROR_NOT_WASM, "unknown version (02 00 00 00)" },
        { "two bytes",       "\0a",                           2, "",  ERROR_NOT_WASM, "truncated Wasm module: 2 bytes" },
        { "seven bytes",     "\0asm\1\0\0",                   7, "",  ERROR_NOT_WASM, "truncated Wasm module: 7 bytes" },
        { "binary",          "\1\2\3\4\5\6\7\10\11",          9, "",  ERROR_NOT_WASM, "unknown data" },
        { "gzip magic only", "\x1f\x8b",                      2, "",  ERROR_UPSTREAM_ERROR, "truncated" },
        { "zstd magic only", "\x28\xb5\x2f\xfd",              4, "",  ERROR_UPSTREAM_ERROR, "truncated" },
};

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(refusals); i++) {
                CLEANUP(buffer_fini) struct buffer content = { 0 };
                put(&content, refusals[i].bytes, refusals[i].size_bytes);
                box(&content, refusals[i].boxes);
                expect_refusal(refusals[i].name, AS_BODY, &content, refusals[i].code, refusals[i].says);
        }

        CLEANUP(buffer_fini) struct buffer tar = { 0 };
        tar_link(&tar, "a/", '5', NULL);
        tar_link(&tar, "b", '2', "a");
        tar_end(&tar);
        expect_refusal("no file", AS_BODY, &tar, ERROR_UNSUPPORTED_IMAGE, "no regular file");
}

static void test_limits(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer content = { 0 }, out = { 0 };
        struct unpack_limits limits = unpack_limits_default;
        struct error err = { 0 };
        put_wasm(&content, MODULE_BYTES);
        limits.module_max_bytes = MODULE_BYTES;
        assert_true(unpack_run_as(AS_BODY, &content, &limits, &out, &err));
        limits.module_max_bytes--;
        buffer_clear(&out);
        assert_false(unpack_run_as(AS_BODY, &content, &limits, &out, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);

        /* a bomb behind bombs: what each box makes counts together */
        buffer_clear(&content);
        put_wasm(&content, 8);
        put_zeros(&content, 64 << 20);
        gzip_replace(&content);
        gzip_replace(&content);
        expect_refusal("bomb in gzip in gzip", AS_BODY, &content, ERROR_TOO_LARGE, "200 times");
}

static const struct { const char *head; size_t head_bytes; uint64_t size_bytes; const char *says; } heads[] = {
        { "\0asm\1\0\0\0",      8, 8,    NULL },
        { "\0asm\1\0\0\0rest", 12, 5000, NULL },
        { "\0asm\x0d\0\1\0",    8, 5000, "component" },
        { "\0asm\x0c\0\1\0",    8, 5000, "unknown version" },
        { "\0asm",              4, 4,    "truncated" },
        { "",                   0, 0,    "empty" },
        { "\x1f\x8b\x08\0....", 8, 5000, "gzip data, not a Wasm module; push it with a tar+gzip media type" },
        { "\x28\xb5\x2f\xfd....", 8, 5000, "zstd data" },
        { "\x50\x2a\x4d\x18....", 8, 5000, "zstd data" },
        { "\0asn\1\0\0\0",      8, 8,    "unknown data" },
};

static void test_heads(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(heads); i++) {
                struct error err = { 0 };
                assert_int_equal(unpack_check_wasm(heads[i].head, heads[i].head_bytes, heads[i].size_bytes, &err), heads[i].says == NULL);
                if (!heads[i].says)
                        continue;
                print_message("%s\n", err.text);
                assert_int_equal(err.code, ERROR_NOT_WASM);
                assert_non_null(strstr(err.text, heads[i].says));
        }
        CLEANUP(buffer_fini) struct buffer tar = { 0 };
        struct error err = { 0 };
        tar_text(&tar, "plugin.wasm", "x");
        assert_false(unpack_check_wasm(tar.data, 512, tar.used, &err));
        assert_non_null(strstr(err.text, "a tar archive"));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_boxes), cmocka_unit_test(test_refusals), cmocka_unit_test(test_limits), cmocka_unit_test(test_heads) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
