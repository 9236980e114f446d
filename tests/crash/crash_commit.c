/*
 * What is killed: one life of a store, crash_commit ROOT; or, crash_commit ROOT settle, the look at its blobs in a start after crash_commit ROOT leave, which ends like a crash and
 * leaves files that look other than they did.
 * How it goes: a fixed sequence; each thing that it was promised is one line on stdout, written at once; crash_check reads them.
 * How it fails: a step that fails (injected ENOSPC, EIO) says nothing, and the sequence goes on.
 * How it ends: killed somewhere, or with exit 0 at the end of the sequence.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/store.h>
#include <wasmcached/store/handout.h>
#include "crash_script.h"

static void say(const char *word, const char *name)
{
        char line[64];
        int length = snprintf(line, sizeof line, "%s %s\n", word, name);
        if (write(STDOUT_FILENO, line, (size_t)length) != length)
                _exit(3);
}

static void lease_fill(const struct script_module *module, const struct digest *sha256, struct store_lease *ret_lease)
{
        *ret_lease = (struct store_lease){ .module = *sha256, .expires_s = clock_get_wall_s() + 1000, .holder = "crash" };
        snprintf(ret_lease->id, sizeof ret_lease->id, "lease-%s", module->name);
        snprintf(ret_lease->namespace, sizeof ret_lease->namespace, "%s", module->namespace);
}

/* ret_is_linked not NULL: handed out in the same step. */
static bool commit(struct store *store, const struct script_module *module, struct store_module *ret_row, bool *ret_is_linked)
{
        struct error err = { 0 };
        CLEANUP(blob_writer_free) struct blob_writer *writer = NULL;
        const struct blob_writer_options options = { .size_limit = 1 << 24, .size_hint = module->size, .algorithm = DIGEST_SHA256, .what = module->name };
        if (!blob_writer_open(store, &options, &writer, &err))
                return false;

        char chunk[4096];
        for (size_t at = 0; at < module->size; at += sizeof chunk) {
                size_t part = module->size - at < sizeof chunk ? module->size - at : sizeof chunk;
                script_fill(module, at, chunk, part);
                if (!blob_writer_get_sink(writer)->write(blob_writer_get_sink(writer), chunk, part, &err))
                        return false;
        }

        struct digest manifest, sha256;
        script_manifest(module, &manifest);
        if (!blob_writer_finish(writer, NULL, &sha256, NULL, &err))
                return false;
        const struct store_image image = { manifest, manifest, sha256, manifest, "application/vnd.oci.image.manifest.v1+json", "application/wasm", "{}", manifest };
        const struct store_reference reference = { module->name, manifest, manifest, sha256, "", 1 };
        const struct store_grant grant = { manifest, "host/repository", "secret", module->namespace, "pull", manifest, 1, 1 };
        struct store_lease lease;
        lease_fill(module, &sha256, &lease);
        return store_commit(store, &(struct store_commit){ writer, &image, &reference, &grant, NULL, ret_is_linked ? &lease : NULL, ret_is_linked }, ret_row, &err);
}

static bool lease(struct store *store, const struct script_module *module, const struct store_module *row)
{
        struct store_lease row_new;
        lease_fill(module, &row->sha256, &row_new);
        struct store_handout handout = { .module = row->sha256, .namespace = module->namespace, .lease = &row_new };
        store_save_handouts(store, &handout, 1);
        return handout.is_done;
}

static bool release(struct store *store, const struct script_module *module, const struct store_module *row)
{
        struct error err = { 0 };
        char ended[1][STORE_LEASE_ID_BYTES];
        snprintf(ended[0], sizeof ended[0], "lease-%s", module->name);
        struct store_handout handout = { .module = row->sha256, .namespace = module->namespace, .is_ending = true };
        if (!store_save_touch(store, &(struct store_touch){ .ended = (const char (*)[STORE_LEASE_ID_BYTES])ended, .ended_count = 1 }, &err))
                return false;
        store_save_handouts(store, &handout, 1);
        return handout.is_done;
}

/* Both that are left: their bytes have to be read again. */
static void touch_files(struct store *store, const struct store_module *first, const struct store_module *second)
{
        char path[2][600];
        store_format_path(store, &first->sha256, path[0], sizeof path[0]);
        store_format_path(store, &second->sha256, path[1], sizeof path[1]);
        for (int i = 0; i < 2; i++)
                utimensat(AT_FDCWD, path[i], NULL, 0);
}

/* Somebody asks for the first module while nobody has looked at it yet. */
static int settle(const char *root)
{
        struct store *store = NULL;
        struct store_report report;
        struct store_identity identity;
        struct error err = { 0 };
        struct digest sha256;
        CLEANUP(cleanup_free) char *bytes = memory_new(1, script[0].size);
        script_fill(&script[0], 0, bytes, script[0].size);
        digest_sha256(bytes, script[0].size, &sha256);
        fault_arm("store.large", 1);
        if (!store_open(&(struct store_options){ .root = root, .settles_later = true }, &store, &report, &err))
                return 0;
        if (!store_link(store, &sha256, script[0].namespace, &identity, &err) || !store_settle(store, NULL, &report, &err))
                fprintf(stderr, "%s\n", err.text);
        store_close(&store);
        return 0;
}

int main(int count, char **words)
{
        const struct script_module *a = &script[0], *b = &script[1], *c = &script[2];
        struct store *store = NULL;
        struct store_report report;
        struct store_module row_a = { 0 }, row_b = { 0 }, row_c = { 0 };
        struct store_identity identity;
        struct error err = { 0 };
        bool is_linked = false;
        if (count == 3 && strcmp(words[2], "settle") == 0)
                return settle(words[1]);
        if (count != 2 && (count != 3 || strcmp(words[2], "leave") != 0))
                return 2;
        if (!store_open(&(struct store_options){ .root = words[1] }, &store, &report, &err)) {
                fprintf(stderr, "%s\n", err.text);
                return 0;                         /* an injected error at the open: the next open is the test */
        }

        if (commit(store, a, &row_a, NULL))
                say("committed", a->name);
        if (row_a.created_s && lease(store, a, &row_a))
                say("leased", a->name);
        if (row_a.created_s && store_save_pin(store, &row_a.sha256, true, &err))
                say("pinned", a->name);
        if (commit(store, a, &row_a, NULL))
                say("committed", a->name);
        if (commit(store, b, &row_b, NULL))
                say("committed", b->name);
        if (row_b.created_s && lease(store, b, &row_b))
                say("leased", b->name);
        say("releasing", b->name);
        if (row_b.created_s && release(store, b, &row_b))
                say("released", b->name);
        say("removing", b->name);
        if (row_b.created_s && store_remove_module(store, &row_b.sha256, row_b.created_s, &err))
                say("removed", b->name);
        if (commit(store, c, &row_c, &is_linked))
                say("committed", c->name);
        if (is_linked)
                say("leased", c->name);
        if (row_a.created_s && store_verify(store, &row_a.sha256, 0, NULL, &identity, &err))
                say("verified", a->name);
        if (count == 3) {
                touch_files(store, &row_a, &row_c);
                _exit(0);
        }
        store_close(&store);
        say("closed", "store");
        return 0;
}
