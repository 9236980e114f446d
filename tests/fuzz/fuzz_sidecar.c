/* Any file beside a module, as .sig and as legacy bundle, judged with an Ed25519 and an EC key over K7's module: what proves does not for another file. */
#include <stdlib.h>
#include <wasmcached/trust.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char pem[] = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAIVL40Zt5HSRFMkLhXy6rbLfP+ntqXtMAl5YOBpiB2xI=\n-----END PUBLIC KEY-----\n"
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFNLqFhf4fiN6o/glAuYnq2jYUeL0vRuLu/z39pmbVwS9ff5AYnlwaP9sxREajdLY9ynM6G1sy6AAmb7Z63TsLg==\n-----END PUBLIC KEY-----\n";
static const char k7[] = "\0asm\1\0\0\0\1\4\1\x60\0\0\0\0\4\1\x61\1\2", other[] = "\0asm\1\0\0\0\1\4\1\x60\0\0\0\0\4\1\x61\1\3";

static bool is_proved(enum trust_form form, const char *file, const uint8_t *data, size_t size)
{
        static struct trust_keys *keys;
        static struct trust_policy *policy;
        struct error err;
        if (!keys && !trust_keys_parse(pem, sizeof pem - 1, "key", &keys, &err))
                abort();
        if (!policy)
                policy = trust_policy_new(&(struct trust_policy_options){ .formats = (1u << TRUST_FORMATS) - 1 });

        const struct trust_demand demand = { keys, policy };
        const struct trust_target target = { .kind = TRUST_TARGET_FILE, .bytes = file, .size_bytes = sizeof k7 - 1 };
        const struct trust_evidence evidence = { .form = form, .body = data, .body_bytes = size, .where = "here" };
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
        for (enum trust_form form = TRUST_FORM_SIDECAR_SIG; form <= TRUST_FORM_SIDECAR_LEGACY; form++)
                if (is_proved(form, k7, data, size) && is_proved(form, other, data, size))
                        abort();
        return 0;
}
