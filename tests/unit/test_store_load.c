/* What a start reads of a large store: one state of all rows, what one request may mean, and the blobs later than the rest. */
#include "test_store_tools.h"

static struct digest digest_of(const char *text)
{
        struct digest digest;
        digest_sha256(text, strlen(text), &digest);
        return digest;
}

/* A module with an image of this manifest and top, a name, a grant, and, if named, a resource. */
static struct store_module image_put(struct fixture *fixture, unsigned number, const char *top, const char *resource)
{
        CLEANUP(cleanup_free) char *manifest = string_format("manifest %u", number), *name = string_format("oci://r.example/m%u:v1", number);
        struct blob_writer *writer = NULL;
        struct store_module module;
        struct digest digest = digest_of(manifest), index = top ? digest_of(top) : digest;
        const struct store_image image = { .manifest = digest, .top = index, .media_type = "type", .layer_type = "layer", .document = "{}" };
        const struct store_reference reference = { .name = name, .top = index, .manifest = digest, .etag = "", .checked_s = 1 };
        const struct store_grant grant = { .manifest = digest, .repository = name + 6, .kind = "anonymous", .namespace = "", .secret = "", .granted_s = 1, .last_ok_s = 1 };
        const struct store_resource row = { .namespace = "team-a", .name = resource, .version = "1", .reference = name, .manifest = digest };
        if (!content_write(fixture, number, 100 + number, &writer) ||
            !store_commit(fixture->store, &(struct store_commit){ .writer = writer, .image = &image, .reference = &reference, .grant = &grant, .resource = resource ? &row : NULL }, &module, &fixture->err))
                fail_msg("%s", fixture->err.text);
        blob_writer_free(&writer);
        return module;
}

static struct store_module leased_put(struct fixture *fixture, unsigned number, const char *top, const char *resource)
{
        CLEANUP(cleanup_free) char *id = string_format("lease-%u", number);
        struct store_module module = image_put(fixture, number, top, resource);
        lease_put(fixture, id, "team-a", &module.sha256, clock_get_wall_s() + 1000);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &module.identity, &fixture->err));
        return module;
}

static struct census found_take(struct fixture *fixture, struct store_reader *reader, const struct store_question *question)
{
        struct census census = { 0 };
        const struct store_visitor visitor = { &census, census_module, census_image, census_reference, census_grant, census_resource, census_lease, true, NULL };
        if (!store_load_found(reader, question, &visitor, &fixture->err))
                fail_msg("%s", fixture->err.text);
        assert_int_equal(census.images, census.modules);
        assert_int_equal(census.references, census.modules);
        assert_int_equal(census.grants, census.modules);
        assert_int_equal(census.leases, census.modules);
        return census;
}

