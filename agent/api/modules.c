/*
 * How it goes: POST /v1/modules: the body's want comes out of the memo or the decoder, module_get() answers before it returns (a hit) or later; lists, single objects
 *              and leases are asked of the catalog.
 * How it fails: malformed bodies and names 400, another tenant's namespace 403, what is not there or not the caller's 404.
 * How it ends: an ask that waits is cancelled when its peer goes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "front.h"

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000 };

/* ---- the want ---- */
static bool namespace_check(const struct api_call *call, const char *namespace, struct error *err)
{
        char shown[80];
        if (call->listener->identity == API_IDENTITY_TRUSTED || !namespace || string_equal(namespace, call->caller.namespace))
                return true;
        if (call->listener->identity == API_IDENTITY_POD)
                return refuse(err, ERROR_DENIED, "namespace: \"%s\" is not the namespace of the pod that asks, \"%s\"; leave it out",
                        string_printable(namespace, strlen(namespace), shown, sizeof shown), call->caller.namespace);
        return refuse(err, ERROR_DENIED, "namespace: \"%s\" is not the namespace of this socket, \"%s\"; leave it out, or ask on the socket of that namespace",
                string_printable(namespace, strlen(namespace), shown, sizeof shown), call->caller.namespace);
}

bool api_want_read(struct api_call *call, struct module_want **ret_want, struct api_memo_entry **ret_entry, struct error *err)
{
        size_t size;
        const char *body = serve_request_get_body(call->request, &size);
        struct api_memo_entry *entry = api_memo_get(call, body, size);
        if (entry) {
                *ret_want = module_want_ref(entry->want);
                *ret_entry = entry;
                return true;
        }

        CLEANUP(value_free) struct value *value = NULL;
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        if (!json_parse(body, size, ERROR_BAD_REQUEST, &value, err))
                return refuse_within(err, "body");
        if (!module_want_decode(value, &want, err))
                return false;
        if (!namespace_check(call, value_get_text(value_get_member(value, "namespace")), err))
                return false;
        *ret_entry = api_memo_put(call, body, size, want);
        *ret_want = TAKE(want);
        return true;
}

static void get_answered(void *arg, const struct module_object *object, const struct error *err)
{
        struct api_ask *ask = arg;
        struct api *api = ask->api;
        bool is_late = ask->waiter;
        ask->waiter = NULL;
        if (is_late)
                serve_request_set_data(ask->request, NULL);

        if (err)
                api_answer_error(api, ask->request, ask->route, err);
        else
                api_answer_json(api, ask->request, ask->route, api_object_print(api, object, ask->entry));
        ask->is_answered = true;
        if (is_late)
                api_ask_free(&ask);
}

void api_handle_get(struct api_call *call)
{
        ERROR_UNCLEARED(err);
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        struct api_memo_entry *entry = NULL;
        if (!api_body_is_json(call))
                return;
        if (!api_want_read(call, &want, &entry, &err)) {
                api_call_fail(call, &err);
                return;
        }

        struct api_ask *ask = api_ask_new(call);
        ask->entry = entry;
        struct module_waiter *waiter = module_get(call->api->options.modules, want, &ask->caller, get_answered, ask);
        if (ask->is_answered) {
                api_ask_free(&ask);
                return;
        }
        ask->entry = NULL;
        ask->waiter = waiter;
        serve_request_set_data(call->request, ask);
}

/* ---- what is here ---- */
static bool label_fits(const char *text)
{
        size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-");
        return length > 0 && length <= 63 && text[length] == '\0' && text[0] != '-' && text[length - 1] != '-';
}

/* ?namespace= narrows what a trusted caller sees to what that tenant would. */
static bool caller_narrow(struct api_call *call, struct error *err)
{
        const char *namespace = serve_request_get_query(call->request, "namespace", 0);
        if (!namespace)
                return true;
        if (!label_fits(namespace))
                return refuse(err, ERROR_BAD_REQUEST, "query parameter \"namespace\": a DNS label is needed (at most 63 of a-z, 0-9 and -)");
        if (!namespace_check(call, namespace, err))
                return false;
        call->caller.namespace = namespace;
        call->caller.is_trusted = false;
        return true;
}

