/* Writer, commit, rows, hand-out and removal: on a healthy disk, when a step fails, and with many threads. */
#include "test_store_tools.h"
#include <wasmcached/store/handout.h>

static void test_writer(void **state)
{
        static const size_t sizes[] = { 0, 1, 10007, 262143, 262144, 262145, 1048576, 1048577, 5000000 };
        struct fixture *fixture = *state;
        for (unsigned mode = 0; mode < 4; mode++) {
                fault_arm("store.thread", mode & 1);
                fault_arm("store.tmpfile", mode >> 1);
                for (unsigned i = 0; i < COUNT_OF(sizes); i++) {
                        struct blob_writer *writer = NULL;
                        struct digest digest, sha256, want = content_digest(i, sizes[i]);
                        uint64_t size = 77;
                        assert_true(content_write(fixture, i, sizes[i], &writer));
                        assert_true(blob_writer_finish(writer, &digest, &sha256, &size, &fixture->err));
                        assert_true(blob_writer_finish(writer, NULL, NULL, NULL, &fixture->err));
                        assert_true(digest_equal(&sha256, &want));
                        assert_true(digest_equal(&digest, &want));
                        assert_int_equal(size, sizes[i]);
                        uint8_t *bytes = content_new(i, sizes[i]), *back = malloc(sizes[i] + 1);
                        assert_int_equal(pread(blob_writer_get_fd(writer), back, sizes[i] + 1, 0), sizes[i]);
                        assert_memory_equal(back, bytes, sizes[i]);
                        assert_false(blob_writer_get_sink(writer)->write(blob_writer_get_sink(writer), "x", 1, &fixture->err));
                        free(bytes);
                        free(back);
                        blob_writer_free(&writer);
                }
        }
        assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), 0);
}

/* Whichever thread meets the full disk: the next write or the finish says so, and goes on saying it; a restart begins anew. */
static void test_writer_full(void **state)
{
        struct fixture *fixture = *state;
        const struct blob_writer_options options = { .size_limit = 1 << 26, .algorithm = DIGEST_SHA256, .what = "the layer" };
        uint8_t *bytes = content_new(3, 3000000);
        struct digest digest, want = content_digest(3, 3000000);
        for (unsigned mode = 0; mode < 2; mode++)
                for (unsigned turn = 1; turn <= 12; turn++) {
                        struct blob_writer *writer = NULL;
                        fault_arm("store.thread", mode);
                        fault_arm("store.write", turn);
                        assert_true(blob_writer_open(fixture->store, &options, &writer, &fixture->err));
                        struct sink *sink = blob_writer_get_sink(writer);
                        bool is_good = true;
                        for (size_t at = 0; is_good && at < 3000000; at += 100000)
                                is_good = sink->write(sink, bytes + at, 100000, &fixture->err);
                        assert_false(is_good && blob_writer_finish(writer, NULL, NULL, NULL, &fixture->err));
                        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
                        fixture->err = (struct error){ 0 };
                        assert_false(blob_writer_finish(writer, NULL, NULL, NULL, &fixture->err));
                        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
                        fault_arm("store.write", 0);
                        assert_true(sink->restart(sink, &fixture->err));
                        assert_true(sink->write(sink, bytes, 3000000, &fixture->err));
                        assert_true(blob_writer_finish(writer, &digest, NULL, NULL, &fixture->err));
                        assert_true(digest_equal(&digest, &want));
                        blob_writer_free(&writer);
                }
        free(bytes);
}

