#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "fetch_fake.h"

/* Certificates are made by the openssl program, so that nothing in the repository ever expires. */
static char folder[] = "/tmp/wasmcached-tls-XXXXXX";
static struct fake good, expired, other_name, wants_client;

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
        char command[2048] = "";
        va_list list;
        va_start(list, format);
        vsnprintf(command, sizeof command, format, list);
        va_end(list);
        CLEANUP(cleanup_free) char *whole = string_format("cd %s && { %s; } >>log 2>&1", folder, command);
        if (system(whole) != 0)
                fail_msg("failed, see %s/log: %s", folder, command);
}

static void make_ca(const char *name)
{
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s.key -out %s.pem -days 2 -subj /CN=%s -addext keyUsage=keyCertSign",
              name, name, name);
}

static void make_leaf(const char *name, const char *ca, const char *names, const char *validity)
{
        shell("openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout %s.key -out %s.csr -subj /CN=%s && printf 'subjectAltName=%s\\n' > %s.ext && "
              "openssl ca -batch -config ca.cnf -cert %s.pem -keyfile %s.key -in %s.csr -out %s.pem -extfile %s.ext -notext %s",
              name, name, name, names, name, ca, ca, name, name, name, validity);
}

static char *file(const char *name)
{
        return string_format("%s/%s", folder, name);
}

static struct fake start(const char *leaf, const char *client_ca)
{
        CLEANUP(cleanup_free) char *certificate = string_format("%s/%s.pem", folder, leaf), *key = string_format("%s/%s.key", folder, leaf);
        CLEANUP(cleanup_free) char *ca = client_ca ? string_format("%s/%s.pem", folder, client_ca) : NULL;
        const char *arguments[6] = { "--tls", certificate, key, ca ? "--client-ca" : NULL, ca, NULL };
        return fake_start(arguments);
}

static int setup(void **state)
{
        (void)state;
        static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);
        assert_non_null(mkdtemp(folder));
        shell("touch index.txt && printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index.txt\\nnew_certs_dir=.\\nrand_serial=yes\\n"
              "default_md=sha256\\npolicy=p\\ndefault_days=2\\nunique_subject=no\\n"
              "[p]\\ncommonName=supplied\\n' > ca.cnf");
        make_ca("ca");
        make_ca("stranger");
        make_leaf("server", "ca", "IP:127.0.0.1,DNS:localhost", "-days 2");
        make_leaf("expired", "ca", "IP:127.0.0.1", "-startdate 20200101000000Z -enddate 20200102000000Z");
        make_leaf("other", "ca", "DNS:other.test", "-days 2");
        make_leaf("client", "ca", "DNS:client.test", "-days 2");
        good = start("server", NULL);
        expired = start("expired", NULL);
        other_name = start("other", NULL);
        wants_client = start("server", "ca");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        fake_stop(&good);
        fake_stop(&expired);
        fake_stop(&other_name);
        fake_stop(&wants_client);
        CLEANUP(cleanup_free) char *command = string_format("rm -rf %s", folder);
        return system(command);
}

enum ca { CA_NONE, CA_OURS, CA_STRANGER };

/* how the host is configured → what comes of it (NULL = the file) */
static const struct { struct fake *server; enum ca ca; bool skip_verify, client, stranger_client; const char *piece; } rows[] = {
        { &good,         CA_OURS,     false, false, false, NULL },
        { &good,         CA_NONE,     false, false, false, "unknown CA" },
        { &good,         CA_STRANGER, false, false, false, "unknown CA" },
        { &good,         CA_NONE,     true,  false, false, NULL },
        { &good,         CA_OURS,     false, true,  false, NULL },
        { &expired,      CA_OURS,     false, false, false, "expired" },
        { &expired,      CA_NONE,     true,  false, false, NULL },
        { &other_name,   CA_OURS,     false, false, false, "another host name" },
        { &wants_client, CA_OURS,     false, false, false, "client certificate" },
        { &wants_client, CA_OURS,     false, true,  false, NULL },
        { &wants_client, CA_OURS,     false, false, true,  "" },
};

