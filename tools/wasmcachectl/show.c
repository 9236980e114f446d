/*
 * How it goes: commands that only look: ls page by page, inspect, status, config, events line by line, version.
 * How it fails: an answer that cannot be had is the daemon's word; a listing that broke off prints nothing.
 * How it ends: events -f ends when interrupted or when the daemon stops.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

enum { EVENT_MAX_BYTES = 64 << 10 };

static void join_texts(const struct value *list, struct buffer *ret_joined)
{
        for (size_t i = 0; i < value_get_count(list); i++) {
                const char *text = value_get_text(value_get_item(list, i));
                if (text)
                        buffer_printf(ret_joined, "%s%s", ret_joined->used ? "," : "", text);
        }
}

static void module_state(const struct value *module, char *ret_text, size_t size_bytes)
{
        const struct value *pinned = value_get_member(module, "pinned");
        int64_t leases = value_get_int(value_get_member(module, "leases"));
        const char *pin = value_get_bool(pinned ? pinned : value_get_member(module, "isPinned")) ? "pinned" : "";

        if (leases > 0)
                snprintf(ret_text, size_bytes, "%s%s%lld leased", pin, *pin ? "," : "", (long long)leases);
        else
                snprintf(ret_text, size_bytes, "%s", *pin ? pin : "free");
}

static void module_signed(const struct value *module, char *ret_text, size_t size_bytes)
{
        const struct value *verified = value_get_member(module, "verified");
        const char *format = text_member(verified, "format"), *key = text_member(verified, "keyFingerprint");
        snprintf(ret_text, size_bytes, "%.24s%s%.12s", format ? format : "", format && key ? ":" : "", format && key ? key : "");
}

static void module_row(struct table *table, const struct value *module)
{
        CLEANUP(buffer_fini) struct buffer urls = { 0 }, namespaces = { 0 };
        const char *sha256 = text_member(module, "sha256");
        char size[32], state[48], age[24], signed_by[64];
        CLEANUP(cleanup_free) char *short_name = sha256 ? string_copy_bytes(sha256, strnlen(sha256, 12)) : NULL;

        join_texts(value_get_member(module, "urls"), &urls);
        join_texts(value_get_member(module, "namespaces"), &namespaces);
        if (urls.used == 0 && text_member(module, "url"))
                buffer_append_text(&urls, text_member(module, "url"));
        size_format_human((uint64_t)value_get_int(value_get_member(module, "size")), size, sizeof size);
        module_state(module, state, sizeof state);
        format_age(text_member(module, "lastUsed"), age, sizeof age);
        table_add(table, short_name);
        table_add(table, size);
        table_add(table, age);
        table_add(table, state);
        module_signed(module, signed_by, sizeof signed_by);
        table_add(table, *signed_by ? signed_by : NULL);
        table_add(table, namespaces.data);
        table_add(table, urls.data);
}

int command_ls(struct ctl *ctl)
{
        static const char *const heads[] = { "SHA256", "SIZE", "USED", "STATE", "SIGNED", "NAMESPACES", "URL", NULL };
        return listing_print(ctl, &(struct listing){ "/v1/modules", "modules", NULL, heads, module_row });
}

static int show_route(struct ctl *ctl, const char *path)
{
        CLEANUP(value_free) struct value *answer = NULL;

        int result = daemon_ask(ctl, "GET", path, NULL, &answer);
        if (result == WASMCACHE_OK)
                output_value(ctl, answer);
        return result;
}

int command_inspect(struct ctl *ctl)
{
        CLEANUP(cleanup_free) char *escaped = query_escape(ctl->arguments[0]);
        CLEANUP(cleanup_free) char *path = string_format("/v1/inspect?name=%s", escaped);
        return show_route(ctl, path);
}

int command_status(struct ctl *ctl)
{
        return show_route(ctl, "/v1/status");
}

int command_config(struct ctl *ctl)
{
        return show_route(ctl, "/v1/config");
}

struct event_feed { struct ctl *ctl; struct buffer line; };

static void event_words(const struct value *event)
{
        const char *subject = text_member(event, "url") ? text_member(event, "url") : text_member(event, "sha256");
        const char *names[] = { "time", "type", NULL, "code", "detail" };
        char shown[1024];

        for (size_t i = 0; i < COUNT_OF(names); i++) {
                const char *text = names[i] ? text_member(event, names[i]) : subject;
                if (text && *text)
                        printf("%s%s", i > 0 ? "  " : "", string_printable(text, strlen(text), shown, sizeof shown));
        }
        if (string_equal(text_member(event, "type"), "progress"))
                printf("  %lld of %lld bytes", (long long)value_get_int(value_get_member(event, "bytes")), (long long)value_get_int(value_get_member(event, "total")));
        putchar('\n');
}

static void event_print(const struct event_feed *feed)
{
        CLEANUP(value_free) struct value *event = NULL;
        struct error ignored = { 0 };

        if (feed->line.used == 0 || !json_parse(feed->line.data, feed->line.used, ERROR_UPSTREAM_ERROR, &event, &ignored))
                return;
        if (feed->ctl->format == FORMAT_YAML)
                puts("---");
        if (feed->ctl->format == FORMAT_TABLE)
                event_words(event);
        else
                output_value(feed->ctl, event);
        if (fflush(stdout) != 0 && feed->ctl->output_errno == 0)
                feed->ctl->output_errno = errno;
}

static int event_take(void *arg, const char *bytes, size_t size)
{
        struct event_feed *feed = arg;

        for (const char *end; (end = memchr(bytes, '\n', size)) != NULL;) {
                size_t part = (size_t)(end - bytes);
                if (!buffer_append(&feed->line, bytes, part))
                        return 1;
                event_print(feed);
                buffer_clear(&feed->line);
                bytes = end + 1;
                size -= part + 1;
        }
        return ferror(stdout) || !buffer_append(&feed->line, bytes, size);
}

int command_events(struct ctl *ctl)
{
        struct event_feed feed = { .ctl = ctl, .line.limit = EVENT_MAX_BYTES };
        struct wasmcache_error err = { 0 };

        int result = wasmcache_stream(ctl->cache, ctl->options[OPTION_FOLLOW] ? "/v1/events?follow=1" : "/v1/events", event_take, &feed, &err);
        buffer_fini(&feed.line);
        /* Who follows has not asked for an end. */
        if (result == WASMCACHE_OK && ctl->options[OPTION_FOLLOW] && !ferror(stdout)) {
                snprintf(err.text, sizeof err.text, "the daemon ended the stream of events: it is stopping");
                result = WASMCACHE_UNREACHABLE;
        }
        return result == WASMCACHE_OK ? WASMCACHE_OK : report_daemon(ctl, result, &err);
}

