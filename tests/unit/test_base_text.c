/* Texts of our own, growing buffers, and the one table of errors. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/base.h>

static const struct { const char *text; size_t length, room; const char *shown; } printables[] = {
        { "plain text", 10, 64, "plain text" },
        { "a\nb\tc\x7f", 6, 64, "a\\x0ab\\x09c\\x7f" },
        { "\x1b[31mred", 8, 64, "\\x1b[31mred" },
        { "a\0b", 3, 64, "a\\x00b" },
        { "gr\xc3\xbc\xc3\x9f", 6, 64, "gr\xc3\xbc\xc3\x9f" },
        { "\xe2\x82\xac \xf0\x9f\x98\x80", 8, 64, "\xe2\x82\xac \xf0\x9f\x98\x80" },
        { "\xc3", 1, 64, "\\xc3" },                                /* cut */
        { "\xc0\xaf", 2, 64, "\\xc0\\xaf" },                       /* overlong */
        { "\xed\xa0\x80", 3, 64, "\\xed\\xa0\\x80" },              /* a surrogate */
        { "\xf4\x90\x80\x80", 4, 64, "\\xf4\\x90\\x80\\x80" },     /* beyond U+10FFFF */
        { "\xe0\x80\x80", 3, 64, "\\xe0\\x80\\x80" },
        { "\xc2\x9b" "31m", 5, 64, "\\xc2\\x9b" "31m" },           /* CSI as C1: terminals obey it */
        { "abcdef", 6, 4, "abc" },
        { "ab\n", 3, 6, "ab" },                                    /* no half escapes */
        { "a\xc3\xbc", 3, 3, "a" },                                /* no half characters */
        { "abc", 3, 1, "" },
        { "", 0, 8, "" },
};

static void test_printable(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(printables); i++) {
                char out[65];
                memset(out, '#', sizeof out);
                assert_ptr_equal(string_printable(printables[i].text, printables[i].length, out, printables[i].room), out);
                assert_string_equal(out, printables[i].shown);
                assert_int_equal(out[printables[i].room], '#');
        }
}

static void test_strings(void **state)
{
        (void)state;
        assert_null(string_copy(NULL));
        assert_true(string_equal(NULL, NULL));
        assert_false(string_equal(NULL, ""));
        assert_true(string_equal("a", "a"));
        assert_false(string_equal("a", "A"));
        assert_true(string_starts_with("abc", "ab"));
        assert_true(string_starts_with("abc", ""));
        assert_false(string_starts_with("a", "ab"));
        assert_false(string_starts_with("Abc", "ab"));
        assert_true(string_starts_with_nocase("OCI://x", "oci://"));
        assert_false(string_starts_with_nocase("oc", "oci"));
        assert_true(string_ends_with("a.wasm", ".wasm"));
        assert_false(string_ends_with("wasm", ".wasm"));
        assert_true(bytes_equal_consttime("abc", "abd", 2));
        assert_false(bytes_equal_consttime("abc", "abd", 3));
        assert_true(bytes_equal_consttime(NULL, NULL, 0));
        CLEANUP(cleanup_free) char *bytes = string_copy_bytes("a\0bc", 3), *text = string_format("%s-%d", "x", 7);
        assert_memory_equal(bytes, "a\0b", 4);
        assert_string_equal(text, "x-7");
        int *zeros = memory_new(3, sizeof *zeros);
        assert_int_equal(zeros[2], 0);
        zeros = memory_resize(zeros, 0, sizeof *zeros);
        assert_non_null(zeros);
        free(zeros);
        errno = 17;
        int fd = -1;
        cleanup_close(&fd);
        assert_int_equal(errno, 17);
}

static void test_buffer(void **state)
{
        (void)state;
        struct buffer buffer = { .limit = 100 };
        assert_true(buffer_append(&buffer, NULL, 0));
        assert_string_equal(buffer.data, "");
        for (int i = 0; i < 10; i++)
                assert_true(buffer_printf(&buffer, "%s%d%s", "1234", i, "67890"));
        assert_int_equal(buffer.used, 100);
        assert_int_equal(buffer.data[100], 0);
        assert_false(buffer_append(&buffer, "x", 1));
        assert_false(buffer_printf(&buffer, "x"));
        assert_false(buffer_reserve(&buffer, SIZE_MAX));
        assert_false(buffer_reserve(&buffer, SIZE_MAX - 100));
        assert_true(buffer_append_text(&buffer, ""));
        assert_int_equal(buffer.used, 100);
        assert_memory_equal(buffer.data, "1234067890123416", 16);
        buffer_clear(&buffer);
        assert_string_equal(buffer.data, "");
        assert_true(buffer_append_text(&buffer, "again"));
        CLEANUP(cleanup_free) char *text = buffer_take(&buffer), *empty = buffer_take(&buffer);
        assert_string_equal(text, "again");
        assert_string_equal(empty, "");
        assert_int_equal(buffer.limit, 100);
        assert_null(buffer.data);
        buffer_fini_secret(&buffer);
        buffer_fini(&buffer);

        struct buffer unlimited = { 0 };
        assert_false(buffer_reserve(&unlimited, SIZE_MAX));
        assert_false(buffer_reserve(&unlimited, SIZE_MAX - 1));
        for (int i = 0; i < 5000; i++)
                assert_true(buffer_append(&unlimited, "0123456789", 10));
        assert_int_equal(unlimited.used, 50000);
        assert_int_equal(strlen(unlimited.data), 50000);
        buffer_fini_secret(&unlimited);
        assert_null(unlimited.data);
}

