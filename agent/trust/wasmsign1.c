/*
 * How it goes: the last 89 bytes of the module are a section named "signature_wasmsign" with an Ed25519 signature; the message is a SHA-512 over a domain and all bytes
 *              before them, the header too (jedisct1/wasmsign --use-custom-section).
 * How it fails: off unless the policy switches it on; a section elsewhere, a second one or other sizes are malformed.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "plain.h"
#include "wasm.h"

enum { SECTION_BYTES = 89, HEAD_BYTES = 25 };

bool judge_wasmsign1(struct judgement *judgement, struct span module, const struct wasm_layout *layout)
{
        static const char head[HEAD_BYTES + 1] = "\0\x57\x12" "signature_wasmsign" "\2\0\0\0", domain[] = "WasmSignature\0\0\0\0" /* and the length of no additional data */;
        const struct wasm_section *section = &layout->wasmsign1;
        const uint8_t *bytes = module.bytes;
        struct verified verified;
        struct digest message;
        char hint[64];

        if (!format_is_on(judgement, TRUST_WASMSIGN1))
                return miss_off(judgement, TRUST_WASMSIGN1);
        if (layout->wasmsign1_count > 1 || section->end != module.size_bytes || section->end - section->start != SECTION_BYTES ||
            memcmp(bytes + section->start, head, HEAD_BYTES) != 0)
                return miss(judgement->failure, TRUST_MALFORMED, "the section signature_wasmsign of the module is not one Ed25519 signature of 64 bytes at its end; "
                        "sign again with wasmsign2");
        if (!trust_keys_have_ed25519(judgement->demand->keys))
                return miss(judgement->failure, TRUST_ALGORITHM, "found a wasmsign v1 signature, and embedded signatures need an Ed25519 key; the key given is of another kind");

        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA512);
        hasher_update(hasher, domain, sizeof domain - 1);
        hasher_update(hasher, bytes, section->start);
        hasher_finish(hasher, &message);
        struct verify_input input = { .message = SPAN(message.bytes, DIGEST_BYTES_MAX), .signature = SPAN(bytes + section->start + HEAD_BYTES, WASM_SIGNATURE_BYTES),
                .flags = VERIFY_ED25519_ONLY };
        enum verify_result result = verify_message(judgement->demand->keys, &input, judgement->budget, &verified);
        if (result == VERIFY_SPENT)
                return miss_spent(judgement);
        if (result != VERIFY_GOOD)
                return miss(judgement->failure, TRUST_OTHER_KEY, "the wasmsign v1 signature is not by %s, or the module was changed after it was signed",
                        key_hint(judgement->demand->keys, hint));
        return prove_plain(judgement, "wasmsign1", &verified);
}
