/*
 * How it goes: the text is looked over once (UTF-8, no control characters), then read line by line: a [table] header, or a key with its value. A map remembers in `integer` how it
 *              came about, which decides what may still be added to it (toml.io, v1.0.0, "Table", "Keys", "Inline Table").
 * How it fails: with the line and what is wrong there; what is TOML but not read here is refused as such.
 * How it ends: half a tree is freed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/memory.h>
#include "value_node.h"

enum { TOML_NODES_MAX = 8192 };
enum shape { SHAPE_IMPLIED /* [a.b] makes a */, SHAPE_HEADER, SHAPE_DOTTED /* a.b = … makes a */, SHAPE_CLOSED /* inline */ };

struct reader { const char *at, *end; size_t line, nodes; enum error_code code; struct error *err; };

static bool refuse_here(struct reader *reader, const char *what)
{
        return refuse(reader->err, reader->code, "line %zu: %s", reader->line, what);
}

static bool refuse_key(struct reader *reader, const char *key, const char *what)
{
        char shown[80];
        return refuse(reader->err, reader->code, "line %zu: \"%s\" %s", reader->line, string_printable(key, strlen(key), shown, sizeof shown), what);
}

static char peek(const struct reader *reader)
{
        return reader->at < reader->end ? *reader->at : '\0';
}

static bool take(struct reader *reader, char c)
{
        if (peek(reader) != c || reader->at == reader->end)
                return false;
        reader->at++;
        return true;
}

static void skip_blanks(struct reader *reader)
{
        while (peek(reader) == ' ' || peek(reader) == '\t')
                reader->at++;
}

/* Over blanks and a comment; true when a line ended there. */
static bool skip_line_end(struct reader *reader)
{
        skip_blanks(reader);
        if (peek(reader) == '#')
                while (reader->at < reader->end && *reader->at != '\n' && *reader->at != '\r')
                        reader->at++;
        take(reader, '\r');
        if (!take(reader, '\n'))
                return false;
        reader->line++;
        return true;
}

static void skip_lines(struct reader *reader)
{
        while (skip_line_end(reader))
                ;
}

/* A '\r' only before '\n', of other control characters only the tab. */
static bool text_check(struct reader *reader)
{
        for (const char *at = reader->at; at < reader->end;) {
                size_t length = string_utf8_length(at, (size_t)(reader->end - at));
                unsigned char c = (unsigned char)*at;
                if (length == 0)
                        return refuse_here(reader, "not valid UTF-8");
                if ((c < 0x20 && c != '\t' && c != '\n' && !(c == '\r' && at + 1 < reader->end && at[1] == '\n')) || c == 0x7f)
                        return refuse_here(reader, "a control character");
                reader->line += c == '\n';
                at += length;
        }
        reader->line = 1;
        return true;
}

/* ---- keys and strings ---- */
static void utf8_append(struct buffer *out, unsigned long c)
{
        char bytes[4] = { (char)c };
        size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
        for (size_t i = length; i-- > 1; c >>= 6)
                bytes[i] = (char)(0x80 | (c & 0x3f));
        if (length > 1)
                bytes[0] = (char)((0xf0 << (4 - length) & 0xff) | c);
        buffer_append(out, bytes, length);
}

static bool unicode_read(struct reader *reader, size_t digits, struct buffer *out)
{
        char hex[9] = "";
        if ((size_t)(reader->end - reader->at) >= digits)
                memcpy(hex, reader->at, digits);
        unsigned long c = strtoul(hex, NULL, 16);
        if (strspn(hex, "0123456789abcdefABCDEF") != digits || c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return refuse_here(reader, "\\u is for four, \\U for eight hex digits of a character other than NUL");
        reader->at += digits;
        utf8_append(out, c);
        return true;
}

static bool escape_read(struct reader *reader, struct buffer *out)
{
        static const char names[] = "btnfr\"\\", values[] = "\b\t\n\f\r\"\\";
        char c = peek(reader);
        const char *name = c ? strchr(names, c) : NULL;
        reader->at += c != '\0';
        if (c == 'u' || c == 'U')
                return unicode_read(reader, c == 'u' ? 4 : 8, out);
        if (!name)
                return refuse_here(reader, "an unknown escape in a string; known are \\b \\t \\n \\f \\r \\\" \\\\ \\uXXXX \\UXXXXXXXX");
        buffer_append(out, &values[name - names], 1);
        return true;
}

static bool string_read(struct reader *reader, char **ret_text)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        char quote = *reader->at;
        if (reader->end - reader->at >= 3 && reader->at[1] == quote && reader->at[2] == quote)
                return refuse_here(reader, "strings over several lines are not supported");
        reader->at++;
        while (!take(reader, quote)) {
                if (reader->at == reader->end || *reader->at == '\n' || *reader->at == '\r')
                        return refuse_here(reader, "a string has no end on its line");
                if (quote == '"' && take(reader, '\\')) {
                        if (!escape_read(reader, &text))
                                return false;
                } else {
                        buffer_append(&text, reader->at++, 1);
                }
        }
        *ret_text = buffer_take(&text);
        return true;
}

