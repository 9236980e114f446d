/*
 * How it goes: the first byte says body or layer and its box; the rest is unpacked with small limits into a sink that counts.
 * How it fails: a crash, more bytes than the limit, bytes that are no core module, an error without a text.
 * How it ends: nothing is kept.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wasmcached/unpack.h>

enum { MODULE_MAX_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct counter { struct sink sink; uint64_t total_bytes; uint8_t head[8]; };

static bool counter_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct counter *counter = CONTAINER_OF(sink, struct counter, sink);
        (void)err;
        for (size_t i = 0; i < size_bytes && counter->total_bytes + i < sizeof counter->head; i++)
                counter->head[counter->total_bytes + i] = ((const uint8_t *)bytes)[i];
        counter->total_bytes += size_bytes;
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct unpack_limits limits = { .module_max_bytes = MODULE_MAX_BYTES, .ratio_max = 200,
                        .ratio_free_bytes = 1 << 16, .tar_entries_max = 50, .expanded_max_bytes = 4 << 20 };
        struct counter counter = { .sink = { .write = counter_write } };
        struct error err = { 0 };
        if (size == 0)
                return 0;

        struct unpack_source source = { .fd = memfd_create("fuzz", MFD_CLOEXEC), .size_bytes = size - 1 };
        if (source.fd < 0 || !fs_write_all(source.fd, data + 1, size - 1))
                abort();
        unsigned form = data[0] % 4;
        bool good = form == 3 ? unpack_body(&source, &limits, NULL, &counter.sink, &err) : unpack_layer(&source, (enum unpack_box)form, &limits, NULL, &counter.sink, &err);
        close(source.fd);
        if (counter.total_bytes > MODULE_MAX_BYTES || (counter.total_bytes >= 8 && memcmp(counter.head, "\0asm\1\0\0\0", 8) != 0))
                abort();
        if (good ? counter.total_bytes < 8 : err.code == ERROR_NONE || !err.text[0])
                abort();
        return 0;
}
