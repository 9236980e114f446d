/* What a start makes of what it finds: the store lines of the fault matrix. */
#include "test_store_tools.h"
#include <sched.h>
#include <sys/mount.h>

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
        char command[1500];
        va_list list;
        va_start(list, format);
        vsnprintf(command, sizeof command, format, list);
        va_end(list);
        if (system(command) != 0)
                fail_msg("%s", command);
}

static void test_root_refused(void **state)
{
        /* how the root is prepared ($R), and what the refusal says */
        static const struct { const char *prepare, *says; } rows[] = {
                { "mv $R $R.x && ln -s $R.x $R", "symlink" },      { "chmod 1777 $R", "writable by everyone" },          { "rm -rf $R && touch $R", "no folder" },
                { "rm -rf $R/blobs && ln -s /tmp $R/blobs", "blobs" }, { "rm -rf $R/modules && touch $R/modules", "modules" },
        };
        struct fixture *fixture = *state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                store_close(&fixture->store);
                shell("R='%s'; rm -rf \"$R\" \"$R.x\"; mkdir -p \"$R\"; %s", fixture->root, rows[i].prepare);
                assert_false(fixture_try(fixture));
                print_message("%s\n", fixture->err.text);
                assert_non_null(strstr(fixture->err.text, rows[i].says));
                assert_null(fixture->store);
        }
        struct fixture relative = { .root = "some/where" };
        assert_false(fixture_try(&relative));
        shell("rm -rf '%s'", fixture->root);
        fixture_open(fixture);
}

/* What only root can prepare: a root that is another user's, and a folder on a file system of its own, in which no hard link could be made. */
static void test_root_of_others(void **state)
{
        struct fixture *fixture = *state;
        if (geteuid() != 0)
                skip();
        store_close(&fixture->store);
        assert_int_equal(chown(fixture->root, 12345, 0), 0);
        assert_false(fixture_try(fixture));
        assert_non_null(strstr(fixture->err.text, "belongs to uid 12345"));
        assert_int_equal(chown(fixture->root, 0, 0), 0);

        pid_t child = fork();
        if (child == 0) {
                if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0 || mount("none", fixture_path(fixture, "blobs"), "tmpfs", 0, NULL) != 0)
                        _exit(77);
                _exit(!fixture_try(fixture) && strstr(fixture->err.text, "blobs is on another file system") ? 0 : 1);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 77));
        fixture_open(fixture);
}

static void test_modes(void **state)
{
        static const struct { const char *name; mode_t mode; } rows[] = {
                { "", 0711 }, { "blobs", 0700 }, { "tmp", 0700 }, { "quarantine", 0700 }, { "modules", 0755 }, { "modules/team-a", 0755 },
        };
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 10);
        struct store_identity identity;
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));
        store_close(&fixture->store);
        shell("cd '%s' && chmod 0700 . modules modules/team-a && chmod 0755 blobs tmp quarantine", fixture->root);
        fixture_open(fixture);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct stat info;
                assert_int_equal(stat(fixture_path(fixture, "%s", rows[i].name), &info), 0);
                assert_int_equal(info.st_mode & 07777, rows[i].mode);
        }
}

static void test_two_daemons(void **state)
{
        struct fixture *fixture = *state, second = { 0 };
        snprintf(second.root, sizeof second.root, "%.290s//", fixture->root);
        for (int i = 0; i < 20; i++) {
                char pid[32];
                assert_false(fixture_try(&second));
                assert_int_equal(second.err.code, ERROR_BUSY);
                snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
                assert_non_null(strstr(second.err.text, pid));
        }
        content_put(fixture, 1, 100);
        store_close(&fixture->store);
        fixture_open(&second);
        assert_int_equal(census_take(&second).modules, 1);
        store_close(&second.store);
}

