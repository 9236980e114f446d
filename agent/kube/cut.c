/*
 * How it goes: a scanner over bytes keeps depth, strings and escapes, and nothing else of JSON; the elements of a list's "items", or the "object" of each event, are copied out,
 *              what is round them is kept with 0 in their place. Chunks may end anywhere.
 * How it fails: what cannot be JSON of that shape is ERROR_UPSTREAM_ERROR at once; a piece over the limit is passed over and given cut off; over 16 times of it, all ends.
 * How it ends: cut_fini(); what is half there is the caller's to see by cut_is_between().
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { AROUND_BYTES_MAX = 64 << 10, KEY_BYTES_MAX = 64, DEPTH_MAX = 512, OVERSIZE_FACTOR = 16 };

void cut_init(struct cut *cut)
{
        cut->piece.limit = cut->piece_bytes_max;
        cut->around.limit = AROUND_BYTES_MAX;
        cut->key.limit = KEY_BYTES_MAX;
}

void cut_fini(struct cut *cut)
{
        buffer_fini(&cut->piece);
        buffer_fini(&cut->around);
        buffer_fini(&cut->key);
}

bool cut_is_between(const struct cut *cut)
{
        return cut->depth == 0 && !cut->is_text;
}

static bool piece_put(struct cut *cut, const char *bytes, size_t size_bytes, struct error *err)
{
        size_t room = cut->piece_bytes_max - cut->piece.used;
        cut->piece_bytes += size_bytes;
        if (cut->piece_bytes > cut->piece_bytes_max * OVERSIZE_FACTOR)
                return refuse(err, ERROR_TOO_LARGE, "one object is larger than %zu bytes", cut->piece_bytes_max * OVERSIZE_FACTOR);
        return buffer_append(&cut->piece, bytes, size_bytes < room ? size_bytes : room) || refuse(err, ERROR_INTERNAL, "no memory for an object of %zu bytes", cut->piece_bytes);
}

static bool around_put(struct cut *cut, char c, struct error *err)
{
        return buffer_append(&cut->around, &c, 1) || refuse(err, ERROR_TOO_LARGE, "more than %d bytes around the objects", AROUND_BYTES_MAX);
}

static bool piece_end(struct cut *cut, struct error *err)
{
        struct cut_piece piece = { cut->piece.data, cut->piece.used, cut->piece_bytes > cut->piece_bytes_max };
        bool good = cut->object(cut, &piece, err);
        cut->in_piece = false;
        cut->piece_bytes = 0;
        buffer_clear(&cut->piece);
        /* a list is closed up, so that its length costs nothing */
        return good && (cut->mode == CUT_LIST || around_put(cut, '0', err));
}

static bool envelope_end(struct cut *cut, struct error *err)
{
        bool good = cut->envelope(cut, cut->around.data, cut->around.used, err);
        buffer_clear(&cut->around);
        cut->is_ready = true;
        return good;
}

/* Does an object that opens here belong to the caller? */
static bool is_wanted(const struct cut *cut)
{
        if (cut->mode == CUT_EVENTS)
                return cut->depth == 1 && cut->is_value && strcmp(cut->key.data ? cut->key.data : "", "object") == 0;
        return cut->depth == 2 && cut->in_items;
}

