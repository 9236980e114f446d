#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include "trust_wasm_rig.h"

/* Files as they are delivered, each of which may be a module or a box of one, and what is neither. */
static const char module_text[] = "\0asm\1\0\0\0\0\5\4test", component_text[] = "\0asm\x0d\0\1\0";
static struct { const char *what; struct bytes bytes; bool has_shape; } files[8];
enum { LEGACY = 1u << TRUST_LEGACY_BUNDLE };
struct kind { const char *name, *hash, *algorithm; EVP_PKEY *key; struct trust_keys *keys; };
static struct kind kinds[6];
enum { P256, P384, P521, RSA2048, ED25519, OTHER, KINDS };
static struct signer signer;

static char *pem_of(EVP_PKEY *key)
{
        unsigned char *der = NULL;
        int size = i2d_PUBKEY(key, &der);
        CLEANUP(cleanup_free) char *base64 = base64_encode(der, (size_t)size);
        OPENSSL_free(der);
        return string_format("-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n", base64);
}

static struct trust_keys *keys_of(EVP_PKEY *key)
{
        struct trust_keys *keys = NULL;
        struct error err;
        CLEANUP(cleanup_free) char *pem = pem_of(key);
        if (!trust_keys_parse(pem, strlen(pem), "verificationKey", &keys, &err))
                fail_msg("%s", err.text);
        return keys;
}

static struct bytes sign_with(const struct kind *kind, const char *hash, bool pss, struct bytes file)
{
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_PKEY_CTX *of_key = NULL;
        size_t size = 2048;
        struct bytes signature = { memory_new(size, 1), 0 };
        assert_int_equal(EVP_DigestSignInit_ex(context, &of_key, hash, NULL, NULL, kind->key, NULL), 1);
        if (pss)
                assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_DigestSign(context, signature.data, &size, file.data, file.size), 1);
        EVP_MD_CTX_free(context);
        signature.size = size;
        return signature;
}

static struct bytes sign_file(const struct kind *kind, struct bytes file)
{
        return sign_with(kind, kind->hash, false, file);
}

static struct bytes text_of(struct bytes signature, size_t columns, const char *eol, bool at_end)
{
        CLEANUP(cleanup_free) char *base64 = base64_encode(signature.data, signature.size);
        struct bytes text = bytes_of("", 0);
        for (size_t at = 0, length = strlen(base64); at < length; at += columns) {
                bytes_add(&text, base64 + at, length - at < columns ? length - at : columns);
                if (at_end || length - at > columns)
                        bytes_add(&text, eol, strlen(eol));
        }
        return text;
}

static struct judged judged_of(struct bytes file, struct bytes body, const struct trust_keys *keys)
{
        return (struct judged){ .form = TRUST_FORM_SIDECAR_SIG, .kind = TRUST_TARGET_FILE, .target = file, .body = body, .keys = keys };
}

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

/* ---- legacy bundles ---- */
static struct judged legacy_of(struct bytes body, const struct trust_keys *keys)
{
        return (struct judged){ .form = TRUST_FORM_SIDECAR_LEGACY, .kind = TRUST_TARGET_FILE, .target = files[0].bytes, .body = body, .keys = keys, .formats = LEGACY };
}

/* `format` has one %s for the base64 of the signature. */
static struct bytes legacy_make(const char *format, struct bytes signature)
{
        CLEANUP(cleanup_free) char *base64 = base64_encode(signature.data, signature.size);
        const char *place = strstr(format, "%s");
        struct bytes text = bytes_of(format, place ? (size_t)(place - format) : strlen(format));
        if (place) {
                bytes_add(&text, base64, strlen(base64));
                bytes_add(&text, place + 2, strlen(place + 2));
        }
        return text;
}

