/*
 * How it goes: for the digest that was resolved and for the child chosen, two look-ups each run beside one another: referrers (API and fallback tag) and the classic `.sig` tag,
 *              at the place and with the credentials that resolved the reference, or in the configured repository of signatures. A mirror without signatures that do is no proof
 *              that there are none: the places behind it are asked too. [sig] 3.2, 4.1, 9.2
 * How it fails: what is malformed is skipped and told; what could not be asked makes the outcome "unreachable"; limits end the look-up, closed.
 * How it ends: each look-up's thread is joined before this returns; what they found is the pull's.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint.h"
#include "prove.h"

enum { LOOKS_MAX = 4 };

/* What all look-ups of one pull may spend together (9.2.7), and until when. */
struct allowance { _Atomic uint64_t bytes; atomic_uint candidates; int64_t deadline_ms; };

struct look {
        pthread_t thread; bool is_running;
        struct allowance *allowance;
        struct registry_call call;
        struct cancel *cancel;
        const struct digest *target;
        bool is_tag;                              /* the `.sig` tag; else referrers */
        bool is_over_limit;
        struct founds founds;
        char looked[256];
        struct trust_failure skipped;             /* the nearest of those that were no good before anything could be judged */
        struct error err;                         /* could not look */
};

static void note(struct look *look, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void note(struct look *look, const char *format, ...)
{
        va_list list;
        size_t used = strlen(look->looked);
        if (used + 8 >= sizeof look->looked)
                return;
        if (used > 0)
                used += (size_t)snprintf(look->looked + used, sizeof look->looked - used, ", ");
        va_start(list, format);
        vsnprintf(look->looked + used, sizeof look->looked - used, format, list);
        va_end(list);
}

static bool can_go_on(struct look *look)
{
        return look->err.code == ERROR_NONE && !look->is_over_limit && !cancel_is_triggered(look->cancel);
}

static void note_skipped(struct look *look, enum trust_reason reason, const char *format, ...) __attribute__((format(printf, 3, 4)));
static void note_skipped(struct look *look, enum trust_reason reason, const char *format, ...)
{
        va_list list;
        struct trust_failure failure = { .reason = reason };
        va_start(list, format);
        vsnprintf(failure.text, sizeof failure.text, format, list);
        va_end(list);
        trust_failure_note(&look->skipped, &failure);
}

/* Named but gone, another content, malformed, too large: it is there and no good. Everything else that is no content is "could not look". */
static void note_failure(struct look *look, const char *what, const struct error *err)
{
        static const enum error_code contents[] = { ERROR_NOT_FOUND, ERROR_CHECKSUM_MISMATCH, ERROR_UNSUPPORTED_IMAGE, ERROR_TOO_LARGE, ERROR_SIGNATURE_INVALID };
        for (size_t i = 0; i < COUNT_OF(contents); i++)
                if (err->code == contents[i]) {
                        note_skipped(look, err->code == ERROR_TOO_LARGE ? TRUST_LIMIT : TRUST_MALFORMED, "%.110s: %.280s", what, err->text);
                        return;
                }
        look->err = *err;
}

/* ---- one blob, one manifest ---- */

static bool fetch_blob(struct look *look, const struct digest *digest, uint64_t size_bytes, struct buffer *ret_body, struct error *err)
{
        struct sink_buffer sink;
        struct descriptor descriptor = { .digest = *digest, .size_bytes = size_bytes };
        char name[DIGEST_TEXT_BYTES];
        digest_format(digest, name);
        if (size_bytes > PROVE_BODY_MAX_BYTES)
                return refuse(err, ERROR_TOO_LARGE, "the signature object %s has %llu bytes, at most %d are taken", name, (unsigned long long)size_bytes, PROVE_BODY_MAX_BYTES);
        if (atomic_fetch_add(&look->allowance->bytes, size_bytes) + size_bytes > TRUST_BUDGET.bytes) {
                look->is_over_limit = true;
                return refuse(err, ERROR_TOO_LARGE, "more than %llu bytes of signatures", (unsigned long long)TRUST_BUDGET.bytes);
        }
        ret_body->limit = PROVE_BODY_MAX_BYTES;
        sink_buffer_init(&sink, ret_body, "signature object");
        if (!registry_fetch_blob(&look->call, &descriptor, &sink.sink, err))
                return false;
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(digest->algorithm);
        struct digest found;
        hasher_update(hasher, ret_body->data ? ret_body->data : "", ret_body->used);
        hasher_finish(hasher, &found);
        if (ret_body->used != size_bytes || !digest_equal(&found, digest))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "the signature object that came is not %s", name);
        return true;
}

