/*
 * credential: pull secrets: decode docker configs, find the logins for a repository as the kubelet does, ask its exec credential providers.
 * Rules: reference/oci-and-kubernetes.md 3.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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

/* ---- exec credential providers, as the kubelet runs them ([oci] 3.9; kubelet.config.k8s.io/v1 CredentialProviderConfig) ---- */
struct credential_providers_options {
        const char *config;               /* CredentialProviderConfig file, or a folder whose *.yaml, *.yml and *.json are read in order of names */
        const char *bin_dir;              /* of the programs */
        int64_t timeout_ms;               /* of one run; 0 = the kubelet's one minute */
};
struct credential_providers;              /* counted; any thread */
/* Reads the files, looks for the programs. ERROR_BAD_REQUEST "FILE:LINE: providers[0].name: what is wrong". Blocks. */
bool credential_providers_load(const struct credential_providers_options *options, struct credential_providers **ret_providers, struct error *err);
struct credential_providers *credential_providers_ref(struct credential_providers *providers);    /* NULL of NULL */
void credential_providers_unref(struct credential_providers **providers);

struct credential_ask { const char *host, *path; struct cancel *cancel; int64_t deadline_ms; };    /* as keyring_find; clock_get_ms() value, 0 = none */
struct credential_found { struct login *logins; size_t count; struct error trouble; };             /* trouble: of a provider that failed, code ERROR_NONE if none did */
/* Worker. Runs every provider that matches, unless its answer is cached or under way for another; a provider that fails is logged and told in `trouble`, the others' logins are
   given. False only for the caller's own end: ERROR_BUSY (cancelled), ERROR_TIMEOUT (deadline). */
bool credential_providers_ask(struct credential_providers *providers, const struct credential_ask *ask, struct credential_found *ret_found, struct error *err);
void credential_found_fini(struct credential_found *found);
