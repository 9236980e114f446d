/* For tests of transparency logs: a log of our own with its tree, promises and checkpoints. The tree is RFC 6962 2.1 word by word (recursive), not as the verifier walks it. */
#pragma once
#include "trust_oci_rig.h"

enum { RIG_HASH = 32 };
struct rig_hash { uint8_t bytes[RIG_HASH]; };

RIG struct rig_hash rig_node(uint8_t prefix, const void *left, size_t left_size, const void *right, size_t right_size)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct digest digest;
        struct rig_hash hash;
        buffer_append(&text, &prefix, 1);
        buffer_append(&text, left, left_size);
        buffer_append(&text, right, right_size);
        digest_sha256(text.data, text.used, &digest);
        memcpy(hash.bytes, digest.bytes, RIG_HASH);
        return hash;
}

RIG size_t rig_split(size_t count)
{
        size_t split = 1;
        while (split * 2 < count)
                split *= 2;
        return split;
}

/* MTH(D[n]); leaf i is `leaf` where i == index, else the number i. */
RIG struct rig_hash rig_tree(size_t first, size_t count, size_t index, struct span leaf)
{
        if (count == 1 && first == index)
                return rig_node(0, leaf.bytes, leaf.size_bytes, "", 0);
        if (count == 1)
                return rig_node(0, &first, sizeof first, "", 0);
        size_t split = rig_split(count);
        struct rig_hash left = rig_tree(first, split, index, leaf), right = rig_tree(first + split, count - split, index, leaf);
        return rig_node(1, left.bytes, RIG_HASH, right.bytes, RIG_HASH);
}

/* PATH(m, D[n]); returns the number of hashes. */
RIG size_t rig_path(size_t first, size_t count, size_t index, struct span leaf, struct rig_hash *ret_path)
{
        if (count == 1)
                return 0;
        size_t split = rig_split(count), used;
        bool is_left = index < first + split;
        used = is_left ? rig_path(first, split, index, leaf, ret_path) : rig_path(first + split, count - split, index, leaf, ret_path);
        ret_path[used] = is_left ? rig_tree(first + split, count - split, index, leaf) : rig_tree(first, split, index, leaf);
        return used + 1;
}

/* `is_v2`: its id is of origin and raw Ed25519 key, and there are no promises. */
struct rig_log { EVP_PKEY *pkey; struct trust_keys *keys; const char *origin, *name; bool is_v2; uint8_t id[RIG_HASH]; };

RIG struct rig_log rig_log_new(const char *kind, const char *origin, const char *name, bool is_v2)
{
        struct rig_log log = { .pkey = rig_key(kind), .origin = origin, .name = name, .is_v2 = is_v2 };
        log.keys = rig_public(log.pkey);
        memcpy(log.id, trust_keys_get_fingerprint(log.keys, 0)->bytes, RIG_HASH);
        if (is_v2) {
                uint8_t raw[32];
                size_t size = sizeof raw;
                CLEANUP(buffer_fini) struct buffer named = { 0 };
                struct digest digest;
                assert_int_equal(EVP_PKEY_get_raw_public_key(log.pkey, raw, &size), 1);
                buffer_printf(&named, "%s\n%c", origin, 1);
                buffer_append(&named, raw, sizeof raw);
                digest_sha256(named.data, named.used, &digest);
                memcpy(log.id, digest.bytes, RIG_HASH);
        }
        return log;
}

RIG void rig_log_fini(struct rig_log *log)
{
        EVP_PKEY_free(log->pkey);
        trust_keys_unref(&log->keys);
}

RIG char *rig_promise(const struct rig_log *log, const char *body, int64_t time, int64_t index)
{
        CLEANUP(cleanup_free) char *encoded = base64_encode(body, strlen(body));
        char hex[2 * RIG_HASH + 1];
        hex_format(log->id, RIG_HASH, hex);
        CLEANUP(cleanup_free) char *text = string_format("{\"body\":\"%s\",\"integratedTime\":%lld,\"logID\":\"%s\",\"logIndex\":%lld}", encoded, (long long)time, hex, (long long)index);
        return rig_sign_base64(log->pkey, rig_hash_of(log->pkey), SPAN(text, strlen(text)));
}

