/* One signature over one message (2.2, 2.3): vectors of section 13, every way of every key, and what must never verify. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <pthread.h>
#include <sodium.h>
#include <time.h>
#include <cmocka.h>
#include "trust_rig.h"

static enum verify_result verify(const struct trust_keys *keys, struct span message, struct span signature, unsigned flags, struct verified *ret_verified)
{
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_content content = { 0 };
        enum verify_result result = verify_message(keys, &(struct verify_input){ .message = message, .signature = signature, .flags = flags, .noted = &content }, &budget, ret_verified);
        struct verified again;
        trust_content_fill(&content, message.bytes, message.size_bytes);
        if (verify_message(keys, &(struct verify_input){ .signature = signature, .flags = flags, .content = &content }, &budget, &again) != result ||
            (result == VERIFY_GOOD && (again.key != ret_verified->key || again.algorithm != ret_verified->algorithm)))
                fail_msg("by what was noted of the message another result comes out than by its bytes (%d)", (int)result);
        if (result == VERIFY_BAD && ERR_peek_error() != 0)         /* OpenSSL's queue is one per thread: what is left there is found by whoever looks next */
                fail_msg("an error is left in the queue");
        return result;
}

#define K1_KEY "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNLqFhf4fiN6o/glAuYnq2jYUeL0vRuLu/z39pmbVwS9ff5AYnlwaP9sxREajdLY9ynM6G1sy6AAmb7Z63TsLg=="
#define PAYLOAD(name, rest) "{\"critical\":{\"identity\":{\"docker-reference\":\"192.168.64.2:5000/" name "\"},\"image\":{\"docker-manifest-digest\":" \
        "\"sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00\"},\"type\":\"cosign container image signature\"},\"optional\":" rest "}"
static const struct vector { const char *name, *key, *message, *signature, *algorithm; } vectors[] = {
        { "K1", K1_KEY, PAYLOAD("cosign-signed-single-sample", "null"),
          "MEYCIQDmtamqYPjMg81nqeBhptrPls44aA/r7PwLmspINJY4MwIhANKRpqe2E9UCBtGFdPoz/8jAbaQm4uP4h+IpwKTE6ClR", "ECDSA P-256 SHA-256" },
        { "K2", K1_KEY, PAYLOAD("skopeo-signed:tag", "{\"creator\":\"containers/image 5.21.2-dev\",\"timestamp\":1657296609}"),
          "MEUCIAhoI92AgO+sWjr6N+QjEDQE9Wwg1oaDDcaJIlALUqRlAiEA9+iphb/7b5T13Wy7KnlXMUM17uYTgEkUl97pu3GD/5M=", "ECDSA P-256 SHA-256" },
        { "K6 P1363", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaRJaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==",
          "DSSEv1 29 http://example.com/HelloWorld 11 hello world", "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==", "ECDSA P-256 SHA-256" },
        { "K6 DER", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaRJaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==",
          "DSSEv1 29 http://example.com/HelloWorld 11 hello world", "MEQCIANyarEBrVbCdjtsaqyOSHJ14qeRk6CdxfhZ2fjvPEo7AiBR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==", "ECDSA P-256 SHA-256" },
};

static void test_vectors(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(vectors); i++) {
                const struct vector *vector = &vectors[i];
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki(vector->key);
                struct rig_bytes signature = rig_base64(vector->signature), message = { .size = strlen(vector->message) };
                struct verified verified = { .key = 99 };
                memcpy(message.data, vector->message, message.size);

                assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_GOOD);
                assert_int_equal(verified.key, 0);
                assert_string_equal(verified.algorithm, vector->algorithm);
                for (size_t at = 0; at < signature.size; at++) {
                        signature.data[at] ^= 1;
                        assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_BAD);
                        signature.data[at] ^= 1;
                }
                for (size_t at = 0; at < message.size; at += 7) {
                        message.data[at] ^= 1;
                        assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_BAD);
                        message.data[at] ^= 1;
                }
                signature.size++;
                assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_BAD);
                signature.size -= 2;
                assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_BAD);
                assert_int_equal(verify(keys, rig_span(&message), SPAN("", 0), 0, &verified), VERIFY_BAD);
                signature.size++;
                message.size--;
                assert_int_equal(verify(keys, rig_span(&message), rig_span(&signature), 0, &verified), VERIFY_BAD);
        }
}

