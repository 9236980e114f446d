/*
 * How it goes: open addressing with linear probing over power-of-two slots, at most four fifths full; removal shifts the chain back, so there are no tombstones.
 *              Keys are hashed with a seed of this process: names come from outside, collisions must not.
 * How it fails: it does not.
 * How it ends: map_free frees keys, and values by the function given.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <wasmcached/base/digest.h>
#include <wasmcached/base/map.h>
#include <wasmcached/base/memory.h>

enum { HUGE_PAGE_BYTES = 2 << 20, HUGE_FROM_BYTES = 4 << 20, FULL = 4, FULL_OF = 5 };

struct slot { const void *key; void *value; uint32_t hash, key_bytes; };
struct map { struct slot *slots; size_t slot_count, used; void (*free_value)(void *value); bool is_borrowing; };

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_init(void)
{
        random_bytes(seed, sizeof seed);
}

static uint64_t mix(uint64_t a, uint64_t b)
{
        __uint128_t product = (__uint128_t)a * b;
        return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint32_t hash_of(const void *key, size_t key_bytes)
{
        const uint8_t *at = key;
        uint64_t hash = seed[0] ^ key_bytes, word;

        for (; key_bytes >= sizeof word; at += sizeof word, key_bytes -= sizeof word) {
                memcpy(&word, at, sizeof word);
                hash = mix(hash ^ word, seed[1] | 1);
        }
        word = 0;
        if (key_bytes > 0)
                memcpy(&word, at, key_bytes);
        return (uint32_t)mix(hash ^ word, seed[1] ^ 0x9e3779b97f4a7c15u);
}

struct map *map_new(void (*free_value)(void *value))
{
        struct map *map = memory_new(1, sizeof *map);

        pthread_once(&seed_once, seed_init);
        map->slot_count = 16;
        map->slots = memory_new(map->slot_count, sizeof *map->slots);
        map->free_value = free_value;
        return map;
}

struct map *map_new_borrowing(void (*free_value)(void *value))
{
        struct map *map = map_new(free_value);

        map->is_borrowing = true;
        return map;
}

static void key_drop(const struct map *map, const struct slot *slot)
{
        union { const void *kept; void *owned; } key = { slot->key };

        if (!map->is_borrowing)
                free(key.owned);
}

static void value_drop(const struct map *map, void *value)
{
        if (map->free_value)
                map->free_value(value);
}

void map_free(struct map **map)
{
        if (!*map)
                return;
        for (size_t i = 0; i < (*map)->slot_count; i++)
                if ((*map)->slots[i].value) {
                        key_drop(*map, &(*map)->slots[i]);
                        value_drop(*map, (*map)->slots[i].value);
                }
        free((*map)->slots);
        free(TAKE(*map));
}

/* The slot of that key, or the free one where it would go. */
static struct slot *slot_find(const struct map *map, uint32_t hash, const void *key, size_t key_bytes)
{
        size_t mask = map->slot_count - 1;

        for (size_t i = hash & mask;; i = (i + 1) & mask) {
                struct slot *slot = &map->slots[i];

                if (!slot->value || (slot->hash == hash && slot->key_bytes == key_bytes && memcmp(slot->key, key, key_bytes) == 0))
                        return slot;
        }
}

void *map_get(const struct map *map, const void *key, size_t key_bytes)
{
        return slot_find(map, hash_of(key, key_bytes), key, key_bytes)->value;
}

/* A large table is walked at random: on huge pages each step costs one miss less. All of it is touched anyway. */
static struct slot *slots_new(size_t slot_count)
{
        size_t size_bytes = slot_count * sizeof(struct slot);

        if (size_bytes < HUGE_FROM_BYTES)
                return memory_new(slot_count, sizeof(struct slot));
        size_bytes = (size_bytes + HUGE_PAGE_BYTES - 1) & ~(size_t)(HUGE_PAGE_BYTES - 1);
        struct slot *slots = aligned_alloc(HUGE_PAGE_BYTES, size_bytes);
        if (!slots)
                return memory_new(slot_count, sizeof(struct slot));
        madvise(slots, size_bytes, MADV_HUGEPAGE);      /* where there are none it stays as it is */
        memset(slots, 0, size_bytes);
        return slots;
}

