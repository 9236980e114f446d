/*
 * How it goes: rows are saved under the hash of their content, and handed out only while the hash fits; they go with the last image or module that their target belongs to.
 * How it fails: a row that does not fit its id (damaged, exchanged) is deleted and never seen; a save is all or nothing; limits per target push out what no proof refers to.
 * How it ends: nothing is kept between calls. A rebuilt index has no evidence: it is fetched again.
 */
#include <stdlib.h>
#include <string.h>
#include "inside.h"

enum { BAD_ROWS_MAX = 1024 };

static const char *text_or_empty(const char *text)
{
        return text ? text : "";
}

static void part_hash(struct hasher *hasher, const void *bytes, size_t size_bytes)
{
        uint8_t length[8];

        for (size_t i = 0; i < sizeof length; i++)
                length[i] = (uint8_t)((uint64_t)size_bytes >> (8 * i));
        hasher_update(hasher, length, sizeof length);
        if (size_bytes > 0)
                hasher_update(hasher, bytes, size_bytes);
}

void store_hash_evidence(const struct store_evidence *row, struct digest *ret_id)
{
        static const char label[] = "wasmcached evidence 1";
        const char *texts[] = { text_or_empty(row->kind), text_or_empty(row->where), text_or_empty(row->repository) }, *extra = text_or_empty(row->extra);
        uint8_t target[DIGEST_KEY_BYTES];
        size_t target_bytes = digest_to_key(&row->target, target);
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);

        part_hash(hasher, label, sizeof label - 1);
        part_hash(hasher, target, target_bytes);
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                part_hash(hasher, texts[i], strlen(texts[i]));
        part_hash(hasher, row->body, row->body_bytes);
        part_hash(hasher, extra, strlen(extra));
        hasher_finish(hasher, ret_id);
}

/* ---- save */
/* False only for what no target could hold alone. */
static bool row_size(const struct store_evidence *row, size_t *ret_size)
{
        size_t size = strlen(text_or_empty(row->kind)) + strlen(text_or_empty(row->where)) + strlen(text_or_empty(row->repository)) + strlen(text_or_empty(row->extra));

        if (row->body_bytes > STORE_EVIDENCE_BYTES_MAX || size > STORE_EVIDENCE_BYTES_MAX - row->body_bytes)
                return false;
        *ret_size = size + row->body_bytes;
        return true;
}

static bool owner_check(struct store *store, const struct store_evidence *row, struct error *err)
{
        char target[DIGEST_TEXT_BYTES];
        sqlite3_stmt *found = index_start(store, STATEMENT_EVIDENCE_OWNER, err, "dd", &row->target, &row->module);
        int more = found ? index_step(store, found, err) : -1;

        if (found)
                index_stop(found);
        if (more != 0)
                return more == 1;
        digest_format(&row->target, target);
        return refuse(err, ERROR_NOT_FOUND, "evidence for %s is not kept: the store has nothing that it belongs to", target);
}

static bool evidence_put(struct store *store, const struct store_evidence *row, struct error *err)
{
        struct digest id;
        size_t size_bytes = 0;

        if (!digest_is_set(&row->target))
                return refuse(err, ERROR_INTERNAL, "evidence without target");
        if (!row_size(row, &size_bytes))
                return refuse(err, ERROR_TOO_LARGE, "evidence \"%s\" of %zu bytes: at most %d are kept for one target", text_or_empty(row->kind), row->body_bytes,
                              STORE_EVIDENCE_BYTES_MAX);
        store_hash_evidence(row, &id);
        return owner_check(store, row, err) &&
               index_write(store, STATEMENT_EVIDENCE_PUT, err, "ddtttbtidi", &id, &row->target, text_or_empty(row->kind), text_or_empty(row->where), text_or_empty(row->repository),
                           row->body_bytes > 0 ? row->body : "", row->body_bytes, text_or_empty(row->extra), row->found_s, &row->module, (int64_t)size_bytes);
}

