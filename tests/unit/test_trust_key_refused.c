/* The field verificationKey (2.1), keys that are weak, odd or damaged: refused by name, and nothing of the text is ever shown. */
#include <setjmp.h>
#include <ctype.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <cmocka.h>
#include "trust_key_rig.h"

/* ---- what is refused: keys ---- */
static char *generated(const char *algorithm, const char *group, const char *encoding)
{
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, algorithm, NULL);
        OSSL_PARAM parameters[] = { OSSL_PARAM_END, OSSL_PARAM_END, OSSL_PARAM_END };
        size_t count = 0;
        CLEANUP(cleanup_free) char *group_copy = string_copy(group), *encoding_copy = string_copy(encoding);
        EVP_PKEY *pkey = NULL;
        if (group)
                parameters[count++] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group_copy, 0);
        if (encoding)
                parameters[count++] = OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_EC_ENCODING, encoding_copy, 0);
        assert_int_equal(EVP_PKEY_keygen_init(context), 1);
        assert_int_equal(EVP_PKEY_CTX_set_params(context, parameters), 1);
        assert_int_equal(EVP_PKEY_generate(context, &pkey), 1);
        char *pem = rig_pem(pkey);
        EVP_PKEY_free(pkey);
        EVP_PKEY_CTX_free(context);
        return pem;
}

static void test_algorithms(void **state)
{
        (void)state;
        refused_free(generated("EC", "secp256k1", NULL), "EC curve secp256k1 is not supported");
        refused_free(generated("EC", "secp224r1", NULL), "EC curve secp224r1");
        refused_free(generated("EC", "brainpoolP256r1", NULL), "EC curve brainpoolP256r1");
        refused_free(generated("EC", "prime192v1", NULL), "EC curve prime192v1");
        refused_free(generated("SM2", NULL, NULL), "EC curve SM2");
        refused_free(generated("EC", "prime256v1", "explicit"), "explicit curve parameters");
        refused_free(generated("EC", "secp521r1", "explicit"), "explicit curve parameters");
        refused_free(generated("ED448", NULL, NULL), "Ed448");
        refused_free(generated("X25519", NULL, NULL), "X25519");
        refused_free(generated("X448", NULL, NULL), "X448");
        refused_free(generated("DH", "ffdhe2048", NULL), "dhKeyAgreement");
        /* DSA (OID 1.2.840.10040.4.1) without parameters, and ML-DSA-44 (2.16.840.1.101.3.4.3.17), which this OpenSSL does not know */
        assert_refused("-----BEGIN PUBLIC KEY-----\nMBMwCQYHKoZIzjgEAQMGAAIBAQIB\n-----END PUBLIC KEY-----\n", "verificationKey: ");
        struct rig_bytes dsa = rig_hex("3013300906072a8648ce380401030600020301000130"), ml_dsa = rig_hex("3012300b0609608648016503040311030300aabb");
        dsa.size = 21;
        refused_free(rig_pem_of("PUBLIC KEY", dsa.data, dsa.size), "algorithm DSA");
        refused_free(rig_pem_of("PUBLIC KEY", ml_dsa.data, ml_dsa.size), "algorithm ");
        struct rig_bytes implicit = rig_hex("3010300906072a8648ce3d0201030300aabb"), null = rig_hex("3012300b06072a8648ce3d02010500030300aabb");
        assert_int_equal(implicit.size, 18);
        refused_free(rig_pem_of("PUBLIC KEY", implicit.data, implicit.size), "curve parameters or none");
        refused_free(rig_pem_of("PUBLIC KEY", null.data, null.size), "curve parameters or none");
}

static char *rsa_pem(const BIGNUM *n, const BIGNUM *e)
{
        OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
        OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        EVP_PKEY *pkey = NULL;
        EVP_PKEY_fromdata_init(context);
        assert_int_equal(EVP_PKEY_fromdata(context, &pkey, EVP_PKEY_PUBLIC_KEY, parameters), 1);
        char *pem = rig_pem(pkey);
        EVP_PKEY_free(pkey);
        EVP_PKEY_CTX_free(context);
        OSSL_PARAM_free(parameters);
        OSSL_PARAM_BLD_free(builder);
        return pem;
}

/* A number of exactly `bits` bits that looks like a modulus: odd and a product of two primes would take long to make, so odd and without small factors must do where it is refused earlier. */
static BIGNUM *modulus(int bits)
{
        BIGNUM *n = BN_new();
        BN_rand(n, bits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ODD);
        return n;
}

