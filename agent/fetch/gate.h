/* gate: what all requests to one origin share when it says that there are too many of them. */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

enum { GATES_MAX = 256, GATE_GAP_FIRST_MS = 250, GATE_GAP_MOST_MS = 1000, GATE_GAP_LEAST_MS = 20, GATE_KEEP_MS = 60000, GATE_SUSPECT_MS = 5000 };

struct gate;
struct gates { pthread_mutex_t mutex; struct gate *first; size_t count; };

/* One request before its gate. `wake` of another thread ends a sleep(), which may also end by itself; both are told `arg`. */
struct gate_visit {
        const char *origin, *url;
        int64_t deadline_ms;                      /* clock_get_ms() value, 0 = none */
        bool no_wait;                             /* there is another place to ask: not behind a 429 */
        struct cancel *cancel;
        void (*sleep)(void *arg, int64_t until_ms);
        void (*wake)(void *arg);
        void *arg;
        unsigned round;                           /* filled: under which closing it passed, for gate_note() */
};

void gates_init(struct gates *gates);
void gates_fini(struct gates *gates);             /* nobody waits any more */
/* Returns when it is this request's turn, at once where there is no gate. ERROR_BUSY: cancelled. ERROR_RATE_LIMITED (429) or ERROR_UPSTREAM_ERROR (503) with the seconds that are
   left: not before its deadline. */
bool gate_pass(struct gates *gates, struct gate_visit *visit, struct error *err);
/* How the origin answered: 429 and 503 close the gate for `said_s`, or without it for a while; others let the next ones through sooner. A 503 that names no time may be of one url
   alone: it closes nothing before a second url had it too. */
void gate_note(struct gates *gates, const struct gate_visit *visit, int status, unsigned said_s);
/* How long it is closed yet, 0 = it is not; *ret_status: the answer that closed it. */
int64_t gate_get_left_ms(struct gates *gates, const char *origin, int *ret_status);
