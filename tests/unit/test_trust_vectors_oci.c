/* Known answers (section 13: K1 to K6, K13, and two of sigstore-conformance): taken as they are; refused with any bit flipped in key, payload, signature or digest, cut, or longer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "trust_data_rig.h"
#include "../../agent/trust/rekor.h"

#define K1_KEY "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNLqFhf4fiN6o/glAuYnq2jYUeL0vRuLu/z39pmbVwS9ff5AYnlwaP9sxREajdLY9ynM6G1sy6AAmb7Z63TsLg=="
#define K1_DIGEST "sha256:634a8f35b5f16dcf4aaa0822adc0b1964bb786fca12f6831de8ddc45e5986a00"
#define K4_KEY "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvM/dHoi6nSy7hbKHLYUrXy6Bv35JbdoIzny5vSFiRXApr0KS56U8PugdGmh+vd7H8YNlx2YOJxzv02BlsrcmWDZcXjE3Xpsi/IHFfRZLOdwwR+u8MNFxwRUVzxyIzKGtbREVVfXPfb2X" \
               "c6FL5/tEvQtUKuR6XdzSaav2RnV5IybCB09s0Np0AUbdi5EfSe4INuqgY+VFYLjvM5onbAQLN3bFLS4Quk66Dhv93Zi6NwopwL1F07UPC5uadkyePStP3PA0OAOemj9vZADOWx5adsGCKISs8iphNC5mDVoLy8Ry49Ms3eQXRjVQOMco3YNf8AhsIdxD" \
               "NBVN8VTDKVkEDwIDAQAB"
#define K3_LOG "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE2G2Y+2tabdTV5BcGiBIx0a9fAFwrkBbmLSGtks4L3qX6yYY0zufBnhC8Ur/iy55GhWP/9A/bY2LhC30M9+RYtw=="

/* A classic payload, its signature and what it is for. */
struct classic { const char *name, *key, *payload, *signature, *digest, *algorithm; };
static const struct classic classics[] = {
        { "K1", K1_KEY, "{\"critical\":{\"identity\":{\"docker-reference\":\"192.168.64.2:5000/cosign-signed-single-sample\"},\"image\":{\"docker-manifest-digest\":\"" K1_DIGEST "\"},"
                        "\"type\":\"cosign container image signature\"},\"optional\":null}",
          "MEYCIQDmtamqYPjMg81nqeBhptrPls44aA/r7PwLmspINJY4MwIhANKRpqe2E9UCBtGFdPoz/8jAbaQm4uP4h+IpwKTE6ClR", K1_DIGEST, "ECDSA P-256 SHA-256" },
        { "K2", K1_KEY, "{\"critical\":{\"identity\":{\"docker-reference\":\"192.168.64.2:5000/skopeo-signed:tag\"},\"image\":{\"docker-manifest-digest\":\"" K1_DIGEST "\"},"
                        "\"type\":\"cosign container image signature\"},\"optional\":{\"creator\":\"containers/image 5.21.2-dev\",\"timestamp\":1657296609}}",
          "MEUCIAhoI92AgO+sWjr6N+QjEDQE9Wwg1oaDDcaJIlALUqRlAiEA9+iphb/7b5T13Wy7KnlXMUM17uYTgEkUl97pu3GD/5M=", K1_DIGEST, "ECDSA P-256 SHA-256" },
        { "K4", K4_KEY, "{\"critical\":{\"identity\":{\"docker-reference\":\"registry.suse.com/suse/sle-micro/5.0/toolbox\"},"
                        "\"image\":{\"docker-manifest-digest\":\"sha256:356631f7603526a0af827741f5fe005acf19b7ef7705a34241a91c2d47a6db5e\"},\"type\":\"cosign container image signature\"},\"optional\":{\"creator\":\"OBS\"}}",
          "umasnfYJyLbYPjiq1wIy086Ns+CrgiMoQUSGqPqlUmtWsY0hbngJ73hPfJFrppviPKdBeuUiiwgKagBKIXLEXjwxQp4eE3szwqkKoAnR/lByb7ahLgVQ4MB6xDQaHD53MYtj7aOvd4O7FqJltVVjEn7nM/Du2tL5y3jf6lD7VfHZE8uRocRlyppt8SfTc5L12mVlZ0YlfKYkd334A4y/"
          "reCy3Yws0j356Wj7GLScMU5uR11Y2y41rSyYm5uXhTerwNFXsRcPMAmenMarCdCmt4Lf4wpcJBCU172xiK+rIhbMgkLjjA772+auSYf1E8CySVah5CD0Td5YC3y8vIIYaA==",
          "sha256:356631f7603526a0af827741f5fe005acf19b7ef7705a34241a91c2d47a6db5e", "RSA PKCS#1 v1.5 SHA-256" },
};

