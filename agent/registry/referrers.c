/*
 * How it goes: the referrers API is asked page by page; when it knows nothing that may be a signature, the fallback tag <algorithm>-<hex> is asked too. Entries are taken out of
 *              the indexes, each digest once, and ordered by how likely they are signatures.
 * How it fails: a registry without the API, or a tag that is absent or no index, is no failure: the notes say so. What could not be looked at is: refused logins, broken or endless
 *               answers, pages elsewhere. More than REFERRERS_MAX entries end the search: is_over_limit, and the caller refuses.
 * How it ends: registry_referrers_fini() frees the entries. Nothing here is believed: whoever fetches an entry checks digest, size and subject.
 *
 * Rules: [sig] 3.2, 9.2.7; OCI distribution-spec "Listing Referrers" and "Referrers Tag Schema". Entries of fallback tags have any or no artifactType (sigstore/cosign#4641).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { PAGES_MAX = 32, PAGES_BYTES_MAX = 16 << 20, TYPE_BYTES_MAX = 255, SHOWN_BYTES = 64, TAG_HEX_BYTES = 64 };

#define INDEX_TYPE "application/vnd.oci.image.index.v1+json"
#define PREDICATE_COSIGN "https://sigstore.dev/cosign/sign/v1"

static const struct fetch_header index_headers[] = { { "Accept", INDEX_TYPE } };

static const char *const manifest_types[] = { "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json", NULL };

/* 404: distribution, and zot as it comes; the others are how registries refuse a route that they do not know ([sig] 3.2). */
static const int absent_statuses[] = { 400, 404, 405, 406, 410 };

/* Lower is likelier. RANK_OTHER: a bundle that says itself that it is about something else. It says so unsigned, so it is put last, not left out. */
enum rank { RANK_BUNDLE, RANK_UNTYPED, RANK_CLASSIC, RANK_OTHER, RANK_SKIP };

static enum rank rank_find(const struct registry_referrer *referrer)
{
        const char *type = referrer->artifact_type ? referrer->artifact_type : "";
        enum rank rank = RANK_SKIP;

        if (string_starts_with_nocase(type, "application/vnd.dev.sigstore.bundle"))
                rank = RANK_BUNDLE;
        else if (*type == '\0' || strcasecmp(type, "application/vnd.oci.empty.v1+json") == 0)
                rank = RANK_UNTYPED;
        else if (strcasecmp(type, "application/vnd.dev.cosign.artifact.sig.v1+json") == 0)
                rank = RANK_CLASSIC;
        return rank < RANK_OTHER && referrer->predicate_type && strcmp(referrer->predicate_type, PREDICATE_COSIGN) != 0 ? RANK_OTHER : rank;
}

static void referrer_fini(struct registry_referrer *referrer)
{
        free(TAKE(referrer->media_type));
        free(TAKE(referrer->artifact_type));
        free(TAKE(referrer->predicate_type));
}

static void items_free(struct registry_referrers *referrers)
{
        for (size_t i = 0; i < referrers->count; i++)
                referrer_fini(&referrers->items[i]);
        free(TAKE(referrers->items));
        referrers->count = 0;
}

void registry_referrers_fini(struct registry_referrers *referrers)
{
        items_free(referrers);
        free(referrers->skipped_type);
        *referrers = (struct registry_referrers){ 0 };
}

/* ---- one index */
/* False: no descriptor of a manifest that we could fetch and check. */
static bool entry_read(const struct value *value, struct registry_referrer *ret_referrer)
{
        const char *media_type = NULL, *artifact_type = NULL, *digest = NULL, *predicate = NULL;
        const struct value *annotations = NULL;
        struct digest parsed;
        struct error ignored;
        int64_t size = -1;

        if (value_get_kind(value) != VALUE_MAP || !value_read_text(value, "mediaType", ERROR_UPSTREAM_ERROR, &media_type, &ignored) ||
            !value_read_text(value, "artifactType", ERROR_UPSTREAM_ERROR, &artifact_type, &ignored) || !value_read_text(value, "digest", ERROR_UPSTREAM_ERROR, &digest, &ignored) ||
            !value_read_int(value, "size", ERROR_UPSTREAM_ERROR, &size, &ignored) || !value_read_map(value, "annotations", ERROR_UPSTREAM_ERROR, &annotations, &ignored) ||
            (annotations && !value_read_text(annotations, "dev.sigstore.bundle.predicateType", ERROR_UPSTREAM_ERROR, &predicate, &ignored)))
                return false;
        if (!media_type || !digest || size < 0 || strlen(media_type) > TYPE_BYTES_MAX || (artifact_type && strlen(artifact_type) > TYPE_BYTES_MAX) ||
            !digest_parse(digest, strlen(digest), ERROR_UPSTREAM_ERROR, &parsed, &ignored))
                return false;
        *ret_referrer = (struct registry_referrer){
                .digest = parsed, .size_bytes = (uint64_t)size, .media_type = string_copy(media_type), .artifact_type = string_copy(artifact_type),
                .predicate_type = string_copy(predicate),
        };
        return true;
}

