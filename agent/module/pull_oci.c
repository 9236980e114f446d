/*
 * How it goes: endpoints (endpoint.c), each with the logins of its own host → the manifest, or only its digest where something is known → an index leads to its child →
 *              pins compared → the layer chosen. Then the layer's bytes from the same place, or from one that is for bytes only; size and digest proved over the whole of it
 *              before anything is unpacked. A place that has too many requests is waited for only when no other has helped.
 * How it fails: a login that is refused or shown nothing leads to the next one, any other failure to the next endpoint; the error of the place that came furthest is told, the
 *               origin's before a mirror's.
 * How it ends: what was found is in the pull; logins are wiped by pull_fini().
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "endpoint.h"
#include <wasmcached/fetch.h>
#include <wasmcached/unpack.h>

enum { INDEX_DEPTH_MAX = 3 };
enum patience { HASTY, PATIENT };                 /* the rounds through the places */

static void progress(void *arg, uint64_t received, int64_t total)
{
        struct pull *pull = arg;
        atomic_store_explicit(&pull->received, received, memory_order_relaxed);
        atomic_store_explicit(&pull->total, total, memory_order_relaxed);
}

struct registry_call pull_make_call(struct pull *pull, const struct endpoint *endpoint)
{
        return (struct registry_call){
                .registry = pull->setup->registry,
                .endpoint = endpoint->url,
                .is_root = endpoint->is_root,
                .reach = endpoint->reach,
                .no_wait = endpoint->no_wait,
                .path = pull->want->reference.path,
                .mirror_of = endpoint->is_mirror ? pull->want->reference.host : NULL,
                .login = endpoint->login < endpoint->count ? &endpoint->logins[endpoint->login] : NULL,
                .cancel = pull->cancel,
                .deadline_ms = pull->deadline_ms,
        };
}

/* ---- resolve ---- */

/* How far a place came; the error of the furthest is the one worth reading. */
enum reach { REACH_NONE, REACH_TOP, REACH_CHILD, REACH_PROVED };

static bool refuse_pin(const struct pull *pull, struct error *err)
{
        char want[DIGEST_TEXT_BYTES], top[DIGEST_TEXT_BYTES], child[DIGEST_TEXT_BYTES];
        digest_format(&pull->want->pin, want);
        digest_format(&pull->top, top);
        digest_format(&pull->manifest_digest, child);
        if (digest_equal(&pull->top, &pull->manifest_digest))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s is the manifest %s, but %s was asked for", pull->want->name, top, want);
        return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s is the index %s with the image %s for this host, but %s was asked for", pull->want->name, top, child, want);
}

static bool take_manifest(struct pull *pull, struct registry_manifest *fetched, struct error *err)
{
        manifest_fini(&pull->manifest);
        pull->manifest = (struct manifest){ 0 };
        if (!manifest_parse(fetched->bytes.data ? fetched->bytes.data : "", fetched->bytes.used, fetched->content_type, &pull->manifest, err))
                return refuse_within(err, "%s", pull->want->name);
        pull->manifest_digest = fetched->digest;
        free(pull->document);
        pull->document = buffer_take(&fetched->bytes);
        free(pull->media_type);
        pull->media_type = string_copy(pull->manifest.media_type ? pull->manifest.media_type : "");
        return true;
}

/* One digest, two readings: whoever looked at the index saw something else (GHSA-77vh-xpmg-72qh). */
static bool refuse_child_type(const struct pull *pull, const char *name, const char *promised, struct error *err)
{
        char says[128], is[128];
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "%s: the manifest %s is a %s, its index calls it a %s", pull->want->name, name,
                      string_printable(pull->media_type, strlen(pull->media_type), is, sizeof is), string_printable(promised, strlen(promised), says, sizeof says));
}

/* Embedded data were compared with size and digest when the index was read. */
static bool fetch_child(const struct registry_call *call, const struct descriptor *child, const char *name, struct registry_manifest *ret_manifest, struct error *err)
{
        if (!child->data.data)
                return registry_fetch_manifest(call, name, false, ret_manifest, err);
        buffer_append(&ret_manifest->bytes, child->data.data, child->data.used);
        ret_manifest->digest = child->digest;
        ret_manifest->content_type = string_copy(child->media_type);
        return true;
}

