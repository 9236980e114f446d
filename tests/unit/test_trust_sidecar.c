/* Raw and detached signatures beside a file, and what cosign wrote there. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include "trust_sidecar_rig.h"

/* ---- raw signatures ---- */
static void test_raw(void **state)
{
        (void)state;
        for (size_t i = 0; i < OTHER; i++) {
                BYTES signature = sign_file(&kinds[i], files[0].bytes);
                const struct { const char *what; struct bytes body; } rows[] = {
                        { "binary", bytes_of(signature.data, signature.size) }, { "one line", text_of(signature, 4000, "", false) }, { "line break at the end", text_of(signature, 4000, "\n", true) },
                        { "lines of 64", text_of(signature, 64, "\n", true) }, { "lines of 76 and CR LF", text_of(signature, 76, "\r\n", true) },
                };
                for (size_t k = 0; k < COUNT_OF(rows); k++) {
                        BYTES body = rows[k].body;
                        struct judged judged = judged_of(files[0].bytes, body, kinds[i].keys);
                        print_message("%s, %s\n", kinds[i].name, rows[k].what);
                        expect(rows[k].what, &judged, PROVED);
                        assert_string_equal(last_proof.format, "raw");
                        assert_string_equal(last_proof.algorithm, kinds[i].algorithm);
                        judged.keys = kinds[OTHER].keys;
                        expect("another key", &judged, TRUST_OTHER_KEY);
                        judged = judged_of(files[1].bytes, body, kinds[i].keys);
                        expect("another file", &judged, TRUST_OTHER_KEY);
                        judged = judged_of(files[0].bytes, body, kinds[i].keys);
                        judged.kind = TRUST_TARGET_MODULE;
                        expect("of the module", &judged, TRUST_NOT_ACCEPTED);
                        judged.kind = TRUST_TARGET_FILE;
                        judged.formats = TRUST_FORMATS_DEFAULT & ~(1u << TRUST_RAW);
                        expect("format off", &judged, TRUST_NOT_ACCEPTED);
                }
        }
}

static void test_raw_flipped_cut_extended(void **state)
{
        (void)state;
        const size_t chosen[] = { P256, ED25519 };
        for (size_t i = 0; i < COUNT_OF(chosen); i++) {
                const struct kind *kind = &kinds[chosen[i]];
                BYTES signature = sign_file(kind, files[0].bytes), file = bytes_of(files[0].bytes.data, files[0].bytes.size);
                struct judged judged = judged_of(file, signature, kind->keys);
                for (size_t bit = 0; bit < signature.size * 8; bit++) {
                        signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        assert_int_not_equal(judge(&judged), PROVED);
                        signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
                for (size_t bit = 0; bit < file.size * 8; bit++) {
                        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        expect("flipped file", &judged, TRUST_OTHER_KEY);
                        file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
                for (judged.body.size = 0; judged.body.size < signature.size; judged.body.size++)
                        assert_int_not_equal(judge(&judged), PROVED);
                BYTES longer = bytes_of(signature.data, signature.size);
                bytes_add_byte(&longer, 0);
                judged = judged_of(file, longer, kind->keys);
                expect("a byte more", &judged, TRUST_OTHER_KEY);
        }
}

/* Only base64 as it is written by the tools: one alphabet, exact padding, no blanks. */
static void test_base64(void **state)
{
        (void)state;
        BYTES signature = sign_file(&kinds[RSA2048], files[0].bytes), text = text_of(signature, 4000, "", false);
        const struct { const char *what, *begin, *end; size_t end_bytes, cut; int expected; } rows[] = {
                { "as it is", "", "", 0, 0, PROVED }, { "line breaks around", "\n", "\n\n", 2, 0, PROVED }, { "padding cut", "", "", 0, 1, TRUST_MALFORMED },
                { "padding more", "", "=", 1, 0, TRUST_MALFORMED }, { "a blank before", " ", "", 0, 0, TRUST_MALFORMED }, { "a tab behind", "", "\t", 1, 0, TRUST_MALFORMED },
                { "more before", "AAAA", "", 0, 0, TRUST_OTHER_KEY }, { "with a NUL it is no text", "", "\0", 1, 0, TRUST_OTHER_KEY },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = bytes_of(rows[i].begin, strlen(rows[i].begin));
                bytes_add(&body, text.data, text.size - rows[i].cut);
                bytes_add(&body, rows[i].end, rows[i].end_bytes);
                struct judged judged = judged_of(files[0].bytes, body, kinds[RSA2048].keys);
                expect(rows[i].what, &judged, rows[i].expected);
        }
        BYTES url_safe = bytes_of("AAA-", 4), breaks = bytes_of("\n\n", 2), twice = text_of(text, 4000, "", false);
        struct judged judged = judged_of(files[0].bytes, url_safe, kinds[RSA2048].keys);
        assert_int_not_equal(judge(&judged), PROVED);
        judged = judged_of(files[0].bytes, breaks, kinds[RSA2048].keys);
        expect("only line breaks", &judged, TRUST_MALFORMED);
        judged = judged_of(files[0].bytes, twice, kinds[RSA2048].keys);
        expect("base64 of base64 is decoded once", &judged, TRUST_OTHER_KEY);
}

/* A signed JSON or PAE is no module, though the signature is good (10, cross-protocol replay). */
static void test_shapes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                BYTES signature = sign_file(&kinds[P256], files[i].bytes);
                struct judged judged = judged_of(files[i].bytes, signature, kinds[P256].keys);
                expect(files[i].what, &judged, files[i].has_shape ? PROVED : TRUST_WRONG_TYPE);
                judged.keys = kinds[OTHER].keys;
                expect("wrong type is claimed of good signatures only", &judged, TRUST_OTHER_KEY);
        }
}

