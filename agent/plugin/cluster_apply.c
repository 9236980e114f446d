/*
 * How it goes: what a watch handed over becomes plugins and Pods. What a list changes is put in place together when it is complete; the first list of plugins as it comes.
 * How it fails: an object that cannot be read is a row of its own and harms no other; a watch that is lost is told once per reason and changes nothing.
 * How it ends: plugins and Pods belong to the keeper; what came of a list that was not complete is freed by list_forget().
 */
#include "cluster_feed.h"
#include "folder.h"

enum { ABSENT_TIMES = 2 };

void list_forget(struct feed *feed)
{
        for (size_t i = 0; i < feed->plugin_count; i++)
                plugin_unref(&feed->plugins[i]);
        for (size_t i = 0; i < feed->pod_count; i++)
                plugin_pod_free(&feed->pods[i]);
        free(TAKE(feed->plugins));
        free(TAKE(feed->pods));
        feed->plugin_count = feed->pod_count = feed->listed = 0;
}

static void pointer_add(void *list_pointer, size_t *count, void *pointer)
{
        void **list;
        memcpy(&list, list_pointer, sizeof list);
        if ((*count & (*count - 1)) == 0)
                list = memory_resize(list, *count ? 2 * *count : 1, sizeof *list);
        list[(*count)++] = pointer;
        memcpy(list_pointer, &list, sizeof list);
}

static struct plugin *unreadable_row(const struct feed *feed, const struct item *item)
{
        struct plugin *row = plugin_new_row(feed->kind->plugin, item->namespace, item->name);
        struct place at = place_top("object");
        problem_add(row, ERROR_BAD_REQUEST, &at, "%s", item->problem);
        plugin_seal_row(row);
        return row;
}

static struct plugins *plugins_of(const struct feed *feed)
{
        return keeper_get_plugins(feed->cluster->options.keeper);
}

static void plugin_put(struct feed *feed, struct plugin *plugin)
{
        if (!feed->in_list)
                plugins_put(plugins_of(feed), feed->kind->source, plugin);
        else if (!feed->has_arrived)
                plugins_list_put(plugins_of(feed), feed->kind->source, feed->list, plugin);
        else if (plugins_list_confirm(plugins_of(feed), feed->kind->source, feed->list, plugin))
                plugin_unref(&plugin);
        else
                pointer_add(&feed->plugins, &feed->plugin_count, plugin);
}

/* In a streaming list, too: an object that was listed may be gone before the list is complete. */
static void plugin_remove(struct feed *feed, const struct item *item)
{
        size_t kept = 0;
        for (size_t i = 0; i < feed->plugin_count; i++)
                if (strcmp(feed->plugins[i]->name, item->name) == 0 && strcmp(feed->plugins[i]->namespace, item->namespace) == 0)
                        plugin_unref(&feed->plugins[i]);
                else
                        feed->plugins[kept++] = feed->plugins[i];
        feed->plugin_count = kept;
        plugins_remove(plugins_of(feed), feed->kind->source, feed->kind->plugin, item->namespace, item->name);
}

/* A Pod that has ended runs nothing that could ask, and its name may be another's soon. */
static bool pod_is_over(const struct value *object)
{
        const char *phase = value_get_text(value_get_member(value_get_member(object, "status"), "phase"));
        return string_equal(phase, "Succeeded") || string_equal(phase, "Failed");
}

/* In a streaming list, too: what comes before its end takes the place of what was listed. */
static void listed_pod_remove(struct feed *feed, const struct item *item)
{
        size_t kept = 0;
        for (size_t i = 0; i < feed->pod_count; i++)
                if (strcmp(feed->pods[i]->name, item->name) == 0 && strcmp(feed->pods[i]->namespace, item->namespace) == 0)
                        plugin_pod_free(&feed->pods[i]);
                else
                        feed->pods[kept++] = feed->pods[i];
        feed->pod_count = kept;
}

static void pod_put(struct feed *feed, const struct item *item)
{
        struct batch batch = { 0 };
        bool is_over = pod_is_over(item->object);
        if (item->object && !is_over)
                pod_read(&batch, feed->kind->source, item->object);
        if (feed->in_list)
                listed_pod_remove(feed, item);
        for (size_t i = 0; i < batch.pod_count; i++) {
                struct plugin_pod *pod = TAKE(batch.pods[i]);
                if (feed->in_list)
                        pointer_add(&feed->pods, &feed->pod_count, pod);
                else
                        keeper_put_pod(feed->cluster->options.keeper, feed->kind->source, pod);
        }
        if (batch.pod_count == 0 && !feed->in_list)
                keeper_remove_pod(feed->cluster->options.keeper, feed->kind->source, item->namespace, item->name);
        if (item->problem)
                LOG_WARN("pod_unreadable", LOG_TEXT("namespace", item->namespace), LOG_TEXT("name", item->name), LOG_TEXT("detail", item->problem));
        batch.pod_count = 0;
        batch_fini(&batch);
}

