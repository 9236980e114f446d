/* map: bytes → pointer, open addressing, seeded per process (names come from outside). Not thread-safe. */
#pragma once
#include <stdbool.h>
#include <stddef.h>

struct map;
/* Keys are copied. `free_value` (may be NULL) is called for values that are replaced, removed or left at map_free. */
struct map *map_new(void (*free_value)(void *value)) __attribute__((returns_nonnull));
/* Keys are not copied: each belongs to its value, and stays as long as it is in the map. */
struct map *map_new_borrowing(void (*free_value)(void *value)) __attribute__((returns_nonnull));
/* Room for `count` entries at once, where so many are known to come. */
void map_reserve(struct map *map, size_t count);
void map_free(struct map **map);
void *map_get(const struct map *map, const void *key, size_t key_bytes);
void map_put(struct map *map, const void *key, size_t key_bytes, void *value);     /* value not NULL */
bool map_remove(struct map *map, const void *key, size_t key_bytes);              /* false: was not there */
void *map_take(struct map *map, const void *key, size_t key_bytes);               /* removes without free_value; NULL: was not there */
size_t map_get_count(const struct map *map);
/* Walks in no order; *position starts at 0. The current entry may be removed during the walk, others not, and nothing put. */
bool map_next(const struct map *map, size_t *position, const void **ret_key, size_t *ret_key_bytes, void **ret_value);

void *map_get_text(const struct map *map, const char *key);
void map_put_text(struct map *map, const char *key, void *value);
bool map_remove_text(struct map *map, const char *key);
