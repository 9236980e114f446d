/* trust: what key.c, pem.c and verify.c share of a parsed key. */
#pragma once
#include <openssl/evp.h>
#include <stdatomic.h>
#include "room.h"

enum { KEY_KINDS = KEY_ED25519 + 1, ED25519_KEY_BYTES = 32, ED25519_SIGNATURE_BYTES = 64, VERIFY_ATTEMPTS = 2 };

/* Immutable once made, counted, any thread: what OpenSSL changes while it verifies is dup'ed from `prepared`. */
enum key_soundness { KEY_UNCHECKED, KEY_SOUND, KEY_UNSOUND };
struct trust_key {
        atomic_uint refs;
        atomic_int soundness;                             /* enum key_soundness */
        enum trust_key_kind kind;
        EVP_PKEY *pkey;
        struct digest fingerprint;
        uint8_t ed25519[ED25519_KEY_BYTES];               /* KEY_ED25519 only */
        EVP_PKEY_CTX *prepared[VERIFY_ATTEMPTS];          /* by row of the table in verify.c; NULL: no such attempt, or Ed25519 */
};

struct trust_keys {
        atomic_uint refs;
        size_t count;
        struct trust_key *keys[TRUST_KEYS_MAX];
        struct digest digest;
};

/* verify.c: false when OpenSSL will not verify with this key in the way that section 2.2 allows (RSA-PSS parameters of another hash). */
bool verify_prepare(struct trust_key *key);

bool key_is_sound(struct trust_key *key);                 /* checks it the first time; whatever is verified by a key that is not counts for nothing */

/* pem.c: the DER of each block of a text; the framing is ours alone (2.1). */
enum pem_type { PEM_SPKI, PEM_PKCS1 };
struct pem_block { enum pem_type type; uint8_t *der; size_t der_bytes; };
struct pem { struct pem_block blocks[TRUST_KEYS_MAX]; size_t count; };
bool pem_read(const char *text, size_t size_bytes, const char *what, struct pem *pem, struct error *err);     /* pem_fini() also after false */
void pem_fini(struct pem *pem);                           /* wipes */
bool pem_refuse_private(const char *what, struct error *err);
bool pem_is_private_der(struct span der);                 /* PKCS#8, PKCS#1 and SEC1 private keys all begin with a small version number */