static void test_writer_sha512(void **state)
{
        struct fixture *fixture = *state;
        const struct blob_writer_options options = { .size_limit = 100, .size_hint = 3, .algorithm = DIGEST_SHA512, .scratch = true, .what = "x" };
        struct blob_writer *writer = NULL;
        struct digest digest, sha256, want = name_digest("abc");
        char hex[DIGEST_TEXT_BYTES];
        assert_true(blob_writer_open(fixture->store, &options, &writer, &fixture->err));
        struct sink *sink = blob_writer_get_sink(writer);
        assert_true(sink->write(sink, "abc", 3, &fixture->err));
        assert_true(blob_writer_finish(writer, &digest, &sha256, NULL, &fixture->err));
        assert_true(digest_equal(&sha256, &want));
        digest_format_hex(&digest, hex);
        assert_string_equal(hex, "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
        assert_false(store_commit(fixture->store, &(struct store_commit){ .writer = writer }, NULL, &fixture->err));
        blob_writer_free(&writer);
}

static void test_writer_limit(void **state)
{
        struct fixture *fixture = *state;
        const struct blob_writer_options options = { .size_limit = 4, .what = "the layer of oci://x/y:1" };
        struct blob_writer *writer = NULL;
        assert_true(blob_writer_open(fixture->store, &options, &writer, &fixture->err));
        struct sink *sink = blob_writer_get_sink(writer);
        assert_true(sink->write(sink, "abcd", 4, &fixture->err));
        assert_false(sink->write(sink, "e", 1, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_TOO_LARGE);
        assert_non_null(strstr(fixture->err.text, "the layer of oci://x/y:1"));
        fixture->err = (struct error){ 0 };
        assert_false(sink->write(sink, "", 0, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_TOO_LARGE);
        assert_false(blob_writer_finish(writer, NULL, NULL, NULL, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_TOO_LARGE);
        blob_writer_free(&writer);
}

static void test_writer_restart(void **state)
{
        static const size_t before[] = { 0, 3, 300000, 3000000 };
        struct fixture *fixture = *state;
        for (size_t i = 0; i < COUNT_OF(before); i++) {
                struct blob_writer *writer = NULL;
                struct digest sha256, want = content_digest(9, 700000);
                uint64_t size = 0;
                struct stat info;
                assert_true(content_write(fixture, 8, before[i], &writer));
                struct sink *sink = blob_writer_get_sink(writer);
                assert_true(sink->restart(sink, &fixture->err));
                uint8_t *bytes = content_new(9, 700000);
                assert_true(sink->write(sink, bytes, 700000, &fixture->err));
                free(bytes);
                assert_true(blob_writer_finish(writer, NULL, &sha256, &size, &fixture->err));
                assert_true(digest_equal(&sha256, &want));
                assert_int_equal(size, 700000);
                assert_int_equal(fstat(blob_writer_get_fd(writer), &info), 0);
                assert_int_equal(info.st_size, 700000);
                assert_false(sink->restart(sink, &fixture->err));
                blob_writer_free(&writer);
        }
}

static void test_commit(void **state)
{
        struct fixture *fixture = *state;
        for (unsigned mode = 0; mode < 2; mode++) {
                fault_arm("store.tmpfile", mode);
                struct store_module module = content_put(fixture, 1 + mode, 500000);
                struct digest want = content_digest(1 + mode, 500000);
                struct stat info;
                char path[700];
                assert_true(digest_equal(&module.sha256, &want));
                assert_int_equal(module.identity.size_bytes, 500000);
                assert_false(module.is_pinned);
                store_format_path(fixture->store, &want, path, sizeof path);
                assert_string_equal(path, blob_path(fixture, &want));
                assert_int_equal(stat(path, &info), 0);
                assert_int_equal(info.st_mode & 07777, 0444);
                assert_true(store_check_identity(fixture->store, &want, NULL, &module.identity));
                assert_false(store_check_identity(fixture->store, &want, "team-a", &module.identity));

                /* The same once more: success, one file, a later created_s. */
                struct store_module again = content_put(fixture, 1 + mode, 500000);
                assert_true(again.created_s > module.created_s);
                assert_int_equal(again.identity.inode, module.identity.inode);
        }
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), 2);
        assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
        fixture_reopen(fixture);
        assert_int_equal(fixture->report.adopted + fixture->report.removed + fixture->report.quarantined + fixture->report.dropped_rows, 0);
        assert_int_equal(census_take(fixture).modules, 2);
}

static void test_rows(void **state)
{
        struct fixture *fixture = *state;
        struct digest manifest = name_digest("manifest"), top = name_digest("top"), layer = name_digest("layer"), mac = name_digest("mac"), module = content_digest(1, 100);
        struct store_image image = { manifest, top, module, layer, "application/a", "application/b", "{\"x\":1}", name_digest("seal") };
        struct store_reference reference = { "oci://r/a:1", top, manifest, module, "\"e\"\nMon", 5 };
        struct store_grant grant = { manifest, "r/a", "secret", "team-a", "pull", mac, 5, 6 };
        struct store_resource resource = { "team-a", "res", "7", "oci://r/a:1", module, manifest };
        struct blob_writer *writer = NULL;
        struct store_module row;
        assert_true(content_write(fixture, 1, 100, &writer));
        assert_true(store_commit(fixture->store, &(struct store_commit){ writer, &image, &reference, &grant, &resource, NULL, NULL }, &row, &fixture->err));
        blob_writer_free(&writer);

        for (int i = 0; i < 2; i++) {
                struct census census = census_take(fixture);
                assert_int_equal(census.modules, 1);
                assert_int_equal(census.images, 1);
                assert_int_equal(census.references, 1);
                assert_int_equal(census.grants, 1);
                assert_int_equal(census.resources, 1);
                assert_string_equal(census.last_image, "application/a|application/b|{\"x\":1}");
                assert_string_equal(census.last_reference, "oci://r/a:1|\"e\"\nMon");
                assert_string_equal(census.last_grant, "r/a|secret|team-a|pull");
                assert_true(digest_equal(&census.last_module.sha256, &row.sha256));
                assert_int_equal(census.last_module.created_s, row.created_s);
                uint8_t key[STORE_KEY_BYTES];
                memcpy(key, store_get_key(fixture->store), sizeof key);
                fixture_reopen(fixture);
                assert_memory_equal(store_get_key(fixture->store), key, sizeof key);
        }

        struct buffer document = { 0 };
        assert_true(store_load_document(fixture->store, &manifest, &document, &fixture->err));
        assert_string_equal(document.data, "{\"x\":1}");
        buffer_fini(&document);
        assert_false(store_load_document(fixture->store, &top, &document, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_NOT_FOUND);

        /* Rows alone: another reference, a grant found by its manifest; nothing for a module that is not there. */
        struct store_reference second = { "oci://r/a:2", top, manifest, module, NULL, 6 };
        assert_true(store_commit(fixture->store, &(struct store_commit){ .reference = &second }, NULL, &fixture->err));
        assert_int_equal(census_take(fixture).last_module.created_s, row.created_s);
        grant.last_ok_s = 99;
        assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, &row, &fixture->err));
        assert_true(digest_equal(&row.sha256, &module));
        assert_int_equal(census_take(fixture).references, 2);
        assert_int_equal(census_take(fixture).last_ok_s, 99);
        struct store_image other = image;
        other.module = layer;
        fixture->err = (struct error){ 0 };
        assert_false(store_commit(fixture->store, &(struct store_commit){ .image = &other }, NULL, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_BUSY);
        grant.manifest = mac;
        assert_false(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, NULL, &fixture->err));
        assert_false(store_commit(fixture->store, &(struct store_commit){ 0 }, NULL, &fixture->err));
        assert_int_equal(census_take(fixture).grants, 1);

        /* A module takes all that points at it along. */
        lease_put(fixture, "l1", "team-a", &module, clock_get_wall_s() + 100);
        assert_false(store_remove_module(fixture->store, &module, row.created_s - 1, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_BUSY);
        assert_true(path_exists(blob_path(fixture, &module)));
        assert_true(store_remove_module(fixture->store, &module, row.created_s, &fixture->err));
        assert_false(path_exists(blob_path(fixture, &module)));
        struct census census = census_take(fixture);
        assert_int_equal(census.modules + census.images + census.references + census.grants + census.resources + census.leases, 0);
        assert_true(store_remove_module(fixture->store, &module, row.created_s, &fixture->err));
}

static void test_grants(void **state)
{
        /* who is removed: repository, kind, namespace, secret; then how many of the four below are left */
        static const struct { const char *repository, *kind, *namespace, *secret; bool by_manifest; size_t left; } rows[] = {
                { NULL, NULL, NULL, NULL, true, 0 },      { "r/a", NULL, NULL, NULL, true, 1 },  { "r/a", "secret", NULL, NULL, true, 2 }, { NULL, "secret", "ns1", NULL, true, 3 },
                { NULL, "secret", "ns1", "s", false, 3 }, { NULL, NULL, "ns2", NULL, false, 2 }, { "r/x", NULL, NULL, NULL, false, 4 },    { NULL, NULL, NULL, NULL, false, 0 },
        };
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 100);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct digest mac = name_digest("mac");
                const struct store_grant grants[] = {
                        { module.sha256, "r/a", "secret", "ns1", "s", mac, 1, 1 }, { module.sha256, "r/a", "secret", "ns2", "s", mac, 1, 1 },
                        { module.sha256, "r/a", "anonymous", "", "", { 0 }, 1, 1 }, { module.sha256, "r/b", "secret", "ns2", "t", mac, 1, 1 },
                };
                for (size_t j = 0; j < COUNT_OF(grants); j++)
                        assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grants[j] }, NULL, &fixture->err));
                assert_int_equal(census_take(fixture).grants, 4);
                assert_true(store_remove_grants(fixture->store, rows[i].by_manifest ? &module.sha256 : NULL, rows[i].repository, rows[i].kind, rows[i].namespace, rows[i].secret,
                                                &fixture->err));
                assert_int_equal(census_take(fixture).grants, rows[i].left);
        }
        assert_true(store_remove_grants(fixture->store, NULL, NULL, NULL, NULL, NULL, &fixture->err));
        for (int i = 0; i < 130; i++) {
                char name[32];
                snprintf(name, sizeof name, "s%d", i);
                const struct store_grant grant = { module.sha256, "r/a", "secret", "n", name, { 0 }, i, i };
                assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, NULL, &fixture->err));
        }
        assert_int_equal(census_take(fixture).grants, 100);
}

