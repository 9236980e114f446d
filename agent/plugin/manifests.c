/*
 * How it goes: inotify and a timer ask for a scan by a worker; what it found is decoded on the loop a few milliseconds at a time, then all of it is put in place in one turn:
 *              first what files give now, then what is gone, so that an object that moved from one file to another was never away.
 * How it fails: a file that does not parse keeps what it gave before, as a node keeps running what it runs when a manifest is spoilt; the listing of resources, the log and an
 *              event say what is wrong and where. So does a folder that goes away: only a file that is gone takes its objects with it.
 * How it ends: manifests_close() waits for the worker; what was put in place stays the keeper's.
 */
#include <stdio.h>
#include <sys/inotify.h>
#include <unistd.h>
#include "folder.h"

struct file { char *name; struct identity identity; struct claim *claims; size_t claim_count; bool is_seen; };
struct duplicate { char *file; enum plugin_kind kind; char *namespace, *name; };
struct duplicates { struct duplicate *items; size_t count; };

struct manifests {
        struct manifests_options options;
        char *folder, *source;
        int notify_fd;
        struct loop_watch *watch;
        struct loop_timer *timer, *step;
        struct job job;
        struct scan scan;
        struct file **files; size_t file_count;            /* sorted by name */
        struct map *secrets;                               /* "namespace/name" → the struct claim that counts */
        struct duplicates duplicates;
        struct batch *batches; size_t apply_at, document_at, item_at;
        unsigned unsettled;
        int wd;
        bool is_busy, is_wanted, is_debouncing, has_arrived, was_there, told_missing;
        void (*closed)(void *arg); void *closed_arg;
};

/* ---- scanning ---- */

static void scan_ran(struct job *job);

static void scan_worker(struct job *job)
{
        scan_run(&CONTAINER_OF(job, struct manifests, job)->scan);
}

static void scan_start(struct manifests *manifests)
{
        if (manifests->is_busy) {
                manifests->is_wanted = true;
                return;
        }
        struct known *known = memory_new(manifests->file_count + 1, sizeof *known);
        for (size_t i = 0; i < manifests->file_count; i++)
                known[i] = (struct known){ string_copy(manifests->files[i]->name), manifests->files[i]->identity };
        manifests->scan = (struct scan){ .folder = manifests->folder, .notify_fd = manifests->notify_fd, .wd = manifests->wd, .known = known, .known_count = manifests->file_count,
                .may_be_unsettled = manifests->unsettled < UNSETTLED_MAX };
        manifests->is_busy = true;
        manifests->is_wanted = manifests->is_debouncing = false;
        manifests->job = (struct job){ .run = scan_worker, .done = scan_ran };
        job_start(manifests->options.loop, &manifests->job);
}

static void timer_fired(void *arg)
{
        scan_start(arg);
}

static void notified(void *arg)
{
        struct manifests *manifests = arg;
        char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
        while (read(manifests->notify_fd, events, sizeof events) > 0)
                continue;
        manifests->is_wanted = manifests->is_busy;
        if (manifests->is_busy || manifests->is_debouncing || !manifests->timer)
                return;                           /* not put off again: events without end would put it off for ever */
        manifests->is_debouncing = true;
        loop_timer_again(manifests->timer, DEBOUNCE_MS);
}

static void scan_end(struct manifests *manifests)
{
        const struct scan *scan = &manifests->scan;
        int64_t next_ms = scan->is_more ? 0 : scan->is_unsettled || manifests->is_wanted ? DEBOUNCE_MS : scan->is_there ? RESCAN_MS : MISSING_MS;
        manifests->unsettled = scan->is_unsettled ? manifests->unsettled + 1 : 0;
        if (scan->is_there && !scan->is_more && !scan->is_unsettled && !manifests->has_arrived) {
                manifests->has_arrived = true;
                LOG_INFO("manifests_read", LOG_TEXT("folder", manifests->folder), LOG_NUMBER("files", manifests->file_count),
                        LOG_NUMBER("resources", plugins_get_count(keeper_get_plugins(manifests->options.keeper))));
                keeper_arrive(manifests->options.keeper, manifests->source);
        }
        scan_fini(&manifests->scan);
        manifests->is_busy = false;
        if (manifests->closed)
                manifests->closed(manifests->closed_arg);
        else
                loop_timer_again(manifests->timer, next_ms);
}

/* ---- Secrets and Pods: the first file wins ---- */

static void secret_put(struct manifests *manifests, struct claim *claim)
{
        struct docker_config *config = NULL;
        struct error err = claim->err;
        if (claim->config)
                docker_config_parse(secret_get_text(claim->config), secret_get_size(claim->config), claim->config_kind, &config, &err);
        modules_put_secret(manifests->options.modules, claim->namespace, claim->name, config, &err);
        keeper_note_secret(manifests->options.keeper, claim->namespace);
}

