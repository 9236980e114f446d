/*
 * How it goes: one line per option; everything said about options elsewhere (reading, bounds, printing, reload, manual) walks this table.
 * How it fails: it does not; a unit test reads every default through the same reader as the file.
 * How it ends: constant data.
 */
#include <string.h>
#include "option.h"

#define KIB (INT64_C(1) << 10)
#define MIB (INT64_C(1) << 20)
#define GIB (INT64_C(1) << 30)
#define TIB (INT64_C(1) << 40)
#define SECOND INT64_C(1000)
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)
#define YEAR (365 * 24 * HOUR)

#define AT(member) OPTION_ROOT, offsetof(struct config, member)
#define LISTENER(member) OPTION_LISTENER, offsetof(struct config_listener, member)
#define REGISTRY(member) OPTION_REGISTRY, offsetof(struct config_registry, member)
#define REQUIRE(member) OPTION_REQUIRE, offsetof(struct config_require, member)

const struct option option_table[] = {
        { "listeners[].path", OPTION_PATH, LISTENER(path), OPTION_REQUIRED, "\"\"", 0, 107, NULL,
          "Where the Unix socket is made. A left-over socket file of a dead daemon is replaced." },
        { "listeners[].mode", OPTION_MODE, LISTENER(mode), 0, "\"0666\"", 0, 0777, NULL, "Permissions of the socket file: who may connect." },
        { "listeners[].identity", OPTION_WORD, LISTENER(identity), 0, "fixed", 0, 0, "fixed|pod|trusted",
          "How callers get their namespace: fixed, all of them have the one of this listener; pod, the one of the pod that the connecting process runs in, by its cgroup, or by a "
          "service-account token in the request (kubernetes.mode), Pods being known from the Kubernetes API and from manifests; who is of none of them is refused, with "
          "busy until the API has listed them; trusted, the caller states it in the request." },
        { "listeners[].namespace", OPTION_LABEL, LISTENER(namespace), 0, "\"\"", 0, 63, NULL, "The namespace of all callers, with identity fixed; \"default\" when not given." },
        { "listeners[].module_dir", OPTION_TEMPLATE, LISTENER(module_dir), 0, "\"\"", 0, 0, NULL,
          "Where callers of this listener see the folder of their namespace, {namespace} being replaced; the start of every path they are told. When not given: the "
          "folder modules/{namespace} of store.root, "
          "which is right for callers that share the daemon's file system." },
        { "admin.path", OPTION_PATH, AT(admin.path), 0, "/run/wasmcached/admin.sock", 0, 107, NULL, "Unix socket for operators: every route, any namespace." },
        { "admin.mode", OPTION_MODE, AT(admin.mode), 0, "\"0600\"", 0, 0777, NULL, "Permissions of the admin socket. Who may connect may do everything." },
        { "metrics.address", OPTION_ADDRESS, AT(metrics.address), 0, "\"\"", 0, 0, NULL, "TCP address of the read-only listener for /metrics, /healthz and /readyz. Empty = off." },
        { "store.root", OPTION_PATH, AT(store.root), 0, "/var/lib/wasmcached", 0, 4000, NULL,
          "Folder of the store: blobs, index, and the folders of hard links that callers see. One daemon per folder." },
        { "store.max_size", OPTION_SIZE, AT(store.max_size_bytes), OPTION_RELOAD, "10GiB", MIB, 1024 * TIB, NULL,
          "Budget of the store. Modules that are leased, pinned or in use are never removed for it." },
        { "store.high_watermark", OPTION_PERCENT, AT(store.high_watermark), OPTION_RELOAD, "90", 1, 100, NULL,
          "Percent of max_size at which the least recently used modules are let go." },
        { "store.low_watermark", OPTION_PERCENT, AT(store.low_watermark), OPTION_RELOAD, "80", 1, 100, NULL,
          "Percent of max_size down to which they are let go; less than high_watermark." },
        { "store.lease_time", OPTION_TIME, AT(store.lease_time_ms), OPTION_RELOAD, "1h", SECOND, YEAR, NULL,
          "How long a path that was handed out stays valid without being asked for or renewed." },
        { "store.scrub_rate", OPTION_SIZE, AT(store.scrub_rate_bytes), OPTION_RELOAD, "8MiB", 0, 16 * GIB, NULL,
          "Bytes per second at which stored modules are re-hashed in the background. 0 = never." },
        { "pull.slots", OPTION_INT, AT(pull.slots), OPTION_RELOAD, "8", 1, 256, NULL, "Pulls that run at the same time; more wait their turn." },
        { "pull.slots_per_host", OPTION_INT, AT(pull.slots_per_host), OPTION_RELOAD, "4", 1, 256, NULL,
          "The same for one host, so that a slow one cannot take all. Never more than slots." },
        { "pull.timeout", OPTION_TIME, AT(pull.timeout_ms), OPTION_RELOAD, "5m", SECOND, 24 * HOUR, NULL, "Overall time of one pull. A caller's own timeout is its request's." },
        { "pull.connect_timeout", OPTION_TIME, AT(pull.connect_timeout_ms), OPTION_RELOAD, "10s", 100, 10 * MINUTE, NULL, "Time for name resolution, TCP and TLS." },
        { "pull.progress_timeout", OPTION_TIME, AT(pull.progress_timeout_ms), OPTION_RELOAD, "30s", 100, HOUR, NULL,
          "A transfer that brings nothing for so long is broken off (and tried again)." },
        { "pull.retries", OPTION_INT, AT(pull.retries), OPTION_RELOAD, "3", 0, 20, NULL, "Further tries of a request after broken connections, 408, 429 and 5xx answers." },
        { "pull.max_layer_size", OPTION_SIZE, AT(pull.max_layer_size_bytes), OPTION_RELOAD, "256MiB", KIB, 64 * GIB, NULL, "Largest layer or body that is downloaded." },
        { "pull.max_module_size", OPTION_SIZE, AT(pull.max_module_size_bytes), OPTION_RELOAD, "256MiB", KIB, 64 * GIB, NULL, "Largest module after unpacking." },
        { "pull.stale_if_error", OPTION_TIME, AT(pull.stale_if_error_ms), OPTION_RELOAD, "0s", 0, YEAR, NULL,
          "With the policy Always and an unreachable source, what was there is handed out if it was checked no longer ago than this. 0s = never, as in Kubernetes." },
        { "pull.negative_time", OPTION_TIME, AT(pull.negative_time_ms), OPTION_RELOAD, "10s", 0, HOUR, NULL,
          "How long a refusal is remembered before the source is asked again; grows when it repeats." },
        { "pull.ahead", OPTION_BOOL, AT(pull.ahead), OPTION_RELOAD, "true", 0, 0, NULL,
          "Modules of plugins that a Pod of this node selects are pulled before anybody asks for the Pod's chain. Otherwise the first question begins it." },
        { "registries{}.plain_http", OPTION_BOOL, REGISTRY(plain_http), OPTION_RELOAD, "false", 0, 0, NULL, "Speak http to this host. Loopback hosts may do so without it." },
        { "registries{}.skip_verify", OPTION_BOOL, REGISTRY(skip_verify), OPTION_RELOAD, "false", 0, 0, NULL, "Accept any TLS certificate from this host. For tests only." },
        { "registries{}.ca", OPTION_PATH, REGISTRY(ca), OPTION_RELOAD, "\"\"", 0, 4000, NULL, "PEM file of authorities for this host, besides the system's." },
        { "registries{}.client_certificate", OPTION_PATH, REGISTRY(client_certificate), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "PEM file with the certificate to show to this host; needs client_key." },
        { "registries{}.client_key", OPTION_PATH, REGISTRY(client_key), OPTION_RELOAD, "\"\"", 0, 4000, NULL, "PEM file with its private key." },
        { "registries{}.mirrors", OPTION_URL, REGISTRY(mirrors), OPTION_RELOAD | OPTION_LIST, "[]", 0, 0, NULL,
          "Asked in this order before the host itself, which is last. They get their own credentials, never the host's." },
        { "registries{}.token_realms", OPTION_HOST, REGISTRY(token_realms), OPTION_RELOAD | OPTION_LIST, "[]", 0, 0, NULL,
          "Other hosts whose token service may be given this host's credentials, when the host names it as its realm." },
        { "registries_dir", OPTION_PATH, AT(registries_dir), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "Folder in containerd's certs.d layout: <host[:port]>/hosts.toml (server, host tables with capabilities, ca, client, skip_verify, header, override_path, "
          "dial_timeout), or *.crt, *.cert and *.key; _default is for hosts without a folder. Not for hosts of which registries says more than token_realms. Read at start "
          "and at each reload; a folder with a mistake refuses its own host only." },
        { "files.roots", OPTION_PATH, AT(files.roots), OPTION_RELOAD | OPTION_LIST, "[]", 0, 4000, NULL, "Folders below which file:// may read. None = file:// is refused." },
        { "network.block", OPTION_CIDR, AT(network.block), OPTION_RELOAD | OPTION_LIST, "[]", 0, 0, NULL,
          "Addresses that are never connected to, besides link-local and metadata addresses, which are always blocked unless allowed." },
        { "network.allow", OPTION_CIDR, AT(network.allow), OPTION_RELOAD | OPTION_LIST, "[]", 0, 0, NULL, "Addresses that are allowed whatever else blocks them." },
        { "network.http_proxy", OPTION_PROXY, AT(network.http_proxy), OPTION_RELOAD, "\"\"", 0, 0, NULL, "Proxy for http. Empty = the environment's HTTP_PROXY." },
        { "network.https_proxy", OPTION_PROXY, AT(network.https_proxy), OPTION_RELOAD, "\"\"", 0, 0, NULL, "Proxy for https. Empty = the environment's HTTPS_PROXY." },
        { "network.no_proxy", OPTION_TEXT, AT(network.no_proxy), OPTION_RELOAD, "\"\"", 0, 0, NULL,
          "Hosts, suffixes, addresses and CIDRs, comma-separated, that are reached without a proxy. Empty = the environment's NO_PROXY." },
        { "credentials.secrets_dir", OPTION_PATH, AT(credentials.secrets_dir), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "Folder of mounted pull secrets: <namespace>/<name>/.dockerconfigjson or .dockercfg. Read anew for every pull." },
        { "credentials.docker_config", OPTION_PATH, AT(credentials.docker_config), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "The node's own docker config, used for requests of every namespace." },
        { "credentials.provider_config", OPTION_PATH, AT(credentials.provider_config), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "The kubelet's CredentialProviderConfig (kubelet.config.k8s.io/v1), a file or a folder of them: programs that are asked for logins when neither the request's secret nor "
          "docker_config helps. For requests of every namespace; needs provider_bin_dir. Read at start and at each reload, which forgets cached logins." },
        { "credentials.provider_bin_dir", OPTION_PATH, AT(credentials.provider_bin_dir), OPTION_RELOAD, "\"\"", 0, 4000, NULL,
          "Folder of the programs that provider_config names. They run as the daemon's user, with its environment, and must not be writable by everybody." },
        { "trust.formats", OPTION_WORD, AT(trust.formats), OPTION_LIST | OPTION_RELOAD, "[bundle, simple, embedded, detached, raw]", 0, 0,
          "bundle|simple|embedded|detached|raw|legacy-bundle|wasmsign1|minisign|rsa-pss|message-signature-oci",
          "Signature formats that count. bundle: cosign v3, Sigstore bundles; simple: cosign classic, skopeo; embedded, detached: wasmsign2; raw: openssl, cosign sign-blob." },
        { "trust.predicates", OPTION_TEXT, AT(trust.predicates), OPTION_LIST | OPTION_RELOAD, "[\"https://sigstore.dev/cosign/sign/v1\"]", 0, 0, NULL,
          "Predicate types of attestations that count as a signature." },
        { "trust.rekor_keys", OPTION_PATH, AT(trust.rekor_keys), OPTION_LIST | OPTION_RELOAD, "[]", 0, 4000, NULL,
          "PEM files with the public keys of transparency logs (Rekor). Not empty: a signature counts only with a valid entry of one of them, checked offline." },
        { "trust.signature_repository", OPTION_REPOSITORY, AT(trust.signature_repository), OPTION_RELOAD, "\"\"", 0, 0, NULL,
          "host/path where the signatures of all images lie, if not beside them (COSIGN_REPOSITORY). Asked with the credentials that fit it." },
        { "trust.require_top_level_signature", OPTION_BOOL, AT(trust.require_top_level_signature), OPTION_RELOAD, "false", 0, 0, NULL,
          "For an index, only a signature of the index itself counts, not one of the image in it." },
        { "trust.require[].match", OPTION_TEXT, REQUIRE(match), OPTION_REQUIRED | OPTION_RELOAD, "\"\"", 0, 0, NULL,
          "Repositories (host/path, of http(s) too) that this requirement is for, with *. Whatever a request says, what matches is handed out only with a signature." },
        { "trust.require[].keys", OPTION_PATH, REQUIRE(keys), OPTION_LIST | OPTION_RELOAD, "[]", 0, 4000, NULL,
          "PEM files with public keys, at most 8 keys in all; one of them must have signed." },
        { "trust.require[].annotations", OPTION_TEXT_MAP, REQUIRE(annotations), OPTION_RELOAD, "{}", 0, 0, NULL,
          "Annotations that the signature must carry, as `cosign sign -a NAME=VALUE` writes them." },
        { "trust.require[].identity", OPTION_WORD, REQUIRE(identity), OPTION_RELOAD, "ignore", 0, 0, "ignore|repository|exact",
          "How the name in the signature is compared with the one asked for: repository (host/path), exact (tag too). Only format simple has one." },
        { "kubernetes.mode", OPTION_WORD, AT(kubernetes.mode), 0, "off", 0, 0, "off|in-cluster|kubeconfig",
          "How the Kubernetes API is reached, which gives plugins, Pods and Secrets and reviews the tokens of callers (listeners[].identity pod): in-cluster, with the service "
          "account of the daemon's pod; kubeconfig, with the file below. It need not be there at the start." },
        { "kubernetes.kubeconfig", OPTION_PATH, AT(kubernetes.kubeconfig), 0, "\"\"", 0, 4000, NULL, "The file for mode kubeconfig." },
        { "kubernetes.node", OPTION_TEXT, AT(kubernetes.node), 0, "\"\"", 0, 253, NULL,
          "Name of this node: its Pods are watched, so that what they need is pulled before they ask; Pods of other nodes are left out, also those in manifests, and tokens of "
          "their pods refused. When not given: with a mode other than off what the environment variable NODE_NAME says, else no Pod is asked for and all in manifests count." },
        { "kubernetes.events", OPTION_BOOL, AT(kubernetes.events), 0, "true", 0, 0, NULL,
          "Write Events on WasmPlugins and TrafficExtensions that the API gave and that are meant for a Pod of this node: pulled, refused, recovered." },
        { "kubernetes.token_audience", OPTION_TEXT, AT(kubernetes.token_audience), 0, "wasmcached", 0, 0, NULL,
          "The audience that a caller's service-account token must be for: that of its projected volume. Not the API server's own, or every pod's default token would do." },
        { "kubernetes.root_namespace", OPTION_LABEL, AT(kubernetes.root_namespace), 0, "istio-system", 0, 63, NULL,
          "Namespace whose WasmPlugins and TrafficExtensions are for the workloads of all namespaces." },
        { "manifests", OPTION_PATH, AT(manifests), 0, "\"\"", 0, 4000, NULL,
          "Folder of *.yaml and *.yml files with WasmPlugin, TrafficExtension, Secret and Pod objects, watched: what is in it is in force within a second. Until it has "
          "been read, chains are answered with 503. Empty = none." },
        { "log.level", OPTION_WORD, AT(log.level), OPTION_RELOAD, "info", 0, 0, "debug|info|warn|error|off", "The least that is logged." },
        { "log.format", OPTION_WORD, AT(log.format), OPTION_RELOAD, "logfmt", 0, 0, "logfmt|json", "One line per event on stderr, in this form." },
        { "limits.body", OPTION_SIZE, AT(limits.body_bytes), OPTION_RELOAD, "1MiB", KIB, 64 * MIB, NULL, "Largest request body; more is answered with 413." },
        { "limits.headers", OPTION_SIZE, AT(limits.headers_bytes), 0, "8KiB", 4 * KIB, MIB, NULL,
          "Largest request line and headers together; more is answered with 431. Each connection holds that much memory, and clears it for each request." },
        { "limits.connections", OPTION_INT, AT(limits.connections), OPTION_RELOAD, "4096", 1, 65536, NULL,
          "Connections of all listeners together; when reached, further ones wait to be accepted. Each listener, so also the admin socket, has a sixteenth of so many whatever "
          "the others have." },
        { "limits.connections_per_peer", OPTION_INT, AT(limits.connections_per_peer), OPTION_RELOAD, "1024", 1, 65536, NULL,
          "Connections of one process (one pod with identity pod, one address on TCP); further ones are answered with 503." },
        { "limits.waiters", OPTION_INT, AT(limits.waiters), OPTION_RELOAD, "8192", 1, 1000000, NULL,
          "Requests of all callers together that wait for a pull; further ones are answered with 503 busy." },
        { "limits.waiting_per_peer", OPTION_INT, AT(limits.waiting_per_peer), OPTION_RELOAD, "1024", 1, 65536, NULL,
          "The same for one process, or one pod; further ones are answered with 429." },
        { "limits.idle_timeout", OPTION_TIME, AT(limits.idle_timeout_ms), OPTION_RELOAD, "60s", 100, 24 * HOUR, NULL,
          "A connection without a request, or with one that does not arrive completely, is closed after this." },
        { "limits.write_timeout", OPTION_TIME, AT(limits.write_timeout_ms), OPTION_RELOAD, "30s", 100, HOUR, NULL,
          "A client that takes nothing of its answer for so long is dropped." },
};
const size_t option_count = COUNT_OF(option_table);

