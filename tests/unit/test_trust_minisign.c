#include "trust_wasm_rig.h"

/* K11, from jedisct1/rust-minisign-verify: the file is "test". */
static const char k11_key[] = "79a561e70ee08cd3e754c63e9bd6b9c3520a1d4204cd104da2e7ef763b1853b7";
static const char k11[] = "untrusted comment: signature from minisign secret key\n"
        "RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n"
        "trusted comment: timestamp:1556193335\tfile:test\n"
        "y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n";
static const char k11_legacy[] = "untrusted comment: signature from minisign secret key\n"
        "RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=\n"
        "trusted comment: timestamp:1555779966\tfile:test\n"
        "QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==\n";
static struct trust_keys *k11_keys;
static struct signer signer, stranger;

static struct judged judged_of(struct bytes file, struct bytes body, const struct trust_keys *keys)
{
        return (struct judged){ .form = TRUST_FORM_SIDECAR_MINISIG, .kind = TRUST_TARGET_FILE, .target = file, .body = body, .keys = keys, .formats = 1u << TRUST_MINISIGN };
}

static int judge_text(const char *file, const char *text, size_t size)
{
        BYTES target = bytes_of(file, strlen(file)), body = bytes_of(text, size);
        struct judged judged = judged_of(target, body, k11_keys);
        return judge(&judged);
}

static void test_k11(void **state)
{
        (void)state;
        assert_int_equal(judge_text("test", k11, strlen(k11)), PROVED);
        assert_string_equal(last_proof.format, "minisign");
        assert_string_equal(last_proof.algorithm, "Ed25519");
        assert_int_equal(judge_text("Test", k11, strlen(k11)), TRUST_OTHER_KEY);
        assert_int_equal(judge_text("test1", k11, strlen(k11)), TRUST_OTHER_KEY);
        assert_int_equal(judge_text("test", k11_legacy, strlen(k11_legacy)), TRUST_ALGORITHM);
        assert_non_null(strstr(last_failure.text, "-l"));

        BYTES file = bytes_of("test", 4), body = bytes_of(k11, strlen(k11));
        struct judged judged = judged_of(file, body, k11_keys);
        judged.formats = TRUST_FORMATS_DEFAULT;
        expect("off by default", &judged, TRUST_NOT_ACCEPTED);
        judged = judged_of(file, body, k11_keys);
        judged.kind = TRUST_TARGET_MODULE;
        expect("of the module", &judged, TRUST_NOT_ACCEPTED);
        judged = judged_of(file, body, signer.keys);
        expect("another key", &judged, TRUST_OTHER_KEY);
        struct trust_keys *ec = keys_load("keys/p256.pem");
        judged = judged_of(file, body, ec);
        expect("EC key", &judged, TRUST_ALGORITHM);
        trust_keys_unref(&ec);
        judged = judged_of(file, body, k11_keys);
        judged.verifications = 1;
        expect("budget", &judged, TRUST_LIMIT);
        struct trust_policy_options options = { .formats = 1u << TRUST_MINISIGN, .rekor_keys = k11_keys };
        judged = judged_of(file, body, k11_keys);
        judged.options = &options;
        expect("log", &judged, TRUST_NO_LOG_ENTRY);
}

/* Only the untrusted comment and the key number are not covered. */
static void test_flipped_cut_extended(void **state)
{
        (void)state;
        const size_t size = strlen(k11), line2 = (size_t)(strchr(k11, '\n') + 1 - k11);
        BYTES text = bytes_of(k11, size);

        for (size_t bit = 0; bit < size * 8; bit++) {
                bool is_comment = bit / 8 >= strlen("untrusted comment: ") && bit / 8 + 1 < line2;
                bool is_number = bit / 8 >= line2 + 2 && bit / 8 < line2 + 14;         /* base64 of bytes 2 to 9, and of those that share its characters */
                text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                int verdict = judge_text("test", (const char *)text.data, size);
                if ((verdict == PROVED && !is_comment && !is_number) || (verdict != PROVED && is_comment && text.data[bit / 8] != '\n'))
                        fail_msg("bit %zu of byte %zu: %s", bit % 8, bit / 8, verdict_name(verdict));
                text.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t cut = 0; cut < size - 1; cut++)
                if (judge_text("test", k11, cut) == PROVED)
                        fail_msg("cut to %zu", cut);
        assert_int_equal(judge_text("test", k11, size - 1), PROVED);                /* the last line break */
        for (int byte = 0; byte < 256; byte++) {
                BYTES longer = bytes_of(k11, size);
                bytes_add_byte(&longer, byte);
                assert_int_equal(judge_text("test", (const char *)longer.data, longer.size), TRUST_MALFORMED);
        }
}