/* From an index down to the image for a proxy here; digest and size of each child are its parent's word. */
static bool walk_index(struct pull *pull, const struct registry_call *call, struct error *err)
{
        for (unsigned depth = 0; pull->manifest.kind == MANIFEST_INDEX; depth++) {
                const struct descriptor *child;
                if (depth == INDEX_DEPTH_MAX)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "%s: indexes are nested more than %d deep", pull->want->name, INDEX_DEPTH_MAX);
                if (!manifest_choose_child(&pull->manifest, &child, err))
                        return refuse_within(err, "%s", pull->want->name);

                char name[DIGEST_TEXT_BYTES];
                digest_format(&child->digest, name);
                CLEANUP(cleanup_free) char *promised = string_copy(child->media_type);    /* the index goes when its child is taken */
                CLEANUP(registry_manifest_fini) struct registry_manifest fetched = { 0 };
                if (!fetch_child(call, child, name, &fetched, err))
                        return false;
                if (fetched.bytes.used != child->size_bytes)
                        return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the manifest %s has %zu bytes, its index says %llu", pull->want->name, name, fetched.bytes.used,
                                      (unsigned long long)child->size_bytes);
                if (!take_manifest(pull, &fetched, err))
                        return false;
                if (promised && *promised && *pull->media_type && strcmp(promised, pull->media_type) != 0)
                        return refuse_child_type(pull, name, promised, err);
        }
        return true;
}

static bool choose_layer(struct pull *pull, struct error *err)
{
        if (!manifest_choose_layer(&pull->manifest, &pull->layer, &pull->form, err))
                return refuse_within(err, "%s", pull->want->name);

        const struct modules_options *options = &pull->setup->options;
        uint64_t limit = pull->form == LAYER_WASM && options->max_module_bytes < options->max_layer_bytes ? options->max_module_bytes : options->max_layer_bytes;
        if (pull->layer->size_bytes > limit)
                return refuse(err, ERROR_TOO_LARGE, "%s: the layer has %llu bytes, at most %llu are taken (pull.max_%s_size)", pull->want->name,
                        (unsigned long long)pull->layer->size_bytes, (unsigned long long)limit, limit == options->max_layer_bytes ? "layer" : "module");
        free(pull->layer_type);
        pull->layer_type = string_copy(pull->layer->media_type ? pull->layer->media_type : "");
        return true;
}

static bool unchanged(struct pull *pull)
{
        pull->top = pull->known_top;
        pull->manifest_digest = pull->known_manifest;
        pull->module = pull->known_module;
        pull->outcome = PULL_UNCHANGED;
        return true;
}

/* Who may not have an image learns neither that it is here nor its digest: the error of a proof reads like that of a first pull. */
static void hide_proof(const struct pull *pull, const char *digest, struct error *err)
{
        char asked[DIGEST_TEXT_BYTES];
        digest_format(&pull->want->reference.digest, asked);
        const char *name = digest_is_set(&pull->want->reference.digest) ? asked : pull->want->reference.tag;
        bool is_head = string_starts_with(err->text, "HEAD ");
        const char *start = is_head ? err->text + strlen("HEAD ") : err->text, *at = strstr(start, digest);
        CLEANUP(cleanup_free) char *text = at ? string_format("%s%.*s%s%s", is_head ? "GET " : "", (int)(at - start), start, name, at + strlen(digest)) :
                                                string_format("%s%s", is_head ? "GET " : "", start);
        snprintf(err->text, sizeof err->text, "%s", text);
}

/* The digest asked for in the answer, or the bytes themselves: a bare 200 is also what a login page says. */
static bool check_digest(const struct registry_call *call, const char *name, struct error *err)
{
        CLEANUP(registry_manifest_fini) struct registry_manifest head = { 0 }, whole = { 0 };
        return registry_fetch_manifest(call, name, true, &head, err) && (digest_is_set(&head.digest) || registry_fetch_manifest(call, name, false, &whole, err));
}

/* Does the place still say what is known? A HEAD is enough to keep what is here, never to take something else. false without error = ask in full. */
static bool check_head(struct pull *pull, const struct registry_call *call, bool *ret_same, struct error *err)
{
        char name[DIGEST_TEXT_BYTES];
        bool by_digest = pull->is_proof || digest_is_set(&pull->want->reference.digest);
        digest_format(&pull->known_top, name);
        *ret_same = false;

        CLEANUP(registry_manifest_fini) struct registry_manifest head = { 0 };
        bool done = by_digest ? check_digest(call, name, err) : registry_fetch_manifest(call, pull->want->reference.tag, true, &head, err);
        if (!done && pull->is_proof) {
                hide_proof(pull, name, err);
                /* Asked in full, the place gives the answer that any stranger gets. */
                return err->code == ERROR_UNAUTHORIZED || err->code == ERROR_NOT_FOUND || err->code == ERROR_CHECKSUM_MISMATCH;
        }
        if (!done)
                return by_digest && err->code == ERROR_NOT_FOUND && !digest_is_set(&pull->want->pin);      /* gone there; what the tag means now is asked in full */
        *ret_same = by_digest || digest_equal(&head.digest, &pull->known_top) || digest_equal(&head.digest, &pull->known_manifest);
        return true;
}

