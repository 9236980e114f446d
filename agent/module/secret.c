/*
 * How it goes: what a named secret says is kept for a second, and no hit touches the disk; asked for later it is read again by a worker before anybody is answered, so a
 *              secret that changed or went away is noticed within a second. Before a pull or a refusal it is always read: who has just mended a secret is not told of the old
 *              one. The logins that fit a repository are worked out once per content of the secret.
 *              What modules_put_secret() gave is known without reading, and is never older than what was asked. What the Kubernetes API says is read again behind a hit, not
 *              before it: its own cache is older than a second anyway. What a registry did not take is read past that cache, once.
 * How it fails: a secret that cannot be read is kept as its error for the same second: missing is missing, also for what is in the cache. While the API cannot be asked, what
 *               it said before counts; a few workers at most wait for it.
 * How it ends: unused ones are swept after a minute; contents are counted, since flights may still read them.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/kube.h>
#include "modules.h"

enum { PRINCIPALS_MAX = 256 };

void keys_unref(struct keys **keys_pointer)
{
        struct keys *keys = TAKE(*keys_pointer);
        if (!keys || --keys->references > 0)
                return;
        docker_config_free(&keys->config);
        free(keys->coordinate);
        free(keys);
}

void principal_unref(struct principal **principal_pointer)
{
        struct principal *principal = TAKE(*principal_pointer);
        if (!principal || --principal->references > 0)
                return;
        logins_free(&principal->logins, principal->count);
        free(principal->macs);
        free(principal->coordinate);
        free(principal);
}

static void principal_release(void *value)
{
        struct principal *principal = value;
        principal_unref(&principal);
}

struct place { const char *url, *host, *path; };

static void principal_add(struct principal *principal, const struct modules *modules, const struct docker_config *config, const struct place *place, struct hasher *hasher)
{
        struct login *found = NULL;
        size_t count = 0;
        keyring_find(&config, 1, place->host, place->path, &found, &count);
        principal->logins = memory_resize(principal->logins, principal->count + count + 1, sizeof *principal->logins);
        principal->macs = memory_resize(principal->macs, principal->count + count + 1, sizeof *principal->macs);
        hasher_update(hasher, place->url, strlen(place->url) + 1);
        for (size_t i = 0; i < count; i++, principal->count++) {
                struct digest *mac = &principal->macs[principal->count];
                login_copy(&found[i], &principal->logins[principal->count]);
                login_fingerprint(&found[i], store_get_key(modules->store), STORE_KEY_BYTES, mac);
                hasher_update(hasher, mac->bytes, DIGEST_SHA256_BYTES);
        }
        logins_free(&found, count);
}

struct principal_making {
        struct principal *principal; const struct modules *modules; const struct docker_config *config; const struct reference *reference; struct hasher *hasher;
};

static void principal_add_mirror(void *arg, const char *url)
{
        const struct principal_making *making = arg;
        CLEANUP(cleanup_free) char *host = NULL, *path = NULL;
        mirror_split(url, making->reference->path, &host, &path);
        principal_add(making->principal, making->modules, making->config, &(struct place){ url, host, path }, making->hasher);
}

static struct principal *principal_new(const struct modules *modules, enum principal_kind kind, const struct docker_config *config, const struct module_want *want)
{
        struct principal *principal = memory_new(1, sizeof *principal);
        principal->references = 1;
        principal->kind = kind;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        const struct reference *reference = &want->reference;
        if (want->kind == WANT_OCI)
                mirrors_visit(&modules->setup->options, reference->host, principal_add_mirror, &(struct principal_making){ principal, modules, config, reference, hasher });
        if (want->kind == WANT_OCI)
                principal_add(principal, modules, config, &(struct place){ "", reference->host, reference->path }, hasher);
        hasher_finish(hasher, &principal->fingerprint);
        return principal;
}

/* ---- reading ---- */

static void secret_take(struct secret_state *state)
{
        struct digest fingerprint;
        CLEANUP(cleanup_free) char *coordinate = TAKE(state->loaded_coordinate);
        bool was_given = state->given_serial != 0;
        state->given_serial = 0;
        if (!state->is_loaded && !was_given && state->keys && state->keys->coordinate && state->loaded_err.code != ERROR_SECRET_MISSING)
                return;                           /* the API cannot be asked */
        if (!state->is_loaded) {
                state->err = state->loaded_err;
                state->modules->stats.secret_errors++;
                keys_unref(&state->keys);
                map_free(&state->principals);
                return;
        }
        docker_config_fingerprint(state->loaded, store_get_key(state->modules->store), STORE_KEY_BYTES, &fingerprint);
        state->err = (struct error){ 0 };
        if (state->keys && digest_equal(&fingerprint, &state->keys->fingerprint) && string_equal(coordinate, state->keys->coordinate)) {
                docker_config_free(&state->loaded);
                return;
        }
        keys_unref(&state->keys);
        map_free(&state->principals);
        state->keys = memory_new(1, sizeof *state->keys);
        *state->keys = (struct keys){ .references = 1, .config = TAKE(state->loaded), .fingerprint = fingerprint, .coordinate = TAKE(coordinate) };
}

