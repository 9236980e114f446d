/*
 * How it goes: the grants of the image are walked; one for everybody (proved without credentials, by the node's own, or imported by an operator) or one with the same
 *              secret, by its name (rotation) or by its content (the same credential under another name).
 * How it fails: no grant is NULL: the caller has to prove itself at the source.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "hit.h"

static bool has_mac(const struct principal *principal, const uint8_t *mac)
{
        for (size_t i = 0; principal && i < principal->count; i++)
                if (bytes_equal_consttime(principal->macs[i].bytes, mac, DIGEST_SHA256_BYTES))
                        return true;
        return false;
}

/* "name@uid": a Secret of that name, as the Kubernetes API gave it. */
static bool is_of_cluster(const char *coordinate, const char *name)
{
        size_t length = strlen(name);
        return strncmp(coordinate, name, length) == 0 && coordinate[length] == '@';
}

static bool grant_fits(const struct grant *grant, const struct hit_question *question)
{
        const struct principal *principal = question->principal;
        switch (grant->kind) {
        case GRANT_ANONYMOUS:
        case GRANT_NODE:
        case GRANT_IMPORT:
                return true;
        case GRANT_SECRET:
                if (principal && principal->is_unread)
                        return strcmp(grant->namespace, question->namespace) == 0 && is_of_cluster(grant->secret, question->want->secret_name);
                /* A rotated secret keeps its access only as long as it says something about this repository. */
                if (principal && principal->kind == PRINCIPAL_SECRET && principal->count > 0 && strcmp(grant->namespace, question->namespace) == 0 &&
                    string_equal(grant->secret, principal->coordinate ? principal->coordinate : question->want->secret_name))
                        return true;
                return has_mac(principal, grant->mac);
        case GRANT_INLINE:
                return has_mac(principal, grant->mac);
        default:
                return false;
        }
}

struct grant *grant_find(const struct hit_question *question, const struct entry *entry, const struct image *image)
{
        for (struct grant *grant = image ? image->grants : entry->grants; grant; grant = grant->next)
                if (strcmp(grant->repository, question->want->repository) == 0 && grant_fits(grant, question))
                        return grant;
        return NULL;
}

bool grant_names(const struct grant *grant, const char *name)
{
        size_t length = strlen(grant->repository);
        bool is_oci = string_starts_with(name, "oci://");
        if (is_oci)
                name += strlen("oci://");
        return strncmp(name, grant->repository, length) == 0 && (name[length] == '\0' || (is_oci && (name[length] == ':' || name[length] == '@')));
}

bool grant_is_shown(const struct module_want *want, const struct image *image, const struct known_reference *reference)
{
        if (reference && reference->image == image)
                return true;
        for (const struct grant *grant = image->grants; grant; grant = grant->next)
                if (strcmp(grant->repository, want->repository) == 0)
                        return true;
        return false;
}