static const struct fetch_endpoint *endpoint;      /* of get() */

static bool get_as(struct fetch_client *client, const char *url, const struct fetch_tls *tls, unsigned *ret_status, struct error *err)
{
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        struct sink_buffer sink;
        sink_buffer_init(&sink, &body, "file");
        struct fetch_request request = { .url = url, .size_limit = 1 << 20, .size_expected = -1, .redirects_max = 10, .no_retry = true, .endpoint = endpoint, .tls = tls };
        if (!fetch_run(client, &request, &sink.sink, &response, err))
                return false;
        *ret_status = (unsigned)fetch_response_get_status(response);
        return true;
}

static bool get(struct fetch_client *client, const char *url, unsigned *ret_status, struct error *err)
{
        return get_as(client, url, NULL, ret_status, err);
}

static char *file_load(const char *name)
{
        CLEANUP(cleanup_free) char *path = file(name);
        struct buffer text = { 0 };
        struct error err = { 0 };
        assert_true(fs_load(AT_FDCWD, path, 1 << 20, &text, &err));
        return buffer_take(&text);
}

/* Trust and identity of one request out of memory: nothing that is configured for the host counts. */
static void test_request_tls(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = file_load("ca.pem"), *stranger = file_load("stranger.pem"), *certificate = file_load("client.pem"), *key = file_load("client.key");
        const struct { struct fake *server; struct fetch_tls tls; const char *piece; } own[] = {
                { &good,         { .ca = ca },                                                                 NULL },
                { &good,         { .ca = stranger },                                                           "in certificate-authority" },
                { &good,         { .ca = NULL },                                                               "in certificate-authority" },
                { &good,         { .skip_verify = true },                                                      NULL },
                { &other_name,   { .ca = ca },                                                                 "another host name" },
                { &other_name,   { .ca = ca, .server_name = "other.test" },                                    NULL },
                { &good,         { .ca = ca, .server_name = "other.test" },                                    "another host name" },
                { &good,         { .ca = ca, .server_name = "no host/name" },                                  "no host name" },
                { &wants_client, { .ca = ca },                                                                 "client certificate" },
                { &wants_client, { .ca = ca, .client_certificate = certificate, .client_key = key },           NULL },
                { &wants_client, { .ca = ca, .client_certificate = certificate, .client_key = "rubbish" },     "client-certificate and client-key" },
        };
        for (size_t i = 0; i < COUNT_OF(own); i++) {
                CLEANUP(cleanup_free) char *host = string_format("127.0.0.1:%u", own[i].server->tls), *url = string_format("https://%s/files/plugin.wasm", host);
                CLEANUP(cleanup_free) char *configured = file("ca.pem");
                struct fetch_host row = { .host = host, .ca = configured };
                struct fetch_options options = { .hosts = &row, .host_count = 1, .progress_timeout_ms = 5000 };
                CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
                struct error err = { 0 };
                unsigned status = 0;
                assert_true(fetch_client_new(&options, &client, &err));
                bool done = get_as(client, url, &own[i].tls, &status, &err);
                print_message("row %zu: %s\n", i, done ? "fetched" : err.text);
                assert_int_equal(done, own[i].piece == NULL);
                assert_null(strstr(err.text, "registries."));
                if (!done)
                        assert_non_null(strstr(err.text, own[i].piece));
        }
}

