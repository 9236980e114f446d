/*
 * How it goes: members are read one by one from the parsed JSON, each rule of contract section 1 in its own small function; the url decides the kind and gives
 *              the names (catalog key, repository, host) that everything later compares.
 * How it fails: the first bad member ends it, named in the error; nothing has been asked of anybody yet.
 * How it ends: counted; the last module_want_unref() frees, an inline pull secret included (wiped by credential).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wasmcached/fetch.h>
#include "demand.h"
#include "want.h"

bool want_is_dns_label(const char *text)
{
        return string_is_dns(text, 63, false);
}

bool want_is_dns_subdomain(const char *text)
{
        return string_is_dns(text, 253, true);
}

/* Length of "scheme" when `url` begins with "scheme://" (RFC 3986 3.1), else 0. */
static size_t scheme_length(const char *url)
{
        size_t n = strspn(url, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
        return n > 0 && strncmp(url + n, "://", 3) == 0 ? n : 0;
}

static bool url_parse_oci(const char *text, struct module_want *want, struct error *err)
{
        if (!reference_parse(text, &want->reference, err))
                return refuse_within(err, "url");

        const struct reference *reference = &want->reference;
        want->kind = WANT_OCI;
        want->repository = string_format("%s/%s", reference->host, reference->path);
        want->host = string_copy(reference->host);
        if (digest_is_set(&reference->digest)) {
                char digest[DIGEST_TEXT_BYTES];
                digest_format(&reference->digest, digest);
                want->name = string_format("oci://%s@%s", want->repository, digest);
                want->pin = reference->digest;
        } else {
                want->name = string_format("oci://%s:%s", want->repository, reference->tag);
        }
        return true;
}

/* One name for all ways to write one origin, as the client will ask it: escapes of the host, leading zeros and a default port are gone, scheme and host in lower case. */
static bool url_parse_http(const char *url, size_t scheme_bytes, struct module_want *want, struct error *err)
{
        CLEANUP(cleanup_free) char *origin = NULL;
        if (!fetch_url_check(url, &origin, err))
                return false;
        for (const char *c = origin; *c; c++)
                if ((unsigned char)*c >= 0x80)    /* which name that becomes is for the client to say, and rules of the node are about names */
                        return refuse(err, ERROR_BAD_URL, "url: the host has letters beyond ASCII; write it as it is in the DNS (xn--…)");

        bool is_tls = scheme_bytes == 5;
        const char *default_port = is_tls ? ":443" : ":80", *path = strchr(url + scheme_bytes + 3, '/');
        want->host = string_copy(origin + scheme_bytes + 3);
        if (string_ends_with(want->host, default_port))
                want->host[strlen(want->host) - strlen(default_port)] = '\0';
        want->kind = WANT_HTTP;
        want->name = string_format("%s://%s%s", is_tls ? "https" : "http", want->host, path);
        want->repository = string_copy(want->name);
        return true;
}

static bool path_decode(const char *path, char *ret_path)
{
        for (; *path; path++) {
                if (*path == '%') {
                        int high = hex_digit_get(path[1]), low = high < 0 ? -1 : hex_digit_get(path[2]);
                        if (low < 0 || high * 16 + low == 0)
                                return false;
                        *ret_path++ = (char)(high * 16 + low);
                        path += 2;
                        continue;
                }
                *ret_path++ = *path;
        }
        *ret_path = '\0';
        return true;
}

static bool path_has_dots(const char *path)
{
        for (const char *at = path; (at = strchr(at, '/')) != NULL; at++)
                if ((at[1] == '.' && (at[2] == '/' || at[2] == '\0')) || (at[1] == '.' && at[2] == '.' && (at[3] == '/' || at[3] == '\0')))
                        return true;
        return false;
}

static bool url_parse_file(const char *url, struct module_want *want, struct error *err)
{
        const char *path = url + strlen("file://");
        if (path[0] != '/' || path[1] == '/')
                return refuse(err, ERROR_BAD_URL, "url: file:// needs an absolute path, as in file:///srv/wasm/plugin.wasm");
        if (strpbrk(path, "?#"))
                return refuse(err, ERROR_BAD_URL, "url: a file:// url has no query and no fragment");
        if (string_ends_with(path, "/"))
                return refuse(err, ERROR_BAD_URL, "url: ends in '/', which names a folder; name the file");

        CLEANUP(cleanup_free) char *decoded = memory_new(strlen(path) + 1, 1);
        if (!path_decode(path, decoded))
                return refuse(err, ERROR_BAD_URL, "url: a '%%' in a file:// url is followed by two hex digits that are not 00");
        if (path_has_dots(decoded))
                return refuse(err, ERROR_BAD_URL, "url: no '.' or '..' segments in a file:// url");

        want->kind = WANT_FILE;
        want->path = TAKE(decoded);
        want->name = string_format("file://%s", want->path);
        want->repository = string_copy(want->name);
        want->host = string_copy("file");
        return true;
}

static bool url_has_blanks(const char *url)
{
        for (const unsigned char *c = (const unsigned char *)url; *c; c++)
                if (*c <= ' ' || *c == 0x7f)
                        return true;
        return false;
}

bool want_parse_url(const char *url, struct module_want *want, struct error *err)
{
        if (!*url)
                return refuse(err, ERROR_BAD_URL, "url: is empty; write oci://host/path:tag, http(s)://… or file:///…");
        if (strlen(url) > WANT_TEXT_MAX_BYTES)
                return refuse(err, ERROR_BAD_URL, "url: longer than %d bytes", WANT_TEXT_MAX_BYTES);
        if (url_has_blanks(url))
                return refuse(err, ERROR_BAD_URL, "url: has a blank or control character in it");

        want->url = string_copy(url);
        size_t scheme = scheme_length(url);
        if (scheme == 0)
                return url_parse_oci(url, want, err);
        if (scheme == 3 && strncasecmp(url, "oci", 3) == 0)
                return url_parse_oci(url + 6, want, err);
        if ((scheme == 4 && strncasecmp(url, "http", 4) == 0) || (scheme == 5 && strncasecmp(url, "https", 5) == 0))
                return url_parse_http(url, scheme, want, err);
        if (scheme == 4 && strncasecmp(url, "file", 4) == 0)
                return url_parse_file(url, want, err);
        return refuse(err, ERROR_BAD_URL, "url: scheme \"%.*s\" is not supported; oci, http, https and file are", (int)(scheme > 32 ? 32 : scheme), url);
}

static bool read_pin(const struct value *body, struct module_want *want, struct error *err)
{
        const char *hex = "";
        if (!value_read_text(body, "sha256", ERROR_BAD_REQUEST, &hex, err))
                return false;
        if (!*hex)
                return true;

        struct digest pin;
        if (!digest_parse_hex(hex, &pin))
                return refuse(err, ERROR_BAD_REQUEST, "sha256: is not 64 lower-case hex digits");
        if (digest_is_set(&want->pin) && want->pin.algorithm != DIGEST_SHA256)
                return refuse(err, ERROR_BAD_REQUEST, "sha256: cannot be compared with the digest in the url, which is no sha256; leave one of them out");
        if (digest_is_set(&want->pin) && !digest_equal(&want->pin, &pin)) {
                char in_url[DIGEST_TEXT_BYTES];
                digest_format(&want->pin, in_url);
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "sha256: is %s, but the url says @%s; they must agree (nothing was fetched)", hex, in_url);
        }
        want->pin = pin;
        return true;
}

