#include "trust_wasm_rig.h"

/* Signature data is described by what is wrong with it; zero = as wasmsign2 writes it. */
struct recipe {
        size_t hashes;                    /* how many are listed; 0 = as the module has parts */
        bool no_lengths, padded;
        int set_delta, entry_delta;       /* added to the two LEN */
        int set_more, entry_more;         /* bytes behind the last that belongs there, counted by LEN */
        uint8_t version, content, hash;   /* xor */
        int sets, entries;                /* written as the counts, when not 0; -1 = a zero */
        uint8_t algorithm;
        uint32_t signature_bytes;
        size_t key_id_bytes;
        int trailing;
        bool foreign;                     /* signed by another key */
        int copies, foreign_before;       /* more sets of the same; entries by another key before the right one */
};

static struct signer signer, stranger;
static const char k7_module[] = "0061736d01000000010401600000000401610102";
static const char k7_signature[] = "acd37d1dfbd5e18ebcf1d8e306c7249882a4f1c74aeb49f0799f075ddcfd130652f4530bf5cb721ac95bb89ea843c6aa5c740bfed0c1b05d43ad1595ecf3200c";
static const char k7_hash[] = "aaa306bd98278a77d6fb18a6d04838dde7682fba0753dac4cc5deed480b66fc9";
static const char k8[] = "0061736d01000000009601097369676e6174757265010101018601027530b07c97d5f8b32b3bc364867e3485f06c06b3c5cb98868e610305c316ed4762fb2e4c7a843097a1aa31aa8e1a4f6ed2150601b0889dbed7ca3a537d165ff2"
        "0143000140cd8bec8c12704fe83130ad3aedf558a03d8cb731ce45b0bb36d472f79ef9ea802cf8b5067e36e6c218d6d8c925469075115183aa31377da37defe6ad039010050104016000000024137369676e61747572655f64656c"
        "696d697465725f9698044c233f4e01be93d907b461cb0004016101020024137369676e61747572655f64656c696d6974657224ab6a4cb4c0bd9021c892e55cc1a283";
enum { K8_SECTION_BYTES = 0x96 + 3, K8_LAST_PART_BYTES = 44 };

static struct bytes k7_signed(bool has_key_id)
{
        char hex[1024];
        snprintf(hex, sizeof hex, "0061736d01000000" "%s097369676e6174757265010101%s%s%s%s" "%s", has_key_id ? "008101" : "0075", has_key_id ? "017201" : "016601", k7_hash,
                has_key_id ? "014f0cbdc498530b81c326b1ca51440140" : "0143000140", k7_signature, k7_module + 16);
        return bytes_hex(hex);
}

static int judge_module(struct bytes module)
{
        return judge(&(struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = signer.keys });
}

static void expect_module(const char *what, struct bytes module, int expected)
{
        expect(what, &(struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = signer.keys }, expected);
}

static void test_k7(void **state)
{
        (void)state;
        for (int has_key_id = 0; has_key_id < 2; has_key_id++) {
                BYTES module = k7_signed(has_key_id);
                expect_module("K7", module, PROVED);
                assert_string_equal(last_proof.format, "wasm-embedded");
                assert_string_equal(last_proof.algorithm, "Ed25519");
                assert_true(digest_equal(&last_proof.fingerprint, trust_keys_get_fingerprint(signer.keys, 0)));
                expect("another key", &(struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = stranger.keys }, TRUST_OTHER_KEY);
                assert_non_null(strstr(last_failure.text, "found 1 set of wasm signatures, none by key "));
                assert_int_equal(last_failure.others, 0);
        }
}

