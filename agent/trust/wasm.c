/*
 * How it goes: signature data lists hashes of the module, rolling: one at the end of each part; an Ed25519 signature is over the list. A set of hashes counts when its last one is
 *              that of the whole module and it is alone or there is one for each part (6.4). One pass of SHA-256 over the module gives them all.
 * How it fails: sets that could prove are tried first; a good signature of a set that does not fit names what was done to the module; all else is another key.
 *               What other verifiers take and this one does not: a module cut at a delimiter, one that was added to, a signature moved here, another header, a second section.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "plain.h"
#include "wasm.h"

struct parts { size_t count; struct digest hashes[WASM_PARTS_MAX], whole; };
enum fit { FIT_WHOLE, FIT_CUT /* the hashes are those of our parts, and more */, FIT_PARTIAL /* those of the first parts only */, FIT_OTHER };

/* `from` is behind the header, or behind the signature section. */
static void parts_hash(struct span module, size_t from, const struct wasm_layout *layout, struct parts *ret_parts)
{
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        const uint8_t *bytes = module.bytes;
        size_t at = from;

        ret_parts->count = layout->part_count;
        for (size_t i = 0; i < layout->part_count && i < WASM_PARTS_MAX; i++) {
                hasher_update(hasher, bytes + at, layout->part_ends[i] - at);
                at = layout->part_ends[i];
                hasher_peek(hasher, &ret_parts->hashes[i]);
        }
        hasher_update(hasher, bytes + at, module.size_bytes - at);
        hasher_finish(hasher, &ret_parts->whole);
}

static enum fit set_fit(const struct wasm_set *set, const struct parts *parts)
{
        size_t common = set->hash_count < parts->count ? set->hash_count : parts->count, equal = 0;

        while (equal < common && memcmp(set->hashes + equal * WASM_HASH_BYTES, parts->hashes[equal].bytes, WASM_HASH_BYTES) == 0)
                equal++;
        bool ends_whole = memcmp(set->hashes + (set->hash_count - 1) * WASM_HASH_BYTES, parts->whole.bytes, WASM_HASH_BYTES) == 0;
        if (ends_whole && (set->hash_count == 1 || (set->hash_count == parts->count && equal == parts->count)))
                return FIT_WHOLE;
        return equal < common ? ends_whole ? FIT_PARTIAL : FIT_OTHER : set->hash_count > parts->count ? FIT_CUT : FIT_PARTIAL;
}

/* The list is at most 64 hashes, so that the message fits on the stack. */
static enum verify_result set_verify(struct judgement *judgement, const struct wasm_data *data, const struct wasm_set *set, struct verified *ret_verified)
{
        static const char domain[] = "wasmsig\1\1\1";
        uint8_t message[sizeof domain - 1 + WASM_PARTS_MAX * WASM_HASH_BYTES];
        size_t list_bytes = set->hash_count * WASM_HASH_BYTES;
        struct reader signatures = set->signatures;
        enum verify_result result = VERIFY_BAD;

        memcpy(message, domain, sizeof domain - 1);
        memcpy(message + sizeof domain - 1, set->hashes, list_bytes);
        struct verify_input input = { .message = SPAN(message, sizeof domain - 1 + list_bytes), .flags = VERIFY_ED25519_ONLY };
        for (size_t i = 0; i < set->signature_count && result == VERIFY_BAD; i++) {
                input.signature = wasm_data_next(data, &signatures);
                result = verify_message(judgement->demand->keys, &input, judgement->budget, ret_verified);
        }
        return result;
}

static bool miss_fit(struct judgement *judgement, enum fit fit, const struct wasm_set *set, size_t part_count)
{
        char hint[64];
        const char *key = key_hint(judgement->demand->keys, hint);

        if (fit == FIT_CUT)
                return miss(judgement->failure, TRUST_TRUNCATED_MODULE, "valid wasm signature by %s, but it lists %zu parts and the module has %zu: its end was cut off; "
                        "publish the whole module again", key, set->hash_count, part_count);
        if (fit == FIT_PARTIAL)
                return miss(judgement->failure, TRUST_OTHER_DIGEST, "valid wasm signature by %s, but it lists %zu of %zu parts of the module; "
                        "the rest could be anybody's: sign the whole module", key, set->hash_count, part_count);
        return miss(judgement->failure, TRUST_OTHER_DIGEST, "valid wasm signature by %s, but for other content: the module was changed after it was signed, "
                "or the signature is that of another module; sign this one", key);
}

struct found { const struct wasm_set *set; enum fit fit; struct verified verified; };