/* After a clean or an unclean end: what was done to the store while it was closed → what the report says, and how many modules are left of three. */
static const struct { const char *work; bool is_clean; size_t adopted, quarantined, dropped, modules; } rows[] = {
        { "true", true, 0, 0, 0, 3 },
        { "true", false, 0, 0, 0, 3 },
        { "echo x > tmp/blob-1; mkdir tmp/sub; echo y > tmp/sub/z", true, 0, 0, 0, 3 },
        { "rm -f blobs/*/$A", false, 0, 0, 1, 2 },
        { "rm -rf blobs", false, 0, 0, 3, 0 },
        { "chmod u+w blobs/*/$A; printf X | dd of=$(echo blobs/*/$A) bs=1 seek=5 conv=notrunc status=none", false, 0, 1, 1, 2 },
        { "f=$(echo blobs/*/$A); cp $f $f.new && mv $f.new $f", false, 0, 0, 0, 3 },
        { "f=$(echo blobs/*/$A); head -c 100000 /dev/zero > $f.new && mv $f.new $f", false, 0, 1, 1, 2 },
        { "f=$(echo blobs/*/$A); rm -f $f; ln -s /etc/passwd $f", false, 0, 1, 1, 2 },
        { "f=$(echo blobs/*/$A); rm -f $f; mkfifo $f", false, 0, 1, 1, 2 },
        { "f=$(echo blobs/*/$A); rm -f $f; mkdir $f", false, 0, 1, 1, 2 },
        { "f=$(echo blobs/*/$A); touch $f", false, 0, 0, 0, 3 },
        { "sqlite3 index.sqlite \"DELETE FROM module WHERE hex(sha256) = upper('01$A')\"", false, 1, 0, 0, 3 },
        { "d=ab; mkdir -p blobs/$d; echo x > blobs/$d/abcd; echo y > blobs/zz; mkdir blobs/other", false, 0, 3, 0, 3 },
        { "h=$(printf hello | sha256sum | cut -c1-64); d=$(echo $h | cut -c1-2); mkdir -p blobs/$d; printf hello > blobs/$d/$h", false, 1, 0, 0, 4 },
        { "h=$(printf hello | sha256sum | cut -c1-64); d=$(echo $h | cut -c1-2); mkdir -p blobs/$d; printf hallo > blobs/$d/$h", false, 0, 1, 0, 3 },
        { "d=$(echo $A | cut -c1-2); mkdir -p blobs/00; cp blobs/$d/$A blobs/00/$A", false, 0, 1, 0, 3 },
};

static void test_sweep(void **state)
{
        struct fixture *fixture = *state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char hex[DIGEST_TEXT_BYTES];
                print_message("%s\n", rows[i].work);
                store_close(&fixture->store);
                shell("rm -rf '%s'", fixture->root);
                fixture_open(fixture);
                struct store_module a = content_put(fixture, 1, 100000);
                content_put(fixture, 2, 100);
                content_put(fixture, 3, 10);
                digest_format_hex(&a.sha256, hex);
                if (rows[i].is_clean)
                        store_close(&fixture->store);
                else
                        fixture_crash(fixture);
                shell("cd '%s' && A=%s && { %s; }", fixture->root, hex, rows[i].work);
                fixture_open(fixture);
                assert_int_equal(fixture->report.adopted, rows[i].adopted);
                assert_int_equal(fixture->report.quarantined, rows[i].quarantined);
                assert_int_equal(fixture->report.dropped_rows, rows[i].dropped);
                assert_false(fixture->report.index_rebuilt);
                assert_int_equal(census_take(fixture).modules, rows[i].modules);
                assert_int_equal(folder_count(fixture_path(fixture, "tmp")), 0);
                assert_int_equal(folder_count(fixture_path(fixture, "blobs")), rows[i].modules);
                fixture_crash(fixture);
                fixture_open(fixture);            /* once is enough */
                assert_int_equal(fixture->report.adopted + fixture->report.quarantined + fixture->report.dropped_rows, 0);
        }
}

/* After a clean end files are not looked at, but a hand-out does not let a replaced one pass. */
static void test_replaced_while_clean(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000), good = content_put(fixture, 2, 1000);
        struct store_identity identity;
        lease_put(fixture, "l", "team-a", &module.sha256, clock_get_wall_s() + 100);
        store_close(&fixture->store);
        shell("f='%s'; chmod u+w $f; printf X | dd of=$f bs=1 seek=5 conv=notrunc status=none", blob_path(fixture, &module.sha256));
        fixture_open(fixture);
        assert_int_equal(fixture->report.quarantined, 1);         /* leased: its link had to be made, and it was looked at */
        assert_int_equal(census_take(fixture).leases, 0);
        store_close(&fixture->store);
        shell("f='%s'; chmod u+w $f; printf X | dd of=$f bs=1 seek=5 conv=notrunc status=none", blob_path(fixture, &good.sha256));
        fixture_open(fixture);
        struct store_module row = census_take(fixture).last_module;
        assert_false(store_check_identity(fixture->store, &good.sha256, NULL, &row.identity));
        assert_false(store_link(fixture->store, &good.sha256, "team-a", &identity, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_CHECKSUM_MISMATCH);
        assert_false(path_exists(link_path(fixture, "team-a", &good.sha256)));
        assert_int_equal(census_take(fixture).modules, 0);
        assert_int_equal(folder_count(fixture_path(fixture, "quarantine")), 2);
}

