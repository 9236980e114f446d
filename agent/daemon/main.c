/*
 * How it goes: options are read by one table; the daemon runs in the foreground, logs to stderr and leaves the rest to its service manager.
 * How it fails: usage and configuration errors are one line and exit code 2.
 * How it ends: with the daemon's exit code.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <wasmcached/fetch.h>
#include <wasmcached/module.h>
#include "config.h"
#include "daemon.h"

static const struct option_row { const char *name, *argument, *help; } options[] = {
        { "--config", "FILE", "configuration (default: $WASMCACHED_CONFIG, else " CONFIG_FILE_DEFAULT ", which may be absent)" },
        { "--check-config", NULL, "reads the configuration, says what is wrong with it, and ends" },
        { "--print-config", NULL, "prints the effective configuration as YAML, every option with its default and meaning" },
        { "--print-manual", NULL, "prints wasmcached.yaml(5), made from the table of options" },
        { "--version", NULL, "prints the version" },
        { "--help", NULL, "prints this" },
};

/* Output that did not arrive is a failure: `--print-config >FILE` on a full disk. */
static int output_end(void)
{
        if (fflush(stdout) == 0 && !ferror(stdout))
                return DAEMON_EXIT_OK;
        fprintf(stderr, "wasmcached: standard output cannot be written: %s\n", strerror(errno));
        return DAEMON_EXIT_FAILED;
}

static int help_print(void)
{
        puts("wasmcached: pulls Wasm modules for local proxies once, proves them, keeps them, and hands out file paths over a Unix socket\n\n"
             "usage: wasmcached [--config FILE] [--check-config | --print-config]\n");
        for (size_t i = 0; i < COUNT_OF(options); i++) {
                char left[40];

                snprintf(left, sizeof left, "%s%s%s", options[i].name, options[i].argument ? " " : "", options[i].argument ? options[i].argument : "");
                printf("  %-18s %s\n", left, options[i].help);
        }
        puts("\nsignals: SIGHUP reads the configuration anew; SIGTERM, SIGINT stop, a second one at once\n"
             "exit:    0 stopped in order, 1 failed, 2 usage or configuration, 3 the store is in use by another daemon\n"
             "see:     wasmcached(8), wasmcached.yaml(5), wasmcachectl(1)");
        return output_end();
}

static int usage(const char *word, const char *problem)
{
        fprintf(stderr, "wasmcached: %s: %s; see wasmcached --help\n", word, problem);
        return DAEMON_EXIT_USAGE;
}

static bool is_absent(const char *option, const char *path)
{
        if (!*path || access(path, F_OK) == 0 || (errno != ENOENT && errno != ENOTDIR))
                return false;
        fprintf(stderr, "wasmcached: %s: there is no %s (the daemon will not start without it)\n", option, path);
        return true;
}

static bool is_absent_of(const struct config_registry *registry, const char *option, const char *path)
{
        CLEANUP(cleanup_free) char *name = string_format("registries.\"%s\".%s", registry->host, option);
        return is_absent(name, path);
}

/* Keys and certificates may be mounted later, where this is only a check; what is there must be good. */
static bool files_check(struct config *config, struct error *err)
{
        CLEANUP(config_trust_fini) struct modules_trust trust = { 0 };
        CLEANUP(fetch_client_unref) struct fetch_client *client = NULL;
        struct fetch_options fetch;

        if (!config_load_trust(config, &trust, err)) {
                if (err->code != ERROR_NOT_FOUND)
                        return false;
                fprintf(stderr, "wasmcached: %s (the daemon will not start without it)\n", err->text);
        }
        for (size_t i = 0; i < config->registry_count; i++) {
                struct config_registry *registry = &config->registries[i];
                bool has_no_key = is_absent_of(registry, "client_key", registry->client_key);

                if (is_absent_of(registry, "ca", registry->ca))
                        registry->ca = "";
                if (is_absent_of(registry, "client_certificate", registry->client_certificate) || has_no_key)
                        registry->client_certificate = registry->client_key = "";
        }
        is_absent("credentials.provider_config", config->credentials.provider_config);
        if (config->kubernetes.mode == CONFIG_KUBERNETES_KUBECONFIG)
                is_absent("kubernetes.kubeconfig", config->kubernetes.kubeconfig);
        config_to_fetch_options(config, &fetch);
        return fetch_client_new(&fetch, &client, err);
}

/* --check-config, --print-config, --print-manual */
static int config_show(const char *path, const char *action)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        CLEANUP(config_free) struct config *config = NULL;
        struct error err;

        if (strcmp(action, "--print-manual") == 0) {
                config_print_manual(&text);
        } else if (!config_load(path, &config, &err)) {
                fprintf(stderr, "wasmcached: %s\n", err.text);
                return DAEMON_EXIT_USAGE;
        } else if (strcmp(action, "--print-config") == 0) {
                config_print_yaml(config, &text);
        } else {
                const char *file = path ? path : CONFIG_FILE_DEFAULT;
                if (!files_check(config, &err)) {
                        fprintf(stderr, "wasmcached: %s: %s\n", file, err.text);
                        return DAEMON_EXIT_USAGE;
                }
                buffer_printf(&text, path || access(file, F_OK) == 0 ? "%s: the configuration is good\n" : "%s: there is no such file: all options have their defaults\n", file);
        }
        fputs(text.data ? text.data : "", stdout);
        return output_end();
}

static bool option_take(int argc, char **argv, int *at, const char **ret_name, const char **ret_argument)
{
        for (size_t i = 0; i < COUNT_OF(options); i++) {
                size_t length = strlen(options[i].name);

                if (strncmp(argv[*at], options[i].name, length) != 0)
                        continue;
                *ret_name = options[i].name;
                *ret_argument = options[i].argument && argv[*at][length] == '=' ? argv[*at] + length + 1 : NULL;
                if (*ret_argument)
                        return true;
                if (argv[*at][length] != '\0')
                        continue;
                if (options[i].argument)
                        *ret_argument = *at + 1 < argc ? argv[++*at] : NULL;
                return true;
        }
        return false;
}

int main(int argc, char **argv)
{
        const char *path = getenv("WASMCACHED_CONFIG"), *action = NULL;

        json_start_wiping();
        if (path && !*path)
                path = NULL;
        for (int i = 1; i < argc; i++) {
                const char *name, *argument;

                if (!option_take(argc, argv, &i, &name, &argument))
                        return usage(argv[i], "unknown argument");
                if (strcmp(name, "--config") == 0 && (!argument || !*argument))
                        return usage(name, "needs a file");
                if (strcmp(name, "--config") == 0)
                        path = argument;
                else
                        action = name;
        }
        if (!action)
                return (int)daemon_run(path);
        if (strcmp(action, "--help") == 0)
                return help_print();
        if (strcmp(action, "--version") == 0)
                return puts("wasmcached " WASMCACHED_VERSION) < 0 ? DAEMON_EXIT_FAILED : output_end();
        return config_show(path, action);
}
