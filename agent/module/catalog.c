/*
 * How it goes: maps by digest, name and id over structs that hang together by lists: an entry (module) owns its images, references, hand-outs and grants, so that
 *              letting it go is one walk over what it owns. Last use is a list too: the oldest is found without a search.
 * How it fails: it cannot; rows that point at nothing are dropped, which is the safe side for grants.
 * How it ends: catalog_fini() removes every entry.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "catalog.h"

static const uint8_t no_mac[DIGEST_SHA256_BYTES];

const char *const grant_kind_names[GRANT_KINDS] = { "anonymous", "node", "secret", "inline", "import" };

static size_t key_bytes(const struct digest *digest)
{
        return digest->algorithm == DIGEST_SHA512 ? DIGEST_BYTES_MAX : DIGEST_SHA256_BYTES;
}

void catalog_init(struct catalog *catalog)
{
        *catalog = (struct catalog){
                .entries = map_new_borrowing(NULL), .images = map_new_borrowing(NULL), .references = map_new_borrowing(NULL), .leases = map_new_borrowing(NULL),
                .resources = map_new(NULL), .texts = map_new(free),
        };
}

static void resource_free(struct resource *resource)
{
        free(resource->namespace);
        free(resource->name);
        free(resource->version);
        free(resource->reference);
        free(resource);
}

void catalog_fini(struct catalog *catalog)
{
        while (catalog->oldest) {
                struct entry *entry = catalog->oldest;
                catalog_remove_entry(catalog, &entry);
        }

        size_t position = 0, bytes;
        const void *key;
        void *value;
        while (catalog->resources && map_next(catalog->resources, &position, &key, &bytes, &value))
                resource_free(value);
        map_free(&catalog->entries);
        map_free(&catalog->images);
        map_free(&catalog->references);
        map_free(&catalog->resources);
        map_free(&catalog->leases);
        map_free(&catalog->texts);
        free(TAKE(catalog->sorted));
}

/* Media types repeat in every image; one copy of each. */
static const char *catalog_intern(struct catalog *catalog, const char *text)
{
        if (!text)
                return "";
        char *known = map_get_text(catalog->texts, text);
        if (!known) {
                known = string_copy(text);
                map_put_text(catalog->texts, text, known);
        }
        return known;
}

static void entry_detach(struct catalog *catalog, struct entry *entry)
{
        *(entry->older ? &entry->older->newer : &catalog->oldest) = entry->newer;
        *(entry->newer ? &entry->newer->older : &catalog->newest) = entry->older;
        entry->older = entry->newer = NULL;
}

/* `newer` NULL: as the newest. */
static void entry_attach(struct catalog *catalog, struct entry *entry, struct entry *newer)
{
        struct entry **before = newer ? &newer->older : &catalog->newest;
        entry->older = *before;
        entry->newer = newer;
        *(entry->older ? &entry->older->newer : &catalog->oldest) = entry;
        *before = entry;
}

struct entry *catalog_put_entry(struct catalog *catalog, const struct store_module *row)
{
        struct entry *entry = catalog_find_entry(catalog, &row->sha256);
        if (!entry) {
                entry = memory_new(1, sizeof *entry);
                entry->sha256 = row->sha256;
                map_put(catalog->entries, entry->sha256.bytes, DIGEST_SHA256_BYTES, entry);
                entry_attach(catalog, entry, NULL);
                catalog->is_sorted = false;
        }
        catalog->bytes += row->identity.size_bytes - entry->identity.size_bytes;
        catalog->pins += (size_t)row->is_pinned - (size_t)entry->is_pinned;
        entry->identity = row->identity;
        entry->created_s = row->created_s;
        entry->last_used_s = row->last_used_s > entry->last_used_s ? row->last_used_s : entry->last_used_s;
        entry->is_pinned = row->is_pinned;
        return entry;
}

static void grants_free(struct catalog *catalog, struct grant **list)
{
        while (*list) {
                struct grant *grant = *list;
                *list = grant->next;
                free(grant);
                catalog->grants--;
        }
}

static void image_index(struct catalog *catalog, struct image *image)
{
        map_put(catalog->images, image->manifest.bytes, key_bytes(&image->manifest), image);
        if (image->top != &image->manifest && digest_is_set(image->top))
                map_put(catalog->images, image->top->bytes, key_bytes(image->top), image);
}

