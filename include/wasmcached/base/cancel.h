/* cancel: one flag from the loop to a worker, with a way to wake a worker that waits. */
#pragma once
#include <stdbool.h>

struct cancel;
struct cancel *cancel_new(void) __attribute__((returns_nonnull));
void cancel_free(struct cancel **cancel);
/* Any thread, any number of times. Calls the waker that is set at that moment. */
void cancel_trigger(struct cancel *cancel);
bool cancel_is_triggered(const struct cancel *cancel);             /* NULL = never */
/* The worker that owns the job: `wake(arg)` is called from the triggering thread, at once if already triggered. After setting NULL it is never called again. */
void cancel_set_waker(struct cancel *cancel, void (*wake)(void *arg), void *arg);
