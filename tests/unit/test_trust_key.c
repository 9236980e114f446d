/* The field verificationKey (2.1): what is taken, what is refused and by which name, and that nothing of the text is ever shown. */
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

/* ---- what is taken ---- */
static void test_kinds(void **state)
{
        (void)state;
        static const char *const kinds[] = { "P-256", "P-384", "P-521", "RSA", "RSA-PSS", "ED25519" };
        for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                EVP_PKEY *pkey = rig_key(kinds[i]);
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(pkey);
                unsigned char *der = NULL;
                int size = i2d_PUBKEY(pkey, &der);
                struct digest fingerprint;
                digest_sha256(der, (size_t)size, &fingerprint);
                assert_int_equal(trust_keys_get_count(keys), 1);
                assert_true(digest_equal(trust_keys_get_fingerprint(keys, 0), &fingerprint));
                assert_int_equal(trust_keys_have_ed25519(keys), strcmp(kinds[i], "ED25519") == 0);

                struct trust_keys *again = NULL;
                struct error err = { 0 };
                assert_true(key_from_spki(SPAN(der, (size_t)size), "body", &again, &err));
                assert_true(digest_equal(trust_keys_get_digest(again), trust_keys_get_digest(keys)));
                trust_keys_unref(&again);
                OPENSSL_free(der);
                EVP_PKEY_free(pkey);
        }
}

/* K7's key: fingerprint and text are constants. */
static void test_known(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwrkBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw==");
        char hex[DIGEST_TEXT_BYTES], hint[64];
        digest_format_hex(trust_keys_get_fingerprint(keys, 0), hex);
        assert_string_equal(hex, "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d");        /* K3: the log id of the public Rekor */
        assert_string_equal(key_hint(keys, hint), "key c0d23d6ad406973f");
}

static void test_framing(void **state)
{
        (void)state;
        assert_taken(p256, 1);
        taken_free(replaced(p256, "\n", "\r\n"), 1);
        taken_free(replaced(p256, "\n", "\n    "), 1);
        taken_free(replaced(p256, "\n", "  \t\n\t"), 1);
        taken_free(replaced(p256, "\n", "\n\n"), 1);
        taken_free(replaced(p256, "\n", "\r\n \r\n"), 1);
        taken_free(string_format(" \n\t\r\n%s\n \f\v\n", p256), 1);
        taken_free(string_copy_bytes(p256, strlen(p256) - 1), 1);
        taken_free(string_format("%s%s%s%s", p256, p256_other, rsa, ed25519), 4);
        taken_free(string_format("%s\n\n   %s", p256, p256_other), 2);
}

static void test_doubles(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *doubled = string_format("%s%s%s", p256, ed25519, p256), *turned = string_format("%s%s", ed25519, p256);
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(doubled), *other = rig_parse(turned), *single = rig_parse(p256);
        char hint[64], expect[64], first[DIGEST_TEXT_BYTES], second[DIGEST_TEXT_BYTES];
        assert_int_equal(trust_keys_get_count(keys), 2);
        assert_true(digest_equal(trust_keys_get_fingerprint(keys, 0), trust_keys_get_fingerprint(other, 1)));
        assert_true(digest_equal(trust_keys_get_digest(keys), trust_keys_get_digest(other)));        /* whatever the order */
        assert_false(digest_equal(trust_keys_get_digest(keys), trust_keys_get_digest(single)));
        assert_true(trust_keys_have_ed25519(keys));
        assert_false(trust_keys_have_ed25519(single));
        digest_format_hex(trust_keys_get_fingerprint(keys, 0), first);
        digest_format_hex(trust_keys_get_fingerprint(keys, 1), second);
        snprintf(expect, sizeof expect, "keys %.16s, %.16s", first, second);
        assert_string_equal(key_hint(keys, hint), expect);
}

