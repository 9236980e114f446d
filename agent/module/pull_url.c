/*
 * How it goes: an http(s) source is asked with the validators known (304 = unchanged), a file is looked at by its identity; the body goes to a file of the store,
 *              is unboxed (wasm, gzip, zstd or tar of one) and its module compared with the pin.
 * How it fails: a status other than 200 is told by what it means for the asker; a path outside the configured roots is refused before anything is opened.
 * How it ends: what was found is in the pull.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/fetch.h>
#include <wasmcached/unpack.h>
#include "prove.h"

static void progress(void *arg, uint64_t received, int64_t total)
{
        struct pull *pull = arg;
        atomic_store_explicit(&pull->received, received, memory_order_relaxed);
        atomic_store_explicit(&pull->total, total, memory_order_relaxed);
}

static bool check_pin(struct pull *pull, struct error *err)
{
        /* An imported image's pin is that of a manifest, which is not here. */
        if (pull->want->kind == WANT_OCI || !digest_is_set(&pull->want->pin) || digest_equal(&pull->want->pin, &pull->module))
                return true;
        char expected[DIGEST_TEXT_BYTES], got[DIGEST_TEXT_BYTES];
        digest_format_hex(&pull->want->pin, expected);
        digest_format_hex(&pull->module, got);
        return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the module that came is %s, sha256 says %s", pull->want->name, got, expected);
}

/* pull->writer holds the body as it came. A bare module stays where it is; a boxed one is unboxed into a second file. */
bool pull_unpack_body(struct pull *pull, struct error *err)
{
        int64_t started_us = clock_get_us();
        if (!blob_writer_finish(pull->writer, NULL, &pull->module, &pull->module_bytes, err))
                return false;

        static const uint8_t magic[4] = { 0x00, 0x61, 0x73, 0x6d };
        uint8_t head[512] = { 0 };
        size_t size = pull->module_bytes < sizeof head ? (size_t)pull->module_bytes : sizeof head;
        if (!fs_pread_all(blob_writer_get_fd(pull->writer), head, size, 0))
                return refuse_errno(err, ERROR_INTERNAL, errno, "reading the body back from the store");
        bool is_module = size >= sizeof magic && memcmp(head, magic, sizeof magic) == 0;
        /* What lies beside a url signs what the url delivers: judged before anything is unboxed. */
        if ((is_module && !check_pin(pull, err)) || !prove_body(pull, is_module, err))
                return false;
        if (!is_module) {
                struct unpack_limits limits = unpack_limits_default;
                struct unpack_source source = { .size_bytes = pull->module_bytes };
                limits.module_max_bytes = pull->setup->options.max_module_bytes;
                blob_writer_free(&pull->scratch);
                pull->scratch = TAKE(pull->writer);
                source.fd = blob_writer_get_fd(pull->scratch);
                if (!pull_open_writer(pull, limits.module_max_bytes, 0, DIGEST_SHA256, &pull->writer, err))
                        return false;
                if (!unpack_body(&source, &limits, pull->cancel, blob_writer_get_sink(pull->writer), err))
                        return refuse_within(err, "%s", pull->want->name);
                if (!blob_writer_finish(pull->writer, NULL, &pull->module, &pull->module_bytes, err))
                        return false;
                blob_writer_free(&pull->scratch);
        } else if (!unpack_check_wasm(head, size, pull->module_bytes, err)) {
                return refuse_within(err, "%s", pull->want->name);
        } else if (pull->module_bytes > pull->setup->options.max_module_bytes) {
                return refuse(err, ERROR_TOO_LARGE, "%s: the module has %llu bytes, at most %llu are taken (pull.max_module_size)", pull->want->name,
                        (unsigned long long)pull->module_bytes, (unsigned long long)pull->setup->options.max_module_bytes);
        }
        pull->stage_us[STAGE_UNPACK] += clock_get_us() - started_us;
        if (!check_pin(pull, err) || !prove_module(pull, err))
                return false;
        pull->grant_kind = GRANT_ANONYMOUS;
        pull->outcome = PULL_STORED;
        return true;
}

/* What was known may stay what it is only if its signatures are known to be good: else the source has to give it again, with what lies beside it. */
static void know_only_proved(struct pull *pull)
{
        if (!digest_is_set(&pull->known_module) || prove_stored(pull))
                return;
        pull->known_module = pull->module = (struct digest){ 0 };
        free(TAKE(pull->known_etag));
}