static struct rig_verdict classic_judge(const struct trust_keys *keys, struct span payload, struct span signature, const struct digest *digest)
{
        CLEANUP(cleanup_free) char *encoded = base64_encode(signature.bytes, signature.size_bytes);
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST, .digest = *digest };
        struct trust_evidence evidence = { .form = TRUST_FORM_SIMPLE, .body = payload.bytes, .body_bytes = payload.size_bytes, .signature = encoded };
        return rig_judge(keys, NULL, &target, &evidence);
}

static void expect_classic(const struct trust_keys *keys, struct span payload, struct span signature, const struct digest *digest, bool is_good, const char *what)
{
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = classic_judge(keys, payload, signature, digest);
        if (verdict.is_good != is_good)
                fail_msg("%s: %s", what, is_good ? verdict.failure.text : "taken");
}

/* Keys of changed bytes: most are no keys any more, the others must not fit. */
static void expect_no_key(struct span spki, struct span payload, struct span signature, const struct digest *digest, const char *what)
{
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        struct error err;
        if (key_from_spki(spki, "key", &keys, &err))
                expect_classic(keys, payload, signature, digest, false, what);
}

/* One bit of each byte, another one each time; each length that is shorter; one byte more. */
static void flips(const struct classic *row, const struct trust_keys *keys, struct rig_bytes *bytes, int part, struct span others[3], const struct digest *digest)
{
        size_t size = bytes->size;
        for (size_t i = 0; i <= size + 1; i++) {
                struct rig_bytes changed = *bytes;
                if (i < size)
                        changed.data[i] ^= (uint8_t)(1u << i % 8);
                else
                        changed.size = i == size ? size - 1 : size + 1;
                others[part] = rig_span(&changed);
                if (part == 0)
                        expect_no_key(others[0], others[1], others[2], digest, row->name);
                else
                        expect_classic(keys, others[1], others[2], digest, false, row->name);
        }
        for (size_t cut = 0; cut < size; cut += 7) {
                struct rig_bytes changed = *bytes;
                changed.size = cut;
                others[part] = rig_span(&changed);
                if (part == 0)
                        expect_no_key(others[0], others[1], others[2], digest, row->name);
                else
                        expect_classic(keys, others[1], others[2], digest, false, row->name);
        }
        others[part] = rig_span(bytes);
}

static void test_classics(void **state)
{
        (void)state;
        for (size_t k = 0; k < COUNT_OF(classics); k++) {
                const struct classic *row = &classics[k];
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki(row->key);
                struct rig_bytes parts[3] = { rig_base64(row->key), { .size = strlen(row->payload) }, rig_base64(row->signature) };
                memcpy(parts[1].data, row->payload, parts[1].size);
                struct span spans[3] = { rig_span(&parts[0]), rig_span(&parts[1]), rig_span(&parts[2]) };
                struct digest digest;
                struct error err;
                assert_true(digest_parse(row->digest, strlen(row->digest), ERROR_INTERNAL, &digest, &err));
                CLEANUP(rig_verdict_fini) struct rig_verdict verdict = classic_judge(keys, spans[1], spans[2], &digest);
                rig_expect(&verdict, RIG_GOOD, "", row->name);
                assert_string_equal(verdict.proof.algorithm, row->algorithm);
                for (int part = 0; part < 3; part++)
                        flips(row, keys, &parts[part], part, spans, &digest);
                for (size_t i = 0; i < DIGEST_SHA256_BYTES; i++) {
                        struct digest other = digest;
                        other.bytes[i] ^= (uint8_t)(1u << i % 8);
                        CLEANUP(rig_verdict_fini) struct rig_verdict refused = classic_judge(keys, spans[1], spans[2], &other);
                        rig_expect(&refused, TRUST_OTHER_DIGEST, "valid signature by this key, but for sha256:", row->name);
                }
        }
}

