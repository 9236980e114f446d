/*
 * How it goes: an entry is read from the annotation of a classic signature or from a bundle; the log that it names must be one of the configured; its promise (SET) and its
 *               inclusion proof with checkpoint, as far as they are there and one at least, must verify; last the body is bound to what we verified.
 * How it fails: every entry is looked at (32 at most), one good one suffices; the sentence is that of the first entry of a log that is configured, else of the first.
 * How it ends: `logged_s` is set when the time was under the log's own signature (SET); a checkpoint says nothing about it.
 *
 * Rules: 7.1, 7.2. Only where policy->rekor_keys is set; nothing else in this room needs a log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "key.h"
#include "rekor.h"
#include "signed.h"

enum { BODY_TEXT_MAX = 1 << 20, LOG_SIGNATURE_MAX = 1024, LOG_ID_BYTES = 32 };

/* Texts and values point into the document; what was decoded is owned. */
struct entry {
        uint8_t log_id[LOG_ID_BYTES];
        size_t log;                       /* index into rekor_keys, once found */
        bool is_known;
        const char *kind, *version;       /* NULL: the annotation names none */
        int64_t index, integrated_s;
        void *body, *promise; size_t body_bytes, promise_bytes;
        const struct value *proof;
        uint8_t (*hashes)[LOG_HASH_BYTES];
};

static void entry_fini(struct entry *entry)
{
        free(entry->body);
        free(entry->promise);
        free(entry->hashes);
}

static bool unlogged(struct judgement *judgement, const struct error *err)
{
        return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: %s", err->text);
}

/* ---- reading ---- */

/* proto-JSON int64: a number, or decimal digits in a string; absent = 0. */
static bool int_read(const struct value *map, const char *name, int64_t *ret_int, struct error *err)
{
        const struct value *member = value_get_member(map, name);
        const char *text = value_get_text(member);
        char *end;

        if (!text)
                return value_read_int(map, name, ERROR_SIGNATURE_INVALID, ret_int, err) && (*ret_int >= 0 || refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" is negative", name));
        size_t length = strlen(text);
        errno = 0;
        int64_t number = strtoll(text, &end, 10);
        if (length == 0 || strspn(text, "0123456789") != length || errno != 0)
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" is no number from 0 to 2^63-1", name);
        *ret_int = number;
        return true;
}

static bool bytes_read(const struct value *map, const char *name, size_t limit, void **ret_bytes, size_t *ret_size, struct error *err)
{
        const char *text = value_get_text(value_get_member(map, name));

        if (!text || !base64_take(text, strlen(text), BASE64_EITHER, limit, ret_bytes, ret_size))
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" is missing or no base64 of at most %zu bytes", name, limit);
        return true;
}

static bool hash_read(const struct value *map, const char *name, const struct value *text_value, uint8_t ret_hash[LOG_HASH_BYTES], struct error *err)
{
        const char *text = value_get_text(text_value ? text_value : value_get_member(map, name));
        CLEANUP(cleanup_free) void *bytes = NULL;
        size_t size = 0;

        if (!text || !base64_take(text, strlen(text), BASE64_EITHER, LOG_HASH_BYTES, &bytes, &size) || size != LOG_HASH_BYTES)
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"%s\" is no hash of %d bytes", name, LOG_HASH_BYTES);
        memcpy(ret_hash, bytes, LOG_HASH_BYTES);
        return true;
}

/* 7.1: `Payload` is under the log's signature, so its members are an exact set; so does c/image read it. */
static bool annotation_read(const struct value *document, struct entry *entry, const char **ret_body_text, struct error *err)
{
        static const char *const names[] = { "SignedEntryTimestamp", "Payload", NULL }, *const payload_names[] = { "body", "integratedTime", "logIndex", "logID", NULL };
        const struct value *payload = NULL;
        const char *log_id = NULL, *body = NULL;
        struct digest id;

        if (value_get_kind(document) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "is no JSON object");
        if (!value_only_members(document, names, ERROR_SIGNATURE_INVALID, err) || !value_read_map(document, "Payload", ERROR_SIGNATURE_INVALID, &payload, err) ||
            !value_only_members(payload, payload_names, ERROR_SIGNATURE_INVALID, err) || !value_read_text(payload, "body", ERROR_SIGNATURE_INVALID, &body, err) ||
            !value_read_text(payload, "logID", ERROR_SIGNATURE_INVALID, &log_id, err) || !int_read(payload, "integratedTime", &entry->integrated_s, err) ||
            !int_read(payload, "logIndex", &entry->index, err) || !bytes_read(document, "SignedEntryTimestamp", LOG_SIGNATURE_MAX, &entry->promise, &entry->promise_bytes, err))
                return false;
        if (!log_id || !digest_parse_hex(log_id, &id))
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"logID\" is not 64 lower-case hex digits");
        if (!body || strpbrk(body, "\r\n") || !base64_take(body, strlen(body), BASE64_STANDARD, BODY_TEXT_MAX, &entry->body, &entry->body_bytes))
                return refuse(err, ERROR_SIGNATURE_INVALID, "\"body\" is missing or no base64");
        memcpy(entry->log_id, id.bytes, LOG_ID_BYTES);
        *ret_body_text = body;
        return true;
}

