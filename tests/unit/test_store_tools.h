/* What the tests of the store share: a root in a temporary folder, contents by number, short forms of the calls. */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/store.h>

#define UNUSED __attribute__((unused))

struct fixture { char folder[256], root[300]; struct store *store; struct store_report report; struct error err; };

static UNUSED bool fixture_try(struct fixture *fixture)
{
        fixture->err = (struct error){ 0 };
        return store_open(&(struct store_options){ .root = fixture->root }, &fixture->store, &fixture->report, &fixture->err);
}

static UNUSED void fixture_open(struct fixture *fixture)
{
        if (!fixture_try(fixture))
                fail_msg("store_open: %s", fixture->err.text);
}

static UNUSED void fixture_reopen(struct fixture *fixture)
{
        store_close(&fixture->store);
        fixture_open(fixture);
}

static UNUSED int fixture_setup(void **state)
{
        struct fixture *fixture = calloc(1, sizeof *fixture);
        const char *base = getenv("TMPDIR");
        snprintf(fixture->folder, sizeof fixture->folder, "%s/store-XXXXXX", base ? base : "/tmp");
        assert_non_null(mkdtemp(fixture->folder));
        snprintf(fixture->root, sizeof fixture->root, "%.256s/root", fixture->folder);
        fixture_open(fixture);
        *state = fixture;
        return 0;
}

static UNUSED int fixture_teardown(void **state)
{
        struct fixture *fixture = *state;
        static const char *const faults[] = { "store.write", "store.fsync", "store.place", "store.sync_folder", "store.commit", "store.begin", "store.link", "store.unlink",
                                              "store.read", "store.thread", "store.tmpfile", "store.read_only", "store.backup", "store.migration", "store.large" };
        for (size_t i = 0; i < COUNT_OF(faults); i++)
                fault_arm(faults[i], 0);
        store_close(&fixture->store);
        assert_true(fs_remove_tree(AT_FDCWD, fixture->folder, &fixture->err));
        free(fixture);
        return 0;
}

static UNUSED char *fixture_path(const struct fixture *fixture, const char *format, ...) __attribute__((format(printf, 2, 3)));
static UNUSED char *fixture_path(const struct fixture *fixture, const char *format, ...)
{
        static char text[4][600];
        static unsigned turn;
        char *path = text[turn++ % 4];
        int used = snprintf(path, sizeof text[0], "%s/", fixture->root);
        va_list list;
        va_start(list, format);
        vsnprintf(path + used, sizeof text[0] - (size_t)used, format, list);
        va_end(list);
        return path;
}

static UNUSED bool path_exists(const char *path)
{
        struct stat info;
        return lstat(path, &info) == 0;
}

static UNUSED void file_write(const char *path, const void *bytes, size_t size)
{
        chmod(path, 0644);                        /* a blob is read-only, also for its owner */
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        assert_true(fd >= 0);
        assert_true(fs_write_all(fd, bytes, size));
        close(fd);
}

/* Content number n: `size` bytes that differ from those of every other number. */
static UNUSED uint8_t *content_new(unsigned number, size_t size)
{
        uint8_t *bytes = malloc(size + 1);
        uint32_t word = number * 2654435761U + 1;
        for (size_t i = 0; i < size; i++) {
                word = word * 1664525U + 1013904223U;
                bytes[i] = (uint8_t)(word >> 24);
        }
        return bytes;
}

static UNUSED struct digest content_digest(unsigned number, size_t size)
{
        uint8_t *bytes = content_new(number, size);
        struct digest digest;
        digest_sha256(bytes, size, &digest);
        free(bytes);
        return digest;
}

static UNUSED struct digest name_digest(const char *name)
{
        struct digest digest;
        digest_sha256(name, strlen(name), &digest);
        return digest;
}

static UNUSED bool content_write(struct fixture *fixture, unsigned number, size_t size, struct blob_writer **ret_writer)
{
        const struct blob_writer_options options = { .size_limit = 1 << 26, .algorithm = DIGEST_SHA256, .what = "the layer" };
        struct blob_writer *writer = NULL;
        if (!blob_writer_open(fixture->store, &options, &writer, &fixture->err))
                return false;
        uint8_t *bytes = content_new(number, size);
        struct sink *sink = blob_writer_get_sink(writer);
        bool is_good = true;
        for (size_t at = 0; is_good && at < size; at += 10007)
                is_good = sink->write(sink, bytes + at, size - at < 10007 ? size - at : 10007, &fixture->err);
        free(bytes);
        if (is_good)
                *ret_writer = writer;
        else
                blob_writer_free(&writer);
        return is_good;
}

