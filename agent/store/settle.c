/*
 * How it goes: after an unclean end (or with a new index) every file below blobs/ is compared with the rows: same identity = fine, another or no row = hashed, right bytes are
 *              adopted, wrong ones quarantined; rows left without a file go with all that points at them. After a clean end none of this is needed: every hand-out compares
 *              identities anyway. What differs is looked at once more under the lock of its name: others may hand it out meanwhile, which changes it, or find it damaged first.
 * How it fails: what was found is written in batches; a crash, a full disk or a cancel leaves the rest as it was, and the next start does it again.
 * How it ends: the store is settled; only then its end may be marked as a clean one.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { FOUND_BATCH = 1024 };

struct known { uint8_t sha256[DIGEST_SHA256_BYTES]; struct store_identity identity; bool is_seen; };
/* A file that is what its name says, for its row. */
struct found { struct digest module; struct store_identity identity; bool has_row; };
struct census {
        struct store *store;
        struct store_report *report;
        struct cancel *cancel;
        struct known *rows; size_t count, room;                            /* sorted by digest */
        struct known *shard; size_t shard_count;                           /* those of the folder that is being read */
        struct found *found; size_t found_count;
};
struct place { int dirfd; const char *name; };

static void census_add(void *arg, const struct store_module *module)
{
        struct census *census = arg;
        if (census->count == census->room) {
                census->room = census->room ? 2 * census->room : 256;
                census->rows = memory_resize(census->rows, census->room, sizeof *census->rows);
        }
        struct known *known = &census->rows[census->count++];
        *known = (struct known){ .identity = module->identity };
        memcpy(known->sha256, module->sha256.bytes, sizeof known->sha256);
}

static int known_compare(const void *key, const void *row)
{
        return memcmp(key, ((const struct known *)row)->sha256, DIGEST_SHA256_BYTES);
}

static bool stray_remove(struct census *census, const struct place *place, struct error *err)
{
        census->report->quarantined++;
        return blob_quarantine(census->store, place->dirfd, place->name, err);
}

static bool found_write(struct census *census, struct error *err)
{
        bool is_good = true;
        for (size_t i = 0; is_good && i < census->found_count; i++) {
                const struct found *found = &census->found[i];
                const struct store_identity *identity = &found->identity;
                is_good = found->has_row ? row_save_identity(census->store, &found->module, identity, err)
                                         : index_write(census->store, STATEMENT_MODULE_ADOPT, err, "diiiiiii", &found->module, (int64_t)identity->device, (int64_t)identity->inode,
                                                       (int64_t)identity->size_bytes, identity->mtime_ns, identity->ctime_ns, clock_get_wall_s(), identity->mtime_ns / 1000000000);
        }
        return is_good;
}

/* One sync and one transaction for many: thousands of single ones take minutes. */
static bool found_flush(struct census *census, struct error *err)
{
        struct store *store = census->store;
        if (census->found_count == 0)
                return true;
        if (syncfs(store->blobs_fd) != 0)
                return store_fail(store, err, errno, "cannot make adopted modules durable");
        if (!index_begin(store, err) || !index_end(store, found_write(census, err), err))
                return false;
        for (size_t i = 0; i < census->found_count; i++)
                census->report->adopted += !census->found[i].has_row;
        census->found_count = 0;
        return true;
}

/* By its bytes. Under names_lock. */
static bool file_judge(struct census *census, const struct place *place, struct found *found, struct error *err)
{
        struct store *store = census->store;
        const struct blob_pace pace = { 0, census->cancel };
        struct blob_exam exam = { .dirfd = place->dirfd, .name = place->name, .module = &found->module, .pace = &pace };
        enum blob_verdict verdict = blob_examine(store, &exam, err);
        if (verdict == BLOB_GOOD && blob_adopt(store, &exam, false, &found->identity, err)) {
                census->found[census->found_count++] = *found;
                return true;
        }
        if (verdict != BLOB_BAD)
                return false;
        if (!found->has_row)
                return stray_remove(census, place, err);

        struct error why = { 0 };
        blob_condemn(store, &found->module, exam.why, &why);
        census->report->quarantined++;
        census->report->dropped_rows++;
        if (why.code != ERROR_CHECKSUM_MISMATCH)
                *err = why;
        return why.code == ERROR_CHECKSUM_MISMATCH;
}

/* Not as the row said that was read at the beginning. */
static bool file_examine(struct census *census, const struct place *place, const struct digest *module, struct error *err)
{
        struct store *store = census->store;
        struct store_module row = { 0 };
        struct store_identity now;
        struct found found = { .module = *module };
        names_lock(store, module);
        bool is_good = row_get_module(store, module, &row, &found.has_row, err);
        bool is_same = is_good && found.has_row && identity_get(place->dirfd, place->name, &now) && identity_equal(&now, &row.identity);
        if (is_good && !is_same)
                is_good = file_judge(census, place, &found, err);
        names_unlock(store, module);
        return is_good && (census->found_count < FOUND_BATCH || found_flush(census, err));
}

