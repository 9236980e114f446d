/* Sigstore bundles: shape, envelope, statement, message signatures; good objects, and each rule with an object that breaks only that rule, signed by the right key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_oci_rig.h"

static struct { EVP_PKEY *pkey, *other_pkey; struct trust_keys *keys, *others; struct trust_target target; } rig;

static int setup(void **state)
{
        (void)state;
        rig.pkey = rig_key("P-256");
        rig.other_pkey = rig_key("P-256");
        rig.keys = rig_public(rig.pkey);
        rig.others = rig_public(rig.other_pkey);
        rig.target = rig_manifest("{\"schemaVersion\":2}");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        EVP_PKEY_free(rig.pkey);
        EVP_PKEY_free(rig.other_pkey);
        trust_keys_unref(&rig.keys);
        trust_keys_unref(&rig.others);
        return 0;
}

static void expect_text(const char *text, const struct trust_policy_options *options, enum trust_reason reason, const char *says)
{
        struct trust_evidence evidence = rig_bundle_evidence(text);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, options, &rig.target, &evidence);
        rig_expect(&verdict, reason, says, text);
        if (verdict.is_good)
                assert_memory_equal(&verdict.proof.fingerprint, trust_keys_get_fingerprint(rig.keys, 0), sizeof verdict.proof.fingerprint);
}

static void expect_bundle(const char *bundle, const char *statement, const struct trust_policy_options *options, enum trust_reason reason, const char *says)
{
        CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, bundle, statement, &rig.target);
        expect_text(text, options, reason, says);
}

/* What is replaced in the good bundle, and what comes of it. */
static const struct { const char *from, *to; enum trust_reason reason; const char *says; } shapes[] = {
        { "v0.3+json", "v0.3+json", RIG_GOOD, "" }, { "bundle.v0.3+json", "bundle+json;version=0.3", RIG_GOOD, "" }, { "bundle.v0.3+json", "bundle+json;version=0.2", RIG_GOOD, "" },
        { "bundle.v0.3+json", "bundle+json;version=0.1", RIG_GOOD, "" }, { "v0.3", "v0.2", RIG_GOOD, "" }, { "v0.3", "v0.1", RIG_GOOD, "" },
        { "v0.3", "v0.4", TRUST_NOT_ACCEPTED, "v0.4" }, { "bundle.v0.3+json", "bundle+json;version=0.4", TRUST_NOT_ACCEPTED, "0.4" }, { "v0.3", "V0.3", TRUST_NOT_ACCEPTED, "V0.3" },
        { "bundle.v0.3+json", "bundle", TRUST_NOT_ACCEPTED, "bundle" }, { "\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",", "", TRUST_MALFORMED, "mediaType" },
        { "\"application/vnd.dev.sigstore.bundle.v0.3+json\"", "3", TRUST_MALFORMED, "\"mediaType\" must be of type" }, { "\"mediaType\":\"", "\"x\":{\"y\":[1]},\"mediaType\":\"", RIG_GOOD, "" },
        { "\"mediaType\":\"", "\"mediaType\":\"a\",\"mediaType\":\"", TRUST_MALFORMED, "\"mediaType\" is there twice" }, { "{\"sig\"", "{\"sig\":\"x\",\"s\\u0069g\"", TRUST_MALFORMED, "twice" },
        { "\"publicKey\":{\"hint\":\"aGludA==\"}", "\"publicKey\":{}", RIG_GOOD, "" }, { "\"publicKey\":{\"hint\":\"aGludA==\"}", "", TRUST_MALFORMED, "publicKey" },
        { "\"publicKey\":{\"hint\":\"aGludA==\"}", "\"publicKey\":null", TRUST_MALFORMED, "publicKey" }, { "\"publicKey\":{\"hint\":\"aGludA==\"}", "\"public_key\":{}", TRUST_MALFORMED, "publicKey" },
        { "{\"hint\":\"aGludA==\"}", "[]", TRUST_MALFORMED, "\"publicKey\" must be of type" }, { "\"aGludA==\"", "7", TRUST_MALFORMED, "\"hint\" must be of type" },
        { "\"verificationMaterial\":{", "\"verificationMaterial\":[],\"v\":{", TRUST_MALFORMED, "\"verificationMaterial\" must be of type" }, { "\"dsseEnvelope\":", "\"messageSignature\":[],\"dsseEnvelope\":", TRUST_MALFORMED, "\"messageSignature\" must be of type" },
        { "\"application/vnd.in-toto+json\"", "7", TRUST_MALFORMED, "\"payloadType\" must be of type" }, { "\"$S\"", "7", TRUST_MALFORMED, "\"sig\" must be of type" }, { "\"$P\"", "7", TRUST_MALFORMED, "\"payload\" must be of type" }, { "\"aGludA==\"", "null", RIG_GOOD, "" },
        { "\"verificationMaterial\":{\"publicKey\":{\"hint\":\"aGludA==\"}},", "", TRUST_MALFORMED, "publicKey" },
        { "\"publicKey\":{\"hint\":\"aGludA==\"}", "\"certificate\":{\"rawBytes\":\"AA==\"}", TRUST_KEYLESS, "certificate" },
        { "\"publicKey\":{\"hint\":\"aGludA==\"}", "\"x509CertificateChain\":{\"certificates\":[]}", TRUST_KEYLESS, "certificate" },
        { "\"publicKey\":", "\"certificate\":{\"rawBytes\":\"AA==\"},\"publicKey\":", TRUST_KEYLESS, "certificate" }, { "\"publicKey\":", "\"certificate\":null,\"publicKey\":", RIG_GOOD, "" },
        { "\"publicKey\":", "\"tlogEntries\":[],\"timestampVerificationData\":{},\"publicKey\":", RIG_GOOD, "" }, { "\"publicKey\":", "\"tlogEntries\":{},\"publicKey\":", TRUST_MALFORMED, "\"tlogEntries\" must be of type" },
        { "\"dsseEnvelope\":", "\"messageSignature\":{\"signature\":\"AA==\"},\"dsseEnvelope\":", TRUST_MALFORMED, "both" }, { "\"dsseEnvelope\":", "\"messageSignature\":null,\"dsseEnvelope\":", RIG_GOOD, "" },
        { "\"dsseEnvelope\":", "\"dsse_envelope\":", TRUST_MALFORMED, "neither" }, { "\"dsseEnvelope\":{", "\"dsseEnvelope\":[],\"e\":{", TRUST_MALFORMED, "\"dsseEnvelope\" must be of type" },
        { "in-toto+json", "in-toto+JSON", TRUST_MALFORMED, "payloadType" }, { "vnd.in-toto+json", "json", TRUST_MALFORMED, "payloadType" },
        { "\"payloadType\":\"application/vnd.in-toto+json\",", "", TRUST_MALFORMED, "payloadType is missing" }, { "in-toto+json\"", "in-toto+json \"", TRUST_MALFORMED, "payloadType" },
        { "[{\"sig\":\"$S\"}]", "[]", TRUST_MALFORMED, "0 signatures" }, { "[{\"sig\":\"$S\"}]", "[{\"sig\":\"$S\"},{\"sig\":\"$S\"}]", TRUST_MALFORMED, "2 signatures" },
        { "[{\"sig\":\"$S\"}]", "{\"sig\":\"$S\"}", TRUST_MALFORMED, "\"signatures\" must be of type" }, { "{\"sig\":\"$S\"}", "\"$S\"", TRUST_MALFORMED, "no object" }, { "{\"sig\":\"$S\"}", "{}", TRUST_MALFORMED, "sig" },
        { "\"sig\":\"$S\"", "\"sig\":\"\"", TRUST_MALFORMED, "sig" }, { "\"sig\":\"$S\"", "\"sig\":\"$S\",\"keyid\":\"\"", RIG_GOOD, "" }, { "\"sig\":\"$S\"", "\"sig\":\"$S\",\"keyid\":\"of another\"", RIG_GOOD, "" },
        { "\"sig\":\"$S\"", "\"sig\":\"$S\\n\"", RIG_GOOD, "" }, { "\"sig\":\"$S\"", "\"sig\":\"$S \"", TRUST_MALFORMED, "sig" }, { "\"sig\":\"$S\"", "\"sig\":\"!$S\"", TRUST_MALFORMED, "base64" },
        { "\"sig\":\"$S\"", "\"sig\":\"AA==\"", TRUST_OTHER_KEY, "hint: bundle key aGludA==" }, { "\"payload\":\"$P\",", "", TRUST_MALFORMED, "payload" }, { "\"payload\":\"$P\"", "\"payload\":\"e30=\"", TRUST_OTHER_KEY, "is not by key" },
        { "\"payload\":\"$P\"", "\"payload\":\"$P=\"", TRUST_MALFORMED, "payload" }, { "{\"mediaType\"", "\xef\xbb\xbf{\"mediaType\"", TRUST_MALFORMED, "bundle: JSON" }, { "{\"mediaType\"", "[{\"mediaType\"", TRUST_MALFORMED, "JSON" },
};

static void test_shapes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(shapes); i++) {
                CLEANUP(cleanup_free) char *bundle = rig_swap(RIG_BUNDLE, shapes[i].from, shapes[i].to);
                expect_bundle(bundle, RIG_STATEMENT, NULL, shapes[i].reason, shapes[i].says);
        }
        expect_text("", NULL, TRUST_MALFORMED, "too early");
        expect_text("[]", NULL, TRUST_MALFORMED, "no JSON object");
        expect_text("null", NULL, TRUST_MALFORMED, "no JSON object");
        expect_bundle(RIG_BUNDLE " ", RIG_STATEMENT, NULL, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE "{}", RIG_STATEMENT, NULL, TRUST_MALFORMED, "more after the end");
}

