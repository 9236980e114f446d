/* Evidence of transparency logs (7): trees, notes, promises, and above all the bindings: an honest log's entry about something else proves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_log_rig.h"
#include "../../agent/trust/rekor.h"

static struct { EVP_PKEY *pkey, *other_pkey; struct trust_keys *keys; struct trust_target target; struct rig_log log, edlog, v2, foreign; } rig;

static int setup(void **state)
{
        (void)state;
        rig.pkey = rig_key("P-256");
        rig.other_pkey = rig_key("P-256");
        rig.keys = rig_public(rig.pkey);
        rig.target = rig_manifest("{\"schemaVersion\":2}");
        rig.log = rig_log_new("P-256", "rekor.example - 1193050959916656506", "rekor.example", false);
        rig.edlog = rig_log_new("ED25519", "rekor.example", "rekor.example", false);
        rig.v2 = rig_log_new("ED25519", "log2025-1.rekor.example", "log2025-1.rekor.example", true);
        rig.foreign = rig_log_new("P-256", "rekor.example - 1193050959916656506", "rekor.example", false);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        EVP_PKEY_free(rig.pkey);
        EVP_PKEY_free(rig.other_pkey);
        trust_keys_unref(&rig.keys);
        rig_log_fini(&rig.log);
        rig_log_fini(&rig.edlog);
        rig_log_fini(&rig.v2);
        rig_log_fini(&rig.foreign);
        return 0;
}

/* ---- trees ---- */

static struct inclusion inclusion_of(size_t size, size_t index, struct rig_hash *path, struct span leaf)
{
        struct inclusion proof = { .index = index, .size = size, .hashes = (const uint8_t(*)[LOG_HASH_BYTES])path, .hash_count = rig_path(0, size, index, leaf, path) };
        struct rig_hash root = rig_tree(0, size, index, leaf);
        memcpy(proof.root, root.bytes, RIG_HASH);
        return proof;
}

static void expect_inclusion(const struct inclusion *proof, struct span leaf, bool is_good, const char *says)
{
        struct error err = { 0 };
        bool good = inclusion_check(proof, leaf, &err);
        if (good != is_good || (!good && !strstr(err.text, says)))
                fail_msg("index %zu of %zu: %s", (size_t)proof->index, (size_t)proof->size, good ? "taken" : err.text);
}

static void test_inclusion(void **state)
{
        (void)state;
        const struct span leaf = SPAN("leaf", 4), other = SPAN("leag", 4);
        static const size_t sizes[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 65 };
        for (size_t k = 0; k < COUNT_OF(sizes); k++)
                for (size_t index = 0; index < sizes[k]; index++) {
                        struct rig_hash path[64] = { 0 };
                        struct inclusion good = inclusion_of(sizes[k], index, path, leaf), bad = good;
                        expect_inclusion(&good, leaf, true, "");
                        expect_inclusion(&good, other, false, "another root");
                        bad.root[31] ^= 1;
                        expect_inclusion(&bad, leaf, false, "another root");
                        bad = good;
                        bad.hash_count++;
                        expect_inclusion(&bad, leaf, false, "the path has");
                        bad.hash_count = good.hash_count - 1;
                        expect_inclusion(&bad, leaf, false, "the path has");
                        bad = good;
                        bad.index = sizes[k];
                        expect_inclusion(&bad, leaf, false, "is not in a tree");
                        bad.index = index ^ 1;
                        if (bad.index < sizes[k])
                                expect_inclusion(&bad, leaf, false, "");
                        for (size_t i = 0; i < good.hash_count; i++) {
                                path[i].bytes[0] ^= 0x80;
                                expect_inclusion(&good, leaf, false, "another root");
                                path[i].bytes[0] ^= 0x80;
                        }
                }
        struct inclusion empty = { 0 }, huge = { .index = 1, .size = UINT64_MAX }, wide = { .index = INT64_MAX - 1, .size = INT64_MAX };
        expect_inclusion(&empty, leaf, false, "is not in a tree of 0");
        expect_inclusion(&huge, leaf, false, "is not in a tree");
        expect_inclusion(&wide, leaf, false, "the path has");
}

/* ---- notes ---- */

#define ROOT "rnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGlI="
#define AAA "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define NOTE "rekor.example - 1\n12\n" ROOT "\n\n\xe2\x80\x94 rekor.example wNI9ajBFAiB=\n"
static const struct { const char *text; const char *says; } notes[] = {
        { NOTE, NULL }, { "o\n0\n" ROOT "\n\n\xe2\x80\x94 n AAAAAAAAAA==\n", NULL }, { "o\n1\n" ROOT "\nmore\nand more\n\n\xe2\x80\x94 n AAAAAAAAAA==\n", NULL }, { "o\n1\n" ROOT "\n\n\xe2\x80\x94 n", "no signed note" }, { "", "no signed note" },
        { "\n\n", "no signed note" }, { "\n\nx\n", "no signed note" }, { "\n\n\n", "no signed note" }, { "o\n1\n" ROOT "\n", "no signed note" }, { "o\n1\n" ROOT "\n\n", "no signed note" }, { "o\r\n1\n" ROOT "\n\nx\n", "no signed note" }, { "o\t\n1\n" ROOT "\n\nx\n", "no signed note" },
        { "o\x7f\n1\n" ROOT "\n\nx\n", "no signed note" }, { "\no\n1\n" ROOT "\n\nx\n", "three lines" }, { "o\n\n1\n" ROOT "\n\nx\n", "three lines" }, { "o\n1\n\nx\n", "three lines" }, { "o\n\nx\n", "three lines" }, { "o\n01\n" ROOT "\n\nx\n", "its size" },
        { "o\n-1\n" ROOT "\n\nx\n", "its size" }, { "o\n1 \n" ROOT "\n\nx\n", "its size" }, { "o\n9999999999999999999\n" ROOT "\n\nx\n", "its size" }, { "o\n1\n" ROOT "A\n\nx\n", "root" }, { "o\n1\nrnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGg==\n\nx\n", "root" }, { "o\n1\nrnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGlIA\n\nx\n", "root" },
        { "o\n1\nrnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS+AGlJ=\n\nx\n", "root" }, { "o\n1\nrnpacIXSjoToEDh0qD4CLAKdkPnW1Y4R1DhFMS-AGlI=\n\nx\n", "root" },
        { "o\n1:\n" ROOT "\n\nx\n", "its size" }, { "o\n1\n" AAA AAA AAA AAA AAA "\n\nx\n", "root" },           /* far more than there is room for */
};

