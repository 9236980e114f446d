/* ISA-L and zlib must agree on every stream, whole or damaged: whether it is good, and then on every byte. */
#include "unpack_archives.h"

static uint32_t seed = 12345;

static uint32_t next_random(void)
{
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        return seed;
}

static bool run_engine(const char *engine, const struct buffer *content, struct buffer *ret_out, struct error *err)
{
        assert_int_equal(setenv("WASMCACHED_INFLATE", engine, 1), 0);
        return unpack_run_as(AS_BODY, content, &unpack_limits_default, ret_out, err);
}

/* The engines may differ in how they name the damage, never in whether there is any. */
static bool agree(const char *what, const struct buffer *content)
{
        CLEANUP(buffer_fini) struct buffer isal = { 0 }, zlib = { 0 };
        struct error isal_err = { 0 }, zlib_err = { 0 };
        bool isal_good = run_engine("isa-l", content, &isal, &isal_err), zlib_good = run_engine("zlib", content, &zlib, &zlib_err);
        if (isal_good != zlib_good)
                fail_msg("%s: ISA-L %s, zlib %s", what, isal_good ? "good" : isal_err.text, zlib_good ? "good" : zlib_err.text);
        if (isal_good && (isal.used != zlib.used || memcmp(isal.data, zlib.data, isal.used) != 0))
                fail_msg("%s: different bytes", what);
        return isal_good;
}

/* A module with stretches of noise and of repetition, in one to four members of any level, strategy and header. */
static void stream_build(struct buffer *out, size_t size_bytes)
{
        CLEANUP(buffer_fini) struct buffer module = { 0 };
        put_wasm(&module, size_bytes);
        for (size_t i = 8; i < module.used; i++)
                if (i / 700 % 3 == 1)
                        module.data[i] = (char)next_random();
        for (size_t at = 0; at < module.used;) {
                size_t left = module.used - at, piece = next_random() % 2 ? left : next_random() % left + 1;
                z_stream state = { 0 };
                gz_header header = { .extra = (Bytef *)(uintptr_t)"extra", .extra_len = next_random() % 6,
                        .name = (Bytef *)(uintptr_t)"name", .comment = (Bytef *)(uintptr_t)"no", .hcrc = (int)(next_random() % 2) };
                assert_int_equal(deflateInit2(&state, (int)(next_random() % 10), Z_DEFLATED, 16 + 9 + (int)(next_random() % 7), 8, (int)(next_random() % 5)), Z_OK);
                if (next_random() % 2)
                        assert_int_equal(deflateSetHeader(&state, &header), Z_OK);
                size_t room = deflateBound(&state, piece) + 100;
                assert_true(buffer_reserve(out, room));
                state.next_in = (Bytef *)module.data + at;
                state.avail_in = (uInt)piece;
                state.next_out = (Bytef *)out->data + out->used;
                state.avail_out = (uInt)room;
                assert_int_equal(deflate(&state, Z_FINISH), Z_STREAM_END);
                out->used += state.total_out;
                deflateEnd(&state);
                at += piece;
        }
}

static void test_good(void **state)
{
        (void)state;
        static const size_t sizes[] = { 8, 100, 5000, 32768, 65536, 262143, 262144, 262145, 600000, 1500000 };
        for (size_t i = 0; i < COUNT_OF(sizes); i++)
                for (unsigned round = 0; round < 6; round++) {
                        CLEANUP(buffer_fini) struct buffer content = { 0 };
                        stream_build(&content, sizes[i]);
                        assert_true(agree("good stream", &content));
                }
}

/* A name longer than what is read at once: the header is read in pieces. */
static void test_long_header(void **state)
{
        (void)state;
        static Bytef name[400001];
        static unsigned char wasm[64] = { 0, 'a', 's', 'm', 1 };
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        static char room[500000];
        z_stream stream = { .next_in = wasm, .avail_in = sizeof wasm, .next_out = (Bytef *)room, .avail_out = sizeof room };
        gz_header header = { .name = name, .os = 3 };

        memset(name, 'n', sizeof name - 1);
        assert_int_equal(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
        assert_int_equal(deflateSetHeader(&stream, &header), Z_OK);
        assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
        buffer_append(&content, room, stream.total_out);
        deflateEnd(&stream);
        assert_true(agree("long header", &content));
}

/* One bit, one byte, or the end gone. A flip in what no checksum covers (name, time) may stay good, for both. */
static void test_damaged(void **state)
{
        (void)state;
        unsigned refused = 0;
        for (unsigned round = 0; round < 1500; round++) {
                CLEANUP(buffer_fini) struct buffer content = { 0 };
                stream_build(&content, 8 + next_random() % 20000);
                size_t place = next_random() % (round % 3 == 0 && content.used > 40 ? 40 : content.used);
                if (place < 2)
                        place = 3;                /* without its magic it would be no gzip; the flags are worth more tries */
                if (round % 4 == 3)
                        content.used = place + 1;
                else
                        content.data[place] ^= (char)(1u << next_random() % 8);
                refused += !agree("damaged stream", &content);
        }
        assert_true(refused > 1000);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_good), cmocka_unit_test(test_long_header), cmocka_unit_test(test_damaged) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
