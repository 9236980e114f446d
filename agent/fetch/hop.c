/*
 * How it goes: options onto the slot's easy handle, then perform and poll until libcurl says done; head and body are given to the owner as they come.
 * How it fails: the owner's refusal, the deadline and a cancel end it for good; a connection that fails or makes no progress ends it BROKEN, with words from reason.c.
 * How it ends: the easy handle leaves the multi handle in every case; what is left of the connection is kept there by libcurl if it is whole.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "hop.h"
#include "reason.h"

enum { RECEIVE_BYTES = 256 << 10, POLL_MS = 1000, CA_BYTES_MAX = 4 << 20, CONNECTION_AGE_S = 60, DOZE_MOST_MS = 3600 * 1000 };

const char *method_name(enum fetch_method method)
{
        static const char *const names[] = { [FETCH_GET] = "GET", [FETCH_HEAD] = "HEAD", [FETCH_POST] = "POST", [FETCH_PATCH] = "PATCH" };
        return names[method];
}

/* Ends the transfer from inside a callback of libcurl: nothing taken, so it stops with CURLE_WRITE_ERROR. */
static size_t stop(struct hop *hop, bool refused)
{
        hop->refused = refused;
        hop->enough = !refused;
        return 0;
}

static bool is_cancelled(struct hop *hop)
{
        return hop->request->cancel && cancel_is_triggered(hop->request->cancel);
}

/* The empty line: the head is whole. Heads of 1xx come before the one that counts. */
static size_t head_end(struct hop *hop, size_t length)
{
        if (hop->head_done || hop->response->status < 200)
                return length;
        hop->head_done = true;
        if (!hop->head(hop, &hop->use, hop->err))
                return stop(hop, true);
        return hop->use == HOP_BODY_NONE && hop->request->method != FETCH_HEAD ? stop(hop, false) : length;
}

static size_t on_header(char *line, size_t one, size_t length, void *arg)
{
        struct hop *hop = arg;
        (void)one;
        hop->moved_ms = clock_get_ms();
        if (length == 0)
                return 0;
        if (line[0] == '\n' || (line[0] == '\r' && (length == 1 || line[1] == '\n')))
                return head_end(hop, length);
        if (hop->head_done) {            /* trailers count, but say nothing */
                hop->response->header_bytes += length;
                if (hop->response->header_bytes <= HEADER_BYTES_MAX)
                        return length;
                refuse(hop->err, ERROR_UPSTREAM_ERROR, "more than %d KiB of trailers", HEADER_BYTES_MAX >> 10);
                return stop(hop, true);
        }
        return response_add_line(hop->response, line, length, hop->err) ? length : stop(hop, true);
}

static size_t on_body(char *bytes, size_t one, size_t length, void *arg)
{
        struct hop *hop = arg;
        (void)one;
        if (is_cancelled(hop)) {
                refuse(hop->err, ERROR_BUSY, "cancelled");
                return stop(hop, true);
        }

        bool going_on = true;
        if (hop->use == HOP_BODY_GIVE) {
                atomic_fetch_add(&stats.bytes, length);
                if (!hop->body(hop, bytes, length, hop->err))
                        return stop(hop, true);
        } else {
                struct buffer *kept = &hop->response->error_body;
                size_t room = FETCH_ERROR_BODY_BYTES - kept->used;
                going_on = length <= room && buffer_append(kept, bytes, length);
                if (!going_on)
                        buffer_append(kept, bytes, room);
        }
        hop->moved_ms = clock_get_ms();
        return going_on ? length : stop(hop, false);
}

static int on_connected(void *arg, char *to, char *from, int to_port, int from_port)
{
        struct hop *hop = arg;
        (void)to, (void)from, (void)to_port, (void)from_port;
        hop->connected = true;
        hop->moved_ms = clock_get_ms();
        return CURL_PREREQFUNC_OK;
}

static void blocked_note(struct hop *hop, const struct address *address, const char *why)
{
        char text[ADDRESS_TEXT_BYTES];
        address_format(address, text);
        snprintf(hop->blocked, sizeof hop->blocked, "the address %s is refused: %s", text, why);
        hop->addresses_blocked++;
}

