/*
 * How it goes: the places to ask: what registries says of the host, else what the tree says of it, the origin last; each with the logins of its own host, the kubelet's order of
 *              keyrings: the secret's, the node's, and, only when those have not helped, the credential providers'.
 * How it fails: a host whose folder in the tree is of no use is not asked at all; a provider that fails is told behind the registry's own words.
 * How it ends: endpoints and their logins are the pull's.
 */
#include <stdlib.h>
#include <string.h>
#include "endpoint.h"
#include <wasmcached/fetch.h>

struct keyrings { const struct docker_config *own, *node; };

static void login_add(struct endpoint *endpoint, const struct login *login)
{
        for (size_t i = 0; i < endpoint->count; i++)
                if (login_equal(&endpoint->logins[i], login))
                        return;
        endpoint->logins = memory_resize(endpoint->logins, endpoint->count + 1, sizeof *endpoint->logins);
        login_copy(login, &endpoint->logins[endpoint->count++]);
}

static void endpoint_add_logins(struct endpoint *endpoint, const struct keyrings *keyrings)
{
        const struct docker_config *configs[] = { keyrings->own, keyrings->node };
        for (size_t i = 0; i < COUNT_OF(configs); i++) {
                struct login *found = NULL;
                size_t count = 0;
                if (configs[i])
                        keyring_find(&configs[i], 1, endpoint->host, endpoint->path, &found, &count);
                for (size_t j = 0; j < count; j++)
                        login_add(endpoint, &found[j]);
                logins_free(&found, count);
                if (i == 0)
                        endpoint->own_count = endpoint->count;
        }
}

static struct endpoint *endpoint_new(struct pull *pull, char *url)
{
        pull->endpoints = memory_resize(pull->endpoints, pull->endpoint_count + 1, sizeof *pull->endpoints);
        struct endpoint *endpoint = &pull->endpoints[pull->endpoint_count++];
        *endpoint = (struct endpoint){ .url = url, .can = REGISTRY_CAN_PULL | REGISTRY_CAN_RESOLVE };
        return endpoint;
}

static void endpoint_add_origin(struct pull *pull, const struct keyrings *keyrings)
{
        const struct reference *reference = &pull->want->reference;
        struct endpoint *endpoint = endpoint_new(pull, registry_format_endpoint(pull->setup->fetch, reference->host));
        endpoint->host = string_copy(reference->host);
        endpoint->path = string_copy(reference->path);
        endpoint_add_logins(endpoint, keyrings);
}

/* The registry of the reference under another spelling: the port that goes without saying, or where the Hub answers. */
static bool is_origin(const char *url, const char *host)
{
        const char *start = strstr(url, "://") ? strstr(url, "://") + 3 : url;
        CLEANUP(cleanup_free) char *authority = string_copy_bytes(start, strcspn(start, "/"));
        CLEANUP(cleanup_free) char *with_port = string_format("%s:%s", host, string_starts_with_nocase(url, "https") ? "443" : "80");
        return strcmp(authority, host) == 0 || strcmp(authority, with_port) == 0 || (strcmp(host, "docker.io") == 0 && strcmp(authority, "registry-1.docker.io") == 0);
}

/* A mirror is asked with what is meant for the mirror, never with the origin's credentials ([oci] 6.1). */
static void endpoint_add(struct pull *pull, const char *url, bool is_mirror, const struct keyrings *keyrings)
{
        const struct reference *reference = &pull->want->reference;
        CLEANUP(cleanup_free) char *host = NULL, *path = NULL;
        mirror_split(url, reference->path, &host, &path);

        struct endpoint *endpoint = endpoint_new(pull, string_copy(url));
        endpoint->is_mirror = is_mirror;
        endpoint->host = string_copy(is_mirror ? host : reference->host);
        endpoint->path = string_copy(is_mirror ? path : reference->path);
        endpoint_add_logins(endpoint, keyrings);
}

/* "https" where the tree speaks of TLS and only the habit of loopback says otherwise. */
static void origin_use_tls(struct endpoint *endpoint)
{
        if (!string_starts_with(endpoint->url, "http://"))
                return;
        char *url = string_format("https://%s", endpoint->url + strlen("http://"));
        free(endpoint->url);
        endpoint->url = url;
}

static bool endpoints_from_tree(struct pull *pull, const struct keyrings *keyrings, struct error *err)
{
        const struct registry_endpoint *rows = NULL;
        size_t count = 0;
        if (pull->setup->options.tree && !registry_tree_find(pull->setup->options.tree, pull->want->reference.host, &rows, &count, err))
                return false;
        if (count == 0)
                endpoint_add_origin(pull, keyrings);
        for (size_t i = 0; i < count; i++) {
                if (rows[i].url)
                        endpoint_add(pull, rows[i].url, !is_origin(rows[i].url, pull->want->reference.host), keyrings);
                else
                        endpoint_add_origin(pull, keyrings);
                struct endpoint *endpoint = &pull->endpoints[pull->endpoint_count - 1];
                endpoint->is_root = rows[i].is_root;
                endpoint->can = rows[i].can;
                endpoint->reach = &rows[i].reach;
                if (!rows[i].url && rows[i].is_tls_told)
                        origin_use_tls(endpoint);
        }
        return true;
}

