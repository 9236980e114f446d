/*
 * How it goes: one job per kind of object sits in a list and watch on a worker of its own and hands over what came, whole, a hundred objects or a MiB at a time; the loop decodes
 *              it for half a millisecond a turn. What a list changes is put in place together when it is complete; the first list, before which nobody has chains, as it comes.
 *              Plugins that were listed in the life before come first.
 * How it fails: a watch that is lost changes nothing that is there; it is told once per reason. A kind that the server does not know (no CRD) is an empty one, if it says so
 *               twice and nothing of it was ever known: else what is known stays, since a server that has just started may not know it yet. An object that cannot be read is
 *               a row of its own and harms no other.
 * How it ends: cluster_close() cancels the watches and waits for their workers; what they had handed over is dropped.
 */
#include <stdlib.h>
#include <time.h>
#include "cluster_feed.h"
#include "notes.h"

enum { APPLY_US = 500, OBJECT_BYTES_MAX = 4 << 20, BATCH_BYTES = 1 << 20, AHEAD_MAX = 8, AHEAD_PAUSE_NS = 500000, SPENT_FEW = 8 };

static const struct feed_kind kinds[FEEDS] = {
        { "kubernetes/wasmplugins", { "extensions.istio.io", "v1alpha1", "wasmplugins" }, PLUGIN_WASM_PLUGIN },
        { "kubernetes/trafficextensions", { "extensions.istio.io", "v1alpha1", "trafficextensions" }, PLUGIN_TRAFFIC_EXTENSION },
        { "kubernetes/pods", { "", "v1", "pods" }, PLUGIN_POD },
};

/* ---- on the worker: handing over */

static void delivery_empty(struct delivery *delivery)
{
        for (size_t i = 0; i < delivery->item_count; i++) {
                struct item *item = &delivery->items[i];
                free(item->namespace);
                free(item->name);
                free(item->problem);
                value_free(&item->owned);
        }
        delivery->item_count = 0;
}

static void delivery_free(struct delivery *delivery)
{
        delivery_empty(delivery);
        free(delivery);
}

static void delivery_arrived(void *arg)
{
        struct delivery *delivery = arg;
        struct feed *feed = delivery->feed;
        if (feed->cluster->closed) {
                delivery_free(delivery);
                return;
        }
        *feed->end = delivery;
        feed->end = &delivery->next;
        loop_timer_again(feed->cluster->step, 0);
}

static struct delivery *delivery_new(struct feed *feed, enum delivery_kind kind)
{
        struct delivery *delivery = memory_new(1, sizeof *delivery);
        delivery->feed = feed;
        delivery->kind = kind;
        return delivery;
}

static void post(struct delivery *delivery)
{
        loop_post(delivery->feed->cluster->options.loop, delivery_arrived, delivery);
}

/* Not more of a list in memory at once than the loop takes in a few turns, however large it is: the worker can wait, and with it the server. */
static void filling_post(struct feed *feed)
{
        if (!feed->filling)
                return;
        while (atomic_load_explicit(&feed->ahead, memory_order_relaxed) >= AHEAD_MAX && !cancel_is_triggered(feed->cancel))
                nanosleep(&(struct timespec){ .tv_nsec = AHEAD_PAUSE_NS }, NULL);
        atomic_fetch_add_explicit(&feed->ahead, 1, memory_order_relaxed);
        post(TAKE(feed->filling));
}

static void deliver(struct feed *feed, enum delivery_kind kind)
{
        filling_post(feed);
        post(delivery_new(feed, kind));
}

static void item_add(struct feed *feed, const struct item *item, size_t size_bytes)
{
        if (!feed->filling)
                feed->filling = delivery_new(feed, DELIVERY_ITEMS);
        feed->filling->items[feed->filling->item_count++] = *item;
        feed->filling->size_bytes += size_bytes;
        if (!feed->is_listing || feed->filling->item_count == BATCH || feed->filling->size_bytes >= BATCH_BYTES)
                filling_post(feed);
}

/* ---- on the worker: the watch */

static bool is_remembering(const struct feed *feed) { return feed->path != NULL; }

static bool list_begin(struct kube_visitor *visitor, struct error *err)
{
        (void)err;
        struct feed *feed = CONTAINER_OF(visitor, struct feed, visitor);
        feed->is_listing = true;
        if (is_remembering(feed))
                remember_begin(&feed->remember);
        deliver(feed, DELIVERY_BEGIN);
        return true;
}

static bool list_commit(struct kube_visitor *visitor, struct error *err)
{
        (void)err;
        struct feed *feed = CONTAINER_OF(visitor, struct feed, visitor);
        feed->is_listing = false;
        deliver(feed, DELIVERY_COMMIT);
        if (is_remembering(feed))
                remember_commit(&feed->remember);
        return true;
}