bool api_limit_read(const struct api_call *call, size_t *ret_limit, struct error *err)
{
        const char *limit = serve_request_get_query(call->request, "limit", 0);
        *ret_limit = PAGE_DEFAULT;
        if (limit) {
                size_t digits = strspn(limit, "0123456789");
                if (digits == 0 || digits > 4 || limit[digits] || (*ret_limit = strtoul(limit, NULL, 10)) < 1 || *ret_limit > PAGE_MAX)
                        return refuse(err, ERROR_BAD_REQUEST, "query parameter \"limit\": a number from 1 to %d is needed", PAGE_MAX);
        }
        return true;
}

static bool page_read(struct api_call *call, size_t *ret_limit, struct digest *ret_after, struct error *err)
{
        const char *after = serve_request_get_query(call->request, "continue", 0);
        if (!api_limit_read(call, ret_limit, err))
                return false;
        if (after && !digest_parse_hex(after, ret_after))
                return refuse(err, ERROR_BAD_REQUEST, "query parameter \"continue\": give the \"continue\" of the page before, unchanged");
        return true;
}

struct listing { struct json_writer writer; bool details; char last[DIGEST_TEXT_BYTES]; };

static bool call_sees_details(const struct api_call *call)
{
        return call->listener->identity == API_IDENTITY_TRUSTED && call->caller.is_trusted;
}

static void object_each(void *arg, const struct module_object *object)
{
        struct listing *listing = arg;
        json_open_map(&listing->writer, NULL);
        api_object_put(&listing->writer, object, listing->details);
        api_object_put_lease(&listing->writer, object);
        json_close_map(&listing->writer);
        snprintf(listing->last, sizeof listing->last, "%s", object->sha256);
}

void api_handle_list(struct api_call *call)
{
        struct error err = { 0 };
        struct digest after = { 0 };
        size_t limit;
        if (!caller_narrow(call, &err) || !page_read(call, &limit, &after, &err)) {
                api_call_fail(call, &err);
                return;
        }

        struct buffer *body = api_scratch(call->api);
        struct listing listing = { .writer = { .out = body }, .details = call_sees_details(call) };
        json_open_map(&listing.writer, NULL);
        json_open_list(&listing.writer, "modules");
        bool is_all = module_list(call->api->options.modules, &call->caller, digest_is_set(&after) ? &after : NULL, limit, object_each, &listing);
        json_close_list(&listing.writer);
        if (!is_all && *listing.last)
                json_put_text(&listing.writer, "continue", listing.last);
        json_close_map(&listing.writer);
        api_answer_json(call->api, call->request, api_call_route(call), body);
}

void api_handle_one(struct api_call *call)
{
        struct error err = { 0 };
        struct digest sha256;
        if (!api_parameter_digest(call, &sha256, &err)) {
                api_call_fail(call, &err);
                return;
        }
        struct buffer *body = api_scratch(call->api);
        struct listing listing = { .writer = { .out = body }, .details = call_sees_details(call) };
        if (!module_find(call->api->options.modules, &call->caller, &sha256, object_each, &listing)) {
                refuse(&err, ERROR_NOT_FOUND, "no module %s is here for this caller", call->parameter);
                api_call_fail(call, &err);
                return;
        }
        api_answer_json(call->api, call->request, api_call_route(call), body);
}

/* ---- leases ---- */
void api_handle_lease_renew(struct api_call *call)
{
        static const char *const NONE[] = { NULL };
        CLEANUP(value_free) struct value *value = NULL;
        struct error err = { 0 };
        int64_t expires_s;
        if (!api_body_read(call, NONE, &value))
                return;
        if (!module_lease_renew(call->api->options.modules, &call->caller, call->parameter, &expires_s, &err)) {
                api_call_fail(call, &err);
                return;
        }
        struct buffer *body = api_scratch(call->api);
        struct json_writer writer = { .out = body };
        json_open_map(&writer, NULL);
        api_object_put_lease(&writer, &(struct module_object){ .lease_id = call->parameter, .lease_expires_s = expires_s });
        json_close_map(&writer);
        api_answer_json(call->api, call->request, api_call_route(call), body);
}

void api_handle_lease_end(struct api_call *call)
{
        struct error err = { 0 };
        if (module_lease_end(call->api->options.modules, &call->caller, call->parameter, &err))
                api_answer_nothing(call, 204, NULL, 0);
        else
                api_call_fail(call, &err);
}
