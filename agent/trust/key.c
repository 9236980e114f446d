/*
 * How it goes: the text becomes blocks (pem.c), each block a key: the algorithm and curve are read from the ASN.1 itself, then OpenSSL loads and checks the point or modulus,
 *              the fingerprint is taken over its SPKI as it is encoded again, and what verifying needs is prepared (verify.c). The same key twice counts once.
 *              What takes too long for the loop (a tenth of a second for a large RSA key) is checked once, before the first use.
 * How it fails: ERROR_BAD_KEY with the name of the rule; one bad block refuses the whole text (2.1).
 * How it ends: sets and keys are counted; a key may be in several sets.
 */
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "key.h"

enum { RSA_BITS_MIN = 2048, RSA_BITS_MAX = 8192, RSA_SMALL_BITS = 3072, RSA_EXPONENT_BITS = 64 };
#define SUPPORTED "supported are EC P-256, P-384, P-521, RSA and Ed25519"

/* OpenSSL's kinds by the OIDs that stand in the key. */
struct kind_row { int nid; enum trust_key_kind kind; };
static const struct kind_row curves[] = { { NID_X9_62_prime256v1, KEY_P256 }, { NID_secp384r1, KEY_P384 }, { NID_secp521r1, KEY_P521 } };
static const struct kind_row algorithms[] = { { NID_rsaEncryption, KEY_RSA }, { NID_rsassaPss, KEY_RSA_PSS }, { NID_ED25519, KEY_ED25519 } };

static void cleanup_x509_pubkey(X509_PUBKEY **spki)
{
        X509_PUBKEY_free(*spki);
}

static void cleanup_bignum(BIGNUM **number)
{
        BN_free(*number);
}

static void cleanup_openssl(void *pointer_to_pointer)
{
        void *pointer;
        memcpy(&pointer, pointer_to_pointer, sizeof pointer);
        OPENSSL_free(pointer);
}

static void key_unref(struct trust_key **key)
{
        struct trust_key *gone = TAKE(*key);
        if (!gone || atomic_fetch_sub(&gone->refs, 1) != 1)
                return;

        for (size_t i = 0; i < COUNT_OF(gone->prepared); i++)
                EVP_PKEY_CTX_free(gone->prepared[i]);
        EVP_PKEY_free(gone->pkey);
        free(gone);
}

static struct trust_key *key_ref(struct trust_key *key)
{
        atomic_fetch_add(&key->refs, 1);
        return key;
}

static bool row_find(const struct kind_row *rows, size_t count, int nid, enum trust_key_kind *ret_kind)
{
        for (size_t i = 0; i < count; i++)
                if (rows[i].nid == nid) {
                        *ret_kind = rows[i].kind;
                        return true;
                }
        return false;
}

static const char *object_name(const ASN1_OBJECT *object, char ret_name[80])
{
        static const struct { int nid; const char *name; } usual[] = { { NID_ED448, "Ed448" }, { NID_dsa, "DSA" }, { NID_sm2, "SM2" } };
        for (size_t i = 0; i < COUNT_OF(usual); i++)
                if (OBJ_obj2nid(object) == usual[i].nid)
                        return usual[i].name;
        OBJ_obj2txt(ret_name, 80, object, OBJ_obj2nid(object) == NID_undef);       /* a name if OpenSSL knows one, else digits and dots */
        return ret_name;
}

/* Explicit parameters may be those of a good curve with another generator (CVE-2020-0601), and OpenSSL names them as if they were the curve: the ASN.1 tells. */
static bool curve_read(const X509_ALGOR *algorithm, const char *what, enum trust_key_kind *ret_kind, struct error *err)
{
        int type;
        const void *parameter;
        char name[80];
        X509_ALGOR_get0(NULL, &type, &parameter, algorithm);
        if (type != V_ASN1_OBJECT)
                return refuse(err, ERROR_BAD_KEY,
                              "%s: an EC key with explicit curve parameters or none is not supported: its curve must be named (openssl ec -param_enc named_curve)", what);
        if (!row_find(curves, COUNT_OF(curves), OBJ_obj2nid(parameter), ret_kind))
                return refuse(err, ERROR_BAD_KEY, "%s: EC curve %s is not supported; %s", what, object_name(parameter, name), SUPPORTED);
        return true;
}

