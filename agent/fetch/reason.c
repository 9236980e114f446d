/*
 * How it goes: the address filter's verdict first, then OpenSSL's verdict on the certificate, then a table by curl's code and,
 *              where one code means many things, a piece of its text.
 * How it fails: it does not; what no row knows is told in curl's own words.
 * How it ends: nothing is kept.
 */
#include <errno.h>
#include <string.h>
#include "reason.h"

struct row {
        CURLcode code;
        const char *piece;             /* of curl's text; NULL = any */
        enum error_code error;
        bool again;
        const char *words;
};

/* X509_V_ERR_* of OpenSSL; the numbers are part of its ABI */
static const struct { long result; const char *words; } verdicts[] = {
        { 9,  "the server's certificate is not valid yet; check this node's clock" },
        { 10, "the server's certificate has expired (or this node's clock is wrong)" },
        { 18, "the server's certificate is self-signed and unknown here; name its CA in registries.<host>.ca" },
        { 19, "the server's certificate comes from an unknown CA (self-signed in the chain); name the CA's PEM file in registries.<host>.ca" },
        { 20, "the server's certificate comes from an unknown CA; name the CA's PEM file in registries.<host>.ca" },
        { 21, "the server sends its certificate without the CA's in between, or the CA is unknown; name the CA's PEM file in registries.<host>.ca" },
        { 23, "the server's certificate has been revoked" },
        { 26, "the server's certificate is not made for servers (key usage)" },
        { 62, "the server's certificate is for another host name" },
        { 64, "the server's certificate is for another address" },
        { 66, "the server's certificate has too weak a key" },
        { 68, "the server's certificate is signed with too weak a digest" },
};

#define UNREACHABLE  ERROR_UPSTREAM_UNREACHABLE
#define BROKEN       ERROR_UPSTREAM_ERROR
#define NO_TLS       "the server does not speak TLS on this port; if it is meant to be plain HTTP, set registries.<host>.plain_http"
#define OLD_TLS      "the server offers no TLS 1.2 or newer"
#define WANTS_CLIENT "the server wants a client certificate; set registries.<host>.client_certificate and client_key"

static const struct row rows[] = {
        { CURLE_COULDNT_RESOLVE_HOST,     NULL,                      UNREACHABLE, true,  "the host name could not be resolved (DNS); check it and the node's resolver" },
        { CURLE_COULDNT_RESOLVE_PROXY,    NULL,                      UNREACHABLE, true,  "the proxy's host name could not be resolved (DNS); check network.*_proxy" },
        { CURLE_PROXY,                    NULL,                      UNREACHABLE, true,  "the proxy refused or failed" },
        { CURLE_PEER_FAILED_VERIFICATION, "subject name",            UNREACHABLE, false, "the server's certificate is for another host name" },
        { CURLE_PEER_FAILED_VERIFICATION, NULL,                      UNREACHABLE, false, "the server's certificate could not be verified" },
        { CURLE_SSL_CERTPROBLEM,          NULL,                      UNREACHABLE, false, "our certificate or key cannot be used; check registries.<host>.client_*" },
        { CURLE_SSL_CACERT_BADFILE,       NULL,                      UNREACHABLE, false, "the CA file cannot be used; check registries.<host>.ca and ca-certificates" },
        { CURLE_SSL_CONNECT_ERROR,        "wrong version number",    UNREACHABLE, false, NO_TLS },
        { CURLE_SSL_CONNECT_ERROR,        "packet length too long",  UNREACHABLE, false, NO_TLS },
        { CURLE_SSL_CONNECT_ERROR,        "http request",            UNREACHABLE, false, NO_TLS },
        { CURLE_SSL_CONNECT_ERROR,        "unsupported protocol",    UNREACHABLE, false, OLD_TLS },
        { CURLE_SSL_CONNECT_ERROR,        "protocol version",        UNREACHABLE, false, OLD_TLS },
        { CURLE_SSL_CONNECT_ERROR,        "certificate required",    UNREACHABLE, false, WANTS_CLIENT },
        { CURLE_SSL_CONNECT_ERROR,        "alert",                   UNREACHABLE, false, "the server broke off the TLS handshake" },
        { CURLE_SSL_CONNECT_ERROR,        NULL,                      UNREACHABLE, true,  "the TLS handshake failed" },
        { CURLE_RECV_ERROR,               "certificate required",    UNREACHABLE, false, WANTS_CLIENT },
        { CURLE_RECV_ERROR,               "chunk",                   BROKEN,      false, "broken HTTP: bad chunked encoding" },
        { CURLE_RECV_ERROR,               "alert",                   UNREACHABLE, false, "the server broke off TLS" },
        { CURLE_RECV_ERROR,               NULL,                      UNREACHABLE, true,  "the connection broke" },
        { CURLE_SEND_ERROR,               NULL,                      UNREACHABLE, true,  "the connection broke" },
        { CURLE_PARTIAL_FILE,             NULL,                      UNREACHABLE, true,  "the connection ended before the body did" },
        { CURLE_GOT_NOTHING,              NULL,                      UNREACHABLE, true,  "the server closed the connection without an answer" },
        { CURLE_HTTP2,                    NULL,                      UNREACHABLE, true,  "HTTP/2 failed" },
        { CURLE_HTTP2_STREAM,             NULL,                      UNREACHABLE, true,  "the HTTP/2 stream was broken off" },
        { CURLE_UNSUPPORTED_PROTOCOL,     NULL,                      BROKEN,      false, "broken HTTP: the answer has no HTTP head" },
        { CURLE_WEIRD_SERVER_REPLY,       NULL,                      BROKEN,      false, "broken HTTP: the answer cannot be understood" },
        { CURLE_BAD_CONTENT_ENCODING,     NULL,                      BROKEN,      false, "broken HTTP: a coding that was not asked for" },
        /* What libcurl before 8.6 says of a header line beyond its 100 KiB. Real want of memory is the machine's, and ends more than one transfer. */
        { CURLE_OUT_OF_MEMORY,            NULL,                      BROKEN,      false, "broken HTTP: a header line is too long (or there is no memory left)" },
#if LIBCURL_VERSION_NUM >= 0x080600
        { CURLE_TOO_LARGE,                NULL,                      BROKEN,      false, "broken HTTP: a header line is too long" },
#endif
};

