/*
 * How it goes: a TokenReview with our audience; who is authenticated, for our audience, as a service account, from a pod, is that pod. Remembered by a keyed hash of the token.
 * How it fails: by what the answer says, not by its HTTP code (a refusal is 201 too); what the server will not let us ask is the upstream's failure, not the caller's.
 * How it ends: entries end with the token, or after 5 minutes; refusals, and what somebody doubts, after 10 s: so long the server itself remembers.
 */
#include <ctype.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/kube/process.h>
#include "room.h"

enum { TOKEN_MOST_BYTES = 16 << 10, KEEP_MS = 300000, KEEP_OPAQUE_MS = 60000, REFUSED_MS = 10000, DOUBTED_MS = 10000, ENTRIES_MAX = 8192, REVIEW_MS = 10000 };

struct kube_reviews { char *audience; struct cache *cache; uint8_t key[DIGEST_SHA256_BYTES]; };
struct known { atomic_uint references; struct kube_caller caller; };

void kube_caller_fini(struct kube_caller *caller)
{
        free(caller->namespace);
        free(caller->service_account);
        free(caller->pod_name);
        free(caller->pod_uid);
        free(caller->node_name);
        *caller = (struct kube_caller){ 0 };
}

static void *known_ref(void *value)
{
        struct known *known = value;
        atomic_fetch_add(&known->references, 1);
        return known;
}

static void known_unref(void *value)
{
        struct known *known = value;
        if (atomic_fetch_sub(&known->references, 1) != 1)
                return;
        kube_caller_fini(&known->caller);
        free(known);
}

struct kube_reviews *kube_reviews_new(const char *audience, int64_t (*now_ms)(void))
{
        struct kube_reviews *reviews = memory_new(1, sizeof *reviews);
        reviews->audience = string_copy(audience);
        reviews->cache = cache_new(&(struct cache_options){ known_ref, known_unref, now_ms, ENTRIES_MAX });
        random_bytes(reviews->key, sizeof reviews->key);
        return reviews;
}

void kube_reviews_free(struct kube_reviews **reference)
{
        struct kube_reviews *reviews = TAKE(*reference);
        if (!reviews)
                return;
        cache_free(&reviews->cache);
        free(reviews->audience);
        explicit_bzero(reviews->key, sizeof reviews->key);
        free(reviews);
}

/* ---- reading */
/* extra["authentication.kubernetes.io/…"] is a list of texts; exactly one counts. */
static const char *extra_get(const struct value *user, const char *name)
{
        CLEANUP(cleanup_free) char *key = string_format("authentication.kubernetes.io/%s", name);
        const struct value *list = value_get_member(value_get_member(user, "extra"), key);
        const char *text = value_get_count(list) == 1 ? value_get_text(value_get_item(list, 0)) : NULL;
        return text ? text : "";
}

static bool has_audience(const struct value *status, const char *audience)
{
        const struct value *list = value_get_member(status, "audiences");
        for (size_t i = 0; i < value_get_count(list); i++)
                if (string_equal(value_get_text(value_get_item(list, i)), audience))
                        return true;
        return false;
}

static bool account_read(const char *username, struct kube_caller *caller)
{
        static const char prefix[] = "system:serviceaccount:";
        const char *namespace = username && string_starts_with(username, prefix) ? username + sizeof prefix - 1 : NULL, *colon = namespace ? strchr(namespace, ':') : NULL;
        if (!colon)
                return false;
        caller->namespace = string_copy_bytes(namespace, (size_t)(colon - namespace));
        caller->service_account = string_copy(colon + 1);
        return string_is_dns(caller->namespace, 63, false) && string_is_dns(caller->service_account, 253, true);
}

static bool answer_read(const struct value *answer, const char *audience, struct kube_caller *ret_caller, struct error *err)
{
        const struct value *status = value_get_member(answer, "status"), *user = value_get_member(status, "user");
        const char *why = value_get_text(value_get_member(status, "error"));
        char shown[200];
        if (!value_get_bool(value_get_member(status, "authenticated")))
                return refuse(err, ERROR_UNAUTHORIZED, "the token is not good for the audience \"%s\"%s%s", audience, why ? ": " : "",
                              why ? string_printable(why, strlen(why), shown, sizeof shown) : "");
        if (!has_audience(status, audience))
                return refuse(err, ERROR_UNAUTHORIZED, "the API server did not check the token's audience (\"%s\")", audience);

        CLEANUP(kube_caller_fini) struct kube_caller caller = { 0 };
        if (!account_read(value_get_text(value_get_member(user, "username")), &caller))
                return refuse(err, ERROR_DENIED, "the token is of no service account");
        caller.pod_name = string_copy(extra_get(user, "pod-name"));
        caller.pod_uid = string_copy(extra_get(user, "pod-uid"));
        caller.node_name = string_copy(extra_get(user, "node-name"));
        if (!*caller.pod_uid || !*caller.pod_name)
                return refuse(err, ERROR_DENIED, "the token of %s/%s is bound to no pod; use a projected service-account token", caller.namespace, caller.service_account);
        *ret_caller = caller;
        caller = (struct kube_caller){ 0 };
        return true;
}

/* Seconds since 1970 that the token says it ends, 0 when it does not. Only to forget it in time: what it says was checked by the server. */
static int64_t token_end_s(const char *token)
{
        const char *payload = strchr(token, '.'), *end = payload ? strchr(payload + 1, '.') : NULL;
        CLEANUP(value_free) struct value *claims = NULL;
        struct error ignored = { 0 };
        if (!end)
                return 0;
        size_t length = (size_t)(end - payload - 1), size = 0;
        CLEANUP(cleanup_free) char *text = string_copy_bytes(payload + 1, length), *bytes = memory_new(1, length + 4);
        for (size_t i = 0; i < length; i++)
                text[i] = text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i];
        if (!base64_decode(text, length, true, bytes, &size) || !json_parse(bytes, size, ERROR_UNAUTHORIZED, &claims, &ignored))
                return 0;
        return value_get_int(value_get_member(claims, "exp"));
}

