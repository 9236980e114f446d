/*
 * How it goes: the signatures that lie beside a url or file under its name with a suffix, one after the other until the demands are met: bundles, then `.sig`, then what is
 *              switched on. [sig] 8
 * How it fails: nothing there (404, 410; 403 of a private bucket) is absent and told; any other failure is "could not look".
 * How it ends: what was read is the pull's.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasmcached/fetch.h>
#include "prove.h"

static const struct sidecar { const char *suffix; enum trust_form form; unsigned formats; } sidecars[] = {
        { ".sigstore.json", TRUST_FORM_SIDECAR_BUNDLE, 1u << TRUST_BUNDLE },
        { ".sigstore", TRUST_FORM_SIDECAR_BUNDLE, 1u << TRUST_BUNDLE },
        { ".sig", TRUST_FORM_SIDECAR_SIG, 1u << TRUST_RAW | 1u << TRUST_DETACHED },
        { ".bundle", TRUST_FORM_SIDECAR_LEGACY, 1u << TRUST_LEGACY_BUNDLE },
        { ".minisig", TRUST_FORM_SIDECAR_MINISIG, 1u << TRUST_MINISIGN },
};

enum look_result { LOOK_FOUND, LOOK_ABSENT, LOOK_FAILED };

static enum look_result look_at_url(struct pull *pull, const char *url, int64_t deadline_ms, struct buffer *body, struct error *err)
{
        struct sink_buffer sink;
        struct fetch_request request = {
                .method = FETCH_GET, .url = url, .size_limit = PROVE_BODY_MAX_BYTES, .size_expected = -1, .redirects_max = FETCH_REDIRECTS_MAX, .cancel = pull->cancel,
                .deadline_ms = deadline_ms,
        };
        body->limit = PROVE_BODY_MAX_BYTES;
        sink_buffer_init(&sink, body, "signature");
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        if (!fetch_run(pull->setup->fetch, &request, &sink.sink, &response, err))
                return LOOK_FAILED;
        int status = fetch_response_get_status(response);
        if (status == 200)
                return LOOK_FOUND;
        if (status == 404 || status == 410 || status == 403) {
                proving_note_looked(pull->proving, "%s %d", url, status);
                return LOOK_ABSENT;
        }
        refuse(err, ERROR_UPSTREAM_ERROR, "GET %s: HTTP %d", url, status);
        err->retry_after_s = fetch_response_get_retry_after(response);
        return LOOK_FAILED;
}

static enum look_result look_at_file(struct pull *pull, const char *path, struct buffer *body, struct error *err)
{
        CLEANUP(cleanup_close) int fd = -1;
        struct stat st;
        if (!pull_open_file(pull, path, &fd, err)) {
                if (err->code != ERROR_NOT_FOUND)
                        return LOOK_FAILED;
                proving_note_looked(pull->proving, "%s absent", path);
                return LOOK_ABSENT;
        }
        if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > PROVE_BODY_MAX_BYTES) {
                refuse(err, ERROR_TOO_LARGE, "%s: is no regular file of at most %d bytes", path, PROVE_BODY_MAX_BYTES);
                return LOOK_FAILED;
        }
        char piece[4096];
        ssize_t got;
        body->limit = PROVE_BODY_MAX_BYTES;
        while ((got = read(fd, piece, sizeof piece)) > 0)
                if (!buffer_append(body, piece, (size_t)got)) {
                        refuse(err, ERROR_TOO_LARGE, "%s: grew beyond %d bytes", path, PROVE_BODY_MAX_BYTES);
                        return LOOK_FAILED;
                }
        if (got < 0)
                return refuse_errno(err, ERROR_UPSTREAM_ERROR, errno, "reading %s", path) ? LOOK_FOUND : LOOK_FAILED;
        return LOOK_FOUND;
}

/* Too large to be one is there and no good; everything else that is no content is "could not look". */
static void note_failure(struct proving *proving, const char *where, const struct error *err)
{
        struct trust_failure failure = { .reason = TRUST_LIMIT };
        if (err->code != ERROR_TOO_LARGE) {
                proving_note_unreachable(proving, err);
                return;
        }
        snprintf(failure.text, sizeof failure.text, "%.390s", err->text);
        for (size_t i = 0; i < proving->demands->count; i++)
                trust_failure_note(&proving->failures[i], &failure);
        proving_note_looked(proving, "%s too large", where);
}

/* Does any demand that is still open take this kind? */
static bool is_wanted(const struct pull *pull, const struct sidecar *sidecar)
{
        for (size_t i = 0; i < pull->demands->count; i++)
                if (!pull->proving->met[i] && (trust_policy_get_options(pull->demands->items[i].policy)->formats & sidecar->formats))
                        return true;
        return false;
}

void prove_look_sidecars(struct pull *pull, void (*arrived)(struct pull *pull, void *arg), void *arg)
{
        bool is_file = pull->want->kind == WANT_FILE;
        int64_t deadline_ms = prove_look_deadline(pull);
        for (size_t i = 0; i < COUNT_OF(sidecars) && !cancel_is_triggered(pull->cancel); i++) {
                struct error err = { 0 };
                CLEANUP(buffer_fini) struct buffer body = { 0 };
                if (!is_wanted(pull, &sidecars[i]))
                        continue;
                CLEANUP(cleanup_free) char *where = string_format("%s%s", is_file ? pull->want->path : pull->want->name, sidecars[i].suffix);
                enum look_result result = is_file ? look_at_file(pull, where, &body, &err) : look_at_url(pull, where, deadline_ms, &body, &err);
                if (result == LOOK_FAILED)
                        note_failure(pull->proving, where, &err);
                if (result != LOOK_FOUND)
                        continue;
                proving_note_looked(pull->proving, "%s", where);
                struct found *found = founds_add(&pull->proving->founds);
                found->target = pull->module;
                found->form = sidecars[i].form;
                found->where = TAKE(where);
                found->body = body;
                body = (struct buffer){ 0 };
                pull->proving->has_news = true;
                arrived(pull, arg);
        }
}
