/*
 * How it goes: what a docker config entry holds becomes what goes onto the wire, and a description for people.
 * How it fails: a token that no header can carry is NULL.
 * How it ends: everything secret is a struct secret and wiped with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { NAME_BYTES = 80 };

/* Credential helpers' protocol: under this name the password is an identity token ([oci] 2.3). */
static bool is_token_user(const struct login *login)
{
        return string_equal(login->username, "<token>");
}

const char *login_describe(const struct login *login, char *ret_text, size_t size_bytes)
{
        char name[NAME_BYTES];

        if (login_is_anonymous(login))
                snprintf(ret_text, size_bytes, "anonymous");
        else if (login->registry_token)
                snprintf(ret_text, size_bytes, "a registry token");
        else if (login->username && *login->username && !is_token_user(login))
                snprintf(ret_text, size_bytes, "user '%s'", string_printable(login->username, strlen(login->username), name, sizeof name));
        else if (login_get_refresh_token(login))
                snprintf(ret_text, size_bytes, "an identity token");
        else
                snprintf(ret_text, size_bytes, "a login without user name");
        return ret_text;
}

const struct secret *login_get_refresh_token(const struct login *login)
{
        if (!login)
                return NULL;
        if (login->identity_token && secret_get_size(login->identity_token) > 0)
                return login->identity_token;
        return is_token_user(login) && login->password && secret_get_size(login->password) > 0 ? login->password : NULL;
}

bool login_has_basic(const struct login *login)
{
        return login && login->username && *login->username && !is_token_user(login) && login->password && secret_get_size(login->password) > 0;
}

static struct secret *secret_take(struct buffer *buffer)
{
        struct secret *secret = secret_new(buffer->data, buffer->used);
        buffer_fini_secret(buffer);
        return secret;
}

/* Room is reserved first: a buffer that grows would leave copies behind that nobody wipes. */
struct secret *basic_format(const char *username, const struct secret *password)
{
        struct buffer plain = { 0 }, header = { 0 };

        buffer_reserve(&plain, strlen(username) + secret_get_size(password) + 2);
        buffer_append_text(&plain, username);
        buffer_append(&plain, ":", 1);
        buffer_append(&plain, secret_get_text(password), secret_get_size(password));

        char *encoded = base64_encode(plain.data, plain.used);
        size_t encoded_bytes = strlen(encoded);
        buffer_reserve(&header, encoded_bytes + sizeof "Basic ");
        buffer_append_text(&header, "Basic ");
        buffer_append(&header, encoded, encoded_bytes);
        explicit_bzero(encoded, encoded_bytes);
        free(encoded);
        buffer_fini_secret(&plain);
        return secret_take(&header);
}

struct secret *bearer_format(const struct secret *token)
{
        const char *text = secret_get_text(token);
        size_t length = secret_get_size(token);
        struct buffer header = { 0 };

        for (size_t i = 0; i < length; i++)
                if (text[i] <= 0x20 || text[i] >= 0x7f)
                        return NULL;
        if (length == 0)
                return NULL;
        buffer_reserve(&header, length + sizeof "Bearer ");
        buffer_append_text(&header, "Bearer ");
        buffer_append(&header, text, length);
        return secret_take(&header);
}

void fingerprint_format(const struct registry *registry, const struct login *login, char ret_text[DIGEST_TEXT_BYTES])
{
        static const struct login anonymous = { 0 };
        struct digest fingerprint;

        login_fingerprint(login ? login : &anonymous, registry->key, sizeof registry->key, &fingerprint);
        digest_format(&fingerprint, ret_text);
}
