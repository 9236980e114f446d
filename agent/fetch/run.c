/*
 * How it goes: try after try from the original URL, each following redirects hop by hop; the body runs into the sink on the way, and a broken one goes on where it stopped.
 * How it fails: the first error that another try cannot help; else the last one, or the last response, when tries or time are used up. Every text says method and URL.
 * How it ends: the slot goes back to the pool; the response belongs to the caller.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "hop.h"

enum { BACKOFF_FIRST_MS = 500, BACKOFF_MOST_MS = 30000, RETRY_AFTER_MOST_S = 60, PROGRESS_BYTES = 1 << 20 };

struct run {
        struct fetch_client *client;
        const struct fetch_request *request;
        struct sink *sink;
        struct url original, current;
        struct slot *slot;
        struct fetch_response *response;
        int64_t started_ms;
        uint64_t received;             /* bytes in the sink */
        uint64_t furthest;             /* the most that were there at any failure so far */
        int64_t total;                 /* of the whole body as first told, -1 unknown */
        char *validator;               /* for If-Range */
        bool ranged;                   /* this try asks for what is missing */
        bool restart;                  /* the answer to that was no good: all of it again */
        bool whole_only;               /* and no more asking for parts */
        unsigned tries;
};

static void run_fini(struct run *run)
{
        client_slot_give(run->client, &run->slot);
        fetch_response_free(&run->response);
        url_fini(&run->original);
        url_fini(&run->current);
        free(run->validator);
}

static bool has_body(const struct fetch_request *request)
{
        return request->method == FETCH_POST || request->method == FETCH_PATCH;
}

static bool is_redirect(int status)
{
        return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

static bool is_passing(int status)
{
        return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

/* Everything comes again from byte 0. */
static bool run_rewind(struct run *run, struct error *err)
{
        if (run->received > 0) {
                if (!run->sink->restart)
                        return refuse(err, ERROR_UPSTREAM_UNREACHABLE, "the body broke off after %llu bytes and cannot be taken again", (unsigned long long)run->received);
                if (!run->sink->restart(run->sink, err))
                        return false;
        }
        run->received = 0;
        run->total = -1;
        free(TAKE(run->validator));
        return true;
}

static bool length_check(struct run *run, int64_t length, struct error *err)
{
        int64_t expected = run->request->size_expected;
        if (length >= 0 && expected >= 0 && length != expected)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%lld bytes instead of %lld", (long long)length, (long long)expected);
        if (length >= 0 && (uint64_t)length > run->request->size_limit)
                return refuse(err, ERROR_TOO_LARGE, "%lld bytes, at most %llu are allowed", (long long)length, (unsigned long long)run->request->size_limit);
        return true;
}

/* 206 to a resume. What does not continue exactly where we are is no error, only no help ([oci] 1.8). */
static bool head_partial(struct run *run, struct hop *hop, enum hop_body *ret_use, struct error *err)
{
        const struct fetch_response *response = hop->response;
        int64_t total = -1, length = -1;
        bool is_etag = run->validator && run->validator[0] == '"';
        const char *validator = fetch_response_get_header(response, is_etag ? "ETag" : "Last-Modified", 0);
        bool continues = response_continues(fetch_response_get_header(response, "Content-Range", 0), run->received, run->total, &total) &&
                         !fetch_response_get_header(response, "Content-Range", 1) && response_read_length(response, &length, err) &&
                         (length < 0 || total < 0 || (uint64_t)length == (uint64_t)total - run->received) &&
                         (!run->validator || !validator || strcmp(run->validator, validator) == 0);
        if (!continues) {
                run->restart = true;
                *ret_use = HOP_BODY_NONE;
                return true;
        }
        run->total = total;
        *ret_use = HOP_BODY_GIVE;
        atomic_fetch_add(&stats.resumes, 1);
        return length_check(run, total, err);
}

/* "application/json; charset=utf-8" is application/json */
static bool type_check(const struct run *run, const struct fetch_response *response, struct error *err)
{
        const char *wanted = run->request->accept_type, *type = fetch_response_get_header(response, "Content-Type", 0);
        char shown[80];
        if (!wanted || (type && strncasecmp(type, wanted, strlen(wanted)) == 0 && strchr("; \t", type[strlen(wanted)])))
                return true;
        return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is of type %s, not %s; is this the right server?",
                      type ? string_printable(type, strlen(type), shown, sizeof shown) : "(none)", wanted);
}

static bool head_whole(struct run *run, struct hop *hop, enum hop_body *ret_use, struct error *err)
{
        int64_t length = -1;
        if (!run_rewind(run, err) || !response_read_length(hop->response, &length, err) || !length_check(run, length, err))
                return false;
        run->total = length;
        run->validator = string_copy(response_get_validator(hop->response));
        *ret_use = HOP_BODY_GIVE;
        return true;
}

static bool on_head(struct hop *hop, enum hop_body *ret_use, struct error *err)
{
        struct run *run = hop->owner;
        int status = hop->response->status;
        *ret_use = HOP_BODY_KEEP;
        if (run->ranged && status == 416) {
                run->restart = true;
                *ret_use = HOP_BODY_NONE;
                return true;
        }
        if (status < 200 || status > 299 || run->request->method == FETCH_HEAD)
                return true;
        if (!response_check_codings(hop->response, run->request->is_boxed, err) || !type_check(run, hop->response, err))
                return false;
        if (status != 206)
                return head_whole(run, hop, ret_use, err);
        if (!run->ranged)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the server sent a part (206) though the whole was asked for");
        return head_partial(run, hop, ret_use, err);
}

static bool on_body(struct hop *hop, const void *bytes, size_t size_bytes, struct error *err)
{
        struct run *run = hop->owner;
        uint64_t after = run->received + size_bytes;
        int64_t expected = run->request->size_expected;
        if (expected >= 0 && after > (uint64_t)expected)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "more than the expected %lld bytes", (long long)expected);
        if (after > run->request->size_limit)
                return refuse(err, ERROR_TOO_LARGE, "more than the allowed %llu bytes", (unsigned long long)run->request->size_limit);
        if (run->sink && !run->sink->write(run->sink, bytes, size_bytes, err))
                return false;
        run->received = after;
        if (run->request->progress)
                run->request->progress(run->request->progress_arg, run->received, run->total >= 0 ? run->total : expected);
        return true;
}

