/* Every row of section 10 as a test of the real trust_judge(), named after its advisory: what other verifiers let through is refused here, and the good object beside it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>
#include "trust_attack_rig.h"

/* Every row of section 10 as a test of the real trust_judge(), named after its advisory: what other verifiers let through is refused here, and the good object beside it is not. */
/* ---- the rows ---- */
static void cve_2023_33959_signature_for_another_artifact(void **state)
{
        (void)state;
        struct trust_evidence good = simple_signed(ours, payload_of(image_hex, "host/x", "null")), other = simple_signed(ours, payload_of(other_hex, "host/x", "null"));
        struct trust_evidence good_bundle = bundle_signed(ours, statement_of(SIGN, subject_of(image_hex))), other_bundle = bundle_signed(ours, statement_of(SIGN, subject_of(other_hex)));
        assert_proved(PLAIN, &image, &good);
        assert_proved(PLAIN, &image, &good_bundle);
        assert_missed(PLAIN, &image, &other, TRUST_OTHER_DIGEST);
        assert_missed(PLAIN, &image, &other_bundle, TRUST_OTHER_DIGEST);
        assert_non_null(strstr(failure.text, other_hex));
}

/* What is judged is the digest of the bytes that will be used; the name that led to them has no say. */
static void toctou_tag_moved_between_verify_and_pull(void **state)
{
        (void)state;
        struct trust_evidence evidence = simple_signed(ours, payload_of(image_hex, "host:5000/team/plugin", "null"));
        struct trust_target moved = image;
        digest_sha256("moved", 5, &moved.digest);
        assert_proved(PLAIN, &image, &evidence);
        assert_missed(PLAIN, &moved, &evidence, TRUST_OTHER_DIGEST);
        moved.digest = image.digest;                       /* the same bytes under another algorithm are another digest */
        moved.digest.algorithm = DIGEST_SHA512;
        assert_missed(PLAIN, &moved, &evidence, TRUST_OTHER_DIGEST);
}

static void reuse_in_another_repository(void **state)
{
        (void)state;
        struct trust_evidence here = simple_signed(ours, payload_of(image_hex, "host:5000/team/plugin", "null")), there = simple_signed(ours, payload_of(image_hex, "host:5000/else/plugin", "null"));
        struct trust_evidence tagged = simple_signed(ours, payload_of(image_hex, "host:5000/team/plugin:v1", "null")), bundle = bundle_signed(ours, statement_of(SIGN, subject_of(image_hex)));
        assert_proved(PLAIN, &image, &there);              /* documented: without the option a name says nothing */
        assert_proved(WITH(.identity = TRUST_IDENTITY_REPOSITORY), &image, &here);
        assert_missed(WITH(.identity = TRUST_IDENTITY_REPOSITORY), &image, &there, TRUST_IDENTITY);
        assert_missed(WITH(.identity = TRUST_IDENTITY_REPOSITORY), &image, &bundle, TRUST_IDENTITY);
        assert_missed(WITH(.identity = TRUST_IDENTITY_EXACT), &image, &here, TRUST_IDENTITY);
        assert_proved(WITH(.identity = TRUST_IDENTITY_EXACT), &image, &tagged);
}

/* Signatures do not say "newest": an annotation that the policy asks for does. */
static void cve_2024_23332_rollback_to_an_old_signed_build(void **state)
{
        (void)state;
        static const struct trust_annotation wanted[] = { { "version", "2" } };
        struct trust_evidence old = simple_signed(ours, payload_of(image_hex, "host/x", "{\"version\":\"1\"}")), now = simple_signed(ours, payload_of(image_hex, "host/x", "{\"version\":\"2\"}"));
        struct trust_evidence none = simple_signed(ours, payload_of(image_hex, "host/x", "null"));
        struct trust_evidence bundle = bundle_signed(ours, statement_of(SIGN, FORMAT("{\"digest\":{\"sha256\":\"%s\"},\"annotations\":{\"version\":\"2\"}}", image_hex)));
        struct trust_evidence bare = bundle_signed(ours, statement_of(SIGN, subject_of(image_hex)));
        assert_proved(WITH(.annotations = wanted, .annotation_count = 1), &image, &now);
        assert_proved(WITH(.annotations = wanted, .annotation_count = 1), &image, &bundle);
        assert_string_equal(proof.annotations, "{\"version\":\"2\"}");
        assert_missed(WITH(.annotations = wanted, .annotation_count = 1), &image, &old, TRUST_ANNOTATION);
        assert_missed(WITH(.annotations = wanted, .annotation_count = 1), &image, &none, TRUST_ANNOTATION);
        assert_missed(WITH(.annotations = wanted, .annotation_count = 1), &image, &bare, TRUST_ANNOTATION);
}

