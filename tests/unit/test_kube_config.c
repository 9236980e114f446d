/* Where the API server is and as whom it is asked: kubeconfigs good and bad, the service account, tokens that rotate, client certificates, exec plugins. */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include "kube_rig.h"

#define HEAD "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: other\n  context: {cluster: x}\n- name: c\n  context: {cluster: k, user: u}\n"
#define CLUSTER "clusters:\n- name: k\n  cluster: {server: \"https://127.0.0.1:6443\"}\n"
#define USER "users:\n- name: u\n  user: {token: hidden}\n"

static bool config_new(const char *text, struct kube **ret_kube, struct error *err)
{
        CLEANUP(cleanup_free) char *path = rig_path("config");
        struct kube_options options = { .mode = KUBE_KUBECONFIG, .kubeconfig = path, .backoff_first_ms = 20 };
        if (text)
                rig_write("config", text);
        *err = (struct error){ 0 };
        return kube_new(&options, ret_kube, err);
}

static void test_bad_kubeconfigs(void **state)
{
        (void)state;
        static const struct { const char *text, *piece; } rows[] = {
                { "", "current-context is missing" },
                { "x: [", "line" },
                { "current-context: {}", "\"current-context\" must be of type string" },
                { "current-context: c\n", "contexts has no entry with the name \"c\"" },
                { "current-context: c\ncontexts: 7\n", "\"contexts\" must be of type array" },
                { "current-context: c\ncontexts:\n- name: c\n", "contexts[0].context" },
                { "current-context: c\ncontexts:\n- name: c\n  context: {user: u}\n", "cluster is missing" },
                { HEAD USER, "clusters has no entry" },
                { HEAD "clusters:\n- name: k\n  cluster: {}\n" USER, "server is missing" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: 7}\n" USER, "\"server\" must be of type string" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"ftp://x\"}\n" USER, "server must be https://" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://u:p@x\"}\n" USER, "server must be https://" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x/?a=b\"}\n" USER, "server must be https://" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"http://10.0.0.1:8080\"}\n" USER, "plain http://" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"http://127.0.0.1.evil.test:8080\"}\n" USER, "plain http://" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x\", certificate-authority-data: \"!\"}\n" USER, "certificate-authority-data is no base64" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x\", certificate-authority-data: \"aGlkZGVu\"}\n" USER, "certificate-authority-data holds no PEM" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x\", insecure-skip-tls-verify: true, certificate-authority: ca.crt}\n" USER, "contradict" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x\", insecure-skip-tls-verify: \"true\"}\n" USER, "\"insecure-skip-tls-verify\" must be of type boolean" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://x\", proxy-url: \"ftp://p\"}\n" USER, "not a proxy URL" },
                { HEAD CLUSTER, "users has no entry with the name \"u\"" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {username: a, password: hidden}\n", "username is not supported" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {token: hidden, as: admin}\n", "as is not supported" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {auth-provider: {name: gcp}}\n", "auth-provider is not supported" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {client-key: k.pem}\n", "client-key is there without client-certificate" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {client-certificate: c.pem}\n", "client-certificate is there without client-key" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {exec: {apiVersion: client.authentication.k8s.io/v1}}\n", "exec.command is missing" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1alpha1}}\n", "exec.apiVersion" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1, interactiveMode: Always}}\n", "interactiveMode" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1, args: [1]}}\n", "exec.args[0]" },
                { HEAD CLUSTER "users:\n- name: u\n  user: {exec: {command: x, apiVersion: client.authentication.k8s.io/v1, env: [{name: A}]}}\n", "exec.env[0]" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct kube *kube = NULL;
                struct error err;
                if (config_new(rows[i].text, &kube, &err))
                        fail_msg("row %zu is good", i);
                assert_int_equal(err.code, ERROR_BAD_REQUEST);
                assert_null(kube);
                assert_null(strstr(err.text, "hidden"));
                if (!strstr(err.text, rows[i].piece) || !strstr(err.text, "/config"))
                        fail_msg("row %zu: %s", i, err.text);
        }
        struct kube *kube = NULL;
        struct error err = { 0 };
        assert_false(kube_new(&(struct kube_options){ .mode = KUBE_KUBECONFIG, .kubeconfig = "/nonexistent/kubeconfig" }, &kube, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
        assert_non_null(strstr(err.text, "/nonexistent/kubeconfig"));
        assert_false(kube_new(&(struct kube_options){ .mode = KUBE_KUBECONFIG, .kubeconfig = "" }, &kube, &err));
        assert_non_null(strstr(err.text, "kubernetes.kubeconfig"));
}

static void test_good_kubeconfigs(void **state)
{
        (void)state;
        static const struct { const char *text, *server; } rows[] = {
                { HEAD CLUSTER USER, "https://127.0.0.1:6443" },
                { HEAD "clusters:\n- name: k\n  cluster: {server: \"https://h.test/k8s/clusters/c-1///\", proxy-url: \"socks5://127.0.0.1:1\", tls-server-name: a.test, extensions: []}\n" USER,
                  "https://h.test/k8s/clusters/c-1" },
                { "current-context: c\ncontexts:\n- name: c\n  context: {cluster: k}\n" CLUSTER, "https://127.0.0.1:6443" },
                { "{\"current-context\": \"c\", \"contexts\": [{\"name\": \"c\", \"context\": {\"cluster\": \"k\"}}], \"clusters\": [{\"name\": \"k\", \"cluster\": {\"server\": \"https://[::1]:1\"}}]}",
                  "https://[::1]:1" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct kube *kube = NULL;
                struct error err;
                if (!config_new(rows[i].text, &kube, &err))
                        fail_msg("row %zu: %s", i, err.text);
                assert_string_equal(kube_get_server(kube), rows[i].server);
                kube_free(&kube);
        }
}

static void test_in_cluster(void **state)
{
        (void)state;
        static const struct { const char *host, *port, *server, *piece; } rows[] = {
                { "10.0.0.1", "443", "https://10.0.0.1:443", NULL },   { "fd00::1", "6443", "https://[fd00::1]:6443", NULL }, { "", "443", NULL, "this is no pod" },
                { NULL, NULL, NULL, "this is no pod" },                { "10.0.0.1", "x", NULL, "no port" },                  { "10.0.0.1", "70000", NULL, "no port" },
                { "10.0.0.1/x", "443", NULL, "no host" },              { "u@h", "443", NULL, "no host" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct kube *kube = NULL;
                struct error err = { 0 };
                unsetenv("KUBERNETES_SERVICE_HOST");
                unsetenv("KUBERNETES_SERVICE_PORT");
                if (rows[i].host)
                        setenv("KUBERNETES_SERVICE_HOST", rows[i].host, 1);
                if (rows[i].port)
                        setenv("KUBERNETES_SERVICE_PORT", rows[i].port, 1);
                bool good = kube_new(&(struct kube_options){ .mode = KUBE_IN_CLUSTER }, &kube, &err);
                assert_int_equal(good, rows[i].server != NULL);
                if (good)
                        assert_string_equal(kube_get_server(kube), rows[i].server);
                else if (!strstr(err.text, rows[i].piece))
                        fail_msg("%s", err.text);
                kube_free(&kube);
        }
        unsetenv("KUBERNETES_SERVICE_HOST");
        unsetenv("KUBERNETES_SERVICE_PORT");
}

/* ---- as whom */
static bool ask(struct kube *kube, struct error *err)
{
        CLEANUP(value_free) struct value *object = NULL;
        struct kube_call call = { .kube = kube, .deadline_ms = clock_get_ms() + 20000 };
        *err = (struct error){ 0 };
        return kube_request(&call, &(struct kube_ask){ "GET", "/api/v1/secrets?limit=1", NULL }, &object, NULL, err);
}

static void must_ask(struct kube *kube)
{
        struct error err;
        if (!ask(kube, &err))
                fail_msg("%s", err.text);
}

static void test_token_file(void **state)
{
        (void)state;
        struct error err;
        STEER("/_reset");
        rig_write("token", " one \n");
        struct kube *kube = rig_kube("{tokenFile: token}", 0);             /* relative to the kubeconfig */
        STEER("/_set", "accept", "one");
        must_ask(kube);
        assert_int_equal(rig_count("\"Bearer one\""), 1);
        rig_write("token", "two");
        STEER("/_set", "accept", "two");
        must_ask(kube);
        assert_int_equal(rig_count("\"Bearer two\""), 1);
        /* a token that is gone, empty or no token for a moment: the last one counts on */
        rig_write("token", "");
        must_ask(kube);
        rig_write("token", "three\nX-Evil: 1");
        must_ask(kube);
        assert_int_equal(rig_count("\"Bearer two\""), 3);
        STEER("/_set", "accept", "four");
        assert_false(ask(kube, &err));
        assert_int_equal(err.code, ERROR_UNAUTHORIZED);
        assert_int_equal(rig_count("\"Bearer two\""), 4);          /* not twice with the same */
        assert_null(strstr(err.text, "two"));
        kube_free(&kube);

        rig_write("token", "");
        kube = rig_kube("{tokenFile: token}", 0);
        assert_false(ask(kube, &err));
        assert_int_equal(err.code, ERROR_UNAUTHORIZED);
        assert_non_null(strstr(err.text, "/token is empty"));
        kube_free(&kube);
        kube = rig_kube("{tokenFile: nowhere, token: four}", 0);   /* client-go: the file first, then the text */
        must_ask(kube);
        kube_free(&kube);
}

/* What is no answer of ours is not followed, and no token goes along. */
static void test_statuses(void **state)
{
        (void)state;
        static const struct { const char *mode, *arg; enum error_code code; } rows[] = {
                { "forbidden", "", ERROR_DENIED },           { "absent", "", ERROR_NOT_FOUND },          { "gone", "", ERROR_UPSTREAM_ERROR },
                { "status", "409", ERROR_UPSTREAM_ERROR },   { "status", "422", ERROR_UPSTREAM_ERROR },  { "status", "302", ERROR_UPSTREAM_ERROR },
                { "garbage", "", ERROR_UPSTREAM_ERROR },     { "json-as-text", "", ERROR_UPSTREAM_ERROR }, { "toomany", "3600", ERROR_RATE_LIMITED },
        };
        struct kube *kube = rig_kube("{token: hidden}", 0);
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err;
                STEER("/_reset");
                STEER("/_fault", "match", "limit=1", "do", rows[i].mode, "arg", rows[i].arg, "count", "5");
                assert_false(ask(kube, &err));
                if (err.code != rows[i].code)
                        fail_msg("%s %s: %s", rows[i].mode, rows[i].arg, err.text);
                assert_null(strstr(err.text, "hidden"));
                assert_null(strstr(err.text, "limit=1"));
                assert_int_equal(rig_count("\"method\""), 1);
        }
        kube_free(&kube);
}

/* ---- TLS: the CA and certificate of the kubeconfig, inline and in files */
static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *format, ...)
{
        char command[2048] = "";
        va_list list;
        va_start(list, format);
        vsnprintf(command, sizeof command, format, list);
        va_end(list);
        CLEANUP(cleanup_free) char *whole = string_format("cd %s && { %s; } >>log 2>&1", rig_folder, command);
        if (system(whole) != 0)
                fail_msg("failed, see %s/log: %s", rig_folder, command);
}

static char *load64(const char *name)
{
        CLEANUP(cleanup_free) char *path = rig_path(name);
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct error err = { 0 };
        assert_true(fs_load(AT_FDCWD, path, 1 << 20, &text, &err));
        return base64_encode(text.data, text.used);
}

static void plugin_write(const char *body);
static char *file_text(const char *name);

static void test_tls(void **state)
{
        (void)state;
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca");
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout stranger.key -out stranger.crt -days 2 -subj /CN=stranger");
        shell("for n in server client; do openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $n.key -out $n.csr -subj /CN=$n && "
              "printf 'subjectAltName=DNS:kubernetes.test\\n' > ext && openssl x509 -req -in $n.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $n.crt -days 2 -extfile ext; done");
        CLEANUP(cleanup_free) char *certificate = rig_path("server.crt"), *key = rig_path("server.key"), *ca = rig_path("ca.crt");
        const char *arguments[6] = { "--tls", certificate, key, "--client-ca", ca, NULL };
        struct fake tls = fake_start_script("kubeapi.py", arguments);
        CLEANUP(cleanup_free) char *ca64 = load64("ca.crt"), *stranger64 = load64("stranger.crt"), *client64 = load64("client.crt"), *key64 = load64("client.key");
        CLEANUP(cleanup_free) char *inline_ca = string_format("certificate-authority-data: \"%s\", tls-server-name: kubernetes.test", ca64);
        CLEANUP(cleanup_free) char *wrong_ca = string_format("certificate-authority-data: \"%s\", certificate-authority: ca.crt, tls-server-name: kubernetes.test", stranger64);
        CLEANUP(cleanup_free) char *inline_client = string_format("client-certificate-data: \"%s\", client-key-data: \"%s\"", client64, key64);
        const struct { const char *cluster, *user, *piece; } rows[] = {
                { inline_ca, inline_client, NULL },
                { inline_ca, "exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, provideClusterInfo: true}", NULL },
                { "certificate-authority: ca.crt, tls-server-name: kubernetes.test", "client-certificate: client.crt, client-key: client.key", NULL },
                { "insecure-skip-tls-verify: true", inline_client, NULL },
                { "certificate-authority: ca.crt", inline_client, "another host name" },
                { wrong_ca, inline_client, "certificate-authority" },
                { "tls-server-name: kubernetes.test", inline_client, "certificate-authority" },
                { inline_ca, "token: x", "client certificate" },
                { "certificate-authority: nowhere.crt", inline_client, "nowhere.crt" },
                { "certificate-authority: client.key, tls-server-name: kubernetes.test", inline_client, "" },
                { "certificate-authority: ext", inline_client, "ext holds no PEM" },
                { inline_ca, "client-certificate: client.crt, client-key: nowhere.key", "nowhere.key" },
        };
        plugin_write("printf %s \"$KUBERNETES_EXEC_INFO\" > info\nexec python3 -c 'import json; print(json.dumps({\"apiVersion\": \"client.authentication.k8s.io/v1\", \"kind\": \"ExecCredential\", "
                     "\"status\": {\"clientCertificateData\": open(\"client.crt\").read(), \"clientKeyData\": open(\"client.key\").read()}}))'");
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *text = string_format(HEAD "clusters:\n- name: k\n  cluster: {server: \"https://127.0.0.1:%u\", %s}\nusers:\n- name: u\n  user: {%s}\n",
                                                                 tls.tls, rows[i].cluster, rows[i].user);
                struct kube *kube = NULL;
                struct error err;
                if (!config_new(text, &kube, &err))
                        fail_msg("row %zu: %s", i, err.text);
                bool good = ask(kube, &err);
                print_message("row %zu: %s\n", i, good ? "good" : err.text);
                assert_int_equal(good, rows[i].piece == NULL);
                if (!good)
                        assert_non_null(strstr(err.text, rows[i].piece));
                kube_free(&kube);
        }

        CLEANUP(cleanup_free) char *info = file_text("info");
        assert_non_null(strstr(info, ca64));
        assert_non_null(strstr(info, "\"tls-server-name\":\"kubernetes.test\""));

        /* in a pod: the same CA and a token, both from the service account's folder */
        CLEANUP(cleanup_free) char *port = string_format("%u", tls.tls);
        struct kube *kube = NULL;
        struct error err;
        setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1", 1);
        setenv("KUBERNETES_SERVICE_PORT", port, 1);
        rig_write("token", "pod");
        assert_true(kube_new(&(struct kube_options){ .mode = KUBE_IN_CLUSTER, .account_dir = rig_folder }, &kube, &err));
        assert_false(ask(kube, &err));
        assert_non_null(strstr(err.text, "another host name"));
        kube_free(&kube);
        unsetenv("KUBERNETES_SERVICE_HOST");
        unsetenv("KUBERNETES_SERVICE_PORT");
        fake_stop(&tls);
}

