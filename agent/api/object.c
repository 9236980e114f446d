/*
 * How it goes: the module object of contract 2 as JSON. For a hit the text is remembered beside the decoded want; what differs is written anew, mostly the lease.
 * How it fails: it does not.
 * How it ends: text in the caller's buffer, in the scratch buffer or, remembered, in the memo's entry.
 */
#include <stdlib.h>
#include <string.h>
#include "front.h"

static void put_time(struct json_writer *writer, const char *key, int64_t wall_s)
{
        char text[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(wall_s, text);
        json_put_text(writer, key, text);
}

static void put_texts(struct json_writer *writer, const char *key, const char *const *texts)
{
        json_open_list(writer, key);
        for (; texts && *texts; texts++)
                json_put_text(writer, NULL, *texts);
        json_close_list(writer);
}

static void put_details(struct json_writer *writer, const struct module_object *object)
{
        json_put_bool(writer, "pinned", object->is_pinned);
        json_put_int(writer, "leases", object->leases);
        put_time(writer, "created", object->created_s);
        put_time(writer, "lastUsed", object->last_used_s);
        put_texts(writer, "urls", object->urls);
        put_texts(writer, "namespaces", object->namespaces);
}

void api_object_put(struct json_writer *writer, const struct module_object *object, bool details)
{
        json_put_text(writer, "path", object->path);
        json_put_text(writer, "sha256", object->sha256);
        json_put_int(writer, "size", (int64_t)object->size_bytes);
        json_put_text(writer, "url", object->url);
        if (object->digest)
                json_put_text(writer, "digest", object->digest);
        if (object->verified_format) {
                json_open_map(writer, "verified");
                json_put_text(writer, "format", object->verified_format);
                json_put_text(writer, "keyFingerprint", object->verified_key);
                json_close_map(writer);
        } else
                json_put_null(writer, "verified");
        json_put_text(writer, "source", module_source_name(object->source));
        if (object->is_stale)
                json_put_bool(writer, "stale", true);
        if (details)
                put_details(writer, object);
}

void api_object_put_lease(struct json_writer *writer, const struct module_object *object)
{
        if (!object->lease_id) {
                json_put_null(writer, "lease");
                return;
        }
        json_open_map(writer, "lease");
        json_put_text(writer, "id", object->lease_id);
        put_time(writer, "expires", object->lease_expires_s);
        json_close_map(writer);
}

static bool entry_fits(const struct api_memo_entry *entry, const struct module_object *object)
{
        return entry->rendered.used > 0 && entry->size_bytes == object->size_bytes && entry->source == object->source && string_equal(entry->sha256, object->sha256) &&
                string_equal(entry->path, object->path) && string_equal(entry->url, object->url) && string_equal(entry->digest, object->digest) &&
                string_equal(entry->verified_format, object->verified_format) && string_equal(entry->verified_key, object->verified_key);
}

static void text_keep(char **kept, const char *text)
{
        free(*kept);
        *kept = string_copy(text);
}

static void entry_render(struct api_memo_entry *entry, const struct module_object *object)
{
        text_keep(&entry->path, object->path);
        text_keep(&entry->sha256, object->sha256);
        text_keep(&entry->url, object->url);
        text_keep(&entry->digest, object->digest);
        text_keep(&entry->verified_format, object->verified_format);
        text_keep(&entry->verified_key, object->verified_key);
        entry->size_bytes = object->size_bytes;
        entry->source = object->source;

        buffer_clear(&entry->rendered);
        struct json_writer writer = { .out = &entry->rendered };
        json_open_map(&writer, NULL);
        api_object_put(&writer, object, false);
        entry->body_bytes = entry->rendered.used;
        entry->lease_id[0] = '\0';
}

/* Leases given out within one second end in one second: the text is made once. */
static const char *expires_text(struct api *api, int64_t expires_s)
{
        if (api->expires_s != expires_s || !*api->expires_text) {
                clock_format_rfc3339(expires_s, api->expires_text);
                api->expires_s = expires_s;
        }
        return api->expires_text;
}

/* A lease's id is made by module of hex digits: nothing to escape. */
static void entry_render_lease(struct api *api, struct api_memo_entry *entry, const struct module_object *object)
{
        struct buffer *out = &entry->rendered;
        out->used = entry->body_bytes;
        buffer_append_text(out, ",\"lease\":{\"id\":\"");
        buffer_append_text(out, object->lease_id);
        buffer_append_text(out, "\",\"expires\":\"");
        buffer_append_text(out, expires_text(api, object->lease_expires_s));
        buffer_append_text(out, "\"}}");
        memcpy(entry->lease_id, object->lease_id, strnlen(object->lease_id, sizeof entry->lease_id - 1) + 1);
        entry->lease_id[sizeof entry->lease_id - 1] = '\0';
        entry->lease_expires_s = object->lease_expires_s;
}

const struct buffer *api_object_print(struct api *api, const struct module_object *object, struct api_memo_entry *entry)
{
        if (!entry || object->is_stale || !object->lease_id) {
                struct buffer *out = api_scratch(api);
                struct json_writer writer = { .out = out };
                json_open_map(&writer, NULL);
                api_object_put(&writer, object, false);
                api_object_put_lease(&writer, object);
                json_close_map(&writer);
                return out;
        }
        if (!entry_fits(entry, object))
                entry_render(entry, object);
        if (entry->lease_expires_s != object->lease_expires_s || strcmp(entry->lease_id, object->lease_id) != 0)
                entry_render_lease(api, entry, object);
        return &entry->rendered;
}
