/*
 * How it goes: libcurl's URL parser takes the text apart, so that what is checked here is what is requested later; one struct carries the pieces.
 * How it fails: scheme, userinfo, blanks or a bad port are refused in words, without repeating userinfo or query.
 * How it ends: url_fini() frees the texts.
 */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wasmcached/fetch.h>
#include "address.h"
#include "url.h"

static void curlu_free(CURLU **handle)
{
        curl_url_cleanup(*handle);
}

static void curl_text_free(char **text)
{
        curl_free(*text);
}

static void lower(char *text)
{
        for (; *text; text++)
                if (*text >= 'A' && *text <= 'Z')
                        *text = (char)(*text - 'A' + 'a');
}

static char *part_get(CURLU *handle, CURLUPart part, unsigned flags)
{
        char *text = NULL;
        return curl_url_get(handle, part, &text, flags) == CURLUE_OK ? text : NULL;
}

/* "[fe80::1]" → "fe80::1"; a trailing dot of a name is only another spelling of it. */
static char *host_plain(const char *host)
{
        size_t length = strlen(host);
        char *plain = NULL;
        if (length >= 2 && host[0] == '[' && host[length - 1] == ']')
                plain = string_copy_bytes(host + 1, length - 2);
        else if (length >= 2 && host[length - 1] == '.')
                plain = string_copy_bytes(host, length - 1);
        else
                plain = string_copy(host);
        lower(plain);
        return plain;
}

static void show(struct url *url, const char *path)
{
        char printable[URL_SHOWN_BYTES / 2];
        string_printable(path, strlen(path), printable, sizeof printable);
        char host[URL_SHOWN_BYTES / 2 - 32];
        string_printable(url->host, strlen(url->host), host, sizeof host);
        bool v6 = strchr(host, ':') != NULL, usual = url->port == (url->tls ? 443u : 80u);
        char port[8] = "";
        if (!usual)
                snprintf(port, sizeof port, ":%u", url->port % 65536);
        snprintf(url->shown, sizeof url->shown, "http%s://%s%s%s%s%s", url->tls ? "s" : "", v6 ? "[" : "", host, v6 ? "]" : "", port, printable);
}

/* From a parsed handle; `what` opens the error ("url", "Location"). */
static bool url_take(CURLU *handle, enum error_code code, const char *what, struct url *ret_url, struct error *err)
{
        CLEANUP(curl_text_free) char *scheme = part_get(handle, CURLUPART_SCHEME, 0);
        CLEANUP(curl_text_free) char *host = part_get(handle, CURLUPART_HOST, 0);
        CLEANUP(curl_text_free) char *port = part_get(handle, CURLUPART_PORT, CURLU_DEFAULT_PORT);
        CLEANUP(curl_text_free) char *path = part_get(handle, CURLUPART_PATH, 0);
        CLEANUP(curl_text_free) char *user = part_get(handle, CURLUPART_USER, 0);
        CLEANUP(curl_text_free) char *password = part_get(handle, CURLUPART_PASSWORD, 0);
        CLEANUP(curl_text_free) char *zone = part_get(handle, CURLUPART_ZONEID, 0);
        if (!scheme || (strcasecmp(scheme, "http") != 0 && strcasecmp(scheme, "https") != 0))
                return refuse(err, code, "%s: only http:// and https:// are fetched", what);
        if (!host || !*host || !port)
                return refuse(err, code, "%s: there is no host in it", what);
        if (user || password)
                return refuse(err, code, "%s: user name or password in a URL is refused", what);
        if (zone)
                return refuse(err, code, "%s: an IPv6 zone is refused", what);

        curl_url_set(handle, CURLUPART_FRAGMENT, NULL, 0);
        CLEANUP(curl_text_free) char *text = part_get(handle, CURLUPART_URL, 0);
        if (!text)
                return refuse(err, code, "%s: not a URL", what);

        struct url url = { .text = string_copy(text), .host = host_plain(host), .port = (unsigned)strtoul(port, NULL, 10), .tls = strcasecmp(scheme, "https") == 0 };
        bool v6 = strchr(url.host, ':') != NULL;
        url.origin = string_format("http%s://%s%s%s:%u", url.tls ? "s" : "", v6 ? "[" : "", url.host, v6 ? "]" : "", url.port);
        show(&url, path ? path : "/");
        *ret_url = url;
        return true;
}

