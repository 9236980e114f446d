/*
 * How it goes: one namespace's plugins lie in the order of chains, so a workload's chain is those of its own and of the root namespace that fit, merged. It is remembered, and
 *              made again only when one of the namespaces it was made of has changed. So is what of it fits the traffic of the last VIEWS different questions.
 * How it fails: it does not; a workload that nothing selects has an empty chain.
 * How it ends: at most CHAINS_MAX chains and REMEMBERED_MAX plugins in them are remembered; the chain not asked for longest goes.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "set.h"

#define LABEL_GATEWAY "gateway.networking.k8s.io/gateway-name"
#define LABEL_MANAGED "gateway.istio.io/managed"
#define WAYPOINT_CONTROLLER "istio.io-mesh-controller"
#define WAYPOINT_CLASS "istio-waypoint"

enum { CHAINS_MAX = 1024, VIEWS = 8, REMEMBERED_MAX = 4 << 20 };

/* What fits one kind of traffic; where all does, the chain's own items are lent. */
struct view { bool is_made; struct plugin_traffic traffic; const struct plugin **items; size_t room; struct plugin_chain chain; };
struct known_chain {
        const struct plugin **items; size_t count, room;
        uint64_t made, used;              /* the revision after which it was made; the question that asked for it last */
        struct view views[VIEWS]; unsigned next_view;
};

/* A workload, looked at once. */
struct asker {
        const struct plugin_workload *workload;
        const char *root_namespace, *gateway;                      /* gateway: the name in its label, or NULL */
        bool is_waypoint;
        struct plugin_label *labels; size_t label_count;           /* sorted */
};

int plugin_compare_order(const struct plugin *a, const struct plugin *b)
{
        if (a->phase != b->phase)
                return a->phase < b->phase ? -1 : 1;
        if (a->priority != b->priority)
                return a->priority > b->priority ? -1 : 1;
        int order = strcmp(a->name, b->name);
        order = order ? order : strcmp(a->namespace, b->namespace);
        return order ? order : (int)a->kind - (int)b->kind;
}

/* ---- the index ---- */
void space_free(void *pointer)
{
        struct space *space = pointer;
        free(space->items);
        free(space);
}

void chain_free(void *pointer)
{
        struct known_chain *chain = pointer;
        for (size_t i = 0; i < VIEWS; i++)
                free(chain->views[i].items);
        free(chain->items);
        free(chain);
}

