/* What the decoding files of this room share: places in a resource, problems, and members read with both. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include <wasmcached/plugin.h>

enum {
        PLUGIN_LABELS_MAX = 4096, PLUGIN_LABEL_VALUE_MAX = 63, PLUGIN_TARGETS_MAX = 16, PLUGIN_ENVS_MAX = 256, PLUGIN_ENV_NAME_MAX = 256, PLUGIN_ENV_VALUE_MAX = 2048,
        PLUGIN_SECRET_NAME_MAX = 253, PLUGIN_NAME_MAX = 256, PLUGIN_CODE_MAX = 65536, PLUGIN_PORT_MAX = 65535, PLUGIN_TARGET_NAME_MAX = 253, PLUGIN_VERSION_MAX = 253,
};

/* "spec.match[0].ports[2]": where in the resource; long names from outside are cut. */
struct place { char text[256]; };
struct place place_top(const char *name);
struct place place_member(const struct place *at, const char *name);
struct place place_item(const struct place *at, size_t index);

/* Always false. The first problem's code is the plugin's. */
bool problem_add(struct plugin *plugin, enum error_code code, const struct place *at, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* A map that is being read: one line per member. */
struct reading { struct plugin *plugin; const struct value *map; struct place at; };
/* False with a problem if `value` is no map. */
bool reading_start(struct plugin *plugin, const struct value *value, const struct place *at, struct reading *ret_reading);
/* A problem for every member that is none of `names` (NULL-terminated). */
void reading_only(const struct reading *reading, const char *what, const char *const *names);
/* NULL if absent, null or (with a problem) of another kind. */
const struct value *reading_get(const struct reading *reading, const char *name, enum value_kind kind);
bool reading_has(const struct reading *reading, const char *name);          /* there and not null */
/* 1 to `max` bytes, or absent (*ret_text untouched, true). */
bool reading_text(const struct reading *reading, const char *name, size_t max_bytes, const char **ret_text);
/* One of `names`; absent: *ret_index untouched. */
bool reading_choice(const struct reading *reading, const char *name, const char *const *names, unsigned *ret_index);
/* Integers, and reals that are whole (10.0); *ret_number untouched if absent. */
bool reading_integer(const struct reading *reading, const char *name, int64_t *ret_number);

size_t text_count_characters(const char *text);

/* What is listed because something is wrong with it, and is no plugin: problems are added, then it is sealed. */
struct plugin *plugin_new_row(enum plugin_kind kind, const char *namespace, const char *name) __attribute__((returns_nonnull));
void plugin_seal_row(struct plugin *plugin);

/* Parts of a resource; what is wrong is in the problems. */
bool selection_read(const struct reading *spec, bool has_target_ref);       /* false: cannot be known */
void matches_read(const struct reading *spec);
void envs_read(const struct reading *wasm);
void source_read(const struct reading *wasm);                               /* url … verificationKey: by module's decoder */