static void test_found(void **state)
{
        struct fixture *fixture = *state;
        struct store_reader *reader = NULL;
        struct store_module first = leased_put(fixture, 1, NULL, NULL), second = leased_put(fixture, 2, "index", "plugin");
        leased_put(fixture, 3, "index", NULL);
        const struct digest manifest = digest_of("manifest 1"), child = digest_of("manifest 2"), index = digest_of("index"), none = digest_of("none");
        /* what is asked for → how many modules that may be, and how many resources name them */
        const struct { struct store_question question; size_t modules, resources; const struct digest *last; } rows[] = {
                { { "oci://r.example/m1:v1", NULL, NULL, NULL }, 1, 0, &first.sha256 },
                { { "oci://r.example/m1:v1", NULL, "team-a", "none" }, 1, 0, &first.sha256 },
                { { "oci://r.example/m1:V1", NULL, NULL, NULL }, 0, 0, NULL },
                { { "", NULL, NULL, NULL }, 0, 0, NULL },
                { { "", &none, NULL, NULL }, 0, 0, NULL },
                { { "", &manifest, NULL, NULL }, 1, 0, &first.sha256 },
                { { "", &child, NULL, NULL }, 1, 1, &second.sha256 },
                { { "", &index, NULL, NULL }, 2, 1, NULL },
                { { "", &first.sha256, NULL, NULL }, 1, 0, &first.sha256 },
                { { "", NULL, "team-a", "plugin" }, 1, 1, &second.sha256 },
                { { "", NULL, "team-b", "plugin" }, 0, 0, NULL },
                { { "oci://r.example/m1:v1", &index, "team-a", "plugin" }, 3, 1, NULL },
        };
        assert_true(store_reader_open(fixture->store, &reader, &fixture->err));
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct census census = found_take(fixture, reader, &rows[i].question);
                assert_int_equal(census.modules, rows[i].modules);
                assert_int_equal(census.resources, rows[i].resources);
                if (rows[i].last)
                        assert_true(digest_equal(&census.last_module.sha256, rows[i].last));
        }
        /* It sees what was written since, also while a transaction of its own is not open. */
        leased_put(fixture, 4, NULL, NULL);
        assert_int_equal(found_take(fixture, reader, &(struct store_question){ .name = "oci://r.example/m4:v1" }).modules, 1);
        assert_true(store_remove_module(fixture->store, &first.sha256, first.created_s, &fixture->err));
        assert_int_equal(found_take(fixture, reader, &rows[0].question).modules, 0);
        assert_int_equal(census_take(fixture).modules, 3);
        store_reader_close(&reader);
}

static void cancel_at_second(void *arg, const struct store_module *row)
{
        struct store_visitor *visitor = arg;
        (void)row;
        cancel_trigger(visitor->cancel);
}

static void write_meanwhile(void *arg, const struct store_module *row)
{
        struct fixture *fixture = arg;
        assert_true(store_save_pin(fixture->store, &row->sha256, true, &fixture->err));
}

