/*
 * How it goes: a plugin asks with the same key text again and again; parsed keys are found by the digest of their text.
 * How it fails: a text that is no acceptable key is refused each time, and never kept.
 * How it ends: the oldest of WANT_KEYS_KEPT gives way; wants hold references of their own.
 */
#include <string.h>
#include <wasmcached/loop.h>
#include "want.h"

enum { WANT_KEYS_KEPT = 64 };

static struct { struct digest text; struct trust_keys *keys; } kept[WANT_KEYS_KEPT];
static size_t next_kept;

bool want_parse_key(const char *text, struct trust_keys **ret_keys, struct error *err)
{
        ON_LOOP();
        struct digest digest;
        size_t length = strlen(text);
        if (length > TRUST_KEY_TEXT_MAX)
                return refuse(err, ERROR_BAD_KEY, "verificationKey: has %zu bytes, at most %d are taken", length, TRUST_KEY_TEXT_MAX);
        digest_sha256(text, length, &digest);
        for (size_t i = 0; i < WANT_KEYS_KEPT; i++)
                if (kept[i].keys && digest_equal(&kept[i].text, &digest)) {
                        *ret_keys = trust_keys_ref(kept[i].keys);
                        return true;
                }
        struct trust_keys *keys;
        if (!trust_keys_parse(text, length, "verificationKey", &keys, err))
                return false;
        trust_keys_unref(&kept[next_kept].keys);
        kept[next_kept].text = digest;
        kept[next_kept].keys = trust_keys_ref(keys);
        next_kept = (next_kept + 1) % WANT_KEYS_KEPT;
        *ret_keys = keys;
        return true;
}
