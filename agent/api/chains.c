/*
 * How it goes: GET /v1/plugins: the workload's chain with the state of each module, rendered once and kept until the chain or a state in its folder is another one. Whoever has
 *              that ETag already and brings time waits in a list, and is looked at again after each change.
 * How it fails: before every source has been read: 503, never a chain that may lack something.
 * How it ends: a poll ends with another chain, its time (304), its peer, or the daemon.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/loop.h>
#include "front.h"

enum { RENDERED_MAX = 1024, RENDERED_BYTES_MAX = 64 << 20, ETAG_BYTES = 40, WAIT_MAX_MS = 300000 };

struct rendered { uint64_t chain, states; char etag[ETAG_BYTES]; struct buffer body; };
struct api_chains {
        struct api *api;
        struct map *rendered;
        size_t bytes;
        struct keeper_watch *watch;
        struct api_poll *polls;
};
struct api_poll {
        struct api_chains *chains;
        struct api_ask *ask;
        const struct api_listener *listener;
        struct api_question question;
        char *if_none_match, *pod_uid;    /* pod_uid: with identity pod, of who asks; else NULL */
        struct loop_timer *timer;
        struct api_poll *next, **at;
};

char *api_plugin_path(const struct api_listener *listener, const char *namespace, const char *sha256)
{
        static const char mark[] = "{namespace}";
        const char *template = listener->module_dir ? listener->module_dir : "", *found = strstr(template, mark), *rest = found ? found + strlen(mark) : template;
        bool has_slash = string_ends_with(*rest ? rest : found ? namespace : "/", "/");
        return string_format("%.*s%s%s%s%s.wasm", found ? (int)(found - template) : 0, template, found ? namespace : "", rest, has_slash ? "" : "/", sha256);
}

/* ---- rendering ---- */

static void rendered_free(void *pointer)
{
        struct rendered *rendered = pointer;
        buffer_fini(&rendered->body);
        free(rendered);
}

static void key_text(struct buffer *key, const char *text)
{
        buffer_append(key, text, strlen(text) + 1);
}

static void key_make(const struct api_listener *listener, const struct api_question *question, struct buffer *ret_key)
{
        const unsigned numbers[] = { question->traffic.direction, question->traffic.port, question->traffic.type, question->has_times, (unsigned)question->label_count };
        buffer_append(ret_key, &listener, sizeof listener);
        buffer_append(ret_key, numbers, sizeof numbers);
        key_text(ret_key, question->namespace);
        for (size_t i = 0; i < question->label_count; i++) {
                key_text(ret_key, question->labels[i].key);
                key_text(ret_key, question->labels[i].value);
        }
        for (size_t i = 0; i < question->service_count; i++) {
                key_text(ret_key, question->services[i].is_entry ? "e" : "s");
                key_text(ret_key, question->services[i].namespace);
                key_text(ret_key, question->services[i].name);
        }
}

static void entry_put(const struct api_chains *chains, const struct api_listener *listener, const struct api_question *question, const struct plugin *plugin,
        struct json_writer *writer)
{
        struct keeper_status status;
        char since[CLOCK_RFC3339_BYTES];
        keeper_get_status(chains->api->options.keeper, plugin, question->namespace, &status);
        bool is_ready = status.progress == PLUGIN_READY && status.sha256;
        CLEANUP(cleanup_free) char *path = is_ready ? api_plugin_path(listener, question->namespace, status.sha256) : NULL;
        struct plugin_outcome outcome = { .progress = status.progress, .path = path, .sha256 = is_ready ? status.sha256 : NULL, .digest = is_ready ? status.digest : NULL,
                .code = status.code ? error_get_row(status.code)->name : NULL, .detail = status.detail };
        if (question->has_times && status.since_s > 0) {
                clock_format_rfc3339(status.since_s, since);
                outcome.since = since;
        }
        plugin_put_chain_entry(writer, plugin, &outcome);
}