/* Each bit of the signed module counts, but for the key id: a hint chooses nothing. */
static void test_k7_flipped_cut_extended(void **state)
{
        (void)state;
        enum { KEY_ID_OFFSET = 8 + 3 + 10 + 6 + 32 + 3, KEY_ID_BYTES = 12 };

        for (int has_key_id = 0; has_key_id < 2; has_key_id++) {
                BYTES module = k7_signed(has_key_id);
                for (size_t bit = 0; bit < module.size * 8; bit++) {
                        bool is_hint = has_key_id && bit / 8 >= KEY_ID_OFFSET && bit / 8 < KEY_ID_OFFSET + KEY_ID_BYTES;
                        module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                        if ((judge_module(module) == PROVED) != is_hint)
                                fail_msg("bit %zu of byte %zu: %s", bit % 8, bit / 8, last_failure.text);
                        module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                }
                for (size_t size = 0; size < module.size; size++) {
                        BYTES cut = bytes_of(module.data, size);
                        if (judge_module(cut) == PROVED)
                                fail_msg("cut to %zu", size);
                }
                for (int byte = 0; byte < 256; byte++) {
                        BYTES longer = bytes_of(module.data, module.size);
                        bytes_add_byte(&longer, byte);
                        assert_int_not_equal(judge_module(longer), PROVED);
                }
        }
}

static void test_k7_flipped_key(void **state)
{
        (void)state;
        BYTES module = k7_signed(false);
        for (size_t bit = 0; bit < 256; bit++) {
                struct trust_keys *keys = NULL;
                uint8_t raw[32];
                memcpy(raw, signer.public, sizeof raw);
                raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (keys_from_raw(raw, &keys))
                        expect("flipped key", &(struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = keys }, TRUST_OTHER_KEY);
                trust_keys_unref(&keys);
        }
}

/* What wasmsign2 takes and we do not (6.4). */
static void test_k8_attacks(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k8);
        expect_module("K8", module, PROVED);

        BYTES cut = bytes_of(module.data, module.size - K8_LAST_PART_BYTES);
        expect_module("a: cut behind the first delimiter", cut, TRUST_TRUNCATED_MODULE);
        assert_non_null(strstr(last_failure.text, "lists 2 parts and the module has 1"));

        BYTES longer = bytes_of(module.data, module.size);
        bytes_add_section(&longer, "evil", "\6\6\6", 3);
        expect_module("b: a section appended", longer, TRUST_OTHER_DIGEST);
        assert_non_null(strstr(last_failure.text, "lists 2 of 3 parts"));
        bytes_add_section(&longer, "signature_delimiter", "0123456789abcdef", 16);
        expect_module("b: a section and a delimiter appended", longer, TRUST_OTHER_DIGEST);

        BYTES moved = bytes_of(module.data, 8 + K8_SECTION_BYTES);
        bytes_add_section(&moved, "other", "body", 4);
        expect_module("c: moved to another module", moved, TRUST_OTHER_DIGEST);
        assert_non_null(strstr(last_failure.text, "for other content"));
        BYTES bare = bytes_of(module.data, 8 + K8_SECTION_BYTES);
        expect_module("c: moved to no body", bare, TRUST_OTHER_DIGEST);

        BYTES component = bytes_of(module.data, module.size);
        memcpy(component.data + 4, "\x0d\0\1\0", 4);
        expect_module("d: header of a component", component, TRUST_MALFORMED);

        for (size_t at = 8; at <= 8 + K8_SECTION_BYTES; at += K8_SECTION_BYTES) {
                BYTES second = bytes_of(module.data, at);
                bytes_add_section(&second, "signature", "", 0);
                bytes_add(&second, module.data + at, module.size - at);
                expect_module("e: a second section", second, TRUST_MALFORMED);
        }
        BYTES last = bytes_of(module.data, module.size);
        bytes_add_section(&last, "signature", "", 0);
        expect_module("e: a second section at the end", last, TRUST_MALFORMED);
}

