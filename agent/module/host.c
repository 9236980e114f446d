/*
 * How it goes: pulls that could not reach their host are counted per host, whatever they asked for; from the fifth in a row on nothing more is asked of it for a while, which
 *              doubles each time that the host is still away afterwards. One that answers, with whatever, starts anew; one that answers 429 or 503 is fetch's to wait for.
 * How it fails: a refusal like the last one, at once, with the seconds that are left; other hosts, hits and stale answers are not touched.
 * How it ends: an answer or a refresh forgets at once, time does by and by.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

enum { FAILURES_BEFORE = 5, FIRST_MS = 1000, MOST_MS = 30000, KEEP_MS = 600000, HOSTS_MAX = 1024 };

struct host_state { unsigned failures, openings; int64_t until_ms, forget_ms; struct error err; };

/* Says the failure something about the host, not about what was asked of it or about ourselves? */
static bool is_answer(enum error_code code)
{
        static const enum error_code not[] = { ERROR_BUSY, ERROR_INTERNAL, ERROR_SECRET_MISSING, ERROR_STORE_FULL, ERROR_DENIED, ERROR_TIMEOUT, ERROR_UPSTREAM_UNREACHABLE,
                                                ERROR_SIGNATURE_UNREACHABLE /* of whichever host */ };
        for (size_t i = 0; i < COUNT_OF(not); i++)
                if (code == not[i])
                        return false;
        return true;
}

void host_note(struct modules *modules, const struct module_want *want, const struct error *err_or_null)
{
        struct host_state *state = map_get_text(modules->hosts, want->host);
        int64_t now_ms = clock_get_ms();
        if (want->kind == WANT_FILE)
                return;
        if (!err_or_null || is_answer(err_or_null->code)) {
                if (state)
                        map_remove_text(modules->hosts, want->host);
                return;
        }
        if (err_or_null->code != ERROR_UPSTREAM_UNREACHABLE || modules->setup->options.negative_ms <= 0)
                return;
        if (!state) {
                if (map_get_count(modules->hosts) >= HOSTS_MAX)
                        hosts_clear(modules);
                state = memory_new(1, sizeof *state);
                map_put_text(modules->hosts, want->host, state);
        }
        state->err = *err_or_null;
        state->forget_ms = now_ms + KEEP_MS;
        /* Those that were under way when it was found to be away say nothing new. */
        if (++state->failures < FAILURES_BEFORE || now_ms < state->until_ms)
                return;
        int64_t wait_ms = FIRST_MS;
        for (unsigned i = 0; i < state->openings && wait_ms < MOST_MS; i++)
                wait_ms *= 2;
        state->openings++;
        state->until_ms = now_ms + (wait_ms < MOST_MS ? wait_ms : MOST_MS);
        LOG_WARN("host_away", LOG_TEXT("host", want->host), LOG_NUMBER("failures", state->failures), LOG_NUMBER("wait_ms", state->until_ms - now_ms));
}

bool host_is_away(const struct modules *modules, const struct module_want *want, struct error *ret_err)
{
        const struct host_state *state = map_get_count(modules->hosts) > 0 ? map_get_text(modules->hosts, want->host) : NULL;
        int64_t left_ms = state ? state->until_ms - clock_get_ms() : 0;
        if (left_ms <= 0)
                return false;
        *ret_err = state->err;
        refuse_within(ret_err, "%s: %s did not answer %u times in a row and is left alone for now; the last time", want->name, want->host, state->failures);
        ret_err->retry_after_s = (unsigned)((left_ms + 999) / 1000);
        return true;
}

/* What is here but for its signatures is judged by what is stored, which needs no host; nobody may have done that since the start. */
static bool may_do_without(const struct modules *modules, const struct hit *hit)
{
        bool may_be_stale = hit->result == HIT_REVALIDATE && modules->setup->options.stale_if_error_ms > 0 && hit->demands && !hit->verdict;
        return hit->result == HIT_UNVERIFIED || may_be_stale;
}

bool host_refuses(struct modules *modules, const struct ask *ask, const struct hit *hit, struct error *ret_err)
{
        if (ask->is_internal || may_do_without(modules, hit) || !host_is_away(modules, ask->want, ret_err))
                return false;
        size_t key_bytes;
        CLEANUP(cleanup_free) char *key = flight_format_key(ask, hit, &key_bytes);
        return !map_get(modules->flights, key, key_bytes);         /* under way already */
}

unsigned host_limits(const struct modules *modules, const struct module_want *want, char ret_text[HOST_LIMITS_BYTES])
{
        int status = 0;
        if (want->kind == WANT_FILE)
                return 0;
        CLEANUP(cleanup_free) char *url = want->kind == WANT_OCI ? registry_format_endpoint(modules->setup->fetch, want->reference.host) : string_copy(want->name);
        int64_t left_ms = fetch_client_get_wait_ms(modules->setup->fetch, url, &status);
        if (left_ms <= 0)
                return 0;
        unsigned left_s = (unsigned)((left_ms + 999) / 1000);
        snprintf(ret_text, HOST_LIMITS_BYTES, "%.300s answered %d: requests to it wait %u s more, then go one after another", want->host, status, left_s);
        return left_s;
}

void hosts_clear(struct modules *modules)
{
        map_free(&modules->hosts);
        modules->hosts = map_new(free);
}

void hosts_sweep(struct modules *modules, int64_t now_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->hosts, &position, &key, &key_bytes, &value))
                if (((struct host_state *)value)->forget_ms < now_ms)
                        map_remove(modules->hosts, key, key_bytes);
}
