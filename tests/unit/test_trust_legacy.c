/* Legacy bundles of cosign beside a file: with and without an entry of a log. */
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include "trust_sidecar_rig.h"

/* ---- legacy bundles ---- */
static struct judged legacy_of(struct bytes body, const struct trust_keys *keys)
{
        return (struct judged){ .form = TRUST_FORM_SIDECAR_LEGACY, .kind = TRUST_TARGET_FILE, .target = files[0].bytes, .body = body, .keys = keys, .formats = LEGACY };
}

/* `format` has one %s for the base64 of the signature. */
static struct bytes legacy_make(const char *format, struct bytes signature)
{
        CLEANUP(cleanup_free) char *base64 = base64_encode(signature.data, signature.size);
        const char *place = strstr(format, "%s");
        struct bytes text = bytes_of(format, place ? (size_t)(place - format) : strlen(format));
        if (place) {
                bytes_add(&text, base64, strlen(base64));
                bytes_add(&text, place + 2, strlen(place + 2));
        }
        return text;
}

static void test_legacy(void **state)
{
        (void)state;
        static const struct { const char *format; int expected; } rows[] = {
                { "{\"base64Signature\":\"%s\"}",                                               PROVED },
                { " {\"cert\":\"\",\"rekorBundle\":null,\"base64Signature\":\"%s\"}\n",          PROVED },
                { "{\"base64Signature\":\"%s\",\"cert\":\"LS0tLS1CRUdJTg==\",\"x\":[1]}",       PROVED },
                { "{\"base64Signature\":\"%s\",\"rekorBundle\":{\"SignedEntryTimestamp\":\"x\"}}", PROVED },
                { "{\"base64Signature\":\"%s\",\"base64Signature\":\"AAAA\"}",                  TRUST_MALFORMED },
                { "{\"base64Signature\":\"%s\"}{}",                                             TRUST_MALFORMED },
                { "{\"base64Signature\":[\"%s\"]}",                                             TRUST_MALFORMED },
                { "{\"base64Signature\":\"%s\",\"rekorBundle\":7}",                             TRUST_MALFORMED },
                { "{\"Base64Signature\":\"%s\"}",                                               TRUST_MALFORMED },
                { "{\"base64Signature\":\" %s\"}",                                              TRUST_MALFORMED },
                { "{\"base64Signature\":\"\"}",                                                 TRUST_MALFORMED },
                { "[{\"base64Signature\":\"%s\"}]",                                             TRUST_MALFORMED },
                { "\"%s\"",                                                                     TRUST_MALFORMED },
                { "%s",                                                                         TRUST_MALFORMED },
                { "",                                                                           TRUST_MALFORMED },
                { "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"base64Signature\":\"%s\"}", TRUST_NOT_ACCEPTED },
        };
        BYTES signature = sign_file(&kinds[P256], files[0].bytes);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = legacy_make(rows[i].format, signature);
                struct judged judged = legacy_of(body, kinds[P256].keys);
                expect(rows[i].format, &judged, rows[i].expected);
                if (rows[i].expected != PROVED)
                        continue;
                assert_string_equal(last_proof.format, "legacy-bundle");
                judged.keys = kinds[OTHER].keys;
                expect("another key", &judged, TRUST_OTHER_KEY);
                judged.keys = kinds[P256].keys;
                judged.target = files[1].bytes;
                expect("another file", &judged, TRUST_OTHER_KEY);
                judged.kind = TRUST_TARGET_MODULE;
                expect("of the module", &judged, TRUST_NOT_ACCEPTED);
                judged = legacy_of(body, kinds[P256].keys);
                judged.formats = TRUST_FORMATS_DEFAULT;
                expect("off by default", &judged, TRUST_NOT_ACCEPTED);
                judged = legacy_of(body, kinds[P256].keys);
                struct trust_policy_options options = { .formats = LEGACY, .identity = TRUST_IDENTITY_REPOSITORY };
                const struct trust_annotation annotation = { "env", "prod" };
                judged.options = &options;
                expect("identity", &judged, TRUST_IDENTITY);
                options = (struct trust_policy_options){ .formats = LEGACY, .annotations = &annotation, .annotation_count = 1 };
                expect("annotations", &judged, TRUST_ANNOTATION);
                options = (struct trust_policy_options){ .formats = LEGACY, .rekor_keys = kinds[OTHER].keys };
                assert_int_not_equal(judge(&judged), PROVED);
        }
}

