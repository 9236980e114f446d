/*
 * How it goes: the leaf is hashed up to the root: `inner` levels where the bits of the index say left or right, then `border` levels from the left.
 * How it fails: before the first hash when index, size and the number of hashes do not fit each other; then when another root comes out.
 * How it ends: nothing is kept.
 *
 * Rules: 7.2; RFC 6962 2.1.1, RFC 9162 2.1.3.2.
 */
#include <string.h>
#include "rekor.h"

static void leaf_hash(struct span leaf, uint8_t ret_hash[LOG_HASH_BYTES])
{
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        struct digest digest;

        hasher_update(hasher, "\0", 1);
        hasher_update(hasher, leaf.bytes, leaf.size_bytes);
        hasher_finish(hasher, &digest);
        memcpy(ret_hash, digest.bytes, LOG_HASH_BYTES);
}

static void node_hash(const uint8_t left[LOG_HASH_BYTES], const uint8_t right[LOG_HASH_BYTES], uint8_t ret_hash[LOG_HASH_BYTES])
{
        uint8_t node[1 + 2 * LOG_HASH_BYTES] = { 1 };
        struct digest digest;

        memcpy(node + 1, left, LOG_HASH_BYTES);
        memcpy(node + 1 + LOG_HASH_BYTES, right, LOG_HASH_BYTES);
        digest_sha256(node, sizeof node, &digest);
        memcpy(ret_hash, digest.bytes, LOG_HASH_BYTES);
}

bool inclusion_check(const struct inclusion *proof, struct span leaf, struct error *err)
{
        uint8_t hash[LOG_HASH_BYTES];

        if (proof->size > INT64_MAX || proof->index >= proof->size)         /* no index is in a tree of 0 */
                return refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: index %llu is not in a tree of %llu", (unsigned long long)proof->index,
                              (unsigned long long)proof->size);
        uint64_t differ = proof->index ^ (proof->size - 1);
        size_t inner = differ ? 64 - (size_t)__builtin_clzll(differ) : 0, border = (size_t)__builtin_popcountll(proof->index >> inner);
        if (proof->hash_count != inner + border)
                return refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: has %zu hashes, the path has %zu", proof->hash_count, inner + border);

        leaf_hash(leaf, hash);
        for (size_t i = 0; i < proof->hash_count; i++) {
                bool is_right = i >= inner || (proof->index >> i & 1);

                node_hash(is_right ? proof->hashes[i] : hash, is_right ? hash : proof->hashes[i], hash);
        }
        return memcmp(hash, proof->root, LOG_HASH_BYTES) == 0 || refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: leads to another root");
}
