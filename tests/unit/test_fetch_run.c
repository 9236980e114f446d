#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <cmocka.h>
#include "fetch_fake.h"

static struct fake fake;
static struct fetch_client *client;

#define OK ERROR_NONE

static char *mode_url(const char *mode)
{
        return string_format("http://127.0.0.1:%u/v2/mode/%s/blobs/layer", fake.port, mode);
}

/* What the first layer's descriptor says. */
static int64_t mode_size(const char *mode)
{
        CLEANUP(cleanup_free) char *path = string_format("/_repo?repo=mode/%s", mode);
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, path);
        const char *at = strstr(text, "\"layers\": [");
        assert_non_null(at);
        at = strstr(at, "\"size\": ");
        assert_non_null(at);
        return strtoll(at + 8, NULL, 10);
}

static unsigned log_count(const char *piece)
{
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, "/_log");
        unsigned count = 0;
        for (const char *at = text; (at = strstr(at, piece)); at++)
                count++;
        return count;
}

/* Requests of one url: what an earlier test has left behind may still come in. */
static unsigned log_count_url(const char *url)
{
        CLEANUP(cleanup_free) char *piece = string_format("\"path\": \"%s\"", strchr(strstr(url, "://") + 3, '/'));
        return log_count(piece);
}

static void log_clear(void)
{
        free(fake_steer(client, &fake, FETCH_GET, "/_log?clear=1"));
}

/* Hashes what it gets, so that a wrong resume shows; may refuse. */
struct probe { struct sink sink; struct buffer bytes; unsigned restarts; bool refuse; };

static bool probe_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct probe *probe = CONTAINER_OF(sink, struct probe, sink);
        if (probe->refuse)
                return refuse(err, ERROR_STORE_FULL, "the disk is full");
        assert_true(buffer_append(&probe->bytes, bytes, size_bytes));
        return true;
}

static bool probe_restart(struct sink *sink, struct error *err)
{
        struct probe *probe = CONTAINER_OF(sink, struct probe, sink);
        (void)err;
        probe->restarts++;
        buffer_clear(&probe->bytes);
        return true;
}

static void probe_fini(struct probe *probe)
{
        buffer_fini(&probe->bytes);
}

#define PROBE { .sink = { probe_write, probe_restart } }

/* Patient: on a busy machine the fake may take longer to answer than the 400 ms that the modes that stall are given. */
static struct fetch_request request_of(const char *url, int64_t size)
{
        static const int64_t patience_ms = 30000;
        return (struct fetch_request){ .url = url, .size_limit = 16 << 20, .size_expected = size, .redirects_max = FETCH_REDIRECTS_MAX, .resume = true,
                                       .progress_timeout_ms = strstr(url, "stalled") ? NULL : &patience_ms };
}

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

static bool fetch_plain(const struct fetch_request *request, struct fetch_response **ret_response, struct error *err)
{
        CLEANUP(probe_fini) struct probe probe = PROBE;
        return fetch_run(client, request, &probe.sink, ret_response, err);
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

static unsigned connections(void)
{
        CLEANUP(cleanup_free) char *text = fake_steer(client, &fake, FETCH_GET, "/_stats");
        CLEANUP(cleanup_free) char *key = string_format("\"%u\": ", fake.other);
        const char *at = strstr(text, key);
        assert_non_null(at);
        return (unsigned)strtoul(at + strlen(key), NULL, 10);
}

/* Twenty requests one after another: one connection. */
static void test_keep_alive(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.other);
        CLEANUP(cleanup_free) char *missing = string_format("http://127.0.0.1:%u/files/none", fake.other);
        unsigned before = connections();
        for (int i = 0; i < 20; i++) {
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(i % 2 ? url : missing, -1);
                assert_true(fetch_plain(&request, &response, &err));
        }
        assert_true(connections() - before <= 1);
}

struct cancelling { struct cancel *cancel; const char *wait_for; };

