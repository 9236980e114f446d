/*
 * How it goes: the one table of commands. --help, the list of commands, usage errors, the nearest name and completion are read from it.
 * How it fails: it does not.
 * How it ends: it does not.
 */
#include <string.h>
#include "ctl.h"

enum {
        REQUEST_OPTIONS = OPTION_BIT(OPTION_SHA256) | OPTION_BIT(OPTION_POLICY) | OPTION_BIT(OPTION_SECRET) | OPTION_BIT(OPTION_PULL_SECRET_FILE) | OPTION_BIT(OPTION_NAMESPACE) |
                OPTION_BIT(OPTION_KEY) | OPTION_BIT(OPTION_TIMEOUT) | OPTION_BIT(OPTION_RESOURCE),
        WORKLOAD_OPTIONS = OPTION_BIT(OPTION_NAMESPACE) | OPTION_BIT(OPTION_LABEL) | OPTION_BIT(OPTION_DIRECTION) | OPTION_BIT(OPTION_PORT) | OPTION_BIT(OPTION_TYPE) |
                OPTION_BIT(OPTION_SERVICE) | OPTION_BIT(OPTION_SERVICE_ENTRY),
};

const struct command command_rows[] = {
        { "get", "URL", "get a module and print its path", 1, 1, REQUEST_OPTIONS | OPTION_BIT(OPTION_NO_PROGRESS), SOCKET_ANY, command_get,
          { "get oci://registry.example/team/authz:v1", "get registry.example/team/authz@sha256:…  # no scheme means OCI",
            "get https://files.example/authz.wasm --sha256 4a1f…", "get registry.example/team/authz:v1 --key cosign.pub  # only if this key has signed it" },
          "URL is oci://, http://, https://, file:// or an OCI reference without a scheme. Nothing but the path goes to standard output.\n"
          "A pull that outlives --timeout goes on in the daemon." },
        { "verify-signature", "REF|FILE", "try a key on the signatures of a source; nothing is kept", 1, 1,
          REQUEST_OPTIONS & ~(OPTION_BIT(OPTION_POLICY) | OPTION_BIT(OPTION_RESOURCE)), SOCKET_ADMIN, command_verify_signature,
          { "verify-signature registry.example/team/authz:v1 --key cosign.pub", "verify-signature ./authz.wasm --key key.pub  # with authz.wasm.sig beside it" },
          "A dry run, before a key is rolled out: the same look-ups and checks as get --key. The exit status is 0 if it is verified, 1 if it is refused." },
        { "ls", "", "list the modules that are here", 0, 0, 0, SOCKET_ANY, command_ls, { "ls", "ls -o json | jq -r '.modules[].path'" }, NULL },
        { "inspect", "REF|SHA", "everything known of one module", 1, 1, 0, SOCKET_ADMIN, command_inspect,
          { "inspect registry.example/team/authz:v1", "inspect 4a1f09c2  # a unique prefix of 8 or more" }, NULL },
        { "plugins", "", "the chain of WasmPlugins of a workload", 0, 0, WORKLOAD_OPTIONS, SOCKET_ANY, command_plugins,
          { "plugins -n team-a -l app=web", "plugins -n team-a -l app=web --direction inbound --port 8080 -o json" },
          "In the order in which they run. On a socket of one namespace -n is not needed." },
        { "resources", "", "the WasmPlugins and TrafficExtensions that were read, with their problems", 0, 0,
          OPTION_BIT(OPTION_NAMESPACE) | OPTION_BIT(OPTION_ALL_NAMESPACES), SOCKET_ADMIN, command_resources, { "resources -A", "resources -n team-a" },
          "Of all namespaces without -n. Files, Secrets and Pods are listed where something is wrong with them; files only without -n." },
        { "explain", "[URL]", "tell why a request would hit, miss or be refused, or why a plugin reaches a workload or not", 0, 1,
          REQUEST_OPTIONS | WORKLOAD_OPTIONS | OPTION_BIT(OPTION_PLUGIN), SOCKET_ADMIN, command_explain,
          { "explain registry.example/team/authz:v1 -n team-a --secret pull", "explain --plugin istio-system/authz -n team-a -l app=web" },
          "Nothing is changed and no registry is asked. The exit status is 0 whenever there is an explanation." },
        { "refresh", "[URL...]", "forget refusals and ask the source again, of every reference without URL", 0, ARGUMENTS_MAX, 0, SOCKET_ADMIN, command_refresh,
          { "refresh registry.example/team/authz:v1", "refresh" }, NULL },
        { "rm", "REF|SHA...", "remove modules that nobody uses", 1, ARGUMENTS_MAX, 0, SOCKET_ADMIN, command_rm, { "rm registry.example/team/old:v1" }, NULL },
        { "pin", "REF|SHA...", "keep modules whatever the store's budget says", 1, ARGUMENTS_MAX, 0, SOCKET_ADMIN, command_pin, { "pin registry.example/team/authz:v1" }, NULL },
        { "unpin", "REF|SHA...", "let modules go when room is needed", 1, ARGUMENTS_MAX, 0, SOCKET_ADMIN, command_unpin, { "unpin 4a1f09c2" }, NULL },
        { "gc", "", "remove what is unused, down to the low watermark", 0, 0, OPTION_BIT(OPTION_DRY_RUN), SOCKET_ADMIN, command_gc, { "gc --dry-run", "gc" }, NULL },
        { "verify", "[REF|SHA]", "re-hash the store; damaged modules are set aside and pulled again", 0, 1, 0, SOCKET_ADMIN, command_verify, { "verify", "verify 4a1f09c2" },
          "The exit status is 1 when something was damaged." },
        { "events", "", "what happened: pulled, refused, evicted, reloaded", 0, 0, OPTION_BIT(OPTION_FOLLOW), SOCKET_ANY, command_events, { "events", "events -f -o json" }, NULL },
        { "status", "", "how the daemon is", 0, 0, 0, SOCKET_ADMIN, command_status, { "status", "status -o json" }, NULL },
        { "config", "", "the configuration in force", 0, 0, 0, SOCKET_ADMIN, command_config, { "config -o yaml" }, NULL },
        { "reload", "", "read the configuration file again", 0, 0, 0, SOCKET_ADMIN, command_reload, { "reload" }, "A file with an error changes nothing." },
        { "import", "PATH", "take modules from an OCI image layout, folder or .tar", 1, 1, OPTION_BIT(OPTION_URL), SOCKET_ADMIN, command_import,
          { "import authz.tar", "import ./layout --url registry.example/team/authz:v1" },
          "Every digest and size is checked. Each module gets the name that the layout gives it (org.opencontainers.image.ref.name), or --url." },
        { "export", "REF|SHA PATH", "write a module as an OCI image layout, folder or .tar", 2, 2, OPTION_BIT(OPTION_URL), SOCKET_ADMIN, command_export,
          { "export registry.example/team/authz:v1 authz.tar", "export 4a1f09c2 ./layout --url registry.example/team/authz:v1" },
          "PATH ends in .tar for an archive, everything else is a folder; it must not be there yet. The same module gives the same bytes." },
        { "version", "", "versions of this program and of the daemon", 0, 0, 0, SOCKET_NONE, command_version, { "version" }, NULL },
        { "help", "[COMMAND]", "this list, or the help of one command", 0, 1, 0, SOCKET_NONE, command_help, { "help get" }, NULL },
};
const size_t command_count = COUNT_OF(command_rows);

const struct command *command_find(const char *name)
{
        for (size_t i = 0; i < command_count; i++)
                if (strcmp(command_rows[i].name, name) == 0)
                        return &command_rows[i];
        return NULL;
}
