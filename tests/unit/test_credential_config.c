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
#include <wasmcached/credential.h>

/* One entry for r.io → what the login says; NULL user = skipped. "auth" values: base64 of what the comment says. */
static const struct { const char *entry, *username, *password, *identity, *registry; } logins[] = {
        { "{\"auth\":\"Zm9vOmJhcg==\"}",                                         "foo", "bar", "", "" },
        { "{\"auth\":\"Zm9vOmJhcg==\",\"username\":\"x\",\"password\":\"y\"}",   "foo", "bar", "", "" },
        { "{\"auth\":\"Zm9vOmJhcg\"}",                                           "foo", "bar", "", "" },        /* unpadded */
        { "{\"auth\":\"Zm9vOmJhcg=\"}",                                          NULL, NULL, NULL, NULL },        /* half padded */
        { "{\"auth\":\"Zm9v\\r\\nOmJh\\ncg==\\n\"}",                             "foo", "bar", "", "" },
        { "{\"auth\":\" Zm9vOmJhcg==\"}",                                        NULL, NULL, NULL, NULL },
        { "{\"auth\":\"Zm9vOmJhcg== \"}",                                        NULL, NULL, NULL, NULL },
        { "{\"auth\":\"Zm9vOmJhch==\"}",                                         "foo", "bar", "", "" },        /* left-over bits */
        { "{\"auth\":\"Zm9vOmI6YXI\"}",                                          "foo", "b:ar", "", "" },        /* foo:b:ar */
        { "{\"auth\":\"Zm9vOmJhcgAA\"}",                                         "foo", "bar", "", "" },        /* foo:bar\0\0 */
        { "{\"auth\":\"Zm9vOgAA\"}",                                             "foo", "", "", "" },        /* foo:\0\0 */
        { "{\"auth\":\"ZgBvOmJhcg\"}",                                           NULL, NULL, NULL, NULL },        /* f\0o:bar */
        { "{\"auth\":\"OmJhcg==\"}",                                             "", "bar", "", "" },        /* :bar */
        { "{\"auth\":\"Zm9vOg==\"}",                                             "foo", "", "", "" },        /* foo: */
        { "{\"auth\":\"Og==\"}",                                                 "", "", "", "" },        /* : */
        { "{\"auth\":\"Zm9vYmFy\"}",                                             NULL, NULL, NULL, NULL },        /* foobar */
        { "{\"auth\":\"Pz8/Oj8/Pw==\"}",                                         "???", "???", "", "" },
        { "{\"auth\":\"Pz8_Oj8_Pw==\"}",                                         NULL, NULL, NULL, NULL },        /* URL-safe */
        { "{\"auth\":\"====\"}",                                                 NULL, NULL, NULL, NULL },
        { "{\"auth\":\"\\n\"}",                                                  NULL, NULL, NULL, NULL },
        { "{\"auth\":\"!\",\"username\":\"u\",\"password\":\"p\"}",              NULL, NULL, NULL, NULL },
        { "{\"auth\":\"\",\"username\":\"u\",\"password\":\"p\"}",               "u", "p", "", "" },
        { "{\"auth\":null,\"username\":\"u\",\"password\":\"p\"}",               "u", "p", "", "" },
        { "{\"auth\":7,\"username\":\"u\",\"password\":\"p\"}",                  NULL, NULL, NULL, NULL },
        { "{\"username\":\"u\",\"password\":\"p\",\"email\":\"e@x\"}",           "u", "p", "", "" },
        { "{\"Username\":\"u\",\"PASSWORD\":\"p\"}",                             "u", "p", "", "" },
        { "{\"username\":\"u\"}",                                                "u", "", "", "" },
        { "{\"password\":\"p\"}",                                                "", "p", "", "" },
        { "{\"identitytoken\":\"idt\"}",                                         NULL, NULL, "idt", "" },
        { "{\"auth\":\"Zm9vOg==\",\"identitytoken\":\"idt\"}",                   "foo", "", "idt", "" },
        { "{\"registrytoken\":\"rgt\"}",                                         NULL, NULL, "", "rgt" },
        { "{\"registrytoken\":\"a\\r\\nHost: b\"}",                              NULL, NULL, NULL, NULL },
        { "{\"registrytoken\":\"a\\u007f\"}",                                     NULL, NULL, NULL, NULL },
        { "{\"registrytoken\":\"\\u00e4\"}",                                      NULL, NULL, NULL, NULL },
        { "{\"registrytoken\":\"a b\"}",                                         NULL, NULL, NULL, NULL },
        { "{\"username\":7,\"password\":\"p\"}",                                 NULL, NULL, NULL, NULL },
        { "{\"username\":\"u\",\"password\":[\"p\"]}",                            NULL, NULL, NULL, NULL },
        { "{\"username\":\"u\",\"password\":\"p\",\"identitytoken\":7}",          NULL, NULL, NULL, NULL },
        { "{\"username\":\"u\",\"password\":\"p\",\"registrytoken\":{}}",         NULL, NULL, NULL, NULL },
        { "{\"email\":\"e@x\"}",                                                 NULL, NULL, NULL, NULL },
        { "{}",                                                                  NULL, NULL, NULL, NULL },
        { "null",                                                                NULL, NULL, NULL, NULL },
        { "\"Zm9vOmJhcg==\"",                                                    NULL, NULL, NULL, NULL },
        { "[\"Zm9vOmJhcg==\"]",                                                  NULL, NULL, NULL, NULL },
};