static void test_algorithms(void **state)
{
        (void)state;
        static const struct { size_t kind; const char *hash; bool pss; unsigned formats; int expected; const char *algorithm; } rows[] = {
                { P384,    "SHA256", false, 0,                                           PROVED,          "ECDSA P-384 SHA-256" },
                { P521,    "SHA256", false, 0,                                           PROVED,          "ECDSA P-521 SHA-256" },
                { P256,    "SHA384", false, 0,                                           TRUST_OTHER_KEY, NULL },
                { P256,    "SHA1",   false, 0,                                           TRUST_OTHER_KEY, NULL },
                { RSA2048, "SHA256", true,  0,                                           TRUST_OTHER_KEY, NULL },
                { RSA2048, "SHA256", true,  TRUST_FORMATS_DEFAULT | 1u << TRUST_RSA_PSS, PROVED,          "RSA-PSS SHA-256" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES signature = sign_with(&kinds[rows[i].kind], rows[i].hash, rows[i].pss, files[0].bytes);
                struct judged judged = judged_of(files[0].bytes, signature, kinds[rows[i].kind].keys);
                judged.formats = rows[i].formats;
                expect(rows[i].hash, &judged, rows[i].expected);
                if (rows[i].algorithm)
                        assert_string_equal(last_proof.algorithm, rows[i].algorithm);
        }
}

/* K12 (RFC 8032 7.3): good, but "abc" is no module; then the same scheme over a module. */
static void test_k12_ed25519ph(void **state)
{
        (void)state;
        BYTES raw = bytes_hex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf"), abc = bytes_of("abc", 3);
        BYTES signature = bytes_hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
        struct trust_keys *keys = NULL;
        crypto_sign_ed25519ph_state hash;
        uint8_t made[64];

        assert_true(keys_from_raw(raw.data, &keys));
        struct judged judged = judged_of(abc, signature, keys);
        expect("K12", &judged, TRUST_WRONG_TYPE);
        for (size_t bit = 0; bit < signature.size * 8; bit++) {
                signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                expect("K12 flipped", &judged, TRUST_OTHER_KEY);
                signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        trust_keys_unref(&keys);

        crypto_sign_ed25519ph_init(&hash);
        crypto_sign_ed25519ph_update(&hash, files[0].bytes.data, files[0].bytes.size);
        crypto_sign_ed25519ph_final_create(&hash, made, NULL, signer.secret);
        BYTES of_module = bytes_of(made, sizeof made), text = text_of(of_module, 4000, "\n", true);
        judged = judged_of(files[0].bytes, of_module, signer.keys);
        expect("ph, binary", &judged, PROVED);
        assert_string_equal(last_proof.algorithm, "Ed25519ph");
        judged = judged_of(files[0].bytes, text, signer.keys);
        expect("ph, base64", &judged, PROVED);
}

static void test_strangers(void **state)
{
        (void)state;
        static const struct { const char *text, *says; int expected; } rows[] = {
                { "",                                                       "empty",       TRUST_MALFORMED },
                { "{\"base64Signature\":\"AAAA\"}",                         "JSON",        TRUST_NOT_ACCEPTED },
                { "{",                                                      "JSON",        TRUST_NOT_ACCEPTED },
                { " \n\t\r{}",                                                 "JSON",        TRUST_NOT_ACCEPTED },
                { "-----BEGIN PGP SIGNATURE-----\n",                        "PGP",         TRUST_NOT_ACCEPTED },
                { "-----BEGIN SSH SIGNATURE-----\n",                        "SSH",         TRUST_NOT_ACCEPTED },
                { "-----BEGIN CERTIFICATE-----\n",                          "PEM",         TRUST_NOT_ACCEPTED },
                { "untrusted comment: x\nRUQf\n",                           ".minisig",    TRUST_NOT_ACCEPTED },
                { "<html>404</html>",                                       "page",        TRUST_NOT_ACCEPTED },
                { "no signature at all, sorry",                             "neither",     TRUST_MALFORMED },
                { "MEUC!",                                                  "neither",     TRUST_MALFORMED },
                { "\tMEUC\v\f\r\n~",                                       "neither",     TRUST_MALFORMED },
                { "MEUC!\x7f",                                              "not by key",  TRUST_OTHER_KEY },
                { "MEUC!\x1f",                                              "not by key",  TRUST_OTHER_KEY },
                { "MEUC!\b",                                                "not by key",  TRUST_OTHER_KEY },
                { "MEUC!\x0e",                                              "not by key",  TRUST_OTHER_KEY },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = bytes_of(rows[i].text, strlen(rows[i].text));
                struct judged judged = judged_of(files[0].bytes, body, kinds[P256].keys);
                expect(rows[i].text, &judged, rows[i].expected);
                if (!strstr(last_failure.text, rows[i].says))
                        fail_msg("\"%s\" does not say \"%s\"", last_failure.text, rows[i].says);
        }
        struct bytes large = { memory_new(1 << 20, 1), 1 << 20 };
        memset(large.data, 0x80, large.size);
        struct judged sized = judged_of(files[0].bytes, (struct bytes){ large.data, 1024 }, kinds[P256].keys);
        expect("as long as RSA of 8192 bits", &sized, TRUST_OTHER_KEY);
        sized.body.size++;
        expect("longer than any signature", &sized, TRUST_MALFORMED);
        for (int i = 0; i < 2; i++) {
                memset(large.data, i == 0 ? 'A' : 0x80, large.size);
                struct judged judged = judged_of(files[0].bytes, large, kinds[P256].keys);
                expect("1 MiB", &judged, TRUST_MALFORMED);
        }
        bytes_fini(&large);
}

static void test_policy(void **state)
{
        (void)state;
        BYTES signature = sign_file(&kinds[P256], files[0].bytes);
        const struct trust_annotation annotation = { "env", "prod" };
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .annotations = &annotation, .annotation_count = 1 };
        struct judged judged = judged_of(files[0].bytes, signature, kinds[P256].keys);
        judged.options = &options;
        expect("annotations", &judged, TRUST_ANNOTATION);
        options = (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = kinds[P256].keys };
        expect("log", &judged, TRUST_NO_LOG_ENTRY);
        options = (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_EXACT };
        expect("identity", &judged, TRUST_IDENTITY);
        judged.options = NULL;
        judged.keys = kinds[P384].keys;           /* two ways to try */
        judged.verifications = 1;
        expect("budget", &judged, TRUST_LIMIT);
}

/* ---- detached wasm signatures ---- */
static const char k7_module[] = "0061736d01000000010401600000000401610102", k7_data[] = "010101016601aaa306bd98278a77d6fb18a6d04838dde7682fba0753dac4cc5deed480b66fc90143000140"
        "acd37d1dfbd5e18ebcf1d8e306c7249882a4f1c74aeb49f0799f075ddcfd130652f4530bf5cb721ac95bb89ea843c6aa5c740bfed0c1b05d43ad1595ecf3200c";

static void test_detached(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k7_module), data = bytes_hex(k7_data), box = bytes_of("\x1f\x8b\x08 boxed", 9);
        struct judged judged = judged_of(module, data, signer.keys);

        expect("the file is the module", &judged, PROVED);
        assert_string_equal(last_proof.format, "wasm-detached");
        judged.kind = TRUST_TARGET_MODULE;
        expect("the module", &judged, PROVED);
        judged = judged_of(box, data, signer.keys);
        expect("the file is a box", &judged, TRUST_NOT_ACCEPTED);
        assert_non_null(strstr(last_failure.text, "judged on the module"));
        judged = judged_of(module, data, kinds[P256].keys);
        expect("EC key", &judged, TRUST_ALGORITHM);
        judged = judged_of(module, data, kinds[ED25519].keys);
        expect("another key", &judged, TRUST_OTHER_KEY);
        judged = judged_of(module, data, signer.keys);
        judged.formats = TRUST_FORMATS_DEFAULT & ~(1u << TRUST_DETACHED);
        expect("off", &judged, TRUST_NOT_ACCEPTED);

        BYTES embeds = bytes_of(module.data, module.size), component = bytes_of(module.data, module.size), changed = bytes_of(module.data, module.size);
        bytes_add_section(&embeds, "signature", "", 0);
        judged = judged_of(embeds, data, signer.keys);
        expect("the module has a section of its own", &judged, TRUST_MALFORMED);
        memcpy(component.data, component_text, 8);
        judged = judged_of(component, data, signer.keys);
        expect("a component", &judged, TRUST_MALFORMED);
        judged = judged_of((struct bytes){ component.data, 4 }, data, signer.keys);
        expect("four bytes of a module", &judged, TRUST_MALFORMED);
        judged = judged_of((struct bytes){ component.data, 3 }, data, signer.keys);
        expect("three bytes are no module", &judged, TRUST_NOT_ACCEPTED);
        changed.data[changed.size - 1] ^= 1;
        judged = judged_of(changed, data, signer.keys);
        expect("other content", &judged, TRUST_OTHER_DIGEST);
}

