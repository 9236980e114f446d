/*
 * plugin: WasmPlugin and TrafficExtension resources: decode, validate, select, order, chain (contract section 5). Pure: reads no file, asks nobody, pulls nothing.
 * Loop only, all of it.
 */
#pragma once
#include <wasmcached/base.h>
#include <wasmcached/module.h>

/* ---- one resource ---- */
enum plugin_kind { PLUGIN_TRAFFIC_EXTENSION, PLUGIN_WASM_PLUGIN, /* in the order of ties; in listings only, refused: */ PLUGIN_SECRET, PLUGIN_POD, PLUGIN_FILE };
enum plugin_state { PLUGIN_ACCEPTED, PLUGIN_REFUSED, PLUGIN_IGNORED };         /* ignored: a TrafficExtension with lua */
enum plugin_phase { PLUGIN_AUTHN, PLUGIN_AUTHZ, PLUGIN_STATS, PLUGIN_UNSPECIFIED };        /* in the order of the chain */
enum plugin_type { PLUGIN_HTTP, PLUGIN_NETWORK, PLUGIN_ANY_TYPE };             /* a plugin is HTTP or NETWORK, a question may be for any */
enum plugin_fail_strategy { PLUGIN_FAIL_CLOSE, PLUGIN_FAIL_OPEN, PLUGIN_FAIL_RELOAD };
enum plugin_mode { PLUGIN_UNDEFINED, PLUGIN_CLIENT, PLUGIN_SERVER, PLUGIN_CLIENT_AND_SERVER };
enum plugin_target_kind { PLUGIN_GATEWAY, PLUGIN_GATEWAY_CLASS, PLUGIN_SERVICE, PLUGIN_SERVICE_ENTRY };
extern const char *const plugin_kind_names[], *const plugin_state_names[], *const plugin_phase_names[], *const plugin_type_names[], *const plugin_fail_strategy_names[];

enum { PLUGIN_PROBLEMS_MAX = 64 };        /* of one resource; the last one then says that there are more */

struct plugin_label { char *key, *value; };
struct plugin_target { enum plugin_target_kind kind; char *name; };
struct plugin_match { enum plugin_mode mode; uint16_t *ports; size_t port_count; };        /* no ports = any */
struct plugin_env { char *name, *value; };                         /* value NULL: the proxy's own (HOST) */
struct plugin_problem { char *field, *detail; };                   /* "spec.vmConfig.env[0].name", a sentence for a person */

/* Read-only once decoded; counted. What could not be read has its default, so a refused one can still stand in for itself. */
struct plugin {
        unsigned references;
        enum plugin_kind kind;
        enum plugin_state state;
        bool is_placed;                   /* namespace, selection, phase and priority could be read: it has its place in chains */
        enum plugin_phase phase;
        enum plugin_type type;
        enum plugin_fail_strategy fail_strategy;
        int64_t priority;                 /* 0 if unset, as documented */
        char *namespace, *name;           /* never NULL; name "" if it could not be read */
        char *uid;                        /* metadata.uid; NULL if absent */
        char *version;                    /* metadata.resourceVersion; for what has none, a hash of its content */
        char *url, *plugin_name, *config; /* config is JSON text of an object; each NULL if absent */
        struct module_want *want;         /* what to ask module for; NULL unless accepted */
        struct plugin_label *labels; size_t label_count;           /* the selector, sorted by key */
        struct plugin_target *targets; size_t target_count;
        struct plugin_match *matches; size_t match_count;
        struct plugin_env *envs; size_t env_count;
        struct plugin_problem *problems; size_t problem_count;
        enum error_code code;             /* of the first problem */
        uint64_t fingerprint;             /* of all that was read: equal for equal resources, also after a restart */
};

/* Is it one of our kinds, in any version of the API group? Then plugin_decode takes it. */
bool plugin_is_resource(const struct value *object);
/* Never NULL: whatever is wrong is in its problems, each with its field. `object` is not kept. */
struct plugin *plugin_decode(const struct value *object) __attribute__((returns_nonnull));
struct plugin *plugin_ref(struct plugin *plugin);
void plugin_unref(struct plugin **plugin);

/* ---- who asks, and about what traffic ---- */
struct plugin_service { bool is_entry; const char *namespace, *name; };        /* a Service or ServiceEntry that a waypoint serves */
struct plugin_workload {
        const char *namespace;
        const struct plugin_label *labels; size_t label_count;     /* in any order, no key twice */
        const struct plugin_service *services; size_t service_count;
};
enum plugin_direction { PLUGIN_ANY_DIRECTION, PLUGIN_INBOUND, PLUGIN_OUTBOUND, PLUGIN_GATEWAY_TRAFFIC };
struct plugin_traffic { enum plugin_direction direction; uint16_t port; enum plugin_type type; };         /* port 0 = not known */

