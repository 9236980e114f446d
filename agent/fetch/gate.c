/*
 * How it goes: an answer 429 or 503 closes the origin's gate, for all requests of the client, until the moment that it named. Then they pass in the order in which they came, the
 *              first as a probe, the next each a gap later; a gap that was too short for the origin doubles, each good answer makes it shorter, until there is no gate any more.
 * How it fails: who would still stand before it at its own deadline, or may ask elsewhere, is refused with what the origin said; who is cancelled leaves the queue.
 * How it ends: a gate is forgotten when its gap is next to nothing, or a minute after it opened if nobody came. More gates than GATES_MAX are not made: those requests wait alone.
 */
#include <stdlib.h>
#include <string.h>
#include "client.h"

struct place { struct place *next; struct gate_visit *visit; };
struct gate {
        struct gate *next;
        char *origin;
        int status;                               /* that closed it last */
        unsigned round;                           /* how often it was closed */
        int64_t opens_ms, next_ms, gap_ms;        /* nobody before `opens`, the next one not before `next` */
        char *suspect;                            /* round 0: no gate yet, but this url had a 503 at `next` */
        struct place *queue;
};

void gates_init(struct gates *gates)
{
        *gates = (struct gates){ 0 };
        pthread_mutex_init(&gates->mutex, NULL);
}

static void gate_drop(struct gates *gates, struct gate **at)
{
        struct gate *gate = *at;
        *at = gate->next;
        gates->count--;
        free(gate->origin);
        free(gate->suspect);
        free(gate);
}

void gates_fini(struct gates *gates)
{
        while (gates->first)
                gate_drop(gates, &gates->first);
        pthread_mutex_destroy(&gates->mutex);
}

static int64_t turn_ms(const struct gate *gate)
{
        return gate->opens_ms > gate->next_ms ? gate->opens_ms : gate->next_ms;
}

/* What nobody has come to for long is not there. */
static struct gate **gate_find(struct gates *gates, const char *origin, int64_t now_ms)
{
        struct gate **at = &gates->first;
        while (*at) {
                if (!(*at)->queue && now_ms > turn_ms(*at) + GATE_KEEP_MS)
                        gate_drop(gates, at);
                else if (strcmp((*at)->origin, origin) == 0)
                        return at;
                else
                        at = &(*at)->next;
        }
        return at;
}

static void queue_join(struct gate *gate, struct place *place)
{
        struct place **at = &gate->queue;
        while (*at)
                at = &(*at)->next;
        *at = place;
}

/* The one who is first now may have slept until he would be. */
static void queue_leave(struct gate *gate, struct place *place)
{
        struct place **at = &gate->queue;
        while (*at != place)
                at = &(*at)->next;
        *at = place->next;
        if (gate->queue)
                gate->queue->visit->wake(gate->queue->visit->arg);
}

static bool refuse_turn(const struct gate *gate, int64_t now_ms, struct error *err)
{
        int64_t left_ms = turn_ms(gate) - now_ms;
        unsigned left_s = left_ms > 0 ? (unsigned)((left_ms + 999) / 1000) : 1;
        bool is_rate = gate->status == 429;
        refuse(err, is_rate ? ERROR_RATE_LIMITED : ERROR_UPSTREAM_ERROR,
               "%s answered %d (%s) to another request and is left in peace for %u s more: this one was not sent, ask again then", gate->origin, gate->status,
               is_rate ? "too many requests" : "service unavailable", left_s);
        err->retry_after_s = left_s;
        return false;
}

/* Stays locked but for the sleep. The gate is there as long as somebody stands before it. */
static bool wait_for_turn(struct gates *gates, struct gate *gate, struct place *place, struct error *err)
{
        const struct gate_visit *visit = place->visit;
        for (;;) {
                int64_t now_ms = clock_get_ms(), until_ms = turn_ms(gate);
                if (cancel_is_triggered(visit->cancel))
                        return refuse(err, ERROR_BUSY, "cancelled");
                if (gate->queue == place && now_ms >= until_ms)
                        return true;
                if ((visit->no_wait && gate->status == 429 && gate->opens_ms > now_ms) ||
                    (visit->deadline_ms > 0 && (now_ms >= visit->deadline_ms || until_ms >= visit->deadline_ms)))
                        return refuse_turn(gate, now_ms, err);
                if (gate->queue != place)
                        until_ms = visit->deadline_ms > 0 ? visit->deadline_ms : INT64_MAX;
                pthread_mutex_unlock(&gates->mutex);
                visit->sleep(visit->arg, until_ms);
                pthread_mutex_lock(&gates->mutex);
        }
}

