/* client: the configuration of fetch and the pool of warm connections. */
#pragma once
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <wasmcached/fetch.h>
#include "address.h"
#include "gate.h"
#include "proxy.h"
#include "url.h"

enum { SLOTS_IDLE_MAX = 8, SLOTS_IDLE_PER_KEY = 4, SLOT_AGE_MS = 60 * 1000 };

struct host { char *key; bool plain_http, skip_verify; char *ca, *client_certificate, *client_key; };

/* One easy and one multi handle of libcurl, used by one request at a time; while idle they hold a connection, its TLS session and the parsed CA bundle. */
struct slot { struct slot *next; CURLM *multi; CURL *easy; char *key; int64_t idle_since_ms; };

struct fetch_client {
        atomic_uint references;
        int64_t connect_timeout_ms, progress_timeout_ms;
        unsigned retries;
        struct host *hosts;
        size_t host_count;
        struct address_filter filter;
        struct proxy_rules proxies;
        const char *ca_folder;         /* the system's, when it is a hashed one; else NULL */
        const char *ca_bundle;
        struct gates gates;
        pthread_mutex_t mutex;         /* of the two below */
        struct slot *idle;             /* newest first */
        size_t idle_count;
};

/* Does it say anything about how the host is reached. */
bool host_is_told(const struct host *host);
const struct host *client_find_host(const struct fetch_client *client, const struct url *url);         /* NULL: nothing configured */
/* A slot that has talked to this origin lately, or a new one. Connections made for public_only requests are kept apart, for their address was filtered more strictly; so are those
   that were made with other files for TLS. */
struct slot_want { const char *origin; const struct fetch_endpoint *endpoint; bool public_only; };
bool client_slot_take(struct fetch_client *client, const struct slot_want *want, struct slot **ret_slot, struct error *err);
void client_slot_give(struct fetch_client *client, struct slot **slot);

extern struct stats { atomic_ullong requests, retries, resumes, connections, bytes, waits; } stats;