static bool read_policy(const struct value *body, struct module_want *want, struct error *err)
{
        static const struct { const char *name; enum module_policy policy; } rows[] = {
                { "UNSPECIFIED_POLICY", MODULE_POLICY_UNSPECIFIED }, { "IfNotPresent", MODULE_POLICY_IF_NOT_PRESENT }, { "Always", MODULE_POLICY_ALWAYS },
        };
        const char *text = rows[0].name;
        if (!value_read_text(body, "imagePullPolicy", ERROR_BAD_REQUEST, &text, err))
                return false;

        size_t i = 0;
        while (i < COUNT_OF(rows) && strcmp(text, rows[i].name) != 0)
                i++;
        if (i == COUNT_OF(rows))
                return refuse(err, ERROR_BAD_REQUEST, "imagePullPolicy: is one of UNSPECIFIED_POLICY, IfNotPresent, Always");

        /* A tag latest, written or implied, moves by custom: Kubernetes asks again each time. What is pinned cannot move; a file is looked at by its identity. */
        bool is_latest = want->kind == WANT_OCI && string_equal(want->reference.tag, "latest");
        want->is_policy_given = rows[i].policy != MODULE_POLICY_UNSPECIFIED;
        want->policy = want->is_policy_given ? rows[i].policy : is_latest ? MODULE_POLICY_ALWAYS : MODULE_POLICY_IF_NOT_PRESENT;
        if (digest_is_set(&want->pin) || want->kind == WANT_FILE)
                want->policy = MODULE_POLICY_IF_NOT_PRESENT;
        return true;
}

