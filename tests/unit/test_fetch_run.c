/* What a request makes of answers: whole, resumed, refused, retried. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>
#include "fetch_run_rig.h"

/* mode → code at this layer (OK = the layer's bytes, whole), and a piece of the text */
static const struct { const char *mode; enum error_code code; const char *piece; } modes[] = {
        { "good-raw", OK, NULL }, { "good-large", OK, NULL }, { "http10", OK, NULL }, { "interim", OK, NULL }, { "trailers", OK, NULL },
        { "short-body",                 ERROR_CHECKSUM_MISMATCH,     "bytes instead of" },
        { "long-body",                  ERROR_CHECKSUM_MISMATCH,     "bytes instead of" },
        { "short-chunked",              ERROR_CHECKSUM_MISMATCH,     "1000 bytes instead of" },
        { "long-chunked",               ERROR_CHECKSUM_MISMATCH,     "more than the expected" },
        { "endless-chunked",            ERROR_CHECKSUM_MISMATCH,     "more than the expected" },
        { "huge-length",                ERROR_CHECKSUM_MISMATCH,     "1152921504606846976 bytes instead of" },
        { "two-lengths",                ERROR_UPSTREAM_ERROR,        "Content-Length" },
        { "lying-length",               ERROR_UPSTREAM_UNREACHABLE,  "ended before the body" },
        { "stalled-after-head",         ERROR_UPSTREAM_UNREACHABLE,  "stalled: not a byte for 400ms (pull.progress_timeout)" },
        { "stalled-mid-body",           ERROR_UPSTREAM_UNREACHABLE,  "stalled" },
        { "stalled-before-head",        ERROR_UPSTREAM_UNREACHABLE,  "stalled" },
        { "reset",                      ERROR_UPSTREAM_UNREACHABLE,  "the connection broke" },
        { "reset-mid-body",             ERROR_UPSTREAM_UNREACHABLE,  "the connection broke" },
        { "empty-reply",                ERROR_UPSTREAM_UNREACHABLE,  "without an answer" },
        { "http09",                     ERROR_UPSTREAM_ERROR,        "no HTTP head" },
        { "bad-chunking",               ERROR_UPSTREAM_ERROR,        "chunk" },
        { "chunked-no-end",             ERROR_UPSTREAM_UNREACHABLE,  NULL },
        { "huge-headers",               ERROR_UPSTREAM_ERROR,        "256 KiB of response headers" },
        { "many-headers",               ERROR_UPSTREAM_ERROR,        "1000 response headers" },
        { "many-interim",               ERROR_UPSTREAM_ERROR,        "256 KiB of response headers" },
        { "header-nul",                 ERROR_UPSTREAM_ERROR,        "broken HTTP" },
        { "content-encoding",           ERROR_UPSTREAM_ERROR,        "Content-Encoding: gzip" },
        { "transfer-encoding",          ERROR_UPSTREAM_ERROR,        "Transfer-Encoding: gzip" },
        { "resume",                     OK,                          NULL },
        { "resume-ignored",             OK,                          NULL },
        { "resume-416",                 OK,                          NULL },
        { "resume-416-lying",           OK,                          NULL },
        { "range-off-by-one",           OK,                          NULL },
        { "range-other-total",          OK,                          NULL },
        { "range-garbage",              OK,                          NULL },
        { "range-missing",              OK,                          NULL },
        { "range-star",                 OK,                          NULL },
        { "range-unasked",              ERROR_UPSTREAM_ERROR,        "206" },
        { "redirect-loop",              ERROR_UPSTREAM_ERROR,        "more than 10 redirects" },
        { "redirect-many",              ERROR_UPSTREAM_ERROR,        "more than 10 redirects" },
        { "redirect-ten",               OK,                          NULL },
        { "redirect-no-location",       ERROR_UPSTREAM_ERROR,        "without Location" },
        { "redirect-ftp",               ERROR_UPSTREAM_ERROR,        "only http:// and https://" },
        { "redirect-file",              ERROR_UPSTREAM_ERROR,        "only http:// and https://" },
        { "redirect-garbage",           ERROR_UPSTREAM_ERROR,        "Location" },
        { "redirect-userinfo",          ERROR_UPSTREAM_ERROR,        "user name" },
        { "redirect-metadata",          ERROR_DENIED,                "169.254.169.254 is refused: a cloud metadata service" },
        { "redirect-metadata-mapped",   ERROR_DENIED,                "169.254.169.254 is refused" },
        { "redirect-metadata-decimal",  ERROR_DENIED,                "169.254.169.254 is refused" },
        { "redirect-metadata-octal",    ERROR_DENIED,                "169.254.169.254 is refused" },
        { "redirect-link-local",        ERROR_DENIED,                "link-local" },
        { "redirect-unspecified",       ERROR_DENIED,                "unspecified" },
        { "redirect-multicast",         ERROR_DENIED,                "multicast" },
        { "redirect-refused",           ERROR_UPSTREAM_UNREACHABLE,  "refused (127.0.0.1); is the server running" },
        { "redirect-relative",          OK,                          NULL },
        { "redirect-cross-host",        OK,                          NULL },
        { "redirect-cross-301", OK, NULL }, { "redirect-cross-302", OK, NULL }, { "redirect-cross-303", OK, NULL }, { "redirect-cross-308", OK, NULL },
        { "redirect-back",              OK,                          NULL },
        { "redirect-expires",           OK,                          NULL },
};

