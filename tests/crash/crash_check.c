/*
 * The invariant checker: crash_check ROOT PROMISES opens the store as the next start does, PROMISES being what crash_commit said before it ended.
 * How it goes: proves of [performance] B2, one after the other:
 *   I1/I2 every row names a file of the right size and digest, and its identity holds     I3 no file under a final name has other bytes     I4 no orphan: files = rows, tmp/ and
 *   quarantine/ empty     I5 grants are those that were given, for modules that are there     I6 what was leased is there, linked where it was     I7 the store opens by itself,
 *   and a second start finds nothing to do.
 * How it fails: one line for each invariant that is broken, all of them, then exit 1.
 * How it ends: with the store closed; the caller removes the folder.
 */
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/store.h>
#include "crash_script.h"

enum { MODULES = COUNT_OF(script) };

struct expected { bool is_committed, is_leased, is_removing, is_removed; };
struct state {
        struct store *store;
        const char *root;
        struct expected expected[MODULES];
        bool is_row[MODULES], is_lease[MODULES], is_granted[MODULES];
        size_t rows, breaks;
};

static void broken(struct state *state, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void broken(struct state *state, const char *format, ...)
{
        va_list list;
        va_start(list, format);
        fputs("BROKEN ", stdout);
        vprintf(format, list);
        putchar('\n');
        va_end(list);
        state->breaks++;
}

static void content_digest(const struct script_module *module, struct digest *ret_digest)
{
        uint8_t *bytes = malloc(module->size);
        script_fill(module, 0, bytes, module->size);
        digest_sha256(bytes, module->size, ret_digest);
        free(bytes);
}

static int find_module(const struct digest *digest)
{
        for (int i = 0; i < MODULES; i++) {
                struct digest sha256;
                content_digest(&script[i], &sha256);
                if (digest_equal(&sha256, digest))
                        return i;
        }
        return -1;
}

static void promises_read(struct state *state, const char *path)
{
        FILE *file = fopen(path, "re");
        char word[32], name[32];
        while (file && fscanf(file, "%31s %31s", word, name) == 2) {
                for (int i = 0; i < MODULES; i++) {
                        if (strcmp(script[i].name, name) != 0)
                                continue;
                        struct expected *expected = &state->expected[i];
                        expected->is_committed |= strcmp(word, "committed") == 0;
                        expected->is_leased |= strcmp(word, "leased") == 0;
                        expected->is_leased &= strcmp(word, "releasing") != 0;
                        expected->is_removing |= strcmp(word, "removing") == 0;
                        expected->is_removed |= strcmp(word, "removed") == 0;
                }
        }
        if (file)
                fclose(file);
}

static bool file_digest(const char *path, struct digest *ret_digest, uint64_t *ret_size)
{
        FILE *file = fopen(path, "re");
        if (!file)
                return false;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        char chunk[65536];
        size_t got;
        *ret_size = 0;
        while ((got = fread(chunk, 1, sizeof chunk, file)) > 0) {
                hasher_update(hasher, chunk, got);
                *ret_size += got;
        }
        fclose(file);
        hasher_finish(hasher, ret_digest);
        return true;
}

static void check_module(void *arg, const struct store_module *row)
{
        struct state *state = arg;
        char path[600];
        struct digest digest;
        uint64_t size = 0;
        int number = find_module(&row->sha256);
        state->rows++;
        store_format_path(state->store, &row->sha256, path, sizeof path);
        if (number < 0)
                broken(state, "I2 a row that nobody made: %s", path);
        else
                state->is_row[number] = true;
        if (!file_digest(path, &digest, &size))
                broken(state, "I2 a row without its file: %s", path);
        else if (size != row->identity.size_bytes || !digest_equal(&digest, &row->sha256))
                broken(state, "I2 a row with a wrong file: %s", path);
        else if (!store_check_identity(state->store, &row->sha256, NULL, &row->identity))
                broken(state, "I1 the row's identity is not the file's: %s", path);
}

static void check_grant(void *arg, const struct store_grant *row)
{
        struct state *state = arg;
        for (int i = 0; i < MODULES; i++) {
                struct digest manifest;
                script_manifest(&script[i], &manifest);
                if (!digest_equal(&manifest, &row->manifest))
                        continue;
                state->is_granted[i] = true;
                if (!string_equal(row->namespace, script[i].namespace) || !string_equal(row->kind, "secret") || !string_equal(row->repository, "host/repository"))
                        broken(state, "I5 a grant that was never given: %s %s", row->namespace, row->kind);
                return;
        }
        broken(state, "I5 a grant of an unknown manifest");
}

static void check_lease(void *arg, const struct store_lease *row)
{
        struct state *state = arg;
        int number = find_module(&row->module);
        if (number < 0)
                broken(state, "I6 a lease of an unknown module");
        else
                state->is_lease[number] = true;
        if (row->expires_s <= clock_get_wall_s())
                broken(state, "I6 a lease that ended by the crash");
}

static void check_expected(struct state *state)
{
        for (int i = 0; i < MODULES; i++) {
                const struct expected *expected = &state->expected[i];
                char link[600], hex[DIGEST_TEXT_BYTES];
                struct digest sha256, found;
                uint64_t size;
                content_digest(&script[i], &sha256);
                digest_format_hex(&sha256, hex);
                snprintf(link, sizeof link, "%s/modules/%s/%s.wasm", state->root, script[i].namespace, hex);
                bool is_linked = file_digest(link, &found, &size);

                if (expected->is_committed && !expected->is_removing && !state->is_row[i])
                        broken(state, "I2 %s was committed and is gone", script[i].name);
                if (expected->is_committed && !expected->is_removing && !state->is_granted[i])
                        broken(state, "I5 the grant of %s is gone", script[i].name);
                if (expected->is_removed && state->is_row[i])
                        broken(state, "I4 %s was removed and is back", script[i].name);
                if (state->is_granted[i] && !state->is_row[i])
                        broken(state, "I5 a grant of %s, which is not there", script[i].name);
                if (expected->is_leased && (!state->is_lease[i] || !is_linked))
                        broken(state, "I6 %s was leased: lease %d, link %d", script[i].name, state->is_lease[i], is_linked);
                if (state->is_lease[i] != is_linked)
                        broken(state, "I6 %s: lease %d, link %d", script[i].name, state->is_lease[i], is_linked);
                if (is_linked && !digest_equal(&found, &sha256))
                        broken(state, "I1 the hand-out of %s has other bytes", script[i].name);
        }
}

static size_t count_files(struct state *state, const char *folder, int depth)
{
        char path[700];
        snprintf(path, sizeof path, "%s/%s", state->root, folder);
        DIR *stream = opendir(path);
        size_t count = 0;
        for (struct dirent *entry; stream && (entry = readdir(stream)) != NULL;) {
                char below[600];
                if (entry->d_name[0] == '.')
                        continue;
                snprintf(below, sizeof below, "%.200s/%.300s", folder, entry->d_name);
                count += depth > 0 ? count_files(state, below, depth - 1) : 1;
        }
        if (stream)
                closedir(stream);
        return count;
}

static void check_start(struct state *state, bool is_first)
{
        struct store_report report = { 0 };
        struct error err = { 0 };
        if (!store_open(&(struct store_options){ .root = state->root }, &state->store, &report, &err)) {
                broken(state, "I7 the store does not open: %s", err.text);
                return;
        }
        if (store_get_health(state->store) != STORE_HEALTHY)
                broken(state, "I7 the store is not healthy");
        if (report.quarantined)
                broken(state, "I3 %zu files with wrong bytes under final names", report.quarantined);
        if (report.dropped_rows)
                broken(state, "I2 %zu rows without file", report.dropped_rows);
        if (!is_first && report.adopted)
                broken(state, "I4 %zu orphans outlived a start", report.adopted);

        const struct store_visitor visitor = { .arg = state, .module = check_module, .grant = check_grant, .lease = check_lease };
        state->rows = 0;
        if (!store_load_all(state->store, &visitor, &err))
                broken(state, "I7 the index cannot be read: %s", err.text);
        check_expected(state);
        if (count_files(state, "blobs", 1) != state->rows)
                broken(state, "I4 %zu files, %zu rows", count_files(state, "blobs", 1), state->rows);
        if (count_files(state, "tmp", 0) + count_files(state, "quarantine", 0) > 0)
                broken(state, "I4 left-overs in tmp/ or quarantine/");
        store_close(&state->store);
}

int main(int count, char **words)
{
        struct state state = { 0 };
        if (count != 3)
                return 2;
        state.root = words[1];
        promises_read(&state, words[2]);
        check_start(&state, true);
        check_start(&state, false);
        return state.breaks > 0;
}
