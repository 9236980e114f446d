/*
 * How it goes: the request's fields become one JSON body; the answer is kept as the daemon sent it, with a parsed tree beside it that the getters point into.
 * How it fails: fields that cannot be sent are WASMCACHE_USAGE before anything is sent; an object without path, sha256 or size is no answer.
 * How it ends: wasmcache_module_free() frees the answer, never the lease; a memfd is sealed before the caller sees it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "client.h"

enum { ANSWER_SLACK_MS = 15000, TIMEOUT_DEFAULT_MS = 30000 };     /* the daemon answers at its own deadline; only a dead one needs ours */

struct wasmcache_module { char *json; struct value *object; const char *path, *sha256; uint64_t size_bytes; };

int wasmcache_connect(const char *socket_path, struct wasmcache **ret_cache, struct wasmcache_error *err)
{
        err = ERROR_OR_IGNORED(err);
        const char *environment = getenv("WASMCACHED_SOCKET");
        if (!socket_path)
                socket_path = environment && *environment ? environment : "/run/wasmcached/agent.sock";

        struct error problem = { 0 };
        int64_t patience_ms = 0;
        bool is_set = false;
        if (!patience_read_environment(&patience_ms, &is_set, &problem))
                return client_fail(err, WASMCACHE_USAGE, "WASMCACHED_PATIENCE: %s", problem.text);

        struct wasmcache *cache = memory_new(1, sizeof *cache);
        cache->path = string_copy(socket_path);
        cache->fd = -1;
        pthread_mutex_init(&cache->lock, NULL);
        cache->patience_ms = is_set ? patience_ms : CLIENT_PATIENCE_MS;
        struct patience patience = patience_begin(patience_ms);
        int result = connection_open(cache, &patience, err);
        if (result != WASMCACHE_OK) {
                wasmcache_close(cache);
                return result;
        }
        cache->has_answered = true;               /* the first request may use this connection */
        *ret_cache = cache;
        return WASMCACHE_OK;
}

void wasmcache_close(struct wasmcache *cache)
{
        if (!cache)
                return;
        connection_close(cache);
        pthread_mutex_destroy(&cache->lock);
        free(cache->path);
        free(cache);
}

/* One JSON object and nothing after it, as far as its braces and quotes tell; the daemon reads it strictly. Parsing it here would leave copies of the secret behind. */
static bool object_is_whole(const char *text)
{
        size_t depth = 0;
        bool in_text = false;
        const char *at = text + strspn(text, " \t\r\n");

        if (*at != '{')
                return false;
        for (; *at; at++) {
                if (in_text) {
                        if (*at == '\\' && at[1])
                                at++;
                        else if (*at == '"')
                                in_text = false;
                } else if (*at == '"')
                        in_text = true;
                else if (*at == '{' || *at == '[')
                        depth++;
                else if ((*at == '}' || *at == ']') && --depth == 0)
                        return at[1 + strspn(at + 1, " \t\r\n")] == '\0';
        }
        return false;
}

static int request_check(const struct wasmcache_request *request, int64_t *ret_timeout_ms, struct wasmcache_error *err)
{
        struct error problem = { 0 };
        int64_t timeout_ms = TIMEOUT_DEFAULT_MS;

        if (!request->url || !*request->url)
                return client_fail(err, WASMCACHE_USAGE, "a url is needed");
        if (request->pull_secret && !object_is_whole(request->pull_secret))
                return client_fail(err, WASMCACHE_USAGE, "the pull secret is no docker config: a JSON object like {\"auths\": …} is needed");
        if (request->resource_version && !request->resource_name)
                return client_fail(err, WASMCACHE_USAGE, "a resource version needs the resource's name");
        if (request->timeout && !clock_parse_duration(request->timeout, &timeout_ms, &problem))
                return client_fail(err, WASMCACHE_USAGE, "timeout: %s", problem.text);
        *ret_timeout_ms = timeout_ms;
        return WASMCACHE_OK;
}

