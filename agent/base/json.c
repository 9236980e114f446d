/*
 * How it goes: tokens are appended to the buffer; the writer remembers only whether a comma is due.
 * How it fails: a buffer with a limit drops what does not fit; buffers of ours have none.
 * How it ends: the text is whole when the last map or list was closed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/json.h>
#include <wasmcached/base/memory.h>
#include "value_node.h"

static void quote(struct buffer *out, const char *text)
{
        const unsigned char *at = (const unsigned char *)text;

        buffer_append(out, "\"", 1);
        while (*at) {
                const unsigned char *start = at;

                while (*at >= 0x20 && *at < 0x80 && *at != '"' && *at != '\\')
                        at++;
                if (at > start)
                        buffer_append(out, start, (size_t)(at - start));
                if (!*at)
                        break;
                size_t length = string_utf8_length(at, strnlen((const char *)at, 4));
                if (length > 1)
                        buffer_append(out, at, length);
                else if (length == 0)
                        buffer_append(out, "\xef\xbf\xbd", 3);
                else if (*at == '"' || *at == '\\')
                        buffer_printf(out, "\\%c", *at);
                else if (*at == '\n')
                        buffer_append(out, "\\n", 2);
                else
                        buffer_printf(out, "\\u%04x", *at);
                at += length ? length : 1;
        }
        buffer_append(out, "\"", 1);
}

static void begin(struct json_writer *writer, const char *key)
{
        if (writer->comma)
                buffer_append(writer->out, ",", 1);
        writer->comma = true;
        if (!key)
                return;
        quote(writer->out, key);
        buffer_append(writer->out, ":", 1);
}

static void open_with(struct json_writer *writer, const char *key, const char *bracket)
{
        begin(writer, key);
        buffer_append(writer->out, bracket, 1);
        writer->comma = false;
}

static void close_with(struct json_writer *writer, const char *bracket)
{
        buffer_append(writer->out, bracket, 1);
        writer->comma = true;
}

void json_open_map(struct json_writer *writer, const char *key)
{
        open_with(writer, key, "{");
}

void json_close_map(struct json_writer *writer)
{
        close_with(writer, "}");
}

void json_open_list(struct json_writer *writer, const char *key)
{
        open_with(writer, key, "[");
}

void json_close_list(struct json_writer *writer)
{
        close_with(writer, "]");
}

void json_put_text(struct json_writer *writer, const char *key, const char *text)
{
        begin(writer, key);
        if (text)
                quote(writer->out, text);
        else
                buffer_append(writer->out, "null", 4);
}

void json_put_int(struct json_writer *writer, const char *key, int64_t number)
{
        char digits[24];
        int length = snprintf(digits, sizeof digits, "%lld", (long long)number);

        begin(writer, key);
        buffer_append(writer->out, digits, (size_t)length);
}

void json_put_real(struct json_writer *writer, const char *key, double number)
{
        if (isfinite(number)) {
                char digits[32];
                int precision = 15;                                /* the shortest that reads back as the same: 0.1, not 0.10000000000000001 */

                do
                        snprintf(digits, sizeof digits, "%.*g", precision++, number);
                while (precision <= 17 && strtod(digits, NULL) != number);
                json_put_raw(writer, key, digits);
        } else {
                json_put_null(writer, key);
        }
}

void json_put_bool(struct json_writer *writer, const char *key, bool truth)
{
        json_put_raw(writer, key, truth ? "true" : "false");
}

void json_put_null(struct json_writer *writer, const char *key)
{
        json_put_raw(writer, key, "null");
}

void json_put_raw(struct json_writer *writer, const char *key, const char *json)
{
        begin(writer, key);
        buffer_append_text(writer->out, json);
}

void json_put_value(struct json_writer *writer, const char *key, const struct value *value)
{
        switch (value_get_kind(value)) {
        case VALUE_NULL:
                json_put_null(writer, key);
                break;
        case VALUE_BOOL:
                json_put_bool(writer, key, value_get_bool(value));
                break;
        case VALUE_INT:
                json_put_int(writer, key, value_get_int(value));
                break;
        case VALUE_REAL:
                json_put_real(writer, key, value_get_real(value));
                break;
        case VALUE_TEXT:
                json_put_text(writer, key, value_get_text(value));
                break;
        case VALUE_LIST:
        case VALUE_MAP:
                open_with(writer, key, value_get_kind(value) == VALUE_MAP ? "{" : "[");
                for (size_t i = 0; i < value_get_count(value); i++)
                        json_put_value(writer, value_get_key(value, i), value_get_item(value, i));
                close_with(writer, value_get_kind(value) == VALUE_MAP ? "}" : "]");
                break;
        }
}
