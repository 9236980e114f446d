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

/* host[:port][/path] of a key as written; NULL when the kubelet would ignore it (no URL, port that is no number). Caller frees. */
char *keyring_index_key(const char *raw_key);
