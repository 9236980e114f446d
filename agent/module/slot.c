/*
 * How it goes: what makes two requests the same flight (its key), and how many flights may run at once, all together and per host, so that one slow registry
 *              cannot take every worker.
 * How it fails: without a free slot a flight waits in the queue.
 * How it ends: a slot goes back with its flight.
 */
#include <string.h>
#include "modules.h"

/* ---- key ---- */

char *flight_format_key(const struct ask *ask, const struct hit *hit, size_t *ret_bytes)
{
        const struct module_want *want = ask->want;
        char pin[DIGEST_TEXT_BYTES] = "", who[DIGEST_TEXT_BYTES] = "", proof[DIGEST_TEXT_BYTES] = "";
        bool asks_always = want->policy == MODULE_POLICY_ALWAYS;
        if (digest_is_set(&want->pin))
                digest_format(&want->pin, pin);
        if (ask->principal && ask->principal->count > 0)
                digest_format_hex(&ask->principal->fingerprint, who);

        if (hit->demands)
                digest_format_hex(&hit->demands->id, proof);

        char *key = string_format("%s\n%s\n%s\n%s\n%s\n%s\n%s\n%s", want->name, pin, who, proof, hit->result == HIT_REVALIDATE ? "ask" : "get",
                                  asks_always && want->resource_name ? ask->namespace : "", asks_always && want->resource_name ? want->resource_name : "",
                                  asks_always && want->resource_name ? want->resource_version : "");
        *ret_bytes = strlen(key);
        return key;
}

/* ---- slots ---- */

static unsigned host_slots(const struct modules *modules, const char *host)
{
        return (unsigned)(uintptr_t)map_get_text(modules->host_slots, host);
}

static void host_slots_set(struct modules *modules, const char *host, unsigned count)
{
        if (count == 0)
                map_remove_text(modules->host_slots, host);
        else
                map_put_text(modules->host_slots, host, (void *)(uintptr_t)count);
}

bool slot_take(struct flight *flight)
{
        struct modules *modules = flight->modules;
        const struct modules_options *options = &modules->setup->options;
        unsigned of_host = host_slots(modules, flight->pull.want->host);
        if (modules->slots_taken >= options->slots || of_host >= options->slots_per_host)
                return false;
        modules->slots_taken++;
        host_slots_set(modules, flight->pull.want->host, of_host + 1);
        flight->holds_slot = true;
        return true;
}

void slot_give_back(struct flight *flight)
{
        if (!flight->holds_slot)
                return;
        flight->modules->slots_taken--;
        host_slots_set(flight->modules, flight->pull.want->host, host_slots(flight->modules, flight->pull.want->host) - 1);
        flight->holds_slot = false;
}

/* ---- progress ---- */

void flights_progress(struct modules *modules)
{
        for (struct flight *flight = modules->queue; flight; flight = flight->next) {
                uint64_t received = atomic_load_explicit(&flight->pull.received, memory_order_relaxed);
                if (received == flight->told_bytes)
                        continue;
                flight->told_bytes = received;
                event_tell(modules, "progress", &(struct module_event){ .url = flight->pull.want->name, .namespace = flight->namespace, .bytes = received,
                           .total = atomic_load_explicit(&flight->pull.total, memory_order_relaxed) });
        }
}