#define HEX64 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SUBJECT "{\"digest\":{\"sha256\":\"$D\"}}"
/* The same in the statement, which is signed anew each time: every sentence here stands behind a good check. */
static const struct { const char *from, *to; enum trust_reason reason; const char *says; } statements[] = {
        { "{", "{", RIG_GOOD, "" }, { ",\"predicate\":{}", "", RIG_GOOD, "" }, { "\"predicate\":{}", "\"predicate\":null", RIG_GOOD, "" }, { "\"predicate\":{}", "\"predicate\":{\"a\":[1]}", RIG_GOOD, "" },
        { "\"predicate\":{}", "\"predicate\":[]", TRUST_MALFORMED, "predicate" }, { "{\"_type\"", "\n {\t\"_type\"", RIG_GOOD, "" }, { "\"predicate\":{}", "\"predicate\":{},\"extra\":1", TRUST_MALFORMED, "unknown member \"extra\"" },
        { "Statement/v1", "Statement/v0.1", TRUST_WRONG_TYPE, "Statement/v0.1" }, { "Statement/v1", "Statement/v2", TRUST_WRONG_TYPE, "v2" }, { "https://in-toto.io/Statement/v1", "", TRUST_WRONG_TYPE, "statement type" },
        { "\"_type\":\"https://in-toto.io/Statement/v1\",", "", TRUST_MALFORMED, "_type" }, { "\"_type\":\"https://in-toto.io/Statement/v1\"", "\"_type\":1", TRUST_MALFORMED, "\"_type\" must be of type" }, { "\"" RIG_SIGN_V1 "\"", "7", TRUST_MALFORMED, "\"predicateType\" must be of type" },
        { "\"_type\":", "\"_Type\":", TRUST_MALFORMED, "_type" }, { RIG_SIGN_V1, "https://slsa.dev/provenance/v1", TRUST_WRONG_TYPE, "valid DSSE by this key, but predicateType https://slsa.dev/provenance/v1 is not accepted" },
        { RIG_SIGN_V1, RIG_SIGN_V1 "/", TRUST_WRONG_TYPE, "predicateType" }, { "sigstore.dev/cosign", "SIGSTORE.dev/cosign", TRUST_WRONG_TYPE, "predicateType" }, { ",\"predicateType\":\"" RIG_SIGN_V1 "\"", "", TRUST_MALFORMED, "predicateType" },
        { "\"predicateType\"", "\"predicate_type\"", TRUST_MALFORMED, "predicateType" }, { "predicateType\":\"", "predicateType\":\"\\u001b[2J", TRUST_WRONG_TYPE, "\\x1b[2J" },
        { SUBJECT, SUBJECT "," SUBJECT, TRUST_MALFORMED, "2 subjects" }, { SUBJECT, "", TRUST_MALFORMED, "0 subjects" }, { "[" SUBJECT "]", SUBJECT, TRUST_MALFORMED, "\"subject\" must be of type" }, { SUBJECT, "\"$D\"", TRUST_MALFORMED, "no object" },
        { "\"subject\":", "\"subject\":[],\"subject\":", TRUST_MALFORMED, "\"subject\" is there twice" }, { "\"subject\":", "\"Subject\":", TRUST_MALFORMED, "subject" }, { "\"$D\"", "\"$D\",\"sha256\":\"$D\"", TRUST_MALFORMED, "twice" },
        { "\"$D\"", "\"" HEX64 "\"", TRUST_OTHER_DIGEST, "valid signature by this key, but for sha256:" HEX64 }, { "\"sha256\":\"$D\"", "\"sha512\":\"$D$D\"", TRUST_OTHER_DIGEST, "without a digest" },
        { "\"sha256\":\"$D\"", "\"sha512\":\"" HEX64 HEX64 "\",\"sha256\":\"$D\"", RIG_GOOD, "" }, { "\"$D\"", "\"sha256:$D\"", TRUST_MALFORMED, "hex" }, { "\"$D\"", "\"$D0\"", TRUST_MALFORMED, "hex" }, { "\"$D\"", "\"$Dz\"", TRUST_MALFORMED, "hex" }, { "\"$D\"", "\"\"", TRUST_MALFORMED, "hex" },
        { "\"sha256\":\"$D\"", "\"SHA256\":\"$D\"", TRUST_OTHER_DIGEST, "without" }, { "\"$D\"", "[\"$D\"]", TRUST_MALFORMED, "no string" }, { "{\"sha256\":\"$D\"}", "{}", TRUST_MALFORMED, "0 digests" },
        { "\"digest\":{\"sha256\":\"$D\"}", "\"name\":\"x\"", TRUST_MALFORMED, "0 digests" }, { "{\"sha256\":\"$D\"}", "[\"$D\"]", TRUST_MALFORMED, "\"digest\" must be of type" }, { "{\"digest\"", "{\"name\":\"a\",\"annotations\":{},\"digest\"", RIG_GOOD, "" },
        { "{\"digest\"", "{\"digests\":{},\"digest\"", TRUST_MALFORMED, "unknown member \"digests\"" }, { "{\"digest\"", "{\"annotations\":[],\"digest\"", TRUST_MALFORMED, "annotations" }, { "predicate\":{}}", "predicate\":{}} x", TRUST_MALFORMED, "more after" },
        { "\"predicate\":{}", "\"predicate\":{\"a\":NaN}", TRUST_MALFORMED, "statement: JSON" }, { "\"predicate\":{}", "\"predicate\":{\"a\":1,\"a\":2}", TRUST_MALFORMED, "twice" }, { "\"predicate\":{}", "\"predicate\":{\"a\":\"\xff\"}", TRUST_MALFORMED, "UTF-8" },
        { "\"predicate\":{}", "\"predicate\":{\"a\":\"\\ud800\"}", TRUST_MALFORMED, "statement: JSON" }, { "{\"_type\"", "\xef\xbb\xbf{\"_type\"", TRUST_MALFORMED, "statement: JSON" },
};

