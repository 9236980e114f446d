/* Exec credential providers: the kubelet's configuration read strictly, real programs run, their answers cached, and every way in which one can fail. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/credential.h>

#define V1 "credentialprovider.kubelet.k8s.io/v1"
#define HEAD "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
#define ONE(more) HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [\"*.example\", \"r.test:5000/team\"]\n  defaultCacheDuration: 1h\n" more
#define ANSWER(type, more) "{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"" type "\"" more ",\"auth\":{\"r.example\":{\"username\":\"u\",\"password\":\"hunter2\"}}}"

static char folder[] = "/tmp/provider-XXXXXX";

static char *in_folder(const char *name)
{
        return string_format("%s/%s", folder, name);
}

static void put(const char *name, const char *text, mode_t mode)
{
        CLEANUP(cleanup_free) char *path = in_folder(name);
        struct error err = { 0 };
        if (!fs_save(AT_FDCWD, path, text, strlen(text), mode, &err))
                fail_msg("%s", err.text);
        assert_int_equal(chmod(path, mode), 0);
}

/* A script; each of its runs leaves a line in "runs". */
static void put_tool(const char *body)
{
        CLEANUP(cleanup_free) char *text = string_format("#!/bin/sh\necho run >> %s/runs\n%s\n", folder, body);
        put("bin/tool", text, 0755);
}

static void put_answer(const char *answer)
{
        CLEANUP(cleanup_free) char *body = string_format("cat > %s/request\ncat <<'EOF'\n%s\nEOF", folder, answer);
        put_tool(body);
}

static char *content(const char *name)
{
        CLEANUP(cleanup_free) char *path = in_folder(name);
        struct buffer text = { 0 };
        struct error err = { 0 };
        fs_load(AT_FDCWD, path, 1 << 20, &text, &err);
        return buffer_take(&text);
}

static size_t count_runs(void)
{
        CLEANUP(cleanup_free) char *text = content("runs");
        return strlen(text) / strlen("run\n");
}

static bool load_as(const char *config, int64_t timeout_ms, struct credential_providers **ret_providers, struct error *err)
{
        CLEANUP(cleanup_free) char *path = in_folder("config.yaml"), *bin = in_folder("bin"), *runs = in_folder("runs");
        struct credential_providers_options options = { path, bin, timeout_ms };
        unlink(runs);
        put("config.yaml", config, 0644);
        return credential_providers_load(&options, ret_providers, err);
}

static struct credential_providers *load(const char *config)
{
        struct credential_providers *providers = NULL;
        struct error err = { 0 };
        if (!load_as(config, 20000, &providers, &err))
                fail_msg("%s", err.text);
        return providers;
}

static int setup(void **state)
{
        (void)state;
        assert_non_null(mkdtemp(folder));
        CLEANUP(cleanup_free) char *bin = in_folder("bin");
        assert_int_equal(mkdir(bin, 0755), 0);
        put_answer(ANSWER("Image", ""));
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        struct error err = { 0 };
        return !fs_remove_tree(AT_FDCWD, folder, &err);
}

