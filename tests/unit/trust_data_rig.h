/* For tests of trust: the data of tests/unit/data/signatures, read as JSON. Include after cmocka.h. */
#pragma once
#include <fcntl.h>
#include <unistd.h>
#include "trust_oci_rig.h"

/* tests/run names the source folder; a program that is started by hand finds it in its working directory. The caller frees. */
RIG struct value *rig_data(const char *name)
{
        const char *source = getenv("WASMCACHED_SOURCE");
        CLEANUP(cleanup_free) char *path = string_format("%s/tests/unit/data/signatures/%s", source ? source : ".", name);
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct value *value = NULL;
        struct error err;
        if (!fs_load(AT_FDCWD, path, 8u << 20, &text, &err) || !json_parse(text.data, text.used, ERROR_INTERNAL, &value, &err))
                fail_msg("%s: %s", path, err.text);
        return value;
}

RIG const char *rig_text(const struct value *map, const char *name)
{
        const char *text = value_get_text(value_get_member(map, name));
        if (!text)
                fail_msg("no text \"%s\"", name);
        return text;
}
