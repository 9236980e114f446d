/* JSON and YAML read strictly, and JSON written. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

#define SECRET "hunter2"

typedef bool parse_fn(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err);

/* Refused with a text that has `says` and never a value that the input held; a member's name is said, contract section 2. */
static void expect_refusal(parse_fn *parse, const char *text, size_t length, const char *says)
{
        struct value *value = NULL;
        struct error err = { 0 };
        if (parse(text, length, ERROR_BAD_URL, &value, &err))
                fail_msg("taken: %.60s", text);
        assert_null(value);
        assert_int_equal(err.code, ERROR_BAD_URL);
        if (!strstr(err.text, says) || strstr(err.text, SECRET))
                fail_msg("%.60s → %s", text, err.text);
}

#define T(text_) text_, sizeof text_ - 1
static const struct { const char *text; size_t length; const char *says; } json_refusals[] = {
        { T(""), "line 1, column 0: the text ends too early" }, { T("  "), "too early" }, { T("{"), "too early" }, { T("{\"a\":\"" SECRET), "" }, { T("{} {}"), "more after the end" },
        { T("{\"a\":\"" SECRET "\",\"a\":\"" SECRET "\"}"), "member \"a\" is there twice" }, { T("{\"a\":1,\"\\u0061\":2}"), "there twice" }, { T("{\"a\":{\"b\":1,\"b\":2}}"), "there twice" },
        { T("\"\xff\xfe" SECRET "\""), "UTF-8" }, { T("\"\xc0\xaf\""), "UTF-8" }, { T("\"\xed\xa0\x80\""), "UTF-8" }, { T("\"a\\u0000" SECRET "\""), "NUL" }, { T("{\"a\\u0000b\":1}"), "NUL" },
        { T("\"a\0b\""), "" }, { T("{}\0"), "" }, { T("\"\\ud800\""), "" }, { T("[1,]"), "not valid JSON" }, { T("{,}"), "not valid JSON" }, { T("{a:1}"), "not valid JSON" }, { T("'a'"), "not valid JSON" },
        { T("// c\n1"), "not valid JSON" }, { T("NaN"), "not valid JSON" }, { T("01"), "" }, { T("+1"), "not valid JSON" }, { T(".5"), "not valid JSON" }, { T("0x10"), "" }, { T("tru"), "not valid JSON" },
        { T("\xef\xbb\xbf{}"), "" }, { T(" \xef\xbb\xbf{}"), "" }, { T("{\0}"), "" }, { T("\0{}"), "" }, { T("{\"a\":\0001}"), "" }, { T("{}\0\0"), "" }, { T("{}\n\0"), "" }, { T("\"\\udc00\""), "" }, { T("\"\\ud800x\""), "" },
        { T("\"\\ud800\\u0041\""), "" }, { T("\"\\udbff\\ue000\""), "" }, { T("\"\xed\xbf\xbf\""), "UTF-8" }, { T("\"\xf4\x90\x80\x80\""), "UTF-8" }, { T("{\"\xff\":1}"), "UTF-8" }, { T("-Infinity"), "" }, { T("Infinity"), "" },
        { T("{\"a\":-NaN}"), "" }, { T("nan"), "" }, { T("{\"\\u00e9\":1,\"\xc3\xa9\":2}"), "there twice" }, { T("[{\"a\":[{\"b\\/\":1,\"b/\":2}]}]"), "there twice" }, { T("{\"\":1,\"\":2}"), "there twice" },
        { T("{} /**/"), "more after the end" }, { T("{}\x0b"), "" }, { T("\x0c{}"), "" }, { T("1\xc2\xa0"), "" }, { T("-"), "" }, { T("1."), "" }, { T("1e"), "" }, { T("\"\\x41\""), "" }, { T("\"\\u12g4\""), "" }, { T("1e999"), "too large" }, { T("\"\n\""), "" }, { T("\n\n  " SECRET), "line 3" },
};

static void test_json_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(json_refusals); i++)
                expect_refusal(json_parse, json_refusals[i].text, json_refusals[i].length, json_refusals[i].says);
}

