/*
 * How it goes: the words of the command line become a struct ctl; the command of the table runs, connected if it needs the daemon.
 * How it fails: whoever finds the fault has said so; what is left is the exit status: 1 refused or failed, 2 usage, 3 daemon not reachable.
 * How it ends: an answer that could not be written (disk full, closed pipe) is a failure too.
 */
#include <errno.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include "ctl.h"

static int ctl_run(struct ctl *ctl)
{
        if (ctl->options[OPTION_HELP] || (!ctl->command && !ctl->options[OPTION_VERSION])) {
                if (ctl->command)
                        help_show_command(ctl->command);
                else if (ctl->options[OPTION_HELP])
                        help_show();
                else
                        return report_usage("`wasmcachectl help` lists the commands", "a command is needed");
                return WASMCACHE_OK;
        }
        if (!ctl->command) {
                puts("wasmcachectl " WASMCACHED_VERSION);
                return WASMCACHE_OK;
        }

        int result = ctl->command->socket == SOCKET_NONE ? WASMCACHE_OK : daemon_connect(ctl);
        if (result == WASMCACHE_OK)
                result = ctl->command->run(ctl);
        wasmcache_close(ctl->cache);
        return result;
}

int main(int argc, char **argv)
{
        struct ctl ctl;

        json_start_wiping();
        setlocale(LC_CTYPE, "");
        signal(SIGPIPE, SIG_IGN);                 /* a closed pipe is an error of fflush below, not a death without a word */
        if (argc > 1 && strcmp(argv[1], "--complete") == 0)
                return help_complete(argc - 2, argv + 2);
        if (!options_parse(argc, argv, &ctl))
                return WASMCACHE_USAGE;

        int result = ctl_run(&ctl);
        errno = ctl.output_errno;
        if ((fflush(stdout) != 0 || ferror(stdout)) && result == WASMCACHE_OK && errno != EPIPE)
                return report_local(NULL, "writing to standard output: %s", strerror(errno));
        return result;
}