static UNUSED bool content_commit(struct fixture *fixture, unsigned number, size_t size, struct store_module *ret_module)
{
        struct blob_writer *writer = NULL;
        fixture->err = (struct error){ 0 };
        if (!content_write(fixture, number, size, &writer))
                return false;
        bool is_good = store_commit(fixture->store, &(struct store_commit){ .writer = writer }, ret_module, &fixture->err);
        blob_writer_free(&writer);
        return is_good;
}

static UNUSED struct store_module content_put(struct fixture *fixture, unsigned number, size_t size)
{
        struct store_module module = { 0 };
        if (!content_commit(fixture, number, size, &module))
                fail_msg("commit: %s", fixture->err.text);
        return module;
}

/* Everything that store_load_all says, in one flat form. */
struct census {
        size_t modules, images, references, grants, resources, leases;
        struct store_module last_module;
        struct store_lease last_lease;
        char last_image[200], last_reference[200], last_grant[300];
        int64_t last_ok_s;
};

static UNUSED void census_module(void *arg, const struct store_module *row)
{
        struct census *census = arg;
        census->modules++;
        census->last_module = *row;
}

static UNUSED void census_image(void *arg, const struct store_image *row)
{
        struct census *census = arg;
        census->images++;
        snprintf(census->last_image, sizeof census->last_image, "%s|%s|%s", row->media_type, row->layer_type, row->document);
}

static UNUSED void census_reference(void *arg, const struct store_reference *row)
{
        struct census *census = arg;
        census->references++;
        snprintf(census->last_reference, sizeof census->last_reference, "%s|%s", row->name, row->etag);
}

static UNUSED void census_grant(void *arg, const struct store_grant *row)
{
        struct census *census = arg;
        census->grants++;
        census->last_ok_s = row->last_ok_s;
        snprintf(census->last_grant, sizeof census->last_grant, "%s|%s|%s|%s", row->repository, row->kind, row->namespace, row->secret);
}

static UNUSED void census_resource(void *arg, const struct store_resource *row)
{
        struct census *census = arg;
        census->resources += row->name[0] != '\0';
}

static UNUSED void census_lease(void *arg, const struct store_lease *row)
{
        struct census *census = arg;
        census->leases++;
        census->last_lease = *row;
        census->last_lease.holder = NULL;
}

static UNUSED struct census census_take(struct fixture *fixture)
{
        struct census census = { 0 };
        const struct store_visitor visitor = { &census, census_module, census_image, census_reference, census_grant, census_resource, census_lease, false, NULL };
        if (!store_load_all(fixture->store, &visitor, &fixture->err))
                fail_msg("store_load_all: %s", fixture->err.text);
        return census;
}

static UNUSED size_t folder_count(const char *path)
{
        char command[700];
        snprintf(command, sizeof command, "find '%s' -mindepth 1 ! -type d | wc -l", path);
        FILE *pipe = popen(command, "r");
        size_t count = 0;
        assert_non_null(pipe);
        assert_int_equal(fscanf(pipe, "%zu", &count), 1);
        pclose(pipe);
        return count;
}

static UNUSED char *blob_path(const struct fixture *fixture, const struct digest *digest)
{
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(digest, hex);
        return fixture_path(fixture, "blobs/%.2s/%s", hex, hex);
}

static UNUSED char *link_path(const struct fixture *fixture, const char *namespace, const struct digest *digest)
{
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(digest, hex);
        return fixture_path(fixture, "modules/%s/%s.wasm", namespace, hex);
}

static UNUSED void lease_put(struct fixture *fixture, const char *id, const char *namespace, const struct digest *module, int64_t expires_s)
{
        struct store_lease lease = { .module = *module, .expires_s = expires_s, .holder = "test" };
        snprintf(lease.id, sizeof lease.id, "%s", id);
        snprintf(lease.namespace, sizeof lease.namespace, "%s", namespace);
        assert_true(store_save_touch(fixture->store, &(struct store_touch){ .leases = &lease, .lease_count = 1 }, &fixture->err));
}

/* Ends the store as a kill would: what is in the index says "not closed in order". */
static UNUSED void fixture_crash(struct fixture *fixture)
{
        store_close(&fixture->store);
        char command[800];
        snprintf(command, sizeof command, "sqlite3 '%s/index.sqlite' \"UPDATE meta SET value = 0 WHERE name = 'clean'\"", fixture->root);
        assert_int_equal(system(command), 0);
}
