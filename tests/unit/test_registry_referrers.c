/* Where signatures are looked for: the referrers API page by page, the fallback tag, and what hostile registries answer to both. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../agent/registry/room.h"
#include "registry_script.h"

#pragma GCC diagnostic ignored "-Wmissing-field-initializers"

#define E "https://r.example"
#define SUBJECT_HEX "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define SUBJECT "sha256:" SUBJECT_HEX
#define PATH "/v2/team/a/referrers/" SUBJECT
#define API "GET " E PATH " [] {}"
#define PAGE(number) "GET " E PATH "?n=" number " [] {}"
#define TAG "GET " E "/v2/team/a/manifests/sha256-" SUBJECT_HEX " [] {}"
#define TAG_NAME "tag sha256-" SUBJECT_HEX

#define TYPE "Content-Type: application/vnd.oci.image.index.v1+json"
#define LINK(target) "Link: <" target ">; rel=\"next\""
#define R16(c) c c c c c c c c c c c c c c c c
#define D(c) "sha256:" R16(c) R16(c) R16(c) R16(c)
#define D512(c) "sha512:" R16(c) R16(c) R16(c) R16(c) R16(c) R16(c) R16(c) R16(c)
#define BUNDLE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define CLASSIC "application/vnd.dev.cosign.artifact.sig.v1+json"
#define EMPTY "application/vnd.oci.empty.v1+json"
#define NOTARY "application/vnd.cncf.notary.signature"
#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define INDEX(entries) "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[" entries "]}"
#define ENTRY(digest, rest) "{\"mediaType\":\"" MANIFEST "\",\"size\":7,\"digest\":\"" digest "\"" rest "}"
#define OF(type) ",\"artifactType\":\"" type "\""
#define ABOUT(predicate) ",\"annotations\":{\"dev.sigstore.bundle.predicateType\":\"" predicate "\"}"
#define SIGN "https://sigstore.dev/cosign/sign/v1"
#define SLSA "https://slsa.dev/provenance/v1"
#define IMAGE "{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"config\":{},\"layers\":[]}"
#define NOT_FOUND_API "referrers API 404"

/* The first hex digit of each digest in their order, 't' behind those that the tag named. */
static const struct test_case {
        const char *name;
        struct step steps[6];
        const char *items, *api_note, *tag_note, *skipped_type;
        size_t seen, skipped;
        enum error_code code;
        const char *why;
        char login;
} cases[] = {
        /* the API */
        { "one bundle: the tag is not asked", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE) ABOUT(SIGN))) } }, "1", "referrers API 1 entry", "", NULL, 1, 0 },
        { "ranks", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(CLASSIC)) "," ENTRY(D("2"), OF(BUNDLE) ABOUT(SLSA)) "," ENTRY(D("3"), OF(EMPTY)) "," ENTRY(D("4"), "") ","
                ENTRY(D("5"), OF(NOTARY)) "," ENTRY(D("6"), OF("")) "," ENTRY(D("7"), OF(BUNDLE)) "," ENTRY(D("8"), OF("application/spdx")) ","
                ENTRY(D("9"), OF("application/vnd.dev.sigstore.bundle+json;version=0.2")) "," ENTRY(D("a"), OF(BUNDLE) ABOUT(SIGN))) } },
          "79a34612", "referrers API 10 entries", "", NOTARY, 10, 2 },
        { "pages", { { API, 200, { TYPE, LINK(PATH "?n=2") }, INDEX(ENTRY(D("1"), OF(CLASSIC))) }, { PAGE("2"), 200, { LINK(E PATH "?n=3"), TYPE }, INDEX("") },
                { PAGE("3"), 200, { TYPE }, INDEX(ENTRY(D("2"), OF(BUNDLE))) } }, "21", "referrers API 2 entries", "", NULL, 2, 0 },
        { "pages, links as others write them", { { API, 200, { TYPE, "Link: <https://evil.example/>; rel=prev, <?n=2>; title=\"a, \\\"b\"; REL=next" }, INDEX("") },
                { PAGE("2"), 200, { TYPE, "Link: <" SUBJECT "?n=3>;rel=\"last next\"" }, INDEX("") },
                { PAGE("3"), 200, { "Link: </x>; rel=last", TYPE, "Link: <//r.example:443" PATH "?n=4>; rel=next; rel=last" }, INDEX("") },
                { "GET https://r.example:443" PATH "?n=4 [] {}", 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE))) } }, "1", "referrers API 1 entry", "", NULL, 1, 0 },
        { "a malformed Link is none", { { API, 200, { TYPE, "Link: <" PATH "?n=2; rel=next" }, INDEX(ENTRY(D("1"), OF(BUNDLE))) } }, "1", "referrers API 1 entry", "", NULL, 1, 0 },
        { "an open quote is none", { { API, 200, { TYPE, "Link: <?n=2>; rel=\"next" }, INDEX(ENTRY(D("1"), OF(BUNDLE))) } }, "1", "referrers API 1 entry", "", NULL, 1, 0 },
        { "type with parameters, mediaType absent", { { API, 200, { TYPE "; charset=utf-8" }, "{\"manifests\":[" ENTRY(D("1"), OF(BUNDLE)) "]}" } }, "1", "referrers API 1 entry", "",
          NULL, 1, 0 },
        { "duplicates", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE)) "," ENTRY(D("1"), OF(BUNDLE)) "," ENTRY(D("1"), "")) } }, "1", "referrers API 3 entries", "", NULL, 3, 0 },
        { "sha512 and digests of tomorrow", { { API, 200, { TYPE }, INDEX(ENTRY(D512("1"), OF(BUNDLE)) "," ENTRY("sha384:00", OF(BUNDLE)) "," ENTRY("sha256:00", OF(BUNDLE))) } },
          "1", "referrers API 3 entries", "", NULL, 3, 2 },
        { "malformed entries harm no other", { { API, 200, { TYPE }, INDEX("7,null,[],{},{\"mediaType\":7}," ENTRY(D("2"), ",\"artifactType\":7") ","
                ENTRY(D("3"), ",\"annotations\":[]") "," ENTRY(D("4"), ABOUT("x") ",\"urls\":[\"https://evil.example\"]") ",{\"mediaType\":\"" MANIFEST "\",\"size\":-1,\"digest\":\""
                D("5") "\"}," ENTRY(D("6"), OF(BUNDLE))) } }, "64", "referrers API 10 entries", "", NULL, 10, 8 },
        { "only manifests", { { API, 200, { TYPE }, INDEX("{\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"size\":7,\"digest\":\"" D("1") "\",\"artifactType\":\"" BUNDLE
                "\"}," ENTRY(D("2"), OF(BUNDLE))) } }, "2", "referrers API 2 entries", "", BUNDLE, 2, 1 },
        { "types are for printing", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF("a\\u001bb")) "," ENTRY(D("2"), OF(BUNDLE))) } }, "2", "referrers API 2 entries", "", "a\\x1bb", 2, 1 },
        /* the tag */
        { "no API, no tag", { { API, 404, { NULL }, "404 page not found" }, { TAG, 404, { NULL } } }, "", NOT_FOUND_API, TAG_NAME " absent", NULL, 0, 0 },
        { "no API, tag as cosign writes it", { { API, 404, { NULL } }, { TAG, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(EMPTY)) "," ENTRY(D("2"), "") "," ENTRY(D("3"), OF(BUNDLE))) } },
          "3t1t2t", NOT_FOUND_API, TAG_NAME " 3 entries", NULL, 3, 0 },
        { "400", { { API, 400 }, { TAG, 404 } }, "", "referrers API 400", TAG_NAME " absent" },
        { "405", { { API, 405 }, { TAG, 404 } }, "", "referrers API 405", TAG_NAME " absent" },
        { "406", { { API, 406 }, { TAG, 410 } }, "", "referrers API 406", TAG_NAME " absent" },
        { "a page for people", { { API, 200, { "Content-Type: text/html" }, "<html>" }, { TAG, 200, { TYPE }, INDEX(ENTRY(D("1"), "")) } }, "1t", "referrers API 200 with text/html",
          TAG_NAME " 1 entry", NULL, 1, 0 },
        { "no type", { { API, 200, { NULL }, INDEX(ENTRY(D("2"), "")) }, { TAG, 404 } }, "", "referrers API 200 with nothing", TAG_NAME " absent" },
        { "the type says one thing, mediaType another", { { API, 200, { TYPE }, IMAGE }, { TAG, 404 } }, "", "referrers API 200 with application/vnd.oci.image.index.v1+json",
          TAG_NAME " absent" },
        { "a type with control characters", { { API, 200, { "Content-Type: a\033b" }, "x" }, { TAG, 404 } }, "", "referrers API 200 with a\\x1bb", TAG_NAME " absent" },
        { "empty API, tag from before it", { { API, 200, { TYPE }, INDEX("") }, { TAG, 200, { TYPE }, INDEX(ENTRY(D("1"), "")) } }, "1t", "referrers API 0 entries", TAG_NAME " 1 entry",
          NULL, 1, 0 },
        { "null list", { { API, 200, { TYPE }, "{\"schemaVersion\":2,\"manifests\":null}" }, { TAG, 404 } }, "", "referrers API 0 entries", TAG_NAME " absent" },
        { "an attestation in the API, the signature from before it", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE) ABOUT(SLSA)) "," ENTRY(D("3"), OF(NOTARY))) },
                { TAG, 200, { TYPE }, INDEX(ENTRY(D("2"), OF(BUNDLE)) "," ENTRY(D("1"), OF(BUNDLE))) } }, "2t1", "referrers API 2 entries", TAG_NAME " 2 entries", NOTARY, 4, 1 },
        { "both say the same", { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE) ABOUT(SLSA))) }, { TAG, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE) ABOUT(SLSA))) } },
          "1", "referrers API 1 entry", TAG_NAME " 1 entry", NULL, 2, 0 },
        { "tag is an image", { { API, 404 }, { TAG, 200, { "Content-Type: " MANIFEST }, IMAGE } }, "", NOT_FOUND_API, TAG_NAME " is no index" },
        { "tag is an image that says index", { { API, 404 }, { TAG, 200, { TYPE }, IMAGE } }, "", NOT_FOUND_API, TAG_NAME " is no index" },
        { "tag is a docker list", { { API, 404 }, { TAG, 200, { "Content-Type: application/vnd.docker.distribution.manifest.list.v2+json" }, "{\"manifests\":[]}" } }, "", NOT_FOUND_API,
          TAG_NAME " is no index" },
        { "tag is a page for people", { { API, 404 }, { TAG, 200, { "Content-Type: text/html" }, "<html>" } }, "", NOT_FOUND_API, TAG_NAME " is no index" },
        { "tag is not to be had in our types", { { API, 404 }, { TAG, 406 } }, "", NOT_FOUND_API, TAG_NAME " is no index" },
        { "tag from a server without types", { { API, 404 }, { TAG, 200, { "Content-Type: application/json" }, INDEX(ENTRY(D("1"), "")) } }, "1t", NOT_FOUND_API, TAG_NAME " 1 entry",
          NULL, 1, 0 },
        { "tag by its shape", { { API, 404 }, { TAG, 200, { NULL }, "{\"manifests\":[" ENTRY(D("1"), "") "]}" } }, "1t", NOT_FOUND_API, TAG_NAME " 1 entry", NULL, 1, 0 },
        { "tag without shape", { { API, 404 }, { TAG, 200, { NULL }, "{\"layers\":[]}" } }, "", NOT_FOUND_API, TAG_NAME " is no index" },
        /* what could not be looked at is never "absent" */
        { "API 403", { { API, 403, { NULL }, "{\"errors\":[{\"code\":\"DENIED\"}]}" } }, .code = ERROR_UNAUTHORIZED, .why = "referrers/" SUBJECT ": 403 forbidden" },
        { "API 401", { { API, 401 }, { "GET " E "/v2/ [] {}", 200 } }, .code = ERROR_UNAUTHORIZED, .why = "401" },
        { "API 429", { { API, 429 } }, .code = ERROR_RATE_LIMITED, .why = "429" },
        { "API 500", { { API, 500 } }, .code = ERROR_UPSTREAM_ERROR, .why = "status 500" },
        { "API 204", { { API, 204, { TYPE } } }, .code = ERROR_UPSTREAM_ERROR, .why = "status 204" },
        { "API unreachable", { { API, .fails = ERROR_UPSTREAM_UNREACHABLE } }, .code = ERROR_UPSTREAM_UNREACHABLE, .why = "scripted" },
        { "API too large", { { API, .fails = ERROR_TOO_LARGE } }, .code = ERROR_TOO_LARGE, .why = "scripted" },
        { "tag 403", { { API, 404 }, { TAG, 403 } }, .code = ERROR_UNAUTHORIZED, .why = "manifests/sha256-" },
        { "tag 401", { { API, 404 }, { TAG, 401 }, { "GET " E "/v2/ [] {}", 200 } }, .code = ERROR_UNAUTHORIZED, .why = "401" },
        { "tag 429", { { API, 200, { TYPE }, INDEX("") }, { TAG, 429 } }, .code = ERROR_RATE_LIMITED, .why = "429" },
        { "tag 500", { { API, 404 }, { TAG, 500 } }, .code = ERROR_UPSTREAM_ERROR, .why = "status 500" },
        { "tag 400", { { API, 404 }, { TAG, 400 } }, .code = ERROR_UPSTREAM_ERROR, .why = "400 bad request" },
        { "tag unreachable", { { API, 404 }, { TAG, .fails = ERROR_UPSTREAM_UNREACHABLE } }, .code = ERROR_UPSTREAM_UNREACHABLE, .why = "scripted" },
        { "page 2 is 404", { { API, 200, { TYPE, LINK("?n=2") }, INDEX(ENTRY(D("1"), OF(BUNDLE))) }, { PAGE("2"), 404 } }, .code = ERROR_UPSTREAM_ERROR, .why = "404" },
        { "page 2 is no index", { { API, 200, { TYPE, LINK("?n=2") }, INDEX("") }, { PAGE("2"), 200, { "Content-Type: text/html" }, "x" } }, .code = ERROR_UPSTREAM_ERROR,
          .why = "page 2 of the referrers is text/html" },
        { "no JSON", { { API, 200, { TYPE }, "<html>" } }, .code = ERROR_UPSTREAM_ERROR, .why = "GET " E PATH ": index of referrers" },
        { "cut", { { API, 200, { TYPE }, "{\"manifests\":[" } }, .code = ERROR_UPSTREAM_ERROR, .why = "index of referrers" },
        { "empty body", { { API, 200, { TYPE } } }, .code = ERROR_UPSTREAM_ERROR, .why = "index of referrers" },
        { "no list", { { API, 200, { TYPE }, "{\"schemaVersion\":2}" } }, .code = ERROR_UPSTREAM_ERROR, .why = "\"manifests\" is missing" },
        { "list is a map", { { API, 200, { TYPE }, "{\"manifests\":{}}" } }, .code = ERROR_UPSTREAM_ERROR, .why = "\"manifests\" is missing or no list" },
        { "list twice", { { API, 200, { TYPE }, "{\"manifests\":[],\"manifests\":[]}" } }, .code = ERROR_UPSTREAM_ERROR, .why = "index of referrers" },
        { "tag: no JSON", { { API, 404 }, { TAG, 200, { TYPE }, "x" } }, .code = ERROR_UPSTREAM_ERROR, .why = TAG_NAME ": index of referrers" },
        /* links */
        { "a page that is its own next", { { API, 200, { TYPE, LINK(PATH) }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "page 1 leads back to page 1" },
        { "pages in a circle", { { API, 200, { TYPE, LINK("?n=2") }, INDEX("") }, { PAGE("2"), 200, { TYPE, LINK("?n=3") }, INDEX("") }, { PAGE("3"), 200, { TYPE, LINK("?n=2") },
                INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "page 3 leads back to page 2" },
        { "page on another host", { { API, 200, { TYPE, LINK("https://evil.example" PATH "?n=2") }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "\"https://evil.example/v2", .login = 'r' },
        { "page on another port", { { API, 200, { TYPE, LINK(E ":444" PATH) }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page without TLS", { { API, 200, { TYPE, LINK("http://r.example" PATH) }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page without TLS on the port of TLS", { { API, 200, { TYPE, LINK("http://r.example:443" PATH) }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page by // elsewhere", { { API, 200, { TYPE, LINK("//evil.example/") }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "https://evil.example/", .login = 'r' },
        { "page with userinfo", { { API, 200, { TYPE, LINK("https://r.example@evil.example/") }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page with a backslash", { { API, 200, { TYPE, LINK("https://evil.example\\@r.example/") }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page with a file", { { API, 200, { TYPE, LINK("file:///etc/passwd") }, INDEX("") } }, .code = ERROR_UPSTREAM_ERROR, .why = "not at " E, .login = 'r' },
        { "page as seen from a redirect", { { API, 200, { TYPE, LINK("/x?sig=1") }, INDEX(""), "https://cdn.example/y" } }, .code = ERROR_UPSTREAM_ERROR,
          .why = "\"https://cdn.example/x\"", .login = 'r' },
};

/* Every request carries what it has to; the rest is the script's. */
static bool checked_run(const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        assert_int_equal(request->method, FETCH_GET);
        assert_int_equal(request->deadline_ms, 4711);
        assert_true(request->size_limit <= MANIFEST_BYTES_MAX);
        assert_int_equal(request->redirects_max, strcmp(request->url, E "/v2/") == 0 || sink ? FETCH_REDIRECTS_MAX : 0);
        if (strstr(request->url, "/referrers/")) {
                assert_int_equal(request->header_count, 1);
                assert_string_equal(request->headers[0].name, "Accept");
                assert_string_equal(request->headers[0].value, "application/vnd.oci.image.index.v1+json");
        }
        return script_run(request, sink, ret_response, err);
}

static struct digest subject_of(const char *text)
{
        struct digest digest = { 0 };
        struct error err = { 0 };
        assert_true(digest_parse(text, strlen(text), ERROR_BAD_URL, &digest, &err));
        return digest;
}

struct look { const struct step *steps; const char *subject; struct registry_call call; };

static bool look_run(struct look look, struct registry_referrers *ret_referrers, struct error *err)
{
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct digest subject = subject_of(look.subject ? look.subject : SUBJECT);

        look.call.registry = registry;
        look.call.endpoint = look.call.endpoint ? look.call.endpoint : E;
        look.call.path = "team/a";
        look.call.deadline_ms = 4711;
        script_start(look.steps);
        *err = (struct error){ 0 };
        return registry_fetch_referrers(&look.call, &subject, ret_referrers, err);
}

static char *items_format(const struct registry_referrers *referrers)
{
        struct buffer text = { 0 };
        char digest[DIGEST_TEXT_BYTES];

        for (size_t i = 0; i < referrers->count; i++) {
                digest_format(&referrers->items[i].digest, digest);
                buffer_printf(&text, "%c%s", digest[7], referrers->items[i].is_from_tag ? "t" : "");
        }
        return buffer_take(&text);
}

static void result_check(const struct test_case *row, const struct registry_referrers *found)
{
        CLEANUP(cleanup_free) char *items = items_format(found);

        assert_string_equal(items, row->items);
        assert_string_equal(found->api_note, row->api_note);
        assert_string_equal(found->tag_note, row->tag_note);
        assert_int_equal(found->seen, row->seen);
        assert_int_equal(found->skipped, row->skipped);
        assert_int_equal(found->is_over_limit, false);
        assert_int_equal(found->is_api_absent, !strstr(row->api_note, "entr"));
        if (!string_equal(found->skipped_type, row->skipped_type))
                fail_msg("skipped %s, not %s", found->skipped_type ? found->skipped_type : "nothing", row->skipped_type ? row->skipped_type : "nothing");
}

static void test_cases(void **state)
{
        (void)state;
        handler = checked_run;
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                CLEANUP(registry_referrers_fini) struct registry_referrers found = { 0 };
                struct error err;
                struct step steps[7] = { 0 };
                char *owned[7] = { 0 };

                print_message("%s\n", cases[i].name);
                for (size_t k = 0; k < 6 && cases[i].steps[k].request; k++) {
                        const char *request = cases[i].steps[k].request, *bare = cases[i].login ? strstr(request, " [] {}") : NULL;
                        steps[k] = cases[i].steps[k];
                        if (bare)
                                steps[k].request = owned[k] = string_format("%.*s [Bearer regtok] {}", (int)(bare - request), request);
                }
                CLEANUP(login_fini) struct login login = login_of(cases[i].login);
                bool ok = look_run((struct look){ .steps = steps, .call = { .login = &login } }, &found, &err);
                if (ok != !cases[i].why)
                        fail_msg("%s: %s", ok ? "accepted" : "refused", err.text);
                assert_null(script[script_at].request);
                assert_int_equal(err.code, cases[i].code);
                if (ok)
                        result_check(&cases[i], &found);
                else if (!strstr(err.text, cases[i].why))
                        fail_msg("\"%s\" does not say \"%s\"", err.text, cases[i].why);
                assert_null(strstr(err.text, "sig=1"));
                if (err.code == ERROR_RATE_LIMITED)
                        assert_int_equal(err.retry_after_s, 7);
                for (size_t k = 0; k < COUNT_OF(owned); k++)
                        free(owned[k]);
        }
        handler = NULL;
}

static void test_fields(void **state)
{
        (void)state;
        static const struct step steps[] = { { API, 200, { TYPE }, INDEX(ENTRY(D("1"), OF(BUNDLE) ABOUT(SLSA))) }, { TAG, 200, { TYPE }, INDEX(ENTRY(D512("2"), "")) }, { NULL } };
        CLEANUP(registry_referrers_fini) struct registry_referrers found = { 0 };
        struct digest first = subject_of(D512("2")), second = subject_of(D("1"));
        struct error err;

        assert_true(look_run((struct look){ .steps = steps }, &found, &err));
        assert_int_equal(found.count, 2);
        assert_true(digest_equal(&found.items[0].digest, &first));
        assert_true(digest_equal(&found.items[1].digest, &second));
        assert_string_equal(found.items[0].media_type, MANIFEST);
        assert_null(found.items[0].artifact_type);
        assert_null(found.items[0].predicate_type);
        assert_int_equal(found.items[0].size_bytes, 7);
        assert_string_equal(found.items[1].artifact_type, BUNDLE);
        assert_string_equal(found.items[1].predicate_type, SLSA);
}

/* The login goes along on every request, pages and tag; a mirror is told at each for whom. */
static void test_session(void **state)
{
        (void)state;
        static const struct step with_login[] = {
                { "GET " E PATH " [] {}", 401, { "WWW-Authenticate: Basic realm=\"x\"" } },
                { "GET " E PATH " [Basic YWxpY2U6aHVudGVyMg==] {}", 200, { TYPE, LINK("?n=2") }, INDEX("") },
                { "GET " E PATH "?n=2 [Basic YWxpY2U6aHVudGVyMg==] {}", 200, { TYPE }, INDEX("") },
                { "GET " E "/v2/team/a/manifests/sha256-" SUBJECT_HEX " [Basic YWxpY2U6aHVudGVyMg==] {}", 404 }, { NULL },
        }, mirrored[] = {
                { "GET https://m.example/p" PATH "?ns=r.example%3A5000 [] {}", 200, { TYPE, LINK("/p" PATH "?n=2") }, INDEX("") },
                { "GET https://m.example/p" PATH "?n=2&ns=r.example%3A5000 [] {}", 200, { TYPE, LINK("/p" PATH "?n=3&ns=r.example%3A5000") }, INDEX("") },
                { "GET https://m.example/p" PATH "?n=3&ns=r.example%3A5000 [] {}", 200, { TYPE, LINK("/p/other") }, INDEX("") },
                { "GET https://m.example/p/other?ns=r.example%3A5000 [] {}", 200, { TYPE }, INDEX("") },
                { "GET https://m.example/p/v2/team/a/manifests/sha256-" SUBJECT_HEX "?ns=r.example%3A5000 [] {}", 404 }, { NULL },
        };
        CLEANUP(login_fini) struct login login = login_of('u');
        struct registry_referrers found = { 0 };
        struct error err;

        assert_true(look_run((struct look){ .steps = with_login, .call = { .login = &login } }, &found, &err));
        assert_null(script[script_at].request);
        registry_referrers_fini(&found);
        assert_true(look_run((struct look){ .steps = mirrored, .call = { .endpoint = "https://m.example/p", .mirror_of = "r.example:5000" } }, &found, &err));
        assert_null(script[script_at].request);
        registry_referrers_fini(&found);
}

/* The tag has the first 64 digits of a longer digest. */
static void test_sha512_subject(void **state)
{
        (void)state;
        static const struct step steps[] = {
                { "GET " E "/v2/team/a/referrers/" D512("c") " [] {}", 404 },
                { "GET " E "/v2/team/a/manifests/sha512-" R16("c") R16("c") R16("c") R16("c") " [] {}", 200, { TYPE }, INDEX(ENTRY(D("1"), "")) }, { NULL },
        };
        CLEANUP(registry_referrers_fini) struct registry_referrers found = { 0 };
        struct error err;

        assert_true(look_run((struct look){ .steps = steps, .subject = D512("c") }, &found, &err));
        assert_int_equal(found.count, 1);
        assert_string_equal(found.tag_note, "tag sha512-" R16("c") R16("c") R16("c") R16("c") " 1 entry");
}

static char *many_format(size_t count, size_t first)
{
        struct buffer text = { 0 };

        buffer_append_text(&text, "{\"manifests\":[");
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, "%s{\"mediaType\":\"" MANIFEST "\",\"size\":1,\"digest\":\"sha256:%064zx\"}", i ? "," : "", first + i);
        buffer_append_text(&text, "]}");
        return buffer_take(&text);
}

static void test_too_many(void **state)
{
        (void)state;
        static const struct { size_t counts[2]; bool by_tag; size_t seen; } rows[] = {
                { { 200, 0 }, false, 200 }, { { 201, 0 }, false, 201 }, { { 10000, 0 }, false, 10000 }, { { 150, 50 }, false, 200 }, { { 150, 51 }, false, 201 },
                { { 0, 200 }, true, 200 }, { { 0, 201 }, true, 201 }, { { 0, 10000 }, true, 10000 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *one = many_format(rows[i].counts[0], 0);
                CLEANUP(cleanup_free) char *two = many_format(rows[i].counts[1], 1000);
                bool is_paged = !rows[i].by_tag && rows[i].counts[1] > 0;
                struct step steps[] = { { API, 200, { TYPE, is_paged ? LINK("?n=2") : NULL }, one }, { rows[i].by_tag ? TAG : is_paged ? PAGE("2") : NULL, 200, { TYPE }, two }, { NULL } };
                CLEANUP(registry_referrers_fini) struct registry_referrers found = { 0 };
                struct error err;

                print_message("%zu and %zu\n", rows[i].counts[0], rows[i].counts[1]);
                if (!look_run((struct look){ .steps = steps }, &found, &err))
                        fail_msg("%s", err.text);
                assert_null(script[script_at].request);
                assert_int_equal(found.seen, rows[i].seen);
                assert_int_equal(found.is_over_limit, rows[i].seen > REFERRERS_MAX);
                assert_int_equal(found.count, rows[i].seen > REFERRERS_MAX ? 0 : rows[i].seen);
        }
}

/* After the limit nothing more is asked, though there is a next page. */
static void test_too_many_stops(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *one = many_format(201, 0);
        struct step steps[] = { { API, 200, { TYPE, LINK("https://evil.example/") }, one }, { NULL } };
        CLEANUP(registry_referrers_fini) struct registry_referrers found = { 0 };
        struct error err;

        assert_true(look_run((struct look){ .steps = steps }, &found, &err));
        assert_true(found.is_over_limit);
}

/* ---- a registry that always has one more page */
static unsigned endless_pages;
static size_t endless_bytes;

static bool endless_run(const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        static char link[200];
        static const char *headers[3] = { TYPE, link, NULL };
        CLEANUP(cleanup_free) char *body = string_format("%*s", (int)endless_bytes, "{\"manifests\":[]}");
        struct step step = { .status = 200 };
        struct fetch_response *response = response_new(request, &step);

        snprintf(link, sizeof link, LINK("?n=%u"), ++endless_pages);
        response->headers = headers;
        if (strlen(body) > request->size_limit) {
                fetch_response_free(&response);
                return refuse(err, ERROR_TOO_LARGE, "%zu bytes", strlen(body));
        }
        assert_true(sink->write(sink, body, strlen(body), err));
        *ret_response = response;
        return true;
}

static void test_endless(void **state)
{
        (void)state;
        static const struct { size_t bytes; unsigned pages; enum error_code code; } rows[] = {
                { 16, 32, ERROR_UPSTREAM_ERROR }, { 3 << 20, 5, ERROR_TOO_LARGE }, { 4 << 20, 4, ERROR_TOO_LARGE }, { (4 << 20) + 1, 0, ERROR_TOO_LARGE },
        };
        handler = endless_run;
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct registry_referrers found = { 0 };
                struct error err;
                endless_pages = 0;
                endless_bytes = rows[i].bytes;
                assert_false(look_run((struct look){ 0 }, &found, &err));
                assert_int_equal(err.code, rows[i].code);
                assert_int_equal(endless_pages, rows[i].pages + (rows[i].code == ERROR_TOO_LARGE));
                print_message("%s\n", err.text);
        }
        handler = NULL;
}

static void test_links(void **state)
{
        (void)state;
        static const struct { const char *header, *target; } rows[] = {
                { "", NULL }, { "<a>", NULL }, { "<a>; rel=next", "a" }, { " , <a> ;rel = \"NEXT\" ", "a" }, { "<a>; rel=nextt", NULL }, { "<a>; rel=\"x next\"", "a" }, { "<a>; rel*=next", NULL },
                { "<a>; rel=prev, <b>; rel=next, <c>; rel=next", "b" }, { "<a>; rel=prev; rel=next", NULL }, { "<a,b;c>; rel=next", "a,b;c" }, { "a; rel=next", NULL }, { "<a; rel=next", NULL },
                { "<a>; title=\"x, <b>; rel=next\"", NULL }, { "<a>; title=\"\\\"\"; rel=next", "a" }, { "<a>; rel=\"next", NULL }, { "<a> rel=next", NULL }, { "<a>; title; rel=next", "a" },
                { "<>; rel=next", "" }, { "<a>;;rel=next", "a" }, { "<a>; rel=next\\", NULL }, { "<a>; title=\"\\", NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *target = link_find_next(rows[i].header);
                if (!string_equal(target, rows[i].target))
                        fail_msg("%s: %s", rows[i].header, target ? target : "none");
        }
}

static void test_resolve(void **state)
{
        (void)state;
        static const struct { const char *base, *target, *url; } rows[] = {
                { "https://h/a/b?c=1", "https://i/x", "https://i/x" }, { "https://h/a/b?c=1", "//i/x", "https://i/x" }, { "https://h/a/b?c=1", "/x?y", "https://h/x?y" },
                { "https://h/a/b?c=/1", "?d", "https://h/a/b?d" }, { "https://h/a/b?c=/1", "x", "https://h/a/x" }, { "https://h", "x", "https://h/x" }, { "https://h?q", "/x", "https://h/x" },
                { "https://h/a?c", "", "https://h/" }, { "https://h:1/a", "/x?u=http://i/", "https://h:1/x?u=http://i/" }, { "https://h/a/b", "x?u=http://i/", "https://h/a/x?u=http://i/" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *url = link_resolve(rows[i].base, rows[i].target);
                assert_string_equal(url, rows[i].url);
        }
}

static void test_no_subject(void **state)
{
        (void)state;
        struct fetch_client client;
        CLEANUP(registry_free) struct registry *registry = registry_new(&client, NULL);
        struct registry_call call = { .registry = registry, .endpoint = E, .path = "team/a" };
        struct registry_referrers found = { 0 };
        struct error err = { 0 };

        assert_false(registry_fetch_referrers(&call, &(struct digest){ 0 }, &found, &err));
        assert_int_equal(err.code, ERROR_INTERNAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_cases), cmocka_unit_test(test_fields), cmocka_unit_test(test_session), cmocka_unit_test(test_sha512_subject), cmocka_unit_test(test_too_many),
                cmocka_unit_test(test_too_many_stops), cmocka_unit_test(test_endless), cmocka_unit_test(test_links), cmocka_unit_test(test_resolve), cmocka_unit_test(test_no_subject),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