static void take_simple(struct look *look, const struct registry_manifest *manifest, const char *where)
{
        struct error err = { 0 };
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 };
        if (!trust_layers_parse(manifest->bytes.data ? manifest->bytes.data : "", manifest->bytes.used, &layers, &err)) {
                note_failure(look, where, &err);
                return;
        }
        for (size_t i = 0; i < layers.count && can_go_on(look); i++) {
                CLEANUP(buffer_fini) struct buffer body = { 0 };
                if (!fetch_blob(look, &layers.items[i].digest, layers.items[i].size_bytes, &body, &err)) {
                        note_failure(look, where, &err);
                        continue;
                }
                struct found *found = founds_add(&look->founds);
                found->target = *look->target;
                found->form = TRUST_FORM_SIMPLE;
                found->signature = string_copy(layers.items[i].signature);
                found->log_entry = string_copy(layers.items[i].log_entry);
                found->has_certificate = layers.items[i].has_certificate;
                found->where = string_copy(where);
                found->body = body;
                body = (struct buffer){ 0 };
        }
}

static void take_bundle(struct look *look, const struct registry_manifest *manifest, const char *where)
{
        struct error err = { 0 };
        struct digest layer;
        uint64_t size_bytes;
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        if (!trust_bundle_layer_parse(manifest->bytes.data ? manifest->bytes.data : "", manifest->bytes.used, look->target, &layer, &size_bytes, &err) ||
            !fetch_blob(look, &layer, size_bytes, &body, &err)) {
                note_failure(look, where, &err);
                return;
        }
        struct found *found = founds_add(&look->founds);
        found->target = *look->target;
        found->form = TRUST_FORM_BUNDLE;
        found->where = string_copy(where);
        found->body = body;
        body = (struct buffer){ 0 };
}

/* ---- the two ways ---- */

static void look_at_tag(struct look *look)
{
        char tag[DIGEST_TEXT_BYTES + 8];
        struct error err = { 0 };
        digest_format(look->target, tag);
        *strchr(tag, ':') = '-';
        strcat(tag, ".sig");
        CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
        if (!registry_fetch_manifest(&look->call, tag, false, &manifest, &err)) {
                if (err.code == ERROR_NOT_FOUND)
                        note(look, "tag %s absent", tag);
                else
                        note_failure(look, tag, &err);
                return;
        }
        char where[DIGEST_TEXT_BYTES + 16];
        snprintf(where, sizeof where, "tag %s", tag);
        note(look, "%s", where);
        take_simple(look, &manifest, where);
}

static bool is_classic(const struct registry_manifest *manifest)
{
        struct error err;
        CLEANUP(trust_layers_fini) struct trust_layers layers = { 0 };
        return trust_layers_parse(manifest->bytes.data ? manifest->bytes.data : "", manifest->bytes.used, &layers, &err) && layers.count > 0;
}

static void look_at_referrers(struct look *look)
{
        struct error err = { 0 };
        CLEANUP(registry_referrers_fini) struct registry_referrers referrers = { 0 };
        if (!registry_fetch_referrers(&look->call, look->target, &referrers, &err)) {
                look->err = err;
                return;
        }
        if (referrers.api_note[0])
                note(look, "%s", referrers.api_note);
        if (referrers.tag_note[0])
                note(look, "%s", referrers.tag_note);
        if (referrers.skipped_type)
                note_skipped(look, TRUST_NOT_ACCEPTED, "found %.100s, which is not supported", referrers.skipped_type);
        if (referrers.is_over_limit) {
                look->is_over_limit = true;
                note(look, "%zu referrers", referrers.seen);
                return;
        }
        for (size_t i = 0; i < referrers.count && can_go_on(look); i++) {
                char name[DIGEST_TEXT_BYTES], where[DIGEST_TEXT_BYTES + 16];
                CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
                if (atomic_fetch_add(&look->allowance->candidates, 1) >= PROVE_CANDIDATES_MAX) {
                        look->is_over_limit = true;
                        note(look, "%zu candidates among the referrers", referrers.count);
                        return;
                }
                digest_format(&referrers.items[i].digest, name);
                snprintf(where, sizeof where, "referrer %s", name);
                if (!registry_fetch_manifest(&look->call, name, false, &manifest, &err))
                        note_failure(look, where, &err);
                else if (manifest.bytes.used != referrers.items[i].size_bytes)
                        note_skipped(look, TRUST_MALFORMED, "%s: its manifest has %zu bytes, the list of referrers says %llu", where, manifest.bytes.used,
                                     (unsigned long long)referrers.items[i].size_bytes);
                else if (is_classic(&manifest))
                        take_simple(look, &manifest, where);
                else
                        take_bundle(look, &manifest, where);
        }
}

static void *look_run(void *arg)
{
        struct look *look = arg;
        if (look->is_tag)
                look_at_tag(look);
        else
                look_at_referrers(look);
        return NULL;
}

/* ---- all of one place ---- */

static void cancel_looks(void *arg)
{
        struct look *looks = arg;
        for (size_t i = 0; i < LOOKS_MAX; i++)
                if (looks[i].cancel)
                        cancel_trigger(looks[i].cancel);
}

