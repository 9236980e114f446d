/*
 * How it goes: the realm is checked, then asked: a refresh token by OAuth2 POST (and by GET where the server does not know that), anything else by GET with Basic, nobody
 *               by GET alone.
 * How it fails: refused credentials are ERROR_UNAUTHORIZED with the server's words; an answer without a token is ERROR_UPSTREAM_ERROR. Redirects are never followed.
 * How it ends: bodies and tokens are wiped; the caller owns the token.
 *
 * Rules: [oci] 2.3, 2.4 (distribution/distribution docs/content/spec/auth).
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { LIFETIME_DEFAULT_S = 60, LIFETIME_MAX_S = 24 * 3600, MARGIN_MS = 15000, URL_BYTES_MAX = 16 << 10 };

#define CLIENT_ID "wasmcached"

static int64_t expires_read(const struct value *value)
{
        int64_t seconds = LIFETIME_DEFAULT_S;

        if (value_get_kind(value) == VALUE_INT)
                seconds = value_get_int(value);
        else if (value_get_kind(value) == VALUE_REAL && value_get_real(value) < LIFETIME_MAX_S)
                seconds = (int64_t)value_get_real(value);
        else if (value_get_kind(value) == VALUE_REAL)
                seconds = LIFETIME_MAX_S;
        if (seconds > LIFETIME_MAX_S)
                return LIFETIME_MAX_S;
        /* The specification's minimum; servers that say less are read as saying this (c/image). */
        return seconds < LIFETIME_DEFAULT_S ? LIFETIME_DEFAULT_S : seconds;
}

/* min(0.9 ttl, ttl - 15 s) from issued_at on; an issued_at of the future is the server's clock, not ours. */
static int64_t lifetime_find(const struct value *document, int64_t wall_s)
{
        const struct value *expires = value_get_member(document, "expires_in"), *issued = value_get_member(document, "issued_at");
        int64_t ttl_ms = (expires ? expires_read(expires) : LIFETIME_DEFAULT_S) * 1000, issued_s = wall_s;
        int64_t lifetime_ms = ttl_ms - (ttl_ms / 10 > MARGIN_MS ? ttl_ms / 10 : MARGIN_MS);

        if (issued && value_get_kind(issued) == VALUE_TEXT && clock_parse_rfc3339(value_get_text(issued), &issued_s) && issued_s < wall_s)
                lifetime_ms -= wall_s - issued_s < LIFETIME_MAX_S ? (wall_s - issued_s) * 1000 : lifetime_ms;
        return lifetime_ms > 0 ? lifetime_ms : 0;
}

bool token_answer_parse(const void *bytes, size_t size_bytes, int64_t wall_s, struct token_answer *ret_answer, struct error *err)
{
        CLEANUP(value_free) struct value *document = NULL;
        const char *token = NULL, *access_token = NULL;

        if (!json_parse(bytes, size_bytes, ERROR_UPSTREAM_ERROR, &document, err))
                return refuse_within(err, "its answer");
        if (!value_read_text(document, "token", ERROR_UPSTREAM_ERROR, &token, err) || !value_read_text(document, "access_token", ERROR_UPSTREAM_ERROR, &access_token, err))
                return refuse_within(err, "its answer");
        if (access_token && *access_token)
                token = access_token;
        if (!token || !*token)
                return refuse(err, ERROR_UPSTREAM_ERROR, "its answer has no token");

        CLEANUP(secret_free) struct secret *secret = secret_new(token, strlen(token));
        CLEANUP(secret_free) struct secret *header = bearer_format(secret);
        if (!header)
                return refuse(err, ERROR_UPSTREAM_ERROR, "its token has characters that no token has");
        *ret_answer = (struct token_answer){ TAKE(secret), lifetime_find(document, wall_s) };
        return true;
}

/* name=value behind '?' or '&', whatever the realm's own query left. */
static void parameter_append(struct buffer *text, char mark, const char *name, const char *value)
{
        if (mark && text->used > 0 && !strchr("?&", text->data[text->used - 1]))
                buffer_append(text, strchr(text->data, '?') ? "&" : "?", 1);
        else if (!mark && text->used > 0)
                buffer_append(text, "&", 1);
        buffer_printf(text, "%s=", name);
        percent_append(text, value);
}

static void query_format(const struct token_want *want, struct buffer *url)
{
        const struct login *login = want->call->login;
        const char *at = want->scopes;

        buffer_append_text(url, want->realm);
        if (want->service)
                parameter_append(url, '?', "service", want->service);
        while (*at) {
                size_t length = strcspn(at, " ");
                CLEANUP(cleanup_free) char *scope = string_copy_bytes(at, length);
                parameter_append(url, '?', "scope", scope);
                at += length + strspn(at + length, " ");
        }
        parameter_append(url, '?', "client_id", CLIENT_ID);
        if (login_has_basic(login))
                parameter_append(url, '?', "account", login->username);
}

static void form_format(const struct token_want *want, const struct secret *refresh_token, struct buffer *form)
{
        /* Each byte takes three at most: no growth, so no unwiped copies. */
        buffer_reserve(form, 3 * (secret_get_size(refresh_token) + strlen(want->scopes) + (want->service ? strlen(want->service) : 0)) + 256);
        parameter_append(form, 0, "grant_type", "refresh_token");
        if (want->service)
                parameter_append(form, 0, "service", want->service);
        parameter_append(form, 0, "client_id", CLIENT_ID);
        parameter_append(form, 0, "scope", want->scopes);
        parameter_append(form, 0, "refresh_token", secret_get_text(refresh_token));
}

