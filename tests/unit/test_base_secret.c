/* Secrets, logins and their fingerprints; the flag that cancels; sinks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <wasmcached/base.h>

static void test_secret(void **state)
{
        (void)state;
        char bytes[] = "pa\0ss";
        struct secret *secret = secret_new(bytes, 5), *copy = secret_copy(secret), *empty = secret_new(NULL, 0);
        memset(bytes, 'x', 5);
        assert_memory_equal(secret_get_text(secret), "pa\0ss", 6);
        assert_int_equal(secret_get_size(secret), 5);
        assert_true(secret_equal(secret, copy));
        assert_false(secret_equal(secret, empty));
        assert_false(secret_equal(NULL, empty));
        assert_true(secret_equal(NULL, NULL));
        assert_string_equal(secret_get_text(empty), "");
        assert_string_equal(secret_get_text(NULL), "");
        assert_int_equal(secret_get_size(NULL), 0);
        assert_null(secret_copy(NULL));
        secret_free(&secret);
        secret_free(&secret);
        secret_free(&copy);
        secret_free(&empty);
        assert_null(secret);
}

/* NULL = absent, which is not the same as empty. No two of them have one fingerprint. */
static const char *const logins[][4] = {
        { NULL, NULL, NULL, NULL }, { "", NULL, NULL, NULL }, { "", "", NULL, NULL }, { "a", "b", NULL, NULL }, { "ab", "", NULL, NULL }, { "ab", NULL, NULL, NULL }, { NULL, "ab", NULL, NULL },
        { NULL, NULL, "ab", NULL }, { NULL, NULL, NULL, "ab" }, { "a", NULL, "b", NULL }, { "a", NULL, NULL, "b" }, { "b", "a", NULL, NULL }, { "a", "b", "", NULL }, { "a", "b", NULL, "" },
};

static struct login login_of(const char *const texts[4])
{
        return (struct login){
                .username = string_copy(texts[0]), .password = texts[1] ? secret_new(texts[1], strlen(texts[1])) : NULL,
                .identity_token = texts[2] ? secret_new(texts[2], strlen(texts[2])) : NULL, .registry_token = texts[3] ? secret_new(texts[3], strlen(texts[3])) : NULL,
        };
}

static void test_fingerprints(void **state)
{
        (void)state;
        for (size_t i = 0; i < COUNT_OF(logins); i++) {
                CLEANUP(login_fini) struct login left = login_of(logins[i]);
                struct digest of_left, other_key;
                login_fingerprint(&left, "key", 3, &of_left);
                login_fingerprint(&left, "kez", 3, &other_key);
                assert_false(digest_equal(&of_left, &other_key));
                assert_int_equal(login_is_anonymous(&left), i == 0);
                for (size_t k = 0; k < COUNT_OF(logins); k++) {
                        CLEANUP(login_fini) struct login right = login_of(logins[k]);
                        struct digest of_right;
                        login_fingerprint(&right, "key", 3, &of_right);
                        assert_int_equal(digest_equal(&of_left, &of_right), i == k);
                        assert_int_equal(login_equal(&left, &right), i == k);
                }
        }
        struct digest none, anonymous;
        struct login nobody = { 0 };
        login_fingerprint(NULL, "key", 3, &none);
        login_fingerprint(&nobody, "key", 3, &anonymous);
        assert_true(digest_equal(&none, &anonymous));
        assert_true(login_is_anonymous(NULL));

        CLEANUP(login_fini) struct login whole = login_of(logins[13]);
        CLEANUP(login_fini) struct login copy = { 0 };
        assert_true(login_copy(&whole, &copy));
        assert_true(login_equal(&whole, &copy));
        assert_ptr_not_equal(whole.password, copy.password);
}

static atomic_uint wakes;

static void wake(void *arg)
{
        atomic_fetch_add((atomic_uint *)arg, 1);
}

static void test_cancel(void **state)
{
        (void)state;
        struct cancel *cancel = cancel_new();
        atomic_uint count = 0;
        assert_false(cancel_is_triggered(NULL));
        assert_false(cancel_is_triggered(cancel));
        cancel_set_waker(NULL, wake, &count);
        cancel_set_waker(cancel, wake, &count);
        assert_int_equal(atomic_load(&count), 0);
        cancel_set_waker(cancel, NULL, NULL);
        cancel_trigger(cancel);
        assert_int_equal(atomic_load(&count), 0);         /* taken away: never called */
        assert_true(cancel_is_triggered(cancel));
        cancel_set_waker(cancel, wake, &count);
        assert_int_equal(atomic_load(&count), 1);         /* late: called at once */
        cancel_trigger(cancel);
        assert_int_equal(atomic_load(&count), 2);
        cancel_free(&cancel);
        cancel_free(&cancel);
        assert_null(cancel);
}

static void *trigger(void *arg)
{
        for (int i = 0; i < 50; i++)
                cancel_trigger(arg);
        return NULL;
}

/* The waker's argument is gone once the waker was taken away: under ASan and TSan a late call would show. */
static void test_cancel_threads(void **state)
{
        (void)state;
        for (int turn = 0; turn < 50; turn++) {
                struct cancel *cancel = cancel_new();
                pthread_t threads[3];
                atomic_uint *count = memory_new(1, sizeof *count);
                for (size_t i = 0; i < COUNT_OF(threads); i++)
                        assert_int_equal(pthread_create(&threads[i], NULL, trigger, cancel), 0);
                cancel_set_waker(cancel, wake, count);
                while (!cancel_is_triggered(cancel))
                        cancel_set_waker(cancel, wake, count);
                cancel_set_waker(cancel, NULL, NULL);
                free(count);
                for (size_t i = 0; i < COUNT_OF(threads); i++)
                        pthread_join(threads[i], NULL);
                assert_true(cancel_is_triggered(cancel));
                cancel_free(&cancel);
        }
        assert_int_equal(atomic_load(&wakes), 0);
}

static void test_sink(void **state)
{
        (void)state;
        struct buffer buffer = { .limit = 5 };
        struct sink_buffer sink;
        struct error err = { 0 };
        sink_buffer_init(&sink, &buffer, "token");
        assert_true(sink.sink.write(&sink.sink, "abc", 3, &err));
        assert_false(sink.sink.write(&sink.sink, "def", 3, &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        assert_non_null(strstr(err.text, "token"));
        assert_true(sink.sink.restart(&sink.sink, &err));
        assert_int_equal(buffer.used, 0);
        assert_true(sink.sink.write(&sink.sink, "defgh", 5, &err));
        assert_string_equal(buffer.data, "defgh");
        buffer_fini(&buffer);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_secret), cmocka_unit_test(test_fingerprints), cmocka_unit_test(test_cancel), cmocka_unit_test(test_cancel_threads), cmocka_unit_test(test_sink),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