static void test_replaced_under_us(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000);
        struct store_identity linked, now;
        char link[600];
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &linked, &fixture->err));
        snprintf(link, sizeof link, "%s", link_path(fixture, "team-a", &module.sha256));

        /* The right bytes in another file: found good, the row follows, the hand-out too. */
        shell("f='%s'; cp $f $f.n && mv $f.n $f", blob_path(fixture, &module.sha256));
        assert_false(store_check_identity(fixture->store, &module.sha256, NULL, &linked));
        assert_true(store_verify(fixture->store, &module.sha256, 0, NULL, &now, &fixture->err));
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &now, &fixture->err));
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &now));

        /* Wrong bytes in place: verify takes blob, link and rows away. */
        shell("chmod u+w '%s'; printf X | dd of='%s' bs=1 seek=5 conv=notrunc status=none", link, link);
        assert_false(store_check_identity(fixture->store, &module.sha256, "team-a", &now));
        assert_false(store_verify(fixture->store, &module.sha256, 0, NULL, &now, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_CHECKSUM_MISMATCH);
        assert_false(path_exists(link));
        assert_int_equal(census_take(fixture).modules, 0);

        /* A bad file under the name at commit: quarantined, replaced, and so is a link to it. */
        content_put(fixture, 1, 1000);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &linked, &fixture->err));
        shell("f='%s'; chmod u+w $f; printf X | dd of=$f bs=1 seek=5 conv=notrunc status=none", link);
        module = content_put(fixture, 1, 1000);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &module.identity));
        assert_int_equal(folder_count(fixture_path(fixture, "quarantine")), 2);

        /* Unreadable: the same as wrong. Gone: the same. */
        fault_arm("store.read", 1);
        assert_false(store_verify(fixture->store, &module.sha256, 0, NULL, &now, &fixture->err));
        fault_arm("store.read", 0);
        assert_int_equal(fixture->err.code, ERROR_CHECKSUM_MISMATCH);
        module = content_put(fixture, 1, 1000);
        shell("rm '%s'", blob_path(fixture, &module.sha256));
        assert_false(store_link(fixture->store, &module.sha256, "team-b", &now, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_CHECKSUM_MISMATCH);
        assert_int_equal(census_take(fixture).modules, 0);
        assert_false(store_verify(fixture->store, &module.sha256, 0, NULL, &now, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_NOT_FOUND);
}

static void test_verify_pace(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1 << 20);
        struct store_identity now;
        int64_t start_ms = clock_get_ms();
        assert_true(store_verify(fixture->store, &module.sha256, 10 << 20, NULL, &now, &fixture->err));
        assert_true(clock_get_ms() - start_ms >= 90);
        struct cancel *cancel = cancel_new();
        cancel_trigger(cancel);
        assert_false(store_verify(fixture->store, &module.sha256, 1, cancel, &now, &fixture->err));
        assert_int_equal(fixture->err.code, ERROR_BUSY);
        cancel_free(&cancel);
        assert_int_equal(census_take(fixture).modules, 1);
}