/* A kubeconfig's proxy-url counts whatever the environment says; in a pod the environment's proxy does not count. */
static void test_proxies(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *proxy = string_format("http://127.0.0.1:%u", api.port);
        CLEANUP(cleanup_free) char *text = string_format(HEAD "clusters:\n- name: k\n  cluster: {server: \"https://api.invalid:6443\", proxy-url: \"%s\"}\n" USER, proxy);
        struct kube *kube = NULL;
        struct error err;
        STEER("/_reset");
        setenv("NO_PROXY", "api.invalid", 1);
        assert_true(config_new(text, &kube, &err));
        assert_false(ask(kube, &err));
        assert_true(rig_count("\"CONNECT\", \"target\": \"api.invalid:6443\"") > 0);
        assert_int_equal(rig_count("Bearer"), 0);          /* not to the proxy */
        kube_free(&kube);

        STEER("/_reset");
        unsetenv("NO_PROXY");
        setenv("HTTPS_PROXY", proxy, 1);
        setenv("KUBERNETES_SERVICE_HOST", "api.invalid", 1);
        setenv("KUBERNETES_SERVICE_PORT", "443", 1);
        rig_write("token", "pod");
        shell("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca");
        assert_true(kube_new(&(struct kube_options){ .mode = KUBE_IN_CLUSTER, .account_dir = rig_folder, .backoff_first_ms = 10 }, &kube, &err));
        assert_false(ask(kube, &err));
        assert_int_equal(rig_count("CONNECT"), 0);
        kube_free(&kube);
        unsetenv("HTTPS_PROXY");
        unsetenv("KUBERNETES_SERVICE_HOST");
        unsetenv("KUBERNETES_SERVICE_PORT");
}

