/*
 * How it goes: the bytes whose signature was good are parsed once, strictly: the type of the predicate, the type of the statement, the subject, then the subject's digest
 *               against our own hash of the target, last the policy's annotations.
 * How it fails: a good signature over something else is "wrong type" or "other digest"; what is no statement at all is malformed. These sentences are only reached behind a
 *               good check of the signature (9.5).
 * How it ends: the caller frees the document; the annotations point into it.
 *
 * Rules: 3.4 steps 3 to 6. Members are an exact set, as in cosign (protojson): what is signed must not be read in two ways.
 */
#include <string.h>
#include "signed.h"

enum { SUBJECTS_MAX = 1024, DIGESTS_MAX = 32 };

static const char statement_v1[] = "https://in-toto.io/Statement/v1", statement_v01[] = "https://in-toto.io/Statement/v0.1";
static const char sign_predicate[] = "https://sigstore.dev/cosign/sign/v1";

static bool predicate_is_accepted(const struct trust_policy_options *policy, const char *predicate)
{
        for (const char *const *accepted = policy->predicates; *accepted; accepted++)
                if (strcmp(*accepted, predicate) == 0)
                        return true;
        return false;
}

/* cosign attest still writes Statement/v0.1, which says the same of its subject; a cosign/sign/v1 never had that type. */
static bool types_check(struct judgement *judgement, const struct value *document, bool *ret_is_sign)
{
        static const char *const known[] = { "_type", "subject", "predicateType", "predicate", NULL };
        const struct value *predicate = NULL;
        const char *type = NULL, *predicate_type = NULL;
        struct error err;

        if (value_get_kind(document) != VALUE_MAP)
                return miss(judgement->failure, TRUST_MALFORMED, "statement is no JSON object");
        if (!value_read_text(document, "_type", ERROR_SIGNATURE_INVALID, &type, &err) ||
            !value_read_text(document, "predicateType", ERROR_SIGNATURE_INVALID, &predicate_type, &err))
                return MALFORMED(judgement, &err);
        if (!type || !predicate_type)
                return miss(judgement->failure, TRUST_MALFORMED, "statement has no \"%s\"", type ? "predicateType" : "_type");
        if (!predicate_is_accepted(judgement->policy, predicate_type))
                return miss(judgement->failure, TRUST_WRONG_TYPE, "valid DSSE by this key, but predicateType %s is not accepted", SHOWN(predicate_type));
        *ret_is_sign = strcmp(predicate_type, sign_predicate) == 0;
        if (strcmp(type, statement_v1) != 0 && (*ret_is_sign || strcmp(type, statement_v01) != 0))
                return miss(judgement->failure, TRUST_WRONG_TYPE, "valid DSSE by this key, but statement type %s is not accepted", SHOWN(type));
        if (!value_only_members(document, known, ERROR_SIGNATURE_INVALID, &err) || !value_read_map(document, "predicate", ERROR_SIGNATURE_INVALID, &predicate, &err))
                return MALFORMED(judgement, &err);
        return true;
}

static const char *algorithm_name(const struct judgement *judgement)
{
        return judgement->target->digest.algorithm == DIGEST_SHA512 ? "sha512" : "sha256";
}

/* Digests of one subject: all of the right form; whether one is the target's. The first of the target's algorithm is named if it is another. */
static bool digests_check(struct judgement *judgement, const struct value *digests, bool *ret_matches, const char **ret_other)
{
        const char *wanted = algorithm_name(judgement);
        char hex[DIGEST_TEXT_BYTES];

        if (value_get_count(digests) == 0 || value_get_count(digests) > DIGESTS_MAX)
                return miss(judgement->failure, TRUST_MALFORMED, "statement: a subject has %zu digests, 1 to %d are accepted", value_get_count(digests), DIGESTS_MAX);
        digest_format_hex(&judgement->target->digest, hex);
        for (size_t i = 0; i < value_get_count(digests); i++) {
                const char *text = value_get_text(value_get_item(digests, i));

                if (!text)
                        return miss(judgement->failure, TRUST_MALFORMED, "statement: digest \"%s\" is no string", SHOWN(value_get_key(digests, i)));
                if (strcmp(value_get_key(digests, i), wanted) != 0)
                        continue;
                if (strlen(text) != strlen(hex) || strspn(text, "0123456789abcdef") != strlen(hex))
                        return miss(judgement->failure, TRUST_MALFORMED, "statement: %s \"%s\" is not %zu lower-case hex digits", wanted, SHOWN(text), strlen(hex));
                *ret_matches = strcmp(text, hex) == 0;
                *ret_other = text;
        }
        return true;
}

static bool subject_read(struct judgement *judgement, const struct value *subject, bool *ret_matches, const char **ret_other)
{
        static const char *const known[] = { "name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations", NULL };
        const struct value *digests = NULL, *annotations = NULL;
        struct error err;

        if (value_get_kind(subject) != VALUE_MAP)
                return miss(judgement->failure, TRUST_MALFORMED, "statement: a subject is no object");
        if (!value_only_members(subject, known, ERROR_SIGNATURE_INVALID, &err) || !value_read_map(subject, "digest", ERROR_SIGNATURE_INVALID, &digests, &err) ||
            !value_read_map(subject, "annotations", ERROR_SIGNATURE_INVALID, &annotations, &err))
                return MALFORMED(judgement, &err);
        return digests_check(judgement, digests, ret_matches, ret_other);
}

/* sign/v1 has one subject: cosign never writes more, and a second one could smuggle; of other types any subject will do (sigstore-go). */
static bool subjects_check(struct judgement *judgement, const struct value *document, bool is_sign, const struct value **ret_subject)
{
        const struct value *list = NULL, *found = NULL;
        const char *other = NULL;
        struct error err;

        if (!value_read_list(document, "subject", ERROR_SIGNATURE_INVALID, &list, &err))
                return MALFORMED(judgement, &err);
        size_t count = value_get_count(list), most = is_sign ? 1 : SUBJECTS_MAX;
        if (count == 0 || count > most)
                return miss(judgement->failure, TRUST_MALFORMED, "statement has %zu subjects, %s accepted", count, is_sign ? "exactly one is" : "1 to 1024 are");
        for (size_t i = 0; i < count; i++) {
                bool matches = false;

                if (!subject_read(judgement, value_get_item(list, i), &matches, &other))
                        return false;
                if (matches && !found)
                        found = value_get_item(list, i);
        }
        if (!found && other)
                return miss(judgement->failure, TRUST_OTHER_DIGEST, "valid signature by this key, but for %s:%s", algorithm_name(judgement), other);
        *ret_subject = found;
        return found || miss(judgement->failure, TRUST_OTHER_DIGEST, "valid signature by this key, but for a subject without a digest of the target's algorithm");
}

bool statement_check(struct judgement *judgement, struct span payload, struct value **ret_document, const struct value **ret_annotations)
{
        CLEANUP(value_free) struct value *document = NULL;
        const struct value *subject = NULL;
        bool is_sign = false;
        struct error err;

        if (!json_parse(payload.bytes, payload.size_bytes, ERROR_SIGNATURE_INVALID, &document, &err))
                return miss(judgement->failure, TRUST_MALFORMED, "statement: %s", err.text);
        if (!types_check(judgement, document, &is_sign) || !subjects_check(judgement, document, is_sign, &subject))
                return false;
        const struct value *annotations = value_get_member(subject, "annotations");
        if (!policy_check_annotations(judgement, annotations))
                return false;
        *ret_annotations = annotations;
        *ret_document = TAKE(document);
        return true;
}
