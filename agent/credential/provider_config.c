/*
 * How it goes: the kubelet's CredentialProviderConfig, one file or the files of a folder in order of names, is read member by member; each program is looked for in the folder of
 *              programs. Rules: pkg/credentialprovider/plugin/config.go of Kubernetes, and [oci] 3.9.
 * How it fails: the first mistake ends it with file, line, field and what to write instead; unknown members are mistakes, as for the kubelet.
 * How it ends: provider_free(); values of the environment are wiped, they may be secrets.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "provider.h"

enum { CONFIG_BYTES_MAX = 1 << 20, TEXTS_MAX = 1024 };

static const char *const config_versions[] = { "kubelet.config.k8s.io/v1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1alpha1", NULL };
static const char *const exec_versions[] = { "credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1beta1",
                                             "credentialprovider.kubelet.k8s.io/v1alpha1", NULL };

/* Where a mistake would be: the file, and the field that is being read. */
struct place { const char *file; char field[160]; struct error *err; };

__attribute__((format(printf, 4, 5)))
static bool refuse_field(const struct place *place, const struct value *at, const char *name, const char *format, ...)
{
        char text[ERROR_TEXT_BYTES];
        va_list list;
        va_start(list, format);
        vsnprintf(text, sizeof text, format, list);
        va_end(list);
        const char *dot = *place->field && *name && *name != '[' ? "." : "";
        if (value_get_line(at) == 0)
                return refuse(place->err, ERROR_BAD_REQUEST, "%s: %s%s%s: %s", place->file, place->field, dot, name, text);
        return refuse(place->err, ERROR_BAD_REQUEST, "%s:%zu: %s%s%s: %s", place->file, value_get_line(at), place->field, dot, name, text);
}

static bool is_among(const char *text, const char *const *texts)
{
        for (; *texts; texts++)
                if (strcmp(*texts, text) == 0)
                        return true;
        return false;
}

static bool members_check(const struct place *place, const struct value *map, const char *const *names)
{
        for (size_t i = 0; i < value_get_count(map); i++) {
                CLEANUP(buffer_fini) struct buffer known = { 0 };
                char shown[80];
                const char *key = value_get_key(map, i);
                if (is_among(key, names))
                        continue;
                for (const char *const *name = names; *name; name++)
                        buffer_printf(&known, "%s%s", name == names ? "" : ", ", *name);
                return refuse_field(place, value_get_item(map, i), string_printable(key, strlen(key), shown, sizeof shown), "unknown field; known are %s", known.data);
        }
        return true;
}

static bool map_check(const struct place *place, const struct value *value, const char *name)
{
        return value_get_kind(value) == VALUE_MAP || refuse_field(place, value, name, "must be a map, not %s", value_get_kind_name(value_get_kind(value)));
}

/* "" when absent or null; otherwise a text. */
static bool text_read(const struct place *place, const struct value *map, const char *name, const char **ret_text)
{
        const struct value *value = value_get_member(map, name);
        enum value_kind kind = value_get_kind(value);
        if (kind != VALUE_NULL && kind != VALUE_TEXT)
                return refuse_field(place, value, name, "must be a text in quotes, not %s", value_get_kind_name(kind));
        *ret_text = kind == VALUE_TEXT ? value_get_text(value) : "";
        return true;
}

static bool text_required(const struct place *place, const struct value *map, const char *name, const char **ret_text)
{
        return text_read(place, map, name, ret_text) && (**ret_text || refuse_field(place, value_get_member(map, name) ? value_get_member(map, name) : map, name, "is required"));
}

/* A list of texts, NULL-terminated copies; absent = none. */
static bool texts_read(const struct place *place, const struct value *map, const char *name, char ***ret_texts)
{
        const struct value *list = value_get_member(map, name);
        size_t count = value_get_count(list);
        if (value_get_kind(list) != VALUE_NULL && value_get_kind(list) != VALUE_LIST)
                return refuse_field(place, list, name, "must be a list of texts, not %s", value_get_kind_name(value_get_kind(list)));
        if (count > TEXTS_MAX)
                return refuse_field(place, list, name, "%zu entries, at most %d are read", count, TEXTS_MAX);
        *ret_texts = memory_new(count + 1, sizeof **ret_texts);
        for (size_t i = 0; i < count; i++) {
                const struct value *item = value_get_item(list, i);
                if (value_get_kind(item) != VALUE_TEXT)
                        return refuse_field(place, item, name, "[%zu] must be a text in quotes, not %s", i, value_get_kind_name(value_get_kind(item)));
                (*ret_texts)[i] = string_copy(value_get_text(item));
        }
        return true;
}