static bool unchanged(struct pull *pull)
{
        pull->module = pull->known_module;
        pull->etag = string_copy(pull->known_etag);
        pull->grant_kind = GRANT_ANONYMOUS;
        pull->outcome = PULL_UNCHANGED;
        return true;
}

/* ---- http(s) ---- */

static bool refuse_status(const struct pull *pull, const struct fetch_response *response, struct error *err)
{
        static const struct { int from, to; enum error_code code; const char *meaning; } rows[] = {
                { 401, 401, ERROR_UNAUTHORIZED, "the server wants a login, which http(s) sources cannot give" }, { 403, 403, ERROR_UNAUTHORIZED, "the server refuses access" },
                { 404, 404, ERROR_NOT_FOUND, "there is nothing at this url" }, { 410, 410, ERROR_NOT_FOUND, "it was there and is gone" },
                { 408, 408, ERROR_UPSTREAM_ERROR, "the server lost patience" }, { 429, 429, ERROR_RATE_LIMITED, "too many requests" },
                { 500, 599, ERROR_UPSTREAM_ERROR, "the server failed" }, { 0, 999, ERROR_UPSTREAM_ERROR, "only 200 is a module" },
        };
        int status = fetch_response_get_status(response);
        size_t i = 0;
        while (status < rows[i].from || status > rows[i].to)
                i++;
        err->retry_after_s = 0;
        refuse(err, rows[i].code, "GET %s: HTTP %d: %s", pull->want->name, status, rows[i].meaning);
        err->retry_after_s = fetch_response_get_retry_after(response);
        return false;
}

static void note_validators(struct pull *pull, const struct fetch_response *response)
{
        const char *etag = fetch_response_get_header(response, "ETag", 0), *modified = fetch_response_get_header(response, "Last-Modified", 0);
        free(pull->etag);
        pull->etag = etag || modified ? string_format("%s\n%s", etag ? etag : "", modified ? modified : "") : string_copy("");
}

bool pull_http_download(struct pull *pull, struct error *err)
{
        know_only_proved(pull);
        struct fetch_header headers[2];
        size_t header_count = 0;
        const char *newline = pull->known_etag ? strchr(pull->known_etag, '\n') : NULL;
        CLEANUP(cleanup_free) char *etag = newline ? string_copy_bytes(pull->known_etag, (size_t)(newline - pull->known_etag)) : NULL;
        if (etag && *etag)
                headers[header_count++] = (struct fetch_header){ "If-None-Match", etag };
        if (newline && newline[1])
                headers[header_count++] = (struct fetch_header){ "If-Modified-Since", newline + 1 };

        const struct modules_options *options = &pull->setup->options;
        uint64_t limit = options->max_layer_bytes > options->max_module_bytes ? options->max_layer_bytes : options->max_module_bytes;
        struct fetch_request request = {
                .method = FETCH_GET,
                .url = pull->want->name,
                .headers = headers,
                .header_count = header_count,
                .size_limit = limit,
                .size_expected = -1,
                .deadline_ms = pull->deadline_ms,
                .redirects_max = FETCH_REDIRECTS_MAX,
                .resume = true,
                .is_boxed = true,                 /* Apache says Content-Encoding: x-gzip of any .gz, object stores what was said at the upload */
                .cancel = pull->cancel,
                .progress = progress,
                .progress_arg = pull,
        };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        int64_t started_us = clock_get_us();
        if (!pull_open_writer(pull, limit, 0, DIGEST_SHA256, &pull->writer, err) || !fetch_run(pull->setup->fetch, &request, blob_writer_get_sink(pull->writer), &response, err))
                return false;
        pull->stage_us[STAGE_DOWNLOAD] += clock_get_us() - started_us;
        if (fetch_response_get_status(response) == 304 && header_count > 0) {
                blob_writer_free(&pull->writer);
                return unchanged(pull);
        }
        /* 206 is the last answer of a body that broke and was resumed: fetch lets no other one through. */
        if (fetch_response_get_status(response) != 200 && fetch_response_get_status(response) != 206)
                return refuse_status(pull, response, err);
        note_validators(pull, response);
        return pull_unpack_body(pull, err);
}

/* ---- file ---- */

bool setup_find_file_root(const struct setup *setup, const char *path, const char **ret_root, size_t *ret_bytes, struct error *err)
{
        for (const char *const *root = setup->options.file_roots; root && *root; root++) {
                size_t length = strlen(*root);
                while (length > 0 && (*root)[length - 1] == '/')
                        length--;
                if (strncmp(path, *root, length) != 0 || path[length] != '/')
                        continue;
                *ret_root = *root;
                *ret_bytes = length;
                return true;
        }
        return refuse(err, ERROR_DENIED, "%s: is outside of the roots that file:// may read (files.roots)", path);
}