static void test_notes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(notes); i++) {
                struct checkpoint checkpoint = { 0 };
                struct error err = { 0 };
                bool good = checkpoint_parse(notes[i].text, &checkpoint, &err);
                if (good != !notes[i].says || (!good && !strstr(err.text, notes[i].says)))
                        fail_msg("%s: %s", notes[i].text, good ? "taken" : err.text);
        }
        struct checkpoint checkpoint;
        struct error err;
        static const char note[] = NOTE;
        assert_true(checkpoint_parse(note, &checkpoint, &err));
        assert_int_equal(checkpoint.size, 12);
        assert_int_equal(checkpoint.text.size_bytes, strstr(note, "\n\n") + 1 - note);
        assert_true(checkpoint.origin_bytes == 17 && checkpoint.root[0] == 0xae && checkpoint.root[31] == 0x52);
        CLEANUP(cleanup_free) char *long_note = memory_new(CHECKPOINT_BYTES_MAX + 2, 1);
        memset(long_note, 'x', CHECKPOINT_BYTES_MAX + 1);
        assert_false(checkpoint_parse(long_note, &checkpoint, &err));
        assert_non_null(strstr(err.text, "more than"));
}

static void test_note_lines(void **state)
{
        (void)state;
        static const struct { const char *line; bool is_good; } lines[] = {
                { "\xe2\x80\x94 rekor.example wNI9ajBFAiB=\n", true }, { "\xe2\x80\x94 rekor.example wNI9ajBF\n", false }, { "\xe2\x80\x94  wNI9ajBFAiB=\n", false }, { "\xe2\x80\x94 wNI9ajBFAiB=\n", false }, { "- n wNI9ajBFAiB=\n", false },
                { "\xe2\x80\x94n wNI9ajBFAiB=\n", false }, { "\xe2\x80\x94 n wNI9*jBFAiB=\n", false }, { "\xe2\x80\x94 \n", false }, { "x\n", false }, { "\xe2\x80\x94 n wN==wN==AAA=\n", false },
        };
        for (size_t i = 0; i < COUNT_OF(lines); i++) {
                CLEANUP(cleanup_free) char *note = string_format("o\n1\n" ROOT "\n\n%s", lines[i].line);
                struct checkpoint checkpoint;
                struct checkpoint_line line;
                struct error err;
                bool bad = true;
                assert_true(checkpoint_parse(note, &checkpoint, &err));
                const char *at = checkpoint.lines;
                bool good = checkpoint_line_next(&checkpoint, &at, &line, &bad);
                if (good != lines[i].is_good || bad == good)
                        fail_msg("%s", lines[i].line);
                assert_true(!good || (line.name_bytes == 13 && memcmp(line.key_id, "\xc0\xd2\x3d\x6a", 4) == 0));
                assert_true(!good || (!checkpoint_line_next(&checkpoint, &at, &line, &bad) && !bad));
        }
}

/* ---- what is logged ---- */

/* A signed bundle and payload, and the texts that bodies are made of. */
struct signed_texts { char *payload, *encoded, *pae, *signature, *signature_twice, *pem, *spki, *payload_hash, *payload_hash64, *pae_hash, *pae_hash64; };

static char *hash_text(const char *text, bool is_hex)
{
        struct digest digest;
        digest_sha256(text, strlen(text), &digest);
        if (!is_hex)
                return base64_encode(digest.bytes, RIG_HASH);
        char *hex = memory_new(2 * RIG_HASH + 1, 1);
        hex_format(digest.bytes, RIG_HASH, hex);
        return hex;
}

static struct signed_texts texts_make(EVP_PKEY *pkey, const char *template, bool is_dsse)
{
        struct signed_texts texts = { .payload = rig_statement(template, &rig.target) };
        CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
        unsigned char *der = NULL;
        int size = i2d_PUBKEY(pkey, &der);
        texts.encoded = base64_encode(texts.payload, strlen(texts.payload));
        texts.pae = is_dsse ? rig_pae("application/vnd.in-toto+json", texts.payload) : string_copy(texts.payload);
        texts.signature = rig_sign_base64(pkey, "SHA256", SPAN(texts.pae, strlen(texts.pae)));
        texts.signature_twice = base64_encode(texts.signature, strlen(texts.signature));
        texts.pem = base64_encode(pem, strlen(pem));
        texts.spki = base64_encode(der, (size_t)size);
        texts.payload_hash = hash_text(texts.payload, true);
        texts.payload_hash64 = hash_text(texts.payload, false);
        texts.pae_hash = hash_text(texts.pae, true);
        texts.pae_hash64 = hash_text(texts.pae, false);
        OPENSSL_free(der);
        return texts;
}

static void texts_fini(struct signed_texts *texts)
{
        char *const all[] = { texts->payload, texts->encoded, texts->pae, texts->signature, texts->signature_twice, texts->pem, texts->spki, texts->payload_hash, texts->payload_hash64, texts->pae_hash, texts->pae_hash64 };
        for (size_t i = 0; i < COUNT_OF(all); i++)
                free(all[i]);
}

#define HASHED "{\"apiVersion\":\"0.0.1\",\"kind\":\"hashedrekord\",\"spec\":{\"data\":{\"hash\":{\"algorithm\":\"sha256\",\"value\":\"$A\"}},\"signature\":{\"content\":\"$S\",\"publicKey\":{\"content\":\"$K\"}}}}"
#define DSSE "{\"apiVersion\":\"0.0.1\",\"kind\":\"dsse\",\"spec\":{\"envelopeHash\":{\"algorithm\":\"sha256\",\"value\":\"00\"},\"payloadHash\":{\"algorithm\":\"sha256\",\"value\":\"$C\"}," \
             "\"signatures\":[{\"signature\":\"$S\",\"verifier\":\"$K\"}]}}"
