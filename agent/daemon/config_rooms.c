/*
 * How it goes: each room's options struct is filled from the configuration's values; arrays that a room wants in its own shape are made here.
 * How it fails: it does not; the rooms check what they are given.
 * How it ends: everything is borrowed from the config or kept by it (config_keep), so it lives as long as the config.
 */
#include <wasmcached/api.h>
#include <wasmcached/fetch.h>
#include <wasmcached/kube.h>
#include <wasmcached/module.h>
#include <wasmcached/plugin/keeper.h>
#include <wasmcached/registry.h>
#include <wasmcached/serve.h>
#include <wasmcached/store.h>
#include "config.h"

void config_to_serve_limits(const struct config *config, struct serve_limits *ret_limits)
{
        *ret_limits = (struct serve_limits){
                .body_max_bytes = (size_t)config->limits.body_bytes,
                .header_max_bytes = (size_t)config->limits.headers_bytes,
                .connections_max = (unsigned)config->limits.connections,
                .connections_per_peer = (unsigned)config->limits.connections_per_peer,
                .waiting_per_peer = (unsigned)config->limits.waiting_per_peer,
                .idle_timeout_ms = config->limits.idle_timeout_ms,
                .write_timeout_ms = config->limits.write_timeout_ms,
        };
}

void config_to_store_options(const struct config *config, struct store_options *ret_options)
{
        *ret_options = (struct store_options){ .root = config->store.root };
}

static const char *or_null(const char *text)
{
        return *text ? text : NULL;
}

void config_to_fetch_options(struct config *config, struct fetch_options *ret_options)
{
        struct fetch_host *hosts = config_keep(config, memory_new(config->registry_count + 1, sizeof *hosts));
        for (size_t i = 0; i < config->registry_count; i++) {
                const struct config_registry *from = &config->registries[i];
                hosts[i] = (struct fetch_host){
                        .host = from->host,
                        .plain_http = from->plain_http,
                        .skip_verify = from->skip_verify,
                        .ca = or_null(from->ca),
                        .client_certificate = or_null(from->client_certificate),
                        .client_key = or_null(from->client_key),
                };
        }
        *ret_options = (struct fetch_options){
                .connect_timeout_ms = config->pull.connect_timeout_ms,
                .progress_timeout_ms = config->pull.progress_timeout_ms,
                .retries = (unsigned)config->pull.retries,
                .hosts = hosts,
                .host_count = config->registry_count,
                .block = config->network.block,
                .allow = config->network.allow,
                .http_proxy = config->network.http_proxy,
                .https_proxy = config->network.https_proxy,
                .no_proxy = config->network.no_proxy,
        };
}

void config_to_registry_options(struct config *config, struct registry_options *ret_options)
{
        size_t count = 0, used = 0;
        for (size_t i = 0; i < config->registry_count; i++)
                for (const char *const *realm = config->registries[i].token_realms; *realm; realm++)
                        count++;

        const char **pairs = config_keep(config, memory_new(count + 1, sizeof *pairs));
        for (size_t i = 0; i < config->registry_count; i++)
                for (const char *const *realm = config->registries[i].token_realms; *realm; realm++)
                        pairs[used++] = config_keep(config, string_format("%s %s", config->registries[i].host, *realm));
        *ret_options = (struct registry_options){ .realm_pairs = pairs };
}

/* Hosts of which registries says how they are reached; token_realms alone does not. */
static size_t collect_mirrors(const struct config *config, struct modules_mirrors *mirrors)
{
        size_t count = 0;
        for (size_t i = 0; i < config->registry_count; i++) {
                const struct config_registry *from = &config->registries[i];
                if (from->plain_http || from->skip_verify || *from->ca || *from->client_certificate || *from->mirrors)
                        mirrors[count++] = (struct modules_mirrors){ .host = from->host, .mirrors = from->mirrors };
        }
        return count;
}