static bool targets_trim(struct store *store, const struct digest *target, struct error *err)
{
        return index_write(store, STATEMENT_PROOF_TRIM, err, "di", target, (int64_t)STORE_PROOFS_PER_TARGET_MAX) &&
               index_write(store, STATEMENT_EVIDENCE_TRIM, err, "dii", target, (int64_t)STORE_EVIDENCE_PER_TARGET_MAX, (int64_t)STORE_EVIDENCE_BYTES_MAX);
}

bool store_save_evidence(struct store *store, const struct store_evidence *rows, size_t count, const struct store_proof *proofs, size_t proof_count, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = true;
        for (size_t i = 0; is_good && i < count; i++)
                is_good = evidence_put(store, &rows[i], err);
        for (size_t i = 0; is_good && i < proof_count; i++)
                is_good = index_write(store, STATEMENT_PROOF_PUT, err, "ddddi", &proofs[i].target, &proofs[i].keys, &proofs[i].policy, &proofs[i].evidence, proofs[i].proved_s);
        /* Only now is it known what the proofs refer to. Rows of one target usually stand together. */
        for (size_t i = 0; is_good && i < count; i++)
                if (i + 1 == count || !digest_equal(&rows[i].target, &rows[i + 1].target))
                        is_good = targets_trim(store, &rows[i].target, err);
        for (size_t i = 0; is_good && i < proof_count; i++)
                if (i + 1 == proof_count || !digest_equal(&proofs[i].target, &proofs[i + 1].target))
                        is_good = targets_trim(store, &proofs[i].target, err);
        return index_end(store, is_good, err);
}

/* ---- load */
/* Rows found bad on the way; they are deleted when the reading is over. What is beyond the room is found again the next time. */
struct bad { int64_t rowid; struct digest id; };
struct reading { struct store *store; const struct store_evidence_visitor *visitor; struct bad *rows; size_t count; };

static bool row_read(sqlite3_stmt *row, struct store_evidence *ret_row)
{
        struct digest id;
        struct store_evidence evidence = {
                .kind = column_text(row, 3), .where = column_text(row, 4), .repository = column_text(row, 5), .body = sqlite3_column_blob(row, 6),
                .body_bytes = (size_t)sqlite3_column_bytes(row, 6), .extra = column_text(row, 7), .found_s = sqlite3_column_int64(row, 8),
        };

        if (!column_digest(row, 1, &evidence.id) || !column_digest(row, 2, &evidence.target) || !column_digest(row, 9, &evidence.module) ||
            sqlite3_column_type(row, 6) != SQLITE_BLOB)
                return false;
        if (!evidence.body)
                evidence.body = "";
        store_hash_evidence(&evidence, &id);
        *ret_row = evidence;
        return digest_equal(&id, &evidence.id);
}

static void bad_note(struct reading *reading, sqlite3_stmt *row)
{
        if (reading->count == BAD_ROWS_MAX)
                return;
        if (!reading->rows)
                reading->rows = memory_new(BAD_ROWS_MAX, sizeof *reading->rows);
        struct bad *bad = &reading->rows[reading->count++];
        bad->rowid = sqlite3_column_int64(row, 0);
        column_digest(row, 1, &bad->id);
}

static bool evidence_load(struct reading *reading, const struct digest *target, struct error *err)
{
        sqlite3_stmt *row = index_start(reading->store, STATEMENT_EVIDENCE_LOAD, err, "di", target, (int64_t)STORE_EVIDENCE_BYTES_MAX);
        if (!row)
                return false;
        int more;
        while ((more = index_step(reading->store, row, err)) == 1) {
                struct store_evidence evidence;
                if (!row_read(row, &evidence))
                        bad_note(reading, row);
                else if (reading->visitor->evidence)
                        reading->visitor->evidence(reading->visitor->arg, &evidence);
        }
        index_stop(row);
        return more == 0;
}

