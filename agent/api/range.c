/*
 * How it goes: one range of bytes out of a Range header (RFC 9110 14.1.2), and entity tags out of If-Match and If-None-Match (13.1).
 * How it fails: what is malformed, of another unit or has several ranges counts as no Range at all (14.2 allows it); one outside the file is API_RANGE_NONE.
 * How it ends: pure functions.
 */
#include <string.h>
#include <strings.h>
#include "front.h"

/* Digits at *at; too many become the largest number. False when there is none. */
static bool number_read(const char **at, uint64_t *ret_number)
{
        uint64_t number = 0;
        const char *start = *at;
        for (; **at >= '0' && **at <= '9'; ++*at) {
                uint64_t digit = (uint64_t)(**at - '0');
                number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
        }
        *ret_number = number;
        return *at > start;
}

static void blanks_skip(const char **at)
{
        *at += strspn(*at, " \t");
}

enum api_range_kind api_range_parse(const char *header, uint64_t size_bytes, struct api_range *ret_range)
{
        static const char UNIT[] = "bytes";
        uint64_t first, last;
        if (!header || strncasecmp(header, UNIT, sizeof UNIT - 1) != 0)
                return API_RANGE_WHOLE;
        const char *at = header + sizeof UNIT - 1;
        if (*at++ != '=')
                return API_RANGE_WHOLE;

        blanks_skip(&at);
        bool has_first = number_read(&at, &first);
        if (*at++ != '-')
                return API_RANGE_WHOLE;
        bool has_last = number_read(&at, &last);
        blanks_skip(&at);
        if (*at != '\0' || (!has_first && !has_last) || (has_first && has_last && last < first))
                return API_RANGE_WHOLE;

        if (!has_first) {
                if (last == 0 || size_bytes == 0)
                        return API_RANGE_NONE;
                uint64_t count = last < size_bytes ? last : size_bytes;
                *ret_range = (struct api_range){ size_bytes - count, count };
                return API_RANGE_PART;
        }
        if (first >= size_bytes)
                return API_RANGE_NONE;
        if (!has_last || last >= size_bytes)
                last = size_bytes - 1;
        *ret_range = (struct api_range){ first, last - first + 1 };
        return API_RANGE_PART;
}

bool api_etag_in(const char *header, const char *etag, bool weak)
{
        size_t etag_bytes = strlen(etag);
        const char *at = header;
        blanks_skip(&at);
        if (*at == '*')
                return true;

        while (*at) {
                bool is_weak = string_starts_with(at, "W/");
                at += is_weak ? 2 : 0;
                if (*at != '"')
                        return false;
                const char *end = strchr(at + 1, '"');
                if (!end)
                        return false;
                if ((weak || !is_weak) && (size_t)(end + 1 - at) == etag_bytes && memcmp(at, etag, etag_bytes) == 0)
                        return true;
                at = end + 1;
                at += strspn(at, " \t,");
        }
        return false;
}