#define INTOTO "{\"apiVersion\":\"0.0.2\",\"kind\":\"intoto\",\"spec\":{\"content\":{\"envelope\":{\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"publicKey\":\"$K\",\"sig\":\"$T\"}]}," \
               "\"hash\":{\"algorithm\":\"sha256\",\"value\":\"00\"},\"payloadHash\":{\"algorithm\":\"sha256\",\"value\":\"$C\"}}}}"
#define HASHED2 "{\"apiVersion\":\"0.0.2\",\"kind\":\"hashedrekord\",\"spec\":{\"hashedRekordV002\":{\"data\":{\"algorithm\":\"SHA2_256\",\"digest\":\"$a\"}," \
                "\"signature\":{\"content\":\"$S\",\"verifier\":{\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"publicKey\":{\"rawBytes\":\"$R\"}}}}}}"
#define DSSE2 "{\"apiVersion\":\"0.0.2\",\"kind\":\"dsse\",\"spec\":{\"dsseV002\":{\"payloadHash\":{\"algorithm\":\"SHA2_256\",\"digest\":\"$c\"}," \
              "\"signatures\":[{\"content\":\"$S\",\"verifier\":{\"keyDetails\":\"PKIX_ECDSA_P256_SHA_256\",\"publicKey\":{\"rawBytes\":\"$R\"}}}]}}}"

static char *body_make(const char *template, const struct signed_texts *texts)
{
        return rig_fill(template, (const char *const[]){ "$A", texts->pae_hash, "$a", texts->pae_hash64, "$C", texts->payload_hash, "$c", texts->payload_hash64, "$S", texts->signature, "$T", texts->signature_twice, "$K", texts->pem,
                                                         "$R", texts->spki, NULL });
}

static char *bundle_make(const struct signed_texts *texts, const char *entries)
{
        CLEANUP(cleanup_free) char *with = rig_swap(RIG_BUNDLE, "\"publicKey\":", "\"tlogEntries\":[$E],\"publicKey\":");
        return rig_fill(with, (const char *const[]){ "$P", texts->encoded, "$S", texts->signature, "$E", entries, NULL });
}

static void expect_entries(const struct signed_texts *texts, const char *entries, const struct trust_keys *logs, enum trust_reason reason, const char *says)
{
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = logs };
        CLEANUP(cleanup_free) char *bundle = bundle_make(texts, entries);
        struct trust_evidence evidence = rig_bundle_evidence(bundle);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, &options, &rig.target, &evidence);
        rig_expect(&verdict, reason, says, entries);
}

static const struct { const char *body, *kind, *version; bool is_v2; } bodies[] = {
        { HASHED, "hashedrekord", "0.0.1", false }, { DSSE, "dsse", "0.0.1", false }, { INTOTO, "intoto", "0.0.2", false }, { HASHED2, "hashedrekord", "0.0.2", true }, { DSSE2, "dsse", "0.0.2", true },
};

/* Every kind, in a log of its version and in the other, with promise, proof, both. Without rekor_keys nothing of it is looked at. */
static void test_kinds(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        const struct rig_log *logs[] = { &rig.log, &rig.edlog, &rig.v2 };
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
                CLEANUP(cleanup_free) char *body = body_make(bodies[i].body, &texts);
                for (size_t k = 0; k < COUNT_OF(logs); k++) {
                        struct rig_entry entry = { .body = body, .kind = bodies[i].kind, .version = bodies[i].version, .time = logs[k]->is_v2 ? 0 : 1766077479 };
                        CLEANUP(cleanup_free) char *both = rig_entry(logs[k], &entry);
                        expect_entries(&texts, both, logs[k]->keys, RIG_GOOD, "");
                        expect_entries(&texts, both, rig.foreign.keys, TRUST_NO_LOG_ENTRY, "is not one of the configured");
                        expect_entries(&texts, "{}", NULL, RIG_GOOD, "");
                        entry.promise = "";
                        CLEANUP(cleanup_free) char *proof_only = rig_entry(logs[k], &entry);
                        expect_entries(&texts, proof_only, logs[k]->keys, RIG_GOOD, "");
                        entry.proof = "";
                        CLEANUP(cleanup_free) char *nothing = rig_entry(logs[k], &entry);
                        expect_entries(&texts, nothing, logs[k]->keys, TRUST_NO_LOG_ENTRY, "neither");
                        entry.promise = NULL;
                        CLEANUP(cleanup_free) char *promise_only = rig_entry(logs[k], &entry);
                        expect_entries(&texts, promise_only, logs[k]->keys, logs[k]->is_v2 ? TRUST_NO_LOG_ENTRY : RIG_GOOD, "neither");
                }
        }
}

/* The entry is honest and its log is ours, but it is about something else (CVE-2022-23649, CVE-2022-36056, CVE-2026-22703), or its body is none that we know. */
static void test_bindings(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true), again = texts_make(rig.pkey, RIG_STATEMENT, true), foreign = texts_make(rig.other_pkey, RIG_STATEMENT, true);
        CLEANUP(texts_fini) struct signed_texts other = texts_make(rig.pkey, RIG_STATEMENT " ", true);
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
                struct signed_texts mixed_key = texts, mixed_content = texts;
                mixed_key.pem = foreign.pem;
                mixed_key.spki = foreign.spki;
                mixed_content.payload_hash = other.payload_hash;
                mixed_content.payload_hash64 = other.payload_hash64;
                mixed_content.pae_hash = other.pae_hash;
                mixed_content.pae_hash64 = other.pae_hash64;
                const struct { const struct signed_texts *texts; const char *says; } rows[] = {
                        { &again, "another signature" }, { &foreign, "another signature" }, { &other, "another signature" }, { &mixed_key, "another key" }, { &mixed_content, "another content" },
                };
                for (size_t k = 0; k < COUNT_OF(rows); k++) {
                        CLEANUP(cleanup_free) char *body = body_make(bodies[i].body, rows[k].texts);
                        CLEANUP(cleanup_free) char *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = bodies[i].kind, .version = bodies[i].version, .time = 5 });
                        expect_entries(&texts, entry, rig.log.keys, TRUST_NO_LOG_ENTRY, rows[k].says);
                }
        }
}

