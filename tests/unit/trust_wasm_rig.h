/* What the tests of wasm, sidecar and minisign signatures share: keys from seeds, one judgement, bytes that grow, data files. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <zstd.h>
#include <wasmcached/trust.h>
#include "trust_again.h"

enum { PROVED = TRUST_REASONS, ALL_FORMATS = (1u << TRUST_FORMATS) - 1 };
#define DATA "tests/unit/data/signatures/"

struct bytes { uint8_t *data; size_t size; };
struct signer { uint8_t public[32], secret[64]; struct trust_keys *keys; };
/* What is judged; zero = the key and policy of the case's own set-up. */
struct judged {
        enum trust_form form;
        enum trust_target_kind kind;
        struct bytes target, body;
        const struct trust_keys *keys;
        const struct trust_policy_options *options;        /* NULL = the default formats */
        unsigned formats;                                  /* 0 = the default ones; only without options */
        unsigned verifications;                            /* 0 = the budget of a request */
};
static struct trust_failure last_failure;
static struct trust_proof last_proof;

__attribute__((unused)) static struct bytes bytes_of(const void *data, size_t size)
{
        struct bytes bytes = { memory_new(size, 1), size };       /* exact, so that AddressSanitizer sees each byte too many */
        if (size > 0)
                memcpy(bytes.data, data, size);
        return bytes;
}

__attribute__((unused)) static void bytes_fini(struct bytes *bytes)
{
        free(bytes->data);
        *bytes = (struct bytes){ 0 };
}
#define BYTES CLEANUP(bytes_fini) struct bytes

__attribute__((unused)) static void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
        bytes->data = memory_resize(bytes->data, bytes->size + size, 1);
        if (size > 0)
                memcpy(bytes->data + bytes->size, data, size);
        bytes->size += size;
}

__attribute__((unused)) static void bytes_add_byte(struct bytes *bytes, int byte)
{
        uint8_t one = (uint8_t)byte;
        bytes_add(bytes, &one, 1);
}

__attribute__((unused)) static struct bytes bytes_hex(const char *hex)
{
        struct bytes bytes = { memory_new(strlen(hex) / 2, 1), strlen(hex) / 2 };
        for (size_t i = 0; i < bytes.size; i++)
                sscanf(hex + 2 * i, "%2hhx", &bytes.data[i]);
        return bytes;
}

/* LEB128; `padding` more bytes than needed. */
__attribute__((unused)) static void bytes_add_varuint(struct bytes *bytes, uint32_t number, int padding)
{
        for (; number >= 0x80; number >>= 7)
                bytes_add_byte(bytes, (int)(number & 0x7f) | 0x80);
        bytes_add_byte(bytes, (int)number | (padding > 0 ? 0x80 : 0));
        for (; padding > 0; padding--)
                bytes_add_byte(bytes, padding > 1 ? 0x80 : 0);
}

__attribute__((unused)) static void bytes_add_section(struct bytes *bytes, const char *name, const void *data, size_t size)
{
        BYTES body = bytes_of("", 0);
        bytes_add_varuint(&body, (uint32_t)strlen(name), 0);
        bytes_add(&body, name, strlen(name));
        bytes_add(&body, data, size);
        bytes_add_byte(bytes, 0);
        bytes_add_varuint(bytes, (uint32_t)body.size, 0);
        bytes_add(bytes, body.data, body.size);
}

__attribute__((unused)) static struct bytes bytes_load(const char *name)
{
        CLEANUP(buffer_fini) struct buffer content = { 0 };
        struct error err = { 0 };
        char path[256];
        snprintf(path, sizeof path, DATA "%s", name);
        if (!fs_load(AT_FDCWD, path, 4u << 20, &content, &err))
                fail_msg("%s: %s", path, err.text);
        return bytes_of(content.data, content.used);
}

__attribute__((unused)) static struct bytes bytes_load_zstd(const char *name)
{
        BYTES packed = bytes_load(name);
        unsigned long long size = ZSTD_getFrameContentSize(packed.data, packed.size);
        assert_in_range(size, 1, 4u << 20);
        struct bytes bytes = { memory_new((size_t)size, 1), (size_t)size };
        assert_int_equal(ZSTD_decompress(bytes.data, bytes.size, packed.data, packed.size), size);
        return bytes;
}

