/*
 * How it goes: bytes collect in chunks of 256 KiB. A full chunk has two ways to go: through the hash, in order, and into an unnamed file. A second thread hashes all there is,
 *              then writes; the first one, which receives or inflates, does whatever of the two is to be done when no chunk is free. So the source, the hash and the disk run
 *              side by side, and neither thread waits while there is something to do. What fits into one chunk is done in place: a thread costs more than it saves there.
 *              Writing to the disk is started every 4 MiB and at the end, so that the fsync finds little left.
 * How it fails: the first failure stays: every later write and the finish say the same. A file whose fsync failed is never synced again.
 * How it ends: blob_writer_free() joins the thread and closes the file; without a link the kernel takes it back, also after a kill.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { CHUNK_BYTES = 256 * 1024, FLUSH_BYTES = 4 * 1024 * 1024, TEMP_NAME_BYTES = 40 };

/* A socket comes in bursts (full, then drained), which a long queue evens out. All of a long queue lies in one huge page: hardly any faults, hardly any misses of the TLB. */
enum { CHUNKS_STEADY = 4, CHUNKS_BURSTS = 8, CHUNKS_MAX = CHUNKS_BURSTS, BLOCK_BYTES = CHUNKS_BURSTS * CHUNK_BYTES };
static_assert(BLOCK_BYTES == 2 << 20, "a huge page");

/* On its way into the file; how far the hash has come is writer->hashed. */
enum chunk_way { CHUNK_DUE, CHUNK_TAKEN, CHUNK_WRITTEN };
struct chunk { uint8_t *bytes; size_t used; enum chunk_way way; };

struct blob_writer {
        struct sink sink;
        struct store *store;
        struct blob_writer_options options;
        char *what;
        int fd;
        char temp[TEMP_NAME_BYTES];               /* name in tmp/ where O_TMPFILE is not supported, else "" */
        uint64_t size;                            /* bytes taken */
        bool is_finished, is_failed;
        struct error failure;
        struct digest digest, sha256;

        /* chunks[given % depth] is being filled; of those before it the first `hashed` went through the hash and the first `written` are in the file. Under the lock, as
           long as there are two threads; a chunk's bytes are its reader's without it. */
        struct chunk chunks[CHUNKS_MAX];
        unsigned depth;                           /* how many of them are used */
        uint8_t *block;                           /* where their bytes are; NULL: allocated one by one */
        struct hasher *hashers[2];                /* sha256, and sha512 when asked for */
        bool has_thread, is_ending, is_hashing;
        pthread_t thread;
        pthread_mutex_t lock;
        pthread_cond_t changed;
        unsigned given, hashed, written;
        uint64_t flushed;                         /* bytes sent on their way to the disk */
        bool has_trouble;                         /* a chunk could not be written */
        struct error trouble;
};

static struct chunk *chunk_at(struct blob_writer *writer, unsigned number)
{
        return &writer->chunks[number % writer->depth];
}