static void test_k8_flipped_and_cut(void **state)
{
        (void)state;
        BYTES module = bytes_hex(k8);
        for (size_t bit = 0; bit < module.size * 8; bit++) {
                module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
                if (judge_module(module) == PROVED)
                        fail_msg("bit %zu of byte %zu", bit % 8, bit / 8);
                module.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        for (size_t size = 0; size < module.size; size++) {
                BYTES cut = bytes_of(module.data, size);
                assert_int_not_equal(judge_module(cut), PROVED);
        }
}

/* ---- data made here ---- */
static void entry_add(struct bytes *out, const struct recipe *recipe, const uint8_t signature[64])
{
        BYTES entry = bytes_of("", 0);
        uint8_t key_id[256] = { 7 };
        uint32_t size = recipe->signature_bytes ? recipe->signature_bytes : 64;

        bytes_add_varuint(&entry, (uint32_t)recipe->key_id_bytes, 0);
        bytes_add(&entry, key_id, recipe->key_id_bytes);
        bytes_add_byte(&entry, recipe->algorithm ? recipe->algorithm : 1);
        bytes_add_varuint(&entry, size, recipe->padded ? 3 : 0);
        bytes_add(&entry, signature, size < 64 ? size : 64);
        bytes_add(&entry, "\0\0", (size_t)recipe->entry_more);
        if (!recipe->no_lengths)
                bytes_add_varuint(out, (uint32_t)((int)entry.size + recipe->entry_delta), recipe->padded ? 2 : 0);
        bytes_add(out, entry.data, entry.size);
}

static void set_add(struct bytes *out, const struct recipe *recipe, const uint8_t *hashes, size_t count)
{
        BYTES set = bytes_of("", 0), message = bytes_of("wasmsig\1\1\1", 10);
        uint8_t signature[64], foreign[64];
        int entries = recipe->foreign_before + 1;

        bytes_add(&message, hashes, count * 32);
        sign_ed25519(recipe->foreign ? &stranger : &signer, message.data, message.size, signature);
        sign_ed25519(&stranger, message.data, message.size, foreign);
        bytes_add_varuint(&set, (uint32_t)count, recipe->padded ? 4 : 0);
        bytes_add(&set, hashes, count * 32);
        bytes_add_varuint(&set, recipe->entries ? (uint32_t)(recipe->entries < 0 ? 0 : recipe->entries) : (uint32_t)entries, 0);
        for (int i = 0; i < entries; i++)
                entry_add(&set, recipe, i < recipe->foreign_before ? foreign : signature);
        bytes_add(&set, "\0\0", (size_t)recipe->set_more);
        if (!recipe->no_lengths)
                bytes_add_varuint(out, (uint32_t)((int)set.size + recipe->set_delta), 0);
        bytes_add(out, set.data, set.size);
}

static struct bytes data_make(const struct recipe *recipe, const uint8_t *hashes, size_t count)
{
        struct bytes data = bytes_of("", 0);
        int sets = recipe->copies + 1;

        bytes_add_byte(&data, 1 ^ recipe->version);
        bytes_add_byte(&data, 1 ^ recipe->content);
        bytes_add_byte(&data, 1 ^ recipe->hash);
        bytes_add_varuint(&data, (uint32_t)(recipe->sets ? (recipe->sets < 0 ? 0 : recipe->sets) : sets), 0);
        for (int i = 0; i < sets; i++)
                set_add(&data, recipe, hashes, count);
        for (int i = 0; i < recipe->trailing; i++)
                bytes_add_byte(&data, 0);
        return data;
}

/* A body of `parts` parts; hashes at the end of each. `tail`: the last part has no delimiter. */
static struct bytes body_make(size_t parts, bool tail, uint8_t *ret_hashes)
{
        struct bytes body = bytes_of("", 0);
        for (size_t i = 0; i < parts; i++) {
                uint8_t content[16] = { (uint8_t)i };
                struct digest digest;
                bytes_add_section(&body, "meta", content, sizeof content);
                if (!tail || i + 1 < parts)
                        bytes_add_section(&body, "signature_delimiter", content, sizeof content);
                digest_sha256(body.data, body.size, &digest);
                memcpy(ret_hashes + 32 * i, digest.bytes, 32);
        }
        return body;
}

static struct bytes module_make(struct bytes data, struct bytes body)
{
        struct bytes module = bytes_of("\0asm\1\0\0\0", 8);
        bytes_add_section(&module, "signature", data.data, data.size);
        bytes_add(&module, body.data, body.size);
        return module;
}

static const struct { const char *what; struct recipe recipe; int expected; } recipes[] = {
        { "plain",                           { 0 },                                           PROVED },
        { "key id of 200 bytes",             { .key_id_bytes = 200 },                         PROVED },
        { "over-long varints",               { .padded = true },                              PROVED },
        { "without lengths (specification)", { .no_lengths = true },                          PROVED },
        { "the same with a key id",          { .no_lengths = true, .key_id_bytes = 12 },      PROVED },
        { "the same with three sets",        { .no_lengths = true, .copies = 2 },             PROVED },
        { "the same, another signer before", { .no_lengths = true, .foreign_before = 1 },     PROVED },
        { "without lengths, a byte more",    { .no_lengths = true, .trailing = 1 },           TRUST_MALFORMED },
        { "three sets",                      { .copies = 2 },                                 PROVED },
        { "64 sets",                         { .copies = 63 },                                PROVED },
        { "65 sets",                         { .copies = 64 },                                TRUST_MALFORMED },
        { "another signer before",           { .foreign_before = 1 },                         PROVED },
        { "255 signers before",              { .foreign_before = 255 },                       PROVED },
        { "256 signers before",              { .foreign_before = 256 },                       TRUST_MALFORMED },
        { "another signer only",             { .foreign = true },                             TRUST_OTHER_KEY },
        { "no sets",                         { .sets = -1, .copies = -1 },                    TRUST_MALFORMED },
        { "no sets, but one there",          { .sets = -1 },                                  TRUST_MALFORMED },
        { "more sets than there are",        { .sets = 2 },                                   TRUST_MALFORMED },
        { "no signatures",                   { .entries = -1 },                               TRUST_MALFORMED },
        { "more signatures than there are",  { .entries = 2 },                                TRUST_MALFORMED },
        { "set longer than said",            { .set_delta = -1 },                             TRUST_MALFORMED },
        { "set shorter than said",           { .set_delta = 1 },                              TRUST_MALFORMED },
        { "set shorter, with filling",       { .set_delta = 1, .trailing = 1 },               TRUST_MALFORMED },
        { "entry longer than said",          { .entry_delta = -1 },                           TRUST_MALFORMED },
        { "entry shorter than said",         { .entry_delta = 1 },                            TRUST_MALFORMED },
        { "set with a byte more",            { .set_more = 1 },                               TRUST_MALFORMED },
        { "entry with a byte more",          { .entry_more = 1 },                             TRUST_MALFORMED },
        { "a byte more",                     { .trailing = 1 },                               TRUST_MALFORMED },
        { "algorithm 2",                     { .algorithm = 2 },                              TRUST_ALGORITHM },
        { "algorithm 0x81",                  { .algorithm = 0x81 },                           TRUST_ALGORITHM },
        { "signature of 63 bytes",           { .signature_bytes = 63 },                       TRUST_MALFORMED },
        { "version 2",                       { .version = 3 },                                TRUST_NOT_ACCEPTED },
        { "content 2",                       { .content = 3 },                                TRUST_NOT_ACCEPTED },
        { "hash 2",                          { .hash = 3 },                                   TRUST_NOT_ACCEPTED },
        { "version 0x81",                    { .version = 0x80 },                             TRUST_NOT_ACCEPTED },
};

static void test_data(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(recipes); i++) {
                uint8_t hashes[32];
                BYTES body = body_make(1, true, hashes), data = data_make(&recipes[i].recipe, hashes, 1), module = module_make(data, body);
                expect_module(recipes[i].what, module, recipes[i].expected);
        }
}