/* A registry that strips: what is left is no signature, by name. */
static void downgrade_by_stripping_signatures(void **state)
{
        (void)state;
        static const char *const stripped[] = {
                "{\"schemaVersion\":2,\"layers\":[]}", "{\"schemaVersion\":2}",
                "{\"schemaVersion\":2,\"layers\":[{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar\",\"digest\":\"sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00\",\"size\":3}]}",
        };
        struct trust_layers layers;
        struct error err = { 0 };
        for (size_t i = 0; i < COUNT_OF(stripped); i++) {
                assert_false(trust_layers_parse(stripped[i], strlen(stripped[i]), &layers, &err));
                assert_int_equal(err.code, ERROR_SIGNATURE_INVALID);
        }
        struct trust_evidence unsigned_layer = simple_of(payload_of(image_hex, "host/x", "null"), NULL), empty = simple_of(payload_of(image_hex, "host/x", "null"), "");
        assert_missed(PLAIN, &image, &unsigned_layer, TRUST_MALFORMED);
        assert_missed(PLAIN, &image, &empty, TRUST_MALFORMED);
        struct trust_target module = file_of("\0asm\1\0\0\0", 8, TRUST_TARGET_MODULE);
        assert_missed((struct options){ .keys = edwards_keys }, &module, &(struct trust_evidence){ .form = TRUST_FORM_EMBEDDED }, TRUST_ABSENT);
        struct trust_evidence no_signature = bundle_of((struct dsse){ .payload = statement_of(SIGN, subject_of(image_hex)), .signature = "" });
        assert_missed(PLAIN, &image, &no_signature, TRUST_MALFORMED);
}

/* A bare key where a certificate belongs, a hint, raw bytes: the key comes from configuration alone. */
static void ghsa_fx35_mq7g_6g98_key_taken_from_the_bundle(void **state)
{
        (void)state;
        static const uint8_t module[] = "\0asm\1\0\0\0";
        struct trust_target file = file_of(module, 8, TRUST_TARGET_FILE);
        struct rig_bytes signature = rig_sign(theirs, "SHA256", false, SPAN(module, 8)), good = rig_sign(ours, "SHA256", false, SPAN(module, 8));
        const char *pem = keep(rig_pem(theirs)), *pem64 = base64_of(pem, strlen(pem)), *signature64 = base64_of(signature.data, signature.size);
        struct options legacy = { .policy = &(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_LEGACY_BUNDLE } };
        struct trust_evidence evidence = sidecar_of(TRUST_FORM_SIDECAR_LEGACY, FORMAT("{\"base64Signature\":\"%s\",\"cert\":\"%s\"}", signature64, pem64));
        assert_missed(legacy, &file, &evidence, TRUST_OTHER_KEY);
        evidence = sidecar_of(TRUST_FORM_SIDECAR_LEGACY, FORMAT("{\"base64Signature\":\"%s\",\"cert\":\"%s\"}", base64_of(good.data, good.size), pem64));
        assert_proved(legacy, &file, &evidence);           /* and what stands there changes nothing */
        assert_true(digest_equal(&proof.fingerprint, trust_keys_get_fingerprint(keys, 0)));

        const char *statement = statement_of(SIGN, subject_of(image_hex)), *by_them = signed64(theirs, pae_of(IN_TOTO, statement));
        const struct digest *fingerprint = trust_keys_get_fingerprint(keys, 0);
        const char *hint = base64_of(fingerprint->bytes, 32);
        struct trust_evidence hinted = bundle_of((struct dsse){ .payload = statement, .signature = by_them, .material = FORMAT("\"publicKey\":{\"hint\":\"%s\"}", hint),
                                                                .more = FORMAT(",\"keyid\":\"%s\"", hint) });
        struct trust_evidence raw = bundle_of((struct dsse){ .payload = statement, .signature = by_them, .material = FORMAT("\"publicKey\":{\"hint\":\"\",\"rawBytes\":\"%s\"}", pem64) });
        struct trust_evidence certificate = bundle_of((struct dsse){ .payload = statement, .signature = by_them, .material = FORMAT("\"certificate\":{\"rawBytes\":\"%s\"}", pem64) });
        assert_missed(PLAIN, &image, &hinted, TRUST_OTHER_KEY);
        assert_missed(PLAIN, &image, &raw, TRUST_OTHER_KEY);
        assert_missed(PLAIN, &image, &certificate, TRUST_KEYLESS);
}