static bool is_manifest_type(const char *media_type)
{
        for (const char *const *type = manifest_types; *type; type++)
                if (strcasecmp(media_type, *type) == 0)
                        return true;
        return false;
}

static void entry_skip(struct registry_referrers *referrers, const struct registry_referrer *referrer)
{
        char shown[TYPE_BYTES_MAX + 1];
        const char *type = referrer->artifact_type && *referrer->artifact_type ? referrer->artifact_type : referrer->media_type;

        referrers->skipped++;
        if (!referrers->skipped_type && type)
                referrers->skipped_type = string_copy(string_printable(type, strlen(type), shown, sizeof shown));
}

/* Behind all that are at least as likely: the registry's order holds among equals. False: it is there already. */
static bool entry_insert(struct registry_referrers *referrers, const struct registry_referrer *referrer)
{
        size_t at = referrers->count;
        enum rank rank = rank_find(referrer);

        for (size_t i = 0; i < referrers->count; i++)
                if (digest_equal(&referrers->items[i].digest, &referrer->digest))
                        return false;
        referrers->items = memory_resize(referrers->items, referrers->count + 1, sizeof *referrers->items);
        for (; at > 0 && rank_find(&referrers->items[at - 1]) > rank; at--)
                referrers->items[at] = referrers->items[at - 1];
        referrers->items[at] = *referrer;
        referrers->count++;
        return true;
}

static void entry_add(struct registry_referrers *referrers, const struct value *value, bool is_tag)
{
        struct registry_referrer referrer = { 0 };
        bool is_read = entry_read(value, &referrer);

        referrer.is_from_tag = is_tag;
        if (!is_read || !is_manifest_type(referrer.media_type) || rank_find(&referrer) == RANK_SKIP)
                entry_skip(referrers, &referrer);
        else if (entry_insert(referrers, &referrer))
                return;
        referrer_fini(&referrer);
}

/* The API has to say so in its Content-Type (a page for people has status 200 too); of the tag's manifest, mediaType or the shape will do where the server knows no types. */
static bool page_is_index(const struct referrers_page *page, const char *header_type, const struct value *document)
{
        const struct value *media_type = value_get_member(document, "mediaType");

        if (media_type && !(value_get_text(media_type) && strcasecmp(value_get_text(media_type), INDEX_TYPE) == 0))
                return false;
        return (header_type && strcasecmp(header_type, INDEX_TYPE) == 0) || (page->is_tag && (media_type || value_get_member(document, "manifests")));
}

static bool header_may_be_index(const struct referrers_page *page, const char *header_type)
{
        if (header_type && strcasecmp(header_type, INDEX_TYPE) == 0)
                return true;
        return page->is_tag && (!header_type || content_type_is_generic(header_type));
}