static void item_apply(struct feed *feed, const struct item *item)
{
        if (feed->kind->plugin == PLUGIN_POD)
                pod_put(feed, item);
        else if (item->change == KUBE_DELETE)
                plugin_remove(feed, item);
        else
                plugin_put(feed, item->object ? plugin_decode(item->object) : unreadable_row(feed, item));
}

static void arrive(struct feed *feed)
{
        feed->has_arrived = true;
        (feed->kind->plugin == PLUGIN_POD ? keeper_arrive_pods : keeper_arrive)(feed->cluster->options.keeper, feed->kind->source);
}

static void list_apply(struct feed *feed, const struct delivery *delivery)
{
        size_t count = feed->listed;
        if (feed->kind->plugin == PLUGIN_POD)
                keeper_put_pods(feed->cluster->options.keeper, feed->kind->source, feed->pods, feed->pod_count);
        else
                plugins_list_close(plugins_of(feed), feed->kind->source, feed->list, feed->plugins, feed->plugin_count);
        feed->plugin_count = feed->pod_count = 0;         /* taken over */
        list_forget(feed);
        feed->is_absent = false;
        module_note_garbage(feed->cluster->options.modules);
        LOG_INFO(delivery->is_remembered ? "kubernetes_remembered" : "kubernetes_listed", LOG_TEXT("source", feed->kind->source), LOG_NUMBER("objects", count),
                LOG_TEXT("server", kube_get_server(feed->cluster->options.kube)));
        /* Pods that are remembered are who they were, since an UID never becomes another Pod's; but who is not among them may be new. */
        if (!delivery->is_remembered || feed->kind->plugin != PLUGIN_POD)
                arrive(feed);
}

/* ---- on the loop: how the watch does */

static void lost(struct feed *feed, const struct error *err)
{
        bool is_new = feed->is_live || feed->told.code != err->code || strcmp(feed->told.text, err->text) != 0;
        bool is_pods = feed->kind->plugin == PLUGIN_POD;
        const char *kept = feed->has_arrived || is_pods ? "what is known stays in force" : "chains are answered with 503 until it can be listed";
        bool is_quiet = err->code == ERROR_NOT_FOUND && !is_pods && (!feed->has_arrived || feed->is_absent);
        feed->absent = is_quiet ? feed->absent + 1 : 0;
        if (feed->absent >= ABSENT_TIMES && !feed->has_arrived) {
                feed->is_absent = true;
                LOG_WARN("kubernetes_absent", LOG_TEXT("source", feed->kind->source), LOG_TEXT("detail", err->text),
                        LOG_TEXT("meaning", "the cluster has no such kind (no CRD); there are none until it has"));
                arrive(feed);
        } else if (is_new && !is_quiet)
                LOG_WARN("kubernetes_lost", LOG_TEXT("source", feed->kind->source), LOG_TEXT("code", error_get_row(err->code)->name), LOG_TEXT("detail", err->text),
                        LOG_TEXT("kept", kept));
        keeper_note_trouble(feed->cluster->options.keeper, feed->kind->source, feed->is_absent && is_quiet ? NULL : err->text);
        feed->told = *err;
        feed->is_live = false;
}

static void state_apply(struct feed *feed, const struct delivery *delivery)
{
        if (delivery->state == KUBE_WATCH_LOST)
                lost(feed, &delivery->err);
        else if (delivery->state == KUBE_WATCH_LIVE && !feed->is_live) {
                LOG_INFO("kubernetes_live", LOG_TEXT("source", feed->kind->source), LOG_TEXT("server", kube_get_server(feed->cluster->options.kube)));
                feed->is_live = true;
                feed->absent = 0;
                keeper_note_trouble(feed->cluster->options.keeper, feed->kind->source, NULL);
        }
}

/* Nobody has been told of a part of a first list, and nobody shall be. */
static void list_abandoned(struct feed *feed)
{
        feed->in_list = false;
        list_forget(feed);
        if (!feed->has_arrived && feed->kind->plugin != PLUGIN_POD)
                plugins_replace(plugins_of(feed), feed->kind->source, NULL, 0);
}

bool delivery_step(struct feed *feed, struct delivery *delivery)
{
        switch (delivery->kind) {
        case DELIVERY_ITEMS:
                item_apply(feed, &delivery->items[feed->item_at++]);
                feed->listed += feed->in_list;
                return feed->item_at < delivery->item_count;
        case DELIVERY_BEGIN:
                list_forget(feed);
                feed->list = plugins_list_open(plugins_of(feed));
                feed->in_list = true;
                return false;
        case DELIVERY_ABANDON:
                list_abandoned(feed);
                return false;
        case DELIVERY_COMMIT:
                feed->in_list = false;
                list_apply(feed, delivery);
                return false;
        case DELIVERY_STATE:
                state_apply(feed, delivery);
                return false;
        }
        return false;
}