static bool resolve_at(struct pull *pull, const struct registry_call *call, enum reach *ret_reach, struct error *err)
{
        bool is_same = false;
        int64_t started_us = clock_get_us();
        if (digest_is_set(&pull->known_top)) {
                if (!check_head(pull, call, &is_same, err))
                        return false;
                pull->stage_us[STAGE_RESOLVE] += clock_get_us() - started_us;
                if (is_same)
                        return unchanged(pull);
        }

        char digest[DIGEST_TEXT_BYTES];
        const struct reference *reference = &pull->want->reference;
        digest_format(&reference->digest, digest);
        CLEANUP(registry_manifest_fini) struct registry_manifest fetched = { 0 };
        started_us = clock_get_us();
        if (!registry_fetch_manifest(call, digest_is_set(&reference->digest) ? digest : reference->tag, false, &fetched, err))
                return false;
        *ret_reach = REACH_TOP;
        pull->top = fetched.digest;
        pull->leads_to = (struct digest){ 0 };
        pull->is_unled = false;
        if (!take_manifest(pull, &fetched, err) || !walk_index(pull, call, err))
                return false;
        *ret_reach = REACH_CHILD;
        pull->stage_us[STAGE_MANIFEST] += clock_get_us() - started_us;
        if (digest_is_set(&pull->want->pin) && !digest_equal(&pull->want->pin, &pull->top) && !digest_equal(&pull->want->pin, &pull->manifest_digest))
                return refuse_pin(pull, err);
        *ret_reach = REACH_PROVED;
        if (!choose_layer(pull, err))
                return false;
        pull->outcome = PULL_RESOLVED;
        return true;
}

static void note_grant(struct pull *pull, const struct endpoint *endpoint)
{
        pull->grant_mac = (struct digest){ 0 };
        if (endpoint->login >= endpoint->count) {
                pull->grant_kind = GRANT_ANONYMOUS;
                return;
        }
        pull->grant_kind = endpoint->login >= endpoint->own_count ? GRANT_NODE : pull->want->inline_config ? GRANT_INLINE : GRANT_SECRET;
        login_fingerprint(&endpoint->logins[endpoint->login], pull->key, STORE_KEY_BYTES, &pull->grant_mac);
}

/* Credentials one after the other, only as long as they are refused; anonymous only if there are none ([oci] 3.5). Many registries say 404 of what a login may not see, so that
   is tried with the next one too; what came of it is told rather than that a later one was refused. */
static bool resolve_with_logins(struct pull *pull, struct endpoint *endpoint, enum reach *ret_reach, struct error *err)
{
        struct error unseen = { 0 };
        for (endpoint->login = 0; endpoint_has_login(pull, endpoint, err); endpoint->login++) {
                struct registry_call call = pull_make_call(pull, endpoint);
                if (resolve_at(pull, &call, ret_reach, err)) {
                        note_grant(pull, endpoint);
                        return true;
                }
                bool is_unseen = err->code == ERROR_NOT_FOUND && *ret_reach == REACH_NONE;
                if (is_unseen)
                        unseen = *err;
                if ((err->code != ERROR_UNAUTHORIZED && !is_unseen) || cancel_is_triggered(pull->cancel))
                        break;
        }
        if (err->code == ERROR_UNAUTHORIZED && unseen.code != ERROR_NONE)
                *err = unseen;
        return endpoint_refuse(pull, err);
}

/* Is this place to be asked in this round; without waiting in the first one, if another comes behind it. */
static bool endpoint_begin(struct pull *pull, size_t index, unsigned needed, enum patience patience)
{
        struct endpoint *endpoint = &pull->endpoints[index];
        endpoint->no_wait = false;
        for (size_t i = index + 1; i < pull->endpoint_count && patience == HASTY; i++)
                endpoint->no_wait |= (pull->endpoints[i].can & needed) != 0;
        return (endpoint->can & needed) && (patience == HASTY || endpoint->is_limited);
}

static bool endpoint_end(struct endpoint *endpoint, bool is_done, const struct error *failed)
{
        endpoint->is_limited = !is_done && endpoint->no_wait && failed->code == ERROR_RATE_LIMITED;
        endpoint->no_wait = false;
        return is_done;
}

