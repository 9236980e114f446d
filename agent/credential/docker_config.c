/*
 * How it goes: the JSON text becomes a tree (base refuses duplicates, depth, junk), every member of "auths" becomes one entry: key, user and password or "auth", tokens;
 *              entries are sorted by key, so that equal contents mean equal order and equal fingerprints.
 * How it fails: what is no docker config at all is secret_missing with a place, never with content; a single bad entry is skipped and counted, because the others are still good.
 * How it ends: docker_config_free() wipes every secret (struct secret).
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "config.h"

static void config_entry_fini(struct config_entry *entry)
{
        free(entry->raw_key);
        free(entry->index_key);
        login_fini(&entry->login);
}

void docker_config_free(struct docker_config **config)
{
        struct docker_config *gone = TAKE(*config);
        if (!gone)
                return;

        for (size_t i = 0; i < gone->count; i++)
                config_entry_fini(&gone->entries[i]);
        free(gone->entries);
        free(gone);
}

size_t docker_config_get_skipped(const struct docker_config *config)
{
        return config->skipped;
}

/* Go's decoder, which wrote the rules here, takes "Auths" for "auths" when there is no exact one. */
static const struct value *member_find(const struct value *map, const char *name)
{
        const struct value *exact = value_get_member(map, name);
        if (exact)
                return exact;

        for (size_t i = 0; i < value_get_count(map); i++)
                if (strcasecmp(value_get_key(map, i), name) == 0)
                        return value_get_item(map, i);
        return NULL;
}

/* "" when absent or null; false when it is there and no text. */
static bool text_read(const struct value *entry, const char *name, const char **ret_text)
{
        const struct value *value = member_find(entry, name);
        if (value && value_get_kind(value) != VALUE_NULL && value_get_kind(value) != VALUE_TEXT)
                return false;

        *ret_text = value && value_get_kind(value) == VALUE_TEXT ? value_get_text(value) : "";
        return true;
}

/*
 * Base64 as Go reads it: CR and LF anywhere are nothing, padding is needed if the text ends with "=" and forbidden otherwise, left-over bits of the last digit are not looked at
 * (base64_decode() refuses them, so they are cleared here).
 */
static bool auth_decode(const char *auth, struct buffer *ret_decoded)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        for (const char *c = auth; *c; c++)
                if (*c != '\r' && *c != '\n' && !buffer_append(&text, c, 1))
                        return false;
        if (text.used == 0)
                return false;

        bool padded = text.data[text.used - 1] == '=';
        size_t length = text.used;
        while (length > 0 && text.data[length - 1] == '=')
                length--;
        const char *last = length > 0 ? strchr(digits, text.data[length - 1]) : NULL;
        if (!last)
                return false;
        if (length % 4 == 2 || length % 4 == 3)
                text.data[length - 1] = digits[(last - digits) & (length % 4 == 2 ? 0x30 : 0x3c)];

        size_t decoded_bytes = 0;
        if (!buffer_reserve(ret_decoded, text.used / 4 * 3 + 4) || !base64_decode(text.data, text.used, !padded, ret_decoded->data, &decoded_bytes))
                return false;
        ret_decoded->used = decoded_bytes;
        ret_decoded->data[decoded_bytes] = '\0';
        return true;
}

/* "user:password"; both may be empty, the password may hold colons, NULs at its end are docker's padding. */
static bool auth_split(const struct buffer *decoded, struct login *login)
{
        const char *colon = memchr(decoded->data, ':', decoded->used);
        if (!colon)
                return false;

        size_t user_bytes = (size_t)(colon - decoded->data), password_bytes = decoded->used - user_bytes - 1;
        while (password_bytes > 0 && colon[password_bytes] == '\0')
                password_bytes--;
        if (memchr(decoded->data, '\0', user_bytes))
                return false;

        login->username = string_copy_bytes(decoded->data, user_bytes);
        login->password = secret_new(colon + 1, password_bytes);
        return true;
}

/* Goes into a header as it is: anything but visible ASCII there would end the header or start another. */
static bool header_safe(const char *token)
{
        for (const char *c = token; *c; c++)
                if (*c <= ' ' || *c > '~')
                        return false;
        return true;
}

/* False: not usable, and then nothing is kept. */
static bool login_read(const struct value *value, struct login *ret_login)
{
        const char *auth, *username, *password, *identity, *registry;
        if (value_get_kind(value) != VALUE_MAP || !text_read(value, "auth", &auth) || !text_read(value, "username", &username) || !text_read(value, "password", &password) ||
            !text_read(value, "identitytoken", &identity) || !text_read(value, "registrytoken", &registry) || !header_safe(registry))
                return false;

        struct login login = { 0 };
        if (*auth) {
                CLEANUP(buffer_fini_secret) struct buffer decoded = { 0 };
                if (!auth_decode(auth, &decoded) || !auth_split(&decoded, &login)) {
                        login_fini(&login);
                        return false;
                }
        } else if (*username || *password) {
                login.username = string_copy(username);
                login.password = secret_new(password, strlen(password));
        }
        if (*identity)
                login.identity_token = secret_new(identity, strlen(identity));
        if (*registry)
                login.registry_token = secret_new(registry, strlen(registry));

        if (!login.username && !login.identity_token && !login.registry_token)
                return false;
        *ret_login = login;
        return true;
}

