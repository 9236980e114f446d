/*
 * How it goes: a list is written whole beside the file and renamed; what changes afterwards is appended, one line each, and once the changes are more than the list the file is
 *              written anew from itself. Of an object only what a plugin is read from is kept, of a Pod what tells who it is.
 * How it fails: a last line without its end was cut by a crash and does not count; anything else that cannot be read makes the whole file count for nothing, since a plugin that
 *               is missing may be the one that keeps others out. What cannot be written any more is not left behind half true: the file goes.
 * How it ends: the file stays, for the next start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "remember.h"

enum { REWRITE_MORE_BYTES = 1 << 20 };

void remember_init(struct remember *remember, const char *path, const char *head)
{
        *remember = (struct remember){ .path = path, .head = head, .fd = -1, .is_off = true };
}

void remember_fini(struct remember *remember)
{
        buffer_fini(&remember->next);
        cleanup_close(&remember->fd);
        remember->fd = -1;
}

/* ---- lines */

static void members_put(struct json_writer *json, const struct value *map, const char *const *names, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (value_get_member(map, names[i]))
                        json_put_value(json, names[i], value_get_member(map, names[i]));
}

/* What tells whose process it is, and what selects it; of the rest nothing, since a Pod may hold secrets in its environment. */
static void pod_put(struct json_writer *json, const struct value *object)
{
        static const char *const names[] = { "labels", "ownerReferences" }, *const hashes[] = { "kubernetes.io/config.hash", "kubernetes.io/config.mirror" },
                *const specs[] = { "nodeName", "serviceAccountName" }, *const phase[] = { "phase" }, *const id[] = { "containerID" },
                *const lists[] = { "initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses" };
        const struct value *metadata = value_get_member(object, "metadata"), *status = value_get_member(object, "status");
        members_put(json, metadata, names, COUNT_OF(names));
        json_open_map(json, "annotations");
        members_put(json, value_get_member(metadata, "annotations"), hashes, COUNT_OF(hashes));
        json_close_map(json);
        json_close_map(json);
        json_open_map(json, "spec");
        members_put(json, value_get_member(object, "spec"), specs, COUNT_OF(specs));
        json_close_map(json);
        json_open_map(json, "status");
        members_put(json, status, phase, COUNT_OF(phase));
        for (size_t i = 0; i < COUNT_OF(lists); i++) {
                const struct value *list = value_get_member(status, lists[i]);
                json_open_list(json, lists[i]);
                for (size_t k = 0; k < value_get_count(list); k++) {
                        json_open_map(json, NULL);
                        members_put(json, value_get_item(list, k), id, COUNT_OF(id));
                        json_close_map(json);
                }
                json_close_list(json);
        }
        json_close_map(json);
}

/* {"put": …} or {"remove": …}; an object without its status, and of its metadata what names it. */
static void put_format(const struct remember *remember, const struct value *object, struct buffer *line)
{
        static const char *const tops[] = { "apiVersion", "kind" }, *const names[] = { "namespace", "name", "uid", "resourceVersion" }, *const spec[] = { "spec" };
        struct json_writer json = { .out = line };
        json_open_map(&json, NULL);
        json_open_map(&json, "put");
        members_put(&json, object, tops, COUNT_OF(tops));
        json_open_map(&json, "metadata");
        members_put(&json, value_get_member(object, "metadata"), names, COUNT_OF(names));
        if (remember->is_of_pods)
                pod_put(&json, object);
        else {
                json_close_map(&json);
                members_put(&json, object, spec, COUNT_OF(spec));
        }
        json_close_map(&json);
        json_close_map(&json);
        buffer_append_text(line, "\n");
}

static void give_up(struct remember *remember, const char *why)
{
        LOG_WARN("kubernetes_not_remembered", LOG_TEXT("file", remember->path), LOG_TEXT("detail", why));
        unlink(remember->path);
        cleanup_close(&remember->fd);
        remember->fd = -1;
        remember->is_off = true;
        buffer_fini(&remember->next);
}

static void line_append(struct remember *remember, const struct buffer *line)
{
        if (remember->is_off || (remember->fd < 0 && !remember->is_listing))
                return;
        uint64_t used = remember->is_listing ? remember->next.used : remember->used_bytes;
        if (used + line->used > REMEMBER_BYTES_MAX)
                give_up(remember, "it would be larger than 64 MiB; after a restart nothing is known before the first list");
        else if (remember->is_listing)
                buffer_append(&remember->next, line->data, line->used);
        else if (!fs_write_all(remember->fd, line->data, line->used))
                give_up(remember, strerror(errno));
        else
                remember->used_bytes += line->used;
}

