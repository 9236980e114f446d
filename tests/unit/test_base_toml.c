/* TOML read strictly: what containerd's hosts.toml is made of, and what is refused by its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/base.h>

static const struct { const char *text, *json; } readings[] = {
        { "", "{}" }, { "\n# only words\r\n\t \n", "{}" }, { "a = \"x\"", "{\"a\":\"x\"}" }, { "a='x\\n'", "{\"a\":\"x\\\\n\"}" }, { "a = \"\" # c", "{\"a\":\"\"}" },
        { "a = \"\\b\\t\\n\\f\\r\\\"\\\\\\u00e9\\U0001F600\"", "{\"a\":\"\\u0008\\u0009\\n\\u000c\\u000d\\\"\\\\\xc3\xa9\xf0\x9f\x98\x80\"}" }, { "a = \"\\u0416\\u20AC\"", "{\"a\":\"\xd0\x96\xe2\x82\xac\"}" },
        { "a = true\nb = false", "{\"a\":true,\"b\":false}" }, { "a = 0\nb = -7\nc = +12", "{\"a\":0,\"b\":-7,\"c\":12}" }, { "a.b.c = 1\na.b.d = 2", "{\"a\":{\"b\":{\"c\":1,\"d\":2}}}" },
        { "a . \"b c\" . 'd' = 1", "{\"a\":{\"b c\":{\"d\":1}}}" }, { "1-2_x = 1", "{\"1-2_x\":1}" }, { "\"\" = 1", "{\"\":1}" }, { "a = []", "{\"a\":[]}" },
        { "a = [ \"x\", 'y' ,] # c", "{\"a\":[\"x\",\"y\"]}" }, { "a = [ # c\n  \"x\", # d\n\n  [\"y\",\"z\"]\n]", "{\"a\":[\"x\",[\"y\",\"z\"]]}" }, { "a = {}", "{\"a\":{}}" },
        { "a = { b = 1, c.d = \"x\" }", "{\"a\":{\"b\":1,\"c\":{\"d\":\"x\"}}}" }, { "[a]\nb = 1\n[a.c]\nd = 2\n[e]", "{\"a\":{\"b\":1,\"c\":{\"d\":2}},\"e\":{}}" },
        { "[a.b]\nx = 1\n[a]\ny = 2", "{\"a\":{\"b\":{\"x\":1},\"y\":2}}" }, { "[ a . \"b\" ] # c\nx = 1", "{\"a\":{\"b\":{\"x\":1}}}" }, { "[a]\nb.c = 1\n[a.d]", "{\"a\":{\"b\":{\"c\":1},\"d\":{}}}" },
        { "server = \"https://o\"\r\n[host.\"https://m:5000\"]\r\n  capabilities = [\"pull\", \"resolve\"]\r\n  [host.\"https://m:5000\".header]\r\n    x = [\"1\"]\r\n[host.\"http://a\"]\r\n",
          "{\"server\":\"https://o\",\"host\":{\"https://m:5000\":{\"capabilities\":[\"pull\",\"resolve\"],\"header\":{\"x\":[\"1\"]}},\"http://a\":{}}}" },
};

static void test_readings(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(readings); i++) {
                CLEANUP(value_free) struct value *value = NULL;
                CLEANUP(buffer_fini) struct buffer json = { 0 };
                struct json_writer writer = { .out = &json };
                struct error err = { 0 };
                if (!toml_parse(readings[i].text, strlen(readings[i].text), ERROR_BAD_REQUEST, &value, &err))
                        fail_msg("%s → %s", readings[i].text, err.text);
                json_put_value(&writer, NULL, value);
                assert_string_equal(json.data, readings[i].json);
        }
}

#define T(text_) text_, sizeof text_ - 1
static const struct { const char *text; size_t length; const char *says; } refusals[] = {
        { T("a"), "line 1: \"a\" is followed by no \"=\"" }, { T("a ="), "line 1: not a value" }, { T("= 1"), "line 1: a key is expected" }, { T("a = 1 b = 2"), "line 1: more behind" },
        { T("\n\na = x"), "line 3: not a value" }, { T("a = \"x"), "line 1: a string has no end on its line" }, { T("a = \"x\n\""), "line 1: a string has no end" }, { T("a = 'x"), "has no end" },
        { T("a = \"\"\"x\"\"\""), "over several lines" }, { T("a = '''x'''"), "over several lines" }, { T("a = \"\\q\""), "unknown escape" }, { T("a = \"\\"), "unknown escape" },
        { T("a = \"\\u12\""), "\\u is for four" }, { T("a = \"\\uD800\""), "\\u is for" }, { T("a = \"\\U00110000\""), "\\u is for" }, { T("a = \"\\u0000\""), "other than NUL" },
        { T("a = \"\\u12"), "\\u is for" }, { T("a = 1.5"), "not a value that is supported" }, { T("a = 1979-05-27"), "not a value" }, { T("a = 0x1f"), "not a value" }, { T("a = 01"), "not a value" },
        { T("a = 1_000"), "not a value" }, { T("a = inf"), "not a value" }, { T("a = 99999999999999999999"), "not a value" }, { T("a = True"), "not a value" }, { T("a = +"), "not a value" },
        { T("a = 1\na = 2"), "line 2: \"a\" is there twice" }, { T("[a]\n[a]"), "line 2: \"a\" is there twice" }, { T("[a]\nb = 1\n[a.b]"), "line 3: \"b\" is there twice" },
        { T("a = 1\na.b = 2"), "line 2: \"a\" is a value, no table" }, { T("a = 1\n[a.b]"), "is a value, no table" }, { T("a = {b = 1}\na.c = 2"), "cannot be added to" },
        { T("a = {b = 1}\n[a.c]"), "cannot be added to" }, { T("[a.b.c]\nz = 9\n[a]\nb.c.t = 1"), "line 4: \"b\" is a table that cannot be added to here" }, { T("a.b = 1\n[a]"), "\"a\" is there twice" },
        { T("a = {b = 1, b = 2}"), "\"b\" is there twice" }, { T("a = {b = 1,}"), "a key is expected" }, { T("a = {b = 1\n}"), "an inline table goes on" }, { T("a = {"), "a key is expected" },
        { T("a = [1 2]"), "an array goes on" }, { T("a = ["), "line 1: not a value" }, { T("a = [,]"), "not a value" }, { T("a = [1,\n\n\"x]"), "line 3: a string has no end" },
        { T("[[a]]"), "arrays of tables" }, { T("[a"), "ends with \"]\"" }, { T("[]"), "a key is expected" }, { T("[a.]"), "a key is expected" }, { T("[a] b = 1"), "line 1: more behind" }, { T("a. = 1"), "a key is expected" },
        { T("[a\n]"), "ends with" }, { T("a = \"\xff\""), "line 1: not valid UTF-8" }, { T("\na = \"\0\""), "line 2: a control character" }, { T("a = \"\x01\""), "control character" }, { T("a\r= 1"), "control character" },
        { T("# \x7f"), "control character" }, { T("\xef\xbb\xbf" "a = 1"), "a key is expected" },
};

static void test_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(refusals); i++) {
                struct value *value = NULL;
                struct error err = { 0 };
                if (toml_parse(refusals[i].text, refusals[i].length, ERROR_BAD_URL, &value, &err))
                        fail_msg("taken: %s", refusals[i].text);
                assert_null(value);
                assert_int_equal(err.code, ERROR_BAD_URL);
                if (!strstr(err.text, refusals[i].says))
                        fail_msg("%s → %s", refusals[i].text, err.text);
        }
}

static bool taken(struct buffer *text)
{
        CLEANUP(value_free) struct value *value = NULL;
        struct error err = { 0 };
        bool is_taken = toml_parse(text->data, text->used, ERROR_BAD_REQUEST, &value, &err);
        buffer_fini(text);
        return is_taken;
}

/* Depth by brackets, braces, dots and headers; number of values. */
static void test_bounds(void **state)
{
        (void)state;
        static const struct { const char *first, *opens, *last; size_t most; } rows[] = {
                { "a = ", "[", "", 100000 }, { "a = ", "{a=", "", 100000 }, { "a", ".a", " = 1", 100000 }, { "[a", ".a", "]", 100000 }, { "", "x = 1\n", "", 2 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct buffer text = { 0 };
                buffer_append_text(&text, rows[i].first);
                for (size_t n = 0; n < rows[i].most; n++)
                        buffer_append_text(&text, rows[i].opens);
                buffer_append_text(&text, rows[i].last);
                assert_false(taken(&text));
        }
        for (size_t count = 8000; count <= 9000; count += 1000) {
                struct buffer text = { 0 };
                for (size_t n = 0; n < count; n++)
                        buffer_printf(&text, "k%zu = 1\n", n);
                assert_int_equal(taken(&text), count == 8000);
        }
}

static void test_lines(void **state)
{
        (void)state;
        static const char text[] = "a = 1\n\n[b.\"c\"]\nd = [\n  'x',\n  'y']\n";
        CLEANUP(value_free) struct value *value = NULL;
        struct error err = { 0 };
        assert_true(toml_parse(text, strlen(text), ERROR_BAD_REQUEST, &value, &err));
        const struct value *c = value_get_member(value_get_member(value, "b"), "c"), *d = value_get_member(c, "d");
        assert_int_equal(value_get_line(value_get_member(value, "a")), 1);
        assert_int_equal(value_get_line(c), 3);
        assert_int_equal(value_get_line(d), 4);
        assert_int_equal(value_get_line(value_get_item(d, 1)), 6);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_readings), cmocka_unit_test(test_refusals), cmocka_unit_test(test_bounds), cmocka_unit_test(test_lines) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