bool referrers_add(struct registry_referrers *referrers, struct referrers_page *page, struct error *err)
{
        CLEANUP(cleanup_free) char *header_type = content_type_strip(page->content_type);
        CLEANUP(value_free) struct value *document = NULL;

        page->is_index = false;
        if (!header_may_be_index(page, header_type))
                return true;
        if (!json_parse(page->bytes, page->size_bytes, ERROR_UPSTREAM_ERROR, &document, err))
                return refuse_within(err, "index of referrers");
        if (!page_is_index(page, header_type, document))
                return true;

        /* null is what Go programs write for an empty list. */
        const struct value *list = value_get_member(document, "manifests");
        if (!list || (value_get_kind(list) != VALUE_LIST && value_get_kind(list) != VALUE_NULL))
                return refuse(err, ERROR_UPSTREAM_ERROR, "index of referrers: \"manifests\" is missing or no list");
        page->is_index = true;
        page->entries = value_get_count(list);
        referrers->seen += page->entries;
        if (referrers->seen > REFERRERS_MAX) {
                referrers->is_over_limit = true;
                items_free(referrers);
                return true;
        }
        for (size_t i = 0; i < page->entries; i++)
                entry_add(referrers, value_get_item(list, i), page->is_tag);
        return true;
}

/* ---- the API */
struct walk { const struct registry_call *call; struct registry_referrers *referrers; char *urls[PAGES_MAX]; size_t count; uint64_t bytes; };

static void walk_fini(struct walk *walk)
{
        for (size_t i = 0; i < walk->count; i++)
                free(walk->urls[i]);
}

static bool status_is_absent(const struct fetch_response *response)
{
        for (size_t i = 0; i < COUNT_OF(absent_statuses); i++)
                if (fetch_response_get_status(response) == absent_statuses[i])
                        return true;
        return false;
}

/* Only the first answer can say that there is no API; later it is a list that breaks off. */
static bool api_refused(struct walk *walk, const struct fetch_response *response, struct error *err)
{
        struct registry_referrers *referrers = walk->referrers;

        if (!response || !status_is_absent(response))
                return false;
        if (walk->count > 1) {
                err->code = ERROR_UPSTREAM_ERROR;
                return false;
        }
        referrers->is_api_absent = true;
        snprintf(referrers->api_note, sizeof referrers->api_note, "referrers API %d", fetch_response_get_status(response));
        *err = (struct error){ 0 };
        return true;
}

static bool api_no_index(struct walk *walk, const struct fetch_response *response, struct error *err)
{
        struct registry_referrers *referrers = walk->referrers;
        const char *type = fetch_response_get_header(response, "Content-Type", 0);
        char shown[SHOWN_BYTES];

        type = type ? string_printable(type, strlen(type), shown, sizeof shown) : "nothing";
        if (walk->count > 1)
                return refuse(err, ERROR_UPSTREAM_ERROR, "page %zu of the referrers is %s, not an index", walk->count, type);
        referrers->is_api_absent = true;
        snprintf(referrers->api_note, sizeof referrers->api_note, "referrers API 200 with %s", type);
        return true;
}

/* *ret_next is NULL after the last page, and when there is no API. */
static bool api_page(struct walk *walk, char **ret_next, struct error *err)
{
        const struct registry_call *call = walk->call;
        const char *url = walk->urls[walk->count - 1];
        uint64_t room = PAGES_BYTES_MAX - walk->bytes;
        CLEANUP(buffer_fini) struct buffer body = { .limit = MANIFEST_BYTES_MAX };
        CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
        struct sink_buffer sink;
        struct fetch_request request = {
                .method = FETCH_GET, .url = url, .headers = index_headers, .header_count = COUNT_OF(index_headers),
                .size_limit = room < MANIFEST_BYTES_MAX ? room : MANIFEST_BYTES_MAX, .size_expected = -1, .deadline_ms = call->deadline_ms,
                .redirects_max = FETCH_REDIRECTS_MAX, .cancel = call->cancel,
        };

        sink_buffer_init(&sink, &body, "index of referrers");
        if (!content_run(call, &request, &sink.sink, &response, err))
                return api_refused(walk, response, err);
        walk->bytes += body.used;

        struct referrers_page page = { body.data ? body.data : "", body.used, fetch_response_get_header(response, "Content-Type", 0), false, false, 0 };
        bool is_good = referrers_add(walk->referrers, &page, err);
        if (is_good && !page.is_index)
                is_good = api_no_index(walk, response, err);
        else if (is_good && !walk->referrers->is_over_limit)
                is_good = link_follow(call, response, ret_next, err);
        return is_good || refuse_within(err, "GET %.*s", (int)strcspn(url, "?"), url);
}