static const struct { size_t body; const char *from, *to, *says; } broken_bodies[] = {
        { 0, "{\"api", "[{\"api", "body: JSON" }, { 0, HASHED, "[]", "\"body\" is missing or no object" }, { 0, "\"apiVersion\":\"0.0.1\",", "", "apiVersion" }, { 0, "\"kind\":\"hashedrekord\"", "\"kind\":\"rpm\"", "kind" }, { 0, "\"kind\":\"hashedrekord\",", "", "kind" }, { 0, "0.0.1", "0.0.9", "kind" }, { 0, "\"spec\"", "\"x\":1,\"spec\"", "unknown member \"x\"" },
        { 0, "\"spec\":", "\"spec\":{},\"spec\":", "twice" }, { 0, "\"data\"", "\"url\":\"x\",\"data\"", "unknown member \"url\"" }, { 0, "{\"hash\"", "{\"content\":\"\",\"hash\"", "content" }, { 0, "\"algorithm\":\"sha256\"", "\"algorithm\":\"sha1\"", "no known algorithm" },
        { 0, "\"algorithm\":\"sha256\"", "\"algorithm\":\"SHA2_256\"", "no known algorithm" }, { 0, "\"algorithm\":\"sha256\"", "\"algorithm\":\"sha512\"", "another content" }, { 0, "\"value\":\"$A\"", "\"value\":\"$a\"", "another content" },
        { 0, ",\"value\":\"$A\"", "", "another content" }, { 0, "\"content\":\"$S\",", "", "\"content\" is no base64" }, { 0, "\"content\":\"$S\"", "\"content\":\"$S!\"", "no base64" }, { 0, "\"content\":\"$K\"", "\"content\":\"$R\"", "body" },
        { 0, "\"content\":\"$K\"", "\"content\":\"$K!\"", "body: \"content\" is no base64" }, { 0, "\"content\":\"$K\"", "\"content\":7", "body: \"content\" is no base64" }, { 0, "\"publicKey\":{\"content\":\"$K\"}", "\"publicKey\":{}", "body: \"content\" is no base64" },
        { 1, "\"verifier\":\"$K\"", "\"verifier\":\"$K!\"", "body: \"verifier\" is no base64" }, { 2, "\"publicKey\":\"$K\"", "\"publicKey\":\"$K!\"", "body: \"publicKey\" is no base64" },
        { 3, "\"rawBytes\":\"$R\"", "\"rawBytes\":\"$R!\"", "body: \"rawBytes\" is no base64" }, { 4, "\"rawBytes\":\"$R\"", "\"rawBytes\":[]", "body: \"rawBytes\" is no base64" },
        { 0, "\"publicKey\":{\"content\":\"$K\"}", "\"publicKey\":\"$K\"", "publicKey" }, { 0, "\"signature\":{", "\"signature\":[],\"s\":{", "unknown member \"s\"" }, { 0, ",\"signature\":{\"content\":\"$S\",\"publicKey\":{\"content\":\"$K\"}}", "", "\"signature\" is missing" },
        { 1, "[{\"signature\":\"$S\",\"verifier\":\"$K\"}]", "[]", "exactly one" }, { 1, "[{\"signature\":\"$S\",\"verifier\":\"$K\"}]", "[{\"signature\":\"$S\",\"verifier\":\"$K\"},{\"signature\":\"$S\",\"verifier\":\"$K\"}]", "exactly one" },
        { 1, "\"signatures\":[", "\"signatures\":[[],", "exactly one" }, { 1, "[{\"signature\":\"$S\",\"verifier\":\"$K\"}]", "{\"a\":{\"signature\":\"$S\",\"verifier\":\"$K\"}}", "exactly one" }, { 1, "\"envelopeHash\":{\"algorithm\":\"sha256\",\"value\":\"00\"},", "", NULL }, { 1, "\"verifier\":\"$K\"", "\"verifier\":\"$K\",\"x\":1", "unknown member" }, { 1, "\"payloadHash\":{", "\"payloadHash\":[],\"p\":{", "unknown member" },
        { 2, "vnd.in-toto+json", "json", "payloadType" }, { 2, "\"sig\":\"$T\"", "\"sig\":\"$S\"", "base64 of base64" }, { 2, "\"sig\":\"$T\"", "\"keyid\":\"\",\"sig\":\"$T\"", NULL }, { 2, "\"payloadType\"", "\"payload\":\"\",\"payloadType\"", "unknown member \"payload\"" },
        { 2, "\"envelope\":{", "\"e\":{},\"envelope\":{", "unknown member \"e\"" }, { 2, "{\"content\"", "{\"publicKey\":\"\",\"content\"", "unknown member" }, { 3, "SHA2_256", "sha256", "no known algorithm" }, { 3, "$a", "$A", "another content" },
        { 3, "\"publicKey\":{\"rawBytes\"", "\"x509Certificate\":{\"rawBytes\"", "unknown member \"x509Certificate\"" }, { 3, "\"rawBytes\":\"$R\"", "\"rawBytes\":\"$K\"", "body" }, { 3, "hashedRekordV002", "hashedRekordV001", "unknown member" },
        { 3, "\"verifier\":{", "\"verifier\":7,\"v\":{", "unknown member" }, { 4, "dsseV002", "dsseV001", "unknown member" }, { 4, "\"payloadHash\":", "\"payloadhash\":", "unknown member" }, { 4, "\"signatures\":[", "\"signatures\":[1,", "exactly one" },
};

static void test_bodies(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        for (size_t i = 0; i < COUNT_OF(broken_bodies); i++) {
                size_t which = broken_bodies[i].body;
                CLEANUP(cleanup_free) char *template = rig_swap(bodies[which].body, broken_bodies[i].from, broken_bodies[i].to), *body = body_make(template, &texts);
                CLEANUP(cleanup_free) char *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = bodies[which].kind, .version = bodies[which].version, .time = 5 });
                expect_entries(&texts, entry, rig.log.keys, broken_bodies[i].says ? TRUST_NO_LOG_ENTRY : RIG_GOOD, broken_bodies[i].says ? broken_bodies[i].says : "");
        }
        CLEANUP(cleanup_free) char *body = body_make(HASHED, &texts), *otherwise = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 });
        CLEANUP(cleanup_free) char *other_version = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "hashedrekord", .version = "0.0.2", .time = 5 });
        expect_entries(&texts, otherwise, rig.log.keys, TRUST_NO_LOG_ENTRY, "not what the entry says");
        expect_entries(&texts, other_version, rig.log.keys, TRUST_NO_LOG_ENTRY, "not what the entry says");
}

