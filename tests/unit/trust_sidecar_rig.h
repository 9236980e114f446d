/* For tests of what lies beside a module: files of every shape, keys of every kind, signatures over them. */
#pragma once
#include "trust_wasm_rig.h"

#define RIG __attribute__((unused)) static

/* Files as they are delivered, each of which may be a module or a box of one, and what is neither. */
RIG const char module_text[] = "\0asm\1\0\0\0\0\5\4test", component_text[] = "\0asm\x0d\0\1\0";
RIG struct { const char *what; struct bytes bytes; bool has_shape; } files[8];
enum { LEGACY = 1u << TRUST_LEGACY_BUNDLE };
struct kind { const char *name, *hash, *algorithm; EVP_PKEY *key; struct trust_keys *keys; };
RIG struct kind kinds[6];
enum { P256, P384, P521, RSA2048, ED25519, OTHER, KINDS };
RIG struct signer signer;

RIG char *pem_of(EVP_PKEY *key)
{
        unsigned char *der = NULL;
        int size = i2d_PUBKEY(key, &der);
        CLEANUP(cleanup_free) char *base64 = base64_encode(der, (size_t)size);
        OPENSSL_free(der);
        return string_format("-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n", base64);
}

RIG struct trust_keys *keys_of(EVP_PKEY *key)
{
        struct trust_keys *keys = NULL;
        struct error err;
        CLEANUP(cleanup_free) char *pem = pem_of(key);
        if (!trust_keys_parse(pem, strlen(pem), "verificationKey", &keys, &err))
                fail_msg("%s", err.text);
        return keys;
}

RIG struct bytes sign_with(const struct kind *kind, const char *hash, bool pss, struct bytes file)
{
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_PKEY_CTX *of_key = NULL;
        size_t size = 2048;
        struct bytes signature = { memory_new(size, 1), 0 };
        assert_int_equal(EVP_DigestSignInit_ex(context, &of_key, hash, NULL, NULL, kind->key, NULL), 1);
        if (pss)
                assert_int_equal(EVP_PKEY_CTX_set_rsa_padding(of_key, RSA_PKCS1_PSS_PADDING), 1);
        assert_int_equal(EVP_DigestSign(context, signature.data, &size, file.data, file.size), 1);
        EVP_MD_CTX_free(context);
        signature.size = size;
        return signature;
}

RIG struct bytes sign_file(const struct kind *kind, struct bytes file)
{
        return sign_with(kind, kind->hash, false, file);
}

RIG struct bytes text_of(struct bytes signature, size_t columns, const char *eol, bool at_end)
{
        CLEANUP(cleanup_free) char *base64 = base64_encode(signature.data, signature.size);
        struct bytes text = bytes_of("", 0);
        for (size_t at = 0, length = strlen(base64); at < length; at += columns) {
                bytes_add(&text, base64 + at, length - at < columns ? length - at : columns);
                if (at_end || length - at > columns)
                        bytes_add(&text, eol, strlen(eol));
        }
        return text;
}

RIG struct judged judged_of(struct bytes file, struct bytes body, const struct trust_keys *keys)
{
        return (struct judged){ .form = TRUST_FORM_SIDECAR_SIG, .kind = TRUST_TARGET_FILE, .target = file, .body = body, .keys = keys };
}

RIG int setup(void **state)
{
        (void)state;
        static const struct { const char *name, *hash, *algorithm, *type; } rows[KINDS] = {
                { "P-256", "SHA256", "ECDSA P-256 SHA-256", "EC" }, { "P-384", "SHA384", "ECDSA P-384 SHA-384", "EC" }, { "P-521", "SHA512", "ECDSA P-521 SHA-512", "EC" },
                { "RSA", "SHA256", "RSA PKCS#1 v1.5 SHA-256", "RSA" }, { "ED25519", NULL, "Ed25519", "ED25519" }, { "P-256", "SHA256", "ECDSA P-256 SHA-256", "EC" },
        };
        static char tar[512] = "plugin.wasm", cut_tar[261];
        memcpy(tar + 257, "ustar", 6);
        memcpy(cut_tar, tar, sizeof cut_tar);
        const struct { const char *what; const void *data; size_t size; bool has_shape; } shapes[COUNT_OF(files)] = {
                { "wasm", module_text, sizeof module_text - 1, true }, { "gzip", "\x1f\x8b", 2, true }, { "zstd", "\x28\xb5\x2f\xfd", 4, true }, { "tar", tar, sizeof tar, true },
                { "JSON", "{\"critical\":{}}", 15, false }, { "PAE", "DSSEv1 28 application/vnd.in-toto+json 2 {}", 43, false }, { "short", "\0as", 3, false },
                { "cut tar", cut_tar, sizeof cut_tar, false },
        };

        signer_init(&signer, 0x42);
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                files[i].what = shapes[i].what;
                files[i].bytes = bytes_of(shapes[i].data, shapes[i].size);
                files[i].has_shape = shapes[i].has_shape;
        }
        for (size_t i = 0; i < KINDS; i++) {
                EVP_PKEY *key = strcmp(rows[i].type, "EC") == 0 ? EVP_EC_gen(rows[i].name) : strcmp(rows[i].type, "RSA") == 0 ? EVP_RSA_gen(2048) : EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
                kinds[i] = (struct kind){ rows[i].name, rows[i].hash, rows[i].algorithm, key, keys_of(key) };
        }
        return 0;
}

RIG int teardown(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++)
                bytes_fini(&files[i].bytes);
        for (size_t i = 0; i < KINDS; i++) {
                EVP_PKEY_free(kinds[i].key);
                trust_keys_unref(&kinds[i].keys);
        }
        trust_keys_unref(&signer.keys);
        return 0;
}
