/* Classic cosign signatures: payload strictness as in c/image, behind a good signature each time; the annotation; what a certificate beside it does and does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_oci_rig.h"

static struct { EVP_PKEY *pkey, *other_pkey; struct trust_keys *keys; struct trust_target target; } rig;

static int setup(void **state)
{
        (void)state;
        rig.pkey = rig_key("P-256");
        rig.other_pkey = rig_key("P-256");
        rig.keys = rig_public(rig.pkey);
        rig.target = rig_manifest("{\"schemaVersion\":2}");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        EVP_PKEY_free(rig.pkey);
        EVP_PKEY_free(rig.other_pkey);
        trust_keys_unref(&rig.keys);
        return 0;
}

/* The payload (template) signed anew, so that every sentence here stands behind a good check. */
static void expect_payload(const char *template, const struct trust_policy_options *options, enum trust_reason reason, const char *says)
{
        CLEANUP(cleanup_free) char *payload = rig_statement(template, &rig.target), *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
        struct trust_evidence evidence = rig_simple_evidence(payload, signature);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, options, &rig.target, &evidence);
        rig_expect(&verdict, reason, says, template);
        if (verdict.is_good)
                assert_string_equal(verdict.proof.format, "cosign-simple");
}

#define HEX64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define IDENTITY "\"identity\":{\"docker-reference\":\"registry.example/team/a\"}"
#define IMAGE "\"image\":{\"docker-manifest-digest\":\"sha256:$D\"}"
#define TYPE "\"type\":\"cosign container image signature\""
static const struct { const char *from, *to; enum trust_reason reason; const char *says; } payloads[] = {
        { "{", "{", RIG_GOOD, "" }, { "{\"critical\"", " {\n\t\"critical\"", RIG_GOOD, "" }, { IDENTITY "," IMAGE "," TYPE, TYPE "," IMAGE "," IDENTITY, RIG_GOOD, "" },
        { "\"optional\":null", "\"optional\":{}", RIG_GOOD, "" }, { "\"optional\":null", "\"optional\":{\"creator\":\"x\",\"timestamp\":1657296609,\"o\":{\"a\":[null]}}", RIG_GOOD, "" },
        { "\"optional\":null", "\"optional\":\"x\"", TRUST_MALFORMED, "optional" }, { "\"optional\":null", "\"optional\":[]", TRUST_MALFORMED, "optional" }, { "\"optional\":null", "\"optional\":false", TRUST_MALFORMED, "optional" },
        { ",\"optional\":null", "", TRUST_MALFORMED, "\"optional\" is missing" }, { "\"optional\":null", "\"optional\":null,\"more\":1", TRUST_MALFORMED, "unknown member \"more\"" },
        { "\"optional\":null", "\"optional\":null,\"optional\":null", TRUST_MALFORMED, "twice" }, { "\"optional\":null", "\"optional\":{\"a\":1,\"\\u0061\":2}", TRUST_MALFORMED, "twice" },
        { "\"critical\":", "\"critical\":{},\"critical\":", TRUST_MALFORMED, "\"critical\" is there twice" }, { "\"critical\":", "\"Critical\":", TRUST_MALFORMED, "Critical" },
        { "{\"critical\":{" IDENTITY "," IMAGE "," TYPE "},", "{", TRUST_MALFORMED, "critical" }, { "{" IDENTITY "," IMAGE "," TYPE "}", "null", TRUST_MALFORMED, "missing" },
        { "{" IDENTITY "," IMAGE "," TYPE "}", "[]", TRUST_MALFORMED, "\"critical\" must be of type" }, { "," TYPE, "," TYPE ",\"x\":1", TRUST_MALFORMED, "unknown member \"x\"" },
        { "," TYPE, "", TRUST_MALFORMED, "\"type\" of \"critical\" is missing" }, { IDENTITY ",", "", TRUST_MALFORMED, "\"identity\"" }, { IMAGE ",", "", TRUST_MALFORMED, "\"image\"" },
        { TYPE, TYPE "," TYPE, TRUST_MALFORMED, "twice" }, { TYPE, "\"type\":null", TRUST_MALFORMED, "null" }, { TYPE, "\"type\":7", TRUST_MALFORMED, "\"type\" must be of type" },
        { "cosign container image", "atomic container", TRUST_WRONG_TYPE, "valid signature by this key, but of type \"atomic container signature\"" }, { "cosign container", "Cosign container", TRUST_WRONG_TYPE, "Cosign" },
        { "image signature", "image signature ", TRUST_WRONG_TYPE, "of type" }, { "docker-manifest-digest", "Docker-manifest-digest", TRUST_MALFORMED, "Docker-manifest-digest" },
        { "docker-manifest-digest\":\"sha256:$D\"", "docker-manifest-digest\":\"sha256:$D\",\"Docker-manifest-digest\":\"sha256:$D\"", TRUST_MALFORMED, "unknown member" },
        { "\"docker-manifest-digest\":\"sha256:$D\"", "", TRUST_MALFORMED, "docker-manifest-digest" }, { "\"sha256:$D\"", "null", TRUST_MALFORMED, "null" }, { "\"sha256:$D\"", "[\"sha256:$D\"]", TRUST_MALFORMED, "\"docker-manifest-digest\" must be of type" },
        { "sha256:$D", "$D", TRUST_MALFORMED, "docker-manifest-digest" }, { "sha256:$D", "SHA256:$D", TRUST_MALFORMED, "docker-manifest-digest" }, { "sha256:$D", "sha512:$D", TRUST_MALFORMED, "docker-manifest-digest" },
        { "sha256:$D", "sha256:$D ", TRUST_MALFORMED, "docker-manifest-digest" }, { "sha256:$D", "sha256:" HEX64, TRUST_OTHER_DIGEST, "valid signature by this key, but for sha256:" HEX64 },
        { "sha256:$D", "sha512:$D$D", TRUST_OTHER_DIGEST, "sha512:" }, { "\"docker-reference\":", "\"docker_reference\":", TRUST_MALFORMED, "docker_reference" }, { "{\"docker-reference\":\"registry.example/team/a\"}", "{}", TRUST_MALFORMED, "docker-reference" },
        { "\"registry.example/team/a\"", "null", TRUST_MALFORMED, "null" }, { "\"registry.example/team/a\"", "7", TRUST_MALFORMED, "\"docker-reference\" must be of type" }, { "\"registry.example/team/a\"", "\"\"", RIG_GOOD, "" }, { "\"registry.example/team/a\"", "\"elsewhere/b:v9\"", RIG_GOOD, "" },
        { "null}", "null}x", TRUST_MALFORMED, "payload: JSON" }, { "null}", "null", TRUST_MALFORMED, "too early" }, { "{\"critical\"", "\xef\xbb\xbf{\"critical\"", TRUST_MALFORMED, "payload: JSON" },
        { "registry.example", "\xff", TRUST_MALFORMED, "UTF-8" }, { "registry.example", "a\\u0000b", TRUST_MALFORMED, "NUL" }, { "registry.example", "\\udc00", TRUST_MALFORMED, "payload: JSON" },
};