static void test_counts(void **state)
{
        (void)state;
        struct buffer text = { 0 };
        char hint[64];
        for (size_t i = 0; i < TRUST_KEYS_MAX; i++) {
                EVP_PKEY *pkey = rig_key("ED25519");
                CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
                buffer_append_text(&text, pem);
                EVP_PKEY_free(pkey);
        }
        struct trust_keys *eight = rig_parse(text.data), *joined = NULL, *one = rig_parse(p256), *sets[2] = { eight, eight }, *over[2] = { eight, one };
        struct error err = { 0 };
        assert_int_equal(trust_keys_get_count(eight), 8);
        assert_non_null(strstr(key_hint(eight, hint), " and 6 more"));
        assert_true(trust_keys_join(sets, 2, "rule", &joined, &err));
        assert_int_equal(trust_keys_get_count(joined), 8);
        assert_true(digest_equal(trust_keys_get_digest(joined), trust_keys_get_digest(eight)));
        trust_keys_unref(&joined);
        assert_false(trust_keys_join(over, 2, "rule", &joined, &err));
        assert_int_equal(err.code, ERROR_BAD_KEY);
        assert_string_equal(err.text, "rule: more than 8 keys are given");
        assert_false(trust_keys_join(over, 0, "rule", &joined, &err));
        assert_string_equal(err.text, "rule: no key is given");
        assert_null(joined);
        buffer_append_text(&text, p256);
        assert_refused(text.data, "more than 8 keys");
        buffer_fini(&text);
        trust_keys_unref(&eight);
        trust_keys_unref(&one);
}

/* A set lives as long as someone has it, also when the sets it was joined from are gone. */
static void test_references(void **state)
{
        (void)state;
        struct trust_keys *a = rig_parse(p256), *b = rig_parse(ed25519), *sets[2] = { a, b }, *joined = NULL, *second = trust_keys_ref(a);
        struct error err = { 0 };
        assert_ptr_equal(a, second);
        assert_true(trust_keys_join(sets, 2, "rule", &joined, &err));
        trust_keys_unref(&a);
        trust_keys_unref(&b);
        assert_int_equal(trust_keys_get_count(second), 1);
        assert_true(digest_equal(trust_keys_get_fingerprint(joined, 0), trust_keys_get_fingerprint(second, 0)));
        trust_keys_unref(&second);
        assert_true(digest_is_set(trust_keys_get_fingerprint(joined, 0)));
        trust_keys_unref(&joined);
        trust_keys_unref(&joined);
}

static void test_pkcs1(void **state)
{
        (void)state;
        unsigned char *der = NULL;
        BIGNUM *n = NULL, *e = NULL;
        uint8_t pkcs1[600] = { 0x30, 0x82, 0, 0, 0x02, 0x82, 1, 1, 0 };
        EVP_PKEY_get_bn_param(rsa_key, OSSL_PKEY_PARAM_RSA_N, &n);
        EVP_PKEY_get_bn_param(rsa_key, OSSL_PKEY_PARAM_RSA_E, &e);
        BN_bn2bin(n, pkcs1 + 9);
        memcpy(pkcs1 + 9 + 256, "\x02\x03\x01\x00\x01", 5);
        size_t size = 9 + 256 + 5;
        pkcs1[2] = (uint8_t)((size - 4) >> 8);
        pkcs1[3] = (uint8_t)((size - 4) & 255);
        CLEANUP(cleanup_free) char *pem = rig_pem_of("RSA PUBLIC KEY", pkcs1, size), *longer = rig_pem_of("RSA PUBLIC KEY", pkcs1, size + 1),
                             *shorter = rig_pem_of("RSA PUBLIC KEY", pkcs1, size - 1), *mislabelled = rig_pem_of("PUBLIC KEY", pkcs1, size),
                             *both = string_format("%s%s", pem, rsa);
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(pem), *spki = rig_parse(rsa);
        assert_true(digest_equal(trust_keys_get_fingerprint(keys, 0), trust_keys_get_fingerprint(spki, 0)));
        assert_taken(both, 1);
        assert_refused(longer, "DER");
        assert_refused(shorter, "verificationKey: ");
        assert_refused(mislabelled, "holds no public key");
        CLEANUP(cleanup_free) char *ec = replaced(p256, "PUBLIC KEY", "RSA PUBLIC KEY");
        assert_refused(ec, "verificationKey: ");
        BN_free(n);
        BN_free(e);
        OPENSSL_free(der);
}