static void retry_after_read(struct fetch_response *response)
{
        const char *text = fetch_response_get_header(response, "Retry-After", 0);
        unsigned seconds = 0;
        if (text && clock_parse_retry_after(text, clock_get_wall_s(), &seconds))
                response->retry_after_s = seconds;
}

static void gate_sleep(void *arg, int64_t until_ms)
{
        struct run *run = arg;
        hop_doze(run->slot, run->request->cancel, until_ms);
}

static void gate_wake(void *arg)
{
        hop_wake(((struct run *)arg)->slot);
}

static struct gate_visit visit_of(struct run *run)
{
        return (struct gate_visit){ .origin = run->current.origin, .url = run->current.shown,
                                    .deadline_ms = run->request->deadline_ms, .no_wait = run->request->no_wait, .cancel = run->request->cancel,
                                    .sleep = gate_sleep, .wake = gate_wake, .arg = run };
}

/* What is asked for longer than anybody waits is between this request and its server. */
static void gate_tell(struct run *run, const struct gate_visit *visit)
{
        retry_after_read(run->response);
        if (!run->request->no_retry && run->response->retry_after_s <= RETRY_AFTER_MOST_S)
                gate_note(&run->client->gates, visit, run->response->status, run->response->retry_after_s);
}

/* One hop to run->current; *ret_stale: over a kept connection that was no good any more. */
static enum hop_end hop_once(struct run *run, bool wants_fresh, bool *ret_stale, struct error *err)
{
        bool is_original = url_same_origin(&run->original, &run->current);
        struct slot_want want = { run->current.origin, is_original ? run->request->endpoint : NULL, run->request->public_only };
        client_slot_give(run->client, &run->slot);
        if (!client_slot_take(run->client, &want, &run->slot, err))
                return HOP_REFUSED;

        struct gate_visit visit = visit_of(run);
        if (!run->request->no_retry && !gate_pass(&run->client->gates, &visit, err))
                return HOP_REFUSED;

