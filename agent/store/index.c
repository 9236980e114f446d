/*
 * How it goes: one SQLite connection (WAL, synchronous=FULL) behind one lock; every statement stands in one table and is prepared when first used.
 * How it fails: what SQLite says becomes an error in words. A log that could not be synced and a damaged file end all writing until the next start (the kernel may have dropped
 *               the pages, asking again would lie); reads go on. A damaged file at the start is moved aside and made anew.
 * How it ends: index_close() notes the orderly end, checkpoints and closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { SMALL_BYTES = 8 * 1024 * 1024 };           /* some thousand modules */

#define MODULE_COLUMNS "sha256, device, inode, size_bytes, mtime_ns, ctime_ns, created_s, last_used_s, pinned"

static const char *const texts[STATEMENTS] = {
        [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
        [STATEMENT_COMMIT] = "COMMIT",
        [STATEMENT_ROLLBACK] = "ROLLBACK",
        [STATEMENT_META_GET] = "SELECT value FROM meta WHERE name = ?1",
        [STATEMENT_META_PUT] = "INSERT INTO meta VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value",
        [STATEMENT_MODULE_PUT] = "INSERT INTO module (" MODULE_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, 0) ON CONFLICT DO UPDATE SET"
                                 " device = ?2, inode = ?3, size_bytes = ?4, mtime_ns = ?5, ctime_ns = ?6, created_s = max(?7, created_s + 1), last_used_s = max(?7, last_used_s)",
        [STATEMENT_MODULE_ADOPT] = "INSERT INTO module (" MODULE_COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0) ON CONFLICT DO NOTHING",
        [STATEMENT_MODULE_AGAIN] = "UPDATE module SET created_s = max(?2, created_s + 1) WHERE sha256 = ?1",
        [STATEMENT_MODULE_GET] = "SELECT " MODULE_COLUMNS " FROM module WHERE sha256 = ?1",
        [STATEMENT_MODULE_IDENTITY] = "UPDATE module SET device = ?2, inode = ?3, size_bytes = ?4, mtime_ns = ?5, ctime_ns = ?6 WHERE sha256 = ?1",
        [STATEMENT_MODULE_FOLLOW] = "UPDATE module SET ctime_ns = ?3 WHERE sha256 = ?1 AND ctime_ns = ?2",
        [STATEMENT_MODULE_USED] = "UPDATE module SET last_used_s = max(?2, last_used_s) WHERE sha256 = ?1",
        [STATEMENT_MODULE_PIN] = "UPDATE module SET pinned = ?2 WHERE sha256 = ?1",
        [STATEMENT_MODULE_DEVICE] = "UPDATE module SET device = ?2 WHERE device = ?1",
        [STATEMENT_MODULE_DELETE] = "DELETE FROM module WHERE sha256 = ?1",
        [STATEMENT_IMAGE_PUT] = "INSERT INTO image VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO UPDATE SET module = ?3, layer = ?4, media_type = ?5,"
                                " layer_type = ?6, seal = CASE ?7 WHEN x'' THEN seal ELSE ?7 END",
        [STATEMENT_IMAGE_MODULE] = "SELECT module FROM image WHERE manifest = ?1 LIMIT 1",
        [STATEMENT_IMAGE_OF] = "SELECT manifest, top, module, layer, media_type, layer_type, '', seal FROM image WHERE manifest = ?1 OR top = ?1",
        [STATEMENT_IMAGE_ONLY] = "DELETE FROM image WHERE manifest = ?1 AND module <> ?2",
        [STATEMENT_DOCUMENT_PUT] = "INSERT INTO document VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET text = ?3",
        [STATEMENT_DOCUMENT_GET] = "SELECT text FROM document WHERE manifest = ?1 LIMIT 1",
        [STATEMENT_REFERENCE_PUT] = "INSERT INTO reference VALUES (?1, ?2, ?3, ?4, ?5, ?6)"
                                    " ON CONFLICT DO UPDATE SET top = ?2, manifest = ?3, module = ?4, etag = ?5, checked_s = ?6",
        [STATEMENT_RESOURCE_PUT] = "INSERT INTO resource VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET version = ?3, reference = ?4, module = ?5, manifest = ?6",
        [STATEMENT_GRANT_PUT] = "INSERT INTO \"grant\" VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET last_ok_s = max(last_ok_s, ?8)",
        [STATEMENT_GRANT_TRIM] = "DELETE FROM \"grant\" WHERE manifest = ?1 AND repository = ?2 AND last_ok_s <"
                                 " (SELECT last_ok_s FROM \"grant\" WHERE manifest = ?1 AND repository = ?2 ORDER BY last_ok_s DESC LIMIT 1 OFFSET ?3)",
        [STATEMENT_GRANT_DELETE] = "DELETE FROM \"grant\" WHERE manifest = ?1 AND (?2 IS NULL OR repository = ?2) AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR namespace = ?4)"
                                   " AND (?5 IS NULL OR secret = ?5)",
        [STATEMENT_GRANT_DELETE_ALL] = "DELETE FROM \"grant\" WHERE (?1 IS NULL OR repository = ?1) AND (?2 IS NULL OR kind = ?2)"
                                       " AND (?3 IS NULL OR namespace = ?3) AND (?4 IS NULL OR secret = ?4)",
        [STATEMENT_GRANT_DELETE_OF] = "DELETE FROM \"grant\" WHERE manifest = ?1 OR manifest IN (SELECT manifest FROM image WHERE module = ?1)",
        [STATEMENT_LEASE_PUT] = "INSERT INTO lease SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM module WHERE sha256 = ?3)"
                                " ON CONFLICT DO UPDATE SET namespace = ?2, module = ?3, expires_s = ?4, holder = ?5",
        [STATEMENT_LEASE_DELETE] = "DELETE FROM lease WHERE id = ?1",
        [STATEMENT_LEASE_DELETE_ENDED] = "DELETE FROM lease WHERE expires_s <= ?1",
        [STATEMENT_LEASE_SHIFT] = "UPDATE lease SET expires_s = expires_s + ?1",
        [STATEMENT_LOAD_MODULES] = "SELECT " MODULE_COLUMNS " FROM module ORDER BY sha256",
        [STATEMENT_LOAD_IMAGES] = "SELECT manifest, top, module, layer, media_type, layer_type, coalesce(text, ''), seal FROM image LEFT JOIN document USING (manifest, top)",
        [STATEMENT_LOAD_IMAGES_BARE] = "SELECT manifest, top, module, layer, media_type, layer_type, '', seal FROM image",
        [STATEMENT_LOAD_REFERENCES] = "SELECT name, top, manifest, module, etag, checked_s FROM reference",
        [STATEMENT_LOAD_GRANTS] = "SELECT manifest, repository, kind, namespace, secret, credential_mac, granted_s, last_ok_s FROM \"grant\"",
        [STATEMENT_LOAD_RESOURCES] = "SELECT namespace, name, version, reference, module, manifest FROM resource",
        [STATEMENT_LOAD_LEASES] = "SELECT id, namespace, module, expires_s, holder FROM lease",
        [STATEMENT_FIND_MODULES] = "SELECT module FROM reference WHERE name = ?1 UNION SELECT module FROM image WHERE manifest = ?2 UNION SELECT module FROM image WHERE top = ?2"
                                   " UNION SELECT sha256 FROM module WHERE sha256 = ?2 UNION SELECT module FROM resource WHERE namespace = ?3 AND name = ?4",
        [STATEMENT_FIND_IMAGES] = "SELECT manifest, top, module, layer, media_type, layer_type, '', seal FROM image WHERE module = ?1 ORDER BY manifest, top",
        [STATEMENT_FIND_REFERENCES] = "SELECT name, top, manifest, module, etag, checked_s FROM reference WHERE module = ?1 ORDER BY name",
        [STATEMENT_FIND_GRANTS] = "SELECT manifest, repository, kind, namespace, secret, credential_mac, granted_s, last_ok_s FROM \"grant\""
                                  " WHERE manifest IN (SELECT ?1 UNION SELECT manifest FROM image WHERE module = ?1)",
        [STATEMENT_FIND_RESOURCES] = "SELECT namespace, name, version, reference, module, manifest FROM resource WHERE module = ?1",
        [STATEMENT_FIND_LEASES] = "SELECT id, namespace, module, expires_s, holder FROM lease WHERE module = ?1",
        [STATEMENT_BEGIN_READ] = "BEGIN",
        [STATEMENT_EVIDENCE_OWNER] = "SELECT 1 WHERE EXISTS (SELECT 1 FROM module WHERE sha256 IN (?1, ?2)) OR EXISTS (SELECT 1 FROM image WHERE manifest = ?1)"
                                     " OR EXISTS (SELECT 1 FROM image WHERE top = ?1)",
        [STATEMENT_EVIDENCE_PUT] = "INSERT INTO evidence (id, target, kind, place, repository, body, extra, found_s, module, size_bytes)"
                                   " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
                                   " ON CONFLICT (id) DO UPDATE SET target = ?2, kind = ?3, place = ?4, repository = ?5, body = ?6, extra = ?7,"
                                   " found_s = max(found_s, ?8), module = ?9, size_bytes = ?10",
        /* total(), not sum(): it cannot overflow, whatever a damaged row says. */
        [STATEMENT_EVIDENCE_TRIM] = "DELETE FROM evidence WHERE rowid IN (SELECT number FROM (SELECT rowid AS number, row_number() OVER best AS place,"
                                    " total(size_bytes) OVER best AS bytes FROM evidence WHERE target = ?1 WINDOW best AS (ORDER BY EXISTS (SELECT 1 FROM proof"
                                    " WHERE proof.evidence = evidence.id) DESC, found_s DESC, evidence.rowid DESC)) WHERE place > ?2 OR bytes > ?3)",
        [STATEMENT_EVIDENCE_LOAD] = "SELECT rowid, id, target, kind, place, repository, CASE WHEN length(body) <= ?2 THEN body END, extra, found_s, module FROM evidence"
                                    " WHERE target = ?1 ORDER BY found_s DESC, rowid DESC",
        [STATEMENT_EVIDENCE_DELETE] = "DELETE FROM evidence WHERE rowid = ?1",
        /* Of a module that goes: what names it, and what is for it or its manifests, unless an image of another module has the same manifest or top. */
        [STATEMENT_EVIDENCE_DELETE_OF] = "DELETE FROM evidence WHERE (module = ?1 AND module <> x'') OR (target IN (SELECT ?1"
                                         " UNION SELECT manifest FROM image WHERE module = ?1 UNION SELECT top FROM image WHERE module = ?1)"
                                         " AND NOT EXISTS (SELECT 1 FROM image WHERE image.manifest = target AND image.module <> ?1)"
                                         " AND NOT EXISTS (SELECT 1 FROM image WHERE image.top = target AND image.module <> ?1))",
        [STATEMENT_PROOF_PUT] = "INSERT INTO proof SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM evidence WHERE id = ?4 AND target = ?1)"
                                " ON CONFLICT DO UPDATE SET evidence = ?4, proved_s = ?5",
        [STATEMENT_PROOF_TRIM] = "DELETE FROM proof WHERE target = ?1 AND (keys, policy) NOT IN"
                                 " (SELECT keys, policy FROM proof WHERE target = ?1 ORDER BY proved_s DESC, keys, policy LIMIT ?2)",
        [STATEMENT_PROOF_LOAD] = "SELECT keys, policy, proof.evidence, proved_s FROM proof JOIN evidence ON evidence.id = proof.evidence AND evidence.target = proof.target"
                                 " WHERE proof.target = ?1 ORDER BY proved_s DESC",
        [STATEMENT_PROOF_DELETE] = "DELETE FROM proof WHERE (?1 IS NULL OR target = ?1) AND (?2 IS NULL OR keys = ?2) AND (?3 IS NULL OR policy = ?3)",
};