static void test_entries(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(logins); i++) {
                CLEANUP(docker_config_free) struct docker_config *config = NULL;
                CLEANUP(cleanup_free) char *text = string_format("{\"auths\":{\"r.io\":%s,\"other.io\":{\"username\":\"o\"}}}", logins[i].entry);
                bool usable = logins[i].username || logins[i].identity || logins[i].registry;
                struct error err = { 0 };
                struct login *found = NULL;
                size_t count = 99;

                print_message("%s\n", logins[i].entry);
                if (!docker_config_parse(text, strlen(text), DOCKER_CONFIG_JSON, &config, &err))
                        fail_msg("%s", err.text);
                assert_int_equal(docker_config_get_skipped(config), usable ? 0 : 1);
                keyring_find((const struct docker_config *const[]){ config }, 1, "r.io", "x", &found, &count);
                assert_int_equal(count, usable ? 1 : 0);
                if (usable) {
                        if (logins[i].username)
                                assert_string_equal(found->username, logins[i].username);
                        else
                                assert_null(found->username);
                        assert_string_equal(secret_get_text(found->password), logins[i].password ? logins[i].password : "");
                        assert_int_equal(secret_get_size(found->password), strlen(logins[i].password ? logins[i].password : ""));
                        assert_string_equal(secret_get_text(found->identity_token), logins[i].identity);
                        assert_string_equal(secret_get_text(found->registry_token), logins[i].registry);
                }
                logins_free(&found, count);
        }
}