/* K12: RFC 8032 section 7.3. Where wasm forms and minisign are read, ph is not tried. */
static void test_ed25519ph(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki("MCowBQYDK2VwAyEA7Bcrk61eVjv0kyxw4SRQNMNUZ+8u/U1k6/gZaDRn4r8=");
        struct rig_bytes signature = rig_hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
        struct verified verified = { 0 };
        assert_int_equal(verify(keys, SPAN("abc", 3), rig_span(&signature), 0, &verified), VERIFY_GOOD);
        assert_string_equal(verified.algorithm, "Ed25519ph");
        assert_int_equal(verify(keys, SPAN("abc", 3), rig_span(&signature), VERIFY_ED25519_ONLY, &verified), VERIFY_BAD);
        assert_int_equal(verify(keys, SPAN("abd", 3), rig_span(&signature), 0, &verified), VERIFY_BAD);
        for (size_t at = 0; at < signature.size; at++) {
                signature.data[at] ^= 0x10;
                assert_int_equal(verify(keys, SPAN("abc", 3), rig_span(&signature), 0, &verified), VERIFY_BAD);
                signature.data[at] ^= 0x10;
        }
        signature.size = 63;
        assert_int_equal(verify(keys, SPAN("abc", 3), rig_span(&signature), 0, &verified), VERIFY_BAD);
        signature.size = 65;
        assert_int_equal(verify(keys, SPAN("abc", 3), rig_span(&signature), 0, &verified), VERIFY_BAD);
}

/* Every hash and scheme against every key: the table of 2.2 and nothing else. NULL = must not verify. */
static const struct way { const char *key, *hash; bool pss; unsigned flags; const char *algorithm; } ways[] = {
        { "P-256", "SHA256", false, 0, "ECDSA P-256 SHA-256" }, { "P-256", "SHA384", false, 0, NULL }, { "P-256", "SHA512", false, 0, NULL }, { "P-256", "SHA1", false, 0, NULL },
        { "P-256", "SHA224", false, 0, NULL }, { "P-256", "SHA3-256", false, 0, NULL }, { "P-256", "SHA256", false, VERIFY_ED25519_ONLY, NULL },
        { "P-384", "SHA384", false, 0, "ECDSA P-384 SHA-384" }, { "P-384", "SHA256", false, 0, "ECDSA P-384 SHA-256" }, { "P-384", "SHA512", false, 0, NULL },
        { "P-384", "SHA1", false, 0, NULL }, { "P-384", "SHA384", false, VERIFY_ED25519_ONLY, NULL }, { "P-384", "SHA256", false, VERIFY_ED25519_ONLY, NULL },
        { "P-521", "SHA512", false, 0, "ECDSA P-521 SHA-512" }, { "P-521", "SHA256", false, 0, "ECDSA P-521 SHA-256" }, { "P-521", "SHA384", false, 0, NULL },
        { "P-521", "SHA1", false, 0, NULL }, { "P-521", "SHA512", false, VERIFY_ED25519_ONLY, NULL }, { "P-521", "SHA256", false, VERIFY_ED25519_ONLY, NULL },
        { "RSA", "SHA256", false, 0, "RSA PKCS#1 v1.5 SHA-256" }, { "RSA", "SHA256", false, VERIFY_PSS, "RSA PKCS#1 v1.5 SHA-256" }, { "RSA", "SHA512", false, VERIFY_PSS, NULL },
        { "RSA", "SHA1", false, VERIFY_PSS, NULL }, { "RSA", "MD5", false, VERIFY_PSS, NULL }, { "RSA", "SHA256", true, 0, NULL }, { "RSA", "SHA256", true, VERIFY_PSS, "RSA-PSS SHA-256" },
        { "RSA", "SHA512", true, VERIFY_PSS, NULL }, { "RSA", "SHA1", true, VERIFY_PSS, NULL }, { "RSA", "SHA256", true, VERIFY_PSS | VERIFY_ED25519_ONLY, NULL },
        { "RSA", "SHA256", false, VERIFY_ED25519_ONLY, NULL },
        { "RSA-PSS", "SHA256", true, 0, "RSA-PSS SHA-256" }, { "RSA-PSS", "SHA256", true, VERIFY_PSS, "RSA-PSS SHA-256" }, { "RSA-PSS", "SHA384", true, 0, NULL },
        { "RSA-PSS", "SHA256", true, VERIFY_ED25519_ONLY, NULL },
        { "ED25519", NULL, false, 0, "Ed25519" }, { "ED25519", NULL, false, VERIFY_ED25519_ONLY, "Ed25519" }, { "ED25519", NULL, false, VERIFY_PSS, "Ed25519" },
};
static const char *const kinds[] = { "P-256", "P-384", "P-521", "RSA", "RSA-PSS", "ED25519" };
static EVP_PKEY *made[COUNT_OF(kinds)], *foreign[COUNT_OF(kinds)];