static bool kind_read(const X509_PUBKEY *spki, const char *what, enum trust_key_kind *ret_kind, struct error *err)
{
        ASN1_OBJECT *object;
        X509_ALGOR *algorithm;
        char name[80];
        X509_PUBKEY_get0_param(&object, NULL, NULL, &algorithm, spki);
        if (OBJ_obj2nid(object) == NID_X9_62_id_ecPublicKey)
                return curve_read(algorithm, what, ret_kind, err);
        if (!row_find(algorithms, COUNT_OF(algorithms), OBJ_obj2nid(object), ret_kind))
                return refuse(err, ERROR_BAD_KEY, "%s: a key of the algorithm %s is not supported; %s", what, object_name(object, name), SUPPORTED);
        return true;
}

static bool rsa_check(const struct trust_key *key, const char *what, struct error *err)
{
        CLEANUP(cleanup_bignum) BIGNUM *exponent = NULL;
        int bits = EVP_PKEY_get_bits(key->pkey);
        if (bits < RSA_BITS_MIN || bits > RSA_BITS_MAX)
                return refuse(err, ERROR_BAD_KEY, "%s: an RSA key of %d bits is not supported (%d to %d)", what, bits, RSA_BITS_MIN, RSA_BITS_MAX);
        if (EVP_PKEY_get_bn_param(key->pkey, OSSL_PKEY_PARAM_RSA_E, &exponent) != 1 || !BN_is_odd(exponent) || BN_num_bits(exponent) < 17)
                return refuse(err, ERROR_BAD_KEY, "%s: the public exponent of the RSA key is even or smaller than 65537", what);
        if (bits > RSA_SMALL_BITS && BN_num_bits(exponent) > RSA_EXPONENT_BITS)
                return refuse(err, ERROR_BAD_KEY, "%s: the public exponent of the RSA key has %d bits, at most %d can be used", what, BN_num_bits(exponent), RSA_EXPONENT_BITS);
        return true;
}

/* With a point of small order anybody can make signatures that verify; libsodium also refuses other spellings of a point. */
static bool ed25519_check(struct trust_key *key, const char *what, struct error *err)
{
        size_t size = sizeof key->ed25519;
        if (EVP_PKEY_get_raw_public_key(key->pkey, key->ed25519, &size) != 1 || crypto_core_ed25519_is_valid_point(key->ed25519) != 1)
                return refuse(err, ERROR_BAD_KEY, "%s: the Ed25519 key is no valid point of the curve (small order, or not in its one spelling)", what);
        return true;
}

static bool public_check(EVP_PKEY *pkey, int (*check)(EVP_PKEY_CTX *context))
{
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, pkey, NULL);
        bool good = context && check(context) == 1;
        EVP_PKEY_CTX_free(context);
        return good;
}

static bool refuse_unsound(const char *what, struct error *err)
{
        return refuse(err, ERROR_BAD_KEY, "%s: the key is not sound (its point is not on the curve, or its modulus is no product of two large primes)", what);
}

bool key_is_sound(struct trust_key *key)
{
        int known = atomic_load(&key->soundness);
        if (known == KEY_UNCHECKED) {
                known = public_check(key->pkey, EVP_PKEY_public_check) ? KEY_SOUND : KEY_UNSOUND;
                ERR_clear_error();
                atomic_store(&key->soundness, known);
        }
        return known == KEY_SOUND;
}

/* Encoded again, the key must be what was given: no bytes behind inner parts, no parameters that do not belong, no lengths in other spellings. EC points may be compressed,
   but not hybrid. */
static bool is_canonical(const struct trust_key *key, struct span der)
{
        CLEANUP(cleanup_openssl) unsigned char *again = NULL;
        char form[16] = "";
        int size = i2d_PUBKEY(key->pkey, &again);
        EVP_PKEY_get_utf8_string_param(key->pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, form, sizeof form, NULL);
        return (size_t)size == der.size_bytes && memcmp(again, der.bytes, der.size_bytes) == 0 && strcmp(form, OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_HYBRID) != 0;
}

static bool fingerprint_make(struct trust_key *key, struct span der, const char *what, struct error *err)
{
        CLEANUP(cleanup_openssl) unsigned char *whole = NULL;
        if (!is_canonical(key, der))
                return refuse(err, ERROR_BAD_KEY, "%s: the key is not in the one DER form that openssl writes; convert it with openssl pkey -pubin -in FILE -pubout", what);

        if (key->kind <= KEY_P521)
                EVP_PKEY_set_utf8_string_param(key->pkey, OSSL_PKEY_PARAM_EC_POINT_CONVERSION_FORMAT, OSSL_PKEY_EC_POINT_CONVERSION_FORMAT_UNCOMPRESSED);
        int size = i2d_PUBKEY(key->pkey, &whole);
        if (size < 0)
                return refuse(err, ERROR_BAD_KEY, "%s: the key cannot be encoded again", what);
        digest_sha256(whole, (size_t)size, &key->fingerprint);
        return true;
}

