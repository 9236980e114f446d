/*
 * How it goes: one small recogniser per kind of text; option_text_fits() picks it by type.
 * How it fails: false; the caller names the key, the line and what the type allows.
 * How it ends: pure functions.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/registry.h>
#include "option.h"

enum { TEXT_MAX_BYTES = 4096 };

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_lower_alphanumeric(char c)
{
        return is_digit(c) || (c >= 'a' && c <= 'z');
}

static bool text_is_plain(const char *text)
{
        for (const char *at = text; *at; at++)
                if ((unsigned char)*at < 0x20 || *at == 0x7f)
                        return false;
        return strlen(text) <= TEXT_MAX_BYTES;
}

static bool path_is_absolute(const char *path)
{
        if (path[0] != '/' || !text_is_plain(path))
                return false;

        for (const char *part = path; (part = strchr(part, '/')); ) {
                part++;
                size_t length = strcspn(part, "/");
                if ((length == 1 && part[0] == '.') || (length == 2 && part[0] == '.' && part[1] == '.'))
                        return false;
        }
        return true;
}

static bool template_fits(const char *text)
{
        static const char PLACE[] = "{namespace}";
        if (!path_is_absolute(text))
                return false;

        for (const char *at = text; (at = strpbrk(at, "{}")); at += sizeof PLACE - 1)
                if (!string_starts_with(at, PLACE))
                        return false;
        return true;
}

static bool label_fits(const char *text)
{
        size_t length = strlen(text);
        if (length == 0 || length > 63 || text[0] == '-' || text[length - 1] == '-')
                return false;

        for (size_t i = 0; i < length; i++)
                if (!is_lower_alphanumeric(text[i]) && text[i] != '-')
                        return false;
        return true;
}

static bool port_fits(const char *text, size_t length)
{
        if (length == 0 || length > 5)
                return false;
        for (size_t i = 0; i < length; i++)
                if (!is_digit(text[i]))
                        return false;
        return strtoul(text, NULL, 10) <= 65535;
}

static bool address_is_v6(const char *text, size_t length)
{
        char copy[INET6_ADDRSTRLEN];
        struct in6_addr address;
        if (length >= sizeof copy)
                return false;
        memcpy(copy, text, length);
        copy[length] = '\0';
        return inet_pton(AF_INET6, copy, &address) == 1;
}

/* Host names and IPv4 addresses: letters, digits, '-', '_', '.', no empty label. */
static bool name_fits(const char *text, size_t length, bool upper_allowed)
{
        if (length == 0 || length > 253 || text[0] == '.' || text[0] == '-')
                return false;
        for (size_t i = 0; i < length; i++) {
                bool upper = text[i] >= 'A' && text[i] <= 'Z';
                if (!is_lower_alphanumeric(text[i]) && !(upper && upper_allowed) && text[i] != '-' && text[i] != '_' && text[i] != '.')
                        return false;
                if (text[i] == '.' && text[i - 1] == '.')
                        return false;
        }
        return true;
}

/* host[:port] at the start of `text`, up to `length` bytes; an IPv6 address stands in brackets. */
static bool authority_fits(const char *text, size_t length, bool upper_allowed, bool port_required)
{
        const char *end = text + length;
        const char *port;
        if (length > 0 && text[0] == '[') {
                const char *close = memchr(text, ']', length);
                if (!close || !address_is_v6(text + 1, (size_t)(close - text - 1)))
                        return false;
                port = close + 1;
        } else {
                const char *colon = memchr(text, ':', length);
                port = colon ? colon : end;
                if (!name_fits(text, (size_t)(port - text), upper_allowed))
                        return false;
        }
        if (port == end)
                return !port_required;
        return *port == ':' && port_fits(port + 1, (size_t)(end - port - 1));
}

static bool listen_address_fits(const char *text)
{
        size_t length = strlen(text);
        if (!authority_fits(text, length, false, true))
                return false;
        if (text[0] == '[' || string_starts_with(text, "localhost:"))
                return true;

        char host[INET_ADDRSTRLEN];
        struct in_addr address;
        size_t host_bytes = strcspn(text, ":");
        if (host_bytes >= sizeof host)
                return false;
        memcpy(host, text, host_bytes);
        host[host_bytes] = '\0';
        return inet_pton(AF_INET, host, &address) == 1;
}

/* What follows http:// or https://; NULL when neither stands there. */
static const char *scheme_skip(const char *text)
{
        if (string_starts_with_nocase(text, "http://"))
                return text + strlen("http://");
        if (string_starts_with_nocase(text, "https://"))
                return text + strlen("https://");
        return NULL;
}

static bool url_fits(const char *text)
{
        const char *rest = scheme_skip(text);
        if (!rest || !text_is_plain(text) || strpbrk(rest, "@?# \\"))
                return false;
        return authority_fits(rest, strcspn(rest, "/"), true, false);
}

static bool proxy_fits(const char *text)
{
        const char *rest = scheme_skip(text);
        if (!rest || !text_is_plain(text) || strpbrk(rest, "?# \\"))
                return false;

        const char *at = strrchr(rest, '@');
        const char *host = at ? at + 1 : rest;
        size_t length = strcspn(host, "/");
        return authority_fits(host, length, true, false) && (host[length] == '\0' || host[length + 1] == '\0');
}

static bool cidr_fits(const char *text)
{
        char address[INET6_ADDRSTRLEN];
        size_t length = strcspn(text, "/");
        if (length >= sizeof address)
                return false;
        memcpy(address, text, length);
        address[length] = '\0';

        unsigned char bytes[sizeof(struct in6_addr)];
        unsigned long most = inet_pton(AF_INET, address, bytes) == 1 ? 32 : inet_pton(AF_INET6, address, bytes) == 1 ? 128 : 0;
        if (most == 0 || text[length] == '\0')
                return most != 0;
        const char *bits = text + length + 1;
        return port_fits(bits, strlen(bits)) && strlen(bits) <= 3 && strtoul(bits, NULL, 10) <= most;
}

/* The host is written out: "a/b" would be one of Docker Hub's. */
static bool repository_fits(const char *text)
{
        struct reference reference = { 0 };
        struct error ignored;
        size_t host = strcspn(text, "/");
        bool fits = text[host] == '/' && authority_fits(text, host, false, false) && reference_parse(text, &reference, &ignored);
        if (fits)
                fits = reference.is_tag_implied && (memchr(text, '.', host) || strcmp(reference.host, "docker.io") != 0);
        reference_fini(&reference);
        return fits;
}

bool option_text_fits(enum option_type type, const char *text)
{
        switch (type) {
        case OPTION_PATH:
                return path_is_absolute(text);
        case OPTION_TEMPLATE:
                return template_fits(text);
        case OPTION_LABEL:
                return label_fits(text);
        case OPTION_ADDRESS:
                return listen_address_fits(text);
        case OPTION_PROXY:
                return proxy_fits(text);
        case OPTION_URL:
                return url_fits(text);
        case OPTION_CIDR:
                return cidr_fits(text);
        case OPTION_HOST:
                return authority_fits(text, strlen(text), false, false);
        case OPTION_REPOSITORY:
                return repository_fits(text);
        default:
                return text_is_plain(text);
        }
}
