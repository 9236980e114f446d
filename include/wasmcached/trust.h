/*
 * trust: may these bytes be used: public keys, signature formats, policy. Pure functions over bytes: no network, no file, no clock. Objects are immutable once made and counted;
 * any thread. Rules: reference/signatures.md (sections named below), what the tools really write: peers-measured.md.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/trust/content.h>

/* ---- keys (section 2) ---- */
enum { TRUST_KEYS_MAX = 8, TRUST_KEY_TEXT_MAX = 16 << 10 };
/* 1 to 8 public keys, any of which will do. */
struct trust_keys;
/* ERROR_BAD_KEY names the rule ("found CERTIFICATE", "EC curve secp256k1"), never echoes the text, wipes what may have been a private key.
   `what` begins the sentence ("verificationKey"). */
bool trust_keys_parse(const char *text, size_t size_bytes, const char *what, struct trust_keys **ret_keys, struct error *err);
/* Worker: the rest of the checks, too slow for the loop (0.1 s for RSA of 8192 bits), once per key. ERROR_BAD_KEY; an unsound key verifies nothing in any case. */
bool trust_keys_check(const struct trust_keys *keys, const char *what, struct error *err);
/* All keys of several sets (files of one rule) as one set, doubles once; ERROR_BAD_KEY beyond TRUST_KEYS_MAX. */
bool trust_keys_join(struct trust_keys *const *sets, size_t count, const char *what, struct trust_keys **ret_keys, struct error *err);
struct trust_keys *trust_keys_ref(struct trust_keys *keys);
void trust_keys_unref(struct trust_keys **keys);
size_t trust_keys_get_count(const struct trust_keys *keys);
const struct digest *trust_keys_get_fingerprint(const struct trust_keys *keys, size_t index);      /* SHA-256 of the re-encoded SPKI */
const struct digest *trust_keys_get_digest(const struct trust_keys *keys); /* of the set, whatever its order: of the fingerprints, sorted */
bool trust_keys_have_ed25519(const struct trust_keys *keys);

/* ---- policy (section 9) ---- */
enum trust_format {                       /* names as in `trust.formats` */
        TRUST_BUNDLE, TRUST_SIMPLE, TRUST_EMBEDDED, TRUST_DETACHED, TRUST_RAW, TRUST_LEGACY_BUNDLE, TRUST_WASMSIGN1, TRUST_MINISIGN, TRUST_RSA_PSS, TRUST_MESSAGE_SIGNATURE_OCI,
        TRUST_FORMATS
};
enum { TRUST_FORMATS_DEFAULT = 1u << TRUST_BUNDLE | 1u << TRUST_SIMPLE | 1u << TRUST_EMBEDDED | 1u << TRUST_DETACHED | 1u << TRUST_RAW };
extern const char *const trust_format_names[TRUST_FORMATS];
enum trust_identity { TRUST_IDENTITY_IGNORE, TRUST_IDENTITY_REPOSITORY, TRUST_IDENTITY_EXACT };
struct trust_annotation { const char *name, *value; };
struct trust_policy_options {
        unsigned formats;                 /* bits 1u << enum trust_format */
        const char *const *predicates;    /* NULL-terminated; NULL = cosign/sign/v1 alone */
        const struct trust_annotation *annotations; size_t annotation_count;       /* that the signature must carry */
        enum trust_identity identity;
        bool requires_top_level;
        const struct trust_keys *rekor_keys;      /* not NULL = a valid entry of one of these logs is required */
};
struct trust_policy;
struct trust_policy *trust_policy_new(const struct trust_policy_options *options) __attribute__((returns_nonnull));       /* copies */
struct trust_policy *trust_policy_ref(struct trust_policy *policy);
void trust_policy_unref(struct trust_policy **policy);
const struct digest *trust_policy_get_digest(const struct trust_policy *policy);   /* equal policies, whatever the order of their lists, have equal digests */
const struct trust_policy_options *trust_policy_get_options(const struct trust_policy *policy);

/* One thing that is asked for: a signature by one of these keys, after this policy. A request may have several (its own key, the node's rules); each must be met. */
struct trust_demand { const struct trust_keys *keys; const struct trust_policy *policy; };

