/*
 * How it goes: a map of the resource is read member by member, each by one call that knows the member's place.
 * How it fails: a wrong member becomes a problem with its field, and reading goes on: a person wants all of them at once. Beyond PLUGIN_PROBLEMS_MAX they are only "more".
 * How it ends: problems belong to the plugin.
 */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include "room.h"

struct place place_top(const char *name)
{
        struct place place;
        snprintf(place.text, sizeof place.text, "%s", name);
        return place;
}

struct place place_member(const struct place *at, const char *name)
{
        struct place place;
        char shown[80];
        string_printable(name, strlen(name), shown, sizeof shown);
        snprintf(place.text, sizeof place.text, "%.*s%s%s", (int)(sizeof place.text - sizeof shown - 2), at->text, *at->text ? "." : "", shown);
        return place;
}

struct place place_item(const struct place *at, size_t index)
{
        struct place place;
        snprintf(place.text, sizeof place.text, "%.*s[%zu]", (int)(sizeof place.text - 24), at->text, index);
        return place;
}

bool problem_add(struct plugin *plugin, enum error_code code, const struct place *at, const char *format, ...)
{
        if (plugin->problem_count == PLUGIN_PROBLEMS_MAX)
                return false;
        if (plugin->problem_count == 0)
                plugin->code = code;

        char detail[ERROR_TEXT_BYTES];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(detail, sizeof detail, format, arguments);
        va_end(arguments);
        bool is_last = plugin->problem_count + 1 == PLUGIN_PROBLEMS_MAX;
        plugin->problems = memory_resize(plugin->problems, plugin->problem_count + 1, sizeof *plugin->problems);
        plugin->problems[plugin->problem_count++] = (struct plugin_problem){
                .field = string_copy(at->text), .detail = is_last ? string_format("%s (and there are more problems, which are not listed)", detail) : string_copy(detail),
        };
        return false;
}

static const char *kind_words(const struct value *value)
{
        static const char *const words[] = { "null", "a boolean", "an integer", "a number", "a string", "a list", "an object" };
        return words[value_get_kind(value)];
}

bool reading_start(struct plugin *plugin, const struct value *value, const struct place *at, struct reading *ret_reading)
{
        bool is_map = value_get_kind(value) == VALUE_MAP;
        *ret_reading = (struct reading){ .plugin = plugin, .map = is_map ? value : NULL, .at = *at };
        if (is_map)
                return true;
        return problem_add(plugin, ERROR_BAD_REQUEST, at, "must be an object, not %s", kind_words(value));
}

void reading_only(const struct reading *reading, const char *what, const char *const *names)
{
        for (size_t i = 0; i < value_get_count(reading->map); i++) {
                const char *key = value_get_key(reading->map, i);
                const char *const *name = names;
                while (*name && strcmp(*name, key) != 0)
                        name++;
                if (*name)
                        continue;

                CLEANUP(buffer_fini) struct buffer known = { 0 };
                for (name = names; *name; name++)
                        buffer_printf(&known, "%s%s", name == names ? "" : ", ", *name);
                struct place at = place_member(&reading->at, key);
                problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "is no field of %s; known are %s", what, known.data);
        }
}

const struct value *reading_get(const struct reading *reading, const char *name, enum value_kind kind)
{
        const struct value *member = value_get_member(reading->map, name);
        if (value_get_kind(member) == kind || value_get_kind(member) == VALUE_NULL)
                return value_get_kind(member) == kind ? member : NULL;

        static const char *const words[] = { "null", "true or false", "an integer", "a number", "a string", "a list", "an object" };
        struct place at = place_member(&reading->at, name);
        problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must be %s, not %s", words[kind], kind_words(member));
        return NULL;
}

bool reading_has(const struct reading *reading, const char *name)
{
        return value_get_kind(value_get_member(reading->map, name)) != VALUE_NULL;
}

bool reading_text(const struct reading *reading, const char *name, size_t max_bytes, const char **ret_text)
{
        const struct value *member = reading_get(reading, name, VALUE_TEXT);
        if (!member)
                return !reading_has(reading, name);

        struct place at = place_member(&reading->at, name);
        size_t length = value_get_text_bytes(member);
        if (length == 0)
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must not be empty");
        if (length > max_bytes)
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "has %zu bytes, at most %zu are allowed", length, max_bytes);
        *ret_text = value_get_text(member);
        return true;
}

bool reading_choice(const struct reading *reading, const char *name, const char *const *names, unsigned *ret_index)
{
        const struct value *member = reading_get(reading, name, VALUE_TEXT);
        if (!member)
                return !reading_has(reading, name);

        CLEANUP(buffer_fini) struct buffer allowed = { 0 };
        for (unsigned i = 0; names[i]; i++) {
                if (strcmp(names[i], value_get_text(member)) == 0) {
                        *ret_index = i;
                        return true;
                }
                buffer_printf(&allowed, "%s%s", i > 0 ? ", " : "", names[i]);
        }
        char shown[80];
        struct place at = place_member(&reading->at, name);
        return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must be one of %s, not \"%s\"", allowed.data,
                string_printable(value_get_text(member), value_get_text_bytes(member), shown, sizeof shown));
}

bool reading_integer(const struct reading *reading, const char *name, int64_t *ret_number)
{
        const struct value *member = value_get_member(reading->map, name);
        enum value_kind kind = value_get_kind(member);
        double real = value_get_real(member);
        if (kind == VALUE_NULL)
                return true;
        if (kind == VALUE_INT) {
                *ret_number = value_get_int(member);
                return true;
        }
        struct place at = place_member(&reading->at, name);
        if (kind != VALUE_REAL)
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must be an integer, not %s", kind_words(member));
        /* 2^63 itself is the first that does not fit; both bounds are exact doubles. */
        if (real != trunc(real) || real < -0x1p63 || real >= 0x1p63)
                return problem_add(reading->plugin, ERROR_BAD_REQUEST, &at, "must be an integer of 64 bits, not %.17g", real);
        *ret_number = (int64_t)real;
        return true;
}

size_t text_count_characters(const char *text)
{
        size_t count = 0;
        for (; *text; text++)
                count += ((unsigned char)*text & 0xc0) != 0x80;
        return count;
}