static void test_statements(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(statements); i++) {
                CLEANUP(cleanup_free) char *statement = rig_swap(RIG_STATEMENT, statements[i].from, statements[i].to);
                expect_bundle(RIG_BUNDLE, statement, NULL, statements[i].reason, statements[i].says);
        }
        expect_bundle(RIG_BUNDLE, "[]", NULL, TRUST_MALFORMED, "no JSON object");
        expect_bundle(RIG_BUNDLE, "{}", NULL, TRUST_MALFORMED, "_type");
        expect_bundle(RIG_BUNDLE, "$D", NULL, TRUST_MALFORMED, "statement: JSON");
}

static void test_upper_case_hex(void **state)
{
        (void)state;
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(&rig.target.digest, hex);
        for (char *at = hex; *at; at++)
                *at = (char)(*at >= 'a' && *at <= 'f' ? *at - 32 : *at);
        CLEANUP(cleanup_free) char *statement = rig_swap(RIG_STATEMENT, "$D", hex);
        expect_bundle(RIG_BUNDLE, statement, NULL, TRUST_MALFORMED, "lower-case");
}

/* `first`, then `count` numbered pieces, commas between. */
static char *listed(const char *first, const char *before, size_t count, const char *after)
{
        struct buffer text = { 0 };
        buffer_append_text(&text, first);
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, ",%s%zu%s", before, i, after);
        return buffer_take(&text);
}

