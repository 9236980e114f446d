/*
 * How it goes: what does the name mean (a pin by its digest, else the reference) → does the policy want the source asked → may this caller have it. The first check
 *              that says no names what has to be done instead.
 * How it fails: it cannot; no answer here is an error, a refusal comes from the source that is then asked.
 * How it ends: nothing is kept, nothing changed.
 */
#include <stdio.h>
#include <string.h>
#include "hit.h"

const char *const hit_result_names[HIT_RESULTS] = { "hit", "absent", "revalidate", "unproven", "unverified", "file" };

static void tell(const struct hit_question *question, const char *check, const char *result, const char *detail)
{
        if (question->trace)
                question->trace->told(question->trace->arg, check, result, detail);
}

/* The content is pinned: whatever brought it here, only the digest counts. */
static void look_up_pin(const struct hit_question *question, struct hit *hit)
{
        const struct module_want *want = question->want;
        hit->reference = catalog_find_reference(question->catalog, want->name);
        if (want->kind == WANT_OCI) {
                hit->image = catalog_find_image(question->catalog, &want->pin);
                hit->entry = hit->image ? hit->image->entry : NULL;
        } else {
                hit->entry = catalog_find_entry(question->catalog, &want->pin);
        }
        /* The url's own digest may be known by an import without a manifest. */
        if (!hit->entry && hit->reference && digest_is_set(&want->reference.digest) && !hit->reference->image)
                hit->entry = hit->reference->entry;
        tell(question, "pin", hit->entry ? "known" : "unknown",
                hit->entry ? "the pinned digest is in the cache; the pull policy does not matter" : "nothing with the pinned digest is in the cache");
}

static void look_up_name(const struct hit_question *question, struct hit *hit)
{
        hit->reference = catalog_find_reference(question->catalog, question->want->name);
        if (hit->reference) {
                hit->image = hit->reference->image;
                hit->entry = hit->reference->entry;
        }
        tell(question, "reference", hit->entry ? "known" : "unknown",
                hit->entry ? "this name was pulled before and what it meant is in the cache" : "this name was never pulled, or what it meant has been let go");
}

/* With a resource the source is asked once per version of it (Istio's meaning of Always); what was found then is the answer for that version. */
static bool is_settled_for_resource(const struct hit_question *question, struct hit *hit)
{
        const struct module_want *want = question->want;
        if (!want->resource_name)
                return false;

        const struct resource *known = catalog_find_resource(question->catalog, question->namespace, want->resource_name);
        if (!known || strcmp(known->version, want->resource_version) != 0 || strcmp(known->reference, want->name) != 0)
                return false;

        struct image *image = catalog_find_image(question->catalog, &known->manifest);
        struct entry *entry = image ? image->entry : digest_is_set(&known->manifest) ? NULL : catalog_find_entry(question->catalog, &known->module);
        if (!entry)
                return false;
        hit->image = image;
        hit->entry = entry;
        return true;
}

static bool is_fresh(const struct hit_question *question, struct hit *hit)
{
        if (digest_is_set(&question->want->pin) || question->want->policy != MODULE_POLICY_ALWAYS)
                return true;

        bool settled = is_settled_for_resource(question, hit);
        tell(question, "policy", settled ? "fresh" : "ask",
                settled                           ? "Always, and the source was asked for this version of the resource"
                : question->want->is_policy_given ? "Always: the source is asked whether the name still means the same"
                                                  : "no policy given and the tag is latest, so Always: the source is asked whether it still means the same");
        return settled;
}

static const char *access_words(const struct grant *grant)
{
        static const char *const words[GRANT_KINDS] = {
                [GRANT_ANONYMOUS] = "it was pulled without credentials, so everybody on this node may have it",
                [GRANT_NODE] = "it was pulled with the node's own credentials, so everybody on this node may have it",
                [GRANT_SECRET] = "a pull with this secret or credential has succeeded",
                [GRANT_INLINE] = "a pull with this credential has succeeded",
                [GRANT_IMPORT] = "an operator imported it for everybody on this node",
        };
        return grant ? words[grant->kind] : "the cache has it, but this caller has not shown yet that it may pull it; the source is asked with the caller's credentials";
}

