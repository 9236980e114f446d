/*
 * How it goes: objects by (kind, namespace, name); each has one entry per source that gives it, the first of which counts and, if it has a place, is in its namespace's index.
 *              A replacement takes all that the source gives now, then sweeps what it gave before; only then is anybody told. A list that comes in parts has marked what
 *              stays as it is before its end comes, so that the end of ten thousand that have not changed takes no time.
 * How it fails: it does not: what is wrong with a resource is the resource's problem, and never another's.
 * How it ends: plugins_free() frees all; chains that were given out end with the next change.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "set.h"

enum { REPEATS_MAX = 16 };                /* of one object in one source; more are not kept: the first counts anyway */

/* What was, for those who shall be told. */
struct change { struct plugin *before, *after; };
struct changes { struct change *items; size_t count; };

struct key { char *bytes; size_t size; };
static void key_fini(struct key *key)
{
        free(key->bytes);
}

/* Kind, namespace, name: texts have no NUL, so it separates them. */
static struct key key_make(enum plugin_kind kind, const char *namespace, const char *name)
{
        size_t namespace_size = strlen(namespace) + 1, name_size = strlen(name) + 1;
        struct key key = { memory_new(1 + namespace_size + name_size, 1), 1 + namespace_size + name_size };
        key.bytes[0] = (char)kind;
        memcpy(key.bytes + 1, namespace, namespace_size);
        memcpy(key.bytes + 1 + namespace_size, name, name_size);
        return key;
}

static void entry_free(struct entry *entry)
{
        plugin_unref(&entry->plugin);
        free(entry);
}

static void source_free(void *pointer)
{
        struct source *source = pointer;
        free(source->name);
        free(source);
}

static void object_free(void *pointer)
{
        struct object *object = pointer;
        while (object->entries) {
                struct entry *next = object->entries->next;
                entry_free(object->entries);
                object->entries = next;
        }
        free(object);
}

struct plugins *plugins_new(const struct plugins_options *options)
{
        struct plugins *plugins = memory_new(1, sizeof *plugins);
        plugins->options = *options;
        plugins->root_namespace = string_copy(options->root_namespace ? options->root_namespace : "istio-system");
        plugins->objects = map_new(object_free);
        plugins->sources = map_new(source_free);
        plugins->spaces = map_new(space_free);
        plugins->chains = map_new(chain_free);
        return plugins;
}

void plugins_free(struct plugins **plugins_pointer)
{
        struct plugins *plugins = TAKE(*plugins_pointer);
        if (!plugins)
                return;
        map_free(&plugins->chains);
        map_free(&plugins->spaces);
        map_free(&plugins->objects);
        map_free(&plugins->sources);
        free(plugins->rows);
        free(plugins->scratch);
        free(plugins->root_namespace);
        free(plugins);
}

static void change_note(struct changes *changes, struct plugin *before, struct plugin *after)
{
        if ((changes->count & (changes->count - 1)) == 0)
                changes->items = memory_resize(changes->items, changes->count > 0 ? 2 * changes->count : 1, sizeof *changes->items);
        changes->items[changes->count++] = (struct change){ before ? plugin_ref(before) : NULL, after ? plugin_ref(after) : NULL };
}

static void changes_tell(struct plugins *plugins, struct changes *changes)
{
        for (size_t i = 0; i < changes->count; i++) {
                struct change *change = &changes->items[i];
                if (plugins->options.changed)
                        plugins->options.changed(plugins->options.arg, change->before, change->after);
                plugin_unref(&change->before);
                plugin_unref(&change->after);
        }
        free(changes->items);
}

/* The index has the first entry's plugin, or nothing. `before` counted until now. */
static void object_settle(struct plugins *plugins, struct object *object, struct plugin *before, struct changes *changes)
{
        struct plugin *after = object->entries ? object->entries->plugin : NULL, *placed = after && after->is_placed ? after : NULL;
        plugins->has_rows = false;
        if (object->placed != placed) {
                plugins->revision++;
                if (object->placed)
                        space_remove(plugins, object->placed);
                if (placed)
                        space_add(plugins, placed);
                object->placed = placed;
        }
        if (before != after)
                change_note(changes, before, after);
}

static struct source *source_get(struct plugins *plugins, const char *name)
{
        struct source *source = map_get_text(plugins->sources, name);
        if (!source) {
                source = memory_new(1, sizeof *source);
                source->name = string_copy(name);
                map_put_text(plugins->sources, name, source);
        }
        plugins->generation++;
        return source;
}

