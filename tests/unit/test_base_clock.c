/* Durations, sizes and dates as people and servers write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/base.h>

/* -1 = refused */
static const struct { const char *text; int64_t ms; } durations[] = {
        { "0", 0 }, { "0s", 0 }, { "300ms", 300 }, { "30s", 30000 }, { "5m", 300000 }, { "1h", 3600000 }, { "1h30m", 5400000 }, { "1.5s", 1500 }, { "16.1s", 16100 },
        { "1.001s", 1001 }, { "2m0.5s", 120500 }, { "1us", 1 }, { "1\xc2\xb5s", 1 }, { "1\xce\xbcs", 1 }, { "1ns", 1 }, { "1000001ns", 2 }, { "1000us", 1 }, { "00030s", 30000 },
        { "0.000000000000000001h", 0 }, { "2562047h", 2562047LL * 3600000 },
        { "", -1 }, { " ", -1 }, { "30", -1 }, { "s", -1 }, { "-1s", -1 }, { "+1s", -1 }, { "1 s", -1 }, { "1s ", -1 }, { "1S", -1 }, { "1d", -1 }, { "1.2.3s", -1 }, { ".5s", -1 },
        { "1.s", -1 }, { "1e3s", -1 }, { "0x1s", -1 }, { "1s30", -1 }, { "inf", -1 }, { "nans", -1 }, { "2562048h", -1 }, { "9999999999999999999s", -1 }, { "1\ns", -1 },
        { "999999999999999999h", -1 }, { "2562047h2562047h", -1 },
};

static void test_durations(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(durations); i++) {
                int64_t ms = 77;
                struct error err = { 0 };
                bool is_read = clock_parse_duration(durations[i].text, &ms, &err);
                if (is_read != (durations[i].ms >= 0) || ms != (is_read ? durations[i].ms : 77))
                        fail_msg("\"%s\": %d %lld", durations[i].text, is_read, (long long)ms);
                if (!is_read) {
                        assert_int_equal(err.code, ERROR_BAD_REQUEST);
                        assert_non_null(strstr(err.text, "write it like"));
                }
        }
}

static const struct { int64_t ms; const char *text; } shown_durations[] = {
        { 0, "0s" }, { 1, "1ms" }, { 1500, "1500ms" }, { 30000, "30s" }, { 90000, "1m30s" }, { 3600000, "1h" }, { 90061000, "25h1m1s" }, { 3601000, "1h1s" }, { -5, "-5ms" }, { -1000, "-1000ms" },
};

static void test_duration_texts(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(shown_durations); i++) {
                char text[32];
                int64_t ms = -1;
                struct error err;
                clock_format_duration(shown_durations[i].ms, text, sizeof text);
                assert_string_equal(text, shown_durations[i].text);
                if (shown_durations[i].ms >= 0) {
                        assert_true(clock_parse_duration(text, &ms, &err));
                        assert_int_equal(ms, shown_durations[i].ms);
                }
        }
        char small[3];
        clock_format_duration(90061000, small, sizeof small);
        assert_string_equal(small, "25");
}

static const struct { const char *text; int64_t bytes; } sizes[] = {
        { "0", 0 }, { "4096", 4096 }, { "4096B", 4096 }, { "512KiB", 512 << 10 }, { "64MiB", 64 << 20 }, { "10GiB", 10LL << 30 }, { "1.5GiB", 3LL << 29 }, { "64MB", 64000000 },
        { "64kB", 64000 }, { "64KB", 64000 }, { "16.1KB", 16100 }, { "2TiB", 2LL << 40 }, { "1TB", 1000000000000 }, { "0.5KiB", 512 }, { "9000TB", 9000000000000000 },
        { "", -1 }, { "KiB", -1 }, { "-1", -1 }, { "+1", -1 }, { "1 KiB", -1 }, { " 1", -1 }, { "1kib", -1 }, { "1K", -1 }, { "1.5", -1 }, { "0.1KiB", -1 }, { "1e3", -1 }, { "0x10", -1 },
        { "1KiB1", -1 }, { "9001TB", -1 }, { "99999999999999999999", -1 }, { "1..5KiB", -1 }, { "1.", -1 }, { "inf", -1 },
};

static void test_sizes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(sizes); i++) {
                uint64_t bytes = 77;
                struct error err = { 0 };
                bool is_read = size_parse(sizes[i].text, &bytes, &err);
                if (is_read != (sizes[i].bytes >= 0) || bytes != (is_read ? (uint64_t)sizes[i].bytes : 77))
                        fail_msg("\"%s\": %d %llu", sizes[i].text, is_read, (unsigned long long)bytes);
                assert_true(is_read || (err.code == ERROR_BAD_REQUEST && strstr(err.text, "write it like")));
        }
}

static const struct { uint64_t bytes; const char *exact, *human; } shown_sizes[] = {
        { 0, "0", "0 B" }, { 1, "1", "1 B" }, { 1023, "1023", "1023 B" }, { 1024, "1KiB", "1.0 KiB" }, { 1025, "1025", "1.0 KiB" }, { 48213, "48213", "47.1 KiB" },
        { 10LL << 30, "10GiB", "10.0 GiB" }, { 1536, "1536", "1.5 KiB" }, { 3ULL << 50, "3072TiB", "3072.0 TiB" },
};