static size_t kind_index(const char *kind)
{
        size_t i = 0;
        while (strcmp(kinds[i], kind) != 0)
                i++;
        return i;
}

static int keys_make(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                made[i] = rig_key(kinds[i]);
                foreign[i] = rig_key(kinds[i]);
        }
        return 0;
}

static int keys_free(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                EVP_PKEY_free(made[i]);
                EVP_PKEY_free(foreign[i]);
        }
        return 0;
}

static void test_table(void **state)
{
        (void)state;
        struct span message = SPAN("what is signed", 14);
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
                const struct way *way = &ways[i];
                EVP_PKEY *pkey = made[kind_index(way->key)];
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(pkey), *others = rig_public(foreign[kind_index(way->key)]);
                struct rig_bytes signature = rig_sign(pkey, way->hash, way->pss, message);
                struct verified verified = { .key = 99 };
                enum verify_result result = verify(keys, message, rig_span(&signature), way->flags, &verified);
                if (result != (way->algorithm ? VERIFY_GOOD : VERIFY_BAD) || (way->algorithm && strcmp(way->algorithm, verified.algorithm) != 0))
                        fail_msg("%s %s pss=%d flags=%u: %d", way->key, way->hash ? way->hash : "-", way->pss, way->flags, result);
                if (!way->algorithm)
                        assert_int_equal(verified.key, 99);        /* outputs are untouched on failure */
                assert_int_equal(verify(others, message, rig_span(&signature), way->flags, &verified), VERIFY_BAD);
                assert_int_equal(verify(keys, SPAN("what is Signed", 14), rig_span(&signature), way->flags, &verified), VERIFY_BAD);
                for (size_t change = 0; change < 2; change++) {    /* one byte less, one byte more: zero, as RSA would not mind */
                        signature.size += change ? 2 : (size_t)-1;
                        signature.data[signature.size - change] = 0;
                        assert_int_equal(verify(keys, message, rig_span(&signature), way->flags, &verified), VERIFY_BAD);
                }
        }
}

/* A leading zero of an RSA signature may not be left out: one spelling only. */
static void test_rsa_short(void **state)
{
        (void)state;
        for (size_t pss = 0; pss < 2; pss++) {
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(made[kind_index("RSA")]);
                struct rig_bytes signature = { .size = 0 };
                struct verified verified;
                char text[32];
                size_t length = 0;
                for (unsigned i = 0; i < 100000 && (i == 0 || signature.data[0] != 0); i++) {
                        length = (size_t)snprintf(text, sizeof text, "message %u", i);
                        signature = rig_sign(made[kind_index("RSA")], "SHA256", pss, SPAN(text, length));
                }
                assert_int_equal(signature.data[0], 0);
                assert_int_equal(verify(keys, SPAN(text, length), rig_span(&signature), VERIFY_PSS, &verified), VERIFY_GOOD);
                assert_int_equal(verify(keys, SPAN(text, length), SPAN(signature.data + 1, signature.size - 1), VERIFY_PSS, &verified), VERIFY_BAD);
        }
}

