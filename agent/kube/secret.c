/*
 * How it goes: GET of one Secret by name, its data decoded into wiped bytes; before it a cache of some minutes with jitter, so that nodes do not ask in step.
 * How it fails: not there and forbidden are secret_missing with the Secret's name, each remembered for a while; an API that cannot be asked is another thing: what was read
 *               before counts on.
 * How it ends: kube_secret_unref() of the last reference wipes; kube_secrets_purge() gives up what is out of date.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { SECRET_BYTES_MAX = 1 << 20, ITEMS_MAX = 1024, ENTRIES_MAX = 1024, GET_MS = 5000, AGAIN_MS = 5000 };

struct item { char *key; struct secret *bytes; };
struct kube_secret { atomic_uint references; char *namespace, *name, *type, *uid, *version; struct item *items; size_t item_count; };

struct kube_secret *kube_secret_ref(struct kube_secret *secret)
{
        atomic_fetch_add(&secret->references, 1);
        return secret;
}

void kube_secret_unref(struct kube_secret **reference)
{
        struct kube_secret *secret = TAKE(*reference);
        if (!secret || atomic_fetch_sub(&secret->references, 1) != 1)
                return;
        for (size_t i = 0; i < secret->item_count; i++) {
                free(secret->items[i].key);
                secret_free(&secret->items[i].bytes);
        }
        free(secret->items);
        free(secret->namespace);
        free(secret->name);
        free(secret->type);
        free(secret->uid);
        free(secret->version);
        free(secret);
}

const char *kube_secret_get_type(const struct kube_secret *secret)
{
        return secret->type;
}

const char *kube_secret_get_uid(const struct kube_secret *secret)
{
        return secret->uid;
}

const char *kube_secret_get_version(const struct kube_secret *secret)
{
        return secret->version;
}

const struct secret *kube_secret_get_data(const struct kube_secret *secret, const char *key)
{
        for (size_t i = 0; i < secret->item_count; i++)
                if (strcmp(secret->items[i].key, key) == 0)
                        return secret->items[i].bytes;
        return NULL;
}

/* ---- decoding */
static bool items_read(const struct value *data, struct kube_secret *secret, struct error *err)
{
        size_t count = value_get_count(data), total = 0;
        if (count > ITEMS_MAX)
                return refuse(err, ERROR_TOO_LARGE, "it has more than %d keys", ITEMS_MAX);
        secret->items = memory_new(count + 1, sizeof *secret->items);
        for (size_t i = 0; i < count; i++) {
                const char *text = value_get_text(value_get_item(data, i)), *key = value_get_key(data, i);
                CLEANUP(buffer_fini_secret) struct buffer bytes = { 0 };
                size_t length = text ? strlen(text) : 0, size = 0;
                char shown[80];
                total += length / 4 * 3;
                if (total > SECRET_BYTES_MAX + 3 * ITEMS_MAX)
                        return refuse(err, ERROR_TOO_LARGE, "it is larger than %d bytes", SECRET_BYTES_MAX);
                if (!text || !buffer_reserve(&bytes, length / 4 * 3 + 4) || !base64_decode(text, length, false, bytes.data, &size))
                        return refuse(err, ERROR_UPSTREAM_ERROR, "data[\"%s\"] is no base64", string_printable(key, strlen(key), shown, sizeof shown));
                secret->items[secret->item_count++] = (struct item){ string_copy(key), secret_new(bytes.data, size) };
        }
        return true;
}

static bool secret_read(const struct value *object, const char *namespace, const char *name, struct kube_secret **ret_secret, struct error *err)
{
        const struct value *metadata = NULL, *data = NULL;
        const char *found_namespace = NULL, *found_name = NULL, *uid = NULL, *version = NULL, *type = NULL;
        enum error_code code = ERROR_UPSTREAM_ERROR;
        if (!value_read_map(object, "metadata", code, &metadata, err) || !value_read_map(object, "data", code, &data, err) || !value_read_text(object, "type", code, &type, err) ||
            !value_read_text(metadata, "namespace", code, &found_namespace, err) || !value_read_text(metadata, "name", code, &found_name, err) ||
            !value_read_text(metadata, "uid", code, &uid, err) || !value_read_text(metadata, "resourceVersion", code, &version, err))
                return false;
        if (!string_equal(found_namespace, namespace) || !string_equal(found_name, name) || !string_equal(value_get_text(value_get_member(object, "kind")), "Secret"))
                return refuse(err, code, "the API server answered with another object");
        if (!uid || !*uid || !version || !*version)
                return refuse(err, code, "it has no metadata.uid or no metadata.resourceVersion");

        CLEANUP(kube_secret_unref) struct kube_secret *secret = memory_new(1, sizeof *secret);
        atomic_init(&secret->references, 1);
        secret->namespace = string_copy(namespace);
        secret->name = string_copy(name);
        secret->type = string_copy(type && *type ? type : "Opaque");
        secret->uid = string_copy(uid);
        secret->version = string_copy(version);
        if (!items_read(data, secret, err))
                return false;
        *ret_secret = TAKE(secret);
        return true;
}