/* Which lists of hashes count: the whole module alone, or all parts. */
static void test_parts(void **state)
{
        (void)state;
        static const struct { size_t parts; bool tail; size_t first, count; int expected; } rows[] = {
                { 1, true, 0, 1, PROVED }, { 1, false, 0, 1, PROVED }, { 2, false, 0, 2, PROVED }, { 2, true, 0, 2, PROVED }, { 2, true, 1, 1, PROVED }, { 2, false, 1, 1, PROVED },
                { 2, false, 0, 1, TRUST_OTHER_DIGEST }, { 2, true, 0, 1, TRUST_OTHER_DIGEST }, { 3, true, 0, 2, TRUST_OTHER_DIGEST }, { 3, true, 1, 2, TRUST_OTHER_DIGEST },
                { 3, true, 2, 1, PROVED }, { 3, false, 0, 3, PROVED }, { 64, false, 0, 64, PROVED }, { 64, true, 0, 64, PROVED }, { 64, true, 0, 63, TRUST_OTHER_DIGEST },
                { 65, true, 0, 65, TRUST_MALFORMED }, { 65, true, 0, 64, TRUST_OTHER_DIGEST }, { 65, true, 1, 64, TRUST_OTHER_DIGEST }, { 65, true, 64, 1, PROVED }, { 300, true, 299, 1, PROVED },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                uint8_t hashes[300 * 32];
                char what[80];
                snprintf(what, sizeof what, "%zu parts, %zu hashes from %zu, %s", rows[i].parts, rows[i].count, rows[i].first, rows[i].tail ? "tail" : "delimiter");
                BYTES body = body_make(rows[i].parts, rows[i].tail, hashes), data = data_make(&(struct recipe){ 0 }, hashes + 32 * rows[i].first, rows[i].count);
                BYTES module = module_make(data, body);
                expect_module(what, module, rows[i].expected);
        }
}

