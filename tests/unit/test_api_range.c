#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../agent/api/front.h"

static const struct { const char *header; uint64_t size; enum api_range_kind kind; uint64_t offset, count; } ranges[] = {
        { NULL, 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=0-3", 10, API_RANGE_PART, 0, 4 },
        { "Bytes=0-3", 10, API_RANGE_PART, 0, 4 },
        { "bytes=0-0", 10, API_RANGE_PART, 0, 1 },
        { "bytes= 2-3 ", 10, API_RANGE_PART, 2, 2 },
        { "bytes=9-9", 10, API_RANGE_PART, 9, 1 },
        { "bytes=4-", 10, API_RANGE_PART, 4, 6 },
        { "bytes=4-99", 10, API_RANGE_PART, 4, 6 },
        { "bytes=4-99999999999999999999999", 10, API_RANGE_PART, 4, 6 },
        { "bytes=-3", 10, API_RANGE_PART, 7, 3 },
        { "bytes=-10", 10, API_RANGE_PART, 0, 10 },
        { "bytes=-99", 10, API_RANGE_PART, 0, 10 },
        { "bytes=-18446744073709551616", 10, API_RANGE_PART, 0, 10 },
        { "bytes=-0", 10, API_RANGE_NONE, 0, 0 },
        { "bytes=-1", 0, API_RANGE_NONE, 0, 0 },
        { "bytes=0-", 0, API_RANGE_NONE, 0, 0 },
        { "bytes=10-", 10, API_RANGE_NONE, 0, 0 },
        { "bytes=10-12", 10, API_RANGE_NONE, 0, 0 },
        { "bytes=99999999999999999999-", 10, API_RANGE_NONE, 0, 0 },
        { "bytes=0-1,3-4", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=0-1,", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=3-1", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=-", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=a-b", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=1-2x", 10, API_RANGE_WHOLE, 0, 0 },
        { "bytes=--2", 10, API_RANGE_WHOLE, 0, 0 },
        { "lines=0-3", 10, API_RANGE_WHOLE, 0, 0 },
        { "", 10, API_RANGE_WHOLE, 0, 0 },
};

static void test_ranges(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(ranges); i++) {
                struct api_range range = { 0 };
                enum api_range_kind kind = api_range_parse(ranges[i].header, ranges[i].size, &range);
                if (kind != ranges[i].kind || range.offset != ranges[i].offset || range.count != ranges[i].count)
                        fail_msg("%s of %d: kind %d, %d from %d", ranges[i].header ? ranges[i].header : "(none)", (int)ranges[i].size, kind, (int)range.count, (int)range.offset);
        }
}

static const struct { const char *header; bool strong, weak; } tags[] = {
        { "\"a\"", true, true },
        { "*", true, true },
        { " * ", true, true },
        { "W/\"a\"", false, true },
        { "\"b\", \"a\"", true, true },
        { "\"b\",W/\"a\"", false, true },
        { "\"b\"", false, false },
        { "a", false, false },
        { "\"a", false, false },
        { "\"aa\"", false, false },
        { "\"\"", false, false },
        { "", false, false },
};

static void test_tags(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(tags); i++) {
                if (api_etag_in(tags[i].header, "\"a\"", false) != tags[i].strong || api_etag_in(tags[i].header, "\"a\"", true) != tags[i].weak)
                        fail_msg("%s", tags[i].header);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_ranges), cmocka_unit_test(test_tags) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