static void test_bounds(void **state)
{
        (void)state;
        static const char *const slsa[] = { "https://slsa.dev/provenance/v1", NULL };
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .predicates = slsa };
        CLEANUP(cleanup_free) char *provenance = rig_swap(RIG_STATEMENT, RIG_SIGN_V1, slsa[0]);
        CLEANUP(cleanup_free) char *most_subjects = listed(SUBJECT, "{\"digest\":{\"x\":\"y", 1023, "\"}}"), *more_subjects = listed(SUBJECT, "{\"digest\":{\"x\":\"y", 1024, "\"}}");
        CLEANUP(cleanup_free) char *fits = rig_swap(provenance, SUBJECT, most_subjects), *too_many = rig_swap(provenance, SUBJECT, more_subjects);
        expect_bundle(RIG_BUNDLE, fits, &options, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, too_many, &options, TRUST_MALFORMED, "1025 subjects");
        CLEANUP(cleanup_free) char *most_digests = listed("\"sha256\":\"$D\"", "\"d", 31, "\":\"x\""), *more_digests = listed("\"sha256\":\"$D\"", "\"d", 32, "\":\"x\"");
        CLEANUP(cleanup_free) char *full = rig_swap(RIG_STATEMENT, "\"sha256\":\"$D\"", most_digests), *over = rig_swap(RIG_STATEMENT, "\"sha256\":\"$D\"", more_digests);
        expect_bundle(RIG_BUNDLE, full, NULL, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, over, NULL, TRUST_MALFORMED, "33 digests");
}

/* Other predicate types, where they are allowed: any subject will do, cosign attest's statement type too. */
static void test_predicates(void **state)
{
        (void)state;
        static const char *const slsa[] = { "https://slsa.dev/provenance/v1", NULL }, *const none[] = { NULL };
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .predicates = slsa };
        CLEANUP(cleanup_free) char *provenance = rig_swap(RIG_STATEMENT, RIG_SIGN_V1, slsa[0]), *old = rig_swap(provenance, "Statement/v1", "Statement/v0.1");
        CLEANUP(cleanup_free) char *first = rig_swap(old, SUBJECT, "{\"name\":\"a\",\"digest\":{\"sha256\":\"" HEX64 "\"}}," SUBJECT), *last = rig_swap(old, SUBJECT, SUBJECT ",{\"digest\":{\"sha256\":\"" HEX64 "\"}}");
        CLEANUP(cleanup_free) char *broken = rig_swap(first, "\"name\":\"a\"", "\"names\":1"), *foreign = rig_swap(old, "$D", HEX64), *newer = rig_swap(provenance, "Statement/v1", "Statement/v2");
        expect_bundle(RIG_BUNDLE, provenance, &options, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, old, &options, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, first, &options, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, last, &options, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, broken, &options, TRUST_MALFORMED, "names");
        expect_bundle(RIG_BUNDLE, foreign, &options, TRUST_OTHER_DIGEST, HEX64);
        expect_bundle(RIG_BUNDLE, newer, &options, TRUST_WRONG_TYPE, "Statement/v2");
        expect_bundle(RIG_BUNDLE, RIG_STATEMENT, &options, TRUST_WRONG_TYPE, RIG_SIGN_V1);
        options.predicates = none;
        expect_bundle(RIG_BUNDLE, provenance, &options, TRUST_WRONG_TYPE, slsa[0]);
        options.predicates = slsa;
}

