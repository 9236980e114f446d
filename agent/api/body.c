/*
 * How it goes: the media type is looked at, the text parsed strictly, unknown members refused by name.
 * How it fails: 415 for another media type, 400 for everything else; answered here, the handler just returns.
 * How it ends: the value is the caller's.
 */
#include <string.h>
#include <strings.h>
#include "front.h"

bool api_body_is_json(struct api_call *call)
{
        /* The second is what `curl -d` says when it is told nothing; no browser reaches a Unix socket, so there is nothing to guard against by insisting. */
        static const char *const types[] = { "application/json", "application/x-www-form-urlencoded" };
        const char *type = serve_request_get_content_type(call->request);
        if (!type || strcmp(type, types[0]) == 0)
                return true;
        size_t length = strcspn(type, "; \t");
        for (size_t i = 0; i < COUNT_OF(types); i++)
                if (length == strlen(types[i]) && strncasecmp(type, types[i], length) == 0)
                        return true;

        struct error err = { 0 };
        char shown[64];
        refuse(&err, ERROR_BAD_REQUEST, "Content-Type \"%s\" is not read here; send application/json", string_printable(type, strlen(type), shown, sizeof shown));
        api_answer_refusal(call->api, call->request, api_call_route(call), &(struct api_refusal){ .status = 415, .title = "Unsupported media type" }, &err);
        return false;
}

static bool body_parse(struct api_call *call, const char *const *names, struct value **ret_body, struct error *err)
{
        size_t size;
        const char *text = serve_request_get_body(call->request, &size);
        if (size == 0) {
                text = "{}";
                size = 2;
        }
        CLEANUP(value_free) struct value *body = NULL;
        if (!json_parse(text, size, ERROR_BAD_REQUEST, &body, err))
                return refuse_within(err, "body");
        if (value_get_kind(body) != VALUE_MAP)
                return refuse(err, ERROR_BAD_REQUEST, "body: a JSON object is needed, this is a %s", value_get_kind_name(value_get_kind(body)));
        if (!value_only_members(body, names, ERROR_BAD_REQUEST, err))
                return false;
        *ret_body = TAKE(body);
        return true;
}

bool api_body_read(struct api_call *call, const char *const *names, struct value **ret_body)
{
        struct error err = { 0 };
        if (!api_body_is_json(call))
                return false;
        if (body_parse(call, names, ret_body, &err))
                return true;
        api_call_fail(call, &err);
        return false;
}

bool api_parameter_digest(struct api_call *call, struct digest *ret_sha256, struct error *err)
{
        if (digest_parse_hex(call->parameter, ret_sha256))
                return true;
        char shown[96];
        return refuse(err, ERROR_BAD_REQUEST, "\"%s\" is no sha256: 64 lower-case hex digits are needed", string_printable(call->parameter, strlen(call->parameter),
                shown, sizeof shown));
}