static void test_legacy(void **state)
{
        (void)state;
        static const struct { const char *format; int expected; } rows[] = {
                { "{\"base64Signature\":\"%s\"}",                                               PROVED },
                { " {\"cert\":\"\",\"rekorBundle\":null,\"base64Signature\":\"%s\"}\n",          PROVED },
                { "{\"base64Signature\":\"%s\",\"cert\":\"LS0tLS1CRUdJTg==\",\"x\":[1]}",       PROVED },
                { "{\"base64Signature\":\"%s\",\"rekorBundle\":{\"SignedEntryTimestamp\":\"x\"}}", PROVED },
                { "{\"base64Signature\":\"%s\",\"base64Signature\":\"AAAA\"}",                  TRUST_MALFORMED },
                { "{\"base64Signature\":\"%s\"}{}",                                             TRUST_MALFORMED },
                { "{\"base64Signature\":[\"%s\"]}",                                             TRUST_MALFORMED },
                { "{\"base64Signature\":\"%s\",\"rekorBundle\":7}",                             TRUST_MALFORMED },
                { "{\"Base64Signature\":\"%s\"}",                                               TRUST_MALFORMED },
                { "{\"base64Signature\":\" %s\"}",                                              TRUST_MALFORMED },
                { "{\"base64Signature\":\"\"}",                                                 TRUST_MALFORMED },
                { "[{\"base64Signature\":\"%s\"}]",                                             TRUST_MALFORMED },
                { "\"%s\"",                                                                     TRUST_MALFORMED },
                { "%s",                                                                         TRUST_MALFORMED },
                { "",                                                                           TRUST_MALFORMED },
                { "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"base64Signature\":\"%s\"}", TRUST_NOT_ACCEPTED },
        };
        BYTES signature = sign_file(&kinds[P256], files[0].bytes);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = legacy_make(rows[i].format, signature);
                struct judged judged = legacy_of(body, kinds[P256].keys);
                expect(rows[i].format, &judged, rows[i].expected);
                if (rows[i].expected != PROVED)
                        continue;
                assert_string_equal(last_proof.format, "legacy-bundle");
                judged.keys = kinds[OTHER].keys;
                expect("another key", &judged, TRUST_OTHER_KEY);
                judged.keys = kinds[P256].keys;
                judged.target = files[1].bytes;
                expect("another file", &judged, TRUST_OTHER_KEY);
                judged.kind = TRUST_TARGET_MODULE;
                expect("of the module", &judged, TRUST_NOT_ACCEPTED);
                judged = legacy_of(body, kinds[P256].keys);
                judged.formats = TRUST_FORMATS_DEFAULT;
                expect("off by default", &judged, TRUST_NOT_ACCEPTED);
                judged = legacy_of(body, kinds[P256].keys);
                struct trust_policy_options options = { .formats = LEGACY, .identity = TRUST_IDENTITY_REPOSITORY };
                const struct trust_annotation annotation = { "env", "prod" };
                judged.options = &options;
                expect("identity", &judged, TRUST_IDENTITY);
                options = (struct trust_policy_options){ .formats = LEGACY, .annotations = &annotation, .annotation_count = 1 };
                expect("annotations", &judged, TRUST_ANNOTATION);
                options = (struct trust_policy_options){ .formats = LEGACY, .rekor_keys = kinds[OTHER].keys };
                assert_int_not_equal(judge(&judged), PROVED);
        }
}

