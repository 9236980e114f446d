/*
 * How it goes: a blob's name follows from its digest; whether it is still the file that we left is one statx against the identity in its row. Only when that differs are
 *              bytes read again: the right ones correct the row, the wrong ones go to quarantine with everything that points at them.
 * How it fails: a file that cannot be read (EIO) is treated like wrong bytes: nobody gets it.
 * How it ends: nothing is kept open; quarantine/ keeps what was taken out of service until the start after next sweeps it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>
#include "inside.h"

enum { HASH_CHUNK_BYTES = 256 * 1024, EXAM_TRIES = 2 };

void blob_format_name(const struct digest *module, char ret_name[BLOB_NAME_BYTES])
{
        hex_format(module->bytes, DIGEST_SHA256_BYTES, ret_name + 3);
        ret_name[0] = ret_name[3];
        ret_name[1] = ret_name[4];
        ret_name[2] = '/';
}

void store_format_path(const struct store *store, const struct digest *module, char *ret_path, size_t size_bytes)
{
        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        snprintf(ret_path, size_bytes, "%s/blobs/%s", store->root, name);
}

bool identity_get(int dirfd, const char *name, struct store_identity *ret_identity)
{
        struct statx info;
        int flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC | (name[0] ? 0 : AT_EMPTY_PATH);
        if (statx(dirfd, name, flags, STATX_BASIC_STATS, &info) != 0)
                return false;
        if (!S_ISREG(info.stx_mode)) {
                errno = EINVAL;
                return false;
        }
        *ret_identity = (struct store_identity){
                .device = makedev(info.stx_dev_major, info.stx_dev_minor), .inode = info.stx_ino, .size_bytes = info.stx_size,
                .mtime_ns = info.stx_mtime.tv_sec * 1000000000LL + info.stx_mtime.tv_nsec, .ctime_ns = info.stx_ctime.tv_sec * 1000000000LL + info.stx_ctime.tv_nsec,
        };
        return true;
}

bool identity_same_bytes(const struct store_identity *a, const struct store_identity *b)
{
        return a->device == b->device && a->inode == b->inode && a->size_bytes == b->size_bytes && a->mtime_ns == b->mtime_ns;
}

bool identity_equal(const struct store_identity *a, const struct store_identity *b)
{
        return identity_same_bytes(a, b) && a->ctime_ns == b->ctime_ns;
}

void names_lock(struct store *store, const struct digest *module)
{
        pthread_mutex_lock(&store->names[module->bytes[0] % STORE_STRIPES]);
}

void names_unlock(struct store *store, const struct digest *module)
{
        pthread_mutex_unlock(&store->names[module->bytes[0] % STORE_STRIPES]);
}

/* Waits until `done` bytes are due at the wanted rate, in short steps so that a cancel is heard. */
static bool pace_wait(const struct blob_pace *pace, uint64_t done, int64_t start_us)
{
        for (;;) {
                if (cancel_is_triggered(pace->cancel))
                        return false;
                if (pace->rate_bytes == 0)
                        return true;
                int64_t left_us = (int64_t)((double)done * 1e6 / (double)pace->rate_bytes) - (clock_get_us() - start_us);
                if (left_us <= 0)
                        return true;
                if (left_us > 50000)
                        left_us = 50000;
                nanosleep(&(struct timespec){ .tv_nsec = left_us * 1000 }, NULL);
        }
}

/* False with errno; 0 = cancelled. */
static bool blob_hash(int fd, const struct blob_pace *pace, struct digest *ret_sha256)
{
        CLEANUP(cleanup_free) void *chunk = memory_new(1, HASH_CHUNK_BYTES);
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        int64_t start_us = clock_get_us();
        for (uint64_t done = 0;;) {
                errno = EIO;
                ssize_t got = fault_hit("store.read") ? -1 : pread(fd, chunk, HASH_CHUNK_BYTES, (off_t)done);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return false;
                if (got == 0)
                        break;
                hasher_update(hasher, chunk, (size_t)got);
                done += (uint64_t)got;
                if (pace && !pace_wait(pace, done, start_us)) {
                        errno = 0;
                        return false;
                }
        }
        hasher_finish(hasher, ret_sha256);
        return true;
}

int store_open_blob(struct store *store, const struct digest *module, struct error *err)
{
        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        int fd = openat(store->blobs_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
                return fd;
        if (errno == ENOENT)
                refuse(err, ERROR_NOT_FOUND, "store %s has no module %s", store->root, name + 3);
        else
                store_fail(store, err, errno, "cannot open the module %s", name + 3);
        return -1;
}

bool blob_quarantine(struct store *store, int dirfd, const char *name, struct error *err)
{
        const char *last = name;
        for (const char *at = name; *at; at++)
                if (*at == '/')
                        last = at + 1;

        uint32_t number = 0;
        random_bytes(&number, sizeof number);
        CLEANUP(cleanup_free) char *to = string_format("%lld.%.64s.%08x", (long long)clock_get_wall_s(), last, number);
        if (renameat(dirfd, name, store->quarantine_fd, to) == 0 || errno == ENOENT)
                return true;
        return store_fail(store, err, errno, "cannot move %s to quarantine", last);
}

/* Wrong bytes leave service: the name first, then the hand-outs, then the rows; a crash between is repaired by the next start. */
bool blob_condemn(struct store *store, const struct digest *module, const char *why, struct error *err)
{
        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        if (store->is_read_only)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "the module %s in store %s is damaged (%s), and the store is read-only", name + 3, store->root, why);
        if (!blob_quarantine(store, store->blobs_fd, name, err) || !handout_refresh(store, module, err) || !row_delete_module(store, module, err)) {
                atomic_store(&store->has_leftovers, true);
                return refuse_within(err, "the module %s is damaged (%s)", name + 3, why);
        }
        return refuse(err, ERROR_CHECKSUM_MISMATCH, "the module %s in store %s is damaged (%s); it was moved to quarantine and has to be pulled again", name + 3, store->root, why);
}

