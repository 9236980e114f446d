/*
 * How it goes: for each key of the set, each way that its own kind allows (the table, section 2.2), until one verifies. A message is hashed once per hash, whatever the number of
 *              keys and ways. What can be made ahead is: hashes are fetched once per process, and each key has contexts that are ready to verify and are dup'ed for each call.
 * How it fails: only OpenSSL's exact 1 (or libsodium's exact 0) is a success: -1 is what malformed ECDSA gives. The error queue is emptied, nothing of it is shown.
 * How it ends: nothing is kept.
 */
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/rsa.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>
#include <wasmcached/base.h>
#include "content.h"
#include "key.h"

enum scheme { SCHEME_NONE, SCHEME_ECDSA, SCHEME_PKCS1, SCHEME_PSS, SCHEME_ED25519, SCHEME_ED25519PH };

/* flag: needed for this way; unless: forbids it. */
struct attempt { enum scheme scheme; enum hash hash; unsigned flag, unless; const char *algorithm; };
static const struct attempt attempts[KEY_KINDS][VERIFY_ATTEMPTS] = {
        [KEY_P256] = { { SCHEME_ECDSA, HASH_SHA256, 0, VERIFY_ED25519_ONLY, "ECDSA P-256 SHA-256" } },
        [KEY_P384] = { { SCHEME_ECDSA, HASH_SHA384, 0, VERIFY_ED25519_ONLY, "ECDSA P-384 SHA-384" },
                       { SCHEME_ECDSA, HASH_SHA256, 0, VERIFY_ED25519_ONLY, "ECDSA P-384 SHA-256" } },
        [KEY_P521] = { { SCHEME_ECDSA, HASH_SHA512, 0, VERIFY_ED25519_ONLY, "ECDSA P-521 SHA-512" },
                       { SCHEME_ECDSA, HASH_SHA256, 0, VERIFY_ED25519_ONLY, "ECDSA P-521 SHA-256" } },
        [KEY_RSA] = { { SCHEME_PKCS1, HASH_SHA256, 0, VERIFY_ED25519_ONLY, "RSA PKCS#1 v1.5 SHA-256" },
                      { SCHEME_PSS, HASH_SHA256, VERIFY_PSS, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256" } },
        [KEY_RSA_PSS] = { { SCHEME_PSS, HASH_SHA256, 0, VERIFY_ED25519_ONLY, "RSA-PSS SHA-256" } },
        [KEY_ED25519] = { { SCHEME_ED25519, 0, 0, 0, "Ed25519" }, { SCHEME_ED25519PH, 0, 0, VERIFY_ED25519_ONLY, "Ed25519ph" } },
};

/* ---- hashes ---- */
static struct { pthread_once_t once; EVP_MD *hashes[HASHES]; } fetched = { .once = PTHREAD_ONCE_INIT };

static void hashes_fetch(void)
{
        static const char *const names[HASHES] = { "SHA256", "SHA384", "SHA512" };
        for (size_t i = 0; i < HASHES; i++)
                fetched.hashes[i] = EVP_MD_fetch(NULL, names[i], NULL);
}

static const EVP_MD *hash_get(enum hash hash)
{
        pthread_once(&fetched.once, hashes_fetch);
        return fetched.hashes[hash];
}

bool hash_bytes(enum hash hash, struct span message, void *ret_hash)
{
        return EVP_Digest(message.bytes, message.size_bytes, ret_hash, NULL, hash_get(hash), NULL) == 1;
}

bool hashable_get(const struct hashable *message, enum hash hash, uint8_t ret_bytes[64], struct span *ret_hash)
{
        static const size_t sizes[HASHES] = { 32, 48, 64 };
        if (message->content) {
                *ret_hash = content_get_hash(message->content, hash);
                return true;
        }
        *ret_hash = SPAN(ret_bytes, sizes[hash]);
        return hash_bytes(hash, message->bytes, ret_bytes);
}

/* Of one message, each when first needed. */
struct hashed { const struct verify_input *input; struct span hashes[HASHES]; uint8_t bytes[HASHES][64]; };

static bool hashed_get(struct hashed *hashed, enum hash hash, struct span *ret_hash)
{
        const struct hashable message = { hashed->input->message, hashed->input->content };
        if (!hashed->hashes[hash].bytes && !hashable_get(&message, hash, hashed->bytes[hash], &hashed->hashes[hash]))
                return false;
        *ret_hash = hashed->hashes[hash];
        return true;
}

/* ---- prepared contexts ---- */
/* Any length that is found; OpenSSL does not look for it with a key that is restricted to a least length: the usual one then. */
static bool salt_set(EVP_PKEY_CTX *context)
{
        return EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_AUTO) == 1 || EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1;
}

static EVP_PKEY_CTX *context_make(EVP_PKEY *pkey, const struct attempt *attempt)
{
        const EVP_MD *hash = hash_get(attempt->hash);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
        bool good = context && EVP_PKEY_verify_init(context) == 1;
        if (good && attempt->scheme == SCHEME_PKCS1)
                good = EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1;
        if (good && attempt->scheme == SCHEME_PSS)
                good = EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 && salt_set(context) && EVP_PKEY_CTX_set_rsa_mgf1_md(context, hash) == 1;
        if (good && EVP_PKEY_CTX_set_signature_md(context, hash) == 1)
                return context;
        EVP_PKEY_CTX_free(context);
        return NULL;
}

bool verify_prepare(struct trust_key *key)
{
        for (size_t i = 0; i < VERIFY_ATTEMPTS; i++) {
                const struct attempt *attempt = &attempts[key->kind][i];
                if (attempt->scheme == SCHEME_ECDSA || attempt->scheme == SCHEME_PKCS1 || attempt->scheme == SCHEME_PSS) {
                        key->prepared[i] = context_make(key->pkey, attempt);
                        if (!key->prepared[i])
                                return false;
                }
        }
        return true;
}

/* ---- one way with one key ---- */
static bool context_verify(const EVP_PKEY_CTX *prepared, struct span signature, struct span hash)
{
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_dup(prepared);
        bool good = context && EVP_PKEY_verify(context, signature.bytes, signature.size_bytes, hash.bytes, hash.size_bytes) == 1;
        EVP_PKEY_CTX_free(context);
        return good;
}

static bool is_der(struct span signature)
{
        const unsigned char *at = signature.bytes;
        ECDSA_SIG *read = d2i_ECDSA_SIG(NULL, &at, (long)signature.size_bytes);
        bool good = read && at == (const unsigned char *)signature.bytes + signature.size_bytes;
        ECDSA_SIG_free(read);
        return good;
}

/* r || s (IEEE P1363) as DER, which is what OpenSSL reads; it compares DER with its own encoding, so there is one spelling. */
static bool p1363_verify(const EVP_PKEY_CTX *prepared, struct span signature, struct span hash)
{
        const unsigned char *raw = signature.bytes;
        int half = (int)signature.size_bytes / 2;
        unsigned char *der = NULL;
        ECDSA_SIG *pair = ECDSA_SIG_new();
        BIGNUM *r = BN_bin2bn(raw, half, NULL), *s = BN_bin2bn(raw + half, half, NULL);
        bool good = pair && r && s && ECDSA_SIG_set0(pair, r, s) == 1;
        if (!good) {
                BN_free(r);
                BN_free(s);
        }
        int size = good ? i2d_ECDSA_SIG(pair, &der) : -1;
        good = size > 0 && context_verify(prepared, SPAN(der, (size_t)size), hash);
        OPENSSL_free(der);
        ECDSA_SIG_free(pair);
        return good;
}

static bool ecdsa_verify(const struct trust_key *key, const EVP_PKEY_CTX *prepared, struct span signature, struct span hash)
{
        size_t coordinate = ((size_t)EVP_PKEY_get_bits(key->pkey) + 7) / 8;
        if (signature.size_bytes == 2 * coordinate && !is_der(signature))
                return p1363_verify(prepared, signature, hash);
        return context_verify(prepared, signature, hash);
}

static bool ed25519_verify(const struct trust_key *key, const struct verify_input *input)
{
        struct span signature = input->signature, message = input->message;
        if (input->content)
                return content_verify_ed25519(input->content, key->ed25519, signature.bytes);
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        bool good = context && EVP_DigestVerifyInit_ex(context, NULL, NULL, NULL, NULL, key->pkey, NULL) == 1 &&
                    EVP_DigestVerify(context, signature.bytes, signature.size_bytes, message.bytes, message.size_bytes) == 1;
        EVP_MD_CTX_free(context);
        if (good && input->noted)
                content_note_ed25519(input->noted, key->ed25519, signature.bytes, message);
        return good;
}

/* RFC 8032 5.1 with prehash and empty context: OpenSSL 3.0 has none (2.3). */
static bool ed25519ph_verify(const struct trust_key *key, const struct verify_input *input)
{
        struct span signature = input->signature, message = input->message;
        if (input->content)
                return content_verify_ed25519ph(input->content, key->ed25519, signature.bytes);
        crypto_sign_ed25519ph_state state;
        return crypto_sign_ed25519ph_init(&state) == 0 && crypto_sign_ed25519ph_update(&state, message.bytes, message.size_bytes) == 0 &&
               crypto_sign_ed25519ph_final_verify(&state, signature.bytes, key->ed25519) == 0;
}

/* Could it be one at all? What could not costs nothing. RSA and Ed25519 signatures have one length; DER of ECDSA has at most 9 bytes beside its two numbers. */
static bool length_fits(const struct trust_key *key, const struct attempt *attempt, size_t size_bytes)
{
        size_t full = (size_t)EVP_PKEY_get_size(key->pkey);
        return attempt->scheme == SCHEME_ECDSA ? size_bytes > 0 && size_bytes <= full : size_bytes == full;
}

static bool attempt_verify(const struct trust_key *key, size_t way, struct hashed *hashed)
{
        struct span signature = hashed->input->signature;
        const struct attempt *attempt = &attempts[key->kind][way];
        struct span hash;
        if (attempt->scheme == SCHEME_ED25519)
                return ed25519_verify(key, hashed->input);
        if (attempt->scheme == SCHEME_ED25519PH)
                return ed25519ph_verify(key, hashed->input);
        if (!hashed_get(hashed, attempt->hash, &hash))
                return false;
        return attempt->scheme == SCHEME_ECDSA ? ecdsa_verify(key, key->prepared[way], signature, hash) : context_verify(key->prepared[way], signature, hash);
}

enum verify_result verify_message(const struct trust_keys *keys, const struct verify_input *input, struct trust_budget *budget, struct verified *ret_verified)
{
        struct hashed hashed = { .input = input };
        for (size_t k = 0; k < keys->count; k++)
                for (size_t way = 0; way < VERIFY_ATTEMPTS; way++) {
                        const struct attempt *attempt = &attempts[keys->keys[k]->kind][way];
                        if (attempt->scheme == SCHEME_NONE || (input->flags & attempt->flag) != attempt->flag || (input->flags & attempt->unless) ||
                            !length_fits(keys->keys[k], attempt, input->signature.size_bytes) || !key_is_sound(keys->keys[k]))
                                continue;
                        if (budget->verifications == 0)
                                return VERIFY_SPENT;
                        budget->verifications--;
                        if (attempt_verify(keys->keys[k], way, &hashed)) {
                                *ret_verified = (struct verified){ k, attempt->algorithm };
                                return VERIFY_GOOD;
                        }
                        ERR_clear_error();
                }
        return VERIFY_BAD;
}
