/* containerd's certs.d: hosts.toml, Docker's certificate files, and which folder is whose. */
#include <fcntl.h>
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
#include <wasmcached/registry.h>

static char folder[] = "/tmp/hosts-XXXXXX";

static void put(const char *name, const char *text)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/%s", folder, name), *parent = string_copy_bytes(path, (size_t)(strrchr(path, '/') - path));
        struct error err = { 0 };
        if (!fs_make_folders(parent, 0755, &err) || !fs_save(AT_FDCWD, path, text, strlen(text), 0644, &err))
                fail_msg("%s", err.text);
}

static int setup(void **state)
{
        (void)state;
        assert_non_null(mkdtemp(folder));
        put("r.example/ca.pem", "-----BEGIN CERTIFICATE-----\n");
        put("r.example/key.pem", "-----BEGIN PRIVATE KEY-----\n");
        put("r.example/empty.pem", "no PEM\n");
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        struct error err = { 0 };
        return !fs_remove_tree(AT_FDCWD, folder, &err);
}

static struct registry_tree *load(void)
{
        struct registry_tree *tree = NULL;
        struct error err = { 0 };
        if (!registry_tree_load(folder, &tree, &err))
                fail_msg("%s", err.text);
        return tree;
}

/* "URL[!][ pull][ resolve][ tls]; …", '!' for the root of the API, "-" for the registry itself. */
static char *describe(const struct registry_endpoint *endpoints, size_t count)
{
        struct buffer text = { 0 };
        for (size_t i = 0; i < count; i++)
                buffer_printf(&text, "%s%s%s%s%s%s", i ? "; " : "", endpoints[i].url ? endpoints[i].url : "-", endpoints[i].is_root ? "!" : "", endpoints[i].can & REGISTRY_CAN_PULL ? " pull" : "",
                        endpoints[i].can & REGISTRY_CAN_RESOLVE ? " resolve" : "", endpoints[i].is_tls_told ? " tls" : "");
        return buffer_take(&text);
}

static const struct { const char *toml, *endpoints; } files[] = {
        { "# nothing\n", "- pull resolve" }, { "server = \"https://o.example\"", "https://o.example pull resolve" }, { "server = \"o.example:5000\"", "https://o.example:5000 pull resolve" },
        { "server = \"http://o.example/\"", "http://o.example pull resolve" }, { "server = \"https://o.example/v2/\"", "https://o.example pull resolve" }, { "server = \"\"", "- pull resolve" },
        { "server = \"https://o.example/a/v2\"\noverride_path = true", "https://o.example/a pull resolve" }, { "server = \"https://o.example/a\"\noverride_path = true", "https://o.example/a! pull resolve" },
        { "[host.\"https://m.example\"]\n[host.\"https://a.example\"]\n[host.\"http://l.example:80\"]", "https://m.example pull resolve; https://a.example pull resolve; http://l.example:80 pull resolve; - pull resolve" },
        { "server = \"https://o.example\"\n[host.\"https://m.example/p/\"]\ncapabilities = [\"pull\"]\nskip_verify = true", "https://m.example/p pull tls; https://o.example pull resolve" },
        { "[host.\"https://m.example\"]\ncapabilities = [\"Resolve\", \"push\", \"referrers\"]", "https://m.example resolve; - pull resolve" },
        { "[host.\"https://m.example\"]\ncapabilities = []", "https://m.example pull resolve; - pull resolve" }, { "capabilities = [\"push\"]", "- pull resolve" },
        { "server = \"https://o.example\"\ncapabilities = [\"push\"]", "https://o.example" }, { "[host.\"m.example:1\"]\noverride_path = true", "https://m.example:1! pull resolve; - pull resolve" },
        { "[host.\"https://z.example\".header]\nx = \"1\"\n[host.\"https://b.example\"]\n[host.\"https://z.example\"]\nca = \"ca.pem\"", "https://z.example pull resolve tls; https://b.example pull resolve; - pull resolve" },
        { "some_newer_key = true\n[plugins.x]\ny = 1", "- pull resolve" }, { "host.\"https://m.example\".skip_verify = false", "https://m.example pull resolve tls; - pull resolve" },
};

static void test_files(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(files); i++) {
                put("r.example/hosts.toml", files[i].toml);
                CLEANUP(registry_tree_unref) struct registry_tree *tree = load();
                const struct registry_endpoint *endpoints = NULL;
                size_t count = 0;
                struct error err = { 0 };
                if (!registry_tree_find(tree, "r.example", &endpoints, &count, &err))
                        fail_msg("%s\n%s", files[i].toml, err.text);
                CLEANUP(cleanup_free) char *text = describe(endpoints, count);
                assert_string_equal(text, files[i].endpoints);
        }
}

