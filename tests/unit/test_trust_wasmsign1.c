#include "trust_wasm_rig.h"

enum { SECTION_BYTES = 89, V1 = 1u << TRUST_WASMSIGN1 };
static struct signer signer;
static const char k9[] = "0061736d01000000010401600000000401610102"
        "0057127369676e61747572655f7761736d7369676e0200000058fcfe3336e2688198e782f6dc9a75ed5b305c0bf8464d20abf6ebdc75ceb94fd74fe7bcf54d0da9a85da90a8b13403cd9de3441a8770b37a75de3433d78c801";

static struct judged judged_of(struct bytes module, unsigned formats)
{
        return (struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = signer.keys, .formats = formats };
}

static int judge_v1(struct bytes module)
{
        struct judged judged = judged_of(module, V1);
        return judge(&judged);
}

static void expect_v1(const char *what, struct bytes module, int expected)
{
        struct judged judged = judged_of(module, V1);
        expect(what, &judged, expected);
}

/* As jedisct1/wasmsign --use-custom-section does. */
static void sign_v1(struct bytes *module)
{
        static const char domain[] = "WasmSignature\0\0\0\0";
        uint8_t payload[68] = { 2 }, hash[64];
        BYTES message = bytes_of(domain, sizeof domain - 1);
        bytes_add(&message, module->data, module->size);
        crypto_hash_sha512(hash, message.data, message.size);
        sign_ed25519(&signer, hash, sizeof hash, payload + 4);
        bytes_add_section(module, "signature_wasmsign", payload, sizeof payload);
}

static void test_k9(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k9), made = bytes_of(module.data, module.size - SECTION_BYTES);

        expect_v1("K9", module, PROVED);
        assert_string_equal(last_proof.format, "wasmsign1");
        assert_string_equal(last_proof.algorithm, "Ed25519");
        sign_v1(&made);
        assert_int_equal(made.size, module.size);
        assert_memory_equal(made.data, module.data, module.size);
        struct judged judged = judged_of(module, 0);
        expect("off by default", &judged, TRUST_NOT_ACCEPTED);
        assert_non_null(strstr(last_failure.text, "wasmsign1"));
}

/* All is covered, the header too. */
static void test_k9_flipped_cut_extended(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k9);
        for (size_t bit = 0; bit < module.size * 8; bit++) {
                module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (judge_v1(module) == PROVED)
                        fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
                module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t size = 0; size < module.size; size++) {
                BYTES cut = bytes_of(module.data, size);
                assert_int_not_equal(judge_v1(cut), PROVED);
        }
        for (int byte = 0; byte < 256; byte++) {
                BYTES longer = bytes_of(module.data, module.size);
                bytes_add_byte(&longer, byte);
                assert_int_not_equal(judge_v1(longer), PROVED);
        }
        BYTES longer = bytes_of(module.data, module.size);
        bytes_add_section(&longer, "evil", "\6", 1);
        expect_v1("a section behind it", longer, TRUST_MALFORMED);
        BYTES twice = bytes_hex(k9);
        sign_v1(&twice);
        expect_v1("a second section", twice, TRUST_MALFORMED);
        BYTES changed = bytes_hex(k9);
        changed.data[19] ^= 1;
        expect_v1("a changed module", changed, TRUST_OTHER_KEY);
        assert_int_equal(last_failure.others, 0);
}

/* The section must be the exact 89 bytes: what else could hold a signature is refused, not searched. */
static void test_sections(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k9);
        const size_t start = module.size - SECTION_BYTES;

        BYTES algorithm = bytes_of(module.data, module.size);
        algorithm.data[start + 21] = 1;
        expect_v1("algorithm 1", algorithm, TRUST_MALFORMED);
        BYTES padded = bytes_of(module.data, start);
        bytes_add(&padded, "\0\xd7\0", 3);
        bytes_add(&padded, module.data + start + 2, SECTION_BYTES - 2);
        expect_v1("over-long size", padded, TRUST_MALFORMED);
        BYTES longer = bytes_of(module.data, start);
        uint8_t payload[69] = { 2 };
        bytes_add_section(&longer, "signature_wasmsign", payload, sizeof payload);
        expect_v1("69 bytes", longer, TRUST_MALFORMED);
        for (size_t size = 0; size <= 4; size++) {          /* nothing is read behind the end of the module, which asan sees */
                BYTES some = bytes_of(module.data, start);
                bytes_add_section(&some, "signature_wasmsign", payload, size);
                uint8_t *exact = memory_new(some.size, 1);
                memcpy(exact, some.data, some.size);
                struct bytes too_short = { .data = exact, .size = some.size };
                expect_v1("too short", too_short, TRUST_MALFORMED);
                free(exact);
        }
        BYTES bare = bytes_of(module.data, start);
        expect_v1("none", bare, TRUST_ABSENT);
}

