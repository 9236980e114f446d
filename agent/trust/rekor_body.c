/*
 * How it goes: the body's kind and version choose a row of one table; its reader takes out signature, key and hash, and each is compared with what we verified ourselves.
 * How it fails: a body that is about another signature, key or content is refused, whoever logged it (CVE-2022-23649, CVE-2022-36056, CVE-2026-22703).
 * How it ends: the parsed body is freed here.
 *
 * Rules: 7.2. A body is signed by the log, so its members are an exact set. Hashes over the JSON text of an envelope (dsse envelopeHash, intoto hash) are not compared: that
 * text is not part of a bundle; payload, signature and key are.
 */
#include <stdlib.h>
#include <string.h>
#include "rekor.h"
#include "signed.h"

enum { KEY_TEXT_MAX = 16 << 10 };

struct binding { const struct judgement *judgement; const struct logged *logged; };

static bool members_check(const struct value *map, const char *const *names, const char *what, struct error *err)
{
        if (value_get_kind(map) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "body: \"%s\" is missing or no object", what);
        return value_only_members(map, names, ERROR_SIGNATURE_INVALID, err) || refuse_within(err, "body: %s", what);
}

/* `name` of `map`, an object with no members but `names`; NULL when it is not. */
static const struct value *object_get(const struct value *map, const char *name, const char *const *names, struct error *err)
{
        const struct value *object = value_get_member(map, name);
        return members_check(object, names, name, err) ? object : NULL;
}

/* The only one of a list of objects. */
static const struct value *single_get(const struct value *map, const char *name, const char *const *names, struct error *err)
{
        const struct value *list = value_get_member(map, name);
        if (value_get_kind(list) != VALUE_LIST || value_get_count(list) != 1) {
                refuse(err, ERROR_SIGNATURE_INVALID, "body: \"%s\" is no list of exactly one", name);
                return NULL;
        }
        return members_check(value_get_item(list, 0), names, name, err) ? value_get_item(list, 0) : NULL;
}

static bool base64_read(const struct value *map, const char *name, size_t limit, void **ret_bytes, size_t *ret_size, struct error *err)
{
        const char *text = value_get_text(value_get_member(map, name));
        return (text && base64_take(text, strlen(text), BASE64_STANDARD, limit, ret_bytes, ret_size)) || refuse(err, ERROR_SIGNATURE_INVALID, "body: \"%s\" is no base64", name);
}

/* `layers` times base64 of the signature: intoto 0.0.2 wraps it twice. */
static bool signature_check(const struct binding *binding, const struct value *map, const char *name, int layers, struct error *err)
{
        CLEANUP(cleanup_free) void *bytes = NULL;
        struct span signature = binding->logged->signature;
        size_t size;

        if (!base64_read(map, name, (size_t)SIGNATURE_BYTES_MAX * 2, &bytes, &size, err))
                return false;
        for (; layers > 1; layers--) {
                void *inner;

                if (!base64_take(bytes, size, BASE64_STANDARD, SIGNATURE_BYTES_MAX, &inner, &size))
                        return refuse(err, ERROR_SIGNATURE_INVALID, "body: \"%s\" is no base64 of base64", name);
                free(bytes);
                bytes = inner;
        }
        return (size == signature.size_bytes && memcmp(bytes, signature.bytes, size) == 0) || refuse(err, ERROR_SIGNATURE_INVALID, "body: is about another signature");
}

/* Parsed as any key is, so that one key has one fingerprint however it was encoded. */
static bool key_check(const struct binding *binding, const struct value *map, const char *name, bool is_pem, struct error *err)
{
        const struct digest *ours = trust_keys_get_fingerprint(binding->judgement->demand->keys, binding->logged->key);
        CLEANUP(trust_keys_unref) struct trust_keys *keys = NULL;
        CLEANUP(cleanup_free) void *bytes = NULL;
        size_t size;

        if (!base64_read(map, name, KEY_TEXT_MAX, &bytes, &size, err))
                return false;
        if (is_pem ? !trust_keys_parse(bytes, size, name, &keys, err) : !key_from_spki(SPAN(bytes, size), name, &keys, err))
                return refuse_within(err, "body");
        return (trust_keys_get_count(keys) == 1 && digest_equal(trust_keys_get_fingerprint(keys, 0), ours)) || refuse(err, ERROR_SIGNATURE_INVALID, "body: is about another key");
}