/* ---- configuration ---- */
static const struct { const char *text, *says; } configs[] = {
        { ONE(""), NULL }, { ONE("  args: [a, \"b c\"]\n  env: [{name: A, value: b}, {name: B}]\n"), NULL },
        { "{\"kind\":\"CredentialProviderConfig\",\"apiVersion\":\"kubelet.config.k8s.io/v1alpha1\",\"providers\":[{\"name\":\"tool\",\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1beta1\","
          "\"matchImages\":[\"*\"],\n\t\"defaultCacheDuration\":\"0s\"}]}", NULL },
        { ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [\"a/b\"]}\n"), NULL },
        { "", "kind: is required" }, { "[]", "must be a map" }, { "a: [\n", "config.yaml:2: " }, { "kind: X\napiVersion: kubelet.config.k8s.io/v1\nproviders: []", ":1: kind: \"X\" does not fit" },
        { "kind: CredentialProviderConfig\napiVersion: v1", ":2: apiVersion: \"v1\" is not supported; allowed: kubelet.config.k8s.io/v1, " }, { HEAD "  []", ":3: providers: a list of at least one" },
        { "kind: CredentialProviderConfig\napiVersion: kubelet.config.k8s.io/v1\nprovider: []", ":3: provider: unknown field" }, { HEAD "- x\n", ":4: providers[0]: must be a map" },
        { ONE("  matchimages: []\n"), ":8: providers[0].matchimages: unknown field; known are name, matchImages" }, { ONE("  name: b\n"), ":8: key \"name\" is there twice" },
        { HEAD "- name: a/b\n", ":4: providers[0].name: \"a/b\" is not the name of a program" }, { HEAD "- name: ..\n", "providers[0].name: \"..\"" }, { HEAD "- name: \"a b\"\n", "providers[0].name" },
        { HEAD "- apiVersion: x\n", ":4: providers[0].name: is required" }, { HEAD "- name: tool\n", "providers[0].apiVersion: is required" },
        { HEAD "- name: tool\n  apiVersion: v1\n", ":5: providers[0].apiVersion: \"v1\" is not supported; allowed: " V1 }, { HEAD "- name: tool\n  apiVersion: " V1 "\n", "matchImages: is required" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: []\n", ":6: providers[0].matchImages: is required" }, { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [1]\n", "matchImages: [0] must be a text" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [a, \"%x\"]\n", ":6: providers[0].matchImages: [1] \"%x\" fits no image" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [\"https://a\"]\n", "without scheme" }, { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [\"a:b\"]\n", "fits no image" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [a]\n", "defaultCacheDuration: is required" }, { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: -1s\n", "must not be negative" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 12\n", ":7: providers[0].defaultCacheDuration: must be a text" },
        { HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: soon\n", ":7: providers[0].defaultCacheDuration: " },
        { ONE("  args: x\n"), ":8: providers[0].args: must be a list" }, { ONE("  env: [x]\n"), ":8: providers[0].env[0]: must be a map" }, { ONE("  env: [{name: A, valu: x}]\n"), "providers[0].env[0].valu: unknown field" },
        { ONE("  env:\n  - name: A\n  - value: hunter2\n"), ":10: providers[0].env[1].name: is required" }, { ONE("  env: [{name: A=B}]\n"), "must not hold \"=\"" }, { ONE("  env: [{name: A, value: 1}]\n"), "env[0].value: must be a text" },
        { ONE("- name: tool\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 1h\n"), ":8: providers[1].name: \"tool\" is there twice" },
        { ONE("  tokenAttributes: {cacheType: Token, requireServiceAccount: true}\n"), "providers[0].tokenAttributes.serviceAccountTokenAudience: is required" },
        { ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: All, requireServiceAccount: true}\n"), "cacheType: allowed: Token, ServiceAccount" },
        { ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token}\n"), "requireServiceAccount: is required" },
        { ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: false, requiredServiceAccountAnnotationKeys: [a]}\n"), "cannot be set when" },
        { "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: CredentialProviderConfig\nproviders:\n- name: tool\n  tokenAttributes: {}\n", ":5: providers[0].tokenAttributes: unknown field" },
        { HEAD "- name: absent\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 1h\n", ":4: providers[0].name: the program /tmp/" },
        { HEAD "- name: data\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 1h\n", "is no program that we may execute" },
        { HEAD "- name: folder\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 1h\n", "is no program that we may execute" },
        { HEAD "- name: open\n  apiVersion: " V1 "\n  matchImages: [a]\n  defaultCacheDuration: 1h\n", "may be written by everybody" },
};

static void test_configs(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *path = in_folder("config.yaml"), *inner = in_folder("bin/folder");
        put("bin/data", "x", 0644);
        put("bin/open", "#!/bin/sh\n", 0757);
        mkdir(inner, 0755);
        for (size_t i = 0; i < COUNT_OF(configs); i++) {
                CLEANUP(credential_providers_unref) struct credential_providers *providers = NULL;
                struct error err = { 0 };
                bool is_good = load_as(configs[i].text, 0, &providers, &err);
                if (is_good != !configs[i].says || (!is_good && (!strstr(err.text, configs[i].says) || strstr(err.text, "hunter2") || !string_starts_with(err.text, path))))
                        fail_msg("row %zu: %s\n%s", i, is_good ? "taken" : err.text, configs[i].text);
                assert_true(is_good || err.code == ERROR_BAD_REQUEST);
        }
}

/* *.yaml, *.yml and *.json of a folder, in order of names; a name twice in two files is a mistake too. */
static void test_config_folder(void **state)
{
        (void)state;
        CLEANUP(cleanup_free) char *configs_folder = in_folder("configs"), *bin = in_folder("bin"), *absent = in_folder("absent");
        CLEANUP(credential_providers_unref) struct credential_providers *providers = NULL;
        struct credential_providers_options options = { configs_folder, bin, 0 };
        struct error err = { 0 };
        mkdir(configs_folder, 0755);
        assert_false(credential_providers_load(&options, &providers, &err));
        assert_non_null(strstr(err.text, "holds no *.yaml"));
        put("configs/b.yaml", ONE(""), 0644);
        put("configs/notes.txt", "not read", 0644);
        assert_true(credential_providers_load(&options, &providers, &err));
        put("configs/a.json", ONE(""), 0644);
        credential_providers_unref(&providers);
        assert_false(credential_providers_load(&options, &providers, &err));
        assert_non_null(strstr(err.text, "configs/b.yaml:4: providers[0].name: \"tool\" is there twice"));
        options.bin_dir = absent;
        assert_false(credential_providers_load(&options, &providers, &err));
        assert_non_null(strstr(err.text, "the folder of credential providers"));
        options.bin_dir = bin;
        options.config = absent;
        assert_false(credential_providers_load(&options, &providers, &err));
        assert_int_equal(err.code, ERROR_BAD_REQUEST);
}

/* ---- asking ---- */
/* User and password of the first login, "" for none; the trouble in `trouble`. */
static char *ask_one(struct credential_providers *providers, const char *host, const char *path, struct error *trouble)
{
        struct credential_ask ask = { .host = host, .path = path };
        CLEANUP(credential_found_fini) struct credential_found found = { 0 };
        struct error err = { 0 };
        if (!credential_providers_ask(providers, &ask, &found, &err))
                fail_msg("%s", err.text);
        *trouble = found.trouble;
        return found.count > 0 ? string_format("%s:%s", found.logins[0].username, secret_get_text(found.logins[0].password)) : string_copy("");
}

static void expect(struct credential_providers *providers, const char *host, const char *path, const char *login)
{
        struct error trouble;
        CLEANUP(cleanup_free) char *got = ask_one(providers, host, path, &trouble);
        if (trouble.code != ERROR_NONE)
                fail_msg("%s", trouble.text);
        assert_string_equal(got, login);
}

static const struct { const char *pattern, *host, *path; bool fits; } matches[] = {
        { "r.example", "r.example", "a", true }, { "r.example", "r.example:5000", "a", false }, { "r.example:5000", "r.example:5000", "a", true }, { "*.example", "r.example", "a", true },
        { "*.example", "a.r.example", "a", false }, { "*.*.example", "a.r.example", "a", true }, { "r*.example", "reg.example", "a", true }, { "r.example/team", "r.example", "team/x", true },
        { "r.example/team", "r.example", "teams", true }, { "r.example/team", "r.example", "other", false }, { "r.example/v2/team", "r.example", "team/x", false }, { "*", "localhost", "a", true },
        { "*:5000", "localhost:5000", "a", true }, { "r.example/*", "r.example", "a", false }, { "docker.io", "docker.io", "library/x", true }, { "index.docker.io", "docker.io", "library/x", false },
};

static void test_match_images(void **state)
{
        (void)state;
        put_answer("{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"auth\":null}");
        for (size_t i = 0; i < COUNT_OF(matches); i++) {
                CLEANUP(cleanup_free) char *config = string_format(HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [nowhere.example, \"%s\"]\n  defaultCacheDuration: 1h\n", matches[i].pattern);
                CLEANUP(credential_providers_unref) struct credential_providers *providers = load(config);
                expect(providers, matches[i].host, matches[i].path, "");
                if (count_runs() != matches[i].fits)
                        fail_msg("%s and %s/%s", matches[i].pattern, matches[i].host, matches[i].path);
        }
}

static void test_request(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE("  args: [get, \"b c\", \"$(x)\"]\n  env: [{name: A, value: old}, {name: A, value: n'w}, {name: HOME, value: /h}]\n"));
        CLEANUP(cleanup_free) char *script = string_format("cat > %s/request; printf '%%s|' \"$@\" \"$A\" \"$HOME\" \"$INHERITED\" \"${NOTIFY_SOCKET-none}\" > %s/seen; ls /proc/self/fd > %s/fds; "
                "echo '%s'", folder, folder, folder, ANSWER("Image", ""));
        int leaky = open("/dev/null", O_RDONLY);           /* without O_CLOEXEC */
        setenv("INHERITED", "yes", 1);
        setenv("NOTIFY_SOCKET", "/run/x", 1);
        put_tool(script);
        expect(providers, "r.example", "a/b", "u:hunter2");
        unsetenv("NOTIFY_SOCKET");
        close(leaky);
        CLEANUP(cleanup_free) char *request = content("request"), *seen = content("seen"), *fds = content("fds");
        assert_string_equal(request, "{\"kind\":\"CredentialProviderRequest\",\"apiVersion\":\"" V1 "\",\"image\":\"r.example/a/b\"}\n");
        assert_string_equal(seen, "get|b c|$(x)|n'w|/h|yes|none|");
        assert_string_equal(fds, "0\n1\n2\n3\n");          /* 3 is of ls itself */
}

/* cacheKeyType, cacheDuration and the default of the configuration → how often the program runs for these images. */
static void test_cache(void **state)
{
        (void)state;
        static const struct { const char *answer, *duration; size_t same, neighbour, elsewhere; } rows[] = {
                { ANSWER("Image", ""), "1h", 1, 2, 3 }, { ANSWER("Registry", ""), "1h", 1, 1, 2 }, { ANSWER("Global", ""), "1h", 1, 1, 1 }, { ANSWER("Global", ",\"cacheDuration\":\"0s\""), "1h", 2, 3, 4 },
                { ANSWER("Global", ",\"cacheDuration\":\"0\""), "1h", 2, 3, 4 }, { ANSWER("Global", ""), "0s", 2, 3, 4 }, { ANSWER("Global", ",\"cacheDuration\":\"10m\""), "0s", 1, 1, 1 },
                { ANSWER("Global", ",\"cacheDuration\":\"-5s\""), "1h", 2, 3, 4 }, { ANSWER("Image", ",\"cacheDuration\":\"2562047h\""), "1h", 1, 2, 3 }, { ANSWER("Image", ",\"cacheDuration\":null"), "1h", 1, 2, 3 },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                CLEANUP(cleanup_free) char *config = string_format(HEAD "- name: tool\n  apiVersion: " V1 "\n  matchImages: [\"*.example\"]\n  defaultCacheDuration: %s\n", rows[i].duration);
                CLEANUP(credential_providers_unref) struct credential_providers *providers = load(config);
                put_answer(rows[i].answer);
                expect(providers, "r.example", "a", "u:hunter2");
                expect(providers, "r.example", "a", "u:hunter2");
                assert_int_equal(count_runs(), rows[i].same);
                expect(providers, "r.example", "b", "u:hunter2");
                assert_int_equal(count_runs(), rows[i].neighbour);
                expect(providers, "s.example", "a", "");          /* the answer has nothing for it */
                assert_int_equal(count_runs(), rows[i].elsewhere);
        }
}

static void test_cache_expires(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        put_answer(ANSWER("Image", ",\"cacheDuration\":\"1ms\""));
        expect(providers, "r.example", "a", "u:hunter2");
        usleep(5000);
        expect(providers, "r.example", "a", "u:hunter2");
        assert_int_equal(count_runs(), 2);
}

/* All that fit are asked, their logins are one keyring: more specific keys first, then the order of the configuration. */
static void test_several_providers(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = NULL;
        CLEANUP(credential_found_fini) struct credential_found found = { 0 };
        struct credential_ask ask = { .host = "r.example", .path = "team/a" };
        struct error err = { 0 };
        put_answer("{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"auth\":{\"r.example\":{\"username\":\"one\",\"password\":\"p\"},"
                "\"https://r.example/v1/\":{\"username\":\"two\",\"password\":\"p\"},\"other.example\":{\"username\":\"no\",\"password\":\"p\"}}}");
        put("bin/second", "#!/bin/sh\necho '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Global\",\"auth\":{\"r.example/team\":{\"username\":\"team\",\"password\":\"p\"},"
                "\"*.example\":{\"username\":\"star\",\"password\":\"p\"},\"r.example\":{\"username\":\"one\",\"password\":\"p\"}}}'\n", 0755);
        put("bin/broken", "#!/bin/sh\nexit 3\n", 0755);
        providers = load(ONE("- name: broken\n  apiVersion: " V1 "\n  matchImages: [r.example]\n  defaultCacheDuration: 1h\n"
                "- name: second\n  apiVersion: " V1 "\n  matchImages: [r.example]\n  defaultCacheDuration: 1h\n"));
        assert_true(credential_providers_ask(providers, &ask, &found, &err));
        const char *const users[] = { "team", "two", "one", "star" };
        assert_int_equal(found.count, COUNT_OF(users));
        for (size_t i = 0; i < COUNT_OF(users); i++)
                assert_string_equal(found.logins[i].username, users[i]);
        assert_string_equal(found.trouble.text, "credential provider broken: it ended with status 3");
}

/* What a program may do wrong → what is told; never what it wrote. */
static const struct { const char *script, *says; } failures[] = {
        { "echo hunter2 >&2; exit 7", "it ended with status 7" }, { "kill -9 $$", "it was ended by signal 9" }, { "", "the 0 bytes on its standard output are no JSON object" },
        { "echo hunter2", "are no JSON object" }, { "echo '[\"hunter2\"]'", "are no JSON object" }, { "echo '{\"hunter2\":1,\"hunter2\":2}'", "are no JSON object" },
        { "head -c 1048577 /dev/zero", "it wrote more than 1048576 bytes" }, { "yes hunter2", "it wrote more than 1048576 bytes" },
        { "echo '{\"apiVersion\":\"credentialprovider.kubelet.k8s.io/v1beta1\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\"}'", "is not of the apiVersion " V1 },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"hunter2\",\"cacheKeyType\":\"Image\"}'", "\"kind\" says otherwise" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"hunter2\"}'", "\"cacheKeyType\" is not Image, Registry or Global" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\"}'", "\"cacheKeyType\" is not" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"hunter2\":1}'", "a member that the API does not know" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"cacheDuration\":5}'", "\"cacheDuration\" is no duration" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"cacheDuration\":\"hunter2\"}'", "\"cacheDuration\" is no duration" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"auth\":[]}'", "\"auth\" is no object" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"auth\":{\"r.example\":\"hunter2\"}}'", "an entry of \"auth\"" },
        { "echo '{\"apiVersion\":\"" V1 "\",\"kind\":\"CredentialProviderResponse\",\"cacheKeyType\":\"Image\",\"auth\":{\"r.example\":{\"user\":\"hunter2\"}}}'", "an entry of \"auth\"" },
};

static void test_failures(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        for (size_t i = 0; i < COUNT_OF(failures); i++) {
                struct error trouble;
                put_tool(failures[i].script);
                CLEANUP(cleanup_free) char *login = ask_one(providers, "r.example", "a", &trouble);
                assert_string_equal(login, "");
                if (!string_starts_with(trouble.text, "credential provider tool: ") || !strstr(trouble.text, failures[i].says) || strstr(trouble.text, "hunter2"))
                        fail_msg("row %zu: %s", i, trouble.text);
        }
        assert_int_equal(count_runs(), COUNT_OF(failures));        /* no failure is remembered */
        put_answer(ANSWER("Image", ""));
        expect(providers, "r.example", "a", "u:hunter2");
}

/* A program that is changed into something that must not run, or taken away, after the configuration was read. */
static void test_program_is_looked_at_again(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        CLEANUP(cleanup_free) char *tool = in_folder("bin/tool");
        struct error trouble;
        chmod(tool, 0757);
        free(ask_one(providers, "r.example", "a", &trouble));
        assert_non_null(strstr(trouble.text, "may be written by everybody"));
        put("bin/tool", "echo no shell is asked for this\n", 0755);
        free(ask_one(providers, "r.example", "a", &trouble));
        assert_true(strstr(trouble.text, "starting ") || strstr(trouble.text, "ended with status"));       /* the latter under valgrind, whose vfork is a fork */
        unlink(tool);
        free(ask_one(providers, "r.example", "a", &trouble));
        assert_non_null(strstr(trouble.text, "No such file"));
        put_answer(ANSWER("Image", ""));
}

static void test_account_token_is_not_ours(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers =
                load(ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true}\n"));
        struct error trouble;
        free(ask_one(providers, "r.example", "a", &trouble));
        assert_non_null(strstr(trouble.text, "requireServiceAccount"));
        assert_int_equal(count_runs(), 0);
        credential_providers_unref(&providers);
        providers = load(ONE("  tokenAttributes: {serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: false}\n"));
        expect(providers, "r.example", "a", "u:hunter2");
}

/* ---- time ---- */
static bool is_alive(const char *pid_file)
{
        CLEANUP(cleanup_free) char *text = content(pid_file);
        pid_t pid = (pid_t)atoi(text);
        for (int i = 0; pid > 0 && i < 500 && kill(pid, 0) == 0; i++)
                usleep(10000);
        return pid > 0 && kill(pid, 0) == 0;
}

/* Also what it has started ends with it. The child of a killed one is reaped by init, or by nobody in a container without one: a zombie is dead enough. */
static void test_timeout_kills_the_group(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = NULL;
        CLEANUP(cleanup_free) char *script = string_format("echo $$ > %s/pid; sleep 1000 & wait", folder);
        struct error err = { 0 }, trouble;
        put_tool(script);
        assert_true(load_as(ONE(""), 700, &providers, &err));
        free(ask_one(providers, "r.example", "a", &trouble));
        assert_non_null(strstr(trouble.text, "has not answered within 700 ms and was killed"));
        assert_false(is_alive("pid"));
        put_answer(ANSWER("Image", ""));
}

static void test_deadline_of_the_caller(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        struct credential_ask ask = { .host = "r.example", .path = "a", .deadline_ms = clock_get_ms() + 300 };
        struct credential_found found = { 0 };
        struct error err = { 0 };
        put_tool("exec sleep 1000");
        assert_false(credential_providers_ask(providers, &ask, &found, &err));
        assert_int_equal(err.code, ERROR_TIMEOUT);
        assert_non_null(strstr(err.text, "credential provider tool"));
        put_answer(ANSWER("Image", ""));
}

struct caller { pthread_t thread; struct credential_providers *providers; struct cancel *cancel; const char *path; bool is_good; size_t logins; struct error err; };

static void *call(void *arg)
{
        struct caller *caller = arg;
        struct credential_ask ask = { .host = "r.example", .path = caller->path, .cancel = caller->cancel };
        struct credential_found found = { 0 };
        caller->is_good = credential_providers_ask(caller->providers, &ask, &found, &caller->err);
        caller->logins = found.count;
        if (caller->is_good)
                credential_found_fini(&found);
        return NULL;
}

static void await_runs(size_t count)
{
        for (int i = 0; i < 1500 && count_runs() < count; i++)
                usleep(10000);
        assert_true(count_runs() >= count);
}

/* Many that ask the same at once are one run; its answer is everybody's, even if it is not to be kept. */
static void test_single_flight(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        CLEANUP(cleanup_free) char *gate = in_folder("gate");
        CLEANUP(cleanup_free) char *script = string_format("while [ ! -e %s ]; do sleep 0.02; done; echo '%s'", gate, ANSWER("Image", ",\"cacheDuration\":\"1h\""));
        struct caller callers[8] = { 0 };
        put_tool(script);
        for (size_t i = 0; i < COUNT_OF(callers); i++) {
                callers[i] = (struct caller){ .providers = providers, .path = i < 6 ? "same" : "other" };
                pthread_create(&callers[i].thread, NULL, call, &callers[i]);
        }
        await_runs(2);
        put("gate", "", 0644);
        for (size_t i = 0; i < COUNT_OF(callers); i++) {
                pthread_join(callers[i].thread, NULL);
                assert_true(callers[i].is_good);
                assert_int_equal(callers[i].logins, 1);
        }
        assert_int_equal(count_runs(), 2);
        unlink(gate);
        put_answer(ANSWER("Image", ""));
}

/* The one that runs it is cancelled: another that waits runs it anew. One that waits is cancelled: the others go on. */
static void test_cancel(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        CLEANUP(cleanup_free) char *gate = in_folder("gate");
        CLEANUP(cleanup_free) char *script = string_format("while [ ! -e %s ]; do sleep 0.02; done; echo '%s'", gate, ANSWER("Image", ""));
        struct caller callers[3] = { 0 };
        put_tool(script);
        for (size_t i = 0; i < COUNT_OF(callers); i++) {
                callers[i] = (struct caller){ .providers = providers, .path = "same", .cancel = cancel_new() };
                pthread_create(&callers[i].thread, NULL, call, &callers[i]);
                await_runs(1);
        }
        cancel_trigger(callers[0].cancel);
        pthread_join(callers[0].thread, NULL);
        await_runs(2);
        cancel_trigger(callers[1].cancel);         /* runs it, or waits for it */
        pthread_join(callers[1].thread, NULL);
        put("gate", "", 0644);
        pthread_join(callers[2].thread, NULL);
        for (size_t i = 0; i < COUNT_OF(callers); i++) {
                assert_int_equal(callers[i].is_good, i == 2);
                assert_true(i == 2 || callers[i].err.code == ERROR_BUSY);
                cancel_free(&callers[i].cancel);
        }
        assert_int_equal(callers[2].logins, 1);
        unlink(gate);
        put_answer(ANSWER("Image", ""));
}

/* What it says on standard error is in the log, printable and cut, and does not stop it however much it is. */
static void test_standard_error(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        CLEANUP(cleanup_free) char *script = string_format("printf 'look\\033[31m here\\n' >&2; head -c 300000 /dev/zero | tr '\\0' x >&2; echo '%s'", ANSWER("Image", "")), *log = in_folder("log");
        put_tool(script);
        int saved = dup(STDERR_FILENO), to = open(log, O_CREAT | O_TRUNC | O_WRONLY, 0600);
        dup2(to, STDERR_FILENO);
        log_configure(LOG_LEVEL_INFO, LOG_FORMAT_LOGFMT);
        struct error trouble;
        CLEANUP(cleanup_free) char *login = ask_one(providers, "r.example", "a", &trouble);
        dup2(saved, STDERR_FILENO);
        close(saved);
        close(to);
        assert_string_equal(login, "u:hunter2");
        CLEANUP(cleanup_free) char *said = content("log");
        assert_non_null(strstr(said, "event=credential_provider_said provider=tool"));
        assert_non_null(strstr(said, "look\\"));
        assert_null(strchr(said, '\033'));
        assert_null(strstr(said, "hunter2"));
        assert_true(strlen(said) < 4096);
        put_answer(ANSWER("Image", ""));
}

static size_t count_fds(void)
{
        DIR *fds = opendir("/proc/self/fd");
        size_t count = 0;
        while (readdir(fds))
                count++;
        closedir(fds);
        return count;
}

/* A daemon may have been started with its standard descriptors closed. */
static void test_closed_standard_descriptors(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE(""));
        struct error trouble;
        int saved[3];
        for (int fd = 0; fd < 3; fd++) {
                saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 10);
                close(fd);
        }
        CLEANUP(cleanup_free) char *login = ask_one(providers, "r.example", "closed", &trouble);
        for (int fd = 0; fd < 3; fd++) {
                if (saved[fd] >= 0)
                        dup2(saved[fd], fd);
                close(saved[fd]);
        }
        assert_string_equal(login, "u:hunter2");
}

static void test_nothing_is_left_behind(void **state)
{
        (void)state;
        CLEANUP(credential_providers_unref) struct credential_providers *providers = load(ONE("  env: []\n"));
        struct error trouble;
        put_tool("exit 1");
        free(ask_one(providers, "r.example", "a", &trouble));
        size_t before = count_fds();
        for (int i = 0; i < 20; i++)
                free(ask_one(providers, "r.example", "a", &trouble));
        assert_int_equal(count_fds(), before);
        put_answer(ANSWER("Image", ""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_configs), cmocka_unit_test(test_config_folder), cmocka_unit_test(test_match_images), cmocka_unit_test(test_request), cmocka_unit_test(test_cache),
                cmocka_unit_test(test_cache_expires), cmocka_unit_test(test_several_providers), cmocka_unit_test(test_failures), cmocka_unit_test(test_program_is_looked_at_again),
                cmocka_unit_test(test_account_token_is_not_ours), cmocka_unit_test(test_timeout_kills_the_group), cmocka_unit_test(test_deadline_of_the_caller),
                cmocka_unit_test(test_single_flight), cmocka_unit_test(test_cancel), cmocka_unit_test(test_standard_error), cmocka_unit_test(test_nothing_is_left_behind),
                cmocka_unit_test(test_closed_standard_descriptors),
        };
        return cmocka_run_group_tests(tests, setup, teardown);
}
