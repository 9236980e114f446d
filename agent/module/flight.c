/*
 * How it goes: requests that need the same thing from the same source with the same credentials share one flight: queued → (slot) resolve on a worker → here already? then
 *              only rows; else room is made → download on a worker → room for the true size → commit → the catalog learns it, all waiters are answered.
 * How it fails: the error goes to every waiter and is remembered for a while; a refused credential loses what it was granted.
 * How it ends: when its last waiter vanished it is cancelled (not when only their own time ran out); flight_end() frees it once no worker has it.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"
#include "prove.h"

static void flight_step(struct flight *flight, enum pull_step step);
static void flight_resolved(struct flight *flight);
static void flight_restart(struct flight *flight);

/* ---- begin ---- */

/* Takes the key. */
static struct flight *flight_new(struct modules *modules, const struct ask *ask, const struct hit *hit, char *key)
{
        struct flight *flight = memory_new(1, sizeof *flight);
        struct pull *pull = &flight->pull;
        flight->modules = modules;
        flight->key = key;
        flight->key_bytes = strlen(key);
        flight->namespace = string_copy(ask->namespace);
        pull->setup = setup_ref(modules->setup);
        pull->store = modules->store;
        pull->want = module_want_ref(ask->want);
        pull->keys = secret_get_keys(modules, ask);
        pull->key = store_get_key(modules->store);
        pull->namespace = string_copy(ask->namespace);
        pull->cancel = cancel_new();
        pull_know(pull, hit);
        pull_know_verdicts(modules, pull, ask, hit);
        map_put(modules->flights, flight->key, flight->key_bytes, flight);

        struct flight **at = &modules->queue;
        while (*at)
                at = &(*at)->next;
        *at = flight;
        modules->flight_count++;
        return flight;
}

/* Whoever has a Secret that cannot be read shares with its own kind: what it may have is known by the Secret's name alone. */
static char *format_key(const struct ask *ask, const struct hit *hit, bool is_unread)
{
        size_t key_bytes;
        CLEANUP(cleanup_free) char *key = flight_format_key(ask, hit, &key_bytes);
        return is_unread ? string_format("%s\nunread\n%s\n%s", key, ask->namespace, ask->want->secret_name) : TAKE(key);
}

void flight_join(struct modules *modules, struct module_waiter *waiter, const struct hit *hit, const struct error *nobody_or_null)
{
        CLEANUP(cleanup_free) char *key = format_key(&waiter->ask, hit, nobody_or_null);
        struct flight *flight = map_get(modules->flights, key, strlen(key));
        bool is_new = !flight;
        if (is_new)
                flight = flight_new(modules, &waiter->ask, hit, TAKE(key));
        if (is_new && nobody_or_null)
                flight->nobody = *nobody_or_null;
        if (!is_new)
                modules->stats.pulls_joined++;
        waiter->flight = flight;
        flight->waiters++;
        waiter_join(waiter, &flight->waiting);
        /* What is stored is judged at once: no slot is needed to ask nobody. */
        if (is_new && hit->result == HIT_UNVERIFIED)
                flight_step(flight, PULL_PROVE);
        else
                flights_start(modules);
}

static void flight_begin(struct flight *flight)
{
        struct modules *modules = flight->modules;
        flight->sequence = ++modules->sequence;
        flight->pull.deadline_ms = modules->setup->options.pull_timeout_ms > 0 ? clock_get_ms() + flight->pull.setup->options.pull_timeout_ms : 0;
        modules->stats.pulls_started++;
        flight_step(flight, flight->pull.want->kind == WANT_OCI ? PULL_RESOLVE : PULL_DOWNLOAD);
}

void flights_start(struct modules *modules)
{
        if (modules->load)
                return;
        for (struct flight *flight = modules->queue; flight && modules->slots_taken < modules->setup->options.slots; flight = flight->next)
                if (flight->state == FLIGHT_QUEUED && slot_take(flight))
                        flight_begin(flight);
}

/* ---- end ---- */

static void flight_forget_key(struct flight *flight)
{
        struct modules *modules = flight->modules;
        if (map_get(modules->flights, flight->key, flight->key_bytes) == flight)
                map_remove(modules->flights, flight->key, flight->key_bytes);
}

static void followers_wake(struct modules *modules, const struct digest *manifest);

