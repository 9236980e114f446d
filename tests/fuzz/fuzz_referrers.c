/* First line: a Link header; second line: a Content-Type (empty = none); the rest: the body, as a page of the API and as the fallback tag. */
#include <stdlib.h>
#include <string.h>
#include "../../agent/registry/room.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *line_take(const uint8_t **data, size_t *size)
{
        const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
        size_t length = end ? (size_t)(end - *data) : *size, taken = end ? length + 1 : *size;
        char *line = string_copy_bytes(*size > 0 ? (const char *)*data : "", length);

        *data = *size > 0 ? *data + taken : *data;
        *size -= taken;
        return line;
}

static void link_check(const char *header)
{
        CLEANUP(cleanup_free) char *target = link_find_next(header);
        CLEANUP(cleanup_free) char *url = target ? link_resolve("https://r.example/v2/a/referrers/x?n=1", target) : NULL;

        if (target && (strlen(target) > strlen(header) || strchr(target, '>') || (!strstr(target, "://") && !string_starts_with(url, "https:"))))
                abort();
}

static void referrers_check(const struct registry_referrers *referrers)
{
        if (referrers->is_over_limit ? referrers->count > 0 || referrers->seen <= REFERRERS_MAX : referrers->count + referrers->skipped > referrers->seen)
                abort();
        for (size_t i = 0; i < referrers->count; i++) {
                if (!digest_is_set(&referrers->items[i].digest) || !referrers->items[i].media_type)
                        abort();
                for (size_t k = 0; k < i; k++)
                        if (digest_equal(&referrers->items[i].digest, &referrers->items[k].digest))
                                abort();
        }
        for (const char *c = referrers->skipped_type; c && *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        CLEANUP(cleanup_free) char *link = line_take(&data, &size);
        CLEANUP(cleanup_free) char *content_type = line_take(&data, &size);
        CLEANUP(registry_referrers_fini) struct registry_referrers referrers = { 0 };

        link_check(link);
        for (int is_tag = 0; is_tag < 2; is_tag++) {
                struct referrers_page page = { data ? (const char *)data : "", size, *content_type ? content_type : NULL, is_tag, false, 0 };
                struct error err = { 0 };
                if (!referrers_add(&referrers, &page, &err) && (err.code != ERROR_UPSTREAM_ERROR || err.text[0] == '\0'))
                        abort();
                referrers_check(&referrers);
        }
        return 0;
}
