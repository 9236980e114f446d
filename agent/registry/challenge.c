/*
 * How it goes: one walk over the header: a scheme, then its parameters; behind a comma a token that is followed by '=' goes on with the parameters, any other token is
 *               the next scheme (RFC 7235 2.1).
 * How it fails: it does not: at the first thing that is no such text the walk stops, and what was read before it stays (as in containerd and oras). A challenge with a
 *               doubled realm, service or scope is left out, because two readers could take different ones.
 * How it ends: challenge_fini() frees the texts of each.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wasmcached/registry.h>

enum { CHALLENGES_MAX = 8 };

static bool is_token(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static const char *skip_blanks(const char *at)
{
        return at + strspn(at, " \t");
}

static size_t token_length(const char *at)
{
        size_t length = 0;
        while (is_token(at[length]))
                length++;
        return length;
}

/* Behind the opening quote; NULL when the string is not closed. */
static const char *quoted_read(const char *at, char **ret_text)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };

        for (; *at != '"'; at++) {
                if (*at == '\\')
                        at++;
                if (*at == '\0')
                        return NULL;
                buffer_append(&text, at, 1);
        }
        *ret_text = buffer_take(&text);
        return at + 1;
}

/* A quoted string, or a token that is followed by a comma or the end ("realm=https://x" is neither); NULL otherwise, and the parameter does not count. */
static const char *value_read(const char *at, char **ret_text)
{
        if (*at == '"')
                return quoted_read(at + 1, ret_text);

        size_t length = token_length(at);
        const char *end = skip_blanks(at + length);
        if (length == 0 || (*end != ',' && *end != '\0'))
                return NULL;
        *ret_text = string_copy_bytes(at, length);
        return end;
}

static char **member_find(struct challenge *challenge, const char *name, size_t length, bool *ret_once)
{
        const struct { const char *name; char **place; bool once; } members[] = {
                { "realm", &challenge->realm, true }, { "service", &challenge->service, true }, { "scope", &challenge->scope, true }, { "error", &challenge->error, false },
        };

        for (size_t i = 0; i < COUNT_OF(members); i++)
                if (strlen(members[i].name) == length && strncasecmp(members[i].name, name, length) == 0) {
                        *ret_once = members[i].once;
                        return members[i].place;
                }
        return NULL;
}

/* name BWS "=" BWS value; NULL when `at` is no parameter, or when nothing behind it can be trusted (*ret_broken). */
static const char *parameter_read(const char *at, struct challenge *challenge, bool *ret_doubled, bool *ret_broken)
{
        const char *name = at;
        size_t length = token_length(at);
        bool once = false;

        at = skip_blanks(at + length);
        if (length == 0 || *at != '=')
                return NULL;

        CLEANUP(cleanup_free) char *value = NULL;
        at = value_read(skip_blanks(at + 1), &value);
        if (!at) {
                *ret_broken = true;
                return NULL;
        }
        char **place = member_find(challenge, name, length, &once);
        if (place && *place)
                *ret_doubled |= once;
        else if (place)
                *place = TAKE(value);

        at = skip_blanks(at);
        *ret_broken = *at != ',' && *at != '\0';
        return *ret_broken ? NULL : at;
}

/* "Negotiate YII=": one token68 instead of parameters. */
static const char *token68_skip(const char *at)
{
        const char *end = at;
        while (is_token(*end) || *end == '/')
                end++;
        end += strspn(end, "=");
        const char *next = skip_blanks(end);
        return end > at && (*next == ',' || *next == '\0') ? next : NULL;
}

/* From the scheme on. Returns where the next challenge may start, NULL when the rest of the header is not to be read. */
static const char *challenge_read(const char *at, struct challenge *challenge, bool *ret_doubled)
{
        size_t length = token_length(at);
        bool broken = false;

        if (length == 0 || !(at[length] == '\0' || strchr(" \t,", at[length])) || *skip_blanks(at + length) == '=')
                return NULL;
        challenge->scheme = string_copy_bytes(at, length);
        at = skip_blanks(at + length);

        bool first = true;
        while (*at) {
                const char *start = at + strspn(at, " \t,");
                if (*start == '\0')
                        return start;
                const char *end = parameter_read(start, challenge, ret_doubled, &broken);
                if (!end && first && start == at) {
                        /* A token68 ("abc==") looks like a parameter without value; what is neither ends the walk. */
                        end = token68_skip(start);
                        broken = false;
                }
                if (!end)
                        return broken || (first && start == at) ? NULL : start;
                at = end;
                first = false;
        }
        return at;
}

size_t challenge_parse(const char *header, struct challenge ret_challenges[8])
{
        const char *at = header;
        size_t count = 0;

        while (at && count < CHALLENGES_MAX) {
                struct challenge challenge = { 0 };
                bool doubled = false;

                at += strspn(at, " \t,");
                if (*at == '\0')
                        break;
                at = challenge_read(at, &challenge, &doubled);
                if (challenge.scheme && !doubled)
                        ret_challenges[count++] = challenge;
                else
                        challenge_fini(&challenge);
        }
        return count;
}

void challenge_fini(struct challenge *challenge)
{
        free(challenge->scheme);
        free(challenge->realm);
        free(challenge->service);
        free(challenge->scope);
        free(challenge->error);
        *challenge = (struct challenge){ 0 };
}
