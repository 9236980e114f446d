/* The store's secret: made once, private, never in the index; whatever is wrong with it costs the seals and not the start. And the seals of images, as they were saved. */
#include "test_store_tools.h"

enum { SECRET_BYTES = 32 };

static void secret_copy_to(const struct fixture *fixture, uint8_t ret_bytes[SECRET_BYTES])
{
        const struct secret *secret = store_get_seal_key(fixture->store);
        assert_non_null(secret);
        assert_int_equal(secret_get_size(secret), SECRET_BYTES);
        memcpy(ret_bytes, secret_get_text(secret), SECRET_BYTES);
}

static void shell(const struct fixture *fixture, const char *command)
{
        char text[700];
        snprintf(text, sizeof text, "cd '%s' && %s", fixture->root, command);
        assert_int_equal(system(text), 0);
}

static void expect_file(const struct fixture *fixture)
{
        struct stat info;
        uint8_t bytes[SECRET_BYTES], found[SECRET_BYTES + 1];
        secret_copy_to(fixture, bytes);
        assert_int_equal(lstat(fixture_path(fixture, "secret"), &info), 0);
        assert_true(S_ISREG(info.st_mode));
        assert_int_equal(info.st_mode & 07777, 0600);
        FILE *file = fopen(fixture_path(fixture, "secret"), "r");
        assert_non_null(file);
        assert_int_equal(fread(found, 1, sizeof found, file), SECRET_BYTES);
        fclose(file);
        assert_memory_equal(found, bytes, SECRET_BYTES);
}

static void test_kept(void **state)
{
        struct fixture *fixture = *state;
        uint8_t first[SECRET_BYTES], again[SECRET_BYTES], zero[SECRET_BYTES] = { 0 };
        secret_copy_to(fixture, first);
        assert_memory_not_equal(first, zero, sizeof first);
        assert_memory_not_equal(first, store_get_key(fixture->store), sizeof first);
        expect_file(fixture);
        fixture_reopen(fixture);
        secret_copy_to(fixture, again);
        assert_memory_equal(first, again, sizeof first);
        expect_file(fixture);

        /* It is nowhere in the index, and a new index does not change it. */
        store_close(&fixture->store);
        CLEANUP(buffer_fini) struct buffer index = { 0 };
        assert_true(fs_load(AT_FDCWD, fixture_path(fixture, "index.sqlite"), 64 << 20, &index, &fixture->err));
        assert_non_null(memmem(index.data, index.used, "secret", 6));      /* of the schema: the text of a column */
        assert_null(memmem(index.data, index.used, first, sizeof first));
        shell(fixture, "rm index.sqlite");
        fixture_open(fixture);
        secret_copy_to(fixture, again);
        assert_memory_equal(first, again, sizeof first);
}

static void test_replaced(void **state)
{
        static const char *const damages[] = {
                "rm secret", "truncate -s 31 secret", "truncate -s 33 secret", "truncate -s 0 secret", "chmod 0640 secret", "chmod 0604 secret", "chmod 0620 secret", "chmod 0601 secret",
                "mv secret s2 && ln -s s2 secret", "ln secret hard", "mv secret s3 && mkfifo -m 0600 secret", "chmod 0200 secret",
        };
        struct fixture *fixture = *state;
        uint8_t before[SECRET_BYTES], after[SECRET_BYTES];
        for (size_t i = 0; i < COUNT_OF(damages); i++) {
                if (i + 1 == COUNT_OF(damages) && geteuid() == 0)
                        continue;                 /* root may read it all the same */
                secret_copy_to(fixture, before);
                store_close(&fixture->store);
                shell(fixture, damages[i]);
                fixture_open(fixture);
                secret_copy_to(fixture, after);
                if (memcmp(before, after, sizeof before) == 0)
                        fail_msg("after \"%s\" the old secret still counts", damages[i]);
                expect_file(fixture);
        }
        /* Other bytes in the same form are another secret, not an error. */
        store_close(&fixture->store);
        shell(fixture, "printf 0123456789abcdef0123456789abcdef > secret");
        fixture_open(fixture);
        secret_copy_to(fixture, after);
        assert_memory_equal(after, "0123456789abcdef0123456789abcdef", sizeof after);
}

/* Where it cannot be kept it is of this process alone, and the store opens. */
static void test_not_kept(void **state)
{
        struct fixture *fixture = *state;
        uint8_t first[SECRET_BYTES], second[SECRET_BYTES];
        store_close(&fixture->store);
        shell(fixture, "rm secret && mkdir -p secret/full");
        fixture_open(fixture);
        secret_copy_to(fixture, first);
        fixture_reopen(fixture);
        secret_copy_to(fixture, second);
        assert_memory_not_equal(first, second, sizeof first);
        shell(fixture, "test $(ls | grep -c secret) = 1");         /* no temporary file is left */

        store_close(&fixture->store);
        shell(fixture, "rmdir secret/full secret");
        fault_arm("store.read_only", 1);
        fixture_open(fixture);
        secret_copy_to(fixture, first);
        fault_arm("store.read_only", 0);
        fixture_reopen(fixture);
        secret_copy_to(fixture, second);
        assert_memory_not_equal(first, second, sizeof first);
        expect_file(fixture);
}