struct proof_targets hit_get_targets(const struct hit_question *question, const struct hit *hit)
{
        const struct module_want *want = question->want;
        struct proof_targets targets = { .module = &hit->entry->sha256, .is_image = hit->image != NULL };
        if (!hit->image)
                return targets;
        targets.manifest = &hit->image->manifest;
        if (digest_is_set(&want->reference.digest))
                targets.top = &want->reference.digest;
        else if (digest_is_set(&want->pin) && !digest_equal(&want->pin, targets.manifest))
                targets.top = &want->pin;
        else if (hit->reference && hit->reference->image == hit->image)
                targets.top = reference_get_top(hit->reference);
        else
                targets.top = hit->image->top;
        return targets;
}

static void tell_signature(const struct verdict *verdict, const char *by, char ret_detail[ERROR_TEXT_BYTES])
{
        char time[CLOCK_RFC3339_BYTES];
        bool has_annotations = verdict->annotations && strcmp(verdict->annotations, "{}") != 0;
        clock_format_rfc3339(verdict->proved_s, time);
        snprintf(ret_detail, ERROR_TEXT_BYTES, "%s: %s signature by key %.16s, found at %.240s%s%.160s, judged %s", by, verdict->format, verdict->fingerprint_hex, verdict->where,
                 has_annotations ? ", annotations " : "", has_annotations ? verdict->annotations : "", time);
}

/* Told for each demand, so that explain names the key or rule that is not met. */
static bool is_verified(const struct hit_question *question, struct hit *hit)
{
        struct proof_targets targets = hit_get_targets(question, hit);
        bool is_met = demands_are_met(question->verdicts, question->demands, &targets, &hit->verdict);
        for (size_t i = 0; question->trace && question->demands && i < question->demands->count; i++) {
                const struct demand *demand = &question->demands->items[i];
                const struct verdict *verdict = demand_find_verdict(question->verdicts, demand, &targets);
                char detail[ERROR_TEXT_BYTES], by[256];
                if (demand->rule)
                        snprintf(by, sizeof by, "trust.require, match \"%.160s\"", demand->rule);
                else
                        snprintf(by, sizeof by, "verificationKey");
                if (verdict)
                        tell_signature(verdict, by, detail);
                else
                        snprintf(detail, sizeof detail, "%s: not judged yet under this key; what is stored is tried first, then the source is asked", by);
                tell(question, "signature", verdict ? "verified" : "unverified", detail);
        }
        return is_met;
}

void hit_decide(const struct hit_question *question, struct hit *ret_hit)
{
        struct hit hit = { .result = HIT_ABSENT, .demands = question->demands };
        if (digest_is_set(&question->want->pin))
                look_up_pin(question, &hit);
        else
                look_up_name(question, &hit);

        if (!hit.entry)
                hit.result = HIT_ABSENT;
        else if (!is_fresh(question, &hit))
                hit.result = HIT_REVALIDATE;
        else if (question->want->kind == WANT_FILE && !digest_is_set(&question->want->pin))
                hit.result = HIT_FILE;
        else if (!(hit.grant = grant_find(question, hit.entry, hit.image)))
                hit.result = HIT_UNPROVEN;
        else
                hit.result = HIT_YES;

        if (hit.result == HIT_YES || hit.result == HIT_UNPROVEN)
                tell(question, "access", hit.grant ? grant_kind_names[hit.grant->kind] : "unproven", access_words(hit.grant));
        if (question->demands && hit.entry && hit.result != HIT_ABSENT && !is_verified(question, &hit) && hit.result == HIT_YES)
                hit.result = HIT_UNVERIFIED;
        *ret_hit = hit;
}