/* A list in another order, one with a foreign hash in the middle, one that is longer than the parts. */
static void test_lists(void **state)
{
        (void)state;
        uint8_t hashes[3 * 32], list[4 * 32];
        BYTES body = body_make(3, true, hashes);

        memcpy(list, hashes + 32, 32); memcpy(list + 32, hashes, 32); memcpy(list + 64, hashes + 64, 32);
        BYTES swapped = data_make(&(struct recipe){ 0 }, list, 3), module = module_make(swapped, body);
        expect_module("swapped", module, TRUST_OTHER_DIGEST);
        memcpy(list, hashes, 32); memset(list + 32, 1, 32);
        BYTES foreign = data_make(&(struct recipe){ 0 }, list, 3), with_foreign = module_make(foreign, body);
        expect_module("foreign in the middle", with_foreign, TRUST_OTHER_DIGEST);
        memcpy(list, hashes, 96); memcpy(list + 96, hashes + 64, 32);
        BYTES longer = data_make(&(struct recipe){ 0 }, list, 4), with_longer = module_make(longer, body);
        expect_module("last hash twice", with_longer, TRUST_TRUNCATED_MODULE);
}

/* Of sets that verify and do not fit, the nearest is told, and of two that are as near the first, in whatever order they come. */
static void test_nearest(void **state)
{
        (void)state;
        enum { PARTIAL_1, PARTIAL_2, CUT, OTHER, LISTS };
        static const struct { int first, second; enum trust_reason reason; const char *text; } rows[] = {
                { PARTIAL_1, OTHER,     TRUST_OTHER_DIGEST,     "it lists 1 of 3 parts" },
                { OTHER,     PARTIAL_1, TRUST_OTHER_DIGEST,     "it lists 1 of 3 parts" },
                { PARTIAL_1, PARTIAL_2, TRUST_OTHER_DIGEST,     "it lists 1 of 3 parts" },
                { PARTIAL_2, PARTIAL_1, TRUST_OTHER_DIGEST,     "it lists 2 of 3 parts" },
                { CUT,       PARTIAL_1, TRUST_TRUNCATED_MODULE, "it lists 4 parts and the module has 3" },
                { PARTIAL_1, CUT,       TRUST_TRUNCATED_MODULE, "it lists 4 parts and the module has 3" },
                { CUT,       OTHER,     TRUST_TRUNCATED_MODULE, "it lists 4 parts and the module has 3" },
        };
        uint8_t lists[LISTS][4 * 32] = { 0 };
        static const size_t counts[LISTS] = { [PARTIAL_1] = 1, [PARTIAL_2] = 2, [CUT] = 4, [OTHER] = 1 };
        BYTES body = body_make(3, true, lists[CUT]);

        memcpy(lists[PARTIAL_1], lists[CUT], 32);
        memcpy(lists[PARTIAL_2], lists[CUT], 64);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES data = bytes_of("\1\1\1\2", 4);
                set_add(&data, &(struct recipe){ 0 }, lists[rows[i].first], counts[rows[i].first]);
                set_add(&data, &(struct recipe){ 0 }, lists[rows[i].second], counts[rows[i].second]);
                BYTES module = module_make(data, body);
                expect_module(rows[i].text, module, (int)rows[i].reason);
                assert_non_null(strstr(last_failure.text, rows[i].text));
        }
}

