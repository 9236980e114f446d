/* reload: the configuration is read anew by a worker and applied on the loop, one after the other; who asks while one runs is answered by the next. */
#pragma once
#include <wasmcached/credential.h>
#include <wasmcached/fetch.h>
#include <wasmcached/loop.h>
#include <wasmcached/module.h>
#include <wasmcached/registry.h>
#include "config.h"

/* What pulls go through and what they must prove; read anew by each reload. */
struct transport {
        struct fetch_client *fetch; struct registry *registry; struct registry_tree *tree; struct credential_providers *providers;
        struct modules_trust trust;
};
struct reload_asker;
struct reload {
        struct loop *loop;
        const char *config_path;
        const struct config *running;             /* what the next one is compared with; not changed while a worker reads it */
        /* Loop. Takes what it uses of `next` and `transport`; false: nothing was changed. */
        bool (*apply)(void *arg, struct reload *reload, struct error *err);
        void (*idle)(void *arg);                  /* loop: none runs and nobody waits */
        void *arg;

        struct job job;
        bool is_running;
        struct reload_asker *asked, *waiting;     /* of the running one; of the next */
        struct config *next;
        struct config_changes changes;
        struct transport transport;
        struct error err;
        bool is_good;
};

/* Loop. done() comes later, once: {"applied": […], "needsRestart": […]} or the error; then nothing has changed. */
void reload_start(struct reload *reload, module_done done, void *done_arg);
/* Worker, or before the loop runs: reads CA files, keys of `trust:`, the folder of registries and the configuration of providers. The config must outlive it all;
   what was made is the transport's also when it fails. */
bool transport_init(struct config *config, struct transport *transport, struct error *err);
void transport_fini(struct transport *transport);
/* The registry becomes the modules', of the rest they keep references. */
void transport_to_modules_options(struct config *config, const struct transport *transport, struct modules_options *ret_options);
