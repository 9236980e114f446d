/*
 * How it goes: what a system call said becomes words for a person, the code of the contract and the health of the store.
 * How it fails: it is the failing.
 * How it ends: EIO stays in the health until the next start (a disk that lost a page is not trusted again); read-only ends with the next write that works.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include "inside.h"

void store_set_health(struct store *store, enum store_health health)
{
        int now = atomic_load(&store->health);
        while (now != STORE_FAILING && now != (int)health)
                if (atomic_compare_exchange_weak(&store->health, &now, (int)health))
                        return;
}

enum store_health store_get_health(const struct store *store)
{
        return (enum store_health)atomic_load(&store->health);
}

bool store_fail(struct store *store, struct error *err, int number, const char *format, ...)
{
        char doing[ERROR_TEXT_BYTES / 2];
        va_list list;
        va_start(list, format);
        vsnprintf(doing, sizeof doing, format, list);
        va_end(list);

        switch (number) {
        case ENOSPC:
        case EDQUOT:
        case EFBIG:
                return refuse_errno(err, ERROR_STORE_FULL, number, "store %s: %s", store->root, doing);
        case EROFS:
                store_set_health(store, STORE_READ_ONLY);
                return refuse(err, ERROR_STORE_FULL, "store %s: %s: the file system is read-only; what is cached is still handed out", store->root, doing);
        case EIO:
                store_set_health(store, STORE_FAILING);
                return refuse_errno(err, ERROR_INTERNAL, number, "store %s: %s: the disk fails", store->root, doing);
        default:
                return refuse_errno(err, ERROR_INTERNAL, number, "store %s: %s", store->root, doing);
        }
}

bool store_refuse_read_only(struct store *store, struct error *err)
{
        if (!store->is_read_only)
                return true;
        return refuse(err, ERROR_STORE_FULL, "store %s was opened read-only, because its file system was; make it writable and start again", store->root);
}
