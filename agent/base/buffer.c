/*
 * How it goes: capacity doubles; a NUL is kept behind the end.
 * How it fails: beyond the limit, or without memory, an append returns false and changes nothing.
 * How it ends: buffer_fini, or buffer_take by the next owner.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/memory.h>

bool buffer_reserve(struct buffer *buffer, size_t more_bytes)
{
        size_t need;

        if (__builtin_add_overflow(buffer->used, more_bytes, &need) || need == SIZE_MAX || (buffer->limit && need > buffer->limit))
                return false;
        if (need < buffer->capacity)
                return true;

        size_t capacity = buffer->capacity ? buffer->capacity : 64;
        while (capacity <= need)
                if (__builtin_mul_overflow(capacity, (size_t)2, &capacity))
                        return false;
        char *data = realloc(buffer->data, capacity);
        if (!data)
                return false;
        buffer->data = data;
        buffer->capacity = capacity;
        data[buffer->used] = '\0';
        return true;
}

bool buffer_append(struct buffer *buffer, const void *bytes, size_t size_bytes)
{
        if (!buffer_reserve(buffer, size_bytes))
                return false;
        if (size_bytes > 0)
                memcpy(buffer->data + buffer->used, bytes, size_bytes);
        buffer->used += size_bytes;
        buffer->data[buffer->used] = '\0';
        return true;
}

bool buffer_append_text(struct buffer *buffer, const char *text)
{
        return buffer_append(buffer, text, strlen(text));
}

bool buffer_printf(struct buffer *buffer, const char *format, ...)
{
        va_list list, again;

        va_start(list, format);
        va_copy(again, list);
        int length = vsnprintf(NULL, 0, format, list);
        va_end(list);

        bool is_room = length >= 0 && buffer_reserve(buffer, (size_t)length);
        if (is_room) {
                vsnprintf(buffer->data + buffer->used, (size_t)length + 1, format, again);
                buffer->used += (size_t)length;
        }
        va_end(again);
        return is_room;
}

void buffer_clear(struct buffer *buffer)
{
        buffer->used = 0;
        if (buffer->data)
                buffer->data[0] = '\0';
}

void buffer_fini(struct buffer *buffer)
{
        free(buffer->data);
        *buffer = (struct buffer){ .limit = buffer->limit };
}

void buffer_fini_secret(struct buffer *buffer)
{
        if (buffer->data)
                explicit_bzero(buffer->data, buffer->capacity);
        buffer_fini(buffer);
}

char *buffer_take(struct buffer *buffer)
{
        char *text = buffer->data ? buffer->data : string_copy("");

        *buffer = (struct buffer){ .limit = buffer->limit };
        return text;
}
