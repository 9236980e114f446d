/*
 * How it goes: defaults first, through the same reader as the file; then the file's tree is walked beside the option table; then the rules between options.
 * How it fails: the first mistake ends it with file, line and key; the config that ran stays as it was.
 * How it ends: config_free() frees every text and list at once (config_keep).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "option.h"

void *config_keep(struct config *config, void *memory)
{
        if (!memory)
                return NULL;
        if ((config->owned_count & (config->owned_count + 1)) == 0)
                config->owned = memory_resize(config->owned, (config->owned_count + 1) * 2, sizeof *config->owned);
        return config->owned[config->owned_count++] = memory;
}

void config_free(struct config **config)
{
        struct config *old = TAKE(*config);
        if (!old)
                return;
        for (size_t i = 0; i < old->owned_count; i++)
                free(old->owned[i]);
        free(old->owned);
        free(old);
}

/* ---- defaults ---- */
static bool defaults_read(enum option_scope scope, struct config *config, void *base, struct error *err)
{
        for (size_t i = 0; i < option_count; i++) {
                const struct option *option = &option_table[i];
                if (option->scope != scope)
                        continue;
                CLEANUP(value_free) struct value *initial = NULL;
                CLEANUP(cleanup_free) char *yaml = string_format("v: %s\n", option->initial);
                struct option_place place = { config, "built-in default", option->path, 0 };
                if (!yaml_parse(yaml, strlen(yaml), ERROR_INTERNAL, &initial, err) || !option_read(option, &place, value_get_member(initial, "v"), base, err))
                        return false;
        }
        return true;
}

static bool group_default_read(const struct option_group *group, struct config *config, struct error *err)
{
        CLEANUP(value_free) struct value *initial = NULL;
        CLEANUP(cleanup_free) char *yaml = string_format("v: %s\n", group->initial);
        struct option_place place = { config, "built-in default", group->path, 0 };
        return yaml_parse(yaml, strlen(yaml), ERROR_INTERNAL, &initial, err) && option_read_group(group, &place, value_get_member(initial, "v"), err);
}

/* ---- unknown keys ---- */
static size_t text_distance(const char *a, const char *b)
{
        enum { LONGEST = 64 };
        size_t row[LONGEST + 1];
        size_t a_bytes = strlen(a), b_bytes = strlen(b);
        if (a_bytes > LONGEST || b_bytes > LONGEST)
                return LONGEST;

        for (size_t j = 0; j <= b_bytes; j++)
                row[j] = j;
        for (size_t i = 1; i <= a_bytes; i++) {
                size_t diagonal = row[0];
                row[0] = i;
                for (size_t j = 1; j <= b_bytes; j++) {
                        size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
                        diagonal = row[j];
                        size_t shorter = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
                        row[j] = replaced < shorter ? replaced : shorter;
                }
        }
        return row[b_bytes];
}

/* A key of that very name somewhere else in the table: indented wrongly. */
static const char *find_elsewhere(const char *name)
{
        for (size_t i = 0; i < option_count; i++) {
                const char *dot = strrchr(option_table[i].path, '.');
                if (dot && string_equal(dot + 1, name))
                        return option_table[i].path;
        }
        return NULL;
}

static bool refuse_unknown(const struct option_place *place, const char *prefix, const char *name, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer allowed = { 0 };
        char nearest[64] = "";
        size_t best = 1 + strlen(name) / 3 + 1;
        struct option_child child;
        for (size_t index = 0; option_next_child(prefix, &index, &child); ) {
                buffer_printf(&allowed, "%s%s", allowed.used ? ", " : "", child.name);
                size_t distance = text_distance(name, child.name);
                if (distance < best) {
                        best = distance;
                        memcpy(nearest, child.name, sizeof nearest);
                }
        }
        const char *elsewhere = *nearest ? NULL : find_elsewhere(name);
        if (elsewhere)
                return option_refuse(place, err, "unknown key here; did you mean \"%s\"? allowed: %s", elsewhere, allowed.data);
        if (*nearest)
                return option_refuse(place, err, "unknown key; did you mean \"%s\"? allowed: %s", nearest, allowed.data);
        return option_refuse(place, err, "unknown key; allowed: %s", allowed.data);
}

/* ---- the walk ---- */
static bool map_read(const char *prefix, const struct option_place *place, const struct value *map, void *base, struct error *err);

static bool child_read(const struct option_child *child, const struct option_place *place, const struct value *value, void *base, struct error *err)
{
        if (child->kind == CHILD_OPTION)
                return option_read(child->option, place, value, base, err);
        if (value_get_kind(value) == VALUE_NULL)
                return true;
        if (child->kind == CHILD_GROUP)
                return option_read_group(child->group, place, value, err);
        return map_read(child->prefix, place, value, base, err);
}

static bool member_read(const char *prefix, const struct option_place *place, const char *name, const struct value *value, void *base, struct error *err)
{
        char shown[96];
        string_printable(name, strlen(name), shown, sizeof shown);
        CLEANUP(cleanup_free) char *key = string_format("%s%s%s", place->key, *place->key ? "." : "", shown);
        struct option_place inner = { place->config, place->file, key, value_get_line(value) ? value_get_line(value) : place->line };
        struct option_child child;
        for (size_t index = 0; option_next_child(prefix, &index, &child); )
                if (string_equal(child.name, name))
                        return child_read(&child, &inner, value, base, err);
        return refuse_unknown(&inner, prefix, name, err);
}