/* The address that is really connected to: what a name resolves to may change between a check and its use (DNS rebinding). */
static curl_socket_t on_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *to)
{
        struct hop *hop = arg;
        struct address address;
        if (purpose != CURLSOCKTYPE_IPCXN || !address_from_socket(&to->addr, &address))
                return CURL_SOCKET_BAD;
        const char *why = hop->proxy ? NULL : address_filter_check(&hop->client->filter, &address, hop->request->public_only);
        if (why) {
                blocked_note(hop, &address, why);
                errno = EACCES;
                return CURL_SOCKET_BAD;
        }
        hop->addresses_tried++;
        address_format(&address, hop->tried);
        return socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
}

static void header_add(struct curl_slist **list, const char *name, const char *value)
{
        CLEANUP(buffer_fini_secret) struct buffer line = { 0 };
        /* libcurl takes "Name:" as "leave this one out"; an empty value is written "Name;" */
        if (!buffer_printf(&line, *value ? "%s: %s" : "%s;", name, value))
                return;
        struct curl_slist *longer = curl_slist_append(*list, line.data);
        if (longer)
                *list = longer;
}

static void headers_free(struct curl_slist **list)
{
        /* Authorization is in here */
        for (struct curl_slist *item = *list; item; item = item->next)
                explicit_bzero(item->data, strlen(item->data));
        curl_slist_free_all(*list);
}

static char *authority_format(const struct url *url)
{
        bool v6 = strchr(url->host, ':') != NULL;
        return string_format("%s%s%s:%u", v6 ? "[" : "", url->host, v6 ? "]" : "", url->port);
}

static struct curl_slist *headers_make(struct hop *hop)
{
        const struct fetch_request *request = hop->request;
        struct curl_slist *list = curl_slist_append(NULL, "Expect:");
        header_add(&list, "Accept-Encoding", "identity");
        bool accept = false;
        for (size_t i = 0; i < request->header_count; i++) {
                accept = accept || strcasecmp(request->headers[i].name, "Accept") == 0;
                header_add(&list, request->headers[i].name, request->headers[i].value);
        }
        if (!accept)
                header_add(&list, "Accept", "*/*");
        if (hop->authorization)
                header_add(&list, "Authorization", hop->authorization);
        if (request->method == FETCH_POST || request->method == FETCH_PATCH)
                header_add(&list, "Content-Type", request->body_type ? request->body_type : "application/octet-stream");
        for (size_t i = 0; hop->endpoint && i < hop->endpoint->header_count; i++)
                if (!hop->authorization || strcasecmp(hop->endpoint->headers[i].name, "Authorization") != 0)
                        header_add(&list, hop->endpoint->headers[i].name, hop->endpoint->headers[i].value);
        if (request->tls && request->tls->server_name) {
                CLEANUP(cleanup_free) char *authority = authority_format(hop->url);
                header_add(&list, "Host", authority);
        }
        if (hop->range_from >= 0) {
                char range[40];
                snprintf(range, sizeof range, "bytes=%lld-", (long long)hop->range_from);
                header_add(&list, "Range", range);
                if (hop->if_range)
                        header_add(&list, "If-Range", hop->if_range);
        }
        return list;
}

/* The system's CAs, and the host's own beside them. Files are read anew, so that a renewed one is used by the next connection. */
static bool set_ca(struct hop *hop, const char *const *paths, struct error *err)
{
        CURL *easy = hop->slot->easy;
        if (!paths || !*paths)
                return curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK;           /* only then is the parsed bundle cached */

        CLEANUP(buffer_fini) struct buffer pem = { 0 };
        for (; *paths; paths++) {
                CLEANUP(buffer_fini) struct buffer one = { 0 };
                if (!fs_load(AT_FDCWD, *paths, CA_BYTES_MAX, &one, err)) {
                        err->code = ERROR_UPSTREAM_UNREACHABLE;
                        return refuse_within(err, "CA file of %s", hop->url->host);
                }
                buffer_append(&pem, one.data ? one.data : "", one.used);
                buffer_append_text(&pem, "\n");
        }
        if (!hop->client->ca_folder && hop->client->ca_bundle) {
                CLEANUP(buffer_fini) struct buffer bundle = { 0 };
                struct error ignored = { 0 };
                if (fs_load(AT_FDCWD, hop->client->ca_bundle, CA_BYTES_MAX, &bundle, &ignored) && bundle.used > 0)
                        buffer_append(&pem, bundle.data, bundle.used);
        }
        struct curl_blob blob = { pem.data, pem.used, CURL_BLOB_COPY };
        curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
        curl_easy_setopt(easy, CURLOPT_CAPATH, hop->client->ca_folder);
        return true;
}

