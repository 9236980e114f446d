/*
 * How it goes: option_read() takes one YAML (or JSON) node by the option's type, checks it against syntax and bounds, and puts it at its offset; option_put_json() writes it back.
 * How it fails: "FILE:LINE: KEY: what is wrong; allowed: …"; values are quoted, except where a password may stand in them.
 * How it ends: texts and lists belong to the config (config_keep).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "option.h"

bool option_refuse(const struct option_place *place, struct error *err, const char *format, ...)
{
        char text[ERROR_TEXT_BYTES];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);

        const char *key = *place->key ? place->key : "the whole document";
        if (place->line == 0)
                return refuse(err, ERROR_BAD_REQUEST, "%s: %s: %s", place->file, key, text);
        return refuse(err, ERROR_BAD_REQUEST, "%s:%zu: %s: %s", place->file, place->line, key, text);
}

const char *option_word(const char *words, size_t index, char ret_word[32])
{
        for (; index > 0 && *words; index--) {
                words += strcspn(words, "|");
                words += *words == '|';
        }
        snprintf(ret_word, 32, "%.*s", (int)strcspn(words, "|"), words);
        return ret_word;
}

static void allowed_words(const struct option *option, struct buffer *out)
{
        char word[32];
        for (size_t i = 0; *option_word(option->words, i, word); i++)
                buffer_printf(out, "%s%s", i ? ", " : "", word);
}

static void bound_format(const struct option *option, int64_t bound, char ret_text[32])
{
        if (option->type == OPTION_SIZE)
                size_format((uint64_t)bound, ret_text, 32);
        else if (option->type == OPTION_TIME)
                clock_format_duration(bound, ret_text, 32);
        else
                snprintf(ret_text, 32, "%lld", (long long)bound);
}

void option_format_allowed(const struct option *option, struct buffer *out)
{
        if (option->flags & OPTION_LIST)
                buffer_append_text(out, "a list of: ");
        if (option->type == OPTION_WORD)
                allowed_words(option, out);
        else
                buffer_append_text(out, option_types[option->type].allowed);

        char low[32], high[32];
        if (option->type == OPTION_INT || option->type == OPTION_PERCENT || option->type == OPTION_SIZE || option->type == OPTION_TIME) {
                bound_format(option, option->min, low);
                bound_format(option, option->max, high);
                buffer_printf(out, "; from %s to %s", low, high);
        }
        if (option->type == OPTION_PATH && option->max)
                buffer_printf(out, "; at most %lld bytes", (long long)option->max);
}

static bool refuse_value(const struct option *option, const struct option_place *place, const struct value *value, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer allowed = { 0 };
        option_format_allowed(option, &allowed);

        enum value_kind kind = value_get_kind(value);
        char shown[128];
        if (option->type == OPTION_PROXY)
                return option_refuse(place, err, "the value (not shown, it may hold a password) does not fit; allowed: %s", allowed.data);
        if (kind == VALUE_TEXT)
                return option_refuse(place, err, "\"%s\" does not fit; allowed: %s", string_printable(value_get_text(value), value_get_text_bytes(value), shown,
                        sizeof shown), allowed.data);
        if (kind == VALUE_INT)
                return option_refuse(place, err, "%lld does not fit; allowed: %s", (long long)value_get_int(value), allowed.data);
        return option_refuse(place, err, "a value of type %s does not fit; allowed: %s", value_get_kind_name(kind), allowed.data);
}

/* ---- scalars ---- */
static bool read_word(const struct option *option, const struct value *value, int64_t *ret_index)
{
        /* YAML 1.1 reads a bare `off` as false. */
        bool is_off = value_get_kind(value) == VALUE_BOOL && !value_get_bool(value);
        const char *text = is_off ? "off" : value_get_text(value);
        char word[32];
        for (size_t i = 0; text && *option_word(option->words, i, word); i++)
                if (string_equal(word, text)) {
                        *ret_index = (int64_t)i;
                        return true;
                }
        return false;
}

static bool read_mode(const struct value *value, int64_t *ret_number)
{
        const char *text = value_get_text(value);
        size_t length = text ? strlen(text) : 0;
        if (length < 3 || length > 4 || strspn(text, "01234567") != length)
                return false;
        *ret_number = strtol(text, NULL, 8);
        return true;
}

static bool read_number(const struct option *option, const struct value *value, int64_t *ret_number)
{
        struct error ignored = { 0 };
        uint64_t bytes;
        switch (option->type) {
        case OPTION_MODE:
                return read_mode(value, ret_number);
        case OPTION_SIZE:
                if (value_get_text(value)) {
                        if (!size_parse(value_get_text(value), &bytes, &ignored) || bytes > INT64_MAX)
                                return false;
                        *ret_number = (int64_t)bytes;
                        return true;
                }
                break;
        case OPTION_TIME:
                if (value_get_text(value))
                        return clock_parse_duration(value_get_text(value), ret_number, &ignored);
                if (value_get_int(value) != 0)
                        return false;
                break;
        default:
                break;
        }
        *ret_number = value_get_int(value);
        return value_get_kind(value) == VALUE_INT;
}

static bool is_number(enum option_type type)
{
        return type == OPTION_INT || type == OPTION_PERCENT || type == OPTION_SIZE || type == OPTION_TIME || type == OPTION_MODE;
}

