/*
 * How it goes: in-cluster from the environment and the service account's folder, or one kubeconfig: current-context names a context, that a cluster and a user.
 * How it fails: ERROR_BAD_REQUEST with file and field; what we would have to leave out of an identity (impersonation, passwords, auth-provider) is refused, not passed over.
 * How it ends: config_fini() wipes what is secret.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

#define BAD ERROR_BAD_REQUEST

static void source_fini(struct source *source)
{
        free(source->path);
        secret_free(&source->text);
        *source = (struct source){ 0 };
}

void config_fini(struct config *config)
{
        struct source *const sources[] = { &config->ca, &config->certificate, &config->key, &config->token };
        for (size_t i = 0; i < COUNT_OF(sources); i++)
                source_fini(sources[i]);
        free(config->origin);
        free(config->server);
        free(config->server_name);
        free(config->proxy);
        exec_plugin_free(&config->exec);
        *config = (struct config){ 0 };
}

bool config_read_in_cluster(const char *account_dir, struct config *ret_config, struct error *err)
{
        const char *host = getenv("KUBERNETES_SERVICE_HOST"), *port = getenv("KUBERNETES_SERVICE_PORT");
        const char *folder = account_dir && *account_dir ? account_dir : "/var/run/secrets/kubernetes.io/serviceaccount";
        if (!host || !*host || !port || !*port)
                return refuse(err, BAD, "kubernetes.mode in-cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; this is no pod, use mode kubeconfig");
        for (const char *c = host; *c; c++)
                if (!strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.:-", *c))
                        return refuse(err, BAD, "kubernetes.mode in-cluster: KUBERNETES_SERVICE_HOST is no host or address");
        char *end = NULL;
        unsigned long number = strtoul(port, &end, 10);
        if (*port < '0' || *port > '9' || *end || number == 0 || number > 65535)
                return refuse(err, BAD, "kubernetes.mode in-cluster: KUBERNETES_SERVICE_PORT is no port");

        bool v6 = strchr(host, ':') != NULL;
        *ret_config = (struct config){ .origin = string_copy(folder), .is_in_cluster = true,
                                       .server = string_format("https://%s%s%s:%lu", v6 ? "[" : "", host, v6 ? "]" : "", number),
                                       .ca.path = string_format("%s/ca.crt", folder), .token.path = string_format("%s/token", folder) };
        return true;
}

/* A path in a kubeconfig is relative to the kubeconfig. */
static char *path_join(const char *origin, const char *path)
{
        const char *slash = strrchr(origin, '/');
        return *path == '/' || !slash ? string_copy(path) : string_format("%.*s/%s", (int)(slash - origin), origin, path);
}

static bool text_read(const struct value *map, const char *name, char **ret_text, struct error *err)
{
        const char *text = NULL;
        if (!value_read_text(map, name, BAD, &text, err))
                return false;
        *ret_text = text && *text ? string_copy(text) : NULL;
        return true;
}

/* NAME-data (base64 of PEM) counts before the file NAME. */
static bool source_read(const struct config *config, const struct value *map, const char *name, struct source *ret_source, struct error *err)
{
        CLEANUP(cleanup_free) char *data_name = string_format("%s-data", name);
        CLEANUP(cleanup_free) char *path = NULL;
        const char *data = NULL;
        if (!value_read_text(map, data_name, BAD, &data, err) || !text_read(map, name, &path, err))
                return false;
        if (path)
                ret_source->path = path_join(config->origin, path);
        if (!data || !*data)
                return true;

        CLEANUP(buffer_fini_secret) struct buffer pem = { 0 };
        size_t length = strlen(data), size = 0;
        if (length > PEM_BYTES_MAX || !buffer_reserve(&pem, length / 4 * 3 + 4) || !base64_decode(data, length, false, pem.data, &size) || memchr(pem.data, '\0', size))
                return refuse(err, BAD, "%s is no base64 of a PEM text", data_name);
        ret_source->text = secret_new(pem.data, size);
        if (!strstr(secret_get_text(ret_source->text), "-----BEGIN "))
                return refuse(err, BAD, "%s holds no PEM (-----BEGIN …)", data_name);
        return true;
}

