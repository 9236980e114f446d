/*
 * api: the HTTP/JSON front: routes, bodies, problems, events, metrics. Loop only. Given to serve as its handler; asks module for everything; what only the daemon knows
 *              comes by callbacks.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>
#include <wasmcached/module.h>

struct api; struct keeper; struct kube; struct kube_reviews; struct loop; struct modules; struct serve; struct serve_handler;

/* ---- who connects: what a listener's tag (serve_listen_… `tag`) points at ---- */
enum api_listener_kind { API_LISTENER_AGENT, API_LISTENER_ADMIN, API_LISTENER_METRICS };
enum api_identity { API_IDENTITY_FIXED, API_IDENTITY_POD, API_IDENTITY_TRUSTED };
/* Owned by the daemon; unchanged and alive as long as a connection of that listener may be (until serve_free or api_free). */
struct api_listener {
        enum api_listener_kind kind;
        enum api_identity identity;
        const char *namespace;            /* fixed: the one of all callers; else NULL */
        const char *module_dir;           /* as the callers see it, with {namespace} */
};

/* ---- what only the daemon knows; loop; `arg` of the options ---- */
struct api_callbacks {
        void *arg;
        /* GET /v1/config: the effective configuration as one JSON object. */
        void (*config)(void *arg, struct buffer *ret_json);
        /* POST /v1/reload: has the file read anew and applied; done() once, now or later, with {"applied": […], "needsRestart": […]} or an error, and then nothing changed. */
        void (*reload)(void *arg, module_done done, void *done_arg);
        /* GET /readyz: puts one line per reason why not; none = ready. */
        void (*readiness)(void *arg, struct buffer *ret_reasons);
};

struct api_options {
        struct loop *loop;                /* borrowed, all three */
        struct modules *modules;
        struct keeper *keeper;            /* NULL: neither plugins nor Pods are known of */
        struct kube *kube;                /* NULL, both: tokens are not looked at. Borrowed; stay until loop_free(), as a review may outlive the api */
        struct kube_reviews *reviews;
        const char *node;                 /* tokens of pods on other nodes are refused; NULL or "" = not looked at */
        const char *version;              /* "0.1.0" */
        struct api_callbacks callbacks;   /* members may be NULL: not_found, or always ready */
};

/* Copies options. */
struct api *api_new(const struct api_options *options) __attribute__((returns_nonnull));
/* To be given to serve_new(); valid as long as the api. */
const struct serve_handler *api_get_handler(struct api *api);
/* For numbers in /metrics and /v1/status; NULL before serve is there and after it is gone. Borrowed. */
void api_set_serve(struct api *api, struct serve *serve);
/* Ends events streams and stops listening to module; before serve_close(), which then finds them closed. Requests that still come are answered 503 busy. */
void api_close(struct api *api);
/* After serve_close() has called back and modules_close() too: no request is open then (asserted). */
void api_free(struct api **api);

/* The description that GET /openapi.yaml gives, from the route table. */
void api_print_openapi(const char *version, struct buffer *out);
/* The body of an error, "application/problem+json" (RFC 9457): type, title, status, detail, code. */
void api_print_problem(const struct error *err, struct buffer *out);
