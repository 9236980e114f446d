/*
 * How it goes: the realm's URL is read strictly; the same host as the registry, or a pair that is built in or configured, may see the login; anybody else may be asked
 *               anonymously, at public addresses only.
 * How it fails: ERROR_UNAUTHORIZED before any byte is sent, naming the realm's host and the option that would allow it.
 * How it ends: nothing is kept.
 *
 * Rules: [oci] 2.6 (attacker-chosen realms: CVE-2026-33540, CVE-2026-48978, CVE-2026-24845, …). No public suffix list: exact hosts and explicit pairs.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { SCOPES_MAX = 4, SCOPE_BYTES_MAX = 512 };

static const char *const built_in_pairs[] = { "registry-1.docker.io auth.docker.io", "docker.io auth.docker.io", "index.docker.io auth.docker.io",
        "registry.gitlab.com gitlab.com", NULL };

/* `text` of `length` names the host, alone or with the port that is used. */
static bool names_host(const char *text, size_t length, const struct authority *authority)
{
        CLEANUP(cleanup_free) char *with_port = string_format("%s:%u", authority->host, authority->port);

        return (strlen(authority->host) == length && strncasecmp(text, authority->host, length) == 0) || (strlen(with_port) == length && strncasecmp(text, with_port, length) == 0);
}

static bool pair_allows(const char *pair, const struct authority *registry, const struct authority *realm)
{
        size_t first = strcspn(pair, " ");
        const char *second = pair + first + strspn(pair + first, " ");
        bool hub = strcmp(registry->host, "registry-1.docker.io") == 0 && first == strlen("docker.io") && strncasecmp(pair, "docker.io", first) == 0;

        return (hub || names_host(pair, first, registry)) && names_host(second, strlen(second), realm);
}

static bool is_paired(const char *const *pairs, const struct authority *registry, const struct authority *realm)
{
        for (; pairs && *pairs; pairs++)
                if (pair_allows(*pairs, registry, realm))
                        return true;
        return false;
}

bool realm_check(const struct registry_call *call, const char *realm, bool *ret_public_only, struct error *err)
{
        CLEANUP(authority_fini) struct authority there = { 0 }, here = { 0 };
        char text[128];

        if (!authority_parse(call->endpoint, &here))
                return refuse(err, ERROR_INTERNAL, "registry endpoint \"%s\" is no URL", call->endpoint);
        if (!authority_parse(realm, &there))
                return refuse(err, ERROR_UNAUTHORIZED, "registry %s names \"%s\" as token server, which is no plain http(s) URL", here.host, string_printable(realm,
                        strchr(realm, '@') ? 0 : strcspn(realm, "?#"), text, sizeof text));       /* before an '@' there may be a password */
        if (!there.is_tls && here.is_tls)
                return refuse(err, ERROR_UNAUTHORIZED, "registry %s is on https but names the token server %s on http; nothing was sent there", here.host, there.host);

        bool trusted = strcmp(there.host, here.host) == 0 || is_paired(built_in_pairs, &here, &there) || is_paired((const char *const *)call->registry->realm_pairs, &here, &there);
        if (!trusted && !login_is_anonymous(call->login))
                return refuse(err, ERROR_UNAUTHORIZED, "registry %s names the token server %s; credentials go there only if registries.\"%s\".token_realms lists it", here.host,
                        there.host, here.host);
        *ret_public_only = !trusted;
        return true;
}

/*
 * type[(class)]:name:actions with nothing but pull, or an opaque word as ECR public's "aws". Never push, delete or the catalog (least privilege).
 * The name may hold one ':' (a port), so the cuts are at the first and the last. Empty names (olareg "registry::pull", measured) say nothing.
 */
static bool scope_is_pull(const char *scope, size_t length)
{
        const char *first = memchr(scope, ':', length), *last = memrchr(scope, ':', length);

        if (length == 0 || length > SCOPE_BYTES_MAX)
                return false;
        for (size_t i = 0; i < length; i++)
                if (scope[i] <= 0x20 || scope[i] >= 0x7f || scope[i] == '"' || scope[i] == '\\')
                        return false;
        if (!first) {
                CLEANUP(cleanup_free) char *word = string_copy_bytes(scope, length);
                return !strcasestr(word, "push") && !strcasestr(word, "delete") && !strcasestr(word, "catalog") && !strchr(word, '*');
        }
        if (first == last || last == first + 1)
                return false;
        return string_starts_with(scope, "repository") && (scope[10] == ':' || scope[10] == '(') && (size_t)(scope + length - last) == strlen(":pull") && memcmp(last, ":pull",
                5) == 0;
}

char *scopes_format(const char *path, const char *challenge_scope)
{
        CLEANUP(cleanup_free) char *own = string_format("repository:%s:pull", path);
        CLEANUP(buffer_fini) struct buffer scopes = { 0 };
        const char *at = challenge_scope ? challenge_scope : "";

        /* The challenge's first: some servers read only the first (ggcr). */
        for (size_t count = 0; *at && count < SCOPES_MAX;) {
                at += strspn(at, " ");
                size_t length = strcspn(at, " ");
                if (scope_is_pull(at, length) && !(length == strlen(own) && memcmp(at, own, length) == 0)) {
                        buffer_append(&scopes, at, length);
                        buffer_append(&scopes, " ", 1);
                        count++;
                }
                at += length;
        }
        buffer_append_text(&scopes, own);
        return buffer_take(&scopes);
}
