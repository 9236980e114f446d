/*
 * How it goes: operators' routes: the body's few members are read, module does the work on a worker and answers by api_ask_done().
 * How it fails: problems as everywhere; what cannot be waited for (the peer is gone) still happens.
 * How it ends: each handler answers once, now or by its ask.
 */
#include <fcntl.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>
#include <string.h>
#include "front.h"

static const char *const NO_MEMBERS[] = { NULL };

/* The ask is the request's data as long as module works for it; done() may come before this returns, so it is set first. */
static struct api_ask *work_start(struct api_call *call)
{
        struct api_ask *ask = api_ask_new(call);
        serve_request_set_data(call->request, ask);
        return ask;
}

static void on_digest(struct api_call *call, void (*act)(struct modules *modules, const struct digest *sha256, struct api_ask *ask))
{
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        struct digest sha256;
        if (!api_parameter_digest(call, &sha256, &err)) {
                api_call_fail(call, &err);
                return;
        }
        if (api_body_read(call, NO_MEMBERS, &body))
                act(call->api->options.modules, &sha256, work_start(call));
}

static void act_remove(struct modules *modules, const struct digest *sha256, struct api_ask *ask)
{
        module_remove(modules, sha256, api_ask_done, ask);
}

static void act_pin(struct modules *modules, const struct digest *sha256, struct api_ask *ask)
{
        module_pin(modules, sha256, true, api_ask_done, ask);
}

static void act_unpin(struct modules *modules, const struct digest *sha256, struct api_ask *ask)
{
        module_pin(modules, sha256, false, api_ask_done, ask);
}

void api_handle_remove(struct api_call *call)
{
        on_digest(call, act_remove);
}

void api_handle_pin(struct api_call *call)
{
        on_digest(call, act_pin);
}

void api_handle_unpin(struct api_call *call)
{
        on_digest(call, act_unpin);
}

void api_handle_gc(struct api_call *call)
{
        static const char *const MEMBERS[] = { "dryRun", NULL };
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        bool dry_run = false;
        if (!api_body_read(call, MEMBERS, &body))
                return;
        if (!value_read_bool(body, "dryRun", ERROR_BAD_REQUEST, &dry_run, &err)) {
                api_call_fail(call, &err);
                return;
        }
        module_gc(call->api->options.modules, dry_run, api_ask_done, work_start(call));
}

void api_handle_verify(struct api_call *call)
{
        static const char *const MEMBERS[] = { "sha256", NULL };
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        struct digest sha256 = { 0 };
        const char *hex = NULL;
        if (!api_body_read(call, MEMBERS, &body))
                return;
        bool is_right = value_read_text(body, "sha256", ERROR_BAD_REQUEST, &hex, &err);
        if (is_right && hex && !digest_parse_hex(hex, &sha256))
                is_right = refuse(&err, ERROR_BAD_REQUEST, "sha256: 64 lower-case hex digits are needed");
        if (is_right)
                module_verify(call->api->options.modules, hex ? &sha256 : NULL, api_ask_done, work_start(call));
        else
                api_call_fail(call, &err);
}

void api_handle_refresh(struct api_call *call)
{
        static const char *const MEMBERS[] = { "url", NULL };
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        const char *url = NULL;
        if (!api_body_read(call, MEMBERS, &body))
                return;
        if (value_read_text(body, "url", ERROR_BAD_REQUEST, &url, &err))
                module_refresh(call->api->options.modules, url, api_ask_done, work_start(call));
        else
                api_call_fail(call, &err);
}

void api_handle_reload(struct api_call *call)
{
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        if (!api_body_read(call, NO_MEMBERS, &body))
                return;
        const struct api_callbacks *callbacks = &call->api->options.callbacks;
        if (callbacks->reload) {
                callbacks->reload(callbacks->arg, api_ask_done, work_start(call));
                return;
        }
        refuse(&err, ERROR_NOT_FOUND, "this daemon has no configuration to read again");
        api_call_fail(call, &err);
}

void api_handle_config(struct api_call *call)
{
        const struct api_callbacks *callbacks = &call->api->options.callbacks;
        struct buffer *answer = api_scratch(call->api);
        if (callbacks->config)
                callbacks->config(callbacks->arg, answer);
        else
                buffer_append_text(answer, "{}");
        api_answer_json(call->api, call->request, api_call_route(call), answer);
}

/* ---- explain ---- */
static void explain(struct api_call *call, struct module_want *want)
{
        struct api_ask *ask = work_start(call);
        module_explain(call->api->options.modules, want, &ask->caller, api_ask_done, ask);
}

void api_handle_explain(struct api_call *call)
{
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        struct api_memo_entry *entry;
        struct error err = { 0 };
        if (!api_body_is_json(call))
                return;
        if (api_want_read(call, &want, &entry, &err))
                explain(call, want);
        else
                api_call_fail(call, &err);
}

