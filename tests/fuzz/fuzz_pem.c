/* Any text as verificationKey; what is taken is a set of 1 to 8 sound keys, whose own signatures nothing here can make. */
#include <stdlib.h>
#include <string.h>
#include "../../agent/trust/room.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct trust_keys *keys = NULL;
        struct error err = { 0 };
        if (!trust_keys_parse((const char *)data, size, "key", &keys, &err)) {
                if (keys || err.code != ERROR_BAD_KEY || strncmp(err.text, "key", 3) != 0)
                        abort();
                return 0;
        }

        struct trust_budget budget = TRUST_BUDGET;
        struct verified verified;
        struct verify_input input = { .message = SPAN("message", 7), .signature = SPAN(data, size < 600 ? size : 600), .flags = VERIFY_PSS };
        if (trust_keys_get_count(keys) < 1 || trust_keys_get_count(keys) > TRUST_KEYS_MAX || verify_message(keys, &input, &budget, &verified) != VERIFY_BAD)
                abort();
        trust_keys_unref(&keys);
        return 0;
}
