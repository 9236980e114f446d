/*
 * How it goes: the three texts are taken once, from the configuration or the environment; every URL is then matched against the exclusions, word by word.
 * How it fails: a proxy URL that libcurl could not use is refused at start, without repeating the password in it; words of NO_PROXY that mean nothing are passed over, as Go does.
 * How it ends: proxy_rules_fini() frees the texts.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "address.h"
#include "proxy.h"

static const char *environment(const char *upper, const char *lower)
{
        const char *text = getenv(upper);
        return text && *text ? text : getenv(lower);
}

/* golang.org/x/net/http/httpproxy parseProxy: a proxy without scheme is an http one. */
static bool proxy_take(const char *option, const char *text, char **ret_proxy, struct error *err)
{
        static const char *const schemes[] = { "http", "https", "socks5", "socks5h" };
        if (!text || !*text)
                return true;

        CLEANUP(cleanup_free) char *whole = strstr(text, "://") ? string_copy(text) : string_format("http://%s", text);
        CURLU *handle = curl_url();
        char *scheme = NULL;
        bool good = handle && curl_url_set(handle, CURLUPART_URL, whole, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
                    curl_url_get(handle, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK;
        bool known = false;
        for (size_t i = 0; good && i < COUNT_OF(schemes); i++)
                known = known || strcasecmp(scheme, schemes[i]) == 0;
        curl_free(scheme);
        curl_url_cleanup(handle);
        if (!known)
                return refuse(err, ERROR_BAD_REQUEST, "%s: not a proxy URL; write http://host:port, https://host:port or socks5://host:port", option);
        *ret_proxy = TAKE(whole);
        return true;
}

bool proxy_rules_init(const char *http, const char *https, const char *no_proxy, struct proxy_rules *ret_rules, struct error *err)
{
        struct proxy_rules rules = { 0 };
        bool http_own = http && *http, https_own = https && *https;
        /* In a CGI program HTTP_PROXY is the client's "Proxy:" header (httpoxy); Go refuses it there, and so do we. */
        if (!http_own)
                http = getenv("REQUEST_METHOD") ? getenv("http_proxy") : environment("HTTP_PROXY", "http_proxy");
        if (!https_own)
                https = environment("HTTPS_PROXY", "https_proxy");
        if (!proxy_take(http_own ? "network.http_proxy" : "HTTP_PROXY", http, &rules.http, err) ||
            !proxy_take(https_own ? "network.https_proxy" : "HTTPS_PROXY", https, &rules.https, err)) {
                proxy_rules_fini(&rules);
                return false;
        }
        rules.no_proxy = string_copy(no_proxy && *no_proxy ? no_proxy : environment("NO_PROXY", "no_proxy"));
        *ret_rules = rules;
        return true;
}

void proxy_rules_fini(struct proxy_rules *rules)
{
        free(rules->http);
        free(rules->https);
        free(rules->no_proxy);
        *rules = (struct proxy_rules){ 0 };
}

/* ".example.org" matches below it, "example.org" itself too, "*.example.org" is the former. */
static bool name_matches(const char *word, const char *host)
{
        if (string_starts_with(word, "*."))
                word++;
        size_t word_length = strlen(word), host_length = strlen(host);
        if (word[0] == '.')
                return host_length > word_length && strcasecmp(host + host_length - word_length, word) == 0;
        if (strcasecmp(word, host) == 0)
                return true;
        return host_length > word_length && host[host_length - word_length - 1] == '.' && strcasecmp(host + host_length - word_length, word) == 0;
}

static bool word_matches(const char *word, const char *host, const struct address *literal, unsigned port)
{
        if (strcmp(word, "*") == 0)
                return true;

        struct cidr cidr;
        if (strchr(word, '/'))
                return literal && cidr_parse(word, false, &cidr) && cidr_contains(&cidr, literal);

        CLEANUP(cleanup_free) char *name = NULL;
        unsigned word_port = 0;
        if (!url_split_host(word, &name, &word_port) || (word_port && word_port != port))
                return false;
        struct address address;
        if (address_parse(name, &address))
                return literal && memcmp(&address, literal, sizeof address) == 0;
        return name_matches(name, host);
}

bool proxy_is_excluded(const char *list, const char *host, unsigned port)
{
        struct address address;
        const struct address *literal = address_parse(host, &address) ? &address : NULL;
        for (const char *at = list; at && *at; at += *at == ',') {
                size_t length = strcspn(at, ",");
                const char *start = at, *end = at + length;
                at = end;
                while (start < end && (*start == ' ' || *start == '\t'))
                        start++;
                while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
                        end--;
                if (start == end)
                        continue;
                CLEANUP(cleanup_free) char *word = string_copy_bytes(start, (size_t)(end - start));
                if (word_matches(word, host, literal, port))
                        return true;
        }
        return false;
}

const char *proxy_rules_choose(const struct proxy_rules *rules, const struct url *url)
{
        const char *proxy = url->tls ? rules->https : rules->http;
        if (!proxy || url_host_is_loopback(url->host))
                return NULL;
        return proxy_is_excluded(rules->no_proxy, url->host, url->port) ? NULL : proxy;
}
