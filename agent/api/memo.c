/*
 * How it goes: proxies ask the same thing in the same words again and again; a decoded want is found by its listener, its caller's namespace and the exact
 *              bytes of the body, without parsing JSON.
 * How it fails: what is long or carries a secret is not kept, and is decoded each time.
 * How it ends: at most API_MEMO_ENTRIES; the oldest gives way. Wants are immutable, so an entry never goes stale.
 */
#include <stdlib.h>
#include <string.h>
#include "front.h"

struct api_memo { struct map *entries; struct api_memo_entry *ring[API_MEMO_ENTRIES]; size_t next; };

static void entry_free(void *value)
{
        struct api_memo_entry *entry = value;
        module_want_unref(&entry->want);
        buffer_fini(&entry->rendered);
        free(entry->path);
        free(entry->url);
        free(entry->digest);
        free(entry->verified_format);
        free(entry->verified_key);
        free(entry->sha256);
        free(entry);
}

struct api_memo *api_memo_new(void)
{
        struct api_memo *memo = memory_new(1, sizeof *memo);
        memo->entries = map_new(entry_free);
        return memo;
}

void api_memo_free(struct api_memo **memo)
{
        struct api_memo *old = TAKE(*memo);
        if (!old)
                return;
        map_free(&old->entries);
        free(old);
}

enum { KEY_BYTES_MAX = sizeof(void *) + 64 + API_MEMO_BODY_BYTES };

/* The listener's address and the caller's namespace first: the same words may mean something else, or be denied, elsewhere. */
static size_t key_make(const struct api_call *call, const char *body, size_t body_bytes, unsigned char ret_key[KEY_BYTES_MAX])
{
        const char *namespace = call->caller.namespace ? call->caller.namespace : "";
        size_t namespace_bytes = strnlen(namespace, 63) + 1, used = sizeof call->listener;
        memcpy(ret_key, &call->listener, used);
        memcpy(ret_key + used, namespace, namespace_bytes);
        ret_key[used + namespace_bytes - 1] = '\0';
        used += namespace_bytes;
        if (body_bytes > 0)
                memcpy(ret_key + used, body, body_bytes);
        return used + body_bytes;
}

struct api_memo_entry *api_memo_get(const struct api_call *call, const char *body, size_t body_bytes)
{
        UNCLEARED unsigned char key[KEY_BYTES_MAX];
        if (body_bytes > API_MEMO_BODY_BYTES)
                return NULL;
        return map_get(call->api->memo->entries, key, key_make(call, body, body_bytes, key));
}

struct api_memo_entry *api_memo_put(const struct api_call *call, const char *body, size_t body_bytes, struct module_want *want)
{
        struct api_memo *memo = call->api->memo;
        UNCLEARED unsigned char key[KEY_BYTES_MAX];
        if (body_bytes > API_MEMO_BODY_BYTES || module_want_has_secret(want))
                return NULL;

        size_t key_bytes = key_make(call, body, body_bytes, key);
        struct api_memo_entry *entry = memory_new(1, sizeof *entry + key_bytes);
        entry->key_bytes = key_bytes;
        memcpy(entry->key, key, key_bytes);
        entry->want = module_want_ref(want);

        struct api_memo_entry **slot = &memo->ring[memo->next++ % API_MEMO_ENTRIES];
        if (*slot) {
                struct api_memo_entry *oldest = map_take(memo->entries, (*slot)->key, (*slot)->key_bytes);
                if (oldest)
                        entry_free(oldest);
        }
        *slot = entry;
        map_put(memo->entries, entry->key, entry->key_bytes, entry);
        return entry;
}
