/* Full and read-only file systems for real: a file size limit (anybody), and a small tmpfs in a mount namespace of our own (as root; else that part is skipped). */
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include "test_store_tools.h"

static void test_file_limit(void **state)
{
        struct fixture *fixture = *state;
        struct rlimit before, small = { 200000, 0 };
        signal(SIGXFSZ, SIG_IGN);
        assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
        small.rlim_max = before.rlim_max;
        content_put(fixture, 1, 1000);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        bool is_good = content_commit(fixture, 2, 600000, NULL);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_false(is_good);
        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
        assert_int_equal(store_get_health(fixture->store), STORE_HEALTHY);
        assert_int_equal(census_take(fixture).modules, 1);
        content_put(fixture, 2, 600000);
}

static bool own_mounts(void)
{
        return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
}

/* Until nothing more fits, in ever smaller pieces; the last piece is a plain file, as others fill disks too. */
static unsigned fill(struct fixture *fixture, struct store_module *ret_big)
{
        unsigned number = 100;
        *ret_big = content_put(fixture, number++, 300000);
        for (size_t size = 300000; size > 1000; size /= 2)
                while (content_commit(fixture, number, size, NULL))
                        number++;
        if (fixture->err.code != ERROR_STORE_FULL)
                fail_msg("%s", fixture->err.text);
        int fd = open(fixture_path(fixture, "filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char page[512] = { 0 };
        while (write(fd, page, sizeof page) > 0)
                continue;
        close(fd);
        return number - 100;
}

static void live_on_small_disk(struct fixture *fixture)
{
        struct store_identity identity, now;
        struct store_module module = content_put(fixture, 1, 1000);
        lease_put(fixture, "l", "team-a", &module.sha256, clock_get_wall_s() + 1000);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));

        struct store_module big;
        unsigned count = fill(fixture, &big);
        assert_true(count > 1);
        assert_int_equal(census_take(fixture).modules, count + 1);
        assert_int_equal(folder_count(fixture_path(fixture, "blobs")), count + 1);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &identity));
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &now, &fixture->err));

        /* A start on a full disk: hits go on. */
        fixture_reopen(fixture);
        assert_int_equal(census_take(fixture).modules, count + 1);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &identity));
        assert_false(content_commit(fixture, 2, 3000000, NULL));
        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);

        /* Letting go works on the full disk too, and makes room. */
        assert_int_equal(store_get_health(fixture->store), STORE_HEALTHY);
        if (!store_remove_module(fixture->store, &big.sha256, big.created_s, &fixture->err))
                fail_msg("%s", fixture->err.text);
        assert_int_equal(unlink(fixture_path(fixture, "filler")), 0);

        /* Read-only from the start (the kernel does not let a mount with open files become it). */
        module = content_put(fixture, 1, 1000);
        assert_true(store_link(fixture->store, &module.sha256, "team-a", &identity, &fixture->err));
        store_close(&fixture->store);
        assert_int_equal(mount(NULL, fixture->folder, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY, NULL), 0);
        fixture_open(fixture);
        assert_false(content_commit(fixture, 3, 1000, NULL));
        assert_int_equal(fixture->err.code, ERROR_STORE_FULL);
        assert_non_null(strstr(fixture->err.text, "read-only"));
        assert_int_equal(store_get_health(fixture->store), STORE_READ_ONLY);
        assert_true(store_check_identity(fixture->store, &module.sha256, "team-a", &identity));
        assert_true(census_take(fixture).modules > 0);
        int fd = store_open_blob(fixture->store, &module.sha256, &fixture->err);
        assert_true(fd >= 0);
        close(fd);
        store_close(&fixture->store);
        assert_int_equal(mount(NULL, fixture->folder, NULL, MS_REMOUNT | MS_BIND, NULL), 0);
        fixture_open(fixture);
        content_put(fixture, 3, 1000);
        assert_int_equal(store_get_health(fixture->store), STORE_HEALTHY);
        store_close(&fixture->store);
}

static void test_small_disk(void **state)
{
        struct fixture *fixture = *state;
        store_close(&fixture->store);
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
                if (!own_mounts() || mount("tmpfs", fixture->folder, "tmpfs", 0, "size=2m") != 0)
                        _exit(77);
                fixture_open(fixture);
                live_on_small_disk(fixture);
                fflush(NULL);
                _exit(0);
        }
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        fixture_open(fixture);                    /* the folder below the mount of the child */
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
                print_message("SKIP: file systems cannot be mounted here\n");
                skip();
        }
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = { ROW(test_file_limit), ROW(test_small_disk) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