/* One client, one host: what one request may trust or show, the next does not get by way of a warm connection. */
static void test_request_tls_apart(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = file_load("ca.pem"), *stranger = file_load("stranger.pem"), *certificate = file_load("client.pem"), *key = file_load("client.key");
        CLEANUP(cleanup_free) char *url = string_format("https://127.0.0.1:%u/files/plugin.wasm", wants_client.tls);
        const struct fetch_tls with = { .ca = ca, .client_certificate = certificate, .client_key = key }, without = { .ca = ca };
        const struct fetch_tls strange = { .ca = stranger, .client_certificate = certificate, .client_key = key };
        struct fetch_options options = { .progress_timeout_ms = 5000 };
        CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
        struct error err = { 0 };
        unsigned status = 0;
        assert_true(fetch_client_new(&options, &client, &err));
        for (int i = 0; i < 2; i++) {
                assert_true(get_as(client, url, &with, &status, &err));
                assert_false(get_as(client, url, &without, &status, &err));
                assert_false(get_as(client, url, &strange, &status, &err));
        }
}

static void test_verification(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = file("ca.pem"), *stranger = file("stranger.pem"), *client_pem = file("client.pem");
        CLEANUP(cleanup_free) char *client_key = file("client.key"), *stranger_key = file("stranger.key");
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *host = string_format("127.0.0.1:%u", rows[i].server->tls), *url = string_format("https://%s/files/plugin.wasm", host);
                const char *const cas[] = { [CA_OURS] = ca, [CA_STRANGER] = stranger, [CA_NONE] = NULL };
                struct fetch_host row = { .host = host, .skip_verify = rows[i].skip_verify, .ca = cas[rows[i].ca] };
                if (rows[i].client)
                        row.client_certificate = client_pem, row.client_key = client_key;
                if (rows[i].stranger_client)
                        row.client_certificate = stranger, row.client_key = stranger_key;
                struct fetch_options options = { .hosts = &row, .host_count = 1, .progress_timeout_ms = 5000 };
                CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
                struct error err = { 0 };
                unsigned status = 0;
                assert_true(fetch_client_new(&options, &client, &err));
                bool done = get(client, url, &status, &err);
                print_message("row %zu: %s\n", i, done ? "fetched" : err.text);
                assert_int_equal(done, rows[i].piece == NULL);
                if (done) {
                        assert_int_equal(status, 200);
                        continue;
                }
                assert_int_equal(err.code, ERROR_UPSTREAM_UNREACHABLE);
                assert_non_null(strstr(err.text, rows[i].piece));
        }
}

/* The settings of one host are not those of another, and a redirect to plain HTTP is refused. */
static void test_boundaries(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = file("ca.pem"), *host = string_format("127.0.0.1:%u", good.tls);
        CLEANUP(cleanup_free) char *sibling = string_format("https://localhost:%u/files/plugin.wasm", good.tls);
        CLEANUP(cleanup_free) char *down = string_format("https://%s/v2/mode/redirect-to-http/blobs/layer", host);
        CLEANUP(cleanup_free) char *tls_to_plain = string_format("https://127.0.0.1:%u/files/plugin.wasm", good.port);
        CLEANUP(cleanup_free) char *plain_to_tls = string_format("http://%s/files/plugin.wasm", host);
        struct fetch_host row = { .host = host, .ca = ca };
        struct fetch_options options = { .hosts = &row, .host_count = 1, .progress_timeout_ms = 2000 };
        CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
        struct error err = { 0 };
        unsigned status = 0;
        assert_true(fetch_client_new(&options, &client, &err));
        assert_false(get(client, sibling, &status, &err));
        assert_non_null(strstr(err.text, "unknown CA"));
        assert_false(get(client, down, &status, &err));
        assert_int_equal(err.code, ERROR_DENIED);
        assert_non_null(strstr(err.text, "never from TLS to plain HTTP"));
        assert_null(strstr(err.text, "signature"));
        assert_false(get(client, tls_to_plain, &status, &err));
        print_message("%s\n", err.text);
        assert_non_null(strstr(err.text, "does not speak TLS on this port"));
        assert_false(get(client, plain_to_tls, &status, &err));
        print_message("%s\n", err.text);
        assert_true(err.code == ERROR_UPSTREAM_UNREACHABLE || err.code == ERROR_UPSTREAM_ERROR);
}

