/*
 * How it goes: a short list of armed names with how many passages are still good.
 * How it fails: it is what makes others fail; not in release builds.
 * How it ends: turn 0 disarms.
 */
#include <wasmcached/base/fault.h>

#ifdef WASMCACHED_FAULTS
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { FAULTS_MAX = 8 };
static struct { char name[64]; unsigned turn; } faults[FAULTS_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

bool fault_hit(const char *name)
{
        bool is_hit = false;

        pthread_mutex_lock(&lock);
        for (size_t i = 0; i < FAULTS_MAX; i++)
                if (faults[i].turn > 0 && strcmp(faults[i].name, name) == 0) {
                        is_hit = faults[i].turn == 1;
                        faults[i].turn -= faults[i].turn > 1;
                }
        pthread_mutex_unlock(&lock);
        return is_hit;
}

void fault_arm(const char *name, unsigned turn)
{
        size_t place = FAULTS_MAX;

        pthread_mutex_lock(&lock);
        for (size_t i = FAULTS_MAX; i-- > 0;)
                if (strcmp(faults[i].name, name) == 0 || (faults[i].turn == 0 && (place == FAULTS_MAX || strcmp(faults[place].name, name) != 0)))
                        place = i;
        if (place < FAULTS_MAX) {
                snprintf(faults[place].name, sizeof faults[place].name, "%s", name);
                faults[place].turn = turn;
        }
        pthread_mutex_unlock(&lock);
}
#else
typedef int fault_is_compiled_out;
#endif
