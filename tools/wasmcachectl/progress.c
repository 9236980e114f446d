/*
 * How it goes: a thread follows the daemon's events on a connection of its own and draws one line on stderr for every "progress" of our url; the pull itself knows nothing of it.
 * How it fails: without a terminal, a second connection or events there is no bar, and nothing else changes.
 * How it ends: progress_stop() interrupts the connection, joins the thread and wipes the line.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include "ctl.h"

enum { LINE_MAX_BYTES = 64 << 10, DRAW_EVERY_MS = 100, RATE_WINDOW_MS = 500, BAR_MAX = 40 };

struct progress {
        pthread_t thread;
        struct wasmcache *cache;
        char *url;                                /* normalised */
        struct buffer line;                       /* what has come of the current line of events */
        bool has_drawn, colours;
        int64_t started_ms, drawn_ms;
        uint64_t started_bytes;
};

static unsigned terminal_columns(void)
{
        struct winsize size;
        return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

static void draw(struct progress *progress, uint64_t bytes, int64_t total, int64_t now_ms)
{
        char done[24], whole[24] = "", rate_text[24] = "", part[BAR_MAX + 16] = "", eta[24] = "", line[256];
        int64_t elapsed_ms = now_ms - progress->started_ms;
        uint64_t rate = elapsed_ms >= RATE_WINDOW_MS ? (bytes - progress->started_bytes) * 1000 / (uint64_t)elapsed_ms : 0;
        unsigned columns = terminal_columns(), percent = total > 0 ? (unsigned)(bytes >= (uint64_t)total ? 100 : bytes * 100 / (uint64_t)total) : 0;
        unsigned width = columns > 100 ? BAR_MAX : columns > 70 ? 20 : 0;

        size_format_human(bytes, done, sizeof done);
        if (rate > 0)
                size_format_human(rate, rate_text, sizeof rate_text);
        if (total > 0)
                size_format_human((uint64_t)total, whole, sizeof whole);
        if (total > 0 && rate > 0 && bytes < (uint64_t)total)
                snprintf(eta, sizeof eta, "  ETA %llus", (unsigned long long)(((uint64_t)total - bytes + rate - 1) / rate));

        char bar[BAR_MAX + 1];
        unsigned filled = width * percent / 100;
        memset(bar, '=', filled);
        memset(bar + filled, ' ', width - filled);
        bar[width] = '\0';
        if (total > 0)                            /* else the source does not tell how much there will be */
                snprintf(part, sizeof part, "%3u%% %s%s%s", percent, width ? "[" : "", bar, width ? "] " : "");
        snprintf(line, sizeof line, "%s%s%s%s%s%s%s%s", part, done, total > 0 ? " / " : "", whole, rate ? "  " : "", rate_text, rate ? "/s" : "", eta);
        fprintf(stderr, "\r%s%.*s%s\033[K", progress->colours ? "\033[36m" : "", (int)columns - 1, line, progress->colours ? "\033[0m" : "");
        fflush(stderr);
        progress->has_drawn = true;
        progress->drawn_ms = now_ms;
}

/* The url as the daemon names it, without "oci://": no tag is "latest", a digest makes the tag unimportant. */
static char *url_normalise(const char *url)
{
        const char *bare = string_starts_with_nocase(url, "oci://") ? url + 6 : url, *slash = strrchr(bare, '/'), *last = slash ? slash + 1 : bare;
        const char *at = strchr(last, '@'), *colon = strchr(last, ':');

        if (strstr(bare, "://") || (!at && colon))
                return string_copy(bare);
        if (!at)
                return string_format("%s:latest", bare);
        return string_format("%.*s%s", (int)((colon && colon < at ? colon : at) - bare), bare, at);
}

/* Whether an event is of our pull; a name without a registry has got one in front of it. */
static bool url_matches(const char *event_url, const char *url)
{
        if (!event_url)
                return false;
        const char *bare = string_starts_with_nocase(event_url, "oci://") ? event_url + 6 : event_url;
        size_t length = strlen(bare), url_length = strlen(url);
        return length >= url_length && strcasecmp(bare + length - url_length, url) == 0 && (length == url_length || bare[length - url_length - 1] == '/');
}

static void line_take(struct progress *progress, const char *text, size_t size_bytes)
{
        CLEANUP(value_free) struct value *event = NULL;
        struct error ignored = { 0 };

        if (size_bytes == 0 || !json_parse(text, size_bytes, ERROR_UPSTREAM_ERROR, &event, &ignored))
                return;
        const struct value *total = value_get_member(event, "total");
        int64_t bytes = value_get_int(value_get_member(event, "bytes")), now_ms = clock_get_ms();
        if (!string_equal(text_member(event, "type"), "progress") || !url_matches(text_member(event, "url"), progress->url) || bytes < 0)
                return;

        if (progress->started_ms == 0 || (uint64_t)bytes < progress->started_bytes) {
                progress->started_ms = now_ms;
                progress->started_bytes = (uint64_t)bytes;
        }
        if (!progress->has_drawn || now_ms - progress->drawn_ms >= DRAW_EVERY_MS || bytes == value_get_int(total))
                draw(progress, (uint64_t)bytes, value_get_int(total), now_ms);
}

static int events_take(void *arg, const char *bytes, size_t size)
{
        struct progress *progress = arg;

        for (const char *end; (end = memchr(bytes, '\n', size)) != NULL;) {
                size_t part = (size_t)(end - bytes);
                if (!buffer_append(&progress->line, bytes, part))
                        return 1;
                line_take(progress, progress->line.data ? progress->line.data : "", progress->line.used);
                buffer_clear(&progress->line);
                bytes = end + 1;
                size -= part + 1;
        }
        return buffer_append(&progress->line, bytes, size) ? 0 : 1;
}

static void *events_follow(void *arg)
{
        struct progress *progress = arg;
        struct wasmcache_error ignored;

        wasmcache_stream(progress->cache, "/v1/events?follow=1", events_take, progress, &ignored);
        return NULL;
}

struct progress *progress_start(const struct ctl *ctl, const char *url)
{
        struct wasmcache_error ignored;
        if (!isatty(STDERR_FILENO) || ctl->options[OPTION_NO_PROGRESS] || string_equal(getenv("TERM"), "dumb"))
                return NULL;

        struct progress *progress = memory_new(1, sizeof *progress);
        progress->url = url_normalise(url);
        progress->line.limit = LINE_MAX_BYTES;
        progress->colours = output_has_colours(STDERR_FILENO);
        if (wasmcache_connect(ctl->socket_path, &progress->cache, &ignored) != WASMCACHE_OK || pthread_create(&progress->thread, NULL, events_follow, progress) != 0) {
                wasmcache_close(progress->cache);
                free(progress->url);
                free(TAKE(progress));
        }
        return progress;
}

void progress_stop(struct progress **progress)
{
        struct progress *ended = TAKE(*progress);
        if (!ended)
                return;

        wasmcache_interrupt(ended->cache);
        pthread_join(ended->thread, NULL);
        if (ended->has_drawn)
                fputs("\r\033[K", stderr);
        wasmcache_close(ended->cache);
        buffer_fini(&ended->line);
        free(ended->url);
        free(ended);
}
