/*
 * credential: pull secrets: decode docker configs, find the logins for a repository as the kubelet does. Rules: reference/oci-and-kubernetes.md 3.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <wasmcached/base.h>

enum { CREDENTIAL_CONFIG_MAX_BYTES = 1 << 20, CREDENTIAL_ENTRIES_MAX = 4096 };

enum docker_config_kind { DOCKER_CONFIG_JSON, DOCKER_CONFIG_LEGACY };      /* {"auths": {…}} of .dockerconfigjson; {…} of .dockercfg */
struct docker_config;
/* A text from outside. ERROR_SECRET_MISSING ("is no docker config: …", offset, never content) when it is no JSON object of that shape or has no usable entry at all; single bad
   entries are skipped and counted. In memory, any thread. */
bool docker_config_parse(const void *bytes, size_t size_bytes, enum docker_config_kind kind, struct docker_config **ret_config, struct error *err);
void docker_config_free(struct docker_config **config);
size_t docker_config_get_skipped(const struct docker_config *config);
/* Hash of all entries keyed by `key`: equal contents, equal principal. */
void docker_config_fingerprint(const struct docker_config *config, const void *key, size_t key_bytes, struct digest *ret_fingerprint);

/* The logins that fit `host`/`path` of a reference (docker.io for the Hub), in the kubelet's order, without duplicates; configs earlier in the list come first for equal keys.
   *ret_logins is an array of copies (logins_free); none fitting = count 0, which means anonymous is right. In memory, any thread. */
void keyring_find(const struct docker_config *const *configs, size_t config_count, const char *host, const char *path, struct login **ret_logins, size_t *ret_count);
void logins_free(struct login **logins, size_t count);
/* Exposed for tables: does the config key (as written in a docker config) fit ([oci] 3.3, 3.4). */
bool keyring_key_matches(const char *key, const char *host, const char *path);

/* Worker. <secrets_dir>/<namespace>/<name>/.dockerconfigjson, else .dockercfg, following the ..data swap (opened through one folder fd, so both are of one version).
   ERROR_SECRET_MISSING names namespace/name and what lacks: folder, file, content; unreadable (EACCES) is said as such.
   `secrets_dir` empty: says that no source of secrets is configured. */
bool credential_load_secret(const char *secrets_dir, const char *namespace, const char *name, struct docker_config **ret_config, struct error *err);
/* Worker. The node's own docker config; a file that is absent gives *ret_config = NULL and true. */
bool credential_load_node(const char *path, struct docker_config **ret_config, struct error *err);
