/*
 * How it goes: one entry and all that hangs on it as JSON, for people who want to know why.
 * How it fails: ERROR_NOT_FOUND.
 * How it ends: written into the caller's writer; MACs and credentials are not in it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "modules.h"

static void put_time(struct json_writer *writer, const char *key, int64_t wall_s)
{
        char text[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(wall_s, text);
        json_put_text(writer, key, wall_s > 0 ? text : NULL);
}

static void put_digest(struct json_writer *writer, const char *key, const struct digest *digest)
{
        char text[DIGEST_TEXT_BYTES];
        digest_format(digest, text);
        json_put_text(writer, key, digest_is_set(digest) ? text : NULL);
}

static void put_grants(struct json_writer *writer, const struct grant *grant)
{
        json_open_list(writer, "grants");
        for (; grant; grant = grant->next) {
                json_open_map(writer, NULL);
                json_put_text(writer, "repository", grant->repository);
                json_put_text(writer, "kind", grant_kind_names[grant->kind]);
                if (grant->kind == GRANT_SECRET) {
                        json_put_text(writer, "namespace", grant->namespace);
                        CLEANUP(cleanup_free) char *name = string_copy_bytes(grant->secret, coordinate_name_length(grant->secret));
                        json_put_text(writer, "secret", name);
                        if (strlen(name) < strlen(grant->secret))
                                json_put_text(writer, "secretUid", grant->secret + strlen(name) + 1);
                }
                put_time(writer, "granted", grant->granted_s);
                put_time(writer, "lastOk", grant->last_ok_s);
                json_close_map(writer);
        }
        json_close_list(writer);
}

static void put_images(struct json_writer *writer, const struct entry *entry)
{
        json_open_list(writer, "images");
        for (const struct image *image = entry->images; image; image = image->next) {
                json_open_map(writer, NULL);
                put_digest(writer, "manifest", &image->manifest);
                put_digest(writer, "top", image->top);
                put_digest(writer, "layer", image->layer);
                json_put_text(writer, "mediaType", image->media_type);
                json_put_text(writer, "layerType", image->layer_type);
                put_grants(writer, image->grants);
                json_close_map(writer);
        }
        json_close_list(writer);
}

static void put_references(struct json_writer *writer, const struct entry *entry)
{
        json_open_list(writer, "references");
        for (const struct known_reference *reference = entry->references; reference; reference = reference->next) {
                json_open_map(writer, NULL);
                json_put_text(writer, "url", reference->name);
                if (reference->image)
                        put_digest(writer, "digest", &reference->image->manifest);
                put_time(writer, "checked", reference->checked_s);
                json_close_map(writer);
        }
        json_close_list(writer);
}

static void put_signature(void *arg, const struct verdict *verdict)
{
        struct json_writer *writer = arg;
        json_open_map(writer, NULL);
        json_put_text(writer, "format", verdict->format);
        json_put_text(writer, "keyFingerprint", verdict->fingerprint_hex);
        json_put_text(writer, "algorithm", verdict->algorithm);
        json_put_text(writer, "where", verdict->where);
        put_digest(writer, "target", &verdict->target);
        json_put_raw(writer, "annotations", verdict->annotations ? verdict->annotations : "{}");
        put_time(writer, "judged", verdict->proved_s);
        put_time(writer, "logged", verdict->logged_s);
        json_close_map(writer);
}

/* Which signatures admitted it in the life of this process; kept as evidence, judged again after a restart when somebody asks. */
static void put_signatures(const struct modules *modules, struct json_writer *writer, const struct entry *entry)
{
        json_open_list(writer, "signatures");
        for (const struct image *image = entry->images; image; image = image->next) {
                verdicts_visit(modules->verdicts, &image->manifest, &entry->sha256, put_signature, writer);
                if (!digest_equal(image->top, &image->manifest))
                        verdicts_visit(modules->verdicts, image->top, &entry->sha256, put_signature, writer);
        }
        verdicts_visit(modules->verdicts, &entry->sha256, &entry->sha256, put_signature, writer);
        json_close_list(writer);
}