void config_to_modules_options(struct config *config, const struct modules_trust *trust, struct modules_options *ret_options)
{
        struct modules_mirrors *mirrors = config_keep(config, memory_new(config->registry_count + 1, sizeof *mirrors));
        size_t mirror_count = collect_mirrors(config, mirrors);
        int64_t per_host = config->pull.slots_per_host < config->pull.slots ? config->pull.slots_per_host : config->pull.slots;
        *ret_options = (struct modules_options){
                .max_size_bytes = (uint64_t)config->store.max_size_bytes,
                .high_watermark = (unsigned)config->store.high_watermark,
                .low_watermark = (unsigned)config->store.low_watermark,
                .lease_ms = config->store.lease_time_ms,
                .scrub_rate_bytes = (uint64_t)config->store.scrub_rate_bytes,
                .slots = (unsigned)config->pull.slots,
                .slots_per_host = (unsigned)per_host,
                .pull_timeout_ms = config->pull.timeout_ms,
                .stale_if_error_ms = config->pull.stale_if_error_ms,
                .negative_ms = config->pull.negative_time_ms,
                .max_layer_bytes = (uint64_t)config->pull.max_layer_size_bytes,
                .max_module_bytes = (uint64_t)config->pull.max_module_size_bytes,
                .file_roots = config->files.roots,
                .trust = *trust,
                .secrets_dir = config->credentials.secrets_dir,
                .docker_config = config->credentials.docker_config,
                .mirrors = mirrors,
                .mirror_count = mirror_count,
                .waiters_max = (unsigned)config->limits.waiters,
        };
}

void config_to_keeper_options(const struct config *config, struct keeper_options *ret_options)
{
        *ret_options = (struct keeper_options){ .root_namespace = config->kubernetes.root_namespace, .node = config->kubernetes.node, .pulls_ahead = config->pull.ahead,
                .waiting_max = (unsigned)(config->limits.waiters + 1) / 2 };
}

bool config_to_kube_options(const struct config *config, struct kube_options *ret_options)
{
        *ret_options = (struct kube_options){
                .mode = config->kubernetes.mode == CONFIG_KUBERNETES_KUBECONFIG ? KUBE_KUBECONFIG : KUBE_IN_CLUSTER,
                .kubeconfig = config->kubernetes.kubeconfig,
                .connect_timeout_ms = config->pull.connect_timeout_ms,
        };
        return config->kubernetes.mode != CONFIG_KUBERNETES_OFF;
}

void config_to_listener(const struct config_listener *listener, struct api_listener *ret_listener)
{
        static const enum api_identity identities[] = {
                [CONFIG_IDENTITY_FIXED] = API_IDENTITY_FIXED, [CONFIG_IDENTITY_POD] = API_IDENTITY_POD, [CONFIG_IDENTITY_TRUSTED] = API_IDENTITY_TRUSTED,
        };
        *ret_listener = (struct api_listener){
                .kind = API_LISTENER_AGENT,
                .identity = identities[listener->identity],
                .namespace = listener->identity == CONFIG_IDENTITY_FIXED ? listener->namespace : NULL,
                .module_dir = listener->module_dir,
        };
}

/* The admin socket sees folders as the daemon does. */
void config_to_admin_listener(struct config *config, struct api_listener *ret_listener)
{
        const char *root = config->store.root;
        *ret_listener = (struct api_listener){
                .kind = API_LISTENER_ADMIN,
                .identity = API_IDENTITY_TRUSTED,
                .module_dir = config_keep(config, string_format("%s%smodules/{namespace}", root, string_ends_with(root, "/") ? "" : "/")),
        };
}

void config_to_metrics_listener(struct api_listener *ret_listener)
{
        *ret_listener = (struct api_listener){ .kind = API_LISTENER_METRICS, .identity = API_IDENTITY_FIXED, .namespace = "", .module_dir = "" };
}

void config_apply_log(const struct config *config)
{
        log_configure((enum log_level)config->log.level, (enum log_format)config->log.format);
}