/* The wire names and what is derived from them: contract section 2. */
static const struct { enum error_code code; const char *name; int status; enum error_retry retry; } codes[] = {
        { ERROR_BAD_REQUEST, "bad_request", 400, ERROR_RETRY_AFTER_CHANGE },          { ERROR_BAD_URL, "bad_url", 400, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_BAD_KEY, "bad_key", 400, ERROR_RETRY_AFTER_CHANGE },                  { ERROR_DENIED, "denied", 403, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_NOT_FOUND, "not_found", 404, ERROR_RETRY_AFTER_CHANGE },              { ERROR_UNAUTHORIZED, "unauthorized", 401, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_SECRET_MISSING, "secret_missing", 424, ERROR_RETRY_AFTER_CHANGE },    { ERROR_CHECKSUM_MISMATCH, "checksum_mismatch", 422, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_SIGNATURE_MISSING, "signature_missing", 422, ERROR_RETRY_AFTER_CHANGE }, { ERROR_SIGNATURE_INVALID, "signature_invalid", 422, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_SIGNATURE_UNREACHABLE, "signature_unreachable", 503, ERROR_RETRY_LATER }, { ERROR_UNSUPPORTED_IMAGE, "unsupported_image", 422, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_NOT_WASM, "not_wasm", 422, ERROR_RETRY_AFTER_CHANGE },                { ERROR_TOO_LARGE, "too_large", 413, ERROR_RETRY_AFTER_CHANGE },
        { ERROR_UPSTREAM_UNREACHABLE, "upstream_unreachable", 502, ERROR_RETRY_LATER }, { ERROR_UPSTREAM_ERROR, "upstream_error", 502, ERROR_RETRY_LATER },
        { ERROR_RATE_LIMITED, "rate_limited", 429, ERROR_RETRY_LATER },               { ERROR_TIMEOUT, "timeout", 504, ERROR_RETRY_LATER },
        { ERROR_STORE_FULL, "store_full", 507, ERROR_RETRY_LATER },                   { ERROR_BUSY, "busy", 503, ERROR_RETRY_LATER },
        { ERROR_INTERNAL, "internal", 500, ERROR_RETRY_LATER },
};

static void test_codes(void **state)
{
        (void)state;
        assert_int_equal(COUNT_OF(codes), ERROR_CODES - 1);
        for (size_t i = 0; i < COUNT_OF(codes); i++) {
                const struct error_row *row = error_get_row(codes[i].code);
                enum error_code code = ERROR_NONE;
                assert_string_equal(row->name, codes[i].name);
                assert_int_equal(row->http_status, codes[i].status);
                assert_int_equal(row->retry, codes[i].retry);
                assert_true(*row->title && strchr(".?", row->help[strlen(row->help) - 1]));
                assert_true(error_parse_name(codes[i].name, &code));
                assert_int_equal(code, codes[i].code);
        }
        enum error_code code = ERROR_BUSY;
        assert_false(error_parse_name("none", &code));
        assert_false(error_parse_name("", &code));
        assert_false(error_parse_name("Internal", &code));
        assert_int_equal(code, ERROR_BUSY);
        assert_string_equal(error_get_row(ERROR_CODES)->name, "internal");
        assert_string_equal(error_get_row((enum error_code)-1)->name, "internal");
}

static void test_refuse(void **state)
{
        (void)state;
        struct error err = { .retry_after_s = 9 };
        assert_false(refuse(&err, ERROR_DENIED, "no %s", "way"));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_int_equal(err.retry_after_s, 0);
        err.retry_after_s = 3;
        assert_false(refuse_within(&err, "GET %d", 1));
        assert_string_equal(err.text, "GET 1: no way");
        assert_int_equal(err.code, ERROR_DENIED);
        assert_int_equal(err.retry_after_s, 3);
        assert_false(refuse_errno(&err, ERROR_INTERNAL, ENOENT, "cannot open %s", "/x"));
        assert_string_equal(err.text, "cannot open /x: No such file or directory");
        assert_int_equal(err.code, ERROR_INTERNAL);
        refuse_errno(&err, ERROR_INTERNAL, ENOSPC, "x");
        assert_int_equal(err.code, ERROR_STORE_FULL);
        refuse_errno(&err, ERROR_INTERNAL, EDQUOT, "x");
        assert_int_equal(err.code, ERROR_STORE_FULL);
        refuse_errno(&err, ERROR_NOT_FOUND, ENOSPC, "x");
        assert_int_equal(err.code, ERROR_NOT_FOUND);
        refuse_errno(&err, ERROR_BUSY, 99999, "x");
        assert_string_equal(err.text, "x: unknown error");

        char longer[2 * ERROR_TEXT_BYTES];
        memset(longer, 'l', sizeof longer);
        longer[sizeof longer - 1] = '\0';
        refuse_errno(&err, ERROR_BUSY, ENOENT, "%s", longer);
        assert_int_equal(strlen(err.text), ERROR_TEXT_BYTES - 1);
        refuse_within(&err, "%s", longer);
        assert_int_equal(strlen(err.text), ERROR_TEXT_BYTES - 1);
        assert_memory_equal(err.text + 255, ": l", 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_printable), cmocka_unit_test(test_strings), cmocka_unit_test(test_buffer), cmocka_unit_test(test_codes), cmocka_unit_test(test_refuse),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