/* r || s for each curve; halves out of range, other lengths, zero. And a number with a zero in front, in DER. */
static void test_p1363(void **state)
{
        (void)state;
        static const struct { const char *kind, *hash; size_t coordinate; } rows[] = { { "P-256", "SHA256", 32 }, { "P-384", "SHA384", 48 }, { "P-384", "SHA256", 48 }, { "P-521", "SHA512", 66 } };
        struct span message = SPAN("message", 7);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                EVP_PKEY *pkey = made[kind_index(rows[i].kind)];
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(pkey);
                struct rig_bytes der = rig_sign(pkey, rows[i].hash, false, message), raw = { .size = 2 * rows[i].coordinate };
                struct verified verified;
                const unsigned char *at = der.data;
                ECDSA_SIG *pair = d2i_ECDSA_SIG(NULL, &at, (long)der.size);
                BN_bn2binpad(ECDSA_SIG_get0_r(pair), raw.data, (int)rows[i].coordinate);
                BN_bn2binpad(ECDSA_SIG_get0_s(pair), raw.data + rows[i].coordinate, (int)rows[i].coordinate);
                ECDSA_SIG_free(pair);
                assert_int_equal(verify(keys, message, rig_span(&raw), 0, &verified), VERIFY_GOOD);
                assert_int_equal(verify(keys, SPAN("massage", 7), rig_span(&raw), 0, &verified), VERIFY_BAD);
                assert_int_equal(verify(keys, message, SPAN(raw.data, raw.size - 2), 0, &verified), VERIFY_BAD);
                assert_int_equal(verify(keys, message, SPAN(raw.data, raw.size + 2), 0, &verified), VERIFY_BAD);
                raw.data[3] ^= 1;
                assert_int_equal(verify(keys, message, rig_span(&raw), 0, &verified), VERIFY_BAD);
                memset(raw.data, 0, raw.size);
                assert_int_equal(verify(keys, message, rig_span(&raw), 0, &verified), VERIFY_BAD);
                memset(raw.data, 0xff, raw.size);
                assert_int_equal(verify(keys, message, rig_span(&raw), 0, &verified), VERIFY_BAD);
        }
}

/* CVE-2020-14966 and its family: other encodings of the same numbers. */
static void test_der_strict(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(made[0]);
        struct span message = SPAN("message", 7);
        struct rig_bytes der = rig_sign(made[0], "SHA256", false, message), other = { .size = 0 };
        struct verified verified;
        size_t r = der.data[3];
        assert_int_equal(verify(keys, message, rig_span(&der), 0, &verified), VERIFY_GOOD);

        other.data[0] = 0x30;                              /* 81: long form of the length */
        other.data[1] = 0x81;
        memcpy(other.data + 2, der.data + 1, der.size - 1);
        other.size = der.size + 1;
        assert_int_equal(verify(keys, message, rig_span(&other), 0, &verified), VERIFY_BAD);

        other = der;                                       /* a zero more in front of r */
        memmove(other.data + 5, other.data + 4, der.size - 4);
        other.data[4] = 0;
        other.data[1]++;
        other.data[3]++;
        other.size++;
        assert_int_equal(verify(keys, message, rig_span(&other), 0, &verified), VERIFY_BAD);

        other = der;                                       /* a NULL behind s, inside of the sequence */
        other.data[1] = (uint8_t)(other.data[1] + 2);
        other.data[other.size++] = 5;
        other.data[other.size++] = 0;
        assert_int_equal(verify(keys, message, rig_span(&other), 0, &verified), VERIFY_BAD);

        other = der;                                       /* zero bytes behind the sequence */
        other.data[other.size++] = 0;
        assert_int_equal(verify(keys, message, rig_span(&other), 0, &verified), VERIFY_BAD);

        other = der;                                       /* r - n, which is negative: the sign bit */
        if (other.data[4] == 0) {
                memmove(other.data + 4, other.data + 5, der.size - 5);
                other.data[1]--;
                other.data[3] = (uint8_t)(r - 1);
                other.size--;
                assert_int_equal(verify(keys, message, rig_span(&other), 0, &verified), VERIFY_BAD);
        }
}

/* Any key of the set; the one that made it is named; flags go for each key. */
static void test_any_of(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        struct trust_keys *sets[COUNT_OF(kinds)];
        struct error err = { 0 };
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
                sets[i] = rig_public(made[i]);
        assert_true(trust_keys_join(sets, COUNT_OF(kinds), "rule", &keys, &err));
        for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                static const char *const hashes[] = { "SHA256", "SHA384", "SHA512", "SHA256", "SHA256", NULL };
                struct rig_bytes signature = rig_sign(made[i], hashes[i], i == 4, SPAN("message", 7)), bad = rig_sign(foreign[i], hashes[i], i == 4, SPAN("message", 7));
                struct verified verified = { .key = 99 };
                assert_int_equal(verify(keys, SPAN("message", 7), rig_span(&signature), 0, &verified), VERIFY_GOOD);
                assert_int_equal(verified.key, i);
                assert_true(digest_equal(trust_keys_get_fingerprint(keys, i), trust_keys_get_fingerprint(sets[i], 0)));
                assert_int_equal(verify(keys, SPAN("message", 7), rig_span(&bad), 0, &verified), VERIFY_BAD);
                assert_int_equal(verify(keys, SPAN("message", 7), rig_span(&signature), VERIFY_ED25519_ONLY, &verified), i == 5 ? VERIFY_GOOD : VERIFY_BAD);
        }
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
                trust_keys_unref(&sets[i]);
}

