/*
 * How it goes: a link that is wanted starts a worker at once, unless one is making links: then it waits, and all that came meanwhile go together, with one transaction for the rows
 *              of all, so that the disk is waited for once. Those that somebody waits for go before those of plugins that nobody has asked for yet. The next ones are on their
 *              way while the loop answers for these, half a millisecond a turn.
 * How it fails: each has its own outcome. A blob that does not look as we left it holds nobody up: it is hashed by a worker of its own.
 * How it ends: at close, what has not begun is refused.
 */
#include <stdlib.h>
#include <wasmcached/store/handout.h>
#include "modules.h"

enum { LINK_BATCH = 256, LINK_SLICE_US = 500 };

struct link_batch { struct task task; struct link_list links; size_t count; bool is_alone; };

/* ---- lists ---- */

static void list_init(struct link_list *list)
{
        *list = (struct link_list){ .end = &list->first };
}

static void list_put(struct link_list *list, struct link *link)
{
        link->next = NULL;
        *list->end = link;
        list->end = &link->next;
}

static struct link *list_take(struct link_list *list)
{
        struct link *link = list->first;
        if (!link)
                return NULL;
        list->first = link->next;
        if (!list->first)
                list->end = &list->first;
        return link;
}

/* ---- on the worker ---- */

/* The blob looks other than we left it: only its bytes can tell. */
static bool blob_is_proven(struct link *link, const struct link_batch *batch, struct store *store)
{
        if (store_check_identity(store, &link->sha256, NULL, &link->identity))
                return true;
        link->is_doubtful = !batch->is_alone;
        if (link->is_doubtful)
                return false;
        link->is_damaged = !store_verify(store, &link->sha256, 0, NULL, &link->identity, &link->err);
        return !link->is_damaged;
}

/* False: there is nothing to hand over to the store; how it went is in the link. */
static bool link_prepare(struct link *link, const struct link_batch *batch, struct store *store)
{
        if (link->takes_away)
                return true;
        if (!blob_is_proven(link, batch, store))
                return false;
        link->is_done = !link->namespace[0];               /* of the blob itself, which was to be proved only */
        return !link->is_done && (!link->is_linked_again || store_unlink(store, &link->sha256, link->namespace, &link->identity, &link->err));
}

static void batch_run(struct job *job)
{
        ON_WORKER();
        struct link_batch *batch = CONTAINER_OF(job, struct link_batch, task.job);
        struct store *store = batch->task.modules->store;
        CLEANUP(cleanup_free) struct store_handout *handouts = memory_new(batch->count, sizeof *handouts);
        CLEANUP(cleanup_free) struct link **links = memory_new(batch->count, sizeof *links);
        size_t count = 0;
        for (struct link *link = batch->links.first; link; link = link->next) {
                if (!link_prepare(link, batch, store))
                        continue;
                links[count] = link;
                handouts[count++] = (struct store_handout){ .module = link->sha256, .namespace = link->namespace, .is_ending = link->takes_away,
                        .lease = link->takes_away ? NULL : &link->lease };
        }
        store_save_handouts(store, handouts, count);
        for (size_t i = 0; i < count; i++) {
                links[i]->is_done = handouts[i].is_done;
                if (handouts[i].is_done)
                        links[i]->identity = handouts[i].identity;
                else
                        links[i]->err = handouts[i].err;
        }
}

/* ---- on the loop ---- */

static void links_go(struct modules *modules);

static void settle(struct modules *modules, struct link *link)
{
        handout_settle(modules, link);
        free(link);
        task_end(modules);
}

static void settle_some(void *arg)
{
        struct modules *modules = arg;
        int64_t until_us = clock_get_us() + LINK_SLICE_US;
        for (struct link *link; (link = list_take(&modules->links.done)) != NULL;) {
                settle(modules, link);
                if (modules->is_closing || clock_get_us() < until_us)
                        continue;
                loop_timer_again(modules->links.timer, 0);
                return;
        }
}

static void batch_start(struct modules *modules, struct link_batch *batch);

static void batch_done(struct job *job)
{
        struct link_batch *batch = CONTAINER_OF(job, struct link_batch, task.job);
        struct modules *modules = batch->task.modules;
        if (!batch->is_alone)
                modules->links.is_running = false;
        for (struct link *link; (link = list_take(&batch->links)) != NULL;) {
                if (!link->is_doubtful) {
                        list_put(&modules->links.done, link);
                        continue;
                }
                struct link_batch *alone = memory_new(1, sizeof *alone);
                list_init(&alone->links);
                list_put(&alone->links, link);
                link->is_doubtful = false;
                alone->is_alone = true;
                alone->count = 1;
                batch_start(modules, alone);
        }
        free(batch);
        links_go(modules);
        settle_some(modules);
        task_end(modules);
}

static void batch_start(struct modules *modules, struct link_batch *batch)
{
        task_start(modules, &batch->task, batch_run, batch_done);
}

static void links_go(struct modules *modules)
{
        if (modules->links.is_running || (!modules->links.urgent.first && !modules->links.patient.first))
                return;
        struct link_batch *batch = memory_new(1, sizeof *batch);
        list_init(&batch->links);
        for (struct link *link; batch->count < LINK_BATCH; batch->count++) {
                link = list_take(&modules->links.urgent);
                link = link ? link : list_take(&modules->links.patient);
                if (!link)
                        break;
                list_put(&batch->links, link);
        }
        modules->links.is_running = true;
        batch_start(modules, batch);
}

void link_start(struct modules *modules, struct link *link)
{
        modules->tasks++;
        list_put(link->is_patient ? &modules->links.patient : &modules->links.urgent, link);
        links_go(modules);
}

/* ---- life ---- */

void links_init(struct modules *modules)
{
        list_init(&modules->links.urgent);
        list_init(&modules->links.patient);
        list_init(&modules->links.done);
        modules->links.timer = loop_timer_start(modules->loop, 0, 0, settle_some, modules);
}

void links_close(struct modules *modules)
{
        for (struct link *link; (link = list_take(&modules->links.urgent)) != NULL || (link = list_take(&modules->links.patient)) != NULL;) {
                refuse(&link->err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
                list_put(&modules->links.done, link);
        }
        settle_some(modules);
        loop_timer_cancel(&modules->links.timer);
}
