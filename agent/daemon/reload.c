/*
 * How it goes: a worker reads the file, checks it, compares it with what runs and makes the new transport; the loop applies what came out, or tells why not.
 * How it fails: all or nothing: an error leaves the running configuration as it is, and every asker is told.
 * How it ends: everybody who asked is answered once; what was not taken is freed.
 */
#include <stdlib.h>
#include "reload.h"

struct reload_asker { struct reload_asker *next; module_done done; void *arg; };

void transport_fini(struct transport *transport)
{
        registry_free(&transport->registry);
        fetch_client_unref(&transport->fetch);
        registry_tree_unref(&transport->tree);
        credential_providers_unref(&transport->providers);
        config_trust_fini(&transport->trust);
}

bool transport_init(struct config *config, struct transport *transport, struct error *err)
{
        ON_WORKER();
        struct fetch_options fetch_options;
        struct registry_options registry_options;
        struct credential_providers_options provider_options = { .config = config->credentials.provider_config, .bin_dir = config->credentials.provider_bin_dir };

        config_to_fetch_options(config, &fetch_options);
        config_to_registry_options(config, &registry_options);
        if (!config_load_trust(config, &transport->trust, err) || !fetch_client_new(&fetch_options, &transport->fetch, err))
                return false;
        if (*config->registries_dir && !registry_tree_load(config->registries_dir, &transport->tree, err))
                return false;
        if (*provider_options.config && !credential_providers_load(&provider_options, &transport->providers, err))
                return refuse_within(err, "credentials.provider_config");
        transport->registry = registry_new(transport->fetch, &registry_options);
        return true;
}

void transport_to_modules_options(struct config *config, const struct transport *transport, struct modules_options *ret_options)
{
        config_to_modules_options(config, &transport->trust, ret_options);
        ret_options->tree = transport->tree;
        ret_options->providers = transport->providers;
}

static void reload_run(struct job *job)
{
        ON_WORKER();
        struct reload *reload = CONTAINER_OF(job, struct reload, job);
        reload->is_good = config_load(reload->config_path, &reload->next, &reload->err) && config_reload(reload->running, reload->next, &reload->changes, &reload->err) &&
                          transport_init(reload->next, &reload->transport, &reload->err);
}

static void result_free(struct reload *reload)
{
        transport_fini(&reload->transport);
        config_changes_fini(&reload->changes);
        config_free(&reload->next);
}

static void reload_begin(struct reload *reload);

static void reload_done(struct job *job)
{
        struct reload *reload = CONTAINER_OF(job, struct reload, job);
        CLEANUP(buffer_fini) struct buffer told = { 0 };
        struct reload_asker *asker = TAKE(reload->asked);
        struct error err = reload->err;

        bool is_good = reload->is_good && reload->apply(reload->arg, reload, &err);
        if (is_good)
                config_changes_print_json(&reload->changes, &told);
        result_free(reload);
        reload->is_running = false;
        while (asker) {
                struct reload_asker *next = asker->next;
                asker->done(asker->arg, is_good ? told.data : NULL, is_good ? NULL : &err);
                free(asker);
                asker = next;
        }
        if (reload->waiting && !reload->is_running)
                reload_begin(reload);
        else if (!reload->is_running)
                reload->idle(reload->arg);
}

static void reload_begin(struct reload *reload)
{
        reload->is_running = true;
        reload->asked = TAKE(reload->waiting);
        reload->err = (struct error){ 0 };
        reload->job = (struct job){ .run = reload_run, .done = reload_done };
        job_start(reload->loop, &reload->job);
}

void reload_start(struct reload *reload, module_done done, void *done_arg)
{
        ON_LOOP();
        struct reload_asker *asker = memory_new(1, sizeof *asker), **at = &reload->waiting;
        *asker = (struct reload_asker){ .done = done, .arg = done_arg };
        while (*at)
                at = &(*at)->next;
        *at = asker;
        if (!reload->is_running)
                reload_begin(reload);
}