/* ---- seals of images */
struct seen { size_t count; struct store_image rows[8]; char types[8][64]; };

static void seen_image(void *arg, const struct store_image *row)
{
        struct seen *seen = arg;
        assert_true(seen->count < COUNT_OF(seen->rows));
        assert_string_equal(row->document, "");
        snprintf(seen->types[seen->count], sizeof seen->types[0], "%s|%s", row->media_type, row->layer_type);
        seen->rows[seen->count++] = *row;
}

static struct seen look(struct fixture *fixture, struct digest target)
{
        struct seen seen = { 0 };
        const struct store_evidence_visitor visitor = { .arg = &seen, .image = seen_image };
        assert_true(store_load_targets(fixture->store, &target, 1, &visitor, &fixture->err));
        return seen;
}

static void put(struct fixture *fixture, const struct store_image *image)
{
        if (!store_commit(fixture->store, &(struct store_commit){ .image = image }, NULL, &fixture->err))
                fail_msg("%s", fixture->err.text);
}

static void test_seals(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000), other = content_put(fixture, 2, 1000);
        struct store_image image = { name_digest("manifest"), name_digest("top"), module.sha256, name_digest("layer"), "a", "b", "{}", name_digest("seal") };
        put(fixture, &image);
        for (int i = 0; i < 2; i++) {
                struct seen by_top = look(fixture, image.top), by_manifest = look(fixture, image.manifest);
                assert_int_equal(by_top.count, 1);
                assert_int_equal(by_manifest.count, 1);
                assert_string_equal(by_top.types[0], "a|b");
                const struct digest *found[] = { &by_top.rows[0].manifest, &by_top.rows[0].top, &by_top.rows[0].module, &by_top.rows[0].layer, &by_top.rows[0].seal };
                const struct digest *put_in[] = { &image.manifest, &image.top, &image.module, &image.layer, &image.seal };
                for (size_t j = 0; j < COUNT_OF(found); j++)
                        assert_true(digest_equal(found[j], put_in[j]));
                fixture_reopen(fixture);
        }
        assert_int_equal(look(fixture, image.layer).count, 0);
        assert_int_equal(look(fixture, image.module).count, 0);

        /* Saved again without one it stays, with one it is that; below another index it is a row of its own. */
        image.seal = (struct digest){ 0 };
        put(fixture, &image);
        assert_true(digest_is_set(&look(fixture, image.top).rows[0].seal));
        image.seal = name_digest("new seal");
        image.module = other.sha256;
        put(fixture, &image);
        struct seen seen = look(fixture, image.top);
        assert_true(digest_equal(&seen.rows[0].seal, &image.seal) && digest_equal(&seen.rows[0].module, &other.sha256));
        image.top = name_digest("another top");
        image.seal = (struct digest){ 0 };
        put(fixture, &image);
        assert_int_equal(look(fixture, image.manifest).count, 2);

        /* What is sealed is all that the manifest leads to: rows of another module go. Without a seal, and of another manifest, nothing is taken away. */
        struct store_image wrong = image, sealed = image;
        wrong.top = name_digest("third top");
        wrong.module = module.sha256;
        put(fixture, &wrong);
        sealed.seal = name_digest("its seal");
        sealed.manifest = name_digest("another manifest");
        put(fixture, &sealed);
        assert_int_equal(look(fixture, image.manifest).count, 3);
        sealed.manifest = image.manifest;
        sealed.top = name_digest("top");
        put(fixture, &sealed);
        assert_int_equal(look(fixture, image.manifest).count, 2);
        assert_int_equal(look(fixture, wrong.top).count, 0);
        assert_int_equal(look(fixture, image.top).count, 2);
        assert_int_equal(look(fixture, name_digest("another manifest")).count, 1);
        seen = look(fixture, image.top);
        assert_int_equal(seen.count, 2);
        assert_false(digest_is_set(&seen.rows[0].seal) && digest_is_set(&seen.rows[1].seal));

        /* What is no digest is no seal, and no error. */
        store_close(&fixture->store);
        shell(fixture, "sqlite3 index.sqlite \"UPDATE image SET seal = x'01ff'\"");
        fixture_open(fixture);
        seen = look(fixture, image.manifest);
        assert_int_equal(seen.count, 2);
        assert_false(digest_is_set(&seen.rows[0].seal) || digest_is_set(&seen.rows[1].seal));
}

#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = { ROW(test_kept), ROW(test_replaced), ROW(test_not_kept), ROW(test_seals) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
