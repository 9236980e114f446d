/*
 * How it goes: the option table is walked from the top; each child writes itself as YAML with comments, or as JSON.
 * How it fails: it does not; buffers of our own texts have no limit.
 * How it ends: the YAML is read back by config_parse() to the same values (a unit test does), passwords in proxy URLs apart.
 */
#include <string.h>
#include "option.h"

enum { LINE_BYTES = 110 };

/* Words of `text` in lines that start with `indent` blanks and "# ". */
static void put_comment(struct buffer *out, int indent, const char *text)
{
        size_t column = 0;
        while (*text) {
                size_t length = strcspn(text, " ");
                if (column == 0 || column + 1 + length > LINE_BYTES) {
                        buffer_printf(out, "%s%*s# ", column ? "\n" : "", indent, "");
                        column = (size_t)indent + 2;
                } else {
                        buffer_append_text(out, " ");
                        column++;
                }
                buffer_append(out, text, length);
                column += length;
                text += length;
                text += strspn(text, " ");
        }
        buffer_append_text(out, "\n");
}

static void put_option_comment(struct buffer *out, int indent, const char *name, const struct option *option)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(buffer_fini) struct buffer allowed = { 0 };
        option_format_allowed(option, &allowed);
        if (name)
                buffer_printf(&text, "%s: ", name);
        buffer_printf(&text, "%s Allowed: %s.", option->prose, allowed.data);
        if (!(option->flags & OPTION_RELOAD))
                buffer_append_text(&text, " Needs a restart.");
        put_comment(out, indent, text.data);
}

static bool is_plain_scalar(const struct option *option, const char *json)
{
        if (option->flags & OPTION_LIST || json[0] != '"' || string_equal(json, "\"off\""))
                return false;
        if (option->type != OPTION_SIZE && option->type != OPTION_TIME && option->type != OPTION_WORD && option->type != OPTION_PATH)
                return false;
        size_t inner = strspn(json + 1, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.");
        return inner > 0 && json[1 + inner] == '"' && json[1] != '-' && json[1] != '.';
}

static void put_value(struct buffer *out, const struct option *option, const void *base)
{
        CLEANUP(buffer_fini) struct buffer json = { 0 };
        struct json_writer writer = { .out = &json };
        option_put_json(option, base, false, NULL, &writer);
        if (is_plain_scalar(option, json.data))
                buffer_append(out, json.data + 1, json.used - 2);
        else
                buffer_append(out, json.data, json.used);
        buffer_append_text(out, "\n");
}

static void put_item(struct buffer *out, int indent, const struct option_group *group, const char *prefix, const void *item)
{
        CLEANUP(buffer_fini) struct buffer key = { 0 };
        struct json_writer writer = { .out = &key };
        if (group->is_keyed) {
                json_put_text(&writer, NULL, *(const char *const *)item);
                buffer_printf(out, "%*s%s:\n", indent, "", key.data);
        }
        struct option_child child;
        const char *lead = group->is_keyed ? "  " : "- ";
        for (size_t index = 0; option_next_child(prefix, &index, &child); lead = "  ") {
                buffer_printf(out, "%*s%s%s: ", indent, "", lead, child.name);
                put_value(out, child.option, item);
        }
}

static void put_group(struct buffer *out, int indent, const struct option_child *group_child, const struct config *config)
{
        const struct option_group *group = group_child->group;
        struct option_child child;
        put_comment(out, indent, group->prose);
        for (size_t index = 0; option_next_child(group_child->prefix, &index, &child); )
                put_option_comment(out, indent, child.name, child.option);

        size_t count = option_group_count_items(group, config);
        buffer_printf(out, "%*s%s:%s\n", indent, "", group_child->name, count ? "" : group->is_keyed ? " {}" : " []");
        for (size_t i = 0; i < count; i++)
                put_item(out, indent + 2, group, group_child->prefix, option_group_item(group, config, i));
}

static const char *find_section_prose(const char *name)
{
        for (size_t i = 0; i < option_section_count; i++)
                if (string_equal(option_sections[i].name, name))
                        return option_sections[i].prose;
        return "";
}

static void put_children(struct buffer *out, int indent, const char *prefix, const struct config *config)
{
        struct option_child child;
        for (size_t index = 0; option_next_child(prefix, &index, &child); ) {
                if (indent == 0 && out->used > 0)
                        buffer_append_text(out, "\n");
                if (child.kind == CHILD_GROUP)
                        put_group(out, indent, &child, config);
                else if (child.kind == CHILD_SECTION) {
                        put_comment(out, indent, find_section_prose(child.name));
                        buffer_printf(out, "%*s%s:\n", indent, "", child.name);
                        put_children(out, indent + 2, child.prefix, config);
                } else {
                        put_option_comment(out, indent, NULL, child.option);
                        buffer_printf(out, "%*s%s: ", indent, "", child.name);
                        put_value(out, child.option, config);
                }
        }
}

void config_print_yaml(const struct config *config, struct buffer *out)
{
        put_children(out, 0, "", config);
}

/* ---- JSON ---- */
void option_put_group_json(const struct option_group *group, const struct config *config, const char *key, struct json_writer *writer)
{
        CLEANUP(cleanup_free) char *prefix = string_format("%s%s.", group->path, group->is_keyed ? "{}" : "[]");
        (group->is_keyed ? json_open_map : json_open_list)(writer, key);
        for (size_t i = 0; i < option_group_count_items(group, config); i++) {
                const void *item = option_group_item(group, config, i);
                struct option_child child;
                json_open_map(writer, group->is_keyed ? *(const char *const *)item : NULL);
                for (size_t index = 0; option_next_child(prefix, &index, &child); )
                        option_put_json(child.option, item, false, child.name, writer);
                json_close_map(writer);
        }
        (group->is_keyed ? json_close_map : json_close_list)(writer);
}

static void put_json_children(struct json_writer *writer, const char *prefix, const struct config *config)
{
        struct option_child child;
        for (size_t index = 0; option_next_child(prefix, &index, &child); ) {
                if (child.kind == CHILD_GROUP)
                        option_put_group_json(child.group, config, child.name, writer);
                else if (child.kind == CHILD_OPTION)
                        option_put_json(child.option, config, false, child.name, writer);
                else {
                        json_open_map(writer, child.name);
                        put_json_children(writer, child.prefix, config);
                        json_close_map(writer);
                }
        }
}

void config_print_json(const struct config *config, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        json_open_map(&writer, NULL);
        put_json_children(&writer, "", config);
        json_close_map(&writer);
}