static bool key_check(struct trust_key *key, struct span der, const char *what, struct error *err)
{
        bool is_rsa = key->kind == KEY_RSA || key->kind == KEY_RSA_PSS;
        if ((is_rsa && !rsa_check(key, what, err)) || (key->kind == KEY_ED25519 && !ed25519_check(key, what, err)))
                return false;
        if (!is_rsa && !public_check(key->pkey, EVP_PKEY_public_check_quick))      /* of RSA there is no quick one: key_is_sound() */
                return refuse_unsound(what, err);
        if (!fingerprint_make(key, der, what, err))
                return false;
        if (!verify_prepare(key))
                return refuse(err, ERROR_BAD_KEY, "%s: the key is restricted to RSA-PSS parameters other than SHA-256", what);
        return true;
}

/* One SPKI as a key with one reference. */
static bool key_load(struct span der, const char *what, struct trust_key **ret_key, struct error *err)
{
        const unsigned char *at = der.bytes;
        CLEANUP(cleanup_x509_pubkey) X509_PUBKEY *spki = d2i_X509_PUBKEY(NULL, &at, (long)der.size_bytes);
        CLEANUP(key_unref) struct trust_key *key = memory_new(1, sizeof *key);
        atomic_init(&key->refs, 1);
        if (pem_is_private_der(der))
                return pem_refuse_private(what, err);
        if (!spki)
                return refuse(err, ERROR_BAD_KEY, "%s: the block holds no public key (SubjectPublicKeyInfo)", what);
        if (at != (const unsigned char *)der.bytes + der.size_bytes)
                return refuse(err, ERROR_BAD_KEY, "%s: %zu bytes stand behind the key", what, der.size_bytes - (size_t)(at - (const unsigned char *)der.bytes));
        if (!kind_read(spki, what, &key->kind, err))
                return false;
        key->pkey = X509_PUBKEY_get(spki);
        if (!key->pkey)
                return refuse(err, ERROR_BAD_KEY, "%s: the key is malformed, or its point is not on the curve", what);
        if (!key_check(key, der, what, err))
                return false;
        *ret_key = TAKE(key);
        return true;
}

/* PKCS#1 is an SPKI without its frame: it gets one, so that there is one set of checks. */
static bool key_load_pkcs1(struct span der, const char *what, struct trust_key **ret_key, struct error *err)
{
        CLEANUP(cleanup_x509_pubkey) X509_PUBKEY *spki = X509_PUBKEY_new();
        CLEANUP(cleanup_openssl) unsigned char *whole = NULL;
        unsigned char *inner = OPENSSL_memdup(der.bytes, der.size_bytes);
        int size = -1;
        if (pem_is_private_der(der)) {
                OPENSSL_clear_free(inner, der.size_bytes);
                return pem_refuse_private(what, err);
        }
        if (spki && inner && X509_PUBKEY_set0_param(spki, OBJ_nid2obj(NID_rsaEncryption), V_ASN1_NULL, NULL, inner, (int)der.size_bytes) == 1)
                size = i2d_X509_PUBKEY(spki, &whole);
        else
                OPENSSL_free(inner);
        if (size < 0)
                return refuse(err, ERROR_BAD_KEY, "%s: the block holds no RSA public key", what);
        return key_load(SPAN(whole, (size_t)size), what, ret_key, err);
}

static struct trust_keys *keys_new(void)
{
        struct trust_keys *keys = memory_new(1, sizeof *keys);
        atomic_init(&keys->refs, 1);
        return keys;
}

/* Takes its own reference; a key that is there already is not added again. False: there is no room. */
static bool keys_add(struct trust_keys *keys, struct trust_key *key)
{
        for (size_t i = 0; i < keys->count; i++)
                if (digest_equal(&keys->keys[i]->fingerprint, &key->fingerprint))
                        return true;
        if (keys->count == TRUST_KEYS_MAX)
                return false;
        keys->keys[keys->count++] = key_ref(key);
        return true;
}

static int fingerprint_compare(const void *a, const void *b)
{
        return memcmp(a, b, DIGEST_SHA256_BYTES);
}