#define LOGIN "{\"username\":\"u\",\"password\":\"hunter2\"}"
/* text → NULL = accepted, else what the error must say; no error may say "hunter2" */
static const struct { const char *text; enum docker_config_kind kind; const char *error; } texts[] = {
        { "{\"auths\":{\"r.io\":" LOGIN "}}",                                     DOCKER_CONFIG_JSON, NULL },
        { "{\"Auths\":{\"r.io\":" LOGIN "}}",                                     DOCKER_CONFIG_JSON, NULL },
        { "{\"auths\":{\"r.io\":" LOGIN "},\"HttpHeaders\":{\"User-Agent\":\"x\"},\"credsStore\":\"secretservice\",\"credHelpers\":{\"a\":\"b\"}}",
          DOCKER_CONFIG_JSON, NULL },
        { "{\"r.io\":" LOGIN "}",                                                 DOCKER_CONFIG_LEGACY, NULL },
        { "{\"auths\":{\"r.io\":" LOGIN ",\"::\":" LOGIN "}}",                    DOCKER_CONFIG_JSON, NULL },
        { "{\"r.io\":" LOGIN "}",                                                 DOCKER_CONFIG_JSON, "has no entry" },
        { "{}",                                                                   DOCKER_CONFIG_JSON, "has no entry" },
        { "{\"auths\":{}}",                                                       DOCKER_CONFIG_JSON, "has no entry" },
        { "{\"auths\":null}",                                                     DOCKER_CONFIG_JSON, "has no entry" },
        { "{}",                                                                   DOCKER_CONFIG_LEGACY, "has no entry" },
        { "{\"auths\":{\"r.io\":{}}}",                                            DOCKER_CONFIG_JSON, "has no usable entry: 1 of 1" },
        { "{\"auths\":{\"r.io:x\":" LOGIN "}}",                                   DOCKER_CONFIG_JSON, "has no usable entry: 1 of 1" },
        { "{\"auths\":[]}",                                                       DOCKER_CONFIG_JSON, "\"auths\" is a JSON" },
        { "[" LOGIN "]",                                                          DOCKER_CONFIG_JSON, "is no docker config" },
        { "null",                                                                 DOCKER_CONFIG_JSON, "is no docker config" },
        { "",                                                                     DOCKER_CONFIG_JSON, "is no docker config" },
        { "hunter2",                                                              DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":{\"password\":\"hunter2\",}}}",                   DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":{\"password\":\"hunter2\" \"hunter2\"}}}",        DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":{\"password\":\"hunter2",                         DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":{\"password\":hunter2}}}",                        DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":" LOGIN "}} hunter2",                             DOCKER_CONFIG_JSON, "is no docker config" },
        { "{\"auths\":{\"r.io\":" LOGIN ",\"r.io\":" LOGIN "}}",                  DOCKER_CONFIG_JSON, "is no docker config" },
};

static void test_texts(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(texts); i++) {
                CLEANUP(docker_config_free) struct docker_config *config = NULL;
                struct error err = { 0 };
                print_message("%s\n", texts[i].text);
                assert_int_equal(docker_config_parse(texts[i].text, strlen(texts[i].text), texts[i].kind, &config, &err), texts[i].error == NULL);
                if (!texts[i].error)
                        continue;
                print_message("    %s\n", err.text);
                assert_null(config);
                assert_int_equal(err.code, ERROR_SECRET_MISSING);
                assert_non_null(strstr(err.text, texts[i].error));
                assert_null(strstr(err.text, "hunter2"));
        }
}

static void test_limits(void **state)
{
        (void)state;
        struct docker_config *config = NULL;
        struct error err = { 0 };
        CLEANUP(buffer_fini) struct buffer text = { 0 };

        assert_true(buffer_append_text(&text, "{\"auths\":{\"x0\":" LOGIN));
        for (int i = 1; i <= CREDENTIAL_ENTRIES_MAX; i++)
                assert_true(buffer_printf(&text, ",\"x%d\":{}", i));
        assert_true(buffer_append_text(&text, "}}"));
        assert_false(docker_config_parse(text.data, text.used, DOCKER_CONFIG_JSON, &config, &err));
        assert_non_null(strstr(err.text, "at most 4096"));

        buffer_clear(&text);
        assert_true(buffer_append_text(&text, "{\"auths\":{\"x\":" LOGIN "}}"));
        while (text.used <= CREDENTIAL_CONFIG_MAX_BYTES)
                assert_true(buffer_append_text(&text, "                                        "));
        assert_false(docker_config_parse(text.data, text.used, DOCKER_CONFIG_JSON, &config, &err));
        assert_non_null(strstr(err.text, "at most 1048576"));
        assert_true(docker_config_parse(text.data, CREDENTIAL_CONFIG_MAX_BYTES, DOCKER_CONFIG_JSON, &config, &err));
        docker_config_free(&config);
}

