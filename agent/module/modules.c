/*
 * How it goes: the catalog is loaded from the store once (load.c); then everything runs on the loop, with jobs (tasks) on workers that are counted.
 * How it fails: what cannot be loaded ends the start.
 * How it ends: modules_close() answers all waiters, cancels flights, saves what is dirty and calls closed() when the last task is done.
 */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

/* ---- setup: options and transport, counted ---- */

static char **texts_copy(const char *const *texts)
{
        size_t count = 0;
        while (texts && texts[count])
                count++;
        char **copy = memory_new(count + 1, sizeof *copy);
        for (size_t i = 0; i < count; i++)
                copy[i] = string_copy(texts[i]);
        return copy;
}

static void texts_free(const char *const *texts)
{
        for (size_t i = 0; texts && texts[i]; i++)
                free((void *)(uintptr_t)texts[i]);
        free((void *)(uintptr_t)texts);
}

static void trust_setup_init(struct trust_setup *trust, const struct modules_trust *options)
{
        static const struct trust_policy_options defaults = { .formats = TRUST_FORMATS_DEFAULT };
        static unsigned generation;
        struct trust_rule *rules = memory_new(options->rule_count + 1, sizeof *rules);
        struct error err;
        trust->generation = ++generation;
        trust->policy = options->policy ? trust_policy_ref(options->policy) : trust_policy_new(&defaults);
        trust->rules = rules;
        trust->rule_count = options->rule_count;
        for (size_t i = 0; i < options->rule_count; i++)
                rules[i] = (struct trust_rule){ .match = string_copy(options->rules[i].match), .keys = trust_keys_ref(options->rules[i].keys),
                                                .policy = trust_policy_ref(options->rules[i].policy) };
        /* The configuration has looked at it; what it would refuse is no place either. */
        trust->has_signatures = options->signature_repository && *options->signature_repository && reference_parse(options->signature_repository, &trust->signatures, &err);
}

static void trust_setup_fini(struct trust_setup *trust)
{
        for (size_t i = 0; i < trust->rule_count; i++) {
                free((void *)(uintptr_t)trust->rules[i].match);
                trust_keys_unref((struct trust_keys **)(uintptr_t)&trust->rules[i].keys);
                trust_policy_unref((struct trust_policy **)(uintptr_t)&trust->rules[i].policy);
        }
        free((void *)(uintptr_t)trust->rules);
        trust_policy_unref(&trust->policy);
        reference_fini(&trust->signatures);
}

struct setup *setup_new(struct fetch_client *fetch, struct registry *registry, const struct modules_options *options)
{
        struct setup *setup = memory_new(1, sizeof *setup);
        setup->references = 1;
        setup->fetch = fetch ? fetch_client_ref(fetch) : NULL;
        setup->registry = registry;
        setup->options = *options;
        setup->options.file_roots = (const char *const *)texts_copy(options->file_roots);
        setup->options.trust = (struct modules_trust){ 0 };
        trust_setup_init(&setup->trust, &options->trust);
        setup->options.secrets_dir = string_copy(options->secrets_dir ? options->secrets_dir : "");
        setup->options.docker_config = string_copy(options->docker_config ? options->docker_config : "");
        struct modules_mirrors *mirrors = memory_new(options->mirror_count + 1, sizeof *mirrors);
        for (size_t i = 0; i < options->mirror_count; i++)
                mirrors[i] = (struct modules_mirrors){ .host = string_copy(options->mirrors[i].host), .mirrors = (const char *const *)texts_copy(options->mirrors[i].mirrors) };
        setup->options.mirrors = mirrors;
        setup->options.tree = registry_tree_ref(options->tree);
        setup->options.providers = credential_providers_ref(options->providers);
        if (setup->options.slots == 0)
                setup->options.slots = 1;
        if (setup->options.slots_per_host == 0)
                setup->options.slots_per_host = 1;
        return setup;
}

struct setup *setup_ref(struct setup *setup)
{
        setup->references++;
        return setup;
}

void setup_unref(struct setup **setup_pointer)
{
        struct setup *setup = TAKE(*setup_pointer);
        if (!setup || --setup->references > 0)
                return;
        for (size_t i = 0; i < setup->options.mirror_count; i++) {
                free((void *)(uintptr_t)setup->options.mirrors[i].host);
                texts_free(setup->options.mirrors[i].mirrors);
        }
        free((void *)(uintptr_t)setup->options.mirrors);
        texts_free(setup->options.file_roots);
        trust_setup_fini(&setup->trust);
        free((void *)(uintptr_t)setup->options.secrets_dir);
        free((void *)(uintptr_t)setup->options.docker_config);
        registry_free(&setup->registry);
        fetch_client_unref(&setup->fetch);
        registry_tree_unref(&setup->options.tree);
        credential_providers_unref(&setup->options.providers);
        free(setup);
}

/* ---- ticking ---- */

/* Pulls leave holes in the heaps of many workers; an idle daemon gives the pages back. */
static void trim_run(struct job *job)
{
        (void)job;
        malloc_trim(0);
}

static void trim_done(struct job *job)
{
        struct task *task = CONTAINER_OF(job, struct task, job);
        struct modules *modules = task->modules;
        free(task);
        task_end(modules);
}

static void trim(struct modules *modules, int64_t now_ms)
{
        uint64_t ended = modules->stats.pulls_done + modules->stats.pulls_failed;
        if (modules->flight_count > 0 || ended == modules->trimmed_at || now_ms < modules->next_trim_ms)
                return;
        modules->trimmed_at = ended;
        modules->next_trim_ms = now_ms + TRIM_MS;
        task_start(modules, memory_new(1, sizeof(struct task)), trim_run, trim_done);
}