static void texts_free(char ***texts)
{
        for (char **text = *texts; text && *text; text++) {
                explicit_bzero(*text, strlen(*text));
                free(*text);
        }
        free(TAKE(*texts));
}

void provider_free(struct provider *provider)
{
        if (!provider)
                return;
        texts_free(&provider->patterns);
        texts_free(&provider->args);
        texts_free(&provider->environment);
        free(provider->name);
        free(provider->program);
        free(provider->api_version);
        free(provider);
}

static void provider_cleanup(struct provider **provider)
{
        provider_free(TAKE(*provider));
}

/* ---- one provider ---- */
static bool name_read(const struct place *place, const struct value *map, struct provider *provider)
{
        const char *name;
        char shown[80];
        if (!text_required(place, map, "name", &name))
                return false;
        if (strpbrk(name, "/ ") || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
                return refuse_field(place, value_get_member(map, "name"), "name", "\"%s\" is not the name of a program; write it without \"/\" and spaces, it is looked for in "
                        "provider_bin_dir", string_printable(name, strlen(name), shown, sizeof shown));
        provider->name = string_copy(name);
        return true;
}

static bool version_read(const struct place *place, const struct value *map, struct provider *provider)
{
        const char *version;
        char shown[80];
        if (!text_required(place, map, "apiVersion", &version))
                return false;
        if (!is_among(version, exec_versions))
                return refuse_field(place, value_get_member(map, "apiVersion"), "apiVersion", "\"%s\" is not supported; allowed: %s, %s, %s",
                        string_printable(version, strlen(version), shown, sizeof shown), exec_versions[0], exec_versions[1], exec_versions[2]);
        provider->api_version = string_copy(version);
        return true;
}

static bool patterns_read(const struct place *place, const struct value *map, struct provider *provider)
{
        const struct value *list = value_get_member(map, "matchImages");
        char shown[120];
        if (!texts_read(place, map, "matchImages", &provider->patterns))
                return false;
        if (!*provider->patterns)
                return refuse_field(place, list ? list : map, "matchImages", "is required, with at least one entry");
        for (size_t i = 0; provider->patterns[i]; i++) {
                char *written = provider->patterns[i], *key = strstr(written, "://") ? NULL : keyring_pattern_key(written);
                string_printable(written, strlen(written), shown, sizeof shown);
                if (!key)
                        return refuse_field(place, value_get_item(list, i), "matchImages", "[%zu] \"%s\" fits no image; write host[:port][/path] without scheme, * for a part of a "
                                "name", i, shown);
                free(written);
                provider->patterns[i] = key;
        }
        return true;
}

static bool duration_read(const struct place *place, const struct value *map, struct provider *provider)
{
        const char *text;
        struct error inner = { 0 };
        if (!text_required(place, map, "defaultCacheDuration", &text))
                return false;
        if (*text == '-')
                return refuse_field(place, value_get_member(map, "defaultCacheDuration"), "defaultCacheDuration", "must not be negative");
        return clock_parse_duration(text, &provider->cache_ms, &inner) ||
                refuse_field(place, value_get_member(map, "defaultCacheDuration"), "defaultCacheDuration", "%s", inner.text);
}

static bool environment_read(const struct place *place, const struct value *map, struct provider *provider)
{
        static const char *const names[] = { "name", "value", NULL };
        const struct value *list = value_get_member(map, "env");
        size_t count = value_get_count(list);
        if ((value_get_kind(list) != VALUE_NULL && value_get_kind(list) != VALUE_LIST) || count > TEXTS_MAX)
                return refuse_field(place, list, "env", "must be a list of at most %d maps of name and value", TEXTS_MAX);
        provider->environment = memory_new(count + 1, sizeof *provider->environment);
        for (size_t i = 0; i < count; i++) {
                struct place inner = { .file = place->file, .err = place->err };
                const char *name, *value;
                snprintf(inner.field, sizeof inner.field, "%.120s.env[%zu]", place->field, i);
                if (!map_check(&inner, value_get_item(list, i), "") || !members_check(&inner, value_get_item(list, i), names) ||
                    !text_required(&inner, value_get_item(list, i), "name", &name) || !text_read(&inner, value_get_item(list, i), "value", &value))
                        return false;
                if (strchr(name, '='))
                        return refuse_field(&inner, value_get_item(list, i), "name", "must not hold \"=\"");
                provider->environment[i] = string_format("%s=%s", name, value);
        }
        return true;
}

/* Tokens of service accounts are the API server's to give, for a pod; a provider that can do without is run as the kubelet runs it for static pods. */
static bool token_attributes_read(const struct place *place, const struct value *map, struct provider *provider)
{
        static const char *const names[] = { "serviceAccountTokenAudience", "cacheType", "requireServiceAccount", "requiredServiceAccountAnnotationKeys",
                                             "optionalServiceAccountAnnotationKeys", NULL };
        struct place inner = { .file = place->file, .err = place->err };
        const struct value *attributes = value_get_member(map, "tokenAttributes"), *require = value_get_member(attributes, "requireServiceAccount");
        const char *audience, *cache_type;
        char **required = NULL, **optional = NULL;
        if (value_get_kind(attributes) == VALUE_NULL)
                return true;
        snprintf(inner.field, sizeof inner.field, "%.120s.tokenAttributes", place->field);
        if (!map_check(&inner, attributes, "") || !members_check(&inner, attributes, names) || !text_required(&inner, attributes, "serviceAccountTokenAudience", &audience) ||
            !text_required(&inner, attributes, "cacheType", &cache_type))
                return false;
        if (strcmp(cache_type, "Token") != 0 && strcmp(cache_type, "ServiceAccount") != 0)
                return refuse_field(&inner, value_get_member(attributes, "cacheType"), "cacheType", "allowed: Token, ServiceAccount");
        if (value_get_kind(require) != VALUE_BOOL)
                return refuse_field(&inner, require ? require : attributes, "requireServiceAccount", "is required: true or false");
        if (strcmp(provider->api_version, exec_versions[0]) != 0)
                return refuse_field(&inner, attributes, "", "only with apiVersion %s", exec_versions[0]);
        bool is_good = texts_read(&inner, attributes, names[3], &required) && texts_read(&inner, attributes, names[4], &optional) &&
                (!*required || value_get_bool(require) || refuse_field(&inner, attributes, names[3], "cannot be set when requireServiceAccount is false"));
        texts_free(&required);
        texts_free(&optional);
        provider->wants_account = value_get_bool(require);
        return is_good;
}

bool provider_check_program(const char *program, struct error *err)
{
        struct stat status;
        if (stat(program, &status) != 0)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "the program %s", program);
        if (!S_ISREG(status.st_mode) || faccessat(AT_FDCWD, program, X_OK, AT_EACCESS) != 0)
                return refuse(err, ERROR_BAD_REQUEST, "%s is no program that we may execute", program);
        if (status.st_mode & S_IWOTH)
                return refuse(err, ERROR_BAD_REQUEST, "the program %s may be written by everybody; it is given passwords, take that right away (chmod o-w)", program);
        return true;
}

