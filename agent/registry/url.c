/*
 * How it goes: scheme, then the authority up to the first '/' or '?', then host and port, each against a short list of characters.
 * How it fails: anything unusual is false; the caller says what that means.
 * How it ends: authority_fini() frees the host.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { HOST_BYTES_MAX = 255 };

/* Printable ASCII without what clients disagree about ('\' as '/', '#', quotes, braces). */
static bool characters_valid(const char *url)
{
        for (; *url; url++)
                if (*url <= 0x20 || *url >= 0x7f || strchr("\\#\"<>^`{|}", *url))
                        return false;
        return true;
}

static bool port_parse(const char *text, size_t length, unsigned *ret_port)
{
        unsigned port = 0;

        if (length == 0 || length > 5)
                return false;
        for (size_t i = 0; i < length; i++) {
                if (text[i] < '0' || text[i] > '9')
                        return false;
                port = port * 10 + (unsigned)(text[i] - '0');
        }
        *ret_port = port;
        return port >= 1 && port <= 65535;
}

static size_t host_length(const char *text, size_t length)
{
        const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._";
        size_t used = 0;

        if (length > 0 && text[0] == '[') {
                used = 1 + strspn(text + 1, "0123456789abcdefABCDEF:");
                return used > 1 && used < length && text[used] == ']' ? used + 1 : 0;
        }
        used = strspn(text, allowed);
        return used < length ? used : length;
}

bool authority_parse(const char *url, struct authority *ret_authority)
{
        bool is_tls = string_starts_with_nocase(url, "https://");

        if (!characters_valid(url) || (!is_tls && !string_starts_with_nocase(url, "http://")))
                return false;

        const char *text = strstr(url, "://") + 3;
        size_t length = strcspn(text, "/?"), host_bytes = host_length(text, length);
        unsigned port = is_tls ? 443 : 80;
        if (host_bytes == 0 || host_bytes > HOST_BYTES_MAX)
                return false;
        if (host_bytes < length && (text[host_bytes] != ':' || !port_parse(text + host_bytes + 1, length - host_bytes - 1, &port)))
                return false;

        char *host = string_copy_bytes(text, host_bytes);
        for (char *c = host; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        *ret_authority = (struct authority){ is_tls, host, port };
        return true;
}

void authority_fini(struct authority *authority)
{
        free(TAKE(authority->host));
}

char *endpoint_format_root(const struct registry_call *call)
{
        size_t length = strlen(call->endpoint);
        while (length > 0 && call->endpoint[length - 1] == '/')
                length--;
        return string_format("%.*s%s", (int)length, call->endpoint, call->is_root ? "" : "/v2");
}

void percent_append(struct buffer *buffer, const char *text)
{
        for (; *text; text++)
                if (strchr("-._~", *text) || (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z'))
                        buffer_append(buffer, text, 1);
                else
                        buffer_printf(buffer, "%%%02X", (unsigned)(unsigned char)*text);
}
