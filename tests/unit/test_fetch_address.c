#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/fetch.h>
#include "../../agent/fetch/address.h"
#include "../../agent/fetch/proxy.h"
#include "../../agent/fetch/response.h"
#include "../../agent/fetch/url.h"

/* address → what the filter says by default, and with public_only; NULL = allowed */
static const struct { const char *address, *always, *public_only; } addresses[] = {
        { "93.184.216.34",             NULL,                        NULL },
        { "2001:4860:4860::8888",      NULL,                        NULL },
        { "127.0.0.1",                 NULL,                        "loopback" },
        { "127.255.0.9",               NULL,                        "loopback" },
        { "::1",                       NULL,                        "loopback" },
        { "10.0.0.1",                  NULL,                        "private" },
        { "172.16.0.1",                NULL,                        "private" },
        { "172.31.255.255",            NULL,                        "private" },
        { "172.32.0.1",                NULL,                        NULL },
        { "192.168.1.1",               NULL,                        "private" },
        { "100.64.0.1",                NULL,                        "private (shared address space)" },
        { "fd12::1",                   NULL,                        "private" },
        { "::ffff:10.0.0.1",           NULL,                        "private" },
        { "::ffff:127.0.0.1",          NULL,                        "loopback" },
        { "169.254.169.254",           "a cloud metadata service",  "a cloud metadata service" },
        { "::ffff:169.254.169.254",    "a cloud metadata service",  "a cloud metadata service" },
        { "64:ff9b::a9fe:a9fe",        "a cloud metadata service",  "a cloud metadata service" },
        { "2002:a9fe:a9fe::1",         "a cloud metadata service",  "a cloud metadata service" },
        { "::169.254.169.254",         "a cloud metadata service",  "a cloud metadata service" },
        { "64:ff9b::10.1.2.3",         NULL,                        "private" },
        { "64:ff9b::8.8.8.8",          NULL,                        NULL },
        { "169.254.0.1",               "link-local",                "link-local" },
        { "169.253.255.255",           NULL,                        NULL },
        { "fe80::1",                   "link-local",                "link-local" },
        { "febf::1",                   "link-local",                "link-local" },
        { "100.100.100.200",           "a cloud metadata service",  "a cloud metadata service" },
        { "100.100.100.201",           NULL,                        "private (shared address space)" },
        { "fd00:ec2::254",             "a cloud metadata service",  "a cloud metadata service" },
        { "fd00:ec2::253",             NULL,                        "private" },
        { "0.0.0.0",                   "unspecified",               "unspecified" },
        { "0.1.2.3",                   "unspecified",               "unspecified" },
        { "::",                        "unspecified",               "unspecified" },
        { "::ffff:0.0.0.0",            "unspecified",               "unspecified" },
        { "224.0.0.1",                 "multicast",                 "multicast" },
        { "239.255.255.255",           "multicast",                 "multicast" },
        { "ff02::1",                   "multicast",                 "multicast" },
        { "255.255.255.255",           "broadcast",                 "broadcast" },
};

static void test_filter(void **state)
{
        (void)state;
        static const struct address_filter none;
        for (size_t i = 0; i < COUNT_OF(addresses); i++) {
                struct address address;
                print_message("%s\n", addresses[i].address);
                assert_true(address_parse(addresses[i].address, &address));
                const char *always = address_filter_check(&none, &address, false), *strict = address_filter_check(&none, &address, true);
                assert_true(string_equal(always, addresses[i].always));
                assert_true(string_equal(strict, addresses[i].public_only));
        }
}