static bool provider_read(const struct place *place, const struct value *map, bool has_tokens, const char *bin_dir, struct provider *provider)
{
        static const char *const names[] = { "name", "matchImages", "defaultCacheDuration", "apiVersion", "args", "env", "tokenAttributes", NULL };
        static const char *const older_names[] = { "name", "matchImages", "defaultCacheDuration", "apiVersion", "args", "env", NULL };
        struct error inner = { 0 };
        if (!map_check(place, map, "") || !members_check(place, map, has_tokens ? names : older_names) || !name_read(place, map, provider) || !version_read(place, map, provider) ||
            !patterns_read(place, map, provider) || !duration_read(place, map, provider) || !texts_read(place, map, "args", &provider->args) ||
            !environment_read(place, map, provider) || !token_attributes_read(place, map, provider))
                return false;
        provider->program = string_format("%s%s%s", bin_dir, string_ends_with(bin_dir, "/") ? "" : "/", provider->name);
        return provider_check_program(provider->program, &inner) || refuse_field(place, value_get_member(map, "name"), "name", "%s", inner.text);
}

/* ---- files ---- */
/* YAML has lines, and JSON is YAML, except for tabs and the like. */
static bool document_parse(const struct buffer *text, struct value **ret_document, struct error *err)
{
        const char *start = text->data ? text->data : "";
        struct error ignored = { 0 };
        return yaml_parse(start, text->used, ERROR_BAD_REQUEST, ret_document, err) ||
                (start[strspn(start, " \t\r\n")] == '{' && json_parse(start, text->used, ERROR_BAD_REQUEST, ret_document, &ignored));
}

