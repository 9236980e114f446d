/* events: what happened to modules. Part of the door module.h; loop only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <wasmcached/base.h>

struct modules;

struct module_event {
        uint64_t number; int64_t wall_ms; const char *type;                /* pulled refused evicted removed quarantined progress reloaded … */
        const char *url, *sha256, *digest, *namespace, *code, *detail; uint64_t bytes; int64_t total;
};
struct module_listener;
/* Every event from now on; with `replay` those remembered first (last 1000, no progress). `namespace` NULL = all. */
struct module_listener *module_listen(struct modules *modules, const char *namespace, bool replay, void (*happened)(void *arg, const struct module_event *event), void *arg);
void module_unlisten(struct module_listener **listener);
void module_event_emit(struct modules *modules, const struct module_event *event);         /* for daemon: reloaded … */