#define ITEMS(member, count, item) offsetof(struct config, member), offsetof(struct config, count), sizeof(struct item)

const struct option_group option_groups[] = {
        { "listeners", OPTION_LISTENER, false, ITEMS(listeners, listener_count, config_listener), 64, "[{path: /run/wasmcached/agent.sock}]",
          "Sockets for proxies, one entry each." },
        { "registries", OPTION_REGISTRY, true, ITEMS(registries, registry_count, config_registry), 4096, "{}",
          "How single hosts are reached; the key is host[:port] as written in references." },
        { "trust.require", OPTION_REQUIRE, false, ITEMS(trust.require, trust.require_count, config_require), 1024, "[]",
          "Signatures that this node demands, whatever a request says." },
};
const size_t option_group_count = COUNT_OF(option_groups);

const struct option_section option_sections[] = {
        { "admin", "The socket for operators and wasmcachectl." },
        { "metrics", "Listener for Prometheus and probes." },
        { "store", "Where modules lie, how many, how long." },
        { "pull", "How modules are fetched." },
        { "files", "Sources with file://." },
        { "network", "Which addresses may be connected to, and proxies." },
        { "credentials", "Where pull secrets come from." },
        { "trust", "Which signatures count, and where they are demanded." },
        { "kubernetes", "What is known of the cluster, and how its API is reached." },
        { "log", "What is told on stderr." },
        { "limits", "What one caller, and all together, may take of the daemon." },
};
const size_t option_section_count = COUNT_OF(option_sections);

