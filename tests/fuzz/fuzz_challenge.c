/* Any header: at most eight challenges, each with a scheme. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/registry.h>
#include "../../agent/registry/room.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(cleanup_free) char *header = string_copy_bytes((const char *)data, size);
        struct challenge challenges[8];
        size_t count = challenge_parse(header, challenges);

        if (count > 8)
                abort();
        for (size_t i = 0; i < count; i++) {
                CLEANUP(authority_fini) struct authority authority = { 0 };
                CLEANUP(cleanup_free) char *scopes = scopes_format("team/a", challenges[i].scope);
                if (!challenges[i].scheme || !*challenges[i].scheme || !string_ends_with(scopes, "repository:team/a:pull") || strstr(scopes, ",push"))
                        abort();
                if (challenges[i].realm && authority_parse(challenges[i].realm, &authority) && (!*authority.host || strpbrk(authority.host, "@/\\?# ")))
                        abort();
                challenge_fini(&challenges[i]);
        }
        return 0;
}
