/* buffer: bytes that grow, up to a limit that the maker names. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

/* Zero-initialised = empty, unlimited (for texts of our own). data[used] is always NUL once data is not NULL. */
struct buffer { char *data; size_t used, capacity, limit; };

/* False when `limit` (0 = none) would be exceeded or memory is out; the buffer is then unchanged. */
bool buffer_append(struct buffer *buffer, const void *bytes, size_t size_bytes);
bool buffer_append_text(struct buffer *buffer, const char *text);
bool buffer_printf(struct buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool buffer_reserve(struct buffer *buffer, size_t more_bytes);
void buffer_clear(struct buffer *buffer);         /* keeps the memory */
void buffer_fini(struct buffer *buffer);          /* frees; usable with CLEANUP */
void buffer_fini_secret(struct buffer *buffer);   /* wipes, then frees */
char *buffer_take(struct buffer *buffer);         /* the text, owned by the caller, never NULL; the buffer is empty again */
