/*
 * How it goes: a line is built on the stack, at most LINE_BYTES, and written in one write(2) when poll(2) says that it will not block.
 * How it fails: a line that cannot be written at once is counted and dropped; an event that floods is counted and told in one line.
 * How it ends: nothing is kept but the counters.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasmcached/base/clock.h>
#include <wasmcached/base/json.h>
#include <wasmcached/base/log.h>
#include <wasmcached/base/memory.h>

enum { LINE_BYTES = 4000, EVENTS = 32, PER_SECOND = 20 };        /* below PIPE_BUF, so that a line is written whole or not at all */

static const char *const level_names[] = { "debug", "info", "warn", "error", "off" };
static const int level_priorities[] = { 7, 6, 4, 3, 3 };           /* sd-daemon(3) */
static atomic_int threshold = LOG_LEVEL_INFO, line_format = LOG_FORMAT_LOGFMT;
static atomic_uint_fast64_t dropped;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { const char *event; int64_t second; unsigned count; } floods[EVENTS];

void log_configure(enum log_level level, enum log_format format)
{
        atomic_store(&threshold, (int)level);
        atomic_store(&line_format, (int)format);
}

uint64_t log_get_dropped(void)
{
        return atomic_load(&dropped);
}

/* Counts this line of `event`; false when it is one too many in this second. *ret_held: how many the seconds before held back, to be told now. */
static bool flood_pass(const char *event, unsigned *ret_held)
{
        int64_t second = clock_get_ms() / 1000;
        size_t place = 0;
        bool is_pass = true;

        pthread_mutex_lock(&lock);
        while (place < EVENTS && floods[place].event && strcmp(floods[place].event, event) != 0)
                place++;
        if (place < EVENTS) {
                if (floods[place].second != second) {
                        *ret_held = floods[place].count > PER_SECOND ? floods[place].count - PER_SECOND : 0;
                        floods[place].count = 0;
                }
                floods[place].event = event;
                floods[place].second = second;
                is_pass = ++floods[place].count <= PER_SECOND;
        }
        pthread_mutex_unlock(&lock);
        return is_pass;
}

static bool needs_quotes(const char *text)
{
        if (!*text)
                return true;
        for (; *text; text++)
                if ((unsigned char)*text <= ' ' || (unsigned char)*text >= 0x7f || *text == '"' || *text == '=' || *text == '\\')
                        return true;
        return false;
}

static void logfmt_field(struct buffer *out, const struct log_field *field)
{
        char shown[1600];

        buffer_printf(out, " %s=", field->key);
        if (!field->text) {
                buffer_printf(out, "%lld", (long long)field->number);
                return;
        }
        string_printable(field->text, strlen(field->text), shown, sizeof shown);
        if (!needs_quotes(shown)) {
                buffer_append_text(out, shown);
                return;
        }
        buffer_append_text(out, "\"");
        for (const char *at = shown; *at; at++)
                buffer_printf(out, *at == '"' || (*at == '\\' && at[1] != 'x') ? "\\%c" : "%c", *at);
        buffer_append_text(out, "\"");
}

static void line_build(struct buffer *out, enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
        const char *stamp_name = getenv("JOURNAL_STREAM") ? NULL : "time";
        char stamp[CLOCK_RFC3339_BYTES];

        clock_format_rfc3339(clock_get_wall_s(), stamp);
        if (!stamp_name)
                buffer_printf(out, "<%d>", level_priorities[level]);
        if (atomic_load(&line_format) == LOG_FORMAT_JSON) {
                struct json_writer writer = { .out = out };

                json_open_map(&writer, NULL);
                if (stamp_name)
                        json_put_text(&writer, stamp_name, stamp);
                json_put_text(&writer, "level", level_names[level]);
                json_put_text(&writer, "event", event);
                for (size_t i = 0; i < field_count; i++)
                        if (fields[i].text)
                                json_put_text(&writer, fields[i].key, fields[i].text);
                        else
                                json_put_int(&writer, fields[i].key, fields[i].number);
                json_close_map(&writer);
        } else {
                if (stamp_name)
                        buffer_printf(out, "time=%s ", stamp);
                buffer_printf(out, "level=%s event=%s", level_names[level], event);
                for (size_t i = 0; i < field_count; i++)
                        logfmt_field(out, &fields[i]);
        }
}

static void line_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
        CLEANUP(buffer_fini) struct buffer line = { 0 };
        struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };

        line_build(&line, level, event, fields, field_count);
        if (line.used > LINE_BYTES && atomic_load(&line_format) == LOG_FORMAT_JSON) {
                buffer_clear(&line);                               /* half a JSON text is none */
                line_build(&line, level, event, &LOG_TEXT("cut", "the fields were too long for one line"), 1);
        }
        if (line.used > LINE_BYTES)
                line.used = LINE_BYTES;
        buffer_append_text(&line, "\n");
        if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT) || write(STDERR_FILENO, line.data, line.used) < 0)
                atomic_fetch_add(&dropped, 1);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
        unsigned held = 0;

        if ((int)level < atomic_load(&threshold))
                return;
        bool is_pass = flood_pass(event, &held);
        if (held > 0)
                line_write(LOG_LEVEL_WARN, "log_flood", (struct log_field[]){ LOG_TEXT("of", event), LOG_NUMBER("held_back", held) }, 2);
        if (is_pass)
                line_write(level, event, fields, field_count);
}