/* Opened beneath the first root that holds the path; symlinks and ".." cannot lead out (openat2). */
bool pull_open_file(const struct pull *pull, const char *path, int *ret_fd, struct error *err)
{
        if (pull->is_trial) {                     /* an operator's own look: the roots confine what callers get */
                *ret_fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
                enum error_code code = errno == ENOENT || errno == ENOTDIR ? ERROR_NOT_FOUND : errno == EACCES || errno == EPERM ? ERROR_DENIED : ERROR_INTERNAL;
                return *ret_fd >= 0 || refuse_errno(err, code, errno, "the daemon (uid %u) cannot open %s", (unsigned)geteuid(), path);
        }
        const char *root;
        size_t length;
        if (!setup_find_file_root(pull->setup, path, &root, &length, err))
                return false;
        CLEANUP(cleanup_close) int rootfd = open(length ? root : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
        int fd = rootfd < 0 ? -1 : fs_open_beneath(rootfd, path + length + 1, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd >= 0) {
                *ret_fd = fd;
                return true;
        }
        if (errno == EXDEV || errno == ELOOP)
                return refuse(err, ERROR_DENIED, "%s: leads out of the root %s by a symlink", path, root);
        if (errno == ENXIO || errno == ENODEV)
                return refuse(err, ERROR_DENIED, "%s: is no regular file", path);
        return refuse_errno(err,
                errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG ? ERROR_NOT_FOUND
                : errno == EACCES || errno == EPERM                          ? ERROR_DENIED
                                                                             : ERROR_INTERNAL,
                errno, "opening %s", path);
}

static bool copy_file(struct pull *pull, int fd, struct error *err)
{
        enum { PIECE_BYTES = 256 << 10 };
        CLEANUP(cleanup_free) char *piece = memory_new(1, PIECE_BYTES);
        struct sink *sink = blob_writer_get_sink(pull->writer);
        for (;;) {
                ssize_t got = read(fd, piece, PIECE_BYTES);
                if (got < 0 && errno == EINTR)
                        continue;
                if (got < 0)
                        return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "reading %s", pull->want->name);
                if (got == 0)
                        return true;
                if (cancel_is_triggered(pull->cancel))
                        return refuse(err, ERROR_BUSY, "reading %s was cancelled", pull->want->name);
                if (!sink->write(sink, piece, (size_t)got, err))
                        return false;
        }
}

static char *file_identity(const struct stat *st)
{
        return string_format("%llx:%llx:%lld:%lld.%09ld:%lld.%09ld\n", (unsigned long long)st->st_dev, (unsigned long long)st->st_ino, (long long)st->st_size,
                (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

bool pull_file_download(struct pull *pull, struct error *err)
{
        CLEANUP(cleanup_close) int fd = -1;
        struct stat st;
        int64_t started_us = clock_get_us();
        know_only_proved(pull);
        if (!pull_open_file(pull, pull->want->path, &fd, err)) {
                /* The source is gone, what it gave is not: as for any other source that cannot be asked. */
                return err->code == ERROR_NOT_FOUND && digest_is_set(&pull->known_module) ? unchanged(pull) : false;
        }
        if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
                return refuse(err, ERROR_DENIED, "%s: is no regular file", pull->want->name);

        CLEANUP(cleanup_free) char *identity = file_identity(&st);
        if (digest_is_set(&pull->known_module) && string_equal(identity, pull->known_etag))
                return unchanged(pull);

        const struct modules_options *options = &pull->setup->options;
        uint64_t limit = options->max_layer_bytes > options->max_module_bytes ? options->max_layer_bytes : options->max_module_bytes;
        if ((uint64_t)st.st_size > limit)
                return refuse(err, ERROR_TOO_LARGE, "%s: has %lld bytes, at most %llu are taken (pull.max_layer_size)", pull->want->name, (long long)st.st_size,
                        (unsigned long long)limit);
        if (!pull_open_writer(pull, limit, (uint64_t)st.st_size, DIGEST_SHA256, &pull->writer, err) || !copy_file(pull, fd, err))
                return false;
        pull->stage_us[STAGE_DOWNLOAD] += clock_get_us() - started_us;
        free(pull->etag);
        pull->etag = TAKE(identity);
        return pull_unpack_body(pull, err);
}