/* A CA file that is renewed is used without a new client; one connection serves many requests. */
static void test_renewal_and_reuse(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *own = file("own-ca.pem"), *host = string_format("127.0.0.1:%u", good.tls), *url = string_format("https://%s/files/plugin.wasm", host);
        shell("cp stranger.pem own-ca.pem");
        struct fetch_host row = { .host = host, .ca = own };
        struct fetch_options options = { .hosts = &row, .host_count = 1, .progress_timeout_ms = 2000 };
        CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
        struct error err = { 0 };
        unsigned status = 0;
        assert_true(fetch_client_new(&options, &client, &err));
        assert_false(get(client, url, &status, &err));
        shell("cp ca.pem own-ca.pem");
        if (!get(client, url, &status, &err))
                fail_msg("%s", err.text);

        struct fetch_stats before, after;
        fetch_get_stats(&before);
        for (int i = 0; i < 10; i++)
                assert_true(get(client, url, &status, &err));
        fetch_get_stats(&after);
        assert_int_equal(after.connections - before.connections, 0);
        assert_int_equal(after.requests - before.requests, 10);
        assert_true(after.bytes > before.bytes);
        shell("cp stranger.pem own-ca.pem");
        assert_false(get(client, url, &status, &err));          /* and one that is taken back is not trusted any longer, on a warm connection either */
}

/* What a request says of its endpoint: as the options of a host, which win; connections made under one are not used under another. */
static void test_endpoint(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = file("ca.pem"), *stranger = file("stranger.pem"), *client_pem = file("client.pem"), *client_key = file("client.key");
        CLEANUP(cleanup_free) char *url = string_format("https://127.0.0.1:%u/files/plugin.wasm", good.tls), *mutual = string_format("https://127.0.0.1:%u/files/plugin.wasm", wants_client.tls);
        CLEANUP(cleanup_free) char *host = string_format("127.0.0.1:%u", good.tls);
        const char *const both[] = { stranger, ca, NULL }, *const wrong[] = { stranger, NULL }, *const absent[] = { "/nonexistent.pem", NULL };
        struct { const char *url; struct fetch_endpoint endpoint; bool good; } cases[] = {
                { url, { .ca = both }, true }, { url, { 0 }, false }, { url, { .ca = wrong }, false }, { url, { .skip_verify = true }, true }, { url, { .ca = absent }, false },
                { mutual, { .ca = both }, false }, { mutual, { .ca = both, .client_certificate = client_pem, .client_key = client_key }, true }, { mutual, { .ca = both }, false },
        };
        struct fetch_options options = { .progress_timeout_ms = 5000 };
        CLEANUP(fetch_client_unref) struct fetch_client *client = NULL, *named = NULL;
        struct error err = { 0 };
        unsigned status = 0;
        assert_true(fetch_client_new(&options, &client, &err));
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
                endpoint = &cases[i].endpoint;
                if (get(client, cases[i].url, &status, &err) != cases[i].good)
                        fail_msg("case %zu: %s", i, cases[i].good ? err.text : "fetched");
                assert_true(cases[i].good || err.code == ERROR_UPSTREAM_UNREACHABLE);
        }
        struct fetch_host row = { .host = host, .ca = stranger };
        options.hosts = &row;
        options.host_count = 1;
        assert_true(fetch_client_new(&options, &named, &err));
        endpoint = &cases[0].endpoint;
        assert_false(get(named, url, &status, &err));
        endpoint = NULL;
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_verification), cmocka_unit_test(test_request_tls), cmocka_unit_test(test_request_tls_apart),
                                            cmocka_unit_test(test_boundaries), cmocka_unit_test(test_endpoint), cmocka_unit_test(test_renewal_and_reuse) };
        return cmocka_run_group_tests(tests, setup, teardown);
}