static void keys_seal(struct trust_keys *keys)
{
        uint8_t sorted[TRUST_KEYS_MAX][DIGEST_SHA256_BYTES];
        for (size_t i = 0; i < keys->count; i++)
                memcpy(sorted[i], keys->keys[i]->fingerprint.bytes, DIGEST_SHA256_BYTES);
        qsort(sorted, keys->count, sizeof *sorted, fingerprint_compare);
        digest_sha256(sorted, keys->count * sizeof *sorted, &keys->digest);
}

static bool keys_load(const struct pem *pem, const char *what, struct trust_keys *keys, struct error *err)
{
        for (size_t i = 0; i < pem->count; i++) {
                const struct pem_block *block = &pem->blocks[i];
                CLEANUP(key_unref) struct trust_key *key = NULL;
                CLEANUP(cleanup_free) char *which = pem->count == 1 ? string_copy(what) : string_format("%s, key %zu of %zu", what, i + 1, pem->count);
                if (!(block->type == PEM_PKCS1 ? key_load_pkcs1 : key_load)(SPAN(block->der, block->der_bytes), which, &key, err))
                        return false;
                keys_add(keys, key);
        }
        keys_seal(keys);
        return true;
}

bool trust_keys_parse(const char *text, size_t size_bytes, const char *what, struct trust_keys **ret_keys, struct error *err)
{
        CLEANUP(pem_fini) struct pem pem = { 0 };
        CLEANUP(trust_keys_unref) struct trust_keys *keys = keys_new();
        bool good = pem_read(text, size_bytes, what, &pem, err) && keys_load(&pem, what, keys, err);
        ERR_clear_error();
        if (good)
                *ret_keys = TAKE(keys);
        return good;
}

bool trust_keys_check(const struct trust_keys *keys, const char *what, struct error *err)
{
        for (size_t i = 0; i < keys->count; i++)
                if (!key_is_sound(keys->keys[i])) {
                        CLEANUP(cleanup_free) char *which = keys->count == 1 ? string_copy(what) : string_format("%s, key %zu of %zu", what, i + 1, keys->count);
                        return refuse_unsound(which, err);
                }
        return true;
}

bool key_from_spki(struct span der, const char *what, struct trust_keys **ret_keys, struct error *err)
{
        CLEANUP(trust_keys_unref) struct trust_keys *keys = keys_new();
        CLEANUP(key_unref) struct trust_key *key = NULL;
        bool good = der.size_bytes > TRUST_KEY_TEXT_MAX ? refuse(err, ERROR_BAD_KEY, "%s has %zu bytes, at most %d are taken", what, der.size_bytes, TRUST_KEY_TEXT_MAX)
                                                        : key_load(der, what, &key, err);
        ERR_clear_error();
        if (!good)
                return false;
        keys_add(keys, key);
        keys_seal(keys);
        *ret_keys = TAKE(keys);
        return true;
}

bool trust_keys_join(struct trust_keys *const *sets, size_t count, const char *what, struct trust_keys **ret_keys, struct error *err)
{
        CLEANUP(trust_keys_unref) struct trust_keys *keys = keys_new();
        for (size_t i = 0; i < count; i++)
                for (size_t k = 0; k < sets[i]->count; k++)
                        if (!keys_add(keys, sets[i]->keys[k]))
                                return refuse(err, ERROR_BAD_KEY, "%s: more than %d keys are given", what, TRUST_KEYS_MAX);
        if (keys->count == 0)
                return refuse(err, ERROR_BAD_KEY, "%s: no key is given", what);
        keys_seal(keys);
        *ret_keys = TAKE(keys);
        return true;
}

struct trust_keys *trust_keys_ref(struct trust_keys *keys)
{
        atomic_fetch_add(&keys->refs, 1);
        return keys;
}

void trust_keys_unref(struct trust_keys **keys)
{
        struct trust_keys *gone = TAKE(*keys);
        if (!gone || atomic_fetch_sub(&gone->refs, 1) != 1)
                return;

        for (size_t i = 0; i < gone->count; i++)
                key_unref(&gone->keys[i]);
        free(gone);
}

size_t trust_keys_get_count(const struct trust_keys *keys)
{
        return keys->count;
}

const struct digest *trust_keys_get_fingerprint(const struct trust_keys *keys, size_t index)
{
        return &keys->keys[index]->fingerprint;
}

const struct digest *trust_keys_get_digest(const struct trust_keys *keys)
{
        return &keys->digest;
}

bool trust_keys_have_ed25519(const struct trust_keys *keys)
{
        for (size_t i = 0; i < keys->count; i++)
                if (keys->keys[i]->kind == KEY_ED25519)
                        return true;
        return false;
}