static bool open_bracket(struct cut *cut, char c, struct error *err)
{
        if (cut->depth == 0 && (c != '{' || (cut->mode == CUT_LIST && cut->is_ready)))
                return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is no JSON object");
        if (!cut->in_piece && c == '{' && is_wanted(cut)) {
                cut->in_piece = true;
                cut->piece_depth = cut->depth;
        }
        if (!cut->in_piece && c == '[' && cut->mode == CUT_LIST && cut->depth == 1 && cut->is_value)
                cut->in_items = strcmp(cut->key.data ? cut->key.data : "", "items") == 0;
        if (++cut->depth > DEPTH_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is nested deeper than %d", DEPTH_MAX);
        cut->is_value = false;
        return cut->in_piece ? piece_put(cut, &c, 1, err) : around_put(cut, c, err);
}

/* The part of `text` that belongs to the piece; the long way through most bytes. */
static size_t piece_scan(struct cut *cut, const char *text, size_t size_bytes)
{
        for (size_t i = 0; i < size_bytes; i++) {
                char c = text[i];
                if (cut->is_escaped)
                        cut->is_escaped = false;
                else if (cut->is_text)
                        cut->is_escaped = c == '\\', cut->is_text = c != '"';
                else if (c == '"')
                        cut->is_text = true;
                else if (c == '{' || c == '[')
                        cut->depth++;
                else if ((c == '}' || c == ']') && --cut->depth == cut->piece_depth)
                        return i + 1;
        }
        return size_bytes;
}

static bool close_bracket(struct cut *cut, char c, struct error *err)
{
        if (cut->depth == 0)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is no JSON: a bracket is closed that was not opened");
        cut->depth--;
        if (cut->depth == 1)
                cut->in_items = false;
        if (!around_put(cut, c, err))
                return false;
        return cut->depth > 0 || envelope_end(cut, err);
}

static bool text_put(struct cut *cut, char c, struct error *err)
{
        if (cut->is_escaped)
                cut->is_escaped = false;
        else if (c == '\\')
                cut->is_escaped = true;
        else if (c == '"')
                cut->is_text = false;
        if (cut->is_key && cut->is_text)
                buffer_append(&cut->key, &c, 1);           /* one that is longer than the limit is none that we look for: its tail is lost, its beginning is too long already */
        return around_put(cut, c, err);
}

static bool byte_put(struct cut *cut, char c, struct error *err)
{
        bool is_blank = c == ' ' || c == '\n' || c == '\r' || c == '\t';
        if (cut->is_text)
                return text_put(cut, c, err);
        if (c == '{' || c == '[')
                return open_bracket(cut, c, err);
        if (c == '}' || c == ']')
                return close_bracket(cut, c, err);
        if (cut->depth == 0)
                return is_blank || refuse(err, ERROR_UPSTREAM_ERROR, "the answer is no JSON object");
        if (c == '"') {
                cut->is_text = true;
                cut->is_key = cut->depth == 1 && !cut->is_value;
                if (cut->is_key)
                        buffer_clear(&cut->key);
        } else if (cut->depth == 1 && (c == ':' || c == ',')) {
                cut->is_value = c == ':';
        }
        if (c == ',' && cut->in_items && cut->depth == 2)
                return true;
        return is_blank || around_put(cut, c, err);
}

bool cut_write(struct cut *cut, const void *bytes, size_t size_bytes, struct error *err)
{
        const char *text = bytes;
        for (size_t i = 0; i < size_bytes;) {
                if (!cut->in_piece) {
                        if (!byte_put(cut, text[i++], err))
                                return false;
                        continue;
                }
                size_t count = piece_scan(cut, text + i, size_bytes - i);
                bool is_end = cut->depth == cut->piece_depth;
                if (!piece_put(cut, text + i, count, err))
                        return false;
                i += count;
                if (is_end && text[i - 1] != '}')
                        return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is no JSON: an object ends with a bracket of another kind");
                if (is_end && !piece_end(cut, err))
                        return false;
        }
        return true;
}

/* ---- the names in a piece that cannot be parsed as a whole */
struct names_scan { struct cut_names names; const char *at, *end; };

/* The text from behind its opening quote; NULL when it does not end. Names have no escapes: one that does is none. */
static char *text_take(struct names_scan *scan)
{
        const char *start = scan->at;
        bool is_plain = true;
        for (; scan->at < scan->end && *scan->at != '"'; scan->at++)
                if (*scan->at == '\\') {
                        is_plain = false;
                        scan->at++;
                }
        if (scan->at >= scan->end)
                return NULL;
        scan->at++;
        return is_plain ? string_copy_bytes(start, (size_t)(scan->at - 1 - start)) : string_copy("");
}

static void name_keep(struct cut_names *names, const char *key, char *text)
{
        const struct { const char *key; char **to; } rows[] = {
                { "namespace", &names->namespace }, { "name", &names->name }, { "uid", &names->uid }, { "resourceVersion", &names->version },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (strcmp(rows[i].key, key) == 0 && !*rows[i].to)
                        *rows[i].to = TAKE(text);
        free(text);
}

void cut_names_find(const char *bytes, size_t size_bytes, struct cut_names *ret_names)
{
        struct names_scan scan = { .at = bytes, .end = bytes + size_bytes };
        CLEANUP(cleanup_free) char *key = NULL;
        size_t depth = 0;
        bool is_value = false, in_metadata = false;
        while (scan.at < scan.end) {
                char c = *scan.at++;
                if (c == '"') {
                        char *text = text_take(&scan);
                        if (!text)
                                break;
                        if (is_value && depth == 2 && in_metadata && key) {
                                name_keep(&scan.names, key, text);
                        } else if (!is_value && (depth == 1 || depth == 2)) {
                                free(key);
                                key = text;
                        } else {
                                free(text);
                        }
                } else if (c == '{' || c == '[') {
                        if (depth == 1)
                                in_metadata = c == '{' && is_value && string_equal(key, "metadata");
                        depth++;
                        is_value = c == '[';
                } else if (c == '}' || c == ']') {
                        depth -= depth > 0;
                        is_value = true;
                } else if (c == ':' || c == ',') {
                        is_value = c == ':' || depth == 0 || depth > 2;
                }
        }
        *ret_names = scan.names;
}

void cut_names_fini(struct cut_names *names)
{
        free(names->namespace);
        free(names->name);
        free(names->uid);
        free(names->version);
        *names = (struct cut_names){ 0 };
}
