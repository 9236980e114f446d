/* Files and folders: loads within limits, saves whole, opens beneath, removes trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

static char root[256];
static int root_fd;

static int setup(void **state)
{
        (void)state;
        const char *folder = getenv("TMPDIR");
        snprintf(root, sizeof root, "%s/base-fs-XXXXXX", folder ? folder : "/tmp");
        root_fd = mkdtemp(root) ? open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
        return root_fd < 0;
}

static int teardown(void **state)
{
        (void)state;
        struct error err = { 0 };
        close(root_fd);
        bool is_gone = fs_remove_tree(AT_FDCWD, root, &err);
        return !is_gone || access(root, F_OK) == 0;
}

static void test_load(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        assert_true(fs_save(root_fd, "ten", "0123456789", 10, 0600, &err));
        assert_true(fs_load(root_fd, "ten", 10, &content, &err));
        assert_string_equal(content.data, "0123456789");
        assert_false(fs_load(root_fd, "ten", 9, &content, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        assert_string_equal(content.data, "0123456789");          /* untouched on failure */
        assert_true(fs_save(root_fd, "empty", "", 0, 0600, &err));
        assert_true(fs_load(root_fd, "empty", 0, &content, &err));
        assert_string_equal(content.data, "");

        static const struct { const char *path; enum error_code code; } refusals[] = {
                { "absent", ERROR_NOT_FOUND }, { "ten/below", ERROR_NOT_FOUND }, { "", ERROR_NOT_FOUND }, { ".", ERROR_INTERNAL }, { "fifo", ERROR_INTERNAL }, { "loop", ERROR_INTERNAL },
                { "dangling", ERROR_NOT_FOUND },
        };
        assert_int_equal(mkfifoat(root_fd, "fifo", 0600), 0);
        assert_int_equal(symlinkat("loop", root_fd, "loop"), 0);
        assert_int_equal(symlinkat("nobody", root_fd, "dangling"), 0);
        assert_int_equal(symlinkat("ten", root_fd, "link"), 0);
        for (size_t i = 0; i < COUNT_OF(refusals); i++) {
                assert_false(fs_load(root_fd, refusals[i].path, 100, &content, &err));
                assert_int_equal(err.code, refusals[i].code);
        }
        assert_true(fs_load(root_fd, "link", 100, &content, &err));
        assert_int_equal(content.used, 10);
}

