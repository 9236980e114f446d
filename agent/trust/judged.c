/*
 * How it goes: the last lines that every judge of a signature over bytes has in common: what a bad check means, and what a good one leaves in the proof.
 * How it fails: by key, by budget; nothing of the signature object is believed for the sentence, its hints are only shown.
 * How it ends: the proof owns its annotations (trust_proof_fini).
 */
#include "signed.h"

bool judged_bad(struct judgement *judgement, enum verify_result result, const char *beside)
{
        char keys[64];

        if (result == VERIFY_SPENT)
                return miss_spent(judgement);
        return miss(judgement->failure, TRUST_OTHER_KEY, "signature is not by %s%s", key_hint(judgement->demand->keys, keys), beside);
}

void judged_good(struct judgement *judgement, const char *format, const struct verified *verified, const struct value *annotations)
{
        struct trust_proof *proof = judgement->proof;

        proof->format = format;
        proof->fingerprint = *trust_keys_get_fingerprint(judgement->demand->keys, verified->key);
        proof->algorithm = verified->algorithm;
        if (value_get_kind(annotations) == VALUE_MAP && value_get_count(annotations) > 0) {
                struct buffer text = { 0 };
                struct json_writer writer = { .out = &text };

                json_put_value(&writer, NULL, annotations);
                proof->annotations = buffer_take(&text);
        }
}
