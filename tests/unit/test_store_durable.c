/* What is on the disk before what: calls that sync, link, rename and unlink are noted in their order, as a kill, which loses no page of the cache, cannot show it. */
#include "test_store_tools.h"
#include <sys/syscall.h>

enum { NOTES_MAX = 400 };

static struct note { char call[12], path[400]; } notes[NOTES_MAX];
static size_t note_count;
static pthread_mutex_t notes_lock = PTHREAD_MUTEX_INITIALIZER;

static void note_add(const char *call, int fd, const char *name)
{
        char link[40], path[300] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (fd >= 0 && readlink(link, path, sizeof path - 1) < 0)
                path[0] = '\0';
        pthread_mutex_lock(&notes_lock);
        if (note_count < NOTES_MAX) {
                struct note *note = &notes[note_count++];
                snprintf(note->call, sizeof note->call, "%s", call);
                snprintf(note->path, sizeof note->path, "%s%s%.90s", path, *name ? "/" : "", name);
        }
        pthread_mutex_unlock(&notes_lock);
}

/* In the place of libc's, for all rooms and SQLite. */
int fsync(int fd)
{
        note_add("sync", fd, "");
        return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
        note_add("sync", fd, "");
        return (int)syscall(SYS_fdatasync, fd);
}

int syncfs(int fd)
{
        note_add("syncfs", fd, "");
        return (int)syscall(SYS_syncfs, fd);
}

