/* option: the one table that reading, defaults, bounds, --print-config, /v1/config, reload and the manual follow from. Private to daemon's config files. */
#pragma once
#include "config.h"

enum option_type {
        OPTION_BOOL, OPTION_INT, OPTION_PERCENT, OPTION_SIZE, OPTION_TIME, OPTION_MODE, OPTION_WORD, OPTION_TEXT, OPTION_PATH, OPTION_TEMPLATE, OPTION_LABEL, OPTION_ADDRESS,
        OPTION_PROXY, OPTION_URL, OPTION_CIDR, OPTION_HOST, OPTION_REPOSITORY, OPTION_TEXT_MAP,
        OPTION_TYPES
};
enum option_scope { OPTION_ROOT, OPTION_LISTENER, OPTION_REGISTRY, OPTION_REQUIRE };
enum option_flags {
        OPTION_LIST = 1,                  /* a list of that type, kept as texts */
        OPTION_RELOAD = 2,                /* reload applies it */
        OPTION_REQUIRED = 4,
};

struct option {
        const char *path;                 /* "store.root", "listeners[].mode" (of each item), "registries{}.ca" (of each key) */
        enum option_type type;
        enum option_scope scope;
        size_t offset;                    /* in struct config or in the scope's item: bool, int64_t, const char * or const char *const * */
        unsigned flags;
        const char *initial;              /* default as YAML */
        int64_t min, max;
        const char *words;                /* OPTION_WORD: "a|b|c" */
        const char *prose;
};
extern const struct option option_table[];
extern const size_t option_count;

struct option_group {
        const char *path;                 /* "listeners", "registries", "trust.require" */
        enum option_scope scope;
        bool is_keyed;                    /* a map; the key is the item's first member */
        size_t offset, count_offset, item_bytes, items_max;
        const char *initial;
        const char *prose;
};
extern const struct option_group option_groups[];
extern const size_t option_group_count;

/* For people: what a type looks like, its name in manuals. */
struct option_type_row { const char *name, *allowed; };
extern const struct option_type_row option_types[OPTION_TYPES];

struct option_section { const char *name, *prose; };
extern const struct option_section option_sections[];
extern const size_t option_section_count;

/* Children of a path prefix ("" or "store." or "listeners[]."), in table order. *index starts at 0. */
enum option_child_kind { CHILD_OPTION, CHILD_SECTION, CHILD_GROUP };
struct option_child {
        enum option_child_kind kind;
        char name[64];                    /* the last part alone */
        char prefix[128];                 /* of its own children, where it has some */
        const struct option *option;
        const struct option_group *group;
};
bool option_next_child(const char *prefix, size_t *index, struct option_child *ret_child);
const struct option_group *option_find_group(const char *path);

/* Where a group's items are. */
void *option_group_item(const struct option_group *group, const struct config *config, size_t index);
size_t option_group_count_items(const struct option_group *group, const struct config *config);

/* One value into base + offset. `key` is how errors name it ("listeners[0].mode"), `file` where. */
struct option_place { struct config *config; const char *file; const char *key; size_t line; };
bool option_read(const struct option *option, const struct option_place *place, const struct value *value, void *base, struct error *err);
/* Groups and sections (config.c), for reload too. */
bool option_read_group(const struct option_group *group, const struct option_place *place, const struct value *value, struct error *err);
bool option_refuse(const struct option_place *place, struct error *err, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The word at `index`; "" past the end. */
const char *option_word(const char *words, size_t index, char ret_word[32]);
void option_format_allowed(const struct option *option, struct buffer *out);
/* `reveal` shows passwords too: for comparing, never for showing. */
void option_put_json(const struct option *option, const void *base, bool reveal, const char *key, struct json_writer *writer);
void option_put_group_json(const struct option_group *group, const struct config *config, const char *key, struct json_writer *writer);
/* Rules between options, and defaults that follow from others. */
bool config_check(const struct option_place *place, const struct value *document, struct error *err);

/* Pure rules of syntax. */
bool option_text_fits(enum option_type type, const char *text);
