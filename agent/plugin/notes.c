/*
 * How it goes: what is told waits in a list; a job takes the list and writes one after the other. Repeats and floods are room kube's to count and to limit.
 * How it fails: Events are told, never relied on. While the API cannot be asked they wait, the oldest giving way; what it refuses is dropped, and one line says why.
 * How it ends: notes_close() cancels the writing; what was not written is not.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "notes.h"
#include "room.h"

struct note { struct note *next; char *kind, *namespace, *name, *uid, *text; enum keeper_happening happening; bool is_of_module; };

struct notes {
        struct loop *loop;
        struct kube *kube;
        struct kube_events *events;
        struct loop_timer *timer;
        struct note *first, **end; size_t count;
        /* the worker's while it runs */
        struct job job;
        struct note *writing;
        struct cancel *cancel;
        struct error err;
        bool is_running;
        enum error_code told;
        void (*closed)(void *arg); void *closed_arg;
};

static void note_free(struct note *note)
{
        void *const texts[] = { note->kind, note->namespace, note->name, note->uid, note->text, note };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                free(texts[i]);
}

static void list_free(struct note *first)
{
        while (first) {
                struct note *next = first->next;
                note_free(first);
                first = next;
        }
}

/* ---- writing */

static bool note_write(const struct notes *notes, const struct note *note, struct error *err)
{
        static const char *const reasons[] = { [KEEPER_PULLED] = "Pulled", [KEEPER_REFUSED] = "Refused", [KEEPER_RECOVERED] = "Recovered" };
        struct kube_call call = { notes->kube, notes->cancel, 0 };
        struct kube_event event = {
                .api_version = "extensions.istio.io/v1alpha1", .kind = note->kind, .namespace = note->namespace, .name = note->name, .uid = note->uid,
                .is_warning = note->happening == KEEPER_REFUSED, .reason = reasons[note->happening], .action = note->is_of_module ? "Pull" : "Read", .note = note->text,
        };
        enum kube_event_end end;
        return kube_events_write(notes->events, &call, &event, &end, err);
}

/* The API's own answer about this one Event; anything else may be over soon. */
static bool is_refusal(enum error_code code)
{
        return code == ERROR_DENIED || code == ERROR_NOT_FOUND || code == ERROR_BAD_REQUEST || code == ERROR_UNAUTHORIZED || code == ERROR_UPSTREAM_ERROR;
}

static void notes_run(struct job *job)
{
        ON_WORKER();
        struct notes *notes = CONTAINER_OF(job, struct notes, job);
        notes->err = (struct error){ 0 };
        while (notes->writing) {
                struct note *note = notes->writing;
                struct error err = { 0 };
                if (!note_write(notes, note, &err)) {
                        notes->err = err;
                        if (!is_refusal(err.code))
                                return;
                }
                notes->writing = note->next;
                note_free(note);
        }
}

static void notes_done(struct job *job)
{
        struct notes *notes = CONTAINER_OF(job, struct notes, job);
        struct note **end = &notes->writing;
        bool is_held_up = notes->writing != NULL;
        notes->is_running = false;
        if (notes->closed) {
                notes->closed(notes->closed_arg);
                return;
        }
        if (notes->err.code != ERROR_NONE && notes->err.code != notes->told)
                LOG_WARN("kubernetes_event_lost", LOG_TEXT("code", error_get_row(notes->err.code)->name), LOG_TEXT("detail", notes->err.text));
        notes->told = notes->err.code;
        for (; *end; end = &(*end)->next)
                notes->count++;
        *end = notes->first;
        if (!notes->first)
                notes->end = end == &notes->writing ? &notes->first : end;
        notes->first = TAKE(notes->writing);
        if (notes->first)
                loop_timer_again(notes->timer, is_held_up ? NOTES_AGAIN_MS : 0);
}

static void notes_start(void *arg)
{
        struct notes *notes = arg;
        if (notes->is_running || notes->closed || !notes->first)
                return;
        notes->is_running = true;
        notes->writing = TAKE(notes->first);
        notes->end = &notes->first;
        notes->count = 0;
        notes->job = (struct job){ .run = notes_run, .done = notes_done };
        job_start(notes->loop, &notes->job);
}

/* ---- told */

static char *text_of(const struct keeper_news *news)
{
        if (news->happening == KEEPER_REFUSED)
                return string_format("%s: %s", news->code, news->detail ? news->detail : "");
        if (news->is_of_module)
                return string_format("%s is here, sha256 %s", news->plugin->url, news->sha256 ? news->sha256 : "");
        return string_copy(news->detail ? news->detail : "");
}

void notes_add(struct notes *notes, const struct keeper_news *news)
{
        ON_LOOP();
        const struct plugin *plugin = news->plugin;
        if (notes->closed || !plugin->uid || !*plugin->uid || !news->concerns)
                return;
        while (notes->count >= NOTES_MAX) {
                struct note *oldest = notes->first;
                notes->first = oldest->next;
                notes->count--;
                note_free(oldest);
        }
        if (!notes->first)
                notes->end = &notes->first;
        struct note *note = memory_new(1, sizeof *note);
        *note = (struct note){ .kind = string_copy(plugin_kind_names[plugin->kind]), .namespace = string_copy(plugin->namespace), .name = string_copy(plugin->name),
                .uid = string_copy(plugin->uid), .text = text_of(news), .happening = news->happening, .is_of_module = news->is_of_module };
        *notes->end = note;
        notes->end = &note->next;
        notes->count++;
        if (!notes->is_running && (notes->told == ERROR_NONE || notes->count == 1))        /* else it is running down already */
                loop_timer_again(notes->timer, notes->told == ERROR_NONE ? 0 : NOTES_AGAIN_MS);
}

/* ---- life */

struct notes *notes_new(struct loop *loop, struct kube *kube, const char *node)
{
        struct notes *notes = memory_new(1, sizeof *notes);
        char host[256] = "";
        if (gethostname(host, sizeof host - 1) != 0 || !*host)
                snprintf(host, sizeof host, "unknown");
        notes->loop = loop;
        notes->kube = kube;
        notes->end = &notes->first;
        notes->cancel = cancel_new();
        notes->events = kube_events_new("wasmcached.dev/agent", *node ? node : host, NULL);
        notes->timer = loop_timer_start(loop, 0, 0, notes_start, notes);
        return notes;
}

bool notes_close(struct notes *notes, void (*closed)(void *arg), void *arg)
{
        notes->closed = closed;
        notes->closed_arg = arg;
        loop_timer_cancel(&notes->timer);
        cancel_trigger(notes->cancel);
        return notes->is_running;
}

void notes_free(struct notes **notes_pointer)
{
        struct notes *notes = TAKE(*notes_pointer);
        if (!notes)
                return;
        loop_timer_cancel(&notes->timer);
        list_free(notes->first);
        list_free(notes->writing);
        kube_events_free(&notes->events);
        cancel_free(&notes->cancel);
        free(notes);
}
