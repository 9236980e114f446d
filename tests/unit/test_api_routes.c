/* Who asks what of which route, row by row; and the description of all routes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube/process.h>
#include <wasmcached/loop.h>
#include "api_rig.h"

/* The whole room over a serve and a module that are made here: requests are plain structs, answers are kept to be looked at. */

/* who, what → status, a piece of the answer or of its headers */
static const struct { struct api_listener *listener; const char *method, *path, *body; struct pair header, query[3]; int status; const char *piece; } rows[] = {
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { 0 } }, 200,
          "{\"path\":\"/m/default/" SHA ".wasm\",\"sha256\":\"" SHA "\",\"size\":4711,\"url\":\"oci://r.example/\\\"x\\\":v1\",\"digest\":\"sha256:" SHB
          "\",\"verified\":null,\"source\":\"cache\",\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"pullSecret\":{}}", { 0 }, { { 0 } }, 200,
          "\"source\":\"cache\",\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "application/json" }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "Application/JSON; charset=utf-8" }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "text/plain" }, { { 0 } }, 415, "\"code\":\"bad_request\"" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { "Content-Type", "application/jsonx" }, { { 0 } }, 415, "application/jsonx" },
        { &agent, "POST", "/v1/modules", "", { 0 }, { { 0 } }, 400, "body" },
        { &agent, "POST", "/v1/modules", "{\"url\":1}", { 0 }, { { 0 } }, 400, "url" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"url\":\"b\"}", { 0 }, { { 0 } }, 400, "body" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"default\"}", { 0 }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"other\"}", { 0 }, { { 0 } }, 403, "\"code\":\"denied\"" },
        { &trusted, "POST", "/v1/modules", "{\"url\":\"a\",\"namespace\":\"other\"}", { 0 }, { { 0 } }, 200, "lease" },
        { &agent, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { "x", "1" } }, 400, "query parameter \\\"x\\\": unknown" },
        { &agent, "PATCH", "/v1/modules", "", { 0 }, { { 0 } }, 405, "Allow: POST, GET, HEAD\n" },
        { &agent, "OPTIONS", "/healthz", "", { 0 }, { { 0 } }, 405, "Allow: GET, HEAD\n" },
        { &agent, "HEAD", "/v1/events", "", { 0 }, { { 0 } }, 405, "Allow: GET\n" },
        { &agent, "GET", "/v1/gc", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/plugins", "", { 0 }, { { 0 } }, 404, "urn:wasmcached:error:not_found" },
        { &agent, "GET", "/", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/a/b", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { 0 } }, 200, "{\"modules\":[{\"path\":" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" } }, 200, "\"continue\":\"" SHA "\"}" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" }, { "continue", SHA } }, 200, "continue" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "0" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1001" } }, 400, "from 1 to 1000" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "-1" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "" } }, 400, "limit" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "limit", "1" }, { "limit", "2" } }, 400, "given twice" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "continue", "x" } }, 400, "continue" },
        { &agent, "GET", "/v1/modules", "", { 0 }, { { "namespace", "other" } }, 403, "denied" },
        { &trusted, "GET", "/v1/modules", "", { 0 }, { { "namespace", "other" } }, 200, "modules" },
        { &trusted, "GET", "/v1/modules", "", { 0 }, { { "namespace", "../x" } }, 400, "DNS label" },
        { &agent, "GET", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 200, "\"sha256\":\"" SHA },
        { &agent, "GET", "/v1/modules/" SHB, "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/abc", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &agent, "GET", "/v1/modules/" SHB "/content", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "GET", "/v1/modules/xyz/content", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { 0 }, { { 0 } }, 200, "ETag: \"" SHA "\"\nAccept-Ranges: bytes\n" },
        { &agent, "HEAD", "/v1/modules/" SHA "/content", "", { "Range", "bytes=0-1" }, { { 0 } }, 200, "ETag" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "Range", "bytes=10-19" }, { { 0 } }, 206, "Content-Range: bytes 10-19/1000\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "Range", "bytes=1000-" }, { { 0 } }, 416, "Content-Range: bytes */1000\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "If-None-Match", "\"x\", W/\"" SHA "\"" }, { { 0 } }, 304, "ETag: \"" SHA "\"\n" },
        { &agent, "GET", "/v1/modules/" SHA "/content", "", { "If-Match", "\"x\"" }, { { 0 } }, 412, "bad_request" },
        { &agent, "PUT", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 200, "{\"lease\":{\"id\":\"00ff\",\"expires\":\"2026-01-01T00:00:00Z\"}}" },
        { &agent, "PUT", "/v1/leases/00ff", "{\"x\":1}", { 0 }, { { 0 } }, 400, "x" },
        { &agent, "PUT", "/v1/leases/none", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &agent, "DELETE", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 204, "" },
        { &agent, "GET", "/v1/leases/00ff", "", { 0 }, { { 0 } }, 405, "Allow: PUT, DELETE\n" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { 0 } }, 200, "{\"number\":1,\"time\":\"2026-01-01T00:00:00.123Z\",\"type\":\"pulled\",\"url\":\"u\",\"bytes\":5}\n" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { "follow", "yes" } }, 400, "follow" },
        { &agent, "GET", "/v1/events", "", { 0 }, { { "namespace", "other" } }, 403, "denied" },
        { &agent, "GET", "/healthz", "", { 0 }, { { 0 } }, 200, "ok\n" },
        { &probe, "GET", "/healthz", "", { 0 }, { { 0 } }, 200, "ok\n" },
        { &probe, "GET", "/readyz", "", { 0 }, { { 0 } }, 200, "ready" },
        { &probe, "GET", "/metrics", "", { 0 }, { { 0 } }, 200, "wasmcached_hits_total 5\n" },
        { &probe, "POST", "/v1/modules", "{\"url\":\"a\"}", { 0 }, { { 0 } }, 404, "not_found" },
        { &probe, "GET", "/v1/config", "", { 0 }, { { 0 } }, 404, "not_found" },
        { &probe, "POST", "/metrics", "", { 0 }, { { 0 } }, 405, "Allow: GET, HEAD\n" },
        { &agent, "GET", "/openapi.yaml", "", { 0 }, { { 0 } }, 200, "openapi: 3.0.3" },
        { &agent, "DELETE", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 403, "admin socket" },
        { &trusted, "POST", "/v1/gc", "", { 0 }, { { 0 } }, 403, "denied" },
        { &admin, "DELETE", "/v1/modules/" SHA, "", { 0 }, { { 0 } }, 200, "{\"done\":true}" },
        { &admin, "DELETE", "/v1/modules/zz", "", { 0 }, { { 0 } }, 400, "64 lower-case hex" },
        { &admin, "PUT", "/v1/pins/" SHA, "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "DELETE", "/v1/pins/" SHA, "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "{\"dryRun\":true}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/gc", "{\"dryRun\":1}", { 0 }, { { 0 } }, 400, "dryRun" },
        { &admin, "POST", "/v1/gc", "{\"dry\":true}", { 0 }, { { 0 } }, 400, "dry" },
        { &admin, "POST", "/v1/gc", "[]", { 0 }, { { 0 } }, 400, "a JSON object is needed" },
        { &admin, "POST", "/v1/verify", "{\"sha256\":\"" SHA "\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/verify", "{\"sha256\":\"x\"}", { 0 }, { { 0 } }, 400, "sha256" },
        { &admin, "POST", "/v1/refresh", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/reload", "", { 0 }, { { 0 } }, 200, "{\"applied\":[]}" },
        { &admin, "GET", "/v1/config", "", { 0 }, { { 0 } }, 200, "{\"store\":{}}" },
        { &admin, "GET", "/v1/explain", "", { 0 }, { { "url", "u" }, { "namespace", "n" } }, 200, "done" },
        { &admin, "GET", "/v1/explain", "", { 0 }, { { 0 } }, 400, "url: missing" },
        { &admin, "POST", "/v1/explain", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "GET", "/v1/status", "", { 0 }, { { 0 } }, 200, "\"ready\":true,\"reasons\":[],\"store\":{\"healthy\":true,\"bytes\":99," },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { "name", "here" } }, 200, "{}" },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { "name", "gone" } }, 404, "no gone" },
        { &admin, "GET", "/v1/inspect", "", { 0 }, { { 0 } }, 400, "name" },
        { &admin, "GET", "/v1/manifests/" SHA, "", { 0 }, { { 0 } }, 200, "done" }, { &admin, "GET", "/v1/manifests/x", "", { 0 }, { { 0 } }, 400, "64" },
        { &agent, "GET", "/v1/manifests/" SHA, "", { 0 }, { { 0 } }, 403, "operators" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"manifest\":1}", { 0 }, { { 0 } }, 400, "manifest" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\"}", { 0 }, { { 0 } }, 400, "path: missing" },
        { &admin, "POST", "/v1/import", "{\"path\":\"/x\"}", { 0 }, { { 0 } }, 400, "url: missing" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"x\"}", { 0 }, { { 0 } }, 400, "not absolute" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/does/not/exist\"}", { 0 }, { { 0 } }, 404, "cannot open /does/not/exist" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/dev/null\"}", { 0 }, { { 0 } }, 400, "no regular file" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\"}", { 0 }, { { 0 } }, 200, "done" },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"digest\":\"sha256:abc\"}", { 0 }, { { 0 } }, 400, "digest: " },
        { &admin, "POST", "/v1/import", "{\"url\":\"u\",\"path\":\"/proc/self/cmdline\",\"index\":7}", { 0 }, { { 0 } }, 400, "index" },
        { &admin, "POST", "/v1/import", "{\"url\":\"from\",\"path\":\"/proc/self/cmdline\",\"digest\":\"sha256:" SHA "\",\"index\":\"sha256:" SHA "\",\"manifest\":\"{}\"}", { 0 }, { { 0 } },
          200, "done" },
};