static void test_modes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(modes); i++) {
                print_message("%s\n", modes[i].mode);
                CLEANUP(cleanup_free) char *url = mode_url(modes[i].mode);
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(url, mode_size(modes[i].mode));
                request.authorization = "Basic c2VjcmV0";
                bool good = fetch_run(client, &request, &probe.sink, &response, &err);
                if (err.code && !good)
                        print_message("   %s\n", err.text);
                assert_int_equal(good ? OK : err.code, modes[i].code);
                if (good) {
                        assert_int_equal(fetch_response_get_status(response) / 100, 2);
                        assert_int_equal(probe.bytes.used, request.size_expected);
                        assert_int_equal(fetch_response_get_received(response), request.size_expected);
                        assert_memory_equal(probe.bytes.data, "\0asm", 4);
                        continue;
                }
                assert_null(response);
                assert_true(string_starts_with(err.text, "GET http://127.0.0.1:"));
                assert_non_null(strstr(err.text, modes[i].mode));
                if (modes[i].piece)
                        assert_non_null(strstr(err.text, modes[i].piece));
                assert_null(strstr(err.text, "secret-signature"));
                assert_null(strstr(err.text, "c2VjcmV0"));
        }
}

static void test_resume_bytes(void **state)
{
        (void)state;
        static const struct { const char *mode; unsigned restarts; uint64_t resumes; } rows[] = {
                { "resume", 0, 1 }, { "range-star", 0, 1 }, { "resume-ignored", 1, 0 }, { "resume-416", 1, 0 }, { "range-off-by-one", 1, 0 }, { "redirect-expires", 0, 1 },
        };
        free(fake_steer(client, &fake, FETCH_POST, "/_reset"));
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].mode);
                CLEANUP(cleanup_free) char *url = mode_url(rows[i].mode);
                CLEANUP(probe_fini) struct probe first = PROBE, again = PROBE;
                struct error err = { 0 };
                struct fetch_stats before, after;
                fetch_get_stats(&before);
                for (int round = 0; round < 2; round++) {         /* the second time nothing breaks: the same bytes must come */
                        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                        struct fetch_request request = request_of(url, mode_size(rows[i].mode));
                        if (!fetch_run(client, &request, round ? &again.sink : &first.sink, &response, &err))
                                fail_msg("%s", err.text);
                        if (round == 0)
                                fetch_get_stats(&after);
                }
                assert_int_equal(first.restarts, rows[i].restarts);
                assert_int_equal(after.resumes - before.resumes, rows[i].resumes);
                assert_int_equal(first.bytes.used, again.bytes.used);
                assert_memory_equal(first.bytes.data, again.bytes.data, again.bytes.used);
        }
}