static enum blob_verdict exam_bad(struct blob_exam *exam, const char *why)
{
        exam->why = why;
        return BLOB_BAD;
}

/* EIO is the file's own fault, everything else (descriptors, memory, rights) may be gone in a moment. */
static enum blob_verdict exam_unread(struct store *store, struct blob_exam *exam, struct error *err)
{
        switch (errno) {
        case 0:
                refuse(err, ERROR_BUSY, "the verification was cancelled");
                return BLOB_UNKNOWN;
        case EIO:
                return exam_bad(exam, "it cannot be read");
        case ENOENT:
        case ENOTDIR:
                return exam_bad(exam, "it is gone");
        case ELOOP:
        case ENXIO:
        case EINVAL:
        case EISDIR:
                return exam_bad(exam, "it is no regular file");
        default:
                store_fail(store, err, errno, "cannot look at the module %s", exam->name);
                return BLOB_UNKNOWN;
        }
}

static enum blob_verdict exam_once(struct store *store, struct blob_exam *exam, struct error *err)
{
        CLEANUP(cleanup_close) int fd = openat(exam->dirfd, exam->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct store_identity before;
        struct digest found;
        if (fd < 0 || !identity_get(fd, "", &before) || !blob_hash(fd, exam->pace, &found) || !identity_get(fd, "", &exam->identity))
                return exam_unread(store, exam, err);
        if (!digest_equal(&found, exam->module))
                return exam_bad(exam, "its bytes have another digest");
        return identity_same_bytes(&before, &exam->identity) ? BLOB_GOOD : exam_bad(exam, "it is being changed");
}

enum blob_verdict blob_examine(struct store *store, struct blob_exam *exam, struct error *err)
{
        enum blob_verdict verdict = BLOB_BAD;
        for (int i = 0; i < EXAM_TRIES && verdict == BLOB_BAD; i++) {
                struct store_identity before = exam->identity;
                verdict = exam_once(store, exam, err);
                if (verdict == BLOB_BAD && identity_same_bytes(&before, &exam->identity))
                        break;                    /* it did not change: reading it once more says the same */
        }
        return verdict;
}

bool blob_adopt(struct store *store, const struct blob_exam *exam, bool is_synced, struct store_identity *ret_identity, struct error *err)
{
        CLEANUP(cleanup_close) int fd = openat(exam->dirfd, exam->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0 && fchmod(fd, 0444) == 0 && (!is_synced || fsync(fd) == 0) && identity_get(fd, "", ret_identity))
                return true;
        return store_fail(store, err, errno, "cannot adopt the module %s", exam->name);
}

/* By its bytes, whatever its row says: the row follows, or the blob goes. Under names_lock. */
static bool blob_judge(struct store *store, const struct digest *module, struct store_identity *ret_identity, struct error *err)
{
        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        struct blob_exam exam = { .dirfd = store->blobs_fd, .name = name, .module = module };
        enum blob_verdict verdict = blob_examine(store, &exam, err);
        if (verdict != BLOB_GOOD)
                return verdict == BLOB_BAD && blob_condemn(store, module, exam.why, err);
        if (!store->is_read_only && !row_save_identity(store, module, &exam.identity, err))
                return false;
        *ret_identity = exam.identity;
        return true;
}

bool blob_settle(struct store *store, const struct digest *module, struct store_identity *ret_identity, struct error *err)
{
        struct store_module row = { 0 };
        bool is_there = false;
        if (!row_get_module(store, module, &row, &is_there, err))
                return false;

        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        if (!is_there)
                return refuse(err, ERROR_NOT_FOUND, "store %s has no module %s", store->root, name + 3);
        struct store_identity now;
        if (identity_get(store->blobs_fd, name, &now) && identity_equal(&now, &row.identity)) {
                *ret_identity = now;
                return true;
        }

        return blob_judge(store, module, ret_identity, err);
}

/* The long reading is done without the lock, so that hand-outs of the module go on; what counts is what is under the name when the lock is taken. */
bool store_verify(struct store *store, const struct digest *module, uint64_t rate_bytes, struct cancel *cancel, struct store_identity *ret_identity, struct error *err)
{
        char name[BLOB_NAME_BYTES];
        blob_format_name(module, name);
        const struct blob_pace pace = { rate_bytes, cancel };
        struct blob_exam exam = { .dirfd = store->blobs_fd, .name = name, .module = module, .pace = &pace };
        enum blob_verdict verdict = blob_examine(store, &exam, err);
        if (verdict == BLOB_UNKNOWN)
                return false;

        struct store_identity now;
        struct store_module row = { 0 };
        bool is_there = false;
        names_lock(store, module);
        bool is_good = row_get_module(store, module, &row, &is_there, err);
        if (is_good && !is_there)
                is_good = refuse(err, ERROR_NOT_FOUND, "store %s has no module %s", store->root, name + 3);
        else if (is_good && verdict == BLOB_GOOD && identity_get(store->blobs_fd, name, &now) && identity_same_bytes(&now, &exam.identity))
                /* Links made and removed meanwhile changed its ctime only. */
                is_good = store->is_read_only || identity_equal(&now, &row.identity) || row_save_identity(store, module, &now, err);
        else if (is_good)
                is_good = blob_judge(store, module, &now, err);
        names_unlock(store, module);
        if (is_good)
                *ret_identity = now;
        return is_good;
}