static void test_save(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct stat status;
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        CLEANUP(cleanup_free) char *path = string_format("%s/saved", root);
        umask(022);
        assert_true(fs_save(AT_FDCWD, path, "one", 3, 0640, &err));
        assert_true(fs_save(AT_FDCWD, path, "two", 3, 0640, &err));
        assert_true(fs_load(AT_FDCWD, path, 100, &content, &err));
        assert_string_equal(content.data, "two");
        assert_int_equal(stat(path, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0640);
        assert_false(fs_save(root_fd, "no/such/folder", "x", 1, 0600, &err));
        assert_int_equal(err.code, ERROR_INTERNAL);
        assert_int_equal(mkdirat(root_fd, "folder", 0700), 0);
        assert_false(fs_save(root_fd, "folder", "x", 1, 0600, &err));          /* nothing is left behind: teardown of an empty folder */
        assert_int_equal(unlinkat(root_fd, "folder", AT_REMOVEDIR), 0);
        CLEANUP(cleanup_free) char *command = string_format("test -z \"$(ls %s | grep tmp)\"", root);
        assert_int_equal(system(command), 0);
}

static void test_folders(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct stat status;
        CLEANUP(cleanup_free) char *deep = string_format("%s/a/b//c", root), *slashed = string_format("%s/a/d/", root), *file = string_format("%s/file", root);
        CLEANUP(cleanup_free) char *below = string_format("%s/file/below", root);
        assert_true(fs_make_folders(deep, 0750, &err) && fs_make_folders(deep, 0750, &err) && fs_make_folders(slashed, 0750, &err) && fs_make_folders("/", 0755, &err));
        assert_int_equal(stat(deep, &status), 0);
        assert_int_equal(status.st_mode & 07777, 0750);
        assert_true(fs_save(root_fd, "file", "x", 1, 0600, &err));
        assert_false(fs_make_folders(file, 0700, &err));
        assert_non_null(strstr(err.text, "Not a directory"));
        assert_false(fs_make_folders(below, 0700, &err));
        assert_false(fs_make_folders("", 0700, &err));
        assert_true(fs_sync_folder(root_fd, &err));
        assert_false(fs_sync_folder(-1, &err));
        assert_int_equal(err.code, ERROR_INTERNAL);
}

/* What is opened and with which errno it is not. */
static const struct { const char *path; int number; } beneath[] = {
        { "top/inside", 0 }, { "./top/../top/inside", 0 }, { "top/link", 0 }, { "top/swap", 0 }, { "../x", EXDEV }, { "/etc/passwd", EXDEV }, { "top/absolute", EXDEV }, { "top/escape", EXDEV },
        { "top/twice", EXDEV }, { "top/none", ENOENT }, { "", ENOENT }, { "top/loop", ELOOP },
};

static void test_beneath(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *top = string_format("%s/jail/top/data.1", root);
        assert_true(fs_make_folders(top, 0700, &err));
        assert_true(fs_save(root_fd, "jail/top/inside", "in", 2, 0600, &err) && fs_save(root_fd, "jail/top/data.1/file", "in", 2, 0600, &err) && fs_save(root_fd, "outside", "out", 3, 0600, &err));
        static const struct { const char *target, *name; } links[] = {
                { "inside", "jail/top/link" }, { "/etc/passwd", "jail/top/absolute" }, { "../../outside", "jail/top/escape" }, { "escape", "jail/top/twice" }, { "loop", "jail/top/loop" },
                { "data.1", "jail/top/..data" }, { "..data/file", "jail/top/swap" },
        };
        for (size_t i = 0; i < COUNT_OF(links); i++)
                assert_int_equal(symlinkat(links[i].target, root_fd, links[i].name), 0);
        CLEANUP(cleanup_close) int jail = openat(root_fd, "jail", O_PATH | O_DIRECTORY | O_CLOEXEC);
        for (size_t i = 0; i < COUNT_OF(beneath); i++) {
                errno = 0;
                CLEANUP(cleanup_close) int fd = fs_open_beneath(jail, beneath[i].path, O_RDONLY);
                if ((fd >= 0) != (beneath[i].number == 0) || (fd < 0 && errno != beneath[i].number))
                        fail_msg("%s: %s", beneath[i].path, fd >= 0 ? "opened" : strerror(errno));
                assert_true(fd < 0 || (fcntl(fd, F_GETFD) & FD_CLOEXEC));
        }
        /* Not outside: the jail itself. */
        CLEANUP(cleanup_close) int itself = fs_open_beneath(jail, "top/..", O_RDONLY | O_DIRECTORY);
        assert_true(itself >= 0);
        CLEANUP(cleanup_close) int null = open("/dev/null", O_RDONLY | O_CLOEXEC), proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
        CLEANUP(cleanup_free) char *magic = string_format("fd/%d", null);
        assert_int_equal(fs_open_beneath(proc, magic, O_RDONLY), -1);
        assert_true(errno == ELOOP || errno == EXDEV);
}

static void *rename_often(void *stop)
{
        while (!__atomic_load_n((bool *)stop, __ATOMIC_ACQUIRE)) {
                renameat(root_fd, "race/a", root_fd, "race/b");
                renameat(root_fd, "race/b", root_fd, "race/a");
        }
        return NULL;
}

/* Renames elsewhere in the tree make the kernel say EAGAIN for paths with ".."; the caller does not hear of it. */
static void test_beneath_race(void **state)
{
        (void)state;
        struct error err = { 0 };
        bool stop = false;
        pthread_t thread;
        CLEANUP(cleanup_free) char *a = string_format("%s/race/a", root), *b = string_format("%s/race/x/y", root);
        assert_true(fs_make_folders(a, 0700, &err) && fs_make_folders(b, 0700, &err) && fs_save(root_fd, "race/file", "x", 1, 0600, &err));
        assert_int_equal(pthread_create(&thread, NULL, rename_often, &stop), 0);
        unsigned failed = 0;
        for (int i = 0; i < 5000; i++) {
                CLEANUP(cleanup_close) int fd = fs_open_beneath(root_fd, "race/x/y/../../x/../file", O_RDONLY);
                failed += fd < 0;
        }
        __atomic_store_n(&stop, true, __ATOMIC_RELEASE);
        pthread_join(thread, NULL);
        assert_int_equal(failed, 0);
}

static void test_bytes(void **state)
{
        (void)state;
        char bytes[16];
        CLEANUP(cleanup_close) int fd = openat(root_fd, "bytes", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fs_write_all(fd, "0123456789", 10) && fs_write_all(fd, "", 0));
        assert_true(fs_pread_all(fd, bytes, 4, 6));
        assert_memory_equal(bytes, "6789", 4);
        errno = 5;
        assert_false(fs_pread_all(fd, bytes, 5, 6));
        assert_int_equal(errno, 0);
        assert_false(fs_pread_all(-1, bytes, 1, 0));
        assert_int_equal(errno, EBADF);
        assert_false(fs_write_all(-1, "x", 1));
        assert_true(fs_pwrite_all(fd, "abc", 3, 5) && fs_pwrite_all(fd, "z", 1, 12) && fs_pwrite_all(fd, "", 0, 99));
        assert_true(fs_pread_all(fd, bytes, 8, 5));
        assert_memory_equal(bytes, "abc89\0\0z", 8);
        assert_false(fs_pwrite_all(-1, "x", 1, 0));
        assert_int_equal(errno, EBADF);
}

/* A tree with links goes; what they point at stays. */
static void test_remove(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *deep = string_format("%s/tree/a/b/c", root);
        assert_true(fs_make_folders(deep, 0700, &err) && fs_save(root_fd, "kept", "x", 1, 0600, &err) && fs_save(root_fd, "tree/a/file", "x", 1, 0600, &err));
        assert_int_equal(symlinkat("../kept", root_fd, "tree/link"), 0);
        assert_int_equal(symlinkat("..", root_fd, "tree/a/up"), 0);
        assert_true(fs_remove_tree(root_fd, "tree", &err));
        assert_int_equal(faccessat(root_fd, "tree", F_OK, 0), -1);
        assert_int_equal(faccessat(root_fd, "kept", F_OK, 0), 0);
        assert_true(fs_remove_tree(root_fd, "tree", &err));
        assert_int_equal(symlinkat("kept", root_fd, "alone"), 0);
        assert_true(fs_remove_tree(root_fd, "alone", &err));
        assert_int_equal(faccessat(root_fd, "kept", F_OK, 0), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_load), cmocka_unit_test(test_save), cmocka_unit_test(test_folders), cmocka_unit_test(test_beneath), cmocka_unit_test(test_beneath_race), cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_remove),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