static bool walk_continue(struct walk *walk, char *next, struct error *err)
{
        CLEANUP(cleanup_free) char *url = next;
        const char *first = walk->urls[0];

        for (size_t i = 0; i < walk->count; i++)
                if (strcmp(walk->urls[i], url) == 0)
                        return refuse(err, ERROR_UPSTREAM_ERROR, "GET %.*s: page %zu leads back to page %zu; the registry's list never ends", (int)strcspn(first, "?"), first,
                                walk->count, i + 1);
        if (walk->count == PAGES_MAX)
                return refuse(err, ERROR_UPSTREAM_ERROR, "GET %.*s: more than %d pages of referrers", (int)strcspn(first, "?"), first, PAGES_MAX);
        walk->urls[walk->count++] = TAKE(url);
        return true;
}

static bool api_ask(const struct registry_call *call, const struct digest *subject, struct registry_referrers *referrers, struct error *err)
{
        char digest[DIGEST_TEXT_BYTES];
        digest_format(subject, digest);
        CLEANUP(walk_fini) struct walk walk = { .call = call, .referrers = referrers, .urls = { url_format(call, "referrers", digest) }, .count = 1 };

        for (;;) {
                char *next = NULL;
                if (!api_page(&walk, &next, err))
                        return false;
                if (!next)
                        break;
                if (!walk_continue(&walk, next, err))
                        return false;
        }
        if (!referrers->is_api_absent)
                snprintf(referrers->api_note, sizeof referrers->api_note, "referrers API %zu %s", referrers->seen, referrers->seen == 1 ? "entry" : "entries");
        return true;
}

/* ---- the tag */
/* <algorithm>-<hex>, the hex cut at 64 digits (distribution-spec "Referrers Tag Schema"). */
static void tag_format(const struct digest *subject, char ret_tag[DIGEST_TEXT_BYTES])
{
        digest_format(subject, ret_tag);
        char *colon = strchr(ret_tag, ':');
        *colon = '-';
        if (strlen(colon + 1) > TAG_HEX_BYTES)
                colon[1 + TAG_HEX_BYTES] = '\0';
}

static bool tag_ask(const struct registry_call *call, const struct digest *subject, struct registry_referrers *referrers, struct error *err)
{
        CLEANUP(registry_manifest_fini) struct registry_manifest manifest = { 0 };
        char tag[DIGEST_TEXT_BYTES];

        tag_format(subject, tag);
        if (!registry_fetch_manifest(call, tag, false, &manifest, err)) {
                /* 406: something is there, in no type that an index has. */
                if (err->code != ERROR_NOT_FOUND && err->code != ERROR_UNSUPPORTED_IMAGE)
                        return false;
                snprintf(referrers->tag_note, sizeof referrers->tag_note, "tag %s %s", tag, err->code == ERROR_NOT_FOUND ? "absent" : "is no index");
                *err = (struct error){ 0 };
                return true;
        }

        struct referrers_page page = { manifest.bytes.data ? manifest.bytes.data : "", manifest.bytes.used, manifest.content_type, true, false, 0 };
        if (!referrers_add(referrers, &page, err))
                return refuse_within(err, "tag %s", tag);
        if (page.is_index)
                snprintf(referrers->tag_note, sizeof referrers->tag_note, "tag %s %zu %s", tag, page.entries, page.entries == 1 ? "entry" : "entries");
        else
                snprintf(referrers->tag_note, sizeof referrers->tag_note, "tag %s is no index", tag);
        return true;
}

/* Signatures may be older than the API of their registry, and attestations newer: only a likely one ends the search. */
static bool is_enough(const struct registry_referrers *referrers)
{
        return referrers->is_over_limit || (referrers->count > 0 && rank_find(&referrers->items[0]) < RANK_OTHER);
}

bool registry_fetch_referrers(const struct registry_call *call, const struct digest *subject, struct registry_referrers *ret_referrers, struct error *err)
{
        CLEANUP(registry_referrers_fini) struct registry_referrers referrers = { 0 };

        if (!digest_is_set(subject))
                return refuse(err, ERROR_INTERNAL, "referrers of no digest");
        if (!api_ask(call, subject, &referrers, err) || (!is_enough(&referrers) && !tag_ask(call, subject, &referrers, err)))
                return false;
        *ret_referrers = referrers;
        referrers = (struct registry_referrers){ 0 };
        return true;
}