static void assert_attestations_refused(void)
{
        static const char *const types[] = { "https://cosign.sigstore.dev/attestation/vuln/v1", "https://slsa.dev/provenance/v1", "https://spdx.dev/Document", "", SIGN "/", "https://sigstore.dev/cosign/sign/v2" };
        for (size_t i = 0; i < COUNT_OF(types); i++) {
                struct trust_evidence evidence = bundle_signed(ours, statement_of(types[i], subject_of(image_hex)));
                assert_missed(PLAIN, &image, &evidence, TRUST_WRONG_TYPE);
        }
        struct trust_evidence good = bundle_signed(ours, statement_of(SIGN, subject_of(image_hex)));
        assert_proved(PLAIN, &image, &good);
}

static void cve_2022_35929_attestation_of_another_type(void **state)
{
        (void)state;
        assert_attestations_refused();
}

static void cve_2022_35930_attestation_without_a_predicate_check(void **state)
{
        (void)state;
        static const char *const slsa[] = { "https://slsa.dev/provenance/v1", NULL };
        struct trust_evidence evidence = bundle_signed(ours, statement_of("https://slsa.dev/provenance/v1", subject_of(image_hex))), sign = bundle_signed(ours, statement_of(SIGN, subject_of(image_hex)));
        assert_missed(PLAIN, &image, &evidence, TRUST_WRONG_TYPE);
        assert_proved(WITH(.predicates = slsa), &image, &evidence);
        assert_missed(WITH(.predicates = slsa), &image, &sign, TRUST_WRONG_TYPE);
}

/* A payload that cannot be read is not "no statement, so nothing to check". */
static void cve_2026_39395_unparsable_signed_payload(void **state)
{
        (void)state;
        const char *statements[] = { "", "hello", "{", "null", "[]", "{}", "\"" SIGN "\"", FORMAT("%s x", statement_of(SIGN, subject_of(image_hex))), FORMAT("\xef\xbb\xbf%s", statement_of(SIGN, subject_of(image_hex))),
                                     statement_of(SIGN, ""), statement_of(SIGN, "{}"), statement_of(SIGN, "{\"digest\":{}}"), statement_of(SIGN, "null"), statement_of(SIGN, FORMAT("{\"digest\":\"%s\"}", image_hex)) };
        for (size_t i = 0; i < COUNT_OF(statements); i++) {
                struct trust_evidence evidence = bundle_signed(ours, statements[i]);
                assert_missed(PLAIN, &image, &evidence, TRUST_MALFORMED);
                if (statements[i][0] == '\0')
                        continue;
                struct trust_evidence simple = simple_signed(ours, statements[i]);
                assert_missed(PLAIN, &image, &simple, TRUST_MALFORMED);
        }
}