static void image_unindex(struct catalog *catalog, struct image *image)
{
        const struct digest *digests[] = { &image->manifest, image->top };
        for (size_t i = 0; i < COUNT_OF(digests); i++)
                if (map_get(catalog->images, digests[i]->bytes, key_bytes(digests[i])) == image)
                        map_remove(catalog->images, digests[i]->bytes, key_bytes(digests[i]));
}

/* Three digests of 68 bytes are what an image consists of; mostly one of them is enough. */
static const struct digest *digest_share(const struct digest *digest, const struct digest *same)
{
        if (digest_equal(digest, same))
                return same;
        struct digest *copy = memory_new(1, sizeof *copy);
        *copy = *digest;
        return copy;
}

static void digest_unshare(const struct digest **digest, const struct digest *same)
{
        union { const struct digest *shared; void *copy; } old = { TAKE(*digest) };
        if (old.shared != same)
                free(old.copy);
}

static void image_drop_digests(struct image *image)
{
        digest_unshare(&image->top, &image->manifest);
        digest_unshare(&image->layer, &image->entry->sha256);
}

static void image_detach(struct image *image)
{
        struct image **at = &image->entry->images;
        while (*at != image)
                at = &(*at)->next;
        *at = image->next;
}

struct image *catalog_put_image(struct catalog *catalog, const struct store_image *row)
{
        struct entry *entry = catalog_find_entry(catalog, &row->module);
        if (!entry)
                return NULL;

        struct image *image = catalog_find_image(catalog, &row->manifest);
        if (image && !digest_equal(&image->manifest, &row->manifest))
                image = NULL;             /* an index of that digest, as far as we were told */
        if (!image) {
                image = memory_new(1, sizeof *image);
                image->manifest = row->manifest;
        } else {
                image_unindex(catalog, image);
                image_detach(image);
                image_drop_digests(image);
        }
        image->is_led &= image->entry == entry;
        image->entry = entry;
        image->next = entry->images;
        entry->images = image;
        image->top = digest_share(&row->top, &image->manifest);
        image->layer = digest_share(&row->layer, &entry->sha256);
        image->media_type = catalog_intern(catalog, row->media_type);
        image->layer_type = catalog_intern(catalog, row->layer_type);
        image_index(catalog, image);
        return image;
}

static void reference_detach(struct known_reference *reference)
{
        struct known_reference **at = &reference->entry->references;
        while (*at != reference)
                at = &(*at)->next;
        *at = reference->next;
}

static void reference_free(struct catalog *catalog, struct known_reference *reference)
{
        map_remove_text(catalog->references, reference->name);
        free(reference->etag);
        free(reference->top);
        free(reference);
}

struct known_reference *catalog_put_reference(struct catalog *catalog, const struct store_reference *row, uint64_t sequence)
{
        struct image *image = digest_is_set(&row->manifest) ? catalog_find_image(catalog, &row->manifest) : NULL;
        struct entry *entry = image ? image->entry : catalog_find_entry(catalog, &row->module);
        if (!entry || !digest_equal(&entry->sha256, &row->module))
                return NULL;

        struct known_reference *reference = catalog_find_reference(catalog, row->name);
        if (reference && reference->sequence > sequence)
                return reference;         /* never back in time */
        if (!reference) {
                size_t name_bytes = strlen(row->name) + 1;
                reference = memory_new(1, sizeof *reference + name_bytes);
                memcpy(reference->name, row->name, name_bytes);
                map_put_text(catalog->references, reference->name, reference);
        } else {
                reference_detach(reference);
        }
        reference->entry = entry;
        reference->image = image;
        reference->next = entry->references;
        entry->references = reference;
        reference->checked_s = reference->saved_s = row->checked_s;
        reference->sequence = sequence;
        bool is_index = image && digest_is_set(&row->top) && !digest_equal(&row->top, &image->manifest);
        free(reference->top);
        reference->top = is_index ? memory_new(1, sizeof row->top) : NULL;
        if (is_index)
                *reference->top = row->top;
        const char *etag = row->etag && *row->etag ? row->etag : NULL;
        if (!string_equal(reference->etag, etag)) {
                free(reference->etag);
                reference->etag = string_copy(etag);
        }
        return reference;
}