static bool entry_read(const struct value *value, struct entry *entry, struct error *err)
{
        const struct value *log_id = NULL, *kind = NULL, *promise = NULL;

        if (value_get_kind(value) != VALUE_MAP)
                return refuse(err, ERROR_SIGNATURE_INVALID, "is no object");
        if (!value_read_map(value, "logId", ERROR_SIGNATURE_INVALID, &log_id, err) || !hash_read(log_id, "keyId", NULL, entry->log_id, err) ||
            !value_read_map(value, "kindVersion", ERROR_SIGNATURE_INVALID, &kind, err) || !value_read_text(kind, "kind", ERROR_SIGNATURE_INVALID, &entry->kind, err) ||
            !value_read_text(kind, "version", ERROR_SIGNATURE_INVALID, &entry->version, err) || !int_read(value, "logIndex", &entry->index, err) ||
            !int_read(value, "integratedTime", &entry->integrated_s, err) || !value_read_map(value, "inclusionPromise", ERROR_SIGNATURE_INVALID, &promise, err) ||
            !value_read_map(value, "inclusionProof", ERROR_SIGNATURE_INVALID, &entry->proof, err) ||
            !bytes_read(value, "canonicalizedBody", BODY_TEXT_MAX, &entry->body, &entry->body_bytes, err))
                return false;
        return !promise || bytes_read(promise, "signedEntryTimestamp", LOG_SIGNATURE_MAX, &entry->promise, &entry->promise_bytes, err);
}

/* ---- checking ---- */

/* Version 1 names a log by the hash of its key (whatever kind of key), version 2 by origin and raw Ed25519 key. */
static bool log_is(const struct trust_key *key, const uint8_t id[LOG_ID_BYTES], const struct checkpoint *checkpoint)
{
        CLEANUP(buffer_fini) struct buffer named = { 0 };
        struct digest digest;

        if (memcmp(key->fingerprint.bytes, id, LOG_ID_BYTES) == 0)
                return true;
        if (key->kind != KEY_ED25519 || !checkpoint)
                return false;
        buffer_append(&named, checkpoint->origin, checkpoint->origin_bytes);
        buffer_append(&named, "\n\x01", 2);
        buffer_append(&named, key->ed25519, sizeof key->ed25519);
        digest_sha256(named.data, named.used, &digest);
        return memcmp(digest.bytes, id, LOG_ID_BYTES) == 0;
}

static bool log_find(struct judgement *judgement, struct entry *entry, const struct checkpoint *checkpoint, struct error *err)
{
        const struct trust_keys *logs = judgement->policy->rekor_keys;
        char hex[2 * LOG_ID_BYTES + 1];

        for (size_t i = 0; i < logs->count; i++)
                if (log_is(logs->keys[i], entry->log_id, checkpoint)) {
                        entry->log = i;
                        entry->is_known = true;
                        return true;
                }
        hex_format(entry->log_id, LOG_ID_BYTES, hex);
        return refuse(err, ERROR_SIGNATURE_INVALID, "log %s is not one of the configured", hex);
}

/* By the key of that log, not just by some log's. */
static bool log_verify(struct judgement *judgement, const struct entry *entry, struct span message, struct span signature, const char *what)
{
        const struct trust_keys *logs = judgement->policy->rekor_keys;
        struct verify_input input = { .message = message, .signature = signature, .flags = logs->keys[entry->log]->kind == KEY_ED25519 ? VERIFY_ED25519_ONLY : 0 };
        struct verified verified;
        enum verify_result result = verify_message(logs, &input, judgement->budget, &verified);

        if (result == VERIFY_SPENT)
                return judged_bad(judgement, result, "");
        return (result == VERIFY_GOOD && verified.key == entry->log) || miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: %s is not signed by the log's key", what);
}

