/* url: an http(s) URL taken apart once; everything that compares origins uses this. */
#pragma once
#include <stdbool.h>
#include <wasmcached/base.h>

enum { URL_BYTES_MAX = 16 << 10, URL_SHOWN_BYTES = 400 };

struct url {
        char *text;            /* what is requested: no userinfo, no fragment */
        char *host;            /* lower case, IPv6 without brackets and without zone */
        char *origin;          /* "https://host:port", port always there */
        char shown[URL_SHOWN_BYTES];       /* scheme, host, path: printable, never a query (it may be a pre-signed secret) */
        unsigned port;
        bool tls;
};

/* Absolute http(s) URL; ERROR_BAD_URL says what is wrong with it. */
bool url_parse(const char *text, struct url *ret_url, struct error *err);
/* What a Location header means at `base` (RFC 3986 5); ERROR_UPSTREAM_ERROR. */
bool url_resolve(const struct url *base, const char *location, struct url *ret_url, struct error *err);
void url_fini(struct url *url);
bool url_same_origin(const struct url *a, const struct url *b);
/* "host[:port]" of a reference or configuration key against the host and effective port of a URL; a key without port means the default port of `tls`. */
bool url_host_matches(const char *key, const char *host, unsigned port, bool tls);
/* Splits "host[:port]" or "[v6]:port"; host lower case, caller frees; port 0 where none is said. False when it is none. */
bool url_split_host(const char *key, char **ret_host, unsigned *ret_port);
/* "localhost" or a literal loopback address; no name is resolved. */
bool url_host_is_loopback(const char *host);