const struct option_type_row option_types[OPTION_TYPES] = {
        [OPTION_BOOL] = { "boolean", "true, false" },
        [OPTION_INT] = { "number", "a whole number" },
        [OPTION_PERCENT] = { "percent", "a whole number" },
        [OPTION_SIZE] = { "size", "a size like 512KiB, 10GiB" },
        [OPTION_TIME] = { "time", "a time like 300ms, 30s, 1h30m" },
        [OPTION_MODE] = { "mode", "octal permissions in quotes, \"0000\" to \"0777\"" },
        [OPTION_WORD] = { "word", NULL },
        [OPTION_TEXT] = { "text", "a text on one line" },
        [OPTION_PATH] = { "path", "an absolute path without . or .. parts" },
        [OPTION_TEMPLATE] = { "path", "an absolute path in which only {namespace} is replaced" },
        [OPTION_LABEL] = { "namespace", "a DNS label: at most 63 of a-z, 0-9 and -, neither first nor last a -" },
        [OPTION_ADDRESS] = { "address", "host:port, the host being localhost, an IPv4 address or an IPv6 address in []" },
        [OPTION_PROXY] = { "URL", "http://host:port or https://host:port, with user:password@ if need be" },
        [OPTION_URL] = { "URL", "http:// or https:// with host, port and path; no userinfo, query or fragment" },
        [OPTION_CIDR] = { "CIDR", "an address or network like 10.0.0.0/8, fd00::/8" },
        [OPTION_HOST] = { "host", "host[:port] in lower case, without a scheme" },
        [OPTION_REPOSITORY] = { "repository", "host[:port]/path in lower case, without a scheme, tag or digest" },
        [OPTION_TEXT_MAP] = { "map", "a map of texts" },
};