static void test_size_texts(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(shown_sizes); i++) {
                char text[40];
                size_format(shown_sizes[i].bytes, text, sizeof text);
                assert_string_equal(text, shown_sizes[i].exact);
                size_format_human(shown_sizes[i].bytes, text, sizeof text);
                assert_string_equal(text, shown_sizes[i].human);
        }
}

static const struct { const char *text; int64_t wall_s; } dates[] = {
        { "1970-01-01T00:00:00Z", 0 }, { "2026-01-01T00:00:00Z", 1767225600 }, { "2026-01-01t00:00:00z", 1767225600 }, { "2026-01-01T00:00:00.123456789Z", 1767225600 },
        { "2026-01-01T01:30:00+01:30", 1767225600 }, { "2025-12-31T19:00:00-05:00", 1767225600 }, { "2024-02-29T12:00:00Z", 1709208000 }, { "2016-12-31T23:59:60Z", 1483228800 },
        { "", -1 }, { "2026", -1 }, { "2026-01-01", -1 }, { "2026-01-01T00:00:00", -1 }, { "2026-01-01 00:00:00Z", -1 }, { "2026-13-01T00:00:00Z", -1 }, { "2026-00-01T00:00:00Z", -1 },
        { "2026-01-32T00:00:00Z", -1 }, { "2025-02-29T00:00:00Z", -1 }, { "2026-06-31T00:00:00Z", -1 }, { "2026-01-00T00:00:00Z", -1 }, { "2026-01-01T24:00:00Z", -1 },
        { "2026-01-01T00:60:00Z", -1 }, { "2026-01-01T00:00:61Z", -1 }, { "2026-01-01T00:00:00.Z", -1 }, { "2026-01-01T00:00:00+1:00", -1 }, { "2026-01-01T00:00:00+24:00", -1 },
        { "2026-01-01T00:00:00+01:60", -1 }, { "2026-01-01T00:00:00+01:00x", -1 }, { "2026-01-01T00:00:00Zx", -1 }, { "2026-01-01T00:00:00+ 1:00", -1 }, { "2026-01-01T00:00:00+01:+5", -1 },
        { "+026-01-01T00:00:00Z", -1 }, { "2026-1 -01T00:00:00Z", -1 },
};

static void test_dates(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(dates); i++) {
                int64_t wall_s = 77;
                bool is_read = clock_parse_rfc3339(dates[i].text, &wall_s);
                if (is_read != (dates[i].wall_s >= 0) || wall_s != (is_read ? dates[i].wall_s : 77))
                        fail_msg("\"%s\": %d %lld", dates[i].text, is_read, (long long)wall_s);
        }
        char text[CLOCK_RFC3339_BYTES];
        clock_format_rfc3339(1767225600, text);
        assert_string_equal(text, "2026-01-01T00:00:00Z");
        clock_format_rfc3339(-5, text);
        assert_string_equal(text, "1970-01-01T00:00:00Z");
        clock_format_rfc3339(INT64_MAX, text);
        assert_string_equal(text, "9999-12-31T23:59:59Z");
}

/* At Sun, 06 Nov 1994 08:49:37 GMT; RFC 9110 5.6.7's own examples. */
static const struct { const char *text; int64_t seconds; } waits[] = {
        { "0", 0 }, { "120", 120 }, { "86400", 86400 }, { "99999999999999999999", 999999999 }, { "Sun, 06 Nov 1994 08:50:37 GMT", 60 }, { "Sunday, 06-Nov-94 08:50:37 GMT", 60 },
        { "Sun Nov  6 08:50:37 1994", 60 }, { "Sun, 06 Nov 1994 08:49:36 GMT", 0 }, { "Fri, 31 Dec 9999 23:59:59 GMT", 999999999 },
        { "", -1 }, { "-1", -1 }, { "1.5", -1 }, { "120s", -1 }, { "soon", -1 }, { "Sun, 06 Nov 1994 08:49:37 GMTx", -1 }, { "1 2", -1 },
};

static void test_retry_after(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(waits); i++) {
                unsigned seconds = 77;
                bool is_read = clock_parse_retry_after(waits[i].text, 784111777, &seconds);
                if (is_read != (waits[i].seconds >= 0) || seconds != (is_read ? waits[i].seconds : 77))
                        fail_msg("\"%s\": %d %u", waits[i].text, is_read, seconds);
        }
}

static void test_now(void **state)
{
        (void)state;
        int64_t before_us = clock_get_us(), before_ms = clock_get_ms();
        assert_true(before_us > 0 && before_ms >= before_us / 1000);
        assert_true(clock_get_us() >= before_us);
        assert_true(clock_get_wall_s() > 1700000000);
        assert_in_range(clock_get_wall_ms() / 1000 - clock_get_wall_s() + 1, 0, 2);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_durations), cmocka_unit_test(test_duration_texts), cmocka_unit_test(test_sizes), cmocka_unit_test(test_size_texts), cmocka_unit_test(test_dates),
                cmocka_unit_test(test_retry_after), cmocka_unit_test(test_now),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
