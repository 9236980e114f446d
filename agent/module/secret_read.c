/*
 * How it goes: a worker reads one pull secret: by name from the Kubernetes API where there is one, through its cache of minutes, else (or if it is not there, or may not be
 *              read) from secrets_dir. What manifests give has gone before and is not read here.
 * How it fails: not there, forbidden, of another type, empty: secret_missing with the Secret's name and what lacks. An API that cannot be asked is its own error and never a reason
 *               to look elsewhere: which credential is used must not depend on the weather.
 * How it ends: the config is the loop's; the Secret's bytes stay in the cache and in `used`, counted, and are wiped with the last reference.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/kube.h>
#include "modules.h"

/* Another uid under the same name is another principal ([oci] 4.5): grants are kept under both. '@' is in no Secret's name. */
static char *coordinate_of(const char *name, const struct kube_secret *secret)
{
        return string_format("%s@%s", name, kube_secret_get_uid(secret));
}

size_t coordinate_name_length(const char *coordinate)
{
        return strcspn(coordinate, "@");
}

static bool cluster_fetch(const struct secret_state *state, struct kube_secret **ret_secret, struct error *err)
{
        const struct modules_options *options = &state->setup->options;
        struct kube_call call = { options->kube, state->cancel, 0 };
        if (!state->rereads || !state->used)
                return kube_secrets_fetch(options->kube_secrets, &call, state->namespace, state->name, ret_secret, err);
        if (kube_secrets_fetch_newer(options->kube_secrets, &call, state->used, ret_secret, err))
                return true;
        if (err->code != ERROR_NONE)
                return false;
        *ret_secret = kube_secret_ref(state->used);       /* still the same */
        return true;
}

/* True: that is the answer, good or bad. False: it is not there, err says how. */
static bool cluster_read(struct secret_state *state, struct error *err)
{
        CLEANUP(kube_secret_unref) struct kube_secret *secret = NULL;
        const struct secret *config = NULL;
        bool is_legacy = false;
        struct error inner = { 0 };
        kube_secrets_purge(state->setup->options.kube_secrets);
        if (!cluster_fetch(state, &secret, err)) {
                state->loaded_err = *err;
                return err->code != ERROR_SECRET_MISSING;
        }
        if (!kube_secret_get_docker_config(secret, &config, &is_legacy, &inner)) {
                state->loaded_err = inner;
                return true;
        }
        state->is_loaded = docker_config_parse(secret_get_text(config), secret_get_size(config), is_legacy ? DOCKER_CONFIG_LEGACY : DOCKER_CONFIG_JSON, &state->loaded, &inner);
        if (!state->is_loaded) {
                refuse_within(&inner, "Secret %s/%s", state->namespace, state->name);
                state->loaded_err = inner;
                return true;
        }
        kube_secret_unref(&state->used);
        state->loaded_coordinate = coordinate_of(state->name, secret);
        state->used = TAKE(secret);
        return true;
}

void secret_read(struct secret_state *state)
{
        ON_WORKER();
        const struct modules_options *options = &state->setup->options;
        struct error err = { 0 };
        state->loaded_err = (struct error){ 0 };
        state->is_loaded = false;
        if (options->kube && cluster_read(state, &err))
                return;
        if (options->kube && !*options->secrets_dir)
                return;
        struct error folder_err = { 0 };
        state->is_loaded = credential_load_secret(options->secrets_dir, state->namespace, state->name, &state->loaded, &folder_err);
        if (!state->is_loaded && options->kube)
                refuse(&state->loaded_err, ERROR_SECRET_MISSING, "%.360s; nor does secrets_dir have it: %.360s", err.text, folder_err.text);
        else
                state->loaded_err = folder_err;
}
