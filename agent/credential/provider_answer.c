/*
 * How it goes: the request is one line of JSON; the response is read strictly: version, kind, cacheKeyType, cacheDuration, auth, and nothing else ([oci] 3.9).
 * How it fails: with the member that is wrong; never with anything of the response but that, for all of it may be a secret.
 * How it ends: the tree that was read is wiped, the logins belong to the answer.
 */
#include <string.h>
#include "provider.h"

static const char *const key_names[PROVIDER_KEYS] = { "Image", "Registry", "Global" };

char *provider_request_format(const char *image, const char *api_version)
{
        struct buffer text = { 0 };
        struct json_writer writer = { .out = &text };
        json_open_map(&writer, NULL);
        json_put_text(&writer, "kind", "CredentialProviderRequest");
        json_put_text(&writer, "apiVersion", api_version);
        json_put_text(&writer, "image", image);
        json_close_map(&writer);
        buffer_append_text(&text, "\n");
        return buffer_take(&text);
}

static bool refuse_answer(struct error *err, const char *what)
{
        return refuse(err, ERROR_UPSTREAM_ERROR, "its answer is no CredentialProviderResponse: %s", what);
}

static bool members_known(const struct value *map, const char *const *names)
{
        struct error ignored = { 0 };
        return value_only_members(map, names, ERROR_UPSTREAM_ERROR, &ignored);
}

static bool text_or_null(const struct value *value)
{
        return value_get_kind(value) == VALUE_TEXT || value_get_kind(value) == VALUE_NULL;
}

static bool auth_check(const struct value *auth, struct error *err)
{
        static const char *const names[] = { "username", "password", NULL };
        if (value_get_kind(auth) != VALUE_NULL && value_get_kind(auth) != VALUE_MAP)
                return refuse_answer(err, "\"auth\" is no object");
        if (value_get_count(auth) > CREDENTIAL_ENTRIES_MAX)
                return refuse_answer(err, "\"auth\" has too many entries");
        for (size_t i = 0; i < value_get_count(auth); i++) {
                const struct value *entry = value_get_item(auth, i);
                if (value_get_kind(entry) != VALUE_MAP || !members_known(entry, names) || !text_or_null(value_get_member(entry, "username")) ||
                    !text_or_null(value_get_member(entry, "password")))
                        return refuse_answer(err, "an entry of \"auth\" is not {\"username\": …, \"password\": …}");
        }
        return true;
}

/* Of a negative one the kubelet makes an entry that has expired already. */
static bool duration_read(const struct value *value, int64_t *ret_ms, struct error *err)
{
        struct error ignored = { 0 };
        const char *text = value_get_text(value);
        *ret_ms = value_get_kind(value) == VALUE_NULL ? -1 : 0;
        if (!text_or_null(value) || (text && !clock_parse_duration(*text == '-' ? text + 1 : text, ret_ms, &ignored)))
                return refuse_answer(err, "\"cacheDuration\" is no duration such as \"12h\"");
        if (text && *text == '-')
                *ret_ms = 0;
        return true;
}

static bool key_read(const struct value *value, enum provider_key *ret_key, struct error *err)
{
        for (size_t i = 0; i < PROVIDER_KEYS; i++)
                if (string_equal(value_get_text(value), key_names[i])) {
                        *ret_key = (enum provider_key)i;
                        return true;
                }
        return refuse_answer(err, "\"cacheKeyType\" is not Image, Registry or Global");
}

bool provider_answer_read(const char *text, size_t size_bytes, const char *api_version, struct provider_answer **ret_answer, struct error *err)
{
        static const char *const names[] = { "apiVersion", "kind", "cacheKeyType", "cacheDuration", "auth", NULL };
        CLEANUP(value_free) struct value *root = NULL;
        struct error ignored = { 0 };
        enum provider_key key_type = PROVIDER_KEY_IMAGE;
        int64_t cache_ms = 0;
        if (!json_parse(text, size_bytes, ERROR_UPSTREAM_ERROR, &root, &ignored) || value_get_kind(root) != VALUE_MAP)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the %zu bytes on its standard output are no JSON object", size_bytes);
        if (!string_equal(value_get_text(value_get_member(root, "apiVersion")), api_version))
                return refuse(err, ERROR_UPSTREAM_ERROR, "its answer is not of the apiVersion %s, which was asked for", api_version);
        if (!string_equal(value_get_text(value_get_member(root, "kind")), "CredentialProviderResponse"))
                return refuse_answer(err, "\"kind\" says otherwise");
        if (!members_known(root, names))
                return refuse_answer(err, "it has a member that the API does not know");
        if (!key_read(value_get_member(root, "cacheKeyType"), &key_type, err) || !duration_read(value_get_member(root, "cacheDuration"), &cache_ms, err) ||
            !auth_check(value_get_member(root, "auth"), err))
                return false;

        *ret_answer = memory_new(1, sizeof **ret_answer);
        **ret_answer = (struct provider_answer){ .references = 1, .key_type = key_type, .cache_ms = cache_ms, .config = docker_config_from_map(value_get_member(root, "auth")) };
        return true;
}