/* §14.9 and the flag: every kind of key, in the hashes that its row allows. */
static void test_algorithms(void **state)
{
        (void)state;
        static const struct { const char *kind, *hash; bool is_good; const char *algorithm; } ways[] = {
                { "P-256", "SHA256", true, "ECDSA P-256 SHA-256" }, { "P-256", "SHA384", false, NULL }, { "P-384", "SHA384", true, "ECDSA P-384 SHA-384" }, { "P-384", "SHA256", true, "ECDSA P-384 SHA-256" },
                { "P-384", "SHA512", false, NULL }, { "P-521", "SHA512", true, "ECDSA P-521 SHA-512" }, { "P-521", "SHA256", true, "ECDSA P-521 SHA-256" }, { "P-521", "SHA384", false, NULL },
                { "RSA", "SHA256", true, "RSA PKCS#1 v1.5 SHA-256" }, { "RSA", "SHA512", false, NULL }, { "P-256", "SHA1", false, NULL }, { "ED25519", NULL, true, "Ed25519" },
        };
        for (size_t i = 0; i < COUNT_OF(ways); i++) {
                EVP_PKEY *pkey = rig_key(ways[i].kind);
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(pkey);
                CLEANUP(cleanup_free) char *text = rig_bundle_with(pkey, ways[i].hash, RIG_BUNDLE, RIG_STATEMENT, &rig.target);
                struct trust_evidence evidence = rig_bundle_evidence(text);
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(keys, NULL, &rig.target, &evidence);
                rig_expect(&verdict, ways[i].is_good ? RIG_GOOD : TRUST_OTHER_KEY, "is not by key", ways[i].kind);
                if (ways[i].is_good) {
                        assert_string_equal(verdict.proof.algorithm, ways[i].algorithm);
                        assert_string_equal(verdict.proof.format, "cosign-bundle");
                }
                EVP_PKEY_free(pkey);
        }
}

static void test_pss(void **state)
{
        (void)state;
        EVP_PKEY *pkey = rig_key("RSA");
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_public(pkey);
        CLEANUP(cleanup_free) char *payload = rig_statement(RIG_STATEMENT, &rig.target), *encoded = base64_encode(payload, strlen(payload)), *pae = rig_pae("application/vnd.in-toto+json", payload);
        struct rig_bytes signature = rig_sign(pkey, "SHA256", true, SPAN(pae, strlen(pae)));
        CLEANUP(cleanup_free) char *sig = base64_encode(signature.data, signature.size), *text = rig_fill(RIG_BUNDLE, (const char *const[]){ "$P", encoded, "$S", sig, NULL });
        struct trust_evidence evidence = rig_bundle_evidence(text);
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_RSA_PSS };
        CLEANUP(rig_verdict_fini) struct rig_verdict off = rig_judge(keys, NULL, &rig.target, &evidence), on = rig_judge(keys, &options, &rig.target, &evidence);
        rig_expect(&off, TRUST_OTHER_KEY, "is not by key", "PSS off");
        rig_expect(&on, RIG_GOOD, "", "PSS on");
        EVP_PKEY_free(pkey);
}

/* Payload and signature in the URL-safe alphabet, with and without padding (DSSE, proto-JSON). */
static void test_url_safe(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *statement = rig_swap(RIG_STATEMENT, "\"predicate\":{}", "\"predicate\":{\"a\":\"?>?>?~~~?\"}");
        bool seen = false;
        for (int i = 0; i < 8; i++) {
                CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, RIG_BUNDLE, statement, &rig.target), *unpadded = NULL;
                char *from = strstr(text, "\"payload\":\"") + 11;
                for (char *at = strstr(text, "\"dsseEnvelope\""); *at; at++) {
                        bool is_type = strncmp(at, "application/vnd.in-toto+json", 28) == 0;
                        at += is_type ? 28 : 0;
                        seen |= *at == '+' || *at == '/';
                        *at = (char)(*at == '+' ? '-' : *at == '/' ? '_' : *at);
                }
                expect_text(text, NULL, RIG_GOOD, "");
                size_t length = strcspn(from, "=\"");
                unpadded = string_format("%.*s%s", (int)(from - text + (long)length), text, from + length + strspn(from + length, "="));
                expect_text(unpadded, NULL, RIG_GOOD, "");
        }
        assert_true(seen);
}

