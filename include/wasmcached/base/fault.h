/* fault: named places where a test makes the world fail. Compiled to nothing unless -DWASMCACHED_FAULTS (test, sanitizer and coverage builds). */
#pragma once
#include <stdbool.h>

#ifdef WASMCACHED_FAULTS
/* True when `name` is armed and its turn has come: the caller then fails as if the call after it had failed. */
bool fault_hit(const char *name);
/* The `turn`-th (1 = next) passage of `name` and all after it fail; turn 0 disarms. Tests only. */
void fault_arm(const char *name, unsigned turn);
#else
#define fault_hit(name) false
#endif
