/*
 * How it goes: one pass over the words; options may stand anywhere, "--" ends them; the first other word is the command.
 *              Then the command's own rules: which options, how many arguments.
 * How it fails: the first thing that is wrong is named, with the nearest name there is; false.
 * How it ends: the struct points into argv.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

const struct option_row option_rows[OPTION_COUNT] = {
        [OPTION_OUTPUT] = { "output", 'o', "FORMAT", "table (for people), json or yaml", "table json yaml" },
        [OPTION_SOCKET] = { "socket", 's', "PATH", "the daemon's socket; else $WASMCACHED_SOCKET, else the default", NULL },
        [OPTION_HELP] = { "help", 'h', NULL, "help of the command", NULL },
        [OPTION_SHA256] = { "sha256", 0, "HEX", "OCI: digest of the manifest; http and file: of the module", NULL },
        [OPTION_POLICY] = { "policy", 0, "POLICY", "when the source is asked although the module is here", "IfNotPresent Always UNSPECIFIED_POLICY" },
        [OPTION_SECRET] = { "secret", 0, "NAME", "pull secret of the namespace, by name", NULL },
        [OPTION_PULL_SECRET_FILE] = { "pull-secret-file", 0, "FILE", "docker config with the credentials (\"-\" = standard input)", NULL },
        [OPTION_NAMESPACE] = { "namespace", 'n', "NAME", "namespace of the request, the workload or the resources", NULL },
        [OPTION_KEY] = { "key", 0, "FILE", "PEM file with 1 to 8 public keys: a valid signature by one of them is required; may be repeated", NULL },
        [OPTION_TIMEOUT] = { "timeout", 0, "TIME", "how long to wait, like 30s", NULL },
        [OPTION_RESOURCE] = { "resource", 0, "NAME@VERSION", "with --policy Always: ask once per version of this resource", NULL },
        [OPTION_NO_PROGRESS] = { "no-progress", 0, NULL, "no progress bar", NULL },
        [OPTION_DRY_RUN] = { "dry-run", 0, NULL, "only say what would be removed", NULL },
        [OPTION_FOLLOW] = { "follow", 'f', NULL, "go on until interrupted", NULL },
        [OPTION_URL] = { "url", 0, "URL", "the module's name, instead of the one it has", NULL },
        [OPTION_VERSION] = { "version", 'V', NULL, "version of this program", NULL },
        [OPTION_LABEL] = { "label", 'l', "KEY=VALUE", "a label of the workload; may be repeated", NULL },
        [OPTION_DIRECTION] = { "direction", 0, "WAY", "only plugins whose match fits this direction", "inbound outbound gateway" },
        [OPTION_PORT] = { "port", 0, "NUMBER", "only plugins whose match fits this port", NULL },
        [OPTION_TYPE] = { "type", 0, "TYPE", "only plugins of this type", "HTTP NETWORK" },
        [OPTION_SERVICE] = { "service", 0, "NAMESPACE/NAME", "a Service that the workload, a waypoint, serves; may be repeated", NULL },
        [OPTION_SERVICE_ENTRY] = { "service-entry", 0, "NAMESPACE/NAME", "the same, a ServiceEntry", NULL },
        [OPTION_PLUGIN] = { "plugin", 0, "NAMESPACE/NAME", "explain why this plugin reaches the workload, or not", NULL },
        [OPTION_ALL_NAMESPACES] = { "all-namespaces", 'A', NULL, "of all namespaces", NULL },
};

enum { WORD_MAX = 40, DISTANCE_NEAR = 2 };

/* Edits (insert, delete, replace, swap of neighbours) between two short words. */
static unsigned word_distance(const char *a, const char *b)
{
        unsigned rows[3][WORD_MAX + 1];
        size_t a_length = strlen(a), b_length = strlen(b);

        if (a_length > WORD_MAX || b_length > WORD_MAX)
                return WORD_MAX;
        for (size_t j = 0; j <= b_length; j++)
                rows[0][j] = (unsigned)j;
        for (size_t i = 1; i <= a_length; i++) {
                unsigned *row = rows[i % 3], *above = rows[(i + 2) % 3], *above_that = rows[(i + 1) % 3];
                row[0] = (unsigned)i;
                for (size_t j = 1; j <= b_length; j++) {
                        unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
                        if (above[j] + 1 < best)
                                best = above[j] + 1;
                        if (row[j - 1] + 1 < best)
                                best = row[j - 1] + 1;
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && above_that[j - 2] + 1 < best)
                                best = above_that[j - 2] + 1;
                        row[j] = best;
                }
        }
        return rows[a_length % 3][b_length];
}