static void test_keys(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &rig.target), *foreign = rig_bundle(rig.other_pkey, RIG_BUNDLE, RIG_STATEMENT, &rig.target);
        CLEANUP(cleanup_free) char *nasty = rig_swap(foreign, "aGludA==", "\\u001b]0;x\\u0007" HEX64 HEX64 HEX64);
        CLEANUP(trust_keys_unref) struct trust_keys *both = NULL;
        struct trust_evidence evidence = rig_bundle_evidence(text);
        struct error err;
        assert_true(trust_keys_join((struct trust_keys *const[]){ rig.others, rig.keys }, 2, "keys", &both, &err));
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(both, NULL, &rig.target, &evidence);
        rig_expect(&verdict, RIG_GOOD, "", "any of two keys");
        assert_memory_equal(&verdict.proof.fingerprint, trust_keys_get_fingerprint(rig.keys, 0), sizeof verdict.proof.fingerprint);
        expect_text(foreign, NULL, TRUST_OTHER_KEY, "(hint: bundle key aGludA==)");
        expect_text(nasty, NULL, TRUST_OTHER_KEY, "\\x1b]0;x\\x07");
}

static void test_policy(void **state)
{
        (void)state;
        static const struct trust_annotation prod = { "env", "prod" };
        struct trust_policy_options wants = { .formats = TRUST_FORMATS_DEFAULT, .annotations = &prod, .annotation_count = 1 }, exact = { .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_EXACT };
        struct trust_policy_options off = { .formats = TRUST_FORMATS_DEFAULT & ~(1u << TRUST_BUNDLE) };
        CLEANUP(cleanup_free) char *with = rig_swap(RIG_STATEMENT, "{\"digest\"", "{\"annotations\":{\"env\":\"prod\",\"n\":7},\"digest\""), *other = rig_swap(with, "prod", "test");
        CLEANUP(cleanup_free) char *elsewhere = rig_swap(RIG_STATEMENT, "\"predicate\":{}", "\"predicate\":{\"annotations\":{\"env\":\"prod\"}}");
        expect_bundle(RIG_BUNDLE, with, &wants, RIG_GOOD, "");
        expect_bundle(RIG_BUNDLE, other, &wants, TRUST_ANNOTATION, "env");
        expect_bundle(RIG_BUNDLE, RIG_STATEMENT, &wants, TRUST_ANNOTATION, "env");
        expect_bundle(RIG_BUNDLE, elsewhere, &wants, TRUST_ANNOTATION, "env");
        expect_bundle(RIG_BUNDLE, RIG_STATEMENT, &exact, TRUST_IDENTITY, "");
        expect_bundle(RIG_BUNDLE, RIG_STATEMENT, &off, TRUST_NOT_ACCEPTED, "bundle");

        CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, RIG_BUNDLE, with, &rig.target), *plain = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &rig.target);
        struct trust_evidence evidence = rig_bundle_evidence(text), plain_evidence = rig_bundle_evidence(plain);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, NULL, &rig.target, &evidence), none = rig_judge(rig.keys, NULL, &rig.target, &plain_evidence);
        assert_string_equal(verdict.proof.annotations, "{\"env\":\"prod\",\"n\":7}");
        assert_null(none.proof.annotations);
}

static void test_limits(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &rig.target), *blanks = memory_new((2u << 20) + 1, 1), *deep = rig_swap(text, "{\"mediaType\"", "{\"x\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1");
        size_t length = strlen(text);
        memset(blanks, ' ', 2u << 20);
        memcpy(blanks, text, length);
        blanks[1u << 20] = '\0';
        expect_text(blanks, NULL, RIG_GOOD, "");
        blanks[1u << 20] = ' ';
        blanks[(1u << 20) + 1] = '\0';
        expect_text(blanks, NULL, TRUST_LIMIT, "1048577 bytes");
        expect_text(deep, NULL, TRUST_MALFORMED, "deeper");

        struct trust_policy_options defaults = { .formats = TRUST_FORMATS_DEFAULT };
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&defaults);
        struct trust_demand demand = { rig.keys, policy };
        struct trust_budget budget = { .verifications = 1, .bytes = 1 << 20 };
        struct trust_evidence evidence = rig_bundle_evidence(text);
        CLEANUP(rig_verdict_fini) struct rig_verdict one = { .failure = TRUST_FAILURE_NONE }, two = { .failure = TRUST_FAILURE_NONE };
        assert_true(trust_judge(&demand, &rig.target, &evidence, &budget, &one.proof, &one.failure));
        assert_false(trust_judge(&demand, &rig.target, &evidence, &budget, &two.proof, &two.failure));
        rig_expect(&two, TRUST_LIMIT, "too many", "budget");
}

/* ---- message signatures ---- */

