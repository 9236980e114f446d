/*
 * How it goes: the bundle is read strictly: its type, key material, one content. A DSSE envelope: the PAE is rebuilt from the received type and payload and verified, and only
 *               then the same payload bytes are parsed as a statement. A message signature: verified over the target's own bytes. Then policy and, where asked for, the log.
 * How it fails: with the member that is wrong; a bundle with a certificate is keyless, whatever else it holds; hints are only shown.
 * How it ends: everything decoded is freed here; the proof has its own copies.
 *
 * Rules: 3.3, 3.4, 8 M. Outside what is signed, unknown members are ignored; duplicates are refused by the JSON reader at every depth.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include "signed.h"

static const char *const media_types[] = {
        "application/vnd.dev.sigstore.bundle.v0.3+json", "application/vnd.dev.sigstore.bundle+json;version=0.3", "application/vnd.dev.sigstore.bundle+json;version=0.2",
        "application/vnd.dev.sigstore.bundle+json;version=0.1", "application/vnd.dev.sigstore.bundle.v0.2+json", "application/vnd.dev.sigstore.bundle.v0.1+json",
};
static const char payload_type[] = "application/vnd.in-toto+json", pae_head[] = "DSSEv1 28 application/vnd.in-toto+json ";

/* What was read of one bundle; values point into its document. */
struct bundle { const char *hint; const struct value *log_entries, *message, *envelope; };

static bool is_present(const struct value *map, const char *name)
{
        return value_get_kind(value_get_member(map, name)) != VALUE_NULL;
}

static bool type_check(struct judgement *judgement, const struct value *document)
{
        const char *type = NULL;
        struct error err;

        if (value_get_kind(document) != VALUE_MAP)
                return miss(judgement->failure, TRUST_MALFORMED, "bundle is no JSON object");
        if (!value_read_text(document, "mediaType", ERROR_SIGNATURE_INVALID, &type, &err))
                return MALFORMED(judgement, &err);
        if (!type)
                return miss(judgement->failure, TRUST_MALFORMED, "bundle has no \"mediaType\"");
        for (size_t i = 0; i < COUNT_OF(media_types); i++)
                if (strcmp(type, media_types[i]) == 0)
                        return true;
        return miss(judgement->failure, TRUST_NOT_ACCEPTED, "\"%s\" is no known type of a Sigstore bundle (versions 0.1 to 0.3)", SHOWN(type));
}

static bool material_read(struct judgement *judgement, const struct value *document, struct bundle *bundle)
{
        const struct value *material = NULL, *key = NULL;
        struct error err;

        if (!value_read_map(document, "verificationMaterial", ERROR_SIGNATURE_INVALID, &material, &err))
                return MALFORMED(judgement, &err);
        if (is_present(material, "certificate") || is_present(material, "x509CertificateChain"))
                return miss(judgement->failure, TRUST_KEYLESS, "signature carries a certificate; only key signatures are supported");
        if (!value_read_map(material, "publicKey", ERROR_SIGNATURE_INVALID, &key, &err) || !value_read_text(key, "hint", ERROR_SIGNATURE_INVALID, &bundle->hint, &err) ||
            !value_read_list(material, "tlogEntries", ERROR_SIGNATURE_INVALID, &bundle->log_entries, &err))
                return MALFORMED(judgement, &err);
        return key || miss(judgement->failure, TRUST_MALFORMED, "bundle has no \"verificationMaterial.publicKey\"");
}

static bool content_read(struct judgement *judgement, const struct value *document, struct bundle *bundle)
{
        struct error err;

        if (!value_read_map(document, "messageSignature", ERROR_SIGNATURE_INVALID, &bundle->message, &err) ||
            !value_read_map(document, "dsseEnvelope", ERROR_SIGNATURE_INVALID, &bundle->envelope, &err))
                return MALFORMED(judgement, &err);
        if (!bundle->message == !bundle->envelope)
                return miss(judgement->failure, TRUST_MALFORMED, "bundle has %s of \"messageSignature\" and \"dsseEnvelope\", not one", bundle->message ? "both" : "neither");
        return true;
}