static bool file_check(struct census *census, const char *shard, const struct place *place, struct error *err)
{
        struct digest module;
        if (cancel_is_triggered(census->cancel))
                return refuse(err, ERROR_BUSY, "looking at the blobs was cancelled");
        if (!digest_parse_hex(place->name, &module) || strncmp(place->name, shard, 2) != 0)
                return stray_remove(census, place, err);

        struct known *known = census->shard_count ? bsearch(module.bytes, census->shard, census->shard_count, sizeof *census->shard, known_compare) : NULL;
        struct store_identity now;
        if (known)
                known->is_seen = true;
        return (known && identity_get(place->dirfd, place->name, &now) && identity_equal(&now, &known->identity)) || file_examine(census, place, &module, err);
}

/* Rows of one folder stand together, as its name is how they begin. */
static void shard_find(struct census *census, const char *shard)
{
        uint8_t first = (uint8_t)strtoul(shard, NULL, 16);
        size_t low = 0;
        for (size_t high = census->count; low < high;) {
                size_t middle = low + (high - low) / 2;
                if (census->rows[middle].sha256[0] < first)
                        low = middle + 1;
                else
                        high = middle;
        }
        census->shard = census->rows + low;
        census->shard_count = 0;
        while (low + census->shard_count < census->count && census->shard[census->shard_count].sha256[0] == first)
                census->shard_count++;
}

static bool shard_check(struct census *census, const char *shard, struct error *err)
{
        CLEANUP(folder_close) DIR *folder = folder_list(census->store, census->store->blobs_fd, shard, err);
        if (!folder)
                return err->code == ERROR_NONE;
        shard_find(census, shard);
        for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
                if (!name_is_dots(entry->d_name) && !file_check(census, shard, &(struct place){ dirfd(folder), entry->d_name }, err))
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
                bool is_good = is_folder && shard_name_valid(entry->d_name) ? shard_check(census, entry->d_name, err)
                                                                            : stray_remove(census, &(struct place){ store->blobs_fd, entry->d_name }, err);
                if (!is_good)
                        return false;
        }
        return true;
}

/* A row whose file was not there when its folder was read. Nobody can bring it meanwhile: what is committed has a file first, and was not among the rows. */
static bool row_drop_lost(struct census *census, const struct digest *module, struct error *err)
{
        struct store *store = census->store;
        struct store_module row = { 0 };
        struct store_identity now;
        char name[BLOB_NAME_BYTES];
        bool is_there = false;
        blob_format_name(module, name);
        if (!row_get_module(store, module, &row, &is_there, err))
                return false;
        if (!is_there || identity_get(store->blobs_fd, name, &now))
                return true;
        census->report->dropped_rows++;
        return handout_refresh(store, module, err) && row_delete_module(store, module, err);
}

static bool rows_drop_lost(struct census *census, struct error *err)
{
        for (size_t i = 0; i < census->count;) {
                bool is_good = true;
                while (i < census->count && census->rows[i].is_seen)
                        i++;
                if (i == census->count)
                        break;
                if (!index_begin(census->store, err))
                        return false;
                for (size_t dropped = 0; is_good && dropped < FOUND_BATCH && i < census->count; i++) {
                        struct digest module = { .algorithm = DIGEST_SHA256 };
                        memcpy(module.bytes, census->rows[i].sha256, DIGEST_SHA256_BYTES);
                        if (census->rows[i].is_seen)
                                continue;
                        is_good = row_drop_lost(census, &module, err);
                        dropped++;
                }
                if (!index_end(census->store, is_good, err))
                        return false;
        }
        return true;
}

static bool census_take(struct census *census, struct error *err)
{
        const struct store_visitor visitor = { .arg = census, .module = census_add, .cancel = census->cancel };
        census->count = census->found_count = 0;
        return store_load_all(census->store, &visitor, err) && blobs_check(census, err) && found_flush(census, err) && rows_drop_lost(census, err);
}

bool store_settle(struct store *store, struct cancel *cancel, struct store_report *ret_report, struct error *err)
{
        struct store_report report = { 0 };
        struct census census = { .store = store, .report = &report, .cancel = cancel };
        bool is_good = !atomic_load(&store->is_unsettled);
        if (!is_good) {
                census.found = memory_new(FOUND_BATCH, sizeof *census.found);
                *err = (struct error){ 0 };
                is_good = census_take(&census, err) || (err->code == ERROR_STORE_FULL && reserve_release(store) && census_take(&census, err));
                free(census.rows);
                free(census.found);
                atomic_store(&store->is_unsettled, !is_good);
        }
        *ret_report = report;
        return is_good;
}
