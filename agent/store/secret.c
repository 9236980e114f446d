/*
 * How it goes: 32 random bytes in the file `secret` of the root, made once and read by nobody else. What is sealed with them was seen by this store's own daemon: whoever can
 *              write the index cannot write that.
 * How it fails: missing, cut, a link, another's or open to others: new ones take their place, and what the old ones sealed is worth nothing, which costs one more pull and never
 *               a start. Where they cannot be kept (no room, read-only), they are of this process alone.
 * How it ends: wiped with the store.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "inside.h"

enum { SECRET_BYTES = 32 };
static const char name[] = "secret";

/* NULL = it may be used. */
static const char *file_complain(const struct stat *info)
{
        if (!S_ISREG(info->st_mode) || info->st_nlink != 1)
                return "it is no regular file, or has another name too";
        if (info->st_uid != geteuid())
                return "it belongs to another user";
        if (info->st_mode & 0077)
                return "others may read or write it";
        return info->st_size == SECRET_BYTES ? NULL : "its size is not 32 bytes";
}

/* NULL and no complaint = there is none. */
static struct secret *secret_read(struct store *store, const char **ret_complaint)
{
        CLEANUP(buffer_fini_secret) struct buffer bytes = { 0 };
        CLEANUP(cleanup_close) int fd = openat(store->root_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        struct stat info;

        if (fd < 0) {
                *ret_complaint = errno == ENOENT ? NULL : "it cannot be opened, or is a symlink";
                return NULL;
        }
        *ret_complaint = fstat(fd, &info) == 0 ? file_complain(&info) : "it cannot be looked at";
        buffer_reserve(&bytes, SECRET_BYTES);
        if (!*ret_complaint && !fs_pread_all(fd, bytes.data, SECRET_BYTES, 0))
                *ret_complaint = "it cannot be read";
        return *ret_complaint ? NULL : secret_new(bytes.data, SECRET_BYTES);
}

void secret_open(struct store *store)
{
        const char *complaint;
        struct error err = { 0 };

        store->seal_key = secret_read(store, &complaint);
        if (store->seal_key)
                return;
        CLEANUP(buffer_fini_secret) struct buffer bytes = { 0 };
        buffer_reserve(&bytes, SECRET_BYTES);
        random_bytes(bytes.data, SECRET_BYTES);
        store->seal_key = secret_new(bytes.data, SECRET_BYTES);
        if (complaint)
                LOG_WARN("store_secret_replaced", LOG_TEXT("reason", complaint), LOG_TEXT("effect", "what is demanded signed is pulled once more"));
        if (!store->is_read_only && !fs_save(store->root_fd, name, bytes.data, SECRET_BYTES, 0600, &err))
                LOG_WARN("store_secret_not_kept", LOG_TEXT("detail", err.text));
}

const struct secret *store_get_seal_key(const struct store *store)
{
        return store->seal_key;
}
