/*
 * How it goes: resolve → (the loop looks whether it is here and makes room) → download, prove, unpack → (room for the true size) → commit: blob, then rows. Each step is a
 *              straight-line function that blocks; the flight calls the next one.
 * How it fails: the first failure ends the step with an error; nothing uncommitted survives, the writers are freed with the pull.
 * How it ends: pull_fini() on the loop.
 */
#include <stdlib.h>
#include <string.h>
#include "prove.h"
#include "seal.h"

const char *pull_get_coordinate(const struct pull *pull)
{
        return pull->keys && pull->keys->coordinate ? pull->keys->coordinate : pull->want->secret_name;
}

void pull_get_rows(const struct pull *pull, struct pull_rows *ret_rows)
{
        const struct module_want *want = pull->want;
        *ret_rows = (struct pull_rows){
                .image = { .manifest = pull->manifest_digest,
                        .top = pull->top,
                        .module = pull->module,
                        .layer = pull->layer ? pull->layer->digest : (struct digest){ 0 },
                        .media_type = pull->media_type ? pull->media_type : "",
                        .layer_type = pull->layer_type ? pull->layer_type : "",
                        .document = pull->document ? pull->document : "" },
                .reference = { .name = want->name,
                        .top = pull->top,
                        .manifest = pull->manifest_digest,
                        .module = pull->module,
                        .etag = pull->etag ? pull->etag : "",
                        .checked_s = pull->now_s },
                .grant = { .manifest = digest_is_set(&pull->manifest_digest) ? pull->manifest_digest : pull->module,
                        .repository = want->repository,
                        .kind = grant_kind_names[pull->grant_kind],
                        .namespace = pull->grant_kind == GRANT_SECRET ? pull->namespace : "",
                        .secret = pull->grant_kind == GRANT_SECRET ? pull_get_coordinate(pull) : "",
                        .credential_mac = pull->grant_mac,
                        .granted_s = pull->now_s,
                        .last_ok_s = pull->now_s },
                .resource = { .namespace = pull->namespace,
                        .name = want->resource_name,
                        .version = want->resource_version,
                        .reference = want->name,
                        .module = pull->module,
                        .manifest = pull->manifest_digest },
        };
}

static bool pull_commit(struct pull *pull, struct error *err)
{
        struct pull_rows rows;
        pull->now_s = clock_get_wall_s();
        /* The last look: nothing becomes a hit that is not proved. */
        if (!prove_module(pull, err))
                return false;
        pull_get_rows(pull, &rows);
        if (digest_is_set(&pull->leads_to) && digest_equal(&pull->leads_to, &pull->module))
                seal_image(store_get_seal_key(pull->store), &rows.image);
        struct store_commit commit = {
                .writer = pull->writer,
                .image = pull->wants_image_row ? &rows.image : NULL,
                .reference = pull->wants_reference_row ? &rows.reference : NULL,
                .grant = pull->wants_grant_row ? &rows.grant : NULL,
                .resource = pull->wants_resource_row ? &rows.resource : NULL,
                .lease = pull->first.is_wanted ? &pull->first.lease : NULL,
                .ret_is_linked = &pull->first.is_linked,
        };
        pull->has_committed = commit.writer || commit.image || commit.reference || commit.grant || commit.resource;
        if (pull->has_committed && !store_commit(pull->store, &commit, &pull->row, err))
                return false;
        struct error unsaved = { 0 };
        if (!prove_save(pull, &unsaved))          /* it is proved all the same; after a restart the source is asked again */
                LOG_WARN("evidence not saved", LOG_TEXT("url", pull->want->name), LOG_TEXT("detail", unsaved.text));
        pull->outcome = PULL_COMMITTED;
        return true;
}

static bool pull_download(struct pull *pull, struct error *err)
{
        switch (pull->want->kind) {
        case WANT_OCI:
                return pull_oci_download(pull, err);
        case WANT_HTTP:
                return pull_http_download(pull, err);
        default:
                return pull_file_download(pull, err);
        }
}

/* The content is here; what cannot be reached is its signatures. */
static bool is_passing(const struct error *err)
{
        static const enum error_code passing[] = { ERROR_UPSTREAM_UNREACHABLE, ERROR_UPSTREAM_ERROR, ERROR_TIMEOUT, ERROR_RATE_LIMITED };
        for (size_t i = 0; i < COUNT_OF(passing); i++)
                if (err->code == passing[i])
                        return true;
        return false;
}