/* ---- reading */

static void object_release(void *object)
{
        struct value *value = object;
        value_free(&value);
}

static char *key_of(const struct value *metadata)
{
        const char *namespace = value_get_text(value_get_member(metadata, "namespace")), *name = value_get_text(value_get_member(metadata, "name"));
        return name ? string_format("%s/%s", namespace ? namespace : "", name) : NULL;
}

static bool line_take(struct map *objects, const char *line, size_t length, struct error *err)
{
        CLEANUP(value_free) struct value *value = NULL;
        if (!json_parse(line, length, ERROR_INTERNAL, &value, err))
                return false;
        const struct value *put = value_get_member(value, "put"), *removed = value_get_member(value, "remove");
        CLEANUP(cleanup_free) char *key = key_of(put ? value_get_member(put, "metadata") : removed);
        if (!key)
                return refuse(err, ERROR_INTERNAL, "a line is neither an object nor the name of one that is gone");
        if (put)
                map_put_text(objects, key, TAKE(value));
        else
                map_remove_text(objects, key);
        return true;
}

static bool file_read(const struct remember *remember, struct map *objects, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        if (!fs_load(AT_FDCWD, remember->path, REMEMBER_BYTES_MAX + (1 << 20), &text, err))
                return false;
        size_t head_length = strlen(remember->head), line_number = 1;
        if (text.used <= head_length || memcmp(text.data, remember->head, head_length) != 0 || text.data[head_length] != '\n')
                return refuse(err, ERROR_NOT_FOUND, "%s: it was written for another API server or by another version", remember->path);
        const char *at = text.data + head_length + 1, *end = text.data + text.used;
        for (const char *stop; at < end && (stop = memchr(at, '\n', (size_t)(end - at))); at = stop + 1) {
                line_number++;
                if (!line_take(objects, at, (size_t)(stop - at), err))
                        return refuse_within(err, "%s:%zu", remember->path, line_number);
        }
        return true;
}

bool remember_load(const struct remember *remember, remembered each, void *arg, struct error *err)
{
        CLEANUP(map_free) struct map *objects = map_new(object_release);
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        if (!file_read(remember, objects, err))
                return false;
        while (map_next(objects, &position, &key, &key_bytes, &value)) {
                struct value *object = map_take(objects, key, key_bytes);
                each(arg, &object);
                value_free(&object);
        }
        return true;
}

/* ---- writing */

void remember_begin(struct remember *remember)
{
        buffer_clear(&remember->next);
        buffer_printf(&remember->next, "%s\n", remember->head);
        remember->is_listing = true;
        remember->is_off = false;
}

void remember_abandon(struct remember *remember)
{
        buffer_fini(&remember->next);
        remember->is_listing = false;
        remember->is_off = remember->fd < 0;
}

void remember_commit(struct remember *remember)
{
        struct error err = { 0 };
        remember->is_listing = false;
        if (remember->is_off)
                return;
        cleanup_close(&remember->fd);
        remember->fd = -1;
        if (!fs_save(AT_FDCWD, remember->path, remember->next.data, remember->next.used, 0600, &err)) {
                give_up(remember, err.text);
                return;
        }
        remember->used_bytes = remember->listed_bytes = remember->next.used;
        buffer_fini(&remember->next);
        remember->fd = open(remember->path, O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC);
        if (remember->fd < 0)
                give_up(remember, strerror(errno));
}

static void put_again(void *arg, struct value **object)
{
        remember_put(arg, value_get_member(*object, "put"));
}

/* From itself, without what came and went. */
static void rewrite(struct remember *remember)
{
        struct error err = { 0 };
        if (remember->is_off || remember->is_listing || remember->used_bytes < 2 * remember->listed_bytes + REWRITE_MORE_BYTES)
                return;
        remember_begin(remember);
        if (remember_load(remember, put_again, remember, &err))
                remember_commit(remember);
        else
                give_up(remember, err.text);
}

void remember_put(struct remember *remember, const struct value *object)
{
        CLEANUP(buffer_fini) struct buffer line = { 0 };
        put_format(remember, object, &line);
        line_append(remember, &line);
        rewrite(remember);
}

void remember_remove(struct remember *remember, const char *namespace, const char *name)
{
        CLEANUP(buffer_fini) struct buffer line = { 0 };
        struct json_writer json = { .out = &line };
        json_open_map(&json, NULL);
        json_open_map(&json, "remove");
        json_put_text(&json, "namespace", namespace);
        json_put_text(&json, "name", name);
        json_close_map(&json);
        json_close_map(&json);
        buffer_append_text(&line, "\n");
        line_append(remember, &line);
        rewrite(remember);
}