static bool images_load(struct reading *reading, const struct digest *target, struct error *err)
{
        sqlite3_stmt *row = index_start(reading->store, STATEMENT_IMAGE_OF, err, "d", target);
        if (!row)
                return false;
        int more;
        while ((more = index_step(reading->store, row, err)) == 1) {
                struct store_image image;
                if (row_read_image(row, &image))
                        reading->visitor->image(reading->visitor->arg, &image);
        }
        index_stop(row);
        return more == 0;
}

static bool is_bad(const struct reading *reading, const struct digest *id)
{
        for (size_t i = 0; i < reading->count; i++)
                if (digest_equal(&reading->rows[i].id, id))
                        return true;
        return false;
}

static bool proofs_load(struct reading *reading, const struct digest *target, struct error *err)
{
        sqlite3_stmt *row = index_start(reading->store, STATEMENT_PROOF_LOAD, err, "d", target);
        if (!row)
                return false;
        int more;
        while ((more = index_step(reading->store, row, err)) == 1) {
                struct store_proof proof = { .target = *target, .proved_s = sqlite3_column_int64(row, 3) };
                if (column_digest(row, 0, &proof.keys) && column_digest(row, 1, &proof.policy) && column_digest(row, 2, &proof.evidence) && !is_bad(reading, &proof.evidence))
                        reading->visitor->proof(reading->visitor->arg, &proof);
        }
        index_stop(row);
        return more == 0;
}

/* A failure only means that they are found bad again. */
static void bad_delete(struct reading *reading)
{
        struct store *store = reading->store;
        struct error err = { 0 };

        if (reading->count == 0)
                return;
        bool is_good = index_begin(store, &err);
        if (is_good) {
                for (size_t i = 0; is_good && i < reading->count; i++)
                        is_good = index_write(store, STATEMENT_EVIDENCE_DELETE, &err, "i", reading->rows[i].rowid);
                is_good = index_end(store, is_good, &err);
        }
        LOG_WARN("store_evidence_damaged", LOG_NUMBER("rows", reading->count), LOG_TEXT("detail", is_good ? "deleted; signatures are looked up again when needed" : err.text));
        free(reading->rows);
}

/* The lock keeps our own writers out, the transaction an operator's sqlite3 shell. Inside another transaction it is that one. */
static bool reading_begin(struct store *store, struct error *err)
{
        return store->index.depth > 0 || index_write(store, STATEMENT_BEGIN_READ, err, "");
}

static void reading_end(struct store *store)
{
        struct error ignored = { 0 };

        if (store->index.depth == 0 && !sqlite3_get_autocommit(store->index.db))
                index_write(store, STATEMENT_ROLLBACK, &ignored, "");
}

bool store_load_targets(struct store *store, const struct digest *targets, size_t count, const struct store_evidence_visitor *visitor, struct error *err)
{
        struct reading reading = { .store = store, .visitor = visitor };

        index_lock(store);
        bool is_good = reading_begin(store, err);
        for (size_t i = 0; is_good && i < count; i++)
                is_good = (!visitor->image || images_load(&reading, &targets[i], err)) && evidence_load(&reading, &targets[i], err) &&
                          (!visitor->proof || proofs_load(&reading, &targets[i], err));
        reading_end(store);
        bad_delete(&reading);
        index_unlock(store);
        return is_good;
}

bool store_load_evidence(struct store *store, const struct digest *target, void (*each)(void *arg, const struct store_evidence *row),
                         void (*proof)(void *arg, const struct store_proof *row), void *arg, struct error *err)
{
        return store_load_targets(store, target, 1, &(struct store_evidence_visitor){ .arg = arg, .evidence = each, .proof = proof }, err);
}

bool store_remove_proofs(struct store *store, const struct digest *target, const struct digest *keys, const struct digest *policy, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        return index_end(store, index_write(store, STATEMENT_PROOF_DELETE, err, "ddd", target, keys, policy), err);
}
