/* registry, inside: what its files share with each other and with tests, not with other rooms. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/fetch.h>
#include <wasmcached/registry.h>

enum { TOKEN_BODY_BYTES_MAX = 64 << 10 };

struct registry {
        struct fetch_client *fetch;
        char **realm_pairs;                        /* NULL-terminated copies */
        uint8_t key[DIGEST_SHA256_BYTES];          /* fingerprints of logins mean nothing outside this process */
        pthread_mutex_t lock;                      /* of all below; never held over I/O or a cancel_… call */
        pthread_cond_t changed;                    /* a token arrived or a waiter was cancelled */
        struct map *tokens;                        /* token.c */
        struct map *memories;                      /* memory.c */
};

/* ---- url.c: an URL of a realm or endpoint, split with the strictest reading, so that no second parser can read another host out of it */
struct authority { bool is_tls; char *host; unsigned port; };      /* host in lower case, brackets kept */
bool authority_parse(const char *url, struct authority *ret_authority);    /* false: userinfo, fragment, odd characters, no http(s), bad port */
void authority_fini(struct authority *authority);
/* <endpoint>/v2, or the endpoint itself where that is the root; no slash at the end. Caller frees. */
char *endpoint_format_root(const struct registry_call *call) __attribute__((returns_nonnull));
void percent_append(struct buffer *buffer, const char *text);      /* all but RFC 3986 unreserved characters as %XX */

/* ---- realm.c: [oci] 2.6 and 2.3 */
/* May the login of `call` (or nobody) be taken to `realm`? Before any I/O. ERROR_UNAUTHORIZED; *ret_public_only: only public addresses may be connected to. */
bool realm_check(const struct registry_call *call, const char *realm, bool *ret_public_only, struct error *err);
/* The scopes to ask for, blank-separated: the pull-only ones of the challenge (may be NULL) first, then our own. */
char *scopes_format(const char *path, const char *challenge_scope) __attribute__((returns_nonnull));

/* ---- hosts.c, tree.c: containerd's certs.d */
struct tree_host { char *name; struct registry_endpoint *endpoints; size_t count; struct error err; };     /* name of the folder; err: what is wrong in it */
/* Fills endpoints from the folder; false with err. A folder that says nothing gives the registry itself. */
bool hosts_load(const char *folder, struct tree_host *host, struct error *err);
bool hosts_parse(const char *text, size_t size_bytes, const char *file, struct tree_host *host, struct error *err);        /* `file`: its folder is what paths are relative to */
void tree_host_fini(struct tree_host *host);

/* ---- login.c */
/* "user 'x'", "anonymous", "an identity token": who was asking, without anything secret. */
const char *login_describe(const struct login *login, char *ret_text, size_t size_bytes);
/* The OAuth2 refresh token of a login (also a password of the user "<token>"), or NULL. */
const struct secret *login_get_refresh_token(const struct login *login);
bool login_has_basic(const struct login *login);
struct secret *basic_format(const char *username, const struct secret *password) __attribute__((returns_nonnull));         /* "Basic …" */
/* "Bearer …"; NULL when the token has characters that no header may have. */
struct secret *bearer_format(const struct secret *token);
void fingerprint_format(const struct registry *registry, const struct login *login, char ret_text[DIGEST_TEXT_BYTES]);

/* ---- echo.c: does a text of a registry repeat a secret of `login`, or what was sent (NULL: nothing) */
bool echo_has(const struct login *login, const struct secret *authorization, const void *text, size_t size_bytes);

/* ---- answer.c: an HTTP answer that is no success, as error */
struct answer {
        const char *what;                          /* "GET https://host/v2/…" */
        const struct login *login;
        const struct fetch_response *response;
        const struct secret *authorization;        /* what was sent, so that an echo of it is never quoted; may be NULL */
};
bool answer_refuse(const struct answer *answer, struct error *err);
/* "CODE: message" of an error body in any of the known shapes, printable, at most size - 1 bytes; "" when there is none. */
void answer_quote(const void *body, size_t body_bytes, char *ret_text, size_t size_bytes);

/* ---- exchange.c: one request to a token server */
struct token_want { const struct registry_call *call; const char *realm, *service, *scopes; };      /* service may be NULL */
struct token_answer { struct secret *token; int64_t lifetime_ms; };
bool token_answer_parse(const void *bytes, size_t size_bytes, int64_t wall_s, struct token_answer *ret_answer, struct error *err);
bool token_exchange(const struct token_want *want, struct token_answer *ret_answer, struct error *err);

/* ---- token.c: the cache in front of it; one exchange at a time per key */
void token_entry_free(void *entry);
/* *ret_is_fresh: it was fetched for this call or while it waited. */
bool token_fetch(const struct token_want *want, struct secret **ret_token, bool *ret_is_fresh, struct error *err);
void token_drop(const struct token_want *want, const struct secret *token);        /* the registry did not take it */

/* ---- memory.c: how an endpoint wanted this login the last time, so that the next request need not be refused first */
struct memory { bool is_basic; char *realm, *service, *scope, *path; };
void memory_entry_free(void *memory);
void memory_keep(const struct registry_call *call, const struct challenge *challenge);
bool memory_find(const struct registry_call *call, struct memory *ret_memory);     /* a copy; memory_entry_fini */
void memory_forget(const struct registry_call *call);
void memory_entry_fini(struct memory *memory);

/* ---- session.c */
/* The final answer and the authorization that it was given for (NULL: none). */
struct session_result { struct fetch_response *response; struct secret *authorization; };
void session_result_fini(struct session_result *result);
/* Runs `request` (its authorization is ours) with whatever login the registry asks for; every status but 401 is returned as it is. */
bool session_run(const struct registry_call *call, const struct fetch_request *request, struct sink *sink, struct session_result *ret_result, struct error *err);
const char *method_get_name(enum fetch_method method);

/* ---- manifest.c */
char *content_type_strip(const char *content_type);                /* without parameters and blanks around; NULL when nothing is left */
bool content_type_is_generic(const char *type);                    /* what servers that know nothing of manifests put there: it says nothing */

/* ---- pull.c */
/* "<endpoint>/v2/<path>/<kind>/<name>", with ?ns= for a mirror. */
char *url_format(const struct registry_call *call, const char *kind, const char *name) __attribute__((returns_nonnull));
/* One request for content: anything but 200 (206) is an error; *ret_response is set for a refused status too. */
bool content_run(const struct registry_call *call, const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err);

/* ---- link.c: where the next page is (RFC 8288) */
/* The target of the first link with rel=next of one Link header; NULL when there is none or the header is malformed before it. Caller frees. */
char *link_find_next(const char *header);
/* `target` as seen from `base`, an http(s) URL (RFC 3986 5.2 without dot segments). Caller frees. */
char *link_resolve(const char *base, const char *target) __attribute__((returns_nonnull));
/* The URL of the page after `response`, *ret_url NULL when it was the last. Only the origin of the call's endpoint is followed: ERROR_UPSTREAM_ERROR. */
bool link_follow(const struct registry_call *call, const struct fetch_response *response, char **ret_url, struct error *err);

/* ---- referrers.c */
/* One index of referrers, from a page of the API or from the fallback tag; filled in: is it an index at all, and how many entries it has. */
struct referrers_page { const void *bytes; size_t size_bytes; const char *content_type; bool is_tag, is_index; size_t entries; };
/* Adds what may be signatures. Something that is no index adds nothing and is no error; an index that cannot be read is ERROR_UPSTREAM_ERROR. In memory. */
bool referrers_add(struct registry_referrers *referrers, struct referrers_page *page, struct error *err);
