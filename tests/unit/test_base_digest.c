/* Digests, hashes, hex and base64. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <stdio.h>
#include <wasmcached/base.h>

#define HEX_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HEX_ABC_512 "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"

/* What the error says; NULL = taken */
static const struct { const char *text, *says; } texts[] = {
        { "sha256:" HEX_EMPTY, NULL }, { "sha512:" HEX_ABC_512, NULL },
        { "", "is no digest" }, { "sha256", "is no digest" }, { HEX_EMPTY, "is no digest" }, { "sha256:", "0 hex digits instead of 64" }, { "sha256:" HEX_EMPTY "0", "65 hex digits" },
        { "sha256:" HEX_ABC_512, "128 hex digits" }, { "sha512:" HEX_EMPTY, "64 hex digits instead of 128" }, { "SHA256:" HEX_EMPTY, "unsupported" }, { "md5:d41d8cd98f00b204e9800998ecf8427e", "unsupported" },
        { "sha256:E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "characters other" },
        { "sha256:g3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "characters other" },
        { "sha256: 3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "characters other" },
        { "sha256:../../../../etc/passwd", "22 hex digits" }, { "x\x1b:y", "\\x1b" },
};

static void test_parse(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                struct digest digest = { 0 };
                struct error err = { 0 };
                char text[DIGEST_TEXT_BYTES];
                bool is_read = digest_parse(texts[i].text, strlen(texts[i].text), ERROR_BAD_URL, &digest, &err);
                assert_int_equal(is_read, !texts[i].says);
                assert_int_equal(digest_is_set(&digest), is_read);
                if (!is_read) {
                        assert_int_equal(err.code, ERROR_BAD_URL);
                        assert_non_null(strstr(err.text, texts[i].says));
                        continue;
                }
                digest_format(&digest, text);
                assert_string_equal(text, texts[i].text);
        }
        struct digest digest = { 0 }, same = { 0 };
        struct error err;
        assert_true(digest_parse("sha256:" HEX_EMPTY "rest", 71, ERROR_BAD_URL, &digest, &err));
        assert_true(digest_parse_hex(HEX_EMPTY, &same));
        assert_true(digest_equal(&digest, &same));
        assert_memory_equal(&digest, &same, sizeof same);
        assert_false(digest_parse_hex("sha256:" HEX_EMPTY, &same));
        assert_false(digest_parse_hex("E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", &same));
        assert_false(digest_parse_hex("", &same));
        assert_false(digest_equal(&digest, &(struct digest){ 0 }));
        same.bytes[31] ^= 1;
        assert_false(digest_equal(&digest, &same));
        char none[DIGEST_TEXT_BYTES];
        digest_format(&(struct digest){ 0 }, none);
        assert_string_equal(none, "");
}

static void test_hash(void **state)
{
        (void)state;
        struct digest whole, pieces;
        char hex[DIGEST_TEXT_BYTES];
        digest_sha256("", 0, &whole);
        digest_format_hex(&whole, hex);
        assert_string_equal(hex, HEX_EMPTY);
        struct hasher *hasher = hasher_new(DIGEST_SHA512);
        for (int turn = 0; turn < 2; turn++) {
                hasher_update(hasher, "a", 1);
                hasher_update(hasher, "", 0);
                hasher_update(hasher, "bc", 2);
                hasher_finish(hasher, &pieces);
                digest_format_hex(&pieces, hex);
                assert_string_equal(hex, HEX_ABC_512);
                hasher_reset(hasher);
        }
        hasher_free(&hasher);
        hasher_free(&hasher);
        assert_null(hasher);
        /* What was put so far, any number of times, without an end. */
        hasher = hasher_new(DIGEST_SHA256);
        hasher_peek(hasher, &pieces);
        assert_true(digest_equal(&whole, &pieces));
        hasher_update(hasher, "a", 1);
        hasher_peek(hasher, &pieces);
        digest_sha256("a", 1, &whole);
        assert_true(digest_equal(&whole, &pieces));
        hasher_update(hasher, "b", 1);
        hasher_finish(hasher, &pieces);
        digest_sha256("ab", 2, &whole);
        assert_true(digest_equal(&whole, &pieces));
        hasher_free(&hasher);
        /* RFC 4231, case 2 */
        digest_hmac("Jefe", 4, "what do ya want for nothing?", 28, &whole);
        digest_format_hex(&whole, hex);
        assert_string_equal(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        digest_hmac(NULL, 0, "", 0, &whole);
        digest_format_hex(&whole, hex);
        assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_random(void **state)
{
        (void)state;
        unsigned char a[600] = { 0 }, b[600] = { 0 };
        random_bytes(a, sizeof a);
        random_bytes(b, sizeof b);
        assert_memory_not_equal(a, b, sizeof a);
        assert_memory_not_equal(a + 568, (unsigned char[32]){ 0 }, 32);
        random_bytes(a, 0);
        char hex[7];
        hex_format("\x00\xab\xff", 3, hex);
        assert_string_equal(hex, "00abff");
        /* Each byte at each place of a word, and each length of what is left over. */
        for (size_t length = 0; length <= 9; length++)
                for (int byte = 0; byte < 256; byte++) {
                        char text[20], expected[20] = "";
                        for (size_t i = 0; i < length; i++) {
                                a[i] = (unsigned char)(byte + 37 * (int)i);
                                sprintf(expected + 2 * i, "%02x", a[i]);
                        }
                        memset(text, 'x', sizeof text);
                        hex_format(a, length, text);
                        assert_string_equal(text, expected);
                        assert_int_equal(text[2 * length + 1], 'x');
                }
}

/* NULL = refused; `loose`: padding may be left out */
static const struct { const char *text, *bytes; bool loose; } base64s[] = {
        { "", "", false }, { "Zg==", "f", false }, { "Zm8=", "fo", false }, { "Zm9v", "foo", false }, { "Zm9vYmFy", "foobar", false }, { "Zg", "f", true }, { "Zm8", "fo", true }, { "Zg==", "f", true },
        { "+/+/", "\xfb\xff\xbf", false },
        { "Zg", NULL, false }, { "Zm8", NULL, false }, { "Z", NULL, true }, { "Zg=", NULL, true }, { "Zg=", NULL, false }, { "=", NULL, true }, { "==", NULL, true }, { "====", NULL, true }, { "Zg===", NULL, true },
        { "Zh==", NULL, false }, { "Zm9=", NULL, false }, { "Zm\n9v", NULL, false }, { "Zm9v ", NULL, false }, { "-_-_", NULL, false }, { "Z=g=", NULL, false }, { "Zm9v=", NULL, true }, { "\x80\x80\x80\x80", NULL, false },
        { "Zg==Zg==", NULL, false },
};

static void test_base64(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(base64s); i++) {
                char bytes[32];
                size_t size = 77;
                bool is_read = base64_decode(base64s[i].text, strlen(base64s[i].text), base64s[i].loose, bytes, &size);
                if (is_read != (base64s[i].bytes != NULL))
                        fail_msg("\"%s\": %d", base64s[i].text, is_read);
                if (!is_read)
                        continue;
                assert_int_equal(size, strlen(base64s[i].bytes));
                assert_memory_equal(bytes, base64s[i].bytes, size);
                if (!base64s[i].loose) {
                        CLEANUP(cleanup_free) char *text = base64_encode(bytes, size);
                        assert_string_equal(text, base64s[i].text);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_parse), cmocka_unit_test(test_hash), cmocka_unit_test(test_random), cmocka_unit_test(test_base64) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
