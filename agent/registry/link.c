/*
 * How it goes: the Link headers of an answer are searched for rel=next, its target is resolved against where the answer came from, and the result must be at the endpoint's origin.
 * How it fails: a header that is malformed before its rel=next has none; a target at another origin, or that two parsers could read differently, is ERROR_UPSTREAM_ERROR.
 * How it ends: the URL belongs to the caller.
 *
 * Rules: RFC 8288 3, OCI distribution-spec "Listing Referrers" (Link: <…>; rel="next").
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "room.h"

enum { LINK_HEADERS_MAX = 8, SHOWN_BYTES = 200 };

static const char *blanks_skip(const char *at)
{
        return at + strspn(at, " \t");
}

/* One of the blank-separated words of a rel value. */
static bool has_word(const char *value, size_t length, const char *word)
{
        size_t word_bytes = strlen(word);

        for (size_t at = 0; at < length;) {
                size_t end = at;
                while (end < length && value[end] != ' ' && value[end] != '\t')
                        end++;
                if (end - at == word_bytes && strncasecmp(value + at, word, word_bytes) == 0)
                        return true;
                at = end + 1;
        }
        return false;
}

/* `at` is behind '='; a quoted value keeps its backslashes, no word that we look for has any. NULL: the quotes are never closed. */
static const char *value_read(const char *at, const char **ret_value, size_t *ret_length)
{
        if (*at != '"') {
                *ret_value = at;
                *ret_length = strcspn(at, ";, \t");
                return at + *ret_length;
        }
        *ret_value = ++at;
        while (*at && *at != '"')
                at += *at == '\\' && at[1] ? 2 : 1;
        *ret_length = (size_t)(at - *ret_value);
        return *at ? at + 1 : NULL;
}

/* The parameters of one link; `at` is behind '>'. Of several rel the first counts (RFC 8288 3.3). NULL: malformed. */
static const char *parameters_read(const char *at, bool *ret_is_next)
{
        bool is_known = false;

        *ret_is_next = false;
        for (at = blanks_skip(at); *at == ';'; at = blanks_skip(at)) {
                const char *name = blanks_skip(at + 1), *value = "";
                size_t name_bytes = strcspn(name, "=;, \t"), length = 0;

                at = blanks_skip(name + name_bytes);
                if (*at == '=' && !(at = value_read(blanks_skip(at + 1), &value, &length)))
                        return NULL;
                if (name_bytes == 3 && strncasecmp(name, "rel", 3) == 0 && !is_known) {
                        is_known = true;
                        *ret_is_next = has_word(value, length, "next");
                }
        }
        return *at == '\0' || *at == ',' ? at : NULL;
}

char *link_find_next(const char *header)
{
        const char *at = header + strspn(header, ", \t");

        while (*at == '<') {
                const char *target = at + 1;
                size_t length = strcspn(target, ">");
                bool is_next = false;

                if (target[length] != '>')
                        return NULL;
                at = parameters_read(target + length + 1, &is_next);
                if (!at)
                        return NULL;
                if (is_next)
                        return string_copy_bytes(target, length);
                at += strspn(at, ", \t");
        }
        return NULL;
}

char *link_resolve(const char *base, const char *target)
{
        const char *host = strstr(base, "://"), *scheme = strstr(target, "://");

        if (!host || (scheme && strcspn(target, "/?#:") == (size_t)(scheme - target)))
                return string_copy(target);

        size_t authority_bytes = (size_t)(host + 3 - base) + strcspn(host + 3, "/?#"), path_bytes = authority_bytes + strcspn(base + authority_bytes, "?#");
        size_t folder_bytes = path_bytes;
        while (folder_bytes > authority_bytes && base[folder_bytes - 1] != '/')
                folder_bytes--;
        if (string_starts_with(target, "//"))
                return string_format("%.*s:%s", (int)(host - base), base, target);
        if (target[0] == '/')
                return string_format("%.*s%s", (int)authority_bytes, base, target);
        if (target[0] == '?')
                return string_format("%.*s%s", (int)path_bytes, base, target);
        return string_format("%.*s%s%s", (int)folder_bytes, base, folder_bytes == authority_bytes ? "/" : "", target);
}

/* By our own strict reading of both, so that no other parser finds another host in one of them. */
static bool origin_same(const char *url, const char *endpoint)
{
        CLEANUP(authority_fini) struct authority here = { 0 }, there = { 0 };

        return authority_parse(endpoint, &here) && authority_parse(url, &there) && here.is_tls == there.is_tls && here.port == there.port && strcmp(here.host, there.host) == 0;
}

/* A mirror serves many registries: each page has to say which one is meant. */
static char *namespace_add(const struct registry_call *call, char *url)
{
        const char *query = strchr(url, '?');

        if (!call->mirror_of || (query && (string_starts_with(query + 1, "ns=") || strstr(query, "&ns="))))
                return url;

        struct buffer text = { 0 };
        buffer_printf(&text, "%s%cns=", url, query ? '&' : '?');
        percent_append(&text, call->mirror_of);
        free(url);
        return buffer_take(&text);
}

bool link_follow(const struct registry_call *call, const struct fetch_response *response, char **ret_url, struct error *err)
{
        CLEANUP(cleanup_free) char *target = NULL;
        char shown[SHOWN_BYTES];

        for (size_t i = 0; i < LINK_HEADERS_MAX && !target; i++) {
                const char *header = fetch_response_get_header(response, "Link", i);
                if (!header)
                        break;
                target = link_find_next(header);
        }
        if (!target) {
                *ret_url = NULL;
                return true;
        }

        CLEANUP(cleanup_free) char *url = link_resolve(fetch_response_get_url(response), target);
        if (!origin_same(url, call->endpoint))
                return refuse(err, ERROR_UPSTREAM_ERROR, "the next page is said to be at \"%s\", which is not at %s; pages elsewhere are not fetched",
                              string_printable(url, strcspn(url, "?"), shown, sizeof shown), call->endpoint);
        *ret_url = namespace_add(call, TAKE(url));
        return true;
}
