/* memory: cleanup where the thing is made, and allocations of our own small sizes. */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define CLEANUP(function) __attribute__((cleanup(function)))
#define TAKE(pointer) ({ __typeof__(pointer) taken_ = (pointer); (pointer) = NULL; taken_; })
/* On the path of a hit, for what is large: not zeroed by the compiler (-ftrivial-auto-var-init). Whoever declares it fills what is read of it. */
#define UNCLEARED __attribute__((uninitialized))
#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define CONTAINER_OF(pointer, type, member) ((type *)(void *)((char *)(pointer) - offsetof(type, member)))

/* For sizes that we choose ourselves: zeroed, never NULL; out of memory ends the process. A size from outside is compared
   with a limit first and allocated with calloc(), whose failure is then an error like any other. */
void *memory_new(size_t count, size_t size_bytes) __attribute__((malloc, returns_nonnull));
/* Grows an array of ours; same rule. `pointer` may be NULL. New elements are not cleared. */
void *memory_resize(void *pointer, size_t count, size_t size_bytes) __attribute__((returns_nonnull));

/* Copies, owned by the caller (free). string_copy(NULL) is NULL. */
char *string_copy(const char *text);
char *string_copy_bytes(const char *bytes, size_t length) __attribute__((returns_nonnull));
char *string_format(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));

/* NULL-safe comparison; NULL equals only NULL. */
bool string_equal(const char *a, const char *b);
bool string_starts_with(const char *text, const char *prefix);
bool string_starts_with_nocase(const char *text, const char *prefix);
bool string_ends_with(const char *text, const char *suffix);
/* Labels of a-z, 0-9 and inner '-' (RFC 1123, as Kubernetes names things), joined by single dots if `with_dots`; 1 to `max_bytes` bytes. */
bool string_is_dns(const char *text, size_t max_bytes, bool with_dots);
/* Same time whatever the contents (secrets, MACs). */
bool bytes_equal_consttime(const void *a, const void *b, size_t size_bytes);

/* Bytes of the well-formed UTF-8 sequence (RFC 3629) that `bytes` begins with, 1 for ASCII; 0 if it is none or is cut by `length`. */
size_t string_utf8_length(const void *bytes, size_t length);
/* Copies `text` into `ret_out` with control bytes, DEL and bytes that are no UTF-8 shown as \xNN, cut at the room there is (NUL-terminated).
   For every text from outside that goes into an error or a log. */
const char *string_printable(const char *text, size_t length, char *ret_out, size_t out_size);

/* CLEANUP(cleanup_free) char *text = …; */
void cleanup_free(void *pointer_to_pointer);
void cleanup_close(int *fd);                      /* closes an fd >= 0 and keeps errno */
