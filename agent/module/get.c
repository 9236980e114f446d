/*
 * How it goes: a request that can be answered from memory is answered before module_get() returns, with nothing allocated for the wait. Otherwise a waiter is made: it waits
 *              for its secret, then for a flight, then for its hand-out, each time in one list of what it waits for.
 * How it fails: a waiter is refused by what it waits for, or by its own time; a pull that failed is answered from the cache where stale answers are allowed.
 * How it ends: every waiter is answered exactly once or cancelled by its asker; it is out of every list before its callback runs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

/* ---- lists ---- */

void waiter_join(struct module_waiter *waiter, struct waiter_list *list)
{
        waiter->list = list;
        waiter->next = NULL;
        waiter->previous = list->tail;
        *(list->tail ? &list->tail->next : &list->head) = waiter;
        list->tail = waiter;
}

void waiter_leave(struct module_waiter *waiter)
{
        struct waiter_list *list = waiter->list;
        if (!list)
                return;
        *(waiter->previous ? &waiter->previous->next : &list->head) = waiter->next;
        *(waiter->next ? &waiter->next->previous : &list->tail) = waiter->previous;
        waiter->previous = waiter->next = NULL;
        waiter->list = NULL;
}

void waiters_take(struct waiter_list *from, struct waiter_list *ret_to)
{
        *ret_to = *from;
        *from = (struct waiter_list){ 0 };
        for (struct module_waiter *waiter = ret_to->head; waiter; waiter = waiter->next)
                waiter->list = ret_to;
}

/* ---- answers ---- */

void waiter_free(struct module_waiter *waiter)
{
        struct modules *modules = waiter->modules;
        waiter_leave(waiter);
        loop_timer_cancel(&waiter->timer);
        *(waiter->all_previous ? &waiter->all_previous->all_next : &modules->all_waiters) = waiter->all_next;
        if (waiter->all_next)
                waiter->all_next->all_previous = waiter->all_previous;
        modules->waiter_count--;
        if (waiter->gone)
                *waiter->gone = true;
        module_want_unref(&waiter->ask.want);
        principal_unref(&waiter->ask.principal);
        free(waiter->untaken);
        free(waiter->texts[0]);
        free(waiter->texts[1]);
        free(waiter->texts[2]);
        free(waiter);
}

static void count_answer(struct modules *modules, const struct module_object *object)
{
        modules->stats.answers_by_code[ERROR_NONE]++;
        if (object->source == MODULE_SOURCE_CACHE)
                modules->stats.hits++;
        else if (object->source == MODULE_SOURCE_REVALIDATED)
                modules->stats.revalidations++;
        else
                modules->stats.misses++;
        modules->stats.stale_served += object->is_stale;
}

void waiter_refuse(struct module_waiter *waiter, const struct error *err)
{
        struct error copy = *err;
        module_answered answered = waiter->answered;
        void *arg = waiter->arg;
        if (waiter->flight)
                flight_leave(waiter, true);
        waiter->modules->stats.answers_by_code[err->code < ERROR_CODES ? err->code : ERROR_INTERNAL]++;
        waiter_free(waiter);
        answered(arg, NULL, &copy);
}

void waiter_answer(struct module_waiter *waiter, struct module_object *object)
{
        /* The object borrows the want's url: keep the want until the asker has read it. */
        CLEANUP(module_want_unref) struct module_want *want = module_want_ref(waiter->ask.want);
        module_answered answered = waiter->answered;
        void *arg = waiter->arg;
        object->url = want->url;
        object->source = waiter->source;
        object->is_stale = waiter->is_stale;
        count_answer(waiter->modules, object);
        waiter_free(waiter);
        answered(arg, object, NULL);
}

void waiter_found(struct module_waiter *waiter, struct entry *entry, struct image *image, enum module_source source)
{
        waiter->entry = entry;
        waiter->image = image;
        waiter->source = source;
        handout_give(waiter);
}

struct hit_question question_of(const struct modules *modules, const struct ask *ask)
{
        return (struct hit_question){ .catalog = &modules->catalog, .want = ask->want, .principal = ask->principal, .namespace = ask->namespace,
                                      .demands = demands_of(&modules->setup->trust, ask->want), .verdicts = modules->verdicts };
}

static bool is_unreachable(enum error_code code)
{
        return code == ERROR_UPSTREAM_UNREACHABLE || code == ERROR_UPSTREAM_ERROR || code == ERROR_TIMEOUT || code == ERROR_RATE_LIMITED;
}

/* The source could not be asked (not: it refused), the content was asked about recently enough, and this caller may have it. */
bool stale_is_allowed(struct modules *modules, const struct ask *ask, const struct error *err, struct hit *ret_hit)
{
        struct hit_question question = question_of(modules, ask);
        int64_t limit_ms = modules->setup->options.stale_if_error_ms;
        if (limit_ms <= 0 || !is_unreachable(err->code))
                return false;

        hit_decide(&question, ret_hit);
        if (ret_hit->result != HIT_REVALIDATE || !ret_hit->reference || clock_get_wall_s() - ret_hit->reference->checked_s > limit_ms / 1000)
                return false;
        struct proof_targets targets = hit_get_targets(&question, ret_hit);
        return grant_find(&question, ret_hit->entry, ret_hit->image) && demands_are_met(modules->verdicts, question.demands, &targets, &ret_hit->verdict);
}

