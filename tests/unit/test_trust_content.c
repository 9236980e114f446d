/* Signatures over files whose bytes are gone: only what was noted of them, by the key that made it, and only the one spelling that it has. What verify_message() makes of it for every
   key and hash is compared in test_trust_verify.c, and for every form of signature beside a file in trust_again.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sodium.h>
#include <cmocka.h>
#include "trust_rig.h"
#include "../../agent/trust/content.h"

enum { HALF = 32 };
struct pair { uint8_t public[32], secret[64]; };
static const char text[] = "\0asm\1\0\0\0 and the rest of it";

static struct pair pair_of(uint8_t number)
{
        struct pair pair;
        uint8_t seed[crypto_sign_SEEDBYTES] = { number };
        crypto_sign_seed_keypair(pair.public, pair.secret, seed);
        return pair;
}

/* A signature that was good, and what is noted of its file. */
static struct trust_content noted_of(const struct pair *pair, uint8_t signature[64])
{
        struct trust_content content = { 0 };
        crypto_sign_detached(signature, NULL, (const uint8_t *)text, sizeof text, pair->secret);
        content_note_ed25519(&content, pair->public, signature, SPAN(text, sizeof text));
        trust_content_fill(&content, text, sizeof text);
        return content;
}

static void test_flipped(void **state)
{
        uint8_t signature[64];
        struct pair pair = pair_of(1);
        struct trust_content content = noted_of(&pair, signature);
        (void)state;
        assert_true(content_verify_ed25519(&content, pair.public, signature));
        for (size_t bit = 0; bit < 8 * sizeof signature; bit++) {
                signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_false(content_verify_ed25519(&content, pair.public, signature));
                signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t bit = 0; bit < 8 * sizeof content.challenges[0].sha512; bit++) {
                content.challenges[0].sha512[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_false(content_verify_ed25519(&content, pair.public, signature));
                content.challenges[0].sha512[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(content_verify_ed25519(&content, pair.public, signature));
}

/* Another key, or another R, has nothing noted, whatever the other half says; and where it has (made up here), it is still not the key that signed. */
static void test_other_key(void **state)
{
        uint8_t signature[64], others[64];
        struct pair pair = pair_of(1), other = pair_of(2);
        struct trust_content content = noted_of(&pair, signature), foreign = noted_of(&other, others);
        (void)state;
        assert_false(content_verify_ed25519(&content, other.public, signature));
        assert_false(content_verify_ed25519(&content, other.public, others));
        assert_false(content_verify_ed25519(&foreign, pair.public, signature));
        memcpy(content.challenges[0].key, other.public, HALF);
        assert_false(content_verify_ed25519(&content, other.public, signature));
        assert_false(content_verify_ed25519(&content, pair.public, signature));
        content.challenge_count = 0;
        memcpy(content.challenges[0].key, pair.public, HALF);
        assert_false(content_verify_ed25519(&content, pair.public, signature));
}

/* S and S plus the order are one number to the curve: the larger one is no signature (RFC 8032 5.1.7). */
static void test_one_spelling(void **state)
{
        static const uint8_t order[HALF] = { 0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, [31] = 0x10 };
        uint8_t signature[64];
        struct pair pair = pair_of(3);
        struct trust_content content = noted_of(&pair, signature);
        (void)state;
        for (unsigned i = 0, carry = 0; i < HALF; i++) {
                carry += (unsigned)signature[HALF + i] + order[i];
                signature[HALF + i] = (uint8_t)carry;
                carry >>= 8;
        }
        assert_false(content_verify_ed25519(&content, pair.public, signature));
}

/* Degenerate numbers, which no signer makes: R is such that the equation would hold, and it is refused. */
static void test_degenerate(void **state)
{
        static const uint8_t one[64] = { 1 }, identity[HALF] = { 1 };
        struct pair pair = pair_of(4);
        struct trust_content content = { .challenge_count = 1 };
        struct trust_challenge *challenge = &content.challenges[0];
        uint8_t signature[64] = { 0 }, base[HALF];
        (void)state;
        memcpy(challenge->key, pair.public, HALF);

        /* S = 1, k = 1: R = B - A, the plain case, holds. */
        assert_int_equal(crypto_scalarmult_ed25519_base_noclamp(base, one), 0);
        assert_int_equal(crypto_core_ed25519_sub(challenge->r, base, pair.public), 0);
        memcpy(challenge->sha512, one, sizeof one);
        memcpy(signature, challenge->r, HALF);
        signature[HALF] = 1;
        assert_true(content_verify_ed25519(&content, pair.public, signature));

        /* S = 0: R = -A. */
        assert_int_equal(crypto_core_ed25519_sub(challenge->r, identity, pair.public), 0);
        memcpy(signature, challenge->r, HALF);
        signature[HALF] = 0;
        assert_false(content_verify_ed25519(&content, pair.public, signature));

        /* k = 0: R = B, whatever the key. */
        memset(challenge->sha512, 0, sizeof challenge->sha512);
        memcpy(challenge->r, base, HALF);
        memcpy(signature, base, HALF);
        signature[HALF] = 1;
        assert_false(content_verify_ed25519(&content, pair.public, signature));
}

/* As many as there is room for, each once; a count that was written by somebody else leads nowhere. */
static void test_room(void **state)
{
        struct pair pairs[TRUST_CHALLENGES_MAX + 1];
        uint8_t signatures[TRUST_CHALLENGES_MAX + 1][64];
        struct trust_content content = { 0 };
        (void)state;
        for (uint8_t i = 0; i <= TRUST_CHALLENGES_MAX; i++) {
                pairs[i] = pair_of(i);
                crypto_sign_detached(signatures[i], NULL, (const uint8_t *)text, sizeof text, pairs[i].secret);
                content_note_ed25519(&content, pairs[i].public, signatures[i], SPAN(text, sizeof text));
                content_note_ed25519(&content, pairs[i].public, signatures[i], SPAN(text, sizeof text));
                assert_int_equal(content.challenge_count, i < TRUST_CHALLENGES_MAX ? i + 1 : TRUST_CHALLENGES_MAX);
        }
        for (size_t i = 0; i <= TRUST_CHALLENGES_MAX; i++)
                assert_int_equal(content_verify_ed25519(&content, pairs[i].public, signatures[i]), i < TRUST_CHALLENGES_MAX);
        struct { struct trust_content content; struct trust_challenge behind; } made_up = { .content = content };
        made_up.content.challenge_count = 255;
        memcpy(made_up.behind.r, signatures[TRUST_CHALLENGES_MAX], HALF);
        memcpy(made_up.behind.key, pairs[TRUST_CHALLENGES_MAX].public, HALF);
        crypto_hash_sha512_state hash;
        crypto_hash_sha512_init(&hash);
        crypto_hash_sha512_update(&hash, made_up.behind.r, HALF);
        crypto_hash_sha512_update(&hash, made_up.behind.key, HALF);
        crypto_hash_sha512_update(&hash, (const uint8_t *)text, sizeof text);
        crypto_hash_sha512_final(&hash, made_up.behind.sha512);
        assert_false(content_verify_ed25519(&made_up.content, pairs[TRUST_CHALLENGES_MAX].public, signatures[TRUST_CHALLENGES_MAX]));
}

/* K12, RFC 8032 7.3: any key, nothing noted but the hash. */
static void test_ed25519ph(void **state)
{
        struct rig_bytes key = rig_hex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf"),
                signature = rig_hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
        struct trust_content content = { 0 }, other = { 0 };
        (void)state;
        trust_content_fill(&content, "abc", 3);
        trust_content_fill(&other, "abd", 3);
        assert_true(content_verify_ed25519ph(&content, key.data, signature.data));
        assert_false(content_verify_ed25519ph(&other, key.data, signature.data));
        assert_false(content_verify_ed25519(&content, key.data, signature.data));
        for (size_t bit = 0; bit < 8 * signature.size; bit++) {
                signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                assert_false(content_verify_ed25519ph(&content, key.data, signature.data));
                signature.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_flipped), cmocka_unit_test(test_other_key), cmocka_unit_test(test_one_spelling), cmocka_unit_test(test_degenerate), cmocka_unit_test(test_room),
                cmocka_unit_test(test_ed25519ph),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