static bool read_secret_name(const struct value *body, struct module_want *want, struct error *err)
{
        const char *name = "";
        if (!value_read_text(body, "imagePullSecret", ERROR_BAD_REQUEST, &name, err))
                return false;
        if (!*name)
                return true;
        if (!want_is_dns_subdomain(name))
                return refuse(err, ERROR_BAD_REQUEST,
                        "imagePullSecret: is the plain name of a Secret in the request's namespace (a-z, 0-9, '-', '.', at most 253), without namespace or "
                        "scheme");
        want->secret_name = string_copy(name);
        return true;
}

static bool read_inline_secret(const struct value *body, struct module_want *want, struct error *err)
{
        const struct value *map = NULL;
        if (!value_read_map(body, "pullSecret", ERROR_BAD_REQUEST, &map, err))
                return false;
        if (!map)
                return true;
        if (want->secret_name)
                return refuse(err, ERROR_BAD_REQUEST, "pullSecret: stands instead of imagePullSecret; give one of them");

        CLEANUP(buffer_fini_secret) struct buffer text = { .limit = CREDENTIAL_CONFIG_MAX_BYTES };
        struct json_writer writer = { .out = &text };
        json_put_value(&writer, NULL, map);
        if (!docker_config_parse(text.data ? text.data : "", text.used, DOCKER_CONFIG_JSON, &want->inline_config, err))
                return refuse_within(err, "pullSecret");
        return true;
}

static bool read_key(const struct value *body, struct module_want *want, struct error *err)
{
        const char *key = "";
        if (!value_read_text(body, "verificationKey", ERROR_BAD_REQUEST, &key, err))
                return false;
        return !*key || want_parse_key(key, &want->key, err);
}

static bool read_namespace(const struct value *body, struct module_want *want, struct error *err)
{
        const char *name = NULL;
        if (!value_read_text(body, "namespace", ERROR_BAD_REQUEST, &name, err))
                return false;
        if (name && !want_is_dns_label(name))
                return refuse(err, ERROR_BAD_REQUEST, "namespace: is a DNS label (a-z, 0-9, '-', at most 63)");
        want->namespace = string_copy(name);
        return true;
}

static bool text_is_clean(const char *text, size_t max_bytes)
{
        size_t length = strlen(text);
        for (size_t i = 0; i < length; i++)
                if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
                        return false;
        return length > 0 && length <= max_bytes;
}

static bool read_resource(const struct value *body, struct module_want *want, struct error *err)
{
        static const char *const members[] = { "name", "version", NULL };
        const struct value *map = NULL;
        const char *name = NULL, *version = NULL;
        if (!value_read_map(body, "resource", ERROR_BAD_REQUEST, &map, err))
                return false;
        if (!map)
                return true;
        if (!value_only_members(map, members, ERROR_BAD_REQUEST, err) || !value_read_text(map, "name", ERROR_BAD_REQUEST, &name, err) ||
            !value_read_text(map, "version", ERROR_BAD_REQUEST, &version, err))
                return refuse_within(err, "resource");
        if (!name || !version || !text_is_clean(name, WANT_RESOURCE_MAX_BYTES) || !text_is_clean(version, WANT_RESOURCE_MAX_BYTES))
                return refuse(err, ERROR_BAD_REQUEST, "resource: needs name and version, each 1 to %d bytes without control characters", WANT_RESOURCE_MAX_BYTES);
        want->resource_name = string_copy(name);
        want->resource_version = string_copy(version);
        return true;
}

