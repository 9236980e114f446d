/* secrets: pull secrets that somebody else reads (manifests, the API server). Part of the door module.h; loop only. */
#pragma once
#include <wasmcached/base.h>

struct modules; struct docker_config;

/* What a pull secret says; goes before secrets_dir. `config` is taken; NULL: `err` is what those who name the secret are told. */
void modules_put_secret(struct modules *modules, const char *namespace, const char *name, struct docker_config *config, const struct error *err);
void modules_remove_secret(struct modules *modules, const char *namespace, const char *name);
