/*
 * How it goes: temporary files go; after an unclean end (or with a new index) every file below blobs/ is compared with the rows: same identity = fine, another or no row = hashed,
 *              right bytes are adopted, wrong ones quarantined; rows left without a file go with all that points at them. After a clean end none of this is needed: every
 *              hand-out compares identities anyway. Then leases get back the time that they had when the store was last alive, and the folders of links are made to fit them.
 * How it fails: all rows change in one transaction; a crash or a full disk on the way leaves the index as it was, and the next start does it again.
 * How it ends: the index is marked unclean for as long as the store is open.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { QUARANTINE_KEEP = 32 };

struct known { uint8_t sha256[DIGEST_SHA256_BYTES]; struct store_identity identity; bool is_seen; };
/* The rows, sorted by digest. */
struct census { struct store *store; struct store_report *report; struct known *rows; size_t count, capacity; bool is_changed; };

static DIR *folder_list(struct store *store, int dirfd, const char *name, struct error *err)
{
        int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
        if (!folder) {
                int failure = errno;
                cleanup_close(&fd);
                if (failure != ENOENT)
                        store_fail(store, err, failure, "cannot read the folder %s", name);
        }
        return folder;
}

static bool name_is_dots(const char *name)
{
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static void folder_close(DIR **folder)
{
        if (*folder)
                closedir(*folder);
}

static bool temporary_sweep(struct store *store, struct error *err)
{
        CLEANUP(folder_close) DIR *folder = folder_list(store, store->tmp_fd, ".", err);
        if (!folder)
                return false;
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
                struct error ignored = { 0 };     /* what cannot be removed harms nobody */
                if (!name_is_dots(entry->d_name) && unlinkat(store->tmp_fd, entry->d_name, 0) != 0)
                        fs_remove_tree(store->tmp_fd, entry->d_name, &ignored);
        }
        return true;
}

static int compare_dirents(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

/* Names begin with the time: the oldest go, so that a disk that fails again and again does not fill itself with evidence. */
static void quarantine_trim(struct store *store)
{
        struct dirent **entries = NULL;
        int count = scandirat(store->quarantine_fd, ".", &entries, NULL, compare_dirents);
        for (int i = 0; i < count; i++) {
                struct error ignored = { 0 };
                if (!name_is_dots(entries[i]->d_name) && i < count - QUARANTINE_KEEP && unlinkat(store->quarantine_fd, entries[i]->d_name, 0) != 0)
                        fs_remove_tree(store->quarantine_fd, entries[i]->d_name, &ignored);
                free(entries[i]);
        }
        free(entries);
}

static bool census_load(struct census *census, struct error *err)
{
        sqlite3_stmt *row = index_start(census->store, STATEMENT_LOAD_MODULES, err, "");
        if (!row)
                return false;
        int more;
        while ((more = index_step(census->store, row, err)) == 1) {
                struct store_module module;
                row_read_module(row, &module);
                if (module.sha256.algorithm != DIGEST_SHA256)
                        continue;
                if (census->count == census->capacity) {
                        census->capacity = census->capacity ? 2 * census->capacity : 256;
                        census->rows = memory_resize(census->rows, census->capacity, sizeof *census->rows);
                }
                struct known *known = &census->rows[census->count++];
                *known = (struct known){ .identity = module.identity };
                memcpy(known->sha256, module.sha256.bytes, sizeof known->sha256);
        }
        index_stop(row);
        return more == 0;
}

static int known_compare(const void *key, const void *row)
{
        return memcmp(key, ((const struct known *)row)->sha256, DIGEST_SHA256_BYTES);
}

static bool stray_remove(struct census *census, int dirfd, const char *name, struct error *err)
{
        census->report->quarantined++;
        return blob_quarantine(census->store, dirfd, name, err);
}

/* A file that no row describes as it is: its bytes decide. */
static bool file_examine(struct census *census, int shard_fd, const char *name, const struct digest *module, struct known *known, struct error *err)
{
        struct store *store = census->store;
        struct store_identity identity;
        struct blob_exam exam = { .dirfd = shard_fd, .name = name, .module = module };
        enum blob_verdict verdict = blob_examine(store, &exam, err);
        if (verdict == BLOB_UNKNOWN)
                return false;
        if (verdict == BLOB_BAD)
                return stray_remove(census, shard_fd, name, err);          /* a row of it is dropped as one without file */
        if (!blob_adopt(store, &exam, false, &identity, err))
                return false;
        census->is_changed = true;
        if (known) {
                known->is_seen = true;
                return row_save_identity(store, module, &identity, err);
        }
        census->report->adopted++;
        return index_write(store, STATEMENT_MODULE_ADOPT, err, "diiiiiii", module, (int64_t)identity.device, (int64_t)identity.inode, (int64_t)identity.size_bytes,
                           identity.mtime_ns, identity.ctime_ns, clock_get_wall_s(), identity.mtime_ns / 1000000000);
}

static bool file_check(struct census *census, int shard_fd, const char *shard, const char *name, struct error *err)
{
        struct digest module;
        if (!digest_parse_hex(name, &module) || strncmp(name, shard, 2) != 0)
                return stray_remove(census, shard_fd, name, err);

        struct known *known = census->count ? bsearch(module.bytes, census->rows, census->count, sizeof *census->rows, known_compare) : NULL;
        struct store_identity now;
        if (known && identity_get(shard_fd, name, &now) && identity_equal(&now, &known->identity)) {
                known->is_seen = true;
                return true;
        }
        return file_examine(census, shard_fd, name, &module, known, err);
}

static bool shard_check(struct census *census, const char *shard, struct error *err)
{
        CLEANUP(folder_close) DIR *folder = folder_list(census->store, census->store->blobs_fd, shard, err);
        if (!folder)
                return err->code == ERROR_NONE;
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
                if (!name_is_dots(entry->d_name) && !file_check(census, dirfd(folder), shard, entry->d_name, err))
                        return false;
        return true;
}

static bool shard_name_valid(const char *name)
{
        static const char digits[] = "0123456789abcdef";
        return strlen(name) == 2 && strchr(digits, name[0]) && strchr(digits, name[1]);
}

static bool blobs_check(struct census *census, struct error *err)
{
        struct store *store = census->store;
        CLEANUP(folder_close) DIR *folder = folder_list(store, store->blobs_fd, ".", err);
        if (!folder)
                return err->code == ERROR_NONE;
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
                struct stat info;
                if (name_is_dots(entry->d_name) || strcmp(entry->d_name, "lost+found") == 0)
                        continue;
                bool is_folder = fstatat(store->blobs_fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode);
                bool is_good = is_folder && shard_name_valid(entry->d_name) ? shard_check(census, entry->d_name, err) : stray_remove(census, store->blobs_fd, entry->d_name, err);
                if (!is_good)
                        return false;
        }
        return true;
}

