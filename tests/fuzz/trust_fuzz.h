/* For fuzz targets of trust: what is fuzzed is signed here, so that the readers behind the check of a signature are reached. */
#pragma once
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include "../../agent/trust/room.h"

#define FUZZ __attribute__((unused)) static
#define FUZZ_MANIFEST "{\"schemaVersion\":2}"     /* sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f */

struct fuzz_key { EVP_PKEY *pkey; struct trust_keys *keys; };

FUZZ struct fuzz_key fuzz_key_new(void)
{
        struct fuzz_key key = { .pkey = EVP_EC_gen("P-256") };
        unsigned char *der = NULL;
        struct error err;
        int size = i2d_PUBKEY(key.pkey, &der);
        if (size < 0 || !key_from_spki(SPAN(der, (size_t)size), "key", &key.keys, &err))
                abort();
        OPENSSL_free(der);
        return key;
}

/* base64; the caller frees. */
FUZZ char *fuzz_sign(const struct fuzz_key *key, const void *message, size_t size_bytes)
{
        unsigned char signature[128];
        size_t size = sizeof signature;
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        if (EVP_DigestSignInit_ex(context, NULL, "SHA256", NULL, NULL, key->pkey, NULL) != 1 || EVP_DigestSign(context, signature, &size, message, size_bytes) != 1)
                abort();
        EVP_MD_CTX_free(context);
        return base64_encode(signature, size);
}

/* Either a whole proof or a reason with a sentence that can be printed. */
FUZZ bool fuzz_judge(const struct trust_keys *keys, const struct trust_policy_options *options, const struct trust_evidence *evidence)
{
        static const char manifest[] = FUZZ_MANIFEST;
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST, .bytes = manifest, .size_bytes = sizeof manifest - 1, .repository = "registry.example/team/a", .tag = "v1" };
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(options);
        struct trust_demand demand = { keys, policy };
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_proof proof = { 0 };
        struct trust_failure failure = TRUST_FAILURE_NONE;
        digest_sha256(manifest, sizeof manifest - 1, &target.digest);
        bool good = trust_judge(&demand, &target, evidence, &budget, &proof, &failure);
        if (good ? !proof.format || !proof.algorithm : failure.reason >= TRUST_REASONS || !failure.text[0] || proof.format || proof.annotations)
                abort();
        for (const char *at = failure.text; !good && *at; at++)
                if ((unsigned char)*at < 0x20 || *at == 0x7f)
                        abort();
        trust_proof_fini(&proof);
        return good;
}