void module_note_garbage(struct modules *modules)
{
        ON_LOOP();
        modules->trimmed_at = UINT64_MAX;
        modules->next_trim_ms = clock_get_ms() + TRIM_MS;
}

static void sweep(void *arg)
{
        struct modules *modules = arg;
        int64_t now_ms = clock_get_ms();
        leases_sweep(modules, now_ms);
        if (now_ms >= modules->next_slow_sweep_ms) {
                modules->next_slow_sweep_ms = now_ms + 10000;
                secrets_sweep(modules, now_ms);
                refusals_sweep(modules, now_ms);
                hosts_sweep(modules, now_ms);
                promises_sweep(modules, now_ms);
        }
        scrub_step(modules, now_ms);
        trim(modules, now_ms);
        if (modules->flight_count > 0)
                flights_progress(modules);
}

static void touch_now(void *arg)
{
        struct modules *modules = arg;
        modules->is_touch_armed = false;
        leases_save(modules);
}

/* ---- life ---- */

bool modules_new(struct loop *loop, struct store *store, struct fetch_client *fetch, struct registry *registry, const struct modules_options *options,
        struct modules **ret_modules, struct error *err)
{
        ON_LOOP();
        struct modules *modules = memory_new(1, sizeof *modules);
        modules->loop = loop;
        modules->store = store;
        modules->setup = setup_new(fetch, registry, options);
        catalog_init(&modules->catalog);
        modules->secrets = map_new(NULL);
        modules->given = map_new(given_free);
        modules->flights = map_new(NULL);
        modules->refusals = map_new(refusal_free);
        modules->hosts = map_new(free);
        modules->promises = map_new(promise_free);
        modules->host_slots = map_new(NULL);
        modules->verdicts = verdicts_new();
        modules->verify_cancel = cancel_new();
        modules->secret_queue_end = &modules->secret_queue;
        modules->scrub_next_ms = clock_get_ms() + SCRUB_FIRST_MS;

        if (!load_start(modules, err)) {
                modules->setup->registry = NULL;          /* the caller's again */
                modules_free(&modules);
                return false;
        }
        modules->sweep_timer = loop_timer_start(loop, SWEEP_MS, SWEEP_MS, sweep, modules);
        modules->touch_timer = loop_timer_start(loop, TOUCH_MS, 0, touch_now, modules);
        modules->is_touch_armed = true;
        links_init(modules);
        evict_check(modules);
        rejudge_rules(modules);
        *ret_modules = modules;
        return true;
}

bool modules_reload(struct modules *modules, struct fetch_client *fetch, struct registry *registry, const struct modules_options *options, struct error *err)
{
        ON_LOOP();
        (void)err;
        setup_unref(&modules->setup);
        modules->setup = setup_new(fetch, registry, options);
        refusals_clear(modules, NULL);
        verdicts_clear(modules->verdicts);        /* what is cached is judged again, by what holds now */
        rejudge_rules(modules);
        hosts_clear(modules);
        secrets_forget_principals(modules);
        modules->next_lease_sweep_ms = 0;
        evict_check(modules);
        flights_start(modules);
        return true;
}

void task_start(struct modules *modules, struct task *task, void (*run)(struct job *job), void (*done)(struct job *job))
{
        task->modules = modules;
        task->job = (struct job){ .run = run, .done = done };
        modules->tasks++;
        job_start(modules->loop, &task->job);
}

void task_end(struct modules *modules)
{
        modules->tasks--;
        modules_check_closed(modules);
}

static void closed_now(void *arg)
{
        struct modules *modules = arg;
        modules->closed(modules->closed_arg);
}

void modules_check_closed(struct modules *modules)
{
        if (!modules->is_closing || modules->is_closed || modules->tasks > 0 || modules->flight_count > 0)
                return;
        modules->is_closed = true;
        loop_post(modules->loop, closed_now, modules);
}

static void refuse_all(struct modules *modules)
{
        struct error err;
        refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        err.retry_after_s = 1;
        while (modules->all_waiters) {
                struct module_waiter *waiter = modules->all_waiters;
                if (waiter->explain)
                        waiter->explain(waiter, &err);
                else
                        waiter_refuse(waiter, &err);
        }
}

void modules_close(struct modules *modules, void (*closed)(void *arg), void *arg)
{
        ON_LOOP();
        modules->is_closing = true;
        modules->closed = closed;
        modules->closed_arg = arg;
        modules->tasks++;                         /* nothing is closed before this function has ended */
        refuse_all(modules);
        load_cancel(modules);
        flights_cancel(modules);
        secrets_cancel(modules);
        cancel_trigger(modules->verify_cancel);
        loop_timer_cancel(&modules->sweep_timer);
        loop_timer_cancel(&modules->touch_timer);
        links_close(modules);
        leases_save(modules);
        task_end(modules);
}

void modules_free(struct modules **modules_pointer)
{
        struct modules *modules = TAKE(*modules_pointer);
        if (!modules)
                return;
        loop_timer_cancel(&modules->sweep_timer);
        loop_timer_cancel(&modules->touch_timer);
        loop_timer_cancel(&modules->links.timer);
        load_free(modules);
        secrets_free(modules);
        catalog_fini(&modules->catalog);
        map_free(&modules->flights);
        map_free(&modules->refusals);
        map_free(&modules->hosts);
        map_free(&modules->promises);
        map_free(&modules->host_slots);
        events_fini(modules);
        buffer_fini(&modules->dirty);
        buffer_fini(&modules->ended);
        buffer_fini(&modules->used);
        rejudge_fini(modules);
        verdicts_free(&modules->verdicts);
        cancel_free(&modules->verify_cancel);
        setup_unref(&modules->setup);
        free(modules);
}