const struct digest *reference_get_top(const struct known_reference *reference)
{
        return reference->top ? reference->top : &reference->image->manifest;
}

static bool grant_kind_parse(const char *name, enum grant_kind *ret_kind)
{
        for (size_t i = 0; i < GRANT_KINDS; i++)
                if (string_equal(name, grant_kind_names[i])) {
                        *ret_kind = (enum grant_kind)i;
                        return true;
                }
        return false;
}

static bool grant_is_same(const struct grant *grant, const struct store_grant *row, enum grant_kind kind)
{
        return grant->kind == kind && strcmp(grant->repository, row->repository) == 0 && strcmp(grant->namespace, row->namespace ? row->namespace : "") == 0 &&
               strcmp(grant->secret, row->secret ? row->secret : "") == 0 && memcmp(grant->mac, row->credential_mac.bytes, DIGEST_SHA256_BYTES) == 0;
}

struct grant *catalog_find_grant(const struct catalog *catalog, const struct store_grant *row)
{
        enum grant_kind kind;
        struct image *image = catalog_find_image(catalog, &row->manifest);
        struct entry *entry = image ? NULL : catalog_find_entry(catalog, &row->manifest);
        struct grant *grant = image ? image->grants : entry ? entry->grants : NULL;
        if (!grant_kind_parse(row->kind, &kind))
                return NULL;
        while (grant && !grant_is_same(grant, row, kind))
                grant = grant->next;
        return grant;
}

/* One piece of memory: there is one of these for every image. */
static struct grant *grant_new(const struct store_grant *row, enum grant_kind kind)
{
        const char *texts[] = { row->repository, row->namespace ? row->namespace : "", row->secret ? row->secret : "" };
        size_t used[COUNT_OF(texts) + 1] = { 0 };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                used[i + 1] = used[i] + strlen(texts[i]) + 1;

        bool has_mac = memcmp(row->credential_mac.bytes, no_mac, sizeof no_mac) != 0;
        struct grant *grant = memory_new(1, offsetof(struct grant, repository) + used[COUNT_OF(texts)] + (has_mac ? sizeof no_mac : 0));
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                memcpy(grant->repository + used[i], texts[i], used[i + 1] - used[i]);
        grant->namespace = grant->repository + used[1];
        grant->secret = grant->repository + used[2];
        grant->kind = kind;
        grant->granted_s = row->granted_s;
        grant->last_ok_s = row->last_ok_s;
        grant->mac = has_mac ? memcpy(grant->repository + used[COUNT_OF(texts)], row->credential_mac.bytes, sizeof no_mac) : no_mac;
        return grant;
}

struct grant *catalog_put_grant(struct catalog *catalog, const struct store_grant *row)
{
        enum grant_kind kind;
        struct image *image = catalog_find_image(catalog, &row->manifest);
        struct entry *entry = image ? NULL : catalog_find_entry(catalog, &row->manifest);
        if (!grant_kind_parse(row->kind, &kind) || (!image && !entry))
                return NULL;

        struct grant **list = image ? &image->grants : &entry->grants;
        size_t count = 0;
        for (struct grant *grant = *list; grant; grant = grant->next) {
                if (grant_is_same(grant, row, kind)) {
                        grant->last_ok_s = row->last_ok_s;
                        return grant;
                }
                count += strcmp(grant->repository, row->repository) == 0;
        }
        if (count >= GRANTS_MAX && kind != GRANT_ANONYMOUS && kind != GRANT_NODE)
                return NULL;

        struct grant *grant = grant_new(row, kind);
        grant->next = *list;
        *list = grant;
        catalog->grants++;
        return grant;
}

bool catalog_remove_grants(struct catalog *catalog, struct image *image, const char *repository, const char *namespace, const char *secret)
{
        bool found = false;
        for (struct grant **at = &image->grants; *at;) {
                struct grant *grant = *at;
                if (grant->kind != GRANT_SECRET || strcmp(grant->repository, repository) != 0 || strcmp(grant->namespace, namespace) != 0 || strcmp(grant->secret, secret) != 0) {
                        at = &grant->next;
                        continue;
                }
                *at = grant->next;
                grant->next = NULL;
                grants_free(catalog, &grant);
                found = true;
        }
        return found;
}

static char *resource_key(const char *namespace, const char *name)
{
        return string_format("%s/%s", namespace, name);
}

