#include "unpack_archives.h"

enum { MODULE_BYTES = 700001 };

/* ---- layouts that are accepted ([oci] 5.1) */
static void build_docker(struct buffer *out, const struct buffer *module)
{
        tar_file(out, "plugin.wasm", module);
        tar_end(out);
}

static void build_dot(struct buffer *out, const struct buffer *module)
{
        tar_link(out, "./", '5', NULL);
        tar_file(out, "./plugin.wasm", module);
        tar_text(out, "./runtime-config.json", "{}");
        tar_end(out);
        put_zeros(out, 10240 - out->used % 10240);
}

static void build_folder(struct buffer *out, const struct buffer *module)
{
        tar_link(out, "opt/", '5', NULL);
        tar_link(out, "opt/plugin.wasm/", '5', NULL);
        tar_text(out, "opt/not-plugin.wasm", "x");
        tar_text(out, "opt/plugin.wasm.sig", "x");
        tar_text(out, "opt/.wh.plugin.wasm", "");
        tar_link(out, "opt/link", '2', "../../etc/passwd");
        tar_file(out, "/opt/x/plugin.wasm", module);
        tar_end(out);
}

static void build_old_types(struct buffer *out, const struct buffer *module)
{
        tar_entry(out, (struct tar_entry){ .name = "a", .type = '\0', .bytes = "a", .size_bytes = 1 });
        tar_entry(out, (struct tar_entry){ .name = "plugin.wasm", .type = '7', .bytes = module->data, .size_bytes = module->used });
        tar_end(out);
}

static void build_pax(struct buffer *out, const struct buffer *module)
{
        char name[600];
        memset(name, 'd', sizeof name);
        memcpy(name + sizeof name - 13, "/plugin.wasm", 13);
        name[200] = '/';
        tar_entry(out, (struct tar_entry){ .name = "pax_global_header", .type = 'g', .bytes = "19 comment=somebody\n", .size_bytes = 20 });
        tar_pax(out, "path", name, strlen(name));
        tar_file(out, "short", module);
        tar_pax(out, "path", "gr\xc3\xbc\xc3\x9f" "e", 7);
        tar_text(out, "x", "y");
        tar_end(out);
}

static void build_gnu(struct buffer *out, const struct buffer *module)
{
        char name[400];
        memset(name, 'd', sizeof name);
        memcpy(name + sizeof name - 13, "/plugin.wasm", 13);
        tar_gnu_long(out, name);
        tar_file(out, "short", module);
        tar_end(out);
}

static void build_no_end(struct buffer *out, const struct buffer *module)
{
        tar_file(out, "plugin.wasm", module);
}

static const struct { const char *name; void (*build)(struct buffer *out, const struct buffer *module); } layouts[] = {
        { "docker", build_docker }, { "./plugin.wasm", build_dot }, { "folder", build_folder }, { "old types", build_old_types },
        { "pax names", build_pax }, { "GNU long names", build_gnu }, { "no end mark", build_no_end },
};

static void test_layouts(void **state)
{
        (void)state;
        static const size_t sizes[] = { 8, 9, 512, 513, MODULE_BYTES };
        for (size_t i = 0; i < COUNT_OF(layouts); i++)
                for (size_t s = 0; s < COUNT_OF(sizes); s++) {
                        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, gzip = { 0 }, zstd = { 0 };
                        put_wasm(&module, sizes[s]);
                        layouts[i].build(&tar, &module);
                        gzip_put(&gzip, tar.data, tar.used);
                        zstd_put(&zstd, tar.data, tar.used);
                        expect_module(layouts[i].name, UNPACK_PLAIN, &tar, &module);
                        expect_module(layouts[i].name, UNPACK_GZIP, &gzip, &module);
                        expect_module(layouts[i].name, UNPACK_ZSTD, &zstd, &module);
                        assert_int_equal(setenv("WASMCACHED_INFLATE", "zlib", 1), 0);
                        expect_module(layouts[i].name, UNPACK_GZIP, &gzip, &module);
                        assert_int_equal(unsetenv("WASMCACHED_INFLATE"), 0);
                }
}