static void test_leases(void **state)
{
        struct fixture *fixture = *state;
        for (int is_clean = 0; is_clean < 2; is_clean++) {
                struct store_module module = content_put(fixture, 1, 1000), other = content_put(fixture, 2, 1000);
                struct store_identity identity;
                int64_t now_s = clock_get_wall_s();
                lease_put(fixture, "held", "team-a", &module.sha256, now_s + 1000);
                lease_put(fixture, "held-too", "team-b", &module.sha256, now_s + 1000);
                lease_put(fixture, "over", "team-c", &other.sha256, now_s - 10);
                lease_put(fixture, "swapped", "team-f", &module.sha256, now_s + 1000);
                assert_true(store_link(fixture->store, &module.sha256, "team-f", &identity, &fixture->err));
                assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));
                assert_true(store_link(fixture->store, &other.sha256, "team-c", &identity, &fixture->err));
                fixture_crash(fixture);
                /* The store was away for an hour: what was held then is held now, for as long. */
                shell("sqlite3 '%s/index.sqlite' \"UPDATE meta SET value = value - 3600 WHERE name = 'alive_s'; UPDATE lease SET expires_s = expires_s - 3600;"
                      "UPDATE meta SET value = %d WHERE name = 'clean'\"", fixture->root, is_clean);
                shell("cd '%s/modules' && mkdir -p team-d team-e/deep && echo x > team-d/stray.wasm && echo y > file", fixture->root);
                /* A link that is one, but to something else: a caller's path must not lead to it. */
                shell("echo z > '%s.other' && mv '%s.other' '%s'", fixture->root, fixture->root, link_path(fixture, "team-f", &module.sha256));
                fixture_open(fixture);
                struct census census = census_take(fixture);
                assert_int_equal(census.leases, 3);
                assert_in_range(census.last_lease.expires_s, now_s + 990, now_s + 1100);
                struct stat ours, theirs;
                assert_int_equal(stat(blob_path(fixture, &module.sha256), &ours), 0);
                assert_int_equal(stat(link_path(fixture, "team-f", &module.sha256), &theirs), 0);
                assert_true(ours.st_ino == theirs.st_ino);
                assert_true(path_exists(link_path(fixture, "team-a", &module.sha256)));
                assert_true(path_exists(link_path(fixture, "team-b", &module.sha256)));
                assert_false(path_exists(link_path(fixture, "team-c", &other.sha256)));
                assert_false(path_exists(fixture_path(fixture, "modules/team-d/stray.wasm")));
                assert_false(path_exists(fixture_path(fixture, "modules/team-e/deep")));
                assert_true(path_exists(fixture_path(fixture, "modules/team-d")));
                assert_false(path_exists(fixture_path(fixture, "modules/file")));
                for (int i = 0; i < 2; i++) {
                        identity = census_take(fixture).last_module.identity;
                        struct digest sha256 = census_take(fixture).last_module.sha256;
                        assert_true(store_check_identity(fixture->store, &sha256, NULL, &identity));
                        fixture_reopen(fixture);
                }
                store_close(&fixture->store);
                shell("rm -rf '%s'", fixture->root);
                fixture_open(fixture);
        }
}

/* How the index is hurt → it is moved aside and made again from the blobs, without grants. */
static const char *const damages[] = {
        "rm -f index.sqlite*",
        "head -c 100 index.sqlite > i && mv i index.sqlite",
        "printf garbage > index.sqlite",
        "dd if=/dev/urandom of=index.sqlite bs=4096 count=3 status=none conv=notrunc",
        "dd if=/dev/zero of=index.sqlite bs=4096 seek=1 count=6 status=none conv=notrunc",
        "dd if=/dev/urandom of=index.sqlite bs=1 seek=4100 count=3000 status=none conv=notrunc",
        "rm -f index.sqlite*; sqlite3 index.sqlite 'CREATE TABLE foreign_thing (x)'",
};

static void test_index_damaged(void **state)
{
        struct fixture *fixture = *state;
        for (size_t i = 0; i < COUNT_OF(damages); i++) {
                print_message("%s\n", damages[i]);
                store_close(&fixture->store);
                shell("rm -rf '%s'", fixture->root);
                fixture_open(fixture);
                struct store_module module = content_put(fixture, 1, 1000);
                content_put(fixture, 2, 300000);
                struct store_identity identity;
                const struct store_grant grant = { module.sha256, "r/a", "anonymous", "", "", { 0 }, 1, 1 };
                assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, NULL, &fixture->err));
                lease_put(fixture, "l", "team-a", &module.sha256, clock_get_wall_s() + 100);
                assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));
                fixture_crash(fixture);
                shell("cd '%s' && %s", fixture->root, damages[i]);
                fixture_open(fixture);
                assert_int_equal(store_get_health(fixture->store), STORE_HEALTHY);
                assert_int_equal(fixture->report.adopted, 2);
                assert_true(fixture->report.index_rebuilt);
                struct census census = census_take(fixture);
                assert_int_equal(census.modules, 2);
                assert_int_equal(census.grants + census.references + census.images + census.leases, 0);
                assert_false(path_exists(link_path(fixture, "team-a", &module.sha256)));
                if (i > 0)
                        shell("ls '%s' | grep -q '^index.sqlite.corrupt-'", fixture->root);
                content_put(fixture, 3, 10);
                fixture_reopen(fixture);
                assert_false(fixture->report.index_rebuilt);
                assert_int_equal(census_take(fixture).modules, 3);
        }
}

