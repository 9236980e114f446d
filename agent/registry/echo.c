/*
 * How it goes: a text of a registry is looked through for every secret that was, or could have been, sent to it: as it stands, and with %XX and the + of forms undone.
 * How it fails: a secret of less than four characters is not looked for, it would be found anywhere.
 * How it ends: readings of the text, which may hold a secret, are wiped.
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { SECRET_BYTES_MIN = 4, PASSWORD_BYTES_MIN = 8 };
enum reading { READ_AS_IT_IS, READ_PERCENT, READ_FORM, READINGS };

static void text_read(const char *text, size_t size_bytes, enum reading reading, struct buffer *ret_text)
{
        buffer_reserve(ret_text, size_bytes + 1);
        for (size_t i = 0; i < size_bytes; i++) {
                bool is_escape = reading != READ_AS_IT_IS && text[i] == '%' && i + 2 < size_bytes;
                int high = is_escape ? hex_digit_get(text[i + 1]) : -1, low = high >= 0 ? hex_digit_get(text[i + 2]) : -1;
                char c = low >= 0 ? (char)(high << 4 | low) : reading == READ_FORM && text[i] == '+' ? ' ' : text[i];
                i += low >= 0 ? 2 : 0;
                buffer_append(ret_text, &c, 1);
        }
}

static bool has_secret(const struct buffer *text, const char *secret)
{
        size_t length = strlen(secret);
        return length >= SECRET_BYTES_MIN && text->used >= length && memmem(text->data, text->used, secret, length) != NULL;
}

/* "Basic …", "Bearer …": what comes behind the blank. */
static const char *bare(const struct secret *authorization)
{
        const char *text = secret_get_text(authorization), *blank = strchr(text, ' ');
        return blank ? blank + 1 : "";
}

static bool has_any(const char *const *secrets, size_t count, const char *text, size_t size_bytes)
{
        bool found = false;
        for (int reading = READ_AS_IT_IS; reading < READINGS && !found; reading++) {
                struct buffer read = { 0 };
                text_read(text, size_bytes, (enum reading)reading, &read);
                for (size_t i = 0; i < count && !found; i++)
                        found = has_secret(&read, secrets[i]);
                buffer_fini_secret(&read);
        }
        return found;
}

static bool has_login(const struct login *login, const char *sent, const char *password, const char *text, size_t size_bytes)
{
        CLEANUP(secret_free) struct secret *basic = login_has_basic(login) ? basic_format(login->username, login->password) : NULL;
        const char *secrets[] = { sent, bare(basic), password, login ? secret_get_text(login->identity_token) : "", login ? secret_get_text(login->registry_token) : "" };
        return has_any(secrets, COUNT_OF(secrets), text, size_bytes);
}

bool echo_has(const struct login *login, const struct secret *authorization, const void *text, size_t size_bytes)
{
        return has_login(login, bare(authorization), login ? secret_get_text(login->password) : "", text, size_bytes);
}

/* The text has words of our own too: "admin" as password of admin, or "authz" where the image is called so, is no find. */
bool login_is_repeated(const struct login *login, const char *name, const char *text)
{
        const char *password = secret_get_text(login->password);
        bool is_common = strlen(password) < PASSWORD_BYTES_MIN || strstr(name, password) || (login->username && strstr(login->username, password));
        return has_login(login, "", is_common ? "" : password, text, strlen(text));
}