static void test_filter_lists(void **state)
{
        (void)state;
        struct cidr block[2], allow[2];
        assert_true(cidr_parse("10.0.0.0/8", true, &block[0]));
        assert_true(cidr_parse("2001:db8::/33", true, &block[1]));
        assert_true(cidr_parse("10.1.0.0/16", true, &allow[0]));
        assert_true(cidr_parse("169.254.169.254", true, &allow[1]));
        struct address_filter filter = { block, allow, 2, 2 };
        static const struct { const char *address; const char *why; } rows[] = {
                { "10.2.0.1", "in network.block" }, { "::ffff:10.2.0.1", "in network.block" }, { "10.1.2.3", NULL }, { "169.254.169.254", NULL },
                { "169.254.169.253", "link-local" }, { "2001:db8:7fff::1", "in network.block" }, { "2001:db8:8000::1", NULL }, { "64:ff9b::10.2.0.1", "in network.block" },
                { "64:ff9b::a9fe:a9fe", NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct address address;
                print_message("%s\n", rows[i].address);
                assert_true(address_parse(rows[i].address, &address));
                assert_true(string_equal(address_filter_check(&filter, &address, false), rows[i].why));
        }
        struct address private_allowed;
        assert_true(address_parse("10.1.0.1", &private_allowed));
        assert_null(address_filter_check(&filter, &private_allowed, true));
}

static void test_cidr(void **state)
{
        (void)state;
        static const struct { const char *text; bool exact, loose; } rows[] = {
                { "10.0.0.0/8", true, true }, { "10.0.0.1/8", false, true }, { "10.0.0.1", true, true }, { "0.0.0.0/0", true, true }, { "::/0", true, true },
                { "fd00::/8", true, true },
                { "fd00::1/128", true, true }, { "10.0.0.0/33", false, false }, { "::/129", false, false }, { "10.0.0.0/", false, false }, { "10.0.0.0/+8", false, false },
                { "10.0.0.0/8x", false, false }, { "10.0.0/8", false, false }, { "", false, false }, { "host/8", false, false }, { "/8", false, false },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct cidr cidr;
                print_message("%s\n", rows[i].text);
                assert_int_equal(cidr_parse(rows[i].text, true, &cidr), rows[i].exact);
                assert_int_equal(cidr_parse(rows[i].text, false, &cidr), rows[i].loose);
        }
}

/* NO_PROXY, host, port → excluded; rows follow golang.org/x/net/http/httpproxy and its tests */
static const struct { const char *list, *host; unsigned port; bool excluded; } exclusions[] = {
        { "",                          "example.org",      443, false },
        { "*",                         "example.org",      443, true },
        { "example.org",               "example.org",      443, true },
        { "example.org",               "www.example.org",  443, true },
        { "example.org",               "badexample.org",   443, false },
        { ".example.org",              "example.org",      443, false },
        { ".example.org",              "www.example.org",  443, true },
        { "*.example.org",             "www.example.org",  443, true },
        { "*.example.org",             "example.org",      443, false },
        { "EXAMPLE.org",               "www.example.ORG",  443, true },
        { "example.org:443",           "example.org",      443, true },
        { "example.org:443",           "example.org",      80,  false },
        { "example.org:443",           "www.example.org",  443, true },
        { " a.test , example.org ",    "example.org",      443, true },
        { "a.test,,b.test",            "b.test",           80,  true },
        { "10.0.0.0/8",                "10.9.8.7",         80,  true },
        { "10.9.8.7/8",                "10.1.1.1",         80,  true },
        { "10.0.0.0/8",                "11.0.0.1",         80,  false },
        { "10.0.0.1",                  "10.0.0.1",         80,  true },
        { "10.0.0.1:8080",             "10.0.0.1",         80,  false },
        { "10.0.0.1:8080",             "10.0.0.1",         8080, true },
        { "fd00::/8",                  "fd00::7",          80,  true },
        { "[fd00::7]:80",              "fd00::7",          80,  true },
        { "fd00::7",                   "fd00::7",          80,  true },
        { "10.0.0.0/8",                "ten.example.org",  80,  false },
        { ":80",                       "example.org",      80,  false },
        { "0.0.1",                     "10.0.0.1",         80,  true },        /* Go compares suffixes of literals too */
};

static void test_no_proxy(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(exclusions); i++) {
                print_message("\"%s\" %s:%u\n", exclusions[i].list, exclusions[i].host, exclusions[i].port);
                assert_int_equal(proxy_is_excluded(exclusions[i].list, exclusions[i].host, exclusions[i].port), exclusions[i].excluded);
        }
}