static bool read_timeout(const struct value *body, struct module_want *want, struct error *err)
{
        const char *text = NULL;
        want->timeout_ms = WANT_TIMEOUT_MS;
        if (!value_read_text(body, "timeout", ERROR_BAD_REQUEST, &text, err))
                return false;
        if (!text)
                return true;
        if (!clock_parse_duration(text, &want->timeout_ms, err)) {
                err->code = ERROR_BAD_REQUEST;
                return refuse_within(err, "timeout");
        }
        if (want->timeout_ms <= 0 || want->timeout_ms > WANT_TIMEOUT_MAX_MS)
                return refuse(err, ERROR_BAD_REQUEST, "timeout: is more than 0s and at most 1h");
        return true;
}

bool module_want_decode(const struct value *body, struct module_want **ret_want, struct error *err)
{
        static const char *const members[] = {
                "url", "sha256", "imagePullPolicy", "imagePullSecret", "verificationKey", "namespace", "resource", "pullSecret", "timeout", NULL,
        };
        if (!body || value_get_kind(body) != VALUE_MAP)
                return refuse(err, ERROR_BAD_REQUEST, "the request is a JSON object with the member \"url\"");

        const char *url = NULL;
        if (!value_only_members(body, members, ERROR_BAD_REQUEST, err) || !value_read_text(body, "url", ERROR_BAD_REQUEST, &url, err))
                return false;
        if (!url)
                return refuse(err, ERROR_BAD_REQUEST, "url: is missing");

        CLEANUP(module_want_unref) struct module_want *want = memory_new(1, sizeof *want);
        want->references = 1;
        if (!want_parse_url(url, want, err) || !read_pin(body, want, err) || !read_policy(body, want, err) || !read_secret_name(body, want, err) ||
            !read_inline_secret(body, want, err) || !read_namespace(body, want, err) || !read_resource(body, want, err) || !read_timeout(body, want, err) ||
            !read_key(body, want, err))
                return false;

        *ret_want = TAKE(want);
        return true;
}

bool module_want_again(const char *name, enum module_policy policy, const char *namespace, const char *secret_name, struct module_want **ret_want, struct error *err)
{
        CLEANUP(module_want_unref) struct module_want *want = memory_new(1, sizeof *want);
        want->references = 1;
        if (!want_parse_url(name, want, err))
                return false;

        bool may_move = !digest_is_set(&want->pin) && want->kind != WANT_FILE;
        want->policy = may_move ? policy : MODULE_POLICY_IF_NOT_PRESENT;
        want->namespace = string_copy(namespace);
        want->secret_name = string_copy(secret_name);
        want->timeout_ms = WANT_TIMEOUT_MAX_MS;
        *ret_want = TAKE(want);
        return true;
}

struct module_want *module_want_ref(struct module_want *want)
{
        want->references++;
        return want;
}

void module_want_unref(struct module_want **want_pointer)
{
        struct module_want *want = TAKE(*want_pointer);
        if (!want || --want->references > 0)
                return;

        reference_fini(&want->reference);
        docker_config_free(&want->inline_config);
        trust_keys_unref(&want->key);
        demands_unref(&want->demands);
        free(want->url);
        free(want->name);
        free(want->repository);
        free(want->host);
        free(want->path);
        free(want->namespace);
        free(want->secret_name);
        free(want->resource_name);
        free(want->resource_version);
        free(want);
}

bool module_want_is_same_source(const struct module_want *a, const struct module_want *b)
{
        return a && b && strcmp(a->name, b->name) == 0 && digest_equal(&a->pin, &b->pin) && a->key == b->key;
}

const char *module_want_get_host(const struct module_want *want)
{
        return want->host ? want->host : "";
}

bool module_want_has_secret(const struct module_want *want)
{
        return want->inline_config != NULL;
}
