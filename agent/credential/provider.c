/*
 * How it goes: every provider whose patterns fit the image is asked in the order of the configuration: its cache (image, registry, everything), a run under way for the same image,
 *              or a run of its own. All answers together are one keyring, as in the kubelet (pkg/credentialprovider/plugin/plugin.go).
 * How it fails: a provider that fails has no logins, is logged, and is asked again the next time; who waited for its run fails with it. A run whose caller was cancelled is begun
 *               again by one of those who wait.
 * How it ends: expired answers are dropped and wiped by the next look into the cache, all of them with the last reference.
 */
#include <stdlib.h>
#include <string.h>
#include "provider.h"

#define CACHE_MS_MAX (INT64_C(365) * 24 * 3600 * 1000)

enum { WAIT_MS = 1000 };

/* ---- answers; under the lock ---- */
static void answer_unref(struct provider_answer *answer)
{
        if (!answer || --answer->references > 0)
                return;
        docker_config_free(&answer->config);
        free(answer);
}

static struct provider_answer *answer_ref(struct provider_answer *answer)
{
        answer->references++;
        return answer;
}

static void cache_drop(struct provider *provider, size_t index)
{
        struct provider_cached *cached = &provider->cached[index];
        free(cached->key);
        answer_unref(cached->answer);
        *cached = provider->cached[--provider->cached_count];
        provider->cached[provider->cached_count] = (struct provider_cached){ 0 };
}

static void cache_drop_expired(struct provider *provider)
{
        int64_t now_ms = clock_get_ms();
        for (size_t i = provider->cached_count; i-- > 0;)
                if (provider->cached[i].expires_ms < now_ms)
                        cache_drop(provider, i);
}

static struct provider_cached *cache_find_key(struct provider *provider, enum provider_key type, const char *key)
{
        for (size_t i = 0; i < provider->cached_count; i++)
                if (provider->cached[i].key_type == type && strcmp(provider->cached[i].key, key) == 0)
                        return &provider->cached[i];
        return NULL;
}

static struct provider_answer *cache_find(struct provider *provider, const char *image, const char *host)
{
        const char *keys[PROVIDER_KEYS] = { image, host, "" };
        struct provider_cached *cached = NULL;
        cache_drop_expired(provider);
        for (size_t i = 0; i < PROVIDER_KEYS && !cached; i++)
                cached = cache_find_key(provider, (enum provider_key)i, keys[i]);
        return cached ? answer_ref(cached->answer) : NULL;
}

static void cache_keep(struct provider *provider, const char *image, const char *host, struct provider_answer *answer)
{
        const char *keys[PROVIDER_KEYS] = { image, host, "" };
        int64_t keep_ms = answer->cache_ms >= 0 ? answer->cache_ms : provider->cache_ms;
        if (keep_ms == 0)
                return;
        struct provider_cached *old = cache_find_key(provider, answer->key_type, keys[answer->key_type]);
        if (old)
                cache_drop(provider, (size_t)(old - provider->cached));
        if (provider->cached_count == PROVIDER_CACHE_MAX) {
                size_t first = 0;
                for (size_t i = 1; i < provider->cached_count; i++)
                        if (provider->cached[i].expires_ms < provider->cached[first].expires_ms)
                                first = i;
                cache_drop(provider, first);
        }
        provider->cached[provider->cached_count++] = (struct provider_cached){
                .key_type = answer->key_type, .key = string_copy(keys[answer->key_type]),
                .expires_ms = clock_get_ms() + (keep_ms < CACHE_MS_MAX ? keep_ms : CACHE_MS_MAX), .answer = answer_ref(answer),
        };
}

/* ---- runs; under the lock ---- */
static void run_unref(struct provider_run *run)
{
        if (--run->references > 0)
                return;
        answer_unref(run->answer);
        free(run->image);
        free(run);
}

static struct provider_run *run_find(const struct provider *provider, const char *image)
{
        struct provider_run *run = provider->runs;
        while (run && strcmp(run->image, image) != 0)
                run = run->next;
        return run;
}