static void test_rsa(void **state)
{
        (void)state;
        static const struct { const char *exponent, *words; } exponents[] = {
                { "3", "exponent" }, { "10001", NULL }, { "10000", "exponent" }, { "ffff", "exponent" }, { "10003", NULL }, { "10002", "exponent" }, { "1", "exponent" },
                { "ffffffffffffffffffffffffffffff", NULL },
        };
        static const struct { int bits; const char *words; } sizes[] = { { 1024, "RSA key of 1024 bits" }, { 2047, "of 2047 bits" }, { 8193, "of 8193 bits" }, { 16384, "of 16384 bits" } };
        BIGNUM *n = NULL, *e = NULL;
        EVP_PKEY_get_bn_param(rsa_key, OSSL_PKEY_PARAM_RSA_N, &n);
        for (size_t i = 0; i < COUNT_OF(exponents); i++) {
                BN_hex2bn(&e, exponents[i].exponent);
                CLEANUP(cleanup_free) char *pem = rsa_pem(n, e);
                if (exponents[i].words)
                        assert_refused(pem, exponents[i].words);
                else
                        assert_taken(pem, 1);
        }
        BN_hex2bn(&e, "10001");
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
                BIGNUM *other = modulus(sizes[i].bits);
                refused_free(rsa_pem(other, e), sizes[i].words);
                BN_free(other);
        }
        BIGNUM *even = BN_dup(n), *prime = BN_get_rfc3526_prime_2048(NULL);        /* of a prime modulus the factors are known */
        BN_clear_bit(even, 0);
        taken_free(rsa_pem(even, e), 1);                   /* both are refused before the first use: test_trust_soundness.c */
        taken_free(rsa_pem(prime, e), 1);
        BN_free(even);
        BN_free(n);

        BIGNUM *second = BN_get_rfc3526_prime_1536(NULL), *product = BN_new();     /* 3584 bits */
        BN_CTX *context = BN_CTX_new();
        BN_mul(product, prime, second, context);
        taken_free(rsa_pem(product, e), 1);
        BN_hex2bn(&e, "ffffffffffffffff");                 /* 64 bits: OpenSSL's limit for larger moduli */
        taken_free(rsa_pem(product, e), 1);
        BN_hex2bn(&e, "10000000000000001");
        refused_free(rsa_pem(product, e), "has 65 bits");
        BN_CTX_free(context);
        BN_free(product);
        BN_free(prime);
        BN_free(second);
        BN_free(e);
}

