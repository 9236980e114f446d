/* manifests: a folder of YAML files as a source of plugins, Secrets and Pods, watched. Part of the door plugin.h; loop only, files are read by workers. */
#pragma once
#include <wasmcached/plugin/keeper.h>

struct manifests;
struct manifests_options { struct loop *loop; struct modules *modules; struct keeper *keeper; const char *folder; };       /* borrowed; folder copied */
/* Starts reading; the keeper waits for it. A folder that is not there yet is looked for until it is. */
struct manifests *manifests_new(const struct manifests_options *options) __attribute__((returns_nonnull));
/* closed(arg) once no worker has the folder any more; then manifests_free(). */
void manifests_close(struct manifests *manifests, void (*closed)(void *arg), void *arg);
void manifests_free(struct manifests **manifests);
