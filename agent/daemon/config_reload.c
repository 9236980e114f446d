/*
 * How it goes: both configurations are written out option by option and compared as text; what differs is applied or needs a restart, by the table. What needs a restart
 *              is read back
 *              from the running configuration's text into the next one.
 * How it fails: it cannot for configurations that were read; an error would be ours (ERROR_INTERNAL).
 * How it ends: names in the changes point into the table; config_changes_fini() frees the arrays only.
 */
#include <stdlib.h>
#include <string.h>
#include "option.h"

static void changes_add(const char ***list, size_t *count, const char *name)
{
        *list = memory_resize(*list, *count + 1, sizeof **list);
        (*list)[(*count)++] = name;
}

void config_changes_fini(struct config_changes *changes)
{
        free(changes->applied);
        free(changes->restart);
        *changes = (struct config_changes){ 0 };
}

static void option_text(const struct option *option, const struct config *config, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        option_put_json(option, config, true, NULL, &writer);
}

static void group_text(const struct option_group *group, const struct config *config, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        option_put_group_json(group, config, NULL, &writer);
}

static bool keep_running(const struct option *option, const struct option_group *group, const struct buffer *running, struct config *next, struct error *err)
{
        CLEANUP(value_free) struct value *value = NULL;
        struct option_place place = { next, "running configuration", group ? group->path : option->path, 0 };
        if (!json_parse(running->data, running->used, ERROR_INTERNAL, &value, err))
                return false;
        return group ? option_read_group(group, &place, value, err) : option_read(option, &place, value, next, err);
}

static bool compare(const struct option *option, const struct option_group *group, const struct config *running, struct config *next, struct config_changes *changes,
        struct error *err)
{
        CLEANUP(buffer_fini) struct buffer old = { 0 };
        CLEANUP(buffer_fini) struct buffer new = { 0 };
        if (group) {
                group_text(group, running, &old);
                group_text(group, next, &new);
        } else {
                option_text(option, running, &old);
                option_text(option, next, &new);
        }
        if (string_equal(old.data, new.data))
                return true;
        if (option->flags & OPTION_RELOAD) {
                changes_add(&changes->applied, &changes->applied_count, group ? group->path : option->path);
                return true;
        }
        changes_add(&changes->restart, &changes->restart_count, group ? group->path : option->path);
        return keep_running(option, group, &old, next, err);
}

bool config_reload(const struct config *running, struct config *next, struct config_changes *ret_changes, struct error *err)
{
        CLEANUP(config_changes_fini) struct config_changes changes = { 0 };
        enum option_scope last = OPTION_ROOT;
        for (size_t i = 0; i < option_count; i++) {
                const struct option *option = &option_table[i];
                const struct option_group *group = NULL;
                if (option->scope != OPTION_ROOT && option->scope == last)
                        continue;
                last = option->scope;
                for (size_t g = 0; g < option_group_count && option->scope != OPTION_ROOT; g++)
                        if (option_groups[g].scope == option->scope)
                                group = &option_groups[g];
                if (!compare(option, group, running, next, &changes, err))
                        return false;
        }
        *ret_changes = changes;
        changes = (struct config_changes){ 0 };
        return true;
}

static void put_names(struct json_writer *writer, const char *key, const char *const *names, size_t count)
{
        json_open_list(writer, key);
        for (size_t i = 0; i < count; i++)
                json_put_text(writer, NULL, names[i]);
        json_close_list(writer);
}

static void tell_names(const char *title, const char **names, size_t count, struct buffer *out)
{
        for (size_t i = 0; i < count; i++)
                buffer_printf(out, "%s%s", i ? ", " : title, names[i]);
}

void config_changes_print_text(const struct config_changes *changes, struct buffer *out)
{
        tell_names("applied: ", changes->applied, changes->applied_count, out);
        tell_names(changes->applied_count ? "; needs a restart: " : "needs a restart: ", changes->restart, changes->restart_count, out);
        if (changes->applied_count + changes->restart_count == 0)
                buffer_append_text(out, "nothing changed");
}

void config_changes_print_json(const struct config_changes *changes, struct buffer *out)
{
        struct json_writer writer = { .out = out };
        json_open_map(&writer, NULL);
        put_names(&writer, "applied", changes->applied, changes->applied_count);
        put_names(&writer, "needsRestart", changes->restart, changes->restart_count);
        json_close_map(&writer);
}