/* Without `resume`, or without a restart of the sink, nothing may be glued together. */
static void test_resume_not_wanted(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *url = mode_url("resume");
        for (int rigid = 0; rigid < 2; rigid++) {
                free(fake_steer(client, &fake, FETCH_POST, "/_reset"));
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct fetch_request request = request_of(url, -1);
                request.resume = false;
                if (rigid)
                        probe.sink.restart = NULL;
                assert_int_equal(fetch_run(client, &request, &probe.sink, &response, &err), !rigid);
                assert_int_equal(probe.restarts, !rigid);
                assert_int_equal(log_count("bytes="), 0);
        }
        assert_int_equal(err.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_non_null(strstr(err.text, "ended before the body"));
}

/* Authorization stays at its origin, and is there again when a redirect leads back. */
static void test_authorization(void **state)
{
        (void)state;
        static const struct { const char *mode; unsigned with, requests; } rows[] = {
                { "redirect-relative", 2, 2 }, { "redirect-cross-host", 1, 2 }, { "redirect-cross-301", 1, 2 }, { "redirect-cross-303", 1, 2 }, { "redirect-back", 2, 3 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].mode);
                CLEANUP(cleanup_free) char *url = mode_url(rows[i].mode);
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_header accept = { "Accept", "application/x-test" };
                struct fetch_request request = request_of(url, mode_size(rows[i].mode));
                request.authorization = "Bearer abc";
                request.headers = &accept;
                request.header_count = 1;
                struct fetch_header own[] = { { "X-Own", "1" }, { "X-Own", "2" }, { "Authorization", "Basic x" } };
                struct fetch_endpoint endpoint = { .headers = own, .header_count = COUNT_OF(own) };
                request.endpoint = &endpoint;
                log_clear();
                assert_true(fetch_run(client, &request, &probe.sink, &response, &err));
                assert_int_equal(log_count("[\"X-Own\", \"1\"]"), rows[i].with);
                assert_int_equal(log_count("[\"X-Own\", \"2\"]"), rows[i].with);
                assert_int_equal(log_count("Basic x"), 0);
                assert_int_equal(log_count("\"authorization\": \"Bearer abc\""), rows[i].with);
                assert_int_equal(log_count("[\"Accept\", \"application/x-test\"]"), rows[i].requests);
                assert_int_equal(log_count("[\"Accept-Encoding\", \"identity\"]"), rows[i].requests);
                assert_non_null(strstr(fetch_response_get_url(response), "/store/"));
        }
}

static void test_limits(void **state)
{
        (void)state;
        static const struct { const char *path; uint64_t limit; int64_t size; unsigned redirects; enum error_code code; const char *piece; } rows[] = {
                { "/files/large.wasm",                            1000,     -1,   10, ERROR_TOO_LARGE,         "at most 1000" },
                { "/v2/mode/endless-chunked/blobs/layer",         5000000,  -1,   10, ERROR_TOO_LARGE,         "allowed 5000000" },
                { "/files/plugin.wasm",                           5000000,  7,    10, ERROR_CHECKSUM_MISMATCH, "instead of 7" },
                { "/files/redirect/plugin.wasm",                  5000000,  -1,   0,  ERROR_UPSTREAM_ERROR,    "where none is followed" },
                { "/files/redirect/plugin.wasm",                  5000000,  -1,   1,  OK,                      NULL },
                { "/files/status-204",                            5000000,  -1,   0,  OK,                      NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].path);
                CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u%s", fake.port, rows[i].path);
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(url, rows[i].size);
                request.size_limit = rows[i].limit;
                request.redirects_max = rows[i].redirects;
                assert_int_equal(fetch_plain(&request, &response, &err) ? OK : err.code, rows[i].code);
                if (rows[i].piece)
                        assert_non_null(strstr(err.text, rows[i].piece));
        }
}