static const struct modules_mirrors *named_find(const struct modules_options *options, const char *host)
{
        for (size_t i = 0; i < options->mirror_count; i++)
                if (string_equal(options->mirrors[i].host, host))
                        return &options->mirrors[i];
        return NULL;
}

static const struct docker_config *own_config(const struct pull *pull)
{
        return pull->want->inline_config ? pull->want->inline_config : pull->keys ? pull->keys->config : NULL;
}

/* A broken file of the node is no reason to refuse who comes with credentials of its own. */
static bool node_load(struct pull *pull, struct docker_config **ret_node, struct error *err)
{
        const char *path = pull->setup->options.docker_config;
        if (!path || !*path || credential_load_node(path, ret_node, err))
                return true;
        pull->trouble = *err;
        return own_config(pull) != NULL;
}

/* Nobody becomes anonymous because of it either: own credentials that are for other registries do not count. */
static bool node_is_needless(const struct pull *pull, struct error *err)
{
        for (size_t i = 0; i < pull->endpoint_count; i++)
                if (pull->endpoints[i].own_count > 0)
                        return true;
        *err = pull->trouble;
        return pull->trouble.code == ERROR_NONE;
}

bool endpoints_find(struct pull *pull, struct error *err)
{
        int64_t started_us = clock_get_us();
        const struct modules_options *options = &pull->setup->options;
        CLEANUP(docker_config_free) struct docker_config *node = NULL;
        if (!node_load(pull, &node, err))
                return false;

        struct keyrings keyrings = { own_config(pull), node };
        const struct modules_mirrors *named = named_find(options, pull->want->reference.host);
        for (const char *const *mirror = named ? named->mirrors : NULL; mirror && *mirror; mirror++)
                endpoint_add(pull, *mirror, true, &keyrings);
        bool is_good = true;
        if (named)
                endpoint_add_origin(pull, &keyrings);
        else
                is_good = endpoints_from_tree(pull, &keyrings, err);
        pull->stage_us[STAGE_LOGIN] += clock_get_us() - started_us;
        return is_good && node_is_needless(pull, err);
}

struct endpoint *pull_find_endpoint(struct pull *pull, const struct reference *reference)
{
        struct error err = { 0 };
        const struct modules_options *options = &pull->setup->options;
        const struct registry_endpoint *rows = NULL;
        size_t count = 0;
        CLEANUP(docker_config_free) struct docker_config *node = NULL;
        if (!node_load(pull, &node, &err) ||
            (options->tree && !named_find(options, reference->host) && !registry_tree_find(options->tree, reference->host, &rows, &count, &err)))
                return NULL;

        struct keyrings keyrings = { own_config(pull), node };
        struct endpoint *endpoint = &pull->signatures;
        const struct registry_endpoint *last = count > 0 ? &rows[count - 1] : NULL;
        const struct registry_endpoint *own = last && (!last->url || is_origin(last->url, reference->host)) ? last : NULL;
        endpoint_fini(endpoint);
        *endpoint = (struct endpoint){ .url = own && own->url ? string_copy(own->url) : registry_format_endpoint(pull->setup->fetch, reference->host),
                                       .is_root = own && own->is_root, .can = REGISTRY_CAN_PULL | REGISTRY_CAN_RESOLVE,
                                       .host = string_copy(reference->host), .path = string_copy(reference->path),
                                       .reach = own ? &own->reach : NULL };
        if (own && !own->url && own->is_tls_told)
                origin_use_tls(endpoint);
        endpoint_add_logins(endpoint, &keyrings);
        return endpoint;
}

static bool providers_ask(struct pull *pull, struct endpoint *endpoint, struct error *err)
{
        struct credential_ask ask = { endpoint->host, endpoint->path, pull->cancel, pull->deadline_ms };
        CLEANUP(credential_found_fini) struct credential_found found = { 0 };
        int64_t started_us = clock_get_us();
        bool is_good = credential_providers_ask(pull->setup->options.providers, &ask, &found, err);
        pull->stage_us[STAGE_LOGIN] += clock_get_us() - started_us;
        for (size_t i = 0; is_good && i < found.count; i++)
                login_add(endpoint, &found.logins[i]);
        if (found.trouble.code != ERROR_NONE)
                pull->trouble = found.trouble;
        return is_good;
}

bool endpoint_has_login(struct pull *pull, struct endpoint *endpoint, struct error *err)
{
        if (endpoint->login >= endpoint->count && !endpoint->has_asked && pull->setup->options.providers) {
                endpoint->has_asked = true;
                if (!providers_ask(pull, endpoint, err))
                        return false;
        }
        return endpoint->login < endpoint->count || endpoint->login == 0;
}

bool endpoint_refuse(const struct pull *pull, struct error *err)
{
        if (pull->trouble.code == ERROR_NONE || (err->code != ERROR_UNAUTHORIZED && err->code != ERROR_NOT_FOUND))
                return false;
        CLEANUP(cleanup_free) char *said = string_copy(err->text);
        unsigned retry_after_s = err->retry_after_s;
        refuse(err, err->code, "%.480s; besides, %s", said, pull->trouble.text);
        err->retry_after_s = retry_after_s;
        return false;
}