/* CVE-2024-29902, -29903 (cosign), CVE-2023-33957, -33958 (notation), CVE-2024-45395 (sigstore-go): endless signatures, sizes, subjects. */
static void cve_2023_46737_endless_signatures(void **state)
{
        (void)state;
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_evidence evidence = simple_signed(theirs, payload_of(image_hex, "host/x", "null")), good = simple_signed(ours, payload_of(image_hex, "host/x", "null"));
        size_t tried = 0;
        for (; tried < 1000; tried++) {
                judge_with((struct options){ .budget = &budget }, &image, &evidence);
                if (failure.reason == TRUST_LIMIT)
                        break;
                assert_int_equal(failure.reason, TRUST_OTHER_KEY);
        }
        assert_int_equal(tried, 256);
        assert_missed((struct options){ .budget = &budget }, &image, &good, TRUST_LIMIT);    /* fail closed, also for the good one */

        CLEANUP(buffer_fini) struct buffer layers = { 0 };
        buffer_append_text(&layers, "{\"schemaVersion\":2,\"layers\":[");
        for (size_t i = 0; i < 65; i++)
                buffer_printf(&layers, "%s{\"mediaType\":\"application/vnd.dev.cosign.simplesigning.v1+json\",\"digest\":\"sha256:%s\",\"size\":3}", i ? "," : "", image_hex);
        buffer_append_text(&layers, "]}");
        struct trust_layers parsed;
        struct error err = { 0 };
        assert_false(trust_layers_parse(layers.data, layers.used, &parsed, &err));
        assert_non_null(strstr(err.text, "too many signatures"));
}

static void cve_2024_29902_huge_payloads(void **state)
{
        (void)state;
        char *huge = keep(memory_new(1, (2 << 20) + 1));
        memset(huge, ' ', 2 << 20);
        struct trust_evidence evidence = simple_of(huge, "AAAA");
        assert_missed(PLAIN, &image, &evidence, TRUST_LIMIT);
        evidence.form = TRUST_FORM_BUNDLE;
        assert_missed(PLAIN, &image, &evidence, TRUST_LIMIT);
        huge[900 << 10] = '\0';
        evidence.body_bytes = 900 << 10;
        struct trust_budget budget = TRUST_BUDGET;
        size_t tried = 0;
        while (tried < 100 && !judge_with((struct options){ .budget = &budget }, &image, &evidence) && failure.reason != TRUST_LIMIT)
                tried++;
        assert_int_equal(tried, 9);                        /* 8 MiB in all */
}

static void cve_2024_45395_endless_subjects(void **state)
{
        (void)state;
        static const char *const slsa[] = { "https://slsa.dev/provenance/v1", NULL };
        CLEANUP(buffer_fini) struct buffer subjects = { 0 };
        const char *subject = subject_of(image_hex);
        for (size_t i = 0; i < 1024; i++)
                buffer_printf(&subjects, "%s%s", i ? "," : "", subject);
        struct trust_evidence at_most = bundle_signed(ours, statement_of(slsa[0], subjects.data));
        assert_proved(WITH(.predicates = slsa), &image, &at_most);
        buffer_printf(&subjects, ",%s", subject);
        struct trust_evidence more = bundle_signed(ours, statement_of(slsa[0], subjects.data));
        assert_missed(WITH(.predicates = slsa), &image, &more, TRUST_MALFORMED);
}

/* Expired intermediates (CVE-2026-24122), validity windows of keys (CVE-2026-54787), thresholds of logs (CVE-2026-49834): no time and no certificate is ever used, and none is claimed. */
static void cve_2026_24122_certificates_and_times_are_never_half_used(void **state)
{
        (void)state;
        const char *statement = statement_of(SIGN, subject_of(image_hex)), *signature = signed64(ours, pae_of(IN_TOTO, statement));
        struct trust_evidence timed = bundle_of((struct dsse){ .payload = statement, .signature = signature,
                                                               .material = "\"publicKey\":{\"hint\":\"\"},\"timestampVerificationData\":{\"rfc3161Timestamps\":[{\"signedTimestamp\":\"AAAA\"}]}" });
        struct trust_evidence chain = bundle_of((struct dsse){ .payload = statement, .signature = signature, .material = "\"x509CertificateChain\":{\"certificates\":[{\"rawBytes\":\"AAAA\"}]}" });
        struct trust_evidence both = bundle_of((struct dsse){ .payload = statement, .signature = signature, .material = "\"publicKey\":{\"hint\":\"\"},\"certificate\":{\"rawBytes\":\"AAAA\"}" });
        assert_proved(PLAIN, &image, &timed);
        assert_int_equal(proof.logged_s, 0);
        assert_missed(PLAIN, &image, &chain, TRUST_KEYLESS);
        assert_missed(PLAIN, &image, &both, TRUST_KEYLESS);
}

