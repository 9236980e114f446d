/* For tests of the field verificationKey: keys of every kind as PEM, what taking and refusing one must look like. Include after cmocka.h. */
#pragma once
#include "trust_rig.h"

RIG char *p256, *p256_other, *rsa, *ed25519;           /* PEM */
RIG EVP_PKEY *p256_key, *rsa_key;

RIG int setup(void **state)
{
        (void)state;
        p256_key = rig_key("P-256");
        rsa_key = rig_key("RSA");
        EVP_PKEY *other = rig_key("P-256"), *edwards = rig_key("ED25519");
        p256 = rig_pem(p256_key);
        p256_other = rig_pem(other);
        rsa = rig_pem(rsa_key);
        ed25519 = rig_pem(edwards);
        EVP_PKEY_free(other);
        EVP_PKEY_free(edwards);
        return 0;
}

RIG int teardown(void **state)
{
        (void)state;
        free(p256);
        free(p256_other);
        free(rsa);
        free(ed25519);
        EVP_PKEY_free(p256_key);
        EVP_PKEY_free(rsa_key);
        return 0;
}

/* No 12 bytes of the text's base64 may be in the error. */
RIG void assert_not_shown(const char *text, size_t size, const char *shown)
{
        for (size_t at = 0; at + 12 <= size; at++) {
                size_t letters = 0;
                while (letters < 12 && (isalnum((unsigned char)text[at + letters]) || strchr("+/=", text[at + letters])) && text[at + letters] != '\0')
                        letters++;
                if (letters == 12 && memmem(shown, strlen(shown), text + at, 12))
                        fail_msg("the text is shown: %s", shown);
        }
}

RIG void assert_refused_bytes(const char *text, size_t size, const char *words)
{
        struct trust_keys *keys = (struct trust_keys *)(uintptr_t)8;
        struct error err = { 0 };
        if (trust_keys_parse(text, size, "verificationKey", &keys, &err))
                fail_msg("taken: %.100s (%s)", text, words);
        assert_ptr_equal(keys, (void *)(uintptr_t)8);
        assert_int_equal(err.code, ERROR_BAD_KEY);
        if (strncmp(err.text, "verificationKey", 15) != 0 || !strstr(err.text, words))
                fail_msg("no \"%s\" in: %s", words, err.text);
        assert_not_shown(text, size, err.text);
        assert_int_equal(ERR_peek_error(), 0);
}

RIG void assert_refused(const char *text, const char *words)
{
        assert_refused_bytes(text, strlen(text), words);
}

RIG void assert_taken(const char *text, size_t count)
{
        struct trust_keys *keys = rig_parse(text);
        assert_int_equal(trust_keys_get_count(keys), count);
        trust_keys_unref(&keys);
        assert_null(keys);
}

/* `text` with each `from` written as `to`; the caller frees. */
RIG char *replaced(const char *text, const char *from, const char *to)
{
        struct buffer out = { 0 };
        for (const char *hit; (hit = strstr(text, from)); text = hit + strlen(from)) {
                buffer_append(&out, text, (size_t)(hit - text));
                buffer_append_text(&out, to);
        }
        buffer_append_text(&out, text);
        return buffer_take(&out);
}

RIG void refused_free(char *text, const char *words)
{
        assert_refused(text, words);
        free(text);
}

RIG void taken_free(char *text, size_t count)
{
        assert_taken(text, count);
        free(text);
}
