/*
 * How it goes: a key becomes an index key as kubelet's Add() does it; an image fits when ports are equal, labels match pairwise by glob and the key's path begins the
 *              image's; the fitting entries are sorted by index key downwards (longer paths first, literals before '*'), those that end in the middle of a path segment last;
 *              equal logins go once.
 * How it fails: a key that is no URL, has a port that is no number or a broken glob fits nothing.
 * How it ends: the caller owns copies of the logins (logins_free).
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "config.h"

/* kubelet's defaultRegistryKey: docker login writes "https://index.docker.io/v1/". */
#define HUB_INDEX_KEY "index.docker.io"

struct span { const char *start; size_t bytes; };

static bool port_valid(struct span host)
{
        size_t colon = host.bytes;
        for (size_t i = 0; i < host.bytes; i++) {
                if (host.start[i] == ':')
                        colon = i;
                else if (host.start[i] == ']')
                        colon = host.bytes;
        }
        for (size_t i = colon + 1; i < host.bytes; i++)
                if (!isdigit((unsigned char)host.start[i]))
                        return false;
        return true;
}

/* More than Go's net/url takes: '?' and '\' in a host are glob characters here, there they make the entry useless. */
static bool host_valid(struct span host)
{
        for (size_t i = 0; i < host.bytes; i++)
                if (strchr(" %{}|`", host.start[i]))
                        return false;
        return host.bytes > 0 && port_valid(host);
}

