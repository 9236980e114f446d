/* thread: a second pair of hands for a worker. */
#pragma once
#include <pthread.h>
#include <stdbool.h>

/* Starts a thread that no signal comes to and that begins on another processor than the caller's, where it may have one; after that the kernel places it. False: there are too
   many threads, or too little memory; the caller then does the work itself. */
bool thread_start(void *(*run)(void *arg), void *arg, pthread_t *ret_thread);