static bool rows_drop_lost(struct census *census, struct error *err)
{
        for (size_t i = 0; i < census->count; i++) {
                if (census->rows[i].is_seen)
                        continue;
                struct digest module = { .algorithm = DIGEST_SHA256 };
                memcpy(module.bytes, census->rows[i].sha256, DIGEST_SHA256_BYTES);
                if (!row_delete_module(census->store, &module, err))
                        return false;
                census->report->dropped_rows++;
        }
        return true;
}

static bool blobs_recover(struct store *store, struct store_report *report, struct error *err)
{
        struct census census = { .store = store, .report = report };
        bool is_good = census_load(&census, err) && blobs_check(&census, err) && rows_drop_lost(&census, err);
        free(census.rows);
        /* One sync for all that was adopted: thousands of single ones take minutes. */
        if (is_good && census.is_changed && syncfs(store->blobs_fd) != 0)
                is_good = store_fail(store, err, errno, "cannot make adopted modules durable");
        return is_good;
}

/* Device numbers change over reboots; that alone does not make every file another one. */
static bool device_follow(struct store *store, struct error *err)
{
        struct stat info;
        int64_t before = 0;
        if (fstat(store->blobs_fd, &info) != 0)
                return store_fail(store, err, errno, "cannot stat blobs/");
        if (!index_meta_get(store, "device", &before, err))
                return false;
        if (before == (int64_t)info.st_dev)
                return true;
        return (before == 0 || index_write(store, STATEMENT_MODULE_DEVICE, err, "ii", before, (int64_t)info.st_dev)) && index_meta_put(store, "device", (int64_t)info.st_dev, err);
}

/* Nobody could renew while we were away: a lease that was alive when we last were gets the same time again. */
static bool leases_follow(struct store *store, struct error *err)
{
        int64_t alive_s = 0, now_s = clock_get_wall_s();
        if (!index_meta_get(store, "alive_s", &alive_s, err))
                return false;
        if (alive_s == 0)
                alive_s = now_s;
        return index_write(store, STATEMENT_LEASE_DELETE_ENDED, err, "i", alive_s) && index_write(store, STATEMENT_LEASE_SHIFT, err, "i", now_s - alive_s) &&
               index_meta_put(store, "alive_s", now_s, err);
}

bool store_recover(struct store *store, const struct index_found *found, struct store_report *ret_report, struct error *err)
{
        struct store_report report = { 0 };
        if (!temporary_sweep(store, err) || !index_begin(store, err))
                return false;
        quarantine_trim(store);
        bool is_good = index_meta_put(store, "clean", 0, err) && index_meta_put(store, "boot", index_get_boot(), err) && device_follow(store, err) &&
                       (found->was_clean || blobs_recover(store, &report, err)) && leases_follow(store, err) && links_rebuild(store, &report, err);
        if (!index_end(store, is_good, err))
                return false;
        *ret_report = report;
        return true;
}