/* ---- logs ---- */

/* Changes each character between the first `"member":` behind `after` and the end of its value, one at a time; calls `refused` for each. */
static void each_change(const char *text, const char *after, const char *member, void (*refused)(const char *text, const char *member, void *context), void *context)
{
        CLEANUP(cleanup_free) char *changed = string_copy(text), *key = string_format("\"%s\":", member);
        const char *from = strstr(strstr(text, after), key);
        assert_non_null(from);
        from += strlen(key);
        size_t start = (size_t)(from - text) + strspn(from, " \""), length = strcspn(text + start, "\",}]");
        assert_true(length > 0);
        for (size_t i = start; i < start + length; i++) {
                char kept = changed[i];
                if (kept == '\\')
                        i++;
                kept = changed[i];
                changed[i] = (char)(kept == 'A' ? 'B' : kept == '1' ? '2' : kept >= '0' && kept <= '9' ? '1' : 'A');
                if (changed[i] == kept)
                        continue;
                refused(changed, member, context);
                changed[i] = kept;
        }
}

/* K3: classic with a promise of the public log. */
struct k3 { struct trust_keys *keys, *logs; struct trust_target target; const char *payload, *signature; };

static struct rig_verdict k3_judge(const struct k3 *k3, const char *entry)
{
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = k3->logs };
        struct trust_evidence evidence = rig_simple_evidence(k3->payload, k3->signature);
        evidence.log_entry = entry;
        return rig_judge(k3->keys, &options, &k3->target, &evidence);
}

static void k3_refused(const char *entry, const char *member, void *context)
{
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = k3_judge(context, entry);
        rig_expect(&verdict, TRUST_NO_LOG_ENTRY, "", member);
}

static void test_k3(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *data = rig_data("vectors.json");
        const struct value *vector = value_get_member(data, "k3");
        struct k3 k3 = { .keys = rig_parse(rig_text(vector, "key")), .logs = rig_spki(K3_LOG), .payload = rig_text(vector, "payload"), .signature = rig_text(vector, "signature"),
                         .target = { .kind = TRUST_TARGET_MANIFEST } };
        const char *entry = rig_text(vector, "log_entry");
        struct digest payload;
        char hex[DIGEST_TEXT_BYTES];
        digest_sha256(k3.payload, strlen(k3.payload), &payload);
        digest_format_hex(&payload, hex);
        assert_string_equal(hex, "5f410774769a2edd4cd1ee36072223018ac93495c968a442d4208da5ca753f37");
        digest_format_hex(trust_keys_get_fingerprint(k3.logs, 0), hex);
        assert_string_equal(hex, "c0d23d6ad406973f9559f3ba2d1ca01f84147d8ffc5b8445c224f98b9591801d");
        assert_true(digest_parse_hex("0489474da8ea22426ece86ace6c1c0026ab2fd3cdfbbd62b7e94650266c37d9a", &k3.target.digest));
        CLEANUP(rig_verdict_fini) struct rig_verdict good = k3_judge(&k3, entry), none = k3_judge(&k3, NULL);
        rig_expect(&good, RIG_GOOD, "", "K3");
        assert_int_equal(good.proof.logged_s, 1674251859);
        rig_expect(&none, TRUST_NO_LOG_ENTRY, "one is required", "K3 without entry");
        static const char *const members[] = { "SignedEntryTimestamp", "body", "integratedTime", "logIndex", "logID" };
        for (size_t i = 0; i < COUNT_OF(members); i++)
                each_change(entry, "{", members[i], k3_refused, &k3);
        trust_keys_unref(&k3.logs);
        k3.logs = rig_spki(K1_KEY);
        CLEANUP(rig_verdict_fini) struct rig_verdict foreign = k3_judge(&k3, entry);
        rig_expect(&foreign, TRUST_NO_LOG_ENTRY, "is not one of the configured", "K3 with another log");
        trust_keys_unref(&k3.keys);
        trust_keys_unref(&k3.logs);
}