static void expect_body(size_t which, const struct signed_texts *texts, const char *template, const char *says)
{
        CLEANUP(cleanup_free) char *body = body_make(template, texts);
        CLEANUP(cleanup_free) char *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = bodies[which].kind, .version = bodies[which].version, .time = 5 });
        expect_entries(texts, entry, rig.log.keys, TRUST_NO_LOG_ENTRY, says);
}

/* Length of the object at `text`; no string of ours has a bracket. */
static size_t object_length(const char *text)
{
        size_t depth = 0, length = 0;
        do {
                depth += text[length] == '{';
                depth -= text[length] == '}';
        } while (text[length++] && depth > 0);
        return length;
}

/* At every place of every kind: an object that is none, and a member more than there may be. */
static void test_body_objects(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        for (size_t i = 0; i < COUNT_OF(bodies); i++)
                for (const char *at = bodies[i].body; (at = strchr(at, '{')); at++) {
                        int before = (int)(at - bodies[i].body);
                        CLEANUP(cleanup_free) char *more = string_format("%.*s{\"zz\":1,%s", before, bodies[i].body, at + 1), *none = string_format("%.*s[]%s", before, bodies[i].body, at + object_length(at));
                        bool is_hash_of_text = (before >= 15 && strncmp(at - 15, "\"envelopeHash\":", 15) == 0) || (before >= 7 && strncmp(at - 7, "\"hash\":", 7) == 0);
                        if (is_hash_of_text && i > 0 && i < 3)
                                continue;                          /* of an envelope's text, which is not looked at */
                        expect_body(i, &texts, more, "unknown member \"zz\"");
                        expect_body(i, &texts, none, "is missing or no object");
                }
}

/* Our own signature and key with something behind them are others, and so is a signature of the same length with one bit changed. */
static void test_longer(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        struct rig_bytes signature = rig_base64(texts.signature);
        signature.data[signature.size - 1] ^= 1;
        CLEANUP(cleanup_free) char *changed = base64_encode(signature.data, signature.size), *changed_twice = base64_encode(changed, strlen(changed));
        signature.data[signature.size - 1] ^= 1;
        signature.data[signature.size++] = 0;
        CLEANUP(cleanup_free) char *longer = base64_encode(signature.data, signature.size), *longer_twice = base64_encode(longer, strlen(longer));
        CLEANUP(cleanup_free) char *one = rig_pem(rig.pkey), *two = rig_pem(rig.other_pkey), *both = string_format("%s%s", one, two), *pem = base64_encode(both, strlen(both));
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
                CLEANUP(cleanup_free) char *template = rig_fill(bodies[i].body, (const char *const[]){ "$S", longer, "$T", longer_twice, NULL }), *two_keys = rig_fill(bodies[i].body, (const char *const[]){ "$K", pem, NULL });
                CLEANUP(cleanup_free) char *one_bit = rig_fill(bodies[i].body, (const char *const[]){ "$S", changed, "$T", changed_twice, NULL });
                expect_body(i, &texts, template, "another signature");
                expect_body(i, &texts, one_bit, "another signature");
                if (!bodies[i].is_v2)
                        expect_body(i, &texts, two_keys, "another key");
        }
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts), *good = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 });
        struct buffer hashes = { 0 };
        buffer_append_text(&hashes, "\"hashes\":[");
        for (int i = 0; i < 65; i++)
                buffer_printf(&hashes, "\"%043d=\"%s", 0, i < 64 ? "," : "],\"h\":[");
        CLEANUP(cleanup_free) char *many = rig_swap(good, "\"hashes\":[", hashes.data);
        expect_entries(&texts, many, rig.log.keys, TRUST_NO_LOG_ENTRY, "at most 64 are read");
        buffer_fini(&hashes);
}