/* The daemon's version is told if one answers; its absence is no failure here. */
int command_version(struct ctl *ctl)
{
        CLEANUP(value_free) struct value *status = NULL;
        CLEANUP(cleanup_free) char *text = NULL;
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct json_writer writer = { .out = &out };
        struct wasmcache_error ignored = { 0 };
        struct error err = { 0 };
        size_t size = 0;
        const char *path = ctl->options[OPTION_SOCKET] ? ctl->options[OPTION_SOCKET] : getenv("WASMCACHED_SOCKET");

        if (wasmcache_connect(path && *path ? path : "/run/wasmcached/admin.sock", &ctl->cache, &ignored) == WASMCACHE_OK &&
                wasmcache_call(ctl->cache, "GET", "/v1/status", NULL, NULL, &text, &size, &ignored) == WASMCACHE_OK)
                json_parse(text, size, ERROR_UPSTREAM_ERROR, &status, &err);
        json_open_map(&writer, NULL);
        json_put_text(&writer, "wasmcachectl", WASMCACHED_VERSION);
        if (text_member(status, "version"))
                json_put_text(&writer, "wasmcached", text_member(status, "version"));
        json_close_map(&writer);

        CLEANUP(value_free) struct value *versions = NULL;
        if (!json_parse(out.data, out.used, ERROR_INTERNAL, &versions, &err))
                return report_error(&err);
        output_value(ctl, versions);
        return WASMCACHE_OK;
}