static void request_write(const struct wasmcache_request *request, struct buffer *out)
{
        const struct { const char *name, *text; } rows[] = {
                { "url", request->url }, { "sha256", request->sha256 }, { "imagePullPolicy", request->image_pull_policy }, { "imagePullSecret", request->image_pull_secret },
                { "verificationKey", request->verification_key }, { "namespace", request->ns }, { "timeout", request->timeout },
        };
        struct json_writer writer = { .out = out };

        json_open_map(&writer, NULL);
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].text)
                        json_put_text(&writer, rows[i].name, rows[i].text);
        if (request->resource_name) {
                json_open_map(&writer, "resource");
                json_put_text(&writer, "name", request->resource_name);
                if (request->resource_version)
                        json_put_text(&writer, "version", request->resource_version);
                json_close_map(&writer);
        }
        if (request->pull_secret)
                json_put_raw(&writer, "pullSecret", request->pull_secret);
        json_close_map(&writer);
}

static bool object_read(struct buffer *body, struct wasmcache_module *ret_module, struct error *err)
{
        struct value *object = NULL;
        const char *path = NULL, *sha256 = NULL;
        int64_t size_bytes = -1;
        struct digest digest;

        if (!json_parse(body->data ? body->data : "", body->used, ERROR_UPSTREAM_ERROR, &object, err))
                return false;
        bool is_module = value_read_text(object, "path", ERROR_UPSTREAM_ERROR, &path, err) && value_read_text(object, "sha256", ERROR_UPSTREAM_ERROR, &sha256, err) &&
                value_read_int(object, "size", ERROR_UPSTREAM_ERROR, &size_bytes, err);
        if (is_module && (!path || !*path || !sha256 || !digest_parse_hex(sha256, &digest) || size_bytes < 0))
                is_module = refuse(err, ERROR_UPSTREAM_ERROR, "path, sha256 or size is missing");
        if (!is_module) {
                value_free(&object);
                return false;
        }
        *ret_module = (struct wasmcache_module){ buffer_take(body), object, path, sha256, (uint64_t)size_bytes };
        return true;
}

int wasmcache_get(struct wasmcache *cache, const struct wasmcache_request *request, struct wasmcache_module **ret_module, struct wasmcache_error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer out = { 0 };
        CLEANUP(buffer_fini) struct buffer body = { 0 };
        struct wasmcache_module module;
        struct error problem = { 0 };
        int64_t timeout_ms = 0;
        int status = 0;

        err = ERROR_OR_IGNORED(err);
        int result = request_check(request, &timeout_ms, err);
        if (result != WASMCACHE_OK)
                return result;
        buffer_reserve(&out, 4096 + (request->pull_secret ? strlen(request->pull_secret) : 0) + (request->verification_key ? 2 * strlen(request->verification_key) : 0));
        request_write(request, &out);
        result = client_exchange(cache, &(struct client_request){ "POST", "/v1/modules", out.data, out.used, timeout_ms + ANSWER_SLACK_MS }, &status, &body, err);
        if (result != WASMCACHE_OK)
                return result;
        if (!object_read(&body, &module, &problem))
                return client_fail(err, WASMCACHE_UNREACHABLE, "%s: what answers is no wasmcached: %s", cache->path, problem.text);

        *ret_module = memory_new(1, sizeof **ret_module);
        **ret_module = module;
        return WASMCACHE_OK;
}

void wasmcache_module_free(struct wasmcache_module *module)
{
        if (!module)
                return;
        value_free(&module->object);
        free(module->json);
        free(module);
}

const char *wasmcache_module_path(const struct wasmcache_module *module)
{
        return module->path;
}

const char *wasmcache_module_sha256(const struct wasmcache_module *module)
{
        return module->sha256;
}

const char *wasmcache_module_digest(const struct wasmcache_module *module)
{
        return value_get_text(value_get_member(module->object, "digest"));
}

const char *wasmcache_module_source(const struct wasmcache_module *module)
{
        return value_get_text(value_get_member(module->object, "source"));
}

const char *wasmcache_module_lease(const struct wasmcache_module *module)
{
        return value_get_text(value_get_member(value_get_member(module->object, "lease"), "id"));
}

const char *wasmcache_module_lease_expires(const struct wasmcache_module *module)
{
        return value_get_text(value_get_member(value_get_member(module->object, "lease"), "expires"));
}