static void set_blob(CURL *easy, CURLoption option, const char *text)
{
        struct curl_blob blob = { (void *)(uintptr_t)text, text ? strlen(text) : 0, CURL_BLOB_COPY };
        if (text)
                curl_easy_setopt(easy, option, &blob);
}

/* TLS asks for the certificate of another name than the one that is connected to: to libcurl the name is the host, and the host is only where it connects. */
static bool set_server_name(struct hop *hop, const char *name, struct error *err)
{
        CLEANUP(cleanup_free) char *authority = authority_format(hop->url);
        CLEANUP(cleanup_free) char *route = string_format("::%s", authority);
        CURLU *handle = curl_url();
        char *text = NULL;
        bool good = handle && curl_url_set(handle, CURLUPART_URL, hop->url->text, 0) == CURLUE_OK && curl_url_set(handle, CURLUPART_HOST, name, 0) == CURLUE_OK &&
                    curl_url_get(handle, CURLUPART_URL, &text, 0) == CURLUE_OK && curl_easy_setopt(hop->slot->easy, CURLOPT_URL, text) == CURLE_OK;
        curl_free(text);
        curl_url_cleanup(handle);
        hop->connect_to = good ? curl_slist_append(NULL, route) : NULL;
        curl_easy_setopt(hop->slot->easy, CURLOPT_CONNECT_TO, hop->connect_to);
        return hop->connect_to || refuse(err, ERROR_BAD_REQUEST, "the server name that the certificate must have is no host name");
}

static bool set_tls_own(struct hop *hop, const struct fetch_tls *tls, struct error *err)
{
        CURL *easy = hop->slot->easy;
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, tls->skip_verify ? 0L : 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, tls->skip_verify ? 0L : 2L);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        set_blob(easy, CURLOPT_CAINFO_BLOB, tls->ca);
        set_blob(easy, CURLOPT_SSLCERT_BLOB, tls->client_certificate);
        set_blob(easy, CURLOPT_SSLKEY_BLOB, tls->client_key);
        return !tls->server_name || set_server_name(hop, tls->server_name, err);
}

/* What the options say of the host wins over what the asker says of the endpoint, what is given with the request over both. */
static bool set_tls(struct hop *hop, struct error *err)
{
        CURL *easy = hop->slot->easy;
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        if (hop->request->tls)
                return set_tls_own(hop, hop->request->tls, err);
        const struct host *host = client_find_host(hop->client, hop->url);
        const char *const named_ca[] = { host ? host->ca : NULL, NULL };
        struct fetch_endpoint named = { .ca = named_ca }, none = { 0 };
        if (host) {
                named.skip_verify = host->skip_verify;
                named.client_certificate = host->client_certificate;
                named.client_key = host->client_key;
        }
        const struct fetch_endpoint *endpoint = host && host_is_told(host) ? &named : hop->endpoint ? hop->endpoint : &none;
        bool verify = !endpoint->skip_verify;
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
        if (endpoint->client_certificate) {
                curl_easy_setopt(easy, CURLOPT_SSLCERT, endpoint->client_certificate);
                curl_easy_setopt(easy, CURLOPT_SSLKEY, endpoint->client_key ? endpoint->client_key : endpoint->client_certificate);
        }
        return set_ca(hop, verify ? endpoint->ca : NULL, err);
}