const char *nearest_name(const char *word, const char *(*name_at)(size_t index, const void *arg), size_t count, const void *arg)
{
        const char *nearest = NULL;
        unsigned least = DISTANCE_NEAR + 1;

        for (size_t i = 0; i < count; i++) {
                const char *name = name_at(i, arg);
                unsigned distance = !name ? WORD_MAX : *word && strncmp(name, word, strlen(word)) == 0 ? 1 : word_distance(word, name);
                if (distance < least && distance < strlen(name)) {
                        least = distance;
                        nearest = name;
                }
        }
        return nearest;
}

static const char *command_name_at(size_t index, const void *arg)
{
        (void)arg;
        return command_rows[index].name;
}

static unsigned options_allowed(const struct command *command)
{
        return command ? command->options | OPTIONS_EVERYWHERE : ~0u;
}

static const char *option_name_at(size_t index, const void *arg)
{
        return options_allowed(arg) & OPTION_BIT(index) ? option_rows[index].name : NULL;
}

static void usage_unknown_option(const struct command *command, const char *word)
{
        const char *nearest = word[1] == '-' ? nearest_name(word + 2, option_name_at, OPTION_COUNT, command) : NULL;
        const char *name = command ? command->name : "COMMAND";
        CLEANUP(cleanup_free) char *hint = nearest ? string_format("did you mean --%s?", nearest) : string_format("`wasmcachectl %s --help` lists the options", name);
        report_usage(hint, "unknown option %s", word);
}

/* Which option `word` is ("--name", "--name=value", "-n", "-nvalue"); the value inside the word goes to ret_value, NULL if there is none. */
static int option_find(const char *word, const char **ret_value)
{
        for (int i = 0; i < OPTION_COUNT; i++) {
                const struct option_row *row = &option_rows[i];
                size_t length = strlen(row->name);

                if (word[1] != '-' && row->letter && word[1] == row->letter && (row->argument || !word[2])) {
                        *ret_value = !word[2] ? NULL : word[2] == '=' ? word + 3 : word + 2;
                        return i;
                }
                if (word[1] == '-' && strncmp(word + 2, row->name, length) == 0 && (!word[2 + length] || word[2 + length] == '=')) {
                        *ret_value = word[2 + length] ? word + 3 + length : NULL;
                        return i;
                }
        }
        return -1;
}

static bool value_allowed(const struct option_row *row, const char *value)
{
        size_t length = strlen(value);
        for (const char *at = row->values; at && *at; at += strspn(at, " ")) {
                size_t part = strcspn(at, " ");
                if (part == length && memcmp(at, value, part) == 0)
                        return true;
                at += part;
        }
        return !row->values;
}

/* False after it has said that there are too many. */
static bool repeated_take(int option, const char *value, struct ctl *ctl)
{
        if (option != OPTION_LABEL && option != OPTION_SERVICE && option != OPTION_SERVICE_ENTRY && option != OPTION_KEY)
                return true;
        if (ctl->repeated_count == ARGUMENTS_MAX) {
                report_usage(NULL, "--%s and its like are given more than %d times", option_rows[option].name, ARGUMENTS_MAX);
                return false;
        }
        ctl->repeated[ctl->repeated_count++] = (struct repeated){ (enum option)option, value };
        return true;
}