static void test_touch(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 100), ghost = { .sha256 = name_digest("ghost"), .last_used_s = 5 };
        struct store_lease leases[] = { { "a", "team-a", module.sha256, 4000000000, "x" }, { "b", "team-b", module.sha256, 4000000001, NULL },
                                        { "c", "team-b", ghost.sha256, 4000000001, "y" } };
        struct store_module used[] = { module, ghost };
        used[0].last_used_s = 5000000000;
        assert_true(store_save_touch(fixture->store, &(struct store_touch){ leases, 3, NULL, 0, used, 2 }, &fixture->err));
        assert_int_equal(census_take(fixture).leases, 2);
        assert_int_equal(census_take(fixture).last_module.last_used_s, 5000000000);
        const char ended[2][STORE_LEASE_ID_BYTES] = { "a", "nobody" };
        assert_true(store_save_touch(fixture->store, &(struct store_touch){ .ended = ended, .ended_count = 2 }, &fixture->err));
        assert_int_equal(census_take(fixture).leases, 1);
        assert_true(store_save_pin(fixture->store, &module.sha256, true, &fixture->err));
        assert_true(census_take(fixture).last_module.is_pinned);
        content_put(fixture, 1, 100);
        assert_true(census_take(fixture).last_module.is_pinned);
        assert_true(store_save_pin(fixture->store, &module.sha256, false, &fixture->err));
        assert_false(census_take(fixture).last_module.is_pinned);
        assert_false(store_save_pin(fixture->store, &ghost.sha256, true, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_NOT_FOUND);
}