/* The canonical JSON (RFC 8785) of exactly these four; base64 and hex need no escapes. */
static bool promise_check(struct judgement *judgement, const struct entry *entry, const char *body_text)
{
        CLEANUP(buffer_fini) struct buffer signed_text = { 0 };
        CLEANUP(cleanup_free) char *encoded = body_text ? NULL : base64_encode(entry->body, entry->body_bytes);
        char hex[2 * LOG_ID_BYTES + 1];

        hex_format(entry->log_id, LOG_ID_BYTES, hex);
        buffer_printf(&signed_text, "{\"body\":\"%s\",\"integratedTime\":%lld,\"logID\":\"%s\",\"logIndex\":%lld}", body_text ? body_text : encoded,
                      (long long)entry->integrated_s, hex, (long long)entry->index);
        return log_verify(judgement, entry, SPAN(signed_text.data, signed_text.used), SPAN(entry->promise, entry->promise_bytes), "signed entry timestamp");
}

/* Every line of this log must verify, one must be there; those of witnesses are not looked at. The name of a log is its origin, for version 1 without the tree's number;
   it has no newline, so that it does not go on behind the origin. */
static bool checkpoint_check(struct judgement *judgement, const struct entry *entry, const struct checkpoint *checkpoint)
{
        struct checkpoint_line line;
        const char *at = checkpoint->lines;
        size_t found = 0;
        bool bad;

        for (size_t count = 0; checkpoint_line_next(checkpoint, &at, &line, &bad); count++) {
                CLEANUP(cleanup_free) void *bytes = NULL;
                size_t size, rest = checkpoint->origin_bytes - line.name_bytes;

                if (count == CHECKPOINT_LINES_MAX)
                        return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: checkpoint has more than %d signatures", CHECKPOINT_LINES_MAX);
                if (memcmp(line.key_id, entry->log_id, sizeof line.key_id) != 0 || memcmp(line.name, checkpoint->origin, line.name_bytes) != 0 ||
                    (rest > 0 && !string_starts_with(checkpoint->origin + line.name_bytes, " - ")))
                        continue;
                if (!base64_take(line.text, line.text_bytes, BASE64_STANDARD, LOG_SIGNATURE_MAX, &bytes, &size))
                        return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: checkpoint signature is no base64");
                if (!log_verify(judgement, entry, checkpoint->text, SPAN((char *)bytes + sizeof line.key_id, size - sizeof line.key_id), "checkpoint"))
                        return false;
                found++;
        }
        if (bad)
                return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: checkpoint is no signed note");
        return found > 0 || miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: checkpoint has no signature of the log");
}

static bool proof_read(struct entry *entry, const struct checkpoint *checkpoint, struct inclusion *ret_inclusion, struct error *err)
{
        struct inclusion inclusion = { 0 };
        const struct value *hashes = NULL;
        int64_t index = 0, size = 0;

        if (!int_read(entry->proof, "logIndex", &index, err) || !int_read(entry->proof, "treeSize", &size, err) ||
            !hash_read(entry->proof, "rootHash", NULL, inclusion.root, err) || !value_read_list(entry->proof, "hashes", ERROR_SIGNATURE_INVALID, &hashes, err))
                return false;
        inclusion.index = (uint64_t)index;
        inclusion.size = (uint64_t)size;
        inclusion.hash_count = value_get_count(hashes);
        if (inclusion.hash_count > LOG_HASHES_MAX)
                return refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: has %zu hashes, at most %d are read", inclusion.hash_count, LOG_HASHES_MAX);
        entry->hashes = memory_new(LOG_HASHES_MAX, sizeof *entry->hashes);
        for (size_t i = 0; i < inclusion.hash_count; i++)
                if (!hash_read(NULL, "hashes", value_get_item(hashes, i), entry->hashes[i], err))
                        return false;
        inclusion.hashes = (const uint8_t(*)[LOG_HASH_BYTES])entry->hashes;
        if (inclusion.size != checkpoint->size || memcmp(inclusion.root, checkpoint->root, LOG_HASH_BYTES) != 0)
                return refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: size or root is not the checkpoint's");
        *ret_inclusion = inclusion;
        return true;
}