/* The entry {name: NAME, MEMBER: {…}} of a list of the kubeconfig. */
static bool entry_find(const struct value *document, const char *list, const char *member, const char *name, const struct value **ret_entry, struct error *err)
{
        const struct value *entries = NULL, *entry = NULL;
        char shown[128];
        string_printable(name, strlen(name), shown, sizeof shown);
        if (!value_read_list(document, list, BAD, &entries, err))
                return false;
        for (size_t i = 0; i < value_get_count(entries); i++) {
                const struct value *item = value_get_item(entries, i);
                if (!string_equal(value_get_text(value_get_member(item, "name")), name))
                        continue;
                if (!value_read_map(item, member, BAD, &entry, err))
                        return refuse_within(err, "%s[%zu]", list, i);
                *ret_entry = entry;
                return entry || refuse(err, BAD, "%s[%zu].%s (of \"%s\") is missing", list, i, member, shown);
        }
        return refuse(err, BAD, "%s has no entry with the name \"%s\"", list, shown);
}

/* Of "http://host:port", as fetch_url_origin() writes it. */
static bool is_loopback(const char *origin)
{
        const char *host = origin + strlen("http://");
        struct in_addr address;
        CLEANUP(cleanup_free) char *name = string_copy_bytes(host, *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":"));
        return strcmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0 || (inet_pton(AF_INET, name, &address) == 1 && ntohl(address.s_addr) >> 24 == 127);
}

/* http:// would show the token to the network; a proxy of kubectl on this host is all right. */
static bool server_check(const char *server, struct error *err)
{
        bool tls = string_starts_with_nocase(server, "https://");
        const char *host = strstr(server, "://");
        if (!host || strpbrk(server, "?#@") || (!tls && !string_starts_with_nocase(server, "http://")))
                return refuse(err, BAD, "server must be https://host[:port][/prefix]");
        CLEANUP(cleanup_free) char *origin = fetch_url_origin(server);
        if (!origin)
                return refuse(err, BAD, "server is no URL");
        if (!tls && !is_loopback(origin))
                return refuse(err, BAD, "server is plain http:// and not on this host: credentials would be readable on the network; use https://");
        return true;
}

static bool cluster_read(const struct value *cluster, struct config *config, struct error *err)
{
        if (!text_read(cluster, "server", &config->server, err) || !text_read(cluster, "tls-server-name", &config->server_name, err) ||
            !text_read(cluster, "proxy-url", &config->proxy, err) || !value_read_bool(cluster, "insecure-skip-tls-verify", BAD, &config->skip_verify, err) ||
            !source_read(config, cluster, "certificate-authority", &config->ca, err))
                return false;
        if (!config->server)
                return refuse(err, BAD, "server is missing");
        if (config->skip_verify && (config->ca.path || config->ca.text))
                return refuse(err, BAD, "insecure-skip-tls-verify and certificate-authority contradict each other");
        if (!server_check(config->server, err))
                return false;
        for (size_t length = strlen(config->server); length > 0 && config->server[length - 1] == '/';)
                config->server[--length] = '\0';
        return true;
}

static bool exec_variables_read(const struct value *list, struct exec_plugin *plugin, struct error *err)
{
        plugin->variables = memory_new(value_get_count(list) + 1, sizeof *plugin->variables);
        for (size_t i = 0; i < value_get_count(list); i++) {
                const char *name = value_get_text(value_get_member(value_get_item(list, i), "name")), *value = value_get_text(value_get_member(value_get_item(list, i), "value"));
                if (!name || !*name || strchr(name, '=') || !value)
                        return refuse(err, BAD, "exec.env[%zu] needs name and value", i);
                plugin->variables[plugin->variable_count++] = (struct variable){ string_copy(name), string_copy(value) };
        }
        return true;
}

static bool exec_arguments_read(const struct value *list, struct exec_plugin *plugin, struct error *err)
{
        plugin->arguments = memory_new(value_get_count(list) + 1, sizeof *plugin->arguments);
        for (size_t i = 0; i < value_get_count(list); i++) {
                const char *text = value_get_text(value_get_item(list, i));
                if (!text)
                        return refuse(err, BAD, "exec.args[%zu] must be of type string", i);
                plugin->arguments[plugin->argument_count++] = string_copy(text);
        }
        return true;
}