static const struct row *row_find(CURLcode code, const char *text)
{
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].code == code && (!rows[i].piece || strcasestr(text, rows[i].piece)))
                        return &rows[i];
        return NULL;
}

static bool verdict_tell(struct hop *hop, struct error *err)
{
        long result = 0;
        curl_easy_getinfo(hop->slot->easy, CURLINFO_SSL_VERIFYRESULT, &result);
        for (size_t i = 0; i < COUNT_OF(verdicts); i++)
                if (verdicts[i].result == result)
                        return !refuse(err, ERROR_UPSTREAM_UNREACHABLE, "TLS: %s", verdicts[i].words);
        return false;
}

static bool connect_tell(struct hop *hop, struct error *err)
{
        long number = 0;
        curl_easy_getinfo(hop->slot->easy, CURLINFO_OS_ERRNO, &number);
        char where[64] = "";
        if (hop->tried[0])
                snprintf(where, sizeof where, " (%s)", hop->tried);
        const char *who = hop->proxy ? "the proxy's connection" : "the connection";
        if (number == ECONNREFUSED || strcasestr(hop->curl_text, "refused"))
                refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s was refused%s; is the server running, and on this port?", who, where);
        else if (number)
                refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s failed%s: %s", who, where, strerror((int)number));
        else
                refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s failed%s: %s", who, where, hop->curl_text[0] ? hop->curl_text : "no address could be reached");
        return true;
}

static void blocked_tell(struct hop *hop, struct error *err)
{
        refuse(err, ERROR_DENIED, "%s; if that is meant to be reached, list its network in network.allow", hop->blocked);
}

/* Where the request has its own trust (struct fetch_tls) no key of `registries` helps; a kubeconfig calls them so. */
static void names_adapt(struct error *err)
{
        static const struct { const char *ours, *theirs; } names[] = {
                { "registries.<host>.client_certificate and client_key", "client-certificate and client-key" },
                { "registries.<host>.client_*", "client-certificate and client-key" },
                { "registries.<host>.ca", "certificate-authority" },
                { "registries.<host>.plain_http", "http:// in the server's URL" },
        };
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                char *at = strstr(err->text, names[i].ours);
                if (!at)
                        continue;
                CLEANUP(cleanup_free) char *rest = string_copy(at + strlen(names[i].ours));
                snprintf(at, sizeof err->text - (size_t)(at - err->text), "%s%s", names[i].theirs, rest);
        }
}

static bool words_find(struct hop *hop, CURLcode code, struct error *err)
{
        if (hop->addresses_blocked > 0 && hop->addresses_tried == 0) {
                blocked_tell(hop, err);
                return false;
        }
        if (code == CURLE_OPERATION_TIMEDOUT) {
                char text[32];
                clock_format_duration(hop->client->connect_timeout_ms, text, sizeof text);
                refuse(err, ERROR_UPSTREAM_UNREACHABLE, "no connection within %s (pull.connect_timeout)", text);
                return true;
        }
        if (code == CURLE_COULDNT_CONNECT)
                return connect_tell(hop, err);
        if (code == CURLE_PEER_FAILED_VERIFICATION && verdict_tell(hop, err))
                return false;

        char shown[160];
        string_printable(hop->curl_text, strlen(hop->curl_text), shown, sizeof shown);
        const struct row *row = row_find(code, hop->curl_text);
        if (!row) {
                refuse(err, ERROR_UPSTREAM_UNREACHABLE, "%s%s%s", curl_easy_strerror(code), shown[0] ? ": " : "", shown);
                return true;
        }
        refuse(err, row->error, "%s%s%s%s", row->words, shown[0] ? " (" : "", shown, shown[0] ? ")" : "");
        return row->again;
}

bool reason_tell(struct hop *hop, CURLcode code, struct error *err)
{
        bool again = words_find(hop, code, err);
        if (hop->request->tls)
                names_adapt(err);
        return again;
}