/* A bundle that cannot be read is told from one that lacks something. */
static void test_legacy_texts(void **state)
{
        (void)state;
        static const struct { const char *text, *says; } rows[] = {
                { "",                                              "here: the legacy bundle: JSON line 1, column " },
                { "{\"base64Signature\":\"AAAA\"",                 "here: the legacy bundle: JSON line 1, column " },
                { "{\"base64Signature\":[\"AAAA\"]}",              "here: the legacy bundle: member \"base64Signature\" must be of type " },
                { "{\"base64Signature\":\"AAAA\",\"rekorBundle\":7}", "here: the legacy bundle: member \"rekorBundle\" must be of type " },
                { "{\"Base64Signature\":\"AAAA\"}",                "here: the legacy bundle has no \"base64Signature\"" },
                { "{\"base64Signature\":null}",                    "here: the legacy bundle has no \"base64Signature\"" },
                { "{\"base64Signature\":\"\"}",                    "here: the legacy bundle: \"base64Signature\" is not the base64 of a signature" },
                { "{\"base64Signature\":\"AAA\"}",                 "here: the legacy bundle: \"base64Signature\" is not the base64 of a signature" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = bytes_of(rows[i].text, strlen(rows[i].text));
                struct judged judged = legacy_of(body, kinds[P256].keys);
                expect(rows[i].text, &judged, TRUST_MALFORMED);
                if (strncmp(last_failure.text, rows[i].says, strlen(rows[i].says)) != 0)
                        fail_msg("%s: \"%s\" does not begin with \"%s\"", rows[i].text, last_failure.text, rows[i].says);
        }
}

/* A legacy bundle with an entry of the log `kinds[OTHER]` about a signature by kinds[P256]; `by` is the key that the entry names. */
static struct bytes logged_make(struct bytes file, const struct kind *by, int64_t time)
{
        BYTES signature = sign_file(&kinds[P256], file);
        struct digest digest;
        char hash[DIGEST_TEXT_BYTES], log_id[DIGEST_TEXT_BYTES];
        digest_sha256(file.data, file.size, &digest);
        digest_format_hex(&digest, hash);
        digest_format_hex(trust_keys_get_fingerprint(kinds[OTHER].keys, 0), log_id);
        CLEANUP(cleanup_free) char *pem = pem_of(by->key);
        CLEANUP(cleanup_free) char *key = base64_encode(pem, strlen(pem));
        CLEANUP(cleanup_free) char *text = base64_encode(signature.data, signature.size);
        CLEANUP(cleanup_free) char *entry = string_format("{\"apiVersion\":\"0.0.1\",\"kind\":\"hashedrekord\",\"spec\":{\"data\":{\"hash\":{\"algorithm\":\"sha256\",\"value\":\"%s\"}},"
                "\"signature\":{\"content\":\"%s\",\"publicKey\":{\"content\":\"%s\"}}}}", hash, text, key);
        CLEANUP(cleanup_free) char *body = base64_encode(entry, strlen(entry));
        CLEANUP(cleanup_free) char *payload = string_format("{\"body\":\"%s\",\"integratedTime\":%lld,\"logID\":\"%s\",\"logIndex\":7}", body, (long long)time, log_id);
        BYTES stamp = sign_with(&kinds[OTHER], "SHA256", false, (struct bytes){ (uint8_t *)payload, strlen(payload) });
        CLEANUP(cleanup_free) char *stamp_text = base64_encode(stamp.data, stamp.size);
        CLEANUP(cleanup_free) char *bundle = string_format("{\"base64Signature\":\"%s\",\"cert\":\"\",\"rekorBundle\":{\"SignedEntryTimestamp\":\"%s\",\"Payload\":%s}}", text, stamp_text, payload);
        return bytes_of(bundle, strlen(bundle));
}

/* The entry of the log counts where one is demanded, and is bound to signature, key and file. */
static void test_legacy_logged(void **state)
{
        (void)state;
        struct trust_policy_options options = { .formats = LEGACY, .rekor_keys = kinds[OTHER].keys };
        BYTES body = logged_make(files[0].bytes, &kinds[P256], 1700000000), other_key = logged_make(files[0].bytes, &kinds[P384], 1700000000);
        BYTES bare = bytes_of("{}", 2), signature = sign_file(&kinds[P256], files[0].bytes), unlogged = legacy_make("{\"base64Signature\":\"%s\"}", signature);
        struct judged judged = legacy_of(body, kinds[P256].keys);

        judged.options = &options;
        expect("logged", &judged, PROVED);
        assert_int_equal(last_proof.logged_s, 1700000000);
        judged.body = unlogged;
        expect("no entry", &judged, TRUST_NO_LOG_ENTRY);
        judged.body = other_key;
        assert_int_not_equal(judge(&judged), PROVED);
        judged.body = bare;
        expect("no signature", &judged, TRUST_MALFORMED);
        judged.body = body;
        options.rekor_keys = kinds[P384].keys;
        assert_int_not_equal(judge(&judged), PROVED);
        judged.options = NULL;
        expect("no log is demanded, and none is claimed", &judged, PROVED);
        assert_int_equal(last_proof.logged_s, 0);
}

/* GHSA-fx35-mq7g-6g98: a key or certificate in `cert` took the place of the one that was asked for. */
static void test_ghsa_fx35_mq7g_6g98_key_in_cert(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *pem = pem_of(kinds[OTHER].key);
        CLEANUP(cleanup_free) char *cert = base64_encode(pem, strlen(pem));
        CLEANUP(cleanup_free) char *format = string_format("{\"base64Signature\":\"%%s\",\"cert\":\"%s\"}", cert);
        BYTES signature = sign_file(&kinds[OTHER], files[0].bytes), body = legacy_make(format, signature);
        struct judged judged = legacy_of(body, kinds[P256].keys);
        expect("the attacker's key in cert", &judged, TRUST_OTHER_KEY);
        judged.keys = kinds[OTHER].keys;
        expect("asked for that key", &judged, PROVED);
}

/* A signature over something that is no module is not taken from a bundle either. */
static void test_legacy_shape(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                BYTES signature = sign_file(&kinds[P256], files[i].bytes), body = legacy_make("{\"base64Signature\":\"%s\"}", signature);
                struct judged judged = legacy_of(body, kinds[P256].keys);
                judged.target = files[i].bytes;
                expect(files[i].what, &judged, files[i].has_shape ? PROVED : TRUST_WRONG_TYPE);
        }
}