/* The manifest's answers in turn → the last status, and how many requests it took. */
static void test_statuses(void **state)
{
        (void)state;
        static const struct { const char *mode; int status; unsigned requests, retry_after; } rows[] = {
                { "status-500-once", 200, 2, 0 }, { "status-503-twice", 200, 3, 0 }, { "status-503", 503, 3, 0 }, { "status-404", 404, 1, 0 }, { "status-418", 418, 1, 0 },
                { "status-429-once", 200, 2, 0 }, { "status-429-date", 200, 2, 0 }, { "status-429-huge", 429, 1, 86400 },
                { "status-429-garbage", 429, 3, 0 }, { "error-control", 500, 3, 0 },
                { "error-html", 404, 1, 0 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].mode);
                CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/v2/mode/%s/manifests/v1", fake.port, rows[i].mode);
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(url, -1);
                log_clear();
                if (!fetch_plain(&request, &response, &err))
                        fail_msg("%s", err.text);
                assert_int_equal(fetch_response_get_status(response), rows[i].status);
                assert_int_equal(log_count_url(url), rows[i].requests);
                assert_int_equal(fetch_response_get_retry_after(response), rows[i].retry_after);
                const struct buffer *body = fetch_response_get_error_body(response);
                assert_int_equal(body->used > 0, rows[i].status != 200);
                assert_true(body->used <= FETCH_ERROR_BODY_BYTES);
                if (strcmp(rows[i].mode, "error-control") == 0)
                        assert_int_equal(body->used, FETCH_ERROR_BODY_BYTES);
        }
}

static void test_methods(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *head = string_format("http://127.0.0.1:%u/v2/good/raw/manifests/v1", fake.port), *token = string_format("http://127.0.0.1:%u/token", fake.port);
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL, *posted = NULL, *unchanged = NULL, *failed = NULL;
        struct fetch_request request = request_of(head, -1);
        request.method = FETCH_HEAD;
        assert_true(fetch_run(client, &request, NULL, &response, &err));
        assert_int_equal(fetch_response_get_status(response), 200);
        assert_string_equal(fetch_response_get_header(response, "content-type", 0), "application/vnd.oci.image.manifest.v1+json");
        assert_true(string_starts_with(fetch_response_get_header(response, "docker-content-digest", 0), "sha256:"));

        struct fetch_header match = { "If-None-Match", fetch_response_get_header(response, "ETag", 0) };
        request.method = FETCH_GET;
        request.headers = &match;
        request.header_count = 1;
        assert_true(fetch_run(client, &request, NULL, &unchanged, &err));
        assert_int_equal(fetch_response_get_status(unchanged), 304);

        log_clear();
        CLEANUP(probe_fini) struct probe probe = PROBE;
        struct fetch_request post = { .method = FETCH_POST, .url = token, .size_limit = 65536, .size_expected = -1, .body_type = "application/x-www-form-urlencoded",
                                      .body = "grant_type=password&username=pull&password=secret&scope=repository%3Aa%3Apull&service=fake&client_id=x" };
        assert_true(fetch_run(client, &post, &probe.sink, &posted, &err));
        assert_int_equal(fetch_response_get_status(posted), 200);
        assert_non_null(strstr(probe.bytes.data, "access_token"));
        assert_int_equal(log_count("[\"Content-Type\", \"application/x-www-form-urlencoded\"]"), 1);
        assert_int_equal(log_count("\"Expect\""), 0);

        /* a POST is never sent twice */
        CLEANUP(cleanup_free) char *busy = string_format("http://127.0.0.1:%u/files/status-503", fake.port);
        post.url = busy;
        log_clear();
        assert_true(fetch_run(client, &post, &probe.sink, &failed, &err));
        assert_int_equal(log_count_url(busy), 1);
}

