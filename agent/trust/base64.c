/*
 * How it goes: CR and LF are left out, the URL-safe alphabet becomes the standard one, base decodes exactly (padding, unused bits).
 * How it fails: a blank, a mixture of alphabets, wrong padding, bits left over, more bytes than the limit: false, nothing set.
 * How it ends: the caller frees the bytes; a NUL that is not counted stands behind them.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "room.h"

/* `compact` has room for `length`. False: both alphabets at once, or the URL-safe one where only the standard one is allowed. */
static bool compact_make(const char *text, size_t length, enum base64_form form, char *compact, size_t *ret_used)
{
        bool standard = false, url_safe = false;
        size_t used = 0;
        for (size_t i = 0; i < length; i++) {
                char c = text[i];
                if (c == '\r' || c == '\n')
                        continue;
                standard |= c == '+' || c == '/';
                url_safe |= c == '-' || c == '_';
                compact[used++] = c == '-' ? '+' : c == '_' ? '/' : c;
        }
        *ret_used = used;
        return !url_safe || (form == BASE64_EITHER && !standard);
}

bool base64_take(const char *text, size_t length, enum base64_form form, size_t limit_bytes, void **ret_bytes, size_t *ret_size)
{
        if (length / 2 > limit_bytes + 64)                 /* base64 and its line breaks are far less */
                return false;

        CLEANUP(cleanup_free) char *compact = calloc(1, length + 1);
        CLEANUP(cleanup_free) char *bytes = calloc(1, length / 4 * 3 + 4);
        size_t used = 0, size = 0;
        bool good = compact && bytes && compact_make(text, length, form, compact, &used) &&
                    base64_decode(compact, used, form == BASE64_EITHER, bytes, &size) && size <= limit_bytes;
        if (compact)
                explicit_bzero(compact, length);           /* keys pass here too */
        if (!good && bytes)
                explicit_bzero(bytes, length / 4 * 3 + 4);
        if (!good)
                return false;

        bytes[size] = '\0';
        *ret_bytes = TAKE(bytes);
        *ret_size = size;
        return true;
}