static void test_handout(void **state)
{
        static const char *const bad[] = { "", "A", "a/b", "..", ".", "-a", "a-", "a_b", "0123456789012345678901234567890123456789012345678901234567890123", "a b" };
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 100);
        struct store_identity first, second, third;
        mode_t mask = umask(077);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &first, &fixture->err));
        umask(mask);
        struct stat info;
        assert_int_equal(stat(fixture_path(fixture, "modules/team-a"), &info), 0);
        assert_int_equal(info.st_mode & 07777, 0755);
        assert_int_equal(stat(fixture_path(fixture, "index.sqlite"), &info), 0);   /* names private repositories */
        assert_int_equal(info.st_mode & 07777, 0600);
        assert_int_equal(stat(fixture_path(fixture, "index.sqlite-wal"), &info), 0);
        assert_int_equal(info.st_mode & 07777, 0600);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &first));
        assert_true(store_link(fixture->store, &module.sha256, "team-b", &second, &fixture->err));
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &second));
        assert_true(store_check_identity(fixture->store, &module.sha256, NULL, &second));
        assert_true(store_link(fixture->store, &module.sha256, "team-b", &third, &fixture->err));
        assert_memory_equal(&third, &second, sizeof third);
        struct store_identity stored = census_take(fixture).last_module.identity;
        assert_memory_equal(&stored, &second, sizeof stored);

        assert_true(store_unlink(fixture->store, &module.sha256, "team-a", &third, &fixture->err));
        assert_true(store_unlink(fixture->store, &module.sha256, "team-a", &third, &fixture->err));
        assert_false(path_exists(link_path(fixture, "team-a", &module.sha256)));
        assert_true(path_exists(link_path(fixture, "team-b", &module.sha256)));
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-b", &third));
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
                assert_false(store_link(fixture->store, &module.sha256, bad[i], &first, &fixture->err));
                assert_int_equal(fixture->err.code, ERROR_BAD_REQUEST);
                assert_false(store_unlink(fixture->store, &module.sha256, bad[i], &first, &fixture->err));
                assert_false(store_check_identity(fixture->store, &module.sha256, bad[i], &third));
        }
        struct digest ghost = name_digest("ghost");
        assert_false(store_link(fixture->store, &ghost, "team-a", &first, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_NOT_FOUND);
        assert_int_equal(store_open_blob(fixture->store, &ghost, &fixture->err), -1);
        int fd = store_open_blob(fixture->store, &module.sha256, &fixture->err);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, "x", 1), -1);
        close(fd);

        /* A foreign file in the place of a link is replaced. */
        assert_int_equal(unlink(link_path(fixture, "team-b", &module.sha256)), 0);
        file_write(link_path(fixture, "team-b", &module.sha256), "evil", 4);
        assert_false(store_check_identity(fixture->store, &module.sha256, "team-b", &third));
        assert_true(store_link(fixture->store, &module.sha256, "team-b", &third, &fixture->err));
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-b", &third));
        assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
        fault_arm("store.link", 1);
        assert_false(store_link(fixture->store, &module.sha256, "team-c", &third, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
        assert_true(store_remove_module(fixture->store, &module.sha256, module.created_s, &fixture->err));
        assert_false(path_exists(link_path(fixture, "team-b", &module.sha256)));
}

/* Many at once: each has its own outcome, and what was not written down refuses all that wanted it. */
static void test_handouts(void **state)
{
        enum { COUNT = 6 };
        struct fixture *fixture = *state;
        struct store_module modules[COUNT];
        struct store_lease leases[COUNT] = { 0 };
        struct store_handout handouts[COUNT] = { 0 };
        for (unsigned i = 0; i < COUNT; i++) {
                modules[i] = content_put(fixture, i + 1, 100);
                leases[i] = (struct store_lease){ .namespace = "team-a", .module = modules[i].sha256, .expires_s = clock_get_wall_s() + 1000, .holder = "h" };
                snprintf(leases[i].id, sizeof leases[i].id, "lease-%u", i);
                handouts[i] = (struct store_handout){ .module = modules[i].sha256, .namespace = "team-a", .lease = &leases[i] };
        }
        handouts[1].namespace = "No-label";
        handouts[2].module = name_digest("ghost");
        assert_int_equal(unlink(blob_path(fixture, &modules[3].sha256)), 0);
        file_write(blob_path(fixture, &modules[3].sha256), "evil", 4);
        handouts[4] = (struct store_handout){ .module = modules[4].sha256, .namespace = "team-a", .is_ending = true };
        struct store_identity linked;
        assert_true(store_link(fixture->store, &modules[4].sha256, "team-a", &linked, &fixture->err));
        store_save_handouts(fixture->store, handouts, COUNT);
        static const enum error_code codes[COUNT] = { ERROR_NONE, ERROR_BAD_REQUEST, ERROR_NOT_FOUND, ERROR_CHECKSUM_MISMATCH, ERROR_NONE, ERROR_NONE };
        for (unsigned i = 0; i < COUNT; i++) {
                assert_int_equal(handouts[i].is_done, codes[i] == ERROR_NONE);
                if (!handouts[i].is_done)
                        assert_int_equal(handouts[i].err.code, codes[i]);
        }
        assert_true(store_check_identity(fixture->store, &modules[0].sha256, "team-a", &handouts[0].identity));
        assert_true(store_check_identity(fixture->store, &modules[5].sha256, "team-a", &handouts[5].identity));
        assert_false(path_exists(link_path(fixture, "team-a", &modules[4].sha256)));
        assert_true(store_check_identity(fixture->store, &modules[4].sha256, NULL, &handouts[4].identity));
        assert_int_equal(census_take(fixture).leases, 2);

        /* The rows followed: nothing is hashed again, and nothing is new, the second time and after a restart. */
        struct store_handout again[2] = { handouts[0], handouts[5] };
        store_save_handouts(fixture->store, again, 2);
        assert_true(again[0].is_done && again[1].is_done);
        assert_memory_equal(&again[0].identity, &handouts[0].identity, sizeof again[0].identity);
        fixture_reopen(fixture);
        assert_true(store_check_identity(fixture->store, &modules[0].sha256, "team-a", &handouts[0].identity));

        /* No row, no hand-out. */
        for (unsigned i = 0; i < 2; i++) {
                struct store_handout lost[2] = { { .module = modules[0].sha256, .namespace = "team-b", .lease = &leases[0] },
                                                 { .module = modules[1].sha256, .namespace = "No-label", .lease = &leases[1] } };
                fault_arm(i == 0 ? "store.begin" : "store.commit", 1);
                store_save_handouts(fixture->store, lost, 2);
                fault_arm(i == 0 ? "store.begin" : "store.commit", 0);
                assert_false(lost[0].is_done || lost[1].is_done);
                assert_int_equal(lost[0].err.code, ERROR_STORE_FULL);
                assert_int_equal(lost[1].err.code, ERROR_BAD_REQUEST);
        }
        store_save_handouts(fixture->store, NULL, 0);
}

/* A step fails → code, health; then the same commit works after a restart, and nothing half-visible was left. */
static const struct { const char *fault; enum error_code code; enum store_health health; } steps[] = {
        { "store.write", ERROR_STORE_FULL, STORE_HEALTHY },     { "store.fsync", ERROR_INTERNAL, STORE_FAILING },   { "store.place", ERROR_STORE_FULL, STORE_HEALTHY },
        { "store.sync_folder", ERROR_INTERNAL, STORE_FAILING }, { "store.begin", ERROR_STORE_FULL, STORE_HEALTHY }, { "store.commit", ERROR_STORE_FULL, STORE_HEALTHY },
};

static void test_commit_fails(void **state)
{
        struct fixture *fixture = *state;
        for (unsigned i = 0; i < COUNT_OF(steps); i++) {
                struct digest digest = content_digest(10 + i, 300000);
                fixture_reopen(fixture);
                fault_arm(steps[i].fault, 1);
                assert_false(content_commit(fixture, 10 + i, 300000, NULL));
                fault_arm(steps[i].fault, 0);
                print_message("%s: %s\n", steps[i].fault, fixture->err.text);
                assert_int_equal(fixture->err.code, steps[i].code);
                assert_int_equal(store_get_health(fixture->store), steps[i].health);
                assert_int_equal(census_take(fixture).modules, i);
                assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
                if (i >= 4)
                        assert_false(path_exists(blob_path(fixture, &digest)));
                content_put(fixture, 10 + i, 300000);
                assert_int_equal(census_take(fixture).modules, i + 1);
        }
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), COUNT_OF(steps));
}

