/*
 * How it goes: four lines: a comment, base64 of "ED", a key number and a signature, the trusted comment, base64 of a signature over the first one and that comment.
 *              The message is the BLAKE2b-512 of the file. Both signatures must be by one key; the key number is only a number (with a PEM key nothing is known of it).
 * How it fails: off unless the policy switches it on; other line breaks, more lines, unprintable comments are malformed; "Ed" (not hashed first) is refused, as minisign -H does.
 * How it ends: nothing is kept.
 */
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include "plain.h"

enum { MINISIGN_LINES = 4, BLOB_BYTES = 74, SIGNATURE_OFFSET = 10, SIGNATURE_BYTES = 64, COMMENT_BYTES_MAX = 8191, HASH_BYTES = 64 };
static const char untrusted_mark[] = "untrusted comment: ", trusted_mark[] = "trusted comment: ";

struct minisig { uint8_t blob[BLOB_BYTES], global[SIGNATURE_BYTES]; struct span comment; };

/* Each line ends in \n or \r\n; the last one may end with the file. Nothing after it. */
static bool lines_split(struct span body, struct span ret_lines[MINISIGN_LINES])
{
        const char *at = body.bytes, *end = at + body.size_bytes;

        for (size_t i = 0; i < MINISIGN_LINES; i++) {
                const char *stop = memchr(at, '\n', (size_t)(end - at));
                const char *next = stop ? stop + 1 : end;

                if (!stop && i + 1 < MINISIGN_LINES)
                        return false;
                stop = stop ? stop : end;
                ret_lines[i] = SPAN(at, (size_t)(stop - at) - (stop > at && stop[-1] == '\r'));
                at = next;
        }
        return at == end;
}

static bool mark_take(struct span line, const char *mark, struct span *ret_rest)
{
        size_t length = strlen(mark);

        if (line.size_bytes < length || memcmp(line.bytes, mark, length) != 0)
                return false;
        *ret_rest = SPAN((const char *)line.bytes + length, line.size_bytes - length);
        return true;
}

/* UTF-8 without control bytes, but for the tab that minisign itself writes. */
static bool is_printable(struct span text)
{
        const uint8_t *bytes = text.bytes;

        for (size_t i = 0, length; i < text.size_bytes; i += length) {
                length = string_utf8_length(bytes + i, text.size_bytes - i);
                if (length == 0 || (bytes[i] < ' ' && bytes[i] != '\t') || bytes[i] == 0x7f)
                        return false;
        }
        return true;
}

static bool base64_exact(struct span line, void *ret_bytes, size_t size_bytes)
{
        CLEANUP(cleanup_free) void *bytes = NULL;
        size_t size = 0;

        if (memchr(line.bytes, '\r', line.size_bytes) || !base64_take(line.bytes, line.size_bytes, BASE64_STANDARD, size_bytes, &bytes, &size) || size != size_bytes)
                return false;
        memcpy(ret_bytes, bytes, size_bytes);
        return true;
}

static const char *minisig_parse(struct span body, struct minisig *ret_minisig)
{
        struct span lines[MINISIGN_LINES], comment;

        if (!lines_split(body, lines))
                return "it has not four lines";
        if (!mark_take(lines[0], untrusted_mark, &comment))
                return "line 1 does not begin with \"untrusted comment: \"";
        if (!base64_exact(lines[1], ret_minisig->blob, BLOB_BYTES))
                return "line 2 is not the base64 of 74 bytes";
        if (!mark_take(lines[2], trusted_mark, &ret_minisig->comment))
                return "line 3 does not begin with \"trusted comment: \"";
        if (ret_minisig->comment.size_bytes > COMMENT_BYTES_MAX || !is_printable(ret_minisig->comment))
                return "the trusted comment is longer than 8191 bytes or has unprintable ones";
        return base64_exact(lines[3], ret_minisig->global, SIGNATURE_BYTES) ? NULL : "line 4 is not the base64 of 64 bytes";
}

static enum verify_result ed25519_verify(struct judgement *judgement, struct span message, const uint8_t *signature, struct verified *ret_verified)
{
        struct verify_input input = { .message = message, .signature = SPAN(signature, SIGNATURE_BYTES), .flags = VERIFY_ED25519_ONLY };

        return verify_message(judgement->demand->keys, &input, judgement->budget, ret_verified);
}

static bool minisig_verify(struct judgement *judgement, const struct minisig *minisig, struct verified *ret_verified)
{
        const struct trust_target *target = judgement->target;
        const uint8_t *signature = minisig->blob + SIGNATURE_OFFSET;
        uint8_t hash[HASH_BYTES], commented[SIGNATURE_BYTES + COMMENT_BYTES_MAX];
        struct verified by_comment;
        char hint[64];

        if (target->content)
                memcpy(hash, target->content->blake2b, sizeof hash);
        else if (crypto_generichash(hash, sizeof hash, target->bytes, target->size_bytes, NULL, 0) != 0)
                return miss(judgement->failure, TRUST_ALGORITHM, "BLAKE2b-512 is not available");
        enum verify_result result = ed25519_verify(judgement, SPAN(hash, sizeof hash), signature, ret_verified);
        if (result == VERIFY_BAD)
                return miss(judgement->failure, TRUST_OTHER_KEY, "the minisign signature of the file is not by %s, or it is of another file",
                        key_hint(judgement->demand->keys, hint));
        if (result == VERIFY_GOOD) {
                memcpy(commented, signature, SIGNATURE_BYTES);
                memcpy(commented + SIGNATURE_BYTES, minisig->comment.bytes, minisig->comment.size_bytes);
                result = ed25519_verify(judgement, SPAN(commented, SIGNATURE_BYTES + minisig->comment.size_bytes), minisig->global, &by_comment);
        }
        if (result == VERIFY_SPENT)
                return miss_spent(judgement);
        return (result == VERIFY_GOOD && by_comment.key == ret_verified->key) ||
                miss(judgement->failure, TRUST_MALFORMED, "the minisign signature of the file is valid, but its trusted comment was changed or is signed by another key; "
                        "sign the file again");
}

bool judge_sidecar_minisig(struct judgement *judgement)
{
        struct span body = SPAN(judgement->evidence->body, judgement->evidence->body_bytes);
        struct verified verified;
        struct minisig minisig;

        if (!format_is_on(judgement, TRUST_MINISIGN))
                return miss_off(judgement, TRUST_MINISIGN);
        const char *problem = minisig_parse(body, &minisig);
        if (problem)
                return miss(judgement->failure, TRUST_MALFORMED, "the minisign signature is malformed: %s", problem);
        if (memcmp(minisig.blob, "Ed", 2) == 0)
                return miss(judgement->failure, TRUST_ALGORITHM, "the minisign signature is of the legacy kind that is not hashed first; sign again without minisign -l");
        if (memcmp(minisig.blob, "ED", 2) != 0)
                return miss(judgement->failure, TRUST_ALGORITHM, "the minisign signature is of an unknown algorithm; only \"ED\" is known");
        if (!trust_keys_have_ed25519(judgement->demand->keys))
                return miss(judgement->failure, TRUST_ALGORITHM, "a minisign signature needs an Ed25519 key; the key given is of another kind");
        return minisig_verify(judgement, &minisig, &verified) && prove_plain(judgement, "minisign", &verified);
}
