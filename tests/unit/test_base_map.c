/* The map against a model, and the walk from which entries go. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/base.h>

enum { KEYS = 300, OPS = 30000 };

static unsigned freed;

static void count_free(void *value)
{
        (void)value;
        freed++;
}

static unsigned next_random(unsigned *seed)
{
        *seed = *seed * 1103515245u + 12345u;
        return *seed >> 16;
}

static char values[KEYS][4];

/* Every entry of the model once, nothing else. */
static void walk_check(const struct map *map, char *const model[KEYS])
{
        size_t position = 0, key_bytes, seen = 0;
        const void *key;
        void *value;
        bool was[KEYS] = { false };
        while (map_next(map, &position, &key, &key_bytes, &value)) {
                unsigned number;
                assert_int_equal(key_bytes, sizeof number);
                memcpy(&number, key, sizeof number);
                assert_true(number < KEYS && !was[number]);
                assert_ptr_equal(model[number], value);
                was[number] = true;
                seen++;
        }
        assert_int_equal(seen, map_get_count(map));
}

static void test_model(void **state)
{
        (void)state;
        char *model[KEYS] = { NULL };
        unsigned seed = 1, count = 0, dropped = 0;
        struct map *map = map_new(count_free);
        freed = 0;
        for (unsigned i = 0; i < OPS; i++) {
                unsigned key = next_random(&seed) % KEYS;
                char *value = values[next_random(&seed) % KEYS];
                switch (next_random(&seed) % 4) {
                case 0:
                case 1:
                        dropped += model[key] && model[key] != value;
                        count += !model[key];
                        map_put(map, &key, sizeof key, value);
                        model[key] = value;
                        break;
                case 2:
                        assert_int_equal(map_remove(map, &key, sizeof key), model[key] != NULL);
                        dropped += model[key] != NULL;
                        count -= model[key] != NULL;
                        model[key] = NULL;
                        break;
                default:
                        assert_ptr_equal(map_take(map, &key, sizeof key), model[key]);
                        count -= model[key] != NULL;
                        model[key] = NULL;
                }
                assert_ptr_equal(map_get(map, &key, sizeof key), model[key]);
                assert_int_equal(map_get_count(map), count);
                assert_int_equal(freed, dropped);
                if (i % 997 == 0)
                        walk_check(map, model);
        }
        map_free(&map);
        assert_int_equal(freed, dropped + count);
        assert_null(map);
        map_free(&map);
}

/* Each entry is met once whichever of them go while they are the current one. Many maps: the seed of the hash is one, the sizes differ. */
static void test_remove_while_walking(void **state)
{
        (void)state;
        unsigned seed = 7;
        for (unsigned count = 0; count < 200; count++) {
                struct map *map = map_new(NULL);
                bool met[200] = { false };
                size_t position = 0, key_bytes, removed = 0, total = 0;
                const void *key;
                void *value;
                for (unsigned i = 0; i < count; i++)
                        map_put(map, &i, sizeof i, values[i]);
                while (map_next(map, &position, &key, &key_bytes, &value)) {
                        unsigned number;
                        memcpy(&number, key, sizeof number);
                        assert_true(number < count && !met[number]);
                        met[number] = true;
                        total++;
                        if (count % 3 == 0 || next_random(&seed) % 2) {
                                assert_true(map_remove(map, &number, sizeof number));
                                removed++;
                        }
                }
                assert_int_equal(total, count);
                assert_int_equal(map_get_count(map), count - removed);
                map_free(&map);
        }
}

static void test_keys(void **state)
{
        (void)state;
        struct map *map = map_new(NULL);
        map_put_text(map, "", values[0]);
        map_put_text(map, "a", values[1]);
        map_put(map, "a", 2, values[2]);                  /* with its NUL: another key */
        map_put(map, "a\0b", 3, values[3]);
        map_put_text(map, "12345678", values[4]);
        map_put_text(map, "123456789", values[5]);
        assert_ptr_equal(map_get_text(map, ""), values[0]);
        assert_ptr_equal(map_get_text(map, "a"), values[1]);
        assert_ptr_equal(map_get(map, "a", 2), values[2]);
        assert_ptr_equal(map_get(map, "a\0b", 3), values[3]);
        assert_ptr_equal(map_get(map, "a\0c", 3), NULL);
        assert_ptr_equal(map_get_text(map, "12345678"), values[4]);
        assert_null(map_get_text(map, "1234567"));
        assert_int_equal(map_get_count(map), 6);
        char name[] = "copied";
        map_put_text(map, name, values[6]);
        name[0] = 'x';
        assert_ptr_equal(map_get_text(map, "copied"), values[6]);
        assert_false(map_remove_text(map, "nobody"));
        assert_true(map_remove_text(map, ""));
        assert_null(map_get_text(map, ""));
        map_free(&map);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_model), cmocka_unit_test(test_remove_while_walking), cmocka_unit_test(test_keys) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