static void test_payloads(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(payloads); i++) {
                CLEANUP(cleanup_free) char *payload = rig_swap(RIG_PAYLOAD, payloads[i].from, payloads[i].to);
                expect_payload(payload, NULL, payloads[i].reason, payloads[i].says);
        }
        expect_payload("[]", NULL, TRUST_MALFORMED, "no JSON object");
        expect_payload("{}", NULL, TRUST_MALFORMED, "critical");
        expect_payload("DSSEv1 28 application/vnd.in-toto+json 2 {}", NULL, TRUST_MALFORMED, "payload: JSON");
}

static void test_upper_case_hex(void **state)
{
        (void)state;
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(&rig.target.digest, hex);
        for (char *at = hex; *at; at++)
                *at = (char)(*at >= 'a' && *at <= 'f' ? *at - 32 : *at);
        CLEANUP(cleanup_free) char *payload = rig_swap(RIG_PAYLOAD, "$D", hex);
        expect_payload(payload, NULL, TRUST_MALFORMED, "docker-manifest-digest");
}

/* The annotation: missing, no base64, another alphabet; the bytes exactly as stored. */
static void test_signatures(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *payload = rig_statement(RIG_PAYLOAD, &rig.target), *good = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
        CLEANUP(cleanup_free) char *foreign = rig_sign_base64(rig.other_pkey, "SHA256", SPAN(payload, strlen(payload))), *spaced = string_format("%s ", good), *broken = string_format("%.20s\r\n%s\n", good, good + 20);
        CLEANUP(cleanup_free) char *cut = string_copy_bytes(good, strlen(good) - 4), *longer = rig_swap(payload, "null}", "null}\n"), *huge = memory_new(1 << 20, 1);
        memset(huge, 'A', (1 << 20) - 4);
        const struct { const char *payload, *signature; enum trust_reason reason; const char *says; } rows[] = {
                { payload, good, RIG_GOOD, "" }, { payload, broken, RIG_GOOD, "" }, { payload, NULL, TRUST_MALFORMED, "no annotation dev.cosignproject.cosign/signature" }, { payload, "", TRUST_MALFORMED, "no annotation" },
                { payload, spaced, TRUST_MALFORMED, "no base64" }, { payload, "!", TRUST_MALFORMED, "no base64" }, { payload, "AA-_", TRUST_MALFORMED, "no base64" }, { payload, huge, TRUST_MALFORMED, "no base64" },
                { payload, foreign, TRUST_OTHER_KEY, "is not by key" }, { payload, cut, TRUST_OTHER_KEY, "is not by key" }, { payload, "\n", TRUST_OTHER_KEY, "is not by key" }, { longer, good, TRUST_OTHER_KEY, "is not by key" },
                { "", good, TRUST_OTHER_KEY, "is not by key" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct trust_evidence evidence = rig_simple_evidence(rows[i].payload, rows[i].signature);
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, NULL, &rig.target, &evidence);
                rig_expect(&verdict, rows[i].reason, rows[i].says, rows[i].signature ? rows[i].signature : "none");
        }
}