/* NULL: not now; it does not matter. */
static uint8_t *block_map(void)
{
        uint8_t *area = mmap(NULL, 2 * BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (area == MAP_FAILED)
                return NULL;
        size_t before = -(uintptr_t)area % BLOCK_BYTES;
        if (before > 0)
                munmap(area, before);
        munmap(area + before + BLOCK_BYTES, BLOCK_BYTES - before);
        madvise(area + before, BLOCK_BYTES, MADV_HUGEPAGE);
        return area + before;
}

/* For the first use of a chunk. */
static bool chunk_open(struct blob_writer *writer, struct chunk *chunk)
{
        if (!chunk->bytes)
                chunk->bytes = writer->block ? writer->block + (size_t)(chunk - writer->chunks) * CHUNK_BYTES : malloc(CHUNK_BYTES);
        return chunk->bytes;
}

static void chunks_free(struct blob_writer *writer)
{
        for (size_t i = 0; i < writer->depth; i++) {
                uint8_t *bytes = TAKE(writer->chunks[i].bytes);
                if (!writer->block)
                        free(bytes);
        }
        if (writer->block)
                munmap(TAKE(writer->block), BLOCK_BYTES);
}

static bool writer_fail(struct blob_writer *writer, struct error *err)
{
        writer->is_failed = true;
        writer->failure = *err;
        return false;
}

static void chunk_hash(struct blob_writer *writer, const struct chunk *chunk)
{
        for (size_t i = 0; i < COUNT_OF(writer->hashers); i++)
                if (writer->hashers[i])
                        hasher_update(writer->hashers[i], chunk->bytes, chunk->used);
}

static bool chunk_write(struct blob_writer *writer, const struct chunk *chunk, unsigned number, struct error *err)
{
        errno = ENOSPC;
        if (!fault_hit("store.write") && fs_pwrite_all(writer->fd, chunk->bytes, chunk->used, (off_t)number * CHUNK_BYTES))
                return true;
        return store_fail(writer->store, err, errno, "cannot write %s", writer->what);
}

/* All up to `end` that is not on its way to the disk yet; a chunk before it that is still being written waits for the next time. */
static void flush_start(struct blob_writer *writer, uint64_t end, uint64_t least_bytes)
{
        uint64_t from = writer->flushed;
        if (writer->options.scratch || end < from + least_bytes)
                return;
        writer->flushed = end;
        pthread_mutex_unlock(&writer->lock);
        sync_file_range(writer->fd, (off_t)from, (off_t)(end - from), SYNC_FILE_RANGE_WRITE);
        pthread_mutex_lock(&writer->lock);
}

/* The oldest chunk that nobody writes goes into the file. False: there is none. Under the lock, which is open meanwhile. */
static bool step_write(struct blob_writer *writer)
{
        unsigned number = writer->written;
        while (number != writer->given && chunk_at(writer, number)->way != CHUNK_DUE)
                number++;
        if (number == writer->given)
                return false;

        struct chunk *chunk = chunk_at(writer, number);
        struct error err;
        bool is_good = true, is_vain = writer->has_trouble;
        chunk->way = CHUNK_TAKEN;
        pthread_mutex_unlock(&writer->lock);
        if (!is_vain)
                is_good = chunk_write(writer, chunk, number, &err);
        pthread_mutex_lock(&writer->lock);
        chunk->way = CHUNK_WRITTEN;
        if (!is_good) {
                writer->has_trouble = true;
                writer->trouble = err;
        }
        while (writer->written != writer->given && chunk_at(writer, writer->written)->way == CHUNK_WRITTEN)
                writer->written++;
        pthread_cond_signal(&writer->changed);
        flush_start(writer, (uint64_t)writer->written * CHUNK_BYTES, FLUSH_BYTES);
        return true;
}

/* The next chunk in order goes through the hash. False: there is none, or the other thread is at it. Under the lock, which is open meanwhile. */
static bool step_hash(struct blob_writer *writer)
{
        if (writer->hashed == writer->given || writer->is_hashing)
                return false;
        const struct chunk *chunk = chunk_at(writer, writer->hashed);
        writer->is_hashing = true;
        pthread_mutex_unlock(&writer->lock);
        chunk_hash(writer, chunk);
        pthread_mutex_lock(&writer->lock);
        writer->is_hashing = false;
        writer->hashed++;
        pthread_cond_signal(&writer->changed);
        return true;
}

static void *writer_run(void *arg)
{
        struct blob_writer *writer = arg;
        pthread_mutex_lock(&writer->lock);
        for (;;) {
                if (step_hash(writer) || step_write(writer))
                        continue;
                if (writer->is_ending && !writer->is_hashing)
                        break;
                pthread_cond_wait(&writer->changed, &writer->lock);
        }
        pthread_mutex_unlock(&writer->lock);
        return NULL;
}

/* Without a thread (limits of the process) all is done in place. */
static void helper_start(struct blob_writer *writer)
{
        writer->is_ending = false;
        writer->has_thread = !fault_hit("store.thread") && thread_start(writer_run, writer, &writer->thread);
}

static void helper_join(struct blob_writer *writer)
{
        if (!writer->has_thread)
                return;
        pthread_mutex_lock(&writer->lock);
        writer->is_ending = true;
        pthread_cond_signal(&writer->changed);
        pthread_mutex_unlock(&writer->lock);
        thread_join(writer->thread);
        writer->has_thread = false;
}

static bool chunk_is_free(const struct blob_writer *writer)
{
        return writer->given - writer->hashed < writer->depth && writer->given - writer->written < writer->depth;
}

/* The chunk is full: on its ways, and the next one is free when this returns. */
static bool chunk_give(struct blob_writer *writer, struct error *err)
{
        if (!writer->has_thread)
                helper_start(writer);
        pthread_mutex_lock(&writer->lock);
        chunk_at(writer, writer->given)->way = CHUNK_DUE;
        writer->given++;
        pthread_cond_signal(&writer->changed);
        if (!writer->has_thread) {
                step_hash(writer);
                step_write(writer);
        }
        while (!chunk_is_free(writer))
                if (!step_write(writer) && !step_hash(writer))
                        pthread_cond_wait(&writer->changed, &writer->lock);
        bool is_good = !writer->has_trouble;
        if (!is_good)
                *err = writer->trouble;
        pthread_mutex_unlock(&writer->lock);
        chunk_at(writer, writer->given)->used = 0;
        thread_place();
        return is_good;
}

static bool writer_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct blob_writer *writer = CONTAINER_OF(sink, struct blob_writer, sink);
        if (writer->is_failed || writer->is_finished) {
                if (!writer->is_failed)
                        return refuse(err, ERROR_INTERNAL, "%s came to its end before", writer->what);
                *err = writer->failure;
                return false;
        }
        uint64_t limit = writer->options.size_limit;
        if (limit > 0 && size_bytes > limit - writer->size) {
                char human[32];
                size_format(limit, human, sizeof human);
                refuse(err, ERROR_TOO_LARGE, "%s is larger than the limit of %s", writer->what, human);
                return writer_fail(writer, err);
        }
        writer->size += size_bytes;

        const uint8_t *from = bytes;
        while (size_bytes > 0) {
                struct chunk *chunk = chunk_at(writer, writer->given);
                if (!chunk_open(writer, chunk)) {
                        refuse(err, ERROR_INTERNAL, "out of memory for %s", writer->what);
                        return writer_fail(writer, err);
                }
                size_t part = CHUNK_BYTES - chunk->used < size_bytes ? CHUNK_BYTES - chunk->used : size_bytes;
                memcpy(chunk->bytes + chunk->used, from, part);
                chunk->used += part;
                from += part;
                size_bytes -= part;
                if (chunk->used == CHUNK_BYTES && !chunk_give(writer, err))
                        return writer_fail(writer, err);
        }
        return true;
}

