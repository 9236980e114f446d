/*
 * How it goes: what was promised of a module whose file was found damaged or gone is kept: its leases and its pin. Once its bytes have been brought again, whoever asked for them,
 *              the same ids hold again, and each namespace gets its link back, one after the other.
 * How it fails: bytes that nobody brings leave the promises to their end; a link that cannot be made ends those of its namespace. Too many are not kept: the disk is broken then.
 * How it ends: a lease with its time, a pin with the process.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"

enum { PROMISES_MAX = 4096 };

struct promised_lease { char id[STORE_LEASE_ID_BYTES], namespace[STORE_NAMESPACE_BYTES]; uint64_t holder; int64_t expires_ms, expires_s; };
struct promise { struct buffer leases; int64_t until_ms; bool is_pinned; };

void promise_free(void *value)
{
        struct promise *promise = value;
        buffer_fini(&promise->leases);
        free(promise);
}

static void promise_add(struct promise *promise, const struct lease *lease)
{
        struct promised_lease kept = { .holder = lease->holder, .expires_ms = lease->expires_ms, .expires_s = lease->expires_s };
        memcpy(kept.id, lease->id, sizeof kept.id);
        memcpy(kept.namespace, lease->handout->namespace, sizeof kept.namespace);
        buffer_append(&promise->leases, &kept, sizeof kept);
        if (lease->expires_ms > promise->until_ms)
                promise->until_ms = lease->expires_ms;
}

void promises_keep(struct modules *modules, const struct entry *entry)
{
        struct promise *promise = memory_new(1, sizeof *promise);
        promise->is_pinned = entry->is_pinned;
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next)
                for (const struct lease *lease = handout->leases; lease; lease = lease->next)
                        promise_add(promise, lease);
        if ((promise->is_pinned || promise->leases.used > 0) && map_get_count(modules->promises) < PROMISES_MAX)
                map_put(modules->promises, entry->sha256.bytes, DIGEST_SHA256_BYTES, promise);
        else
                promise_free(promise);
}

static void pinned(void *arg, const char *json, const struct error *err)
{
        (void)arg;
        (void)json;
        if (err)
                LOG_WARN("pin_lost", LOG_TEXT("detail", err->text));
}

void promises_return(struct modules *modules, struct entry *entry)
{
        struct promise *promise = map_take(modules->promises, entry->sha256.bytes, DIGEST_SHA256_BYTES);
        if (!promise)
                return;
        for (size_t at = 0; at < promise->leases.used; at += sizeof(struct promised_lease)) {
                struct promised_lease kept;
                memcpy(&kept, promise->leases.data + at, sizeof kept);
                if (kept.expires_ms <= clock_get_ms() || catalog_find_lease_id(&modules->catalog, kept.id))
                        continue;
                struct lease *lease = catalog_put_lease(&modules->catalog, entry, kept.namespace, kept.id, kept.holder);
                lease->expires_ms = kept.expires_ms;
                lease->expires_s = kept.expires_s;
                lease_note_dirty(modules, lease);
        }
        if (promise->is_pinned)
                module_pin(modules, &entry->sha256, true, pinned, NULL);
        promise_free(promise);
        promises_link(modules, entry);
}

void promises_link(struct modules *modules, struct entry *entry)
{
        for (struct handout *handout = entry->handouts; handout && !entry->is_busy && !modules->is_closing; handout = handout->next)
                if (handout->namespace[0] && handout->lease_count > 0 && !handout->is_linked)
                        handout_link(modules, handout, handout->leases);
}

void promises_sweep(struct modules *modules, int64_t now_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->promises, &position, &key, &key_bytes, &value)) {
                struct promise *promise = value;
                if (!promise->is_pinned && promise->until_ms <= now_ms)
                        map_remove(modules->promises, key, key_bytes);
        }
}