static void wait_a_while(struct credential_providers *providers, int64_t deadline_ms)
{
        int64_t left_ms = deadline_ms > 0 ? deadline_ms - clock_get_ms() : WAIT_MS;
        struct timespec until;
        left_ms = left_ms < 0 ? 0 : left_ms < WAIT_MS ? left_ms : WAIT_MS;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += left_ms % 1000 * 1000000;
        until.tv_sec += left_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&providers->changed, &providers->lock, &until);
}

static bool run_wait(struct credential_providers *providers, struct provider_run *run, const struct credential_ask *ask, struct error *err)
{
        while (!run->is_done) {
                if (cancel_is_triggered(ask->cancel))
                        return refuse(err, ERROR_BUSY, "cancelled");
                if (ask->deadline_ms > 0 && clock_get_ms() >= ask->deadline_ms)
                        return refuse(err, ERROR_TIMEOUT, "it has not answered within the time of the pull");
                wait_a_while(providers, ask->deadline_ms);
        }
        return true;
}

static void waiters_wake(void *arg)
{
        struct credential_providers *providers = arg;
        pthread_mutex_lock(&providers->lock);
        pthread_cond_broadcast(&providers->changed);
        pthread_mutex_unlock(&providers->lock);
}

/* One question to one provider. */
struct query { struct credential_providers *providers; struct provider *provider; const struct credential_ask *ask; const char *image; };

/* Without the lock. */
static bool provider_call(const struct query *query, struct provider_answer **ret_answer, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer output = { 0 };
        const struct provider *provider = query->provider;
        CLEANUP(cleanup_free) char *request = provider_request_format(query->image, provider->api_version);
        struct provider_exec exec = { provider, request, query->ask->cancel, query->ask->deadline_ms, query->providers->timeout_ms };
        return provider_exec(&exec, &output, err) && provider_answer_read(output.data ? output.data : "", output.used, provider->api_version, ret_answer, err);
}

/* With the lock held, which is given up meanwhile. The run is the caller's to let go. */
static struct provider_run *run_do(const struct query *query)
{
        struct provider *provider = query->provider;
        struct provider_run *run = memory_new(1, sizeof *run), **at = &provider->runs;
        struct provider_answer *answer = NULL;
        struct error err = { 0 };
        *run = (struct provider_run){ .next = provider->runs, .image = string_copy(query->image), .references = 1 };
        provider->runs = run;
        pthread_mutex_unlock(&query->providers->lock);
        bool is_good = provider_call(query, &answer, &err);
        pthread_mutex_lock(&query->providers->lock);

        while (*at != run)
                at = &(*at)->next;
        *at = run->next;
        run->is_done = true;
        run->answer = answer;
        run->err = err;
        run->is_abandoned = !is_good && (err.code == ERROR_BUSY || err.code == ERROR_TIMEOUT);
        if (is_good)
                cache_keep(provider, query->image, query->ask->host, answer);
        pthread_cond_broadcast(&query->providers->changed);
        return run;
}

/* With the lock held. *ret_answer is referenced. */
static bool provider_get(const struct query *query, struct provider_answer **ret_answer, struct error *err)
{
        for (;;) {
                struct provider_answer *cached = cache_find(query->provider, query->image, query->ask->host);
                if (cached) {
                        *ret_answer = cached;
                        return true;
                }
                struct provider_run *run = run_find(query->provider, query->image);
                bool is_own = !run, is_over = true;
                if (is_own)
                        run = run_do(query);
                else {
                        run->references++;
                        is_over = run_wait(query->providers, run, query->ask, err);
                }
                bool is_again = is_over && !is_own && run->is_abandoned, is_good = is_over && run->answer;
                if (is_good)
                        *ret_answer = answer_ref(run->answer);
                else if (is_over)
                        *err = run->err;
                run_unref(run);
                if (!is_again)
                        return is_good;
        }
}

/* ---- asking ---- */
static bool provider_fits(const struct provider *provider, const struct credential_ask *ask)
{
        for (char **pattern = provider->patterns; *pattern; pattern++)
                if (keyring_index_key_fits(*pattern, ask->host, ask->path))
                        return true;
        return false;
}