static void test_sections(void **state)
{
        (void)state;
        static const struct { const char *what, *hex; int expected; } rows[] = {
                { "no bytes",                      "",                                                   TRUST_MALFORMED },
                { "header only",                   "0061736d01000000",                                   TRUST_ABSENT },
                { "cut header",                    "0061736d010000",                                     TRUST_MALFORMED },
                { "version 2",                     "0061736d02000000",                                   TRUST_MALFORMED },
                { "no section of that name",       "0061736d0100000000050473696767",                     TRUST_ABSENT },
                { "a longer name",                 "0061736d01000000000b0a7369676e617475726532",         TRUST_ABSENT },
                { "a section of id 1 of the name", "0061736d01000000010a097369676e6174757265",           TRUST_ABSENT },
                { "nothing in it",                 "0061736d01000000000a097369676e6174757265",           TRUST_NOT_ACCEPTED },
                { "not first",                     "0061736d010000000101ff000a097369676e6174757265",     TRUST_NOT_ACCEPTED },
                { "section behind the end",        "0061736d0100000001050000",                           TRUST_MALFORMED },
                { "size of 6 bytes",               "0061736d0100000001808080808000",                     TRUST_MALFORMED },
                { "size with unused bits",         "0061736d01000000018080808010",                       TRUST_MALFORMED },
                { "size 2^32-1",                   "0061736d0100000001ffffffff0f",                       TRUST_MALFORMED },
                { "size of 5 bytes",               "0061736d01000000018180808000ff",                     TRUST_ABSENT },
                { "id without size",               "0061736d0100000001",                                 TRUST_MALFORMED },
                { "custom section without name",   "0061736d010000000000",                               TRUST_MALFORMED },
                { "name behind its section",       "0061736d01000000000209730000",                       TRUST_MALFORMED },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES module = bytes_hex(rows[i].hex);
                expect_module(rows[i].what, module, rows[i].expected);
        }
        /* What lies behind the module in memory is not part of it. */
        BYTES longer = bytes_hex("0061736d010000000100");
        expect_module("its size lies behind the end", (struct bytes){ longer.data, longer.size - 1 }, TRUST_MALFORMED);
}

static void test_other_kinds_of_key(void **state)
{
        (void)state;
        struct trust_keys *ec = keys_load("keys/p256.pem"), *both = NULL, *const sets[] = { ec, signer.keys };
        struct error err;
        BYTES module = k7_signed(false), unsigned_module = bytes_hex(k7_module);

        assert_true(trust_keys_join(sets, 2, "verificationKey", &both, &err));
        struct judged judged = { .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = ec };
        expect("EC key", &judged, TRUST_ALGORITHM);
        assert_non_null(strstr(last_failure.text, "need an Ed25519 key"));
        judged.target = unsigned_module;
        expect("EC key, no signature", &judged, TRUST_ABSENT);
        judged = (struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = both };
        expect("EC key and the right one", &judged, PROVED);
        assert_true(digest_equal(&last_proof.fingerprint, trust_keys_get_fingerprint(signer.keys, 0)));
        trust_keys_unref(&ec);
        trust_keys_unref(&both);
}

