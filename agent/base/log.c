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
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/base/clock.h>
#include <wasmcached/base/json.h>
#include <wasmcached/base/log.h>
#include <wasmcached/base/memory.h>

enum { LINE_BYTES = 4000, EVENTS = 32, PER_SECOND = 20, FIELDS_MAX = 32 };        /* below PIPE_BUF, so that a line is written whole or not at all */

static const char *const level_names[] = { "debug", "info", "warn", "error", "off" };
static const int level_priorities[] = { 7, 6, 4, 3, 3 };           /* sd-daemon(3) */
static atomic_int threshold = LOG_LEVEL_INFO, line_format = LOG_FORMAT_LOGFMT;
static atomic_uint_fast64_t dropped;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct { const char *event; int64_t second; unsigned count, held; } floods[EVENTS];      /* used ones first */

void log_configure(enum log_level level, enum log_format format)
{
        atomic_store(&threshold, (int)level);
        atomic_store(&line_format, (int)format);
}

uint64_t log_get_dropped(void)
{
        return atomic_load(&dropped);
}

/* What a flood held back, of whatever event, once its second is over. */
struct held { const char *event; unsigned count; };

static void held_take(int64_t second, struct held *ret_held)
{
        for (size_t i = 0; i < EVENTS && floods[i].event; i++) {
                if (floods[i].second != second)
                        floods[i].count = 0;
                if (floods[i].second == second || floods[i].held == 0 || ret_held->count > 0)
                        continue;
                *ret_held = (struct held){ floods[i].event, floods[i].held };
                floods[i].held = 0;
        }
}

/* Counts this line of `event`; false when it is one too many in this second. */
static bool flood_pass(const char *event, struct held *ret_held)
{
        int64_t second = clock_get_ms() / 1000;
        size_t place = 0;
        bool is_pass = true;

        pthread_mutex_lock(&lock);
        held_take(second, ret_held);
        while (place < EVENTS && floods[place].event && strcmp(floods[place].event, event) != 0)
                place++;
        if (place < EVENTS) {
                floods[place].event = event;
                floods[place].second = second;
                is_pass = ++floods[place].count <= PER_SECOND;
                floods[place].held += !is_pass;
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

/* The variable is inherited by everything started below a service, so it counts only if it names this very stream (systemd.exec(5)). */
static bool is_journal(void)
{
        const char *text = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat status;

        return text && sscanf(text, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &status) == 0 && status.st_dev == device && status.st_ino == inode;
}

static void line_build(struct buffer *out, enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
        const char *stamp_name = is_journal() ? NULL : "time";
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
        for (size_t left = field_count; line.used > LINE_BYTES && left > 0;) {
                /* Half a quoted text or half of JSON is none: whole fields go, from the end. */
                struct log_field kept[FIELDS_MAX];
                left = left - 1 < FIELDS_MAX - 1 ? left - 1 : FIELDS_MAX - 1;
                if (left > 0)
                        memcpy(kept, fields, left * sizeof *kept);
                kept[left] = LOG_NUMBER("fields_cut", field_count - left);
                buffer_clear(&line);
                line_build(&line, level, event, kept, left + 1);
        }
        if (line.used > LINE_BYTES)
                line.used = LINE_BYTES;
        buffer_append_text(&line, "\n");
        if (poll(&out, 1, 0) != 1 || !(out.revents & POLLOUT) || write(STDERR_FILENO, line.data, line.used) < 0)
                atomic_fetch_add(&dropped, 1);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count)
{
        struct held held = { 0 };

        if ((int)level < atomic_load(&threshold))
                return;
        bool is_pass = flood_pass(event, &held);
        if (held.count > 0)
                line_write(LOG_LEVEL_WARN, "log_flood", (struct log_field[]){ LOG_TEXT("of", held.event), LOG_NUMBER("held_back", held.count) }, 2);
        if (is_pass)
                line_write(level, event, fields, field_count);
}