static void flight_end(struct flight *flight)
{
        struct modules *modules = flight->modules;
        struct digest manifest = flight->pull.manifest_digest;
        struct flight **at = &modules->queue;
        while (*at != flight)
                at = &(*at)->next;
        *at = flight->next;
        flight_forget_key(flight);
        slot_give_back(flight);
        if (flight->held)
                flight->held->holds--;
        modules->reserved_bytes -= flight->reserved_bytes;
        modules->flight_count--;
        pull_fini(&flight->pull);
        cancel_free(&flight->pull.cancel);
        module_want_unref(&flight->pull.want);
        keys_unref(&flight->pull.keys);
        demands_unref(&flight->pull.demands);
        setup_unref(&flight->pull.setup);
        free(flight->namespace);
        free(flight->key);
        free(flight);
        if (digest_is_set(&manifest))
                followers_wake(modules, &manifest);
        flights_start(modules);
        flights_room_made(modules);
        modules_check_closed(modules);
}

/* The source has refused this secret now: what it was granted before does not count any more. */
static void revoke(struct flight *flight)
{
        struct modules *modules = flight->modules;
        const struct module_want *want = flight->pull.want;
        const char *coordinate = pull_get_coordinate(&flight->pull);
        struct image *image = catalog_find_image(&modules->catalog, &flight->pull.known_manifest);
        if (image && coordinate && catalog_remove_grants(&modules->catalog, image, want->repository, flight->namespace, coordinate))
                grants_revoke_start(modules, &image->manifest, want->repository, &(struct grant_owner){ flight->namespace, coordinate });
}

static void flight_fail(struct flight *flight, const struct error *failed)
{
        struct modules *modules = flight->modules;
        struct error err = *failed;
        struct waiter_list waiting;
        waiters_take(&flight->waiting, &waiting);
        for (struct module_waiter *waiter = waiting.head; waiter; waiter = waiter->next)
                waiter->flight = NULL;
        flight_forget_key(flight);
        verdicts_take(modules, &flight->pull);    /* what was proved is proved, whatever failed */
        if (!flight->is_cancelled) {
                flight_tell_refused(flight, &err);
                refusal_add(modules, flight->key, flight->key_bytes, flight->pull.want->name, &err);
                host_note(modules, flight->pull.want, &err);
                if (err.code == ERROR_UNAUTHORIZED)
                        revoke(flight);
        }
        struct keys *keys = TAKE(flight->pull.keys);
        flight_end(flight);
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                if (err.code != ERROR_UNAUTHORIZED || !secret_reread(modules, waiter, keys, &err))
                        waiter_refuse_pull(waiter, &err);
        }
        keys_unref(&keys);
}

/* ---- between the steps ---- */

static void flight_step_done(struct job *job);

static void flight_step(struct flight *flight, enum pull_step step)
{
        flight->state = FLIGHT_RUNNING;
        flight->pull.step = step;
        if (step == PULL_COMMIT)
                handout_plan(flight);
        flight->pull.job = (struct job){ .run = pull_run, .done = flight_step_done };
        flight->modules->tasks++;
        job_start(flight->modules->loop, &flight->pull.job);
}

static void flight_hold(struct flight *flight, struct entry *entry)
{
        if (flight->held)
                flight->held->holds--;
        flight->held = entry;
        entry->holds++;
}

static void waiter_serve(struct flight *flight, struct module_waiter *waiter, struct entry *entry, struct image *image)
{
        struct catalog *catalog = &flight->modules->catalog;
        const struct module_want *want = waiter->ask.want;
        struct resource *resource = want->resource_name ? catalog_find_resource(catalog, waiter->ask.namespace, want->resource_name) : NULL;
        if (resource && resource->sequence > flight->sequence && strcmp(resource->reference, want->name) == 0) {
                /* A later question about this resource has been answered already: never back in time. */
                struct hit_question question = { .catalog = catalog, .want = want, .principal = waiter->ask.principal, .namespace = waiter->ask.namespace };
                struct image *newer_image = catalog_find_image(catalog, &resource->manifest);
                struct entry *newer = catalog_find_entry(catalog, &resource->module);
                if (newer && grant_find(&question, newer, newer_image)) {
                        waiter_found(waiter, newer, newer_image, MODULE_SOURCE_REVALIDATED);
                        return;
                }
        }
        waiter_found(waiter, entry, image, flight->source);
}

