/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libwasmcache: the client of wasmcached. Blocking calls over the daemon's Unix socket; one connection may be used by one thread at a time.
 * Link with `pkg-config --libs wasmcache`.
 *
 *      struct wasmcache *cache;
 *      struct wasmcache_error err;
 *      struct wasmcache_module *module;
 *      if (wasmcache_connect(NULL, &cache, &err) == WASMCACHE_OK &&
 *          wasmcache_get(cache, &(struct wasmcache_request){ .url = "oci://registry.example/team/authz:v1" }, &module, &err) == WASMCACHE_OK)
 *              puts(wasmcache_module_path(module));
 */
#ifndef WASMCACHE_H
#define WASMCACHE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum wasmcache_result { WASMCACHE_OK = 0, WASMCACHE_REFUSED = 1, WASMCACHE_USAGE = 2, WASMCACHE_UNREACHABLE = 3 };

/* status and code are the daemon's (RFC 9457 problem); "" and 0 when it was not reached. Filled on failure only; who needs no more than the
   result gives NULL for it. */
struct wasmcache_error { int status; unsigned retry_after_s; char code[32]; char text[1024]; };

struct wasmcache;
struct wasmcache_module;

/*
 * `socket_path` NULL: $WASMCACHED_SOCKET, else /run/wasmcached/agent.sock. Reconnects by itself when the daemon was restarted, and is patient with one that is being replaced:
 * a call that finds nobody there, or one that says busy (503: starting, stopping, full), tries again, with growing pauses or after Retry-After, until its patience ends.
 * $WASMCACHED_PATIENCE ("60s"; "0s" = none) sets it, also for wasmcache_connect(); without it, connecting is tried once, and what has once been reached is waited for up to 10 s.
 */
int wasmcache_connect(const char *socket_path, struct wasmcache **ret_cache, struct wasmcache_error *err);
void wasmcache_close(struct wasmcache *cache);
/* Of all later calls, each from its start on, beside the time that it takes by itself; 0 = none. A proxy in a cluster takes as long as its DaemonSet needs for an upgrade. */
void wasmcache_set_patience(struct wasmcache *cache, unsigned patience_ms);
/* From any thread: the call under way on `cache`, and all later ones, return WASMCACHE_UNREACHABLE; then only close it. Ends a wasmcache_stream() that waits. */
void wasmcache_interrupt(struct wasmcache *cache);

/* NULL members are left out. pull_secret is a docker config JSON; it is wiped from buffers after sending. */
struct wasmcache_request {
        const char *url, *sha256, *image_pull_policy, *image_pull_secret, *verification_key, *ns, *resource_name, *resource_version, *pull_secret, *timeout;
};
/* Waits until the module is there or the daemon refuses. The lease lasts until its expiry unless renewed or released. */
int wasmcache_get(struct wasmcache *cache, const struct wasmcache_request *request, struct wasmcache_module **ret_module, struct wasmcache_error *err);
void wasmcache_module_free(struct wasmcache_module *module);                /* does not release the lease */
const char *wasmcache_module_path(const struct wasmcache_module *module);
const char *wasmcache_module_sha256(const struct wasmcache_module *module);
const char *wasmcache_module_digest(const struct wasmcache_module *module);        /* NULL for http(s) and file */
const char *wasmcache_module_source(const struct wasmcache_module *module);        /* "cache", "revalidated", "pulled" */
const char *wasmcache_module_lease(const struct wasmcache_module *module);
const char *wasmcache_module_lease_expires(const struct wasmcache_module *module); /* RFC 3339 */
uint64_t wasmcache_module_size(const struct wasmcache_module *module);
const char *wasmcache_module_json(const struct wasmcache_module *module);          /* the whole object as the daemon sent it */

int wasmcache_renew(struct wasmcache *cache, const char *lease, struct wasmcache_error *err);
int wasmcache_release(struct wasmcache *cache, const char *lease, struct wasmcache_error *err);
/* A read-only fd of the module: the path if this process can open it, else the bytes over the socket into a sealed memfd. Caller closes. */
int wasmcache_open_fd(struct wasmcache *cache, const struct wasmcache_module *module, int *ret_fd, struct wasmcache_error *err);

/* Any route: for tools. *ret_body is malloc'ed, NUL-terminated; a status >= 400 is WASMCACHE_REFUSED with the problem in err (body kept too). `body` NULL = none. */
int wasmcache_call(struct wasmcache *cache, const char *method, const char *path, const char *body, int *ret_status, char **ret_body, size_t *ret_size,
        struct wasmcache_error *err);
/* The same, but the body goes to `take` piece by piece (content, events?follow=1) until the end or take returns non-zero. */
int wasmcache_stream(struct wasmcache *cache, const char *path, int (*take)(void *arg, const char *bytes, size_t size), void *arg, struct wasmcache_error *err);

#ifdef __cplusplus
}
#endif
#endif