static void set_callbacks(struct hop *hop)
{
        CURL *easy = hop->slot->easy;
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, hop);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, hop);
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_connected);
        curl_easy_setopt(easy, CURLOPT_PREREQDATA, hop);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, hop);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, hop->curl_text);
}

static void set_method(struct hop *hop)
{
        CURL *easy = hop->slot->easy;
        if (hop->request->method == FETCH_HEAD) {
                curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
        } else if (hop->request->method != FETCH_GET) {
                const char *body = hop->request->body ? hop->request->body : "";
                curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
                curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
                if (hop->request->method == FETCH_PATCH)
                        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, "PATCH");
        }
}

/* No redirects, netrc, cookies or environment: what libcurl would do by itself is done by run.c under our rules, or not at all ([oci] 6.3, 7). */
static bool set_options(struct hop *hop, struct curl_slist *headers, struct error *err)
{
        CURL *easy = hop->slot->easy;
        curl_easy_reset(easy);
        curl_easy_setopt(easy, CURLOPT_URL, hop->url->text);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
        curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
        curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                (long)(hop->endpoint && hop->endpoint->connect_timeout_ms > 0 ? hop->endpoint->connect_timeout_ms : hop->client->connect_timeout_ms));
        curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)CONNECTION_AGE_S);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, hop->wants_fresh ? 1L : 0L);
        curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
        curl_easy_setopt(easy, CURLOPT_PROXY, hop->proxy ? hop->proxy : "");
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "wasmcached/" WASMCACHED_VERSION);
        set_callbacks(hop);
        set_method(hop);
        return set_tls(hop, err);
}

static void wake(void *multi)
{
        curl_multi_wakeup(multi);
}

/* The clocks that libcurl does not watch. False when the hop is over, *ret_end says how. */
static bool clocks_check(struct hop *hop, enum hop_end *ret_end, int *ret_wait_ms, struct error *err)
{
        int64_t now_ms = clock_get_ms(), wait_ms = POLL_MS;
        char text[32];
        *ret_end = HOP_REFUSED;
        if (is_cancelled(hop))
                return refuse(err, ERROR_BUSY, "cancelled");
        if (hop->request->deadline_ms > 0) {
                if (now_ms >= hop->request->deadline_ms) {
                        clock_format_duration(hop->request->deadline_ms - hop->started_ms, text, sizeof text);
                        return refuse(err, ERROR_TIMEOUT, "not done within %s", text);
                }
                wait_ms = hop->request->deadline_ms - now_ms < wait_ms ? hop->request->deadline_ms - now_ms : wait_ms;
        }
        if (hop->connected) {
                const int64_t *own_ms = hop->request->progress_timeout_ms;
                int64_t most_ms = own_ms ? *own_ms : hop->client->progress_timeout_ms;
                int64_t left_ms = hop->moved_ms + most_ms - now_ms;
                if (left_ms <= 0) {
                        clock_format_duration(most_ms, text, sizeof text);
                        *ret_end = HOP_BROKEN;
                        return refuse(err, ERROR_UPSTREAM_UNREACHABLE, "stalled: not a byte for %s%s", text, own_ms ? "" : " (pull.progress_timeout)");
                }
                wait_ms = left_ms < wait_ms ? left_ms : wait_ms;
        }
        *ret_wait_ms = (int)wait_ms;
        return true;
}

/* libcurl is done: what does its code mean? */
static enum hop_end end_judge(struct hop *hop, CURLcode code, struct error *err)
{
        long connections = 0;
        if (hop->refused)
                return HOP_REFUSED;
        if (hop->enough)
                return HOP_DONE;
        hop->is_stale = !hop->head_done && curl_easy_getinfo(hop->slot->easy, CURLINFO_NUM_CONNECTS, &connections) == CURLE_OK && connections == 0 && hop->connected;
        if (code == CURLE_OK && !hop->head_done) {
                refuse(err, ERROR_UPSTREAM_ERROR, "broken HTTP: the answer has no whole head");
                return HOP_BROKEN;
        }
        /* a broken body of an error is no news: its status is what counts (distribution 2.8.2 lies about the length of a 416) */
        if (code == CURLE_OK || (hop->head_done && hop->use != HOP_BODY_GIVE))
                return HOP_DONE;
        return reason_tell(hop, code, err) ? HOP_BROKEN : HOP_REFUSED;
}

