/*
 * How it goes: one statement per kind of row, each row handed to the visitor in a struct whose texts SQLite owns until the next row.
 * How it fails: a digest in a row that is none (damage that no checksum saw) skips that row: the answer is one more pull, never a wrong grant.
 * How it ends: statements are reset; the visitor kept copies of what it needs.
 */
#include <stdio.h>
#include "inside.h"

static void load_module(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_module module;
        row_read_module(row, &module);
        if (module.sha256.algorithm == DIGEST_SHA256)
                visitor->module(visitor->arg, &module);
}

static void load_image(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_image image = { .media_type = column_text(row, 4), .layer_type = column_text(row, 5), .document = column_text(row, 6) };
        if (column_digest(row, 0, &image.manifest) && column_digest(row, 1, &image.top) && column_digest(row, 2, &image.module) && column_digest(row, 3, &image.layer))
                visitor->image(visitor->arg, &image);
}

static void load_reference(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_reference reference = { .name = column_text(row, 0), .etag = column_text(row, 4), .checked_s = sqlite3_column_int64(row, 5) };
        if (column_digest(row, 1, &reference.top) && column_digest(row, 2, &reference.manifest) && column_digest(row, 3, &reference.module))
                visitor->reference(visitor->arg, &reference);
}

static void load_grant(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_grant grant = {
                .repository = column_text(row, 1), .kind = column_text(row, 2), .namespace = column_text(row, 3), .secret = column_text(row, 4),
                .granted_s = sqlite3_column_int64(row, 6), .last_ok_s = sqlite3_column_int64(row, 7),
        };
        if (column_digest(row, 0, &grant.manifest) && column_digest(row, 5, &grant.credential_mac))
                visitor->grant(visitor->arg, &grant);
}

static void load_resource(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_resource resource = { .namespace = column_text(row, 0), .name = column_text(row, 1), .version = column_text(row, 2), .reference = column_text(row, 3) };
        if (column_digest(row, 4, &resource.module) && column_digest(row, 5, &resource.manifest))
                visitor->resource(visitor->arg, &resource);
}

static void load_lease(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_lease lease = { .expires_s = sqlite3_column_int64(row, 3), .holder = column_text(row, 4) };
        snprintf(lease.id, sizeof lease.id, "%s", column_text(row, 0));
        snprintf(lease.namespace, sizeof lease.namespace, "%s", column_text(row, 1));
        if (column_digest(row, 2, &lease.module))
                visitor->lease(visitor->arg, &lease);
}

struct kind { bool is_wanted; enum statement statement; void (*load)(sqlite3_stmt *row, const struct store_visitor *visitor); };

static bool load_rows(struct store *store, const struct kind *kind, const struct store_visitor *visitor, struct error *err)
{
        sqlite3_stmt *row = index_start(store, kind->statement, err, "");
        if (!row)
                return false;
        int more;
        while ((more = index_step(store, row, err)) == 1)
                kind->load(row, visitor);
        index_stop(row);
        return more == 0;
}

/* Each page is read once, so few are kept: thousands of them between what the visitor allocates would stay as holes in the heap. */
static void cache_resize(struct store *store, const char *pragma)
{
        sqlite3_db_release_memory(store->index.db);
        sqlite3_exec(store->index.db, pragma, NULL, NULL, NULL);
}

bool store_load_all(struct store *store, const struct store_visitor *visitor, struct error *err)
{
        const struct kind kinds[] = {
                { visitor->module, STATEMENT_LOAD_MODULES, load_module },
                { visitor->image, visitor->without_documents ? STATEMENT_LOAD_IMAGES_BARE : STATEMENT_LOAD_IMAGES, load_image },
                { visitor->reference, STATEMENT_LOAD_REFERENCES, load_reference },
                { visitor->grant, STATEMENT_LOAD_GRANTS, load_grant },
                { visitor->resource, STATEMENT_LOAD_RESOURCES, load_resource },
                { visitor->lease, STATEMENT_LOAD_LEASES, load_lease },
        };
        bool is_good = true;
        index_lock(store);
        cache_resize(store, "PRAGMA cache_size = -128");
        for (size_t i = 0; is_good && i < COUNT_OF(kinds); i++)
                if (kinds[i].is_wanted)
                        is_good = load_rows(store, &kinds[i], visitor, err);
        cache_resize(store, "PRAGMA cache_size = -2048");
        index_unlock(store);
        return is_good;
}

bool store_load_document(struct store *store, const struct digest *manifest, struct buffer *ret_document, struct error *err)
{
        index_lock(store);
        sqlite3_stmt *row = index_start(store, STATEMENT_DOCUMENT_GET, err, "d", manifest);
        int more = row ? index_step(store, row, err) : -1;
        bool is_good = more == 1;
        if (more == 0)
                refuse(err, ERROR_NOT_FOUND, "the store has no such manifest");
        else if (more == 1 && !buffer_append(ret_document, column_text(row, 0), (size_t)sqlite3_column_bytes(row, 0)))
                is_good = refuse(err, ERROR_TOO_LARGE, "the manifest is larger than the room for it");
        if (row)
                index_stop(row);
        index_unlock(store);
        return is_good;
}
