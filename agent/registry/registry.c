/*
 * How it goes: made once by the daemon, shared by all workers; it holds the fetch client, the allowed pairs and what was learned (tokens, how endpoints want to be asked).
 * How it fails: it cannot.
 * How it ends: registry_free() after the last worker; tokens are wiped.
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

struct registry *registry_new(struct fetch_client *fetch, const struct registry_options *options)
{
        struct registry *registry = memory_new(1, sizeof *registry);
        pthread_condattr_t attributes;
        size_t count = 0;

        while (options && options->realm_pairs && options->realm_pairs[count])
                count++;
        registry->realm_pairs = memory_new(count + 1, sizeof *registry->realm_pairs);
        for (size_t i = 0; i < count; i++)
                registry->realm_pairs[i] = string_copy(options->realm_pairs[i]);

        registry->fetch = fetch_client_ref(fetch);
        random_bytes(registry->key, sizeof registry->key);
        pthread_mutex_init(&registry->lock, NULL);
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&registry->changed, &attributes);
        pthread_condattr_destroy(&attributes);
        registry->tokens = map_new(token_entry_free);
        registry->memories = map_new(memory_entry_free);
        return registry;
}

void registry_free(struct registry **registry)
{
        struct registry *gone = TAKE(*registry);

        if (!gone)
                return;
        map_free(&gone->tokens);
        map_free(&gone->memories);
        pthread_cond_destroy(&gone->changed);
        pthread_mutex_destroy(&gone->lock);
        for (char **pair = gone->realm_pairs; *pair; pair++)
                free(*pair);
        free(gone->realm_pairs);
        fetch_client_unref(&gone->fetch);
        free(gone);
}

/* The Hub's name is not where it answers (containerd, oras: registry-1.docker.io). */
char *registry_format_endpoint(struct fetch_client *fetch, const char *host)
{
        bool is_plain = fetch_client_is_plain(fetch, host);

        if (strcmp(host, "docker.io") == 0 || strcmp(host, "index.docker.io") == 0)
                host = "registry-1.docker.io";
        return string_format("%s://%s", is_plain ? "http" : "https", host);
}
