/*
 * How it goes: a route that answers in pages is asked page by page; the rows become one table, one JSON document or one YAML document.
 * How it fails: the daemon's word; a listing that broke off prints nothing.
 * How it ends: all of it is freed, printed or not.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

enum { PAGE_LIMIT = 500, PAGES_MAX = 10000 };

void query_put(struct buffer *query, const char *name, const char *value)
{
        CLEANUP(cleanup_free) char *escaped = query_escape(value);
        buffer_printf(query, "%c%s=%s", strchr(query->data, '?') ? '&' : '?', name, escaped);
}

struct rows { struct table table; struct buffer json; struct json_writer writer; };

static int page_take(struct ctl *ctl, const struct listing *listing, struct rows *rows, char **after)
{
        CLEANUP(value_free) struct value *page = NULL;
        CLEANUP(buffer_fini) struct buffer path = { 0 };
        buffer_printf(&path, "%s?limit=%d", listing->path, PAGE_LIMIT);
        if (listing->namespace)
                query_put(&path, "namespace", listing->namespace);
        if (*after)
                query_put(&path, "continue", *after);
        int result = daemon_ask(ctl, "GET", path.data, NULL, &page);
        if (result != WASMCACHE_OK)
                return result;
        const struct value *items = value_get_member(page, listing->member);
        for (size_t i = 0; i < value_get_count(items); i++)
                if (ctl->format == FORMAT_TABLE)
                        listing->row(&rows->table, value_get_item(items, i));
                else
                        json_put_value(&rows->writer, NULL, value_get_item(items, i));
        const char *next = text_member(page, "continue");
        free(*after);
        *after = next && *next ? string_copy(next) : NULL;
        return WASMCACHE_OK;
}

static int rows_print(const struct ctl *ctl, struct rows *rows)
{
        CLEANUP(value_free) struct value *whole = NULL;
        struct error err = { 0 };
        json_close_list(&rows->writer);
        json_close_map(&rows->writer);
        if (ctl->format == FORMAT_TABLE)
                table_print(&rows->table);
        else if (ctl->format == FORMAT_JSON)
                puts(rows->json.data);
        else if (json_parse(rows->json.data, rows->json.used, ERROR_TOO_LARGE, &whole, &err))
                output_yaml(whole, false);
        else
                return report_local("use -o json", "the listing is too long for YAML: %s", err.text);
        return WASMCACHE_OK;
}

int listing_print(struct ctl *ctl, const struct listing *listing)
{
        struct rows rows = { 0 };
        char *after = NULL;
        int result = WASMCACHE_OK;
        rows.writer.out = &rows.json;
        json_open_map(&rows.writer, NULL);
        json_open_list(&rows.writer, listing->member);
        for (const char *const *head = listing->heads; *head; head++, rows.table.columns++)
                table_add(&rows.table, *head);
        for (unsigned pages = 0; result == WASMCACHE_OK && pages < PAGES_MAX && (pages == 0 || after); pages++)
                result = page_take(ctl, listing, &rows, &after);
        free(after);
        if (result == WASMCACHE_OK)
                result = rows_print(ctl, &rows);
        buffer_fini(&rows.table.cells);
        buffer_fini(&rows.json);
        return result;
}