/* Each operation costs one; what could not be a signature of that key costs nothing. */
static void test_budget(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *p384 = rig_public(made[1]), *ed25519 = rig_public(made[5]);
        struct rig_bytes old = rig_sign(made[1], "SHA256", false, SPAN("message", 7)), edwards = rig_sign(made[5], NULL, false, SPAN("message", 7));
        struct verify_input input = { .message = SPAN("message", 7), .signature = rig_span(&old) };
        struct verified verified;
        struct trust_budget budget = { 0, 100 };
        assert_int_equal(verify_message(p384, &input, &budget, &verified), VERIFY_SPENT);
        budget.verifications = 1;
        assert_int_equal(verify_message(p384, &input, &budget, &verified), VERIFY_SPENT);      /* SHA-384 was tried, SHA-256 was not */
        assert_int_equal(budget.verifications, 0);
        budget.verifications = 2;
        assert_int_equal(verify_message(p384, &input, &budget, &verified), VERIFY_GOOD);
        assert_int_equal(budget.verifications, 0);
        budget.verifications = 7;
        assert_int_equal(verify_message(ed25519, &input, &budget, &verified), VERIFY_BAD);     /* not 64 bytes */
        input.signature = SPAN(old.data, 200);
        assert_int_equal(verify_message(p384, &input, &budget, &verified), VERIFY_BAD);        /* longer than any */
        assert_int_equal(budget.verifications, 7);
        input.signature = rig_span(&edwards);
        assert_int_equal(verify_message(ed25519, &input, &budget, &verified), VERIFY_GOOD);
        assert_int_equal(budget.verifications, 6);
        assert_int_equal(budget.bytes, 100);
}

static struct trust_keys *shared_keys;
static struct rig_bytes shared_signatures[COUNT_OF(kinds)];

static void *thread_verify(void *arg)
{
        size_t bad = 0;
        struct verified verified;
        for (size_t round = 0; round < 12; round++)
                for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                        bad += verify(shared_keys, SPAN("message", 7), rig_span(&shared_signatures[i]), 0, &verified) != VERIFY_GOOD || verified.key != i;
                        bad += verify(shared_keys, SPAN("massage", 7), rig_span(&shared_signatures[i]), 0, &verified) != VERIFY_BAD;
                }
        *(size_t *)arg = bad;
        return NULL;
}

/* Keys are shared by all workers. */
static void test_threads(void **state)
{
        (void)state;
        static const char *const hashes[] = { "SHA256", "SHA384", "SHA512", "SHA256", "SHA256", NULL };
        struct trust_keys *sets[COUNT_OF(kinds)];
        struct error err = { 0 };
        pthread_t threads[4];
        size_t bad[4] = { 9, 9, 9, 9 };
        for (size_t i = 0; i < COUNT_OF(kinds); i++) {
                sets[i] = rig_public(made[i]);
                shared_signatures[i] = rig_sign(made[i], hashes[i], i == 4, SPAN("message", 7));
        }
        assert_true(trust_keys_join(sets, COUNT_OF(kinds), "rule", &shared_keys, &err));
        for (size_t i = 0; i < 4; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, thread_verify, &bad[i]), 0);
        for (size_t i = 0; i < 4; i++) {
                pthread_join(threads[i], NULL);
                assert_int_equal(bad[i], 0);
        }
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
                trust_keys_unref(&sets[i]);
        trust_keys_unref(&shared_keys);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_vectors), cmocka_unit_test(test_ed25519ph), cmocka_unit_test(test_table), cmocka_unit_test(test_rsa_short), cmocka_unit_test(test_p1363),
                cmocka_unit_test(test_der_strict), cmocka_unit_test(test_any_of), cmocka_unit_test(test_budget), cmocka_unit_test(test_threads),
        };
        return cmocka_run_group_tests(tests, keys_make, keys_free);
}
