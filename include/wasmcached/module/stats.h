/* stats: numbers for /metrics and status. Part of the door module.h; loop only. */
#pragma once
#include <stdint.h>
#include <wasmcached/base.h>

struct modules;

enum { MODULE_STAGES = 6, MODULE_BUCKETS = 12, MODULE_PROOFS = 10, MODULE_PROOF_REASONS = 15 };                   /* stages: login resolve manifest download unpack commit */
struct module_stats {
        uint64_t hits, misses, revalidations, stale_served, answers_by_code[ERROR_CODES];
        uint64_t verifications[MODULE_PROOFS][MODULE_PROOF_REASONS];        /* by module_proof_names and module_reason_name(); reason 0 = verified */
        uint64_t identity_mismatches;     /* verified, but signed for another repository; only a rule of the node looks at that */
        uint64_t pulls_started, pulls_done, pulls_failed, pulls_joined, bytes_downloaded, bytes_unpacked, evicted, evicted_bytes, quarantined, scrubbed_bytes, secret_errors;
        struct { uint64_t buckets[MODULE_BUCKETS + 1]; uint64_t sum_us, count; } stages[MODULE_STAGES];
        uint64_t store_bytes, store_budget_bytes; size_t modules, leases, pins, grants, references;
        bool is_loading;                  /* store_bytes and the five counts are not known yet */
        unsigned flights, flights_queued, waiters, refusals; int store_health;
};
extern const char *const module_stage_names[MODULE_STAGES], *const module_proof_names[MODULE_PROOFS];
const char *module_reason_name(size_t reason);                     /* "" for 0, then those of the room trust, which begin its sentences too */
extern const double module_bucket_seconds[MODULE_BUCKETS];         /* upper bounds */
void module_get_stats(const struct modules *modules, struct module_stats *ret_stats);