/* A compressed point is the same key. */
static void test_compressed(void **state)
{
        (void)state;
        unsigned char *der = NULL;
        EVP_PKEY *copy = EVP_PKEY_dup(p256_key);
        EVP_PKEY_set_utf8_string_param(copy, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, "compressed");
        int size = i2d_PUBKEY(copy, &der);
        assert_int_equal(size, 59);
        CLEANUP(cleanup_free) char *pem = rig_pem_of("PUBLIC KEY", der, (size_t)size), *both = string_format("%s%s", pem, p256);
        assert_taken(both, 1);
        OPENSSL_free(der);
        EVP_PKEY_free(copy);
}

/* ---- what is refused: texts ---- */
static const struct refusal { const char *text, *words; } refusals[] = {
        { "", "white space only" }, { " \r\n\t\n", "white space only" }, { "hello", "such a text begins with the line -----BEGIN PUBLIC KEY-----" },
        { "untrusted comment: minisign public key 1\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n", "found a minisign public key" },
        { "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3", "found a minisign public key" },
        { "untrusted comment: minisign encrypted secret key\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n", "a private key was given" },
        { "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGfhJc0bP1p me@here", "cut -d' ' -f2 FILE | base64 -d | tail -c 32" }, { "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDL me@here", "ssh-keygen -e -m PKCS8" },
        { "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA", "ssh-keygen" },
        { "---- BEGIN SSH2 PUBLIC KEY ----\nAAAAC3NzaC1lZDI1NTE5\n---- END SSH2 PUBLIC KEY ----\n", "ssh-keygen" }, { "{\"kty\":\"EC\"}", "JSON" },
        { "/etc/wasmcached/cosign.pub", "a file name" }, { "https://host/cosign.pub", "a URL" }, { "awskms:///alias/x", "a URL" },
        { "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12", "a raw key in hex" }, { "2152F8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db1G", "such a text begins" },
        { "IVL40Zt5HSRFMkLhXy6rbLfP+ntqXtMAl5YOBpiB2xI=", "base64 of a raw key" }, { "ASFS+NGbeR0kRTJC4V8uq2y3z/p7al7TAJeWDgaYgdsS", "base64 of a raw key" },
        { "MCowBQYDK2VwAyEAIVL40Zt5HSRFMkLhXy6rbLfP+ntqXtMAl5YOBpiB2xI=", "without its frame" }, { "aGVsbG8gd29ybGQ=", "such a text begins" },
        { "MC4CAQAwBQYDK2VwBCIEIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC", "a private key was given" },
        { "-----BEGIN PUBLIC KEY-----", "cut off" }, { "-----BEGIN PUBLIC KEY-----\n", "cut off" }, { "-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n", "not base64" },
        { "-----BEGIN PUBLIC KEY-----\nMCow*\n-----END PUBLIC KEY-----\n", "not base64" }, { "-----BEGIN PUBLIC KEY-----\nMC ow\n-----END PUBLIC KEY-----\n", "not base64" },
        { "-----BEGIN PUBLIC KEY-----\nMCo_\n-----END PUBLIC KEY-----\n", "not base64" }, { "-----BEGIN PUBLIC KEY-----\nMCo\n-----END PUBLIC KEY-----\n", "not base64" },
        { "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", "holds no public key" }, { "-----BEGIN RSA PUBLIC KEY-----\nMCow\n-----END RSA PUBLIC KEY-----\n", "verificationKey: " },
        { "-----BEGIN PUBLIC KEY-----\nMCow\n-----END RSA PUBLIC KEY-----\n", "does not end with the line" }, { "-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY----\n", "does not end with the line" },
        { "-----BEGIN PUBLIC KEY-----\nMCow\n-----BEGIN PUBLIC KEY-----\n", "does not end with the line" }, { "-----BEGIN PUBLIC KEY-----\nProc-Type: 4,ENCRYPTED\n\nMCow\n-----END PUBLIC KEY-----\n", "not base64" },
        { "-----BEGIN PUBLIC KEY-----\nMCow\n-----XND PUBLIC KEY-----\n", "does not end with the line" },
        { "-----BEGIN PUBLIC KEY----- MCow -----END PUBLIC KEY-----", "line breaks" }, { "-----BEGIN PUBLIC KEY-----\\nMCow\\n-----END PUBLIC KEY-----", "line breaks" },
        { "-----BEGIN PUBLIC KEY----", "line breaks" }, { "-----BEGIN -----", "another type" }, { "-----BEGIN ----", "line breaks" },
        { "-----BEGIN CERTIFICATE-----\nMCow\n-----END CERTIFICATE-----\n", "(found \"CERTIFICATE\"): a certificate was given; extract the key with openssl x509 -pubkey" },
        { "-----BEGIN TRUSTED CERTIFICATE-----\nMCow\n", "\"TRUSTED CERTIFICATE\"" }, { "-----BEGIN X509 CERTIFICATE-----\nMCow\n", "\"X509 CERTIFICATE\"" },
        { "-----BEGIN CERTIFICATE REQUEST-----\nMCow\n", "openssl req" }, { "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEY\n", "PGP keys are not supported" },
        { "-----BEGIN EC PARAMETERS-----\nMCow\n", "only the parameters" }, { "-----BEGIN DSA PUBLIC KEY-----\nMCow\n", "DSA keys are not supported" }, { "-----BEGIN PKCS7-----\nMCow\n", "pkcs7" },
        { "-----BEGIN public key-----\nMCow\n-----END public key-----\n", "another type" }, { "-----BEGIN PUBLIC KEYS-----\nMCow\n", "another type" },
        { "-----BEGIN SECRETSAUCE123456-----\nMCow\n", "another type" },
        { "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n-----END PRIVATE KEY-----\n", "(found a PRIVATE KEY)" }, { "-----BEGIN EC PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n", "a private key was given" },
        { "-----BEGIN RSA PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n", "a private key was given" }, { "-----BEGIN OPENSSH PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n", "a private key was given" },
        { "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n", "a private key was given" }, { "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCI\n", "a private key was given" },
        { "-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCI\n", "a private key was given" }, { "-----BEGIN PGP PRIVATE KEY BLOCK-----\nMC4CAQAwBQYDK2VwBCI\n", "a private key was given" },
        { "PuTTY-User-Key-File-3: ssh-ed25519\n", "a private key was given" }, { "AGE-SECRET-KEY-1QQPPQ", "a private key was given" },
        { "-----BEGIN PUBLIC KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC\n-----END PUBLIC KEY-----\n", "a private key was given" },
        { "-----BEGIN RSA PUBLIC KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJCQkJC\n-----END RSA PUBLIC KEY-----\n", "a private key was given" },
};

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(refusals); i++)
                assert_refused(refusals[i].text, refusals[i].words);
}