static void list_abandon(struct kube_visitor *visitor)
{
        struct feed *feed = CONTAINER_OF(visitor, struct feed, visitor);
        feed->is_listing = false;
        deliver(feed, DELIVERY_ABANDON);
        if (is_remembering(feed))
                remember_abandon(&feed->remember);
}

static bool object_came(struct kube_visitor *visitor, struct kube_object *object, struct error *err)
{
        (void)err;
        struct feed *feed = CONTAINER_OF(visitor, struct feed, visitor);
        bool is_gone = object->change == KUBE_DELETE;
        struct item item = { .change = object->change, .namespace = string_copy(object->namespace), .name = string_copy(object->name) };
        if (is_remembering(feed) && !is_gone && object->object)
                remember_put(&feed->remember, object->object);
        else if (is_remembering(feed))
                remember_remove(&feed->remember, object->namespace, object->name);
        if (!is_gone && !object->object)
                item.problem = string_copy(object->problem->text);
        if (!is_gone)
                item.owned = TAKE(object->object);
        item.object = item.owned;
        item_add(feed, &item, object->size_bytes);
        return true;
}

static void state_came(struct kube_visitor *visitor, enum kube_watch_state state, const struct error *err)
{
        struct feed *feed = CONTAINER_OF(visitor, struct feed, visitor);
        struct delivery *delivery = delivery_new(feed, DELIVERY_STATE);
        delivery->state = state;
        if (err)
                delivery->err = *err;
        filling_post(feed);
        post(delivery);
}

static void object_remembered(void *arg, struct value **line)
{
        const struct value *object = value_get_member(*line, "put"), *metadata = value_get_member(object, "metadata");
        const char *namespace = value_get_text(value_get_member(metadata, "namespace")), *name = value_get_text(value_get_member(metadata, "name"));
        struct item item = { .change = KUBE_PUT, .namespace = string_copy(namespace ? namespace : ""), .name = string_copy(name ? name : ""), .object = object };
        item.owned = TAKE(*line);
        item_add(arg, &item, 0);
}

/* What was known before the restart, as if it had been listed. */
static void remembered_deliver(struct feed *feed)
{
        struct error err = { 0 };
        feed->is_listing = true;
        deliver(feed, DELIVERY_BEGIN);
        bool is_known = remember_load(&feed->remember, object_remembered, feed, &err);
        feed->is_listing = false;
        filling_post(feed);
        struct delivery *end = delivery_new(feed, is_known ? DELIVERY_COMMIT : DELIVERY_ABANDON);
        end->is_remembered = true;
        post(end);
        if (!is_known && err.code != ERROR_NOT_FOUND)
                LOG_WARN("kubernetes_not_remembered", LOG_TEXT("file", feed->path), LOG_TEXT("detail", err.text));
}

static void feed_run(struct job *job)
{
        ON_WORKER();
        struct feed *feed = CONTAINER_OF(job, struct feed, job);
        struct error err = { 0 };
        struct kube_watch watch = { .kind = feed->kind->kind, .field_selector = feed->selector, .object_bytes_max = OBJECT_BYTES_MAX };
        feed->visitor = (struct kube_visitor){ list_begin, object_came, list_commit, list_abandon, state_came };
        if (is_remembering(feed)) {
                remember_init(&feed->remember, feed->path, feed->head);
                feed->remember.is_of_pods = feed->kind->plugin == PLUGIN_POD;
                remembered_deliver(feed);
        }
        kube_watch_run(feed->cluster->options.kube, &watch, &feed->visitor, feed->cancel, &err);
        if (is_remembering(feed))
                remember_fini(&feed->remember);
}

static void cluster_check_closed(void *arg)
{
        struct cluster *cluster = arg;
        if (--cluster->open == 0)
                cluster->closed(cluster->closed_arg);
}

static void spent_run(struct job *job)
{
        delivery_empty(CONTAINER_OF(job, struct delivery, job));
}

static void spent_done(struct job *job)
{
        struct delivery *delivery = CONTAINER_OF(job, struct delivery, job);
        struct cluster *cluster = delivery->feed->cluster;
        free(delivery);
        cluster_check_closed(cluster);
}

/* Many objects go where they came from: what the loop frees of a worker's memory it would take again for what it keeps, and none of those pages could be given back. */
static void delivery_spent(struct cluster *cluster, struct delivery *delivery)
{
        delivery->job = (struct job){ .run = spent_run, .done = spent_done };
        if (delivery->item_count <= SPENT_FEW)
                delivery_free(delivery);
        else {
                cluster->open++;
                job_start(cluster->options.loop, &delivery->job);
        }
}

static struct delivery *first_take(struct feed *feed)
{
        struct delivery *delivery = feed->first;
        feed->first = delivery->next;
        if (!feed->first)
                feed->end = &feed->first;
        feed->item_at = 0;
        if (delivery->kind == DELIVERY_ITEMS)
                atomic_fetch_sub_explicit(&feed->ahead, 1, memory_order_relaxed);
        return delivery;
}

