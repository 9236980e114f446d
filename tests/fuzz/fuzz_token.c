/* Any answer of a token server, and the same bytes as an error body. */
#include <stdlib.h>
#include <string.h>
#include "../../agent/registry/room.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct token_answer answer = { 0 };
        struct error err = { 0 };
        char quote[256];

        answer_quote(data, size, quote, sizeof quote);
        for (const char *c = quote; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        abort();
        if (!token_answer_parse(data, size, 1767225600, &answer, &err))
                return 0;
        if (secret_get_size(answer.token) == 0 || strpbrk(secret_get_text(answer.token), "\r\n ") || answer.lifetime_ms < 0 || answer.lifetime_ms > 24 * 3600 * 1000)
                abort();
        secret_free(&answer.token);
        return 0;
}
