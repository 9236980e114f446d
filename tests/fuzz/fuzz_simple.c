/* The payload of a classic signature, signed here. First line: the annotation of the log (empty = none), the rest the payload. */
#include "trust_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct fuzz_key key;
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT, .identity = TRUST_IDENTITY_REPOSITORY };
        const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
        size_t entry_bytes = line ? (size_t)(line - data) : 0, at = line ? entry_bytes + 1 : 0;
        if (!key.pkey)
                key = fuzz_key_new();
        CLEANUP(cleanup_free) char *signature = fuzz_sign(&key, data + at, size - at), *entry = string_copy_bytes((const char *)data, entry_bytes);
        struct trust_evidence evidence = { .form = TRUST_FORM_SIMPLE, .body = data + at, .body_bytes = size - at, .signature = signature };
        bool good = fuzz_judge(key.keys, &options, &evidence);
        if (good && !memmem(data + at, size - at, "critical", 8))
                abort();
        options.rekor_keys = key.keys;
        evidence.log_entry = entry_bytes > 0 ? entry : NULL;
        if (fuzz_judge(key.keys, &options, &evidence))
                abort();                                           /* nobody logged it */
        return 0;
}