static void test_detached_flipped_cut_extended(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k7_module), data = bytes_hex(k7_data);
        struct judged judged = judged_of(module, data, signer.keys);

        for (size_t bit = 0; bit < data.size * 8; bit++) {
                data.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (judge(&judged) == PROVED)
                        fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
                data.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (judged.body.size = 0; judged.body.size < data.size; judged.body.size++)
                assert_int_not_equal(judge(&judged), PROVED);
        BYTES longer = bytes_of(data.data, data.size);
        bytes_add_byte(&longer, 0);
        judged = judged_of(module, longer, signer.keys);
        expect("a byte more", &judged, TRUST_MALFORMED);
}

/* ---- what cosign made (blobs/raw): each signature with each key; the right one alone proves. cosign refuses its own P-384 and P-521 signatures: we take them. ---- */
static void test_fixtures(void **state)
{
        (void)state;
        static const char *const names[] = { "v2.p256.sig", "v2.p384.sig", "v2.p521.sig", "v2.rsa.sig", "v3.ed25519.sig", "v3.p256.sig", "v3.p384.sig", "v3.p521.sig", "v3.rsa.sig", "v2.p256.bundle",
                "v3.p256.bundle" };
        static const char *const keys[] = { "p256", "p384", "p521", "rsa", "ed25519", "other" };
        BYTES file = bytes_load_zstd("blobs/plugin.wasm.zst"), other = bytes_of(file.data, file.size);
        other.data[other.size - 1] ^= 1;

        for (size_t i = 0; i < COUNT_OF(names); i++) {
                char path[64];
                snprintf(path, sizeof path, "blobs/raw/plugin.wasm.%s", names[i]);
                BYTES body = bytes_load(path);
                for (size_t k = 0; k < COUNT_OF(keys); k++) {
                        char key_path[64];
                        snprintf(key_path, sizeof key_path, "keys/%s.pem", keys[k]);
                        struct trust_keys *parsed = keys_load(key_path);
                        bool is_right = strncmp(names[i] + 3, keys[k], strlen(keys[k])) == 0;
                        struct judged judged = judged_of(file, body, parsed);
                        if (string_ends_with(names[i], ".bundle")) {
                                judged.form = TRUST_FORM_SIDECAR_LEGACY;
                                judged.formats = LEGACY;
                        }
                        expect(names[i], &judged, is_right ? PROVED : TRUST_OTHER_KEY);
                        judged.target = other;
                        expect("other content", &judged, TRUST_OTHER_KEY);
                        trust_keys_unref(&parsed);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_raw), cmocka_unit_test(test_raw_flipped_cut_extended), cmocka_unit_test(test_base64), cmocka_unit_test(test_shapes),
                cmocka_unit_test(test_algorithms), cmocka_unit_test(test_k12_ed25519ph), cmocka_unit_test(test_strangers), cmocka_unit_test(test_policy),
                cmocka_unit_test(test_detached), cmocka_unit_test(test_detached_flipped_cut_extended), cmocka_unit_test(test_fixtures),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