static const struct { const char *text, *says; } yaml_refusals[] = {
        { "a: 1\nb: 2\na: 3\n", "line 3: key \"a\" is there twice" }, { "a: {b: 1, b: 2}", "line 1: key \"b\"" }, { "a: &x 1", "anchors and tags" }, { "&x a: 1", "anchors and tags" },
        { "!!str a: 1", "anchors and tags" }, { "a: &x [1]", "anchors and tags" }, { "a: &x {b: 1}", "anchors and tags" }, { "a: *x", "aliases" }, { "*x : 1", "a key must be a string" },
        { "a: !!str 1", "anchors and tags" }, { "a: !!binary aGk=", "anchors and tags" }, { "a: ! x", "anchors and tags" }, { "<<: {a: 1}", "merge keys" }, { "[a]: 1", "a key must be a string" },
        { "? {a: 1}\n: 2", "a key must be a string" }, { "a: \"x\\0y\"", "NUL" }, { "\"a\\0b\": 1", "NUL" }, { "a: 1\n---\nb: 2\n", "a second document" }, { "--- a\n--- b\n", "a second document" },
        { "a: [1, 2", "line" }, { "a: \"" SECRET, "line" }, { "\ta: 1", "line 1" }, { "a: b: c", "line 1" }, { "a: \x01", "line" }, { "a: \xff\xfe", "line" }, { "a:\n  - 1\n - 2\n", "line" }, { "{a: 1", "line" },
        { "%YAML 9.9\n--- a", "line" }, { "a: @b", "line" }, { "a\nb: 1", "line" }, { "key: " SECRET "\nkey: " SECRET, "line 2: key \"key\" is there twice" },
};

static void test_yaml_refusals(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(yaml_refusals); i++)
                expect_refusal(yaml_parse, yaml_refusals[i].text, strlen(yaml_refusals[i].text), yaml_refusals[i].says);
}

/* Integers beyond 64 bits are the nearest double; what looks like one in a string is a string, and refusals see the text as it came. */
static void test_wide_integers(void **state)
{
        (void)state;
        static const struct { const char *text, *written; } rows[] = {
                { "9223372036854775807", "9223372036854775807" }, { "-9223372036854775808", "-9223372036854775808" }, { "9223372036854775808", "9.223372036854776e+18" },
                { "{\"n\":12345678901234567890,\"s\":\"\\\"12345678901234567890\",\"m\":-9223372036854775809,\"k\":7}",
                  "{\"n\":1.2345678901234567e+19,\"s\":\"\\\"12345678901234567890\",\"m\":-9.223372036854776e+18,\"k\":7}" },
                { "[1000000000000000000000000000000000000000000,1e30,18446744073709551616.5]", "[1e+42,1e+30,1.8446744073709552e+19]" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(value_free) struct value *value = NULL;
                CLEANUP(buffer_fini) struct buffer out = { 0 };
                struct json_writer writer = { .out = &out };
                struct error err;
                assert_true(json_parse(rows[i].text, strlen(rows[i].text), ERROR_BAD_URL, &value, &err));
                json_put_value(&writer, NULL, value);
                assert_string_equal(out.data, rows[i].written);
        }
        expect_refusal(json_parse, T("[12345678901234567890, 1e999]"), "too large");
        expect_refusal(json_parse, T("{\"a\":12345678901234567890,\"bb\":1,\"bb\":2}"), "member \"bb\" is there twice");
}

/* `depth` brackets round a number. */
static char *nested(size_t depth)
{
        struct buffer text = { 0 };
        for (size_t i = 0; i < depth; i++)
                buffer_append_text(&text, "[");
        buffer_append_text(&text, "7");
        for (size_t i = 0; i < depth; i++)
                buffer_append_text(&text, "]");
        return buffer_take(&text);
}

static char *many(size_t count, const char *piece)
{
        struct buffer text = { 0 };
        buffer_append_text(&text, "[");
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, "%s%s", i > 0 ? "," : "", piece);
        buffer_append_text(&text, "]");
        return buffer_take(&text);
}

