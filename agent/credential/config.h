/* What the files of this room share: the entries of a docker config, in order of the key as it was written. */
#pragma once
#include <wasmcached/credential.h>

struct config_entry {
        char *raw_key;                    /* as written */
        char *index_key;                  /* host[:port][/path] ([oci] 3.3) */
        struct login login;
};

struct docker_config {
        struct config_entry *entries;
        size_t count, skipped;
};

/* As docker_config_parse, but a config without any entry is true with count 0: node configs often hold settings only. */
bool docker_config_read(const void *bytes, size_t size_bytes, enum docker_config_kind kind, struct docker_config **ret_config, struct error *err);

/* The entries of a map {"<registry>": {…}}: what "auths" and a provider's "auth" hold. At most CREDENTIAL_ENTRIES_MAX of them (the caller's to check). */
struct docker_config *docker_config_from_map(const struct value *auths);

/* host[:port][/path] of a key as written; NULL when the kubelet would ignore it (no URL, port that is no number). Caller frees. */
char *keyring_index_key(const char *raw_key);
/* The same of a provider's matchImages, which has no scheme and keeps its path as it is (kubelet's ParseSchemelessURL). */
char *keyring_pattern_key(const char *pattern);
/* Does an index key (of either) fit. */
bool keyring_index_key_fits(const char *index_key, const char *host, const char *path);