static void test_patch(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.port), *busy = string_format("http://127.0.0.1:%u/files/status-503", fake.port);
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL, *failed = NULL;
        struct fetch_request request = { .method = FETCH_PATCH, .url = url, .size_limit = 1 << 20, .size_expected = -1, .body_type = "application/merge-patch+json", .body = "{\"a\":1}" };
        log_clear();
        assert_true(fetch_run(client, &request, NULL, &response, &err));
        assert_int_equal(log_count("\"method\": \"PATCH\""), 1);
        assert_int_equal(log_count("[\"Content-Type\", \"application/merge-patch+json\"]"), 1);
        assert_int_equal(log_count("{\\\"a\\\":1}"), 1);
        log_clear();
        request.url = busy;
        assert_true(fetch_run(client, &request, NULL, &failed, &err));     /* not sent twice */
        assert_int_equal(fetch_response_get_status(failed), 503);
        assert_int_equal(log_count_url(busy), 1);
}

/* What is not of the type that was asked for never reaches the sink. */
static void test_accept_type(void **state)
{
        (void)state;
        static const struct { const char *type; bool good; } rows[] = { { "application/vnd.oci.image.manifest.v1+json", true }, { "APPLICATION/vnd.oci.image.manifest.v1+JSON", true },
                                                                        { "application/vnd.oci.image.manifest.v1", false }, { "application/json", false } };
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/v2/good/raw/manifests/v1", fake.port);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err = { 0 };
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct fetch_request request = request_of(url, -1);
                request.accept_type = rows[i].type;
                assert_int_equal(fetch_run(client, &request, &probe.sink, &response, &err), rows[i].good);
                assert_int_equal(probe.bytes.used > 0, rows[i].good);
                if (rows[i].good)
                        continue;
                assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                assert_non_null(strstr(err.text, "is of type application/vnd.oci"));
        }
}

/* The request's own patience counts, and says nothing of an option that is not meant. */
static void test_own_progress_timeout(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *url = mode_url("stalled-after-head");
        CLEANUP(probe_fini) struct probe probe = PROBE;
        struct fetch_response *response = NULL;
        struct fetch_request request = request_of(url, -1);
        const int64_t own_ms = 1500;
        int64_t start_ms = clock_get_ms();
        request.no_retry = true;
        request.progress_timeout_ms = &own_ms;
        assert_false(fetch_run(client, &request, &probe.sink, &response, &err));
        assert_true(clock_get_ms() - start_ms >= own_ms - 100);
        assert_non_null(strstr(err.text, "stalled: not a byte for 1"));
        assert_null(strstr(err.text, "pull.progress_timeout"));
}

static void test_sink_refuses(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(cleanup_free) char *url = mode_url("good-large");
        CLEANUP(probe_fini) struct probe probe = PROBE;
        struct fetch_response *response = NULL;
        struct fetch_request request = request_of(url, -1);
        probe.refuse = true;
        log_clear();
        assert_false(fetch_run(client, &request, &probe.sink, &response, &err));
        assert_int_equal(err.code, ERROR_STORE_FULL);
        assert_int_equal(log_count_url(url), 1);
}

static void test_header_injection(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.port);
        struct fetch_header header = { "X-A", "b\nX-Injected: 1" };
        log_clear();
        for (int i = 0; i < 2; i++) {
                struct error err = { 0 };
                struct fetch_response *response = NULL;
                struct fetch_request request = request_of(url, -1);
                request.authorization = i ? "Bearer a\r\nX-Injected: 1" : NULL;
                request.headers = &header;
                request.header_count = i ? 0 : 1;
                assert_false(fetch_plain(&request, &response, &err));
                assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                assert_null(strstr(err.text, "Injected"));
        }
        assert_int_equal(log_count("\"method\""), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_modes), cmocka_unit_test(test_resume_bytes), cmocka_unit_test(test_resume_not_wanted), cmocka_unit_test(test_authorization),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_statuses), cmocka_unit_test(test_methods), cmocka_unit_test(test_patch), cmocka_unit_test(test_accept_type),
                cmocka_unit_test(test_own_progress_timeout), cmocka_unit_test(test_sink_refuses), cmocka_unit_test(test_header_injection),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