/* ---- what is judged ---- */
enum trust_target_kind { TRUST_TARGET_MANIFEST, TRUST_TARGET_FILE /* bytes as a url or file delivered them */, TRUST_TARGET_MODULE /* the wasm module itself */ };
struct trust_target {
        enum trust_target_kind kind;
        struct digest digest;
        const void *bytes; size_t size_bytes;     /* of FILE (but for `content`) and MODULE always; of MANIFEST when at hand (message-signature-oci), else NULL */
        const struct trust_content *content;      /* FILE: in place of bytes that are gone; `digest` is its sha256 */
        struct trust_content *noted;              /* FILE: gets what signatures that are good now need to be verified without the bytes; NULL = no need */
        const char *repository, *tag;     /* "host/path" and tag as asked for, for the identity rule; NULL for http(s) and file, tag NULL with a digest */
        bool is_child;                    /* MANIFEST: the child of an index whose own digest is another target */
};
enum trust_form {
TRUST_FORM_BUNDLE, TRUST_FORM_SIMPLE, TRUST_FORM_EMBEDDED, TRUST_FORM_SIDECAR_BUNDLE, TRUST_FORM_SIDECAR_SIG, TRUST_FORM_SIDECAR_LEGACY, TRUST_FORM_SIDECAR_MINISIG, TRUST_FORMS
};
extern const char *const trust_form_names[TRUST_FORMS];                    /* for rows of evidence */
/* One signature object as it was found; texts and bytes borrowed. EMBEDDED has no body: the module's own sections are looked at. SIDECAR_SIG tells by its bytes what it signs:
   judge it with the FILE; where that file is a box (gzip, tar), once more with the MODULE: a detached wasm signature counts there only, a raw one with the FILE only,
   and each misses with TRUST_NOT_ACCEPTED on the other target. */
struct trust_evidence {
        enum trust_form form;
        const void *body; size_t body_bytes;      /* bundle, payload, sidecar */
        const char *signature, *log_entry;        /* SIMPLE: the layer annotations dev.cosignproject.cosign/signature and dev.sigstore.cosign/bundle, NULL if absent */
        bool has_certificate;             /* SIMPLE: a certificate lies beside it; never used, named in the reason */
        const char *where;                /* "referrer sha256:…", "tag sha256-….sig", "https://…/x.wasm.sig", for sentences and inspect */
};
/* The layers of a classic signature manifest (section 4.1), for the caller to fetch: at most 64. ERROR_SIGNATURE_INVALID says what is wrong with it (index, other types only). */
struct trust_layer { struct digest digest; uint64_t size_bytes; const char *signature, *log_entry; bool has_certificate; };
struct trust_layers { struct value *document; struct trust_layer *items; size_t count, other_count; };
bool trust_layers_parse(const void *manifest, size_t size_bytes, struct trust_layers *ret_layers, struct error *err);
void trust_layers_fini(struct trust_layers *layers);
/* A bundle's manifest (3.2.4): image manifest, subject == target, one bundle layer. Its layer, or why not. */
bool trust_bundle_layer_parse(const void *manifest, size_t size_bytes, const struct digest *target, struct digest *ret_layer, uint64_t *ret_size, struct error *err);

/* ---- judging ---- */
/* Why not, nearest miss first (section 9.5, "best failure"): a smaller one is the better sentence. */
enum trust_reason {
        TRUST_OTHER_DIGEST, TRUST_WRONG_TYPE, TRUST_IDENTITY, TRUST_ANNOTATION, TRUST_NO_LOG_ENTRY, TRUST_TRUNCATED_MODULE, TRUST_ALGORITHM, TRUST_OTHER_KEY, TRUST_MALFORMED,
        TRUST_KEYLESS,
        TRUST_NOT_ACCEPTED /* a format that is off or unsupported: notation, trailing section */, TRUST_LIMIT, TRUST_ABSENT, TRUST_UNREACHABLE, TRUST_REASONS
};
extern const char *const trust_reason_names[TRUST_REASONS];                /* "sig_other_digest" …: labels of metrics, begin of sentences */
struct trust_failure { enum trust_reason reason; unsigned others; char text[400]; };       /* zero-initialise with TRUST_FAILURE_NONE */
#define TRUST_FAILURE_NONE ((struct trust_failure){ .reason = TRUST_REASONS })
void trust_failure_note(struct trust_failure *best, const struct trust_failure *other);    /* keeps the nearer miss, counts the rest */

struct trust_proof {
        /* Wire name, static: cosign-bundle, cosign-simple, wasm-embedded, wasm-detached, sigstore-bundle, raw, legacy-bundle, wasmsign1, minisign. */
        const char *format;
        struct digest fingerprint;        /* of the key that signed */
        const char *algorithm;            /* static: "ECDSA P-256 SHA-256" … */
        char *annotations;                /* JSON object text of what was signed with it, NULL if none; trust_proof_fini frees */
        bool names_other;                 /* signed for another repository than was asked for, which the policy ignores */
        int64_t logged_s;                 /* integratedTime of a log entry that was checked; 0 = none */
};
/* Of one flight: crypto operations and bytes that may still be spent (9.2.7); shared by all judgements of one request, one thread at a time. */
struct trust_budget { unsigned verifications; uint64_t bytes; };
#define TRUST_BUDGET ((struct trust_budget){ 256, 8u << 20 })
/* True: proved. False: the failure says why, and nothing is set. Never anything else: a malformed object is a failure like any other. */
bool trust_judge(const struct trust_demand *demand, const struct trust_target *target, const struct trust_evidence *evidence, struct trust_budget *budget,
                 struct trust_proof *ret_proof, struct trust_failure *ret_failure);
void trust_proof_fini(struct trust_proof *proof);
