/*
 * How it goes: hosts.toml becomes a list of endpoints: the tables [host."URL"] in their order, the server last; without the file, Docker's *.crt, *.cert and *.key become how the
 *              registry itself is reached. Rules: docs/hosts.md and core/remotes/docker/config/hosts.go of containerd, [oci] 6.1.
 * How it fails: with file, line, key and what is allowed; a key that is not known is logged and left, as containerd leaves it. Unlike containerd, a file that cannot be read is no
 *               reason to ask the registry as if there were none.
 * How it ends: tree_host_fini(); headers are wiped, they may be secrets.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "room.h"

enum { FILE_BYTES_MAX = 256 << 10, PEM_BYTES_MAX = 4 << 20, HOSTS_MAX = 256 };

struct reading { const char *file, *folder, *where; struct error *err; };

__attribute__((format(printf, 4, 5)))
static bool refuse_key(const struct reading *reading, const struct value *at, const char *key, const char *format, ...)
{
        char text[ERROR_TEXT_BYTES];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        return refuse(reading->err, ERROR_UPSTREAM_UNREACHABLE, "%s:%zu: %s%s: %s", reading->file, value_get_line(at), reading->where, key, text);
}

/* ---- what an endpoint owns ---- */
static void text_free(const char *text)
{
        if (text)
                explicit_bzero((void *)(uintptr_t)text, strlen(text));
        free((void *)(uintptr_t)text);
}

static void endpoint_fini(struct registry_endpoint *endpoint)
{
        struct fetch_endpoint *reach = &endpoint->reach;
        for (const char *const *ca = reach->ca; ca && *ca; ca++)
                text_free(*ca);
        for (size_t i = 0; i < reach->header_count; i++) {
                text_free(reach->headers[i].name);
                text_free(reach->headers[i].value);
        }
        free((void *)(uintptr_t)reach->ca);
        free((void *)(uintptr_t)reach->headers);
        text_free(reach->client_certificate);
        text_free(reach->client_key);
        free(endpoint->url);
}

void tree_host_fini(struct tree_host *host)
{
        for (size_t i = 0; i < host->count; i++)
                endpoint_fini(&host->endpoints[i]);
        free(host->endpoints);
        free(host->name);
        *host = (struct tree_host){ 0 };
}

static struct registry_endpoint *endpoint_add(struct tree_host *host)
{
        host->endpoints = memory_resize(host->endpoints, host->count + 1, sizeof *host->endpoints);
        host->endpoints[host->count] = (struct registry_endpoint){ .can = REGISTRY_CAN_PULL | REGISTRY_CAN_RESOLVE };
        return &host->endpoints[host->count++];
}

static void ca_add(struct fetch_endpoint *reach, char *path)
{
        size_t count = 0;
        while (reach->ca && reach->ca[count])
                count++;
        const char **longer = memory_resize((void *)(uintptr_t)reach->ca, count + 2, sizeof *longer);
        longer[count] = path;
        longer[count + 1] = NULL;
        reach->ca = longer;
}

static void header_add(struct fetch_endpoint *reach, const char *name, const char *value)
{
        struct fetch_header *longer = memory_resize((void *)(uintptr_t)reach->headers, reach->header_count + 1, sizeof *longer);
        longer[reach->header_count++] = (struct fetch_header){ string_copy(name), string_copy(value) };
        reach->headers = longer;
}

/* ---- one value ---- */
static bool pem_check(const char *path, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer pem = { 0 };
        if (!fs_load(AT_FDCWD, path, PEM_BYTES_MAX, &pem, err))
                return false;
        return (pem.data && strstr(pem.data, "-----BEGIN ")) || refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s holds no PEM (-----BEGIN …)", path);
}

/* An absolute path, or one relative to the folder; there now, and PEM. */
static bool file_read(const struct reading *reading, const struct value *value, const char *key, char **ret_path)
{
        const char *text = value_get_text(value);
        struct error inner = { 0 };
        if (!text || !*text)
                return refuse_key(reading, value, key, "must be the path of a PEM file");
        CLEANUP(cleanup_free) char *path = *text == '/' ? string_copy(text) : string_format("%s/%s", reading->folder, text);
        if (!pem_check(path, &inner))
                return refuse_key(reading, value, key, "%s", inner.text);
        *ret_path = TAKE(path);
        return true;
}