static void tell_unreachable(struct pull *pull)
{
        if (!pull->is_for_signatures || !is_passing(&pull->err))
                return;
        struct error was = pull->err;
        prove_refuse_unreachable(pull, &was, &pull->err);
}

static bool has_login_in(const struct endpoint *endpoint, const struct pull *pull)
{
        for (size_t i = 0; i < endpoint->count; i++)
                if (login_is_repeated(&endpoint->logins[i], pull->want->name, pull->err.text))
                        return true;
        return false;
}

void pull_hide_credentials(struct pull *pull)
{
        bool found = has_login_in(&pull->signatures, pull);
        for (size_t i = 0; i < pull->endpoint_count; i++)
                found = found || has_login_in(&pull->endpoints[i], pull);
        unsigned retry_after_s = pull->err.retry_after_s;
        if (found)
                refuse(&pull->err, pull->err.code, "%s: failed; the registry's words are left out: they repeat a credential", pull->want->name);
        pull->err.retry_after_s = retry_after_s;
}

void pull_run(struct job *job)
{
        ON_WORKER();
        struct pull *pull = CONTAINER_OF(job, struct pull, job);
        bool done = false;
        int64_t started_us = clock_get_us();

        pull->outcome = PULL_FAILED;
        pull->err = (struct error){ 0 };
        if (!prove_keys(pull, &pull->err))
                return;
        switch (pull->step) {
        case PULL_PROVE:
                pull->outcome = prove_stored(pull) ? PULL_UNCHANGED : PULL_UNPROVED;
                return;
        case PULL_RESOLVE:
                lead_check_known(pull);
                done = pull_oci_resolve(pull, &pull->err) && prove_image(pull, &pull->err);
                break;
        case PULL_DOWNLOAD:
                done = pull_download(pull, &pull->err);
                break;
        case PULL_COMMIT:
                done = pull_commit(pull, &pull->err);
                pull->stage_us[STAGE_COMMIT] += clock_get_us() - started_us;
                break;
        }
        if (done)
                return;
        pull->outcome = PULL_FAILED;
        /* What was here before may stand in (stale_if_error), if it is signed: after a restart or reload nobody may have judged it yet. */
        if (is_passing(&pull->err) && pull->setup->options.stale_if_error_ms > 0 && digest_is_set(&pull->known_module))
                prove_stored(pull);
        tell_unreachable(pull);
        pull_hide_credentials(pull);
}

bool pull_open_writer(struct pull *pull, uint64_t limit, uint64_t hint, enum digest_algorithm algorithm, struct blob_writer **ret_writer, struct error *err)
{
        struct blob_writer_options options = {
                .size_limit = limit,
                .size_hint = hint,
                .algorithm = algorithm,
                .scratch = ret_writer == &pull->scratch,
                .has_bursts = ret_writer != &pull->scratch && !pull->scratch,            /* from a socket, not out of a box */
                .what = ret_writer == &pull->scratch ? "layer" : "module",
        };
        blob_writer_free(ret_writer);
        return blob_writer_open(pull->store, &options, ret_writer, err);
}

void endpoint_fini(struct endpoint *endpoint)
{
        free(TAKE(endpoint->url));
        free(TAKE(endpoint->host));
        free(TAKE(endpoint->path));
        logins_free(&endpoint->logins, endpoint->count);
}

void pull_fini(struct pull *pull)
{
        for (size_t i = 0; i < pull->endpoint_count; i++)
                endpoint_fini(&pull->endpoints[i]);
        endpoint_fini(&pull->signatures);
        free(TAKE(pull->endpoints));
        pull->endpoint_count = 0;
        manifest_fini(&pull->manifest);
        proving_free(&pull->proving);
        free(TAKE(pull->known_met));
        blob_writer_free(&pull->scratch);
        blob_writer_free(&pull->writer);
        free(TAKE(pull->document));
        free(TAKE(pull->media_type));
        free(TAKE(pull->layer_type));
        free(TAKE(pull->etag));
        free(TAKE(pull->known_etag));
        free(TAKE(pull->namespace));
}