static void source_settle(struct plugins *plugins, struct source *source)
{
        if (source->count == 0)
                map_remove_text(plugins->sources, source->name);
}

int plugin_compare_sources(const char *a, const char *b)
{
        int order = (strchr(a, '/') != NULL) - (strchr(b, '/') != NULL);
        return order ? order : strcmp(a, b);
}

static int entry_compare(const struct entry *entry, const struct source *source, unsigned nth)
{
        int order = plugin_compare_sources(entry->source->name, source->name);
        return order ? order : (entry->nth > nth) - (entry->nth < nth);
}

/* The source's entry of this object that this change has not seen yet; else a new one, NULL if there are too many. */
static struct entry *entry_get(struct plugins *plugins, struct object *object, struct source *source)
{
        unsigned nth = 0;
        for (struct entry *entry = object->entries; entry; entry = entry->next)
                if (entry->source == source && entry->generation != plugins->generation)
                        return entry;
                else if (entry->source == source)
                        nth++;
        if (nth == REPEATS_MAX)
                return NULL;

        struct entry **at = &object->entries, *entry = memory_new(1, sizeof *entry);
        while (*at && entry_compare(*at, source, nth) < 0)
                at = &(*at)->next;
        *entry = (struct entry){ .source = source, .nth = nth, .next = *at };
        *at = entry;
        source->count++;
        plugins->entry_count++;
        return entry;
}

static bool plugin_is_same(const struct plugin *a, const struct plugin *b)
{
        return a && a->fingerprint == b->fingerprint && strcmp(a->version, b->version) == 0;
}

/* NULL: too many of one object. */
static struct entry *plugin_take(struct plugins *plugins, struct source *source, struct plugin *plugin, struct changes *changes)
{
        CLEANUP(key_fini) struct key key = key_make(plugin->kind, plugin->namespace, plugin->name);
        CLEANUP(plugin_unref) struct plugin *taken = plugin;
        struct object *object = map_get(plugins->objects, key.bytes, key.size);
        if (!object) {
                object = memory_new(1, sizeof *object);
                map_put(plugins->objects, key.bytes, key.size, object);
        }
        CLEANUP(plugin_unref) struct plugin *before = object->entries ? plugin_ref(object->entries->plugin) : NULL;
        struct entry *entry = entry_get(plugins, object, source);
        if (!entry || plugin_is_same(entry->plugin, plugin))
                return entry;
        struct plugin *old = entry->plugin;               /* until it is out of the index */
        entry->plugin = TAKE(taken);
        object_settle(plugins, object, before, changes);
        plugin_unref(&old);
        return entry;
}

static void entry_mark(struct source *source, uint64_t list, struct entry *entry)
{
        if (source->list != list)
                source->listed = 0;
        source->list = list;
        if (entry && entry->generation != list) {
                entry->generation = list;
                source->listed++;
        }
}

/* Those of the source in this object that are not of the generation that stays; the object goes with its last entry. True if it went. */
static bool object_sweep(struct plugins *plugins, struct object *object, struct source *source, uint64_t stays, struct changes *changes)
{
        CLEANUP(plugin_unref) struct plugin *before = plugin_ref(object->entries->plugin);
        struct entry *gone = NULL;
        for (struct entry **at = &object->entries; *at;) {
                struct entry *entry = *at;
                if (entry->source != source || entry->generation == stays) {
                        at = &entry->next;
                        continue;
                }
                *at = entry->next;
                entry->next = gone;
                gone = entry;
                source->count--;
                source->listed -= source->list > 0 && entry->generation == source->list;
                plugins->entry_count--;
        }
        if (!gone)
                return false;
        object_settle(plugins, object, before, changes);
        while (gone) {
                struct entry *next = gone->next;
                entry_free(gone);
                gone = next;
        }
        return object->entries == NULL;
}

void plugins_put(struct plugins *plugins, const char *source_name, struct plugin *plugin)
{
        ON_LOOP();
        struct changes changes = { 0 };
        struct source *source = source_get(plugins, source_name);
        plugin_take(plugins, source, plugin, &changes);
        changes_tell(plugins, &changes);
}