static void tell_pulled(struct flight *flight, const struct entry *entry)
{
        struct modules *modules = flight->modules;
        struct pull *pull = &flight->pull;
        char sha256[DIGEST_TEXT_BYTES], digest[DIGEST_TEXT_BYTES] = "";
        digest_format_hex(&entry->sha256, sha256);
        const char *shown = sha256;
        if (digest_is_set(&pull->manifest_digest))
                digest_format(&pull->manifest_digest, digest);
        modules->stats.pulls_done++;
        stage_count(modules, pull);
        if (flight->source != MODULE_SOURCE_PULLED)
                return;
        uint64_t received = atomic_load(&pull->received);
        modules->stats.bytes_downloaded += received;
        modules->stats.bytes_unpacked += pull->module_bytes;
        LOG_INFO("pulled", LOG_TEXT("url", pull->want->name), LOG_TEXT("sha256", shown), LOG_NUMBER("bytes", entry->identity.size_bytes),
                LOG_TEXT("namespace", flight->namespace));
        event_tell(modules, "pulled", &(struct module_event){ .url = pull->want->name, .sha256 = sha256, .digest = *digest ? digest : NULL, .namespace = flight->namespace,
                   .bytes = entry->identity.size_bytes, .total = (int64_t)entry->identity.size_bytes });
}

static void flight_succeed(struct flight *flight, struct entry *entry, struct image *image)
{
        struct modules *modules = flight->modules;
        struct waiter_list waiting;
        refusal_forget(modules, flight->key, flight->key_bytes);
        if (flight->source != MODULE_SOURCE_CACHE)
                host_note(modules, flight->pull.want, NULL);
        flight_forget_key(flight);
        verdicts_take(modules, &flight->pull);
        if (image && image->entry == entry && digest_equal(&image->manifest, &flight->pull.manifest_digest) && digest_equal(&flight->pull.leads_to, &entry->sha256))
                image->is_led = true;
        tell_pulled(flight, entry);
        flight_hold(flight, entry);
        waiters_take(&flight->waiting, &waiting);
        for (struct module_waiter *waiter = waiting.head; waiter; waiter = waiter->next)
                waiter->flight = NULL;
        slot_give_back(flight);
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                /* A callback may have let go of the entry by force (remove is refused while held, damage is not). */
                if (flight->held)
                        waiter_serve(flight, waiter, entry, image);
                else
                        waiter_step(waiter);
        }
        flight_end(flight);
        evict_check(modules);
}

static void flight_committed(struct flight *flight)
{
        struct modules *modules = flight->modules;
        struct pull *pull = &flight->pull;
        struct pull_rows rows;
        struct entry *entry = catalog_find_entry(&modules->catalog, &pull->module);
        bool is_new = !entry;
        if (!entry && !pull->has_committed) {     /* only evidence was saved, and the module was let go meanwhile */
                flight_restart(flight);
                return;
        }
        bool is_file_known = !entry || (pull->writer && !entry->is_busy);
        if (is_file_known) {
                bool is_pinned = entry && entry->is_pinned;
                pull->row.is_pinned |= is_pinned;
                if (!digest_is_set(&pull->row.sha256))
                        pull->row.sha256 = pull->module;
                entry = catalog_put_entry(&modules->catalog, &pull->row);
        }
        modules->reserved_bytes -= flight->reserved_bytes;
        flight->reserved_bytes = 0;
        pull_get_rows(pull, &rows);
        if (pull->wants_image_row)
                catalog_put_image(&modules->catalog, &rows.image);
        if (pull->wants_reference_row)
                catalog_put_reference(&modules->catalog, &rows.reference, flight->sequence);
        flight_keep_newest(flight);
        handout_planned(flight, entry, is_file_known);
        if (pull->wants_grant_row)
                catalog_put_grant(&modules->catalog, &rows.grant);
        if (pull->wants_resource_row)
                catalog_put_resource(&modules->catalog, &rows.resource, flight->sequence);
        if (is_new)
                promises_return(modules, entry);
        flight_succeed(flight, entry, pull->want->kind == WANT_OCI ? catalog_find_image(&modules->catalog, &pull->manifest_digest) : NULL);
}

/* What the source names is here: only rows may be missing. */
static void flight_found(struct flight *flight, struct entry *entry, struct image *image)
{
        struct pull *pull = &flight->pull;
        struct known_reference *reference = catalog_find_reference(&flight->modules->catalog, pull->want->name);
        flight->source = pull->want->kind == WANT_FILE ? MODULE_SOURCE_CACHE : MODULE_SOURCE_REVALIDATED;
        pull->module = entry->sha256;
        flight_choose_rows(flight, false, entry);
        pull_drop_rows_of_proof(pull);
        if (reference && reference->entry == entry && !pull->is_proof)
                reference->checked_s = pull->now_s;
        if (!pull->wants_image_row && !pull->wants_reference_row && !pull->wants_grant_row && !pull->wants_resource_row && !pull_has_evidence(pull)) {
                flight_succeed(flight, entry, image);
                return;
        }
        flight_hold(flight, entry);
        flight_step(flight, PULL_COMMIT);
}