static void step_fired(void *arg)
{
        struct cluster *cluster = arg;
        int64_t until_us = clock_get_us() + APPLY_US;
        for (size_t i = 0; i < FEEDS; i++)
                while (cluster->feeds[i].first) {
                        if (!delivery_step(&cluster->feeds[i], cluster->feeds[i].first))
                                delivery_spent(cluster, first_take(&cluster->feeds[i]));
                        if (clock_get_us() < until_us)
                                continue;
                        loop_timer_again(cluster->step, 0);
                        return;
                }
}

/* ---- life */

/* What the job posted before it ended comes first, since posts keep their order. */
static void feed_done(struct job *job)
{
        struct feed *feed = CONTAINER_OF(job, struct feed, job);
        loop_post(feed->cluster->options.loop, cluster_check_closed, feed->cluster);
}

static void feed_start(struct cluster *cluster, size_t which)
{
        struct feed *feed = &cluster->feeds[which];
        bool is_pods = kinds[which].plugin == PLUGIN_POD;
        *feed = (struct feed){ .cluster = cluster, .kind = &kinds[which], .cancel = cancel_new(), .job = { .run = feed_run, .done = feed_done } };
        feed->end = &feed->first;
        if (is_pods) {
                feed->selector = string_format("spec.nodeName=%s", cluster->node);
                keeper_expect_pods(cluster->options.keeper, feed->kind->source);
        } else
                keeper_expect(cluster->options.keeper, feed->kind->source);
        feed->path = string_format("%s/%s.jsonl", cluster->folder, kinds[which].kind.plural);
        feed->head = string_format("{\"form\":1,\"server\":\"%s\",\"kind\":\"%s\"%s%s%s}", kube_get_server(cluster->options.kube), kinds[which].kind.plural,
                is_pods ? ",\"node\":\"" : "", is_pods ? cluster->node : "", is_pods ? "\"" : "");
        feed->is_open = true;
        cluster->open++;
        job_start(cluster->options.loop, &feed->job);
}

/* What lies on the node is nobody's business in the cluster, whatever uid it carries. */
static void told(void *arg, const struct keeper_news *news)
{
        struct cluster *cluster = arg;
        const char *source = plugins_get_source(keeper_get_plugins(cluster->options.keeper), news->plugin);
        for (size_t i = 0; i < FEEDS; i++)
                if (string_equal(source, kinds[i].source))
                        notes_add(cluster->notes, news);
}

struct cluster *cluster_new(const struct cluster_options *options)
{
        ON_LOOP();
        struct cluster *cluster = memory_new(1, sizeof *cluster);
        struct error err = { 0 };
        cluster->options = *options;
        cluster->node = string_copy(options->node ? options->node : "");
        cluster->folder = string_copy(options->folder);
        cluster->step = loop_timer_start(options->loop, 0, 0, step_fired, cluster);
        if (!fs_make_folders(cluster->folder, 0700, &err))
                LOG_WARN("kubernetes_not_remembered", LOG_TEXT("file", cluster->folder), LOG_TEXT("detail", err.text));
        for (size_t i = 0; i < FEEDS; i++)
                if (kinds[i].plugin != PLUGIN_POD || *cluster->node)
                        feed_start(cluster, i);
        if (options->writes_events) {
                cluster->notes = notes_new(options->loop, options->kube, cluster->node);
                keeper_set_teller(options->keeper, told, cluster);
        }
        return cluster;
}

void cluster_close(struct cluster *cluster, void (*closed)(void *arg), void *arg)
{
        ON_LOOP();
        cluster->closed = closed;
        cluster->closed_arg = arg;
        for (size_t i = 0; i < FEEDS; i++)
                if (cluster->feeds[i].is_open)
                        cancel_trigger(cluster->feeds[i].cancel);
        loop_timer_cancel(&cluster->step);
        keeper_set_teller(cluster->options.keeper, NULL, NULL);
        if (cluster->notes && notes_close(cluster->notes, cluster_check_closed, cluster))
                cluster->open++;
}

void cluster_free(struct cluster **cluster_pointer)
{
        struct cluster *cluster = TAKE(*cluster_pointer);
        if (!cluster)
                return;
        loop_timer_cancel(&cluster->step);
        notes_free(&cluster->notes);
        for (size_t i = 0; i < FEEDS; i++) {
                struct feed *feed = &cluster->feeds[i];
                if (!feed->is_open)
                        continue;
                while (feed->first)
                        delivery_free(first_take(feed));
                if (feed->filling)
                        delivery_free(feed->filling);
                list_forget(feed);
                cancel_free(&feed->cancel);
                free(feed->path);
                free(feed->head);
                free(feed->selector);
        }
        free(cluster->node);
        free(cluster->folder);
        free(cluster);
}