/* ---- exec plugins */
#define EXEC "{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, args: [\"--a b\", \"$HOME\"], env: [{name: GIVEN, value: \"v w\"}], provideClusterInfo: true, " \
             "installHint: install it}}"
#define CREDENTIAL(status) "{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":" status "}"

static void plugin_write(const char *body)
{
        CLEANUP(cleanup_free) char *text = string_format("#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 9\necho run >> runs\n%s\n", body), *path = rig_path("plugin");
        rig_write("plugin", text);
        assert_int_equal(chmod(path, 0700), 0);
}

static unsigned plugin_runs(void)
{
        CLEANUP(cleanup_free) char *path = rig_path("runs");
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct error err = { 0 };
        return fs_load(AT_FDCWD, path, 1 << 20, &text, &err) ? (unsigned)(text.used / 4) : 0;
}

static char *file_text(const char *name)
{
        CLEANUP(cleanup_free) char *path = rig_path(name);
        struct buffer text = { 0 };
        struct error err = { 0 };
        if (!fs_load(AT_FDCWD, path, 1 << 20, &text, &err))
                fail_msg("%s", err.text);
        return buffer_take(&text);
}

static int exec_reset(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *path = rig_path("runs");
        unlink(path);
        STEER("/_reset");
        return 0;
}

