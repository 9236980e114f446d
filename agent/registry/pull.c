/*
 * How it goes: one request for a manifest, one for a blob; the manifest's identity is our own hash of its exact bytes.
 * How it fails: a status that is no success becomes an error with the registry's words; a body that is not what the digest or size says is ERROR_CHECKSUM_MISMATCH.
 * How it ends: registry_manifest_fini() frees what a manifest holds; a blob's bytes belong to the sink.
 *
 * Rules: [oci] 1.4, 1.5, 1.8; one Accept line with exactly the four types (distribution answers 404 to less and to more: measured).
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

static const struct fetch_header manifest_headers[] = { {
        "Accept", "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, "
                  "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json",
} };

char *url_format(const struct registry_call *call, const char *kind, const char *name)
{
        CLEANUP(buffer_fini) struct buffer url = { 0 };
        CLEANUP(cleanup_free) char *root = endpoint_format_root(call);

        buffer_printf(&url, "%s/%s/%s/%s", root, call->path, kind, name);
        if (call->mirror_of) {
                buffer_append_text(&url, "?ns=");
                percent_append(&url, call->mirror_of);
        }
        return buffer_take(&url);
}

/* "Warning: 299 - …": told at debug, never acted upon ([oci] 1.4). */
static void warnings_log(const struct registry_call *call, const char *url, const struct session_result *result)
{
        char text[256];
        const char *warning = fetch_response_get_header(result->response, "Warning", 0);

        if (warning && !echo_has(call->login, result->authorization, warning, strlen(warning)))
                LOG_DEBUG("registry_warning", LOG_TEXT("url", url), LOG_TEXT("warning", string_printable(warning, strlen(warning), text, sizeof text)));
}

bool content_run(const struct registry_call *call, const struct fetch_request *request, struct sink *sink, struct fetch_response **ret_response, struct error *err)
{
        CLEANUP(session_result_fini) struct session_result result = { 0 };

        if (!session_run(call, request, sink, &result, err))
                return false;
        warnings_log(call, request->url, &result);

        int status = fetch_response_get_status(result.response);
        bool ok = status == 200 || (status == 206 && request->resume);
        if (!ok) {
                CLEANUP(cleanup_free) char *what = string_format("%s %.*s", method_get_name(request->method), (int)strcspn(request->url, "?"), request->url);
                struct answer answer = { what, call->login, result.response, result.authorization };
                answer_refuse(&answer, err);
        }
        *ret_response = TAKE(result.response);
        return ok;
}

/* What a HEAD or a lying registry says is a hint: only compared, or used to find that nothing changed. */
static bool told_digest(const struct fetch_response *response, struct digest *ret_digest)
{
        const char *header = fetch_response_get_header(response, "Docker-Content-Digest", 0);
        struct error ignored;

        return header && digest_parse(header, strlen(header), ERROR_UPSTREAM_ERROR, ret_digest, &ignored);
}

static bool name_digest(const char *name, struct digest *ret_digest)
{
        struct error ignored;
        return strchr(name, ':') && digest_parse(name, strlen(name), ERROR_BAD_URL, ret_digest, &ignored);
}

static bool manifest_identify(const char *url, const char *name, const struct fetch_response *response, struct registry_manifest *manifest, struct error *err)
{
        struct digest named = { 0 }, told = { 0 }, found;
        bool by_digest = name_digest(name, &named);
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(by_digest ? named.algorithm : DIGEST_SHA256);
        char text[DIGEST_TEXT_BYTES];

        hasher_update(hasher, manifest->bytes.data ? manifest->bytes.data : "", manifest->bytes.used);
        hasher_finish(hasher, &found);
        digest_format(&found, text);
        if (by_digest && !digest_equal(&named, &found))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "GET %.*s: the %zu bytes that came have the digest %s", (int)strcspn(url, "?"), url, manifest->bytes.used, text);
        if (told_digest(response, &told) && told.algorithm == found.algorithm && !digest_equal(&told, &found))
                LOG_DEBUG("registry_lies", LOG_TEXT("url", url), LOG_TEXT("digest", &text[0]));
        manifest->digest = found;
        return true;
}

static bool manifest_get(const struct registry_call *call, const char *url, const char *name, struct registry_manifest *ret_manifest, struct error *err)
{
        CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct sink_buffer sink;
        struct fetch_request request = {
                .method = FETCH_GET, .url = url, .headers = manifest_headers, .header_count = COUNT_OF(manifest_headers), .size_limit = MANIFEST_BYTES_MAX, .size_expected = -1,
                .deadline_ms = call->deadline_ms, .redirects_max = FETCH_REDIRECTS_MAX, .cancel = call->cancel,
        };

        manifest.bytes.limit = MANIFEST_BYTES_MAX;
        sink_buffer_init(&sink, &manifest.bytes, "manifest");
        if (!content_run(call, &request, &sink.sink, &response, err) || !manifest_identify(url, name, response, &manifest, err))
                return false;
        manifest.content_type = string_copy(fetch_response_get_header(response, "Content-Type", 0));
        *ret_manifest = manifest;
        manifest = (struct registry_manifest){ 0 };
        return true;
}

