/*
 * How it goes: one line that says what went wrong, one that says what to do; both on standard error. The advice comes from the table of errors.
 * How it fails: it does not.
 * How it ends: with the exit status, so that a caller can end with it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

static void say(const char *code, const char *text, const char *hint)
{
        bool colours = output_has_colours(STDERR_FILENO);
        fprintf(stderr, "%swasmcachectl: %s:%s %s\n", colours ? "\033[1;31m" : "", code, colours ? "\033[0m" : "", text);
        if (hint && *hint)
                fprintf(stderr, "hint: %s\n", hint);
}

int report_usage(const char *hint, const char *format, ...)
{
        char text[1024];
        va_list list;

        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        say("usage", text, hint);
        return WASMCACHE_USAGE;
}

int report_local(const char *hint, const char *format, ...)
{
        char text[1024];
        va_list list;

        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        say("failed", text, hint);
        return WASMCACHE_REFUSED;
}

int report_error(const struct error *err)
{
        const struct error_row *row = error_get_row(err->code);
        say(row->name, err->text, row->help);
        return WASMCACHE_REFUSED;
}

int report_path(const char *hint, const struct error *err)
{
        bool is_of_path = err->code == ERROR_BAD_REQUEST || err->code == ERROR_NOT_FOUND;
        const struct error_row *row = error_get_row(err->code);
        say(row->name, err->text, is_of_path ? hint : row->help);
        return WASMCACHE_REFUSED;
}

static const char *unreachable_hint(const struct ctl *ctl)
{
        if (access(ctl->socket_path, W_OK) != 0 && errno == EACCES)
                return "ask as root (the admin socket is for operators), or on a socket that this user may use: --socket /run/wasmcached/agent.sock";
        return ctl->options[OPTION_SOCKET] ? "is that the daemon's socket? `systemctl status wasmcached` tells how the daemon is"
                                           : "start it with `systemctl start wasmcached`, or name its socket with --socket or WASMCACHED_SOCKET";
}

int report_daemon(const struct ctl *ctl, int result, const struct wasmcache_error *err)
{
        enum error_code code;
        const char *hint = error_parse_name(err->code, &code) ? error_get_row(code)->help : NULL;
        CLEANUP(cleanup_free) char *later = err->retry_after_s > 0 ? string_format("%s%sRetry after %u s.", hint ? hint : "", hint ? " " : "", err->retry_after_s) : NULL;

        if (result == WASMCACHE_USAGE)
                say("usage", err->text, NULL);
        else if (result == WASMCACHE_UNREACHABLE)
                say("unreachable", err->text, unreachable_hint(ctl));
        else if (err->status == 404 && !err->code[0])
                say("not_found", err->text, "this socket has no such route: commands for operators need the admin socket (--socket /run/wasmcached/admin.sock, as root)");
        else
                say(err->code[0] ? err->code : "failed", err->text, later ? later : hint);
        return result;
}