        struct hop hop = {
                .client = run->client, .slot = run->slot, .url = &run->current, .request = run->request, .started_ms = run->started_ms,
                .authorization = is_original ? run->request->authorization : NULL, .endpoint = want.endpoint,
                .range_from = run->ranged ? (int64_t)run->received : -1, .if_range = run->validator,
                .wants_fresh = wants_fresh,
                .head = on_head, .body = on_body, .owner = run,
        };
        atomic_fetch_add(&stats.requests, 1);
        enum hop_end end = hop_run(&hop, err);
        fetch_response_free(&run->response);
        run->response = TAKE(hop.response);
        *ret_stale = hop.is_stale && end != HOP_DONE;
        if (end == HOP_DONE)
                gate_tell(run, &visit);
        return end;
}

/* What a server sends behind an answer would otherwise be taken for the next one, by chance. Not a try: the request has not been answered. What may have been done (POST) is
   not done again. */
static enum hop_end hop_go(struct run *run, struct error *err)
{
        bool is_stale = false;
        enum hop_end end = hop_once(run, false, &is_stale, err);
        if (!is_stale || run->request->method == FETCH_POST)
                return end;
        LOG_DEBUG("stale_connection", LOG_TEXT("url", run->current.shown), LOG_TEXT("detail", err->text));
        *err = (struct error){ 0 };
        return hop_once(run, true, &is_stale, err);
}

static bool redirect_take(struct run *run, unsigned count, struct error *err)
{
        const char *location = fetch_response_get_header(run->response, "Location", 0);
        int status = run->response->status;
        if (!location)
                return refuse(err, ERROR_UPSTREAM_ERROR, "a redirect (%d) without Location", status);
        if (run->request->redirects_max == 0 || has_body(run->request))
                return refuse(err, ERROR_UPSTREAM_ERROR, "a redirect (%d) where none is followed", status);
        if (count >= run->request->redirects_max)
                return refuse(err, ERROR_UPSTREAM_ERROR, "more than %u redirects", run->request->redirects_max);

        struct url next = { 0 };
        if (!url_resolve(&run->current, location, &next, err))
                return refuse_within(err, "redirect (%d)", status);
        if (run->current.tls && !next.tls) {
                refuse(err, ERROR_DENIED, "redirected from https to %s: refused, never from TLS to plain HTTP", next.shown);
                url_fini(&next);
                return false;
        }
        url_fini(&run->current);
        run->current = next;
        return true;
}

/* From the original URL to an answer that is no redirect. */
static enum hop_end attempt(struct run *run, struct error *err)
{
        url_fini(&run->current);
        if (!url_parse(run->original.text, &run->current, err))
                return HOP_REFUSED;
        for (unsigned count = 0;; count++) {
                enum hop_end end = hop_go(run, err);
                if (end == HOP_DONE && !run->restart && is_redirect(run->response->status)) {
                        if (!redirect_take(run, count, err))
                                return HOP_REFUSED;
                        continue;
                }
                if (end != HOP_DONE && count > 0) {
                        char where[URL_SHOWN_BYTES];
                        memcpy(where, run->current.shown, sizeof where);
                        refuse_within(err, "redirected to %s", where);
                }
                return end;
        }
}

/* Full jitter (0 … cap), so that many nodes do not come back at once. */
static int64_t backoff_ms(unsigned tries)
{
        uint32_t random = 0;
        random_bytes(&random, sizeof random);
        int64_t cap_ms = tries > 6 ? BACKOFF_MOST_MS : BACKOFF_FIRST_MS << tries;
        return random % (uint64_t)((cap_ms < BACKOFF_MOST_MS ? cap_ms : BACKOFF_MOST_MS) + 1);
}

/* Is what the sink has worth keeping: only if the rest surely belongs to it, by a validator or because the content is addressed by size and digest. */
static bool can_resume(const struct run *run)
{
        return run->received > 0 && run->request->resume && !run->whole_only && (run->validator || run->request->size_expected >= 0);
}

static bool run_prepare(struct run *run, struct error *err)
{
        run->ranged = can_resume(run);
        return run->ranged || run_rewind(run, err);
}