static bool ca_read(const struct reading *reading, const struct value *value, struct registry_endpoint *endpoint)
{
        size_t count = value_get_kind(value) == VALUE_LIST ? value_get_count(value) : 1;
        for (size_t i = 0; i < count; i++) {
                char *path;
                if (!file_read(reading, value_get_kind(value) == VALUE_LIST ? value_get_item(value, i) : value, "ca", &path))
                        return false;
                ca_add(&endpoint->reach, path);
        }
        return true;
}

/* "both.pem", ["both.pem", …] or [["cert.pem", "key.pem"], …]. TLS shows one certificate; which of several a server would want is not known before. */
static bool client_read(const struct reading *reading, const struct value *value, struct registry_endpoint *endpoint)
{
        const struct value *first = value_get_kind(value) == VALUE_LIST ? value_get_item(value, 0) : value;
        bool is_pair = value_get_kind(first) == VALUE_LIST;
        char *certificate, *key = NULL;
        if (value_get_kind(value) == VALUE_LIST && value_get_count(value) == 0)
                return true;
        if (is_pair && value_get_count(first) != 2)
                return refuse_key(reading, first, "client", "a pair is [\"certificate file\", \"key file\"]");
        if (value_get_kind(value) == VALUE_LIST && value_get_count(value) > 1)
                LOG_WARN("registry_hosts_client", LOG_TEXT("file", reading->file), LOG_TEXT("detail", "of several client certificates the first is used"));
        if (!file_read(reading, is_pair ? value_get_item(first, 0) : first, "client", &certificate))
                return false;
        endpoint->reach.client_certificate = certificate;
        if (is_pair && !file_read(reading, value_get_item(first, 1), "client", &key))
                return false;
        endpoint->reach.client_key = key;
        return true;
}

static bool capabilities_read(const struct reading *reading, const struct value *value, struct registry_endpoint *endpoint)
{
        static const struct { const char *name; unsigned can; } rows[] = { { "pull", REGISTRY_CAN_PULL }, { "resolve", REGISTRY_CAN_RESOLVE }, { "push", 0 }, { "referrers", 0 } };
        unsigned can = 0;
        if (value_get_kind(value) != VALUE_LIST)
                return refuse_key(reading, value, "capabilities", "must be an array of: pull, resolve, push, referrers");
        for (size_t i = 0; i < value_get_count(value); i++) {
                const char *text = value_get_text(value_get_item(value, i));
                size_t row = 0;
                char shown[64] = "";
                while (row < COUNT_OF(rows) && !(text && strcasecmp(rows[row].name, text) == 0))
                        row++;
                if (row == COUNT_OF(rows))
                        return refuse_key(reading, value_get_item(value, i), "capabilities", "\"%s\" is none; allowed: pull, resolve, push, referrers",
                                text ? string_printable(text, strlen(text), shown, sizeof shown) : "");
                can |= rows[row].can;
        }
        endpoint->can = value_get_count(value) > 0 ? can : endpoint->can;
        return true;
}

