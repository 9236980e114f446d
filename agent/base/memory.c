/*
 * How it goes: thin wrappers that cannot return NULL, and the few string helpers that every room needs.
 * How it fails: out of memory ends the process; sizes from outside never come here.
 * How it ends: what is returned is freed with free().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include <wasmcached/base/memory.h>

static void *or_abort(void *pointer)
{
        if (!pointer) {
                fputs("wasmcached: out of memory\n", stderr);
                abort();
        }
        return pointer;
}

void *memory_new(size_t count, size_t size_bytes)
{
        return or_abort(calloc(count ? count : 1, size_bytes ? size_bytes : 1));
}

void *memory_resize(void *pointer, size_t count, size_t size_bytes)
{
        if (count == 0)
                count = 1;
        return or_abort(reallocarray(pointer, count, size_bytes ? size_bytes : 1));
}

char *string_copy(const char *text)
{
        return text ? or_abort(strdup(text)) : NULL;
}

char *string_copy_bytes(const char *bytes, size_t length)
{
        char *copy = memory_new(length + 1, 1);

        if (length > 0)
                memcpy(copy, bytes, length);
        return copy;
}

char *string_format(const char *format, ...)
{
        va_list list;
        char *text = NULL;

        va_start(list, format);
        int length = vasprintf(&text, format, list);
        va_end(list);
        return or_abort(length < 0 ? NULL : text);
}

bool string_equal(const char *a, const char *b)
{
        return a == b || (a && b && strcmp(a, b) == 0);
}

bool string_starts_with(const char *text, const char *prefix)
{
        return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool string_starts_with_nocase(const char *text, const char *prefix)
{
        return strncasecmp(text, prefix, strlen(prefix)) == 0;
}

bool string_ends_with(const char *text, const char *suffix)
{
        size_t length = strlen(text), suffix_length = strlen(suffix);
        return length >= suffix_length && memcmp(text + length - suffix_length, suffix, suffix_length) == 0;
}

bool string_is_dns(const char *text, size_t max_bytes, bool with_dots)
{
        size_t length = strlen(text);
        if (length == 0 || length > max_bytes)
                return false;

        for (size_t i = 0; i < length; i++) {
                char c = text[i];
                bool alphanumeric = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
                bool at_edge = i == 0 || i + 1 == length || text[i - 1] == '.' || text[i + 1] == '.';
                if (alphanumeric || (c == '-' && !at_edge) || (c == '.' && with_dots && !at_edge))
                        continue;
                return false;
        }
        return true;
}

bool bytes_equal_consttime(const void *a, const void *b, size_t size_bytes)
{
        const unsigned char *left = a, *right = b;
        volatile unsigned char difference = 0;

        for (size_t i = 0; i < size_bytes; i++)
                difference |= left[i] ^ right[i];
        return difference == 0;
}

size_t string_utf8_length(const void *bytes, size_t length)
{
        const unsigned char *at = bytes;
        unsigned char first = length > 0 ? at[0] : 0xff;
        size_t need = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;

        if (need == 0 || need > length)
                return 0;
        for (size_t i = 1; i < need; i++)
                if ((at[i] & 0xc0) != 0x80)
                        return 0;
        if ((first == 0xe0 && at[1] < 0xa0) || (first == 0xed && at[1] > 0x9f) || (first == 0xf0 && at[1] < 0x90) || (first == 0xf4 && at[1] > 0x8f))
                return 0;
        return need;
}

const char *string_printable(const char *text, size_t length, char *ret_out, size_t out_size)
{
        const unsigned char *bytes = (const unsigned char *)text;
        size_t used = 0;

        for (size_t i = 0; i < length;) {
                bool is_plain = bytes[i] >= 0x20 && bytes[i] < 0x7f;
                size_t take = is_plain ? 1 : bytes[i] < 0x80 ? 0 : string_utf8_length(bytes + i, length - i);
                if (take == 2 && bytes[i] == 0xc2 && bytes[i + 1] < 0xa0)
                        take = 0;                 /* C1 controls: terminals obey them */
                size_t need = take ? take : 4;

                if (used + need + 1 > out_size)
                        break;
                if (take) {
                        memcpy(ret_out + used, bytes + i, take);
                } else {
                        char escape[5];
                        snprintf(escape, sizeof escape, "\\x%02x", bytes[i]);
                        memcpy(ret_out + used, escape, 4);
                }
                used += need;
                i += take ? take : 1;
        }
        if (out_size > 0)
                ret_out[used] = '\0';
        return ret_out;
}

void cleanup_free(void *pointer_to_pointer)
{
        void **pointer = pointer_to_pointer;

        free(*pointer);
        *pointer = NULL;
}

void cleanup_close(int *fd)
{
        int saved = errno;

        if (*fd >= 0)
                close(*fd);
        *fd = -1;
        errno = saved;
}
