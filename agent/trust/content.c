/*
 * How it goes: all hashes that a signature over a file may be over are taken while its bytes are at hand. ECDSA, RSA, Ed25519ph and minisign verify a hash of the file alone. Pure
 *              Ed25519 verifies SHA-512 of R, key and file: that is noted for a signature that was good, and its equation S·B = R + k·A is checked with libsodium's arithmetic.
 * How it fails: closed. A signature or key for which nothing was noted is not verified, and the caller gets the file again.
 * How it ends: plain values.
 */
#include <sodium.h>
#include <string.h>
#include "content.h"

enum { TAR_MAGIC_OFFSET = 257, HALF_BYTES = 32 };

/* What a signed file may begin with (8 R): as cross-protocol guard, not as a check of the module. */
static const struct { size_t offset, size_bytes; const char *magic; } shapes[] = {
        { 0, 4, "\0asm" }, { 0, 2, "\x1f\x8b" }, { 0, 4, "\x28\xb5\x2f\xfd" }, { TAR_MAGIC_OFFSET, 5, "ustar" },
};

bool content_has_shape(struct span file)
{
        for (size_t i = 0; i < COUNT_OF(shapes); i++)
                if (file.size_bytes >= shapes[i].offset + shapes[i].size_bytes && memcmp((const char *)file.bytes + shapes[i].offset, shapes[i].magic, shapes[i].size_bytes) == 0)
                        return true;
        return false;
}

void trust_content_fill(struct trust_content *content, const void *bytes, size_t size_bytes)
{
        const struct { enum hash hash; uint8_t *bytes; } hashes[] = {
                { HASH_SHA256, content->sha256 }, { HASH_SHA384, content->sha384 }, { HASH_SHA512, content->sha512 },
        };

        content->has_shape = content_has_shape(SPAN(bytes, size_bytes));
        for (size_t i = 0; i < COUNT_OF(hashes); i++)
                hash_bytes(hashes[i].hash, SPAN(bytes, size_bytes), hashes[i].bytes);
        crypto_generichash(content->blake2b, sizeof content->blake2b, bytes, size_bytes, NULL, 0);
}

struct span content_get_hash(const struct trust_content *content, enum hash hash)
{
        const struct span hashes[HASHES] = {
                [HASH_SHA256] = SPAN(content->sha256, sizeof content->sha256), [HASH_SHA384] = SPAN(content->sha384, sizeof content->sha384),
                [HASH_SHA512] = SPAN(content->sha512, sizeof content->sha512),
        };

        return hashes[hash];
}

/* ---- Ed25519 over what is not there ---- */

static const struct trust_challenge *challenge_find(const struct trust_content *content, const uint8_t *key, const uint8_t *signature)
{
        for (size_t i = 0; i < content->challenge_count && i < TRUST_CHALLENGES_MAX; i++)
                if (memcmp(content->challenges[i].r, signature, HALF_BYTES) == 0 && memcmp(content->challenges[i].key, key, HALF_BYTES) == 0)
                        return &content->challenges[i];
        return NULL;
}

static void challenge_hash(struct span prefix, const struct trust_challenge *challenge, struct span message, uint8_t *ret_sha512)
{
        crypto_hash_sha512_state state;

        crypto_hash_sha512_init(&state);
        crypto_hash_sha512_update(&state, prefix.bytes, prefix.size_bytes);
        crypto_hash_sha512_update(&state, challenge->r, HALF_BYTES);
        crypto_hash_sha512_update(&state, challenge->key, HALF_BYTES);
        crypto_hash_sha512_update(&state, message.bytes, message.size_bytes);
        crypto_hash_sha512_final(&state, ret_sha512);
}

void content_note_ed25519(struct trust_content *content, const uint8_t *key, const uint8_t *signature, struct span file)
{
        if (content->challenge_count >= TRUST_CHALLENGES_MAX || challenge_find(content, key, signature))
                return;
        struct trust_challenge *challenge = &content->challenges[content->challenge_count++];
        memcpy(challenge->r, signature, HALF_BYTES);
        memcpy(challenge->key, key, HALF_BYTES);
        challenge_hash(SPAN("", 0), challenge, file, challenge->sha512);
}

/* RFC 8032 5.1.7 without cofactor, as OpenSSL: S below the order (there would be several else), and S·B - k·A is R, byte by byte. */
static bool equation_holds(const uint8_t *key, const uint8_t *signature, const uint8_t *sha512)
{
        uint8_t wide[2 * HALF_BYTES] = { 0 }, s[HALF_BYTES], k[HALF_BYTES], left[HALF_BYTES], right[HALF_BYTES], r[HALF_BYTES];

        memcpy(wide, signature + HALF_BYTES, HALF_BYTES);
        crypto_core_ed25519_scalar_reduce(s, wide);
        crypto_core_ed25519_scalar_reduce(k, sha512);
        return memcmp(s, signature + HALF_BYTES, HALF_BYTES) == 0 && crypto_scalarmult_ed25519_base_noclamp(left, s) == 0 &&
               crypto_scalarmult_ed25519_noclamp(right, k, key) == 0 && crypto_core_ed25519_sub(r, left, right) == 0 && memcmp(r, signature, HALF_BYTES) == 0;
}

bool content_verify_ed25519(const struct trust_content *content, const uint8_t *key, const uint8_t *signature)
{
        const struct trust_challenge *challenge = challenge_find(content, key, signature);

        return challenge && equation_holds(key, signature, challenge->sha512);
}

bool content_verify_ed25519ph(const struct trust_content *content, const uint8_t *key, const uint8_t *signature)
{
        static const char domain[] = "SigEd25519 no Ed25519 collisions\1";         /* dom2(1, ""), its last byte is the NUL: an empty context (5.1) */
        struct trust_challenge challenge;

        memcpy(challenge.r, signature, HALF_BYTES);
        memcpy(challenge.key, key, HALF_BYTES);
        challenge_hash(SPAN(domain, sizeof domain), &challenge, SPAN(content->sha512, sizeof content->sha512), challenge.sha512);
        return equation_holds(key, signature, challenge.sha512);
}