static void test_bounds(void **state)
{
        (void)state;
        parse_fn *const parsers[] = { json_parse, yaml_parse };
        for (size_t i = 0; i < COUNT_OF(parsers); i++) {
                CLEANUP(cleanup_free) char *deepest = nested(VALUE_DEPTH_MAX), *deeper = nested(VALUE_DEPTH_MAX + 1), *abyss = nested(100000);
                CLEANUP(cleanup_free) char *most = many(VALUE_NODES_MAX - 1, "1"), *more = many(VALUE_NODES_MAX + 1, "1");
                CLEANUP(value_free) struct value *value = NULL;
                struct error err;
                assert_true(parsers[i](deepest, strlen(deepest), ERROR_BAD_URL, &value, &err));
                const struct value *at = value;
                for (size_t k = 0; k < VALUE_DEPTH_MAX; k++)
                        at = value_get_item(at, 0);
                assert_int_equal(value_get_int(at), 7);
                value_free(&value);
                assert_true(parsers[i](most, strlen(most), ERROR_BAD_URL, &value, &err));
                assert_int_equal(value_get_count(value), VALUE_NODES_MAX - 1);
                expect_refusal(parsers[i], deeper, strlen(deeper), "nested");
                expect_refusal(parsers[i], abyss, strlen(abyss), "nested");
                expect_refusal(parsers[i], more, strlen(more), "values");
        }
        /* Brackets in strings are no depth. */
        CLEANUP(value_free) struct value *value = NULL;
        struct error err;
        CLEANUP(cleanup_free) char *quoted = many(100, "\"[[[{{{\\\"[\\\\\"");
        assert_true(json_parse(quoted, strlen(quoted), ERROR_BAD_URL, &value, &err));
        assert_string_equal(value_get_text(value_get_item(value, 99)), "[[[{{{\"[\\");
}

/* A hundred thousand keys are read in linear time (a quadratic reader needs minutes). */
static void test_many_keys(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        for (int i = 0; i < 60000; i++)
                buffer_printf(&text, "key%d: %d\n", i, i);
        CLEANUP(value_free) struct value *value = NULL;
        struct error err;
        assert_true(yaml_parse(text.data, text.used, ERROR_BAD_URL, &value, &err));
        assert_int_equal(value_get_count(value), 60000);
        buffer_append_text(&text, "key17: 1\n");
        expect_refusal(yaml_parse, text.data, text.used, "line 60001: key \"key17\" is there twice");
}

/* text → kind and JSON text of it */
static const struct { const char *yaml; enum value_kind kind; const char *json; } scalars[] = {
        { "null", VALUE_NULL, "null" }, { "~", VALUE_NULL, "null" }, { "", VALUE_NULL, "null" }, { "true", VALUE_BOOL, "true" }, { "False", VALUE_BOOL, "false" }, { "yes", VALUE_TEXT, "\"yes\"" },
        { "off", VALUE_TEXT, "\"off\"" }, { "0", VALUE_INT, "0" }, { "-7", VALUE_INT, "-7" }, { "+7", VALUE_INT, "7" }, { "0666", VALUE_TEXT, "\"0666\"" }, { "0o17", VALUE_TEXT, "\"0o17\"" },
        { "0x1f", VALUE_TEXT, "\"0x1f\"" }, { "9223372036854775807", VALUE_INT, "9223372036854775807" }, { "9223372036854775808", VALUE_REAL, "9.223372036854776e+18" }, { "1.5", VALUE_REAL, "1.5" },
        { "0.1", VALUE_REAL, "0.1" }, { "1e3", VALUE_REAL, "1000" }, { "1e999", VALUE_TEXT, "\"1e999\"" }, { "1-2", VALUE_TEXT, "\"1-2\"" }, { "1.2.3", VALUE_TEXT, "\"1.2.3\"" }, { ".inf", VALUE_TEXT, "\".inf\"" },
        { "30s", VALUE_TEXT, "\"30s\"" }, { "\"7\"", VALUE_TEXT, "\"7\"" }, { "'null'", VALUE_TEXT, "\"null\"" }, { "2026-01-01", VALUE_TEXT, "\"2026-01-01\"" }, { "|\n  a\n  b\n", VALUE_TEXT, "\"a\\nb\\n\"" },
        { "-", VALUE_LIST, "[null]" }, { "[]", VALUE_LIST, "[]" }, { "{}", VALUE_MAP, "{}" }, { "{b: [1, {c: d}]}", VALUE_MAP, "{\"b\":[1,{\"c\":\"d\"}]}" },
};