static struct flight *flight_storing(struct modules *modules, const struct flight *except)
{
        for (struct flight *flight = modules->queue; flight; flight = flight->next)
                if (flight != except && flight->is_storing && !flight->is_cancelled && digest_equal(&flight->pull.manifest_digest, &except->pull.manifest_digest) &&
                    string_equal(flight->pull.want->repository, except->pull.want->repository))
                        return flight;
        return NULL;
}

static void refuse_full(struct flight *flight, uint64_t bytes)
{
        struct modules *modules = flight->modules;
        struct error err;
        char need[32], used[32], budget[32];
        size_format_human(bytes, need, sizeof need);
        size_format_human(evict_get_used(modules), used, sizeof used);
        size_format_human(modules->setup->options.max_size_bytes, budget, sizeof budget);
        refuse(&err, ERROR_STORE_FULL,
                "%s: needs %s; %s of %s are used and nothing more may be let go (leased, pinned or in use); raise store.max_size or end leases",
                flight->pull.want->name, need, used, budget);
        flight_fail(flight, &err);
}

/* Room for `bytes` in place of what was reserved before, then the next step. */
static void flight_reserve(struct flight *flight, uint64_t bytes, enum pull_step next)
{
        struct modules *modules = flight->modules;
        modules->reserved_bytes -= flight->reserved_bytes;
        flight->reserved_bytes = 0;
        flight->next_step = next;
        flight->next_bytes = bytes;
        switch (evict_make_room(modules, bytes)) {
        case ROOM_NONE:
                refuse_full(flight, bytes);
                return;
        case ROOM_BEING_MADE:
                flight->state = FLIGHT_MAKING_ROOM;
                break;
        case ROOM_MADE:
                flight_step(flight, next);
                break;
        }
        flight->reserved_bytes = bytes;
        modules->reserved_bytes += bytes;
}

void flights_room_made(struct modules *modules)
{
        if (modules->leaving > 0)
                return;
        for (struct flight *flight = modules->queue; flight; flight = flight->next)
                if (flight->state == FLIGHT_MAKING_ROOM)
                        flight_step(flight, flight->next_step);
}

static void flight_restart(struct flight *flight)
{
        struct pull *pull = &flight->pull;
        pull->known_top = pull->known_manifest = pull->known_module = (struct digest){ 0 };
        pull->leads_to = (struct digest){ 0 };
        pull->is_proof = false;
        free(TAKE(pull->known_etag));
        free(TAKE(pull->etag));
        flight_step(flight, pull->want->kind == WANT_OCI ? PULL_RESOLVE : PULL_DOWNLOAD);
}

static void flight_resolved(struct flight *flight)
{
        struct modules *modules = flight->modules;
        struct pull *pull = &flight->pull;
        struct image *image = pull->want->kind == WANT_OCI ? catalog_find_image(&modules->catalog, &pull->manifest_digest) : NULL;
        struct entry *entry = image ? image->entry : NULL;
        if (image && (!digest_equal(&image->manifest, &pull->manifest_digest) ||
                      !grant_is_shown(pull->want, image, catalog_find_reference(&modules->catalog, pull->want->name))))
                entry = NULL;
        if (entry && image && image->is_led && pull->outcome == PULL_RESOLVED)
                pull->leads_to = entry->sha256;
        if (entry && !lead_is_to(pull, &entry->sha256))
                entry = NULL;                     /* a row says so, and nothing else */
        if (pull->outcome == PULL_UNCHANGED && pull->want->kind != WANT_OCI)
                entry = catalog_find_entry(&modules->catalog, &pull->module);

        if (entry)
                flight_found(flight, entry, image);
        else if (pull->outcome == PULL_UNCHANGED)
                flight_restart(flight);           /* let go in the meantime */
        else if (flight_storing(modules, flight))
                flight->state = FLIGHT_FOLLOWING;
        else {
                flight->is_storing = true;
                flight_reserve(flight, pull->layer->size_bytes, PULL_DOWNLOAD);
        }
}

static void flight_unproved(struct flight *flight);