static void waiter_go_on(struct module_waiter *waiter, const struct secret_state *state)
{
        const struct untaken *untaken = waiter->untaken;
        if (untaken && untaken->err.code && state->keys && digest_equal(&state->keys->fingerprint, &untaken->fingerprint)) {
                struct error err = untaken->err;  /* there is nothing newer */
                waiter_refuse_pull(waiter, &err);
                return;
        }
        if (untaken)
                waiter->untaken->err.code = ERROR_NONE;
        waiter_step(waiter);
}

static void secret_run(struct job *job)
{
        secret_read(CONTAINER_OF(job, struct secret_state, job));
}

static void secret_done(struct job *job);

static void reading_begin(struct secret_state *state)
{
        state->job = (struct job){ .run = secret_run, .done = secret_done };
        state->rereads = state->wants_reread;
        state->wants_reread = false;
        state->modules->tasks++;
        state->modules->secret_readers += state->setup->options.kube != NULL;
        job_start(state->modules->loop, &state->job);
}

static void reading_end(struct secret_state *state)
{
        struct modules *modules = state->modules;
        modules->secret_readers -= state->setup->options.kube != NULL;
        setup_unref(&state->setup);
        cancel_free(&state->cancel);
        while (modules->secret_queue && modules->secret_readers < SECRET_READERS_MAX) {
                struct secret_state *next = modules->secret_queue;
                modules->secret_queue = next->queue_next;
                if (!modules->secret_queue)
                        modules->secret_queue_end = &modules->secret_queue;
                next->is_queued = false;
                reading_begin(next);
        }
}

static void secret_start(struct modules *modules, struct secret_state *state)
{
        if (state->is_loading)
                return;
        state->is_loading = true;
        state->loaded_sequence = modules->sequence;
        state->setup = setup_ref(modules->setup);
        state->cancel = cancel_new();
        if (!state->setup->options.kube || modules->secret_readers < SECRET_READERS_MAX) {
                reading_begin(state);
                return;
        }
        state->is_queued = true;
        state->queue_next = NULL;
        *modules->secret_queue_end = state;
        modules->secret_queue_end = &state->queue_next;
}

static void secret_done(struct job *job)
{
        struct secret_state *state = CONTAINER_OF(job, struct secret_state, job);
        struct modules *modules = state->modules;
        struct waiter_list waiting = { 0 };
        state->is_loading = false;
        state->loaded_ms = clock_get_ms();
        secret_take(state);
        reading_end(state);
        if (state->wants_reread && !modules->is_closing)
                secret_start(modules, state);     /* somebody came with what this reading may have been too early for */
        else
                waiters_take(&state->waiting, &waiting);
        while (waiting.head) {
                struct module_waiter *waiter = waiting.head;
                waiter_leave(waiter);
                waiter_go_on(waiter, state);
        }
        task_end(modules);
}

/* Those that run are told to hurry, those that wait for their turn have nobody left. */
void secrets_cancel(struct modules *modules)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->secrets, &position, &key, &key_bytes, &value)) {
                struct secret_state *state = value;
                if (state->is_loading && !state->is_queued)
                        cancel_trigger(state->cancel);
                if (!state->is_queued)
                        continue;
                state->is_queued = state->is_loading = false;
                setup_unref(&state->setup);
                cancel_free(&state->cancel);
        }
        modules->secret_queue = NULL;
        modules->secret_queue_end = &modules->secret_queue;
}

static struct secret_state *secret_state_get(struct modules *modules, const char *namespace, const char *name)
{
        CLEANUP(cleanup_free) char *key = string_format("%s/%s", namespace, name);
        struct secret_state *state = map_get_text(modules->secrets, key);
        if (state)
                return state;

        state = memory_new(1, sizeof *state);
        state->modules = modules;
        state->key = TAKE(key);
        state->namespace = string_copy(namespace);
        state->name = string_copy(name);
        map_put_text(modules->secrets, state->key, state);
        return state;
}

bool secret_reread(struct modules *modules, struct module_waiter *waiter, const struct keys *keys, const struct error *err)
{
        if (!keys || !keys->coordinate || waiter->untaken || modules->is_closing)
                return false;
        struct secret_state *state = secret_state_get(modules, waiter->ask.namespace, waiter->ask.want->secret_name);
        waiter->untaken = memory_new(1, sizeof *waiter->untaken);
        *waiter->untaken = (struct untaken){ .fingerprint = keys->fingerprint, .err = *err };
        waiter_join(waiter, &state->waiting);
        state->used_ms = clock_get_ms();
        state->wants_reread = true;
        secret_start(modules, state);
        return true;
}

/* ---- given ---- */

void given_free(void *pointer)
{
        struct given *given = pointer;
        keys_unref(&given->keys);
        free(given);
}

