/* want: a decoded request, checked and normalised; never changed after decoding, so that workers may read it while the loop holds a reference. */
#pragma once
#include <wasmcached/credential.h>
#include <wasmcached/module.h>
#include <wasmcached/registry.h>
#include <wasmcached/trust.h>

enum want_kind { WANT_OCI, WANT_HTTP, WANT_FILE };

enum { WANT_TIMEOUT_MS = 30000, WANT_TIMEOUT_MAX_MS = 3600 * 1000, WANT_TEXT_MAX_BYTES = 4096, WANT_RESOURCE_MAX_BYTES = 253 };

struct demands;
struct module_want {
        unsigned references;
        enum want_kind kind;
        char *url;                        /* as asked for */
        char *name;                       /* key of the catalog's references: "oci://host/path:tag", "oci://host/path@sha256:…", "https://host/x", "file:///x" */
        char *repository;                 /* of grants: "host/path", or the name for http(s) and file */
        char *host;                       /* whose slots a pull takes */
        char *path;                       /* of WANT_FILE, absolute */
        struct reference reference;       /* of WANT_OCI */
        struct digest pin;                /* of the url or `sha256`: manifest (or index) for oci, module for others; unset = not pinned */
        enum module_policy policy;        /* effective: never UNSPECIFIED */
        bool is_policy_given;
        char *namespace, *secret_name;    /* NULL = none named */
        char *resource_name, *resource_version;
        struct docker_config *inline_config;
        struct trust_keys *key;           /* of verificationKey; NULL = none */
        struct demands *demands;          /* what demands_of() made of it; the loop's alone */
        int64_t timeout_ms;
};

/* For refresh and re-pull: the want that asks again for a name of the catalog. */
bool module_want_again(const char *name, enum module_policy policy, const char *namespace, const char *secret_name, struct module_want **ret_want, struct error *err);
/* "a-z0-9-", at most 63 (RFC 1123). */
bool want_is_dns_label(const char *text);
bool want_is_dns_subdomain(const char *text);
/* What a reference is called in the catalog, from any way to write it; used by find and refresh too. */
bool want_parse_url(const char *url, struct module_want *want, struct error *err);
/* want_key.c: keys by their text, those that were used last kept, since checking one costs more than a whole answer from the cache. Loop. */
bool want_parse_key(const char *text, struct trust_keys **ret_keys, struct error *err);