static void test_schema(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000);
        const struct store_grant grant = { module.sha256, "r/a", "anonymous", "", "", { 0 }, 1, 1 };
        assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, NULL, &fixture->err));
        store_close(&fixture->store);

        /* An index of schema 1 had no indexes by module. A migration that fails changes nothing; one that works leaves a copy of before. */
        shell("sqlite3 '%s/index.sqlite' 'DROP TABLE proof; DROP TABLE evidence; DROP INDEX image_top; DROP INDEX image_module; DROP INDEX reference_module;"
              " DROP INDEX resource_module; DROP INDEX lease_module; ALTER TABLE image DROP COLUMN seal; PRAGMA user_version = 1'", fixture->root);
        static const char *const faults[] = { "store.backup", "store.migration" };
        for (size_t i = 0; i < COUNT_OF(faults); i++) {
                fault_arm(faults[i], 1);
                assert_false(fixture_try(fixture));
                print_message("%s\n", fixture->err.text);
                fault_arm(faults[i], 0);
                shell("test $(sqlite3 '%s/index.sqlite' 'PRAGMA user_version') = 1", fixture->root);
        }
        fixture_open(fixture);
        assert_int_equal(census_take(fixture).grants, 1);
        shell("test $(sqlite3 '%s/index.sqlite' 'PRAGMA user_version') = 4", fixture->root);
        shell("test $(sqlite3 '%s/index.sqlite.schema-1' 'PRAGMA user_version') = 1", fixture->root);
        shell("test $(sqlite3 '%s/index.sqlite.schema-1' 'SELECT count(*) FROM \"grant\"') = 1", fixture->root);
        store_close(&fixture->store);

        shell("sqlite3 '%s/index.sqlite' 'PRAGMA user_version = 99'", fixture->root);
        assert_false(fixture_try(fixture));
        assert_non_null(strstr(fixture->err.text, "schema 99"));
        shell("test $(sqlite3 '%s/index.sqlite' 'PRAGMA user_version') = 99", fixture->root);
        shell("sqlite3 '%s/index.sqlite' 'PRAGMA user_version = 4'", fixture->root);
        fixture_open(fixture);
        assert_int_equal(census_take(fixture).grants, 1);
}

static void test_read_only(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 1000);
        struct store_identity identity, now;
        struct blob_writer *writer = NULL;
        const struct blob_writer_options options = { .size_limit = 10, .what = "x" };
        lease_put(fixture, "l", "team-a", &module.sha256, clock_get_wall_s() + 100);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));
        for (int is_clean = 0; is_clean < 2; is_clean++) {
                if (is_clean)
                        store_close(&fixture->store);
                else
                        fixture_crash(fixture);
                fault_arm("store.read_only", 1);
                fixture_open(fixture);
                assert_int_equal(store_get_health(fixture->store), STORE_READ_ONLY);
                struct census census = census_take(fixture);
                assert_int_equal(census.modules, 1);
                assert_int_equal(census.leases, 1);
                assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &identity));
                assert_true(store_link(fixture->store, &module.sha256, "team-a", &now, &fixture->err));
                assert_false(store_link(fixture->store, &module.sha256, "team-b", &now, &fixture->err));
                assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
                assert_non_null(strstr(fixture->err.text, "read-only"));
                assert_false(blob_writer_open(fixture->store, &options, &writer, &fixture->err));
                assert_false(store_save_pin(fixture->store, &module.sha256, true, &fixture->err));
                assert_false(store_save_touch(fixture->store, &(struct store_touch){ 0 }, &fixture->err));
                assert_false(store_remove_module(fixture->store, &module.sha256, module.created_s, &fixture->err));
                assert_false(store_unlink(fixture->store, &module.sha256, "team-a", &now, &fixture->err));
                assert_true(store_verify(fixture->store, &module.sha256, 0, NULL, &now, &fixture->err));
                fault_arm("store.read_only", 0);
                fixture_reopen(fixture);
                assert_int_equal(store_get_health(fixture->store), STORE_HEALTHY);
        }
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                ROW(test_root_refused), ROW(test_root_of_others), ROW(test_modes), ROW(test_two_daemons), ROW(test_sweep), ROW(test_replaced_while_clean), ROW(test_replaced_under_us), ROW(test_verify_pace),
                ROW(test_leases), ROW(test_index_damaged), ROW(test_schema), ROW(test_read_only),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
