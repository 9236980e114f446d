/*
 * How it goes: a start and a reload forget all verdicts. What the node's rules demand, and what a key that is asked with for the first time would meet, is judged again from
 *              stored evidence in rounds: the loop lists digests, a worker reads a batch and judges only what a stored proof names and a good seal leads from to a module,
 *              the loop keeps what is good.
 * How it fails: what does not verify is left alone: whoever asks for it goes the long way and reads why.
 * How it ends: a round ends behind the last digest; modules that close or reload drop what is queued.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"
#include "prove.h"
#include "seal.h"

enum { BATCH = 128, ROUNDS_MAX = 256 };

/* One demand over all that is here. */
struct rejudge_round {
        struct rejudge_round *next;
        unsigned generation;
        struct trust_keys *keys;
        struct trust_policy *policy;
        struct digest demand, *targets;
        size_t count, at;
};

struct batch {
        struct task task;
        struct rejudge_round *round;
        size_t count;
        struct founds founds;
        struct lead { struct digest top, manifest, module; } *leads; size_t lead_count;
        struct store_proof *proofs; size_t proof_count;
        struct verdict *verdicts; size_t verdict_count;
};

static void rejudge_next(struct modules *modules);

static void round_free(struct rejudge_round *round)
{
        trust_keys_unref(&round->keys);
        trust_policy_unref(&round->policy);
        free(round->targets);
        free(round);
}

/* ---- worker ---- */

static void take_evidence(void *arg, const struct store_evidence *row)
{
        struct batch *batch = arg;
        if (founds_add_row(&batch->founds, row))
                batch->founds.items[batch->founds.count - 1].id = row->id;
}

static void take_image(void *arg, const struct store_image *row)
{
        struct batch *batch = arg;
        if (!seal_image_is_good(store_get_seal_key(batch->task.modules->store), row))
                return;
        batch->leads = memory_resize(batch->leads, batch->lead_count + 1, sizeof *batch->leads);
        batch->leads[batch->lead_count++] = (struct lead){ row->top, row->manifest, row->module };
}

/* The latest that was read; nearly always there is one. */
static const struct digest *find_module(const struct batch *batch, const struct digest *target)
{
        for (size_t i = batch->lead_count; i-- > 0;)
                if (digest_equal(&batch->leads[i].manifest, target) || digest_equal(&batch->leads[i].top, target))
                        return &batch->leads[i].module;
        return NULL;
}

static void take_proof(void *arg, const struct store_proof *row)
{
        struct batch *batch = arg;
        if (!digest_equal(&row->keys, trust_keys_get_digest(batch->round->keys)) || !digest_equal(&row->policy, trust_policy_get_digest(batch->round->policy)))
                return;
        batch->proofs = memory_resize(batch->proofs, batch->proof_count + 1, sizeof *batch->proofs);
        batch->proofs[batch->proof_count++] = *row;
}

static const struct found *find_evidence(const struct batch *batch, const struct store_proof *proof)
{
        for (size_t i = 0; i < batch->founds.count; i++)
                if (digest_equal(&batch->founds.items[i].id, &proof->evidence) && digest_equal(&batch->founds.items[i].target, &proof->target))
                        return &batch->founds.items[i];
        return NULL;
}

static void judge(struct batch *batch, const struct found *found, const struct digest *module)
{
        struct trust_proof proof = { 0 };
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_demand demand = { .keys = batch->round->keys, .policy = batch->round->policy };
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST, .digest = found->target };
        struct trust_evidence evidence = found_get_evidence(found);
        if (!trust_judge(&demand, &target, &evidence, &budget, &proof, &failure))
                return;
        batch->verdicts[batch->verdict_count++] = (struct verdict){
                .format = proof.format, .algorithm = proof.algorithm, .form = trust_form_names[found->form], .fingerprint = proof.fingerprint, .where = string_copy(found->where),
                .annotations = TAKE(proof.annotations), .logged_s = proof.logged_s, .proved_s = clock_get_wall_s(), .scope = PROOF_OF_MANIFEST, .target = found->target,
                .module = *module, .demand = batch->round->demand,
        };
        trust_proof_fini(&proof);
}

static void batch_run(struct job *job)
{
        ON_WORKER();
        struct batch *batch = CONTAINER_OF(job, struct batch, task.job);
        struct store_evidence_visitor visitor = { .arg = batch, .evidence = take_evidence, .proof = take_proof, .image = take_image };
        struct error err = { 0 };
        if (!store_load_targets(batch->task.modules->store, batch->round->targets + batch->round->at, batch->count, &visitor, &err)) {
                LOG_WARN("evidence not readable", LOG_TEXT("detail", err.text));
                return;
        }
        batch->verdicts = memory_new(batch->proof_count + 1, sizeof *batch->verdicts);
        for (size_t i = 0; i < batch->proof_count; i++) {
                const struct found *found = find_evidence(batch, &batch->proofs[i]);
                const struct digest *module = found ? find_module(batch, &found->target) : NULL;
                if (module && (found->form == TRUST_FORM_BUNDLE || found->form == TRUST_FORM_SIMPLE))
                        judge(batch, found, module);
        }
}