static void test_exec(void **state)
{
        (void)state;
        plugin_write("printf '%s|' \"$@\" > arguments; printf %s \"$GIVEN\" > given; printf %s \"$KUBERNETES_EXEC_INFO\" > info; ls -l /proc/self/fd | grep -c socket: > sockets\n"
                     "echo '" CREDENTIAL("{\"token\":\"one\"}") "'");
        STEER("/_set", "accept", "one");
        struct kube *kube = rig_kube(EXEC, 0);
        must_ask(kube);
        must_ask(kube);
        assert_int_equal(plugin_runs(), 1);        /* no expirationTimestamp: good until a 401 */
        CLEANUP(cleanup_free) char *arguments = file_text("arguments"), *given = file_text("given"), *info = file_text("info"), *sockets = file_text("sockets");
        assert_string_equal(arguments, "--a b|$HOME|");            /* no shell */
        assert_string_equal(given, "v w");
        assert_string_equal(sockets, "0\n");       /* no descriptor of ours */
        assert_non_null(strstr(info, "\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"spec\":{\"cluster\":{\"server\":\"http://127.0.0.1:"));
        assert_non_null(strstr(info, "\"interactive\":false"));
        plugin_write("echo '" CREDENTIAL("{\"token\":\"two\"}") "'");
        STEER("/_set", "accept", "two");
        must_ask(kube);                            /* 401, then the new one */
        assert_int_equal(plugin_runs(), 2);
        kube_free(&kube);
}