/* estargz: one gzip member per header and per 64 KiB chunk, landmark first, TOC last. */
static void test_estargz(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, out = { 0 };
        put_wasm(&module, MODULE_BYTES);
        tar_text(&tar, ".no.prefetch.landmark", "\xf");
        tar_file(&tar, "plugin.wasm", &module);
        tar_text(&tar, "stargz.index.json", "{\"version\":1,\"entries\":[]}");
        tar_end(&tar);
        for (size_t at = 0, step = 1; at < tar.used; at += step, step = step < 65536 ? step * 3 : 512)
                gzip_put(&out, tar.data + at, tar.used - at < step ? tar.used - at : step);
        gzip_put(&out, "", 0);
        expect_module("estargz", UNPACK_GZIP, &out, &module);
        put_zeros(&out, 300000);
        expect_module("estargz with padding", UNPACK_GZIP, &out, &module);
}

/* zstd:chunked: many frames, skippable ones before, between and after. */
static void test_zstd_chunked(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, out = { 0 };
        put_wasm(&module, MODULE_BYTES);
        build_dot(&tar, &module);
        put(&out, "\x50\x2a\x4d\x18\x03\0\0\0abc", 11);
        for (size_t at = 0, step = 1; at < tar.used; at += step, step = step < 65536 ? step * 3 : 512) {
                zstd_put(&out, tar.data + at, tar.used - at < step ? tar.used - at : step);
                put(&out, "\x5f\x2a\x4d\x18\0\0\0\0", 8);
        }
        put(&out, "\x51\x2a\x4d\x18\0\0\x05\0", 8);
        put_zeros(&out, 0x50000);
        expect_module("zstd:chunked", UNPACK_ZSTD, &out, &module);
        out.used--;
        expect_refusal("skippable frame cut", UNPACK_ZSTD, &out, ERROR_UPSTREAM_ERROR, "truncated");
}

/* ---- refusals: what a plain tar holds → code and words; the same in gzip must say the same */
static void hostile_none(struct buffer *out) { tar_text(out, "a", "1"); tar_text(out, "b", "2"); tar_end(out); }
static void hostile_empty(struct buffer *out) { tar_end(out); }
static void hostile_symlink(struct buffer *out) { tar_link(out, "plugin.wasm", '2', "/etc/passwd"); tar_end(out); }
static void hostile_hardlink(struct buffer *out) { tar_text(out, "a", "1"); tar_link(out, "x/plugin.wasm", '1', "a"); tar_end(out); }
static void hostile_device(struct buffer *out) { tar_link(out, "plugin.wasm", '3', NULL); tar_end(out); }
static void hostile_fifo(struct buffer *out) { tar_link(out, "plugin.wasm", '6', NULL); tar_end(out); }
static void hostile_parent(struct buffer *out) { tar_text(out, "a/../plugin.wasm", "1"); tar_end(out); }
static void hostile_parent_other(struct buffer *out) { tar_text(out, "..", "1"); tar_end(out); }
static void hostile_component(struct buffer *out) { struct buffer b = { 0 }; put(&b, "\0asm\x0d\0\1\0", 8); tar_file(out, "plugin.wasm", &b); tar_end(out); buffer_fini(&b); }
static void hostile_content(struct buffer *out) { tar_text(out, "plugin.wasm", "<html><body>no"); tar_end(out); }
static void hostile_content_empty(struct buffer *out) { tar_text(out, "plugin.wasm", ""); tar_end(out); }
static void hostile_content_short(struct buffer *out) { struct buffer b = { 0 }; put_wasm(&b, 7); tar_file(out, "plugin.wasm", &b); tar_end(out); buffer_fini(&b); }
static void hostile_truncated(struct buffer *out) { struct buffer b = { 0 }; put_wasm(&b, 5000); build_docker(out, &b); out->used = 3000; buffer_fini(&b); }
static void hostile_truncated_header(struct buffer *out) { struct buffer b = { 0 }; put_wasm(&b, 5000); build_docker(out, &b); out->used = 512 + 5120 + 100; buffer_fini(&b); }
static void hostile_claim(struct buffer *out) { tar_header(out, &(struct tar_entry){ .name = "plugin.wasm", .type = '0', .claim_bytes = 077777777777 }); put_wasm(out, 5000); }
static void hostile_claim_other(struct buffer *out) { tar_header(out, &(struct tar_entry){ .name = "z", .type = '0', .claim_bytes = 077777777777 }); put_wasm(out, 5000); }