static void test_every_key(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *ca = string_format("%s/r.example/ca.pem", folder), *key = string_format("%s/r.example/key.pem", folder);
        CLEANUP(cleanup_free) char *toml = string_format("[host.\"https://m.example\"]\nca = [\"ca.pem\", \"%s\"]\nclient = [[\"ca.pem\", \"key.pem\"], [\"ca.pem\", \"key.pem\"]]\nskip_verify = true\n"
                "dial_timeout = \"1m30s\"\n[host.\"https://m.example\".header]\nx-a = [\"1\", \"2\"]\nAuthorization = \"Basic aHVudGVyMg==\"\n[host.\"https://n.example\"]\nca = \"ca.pem\"\nclient = \"key.pem\"\n", ca);
        put("r.example/hosts.toml", toml);
        CLEANUP(registry_tree_unref) struct registry_tree *tree = load();
        const struct registry_endpoint *endpoints = NULL;
        size_t count = 0;
        struct error err = { 0 };
        assert_true(registry_tree_find(tree, "r.example", &endpoints, &count, &err));
        assert_int_equal(count, 3);
        const struct fetch_endpoint *reach = &endpoints[0].reach;
        assert_string_equal(reach->ca[0], ca);
        assert_string_equal(reach->ca[1], ca);
        assert_null(reach->ca[2]);
        assert_string_equal(reach->client_certificate, ca);
        assert_string_equal(reach->client_key, key);
        assert_true(reach->skip_verify && reach->connect_timeout_ms == 90000 && reach->header_count == 3);
        assert_string_equal(reach->headers[1].value, "2");
        assert_string_equal(reach->headers[2].name, "Authorization");
        assert_string_equal(endpoints[1].reach.client_certificate, key);
        assert_null(endpoints[1].reach.client_key);
        assert_null(endpoints[2].reach.ca);
}

static const struct { const char *toml, *says; } mistakes[] = {
        { "server = \"x", "hosts.toml:1: a string has no end" }, { "\n\n[host", "hosts.toml:3: " }, { "server = 1", "hosts.toml:1: server: must be a URL" }, { "server = \"ftp://o\"", "no http:// or https:// URL" },
        { "server = \"https://u:hunter2@o.example\"", "no http:// or https:// URL" }, { "server = \"https://o.example/a?b\"", "no http://" }, { "server = \"https://o.example/a/../b\"", "no http://" },
        { "server = \"https://o.example:x\"", "no http://" }, { "host = 1", "hosts.toml:1: host: must be tables" }, { "host.\"https://m\" = 1", "host.\"https://m\".: must be a table" },
        { "[host.\"\"]\n[host.\"https://m/#x\"]", "hosts.toml:2: host.\"https://m/#x\".: " }, { "\n[host.\"https://m\"]\ncapabilities = [\"pull\", \"fly\"]", "hosts.toml:3: host.\"https://m\".capabilities: \"fly\" is none; allowed: pull" },
        { "capabilities = \"pull\"", "hosts.toml:1: capabilities: must be an array" }, { "ca = \"absent.pem\"", "hosts.toml:1: ca: " }, { "ca = [\"ca.pem\", \"empty.pem\"]", "holds no PEM" }, { "ca = true", "ca: must be the path" },
        { "client = [[\"ca.pem\"]]", "a pair is" }, { "client = [[\"ca.pem\", \"key.pem\", \"x\"]]", "a pair is" }, { "client = [[\"ca.pem\", \"absent\"]]", "client: " }, { "skip_verify = \"true\"", "skip_verify: must be true or false" },
        { "override_path = 1", "override_path: must be" }, { "dial_timeout = 5", "dial_timeout: must be a duration" }, { "dial_timeout = \"5\"", "dial_timeout: must be" }, { "header = 1", "header: must be a table" },
        { "[header]\nx = 1", "hosts.toml:2: header: a name and a text" }, { "[header]\n\"x y\" = \"hunter2\"", "header: a name" }, { "[header]\nx = \"hunter2\\r\\ny: z\"", "header: a name" }, { "[header]\nx = [\"hunter2\", 1]", "header: a name" },
};

/* A folder with a mistake is closed for its own host, and for no other; containerd would ask the registry as if there were no file. */
static void test_mistakes(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
                put("r.example/hosts.toml", mistakes[i].toml);
                CLEANUP(registry_tree_unref) struct registry_tree *tree = load();
                const struct registry_endpoint *endpoints = NULL;
                size_t count = 0;
                struct error err = { 0 };
                if (registry_tree_find(tree, "r.example", &endpoints, &count, &err))
                        fail_msg("taken: %s", mistakes[i].toml);
                assert_int_equal(err.code, ERROR_UPSTREAM_UNREACHABLE);
                if (!string_starts_with(err.text, "registries_dir: /tmp/hosts-") || !strstr(err.text, mistakes[i].says) || strstr(err.text, "hunter2"))
                        fail_msg("%s → %s", mistakes[i].toml, err.text);
                assert_true(registry_tree_find(tree, "other.example", &endpoints, &count, &err));
                assert_int_equal(count, 0);
        }
        put("r.example/hosts.toml", "");
}

