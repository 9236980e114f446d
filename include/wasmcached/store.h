/*
 * store: blobs by digest, the folders of hard links that callers see, and the SQLite index that survives a crash. Worker, thread-safe, unless said otherwise.
 *
 *   <root>/lock  secret (0600)  index.sqlite(-wal,-shm)  blobs/<2 hex>/<64 hex> (0700)  modules/<namespace>/<64 hex>.wasm (0755)  quarantine/  tmp/  reserve
 * A blob is visible under its name only complete, hashed and durable. A file without a row is adopted or removed at the next start; a row without a file is impossible.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/store/evidence.h>
#include <wasmcached/store/load.h>

enum { STORE_NAMESPACE_BYTES = 64, STORE_LEASE_ID_BYTES = 33, STORE_KEY_BYTES = 32 };

/* What a blob's file looked like when we last touched it ourselves; a difference means that somebody else did. */
struct store_identity { uint64_t device, inode, size_bytes; int64_t mtime_ns, ctime_ns; };

/* Rows. Texts are borrowed for the call (in visits: by the visitor). */
struct store_module { struct digest sha256; struct store_identity identity; int64_t created_s, last_used_s; bool is_pinned; };
struct store_image {                      /* a manifest that we proved: which module it means */
        struct digest manifest;           /* of the image manifest chosen */
        struct digest top;                /* of what the tag names; equals `manifest` unless an index */
        struct digest module, layer;
        const char *media_type, *layer_type;
        const char *document;             /* manifest JSON, for inspect and later evidence */
        struct digest seal;               /* what the committer says with store_get_seal_key() of these digests, for itself; saved unset = as it was, set = the
                                             manifest leads to this module alone: rows of others go */
};
struct store_reference {                  /* what a name meant when last asked: "oci://host/path:tag" → manifest, "https://…" and "file://…" → module */
        const char *name;
        struct digest top, manifest, module;                               /* top and manifest unset for http and file */
        const char *etag;                 /* validators of http(s) sources, "" if none: ETag and Last-Modified joined by '\n' */
        int64_t checked_s;
};
struct store_grant {                      /* [oci] 3.10 */
        struct digest manifest;           /* for http(s) and file: the module */
        const char *repository;           /* "host/path", or the URL */
        const char *kind;                 /* "anonymous", "node", "secret", "inline", "import" */
        const char *namespace, *secret;   /* of kind secret; else "" */
        struct digest credential_mac;     /* keyed; all zero for anonymous and import */
        int64_t granted_s, last_ok_s;
};
struct store_resource { const char *namespace, *name, *version, *reference; struct digest module, manifest; };
struct store_lease { char id[STORE_LEASE_ID_BYTES]; char namespace[STORE_NAMESPACE_BYTES]; struct digest module; int64_t expires_s; const char *holder; };

struct store_options { const char *root; bool settles_later; };           /* settles_later: the caller calls store_settle() */
enum store_health { STORE_HEALTHY, STORE_READ_ONLY, STORE_FAILING };
struct store_report { size_t adopted, removed, quarantined, dropped_rows; bool index_rebuilt; };

struct store;
/* Opens or makes the store and repairs what a crash left (tmp swept, orphans adopted or removed, rows without file dropped, links rebuilt from leases, a corrupt index moved
   aside and rebuilt by hashing, without grants); a large one that settles later leaves its blobs to store_settle(). ERROR_BUSY: another daemon holds it (pid named). A newer
   schema is refused by number. A read-only file system opens read-only. */
bool store_open(const struct store_options *options, struct store **ret_store, struct store_report *ret_report, struct error *err);
void store_close(struct store **store);
const void *store_get_key(const struct store *store);                      /* STORE_KEY_BYTES random bytes of this node, for MACs; any thread, memory */
const struct secret *store_get_seal_key(const struct store *store);        /* the same, but not in the index: for what its writers must not be able to say; never NULL */
enum store_health store_get_health(const struct store *store);             /* any thread, memory */

/* A file that is being written: unnamed (O_TMPFILE), hashed by a second thread on the way. scratch = never to be committed, so nothing is flushed early;
   has_bursts = it comes from a socket, not out of a box: more of it is queued. */