/* {algorithm, value in hex} of version 1, {algorithm, digest in base64} of version 2. */
static bool hash_check(const struct value *hash, bool is_v2, const struct hashable *content, struct error *err)
{
        static const struct { const char *v1, *v2; } algorithms[HASHES] = {
                [HASH_SHA256] = { "sha256", "SHA2_256" }, [HASH_SHA384] = { "sha384", "SHA2_384" }, [HASH_SHA512] = { "sha512", "SHA2_512" },
        };
        const char *name = value_get_text(value_get_member(hash, "algorithm")), *value = value_get_text(value_get_member(hash, is_v2 ? "digest" : "value"));
        uint8_t bytes[64];
        char hex[2 * sizeof bytes + 1];
        struct span ours;

        for (enum hash i = 0; i < HASHES; i++) {
                if (!string_equal(name, is_v2 ? algorithms[i].v2 : algorithms[i].v1))
                        continue;
                if (!hashable_get(content, i, bytes, &ours))
                        break;
                CLEANUP(cleanup_free) char *base64 = base64_encode(ours.bytes, ours.size_bytes);
                hex_format(ours.bytes, ours.size_bytes, hex);
                return string_equal(value, is_v2 ? base64 : hex) || refuse(err, ERROR_SIGNATURE_INVALID, "body: is about another content");
        }
        return refuse(err, ERROR_SIGNATURE_INVALID, "body: its hash is of no known algorithm");
}

static const char *const hash_v1_names[] = { "algorithm", "value", NULL }, *const hash_v2_names[] = { "algorithm", "digest", NULL };

/* {publicKey {rawBytes}, keyDetails} of version 2; keyDetails says nothing that the key does not. */
static bool verifier_check(const struct binding *binding, const struct value *signature, struct error *err)
{
        static const char *const verifier_names[] = { "publicKey", "keyDetails", NULL }, *const key_names[] = { "rawBytes", NULL };
        const struct value *verifier, *key;

        return (verifier = object_get(signature, "verifier", verifier_names, err)) && (key = object_get(verifier, "publicKey", key_names, err)) &&
               key_check(binding, key, "rawBytes", false, err);
}

/* What a hash is over when nothing but "the artifact" is logged: for DSSE that is the PAE. */
static struct hashable artifact_of(const struct binding *binding)
{
        const struct logged *logged = binding->logged;
        bool is_dsse = logged->pae.size_bytes > 0;

        return is_dsse ? (struct hashable){ logged->pae, NULL } : (struct hashable){ logged->content, logged->noted };
}

static bool hashedrekord_v1(const struct binding *binding, const struct value *spec, struct error *err)
{
        const struct hashable artifact = artifact_of(binding);
        static const char *const spec_names[] = { "data", "signature", NULL }, *const data_names[] = { "hash", NULL };
        static const char *const signature_names[] = { "content", "publicKey", NULL }, *const key_names[] = { "content", NULL };
        const struct value *data, *hash, *signature, *key;

        return members_check(spec, spec_names, "spec", err) && (data = object_get(spec, "data", data_names, err)) && (hash = object_get(data, "hash", hash_v1_names, err)) &&
               (signature = object_get(spec, "signature", signature_names, err)) && (key = object_get(signature, "publicKey", key_names, err)) &&
               signature_check(binding, signature, "content", 1, err) && key_check(binding, key, "content", true, err) && hash_check(hash, false, &artifact, err);
}

static bool dsse_v1(const struct binding *binding, const struct value *spec, struct error *err)
{
        const struct hashable payload = { binding->logged->content, NULL };
        static const char *const spec_names[] = { "envelopeHash", "payloadHash", "signatures", NULL }, *const signature_names[] = { "signature", "verifier", NULL };
        const struct value *hash, *signature;

        return members_check(spec, spec_names, "spec", err) && (hash = object_get(spec, "payloadHash", hash_v1_names, err)) &&
               (signature = single_get(spec, "signatures", signature_names, err)) && signature_check(binding, signature, "signature", 1, err) &&
               key_check(binding, signature, "verifier", true, err) && hash_check(hash, false, &payload, err);
}

