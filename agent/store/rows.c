/*
 * How it goes: one function per kind of row, and the few transactions that concern rows alone.
 * How it fails: a statement that fails rolls its whole transaction back; a lease of a module that is gone is skipped, so that one does not spoil a batch.
 * How it ends: nothing is kept between calls.
 */
#include <string.h>
#include "inside.h"

void row_read_module(sqlite3_stmt *row, struct store_module *ret_module)
{
        column_digest(row, 0, &ret_module->sha256);
        ret_module->identity = (struct store_identity){
                (uint64_t)sqlite3_column_int64(row, 1), (uint64_t)sqlite3_column_int64(row, 2), (uint64_t)sqlite3_column_int64(row, 3),
                sqlite3_column_int64(row, 4), sqlite3_column_int64(row, 5),
        };
        ret_module->created_s = sqlite3_column_int64(row, 6);
        ret_module->last_used_s = sqlite3_column_int64(row, 7);
        ret_module->is_pinned = sqlite3_column_int(row, 8) != 0;
}

bool row_read_image(sqlite3_stmt *row, struct store_image *ret_image)
{
        *ret_image = (struct store_image){ .media_type = column_text(row, 4), .layer_type = column_text(row, 5), .document = column_text(row, 6) };
        column_digest(row, 7, &ret_image->seal);  /* damaged = none */
        return column_digest(row, 0, &ret_image->manifest) && column_digest(row, 1, &ret_image->top) && column_digest(row, 2, &ret_image->module) &&
               column_digest(row, 3, &ret_image->layer);
}

bool row_get_module(struct store *store, const struct digest *module, struct store_module *ret_row, bool *ret_is_there, struct error *err)
{
        index_lock(store);
        sqlite3_stmt *row = index_start(store, STATEMENT_MODULE_GET, err, "d", module);
        int more = row ? index_step(store, row, err) : -1;
        if (more == 1)
                row_read_module(row, ret_row);
        if (row)
                index_stop(row);
        index_unlock(store);
        if (more < 0)
                return false;
        *ret_is_there = more == 1;
        return true;
}

bool row_save_identity(struct store *store, const struct digest *module, const struct store_identity *identity, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = index_write(store, STATEMENT_MODULE_IDENTITY, err, "diiiii", module, (int64_t)identity->device, (int64_t)identity->inode, (int64_t)identity->size_bytes,
                                   identity->mtime_ns, identity->ctime_ns);
        return index_end(store, is_good, err);
}

bool row_save_lease(struct store *store, const struct store_lease *lease, struct error *err)
{
        return index_write(store, STATEMENT_LEASE_PUT, err, "ttdit", lease->id, lease->namespace, &lease->module, lease->expires_s, lease->holder ? lease->holder : "");
}

/* Images, references, resources and leases go by foreign key; grants and evidence point at manifests and go first. */
bool row_delete_module(struct store *store, const struct digest *module, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = index_write(store, STATEMENT_GRANT_DELETE_OF, err, "d", module) && index_write(store, STATEMENT_EVIDENCE_DELETE_OF, err, "d", module) &&
                       index_write(store, STATEMENT_MODULE_DELETE, err, "d", module);
        return index_end(store, is_good, err);
}

bool store_save_pin(struct store *store, const struct digest *module, bool is_pinned, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = index_write(store, STATEMENT_MODULE_PIN, err, "di", module, (int64_t)is_pinned);
        if (is_good && sqlite3_changes(store->index.db) == 0)
                is_good = refuse(err, ERROR_NOT_FOUND, "the module is not in the store");
        return index_end(store, is_good, err);
}

bool store_remove_grants(struct store *store, const struct digest *manifest, const char *repository, const char *kind, const char *namespace, const char *secret, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = manifest ? index_write(store, STATEMENT_GRANT_DELETE, err, "dtttt", manifest, repository, kind, namespace, secret)
                                : index_write(store, STATEMENT_GRANT_DELETE_ALL, err, "tttt", repository, kind, namespace, secret);
        return index_end(store, is_good, err);
}

bool store_save_touch(struct store *store, const struct store_touch *touch, struct error *err)
{
        if (!index_begin(store, err))
                return false;
        bool is_good = index_meta_put(store, "alive_s", clock_get_wall_s(), err);
        for (size_t i = 0; is_good && i < touch->ended_count; i++)
                is_good = index_write(store, STATEMENT_LEASE_DELETE, err, "t", touch->ended[i]);
        for (size_t i = 0; is_good && i < touch->lease_count; i++)
                is_good = row_save_lease(store, &touch->leases[i], err);
        for (size_t i = 0; is_good && i < touch->used_count; i++)
                is_good = index_write(store, STATEMENT_MODULE_USED, err, "di", &touch->used[i].sha256, touch->used[i].last_used_s);
        return index_end(store, is_good, err);
}
