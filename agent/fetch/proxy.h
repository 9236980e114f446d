/* proxy: which proxy a URL goes through, by the rules of Go's httpproxy package ([oci] 6.3), so that a node's NO_PROXY means one thing to kubelet, containerd and us. */
#pragma once
#include <stdbool.h>
#include <wasmcached/base.h>
#include "url.h"

/* Texts are copied; NULL or "" = none. */
struct proxy_rules { char *http, *https, *no_proxy; };

/* Takes `configured`, or the environment's where it is empty; checks the URLs. ERROR_BAD_REQUEST names the option. */
bool proxy_rules_init(const char *http, const char *https, const char *no_proxy, struct proxy_rules *ret_rules, struct error *err);
void proxy_rules_fini(struct proxy_rules *rules);
/* The proxy's URL, or NULL for a direct connection. Borrowed. */
const char *proxy_rules_choose(const struct proxy_rules *rules, const struct url *url);
/* May be used by tests: does NO_PROXY `list` name this host and port? */
bool proxy_is_excluded(const char *list, const char *host, unsigned port);
