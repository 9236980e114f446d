/* kube_rig: tests/fake/kubeapi.py beside a unit test, a kubeconfig for it, and the steering. */
#pragma once
#include <sys/stat.h>
#include <wasmcached/kube.h>
#include "fetch_fake.h"

#define PLUGINS "/apis/extensions.istio.io/v1alpha1/wasmplugins"
#define SECRETS "/api/v1/secrets"

static struct fake api;
static struct fetch_client *steering;
static char rig_folder[] = "/tmp/wasmcached-kube-XXXXXX";

static char *rig_path(const char *name)
{
        return string_format("%s/%s", rig_folder, name);
}

static void rig_write(const char *name, const char *text)
{
        CLEANUP(cleanup_free) char *path = rig_path(name);
        struct error err = { 0 };
        if (!fs_save(AT_FDCWD, path, text, strlen(text), 0600, &err))
                fail_msg("%s", err.text);
}

static int rig_start(void **state)
{
        (void)state;
        struct error err = { 0 };
        struct fetch_options options = { 0 };
        assert_non_null(mkdtemp(rig_folder));
        api = fake_start_script("kubeapi.py", NULL);
        assert_true(fetch_client_new(&options, &steering, &err));
        return 0;
}

static int rig_stop(void **state)
{
        (void)state;
        struct error err = { 0 };
        fetch_client_unref(&steering);
        fake_stop(&api);
        return fs_remove_tree(AT_FDCWD, rig_folder, &err) ? 0 : 1;
}

/* "/_put", "path", PLUGINS, …, NULL */
static char *rig_steer(const char *action, ...)
{
        CLEANUP(buffer_fini) struct buffer path = { 0 };
        buffer_append_text(&path, action);
        va_list list;
        va_start(list, action);
        for (const char *name; (name = va_arg(list, const char *));) {
                buffer_printf(&path, "%s%s=", strchr(path.data, '?') ? "&" : "?", name);
                for (const unsigned char *c = (const unsigned char *)va_arg(list, const char *); *c; c++)
                        buffer_printf(&path, "%%%02X", *c);
        }
        va_end(list);
        return fake_steer(steering, &api, FETCH_GET, path.data);
}

#define STEER(...) free(rig_steer(__VA_ARGS__, NULL))

__attribute__((unused)) static void rig_put(const char *name)
{
        CLEANUP(cleanup_free) char *json = string_format("{\"metadata\":{\"namespace\":\"team-a\",\"name\":\"%s\"},\"spec\":{\"url\":\"u\"}}", name);
        STEER("/_put", "path", PLUGINS, "json", json);
}

__attribute__((unused)) static unsigned rig_count(const char *piece)
{
        CLEANUP(cleanup_free) char *text = rig_steer("/_log", NULL);
        unsigned count = 0;
        for (const char *at = text; (at = strstr(at, piece)); at++)
                count++;
        return count;
}

/* A kubeconfig for the plain port with `user` (YAML of a user, in flow style), and a kube of it with short times. */
__attribute__((unused)) static struct kube *rig_kube(const char *user, int64_t silence_ms)
{
        CLEANUP(cleanup_free) char *text = string_format("apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n"
                                                         "clusters:\n- name: k\n  cluster: {server: \"http://127.0.0.1:%u/\"}\nusers:\n- name: u\n  user: %s\n", api.port, user);
        CLEANUP(cleanup_free) char *path = rig_path("kubeconfig");
        rig_write("kubeconfig", text);
        struct kube_options options = { .mode = KUBE_KUBECONFIG, .kubeconfig = path, .backoff_first_ms = 20, .backoff_most_ms = 100, .silence_ms = silence_ms };
        struct kube *kube = NULL;
        struct error err = { 0 };
        if (!kube_new(&options, &kube, &err))
                fail_msg("%s", err.text);
        return kube;
}