static bool proof_check(struct judgement *judgement, struct entry *entry, const struct checkpoint *checkpoint)
{
        struct inclusion inclusion;
        struct error err;

        if (!proof_read(entry, checkpoint, &inclusion, &err) || !inclusion_check(&inclusion, SPAN(entry->body, entry->body_bytes), &err))
                return unlogged(judgement, &err);
        return checkpoint_check(judgement, entry, checkpoint);
}

static bool checkpoint_read(const struct entry *entry, struct checkpoint *ret_checkpoint, struct error *err)
{
        const struct value *checkpoint = NULL;
        const char *note = NULL;

        if (!value_read_map(entry->proof, "checkpoint", ERROR_SIGNATURE_INVALID, &checkpoint, err) || !value_read_text(checkpoint, "envelope", ERROR_SIGNATURE_INVALID, &note, err))
                return false;
        return note ? checkpoint_parse(note, ret_checkpoint, err) : refuse(err, ERROR_SIGNATURE_INVALID, "inclusion proof: has no checkpoint, so nobody signed its root");
}

/* Promise and proof, each if it is there, one at least. */
static bool entry_check(struct judgement *judgement, struct entry *entry, const char *body_text, const struct logged *logged)
{
        struct checkpoint checkpoint;
        struct error err;

        if (!entry->proof && !entry->promise)
                return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "transparency log: entry has neither a signed entry timestamp nor an inclusion proof");
        if ((entry->proof && !checkpoint_read(entry, &checkpoint, &err)) || !log_find(judgement, entry, entry->proof ? &checkpoint : NULL, &err))
                return unlogged(judgement, &err);
        if ((entry->promise && !promise_check(judgement, entry, body_text)) || (entry->proof && !proof_check(judgement, entry, &checkpoint)))
                return false;
        if (!body_check(judgement, SPAN(entry->body, entry->body_bytes), entry->kind, entry->version, logged, &err))
                return unlogged(judgement, &err);
        judgement->proof->logged_s = entry->promise ? entry->integrated_s : 0;
        return true;
}

bool rekor_check_annotation(struct judgement *judgement, const char *entry_or_null, const struct logged *logged)
{
        CLEANUP(value_free) struct value *document = NULL;
        CLEANUP(entry_fini) struct entry entry = { 0 };
        const char *body_text = NULL;
        struct error err;

        if (!judgement->policy->rekor_keys)
                return true;
        if (!entry_or_null)
                return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "valid signature by this key, but without an entry of a transparency log; one is required");
        if (strlen(entry_or_null) > BODY_TEXT_MAX)
                return miss(judgement->failure, TRUST_LIMIT, "entry of the transparency log has more than %d bytes", BODY_TEXT_MAX);
        if (!json_parse(entry_or_null, strlen(entry_or_null), ERROR_SIGNATURE_INVALID, &document, &err) || !annotation_read(document, &entry, &body_text, &err))
                return unlogged(judgement, &err);
        return entry_check(judgement, &entry, body_text, logged);
}

static bool entry_judge(struct judgement *judgement, const struct value *value, const struct logged *logged, bool *ret_is_known)
{
        CLEANUP(entry_fini) struct entry entry = { 0 };
        struct error err;

        bool good = entry_read(value, &entry, &err) ? entry_check(judgement, &entry, NULL, logged) : unlogged(judgement, &err);
        *ret_is_known = entry.is_known;
        return good;
}

bool rekor_check_entries(struct judgement *judgement, const struct value *entries_or_null, const struct logged *logged)
{
        struct trust_failure kept = TRUST_FAILURE_NONE;
        size_t count = value_get_count(entries_or_null);
        bool has_known = false;

        if (!judgement->policy->rekor_keys)
                return true;
        if (count == 0)
                return miss(judgement->failure, TRUST_NO_LOG_ENTRY, "valid signature by this key, but without an entry of a transparency log; one is required");
        if (count > LOG_ENTRIES_MAX)
                return miss(judgement->failure, TRUST_LIMIT, "bundle has %zu entries of transparency logs, at most %d are looked at", count, LOG_ENTRIES_MAX);
        for (size_t i = 0; i < count; i++) {
                bool is_known = false;

                if (entry_judge(judgement, value_get_item(entries_or_null, i), logged, &is_known))
                        return true;
                if (judgement->failure->reason == TRUST_LIMIT)
                        return false;
                if (i == 0 || (is_known && !has_known))
                        kept = *judgement->failure;
                has_known |= is_known;
        }
        *judgement->failure = kept;
        return false;
}
