/* The whole conversation with a registry over a scripted fetch: every request is compared with what the script expects, in order. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>
#include <wasmcached/registry.h>
#include "registry_script.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"      /* rows of the tables say only what matters to them */

/* ---- the cases */
#define E "https://r.example"
#define M "/v2/team/a/manifests/v1"
#define BASIC "Basic YWxpY2U6aHVudGVyMg=="
#define BEARER(realm) "WWW-Authenticate: Bearer realm=\"" realm "\",service=\"svc\",scope=\"repository:team/a:pull\""
#define QUERY "?service=svc&scope=repository%3Ateam%2Fa%3Apull&client_id=wasmcached"
#define REALM E "/token"
#define FORM "{grant_type=refresh_token&service=svc&client_id=wasmcached&scope=repository%3Ateam%2Fa%3Apull&refresh_token=idtok%261}"
#define TOKEN(text) "{\"token\":\"" text "\",\"expires_in\":300}"
#define OLD_TOKEN(text) "{\"token\":\"" text "\",\"expires_in\":60,\"issued_at\":\"2001-01-01T00:00:00Z\"}"     /* good for this once */
#define EMPTY_DIGEST "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define BODY_DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

/* One letter each: m manifest v1, h HEAD of v1, d manifest by digest, D HEAD by digest, b blob of 2 bytes. */
static const struct test_case {
        const char *name, *ops, *login, *endpoint, *mirror_of;
        struct step steps[12];
        enum error_code code;                      /* of the last op */
        const char *why;                           /* in its text */
} cases[] = {
        { .name = "anonymous, open", .ops = "mm", .steps = { { "GET " E M " [] {}", 200, { NULL }, "{}" }, { "GET " E M " [] {}", 200, { NULL }, "{}" } } },
        { .name = "anonymous token, then remembered", .ops = "mmb", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " E "/v2/team/a/blobs/" BODY_DIGEST " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "user by Bearer GET", .ops = "m", .login = "u", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "tokens are not shared between logins", .ops = "mm", .login = "uv", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY "&account=bob [Basic Ym9iOmh1bnRlcjI=] {}", 200, { NULL }, TOKEN("T2") },
                { "GET " E M " [Bearer T2] {}", 200, { NULL }, "{}" },
        } },
        { .name = "Basic, remembered", .ops = "mm", .login = "uu", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E M " [" BASIC "] {}", 200, { NULL }, "{}" },
                { "GET " E M " [" BASIC "] {}", 200, { NULL }, "{}" },
        } },
        { .name = "Basic refused", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "as user 'alice'): UNAUTHORIZED: authentication required", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E M " [" BASIC "] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" },
                        "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication required\"}]}" },
        } },
        { .name = "Basic wanted, nobody there", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "wants a user name and password", .steps = { { "GET " E M " [] {}", 401,
                { "WWW-Authenticate: Basic realm=\"x\"" } } } },
        { .name = "Basic wanted, identity token there", .ops = "m", .login = "i", .code = ERROR_UNAUTHORIZED, .why = "an identity token has none",
                .steps = { { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } } } },
        { .name = "Bearer before Basic, in two headers", .ops = "m", .login = "u", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"", BEARER(REALM) } },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "registry token as it is", .ops = "m", .login = "r", .steps = { { "GET " E M " [Bearer regtok] {}", 200, { NULL }, "{}" } } },
        { .name = "registry token refused", .ops = "m", .login = "r", .code = ERROR_UNAUTHORIZED, .why = "as a registry token", .steps = { { "GET " E M " [Bearer regtok] {}",
                401, { BEARER(REALM) } } } },
        { .name = "registry token that is no header", .ops = "m", .login = "x", .code = ERROR_UNAUTHORIZED, .why = "characters", .steps = { { NULL } } },
        { .name = "identity token by POST", .ops = "m", .login = "i", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "POST " REALM " [] " FORM, 200, { NULL }, "{\"access_token\":\"T1\",\"refresh_token\":\"new\"}" },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "user <token>", .ops = "m", .login = "t", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "POST " REALM " [] " FORM, 200, { NULL }, "{\"access_token\":\"T1\"}" },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "identity token, server knows GET only", .ops = "m", .login = "b", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "POST " REALM " [] " FORM, 404, { NULL }, "404 page not found" },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "identity token, GET only, no password: never anonymous", .ops = "m", .login = "i", .code = ERROR_UNAUTHORIZED, .why = "does not take identity tokens", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "POST " REALM " [] " FORM, 404, { NULL }, NULL },
        } },
        { .name = "identity token refused", .ops = "m", .login = "b", .code = ERROR_UNAUTHORIZED, .why = "invalid_grant: no", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "POST " REALM " [] " FORM, 400, { NULL }, "{\"error\":\"invalid_grant\",\"error_description\":\"no\"}" },
        } },
        { .name = "token server refuses", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED,
                .why = "token server " REALM ": 401 unauthorized, denied or not found (as user 'alice'): DENIED: wrong", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 401, { NULL }, "{\"code\":\"DENIED\",\"message\":\"wrong\"}" },
        } },
        { .name = "token server broken", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "status 500", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } }, { "GET " REALM QUERY " [] {}", 500, { NULL }, "<html>" },
        } },
        { .name = "token server lost", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "404", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } }, { "GET " REALM QUERY " [] {}", 404, { NULL }, NULL },
        } },
        { .name = "token server busy", .ops = "m", .code = ERROR_RATE_LIMITED, .why = "429", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } }, { "GET " REALM QUERY " [] {}", 429, { NULL }, NULL },
        } },
        { .name = "token server unreachable", .ops = "m", .code = ERROR_UPSTREAM_UNREACHABLE, .why = "token server: scripted", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } }, { "GET " REALM QUERY " [] {}", .fails = ERROR_UPSTREAM_UNREACHABLE },
        } },
        { .name = "token missing", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "has no token", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } }, { "GET " REALM QUERY " [] {}", 200, { NULL }, "{\"token\":\"\"}" },
        } },
        { .name = "fresh token refused", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "as user 'alice'", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 401, { BEARER(REALM) ",error=\"invalid_token\"" } },
        } },
        { .name = "stale token is dropped once", .ops = "mm", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " E M " [Bearer T1] {}", 401, { BEARER(REALM) ",error=\"invalid_token\"" } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T2") },
                { "GET " E M " [Bearer T2] {}", 200, { NULL }, "{}" },
        } },
        { .name = "insufficient scope: one exchange more", .ops = "m", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 401,
                        { "WWW-Authenticate: Bearer realm=\"" REALM "\",service=\"svc\",scope=\"repository:base/x:pull\",error=\"insufficient_scope\"" } },
                { "GET " REALM "?service=svc&scope=repository%3Abase%2Fx%3Apull&scope=repository%3Ateam%2Fa%3Apull&client_id=wasmcached [] {}", 200, { NULL }, TOKEN("T2") },
                { "GET " E M " [Bearer T2] {}", 200, { NULL }, "{}" },
        } },
        { .name = "insufficient scope twice", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "anonymous", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 401, { "WWW-Authenticate: Bearer realm=\"" REALM "\",service=\"svc\",scope=\"repository:b:pull\",error=\"insufficient_scope\"" } },
                { "GET " REALM "?service=svc&scope=repository%3Ab%3Apull&scope=repository%3Ateam%2Fa%3Apull&client_id=wasmcached [] {}", 200, { NULL }, TOKEN("T2") },
                { "GET " E M " [Bearer T2] {}", 401, { "WWW-Authenticate: Bearer realm=\"" REALM "\",service=\"svc\",scope=\"repository:c:pull\",error=\"insufficient_scope\"" } },
        } },
        { .name = "insufficient scope that asks for push", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "anonymous", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 401,
                        { "WWW-Authenticate: Bearer realm=\"" REALM "\",service=\"svc\",scope=\"repository:team/a:pull,push\",error=\"insufficient_scope\"" } },
        } },
        { .name = "olareg's and zot's scopes, realm with a query", .ops = "m", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Bearer realm=\"" REALM "?a=b\",scope=\"registry::pull\",error=\"unauthorized\"" } },
                { "GET " REALM "?a=b&scope=repository%3Ateam%2Fa%3Apull&client_id=wasmcached [] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "no challenge: /v2/ leads elsewhere", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "401", .steps = { { "GET " E M " [] {}", 401, { NULL } },
                { "GET " E "/v2/ [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" }, .final_url = "https://evil.example/v2/" } } },
        { .name = "no challenge: /v2/ has one but lets in", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "401", .steps = {
                { "GET " E M " [] {}", 401, { NULL } }, { "GET " E "/v2/ [] {}", 200, { "WWW-Authenticate: Basic realm=\"x\"" } } } },
        { .name = "no challenge: /v2/ has none", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "401", .steps = {
                { "GET " E M " [] {}", 401, { NULL } }, { "GET " E "/v2/ [] {}", 401, { NULL } } } },
        { .name = "no challenge: /v2/ has it", .ops = "m", .login = "u", .steps = {
                { "GET " E M " [] {}", 401, { NULL } },
                { "GET " E "/v2/ [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E M " [" BASIC "] {}", 200, { NULL }, "{}" },
        } },
        { .name = "no challenge anywhere", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "401 unauthorized", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Negotiate" } }, { "GET " E "/v2/ [] {}", 200, { NULL }, "{}" },
        } },
        { .name = "401 behind a redirect", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "redirected to https://cdn.example:443", .steps = {
                { "GET " E M " [] {}", 401, { BEARER("https://cdn.example/token") }, NULL, "https://cdn.example/x?sig=1" },
        } },
        /* realms */
        { .name = "realm on another port of the host", .ops = "m", .login = "u", .steps = {
                { "GET " E M " [] {}", 401, { BEARER("https://R.example:5001/auth") } },
                { "GET https://R.example:5001/auth" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "foreign realm, credentials", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED,
                .why = "evil.example; credentials go there only if registries.\"r.example\".token_realms lists it", .steps = {
                { "GET " E M " [] {}", 401, { BEARER("https://evil.example/token") } },
        } },
        { .name = "foreign realm, identity token", .ops = "m", .login = "i", .code = ERROR_UNAUTHORIZED, .why = "evil.example", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://evil.example/token") } } } },
        { .name = "foreign realm, sub-domain", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "x.r.example", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://x.r.example/token") } } } },
        { .name = "foreign realm, anonymous", .ops = "m", .steps = {
                { "GET " E M " [] {}", 401, { BEARER("https://auth.example/token") } },
                { "GET https://auth.example/token" QUERY " [] {} public", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "configured realm", .ops = "m", .login = "u", .steps = {
                { "GET " E M " [] {}", 401, { BEARER("https://login.example/token") } },
                { "GET https://login.example/token" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "Docker Hub", .ops = "m", .login = "u", .endpoint = "https://registry-1.docker.io", .steps = {
                { "GET https://registry-1.docker.io" M " [] {}", 401, { BEARER("https://auth.docker.io/token") } },
                { "GET https://auth.docker.io/token" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET https://registry-1.docker.io" M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "Docker Hub, configured", .ops = "m", .login = "u", .endpoint = "https://registry-1.docker.io", .steps = {
                { "GET https://registry-1.docker.io" M " [] {}", 401, { BEARER("https://hub-login.example/token") } },
                { "GET https://hub-login.example/token" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET https://registry-1.docker.io" M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "GitLab", .ops = "m", .login = "u", .endpoint = "https://registry.gitlab.com", .steps = {
                { "GET https://registry.gitlab.com" M " [] {}", 401, { BEARER("https://gitlab.com/jwt/auth") } },
                { "GET https://gitlab.com/jwt/auth" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET https://registry.gitlab.com" M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "Docker Hub's realm from elsewhere", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "auth.docker.io", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://auth.docker.io/token") } } } },
        { .name = "http realm", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "on http", .steps = { { "GET " E M " [] {}", 401, { BEARER("http://r.example/token") } } } },
        { .name = "http realm of an http registry", .ops = "m", .login = "u", .endpoint = "http://localhost:5000", .steps = {
                { "GET http://localhost:5000" M " [] {}", 401, { BEARER("http://localhost:5001/token") } },
                { "GET http://localhost:5001/token" QUERY "&account=alice [" BASIC "] {}", 200, { NULL }, TOKEN("T1") },
                { "GET http://localhost:5000" M " [Bearer T1] {}", 200, { NULL }, "{}" },
        } },
        { .name = "realm with userinfo", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://r.example@evil.example/token") } } } },
        { .name = "realm with fragment", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://r.example/token#x") } } } },
        { .name = "realm with a backslash", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://evil.example\\\\@r.example/token") } } } },
        { .name = "relative realm", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401, { BEARER("/token") } } } },
        { .name = "file realm", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("file:///etc/passwd") } } } },
        { .name = "realm without host", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https:///token") } } } },
        { .name = "realm with port 0", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://r.example:0/token") } } } },
        { .name = "realm with a blank", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "no plain http(s) URL", .steps = { { "GET " E M " [] {}", 401,
                { BEARER("https://r.example/a b") } } } },
        { .name = "doubled realm: no challenge", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "401", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Bearer realm=\"" REALM "\",realm=\"https://evil.example/\"" } }, { "GET " E "/v2/ [] {}", 404, { NULL } },
        } },
        { .name = "remembered realm gone", .ops = "mhm", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, "{\"token\":\"T1\",\"expires_in\":60,\"issued_at\":\"2001-01-01T00:00:00Z\"}" },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " REALM QUERY " [] {}", 404, { NULL } },
                { "HEAD " E M " [] {}", 401, { BEARER(E "/new") } },
                { "GET " E "/new" QUERY " [] {}", 200, { NULL }, TOKEN("T2") },
                { "HEAD " E M " [Bearer T2] {}", 200, { "Docker-Content-Digest: " BODY_DIGEST } },
                { "GET " E M " [Bearer T2] {}", 200, { NULL }, "{}" },
        } },
        /* statuses */
        { .name = "realm has moved while its token was fresh", .ops = "mm", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, OLD_TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, OLD_TOKEN("T2") },
                { "GET " E M " [Bearer T2] {}", 401, { BEARER(E "/other") } },
                { "GET " E "/other" QUERY " [] {}", 200, { NULL }, TOKEN("T3") },
                { "GET " E M " [Bearer T3] {}", 200, { NULL }, "{}" },
        } },
        { .name = "remembered realm unreachable", .ops = "mm", .steps = {
                { "GET " E M " [] {}", 401, { BEARER(REALM) } },
                { "GET " REALM QUERY " [] {}", 200, { NULL }, OLD_TOKEN("T1") },
                { "GET " E M " [Bearer T1] {}", 200, { NULL }, "{}" },
                { "GET " REALM QUERY " [] {}", .fails = ERROR_UPSTREAM_UNREACHABLE },
                { "GET " E M " [] {}", 401, { BEARER(E "/other") } },
                { "GET " E "/other" QUERY " [] {}", 200, { NULL }, TOKEN("T3") },
                { "GET " E M " [Bearer T3] {}", 200, { NULL }, "{}" },
        } },
        { .name = "403", .ops = "m", .code = ERROR_UNAUTHORIZED, .why = "GET " E M ": 403 forbidden, denied or not found (as anonymous): DENIED: requested access is denied",
                .steps = {
                { "GET " E M " [] {}", 403, { NULL }, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"requested access is denied\",\"detail\":null}]}" },
        } },
        { .name = "404", .ops = "m", .code = ERROR_NOT_FOUND, .why = "404 denied or not found (as anonymous): MANIFEST_UNKNOWN: a\\x1bb", .steps = {
                { "GET " E M " [] {}", 404, { NULL }, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"a\\u001bb\"}]}" },
        } },
        { .name = "404 plain text", .ops = "m", .code = ERROR_NOT_FOUND, .why = "(as anonymous): 404 page not found", .steps = { { "GET " E M " [] {}", 404, { NULL },
                "404 page not found\nx" } } },
        { .name = "details", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "(as anonymous): it hurts", .steps = { { "GET " E M " [] {}", 500, { NULL },
                "{\"details\":\"it hurts\"}" } } },
        { .name = "429", .ops = "m", .code = ERROR_RATE_LIMITED, .why = "TOOMANYREQUESTS", .steps = { { "GET " E M " [] {}", 429, { NULL },
                "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\"}]}" } } },
        { .name = "503", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "status 503", .steps = { { "GET " E M " [] {}", 503, { NULL }, "<html>secret page</html>" } } },
        { .name = "204", .ops = "m", .code = ERROR_UPSTREAM_ERROR, .why = "status 204", .steps = { { "GET " E M " [] {}", 204, { NULL } } } },
        { .name = "echo of a credential", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "repeat a credential", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E M " [" BASIC "] {}", 403, { NULL }, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"you sent " BASIC "\"}]}" },
        } },
        { .name = "echo of a password, escaped", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "repeat a credential", .steps = {
                { "GET " E M " [] {}", 403, { NULL }, "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"hun\\u0074er2\"}]}" },
        } },
        { .name = "echo of a credential, percent-encoded", .ops = "m", .login = "u", .code = ERROR_UNAUTHORIZED, .why = "repeat a credential", .steps = {
                { "GET " E M " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E M " [" BASIC "] {}", 403, { NULL }, "sent=YWxpY2U6aHVudGVyMg%3d%3D&x=%" },
        } },
        { .name = "unreachable", .ops = "m", .code = ERROR_UPSTREAM_UNREACHABLE, .why = "scripted", .steps = { { "GET " E M " [] {}", .fails = ERROR_UPSTREAM_UNREACHABLE } } },
        /* manifests and blobs */
        { .name = "by digest", .ops = "d", .steps = { { "GET " E "/v2/team/a/manifests/" BODY_DIGEST " [] {}", 200, { NULL }, "{}" } } },
        { .name = "by digest, other bytes, right header", .ops = "d", .code = ERROR_CHECKSUM_MISMATCH, .why = "the 3 bytes that came have the digest sha256:", .steps = {
                { "GET " E "/v2/team/a/manifests/" BODY_DIGEST " [] {}", 200, { "Docker-Content-Digest: " BODY_DIGEST }, "{ }" },
        } },
        { .name = "lying header by tag", .ops = "m", .steps = { { "GET " E M " [] {}", 200, { "Docker-Content-Digest: " EMPTY_DIGEST }, "{}" } } },
        { .name = "HEAD", .ops = "h", .steps = { { "HEAD " E M " [] {}", 200, { "Docker-Content-Digest: " BODY_DIGEST } } } },
        { .name = "HEAD not known", .ops = "h", .steps = { { "HEAD " E M " [] {}", 405, { NULL } }, { "GET " E M " [] {}", 200, { NULL }, "{}" } } },
        { .name = "HEAD refused behind a redirect", .ops = "h", .steps = { { "HEAD " E M " [] {}", 403, { NULL }, NULL, "https://cdn.example/x" }, { "GET " E M " [] {}", 200,
                { NULL }, "{}" } } },
        { .name = "HEAD 404", .ops = "h", .code = ERROR_NOT_FOUND, .why = "HEAD " E M, .steps = { { "HEAD " E M " [] {}", 404, { NULL } } } },
        { .name = "blob", .ops = "b", .steps = { { "GET " E "/v2/team/a/blobs/" BODY_DIGEST " [] {}", 200, { NULL }, "{}" } } },
        { .name = "blob, last piece resumed", .ops = "b", .steps = { { "GET " E "/v2/team/a/blobs/" BODY_DIGEST " [] {}", 206, { NULL }, "{}" } } },
        { .name = "blob short", .ops = "b", .code = ERROR_CHECKSUM_MISMATCH, .why = "1 bytes instead of 2", .steps = { { "GET " E "/v2/team/a/blobs/" BODY_DIGEST " [] {}", 200,
                { NULL }, "{" } } },
        { .name = "blob missing", .ops = "b", .code = ERROR_NOT_FOUND, .why = "BLOB_UNKNOWN", .steps = { { "GET " E "/v2/team/a/blobs/" BODY_DIGEST " [] {}", 404, { NULL },
                "{\"errors\":[{\"code\":\"BLOB_UNKNOWN\"}]}" } } },
        { .name = "mirror", .ops = "mb", .endpoint = "https://mirror.example/prefix", .mirror_of = "r.example:5000", .steps = {
                { "GET https://mirror.example/prefix" M "?ns=r.example%3A5000 [] {}", 200, { NULL }, "{}" },
                { "GET https://mirror.example/prefix/v2/team/a/blobs/" BODY_DIGEST "?ns=r.example%3A5000 [] {}", 200, { NULL }, "{}" },
        } },
        { .name = "mirror, error without query", .ops = "m", .endpoint = "https://mirror.example", .mirror_of = "r.example", .code = ERROR_NOT_FOUND,
                .why = "GET https://mirror.example" M ": 404", .steps = {
                { "GET https://mirror.example" M "?ns=r.example [] {}", 404, { NULL } },
        } },
};

static struct descriptor descriptor_of_body(void)
{
        struct descriptor descriptor = { .size_bytes = 2 };
        struct error err;
        assert_true(digest_parse(BODY_DIGEST, strlen(BODY_DIGEST), ERROR_BAD_URL, &descriptor.digest, &err));
        return descriptor;
}

static bool op_run(const struct registry_call *call, char op, struct error *err)
{
        CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
        char digest[DIGEST_TEXT_BYTES];

        if (op == 'b') {
                CLEANUP(buffer_fini) struct buffer body = { 0 };
                struct descriptor descriptor = descriptor_of_body();
                struct sink_buffer sink;
                sink_buffer_init(&sink, &body, "blob");
                if (!registry_fetch_blob(call, &descriptor, &sink.sink, err))
                        return false;
                assert_string_equal(body.data, "{}");
                return true;
        }
        if (!registry_fetch_manifest(call, op == 'd' || op == 'D' ? BODY_DIGEST : "v1", op == 'h' || op == 'D', &manifest, err))
                return false;
        digest_format(&manifest.digest, digest);
        assert_string_equal(digest, BODY_DIGEST);
        if (op != 'h' && op != 'D')
                assert_string_equal(manifest.bytes.data, "{}");
        return true;
}

static const char *const pairs[] = { "r.example login.example", "docker.io hub-login.example", NULL };

static void test_cases(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                struct fetch_client client;
                CLEANUP(registry_free) struct registry *registry = registry_new(&client, &(struct registry_options){ pairs });
                struct error err = { 0 };

                print_message("%s\n", cases[i].name);
                script_start(cases[i].steps);
                for (size_t k = 0; cases[i].ops[k]; k++) {
                        CLEANUP(login_fini) struct login login = login_of(cases[i].login ? cases[i].login[k] : 0);
                        struct registry_call call = { .registry = registry, .endpoint = cases[i].endpoint ? cases[i].endpoint : E, .path = "team/a",
                                .mirror_of = cases[i].mirror_of, .login = &login };
                        bool last = cases[i].ops[k + 1] == '\0';

                        err = (struct error){ 0 };
                        bool ok = op_run(&call, cases[i].ops[k], &err);
                        if (ok != !(last && cases[i].why))
                                fail_msg("op %zu: %s: %s", k, ok ? "accepted" : "refused", err.text);
                }
                assert_null(script[script_at].request);
                assert_int_equal(err.code, cases[i].code);
                if (cases[i].why && !strstr(err.text, cases[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].why);
                if (err.code == ERROR_RATE_LIMITED)
                        assert_int_equal(err.retry_after_s, 7);
                assert_null(strstr(err.text, "hunter2"));
                assert_null(strstr(err.text, "YWxpY2U6aHVudGVyMg"));
                assert_null(strstr(err.text, "idtok"));
                assert_null(strstr(err.text, "regtok"));
        }
}

static void test_embedded(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        struct registry_call call = { .registry = registry, .endpoint = E, .path = "team/a" };
        struct descriptor descriptor = descriptor_of_body();
        struct sink_buffer sink;
        struct error err = { 0 };

        script_start(&(const struct step){ NULL });
        descriptor.data = (struct buffer){ .data = (char[]){ "{}" }, .used = 2 };
        sink_buffer_init(&sink, &body, "blob");
        assert_true(registry_fetch_blob(&call, &descriptor, &sink.sink, &err));
        assert_string_equal(body.data, "{}");
}

static void test_head_hints(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct registry_call call = { .registry = registry, .endpoint = E "/", .path = "team/a" };
        static const struct step steps[] = {
                { "HEAD " E M " [] {}", 200, { "Content-Type: a/b" } }, { "HEAD " E M " [] {}", 200, { "Docker-Content-Digest: sha256:x" } },
                { "HEAD " E "/v2/team/a/manifests/" BODY_DIGEST " [] {}", 200, { "Docker-Content-Digest: " EMPTY_DIGEST } }, { NULL },
        };

        script_start(steps);
        for (size_t i = 0; i < 3; i++) {
                CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
                struct error err = { 0 };
                assert_true(registry_fetch_manifest(&call, i == 2 ? BODY_DIGEST : "v1", true, &manifest, &err));
                assert_false(digest_is_set(&manifest.digest));
                assert_null(manifest.bytes.data);
                if (i == 0)
                        assert_string_equal(manifest.content_type, "a/b");
        }
}

static void test_endpoint(void **state)
{
        (void)state;
        static const struct { const char *host, *endpoint; } rows[] = {
                { "docker.io", "https://registry-1.docker.io" }, { "r.example:5000", "https://r.example:5000" }, { "localhost:5000", "http://localhost:5000" },
                { "[::1]", "https://[::1]" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct fetch_client client;
                CLEANUP(cleanup_free) char *endpoint = registry_format_endpoint(&client, rows[i].host);
                assert_string_equal(endpoint, rows[i].endpoint);
        }
}

/* ---- many at once */
enum { THREADS = 8 };

static pthread_mutex_t gate_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_changed = PTHREAD_COND_INITIALIZER;
static int gate_refused, gate_exchanges;
static bool gate_open, gate_cancels_first;
static pthread_t gate_leader;                      /* who exchanges */

static const struct step gate_steps[] = { { NULL, 401, { BEARER(REALM) } }, { NULL, 200, { NULL }, TOKEN("T1") }, { NULL, 200, { NULL }, "{}" } };

/* The token server answers only when all have been refused once, so that all of them need the token at the same time. */
static bool gate_run(const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        bool is_token = string_starts_with(request->url, REALM);
        const struct step *step = &gate_steps[is_token ? 1 : request->authorization ? 2 : 0];

        pthread_mutex_lock(&gate_lock);
        gate_refused += step == &gate_steps[0];
        bool is_first = is_token && gate_exchanges++ == 0;
        if (is_first)
                gate_leader = pthread_self();
        pthread_cond_broadcast(&gate_changed);
        while (is_token && !(gate_open && gate_refused == THREADS))
                pthread_cond_wait(&gate_changed, &gate_lock);
        pthread_mutex_unlock(&gate_lock);
        if (is_first && gate_cancels_first)
                return refuse(err, ERROR_BUSY, "cancelled");

        struct fetch_response *response = response_new(request, step);
        if (step->body && sink)
                sink->write(sink, step->body, strlen(step->body), err);
        *ret_response = response;
        return true;
}

struct puller { pthread_t thread; struct registry *registry; struct cancel *cancel; bool ok; struct error err; };

static void *puller_run(void *arg)
{
        struct puller *puller = arg;
        struct registry_call call = { .registry = puller->registry, .endpoint = E, .path = "team/a", .cancel = puller->cancel };
        puller->ok = op_run(&call, 'm', &puller->err);
        return NULL;
}

static void gate_start(struct puller *pullers, struct registry *registry)
{
        handler = gate_run;
        gate_refused = gate_exchanges = 0;
        for (int i = 0; i < THREADS; i++) {
                pullers[i] = (struct puller){ .registry = registry, .cancel = cancel_new() };
                assert_int_equal(pthread_create(&pullers[i].thread, NULL, puller_run, &pullers[i]), 0);
        }
}

static void gate_end(struct puller *pullers)
{
        for (int i = 0; i < THREADS; i++)
                cancel_free(&pullers[i].cancel);
        handler = NULL;
}

static void test_single_flight(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct puller pullers[THREADS];

        gate_open = true;
        gate_cancels_first = false;
        gate_start(pullers, registry);
        for (int i = 0; i < THREADS; i++) {
                pthread_join(pullers[i].thread, NULL);
                assert_true(pullers[i].ok);
        }
        assert_int_equal(gate_exchanges, 1);
        gate_end(pullers);
}

/* The one who exchanges is cancelled: the next tries, nobody else fails. */
static void test_flight_handed_over(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct puller pullers[THREADS];
        int failed = 0;

        gate_open = true;
        gate_cancels_first = true;
        gate_start(pullers, registry);
        for (int i = 0; i < THREADS; i++) {
                pthread_join(pullers[i].thread, NULL);
                failed += !pullers[i].ok;
        }
        assert_int_equal(failed, 1);
        assert_int_equal(gate_exchanges, 2);
        gate_cancels_first = false;
        gate_end(pullers);
}

/* Waiters that are cancelled leave while the exchange goes on. */
static void test_cancel_waiters(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct puller pullers[THREADS];
        struct puller *leader = NULL;

        gate_open = false;
        gate_start(pullers, registry);
        pthread_mutex_lock(&gate_lock);
        while (gate_refused < THREADS || gate_exchanges == 0)
                pthread_cond_wait(&gate_changed, &gate_lock);
        pthread_mutex_unlock(&gate_lock);
        for (int i = 0; i < THREADS; i++)
                cancel_trigger(pullers[i].cancel);
        for (int i = 0; i < THREADS; i++) {
                if (pthread_equal(pullers[i].thread, gate_leader)) {
                        leader = &pullers[i];
                        continue;
                }
                pthread_join(pullers[i].thread, NULL);
                assert_false(pullers[i].ok);
                assert_int_equal(pullers[i].err.code, ERROR_BUSY);
        }
        pthread_mutex_lock(&gate_lock);
        gate_open = true;
        pthread_cond_broadcast(&gate_changed);
        pthread_mutex_unlock(&gate_lock);
        assert_non_null(leader);
        pthread_join(leader->thread, NULL);
        assert_true(leader->ok);
        gate_end(pullers);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases), cmocka_unit_test(test_embedded), cmocka_unit_test(test_head_hints), cmocka_unit_test(test_endpoint),
                cmocka_unit_test(test_single_flight), cmocka_unit_test(test_flight_handed_over), cmocka_unit_test(test_cancel_waiters),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