static struct digest fingerprint(const char *text, const char *key)
{
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        struct error err = { 0 };
        struct digest digest = { 0 };
        if (!docker_config_parse(text, strlen(text), DOCKER_CONFIG_LEGACY, &config, &err))
                fail_msg("%s", err.text);
        docker_config_fingerprint(config, key, strlen(key), &digest);
        return digest;
}

static void test_fingerprint(void **state)
{
        (void)state;
        struct digest one = fingerprint("{\"a\":{\"username\":\"u\",\"password\":\"p\"},\"b\":{\"auth\":\"Zm9vOmJhcg==\"}}", "key");
        struct digest same = fingerprint("{\"b\":{\"username\":\"foo\",\"password\":\"bar\"}, \"a\":{\"auth\":\"dTpw\",\"email\":\"e\"}}", "key");
        assert_true(digest_is_set(&one));
        assert_true(digest_equal(&one, &same));

        static const char *const others[] = {
                "{\"a\":{\"username\":\"u\",\"password\":\"p\"}}",
                "{\"a\":{\"username\":\"up\",\"password\":\"\"},\"b\":{\"auth\":\"Zm9vOmJhcg==\"}}",
                "{\"a\":{\"username\":\"u\",\"password\":\"p\"},\"c\":{\"auth\":\"Zm9vOmJhcg==\"}}",
                "{\"a\":{\"username\":\"u\",\"password\":\"p\",\"identitytoken\":\"t\"},\"b\":{\"auth\":\"Zm9vOmJhcg==\"}}",
        };
        for (size_t i = 0; i < COUNT_OF(others); i++) {
                struct digest other = fingerprint(others[i], "key");
                assert_false(digest_equal(&one, &other));
        }
        struct digest other_key = fingerprint("{\"a\":{\"username\":\"u\",\"password\":\"p\"},\"b\":{\"auth\":\"Zm9vOmJhcg==\"}}", "kex");
        assert_false(digest_equal(&one, &other_key));
}

/* ---- folders of Secrets */
struct folder { char path[64]; };

static int setup(void **state)
{
        struct folder *folder = calloc(1, sizeof *folder);
        strcpy(folder->path, "/tmp/credential-XXXXXX");
        *state = folder;
        return mkdtemp(folder->path) ? 0 : -1;
}

static int teardown(void **state)
{
        struct error err = { 0 };
        CLEANUP(cleanup_free) struct folder *folder = *state;
        return fs_remove_tree(-100 /* AT_FDCWD */, folder->path, &err) ? 0 : -1;
}

