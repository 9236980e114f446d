/*
 * How it goes: a request that waits is one small object, kept as serve's request data; module gets it as its argument.
 * How it fails: when the peer goes first, a module_get() is cancelled at once; an operator's job cannot be and runs on, its result is dropped.
 * How it ends: the object goes back to a list of spare ones, so that a hit allocates nothing; api_free() finds none given out.
 */
#include <stdlib.h>
#include "front.h"

struct api_ask *api_ask_new(const struct api_call *call)
{
        struct api *api = call->api;
        struct api_ask *ask = api->spare;
        if (ask)
                api->spare = ask->next_spare;
        else
                ask = memory_new(1, sizeof *ask);
        *ask = (struct api_ask){ .api = api, .request = call->request, .caller = call->caller, .route = api_call_route(call) };
        api->asks++;
        return ask;
}

void api_ask_free(struct api_ask **ask)
{
        struct api_ask *old = TAKE(*ask);
        if (!old)
                return;
        old->api->asks--;
        old->next_spare = old->api->spare;
        old->api->spare = old;
}

void api_ask_gone(struct api_ask *ask)
{
        ask->request = NULL;
        if (ask->poll) {
                api_poll_gone(&ask->poll);
                api_ask_free(&ask);
                return;
        }
        if (ask->review) {
                api_review_gone(ask->review);
                return;
        }
        if (ask->whole) {
                module_whole_cancel(&ask->whole);
                api_ask_free(&ask);
                return;
        }
        if (ask->newcomer) {
                api_newcomer_gone(TAKE(ask->newcomer));
                api_ask_free(&ask);
                return;
        }
        if (!ask->waiter)
                return;
        module_waiter_cancel(&ask->waiter);
        api_ask_free(&ask);
}

static void whole_now(void *arg, const struct store_report *report, const struct error *err)
{
        struct api_ask *ask = arg;
        struct api *api = ask->api;
        struct serve_request *request = ask->request;
        size_t route = ask->route;
        (void)report;
        serve_request_set_data(request, NULL);
        api_ask_free(&ask);
        if (err)
                api_answer_error(api, request, route, err);
        else
                api_handle_reviewed(api, request, NULL);
}

bool api_ask_for_all(struct api_call *call)
{
        struct modules *modules = call->api->options.modules;
        if (!call->route->needs_all || !modules || module_is_whole(modules))
                return false;
        struct api_ask *ask = api_ask_new(call);
        serve_request_set_data(call->request, ask);
        struct module_whole_wait *wait = module_when_whole(modules, whole_now, ask);
        if (wait)
                ask->whole = wait;
        return true;
}

void api_ask_done(void *arg, const char *json, const struct error *err)
{
        struct api_ask *ask = arg;
        struct serve_request *request = ask->request;
        if (request)
                serve_request_set_data(request, NULL);
        if (request && err)
                api_answer_error(ask->api, request, ask->route, err);
        else if (request) {
                struct buffer *body = api_scratch(ask->api);
                buffer_append_text(body, json ? json : "{}");
                api_answer_json(ask->api, request, ask->route, body);
        }
        api_ask_free(&ask);
}
