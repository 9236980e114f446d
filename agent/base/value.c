/*
 * How it goes: a tree of nodes with their lines; the parsers (value_json.c, value_yaml.c) fill it, readers only look.
 * How it fails: a member of the wrong kind is refused by name; absent and null are the same.
 * How it ends: value_free frees the whole tree; its depth was bounded when it was read.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/memory.h>
#include "value_node.h"

void value_fini(struct value *node)
{
        for (size_t i = 0; i < node->count; i++) {
                value_fini(&node->items[i]);
                if (node->keys)
                        free(node->keys[i]);
        }
        free(node->items);
        free(node->keys);
        if (node->text)
                explicit_bzero(node->text, node->text_bytes);      /* docker configs pass through here */
        free(node->text);
        *node = (struct value){ 0 };
}

/* Room doubles: at each power of two it is full. */
struct value *value_add_child(struct value *node)
{
        if ((node->count & (node->count - 1)) == 0) {
                size_t room = node->count > 0 ? 2 * node->count : 1;
                node->items = memory_resize(node->items, room, sizeof *node->items);
                if (node->keys)
                        node->keys = memory_resize(node->keys, room, sizeof *node->keys);
        }
        node->items[node->count] = (struct value){ 0 };
        return &node->items[node->count];
}

void value_free(struct value **value)
{
        if (*value)
                value_fini(*value);
        free(TAKE(*value));
}

enum value_kind value_get_kind(const struct value *value)
{
        return value ? value->kind : VALUE_NULL;
}

const char *value_get_kind_name(enum value_kind kind)
{
        static const char *const names[] = { "null", "boolean", "integer", "number", "string", "array", "object" };
        return names[kind];
}

size_t value_get_line(const struct value *value)
{
        return value ? value->line : 0;
}

size_t value_get_count(const struct value *value)
{
        return value ? value->count : 0;
}

const struct value *value_get_item(const struct value *list_or_map, size_t index)
{
        return list_or_map && index < list_or_map->count ? &list_or_map->items[index] : NULL;
}

const char *value_get_key(const struct value *map, size_t index)
{
        return map && map->keys && index < map->count ? map->keys[index] : NULL;
}

const struct value *value_get_member(const struct value *map, const char *name)
{
        if (!map || !map->keys)
                return NULL;
        for (size_t i = 0; i < map->count; i++)
                if (strcmp(map->keys[i], name) == 0)
                        return &map->items[i];
        return NULL;
}

const char *value_get_text(const struct value *value)
{
        return value && value->kind == VALUE_TEXT ? value->text : NULL;
}

size_t value_get_text_bytes(const struct value *value)
{
        return value && value->kind == VALUE_TEXT ? value->text_bytes : 0;
}

int64_t value_get_int(const struct value *value)
{
        return value && value->kind == VALUE_INT ? value->integer : 0;
}

double value_get_real(const struct value *value)
{
        if (!value)
                return 0;
        return value->kind == VALUE_REAL ? value->real : value->kind == VALUE_INT ? (double)value->integer : 0;
}

bool value_get_bool(const struct value *value)
{
        return value && value->kind == VALUE_BOOL && value->integer != 0;
}

/* True with *ret_member NULL when absent or null; false (refused) for another kind than `kind`. */
static bool member_read(const struct value *map, const char *name, enum value_kind kind, enum error_code code, const struct value **ret_member, struct error *err)
{
        const struct value *member = value_get_member(map, name);
        const char *found = value_get_kind_name(value_get_kind(member)), *wanted = value_get_kind_name(kind);

        if (!member || member->kind == VALUE_NULL) {
                *ret_member = NULL;
                return true;
        }
        if (member->kind != kind && member->line > 0)
                return refuse(err, code, "line %zu: \"%s\" must be of type %s, not %s", member->line, name, wanted, found);
        if (member->kind != kind)
                return refuse(err, code, "member \"%s\" must be of type %s, not %s", name, wanted, found);
        *ret_member = member;
        return true;
}

bool value_read_text(const struct value *map, const char *name, enum error_code code, const char **ret_text, struct error *err)
{
        const struct value *member;

        if (!member_read(map, name, VALUE_TEXT, code, &member, err))
                return false;
        if (member)
                *ret_text = member->text;
        return true;
}

bool value_read_int(const struct value *map, const char *name, enum error_code code, int64_t *ret_int, struct error *err)
{
        const struct value *member;

        if (!member_read(map, name, VALUE_INT, code, &member, err))
                return false;
        if (member)
                *ret_int = member->integer;
        return true;
}

bool value_read_bool(const struct value *map, const char *name, enum error_code code, bool *ret_bool, struct error *err)
{
        const struct value *member;

        if (!member_read(map, name, VALUE_BOOL, code, &member, err))
                return false;
        if (member)
                *ret_bool = member->integer != 0;
        return true;
}

bool value_read_map(const struct value *map, const char *name, enum error_code code, const struct value **ret_map, struct error *err)
{
        const struct value *member;

        if (!member_read(map, name, VALUE_MAP, code, &member, err))
                return false;
        if (member)
                *ret_map = member;
        return true;
}

bool value_read_list(const struct value *map, const char *name, enum error_code code, const struct value **ret_list, struct error *err)
{
        const struct value *member;

        if (!member_read(map, name, VALUE_LIST, code, &member, err))
                return false;
        if (member)
                *ret_list = member;
        return true;
}

static bool is_among(const char *name, const char *const *names)
{
        for (; *names; names++)
                if (strcmp(*names, name) == 0)
                        return true;
        return false;
}

bool value_only_members(const struct value *map, const char *const *names, enum error_code code, struct error *err)
{
        for (size_t i = 0; i < value_get_count(map); i++) {
                CLEANUP(buffer_fini) struct buffer allowed = { 0 };
                char shown[80];

                if (is_among(map->keys[i], names))
                        continue;
                for (const char *const *name = names; *name; name++)
                        buffer_printf(&allowed, "%s%s", name == names ? "" : ", ", *name);
                string_printable(map->keys[i], strlen(map->keys[i]), shown, sizeof shown);
                if (map->items[i].line > 0)
                        return refuse(err, code, "line %zu: unknown key \"%s\"; known are %s", map->items[i].line, shown, allowed.data ? allowed.data : "none");
                return refuse(err, code, "unknown member \"%s\"; known are %s", shown, allowed.data ? allowed.data : "none");
        }
        return true;
}