void catalog_put_resource(struct catalog *catalog, const struct store_resource *row, uint64_t sequence)
{
        CLEANUP(cleanup_free) char *key = resource_key(row->namespace, row->name);
        struct resource *resource = map_get_text(catalog->resources, key);
        if (resource && resource->sequence > sequence)
                return;
        if (resource) {
                map_remove_text(catalog->resources, key);
                resource_free(resource);
        }

        resource = memory_new(1, sizeof *resource);
        *resource = (struct resource){
                .namespace = string_copy(row->namespace), .name = string_copy(row->name), .version = string_copy(row->version), .reference = string_copy(row->reference),
                .module = row->module, .manifest = row->manifest, .sequence = sequence,
        };
        map_put_text(catalog->resources, key, resource);
}

static struct handout *handout_get(struct entry *entry, const char *namespace)
{
        struct handout *handout = catalog_find_handout(entry, namespace);
        if (handout)
                return handout;

        handout = memory_new(1, sizeof *handout);
        handout->entry = entry;
        snprintf(handout->namespace, sizeof handout->namespace, "%s", namespace);
        handout->next = entry->handouts;
        entry->handouts = handout;
        return handout;
}

struct lease *catalog_put_lease(struct catalog *catalog, struct entry *entry, const char *namespace, const char *id, uint64_t holder)
{
        struct handout *handout = handout_get(entry, namespace);
        struct lease *lease = memory_new(1, sizeof *lease);
        snprintf(lease->id, sizeof lease->id, "%s", id);
        lease->holder = holder;
        lease->handout = handout;
        lease->next = handout->leases;
        handout->leases = lease;
        handout->lease_count++;
        map_put_text(catalog->leases, lease->id, lease);
        return lease;
}

void catalog_remove_lease(struct catalog *catalog, struct lease **lease_pointer)
{
        struct lease *lease = TAKE(*lease_pointer);
        struct lease **at = &lease->handout->leases;
        while (*at != lease)
                at = &(*at)->next;
        *at = lease->next;
        lease->handout->lease_count--;
        map_remove_text(catalog->leases, lease->id);
        free(lease);
}

struct entry *catalog_find_entry(const struct catalog *catalog, const struct digest *sha256)
{
        return sha256->algorithm == DIGEST_SHA256 ? map_get(catalog->entries, sha256->bytes, DIGEST_SHA256_BYTES) : NULL;
}

struct image *catalog_find_image(const struct catalog *catalog, const struct digest *manifest_or_top)
{
        return digest_is_set(manifest_or_top) ? map_get(catalog->images, manifest_or_top->bytes, key_bytes(manifest_or_top)) : NULL;
}

struct known_reference *catalog_find_reference(const struct catalog *catalog, const char *name)
{
        return map_get_text(catalog->references, name);
}

struct resource *catalog_find_resource(const struct catalog *catalog, const char *namespace, const char *name)
{
        CLEANUP(cleanup_free) char *key = resource_key(namespace, name);
        return map_get_text(catalog->resources, key);
}

struct handout *catalog_find_handout(const struct entry *entry, const char *namespace)
{
        struct handout *handout = entry->handouts;
        while (handout && strcmp(handout->namespace, namespace) != 0)
                handout = handout->next;
        return handout;
}

struct lease *catalog_find_lease(const struct handout *handout, uint64_t holder)
{
        struct lease *lease = handout->leases;
        while (lease && lease->holder != holder)
                lease = lease->next;
        return lease;
}

struct lease *catalog_find_lease_id(const struct catalog *catalog, const char *id)
{
        return map_get_text(catalog->leases, id);
}

void catalog_remove_entry(struct catalog *catalog, struct entry **entry_pointer)
{
        struct entry *entry = TAKE(*entry_pointer);
        while (entry->handouts) {
                struct handout *handout = entry->handouts;
                while (handout->leases) {
                        struct lease *lease = handout->leases;
                        catalog_remove_lease(catalog, &lease);
                }
                entry->handouts = handout->next;
                free(handout);
        }
        while (entry->references) {
                struct known_reference *reference = entry->references;
                entry->references = reference->next;
                reference_free(catalog, reference);
        }
        while (entry->images) {
                struct image *image = entry->images;
                entry->images = image->next;
                image_unindex(catalog, image);
                grants_free(catalog, &image->grants);
                image_drop_digests(image);
                free(image);
        }
        grants_free(catalog, &entry->grants);
        map_remove(catalog->entries, entry->sha256.bytes, DIGEST_SHA256_BYTES);
        entry_detach(catalog, entry);
        catalog->bytes -= entry->identity.size_bytes;
        catalog->pins -= entry->is_pinned;
        catalog->is_sorted = false;
        free(entry);
}