static void test_flipped_key(void **state)
{
        (void)state;
        BYTES raw = bytes_hex(k11_key), file = bytes_of("test", 4), body = bytes_of(k11, strlen(k11));
        for (size_t bit = 0; bit < 256; bit++) {
                struct trust_keys *keys = NULL;
                raw.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (keys_from_raw(raw.data, &keys)) {
                        struct judged judged = judged_of(file, body, keys);
                        expect("flipped key", &judged, TRUST_OTHER_KEY);
                }
                trust_keys_unref(&keys);
                raw.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
}

/* A minisig of "test" by `by`, its trusted comment by `comment_by`. */
static struct bytes minisig_make(const struct signer *by, const struct signer *comment_by, const char *algorithm, const void *comment, size_t comment_bytes, const char *eol)
{
        uint8_t blob[74] = { (uint8_t)algorithm[0], (uint8_t)algorithm[1] }, hash[64], global[64];
        struct bytes text = bytes_of("untrusted comment: x", 20);
        crypto_generichash(hash, sizeof hash, (const uint8_t *)"test", 4, NULL, 0);
        sign_ed25519(by, hash, sizeof hash, blob + 10);
        BYTES message = bytes_of(blob + 10, 64);
        bytes_add(&message, comment, comment_bytes);
        sign_ed25519(comment_by, message.data, message.size, global);
        CLEANUP(cleanup_free) char *line2 = base64_encode(blob, sizeof blob);
        CLEANUP(cleanup_free) char *line4 = base64_encode(global, sizeof global);
        const struct { const void *data; size_t size; } pieces[] = {
                { eol, strlen(eol) }, { line2, strlen(line2) }, { eol, strlen(eol) }, { "trusted comment: ", 17 }, { comment, comment_bytes }, { eol, strlen(eol) }, { line4, strlen(line4) },
                { eol, strlen(eol) },
        };
        for (size_t i = 0; i < COUNT_OF(pieces); i++)
                bytes_add(&text, pieces[i].data, pieces[i].size);
        return text;
}

static void test_made(void **state)
{
        (void)state;
        struct bytes longest = { memory_new(8192, 1), 8192 };
        memset(longest.data, 'c', longest.size);
        const struct { const char *what; const struct signer *by, *comment_by; const char *algorithm; const void *comment; size_t comment_bytes; const char *eol; int expected; } rows[] = {
                { "plain",                       &signer,   &signer,   "ED", "c", 1,               "\n",     PROVED },
                { "CR LF",                       &signer,   &signer,   "ED", "c", 1,               "\r\n",   PROVED },
                { "empty comment",               &signer,   &signer,   "ED", "", 0,                "\n",     PROVED },
                { "comment in UTF-8",            &signer,   &signer,   "ED", "\xc3\xa4\t x", 5,    "\n",     PROVED },
                { "comment of 8191 bytes",       &signer,   &signer,   "ED", longest.data, 8191,   "\n",     PROVED },
                { "comment of 8192 bytes",       &signer,   &signer,   "ED", longest.data, 8192,   "\n",     TRUST_MALFORMED },
                { "comment with an escape",      &signer,   &signer,   "ED", "a\x1b[0m", 5,        "\n",     TRUST_MALFORMED },
                { "comment with NUL",            &signer,   &signer,   "ED", "a\0b", 3,            "\n",     TRUST_MALFORMED },
                { "comment with DEL",            &signer,   &signer,   "ED", "a\x7f", 2,           "\n",     TRUST_MALFORMED },
                { "comment that is no UTF-8",    &signer,   &signer,   "ED", "a\xff", 2,           "\n",     TRUST_MALFORMED },
                { "CR alone",                    &signer,   &signer,   "ED", "c", 1,               "\r",     TRUST_MALFORMED },
                { "two CR",                      &signer,   &signer,   "ED", "c", 1,               "\r\r\n", TRUST_MALFORMED },
                { "empty lines between",         &signer,   &signer,   "ED", "c", 1,               "\n\n",   TRUST_MALFORMED },
                { "another algorithm",           &signer,   &signer,   "Ex", "c", 1,               "\n",     TRUST_ALGORITHM },
                { "not hashed first",            &signer,   &signer,   "Ed", "c", 1,               "\n",     TRUST_ALGORITHM },
                { "another key",                 &stranger, &stranger, "ED", "c", 1,               "\n",     TRUST_OTHER_KEY },
                { "comment by another key",      &signer,   &stranger, "ED", "c", 1,               "\n",     TRUST_MALFORMED },
                { "signature by another key",    &stranger, &signer,   "ED", "c", 1,               "\n",     TRUST_OTHER_KEY },
        };
        BYTES file = bytes_of("test", 4);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = minisig_make(rows[i].by, rows[i].comment_by, rows[i].algorithm, rows[i].comment, rows[i].comment_bytes, rows[i].eol);
                struct judged judged = judged_of(file, body, signer.keys);
                expect(rows[i].what, &judged, rows[i].expected);
        }
        bytes_fini(&longest);
}

