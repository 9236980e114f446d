/* flow: a small world for flow tests: a scripted registry as a subprocess, a store in a temporary folder, the module room on a loop. One at a time per program. */
#pragma once
#include <sys/types.h>
#include <wasmcached/credential.h>
#include <wasmcached/fetch.h>
#include <wasmcached/loop.h>
#include <wasmcached/module.h>
#include <wasmcached/registry.h>
#include <wasmcached/store.h>

struct flow {
        struct loop *loop;
        struct store *store;
        struct modules *modules;
        struct modules_options options;
        struct fetch_options fetch_options;
        char root[256], secrets[320], files[320];
        pid_t registry;
        int port, other, registry_pipe;
        size_t fds;
};

/* An answer with its texts copied; or what refused it. */
struct flow_answer { bool is_answered, is_ok; struct error err; char path[512], sha256[80], digest[160], lease[40]; uint64_t size_bytes; enum module_source source; bool is_stale; int64_t lease_expires_s; };

void flow_init(struct flow *flow);                                         /* folder, registry, default options; nothing open yet */
void flow_open(struct flow *flow);                                         /* store and modules */
void flow_close(struct flow *flow);                                        /* closes them; the folder stays (restart = close, open) */
void flow_fini(struct flow *flow);                                         /* checks that no fd is left over */

struct module_want *flow_want(const char *json);
extern const struct module_caller flow_tenant_a, flow_tenant_b, flow_operator;
/* Starts a request; `answer` is filled when it comes. */
struct module_waiter *flow_start(struct flow *flow, const char *json, const struct module_caller *caller, struct flow_answer *answer);
/* Runs the loop until all of them are answered, at most 20 s. */
void flow_wait(struct flow *flow, struct flow_answer *answers, size_t count);
void flow_run_ms(struct flow *flow, int64_t ms);
/* Both in one. `format` makes the JSON. */
struct flow_answer flow_get(struct flow *flow, const struct module_caller *caller, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* An operator's call: waits for module_done; the JSON (free) or NULL and *ret_err. */
typedef void (*flow_call)(struct flow *flow, void *arg, module_done done, void *done_arg);
char *flow_operate(struct flow *flow, flow_call call, void *arg, struct error *ret_err);

/* Steering of the registry: the body of the answer (free). */
char *flow_http(struct flow *flow, const char *method, const char *path);
/* How many requests since the last flow_forget() begin with `method` and whose path contains `part`. */
size_t flow_count(struct flow *flow, const char *method, const char *part);
void flow_forget(struct flow *flow);
void flow_secret(struct flow *flow, const char *namespace, const char *name, const char *config);   /* NULL removes it */
size_t flow_fds(void);