static void source_sweep(struct plugins *plugins, struct source *source, size_t staying, uint64_t stays, struct changes *changes)
{
        const void *key;
        size_t key_size, position = 0;
        void *object;
        while (source->count > staying && map_next(plugins->objects, &position, &key, &key_size, &object))
                if (object_sweep(plugins, object, source, stays, changes))
                        map_remove(plugins->objects, key, key_size);
        source_settle(plugins, source);
}

void plugins_replace(struct plugins *plugins, const char *source_name, struct plugin *const *items, size_t count)
{
        ON_LOOP();
        struct changes changes = { 0 };
        size_t seen = 0;
        struct source *source = source_get(plugins, source_name);
        map_reserve(plugins->objects, map_get_count(plugins->objects) + count);
        for (size_t i = 0; i < count; i++) {
                struct entry *entry = plugin_take(plugins, source, items[i], &changes);
                if (!entry)
                        continue;
                entry->generation = plugins->generation;
                seen++;
        }
        source_sweep(plugins, source, seen, plugins->generation, &changes);
        changes_tell(plugins, &changes);
}

uint64_t plugins_list_open(struct plugins *plugins)
{
        return ++plugins->generation;
}

bool plugins_list_confirm(struct plugins *plugins, const char *source_name, uint64_t list, const struct plugin *plugin)
{
        ON_LOOP();
        CLEANUP(key_fini) struct key key = key_make(plugin->kind, plugin->namespace, plugin->name);
        const struct object *object = map_get(plugins->objects, key.bytes, key.size);
        struct entry *entry = object ? object->entries : NULL;
        while (entry && strcmp(entry->source->name, source_name) != 0)
                entry = entry->next;
        if (!entry || !plugin_is_same(entry->plugin, plugin))
                return false;
        entry_mark(entry->source, list, entry);
        return true;
}

/* Of one object of the source, the last one counts: each is a change of its own. */
static void listed_take(struct plugins *plugins, struct source *source, uint64_t list, struct plugin *plugin, struct changes *changes)
{
        plugins->generation++;
        entry_mark(source, list, plugin_take(plugins, source, plugin, changes));
}

void plugins_list_put(struct plugins *plugins, const char *source_name, uint64_t list, struct plugin *plugin)
{
        ON_LOOP();
        struct changes changes = { 0 };
        listed_take(plugins, source_get(plugins, source_name), list, plugin, &changes);
        changes_tell(plugins, &changes);
}

void plugins_list_close(struct plugins *plugins, const char *source_name, uint64_t list, struct plugin *const *items, size_t count)
{
        ON_LOOP();
        struct changes changes = { 0 };
        struct source *source = source_get(plugins, source_name);
        entry_mark(source, list, NULL);
        for (size_t i = 0; i < count; i++)
                listed_take(plugins, source, list, items[i], &changes);
        source_sweep(plugins, source, source->listed, list, &changes);
        changes_tell(plugins, &changes);
}

bool plugins_remove(struct plugins *plugins, const char *source_name, enum plugin_kind kind, const char *namespace, const char *name)
{
        ON_LOOP();
        CLEANUP(key_fini) struct key key = key_make(kind, namespace, name);
        struct object *object = map_get(plugins->objects, key.bytes, key.size);
        if (!object || !map_get_text(plugins->sources, source_name))
                return false;

        struct changes changes = { 0 };
        struct source *source = source_get(plugins, source_name);
        size_t count = source->count;
        if (object_sweep(plugins, object, source, plugins->generation, &changes))
                map_remove(plugins->objects, key.bytes, key.size);
        bool is_removed = source->count < count;
        source_settle(plugins, source);
        changes_tell(plugins, &changes);
        return is_removed;
}

const struct plugin *plugins_find(const struct plugins *plugins, enum plugin_kind kind, const char *namespace, const char *name)
{
        CLEANUP(key_fini) struct key key = key_make(kind, namespace, name);
        const struct object *object = map_get(plugins->objects, key.bytes, key.size);
        return object ? object->entries->plugin : NULL;
}

const char *plugins_get_source(const struct plugins *plugins, const struct plugin *plugin)
{
        CLEANUP(key_fini) struct key key = key_make(plugin->kind, plugin->namespace, plugin->name);
        const struct object *object = map_get(plugins->objects, key.bytes, key.size);
        return object && object->entries->plugin == plugin ? object->entries->source->name : NULL;
}

size_t plugins_get_count(const struct plugins *plugins)
{
        return plugins->entry_count;
}