static void hostile_truncated_other(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        tar_file(out, "plugin.wasm", &module);
        tar_file(out, "z", &module);
        out->used -= 1000;
}

static void hostile_header(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 500);
        tar_file(out, "plugin.wasm", &module);
        tar_text(out, "z", "1");
        out->data[1030] ^= 1;
}

static void hostile_second(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        tar_file(out, "a/plugin.wasm", &module);
        tar_file(out, "b/plugin.wasm", &module);
        tar_end(out);
}

static void hostile_name(struct buffer *out)
{
        char name[5000];
        memset(name, 'n', sizeof name);
        tar_pax(out, "path", name, sizeof name);
        tar_text(out, "x", "1");
        tar_end(out);
}

static void hostile_pax(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer value = { 0 };
        put_zeros(&value, 8 << 20);
        memset(value.data, 'p', value.used);
        tar_pax(out, "path", value.data, value.used);
        tar_text(out, "x", "1");
        tar_end(out);
}

static void hostile_pax_sparse(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        CLEANUP(buffer_fini) struct buffer records = { 0 };
        pax_record(&records, "GNU.sparse.major", "1", 1);
        pax_record(&records, "GNU.sparse.minor", "0", 1);
        pax_record(&records, "GNU.sparse.name", "plugin.wasm", 11);
        pax_record(&records, "GNU.sparse.realsize", "9999", 4);
        tar_pax_records(out, &records);
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        put(&body, "1\n4999\n5000\n", 12);
        put_zeros(&body, 500);
        put(&body, module.data, module.used);
        tar_file(out, "GNUSparseFile.0/plugin.wasm", &body);
        tar_end(out);
}

/* A record whose length is not its own. */
static void hostile_pax_length(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer records = { 0 }, module = { 0 };
        put_wasm(&module, 5000);
        put(&records, "99 path=plugin.wasm\n", 20);
        tar_pax_records(out, &records);
        tar_file(out, "plugin.wasm", &module);
        tar_end(out);
}

/* Readers disagree on what a sparse file without a map is: empty, broken, or a file like any other. */
static void hostile_sparse_old(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        tar_text(out, "first", "1");
        tar_entry(out, (struct tar_entry){ .name = "plugin.wasm", .type = 'S', .bytes = module.data, .size_bytes = module.used });
        tar_end(out);
}

static void hostile_type(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        tar_pax(out, "path", "dir/plugin.wasm", 15);
        tar_entry(out, (struct tar_entry){ .name = "x", .type = 'Z', .bytes = module.data, .size_bytes = module.used });
        tar_end(out);
}

static void hostile_truncated_text(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        put_zeros(&text, 100000);
        memset(text.data, 't', text.used);
        tar_file(out, "plugin.wasm", &text);
        out->used = 5512;
}

static void hostile_nested(struct buffer *out)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, 5000);
        gzip_replace(&module);
        tar_file(out, "plugin.wasm", &module);
        tar_end(out);
}

static void hostile_wasm(struct buffer *out) { put_wasm(out, 5000); }
static void hostile_text(struct buffer *out) { put(out, "just some text", 14); }