static bool header_is_valid(const char *name, const char *value)
{
        if (!*name || strspn(name, "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != strlen(name))
                return false;
        for (const unsigned char *c = (const unsigned char *)value; *c; c++)
                if ((*c < 0x20 && *c != '\t') || *c == 0x7f)
                        return false;
        return true;
}

/* Values are never quoted. */
static bool headers_read(const struct reading *reading, const struct value *map, struct registry_endpoint *endpoint)
{
        if (value_get_kind(map) != VALUE_MAP)
                return refuse_key(reading, map, "header", "must be a table of names and values");
        for (size_t i = 0; i < value_get_count(map); i++) {
                const struct value *value = value_get_item(map, i);
                bool is_list = value_get_kind(value) == VALUE_LIST;
                for (size_t k = 0; k < (is_list ? value_get_count(value) : 1); k++) {
                        const char *text = value_get_text(is_list ? value_get_item(value, k) : value);
                        if (!text || !header_is_valid(value_get_key(map, i), text))
                                return refuse_key(reading, value, "header", "a name and a text (or an array of texts) that HTTP allows are needed");
                        header_add(&endpoint->reach, value_get_key(map, i), text);
                }
        }
        return true;
}

static bool flag_read(const struct reading *reading, const struct value *value, const char *key, bool *ret_flag)
{
        if (value_get_kind(value) != VALUE_BOOL)
                return refuse_key(reading, value, key, "must be true or false");
        *ret_flag = value_get_bool(value);
        return true;
}

static bool timeout_read(const struct reading *reading, const struct value *value, struct registry_endpoint *endpoint)
{
        struct error inner = { 0 };
        const char *text = value_get_text(value);
        if (!text || !clock_parse_duration(text, &endpoint->reach.connect_timeout_ms, &inner))
                return refuse_key(reading, value, "dial_timeout", "must be a duration such as \"5s\"");
        return true;
}

/* ---- one host ---- */
static bool is_clean_path(const char *path)
{
        return !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../") && !string_ends_with(path, "/.") && !string_ends_with(path, "/..") && !strchr(path, '?');
}

/* The /v2 is ours to add, unless override_path says that the path is all there is. */
static bool url_read(const struct reading *reading, const struct value *at, const char *text, struct registry_endpoint *endpoint)
{
        CLEANUP(cleanup_free) char *url = string_starts_with_nocase(text, "http") && strstr(text, "://") ? string_copy(text) : string_format("https://%s", text);
        CLEANUP(authority_fini) struct authority authority = { 0 };
        char shown[200];
        size_t length = strlen(url);
        const char *path = strstr(url, "://") ? strchr(strstr(url, "://") + 3, '/') : NULL;
        if (!authority_parse(url, &authority) || (path && !is_clean_path(path)))
                return refuse_key(reading, at, "", "\"%s\" is no http:// or https:// URL of a registry, without user, query or fragment",
                        strchr(text, '@') ? "…" : string_printable(text, strlen(text), shown, sizeof shown));
        while (path && url[length - 1] == '/')
                url[--length] = '\0';
        if (path && string_ends_with(path, "/v2")) {
                url[length - strlen("/v2")] = '\0';
                endpoint->is_root = false;
        }
        endpoint->url = TAKE(url);
        return true;
}

static bool member_read(const struct reading *reading, const char *key, const struct value *value, struct registry_endpoint *endpoint)
{
        if (strcmp(key, "capabilities") == 0)
                return capabilities_read(reading, value, endpoint);
        if (strcmp(key, "header") == 0)
                return headers_read(reading, value, endpoint);
        if (strcmp(key, "dial_timeout") == 0)
                return timeout_read(reading, value, endpoint);
        if (strcmp(key, "override_path") == 0)
                return flag_read(reading, value, key, &endpoint->is_root);
        if (strcmp(key, "skip_verify") == 0 || strcmp(key, "ca") == 0 || strcmp(key, "client") == 0) {
                endpoint->is_tls_told = true;
                return *key == 's' ? flag_read(reading, value, key, &endpoint->reach.skip_verify) : strcmp(key, "ca") == 0 ? ca_read(reading, value, endpoint)
                                                                                                  : client_read(reading, value, endpoint);
        }
        CLEANUP(cleanup_free) char *where = string_format("%s:%zu", reading->file, value_get_line(value));
        LOG_WARN("registry_hosts_unknown_key", LOG_TEXT("file", where), LOG_TEXT("key", key));
        return true;
}

/* `url` NULL: the registry itself. At the root of the file `host` and `server` are somebody else's. */
static bool endpoint_read(struct reading *reading, const char *url, const struct value *table, bool is_file_root, struct tree_host *host)
{
        CLEANUP(cleanup_free) char *where = is_file_root ? string_copy("") : string_format("host.\"%s\".", url);
        struct registry_endpoint *endpoint = endpoint_add(host);
        char shown[200];
        reading->where = string_printable(where, strlen(where), shown, sizeof shown);
        if (value_get_kind(table) != VALUE_MAP)
                return refuse_key(reading, table, "", "must be a table");
        for (size_t i = 0; i < value_get_count(table); i++) {
                const char *key = value_get_key(table, i);
                if ((!is_file_root || (strcmp(key, "host") != 0 && strcmp(key, "server") != 0)) && !member_read(reading, key, value_get_item(table, i), endpoint))
                        return false;
        }
        if (url && *url)
                return url_read(reading, is_file_root ? value_get_member(table, "server") : table, url, endpoint);
        endpoint->can = REGISTRY_CAN_PULL | REGISTRY_CAN_RESOLVE;      /* as containerd: the registry itself can all */
        endpoint->is_root = false;
        return true;
}

bool hosts_parse(const char *text, size_t size_bytes, const char *file, struct tree_host *host, struct error *err)
{
        CLEANUP(value_free) struct value *root = NULL;
        CLEANUP(cleanup_free) char *folder = string_copy_bytes(file, strrchr(file, '/') ? (size_t)(strrchr(file, '/') - file) : 0);
        struct reading reading = { .file = file, .folder = folder, .where = "", .err = err };
        if (!toml_parse(text, size_bytes, ERROR_UPSTREAM_UNREACHABLE, &root, err)) {
                CLEANUP(cleanup_free) char *said = string_copy(err->text);
                return refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s:%s", file, string_starts_with(said, "line ") ? said + strlen("line ") : said);
        }
        const struct value *hosts = value_get_member(root, "host"), *server = value_get_member(root, "server");
        if (hosts && (value_get_kind(hosts) != VALUE_MAP || value_get_count(hosts) > HOSTS_MAX))
                return refuse_key(&reading, hosts, "host", "must be tables [host.\"https://…\"], at most %d", HOSTS_MAX);
        if (server && value_get_kind(server) != VALUE_TEXT)
                return refuse_key(&reading, server, "server", "must be a URL in quotes");
        for (size_t i = 0; i < value_get_count(hosts); i++)
                if (!endpoint_read(&reading, value_get_key(hosts, i), value_get_item(hosts, i), false, host))
                        return false;
        return endpoint_read(&reading, value_get_text(server), root, true, host);
}

/* ---- Docker's layout ---- */
static bool certificate_take(const char *folder, const char *name, struct registry_endpoint *endpoint, struct error *err)
{
        CLEANUP(cleanup_free) char *path = string_format("%s/%s", folder, name);
        CLEANUP(cleanup_free) char *key = string_format("%.*skey", (int)(strlen(path) - strlen("cert")), path);
        if (!pem_check(path, err))
                return false;
        endpoint->is_tls_told = true;
        if (string_ends_with(name, ".crt")) {
                ca_add(&endpoint->reach, TAKE(path));
        } else if (!endpoint->reach.client_certificate) {
                if (access(key, F_OK) == 0 && !pem_check(key, err))
                        return false;
                endpoint->reach.client_key = access(key, F_OK) == 0 ? TAKE(key) : NULL;
                endpoint->reach.client_certificate = TAKE(path);
        }
        return true;
}

static int is_certificate_name(const struct dirent *entry)
{
        return entry->d_type != DT_DIR && (string_ends_with(entry->d_name, ".crt") || string_ends_with(entry->d_name, ".cert"));
}

static bool certificates_load(const char *folder, struct tree_host *host, struct error *err)
{
        struct dirent **entries = NULL;
        struct registry_endpoint *endpoint = endpoint_add(host);
        int count = scandir(folder, &entries, is_certificate_name, alphasort);
        bool is_good = count >= 0;
        if (count < 0)
                return refuse_errno(err, ERROR_UPSTREAM_UNREACHABLE, errno, "%s", folder);
        for (int i = 0; i < count; i++) {
                is_good = is_good && certificate_take(folder, entries[i]->d_name, endpoint, err);
                free(entries[i]);
        }
        free(entries);
        return is_good;
}

bool hosts_load(const char *folder, struct tree_host *host, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        CLEANUP(cleanup_free) char *file = string_format("%s/hosts.toml", folder);
        if (!fs_load(AT_FDCWD, file, FILE_BYTES_MAX, &text, err)) {
                if (err->code != ERROR_NOT_FOUND)
                        return false;
                *err = (struct error){ 0 };
        }
        return text.used > 0 ? hosts_parse(text.data, text.used, file, host, err) : certificates_load(folder, host, err);
}