/* How long until the next try; -1 = there is none. */
static int64_t next_wait_ms(struct run *run, enum hop_end end)
{
        /* A 429 is told before anything was done: what must not be done twice may go again. */
        bool is_limited = end == HOP_DONE && run->response->status == 429;
        if (run->request->no_retry || (has_body(run->request) && !is_limited) || (run->request->no_wait && is_limited))
                return -1;
        if (run->received > 0 && !can_resume(run) && !run->sink->restart)
                return -1;
        /* c/image's rule: who gets on is not at the end of its patience */
        bool far = run->received >= run->furthest + PROGRESS_BYTES;
        run->furthest = run->received > run->furthest ? run->received : run->furthest;
        if (far && end == HOP_BROKEN && run->tries > 0)
                run->tries--;
        if (run->tries >= run->client->retries)
                return -1;

        int64_t wait_ms = backoff_ms(run->tries++);
        unsigned said_s = end == HOP_DONE ? run->response->retry_after_s : 0;
        if (said_s > RETRY_AFTER_MOST_S)
                return -1;
        if (said_s > 0)
                wait_ms = (int64_t)said_s * 1000 + wait_ms % 250;
        if (run->request->deadline_ms > 0 && clock_get_ms() + wait_ms >= run->request->deadline_ms)
                return -1;
        return wait_ms;
}

static bool run_finish(struct run *run, struct error *err)
{
        int status = run->response->status;
        int64_t expected = run->request->size_expected;
        if (status >= 200 && status <= 299 && run->request->method != FETCH_HEAD && expected >= 0 && run->received != (uint64_t)expected)
                return refuse(err, ERROR_CHECKSUM_MISMATCH, "%llu bytes instead of %lld", (unsigned long long)run->received, (long long)expected);
        run->response->received = run->received;
        return true;
}

static bool run_tries(struct run *run, struct error *err)
{
        for (;;) {
                run->restart = false;
                enum hop_end end = attempt(run, err);
                if (end == HOP_REFUSED)
                        return false;
                if (end == HOP_DONE && run->restart) {
                        run->whole_only = true;
                        if (!run_prepare(run, err))
                                return false;
                        continue;
                }
                if (end == HOP_DONE && !is_passing(run->response->status))
                        return run_finish(run, err);
                int64_t wait_ms = next_wait_ms(run, end);
                if (wait_ms < 0)
                        return end == HOP_DONE ? run_finish(run, err) : false;
                if (!hop_sleep(run->slot, run->request->cancel, clock_get_ms() + wait_ms, err) || !run_prepare(run, err))
                        return false;
                atomic_fetch_add(&stats.retries, 1);
        }
}

/* A line end in a value (a hostile token, say) would become a header of its own. */
static bool line_is_clean(const char *text)
{
        for (const unsigned char *c = (const unsigned char *)text; c && *c; c++)
                if ((*c < ' ' && *c != '\t') || *c == 0x7f)
                        return false;
        return true;
}

static bool headers_check(const struct fetch_request *request, struct error *err)
{
        bool clean = line_is_clean(request->authorization) && line_is_clean(request->body_type);
        for (size_t i = 0; clean && i < request->header_count; i++)
                clean = line_is_clean(request->headers[i].name) && line_is_clean(request->headers[i].value);
        for (size_t i = 0; clean && request->endpoint && i < request->endpoint->header_count; i++)
                clean = line_is_clean(request->endpoint->headers[i].name) && line_is_clean(request->endpoint->headers[i].value);
        return clean || refuse(err, ERROR_UPSTREAM_ERROR, "control characters in a request header (in a token that a server gave, perhaps): not sent");
}

bool fetch_run(struct fetch_client *client, const struct fetch_request *request, struct sink *body, struct fetch_response **ret_response, struct error *err)
{
        CLEANUP(run_fini) struct run run = { .client = client, .request = request, .sink = body, .total = -1, .started_ms = clock_get_ms() };
        if (!url_parse(request->url, &run.original, err))
                return false;
        if (!headers_check(request, err) || !run_tries(&run, err))
                return refuse_within(err, "%s %s", method_name(request->method), run.original.shown);
        *ret_response = TAKE(run.response);
        return true;
}
