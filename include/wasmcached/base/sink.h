/* sink: where a stream of bytes goes. Embedded in what receives; find the owner with CONTAINER_OF. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/error.h>

struct sink {
        /* Takes all of it or fails; the giver then stops and reports `err`. */
        bool (*write)(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err);
        /* Forget everything, it comes again from byte 0 (a resume that the server did not honour). NULL = cannot. */
        bool (*restart)(struct sink *sink, struct error *err);
};

/* Into a buffer with its own limit; ERROR_TOO_LARGE beyond, naming `what`. */
struct sink_buffer { struct sink sink; struct buffer *buffer; const char *what; };
void sink_buffer_init(struct sink_buffer *sink, struct buffer *buffer, const char *what);
