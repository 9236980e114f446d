/*
 * How it goes: fetch_client_new() checks and copies the options; requests take a slot by origin, the newest idle one first, and give it back for the next.
 * How it fails: a CIDR, file or proxy that cannot be used is refused at start by the name of its option; idle slots beyond the bounds in number or age are closed.
 * How it ends: the last reference closes all idle slots; running requests hold a reference through their caller.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "client.h"

enum { PEM_BYTES_MAX = 4 << 20 };

struct stats stats;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void curl_start(void)
{
        curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

static void slot_free(struct slot *slot)
{
        curl_easy_cleanup(slot->easy);
        curl_multi_cleanup(slot->multi);
        free(slot->key);
        free(slot);
}

static bool list_take(const char *option, const char *const *texts, struct cidr **ret_list, size_t *ret_count, struct error *err)
{
        size_t count = 0;
        while (texts && texts[count])
                count++;

        CLEANUP(cleanup_free) struct cidr *list = memory_new(count + 1, sizeof *list);
        for (size_t i = 0; i < count; i++) {
                char shown[64];
                if (!cidr_parse(texts[i], true, &list[i]))
                        return refuse(err, ERROR_BAD_REQUEST, "%s: \"%s\" is no network; write an address or address/bits with nothing behind the bits, as 10.0.0.0/8",
                                      option, string_printable(texts[i], strlen(texts[i]), shown, sizeof shown));
        }
        *ret_list = TAKE(list);
        *ret_count = count;
        return true;
}

/* A PEM file of the configuration, read to tell a slip at start; requests read it again, so that a renewed certificate needs no restart. */
static bool pem_check(const char *host, const char *option, const char *path, struct error *err)
{
        if (!path)
                return true;
        CLEANUP(buffer_fini_secret) struct buffer pem = { 0 };
        if (!fs_load(AT_FDCWD, path, PEM_BYTES_MAX, &pem, err)) {
                err->code = ERROR_BAD_REQUEST;
                return refuse_within(err, "registries.\"%s\".%s", host, option);
        }
        if (!pem.data || !strstr(pem.data, "-----BEGIN "))
                return refuse(err, ERROR_BAD_REQUEST, "registries.\"%s\".%s: %s holds no PEM (-----BEGIN …)", host, option, path);
        return true;
}

static bool host_take(const struct fetch_host *from, struct host *ret_host, struct error *err)
{
        CLEANUP(cleanup_free) char *name = NULL;
        unsigned port = 0;
        char shown[128];
        string_printable(from->host, strlen(from->host), shown, sizeof shown);
        if (!url_split_host(from->host, &name, &port))
                return refuse(err, ERROR_BAD_REQUEST, "registries.\"%s\": not a host[:port]", shown);
        if (!pem_check(shown, "ca", from->ca, err) || !pem_check(shown, "client_certificate", from->client_certificate, err) ||
            !pem_check(shown, "client_key", from->client_key, err))
                return false;
        if (from->client_key && !from->client_certificate)
                return refuse(err, ERROR_BAD_REQUEST, "registries.\"%s\".client_key: needs client_certificate beside it", shown);

        *ret_host = (struct host){ string_copy(from->host), from->plain_http, from->skip_verify, string_copy(from->ca),
                                   string_copy(from->client_certificate), string_copy(from->client_key ? from->client_key : from->client_certificate) };
        return true;
}

/* A folder of hashed names costs nothing to open; the bundle is parsed whole (about 20 ms) wherever curl cannot cache it. */
static bool folder_is_hashed(const char *path)
{
        DIR *folder = path ? opendir(path) : NULL;
        bool hashed = false;
        for (struct dirent *entry; folder && !hashed && (entry = readdir(folder));)
                hashed = string_ends_with(entry->d_name, ".0");
        if (folder)
                closedir(folder);
        return hashed;
}

bool fetch_client_new(const struct fetch_options *options, struct fetch_client **ret_client, struct error *err)
{
        pthread_once(&curl_once, curl_start);
        if (curl_ready != CURLE_OK)
                return refuse(err, ERROR_INTERNAL, "libcurl cannot start: %s", curl_easy_strerror(curl_ready));

        CLEANUP(fetch_client_unref) struct fetch_client *client = memory_new(1, sizeof *client);
        atomic_init(&client->references, 1);
        pthread_mutex_init(&client->mutex, NULL);
        gates_init(&client->gates);
        client->connect_timeout_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : 10000;
        client->progress_timeout_ms = options->progress_timeout_ms > 0 ? options->progress_timeout_ms : 30000;
        client->retries = options->retries;

        client->hosts = memory_new(options->host_count + 1, sizeof *client->hosts);
        for (; client->host_count < options->host_count; client->host_count++)
                if (!host_take(&options->hosts[client->host_count], &client->hosts[client->host_count], err))
                        return false;
        if (!list_take("network.block", options->block, &client->filter.block, &client->filter.block_count, err) ||
            !list_take("network.allow", options->allow, &client->filter.allow, &client->filter.allow_count, err) ||
            !proxy_rules_init(options->http_proxy, options->https_proxy, options->no_proxy, &client->proxies, err))
                return false;

        const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);
        client->ca_bundle = version->cainfo;
        client->ca_folder = folder_is_hashed(version->capath) ? version->capath : NULL;
        *ret_client = TAKE(client);
        return true;
}

struct fetch_client *fetch_client_ref(struct fetch_client *client)
{
        atomic_fetch_add(&client->references, 1);
        return client;
}