/* ---- asking */
static bool name_check(const char *namespace, const char *name, struct error *err)
{
        char shown_namespace[80], shown_name[300];
        if (string_is_dns(namespace, 63, false) && string_is_dns(name, 253, true))
                return true;
        return refuse(err, ERROR_SECRET_MISSING, "\"%s\" in namespace \"%s\" is no name of a Secret: lower-case letters, digits, '-' and '.' only",
                      string_printable(name, strlen(name), shown_name, sizeof shown_name), string_printable(namespace, strlen(namespace), shown_namespace, sizeof shown_namespace));
}

/* Only a Status is the API server's word: a 404 or 403 of something before it says nothing of the Secret. */
static bool refusal_tell(const struct kube_status *status, const char *namespace, const char *name, struct error *err)
{
        if (status->code == 404 && strcmp(status->reason, "NotFound") == 0)
                return refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s does not exist", namespace, name);
        if (status->code == 403 && strcmp(status->reason, "Forbidden") == 0)
                return refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s may not be read by wasmcached; allow it by a Role with verb get and this resourceName (%s)", namespace, name,
                              status->message);
        if (err->code == ERROR_NOT_FOUND || err->code == ERROR_DENIED || err->code == ERROR_UNAUTHORIZED)
                err->code = ERROR_UPSTREAM_ERROR;          /* of the API server towards us, no verdict about the caller */
        return refuse_within(err, "Secret %s/%s", namespace, name);
}

static bool secret_ask(const struct kube_call *call, const char *namespace, const char *name, struct kube_secret **ret_secret, struct kube_status *ret_status, struct error *err)
{
        CLEANUP(cleanup_free) char *path = string_format("/api/v1/namespaces/%s/secrets/%s", namespace, name);
        CLEANUP(value_free) struct value *object = NULL;
        struct kube_call bounded = *call;
        int64_t most_ms = clock_get_ms() + GET_MS;
        bool is_ours = bounded.deadline_ms <= 0 || bounded.deadline_ms > most_ms;
        if (is_ours)
                bounded.deadline_ms = most_ms;
        if (!kube_request(&bounded, &(struct kube_ask){ "GET", path, NULL }, &object, ret_status, err)) {
                if (err->code == ERROR_TIMEOUT && is_ours)
                        err->code = ERROR_UPSTREAM_UNREACHABLE;
                return refusal_tell(ret_status, namespace, name, err);
        }
        return secret_read(object, namespace, name, ret_secret, err) || refuse_within(err, "Secret %s/%s", namespace, name);
}

bool kube_fetch_secret(const struct kube_call *call, const char *namespace, const char *name, struct kube_secret **ret_secret, struct error *err)
{
        struct kube_status status = { 0 };
        return name_check(namespace, name, err) && secret_ask(call, namespace, name, ret_secret, &status, err);
}

bool kube_secret_get_docker_config(const struct kube_secret *secret, const struct secret **ret_config, bool *ret_is_legacy, struct error *err)
{
        static const struct { const char *type, *key; bool is_legacy; } rows[] = {
                { "kubernetes.io/dockerconfigjson", ".dockerconfigjson", false }, { "kubernetes.io/dockercfg", ".dockercfg", true },
        };
        char shown[80];
        for (size_t i = 0; i < COUNT_OF(rows); i++) {
                if (strcmp(secret->type, rows[i].type) != 0)
                        continue;
                const struct secret *config = kube_secret_get_data(secret, rows[i].key);
                if (secret_get_size(config) == 0)
                        return refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s: %s %s", secret->namespace, secret->name, rows[i].key, config ? "is empty" : "is not in it");
                *ret_config = config;
                *ret_is_legacy = rows[i].is_legacy;
                return true;
        }
        return refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s is of type %s; a pull secret is of type kubernetes.io/dockerconfigjson", secret->namespace, secret->name,
                      string_printable(secret->type, strlen(secret->type), shown, sizeof shown));
}