static void test_proxy_rules(void **state)
{
        (void)state;
        struct proxy_rules rules = { 0 };
        struct error err = { 0 };
        static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "REQUEST_METHOD" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);

        setenv("HTTPS_PROXY", "proxy.test:3128", 1);
        setenv("https_proxy", "http://other.test:1", 1);
        setenv("no_proxy", "direct.test", 1);
        assert_true(proxy_rules_init("http://own.test:80", "", NULL, &rules, &err));
        static const struct { const char *url, *proxy; } rows[] = {
                { "https://a.test/x",        "http://proxy.test:3128" },
                { "http://a.test/x",         "http://own.test:80" },
                { "https://direct.test/x",   NULL },
                { "https://localhost/x",     NULL },
                { "https://127.9.9.9/x",     NULL },
                { "https://[::1]:8/x",       NULL },
                { "https://[::ffff:127.0.0.1]:8/x", NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct url url = { 0 };
                assert_true(url_parse(rows[i].url, &url, &err));
                assert_true(string_equal(proxy_rules_choose(&rules, &url), rows[i].proxy));
                url_fini(&url);
        }
        proxy_rules_fini(&rules);
        unsetenv("HTTPS_PROXY");
        unsetenv("https_proxy");
        unsetenv("no_proxy");

        setenv("HTTP_PROXY", "http://header.test", 1);
        setenv("REQUEST_METHOD", "GET", 1);
        assert_true(proxy_rules_init(NULL, NULL, NULL, &rules, &err));
        assert_null(rules.http);
        proxy_rules_fini(&rules);
        unsetenv("HTTP_PROXY");
        unsetenv("REQUEST_METHOD");

        assert_false(proxy_rules_init("gopher://u:p4ss@x", NULL, NULL, &rules, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        assert_non_null(strstr(err.text, "network.http_proxy"));
        assert_null(strstr(err.text, "p4ss"));
        assert_false(proxy_rules_init(NULL, "http://a b", NULL, &rules, &err));
}

/* as a module source; NULL = good */
static const struct { const char *url, *piece; } urls[] = {
        { "https://example.org/plugin.wasm",        NULL },
        { "HTTP://example.org:8080/a/B.wasm",       NULL },
        { "http://[::1]:80/x",                      NULL },
        { "ftp://example.org/x",                    "only http" },
        { "example.org/x",                          "only http" },
        { "https://user@example.org/x",             "user name" },
        { "https://user:pw@example.org/x",          "user name" },
        { "https://@example.org/x",                 "user name" },
        { "https://:@example.org/x",                "user name" },
        { "https://example.org/x?y=1",              "query" },
        { "https://example.org/x?",                 "query" },
        { "https://example.org/x#y",                "fragment" },
        { "https://example.org/x#",                 "fragment" },
        { "https://example.org/a b",                "blanks" },
        { "https://example.org/a\tb",               "blanks" },
        { " https://example.org/a",                 "blanks" },
        { "https://example.org/a\r\nX: y",          "blanks" },
        { "https://",                               "url" },
        { "https:///x",                             "url" },
        { "https://example.org:99999/x",            "url" },
        { "https://example.org:x/x",                "url" },
        { "https://[::1/x",                         "url" },
        { "https://[fe80::1%25eth0]/x",             "zone" },
        { "https://example.org",                    "without the name" },
        { "https://example.org/",                   "without the name" },
        { "https://example.org/a/",                 "without the name" },
};

static void test_url_check(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(urls); i++) {
                struct error err = { 0 };
                print_message("%s\n", urls[i].url);
                CLEANUP(cleanup_free) char *origin = NULL, *expected = urls[i].piece ? NULL : fetch_url_origin(urls[i].url);
                assert_int_equal(fetch_url_check(urls[i].url, &origin, &err), urls[i].piece == NULL);
                assert_true(string_equal(origin, expected));
                if (!urls[i].piece)
                        continue;
                assert_int_equal(err.code, ERROR_BAD_URL);
                assert_non_null(strstr(err.text, urls[i].piece));
                assert_null(strstr(err.text, "pw"));
        }
}

static void test_url_origin(void **state)
{
        (void)state;
        static const struct { const char *url, *origin; } rows[] = {
                { "https://Example.ORG/x", "https://example.org:443" }, { "http://example.org/x", "http://example.org:80" },
                { "https://example.org:8443", "https://example.org:8443" }, { "https://example.org./x", "https://example.org:443" },
                { "https://[::1]/x", "https://[::1]:443" }, { "http://2130706433/", "http://127.0.0.1:80" },
                { "oci://example.org/x",          NULL },                      { "nonsense",             NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *origin = fetch_url_origin(rows[i].url);
                print_message("%s\n", rows[i].url);
                assert_true(string_equal(origin, rows[i].origin));
        }
}

static void test_redirect_targets(void **state)
{
        (void)state;
        static const struct { const char *location, *target; } rows[] = {
                { "/y",                           "https://h.test:8443/y" }, { "y?z=1",                "https://h.test:8443/a/y?z=1" }, { "//o.test/y",      "https://o.test/y" },
                { "http://o.test/y#frag",         "http://o.test/y" },       { "https://o.test/a b",   "https://o.test/a%20b" },        { "ftp://o.test/y",  NULL },
                { "file:///etc/passwd",           NULL },                    { "https://u:p@o.test/y", NULL },                          { "https://[::1%25lo]/", NULL },
                { "http://[::zz]/",               NULL },
        };
        struct url base = { 0 };
        struct error err = { 0 };
        assert_true(url_parse("https://h.test:8443/a/b?secret=1", &base, &err));
        assert_string_equal(base.shown, "https://h.test:8443/a/b");
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct url next = { 0 };
                print_message("%s\n", rows[i].location);
                assert_int_equal(url_resolve(&base, rows[i].location, &next, &err), rows[i].target != NULL);
                if (rows[i].target)
                        assert_string_equal(next.text, rows[i].target);
                else
                        assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);
                url_fini(&next);
        }
        url_fini(&base);
}