static bool header_read(const struct place *place, const struct value *document, const char **ret_version)
{
        static const char *const names[] = { "apiVersion", "kind", "providers", NULL };
        const char *kind;
        char shown[80];
        if (!map_check(place, document, "document") || !text_required(place, document, "kind", &kind) || !text_required(place, document, "apiVersion", ret_version))
                return false;
        if (strcmp(kind, "CredentialProviderConfig") != 0)
                return refuse_field(place, value_get_member(document, "kind"), "kind", "\"%s\" does not fit; allowed: CredentialProviderConfig",
                        string_printable(kind, strlen(kind), shown, sizeof shown));
        if (!is_among(*ret_version, config_versions))
                return refuse_field(place, value_get_member(document, "apiVersion"), "apiVersion", "\"%s\" is not supported; allowed: %s, %s, %s",
                        string_printable(*ret_version, strlen(*ret_version), shown, sizeof shown), config_versions[0], config_versions[1], config_versions[2]);
        return members_check(place, document, names);
}

static bool provider_add(struct place *place, const struct value *at, struct credential_providers *providers, struct provider **provider)
{
        for (size_t i = 0; i < providers->count; i++)
                if (strcmp(providers->list[i]->name, (*provider)->name) == 0)
                        return refuse_field(place, at, "name", "\"%.80s\" is there twice", (*provider)->name);
        if (providers->count == PROVIDERS_MAX)
                return refuse_field(place, at, "", "more than %d providers", PROVIDERS_MAX);
        providers->list = memory_resize(providers->list, providers->count + 1, sizeof *providers->list);
        providers->list[providers->count++] = TAKE(*provider);
        return true;
}

static bool file_load(const char *file, const char *bin_dir, struct credential_providers *providers, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer text = { 0 };
        CLEANUP(value_free) struct value *document = NULL;
        struct place place = { .file = file, .err = err };
        const char *version;
        if (!fs_load(AT_FDCWD, file, CONFIG_BYTES_MAX, &text, err) || !document_parse(&text, &document, err)) {
                CLEANUP(cleanup_free) char *said = string_copy(err->text);
                bool has_line = string_starts_with(said, "line ");
                return refuse(err, ERROR_BAD_REQUEST, has_line ? "%s:%s" : "%s: %s", file, has_line ? said + strlen("line ") : said);
        }
        if (!header_read(&place, document, &version))
                return false;

        const struct value *list = value_get_member(document, "providers");
        if (value_get_kind(list) != VALUE_LIST || value_get_count(list) == 0)
                return refuse_field(&place, list ? list : document, "providers", "a list of at least one provider is required");
        for (size_t i = 0; i < value_get_count(list); i++) {
                CLEANUP(provider_cleanup) struct provider *provider = memory_new(1, sizeof *provider);
                snprintf(place.field, sizeof place.field, "providers[%zu]", i);
                if (!provider_read(&place, value_get_item(list, i), strcmp(version, config_versions[0]) == 0, bin_dir, provider) ||
                    !provider_add(&place, value_get_item(list, i), providers, &provider))
                        return false;
        }
        return true;
}

static int is_config_name(const struct dirent *entry)
{
        return entry->d_type != DT_DIR && (string_ends_with(entry->d_name, ".yaml") || string_ends_with(entry->d_name, ".yml") || string_ends_with(entry->d_name, ".json"));
}

static bool folder_load(const char *folder, const char *bin_dir, struct credential_providers *providers, struct error *err)
{
        struct dirent **entries = NULL;
        int count = scandir(folder, &entries, is_config_name, alphasort);
        bool is_good = count > 0;
        if (count < 0)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "the folder %s", folder);
        if (count == 0)
                refuse(err, ERROR_BAD_REQUEST, "the folder %s holds no *.yaml, *.yml or *.json", folder);
        for (int i = 0; i < count; i++) {
                CLEANUP(cleanup_free) char *file = string_format("%s/%s", folder, entries[i]->d_name);
                is_good = is_good && file_load(file, bin_dir, providers, err);
                free(entries[i]);
        }
        free(entries);
        return is_good;
}

bool provider_config_load(const struct credential_providers_options *options, struct credential_providers *providers, struct error *err)
{
        struct stat status;
        if (stat(options->bin_dir, &status) != 0)
                return refuse_errno(err, ERROR_BAD_REQUEST, errno, "the folder of credential providers %s", options->bin_dir);
        if (!S_ISDIR(status.st_mode) || ((status.st_mode & S_IWOTH) && !(status.st_mode & S_ISVTX)))
                return refuse(err, ERROR_BAD_REQUEST, "the folder of credential providers %s %s", options->bin_dir,
                        S_ISDIR(status.st_mode) ? "may be written by everybody; take that right away (chmod o-w)" : "is no folder");
        if (stat(options->config, &status) == 0 && S_ISDIR(status.st_mode))
                return folder_load(options->config, options->bin_dir, providers, err);
        return file_load(options->config, options->bin_dir, providers, err);
}