/* ---- the cache */
struct kube_secrets { struct kube_secrets_options options; struct cache *cache; };

static void *value_ref(void *value)
{
        return kube_secret_ref(value);
}

static void value_unref(void *value)
{
        struct kube_secret *secret = value;
        kube_secret_unref(&secret);
}

static int64_t or_else(int64_t ms, int64_t usual_ms)
{
        return ms > 0 ? ms : usual_ms;
}

struct kube_secrets *kube_secrets_new(const struct kube_secrets_options *options)
{
        struct kube_secrets *secrets = memory_new(1, sizeof *secrets);
        secrets->options = (struct kube_secrets_options){ or_else(options->keep_ms, 120000), or_else(options->absent_ms, 10000), or_else(options->denied_ms, 30000),
                                                          or_else(options->reread_ms, 10000), or_else(options->grace_ms, 300000), options->now_ms };
        secrets->cache = cache_new(&(struct cache_options){ value_ref, value_unref, options->now_ms, ENTRIES_MAX });
        return secrets;
}

void kube_secrets_free(struct kube_secrets **reference)
{
        struct kube_secrets *secrets = TAKE(*reference);
        if (secrets)
                cache_free(&secrets->cache);
        free(secrets);
}

void kube_secrets_purge(struct kube_secrets *secrets)
{
        cache_purge(secrets->cache);
}

struct load { struct kube_secrets *secrets; const struct kube_call *call; const char *namespace, *name; };

static void secret_load(void *arg, const struct cache_entry *previous, struct cache_entry *entry)
{
        struct load *load = arg;
        const struct kube_secrets_options *options = &load->secrets->options;
        struct kube_status status = { 0 };
        struct kube_secret *secret = NULL;
        bool good = secret_ask(load->call, load->namespace, load->name, &secret, &status, &entry->failure);
        int64_t now_ms = cache_now_ms(load->secrets->cache);
        entry->value = secret;
        if (good) {
                entry->expires_ms = now_ms + options->keep_ms * 3 / 4 + jitter_ms(options->keep_ms / 2);
                entry->until_ms = entry->expires_ms + options->grace_ms;
        } else if (entry->failure.code == ERROR_SECRET_MISSING) {
                entry->expires_ms = entry->until_ms = now_ms + (status.code == 403 ? options->denied_ms : options->absent_ms);
        } else if (previous->value && now_ms < previous->until_ms && entry->failure.code != ERROR_BUSY) {
                entry->value = kube_secret_ref(previous->value);
                entry->expires_ms = now_ms + AGAIN_MS;
                entry->until_ms = previous->until_ms;
        }
}

static bool cached_get(struct load *load, int64_t after_ms, struct kube_secret **ret_secret, int64_t *ret_loaded_ms, struct error *err)
{
        CLEANUP(cleanup_free) char *key = string_format("%s/%s", load->namespace, load->name);
        struct cache_want want = { key, load->call->cancel, load->call->deadline_ms, after_ms, secret_load, load };
        void *value = NULL;
        if (!cache_get(load->secrets->cache, &want, &value, ret_loaded_ms, err))
                return false;
        *ret_secret = value;
        return true;
}

bool kube_secrets_fetch(struct kube_secrets *secrets, const struct kube_call *call, const char *namespace, const char *name, struct kube_secret **ret_secret, struct error *err)
{
        struct load load = { secrets, call, namespace, name };
        return name_check(namespace, name, err) && cached_get(&load, INT64_MIN, ret_secret, NULL, err);
}

static bool is_other(const struct kube_secret *a, const struct kube_secret *b)
{
        return strcmp(a->uid, b->uid) != 0 || strcmp(a->version, b->version) != 0;
}

bool kube_secrets_fetch_newer(struct kube_secrets *secrets, const struct kube_call *call, const struct kube_secret *used, struct kube_secret **ret_secret, struct error *err)
{
        struct load load = { secrets, call, used->namespace, used->name };
        CLEANUP(kube_secret_unref) struct kube_secret *found = NULL;
        int64_t loaded_ms = 0;
        *err = (struct error){ 0 };
        if (!cached_get(&load, INT64_MIN, &found, &loaded_ms, err))
                return false;
        if (!is_other(found, used) && cache_now_ms(secrets->cache) - loaded_ms >= secrets->options.reread_ms) {
                kube_secret_unref(&found);
                if (!cached_get(&load, loaded_ms, &found, NULL, err))
                        return false;
        }
        if (!is_other(found, used))
                return false;
        *ret_secret = TAKE(found);
        return true;
}
