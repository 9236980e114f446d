/*
 * How it goes: a fixed head and foot round the option table, in mdoc(7); one tagged entry per option.
 * How it fails: it does not.
 * How it ends: text in the caller's buffer.
 */
#include <string.h>
#include "option.h"

static const char HEAD[] =
        ".\\\" Made by `wasmcached --print-manual` from the table of options.\n"
        ".Dd November 30, 2026\n"
        ".Dt WASMCACHED.YAML 5\n"
        ".Os\n"
        ".Sh NAME\n"
        ".Nm wasmcached.yaml\n"
        ".Nd configuration of wasmcached\n"
        ".Sh DESCRIPTION\n"
        "The configuration of\n"
        ".Xr wasmcached 8\n"
        "is one YAML document.\n"
        "Every key may be left out; a file that is empty, or no file at all, makes a working daemon with the defaults named here.\n"
        "Unknown keys and values that do not fit are refused with file, line and key; a running daemon then keeps what it had.\n"
        ".Pp\n"
        "Sizes are written like 512KiB or 10GiB, times like 300ms, 30s or 1h30m, permissions as octal digits in quotes.\n"
        "Keys that are applied by reload are so by SIGHUP and by\n"
        ".Ql wasmcachectl reload ;\n"
        "the others need a restart, and reload says which of them changed.\n";

static const char FOOT[] =
        ".Sh FILES\n"
        ".Bl -tag -width Ds\n"
        ".It Pa /etc/wasmcached/config.yaml\n"
        "Read when neither\n"
        ".Fl Fl config\n"
        "nor\n"
        ".Ev WASMCACHED_CONFIG\n"
        "names another.\n"
        ".El\n"
        ".Sh EXAMPLES\n"
        "A registry on the local network with its own certificate authority, pull secrets from a folder, and metrics for Prometheus:\n"
        ".Bd -literal -offset indent\n"
        "metrics: {address: \"127.0.0.1:9464\"}\n"
        "store:\n"
        "  max_size: 2GiB\n"
        "registries:\n"
        "  \"registry.example:5000\":\n"
        "    ca: /etc/wasmcached/registry-ca.pem\n"
        "    mirrors: [\"https://mirror.example/prefix\"]\n"
        "credentials:\n"
        "  secrets_dir: /etc/wasmcached/secrets\n"
        ".Ed\n"
        ".Pp\n"
        "A node of a cluster: plugins, Pods and pull secrets of the Kubernetes API, and callers known by the pod that they run in:\n"
        ".Bd -literal -offset indent\n"
        "kubernetes: {mode: in-cluster}    # its name: NODE_NAME\n"
        "listeners:\n"
        "  - path: /run/wasmcached/agent.sock\n"
        "    identity: pod\n"
        "    module_dir: /modules\n"
        ".Ed\n"
        ".Pp\n"
        "A node without a cluster, whose plugins, Pods and Secrets are files:\n"
        ".Dl manifests: /etc/wasmcached/manifests\n"
        ".Pp\n"
        "The whole configuration in effect, with comments:\n"
        ".Dl wasmcached --print-config\n"
        ".Sh SEE ALSO\n"
        ".Xr wasmcachectl 1 ,\n"
        ".Xr wasmcached 8\n";

/* Text for roff: backslashes doubled, no line that starts as a request, sentences on lines of their own. */
static void put_prose(struct buffer *out, const char *text)
{
        bool at_start = true;
        for (; *text; text++) {
                if (at_start && (*text == '.' || *text == '\''))
                        buffer_append_text(out, "\\&");
                at_start = false;
                if (*text == '\\')
                        buffer_append_text(out, "\\e");
                else if (*text == ' ' && text[-1] == '.' && text[1] >= 'A' && text[1] <= 'Z') {
                        buffer_append_text(out, "\n");
                        at_start = true;
                } else
                        buffer_append(out, text, 1);
        }
        buffer_append_text(out, "\n");
}

static void put_option(struct buffer *out, const struct option_child *child)
{
        const struct option *option = child->option;
        CLEANUP(buffer_fini) struct buffer line = { 0 };
        CLEANUP(buffer_fini) struct buffer allowed = { 0 };
        buffer_printf(out, ".It Ic %s\n", child->name);
        put_prose(out, option->prose);

        option_format_allowed(option, &allowed);
        buffer_printf(&line, "Type: %s%s (%s).", option->flags & OPTION_LIST ? "list of " : "", option_types[option->type].name, allowed.data);
        put_prose(out, line.data);
        buffer_clear(&line);
        if (option->flags & OPTION_REQUIRED)
                buffer_append_text(&line, "Required.");
        else
                buffer_printf(&line, "Default: %s.", string_equal(option->initial, "\"\"") ? "empty" : option->initial);
        buffer_append_text(&line, option->flags & OPTION_RELOAD ? " Applied by reload." : " Needs a restart.");
        put_prose(out, line.data);
}

static void put_tagged(struct buffer *out, const char *prefix)
{
        struct option_child child;
        buffer_append_text(out, ".Bl -tag -width Ds\n");
        for (size_t index = 0; option_next_child(prefix, &index, &child); ) {
                if (child.kind == CHILD_OPTION) {
                        put_option(out, &child);
                        continue;
                }
                buffer_printf(out, ".It Ic %s\n", child.name);
                put_prose(out, child.group->prose);
                put_tagged(out, child.prefix);
        }
        buffer_append_text(out, ".El\n");
}

static void put_section(struct buffer *out, const struct option_child *child)
{
        buffer_printf(out, ".Ss %s\n", child->name);
        for (size_t i = 0; child->kind == CHILD_SECTION && i < option_section_count; i++)
                if (string_equal(option_sections[i].name, child->name))
                        put_prose(out, option_sections[i].prose);
        if (child->kind == CHILD_GROUP)
                put_prose(out, child->group->prose);
        put_tagged(out, child->prefix);
}

void config_print_manual(struct buffer *out)
{
        struct option_child child;
        buffer_append_text(out, HEAD);
        buffer_append_text(out, ".Sh KEYS\n");
        for (size_t index = 0; option_next_child("", &index, &child); )
                if (child.kind != CHILD_OPTION)
                        put_section(out, &child);
        buffer_append_text(out, ".Ss Others\n.Bl -tag -width Ds\n");
        for (size_t index = 0; option_next_child("", &index, &child); )
                if (child.kind == CHILD_OPTION)
                        put_option(out, &child);
        buffer_append_text(out, ".El\n");
        buffer_append_text(out, FOOT);
}
