/* store, inside: what the files of this room share. Locks are taken in this order: the name of one module (names_lock), then the index (index_begin). */
#pragma once
#include <dirent.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <sys/types.h>
#include <wasmcached/store.h>

enum { STORE_STRIPES = 64, STORE_SCHEMA = 4, DIGEST_KEY_BYTES = 1 + DIGEST_BYTES_MAX, GRANTS_PER_REPOSITORY_MAX = 100 };
enum { BLOB_NAME_BYTES = 3 + 64 + 1, HANDOUT_NAME_BYTES = STORE_NAMESPACE_BYTES + 64 + 6 };

/* One line per statement, in index.c. */
enum statement {
        STATEMENT_BEGIN, STATEMENT_COMMIT, STATEMENT_ROLLBACK, STATEMENT_META_GET, STATEMENT_META_PUT,
        STATEMENT_MODULE_PUT, STATEMENT_MODULE_ADOPT, STATEMENT_MODULE_AGAIN, STATEMENT_MODULE_GET, STATEMENT_MODULE_IDENTITY, STATEMENT_MODULE_FOLLOW,
        STATEMENT_MODULE_USED, STATEMENT_MODULE_PIN, STATEMENT_MODULE_DEVICE, STATEMENT_MODULE_DELETE,
        STATEMENT_IMAGE_PUT, STATEMENT_IMAGE_MODULE, STATEMENT_IMAGE_OF, STATEMENT_IMAGE_ONLY,
        STATEMENT_DOCUMENT_PUT, STATEMENT_DOCUMENT_GET, STATEMENT_REFERENCE_PUT, STATEMENT_RESOURCE_PUT,
        STATEMENT_GRANT_PUT, STATEMENT_GRANT_TRIM, STATEMENT_GRANT_DELETE, STATEMENT_GRANT_DELETE_ALL, STATEMENT_GRANT_DELETE_OF,
        STATEMENT_LEASE_PUT, STATEMENT_LEASE_DELETE, STATEMENT_LEASE_DELETE_ENDED, STATEMENT_LEASE_SHIFT,
        STATEMENT_LOAD_MODULES, STATEMENT_LOAD_IMAGES, STATEMENT_LOAD_IMAGES_BARE, STATEMENT_LOAD_REFERENCES, STATEMENT_LOAD_GRANTS,
        STATEMENT_LOAD_RESOURCES, STATEMENT_LOAD_LEASES,
        STATEMENT_FIND_MODULES, STATEMENT_FIND_IMAGES, STATEMENT_FIND_REFERENCES, STATEMENT_FIND_GRANTS, STATEMENT_FIND_RESOURCES, STATEMENT_FIND_LEASES,
        STATEMENT_BEGIN_READ, STATEMENT_EVIDENCE_OWNER, STATEMENT_EVIDENCE_PUT, STATEMENT_EVIDENCE_TRIM, STATEMENT_EVIDENCE_LOAD, STATEMENT_EVIDENCE_DELETE,
        STATEMENT_EVIDENCE_DELETE_OF, STATEMENT_PROOF_PUT, STATEMENT_PROOF_TRIM, STATEMENT_PROOF_LOAD, STATEMENT_PROOF_DELETE,
        STATEMENTS
};

struct index {
        pthread_mutex_t lock;                     /* recursive: a step of recovery may use what others call alone */
        sqlite3 *db;
        sqlite3_stmt *statements[STATEMENTS];
        unsigned depth;                           /* of index_begin */
        bool is_immutable;                        /* how it was opened: on a read-only file system */
        bool is_corrupt;                          /* SQLite said so since the open */
        bool is_failed;                           /* an fsync of the log failed, or the file is damaged: nothing is written any more until the next start */
};

struct store {
        char *root;
        int root_fd, lock_fd, blobs_fd, modules_fd, tmp_fd, quarantine_fd;
        bool is_read_only;                        /* since the open */
        atomic_int health;                        /* enum store_health */
        atomic_bool is_unsettled;                 /* blobs are not looked at yet after an unclean end: store_settle() */
        atomic_bool has_leftovers;                /* something was not taken back: the next start sweeps, as after a crash */
        uint8_t key[STORE_KEY_BYTES];
        struct secret *seal_key;
        pthread_mutex_t names[STORE_STRIPES];
        struct index index;
};

/* trouble.c: errno → words, code and health. Always false. */
bool store_fail(struct store *store, struct error *err, int number, const char *format, ...) __attribute__((format(printf, 4, 5)));
void store_set_health(struct store *store, enum store_health health);
bool store_refuse_read_only(struct store *store, struct error *err);      /* true = may write */

/* root.c */
bool root_open(struct store *store, const char *path, struct error *err);
void root_close(struct store *store);

/* secret.c: never fails; what cannot be read is made anew. */
void secret_open(struct store *store);

/* reserve.c: room for the index on a full disk. */
void reserve_make(struct store *store);
bool reserve_release(struct store *store);                                /* false: there was none */