/* All keys differ: the first free slot is the right one, no key is looked at. */
static void grow(struct map *map, size_t slot_count)
{
        struct slot *old = map->slots;
        size_t old_count = map->slot_count, mask = slot_count - 1;

        map->slot_count = slot_count;
        map->slots = slots_new(slot_count);
        for (size_t i = 0; i < old_count; i++) {
                size_t at = old[i].hash & mask;

                if (!old[i].value)
                        continue;
                while (map->slots[at].value)
                        at = (at + 1) & mask;
                map->slots[at] = old[i];
        }
        free(old);
}

void map_reserve(struct map *map, size_t count)
{
        size_t slot_count = map->slot_count;

        while (count * FULL_OF > slot_count * FULL)
                slot_count *= 2;
        if (slot_count > map->slot_count)
                grow(map, slot_count);
}

void map_put(struct map *map, const void *key, size_t key_bytes, void *value)
{
        uint32_t hash = hash_of(key, key_bytes);
        struct slot *slot = slot_find(map, hash, key, key_bytes);

        if (slot->value) {
                if (slot->value != value)
                        value_drop(map, slot->value);
                slot->value = value;
                if (map->is_borrowing)
                        slot->key = key;
                return;
        }
        if ((map->used + 1) * FULL_OF > map->slot_count * FULL) {
                grow(map, 2 * map->slot_count);
                slot = slot_find(map, hash, key, key_bytes);
        }
        *slot = (struct slot){ map->is_borrowing ? key : string_copy_bytes(key, key_bytes), value, hash, (uint32_t)key_bytes };
        map->used++;
}

void *map_take(struct map *map, const void *key, size_t key_bytes)
{
        struct slot *slot = slot_find(map, hash_of(key, key_bytes), key, key_bytes);
        size_t mask = map->slot_count - 1, hole = (size_t)(slot - map->slots);
        void *value = slot->value;

        if (!value)
                return NULL;
        key_drop(map, slot);
        for (size_t i = (hole + 1) & mask; map->slots[i].value; i = (i + 1) & mask) {
                size_t home = map->slots[i].hash & mask;

                if (((i - home) & mask) < ((i - hole) & mask))
                        continue;
                map->slots[hole] = map->slots[i];
                hole = i;
        }
        map->slots[hole] = (struct slot){ 0 };
        map->used--;
        return value;
}

bool map_remove(struct map *map, const void *key, size_t key_bytes)
{
        void *value = map_take(map, key, key_bytes);

        if (value)
                value_drop(map, value);
        return value != NULL;
}

size_t map_get_count(const struct map *map)
{
        return map->used;
}

/*
 * Downwards from the end of a chain to its start: what a removal shifts comes from slots behind the hole, which were visited already, so a walk that removes the current entry
 * neither skips nor repeats. The walk begins behind a free slot (there always is one), so that no chain wraps round its end. *position = slots walked + 1.
 */
bool map_next(const struct map *map, size_t *position, const void **ret_key, size_t *ret_key_bytes, void **ret_value)
{
        size_t mask = map->slot_count - 1, start = *position >> 32;

        if (*position == 0) {
                while (map->slots[start].value)
                        start++;
                *position = start << 32;
        }
        for (size_t walked = *position & UINT32_MAX; walked < map->slot_count;) {
                const struct slot *slot = &map->slots[(start - ++walked) & mask];

                if (!slot->value)
                        continue;
                *position = start << 32 | walked;
                if (ret_key)
                        *ret_key = slot->key;
                if (ret_key_bytes)
                        *ret_key_bytes = slot->key_bytes;
                *ret_value = slot->value;
                return true;
        }
        return false;
}

void *map_get_text(const struct map *map, const char *key)
{
        return map_get(map, key, strlen(key));
}

void map_put_text(struct map *map, const char *key, void *value)
{
        map_put(map, key, strlen(key), value);
}

bool map_remove_text(struct map *map, const char *key)
{
        return map_remove(map, key, strlen(key));
}