static size_t grants_count(const struct grant *grant)
{
        size_t count = 0;
        for (; grant; grant = grant->next)
                count++;
        return count;
}

static void entry_move(struct catalog *to, struct entry *entry)
{
        for (struct image *image = entry->images; image; image = image->next) {
                image->media_type = catalog_intern(to, image->media_type);
                image->layer_type = catalog_intern(to, image->layer_type);
                image_index(to, image);
                to->grants += grants_count(image->grants);
        }
        for (struct known_reference *reference = entry->references; reference; reference = reference->next) {
                struct known_reference *old = catalog_find_reference(to, reference->name);
                if (old) {
                        reference_detach(old);
                        reference_free(to, old);
                }
                map_put_text(to->references, reference->name, reference);
        }
        for (struct handout *handout = entry->handouts; handout; handout = handout->next)
                for (struct lease *lease = handout->leases; lease; lease = lease->next)
                        map_put_text(to->leases, lease->id, lease);
        map_put(to->entries, entry->sha256.bytes, DIGEST_SHA256_BYTES, entry);
        to->grants += grants_count(entry->grants);
        to->bytes += entry->identity.size_bytes;
        to->pins += entry->is_pinned;
        to->is_sorted = false;
}

/* One that nobody has used since keeps its place among the others. */
static struct entry *entry_make_way(struct catalog *to, const struct entry *entry)
{
        struct entry *old = catalog_find_entry(to, &entry->sha256);
        struct entry *newer = old && old->last_used_s == entry->last_used_s ? old->newer : NULL;
        if (old)
                catalog_remove_entry(to, &old);
        return newer;
}

void catalog_move(struct catalog *from, struct catalog *to)
{
        size_t position = 0, bytes;
        const void *key;
        void *value;
        for (struct entry *entry; (entry = from->oldest) != NULL;) {
                entry_detach(from, entry);
                struct entry *newer = entry_make_way(to, entry);
                entry_move(to, entry);
                entry_attach(to, entry, newer);
        }
        while (map_next(from->resources, &position, &key, &bytes, &value)) {
                struct resource *old = map_take(to->resources, key, bytes);
                if (old)
                        resource_free(old);
                map_put(to->resources, key, bytes, value);
                map_remove(from->resources, key, bytes);
        }
        catalog_fini(from);
        catalog_init(from);
}

void catalog_use(struct catalog *catalog, struct entry *entry, int64_t now_s)
{
        entry->is_used_dirty |= now_s > entry->last_used_s + 60;
        entry->last_used_s = now_s;
        if (catalog->newest == entry)
                return;
        entry_detach(catalog, entry);
        entry_attach(catalog, entry, NULL);
}

const char *catalog_get_obstacle(const struct entry *entry)
{
        if (entry->is_pinned)
                return "pinned";
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next)
                if (handout->lease_count > 0)
                        return "leased";
        return entry->is_busy || entry->holds > 0 || entry->waiting.head ? "in use" : NULL;
}

static int entry_compare(const void *a, const void *b)
{
        const struct entry *const *left = a, *const *right = b;
        return memcmp((*left)->sha256.bytes, (*right)->sha256.bytes, DIGEST_SHA256_BYTES);
}

struct entry *const *catalog_get_sorted(struct catalog *catalog, size_t *ret_count)
{
        if (!catalog->is_sorted) {
                size_t count = 0;
                catalog->sorted = memory_resize(catalog->sorted, map_get_count(catalog->entries) + 1, sizeof *catalog->sorted);
                for (struct entry *entry = catalog->oldest; entry; entry = entry->newer)
                        catalog->sorted[count++] = entry;
                qsort(catalog->sorted, count, sizeof *catalog->sorted, entry_compare);
                catalog->sorted_count = count;
                catalog->is_sorted = true;
        }
        *ret_count = catalog->sorted_count;
        return catalog->sorted;
}
