/*
 * How it goes: identity pod. When a connection comes, the process that connected is held, its cgroup read, and the process proved alive: from then on the connection is of that
 *              pod UID. Each request finds the Pod of it in memory. A service-account token in the request is the second way; the API server reviews it on a worker, and again
 *              where its Pod is not known here, or no longer.
 * How it fails: who ended, is in no pod, is of a pod that nobody told of, or shows a token of another pod than its cgroup's: denied, with why. Before the Pods have been read:
 *              busy. A pod that may have started a moment ago is waited for.
 * How it ends: what is known goes with the connection; a review whose request is gone runs out by itself.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <wasmcached/kube/process.h>
#include <wasmcached/loop.h>
#include "front.h"

enum { REVIEWS_RUNNING_MAX = 4, REVIEW_PATIENCE_MS = 10000 };

/* Of one connection. err ERROR_NONE: the cgroup is proved. */
struct visitor { struct kube_cgroup cgroup; struct error err; };

struct api_review {
        struct job job;
        struct api *api;                          /* NULL once the daemon stops */
        struct api_ask *ask;
        struct api_review *next, **at;            /* of the api's list: first those that run, then those that wait */
        struct kube_reviews *reviews;
        struct kube_call call;
        struct secret *token;
        struct kube_caller caller;
        struct error err;
        bool is_running;
};

/* ---- when a connection comes ---- */

static void pod_digest(const char *pod, struct digest *ret_digest)
{
        digest_sha256(pod, strlen(pod), ret_digest);
}

static struct serve_group pod_group(const char *pod)
{
        struct digest digest;
        struct serve_group group;
        pod_digest(pod, &digest);
        memcpy(group.bytes, digest.bytes, sizeof group.bytes);
        return group;
}

void *api_arrived(void *arg, void *tag, struct serve_process *process, struct serve_group *ret_group)
{
        const struct api_listener *listener = tag;
        struct kube_cgroup cgroup;
        struct error unread = { 0 };
        (void)arg;
        if (listener->identity != API_IDENTITY_POD)
                return NULL;
        struct visitor *visitor = memory_new(1, sizeof *visitor);
        const struct serve_peer *peer = serve_process_get_peer(process);
        if (serve_process_hold(process, &visitor->err)) {
                kube_process_read(peer->pid, &cgroup, &unread);
                if (serve_process_check(process, &visitor->err))           /* whatever was read or not */
                        visitor->err = unread;
        }
        if (visitor->err.code == ERROR_NONE) {
                visitor->cgroup = cgroup;
                *ret_group = pod_group(cgroup.pod);
        } else {
                LOG_DEBUG("caller_unknown", LOG_NUMBER("pid", peer->pid), LOG_NUMBER("uid", peer->uid), LOG_TEXT("detail", visitor->err.text));
        }
        return visitor;
}

/* ---- what a request's caller is ---- */

/* Namespaces outlive the Pods that they come from, as requests may wait longer than a Pod lives. */
static const char *namespace_keep(struct api *api, const char *namespace)
{
        if (!map_get_text(api->namespaces, namespace))
                map_put_text(api->namespaces, namespace, string_copy(namespace));
        return map_get_text(api->namespaces, namespace);
}

/* Leases belong to the pod, whichever of its processes asks. Bits 63 and 62: neither a process nor a connection. */
static uint64_t pod_holder(const char *pod)
{
        struct digest digest;
        uint64_t number;
        pod_digest(pod, &digest);
        memcpy(&number, digest.bytes + sizeof(struct serve_group), sizeof number);
        return number | UINT64_C(3) << 62;
}

static void call_set_pod(struct api_call *call, const char *namespace, const char *uid, const struct plugin_pod *pod)
{
        call->pod = pod;
        call->caller.namespace = namespace_keep(call->api, namespace);
        call->caller.holder = pod_holder(uid);
}

