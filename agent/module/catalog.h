/* catalog: all that the store knows, in memory, and who holds what. Loop only; no I/O. Pointers stay valid until the entry they hang on is removed. */
#pragma once
#include <wasmcached/module.h>
#include <wasmcached/store.h>

enum grant_kind { GRANT_ANONYMOUS, GRANT_NODE, GRANT_SECRET, GRANT_INLINE, GRANT_IMPORT, GRANT_KINDS };
extern const char *const grant_kind_names[GRANT_KINDS];
enum { GRANTS_MAX = 100 };                        /* per image and repository, as the kubelet: beyond it nothing new is remembered */

struct grant {
        struct grant *next;
        const char *namespace, *secret;           /* behind the repository; "" if not of kind secret */
        const uint8_t *mac;                       /* DIGEST_SHA256_BYTES, behind them or all zero: anonymous ones are the most and have none */
        int64_t granted_s, last_ok_s;
        enum grant_kind kind;
        char repository[];
};

struct module_waiter;
struct waiter_list { struct module_waiter *head, *tail; };

struct lease {
        struct lease *next;                       /* of the hand-out */
        struct handout *handout;
        char id[STORE_LEASE_ID_BYTES];
        uint64_t holder;
        int64_t expires_ms, expires_s;            /* boot time; wall clock */
        int64_t saved_ms;                         /* expires_ms when it was last to be saved; 0 = not since the start */
        bool is_dirty;
};

/* One namespace's use of one module; namespace "" is the blob itself (admin socket). */
struct handout {
        struct handout *next;
        struct entry *entry;
        char namespace[STORE_NAMESPACE_BYTES];
        bool is_linked;
        uint64_t looked_turn;                     /* the loop's turn in which its file was last found as it should be; 0 = never */
        struct lease *leases;
        unsigned lease_count;
};

struct image {
        struct image *next;                       /* of the entry */
        struct entry *entry;
        struct grant *grants;
        struct digest manifest;
        const struct digest *top, *layer;         /* `manifest` and the module's where they are the same, else copies */
        const char *media_type, *layer_type;      /* interned */
        bool is_led;                              /* that the manifest leads to this module was seen, or shown by a seal, in the life of this process; a row alone is no proof */
};

struct known_reference {
        struct known_reference *next;             /* of the entry */
        struct entry *entry;
        struct image *image;                      /* NULL for http(s), file and some imports */
        char *etag;                               /* NULL = none */
        struct digest *top;                       /* what the name itself means where that is an index; NULL = the image */
        int64_t checked_s, saved_s;
        uint64_t sequence;                        /* of the pull that said so: an older one never replaces it */
        char name[];
};

struct resource { char *namespace, *name, *version, *reference; struct digest module, manifest; uint64_t sequence; };

struct entry {
        struct image *images;                     /* what a lookup reads stands together at the front */
        struct known_reference *references;
        struct grant *grants;                     /* of http(s), file and imported names */
        struct digest sha256;
        struct handout *handouts;
        struct entry *older, *newer;              /* by last use */
        struct store_identity identity;
        int64_t created_s, last_used_s;
        bool is_pinned, is_used_dirty;
        bool is_busy;                             /* a job touches its file or links: waiters queue */
        bool is_doomed;                           /* found damaged while a job has it: goes when that is done */
        unsigned holds;                           /* flights that count on it */
        struct waiter_list waiting;
};

struct catalog {
        struct map *entries, *images, *references, *resources, *leases, *texts;
        struct entry *oldest, *newest;
        struct entry **sorted; size_t sorted_count; bool is_sorted;
        uint64_t bytes;
        size_t pins, grants;
};

void catalog_init(struct catalog *catalog);
void catalog_fini(struct catalog *catalog);

/* Adds or renews; what points at something that is not here is dropped (NULL). Grants: NULL also when the limit is reached. */
struct entry *catalog_put_entry(struct catalog *catalog, const struct store_module *row);
struct image *catalog_put_image(struct catalog *catalog, const struct store_image *row);
struct known_reference *catalog_put_reference(struct catalog *catalog, const struct store_reference *row, uint64_t sequence);
struct grant *catalog_put_grant(struct catalog *catalog, const struct store_grant *row);
struct grant *catalog_find_grant(const struct catalog *catalog, const struct store_grant *row);
void catalog_put_resource(struct catalog *catalog, const struct store_resource *row, uint64_t sequence);
struct lease *catalog_put_lease(struct catalog *catalog, struct entry *entry, const char *namespace, const char *id, uint64_t holder);

struct entry *catalog_find_entry(const struct catalog *catalog, const struct digest *sha256);
struct image *catalog_find_image(const struct catalog *catalog, const struct digest *manifest_or_top);
struct known_reference *catalog_find_reference(const struct catalog *catalog, const char *name);
/* What the name itself means: an index, or the image. */
const struct digest *reference_get_top(const struct known_reference *reference);
struct resource *catalog_find_resource(const struct catalog *catalog, const char *namespace, const char *name);
struct handout *catalog_find_handout(const struct entry *entry, const char *namespace);
struct lease *catalog_find_lease(const struct handout *handout, uint64_t holder);
struct lease *catalog_find_lease_id(const struct catalog *catalog, const char *id);

/* Entry, images, references, grants and leases; nobody may wait on it any more. */
void catalog_remove_entry(struct catalog *catalog, struct entry **entry);
void catalog_remove_lease(struct catalog *catalog, struct lease **lease);
/* Drops the grants of one secret (namespace and name) or one credential on an image; true if there were any. */
bool catalog_remove_grants(struct catalog *catalog, struct image *image, const char *repository, const char *namespace, const char *secret);
/* Everything of `from`, which is empty then, goes over as it is: pointers stay valid. An entry, a name or a resource that `to` has as well is replaced. */
void catalog_move(struct catalog *from, struct catalog *to);
void catalog_use(struct catalog *catalog, struct entry *entry, int64_t now_s);
/* Is anything in the way of letting it go: a lease, pin, waiter, flight. NULL = nothing, else which. */
const char *catalog_get_obstacle(const struct entry *entry);
/* All entries in order of sha256; *ret_count of them. Valid until the next change. */
struct entry *const *catalog_get_sorted(struct catalog *catalog, size_t *ret_count);