void api_handle_verify_signature(struct api_call *call)
{
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        CLEANUP(value_free) struct value *value = NULL;
        struct error err = { 0 };
        size_t body_bytes;
        if (!api_body_is_json(call))
                return;
        /* Decoded by itself, not from the memo: what is tried leaves no trace. */
        const char *body = serve_request_get_body(call->request, &body_bytes);
        if (json_parse(body, body_bytes, ERROR_BAD_REQUEST, &value, &err) && module_want_decode(value, &want, &err))
                module_try_key(call->api->options.modules, want, &call->caller, api_ask_done, work_start(call));
        else
                api_call_fail(call, &err);
}

/* The query becomes the body that it stands for, so that there is one decoder. */
void api_handle_explain_query(struct api_call *call)
{
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        CLEANUP(value_free) struct value *value = NULL;
        CLEANUP(buffer_fini) struct buffer json = { 0 };
        struct json_writer writer = { .out = &json };
        struct error err = { 0 };
        if (serve_request_get_query(call->request, "plugin", 0)) {
                api_explain_plugin(call);
                return;
        }
        json_open_map(&writer, NULL);
        for (const struct api_query *query = call->route->query; query->name; query++) {
                const char *text = serve_request_get_query(call->request, query->name, 0);
                if (text)
                        json_put_text(&writer, query->name, text);
        }
        json_close_map(&writer);
        if (json_parse(json.data, json.used, ERROR_BAD_REQUEST, &value, &err) && module_want_decode(value, &want, &err))
                explain(call, want);
        else
                api_call_fail(call, &err);
}

/* ---- inspect and import ---- */
void api_handle_inspect(struct api_call *call)
{
        struct error err = { 0 };
        struct digest sha256;
        const char *name = serve_request_get_query(call->request, "name", 0);
        struct buffer *body = api_scratch(call->api);
        struct json_writer writer = { .out = body };
        bool is_right = name && *name;
        if (!is_right)
                refuse(&err, ERROR_BAD_REQUEST, "query parameter \"name\": a url, a digest or a sha256 is needed");
        if (is_right && module_find_name(call->api->options.modules, &call->caller, name, &sha256, &err) && module_inspect(call->api->options.modules, &sha256, &writer, &err))
                api_answer_json(call->api, call->request, api_call_route(call), body);
        else
                api_call_fail(call, &err);
}

static void act_manifest(struct modules *modules, const struct digest *sha256, struct api_ask *ask)
{
        module_manifest(modules, sha256, api_ask_done, ask);
}

void api_handle_manifest(struct api_call *call)
{
        on_digest(call, act_manifest);
}

/* O_NONBLOCK, so that a FIFO cannot stop the loop. */
static bool import_open(const char *path, int *ret_fd, struct error *err)
{
        struct stat status;
        char shown[256];
        string_printable(path, strlen(path), shown, sizeof shown);
        if (path[0] != '/')
                return refuse(err, ERROR_BAD_REQUEST, "path: \"%s\" is not absolute; the daemon has another working folder than you", shown);
        CLEANUP(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0) {
                enum error_code code = errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : errno == EACCES || errno == EPERM ? ERROR_DENIED : ERROR_INTERNAL;
                return refuse_errno(err, code, errno, "path: the daemon (uid %u) cannot open %s", (unsigned)geteuid(), shown);
        }
        if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
                return refuse(err, ERROR_BAD_REQUEST, "path: %s is no regular file", shown);
        *ret_fd = fd;
        fd = -1;
        return true;
}

/* An optional digest. */
static bool import_read_digest(const struct value *body, const char *name, struct digest *ret_digest, struct error *err)
{
        const char *text = NULL;
        if (!value_read_text(body, name, ERROR_BAD_REQUEST, &text, err))
                return false;
        return !text || digest_parse(text, strlen(text), ERROR_BAD_REQUEST, ret_digest, err) || refuse_within(err, "%s", name);
}

void api_handle_import(struct api_call *call)
{
        static const char *const MEMBERS[] = { "url", "path", "digest", "index", "manifest", NULL };
        CLEANUP(value_free) struct value *body = NULL;
        struct error err = { 0 };
        const char *url = NULL, *path = NULL;
        struct module_origin origin = { 0 };
        int fd = -1;
        if (!api_body_read(call, MEMBERS, &body))
                return;
        bool is_right = value_read_text(body, "url", ERROR_BAD_REQUEST, &url, &err) && value_read_text(body, "path", ERROR_BAD_REQUEST, &path, &err);
        if (is_right && (!url || !path))
                is_right = refuse(&err, ERROR_BAD_REQUEST, "%s: missing; both url and path are needed", url ? "path" : "url");
        is_right = is_right && import_read_digest(body, "digest", &origin.manifest, &err) && import_read_digest(body, "index", &origin.top, &err) &&
                   value_read_text(body, "manifest", ERROR_BAD_REQUEST, &origin.document, &err);
        if (is_right && import_open(path, &fd, &err))
                module_import(call->api->options.modules, url, &origin, fd, api_ask_done, work_start(call));
        else
                api_call_fail(call, &err);
}
