/*
 * keeper: which plugins this node's workloads need, and their modules: asked for, held by a lease, kept fresh, let go. Sources (manifests, the API server) put plugins, Pods
 * and Secrets in; api and xds read chains and states out. Part of the door plugin.h; loop only.
 */
#pragma once
#include <wasmcached/plugin.h>

struct keeper; struct kube_cgroup; struct loop; struct modules;

struct keeper_options {
        struct loop *loop;                /* borrowed, both */
        struct modules *modules;
        const char *root_namespace;       /* copied; NULL = "istio-system" */
        const char *node;                 /* copied; Pods that name another node are not ours. NULL or "" = all are */
        bool pulls_ahead;                 /* for Pods, before anybody asks */
        unsigned waiting_max;             /* modules waited for at the same time; a quarter of them for the plugins of one namespace, 16 of one host. 0 = 2048, the most */
};
struct keeper *keeper_new(const struct keeper_options *options) __attribute__((returns_nonnull));
void keeper_set_ahead(struct keeper *keeper, bool pulls_ahead);
/* The rules of the node have changed: every module is asked for again; what is refused now is not held on to. */
void keeper_refresh(struct keeper *keeper);
void keeper_close(struct keeper *keeper);                          /* waits for nothing and asks for nothing any more; leases stay, for the next life. Before modules_close() */
void keeper_free(struct keeper **keeper);
struct plugins *keeper_get_plugins(struct keeper *keeper);         /* to put resources in, and to read them */
const char *keeper_get_root_namespace(const struct keeper *keeper);

/* ---- sources ---- */
/* Until each source that is expected has arrived, nothing may be said about chains: an empty one opens every AUTHZ. */
void keeper_expect(struct keeper *keeper, const char *source);
void keeper_arrive(struct keeper *keeper, const char *source);
void keeper_note_trouble(struct keeper *keeper, const char *source, const char *why);       /* why it cannot be read now; NULL = it can */
bool keeper_is_ready(const struct keeper *keeper, struct error *err);      /* ERROR_BUSY that names what has not been read */
/* A Secret of this namespace is another one now: what failed there is tried at once. */
void keeper_note_secret(struct keeper *keeper, const char *namespace);

/* uid, service_account, node, mirror_hash may be NULL; the last is the config hash of the static pod that this one stands for. containers: ids that its status lists, 64 hex. */
struct plugin_pod { char *namespace, *name, *uid, *service_account, *node, *mirror_hash, **containers; struct plugin_label *labels; size_t label_count, container_count; };
void plugin_pod_free(struct plugin_pod **pod);
/* All Pods of a source, taken over; count 0 forgets it. One Pod (namespace, name) from two sources: as with plugins (plugin_compare_sources). */
void keeper_put_pods(struct keeper *keeper, const char *source, struct plugin_pod *const *pods, size_t count);
/* One of a source's: added or replaced (taken over), and gone. */
void keeper_put_pod(struct keeper *keeper, const char *source, struct plugin_pod *pod);
void keeper_remove_pod(struct keeper *keeper, const char *source, const char *namespace, const char *name);
const struct plugin_pod *keeper_find_pod(const struct keeper *keeper, const char *uid);            /* borrowed until the next change; NULL: none, or more than one */
/* Whose process it is that runs in this cgroup. Borrowed as above; NULL with ERROR_DENIED: no Pod known here, or the container is listed for another one; ERROR_BUSY: none is
   known, but the Pods that are expected have not come, or their source cannot be read now. */
const struct plugin_pod *keeper_find_pod_of(const struct keeper *keeper, const struct kube_cgroup *cgroup, struct error *err);
size_t keeper_get_pod_count(const struct keeper *keeper);
/* This source tells of Pods as they start. Until it has arrived once, one that is not known is not said to be none. */
void keeper_expect_pods(struct keeper *keeper, const char *source);
void keeper_arrive_pods(struct keeper *keeper, const char *source);
/* Such a source has arrived, and the Pod of this cgroup is not known: it may have started a moment ago. */
bool keeper_may_learn_of(const struct keeper *keeper, const struct kube_cgroup *cgroup);

/* ---- states ---- */
/* This workload asks: what it needs is kept from now on, until it has not asked for an hour. Labels sorted by key. */
void keeper_ask(struct keeper *keeper, const struct plugin_workload *workload);
/* Of a plugin in the folder of this namespace. Texts borrowed until the next turn of the loop. While pulling, sha256 may be that of what the plugin named before. */
struct keeper_status { enum plugin_progress progress; const char *sha256, *digest, *detail; enum error_code code; int64_t since_s; };
void keeper_get_status(const struct keeper *keeper, const struct plugin *plugin, const char *namespace, struct keeper_status *ret_status);
/* Another one after each change of a state in that namespace's folder; whether resources changed, the chain's own revision says. */
uint64_t keeper_get_revision(const struct keeper *keeper, const char *namespace);

/* What happened to a plugin, for those who tell others; texts borrowed for the call. REFUSED: a field (code of the first problem) or its module; RECOVERED: what was refused is not
   any more. `concerns`: a workload that is known here is selected by it, or no Pods are known of. One teller; told NULL = none. */
enum keeper_happening { KEEPER_PULLED, KEEPER_REFUSED, KEEPER_RECOVERED };
struct keeper_news { enum keeper_happening happening; const struct plugin *plugin; bool is_of_module, concerns; const char *code, *detail, *sha256; };
void keeper_set_teller(struct keeper *keeper, void (*told)(void *arg, const struct keeper_news *news), void *arg);

struct keeper_watch;
struct keeper_watch *keeper_watch_start(struct keeper *keeper, void (*changed)(void *arg), void *arg);         /* in a later turn, once for many changes */
void keeper_watch_cancel(struct keeper_watch **watch);

struct keeper_stats {
        size_t resources[3], modules[3];  /* by enum plugin_state; by enum plugin_progress, each folder counts */
        size_t workloads, pods, troubles; /* troubles: sources that cannot be read now */
        uint64_t pulled, failed;
};
void keeper_get_stats(const struct keeper *keeper, struct keeper_stats *ret_stats);
