/* Every row of section 10 as a test of the real trust_judge(), named after its advisory: what other verifiers let through is refused here, and the good object beside it is not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>
#include "trust_rig.h"

#define SIGN "https://sigstore.dev/cosign/sign/v1"
#define BUNDLE_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define IN_TOTO "application/vnd.in-toto+json"

static EVP_PKEY *ours, *theirs, *log_key, *edwards;       /* configured; the attacker's; a transparency log's; seed 32 x 42h (K7) */
static struct trust_keys *keys, *edwards_keys, *log_keys;
static struct trust_policy *usual;
static struct trust_target image;                         /* MANIFEST, bytes at hand */
static char image_hex[DIGEST_TEXT_BYTES], other_hex[DIGEST_TEXT_BYTES];
static const char manifest[] = "{\"schemaVersion\":2}";
static struct trust_failure failure;
static struct trust_proof proof;

/* ---- judging ---- */
struct options { const struct trust_keys *keys; const struct trust_policy_options *policy; struct trust_budget *budget; };

static bool judge_with(struct options options, const struct trust_target *target, const struct trust_evidence *evidence)
{
        struct trust_budget budget = TRUST_BUDGET;
        CLEANUP(trust_policy_unref) struct trust_policy *policy = options.policy ? trust_policy_new(options.policy) : trust_policy_ref(usual);
        struct trust_demand demand = { options.keys ? options.keys : keys, policy };
        trust_proof_fini(&proof);
        failure = TRUST_FAILURE_NONE;
        return trust_judge(&demand, target, evidence, options.budget ? options.budget : &budget, &proof, &failure);
}

static void assert_proved(struct options options, const struct trust_target *target, const struct trust_evidence *evidence)
{
        if (!judge_with(options, target, evidence))
                fail_msg("refused: %s", failure.text);
}

static void assert_missed(struct options options, const struct trust_target *target, const struct trust_evidence *evidence, enum trust_reason reason)
{
        if (judge_with(options, target, evidence))
                fail_msg("an attack went through: %s", proof.format);
        if (failure.reason != reason)
                fail_msg("%s instead of %s: %s", trust_reason_names[failure.reason], trust_reason_names[reason], failure.text);
}

/* ---- making signed objects: texts are owned by the test's pool ---- */
static char *pool[400];
static size_t pooled;

static char *keep(char *text)
{
        assert_true(pooled < COUNT_OF(pool));
        return pool[pooled++] = text;
}

#define FORMAT(...) keep(string_format(__VA_ARGS__))

static const char *base64_of(const void *bytes, size_t size)
{
        return keep(base64_encode(bytes, size));
}

static const char *signed64(EVP_PKEY *pkey, const char *text)
{
        struct rig_bytes signature = rig_sign(pkey, EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519 ? NULL : "SHA256", false, SPAN(text, strlen(text)));
        return base64_of(signature.data, signature.size);
}

static const char *payload_of(const char *hex, const char *reference, const char *optional)
{
        return FORMAT("{\"critical\":{\"identity\":{\"docker-reference\":\"%s\"},\"image\":{\"docker-manifest-digest\":\"sha256:%s\"},\"type\":\"cosign container image signature\"},\"optional\":%s}",
                      reference, hex, optional);
}

static struct trust_evidence simple_of(const char *payload, const char *signature)
{
        return (struct trust_evidence){ .form = TRUST_FORM_SIMPLE, .body = payload, .body_bytes = strlen(payload), .signature = signature };
}

static struct trust_evidence simple_signed(EVP_PKEY *pkey, const char *payload)
{
        return simple_of(payload, signed64(pkey, payload));
}

static const char *statement_of(const char *predicate_type, const char *subjects)
{
        return FORMAT("{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[%s],\"predicateType\":\"%s\",\"predicate\":{}}", subjects, predicate_type);
}

static const char *subject_of(const char *hex)
{
        return FORMAT("{\"digest\":{\"sha256\":\"%s\"}}", hex);
}