void modules_put_secret(struct modules *modules, const char *namespace, const char *name, struct docker_config *config, const struct error *err)
{
        ON_LOOP();
        CLEANUP(cleanup_free) char *key = string_format("%s/%s", namespace, name);
        struct given *given = memory_new(1, sizeof *given);
        given->serial = ++modules->given_serial;
        if (config) {
                given->keys = memory_new(1, sizeof *given->keys);
                *given->keys = (struct keys){ .references = 1, .config = config };
                docker_config_fingerprint(config, store_get_key(modules->store), STORE_KEY_BYTES, &given->keys->fingerprint);
        } else
                given->err = *err;
        map_put_text(modules->given, key, given);
}

void modules_remove_secret(struct modules *modules, const char *namespace, const char *name)
{
        ON_LOOP();
        CLEANUP(cleanup_free) char *key = string_format("%s/%s", namespace, name);
        struct secret_state *state = map_get_text(modules->secrets, key);
        if (map_remove_text(modules->given, key) && state)
                state->loaded_ms = 0;                     /* now it is what secrets_dir says */
}

/* True: the state is what was given. */
static bool given_take(struct modules *modules, struct secret_state *state)
{
        const struct given *given = map_get_count(modules->given) > 0 ? map_get_text(modules->given, state->key) : NULL;
        if (!given)
                return false;
        if (state->given_serial == given->serial)
                return true;
        keys_unref(&state->keys);
        map_free(&state->principals);
        state->given_serial = given->serial;
        state->keys = given->keys;
        if (state->keys)
                state->keys->references++;
        else
                modules->stats.secret_errors++;
        state->err = given->err;
        return true;
}

enum secret_answer secret_get(struct modules *modules, const struct ask *ask, struct principal **ret_principal, struct secret_state **ret_state, struct error *err)
{
        const struct module_want *want = ask->want;
        if (want->inline_config) {
                *ret_principal = principal_new(modules, PRINCIPAL_INLINE, want->inline_config, want);
                return SECRET_READY;
        }
        if (!want->secret_name) {
                *ret_principal = NULL;
                return SECRET_READY;
        }

        int64_t now_ms = clock_get_ms();
        struct secret_state *state = secret_state_get(modules, ask->namespace, want->secret_name);
        *ret_state = state;
        state->used_ms = now_ms;
        bool is_fresh = given_take(modules, state) || (!state->is_loading && state->loaded_ms != 0 && now_ms - state->loaded_ms < SECRET_FRESH_MS);
        if (!is_fresh)
                secret_start(modules, state);
        if (!is_fresh && (!state->keys || !state->keys->coordinate))
                return SECRET_LOADING;
        if (!state->keys) {
                *err = state->err;
                return SECRET_REFUSED;
        }

        struct principal *known = state->principals ? map_get_text(state->principals, want->repository) : NULL;
        if (!known) {
                if (state->principals && map_get_count(state->principals) >= PRINCIPALS_MAX)
                        map_free(&state->principals);
                if (!state->principals)
                        state->principals = map_new(principal_release);
                known = principal_new(modules, PRINCIPAL_SECRET, state->keys->config, want);
                known->coordinate = string_copy(state->keys->coordinate);
                map_put_text(state->principals, want->repository, known);
        }
        known->references++;
        *ret_principal = known;
        return SECRET_READY;
}

bool secret_renew(struct modules *modules, const struct ask *ask, struct secret_state **ret_state)
{
        if (ask->want->inline_config || !ask->want->secret_name)
                return false;
        struct secret_state *state = secret_state_get(modules, ask->namespace, ask->want->secret_name);
        if (given_take(modules, state) || (state->loaded_ms != 0 && state->loaded_sequence >= ask->sequence))
                return false;
        secret_start(modules, state);
        *ret_state = state;
        return true;
}

struct keys *secret_get_keys(struct modules *modules, const struct ask *ask)
{
        if (!ask->want->secret_name)
                return NULL;
        struct secret_state *state = secret_state_get(modules, ask->namespace, ask->want->secret_name);
        if (state->keys)
                state->keys->references++;
        return state->keys;
}

/* ---- letting go ---- */

static void secret_state_free(struct secret_state *state)
{
        keys_unref(&state->keys);
        kube_secret_unref(&state->used);
        cancel_free(&state->cancel);
        map_free(&state->principals);
        free(state->key);
        free(state->namespace);
        free(state->name);
        free(state);
}

static void secrets_drop(struct modules *modules, int64_t used_before_ms)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->secrets, &position, &key, &key_bytes, &value)) {
                struct secret_state *state = value;
                if (state->is_loading || state->waiting.head || state->used_ms >= used_before_ms)
                        continue;
                map_remove_text(modules->secrets, state->key);
                secret_state_free(state);
        }
}

void secrets_sweep(struct modules *modules, int64_t now_ms)
{
        secrets_drop(modules, now_ms - SECRET_KEEP_MS);
}

/* The mirrors may be others now, and with them what fits. */
void secrets_forget_principals(struct modules *modules)
{
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(modules->secrets, &position, &key, &key_bytes, &value))
                map_free(&((struct secret_state *)value)->principals);
}

void secrets_free(struct modules *modules)
{
        secrets_drop(modules, INT64_MAX);
        map_free(&modules->given);
        map_free(&modules->secrets);
}