#define MESSAGE "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{\"hint\":\"aGludA==\"}},\"messageSignature\":{$M\"signature\":\"$S\"}}"

static void expect_message(const char *digest_member, const struct trust_policy_options *options, const struct trust_target *target, enum trust_reason reason, const char *says)
{
        CLEANUP(cleanup_free) char *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(target->bytes, target->size_bytes));
        CLEANUP(cleanup_free) char *text = rig_fill(MESSAGE, (const char *const[]){ "$M", digest_member, "$S", signature, NULL });
        struct trust_evidence evidence = rig_bundle_evidence(text);
        evidence.form = target->kind == TRUST_TARGET_FILE ? TRUST_FORM_SIDECAR_BUNDLE : TRUST_FORM_BUNDLE;
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, options, target, &evidence);
        rig_expect(&verdict, reason, says, digest_member);
        if (verdict.is_good)
                assert_string_equal(verdict.proof.format, "sigstore-bundle");
}

static char *message_digest(const char *name, const char *hash, const struct trust_target *target)
{
        unsigned char bytes[EVP_MAX_MD_SIZE];
        unsigned size;
        assert_int_equal(EVP_Digest(target->bytes, target->size_bytes, bytes, &size, EVP_get_digestbyname(hash), NULL), 1);
        CLEANUP(cleanup_free) char *base64 = base64_encode(bytes, size);
        return string_format("\"messageDigest\":{\"algorithm\":\"%s\",\"digest\":\"%s\"},", name, base64);
}

static void test_message_signature(void **state)
{
        (void)state;
        static const char wasm[] = "\0asm\1\0\0\0 and more";
        struct trust_target file = { .kind = TRUST_TARGET_FILE, .bytes = wasm, .size_bytes = sizeof wasm - 1 }, other = rig_manifest("other");
        digest_sha256(file.bytes, file.size_bytes, &file.digest);
        CLEANUP(cleanup_free) char *sha256 = message_digest("SHA2_256", "SHA256", &file), *sha384 = message_digest("SHA2_384", "SHA384", &file), *sha512 = message_digest("SHA2_512", "SHA512", &file);
        CLEANUP(cleanup_free) char *lies = message_digest("SHA2_256", "SHA256", &other), *mixed = message_digest("SHA2_512", "SHA256", &file), *unknown = message_digest("SHA3_256", "SHA256", &file);
        const char *const good[] = { "", "\"messageDigest\":{},", "\"messageDigest\":null,", sha256, sha384, sha512 };
        for (size_t i = 0; i < COUNT_OF(good); i++)
                expect_message(good[i], NULL, &file, RIG_GOOD, "");
        expect_message(lies, NULL, &file, TRUST_MALFORMED, "messageDigest is of another content");
        expect_message(mixed, NULL, &file, TRUST_MALFORMED, "messageDigest is of another content");
        expect_message(unknown, NULL, &file, TRUST_MALFORMED, "SHA3_256");
        expect_message("\"messageDigest\":{\"algorithm\":\"SHA2_256\"},", NULL, &file, TRUST_MALFORMED, "digest");
        expect_message("\"messageDigest\":{\"digest\":\"AAAA\"},", NULL, &file, TRUST_MALFORMED, "missing is not known");
        expect_message("\"messageDigest\":[],", NULL, &file, TRUST_MALFORMED, "\"messageDigest\" must be of type");
        expect_message("\"messageDigest\":{\"algorithm\":7,\"digest\":\"AAAA\"},", NULL, &file, TRUST_MALFORMED, "\"algorithm\" must be of type");
        expect_message("\"messageDigest\":{\"algorithm\":\"SHA2_256\",\"digest\":7},", NULL, &file, TRUST_MALFORMED, "\"digest\" must be of type");
        CLEANUP(cleanup_free) char *longer = rig_swap(sha256, "=\"}", "A\"}");
        expect_message(longer, NULL, &file, TRUST_MALFORMED, "messageDigest is of another content");

        static const struct trust_annotation prod = { "env", "prod" };
        struct trust_policy_options wants = { .formats = TRUST_FORMATS_DEFAULT, .annotations = &prod, .annotation_count = 1 };
        struct trust_policy_options exact = { .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_EXACT };
        expect_message("", &wants, &file, TRUST_ANNOTATION, "env");
        expect_message("", &exact, &file, TRUST_IDENTITY, "names no repository");
}