static void rendered_make(const struct api_chains *chains, const struct api_listener *listener, const struct api_question *question, const struct plugin_chain *chain,
        struct rendered *rendered)
{
        struct json_writer writer = { .out = &rendered->body };
        struct digest digest;
        char hex[DIGEST_TEXT_BYTES];
        buffer_clear(&rendered->body);
        json_open_map(&writer, NULL);
        json_open_list(&writer, "plugins");
        for (size_t i = 0; i < chain->count; i++)
                entry_put(chains, listener, question, chain->items[i], &writer);
        json_close_list(&writer);
        json_close_map(&writer);
        digest_sha256(rendered->body.data, rendered->body.used, &digest);
        digest_format_hex(&digest, hex);
        snprintf(rendered->etag, sizeof rendered->etag, "\"%.32s\"", hex);
}

/* Borrowed until the next call. */
static const struct rendered *chain_get(struct api_chains *chains, const struct api_listener *listener, const struct api_question *question)
{
        CLEANUP(buffer_fini) struct buffer key = { 0 };
        struct keeper *keeper = chains->api->options.keeper;
        struct plugin_workload workload = api_question_workload(question);
        struct plugin_chain chain;
        keeper_ask(keeper, &workload);
        plugins_select(keeper_get_plugins(keeper), &workload, &question->traffic, &chain);
        uint64_t states = keeper_get_revision(keeper, question->namespace);

        key_make(listener, question, &key);
        struct rendered *rendered = map_get(chains->rendered, key.data, key.used);
        if (rendered && rendered->chain == chain.revision && rendered->states == states)
                return rendered;
        if (!rendered && (map_get_count(chains->rendered) >= RENDERED_MAX || chains->bytes > RENDERED_BYTES_MAX)) {
                map_free(&chains->rendered);
                chains->rendered = map_new(rendered_free);
                chains->bytes = 0;
        }
        if (!rendered) {
                rendered = memory_new(1, sizeof *rendered);
                map_put(chains->rendered, key.data, key.used, rendered);
        }
        chains->bytes -= rendered->body.used;
        rendered->chain = chain.revision;
        rendered->states = states;
        rendered_make(chains, listener, question, &chain, rendered);
        chains->bytes += rendered->body.used;
        return rendered;
}

/* ---- waiting ---- */

static void poll_free(struct api_poll *poll)
{
        *poll->at = poll->next;
        if (poll->next)
                poll->next->at = poll->at;
        loop_timer_cancel(&poll->timer);
        api_question_fini(&poll->question);
        free(poll->if_none_match);
        free(poll->pod_uid);
        free(poll);
}

void api_poll_gone(struct api_poll **poll)
{
        poll_free(TAKE(*poll));
}

static struct serve_request *poll_end(struct api_poll *poll, size_t *ret_route)
{
        struct api_ask *ask = poll->ask;
        struct serve_request *request = ask->request;
        *ret_route = ask->route;
        serve_request_set_data(request, NULL);
        api_ask_free(&ask);
        poll_free(poll);
        return request;
}

/* While it waited, its Pod may have got other labels, or be gone: then it is answered. */
static bool poll_renew(struct api_poll *poll)
{
        struct api *api = poll->chains->api;
        const struct plugin_pod *pod = poll->pod_uid ? keeper_find_pod(api->options.keeper, poll->pod_uid) : NULL;
        struct error err = { 0 };
        size_t route;
        if (pod)
                api_question_set_pod(&poll->question, pod);
        if (pod || !poll->pod_uid)
                return true;
        refuse(&err, ERROR_DENIED, "the pod that asks is no longer known on this node");
        struct serve_request *request = poll_end(poll, &route);
        api_answer_error(api, request, route, &err);
        return false;
}

static void poll_look(struct api_poll *poll, bool is_over)
{
        struct api *api = poll->chains->api;
        size_t route;
        if (!poll_renew(poll))
                return;
        const struct rendered *rendered = chain_get(poll->chains, poll->listener, &poll->question);
        bool is_same = api_etag_in(poll->if_none_match, rendered->etag, true);
        if (is_same && !is_over)
                return;
        struct serve_request *request = poll_end(poll, &route);
        api_answer_tagged(api, request, route, is_same ? 304 : 200, rendered->etag, &rendered->body);
}