/* index.c: one connection, one lock, statements prepared when first used. */
enum index_state { INDEX_GOOD, INDEX_CORRUPT, INDEX_REFUSED };
struct index_found { bool was_clean, is_rebuilt; };
bool index_open(struct store *store, struct index_found *ret_found, struct error *err);
void index_close(struct store *store);
bool index_discard(struct store *store, struct error *err);               /* closes a damaged index and moves it aside */
int64_t index_get_boot(void);                                             /* a number of this boot of the machine */
bool index_begin(struct store *store, struct error *err);                 /* nested calls join the outer transaction */
bool index_end(struct store *store, bool is_good, struct error *err);     /* returns is_good, unless the commit failed; rolls back when not good */
/* Runs a statement that returns no rows. Format: d digest * (NULL = null), t text, i int64_t, b const void * and size_t. Under index_begin. */
bool index_write(struct store *store, enum statement statement, struct error *err, const char *format, ...);
/* Runs one that returns rows: reads call index_step until it is not 1 (0 = no more, -1 = err) and always index_stop. Under index_lock or index_begin. */
sqlite3_stmt *index_start(struct store *store, enum statement statement, struct error *err, const char *format, ...);
int index_step(struct store *store, sqlite3_stmt *row, struct error *err);
void index_stop(sqlite3_stmt *row);
/* The same on a connection of a reader, which no lock is for. */
struct store_reader { struct store *store; sqlite3 *db; sqlite3_stmt *statements[STATEMENTS]; };
sqlite3_stmt *reader_start(struct store_reader *reader, enum statement statement, struct error *err, const char *format, ...);
void index_lock(struct store *store);
void index_unlock(struct store *store);
bool index_refuse(struct store *store, struct error *err, const char *doing);
bool index_meta_get(struct store *store, const char *name, int64_t *ret_value, struct error *err);     /* 0 when absent */
bool index_meta_put(struct store *store, const char *name, int64_t value, struct error *err);
size_t digest_to_key(const struct digest *digest, uint8_t ret_key[DIGEST_KEY_BYTES]);
bool column_digest(sqlite3_stmt *row, int column, struct digest *ret_digest);          /* false: no digest that we know; an empty one is unset and true */
const char *column_text(sqlite3_stmt *row, int column);                                /* never NULL */

/* schema.c */
enum index_state schema_prepare(struct store *store, bool *ret_is_new, struct error *err);

/* blob.c: files below blobs/ and what they look like. */
void blob_format_name(const struct digest *module, char ret_name[BLOB_NAME_BYTES]);    /* "ab/ab…" */
bool identity_get(int dirfd, const char *name, struct store_identity *ret_identity);   /* no symlink followed; false with errno (EINVAL: no regular file) */
bool identity_equal(const struct store_identity *a, const struct store_identity *b);
bool identity_same_bytes(const struct store_identity *a, const struct store_identity *b);              /* all but ctime, which link(2) changes */
void names_lock(struct store *store, const struct digest *module);
void names_unlock(struct store *store, const struct digest *module);
struct blob_pace { uint64_t rate_bytes; struct cancel *cancel; };
/* A file and what it should be; filled in: its identity if good, in words what is wrong if bad. Unknown = it could not be looked at (no descriptor left, cancelled): err says why,
   and nothing may be concluded. */
enum blob_verdict { BLOB_GOOD, BLOB_BAD, BLOB_UNKNOWN };
struct blob_exam { int dirfd; const char *name; const struct digest *module; const struct blob_pace *pace; struct store_identity identity; const char *why; };
enum blob_verdict blob_examine(struct store *store, struct blob_exam *exam, struct error *err);
/* Bytes that were written by somebody unknown become ours: 0444 and, if `is_synced`, durable. ret_identity is of after. */
bool blob_adopt(struct store *store, const struct blob_exam *exam, bool is_synced, struct store_identity *ret_identity, struct error *err);
bool blob_quarantine(struct store *store, int dirfd, const char *name, struct error *err);
/* Wrong bytes, or none: the blob goes to quarantine, its links and rows go. Always false; ERROR_CHECKSUM_MISMATCH when all of it is done. Under names_lock. */
bool blob_condemn(struct store *store, const struct digest *module, const char *why, struct error *err);
/* The blob's identity is the row's, or its bytes were hashed again and are right (the row is then corrected); else it is quarantined, the row is gone and err says so.
   Under names_lock. */
bool blob_settle(struct store *store, const struct digest *module, struct store_identity *ret_identity, struct error *err);

/* rows.c */
bool row_get_module(struct store *store, const struct digest *module, struct store_module *ret_row, bool *ret_is_there, struct error *err);
bool row_save_identity(struct store *store, const struct digest *module, const struct store_identity *identity, struct error *err);
bool row_save_lease(struct store *store, const struct store_lease *lease, struct error *err);             /* under index_begin */
bool row_delete_module(struct store *store, const struct digest *module, struct error *err);            /* and all that points at it */
void row_read_module(sqlite3_stmt *row, struct store_module *ret_module);
/* Columns as LOAD_IMAGES has them; false: a digest is none. */
bool row_read_image(sqlite3_stmt *row, struct store_image *ret_image);

/* handout.c: modules/<namespace>/<hex>.wasm. */
bool handout_format_name(const char *namespace, const struct digest *module, char ret_name[HANDOUT_NAME_BYTES]);       /* false: no DNS label */
bool handout_place(struct store *store, const char *namespace, const struct digest *module, struct error *err);       /* whatever was there is replaced */
/* Every namespace that has a link: to the blob that is there now, or away when there is none. */
bool handout_refresh(struct store *store, const struct digest *module, struct error *err);

/* writer.c, for commit.c */
bool writer_publish(struct blob_writer *writer, const char *name, bool *ret_exists, struct error *err);    /* fsync, then link below blobs/ */
bool writer_is_scratch(const struct blob_writer *writer);

/* recover.c */
DIR *folder_list(struct store *store, int dirfd, const char *name, struct error *err); /* NULL without err: there is none */
void folder_close(DIR **folder);
bool name_is_dots(const char *name);
bool store_recover(struct store *store, const struct index_found *found, struct store_report *ret_report, struct error *err);
/* links.c */
bool links_rebuild(struct store *store, struct store_report *report, struct error *err);