/* K5: a message signature with promise, proof and checkpoint of the public log; the same with a DSSE statement, intoto 0.0.2, in a log of one entry. */
struct logged_bundle { struct trust_keys *keys, *logs; struct trust_target target; const char *const *predicates; };

static struct rig_verdict logged_judge(const struct logged_bundle *rig, const char *text)
{
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = rig->logs, .predicates = rig->predicates };
        struct trust_evidence evidence = rig_bundle_evidence(text);
        evidence.form = TRUST_FORM_SIDECAR_BUNDLE;
        return rig_judge(rig->keys, &options, &rig->target, &evidence);
}

static void logged_refused(const char *text, const char *member, void *context)
{
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = logged_judge(context, text);
        if (verdict.is_good)
                fail_msg("%s changed, and taken: %s", member, text);
}

static struct trust_target file_target(const char *text)
{
        struct trust_target target = { .kind = TRUST_TARGET_FILE, .bytes = text, .size_bytes = strlen(text) };
        digest_sha256(text, strlen(text), &target.digest);
        return target;
}

static void test_k5(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *data = rig_data("vectors.json");
        const struct value *vector = value_get_member(data, "k5");
        const char *text = rig_text(vector, "bundle");
        struct logged_bundle rig = { rig_parse(rig_text(vector, "key")), rig_spki(K3_LOG), file_target(rig_text(vector, "file")), NULL };
        CLEANUP(rig_verdict_fini) struct rig_verdict good = logged_judge(&rig, text);
        rig_expect(&good, RIG_GOOD, "", "K5");
        assert_int_equal(good.proof.logged_s, 1766077479);
        assert_string_equal(good.proof.format, "sigstore-bundle");
        CLEANUP(cleanup_free) char *hint = base64_encode(good.proof.fingerprint.bytes, 32);
        assert_string_equal(hint, "TLMsSDfG3ajPsWge+z/vX5T/zluXnmvbkTkwLIV68Tk=");
        static const struct { const char *after, *member; } signed_parts[] = {
                { "tlogEntries", "logIndex" }, { "tlogEntries", "keyId" }, { "tlogEntries", "kind" }, { "tlogEntries", "version" }, { "tlogEntries", "integratedTime" }, { "tlogEntries", "signedEntryTimestamp" },
                { "inclusionProof", "logIndex" }, { "inclusionProof", "rootHash" }, { "inclusionProof", "treeSize" }, { "checkpoint", "envelope" }, { "tlogEntries", "canonicalizedBody" },
                { "messageSignature\"", "algorithm" }, { "messageSignature\"", "digest" }, { "messageSignature\"", "signature" },
        };
        for (size_t i = 0; i < COUNT_OF(signed_parts); i++)
                each_change(text, signed_parts[i].after, signed_parts[i].member, logged_refused, &rig);
        /* The hashes of the proof: one character in each. */
        CLEANUP(cleanup_free) char *changed = string_copy(text);
        for (char *at = strstr(changed, "\"hashes\":[") + 10; *at != ']'; at += strcspn(at, "]\"")) {
                at++;
                char kept = *at;
                *at = kept == 'A' ? 'B' : 'A';
                logged_refused(changed, "hashes", &rig);
                *at = kept;
                at += strcspn(at, "\"") + 1;
        }
        for (size_t length = 0; length < strlen(text); length += 97) {
                CLEANUP(cleanup_free) char *cut = string_copy_bytes(text, length);
                logged_refused(cut, "the whole", &rig);
        }
        CLEANUP(cleanup_free) char *longer = string_format("%s}", text), *other_file = string_format("%s ", rig_text(vector, "file"));
        logged_refused(longer, "the whole", &rig);
        rig.target = file_target(other_file);
        logged_refused(text, "nothing, but another file", &rig);
        trust_keys_unref(&rig.keys);
        trust_keys_unref(&rig.logs);
}

