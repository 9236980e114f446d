/*
 * How it goes: one HTTP request with the identity of the moment; a whole answer is collected and parsed, a stream runs into the caller's sink.
 * How it fails: a Status object (or what the server said instead) becomes an error by its HTTP code; 429 and 5xx with Retry-After are waited for as long as the deadline allows.
 * How it ends: bodies, ours and theirs, are wiped: they may hold tokens and Secrets.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "room.h"

enum { TRIES_MAX = 6, SHOWN_BYTES = 300 };

/* ---- kube */
bool kube_new(const struct kube_options *options, struct kube **ret_kube, struct error *err)
{
        static const char *const everywhere[] = { "0.0.0.0/0", "::/0", NULL };     /* the operator names the server, wherever it is */
        CLEANUP(kube_free) struct kube *kube = memory_new(1, sizeof *kube);
        pthread_mutex_init(&kube->lock, NULL);
        if (options->mode == KUBE_KUBECONFIG && (!options->kubeconfig || !*options->kubeconfig))
                return refuse(err, ERROR_BAD_REQUEST, "kubernetes.kubeconfig: with mode kubeconfig it must name the file");
        if (options->mode == KUBE_IN_CLUSTER ? !config_read_in_cluster(options->account_dir, &kube->config, err)
                                             : !config_read_file(options->kubeconfig, &kube->config, err))
                return false;
        kube->backoff_first_ms = options->backoff_first_ms > 0 ? options->backoff_first_ms : 800;
        kube->backoff_most_ms = options->backoff_most_ms > 0 ? options->backoff_most_ms : 30000;
        kube->silence_ms = options->silence_ms > 0 ? options->silence_ms : 150000;

        /* In a pod the API is never behind a proxy; a kubeconfig's own proxy counts for everything. */
        const char *proxy = kube->config.proxy, *no_proxy = kube->config.is_in_cluster ? "*" : proxy ? "none.invalid" : NULL;
        struct fetch_options fetch = { .connect_timeout_ms = options->connect_timeout_ms, .progress_timeout_ms = CALL_MS, .allow = everywhere,
                                       .http_proxy = proxy, .https_proxy = proxy, .no_proxy = no_proxy };
        if (!fetch_client_new(&fetch, &kube->fetch, err))
                return refuse_within(err, "%s", kube->config.origin);
        *ret_kube = TAKE(kube);
        return true;
}

void kube_free(struct kube **reference)
{
        struct kube *kube = TAKE(*reference);
        if (!kube)
                return;
        fetch_client_unref(&kube->fetch);
        config_fini(&kube->config);
        secret_free(&kube->token);
        exec_credential_fini(&kube->exec);
        pthread_mutex_destroy(&kube->lock);
        free(kube);
}

const char *kube_get_server(const struct kube *kube)
{
        return kube->config.server;
}

/* ---- small things */
struct nap { pthread_mutex_t lock; pthread_cond_t over; bool is_over; };

static void nap_end(void *arg)
{
        struct nap *nap = arg;
        pthread_mutex_lock(&nap->lock);
        nap->is_over = true;
        pthread_cond_signal(&nap->over);
        pthread_mutex_unlock(&nap->lock);
}

bool sleep_ms(struct cancel *cancel, int64_t wait_ms, struct error *err)
{
        struct nap nap = { .lock = PTHREAD_MUTEX_INITIALIZER };
        struct timespec until;
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&nap.over, &attributes);
        pthread_condattr_destroy(&attributes);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += wait_ms / 1000;
        until.tv_nsec += wait_ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }

        cancel_set_waker(cancel, nap_end, &nap);
        pthread_mutex_lock(&nap.lock);
        while (!nap.is_over && pthread_cond_timedwait(&nap.over, &nap.lock, &until) == 0)
                continue;
        pthread_mutex_unlock(&nap.lock);
        cancel_set_waker(cancel, NULL, NULL);
        pthread_cond_destroy(&nap.over);
        return !cancel_is_triggered(cancel) || refuse(err, ERROR_BUSY, "cancelled");
}

int64_t jitter_ms(int64_t ms)
{
        uint64_t random = 0;
        random_bytes(&random, sizeof random);
        return ms > 0 ? (int64_t)(random % (uint64_t)(ms + 1)) : 0;
}

void escape_append(struct buffer *text, const char *part)
{
        for (const unsigned char *c = (const unsigned char *)part; *c; c++)
                if (isalnum(*c) || strchr("-._~", *c))
                        buffer_append(text, c, 1);
                else
                        buffer_printf(text, "%%%02X", *c);
}