bool gate_pass(struct gates *gates, struct gate_visit *visit, struct error *err)
{
        bool is_good = true;
        int64_t now_ms = clock_get_ms();
        visit->round = 0;
        pthread_mutex_lock(&gates->mutex);
        struct gate *gate = *gate_find(gates, visit->origin, now_ms);
        if (gate && gate->round == 0)
                gate = NULL;
        if (gate && (gate->queue || now_ms < turn_ms(gate))) {
                struct place place = { .visit = visit };
                atomic_fetch_add(&stats.waits, 1);
                queue_join(gate, &place);
                is_good = wait_for_turn(gates, gate, &place, err);
                if (is_good)
                        gate->next_ms = clock_get_ms() + gate->gap_ms;
                queue_leave(gate, &place);
        } else if (gate) {
                gate->next_ms = now_ms + gate->gap_ms;
        }
        if (gate)
                visit->round = gate->round;
        pthread_mutex_unlock(&gates->mutex);
        return is_good;
}

static struct gate *gate_make(struct gates *gates, struct gate **at, const char *origin)
{
        if (*at)
                return *at;
        if (gates->count >= GATES_MAX)
                return NULL;
        gates->count++;
        *at = memory_new(1, sizeof **at);
        (*at)->origin = string_copy(origin);
        (*at)->gap_ms = GATE_GAP_FIRST_MS;
        return *at;
}

static bool is_suspicion(struct gate *gate, const char *url)
{
        int64_t now_ms = clock_get_ms();
        if (gate->round > 0 || (gate->suspect && strcmp(gate->suspect, url) != 0 && now_ms < gate->next_ms + GATE_SUSPECT_MS))
                return false;
        free(gate->suspect);
        gate->suspect = string_copy(url);
        gate->next_ms = now_ms;
        return true;
}

/* Several that were under way together are told the same: that counts once. */
static void gate_close(struct gate *gate, const struct gate_visit *visit, int status, int64_t said_ms)
{
        if (gate->round > 0 && visit->round == gate->round)
                gate->gap_ms = gate->gap_ms * 2 < GATE_GAP_MOST_MS ? gate->gap_ms * 2 : GATE_GAP_MOST_MS;
        if (visit->round == gate->round)
                gate->round++;
        int64_t until_ms = clock_get_ms() + (said_ms > 0 ? said_ms : gate->gap_ms);
        gate->status = status;
        if (until_ms > gate->opens_ms)
                gate->opens_ms = until_ms;
        for (struct place *place = gate->queue; place; place = place->next)
                place->visit->wake(place->visit->arg);
}

void gate_note(struct gates *gates, const struct gate_visit *visit, int status, unsigned said_s)
{
        bool is_refusal = status == 429 || status == 503, is_new = false;
        unsigned round = 0;
        pthread_mutex_lock(&gates->mutex);
        struct gate **at = gate_find(gates, visit->origin, clock_get_ms()), *gate = *at;
        if (is_refusal && (gate = gate_make(gates, at, visit->origin)) && !(status == 503 && said_s == 0 && is_suspicion(gate, visit->url))) {
                is_new = gate->round == 0;
                gate_close(gate, visit, status, (int64_t)said_s * 1000);
                round = gate->round;
        } else if (!is_refusal && gate && gate->round > 0 && visit->round == gate->round) {
                gate->gap_ms -= gate->gap_ms / 4;
                if (gate->gap_ms < GATE_GAP_LEAST_MS && !gate->queue)
                        gate_drop(gates, at);
        }
        pthread_mutex_unlock(&gates->mutex);
        if (is_new)
                LOG_WARN("host_limits", LOG_TEXT("origin", visit->origin), LOG_NUMBER("status", status), LOG_NUMBER("retry_after_s", said_s));
        else if (round > 0)
                LOG_DEBUG("host_limits", LOG_TEXT("origin", visit->origin), LOG_NUMBER("status", status), LOG_NUMBER("retry_after_s", said_s), LOG_NUMBER("round", round));
}

int64_t gate_get_left_ms(struct gates *gates, const char *origin, int *ret_status)
{
        int64_t now_ms = clock_get_ms(), left_ms = 0;
        pthread_mutex_lock(&gates->mutex);
        const struct gate *gate = *gate_find(gates, origin, now_ms);
        if (gate && gate->opens_ms > now_ms) {
                left_ms = gate->opens_ms - now_ms;
                *ret_status = gate->status;
        }
        pthread_mutex_unlock(&gates->mutex);
        return left_ms;
}
