/*
 * How it goes: one scan bounds depth and number of nodes before anything is allocated, then jansson reads strictly and its tree is copied into ours.
 *              Integers beyond 64 bits, which jansson refuses and JSON does not, are written as reals for a second reading.
 * How it fails: with line and column and the kind of error; never with the text around it, which may be a secret.
 * How it ends: jansson's tree is released at once, wiped after json_start_wiping(), ours by value_free.
 */
#include <errno.h>
#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/memory.h>
#include "value_node.h"

/* What strings hold is skipped; anything that is no JSON at all is left to jansson. */
static bool shape_check(const char *text, size_t size_bytes, enum error_code code, struct error *err)
{
        size_t depth = 0, nodes = 1;
        bool is_string = false;

        for (size_t i = 0; i < size_bytes; i++) {
                char c = text[i];

                if (is_string && c == '\\')
                        i++;
                else if (c == '"')
                        is_string = !is_string;
                else if (!is_string && (c == '{' || c == '['))
                        depth++, nodes++;
                else if (!is_string && (c == '}' || c == ']') && depth > 0)
                        depth--;
                else if (!is_string && c == ',')
                        nodes++;
                if (depth > VALUE_DEPTH_MAX)
                        return refuse(err, code, "JSON is nested deeper than %d", VALUE_DEPTH_MAX);
                if (nodes > VALUE_NODES_MAX)
                        return refuse(err, code, "JSON has more than %d values", VALUE_NODES_MAX);
        }
        return true;
}

static void node_fill(const json_t *from, struct value *to);

static void map_fill(const json_t *from, struct value *to)
{
        json_t *object = json_incref((json_t *)(uintptr_t)from), *child;
        const char *key;

        to->kind = VALUE_MAP;
        to->items = memory_new(json_object_size(object), sizeof *to->items);
        to->keys = memory_new(json_object_size(object), sizeof *to->keys);
        json_object_foreach(object, key, child) {
                to->keys[to->count] = string_copy(key);
                node_fill(child, &to->items[to->count++]);
        }
        json_decref(object);
}

static void list_fill(const json_t *from, struct value *to)
{
        to->kind = VALUE_LIST;
        to->items = memory_new(json_array_size(from), sizeof *to->items);
        for (; to->count < json_array_size(from); to->count++)
                node_fill(json_array_get(from, to->count), &to->items[to->count]);
}

static void node_fill(const json_t *from, struct value *to)
{
        switch (json_typeof(from)) {
        case JSON_OBJECT:
                map_fill(from, to);
                break;
        case JSON_ARRAY:
                list_fill(from, to);
                break;
        case JSON_STRING:
                to->kind = VALUE_TEXT;
                to->text_bytes = json_string_length(from);
                to->text = string_copy_bytes(json_string_value(from), to->text_bytes);
                break;
        case JSON_INTEGER:
                to->kind = VALUE_INT;
                to->integer = json_integer_value(from);
                break;
        case JSON_REAL:
                to->kind = VALUE_REAL;
                to->real = json_real_value(from);
                break;
        case JSON_TRUE:
        case JSON_FALSE:
                to->kind = VALUE_BOOL;
                to->integer = json_is_true(from);
                break;
        case JSON_NULL:
                to->kind = VALUE_NULL;
                break;
        }
}

/* jansson stopped right behind the second key: its name is no secret, and who sent it looks for it. */
static bool refuse_twice(const char *text, size_t end, int line, enum error_code code, struct error *err)
{
        char shown[96];
        size_t start = end > 0 ? end - 1 : 0;

        do
                start -= start > 0;
        while (start > 0 && (text[start] != '"' || text[start - 1] == '\\'));
        string_printable(text + start + 1, end - start > 2 ? end - start - 2 : 0, shown, sizeof shown);
        return refuse(err, code, "JSON line %d: member \"%s\" is there twice", line < 1 ? 1 : line, shown);
}

/* "12345678901234567890" outside of strings becomes "12345678901234567890e0": the nearest double, as JavaScript, Go and protobuf read it (RFC 8259 6). */
static void integers_widen(const char *text, size_t size_bytes, struct buffer *ret_text)
{
        bool is_string = false;

        buffer_reserve(ret_text, size_bytes + size_bytes / 8 + 8);         /* two for each number of 19 at least: no growth, so no copy of a secret that nobody wipes */
        for (size_t i = 0, length; i < size_bytes; i += length) {
                char digits[32] = "";

                length = 1;
                if (is_string && text[i] == '\\')
                        length = i + 1 < size_bytes ? 2 : 1;
                else if (text[i] == '"')
                        is_string = !is_string;
                else if (!is_string && strchr("-0123456789", text[i]) && text[i])
                        while (i + length < size_bytes && text[i + length] && strchr("+-.0123456789eE", text[i + length]))
                                length++;
                buffer_append(ret_text, text + i, length);
                if (length < 19 || memchr(text + i, '.', length) || memchr(text + i, 'e', length) || memchr(text + i, 'E', length))
                        continue;
                memcpy(digits, text + i, length < sizeof digits - 1 ? length : sizeof digits - 1);
                errno = 0;
                strtoll(digits, NULL, 10);
                if (errno == ERANGE)
                        buffer_append_text(ret_text, "e0");
        }
}

static void wipe_and_free(void *bytes)
{
        if (bytes)
                explicit_bzero(bytes, malloc_usable_size(bytes));
        free(bytes);
}

void json_start_wiping(void)
{
        json_set_alloc_funcs(malloc, wipe_and_free);
}

bool json_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err)
{
        static const struct { enum json_error_code code; const char *words; } kinds[] = {
                { json_error_premature_end_of_input, "the text ends too early" },
                { json_error_end_of_input_expected, "there is more after the end of the JSON text" },
                { json_error_invalid_utf8, "not valid UTF-8" },
                { json_error_null_character, "a NUL character in a string" },
                { json_error_null_byte_in_key, "a NUL character in a member name" },
                { json_error_numeric_overflow, "a number is too large" },
                { json_error_stack_overflow, "nested too deeply" },
        };
        const char *words = "not valid JSON";
        json_error_t error;

        if (!shape_check(text, size_bytes, code, err))
                return false;
        CLEANUP(buffer_fini_secret) struct buffer widened = { 0 };
        json_t *tree = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        if (!tree && json_error_code(&error) == json_error_numeric_overflow) {
                integers_widen(text, size_bytes, &widened);
                text = widened.data;
                size_bytes = widened.used;
                tree = json_loadb(text, size_bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
        }
        if (!tree) {
                if (json_error_code(&error) == json_error_duplicate_key && error.position > 0 && (size_t)error.position <= size_bytes)
                        return refuse_twice(text, (size_t)error.position, error.line, code, err);
                for (size_t i = 0; i < COUNT_OF(kinds); i++)
                        if (json_error_code(&error) == kinds[i].code)
                                words = kinds[i].words;
                return refuse(err, code, "JSON line %d, column %d: %s", error.line < 1 ? 1 : error.line, error.column < 0 ? 0 : error.column, words);
        }
        *ret_value = memory_new(1, sizeof **ret_value);
        node_fill(tree, *ret_value);
        json_decref(tree);
        return true;
}