static bool text_fits(const struct option *option, const struct value *value, bool empty_allowed)
{
        const char *text = value_get_text(value);
        if (!text)
                return false;
        if (!*text)
                return empty_allowed;
        if (option->type == OPTION_PATH && option->max && strlen(text) > (size_t)option->max)
                return false;

        int64_t index;
        if (option->type == OPTION_WORD)
                return read_word(option, value, &index);
        return option_text_fits(option->type, text);
}

static bool read_scalar(const struct option *option, const struct option_place *place, const struct value *value, void *at, struct error *err)
{
        int64_t number = 0;
        if (option->type == OPTION_BOOL) {
                if (value_get_kind(value) != VALUE_BOOL)
                        return refuse_value(option, place, value, err);
                *(bool *)at = value_get_bool(value);
                return true;
        }
        if (option->type == OPTION_WORD || is_number(option->type)) {
                bool fits = option->type == OPTION_WORD ? read_word(option, value, &number) : read_number(option, value, &number);
                if (!fits || (option->type != OPTION_WORD && (number < option->min || number > option->max)))
                        return refuse_value(option, place, value, err);
                *(int64_t *)at = number;
                return true;
        }
        bool empty_allowed = string_equal(option->initial, "\"\"") && !(option->flags & OPTION_REQUIRED);
        if (!text_fits(option, value, empty_allowed) && place->line != 0)
                return refuse_value(option, place, value, err);
        *(const char **)at = config_keep(place->config, string_copy(value_get_text(value)));
        return true;
}

/* ---- lists ---- */
static bool read_list(const struct option *option, const struct option_place *place, const struct value *value, void *at, struct error *err)
{
        bool is_map = option->type == OPTION_TEXT_MAP;
        if (value_get_kind(value) != (is_map ? VALUE_MAP : VALUE_LIST))
                return refuse_value(option, place, value, err);

        size_t count = value_get_count(value);
        const char **texts = config_keep(place->config, memory_new(count + 1, sizeof *texts));
        for (size_t i = 0; i < count; i++) {
                const struct value *item = value_get_item(value, i);
                struct option_place item_place = *place;
                item_place.line = value_get_line(item);
                if (!text_fits(option, item, false))
                        return refuse_value(option, &item_place, item, err);
                texts[i] = config_keep(place->config, is_map ? string_format("%s=%s", value_get_key(value, i), value_get_text(item)) : string_copy(value_get_text(item)));
        }
        *(const char *const **)at = texts;
        return true;
}

bool option_read(const struct option *option, const struct option_place *place, const struct value *value, void *base, struct error *err)
{
        if (value_get_kind(value) == VALUE_NULL)
                return true;

        void *at = (char *)base + option->offset;
        bool is_list = option->flags & OPTION_LIST || option->type == OPTION_TEXT_MAP;
        return is_list ? read_list(option, place, value, at, err) : read_scalar(option, place, value, at, err);
}

/* ---- the way back ---- */
/* Userinfo of a proxy URL becomes three stars. */
static char *proxy_without_password(const char *url)
{
        const char *at = strrchr(url, '@');
        const char *host = strstr(url, "://");
        if (!at || !host)
                return string_copy(url);
        return string_format("%.*s***%s", (int)(host + 3 - url), url, at);
}

static void put_number(const struct option *option, int64_t number, const char *key, struct json_writer *writer)
{
        char text[32];
        if (option->type == OPTION_WORD)
                option_word(option->words, (size_t)number, text);
        else if (option->type == OPTION_MODE)
                snprintf(text, sizeof text, "%04o", (unsigned)number);
        else if (option->type == OPTION_SIZE || option->type == OPTION_TIME)
                bound_format(option, number, text);
        else {
                json_put_int(writer, key, number);
                return;
        }
        json_put_text(writer, key, text);
}

static void put_list(const struct option *option, const char *const *texts, const char *key, struct json_writer *writer)
{
        bool is_map = option->type == OPTION_TEXT_MAP;
        (is_map ? json_open_map : json_open_list)(writer, key);
        for (; texts && *texts; texts++) {
                size_t name_bytes = strcspn(*texts, "=");
                CLEANUP(cleanup_free) char *name = is_map ? string_copy_bytes(*texts, name_bytes) : NULL;
                json_put_text(writer, name, is_map ? *texts + name_bytes + 1 : *texts);
        }
        (is_map ? json_close_map : json_close_list)(writer);
}

void option_put_json(const struct option *option, const void *base, bool reveal, const char *key, struct json_writer *writer)
{
        const void *at = (const char *)base + option->offset;
        if (option->flags & OPTION_LIST || option->type == OPTION_TEXT_MAP)
                put_list(option, *(const char *const *const *)at, key, writer);
        else if (option->type == OPTION_BOOL)
                json_put_bool(writer, key, *(const bool *)at);
        else if (option->type == OPTION_WORD || is_number(option->type))
                put_number(option, *(const int64_t *)at, key, writer);
        else if (option->type == OPTION_PROXY && !reveal) {
                CLEANUP(cleanup_free) char *shown = proxy_without_password(*(const char *const *)at);
                json_put_text(writer, key, shown);
        } else
                json_put_text(writer, key, *(const char *const *)at ? *(const char *const *)at : "");
}
