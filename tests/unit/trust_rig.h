/* For tests of trust: keys and signatures made by OpenSSL at test time, texts into bytes. Include after cmocka.h. */
#pragma once
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "../../agent/trust/room.h"

#define RIG __attribute__((unused)) static

/* "P-256" …, "RSA" (2048), "RSA-PSS", "ED25519", "ED448", "X25519". EVP_PKEY_free() frees. */
RIG EVP_PKEY *rig_key(const char *kind)
{
        if (strncmp(kind, "P-", 2) == 0 || strncmp(kind, "sec", 3) == 0)
                return EVP_EC_gen(kind);
        if (strcmp(kind, "RSA") == 0)
                return EVP_RSA_gen(2048);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, kind, NULL);
        EVP_PKEY *pkey = NULL;
        assert_non_null(context);
        assert_int_equal(EVP_PKEY_keygen_init(context), 1);
        assert_int_equal(EVP_PKEY_generate(context, &pkey), 1);
        EVP_PKEY_CTX_free(context);
        return pkey;
}

/* Public half as PEM; the caller frees. */
RIG char *rig_pem(EVP_PKEY *pkey)
{
        BIO *bio = BIO_new(BIO_s_mem());
        char *text;
        assert_int_equal(PEM_write_bio_PUBKEY(bio, pkey), 1);
        long length = BIO_get_mem_data(bio, &text);
        char *copy = string_copy_bytes(text, (size_t)length);
        BIO_free(bio);
        return copy;
}

/* Any DER under any label, as PEM. */
RIG char *rig_pem_of(const char *label, const void *der, size_t size)
{
        CLEANUP(cleanup_free) char *body = base64_encode(der, size);
        return string_format("-----BEGIN %s-----\n%s\n-----END %s-----\n", label, body, label);
}

RIG struct trust_keys *rig_parse(const char *pem)
{
        struct trust_keys *keys = NULL;
        struct error err = { 0 };
        if (!trust_keys_parse(pem, strlen(pem), "verificationKey", &keys, &err))
                fail_msg("%s", err.text);
        return keys;
}

RIG struct trust_keys *rig_public(EVP_PKEY *pkey)
{
        CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
        return rig_parse(pem);
}

/* Keys of base64 SPKI, as the vectors of section 13 have them. */
RIG struct trust_keys *rig_spki(const char *base64)
{
        CLEANUP(cleanup_free) char *pem = string_format("-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n", base64);
        return rig_parse(pem);
}

struct rig_bytes { uint8_t data[4096]; size_t size; };
RIG struct span rig_span(const struct rig_bytes *bytes)
{
        return SPAN(bytes->data, bytes->size);
}

RIG struct rig_bytes rig_base64(const char *text)
{
        struct rig_bytes bytes = { .size = 0 };
        void *decoded;
        assert_true(base64_take(text, strlen(text), BASE64_EITHER, sizeof bytes.data, &decoded, &bytes.size));
        memcpy(bytes.data, decoded, bytes.size);
        free(decoded);
        return bytes;
}

RIG struct rig_bytes rig_hex(const char *text)
{
        struct rig_bytes bytes = { .size = strlen(text) / 2 };
        for (size_t i = 0; i < bytes.size; i++)
                assert_int_equal(sscanf(text + 2 * i, "%2hhx", &bytes.data[i]), 1);
        return bytes;
}

/* `hash` is NULL for Ed25519; `pss` for RSA with PSS padding. */
RIG struct rig_bytes rig_sign(EVP_PKEY *pkey, const char *hash, bool pss, struct span message)
{
        struct rig_bytes signature = { .size = sizeof signature.data };
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        EVP_PKEY_CTX *pctx;
        assert_int_equal(EVP_DigestSignInit_ex(context, &pctx, hash, NULL, NULL, pkey, NULL), 1);
        if (pss)
                assert_true(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 && EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, 32) == 1);
        assert_int_equal(EVP_DigestSign(context, signature.data, &signature.size, message.bytes, message.size_bytes), 1);
        EVP_MD_CTX_free(context);
        return signature;
}
