/*
 * How it goes: which mirrors the configuration, or else the tree of registries, names for a host, and under which host and path credentials for one of them are looked up.
 * How it fails: it cannot; the configuration has been checked before.
 * How it ends: host and path are the caller's to free.
 */
#include <string.h>
#include "pull.h"

void mirrors_visit(const struct modules_options *options, const char *host, void (*each)(void *arg, const char *url), void *arg)
{
        for (size_t i = 0; i < options->mirror_count; i++)
                if (string_equal(options->mirrors[i].host, host)) {
                        for (const char *const *url = options->mirrors[i].mirrors; url && *url; url++)
                                each(arg, *url);
                        return;
                }
        const struct registry_endpoint *rows = NULL;
        size_t count = 0;
        struct error err;
        if (!options->tree || !registry_tree_find(options->tree, host, &rows, &count, &err))
                return;
        for (size_t i = 0; i < count; i++)
                if (rows[i].url)
                        each(arg, rows[i].url);
}

void mirror_split(const char *url, const char *path, char **ret_host, char **ret_path)
{
        const char *authority = strstr(url, "://");
        authority = authority ? authority + 3 : url;
        *ret_host = string_copy_bytes(authority, strcspn(authority, "/"));
        const char *prefix = authority + strlen(*ret_host);
        prefix += strspn(prefix, "/");
        *ret_path = *prefix ? string_format("%s/%s", prefix, path) : string_copy(path);
}