/* A member in base64, at most `limit` bytes, not empty. */
static bool bytes_read(struct judgement *judgement, const struct value *map, const char *name, size_t limit, struct span *ret_span)
{
        const char *text = NULL;
        struct error err;
        void *bytes;
        size_t size;

        if (!value_read_text(map, name, ERROR_SIGNATURE_INVALID, &text, &err))
                return MALFORMED(judgement, &err);
        if (!text || !*text)
                return miss(judgement->failure, TRUST_MALFORMED, "bundle: \"%s\" is missing or empty", name);
        if (!base64_take(text, strlen(text), BASE64_EITHER, limit, &bytes, &size))
                return miss(judgement->failure, TRUST_MALFORMED, "bundle: \"%s\" is no base64 of at most %zu bytes", name, limit);
        *ret_span = SPAN(bytes, size);
        return true;
}

static void span_free(struct span *span)
{
        free((void *)(uintptr_t)span->bytes);
}

static bool verify(struct judgement *judgement, const struct bundle *bundle, struct verify_input *input, struct verified *ret_verified)
{
        input->flags = format_is_on(judgement, TRUST_RSA_PSS) ? VERIFY_PSS : 0;
        enum verify_result result = verify_message(judgement->demand->keys, input, judgement->budget, ret_verified);
        CLEANUP(cleanup_free) char *beside = NULL;

        if (result == VERIFY_GOOD)
                return true;
        if (bundle->hint && *bundle->hint)
                beside = string_format(" (hint: bundle key %s)", SHOWN(bundle->hint));
        return judged_bad(judgement, result, beside ? beside : "");
}

/* ---- DSSE ---- */

static bool envelope_read(struct judgement *judgement, const struct value *envelope, struct span *ret_payload, struct span *ret_signature)
{
        const struct value *signatures = NULL;
        const char *type = NULL;
        struct error err;

        if (!value_read_text(envelope, "payloadType", ERROR_SIGNATURE_INVALID, &type, &err) || !value_read_list(envelope, "signatures", ERROR_SIGNATURE_INVALID, &signatures, &err))
                return MALFORMED(judgement, &err);
        if (!type || strcmp(type, payload_type) != 0)
                return miss(judgement->failure, TRUST_MALFORMED, "DSSE payloadType is %s, expected %s", type ? SHOWN(type) : "missing", payload_type);
        if (value_get_count(signatures) != 1)
                return miss(judgement->failure, TRUST_MALFORMED, "DSSE envelope has %zu signatures, a bundle has exactly one", value_get_count(signatures));
        if (value_get_kind(value_get_item(signatures, 0)) != VALUE_MAP)
                return miss(judgement->failure, TRUST_MALFORMED, "DSSE signature is no object");
        return bytes_read(judgement, envelope, "payload", SIGNED_BODY_MAX, ret_payload) &&
               bytes_read(judgement, value_get_item(signatures, 0), "sig", SIGNATURE_BYTES_MAX, ret_signature);
}

/* "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body; the type is known to be ours, byte by byte. */
static void pae_build(struct span payload, struct buffer *ret_pae)
{
        buffer_reserve(ret_pae, sizeof pae_head + 24 + payload.size_bytes);
        buffer_printf(ret_pae, "%s%zu ", pae_head, payload.size_bytes);
        buffer_append(ret_pae, payload.bytes, payload.size_bytes);
}

static bool envelope_judge(struct judgement *judgement, const struct bundle *bundle)
{
        bool is_oci = judgement->target->kind == TRUST_TARGET_MANIFEST;
        CLEANUP(span_free) struct span payload = { 0 }, signature = { 0 };
        CLEANUP(buffer_fini) struct buffer pae = { 0 };
        CLEANUP(value_free) struct value *statement = NULL;
        const struct value *annotations;
        struct verified verified;

        if (!envelope_read(judgement, bundle->envelope, &payload, &signature))
                return false;
        pae_build(payload, &pae);
        struct verify_input input = { .message = SPAN(pae.data, pae.used), .signature = signature };
        if (!verify(judgement, bundle, &input, &verified) || !statement_check(judgement, payload, &statement, &annotations) ||
            !policy_check_identity(judgement, NULL))
                return false;

        struct logged logged = { .signature = signature, .key = verified.key, .content = payload, .pae = SPAN(pae.data, pae.used) };
        if (!rekor_check_entries(judgement, bundle->log_entries, &logged))
                return false;
        judged_good(judgement, is_oci ? "cosign-bundle" : "sigstore-bundle", &verified, annotations);
        return true;
}

