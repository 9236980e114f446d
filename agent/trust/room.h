/* trust: the room's own parts. Rules by section of reference/signatures.md. */
#pragma once
#include <wasmcached/trust.h>

struct span { const void *bytes; size_t size_bytes; };
#define SPAN(b, n) ((struct span){ (b), (n) })

/* ---- key.c: parsed keys ---- */
enum trust_key_kind { KEY_P256, KEY_P384, KEY_P521, KEY_RSA, KEY_RSA_PSS, KEY_ED25519 };
struct trust_key;                                         /* opaque outside key.c and verify.c (key.h) */
bool key_from_spki(struct span der, const char *what, struct trust_keys **ret_keys, struct error *err);      /* one key, the same checks: for Rekor bodies and tests */

/* ---- hashes that signatures are over, fetched once per process (verify.c) ---- */
enum hash { HASH_SHA256, HASH_SHA384, HASH_SHA512, HASHES };
bool hash_bytes(enum hash hash, struct span message, void *ret_hash);
/* Bytes to be hashed, or a file that is gone and what was noted of it. The hash is in `ret_bytes` or in the content. */
struct hashable { struct span bytes; const struct trust_content *content; };
bool hashable_get(const struct hashable *message, enum hash hash, uint8_t ret_bytes[64], struct span *ret_hash);

/* ---- verify.c: one signature over one message, by any key of the set (2.2, 2.3). The key alone decides the algorithms tried; success is EVP's exact 1. ---- */
enum verify_result { VERIFY_GOOD, VERIFY_BAD /* no key of the set made it */, VERIFY_SPENT /* the budget is used up */ };
struct verified { size_t key; const char *algorithm; };   /* index into the set; static text */
enum verify_flags { VERIFY_PSS = 1 /* rsa-pss is switched on */, VERIFY_ED25519_ONLY = 2 /* wasm formats, minisign: no other key kind is tried, no ph */ };
/* content, noted: as in struct trust_target, where the message is the file itself. */
struct verify_input { struct span message, signature; unsigned flags; const struct trust_content *content; struct trust_content *noted; };
enum verify_result verify_message(const struct trust_keys *keys, const struct verify_input *input, struct trust_budget *budget, struct verified *ret_verified);

/* ---- base64.c (2.2 end): standard or URL-safe alphabet as `form` says, \r and \n skipped; exact otherwise. Allocates; the caller frees. ---- */
enum base64_form { BASE64_STANDARD, BASE64_EITHER /* DSSE: either alphabet, not mixed; padding may lack */ };
bool base64_take(const char *text, size_t length, enum base64_form form, size_t limit_bytes, void **ret_bytes, size_t *ret_size);

/* ---- words.c: sentences. A judge's sentence does not name the place: judge.c puts evidence->where before it. ---- */
bool miss(struct trust_failure *ret_failure, enum trust_reason reason, const char *format, ...) __attribute__((format(printf, 3, 4)));      /* always false */
const char *key_hint(const struct trust_keys *keys, char ret_text[64]);    /* "key 0123456789abcdef" or "keys 01…, 23…": first 16 hex digits each */

/* ---- one judge per form; what they need, once ---- */
struct judgement {
        const struct trust_demand *demand;
        const struct trust_policy_options *policy;        /* of demand */
        const struct trust_target *target;
        const struct trust_evidence *evidence;
        struct trust_budget *budget;
        struct trust_failure *failure;
        struct trust_proof *proof;                        /* filled only when the judge returns true */
};
bool format_is_on(const struct judgement *judgement, enum trust_format format);
bool judge_bundle(struct judgement *judgement);           /* bundle.c: OCI (3.3, 3.4) and, as sidecar, message signatures and DSSE over a file (8 M) */
bool judge_simple(struct judgement *judgement);           /* simple.c (4) */
bool judge_embedded(struct judgement *judgement);         /* wasm.c: section `signature` (6.4), and wasmsign1 (6.6) where switched on */
bool judge_sidecar_sig(struct judgement *judgement);      /* sidecar.c: raw base64 or DER over the FILE, or detached wasm data over the MODULE (8 R, D); see the door */
bool judge_sidecar_legacy(struct judgement *judgement);   /* sidecar.c: cosign's legacy blob bundle (8 L) */
bool judge_sidecar_minisig(struct judgement *judgement);  /* minisign.c (8 N) */

/* ---- policy.c ---- */
bool policy_check_identity(struct judgement *judgement, const char *docker_reference_or_null);      /* 4.3; NULL = the format carries no name */
bool policy_check_annotations(struct judgement *judgement, const struct value *annotations_or_null);

/* ---- rekor.c (7): evidence of a log, offline, required when policy->rekor_keys is set; the bindings of 7.2 to signature, key and content ---- */
struct logged {                                           /* what the entry must be about */
        struct span signature;                            /* raw signature bytes that verified */
        size_t key;                                       /* index into demand->keys of the key that verified */
        struct span content;                              /* SIMPLE: payload; DSSE: payload (decoded); message signature: file bytes */
        const struct trust_content *noted;                /* message signature: in place of them, else NULL */
        struct span pae;                                  /* DSSE only: the PAE bytes, else empty */
        const char *envelope; size_t envelope_bytes;      /* DSSE only: envelope JSON text if at hand, else NULL */
};
/* SIMPLE: the annotation dev.sigstore.cosign/bundle (7.1). Nothing to do and true when no log is required. */
bool rekor_check_annotation(struct judgement *judgement, const char *entry_or_null, const struct logged *logged);
/* Bundle: verificationMaterial.tlogEntries (7.2). */
bool rekor_check_entries(struct judgement *judgement, const struct value *entries_or_null, const struct logged *logged);
