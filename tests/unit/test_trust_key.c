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
#include "trust_rig.h"

static char *p256, *p256_other, *rsa, *ed25519;           /* PEM */
static EVP_PKEY *p256_key, *rsa_key;

static int setup(void **state)
{
        (void)state;
        p256_key = rig_key("P-256");
        rsa_key = rig_key("RSA");
        EVP_PKEY *other = rig_key("P-256"), *edwards = rig_key("ED25519");
        p256 = rig_pem(p256_key);
        p256_other = rig_pem(other);
        rsa = rig_pem(rsa_key);
        ed25519 = rig_pem(edwards);
        EVP_PKEY_free(other);
        EVP_PKEY_free(edwards);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        free(p256);
        free(p256_other);
        free(rsa);
        free(ed25519);
        EVP_PKEY_free(p256_key);
        EVP_PKEY_free(rsa_key);
        return 0;
}

/* No 12 bytes of the text's base64 may be in the error. */
static void assert_not_shown(const char *text, size_t size, const char *shown)
{
        for (size_t at = 0; at + 12 <= size; at++) {
                size_t letters = 0;
                while (letters < 12 && (isalnum((unsigned char)text[at + letters]) || strchr("+/=", text[at + letters])) && text[at + letters] != '\0')
                        letters++;
                if (letters == 12 && memmem(shown, strlen(shown), text + at, 12))
                        fail_msg("the text is shown: %s", shown);
        }
}

static void assert_refused_bytes(const char *text, size_t size, const char *words)
{
        struct trust_keys *keys = (struct trust_keys *)(uintptr_t)8;
        struct error err = { 0 };
        if (trust_keys_parse(text, size, "verificationKey", &keys, &err))
                fail_msg("taken: %.100s (%s)", text, words);
        assert_ptr_equal(keys, (void *)(uintptr_t)8);
        assert_int_equal(err.code, ERROR_BAD_KEY);
        if (strncmp(err.text, "verificationKey", 15) != 0 || !strstr(err.text, words))
                fail_msg("no \"%s\" in: %s", words, err.text);
        assert_not_shown(text, size, err.text);
        assert_int_equal(ERR_peek_error(), 0);
}

static void assert_refused(const char *text, const char *words)
{
        assert_refused_bytes(text, strlen(text), words);
}

static void assert_taken(const char *text, size_t count)
{
        struct trust_keys *keys = rig_parse(text);
        assert_int_equal(trust_keys_get_count(keys), count);
        trust_keys_unref(&keys);
        assert_null(keys);
}

/* `text` with each `from` written as `to`; the caller frees. */
static char *replaced(const char *text, const char *from, const char *to)
{
        struct buffer out = { 0 };
        for (const char *hit; (hit = strstr(text, from)); text = hit + strlen(from)) {
                buffer_append(&out, text, (size_t)(hit - text));
                buffer_append_text(&out, to);
        }
        buffer_append_text(&out, text);
        return buffer_take(&out);
}

static void refused_free(char *text, const char *words)
{
        assert_refused(text, words);
        free(text);
}

static void taken_free(char *text, size_t count)
{
        assert_taken(text, count);
        free(text);
}

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
        { "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGfhJc0bP1p me@here", "ssh-keygen" }, { "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHA", "ssh-keygen" },
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
        refused_free(rsa_pem(even, e), "not sound");
        refused_free(rsa_pem(prime, e), "not sound");
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
                        assert_int_equal(verify_message(keys, &(struct verify_input){ SPAN("m", 1), rig_span(&signature), 0 }, &budget, &verified), VERIFY_GOOD);
                        assert_int_equal(verify_message(keys, &(struct verify_input){ SPAN("n", 1), rig_span(&signature), 0 }, &budget, &verified), VERIFY_BAD);
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
                cmocka_unit_test(test_kinds), cmocka_unit_test(test_known), cmocka_unit_test(test_framing), cmocka_unit_test(test_doubles), cmocka_unit_test(test_counts),
                cmocka_unit_test(test_references), cmocka_unit_test(test_pkcs1), cmocka_unit_test(test_compressed), cmocka_unit_test(test_refusals), cmocka_unit_test(test_refused_bytes),
                cmocka_unit_test(test_refused_around), cmocka_unit_test(test_algorithms), cmocka_unit_test(test_rsa), cmocka_unit_test(test_rsa_pss), cmocka_unit_test(test_ed25519_points),
                cmocka_unit_test(test_der), cmocka_unit_test(test_cut),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
