/*
 * How it goes: options become the request of contract 1; get waits with a progress bar and prints the path alone, explain asks what get would meet.
 * How it fails: files that cannot be read are said before the daemon is asked; the daemon's refusals are shown as they are.
 * How it ends: the pull secret is wiped; the lease lives on, so that the path stays valid while the caller hands it over.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "ctl.h"

enum { KEY_MAX_BYTES = 64 << 10, SECRET_MAX_BYTES = 512 << 10 };

void wish_fini(struct wish *wish)
{
        buffer_fini_secret(&wish->key);
        buffer_fini_secret(&wish->pull_secret);
        free(wish->resource_name);
}

static bool file_load(const char *path, size_t limit_bytes, struct buffer *ret_content, struct error *err)
{
        if (strcmp(path, "-") != 0)
                return fs_load(AT_FDCWD, path, limit_bytes, ret_content, err);

        char piece[4096];
        struct buffer content = { .limit = limit_bytes };
        for (;;) {
                ssize_t got = read(STDIN_FILENO, piece, sizeof piece);
                if (got < 0 || (got > 0 && !buffer_append(&content, piece, (size_t)got))) {
                        buffer_fini_secret(&content);
                        return refuse(err, ERROR_BAD_REQUEST, "standard input cannot be read, or has more than %zu bytes", limit_bytes);
                }
                if (got == 0)
                        break;
        }
        explicit_bzero(piece, sizeof piece);
        *ret_content = content;
        return true;
}

/* All files that --key names, one after the other: any key of them will do. */
static int wish_key(const char *path, struct wish *wish)
{
        static const char hint[] = "--key names a file with a PEM public key";
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };        /* it may be a private key by mistake */
        struct error err = { 0 };

        if (!file_load(path, KEY_MAX_BYTES, &text, &err))
                return report_local(hint, "%s", err.text);
        if (text.used == 0)
                return report_local(hint, "%s is empty: an empty key would mean that no signature is wanted", path);
        if (wish->key.used > 0 && wish->key.data[wish->key.used - 1] != '\n')
                buffer_append_text(&wish->key, "\n");
        buffer_append(&wish->key, text.data, text.used);
        return WASMCACHE_OK;
}

static int wish_files(const struct ctl *ctl, struct wish *wish)
{
        const char *secret = ctl->options[OPTION_PULL_SECRET_FILE];
        struct error err = { 0 };

        for (unsigned i = 0; i < ctl->repeated_count; i++) {
                int result = ctl->repeated[i].option == OPTION_KEY ? wish_key(ctl->repeated[i].value, wish) : WASMCACHE_OK;
                if (result != WASMCACHE_OK)
                        return result;
        }
        if (secret && !file_load(secret, SECRET_MAX_BYTES, &wish->pull_secret, &err))
                return report_local("--pull-secret-file names a docker config.json", "%s", err.text);
        return WASMCACHE_OK;
}

int wish_make(const struct ctl *ctl, struct wish *ret_wish)
{
        const char *resource = ctl->options[OPTION_RESOURCE], *at = resource ? strrchr(resource, '@') : NULL;

        if (resource && (!at || at == resource || !at[1]))
                return report_usage(NULL, "--resource %s: NAME@VERSION is needed", resource);
        if (ctl->options[OPTION_SECRET] && ctl->options[OPTION_PULL_SECRET_FILE])
                return report_usage(NULL, "--secret and --pull-secret-file exclude each other");
        int result = wish_files(ctl, ret_wish);
        if (result != WASMCACHE_OK)
                return result;

        if (resource)
                ret_wish->resource_name = string_copy_bytes(resource, (size_t)(at - resource));
        ret_wish->request = (struct wasmcache_request){
                .url = ctl->arguments[0], .sha256 = ctl->options[OPTION_SHA256], .image_pull_policy = ctl->options[OPTION_POLICY], .image_pull_secret = ctl->options[OPTION_SECRET],
                .verification_key = ret_wish->key.data, .ns = ctl->options[OPTION_NAMESPACE], .resource_name = ret_wish->resource_name,
                .resource_version = resource ? at + 1 : NULL, .pull_secret = ret_wish->pull_secret.data, .timeout = ctl->options[OPTION_TIMEOUT],
        };
        return WASMCACHE_OK;
}