bool pull_oci_resolve(struct pull *pull, struct error *err)
{
        unsigned needed = digest_is_set(&pull->want->reference.digest) ? REGISTRY_CAN_PULL : REGISTRY_CAN_RESOLVE;
        if (!endpoints_find(pull, err))
                return false;

        refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s: registries_dir names no host for it with the capability \"%s\"", pull->want->name,
               needed == REGISTRY_CAN_PULL ? "pull" : "resolve");
        enum reach furthest = REACH_NONE;
        for (enum patience patience = HASTY; patience <= PATIENT; patience++)
                for (pull->endpoint = 0; pull->endpoint < pull->endpoint_count; pull->endpoint++) {
                        struct endpoint *endpoint = &pull->endpoints[pull->endpoint];
                        enum reach reach = REACH_NONE;
                        struct error failed = { 0 };
                        if (!endpoint_begin(pull, pull->endpoint, needed, patience))
                                continue;
                        if (endpoint_end(endpoint, resolve_with_logins(pull, endpoint, &reach, &failed), &failed))
                                return true;
                        if (reach > furthest || (reach == furthest && patience == HASTY)) {
                                furthest = reach;
                                *err = failed;
                        }
                        if (cancel_is_triggered(pull->cancel))
                                return false;
                }
        return false;
}

/* ---- download ---- */

static bool prove_layer(struct pull *pull, const struct digest *found, uint64_t size_bytes, struct error *err)
{
        char expected[DIGEST_TEXT_BYTES], got[DIGEST_TEXT_BYTES];
        digest_format(&pull->layer->digest, expected);
        digest_format(found, got);
        if (size_bytes != pull->layer->size_bytes)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the layer %s has %llu bytes, its manifest says %llu", pull->want->name, expected, (unsigned long long)size_bytes,
                              (unsigned long long)pull->layer->size_bytes);
        if (!digest_equal(&pull->layer->digest, found))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the layer that came is %s, its manifest says %s", pull->want->name, got, expected);
        return true;
}

static bool check_raw(struct pull *pull, struct error *err)
{
        uint8_t head[512] = { 0 };
        size_t size = pull->module_bytes < sizeof head ? (size_t)pull->module_bytes : sizeof head;
        if (!fs_pread_all(blob_writer_get_fd(pull->writer), head, size, 0))
                return refuse_errno(err, ERROR_INTERNAL, errno, "reading the layer back from the store");
        return unpack_check_wasm(head, size, pull->module_bytes, err) || refuse_within(err, "%s", pull->want->name);
}

/* The layer is the module: its file is the one that stays. */
static bool download_raw(struct pull *pull, const struct registry_call *call, struct error *err)
{
        struct digest found;
        if (!pull_open_writer(pull, pull->layer->size_bytes, pull->layer->size_bytes, pull->layer->digest.algorithm, &pull->writer, err) ||
            !registry_fetch_blob(call, pull->layer, blob_writer_get_sink(pull->writer), err))
                return false;
        return blob_writer_finish(pull->writer, &found, &pull->module, &pull->module_bytes, err) && prove_layer(pull, &found, pull->module_bytes, err) && check_raw(pull, err);
}

static bool download_boxed(struct pull *pull, const struct registry_call *call, struct error *err)
{
        struct digest found;
        uint64_t size_bytes;
        return pull_open_writer(pull, pull->layer->size_bytes, pull->layer->size_bytes, pull->layer->digest.algorithm, &pull->scratch, err) &&
               registry_fetch_blob(call, pull->layer, blob_writer_get_sink(pull->scratch), err) && blob_writer_finish(pull->scratch, &found, NULL, &size_bytes, err) &&
               prove_layer(pull, &found, size_bytes, err);
}

static bool unbox(struct pull *pull, struct error *err)
{
        static const enum unpack_box boxes[] = { [LAYER_WASM] = UNPACK_PLAIN, [LAYER_TAR] = UNPACK_PLAIN, [LAYER_TAR_GZIP] = UNPACK_GZIP, [LAYER_TAR_ZSTD] = UNPACK_ZSTD };
        struct unpack_source source = { .fd = blob_writer_get_fd(pull->scratch), .size_bytes = pull->layer->size_bytes };
        source.expanded = digest_is_set(&pull->diff_id) ? &pull->diff_id : NULL;
        struct unpack_limits limits = unpack_limits_default;
        limits.module_max_bytes = pull->setup->options.max_module_bytes;
        if (!pull_open_writer(pull, limits.module_max_bytes, 0, DIGEST_SHA256, &pull->writer, err))
                return false;
        if (!unpack_layer(&source, boxes[pull->form], &limits, pull->cancel, blob_writer_get_sink(pull->writer), err))
                return refuse_within(err, "%s", pull->want->name);
        if (!blob_writer_finish(pull->writer, NULL, &pull->module, &pull->module_bytes, err))
                return false;
        blob_writer_free(&pull->scratch);
        return true;
}

