#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "../../agent/serve/room.h"

static void test_target(void **state)
{
        static const struct { const char *target; bool good; } rows[] = {
                { "/", true }, { "/a?b#c", false }, { "/a?b=c%zz", true }, { "a", false }, { "", false }, { "*", false }, { "http://x/", false }, { "/a b", false },
                { "/\x7f", false }, { "/\xc3\xa4", false }, { "//x", true },
        };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].target);
                assert_int_equal(check_target(rows[i].target, strlen(rows[i].target)), rows[i].good);
        }
}

static void test_decode(void **state)
{
        /* NULL = refused */
        static const struct { const char *text; bool plus; const char *decoded; } rows[] = {
                { "", false, "" }, { "a%20b", false, "a b" }, { "a+b", false, "a+b" }, { "a+b", true, "a b" }, { "%2b+", true, "+ " }, { "%C3%a4", false, "\xc3\xa4" },
                { "%", false, NULL }, { "%4", false, NULL },
                { "a%4", false, NULL }, { "%41", false, "A" }, { "%4g", false, NULL }, { "%g4", false, NULL }, { "%00", false, NULL }, { "a%00b", true, NULL },
                { "%ff", false, NULL }, { "%c3", false, NULL },
                { "%c0%af", false, NULL }, { "%ed%a0%80", false, NULL }, { "%f4%90%80%80", false, NULL }, { "%f0%9f%98%80", false, "\xf0\x9f\x98\x80" },
                { "%25%34%31", false, "%41" }, { "% 1", false, NULL }, { "%-1", false, NULL },
        };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char decoded[64];
                print_message("%s\n", rows[i].text);
                assert_int_equal(check_decode(rows[i].text, strlen(rows[i].text), rows[i].plus, decoded), rows[i].decoded != NULL);
                if (rows[i].decoded)
                        assert_string_equal(decoded, rows[i].decoded);
        }
}

static void test_utf8(void **state)
{
        static const struct { const char *text; bool good; } rows[] = {
                { "", true }, { "a", true }, { "\xc2\x80", true }, { "\xdf\xbf", true }, { "\xe0\xa0\x80", true }, { "\xef\xbf\xbf", true }, { "\xf0\x90\x80\x80", true },
                { "\xf4\x8f\xbf\xbf", true },
                { "\x80", false }, { "\xc1\xbf", false }, { "\xe0\x9f\xbf", false }, { "\xed\xa0\x80", false }, { "\xf0\x8f\xbf\xbf", false }, { "\xf4\x90\x80\x80", false },
                { "\xf5\x80\x80\x80", false },
                { "\xe2\x82", false }, { "\xe2\x82\x41", false }, { "\xff", false }, { "a\xc3", false },
        };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++)
                assert_int_equal(check_utf8(rows[i].text, strlen(rows[i].text)), rows[i].good);
}

static void test_token_and_value(void **state)
{
        static const struct { const char *text; bool token, value; } rows[] = {
                { "", false, true }, { "Host", true, true }, { "x-y_z.1!#$%&'*+^`|~", true, true }, { "a b", false, true }, { "a:", false, true }, { "a\tb", false, true },
                { "a\001", false, false }, { "a\x7f", false, false },
                { "a\r", false, false }, { "\xc3\xa4", false, true }, { "a/b", false, true }, { "(a)", false, true },
        };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                assert_int_equal(check_token(rows[i].text, strlen(rows[i].text)), rows[i].token);
                assert_int_equal(check_field_value(rows[i].text, strlen(rows[i].text)), rows[i].value);
        }
        /* Each byte, against the words of RFC 9110 5.6.2 and 5.5. */
        for (int c = 0; c < 256; c++) {
                char text[2] = { (char)c, '\0' };
                bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), is_digit = c >= '0' && c <= '9';
                assert_int_equal(check_token(text, 1), is_letter || is_digit || (c && strchr("!#$%&'*+-.^_`|~", c)));
                assert_int_equal(check_field_value(text, 1), c == '\t' || (c >= ' ' && c != 0x7f));
                assert_int_equal(check_target((char[]){ '/', (char)c }, 2), c > ' ' && c < 0x7f && c != '#');
        }
        assert_false(check_token("a\0b", 3));
        assert_false(check_field_value("a\0b", 3));
}

static void test_query(void **state)
{
        /* parameters as name=value, each followed by ';'; NULL = refused */
        static const struct { const char *text, *parameters; } rows[] = {
                { "", "" }, { "&", "" }, { "a", "a=;" }, { "a=", "a=;" }, { "a=b&c=d", "a=b;c=d;" }, { "a=b=c", "a=b=c;" }, { "&&a=b&&", "a=b;" }, { "a=1&a=2", "a=1;a=2;" },
                { "%61=%62", "a=b;" }, { "a=x+y", "a=x y;" },
                { "=b", NULL }, { "a=%", NULL }, { "%=a", NULL }, { "a=%00", NULL }, { "a=b&c=%ff", NULL },
        };
        (void)state;

        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct query query = { 0 };
                char shown[128] = "";
                print_message("%s\n", rows[i].text);
                assert_int_equal(query_parse(rows[i].text, &query), rows[i].parameters != NULL);
                for (size_t j = 0; j < query.count; j++)
                        snprintf(shown + strlen(shown), sizeof shown - strlen(shown), "%s=%s;", query.parameters[j].name, query.parameters[j].value);
                assert_string_equal(shown, rows[i].parameters ? rows[i].parameters : "");
                query_fini(&query);
        }
}

static void test_query_limit(void **state)
{
        char text[2 * QUERY_PARAMETERS_MAX + 3] = "";
        struct query query = { 0 };
        (void)state;

        for (int i = 0; i < QUERY_PARAMETERS_MAX; i++)
                strcat(text, "a&");
        assert_true(query_parse(text, &query));
        assert_int_equal(query.count, QUERY_PARAMETERS_MAX);
        query_fini(&query);
        strcat(text, "a");
        assert_false(query_parse(text, &query));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_target),
                cmocka_unit_test(test_decode),
                cmocka_unit_test(test_utf8),
                cmocka_unit_test(test_token_and_value),
                cmocka_unit_test(test_query),
                cmocka_unit_test(test_query_limit),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