static const char *pae_of(const char *type, const char *body)
{
        return FORMAT("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(body), body);
}

struct dsse { const char *payload, *type, *signature, *material, *more; };

static struct trust_evidence bundle_of(struct dsse dsse)
{
        const char *text = FORMAT("{\"mediaType\":\"" BUNDLE_TYPE "\",\"verificationMaterial\":{%s},\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"%s\",\"signatures\":[{\"sig\":\"%s\"%s}]}}",
                                  dsse.material ? dsse.material : "\"publicKey\":{\"hint\":\"\"}", base64_of(dsse.payload, strlen(dsse.payload)), dsse.type ? dsse.type : IN_TOTO, dsse.signature,
                                  dsse.more ? dsse.more : "");
        return (struct trust_evidence){ .form = TRUST_FORM_BUNDLE, .body = text, .body_bytes = strlen(text) };
}

static struct trust_evidence bundle_signed(EVP_PKEY *pkey, const char *statement)
{
        return bundle_of((struct dsse){ .payload = statement, .signature = signed64(pkey, pae_of(IN_TOTO, statement)) });
}

static struct trust_target file_of(const void *bytes, size_t size, enum trust_target_kind kind)
{
        struct trust_target target = { .kind = kind, .bytes = bytes, .size_bytes = size };
        digest_sha256(bytes, size, &target.digest);
        return target;
}

static struct trust_evidence sidecar_of(enum trust_form form, const char *body)
{
        return (struct trust_evidence){ .form = form, .body = body, .body_bytes = strlen(body) };
}

static int setup(void **state)
{
        static const uint8_t seed[32] = { [0 ... 31] = 0x42 };
        struct digest other;
        (void)state;
        ours = rig_key("P-256");
        theirs = rig_key("P-256");
        log_key = rig_key("P-256");
        edwards = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
        keys = rig_public(ours);
        log_keys = rig_public(log_key);
        edwards_keys = rig_public(edwards);
        usual = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        image = file_of(manifest, sizeof manifest - 1, TRUST_TARGET_MANIFEST);
        image.repository = "host:5000/team/plugin";
        image.tag = "v1";
        digest_format_hex(&image.digest, image_hex);
        digest_sha256("other", 5, &other);
        digest_format_hex(&other, other_hex);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        trust_proof_fini(&proof);
        trust_keys_unref(&keys);
        trust_keys_unref(&log_keys);
        trust_keys_unref(&edwards_keys);
        trust_policy_unref(&usual);
        EVP_PKEY_free(ours);
        EVP_PKEY_free(theirs);
        EVP_PKEY_free(log_key);
        EVP_PKEY_free(edwards);
        return 0;
}

static int empty_pool(void **state)
{
        (void)state;
        while (pooled > 0)
                free(pool[--pooled]);
        return 0;
}

#define PLAIN ((struct options){ 0 })
#define WITH(...) ((struct options){ .policy = &(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, __VA_ARGS__ } })

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

/* ---- transparency log entries: the log's promise (SET) over a body that we choose ---- */
struct entry { const char *signature64, *content; EVP_PKEY *key, *log; const char *hash_hex, *kind; int64_t time; };

static const char *entry_of(struct entry entry)
{
        char hex[DIGEST_TEXT_BYTES], log_hex[DIGEST_TEXT_BYTES];
        struct digest digest;
        const char *pem = keep(rig_pem(entry.key));
        digest_sha256(entry.content, strlen(entry.content), &digest);
        digest_format_hex(&digest, hex);
        digest_format_hex(trust_keys_get_fingerprint(log_keys, 0), log_hex);
        const char *body = FORMAT("{\"apiVersion\":\"0.0.1\",\"kind\":\"%s\",\"spec\":{\"data\":{\"hash\":{\"algorithm\":\"sha256\",\"value\":\"%s\"}},\"signature\":{\"content\":\"%s\","
                                  "\"publicKey\":{\"content\":\"%s\"}}}}", entry.kind ? entry.kind : "hashedrekord", entry.hash_hex ? entry.hash_hex : hex, entry.signature64, base64_of(pem, strlen(pem)));
        const char *body64 = base64_of(body, strlen(body));
        const char *promised = FORMAT("{\"body\":\"%s\",\"integratedTime\":%lld,\"logID\":\"%s\",\"logIndex\":7}", body64, (long long)entry.time, log_hex);
        return FORMAT("{\"SignedEntryTimestamp\":\"%s\",\"Payload\":%s}", signed64(entry.log ? entry.log : log_key, promised), promised);
}

static void logged(const char *name, struct entry entry, const char *payload, const char *signature, bool good)
{
        struct trust_evidence evidence = simple_of(payload, signature);
        struct options options = WITH(.rekor_keys = log_keys);
        evidence.log_entry = entry_of(entry);
        if (judge_with(options, &image, &evidence) != good)
                fail_msg("%s: %s", name, failure.text);
        if (good)
                assert_int_equal(proof.logged_s, entry.time);
        else
                assert_int_equal(failure.reason, TRUST_NO_LOG_ENTRY);
}

static void log_entry_bound_to_signature_key_and_content(const char *name)
{
        const char *payload = payload_of(image_hex, "host/x", "null"), *signature = signed64(ours, payload), *another = signed64(ours, payload), *foreign = signed64(theirs, payload);
        struct entry good = { signature, payload, ours, NULL, NULL, NULL, 1657296609 }, bad = good;
        logged(name, good, payload, signature, true);
        assert_string_not_equal(signature, another);
        bad.signature64 = another;                         /* same key, same content, another signature */
        logged(name, bad, payload, signature, false);
        bad = good;
        bad.key = theirs;
        logged(name, bad, payload, signature, false);
        bad = good;
        bad.content = payload_of(other_hex, "host/x", "null");
        logged(name, bad, payload, signature, false);
        bad = (struct entry){ foreign, payload, theirs, NULL, NULL, NULL, 5 };     /* a whole entry of someone else */
        logged(name, bad, payload, signature, false);
        bad = good;
        bad.log = theirs;                                  /* promised by nobody's log */
        logged(name, bad, payload, signature, false);
        bad = good;
        bad.kind = "rekord";
        logged(name, bad, payload, signature, false);
}

static void cve_2022_23649_log_entry_of_someone_else(void **state)
{
        (void)state;
        log_entry_bound_to_signature_key_and_content("CVE-2022-23649");
}

/* The bundle of one blob beside the signature of another; and an entry that was changed after it was promised. */
static void cve_2022_36056_log_entry_of_another_blob(void **state)
{
        (void)state;
        const char *payload = payload_of(image_hex, "host/x", "null"), *signature = signed64(ours, payload);
        const char *entry = entry_of((struct entry){ signature, payload, ours, NULL, NULL, NULL, 99 }), *other = entry_of((struct entry){ signature, "another blob", ours, NULL, NULL, NULL, 99 });
        struct trust_evidence evidence = simple_of(payload, signature);
        evidence.log_entry = other;
        assert_missed(WITH(.rekor_keys = log_keys), &image, &evidence, TRUST_NO_LOG_ENTRY);
        char *backdated = FORMAT("%s", entry);
        memcpy(strstr(backdated, "\"integratedTime\":99") + 17, "11", 2);
        evidence.log_entry = backdated;
        assert_missed(WITH(.rekor_keys = log_keys), &image, &evidence, TRUST_NO_LOG_ENTRY);
        evidence.log_entry = entry;
        assert_proved(WITH(.rekor_keys = log_keys), &image, &evidence);
        evidence.log_entry = NULL;
        assert_missed(WITH(.rekor_keys = log_keys), &image, &evidence, TRUST_NO_LOG_ENTRY);
        evidence.log_entry = "{}";
        assert_missed(WITH(.rekor_keys = log_keys), &image, &evidence, TRUST_NO_LOG_ENTRY);
        assert_proved(PLAIN, &image, &evidence);           /* no log is asked for: nothing is read, nothing is claimed */
        assert_int_equal(proof.logged_s, 0);
}

/* cosign compared the hash of the body only if there was one; gitsign (CVE-2024-51746) took any entry that a search gave. */
static void cve_2026_22703_log_entry_without_a_binding(void **state)
{
        (void)state;
        const char *payload = payload_of(image_hex, "host/x", "null"), *signature = signed64(ours, payload);
        logged("empty hash", (struct entry){ signature, payload, ours, NULL, "", NULL, 5 }, payload, signature, false);
        logged("other hash", (struct entry){ signature, payload, ours, NULL, other_hex, NULL, 5 }, payload, signature, false);
        logged("empty signature", (struct entry){ "", payload, ours, NULL, NULL, NULL, 5 }, payload, signature, false);
}

static void cve_2024_51746_any_log_entry_that_was_found(void **state)
{
        (void)state;
        log_entry_bound_to_signature_key_and_content("CVE-2024-51746");
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

/* ---- wasm: K7 and K8 of section 13, by the library ---- */
#define K8 "0061736d01000000009601097369676e6174757265010101018601027530b07c97d5f8b32b3bc364867e3485f06c06b3c5cb98868e610305c316ed4762fb2e4c7a843097a1aa31aa8e1a4f6ed2150601b0889dbed7ca3a537d165ff20143000140" \
           "cd8bec8c12704fe83130ad3aedf558a03d8cb731ce45b0bb36d472f79ef9ea802cf8b5067e36e6c218d6d8c925469075115183aa31377da37defe6ad039010050104016000000024137369676e61747572655f64656c696d697465725f9698044c" \
           "233f4e01be93d907b461cb0004016101020024137369676e61747572655f64656c696d6974657224ab6a4cb4c0bd9021c892e55cc1a283"
enum { K8_SECTION_BYTES = 153 };                          /* its signature section: id, two bytes of length, 150 */

static void module_judged(const char *name, const struct rig_bytes *module, bool good, enum trust_reason reason)
{
        struct trust_target target = file_of(module->data, module->size, TRUST_TARGET_MODULE);
        struct trust_evidence evidence = { .form = TRUST_FORM_EMBEDDED };
        if (judge_with((struct options){ .keys = edwards_keys }, &target, &evidence) != good || (!good && failure.reason != reason))
                fail_msg("%s: %s %s", name, failure.reason < TRUST_REASONS ? trust_reason_names[failure.reason] : "", failure.text);
}

static void wasm_module_cut_at_a_delimiter(void **state)
{
        (void)state;
        struct rig_bytes module = rig_hex(K8);
        module_judged("K8", &module, true, 0);
        assert_string_equal(proof.format, "wasm-embedded");
        module.size -= 44;
        module_judged("K8 (a)", &module, false, TRUST_TRUNCATED_MODULE);
}

static void wasm_section_appended(void **state)
{
        (void)state;
        struct rig_bytes module = rig_hex(K8), more = rig_hex("0008046576696c060606");
        memcpy(module.data + module.size, more.data, more.size);
        module.size += more.size;
        module_judged("K8 (b)", &module, false, TRUST_OTHER_DIGEST);
}

static void wasm_signature_section_moved(void **state)
{
        (void)state;
        struct rig_bytes module = rig_hex(K8), body = rig_hex("010401600000000401610102");
        memcpy(module.data + 8 + K8_SECTION_BYTES, body.data, body.size);
        module.size = 8 + K8_SECTION_BYTES + body.size;
        module_judged("K8 (c)", &module, false, TRUST_OTHER_DIGEST);
}

static void wasm_header_swapped_for_a_component(void **state)
{
        (void)state;
        struct rig_bytes module = rig_hex(K8);
        memcpy(module.data + 4, "\x0d\0\1\0", 4);
        module_judged("K8 (d)", &module, false, TRUST_MALFORMED);
}

/* The finder takes the first by name, the hasher what follows the first section: both must be the same. */
static void wasm_two_signature_sections(void **state)
{
        (void)state;
        struct rig_bytes module = rig_hex(K8), twice = module;
        memcpy(twice.data + module.size, module.data + 8, K8_SECTION_BYTES);
        twice.size = module.size + K8_SECTION_BYTES;
        module_judged("K8 (e), last", &twice, false, TRUST_MALFORMED);
        memcpy(twice.data + 8 + K8_SECTION_BYTES, module.data + 8, module.size - 8);
        module_judged("K8 (e), second", &twice, false, TRUST_MALFORMED);
        struct rig_bytes shadowed = { .size = 8 + 3 };     /* another custom section first, then the signature */
        memcpy(shadowed.data, module.data, 8);
        memcpy(shadowed.data + 8, "\0\1\0", 3);
        memcpy(shadowed.data + 11, module.data + 8, module.size - 8);
        shadowed.size = module.size + 3;
        module_judged("shadowed", &shadowed, false, TRUST_NOT_ACCEPTED);
}

/* Bytes are verified as they came: nothing is re-encoded, trimmed or made canonical first. */
static void cve_2026_44309_normalised_bytes(void **state)
{
        (void)state;
        const char *payload = payload_of(image_hex, "host/x", "null"), *signature = signed64(ours, payload), *statement = statement_of(SIGN, subject_of(image_hex));
        const char *changed[] = { FORMAT("%s\n", payload), FORMAT(" %s", payload), FORMAT("{ %s", payload + 1) };
        for (size_t i = 0; i < COUNT_OF(changed); i++) {
                struct trust_evidence evidence = simple_of(changed[i], signature);
                assert_missed(PLAIN, &image, &evidence, TRUST_OTHER_KEY);
                struct trust_evidence again = simple_signed(ours, changed[i]);     /* signed so, it is as good */
                assert_proved(PLAIN, &image, &again);
        }
        struct trust_evidence spaced = bundle_of((struct dsse){ .payload = FORMAT("%s ", statement), .signature = signed64(ours, pae_of(IN_TOTO, statement)) });
        assert_missed(PLAIN, &image, &spaced, TRUST_OTHER_KEY);
}

/* ---- RFC 6962: a log of our own, with a checkpoint ---- */
struct tree { int64_t index, size; size_t hashes; bool cut_note; };

static bool included(struct tree tree)
{
        const char *statement = statement_of(SIGN, subject_of(image_hex)), *pae = pae_of(IN_TOTO, statement), *signature = signed64(ours, pae), *pem = keep(rig_pem(ours));
        char pae_hex[DIGEST_TEXT_BYTES];
        struct digest digest, leaf;
        digest_sha256(pae, strlen(pae), &digest);
        digest_format_hex(&digest, pae_hex);
        const char *body = FORMAT("{\"apiVersion\":\"0.0.1\",\"kind\":\"hashedrekord\",\"spec\":{\"data\":{\"hash\":{\"algorithm\":\"sha256\",\"value\":\"%s\"}},\"signature\":{\"content\":\"%s\","
                                  "\"publicKey\":{\"content\":\"%s\"}}}}", pae_hex, signature, base64_of(pem, strlen(pem)));
        char *prefixed = FORMAT("_%s", body);
        prefixed[0] = '\0';
        digest_sha256(prefixed, strlen(body) + 1, &leaf);  /* a tree of one leaf: its hash is the root */
        const char *root = base64_of(leaf.bytes, 32), *log_id = base64_of(trust_keys_get_fingerprint(log_keys, 0)->bytes, 32);
        const char *note = FORMAT("log.example - 1\n%lld\n%s\n", (long long)tree.size, root);
        struct rig_bytes line = rig_sign(log_key, "SHA256", false, SPAN(note, strlen(note)));
        memmove(line.data + 4, line.data, line.size);
        memcpy(line.data, trust_keys_get_fingerprint(log_keys, 0)->bytes, 4);
        char *envelope = FORMAT("%s\\n\xe2\x80\x94 log.example %s\\n", FORMAT("log.example - 1\\n%lld\\n%s\\n", (long long)tree.size, root), base64_of(line.data, line.size + 4));
        if (tree.cut_note)
                strstr(envelope, "log.example ")[3] = '-';
        const char *hashes = tree.hashes == 0 ? "" : FORMAT("\"%s\"", root);
        struct trust_evidence evidence = bundle_of((struct dsse){ .payload = statement, .signature = signature,
                .material = FORMAT("\"publicKey\":{\"hint\":\"\"},\"tlogEntries\":[{\"logIndex\":\"9\",\"logId\":{\"keyId\":\"%s\"},\"kindVersion\":{\"kind\":\"hashedrekord\",\"version\":\"0.0.1\"},"
                                   "\"integratedTime\":\"5\",\"inclusionProof\":{\"logIndex\":\"%lld\",\"rootHash\":\"%s\",\"treeSize\":\"%lld\",\"hashes\":[%s],\"checkpoint\":{\"envelope\":\"%s\"}},"
                                   "\"canonicalizedBody\":\"%s\"}]", log_id, (long long)tree.index, root, (long long)tree.size, hashes, envelope, base64_of(body, strlen(body))) });
        bool good = judge_with(WITH(.rekor_keys = log_keys), &image, &evidence);
        if (!good)
                assert_int_equal(failure.reason, TRUST_NO_LOG_ENTRY);
        return good;
}

static void rfc6962_proof_edge_cases(void **state)
{
        (void)state;
        static const struct { struct tree tree; bool good; } rows[] = {
                { { 0, 1, 0, false }, true }, { { 0, 0, 0, false }, false }, { { 1, 1, 0, false }, false }, { { 5, 1, 0, false }, false }, { { 0, 1, 1, false }, false }, { { 0, 2, 0, false }, false },
                { { 1, 2, 0, false }, false }, { { 0, 2, 1, false }, false }, { { 0, INT64_MAX, 0, false }, false }, { { -1, 1, 0, false }, false }, { { 0, 1, 0, true }, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                if (included(rows[i].tree) != rows[i].good)
                        fail_msg("row %zu: %s", i, failure.text);
                if (rows[i].good)
                        assert_int_equal(proof.logged_s, 0);       /* a checkpoint does not say when */
        }
}

static void private_key_pasted_into_the_field(void **state)
{
        (void)state;
        BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        assert_int_equal(PEM_write_bio_PrivateKey(bio, ours, NULL, NULL, 0, NULL, NULL), 1);
        size_t size = (size_t)BIO_get_mem_data(bio, &text);
        struct trust_keys *none = NULL;
        struct error err = { 0 };
        assert_false(trust_keys_parse(text, size, "verificationKey", &none, &err));
        assert_int_equal(err.code, ERROR_BAD_KEY);
        assert_non_null(strstr(err.text, "private key"));
        for (const char *line = memchr(text, '\n', size); line && line + 8 < text + size; line = memchr(line + 1, '\n', (size_t)(text + size - line - 1)))
                assert_null(memmem(err.text, strlen(err.text), line + 1, 8));
        BIO_free(bio);
}

#define ROW(name) cmocka_unit_test_teardown(name, empty_pool)

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(cve_2023_33959_signature_for_another_artifact), ROW(toctou_tag_moved_between_verify_and_pull), ROW(reuse_in_another_repository), ROW(cve_2024_23332_rollback_to_an_old_signed_build),
                ROW(downgrade_by_stripping_signatures), ROW(cve_2022_23649_log_entry_of_someone_else), ROW(cve_2022_36056_log_entry_of_another_blob), ROW(cve_2026_22703_log_entry_without_a_binding),
                ROW(cve_2024_51746_any_log_entry_that_was_found), ROW(ghsa_fx35_mq7g_6g98_key_taken_from_the_bundle), ROW(cve_2022_35929_attestation_of_another_type),
                ROW(cve_2022_35930_attestation_without_a_predicate_check), ROW(cve_2026_39395_unparsable_signed_payload), ROW(cve_2023_46737_endless_signatures), ROW(cve_2024_29902_huge_payloads),
                ROW(cve_2024_45395_endless_subjects), ROW(cve_2026_24122_certificates_and_times_are_never_half_used), ROW(cve_2021_41190_index_and_manifest_in_one), ROW(json_duplicates_and_case_folding),
                ROW(dsse_payload_type_swap), ROW(algorithm_and_key_confusion), ROW(cross_protocol_replay), ROW(unsigned_index_with_signed_children), ROW(wasm_module_cut_at_a_delimiter),
                ROW(wasm_section_appended), ROW(wasm_signature_section_moved), ROW(wasm_header_swapped_for_a_component), ROW(wasm_two_signature_sections), ROW(cve_2026_44309_normalised_bytes),
                ROW(rfc6962_proof_edge_cases), ROW(private_key_pasted_into_the_field),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