static bool key_read(struct reader *reader, char **ret_key)
{
        static const char bare[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
        const char *start = reader->at;
        if (peek(reader) == '"' || peek(reader) == '\'')
                return string_read(reader, ret_key);
        while (peek(reader) && strchr(bare, *reader->at))
                reader->at++;
        if (reader->at == start)
                return refuse_here(reader, "a key is expected: letters, digits, - and _, or a text in quotes");
        *ret_key = string_copy_bytes(start, (size_t)(reader->at - start));
        return true;
}

/* ---- tables ---- */
static struct value *member_find(const struct value *map, const char *key)
{
        for (size_t i = 0; i < map->count; i++)
                if (strcmp(map->keys[i], key) == 0)
                        return &map->items[i];
        return NULL;
}

static bool node_count(struct reader *reader)
{
        return ++reader->nodes <= TOML_NODES_MAX || refuse_here(reader, "too many values");
}

static struct value *member_add(struct reader *reader, struct value *map, const char *key)
{
        struct value *member = value_add_child(map);
        map->keys[map->count++] = string_copy(key);
        member->line = reader->line;
        return member;
}

static void map_make(struct value *node, enum shape shape)
{
        node->kind = VALUE_MAP;
        node->keys = memory_new(1, sizeof *node->keys);
        node->integer = shape;
}

/* One step of a dotted key. Dotted keys add only to tables that dotted keys made; headers to all but inline ones. */
static bool step_into(struct reader *reader, struct value *map, const char *key, enum shape made, struct value **ret_map)
{
        struct value *member = member_find(map, key);
        if (!member) {
                if (!node_count(reader))
                        return false;
                map_make(member = member_add(reader, map, key), made);
        }
        if (member->kind != VALUE_MAP)
                return refuse_key(reader, key, "is a value, no table");
        if (member->integer == SHAPE_CLOSED || (made == SHAPE_DOTTED && member->integer != SHAPE_DOTTED))
                return refuse_key(reader, key, "is a table that cannot be added to here");
        *ret_map = member;
        return true;
}

/* a.b."c": *ret_map is where the last part belongs. */
static bool path_read(struct reader *reader, struct value *from, enum shape made, unsigned *depth, struct value **ret_map, char **ret_last)
{
        CLEANUP(cleanup_free) char *key = NULL;
        for (;;) {
                skip_blanks(reader);
                if (!key_read(reader, &key))
                        return false;
                skip_blanks(reader);
                if (++*depth > VALUE_DEPTH_MAX)
                        return refuse_here(reader, "nested too deeply");
                if (!take(reader, '.'))
                        break;
                if (!step_into(reader, from, key, made, &from))
                        return false;
                free(TAKE(key));
        }
        *ret_map = from;
        *ret_last = TAKE(key);
        return true;
}

/* ---- values ---- */
static bool value_read(struct reader *reader, unsigned depth, struct value *node);

static bool pair_read(struct reader *reader, unsigned depth, struct value *table)
{
        CLEANUP(cleanup_free) char *key = NULL;
        struct value *map;
        if (!path_read(reader, table, SHAPE_DOTTED, &depth, &map, &key))
                return false;
        if (member_find(map, key))
                return refuse_key(reader, key, "is there twice");
        if (!take(reader, '='))
                return refuse_key(reader, key, "is followed by no \"=\"");
        skip_blanks(reader);
        return value_read(reader, depth, member_add(reader, map, key));
}

static bool array_read(struct reader *reader, unsigned depth, struct value *node)
{
        node->kind = VALUE_LIST;
        for (;;) {
                skip_lines(reader);
                if (take(reader, ']'))
                        return true;
                struct value *item = value_add_child(node);
                node->count++;
                item->line = reader->line;
                if (!value_read(reader, depth, item))
                        return false;
                skip_lines(reader);
                if (!take(reader, ',') && peek(reader) != ']')
                        return refuse_here(reader, "an array goes on with \",\" or ends with \"]\"");
        }
}

static bool inline_read(struct reader *reader, unsigned depth, struct value *node)
{
        map_make(node, SHAPE_CLOSED);
        skip_blanks(reader);
        if (take(reader, '}'))
                return true;
        for (;;) {
                if (!pair_read(reader, depth, node))
                        return false;
                skip_blanks(reader);
                if (take(reader, '}'))
                        return true;
                if (!take(reader, ','))
                        return refuse_here(reader, "an inline table goes on with \",\" or ends with \"}\"");
        }
}

static bool word_read(struct reader *reader, struct value *node)
{
        char word[24] = "";
        size_t length = 0;
        while (reader->at + length < reader->end && !strchr(" \t\r\n,]}#", reader->at[length]))
                length++;
        if (length < sizeof word)
                memcpy(word, reader->at, length);
        reader->at += length;
        const char *digits = word + (*word == '-' || *word == '+');
        if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
                node->kind = VALUE_BOOL;
                node->integer = *word == 't';
                return true;
        }
        errno = 0;
        node->integer = strtoll(word, NULL, 10);
        node->kind = VALUE_INT;
        if (!*digits || strspn(digits, "0123456789") != strlen(digits) || (digits[0] == '0' && digits[1]) || errno != 0)
                return refuse_here(reader, "not a value that is supported; supported are \"strings\", true, false, whole numbers, [arrays] and {inline = \"tables\"}");
        return true;
}