static int get_print(const struct ctl *ctl, const struct wasmcache_module *module)
{
        CLEANUP(value_free) struct value *object = NULL;
        struct error err = { 0 };
        const char *json = wasmcache_module_json(module);

        if (ctl->format == FORMAT_TABLE)
                puts(wasmcache_module_path(module));
        else if (!json_parse(json, strlen(json), ERROR_UPSTREAM_ERROR, &object, &err))
                return report_error(&err);
        output_value(ctl, object);
        return WASMCACHE_OK;
}

int command_get(struct ctl *ctl)
{
        CLEANUP(wish_fini) struct wish wish = { 0 };
        struct wasmcache_error err = { 0 };
        struct wasmcache_module *module = NULL;

        int result = wish_make(ctl, &wish);
        if (result != WASMCACHE_OK)
                return result;
        struct progress *progress = progress_start(ctl, wish.request.url);
        result = wasmcache_get(ctl->cache, &wish.request, &module, &err);
        progress_stop(&progress);
        if (result != WASMCACHE_OK)
                return report_daemon(ctl, result, &err);

        result = get_print(ctl, module);
        wasmcache_module_free(module);
        return result;
}

void wish_write(const struct wish *wish, struct buffer *out)
{
        const struct wasmcache_request *request = &wish->request;
        const struct { const char *name, *text; } rows[] = {
                { "url", request->url }, { "sha256", request->sha256 }, { "imagePullPolicy", request->image_pull_policy }, { "imagePullSecret", request->image_pull_secret },
                { "verificationKey", request->verification_key }, { "namespace", request->ns }, { "timeout", request->timeout },
        };
        struct json_writer writer = { .out = out };

        buffer_reserve(out, 4096 + wish->pull_secret.used + 2 * wish->key.used);        /* so that no copy of a secret is left behind by growing */
        json_open_map(&writer, NULL);
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].text)
                        json_put_text(&writer, rows[i].name, rows[i].text);
        if (request->resource_name) {
                json_open_map(&writer, "resource");
                json_put_text(&writer, "name", request->resource_name);
                json_put_text(&writer, "version", request->resource_version);
                json_close_map(&writer);
        }
        if (request->pull_secret)
                json_put_raw(&writer, "pullSecret", request->pull_secret);
        json_close_map(&writer);
}

void explain_print(const struct value *answer)
{
        const struct value *steps = value_get_member(answer, "steps");
        const char *verdict = text_member(answer, "verdict"), *code = text_member(answer, "code");
        struct table table = { .columns = 3 };

        printf("verdict: %s%s%s%s\n", verdict ? verdict : "?", code && *code ? " (" : "", code ? code : "", code && *code ? ")" : "");
        if (value_get_count(steps) == 0)
                return;
        table_add(&table, "CHECK");
        table_add(&table, "RESULT");
        table_add(&table, "DETAIL");
        for (size_t i = 0; i < value_get_count(steps); i++) {
                const struct value *step = value_get_item(steps, i);
                table_add(&table, text_member(step, "check"));
                table_add(&table, text_member(step, "result"));
                table_add(&table, text_member(step, "detail"));
        }
        table_print(&table);
}

int command_explain(struct ctl *ctl)
{
        CLEANUP(wish_fini) struct wish wish = { 0 };
        CLEANUP(buffer_fini_secret) struct buffer body = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;

        if (ctl->options[OPTION_PLUGIN])
                return explain_plugin(ctl);
        if (ctl->argument_count == 0)
                return report_usage("usage: wasmcachectl explain URL, or explain --plugin NAMESPACE/NAME", "explain needs URL or --plugin");
        int result = wish_make(ctl, &wish);
        if (result != WASMCACHE_OK)
                return result;
        wish_write(&wish, &body);
        result = daemon_ask(ctl, "POST", "/v1/explain", body.data, &answer);
        if (result != WASMCACHE_OK)
                return result;
        if (ctl->format == FORMAT_TABLE)
                explain_print(answer);
        else
                output_value(ctl, answer);
        return WASMCACHE_OK;
}