/* Content-Range of an answer to "bytes=100-" of a body of 300 bytes (or of unknown length) */
static const struct { const char *text; int64_t total; bool good; } ranges[] = {
        { "bytes 100-299/300", 300, true },  { "bytes 100-299/*", 300, true },   { "bytes 100-299/300", -1, true },  { "BYTES 100-299/300", 300, true },
        { "bytes 100-199/300", 300, false }, { "bytes 101-299/300", 300, false }, { "bytes 0-299/300", 300, false },  { "bytes 100-299/301", 300, false },
        { "bytes 100-300/301", 300, false }, { "bytes 100-298/*", 300, false },   { "bytes 100-99/100", -1, false },  { "bytes */300", 300, false },
        { "bytes=100-299/300", 300, false }, { "100-299/300", 300, false },       { "bytes 100-299", 300, false },    { "bytes 100-299/300,", 300, false },
        { "bytes 100-299/99999999999999999999", 300, false },                     { "bytes +100-299/300", 300, false }, { "", 300, false }, { NULL, 300, false },
};

static void test_ranges(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(ranges); i++) {
                int64_t total = -7;
                print_message("%s\n", ranges[i].text ? ranges[i].text : "none");
                assert_int_equal(response_continues(ranges[i].text, 100, ranges[i].total, &total), ranges[i].good);
        }
}

static void add(struct fetch_response *response, const char *line)
{
        struct error err = { 0 };
        assert_true(response_add_line(response, line, strlen(line), &err));
}

