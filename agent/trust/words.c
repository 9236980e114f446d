/*
 * How it goes: one table of names; sentences are printed once, where the miss is found, and the nearest of several is kept.
 * How it fails: it does not; what is too long is cut.
 * How it ends: nothing is owned.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <wasmcached/base.h>
#include "key.h"

const char *const trust_reason_names[TRUST_REASONS] = {
        [TRUST_OTHER_DIGEST] = "sig_other_digest", [TRUST_WRONG_TYPE] = "sig_wrong_type", [TRUST_IDENTITY] = "sig_identity", [TRUST_ANNOTATION] = "sig_annotation",
        [TRUST_NO_LOG_ENTRY] = "sig_no_log_entry", [TRUST_TRUNCATED_MODULE] = "sig_truncated_module", [TRUST_ALGORITHM] = "sig_alg", [TRUST_OTHER_KEY] = "sig_other_key",
        [TRUST_MALFORMED] = "sig_malformed", [TRUST_KEYLESS] = "sig_keyless", [TRUST_NOT_ACCEPTED] = "sig_not_accepted", [TRUST_LIMIT] = "sig_limit", [TRUST_ABSENT] = "sig_absent",
        [TRUST_UNREACHABLE] = "sig_unreachable",
};

bool miss(struct trust_failure *ret_failure, enum trust_reason reason, const char *format, ...)
{
        va_list arguments;
        *ret_failure = (struct trust_failure){ .reason = reason };
        va_start(arguments, format);
        vsnprintf(ret_failure->text, sizeof ret_failure->text, format, arguments);
        va_end(arguments);
        return false;
}

void trust_failure_note(struct trust_failure *best, const struct trust_failure *other)
{
        unsigned others = best->others + other->others + (best->reason != TRUST_REASONS && other->reason != TRUST_REASONS);
        if (other->reason < best->reason)
                *best = *other;
        best->others = others;
}

const char *key_hint(const struct trust_keys *keys, char ret_text[64])
{
        enum { SHOWN = 2, DIGITS = 16 };
        char hex[SHOWN][DIGITS + 1] = { "", "" };
        for (size_t i = 0; i < SHOWN && i < keys->count; i++)
                hex_format(keys->keys[i]->fingerprint.bytes, DIGITS / 2, hex[i]);
        if (keys->count == 1)
                snprintf(ret_text, 64, "key %s", hex[0]);
        else if (keys->count == SHOWN)
                snprintf(ret_text, 64, "keys %s, %s", hex[0], hex[1]);
        else
                snprintf(ret_text, 64, "keys %s, %s and %u more", hex[0], hex[1], (unsigned)(keys->count - SHOWN) % 100);
        return ret_text;
}
