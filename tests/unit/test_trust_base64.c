/* base64 of signatures, payloads and keys: one spelling only, but for what 2.2 allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_rig.h"

enum { NEITHER, BOTH, LOOSE /* BASE64_EITHER only */ };
static const struct row { const char *text, *bytes; int good; } rows[] = {
        { "", "", BOTH }, { "Zg==", "f", BOTH }, { "Zm8=", "fo", BOTH }, { "Zm9v", "foo", BOTH }, { "Zm9vYg==", "foob", BOTH }, { "Zm9vYmE=", "fooba", BOTH }, { "Zm9vYmFy", "foobar", BOTH },
        { "Zg", "f", LOOSE }, { "Zm8", "fo", LOOSE }, { "Zm9vYg", "foob", LOOSE }, { "Zg=", "", NEITHER }, { "Zm8==", "", NEITHER }, { "Z", "", NEITHER }, { "Zm9vY", "", NEITHER },
        { "Zm9v====", "", NEITHER }, { "====", "", NEITHER }, { "=", "", NEITHER }, { "Zg===", "", NEITHER }, { "Zm9v\r\nYmFy\r\n", "foobar", BOTH }, { "Z\ng\n=\n=\n", "f", BOTH },
        { "\n\r", "", BOTH }, { " Zm9v", "", NEITHER }, { "Zm9v ", "", NEITHER }, { "Zm\t9v", "", NEITHER }, { "Zm9v\v", "", NEITHER }, { "Zh==", "", NEITHER }, { "Zm9=", "", NEITHER },
        { "Zh", "", NEITHER }, { "+/+/", "\xfb\xff\xbf", BOTH }, { "-_-_", "\xfb\xff\xbf", LOOSE }, { "+_+_", "", NEITHER }, { "-/-/", "", NEITHER }, { "+-+-", "", NEITHER }, { "/_/_", "", NEITHER },
        { "Zg==Zg==", "", NEITHER }, { "Z=g=", "", NEITHER }, { "Zm9v*", "", NEITHER }, { "Zm9v\xc3\xa4", "", NEITHER },
};

static void test_rows(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                for (int form = BASE64_STANDARD; form <= BASE64_EITHER; form++) {
                        void *bytes = (void *)(uintptr_t)8;
                        size_t size = 77;
                        bool good = rows[i].good == BOTH || (rows[i].good == LOOSE && form == BASE64_EITHER);
                        if (base64_take(rows[i].text, strlen(rows[i].text), form, 100, &bytes, &size) != good)
                                fail_msg("%s as %d is not %d", rows[i].text, form, good);
                        if (!good) {
                                assert_ptr_equal(bytes, (void *)(uintptr_t)8);     /* untouched */
                                assert_int_equal(size, 77);
                                continue;
                        }
                        assert_int_equal(size, strlen(rows[i].bytes));
                        assert_memory_equal(bytes, rows[i].bytes, size + 1);       /* with the NUL */
                        free(bytes);
                }
}

static void test_limit(void **state)
{
        (void)state;
        void *bytes;
        size_t size;
        assert_true(base64_take("Zm9vYmFy", 8, BASE64_STANDARD, 6, &bytes, &size));
        free(bytes);
        assert_false(base64_take("Zm9vYmFy", 8, BASE64_STANDARD, 5, &bytes, &size));
        assert_false(base64_take("Zm9v\0mFy", 8, BASE64_STANDARD, 100, &bytes, &size));
        char *big = memory_new(1 << 20, 1);
        memset(big, 'A', 1 << 20);
        assert_false(base64_take(big, 1 << 20, BASE64_STANDARD, 1000, &bytes, &size));
        assert_true(base64_take(big, 1 << 20, BASE64_STANDARD, 1 << 20, &bytes, &size));
        assert_int_equal(size, (1 << 20) / 4 * 3);
        free(bytes);
        memset(big, '\n', 1 << 20);
        assert_false(base64_take(big, 1 << 20, BASE64_STANDARD, 1000, &bytes, &size));     /* refused before anything is allocated */
        free(big);
}

/* Every value of every byte, beside the two alphabets. */
static void test_alphabet(void **state)
{
        (void)state;
        for (int c = 1; c < 256; c++) {
                char text[5] = { 'A', 'A', 'A', (char)c, 0 };
                void *bytes;
                size_t size;
                bool standard = base64_take(text, 4, BASE64_STANDARD, 3, &bytes, &size);
                if (standard)
                        free(bytes);
                bool either = base64_take(text, 4, BASE64_EITHER, 3, &bytes, &size);
                if (either)
                        free(bytes);
                bool letter = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
                assert_int_equal(standard, letter || c == '+' || c == '/' || c == '=');
                assert_int_equal(either, letter || strchr("+/=-_", c) || c == '\n' || c == '\r' ? true : false);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_limit), cmocka_unit_test(test_alphabet) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