/* The first set that fits and verifies; of those that do not fit, the nearest that verifies. */
static enum verify_result sets_verify(struct judgement *judgement, const struct wasm_data *data, const struct parts *parts, bool fitting, struct found *found)
{
        for (size_t i = 0; i < data->count && !(fitting && found->set); i++) {
                struct found one = { .set = &data->sets[i], .fit = set_fit(&data->sets[i], parts) };

                if ((one.fit == FIT_WHOLE) != fitting || (found->set && found->fit <= one.fit))
                        continue;
                enum verify_result result = set_verify(judgement, data, one.set, &one.verified);
                if (result == VERIFY_SPENT)
                        return VERIFY_SPENT;
                if (result == VERIFY_GOOD)
                        *found = one;
        }
        return found->set ? VERIFY_GOOD : VERIFY_BAD;
}

/* Sets that fit are tried first: the others only make the sentence better, and must not use up the budget before. */
static bool data_judge(struct judgement *judgement, const struct wasm_data *data, const struct parts *parts, const char *format)
{
        struct found found = { 0 };
        char hint[64];

        switch (sets_verify(judgement, data, parts, true, &found)) {
        case VERIFY_GOOD:
                return prove_plain(judgement, format, &found.verified);
        case VERIFY_SPENT:
                return miss_spent(judgement);
        case VERIFY_BAD:
                break;
        }
        sets_verify(judgement, data, parts, false, &found);
        if (found.set)
                return miss_fit(judgement, found.fit, found.set, parts->count);
        return miss(judgement->failure, TRUST_OTHER_KEY, "found %zu set%s of wasm signatures, none by %s; sign with that key, or ask for the key that signed",
                data->count, data->count == 1 ? "" : "s", key_hint(judgement->demand->keys, hint));
}

static bool data_take(struct judgement *judgement, struct span bytes, const char *what, struct wasm_data *ret_data)
{
        struct wasm_problem problem;

        if (!wasm_data_parse(bytes, ret_data, &problem))
                return miss(judgement->failure, problem.reason, "%s cannot be used: %s", what, problem.text);
        if (!trust_keys_have_ed25519(judgement->demand->keys))
                return miss(judgement->failure, TRUST_ALGORITHM, "found %s, and embedded and detached wasm signatures need an Ed25519 key; the key given is of another kind", what);
        return true;
}

static bool section_judge(struct judgement *judgement, struct span module, const struct wasm_layout *layout)
{
        struct wasm_data data;
        struct parts parts;

        if (!format_is_on(judgement, TRUST_EMBEDDED))
                return miss_off(judgement, TRUST_EMBEDDED);
        if (layout->signature_count > 1)
                return miss(judgement->failure, TRUST_MALFORMED, "the module has %zu sections named signature, and verifiers disagree which one counts; "
                        "sign the unsigned module again", layout->signature_count);
        if (layout->signature.start != WASM_HEADER_BYTES)
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "unknown wasm signature format: a section named signature that is not the first one; sign with wasmsign2");
        if (!data_take(judgement, layout->signature.payload, "its section named signature", &data))
                return false;
        parts_hash(module, layout->signature.end, layout, &parts);
        return data_judge(judgement, &data, &parts, "wasm-embedded");
}

bool judge_embedded(struct judgement *judgement)
{
        struct trust_failure of_section = TRUST_FAILURE_NONE;
        struct wasm_layout layout;
        struct span module;

        if (!wasm_take(judgement, "an embedded signature", &module, &layout))
                return false;
        if (layout.signature_count == 0 && layout.wasmsign1_count == 0)
                return miss(judgement->failure, TRUST_ABSENT, "the module has no embedded signature (no section named signature)");
        if (layout.signature_count > 0) {
                if (section_judge(judgement, module, &layout))
                        return true;
                of_section = *judgement->failure;
        }
        if (layout.wasmsign1_count > 0 && judge_wasmsign1(judgement, module, &layout))
                return true;
        if (layout.wasmsign1_count > 0)
                trust_failure_note(judgement->failure, &of_section);
        return false;
}

bool judge_detached(struct judgement *judgement, struct span bytes)
{
        struct wasm_layout layout;
        struct wasm_data data;
        struct span module;
        struct parts parts;

        if (!format_is_on(judgement, TRUST_DETACHED))
                return miss_off(judgement, TRUST_DETACHED);
        if (!data_take(judgement, bytes, "a detached wasm signature", &data) || !wasm_take(judgement, "a detached wasm signature", &module, &layout))
                return false;
        if (layout.signature_count > 0)
                return miss(judgement->failure, TRUST_MALFORMED, "a detached wasm signature is of a module without a section named signature, and this module has one; "
                        "publish the one or the other");
        parts_hash(module, WASM_HEADER_BYTES, &layout, &parts);
        return data_judge(judgement, &data, &parts, "wasm-detached");
}
