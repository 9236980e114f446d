/* registry_script: a scripted fetch in place of the real one: every request is compared with what the script expects, in order. And logins, one letter each. */
#pragma once
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wasmcached/fetch.h>
#include <wasmcached/registry.h>

/* ---- the script */
struct step {
        const char *request;                       /* "METHOD url [authorization] {body}" and " public" when only public addresses are allowed */
        int status;
        const char *headers[3];                    /* "Name: value" */
        const char *body;
        const char *final_url;                     /* after redirects; NULL = the request's */
        enum error_code fails;                     /* fetch_run itself fails */
};

static const struct step *script;
static size_t script_at;

static void script_start(const struct step *steps)
{
        script = steps;
        script_at = 0;
}
static bool (*handler)(const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err);

struct fetch_client { int unused; };
struct fetch_response { int status; const char *const *headers; char *url; struct buffer error_body; unsigned retry_after; };

struct fetch_client *fetch_client_ref(struct fetch_client *client) { return client; }
void fetch_client_unref(struct fetch_client **client) { *client = NULL; }
bool fetch_client_is_plain(const struct fetch_client *client, const char *host) { (void)client; return string_starts_with(host, "localhost"); }
int fetch_response_get_status(const struct fetch_response *response) { return response->status; }
const char *fetch_response_get_url(const struct fetch_response *response) { return response->url; }
const struct buffer *fetch_response_get_error_body(const struct fetch_response *response) { return &response->error_body; }
unsigned fetch_response_get_retry_after(const struct fetch_response *response) { return response->retry_after; }

const char *fetch_response_get_header(const struct fetch_response *response, const char *name, size_t nth)
{
        for (size_t i = 0; i < 3 && response->headers[i]; i++)
                if (strncasecmp(response->headers[i], name, strlen(name)) == 0 && response->headers[i][strlen(name)] == ':' && nth-- == 0)
                        return response->headers[i] + strlen(name) + 2;
        return NULL;
}

void fetch_response_free(struct fetch_response **response)
{
        struct fetch_response *gone = TAKE(*response);
        if (!gone)
                return;
        free(gone->url);
        buffer_fini(&gone->error_body);
        free(gone);
}

char *fetch_url_origin(const char *url)
{
        const char *at = strstr(url, "://");
        size_t length = at ? (size_t)(at + 3 - url) + strcspn(at + 3, "/?") : 0;
        return at ? string_format("%.*s%s", (int)length, url, memchr(at + 3, ':', strcspn(at + 3, "/?")) ? "" : ":443") : NULL;
}

static struct fetch_response *response_new(const struct fetch_request *request, const struct step *step)
{
        struct fetch_response *response = memory_new(1, sizeof *response);
        response->status = step->status;
        response->headers = step->headers;
        response->url = string_copy(step->final_url ? step->final_url : request->url);
        response->retry_after = step->status == 429 ? 7 : 0;
        return response;
}

static bool script_run(const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        static const char *const names[] = { "GET", "HEAD", "POST" };
        const struct step *step = &script[script_at];
        CLEANUP(cleanup_free) char *seen = string_format("%s %s [%s] {%s}%s", names[request->method], request->url, request->authorization ? request->authorization : "",
                request->body ? request->body : "",
                                                         request->public_only ? " public" : "");

        if (!step->request)
                fail_msg("a request too many: %s", seen);
        assert_string_equal(seen, step->request);
        script_at++;
        if (step->fails != ERROR_NONE)
                return refuse(err, step->fails, "scripted failure");

        struct fetch_response *response = response_new(request, step);
        const char *body = step->body ? step->body : "";
        if (step->status >= 300)
                buffer_append_text(&response->error_body, body);
        else if (sink && *body && !sink->write(sink, body, strlen(body), err)) {
                fetch_response_free(&response);
                return false;
        }
        *ret_response = response;
        return true;
}

bool fetch_run(struct fetch_client *client, const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        (void)client;
        assert_true(request->size_limit <= (64u << 20));
        return (handler ? handler : script_run)(request, sink, ret_response, err);
}

/* ---- the logins: one letter each */
__attribute__((unused)) static struct login login_of(char kind)
{
        struct login login = { 0 };
        switch (kind) {
        case 'u':
        case 'v':
                login.username = string_copy(kind == 'u' ? "alice" : "bob");
                login.password = secret_new("hunter2", 7);
                break;
        case 'i':
                login.identity_token = secret_new("idtok&1", 7);
                break;
        case 'b':                                  /* both: ACR as docker login leaves it */
                login.username = string_copy("alice");
                login.password = secret_new("hunter2", 7);
                login.identity_token = secret_new("idtok&1", 7);
                break;
        case 't':
                login.username = string_copy("<token>");
                login.password = secret_new("idtok&1", 7);
                break;
        case 'r':
                login.registry_token = secret_new("regtok", 6);
                break;
        case 'x':
                login.registry_token = secret_new("reg\ntok", 7);
                break;
        default:
                break;
        }
        return login;
}
