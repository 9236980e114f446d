/*
 * How it goes: the signature of the layer's annotation is verified over the payload exactly as it was stored, and only then the payload is parsed: its type, its manifest
 *               digest against our own, then identity, annotations and, where asked for, the log.
 * How it fails: with the member that is wrong. A certificate beside the signature is never used; where no key fits, the sentence names it.
 * How it ends: the proof has its own copy of `optional`.
 *
 * Rules: 4.2 to 4.4; strictness as c/image (signature/internal/sigstore_payload.go): exact members, exact case, no duplicates.
 */
#include <stdlib.h>
#include <string.h>
#include "signed.h"

static const char critical_type[] = "cosign container image signature";
static const char *const top_names[] = { "critical", "optional", NULL }, *const critical_names[] = { "type", "image", "identity", NULL };
static const char *const image_names[] = { "docker-manifest-digest", NULL }, *const identity_names[] = { "docker-reference", NULL };

/* Texts point into the document. */
struct payload { const char *type, *digest, *reference; const struct value *optional; };

/* An object with these members, all of them and no other. */
static bool exact_read(const struct value *map, const char *name, const char *const *members, const struct value **ret_map, struct error *err)
{
        const struct value *found = NULL;

        if (!value_read_map(map, name, ERROR_SIGNATURE_INVALID, &found, err) || !value_only_members(found, members, ERROR_SIGNATURE_INVALID, err))
                return false;
        for (; *members; members++)
                if (!value_get_member(found, *members))
                        return refuse(err, ERROR_SIGNATURE_INVALID, "member \"%s\" of \"%s\" is missing", *members, name);
        *ret_map = found;
        return true;
}

static bool payload_read(const struct value *document, struct payload *payload, struct error *err)
{
        const struct value *critical = NULL, *image = NULL, *identity = NULL;

        if (value_get_kind(document) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "is no JSON object");
        if (!value_only_members(document, top_names, ERROR_SIGNATURE_INVALID, err) || !exact_read(document, "critical", critical_names, &critical, err) ||
            !exact_read(critical, "image", image_names, &image, err) || !exact_read(critical, "identity", identity_names, &identity, err) ||
            !value_read_text(critical, "type", ERROR_SIGNATURE_INVALID, &payload->type, err) ||
            !value_read_text(image, image_names[0], ERROR_SIGNATURE_INVALID, &payload->digest, err) ||
            !value_read_text(identity, identity_names[0], ERROR_SIGNATURE_INVALID, &payload->reference, err) ||
            !value_read_map(document, "optional", ERROR_SIGNATURE_INVALID, &payload->optional, err))
                return false;
        if (!value_get_member(document, "optional"))
                return refuse(err, ERROR_SIGNATURE_INVALID, "member \"optional\" is missing");
        if (!payload->type || !payload->digest || !payload->reference)
                return refuse(err, ERROR_SIGNATURE_INVALID, "a member of \"critical\" is null");
        return true;
}

static bool content_check(struct judgement *judgement, const struct payload *payload)
{
        char wanted[DIGEST_TEXT_BYTES];
        struct digest named;
        struct error err;

        if (strcmp(payload->type, critical_type) != 0)
                return miss(judgement->failure, TRUST_WRONG_TYPE, "valid signature by this key, but of type \"%s\"; expected \"%s\"", SHOWN(payload->type), critical_type);
        if (!digest_parse(payload->digest, strlen(payload->digest), ERROR_SIGNATURE_INVALID, &named, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "payload: docker-manifest-digest: %s", err.text);
        digest_format(&judgement->target->digest, wanted);
        if (strcmp(payload->digest, wanted) != 0)
                return miss(judgement->failure, TRUST_OTHER_DIGEST, "valid signature by this key, but for %s", payload->digest);
        return policy_check_identity(judgement, payload->reference) && policy_check_annotations(judgement, payload->optional);
}

static bool signature_check(struct judgement *judgement, struct span payload, struct span signature, struct verified *ret_verified)
{
        struct verify_input input = { .message = payload, .signature = signature, .flags = format_is_on(judgement, TRUST_RSA_PSS) ? VERIFY_PSS : 0 };
        enum verify_result result = verify_message(judgement->demand->keys, &input, judgement->budget, ret_verified);

        if (result == VERIFY_BAD && judgement->evidence->has_certificate) {
                char keys[64];

                return miss(judgement->failure, TRUST_KEYLESS, "signature carries a certificate and is not by %s; only key signatures are supported",
                            key_hint(judgement->demand->keys, keys));
        }
        return result == VERIFY_GOOD || judged_bad(judgement, result, "");
}

static bool payload_judge(struct judgement *judgement, struct span body, struct span signature)
{
        CLEANUP(value_free) struct value *document = NULL;
        struct payload payload = { 0 };
        struct verified verified;
        struct error err;

        if (!signature_check(judgement, body, signature, &verified))
                return false;
        if (!json_parse(body.bytes, body.size_bytes, ERROR_SIGNATURE_INVALID, &document, &err) || !payload_read(document, &payload, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "payload: %s", err.text);
        if (!content_check(judgement, &payload))
                return false;

        struct logged logged = { .signature = signature, .key = verified.key, .content = body };
        if (!rekor_check_annotation(judgement, judgement->evidence->log_entry, &logged))
                return false;
        judged_good(judgement, "cosign-simple", &verified, payload.optional);
        return true;
}

bool judge_simple(struct judgement *judgement)
{
        const struct trust_evidence *evidence = judgement->evidence;
        CLEANUP(cleanup_free) void *signature = NULL;
        size_t size;

        if (!format_is_on(judgement, TRUST_SIMPLE))
                return miss_off(judgement, TRUST_SIMPLE);
        if (!evidence->signature || !*evidence->signature)
                return miss(judgement->failure, TRUST_MALFORMED, "layer has no annotation dev.cosignproject.cosign/signature");
        if (!base64_take(evidence->signature, strlen(evidence->signature), BASE64_STANDARD, SIGNATURE_BYTES_MAX, &signature, &size))
                return miss(judgement->failure, TRUST_MALFORMED, "annotation dev.cosignproject.cosign/signature is no base64 of at most %d bytes", SIGNATURE_BYTES_MAX);
        return payload_judge(judgement, SPAN(evidence->body, evidence->body_bytes), SPAN(signature, size));
}
