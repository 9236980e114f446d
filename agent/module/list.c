/*
 * How it goes: what is here, in order of digest, as far as the caller may see it: an operator and a trusted caller everything, others what was handed out to their namespace.
 * How it fails: what is not the caller's looks exactly like what does not exist.
 * How it ends: texts are borrowed for the call only.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "modules.h"

enum { PREFIX_MIN = 8 };

/* An operator who named a namespace sees what that one sees. */
static bool shows_everything(const struct module_caller *caller)
{
        return (caller->is_admin && !caller->namespace) || caller->is_trusted;
}

bool entry_is_visible(const struct module_caller *caller, const struct entry *entry)
{
        if (shows_everything(caller))
                return true;
        const struct handout *handout = caller->namespace ? catalog_find_handout(entry, caller->namespace) : NULL;
        return handout && handout->is_linked;
}

/* Where a trusted caller that names no namespace finds it: "default", or where else it was handed out. */
static const char *linked_namespace(const struct entry *entry)
{
        static const char usual[] = "default";
        const struct handout *handout = catalog_find_handout(entry, usual);
        if (handout && handout->is_linked)
                return usual;
        for (handout = entry->handouts; handout; handout = handout->next)
                if (handout->is_linked && handout->namespace[0])
                        return handout->namespace;
        return usual;
}

/* The path of the caller's own link; the blob's for an operator. */
static void show_path(const struct modules *modules, const struct module_caller *caller, const struct entry *entry, struct object_texts *texts)
{
        if (caller->is_admin && !caller->namespace) {
                store_format_path(modules->store, &entry->sha256, texts->path, sizeof texts->path);
                return;
        }
        static const char mark[] = "{namespace}";
        const char *template = caller->module_dir ? caller->module_dir : "", *at = strstr(template, mark);
        const char *namespace = caller->namespace ? caller->namespace : linked_namespace(entry);
        if (at)
                snprintf(texts->path, sizeof texts->path, "%.*s%s%s/%s.wasm", (int)(at - template), template, namespace, at + strlen(mark), texts->sha256);
        else
                snprintf(texts->path, sizeof texts->path, "%s/%s.wasm", template, texts->sha256);
}

static bool grant_is_of(const struct module_caller *caller, const struct grant *grant)
{
        return grant->kind != GRANT_INLINE && (grant->kind != GRANT_SECRET || string_equal(grant->namespace, caller->namespace));
}

/* The image under whose name the caller may have the module, the first one for an operator; NULL if it is another's. */
static const struct image *image_find_visible(const struct module_caller *caller, const struct entry *entry, const struct grant **ret_grant)
{
        *ret_grant = NULL;
        for (const struct image *image = entry->images; image; image = image->next)
                for (const struct grant *grant = image->grants; grant; grant = grant->next)
                        if (shows_everything(caller) || grant_is_of(caller, grant)) {
                                *ret_grant = grant;
                                return image;
                        }
        return shows_everything(caller) ? entry->images : NULL;
}

/* A tenant sees the names it may pull under; grants for others stay theirs. */
static bool reference_is_visible(const struct module_caller *caller, const struct known_reference *reference)
{
        if (shows_everything(caller))
                return true;
        struct grant *grant = reference->image ? reference->image->grants : reference->entry->grants;
        for (; grant; grant = grant->next)
                if (grant_is_of(caller, grant) && grant_names(grant, reference->name))
                        return true;
        return false;
}

static const struct verdict *image_find_verdict(const struct modules *modules, const struct image *image)
{
        const struct verdict *verdict = verdicts_get_latest(modules->verdicts, image->top, &image->entry->sha256);
        return verdict ? verdict : verdicts_get_latest(modules->verdicts, &image->manifest, &image->entry->sha256);
}

/* Which signature admitted it, under whatever key: of the image that the caller may have, or of the module itself; an operator sees those of all images. */
static const struct verdict *verdict_find_visible(const struct modules *modules, const struct module_caller *caller, const struct entry *entry, const struct image *image)
{
        const struct verdict *verdict = image ? image_find_verdict(modules, image) : NULL;
        for (image = shows_everything(caller) ? entry->images : NULL; image && !verdict; image = image->next)
                verdict = image_find_verdict(modules, image);
        return verdict ? verdict : verdicts_get_latest(modules->verdicts, &entry->sha256, &entry->sha256);
}

static void show(const struct modules *modules, const struct module_caller *caller, const struct entry *entry,
        void (*each)(void *arg, const struct module_object *object), void *arg)
{
        struct module_object object;
        struct object_texts texts;
        size_t url_count = 0, namespace_count = 0;
        const struct grant *grant;
        const struct image *image = image_find_visible(caller, entry, &grant);
        object_fill(modules, entry, image, &(struct handed){ &object, &texts });
        show_path(modules, caller, entry, &texts);
        object_note_verdict(&object, verdict_find_visible(modules, caller, entry, image));
        for (const struct known_reference *reference = entry->references; reference; reference = reference->next)
                url_count++;
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next)
                namespace_count++;

        CLEANUP(cleanup_free) const char **urls = memory_new(url_count + 1, sizeof *urls);
        CLEANUP(cleanup_free) const char **namespaces = memory_new(namespace_count + 1, sizeof *namespaces);
        url_count = namespace_count = 0;
        for (const struct known_reference *reference = entry->references; reference; reference = reference->next)
                if (reference_is_visible(caller, reference))
                        urls[url_count++] = reference->name;
        for (const struct handout *handout = entry->handouts; handout; handout = handout->next) {
                bool fits = shows_everything(caller) || string_equal(handout->namespace, caller->namespace);
                object.leases += fits ? handout->lease_count : 0;
                if (fits && handout->is_linked)
                        namespaces[namespace_count++] = handout->namespace;
        }
        object.urls = urls;
        object.namespaces = namespaces;
        /* Its tag means another image by now: by digest it still has this name. */
        CLEANUP(cleanup_free) char *by_digest = grant && object.digest ? string_format("oci://%s@%s", grant->repository, object.digest) : NULL;
        object.url = url_count > 0 ? urls[0] : by_digest;
        each(arg, &object);
}

