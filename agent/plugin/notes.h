/* notes: what a keeper tells, written as Events on the objects of the API server. Loop only; one worker at a time writes. Private to cluster.c. */
#pragma once
#include <wasmcached/kube.h>
#include <wasmcached/loop.h>
#include <wasmcached/plugin/keeper.h>

enum { NOTES_MAX = 256, NOTES_AGAIN_MS = 10000 };          /* that wait; the oldest gives way */

struct notes;
struct notes *notes_new(struct loop *loop, struct kube *kube, const char *node) __attribute__((returns_nonnull));
void notes_add(struct notes *notes, const struct keeper_news *news);
/* closed(arg) when no worker has it; true: it will come, false: none has it now. */
bool notes_close(struct notes *notes, void (*closed)(void *arg), void *arg);
void notes_free(struct notes **notes);