void waiter_refuse_pull(struct module_waiter *waiter, const struct error *err)
{
        struct hit hit;
        if (waiter->ask.is_internal || !stale_is_allowed(waiter->modules, &waiter->ask, err, &hit)) {
                waiter_refuse(waiter, err);
                return;
        }
        waiter->is_stale = true;
        waiter_found(waiter, hit.entry, hit.image, MODULE_SOURCE_CACHE);
}

/* The Kubernetes API cannot be asked what the secret says, which is no refusal: what a secret of this name was granted before, in this life or the last, needs no network. */
static bool waiter_serve_unread(struct module_waiter *waiter, const struct error *err)
{
        struct modules *modules = waiter->modules;
        const struct principal unread = { .kind = PRINCIPAL_SECRET, .is_unread = true };
        struct hit_question question = question_of(modules, &waiter->ask);
        struct hit hit;
        if (!modules->setup->options.kube || !is_unreachable(err->code) || waiter->explain || waiter->ask.is_internal)
                return false;
        question.principal = &unread;
        hit_decide(&question, &hit);
        if (hit.result == HIT_UNVERIFIED && waiter->ask.want->key)
                rejudge_key(modules, waiter->ask.want->key);
        if (hit.result == HIT_UNVERIFIED)
                flight_join(modules, waiter, &hit, err);
        if (hit.result == HIT_YES)
                waiter_found(waiter, hit.entry, hit.image, MODULE_SOURCE_CACHE);
        return hit.result == HIT_YES || hit.result == HIT_UNVERIFIED;
}

/* ---- the walk of one waiter ---- */

void waiter_step(struct module_waiter *waiter)
{
        struct modules *modules = waiter->modules;
        struct error err = { 0 };
        struct secret_state *state;
        if (modules->is_closing) {
                refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
                waiter_refuse(waiter, &err);
                return;
        }
        if (modules->load && !waiter->is_looked_up) {
                load_look_up(modules, waiter);
                return;
        }
        principal_unref(&waiter->ask.principal);
        switch (secret_get(modules, &waiter->ask, &waiter->ask.principal, &state, &err)) {
        case SECRET_REFUSED:
                if (secret_renew(modules, &waiter->ask, &state)) {
                        waiter_join(waiter, &state->waiting);
                        return;
                }
                if (waiter->explain)
                        waiter->explain(waiter, &err);
                else if (!waiter_serve_unread(waiter, &err))
                        waiter_refuse(waiter, &err);
                return;
        case SECRET_LOADING:
                waiter_join(waiter, &state->waiting);
                return;
        case SECRET_READY:
                break;
        }
        if (waiter->explain) {
                waiter->explain(waiter, NULL);
                return;
        }

        struct hit hit;
        struct hit_question question = question_of(modules, &waiter->ask);
        hit_decide(&question, &hit);
        if (hit.result == HIT_YES) {
                waiter_found(waiter, hit.entry, hit.image, MODULE_SOURCE_CACHE);
                return;
        }
        /* What is stored can be judged now; whether the source has to be asked is known when everything is here. */
        if (modules->load && hit.result != HIT_UNVERIFIED) {
                load_wait(modules, waiter);
                return;
        }
        if (secret_renew(modules, &waiter->ask, &state)) {
                waiter_join(waiter, &state->waiting);
                return;
        }
        if (hit.result == HIT_UNVERIFIED && waiter->ask.want->key)
                rejudge_key(modules, waiter->ask.want->key);      /* what else is here under this key will be asked for soon */
        struct refusal *refusal = refusal_find(modules, &waiter->ask, &hit);
        if (refusal) {
                err = refusal_get_error(refusal);
                waiter_refuse_pull(waiter, &err);
                return;
        }
        if (host_refuses(modules, &waiter->ask, &hit, &err)) {
                waiter_refuse_pull(waiter, &err);
                return;
        }
        flight_join(modules, waiter, &hit, NULL);
}

static void waiter_timed_out(void *arg)
{
        struct module_waiter *waiter = arg;
        struct error err;
        char text[32];
        clock_format_duration(waiter->ask.want->timeout_ms, text, sizeof text);
        refuse(&err, ERROR_TIMEOUT, "%s: not there after %s, the timeout of this request; the pull goes on, so asking again may find it", waiter->ask.want->url, text);
        err.retry_after_s = 1;
        char limits[HOST_LIMITS_BYTES];
        unsigned after_s = host_limits(waiter->modules, waiter->ask.want, limits);
        if (after_s > 0) {
                refuse(&err, ERROR_TIMEOUT, "%s: not there after %s, the timeout of this request: %s; the pull goes on, so asking again then may find it",
                       waiter->ask.want->url, text, limits);
                err.retry_after_s = after_s;
        }
        waiter_refuse(waiter, &err);
}