static void test_intoto(void **state)
{
        (void)state;
        static const char *const predicates[] = { "https://example.com/test", NULL };
        CLEANUP(value_free) struct value *data = rig_data("vectors.json");
        const struct value *vector = value_get_member(data, "intoto");
        const char *text = rig_text(vector, "bundle"), *file = rig_text(value_get_member(data, "k5"), "file");
        struct logged_bundle rig = { rig_parse(rig_text(vector, "key")), rig_parse(rig_text(vector, "log_key")), file_target(file), predicates };
        CLEANUP(rig_verdict_fini) struct rig_verdict good = logged_judge(&rig, text);
        rig_expect(&good, RIG_GOOD, "", "intoto");
        assert_int_equal(good.proof.logged_s, 0);
        static const char *const members[] = { "rootHash", "envelope", "canonicalizedBody", "sig", "payload", "payloadType", "keyId", "version" };
        CLEANUP(cleanup_free) char *compact = memory_new(strlen(text) + 1, 1);
        bool quoted = false;
        size_t used = 0;
        for (const char *at = text; *at; at++) {
                quoted ^= *at == '"';
                if (quoted || (*at != ' ' && *at != '\n'))
                        compact[used++] = *at;
        }
        for (size_t i = 0; i < COUNT_OF(members); i++)
                each_change(compact, "{", members[i], logged_refused, &rig);
        rig.predicates = NULL;
        CLEANUP(rig_verdict_fini) struct rig_verdict usual = logged_judge(&rig, text);
        rig_expect(&usual, TRUST_WRONG_TYPE, "https://example.com/test", "intoto by default");
        trust_keys_unref(&rig.keys);
        trust_keys_unref(&rig.logs);
}

/* K6: PAE and signature of the DSSE specification, r || s and DER. Its payload type is none of ours, so that only the check of the signature is compared. */
static void test_k6(void **state)
{
        (void)state;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki("MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEZ805D3eqNZywjCI19lInBJOp7YMrCrzAH3CVTAOQ0jgMeCvVTiaRJaRPRDOv8UMs6U4SvKc6pnrIDOoSYI3fdA==");
        static const char *const signatures[] = { "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==",
                                                  "MEQCIANyarEBrVbCdjtsaqyOSHJ14qeRk6CdxfhZ2fjvPEo7AiBR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA==" };
        CLEANUP(cleanup_free) char *pae = rig_pae("http://example.com/HelloWorld", "hello world");
        assert_string_equal(pae, "DSSEv1 29 http://example.com/HelloWorld 11 hello world");
        for (size_t k = 0; k < COUNT_OF(signatures); k++) {
                struct rig_bytes signature = rig_base64(signatures[k]);
                struct trust_budget budget = { 10000, 1 };
                struct verified verified;
                struct verify_input input = { .message = SPAN(pae, strlen(pae)), .signature = rig_span(&signature) };
                assert_int_equal(verify_message(keys, &input, &budget, &verified), VERIFY_GOOD);
                for (size_t i = 0; i < strlen(pae); i++) {
                        pae[i] ^= 1;
                        assert_int_equal(verify_message(keys, &input, &budget, &verified), VERIFY_BAD);
                        pae[i] ^= 1;
                }
                for (size_t i = 0; i < signature.size; i++) {
                        signature.data[i] ^= (uint8_t)(1u << i % 8);
                        assert_int_equal(verify_message(keys, &input, &budget, &verified), VERIFY_BAD);
                        signature.data[i] ^= (uint8_t)(1u << i % 8);
                }
                input.signature.size_bytes--;
                assert_int_equal(verify_message(keys, &input, &budget, &verified), VERIFY_BAD);
        }
        CLEANUP(cleanup_free) char *encoded = base64_encode("hello world", 11), *bundle = rig_fill(RIG_BUNDLE, (const char *const[]){ "application/vnd.in-toto+json", "http://example.com/HelloWorld", "$P", encoded, "$S", signatures[1], NULL });
        struct trust_target target = rig_manifest("hello world");
        struct trust_evidence evidence = rig_bundle_evidence(bundle);
        CLEANUP(rig_verdict_fini) struct rig_verdict verdict = rig_judge(keys, NULL, &target, &evidence);
        rig_expect(&verdict, TRUST_MALFORMED, "payloadType", "K6 as a bundle");
}