/* The signature of one file is none of another; where the bundle says itself that it is of another, that is no proof of anything either. */
static void test_message_of_other_file(void **state)
{
        (void)state;
        struct trust_target file = rig_manifest("one"), other = rig_manifest("two");
        file.kind = other.kind = TRUST_TARGET_FILE;
        CLEANUP(cleanup_free) char *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(file.bytes, file.size_bytes)), *named = message_digest("SHA2_256", "SHA256", &file);
        CLEANUP(cleanup_free) char *text = rig_fill(MESSAGE, (const char *const[]){ "$M", named, "$S", signature, NULL }), *none = rig_swap(text, "\"signature\"", "\"signatures\"");
        struct trust_evidence evidence = rig_bundle_evidence(text), without = rig_bundle_evidence(none);
        evidence.form = without.form = TRUST_FORM_SIDECAR_BUNDLE;
        CLEANUP(rig_verdict_fini) struct rig_verdict same = rig_judge(rig.keys, NULL, &file, &evidence), differs = rig_judge(rig.keys, NULL, &other, &evidence), missing = rig_judge(rig.keys, NULL, &file, &without);
        rig_expect(&same, RIG_GOOD, "", "its own file");
        rig_expect(&differs, TRUST_OTHER_KEY, "is not by key", "another file");
        rig_expect(&missing, TRUST_MALFORMED, "signature", "no signature");
}

/* In OCI only where it is switched on, and over the exact bytes of the manifest. */
static void test_message_signature_oci(void **state)
{
        (void)state;
        struct trust_policy_options on = { .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_MESSAGE_SIGNATURE_OCI };
        struct trust_target unread = rig.target;
        expect_message("", NULL, &rig.target, TRUST_NOT_ACCEPTED, "message-signature-oci");
        expect_message("", &on, &rig.target, RIG_GOOD, "");
        CLEANUP(cleanup_free) char *signature = rig_sign_base64(rig.pkey, "SHA256", SPAN(rig.target.bytes, rig.target.size_bytes));
        CLEANUP(cleanup_free) char *text = rig_fill(MESSAGE, (const char *const[]){ "$M", "", "$S", signature, NULL });
        struct trust_evidence evidence = rig_bundle_evidence(text);
        unread.bytes = NULL;
        unread.size_bytes = 0;
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(rig.keys, &on, &unread, &evidence);
        rig_expect(&verdict, TRUST_NOT_ACCEPTED, "not at hand", "no bytes");
}

/* DSSE over a file (attest-blob): the same rules, its own name. */
static void test_statement_over_file(void **state)
{
        (void)state;
        struct trust_target file = rig_manifest("\x7f file");
        file.kind = TRUST_TARGET_FILE;
        CLEANUP(cleanup_free) char *text = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &file), *foreign = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &rig.target);
        struct trust_evidence evidence = rig_bundle_evidence(text), other = rig_bundle_evidence(foreign);
        evidence.form = other.form = TRUST_FORM_SIDECAR_BUNDLE;
        CLEANUP(rig_verdict_fini) struct rig_verdict good = rig_judge(rig.keys, NULL, &file, &evidence), bad = rig_judge(rig.keys, NULL, &file, &other);
        rig_expect(&good, RIG_GOOD, "", "its own file");
        assert_string_equal(good.proof.format, "sigstore-bundle");
        rig_expect(&bad, TRUST_OTHER_DIGEST, "valid signature by this key, but for sha256:", "another file");
}

/* A target of another algorithm is compared with the digest of that algorithm only. */
static void test_sha512_target(void **state)
{
        (void)state;
        struct trust_target target = rig.target;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA512);
        hasher_update(hasher, target.bytes, target.size_bytes);
        hasher_finish(hasher, &target.digest);
        CLEANUP(cleanup_free) char *statement = rig_swap(RIG_STATEMENT, "sha256", "sha512"), *text = rig_bundle(rig.pkey, RIG_BUNDLE, statement, &target), *wrong = rig_bundle(rig.pkey, RIG_BUNDLE, RIG_STATEMENT, &target);
        CLEANUP(cleanup_free) char *short_one = rig_bundle(rig.pkey, RIG_BUNDLE, statement, &rig.target);
        struct trust_evidence evidence = rig_bundle_evidence(text), under_sha256 = rig_bundle_evidence(wrong), half = rig_bundle_evidence(short_one);
        CLEANUP(rig_verdict_fini) struct rig_verdict good = rig_judge(rig.keys, NULL, &target, &evidence), bad = rig_judge(rig.keys, NULL, &target, &under_sha256), cut = rig_judge(rig.keys, NULL, &target, &half);
        rig_expect(&good, RIG_GOOD, "", "sha512");
        rig_expect(&bad, TRUST_OTHER_DIGEST, "without", "sha512 under the name sha256");
        rig_expect(&cut, TRUST_MALFORMED, "128 lower-case hex", "half a digest");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_shapes), cmocka_unit_test(test_statements), cmocka_unit_test(test_upper_case_hex), cmocka_unit_test(test_predicates), cmocka_unit_test(test_bounds), cmocka_unit_test(test_algorithms), cmocka_unit_test(test_pss),
                cmocka_unit_test(test_url_safe), cmocka_unit_test(test_keys), cmocka_unit_test(test_policy), cmocka_unit_test(test_limits), cmocka_unit_test(test_message_signature),
                cmocka_unit_test(test_message_of_other_file), cmocka_unit_test(test_message_signature_oci), cmocka_unit_test(test_statement_over_file), cmocka_unit_test(test_sha512_target),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
