/* keeper: its parts, private to keeper.c (what is needed and its state), hold.c (asking and leases), workloads.c (who needs) and news.c. Loop only. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include <wasmcached/plugin/keeper.h>

enum {
        KEEPER_RUNNING_MAX = 2048, KEEPER_TENANT_PART = 4, KEEPER_HOST_MAX = 16,
        KEEPER_SLICE_US = 500, KEEPER_TICK_MS = 250, KEEPER_BACKOFF_FIRST_MS = 10000, KEEPER_BACKOFF_MAX_MS = 300000, KEEPER_GRACE_MS = 3000,
        KEEPER_ASKED_MAX = 1024, KEEPER_ASKED_KEEP_MS = 3600000, KEEPER_SWEEP_MS = 10000, KEEPER_LEASE_ID_BYTES = 40,
};

/* One namespace: its folder of hand-outs, and how many modules its own plugins are waiting for. */
struct folder { char *namespace; uint64_t revision; unsigned running; size_t users; /* items that name it */ };
/* One host that plugins of one namespace are pulled from. */
struct source_host { char *key; size_t key_bytes, users; unsigned running; };
/* A lease, shared by all items that were given it. */
struct held { char id[KEEPER_LEASE_ID_BYTES]; unsigned count; int64_t renewed_ms, length_ms, let_go_ms; /* 0 = somebody needs it */ };

/* One plugin's module in one folder. */
struct item {
        struct keeper *keeper;
        struct kept *kept; struct item *next;              /* of the same plugin */
        struct folder *folder, *tenant;                    /* tenant: of the plugin itself */
        struct source_host *host;
        enum plugin_progress progress;
        bool is_queued, is_running, told_refused;          /* the last: nobody has been told of a recovery since */
        struct module_waiter *waiter;
        struct item *queue_next;
        struct held *held;
        char sha256[DIGEST_TEXT_BYTES]; char *digest;      /* of what is held; "" = nothing */
        enum error_code code; char *detail;                /* of the last try, if it failed */
        unsigned failures;
        int64_t due_ms, since_s;                           /* next try, 0 = none; in this state since */
        uint64_t round;                                    /* of the last one that needed it */
};
struct kept { struct plugin *plugin; struct item *items; };

struct pods_source { char *name; struct plugin_pod **pods; size_t count; };
struct asked { char *key; size_t key_bytes; struct plugin_workload workload; int64_t asked_ms; };

struct keeper {
        struct keeper_options options;
        char *root_namespace, *node;
        struct plugins *plugins;
        struct map *kept;                                  /* by the plugin's address */
        struct map *folders, *hosts, *held;
        struct item *queue, **queue_end;
        size_t item_count;
        unsigned running, running_max, tenant_max;
        struct module_listener *listener;
        struct loop_timer *work, *tick, *note;
        bool is_ticking, is_closing;
        struct map *expected, *troubles;                   /* sources that have not arrived; why one cannot be read now */
        struct map *pod_sources, *pods_by_uid, *pods_by_mirror, *pods_by_container, *asked;
        const struct plugin_pod **pods; size_t pod_count;
        char *pods_told_by; bool pods_have_come;           /* the source that tells of Pods as they start; NULL: none does */
        bool round_wanted, round_runs; uint64_t round; size_t round_at, round_pods; struct asked **round_asked; size_t round_asked_count;
        bool has_forgotten; int64_t next_sweep_ms;         /* an asker: what it needed goes with the next sweep */
        uint64_t revision;                                 /* the last one that a folder had: those that come back have no old one again */
        struct keeper_watch *watches;
        void (*told)(void *arg, const struct keeper_news *news); void *told_arg;
        struct map *untold, *spaces;                       /* refused plugins that concerned nobody yet, by address; namespaces of the workloads that the round has come by */
        size_t untold_unplaced;
        size_t resources[3];
        uint64_t pulled, failed;
};

/* keeper.c */
void keeper_changed(struct keeper *keeper, struct folder *folder);          /* tells watches; folder NULL = resources */
void item_need(struct keeper *keeper, const struct plugin *plugin, const char *namespace);
void items_sweep(struct keeper *keeper);                                    /* those that the round did not need */
void item_count_running(struct item *item, int more);                       /* 1 or -1, wherever it counts */
void keeper_work(struct keeper *keeper);                                    /* soon */

/* news.c */
void keeper_tell(struct keeper *keeper, const struct keeper_news *news);     /* fills in `concerns` */
void resource_news(struct keeper *keeper, const struct plugin *before, const struct plugin *after);
bool news_are_waiting(const struct keeper *keeper);
void news_come_by(struct keeper *keeper, const struct plugin_workload *workload, const struct plugin_chain *chain);       /* a workload and what selects it */
void news_round_over(struct keeper *keeper);
void news_init(struct keeper *keeper);
void news_free(struct keeper *keeper);

/* hold.c */
void item_queue(struct item *item);
bool queue_start(struct keeper *keeper);                                    /* false: there is more to do */
void item_stop(struct item *item);                                          /* no longer asks or waits */
void item_let_go(struct item *item);
void holds_tick(struct keeper *keeper, int64_t now_ms);
void holds_happened(void *arg, const struct module_event *event);
void item_set_state(struct item *item, enum plugin_progress progress, const struct error *err);     /* err NULL = well */

/* workloads.c */
void round_want(struct keeper *keeper);
bool workloads_include(const struct keeper *keeper, const struct plugin *plugin);           /* one that it selects, or may if it cannot be placed */
bool round_step(struct keeper *keeper);                                     /* false: there is more to do */
void asked_sweep(struct keeper *keeper, int64_t now_ms);
void workloads_init(struct keeper *keeper);
void workloads_free(struct keeper *keeper);

/* pods.c */
void pods_index_clear(struct keeper *keeper);
void pods_index_put(struct keeper *keeper, const struct plugin_pod *pod);
void pods_index_free(struct keeper *keeper);