static bool writer_restart(struct sink *sink, struct error *err)
{
        struct blob_writer *writer = CONTAINER_OF(sink, struct blob_writer, sink);
        if (writer->is_finished)
                return refuse(err, ERROR_INTERNAL, "%s came to its end before", writer->what);
        helper_join(writer);
        writer->given = writer->hashed = writer->written = 0;
        writer->has_trouble = false;
        for (size_t i = 0; i < writer->depth; i++)
                writer->chunks[i].used = 0;
        for (size_t i = 0; i < COUNT_OF(writer->hashers); i++)
                if (writer->hashers[i])
                        hasher_reset(writer->hashers[i]);
        writer->size = writer->flushed = 0;
        writer->is_failed = false;
        if (ftruncate(writer->fd, 0) == 0 && lseek(writer->fd, 0, SEEK_SET) == 0)
                return true;
        store_fail(writer->store, err, errno, "cannot start %s again", writer->what);
        return writer_fail(writer, err);
}

static int file_open(struct store *store, char ret_temp[TEMP_NAME_BYTES])
{
        errno = EOPNOTSUPP;
        int fd = fault_hit("store.tmpfile") ? -1 : openat(store->tmp_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
        if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
                return fd;

        uint64_t number = 0;
        random_bytes(&number, sizeof number);
        snprintf(ret_temp, TEMP_NAME_BYTES, "blob-%016llx", (unsigned long long)number);
        fd = openat(store->tmp_fd, ret_temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0400);
        if (fd < 0)
                ret_temp[0] = '\0';
        return fd;
}

/* A disk that is too small says so now, not after the transfer. The hint is a claim from outside and never more than the limit. */
static bool file_reserve(struct blob_writer *writer, struct error *err)
{
        const struct blob_writer_options *options = &writer->options;
        if (options->scratch || options->size_hint <= CHUNK_BYTES || options->size_limit == 0 || options->size_hint > options->size_limit)
                return true;
        if (fallocate(writer->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)options->size_hint) == 0)
                return true;
        if (errno != ENOSPC && errno != EDQUOT && errno != EFBIG)
                return true;
        return store_fail(writer->store, err, errno, "no room for %s (%llu bytes)", writer->what, (unsigned long long)options->size_hint);
}

bool blob_writer_open(struct store *store, const struct blob_writer_options *options, struct blob_writer **ret_writer, struct error *err)
{
        if (!store_refuse_read_only(store, err))
                return false;

        CLEANUP(blob_writer_free) struct blob_writer *writer = memory_new(1, sizeof *writer);
        *writer = (struct blob_writer){ .sink = { writer_write, writer_restart }, .store = store, .options = *options, .fd = -1 };
        pthread_mutex_init(&writer->lock, NULL);
        pthread_cond_init(&writer->changed, NULL);
        writer->what = string_copy(options->what ? options->what : "the content");
        writer->options.what = writer->what;
        writer->depth = options->has_bursts ? CHUNKS_BURSTS : CHUNKS_STEADY;
        writer->block = options->has_bursts && options->size_hint > BLOCK_BYTES ? block_map() : NULL;
        writer->hashers[0] = hasher_new(DIGEST_SHA256);
        if (options->algorithm == DIGEST_SHA512)
                writer->hashers[1] = hasher_new(DIGEST_SHA512);

        writer->fd = file_open(store, writer->temp);
        if (writer->fd < 0)
                return store_fail(store, err, errno, "cannot make a temporary file for %s", writer->what);
        if (!file_reserve(writer, err))
                return false;
        *ret_writer = TAKE(writer);
        return true;
}