void fetch_client_unref(struct fetch_client **reference)
{
        struct fetch_client *client = TAKE(*reference);
        if (!client || atomic_fetch_sub(&client->references, 1) != 1)
                return;

        while (client->idle) {
                struct slot *slot = client->idle;
                client->idle = slot->next;
                slot_free(slot);
        }
        for (size_t i = 0; i < client->host_count; i++) {
                free(client->hosts[i].key);
                free(client->hosts[i].ca);
                free(client->hosts[i].client_certificate);
                free(client->hosts[i].client_key);
        }
        free(client->hosts);
        address_filter_fini(&client->filter);
        proxy_rules_fini(&client->proxies);
        gates_fini(&client->gates);
        pthread_mutex_destroy(&client->mutex);
        free(client);
}

bool host_is_told(const struct host *host)
{
        return host->plain_http || host->skip_verify || host->ca || host->client_certificate;
}

bool fetch_client_is_plain(const struct fetch_client *client, const char *key)
{
        for (size_t i = 0; i < client->host_count; i++) {
                const struct host *row = &client->hosts[i];
                if (strcasecmp(row->key, key) != 0)
                        continue;
                if (host_is_told(row))
                        return row->plain_http;          /* who says something about TLS means TLS, on loopback too */
        }

        CLEANUP(cleanup_free) char *host = NULL;
        unsigned port = 0;
        return url_split_host(key, &host, &port) && url_host_is_loopback(host);
}

const struct host *client_find_host(const struct fetch_client *client, const struct url *url)
{
        for (size_t i = 0; i < client->host_count; i++)
                if (url_host_matches(client->hosts[i].key, url->host, url->port, url->tls))
                        return &client->hosts[i];
        return NULL;
}

/* Takes out of the idle list what is too old or too much; the caller frees it without the lock. */
static struct slot *idle_trim(struct fetch_client *client, size_t keep)
{
        int64_t oldest_ms = clock_get_ms() - SLOT_AGE_MS;
        struct slot *dead = NULL;
        size_t seen = 0;
        for (struct slot **at = &client->idle; *at;) {
                struct slot *slot = *at;
                if (++seen <= keep && slot->idle_since_ms >= oldest_ms) {
                        at = &slot->next;
                        continue;
                }
                *at = slot->next;
                slot->next = dead;
                dead = slot;
                client->idle_count--;
        }
        return dead;
}

static void slots_free(struct slot *slot)
{
        while (slot) {
                struct slot *next = slot->next;
                slot_free(slot);
                slot = next;
        }
}

static char *slot_key_format(const struct slot_want *want)
{
        const struct fetch_endpoint *endpoint = want->endpoint;
        struct buffer key = { 0 };
        buffer_printf(&key, "%s%s", want->origin, want->public_only ? " public" : "");
        if (endpoint)
                buffer_printf(&key, "\n%d\n%s\n%s", endpoint->skip_verify,
                        endpoint->client_certificate ? endpoint->client_certificate : "", endpoint->client_key ? endpoint->client_key : "");
        for (const char *const *ca = endpoint ? endpoint->ca : NULL; ca && *ca; ca++)
                buffer_printf(&key, "\n%s", *ca);
        return buffer_take(&key);
}

bool client_slot_take(struct fetch_client *client, const struct slot_want *want, struct slot **ret_slot, struct error *err)
{
        CLEANUP(cleanup_free) char *key = slot_key_format(want);
        pthread_mutex_lock(&client->mutex);
        struct slot *dead = idle_trim(client, SLOTS_IDLE_MAX), *found = NULL;
        for (struct slot **at = &client->idle; *at && !found; at = &(*at)->next) {
                if (strcmp((*at)->key, key) != 0)
                        continue;
                found = *at;
                *at = found->next;
                client->idle_count--;
                break;
        }
        pthread_mutex_unlock(&client->mutex);
        slots_free(dead);

        if (!found) {
                found = memory_new(1, sizeof *found);
                found->multi = curl_multi_init();
                found->easy = curl_easy_init();
                found->key = TAKE(key);
                if (!found->multi || !found->easy) {
                        slot_free(found);
                        return refuse(err, ERROR_INTERNAL, "libcurl has no memory or descriptors left");
                }
                curl_multi_setopt(found->multi, CURLMOPT_MAXCONNECTS, 2L);
        }
        found->next = NULL;
        *ret_slot = found;
        return true;
}

void client_slot_give(struct fetch_client *client, struct slot **reference)
{
        struct slot *slot = TAKE(*reference);
        if (!slot)
                return;

        slot->idle_since_ms = clock_get_ms();
        pthread_mutex_lock(&client->mutex);
        size_t same = 0;
        for (struct slot *other = client->idle; other; other = other->next)
                same += strcmp(other->key, slot->key) == 0;
        if (same < SLOTS_IDLE_PER_KEY) {
                slot->next = client->idle;
                client->idle = slot;
                client->idle_count++;
                slot = NULL;
        }
        struct slot *dead = idle_trim(client, SLOTS_IDLE_MAX);
        pthread_mutex_unlock(&client->mutex);
        slots_free(dead);
        if (slot)
                slot_free(slot);
}

int64_t fetch_client_get_wait_ms(struct fetch_client *client, const char *url, int *ret_status)
{
        CLEANUP(cleanup_free) char *origin = fetch_url_origin(url);
        return origin ? gate_get_left_ms(&client->gates, origin, ret_status) : 0;
}

void fetch_get_stats(struct fetch_stats *ret_stats)
{
        *ret_stats = (struct fetch_stats){ stats.requests, stats.retries, stats.resumes, stats.connections, stats.bytes, stats.waits };
}