static const struct { const char *name; void (*build)(struct buffer *out); enum error_code code; const char *says; } hostiles[] = {
        { "none",                 hostile_none,             ERROR_UNSUPPORTED_IMAGE, "no plugin.wasm among its 2 entries (a, b)" },
        { "empty archive",        hostile_empty,            ERROR_UNSUPPORTED_IMAGE, "its tar archive is empty" },
        { "two",                  hostile_second,           ERROR_UNSUPPORTED_IMAGE, "more than one plugin.wasm" },
        { "symlink",              hostile_symlink,          ERROR_UNSUPPORTED_IMAGE, "link or device" },
        { "hardlink",             hostile_hardlink,         ERROR_UNSUPPORTED_IMAGE, "link or device" },
        { "device",               hostile_device,           ERROR_UNSUPPORTED_IMAGE, "link or device" },
        { "fifo",                 hostile_fifo,             ERROR_UNSUPPORTED_IMAGE, "link or device" },
        { "..",                   hostile_parent,           ERROR_UNSUPPORTED_IMAGE, "\"..\" in its name" },
        { ".. alone",             hostile_parent_other,     ERROR_UNSUPPORTED_IMAGE, "\"..\" in its name" },
        { "component",            hostile_component,        ERROR_NOT_WASM,          "component" },
        { "HTML",                 hostile_content,          ERROR_NOT_WASM,          "an HTML page" },
        { "empty file",           hostile_content_empty,    ERROR_NOT_WASM,          "empty" },
        { "seven bytes",          hostile_content_short,    ERROR_NOT_WASM,          "truncated" },
        { "cut in the module",    hostile_truncated,        ERROR_UPSTREAM_ERROR,    "truncated" },
        { "cut in a header",      hostile_truncated_header, ERROR_UPSTREAM_ERROR,    "truncated" },
        { "cut after the module", hostile_truncated_other,  ERROR_UPSTREAM_ERROR,    "truncated" },
        { "broken header",        hostile_header,           ERROR_UPSTREAM_ERROR,    "corrupt" },
        { "huge claim",           hostile_claim,            ERROR_TOO_LARGE,         "8589934591" },
        { "huge claim, other",    hostile_claim_other,      ERROR_UPSTREAM_ERROR,    "truncated" },
        { "long name",            hostile_name,             ERROR_UNSUPPORTED_IMAGE, "name of 5000 bytes" },
        { "pax sparse",           hostile_pax_sparse,       ERROR_UNSUPPORTED_IMAGE, "sparse" },
        { "pax of a wrong length", hostile_pax_length,      ERROR_UPSTREAM_ERROR,    "malformed" },
        { "GNU sparse",           hostile_sparse_old,       ERROR_UNSUPPORTED_IMAGE, "type \"S\"" },
        { "unknown type",         hostile_type,             ERROR_UNSUPPORTED_IMAGE, "type \"Z\"" },
        { "text, cut",            hostile_truncated_text,   ERROR_UPSTREAM_ERROR,    "truncated" },
        { "gzip in tar",          hostile_nested,           ERROR_NOT_WASM,          "gzip data" },
        { "bare module",          hostile_wasm,             ERROR_UNSUPPORTED_IMAGE, "WebAssembly; push a bare module as application/wasm" },
        { "text",                 hostile_text,             ERROR_UNSUPPORTED_IMAGE, "text" },
};

static void test_hostile(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(hostiles); i++) {
                CLEANUP(buffer_fini) struct buffer tar = { 0 };
                hostiles[i].build(&tar);
                expect_refusal(hostiles[i].name, UNPACK_PLAIN, &tar, hostiles[i].code, hostiles[i].says);
                gzip_replace(&tar);
                expect_refusal(hostiles[i].name, UNPACK_GZIP, &tar, hostiles[i].code, hostiles[i].says);
        }
}

/* Too much in one header: by size of the record, and by libarchive's own limit. */
static void test_headers(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer tar = { 0 };
        struct error err = { 0 };
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        hostile_pax(&tar);
        assert_false(unpack_run_as(UNPACK_PLAIN, &tar, &unpack_limits_default, &out, &err));
        print_message("%s\n", err.text);
        assert_true(err.code == ERROR_TOO_LARGE || err.code == ERROR_UPSTREAM_ERROR);

        buffer_clear(&tar);
        for (int i = 0; i < 4000; i++)
                tar_entry(&tar, (struct tar_entry){ .name = "g", .type = 'g', .bytes = "19 comment=somebody\n", .size_bytes = 20 });
        build_docker(&tar, &(struct buffer){ .data = (char *)(uintptr_t)"\0asm\1\0\0\0", .used = 8 });
        assert_false(unpack_run_as(UNPACK_PLAIN, &tar, &unpack_limits_default, &out, &err));
        print_message("%s\n", err.text);
}

