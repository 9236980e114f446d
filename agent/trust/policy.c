/*
 * How it goes: a policy is copied with its lists sorted and without doubles, and its digest is taken over that; the two rules that are the same for all formats (identity,
 *              annotations) are checked here.
 * How it fails: a rule that is not met is a miss with what was asked for and what is there. A format that cannot meet a rule does not pass it.
 * How it ends: policies are counted; the last one frees the copies and its log keys.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "room.h"

enum { TEXT_SHOWN = 100 };

const char *const trust_format_names[TRUST_FORMATS] = {
        [TRUST_BUNDLE] = "bundle", [TRUST_SIMPLE] = "simple", [TRUST_EMBEDDED] = "embedded", [TRUST_DETACHED] = "detached", [TRUST_RAW] = "raw",
        [TRUST_LEGACY_BUNDLE] = "legacy-bundle", [TRUST_WASMSIGN1] = "wasmsign1", [TRUST_MINISIGN] = "minisign", [TRUST_RSA_PSS] = "rsa-pss",
        [TRUST_MESSAGE_SIGNATURE_OCI] = "message-signature-oci",
};

struct trust_policy {
        atomic_uint refs;
        struct trust_policy_options options;              /* lists are ours */
        struct digest digest;
};

/* ---- making ---- */
static int text_compare(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int annotation_compare(const void *a, const void *b)
{
        const struct trust_annotation *left = a, *right = b;
        int names = strcmp(left->name, right->name);
        return names != 0 ? names : strcmp(left->value, right->value);
}

/* Sorted, once each, NULL at the end. */
static const char **predicates_copy(const char *const *predicates)
{
        static const char *const usual[] = { "https://sigstore.dev/cosign/sign/v1", NULL };
        const char *const *from = predicates ? predicates : usual;
        size_t count = 0, kept = 0;
        while (from[count])
                count++;
        const char **sorted = memory_new(count + 1, sizeof *sorted);
        for (size_t i = 0; i < count; i++)
                sorted[i] = from[i];
        qsort(sorted, count, sizeof *sorted, text_compare);
        for (size_t i = 0; i < count; i++)
                if (kept == 0 || strcmp(sorted[kept - 1], sorted[i]) != 0)
                        sorted[kept++] = string_copy(sorted[i]);
        sorted[kept] = NULL;
        return sorted;
}

static struct trust_annotation *annotations_copy(const struct trust_annotation *from, size_t count, size_t *ret_kept)
{
        struct trust_annotation *sorted = memory_new(count + 1, sizeof *sorted);
        size_t kept = 0;
        for (size_t i = 0; i < count; i++)
                sorted[i] = from[i];
        qsort(sorted, count, sizeof *sorted, annotation_compare);
        for (size_t i = 0; i < count; i++)
                if (kept == 0 || annotation_compare(&sorted[kept - 1], &sorted[i]) != 0)
                        sorted[kept++] = (struct trust_annotation){ string_copy(sorted[i].name), string_copy(sorted[i].value) };
        *ret_kept = kept;
        return sorted;
}

/* Each text with its length, so that no two policies read the same. */
static void put_text(struct buffer *out, const char *text)
{
        buffer_printf(out, "%zu:%s ", strlen(text), text);
}

static void digest_make(const struct trust_policy_options *options, struct digest *ret_digest)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        buffer_printf(&text, "policy 1 %u %d %d ", options->formats, (int)options->identity, options->requires_top_level);
        for (const char *const *predicate = options->predicates; *predicate; predicate++)
                put_text(&text, *predicate);
        buffer_printf(&text, "annotations ");
        for (size_t i = 0; i < options->annotation_count; i++) {
                put_text(&text, options->annotations[i].name);
                put_text(&text, options->annotations[i].value);
        }
        if (options->rekor_keys) {
                char hex[DIGEST_TEXT_BYTES];
                digest_format_hex(trust_keys_get_digest(options->rekor_keys), hex);
                buffer_printf(&text, "rekor %s", hex);
        }
        digest_sha256(text.data, text.used, ret_digest);
}

/* Shared objects are counted also where they are only read. */
static struct trust_keys *keys_ref(const struct trust_keys *keys)
{
        return keys ? trust_keys_ref((struct trust_keys *)(uintptr_t)keys) : NULL;
}

struct trust_policy *trust_policy_new(const struct trust_policy_options *options)
{
        struct trust_policy *policy = memory_new(1, sizeof *policy);
        atomic_init(&policy->refs, 1);
        policy->options = *options;
        policy->options.formats &= (1u << TRUST_FORMATS) - 1;
        policy->options.predicates = predicates_copy(options->predicates);
        policy->options.annotations = annotations_copy(options->annotations, options->annotation_count, &policy->options.annotation_count);
        policy->options.rekor_keys = keys_ref(options->rekor_keys);
        digest_make(&policy->options, &policy->digest);
        return policy;
}