/* GHSA-fx35-mq7g-6g98: what lies beside a signature never chooses the key. */
static void test_certificate_beside(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *payload = rig_statement(RIG_PAYLOAD, &rig.target), *good = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
        CLEANUP(cleanup_free) char *foreign = rig_sign_base64(rig.other_pkey, "SHA256", SPAN(payload, strlen(payload)));
        struct trust_evidence ours = rig_simple_evidence(payload, good), theirs = rig_simple_evidence(payload, foreign);
        ours.has_certificate = theirs.has_certificate = true;
        CLEANUP(rig_verdict_fini) struct rig_verdict taken = rig_judge(rig.keys, NULL, &rig.target, &ours), refused = rig_judge(rig.keys, NULL, &rig.target, &theirs);
        rig_expect(&taken, RIG_GOOD, "", "ours");
        rig_expect(&refused, TRUST_KEYLESS, "carries a certificate", "theirs");
}

static void test_policy(void **state)
{
        (void)state;
        static const struct trust_annotation prod = { "env", "prod" };
        struct trust_policy_options wants = { .formats = TRUST_FORMATS_DEFAULT, .annotations = &prod, .annotation_count = 1 }, off = { .formats = TRUST_FORMATS_DEFAULT & ~(1u << TRUST_SIMPLE) };
        struct trust_policy_options repository = { .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_REPOSITORY };
        CLEANUP(cleanup_free) char *with = rig_swap(RIG_PAYLOAD, "null", "{\"env\":\"prod\"}"), *other = rig_swap(RIG_PAYLOAD, "null", "{\"env\":[\"prod\"]}"), *elsewhere = rig_swap(RIG_PAYLOAD, "team/a", "team/b");
        expect_payload(with, &wants, RIG_GOOD, "");
        expect_payload(other, &wants, TRUST_ANNOTATION, "env");
        expect_payload(RIG_PAYLOAD, &wants, TRUST_ANNOTATION, "env");
        expect_payload(RIG_PAYLOAD, &off, TRUST_NOT_ACCEPTED, "simple");
        expect_payload(RIG_PAYLOAD, &repository, RIG_GOOD, "");
        expect_payload(elsewhere, &repository, TRUST_IDENTITY, "team/b");

        CLEANUP(cleanup_free) char *payload = rig_statement(with, &rig.target), *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
        struct trust_evidence evidence = rig_simple_evidence(payload, signature);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, NULL, &rig.target, &evidence);
        assert_string_equal(verdict.proof.annotations, "{\"env\":\"prod\"}");
        assert_string_equal(verdict.proof.algorithm, "ECDSA P-256 SHA-256");
}