static void test_box(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, gzip = { 0 }, zstd = { 0 }, empty = { 0 };
        put_wasm(&module, 5000);
        build_docker(&tar, &module);
        gzip_put(&gzip, tar.data, tar.used);
        zstd_put(&zstd, tar.data, tar.used);
        expect_refusal("plain as gzip", UNPACK_GZIP, &tar, ERROR_UNSUPPORTED_IMAGE, "promises a tar archive in gzip, but it is a tar archive");
        expect_refusal("plain as zstd", UNPACK_ZSTD, &tar, ERROR_UNSUPPORTED_IMAGE, "promises a tar archive in zstd");
        expect_module("gzip as plain", UNPACK_PLAIN, &gzip, &module);
        expect_refusal("gzip as zstd", UNPACK_ZSTD, &gzip, ERROR_UNSUPPORTED_IMAGE, "but it is gzip data");
        expect_refusal("zstd as gzip", UNPACK_GZIP, &zstd, ERROR_UNSUPPORTED_IMAGE, "but it is zstd data");
        expect_module("zstd as plain", UNPACK_PLAIN, &zstd, &module);
        expect_refusal("empty", UNPACK_GZIP, &empty, ERROR_UNSUPPORTED_IMAGE, "but it is empty");
        gzip_replace(&gzip);
        expect_refusal("gzip twice", UNPACK_GZIP, &gzip, ERROR_UNSUPPORTED_IMAGE, "but what is compressed in it is gzip data");
        expect_refusal("gzip twice as plain", UNPACK_PLAIN, &gzip, ERROR_UNSUPPORTED_IMAGE, "but what is compressed in it is gzip data");
}

static void test_damage(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, gzip = { 0 }, zstd = { 0 };
        put_wasm(&module, 50000);
        build_docker(&tar, &module);
        gzip_put(&gzip, tar.data, tar.used);
        zstd_put(&zstd, tar.data, tar.used);
        for (int engine = 0; engine < 2; engine++) {
                if (engine == 1)
                        setenv("WASMCACHED_INFLATE", "zlib", 1);
                put(&gzip, "x", 1);
                expect_refusal("garbage", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "garbage after its last member");
                gzip.data[gzip.used - 1] = '\0';
                put(&gzip, "\0\x1f", 2);
                expect_refusal("member after padding", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "garbage after its last member");
                gzip.used -= 3;
                gzip.data[gzip.used - 1] ^= 1;
                expect_refusal("length", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "checksum or length");
                gzip.data[gzip.used - 1] ^= 1;
                gzip.data[gzip.used - 5] ^= 1;
                expect_refusal("checksum", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "checksum or length");
                gzip.data[gzip.used - 5] ^= 1;
                for (size_t cut = 1; cut <= 8; cut++) {
                        gzip.used -= cut;
                        expect_refusal("trailer cut", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "truncated");
                        gzip.used += cut;
                }
                put(&gzip, "\x1f\x8b\x08\0", 4);
                expect_refusal("second member cut", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "truncated");
                gzip.used -= 4;
                put(&gzip, "\x1f\x8b\x09\0\0\0\0\0\0\0\0\0", 12);
                expect_refusal("second member's method", UNPACK_GZIP, &gzip, ERROR_UPSTREAM_ERROR, "bad header");
                gzip.used -= 12;
        }
        unsetenv("WASMCACHED_INFLATE");
        put(&zstd, "x", 1);
        expect_refusal("zstd garbage", UNPACK_ZSTD, &zstd, ERROR_UPSTREAM_ERROR, "");
        zstd.used -= 2;
        expect_refusal("zstd cut", UNPACK_ZSTD, &zstd, ERROR_UPSTREAM_ERROR, "truncated");
        zstd.used++;
        put(&zstd, "garbage!", 8);
        expect_refusal("zstd garbage", UNPACK_ZSTD, &zstd, ERROR_UPSTREAM_ERROR, "corrupt");
}

