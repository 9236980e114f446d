/*
 * How it goes: the real request is sent with what worked the last time, or with nothing; a 401 is answered by what its challenge asks for, Bearer before Basic, and the
 *               request goes again.
 * How it fails: the same kind of credential is refused twice, there is no usable challenge (not at /v2/ either), or the login has not what is asked for:
 *               ERROR_UNAUTHORIZED with the registry's words.
 * How it ends: what worked is remembered; authorizations are wiped.
 *
 * Rules: [oci] 2.2, 1.4; a 401 behind a redirect to another origin is never answered ([oci] 1.8, 2.6).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { ROUNDS_MAX = 5, CHALLENGES_MAX = 8, HEADERS_MAX = 8, PROBE_BODY_BYTES_MAX = 64 << 10 };

enum sent { SENT_NOTHING, SENT_AS_IT_IS, SENT_BASIC, SENT_CACHED_TOKEN, SENT_FRESH_TOKEN };

struct session {
        const struct registry_call *call;
        const char *what;                          /* for errors */
        enum sent sent;
        struct secret *authorization, *token;
        char *realm, *service, *scopes;            /* what `token` was asked with */
        bool is_probed, is_widened;
};

static void session_fini(struct session *session)
{
        secret_free(&session->authorization);
        secret_free(&session->token);
        free(session->realm);
        free(session->service);
        free(session->scopes);
}

const char *method_get_name(enum fetch_method method)
{
        static const char *const names[] = { [FETCH_GET] = "GET", [FETCH_HEAD] = "HEAD", [FETCH_POST] = "POST" };
        return names[method];
}

static bool session_refuse(struct session *session, const struct fetch_response *response, struct error *err)
{
        struct answer answer = { session->what, session->call->login, response, session->authorization };
        return answer_refuse(&answer, err);
}

static bool take_basic(struct session *session, struct error *err)
{
        const struct login *login = session->call->login;
        char who[128];

        if (!login_has_basic(login))
                return refuse(err, ERROR_UNAUTHORIZED, "%s: 401 unauthorized: the registry wants a user name and password (Basic), %s has none", session->what,
                              login_is_anonymous(login) ? "the request, being anonymous," : login_describe(login, who, sizeof who));
        secret_free(&session->authorization);
        session->authorization = basic_format(login->username, login->password);
        session->sent = SENT_BASIC;
        return true;
}

static struct token_want want_of(const struct session *session)
{
        return (struct token_want){ session->call, session->realm, session->service, session->scopes };
}

static bool take_token(struct session *session, const char *realm, const char *service, const char *scope, struct error *err)
{
        struct secret *token = NULL;
        bool is_fresh = false;
        char *new_realm = string_copy(realm), *new_service = string_copy(service), *new_scopes = scopes_format(session->call->path, scope);

        free(session->realm);
        free(session->service);
        free(session->scopes);
        session->realm = new_realm;
        session->service = new_service;
        session->scopes = new_scopes;

        struct token_want want = want_of(session);
        if (!token_fetch(&want, &token, &is_fresh, err))
                return refuse_within(err, "%s", session->what);
        secret_free(&session->token);
        secret_free(&session->authorization);
        session->token = token;
        session->authorization = bearer_format(token);
        session->sent = is_fresh ? SENT_FRESH_TOKEN : SENT_CACHED_TOKEN;
        return true;
}

/* Before the first request: a token that is sent as it is, or what the endpoint wanted the last time. */
static bool take_remembered(struct session *session, struct error *err)
{
        const struct login *login = session->call->login;
        CLEANUP(memory_entry_fini) struct memory memory = { 0 };

        if (login && login->registry_token) {
                session->authorization = bearer_format(login->registry_token);
                session->sent = SENT_AS_IT_IS;
                return session->authorization || refuse(err, ERROR_UNAUTHORIZED, "%s: the registry token of the credential has characters that no token has", session->what);
        }
        if (!memory_find(session->call, &memory))
                return true;
        if (memory.is_basic)
                return take_basic(session, err);
        if (take_token(session, memory.realm, memory.service, memory.scope, err))
                return true;
        if (err->code != ERROR_UNAUTHORIZED && err->code != ERROR_UPSTREAM_ERROR && err->code != ERROR_UPSTREAM_UNREACHABLE)
                return false;
        /* The token server may have moved: ask the registry again. */
        memory_forget(session->call);
        *err = (struct error){ 0 };
        return true;
}

static size_t challenges_read(const struct fetch_response *response, struct challenge challenges[CHALLENGES_MAX])
{
        size_t count = 0;

        for (size_t i = 0; i < HEADERS_MAX; i++) {
                const char *header = fetch_response_get_header(response, "WWW-Authenticate", i);
                struct challenge found[CHALLENGES_MAX];
                size_t more = header ? challenge_parse(header, found) : 0;

                for (size_t k = 0; k < more; k++)
                        if (count < CHALLENGES_MAX)
                                challenges[count++] = found[k];
                        else
                                challenge_fini(&found[k]);
        }
        return count;
}

/* The first Bearer with a realm, else the first Basic; false when there is neither. */
static bool challenge_choose(const struct fetch_response *response, struct challenge *ret_challenge)
{
        struct challenge challenges[CHALLENGES_MAX];
        size_t count = challenges_read(response, challenges), bearer = count, basic = count;

        for (size_t i = count; i-- > 0;)
                if (strcasecmp(challenges[i].scheme, "Basic") == 0)
                        basic = i;
                else if (strcasecmp(challenges[i].scheme, "Bearer") == 0 && challenges[i].realm && *challenges[i].realm)
                        bearer = i;

        size_t chosen = bearer < count ? bearer : basic;
        for (size_t i = 0; i < count; i++)
                if (i == chosen)
                        *ret_challenge = challenges[i];
                else
                        challenge_fini(&challenges[i]);
        return chosen < count;
}