size_t digest_to_key(const struct digest *digest, uint8_t ret_key[DIGEST_KEY_BYTES])
{
        static const size_t sizes[] = { [DIGEST_NONE] = 0, [DIGEST_SHA256] = 1 + DIGEST_SHA256_BYTES, [DIGEST_SHA512] = 1 + DIGEST_BYTES_MAX };
        ret_key[0] = (uint8_t)digest->algorithm;
        memcpy(&ret_key[1], digest->bytes, DIGEST_BYTES_MAX);
        return sizes[digest->algorithm];
}

bool column_digest(sqlite3_stmt *row, int column, struct digest *ret_digest)
{
        const uint8_t *bytes = sqlite3_column_blob(row, column);
        size_t size = (size_t)sqlite3_column_bytes(row, column);
        *ret_digest = (struct digest){ 0 };
        if (size == 0)
                return true;
        if (!(bytes[0] == DIGEST_SHA256 && size == 1 + DIGEST_SHA256_BYTES) && !(bytes[0] == DIGEST_SHA512 && size == 1 + DIGEST_BYTES_MAX))
                return false;
        ret_digest->algorithm = (enum digest_algorithm)bytes[0];
        memcpy(ret_digest->bytes, &bytes[1], size - 1);
        return true;
}

const char *column_text(sqlite3_stmt *row, int column)
{
        const unsigned char *text = sqlite3_column_text(row, column);
        return text ? (const char *)text : "";
}