/* ---- what the server says when it says no */
static void text_keep(const char *text, char *ret_text, size_t size_bytes)
{
        if (text)
                string_printable(text, strlen(text), ret_text, size_bytes);
}

static void status_fill(const struct value *object, struct kube_status *status)
{
        const struct value *details = value_get_member(object, "details"), *causes = value_get_member(details, "causes");
        int64_t code = value_get_int(value_get_member(object, "code")), after_s = value_get_int(value_get_member(details, "retryAfterSeconds"));
        text_keep(value_get_text(value_get_member(object, "reason")), status->reason, sizeof status->reason);
        text_keep(value_get_text(value_get_member(object, "message")), status->message, sizeof status->message);
        text_keep(value_get_text(value_get_member(value_get_item(causes, 0), "reason")), status->cause, sizeof status->cause);
        if (code >= 100 && code <= 599)
                status->code = (int)code;
        if (after_s > 0)
                status->retry_after_s = after_s < 3600 ? (unsigned)after_s : 3600;
}

void status_read(const void *body, size_t body_bytes, int http_status, struct kube_status *ret_status)
{
        CLEANUP(value_free) struct value *object = NULL;
        struct error ignored = { 0 };
        struct kube_status status = { 0 };
        if (body_bytes > 0 && json_parse(body, body_bytes, ERROR_UPSTREAM_ERROR, &object, &ignored) && string_equal(value_get_text(value_get_member(object, "kind")), "Status"))
                status_fill(object, &status);
        if (http_status)
                status.code = http_status;
        *ret_status = status;
}

bool status_refuse(const struct kube_status *status, struct error *err)
{
        static const struct { int code; enum error_code error; const char *words; } rows[] = {
                { 401, ERROR_UNAUTHORIZED, "the API server does not know who we are" }, { 403, ERROR_DENIED, "forbidden: RBAC does not allow it" },
                { 404, ERROR_NOT_FOUND, "not found" },                                  { 410, ERROR_UPSTREAM_ERROR, "too old" },
                { 429, ERROR_RATE_LIMITED, "too many requests" },
        };
        enum error_code error = ERROR_UPSTREAM_ERROR;
        const char *words = status->code >= 500 ? "the API server failed" : "refused";
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].code == status->code) {
                        error = rows[i].error;
                        words = rows[i].words;
                }
        refuse(err, error, "%s (%d%s%s)%s%s", words, status->code, status->reason[0] ? " " : "", status->reason, status->message[0] ? ": " : "", status->message);
        err->retry_after_s = status->retry_after_s;
        return false;
}

/* ---- one request */
static bool ask_once(const struct kube_call *call, const struct ask *ask, const struct identity *identity, struct fetch_response **ret_response, struct error *err)
{
        static const struct fetch_header accept[] = { { "Accept", "application/json" } };
        const struct config *config = &call->kube->config;
        CLEANUP(cleanup_free) char *url = string_format("%s%s", config->server, ask->path);
        const struct fetch_tls tls = { .ca = identity->ca.used ? identity->ca.data : NULL, .server_name = config->server_name, .skip_verify = config->skip_verify,
                                       .client_certificate = identity->certificate ? secret_get_text(identity->certificate) : NULL,
                                       .client_key = identity->key ? secret_get_text(identity->key) : NULL };
        struct fetch_request request = { .method = ask->method, .url = url, .headers = accept, .header_count = COUNT_OF(accept), .tls = &tls, .no_retry = true,
                                         .authorization = identity->authorization ? secret_get_text(identity->authorization) : NULL, .body = ask->body,
                                         .body_type = ask->body_type ? ask->body_type : "application/json", .accept_type = "application/json",
                                         .size_limit = ask->size_limit ? ask->size_limit : INT64_MAX, .size_expected = -1, .deadline_ms = call->deadline_ms, .cancel = call->cancel,
                                         .progress_timeout_ms = ask->progress_timeout_ms };
        return fetch_run(call->kube->fetch, &request, ask->sink, ret_response, err);
}

static bool answer_judge(const struct kube_call *call, const struct ask *ask, const struct fetch_response *response, struct kube_status *ret_status, struct error *err)
{
        static const char *const names[] = { "GET", "HEAD", "POST", "PATCH" };
        int code = fetch_response_get_status(response);
        const struct buffer *body = fetch_response_get_error_body(response);
        if (code >= 200 && code <= 299)
                return true;
        status_read(body->data, body->used, code, ret_status);
        if (!ret_status->retry_after_s)
                ret_status->retry_after_s = fetch_response_get_retry_after(response);
        status_refuse(ret_status, err);
        return refuse_within(err, "%s %s%.*s", names[ask->method], call->kube->config.server, (int)strcspn(ask->path, "?"), ask->path);
}