/* ---- asking */
struct load { struct kube_reviews *reviews; const struct kube_call *call; const char *token; };

static bool review_ask(const struct load *load, struct kube_caller *ret_caller, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer body = { 0 };
        CLEANUP(value_free) struct value *answer = NULL;
        struct json_writer json = { .out = &body };
        struct kube_call bounded = *load->call;
        int64_t most_ms = clock_get_ms() + REVIEW_MS;
        if (bounded.deadline_ms <= 0 || bounded.deadline_ms > most_ms)
                bounded.deadline_ms = most_ms;
        buffer_reserve(&body, strlen(load->token) + 6 * strlen(load->reviews->audience) + 256);      /* all at once: growing would leave copies behind */
        json_open_map(&json, NULL);
        json_put_text(&json, "apiVersion", "authentication.k8s.io/v1");
        json_put_text(&json, "kind", "TokenReview");
        json_open_map(&json, "spec");
        json_put_text(&json, "token", load->token);
        json_open_list(&json, "audiences");
        json_put_text(&json, NULL, load->reviews->audience);
        json_close_list(&json);
        json_close_map(&json);
        json_close_map(&json);
        if (!kube_request(&bounded, &(struct kube_ask){ "POST", "/apis/authentication.k8s.io/v1/tokenreviews", body.data }, &answer, NULL, err)) {
                if (err->code == ERROR_UNAUTHORIZED || err->code == ERROR_DENIED || err->code == ERROR_NOT_FOUND)
                        err->code = ERROR_UPSTREAM_ERROR;  /* we are refused, not the caller */
                return refuse_within(err, "TokenReview");
        }
        return answer_read(answer, load->reviews->audience, ret_caller, err);
}

static void review_load(void *arg, const struct cache_entry *previous, struct cache_entry *entry)
{
        struct load *load = arg;
        struct known *known = memory_new(1, sizeof *known);
        (void)previous;
        atomic_init(&known->references, 1);
        bool good = review_ask(load, &known->caller, &entry->failure);
        int64_t now_ms = cache_now_ms(load->reviews->cache), keep_ms = REFUSED_MS;
        if (good) {
                int64_t end_s = token_end_s(load->token), left_ms = end_s > 0 && end_s < INT64_MAX / 2000 ? (end_s - clock_get_wall_s()) * 1000 : KEEP_OPAQUE_MS;
                keep_ms = left_ms < KEEP_MS ? left_ms : KEEP_MS;
                entry->value = known;
        } else {
                known_unref(known);
                keep_ms = entry->failure.code == ERROR_UNAUTHORIZED || entry->failure.code == ERROR_DENIED ? REFUSED_MS : 0;
        }
        entry->expires_ms = entry->until_ms = now_ms + keep_ms;
}

/* b64token of RFC 6750 2.1; nothing else is sent on. */
static bool token_check(const char *token, struct error *err)
{
        size_t length = strlen(token);
        for (const char *c = token; *c; c++)
                if (!isalnum((unsigned char)*c) && !strchr("-._~+/=", *c))
                        return refuse(err, ERROR_UNAUTHORIZED, "the token has characters that no token has");
        return (length > 0 && length <= TOKEN_MOST_BYTES) || refuse(err, ERROR_UNAUTHORIZED, "the token is %s", length ? "longer than 16 KiB" : "empty");
}

static void key_make(const struct kube_reviews *reviews, const char *token, char ret_key[DIGEST_TEXT_BYTES])
{
        struct digest digest;
        digest_hmac(reviews->key, sizeof reviews->key, token, strlen(token), &digest);
        digest_format_hex(&digest, ret_key);
}

static void known_take(struct known *known, struct kube_caller *ret_caller)
{
        const struct kube_caller *caller = &known->caller;
        *ret_caller = (struct kube_caller){ string_copy(caller->namespace), string_copy(caller->service_account), string_copy(caller->pod_name), string_copy(caller->pod_uid),
                                            string_copy(caller->node_name) };
        known_unref(known);
}

bool kube_reviews_find(struct kube_reviews *reviews, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        char key[DIGEST_TEXT_BYTES];
        void *value = NULL;
        if (!token_check(token, err))
                return false;
        key_make(reviews, token, key);
        if (!cache_find(reviews->cache, key, &value, err) || !value)
                return false;
        known_take(value, ret_caller);
        return true;
}

bool kube_reviews_doubt(struct kube_reviews *reviews, const char *token)
{
        char key[DIGEST_TEXT_BYTES];
        key_make(reviews, token, key);
        return cache_shorten(reviews->cache, key, DOUBTED_MS);
}

bool kube_reviews_fetch(struct kube_reviews *reviews, const struct kube_call *call, const char *token, struct kube_caller *ret_caller, struct error *err)
{
        char key[DIGEST_TEXT_BYTES];
        void *value = NULL;
        if (!token_check(token, err))
                return false;
        key_make(reviews, token, key);
        struct load load = { reviews, call, token };
        struct cache_want want = { key, call->cancel, call->deadline_ms, INT64_MIN, review_load, &load };
        if (!cache_get(reviews->cache, &want, &value, NULL, err))
                return false;
        known_take(value, ret_caller);
        return true;
}
