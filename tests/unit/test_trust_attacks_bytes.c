/* The rows of section 10 about log entries, modules and bytes, each named after its advisory: what other verifiers let through is refused here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <cmocka.h>
#include "trust_attack_rig.h"

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                ROW(cve_2022_23649_log_entry_of_someone_else), ROW(cve_2022_36056_log_entry_of_another_blob), ROW(cve_2026_22703_log_entry_without_a_binding),
                ROW(cve_2024_51746_any_log_entry_that_was_found), ROW(wasm_module_cut_at_a_delimiter), ROW(wasm_section_appended), ROW(wasm_signature_section_moved),
                ROW(wasm_header_swapped_for_a_component), ROW(wasm_two_signature_sections), ROW(cve_2026_44309_normalised_bytes), ROW(rfc6962_proof_edge_cases),
                ROW(private_key_pasted_into_the_field),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
