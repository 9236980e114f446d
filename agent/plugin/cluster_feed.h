/* cluster_feed: one kind of object from the API server, from its watch on a worker to the loop that puts it in place. Private to cluster.c and cluster_apply.c. */
#pragma once
#include <stdatomic.h>
#include <wasmcached/kube.h>
#include <wasmcached/loop.h>
#include <wasmcached/plugin/cluster.h>
#include "remember.h"

enum { BATCH = 128, FEEDS = 3 };

struct feed_kind { const char *source; struct kube_kind kind; enum plugin_kind plugin; };

/* What a worker hands over. `object` is in `owned`; NULL with a change to something: it could not be read, `problem` says why. */
struct item { enum kube_change change; char *namespace, *name, *problem; struct value *owned; const struct value *object; };
enum delivery_kind { DELIVERY_BEGIN, DELIVERY_ITEMS, DELIVERY_COMMIT, DELIVERY_ABANDON, DELIVERY_STATE };
struct delivery {
        struct job job;                           /* of freeing it */
        struct delivery *next;
        struct feed *feed;
        enum delivery_kind kind;
        bool is_remembered;                       /* a list of before the restart */
        enum kube_watch_state state; struct error err;
        struct item items[BATCH]; size_t item_count, size_bytes;       /* of their texts */
};

struct feed {
        struct cluster *cluster;
        const struct feed_kind *kind;
        /* the worker's */
        struct job job;
        struct kube_visitor visitor;
        struct delivery *filling;
        struct remember remember;
        char *path, *head, *selector;
        bool is_listing;
        atomic_uint ahead;                        /* deliveries of objects that the loop has not put in place */
        struct cancel *cancel;
        /* the loop's */
        struct delivery *first, **end;
        size_t item_at;                           /* in the first */
        uint64_t list; size_t listed;             /* the list under way; objects that came in it */
        struct plugin **plugins; size_t plugin_count;      /* of it, those that are others than before */
        struct plugin_pod **pods; size_t pod_count;
        bool in_list, has_arrived, is_absent, is_live, is_open;       /* absent: the server says that there is no such kind, and none was known */
        unsigned absent;
        struct error told;                        /* the last trouble */
};

struct cluster {
        struct cluster_options options;
        char *node, *folder;
        struct feed feeds[FEEDS];
        struct notes *notes;                      /* NULL: no Events are written */
        struct loop_timer *step;
        unsigned open;
        void (*closed)(void *arg); void *closed_arg;
};

/* Loop. One item of the delivery, or what is no item; false: that was its last. */
bool delivery_step(struct feed *feed, struct delivery *delivery);
/* Loop. What came of a list that is not complete. */
void list_forget(struct feed *feed);
