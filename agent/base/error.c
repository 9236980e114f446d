/*
 * How it goes: one table; everything that is said about an error code elsewhere is read from its row.
 * How it fails: it does not; a text that is too long is cut.
 * How it ends: errors live on their maker's caller's stack.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <wasmcached/base/error.h>
#include <wasmcached/base/memory.h>

static const struct error_row rows[ERROR_CODES] = {
        [ERROR_NONE] = { "none", 200, ERROR_RETRY_NEVER, "No error", "Nothing to do." },
        [ERROR_BAD_REQUEST] = { "bad_request", 400, ERROR_RETRY_AFTER_CHANGE, "The request is not valid", "Correct the field that the detail names and ask again." },
        [ERROR_BAD_URL] = { "bad_url", 400, ERROR_RETRY_AFTER_CHANGE, "The module URL is not valid",
                "Write the url as oci://host[:port]/path:tag, http(s)://host/path or file:///path, without user, query or fragment." },
        [ERROR_BAD_KEY] = { "bad_key", 400, ERROR_RETRY_AFTER_CHANGE, "The verification key is not usable",
                "Give one PEM public key, as `cosign public-key` or `openssl pkey -pubout` print it." },
        [ERROR_DENIED] = { "denied", 403, ERROR_RETRY_AFTER_CHANGE, "Not allowed",
                "Ask through the socket of that namespace or the admin socket, or have it allowed in the configuration." },
        [ERROR_NOT_FOUND] = { "not_found", 404, ERROR_RETRY_AFTER_CHANGE, "Not found",
                "Check the name; a registry answers so for a private repository too, to those who may not read it." },
        [ERROR_UNAUTHORIZED] = { "unauthorized", 401, ERROR_RETRY_AFTER_CHANGE, "The registry refused the credentials",
                "The request needs a pull secret that names this registry (host and port) and whose password is valid there." },
        [ERROR_SECRET_MISSING] = { "secret_missing", 424, ERROR_RETRY_AFTER_CHANGE, "The pull secret cannot be used",
                "Create the Secret (type kubernetes.io/dockerconfigjson) in the request's namespace, or correct its name." },
        [ERROR_CHECKSUM_MISMATCH] = { "checksum_mismatch", 422, ERROR_RETRY_AFTER_CHANGE, "The content is not what its digest says",
                "Compare sha256 with the digest in the registry; if it is right, somebody changed the content on the way." },
        [ERROR_SIGNATURE_MISSING] = { "signature_missing", 422, ERROR_RETRY_AFTER_CHANGE, "No signature was found",
                "Sign it with the key that the detail names, then ask again; `wasmcachectl verify-signature` tries a key without keeping anything." },
        [ERROR_SIGNATURE_INVALID] = { "signature_invalid", 422, ERROR_RETRY_AFTER_CHANGE, "No signature verifies under the key",
                "Compare the key with the one that signed; `wasmcachectl verify-signature` tries a key without keeping anything." },
        [ERROR_SIGNATURE_UNREACHABLE] = { "signature_unreachable", 503, ERROR_RETRY_LATER, "Signatures could not be looked up",
                "Try again later; the module is not handed out unverified." },
        [ERROR_UNSUPPORTED_IMAGE] = { "unsupported_image", 422, ERROR_RETRY_AFTER_CHANGE, "The image has no layout that can be used",
                "Push the module as a raw Wasm layer (oras), or as plugin.wasm in a tar layer (docker build)." },
        [ERROR_NOT_WASM] = { "not_wasm", 422, ERROR_RETRY_AFTER_CHANGE, "The content is no Wasm module", "Build a core module (not a component) and push that." },
        [ERROR_TOO_LARGE] = { "too_large", 413, ERROR_RETRY_AFTER_CHANGE, "A limit on size was exceeded", "Make it smaller, or raise the limit that the detail names." },
        [ERROR_UPSTREAM_UNREACHABLE] = { "upstream_unreachable", 502, ERROR_RETRY_LATER, "The source could not be reached",
                "Check name, port, proxy and TLS settings of that host from this node." },
        [ERROR_UPSTREAM_ERROR] = { "upstream_error", 502, ERROR_RETRY_LATER, "The source answered with an error", "Look at the source's own logs; the answer is in the detail." },
        [ERROR_RATE_LIMITED] = { "rate_limited", 429, ERROR_RETRY_LATER, "Too many requests",
                "Wait as long as Retry-After says; use a pull secret or a mirror to get a higher limit." },
        [ERROR_TIMEOUT] = { "timeout", 504, ERROR_RETRY_LATER, "It took longer than allowed", "Ask again: the pull may have gone on in the background; or give a longer timeout." },
        [ERROR_STORE_FULL] = { "store_full", 507, ERROR_RETRY_LATER, "The store is full",
                "Free space (wasmcachectl gc, unpin) or raise store.max_size; the disk itself may be full." },
        [ERROR_BUSY] = { "busy", 503, ERROR_RETRY_LATER, "Not now", "Do first what the detail asks for, if anything, and try again." },
        [ERROR_INTERNAL] = { "internal", 500, ERROR_RETRY_LATER, "Internal error", "Look at the daemon's log; if it is no fault of the machine, report it." },
};

__attribute__((format(printf, 3, 0)))
static bool set_text(struct error *err, enum error_code code, const char *format, va_list list)
{
        err->code = code;
        err->retry_after_s = 0;
        vsnprintf(err->text, sizeof err->text, format, list);
        return false;
}

bool refuse(struct error *err, enum error_code code, const char *format, ...)
{
        va_list list;

        va_start(list, format);
        set_text(err, code, format, list);
        va_end(list);
        return false;
}

bool refuse_errno(struct error *err, enum error_code code, int number, const char *format, ...)
{
        bool is_full = number == ENOSPC || number == EDQUOT;
        va_list list;

        va_start(list, format);
        set_text(err, code == ERROR_INTERNAL && is_full ? ERROR_STORE_FULL : code, format, list);
        va_end(list);

        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerrordesc_np(number) ? strerrordesc_np(number) : "unknown error");
        return false;
}

bool refuse_within(struct error *err, const char *format, ...)
{
        char text[sizeof err->text], prefix[256];
        va_list list;

        va_start(list, format);
        vsnprintf(prefix, sizeof prefix, format, list);
        va_end(list);
        memcpy(text, err->text, sizeof text);
        int used = snprintf(err->text, sizeof err->text, "%s: ", prefix);
        size_t room = sizeof err->text - (size_t)used - 1, length = strnlen(text, room);
        memcpy(err->text + used, text, length);
        err->text[(size_t)used + length] = '\0';
        return false;
}

const struct error_row *error_get_row(enum error_code code)
{
        return code < ERROR_CODES ? &rows[code] : &rows[ERROR_INTERNAL];
}

bool error_parse_name(const char *name, enum error_code *ret_code)
{
        for (enum error_code code = ERROR_BAD_REQUEST; code < ERROR_CODES; code++)
                if (string_equal(rows[code].name, name)) {
                        *ret_code = code;
                        return true;
                }
        return false;
}