/* host → the folder that is its own, told by its server */
static void test_folders(void **state)
{
        (void)state;
        static const char *const names[] = { "a.example", "a.example_5000_", "a.example:5000", "b.example:5000", "[::1]_5000_", "docker.io", "_default" };
        static const struct { const char *host, *folder; } rows[] = {
                { "a.example", "a.example" }, { "a.example:5000", "a.example_5000_" }, { "b.example:5000", "b.example:5000" }, { "b.example", "_default" }, { "[::1]:5000", "[::1]_5000_" }, { "[::1]", "_default" },
                { "docker.io", "docker.io" }, { "a.example:5001", "_default" },
        };
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                CLEANUP(cleanup_free) char *name = string_format("%s/hosts.toml", names[i]), *toml = string_format("server = \"https://n%zu.example\"\n", i);
                put(name, toml);
        }
        put(".hidden/hosts.toml", "not TOML");
        put("README", "not a folder");
        CLEANUP(registry_tree_unref) struct registry_tree *tree = load();
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                const struct registry_endpoint *endpoints = NULL;
                size_t count = 0, name = 0;
                struct error err = { 0 };
                assert_true(registry_tree_find(tree, rows[i].host, &endpoints, &count, &err));
                while (strcmp(names[name], rows[i].folder) != 0)
                        name++;
                CLEANUP(cleanup_free) char *url = string_format("https://n%zu.example", name);
                assert_int_equal(count, 1);
                assert_string_equal(endpoints[0].url, url);
        }
        CLEANUP(cleanup_free) char *gone = string_format("%s/_default", folder);
        struct error err = { 0 };
        assert_true(fs_remove_tree(AT_FDCWD, gone, &err));
}

static void test_certificates(void **state)
{
        (void)state;
        const struct registry_endpoint *endpoints = NULL;
        size_t count = 0;
        struct error err = { 0 };
        put("c.example/b.crt", "-----BEGIN CERTIFICATE-----\n");
        put("c.example/a.crt", "-----BEGIN CERTIFICATE-----\n");
        put("c.example/client.cert", "-----BEGIN CERTIFICATE-----\n");
        put("c.example/client.key", "-----BEGIN PRIVATE KEY-----\n");
        put("c.example/notes.txt", "");
        put("d.example/both.cert", "-----BEGIN CERTIFICATE-----\n");
        put("e.example/bad.crt", "DER perhaps");
        put("f.example/hosts.toml", "");
        CLEANUP(registry_tree_unref) struct registry_tree *tree = load();
        assert_true(registry_tree_find(tree, "c.example", &endpoints, &count, &err));
        assert_true(count == 1 && !endpoints[0].url && endpoints[0].is_tls_told);
        assert_true(string_ends_with(endpoints[0].reach.ca[0], "/c.example/a.crt") && string_ends_with(endpoints[0].reach.ca[1], "/c.example/b.crt"));
        assert_true(string_ends_with(endpoints[0].reach.client_certificate, "/client.cert") && string_ends_with(endpoints[0].reach.client_key, "/client.key"));
        assert_true(registry_tree_find(tree, "d.example", &endpoints, &count, &err));
        assert_null(endpoints[0].reach.client_key);
        assert_false(registry_tree_find(tree, "e.example", &endpoints, &count, &err));
        assert_non_null(strstr(err.text, "e.example/bad.crt holds no PEM"));
        assert_true(registry_tree_find(tree, "f.example", &endpoints, &count, &err));
        assert_true(count == 1 && !endpoints[0].is_tls_told);
}

static void test_no_tree(void **state)
{
        (void)state;
        CLEANUP(registry_tree_unref) struct registry_tree *tree = NULL;
        struct error err = { 0 };
        const struct registry_endpoint *endpoints = NULL;
        size_t count = 7;
        assert_true(registry_tree_load("/nonexistent/certs.d", &tree, &err));
        assert_true(registry_tree_find(tree, "r.example", &endpoints, &count, &err));
        assert_int_equal(count, 0);
        struct registry_tree *none = NULL;
        assert_false(registry_tree_load("/etc/hostname", &none, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_files), cmocka_unit_test(test_every_key), cmocka_unit_test(test_mistakes), cmocka_unit_test(test_folders), cmocka_unit_test(test_certificates), cmocka_unit_test(test_no_tree),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
