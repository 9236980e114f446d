/*
 * How it goes: bytes in one allocation that is wiped before it is freed.
 * How it fails: it does not; out of memory ends the process.
 * How it ends: secret_free, login_fini.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/memory.h>
#include <wasmcached/base/secret.h>

struct secret { size_t size_bytes; char bytes[]; };

struct secret *secret_new(const void *bytes, size_t size_bytes)
{
        struct secret *secret = memory_new(1, sizeof *secret + size_bytes + 1);

        secret->size_bytes = size_bytes;
        if (size_bytes > 0)
                memcpy(secret->bytes, bytes, size_bytes);
        return secret;
}

struct secret *secret_copy(const struct secret *secret)
{
        return secret ? secret_new(secret->bytes, secret->size_bytes) : NULL;
}

const char *secret_get_text(const struct secret *secret)
{
        return secret ? secret->bytes : "";
}

size_t secret_get_size(const struct secret *secret)
{
        return secret ? secret->size_bytes : 0;
}

bool secret_equal(const struct secret *a, const struct secret *b)
{
        if (!a || !b)
                return a == b;
        return a->size_bytes == b->size_bytes && bytes_equal_consttime(a->bytes, b->bytes, a->size_bytes);
}

void secret_free(struct secret **secret)
{
        if (*secret)
                explicit_bzero((*secret)->bytes, (*secret)->size_bytes);
        free(TAKE(*secret));
}

void login_fini(struct login *login)
{
        free(login->username);
        secret_free(&login->password);
        secret_free(&login->identity_token);
        secret_free(&login->registry_token);
        *login = (struct login){ 0 };
}

bool login_copy(const struct login *from, struct login *ret_login)
{
        *ret_login = (struct login){
                .username = string_copy(from->username),
                .password = secret_copy(from->password),
                .identity_token = secret_copy(from->identity_token),
                .registry_token = secret_copy(from->registry_token),
        };
        return true;
}

bool login_equal(const struct login *a, const struct login *b)
{
        return string_equal(a->username, b->username) && secret_equal(a->password, b->password) && secret_equal(a->identity_token, b->identity_token) &&
               secret_equal(a->registry_token, b->registry_token);
}

bool login_is_anonymous(const struct login *login)
{
        return !login || (!login->username && !login->password && !login->identity_token && !login->registry_token);
}

static void field_append(struct buffer *out, bool is_set, const char *bytes, size_t size_bytes)
{
        uint64_t length = is_set ? size_bytes : UINT64_MAX;        /* absent and empty are different logins */

        buffer_append(out, &length, sizeof length);
        if (is_set)
                buffer_append(out, bytes, size_bytes);
}

void login_fingerprint(const struct login *login, const void *key, size_t key_bytes, struct digest *ret_fingerprint)
{
        static const struct login anonymous;
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        const struct login *from = login ? login : &anonymous;
        const struct secret *const secrets[] = { from->password, from->identity_token, from->registry_token };

        size_t size_bytes = (1 + COUNT_OF(secrets)) * sizeof(uint64_t) + (from->username ? strlen(from->username) : 0);
        for (size_t i = 0; i < COUNT_OF(secrets); i++)
                size_bytes += secret_get_size(secrets[i]);
        buffer_reserve(&text, size_bytes);                         /* all at once: growing would leave copies behind */
        field_append(&text, from->username != NULL, from->username, from->username ? strlen(from->username) : 0);
        for (size_t i = 0; i < COUNT_OF(secrets); i++)
                field_append(&text, secrets[i] != NULL, secret_get_text(secrets[i]), secret_get_size(secrets[i]));
        digest_hmac(key, key_bytes, text.data, text.used, ret_fingerprint);
}