static void test_yaml_scalars(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(scalars); i++) {
                CLEANUP(cleanup_free) char *text = string_format("a:\n  %s", scalars[i].yaml);
                CLEANUP(value_free) struct value *value = NULL;
                CLEANUP(buffer_fini) struct buffer out = { 0 };
                struct error err = { 0 };
                if (!yaml_parse(text, strlen(text), ERROR_BAD_URL, &value, &err))
                        fail_msg("%s: %s", text, err.text);
                const struct value *member = value_get_member(value, "a");
                struct json_writer writer = { .out = &out };
                json_put_value(&writer, NULL, member);
                assert_string_equal(out.data, scalars[i].json);
                assert_int_equal(value_get_kind(member), scalars[i].kind);
                assert_int_equal(value_get_line(member), 1);
        }
        const char *const empties[] = { "", "   \n", "# nothing\n", "---\n", "---\n...\n", "{}" };
        for (size_t i = 0; i < COUNT_OF(empties); i++) {
                CLEANUP(value_free) struct value *value = NULL;
                struct error err;
                assert_true(yaml_parse(empties[i], strlen(empties[i]), ERROR_BAD_URL, &value, &err));
                assert_int_equal(value_get_kind(value), VALUE_MAP);
                assert_int_equal(value_get_count(value), 0);
        }
        CLEANUP(value_free) struct value *nothing = NULL;
        struct error err;
        assert_true(yaml_parse(NULL, 0, ERROR_BAD_URL, &nothing, &err));
        assert_int_equal(value_get_kind(nothing), VALUE_MAP);
}

static void test_readers(void **state)
{
        (void)state;
        static const char text[] = "{\"t\":\"x\",\"i\":7,\"r\":1.5,\"b\":true,\"n\":null,\"l\":[1],\"m\":{\"k\":2}}";
        static const char *const some[] = { "t", "i", "r", "b", "n", "l", NULL }, *const all[] = { "t", "i", "r", "b", "n", "l", "m", NULL };
        CLEANUP(value_free) struct value *map = NULL;
        struct error err = { 0 };
        const char *got_text = "before";
        int64_t got_int = -1;
        bool got_bool = false;
        const struct value *got = NULL;
        assert_true(json_parse(text, strlen(text), ERROR_BAD_KEY, &map, &err));
        assert_true(value_read_text(map, "n", ERROR_BAD_KEY, &got_text, &err) && value_read_text(map, "absent", ERROR_BAD_KEY, &got_text, &err));
        assert_string_equal(got_text, "before");
        assert_true(value_read_text(map, "t", ERROR_BAD_KEY, &got_text, &err) && value_read_int(map, "i", ERROR_BAD_KEY, &got_int, &err) && value_read_bool(map, "b", ERROR_BAD_KEY, &got_bool, &err));
        assert_string_equal(got_text, "x");
        assert_true(got_int == 7 && got_bool);
        assert_true(value_read_list(map, "l", ERROR_BAD_KEY, &got, &err) && value_get_count(got) == 1);
        assert_true(value_read_map(map, "m", ERROR_BAD_KEY, &got, &err) && string_equal(value_get_key(got, 0), "k"));
        assert_false(value_read_int(map, "r", ERROR_BAD_KEY, &got_int, &err));
        assert_string_equal(err.text, "member \"r\" must be of type integer, not number");
        assert_int_equal(err.code, ERROR_BAD_KEY);
        assert_false(value_read_text(map, "i", ERROR_BAD_KEY, &got_text, &err));
        assert_false(value_read_bool(map, "t", ERROR_BAD_KEY, &got_bool, &err));
        assert_false(value_read_map(map, "l", ERROR_BAD_KEY, &got, &err));
        assert_false(value_read_list(map, "m", ERROR_BAD_KEY, &got, &err));
        assert_string_equal(err.text, "member \"m\" must be of type array, not object");
        assert_true(value_only_members(map, all, ERROR_BAD_KEY, &err));
        assert_false(value_only_members(map, some, ERROR_BAD_KEY, &err));
        assert_string_equal(err.text, "unknown member \"m\"; known are t, i, r, b, n, l");
        assert_true(isless(fabs(value_get_real(value_get_member(map, "i")) - 7), 1e-9));
        assert_null(value_get_text(value_get_member(map, "i")));
        assert_int_equal(value_get_int(value_get_member(map, "r")), 0);
        assert_false(value_get_bool(value_get_member(map, "i")));
        assert_null(value_get_member(NULL, "x"));
        assert_null(value_get_member(value_get_member(map, "l"), "x"));
        assert_null(value_get_item(map, 7));
        assert_null(value_get_key(value_get_member(map, "l"), 0));
        assert_int_equal(value_get_kind(NULL), VALUE_NULL);
        assert_int_equal(value_get_line(map), 0);
}