static bool value_read(struct reader *reader, unsigned depth, struct value *node)
{
        char c = peek(reader);
        if (depth > VALUE_DEPTH_MAX)
                return refuse_here(reader, "nested too deeply");
        if (!node_count(reader))
                return false;
        if (c == '[' || c == '{') {
                reader->at++;
                return c == '[' ? array_read(reader, depth + 1, node) : inline_read(reader, depth, node);
        }
        if (c != '"' && c != '\'')
                return word_read(reader, node);
        if (!string_read(reader, &node->text))
                return false;
        node->kind = VALUE_TEXT;
        node->text_bytes = strlen(node->text);
        return true;
}

/* Behind '['. */
static bool header_read(struct reader *reader, struct value *root, unsigned *ret_depth, struct value **ret_table)
{
        CLEANUP(cleanup_free) char *key = NULL;
        struct value *map;
        *ret_depth = 0;
        if (peek(reader) == '[')
                return refuse_here(reader, "arrays of tables ([[…]]) are not supported");
        if (!path_read(reader, root, SHAPE_IMPLIED, ret_depth, &map, &key))
                return false;
        if (!take(reader, ']'))
                return refuse_here(reader, "a table's name ends with \"]\"");

        struct value *table = member_find(map, key);
        if (table && (table->kind != VALUE_MAP || table->integer != SHAPE_IMPLIED))
                return refuse_key(reader, key, "is there twice");
        if (!table) {
                if (!node_count(reader))
                        return false;
                map_make(table = member_add(reader, map, key), SHAPE_HEADER);
        }
        table->integer = SHAPE_HEADER;
        *ret_table = table;
        return true;
}

static bool document_read(struct reader *reader, struct value *root)
{
        struct value *table = root;
        unsigned depth = 0;
        for (;;) {
                skip_lines(reader);
                if (reader->at == reader->end)
                        return true;
                if (!(take(reader, '[') ? header_read(reader, root, &depth, &table) : pair_read(reader, depth, table)))
                        return false;
                if (!skip_line_end(reader) && reader->at < reader->end)
                        return refuse_here(reader, "more behind what should end the line");
        }
}

bool toml_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err)
{
        const char *start = text ? text : "";
        struct reader reader = { .at = start, .end = start + size_bytes, .line = 1, .code = code, .err = err };
        CLEANUP(value_free) struct value *root = memory_new(1, sizeof *root);
        map_make(root, SHAPE_HEADER);
        root->line = 1;
        if (!text_check(&reader) || !document_read(&reader, root))
                return false;
        *ret_value = TAKE(root);
        return true;
}
