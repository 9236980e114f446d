/*
 * How it goes: <secrets_dir>/<namespace>/<name>; if the kubelet mounted it, the files of one version lie behind the link "..data", which is opened once, so that what is
 *              read is of one version even while the kubelet swaps the link; .dockerconfigjson is looked for first, then .dockercfg.
 * How it fails: always secret_missing with namespace, name and what lacks; never with content. A version that the kubelet removed under our hands is left for the newer one.
 * How it ends: descriptors are closed and file contents wiped here.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "config.h"

enum { NAMESPACE_BYTES_MAX = 63, NAME_BYTES_MAX = 253, SWAPS_MAX = 8 };

/* RFC 1123: lower-case letters, digits and '-' in labels that neither begin nor end with '-'; with `dots`, several labels. */
static bool dns_name_valid(const char *name, size_t bytes_max, bool dots)
{
        size_t length = strlen(name);
        if (length == 0 || length > bytes_max)
                return false;

        for (size_t i = 0; i < length; i++) {
                unsigned char c = (unsigned char)name[i], before = i > 0 ? (unsigned char)name[i - 1] : '.', after = i + 1 < length ? (unsigned char)name[i + 1] : '.';
                bool inner = before != '.' && after != '.';
                if (!islower(c) && !isdigit(c) && !(c == '-' && inner) && !(c == '.' && dots && i > 0 && i + 1 < length && before != '.' && before != '-' && after != '-'))
                        return false;
        }
        return true;
}

static const struct { const char *name; enum docker_config_kind kind; } file_kinds[] = {
        { ".dockerconfigjson", DOCKER_CONFIG_JSON },
        { ".dockercfg",        DOCKER_CONFIG_LEGACY },
};

/* ERROR_NOT_FOUND: there is no such file in this version. */
static bool version_load(int versionfd, struct docker_config **ret_config, struct error *err)
{
        for (size_t i = 0; i < COUNT_OF(file_kinds); i++) {
                CLEANUP(buffer_fini_secret) struct buffer content = { 0 };
                if (!fs_load(versionfd, file_kinds[i].name, CREDENTIAL_CONFIG_MAX_BYTES, &content, err)) {
                        if (err->code == ERROR_NOT_FOUND)
                                continue;
                        err->code = ERROR_SECRET_MISSING;
                        return false;
                }
                if (content.used == 0)
                        return refuse(err, ERROR_SECRET_MISSING, "%s is empty", file_kinds[i].name);
                return docker_config_parse(content.data, content.used, file_kinds[i].kind, ret_config, err) || refuse_within(err, "%s", file_kinds[i].name);
        }
        return refuse(err, ERROR_NOT_FOUND, "it has neither .dockerconfigjson nor .dockercfg: it must be of type kubernetes.io/dockerconfigjson");
}

/* The folder of the version that holds now: behind "..data", or the secret's own folder where nobody swaps. */
static int version_open(int folderfd)
{
        struct stat link;
        if (fstatat(folderfd, "..data", &link, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT)
                return openat(folderfd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
        return openat(folderfd, "..data", O_PATH | O_DIRECTORY | O_CLOEXEC);
}

static bool version_is_current(int folderfd, int versionfd)
{
        CLEANUP(cleanup_close) int now = version_open(folderfd);
        struct stat held, current;
        return now >= 0 && fstat(versionfd, &held) == 0 && fstat(now, &current) == 0 && held.st_ino == current.st_ino && held.st_dev == current.st_dev;
}

static bool folder_load(int folderfd, struct docker_config **ret_config, struct error *err)
{
        for (unsigned swap = 0; swap < SWAPS_MAX; swap++) {
                CLEANUP(cleanup_close) int versionfd = version_open(folderfd);
                if (versionfd < 0 && errno == ENOENT)
                        continue;
                if (versionfd < 0)
                        return refuse_errno(err, ERROR_SECRET_MISSING, errno, "its folder cannot be opened");
                if (version_load(versionfd, ret_config, err))
                        return true;
                if (err->code != ERROR_NOT_FOUND || version_is_current(folderfd, versionfd))
                        break;
        }
        if (err->code == ERROR_NONE)
                return refuse(err, ERROR_SECRET_MISSING, "its \"..data\" leads nowhere");
        err->code = ERROR_SECRET_MISSING;
        return false;
}

bool credential_load_secret(const char *secrets_dir, const char *namespace, const char *name, struct docker_config **ret_config, struct error *err)
{
        char shown_namespace[128], shown_name[512];
        string_printable(namespace, strlen(namespace), shown_namespace, sizeof shown_namespace);
        string_printable(name, strlen(name), shown_name, sizeof shown_name);
        if (!dns_name_valid(namespace, NAMESPACE_BYTES_MAX, false) || !dns_name_valid(name, NAME_BYTES_MAX, true))
                return refuse(err, ERROR_SECRET_MISSING, "\"%s\" in namespace \"%s\" is no name of a Secret: lower-case letters, digits, '-' and '.' only",
                        shown_name, shown_namespace);
        if (!secrets_dir || !*secrets_dir)
                return refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s: no source of Secrets is configured; set credentials.secrets_dir, or send the credentials as pullSecret",
                        namespace, name);

        CLEANUP(cleanup_free) char *path = string_format("%s/%s/%s", secrets_dir, namespace, name);
        CLEANUP(cleanup_close) int folderfd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folderfd < 0)
                return errno == ENOENT ? refuse(err, ERROR_SECRET_MISSING, "Secret %s/%s does not exist: there is no folder %s", namespace, name, path)
                                       : refuse_errno(err, ERROR_SECRET_MISSING, errno, "Secret %s/%s cannot be read: folder %s", namespace, name, path);

        struct error inner = { 0 };
        if (folder_load(folderfd, ret_config, &inner))
                return true;
        *err = inner;
        return refuse_within(err, "Secret %s/%s in %s", namespace, name, path);
}

bool credential_load_node(const char *path, struct docker_config **ret_config, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer content = { 0 };
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        struct error inner = { 0 };
        if (!fs_load(AT_FDCWD, path, CREDENTIAL_CONFIG_MAX_BYTES, &content, &inner)) {
                if (inner.code == ERROR_NOT_FOUND) {
                        *ret_config = NULL;
                        return true;
                }
                *err = inner;
                err->code = ERROR_SECRET_MISSING;
                return refuse_within(err, "the node's docker config");
        }

        enum docker_config_kind kind = string_ends_with(path, ".dockercfg") ? DOCKER_CONFIG_LEGACY : DOCKER_CONFIG_JSON;
        if (!docker_config_read(content.data ? content.data : "", content.used, kind, &config, err))
                return refuse_within(err, "the node's docker config %s", path);
        *ret_config = config && config->count > 0 ? TAKE(config) : NULL;
        return true;
}