static void put(const struct folder *folder, const char *path, const char *text)
{
        CLEANUP(cleanup_free) char *full = string_format("%s/%s", folder->path, path);
        char *slash = strrchr(full, '/');
        struct error err = { 0 };
        *slash = '\0';
        assert_true(fs_make_folders(full, 0700, &err));
        *slash = '/';
        FILE *file = fopen(full, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
}

static void put_link(const struct folder *folder, const char *target, const char *path)
{
        CLEANUP(cleanup_free) char *full = string_format("%s/%s", folder->path, path);
        CLEANUP(cleanup_free) char *temp = string_format("%s/%s.tmp", folder->path, path);
        assert_int_equal(symlink(target, temp), 0);
        assert_int_equal(rename(temp, full), 0);
}

/* The user of r.io in the Secret ns/name, or the error's text with a '!' before it. */
static const char *user_of(const char *root, const char *namespace, const char *name, char *ret_text)
{
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        struct login *found = NULL;
        struct error err = { 0 };
        size_t count = 0;
        if (!credential_load_secret(root, namespace, name, &config, &err)) {
                assert_int_equal(err.code, ERROR_SECRET_MISSING);
                snprintf(ret_text, 1024, "!%s", err.text);
                print_message("    %s\n", err.text);
                return ret_text;
        }
        keyring_find((const struct docker_config *const[]){ config }, 1, "r.io", "x", &found, &count);
        snprintf(ret_text, 1024, "%s", count ? found[0].username : "");
        logins_free(&found, count);
        return ret_text;
}

static void test_folder(void **state)
{
        const struct folder *folder = *state;
        char text[1024];
        put(folder, "ns/plain/.dockerconfigjson", "{\"auths\":{\"r.io\":{\"username\":\"plain\"}}}");
        put(folder, "ns/legacy/.dockercfg", "{\"r.io\":{\"username\":\"legacy\"}}");
        put(folder, "ns/both/.dockercfg", "{\"r.io\":{\"username\":\"legacy\"}}");
        put(folder, "ns/both/.dockerconfigjson", "{\"auths\":{\"r.io\":{\"username\":\"json\"}}}");
        put(folder, "ns/empty/.dockerconfigjson", "");
        put(folder, "ns/noentry/.dockerconfigjson", "{\"auths\":{}}");
        put(folder, "ns/bad/.dockerconfigjson", "hunter2");
        put(folder, "ns/bad/.dockercfg", "{\"r.io\":{\"username\":\"legacy\"}}");
        put(folder, "ns/opaque/password", "hunter2");
        put(folder, "ns/file", "hunter2");
        put(folder, "other/a.b-c/.dockerconfigjson", "{\"auths\":{\"r.io\":{\"username\":\"dotted\"}}}");

        assert_string_equal(user_of(folder->path, "ns", "plain", text), "plain");
        assert_string_equal(user_of(folder->path, "ns", "legacy", text), "legacy");
        assert_string_equal(user_of(folder->path, "ns", "both", text), "json");
        assert_string_equal(user_of(folder->path, "other", "a.b-c", text), "dotted");

        static const struct { const char *namespace, *name, *says; } refusals[] = {
                { "ns",  "empty",      ".dockerconfigjson is empty" },
                { "ns",  "noentry",    ".dockerconfigjson: has no entry" },
                { "ns",  "bad",        "is no docker config" },
                { "ns",  "opaque",     "neither .dockerconfigjson nor .dockercfg" },
                { "ns",  "file",       "Not a directory" },
                { "ns",  "absent",     "Secret ns/absent does not exist" },
                { "no",  "plain",      "Secret no/plain does not exist" },
                { "ns",  "../ns/plain", "is no name of a Secret" },
                { "ns",  "..",         "is no name of a Secret" },
                { "ns",  "",           "is no name of a Secret" },
                { "..",  "plain",      "is no name of a Secret" },
                { "n.s", "plain",      "is no name of a Secret" },
                { "ns",  "Plain",      "is no name of a Secret" },
                { "ns",  "-plain",     "is no name of a Secret" },
                { "ns",  "plain-",     "is no name of a Secret" },
                { "ns",  "a..b",       "is no name of a Secret" },
                { "ns",  "a.-b",       "is no name of a Secret" },
                { "ns",  "pl\nain",    "is no name of a Secret" },
        };
        for (size_t i = 0; i < COUNT_OF(refusals); i++) {
                user_of(folder->path, refusals[i].namespace, refusals[i].name, text);
                assert_int_equal(text[0], '!');
                assert_null(strstr(text, "hunter2"));
                if (!strstr(text, refusals[i].says))
                        fail_msg("%s/%s: \"%s\" does not say \"%s\"", refusals[i].namespace, refusals[i].name, text, refusals[i].says);
        }
        assert_non_null(strstr(user_of("", "ns", "plain", text), "no source of Secrets is configured"));
        assert_non_null(strstr(user_of(NULL, "ns", "plain", text), "no source of Secrets is configured"));
}

static void test_unreadable(void **state)
{
        const struct folder *folder = *state;
        char text[1024];
        if (geteuid() == 0) {
                print_message("SKIP: root reads everything\n");
                skip();
        }
        put(folder, "ns/closed/.dockerconfigjson", "{\"auths\":{\"r.io\":{\"username\":\"closed\"}}}");
        CLEANUP(cleanup_free) char *file = string_format("%s/ns/closed/.dockerconfigjson", folder->path);
        assert_int_equal(chmod(file, 0), 0);
        assert_non_null(strstr(user_of(folder->path, "ns", "closed", text), "Permission denied"));
        CLEANUP(cleanup_free) char *closed = string_format("%s/ns/closed", folder->path);
        assert_int_equal(chmod(closed, 0), 0);
        assert_non_null(strstr(user_of(folder->path, "ns", "closed", text), "Permission denied"));
        assert_int_equal(chmod(closed, 0700), 0);
}

/* As the kubelet's AtomicWriter lays it out and swaps it. */
static void test_swap(void **state)
{
        const struct folder *folder = *state;
        char text[1024];
        put(folder, "ns/s/..2026_01/.dockerconfigjson", "{\"auths\":{\"r.io\":{\"username\":\"old\"}}}");
        put_link(folder, "..2026_01", "ns/s/..data");
        put_link(folder, "..data/.dockerconfigjson", "ns/s/.dockerconfigjson");
        assert_string_equal(user_of(folder->path, "ns", "s", text), "old");

        /* the type changed: the new version has the legacy file only, and the old link is left over */
        put(folder, "ns/s/..2026_02/.dockercfg", "{\"r.io\":{\"username\":\"new\"}}");
        put_link(folder, "..2026_02", "ns/s/..data");
        assert_string_equal(user_of(folder->path, "ns", "s", text), "new");

        put_link(folder, "..2026_03", "ns/s/..data");
        assert_non_null(strstr(user_of(folder->path, "ns", "s", text), "\"..data\" leads nowhere"));
}

static void test_node(void **state)
{
        const struct folder *folder = *state;
        struct docker_config *config = (struct docker_config *)(void *)&state;
        struct error err = { 0 };
        put(folder, "config.json", "{\"auths\":{\"r.io\":{\"username\":\"node\"}},\"credsStore\":\"x\"}");
        put(folder, "settings.json", "{\"auths\":{\"r.io\":{}},\"credsStore\":\"x\"}");
        put(folder, ".dockercfg", "{\"r.io\":{\"username\":\"node\"}}");
        put(folder, "bad.json", "{hunter2");

        CLEANUP(cleanup_free) char *absent = string_format("%s/absent", folder->path), *good = string_format("%s/config.json", folder->path);
        CLEANUP(cleanup_free) char *settings = string_format("%s/settings.json", folder->path), *bad = string_format("%s/bad.json", folder->path);
        CLEANUP(cleanup_free) char *legacy = string_format("%s/.dockercfg", folder->path);
        assert_true(credential_load_node(absent, &config, &err));
        assert_null(config);
        assert_true(credential_load_node(settings, &config, &err));
        assert_null(config);
        assert_true(credential_load_node(good, &config, &err));
        assert_non_null(config);
        docker_config_free(&config);
        assert_true(credential_load_node(legacy, &config, &err));
        assert_non_null(config);
        docker_config_free(&config);
        assert_false(credential_load_node(bad, &config, &err));
        assert_int_equal(err.code, ERROR_SECRET_MISSING);
        assert_null(strstr(err.text, "hunter2"));
        assert_false(credential_load_node(folder->path, &config, &err));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_entries), cmocka_unit_test(test_texts), cmocka_unit_test(test_limits), cmocka_unit_test(test_fingerprint),
                cmocka_unit_test_setup_teardown(test_folder, setup, teardown), cmocka_unit_test_setup_teardown(test_unreadable, setup, teardown),
                cmocka_unit_test_setup_teardown(test_swap, setup, teardown), cmocka_unit_test_setup_teardown(test_node, setup, teardown),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
