/* What both programs of the crash test know: three contents, which only their numbers make different. */
#pragma once
#include <stdint.h>
#include <string.h>
#include <wasmcached/base.h>

struct script_module { const char *name, *namespace; size_t size; uint32_t seed; };

static const struct script_module script[] = { { "a", "team-a", 70000, 1 }, { "b", "team-b", 20000, 2 }, { "c", "team-a", 600000, 3 } };

static inline void script_fill(const struct script_module *module, size_t at, void *ret_bytes, size_t size)
{
        for (size_t i = 0; i < size; i++)
                ((uint8_t *)ret_bytes)[i] = (uint8_t)(((at + i) * 2654435761U + module->seed * 40503U) >> 13);
}

static inline void script_manifest(const struct script_module *module, struct digest *ret_manifest)
{
        digest_sha256(module->name, strlen(module->name), ret_manifest);
}