/* K13: the id of a version 2 log from origin and key, and a real entry of it. Its body is about a certificate, so that everything but the body holds. */
static struct trust_failure entry_failure(const struct trust_keys *logs, const char *entries_text)
{
        CLEANUP(value_free) struct value *entries = NULL;
        CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_spki(K1_KEY);
        struct trust_policy_options options = { .rekor_keys = logs };
        struct trust_demand demand = { .keys = keys };
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct trust_proof proof = { 0 };
        struct judgement judgement = { .demand = &demand, .policy = &options, .budget = &budget, .failure = &failure, .proof = &proof };
        struct error err;
        struct rig_bytes signature = rig_base64("MEUCIAZ6T8AUZSCB");
        struct logged logged = { .signature = rig_span(&signature), .content = SPAN("x", 1) };
        if (json_parse(entries_text, strlen(entries_text), ERROR_INTERNAL, &entries, &err))
                assert_false(rekor_check_entries(&judgement, entries, &logged));
        return failure;
}

static void k13_refused(const char *text, const char *member, void *context)
{
        struct trust_failure failure = entry_failure(context, text);
        if (strstr(failure.text, "another signature"))
                fail_msg("%s changed, and nothing seen: %s", member, failure.text);
}

static void test_k13(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *data = rig_data("vectors.json");
        CLEANUP(trust_keys_unref) struct trust_keys *log = NULL;
        struct rig_bytes spki = rig_hex("302a300506032b65700321003e7f804441e805a67bc204b5cc1aa9c662d21a7ca1c578f8945c52756541f28f");
        struct error err;
        assert_true(key_from_spki(rig_span(&spki), "log", &log, &err));
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        json_put_value(&writer, NULL, value_get_member(value_get_member(data, "rekor2"), "entries"));
        struct rig_bytes id = rig_base64(value_get_text(value_get_member(value_get_member(value_get_item(value_get_member(value_get_member(data, "rekor2"), "entries"), 0), "logId"), "keyId")));
        struct rig_bytes known = rig_hex("f30d5a999d92e662484244263f174cb8eacbfe8264bc583d32741799e3825dc9");
        assert_memory_equal(id.data, known.data, 32);

        struct trust_failure failure = entry_failure(log, text.data);
        if (!strstr(failure.text, "another signature"))
                fail_msg("%s", failure.text);
        static const char *const members[] = { "keyId", "rootHash", "treeSize", "envelope", "canonicalizedBody" };
        for (size_t i = 0; i < COUNT_OF(members); i++)
                each_change(text.data, "{", members[i], k13_refused, log);
        spki.data[20] ^= 1;
        CLEANUP(trust_keys_unref) struct trust_keys *other = NULL;
        if (key_from_spki(rig_span(&spki), "log", &other, &err))
                assert_non_null(strstr(entry_failure(other, text.data).text, "is not one of the configured"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_classics), cmocka_unit_test(test_k3), cmocka_unit_test(test_k5), cmocka_unit_test(test_intoto), cmocka_unit_test(test_k6), cmocka_unit_test(test_k13),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
