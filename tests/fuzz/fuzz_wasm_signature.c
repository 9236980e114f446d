/* Any module, judged with the key of K7: what proves has the header of a core module, and with one byte changed, cut off or added it proves no more. Signature data alone, as sidecar of K7. */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/trust.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char pem[] = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAIVL40Zt5HSRFMkLhXy6rbLfP+ntqXtMAl5YOBpiB2xI=\n-----END PUBLIC KEY-----\n";
static const char k7[] = "\0asm\1\0\0\0\1\4\1\x60\0\0\0\0\4\1\x61\1\2";

static bool is_proved(enum trust_form form, const void *module, size_t module_bytes, const void *body, size_t body_bytes)
{
        static struct trust_keys *keys;
        static struct trust_policy *policy;
        struct error err;
        if (!keys && !trust_keys_parse(pem, sizeof pem - 1, "key", &keys, &err))
                abort();
        if (!policy)
                policy = trust_policy_new(&(struct trust_policy_options){ .formats = (1u << TRUST_FORMATS) - 1 });

        const struct trust_demand demand = { keys, policy };
        const struct trust_target target = { .kind = TRUST_TARGET_MODULE, .bytes = module, .size_bytes = module_bytes };
        const struct trust_evidence evidence = { .form = form, .body = body, .body_bytes = body_bytes, .where = "here" };
        struct trust_budget budget = { 16, TRUST_BUDGET.bytes };
        struct trust_failure failure = TRUST_FAILURE_NONE;
        struct trust_proof proof = { 0 };
        if (trust_judge(&demand, &target, &evidence, &budget, &proof, &failure)) {
                trust_proof_fini(&proof);
                return true;
        }
        if (failure.reason >= TRUST_REASONS || !*failure.text)
                abort();
        return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        is_proved(TRUST_FORM_SIDECAR_SIG, k7, sizeof k7 - 1, data, size);
        if (!is_proved(TRUST_FORM_EMBEDDED, data, size, NULL, 0))
                return 0;
        uint8_t *copy = malloc(size + 1);
        if (size < 8 || memcmp(data, "\0asm\1\0\0\0", 8) != 0 || !copy)
                abort();
        memcpy(copy, data, size);
        copy[size] = 0;
        if (is_proved(TRUST_FORM_EMBEDDED, copy, size - 1, NULL, 0) || is_proved(TRUST_FORM_EMBEDDED, copy, size + 1, NULL, 0))
                abort();
        copy[size - 1] ^= 1;
        if (is_proved(TRUST_FORM_EMBEDDED, copy, size, NULL, 0))
                abort();
        free(copy);
        return 0;
}
