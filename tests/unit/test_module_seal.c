/* Seals: nothing of what they are about can be changed, moved or made by whoever has not the store's secret. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../agent/module/seal.h"

static struct secret *ours, *theirs;

static struct digest digest_of(const char *text)
{
        struct digest digest;
        digest_sha256(text, strlen(text), &digest);
        return digest;
}

static struct store_image image_of(const char *name)
{
        char text[64];
        struct store_image image = { .media_type = "application/a", .layer_type = "application/b", .document = "{}" };
        struct digest *parts[] = { &image.manifest, &image.top, &image.module, &image.layer };
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
                snprintf(text, sizeof text, "%s %zu", name, i);
                *parts[i] = digest_of(text);
        }
        seal_image(ours, &image);
        return image;
}

static void test_image(void **state)
{
        struct store_image image = image_of("a"), other = image_of("b");
        (void)state;
        assert_true(seal_image_is_good(ours, &image));
        assert_false(seal_image_is_good(theirs, &image));
        struct store_image again = image_of("a");
        assert_true(digest_equal(&image.seal, &again.seal));

        /* Every byte of every digest, the algorithm, none at all, the other's; the seal itself. */
        struct digest *parts[] = { &image.manifest, &image.top, &image.module, &image.layer, &image.seal };
        const struct digest *others[] = { &other.manifest, &other.top, &other.module, &other.layer, &other.seal };
        for (size_t i = 0; i < COUNT_OF(parts); i++) {
                struct digest was = *parts[i];
                for (size_t bit = 0; bit < 8 * DIGEST_SHA256_BYTES; bit++) {
                        parts[i]->bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        assert_false(seal_image_is_good(ours, &image));
                        *parts[i] = was;
                }
                const struct digest replaced[] = { { 0 }, *others[i], { .algorithm = DIGEST_SHA512 }, image.manifest, image.module };
                for (size_t j = 0; j < COUNT_OF(replaced); j++) {
                        *parts[i] = replaced[j];
                        assert_int_equal(seal_image_is_good(ours, &image), digest_equal(&replaced[j], &was));
                        *parts[i] = was;
                }
                parts[i]->algorithm = DIGEST_SHA512;
                assert_false(seal_image_is_good(ours, &image));
                parts[i]->algorithm = DIGEST_NONE;
                assert_false(seal_image_is_good(ours, &image));
                *parts[i] = was;
        }
        /* Two texts are two parts: nothing moves from one to the other. */
        static const struct { const char *media_type, *layer_type; } types[] = {
                { "application/", "aapplication/b" }, { "application/aapplication/b", "" }, { "", "application/aapplication/b" }, { NULL, NULL }, { "application/b", "application/a" },
        };
        for (size_t i = 0; i < COUNT_OF(types); i++) {
                struct store_image moved = image;
                moved.media_type = types[i].media_type;
                moved.layer_type = types[i].layer_type;
                assert_false(seal_image_is_good(ours, &moved));
        }
        image.document = "something else";        /* says nothing: its own digest is the manifest */
        assert_true(seal_image_is_good(ours, &image));
}

/* The seal of one row copied into another, with or without the rest. */
static void test_moved(void **state)
{
        struct store_image one = image_of("a"), two = image_of("b"), mixed;
        (void)state;
        mixed = one;
        mixed.module = two.module;
        assert_false(seal_image_is_good(ours, &mixed));
        mixed.seal = two.seal;
        assert_false(seal_image_is_good(ours, &mixed));
        mixed.layer = two.layer;
        assert_false(seal_image_is_good(ours, &mixed));
        mixed.manifest = two.manifest;
        assert_false(seal_image_is_good(ours, &mixed));        /* below the index of another */
        mixed.top = two.top;
        assert_true(seal_image_is_good(ours, &mixed));
}

static void test_content(void **state)
{
        struct trust_content content = { 0 }, found;
        struct digest module = digest_of("module"), other = digest_of("other");
        CLEANUP(buffer_fini) struct buffer body = { 0 }, moved = { 0 };
        (void)state;
        trust_content_fill(&content, "packed", 6);
        content.challenge_count = 3;
        seal_content(ours, &module, &content, &body);
        struct store_evidence row = { .target = module, .kind = "packed-body", .body = body.data, .body_bytes = body.used };
        assert_true(seal_content_open(ours, &row, &found));
        assert_memory_equal(&found, &content, sizeof content);
        assert_false(seal_content_open(theirs, &row, &found));
        for (size_t bit = 0; bit < 8 * body.used; bit += bit < 64 * 8 ? 1 : 7) {
                body.data[bit / 8] = (char)(body.data[bit / 8] ^ 1 << bit % 8);
                assert_false(seal_content_open(ours, &row, &found));
                body.data[bit / 8] = (char)(body.data[bit / 8] ^ 1 << bit % 8);
        }
        row.target = other;
        assert_false(seal_content_open(ours, &row, &found));
        row.target.algorithm = DIGEST_NONE;
        assert_false(seal_content_open(ours, &row, &found));
        row.target = module;
        for (size_t size = 0; size < body.used; size += 13) {
                row.body_bytes = size;
                assert_false(seal_content_open(ours, &row, &found));
        }
        buffer_append(&body, "x", 1);
        row.body = body.data;
        row.body_bytes = body.used;
        assert_false(seal_content_open(ours, &row, &found));
        row.body_bytes--;
        assert_true(seal_content_open(ours, &row, &found));

        /* The front of one and the rest of another. */
        content.sha256[0] ^= 1;
        seal_content(ours, &module, &content, &moved);
        memcpy(moved.data, body.data, DIGEST_SHA256_BYTES);
        row.body = moved.data;
        assert_false(seal_content_open(ours, &row, &found));
}

/* A seal of one kind is none of the other, whatever bytes they are over. */
static void test_kinds(void **state)
{
        struct store_image image = image_of("a");
        struct trust_content found;
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        struct trust_content content = { 0 };
        (void)state;
        buffer_append(&body, image.seal.bytes, DIGEST_SHA256_BYTES);
        buffer_append(&body, &content, sizeof content);
        struct store_evidence row = { .target = image.module, .kind = "packed-body", .body = body.data, .body_bytes = body.used };
        assert_false(seal_content_open(ours, &row, &found));
}

static int setup(void **state)
{
        (void)state;
        ours = secret_new("0123456789abcdef0123456789abcdef", 32);
        theirs = secret_new("0123456789abcdef0123456789abcdeg", 32);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        secret_free(&ours);
        secret_free(&theirs);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_image), cmocka_unit_test(test_moved), cmocka_unit_test(test_content), cmocka_unit_test(test_kinds) };
        return cmocka_run_group_tests(tests, setup, teardown);
}