struct blob_writer;
/* sha256 is always computed; algorithm adds sha512. */
struct blob_writer_options { uint64_t size_limit, size_hint; enum digest_algorithm algorithm; bool scratch, has_bursts; const char *what; };
bool blob_writer_open(struct store *store, const struct blob_writer_options *options, struct blob_writer **ret_writer, struct error *err);
struct sink *blob_writer_get_sink(struct blob_writer *writer);
/* Ends writing. ret_digest (of options.algorithm) and ret_sha256 may be NULL. */
bool blob_writer_finish(struct blob_writer *writer, struct digest *ret_digest, struct digest *ret_sha256, uint64_t *ret_size, struct error *err);
int blob_writer_get_fd(const struct blob_writer *writer);                  /* for pread after the finish; owned by the writer */
void blob_writer_free(struct blob_writer **writer);                        /* what was not committed is gone */

/* The commit: fsync, link at the digest's name (a good file there = success, a bad one is quarantined), fsync folder, then all rows in one transaction.
   `writer` may be NULL when the module is there already. image, reference, grant, resource may be NULL; a module that they leave unset is the commit's.
   With `lease` a new file is handed out in the same step: the link in its namespace before the rows, its row among them; *ret_is_linked says whether it was.
   A namespace that cannot be linked to is no failure of the commit.
   ret_module may be NULL; when it is not, created_s grows with every commit (it is the name of this state for store_remove_module), so keep what comes back.
   ERROR_BUSY: the module of rows alone was let go meanwhile. ERROR_STORE_FULL on ENOSPC/EDQUOT. */
struct store_commit {
        struct blob_writer *writer; const struct store_image *image; const struct store_reference *reference;
        const struct store_grant *grant; const struct store_resource *resource;
        const struct store_lease *lease; bool *ret_is_linked;     /* both or neither */
};
bool store_commit(struct store *store, const struct store_commit *commit, struct store_module *ret_module, struct error *err);

/* Rows alone. */
bool store_save_pin(struct store *store, const struct digest *module, bool is_pinned, struct error *err);
bool store_remove_grants(struct store *store, const struct digest *manifest, const char *repository, const char *kind, const char *namespace, const char *secret,
        struct error *err);               /* NULL = any */
/* One transaction for many: leases new or renewed, leases gone (by id), modules' last use. */
struct store_touch {
        const struct store_lease *leases; size_t lease_count; const char (*ended)[STORE_LEASE_ID_BYTES]; size_t ended_count;
        const struct store_module *used; size_t used_count;
};
bool store_save_touch(struct store *store, const struct store_touch *touch, struct error *err);

/* Hand-out: makes (removes) <root>/modules/<namespace>/<hex>.wasm; ret_identity is the blob's as it is now (link(2) changes ctime: of several
   results for one module the one with the latest ctime_ns holds). A blob that is not as its row says is hashed first: ERROR_CHECKSUM_MISMATCH as in store_verify.
   Present or absent already = success. */
bool store_link(struct store *store, const struct digest *module, const char *namespace, struct store_identity *ret_identity, struct error *err);
bool store_unlink(struct store *store, const struct digest *module, const char *namespace, struct store_identity *ret_identity, struct error *err);
/* Let go: the row and all that points at it (if it was not committed again since `created_s`), then the links and the file. ERROR_BUSY = it was committed again and stays. */
bool store_remove_module(struct store *store, const struct digest *module, int64_t created_s, struct error *err);
/* Re-hashes a blob at `rate` bytes per second (0 = as fast as it goes). false + ERROR_CHECKSUM_MISMATCH: it was moved to quarantine and its row is gone. */
bool store_verify(struct store *store, const struct digest *module, uint64_t rate_bytes, struct cancel *cancel, struct store_identity *ret_identity, struct error *err);

/* Loop or worker: one statx of the hand-out (namespace) or the blob (NULL). False = absent or not the same. */
bool store_check_identity(const struct store *store, const struct digest *module, const char *namespace, const struct store_identity *identity);
int store_open_blob(struct store *store, const struct digest *module, struct error *err);         /* read-only fd, caller closes; -1 */
void store_format_path(const struct store *store, const struct digest *module, char *ret_path, size_t size_bytes);    /* of the blob itself; any thread */
