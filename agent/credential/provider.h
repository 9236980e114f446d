/* provider: what the files about exec credential providers share: one provider with its cache and its runs under way. */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "config.h"

enum { PROVIDERS_MAX = 256, PROVIDER_TIMEOUT_MS = 60000, PROVIDER_STDOUT_MAX = 1 << 20, PROVIDER_CACHE_MAX = 1024 };

enum provider_key { PROVIDER_KEY_IMAGE, PROVIDER_KEY_REGISTRY, PROVIDER_KEY_GLOBAL, PROVIDER_KEYS };
struct provider_answer {
        unsigned references;              /* under the lock, as all of this header from here on */
        enum provider_key key_type;
        int64_t cache_ms;                 /* -1 = the provider's default, 0 = not kept */
        struct docker_config *config;
};
struct provider_cached { enum provider_key key_type; char *key; int64_t expires_ms; struct provider_answer *answer; };
/* One execution for an image; who asks the same meanwhile waits for it. */
struct provider_run {
        struct provider_run *next;
        char *image;
        unsigned references;
        bool is_done, is_abandoned;       /* abandoned: its caller was cancelled, which says nothing about the provider */
        struct provider_answer *answer;   /* NULL when it failed */
        struct error err;
};

struct provider {
        char *name, *program, *api_version;
        char **patterns, **args, **environment;   /* NULL-terminated; environment as "NAME=value" */
        int64_t cache_ms;
        bool wants_account;               /* needs a service account's token, which nobody here has */
        struct provider_cached cached[PROVIDER_CACHE_MAX]; size_t cached_count;
        struct provider_run *runs;
};

struct credential_providers {
        atomic_uint references;
        int64_t timeout_ms;
        pthread_mutex_t lock;
        pthread_cond_t changed;           /* a run ended or a waiter was cancelled */
        struct provider **list; size_t count;
};

/* provider_config.c */
bool provider_config_load(const struct credential_providers_options *options, struct credential_providers *providers, struct error *err);
void provider_free(struct provider *provider);                             /* what the configuration made; the cache is empty then */
/* Is it there, a file, executable, and nobody's but its owner's (and group's) to change. */
bool provider_check_program(const char *program, struct error *err);

/* provider_exec.c: worker. ERROR_BUSY, ERROR_TIMEOUT (`deadline_ms`, 0 = none) are the caller's own end; everything else is ERROR_UPSTREAM_ERROR and the provider's. */
struct provider_exec { const struct provider *provider; const char *request; struct cancel *cancel; int64_t deadline_ms, timeout_ms; };
bool provider_exec(const struct provider_exec *exec, struct buffer *ret_stdout, struct error *err);

/* provider_answer.c: a CredentialProviderResponse; errors never quote it. */
bool provider_answer_read(const char *text, size_t size_bytes, const char *api_version, struct provider_answer **ret_answer, struct error *err);
char *provider_request_format(const char *image, const char *api_version);
