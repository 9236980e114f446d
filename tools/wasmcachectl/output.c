/*
 * How it goes: a tree is written as JSON, as YAML (every text that YAML could read otherwise in quotes) or, for people, as YAML with sizes in words; rows become aligned columns.
 * How it fails: it does not; main looks at stdout at the end.
 * How it ends: a table is empty again after printing.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

bool output_has_colours(int fd)
{
        const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
        return !(no_color && *no_color) && isatty(fd) && !string_equal(term, "dumb");
}

const char *text_member(const struct value *map, const char *name)
{
        return value_get_text(value_get_member(map, name));
}

void output_json(const struct value *value)
{
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct json_writer writer = { .out = &out };

        json_put_value(&writer, NULL, value);
        puts(out.data ? out.data : "null");
}

/* Letters, digits and a few signs that mean nothing to YAML at any place; no word that YAML reads as something else than text. */
static bool text_is_plain(const char *text)
{
        static const char *const words[] = { "true", "false", "null", "yes", "no", "on", "off", "y", "n" };
        if (!strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/_") || text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.-")])
                return false;
        for (size_t i = 0; i < COUNT_OF(words); i++)
                if (strlen(text) == strlen(words[i]) && string_starts_with_nocase(text, words[i]))
                        return false;
        return true;
}

static void put_text(const char *text, bool for_people)
{
        if (for_people) {
                char shown[1024];
                fputs(string_printable(text, strlen(text), shown, sizeof shown), stdout);
        } else if (text_is_plain(text))
                fputs(text, stdout);
        else {
                CLEANUP(buffer_fini) struct buffer out = { 0 };
                struct json_writer writer = { .out = &out };
                json_put_text(&writer, NULL, text);       /* a JSON string is a YAML double-quoted scalar */
                fputs(out.data, stdout);
        }
}

static bool key_means_bytes(const char *key)
{
        static const char *const keys[] = { "size", "bytes", "budget", "used" };
        for (size_t i = 0; key && i < COUNT_OF(keys); i++)
                if (strcmp(key, keys[i]) == 0)
                        return true;
        return key && (string_ends_with(key, "Bytes") || string_ends_with(key, "_bytes"));
}

static void put_scalar(const struct value *value, const char *key, bool for_people)
{
        char size[32];
        switch (value_get_kind(value)) {
        case VALUE_BOOL:
                fputs(value_get_bool(value) ? (for_people ? "yes" : "true") : (for_people ? "no" : "false"), stdout);
                break;
        case VALUE_INT:
                if (for_people && key_means_bytes(key) && value_get_int(value) >= 0) {
                        size_format_human((uint64_t)value_get_int(value), size, sizeof size);
                        fputs(size, stdout);
                } else
                        printf("%" PRId64, value_get_int(value));
                break;
        case VALUE_REAL:
                printf("%.17g", value_get_real(value));
                break;
        case VALUE_TEXT:
                put_text(value_get_text(value), for_people);
                break;
        case VALUE_LIST:
                fputs(for_people ? "none" : "[]", stdout);
                break;
        case VALUE_MAP:
                fputs(for_people ? "none" : "{}", stdout);
                break;
        case VALUE_NULL:
                fputs(for_people ? "-" : "null", stdout);
                break;
        }
}

static void put_indented(int spaces)
{
        printf("%*s", spaces, "");
}

/* At the start of a line if `inlined` is false; after "- " if true. */
static void put_tree(const struct value *value, const char *key, int spaces, bool inlined, bool for_people)
{
        size_t count = value_get_count(value);
        enum value_kind kind = value_get_kind(value);

        if (count == 0) {
                put_scalar(value, key, for_people);
                putchar('\n');
                return;
        }
        for (size_t i = 0; i < count; i++) {
                const struct value *item = value_get_item(value, i);
                const char *name = kind == VALUE_MAP ? value_get_key(value, i) : NULL;
                if (!inlined || i > 0)
                        put_indented(spaces);
                if (kind == VALUE_LIST) {
                        fputs("- ", stdout);
                        put_tree(item, key, spaces + 2, true, for_people);
                        continue;
                }
                put_text(name, for_people);
                bool is_nested = value_get_count(item) > 0;
                fputs(is_nested ? ":\n" : ": ", stdout);
                put_tree(item, name, spaces + 2, false, for_people);
        }
}

void output_yaml(const struct value *value, bool for_people)
{
        put_tree(value, NULL, 0, false, for_people);
}

void output_value(const struct ctl *ctl, const struct value *value)
{
        if (!value)
                return;
        if (ctl->format == FORMAT_JSON)
                output_json(value);
        else
                output_yaml(value, ctl->format == FORMAT_TABLE);
}

void table_add(struct table *table, const char *text)
{
        char shown[512];
        string_printable(text && *text ? text : "-", text && *text ? strlen(text) : 1, shown, sizeof shown);
        buffer_append(&table->cells, shown, strlen(shown) + 1);
        table->count++;
}

void table_print(struct table *table)
{
        enum { COLUMNS_MAX = 16 };
        size_t widths[COLUMNS_MAX] = { 0 };
        bool colours = output_has_colours(STDOUT_FILENO);
        const char *cell = table->cells.data;

        for (size_t i = 0; i < table->count; i++, cell += strlen(cell) + 1)
                if (strlen(cell) > widths[i % table->columns])
                        widths[i % table->columns] = strlen(cell);
        cell = table->cells.data;
        for (size_t i = 0; i < table->count; i++, cell += strlen(cell) + 1) {
                bool is_last = i % table->columns == table->columns - 1;
                if (colours && i == 0)
                        fputs("\033[1m", stdout);
                printf("%-*s%s", is_last ? 0 : (int)widths[i % table->columns], cell, is_last ? "" : "  ");
                if (colours && i == table->columns - 1)
                        fputs("\033[0m", stdout);
                if (is_last)
                        putchar('\n');
        }
        buffer_fini(&table->cells);
        *table = (struct table){ .columns = table->columns };
}

void format_age(const char *rfc3339, char *ret_text, size_t size_bytes)
{
        static const struct { const char *unit; int64_t seconds; } rows[] = { { "d", 86400 }, { "h", 3600 }, { "m", 60 }, { "s", 1 } };
        int64_t then, age;

        snprintf(ret_text, size_bytes, "-");
        if (!rfc3339 || !clock_parse_rfc3339(rfc3339, &then))
                return;
        age = clock_get_wall_s() - then;
        if (age < 0)
                age = 0;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (age >= 2 * rows[i].seconds || rows[i].seconds == 1) {
                        snprintf(ret_text, size_bytes, "%" PRId64 "%s", age / rows[i].seconds, rows[i].unit);
                        return;
                }
}