struct module_waiter *waiter_new(struct modules *modules, const struct ask *ask, module_answered answered, void *arg)
{
        struct module_waiter *waiter = memory_new(1, sizeof *waiter);
        waiter->modules = modules;
        waiter->ask = *ask;
        module_want_ref(waiter->ask.want);
        waiter->ask.principal = NULL;
        waiter->ask.namespace = waiter->texts[0] = string_copy(ask->namespace);
        waiter->ask.module_dir = waiter->texts[1] = string_copy(ask->module_dir);
        waiter->ask.handout_namespace = waiter->texts[2] = string_copy(ask->handout_namespace);
        waiter->answered = answered;
        waiter->arg = arg;
        waiter->all_next = modules->all_waiters;
        if (waiter->all_next)
                waiter->all_next->all_previous = waiter;
        modules->all_waiters = waiter;
        modules->waiter_count++;
        if (!ask->is_patient)
                waiter->timer = loop_timer_start(modules->loop, ask->want->timeout_ms, 0, waiter_timed_out, waiter);
        return waiter;
}

/* ---- module_get ---- */

bool ask_init(struct modules *modules, struct module_want *want, const struct module_caller *caller, struct ask *ret_ask, struct error *err)
{
        if (want->namespace && caller->namespace && !caller->is_trusted && strcmp(want->namespace, caller->namespace) != 0)
                return refuse(err, ERROR_DENIED, "namespace: callers of this socket are in \"%s\" and cannot ask for another namespace", caller->namespace);
        if (want->namespace && !caller->namespace && !caller->is_trusted)
                return refuse(err, ERROR_DENIED, "namespace: may not be named on this socket");

        const char *namespace = want->namespace ? want->namespace : caller->namespace;
        *ret_ask = (struct ask){
                .want = want, .namespace = namespace ? namespace : "default", .module_dir = caller->module_dir, .is_blob_path = caller->is_admin && !namespace,
                .holder = caller->holder, .sequence = ++modules->sequence, .is_patient = caller->is_patient,
        };
        ret_ask->handout_namespace = caller->handout_namespace ? caller->handout_namespace : ret_ask->namespace;
        return true;
}

/* The hit: everything is in memory, one statx proves the file. */
static bool answer_at_once(struct modules *modules, struct ask *ask, module_answered answered, void *arg)
{
        ERROR_UNCLEARED(err);
        struct secret_state *state;
        CLEANUP(principal_unref) struct principal *principal = NULL;
        enum secret_answer secret = secret_get(modules, ask, &principal, &state, &err);
        if (secret != SECRET_READY)
                return false;

        UNCLEARED struct hit hit;
        UNCLEARED struct module_object object;
        UNCLEARED struct object_texts texts;
        ask->principal = principal;
        struct hit_question question = question_of(modules, ask);
        hit_decide(&question, &hit);
        bool done = hit.result == HIT_YES && handout_try(modules, ask, hit.entry, hit.image, &(struct handed){ &object, &texts });
        ask->principal = NULL;
        if (!done)
                return false;
        object.source = MODULE_SOURCE_CACHE;
        object_note_verdict(&object, hit.verdict);
        count_answer(modules, &object);
        answered(arg, &object, NULL);
        return true;
}

struct module_waiter *module_get(struct modules *modules, struct module_want *want, const struct module_caller *caller, module_answered answered, void *arg)
{
        ON_LOOP();
        struct ask ask;
        ERROR_UNCLEARED(err);
        bool is_fine = ask_init(modules, want, caller, &ask, &err);
        if (is_fine && modules->is_closing)
                is_fine = refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        if (is_fine && answer_at_once(modules, &ask, answered, arg))
                return NULL;
        if (is_fine && modules->waiter_count >= modules->setup->options.waiters_max && modules->setup->options.waiters_max > 0) {
                is_fine = refuse(&err, ERROR_BUSY, "%u requests wait already, the limit; ask again in a moment", modules->waiter_count);
                err.retry_after_s = 1;
        }
        if (!is_fine) {
                modules->stats.answers_by_code[err.code]++;
                answered(arg, NULL, &err);
                return NULL;
        }

        /* The waiter may be answered inside waiter_step(); whether it was is seen from outside it. */
        bool is_gone = false;
        struct module_waiter *waiter = waiter_new(modules, &ask, answered, arg);
        waiter->gone = &is_gone;
        waiter_step(waiter);
        if (is_gone)
                return NULL;
        waiter->gone = NULL;
        return waiter;
}

void modules_ask_again(struct modules *modules, struct module_want *want, module_answered answered, void *arg)
{
        struct ask ask = { .want = want, .namespace = want->namespace ? want->namespace : "default", .module_dir = "", .is_internal = true, .sequence = ++modules->sequence };
        ask.handout_namespace = ask.namespace;
        waiter_step(waiter_new(modules, &ask, answered, arg));
}

void module_waiter_cancel(struct module_waiter **waiter_pointer)
{
        ON_LOOP();
        struct module_waiter *waiter = TAKE(*waiter_pointer);
        if (!waiter)
                return;
        if (waiter->flight)
                flight_leave(waiter, false);
        waiter_free(waiter);
}
