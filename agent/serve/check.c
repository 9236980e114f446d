/*
 * How it goes: each check walks its text once; decoding writes beside it.
 * How it fails: false, and the caller answers 400; nothing is repaired or guessed.
 * How it ends: only a parsed query owns memory.
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

/* Which bytes may stand in a token, a field value (RFC 9110 5.6.2, 5.5) and a target: a table, because each byte of each request is looked up. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, SIGN = VALUE | TARGET, ALL = SIGN | TOKEN };
static const uint8_t classes[256] = {
        ['\t'] = VALUE, [' '] = VALUE, ['!'] = ALL, ['"'] = SIGN, ['#'] = VALUE | TOKEN, ['$' ... '\''] = ALL, ['(' ... ')'] = SIGN, ['*' ... '+'] = ALL, [','] = SIGN,
        ['-' ... '.'] = ALL, ['/'] = SIGN, ['0' ... '9'] = ALL, [':' ... '@'] = SIGN, ['A' ... 'Z'] = ALL, ['[' ... ']'] = SIGN, ['^' ... 'z'] = ALL, ['{'] = SIGN,
        ['|'] = ALL, ['}'] = SIGN, ['~'] = ALL, [0x80 ... 0xff] = VALUE,
};

static bool is_all(uint8_t class, const char *text, size_t length)
{
        uint8_t common = class;
        for (size_t i = 0; i < length; i++)
                common &= classes[(uint8_t)text[i]];
        return common == class;
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

bool check_target(const char *target, size_t target_bytes)
{
        return target_bytes > 0 && target[0] == '/' && is_all(TARGET, target, target_bytes);
}

bool check_utf8(const char *text, size_t length)
{
        for (size_t i = 0; i < length;) {
                size_t step = string_utf8_length(text + i, length - i);
                if (step == 0)
                        return false;
                i += step;
        }
        return true;
}

bool check_decode(const char *text, size_t length, bool plus_is_blank, char *ret_text)
{
        size_t used = 0;

        for (size_t i = 0; i < length; i++) {
                char c = text[i];
                if (c == '%') {
                        int high = length - i > 2 ? hex_digit(text[i + 1]) : -1, low = length - i > 2 ? hex_digit(text[i + 2]) : -1;
                        if (high < 0 || low < 0 || (high == 0 && low == 0))
                                return false;
                        c = (char)(high << 4 | low);
                        i += 2;
                } else if (c == '+' && plus_is_blank) {
                        c = ' ';
                }
                ret_text[used++] = c;
        }
        ret_text[used] = '\0';
        return check_utf8(ret_text, used);
}

bool check_token(const char *text, size_t length)
{
        return length > 0 && is_all(TOKEN, text, length);
}

bool check_field_value(const char *text, size_t length)
{
        return is_all(VALUE, text, length);
}

static bool parameter_parse(const char *text, size_t length, char **cursor, struct parameter *ret_parameter)
{
        const char *equals = memchr(text, '=', length);
        size_t name_bytes = equals ? (size_t)(equals - text) : length;

        char *name = *cursor;
        if (name_bytes == 0 || !check_decode(text, name_bytes, true, name))
                return false;

        char *value = name + strlen(name) + 1;
        if (!check_decode(equals ? equals + 1 : "", equals ? length - name_bytes - 1 : 0, true, value))
                return false;
        *cursor = value + strlen(value) + 1;
        *ret_parameter = (struct parameter){ name, value };
        return true;
}

bool query_parse(const char *text, struct query *ret_query)
{
        /* The caller has bounded the text by URI_MAX_BYTES. A pair becomes at most two NULs longer than it was with its separators. */
        struct query query = { .text = memory_new(strlen(text) + 2 * QUERY_PARAMETERS_MAX + 2, 1), .parameters = memory_new(QUERY_PARAMETERS_MAX, sizeof *query.parameters) };
        char *cursor = query.text;

        for (const char *pair = text; *pair;) {
                size_t length = strcspn(pair, "&");
                if (length > 0 && (query.count == QUERY_PARAMETERS_MAX || !parameter_parse(pair, length, &cursor, &query.parameters[query.count++]))) {
                        query_fini(&query);
                        return false;
                }
                pair += length + (pair[length] == '&');
        }
        *ret_query = query;
        return true;
}

void query_fini(struct query *query)
{
        free(query->text);
        free(query->parameters);
        *query = (struct query){ 0 };
}