static int hex_digit(char c)
{
        return isdigit((unsigned char)c) ? c - '0' : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* %XX undone; false when malformed. */
static bool path_unescape(struct span path, struct buffer *out)
{
        for (size_t i = 0; i < path.bytes; i++) {
                char c = path.start[i];
                if (c == '%') {
                        int high = i + 2 < path.bytes ? hex_digit(path.start[i + 1]) : -1, low = high >= 0 ? hex_digit(path.start[i + 2]) : -1;
                        if (low < 0 || high + low == 0)
                                return false;
                        c = (char)(high << 4 | low);
                        i += 2;
                }
                if (!buffer_append(out, &c, 1))
                        return false;
        }
        return true;
}

char *keyring_pattern_key(const char *raw_key)
{
        for (const char *c = raw_key; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        return NULL;

        size_t length = strcspn(raw_key, "#"), host_bytes = strcspn(raw_key, "#/");
        struct span host = { raw_key, host_bytes };
        for (size_t i = 0; i < host_bytes; i++)
                if (raw_key[i] == '@')
                        host = (struct span){ raw_key + i + 1, host_bytes - i - 1 };
        if (!host_valid(host))
                return NULL;

        struct span path = { raw_key + host_bytes, length - host_bytes };
        const char *query = path.bytes > 0 ? memchr(path.start, '?', path.bytes) : NULL;
        if (query)
                path.bytes = (size_t)(query - path.start);

        CLEANUP(buffer_fini) struct buffer decoded = { 0 };
        if (!path_unescape(path, &decoded))
                return NULL;
        return string_format("%.*s%s", (int)host.bytes, host.start, decoded.data && strcmp(decoded.data, "/") != 0 ? decoded.data : "");
}

char *keyring_index_key(const char *raw_key)
{
        if (string_starts_with(raw_key, "https://") || string_starts_with(raw_key, "http://"))
                raw_key = strchr(raw_key, '/') + 2;
        char *key = keyring_pattern_key(raw_key), *path = key ? strchr(key, '/') : NULL;
        if (path && (string_starts_with(path, "/v1/") || string_starts_with(path, "/v2/")))
                memmove(path, path + 3, strlen(path + 3) + 1);
        if (path && strcmp(path, "/") == 0)
                *path = '\0';
        return key;
}

/* One character of a class, escapes undone; false = malformed. */
static bool class_take(struct span *pattern, char *ret_char)
{
        if (pattern->bytes == 0 || *pattern->start == '-' || *pattern->start == ']')
                return false;

        size_t used = *pattern->start == '\\' ? 2 : 1;
        if (pattern->bytes <= used)               /* a class needs its ']' still */
                return false;
        *ret_char = pattern->start[used - 1];
        *pattern = (struct span){ pattern->start + used, pattern->bytes - used };
        return true;
}

/* `pattern` stands behind '['; afterwards behind ']'. */
static bool class_match(struct span *pattern, char c, bool *ret_match)
{
        bool negated = pattern->bytes > 0 && *pattern->start == '^', match = false;
        if (negated)
                *pattern = (struct span){ pattern->start + 1, pattern->bytes - 1 };

        for (size_t ranges = 0;; ranges++) {
                char low, high;
                if (ranges > 0 && pattern->bytes > 0 && *pattern->start == ']')
                        break;
                if (!class_take(pattern, &low))
                        return false;
                high = low;
                if (*pattern->start == '-') {
                        *pattern = (struct span){ pattern->start + 1, pattern->bytes - 1 };
                        if (!class_take(pattern, &high))
                                return false;
                }
                match = match || (low <= c && c <= high);
        }
        *pattern = (struct span){ pattern->start + 1, pattern->bytes - 1 };
        *ret_match = match != negated;
        return true;
}

/* One element of the pattern that is no '*' against one character. */
static bool element_match(struct span *pattern, char c)
{
        char element = *pattern->start;
        *pattern = (struct span){ pattern->start + 1, pattern->bytes - 1 };
        if (element == '?')
                return true;
        if (element == '[') {
                bool match = false;
                return class_match(pattern, c, &match) && match;
        }
        if (element == '\\') {
                if (pattern->bytes == 0)
                        return false;
                element = *pattern->start;
                *pattern = (struct span){ pattern->start + 1, pattern->bytes - 1 };
        }
        return element == c;
}

/* Go's filepath.Match for one label; a broken pattern matches nothing. Goes back to the last '*' only, so it is at worst length × length. */
static bool glob_match(struct span pattern, struct span text)
{
        struct span star_pattern = { NULL, 0 }, star_text = { NULL, 0 };
        while (text.bytes > 0 || pattern.bytes > 0) {
                if (pattern.bytes > 0 && *pattern.start == '*') {
                        pattern = (struct span){ pattern.start + 1, pattern.bytes - 1 };
                        star_pattern = pattern;
                        star_text = text;
                        continue;
                }
                if (pattern.bytes > 0 && text.bytes > 0 && element_match(&pattern, *text.start)) {
                        text = (struct span){ text.start + 1, text.bytes - 1 };
                        continue;
                }
                if (star_text.bytes == 0)
                        return false;
                star_text = (struct span){ star_text.start + 1, star_text.bytes - 1 };
                pattern = star_pattern;
                text = star_text;
        }
        return true;
}

/* net.SplitHostPort: brackets go when there is a port, several colons without brackets are no port. */
static void host_split(struct span whole, struct span *ret_host, struct span *ret_port)
{
        *ret_host = whole;
        *ret_port = (struct span){ "", 0 };

        const char *colon = memrchr(whole.start, ':', whole.bytes);
        const char *bracket = memrchr(whole.start, ']', whole.bytes);
        if (!colon || (bracket && colon < bracket))
                return;

        struct span host = { whole.start, (size_t)(colon - whole.start) };
        if (host.bytes > 1 && *host.start == '[' && bracket == colon - 1)
                host = (struct span){ host.start + 1, host.bytes - 2 };
        else if (memchr(host.start, ':', host.bytes))
                return;
        *ret_host = host;
        *ret_port = (struct span){ colon + 1, whole.bytes - (size_t)(colon + 1 - whole.start) };
}

static struct span label_take(struct span *rest)
{
        const char *dot = memchr(rest->start, '.', rest->bytes);
        struct span label = { rest->start, dot ? (size_t)(dot - rest->start) : rest->bytes };
        *rest = dot ? (struct span){ dot + 1, rest->bytes - label.bytes - 1 } : (struct span){ NULL, 0 };
        return label;
}

static bool host_match(struct span pattern, struct span target)
{
        struct span pattern_host, pattern_port, target_host, target_port;
        host_split(pattern, &pattern_host, &pattern_port);
        host_split(target, &target_host, &target_port);
        if (pattern_port.bytes != target_port.bytes || memcmp(pattern_port.start, target_port.start, target_port.bytes) != 0)
                return false;

        while (pattern_host.start && target_host.start)
                if (!glob_match(label_take(&pattern_host), label_take(&target_host)))
                        return false;
        return !pattern_host.start && !target_host.start;
}

enum fit { FIT_NONE, FIT_PREFIX, FIT_SEGMENT };

/* kubelet's URLsMatch, told apart by whether the key's path ends where a segment of the image's ends. */
static enum fit index_key_fit(const char *index_key, const char *host, const char *path)
{
        size_t host_bytes = strcspn(index_key, "/");
        const char *key_path = index_key + host_bytes;
        if (!host_match((struct span){ index_key, host_bytes }, (struct span){ host, strlen(host) }))
                return FIT_NONE;
        if (!*key_path)
                return FIT_SEGMENT;

        size_t wanted = strlen(key_path) - 1;     /* both without the first slash */
        if (strncmp(path, key_path + 1, wanted) != 0)
                return FIT_NONE;
        return wanted == 0 || path[wanted] == '\0' || path[wanted] == '/' || path[wanted - 1] == '/' ? FIT_SEGMENT : FIT_PREFIX;
}

bool keyring_index_key_fits(const char *index_key, const char *host, const char *path)
{
        return index_key_fit(index_key, host, path) != FIT_NONE;
}

bool keyring_key_matches(const char *key, const char *host, const char *path)
{
        CLEANUP(cleanup_free) char *index_key = keyring_index_key(key);
        return index_key && index_key_fit(index_key, host, path) != FIT_NONE;
}

struct candidate { const struct config_entry *entry; size_t config; enum fit fit; };

static int candidate_compare(const void *a, const void *b)
{
        const struct candidate *left = a, *right = b;
        int by_key = strcmp(right->entry->index_key, left->entry->index_key);
        if (left->fit != right->fit)
                return left->fit > right->fit ? -1 : 1;
        if (by_key != 0)
                return by_key;
        if (left->config != right->config)
                return left->config < right->config ? -1 : 1;
        return strcmp(left->entry->raw_key, right->entry->raw_key);
}

struct keyring_ask { const struct docker_config *const *configs; size_t config_count; const char *host, *path; };

static size_t candidates_collect(const struct keyring_ask *ask, bool hub, struct candidate *ret_candidates)
{
        size_t count = 0;
        for (size_t c = 0; c < ask->config_count; c++)
                for (size_t i = 0; ask->configs[c] && i < ask->configs[c]->count; i++) {
                        const struct config_entry *entry = &ask->configs[c]->entries[i];
                        enum fit fit = hub ? (strcmp(entry->index_key, HUB_INDEX_KEY) == 0 ? FIT_SEGMENT : FIT_NONE) : index_key_fit(entry->index_key, ask->host, ask->path);
                        if (fit != FIT_NONE)
                                ret_candidates[count++] = (struct candidate){ entry, c, fit };
                }
        return count;
}

static bool login_known(const struct login *logins, size_t count, const struct login *login)
{
        for (size_t i = 0; i < count; i++)
                if (login_equal(&logins[i], login))
                        return true;
        return false;
}

void keyring_find(const struct docker_config *const *configs, size_t config_count, const char *host, const char *path, struct login **ret_logins, size_t *ret_count)
{
        struct keyring_ask ask = { configs, config_count, host, path };
        size_t entries = 0, used = 0;
        for (size_t c = 0; c < config_count; c++)
                entries += configs[c] ? configs[c]->count : 0;

        CLEANUP(cleanup_free) struct candidate *candidates = memory_new(entries + 1, sizeof *candidates);
        size_t count = candidates_collect(&ask, false, candidates);
        if (count == 0 && (strcmp(host, "docker.io") == 0 || strcmp(host, HUB_INDEX_KEY) == 0))
                count = candidates_collect(&ask, true, candidates);
        qsort(candidates, count, sizeof *candidates, candidate_compare);

        struct login *logins = count > 0 ? memory_new(count, sizeof *logins) : NULL;
        for (size_t i = 0; i < count; i++)
                if (!login_known(logins, used, &candidates[i].entry->login))
                        login_copy(&candidates[i].entry->login, &logins[used++]);
        *ret_logins = logins;
        *ret_count = used;
}

void logins_free(struct login **logins, size_t count)
{
        struct login *gone = TAKE(*logins);
        for (size_t i = 0; i < count; i++)
                login_fini(&gone[i]);
        free(gone);
}