struct trust_policy *trust_policy_ref(struct trust_policy *policy)
{
        atomic_fetch_add(&policy->refs, 1);
        return policy;
}

static void constant_free(const void *pointer)
{
        free((void *)(uintptr_t)pointer);
}

void trust_policy_unref(struct trust_policy **policy)
{
        struct trust_policy *gone = TAKE(*policy);
        if (!gone || atomic_fetch_sub(&gone->refs, 1) != 1)
                return;

        struct trust_policy_options *options = &gone->options;
        struct trust_keys *keys = (struct trust_keys *)(uintptr_t)options->rekor_keys;
        for (const char *const *predicate = options->predicates; *predicate; predicate++)
                constant_free(*predicate);
        for (size_t i = 0; i < options->annotation_count; i++) {
                constant_free(options->annotations[i].name);
                constant_free(options->annotations[i].value);
        }
        constant_free(options->predicates);
        constant_free(options->annotations);
        trust_keys_unref(&keys);
        free(gone);
}

const struct digest *trust_policy_get_digest(const struct trust_policy *policy)
{
        return &policy->digest;
}

const struct trust_policy_options *trust_policy_get_options(const struct trust_policy *policy)
{
        return &policy->options;
}

/* ---- checking ---- */
bool format_is_on(const struct judgement *judgement, enum trust_format format)
{
        return judgement->policy->formats >> format & 1;
}

/* "host/path" of "host/path[:tag][@digest]"; the colon of a port is left of a slash. */
static size_t name_length(const char *reference)
{
        size_t length = strcspn(reference, "@");
        for (size_t i = length; i > 0 && reference[i - 1] != '/'; i--)
                if (reference[i - 1] == ':')
                        return i - 1;
        return length;
}

/* cosign calls Docker Hub by the name of its index. */
static const char *hub_rename(const char *reference)
{
        return reference && string_starts_with(reference, "index.docker.io/") ? reference + strlen("index.") : reference;
}

bool policy_check_identity(struct judgement *judgement, const char *docker_reference_or_null)
{
        const char *reference = hub_rename(docker_reference_or_null), *repository = judgement->target->repository, *tag = judgement->target->tag;
        enum trust_identity identity = judgement->policy->identity;
        char shown[TEXT_SHOWN];
        if (identity == TRUST_IDENTITY_IGNORE) {
                /* Told, not judged: cosign leaves the tag out, mirrors and copies keep the first name. */
                size_t named = reference ? name_length(reference) : 0;
                judgement->proof->names_other = reference && repository && (named != strlen(repository) || memcmp(reference, repository, named) != 0);
                return true;
        }
        if (!reference)
                return miss(judgement->failure, TRUST_IDENTITY, "valid signature by this key, but of a format that names no repository, which the identity rule asks for; "
                            "sign in cosign's classic form or set identity: ignore");
        string_printable(reference, strlen(reference), shown, sizeof shown);
        if (!repository)
                return miss(judgement->failure, TRUST_IDENTITY, "signed for \"%s\", but what was asked for lies in no repository; set identity: ignore for it", shown);

        size_t length = strlen(repository);
        bool exact = identity == TRUST_IDENTITY_EXACT;
        bool good = exact ? strncmp(reference, repository, length) == 0 && (tag ? reference[length] == ':' && strcmp(reference + length + 1, tag) == 0 : reference[length] == '\0')
                          : name_length(reference) == length && memcmp(reference, repository, length) == 0;
        return good || miss(judgement->failure, TRUST_IDENTITY, "valid signature by this key, but signed for \"%s\", pulled from \"%s%s%s\"", shown, repository,
                            exact && tag ? ":" : "", exact && tag ? tag : "");
}

bool policy_check_annotations(struct judgement *judgement, const struct value *annotations_or_null)
{
        for (size_t i = 0; i < judgement->policy->annotation_count; i++) {
                const struct trust_annotation *wanted = &judgement->policy->annotations[i];
                const struct value *member = value_get_member(annotations_or_null, wanted->name);
                const char *text = value_get_text(member);
                char shown[TEXT_SHOWN];
                if (!text)
                        return miss(judgement->failure, TRUST_ANNOTATION, "valid signature by this key, but without the annotation %s=%s", wanted->name, wanted->value);
                if (strcmp(text, wanted->value) == 0)
                        continue;
                string_printable(text, strlen(text), shown, sizeof shown);
                return miss(judgement->failure, TRUST_ANNOTATION, "valid signature by this key, but its annotation %s is \"%s\" instead of \"%s\"", wanted->name, shown,
                            wanted->value);
        }
        return true;
}