static void duplicate_add(struct manifests *manifests, struct duplicates *list, const struct file *file, const struct claim *claim, const struct file *winner)
{
        struct plugin *row = plugin_new_row(claim->kind, claim->namespace, claim->name);
        struct place at = place_top("metadata.name");
        problem_add(row, ERROR_BAD_REQUEST, &at, "%s %s/%s is already given by %s; remove it from one of them", plugin_kind_names[claim->kind], claim->namespace, claim->name,
                winner->name);
        plugin_seal_row(row);
        plugins_put(keeper_get_plugins(manifests->options.keeper), file->name, row);
        list->items = memory_resize(list->items, list->count + 1, sizeof *list->items);
        list->items[list->count++] = (struct duplicate){ string_copy(file->name), claim->kind, string_copy(claim->namespace), string_copy(claim->name) };
}

/* Rows of what is no duplicate any more go; those that a new version of their file has swept already are not found. */
static void duplicates_replace(struct manifests *manifests, struct duplicates *now)
{
        for (size_t i = 0; i < manifests->duplicates.count; i++) {
                struct duplicate *old = &manifests->duplicates.items[i];
                bool is_still = false;
                for (size_t k = 0; now && k < now->count && !is_still; k++)
                        is_still = now->items[k].kind == old->kind && strcmp(now->items[k].file, old->file) == 0 && strcmp(now->items[k].namespace, old->namespace) == 0 &&
                                strcmp(now->items[k].name, old->name) == 0;
                if (now && !is_still)
                        plugins_remove(keeper_get_plugins(manifests->options.keeper), old->file, old->kind, old->namespace, old->name);
                free(old->file);
                free(old->namespace);
                free(old->name);
        }
        free(manifests->duplicates.items);
        manifests->duplicates = now ? *now : (struct duplicates){ 0 };
}

static void claims_settle(struct manifests *manifests)
{
        CLEANUP(map_free) struct map *owners = map_new(NULL);
        struct map *secrets = map_new(NULL);
        struct duplicates duplicates = { 0 };
        for (size_t i = 0; i < manifests->file_count; i++)
                for (size_t k = 0; k < manifests->files[i]->claim_count; k++) {
                        struct file *file = manifests->files[i];
                        struct claim *claim = &file->claims[k];
                        CLEANUP(cleanup_free) char *key = string_format("%s %s/%s", plugin_kind_names[claim->kind], claim->namespace, claim->name);
                        const struct file *owner = map_get_text(owners, key);
                        if (owner) {
                                duplicate_add(manifests, &duplicates, file, claim, owner);
                                continue;
                        }
                        map_put_text(owners, key, file);
                        if (claim->kind != PLUGIN_SECRET)
                                continue;
                        const char *name = strchr(key, ' ') + 1;
                        if (map_get_text(manifests->secrets, name) != claim)
                                secret_put(manifests, claim);
                        map_put_text(secrets, name, claim);
                        map_remove_text(manifests->secrets, name);
                }
        size_t position = 0, key_bytes;
        const void *key;
        void *value;
        while (map_next(manifests->secrets, &position, &key, &key_bytes, &value)) {
                CLEANUP(cleanup_free) char *name = string_copy_bytes(key, key_bytes);
                char *slash = strchr(name, '/');
                *slash = '\0';
                modules_remove_secret(manifests->options.modules, name, slash + 1);
                keeper_note_secret(manifests->options.keeper, name);
        }
        map_free(&manifests->secrets);
        manifests->secrets = secrets;
        duplicates_replace(manifests, &duplicates);
}

/* ---- putting in place ---- */