/* A bundle that cannot be read is told from one that lacks something. */
static void test_legacy_texts(void **state)
{
        (void)state;
        static const struct { const char *text, *says; } rows[] = {
                { "",                                              "here: the legacy bundle: JSON line 1, column " },
                { "{\"base64Signature\":\"AAAA\"",                 "here: the legacy bundle: JSON line 1, column " },
                { "{\"base64Signature\":[\"AAAA\"]}",              "here: the legacy bundle: member \"base64Signature\" must be of type " },
                { "{\"base64Signature\":\"AAAA\",\"rekorBundle\":7}", "here: the legacy bundle: member \"rekorBundle\" must be of type " },
                { "{\"Base64Signature\":\"AAAA\"}",                "here: the legacy bundle has no \"base64Signature\"" },
                { "{\"base64Signature\":null}",                    "here: the legacy bundle has no \"base64Signature\"" },
                { "{\"base64Signature\":\"\"}",                    "here: the legacy bundle: \"base64Signature\" is not the base64 of a signature" },
                { "{\"base64Signature\":\"AAA\"}",                 "here: the legacy bundle: \"base64Signature\" is not the base64 of a signature" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                BYTES body = bytes_of(rows[i].text, strlen(rows[i].text));
                struct judged judged = legacy_of(body, kinds[P256].keys);
                expect(rows[i].text, &judged, TRUST_MALFORMED);
                if (strncmp(last_failure.text, rows[i].says, strlen(rows[i].says)) != 0)
                        fail_msg("%s: \"%s\" does not begin with \"%s\"", rows[i].text, last_failure.text, rows[i].says);
        }
}

/* A legacy bundle with an entry of the log `kinds[OTHER]` about a signature by kinds[P256]; `by` is the key that the entry names. */
static struct bytes logged_make(struct bytes file, const struct kind *by, int64_t time)
{
        BYTES signature = sign_file(&kinds[P256], file);
        struct digest digest;
        char hash[DIGEST_TEXT_BYTES], log_id[DIGEST_TEXT_BYTES];
        digest_sha256(file.data, file.size, &digest);
        digest_format_hex(&digest, hash);
        digest_format_hex(trust_keys_get_fingerprint(kinds[OTHER].keys, 0), log_id);
        CLEANUP(cleanup_free) char *pem = pem_of(by->key);
        CLEANUP(cleanup_free) char *key = base64_encode(pem, strlen(pem));
        CLEANUP(cleanup_free) char *text = base64_encode(signature.data, signature.size);
        CLEANUP(cleanup_free) char *entry = string_format("{\"apiVersion\":\"0.0.1\",\"kind\":\"hashedrekord\",\"spec\":{\"data\":{\"hash\":{\"algorithm\":\"sha256\",\"value\":\"%s\"}},"
                "\"signature\":{\"content\":\"%s\",\"publicKey\":{\"content\":\"%s\"}}}}", hash, text, key);
        CLEANUP(cleanup_free) char *body = base64_encode(entry, strlen(entry));
        CLEANUP(cleanup_free) char *payload = string_format("{\"body\":\"%s\",\"integratedTime\":%lld,\"logID\":\"%s\",\"logIndex\":7}", body, (long long)time, log_id);
        BYTES stamp = sign_with(&kinds[OTHER], "SHA256", false, (struct bytes){ (uint8_t *)payload, strlen(payload) });
        CLEANUP(cleanup_free) char *stamp_text = base64_encode(stamp.data, stamp.size);
        CLEANUP(cleanup_free) char *bundle = string_format("{\"base64Signature\":\"%s\",\"cert\":\"\",\"rekorBundle\":{\"SignedEntryTimestamp\":\"%s\",\"Payload\":%s}}", text, stamp_text, payload);
        return bytes_of(bundle, strlen(bundle));
}

/* The entry of the log counts where one is demanded, and is bound to signature, key and file. */
static void test_legacy_logged(void **state)
{
        (void)state;
        struct trust_policy_options options = { .formats = LEGACY, .rekor_keys = kinds[OTHER].keys };
        BYTES body = logged_make(files[0].bytes, &kinds[P256], 1700000000), other_key = logged_make(files[0].bytes, &kinds[P384], 1700000000);
        BYTES bare = bytes_of("{}", 2), signature = sign_file(&kinds[P256], files[0].bytes), unlogged = legacy_make("{\"base64Signature\":\"%s\"}", signature);
        struct judged judged = legacy_of(body, kinds[P256].keys);

        judged.options = &options;
        expect("logged", &judged, PROVED);
        assert_int_equal(last_proof.logged_s, 1700000000);
        judged.body = unlogged;
        expect("no entry", &judged, TRUST_NO_LOG_ENTRY);
        judged.body = other_key;
        assert_int_not_equal(judge(&judged), PROVED);
        judged.body = bare;
        expect("no signature", &judged, TRUST_MALFORMED);
        judged.body = body;
        options.rekor_keys = kinds[P384].keys;
        assert_int_not_equal(judge(&judged), PROVED);
        judged.options = NULL;
        expect("no log is demanded, and none is claimed", &judged, PROVED);
        assert_int_equal(last_proof.logged_s, 0);
}

/* GHSA-fx35-mq7g-6g98: a key or certificate in `cert` took the place of the one that was asked for. */
static void test_ghsa_fx35_mq7g_6g98_key_in_cert(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *pem = pem_of(kinds[OTHER].key);
        CLEANUP(cleanup_free) char *cert = base64_encode(pem, strlen(pem));
        CLEANUP(cleanup_free) char *format = string_format("{\"base64Signature\":\"%%s\",\"cert\":\"%s\"}", cert);
        BYTES signature = sign_file(&kinds[OTHER], files[0].bytes), body = legacy_make(format, signature);
        struct judged judged = legacy_of(body, kinds[P256].keys);
        expect("the attacker's key in cert", &judged, TRUST_OTHER_KEY);
        judged.keys = kinds[OTHER].keys;
        expect("asked for that key", &judged, PROVED);
}

/* A signature over something that is no module is not taken from a bundle either. */
static void test_legacy_shape(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                BYTES signature = sign_file(&kinds[P256], files[i].bytes), body = legacy_make("{\"base64Signature\":\"%s\"}", signature);
                struct judged judged = legacy_of(body, kinds[P256].keys);
                judged.target = files[i].bytes;
                expect(files[i].what, &judged, files[i].has_shape ? PROVED : TRUST_WRONG_TYPE);
        }
}

static void test_legacy_size(void **state)
{
        (void)state;
        struct bytes large = { memory_new((1 << 20) + 1, 1), (1 << 20) + 1 };
        memset(large.data, ' ', large.size);
        struct judged judged = legacy_of(large, kinds[P256].keys);
        expect("1 MiB and a byte", &judged, TRUST_LIMIT);
        bytes_fini(&large);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_legacy), cmocka_unit_test(test_legacy_texts), cmocka_unit_test(test_legacy_logged), cmocka_unit_test(test_ghsa_fx35_mq7g_6g98_key_in_cert),
                cmocka_unit_test(test_legacy_shape), cmocka_unit_test(test_legacy_size),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