const struct option_group *option_find_group(const char *path)
{
        for (size_t i = 0; i < option_group_count; i++)
                if (string_equal(option_groups[i].path, path))
                        return &option_groups[i];
        return NULL;
}

/* "store.root" below "" is the child "store" with the prefix "store."; "trust.require[].keys" below "trust." is the group "require" with the prefix "trust.require[].". */
static void child_fill(const struct option *option, const char *prefix, struct option_child *ret_child)
{
        const char *rest = option->path + strlen(prefix);
        size_t length = strcspn(rest, ".[{");
        *ret_child = (struct option_child){ .kind = rest[length] == '\0' ? CHILD_OPTION : rest[length] == '.' ? CHILD_SECTION : CHILD_GROUP, .option = option };
        memcpy(ret_child->name, rest, length);
        if (ret_child->kind == CHILD_OPTION)
                return;

        size_t up_to = strlen(prefix) + length;
        memcpy(ret_child->prefix, option->path, up_to);
        if (ret_child->kind == CHILD_GROUP)
                ret_child->group = option_find_group(ret_child->prefix);
        memcpy(ret_child->prefix, option->path, up_to + (ret_child->kind == CHILD_GROUP ? 3 : 1));
}

bool option_next_child(const char *prefix, size_t *index, struct option_child *ret_child)
{
        while (*index < option_count && !string_starts_with(option_table[*index].path, prefix))
                ++*index;
        if (*index == option_count)
                return false;

        child_fill(&option_table[*index], prefix, ret_child);
        if (ret_child->kind == CHILD_OPTION)
                ++*index;
        else
                while (*index < option_count && string_starts_with(option_table[*index].path, ret_child->prefix))
                        ++*index;
        return true;
}

static size_t *group_count(const struct option_group *group, const struct config *config)
{
        return (size_t *)(void *)((char *)(uintptr_t)config + group->count_offset);
}

size_t option_group_count_items(const struct option_group *group, const struct config *config)
{
        return *group_count(group, config);
}

void *option_group_item(const struct option_group *group, const struct config *config, size_t index)
{
        char *items;
        memcpy(&items, (const char *)config + group->offset, sizeof items);
        return items + index * group->item_bytes;
}
