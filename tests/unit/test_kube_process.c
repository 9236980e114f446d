/* The cgroup file of a process, from a folder that stands for /proc and from the real one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>
#include <cmocka.h>
#include <wasmcached/kube/process.h>
#include "../../agent/kube/room.h"

#define UID "2c48913c-b29f-11e7-9350-020968147796"
#define ID "9bca8d63d5fa610783847915bcff0ecac1273e5b4bed3f6fa1b07350e0135961"

static char folder[64];

static int make(void **state)
{
        (void)state;
        snprintf(folder, sizeof folder, "/tmp/proc-XXXXXX");
        return !mkdtemp(folder);
}

static int unmake(void **state)
{
        struct error err;
        (void)state;
        return !fs_remove_tree(AT_FDCWD, folder, &err);
}

static char *file_of(int pid)
{
        struct error err;
        CLEANUP(cleanup_free) char *process = string_format("%s/%d", folder, pid);
        assert_true(fs_make_folders(process, 0755, &err));
        return string_format("%s/cgroup", process);
}

static void put(int pid, const void *text, size_t size)
{
        struct error err;
        CLEANUP(cleanup_free) char *file = file_of(pid);
        assert_true(fs_save(AT_FDCWD, file, text, size, 0644, &err));
}

static void test_read(void **state)
{
        static const char good[] = "0::/kubepods/burstable/pod" UID "/" ID "\n", host[] = "0::/system.slice/ssh.service\n", empty[] = "", nul[] = "0::/kubepods/pod" UID "\0/" ID "\n";
        static const struct { int pid; const char *text; size_t size; const char *why; } rows[] = {
                { 1, good, sizeof good - 1, NULL }, { 2, host, sizeof host - 1, "no pod" }, { 3, empty, 0, "no pod" }, { 4, nul, sizeof nul - 1, "cannot be read" },
        };
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct kube_cgroup cgroup = { 0 };
                struct error err = { 0 };
                put(rows[i].pid, rows[i].text, rows[i].size);
                assert_int_equal(process_read_at(folder, rows[i].pid, &cgroup, &err), !rows[i].why);
                assert_string_equal(cgroup.pod, rows[i].why ? "" : UID);
                assert_string_equal(cgroup.container, rows[i].why ? "" : ID);
                assert_int_equal(err.code, rows[i].why ? ERROR_DENIED : ERROR_NONE);
                if (rows[i].why && !strstr(err.text, rows[i].why))
                        fail_msg("%d: %s", rows[i].pid, err.text);
        }
}

/* Not there, no file, without end, longer than a kernel's: none of them is a pod, and none of them is waited for. */
static void test_hostile(void **state)
{
        struct kube_cgroup cgroup = { 0 };
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *fifo = file_of(10), *directory = file_of(11), *huge = memory_new(1, 1 << 20), *zero = file_of(13);
        static const char tail[] = "\n0::/kubepods/pod" UID "/" ID "\n";
        (void)state;
        assert_int_equal(mkfifo(fifo, 0600), 0);
        assert_int_equal(mkdir(directory, 0700), 0);
        memset(huge, 'x', 1 << 20);
        memcpy(huge + (1 << 20) - sizeof tail, tail, sizeof tail);
        put(12, huge, 1 << 20);
        assert_int_equal(symlink("/dev/zero", zero), 0);
        static const pid_t pids[] = { 9, 10, 11, 12, 13, 0, -1 };
        for (size_t i = 0; i < COUNT_OF(pids); i++) {
                err = (struct error){ 0 };
                assert_false(process_read_at(folder, pids[i], &cgroup, &err));
                assert_int_equal(err.code, ERROR_DENIED);
                assert_string_equal(cgroup.pod, "");
        }
}

/* This test runs in no pod of a kubelet, or in one whose UID it says. */
static void test_real(void **state)
{
        struct kube_cgroup cgroup = { 0 };
        struct error err = { 0 };
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        (void)state;
        assert_true(fs_load(AT_FDCWD, "/proc/self/cgroup", 1 << 16, &text, &err));
        bool is_pod = kube_process_read(getpid(), &cgroup, &err);
        assert_true(is_pod || err.code == ERROR_DENIED);
        assert_true(!is_pod || strstr(text.data, "pod"));
}

int main(void)
{
        unsetenv("WASMCACHED_TEST_PROC");
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_read), cmocka_unit_test(test_hostile), cmocka_unit_test(test_real) };
        return cmocka_run_group_tests(tests, make, unmake);
}
