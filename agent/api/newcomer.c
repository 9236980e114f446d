/*
 * How it goes: the kubelet starts a pod as soon as it hears of it, and we hear of it from the same API server, so that the pod may ask before we know it. Its request is kept
 *              until the pod is known, a moment at most, and then goes its way from the start.
 * How it fails: a pod that is still not known is denied. Of too many that wait, the next one is denied at once.
 * How it ends: with the request, or with the moment; api_newcomers_close() says that the daemon stops.
 */
#include <stdlib.h>
#include <wasmcached/kube.h>
#include <wasmcached/loop.h>
#include "front.h"

enum { NEWCOMERS_MAX = 256, NEWCOMER_PATIENCE_MS = 2000 };

struct api_newcomer {
        struct api *api;
        struct api_ask *ask;
        struct kube_cgroup cgroup;
        struct loop_timer *timer;
        struct api_newcomer *next, **at;
};

/* Nothing was reviewed; only that it waited is to be known. */
static const char waited;
const struct api_review *const API_HAS_WAITED = (const struct api_review *)&waited;

static void newcomer_free(struct api_newcomer *newcomer)
{
        struct api *api = newcomer->api;
        loop_timer_cancel(&newcomer->timer);
        *newcomer->at = newcomer->next;
        if (newcomer->next)
                newcomer->next->at = newcomer->at;
        if (--api->newcomer_count == 0)
                keeper_watch_cancel(&api->newcomers_watch);
        free(newcomer);
}

/* The request that is to go on. */
static struct serve_request *newcomer_end(struct api_newcomer *newcomer)
{
        struct api_ask *ask = TAKE(newcomer->ask);
        struct serve_request *request = ask->request;
        serve_request_set_data(request, NULL);
        api_ask_free(&ask);
        newcomer_free(newcomer);
        return request;
}

static void moment_is_over(void *arg)
{
        struct api_newcomer *newcomer = arg;
        struct api *api = newcomer->api;
        api_handle_reviewed(api, newcomer_end(newcomer), API_HAS_WAITED);
}

/* Answering one may end others, so the list is looked at from its beginning. */
static void pods_changed(void *arg)
{
        struct api *api = arg;
        for (struct api_newcomer *newcomer = api->newcomers; newcomer;)
                if (keeper_may_learn_of(api->options.keeper, &newcomer->cgroup))
                        newcomer = newcomer->next;
                else {
                        api_handle_reviewed(api, newcomer_end(newcomer), API_HAS_WAITED);
                        newcomer = api->newcomers;
                }
}

bool api_newcomer_start(struct api_call *call, const struct kube_cgroup *cgroup)
{
        struct api *api = call->api;
        if (api->newcomer_count >= NEWCOMERS_MAX)
                return false;
        struct api_newcomer *newcomer = memory_new(1, sizeof *newcomer);
        *newcomer = (struct api_newcomer){ .api = api, .ask = api_ask_new(call), .cgroup = *cgroup, .next = api->newcomers, .at = &api->newcomers };
        newcomer->timer = loop_timer_start(api->options.loop, NEWCOMER_PATIENCE_MS, 0, moment_is_over, newcomer);
        newcomer->ask->newcomer = newcomer;
        if (api->newcomers)
                api->newcomers->at = &newcomer->next;
        api->newcomers = newcomer;
        if (api->newcomer_count++ == 0)
                api->newcomers_watch = keeper_watch_start(api->options.keeper, pods_changed, api);
        serve_request_set_data(call->request, newcomer->ask);
        return true;
}

void api_newcomer_gone(struct api_newcomer *newcomer)
{
        newcomer_free(newcomer);
}

void api_newcomers_close(struct api *api)
{
        struct error err = { 0 };
        refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        while (api->newcomers) {
                size_t route = api->newcomers->ask->route;
                api_answer_error(api, newcomer_end(api->newcomers), route, &err);
        }
}
