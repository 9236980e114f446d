/*
 * How it goes: the folder's watch is set first, so that nothing happens unseen; then its *.yaml and *.yml are listed and those that look other than before are read and parsed.
 *              A ConfigMap's files lead through "..data"; if that was swapped meanwhile, all is listed again.
 * How it fails: a file that cannot be read or parsed says so itself. One that was written to a moment ago is left for the next scan: half a file may be good YAML.
 * How it ends: scan_fini() frees what the loop did not take.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "folder.h"

static int64_t nanoseconds(const struct timespec *time)
{
        return (int64_t)time->tv_sec * 1000000000 + time->tv_nsec;
}

static struct identity identity_of(const struct stat *status)
{
        return (struct identity){ status->st_dev, status->st_ino, status->st_size, nanoseconds(&status->st_mtim), nanoseconds(&status->st_ctim) };
}

static bool identity_equal(const struct identity *a, const struct identity *b)
{
        return a->dev == b->dev && a->ino == b->ino && a->size == b->size && a->modified_ns == b->modified_ns && a->changed_ns == b->changed_ns;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct found *)a)->name, ((const struct found *)b)->name);
}

static int known_compare(const void *name, const void *known)
{
        return strcmp(name, ((const struct known *)known)->name);
}

static bool name_is_ours(const char *name)
{
        return name[0] != '.' && (string_ends_with(name, ".yaml") || string_ends_with(name, ".yml"));
}

static void scan_clear(struct scan *scan)
{
        for (size_t i = 0; i < scan->found_count; i++) {
                free(scan->found[i].name);
                value_free(&scan->found[i].documents);
        }
        free(TAKE(scan->found));
        scan->found_count = 0;
}

/* False: the list is not whole; what is not in it must not pass for removed. */
static bool names_list(struct scan *scan, DIR *folder)
{
        size_t room = 0;
        errno = 0;
        for (const struct dirent *entry; (entry = readdir(folder)); errno = 0) {
                if (!name_is_ours(entry->d_name))
                        continue;
                if (scan->found_count == room)
                        scan->found = memory_resize(scan->found, room = room ? 2 * room : 16, sizeof *scan->found);
                scan->found[scan->found_count++] = (struct found){ .name = string_copy(entry->d_name) };
        }
        if (errno != 0)
                return refuse_errno(&scan->err, ERROR_NOT_FOUND, errno, "folder %s cannot be listed", scan->folder);
        if (scan->found_count > 1)
                qsort(scan->found, scan->found_count, sizeof *scan->found, by_name);
        scan->left_out = scan->found_count > FILES_MAX ? scan->found_count - FILES_MAX : 0;
        for (; scan->found_count > FILES_MAX; scan->found_count--)
                free(scan->found[scan->found_count - 1].name);
        return true;
}

static bool is_settled(const struct scan *scan, const struct stat *status)
{
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        int64_t age_ms = (nanoseconds(&now) - nanoseconds(&status->st_mtim)) / 1000000;
        return !scan->may_be_unsettled || age_ms < -1000 || age_ms >= SETTLE_MS;
}

/* False: it is no file of ours, or gone again. */
static bool file_read(struct scan *scan, int folderfd, struct found *found, uint64_t *read_bytes)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        struct stat status;
        if (fstatat(folderfd, found->name, &status, 0) < 0) {
                refuse_errno(&found->err, ERROR_NOT_FOUND, errno, "cannot be read");
                return errno != ENOENT;
        }
        if (S_ISDIR(status.st_mode))
                return false;
        const struct known *known = scan->known_count > 0 ? bsearch(found->name, scan->known, scan->known_count, sizeof *scan->known, known_compare) : NULL;
        found->identity = identity_of(&status);
        bool is_new = !known || !identity_equal(&known->identity, &found->identity), is_late = is_new && *read_bytes > 0 && *read_bytes + (uint64_t)status.st_size > SCAN_MAX_BYTES;
        bool waits = is_new && (is_late || !is_settled(scan, &status));
        scan->is_more |= is_late;
        scan->is_unsettled |= waits && !is_late;
        found->is_unchanged = !is_new || (waits && known);
        if (waits && known)
                found->identity = known->identity;
        if (!is_new || waits)
                return found->is_unchanged;
        if (fs_load(folderfd, found->name, FILE_MAX_BYTES, &text, &found->err))
                yaml_parse_all(text.data ? text.data : "", text.used, ERROR_BAD_REQUEST, &found->documents, &found->err);
        *read_bytes += text.used;
        return true;
}

static void files_read(struct scan *scan, int folderfd)
{
        size_t kept = 0;
        uint64_t read_bytes = 0;
        for (size_t i = 0; i < scan->found_count; i++) {
                struct found found = scan->found[i];
                if (file_read(scan, folderfd, &found, &read_bytes))
                        scan->found[kept++] = found;
                else
                        free(found.name);
        }
        scan->found_count = kept;
}

/* Which version of a ConfigMap is mounted; all zero where nobody swaps. */
static struct identity version_get(int folderfd)
{
        struct stat status;
        return fstatat(folderfd, "..data", &status, 0) == 0 ? identity_of(&status) : (struct identity){ 0 };
}

static void watch_set(struct scan *scan)
{
        uint32_t mask = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_DELETE_SELF | IN_MOVE_SELF | IN_ATTRIB | IN_ONLYDIR;
        int wd = scan->notify_fd >= 0 ? inotify_add_watch(scan->notify_fd, scan->folder, mask) : -1;
        if (scan->wd >= 0 && wd != scan->wd)
                inotify_rm_watch(scan->notify_fd, scan->wd);       /* of a folder that was moved away; an error means that it is gone */
        scan->wd = wd;
}

void scan_run(struct scan *scan)
{
        ON_WORKER();
        watch_set(scan);
        for (unsigned swaps = 0; swaps < SWAPS_MAX; swaps++) {
                int folderfd = open(scan->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                DIR *folder = folderfd >= 0 ? fdopendir(folderfd) : NULL;
                if (!folder) {
                        refuse_errno(&scan->err, ERROR_NOT_FOUND, errno, "folder %s", scan->folder);
                        if (folderfd >= 0)
                                close(folderfd);
                        return;
                }
                scan_clear(scan);
                scan->is_unsettled = scan->is_more = false;
                struct identity before = version_get(folderfd);
                scan->may_be_unsettled &= before.ino == 0;         /* what is mounted was written before it was swapped in */
                scan->is_there = names_list(scan, folder);
                if (scan->is_there)
                        files_read(scan, folderfd);
                struct identity after = version_get(folderfd);
                closedir(folder);
                if (!scan->is_there || identity_equal(&before, &after))
                        return;
        }
        scan->is_unsettled = true;
}

void scan_fini(struct scan *scan)
{
        scan_clear(scan);
        for (size_t i = 0; i < scan->known_count; i++)
                free((void *)(uintptr_t)scan->known[i].name);
        free(scan->known);
}
