/*
 * How it goes: a want's own key and each rule whose pattern its name falls under, in whatever way it is written, become demands; the want remembers them for the configuration
 *              they were made from. Verdicts are found by scope, target and demand.
 * How it fails: a demand without a verdict is not met, whatever else is known.
 * How it ends: verdicts go with the configuration and the process; they are never written down.
 */
#include <arpa/inet.h>
#include <fnmatch.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "demand.h"
#include "pull.h"

/* ---- which rules ---- */

/* "[0::1]" is "[::1]", and "[::ffff:127.0.0.1]" reaches 127.0.0.1. False: no such address. A pattern has its bracket escaped. */
static bool append_v6(struct buffer *out, const char *name, bool is_pattern)
{
        struct in6_addr address;
        char text[INET6_ADDRSTRLEN];
        size_t length = strlen(name);
        if (length < 2 || length - 2 >= sizeof text || *name != '[' || name[length - 1] != ']')
                return false;
        memcpy(text, name + 1, length - 2);
        text[length - 2] = '\0';
        if (inet_pton(AF_INET6, text, &address) != 1)
                return false;
        bool is_v4 = IN6_IS_ADDR_V4MAPPED(&address);
        inet_ntop(is_v4 ? AF_INET : AF_INET6, is_v4 ? &address.s6_addr[12] : &address.s6_addr[0], text, sizeof text);
        buffer_printf(out, is_v4 ? "%s%s" : "%s[%s]", is_pattern && !is_v4 ? "\\" : "", text);
        return true;
}

/* "host." is "host"; "127.1" and "0x7f000001" reach 127.0.0.1, as resolvers read them. */
static void append_name(struct buffer *out, char *name, bool is_pattern)
{
        static const char *const hub[] = { "index.docker.io", "registry-1.docker.io", "registry.docker.io" };
        struct in_addr address;
        char text[INET_ADDRSTRLEN];
        if (append_v6(out, name, is_pattern))
                return;
        for (size_t end = strlen(name); end > 0 && name[end - 1] == '.'; end--)
                name[end - 1] = '\0';
        const char *shown = inet_aton(name, &address) ? inet_ntop(AF_INET, &address, text, sizeof text) : name;
        for (size_t i = 0; i < COUNT_OF(hub); i++)
                if (strcmp(name, hub[i]) == 0)
                        shown = "docker.io";
        buffer_append_text(out, shown);
}

