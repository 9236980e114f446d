/*
 * How it goes: rules between options, after each of them was right by itself; defaults that follow from other options are filled in here.
 * How it fails: like any option: file, line of the key where it is known, key, what to change.
 * How it ends: the config holds effective values only.
 */
#include <stdlib.h>
#include <string.h>
#include "option.h"

/* The line of the node that `path` ("store.low_watermark") leads to, or of the deepest there is. */
static size_t find_line(const struct value *document, const char *path)
{
        const struct value *at = document;
        char name[64];
        while (*path) {
                size_t length = strcspn(path, ".");
                if (length >= sizeof name)
                        break;
                memcpy(name, path, length);
                name[length] = '\0';
                const struct value *next = value_get_member(at, name);
                if (!next)
                        break;
                at = next;
                path += length + (path[length] == '.');
        }
        return at == document ? 1 : value_get_line(at);
}

static bool check_watermarks(const struct option_place *place, const struct value *document, struct error *err)
{
        const struct config *config = place->config;
        if (config->store.low_watermark < config->store.high_watermark)
                return true;
        struct option_place at = { place->config, place->file, "store.low_watermark", find_line(document, "store.low_watermark") };
        return option_refuse(&at, err, "%lld is not below store.high_watermark, %lld; allowed: a smaller percentage", (long long)config->store.low_watermark,
                (long long)config->store.high_watermark);
}

static bool check_listener(const struct option_place *place, struct config_listener *listener, struct error *err)
{
        struct config *config = place->config;
        if (listener->identity == CONFIG_IDENTITY_TRUSTED && *listener->namespace)
                return option_refuse(place, err, "namespace \"%s\" has no meaning with identity trusted, the caller names it; leave it out", listener->namespace);
        if (listener->identity == CONFIG_IDENTITY_POD && *listener->namespace)
                return option_refuse(place, err, "namespace \"%s\" has no meaning with identity pod, it is that of the caller's pod; leave it out", listener->namespace);
        if (listener->identity == CONFIG_IDENTITY_FIXED && !*listener->namespace)
                listener->namespace = "default";
        if (!*listener->module_dir)
                listener->module_dir = config_keep(config, string_format("%s%smodules/{namespace}", config->store.root, string_ends_with(config->store.root, "/") ? "" : "/"));
        if (string_equal(listener->path, config->admin.path))
                return option_refuse(place, err, "%s is the admin socket's path too (admin.path); give one of them another", listener->path);
        return true;
}

static bool check_listeners(const struct option_place *place, const struct value *document, struct error *err)
{
        struct config *config = place->config;
        const struct value *list = value_get_member(document, "listeners");
        for (size_t i = 0; i < config->listener_count; i++) {
                CLEANUP(cleanup_free) char *key = string_format("listeners[%zu]", i);
                const struct value *item = list ? value_get_item(list, i) : NULL;
                struct option_place at = { config, place->file, key, item ? value_get_line(item) : 1 };
                if (!check_listener(&at, &config->listeners[i], err))
                        return false;
                for (size_t j = 0; j < i; j++)
                        if (string_equal(config->listeners[i].path, config->listeners[j].path))
                                return option_refuse(&at, err, "%s is the path of listeners[%zu] too; each listener needs its own", config->listeners[i].path, j);
        }
        return true;
}

static bool check_registries(const struct option_place *place, const struct value *document, struct error *err)
{
        const struct config *config = place->config;
        const struct value *map = value_get_member(document, "registries");
        for (size_t i = 0; i < config->registry_count; i++) {
                const struct config_registry *registry = &config->registries[i];
                CLEANUP(cleanup_free) char *key = string_format("registries.%s", registry->host);
                const struct value *item = map ? value_get_member(map, registry->host) : NULL;
                struct option_place at = { place->config, place->file, key, item ? value_get_line(item) : 1 };
                if (*registry->client_certificate && !*registry->client_key)
                        return option_refuse(&at, err, "client_certificate without client_key; both or neither");
                if (*registry->client_key && !*registry->client_certificate)
                        return option_refuse(&at, err, "client_key without client_certificate; both or neither");
                if (registry->plain_http && (registry->skip_verify || *registry->ca || *registry->client_certificate))
                        return option_refuse(&at, err, "plain_http with skip_verify, ca or client_certificate, which are for TLS; take either out");
        }
        return true;
}

