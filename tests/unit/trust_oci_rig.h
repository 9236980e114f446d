/* For tests of OCI signatures: signed objects made from templates at test time, and one call that judges. Include after cmocka.h. */
#pragma once
#include "trust_again.h"
#include "trust_rig.h"

#define RIG_SIGN_V1 "https://sigstore.dev/cosign/sign/v1"
#define RIG_STATEMENT "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"digest\":{\"sha256\":\"$D\"}}],\"predicateType\":\"" RIG_SIGN_V1 "\",\"predicate\":{}}"
#define RIG_BUNDLE "{\"mediaType\":\"application/vnd.dev.sigstore.bundle.v0.3+json\",\"verificationMaterial\":{\"publicKey\":{\"hint\":\"aGludA==\"}},\"dsseEnvelope\":{\"payload\":\"$P\"," \
                   "\"payloadType\":\"application/vnd.in-toto+json\",\"signatures\":[{\"sig\":\"$S\"}]}}"
#define RIG_PAYLOAD "{\"critical\":{\"identity\":{\"docker-reference\":\"registry.example/team/a\"},\"image\":{\"docker-manifest-digest\":\"sha256:$D\"},\"type\":\"cosign container image signature\"}," \
                    "\"optional\":null}"

/* Every `$X` of the template with the text of `pairs` ("$X", text, …, NULL); the caller frees. */
RIG char *rig_fill(const char *template, const char *const *pairs)
{
        struct buffer out = { 0 };
        buffer_append(&out, "", 0);
        while (*template) {
                const char *const *pair = pairs;
                while (*pair && strncmp(template, *pair, strlen(*pair)) != 0)
                        pair += 2;
                if (*pair)
                        buffer_append_text(&out, pair[1]);
                else
                        buffer_append(&out, template, 1);
                template += *pair ? strlen(*pair) : 1;
        }
        return buffer_take(&out);
}

/* `text` with its first `from` replaced; there must be one. */
RIG char *rig_swap(const char *text, const char *from, const char *to)
{
        const char *at = strstr(text, from);
        assert_non_null(at);
        return string_format("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

RIG const char *rig_hash_of(EVP_PKEY *pkey)
{
        int bits = EVP_PKEY_get_base_id(pkey) == EVP_PKEY_EC ? EVP_PKEY_get_bits(pkey) : 0;
        return EVP_PKEY_get_base_id(pkey) == EVP_PKEY_ED25519 ? NULL : bits == 384 ? "SHA384" : bits == 521 ? "SHA512" : "SHA256";
}

RIG char *rig_sign_base64(EVP_PKEY *pkey, const char *hash, struct span message)
{
        struct rig_bytes signature = rig_sign(pkey, hash, false, message);
        return base64_encode(signature.data, signature.size);
}

RIG struct trust_target rig_manifest(const char *bytes)
{
        struct trust_target target = { .kind = TRUST_TARGET_MANIFEST, .bytes = bytes, .size_bytes = strlen(bytes), .repository = "registry.example/team/a", .tag = "v1" };
        digest_sha256(bytes, strlen(bytes), &target.digest);
        return target;
}

RIG char *rig_statement(const char *template, const struct trust_target *target)
{
        char hex[DIGEST_TEXT_BYTES];
        digest_format_hex(&target->digest, hex);
        return rig_fill(template, (const char *const[]){ "$D", hex, NULL });
}

RIG char *rig_pae(const char *type, const char *payload)
{
        return string_format("DSSEv1 %zu %s %zu %s", strlen(type), type, strlen(payload), payload);
}

/* A bundle over the statement (both templates), signed by `pkey` with `hash`. */
RIG char *rig_bundle_with(EVP_PKEY *pkey, const char *hash, const char *bundle, const char *statement, const struct trust_target *target)
{
        CLEANUP(cleanup_free) char *payload = rig_statement(statement, target), *encoded = base64_encode(payload, strlen(payload));
        CLEANUP(cleanup_free) char *pae = rig_pae("application/vnd.in-toto+json", payload), *signature = rig_sign_base64(pkey, hash, SPAN(pae, strlen(pae)));
        return rig_fill(bundle, (const char *const[]){ "$P", encoded, "$S", signature, NULL });
}

RIG char *rig_bundle(EVP_PKEY *pkey, const char *bundle, const char *statement, const struct trust_target *target)
{
        return rig_bundle_with(pkey, rig_hash_of(pkey), bundle, statement, target);
}

struct rig_verdict { bool is_good; struct trust_proof proof; struct trust_failure failure; };
RIG void rig_verdict_fini(struct rig_verdict *verdict)
{
        trust_proof_fini(&verdict->proof);
}

/* `options` NULL = the defaults. What the judge leaves behind is consistent in either case. */
RIG struct rig_verdict rig_judge(const struct trust_keys *keys, const struct trust_policy_options *options, const struct trust_target *target, const struct trust_evidence *evidence)
{
        struct trust_policy_options defaults = { .formats = TRUST_FORMATS_DEFAULT };
        CLEANUP(trust_policy_unref) struct trust_policy *policy = trust_policy_new(options ? options : &defaults);
        struct trust_demand demand = { keys, policy };
        struct trust_budget budget = TRUST_BUDGET;
        struct rig_verdict verdict = { .failure = TRUST_FAILURE_NONE };
        struct judged_before before = { &demand, target, evidence, budget, false };
        before.is_good = verdict.is_good = trust_judge(&demand, target, evidence, &budget, &verdict.proof, &verdict.failure);
        judge_again(&before, &verdict.proof, &verdict.failure);
        if (verdict.is_good)
                assert_true(verdict.proof.format && verdict.proof.algorithm && digest_is_set(&verdict.proof.fingerprint));
        else
                assert_true(verdict.failure.reason < TRUST_REASONS && verdict.failure.text[0] && !verdict.proof.format && !verdict.proof.annotations && verdict.proof.logged_s == 0);
        return verdict;
}

RIG struct trust_evidence rig_bundle_evidence(const char *text)
{
        return (struct trust_evidence){ .form = TRUST_FORM_BUNDLE, .body = text, .body_bytes = strlen(text), .where = "referrer" };
}

RIG struct trust_evidence rig_simple_evidence(const char *payload, const char *signature)
{
        return (struct trust_evidence){ .form = TRUST_FORM_SIMPLE, .body = payload, .body_bytes = strlen(payload), .signature = signature, .where = "tag" };
}

#define RIG_GOOD TRUST_REASONS
/* `reason` RIG_GOOD = proved; else refused for this reason with a sentence that has `says`. */
RIG void rig_expect(const struct rig_verdict *verdict, enum trust_reason reason, const char *says, const char *what)
{
        if (reason == RIG_GOOD && !verdict->is_good)
                fail_msg("%s: refused: %s: %s", what, trust_reason_names[verdict->failure.reason], verdict->failure.text);
        if (reason != RIG_GOOD && verdict->is_good)
                fail_msg("%s: taken, should be %s", what, trust_reason_names[reason]);
        if (reason != RIG_GOOD && (verdict->failure.reason != reason || !strstr(verdict->failure.text, says)))
                fail_msg("%s: expected %s \"%s\", got %s: %s", what, trust_reason_names[reason], says, trust_reason_names[verdict->failure.reason], verdict->failure.text);
}
