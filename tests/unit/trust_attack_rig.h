/* For tests of published attacks: signed objects, the good one and what an attacker makes of it, and one call that judges. Include after cmocka.h. */
#pragma once
#include "trust_rig.h"

#define SIGN "https://sigstore.dev/cosign/sign/v1"
#define BUNDLE_TYPE "application/vnd.dev.sigstore.bundle.v0.3+json"
#define IN_TOTO "application/vnd.in-toto+json"

RIG EVP_PKEY *ours, *theirs, *log_key, *edwards;       /* configured; the attacker's; a transparency log's; seed 32 x 42h (K7) */
RIG struct trust_keys *keys, *edwards_keys, *log_keys;
RIG struct trust_policy *usual;
RIG struct trust_target image;                         /* MANIFEST, bytes at hand */
RIG char image_hex[DIGEST_TEXT_BYTES], other_hex[DIGEST_TEXT_BYTES];
RIG const char manifest[] = "{\"schemaVersion\":2}";
RIG struct trust_failure failure;
RIG struct trust_proof proof;

/* ---- judging ---- */
struct options { const struct trust_keys *keys; const struct trust_policy_options *policy; struct trust_budget *budget; };

RIG bool judge_with(struct options options, const struct trust_target *target, const struct trust_evidence *evidence)
{
        struct trust_budget budget = TRUST_BUDGET;
        CLEANUP(trust_policy_unref) struct trust_policy *policy = options.policy ? trust_policy_new(options.policy) : trust_policy_ref(usual);
        struct trust_demand demand = { options.keys ? options.keys : keys, policy };
        trust_proof_fini(&proof);
        failure = TRUST_FAILURE_NONE;
        return trust_judge(&demand, target, evidence, options.budget ? options.budget : &budget, &proof, &failure);
}

RIG void assert_proved(struct options options, const struct trust_target *target, const struct trust_evidence *evidence)
{
        if (!judge_with(options, target, evidence))
                fail_msg("refused: %s", failure.text);
}

RIG void assert_missed(struct options options, const struct trust_target *target, const struct trust_evidence *evidence, enum trust_reason reason)
{
        if (judge_with(options, target, evidence))
                fail_msg("an attack went through: %s", proof.format);
        if (failure.reason != reason)
                fail_msg("%s instead of %s: %s", trust_reason_names[failure.reason], trust_reason_names[reason], failure.text);
}

/* ---- making signed objects: texts are owned by the test's pool ---- */
RIG char *pool[400];
RIG size_t pooled;

RIG char *keep(char *text)
{
        assert_true(pooled < COUNT_OF(pool));
        return pool[pooled++] = text;
}

#define FORMAT(...) keep(string_format(__VA_ARGS__))

RIG const char *base64_of(const void *bytes, size_t size)
{
        return keep(base64_encode(bytes, size));
}

RIG const char *signed64(EVP_PKEY *pkey, const char *text)
{
        struct rig_bytes signature = rig_sign(pkey, EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519 ? NULL : "SHA256", false, SPAN(text, strlen(text)));
        return base64_of(signature.data, signature.size);
}

RIG const char *payload_of(const char *hex, const char *reference, const char *optional)
{
        return FORMAT("{\"critical\":{\"identity\":{\"docker-reference\":\"%s\"},\"image\":{\"docker-manifest-digest\":\"sha256:%s\"},\"type\":\"cosign container image signature\"},\"optional\":%s}",
                      reference, hex, optional);
}

RIG struct trust_evidence simple_of(const char *payload, const char *signature)
{
        return (struct trust_evidence){ .form = TRUST_FORM_SIMPLE, .body = payload, .body_bytes = strlen(payload), .signature = signature };
}

RIG struct trust_evidence simple_signed(EVP_PKEY *pkey, const char *payload)
{
        return simple_of(payload, signed64(pkey, payload));
}

RIG const char *statement_of(const char *predicate_type, const char *subjects)
{
        return FORMAT("{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[%s],\"predicateType\":\"%s\",\"predicate\":{}}", subjects, predicate_type);
}

RIG const char *subject_of(const char *hex)
{
        return FORMAT("{\"digest\":{\"sha256\":\"%s\"}}", hex);
}

RIG const char *pae_of(const char *type, const char *body)
{
        return FORMAT("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(body), body);
}

struct dsse { const char *payload, *type, *signature, *material, *more; };

RIG struct trust_evidence bundle_of(struct dsse dsse)
{
        const char *text = FORMAT("{\"mediaType\":\"" BUNDLE_TYPE "\",\"verificationMaterial\":{%s},\"dsseEnvelope\":{\"payload\":\"%s\",\"payloadType\":\"%s\",\"signatures\":[{\"sig\":\"%s\"%s}]}}",
                                  dsse.material ? dsse.material : "\"publicKey\":{\"hint\":\"\"}", base64_of(dsse.payload, strlen(dsse.payload)), dsse.type ? dsse.type : IN_TOTO, dsse.signature,
                                  dsse.more ? dsse.more : "");
        return (struct trust_evidence){ .form = TRUST_FORM_BUNDLE, .body = text, .body_bytes = strlen(text) };
}

RIG struct trust_evidence bundle_signed(EVP_PKEY *pkey, const char *statement)
{
        return bundle_of((struct dsse){ .payload = statement, .signature = signed64(pkey, pae_of(IN_TOTO, statement)) });
}

RIG struct trust_target file_of(const void *bytes, size_t size, enum trust_target_kind kind)
{
        struct trust_target target = { .kind = kind, .bytes = bytes, .size_bytes = size };
        digest_sha256(bytes, size, &target.digest);
        return target;
}

RIG struct trust_evidence sidecar_of(enum trust_form form, const char *body)
{
        return (struct trust_evidence){ .form = form, .body = body, .body_bytes = strlen(body) };
}

RIG int setup(void **state)
{
        static const uint8_t seed[32] = { [0 ... 31] = 0x42 };
        struct digest other;
        (void)state;
        ours = rig_key("P-256");
        theirs = rig_key("P-256");
        log_key = rig_key("P-256");
        edwards = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
        keys = rig_public(ours);
        log_keys = rig_public(log_key);
        edwards_keys = rig_public(edwards);
        usual = trust_policy_new(&(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT });
        image = file_of(manifest, sizeof manifest - 1, TRUST_TARGET_MANIFEST);
        image.repository = "host:5000/team/plugin";
        image.tag = "v1";
        digest_format_hex(&image.digest, image_hex);
        digest_sha256("other", 5, &other);
        digest_format_hex(&other, other_hex);
        return 0;
}

RIG int teardown(void **state)
{
        (void)state;
        trust_proof_fini(&proof);
        trust_keys_unref(&keys);
        trust_keys_unref(&log_keys);
        trust_keys_unref(&edwards_keys);
        trust_policy_unref(&usual);
        EVP_PKEY_free(ours);
        EVP_PKEY_free(theirs);
        EVP_PKEY_free(log_key);
        EVP_PKEY_free(edwards);
        return 0;
}

RIG int empty_pool(void **state)
{
        (void)state;
        while (pooled > 0)
                free(pool[--pooled]);
        return 0;
}

#define PLAIN ((struct options){ 0 })
#define WITH(...) ((struct options){ .policy = &(struct trust_policy_options){ .formats = TRUST_FORMATS_DEFAULT, __VA_ARGS__ } })

#define ROW(name) cmocka_unit_test_teardown(name, empty_pool)
