/*
 * How it goes: each event is numbered, kept in a ring of the last 1000 (progress is not kept) and told to every listener whose namespace it concerns.
 * How it fails: it cannot; a listener that goes away while being told is skipped and freed afterwards.
 * How it ends: events_fini() frees the ring and what listeners are left.
 */
#include <stdlib.h>
#include <string.h>
#include "modules.h"

struct module_listener {
        struct modules *modules;
        struct module_listener *next;
        char *namespace;
        bool is_gone;
        void (*happened)(void *arg, const struct module_event *event); void *arg;
};

static void event_fini(struct module_event *event)
{
        const char *texts[] = { event->type, event->url, event->sha256, event->digest, event->namespace, event->code, event->detail };
        for (size_t i = 0; i < COUNT_OF(texts); i++)
                free((void *)(uintptr_t)texts[i]);
        *event = (struct module_event){ 0 };
}

static void event_keep(struct events *events, const struct module_event *event)
{
        struct module_event *kept = &events->ring[event->number % EVENTS_KEPT];
        event_fini(kept);
        *kept = *event;
        kept->type = string_copy(event->type);
        kept->url = string_copy(event->url);
        kept->sha256 = string_copy(event->sha256);
        kept->digest = string_copy(event->digest);
        kept->namespace = string_copy(event->namespace);
        kept->code = string_copy(event->code);
        kept->detail = string_copy(event->detail);
}

static void listener_tell(struct module_listener *listener, const struct module_event *event)
{
        if (listener->is_gone || (listener->namespace && !string_equal(listener->namespace, event->namespace)))
                return;
        listener->happened(listener->arg, event);
}

static void listeners_sweep(struct events *events)
{
        for (struct module_listener **at = &events->listeners; *at;) {
                struct module_listener *listener = *at;
                if (!listener->is_gone) {
                        at = &listener->next;
                        continue;
                }
                *at = listener->next;
                free(listener->namespace);
                free(listener);
        }
}

void event_tell(struct modules *modules, const char *type, const struct module_event *values)
{
        struct events *events = &modules->events;
        struct module_event event = *values;
        event.type = type;
        event.number = ++events->next;
        event.wall_ms = clock_get_wall_ms();
        if (strcmp(type, "progress") != 0)
                event_keep(events, &event);
        events->telling++;
        for (struct module_listener *listener = events->listeners; listener; listener = listener->next)
                listener_tell(listener, &event);
        if (--events->telling == 0)
                listeners_sweep(events);
}

void module_event_emit(struct modules *modules, const struct module_event *event)
{
        ON_LOOP();
        event_tell(modules, event->type, event);
}

struct module_listener *module_listen(struct modules *modules, const char *namespace, bool replay, void (*happened)(void *arg, const struct module_event *event), void *arg)
{
        ON_LOOP();
        struct events *events = &modules->events;
        struct module_listener *listener = memory_new(1, sizeof *listener);
        *listener = (struct module_listener){ .modules = modules, .namespace = string_copy(namespace), .happened = happened, .arg = arg };
        events->telling++;
        for (uint64_t i = 1; replay && i <= EVENTS_KEPT; i++) {
                const struct module_event *event = &events->ring[(events->next + i) % EVENTS_KEPT];
                if (event->type)
                        listener_tell(listener, event);
        }
        listener->next = events->listeners;
        events->listeners = listener;
        events->telling--;
        return listener;
}

void module_unlisten(struct module_listener **listener_pointer)
{
        ON_LOOP();
        struct module_listener *listener = TAKE(*listener_pointer);
        if (!listener)
                return;
        listener->is_gone = true;
        if (listener->modules->events.telling == 0)
                listeners_sweep(&listener->modules->events);
}

void events_fini(struct modules *modules)
{
        struct events *events = &modules->events;
        for (struct module_listener *listener = events->listeners; listener; listener = listener->next)
                listener->is_gone = true;
        listeners_sweep(events);
        for (size_t i = 0; i < EVENTS_KEPT; i++)
                event_fini(&events->ring[i]);
}
