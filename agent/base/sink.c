/*
 * How it goes: bytes are appended to the buffer of the owner.
 * How it fails: ERROR_TOO_LARGE at the buffer's limit, naming what was read.
 * How it ends: the buffer is the owner's.
 */
#include <wasmcached/base/memory.h>
#include <wasmcached/base/sink.h>

static bool write_buffer(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct sink_buffer *self = CONTAINER_OF(sink, struct sink_buffer, sink);

        if (!buffer_append(self->buffer, bytes, size_bytes))
                return refuse(err, ERROR_TOO_LARGE, "%s is larger than %zu bytes", self->what, self->buffer->limit);
        return true;
}

static bool restart_buffer(struct sink *sink, struct error *err)
{
        (void)err;
        buffer_clear(CONTAINER_OF(sink, struct sink_buffer, sink)->buffer);
        return true;
}

void sink_buffer_init(struct sink_buffer *sink, struct buffer *buffer, const char *what)
{
        *sink = (struct sink_buffer){ .sink = { write_buffer, restart_buffer }, .buffer = buffer, .what = what };
}