/* The next start looks the whole index through, whatever its size: what a process has seen damaged is not trusted again. */
static const char SUSPECT[] = "index.suspect";

static void index_suspect(struct store *store)
{
        CLEANUP(cleanup_close) int fd = openat(store->root_fd, SUSPECT, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
        struct error ignored = { 0 };

        if (fd >= 0)
                fs_sync_folder(store->root_fd, &ignored);
}

/* Under index_lock. */
static bool refuse_locked(struct store *store, sqlite3 *db, struct error *err, const char *doing)
{
        int extended = sqlite3_extended_errcode(db), number = sqlite3_system_errno(db);
        switch (extended & 0xff) {
        case SQLITE_FULL:
                return refuse(err, ERROR_STORE_FULL, "store %s: %s: no space left for the index", store->root, doing);
        case SQLITE_READONLY:
                return store_fail(store, err, EROFS, "%s", doing);
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                store->index.is_failed = store->index.is_corrupt = true;
                index_suspect(store);
                store_set_health(store, STORE_FAILING);
                return refuse(err, ERROR_INTERNAL, "store %s: %s: index.sqlite is damaged; a restart rebuilds it from the blobs", store->root, doing);
        case SQLITE_IOERR:
                if (number == ENOSPC || number == EDQUOT || number == EFBIG || number == EROFS)
                        return store_fail(store, err, number, "%s: index", doing);
                store->index.is_failed |= extended == SQLITE_IOERR_FSYNC || extended == SQLITE_IOERR_DIR_FSYNC;
                store_set_health(store, STORE_FAILING);
                return refuse(err, ERROR_INTERNAL, "store %s: %s: index.sqlite: %s (%d, %s)", store->root, doing, sqlite3_errmsg(db), extended, strerror(number));
        default:
                return refuse(err, ERROR_INTERNAL, "store %s: %s: index.sqlite: %s (%d)", store->root, doing, sqlite3_errmsg(db), extended);
        }
}

static bool connection_refuse(struct store *store, sqlite3 *db, struct error *err, const char *doing)
{
        index_lock(store);
        refuse_locked(store, db, err, doing);
        index_unlock(store);
        return false;
}

bool index_refuse(struct store *store, struct error *err, const char *doing)
{
        return connection_refuse(store, store->index.db, err, doing);
}

void index_lock(struct store *store)
{
        pthread_mutex_lock(&store->index.lock);
}

void index_unlock(struct store *store)
{
        pthread_mutex_unlock(&store->index.lock);
}

static sqlite3_stmt *statement_get(struct store *store, sqlite3 *db, sqlite3_stmt **slot, enum statement statement, struct error *err)
{
        if (!*slot && sqlite3_prepare_v3(db, texts[statement], -1, SQLITE_PREPARE_PERSISTENT, slot, NULL) != SQLITE_OK)
                connection_refuse(store, db, err, "cannot read the index");
        return *slot;
}

static sqlite3_stmt *index_get_statement(struct store *store, enum statement statement, struct error *err)
{
        return statement_get(store, store->index.db, &store->index.statements[statement], statement, err);
}

static void statement_bind(sqlite3_stmt *row, const char *format, va_list list)
{
        for (int column = 1; *format; column++, format++) {
                if (*format == 'i') {
                        sqlite3_bind_int64(row, column, va_arg(list, int64_t));
                } else if (*format == 't') {
                        sqlite3_bind_text(row, column, va_arg(list, const char *), -1, SQLITE_STATIC);
                } else if (*format == 'd') {
                        uint8_t key[DIGEST_KEY_BYTES];
                        const struct digest *digest = va_arg(list, const struct digest *);
                        size_t size = digest ? digest_to_key(digest, key) : 0;
                        sqlite3_bind_blob(row, column, digest ? key : NULL, (int)size, SQLITE_TRANSIENT);
                } else {
                        const void *bytes = va_arg(list, const void *);
                        sqlite3_bind_blob(row, column, bytes, (int)va_arg(list, size_t), SQLITE_STATIC);
                }
        }
}

sqlite3_stmt *index_start(struct store *store, enum statement statement, struct error *err, const char *format, ...)
{
        sqlite3_stmt *row = index_get_statement(store, statement, err);
        if (!row)
                return NULL;
        va_list list;
        va_start(list, format);
        statement_bind(row, format, list);
        va_end(list);
        return row;
}

int index_step(struct store *store, sqlite3_stmt *row, struct error *err)
{
        int code = sqlite3_step(row);
        if (code == SQLITE_ROW || code == SQLITE_DONE)
                return code == SQLITE_ROW;
        connection_refuse(store, sqlite3_db_handle(row), err, "cannot read the index");
        return -1;
}

void index_stop(sqlite3_stmt *row)
{
        sqlite3_reset(row);
        sqlite3_clear_bindings(row);
}

bool index_write(struct store *store, enum statement statement, struct error *err, const char *format, ...)
{
        sqlite3_stmt *row = index_get_statement(store, statement, err);
        if (!row)
                return false;
        va_list list;
        va_start(list, format);
        statement_bind(row, format, list);
        va_end(list);

        int code = sqlite3_step(row);
        bool is_good = code == SQLITE_DONE || code == SQLITE_ROW || index_refuse(store, err, "cannot write the index");
        index_stop(row);
        return is_good;
}

bool index_begin(struct store *store, struct error *err)
{
        index_lock(store);
        if (store->index.depth > 0) {
                store->index.depth++;
                return true;
        }

        bool may_write = store_refuse_read_only(store, err);
        if (may_write && store->index.is_failed)
                may_write = refuse(err, ERROR_INTERNAL, "store %s: the index failed before and is not written any more; check the disk, then restart the daemon", store->root);
        if (may_write && fault_hit("store.begin"))
                may_write = refuse(err, ERROR_STORE_FULL, "store %s: no space left for the index", store->root);
        if (may_write && index_write(store, STATEMENT_BEGIN, err, "")) {
                store->index.depth = 1;
                return true;
        }
        index_unlock(store);
        return false;
}

bool index_end(struct store *store, bool is_good, struct error *err)
{
        if (--store->index.depth > 0) {
                index_unlock(store);
                return is_good;
        }

        if (is_good && fault_hit("store.commit"))
                is_good = refuse(err, ERROR_STORE_FULL, "store %s: no space left for the index", store->root);
        if (is_good)
                is_good = index_write(store, STATEMENT_COMMIT, err, "");
        if (!is_good && !sqlite3_get_autocommit(store->index.db)) {
                struct error ignored = { 0 };
                index_write(store, STATEMENT_ROLLBACK, &ignored, "");
        }
        if (is_good)
                store_set_health(store, STORE_HEALTHY);
        index_unlock(store);
        return is_good;
}

bool index_meta_get(struct store *store, const char *name, int64_t *ret_value, struct error *err)
{
        sqlite3_stmt *row = index_start(store, STATEMENT_META_GET, err, "t", name);
        if (!row)
                return false;
        int more = index_step(store, row, err);
        if (more >= 0)
                *ret_value = more ? sqlite3_column_int64(row, 0) : 0;
        index_stop(row);
        return more >= 0;
}

bool index_meta_put(struct store *store, const char *name, int64_t value, struct error *err)
{
        return index_write(store, STATEMENT_META_PUT, err, "ti", name, value);
}

static void connection_close(struct store *store)
{
        for (size_t i = 0; i < STATEMENTS; i++) {
                sqlite3_finalize(store->index.statements[i]);
                store->index.statements[i] = NULL;
        }
        sqlite3_close_v2(TAKE(store->index.db));
}

static enum index_state connection_pragmas(struct store *store, struct error *err)
{
        static const char common[] = "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;";
        static const char writable[] = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 4194304;";
        sqlite3 *db = store->index.db;
        sqlite3_busy_timeout(db, 5000);           /* an operator's sqlite3 shell may look in */
        sqlite3_extended_result_codes(db, 1);
        sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        if (sqlite3_exec(db, common, NULL, NULL, NULL) == SQLITE_OK && (store->is_read_only || sqlite3_exec(db, writable, NULL, NULL, NULL) == SQLITE_OK))
                return INDEX_GOOD;
        int code = sqlite3_errcode(db) & 0xff;
        index_refuse(store, err, "cannot open the index");
        return code == SQLITE_CORRUPT || code == SQLITE_NOTADB ? INDEX_CORRUPT : INDEX_REFUSED;
}

static enum index_state connection_check(struct store *store, bool is_suspect, struct error *err)
{
        sqlite3_stmt *row = NULL;
        const char *check = is_suspect ? "PRAGMA integrity_check(1)" : "PRAGMA quick_check(1)";
        bool is_good = sqlite3_prepare_v2(store->index.db, check, -1, &row, NULL) == SQLITE_OK && sqlite3_step(row) == SQLITE_ROW &&
                       string_equal(column_text(row, 0), "ok");
        sqlite3_finalize(row);
        if (is_good && is_suspect && !store->is_read_only)
                unlinkat(store->root_fd, SUSPECT, 0);
        if (is_good)
                return INDEX_GOOD;
        refuse(err, ERROR_INTERNAL, "store %s: index.sqlite is damaged", store->root);
        return INDEX_CORRUPT;
}

int64_t index_get_boot(void)
{
        CLEANUP(buffer_fini) struct buffer id = { 0 };
        struct error ignored = { 0 };
        struct digest digest;
        int64_t number = 0;
        if (!fs_load(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &id, &ignored))
                return 0;
        digest_sha256(id.data, id.used, &digest);
        memcpy(&number, digest.bytes, sizeof number);
        return number;
}

/* Looking through a small index costs nothing. A big one is trusted when it was closed in order, or when only we died and not the machine: the log is made for that. */
static bool index_is_small(const struct store *store)
{
        struct stat info;
        return !fault_hit("store.large") && fstatat(store->root_fd, "index.sqlite", &info, 0) == 0 && info.st_size <= SMALL_BYTES;
}

bool store_is_large(const struct store *store)
{
        return !index_is_small(store);
}

/* The index names private repositories and holds this node's key: nobody else may read it. SQLite gives its log and shared memory the same mode. */
static void index_file_protect(struct store *store)
{
        CLEANUP(cleanup_close) int fd = openat(store->root_fd, "index.sqlite", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

        if (fd >= 0)
                (void)fchmod(fd, 0600);
}

/* The path goes through the configured root; `immutable` is for a read-only file system, where SQLite cannot make its shared memory. */
static int file_open(const struct store *store, int flags, sqlite3 **ret_db)
{
        bool is_immutable = store->index.is_immutable;
        CLEANUP(cleanup_free) char *path = string_format("%s/index.sqlite", store->root);
        char *uri = sqlite3_mprintf("file:///proc/self/fd/%d/index.sqlite?immutable=1", store->root_fd);
        int code = sqlite3_open_v2(is_immutable ? uri : path, ret_db, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | (is_immutable ? SQLITE_OPEN_URI : 0), NULL);
        sqlite3_free(uri);
        return code;
}

static enum index_state connection_open(struct store *store, bool is_immutable, struct index_found *ret_found, struct error *err)
{
        store->index.is_failed = store->index.is_corrupt = false;
        store->index.is_immutable = is_immutable;
        if (!store->is_read_only)
                index_file_protect(store);
        int code = file_open(store, store->is_read_only ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, &store->index.db);
        if (code != SQLITE_OK) {
                index_refuse(store, err, "cannot open the index");
                return (code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB ? INDEX_CORRUPT : INDEX_REFUSED;
        }

        bool is_new = false;
        enum index_state state = connection_pragmas(store, err);
        if (state == INDEX_GOOD)
                state = schema_prepare(store, &is_new, err);
        int64_t clean = 0, boot = 0;
        if (state == INDEX_GOOD && !(index_meta_get(store, "clean", &clean, err) && index_meta_get(store, "boot", &boot, err)))
                state = store->index.is_corrupt ? INDEX_CORRUPT : INDEX_REFUSED;
        bool is_suspect = faccessat(store->root_fd, SUSPECT, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
        if (state == INDEX_GOOD && !is_new && (is_suspect || index_is_small(store) || (!clean && boot != index_get_boot())))
                state = connection_check(store, is_suspect, err);
        ret_found->was_clean = clean != 0;
        ret_found->is_rebuilt |= is_new;
        return state;
}

/* Kept for a look, never read again; only the two newest, as damage may come again at every start. */
static bool index_move_aside(struct store *store, struct error *err)
{
        static const char *const suffixes[] = { "", "-wal", "-shm" };
        int64_t now_ms = clock_get_wall_ms();
        for (size_t i = 0; i < COUNT_OF(suffixes); i++) {
                CLEANUP(cleanup_free) char *from = string_format("index.sqlite%s", suffixes[i]);
                CLEANUP(cleanup_free) char *to = string_format("index.sqlite.corrupt-%lld.%03d%s", (long long)(now_ms / 1000), (int)(now_ms % 1000), suffixes[i]);
                if (renameat(store->root_fd, from, store->root_fd, to) != 0 && errno != ENOENT)
                        return store_fail(store, err, errno, "cannot move the damaged index aside");
        }
        unlinkat(store->root_fd, SUSPECT, 0);
        atomic_store(&store->health, STORE_HEALTHY);
        return fs_sync_folder(store->root_fd, err);
}

bool index_discard(struct store *store, struct error *err)
{
        connection_close(store);
        return index_move_aside(store, err);
}

/* A new index has a new key: what was proven under the old one is proven again. */
static bool index_load_key(struct store *store, struct error *err)
{
        sqlite3_stmt *row = index_start(store, STATEMENT_META_GET, err, "t", "key");
        if (!row)
                return false;
        int more = index_step(store, row, err);
        bool is_there = more == 1 && sqlite3_column_bytes(row, 0) == STORE_KEY_BYTES;
        if (is_there)
                memcpy(store->key, sqlite3_column_blob(row, 0), STORE_KEY_BYTES);
        index_stop(row);
        if (more < 0 || is_there)
                return more >= 0;

        random_bytes(store->key, STORE_KEY_BYTES);
        if (store->is_read_only)
                return true;
        if (!index_begin(store, err))
                return false;
        return index_end(store, index_write(store, STATEMENT_META_PUT, err, "tb", "key", store->key, (size_t)STORE_KEY_BYTES), err);
}

bool index_open(struct store *store, struct index_found *ret_found, struct error *err)
{
        struct index_found found = { 0 };
        enum index_state state = connection_open(store, false, &found, err);
        if (state == INDEX_REFUSED && err->code == ERROR_STORE_FULL && reserve_release(store)) {
                connection_close(store);
                state = connection_open(store, false, &found, err);
        }
        if (state == INDEX_REFUSED && !store->is_read_only && err->code == ERROR_STORE_FULL) {
                connection_close(store);          /* a full disk must not keep us from handing out what is there */
                store->is_read_only = true;
                store_set_health(store, STORE_READ_ONLY);
                state = connection_open(store, false, &found, err);
        }
        if (state != INDEX_GOOD && store->is_read_only) {
                connection_close(store);
                state = connection_open(store, true, &found, err);
        }
        if (state == INDEX_CORRUPT && !store->is_read_only) {
                if (!index_discard(store, err))
                        return false;
                state = connection_open(store, false, &found, err);
        }
        if (state != INDEX_GOOD || !index_load_key(store, err))
                return false;
        *ret_found = found;
        return true;
}

void index_close(struct store *store)
{
        if (!store->index.db)
                return;
        struct error ignored = { 0 };             /* an unmarked end only costs the next start a sweep */
        if (!store->is_read_only && !store->index.is_failed && index_begin(store, &ignored)) {
                bool is_good = index_meta_put(store, "alive_s", clock_get_wall_s(), &ignored) && index_meta_put(store, "clean",
                               !atomic_load(&store->has_leftovers) && !atomic_load(&store->is_unsettled), &ignored);
                index_end(store, is_good, &ignored);
        }
        connection_close(store);
}

/* ---- readers ---- */

bool store_reader_open(struct store *store, struct store_reader **ret_reader, struct error *err)
{
        /* Each page is read once, or by one key: few are kept. */
        static const char pragmas[] = "PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON; PRAGMA cache_size = -128; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON;";
        CLEANUP(store_reader_close) struct store_reader *reader = memory_new(1, sizeof *reader);
        reader->store = store;
        if (file_open(store, SQLITE_OPEN_READONLY, &reader->db) != SQLITE_OK || sqlite3_busy_timeout(reader->db, 5000) != SQLITE_OK ||
            sqlite3_exec(reader->db, pragmas, NULL, NULL, NULL) != SQLITE_OK)
                return connection_refuse(store, reader->db, err, "cannot open the index to read");
        *ret_reader = TAKE(reader);
        return true;
}

void store_reader_close(struct store_reader **reader_pointer)
{
        struct store_reader *reader = TAKE(*reader_pointer);
        if (!reader)
                return;
        for (size_t i = 0; i < STATEMENTS; i++)
                sqlite3_finalize(reader->statements[i]);
        sqlite3_close_v2(reader->db);
        free(reader);
}

sqlite3_stmt *reader_start(struct store_reader *reader, enum statement statement, struct error *err, const char *format, ...)
{
        sqlite3_stmt *row = statement_get(reader->store, reader->db, &reader->statements[statement], statement, err);
        if (!row)
                return NULL;
        va_list list;
        va_start(list, format);
        statement_bind(row, format, list);
        va_end(list);
        return row;
}