/* With both keys in the set, both signatures must still be by one of them. */
static void test_two_keys(void **state)
{
        (void)state;
        struct trust_keys *both = NULL, *const sets[] = { stranger.keys, signer.keys };
        struct error err;
        BYTES file = bytes_of("test", 4), mixed = minisig_make(&signer, &stranger, "ED", "c", 1, "\n"), good = minisig_make(&signer, &signer, "ED", "c", 1, "\n");
        assert_true(trust_keys_join(sets, 2, "verificationKey", &both, &err));
        struct judged judged = judged_of(file, mixed, both);
        expect("mixed", &judged, TRUST_MALFORMED);
        judged = judged_of(file, good, both);
        expect("one", &judged, PROVED);
        assert_true(digest_equal(&last_proof.fingerprint, trust_keys_get_fingerprint(signer.keys, 0)));
        trust_keys_unref(&both);
}

static void test_texts(void **state)
{
        (void)state;
#define LINE2 "RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\n"
#define LINE4 "y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==\n"
        static const struct { const char *text, *says; } rows[] = {
                { "",                                                                                          "it has not four lines" },
                { "\n",                                                                                        "it has not four lines" },
                { "untrusted comment: x",                                                                      "it has not four lines" },
                { "untrusted comment: x\n",                                                                    "it has not four lines" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y",                                         "it has not four lines" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y\n" LINE4 "\n",                            "it has not four lines" },
                { "\n\n\n\n",                                                                                  "line 1 does not begin with \"untrusted comment: \"" },
                { "comment: x\n" LINE2 "trusted comment: y\n" LINE4,                                           "line 1 does not begin with \"untrusted comment: \"" },
                { "untrusted comment:\n" LINE2 "trusted comment: y\n" LINE4,                                   "line 1 does not begin with \"untrusted comment: \"" },
                { "untrusted comment: x\n\ntrusted comment: y\n\n",                                            "line 2 is not the base64 of 74 bytes" },
                { "untrusted comment: x\nRUQf\ntrusted comment: y\n" LINE4,                                    "line 2 is not the base64 of 74 bytes" },
                { "untrusted comment: x\n" LINE4 "trusted comment: y\n" LINE4,                                 "line 2 is not the base64 of 74 bytes" },
                { "untrusted comment: x\nRUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF_z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\ntrusted comment: y\n" LINE4,
                                                                                                               "line 2 is not the base64 of 74 bytes" },
                { "untrusted comment: x\n" LINE2 "comment: timestamp:1556193335\tfile:test\n" LINE4,           "line 3 does not begin with \"trusted comment: \"" },
                { "untrusted comment: x\n" LINE2 "\n" LINE4,                                                   "line 3 does not begin with \"trusted comment: \"" },
                { "untrusted comment: x\n" LINE2 "untrusted comment: y\n" LINE4,                               "line 3 does not begin with \"trusted comment: \"" },
                { "untrusted comment: x\n" LINE2 "trusted comment: \x1b\n" LINE4,                              "the trusted comment is longer than 8191 bytes or has unprintable ones" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y\nAAAA\n",                                 "line 4 is not the base64 of 64 bytes" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y\n" LINE2,                                 "line 4 is not the base64 of 64 bytes" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y\n",                                       "line 4 is not the base64 of 64 bytes" },
                { "untrusted comment: x\n" LINE2 "trusted comment: y\n\n",                                     "line 4 is not the base64 of 64 bytes" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *sentence = string_format("here: the minisign signature is malformed: %s", rows[i].says);
                assert_int_equal(judge_text("test", rows[i].text, strlen(rows[i].text)), TRUST_MALFORMED);
                assert_string_equal(last_failure.text, sentence);
        }
        const char *line2 = strchr(k11, '\n') + 1;               /* a break within its base64 */
        BYTES broken = bytes_of(k11, (size_t)(line2 - k11) + 8);
        bytes_add_byte(&broken, '\r');
        bytes_add(&broken, line2 + 8, strlen(line2 + 8));
        assert_int_equal(judge_text("test", (const char *)broken.data, broken.size), TRUST_MALFORMED);
}

static int setup(void **state)
{
        (void)state;
        signer_init(&signer, 1);
        signer_init(&stranger, 2);
        BYTES raw = bytes_hex(k11_key);
        assert_true(keys_from_raw(raw.data, &k11_keys));
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        trust_keys_unref(&signer.keys);
        trust_keys_unref(&stranger.keys);
        trust_keys_unref(&k11_keys);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_k11), cmocka_unit_test(test_flipped_cut_extended), cmocka_unit_test(test_flipped_key), cmocka_unit_test(test_made), cmocka_unit_test(test_two_keys),
                cmocka_unit_test(test_texts),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