int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
        note_add("link", to_fd, to);
        return (int)syscall(SYS_linkat, from_fd, from, to_fd, to, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
        note_add("rename", to_fd, to);
        return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlinkat(int fd, const char *name, int flags)
{
        note_add("unlink", fd, name);
        return (int)syscall(SYS_unlinkat, fd, name, flags);
}

/* Where behind `from` the call is whose path ends in `end`, or has it with a '*' behind; fails when there is none. */
static size_t note_find(size_t from, const char *call, const char *end)
{
        size_t length = strlen(end);
        bool is_part = length > 0 && end[length - 1] == '*';
        for (size_t i = from; i < note_count; i++) {
                size_t whole = strlen(notes[i].path);
                bool is_it = is_part ? memmem(notes[i].path, whole, end, length - 1) != NULL : whole >= length && strcmp(notes[i].path + whole - length, end) == 0;
                if (is_it && strcmp(notes[i].call, call) == 0)
                        return i + 1;
        }
        for (size_t i = 0; i < note_count; i++)
                print_message("%3zu %s %s\n", i, notes[i].call, notes[i].path);
        fail_msg("no %s of %s behind call %zu", call, end, from);
        return 0;
}

struct names { char hex[DIGEST_TEXT_BYTES], shard[16], blob[16 + DIGEST_TEXT_BYTES]; };

static struct names names_of(const struct digest *digest)
{
        struct names names;
        digest_format_hex(digest, names.hex);
        snprintf(names.shard, sizeof names.shard, "blobs/%.2s", names.hex);
        snprintf(names.blob, sizeof names.blob, "blobs/%.2s/%s", names.hex, names.hex);
        return names;
}

/* Bytes, name, folder, row: whatever is there after a power cut has what it needs. */
static void test_commit(void **state)
{
        struct fixture *fixture = *state;
        for (unsigned i = 0; i < 4; i++) {
                size_t size = i < 2 ? 100 : 700000;
                struct digest digest = content_digest(i, size);
                struct names names = names_of(&digest);
                bool is_named = i % 2;
                fault_arm("store.tmpfile", is_named);
                note_count = 0;
                content_put(fixture, i, size);
                fault_arm("store.tmpfile", 0);
                size_t synced = note_find(0, "sync", "/root/tmp/*"), placed = note_find(synced, "link", names.blob);
                note_find(0, "sync", "/blobs");
                note_find(note_find(placed, "sync", names.shard), "sync", "/index.sqlite-wal");
        }
}

/* The second in a folder that is there: its name has to be made durable all the same. */
static void test_commit_again(void **state)
{
        struct fixture *fixture = *state;
        struct digest digest = content_digest(1, 100);
        struct names names = names_of(&digest);
        assert_int_equal(mkdir(fixture_path(fixture, "%s", names.shard), 0700), 0);
        note_count = 0;
        content_put(fixture, 1, 100);
        note_find(note_find(note_find(0, "link", names.blob), "sync", names.shard), "sync", "/index.sqlite-wal");
}

/* The file of content 1 as a crash before its row leaves it. */
static void stray_put(struct fixture *fixture, const struct digest *digest, const struct names *names)
{
        uint8_t *bytes = content_new(1, 100);
        assert_int_equal(mkdir(fixture_path(fixture, "%s", names->shard), 0700), 0);
        file_write(blob_path(fixture, digest), bytes, 100);
        free(bytes);
}

/* Its file was there already, without a row: nobody knows whether its bytes ever reached the disk. */
static void test_commit_adopts(void **state)
{
        struct fixture *fixture = *state;
        struct digest digest = content_digest(1, 100);
        struct names names = names_of(&digest);
        stray_put(fixture, &digest, &names);
        note_count = 0;
        content_put(fixture, 1, 100);
        note_find(note_find(note_find(0, "sync", names.blob), "sync", names.shard), "sync", "/index.sqlite-wal");
}

static void test_settle(void **state)
{
        struct fixture *fixture = *state;
        struct digest digest = content_digest(1, 100);
        struct names names = names_of(&digest);
        stray_put(fixture, &digest, &names);
        fixture_crash(fixture);
        note_count = 0;
        fixture_open(fixture);
        assert_int_equal(fixture->report.adopted, 1);
        note_find(note_find(0, "syncfs", "/blobs"), "sync", "/index.sqlite-wal");
}

/* synchronous=FULL: each change of the index alone is on the disk when the call returns. */
static void test_rows(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 100);
        const struct store_grant grant = { .manifest = module.sha256, .repository = "r.example/a", .kind = "anonymous", .namespace = "", .secret = "", .granted_s = 1, .last_ok_s = 1 };
        note_count = 0;
        assert_true(store_commit(fixture->store, &(struct store_commit){ .grant = &grant }, NULL, &fixture->err));
        note_find(0, "sync", "/index.sqlite-wal");
        note_count = 0;
        lease_put(fixture, "0123456789abcdef0123456789abcdef", "team-a", &module.sha256, 4102444800);
        note_find(0, "sync", "/index.sqlite-wal");
}

/* The other way round: no row is left that names a file which is gone. */
static void test_remove(void **state)
{
        struct fixture *fixture = *state;
        struct store_module module = content_put(fixture, 1, 100);
        struct names names = names_of(&module.sha256);
        note_count = 0;
        assert_true(store_remove_module(fixture->store, &module.sha256, module.created_s, &fixture->err));
        note_find(note_find(0, "sync", "/index.sqlite-wal"), "unlink", names.blob);
}

/* The store's secret, remembered resources: a whole new file or the old one. */
static void test_file_saved(void **state)
{
        struct fixture *fixture = *state;
        int fd = open(fixture->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        note_count = 0;
        assert_true(fs_save(fd, "kept", "bytes", 5, 0600, &fixture->err));
        note_find(note_find(note_find(0, "sync", ".tmp"), "rename", "/kept"), "sync", strrchr(fixture->folder, '/'));
        close(fd);
}

int main(void)
{
#define ROW(test) cmocka_unit_test_setup_teardown(test, fixture_setup, fixture_teardown)
        const struct CMUnitTest tests[] = {
                ROW(test_commit), ROW(test_commit_again), ROW(test_commit_adopts), ROW(test_settle), ROW(test_rows), ROW(test_remove), ROW(test_file_saved),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