/* What the image's config says the layer unpacks to. A registry that has lost the config still has the layer, whose digest is proved anyway. */
static bool find_diff_id(struct pull *pull, const struct registry_call *call, struct error *err)
{
        const struct descriptor *config = &pull->manifest.config;
        CLEANUP(buffer_fini) struct buffer bytes = { .limit = CONFIG_BYTES_MAX };
        struct sink_buffer sink;
        struct digest found;
        pull->diff_id = (struct digest){ 0 };
        if (!image_config_is_wanted(&pull->manifest))
                return true;
        if (config->size_bytes > CONFIG_BYTES_MAX)
                return refuse(err, ERROR_TOO_LARGE, "%s: the image's config has %llu bytes, at most %d are read", pull->want->name, (unsigned long long)config->size_bytes,
                              CONFIG_BYTES_MAX);
        sink_buffer_init(&sink, &bytes, "image config");
        if (!registry_fetch_blob(call, config, &sink.sink, err))
                return err->code == ERROR_NOT_FOUND;

        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(config->digest.algorithm);
        hasher_update(hasher, bytes.data ? bytes.data : "", bytes.used);
        hasher_finish(hasher, &found);
        if (!digest_equal(&found, &config->digest))
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%s: the image's config is not what its digest in the manifest says", pull->want->name);
        return image_config_find_diff_id(&bytes, &pull->manifest, pull->layer, &pull->diff_id, err) || refuse_within(err, "%s", pull->want->name);
}

static bool download_from(struct pull *pull, struct endpoint *endpoint, struct error *err)
{
        struct registry_call call = pull_make_call(pull, endpoint);
        if (pull->form != LAYER_WASM && !find_diff_id(pull, &call, err))
                return false;
        call.progress = progress;
        call.progress_arg = pull;
        return pull->form == LAYER_WASM ? download_raw(pull, &call, err) : download_boxed(pull, &call, err);
}

/* Those before the one that resolved have failed already, unless they only pull and were not asked for a tag. */
static bool may_deliver(const struct pull *pull, size_t index)
{
        const struct endpoint *endpoint = &pull->endpoints[index];
        bool was_asked = digest_is_set(&pull->want->reference.digest) || (endpoint->can & REGISTRY_CAN_RESOLVE);
        return (endpoint->can & REGISTRY_CAN_PULL) && (index >= pull->endpoint || !was_asked);
}

static bool download_with_logins(struct pull *pull, struct endpoint *endpoint, struct error *err)
{
        for (endpoint->login = 0; endpoint_has_login(pull, endpoint, err); endpoint->login++) {
                if (download_from(pull, endpoint, err))
                        return true;
                if ((err->code != ERROR_UNAUTHORIZED && err->code != ERROR_NOT_FOUND) || cancel_is_triggered(pull->cancel))
                        break;
        }
        return endpoint_refuse(pull, err);
}

/* The bytes are named by their digest, so any endpoint will do when the one that resolved cannot deliver, and those that are for bytes only come before it. */
bool pull_oci_download(struct pull *pull, struct error *err)
{
        int64_t started_us = clock_get_us();
        bool done = false;
        refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s: registries_dir names no host for it with the capability \"pull\"", pull->want->name);
        for (enum patience patience = HASTY; patience <= PATIENT && !done; patience++)
                for (size_t at = 0; !done && at < pull->endpoint_count && !cancel_is_triggered(pull->cancel); at++) {
                        struct endpoint *endpoint = &pull->endpoints[at];
                        if (may_deliver(pull, at) && endpoint_begin(pull, at, REGISTRY_CAN_PULL, patience))
                                done = endpoint_end(endpoint, at == pull->endpoint ? download_from(pull, endpoint, err) : download_with_logins(pull, endpoint, err), err);
                }
        pull->stage_us[STAGE_DOWNLOAD] += clock_get_us() - started_us;
        if (!done)
                return false;

        started_us = clock_get_us();
        if (pull->form != LAYER_WASM && !unbox(pull, err))
                return false;
        pull->stage_us[STAGE_UNPACK] += clock_get_us() - started_us;
        pull->leads_to = pull->module;
        pull->outcome = PULL_STORED;
        return true;
}
