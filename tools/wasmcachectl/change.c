/*
 * How it goes: commands that change something: each argument is resolved to a module and becomes one request; the daemon's answer is shown.
 * How it fails: with several arguments the first refusal does not stop the others; the exit status is the first one's.
 * How it ends: nothing is held here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ctl.h"

/* `method` on `<route>/<sha256>` of every argument. */
static int each_module(struct ctl *ctl, const char *method, const char *route, const char *done)
{
        int first = WASMCACHE_OK;

        for (unsigned i = 0; i < ctl->argument_count; i++) {
                char sha256[DIGEST_HEX_BYTES];
                CLEANUP(value_free) struct value *answer = NULL;
                CLEANUP(cleanup_free) char *path = NULL;

                int result = daemon_resolve(ctl, ctl->arguments[i], sha256);
                if (result == WASMCACHE_OK) {
                        path = string_format("%s/%s", route, sha256);
                        result = daemon_ask(ctl, method, path, NULL, &answer);
                }
                if (result == WASMCACHE_OK && ctl->format == FORMAT_TABLE)
                        printf("%s %s\n", done, sha256);
                else if (result == WASMCACHE_OK)
                        output_value(ctl, answer);
                if (first == WASMCACHE_OK)
                        first = result;
                if (result == WASMCACHE_UNREACHABLE)
                        break;
        }
        return first;
}

int command_rm(struct ctl *ctl)
{
        return each_module(ctl, "DELETE", "/v1/modules", "removed");
}

int command_pin(struct ctl *ctl)
{
        return each_module(ctl, "PUT", "/v1/pins", "pinned");
}

int command_unpin(struct ctl *ctl)
{
        return each_module(ctl, "DELETE", "/v1/pins", "unpinned");
}

static int post(struct ctl *ctl, const char *path, const char *body, struct value **ret_answer)
{
        CLEANUP(value_free) struct value *answer = NULL;

        int result = daemon_ask(ctl, "POST", path, body, &answer);
        if (result != WASMCACHE_OK)
                return result;
        output_value(ctl, answer);
        if (ret_answer)
                *ret_answer = TAKE(answer);
        return WASMCACHE_OK;
}

static int refresh_one(struct ctl *ctl, const char *url)
{
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        struct json_writer writer = { .out = &body };

        json_open_map(&writer, NULL);
        if (url)
                json_put_text(&writer, "url", url);
        json_close_map(&writer);

        CLEANUP(value_free) struct value *answer = NULL;
        int result = post(ctl, "/v1/refresh", body.data, &answer);
        if (result == WASMCACHE_OK && value_get_count(value_get_member(answer, "failed")) > 0)
                return report_local("what was here before is still handed out; the details above say what the source answered", "some sources could not be asked");
        return result;
}

int command_refresh(struct ctl *ctl)
{
        int first = ctl->argument_count == 0 ? refresh_one(ctl, NULL) : WASMCACHE_OK;
        for (unsigned i = 0; i < ctl->argument_count; i++) {
                int result = refresh_one(ctl, ctl->arguments[i]);
                if (first == WASMCACHE_OK)
                        first = result;
        }
        return first;
}

int command_gc(struct ctl *ctl)
{
        return post(ctl, "/v1/gc", ctl->options[OPTION_DRY_RUN] ? "{\"dryRun\":true}" : "{}", NULL);
}

static bool found_damage(const struct value *answer)
{
        static const char *const names[] = { "damaged", "quarantined", "failed" };
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                const struct value *member = value_get_member(answer, names[i]);
                if (value_get_count(member) > 0 || value_get_int(member) > 0)
                        return true;
        }
        return false;
}

int command_verify(struct ctl *ctl)
{
        CLEANUP(value_free) struct value *answer = NULL;
        CLEANUP(cleanup_free) char *body = NULL;
        char sha256[DIGEST_HEX_BYTES];

        if (ctl->argument_count == 1) {
                int resolved = daemon_resolve(ctl, ctl->arguments[0], sha256);
                if (resolved != WASMCACHE_OK)
                        return resolved;
                body = string_format("{\"sha256\":\"%s\"}", sha256);
        }
        int result = post(ctl, "/v1/verify", body ? body : "{}", &answer);
        if (result == WASMCACHE_OK && found_damage(answer))
                return report_local("damaged modules were set aside and are pulled again; look at the disk", "the store had damaged modules");
        return result;
}

int command_reload(struct ctl *ctl)
{
        return post(ctl, "/v1/reload", NULL, NULL);
}