static void test_legacy_size(void **state)
{
        (void)state;
        struct bytes large = { memory_new((1 << 20) + 1, 1), (1 << 20) + 1 };
        memset(large.data, ' ', large.size);
        struct judged judged = legacy_of(large, kinds[P256].keys);
        expect("1 MiB and a byte", &judged, TRUST_LIMIT);
        bytes_fini(&large);
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

static int setup(void **state)
{
        (void)state;
        static const struct { const char *name, *hash, *algorithm, *type; } rows[KINDS] = {
                { "P-256", "SHA256", "ECDSA P-256 SHA-256", "EC" }, { "P-384", "SHA384", "ECDSA P-384 SHA-384", "EC" }, { "P-521", "SHA512", "ECDSA P-521 SHA-512", "EC" },
                { "RSA", "SHA256", "RSA PKCS#1 v1.5 SHA-256", "RSA" }, { "ED25519", NULL, "Ed25519", "ED25519" }, { "P-256", "SHA256", "ECDSA P-256 SHA-256", "EC" },
        };
        static char tar[512] = "plugin.wasm", cut_tar[261];
        memcpy(tar + 257, "ustar", 6);
        memcpy(cut_tar, tar, sizeof cut_tar);
        const struct { const char *what; const void *data; size_t size; bool has_shape; } shapes[COUNT_OF(files)] = {
                { "wasm", module_text, sizeof module_text - 1, true }, { "gzip", "\x1f\x8b", 2, true }, { "zstd", "\x28\xb5\x2f\xfd", 4, true }, { "tar", tar, sizeof tar, true },
                { "JSON", "{\"critical\":{}}", 15, false }, { "PAE", "DSSEv1 28 application/vnd.in-toto+json 2 {}", 43, false }, { "short", "\0as", 3, false },
                { "cut tar", cut_tar, sizeof cut_tar, false },
        };

        signer_init(&signer, 0x42);
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                files[i].what = shapes[i].what;
                files[i].bytes = bytes_of(shapes[i].data, shapes[i].size);
                files[i].has_shape = shapes[i].has_shape;
        }
        for (size_t i = 0; i < KINDS; i++) {
                EVP_PKEY *key = strcmp(rows[i].type, "EC") == 0 ? EVP_EC_gen(rows[i].name) : strcmp(rows[i].type, "RSA") == 0 ? EVP_RSA_gen(2048) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
                kinds[i] = (struct kind){ rows[i].name, rows[i].hash, rows[i].algorithm, key, keys_of(key) };
        }
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++)
                bytes_fini(&files[i].bytes);
        for (size_t i = 0; i < KINDS; i++) {
                EVP_PKEY_free(kinds[i].key);
                trust_keys_unref(&kinds[i].keys);
        }
        trust_keys_unref(&signer.keys);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_raw), cmocka_unit_test(test_raw_flipped_cut_extended), cmocka_unit_test(test_base64), cmocka_unit_test(test_shapes), cmocka_unit_test(test_algorithms),
                cmocka_unit_test(test_k12_ed25519ph), cmocka_unit_test(test_strangers), cmocka_unit_test(test_policy), cmocka_unit_test(test_detached),
                cmocka_unit_test(test_detached_flipped_cut_extended), cmocka_unit_test(test_legacy), cmocka_unit_test(test_legacy_texts), cmocka_unit_test(test_legacy_logged),
                cmocka_unit_test(test_ghsa_fx35_mq7g_6g98_key_in_cert), cmocka_unit_test(test_legacy_shape),
                cmocka_unit_test(test_legacy_size), cmocka_unit_test(test_fixtures),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