/* What is replaced in a good entry of the version 1 log (its texts are not signed as such, so each must be caught by its own check). */
static const struct { const char *from, *to, *says; } broken_entries[] = {
        { "\"logIndex\":\"77\"", "\"logIndex\":77", NULL }, { "\"integratedTime\":5", "\"integratedTime\":\"5\"", NULL }, { "\"kindVersion\":{", "\"x\":{\"y\":[]},\"kindVersion\":{", NULL }, { "\"kindVersion\":{\"kind\":\"dsse\",\"version\":\"0.0.1\"},", "", NULL },
        { "\"logIndex\":\"77\"", "\"logIndex\":\"78\"", "signed entry timestamp" }, { "\"integratedTime\":5", "\"integratedTime\":6", "signed entry timestamp" }, { "\"integratedTime\":5", "\"integratedTime\":null", "signed entry timestamp" },
        { "\"integratedTime\":5", "\"integratedTime\":-5", "negative" }, { "\"integratedTime\":5", "\"integratedTime\":\"-5\"", "no number" }, { "\"integratedTime\":5", "\"integratedTime\":\"\"", "no number" }, { "\"integratedTime\":5", "\"integratedTime\":5.0", "integratedTime" },
        { "\"integratedTime\":5", "\"integratedTime\":\"5 \"", "no number" }, { "\"logIndex\":\"77\"", "\"logIndex\":\"9223372036854775808\"", "no number" }, { "\"logIndex\":\"77\"", "\"logIndex\":[]", "logIndex" }, { "\"logIndex\":\"77\",", "", "signed entry timestamp" },
        { "\"logId\":{", "\"logid\":{", "keyId" }, { "\"keyId\":\"", "\"keyId\":\"AAAA", "keyId" }, { "\"keyId\":\"", "\"keyId\":\"AA==\",\"k\":\"", "keyId" }, { "\"kind\":\"dsse\"", "\"kind\":7", "\"kind\" must be of type" }, { "\"version\":\"0.0.1\"", "\"version\":7", "\"version\" must be of type" }, { "\"kindVersion\":{", "\"kindVersion\":[],\"k\":{", "\"kindVersion\" must be of type" },
        { "\"logId\":{", "\"logId\":[],\"l\":{", "\"logId\" must be of type" }, { "\"logIndex\":5,", "\"logIndex\":[],", "\"logIndex\" must be of type" }, { "\"treeSize\":11", "\"treeSize\":[]", "\"treeSize\" must be of type" },
        { "\"envelope\":", "\"envelope\":7,\"e\":", "\"envelope\" must be of type" }, { "\\n\"}}", "!\\n\"}}", "checkpoint signature is no base64" }, { "\"inclusionPromise\":{", "\"inclusionPromise\":[],\"i\":{", "inclusionPromise" },
        { "\"signedEntryTimestamp\":\"", "\"signedEntryTimestamp\":\"!", "signedEntryTimestamp" }, { "\"signedEntryTimestamp\"", "\"s\"", "signedEntryTimestamp" }, { "\"inclusionPromise\":{", "\"inclusionPromise\":{\"signedEntryTimestamp\":\"AA==\"},\"i\":{", "signed entry timestamp is not" },
        { "\"canonicalizedBody\":\"", "\"canonicalizedBody\":\"!", "canonicalizedBody" }, { "\"canonicalizedBody\"", "\"body\"", "canonicalizedBody" }, { "\"inclusionProof\":{", "\"inclusionProof\":[],\"i\":{", "inclusionProof" }, { "\"logIndex\":5,", "\"logIndex\":4,", "inclusion proof" },
        { "\"treeSize\":11", "\"treeSize\":12", "not the checkpoint's" }, { "\"treeSize\":11", "\"treeSize\":\"11\"", NULL }, { "\"treeSize\":11,", "", "not the checkpoint's" }, { "\"rootHash\":\"", "\"rootHash\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",\"r\":\"", "not the checkpoint's" },
        { "\"rootHash\":\"", "\"rootHash\":\"AA\",\"r\":\"", "rootHash" }, { "\"hashes\":[", "\"hashes\":[\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\",", "the path has" }, { "\"hashes\":[", "\"hashes\":[],\"h\":[", "has 0 hashes" }, { "\"hashes\":[", "\"hashes\":[7,", "\"hashes\" is no hash" },
        { "\"hashes\":[", "\"hashes\":{},\"h\":[", "\"hashes\" must be of type" }, { "\"checkpoint\":{", "\"checkpoint\":{},\"c\":{", "no checkpoint" }, { "\"checkpoint\":{", "\"checkpoint\":null,\"c\":{", "no checkpoint" }, { "\"checkpoint\":{", "\"checkpoint\":[],\"c\":{", "\"checkpoint\" must be of type" },
        { "rekor.example - 1193050959916656506\\n11", "rekor.example - 1193050959916656506\\n12", "not the checkpoint's" }, { "rekor.example - 1193050959916656506\\n", "rekor.example - 1193050959916656507\\n", "checkpoint is not signed" },
        { "\xe2\x80\x94 rekor.example ", "\xe2\x80\x94 other.example ", "no signature of the log" }, { "\xe2\x80\x94 rekor.example ", "\xe2\x80\x94 rekor.exampl ", "no signature of the log" }, { "\xe2\x80\x94 rekor.example ", "- rekor.example ", "no signed note" },
        { "\xe2\x80\x94 rekor.example ", "\xe2\x80\x94 rekor.example - 1193050959916656506 ", "no signed note" }, { "\xe2\x80\x94 rekor.example ", "\xe2\x80\x94 rekor.example-and-a-name-that-is-longer-than-the-origin ", "no signature of the log" },
};

static void test_entries(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts), *good = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 });
        expect_entries(&texts, good, rig.log.keys, RIG_GOOD, "");
        for (size_t i = 0; i < COUNT_OF(broken_entries); i++) {
                CLEANUP(cleanup_free) char *entry = rig_swap(good, broken_entries[i].from, broken_entries[i].to);
                expect_entries(&texts, entry, rig.log.keys, broken_entries[i].says ? TRUST_NO_LOG_ENTRY : RIG_GOOD, broken_entries[i].says ? broken_entries[i].says : "");
        }
        expect_entries(&texts, "", rig.log.keys, TRUST_NO_LOG_ENTRY, "one is required");
        expect_entries(&texts, "7", rig.log.keys, TRUST_NO_LOG_ENTRY, "is no object");
}

/* A tree of one leaf: zeros and empty lists are left out by proto-JSON. */
static void test_first_entry(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(HASHED2, &texts), *entry = rig_entry(&rig.v2, &(struct rig_entry){ .body = body, .kind = "hashedrekord", .version = "0.0.2", .size = 1 });
        CLEANUP(cleanup_free) char *no_index = rig_swap(entry, "\"logIndex\":0,", ""), *no_hashes = rig_swap(no_index, ",\"hashes\":[]", ""), *no_time = rig_swap(no_hashes, "\"integratedTime\":0,", "");
        expect_entries(&texts, entry, rig.v2.keys, RIG_GOOD, "");
        expect_entries(&texts, no_time, rig.v2.keys, RIG_GOOD, "");
}

/* Other lines are not looked at (witnesses, whatever they sign with), a wrong one of this log is. */
static void test_witnesses(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts), *of_other_text = rig_note_line(&rig.log, rig.log.name, "something else\n"), *foreign = rig_note_line(&rig.foreign, rig.log.name, "something else\n");
        CLEANUP(cleanup_free) char *huge = memory_new(8192, 1), *large = NULL, *many = memory_new(65536, 1), *same_id = rig_swap(of_other_text, "rekor.example", "witness.example");
        memset(huge, 'A', 8000);
        large = string_format("\xe2\x80\x94 witness.example/post-quantum %s\n", huge);
        for (int i = 0; i < 64; i++)
                strcat(many, "\xe2\x80\x94 w AAAAAAAAAA==\n");
        const struct { const char *witness; enum trust_reason reason; const char *says; } rows[] = {
                { large, RIG_GOOD, "" }, { foreign, RIG_GOOD, "" }, { same_id, RIG_GOOD, "" }, { of_other_text, TRUST_NO_LOG_ENTRY, "checkpoint is not signed" }, { "x\n", TRUST_NO_LOG_ENTRY, "no signed note" },
                { many, TRUST_NO_LOG_ENTRY, "more than 64 signatures" }, { many + strlen("\xe2\x80\x94 w AAAAAAAAAA==\n"), RIG_GOOD, "" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5, .witness = rows[i].witness });
                expect_entries(&texts, entry, rig.log.keys, rows[i].reason, rows[i].says);
        }
}