static bool is_same_origin(const struct fetch_response *response, const char *endpoint)
{
        CLEANUP(cleanup_free) char *here = fetch_url_origin(endpoint), *there = fetch_url_origin(fetch_response_get_url(response));
        return here && there && strcmp(here, there) == 0;
}

/* Some registries say 401 without saying how to log in; /v2/ does ([oci] 1.4). */
static bool challenge_probe(struct session *session, struct challenge *ret_challenge, struct error *err)
{
        CLEANUP(cleanup_free) char *root = endpoint_format_root(session->call), *url = string_format("%s/", root);
        CLEANUP(buffer_fini) struct buffer body = { .limit = PROBE_BODY_BYTES_MAX };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct sink_buffer sink;
        struct fetch_request request = {
                .method = FETCH_GET, .url = url, .size_limit = PROBE_BODY_BYTES_MAX, .size_expected = -1, .deadline_ms = session->call->deadline_ms,
                        .redirects_max = FETCH_REDIRECTS_MAX,
                .cancel = session->call->cancel, .endpoint = session->call->reach, .no_wait = session->call->no_wait,
        };

        session->is_probed = true;
        sink_buffer_init(&sink, &body, "answer of /v2/");
        if (!fetch_run(session->call->registry->fetch, &request, &sink.sink, &response, err))
                return false;
        return fetch_response_get_status(response) == 401 && is_same_origin(response, session->call->endpoint) && challenge_choose(response, ret_challenge);
}

static bool answer_bearer(struct session *session, const struct fetch_response *response, const struct challenge *challenge, struct error *err)
{
        bool is_insufficient = challenge->error && strcmp(challenge->error, "insufficient_scope") == 0;

        /* A fresh token of a remembered realm says nothing about the realm that this path names (Artifactory has one per repository). */
        bool is_same_server = string_equal(challenge->realm, session->realm) && string_equal(challenge->service, session->service);

        if (session->sent == SENT_FRESH_TOKEN && is_same_server) {
                CLEANUP(cleanup_free) char *scopes = scopes_format(session->call->path, challenge->scope);
                if (!is_insufficient || session->is_widened || strcmp(scopes, session->scopes) == 0)
                        return session_refuse(session, response, err);
                session->is_widened = true;
        } else if (session->sent == SENT_CACHED_TOKEN) {
                struct token_want want = want_of(session);
                token_drop(&want, session->token);
        }
        if (!take_token(session, challenge->realm, challenge->service, challenge->scope, err))
                return false;
        memory_keep(session->call, challenge);
        return true;
}

/* What the next round brings along; false when there is no next round. */
static bool answer_challenge(struct session *session, const struct fetch_response *response, struct error *err)
{
        CLEANUP(challenge_fini) struct challenge challenge = { 0 };

        if (!is_same_origin(response, session->call->endpoint)) {
                CLEANUP(cleanup_free) char *there = fetch_url_origin(fetch_response_get_url(response));
                return refuse(err, ERROR_UNAUTHORIZED, "%s: redirected to %s, which answered 401; credentials of the registry are not for it", session->what,
                        there ? there : "another place");
        }
        if (session->sent == SENT_AS_IT_IS)
                return session_refuse(session, response, err);
        if (!challenge_choose(response, &challenge)) {
                struct error probe = { 0 };
                if (session->is_probed || !challenge_probe(session, &challenge, &probe)) {
                        if (probe.code != ERROR_BUSY && probe.code != ERROR_TIMEOUT && probe.code != ERROR_RATE_LIMITED)
                                return session_refuse(session, response, err);
                        *err = probe;
                        return false;
                }
        }
        if (strcasecmp(challenge.scheme, "Bearer") == 0)
                return answer_bearer(session, response, &challenge, err);
        if (session->sent == SENT_BASIC) {
                memory_forget(session->call);
                return session_refuse(session, response, err);
        }
        if (!take_basic(session, err))
                return false;
        memory_keep(session->call, &challenge);
        return true;
}

static bool session_rounds(struct session *session, const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        for (int round = 0; round < ROUNDS_MAX; round++) {
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct fetch_request authorized = *request;

                authorized.endpoint = session->call->reach;
                authorized.no_wait = session->call->no_wait;
                authorized.authorization = session->authorization ? secret_get_text(session->authorization) : NULL;
                if (!fetch_run(session->call->registry->fetch, &authorized, sink, &response, err))
                        return false;
                if (fetch_response_get_status(response) != 401) {
                        *ret_response = TAKE(response);
                        return true;
                }
                if (round == ROUNDS_MAX - 1)
                        return session_refuse(session, response, err);
                if (!answer_challenge(session, response, err))
                        return false;
        }
        return refuse(err, ERROR_INTERNAL, "%s: no round left", session->what);
}

bool session_run(const struct registry_call *call, const struct fetch_request *request, struct sink *sink, struct session_result *ret_result, struct error *err)
{
        CLEANUP(cleanup_free) char *what = string_format("%s %.*s", method_get_name(request->method), (int)strcspn(request->url, "?"), request->url);
        CLEANUP(session_fini) struct session session = { .call = call, .what = what };
        struct fetch_response *response = NULL;

        if (!take_remembered(&session, err) || !session_rounds(&session, request, sink, &response, err))
                return false;
        *ret_result = (struct session_result){ response, TAKE(session.authorization) };
        return true;
}

void session_result_fini(struct session_result *result)
{
        fetch_response_free(&result->response);
        secret_free(&result->authorization);
}
