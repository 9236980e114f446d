/* The set of resources and its indexes; private to plugins.c (what is there), list.c (in order of names) and select.c (in order of chains). */
#pragma once
#include <wasmcached/plugin.h>

struct source { char *name; size_t count, listed; uint64_t list; };         /* entries it has; those that are marked as part of the list under way */

/* One object as one source gives it. */
struct entry {
        struct plugin *plugin;
        struct source *source;
        unsigned nth;                     /* of several in one source */
        uint64_t generation;              /* of the last change that had it, or the list's that it is marked for */
        struct entry *next;               /* of the same object, in order of (source, nth); the first one counts */
};
struct object { struct entry *entries; struct plugin *placed; /* the one in the index, borrowed */ };

/* The plugins of one namespace that have a place, in the order of chains. */
struct space { struct plugin **items; size_t count, room; uint64_t changed; };

struct known_row { struct plugin_row row; unsigned nth; };

struct plugins {
        struct plugins_options options;
        char *root_namespace;
        struct map *objects, *sources;    /* key → struct object; name → struct source */
        struct map *spaces;               /* namespace → struct space */
        uint64_t generation, revision, spaces_dropped;    /* count calls that change, changes of the index; the revision at which a space went away */
        size_t entry_count;
        struct known_row *rows; bool has_rows;            /* sorted for listings; made when asked for */
        struct map *chains; uint64_t used; size_t remembered;       /* workload → struct known_chain; counts questions; items in them */
        const struct plugin **scratch; size_t scratch_room;
};

int plugin_compare_order(const struct plugin *a, const struct plugin *b);
void space_add(struct plugins *plugins, struct plugin *plugin);
void space_remove(struct plugins *plugins, struct plugin *plugin);
void space_free(void *space);
void chain_free(void *chain);