/* Triggers when the server has the request in its log, so that the worker surely waits for the answer. */
static void *cancel_when_asked(void *arg)
{
        struct cancelling *cancelling = arg;
        for (int i = 0; i < 5000 && log_count(cancelling->wait_for) == 0; i++)
                usleep(1000);
        cancel_trigger(cancelling->cancel);
        return NULL;
}

static void test_cancel(void **state)
{
        (void)state;
        /* a stall, a body that drips, and the sleep before another try */
        static const char *const paths[] = { "/v2/mode/stalled-before-head/blobs/layer", "/v2/mode/drip/blobs/layer", "/v2/mode/status-429-once/manifests/v1" };
        struct fetch_options options = { .retries = 5, .progress_timeout_ms = 60000 };
        CLEANUP(fetch_client_unref) struct fetch_client *patient = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &patient, &err));
        free(fake_steer(client, &fake, FETCH_POST, "/_reset"));
        for (size_t i = 0; i < COUNT_OF(paths); i++) {
                print_message("%s\n", paths[i]);
                CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u%s", fake.port, paths[i]);
                CLEANUP(cancel_free) struct cancel *cancel = cancel_new();
                CLEANUP(probe_fini) struct probe probe = PROBE;
                struct fetch_response *response = NULL;
                struct cancelling cancelling = { cancel, paths[i] };
                struct fetch_request request = request_of(url, -1);
                request.cancel = cancel;
                pthread_t thread;
                int64_t started_ms = clock_get_ms();
                assert_int_equal(pthread_create(&thread, NULL, cancel_when_asked, &cancelling), 0);
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                pthread_join(thread, NULL);
                assert_int_equal(err.code, ERROR_BUSY);
                assert_true(clock_get_ms() - started_ms < 10000);
                /* and at once if it was triggered before */
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                assert_int_equal(err.code, ERROR_BUSY);
        }
}

static void test_deadline(void **state)
{
        (void)state;
        static const char *const names[] = { "drip", "stalled-before-head" };
        struct fetch_options options = { .retries = 5, .progress_timeout_ms = 60000 };
        CLEANUP(fetch_client_unref) struct fetch_client *patient = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &patient, &err));
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                CLEANUP(cleanup_free) char *url = mode_url(names[i]);
                CLEANUP(probe_fini) struct probe probe = PROBE;
                struct fetch_response *response = NULL;
                struct fetch_request request = request_of(url, -1);
                request.deadline_ms = clock_get_ms() + 300;
                assert_false(fetch_run(patient, &request, &probe.sink, &response, &err));
                assert_int_equal(err.code, ERROR_TIMEOUT);
                assert_non_null(strstr(err.text, "not done within"));
        }
}

