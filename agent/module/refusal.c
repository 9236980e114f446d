/*
 * How it goes: what a source refused is remembered under the flight's key (name and credential), so that a changed secret or another tenant is not bound by it. Kinds that only
 *              change when somebody changes something are kept for negative_time, doubling up to five minutes; passing ones for a second at most, or as long as the peer asked.
 * How it fails: what concerns one caller alone is never remembered; at the limit of entries all are forgotten.
 * How it ends: success or refresh forgets at once, time does by and by.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"

void refusal_free(void *value)
{
        struct refusal *refusal = value;
        free(refusal->name);
        free(refusal);
}

/* These say something about one caller, one moment or ourselves, not about the source. */
static bool is_remembered(enum error_code code)
{
        static const enum error_code not[] = { ERROR_BUSY, ERROR_INTERNAL, ERROR_SECRET_MISSING, ERROR_STORE_FULL, ERROR_DENIED, ERROR_BAD_REQUEST };
        for (size_t i = 0; i < COUNT_OF(not); i++)
                if (code == not[i])
                        return false;
        return true;
}

int64_t refusal_get_keep_ms(const struct error *err, int64_t negative_ms, unsigned failures)
{
        bool is_passing = error_get_row(err->code)->retry == ERROR_RETRY_LATER;
        if (err->retry_after_s > 0 && is_passing)
                return err->retry_after_s > REFUSAL_MAX_MS / 1000 ? REFUSAL_MAX_MS : (int64_t)err->retry_after_s * 1000;
        if (is_passing)
                return negative_ms < REFUSAL_TRANSIENT_MS * 10 ? negative_ms / 10 : REFUSAL_TRANSIENT_MS;

        int64_t keep_ms = negative_ms;
        for (unsigned i = 1; i < failures && keep_ms < REFUSAL_MAX_MS; i++)
                keep_ms *= 2;
        bool is_signature = err->code == ERROR_SIGNATURE_MISSING || err->code == ERROR_SIGNATURE_INVALID;
        int64_t limit_ms = is_signature ? REFUSAL_SIGNATURE_MAX_MS : REFUSAL_MAX_MS;      /* [sig] 9.2.3 */
        return keep_ms < limit_ms ? keep_ms : limit_ms;
}

void refusal_add(struct modules *modules, const char *key, size_t key_bytes, const char *name, const struct error *err)
{
        int64_t negative_ms = modules->setup->options.negative_ms, now_ms = clock_get_ms();
        if (negative_ms <= 0 || !is_remembered(err->code))
                return;

        struct refusal *refusal = map_get(modules->refusals, key, key_bytes);
        if (!refusal) {
                if (map_get_count(modules->refusals) >= REFUSALS_MAX)
                        refusals_clear(modules, NULL);
                refusal = memory_new(1, sizeof *refusal);
                refusal->name = string_copy(name);
                map_put(modules->refusals, key, key_bytes, refusal);
        }
        refusal->err = *err;
        refusal->failures++;
        refusal->until_ms = now_ms + refusal_get_keep_ms(err, negative_ms, refusal->failures);
        refusal->forget_ms = refusal->until_ms + 2 * REFUSAL_MAX_MS;
}

void refusal_forget(struct modules *modules, const char *key, size_t key_bytes)
{
        map_remove(modules->refusals, key, key_bytes);
}

struct refusal *refusal_find(struct modules *modules, const struct ask *ask, const struct hit *hit)
{
        if (map_get_count(modules->refusals) == 0 || ask->is_internal)
                return NULL;

        size_t key_bytes;
        CLEANUP(cleanup_free) char *key = flight_format_key(ask, hit, &key_bytes);
        struct refusal *refusal = map_get(modules->refusals, key, key_bytes);
        return refusal && refusal->until_ms > clock_get_ms() ? refusal : NULL;
}

struct error refusal_get_error(const struct refusal *refusal)
{
        struct error err = refusal->err;
        int64_t left_ms = refusal->until_ms - clock_get_ms();
        err.retry_after_s = left_ms > 0 ? (unsigned)((left_ms + 999) / 1000) : 1;
        return err;
}

void refusals_clear(struct modules *modules, const char *name_or_null)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->refusals, &position, &key, &key_bytes, &value)) {
                struct refusal *refusal = value;
                if (!name_or_null || strcmp(refusal->name, name_or_null) == 0)
                        map_remove(modules->refusals, key, key_bytes);
        }
}

void module_forget_refusals(struct modules *modules, const struct module_want *want)
{
        ON_LOOP();
        refusals_clear(modules, want->name);
}

void refusals_sweep(struct modules *modules, int64_t now_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->refusals, &position, &key, &key_bytes, &value)) {
                struct refusal *refusal = value;
                if (refusal->forget_ms < now_ms)
                        map_remove(modules->refusals, key, key_bytes);
        }
}

void flight_tell_refused(struct flight *flight, const struct error *err)
{
        const struct module_want *want = flight->pull.want;
        char digest[DIGEST_TEXT_BYTES] = "";
        if (digest_is_set(&flight->pull.manifest_digest))
                digest_format(&flight->pull.manifest_digest, digest);
        flight->modules->stats.pulls_failed++;
        LOG_WARN("refused", LOG_TEXT("url", want->name), LOG_TEXT("namespace", flight->namespace), LOG_TEXT("code", error_get_row(err->code)->name),
                LOG_TEXT("detail", err->text));
        event_tell(flight->modules, "refused", &(struct module_event){ .url = want->name, .namespace = flight->namespace, .digest = *digest ? digest : NULL,
                   .code = error_get_row(err->code)->name, .detail = err->text });
}