bool ask_run(const struct kube_call *call, struct ask *ask, struct kube_status *ret_status, struct error *err)
{
        CLEANUP(identity_fini) struct identity identity = { 0 };
        *ret_status = (struct kube_status){ 0 };
        if (!identity_take(call->kube, call->cancel, &identity, err))
                return false;
        for (bool is_second = false;; is_second = true) {
                CLEANUP(fetch_response_free) struct fetch_response *response = NULL;
                if (!ask_once(call, ask, &identity, &response, err))
                        return false;
                if (answer_judge(call, ask, response, ret_status, err))
                        return true;
                if (ret_status->code != 401 || is_second || !identity_renew(call->kube, call->cancel, &identity))
                        return false;
        }
}

/* ---- whole answers, tried again */
/* Grows without leaving copies of a Secret behind. */
struct answer { struct sink sink; struct buffer text; };

static bool answer_write(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct buffer *text = &CONTAINER_OF(sink, struct answer, sink)->text;
        if (text->used + size_bytes >= text->capacity) {
                struct buffer larger = { .limit = text->limit };
                if (!buffer_reserve(&larger, text->used + size_bytes + text->capacity))
                        return refuse(err, ERROR_TOO_LARGE, "the answer is larger than %zu bytes", text->limit);
                buffer_append(&larger, text->data ? text->data : "", text->used);
                buffer_fini_secret(text);
                *text = larger;
        }
        return buffer_append(text, bytes, size_bytes) || refuse(err, ERROR_TOO_LARGE, "the answer is larger than %zu bytes", text->limit);
}

static void answer_fini(struct answer *answer)
{
        buffer_fini_secret(&answer->text);
}

/* -1 = it ends here. */
static int64_t next_wait_ms(const struct kube_call *call, const struct ask *ask, const struct kube_status *status, const struct error *err, unsigned tries)
{
        bool is_broken = status->code == 0 && err->code == ERROR_UPSTREAM_UNREACHABLE && ask->method == FETCH_GET && tries < 2;
        bool is_asked = (status->code == 429 || status->code >= 500) && status->retry_after_s > 0 && status->retry_after_s <= RETRY_AFTER_MOST_S;
        if (tries + 1 >= TRIES_MAX || (!is_broken && !is_asked))
                return -1;
        int64_t wait_ms = is_asked ? (int64_t)status->retry_after_s * 1000 + jitter_ms(250) : jitter_ms(call->kube->backoff_first_ms << tries);
        return clock_get_ms() + wait_ms >= call->deadline_ms ? -1 : wait_ms;
}

bool kube_request(const struct kube_call *call, const struct kube_ask *wanted, struct value **ret_object, struct kube_status *ret_status, struct error *err)
{
        struct kube_call bounded = *call;
        struct kube_status status = { 0 };
        CLEANUP(answer_fini) struct answer answer = { .sink.write = answer_write, .text.limit = 2 * ANSWER_BYTES_MAX };
        bool is_patch = strcmp(wanted->method, "PATCH") == 0;
        struct ask ask = { .method = is_patch ? FETCH_PATCH : strcmp(wanted->method, "POST") == 0 ? FETCH_POST : FETCH_GET, .path = wanted->path, .body = wanted->body,
                           .sink = &answer.sink, .body_type = is_patch ? "application/merge-patch+json" : NULL, .size_limit = ANSWER_BYTES_MAX };
        if (bounded.deadline_ms <= 0)
                bounded.deadline_ms = clock_get_ms() + CALL_MS;

        for (unsigned tries = 0;; tries++) {
                buffer_clear(&answer.text);
                bool good = ask_run(&bounded, &ask, &status, err);
                if (ret_status)
                        *ret_status = status;
                if (good)
                        break;
                int64_t wait_ms = next_wait_ms(&bounded, &ask, &status, err, tries);
                if (wait_ms < 0 || !sleep_ms(bounded.cancel, wait_ms, err))
                        return false;
        }
        if (!json_parse(answer.text.data ? answer.text.data : "", answer.text.used, ERROR_UPSTREAM_ERROR, ret_object, err))
                return refuse_within(err, "%s %s%.*s: the answer", wanted->method, call->kube->config.server, (int)strcspn(wanted->path, "?"), wanted->path);
        return true;
}