/* An RSA-PSS key that may be used with another hash only. */
static void test_rsa_pss(void **state)
{
        (void)state;
        static const struct { const char *hash, *mgf1; int salt_bytes; bool good; } rows[] = {
                { "SHA256", "SHA256", 32, true }, { "SHA512", "SHA512", 32, false }, { "SHA256", "SHA1", 32, false }, { "SHA256", "SHA256", 48, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA-PSS", NULL);
                EVP_PKEY *pkey = NULL;
                EVP_PKEY_keygen_init(context);
                assert_true(EVP_PKEY_CTX_set_rsa_pss_keygen_md_name(context, rows[i].hash, NULL) == 1 &&
                            EVP_PKEY_CTX_set_rsa_pss_keygen_mgf1_md_name(context, rows[i].mgf1) == 1 &&
                            EVP_PKEY_CTX_set_rsa_pss_keygen_saltlen(context, rows[i].salt_bytes) == 1);
                assert_int_equal(EVP_PKEY_generate(context, &pkey), 1);
                CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
                if (rows[i].good) {
                        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(pem);
                        struct rig_bytes signature = rig_sign(pkey, "SHA256", true, SPAN("m", 1));
                        struct trust_budget budget = TRUST_BUDGET;
                        struct verified verified;
                        assert_int_equal(verify_message(keys, &(struct verify_input){ .message = SPAN("m", 1), .signature = rig_span(&signature) }, &budget, &verified), VERIFY_GOOD);
                        assert_int_equal(verify_message(keys, &(struct verify_input){ .message = SPAN("n", 1), .signature = rig_span(&signature) }, &budget, &verified), VERIFY_BAD);
                } else
                        assert_refused(pem, "restricted to RSA-PSS parameters");
                EVP_PKEY_free(pkey);
                EVP_PKEY_CTX_free(context);
        }
}

static void spki_refused(const struct rig_bytes *der, const char *words)
{
        CLEANUP(cleanup_free) char *pem = rig_pem_of("PUBLIC KEY", der->data, der->size);
        struct trust_keys *keys = NULL;
        struct error err = { 0 };
        assert_refused(pem, words);
        assert_false(key_from_spki(rig_span(der), "body", &keys, &err));
        assert_int_equal(ERR_peek_error(), 0);
        assert_null(keys);
        assert_int_equal(err.code, ERROR_BAD_KEY);
        assert_non_null(strstr(err.text, words));
}

/* Ed25519 points that make everything verify, or have a second spelling. */
static void test_ed25519_points(void **state)
{
        (void)state;
        static const char *const points[] = {
                "0100000000000000000000000000000000000000000000000000000000000000", "0000000000000000000000000000000000000000000000000000000000000000",
                "0000000000000000000000000000000000000000000000000000000000000080", "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
                "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                "0100000000000000000000000000000000000000000000000000000000000080", "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
                "0200000000000000000000000000000000000000000000000000000000000000",
        };
        for (size_t i = 0; i < COUNT_OF(points); i++) {
                CLEANUP(cleanup_free) char *hex = string_format("302a300506032b6570032100%s", points[i]);
                struct rig_bytes der = rig_hex(hex);
                spki_refused(&der, "no valid point");
        }
        struct rig_bytes good = rig_hex("302a300506032b65700321002152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12");
        CLEANUP(cleanup_free) char *pem = rig_pem_of("PUBLIC KEY", good.data, good.size);
        assert_taken(pem, 1);
        struct rig_bytes shorter = rig_hex("3029300506032b65700320002152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db");
        spki_refused(&shorter, "malformed");
        struct rig_bytes with_null = rig_hex("302c300706032b65700500032100" "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12");
        spki_refused(&with_null, "verificationKey" + 15);
}

/* A flipped bit anywhere is another key or none; bytes behind it, other spellings of lengths. */
static void test_der(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *good = rig_parse(p256);
        unsigned char *der = NULL;
        struct rig_bytes bytes = { .size = (size_t)i2d_PUBKEY(p256_key, &der) };
        memcpy(bytes.data, der, bytes.size);
        OPENSSL_free(der);
        size_t taken = 0;
        for (size_t bit = 0; bit < 8 * bytes.size; bit++) {
                struct trust_keys *keys = NULL;
                struct error err = { 0 };
                bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (key_from_spki(rig_span(&bytes), "body", &keys, &err)) {
                        assert_false(digest_equal(trust_keys_get_fingerprint(keys, 0), trust_keys_get_fingerprint(good, 0)));
                        trust_keys_unref(&keys);
                        taken++;
                }
                bytes.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_int_equal(taken, 0);                        /* not one is on the curve */
        bytes.data[bytes.size++] = 0;
        spki_refused(&bytes, "1 bytes stand behind the key");
        bytes.size -= 2;
        spki_refused(&bytes, "holds no public key");
        bytes.size++;

        struct rig_bytes spelled = { .data = { 0x30, 0x81 }, .size = bytes.size + 1 };     /* BER: the length in a longer form than it needs */
        memcpy(spelled.data + 2, bytes.data + 1, bytes.size - 1);
        CLEANUP(cleanup_free) char *pem = rig_pem_of("PUBLIC KEY", spelled.data, spelled.size);
        assert_refused(pem, "verificationKey: ");

        bytes.data[26] = (uint8_t)(6 | (bytes.data[bytes.size - 1] & 1));     /* hybrid points: 06 or 07 and both coordinates */
        spki_refused(&bytes, "one DER form");

        struct trust_keys *none = NULL;
        struct error err = { 0 };
        static const char *const not_private[] = { "3103020100", "3003040100", "3004020200ff", "3003020102", "30030201ff" }, *const private[] = { "3003020100", "3003020101", "30810402010000" };
        for (size_t i = 0; i < COUNT_OF(not_private); i++) {
                struct rig_bytes small = rig_hex(not_private[i]);
                spki_refused(&small, "holds no public key");
        }
        for (size_t i = 0; i < COUNT_OF(private); i++) {
                struct rig_bytes small = rig_hex(private[i]);
                spki_refused(&small, "a private key was given");
        }
        for (size_t length = 1; length < 6; length++) {    /* lengths that point behind the end */
                uint8_t *exact = memory_new(1, length);
                memcpy(exact, "\x30\xff\x02\x01\x01\x00", length);
                assert_false(key_from_spki(SPAN(exact, length), "body", &none, &err));
                assert_non_null(strstr(err.text, "holds no public key"));
                free(exact);
        }
        char *large = memory_new(1, TRUST_KEY_TEXT_MAX + 1);
        assert_false(key_from_spki(SPAN(large, TRUST_KEY_TEXT_MAX + 1), "body", &none, &err));
        assert_non_null(strstr(err.text, "at most 16384"));
        free(large);
        assert_false(key_from_spki(SPAN("", 0), "body", &none, &err));
        assert_null(none);
}

/* Whatever is cut off or changed in a text: an answer, never a crash, and no other key. */
static void test_cut(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *good = rig_parse(p256);
        size_t size = strlen(p256);
        for (size_t length = 0; length < size - 1; length++) {
                char *exact = memory_new(1, length + (length == 0));       /* for the sanitizers: nothing behind */
                struct trust_keys *keys = NULL;
                struct error err = { 0 };
                memcpy(exact, p256, length);
                assert_false(trust_keys_parse(exact, length, "verificationKey", &keys, &err));
                free(exact);
        }
        CLEANUP(cleanup_free) char *copy = string_copy(p256);
        for (size_t at = 0; at < size; at++) {
                struct trust_keys *keys = NULL;
                struct error err = { 0 };
                copy[at] ^= 1;
                if (trust_keys_parse(copy, size, "verificationKey", &keys, &err))
                        assert_true(digest_equal(trust_keys_get_fingerprint(keys, 0), trust_keys_get_fingerprint(good, 0)));     /* \n to \v */
                trust_keys_unref(&keys);
                copy[at] ^= 1;
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_algorithms), cmocka_unit_test(test_rsa), cmocka_unit_test(test_rsa_pss), cmocka_unit_test(test_ed25519_points), cmocka_unit_test(test_der),
                cmocka_unit_test(test_cut),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