static void put_leases(struct json_writer *writer, const struct entry *entry)
{
        json_open_list(writer, "leases");
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next)
                for (const struct lease *lease = handout->leases; lease; lease = lease->next) {
                        char holder[20];
                        snprintf(holder, sizeof holder, "%016" PRIx64, lease->holder);
                        json_open_map(writer, NULL);
                        json_put_text(writer, "id", lease->id);
                        json_put_text(writer, "namespace", handout->namespace);
                        json_put_text(writer, "holder", holder);
                        put_time(writer, "expires", lease->expires_s);
                        json_close_map(writer);
                }
        json_close_list(writer);
}

/* ---- the manifest of an image, which is not kept in memory */

struct manifest_job { struct task task; struct digest manifest; struct buffer text; bool is_done; struct error err; module_done done; void *arg; };

static void manifest_run(struct job *job)
{
        ON_WORKER();
        struct manifest_job *load = CONTAINER_OF(job, struct manifest_job, task.job);
        load->is_done = store_load_document(load->task.modules->store, &load->manifest, &load->text, &load->err) &&
                        (load->text.used > 0 || refuse(&load->err, ERROR_NOT_FOUND, "the image was imported without its manifest"));
}

static void manifest_done(struct job *job)
{
        struct manifest_job *load = CONTAINER_OF(job, struct manifest_job, task.job);
        struct modules *modules = load->task.modules;
        CLEANUP(buffer_fini) struct buffer json = { 0 };
        struct json_writer writer = { .out = &json };
        if (load->is_done) {
                json_open_map(&writer, NULL);
                put_digest(&writer, "digest", &load->manifest);
                json_put_text(&writer, "manifest", load->text.data);
                json_close_map(&writer);
        }
        load->done(load->arg, load->is_done ? json.data : NULL, load->is_done ? NULL : &load->err);
        buffer_fini(&load->text);
        free(load);
        task_end(modules);
}

void module_manifest(struct modules *modules, const struct digest *manifest, module_done done, void *arg)
{
        ON_LOOP();
        struct error err;
        if (modules->is_closing) {
                refuse(&err, ERROR_BUSY, "the daemon is stopping");
                done(arg, NULL, &err);
                return;
        }
        struct manifest_job *load = memory_new(1, sizeof *load);
        *load = (struct manifest_job){ .manifest = *manifest, .text.limit = MANIFEST_BYTES_MAX, .done = done, .arg = arg };
        task_start(modules, &load->task, manifest_run, manifest_done);
}

bool module_inspect(struct modules *modules, const struct digest *sha256, struct json_writer *writer, struct error *err)
{
        ON_LOOP();
        const struct entry *entry = catalog_find_entry(&modules->catalog, sha256);
        if (!entry)
                return refuse(err, ERROR_NOT_FOUND, "there is no such module");

        char hex[DIGEST_TEXT_BYTES], path[PATH_BYTES];
        digest_format_hex(&entry->sha256, hex);
        store_format_path(modules->store, &entry->sha256, path, sizeof path);
        json_open_map(writer, NULL);
        json_put_text(writer, "sha256", hex);
        json_put_int(writer, "size", (int64_t)entry->identity.size_bytes);
        json_put_text(writer, "blob", path);
        json_put_bool(writer, "pinned", entry->is_pinned);
        put_time(writer, "created", entry->created_s);
        put_time(writer, "lastUsed", entry->last_used_s);
        json_put_text(writer, "keptBecause", catalog_get_obstacle(entry));
        put_references(writer, entry);
        put_images(writer, entry);
        put_signatures(modules, writer, entry);
        put_grants(writer, entry->grants);
        put_leases(writer, entry);
        json_close_map(writer);
        return true;
}
