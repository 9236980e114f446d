/* Any .minisig, judged with the key of K11 over the file "test": what proves does not for another file. */
#include <stdlib.h>
#include <wasmcached/trust.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char pem[] = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAeaVh5w7gjNPnVMY+m9a5w1IKHUIEzRBNoufvdjsYU7c=\n-----END PUBLIC KEY-----\n";

static bool is_proved(const char *file, const uint8_t *data, size_t size)
{
        static struct trust_keys *keys;
        static struct trust_policy *policy;
        struct error err;
        if (!keys && !trust_keys_parse(pem, sizeof pem - 1, "key", &keys, &err))
                abort();
        if (!policy)
                policy = trust_policy_new(&(struct trust_policy_options){ .formats = 1u << TRUST_MINISIGN });

        const struct trust_demand demand = { keys, policy };
        const struct trust_target target = { .kind = TRUST_TARGET_FILE, .bytes = file, .size_bytes = 4 };
        const struct trust_evidence evidence = { .form = TRUST_FORM_SIDECAR_MINISIG, .body = data, .body_bytes = size, .where = "here" };
        struct trust_budget budget = TRUST_BUDGET;
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
        if (is_proved("test", data, size) && is_proved("tesu", data, size))
                abort();
        return 0;
}
