/* Any text: what is taken is within the bounds, reads back the same after it was written; every error says where. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "value_check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void print(const struct value *value, struct buffer *ret_text)
{
        struct json_writer writer = { .out = ret_text };
        json_put_value(&writer, NULL, value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(value_free) struct value *value = NULL, *again = NULL;
        CLEANUP(buffer_fini) struct buffer first = { 0 }, second = { 0 };
        struct error err = { 0 };

        if (!json_parse((const char *)data, size, ERROR_BAD_REQUEST, &value, &err)) {
                must(!value && err.code == ERROR_BAD_REQUEST && string_starts_with(err.text, "JSON "));
                return 0;
        }
        check(value, 0);
        print(value, &first);
        must(json_parse(first.data, first.used, ERROR_BAD_REQUEST, &again, &err));
        print(again, &second);
        if (memmem(first.data, first.used, "-0", 2))               /* -0.0 is written -0, which is the integer 0 */
                return 0;
        must(first.used == second.used && memcmp(first.data, second.data, first.used) == 0);
        return 0;
}