/* One text that an index and an image reader understand differently is no signature manifest. */
static void cve_2021_41190_index_and_manifest_in_one(void **state)
{
        (void)state;
        static const char layer[] = "\"layers\":[{\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":3}]";
        const char *simple = FORMAT(layer, "application/vnd.dev.cosign.simplesigning.v1+json", other_hex), *bundle = FORMAT(layer, BUNDLE_TYPE, other_hex);
        const char *subject = FORMAT("\"subject\":{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:%s\",\"size\":3}", image_hex);
        static const char *const twists[] = { "\"manifests\":[]", "\"mediaType\":\"application/vnd.oci.image.index.v1+json\"", "\"fsLayers\":[]" };
        const char *good = FORMAT("{\"schemaVersion\":2,%s}", simple), *good_bundle = FORMAT("{\"schemaVersion\":2,%s,%s}", bundle, subject);
        struct trust_layers layers;
        struct digest digest;
        uint64_t size;
        struct error err = { 0 };
        assert_true(trust_layers_parse(good, strlen(good), &layers, &err));
        trust_layers_fini(&layers);
        assert_true(trust_bundle_layer_parse(good_bundle, strlen(good_bundle), &image.digest, &digest, &size, &err));
        for (size_t i = 0; i < COUNT_OF(twists); i++) {
                const char *text = FORMAT("{\"schemaVersion\":2,%s,%s}", simple, twists[i]), *text_bundle = FORMAT("{\"schemaVersion\":2,%s,%s,%s}", bundle, subject, twists[i]);
                assert_false(trust_layers_parse(text, strlen(text), &layers, &err));
                assert_false(trust_bundle_layer_parse(text_bundle, strlen(text_bundle), &image.digest, &digest, &size, &err));
        }
        struct digest other = image.digest;                /* a referrer of another image */
        other.bytes[0] ^= 1;
        assert_false(trust_bundle_layer_parse(good_bundle, strlen(good_bundle), &other, &digest, &size, &err));
}

/* What Go reads as the last duplicate, in any case, is not what was looked at by the one who signed. */
static void json_duplicates_and_case_folding(void **state)
{
        (void)state;
        static const char critical[] = "{\"identity\":{\"docker-reference\":\"\"},\"image\":{\"%s\":\"sha256:%s\"},\"type\":\"cosign container image signature\"}";
        const char *good = FORMAT(critical, "docker-manifest-digest", image_hex), *bad = FORMAT(critical, "docker-manifest-digest", other_hex), *folded = FORMAT(critical, "Docker-manifest-digest", image_hex);
        const char *payloads[] = {
                FORMAT("{\"critical\":%s,\"critical\":%s,\"optional\":null}", bad, good), FORMAT("{\"critical\":%s,\"critical\":%s,\"optional\":null}", good, bad),
                FORMAT("{\"critical\":%s,\"\\u0063ritical\":%s,\"optional\":null}", good, bad), FORMAT("{\"critical\":%s,\"Critical\":%s,\"optional\":null}", good, bad),
                FORMAT("{\"Critical\":%s,\"optional\":null}", good), FORMAT("{\"critical\":%s,\"optional\":null}", folded), FORMAT("{\"critical\":%s,\"optional\":null,\"optional\":null}", good),
                FORMAT("{\"critical\":%s}", good), FORMAT("{\"critical\":%s,\"optional\":\"\"}", good),
        };
        for (size_t i = 0; i < COUNT_OF(payloads); i++) {
                struct trust_evidence evidence = simple_signed(ours, payloads[i]);
                assert_missed(PLAIN, &image, &evidence, TRUST_MALFORMED);
        }
        const char *statements[] = {
                FORMAT("{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[%s],\"subject\":[%s],\"predicateType\":\"" SIGN "\"}", subject_of(image_hex), subject_of(other_hex)),
                FORMAT("{\"_type\":\"https://in-toto.io/Statement/v1\",\"Subject\":[%s],\"predicateType\":\"" SIGN "\"}", subject_of(image_hex)),
                statement_of(SIGN, FORMAT("{\"digest\":{\"sha256\":\"%s\",\"sha256\":\"%s\"}}", other_hex, image_hex)), statement_of(SIGN, FORMAT("%s,%s", subject_of(other_hex), subject_of(image_hex))),
                statement_of(SIGN, FORMAT("{\"digest\":{\"sha256\":\"%.63s\"}}", image_hex)),
        };
        for (size_t i = 0; i < COUNT_OF(statements); i++) {
                struct trust_evidence evidence = bundle_signed(ours, statements[i]);
                assert_missed(PLAIN, &image, &evidence, TRUST_MALFORMED);
        }
}

