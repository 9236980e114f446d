/*
 * How it goes: what a file beside a module holds is told by its bytes: base64 text is a signature over the file as it was delivered, so is DER or what else is no text;
 *              signature data of wasm goes to wasm.c; the legacy bundle of cosign is JSON around the same base64. Of that bundle the signature alone is used, never its
 *              certificate or key.
 * How it fails: other kinds of signatures are named; a good signature over something that is no module is refused, so that a signed document cannot be passed off as one.
 * How it ends: what was decoded is freed here.
 */
#include <string.h>
#include "content.h"
#include "plain.h"
#include "wasm.h"

enum { SIGNATURE_BYTES_MAX = 1024 /* RSA of 8192 bits */ };

/* What is found under such names and is something else. */
static const struct { const char *begin, *name; } strangers[] = {
        { "{",                                "JSON: a Sigstore bundle is published as .sigstore.json" },
        { "-----BEGIN PGP",                   "a PGP signature, which is not supported" },
        { "-----BEGIN SSH",                   "an SSH signature, which is not supported" },
        { "-----BEGIN",                       "a PEM block, not a signature" },
        { "untrusted comment:",               "a minisign signature: it is published as .minisig" },
        { "<",                                "a page, not a signature" },
};

static bool has_shape(const struct trust_target *target)
{
        return target->content ? target->content->has_shape : content_has_shape(SPAN(target->bytes, target->size_bytes));
}

static bool is_base64_text(struct span body)
{
        const char *text = body.bytes;

        for (size_t i = 0; i < body.size_bytes; i++)
                if (!text[i] || !strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n", text[i]))
                        return false;
        return true;
}

static bool is_text(struct span body)
{
        const uint8_t *bytes = body.bytes;

        for (size_t i = 0; i < body.size_bytes; i++)
                if (bytes[i] >= 0x7f || (bytes[i] < ' ' && !(bytes[i] >= '\t' && bytes[i] <= '\r')))
                        return false;
        return true;
}

static bool miss_stranger(struct judgement *judgement, struct span body)
{
        size_t blanks = 0;
        const char *text = body.bytes;

        while (blanks < body.size_bytes && text[blanks] && strchr(" \t\r\n", text[blanks]))
                blanks++;
        for (size_t i = 0; i < COUNT_OF(strangers); i++) {
                size_t length = strlen(strangers[i].begin);
                if (body.size_bytes - blanks >= length && memcmp(text + blanks, strangers[i].begin, length) == 0)
                        return miss(judgement->failure, TRUST_NOT_ACCEPTED, "the signature file is %s", strangers[i].name);
        }
        return miss(judgement->failure, TRUST_MALFORMED, "the signature file is neither base64 nor a binary signature: it has %zu bytes; "
                "write it with cosign sign-blob --output-signature or openssl dgst -sign", body.size_bytes);
}

/* One signature over the bytes of the file. */
static bool file_verify(struct judgement *judgement, struct span signature, struct verified *ret_verified)
{
        const struct trust_target *target = judgement->target;
        const struct verify_input input = { .message = SPAN(target->bytes, target->size_bytes), .signature = signature,
                .flags = format_is_on(judgement, TRUST_RSA_PSS) ? VERIFY_PSS : 0, .content = target->content, .noted = target->noted };
        char hint[64];

        switch (verify_message(judgement->demand->keys, &input, judgement->budget, ret_verified)) {
        case VERIFY_SPENT:
                return miss_spent(judgement);
        case VERIFY_BAD:
                return miss(judgement->failure, TRUST_OTHER_KEY, "the signature of the file is not by %s, or it is of another file", key_hint(judgement->demand->keys, hint));
        case VERIFY_GOOD:
                break;
        }
        return has_shape(target) || miss(judgement->failure, TRUST_WRONG_TYPE, "valid signature by this key, but over a file that is neither a Wasm module nor gzip, zstd or tar "
                "of one");
}

bool judge_sidecar_sig(struct judgement *judgement)
{
        struct span body = SPAN(judgement->evidence->body, judgement->evidence->body_bytes), signature = body;
        CLEANUP(cleanup_free) void *decoded = NULL;
        struct verified verified;
        size_t decoded_bytes = 0;

        if (body.size_bytes == 0)
                return miss(judgement->failure, TRUST_MALFORMED, "the signature file is empty");
        if (body.size_bytes >= WASM_DATA_BYTES_MIN && memcmp(body.bytes, "\1\1\1", 3) == 0)
                return judge_detached(judgement, body);
        if (is_base64_text(body)) {
                if (!base64_take(body.bytes, body.size_bytes, BASE64_STANDARD, SIGNATURE_BYTES_MAX, &decoded, &decoded_bytes) || decoded_bytes == 0)
                        return miss(judgement->failure, TRUST_MALFORMED, "the base64 of the signature file is malformed or longer than any signature");
                signature = SPAN(decoded, decoded_bytes);
        } else if (body.size_bytes > SIGNATURE_BYTES_MAX || is_text(body))
                return miss_stranger(judgement, body);
        if (!format_is_on(judgement, TRUST_RAW))
                return miss_off(judgement, TRUST_RAW);
        if (judgement->target->kind != TRUST_TARGET_FILE)
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "a signature of a file is judged on the bytes as they were delivered, not on what was unpacked from them");
        return file_verify(judgement, signature, &verified) && prove_plain(judgement, "raw", &verified);
}

