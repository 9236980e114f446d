/* What holds of every tree of values, whatever text it was read from. */
#pragma once
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>

static void must(bool truth)
{
        if (!truth)
                abort();
}

static void check(const struct value *value, unsigned depth)
{
        must(depth <= VALUE_DEPTH_MAX);
        if (value_get_kind(value) == VALUE_TEXT)
                must(strlen(value_get_text(value)) == value_get_text_bytes(value));
        for (size_t i = 0; i < value_get_count(value); i++) {
                if (value_get_kind(value) == VALUE_MAP)
                        must(value_get_member(value, value_get_key(value, i)) == value_get_item(value, i));         /* no key twice */
                check(value_get_item(value, i), depth + 1);
        }
}
