/* First byte: 'S' = the rest is a statement, which is signed and put into a bundle here; else all of it is a bundle. No statement is taken that does not name the digest. */
#include "trust_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *wrap(const struct fuzz_key *key, const uint8_t *statement, size_t size)
{
        CLEANUP(buffer_fini) struct buffer pae = { 0 };
        buffer_printf(&pae, "DSSEv1 28 application/vnd.in-toto+json %zu ", size);
        buffer_append(&pae, statement, size);
        CLEANUP(cleanup_free) char *signature = fuzz_sign(key, pae.data, pae.used), *payload = base64_encode(statement, size);
        return string_format("{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{}},\"dsseEnvelope\":{\"payload\":\"%s\","
                             "\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"sig\":\"%s\"}]}}", payload, signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct fuzz_key key;
        struct trust_policy_options options = { .formats = TRUST_FORMATS_DEFAULT | 1u << TRUST_MESSAGE_SIGNATURE_OCI };
        bool is_statement = size > 1 && data[0] == 'S';
        if (!key.pkey)
                key = fuzz_key_new();
        CLEANUP(cleanup_free) char *bundle = is_statement ? wrap(&key, data + 1, size - 1) : string_copy_bytes((const char *)data, size);
        struct trust_evidence evidence = { .form = TRUST_FORM_BUNDLE, .body = bundle, .body_bytes = is_statement ? strlen(bundle) : size };
        bool good = fuzz_judge(key.keys, &options, &evidence);
        if (good && (!is_statement || !memmem(data, size, "https://sigstore.dev/cosign/sign/v1", 8)))
                abort();
        return 0;
}
