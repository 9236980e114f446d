/*
 * How it goes: sums are counted where things happen; what can be looked up is looked up when asked for.
 * How it fails: it cannot.
 * How it ends: plain values, copied out.
 */
#include "modules.h"

const char *const module_stage_names[MODULE_STAGES] = { "login", "resolve", "manifest", "download", "unpack", "commit" };
const double module_bucket_seconds[MODULE_BUCKETS] = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 30, 120 };

const char *module_source_name(enum module_source source)
{
        static const char *const names[] = { [MODULE_SOURCE_CACHE] = "cache", [MODULE_SOURCE_REVALIDATED] = "revalidated", [MODULE_SOURCE_PULLED] = "pulled" };
        return names[source];
}

void stage_count(struct modules *modules, const struct pull *pull)
{
        for (size_t stage = 0; stage < MODULE_STAGES; stage++) {
                if (pull->stage_us[stage] <= 0)
                        continue;
                size_t bucket = 0;
                while (bucket < MODULE_BUCKETS && (double)pull->stage_us[stage] > module_bucket_seconds[bucket] * 1e6)
                        bucket++;
                modules->stats.stages[stage].buckets[bucket]++;
                modules->stats.stages[stage].sum_us += (uint64_t)pull->stage_us[stage];
                modules->stats.stages[stage].count++;
        }
}

static unsigned count_queued(const struct modules *modules)
{
        unsigned count = 0;
        for (const struct flight *flight = modules->queue; flight; flight = flight->next)
                count += flight->state == FLIGHT_QUEUED;
        return count;
}

void module_get_stats(const struct modules *modules, struct module_stats *ret_stats)
{
        ON_LOOP();
        *ret_stats = modules->stats;
        ret_stats->store_bytes = evict_get_used(modules);
        ret_stats->store_budget_bytes = modules->setup->options.max_size_bytes;
        ret_stats->modules = map_get_count(modules->catalog.entries);
        ret_stats->leases = map_get_count(modules->catalog.leases);
        ret_stats->references = map_get_count(modules->catalog.references);
        ret_stats->grants = modules->catalog.grants;
        ret_stats->pins = modules->catalog.pins;
        ret_stats->is_loading = !module_is_whole(modules);
        ret_stats->flights = modules->flight_count;
        ret_stats->flights_queued = count_queued(modules);
        ret_stats->waiters = modules->waiter_count;
        ret_stats->refusals = (unsigned)map_get_count(modules->refusals);
        ret_stats->store_health = (int)store_get_health(modules->store);
}