/* Several logs: one good entry of one of them; the sentence is about a log that is configured; each log speaks for itself only. */
static void test_several(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts);
        struct rig_entry wanted = { .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 };
        struct rig_log impostor = rig.log;
        impostor.pkey = rig.edlog.pkey;                            /* signs with its own key under the other log's id */
        CLEANUP(cleanup_free) char *good = rig_entry(&rig.log, &wanted), *unknown = rig_entry(&rig.foreign, &wanted), *false_id = rig_entry(&impostor, &wanted), *bad = rig_swap(good, "\"logIndex\":\"77\"", "\"logIndex\":\"1\"");
        CLEANUP(cleanup_free) char *mixed = string_format("%s,{},%s,%s", unknown, bad, good), *none = string_format("%s,%s,7", unknown, bad);
        CLEANUP(trust_keys_unref) struct trust_keys *both = NULL;
        struct error err;
        assert_true(trust_keys_join((struct trust_keys *const[]){ rig.edlog.keys, rig.log.keys }, 2, "rekor_keys", &both, &err));
        expect_entries(&texts, good, both, RIG_GOOD, "");
        expect_entries(&texts, mixed, both, RIG_GOOD, "");
        expect_entries(&texts, none, both, TRUST_NO_LOG_ENTRY, "signed entry timestamp is not signed by the log's key");
        expect_entries(&texts, false_id, both, TRUST_NO_LOG_ENTRY, "is not signed by the log's key");

        struct buffer many = { 0 };
        for (int i = 0; i < 31; i++)
                buffer_append_text(&many, "{},");
        CLEANUP(cleanup_free) char *most = string_format("%s%s", many.data, good), *more = string_format("%s{},%s", many.data, good);
        expect_entries(&texts, most, rig.log.keys, RIG_GOOD, "");
        expect_entries(&texts, more, rig.log.keys, TRUST_LIMIT, "33 entries");
        buffer_fini(&many);
}

/* The time is the log's word only where the log signed it. */
static void test_time(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts);
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = rig.log.keys };
        for (int i = 0; i < 2; i++) {
                CLEANUP(cleanup_free) char *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 1766077479, .promise = i ? "" : NULL }), *bundle = bundle_make(&texts, entry);
                struct trust_evidence evidence = rig_bundle_evidence(bundle);
                CLEANUP(rig_verdict_fini) struct rig_verdict with = rig_judge(rig.keys, &options, &rig.target, &evidence), without = rig_judge(rig.keys, NULL, &rig.target, &evidence);
                assert_true(with.is_good && without.is_good);
                assert_int_equal(with.proof.logged_s, i ? 0 : 1766077479);
                assert_int_equal(without.proof.logged_s, 0);
        }
}

/* Only an Ed25519 log has a name of origin and raw key; an EC log that calls itself by its origin and nothing, or a promise of an Ed25519 log that is not ours, is unknown. */
static void test_names(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts);
        struct rig_log nameless = rig.log;
        struct digest digest;
        CLEANUP(buffer_fini) struct buffer named = { 0 };
        buffer_printf(&named, "%s\n%c", nameless.origin, 1);
        buffer_append(&named, (const uint8_t[32]){ 0 }, 32);
        digest_sha256(named.data, named.used, &digest);
        memcpy(nameless.id, digest.bytes, RIG_HASH);
        CLEANUP(cleanup_free) char *by_origin = rig_entry(&nameless, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 });
        CLEANUP(cleanup_free) char *promise = rig_entry(&rig.foreign, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5, .proof = "" });
        expect_entries(&texts, by_origin, rig.log.keys, TRUST_NO_LOG_ENTRY, "is not one of the configured");
        expect_entries(&texts, promise, rig.edlog.keys, TRUST_NO_LOG_ENTRY, "is not one of the configured");
}

/* The log's signatures count against the budget of the flight like any other. */
static void test_budget(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_STATEMENT, true);
        CLEANUP(cleanup_free) char *body = body_make(DSSE, &texts), *entry = rig_entry(&rig.log, &(struct rig_entry){ .body = body, .kind = "dsse", .version = "0.0.1", .time = 5 }), *bad = rig_swap(entry, "\"logIndex\":\"77\"", "\"logIndex\":\"1\"");
        CLEANUP(cleanup_free) char *two = string_format("%s,%s", bad, entry), *bundle = bundle_make(&texts, two);       /* the first of them takes one */
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = rig.log.keys };
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&options);
        struct trust_demand demand = { rig.keys, policy };
        struct trust_evidence evidence = rig_bundle_evidence(bundle);
        for (unsigned i = 0; i <= 4; i++) {
                struct trust_budget budget = { .verifications = i, .bytes = 1 << 20 };
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = { .failure = TRUST_FAILURE_NONE };
                struct judged_before before = { &demand, &rig.target, &evidence, budget, false };
                before.is_good = verdict.is_good = trust_judge(&demand, &rig.target, &evidence, &budget, &verdict.proof, &verdict.failure);
                judge_again(&before, &verdict.proof, &verdict.failure);
                rig_expect(&verdict, i == 4 ? RIG_GOOD : TRUST_LIMIT, "too many", "budget");
        }
}

/* ---- the annotation of a classic signature ---- */