static void test_policy(void **state)
{
        (void)state;
        BYTES module = k7_signed(false);
        const struct trust_annotation annotation = { "env", "prod" };
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT & ~(1u << TRUST_EMBEDDED) };
        struct judged judged = { .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = signer.keys, .options = &options };

        expect("format off", &judged, TRUST_NOT_ACCEPTED);
        assert_non_null(strstr(last_failure.text, "embedded"));
        options = (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .annotations = &annotation, .annotation_count = 1 };
        expect("annotations", &judged, TRUST_ANNOTATION);
        options = (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = signer.keys };
        expect("log", &judged, TRUST_NO_LOG_ENTRY);
        options = (struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_REPOSITORY };
        expect("identity", &judged, TRUST_IDENTITY);
}

static void test_targets(void **state)
{
        (void)state;
        BYTES module = k7_signed(false);
        for (enum trust_target_kind kind = TRUST_TARGET_MANIFEST; kind < TRUST_TARGET_MODULE; kind++)
                expect("what embeds is the module", &(struct judged){ .form = TRUST_FORM_EMBEDDED, .kind = kind, .target = module, .keys = signer.keys }, TRUST_NOT_ACCEPTED);
}

/* What cannot prove is tried last and cannot use up the budget; what does use it up is told. */
static void test_budget(void **state)
{
        (void)state;
        uint8_t hashes[32], other[32] = { 1 };
        BYTES body = body_make(1, true, hashes), data = bytes_of("\1\1\1\3", 4);
        set_add(&data, &(struct recipe){ .foreign_before = 100 }, other, 1);
        set_add(&data, &(struct recipe){ .foreign_before = 100 }, other, 1);
        set_add(&data, &(struct recipe){ .foreign_before = 1 }, hashes, 1);
        BYTES module = module_make(data, body);
        struct judged judged = { .form = TRUST_FORM_EMBEDDED, .kind = TRUST_TARGET_MODULE, .target = module, .keys = signer.keys, .verifications = 2 };

        expect("within", &judged, PROVED);
        judged.verifications = 1;
        expect("used up", &judged, TRUST_LIMIT);
        uint8_t changed = module.data[module.size - 1] ^= 1;
        judged.verifications = 256;
        expect("nearest miss within", &judged, TRUST_OTHER_DIGEST);
        module.data[module.size - 1] = changed ^ 1;
}

/* A section that is larger than all signature data may be is not walked. */
static void test_large_section(void **state)
{
        (void)state;
        struct bytes filling = { memory_new((1 << 20) + 1, 1), (1 << 20) + 1 };
        memcpy(filling.data, "\1\1\1\1", 4);
        BYTES module = module_make(filling, (struct bytes){ 0 });
        expect_module("1 MiB and a byte", module, TRUST_MALFORMED);
        assert_non_null(strstr(last_failure.text, "1 MiB"));
        filling.size--;
        BYTES whole = module_make(filling, (struct bytes){ 0 });
        expect_module("1 MiB", whole, TRUST_MALFORMED);
        assert_null(strstr(last_failure.text, "1 MiB"));
        bytes_fini(&filling);
}

/* ---- what wasmsign2-cli made, with its verdict and ours ---- */
static struct bytes fixture_load(const char *name)
{
        char path[128];
        if (strncmp(name, "gomod.", 6) != 0 || string_ends_with(name, ".sig")) {
                snprintf(path, sizeof path, "wasm/%s", name);
                return bytes_load(path);
        }
        BYTES rewritten = bytes_load_zstd("wasm/gomod.rewritten.wasm.zst"), section = bytes_load("wasm/gomod.section");
        struct bytes module = bytes_of(rewritten.data, 8);
        if (string_equal(name, "gomod.signed.wasm"))
                bytes_add(&module, section.data, section.size);
        if (!string_equal(name, "gomod.unsigned.wasm")) {
                bytes_add(&module, rewritten.data + 8, rewritten.size - 8);
                return module;
        }
        for (size_t at = 8; at < rewritten.size;) {                /* as Go wrote it: each size in five bytes */
                uint32_t size = 0;
                size_t start = at++;
                for (int shift = 0; shift == 0 || rewritten.data[at - 1] >= 0x80; shift += 7, at++)
                        size |= (uint32_t)(rewritten.data[at] & 0x7f) << shift;
                bytes_add_byte(&module, rewritten.data[start]);
                bytes_add_varuint(&module, size, 5 - (int)(at - start - 1));
                bytes_add(&module, rewritten.data + at, size);
                at += size;
        }
        return module;
}