static void test_headers(void **state)
{
        (void)state;
        struct error err = { 0 };
        int64_t length = 0;
        CLEANUP(fetch_response_free) struct fetch_response *response = response_new("http://h/");
        add(response, "HTTP/1.1 100 Continue\r\n");
        add(response, "X-Early: 1\r\n");
        add(response, "HTTP/1.1 200 OK\r\n");
        add(response, "Link:  one \r\n");
        add(response, "link: two\n");
        add(response, "no colon here\r\n");
        add(response, ": nameless\r\n");
        add(response, " folded: x\r\n");
        add(response, "Content-Length: 17\r\n");
        assert_int_equal(fetch_response_get_status(response), 200);
        assert_null(fetch_response_get_header(response, "X-Early", 0));
        assert_string_equal(fetch_response_get_header(response, "LINK", 0), "one");
        assert_string_equal(fetch_response_get_header(response, "LINK", 1), "two");
        assert_null(fetch_response_get_header(response, "LINK", 2));
        assert_true(response_read_length(response, &length, &err));
        assert_int_equal(length, 17);
        add(response, "Content-Length: 17\r\n");
        assert_true(response_read_length(response, &length, &err));
        add(response, "Content-Length: 18\r\n");
        assert_false(response_read_length(response, &length, &err));
        assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);

        add(response, "HTTP/2 404 \r\n");
        assert_int_equal(fetch_response_get_status(response), 404);
        for (const char *const *bad = (const char *const[]){ "-1", "1e3", "1, 1", "99999999999999999999", "0x10", NULL }; *bad; bad++) {
                CLEANUP(cleanup_free) char *line = string_format("Content-Length: %s\r\n", *bad);
                add(response, "HTTP/1.1 200 OK\r\n");
                add(response, line);
                assert_false(response_read_length(response, &length, &err));
        }
        add(response, "HTTP/1.1 200 OK\r\n");
        add(response, "Content-Encoding: Identity\r\n");
        add(response, "Transfer-Encoding: chunked\r\n");
        assert_true(response_check_codings(response, false, &err));
        add(response, "Content-Encoding: zstd\r\n");
        assert_false(response_check_codings(response, false, &err));
        assert_true(response_check_codings(response, true, &err));
        add(response, "Content-Encoding: br\r\n");
        assert_false(response_check_codings(response, true, &err));
        add(response, "HTTP/1.1 200 OK\r\n");
        add(response, "Transfer-Encoding: gzip\r\n");
        assert_false(response_check_codings(response, true, &err));
}

static void test_validator(void **state)
{
        (void)state;
        static const struct { const char *lines[3], *validator; } rows[] = {
                { { "ETag: \"a\"\r\n" }, "\"a\"" }, { { "ETag: W/\"a\"\r\n" }, NULL }, { { NULL }, NULL },
                { { "ETag: W/\"a\"\r\n", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "Date: Mon, 01 Jan 2024 00:01:00 GMT\r\n" }, NULL },
                { { "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "Date: Mon, 01 Jan 2024 00:00:01 GMT\r\n" }, "Mon, 01 Jan 2024 00:00:00 GMT" },
                { { "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n" }, NULL },
                { { "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n", "Date: yesterday\r\n" }, NULL }, { { "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\n" }, NULL },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(fetch_response_free) struct fetch_response *response = response_new("http://a/");
                add(response, "HTTP/1.1 200 OK\r\n");
                for (size_t k = 0; k < COUNT_OF(rows[i].lines) && rows[i].lines[k]; k++)
                        add(response, rows[i].lines[k]);
                const char *validator = response_get_validator(response);
                assert_int_equal(!validator, !rows[i].validator);
                if (validator)
                        assert_string_equal(validator, rows[i].validator);
        }
}

static void test_header_limits(void **state)
{
        (void)state;
        struct error err = { 0 };
        CLEANUP(fetch_response_free) struct fetch_response *many = response_new("http://h/"), *heads = response_new("http://h/");
        for (int i = 0; i < HEADERS_MAX; i++)
                add(many, "X: y\r\n");
        assert_false(response_add_line(many, "X: y\r\n", 6, &err));
        assert_int_equal(err.code, ERROR_UPSTREAM_ERROR);

        /* interim heads count too: a thousand small ones are as bad as a large one */
        bool good = true;
        for (int i = 0; good && i < HEADER_BYTES_MAX / 25 + 1; i++)
                good = response_add_line(heads, "HTTP/1.1 100 Continue    \r\n", 27, &err);
        assert_false(good);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_filter), cmocka_unit_test(test_filter_lists), cmocka_unit_test(test_cidr), cmocka_unit_test(test_no_proxy),
                cmocka_unit_test(test_proxy_rules),
                cmocka_unit_test(test_url_check), cmocka_unit_test(test_url_origin), cmocka_unit_test(test_redirect_targets), cmocka_unit_test(test_ranges),
                cmocka_unit_test(test_headers), cmocka_unit_test(test_validator), cmocka_unit_test(test_header_limits),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