/* "HOST.:0443" is "host": the same server, another spelling. */
static void append_host(struct buffer *out, const char *host, size_t length, bool is_pattern)
{
        CLEANUP(cleanup_free) char *lower = string_copy_bytes(host, length);
        for (char *c = lower; *c; c++)
                if (*c >= 'A' && *c <= 'Z')
                        *c = (char)(*c + 32);
        char *bracket = *lower == '[' ? strchr(lower, ']') : NULL, *port = strchr(bracket ? bracket : lower, ':');
        if (port)
                *port++ = '\0';
        append_name(out, lower, is_pattern);
        if (!port)
                return;
        if (strspn(port, "0123456789") == strlen(port))
                while (*port == '0' && port[1])
                        port++;
        if (strcmp(port, "443") != 0 && strcmp(port, "80") != 0)
                buffer_printf(out, ":%s", port);
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        char lower = (char)(c | 0x20);
        return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* A path as the server will read it: escapes of what needs none undone, "//" as "/" (RFC 3986 6.2.2.2). */
static void append_path(struct buffer *out, const char *path)
{
        for (char last = 0; *path; path++) {
                char c = *path;
                int high = c == '%' ? hex_digit(path[1]) : -1, low = high < 0 ? -1 : hex_digit(path[2]);
                if (low >= 0 && high * 16 + low > ' ' && high * 16 + low < 0x7f) {
                        c = (char)(high * 16 + low);
                        path += 2;
                }
                if (c == '/' && last == '/')
                        continue;
                last = c;
                buffer_append(out, &c, 1);
        }
}

/* "host/path" however it was written: rules are about places, not about spellings. */
static char *canonical_place(const struct module_want *want)
{
        struct buffer out = { 0 };
        if (want->kind == WANT_OCI) {
                append_host(&out, want->reference.host, strlen(want->reference.host), false);
                buffer_printf(&out, "/%s", want->reference.path);
        } else if (want->kind == WANT_HTTP) {
                const char *authority = strstr(want->name, "://") + 3, *path = authority + strcspn(authority, "/");
                append_host(&out, authority, (size_t)(path - authority), false);
                append_path(&out, path);
        } else {
                append_path(&out, want->path);
        }
        return buffer_take(&out);
}

/* "host/a/../b" is "host/b" (RFC 3986 5.2.4): curl asks for it so, and most servers read it so. */
static char *place_resolve(const char *place)
{
        struct buffer out = { 0 };
        size_t host = strcspn(place, "/");
        buffer_append(&out, place, host);
        for (const char *at = place + host; *at == '/';) {
                size_t length = 1 + strcspn(at + 1, "/");
                if (length == 3 && memcmp(at, "/..", 3) == 0)
                        while (out.used > host && out.data[--out.used] != '/')
                                ;
                else if (!(length == 2 && at[1] == '.'))
                        buffer_append(&out, at, length);
                at += length;
        }
        return buffer_take(&out);
}

/* "host/v2/NAME/blobs/DIGEST" is content of the repository host/NAME, also for who asks for it as for any file. NULL: nothing of a registry. */
static char *place_find_repository(const struct module_want *want, const char *resolved)
{
        size_t host = strcspn(resolved, "/");
        if (want->kind != WANT_HTTP || strncmp(resolved + host, "/v2/", 4) != 0)
                return NULL;
        const char *name = resolved + host + 4, *end = NULL;
        for (const char *at = name; (at = strchr(at, '/')); at++)
                if (string_starts_with(at, "/blobs/") || string_starts_with(at, "/manifests/"))
                        end = at;
        return end ? string_format("%.*s/%.*s", (int)host, resolved, (int)(end - name), name) : NULL;
}

/* What a request asks for as a rule sees it: as written, with its dots resolved, and the repository of a registry's blob. A rule that fits one of them is meant. */
struct places { char *written, *resolved, *repository; };

static void places_find(const struct module_want *want, struct places *ret_places)
{
        ret_places->written = canonical_place(want);
        ret_places->resolved = place_resolve(ret_places->written);
        ret_places->repository = place_find_repository(want, ret_places->resolved);
}

static void places_fini(struct places *places)
{
        free(places->written);
        free(places->resolved);
        free(places->repository);
}

static bool pattern_fits(const char *pattern, const struct places *places)
{
        return fnmatch(pattern, places->written, 0) == 0 || fnmatch(pattern, places->resolved, 0) == 0;
}

/* A pattern with a scheme is about that scheme; what a blob's url gives is the registry's. */
static bool scheme_fits(const char *pattern, const char *end, const struct module_want *want)
{
        static const char *const names[] = { [WANT_OCI] = "oci", [WANT_HTTP] = "http", [WANT_FILE] = "file" };
        const char *name = want->kind == WANT_HTTP && string_starts_with(want->name, "https:") ? "https" : names[want->kind];
        return !end || (strncmp(pattern, name, (size_t)(end - pattern)) == 0 && !name[end - pattern]);
}

static bool rule_fits(const struct trust_rule *rule, const struct module_want *want, const struct places *places)
{
        const char *scheme = strstr(rule->match, "://"), *pattern = scheme ? scheme + 3 : rule->match;
        bool is_meant = scheme_fits(rule->match, scheme, want);
        if (!scheme && want->kind == WANT_FILE)
                return pattern_fits(pattern, places);
        struct buffer canonical = { 0 };
        size_t host = strcspn(pattern, "/");
        append_host(&canonical, pattern, host, true);
        buffer_append_text(&canonical, pattern + host);
        CLEANUP(cleanup_free) char *text = buffer_take(&canonical);
        if (places->repository && (!scheme || string_starts_with(rule->match, "oci:")) && fnmatch(text, places->repository, 0) == 0)
                return true;
        return is_meant && (pattern_fits(text, places) || (want->kind != WANT_FILE && fnmatch(pattern, want->repository, 0) == 0));
}

/* ---- demands ---- */

struct demands *demands_ref(struct demands *demands)
{
        if (demands)
                demands->references++;
        return demands;
}

void demands_unref(struct demands **demands_pointer)
{
        struct demands *demands = TAKE(*demands_pointer);
        if (!demands || --demands->references > 0)
                return;
        for (size_t i = 0; i < demands->count; i++) {
                trust_keys_unref(&demands->items[i].keys);
                trust_policy_unref(&demands->items[i].policy);
                free((void *)(uintptr_t)demands->items[i].rule);
        }
        free(demands);
}

static void make_id(const struct trust_keys *keys, const struct trust_policy *policy, const char *name, struct digest *ret_id)
{
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        hasher_update(hasher, trust_keys_get_digest(keys)->bytes, DIGEST_SHA256_BYTES);
        hasher_update(hasher, trust_policy_get_digest(policy)->bytes, DIGEST_SHA256_BYTES);
        hasher_update(hasher, name, strlen(name));
        hasher_finish(hasher, ret_id);
}

void demand_make_id(const struct trust_keys *keys, const struct trust_policy *policy, struct digest *ret_id)
{
        make_id(keys, policy, "", ret_id);
}

static void demands_add(struct demands *demands, const struct module_want *want, struct trust_keys *keys, struct trust_policy *policy, const char *rule)
{
        struct demand *demand = &demands->items[demands->count++];
        *demand = (struct demand){ .keys = trust_keys_ref(keys), .policy = trust_policy_ref(policy), .rule = rule ? string_copy(rule) : NULL };
        make_id(keys, policy, trust_policy_get_options(policy)->identity != TRUST_IDENTITY_IGNORE ? want->name : "", &demand->id);
}

static struct demands *demands_new(const struct trust_setup *trust, const struct module_want *want)
{
        CLEANUP(demands_unref) struct demands *demands = memory_new(1, sizeof *demands + (trust->rule_count + 1) * sizeof *demands->items);
        CLEANUP(places_fini) struct places places = { 0 };
        demands->references = 1;
        demands->generation = trust->generation;
        if (want->key)
                demands_add(demands, want, want->key, trust->policy, NULL);
        if (trust->rule_count > 0)
                places_find(want, &places);
        for (size_t i = 0; i < trust->rule_count; i++) {
                const struct trust_rule *rule = &trust->rules[i];
                if (rule_fits(rule, want, &places))
                        demands_add(demands, want, rule->keys, rule->policy, rule->match);
        }
        CLEANUP(hasher_free) struct hasher *hasher = hasher_new(DIGEST_SHA256);
        for (size_t i = 0; i < demands->count; i++)
                hasher_update(hasher, demands->items[i].id.bytes, DIGEST_SHA256_BYTES);
        hasher_finish(hasher, &demands->id);
        return TAKE(demands);
}

struct demands *demands_of(const struct trust_setup *trust, struct module_want *want)
{
        if (!want->key && trust->rule_count == 0) {
                demands_unref(&want->demands);
                return NULL;
        }
        if (!want->demands || want->demands->generation != trust->generation) {
                demands_unref(&want->demands);
                want->demands = demands_new(trust, want);
        }
        return want->demands->count > 0 ? want->demands : NULL;
}

/* ---- verdicts ---- */

enum { NAME_BYTES = 1 + DIGEST_BYTES_MAX + 2 * DIGEST_SHA256_BYTES };
struct about { enum proof_scope scope; const struct digest *target, *module; };
struct verdicts { struct map *map, *targets; };    /* targets: the latest about each, those before it by `next` */

static void verdict_free(void *value)
{
        struct verdict *verdict = value;
        free(verdict->where);
        free(verdict->annotations);
        free(verdict);
}

struct verdicts *verdicts_new(void)
{
        struct verdicts *verdicts = memory_new(1, sizeof *verdicts);
        verdicts->map = map_new(verdict_free);
        verdicts->targets = map_new(NULL);
        return verdicts;
}

void verdicts_free(struct verdicts **verdicts_pointer)
{
        struct verdicts *verdicts = TAKE(*verdicts_pointer);
        if (verdicts) {
                map_free(&verdicts->targets);
                map_free(&verdicts->map);
        }
        free(verdicts);
}

void verdicts_clear(struct verdicts *verdicts)
{
        map_free(&verdicts->targets);
        map_free(&verdicts->map);
        verdicts->map = map_new(verdict_free);
        verdicts->targets = map_new(NULL);
}

size_t verdicts_get_count(const struct verdicts *verdicts)
{
        return map_get_count(verdicts->map);
}

static void name_make(const struct about *about, const struct digest *demand, uint8_t ret_name[NAME_BYTES])
{
        ret_name[0] = (uint8_t)about->scope;
        memcpy(ret_name + 1, about->target->bytes, DIGEST_BYTES_MAX);
        memcpy(ret_name + 1 + DIGEST_BYTES_MAX, about->module->bytes, DIGEST_SHA256_BYTES);
        memcpy(ret_name + 1 + DIGEST_BYTES_MAX + DIGEST_SHA256_BYTES, demand->bytes, DIGEST_SHA256_BYTES);
}

static void target_unlink(struct verdicts *verdicts, const struct verdict *verdict)
{
        struct verdict *at = map_get(verdicts->targets, verdict->target.bytes, DIGEST_BYTES_MAX);
        if (at != verdict) {
                while (at->next != verdict)
                        at = at->next;
                at->next = verdict->next;
        } else if (verdict->next) {
                map_put(verdicts->targets, verdict->target.bytes, DIGEST_BYTES_MAX, verdict->next);
        } else {
                map_remove(verdicts->targets, verdict->target.bytes, DIGEST_BYTES_MAX);
        }
}

void verdict_put(struct verdicts *verdicts, struct verdict *given)
{
        uint8_t name[NAME_BYTES];
        if (map_get_count(verdicts->map) >= VERDICTS_MAX)
                verdicts_clear(verdicts);         /* each is found again from its evidence */
        struct verdict *verdict = memory_new(1, sizeof *verdict);
        *verdict = *given;
        given->where = given->annotations = NULL;
        hex_format(verdict->fingerprint.bytes, DIGEST_SHA256_BYTES, verdict->fingerprint_hex);
        name_make(&(struct about){ verdict->scope, &verdict->target, &verdict->module }, &verdict->demand, name);
        const struct verdict *old = map_get(verdicts->map, name, sizeof name);
        if (old)
                target_unlink(verdicts, old);
        verdict->next = map_get(verdicts->targets, verdict->target.bytes, DIGEST_BYTES_MAX);
        map_put(verdicts->targets, verdict->target.bytes, DIGEST_BYTES_MAX, verdict);
        map_put(verdicts->map, name, sizeof name, verdict);
}

static const struct verdict *verdict_find(const struct verdicts *verdicts, const struct about *about, const struct demand *demand)
{
        uint8_t name[NAME_BYTES];
        if (!digest_is_set(about->target))
                return NULL;
        name_make(about, &demand->id, name);
        return map_get(verdicts->map, name, sizeof name);
}

const struct verdict *verdicts_get_latest(const struct verdicts *verdicts, const struct digest *target, const struct digest *module)
{
        const struct verdict *verdict = digest_is_set(target) ? map_get(verdicts->targets, target->bytes, DIGEST_BYTES_MAX) : NULL;
        while (verdict && !(digest_equal(&verdict->target, target) && digest_equal(&verdict->module, module)))
                verdict = verdict->next;
        return verdict;
}

void verdicts_visit(const struct verdicts *verdicts, const struct digest *target, const struct digest *module, void (*each)(void *arg, const struct verdict *verdict), void *arg)
{
        for (const struct verdict *verdict = verdicts_get_latest(verdicts, target, module); verdict; verdict = verdict->next)
                if (digest_equal(&verdict->module, module))
                        each(arg, verdict);
}

const struct verdict *demand_find_verdict(const struct verdicts *verdicts, const struct demand *demand, const struct proof_targets *targets)
{
        const struct verdict *verdict = NULL;
        if (targets->is_image) {
                if (targets->top)
                        verdict = verdict_find(verdicts, &(struct about){ PROOF_OF_MANIFEST, targets->top, targets->module }, demand);
                if (trust_policy_get_options(demand->policy)->requires_top_level && targets->top && !digest_equal(targets->top, targets->manifest))
                        return verdict;
                if (!verdict)
                        verdict = verdict_find(verdicts, &(struct about){ PROOF_OF_MANIFEST, targets->manifest, targets->module }, demand);
        } else {
                verdict = verdict_find(verdicts, &(struct about){ PROOF_OF_FILE, targets->module, targets->module }, demand);
        }
        return verdict ? verdict : verdict_find(verdicts, &(struct about){ PROOF_OF_MODULE, targets->module, targets->module }, demand);
}

bool demands_are_met(const struct verdicts *verdicts, const struct demands *demands, const struct proof_targets *targets, const struct verdict **ret_first)
{
        const struct verdict *first = NULL;
        for (size_t i = 0; demands && i < demands->count; i++) {
                const struct verdict *verdict = demand_find_verdict(verdicts, &demands->items[i], targets);
                if (!verdict)
                        return false;
                if (!first)
                        first = verdict;
        }
        *ret_first = first;
        return true;
}
