/*
 * How it goes: after a good cryptographic check, what the policy asks of a signature: a name, annotations, a log entry. These formats carry none (the legacy bundle may carry
 *              an entry of a log), so that a policy that asks is met by other formats only.
 * How it fails: with the reason of the first thing that lacks.
 * How it ends: the proof holds static texts and a fingerprint; nothing to free.
 */
#include "plain.h"

bool miss_off(struct judgement *judgement, enum trust_format format)
{
        return miss(judgement->failure, TRUST_NOT_ACCEPTED, "found a signature of the format \"%s\", which is switched off; add it to trust.formats or sign in another format",
                trust_format_names[format]);
}

bool miss_spent(struct judgement *judgement)
{
        return miss(judgement->failure, TRUST_LIMIT, "too many signatures to examine; remove those that are no longer needed");
}

static void prove(struct judgement *judgement, const char *format, const struct verified *verified)
{
        judgement->proof->format = format;
        judgement->proof->fingerprint = *trust_keys_get_fingerprint(judgement->demand->keys, verified->key);
        judgement->proof->algorithm = verified->algorithm;
}

bool prove_plain(struct judgement *judgement, const char *format, const struct verified *verified)
{
        if (!policy_check_identity(judgement, NULL) || !policy_check_annotations(judgement, NULL))
                return false;
        if (judgement->policy->rekor_keys)
                return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "a valid signature of the format %s, which has no transparency log entry, and trust.rekor_keys demands one; "
                        "sign with cosign and publish the bundle", format);
        prove(judgement, format, verified);
        return true;
}

bool prove_logged(struct judgement *judgement, const char *format, const struct verified *verified, const char *entry_or_null, const struct logged *logged)
{
        if (!policy_check_identity(judgement, NULL) || !policy_check_annotations(judgement, NULL) || !rekor_check_annotation(judgement, entry_or_null, logged))
                return false;
        prove(judgement, format, verified);
        return true;
}
