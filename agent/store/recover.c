/*
 * How it goes: temporary files go; leases get back the time that they had when the store was last alive, and the folders of links are made to fit them. Whether every blob has to
 *              be looked at (settle.c) follows from how the store ended.
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

DIR *folder_list(struct store *store, int dirfd, const char *name, struct error *err)
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

bool name_is_dots(const char *name)
{
        return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

void folder_close(DIR **folder)
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
        if (!found->was_clean)
                atomic_store(&store->is_unsettled, true);
        bool is_good = index_meta_put(store, "clean", 0, err) && index_meta_put(store, "boot", index_get_boot(), err) && device_follow(store, err) &&
                       leases_follow(store, err) && links_rebuild(store, &report, err);
        if (!index_end(store, is_good, err))
                return false;
        *ret_report = report;
        return true;
}
