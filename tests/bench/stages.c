/*
 * How it goes: stages LAYER|- MODULE FOLDER TIMES: each stage of a pull alone, one thread, best effort: inflating the gzip tar LAYER into nothing, hashing MODULE, hashing LAYER, writing MODULE durably
 *              (unnamed file, early writeback, fsync, link, fsync of the folder). Prints the medians as {"inflate_us", "hash_us", "hash_layer_us", "write_us"}.
 * How it fails: a file that cannot be read or a layer that is none ends it with 1.
 * How it ends: what was written to FOLDER is removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/base.h>
#include <wasmcached/unpack.h>

enum { CHUNK_BYTES = 256 * 1024, FLUSH_BYTES = 4 * 1024 * 1024, TIMES_MAX = 101 };

struct input { int fd; size_t size; const uint8_t *bytes; };

static void die(const char *what, const char *detail)
{
        fprintf(stderr, "stages: %s: %s\n", what, detail);
        exit(1);
}

static void input_open(struct input *input, const char *path)
{
        struct stat info;
        input->fd = open(path, O_RDONLY | O_CLOEXEC);
        if (input->fd < 0 || fstat(input->fd, &info) != 0)
                die(path, strerror(errno));
        input->size = (size_t)info.st_size;
        input->bytes = mmap(NULL, input->size, PROT_READ, MAP_SHARED | MAP_POPULATE, input->fd, 0);
        if (input->bytes == MAP_FAILED)
                die(path, strerror(errno));
}

static bool nothing_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        (void)sink, (void)bytes, (void)size_bytes, (void)err;
        return true;
}

static void inflate_stage(const struct input *layer)
{
        struct sink nothing = { .write = nothing_write };
        struct error err = { 0 };
        if (!unpack_layer(&(struct unpack_source){ .fd = layer->fd, .size_bytes = layer->size }, UNPACK_GZIP, &unpack_limits_default, NULL, &nothing, &err))
                die("inflate", err.text);
}

/* By read(2), as a file or socket is. */
static void hash_stage(const struct input *input)
{
        static uint8_t chunk[CHUNK_BYTES];
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        struct digest digest;
        for (size_t done = 0; done < input->size;) {
                ssize_t got = pread(input->fd, chunk, sizeof chunk, (off_t)done);
                if (got <= 0)
                        die("read", strerror(errno));
                hasher_update(hasher, chunk, (size_t)got);
                done += (size_t)got;
        }
        hasher_finish(hasher, &digest);
}

static void write_stage(const struct input *module, const char *folder)
{
        CLEANUP(cleanup_free) char *name = string_format("%s/durable", folder);
        char proc[64];
        CLEANUP(cleanup_close) int dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CLEANUP(cleanup_close) int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
        if (fd < 0 || dir < 0)
                die(folder, strerror(errno));
        for (size_t done = 0, flushed = 0; done < module->size;) {
                size_t count = module->size - done < CHUNK_BYTES ? module->size - done : CHUNK_BYTES;
                if (!fs_write_all(fd, module->bytes + done, count))
                        die("write", strerror(errno));
                done += count;
                if (done - flushed >= FLUSH_BYTES) {
                        sync_file_range(fd, (off_t)flushed, (off_t)(done - flushed), SYNC_FILE_RANGE_WRITE);
                        flushed = done;
                }
        }
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
        if (fsync(fd) != 0 || linkat(AT_FDCWD, proc, AT_FDCWD, name, AT_SYMLINK_FOLLOW) != 0 || fsync(dir) != 0)
                die("durable write", strerror(errno));
        unlink(name);
}

static int compare(const void *a, const void *b)
{
        int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        enum { INFLATE, HASH, HASH_LAYER, WRITE, STAGES };
        static const char *const names[STAGES] = { "inflate_us", "hash_us", "hash_layer_us", "write_us" };
        static int64_t taken[STAGES][TIMES_MAX];
        struct input layer = { -1, 0, NULL }, module;
        if (argc != 5 || atoi(argv[4]) < 1 || atoi(argv[4]) > TIMES_MAX)
                return 2;
        bool has_layer = strcmp(argv[1], "-") != 0;
        if (has_layer)
                input_open(&layer, argv[1]);
        input_open(&module, argv[2]);
        size_t times = (size_t)atoi(argv[4]);
        for (size_t i = 0; i < times; i++)
                for (int stage = 0; stage < STAGES; stage++) {
                        int64_t start_us = clock_get_us();
                        if (stage == INFLATE && has_layer)
                                inflate_stage(&layer);
                        else if (stage == HASH)
                                hash_stage(&module);
                        else if (stage == HASH_LAYER && has_layer)
                                hash_stage(&layer);
                        else if (stage == WRITE)
                                write_stage(&module, argv[3]);
                        taken[stage][i] = clock_get_us() - start_us;
                }
        for (int stage = 0; stage < STAGES; stage++) {
                qsort(taken[stage], times, sizeof taken[stage][0], compare);
                printf("%s\"%s\": %lld", stage ? ", " : "{", names[stage], (long long)taken[stage][times / 2]);
        }
        puts("}");
        return 0;
}