/* The first reason why a plugin does not reach a workload, in this order; PLUGIN_FIT_YES if it does. */
enum plugin_fit { PLUGIN_FIT_YES, PLUGIN_FIT_IGNORED, PLUGIN_FIT_UNPLACED, PLUGIN_FIT_NAMESPACE, PLUGIN_FIT_TARGETS_ONLY, PLUGIN_FIT_TARGETS, PLUGIN_FIT_LABELS,
        PLUGIN_FIT_TYPE, PLUGIN_FIT_MATCH };
enum plugin_fit plugin_get_fit(const struct plugin *plugin, const char *root_namespace, const struct plugin_workload *workload, const struct plugin_traffic *traffic);
const char *plugin_fit_text(enum plugin_fit fit);                  /* a sentence */

/* ---- the set ---- */
struct plugins;
struct plugins_options {
        const char *root_namespace;       /* copied; NULL = "istio-system" */
        /* May be NULL. An object is another one than before (NULL: was not there, is not there any more), after the whole change is in place. */
        void (*changed)(void *arg, const struct plugin *before, const struct plugin *after);
        void *arg;
};
struct plugins *plugins_new(const struct plugins_options *options) __attribute__((returns_nonnull));
void plugins_free(struct plugins **plugins);
/* A source is a file name, or a name with a '/' in it, which no file has ("kubernetes/wasmplugins"). One object from two sources: files go before other sources, so that what lies
   on the node holds against the cluster; then the name that sorts first (bytewise) wins, within a source the earlier object; the others are listed as refused and wait.
   All three take over one reference of each plugin. An equal plugin changes nothing. */
int plugin_compare_sources(const char *a, const char *b);
void plugins_put(struct plugins *plugins, const char *source, struct plugin *plugin);
void plugins_replace(struct plugins *plugins, const char *source, struct plugin *const *items, size_t count);     /* all of the source; count 0 forgets it */
/* A source's list that comes in parts. What is as it was is only marked as part of it; the end takes the rest (count may be 0) and takes away what is not marked, so that it has
   no more to do in its one turn than has changed. Of one object the last one counts. confirm: true = as it was, and marked. put: marked, and in place at once. put and close
   take over. */
uint64_t plugins_list_open(struct plugins *plugins);
bool plugins_list_confirm(struct plugins *plugins, const char *source, uint64_t list, const struct plugin *plugin);
void plugins_list_put(struct plugins *plugins, const char *source, uint64_t list, struct plugin *plugin);
void plugins_list_close(struct plugins *plugins, const char *source, uint64_t list, struct plugin *const *items, size_t count);
bool plugins_remove(struct plugins *plugins, const char *source, enum plugin_kind kind, const char *namespace, const char *name);
/* The one that counts; NULL if there is none. Borrowed until the next change. */
const struct plugin *plugins_find(const struct plugins *plugins, enum plugin_kind kind, const char *namespace, const char *name);
const char *plugins_get_source(const struct plugins *plugins, const struct plugin *plugin);         /* of the one that counts, if it is this; else NULL. Borrowed */
size_t plugins_get_count(const struct plugins *plugins);           /* what /v1/resources lists, also what waits behind another */

/* In the order of the chain, refused ones among them. Borrowed until the next call of plugins_… that is not const. `revision` is equal for equal chains and
   differs otherwise (it is made of fingerprints); a state from outside (pulling, ready) is not in it. */
struct plugin_chain { const struct plugin *const *items; size_t count; uint64_t revision; };
void plugins_select(struct plugins *plugins, const struct plugin_workload *workload, const struct plugin_traffic *traffic, struct plugin_chain *ret_chain);

struct plugin_row { const struct plugin *plugin; const char *source, *shadowed_by; };      /* shadowed_by: the source of the same object that counts; NULL */
typedef void (*plugin_each)(void *arg, const struct plugin_row *row);
/* Every resource by namespace, name, kind, source: each(arg, row) at most `limit` times (from 1). *ret_after is what continues (free) or NULL at the end.
   ERROR_BAD_REQUEST for an `after` that is none of ours. */
struct plugin_page { const char *namespace, *after; size_t limit; plugin_each each; void *arg; };      /* namespace NULL = all; after NULL = from the first */
bool plugins_list(struct plugins *plugins, const struct plugin_page *page, char **ret_after, struct error *err);

/* ---- JSON, contract section 2 ---- */
enum plugin_progress { PLUGIN_PULLING, PLUGIN_READY, PLUGIN_FAILED };
struct plugin_outcome { enum plugin_progress progress; const char *path, *sha256, *digest, *code, *detail, *since; };
                                          /* of an accepted plugin; texts NULL if none. since, RFC 3339: put only where it is given */
void plugin_put_chain_entry(struct json_writer *writer, const struct plugin *plugin, const struct plugin_outcome *outcome);
void plugin_put_resource(struct json_writer *writer, const struct plugin_row *row);