bool url_parse(const char *text, struct url *ret_url, struct error *err)
{
        if (strlen(text) > URL_BYTES_MAX)
                return refuse(err, ERROR_BAD_URL, "url: longer than %d bytes", URL_BYTES_MAX);
        for (const unsigned char *c = (const unsigned char *)text; *c; c++)
                if (*c <= ' ' || *c == 0x7f)
                        return refuse(err, ERROR_BAD_URL, "url: blanks and control characters are refused");
        if (!string_starts_with_nocase(text, "http://") && !string_starts_with_nocase(text, "https://"))
                return refuse(err, ERROR_BAD_URL, "url: only http:// and https:// are fetched");
        if (strncmp(strchr(text, ':'), ":///", 4) == 0)
                return refuse(err, ERROR_BAD_URL, "url: there is no host in it");

        CLEANUP(curlu_free) CURLU *handle = curl_url();
        if (!handle)
                return refuse(err, ERROR_INTERNAL, "out of memory");
        CURLUcode code = curl_url_set(handle, CURLUPART_URL, text, 0);
        if (code != CURLUE_OK)
                return refuse(err, ERROR_BAD_URL, "url: %s", curl_url_strerror(code));
        return url_take(handle, ERROR_BAD_URL, "url", ret_url, err);
}

bool url_resolve(const struct url *base, const char *location, struct url *ret_url, struct error *err)
{
        if (strlen(location) > URL_BYTES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "Location: longer than %d bytes", URL_BYTES_MAX);

        CLEANUP(curlu_free) CURLU *handle = curl_url();
        if (!handle || curl_url_set(handle, CURLUPART_URL, base->text, 0) != CURLUE_OK)
                return refuse(err, ERROR_INTERNAL, "out of memory");
        CURLUcode code = curl_url_set(handle, CURLUPART_URL, location, CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME);
        if (code != CURLUE_OK)
                return refuse(err, ERROR_UPSTREAM_ERROR, "Location: %s", curl_url_strerror(code));
        return url_take(handle, ERROR_UPSTREAM_ERROR, "Location", ret_url, err);
}

void url_fini(struct url *url)
{
        free(url->text);
        free(url->host);
        free(url->origin);
        *url = (struct url){ 0 };
}

bool url_same_origin(const struct url *a, const struct url *b)
{
        return string_equal(a->origin, b->origin);
}

bool url_split_host(const char *key, char **ret_host, unsigned *ret_port)
{
        const char *end = strrchr(key, ':');
        if (key[0] == '[') {
                const char *bracket = strchr(key, ']');
                if (!bracket || (bracket[1] && bracket[1] != ':'))
                        return false;
                end = bracket[1] ? bracket + 1 : NULL;
        } else if (end && strchr(key, ':') != end) {
                end = NULL;            /* a bare IPv6 address */
        }

        unsigned port = 0;
        if (end) {
                char *rest = NULL;
                unsigned long number = strtoul(end + 1, &rest, 10);
                if (end[1] < '0' || end[1] > '9' || *rest || number == 0 || number > 65535)
                        return false;
                port = (unsigned)number;
        }
        size_t length = end ? (size_t)(end - key) : strlen(key);
        if (length == 0 || length > 255 || strcspn(key, "/@?# \t\r\n") < strlen(key))
                return false;
        CLEANUP(cleanup_free) char *host = string_copy_bytes(key, length);
        *ret_host = host_plain(host);
        *ret_port = port;
        return true;
}

bool url_host_matches(const char *key, const char *host, unsigned port, bool tls)
{
        CLEANUP(cleanup_free) char *key_host = NULL;
        unsigned key_port = 0;
        if (!url_split_host(key, &key_host, &key_port))
                return false;
        if (key_port == 0)
                key_port = tls ? 443 : 80;
        return key_port == port && strcmp(key_host, host) == 0;
}

bool url_host_is_loopback(const char *host)
{
        struct address address;
        if (strcmp(host, "localhost") == 0)
                return true;
        return address_parse(host, &address) && address_is_loopback(&address);
}

bool fetch_url_check(const char *url, char **ret_origin, struct error *err)
{
        CLEANUP(url_fini) struct url parsed = { 0 };
        if (!url_parse(url, &parsed, err))
                return false;
        if (strchr(url, '?'))
                return refuse(err, ERROR_BAD_URL, "url: a query (\"?…\") is refused in a module URL");
        if (strchr(url, '#'))
                return refuse(err, ERROR_BAD_URL, "url: a fragment (\"#…\") is refused in a module URL");
        /* userinfo may be empty ("https://@host/"), which the parser forgets */
        const char *authority = strstr(url, "://") + 3;
        if (memchr(authority, '@', strcspn(authority, "/")))
                return refuse(err, ERROR_BAD_URL, "url: user name or password in a URL is refused; use a pull secret");
        const char *path = strchr(authority, '/');
        if (!path || string_ends_with(url, "/"))
                return refuse(err, ERROR_BAD_URL, "url: it ends without the name of a file");
        *ret_origin = TAKE(parsed.origin);
        return true;
}

char *fetch_url_origin(const char *text)
{
        struct url url = { 0 };
        struct error ignored = { 0 };
        if (!url_parse(text, &url, &ignored))
                return NULL;
        char *origin = TAKE(url.origin);
        url_fini(&url);
        return origin;
}
