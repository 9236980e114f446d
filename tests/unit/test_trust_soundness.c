/* What of a key is checked after it was read (2.1): keys are read on the loop, and for large RSA keys this check takes a tenth of a second. Nothing is verified without it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <cmocka.h>
#include "trust_rig.h"

/* d NULL: the public half. EVP_PKEY_free() frees. */
static EVP_PKEY *rsa_make(const BIGNUM *n, const BIGNUM *d)
{
        OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
        BIGNUM *e = BN_new();
        BN_set_word(e, 65537);
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_N, n);
        OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_E, e);
        if (d)
                OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_RSA_D, d);
        OSSL_PARAM *parameters = OSSL_PARAM_BLD_to_param(builder);
        EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        EVP_PKEY *pkey = NULL;
        assert_true(EVP_PKEY_fromdata_init(context) == 1 && EVP_PKEY_fromdata(context, &pkey, d ? EVP_PKEY_KEYPAIR : EVP_PKEY_PUBLIC_KEY, parameters) == 1);
        EVP_PKEY_CTX_free(context);
        OSSL_PARAM_free(parameters);
        OSSL_PARAM_BLD_free(builder);
        BN_free(e);
        return pkey;
}

static void test_unsound(void **state)
{
        (void)state;
        EVP_PKEY *p256 = rig_key("P-256");
        BIGNUM *prime = BN_get_rfc3526_prime_2048(NULL), *even = BN_dup(prime), *three = BN_dup(prime);
        BN_clear_bit(even, 0);
        while (BN_mod_word(three, 3) != 0)
                BN_sub_word(three, 2);
        const BIGNUM *moduli[] = { prime, even, three };
        CLEANUP(cleanup_free) char *good_pem = rig_pem(p256);
        for (size_t i = 0; i < COUNT_OF(moduli); i++) {
                EVP_PKEY *pkey = rsa_make(moduli[i], NULL);
                CLEANUP(cleanup_free) char *pem = rig_pem(pkey), *both = string_format("%s%s", good_pem, pem);
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(pem), *set = rig_parse(both), *good = rig_parse(good_pem);
                for (int again = 0; again < 2; again++) {
                        struct error err = { 0 };
                        assert_false(trust_keys_check(keys, "verificationKey", &err));
                        assert_int_equal(err.code, ERROR_BAD_KEY);
                        assert_ptr_equal(strstr(err.text, "verificationKey: the key is not sound"), err.text);
                        assert_false(trust_keys_check(set, "verificationKey", &err));
                        assert_ptr_equal(strstr(err.text, "verificationKey, key 2 of 2: the key is not sound"), err.text);
                        assert_true(trust_keys_check(good, "verificationKey", &err));
                        assert_int_equal(ERR_peek_error(), 0);
                }
                EVP_PKEY_free(pkey);
        }
        EVP_PKEY_free(p256);
        BN_free(prime);
        BN_free(even);
        BN_free(three);
}

/* OpenSSL reads a key that is the point at infinity; that is found at once. */
static void test_point_at_infinity(void **state)
{
        (void)state;
        static const char *const ders[] = { "3019301306072a8648ce3d020106082a8648ce3d03010703020000", "3016301006072a8648ce3d020106052b8104002203020000", "3016301006072a8648ce3d020106052b8104002303020000" };
        for (size_t i = 0; i < COUNT_OF(ders); i++) {
                struct rig_bytes der = rig_hex(ders[i]);
                CLEANUP(cleanup_free) char *pem = rig_pem_of("PUBLIC KEY", der.data, der.size);
                struct trust_keys *keys = NULL;
                struct error err = { 0 };
                assert_false(trust_keys_parse(pem, strlen(pem), "verificationKey", &keys, &err));
                assert_int_equal(err.code, ERROR_BAD_KEY);
                assert_non_null(strstr(err.text, "the key is not sound"));
        }
}

/* Of a prime modulus everybody can make the private half. What it signed is good for OpenSSL, and never for us, whether anybody has checked the key or not. */
static void test_verifies_nothing(void **state)
{
        (void)state;
        BN_CTX *context = BN_CTX_new();
        BIGNUM *n = BN_get_rfc3526_prime_2048(NULL), *order = BN_dup(n), *e = BN_new(), *d = BN_new();
        BN_set_word(e, 65537);
        BN_sub_word(order, 1);
        assert_non_null(BN_mod_inverse(d, e, order, context));
        EVP_PKEY *pkey = rsa_make(n, d);
        CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
        struct rig_bytes signature = rig_sign(pkey, "SHA256", false, SPAN("m", 1));
        EVP_MD_CTX *verifier = EVP_MD_CTX_new();
        assert_int_equal(EVP_DigestVerifyInit(verifier, NULL, EVP_sha256(), NULL, pkey), 1);
        assert_int_equal(EVP_DigestVerify(verifier, signature.data, signature.size, (const unsigned char *)"m", 1), 1);
        for (int checked = 0; checked < 2; checked++) {
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(pem);
                struct trust_budget budget = TRUST_BUDGET;
                struct verified verified;
                struct error err;
                assert_true(!checked || !trust_keys_check(keys, "key", &err));
                assert_int_equal(verify_message(keys, &(struct verify_input){ .message = SPAN("m", 1), .signature = rig_span(&signature) }, &budget, &verified), VERIFY_BAD);
                assert_int_equal(ERR_peek_error(), 0);
        }
        EVP_MD_CTX_free(verifier);
        EVP_PKEY_free(pkey);
        BN_free(n);
        BN_free(order);
        BN_free(e);
        BN_free(d);
        BN_CTX_free(context);
}

/* CPU time, so that a busy machine does not matter; of several tries the best. */
static void test_reading_is_cheap(void **state)
{
        (void)state;
        bool is_cheap = false, is_once = false;
        for (int i = 0; i < 5 && !(is_cheap && is_once); i++) {
                BIGNUM *n = BN_new();
                bool has_small_factor = true;
                while (has_small_factor) {
                        BN_rand(n, 8192, BN_RAND_TOP_TWO, BN_RAND_BOTTOM_ODD);
                        has_small_factor = false;
                        for (BN_ULONG factor = 3; factor < 1000 && !has_small_factor; factor += 2)
                                has_small_factor = BN_mod_word(n, factor) == 0;
                }
                EVP_PKEY *pkey = rsa_make(n, NULL);
                CLEANUP(cleanup_free) char *pem = rig_pem(pkey);
                struct error err;
                clock_t began = clock();
                CLEANUP(trust_keys_unref) struct trust_keys *keys = rig_parse(pem);
                clock_t read = clock();
                assert_true(trust_keys_check(keys, "key", &err));
                clock_t checked = clock();
                assert_true(trust_keys_check(keys, "key", &err));
                is_cheap |= (read - began) * 10 < checked - read;
                is_once |= (clock() - checked) * 10 < checked - read;
                EVP_PKEY_free(pkey);
                BN_free(n);
        }
        assert_true(is_cheap && is_once);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_unsound), cmocka_unit_test(test_point_at_infinity), cmocka_unit_test(test_verifies_nothing), cmocka_unit_test(test_reading_is_cheap) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
