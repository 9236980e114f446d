/* hop: one request and its answer over one slot; no redirect, no retry. */
#pragma once
#include "client.h"
#include "response.h"

/* What becomes of the body: to the owner, into the response (its first 64 KiB), or nowhere: the hop then ends with the head. */
enum hop_body { HOP_BODY_GIVE, HOP_BODY_KEEP, HOP_BODY_NONE };
/* DONE: there is a response. BROKEN: the connection failed, trying again may help. REFUSED: it will not help. */
enum hop_end { HOP_DONE, HOP_BROKEN, HOP_REFUSED };

struct hop {
        struct fetch_client *client;
        struct slot *slot;
        const struct url *url;
        const struct fetch_request *request;
        const char *authorization;             /* NULL: none for this origin */
        const struct fetch_endpoint *endpoint; /* the same */
        int64_t range_from;                    /* -1: the whole */
        const char *if_range;
        bool wants_fresh;                      /* no kept connection */
        int64_t started_ms;                    /* of the request, for the words about its deadline */
        /* Called by hop_run on the worker; false = REFUSED with their error. */
        bool (*head)(struct hop *hop, enum hop_body *ret_use, struct error *err);
        bool (*body)(struct hop *hop, const void *bytes, size_t size_bytes, struct error *err);
        void *owner;

        struct fetch_response *response;       /* made by hop_run; the owner may take it */

        /* while it runs */
        struct error *err;
        bool refused, head_done, enough, connected;
        bool is_stale;                         /* a kept connection brought something else than an answer, or nothing: it says nothing about this request */
        enum hop_body use;
        int64_t moved_ms;                      /* when the last byte came */
        unsigned addresses_blocked, addresses_tried;
        char tried[ADDRESS_TEXT_BYTES];        /* the last address that was connected to */
        char blocked[160];                     /* the last address that the filter refused, and why */
        char curl_text[CURL_ERROR_SIZE];
        const char *proxy;
        struct curl_slist *connect_to;         /* where the name in the certificate is not the host's */
};

enum hop_end hop_run(struct hop *hop, struct error *err);
/* Sleeps until `until_ms` (clock_get_ms), a hop_wake() of another thread, or the cancel (may be NULL); perhaps not so long. */
void hop_doze(struct slot *slot, struct cancel *cancel, int64_t until_ms);
void hop_wake(struct slot *slot);
/* Sleeps until `until_ms` unless cancelled: then ERROR_BUSY. */
bool hop_sleep(struct slot *slot, struct cancel *cancel, int64_t until_ms, struct error *err);
const char *method_name(enum fetch_method method);
