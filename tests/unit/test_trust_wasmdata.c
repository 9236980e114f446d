#include "trust_wasm_rig.h"
#include "../../agent/trust/wasm.h"

#define HASH "aaa306bd98278a77d6fb18a6d04838dde7682fba0753dac4cc5deed480b66fc9"
#define KEY_ID_AND_ALGORITHM "0001"

/* Signature data that holds too little, mostly with lengths that nest: each is said to be what it is. With lengths, as wasmsign2 writes it. */
static const struct { const char *what, *hex, *text; } rows[] = {
        { "a set of no hashes",                   "01010101" "02" "00" "00",                                        "it has a set of no hashes or of more than 64" },
        { "a set of no signatures",               "01010101" "22" "01" HASH "00",                                   "it has a set of no signatures or of more than 256" },
        { "an empty set",                         "01010101" "00",                                                  "its lengths do not add up" },
        { "a set of half a count",                "01010101" "01" "80",                                             "its lengths do not add up" },
        { "a set without a count of signatures",  "01010101" "21" "01" HASH,                                        "its lengths do not add up" },
        { "half a hash",                          "01010101" "02" "01" "aa",                                        "its lengths do not add up" },
        { "half a count of signatures",           "01010101" "22" "01" HASH "80",                                   "its lengths do not add up" },
        { "an empty entry",                       "01010101" "23" "01" HASH "01" "00",                              "its lengths do not add up" },
        { "an entry of half a count",             "01010101" "24" "01" HASH "01" "01" "80",                         "its lengths do not add up" },
        { "an entry without a signature",         "01010101" "25" "01" HASH "01" "02" KEY_ID_AND_ALGORITHM,         "its lengths do not add up" },
        { "an entry behind its set",              "01010101" "23" "01" HASH "01" "7f",                              "its lengths do not add up" },
        { "no set",                               "01010101",                                                       "its lengths do not add up" },
        { "half a count of sets",                 "010101" "80",                                                    "its lengths do not add up" },
};

static void test_too_little(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES bytes = bytes_hex(rows[i].hex);
                struct wasm_problem problem = { TRUST_REASONS, "" };
                struct wasm_data data;

                if (wasm_data_parse((struct span){ bytes.data, bytes.size }, &data, &problem))
                        fail_msg("%s: taken", rows[i].what);
                if (problem.reason != TRUST_MALFORMED || !string_equal(problem.text, rows[i].text))
                        fail_msg("%s: %s (%s), expected %s", rows[i].what, trust_reason_names[problem.reason], problem.text, rows[i].text);
        }
}

/* A reader that went wrong stays so, and gives nothing more, though bytes are left. */
static void test_reader(void **state)
{
        (void)state;
        BYTES bytes = bytes_hex("8080808010" "0161");
        struct reader reader = reader_of((struct span){ bytes.data, bytes.size });

        assert_int_equal(reader_get_varuint32(&reader), 0);
        assert_true(reader.bad && reader.at < reader.end);
        assert_int_equal(reader_get_bytes(&reader, 1).size_bytes, 0);
        assert_int_equal(reader_get_varuint32(&reader), 0);
        struct reader part = reader_get_part(&reader);
        assert_true(reader_is_empty(&part) && !reader_is_empty(&reader));

        reader = reader_of((struct span){ bytes.data, 1 });
        assert_int_equal(reader_get_varuint32(&reader), 0);
        assert_true(reader.at == reader.end && !reader_is_empty(&reader));

        reader = reader_of((struct span){ bytes.data + 5, 2 });
        part = reader_get_part(&reader);
        assert_true(reader_is_empty(&reader) && !reader_is_empty(&part));
        assert_memory_equal(reader_get_bytes(&part, 1).bytes, "a", 1);
        assert_true(reader_is_empty(&part));
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_too_little), cmocka_unit_test(test_reader) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