/* The type is part of what is signed; it must be the one that the payload is then read as. */
static void dsse_payload_type_swap(void **state)
{
        (void)state;
        const char *statement = statement_of(SIGN, subject_of(image_hex));
        struct trust_evidence swapped = bundle_of((struct dsse){ .payload = statement, .signature = signed64(ours, pae_of("text/plain", statement)) });
        struct trust_evidence other = bundle_of((struct dsse){ .payload = statement, .type = "text/plain", .signature = signed64(ours, pae_of("text/plain", statement)) });
        struct trust_evidence bare = bundle_of((struct dsse){ .payload = statement, .signature = signed64(ours, statement) });
        struct trust_evidence shifted = bundle_of((struct dsse){ .payload = statement, .signature = signed64(ours, FORMAT("DSSEv1 28 " IN_TOTO " %zu %s", strlen(statement) + 1, statement)) });
        assert_missed(PLAIN, &image, &swapped, TRUST_OTHER_KEY);
        assert_missed(PLAIN, &image, &other, TRUST_MALFORMED);
        assert_missed(PLAIN, &image, &bare, TRUST_OTHER_KEY);
        assert_missed(PLAIN, &image, &shifted, TRUST_OTHER_KEY);
        struct trust_evidence two = bundle_of((struct dsse){ .payload = statement, .signature = signed64(theirs, pae_of(IN_TOTO, statement)),
                                                             .more = FORMAT("},{\"sig\":\"%s\"", signed64(ours, pae_of(IN_TOTO, statement))) });
        assert_missed(PLAIN, &image, &two, TRUST_MALFORMED);       /* exactly one signature */
}

/* The key's own kind decides: not the length of a signature, not a hint, not a name in the bundle. */
static void algorithm_and_key_confusion(void **state)
{
        (void)state;
        const char *payload = payload_of(image_hex, "host/x", "null");
        struct span message = SPAN(payload, strlen(payload));
        struct rig_bytes weak = rig_sign(ours, "SHA1", false, message), longer = rig_sign(ours, "SHA512", false, message);
        EVP_PKEY *rsa = rig_key("RSA");
        CLEANUP(trust_keys_unref) struct trust_keys *rsa_keys = rig_public(rsa);
        struct rig_bytes pss = rig_sign(rsa, "SHA256", true, message), sha1 = rig_sign(rsa, "SHA1", false, message), good = rig_sign(rsa, "SHA256", false, message);
        struct trust_evidence evidence = simple_of(payload, base64_of(weak.data, weak.size));
        assert_missed(PLAIN, &image, &evidence, TRUST_OTHER_KEY);
        evidence.signature = base64_of(longer.data, longer.size);
        assert_missed(PLAIN, &image, &evidence, TRUST_OTHER_KEY);
        evidence.signature = base64_of(sha1.data, sha1.size);
        assert_missed((struct options){ .keys = rsa_keys }, &image, &evidence, TRUST_OTHER_KEY);
        evidence.signature = base64_of(pss.data, pss.size);
        assert_missed((struct options){ .keys = rsa_keys }, &image, &evidence, TRUST_OTHER_KEY);
        assert_proved((struct options){ .keys = rsa_keys, .policy = &(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_RSA_PSS } }, &image, &evidence);
        evidence.signature = base64_of(good.data, good.size);
        assert_proved((struct options){ .keys = rsa_keys }, &image, &evidence);
        assert_missed(PLAIN, &image, &evidence, TRUST_OTHER_KEY);
        evidence = simple_signed(edwards, payload);
        assert_missed(PLAIN, &image, &evidence, TRUST_OTHER_KEY);
        assert_proved((struct options){ .keys = edwards_keys }, &image, &evidence);
        EVP_PKEY_free(rsa);
}

