/*
 * cluster: the Kubernetes API as a source of plugins and of this node's Pods: listed, watched, and both remembered over a restart. Part of the door plugin.h; loop only,
 * workers do the waiting.
 */
#pragma once
#include <wasmcached/plugin/keeper.h>

struct cluster; struct kube;

enum { CLUSTER_WORKERS = 4 };             /* of the loop that it occupies for as long as it is open: three watches, and who writes Events */

struct cluster_options {
        struct loop *loop;                /* borrowed, as are modules, keeper and kube, until cluster_free() */
        struct modules *modules;
        struct keeper *keeper;
        struct kube *kube;
        const char *node;                 /* copied; whose Pods are watched. NULL or "" = none */
        bool writes_events;               /* on what it gave: pulled, refused, recovered */
        const char *folder;               /* copied; where files with what was listed last are kept; made if it is not there */
};
/* Starts listing; the keeper waits for the plugins, unless those of before the restart are known. The server need not be there. */
struct cluster *cluster_new(const struct cluster_options *options) __attribute__((returns_nonnull));
/* closed(arg) once no worker has it any more; then cluster_free(). What was put in place stays the keeper's. */
void cluster_close(struct cluster *cluster, void (*closed)(void *arg), void *arg);
void cluster_free(struct cluster **cluster);