bool module_list(struct modules *modules, const struct module_caller *caller, const struct digest *after, size_t limit,
        void (*each)(void *arg, const struct module_object *object), void *arg)
{
        ON_LOOP();
        size_t count, low = 0;
        struct entry *const *sorted = catalog_get_sorted(&modules->catalog, &count);
        for (size_t high = count; after && low < high;) {
                size_t middle = low + (high - low) / 2;
                if (memcmp(sorted[middle]->sha256.bytes, after->bytes, DIGEST_SHA256_BYTES) <= 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        for (size_t i = low, shown = 0; i < count; i++) {
                if (!entry_is_visible(caller, sorted[i]))
                        continue;
                if (shown++ == limit)
                        return false;
                show(modules, caller, sorted[i], each, arg);
        }
        return true;
}

bool module_find(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, void (*each)(void *arg, const struct module_object *object), void *arg)
{
        ON_LOOP();
        struct entry *entry = catalog_find_entry(&modules->catalog, sha256);
        if (!entry || !entry_is_visible(caller, entry))
                return false;
        show(modules, caller, entry, each, arg);
        return true;
}

static bool refuse_unknown(const char *name, struct error *err)
{
        char shown[128];
        return refuse(err, ERROR_NOT_FOUND, "nothing here is called \"%s\"; `wasmcachectl ls` shows what there is", string_printable(name, strlen(name), shown, sizeof shown));
}

static bool find_prefix(struct modules *modules, const struct module_caller *caller, const char *prefix, struct digest *ret_sha256, struct error *err)
{
        size_t count, length = strlen(prefix);
        const struct entry *found = NULL;
        struct entry *const *sorted = catalog_get_sorted(&modules->catalog, &count);
        for (size_t i = 0; i < count; i++) {
                char hex[DIGEST_TEXT_BYTES];
                digest_format_hex(&sorted[i]->sha256, hex);
                if (strncmp(hex, prefix, length) != 0 || !entry_is_visible(caller, sorted[i]))
                        continue;
                if (found)
                        return refuse(err, ERROR_BAD_REQUEST, "%s: more than one module begins with it; give more digits", prefix);
                found = sorted[i];
        }
        if (!found)
                return refuse_unknown(prefix, err);
        *ret_sha256 = found->sha256;
        return true;
}

static bool is_hex(const char *text)
{
        return text[strspn(text, "0123456789abcdef")] == '\0';
}

static struct entry *find_named(struct modules *modules, const char *name)
{
        struct digest digest;
        struct error ignored;
        if (string_starts_with(name, "sha256:") || string_starts_with(name, "sha512:")) {
                if (!digest_parse(name, strlen(name), ERROR_BAD_REQUEST, &digest, &ignored))
                        return NULL;
                struct image *image = catalog_find_image(&modules->catalog, &digest);
                return image ? image->entry : catalog_find_entry(&modules->catalog, &digest);
        }
        CLEANUP(module_want_unref) struct module_want *want = NULL;
        if (!module_want_again(name, MODULE_POLICY_IF_NOT_PRESENT, NULL, NULL, &want, &ignored))
                return NULL;
        struct known_reference *reference = catalog_find_reference(&modules->catalog, want->name);
        struct image *image = !reference && want->kind == WANT_OCI ? catalog_find_image(&modules->catalog, &want->pin) : NULL;
        return reference ? reference->entry : image ? image->entry : NULL;
}

bool module_find_name(struct modules *modules, const struct module_caller *caller, const char *name, struct digest *ret_sha256, struct error *err)
{
        ON_LOOP();
        size_t length = strlen(name);
        if (is_hex(name) && length >= PREFIX_MIN && length <= DIGEST_HEX_BYTES - 1)
                return find_prefix(modules, caller, name, ret_sha256, err);
        struct entry *entry = find_named(modules, name);
        if (!entry || !entry_is_visible(caller, entry))
                return refuse_unknown(name, err);
        *ret_sha256 = entry->sha256;
        return true;
}

bool module_open(struct modules *modules, const struct module_caller *caller, const struct digest *sha256, int *ret_fd, uint64_t *ret_size, struct error *err)
{
        ON_LOOP();
        struct entry *entry = catalog_find_entry(&modules->catalog, sha256);
        if (!entry || !entry_is_visible(caller, entry))
                return refuse(err, ERROR_NOT_FOUND, "there is no such module; ask for it with POST /v1/modules first");
        if (!store_check_identity(modules->store, sha256, NULL, &entry->identity))
                return refuse(err, ERROR_BUSY, "the module's file is being looked at, since it does not look as it was left; ask again in a moment");
        int fd = store_open_blob(modules->store, sha256, err);
        if (fd < 0)
                return false;
        entry_note_used(modules, entry);
        *ret_fd = fd;
        *ret_size = entry->identity.size_bytes;
        return true;
}