/* Raw signatures say nothing of what they are over: a payload is no module, a module no payload, a DSSE no blob. */
static void cross_protocol_replay(void **state)
{
        (void)state;
        const char *payload = payload_of(image_hex, "host/x", "null"), *pae = pae_of(IN_TOTO, statement_of(SIGN, subject_of(image_hex)));
        const char *texts[] = { payload, pae, "wasmsig\1\1\1", "hello" };
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                struct trust_target file = file_of(texts[i], strlen(texts[i]), TRUST_TARGET_FILE);
                struct trust_evidence evidence = sidecar_of(TRUST_FORM_SIDECAR_SIG, signed64(ours, texts[i]));
                assert_missed(PLAIN, &file, &evidence, TRUST_WRONG_TYPE);
        }
        struct trust_target module = file_of("\0asm\1\0\0\0", 8, TRUST_TARGET_FILE);
        struct rig_bytes signature = rig_sign(ours, "SHA256", false, SPAN(module.bytes, 8));
        struct trust_evidence evidence = sidecar_of(TRUST_FORM_SIDECAR_SIG, base64_of(signature.data, signature.size));
        assert_proved(PLAIN, &module, &evidence);
        struct trust_evidence as_payload = { .form = TRUST_FORM_SIMPLE, .body = module.bytes, .body_bytes = 8, .signature = evidence.body };
        assert_missed(PLAIN, &image, &as_payload, TRUST_MALFORMED);
        struct trust_evidence of_pae = simple_of(pae, signed64(ours, pae)), gpg = simple_signed(ours, FORMAT("{\"critical\":{\"identity\":{\"docker-reference\":\"\"},\"image\":{"
                                      "\"docker-manifest-digest\":\"sha256:%s\"},\"type\":\"atomic container signature\"},\"optional\":null}", image_hex));
        assert_missed(PLAIN, &image, &of_pae, TRUST_MALFORMED);
        assert_missed(PLAIN, &image, &gpg, TRUST_WRONG_TYPE);
        struct trust_evidence over_manifest = simple_of(manifest, signed64(ours, manifest));        /* the manifest itself, signed as a blob */
        assert_missed(PLAIN, &image, &over_manifest, TRUST_MALFORMED);
        struct trust_evidence at_image = sidecar_of(TRUST_FORM_SIDECAR_SIG, signed64(ours, manifest));
        assert_missed(PLAIN, &image, &at_image, TRUST_NOT_ACCEPTED);
}

static void unsigned_index_with_signed_children(void **state)
{
        (void)state;
        struct trust_target child = image;
        struct trust_evidence evidence = simple_signed(ours, payload_of(image_hex, "host/x", "null"));
        child.is_child = true;
        assert_proved(PLAIN, &child, &evidence);
        assert_missed(WITH(.requires_top_level = true), &child, &evidence, TRUST_NOT_ACCEPTED);
        assert_proved(WITH(.requires_top_level = true), &image, &evidence);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(cve_2023_33959_signature_for_another_artifact), ROW(toctou_tag_moved_between_verify_and_pull), ROW(reuse_in_another_repository),
                ROW(cve_2024_23332_rollback_to_an_old_signed_build), ROW(downgrade_by_stripping_signatures), ROW(ghsa_fx35_mq7g_6g98_key_taken_from_the_bundle),
                ROW(cve_2022_35929_attestation_of_another_type), ROW(cve_2022_35930_attestation_without_a_predicate_check), ROW(cve_2026_39395_unparsable_signed_payload),
                ROW(cve_2023_46737_endless_signatures), ROW(cve_2024_29902_huge_payloads), ROW(cve_2024_45395_endless_subjects),
                ROW(cve_2026_24122_certificates_and_times_are_never_half_used), ROW(cve_2021_41190_index_and_manifest_in_one), ROW(json_duplicates_and_case_folding),
                ROW(dsse_payload_type_swap), ROW(algorithm_and_key_confusion), ROW(cross_protocol_replay), ROW(unsigned_index_with_signed_children),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
