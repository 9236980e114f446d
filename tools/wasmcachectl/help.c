/*
 * How it goes: the tables of commands and options, put into words for people and into candidates for the shell.
 * How it fails: completion of what it does not know prints nothing.
 * How it ends: with the text on standard output.
 */
#include <stdio.h>
#include <string.h>
#include "ctl.h"

static void option_show(const struct option_row *row)
{
        char head[64];
        int used = row->letter ? snprintf(head, sizeof head, "-%c, --%s", row->letter, row->name) : snprintf(head, sizeof head, "    --%s", row->name);
        if (row->argument)
                snprintf(head + used, sizeof head - (size_t)used, " %s", row->argument);
        printf("  %-30s %s\n", head, row->help);
        if (row->values)
                printf("  %-30s one of: %s\n", "", row->values);
}

void help_show(void)
{
        puts("wasmcachectl - shows and steers wasmcached, the per-node cache of Wasm modules\n\n"
             "Usage: wasmcachectl COMMAND [OPTION...] [ARGUMENT...]\n\nCommands:");
        for (size_t i = 0; i < command_count; i++) {
                char head[64];
                snprintf(head, sizeof head, "%s %s", command_rows[i].name, command_rows[i].arguments);
                printf("  %-26s %s\n", head, command_rows[i].help);
        }
        puts("\nOptions understood everywhere:");
        for (int i = 0; i < OPTION_COUNT; i++)
                if (OPTIONS_EVERYWHERE & OPTION_BIT(i))
                        option_show(&option_rows[i]);
        puts("\nEnvironment: WASMCACHED_SOCKET (the daemon's socket), WASMCACHED_PATIENCE (how long to wait for it), NO_COLOR (no colours).\n"
             "Exit status: 0 done, 1 refused or failed, 2 usage, 3 daemon not reachable.\n\n"
             "`wasmcachectl COMMAND --help` tells more, with examples; wasmcachectl(1) tells all.");
}

void help_show_command(const struct command *command)
{
        printf("Usage: wasmcachectl %s [OPTION...]%s%s\n\n", command->name, *command->arguments ? " " : "", command->arguments);
        printf("%c%s.\n", command->help[0] - 'a' + 'A', command->help + 1);
        if (command->notes)
                printf("%s\n", command->notes);
        puts("\nOptions:");
        for (int i = 0; i < OPTION_COUNT; i++)
                if ((command->options | OPTIONS_EVERYWHERE) & OPTION_BIT(i))
                        option_show(&option_rows[i]);
        if (command->examples[0])
                puts("\nExamples:");
        for (size_t i = 0; i < COUNT_OF(command->examples) && command->examples[i]; i++)
                printf("  wasmcachectl %s\n", command->examples[i]);
}

int command_help(struct ctl *ctl)
{
        if (ctl->argument_count == 0) {
                help_show();
                return WASMCACHE_OK;
        }
        const struct command *command = command_find(ctl->arguments[0]);
        if (!command)
                return report_usage("`wasmcachectl help` lists the commands", "there is no command \"%s\"", ctl->arguments[0]);
        help_show_command(command);
        return WASMCACHE_OK;
}

static void candidate(const char *prefix, const char *dashes, const char *name)
{
        char text[64];
        snprintf(text, sizeof text, "%s%s", dashes, name);
        if (strncmp(text, prefix, strlen(prefix)) == 0)
                puts(text);
}

static const struct option_row *option_of_word(const char *word)
{
        for (const struct option_row *row = option_rows; row < option_rows + OPTION_COUNT; row++)
                if ((string_starts_with(word, "--") && strcmp(word + 2, row->name) == 0) || (row->letter && word[0] == '-' && word[1] == row->letter && !word[2]))
                        return row;
        return NULL;
}

static void complete_values(const char *prefix, const char *values)
{
        char value[32];
        for (const char *at = values; at && *at; at += strspn(at, " ")) {
                size_t length = strcspn(at, " ");
                snprintf(value, sizeof value, "%.*s", (int)length, at);
                candidate(prefix, "", value);
                at += length;
        }
}

int help_complete(int argc, char **argv)
{
        const struct command *command = NULL;
        const char *last = argc > 0 ? argv[argc - 1] : "";
        const struct option_row *pending = NULL;

        for (int i = 0; i + 1 < argc; i++) {
                const struct option_row *row = pending ? NULL : option_of_word(argv[i]);
                if (!pending && !row && argv[i][0] != '-' && !command)
                        command = command_find(argv[i]);
                pending = row && row->argument ? row : NULL;
        }
        if (pending) {
                complete_values(last, pending->values);
                return 0;
        }
        for (int i = 0; last[0] == '-' && i < OPTION_COUNT; i++)
                if (OPTION_BIT(i) & (OPTIONS_EVERYWHERE | (command ? command->options : OPTION_BIT(OPTION_VERSION))))
                        candidate(last, "--", option_rows[i].name);
        for (size_t i = 0; last[0] != '-' && i < command_count && (!command || command->run == command_help); i++)
                candidate(last, "", command_rows[i].name);
        return 0;
}