static void look_end(struct pull *pull, struct look *look)
{
        struct proving *proving = pull->proving;
        if (look->looked[0])
                proving_note_looked(proving, "%s", look->looked);
        for (size_t i = 0; i < proving->demands->count; i++)
                trust_failure_note(&proving->failures[i], &look->skipped);
        for (size_t i = 0; i < proving->demands->count && look->is_over_limit; i++) {
                struct trust_failure failure = { .reason = TRUST_LIMIT };
                snprintf(failure.text, sizeof failure.text, "too many signatures to examine (%s)", look->looked);
                trust_failure_note(&proving->failures[i], &failure);
        }
        if (look->err.code != ERROR_NONE)
                proving_note_unreachable(proving, &look->err);
        for (size_t i = 0; i < look->founds.count; i++)
                proving->has_news |= founds_take(&proving->founds, &look->founds.items[i]);
        free(look->founds.items);
        cancel_free(&look->cancel);
}

static bool wants_child(const struct pull *pull)
{
        const struct demands *demands = pull->demands;
        bool wants = false;
        for (size_t i = 0; i < demands->count; i++)
                wants |= !trust_policy_get_options(demands->items[i].policy)->requires_top_level;
        return wants && !digest_equal(&pull->top, &pull->manifest_digest);
}

static void look_at_place(struct pull *pull, const struct registry_call *call, struct allowance *allowance)
{
        struct look looks[LOOKS_MAX] = { 0 };
        const struct digest *targets[] = { &pull->top, &pull->manifest_digest };
        size_t count = wants_child(pull) ? 4 : 2;
        for (size_t i = 0; i < count; i++) {
                looks[i].allowance = allowance;
                looks[i].skipped = TRUST_FAILURE_NONE;
                looks[i].call = *call;
                looks[i].call.deadline_ms = allowance->deadline_ms;
                looks[i].cancel = looks[i].call.cancel = cancel_new();
                looks[i].target = targets[i / 2];
                looks[i].is_tag = i % 2;
        }
        cancel_set_waker(pull->cancel, cancel_looks, looks);
        for (size_t i = 1; i < count; i++)
                looks[i].is_running = pthread_create(&looks[i].thread, NULL, look_run, &looks[i]) == 0;
        look_run(&looks[0]);
        for (size_t i = 1; i < count; i++)
                if (looks[i].is_running)
                        pthread_join(looks[i].thread, NULL);
                else
                        look_run(&looks[i]);
        cancel_set_waker(pull->cancel, NULL, NULL);
        for (size_t i = 0; i < count; i++)
                look_end(pull, &looks[i]);
}

int64_t prove_look_deadline(const struct pull *pull)
{
        int64_t deadline_ms = clock_get_ms() + PROVE_LOOK_MS;
        return pull->deadline_ms > 0 && pull->deadline_ms < deadline_ms ? pull->deadline_ms : deadline_ms;
}

/* A place that refuses one login is asked with the next. */
static void look_with_logins(struct pull *pull, struct endpoint *endpoint, const char *path, struct allowance *allowance)
{
        struct proving *proving = pull->proving;
        struct error first = proving->unreachable;
        for (endpoint->login = 0; endpoint_has_login(pull, endpoint, &proving->unreachable); endpoint->login++) {
                struct registry_call call = pull_make_call(pull, endpoint);
                call.path = path;
                proving->unreachable = (struct error){ 0 };
                look_at_place(pull, &call, allowance);
                if (proving->unreachable.code != ERROR_UNAUTHORIZED)
                        break;
        }
        if (first.code != ERROR_NONE)
                proving->unreachable = first;
}

bool prove_look_oci(struct pull *pull, bool (*arrived)(struct pull *pull))
{
        const struct trust_setup *trust = &pull->setup->trust;
        struct allowance allowance = { .deadline_ms = prove_look_deadline(pull) };
        if (trust->has_signatures) {
                proving_note_looked(pull->proving, "in trust.signature_repository %s/%s", trust->signatures.host, trust->signatures.path);
                struct endpoint *endpoint = pull_find_endpoint(pull, &trust->signatures);
                if (endpoint)
                        look_with_logins(pull, endpoint, trust->signatures.path, &allowance);
                return arrived(pull);
        }
        if (pull->endpoint >= pull->endpoint_count)
                return arrived(pull);
        struct registry_call call = pull_make_call(pull, &pull->endpoints[pull->endpoint]);
        look_at_place(pull, &call, &allowance);
        bool is_done = arrived(pull);
        for (size_t at = pull->endpoint + 1; !is_done && at < pull->endpoint_count && !cancel_is_triggered(pull->cancel); at++)
                if (pull->endpoints[at].can) {
                        look_with_logins(pull, &pull->endpoints[at], pull->want->reference.path, &allowance);
                        is_done = arrived(pull);
                }
        return is_done;
}