struct sink *blob_writer_get_sink(struct blob_writer *writer)
{
        return &writer->sink;
}

int blob_writer_get_fd(const struct blob_writer *writer)
{
        return writer->fd;
}

/* The last chunk, which is not full, and what the threads still have; on its way to the disk while the second thread hashes. */
static bool chunks_end(struct blob_writer *writer, struct error *err)
{
        struct chunk *last = chunk_at(writer, writer->given);
        bool is_good = last->used == 0 || chunk_write(writer, last, writer->given, err);
        pthread_mutex_lock(&writer->lock);
        while (step_write(writer))
                ;
        if (writer->size > CHUNK_BYTES)
                flush_start(writer, writer->size, 1);
        pthread_mutex_unlock(&writer->lock);
        helper_join(writer);
        if (writer->has_trouble)
                *err = writer->trouble;
        if (!is_good || writer->has_trouble)
                return false;
        if (last->used > 0)
                chunk_hash(writer, last);
        return true;
}

static bool writer_end(struct blob_writer *writer, struct error *err)
{
        if (!chunks_end(writer, err))
                return writer_fail(writer, err);

        hasher_finish(writer->hashers[0], &writer->sha256);
        writer->digest = writer->sha256;
        if (writer->hashers[1])
                hasher_finish(writer->hashers[1], &writer->digest);
        chunks_free(writer);
        writer->is_finished = true;
        if (writer->options.size_hint > writer->size && ftruncate(writer->fd, (off_t)writer->size) != 0)
                return true;                      /* what was reserved too much stays reserved: no harm to the bytes */
        return true;
}

bool blob_writer_finish(struct blob_writer *writer, struct digest *ret_digest, struct digest *ret_sha256, uint64_t *ret_size, struct error *err)
{
        if (writer->is_failed) {
                *err = writer->failure;
                return false;
        }
        if (!writer->is_finished && !writer_end(writer, err))
                return false;
        if (ret_digest)
                *ret_digest = writer->digest;
        if (ret_sha256)
                *ret_sha256 = writer->sha256;
        if (ret_size)
                *ret_size = writer->size;
        return true;
}

/* O_TMPFILE files have their only name in /proc; without /proc the kernel may still allow the empty path. */
static int file_link(const struct blob_writer *writer, const char *name)
{
        struct store *store = writer->store;
        if (writer->temp[0])
                return linkat(store->tmp_fd, writer->temp, store->blobs_fd, name, 0);
        char path[40];
        snprintf(path, sizeof path, "/proc/self/fd/%d", writer->fd);
        if (linkat(AT_FDCWD, path, store->blobs_fd, name, AT_SYMLINK_FOLLOW) == 0)
                return 0;
        return errno == ENOENT && access("/proc/self/fd", F_OK) != 0 ? linkat(writer->fd, "", store->blobs_fd, name, AT_EMPTY_PATH) : -1;
}

bool writer_publish(struct blob_writer *writer, const char *name, bool *ret_exists, struct error *err)
{
        errno = EIO;
        if (fault_hit("store.fsync") || fchmod(writer->fd, 0444) != 0 || fsync(writer->fd) != 0) {
                store_fail(writer->store, err, errno, "cannot make %s durable", writer->what);
                return writer_fail(writer, err);
        }
        errno = ENOSPC;
        if (!fault_hit("store.place") && file_link(writer, name) == 0) {
                if (writer->temp[0])              /* now, as it changes the ctime that the row is about to keep */
                        unlinkat(writer->store->tmp_fd, writer->temp, 0);
                writer->temp[0] = '\0';
                *ret_exists = false;
                return true;
        }
        if (errno != EEXIST)
                return store_fail(writer->store, err, errno, "cannot give %s its name", writer->what);
        *ret_exists = true;
        return true;
}

bool writer_is_scratch(const struct blob_writer *writer)
{
        return writer->options.scratch;
}

void blob_writer_free(struct blob_writer **writer)
{
        struct blob_writer *gone = TAKE(*writer);
        if (!gone)
                return;
        helper_join(gone);
        cleanup_close(&gone->fd);
        if (gone->temp[0])
                unlinkat(gone->store->tmp_fd, gone->temp, 0);
        chunks_free(gone);
        for (size_t i = 0; i < COUNT_OF(gone->hashers); i++)
                hasher_free(&gone->hashers[i]);
        pthread_cond_destroy(&gone->changed);
        pthread_mutex_destroy(&gone->lock);
        free(gone->what);
        free(gone);
}
