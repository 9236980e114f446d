/* An archive that has to be what the image's config says, whatever it is packed in, with and without the thread that hashes it. */
#include "unpack_archives.h"

static bool unpack_proved(int box, const struct buffer *content, const struct digest *expanded, struct buffer *ret_module, struct error *err)
{
        struct sink_buffer sink;
        struct unpack_source source = source_open(content);
        source.expanded = expanded;
        sink_buffer_init(&sink, ret_module, "module");
        bool good = unpack_layer(&source, (enum unpack_box)box, &unpack_limits_default, NULL, &sink.sink, err);
        close(source.fd);
        return good;
}

static struct digest digest_of(enum digest_algorithm algorithm, const void *bytes, size_t size_bytes)
{
        struct digest digest;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(algorithm);
        hasher_update(hasher, bytes, size_bytes);
        hasher_finish(hasher, &digest);
        return digest;
}

static void check(int box, const struct buffer *layer, const struct digest *expanded, const struct buffer *module_or_null)
{
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct error err = { 0 };
        bool good = unpack_proved(box, layer, expanded, &out, &err);
        assert_int_equal(good, module_or_null != NULL);
        if (!good) {
                assert_int_equal(err.code, ERROR_CHECKSUM_MISMATCH);
                assert_non_null(strstr(err.text, "diff_ids"));
        } else {
                assert_int_equal(out.used, module_or_null->used);
                assert_memory_equal(out.data, module_or_null->data, out.used);
        }
}

/* Bytes of the module; those after the end of the archive, which belong to it all the same. */
static const struct { size_t module, after; } sizes[] = { { 8, 0 }, { 5000, 512 }, { 300000, 0 }, { 3000001, 100000 } };

static void test_proof(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(sizes) * 2; i++) {
                size_t row = i / 2;
                CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, gzip = { 0 }, zstd = { 0 };
                fault_arm("unpack.thread", i % 2);
                put_wasm(&module, sizes[row].module);
                tar_text(&tar, "etc/motd", "hello");
                tar_file(&tar, "plugin.wasm", &module);
                tar_text(&tar, "etc/issue", "hello");
                tar_end(&tar);
                put_zeros(&tar, sizes[row].after);
                gzip_put(&gzip, tar.data, tar.used);
                zstd_put(&zstd, tar.data, tar.used);
                const struct buffer *layers[] = { [UNPACK_PLAIN] = &tar, [UNPACK_GZIP] = &gzip, [UNPACK_ZSTD] = &zstd };
                for (int box = UNPACK_PLAIN; box <= UNPACK_ZSTD; box++) {
                        struct digest good = digest_of(DIGEST_SHA256, tar.data, tar.used), good512 = digest_of(DIGEST_SHA512, tar.data, tar.used);
                        struct digest cut = digest_of(DIGEST_SHA256, tar.data, tar.used - 1), packed = digest_of(DIGEST_SHA256, gzip.data, gzip.used);
                        check(box, layers[box], &good, &module);
                        check(box, layers[box], &good512, &module);
                        check(box, layers[box], &cut, NULL);
                        check(box, layers[box], &packed, NULL);
                }
        }
        fault_arm("unpack.thread", 0);
}

/* What fails on the way leaves no thread behind, and says what it would say without a proof. */
static void test_failure_on_the_way(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer module = { 0 }, tar = { 0 }, gzip = { 0 }, out = { 0 };
        struct error err = { 0 };
        put_wasm(&module, 2000000);
        tar_file(&tar, "plugin.wasm", &module);
        tar_file(&tar, "opt/plugin.wasm", &module);
        tar_end(&tar);
        gzip_put(&gzip, tar.data, tar.used);
        struct digest good = digest_of(DIGEST_SHA256, tar.data, tar.used);
        assert_false(unpack_proved(UNPACK_GZIP, &gzip, &good, &out, &err));
        assert_int_equal(err.code, ERROR_UNSUPPORTED_IMAGE);
        gzip.used -= 1000;
        assert_false(unpack_proved(UNPACK_GZIP, &gzip, &good, &out, &err));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_proof), cmocka_unit_test(test_failure_on_the_way) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
