/*
 * How it goes: proxies ask the same thing in the same words again and again; a decoded want is found by its listener and the exact bytes of the body, without parsing JSON.
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

/* The listener's address first: two listeners may mean different things by the same words. */
static size_t key_make(const struct api_listener *listener, const char *body, size_t body_bytes, unsigned char ret_key[sizeof(void *) + API_MEMO_BODY_BYTES])
{
        memcpy(ret_key, &listener, sizeof listener);
        memcpy(ret_key + sizeof listener, body, body_bytes);
        return sizeof listener + body_bytes;
}

struct api_memo_entry *api_memo_get(struct api_memo *memo, const struct api_listener *listener, const char *body, size_t body_bytes)
{
        unsigned char key[sizeof(void *) + API_MEMO_BODY_BYTES];
        if (body_bytes > API_MEMO_BODY_BYTES)
                return NULL;
        size_t key_bytes = key_make(listener, body, body_bytes, key);
        return map_get(memo->entries, key, key_bytes);
}

struct api_memo_entry *api_memo_put(struct api_memo *memo, const struct api_listener *listener, const char *body, size_t body_bytes, struct module_want *want)
{
        if (body_bytes > API_MEMO_BODY_BYTES || module_want_has_secret(want))
                return NULL;

        struct api_memo_entry *entry = memory_new(1, sizeof *entry + sizeof(void *) + body_bytes);
        unsigned char key[sizeof(void *) + API_MEMO_BODY_BYTES];
        entry->key_bytes = key_make(listener, body, body_bytes, key);
        memcpy(entry->key, key, entry->key_bytes);
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
