/*
 * How it goes: every folder of the tree is read once; a host is looked for by the names that containerd tries: host_port_, host:port, _default.
 * How it fails: a folder with a mistake is kept with its error, which every pull from that host gets; the others are not harmed.
 * How it ends: with the last reference.
 */
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "room.h"

enum { FOLDERS_MAX = 4096 };

struct registry_tree { atomic_uint references; struct tree_host *hosts; size_t count; };

static int is_host_name(const struct dirent *entry)
{
        return entry->d_name[0] != '.' && (entry->d_type == DT_DIR || entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN);
}

static void host_load(struct registry_tree *tree, const char *folder, const char *name)
{
        CLEANUP(cleanup_free) char *path = string_format("%s%s%s", folder, string_ends_with(folder, "/") ? "" : "/", name);
        struct tree_host *host = &tree->hosts[tree->count];
        struct stat status;
        if (stat(path, &status) == 0 && !S_ISDIR(status.st_mode))
                return;
        host->name = string_copy(name);
        tree->count++;
        if (hosts_load(path, host, &host->err)) {
                host->err.code = ERROR_NONE;
                return;
        }
        host->err.code = ERROR_UPSTREAM_UNREACHABLE;
        refuse_within(&host->err, "registries_dir");
        LOG_ERROR("registry_hosts_refused", LOG_TEXT("host", name), LOG_TEXT("detail", host->err.text));
}

bool registry_tree_load(const char *folder, struct registry_tree **ret_tree, struct error *err)
{
        struct dirent **entries = NULL;
        int count = scandir(folder, &entries, is_host_name, alphasort);
        if (count < 0 && errno != ENOENT)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "registries_dir: %s", folder);
        if (count < 0)
                LOG_WARN("registries_dir_absent", LOG_TEXT("folder", folder));

        CLEANUP(registry_tree_unref) struct registry_tree *tree = memory_new(1, sizeof *tree);
        atomic_init(&tree->references, 1);
        tree->hosts = memory_new((size_t)(count > 0 ? count : 0) + 1, sizeof *tree->hosts);
        for (int i = 0; i < count; i++) {
                if (i < FOLDERS_MAX)
                        host_load(tree, folder, entries[i]->d_name);
                free(entries[i]);
        }
        free(entries);
        if (count > FOLDERS_MAX)
                return refuse(err, ERROR_BAD_REQUEST, "registries_dir: %s has %d folders, at most %d are read", folder, count, FOLDERS_MAX);
        *ret_tree = TAKE(tree);
        return true;
}

struct registry_tree *registry_tree_ref(struct registry_tree *tree)
{
        if (tree)
                atomic_fetch_add(&tree->references, 1);
        return tree;
}

void registry_tree_unref(struct registry_tree **reference)
{
        struct registry_tree *tree = TAKE(*reference);
        if (!tree || atomic_fetch_sub(&tree->references, 1) != 1)
                return;
        for (size_t i = 0; i < tree->count; i++)
                tree_host_fini(&tree->hosts[i]);
        free(tree->hosts);
        free(tree);
}

static const struct tree_host *host_find(const struct registry_tree *tree, const char *name)
{
        for (size_t i = 0; i < tree->count; i++)
                if (strcmp(tree->hosts[i].name, name) == 0)
                        return &tree->hosts[i];
        return NULL;
}

bool registry_tree_find(const struct registry_tree *tree, const char *host, const struct registry_endpoint **ret_endpoints, size_t *ret_count, struct error *err)
{
        const char *colon = strrchr(host, ':');
        bool has_port = colon && colon > host && !strchr(colon, ']');
        CLEANUP(cleanup_free) char *underscored = has_port ? string_format("%.*s_%s_", (int)(colon - host), host, colon + 1) : string_copy(host);
        const struct tree_host *found = host_find(tree, underscored);
        found = found ? found : host_find(tree, host);
        found = found ? found : host_find(tree, "_default");
        if (found && found->err.code != ERROR_NONE) {
                *err = found->err;
                return false;
        }
        *ret_endpoints = found ? found->endpoints : NULL;
        *ret_count = found ? found->count : 0;
        return true;
}