/* 405 and 501: HEAD is not known here. A refusal by whom we were redirected to: pre-signed for GET only (moby/moby#50065). */
static bool is_head_unable(const struct fetch_response *response, const char *url)
{
        CLEANUP(cleanup_free) char *here = fetch_url_origin(url), *there = fetch_url_origin(fetch_response_get_url(response));
        int status = fetch_response_get_status(response);

        return status == 405 || status == 501 || (status >= 400 && status != 429 && here && there && strcmp(here, there) != 0);
}

static bool manifest_head(const struct registry_call *call, const char *url, const char *name, struct registry_manifest *ret_manifest, struct error *err)
{
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct digest told = { 0 }, named = { 0 };
        struct fetch_request request = {
                .method = FETCH_HEAD, .url = url, .headers = manifest_headers, .header_count = COUNT_OF(manifest_headers), .size_limit = MANIFEST_BYTES_MAX, .size_expected = -1,
                .deadline_ms = call->deadline_ms, .redirects_max = FETCH_REDIRECTS_MAX, .cancel = call->cancel,
        };

        if (!content_run(call, &request, NULL, &response, err)) {
                if (!response || !is_head_unable(response, url))
                        return false;
                *err = (struct error){ 0 };
                return manifest_get(call, url, name, ret_manifest, err);
        }

        /* Asked by digest, another digest in the answer is no answer. */
        if (!told_digest(response, &told) || (name_digest(name, &named) && !digest_equal(&told, &named)))
                told = (struct digest){ 0 };
        ret_manifest->digest = told;
        ret_manifest->content_type = string_copy(fetch_response_get_header(response, "Content-Type", 0));
        ret_manifest->bytes = (struct buffer){ 0 };
        return true;
}

bool registry_fetch_manifest(const struct registry_call *call, const char *name, bool head_only, struct registry_manifest *ret_manifest, struct error *err)
{
        CLEANUP(cleanup_free) char *url = url_format(call, "manifests", name);

        return head_only ? manifest_head(call, url, name, ret_manifest, err) : manifest_get(call, url, name, ret_manifest, err);
}

void registry_manifest_fini(struct registry_manifest *manifest)
{
        free(manifest->content_type);
        buffer_fini(&manifest->bytes);
        *manifest = (struct registry_manifest){ 0 };
}

/* Counts what the owner of the real sink got, so that "exactly size_bytes" is our own finding. */
struct sink_count { struct sink sink; struct sink *target; uint64_t count; };

static bool count_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct sink_count *self = CONTAINER_OF(sink, struct sink_count, sink);

        self->count += size_bytes;
        return self->target->write(self->target, bytes, size_bytes, err);
}

static bool count_restart(struct sink *sink, struct error *err)
{
        struct sink_count *self = CONTAINER_OF(sink, struct sink_count, sink);

        self->count = 0;
        return self->target->restart(self->target, err);
}

bool registry_fetch_blob(const struct registry_call *call, const struct descriptor *descriptor, struct sink *sink, struct error *err)
{
        if (descriptor->data.data)
                return descriptor->data.used == 0 || sink->write(sink, descriptor->data.data, descriptor->data.used, err);
        if (descriptor->size_bytes > INT64_MAX)
                return refuse(err, ERROR_TOO_LARGE, "blob: %llu bytes", (unsigned long long)descriptor->size_bytes);

        char digest[DIGEST_TEXT_BYTES];
        digest_format(&descriptor->digest, digest);

        CLEANUP(cleanup_free) char *url = url_format(call, "blobs", digest);
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct sink_count count = { { count_write, sink->restart ? count_restart : NULL }, sink, 0 };
        struct fetch_request request = {
                .method = FETCH_GET, .url = url, .size_limit = descriptor->size_bytes, .size_expected = (int64_t)descriptor->size_bytes, .deadline_ms = call->deadline_ms,
                .redirects_max = FETCH_REDIRECTS_MAX, .resume = true, .cancel = call->cancel, .progress = call->progress, .progress_arg = call->progress_arg,
        };

        if (!content_run(call, &request, &count.sink, &response, err))
                return false;
        if (count.count != descriptor->size_bytes)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "GET %.*s: %llu bytes instead of %llu", (int)strcspn(url, "?"), url, (unsigned long long)count.count,
                        (unsigned long long)descriptor->size_bytes);
        return true;
}