/* The members that matter; what a log says of it (rekorBundle) as text in the form of the annotation. */
static bool legacy_read(struct judgement *judgement, const struct value *document, const char **ret_signature, struct buffer *entry)
{
        const struct value *logged = NULL;
        struct error err;

        if (value_get_member(document, "mediaType"))
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "the bundle is a Sigstore bundle, which is published as .sigstore.json, not a legacy one");
        if (!value_read_text(document, "base64Signature", ERROR_SIGNATURE_INVALID, ret_signature, &err) ||
            !value_read_map(document, "rekorBundle", ERROR_SIGNATURE_INVALID, &logged, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "the legacy bundle: %s", err.text);
        if (!*ret_signature)
                return miss(judgement->failure, TRUST_MALFORMED, "the legacy bundle has no \"base64Signature\"");
        if (logged) {
                struct json_writer writer = { .out = entry };
                json_put_value(&writer, NULL, logged);
        }
        return true;
}

bool judge_sidecar_legacy(struct judgement *judgement)
{
        const struct trust_evidence *evidence = judgement->evidence;
        CLEANUP(value_free) struct value *document = NULL;
        CLEANUP(buffer_fini) struct buffer entry = { 0 };
        CLEANUP(cleanup_free) void *signature = NULL;
        size_t signature_bytes = 0;
        struct verified verified;
        const char *text = NULL;
        struct error err;

        if (!format_is_on(judgement, TRUST_LEGACY_BUNDLE))
                return miss_off(judgement, TRUST_LEGACY_BUNDLE);
        if (!json_parse(evidence->body, evidence->body_bytes, ERROR_SIGNATURE_INVALID, &document, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "the legacy bundle: %s", err.text);
        if (!legacy_read(judgement, document, &text, &entry))
                return false;
        if (!base64_take(text, strlen(text), BASE64_STANDARD, SIGNATURE_BYTES_MAX, &signature, &signature_bytes) || signature_bytes == 0)
                return miss(judgement->failure, TRUST_MALFORMED, "the legacy bundle: \"base64Signature\" is not the base64 of a signature");
        if (!file_verify(judgement, SPAN(signature, signature_bytes), &verified))
                return false;
        const struct logged logged = { .signature = SPAN(signature, signature_bytes), .key = verified.key,
                .content = SPAN(judgement->target->bytes, judgement->target->size_bytes), .noted = judgement->target->content };
        return prove_logged(judgement, "legacy-bundle", &verified, entry.data, &logged);
}