/* Judged by what is stored, nobody was asked. */
static void flight_proved(struct flight *flight)
{
        struct pull *pull = &flight->pull;
        struct catalog *catalog = &flight->modules->catalog;
        struct entry *entry = catalog_find_entry(catalog, &pull->known_module);
        struct image *image = digest_is_set(&pull->known_manifest) ? catalog_find_image(catalog, &pull->known_manifest) : NULL;
        flight->source = MODULE_SOURCE_CACHE;
        if (entry && (!digest_is_set(&pull->known_manifest) || (image && image->entry == entry))) {
                flight_succeed(flight, entry, image);
                return;
        }
        pull->known_top = pull->known_manifest = pull->known_module = (struct digest){ 0 };      /* let go in the meantime */
        flight_unproved(flight);
}

/* The source is asked, if it can be. */
static void flight_unproved(struct flight *flight)
{
        struct error away = flight->nobody;
        if (away.code != ERROR_NONE || host_is_away(flight->modules, flight->pull.want, &away)) {
                struct error err = away;
                prove_refuse_unreachable(&flight->pull, &away, &err);
                flight_fail(flight, &err);
                return;
        }
        flight->state = FLIGHT_QUEUED;
        flights_start(flight->modules);
}

static void followers_wake(struct modules *modules, const struct digest *manifest)
{
        for (bool again = true; again;) {
                again = false;
                for (struct flight *flight = modules->queue; flight && !again; flight = flight->next)
                        if (flight->state == FLIGHT_FOLLOWING && digest_equal(&flight->pull.manifest_digest, manifest) && !flight_storing(modules, flight)) {
                                flight->state = FLIGHT_RUNNING;
                                flight_resolved(flight);
                                again = true;
                        }
        }
}

static void flight_stored(struct flight *flight)
{
        struct pull *pull = &flight->pull;
        flight->source = MODULE_SOURCE_PULLED;
        /* The same file again, by another name or after a change that was none: nothing to write but rows. */
        struct entry *entry = catalog_find_entry(&flight->modules->catalog, &pull->module);
        flight_choose_rows(flight, true, entry);
        if (entry && !entry->is_busy && store_check_identity(pull->store, &entry->sha256, NULL, &entry->identity)) {
                blob_writer_free(&pull->writer);
                flight_hold(flight, entry);
                flight_step(flight, PULL_COMMIT);
        } else if (pull->module_bytes <= flight->reserved_bytes) {
                flight_step(flight, PULL_COMMIT);
        } else {
                flight_reserve(flight, pull->module_bytes, PULL_COMMIT);
        }
}

static void flight_step_done(struct job *job)
{
        struct pull *pull = CONTAINER_OF(job, struct pull, job);
        struct flight *flight = CONTAINER_OF(pull, struct flight, pull);
        struct modules *modules = flight->modules;
        verifications_count(modules, pull);
        if (flight->is_cancelled && pull->outcome != PULL_COMMITTED) {
                struct error err;
                refuse(&err, ERROR_BUSY, "%s: the pull was cancelled", pull->want->name);
                flight_fail(flight, &err);
        } else {
                switch (pull->outcome) {
                case PULL_FAILED:
                        flight_fail(flight, &pull->err);
                        break;
                case PULL_UNPROVED:
                        flight_unproved(flight);
                        break;
                case PULL_RESOLVED:
                case PULL_UNCHANGED:
                        if (pull->step == PULL_PROVE)
                                flight_proved(flight);
                        else
                                flight_resolved(flight);
                        break;
                case PULL_STORED:
                        flight_stored(flight);
                        break;
                case PULL_COMMITTED:
                        flight_committed(flight);
                        break;
                }
        }
        task_end(modules);
}

/* ---- leaving and cancelling ---- */

static void flight_cancel(struct flight *flight)
{
        flight->is_cancelled = true;
        flight_forget_key(flight);
        if (flight->state == FLIGHT_RUNNING)
                cancel_trigger(flight->pull.cancel);
        else
                flight_end(flight);
}

void flight_leave(struct module_waiter *waiter, bool goes_on)
{
        struct flight *flight = TAKE(waiter->flight);
        waiter_leave(waiter);
        flight->waiters--;
        flight->is_kept |= goes_on;
        if (flight->waiters == 0 && !flight->is_kept)
                flight_cancel(flight);
}

/* For stopping: the waiters are answered already. */
void flights_cancel(struct modules *modules)
{
        for (struct flight *flight = modules->queue, *next; flight; flight = next) {
                next = flight->next;
                flight->is_cancelled = true;
                cancel_trigger(flight->pull.cancel);
        }
        for (bool again = true; again;) {
                again = false;
                for (struct flight *flight = modules->queue; flight && !again; flight = flight->next)
                        if (flight->state != FLIGHT_RUNNING) {
                                flight_end(flight);
                                again = true;
                        }
        }
}