static void test_rows(void **state)
{
        (void)state;
        struct api *api = api_make();
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) struct serve_request *request = request_make(rows[i].listener, rows[i].method, rows[i].path, rows[i].body);
                request->headers[0] = rows[i].header;
                memcpy(request->query, rows[i].query, sizeof rows[i].query);
                ask(api, request);
                if (request->answers != 1 || request->status != rows[i].status || (!strstr(request->answer, rows[i].piece) && !strstr(request->answer_headers, rows[i].piece)))
                        fail_msg("row %zu: %s %s %s → %u answers, %d\n%s%s", i, rows[i].method, rows[i].path, rows[i].body, request->answers, request->status,
                                request->answer_headers, request->answer);
                if (request->status >= 400 && rows[i].listener != &probe)
                        assert_string_equal(request->type, "application/problem+json");
                assert_null(request->data);
        }
        api_close(api);
        api_free(&api);
        assert_int_equal(world.wants, 0);
}

/* Every line of the table is in the description with its method, and every schema that is named is there. */
static void test_openapi(void **state)
{
        (void)state;
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        api_print_openapi("9.9", &text);
        for (size_t i = 0; i < api_route_count; i++) {
                const struct api_route *route = &api_routes[i];
                CLEANUP(cleanup_free) char *path = string_format("\n  %s:\n", route->path);
                CLEANUP(cleanup_free) char *summary = string_format("summary: \"%s\"", route->summary);
                const char *at = strstr(text.data, path);
                if (!at || !strstr(at, summary))
                        fail_msg("%s %s is not described", route->method, route->path);
                const char *const names[] = { route->schema, route->answer };
                for (size_t n = 0; n < COUNT_OF(names); n++) {
                        CLEANUP(cleanup_free) char *schema = string_format("\n    %s:", names[n] ? names[n] : "Problem");
                        if (names[n] && !strchr(names[n], '/') && !strstr(text.data, schema))
                                fail_msg("schema %s is not there", names[n]);
                }
        }
        if (system("python3 -c 'import yaml' 2>/dev/null") != 0)
                return;
        FILE *python = popen("python3 -c 'import sys, yaml; d = yaml.safe_load(sys.stdin); sys.exit(0 if len(d[\"paths\"]) > 15 and d[\"openapi\"] == \"3.0.3\" else 1)'", "w");
        assert_non_null(python);
        assert_int_equal(fwrite(text.data, 1, text.used, python), text.used);
        assert_int_equal(pclose(python), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_rows), cmocka_unit_test(test_openapi),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
