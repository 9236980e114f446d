/* thread: a second pair of hands for a worker, and the processors that the two of them work on. */
#pragma once
#include <pthread.h>
#include <stdbool.h>

/* The calling thread answers hits: while it is busy, workers and their helpers keep off the processor that it is on. The last one to say so is the one. */
void thread_lead(void);

/* Starts a helper of the calling worker: a thread that no signal comes to, on another processor than the caller's where there is more than one. Until thread_join(), by the same
   worker, both are placed. False: there are too many threads, or too little memory; the caller then does the work itself. */
bool thread_start(void *(*run)(void *arg), void *arg, pthread_t *ret_helper);
void thread_join(pthread_t helper);

/* Looks again where the calling worker and its helpers should be, and how nice. To be called often: between two looks it costs a reading of the clock. */
void thread_place(void);
