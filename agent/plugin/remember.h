/* remember: what the API server listed last, in a file, for the time between a start and the first list. One worker at a time; all of it blocks. Private to cluster.c. */
#pragma once
#include <wasmcached/base.h>

enum { REMEMBER_BYTES_MAX = 64 << 20 };            /* of one kind; more is not remembered */

struct remember {
        const char *path;                 /* borrowed, both */
        const char *head;                 /* of which server and kind, in what form: another one's file says nothing */
        struct buffer next;               /* the list that is under way */
        bool is_of_pods;                  /* set after init */
        bool is_listing, is_off;          /* off: there is too much of it, or the disk has failed, until the next list */
        int fd;                           /* of the file, to append to; -1 = none */
        uint64_t used_bytes, listed_bytes;
};
void remember_init(struct remember *remember, const char *path, const char *head);
void remember_fini(struct remember *remember);
/* each() of every object as it was, the object is its to take (TAKE); false with ERROR_NOT_FOUND: nothing is known, or with why the file says nothing that can be relied on. */
typedef void (*remembered)(void *arg, struct value **object);
bool remember_load(const struct remember *remember, remembered each, void *arg, struct error *err);
/* A list: its objects replace all others at commit. Without begin, changes one by one. What cannot be kept is logged, and never harms. */
void remember_begin(struct remember *remember);
void remember_put(struct remember *remember, const struct value *object);
void remember_remove(struct remember *remember, const char *namespace, const char *name);
void remember_abandon(struct remember *remember);
void remember_commit(struct remember *remember);