static void test_refused_bytes(void **state)
{
        (void)state;
        char raw[65] = { 1 };
        memset(raw + 1, 0x42, 64);
        assert_refused_bytes(raw, 33, "a raw wasmsign key");
        assert_refused_bytes(raw, 32, "such a text begins");
        raw[0] = (char)0x81;
        assert_refused_bytes(raw, 65, "a private key was given");
        assert_refused_bytes(raw, 64, "such a text begins");
        memcpy(raw, "\2\0\0\0", 4);
        assert_refused_bytes(raw, 36, "a raw wasmsign key");
        assert_refused_bytes(raw, 37, "NUL");

        unsigned char *der = NULL;
        int size = i2d_PUBKEY(p256_key, &der);
        assert_refused_bytes((char *)der, (size_t)size, "convert it with openssl pkey -pubin -inform DER");
        OPENSSL_free(der);
        der = NULL;
        size = i2d_PUBKEY(rsa_key, &der);
        assert_refused_bytes((char *)der, (size_t)size, "found DER");
        OPENSSL_free(der);
        der = NULL;
        size = i2d_PrivateKey(p256_key, &der);
        assert_refused_bytes((char *)der, (size_t)size, "a private key was given");
        CLEANUP(cleanup_free) char *hidden = rig_pem_of("PUBLIC KEY", der, (size_t)size), *base64 = base64_encode(der, (size_t)size);
        assert_refused(hidden, "a private key was given");
        assert_refused(base64, "a private key was given");
        OPENSSL_free(der);
        der = NULL;
        size = i2d_PrivateKey(rsa_key, &der);              /* a long one: other form of lengths */
        CLEANUP(cleanup_free) char *rsa_hidden = rig_pem_of("PUBLIC KEY", der, (size_t)size);
        assert_refused(rsa_hidden, "a private key was given");
        OPENSSL_free(der);
}