static void trouble_note(const struct query *query, struct error *failed, struct error *trouble)
{
        refuse_within(failed, "credential provider %s", query->provider->name);
        LOG_WARN("credential_provider_failed", LOG_TEXT("provider", query->provider->name), LOG_TEXT("image", query->image), LOG_TEXT("detail", failed->text));
        if (trouble->code == ERROR_NONE)
                *trouble = *failed;
}

/* One provider's answer, NULL when it failed, which `trouble` tells; false when the caller is to end. */
static bool provider_ask(const struct query *query, struct provider_answer **ret_answer, struct error *trouble, struct error *err)
{
        struct error failed = { 0 };
        bool is_good = false;
        if (query->provider->wants_account) {
                refuse(&failed, ERROR_UPSTREAM_ERROR, "it was not run: tokenAttributes.requireServiceAccount is set, and wasmcached pulls for no pod's service account");
        } else {
                /* The waker is taken and given back without the lock: a cancel under way takes the lock. Who runs the program has it replaced meanwhile. */
                cancel_set_waker(query->ask->cancel, waiters_wake, query->providers);
                pthread_mutex_lock(&query->providers->lock);
                is_good = provider_get(query, ret_answer, &failed);
                pthread_mutex_unlock(&query->providers->lock);
                cancel_set_waker(query->ask->cancel, NULL, NULL);
        }
        if (!is_good && (failed.code == ERROR_BUSY || failed.code == ERROR_TIMEOUT)) {
                *err = failed;
                return refuse_within(err, "credential provider %s", query->provider->name);
        }
        if (!is_good)
                trouble_note(query, &failed, trouble);
        return true;
}

bool credential_providers_ask(struct credential_providers *providers, const struct credential_ask *ask, struct credential_found *ret_found, struct error *err)
{
        struct credential_found found = { 0 };
        CLEANUP(cleanup_free) struct provider_answer **answers = memory_new(providers->count + 1, sizeof *answers);
        CLEANUP(cleanup_free) const struct docker_config **configs = memory_new(providers->count + 1, sizeof *configs);
        CLEANUP(cleanup_free) char *image = string_format("%s/%s", ask->host, ask->path);
        bool is_good = true;
        for (size_t i = 0; is_good && i < providers->count; i++) {
                struct query query = { providers, providers->list[i], ask, image };
                is_good = !provider_fits(query.provider, ask) || provider_ask(&query, &answers[i], &found.trouble, err);
                configs[i] = answers[i] ? answers[i]->config : NULL;
        }
        if (is_good)
                keyring_find(configs, providers->count, ask->host, ask->path, &found.logins, &found.count);

        pthread_mutex_lock(&providers->lock);
        for (size_t i = 0; i < providers->count; i++)
                answer_unref(answers[i]);
        pthread_mutex_unlock(&providers->lock);
        if (is_good)
                *ret_found = found;
        return is_good;
}

void credential_found_fini(struct credential_found *found)
{
        logins_free(&found->logins, found->count);
        *found = (struct credential_found){ 0 };
}

/* ---- life ---- */
bool credential_providers_load(const struct credential_providers_options *options, struct credential_providers **ret_providers, struct error *err)
{
        CLEANUP(credential_providers_unref) struct credential_providers *providers = memory_new(1, sizeof *providers);
        pthread_condattr_t attributes;
        atomic_init(&providers->references, 1);
        providers->timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : PROVIDER_TIMEOUT_MS;
        pthread_mutex_init(&providers->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&providers->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        if (!provider_config_load(options, providers, err))
                return false;
        *ret_providers = TAKE(providers);
        return true;
}

struct credential_providers *credential_providers_ref(struct credential_providers *providers)
{
        if (providers)
                atomic_fetch_add(&providers->references, 1);
        return providers;
}

void credential_providers_unref(struct credential_providers **reference)
{
        struct credential_providers *providers = TAKE(*reference);
        if (!providers || atomic_fetch_sub(&providers->references, 1) != 1)
                return;
        for (size_t i = 0; i < providers->count; i++) {
                while (providers->list[i]->cached_count > 0)
                        cache_drop(providers->list[i], 0);
                provider_free(providers->list[i]);
        }
        free(providers->list);
        pthread_cond_destroy(&providers->changed);
        pthread_mutex_destroy(&providers->lock);
        free(providers);
}