/* A reading of everything keeps nobody from writing, and ends when it is told to. */
static void test_all(void **state)
{
        struct fixture *fixture = *state;
        for (unsigned i = 0; i < 5; i++)
                image_put(fixture, i, NULL, NULL);
        struct store_visitor visitor = { .arg = fixture, .module = write_meanwhile };
        assert_true(store_load_all(fixture->store, &visitor, &fixture->err));
        assert_true(census_take(fixture).last_module.is_pinned);

        visitor = (struct store_visitor){ .module = cancel_at_second, .cancel = cancel_new() };
        visitor.arg = &visitor;
        assert_false(store_load_all(fixture->store, &visitor, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_BUSY);
        cancel_free(&visitor.cancel);
}

static void shell(const struct fixture *fixture, const char *command)
{
        CLEANUP(cleanup_free) char *text = string_format("cd '%s' && %s", fixture->root, command);
        if (system(text) != 0)
                fail_msg("%s", text);
}

static void open_large(struct fixture *fixture)
{
        fault_arm("store.large", 1);
        fixture->err = (struct error){ 0 };
        if (!store_open(&(struct store_options){ .root = fixture->root, .settles_later = true }, &fixture->store, &fixture->report, &fixture->err))
                fail_msg("%s", fixture->err.text);
}

/* The look at the blobs comes later; until then what is wrong is found by the hand-out, and an end is no clean one. */
static void test_settle_later(void **state)
{
        struct fixture *fixture = *state;
        struct store_report report;
        struct store_identity identity;
        struct store_module gone = image_put(fixture, 1, NULL, NULL), bad = leased_put(fixture, 2, NULL, NULL);
        struct store_module asked = leased_put(fixture, 3, NULL, NULL), same = leased_put(fixture, 4, NULL, NULL);
        CLEANUP(cleanup_free) char *path = string_copy(blob_path(fixture, &bad.sha256)), *other = string_copy(blob_path(fixture, &asked.sha256));
        fixture_crash(fixture);
        unlink(blob_path(fixture, &gone.sha256));
        file_write(path, "no module", 9);
        file_write(other, "nor this", 8);
        shell(fixture, "h=$(printf hello | sha256sum | cut -c1-64); d=$(echo $h | cut -c1-2); mkdir -p blobs/$d; printf hello > blobs/$d/$h; echo x > blobs/stray");
        open_large(fixture);
        assert_int_equal(census_take(fixture).modules, 4);
        assert_int_equal(fixture->report.adopted + fixture->report.dropped_rows, 0);
        assert_false(store_link(fixture->store, &asked.sha256, "team-b", &identity, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_CHECKSUM_MISMATCH);
        assert_true(store_link(fixture->store, &same.sha256, "team-b", &identity, &fixture->err));

        /* Ended before it was settled: by a stop that cancels it, then by one that never began. */
        struct cancel *cancel = cancel_new();
        cancel_trigger(cancel);
        assert_false(store_settle(fixture->store, cancel, &report, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_BUSY);
        cancel_free(&cancel);
        store_close(&fixture->store);
        open_large(fixture);
        store_close(&fixture->store);
        open_large(fixture);
        assert_true(path_exists(path));

        /* On a full disk: the reserve is given up for it, and if that is not enough, it is done when there is room. */
        assert_true(path_exists(fixture_path(fixture, "reserve")));
        fault_arm("store.begin", 1);
        assert_false(store_settle(fixture->store, NULL, &report, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
        assert_false(path_exists(fixture_path(fixture, "reserve")));
        fault_arm("store.begin", 0);
        size_t before = report.quarantined;
        assert_true(store_settle(fixture->store, NULL, &report, &fixture->err));
        assert_int_equal(report.adopted, 1);
        assert_int_equal(report.dropped_rows, 2);         /* gone and bad; the one asked for went before */
        assert_int_equal(before + report.quarantined, 2);
        assert_false(path_exists(path));
        assert_false(path_exists(link_path(fixture, "team-a", &bad.sha256)));
        assert_int_equal(census_take(fixture).modules, 2);
        assert_int_equal(census_take(fixture).leases, 1);

        /* Settled: said once. What the full disk left half done makes the next start look again; then the end is a clean one. */
        for (int i = 0; i < 2; i++) {
                assert_true(store_settle(fixture->store, NULL, &report, &fixture->err));
                assert_int_equal(report.adopted + report.dropped_rows + report.quarantined, 0);
                store_close(&fixture->store);
                if (i == 0)
                        open_large(fixture);
        }
        shell(fixture, "test \"$(sqlite3 index.sqlite \"SELECT value FROM meta WHERE name = 'clean'\")\" = 1");
        fault_arm("store.large", 0);
        fixture_open(fixture);
}

/* What was seen damaged is looked through at the next start, however large it is and however it ended. */
static void test_suspect(void **state)
{
        struct fixture *fixture = *state;
        struct store_visitor visitor = { .arg = NULL };
        struct census census = { 0 };
        for (unsigned i = 0; i < 300; i++)
                image_put(fixture, i, NULL, NULL);
        store_close(&fixture->store);
        /* All pages of the grants but the first: no start looks at them but the one that reads them. */
        shell(fixture, "for p in $(sqlite3 index.sqlite \"SELECT pageno FROM dbstat WHERE name = 'grant' AND pagetype = 'leaf'\"); do"
                       " dd if=/dev/urandom of=index.sqlite bs=4096 seek=$((p - 1)) count=1 conv=notrunc status=none; done");
        open_large(fixture);
        visitor = (struct store_visitor){ &census, census_module, census_image, census_reference, census_grant, census_resource, census_lease, true, NULL };
        assert_false(store_load_all(fixture->store, &visitor, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_INTERNAL);
        assert_true(path_exists(fixture_path(fixture, "index.suspect")));
        store_close(&fixture->store);
        open_large(fixture);
        struct store_report report;
        assert_true(store_settle(fixture->store, NULL, &report, &fixture->err));
        assert_int_equal(report.adopted, 300);
        assert_int_equal(census_take(fixture).grants, 0);
        assert_false(path_exists(fixture_path(fixture, "index.suspect")));
        fault_arm("store.large", 0);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = { ROW(test_found), ROW(test_all), ROW(test_settle_later), ROW(test_suspect) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