static void test_refused_around(void **state)
{
        (void)state;
        refused_free(string_format("hello\n%s", p256), "line 1: there is text outside of the PEM blocks");
        refused_free(string_format("%shello", p256), "there is text outside");
        refused_free(string_format("%shello\n%s", p256, p256_other), "there is text outside");
        refused_free(string_format("# my key\n%s", p256), "there is text outside");
        refused_free(string_format("%s-----END PUBLIC KEY-----\n", p256), "there is text outside");
        refused_free(string_format("\xef\xbb\xbf%s", p256), "there is text outside");
        refused_free(string_format("%s-----BEGIN CERTIFICATE-----\nMCow\n-----END CERTIFICATE-----\n", p256), "\"CERTIFICATE\"");
        refused_free(string_format("%s-----BEGIN PRIVATE KEY-----\nMCow\n-----END PRIVATE KEY-----\n", p256), "a private key was given");
        refused_free(string_format("%s-----BEGIN PUBLIC KEY-----\nMCow\n-----END PUBLIC KEY-----\n", p256), "verificationKey, key 2 of 2: ");       /* one bad block fails the field */
        refused_free(replaced(p256, "-----BEGIN", "----BEGIN"), "verificationKey");
        refused_free(replaced(p256, "-----END", "- -----END"), "does not end with the line");
        refused_free(base64_encode(p256, strlen(p256)), "base64 of a PEM text");
        CLEANUP(cleanup_free) char *private = string_copy("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEJCQkJC\n-----END PRIVATE KEY-----\n");
        refused_free(base64_encode(private, strlen(private)), "a private key was given");

        char *big = memory_new(1, 1 << 20);
        memset(big, ' ', 1 << 20);
        memcpy(big, p256, strlen(p256));
        assert_refused_bytes(big, TRUST_KEY_TEXT_MAX + 1, "has 16385 bytes, at most 16384");
        assert_refused_bytes(big, 1 << 20, "at most 16384");
        struct trust_keys *keys = NULL;
        struct error err = { 0 };
        assert_true(trust_keys_parse(big, TRUST_KEY_TEXT_MAX, "verificationKey", &keys, &err));
        trust_keys_unref(&keys);
        big[strlen(p256) + 3] = '\0';
        assert_refused_bytes(big, 1000, "NUL");
        free(big);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_kinds), cmocka_unit_test(test_known), cmocka_unit_test(test_framing), cmocka_unit_test(test_doubles), cmocka_unit_test(test_counts),
                cmocka_unit_test(test_references), cmocka_unit_test(test_pkcs1), cmocka_unit_test(test_compressed), cmocka_unit_test(test_refusals),
                cmocka_unit_test(test_refused_bytes), cmocka_unit_test(test_refused_around),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