static void poll_timed_out(void *arg)
{
        poll_look(arg, true);
}

static void chains_changed(void *arg)
{
        struct api_chains *chains = arg;
        for (struct api_poll *poll = chains->polls, *next; poll; poll = next) {
                next = poll->next;
                poll_look(poll, false);
        }
}

/* Takes the question. */
static void poll_start(struct api_call *call, struct api_question *question, const char *if_none_match, int64_t wait_ms)
{
        struct api_chains *chains = call->api->chains;
        struct api_poll *poll = memory_new(1, sizeof *poll);
        *poll = (struct api_poll){ .chains = chains, .ask = api_ask_new(call), .listener = call->listener, .question = *question, .if_none_match = string_copy(if_none_match),
                .next = chains->polls, .at = &chains->polls };
        *question = (struct api_question){ 0 };
        poll->pod_uid = call->pod ? string_copy(call->pod->uid) : NULL;
        if (poll->next)
                poll->next->at = &poll->next;
        chains->polls = poll;
        poll->ask->poll = poll;
        serve_request_set_data(call->request, poll->ask);
        poll->timer = loop_timer_start(call->api->options.loop, wait_ms, 0, poll_timed_out, poll);
}

/* ---- the route ---- */

static bool wait_read(const struct api_call *call, int64_t *ret_wait_ms, struct error *err)
{
        const char *text = serve_request_get_query(call->request, "wait", 0);
        if (!text)
                return true;
        if (!clock_parse_duration(text, ret_wait_ms, err)) {
                err->code = ERROR_BAD_REQUEST;
                return refuse_within(err, "query parameter \"wait\"");
        }
        return *ret_wait_ms <= WAIT_MAX_MS || refuse(err, ERROR_BAD_REQUEST, "query parameter \"wait\": at most %d s", WAIT_MAX_MS / 1000);
}

void api_handle_plugins(struct api_call *call)
{
        struct error err = { 0 };
        CLEANUP(api_question_fini) struct api_question question = { 0 };
        int64_t wait_ms = 0;
        const char *if_none_match = serve_request_get_header(call->request, "If-None-Match");
        if (!call->api->options.keeper)
                refuse(&err, ERROR_NOT_FOUND, "this daemon knows no plugins");
        if (err.code || !wait_read(call, &wait_ms, &err) || !api_question_read(call, &question, &err) || !keeper_is_ready(call->api->options.keeper, &err)) {
                api_call_fail(call, &err);
                return;
        }
        struct api_chains *chains = call->api->chains;
        if (!chains->watch)
                chains->watch = keeper_watch_start(call->api->options.keeper, chains_changed, chains);
        const struct rendered *rendered = chain_get(chains, call->listener, &question);
        bool is_same = if_none_match && api_etag_in(if_none_match, rendered->etag, true);
        if (is_same && wait_ms > 0)
                poll_start(call, &question, if_none_match, wait_ms);
        else
                api_answer_tagged(call->api, call->request, api_call_route(call), is_same ? 304 : 200, rendered->etag, &rendered->body);
}

/* ---- life ---- */

struct api_chains *api_chains_new(struct api *api)
{
        struct api_chains *chains = memory_new(1, sizeof *chains);
        *chains = (struct api_chains){ .api = api, .rendered = map_new(rendered_free) };
        return chains;
}

void api_chains_close(struct api_chains *chains)
{
        struct error err = { 0 };
        size_t route;
        refuse(&err, ERROR_BUSY, "the daemon is stopping; ask again in a moment");
        keeper_watch_cancel(&chains->watch);
        while (chains->polls) {
                struct serve_request *request = poll_end(chains->polls, &route);
                api_answer_error(chains->api, request, route, &err);
        }
}

void api_chains_free(struct api_chains **chains_pointer)
{
        struct api_chains *chains = TAKE(*chains_pointer);
        if (!chains)
                return;
        keeper_watch_cancel(&chains->watch);
        map_free(&chains->rendered);
        free(chains);
}