/* A Pod that is not known may only be not known yet. */
static const struct plugin_pod *pod_find(const struct api_call *call, const struct visitor *visitor, struct error *err)
{
        struct keeper *keeper = call->api->options.keeper;
        struct error early = { 0 };
        if (visitor->err.code != ERROR_NONE) {
                *err = visitor->err;
                return NULL;
        }
        if (!keeper) {
                refuse(err, ERROR_DENIED, "this daemon is told of no pods");
                return NULL;
        }
        const struct plugin_pod *pod = keeper_find_pod_of(keeper, &visitor->cgroup, err);
        if (!pod && !keeper_is_ready(keeper, &early))
                *err = early;
        return pod;
}

static enum api_identified by_cgroup(struct api_call *call, const struct visitor *visitor, bool may_wait, struct error *err)
{
        const struct plugin_pod *pod = pod_find(call, visitor, err);
        if (!pod && may_wait && err->code == ERROR_DENIED && visitor->err.code == ERROR_NONE && keeper_may_learn_of(call->api->options.keeper, &visitor->cgroup))
                return api_newcomer_start(call, &visitor->cgroup) ? API_WAITS : API_REFUSED;
        if (!pod)
                return API_REFUSED;
        call_set_pod(call, pod->namespace, visitor->cgroup.pod, pod);
        return API_IDENTIFIED;
}

static bool is_known(const struct api_call *call, const struct kube_caller *caller)
{
        const struct keeper *keeper = call->api->options.keeper;
        return keeper && keeper_find_pod(keeper, caller->pod_uid);
}

/* What the server says of the token has to fit all that is known here otherwise. */
static enum api_identified by_token(struct api_call *call, const struct visitor *visitor, const struct kube_caller *caller, struct error *err)
{
        const struct api_options *options = &call->api->options;
        const struct plugin_pod *pod = options->keeper ? keeper_find_pod(options->keeper, caller->pod_uid) : NULL;
        bool has_cgroup = visitor->err.code == ERROR_NONE;
        if (has_cgroup && strcmp(visitor->cgroup.pod, caller->pod_uid) != 0)
                refuse(err, ERROR_DENIED, "the token is of pod %s/%s, but the caller runs in another one: its cgroup says %s", caller->namespace, caller->pod_name,
                        visitor->cgroup.pod);
        else if (options->node && *options->node && *caller->node_name && strcmp(options->node, caller->node_name) != 0)
                refuse(err, ERROR_DENIED, "the token is of a pod on node \"%s\", this one is \"%s\"", caller->node_name, options->node);
        else if (pod && strcmp(pod->namespace, caller->namespace) != 0)
                refuse(err, ERROR_DENIED, "the token is of namespace \"%s\", its pod is known in \"%s\"", caller->namespace, pod->namespace);
        else if (has_cgroup && pod)
                keeper_find_pod_of(options->keeper, &visitor->cgroup, err);        /* the container may be another pod's */
        if (err->code != ERROR_NONE)
                return API_REFUSED;
        struct serve_group group = pod_group(caller->pod_uid);
        if (!serve_request_set_group(call->request, &group)) {
                refuse(err, ERROR_BUSY, "too many connections or waiting requests of this pod; close some of them");
                return API_CROWDED;
        }
        call_set_pod(call, caller->namespace, caller->pod_uid, pod);
        return API_IDENTIFIED;
}

/* A token that the server refused is refused; one that could not be reviewed leaves what the cgroup proves. */
static enum api_identified without_review(struct api_call *call, const struct visitor *visitor, const struct error *why, struct error *err)
{
        if (why->code != ERROR_UNAUTHORIZED && why->code != ERROR_DENIED && visitor->err.code == ERROR_NONE)
                return by_cgroup(call, visitor, false, err);
        *err = *why;
        if (err->code == ERROR_UNAUTHORIZED)
                err->code = ERROR_DENIED;         /* 401 says that a registry refused */
        return API_REFUSED;
}

/* ---- reviews ---- */

static void review_free(struct api_review *review)
{
        cancel_free(&review->call.cancel);
        secret_free(&review->token);
        kube_caller_fini(&review->caller);
        free(review);
}

static void review_detach(struct api_review *review)
{
        if (review->is_running)
                review->api->reviews_running--;
        *review->at = review->next;
        if (review->next)
                review->next->at = review->at;
        else
                review->api->reviews_end = review->at;
        review->api = NULL;
}