static struct file *file_find(const struct manifests *manifests, const char *name)
{
        for (size_t low = 0, high = manifests->file_count; low < high;) {
                size_t middle = low + (high - low) / 2;
                int order = strcmp(manifests->files[middle]->name, name);
                if (order == 0)
                        return manifests->files[middle];
                if (order < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

static void file_free(struct file *file)
{
        claims_free(file->claims, file->claim_count);
        free(file->name);
        free(file);
}

static void broken_tell(struct manifests *manifests, const struct found *found)
{
        struct batch batch = { 0 };
        const char *detail = found->err.text;
        unsigned line = 0;
        int length = 0;
        if (sscanf(detail, "line %u: %n", &line, &length) == 1 && length > 0)
                detail += length;
        file_problem(&batch, found->name, line, detail);
        plugin_seal_row(batch.file);
        plugins_put(keeper_get_plugins(manifests->options.keeper), found->name, TAKE(batch.file));
}

static void batch_put(struct manifests *manifests, struct file *file, struct batch *batch)
{
        if (batch->file) {
                plugin_seal_row(batch->file);
                batch->plugins = memory_resize(batch->plugins, batch->plugin_count + 1, sizeof(struct plugin *));
                batch->plugins[batch->plugin_count++] = TAKE(batch->file);
        }
        plugins_replace(keeper_get_plugins(manifests->options.keeper), file->name, batch->plugins, batch->plugin_count);
        keeper_put_pods(manifests->options.keeper, file->name, batch->pods, batch->pod_count);
        batch->plugin_count = batch->pod_count = 0;
        /* The old claims stay until the new ones are settled: a secret that is the same object again was not away. */
        struct claim *claims = batch->claims;
        size_t count = batch->claim_count;
        batch->claims = file->claims;
        batch->claim_count = file->claim_count;
        file->claims = claims;
        file->claim_count = count;
}

static void files_forget(struct manifests *manifests, struct file **old, size_t old_count)
{
        for (size_t i = 0; i < old_count; i++)
                if (!file_find(manifests, old[i]->name)) {
                        plugins_replace(keeper_get_plugins(manifests->options.keeper), old[i]->name, NULL, 0);
                        keeper_put_pods(manifests->options.keeper, old[i]->name, NULL, 0);
                }
}

static void left_out_tell(struct manifests *manifests)
{
        struct plugins *plugins = keeper_get_plugins(manifests->options.keeper);
        if (manifests->scan.left_out == 0) {
                plugins_remove(plugins, manifests->source, PLUGIN_FILE, "", manifests->folder);
                return;
        }
        struct plugin *row = plugin_new_row(PLUGIN_FILE, "", manifests->folder);
        struct place at = place_top("files");
        problem_add(row, ERROR_TOO_LARGE, &at, "%zu files beyond the first %d (in the order of their names) are not read", manifests->scan.left_out, FILES_MAX);
        plugin_seal_row(row);
        plugins_put(plugins, manifests->source, row);
}

static void commit(struct manifests *manifests)
{
        struct scan *scan = &manifests->scan;
        struct file **old = manifests->files, **files = memory_new(scan->found_count + 1, sizeof *files);
        size_t old_count = manifests->file_count;
        bool is_changed = old_count != scan->found_count;
        for (size_t i = 0; i < scan->found_count; i++) {
                struct found *found = &scan->found[i];
                files[i] = file_find(manifests, found->name);
                is_changed |= !files[i] || !found->is_unchanged;
                if (!files[i]) {
                        files[i] = memory_new(1, sizeof **files);
                        files[i]->name = string_copy(found->name);
                }
                files[i]->identity = found->identity;
                files[i]->is_seen = true;
                if (!found->is_unchanged && found->documents)
                        batch_put(manifests, files[i], &manifests->batches[i]);
                else if (!found->is_unchanged)
                        broken_tell(manifests, found);
        }
        manifests->files = files;
        manifests->file_count = scan->found_count;
        files_forget(manifests, old, old_count);
        if (is_changed)
                claims_settle(manifests);
        left_out_tell(manifests);
        for (size_t i = 0; i < old_count; i++) {
                if (!old[i]->is_seen)
                        file_free(old[i]);
        }
        for (size_t i = 0; i < manifests->file_count; i++)
                files[i]->is_seen = false;
        free(old);
}

static void batches_free(struct manifests *manifests)
{
        for (size_t i = 0; manifests->batches && i < manifests->scan.found_count; i++)
                batch_fini(&manifests->batches[i]);
        free(TAKE(manifests->batches));
}

/* ---- decoding, in slices ---- */

static const struct value *list_of(const struct value *document)
{
        const struct value *items = value_get_member(document, "items");
        const char *kind = value_get_text(value_get_member(document, "kind")), *version = value_get_text(value_get_member(document, "apiVersion"));
        return string_equal(kind, "List") && string_equal(version, "v1") && value_get_kind(items) == VALUE_LIST ? items : NULL;
}

static void list_check(struct batch *batch, const char *file, const struct value *list)
{
        static const char *const members[] = { "apiVersion", "kind", "metadata", "items", NULL };
        struct error err;
        if (!value_only_members(list, members, ERROR_BAD_REQUEST, &err))
                file_problem(batch, file, value_get_line(list), err.text);
}

/* One object; false when the file has no more. */
static bool object_next(struct manifests *manifests)
{
        const struct found *found = &manifests->scan.found[manifests->apply_at];
        const struct value *document = value_get_item(found->documents, manifests->document_at), *items = list_of(document);
        struct batch *batch = &manifests->batches[manifests->apply_at];
        if (found->is_unchanged || !document)
                return false;
        if (!items)
                object_read(batch, found->name, document);
        else if (manifests->item_at == 0)
                list_check(batch, found->name, document);
        if (items && manifests->item_at < value_get_count(items)) {
                object_read(batch, found->name, value_get_item(items, manifests->item_at++));
                return true;
        }
        manifests->document_at++;
        manifests->item_at = 0;
        return true;
}

static void apply_step(void *arg)
{
        struct manifests *manifests = arg;
        int64_t until_us = clock_get_us() + APPLY_SLICE_US;
        if (!manifests->is_busy || !manifests->batches)
                return;
        while (!manifests->closed && manifests->apply_at < manifests->scan.found_count) {
                if (object_next(manifests)) {
                        if (clock_get_us() < until_us)
                                continue;
                        loop_timer_again(manifests->step, 0);
                        return;
                }
                manifests->apply_at++;
                manifests->document_at = manifests->item_at = 0;
        }
        if (!manifests->closed)
                commit(manifests);
        batches_free(manifests);
        scan_end(manifests);
}

/* ---- the folder is not there ---- */

static void missing_tell(struct manifests *manifests)
{
        struct plugin *row = plugin_new_row(PLUGIN_FILE, "", manifests->folder);
        struct place at = place_top("folder");
        problem_add(row, ERROR_NOT_FOUND, &at, "%s; %s", manifests->scan.err.text,
                manifests->was_there ? "what it gave before stays in force" : "it is looked for until it is there");
        plugin_seal_row(row);
        if (!manifests->told_missing)
                LOG_WARN("manifests_missing", LOG_TEXT("folder", manifests->folder), LOG_TEXT("detail", manifests->scan.err.text));
        manifests->told_missing = true;
        plugins_put(keeper_get_plugins(manifests->options.keeper), manifests->source, row);
}

static void scan_ran(struct job *job)
{
        struct manifests *manifests = CONTAINER_OF(job, struct manifests, job);
        manifests->wd = manifests->scan.wd;
        if (manifests->closed || !manifests->scan.is_there) {
                if (!manifests->closed)
                        missing_tell(manifests);
                scan_end(manifests);
                return;
        }
        manifests->was_there = true;
        manifests->told_missing = false;
        manifests->batches = memory_new(manifests->scan.found_count + 1, sizeof *manifests->batches);
        manifests->apply_at = manifests->document_at = manifests->item_at = 0;
        apply_step(manifests);
}

/* ---- life ---- */

struct manifests *manifests_new(const struct manifests_options *options)
{
        ON_LOOP();
        struct manifests *manifests = memory_new(1, sizeof *manifests);
        manifests->options = *options;
        manifests->folder = string_copy(options->folder);
        manifests->source = string_format("manifests %s", options->folder);
        manifests->secrets = map_new(NULL);
        manifests->wd = -1;
        manifests->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (manifests->notify_fd >= 0)
                manifests->watch = loop_watch_start(options->loop, manifests->notify_fd, notified, manifests);
        else
                LOG_WARN("manifests_unwatched", LOG_TEXT("folder", manifests->folder), LOG_TEXT("detail", "no inotify instance is left; the folder is looked at every 10 s"));
        manifests->timer = loop_timer_start(options->loop, RESCAN_MS, 0, timer_fired, manifests);
        manifests->step = loop_timer_start(options->loop, RESCAN_MS, 0, apply_step, manifests);
        keeper_expect(options->keeper, manifests->source);
        scan_start(manifests);
        return manifests;
}

void manifests_close(struct manifests *manifests, void (*closed)(void *arg), void *arg)
{
        ON_LOOP();
        bool is_applying = manifests->batches != NULL;
        manifests->closed = closed;
        manifests->closed_arg = arg;
        loop_watch_cancel(&manifests->watch);
        loop_timer_cancel(&manifests->timer);
        if (is_applying)
                apply_step(manifests);
        else if (!manifests->is_busy)
                loop_post(manifests->options.loop, closed, arg);
}

void manifests_free(struct manifests **manifests_pointer)
{
        struct manifests *manifests = TAKE(*manifests_pointer);
        if (!manifests)
                return;
        loop_watch_cancel(&manifests->watch);
        loop_timer_cancel(&manifests->timer);
        loop_timer_cancel(&manifests->step);
        if (manifests->notify_fd >= 0)
                close(manifests->notify_fd);
        for (size_t i = 0; i < manifests->file_count; i++)
                file_free(manifests->files[i]);
        duplicates_replace(manifests, NULL);
        map_free(&manifests->secrets);
        free(manifests->files);
        free(manifests->folder);
        free(manifests->source);
        free(manifests);
}