static bool map_read(const char *prefix, const struct option_place *place, const struct value *map, void *base, struct error *err)
{
        if (value_get_kind(map) != VALUE_MAP)
                return option_refuse(place, err, "a value of type %s does not fit; allowed: a map of keys", value_get_kind_name(value_get_kind(map)));

        for (size_t i = 0; i < value_get_count(map); i++)
                if (!member_read(prefix, place, value_get_key(map, i), value_get_item(map, i), base, err))
                        return false;
        return true;
}

static bool item_read(const struct option_group *group, const struct option_place *place, const struct value *value, void *item, struct error *err)
{
        CLEANUP(cleanup_free) char *prefix = string_format("%s%s.", group->path, group->is_keyed ? "{}" : "[]");
        if (!defaults_read(group->scope, place->config, item, err))
                return false;
        if (value_get_kind(value) != VALUE_NULL && !map_read(prefix, place, value, item, err))
                return false;

        for (size_t i = 0; i < option_count; i++) {
                const struct option *option = &option_table[i];
                if (option->scope == group->scope && option->flags & OPTION_REQUIRED && !**(const char *const *)(void *)((char *)item + option->offset))
                        return option_refuse(place, err, "\"%s\" is missing; it is required", strrchr(option->path, '.') + 1);
        }
        return true;
}

bool option_read_group(const struct option_group *group, const struct option_place *place, const struct value *value, struct error *err)
{
        if (value_get_kind(value) != (group->is_keyed ? VALUE_MAP : VALUE_LIST))
                return option_refuse(place, err, "a value of type %s does not fit; allowed: %s", value_get_kind_name(value_get_kind(value)),
                        group->is_keyed ? "a map with hosts as keys" : "a list of maps");
        size_t count = value_get_count(value);
        if (count > group->items_max)
                return option_refuse(place, err, "%zu entries; allowed: at most %zu", count, group->items_max);

        char *items = config_keep(place->config, memory_new(count + 1, group->item_bytes));
        for (size_t i = 0; i < count; i++) {
                const struct value *item = value_get_item(value, i);
                char shown[280];
                if (group->is_keyed)
                        string_printable(value_get_key(value, i), strlen(value_get_key(value, i)), shown, sizeof shown);
                CLEANUP(cleanup_free) char *key = group->is_keyed ? string_format("%s.%s", place->key, shown) : string_format("%s[%zu]", place->key, i);
                struct option_place inner = { place->config, place->file, key, value_get_line(item) ? value_get_line(item) : place->line };
                if (group->is_keyed && !option_text_fits(OPTION_HOST, value_get_key(value, i)))
                        return option_refuse(&inner, err, "the key does not fit; allowed: %s", option_types[OPTION_HOST].allowed);
                if (group->is_keyed)
                        *(const char **)(void *)(items + i * group->item_bytes) = config_keep(place->config, string_copy(value_get_key(value, i)));
                if (!item_read(group, &inner, item, items + i * group->item_bytes, err))
                        return false;
        }
        memcpy((char *)place->config + group->offset, &items, sizeof items);
        memcpy((char *)place->config + group->count_offset, &count, sizeof count);
        return true;
}

/* "line 3, column 7: …" of the parser becomes "FILE:3: …", as everywhere. */
static bool refuse_syntax(const char *file, struct error *err)
{
        size_t line = 0;
        int used = 0;
        CLEANUP(cleanup_free) char *text = string_copy(err->text);
        if (sscanf(text, "line %zu%n", &line, &used) != 1)
                return refuse_within(err, "%s", file);
        const char *rest = text + used;
        rest += strspn(rest, ",: ");
        return refuse(err, ERROR_BAD_REQUEST, "%s:%zu: %s", file, line, rest);
}

bool config_parse(const char *text, size_t size_bytes, const char *file, struct config **ret_config, struct error *err)
{
        CLEANUP(config_free) struct config *config = memory_new(1, sizeof *config);
        if (!defaults_read(OPTION_ROOT, config, config, err))
                return false;
        for (size_t i = 0; i < option_group_count; i++)
                if (!group_default_read(&option_groups[i], config, err))
                        return false;

        CLEANUP(value_free) struct value *document = NULL;
        if (!yaml_parse(text, size_bytes, ERROR_BAD_REQUEST, &document, err))
                return refuse_syntax(file, err);
        struct option_place place = { config, file, "", 1 };
        if (value_get_kind(document) != VALUE_NULL && !map_read("", &place, document, config, err))
                return false;
        if (!config_check(&place, document, err))
                return false;

        *ret_config = TAKE(config);
        return true;
}

bool config_load(const char *path, struct config **ret_config, struct error *err)
{
        ON_WORKER();
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        const char *file = path ? path : CONFIG_FILE_DEFAULT;
        if (!fs_load(AT_FDCWD, file, CONFIG_FILE_MAX_BYTES, &text, err)) {
                if (!path && err->code == ERROR_NOT_FOUND)
                        return config_parse("", 0, file, ret_config, err);
                return refuse_within(err, "configuration");
        }
        return config_parse(text.data ? text.data : "", text.used, file, ret_config, err);
}