static void test_reasons(void **state)
{
        (void)state;
        static const struct { const char *url; bool public_only; enum error_code code; const char *piece; } rows[] = {
                { "http://no-such-host.invalid/x",      false, ERROR_UPSTREAM_UNREACHABLE, "could not be resolved (DNS)" },
                { "http://127.0.0.1:1/x?token=hidden",  false, ERROR_UPSTREAM_UNREACHABLE, "refused (127.0.0.1); is the server running, and on this port?" },
                { "http://169.254.1.1/x",               false, ERROR_DENIED,               "169.254.1.1 is refused: link-local; if that is meant to be reached, list" },
                { "http://localhost:1/x",               true,  ERROR_DENIED,               "loopback" },
                { "http://10.1.2.3/x",                  true,  ERROR_DENIED,               "private" },
                { "ftp://127.0.0.1/x",                  false, ERROR_BAD_URL,              "only http" },
                { "http://u:p@127.0.0.1/x",             false, ERROR_BAD_URL,              "user name" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                print_message("%s\n", rows[i].url);
                struct error err = { 0 };
                struct fetch_response *response = NULL;
                struct fetch_request request = request_of(rows[i].url, -1);
                request.public_only = rows[i].public_only;
                request.no_retry = true;
                assert_false(fetch_plain(&request, &response, &err));
                print_message("   %s\n", err.text);
                assert_int_equal(err.code, rows[i].code);
                assert_non_null(strstr(err.text, rows[i].piece));
                assert_null(strstr(err.text, "hidden"));
        }
}

/* A connection that an ordinary request left warm must not be given to a public_only one. */
static void test_public_only_apart(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/plugin.wasm", fake.port);
        struct fetch_request request = request_of(url, -1);
        assert_true(fetch_plain(&request, &response, &err));
        request.public_only = true;
        assert_false(fetch_plain(&request, &response, &err));
        assert_int_equal(err.code, ERROR_DENIED);
}

/* The fake is the proxy: it gets absolute URLs, and literals in them are still judged. */
static void test_proxy(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *proxy = string_format("http://user:pw@127.0.0.1:%u", fake.port);
        struct fetch_options options = { .http_proxy = proxy, .no_proxy = "direct.invalid", .progress_timeout_ms = 2000 };
        CLEANUP(fetch_client_unref) struct fetch_client *proxied = NULL;
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct error err = { 0 };
        assert_true(fetch_client_new(&options, &proxied, &err));
        log_clear();
        struct fetch_request request = request_of("http://far.invalid/plugin.wasm", -1);
        request.authorization = "Bearer abc";
        assert_true(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(fetch_response_get_status(response), 404);
        assert_int_equal(log_count("\"path\": \"http://far.invalid/plugin.wasm\""), 1);
        assert_int_equal(log_count("Proxy-Authorization"), 1);

        request.url = "http://169.254.169.254/latest";
        assert_false(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        request.url = "http://direct.invalid/x";
        assert_false(fetch_run(proxied, &request, NULL, &response, &err));
        assert_int_equal(err.code, ERROR_UPSTREAM_UNREACHABLE);
        assert_null(strstr(err.text, "pw"));
}

static void *many_gets(void *arg)
{
        const char *url = arg;
        for (int i = 0; i < 20; i++) {
                CLEANUP(probe_fini) struct probe probe = PROBE;
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                struct error err = { 0 };
                struct fetch_request request = request_of(url, -1);
                if (!fetch_run(client, &request, &probe.sink, &response, &err) || fetch_response_get_status(response) != 200)
                        return arg;
        }
        return NULL;
}

static void test_threads(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *url = string_format("http://127.0.0.1:%u/files/redirect/plugin.wasm", fake.port);
        pthread_t threads[12];
        for (size_t i = 0; i < COUNT_OF(threads); i++)
                assert_int_equal(pthread_create(&threads[i], NULL, many_gets, url), 0);
        for (size_t i = 0; i < COUNT_OF(threads); i++) {
                void *failed = NULL;
                pthread_join(threads[i], &failed);
                assert_null(failed);
        }
}

static int setup(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct fetch_options options = { .connect_timeout_ms = 3000, .progress_timeout_ms = 400, .retries = 2 };
        static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);
        fake = fake_start(NULL);
        return fetch_client_new(&options, &client, &err) ? 0 : -1;
}

static int teardown(void **state)
{
        (void)state;
        fetch_client_unref(&client);
        fake_stop(&fake);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_modes), cmocka_unit_test(test_resume_bytes), cmocka_unit_test(test_resume_not_wanted), cmocka_unit_test(test_authorization),
                cmocka_unit_test(test_limits), cmocka_unit_test(test_statuses), cmocka_unit_test(test_methods), cmocka_unit_test(test_patch), cmocka_unit_test(test_accept_type),
                cmocka_unit_test(test_own_progress_timeout), cmocka_unit_test(test_sink_refuses),
                cmocka_unit_test(test_keep_alive),
                cmocka_unit_test(test_cancel), cmocka_unit_test(test_deadline), cmocka_unit_test(test_reasons), cmocka_unit_test(test_public_only_apart),
                cmocka_unit_test(test_proxy),
                cmocka_unit_test(test_threads), cmocka_unit_test(test_header_injection),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