uint64_t wasmcache_module_size(const struct wasmcache_module *module)
{
        return module->size_bytes;
}

const char *wasmcache_module_json(const struct wasmcache_module *module)
{
        return module->json;
}

static int lease_call(struct wasmcache *cache, const char *method, const char *lease, struct wasmcache_error *err)
{
        CLEANUP(cleanup_free) char *path = NULL;

        err = ERROR_OR_IGNORED(err);
        if (!lease || !*lease || strpbrk(lease, "/?#% \t\r\n"))
                return client_fail(err, WASMCACHE_USAGE, "that is no id of a lease");
        path = string_format("/v1/leases/%s", lease);
        return wasmcache_call(cache, method, path, NULL, NULL, NULL, NULL, err);
}

int wasmcache_renew(struct wasmcache *cache, const char *lease, struct wasmcache_error *err)
{
        return lease_call(cache, "PUT", lease, err);
}

int wasmcache_release(struct wasmcache *cache, const char *lease, struct wasmcache_error *err)
{
        return lease_call(cache, "DELETE", lease, err);
}

/* The file itself, if it is what the daemon said it is. */
static int file_open(const struct wasmcache_module *module)
{
        CLEANUP(cleanup_close) int fd = open(module->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        struct stat info;

        if (fd < 0 || fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size != module->size_bytes)
                return -1;
        int taken = fd;
        fd = -1;
        return taken;
}

struct download { int fd; uint64_t left_bytes; struct hasher *hasher; int failure; };

static int download_take(void *arg, const char *bytes, size_t size)
{
        struct download *download = arg;

        if (size > download->left_bytes)
                download->failure = EFBIG;
        else if (!fs_write_all(download->fd, bytes, size))
                download->failure = errno;
        if (download->failure)
                return 1;
        download->left_bytes -= size;
        hasher_update(download->hasher, bytes, size);
        return 0;
}

static int download_check(struct download *download, const struct wasmcache_module *module, struct wasmcache_error *err)
{
        struct digest digest;
        char hex[DIGEST_TEXT_BYTES];

        if (download->failure && download->failure != EFBIG)
                return client_fail(err, WASMCACHE_UNREACHABLE, "no memory file of %llu bytes can be made: %s", (unsigned long long)module->size_bytes, strerror(download->failure));
        hasher_finish(download->hasher, &digest);
        digest_format_hex(&digest, hex);
        if (download->failure || download->left_bytes > 0 || !string_equal(hex, module->sha256))
                return client_fail(err, WASMCACHE_UNREACHABLE, "the content that the daemon sent is not the module %s", module->sha256);
        if (fcntl(download->fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) != 0 || lseek(download->fd, 0, SEEK_SET) != 0)
                return client_fail(err, WASMCACHE_UNREACHABLE, "the memory file cannot be sealed: %s", strerror(errno));
        return WASMCACHE_OK;
}

int wasmcache_open_fd(struct wasmcache *cache, const struct wasmcache_module *module, int *ret_fd, struct wasmcache_error *err)
{
        err = ERROR_OR_IGNORED(err);
        int opened = file_open(module);
        if (opened >= 0) {
                *ret_fd = opened;
                return WASMCACHE_OK;
        }

        CLEANUP(cleanup_free) char *path = string_format("/v1/modules/%s/content", module->sha256);
        CLEANUP(cleanup_close) int fd = memfd_create("wasm-module", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (fd < 0)
                return client_fail(err, WASMCACHE_UNREACHABLE, "no memory file can be made: %s", strerror(errno));
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        struct download download = { .fd = fd, .left_bytes = module->size_bytes, .hasher = hasher };

        int result = client_stream(cache, &(struct client_request){ .method = "GET", .path = path, .timeout_ms = TIMEOUT_DEFAULT_MS }, download_take, &download, err);
        if (result == WASMCACHE_OK)
                result = download_check(&download, module, err);
        if (result != WASMCACHE_OK)
                return result;
        *ret_fd = fd;
        fd = -1;
        return WASMCACHE_OK;
}