static bool commit_leased(struct fixture *fixture, unsigned number, const char *namespace, bool *ret_is_linked, struct store_module *ret_module)
{
        struct blob_writer *writer = NULL;
        struct store_lease lease = { .id = "0123", .module = content_digest(number, 300000), .expires_s = 4102444800, .holder = "h" };
        snprintf(lease.namespace, sizeof lease.namespace, "%s", namespace);
        assert_true(content_write(fixture, number, 300000, &writer));
        struct store_commit commit = { .writer = writer, .lease = &lease, .ret_is_linked = ret_is_linked };
        bool is_good = store_commit(fixture->store, &commit, ret_module, &fixture->err);
        blob_writer_free(&writer);
        return is_good;
}

/* File, link and lease in one step: the row knows the file as the link has left it. */
static void test_commit_leased(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = { 0 };
        bool is_linked = false;
        assert_true(commit_leased(fixture, 1, "team-a", &is_linked, &module));
        assert_true(is_linked);
        assert_true(store_check_identity(fixture->store, &module.sha256, NULL, &module.identity));
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &module.identity));
        fixture_crash(fixture);
        fixture_open(fixture);
        assert_int_equal(fixture->report.adopted + fixture->report.removed + fixture->report.quarantined + fixture->report.dropped_rows, 0);
        struct census census = census_take(fixture);
        assert_int_equal(census.leases, 1);
        assert_string_equal(census.last_lease.namespace, "team-a");
        assert_int_equal(census.last_lease.expires_s, 4102444800);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &census.last_module.identity));

        /* A file that was there keeps the ctime that others know: its hand-out goes its own way. */
        assert_true(commit_leased(fixture, 1, "team-b", &is_linked, &module));
        assert_false(is_linked);
        assert_false(path_exists(link_path(fixture, "team-b", &module.sha256)));
        assert_true(store_check_identity(fixture->store, &module.sha256, NULL, &module.identity));
        assert_int_equal(census_take(fixture).leases, 1);
}

