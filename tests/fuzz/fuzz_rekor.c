/*
 * First byte: 'A' the annotation of a classic signature, 'E' one entry of a bundle, 'B' a body, which is logged here (promised by the log's key), 'C' a checkpoint, 'I' an inclusion
 * proof (index, size, root, hashes).
 */
#include "trust_fuzz.h"
#include "../../agent/trust/rekor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fuzz_key key, log_key;

static void entry_fuzz(const char *annotation, const char *entry)
{
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .rekor_keys = log_key.keys };
        struct trust_demand demand = { .keys = key.keys };
        struct trust_budget budget = TRUST_BUDGET;
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct trust_proof proof = { 0 };
        struct judgement judgement = { .demand = &demand, .policy = &options, .budget = &budget, .failure = &failure, .proof = &proof };
        struct logged logged = { .signature = SPAN("signature", 9), .content = SPAN("content", 7), .pae = annotation ? SPAN(NULL, 0) : SPAN("pae", 3) };
        CLEANUP(value_free) struct value *entries = NULL;
        CLEANUP(cleanup_free) char *list = entry ? string_format("[%s]", entry) : NULL;
        struct error err;
        if (entry && !json_parse(list, strlen(list), ERROR_SIGNATURE_INVALID, &entries, &err))
                return;
        if (annotation ? rekor_check_annotation(&judgement, annotation, &logged) : rekor_check_entries(&judgement, entries, &logged))
                abort();                                           /* a body cannot name a signature that is none */
        if (failure.reason != TRUST_NO_LOG_ENTRY && failure.reason != TRUST_LIMIT)
                abort();
}

static void body_fuzz(const uint8_t *body, size_t size)
{
        CLEANUP(cleanup_free) char *encoded = base64_encode(body, size);
        char hex[65];
        hex_format(trust_keys_get_fingerprint(log_key.keys, 0)->bytes, 32, hex);
        CLEANUP(cleanup_free) char *text = string_format("{\"body\":\"%s\",\"integratedTime\":1,\"logID\":\"%s\",\"logIndex\":2}", encoded, hex), *promise = fuzz_sign(&log_key, text, strlen(text));
        CLEANUP(cleanup_free) char *annotation = string_format("{\"SignedEntryTimestamp\":\"%s\",\"Payload\":%s}", promise, text);
        CLEANUP(cleanup_free) char *id = base64_encode(trust_keys_get_fingerprint(log_key.keys, 0)->bytes, 32);
        CLEANUP(cleanup_free) char *entry = string_format("{\"logIndex\":2,\"integratedTime\":1,\"logId\":{\"keyId\":\"%s\"},\"inclusionPromise\":{\"signedEntryTimestamp\":\"%s\"},\"canonicalizedBody\":\"%s\"}", id,
                                                          promise, encoded);
        entry_fuzz(annotation, NULL);
        entry_fuzz(NULL, entry);
}

static void checkpoint_fuzz(const char *note)
{
        struct checkpoint checkpoint;
        struct checkpoint_line line;
        struct error err;
        bool bad = false;
        if (!checkpoint_parse(note, &checkpoint, &err))
                return;
        const char *at = checkpoint.lines;
        while (checkpoint_line_next(&checkpoint, &at, &line, &bad))
                if (line.name < checkpoint.lines || line.text + line.text_bytes > checkpoint.end)
                        abort();
}

static void inclusion_fuzz(const uint8_t *data, size_t size)
{
        static uint8_t hashes[LOG_HASHES_MAX][LOG_HASH_BYTES];
        struct inclusion proof = { .hashes = (const uint8_t(*)[LOG_HASH_BYTES])hashes };
        struct error err;
        if (size < 16 + LOG_HASH_BYTES)
                return;
        memcpy(&proof.index, data, 8);
        memcpy(&proof.size, data + 8, 8);
        memcpy(proof.root, data + 16, LOG_HASH_BYTES);
        size -= 16 + LOG_HASH_BYTES;
        proof.hash_count = size / LOG_HASH_BYTES < LOG_HASHES_MAX ? size / LOG_HASH_BYTES : LOG_HASHES_MAX;
        memcpy(hashes, data + 16 + LOG_HASH_BYTES, proof.hash_count * LOG_HASH_BYTES);
        inclusion_check(&proof, SPAN("leaf", 4), &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (!key.pkey) {
                key = fuzz_key_new();
                log_key = fuzz_key_new();
        }
        if (size == 0)
                return 0;
        CLEANUP(cleanup_free) char *text = string_copy_bytes((const char *)data + 1, size - 1);
        switch (data[0]) {
        case 'A':
                entry_fuzz(text, NULL);
                break;
        case 'E':
                entry_fuzz(NULL, text);
                break;
        case 'B':
                body_fuzz(data + 1, size - 1);
                break;
        case 'C':
                checkpoint_fuzz(text);
                break;
        case 'I':
                inclusion_fuzz(data + 1, size - 1);
                break;
        default:
                break;
        }
        return 0;
}
