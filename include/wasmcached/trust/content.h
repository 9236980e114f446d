/*
 * content: what is noted of a file while its bytes are at hand, so that signatures over it can be verified again when they are not. Part of the door trust.h. Nothing here is a
 * verdict: hashes that signatures are over, each as good as the place where the caller keeps it.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRUST_CHALLENGES_MAX = 8 };

/* Bytes alone, no padding: may be written down as it is. */
struct trust_content {
        uint8_t sha256[32], sha384[48], sha512[64], blake2b[64];
        uint8_t has_shape;                /* it begins like a module or a box of one */
        /* Pure Ed25519 hashes the file behind R and the key (RFC 8032 5.1.7): one for each signature that was good while the bytes were there. */
        uint8_t challenge_count;
        struct trust_challenge { uint8_t r[32], key[32], sha512[64]; } challenges[TRUST_CHALLENGES_MAX];
};
/* All but the challenges. */
void trust_content_fill(struct trust_content *content, const void *bytes, size_t size_bytes);