/* "— name base64(id, signature)\n" over `text`. */
RIG char *rig_note_line(const struct rig_log *log, const char *name, const char *text)
{
        struct rig_bytes signature = rig_sign(log->pkey, rig_hash_of(log->pkey), false, SPAN(text, strlen(text)));
        memmove(signature.data + 4, signature.data, signature.size);
        memcpy(signature.data, log->id, 4);
        CLEANUP(cleanup_free) char *encoded = base64_encode(signature.data, signature.size + 4);
        return string_format("\xe2\x80\x94 %s %s\n", name, encoded);
}

/* One entry of a bundle; members that are NULL are made, "" are left out. `body` is the text that is logged. */
struct rig_entry { const char *body, *kind, *version, *promise, *proof, *checkpoint, *witness; size_t size, index; int64_t time; };

RIG char *rig_proof(const struct rig_log *log, const struct rig_entry *entry)
{
        size_t size = entry->size ? entry->size : 11, index = entry->size ? entry->index : 5;
        struct span leaf = SPAN(entry->body, strlen(entry->body));
        struct rig_hash path[64], root = rig_tree(0, size, index, leaf);
        size_t count = rig_path(0, size, index, leaf, path);
        CLEANUP(buffer_fini) struct buffer hashes = { 0 };
        CLEANUP(cleanup_free) char *root_text = base64_encode(root.bytes, RIG_HASH), *text = string_format("%s\n%zu\n%s\n", log->origin, size, root_text), *line = rig_note_line(log, log->name, text);
        CLEANUP(cleanup_free) char *note = entry->checkpoint ? string_copy(entry->checkpoint) : string_format("%s\n%s%s", text, entry->witness ? entry->witness : "", line);
        struct json_writer writer = { .out = &hashes };
        json_open_map(&writer, NULL);
        json_put_int(&writer, "logIndex", (int64_t)index);
        json_put_int(&writer, "treeSize", (int64_t)size);
        json_put_text(&writer, "rootHash", root_text);
        json_open_list(&writer, "hashes");
        for (size_t i = 0; i < count; i++) {
                CLEANUP(cleanup_free) char *hash = base64_encode(path[i].bytes, RIG_HASH);
                json_put_text(&writer, NULL, hash);
        }
        json_close_list(&writer);
        json_open_map(&writer, "checkpoint");
        json_put_text(&writer, "envelope", note);
        json_close_map(&writer);
        json_close_map(&writer);
        return buffer_take(&hashes);
}

RIG char *rig_entry(const struct rig_log *log, const struct rig_entry *entry)
{
        CLEANUP(cleanup_free) char *id = base64_encode(log->id, RIG_HASH), *body = base64_encode(entry->body, strlen(entry->body));
        CLEANUP(cleanup_free) char *promise = entry->promise || log->is_v2 ? string_copy(entry->promise ? entry->promise : "") : rig_promise(log, entry->body, entry->time, 77);
        CLEANUP(cleanup_free) char *proof = entry->proof ? string_copy(entry->proof) : rig_proof(log, entry);
        struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        json_open_map(&writer, NULL);
        json_put_text(&writer, "logIndex", "77");
        json_open_map(&writer, "logId");
        json_put_text(&writer, "keyId", id);
        json_close_map(&writer);
        json_open_map(&writer, "kindVersion");
        json_put_text(&writer, "kind", entry->kind);
        json_put_text(&writer, "version", entry->version);
        json_close_map(&writer);
        json_put_int(&writer, "integratedTime", entry->time);
        if (*promise) {
                json_open_map(&writer, "inclusionPromise");
                json_put_text(&writer, "signedEntryTimestamp", promise);
                json_close_map(&writer);
        }
        if (*proof)
                json_put_raw(&writer, "inclusionProof", proof);
        json_put_text(&writer, "canonicalizedBody", body);
        json_close_map(&writer);
        return buffer_take(&text);
}