/* A folder that cannot be linked to costs the hand-out, not the module; rows that cannot be written cost both. */
static void test_commit_leased_fails(void **state)
{
        static const char *const faults[] = { "store.begin", "store.commit", "store.sync_folder", "store.place" };
        struct fixture *fixture = *state;
        struct store_module module = { 0 };
        bool is_linked = true;
        fault_arm("store.link", 1);
        assert_true(commit_leased(fixture, 1, "team-a", &is_linked, &module));
        fault_arm("store.link", 0);
        assert_false(is_linked);
        assert_true(store_check_identity(fixture->store, &module.sha256, NULL, &module.identity));
        assert_int_equal(census_take(fixture).leases, 0);
        is_linked = true;
        assert_true(commit_leased(fixture, 2, "No Label", &is_linked, &module));
        assert_false(is_linked);
        for (unsigned i = 0; i < COUNT_OF(faults); i++) {
                struct digest digest = content_digest(3 + i, 300000);
                fixture_reopen(fixture);
                fault_arm(faults[i], 1);
                assert_false(commit_leased(fixture, 3 + i, "team-a", &is_linked, &module));
                fault_arm(faults[i], 0);
                assert_false(path_exists(link_path(fixture, "team-a", &digest)));
                assert_int_equal(census_take(fixture).leases, 0);
        }
}