__attribute__((unused)) static struct trust_keys *keys_load(const char *name)
{
        BYTES text = bytes_load(name);
        struct trust_keys *keys = NULL;
        struct error err = { 0 };
        if (!trust_keys_parse((const char *)text.data, text.size, "verificationKey", &keys, &err))
                fail_msg("%s: %s", name, err.text);
        return keys;
}

/* False: these 32 bytes are no key that is accepted. */
__attribute__((unused)) static bool keys_from_raw(const uint8_t raw[32], struct trust_keys **ret_keys)
{
        uint8_t der[44] = { 0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00 };
        struct error err = { 0 };
        memcpy(der + 12, raw, 32);
        CLEANUP(cleanup_free) char *base64 = base64_encode(der, sizeof der);
        CLEANUP(cleanup_free) char *pem = string_format("-----BEGIN PUBLIC KEY-----\n%s\n-----END PUBLIC KEY-----\n", base64);
        return trust_keys_parse(pem, strlen(pem), "verificationKey", ret_keys, &err);
}

/* The key of the vectors K7 to K9 is that of seed 0x42. */
__attribute__((unused)) static void signer_init(struct signer *signer, uint8_t seed)
{
        uint8_t seeds[32];
        assert_true(sodium_init() >= 0);
        memset(seeds, seed, sizeof seeds);
        crypto_sign_seed_keypair(signer->public, signer->secret, seeds);
        assert_true(keys_from_raw(signer->public, &signer->keys));
}

__attribute__((unused)) static void sign_ed25519(const struct signer *signer, const void *message, size_t size, uint8_t ret_signature[64])
{
        crypto_sign_detached(ret_signature, NULL, message, size, signer->secret);
}

/* PROVED or the reason why not; last_failure and last_proof are set. */
__attribute__((unused)) static int judge(const struct judged *judged)
{
        struct trust_policy_options options = judged->options ? *judged->options : (struct trust_policy_options){ .formats = judged->formats ? judged->formats : TRUST_FORMATS_DEFAULT };
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(&options);
        struct trust_demand demand = { judged->keys, policy };
        struct trust_target target = { .kind = judged->kind, .bytes = judged->target.data, .size_bytes = judged->target.size };
        struct trust_evidence evidence = { .form = judged->form, .body = judged->body.data, .body_bytes = judged->body.size, .where = "here" };
        struct trust_budget budget = TRUST_BUDGET;

        if (judged->verifications > 0)
                budget.verifications = judged->verifications;
        digest_sha256(target.bytes ? target.bytes : "", target.size_bytes, &target.digest);
        last_failure = TRUST_FAILURE_NONE;
        last_proof = (struct trust_proof){ 0 };
        struct judged_before before = { &demand, &target, &evidence, budget, false };
        before.is_good = trust_judge(&demand, &target, &evidence, &budget, &last_proof, &last_failure);
        judge_again(&before, &last_proof, &last_failure);
        if (before.is_good) {
                assert_true(digest_is_set(&last_proof.fingerprint) && last_proof.format && last_proof.algorithm);
                struct trust_proof owned = last_proof;             /* its texts stay readable: they are static */
                last_proof.annotations = NULL;
                trust_proof_fini(&owned);
                return PROVED;
        }
        assert_in_range(last_failure.reason, 0, TRUST_REASONS - 1);
        assert_true(*last_failure.text != '\0');
        return (int)last_failure.reason;
}

__attribute__((unused)) static const char *verdict_name(int verdict)
{
        return verdict == PROVED ? "proved" : trust_reason_names[verdict];
}

__attribute__((unused)) static void expect(const char *what, const struct judged *judged, int expected)
{
        int verdict = judge(judged);
        if (verdict != expected)
                fail_msg("%s: %s (%s), expected %s", what, verdict_name(verdict), last_failure.text, verdict_name(expected));
}
