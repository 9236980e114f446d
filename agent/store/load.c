/*
 * How it goes: one statement per kind of row, each row handed to the visitor in a struct whose texts SQLite owns until the next row. On a connection of its own, so that nobody
 *              who writes meanwhile waits: all rows of one state of the index, or all of the modules that one request may mean.
 * How it fails: a digest in a row that is none (damage that no checksum saw) skips that row: the answer is one more pull, never a wrong grant.
 * How it ends: statements are reset; the visitor kept copies of what it needs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "inside.h"

enum { FOUND_MAX = 64 };                          /* modules that one request may mean; one or two but for a wide index */

static void load_module(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_module module;
        row_read_module(row, &module);
        if (module.sha256.algorithm == DIGEST_SHA256)
                visitor->module(visitor->arg, &module);
}

static void load_image(sqlite3_stmt *row, const struct store_visitor *visitor)
{
        struct store_image image;
        if (row_read_image(row, &image))
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

/* In this order: what a row points at has been read before it. */
struct kind { bool is_wanted; enum statement all, found; void (*load)(sqlite3_stmt *row, const struct store_visitor *visitor); };
enum { KINDS = 6 };

static void kinds_list(const struct store_visitor *visitor, struct kind ret_kinds[KINDS])
{
        const struct kind kinds[KINDS] = {
                { visitor->module, STATEMENT_LOAD_MODULES, STATEMENT_MODULE_GET, load_module },
                { visitor->image, visitor->without_documents ? STATEMENT_LOAD_IMAGES_BARE : STATEMENT_LOAD_IMAGES, STATEMENT_FIND_IMAGES, load_image },
                { visitor->reference, STATEMENT_LOAD_REFERENCES, STATEMENT_FIND_REFERENCES, load_reference },
                { visitor->grant, STATEMENT_LOAD_GRANTS, STATEMENT_FIND_GRANTS, load_grant },
                { visitor->resource, STATEMENT_LOAD_RESOURCES, STATEMENT_FIND_RESOURCES, load_resource },
                { visitor->lease, STATEMENT_LOAD_LEASES, STATEMENT_FIND_LEASES, load_lease },
        };
        memcpy(ret_kinds, kinds, sizeof kinds);
}

/* Ends the statement. */
static bool rows_take(struct store *store, sqlite3_stmt *row, const struct kind *kind, const struct store_visitor *visitor, struct error *err)
{
        int more;
        while ((more = index_step(store, row, err)) == 1) {
                if (cancel_is_triggered(visitor->cancel)) {
                        refuse(err, ERROR_BUSY, "reading the index was cancelled");
                        more = -1;
                        break;
                }
                kind->load(row, visitor);
        }
        index_stop(row);
        return more == 0;
}

static bool transaction(struct store_reader *reader, enum statement statement, struct error *err)
{
        sqlite3_stmt *row = reader_start(reader, statement, err, "");
        bool is_good = row && index_step(reader->store, row, err) == 0;
        if (row)
                index_stop(row);
        return is_good;
}

bool store_load_all(struct store *store, const struct store_visitor *visitor, struct error *err)
{
        struct kind kinds[KINDS];
        CLEANUP(store_reader_close) struct store_reader *reader = NULL;
        bool is_good = store_reader_open(store, &reader, err) && transaction(reader, STATEMENT_BEGIN_READ, err);
        kinds_list(visitor, kinds);
        for (size_t i = 0; is_good && i < KINDS; i++) {
                sqlite3_stmt *row = kinds[i].is_wanted ? reader_start(reader, kinds[i].all, err, "") : NULL;
                is_good = row ? rows_take(store, row, &kinds[i], visitor, err) : !kinds[i].is_wanted;
        }
        return is_good;                           /* the transaction ends with the connection */
}

static bool found_list(struct store_reader *reader, const struct store_question *question, struct digest *ret_modules, size_t *ret_count, struct error *err)
{
        sqlite3_stmt *row = reader_start(reader, STATEMENT_FIND_MODULES, err, "tdtt", question->name, question->pin, question->namespace, question->resource);
        if (!row)
                return false;
        int more = 0;
        size_t count = 0;
        while (count < FOUND_MAX && (more = index_step(reader->store, row, err)) == 1)
                count += column_digest(row, 0, &ret_modules[count]) && ret_modules[count].algorithm == DIGEST_SHA256;
        index_stop(row);
        *ret_count = count;
        return more >= 0;
}

static bool found_take(struct store_reader *reader, const struct store_question *question, const struct store_visitor *visitor, struct error *err)
{
        struct kind kinds[KINDS];
        CLEANUP(cleanup_free) struct digest *modules = memory_new(FOUND_MAX, sizeof *modules);
        size_t count = 0;
        bool is_good = found_list(reader, question, modules, &count, err);
        kinds_list(visitor, kinds);
        for (size_t i = 0; is_good && i < KINDS; i++)
                for (size_t j = 0; is_good && kinds[i].is_wanted && j < count; j++) {
                        sqlite3_stmt *row = reader_start(reader, kinds[i].found, err, "d", &modules[j]);
                        is_good = row && rows_take(reader->store, row, &kinds[i], visitor, err);
                }
        return is_good;
}

/* One state of the index for all of its rows. */
bool store_load_found(struct store_reader *reader, const struct store_question *question, const struct store_visitor *visitor, struct error *err)
{
        struct error ignored = { 0 };
        if (!transaction(reader, STATEMENT_BEGIN_READ, err))
                return false;
        bool is_good = found_take(reader, question, visitor, err);
        return transaction(reader, STATEMENT_ROLLBACK, is_good ? err : &ignored) && is_good;
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