/* One answer of a token server, and what it was asked with. */
struct reply { struct buffer body; struct fetch_response *response; struct secret *authorization; };

static void reply_fini(struct reply *reply)
{
        buffer_fini_secret(&reply->body);
        fetch_response_free(&reply->response);
        secret_free(&reply->authorization);
}

static bool request_run(const struct token_want *want, const struct fetch_request *kind, struct reply *reply, struct error *err)
{
        static const struct fetch_header accept[] = { { "Accept", "application/json" } };
        struct fetch_request request = *kind;
        struct sink_buffer sink;

        /* A token server beside the registry is reached as the registry is; one elsewhere is known by the same authorities, and gets nothing else that is the registry's. */
        const struct fetch_endpoint *reach = want->call->reach;
        struct fetch_endpoint elsewhere = { .ca = reach ? reach->ca : NULL };
        CLEANUP(cleanup_free) char *here = fetch_url_origin(want->call->endpoint), *there = fetch_url_origin(want->realm);

        if (!realm_check(want->call, want->realm, &request.public_only, err))
                return false;
        request.endpoint = reach && !string_equal(here, there) ? &elsewhere : reach;
        reply->body.limit = TOKEN_BODY_BYTES_MAX;
        sink_buffer_init(&sink, &reply->body, "token");
        request.headers = accept;
        request.header_count = COUNT_OF(accept);
        request.size_limit = TOKEN_BODY_BYTES_MAX;
        request.size_expected = -1;
        request.deadline_ms = want->call->deadline_ms;
        request.redirects_max = 0;
        request.cancel = want->call->cancel;
        request.no_wait = want->call->no_wait;
        if (!fetch_run(want->call->registry->fetch, &request, &sink.sink, &reply->response, err))
                return refuse_within(err, "token server");
        return true;
}

static bool reply_use(const struct token_want *want, const struct reply *reply, struct token_answer *ret_answer, struct error *err)
{
        CLEANUP(cleanup_free) char *realm = string_copy_bytes(want->realm, strcspn(want->realm, "?"));
        CLEANUP(cleanup_free) char *what = string_format("token server %s", realm);
        struct answer answer = { what, want->call->login, reply->response, reply->authorization };
        int status = fetch_response_get_status(reply->response);

        if (status == 200) {
                if (!token_answer_parse(reply->body.data ? reply->body.data : "", reply->body.used, clock_get_wall_s(), ret_answer, err))
                        return refuse_within(err, "%s", what);
                return true;
        }
        answer_refuse(&answer, err);
        /* 400 is how OAuth2 says that a grant is no good (RFC 6749 5.2). */
        if (status == 400)
                err->code = ERROR_UNAUTHORIZED;
        else if (status == 404 || status == 406 || status == 410)
                err->code = ERROR_UPSTREAM_ERROR;
        return false;
}

/* *ret_known false: the server does not know OAuth2 (404 by the specification, 405 by common sense), nothing is decided. */
static bool exchange_post(const struct token_want *want, const struct secret *refresh_token, struct token_answer *ret_answer, bool *ret_known, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer form = { 0 };
        CLEANUP(reply_fini) struct reply reply = { 0 };

        form_format(want, refresh_token, &form);
        struct fetch_request request = { .method = FETCH_POST, .url = want->realm, .body = form.data, .body_type = "application/x-www-form-urlencoded" };
        *ret_known = true;
        if (!request_run(want, &request, &reply, err))
                return false;
        *ret_known = fetch_response_get_status(reply.response) != 404 && fetch_response_get_status(reply.response) != 405;
        return *ret_known && reply_use(want, &reply, ret_answer, err);
}

static bool exchange_get(const struct token_want *want, struct token_answer *ret_answer, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer url = { 0 };
        CLEANUP(reply_fini) struct reply reply = { 0 };
        const struct login *login = want->call->login;
        char who[128];

        if (login_has_basic(login))
                reply.authorization = basic_format(login->username, login->password);
        else if (!login_is_anonymous(login))
                return refuse(err, ERROR_UNAUTHORIZED, "token server %.*s does not take identity tokens, and %s has no user name with a password", (int)strcspn(want->realm,
                        "?"), want->realm,
                              login_describe(login, who, sizeof who));
        query_format(want, &url);
        if (url.used > URL_BYTES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the challenge of %s makes a token request of %zu bytes", want->call->endpoint, url.used);
        struct fetch_request request = { .method = FETCH_GET, .url = url.data, .authorization = reply.authorization ? secret_get_text(reply.authorization) : NULL };
        return request_run(want, &request, &reply, err) && reply_use(want, &reply, ret_answer, err);
}

bool token_exchange(const struct token_want *want, struct token_answer *ret_answer, struct error *err)
{
        const struct secret *refresh_token = login_get_refresh_token(want->call->login);
        bool known = false;

        if (refresh_token && exchange_post(want, refresh_token, ret_answer, &known, err))
                return true;
        return !known && exchange_get(want, ret_answer, err);
}
