/*
 * How it goes: a proxy-wasm plugin (ABI 0.2.1) of one file and no library: on each response it adds the header "x-wasmcached: yes". The demo builds it, pushes it and gets it back.
 * How it fails: it cannot; what the host refuses is left as it is.
 * How it ends: contexts own nothing, so there is nothing to free.
 *
 * Build: clang --target=wasm32 -O2 -nostdlib -Wl,--no-entry -o plugin.wasm header.c
 */
#include <stddef.h>
#include <stdint.h>

#define EXPORT(name_) __attribute__((export_name(name_), used))
#define IMPORT(name_) __attribute__((import_module("env"), import_name(name_)))

enum { MAP_RESPONSE_HEADERS = 2, ACTION_CONTINUE = 0, HEAP_BYTES = 64 << 10 };

IMPORT("proxy_add_header_map_value")
uint32_t proxy_add_header_map_value(uint32_t map, const char *key, size_t key_bytes, const char *value, size_t value_bytes);

static unsigned char heap[HEAP_BYTES];
static size_t heap_used;

/* Says which ABI this module speaks. */
EXPORT("proxy_abi_version_0_2_1")
void proxy_abi_version_0_2_1(void)
{
}

/* Where the host puts bytes for us; what it asks for is small and short-lived, so a ring is enough. */
EXPORT("proxy_on_memory_allocate")
void *proxy_on_memory_allocate(size_t size)
{
        size = (size + 15) & ~(size_t)15;
        if (size > HEAP_BYTES)
                return NULL;
        if (size > HEAP_BYTES - heap_used)
                heap_used = 0;
        void *bytes = heap + heap_used;
        heap_used += size;
        return bytes;
}

EXPORT("proxy_on_context_create")
void proxy_on_context_create(uint32_t context, uint32_t parent)
{
        (void)context;
        (void)parent;
}

EXPORT("proxy_on_vm_start")
uint32_t proxy_on_vm_start(uint32_t context, uint32_t configuration_bytes)
{
        (void)context;
        (void)configuration_bytes;
        return 1;
}

EXPORT("proxy_on_configure")
uint32_t proxy_on_configure(uint32_t context, uint32_t configuration_bytes)
{
        (void)context;
        (void)configuration_bytes;
        return 1;
}

EXPORT("proxy_on_response_headers")
uint32_t proxy_on_response_headers(uint32_t context, uint32_t headers, uint32_t end_of_stream)
{
        static const char key[] = "x-wasmcached", value[] = "yes";

        (void)context;
        (void)headers;
        (void)end_of_stream;
        proxy_add_header_map_value(MAP_RESPONSE_HEADERS, key, sizeof key - 1, value, sizeof value - 1);
        return ACTION_CONTINUE;
}

EXPORT("proxy_on_done")
uint32_t proxy_on_done(uint32_t context)
{
        (void)context;
        return 1;
}