static void test_limits(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, out = { 0 };
        struct unpack_limits limits = unpack_limits_default;
        struct error err = { 0 };
        put_wasm(&module, 5000);

        for (int i = 0; i < 9; i++)
                tar_text(&tar, "x", "1");
        build_docker(&tar, &module);
        limits.tar_entries_max = 10;
        assert_true(unpack_run_as(UNPACK_PLAIN, &tar, &limits, &out, &err));
        limits.tar_entries_max = 9;
        assert_false(unpack_run_as(UNPACK_PLAIN, &tar, &limits, &out, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        assert_non_null(strstr(err.text, "more than 9 entries"));

        limits = unpack_limits_default;
        limits.module_max_bytes = 5000;
        assert_true(unpack_run_as(UNPACK_PLAIN, &tar, &limits, &out, &err));
        limits.module_max_bytes = 4999;
        assert_false(unpack_run_as(UNPACK_PLAIN, &tar, &limits, &out, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        assert_non_null(strstr(err.text, "4999"));

        limits = unpack_limits_default;
        limits.expanded_max_bytes = tar.used;
        gzip_replace(&tar);
        assert_true(unpack_run_as(UNPACK_GZIP, &tar, &limits, &out, &err));
        limits.expanded_max_bytes--;
        assert_false(unpack_run_as(UNPACK_GZIP, &tar, &limits, &out, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        print_message("%s\n", err.text);
}

static void bomb_build(struct buffer *out, const char *name)
{
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        put_wasm(&content, 8);
        put_zeros(&content, 20 << 20);
        tar_file(out, name, &content);
        tar_end(out);
}

static void test_bombs(void **state)
{
        (void)state;
        static const char *const names[] = { "plugin.wasm", "other" };
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                CLEANUP(buffer_fini) struct buffer tar = { 0 }, gzip = { 0 }, zstd = { 0 };
                bomb_build(&tar, names[i]);
                gzip_put(&gzip, tar.data, tar.used);
                zstd_put(&zstd, tar.data, tar.used);
                expect_refusal("gzip bomb", UNPACK_GZIP, &gzip, ERROR_TOO_LARGE, "200 times");
                expect_refusal("zstd bomb", UNPACK_ZSTD, &zstd, ERROR_TOO_LARGE, "200 times");
        }

        /* a window of 256 MiB: refused by its header, before it is allocated */
        CLEANUP(buffer_fini) struct buffer window = { 0 };
        put(&window, "\x28\xb5\x2f\xfd\0\x90\x01\0\0", 9);
        expect_refusal("window", UNPACK_ZSTD, &window, ERROR_TOO_LARGE, "window");
}

static bool sink_fail(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        (void)sink, (void)bytes, (void)size_bytes;
        return refuse(err, ERROR_STORE_FULL, "no room");
}

static void test_sink_and_cancel(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 };
        CLEANUP(cancel_free) struct cancel *cancel = cancel_new();
        struct sink sink = { .write = sink_fail };
        struct error err = { 0 };
        put_wasm(&module, 5000);
        build_docker(&tar, &module);
        gzip_replace(&tar);
        struct unpack_source source = source_open(&tar);

        assert_false(unpack_layer(&source, UNPACK_GZIP, &unpack_limits_default, cancel, &sink, &err));
        assert_int_equal(err.code, ERROR_STORE_FULL);
        cancel_trigger(cancel);
        assert_false(unpack_layer(&source, UNPACK_GZIP, &unpack_limits_default, cancel, &sink, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        assert_false(unpack_body(&source, &unpack_limits_default, cancel, &sink, &err));
        assert_int_equal(err.code, ERROR_BUSY);

        source.size_bytes++;
        assert_false(unpack_layer(&source, UNPACK_GZIP, &unpack_limits_default, NULL, &sink, &err));
        assert_int_equal(err.code, ERROR_INTERNAL);
        close(source.fd);
        source.fd = -1;
        assert_false(unpack_layer(&source, UNPACK_GZIP, &unpack_limits_default, NULL, &sink, &err));
        assert_int_equal(err.code, ERROR_INTERNAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_layouts), cmocka_unit_test(test_estargz), cmocka_unit_test(test_zstd_chunked), cmocka_unit_test(test_hostile), cmocka_unit_test(test_headers),
                cmocka_unit_test(test_box), cmocka_unit_test(test_damage), cmocka_unit_test(test_limits), cmocka_unit_test(test_bombs), cmocka_unit_test(test_sink_and_cancel),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