/* ---- loop ---- */

static void batch_done(struct job *job)
{
        struct batch *batch = CONTAINER_OF(job, struct batch, task.job);
        struct modules *modules = batch->task.modules;
        struct rejudge_round *round = batch->round;
        bool is_current = round->generation == modules->setup->trust.generation;
        for (size_t i = 0; i < batch->verdict_count; i++) {
                verification_count(modules, batch->verdicts[i].format);
                if (is_current)
                        verdict_put(modules->verdicts, &batch->verdicts[i]);
                free(batch->verdicts[i].where);
                free(batch->verdicts[i].annotations);
        }
        round->at += batch->count;
        founds_fini(&batch->founds);
        free(batch->leads);
        free(batch->proofs);
        free(batch->verdicts);
        free(batch);
        modules->rejudge.is_running = false;
        if (round->at == round->count || !is_current)
                round_free(round);
        else {
                round->next = modules->rejudge.first;
                modules->rejudge.first = round;
                if (!round->next)
                        modules->rejudge.end = &round->next;
        }
        rejudge_next(modules);
        task_end(modules);
}

static void rejudge_next(struct modules *modules)
{
        struct rejudge *rejudge = &modules->rejudge;
        if (rejudge->is_running || !rejudge->first || modules->is_closing)
                return;
        struct rejudge_round *round = rejudge->first;
        rejudge->first = round->next;
        if (!rejudge->first)
                rejudge->end = &rejudge->first;
        struct batch *batch = memory_new(1, sizeof *batch);
        batch->round = round;
        batch->count = round->count - round->at < BATCH ? round->count - round->at : BATCH;
        rejudge->is_running = true;
        task_start(modules, &batch->task, batch_run, batch_done);
}

/* Every manifest and index here, each once in a row. */
static struct digest *list_targets(const struct modules *modules, size_t *ret_count)
{
        size_t count = 0, room = 0;
        struct digest *targets = NULL;
        for (const struct entry *entry = modules->catalog.oldest; entry; entry = entry->newer)
                for (const struct image *image = entry->images; image; image = image->next) {
                        if (count + 2 > room)
                                targets = memory_resize(targets, room = 2 * room + 64, sizeof *targets);
                        targets[count++] = image->manifest;
                        if (!digest_equal(image->top, &image->manifest))
                                targets[count++] = *image->top;
                }
        *ret_count = count;
        return targets;
}

static void round_start(struct modules *modules, struct trust_keys *keys, struct trust_policy *policy)
{
        struct rejudge *rejudge = &modules->rejudge;
        struct digest demand;
        /* Where the name counts too, each request is judged by itself. */
        if (trust_policy_get_options(policy)->identity != TRUST_IDENTITY_IGNORE)
                return;
        if (!rejudge->seen)
                rejudge->seen = map_new(NULL);
        demand_make_id(keys, policy, &demand);
        if (map_get(rejudge->seen, demand.bytes, DIGEST_SHA256_BYTES) || map_get_count(rejudge->seen) >= ROUNDS_MAX)
                return;
        map_put(rejudge->seen, demand.bytes, DIGEST_SHA256_BYTES, modules);

        struct rejudge_round *round = memory_new(1, sizeof *round);
        *round = (struct rejudge_round){ .generation = modules->setup->trust.generation, .keys = trust_keys_ref(keys), .policy = trust_policy_ref(policy), .demand = demand };
        round->targets = list_targets(modules, &round->count);
        if (round->count == 0) {
                round_free(round);
                return;
        }
        if (!rejudge->end)
                rejudge->end = &rejudge->first;
        *rejudge->end = round;
        rejudge->end = &round->next;
        rejudge_next(modules);
}

void rejudge_key(struct modules *modules, struct trust_keys *keys)
{
        if (modules->load)
                return;
        round_start(modules, keys, modules->setup->trust.policy);
}

void rejudge_rules(struct modules *modules)
{
        if (modules->load)
                return;
        map_free(&modules->rejudge.seen);
        for (size_t i = 0; i < modules->setup->trust.rule_count; i++)
                round_start(modules, modules->setup->trust.rules[i].keys, modules->setup->trust.rules[i].policy);
}

void rejudge_fini(struct modules *modules)
{
        while (modules->rejudge.first) {
                struct rejudge_round *round = modules->rejudge.first;
                modules->rejudge.first = round->next;
                round_free(round);
        }
        map_free(&modules->rejudge.seen);
}