static const struct { const char *text, *json; } escapes[] = {
        { "plain", "\"plain\"" }, { "a\"b\\c/", "\"a\\\"b\\\\c/\"" }, { "\n\r\t\b\x01\x1f", "\"\\n\\u000d\\u0009\\u0008\\u0001\\u001f\"" }, { "\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80", "\"\xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80\"" },
        { "a\xff" "b", "\"a\xef\xbf\xbd" "b\"" }, { "\xe2\x82", "\"\xef\xbf\xbd\xef\xbf\xbd\"" }, { "\xc0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\"" }, { "\xed\xa0\x80x", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdx\"" },
        { "\xf0\x9f\x98", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" }, { "", "\"\"" }, { NULL, "null" },
};

static void test_writer(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(escapes); i++) {
                CLEANUP(buffer_fini) struct buffer out = { 0 };
                CLEANUP(value_free) struct value *value = NULL;
                struct error err;
                struct json_writer writer = { .out = &out };
                json_put_text(&writer, NULL, escapes[i].text);
                assert_string_equal(out.data, escapes[i].json);
                assert_true(json_parse(out.data, out.used, ERROR_INTERNAL, &value, &err));
        }
        CLEANUP(buffer_fini) struct buffer out = { 0 };
        struct json_writer writer = { .out = &out };
        json_open_map(&writer, NULL);
        json_put_int(&writer, "min", INT64_MIN);
        json_put_real(&writer, "tenth", 0.1);
        json_put_real(&writer, "third", 1.0 / 3);
        json_put_real(&writer, "nan", (double)NAN);
        json_put_real(&writer, "inf", (double)INFINITY);
        json_open_list(&writer, "l\"");
        json_open_map(&writer, NULL);
        json_close_map(&writer);
        json_open_list(&writer, NULL);
        json_close_list(&writer);
        json_put_bool(&writer, NULL, true);
        json_close_list(&writer);
        json_put_raw(&writer, "raw", "[1]");
        json_put_null(&writer, "null");
        json_put_value(&writer, "value", NULL);
        json_close_map(&writer);
        assert_string_equal(out.data, "{\"min\":-9223372036854775808,\"tenth\":0.1,\"third\":0.3333333333333333,\"nan\":null,\"inf\":null,\"l\\\"\":[{},[],true],\"raw\":[1],\"null\":null,\"value\":null}");
}

/* Documents of one text: lines are the text's, empty ones are left out, an error says where in the text it is. */
static void test_yaml_documents(void **state)
{
        static const struct { const char *text; size_t count; } good[] = {
                { "", 0 }, { "---\n---\n", 0 }, { "# only words\n", 0 }, { "a: 1", 1 }, { "---\na: 1\n---\n---\n- 2\n...\n---\ntext\n", 3 }, { "null\n---\n~\n---\nb\n", 1 },
        };
        static const struct { const char *text, *says; } bad[] = {
                { "a: 1\n---\nb: [\n", "line 4" }, { "a: 1\n---\nb: 1\nb: 2\n", "line 4: key \"b\" is there twice" }, { "x\n--- &a y\n", "line 2: anchors" }, { "x\n---\n*a\n", "line 3: aliases" },
        };
        (void)state;
        struct error err;
        for (size_t i = 0; i < COUNT_OF(good); i++) {
                CLEANUP(value_free) struct value *list = NULL;
                if (!yaml_parse_all(good[i].text, strlen(good[i].text), ERROR_BAD_REQUEST, &list, &err))
                        fail_msg("%s: %s", good[i].text, err.text);
                assert_int_equal(value_get_kind(list), VALUE_LIST);
                assert_int_equal(value_get_count(list), good[i].count);
        }
        for (size_t i = 0; i < COUNT_OF(bad); i++) {
                struct value *list = NULL;
                assert_false(yaml_parse_all(bad[i].text, strlen(bad[i].text), ERROR_BAD_REQUEST, &list, &err));
                assert_null(list);
                if (strncmp(err.text, bad[i].says, strlen(bad[i].says)) != 0)
                        fail_msg("%s → %s", bad[i].text, err.text);
        }
        CLEANUP(value_free) struct value *list = NULL;
        assert_true(yaml_parse_all(good[4].text, strlen(good[4].text), ERROR_BAD_REQUEST, &list, &err));
        assert_int_equal(value_get_line(value_get_item(list, 0)), 2);
        assert_int_equal(value_get_line(value_get_item(list, 1)), 5);
        assert_string_equal(value_get_text(value_get_item(list, 2)), "text");
}