static enum hop_end drive(struct hop *hop, struct error *err)
{
        CURLM *multi = hop->slot->multi;
        for (;;) {
                int running = 0, left = 0, wait_ms = 0;
                enum hop_end end;
                CURLMcode code = curl_multi_perform(multi, &running);
                if (code != CURLM_OK) {
                        refuse(err, ERROR_INTERNAL, "libcurl: %s", curl_multi_strerror(code));
                        return HOP_REFUSED;
                }
                for (const CURLMsg *message; (message = curl_multi_info_read(multi, &left));)
                        if (message->msg == CURLMSG_DONE)
                                return end_judge(hop, message->data.result, err);
                if (!clocks_check(hop, &end, &wait_ms, err))
                        return end == HOP_BROKEN && hop->head_done && hop->use != HOP_BODY_GIVE ? HOP_DONE : end;
                curl_multi_poll(multi, NULL, 0, wait_ms, NULL);
        }
}

/* With a proxy we do not see the address that is connected to; a literal in the URL can still be judged ([oci] 6.3). */
static bool literal_check(struct hop *hop, struct error *err)
{
        struct address address;
        if (!hop->proxy || !address_parse(hop->url->host, &address))
                return true;
        const char *why = address_filter_check(&hop->client->filter, &address, hop->request->public_only);
        if (!why)
                return true;
        blocked_note(hop, &address, why);
        return refuse(err, ERROR_DENIED, "%s; if that is meant to be reached, list its network in network.allow", hop->blocked);
}

enum hop_end hop_run(struct hop *hop, struct error *err)
{
        CURL *easy = hop->slot->easy;
        CLEANUP(headers_free) struct curl_slist *headers = headers_make(hop);
        hop->err = err;
        hop->use = HOP_BODY_KEEP;
        hop->proxy = proxy_rules_choose(&hop->client->proxies, hop->url);
        fetch_response_free(&hop->response);
        hop->response = response_new(hop->url->text);
        if (!literal_check(hop, err) || !set_options(hop, headers, err)) {
                curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
                return HOP_REFUSED;
        }
        if (curl_multi_add_handle(hop->slot->multi, easy) != CURLM_OK) {
                refuse(err, ERROR_INTERNAL, "libcurl takes no more work");
                return HOP_REFUSED;
        }

        if (hop->request->cancel)
                cancel_set_waker(hop->request->cancel, wake, hop->slot->multi);
        enum hop_end end = drive(hop, err);
        if (hop->request->cancel)
                cancel_set_waker(hop->request->cancel, NULL, NULL);

        long connections = 0;
        curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connections);
        atomic_fetch_add(&stats.connections, (unsigned long long)connections);
        curl_multi_remove_handle(hop->slot->multi, easy);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, NULL);
        curl_slist_free_all(TAKE(hop->connect_to));
        return end;
}

void hop_wake(struct slot *slot)
{
        wake(slot->multi);
}

void hop_doze(struct slot *slot, struct cancel *cancel, int64_t until_ms)
{
        int64_t left_ms = until_ms - clock_get_ms();
        cancel_set_waker(cancel, wake, slot->multi);
        if (left_ms > 0)
                curl_multi_poll(slot->multi, NULL, 0, left_ms < DOZE_MOST_MS ? (int)left_ms : DOZE_MOST_MS, NULL);
        cancel_set_waker(cancel, NULL, NULL);
}

bool hop_sleep(struct slot *slot, struct cancel *cancel, int64_t until_ms, struct error *err)
{
        while (clock_get_ms() < until_ms && !cancel_is_triggered(cancel))
                hop_doze(slot, cancel, until_ms);
        return cancel_is_triggered(cancel) ? refuse(err, ERROR_BUSY, "cancelled") : true;
}
