/* What the config of an image says about a layer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/registry.h>

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

/* config, layers of the image, number of the layer asked about → digest, "" = says nothing, NULL = refused */
static const struct { const char *config; size_t layers, layer; const char *digest; enum error_code code; } rows[] = {
        { "{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:" A "\"]}}", 1, 0, "sha256:" A, ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha256:" A "\",\"sha256:" B "\"]}}", 2, 0, "sha256:" A, ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha256:" A "\",\"sha256:" B "\"]}}", 2, 1, "sha256:" B, ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha512:" A B "\"]}}", 1, 0, "sha512:" A B, ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha256:" A "\"]}}", 2, 0, "", ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[]}}", 1, 0, "", ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":{}}}", 1, 0, "", ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":null}}", 1, 0, "", ERROR_NONE },
        { "{\"rootfs\":[]}", 1, 0, "", ERROR_NONE },
        { "{\"history\":[]}", 1, 0, "", ERROR_NONE },
        { "[]", 1, 0, "", ERROR_NONE },
        { "", 1, 0, "", ERROR_NONE },
        { "\"text\"", 1, 0, "", ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha256:" A "\"]}", 1, 0, "", ERROR_NONE },
        { "{\"rootfs\":{\"diff_ids\":[\"sha256:" A "\",\"sha256:" B "\"]}}", 1, 0, NULL, ERROR_UNSUPPORTED_IMAGE },
        { "{\"rootfs\":{\"diff_ids\":[\"" A "\"]}}", 1, 0, NULL, ERROR_CHECKSUM_MISMATCH },
        { "{\"rootfs\":{\"diff_ids\":[\"md5:" A "\"]}}", 1, 0, NULL, ERROR_CHECKSUM_MISMATCH },
        { "{\"rootfs\":{\"diff_ids\":[7]}}", 1, 0, NULL, ERROR_CHECKSUM_MISMATCH },
        { "{\"rootfs\":{\"diff_ids\":[null]}}", 1, 0, NULL, ERROR_CHECKSUM_MISMATCH },
};

static void test_find(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct descriptor items[2] = { 0 };
                struct manifest image = { .items = items, .item_count = rows[i].layers };
                struct buffer config = { .data = (char *)(uintptr_t)rows[i].config, .used = strlen(rows[i].config) };
                struct digest digest;
                struct error err = { 0 };
                char text[DIGEST_TEXT_BYTES] = "";
                print_message("%s\n", rows[i].config);
                assert_int_equal(image_config_find_diff_id(&config, &image, &items[rows[i].layer], &digest, &err), rows[i].digest != NULL);
                assert_int_equal(err.code, rows[i].code);
                if (rows[i].digest && digest_is_set(&digest))
                        digest_format(&digest, text);
                assert_string_equal(text, rows[i].digest ? rows[i].digest : "");
        }
}

static void test_wanted(void **state)
{
        (void)state;
        static const struct { const char *type; uint64_t size_bytes; bool is_wanted; } cases[] = {
                { "application/vnd.oci.image.config.v1+json", 500, true },       { "application/vnd.docker.container.image.v1+json", 500, true },
                { "Application/vnd.OCI.image.config.v1+json", 97, true },        { "application/vnd.oci.image.config.v1+json", 96, false },
                { "application/vnd.oci.image.config.v1+json", 2, false },        { "application/vnd.module.wasm.config.v1+json", 500, false },
                { "application/vnd.oci.empty.v1+json", 500, false },             { "application/vnd.wasm.config.v0+json", 500, false },
                { "", 500, false },                                              { NULL, 500, false },
        };
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct manifest image = { .config = { .media_type = (char *)(uintptr_t)cases[i].type, .size_bytes = cases[i].size_bytes } };
                assert_int_equal(image_config_is_wanted(&image), cases[i].is_wanted);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_find), cmocka_unit_test(test_wanted) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