/* ---- secrets */
/* How often the marker, each byte of it one less than in `moved`, is found in the writable memory of this process. The large maps of sanitizers are left out. */
static size_t count_in_memory(const char *moved)
{
        enum { PIECE = 1 << 20 };
        char line[512];
        size_t length = strlen(moved), found = 0;
        CLEANUP(cleanup_free) char *piece = malloc(PIECE);
        FILE *maps = fopen("/proc/self/maps", "re");
        int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
        assert_true(maps && memory >= 0);
        while (fgets(line, sizeof line, maps)) {
                unsigned long start, end;
                if (sscanf(line, "%lx-%lx", &start, &end) != 2 || !strstr(line, " rw") || end - start > 1ul << 28 || strstr(line, "[stack]"))
                        continue;
                for (unsigned long at = start; at < end; at += PIECE - 64) {
                        if ((char *)at <= piece && piece < (char *)at + PIECE)
                                memset(piece, 0, PIECE);
                        ssize_t got = pread(memory, piece, end - at < PIECE ? end - at : PIECE, (off_t)at);
                        const char *end_of_piece = got > 0 ? piece + got : piece, *next = piece;
                        while ((next = memchr(next, moved[0] - 1, (size_t)(end_of_piece - next)))) {       /* a step of each byte would take minutes under TSan */
                                size_t same = 0;
                                while (same < length && next + same < end_of_piece && next[same] == moved[same] - 1)
                                        same++;
                                found += same == length;
                                next++;
                        }
                        explicit_bzero(piece, PIECE);
                }
        }
        close(memory);
        fclose(maps);
        return found;
}

/* The text is the caller's to wipe, what the parsers made of it is theirs: nothing of a Secret stays behind in freed memory. */
static void test_nothing_stays(void **state)
{
        static const struct { parse_fn *parse; const char *text; } rows[] = {
                { json_parse, "{\"auths\":{\"a\":{\"password\":\"@\"}},\"n\":[1,2]}" }, { json_parse, "{\"password\":\"@\",\"password\":\"@\"}" }, { json_parse, "{\"password\":\"@\"" },
                { json_parse, "{\"password\":\"@\",\"n\":123456789012345678901234567890}" },
                { yaml_parse, "auths:\n  a:\n    password: @\n" }, { yaml_parse, "password: \"@\"\nlist: [\n" }, { yaml_parse, "- |\n  @\n- '@'\n" }, { yaml_parse, "password: &a @\nnext: @\n" },
        };
        static const char moved[] = "TFDSFU.HR9jb{6wq3onf8mex2dtv5bqy";
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                char text[256] = "";
                size_t length = 0;
                for (const char *from = rows[i].text; *from; from++)
                        if (*from == '@')
                                for (size_t n = 0; moved[n]; n++)
                                        text[length++] = (char)(moved[n] - 1);
                        else
                                text[length++] = *from;
                CLEANUP(cleanup_free) char *given = string_copy(text);
                assert_true(count_in_memory(moved) >= 1);          /* the text itself: the count can see */
                CLEANUP(value_free) struct value *value = NULL;
                struct error err;
                rows[i].parse(given, length, ERROR_BAD_REQUEST, &value, &err);
                value_free(&value);
                explicit_bzero(text, sizeof text);
                explicit_bzero(given, length);
                if (count_in_memory(moved) != 0)
                        fail_msg("of %s something is still in memory", rows[i].text);
        }
}

int main(void)
{
        json_start_wiping();
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_json_refusals), cmocka_unit_test(test_wide_integers), cmocka_unit_test(test_yaml_refusals), cmocka_unit_test(test_bounds), cmocka_unit_test(test_many_keys), cmocka_unit_test(test_yaml_scalars),
                cmocka_unit_test(test_readers), cmocka_unit_test(test_writer), cmocka_unit_test(test_yaml_documents), cmocka_unit_test(test_nothing_stays),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
