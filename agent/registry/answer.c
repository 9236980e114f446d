/*
 * How it goes: the status decides the code of the error by a table; the registry's own words are taken out of the body, whatever of the known shapes it has, and quoted behind it.
 * How it fails: a body without words is not quoted; a body that repeats a credential is never quoted.
 * How it ends: the error is filled, nothing else is kept.
 *
 * Shapes (measured): {"errors":[{"code","message"}]} whatever the Content-Type says, a bare {"code","message"} (zot), {"details"}; OAuth2 {"error","error_description"};
 * plain text.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { QUOTE_BYTES = 400, PLAIN_BYTES = 300 };

static const char *text_of(const struct value *map, const char *const *names)
{
        for (; *names; names++) {
                const char *text = value_get_text(value_get_member(map, *names));
                if (text && *text)
                        return text;
        }
        return NULL;
}

static char *json_message(const struct value *document)
{
        static const char *const codes[] = { "code", "error", NULL }, *const messages[] = { "message", "error_description", "details", "detail", NULL };
        const struct value *errors = value_get_member(document, "errors"), *first = value_get_count(errors) > 0 ? value_get_item(errors, 0) : document;
        const char *code = text_of(first, codes), *message = text_of(first, messages);

        if (!code && !message)
                return NULL;
        return string_format("%s%s%s", code ? code : "", code && message ? ": " : "", message ? message : "");
}

/* The whole message; NULL when the body has none (HTML pages are none). */
static char *message_read(const void *body, size_t body_bytes)
{
        CLEANUP(value_free) struct value *document = NULL;
        struct error ignored;
        const char *text = body;

        if (body_bytes == 0)
                return NULL;
        if (json_parse(text, body_bytes, ERROR_UPSTREAM_ERROR, &document, &ignored))
                return json_message(document);

        size_t start = 0, length = 0;
        while (start < body_bytes && strchr(" \t\r\n", text[start]) && text[start])
                start++;
        while (start + length < body_bytes && length < PLAIN_BYTES && !strchr("\r\n", text[start + length]))
                length++;
        return length > 0 && !strchr("<{[", text[start]) ? string_copy_bytes(text + start, length) : NULL;
}

void answer_quote(const void *body, size_t body_bytes, char *ret_text, size_t size_bytes)
{
        CLEANUP(cleanup_free) char *message = message_read(body, body_bytes);

        string_printable(message ? message : "", message ? strlen(message) : 0, ret_text, size_bytes);
}

/* A registry that sends back what it was sent: the words are then left out, whole. */
static bool repeats_credential(const struct answer *answer, const struct buffer *body, const char *message)
{
        return echo_has(answer->login, answer->authorization, body->data, body->used) || echo_has(answer->login, answer->authorization, message, strlen(message));
}

static const struct { int status; enum error_code code; const char *words; } rows[] = {
        { 400, ERROR_UPSTREAM_ERROR, "400 bad request" },
        { 401, ERROR_UNAUTHORIZED, "401 unauthorized, denied or not found" },
        { 403, ERROR_UNAUTHORIZED, "403 forbidden, denied or not found" },
        { 404, ERROR_NOT_FOUND, "404 denied or not found" },
        { 406, ERROR_UNSUPPORTED_IMAGE, "406 no manifest of a type that we accept" },
        { 410, ERROR_NOT_FOUND, "410 gone" },
        { 429, ERROR_RATE_LIMITED, "429 too many requests" },
};

bool answer_refuse(const struct answer *answer, struct error *err)
{
        const struct buffer *body = fetch_response_get_error_body(answer->response);
        int status = fetch_response_get_status(answer->response);
        unsigned retry_after = fetch_response_get_retry_after(answer->response);
        char who[128], quote[QUOTE_BYTES] = "", words[32];
        enum error_code code = ERROR_UPSTREAM_ERROR;

        snprintf(words, sizeof words, "status %d", status);
        const char *said = words;
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].status == status) {
                        code = rows[i].code;
                        said = rows[i].words;
                }
        if (body && body->used > 0) {
                CLEANUP(cleanup_free) char *message = message_read(body->data, body->used);
                if (message && repeats_credential(answer, body, message))
                        snprintf(quote, sizeof quote, "(its words are left out: they repeat a credential)");
                else if (message)
                        string_printable(message, strlen(message), quote, sizeof quote);
        }
        refuse(err, code, "%s: %s (as %s)%s%s", answer->what, said, login_describe(answer->login, who, sizeof who), *quote ? ": " : "", quote);
        err->retry_after_s = retry_after;
        return false;
}
