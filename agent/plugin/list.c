/*
 * How it goes: all rows sorted once by (namespace, name, kind, source), again only after a change; a page begins behind the row that the continuation stands for.
 * How it fails: a continuation that is none of ours is refused; one whose row is gone meanwhile goes on behind where it was.
 * How it ends: rows are borrowed for the call of each().
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "set.h"

enum { CURSOR_MAX_BYTES = 4096 };

/* What rows are sorted by; `nth` tells several of one source apart. */
struct cursor { const char *namespace, *name; int kind; const char *source; unsigned nth; };

static struct cursor cursor_of(const struct known_row *row)
{
        const struct plugin *plugin = row->row.plugin;
        return (struct cursor){ plugin->namespace, plugin->name, (int)plugin->kind, row->row.source, row->nth };
}

static int cursor_compare(const struct cursor *a, const struct cursor *b)
{
        int order = strcmp(a->namespace, b->namespace);
        order = order ? order : strcmp(a->name, b->name);
        order = order ? order : a->kind - b->kind;
        order = order ? order : strcmp(a->source, b->source);
        return order ? order : (a->nth > b->nth) - (a->nth < b->nth);
}

static int row_compare(const void *left, const void *right)
{
        struct cursor a = cursor_of(left), b = cursor_of(right);
        return cursor_compare(&a, &b);
}

static void rows_make(struct plugins *plugins)
{
        if (plugins->has_rows)
                return;
        free(plugins->rows);
        plugins->rows = memory_new(plugins->entry_count + 1, sizeof *plugins->rows);
        plugins->has_rows = true;

        size_t count = 0, position = 0, key_size;
        const void *key;
        void *value;
        while (map_next(plugins->objects, &position, &key, &key_size, &value)) {
                const struct object *object = value;
                for (const struct entry *entry = object->entries; entry; entry = entry->next)
                        plugins->rows[count++] = (struct known_row){
                                { entry->plugin, entry->source->name, entry == object->entries ? NULL : object->entries->source->name }, entry->nth,
                        };
        }
        if (count > 1)
                qsort(plugins->rows, count, sizeof *plugins->rows, row_compare);
}

/* Base64 with the URL's alphabet and without padding (RFC 4648 5), so that it needs no escapes in a query. */
static char *cursor_format(const struct known_row *row)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct cursor cursor = cursor_of(row);
        const char *const texts[] = { cursor.namespace, cursor.name, cursor.source };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                buffer_append(&text, texts[i], strlen(texts[i]) + 1);
        buffer_printf(&text, "%d %u", cursor.kind, cursor.nth);

        char *encoded = base64_encode(text.data, text.used);
        encoded[strcspn(encoded, "=")] = '\0';
        for (char *c = encoded; *c; c++)
                *c = *c == '+' ? '-' : *c == '/' ? '_' : *c;
        return encoded;
}

/* The texts of *ret_cursor are in `ret_bytes`. */
static bool cursor_parse(const char *text, char **ret_bytes, struct cursor *ret_cursor)
{
        size_t length = strlen(text), size = 0;
        if (length > CURSOR_MAX_BYTES)
                return false;
        CLEANUP(cleanup_free) char *standard = string_copy(text);
        CLEANUP(cleanup_free) char *bytes = memory_new(length + 4, 1);
        for (char *c = standard; *c; c++)
                *c = *c == '-' ? '+' : *c == '_' ? '/' : *c == '+' || *c == '/' ? '!' : *c;
        if (!base64_decode(standard, length, true, bytes, &size))
                return false;
        bytes[size] = '\0';

        const char *texts[3], *at = bytes;
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                size_t part = strlen(at) + 1;
                if (at + part > bytes + size)
                        return false;
                texts[i] = at;
                at += part;
        }
        int kind, end = 0;
        unsigned nth;
        if (sscanf(at, "%1d %9u%n", &kind, &nth, &end) != 2 || at + end != bytes + size || kind < 0 || kind > PLUGIN_FILE)
                return false;
        *ret_cursor = (struct cursor){ texts[0], texts[1], kind, texts[2], nth };
        *ret_bytes = TAKE(bytes);
        return true;
}

/* The first row that is not before `cursor`; with `is_after`, behind it. */
static size_t row_find(const struct plugins *plugins, const struct cursor *cursor, bool is_after)
{
        size_t low = 0;
        for (size_t high = plugins->entry_count; low < high;) {
                size_t middle = low + (high - low) / 2;
                struct cursor row = cursor_of(&plugins->rows[middle]);
                if (cursor_compare(&row, cursor) < (is_after ? 1 : 0))
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

bool plugins_list(struct plugins *plugins, const struct plugin_page *page, char **ret_after, struct error *err)
{
        ON_LOOP();
        CLEANUP(cleanup_free) char *bytes = NULL;
        const char *namespace = page->namespace;
        struct cursor cursor = { namespace ? namespace : "", "", 0, "", 0 };
        if (page->after && !cursor_parse(page->after, &bytes, &cursor))
                return refuse(err, ERROR_BAD_REQUEST, "continue: give the \"continue\" of the page before, unchanged");
        if (page->after && namespace && strcmp(cursor.namespace, namespace) != 0)
                return refuse(err, ERROR_BAD_REQUEST, "continue: is of a listing of another namespace; begin again without it");

        rows_make(plugins);
        size_t i = row_find(plugins, &cursor, page->after != NULL), left = plugins->entry_count - i, last = i + (page->limit < left ? page->limit : left);
        for (; i < last && (!namespace || strcmp(plugins->rows[i].row.plugin->namespace, namespace) == 0); i++)
                page->each(page->arg, &plugins->rows[i].row);
        bool is_more = i == last && i < plugins->entry_count && (!namespace || strcmp(plugins->rows[i].row.plugin->namespace, namespace) == 0);
        *ret_after = is_more && i > 0 ? cursor_format(&plugins->rows[i - 1]) : NULL;
        return true;
}