static void test_limits(void **state)
{
        (void)state;
        struct buffer text = { 0 };
        CLEANUP(cleanup_free) char *payload = rig_statement(RIG_PAYLOAD, &rig.target);
        buffer_append_text(&text, payload);
        while (text.used < 1u << 20)
                buffer_append_text(&text, " ");
        expect_payload(text.data, NULL, RIG_GOOD, "");
        buffer_append_text(&text, " ");
        expect_payload(text.data, NULL, TRUST_LIMIT, "1048577 bytes");
        buffer_fini(&text);
}

/* A signature is the key's statement about one manifest: every other target is another one, the child of an index too (§14.5). */
static void test_targets(void **state)
{
        (void)state;
        struct trust_target top = rig_manifest("index"), child = rig_manifest("child"), sibling = rig_manifest("sibling");
        child.is_child = sibling.is_child = true;
        const struct { const struct trust_target *signed_for, *judged; enum trust_reason reason; } rows[] = {
                { &top, &top, RIG_GOOD }, { &top, &child, TRUST_OTHER_DIGEST }, { &child, &child, RIG_GOOD }, { &child, &top, TRUST_OTHER_DIGEST }, { &sibling, &child, TRUST_OTHER_DIGEST },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *payload = rig_statement(RIG_PAYLOAD, rows[i].signed_for), *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
                CLEANUP(cleanup_free) char *bundle = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, rows[i].signed_for);
                struct trust_evidence evidence = rig_simple_evidence(payload, signature), bundled = rig_bundle_evidence(bundle);
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, NULL, rows[i].judged, &evidence), of_bundle = rig_judge(rig.keys, NULL, rows[i].judged, &bundled);
                rig_expect(&verdict, rows[i].reason, "but for sha256:", "simple");
                rig_expect(&of_bundle, rows[i].reason, "but for sha256:", "bundle");
        }
}

/* Raw ECDSA knows no formats: what was signed as one thing is not taken for another (10, cross-protocol replay). */
static void test_cross_protocol(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *statement = rig_statement(RIG_STATEMENT, &rig.target), *pae = rig_pae("application/vnd.in-toto+json", statement);
        CLEANUP(cleanup_free) char *over_pae = rig_sign_base64(rig.pkey, "SHA256", SPAN(pae, strlen(pae))), *over_statement = rig_sign_base64(rig.pkey, "SHA256", SPAN(statement, strlen(statement)));
        CLEANUP(cleanup_free) char *payload = rig_statement(RIG_PAYLOAD, &rig.target), *over_payload = rig_sign_base64(rig.pkey, "SHA256", SPAN(payload, strlen(payload)));
        CLEANUP(cleanup_free) char *encoded = base64_encode(statement, strlen(statement)), *encoded_payload = base64_encode(payload, strlen(payload));
        CLEANUP(cleanup_free) char *bare = rig_fill(RIG_BUNDLE, (const char *const[]){ "$P", encoded, "$S", over_statement, NULL }), *as_dsse = rig_fill(RIG_BUNDLE, (const char *const[]){ "$P", encoded_payload, "$S", over_payload, NULL });
        struct trust_evidence pae_as_payload = rig_simple_evidence(pae, over_pae), statement_as_payload = rig_simple_evidence(statement, over_statement);
        struct trust_evidence statement_without_pae = rig_bundle_evidence(bare), payload_as_dsse = rig_bundle_evidence(as_dsse);
        CLEANUP(rig_verdict_fini) struct rig_verdict one = rig_judge(rig.keys, NULL, &rig.target, &pae_as_payload), two = rig_judge(rig.keys, NULL, &rig.target, &statement_as_payload);
        CLEANUP(rig_verdict_fini) struct rig_verdict three = rig_judge(rig.keys, NULL, &rig.target, &statement_without_pae), four = rig_judge(rig.keys, NULL, &rig.target, &payload_as_dsse);
        rig_expect(&one, TRUST_MALFORMED, "payload: JSON", "PAE as payload");
        rig_expect(&two, TRUST_MALFORMED, "unknown member", "statement as payload");
        rig_expect(&three, TRUST_OTHER_KEY, "is not by key", "statement signed without PAE");
        rig_expect(&four, TRUST_OTHER_KEY, "is not by key", "classic payload in an envelope");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_payloads), cmocka_unit_test(test_upper_case_hex), cmocka_unit_test(test_signatures), cmocka_unit_test(test_certificate_beside), cmocka_unit_test(test_policy),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_targets), cmocka_unit_test(test_cross_protocol),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