#define ANNOTATION "{\"SignedEntryTimestamp\":\"$E\",\"Payload\":{\"body\":\"$B\",\"integratedTime\":5,\"logIndex\":77,\"logID\":\"$I\"}}"
static const struct { const char *from, *to; enum trust_reason reason; const char *says; } annotations[] = {
        { "{", "{", RIG_GOOD, "" }, { "5", "\"5\"", RIG_GOOD, "" }, { "5", "6", TRUST_NO_LOG_ENTRY, "signed entry timestamp" }, { "77", "78", TRUST_NO_LOG_ENTRY, "signed entry timestamp" }, { "{\"SignedEntry", "{\"x\":1,\"SignedEntry", TRUST_NO_LOG_ENTRY, "unknown member" },
        { "{\"body\"", "{\"x\":1,\"body\"", TRUST_NO_LOG_ENTRY, "unknown member" }, { "{\"body\"", "{\"body\":\"\",\"body\"", TRUST_NO_LOG_ENTRY, "twice" }, { "\"SignedEntryTimestamp\":\"$E\",", "", TRUST_NO_LOG_ENTRY, "SignedEntryTimestamp" },
        { "$E", "AA==", TRUST_NO_LOG_ENTRY, "signed entry timestamp" }, { "$E", "!", TRUST_NO_LOG_ENTRY, "SignedEntryTimestamp" }, { "\"body\":\"$B\",", "", TRUST_NO_LOG_ENTRY, "body" }, { "$B", "!", TRUST_NO_LOG_ENTRY, "body" }, { "$B", "$B\\n", TRUST_NO_LOG_ENTRY, "body" },
        { "$B", "e30=", TRUST_NO_LOG_ENTRY, "signed entry timestamp" }, { "$I", "", TRUST_NO_LOG_ENTRY, "logID" }, { "$I", "$I0", TRUST_NO_LOG_ENTRY, "logID" }, { ",\"logID\":\"$I\"", "", TRUST_NO_LOG_ENTRY, "logID" }, { "\"$I\"", "7", TRUST_NO_LOG_ENTRY, "\"logID\" must be of type" },
        { "$I", "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d", TRUST_NO_LOG_ENTRY, "log c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d is not one of the configured" }, { "{\"Signed", "[{\"Signed", TRUST_NO_LOG_ENTRY, "JSON" },
        { "{\"body\":\"$B\",\"integratedTime\":5,\"logIndex\":77,\"logID\":\"$I\"}", "[]", TRUST_NO_LOG_ENTRY, "\"Payload\" must be of type" }, { "\"$B\"", "7", TRUST_NO_LOG_ENTRY, "\"body\" must be of type" }, { "5", "[]", TRUST_NO_LOG_ENTRY, "\"integratedTime\" must be of type" }, { "77", "-77", TRUST_NO_LOG_ENTRY, "negative" },
};

static void expect_annotation(const struct signed_texts *texts, const char *body, const char *template, enum trust_reason reason, const char *says)
{
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = rig.log.keys };
        char hex[2 * RIG_HASH + 1];
        hex_format(rig.log.id, RIG_HASH, hex);
        CLEANUP(cleanup_free) char *promise = rig_promise(&rig.log, body, 5, 77), *encoded = base64_encode(body, strlen(body));
        CLEANUP(cleanup_free) char *entry = template ? rig_fill(template, (const char *const[]){ "$E", promise, "$B", encoded, "$I", hex, NULL }) : NULL;
        struct trust_evidence evidence = rig_simple_evidence(texts->payload, texts->signature);
        evidence.log_entry = entry;
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, &options, &rig.target, &evidence), without = rig_judge(rig.keys, NULL, &rig.target, &evidence);
        rig_expect(&verdict, reason, says, template ? template : "none");
        rig_expect(&without, RIG_GOOD, "", "without rekor_keys");
        assert_int_equal(verdict.proof.logged_s, verdict.is_good ? 5 : 0);
}

static void test_annotations(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_PAYLOAD, false), again = texts_make(rig.pkey, RIG_PAYLOAD, false), foreign = texts_make(rig.other_pkey, RIG_PAYLOAD, false);
        CLEANUP(cleanup_free) char *body = body_make(HASHED, &texts), *of_again = body_make(HASHED, &again), *of_foreign = body_make(HASHED, &foreign), *huge = memory_new((2 << 20) + 1, 1);
        for (size_t i = 0; i < COUNT_OF(annotations); i++) {
                CLEANUP(cleanup_free) char *template = rig_swap(ANNOTATION, annotations[i].from, annotations[i].to);
                expect_annotation(&texts, body, template, annotations[i].reason, annotations[i].says);
        }
        memset(huge, ' ', 2 << 20);
        expect_annotation(&texts, body, NULL, TRUST_NO_LOG_ENTRY, "one is required");
        expect_annotation(&texts, body, "7", TRUST_NO_LOG_ENTRY, "no JSON object");
        expect_annotation(&texts, body, huge, TRUST_LIMIT, "more than 1048576 bytes");
        expect_annotation(&texts, of_again, ANNOTATION, TRUST_NO_LOG_ENTRY, "another signature");
        expect_annotation(&texts, of_foreign, ANNOTATION, TRUST_NO_LOG_ENTRY, "another signature");
}

/* DSSE kinds say nothing about a signature over a bare payload, even if their texts fit. */
static void test_dsse_kinds_are_for_dsse(void **state)
{
        (void)state;
        CLEANUP(texts_fini) struct signed_texts texts = texts_make(rig.pkey, RIG_PAYLOAD, false);
        for (size_t i = 0; i < COUNT_OF(bodies); i++) {
                bool is_hashed = strcmp(bodies[i].kind, "hashedrekord") == 0;
                CLEANUP(cleanup_free) char *body = body_make(bodies[i].body, &texts);
                expect_annotation(&texts, body, ANNOTATION, is_hashed ? RIG_GOOD : TRUST_NO_LOG_ENTRY, "is for DSSE");
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_inclusion), cmocka_unit_test(test_notes), cmocka_unit_test(test_note_lines), cmocka_unit_test(test_kinds), cmocka_unit_test(test_bindings), cmocka_unit_test(test_bodies), cmocka_unit_test(test_body_objects), cmocka_unit_test(test_longer),
                cmocka_unit_test(test_entries), cmocka_unit_test(test_first_entry), cmocka_unit_test(test_witnesses), cmocka_unit_test(test_several), cmocka_unit_test(test_time), cmocka_unit_test(test_names), cmocka_unit_test(test_budget),
                cmocka_unit_test(test_annotations), cmocka_unit_test(test_dsse_kinds_are_for_dsse),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