static void test_fsync_never_again(void **state)
{
        struct fixture *fixture = *state;
        struct blob_writer *writer = NULL;
        assert_true(content_write(fixture, 1, 100, &writer));
        fault_arm("store.fsync", 1);
        assert_false(store_commit(fixture->store, &(struct store_commit){ .writer = writer }, NULL, &fixture->err));
        fault_arm("store.fsync", 0);
        assert_false(store_commit(fixture->store, &(struct store_commit){ .writer = writer }, NULL, &fixture->err));
        assert_int_equal(store_get_health(fixture->store), STORE_FAILING);
        blob_writer_free(&writer);
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), 0);
}

/* Others remove what we commit: "not there" and "committed again" are honest answers, everything else is not. */
static bool race_allowed(const struct error *err)
{
        return err->code == ERROR_BUSY || err->code == ERROR_NOT_FOUND;
}

static void *committer(void *arg)
{
        struct fixture mine = *(struct fixture *)arg;
        for (unsigned i = 0; i < 20; i++) {
                struct store_module module = { 0 };
                struct store_identity identity;
                bool is_good = content_commit(&mine, 50 + i % 5, 300000 + i % 5, &module);
                is_good = is_good && (store_link(mine.store, &module.sha256, i % 2 ? "team-a" : "team-b", &identity, &mine.err) || race_allowed(&mine.err));
                is_good = is_good && store_unlink(mine.store, &module.sha256, "team-a", &identity, &mine.err);
                if (is_good && i % 7 == 6)
                        is_good = store_remove_module(mine.store, &module.sha256, module.created_s, &mine.err) || race_allowed(&mine.err);
                if (!is_good)
                        return string_copy(mine.err.text);
        }
        return NULL;
}

static void test_parallel(void **state)
{
        struct fixture *fixture = *state;
        pthread_t threads[4];
        for (size_t i = 0; i < COUNT_OF(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, committer, fixture), 0);
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
                void *text = NULL;
                pthread_join(threads[i], &text);
                if (text)
                        fail_msg("%s", (char *)text);
        }
        size_t modules = census_take(fixture).modules;
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), modules);
        assert_int_equal(folder_count(fixture_path(fixture, "quarantine")), 0);
        assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                ROW(test_writer), ROW(test_writer_full), ROW(test_writer_sha512), ROW(test_writer_limit), ROW(test_writer_restart), ROW(test_commit), ROW(test_rows), ROW(test_grants),
                ROW(test_touch), ROW(test_handout), ROW(test_handouts), ROW(test_commit_fails), ROW(test_commit_leased), ROW(test_commit_leased_fails),
                ROW(test_fsync_never_again), ROW(test_parallel),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