static int verdict_of(const char *name)
{
        for (int reason = 0; reason < TRUST_REASONS; reason++)
                if (string_equal(name, trust_reason_names[reason]))
                        return reason;
        assert_string_equal(name, "proved");
        return PROVED;
}

/* The files are those that were signed, also where they are put together here. */
static void test_fixture_bytes(void **state)
{
        (void)state;
        static const struct { const char *name, *sha256; } rows[] = {
                { "gomod.signed.wasm",       "5bbc6d22ec3b896ffa6ade48960db89bc35ef7f3e8576fb1b96e6420dfb51890" },
                { "gomod.rewritten.wasm",    "5f04d232f6a2a9b8ddc62919ff3d1752f4b1a1fcb5e80248a10b81d1da0ae7c6" },
                { "gomod.unsigned.wasm",     "c43d1dbb432b34066443b7bbbdcf1798678967001c50a8d37152cac30f2501e8" },
                { "canon.split.signed.wasm", "a0b60c96a66021aef95a8653fac6298b77f2ad84beb06ebdfd1c4cdfa8f05221" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES module = fixture_load(rows[i].name);
                struct digest digest;
                char hex[DIGEST_TEXT_BYTES];
                digest_sha256(module.data, module.size, &digest);
                digest_format_hex(&digest, hex);
                assert_string_equal(hex, rows[i].sha256);
        }
}

/* VERDICTS.tsv: file, key, detached signature or -, what wasmsign2 said, what we say, why they differ. */
static void test_fixtures(void **state)
{
        (void)state;
        BYTES table = bytes_load("wasm/VERDICTS.tsv");
        bytes_add_byte(&table, '\0');
        char *rest = (char *)table.data, *line;
        int count = 0;

        for (line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n"), count++) {
                char *columns[6], key[32];
                for (size_t i = 0; i < COUNT_OF(columns); i++)
                        assert_non_null(columns[i] = strsep(&line, "\t"));
                if (count == 0)
                        continue;
                snprintf(key, sizeof key, "wasm/%s.pem", columns[1]);
                struct trust_keys *keys = keys_load(key);
                bool is_detached = !string_equal(columns[2], "-");
                BYTES module = fixture_load(columns[0]), body = is_detached ? fixture_load(columns[2]) : bytes_of("", 0);
                struct judged judged = { .form = is_detached ? TRUST_FORM_SIDECAR_SIG : TRUST_FORM_EMBEDDED, .kind = is_detached ? TRUST_TARGET_FILE : TRUST_TARGET_MODULE,
                        .target = module, .body = body, .keys = keys };
                print_message("%s %s %s\n", columns[0], columns[1], columns[2]);
                expect(columns[0], &judged, verdict_of(columns[4]));
                assert_true((string_equal(columns[3], "valid") == string_equal(columns[4], "proved")) == string_equal(columns[5], "-"));
                trust_keys_unref(&keys);
        }
        assert_in_range(count, 25, 100);
}

static int setup(void **state)
{
        (void)state;
        signer_init(&signer, 0x42);
        signer_init(&stranger, 0x43);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        trust_keys_unref(&signer.keys);
        trust_keys_unref(&stranger.keys);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_k7), cmocka_unit_test(test_k7_flipped_cut_extended), cmocka_unit_test(test_k7_flipped_key), cmocka_unit_test(test_k8_attacks),
                cmocka_unit_test(test_k8_flipped_and_cut), cmocka_unit_test(test_data), cmocka_unit_test(test_parts), cmocka_unit_test(test_lists), cmocka_unit_test(test_nearest), cmocka_unit_test(test_sections),
                cmocka_unit_test(test_other_kinds_of_key), cmocka_unit_test(test_policy), cmocka_unit_test(test_targets), cmocka_unit_test(test_budget),
                cmocka_unit_test(test_large_section), cmocka_unit_test(test_fixture_bytes), cmocka_unit_test(test_fixtures),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