/* One of both that may be there suffices, if it is accepted. */
static void test_beside_wasmsign2(void **state)
{
        (void)state;
        static const char section[] = "0075097369676e61747572650101010166" "01aaa306bd98278a77d6fb18a6d04838dde7682fba0753dac4cc5deed480b66fc90143000140"
                "acd37d1dfbd5e18ebcf1d8e306c7249882a4f1c74aeb49f0799f075ddcfd130652f4530bf5cb721ac95bb89ea843c6aa5c740bfed0c1b05d43ad1595ecf3200c";
        BYTES module = bytes_of("\0asm\1\0\0\0", 8), head = bytes_hex(section), k7 = bytes_hex("010401600000000401610102");
        bytes_add(&module, head.data, head.size);
        bytes_add(&module, k7.data, k7.size);
        expect_v1("wasmsign2 is off", module, TRUST_NOT_ACCEPTED);
        sign_v1(&module);
        expect_v1("the second proves", module, PROVED);
        assert_string_equal(last_proof.format, "wasmsign1");
        struct judged judged = judged_of(module, ALL_FORMATS);
        /* The section of v1 was added behind what wasmsign2 signed. */
        expect("both on", &judged, PROVED);
        assert_string_equal(last_proof.format, "wasmsign1");
        judged = judged_of(module, TRUST_FORMATS_DEFAULT);
        expect("v1 off: the nearer miss is told", &judged, TRUST_OTHER_DIGEST);
        assert_int_equal(last_failure.others, 1);
}

static struct trust_keys *keys_of_seed(uint8_t seed)
{
        struct signer one;
        signer_init(&one, seed);
        return one.keys;
}

static void test_keys(void **state)
{
        (void)state;
        struct trust_keys *ec = keys_load("keys/p256.pem");
        BYTES module = bytes_hex(k9);
        struct judged judged = judged_of(module, V1);
        judged.keys = ec;
        expect("EC key", &judged, TRUST_ALGORITHM);
        struct trust_keys *both = NULL, *const sets[] = { keys_of_seed(7), signer.keys };
        struct trust_keys *first = sets[0];
        struct error err;
        assert_true(trust_keys_join(sets, 2, "verificationKey", &both, &err));
        judged.keys = both;
        expect("two keys", &judged, PROVED);
        judged.verifications = 1;
        expect("budget", &judged, TRUST_LIMIT);
        trust_keys_unref(&first);
        trust_keys_unref(&both);
        trust_keys_unref(&ec);
}

/* K10: the keys of proxy-wasm-cpp-host, as PEM: accepted, and none of them signed K9. The second one is the v1 form without its first four bytes. */
static void test_k10(void **state)
{
        (void)state;
        static const char *const keys[] = { "2cb24519cf5c9e6d063611e1a761de772b7d57e5203264c5b8315a4fbf450e28", "33fbfb5d412d33b165ab252ccd8ed5cd01c7d41faaf7e38e1e7d267380fbc72c" };
        BYTES module = bytes_hex(k9);
        for (size_t i = 0; i < COUNT_OF(keys); i++) {
                BYTES raw = bytes_hex(keys[i]);
                struct trust_keys *parsed = NULL;
                assert_true(keys_from_raw(raw.data, &parsed));
                struct judged judged = judged_of(module, V1);
                judged.keys = parsed;
                expect("K10", &judged, TRUST_OTHER_KEY);
                trust_keys_unref(&parsed);
        }
}

static int setup(void **state)
{
        (void)state;
        signer_init(&signer, 0x42);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        trust_keys_unref(&signer.keys);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_k9), cmocka_unit_test(test_k9_flipped_cut_extended), cmocka_unit_test(test_sections), cmocka_unit_test(test_beside_wasmsign2), cmocka_unit_test(test_keys),
                cmocka_unit_test(test_k10),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