static size_t space_find(const struct space *space, const struct plugin *plugin)
{
        size_t low = 0;
        for (size_t high = space->count; low < high;) {
                size_t middle = low + (high - low) / 2;
                if (plugin_compare_order(space->items[middle], plugin) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

void space_add(struct plugins *plugins, struct plugin *plugin)
{
        struct space *space = map_get_text(plugins->spaces, plugin->namespace);
        if (!space) {
                space = memory_new(1, sizeof *space);
                map_put_text(plugins->spaces, plugin->namespace, space);
        }
        if (space->count == space->room) {
                space->room = space->room > 0 ? 2 * space->room : 4;
                space->items = memory_resize(space->items, space->room, sizeof(struct plugin *));
        }
        size_t at = space_find(space, plugin);
        memmove(space->items + at + 1, space->items + at, (space->count - at) * sizeof(struct plugin *));
        space->items[at] = plugin;
        space->count++;
        space->changed = plugins->revision;
}

void space_remove(struct plugins *plugins, struct plugin *plugin)
{
        struct space *space = map_get_text(plugins->spaces, plugin->namespace);
        size_t at = space_find(space, plugin);
        space->count--;
        memmove(space->items + at, space->items + at + 1, (space->count - at) * sizeof(struct plugin *));
        space->changed = plugins->revision;
        if (space->count > 0)
                return;
        plugins->spaces_dropped = plugins->revision;
        map_remove_text(plugins->spaces, plugin->namespace);
}

/* ---- who asks ---- */
static int label_compare(const void *a, const void *b)
{
        return strcmp(((const struct plugin_label *)a)->key, ((const struct plugin_label *)b)->key);
}

static const char *label_get(const struct asker *asker, const char *key)
{
        struct plugin_label wanted = { .key = (char *)(uintptr_t)key };
        const struct plugin_label *found = asker->label_count > 0 ? bsearch(&wanted, asker->labels, asker->label_count, sizeof wanted, label_compare) : NULL;
        return found ? found->value : NULL;
}

static void asker_init(struct asker *asker, const char *root_namespace, const struct plugin_workload *workload)
{
        *asker = (struct asker){ .workload = workload, .root_namespace = root_namespace, .label_count = workload->label_count };
        asker->labels = memory_new(workload->label_count + 1, sizeof *asker->labels);
        if (workload->label_count > 0)
                memcpy(asker->labels, workload->labels, workload->label_count * sizeof *asker->labels);
        if (workload->label_count > 1)
                qsort(asker->labels, workload->label_count, sizeof *asker->labels, label_compare);
        asker->gateway = label_get(asker, LABEL_GATEWAY);
        asker->is_waypoint = asker->gateway && string_equal(label_get(asker, LABEL_MANAGED), WAYPOINT_CONTROLLER);
}

static void asker_fini(struct asker *asker)
{
        free(asker->labels);
}

/* ---- does it fit? ---- */
/* Both sorted: one walk. */
static bool selector_fits(const struct plugin *plugin, const struct asker *asker)
{
        size_t at = 0;
        for (size_t i = 0; i < plugin->label_count; i++) {
                int order = 1;
                while (at < asker->label_count && (order = strcmp(asker->labels[at].key, plugin->labels[i].key)) < 0)
                        at++;
                if (at == asker->label_count || order != 0 || strcmp(asker->labels[at].value, plugin->labels[i].value) != 0)
                        return false;
        }
        return true;
}

static bool serves(const struct asker *asker, const struct plugin *plugin, const struct plugin_target *target)
{
        for (size_t i = 0; i < asker->workload->service_count; i++) {
                const struct plugin_service *service = &asker->workload->services[i];
                if (service->is_entry == (target->kind == PLUGIN_SERVICE_ENTRY) && strcmp(service->name, target->name) == 0 && strcmp(service->namespace, plugin->namespace) == 0)
                        return true;
        }
        return false;
}

static bool target_fits(const struct plugin *plugin, const struct plugin_target *target, const struct asker *asker)
{
        switch (target->kind) {
        case PLUGIN_GATEWAY:
                return strcmp(target->name, asker->gateway) == 0 && strcmp(plugin->namespace, asker->workload->namespace) == 0;
        case PLUGIN_GATEWAY_CLASS:
                return asker->is_waypoint && strcmp(target->name, WAYPOINT_CLASS) == 0 && strcmp(plugin->namespace, asker->root_namespace) == 0;
        default:
                return asker->is_waypoint && serves(asker, plugin, target);
        }
}

static enum plugin_fit selection_fit(const struct plugin *plugin, const struct asker *asker)
{
        if (plugin->target_count == 0) {
                if (asker->is_waypoint)
                        return PLUGIN_FIT_TARGETS_ONLY;
                return selector_fits(plugin, asker) ? PLUGIN_FIT_YES : PLUGIN_FIT_LABELS;
        }
        for (size_t i = 0; asker->gateway && i < plugin->target_count; i++)
                if (target_fits(plugin, &plugin->targets[i], asker))
                        return PLUGIN_FIT_YES;
        return PLUGIN_FIT_TARGETS;
}

/* Inbound is the server's side; outbound and a gateway's traffic are the client's. */
static bool match_fits(const struct plugin_match *match, const struct plugin_traffic *traffic)
{
        enum plugin_mode side = traffic->direction == PLUGIN_INBOUND ? PLUGIN_SERVER : PLUGIN_CLIENT;
        bool is_one_sided = match->mode == PLUGIN_SERVER || match->mode == PLUGIN_CLIENT;
        if (traffic->direction != PLUGIN_ANY_DIRECTION && is_one_sided && match->mode != side)
                return false;
        for (size_t i = 0; i < match->port_count; i++)
                if (match->ports[i] == traffic->port)
                        return true;
        return match->port_count == 0;
}

static enum plugin_fit traffic_fit(const struct plugin *plugin, const struct plugin_traffic *traffic)
{
        if (traffic->type != PLUGIN_ANY_TYPE && traffic->type != plugin->type)
                return PLUGIN_FIT_TYPE;
        bool is_known = traffic->direction != PLUGIN_ANY_DIRECTION || traffic->port != 0;
        if (!is_known || plugin->match_count == 0)
                return PLUGIN_FIT_YES;
        for (size_t i = 0; i < plugin->match_count; i++)
                if (match_fits(&plugin->matches[i], traffic))
                        return PLUGIN_FIT_YES;
        return PLUGIN_FIT_MATCH;
}

static bool namespace_is_looked_at(const struct asker *asker, const char *namespace)
{
        if (strcmp(namespace, asker->workload->namespace) == 0 || strcmp(namespace, asker->root_namespace) == 0)
                return true;
        for (size_t i = 0; asker->is_waypoint && i < asker->workload->service_count; i++)
                if (strcmp(namespace, asker->workload->services[i].namespace) == 0)
                        return true;
        return false;
}

enum plugin_fit plugin_get_fit(const struct plugin *plugin, const char *root_namespace, const struct plugin_workload *workload, const struct plugin_traffic *traffic)
{
        if (plugin->state == PLUGIN_IGNORED)
                return PLUGIN_FIT_IGNORED;
        if (!plugin->is_placed)
                return PLUGIN_FIT_UNPLACED;
        CLEANUP(asker_fini) struct asker asker;
        asker_init(&asker, root_namespace, workload);
        if (!namespace_is_looked_at(&asker, plugin->namespace))
                return PLUGIN_FIT_NAMESPACE;
        enum plugin_fit fit = selection_fit(plugin, &asker);
        return fit == PLUGIN_FIT_YES ? traffic_fit(plugin, traffic) : fit;
}

const char *plugin_fit_text(enum plugin_fit fit)
{
        static const char *const texts[] = {
                [PLUGIN_FIT_YES] = "it reaches the workload",
                [PLUGIN_FIT_IGNORED] = "a TrafficExtension with lua runs in Envoy without a module and is ignored here",
                [PLUGIN_FIT_UNPLACED] = "it is refused, and its name, namespace, selection, phase or priority cannot be read, so it is in no chain",
                [PLUGIN_FIT_NAMESPACE] = "it is neither in the workload's namespace nor in the root namespace",
                [PLUGIN_FIT_TARGETS_ONLY] = "the workload is a waypoint, which only targetRefs reach, and it has none",
                [PLUGIN_FIT_TARGETS] = "none of its targetRefs names the workload's gateway, or a service that the caller names",
                [PLUGIN_FIT_LABELS] = "the workload lacks a label of its selector, or has another value there",
                [PLUGIN_FIT_TYPE] = "it is of the other type (HTTP, NETWORK) than was asked for",
                [PLUGIN_FIT_MATCH] = "no entry of its match fits the direction and port that were asked for",
        };
        return texts[fit];
}

/* ---- chains ---- */
static void chain_room(struct plugins *plugins, struct known_chain *chain, size_t more)
{
        if (chain->count + more <= chain->room)
                return;
        plugins->remembered += chain->count + more - chain->room;
        chain->room = chain->count + more;
        chain->items = memory_resize(chain->items, chain->room, sizeof(struct plugin *));
}

/* Those of one namespace that fit go behind what is there, then both runs are merged from the back. */
static void chain_merge(struct plugins *plugins, struct known_chain *chain, const struct space *space, const struct asker *asker)
{
        size_t fitting = 0, old = chain->count;
        if (plugins->scratch_room < space->count) {
                plugins->scratch_room = space->count;
                plugins->scratch = memory_resize(plugins->scratch, plugins->scratch_room, sizeof(struct plugin *));
        }
        for (size_t i = 0; i < space->count; i++)
                if (selection_fit(space->items[i], asker) == PLUGIN_FIT_YES)
                        plugins->scratch[fitting++] = space->items[i];
        chain_room(plugins, chain, fitting);
        chain->count += fitting;
        for (size_t at = chain->count; fitting > 0; at--)
                if (old > 0 && plugin_compare_order(chain->items[old - 1], plugins->scratch[fitting - 1]) > 0)
                        chain->items[at - 1] = chain->items[--old];
                else
                        chain->items[at - 1] = plugins->scratch[--fitting];
}

/* The namespaces to look at, each once; *count of them in ret_names, which has room for all services and two. */
static void namespaces_collect(const struct asker *asker, const char **ret_names, size_t *ret_count)
{
        size_t count = 0, services = asker->is_waypoint ? asker->workload->service_count : 0;
        for (size_t i = 0; i < services + 2; i++) {
                const char *name = i == 0 ? asker->workload->namespace : i == 1 ? asker->root_namespace : asker->workload->services[i - 2].namespace;
                size_t k = 0;
                while (k < count && strcmp(ret_names[k], name) != 0)
                        k++;
                if (k == count)
                        ret_names[count++] = name;
        }
        *ret_count = count;
}

static void chain_refresh(struct plugins *plugins, struct known_chain *chain, const struct asker *asker)
{
        size_t count;
        CLEANUP(cleanup_free) const char **names = memory_new(asker->workload->service_count + 2, sizeof *names);
        bool is_fresh = chain->made > 0 && chain->made > plugins->spaces_dropped;
        namespaces_collect(asker, names, &count);
        for (size_t i = 0; is_fresh && i < count; i++) {
                const struct space *space = map_get_text(plugins->spaces, names[i]);
                is_fresh = !space || space->changed < chain->made;
        }
        if (is_fresh)
                return;
        chain->count = 0;
        for (size_t i = 0; i < VIEWS; i++)
                chain->views[i].is_made = false;
        for (size_t i = 0; i < count; i++) {
                const struct space *space = map_get_text(plugins->spaces, names[i]);
                if (space)
                        chain_merge(plugins, chain, space, asker);
        }
        chain->made = plugins->revision + 1;              /* later than any change so far */
}

static void chain_forget_oldest(struct plugins *plugins)
{
        const void *key, *oldest_key = NULL;
        size_t size, oldest_size = 0, position = 0;
        struct known_chain *oldest = NULL;
        void *value;
        while (map_next(plugins->chains, &position, &key, &size, &value))
                if (!oldest || ((const struct known_chain *)value)->used < oldest->used) {
                        oldest = value;
                        oldest_key = key;
                        oldest_size = size;
                }
        plugins->remembered -= oldest->room;
        for (size_t i = 0; i < VIEWS; i++)
                plugins->remembered -= oldest->views[i].room;
        CLEANUP(cleanup_free) char *copy = string_copy_bytes(oldest_key, oldest_size);
        map_remove(plugins->chains, copy, oldest_size);
}

/* The one just asked for is the youngest, so it stays. */
static void chains_limit(struct plugins *plugins)
{
        while (map_get_count(plugins->chains) > CHAINS_MAX || (plugins->remembered > REMEMBERED_MAX && map_get_count(plugins->chains) > 1))
                chain_forget_oldest(plugins);
}

/* Lengths first: no two workloads have one key. */
static void key_put(struct buffer *key, const char *text)
{
        size_t length = strlen(text);
        buffer_append(key, &length, sizeof length);
        buffer_append(key, text, length);
}

static struct known_chain *chain_get(struct plugins *plugins, const struct asker *asker)
{
        CLEANUP(buffer_fini) struct buffer key = { 0 };
        key_put(&key, asker->workload->namespace);
        buffer_append(&key, &asker->label_count, sizeof asker->label_count);
        for (size_t i = 0; i < asker->label_count; i++) {
                key_put(&key, asker->labels[i].key);
                key_put(&key, asker->labels[i].value);
        }
        for (size_t i = 0; asker->is_waypoint && i < asker->workload->service_count; i++) {
                key_put(&key, asker->workload->services[i].is_entry ? "e" : "s");
                key_put(&key, asker->workload->services[i].namespace);
                key_put(&key, asker->workload->services[i].name);
        }
        struct known_chain *chain = map_get(plugins->chains, key.data, key.used);
        if (!chain) {
                chain = memory_new(1, sizeof *chain);
                map_put(plugins->chains, key.data, key.used, chain);
        }
        chain->used = ++plugins->used;
        return chain;
}

static void view_make(struct plugins *plugins, struct view *view, const struct known_chain *chain, const struct plugin_traffic *traffic)
{
        size_t count = 0, kept = 0;
        uint64_t revision = 0xcbf29ce484222325;           /* FNV-1a over the fingerprints, 64 bits at a time */
        for (size_t i = 0; i < chain->count; i++)
                if (traffic_fit(chain->items[i], traffic) == PLUGIN_FIT_YES) {
                        count++;
                        revision = (revision ^ chain->items[i]->fingerprint) * 0x100000001b3;
                        revision ^= revision >> 32;
                }
        *view = (struct view){ true, *traffic, view->items, view->room, { chain->items, count, revision } };
        if (count == chain->count)
                return;
        if (view->room < count) {
                plugins->remembered += count - view->room;
                view->room = count;
                view->items = memory_resize(view->items, count, sizeof(struct plugin *));
        }
        for (size_t i = 0; i < chain->count; i++)
                if (traffic_fit(chain->items[i], traffic) == PLUGIN_FIT_YES)
                        view->items[kept++] = chain->items[i];
        view->chain.items = view->items;
}

void plugins_select(struct plugins *plugins, const struct plugin_workload *workload, const struct plugin_traffic *traffic, struct plugin_chain *ret_chain)
{
        ON_LOOP();
        CLEANUP(asker_fini) struct asker asker;
        asker_init(&asker, plugins->root_namespace, workload);
        struct known_chain *chain = chain_get(plugins, &asker);
        chain_refresh(plugins, chain, &asker);

        size_t at = 0;
        for (; at < VIEWS; at++) {
                const struct view *view = &chain->views[at];
                if (view->is_made && view->traffic.direction == traffic->direction && view->traffic.port == traffic->port && view->traffic.type == traffic->type)
                        break;
        }
        if (at == VIEWS) {
                at = chain->next_view++ % VIEWS;
                view_make(plugins, &chain->views[at], chain, traffic);
                chains_limit(plugins);
        }
        *ret_chain = chain->views[at].chain;
}
