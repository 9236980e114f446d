/*
 * How it goes: user_version says how many of the migrations below an index has seen; the missing ones run in one transaction, after a copy of the old index was made.
 * How it fails: a newer index is refused by number and left alone; a damaged one is told apart (INDEX_CORRUPT), so that it can be moved aside.
 * How it ends: all or nothing; the copy index.sqlite.schema-<n> stays for the way back.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include "inside.h"

enum { SCHEMA_APPLICATION = 0x5741534d };         /* "WASM" */

/* Never edit a line that was released: add one. Digests are one byte of algorithm and the bytes; an unset one is empty. */
static const char *const migrations[STORE_SCHEMA] = {
        "CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE module (sha256 BLOB PRIMARY KEY, device INTEGER NOT NULL, inode INTEGER NOT NULL, size_bytes INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,"
        " ctime_ns INTEGER NOT NULL, created_s INTEGER NOT NULL, last_used_s INTEGER NOT NULL, pinned INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE image (manifest BLOB NOT NULL, top BLOB NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, layer BLOB NOT NULL, media_type TEXT NOT NULL,"
        " layer_type TEXT NOT NULL, PRIMARY KEY (manifest, top)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE document (manifest BLOB NOT NULL, top BLOB NOT NULL, text TEXT NOT NULL, PRIMARY KEY (manifest, top),"
        " FOREIGN KEY (manifest, top) REFERENCES image ON DELETE CASCADE) STRICT, WITHOUT ROWID;"
        "CREATE TABLE reference (name TEXT PRIMARY KEY, top BLOB NOT NULL, manifest BLOB NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, etag TEXT NOT NULL,"
        " checked_s INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
        "CREATE TABLE \"grant\" (manifest BLOB NOT NULL, repository TEXT NOT NULL, kind TEXT NOT NULL, namespace TEXT NOT NULL, secret TEXT NOT NULL, credential_mac BLOB NOT NULL,"
        " granted_s INTEGER NOT NULL, last_ok_s INTEGER NOT NULL, PRIMARY KEY (manifest, repository, kind, namespace, secret, credential_mac)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE resource (namespace TEXT NOT NULL, name TEXT NOT NULL, version TEXT NOT NULL, reference TEXT NOT NULL,"
        " module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, manifest BLOB NOT NULL, PRIMARY KEY (namespace, name)) STRICT, WITHOUT ROWID;"
        "CREATE TABLE lease (id TEXT PRIMARY KEY, namespace TEXT NOT NULL, module BLOB NOT NULL REFERENCES module ON DELETE CASCADE, expires_s INTEGER NOT NULL,"
        " holder TEXT NOT NULL) STRICT, WITHOUT ROWID;",

        /* Letting a module go finds what points at it without walking every table. */
        "CREATE INDEX image_module ON image (module);"
        "CREATE INDEX reference_module ON reference (module);"
        "CREATE INDEX resource_module ON resource (module);"
        "CREATE INDEX lease_module ON lease (module);",

        /* Evidence of signatures. Bodies are long, so its rows stay where they are and the id is an index. */
        "CREATE TABLE evidence (id BLOB NOT NULL UNIQUE, target BLOB NOT NULL, kind TEXT NOT NULL, place TEXT NOT NULL, repository TEXT NOT NULL, extra TEXT NOT NULL,"
        " found_s INTEGER NOT NULL, module BLOB NOT NULL, size_bytes INTEGER NOT NULL, body BLOB NOT NULL) STRICT;"
        "CREATE INDEX evidence_target ON evidence (target, found_s);"
        "CREATE INDEX evidence_module ON evidence (module) WHERE module <> x'';"
        "CREATE TABLE proof (target BLOB NOT NULL, keys BLOB NOT NULL, policy BLOB NOT NULL, evidence BLOB NOT NULL REFERENCES evidence (id) ON DELETE CASCADE,"
        " proved_s INTEGER NOT NULL, PRIMARY KEY (target, keys, policy)) STRICT, WITHOUT ROWID;"
        "CREATE INDEX proof_evidence ON proof (evidence);"
        "CREATE INDEX image_top ON image (top);",

        /* What shows that a row of an image was written by the daemon, see module/seal.c. Rows of before have none. */
        "ALTER TABLE image ADD COLUMN seal BLOB NOT NULL DEFAULT x'';",
};

static enum index_state schema_refuse(struct store *store, struct error *err, const char *doing)
{
        int code = sqlite3_errcode(store->index.db) & 0xff;
        index_refuse(store, err, doing);
        return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? INDEX_CORRUPT : INDEX_REFUSED;
}

