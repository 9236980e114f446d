/*
 * How it goes: what lies beside a packed body signs the body, and only the module in it is kept. A body that is small enough is kept as evidence too: after a restart it is
 *              unpacked again, has to give that very module, and its signatures are judged on it, without network.
 * How it fails: a body that is too large, spoilt, exchanged or of another module proves nothing; the source is asked.
 * How it ends: the body is the proving's, and the store's with the evidence.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wasmcached/unpack.h>
#include "prove.h"

/* Together with its signatures below what the store keeps for one target. */
enum { BOX_MAX_BYTES = 6 << 20 };

static const char kind[] = "packed-body";

struct hash_sink { struct sink sink; struct hasher *hasher; };

static bool hash_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        (void)err;
        hasher_update(CONTAINER_OF(sink, struct hash_sink, sink)->hasher, bytes, size_bytes);
        return true;
}

bool box_is_row(const struct store_evidence *row)
{
        return strcmp(row->kind, kind) == 0;
}

void box_set(struct proving *proving, const void *bytes, size_t size_bytes)
{
        buffer_fini(&proving->box);
        if (size_bytes > 0 && size_bytes <= BOX_MAX_BYTES)
                buffer_append(&proving->box, bytes, size_bytes);
}

void box_format_row(const struct pull *pull, struct store_evidence *ret_row)
{
        *ret_row = (struct store_evidence){ .target = pull->module, .kind = kind, .where = pull->want->name, .repository = pull->want->repository, .body = pull->proving->box.data,
                                            .body_bytes = pull->proving->box.used, .extra = "", .found_s = clock_get_wall_s() };
}

bool box_is_of_module(struct pull *pull)
{
        const struct buffer *box = &pull->proving->box;
        struct error err;
        CLEANUP(cleanup_close) int fd = box->used > 0 ? memfd_create("box", MFD_CLOEXEC) : -1;
        if (fd < 0 || write(fd, box->data, box->used) != (ssize_t)box->used)
                return false;
        struct unpack_limits limits = unpack_limits_default;
        limits.module_max_bytes = pull->setup->options.max_module_bytes;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        struct hash_sink sink = { .sink = { .write = hash_write }, .hasher = hasher };
        struct digest found;
        if (!unpack_body(&(struct unpack_source){ .fd = fd, .size_bytes = box->used }, &limits, pull->cancel, &sink.sink, &err))
                return false;
        hasher_finish(hasher, &found);
        return digest_equal(&found, &pull->module);
}