static bool exec_read(const struct value *exec, struct config *config, struct error *err)
{
        CLEANUP(cleanup_free) char *command = NULL, *mode = NULL;
        const struct value *arguments = NULL, *variables = NULL;
        struct exec_plugin *plugin = config->exec = memory_new(1, sizeof *plugin);
        if (!text_read(exec, "command", &command, err) || !text_read(exec, "apiVersion", &plugin->api_version, err) || !text_read(exec, "installHint", &plugin->hint, err) ||
            !text_read(exec, "interactiveMode", &mode, err) || !value_read_bool(exec, "provideClusterInfo", BAD, &plugin->wants_cluster, err) ||
            !value_read_list(exec, "args", BAD, &arguments, err) || !value_read_list(exec, "env", BAD, &variables, err))
                return refuse_within(err, "exec");
        if (!command)
                return refuse(err, BAD, "exec.command is missing");
        if (!string_equal(plugin->api_version, "client.authentication.k8s.io/v1") && !string_equal(plugin->api_version, "client.authentication.k8s.io/v1beta1"))
                return refuse(err, BAD, "exec.apiVersion must be client.authentication.k8s.io/v1");
        if (string_equal(mode, "Always"))
                return refuse(err, BAD, "exec.interactiveMode is Always, and a daemon has no terminal");
        plugin->command = strchr(command, '/') ? path_join(config->origin, command) : TAKE(command);
        return exec_arguments_read(arguments, plugin, err) && exec_variables_read(variables, plugin, err);
}

static bool user_read(const struct value *user, struct config *config, struct error *err)
{
        static const char *const unfit[] = { "username", "password", "auth-provider", "as", "as-uid", "as-groups", "as-user-extra" };
        const struct value *exec = NULL;
        const char *token = NULL;
        CLEANUP(cleanup_free) char *path = NULL;
        for (size_t i = 0; i < COUNT_OF(unfit); i++)
                if (value_get_kind(value_get_member(user, unfit[i])) != VALUE_NULL)
                        return refuse(err, BAD, "%s is not supported; use token, tokenFile, client-certificate or exec", unfit[i]);
        if (!value_read_text(user, "token", BAD, &token, err) || !text_read(user, "tokenFile", &path, err) || !value_read_map(user, "exec", BAD, &exec, err) ||
            !source_read(config, user, "client-certificate", &config->certificate, err) || !source_read(config, user, "client-key", &config->key, err))
                return false;
        bool has_certificate = config->certificate.path || config->certificate.text, has_key = config->key.path || config->key.text;
        if (has_certificate != has_key)
                return refuse(err, BAD, "%s is there without %s", has_key ? "client-key" : "client-certificate", has_key ? "client-certificate" : "client-key");
        config->token.path = path ? path_join(config->origin, path) : NULL;
        config->token.text = token && *token ? secret_new(token, strlen(token)) : NULL;
        return !exec || config->token.path || config->token.text || exec_read(exec, config, err);
}

static bool document_read(const struct value *document, struct config *config, struct error *err)
{
        CLEANUP(cleanup_free) char *current = NULL, *cluster_name = NULL, *user_name = NULL;
        const struct value *context = NULL, *cluster = NULL, *user = NULL;
        if (!text_read(document, "current-context", &current, err))
                return false;
        if (!current)
                return refuse(err, BAD, "current-context is missing");
        if (!entry_find(document, "contexts", "context", current, &context, err))
                return refuse_within(err, "current-context");
        if (!text_read(context, "cluster", &cluster_name, err) || !text_read(context, "user", &user_name, err))
                return refuse_within(err, "contexts: \"%s\"", current);
        if (!cluster_name)
                return refuse(err, BAD, "contexts: \"%s\": cluster is missing", current);
        if (!entry_find(document, "clusters", "cluster", cluster_name, &cluster, err))
                return false;
        if (!cluster_read(cluster, config, err))
                return refuse_within(err, "clusters: \"%s\"", cluster_name);
        if (!user_name)
                return true;               /* nobody: the server may allow it */
        if (!entry_find(document, "users", "user", user_name, &user, err))
                return false;
        return user_read(user, config, err) || refuse_within(err, "users: \"%s\"", user_name);
}

bool config_read_file(const char *path, struct config *ret_config, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        CLEANUP(value_free) struct value *document = NULL;
        CLEANUP(config_fini) struct config config = { .origin = string_copy(path) };
        if (!fs_load(AT_FDCWD, path, CONFIG_BYTES_MAX, &text, err)) {
                err->code = BAD;
                return refuse_within(err, "kubeconfig");
        }
        if (!yaml_parse(text.data ? text.data : "", text.used, BAD, &document, err) || !document_read(document, &config, err))
                return refuse_within(err, "kubeconfig %s", path);
        *ret_config = config;
        config = (struct config){ 0 };
        return true;
}