static enum index_state schema_number(struct store *store, const char *sql, int64_t *ret_number, struct error *err)
{
        sqlite3_stmt *row = NULL;
        enum index_state state = INDEX_GOOD;
        if (sqlite3_prepare_v2(store->index.db, sql, -1, &row, NULL) != SQLITE_OK || sqlite3_step(row) != SQLITE_ROW)
                state = schema_refuse(store, err, "cannot read the schema's number");
        else
                *ret_number = sqlite3_column_int64(row, 0);
        sqlite3_finalize(row);
        return state;
}

/* SQLite's own copy, so that what is still in the log is in it too. */
static bool schema_backup(struct store *store, int64_t version, struct error *err)
{
        char name[64];
        snprintf(name, sizeof name, "index.sqlite.schema-%lld", (long long)version);
        unlinkat(store->root_fd, name, 0);        /* of a migration that did not end */
        /* VACUUM INTO takes an empty file: made here so that the copy is as private as the index. */
        CLEANUP(cleanup_close) int made = openat(store->root_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (made < 0)
                return refuse_errno(err, ERROR_INTERNAL, errno, "store %s: no copy of the old index can be made as %s", store->root, name);

        char *sql = sqlite3_mprintf("VACUUM INTO '%q/%q'", store->root, name);
        int code = fault_hit("store.backup") ? SQLITE_FULL : sqlite3_exec(store->index.db, sql, NULL, NULL, NULL);
        sqlite3_free(sql);
        if (code != SQLITE_OK) {
                unlinkat(store->root_fd, name, 0);
                return index_refuse(store, err, "cannot copy the index before its migration");
        }

        CLEANUP(cleanup_close) int fd = openat(store->root_fd, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
                return refuse(err, ERROR_INTERNAL, "store %s: the copy %s could not be made durable", store->root, name);
        return fs_sync_folder(store->root_fd, err);
}

static bool schema_migrate(struct store *store, int64_t version, struct error *err)
{
        if (version > 0 && !schema_backup(store, version, err))
                return false;

        char pragmas[128];
        snprintf(pragmas, sizeof pragmas, "PRAGMA user_version = %d; PRAGMA application_id = %d", STORE_SCHEMA, SCHEMA_APPLICATION);
        bool is_good = sqlite3_exec(store->index.db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
        for (int64_t i = version; is_good && i < STORE_SCHEMA; i++)
                is_good = !fault_hit("store.migration") && sqlite3_exec(store->index.db, migrations[i], NULL, NULL, NULL) == SQLITE_OK;
        is_good = is_good && sqlite3_exec(store->index.db, pragmas, NULL, NULL, NULL) == SQLITE_OK && sqlite3_exec(store->index.db, "COMMIT", NULL, NULL, NULL) == SQLITE_OK;
        if (is_good)
                return true;

        index_refuse(store, err, "cannot bring the index to the present schema");
        sqlite3_exec(store->index.db, "ROLLBACK", NULL, NULL, NULL);
        return false;
}

enum index_state schema_prepare(struct store *store, bool *ret_is_new, struct error *err)
{
        int64_t version = 0, tables = 0;
        enum index_state state = schema_number(store, "PRAGMA user_version", &version, err);
        if (state == INDEX_GOOD)
                state = schema_number(store, "SELECT count(*) FROM sqlite_schema", &tables, err);
        if (state != INDEX_GOOD)
                return state;

        *ret_is_new = version == 0;
        if (version > STORE_SCHEMA) {
                refuse(err, ERROR_INTERNAL, "store %s: its index has schema %lld, this wasmcached knows up to %d; start the newer one again, or move index.sqlite "
                       "away to rebuild it", store->root, (long long)version, STORE_SCHEMA);
                return INDEX_REFUSED;
        }
        if (version < 0 || (version == 0 && tables > 0)) {
                refuse(err, ERROR_INTERNAL, "store %s: index.sqlite is no index of ours", store->root);
                return INDEX_CORRUPT;
        }
        if (version == STORE_SCHEMA)
                return INDEX_GOOD;
        if (store->is_read_only) {
                refuse(err, ERROR_INTERNAL, "store %s: its index has schema %lld and cannot be migrated on a read-only file system", store->root, (long long)version);
                return INDEX_REFUSED;
        }
        return schema_migrate(store, version, err) ? INDEX_GOOD : INDEX_REFUSED;
}