static bool check_providers(const struct option_place *place, const struct value *document, struct error *err)
{
        const struct config *config = place->config;
        bool has_config = *config->credentials.provider_config, has_folder = *config->credentials.provider_bin_dir;
        const char *key = has_config ? "credentials.provider_config" : "credentials.provider_bin_dir";
        struct option_place at = { place->config, place->file, key, find_line(document, key) };
        return has_config == has_folder || option_refuse(&at, err, "without credentials.%s; both or neither", has_config ? "provider_bin_dir" : "provider_config");
}

static bool check_kubernetes(const struct option_place *place, const struct value *document, struct error *err)
{
        struct config *config = place->config;
        const char *node = config->kubernetes.mode != CONFIG_KUBERNETES_OFF && !*config->kubernetes.node ? getenv("NODE_NAME") : NULL;
        bool by_file = config->kubernetes.mode == CONFIG_KUBERNETES_KUBECONFIG;
        struct option_place at = { place->config, place->file, "kubernetes.kubeconfig", find_line(document, by_file ? "kubernetes.mode" : "kubernetes.kubeconfig") };
        if (by_file && !*config->kubernetes.kubeconfig)
                return option_refuse(&at, err, "missing; kubernetes.mode kubeconfig needs the file's path");
        if (!by_file && *config->kubernetes.kubeconfig)
                return option_refuse(&at, err, "has a meaning only with kubernetes.mode kubeconfig; set that, or leave the file out");
        if (*config->kubernetes.node && !string_is_dns(config->kubernetes.node, 253, true)) {
                at = (struct option_place){ config, place->file, "kubernetes.node", find_line(document, "kubernetes.node") };
                return option_refuse(&at, err, "\"%s\" is no name of a node; allowed: a-z, 0-9, '-' and '.'", config->kubernetes.node);
        }
        if (node && !string_is_dns(node, 253, true))
                return refuse(err, ERROR_BAD_REQUEST, "the environment variable NODE_NAME (for kubernetes.node) is no name of a node: a-z, 0-9, '-' and '.' only");
        if (node)
                config->kubernetes.node = config_keep(config, string_copy(node));
        return true;
}

/* A rule that can fit nothing would be no rule. */
static bool check_requirements(const struct option_place *place, const struct value *document, struct error *err)
{
        const struct config *config = place->config;
        const struct value *list = value_get_member(value_get_member(document, "trust"), "require");
        for (size_t i = 0; i < config->trust.require_count; i++) {
                const struct config_require *require = &config->trust.require[i];
                const char *scheme = strstr(require->match, "://"), *name = scheme ? scheme + 3 : require->match;
                CLEANUP(cleanup_free) char *key = string_format("trust.require[%zu]", i);
                struct option_place at = { place->config, place->file, key, value_get_line(value_get_item(list, i)) };
                if (!*require->keys)
                        return option_refuse(&at, err, "\"keys\" is missing or empty; allowed: 1 to 8 files with public keys");
                if (!strpbrk(name, "/*?["))
                        return option_refuse(&at, err, "match \"%s\" is a host without a path, which fits no repository; allowed: %s/* for all of them", require->match,
                                             require->match);
        }
        return true;
}

bool config_check(const struct option_place *place, const struct value *document, struct error *err)
{
        return check_watermarks(place, document, err) && check_listeners(place, document, err) && check_registries(place, document, err) &&
                check_providers(place, document, err) && check_kubernetes(place, document, err) && check_requirements(place, document, err);
}