static bool intoto_v2(const struct binding *binding, const struct value *spec, struct error *err)
{
        const struct hashable payload = { binding->logged->content, NULL };
        static const char *const spec_names[] = { "content", NULL }, *const content_names[] = { "envelope", "hash", "payloadHash", NULL };
        static const char *const envelope_names[] = { "payloadType", "signatures", NULL }, *const signature_names[] = { "keyid", "publicKey", "sig", NULL };
        const struct value *content, *envelope, *hash, *signature;

        if (!members_check(spec, spec_names, "spec", err) || !(content = object_get(spec, "content", content_names, err)) ||
            !(envelope = object_get(content, "envelope", envelope_names, err)) || !(hash = object_get(content, "payloadHash", hash_v1_names, err)) ||
            !(signature = single_get(envelope, "signatures", signature_names, err)))
                return false;
        if (!string_equal(value_get_text(value_get_member(envelope, "payloadType")), "application/vnd.in-toto+json"))
                return refuse(err, ERROR_SIGNATURE_INVALID, "body: is about another payloadType");
        return signature_check(binding, signature, "sig", 2, err) && key_check(binding, signature, "publicKey", true, err) &&
               hash_check(hash, false, &payload, err);
}

static bool hashedrekord_v2(const struct binding *binding, const struct value *spec, struct error *err)
{
        const struct hashable artifact = artifact_of(binding);
        static const char *const spec_names[] = { "hashedRekordV002", NULL }, *const inner_names[] = { "data", "signature", NULL };
        static const char *const signature_names[] = { "content", "verifier", NULL };
        const struct value *inner, *data, *signature;

        return members_check(spec, spec_names, "spec", err) && (inner = object_get(spec, "hashedRekordV002", inner_names, err)) &&
               (data = object_get(inner, "data", hash_v2_names, err)) && (signature = object_get(inner, "signature", signature_names, err)) &&
               signature_check(binding, signature, "content", 1, err) && verifier_check(binding, signature, err) && hash_check(data, true, &artifact, err);
}

static bool dsse_v2(const struct binding *binding, const struct value *spec, struct error *err)
{
        const struct hashable payload = { binding->logged->content, NULL };
        static const char *const spec_names[] = { "dsseV002", NULL }, *const inner_names[] = { "payloadHash", "signatures", NULL };
        static const char *const signature_names[] = { "content", "verifier", NULL };
        const struct value *inner, *hash, *signature;

        return members_check(spec, spec_names, "spec", err) && (inner = object_get(spec, "dsseV002", inner_names, err)) &&
               (hash = object_get(inner, "payloadHash", hash_v2_names, err)) && (signature = single_get(inner, "signatures", signature_names, err)) &&
               signature_check(binding, signature, "content", 1, err) && verifier_check(binding, signature, err) && hash_check(hash, true, &payload, err);
}

static const struct { const char *kind, *version; bool of_dsse_only; bool (*check)(const struct binding *binding, const struct value *spec, struct error *err); } kinds[] = {
        { "hashedrekord", "0.0.1", false, hashedrekord_v1 }, { "dsse", "0.0.1", true, dsse_v1 },  { "intoto", "0.0.2", true, intoto_v2 },
        { "hashedrekord", "0.0.2", false, hashedrekord_v2 }, { "dsse", "0.0.2", true, dsse_v2 },
};

bool body_check(const struct judgement *judgement, struct span body, const char *kind, const char *version, const struct logged *logged, struct error *err)
{
        static const char *const names[] = { "apiVersion", "kind", "spec", NULL };
        const struct binding binding = { judgement, logged };
        CLEANUP(value_free) struct value *document = NULL;

        if (!json_parse(body.bytes, body.size_bytes, ERROR_SIGNATURE_INVALID, &document, err))
                return refuse_within(err, "body");
        if (!members_check(document, names, "body", err))
                return false;
        const char *our_kind = value_get_text(value_get_member(document, "kind")), *our_version = value_get_text(value_get_member(document, "apiVersion"));
        if (!our_kind || !our_version || (kind && strcmp(kind, our_kind) != 0) || (version && strcmp(version, our_version) != 0))
                return refuse(err, ERROR_SIGNATURE_INVALID, "body: kind or apiVersion is missing or not what the entry says");
        for (size_t i = 0; i < COUNT_OF(kinds); i++)
                if (strcmp(kinds[i].kind, our_kind) == 0 && strcmp(kinds[i].version, our_version) == 0) {
                        if (kinds[i].of_dsse_only && logged->pae.size_bytes == 0)
                                return refuse(err, ERROR_SIGNATURE_INVALID, "body: %s is for DSSE, the signature is none", our_kind);
                        return kinds[i].check(&binding, value_get_member(document, "spec"), err);
                }
        return refuse(err, ERROR_SIGNATURE_INVALID, "body: kind %s %s is not known", SHOWN(our_kind), SHOWN(our_version));
}