static void test_exec_expires(void **state)
{
        (void)state;
        plugin_write("n=$(wc -l < runs)\necho '" CREDENTIAL("{\"token\":\"t'$n'\",\"expirationTimestamp\":\"2001-01-01T00:00:00Z\"}") "'");
        struct kube *kube = rig_kube(EXEC, 0);
        must_ask(kube);
        must_ask(kube);
        assert_int_equal(plugin_runs(), 2);
        assert_int_equal(rig_count("\"Bearer t2\""), 1);
        plugin_write("echo '" CREDENTIAL("{\"token\":\"later\",\"expirationTimestamp\":\"2999-01-01T00:00:00Z\"}") "'");
        must_ask(kube);
        must_ask(kube);
        assert_int_equal(plugin_runs(), 3);
        kube_free(&kube);
}

static void test_exec_fails(void **state)
{
        (void)state;
        static const struct { const char *body, *piece; } rows[] = {
                { "echo 'go and log in' >&2; echo hidden; exit 3", "ended with status 3: go and log in" },
                { "kill -9 $$", "signal 9" },
                { "echo hidden", "JSON" },
                { ":", "JSON" },
                { "echo '{\"apiVersion\":\"client.authentication.k8s.io/v1beta1\",\"kind\":\"ExecCredential\",\"status\":{\"token\":\"hidden\"}}'", "no ExecCredential" },
                { "echo '" CREDENTIAL("{}") "'", "neither token" },
                { "echo '" CREDENTIAL("{\"clientCertificateData\":\"hidden\"}") "'", "neither token" },
                { "echo '" CREDENTIAL("{\"token\":7}") "'", "\"token\"" },
                { "echo '" CREDENTIAL("{\"token\":\"hidden\",\"expirationTimestamp\":\"soon\"}") "'", "expirationTimestamp" },
                { "echo '" CREDENTIAL("{\"token\":\"hidden\\\\nX: y\"}") "'", "characters that no token has" },
                { "head -c 3000000 /dev/zero", "more than" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                struct error err;
                plugin_write(rows[i].body);
                struct kube *kube = rig_kube(EXEC, 0);
                assert_false(ask(kube, &err));
                assert_int_equal(err.code, ERROR_UNAUTHORIZED);
                if (!strstr(err.text, rows[i].piece) || !strstr(err.text, "/plugin"))
                        fail_msg("row %zu: %s", i, err.text);
                assert_null(strstr(err.text, "hidden"));
                kube_free(&kube);
        }
        struct error err;
        CLEANUP(cleanup_free) char *path = rig_path("plugin");
        unlink(path);
        struct kube *kube = rig_kube(EXEC, 0);
        assert_false(ask(kube, &err));
        assert_non_null(strstr(err.text, "cannot be started: No such file or directory; install it"));
        kube_free(&kube);
        assert_int_equal(rig_count("\"method\""), 0);              /* nobody was asked without a credential */
}

static void *cancel_soon(void *arg)
{
        while (plugin_runs() == 0)
                usleep(10000);
        cancel_trigger(arg);
        return NULL;
}

/* A plugin that hangs, with children, ends with the cancel, all of it. */
static void test_exec_cancelled(void **state)
{
        (void)state;
        CLEANUP(value_free) struct value *object = NULL;
        struct error err = { 0 };
        plugin_write("sleep 300 & echo $! > child; wait");
        struct kube *kube = rig_kube(EXEC, 0);
        struct kube_call call = { .kube = kube, .cancel = cancel_new() };
        pthread_t thread;
        pthread_create(&thread, NULL, cancel_soon, call.cancel);
        assert_false(kube_request(&call, &(struct kube_ask){ "GET", "/api/v1/secrets", NULL }, &object, NULL, &err));
        assert_int_equal(err.code, ERROR_BUSY);
        pthread_join(thread, NULL);
        cancel_free(&call.cancel);
        kube_free(&kube);
}

int main(int argc, char **argv)
{
        cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
        static const char *const names[] = { "HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy" };
        for (size_t i = 0; i < COUNT_OF(names); i++)
                unsetenv(names[i]);
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bad_kubeconfigs), cmocka_unit_test(test_good_kubeconfigs), cmocka_unit_test(test_in_cluster), cmocka_unit_test(test_token_file),
                cmocka_unit_test(test_statuses), cmocka_unit_test(test_tls), cmocka_unit_test(test_proxies),
                cmocka_unit_test_setup(test_exec, exec_reset), cmocka_unit_test_setup(test_exec_expires, exec_reset),
                cmocka_unit_test_setup(test_exec_fails, exec_reset), cmocka_unit_test_setup(test_exec_cancelled, exec_reset),
        };
        return cmocka_run_group_tests(tests, rig_start, rig_stop);
}