static int entry_compare(const void *a, const void *b)
{
        return strcmp(((const struct config_entry *)a)->raw_key, ((const struct config_entry *)b)->raw_key);
}

static void entries_read(const struct value *auths, struct docker_config *config)
{
        for (size_t i = 0; i < value_get_count(auths); i++) {
                struct config_entry entry = { .index_key = keyring_index_key(value_get_key(auths, i)) };
                if (!entry.index_key || !login_read(value_get_item(auths, i), &entry.login)) {
                        config->skipped++;
                        config_entry_fini(&entry);
                        continue;
                }
                entry.raw_key = string_copy(value_get_key(auths, i));
                config->entries[config->count++] = entry;
        }
        if (config->count > 0)
                qsort(config->entries, config->count, sizeof *config->entries, entry_compare);
}

struct docker_config *docker_config_from_map(const struct value *auths)
{
        struct docker_config *config = memory_new(1, sizeof *config);
        if (value_get_count(auths) > 0) {
                config->entries = memory_new(value_get_count(auths), sizeof *config->entries);
                entries_read(auths, config);
        }
        return config;
}

static bool auths_find(const struct value *root, enum docker_config_kind kind, const struct value **ret_auths, struct error *err)
{
        if (value_get_kind(root) != VALUE_MAP)
                return refuse(err, ERROR_SECRET_MISSING, "is no docker config: the text is a JSON %s, not an object", value_get_kind_name(value_get_kind(root)));

        const struct value *auths = kind == DOCKER_CONFIG_LEGACY ? root : member_find(root, "auths");
        if (auths && value_get_kind(auths) == VALUE_NULL)
                auths = NULL;
        if (auths && value_get_kind(auths) != VALUE_MAP)
                return refuse(err, ERROR_SECRET_MISSING, "is no docker config: \"auths\" is a JSON %s, not an object", value_get_kind_name(value_get_kind(auths)));
        if (auths && value_get_count(auths) > CREDENTIAL_ENTRIES_MAX)
                return refuse(err, ERROR_SECRET_MISSING, "is no docker config: it has %zu entries, at most %d are read", value_get_count(auths), CREDENTIAL_ENTRIES_MAX);

        *ret_auths = auths;
        return true;
}

bool docker_config_read(const void *bytes, size_t size_bytes, enum docker_config_kind kind, struct docker_config **ret_config, struct error *err)
{
        if (size_bytes > CREDENTIAL_CONFIG_MAX_BYTES)
                return refuse(err, ERROR_SECRET_MISSING, "is no docker config: it has %zu bytes, at most %d are read", size_bytes, CREDENTIAL_CONFIG_MAX_BYTES);

        CLEANUP(value_free) struct value *root = NULL;
        const struct value *auths = NULL;
        if (!json_parse(bytes, size_bytes, ERROR_SECRET_MISSING, &root, err))
                return refuse_within(err, "is no docker config");
        if (!auths_find(root, kind, &auths, err))
                return false;

        *ret_config = docker_config_from_map(auths);
        return true;
}

bool docker_config_parse(const void *bytes, size_t size_bytes, enum docker_config_kind kind, struct docker_config **ret_config, struct error *err)
{
        CLEANUP(docker_config_free) struct docker_config *config = NULL;
        if (!docker_config_read(bytes, size_bytes, kind, &config, err))
                return false;
        if (config->count == 0 && config->skipped > 0)
                return refuse(err, ERROR_SECRET_MISSING, "has no usable entry: %zu of %zu have no registry as key or no readable \"auth\", "
                        "\"username\" and \"password\", \"identitytoken\" or \"registrytoken\"", config->skipped, config->skipped);
        if (config->count == 0)
                return refuse(err, ERROR_SECRET_MISSING, "has no entry: a docker config is %s",
                        kind == DOCKER_CONFIG_JSON ? "{\"auths\": {\"<registry>\": {\"auth\": …}}}" : "{\"<registry>\": {\"auth\": …}}");

        *ret_config = TAKE(config);
        return true;
}

static void hashed_append(struct buffer *text, const void *bytes, size_t size_bytes)
{
        uint64_t length = size_bytes;
        if (!buffer_append(text, &length, sizeof length) || !buffer_append(text, bytes, size_bytes))
                abort();                          /* out of memory for a text of ours */
}

void docker_config_fingerprint(const struct docker_config *config, const void *key, size_t key_bytes, struct digest *ret_fingerprint)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        for (size_t i = 0; i < config->count; i++) {
                struct digest login;
                login_fingerprint(&config->entries[i].login, key, key_bytes, &login);
                hashed_append(&text, config->entries[i].raw_key, strlen(config->entries[i].raw_key));
                hashed_append(&text, login.bytes, DIGEST_SHA256_BYTES);
        }
        digest_hmac(key, key_bytes, text.data ? text.data : "", text.used, ret_fingerprint);
}