static void review_run(struct job *job)
{
        struct api_review *review = CONTAINER_OF(job, struct api_review, job);
        kube_reviews_fetch(review->reviews, &review->call, secret_get_text(review->token), &review->caller, &review->err);
}

static void reviews_start(struct api *api);

static void review_done(struct job *job)
{
        struct api_review *review = CONTAINER_OF(job, struct api_review, job);
        struct api *api = review->api;
        struct api_ask *ask = TAKE(review->ask);
        struct serve_request *request = ask ? ask->request : NULL;
        if (api)
                review_detach(review);
        if (request)
                serve_request_set_data(request, NULL);
        api_ask_free(&ask);
        if (request)
                api_handle_reviewed(api, request, review);
        review_free(review);
        if (api)
                reviews_start(api);
}

static void reviews_start(struct api *api)
{
        for (struct api_review *review = api->reviews; review && api->reviews_running < REVIEWS_RUNNING_MAX; review = review->next)
                if (!review->is_running) {
                        review->is_running = true;
                        api->reviews_running++;
                        job_start(api->options.loop, &review->job);
                }
}

static void review_start(struct api_call *call, const char *token)
{
        struct api *api = call->api;
        struct api_review *review = memory_new(1, sizeof *review);
        *review = (struct api_review){ .job = { .run = review_run, .done = review_done }, .api = api, .reviews = api->options.reviews, .at = api->reviews_end };
        review->call = (struct kube_call){ api->options.kube, cancel_new(), clock_get_ms() + REVIEW_PATIENCE_MS };
        review->token = secret_new(token, strlen(token));
        review->ask = api_ask_new(call);
        review->ask->review = review;
        *review->at = review;
        api->reviews_end = &review->next;
        serve_request_set_data(call->request, review->ask);
        reviews_start(api);
}

/* Its request is gone: one that runs is told to end, and ends when it can. */
void api_review_gone(struct api_review *review)
{
        api_ask_free(&review->ask);
        cancel_trigger(review->call.cancel);
        if (review->is_running)
                return;
        review_detach(review);
        review_free(review);
}

void api_reviews_close(struct api *api)
{
        struct error err = { 0 };
        refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        for (struct api_review *review = api->reviews, *next; review; review = next) {
                struct api_ask *ask = review->ask;
                next = review->next;
                if (ask) {
                        struct serve_request *request = ask->request;
                        size_t route = ask->route;
                        serve_request_set_data(request, NULL);
                        api_ask_free(&review->ask);
                        api_answer_error(api, request, route, &err);
                }
                cancel_trigger(review->call.cancel);
                bool is_running = review->is_running;
                review_detach(review);
                if (!is_running)
                        review_free(review);
        }
}

/* ---- the door inside of the room ---- */

static const char *token_find(const struct api_call *call)
{
        const char *header = call->api->options.reviews ? serve_request_get_header(call->request, "Authorization") : NULL;
        if (!header || strncasecmp(header, "Bearer ", 7) != 0)
                return NULL;
        return header + 7 + strspn(header + 7, " ");
}

enum api_identified api_identify(struct api_call *call, const struct api_review *review, struct error *err)
{
        const struct visitor *visitor = serve_request_get_identity(call->request);
        const char *token = token_find(call);
        CLEANUP(kube_caller_fini) struct kube_caller caller = { 0 };
        struct error why = { 0 };
        if (!visitor)
                return refuse(err, ERROR_INTERNAL, "nothing is known of this connection") ? API_IDENTIFIED : API_REFUSED;
        if (!token)
                return by_cgroup(call, visitor, review != API_HAS_WAITED, err);
        if (review && review->err.code == ERROR_NONE)
                return by_token(call, visitor, &review->caller, err);
        if (review)
                return without_review(call, visitor, &review->err, err);
        if (kube_reviews_find(call->api->options.reviews, token, &caller, &why) && (is_known(call, &caller) || kube_reviews_doubt(call->api->options.reviews, token)))
                return by_token(call, visitor, &caller, err);
        if (why.code != ERROR_NONE)
                return without_review(call, visitor, &why, err);
        review_start(call, token);
        return API_WAITS;
}
