/*
 * How it goes: the challenge that was acted on is kept per endpoint and login, so that the next request brings its authorization along and costs no 401.
 * How it fails: a memory that is wrong costs one refused request, which brings a new challenge.
 * How it ends: all forgotten when the map is full, and with the registry.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { MEMORIES_MAX = 4096 };

void memory_entry_fini(struct memory *memory)
{
        free(memory->realm);
        free(memory->service);
        free(memory->scope);
        free(memory->path);
        *memory = (struct memory){ 0 };
}

void memory_entry_free(void *value)
{
        memory_entry_fini(value);
        free(value);
}

static char *key_format(const struct registry_call *call)
{
        char fingerprint[DIGEST_TEXT_BYTES];

        fingerprint_format(call->registry, call->login, fingerprint);
        return string_format("%s\n%s", call->endpoint, fingerprint);
}

void memory_keep(const struct registry_call *call, const struct challenge *challenge)
{
        CLEANUP(cleanup_free) char *key = key_format(call);
        struct memory *memory = memory_new(1, sizeof *memory);
        struct registry *registry = call->registry;

        memory->is_basic = strcasecmp(challenge->scheme, "Basic") == 0;
        memory->realm = string_copy(challenge->realm);
        memory->service = string_copy(challenge->service);
        memory->scope = string_copy(challenge->scope);
        memory->path = string_copy(call->path);
        pthread_mutex_lock(&registry->lock);
        if (map_get_count(registry->memories) >= MEMORIES_MAX) {
                map_free(&registry->memories);
                registry->memories = map_new(memory_entry_free);
        }
        map_put_text(registry->memories, key, memory);
        pthread_mutex_unlock(&registry->lock);
}

bool memory_find(const struct registry_call *call, struct memory *ret_memory)
{
        CLEANUP(cleanup_free) char *key = key_format(call);
        struct registry *registry = call->registry;

        pthread_mutex_lock(&registry->lock);
        const struct memory *memory = map_get_text(registry->memories, key);
        if (memory)
                *ret_memory = (struct memory){
                        memory->is_basic, string_copy(memory->realm), string_copy(memory->service),
                        /* What another path needed says nothing about this one. */
                        string_equal(memory->path, call->path) ? string_copy(memory->scope) : NULL, string_copy(memory->path),
                };
        pthread_mutex_unlock(&registry->lock);
        return memory != NULL;
}

void memory_forget(const struct registry_call *call)
{
        CLEANUP(cleanup_free) char *key = key_format(call);

        pthread_mutex_lock(&call->registry->lock);
        map_remove_text(call->registry->memories, key);
        pthread_mutex_unlock(&call->registry->lock);
}