/* ---- message signature ---- */

/* Never what is verified, but a bundle that names another content than it signs is a trap for other readers (message-digest-mismatch). */
static bool message_digest_check(struct judgement *judgement, const struct value *message)
{
        static const char *const algorithms[HASHES] = { [HASH_SHA256] = "SHA2_256", [HASH_SHA384] = "SHA2_384", [HASH_SHA512] = "SHA2_512" };
        const struct value *named = NULL;
        const char *algorithm = NULL;
        struct error err;

        if (!value_read_map(message, "messageDigest", ERROR_SIGNATURE_INVALID, &named, &err) || !value_read_text(named, "algorithm", ERROR_SIGNATURE_INVALID, &algorithm, &err))
                return MALFORMED(judgement, &err);
        if (!algorithm && !is_present(named, "digest"))
                return true;                                       /* cosign v3 writes {} for Ed25519 */

        CLEANUP(span_free) struct span digest = { 0 };
        if (!bytes_read(judgement, named, "digest", EVP_MAX_MD_SIZE, &digest))
                return false;
        const struct hashable file = { SPAN(judgement->target->bytes, judgement->target->size_bytes), judgement->target->content };
        for (enum hash i = 0; algorithm && i < HASHES; i++) {
                uint8_t bytes[64];
                struct span ours;

                if (strcmp(algorithm, algorithms[i]) != 0)
                        continue;
                if (!hashable_get(&file, i, bytes, &ours) || ours.size_bytes != digest.size_bytes || memcmp(ours.bytes, digest.bytes, ours.size_bytes) != 0)
                        return miss(judgement->failure, TRUST_MALFORMED, "bundle: the signature is good, but messageDigest is of another content");
                return true;
        }
        return miss(judgement->failure, TRUST_MALFORMED, "bundle: messageDigest algorithm %s is not known", algorithm ? SHOWN(algorithm) : "missing");
}

static bool message_judge(struct judgement *judgement, const struct bundle *bundle)
{
        const struct trust_target *target = judgement->target;
        struct verify_input input = { .message = SPAN(target->bytes, target->size_bytes), .content = target->content, .noted = target->noted };
        CLEANUP(span_free) struct span signature = { 0 };
        struct verified verified;

        if (target->kind == TRUST_TARGET_MANIFEST && !format_is_on(judgement, TRUST_MESSAGE_SIGNATURE_OCI))
                return miss_off(judgement, TRUST_MESSAGE_SIGNATURE_OCI);
        if (!target->bytes && !target->content)
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "bundle is a message signature, and the bytes of the manifest are not at hand");
        if (!bytes_read(judgement, bundle->message, "signature", SIGNATURE_BYTES_MAX, &signature))
                return false;
        input.signature = signature;
        if (!verify(judgement, bundle, &input, &verified) ||
            !message_digest_check(judgement, bundle->message) || !policy_check_identity(judgement, NULL) || !policy_check_annotations(judgement, NULL))
                return false;

        struct logged logged = { .signature = signature, .key = verified.key, .content = input.message, .noted = target->content };
        if (!rekor_check_entries(judgement, bundle->log_entries, &logged))
                return false;
        judged_good(judgement, "sigstore-bundle", &verified, NULL);
        return true;
}

bool judge_bundle(struct judgement *judgement)
{
        const struct trust_evidence *evidence = judgement->evidence;
        CLEANUP(value_free) struct value *document = NULL;
        struct bundle bundle = { 0 };
        struct error err;

        if (!format_is_on(judgement, TRUST_BUNDLE))
                return miss_off(judgement, TRUST_BUNDLE);
        if (!json_parse(evidence->body, evidence->body_bytes, ERROR_SIGNATURE_INVALID, &document, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "bundle: %s", err.text);
        if (!type_check(judgement, document) || !material_read(judgement, document, &bundle) || !content_read(judgement, document, &bundle))
                return false;
        return bundle.envelope ? envelope_judge(judgement, &bundle) : message_judge(judgement, &bundle);
}