/* One option at argv[*at]; its value may be the next word. */
static bool option_take(int argc, char **argv, int *at, struct ctl *ctl)
{
        const char *word = argv[*at], *value = NULL;
        int option = option_find(word, &value);
        if (option < 0) {
                usage_unknown_option(ctl->command, word);
                return false;
        }

        const struct option_row *row = &option_rows[option];
        if (!row->argument && value) {
                report_usage(NULL, "--%s takes no value", row->name);
                return false;
        }
        if (row->argument && !value && ++*at < argc)
                value = argv[*at];
        if (row->argument && (!value || !*value)) {
                report_usage(row->help, "--%s needs a value: --%s %s", row->name, row->name, row->argument);
                return false;
        }
        if (row->argument && !value_allowed(row, value)) {
                char shown[64];
                report_usage(NULL, "--%s %s: it is one of: %s", row->name, string_printable(value, strlen(value), shown, sizeof shown), row->values);
                return false;
        }
        ctl->options[option] = row->argument ? value : "";
        return repeated_take(option, value, ctl);
}

static bool command_take(const char *word, struct ctl *ctl)
{
        ctl->command = command_find(word);
        if (ctl->command)
                return true;

        const char *nearest = nearest_name(word, command_name_at, command_count, NULL);
        char shown[64];
        CLEANUP(cleanup_free) char *hint = nearest ? string_format("did you mean \"%s\"?", nearest) : string_copy("`wasmcachectl help` lists the commands");
        report_usage(hint, "unknown command \"%s\"", string_printable(word, strlen(word), shown, sizeof shown));
        return false;
}

static bool word_take(const char *word, struct ctl *ctl)
{
        if (!ctl->command)
                return command_take(word, ctl);
        if (ctl->argument_count == ARGUMENTS_MAX) {
                report_usage("call it again for the rest", "more than %d arguments", ARGUMENTS_MAX);
                return false;
        }
        ctl->arguments[ctl->argument_count++] = word;
        return true;
}

/* What the command makes of it. */
static bool command_check(const struct ctl *ctl)
{
        const struct command *command = ctl->command;
        CLEANUP(cleanup_free) char *usage = string_format("usage: wasmcachectl %s%s%s; its --help tells more", command->name, *command->arguments ? " " : "", command->arguments);

        for (int i = 0; i < OPTION_COUNT; i++)
                if (ctl->options[i] && !(options_allowed(command) & OPTION_BIT(i))) {
                        report_usage(usage, "%s has no option --%s", command->name, option_rows[i].name);
                        return false;
                }
        if (ctl->argument_count < command->arguments_min) {
                report_usage(usage, "%s needs %s", command->name, command->arguments);
                return false;
        }
        if (ctl->argument_count > command->arguments_max) {
                report_usage(usage, "%s: \"%s\" is one argument too many", command->name, ctl->arguments[command->arguments_max]);
                return false;
        }
        return true;
}

bool options_parse(int argc, char **argv, struct ctl *ret_ctl)
{
        struct ctl ctl = { 0 };
        bool options_ended = false;

        for (int at = 1; at < argc; at++) {
                const char *word = argv[at];
                bool is_option = !options_ended && word[0] == '-' && word[1];

                if (is_option && strcmp(word, "--") == 0)
                        options_ended = true;
                else if (!(is_option ? option_take(argc, argv, &at, &ctl) : word_take(word, &ctl)))
                        return false;
        }
        const char *output = ctl.options[OPTION_OUTPUT];
        ctl.format = string_equal(output, "json") ? FORMAT_JSON : string_equal(output, "yaml") ? FORMAT_YAML : FORMAT_TABLE;
        if (ctl.command && !ctl.options[OPTION_HELP] && !command_check(&ctl))
                return false;
        *ret_ctl = ctl;
        return true;
}
