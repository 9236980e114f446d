/*
 * How it goes: a call has one deadline for all its tries. Between two of them it sleeps, as long as the daemon said, else from 20 ms doubling to 500 ms, spread a little
 *              so that the proxies of a node do not come back all at once.
 * How it fails: a pause that would end behind the deadline is not begun: the caller gets the last failure at once.
 * How it ends: the deadline, or wasmcache_interrupt(), which is seen within 50 ms.
 */
#include <poll.h>
#include <stdlib.h>
#include "client.h"

enum { PAUSE_FIRST_MS = 20, PAUSE_MOST_MS = 500, SLEEP_MS = 50 };

bool patience_read_environment(int64_t *ret_patience_ms, bool *ret_is_set, struct error *err)
{
        const char *text = getenv("WASMCACHED_PATIENCE");
        int64_t patience_ms = 0;

        *ret_is_set = text && *text;
        if (!*ret_is_set)
                return true;
        if (!clock_parse_duration(text, &patience_ms, err))
                return false;
        if (patience_ms > CLIENT_PATIENCE_MAX_MS)
                return refuse(err, ERROR_BAD_REQUEST, "\"%.40s\" is more than an hour", text);
        *ret_patience_ms = patience_ms;
        return true;
}

void wasmcache_set_patience(struct wasmcache *cache, unsigned patience_ms)
{
        cache->patience_ms = patience_ms < CLIENT_PATIENCE_MAX_MS ? patience_ms : CLIENT_PATIENCE_MAX_MS;
}

struct patience patience_begin(int64_t patience_ms)
{
        return (struct patience){ .deadline_ms = patience_ms > 0 ? clock_get_ms() + patience_ms : 0 };
}

static int64_t pause_get_ms(const struct patience *patience, unsigned retry_after_s)
{
        unsigned char dice = 0;
        random_bytes(&dice, sizeof dice);
        int64_t pause_ms = PAUSE_FIRST_MS << (patience->tries < 5 ? patience->tries : 5);

        if (retry_after_s > 0)
                return (int64_t)retry_after_s * 1000 + dice;
        if (pause_ms > PAUSE_MOST_MS)
                pause_ms = PAUSE_MOST_MS;
        return pause_ms * (224 + dice / 2) / 256;
}

static bool is_interrupted(struct wasmcache *cache)
{
        pthread_mutex_lock(&cache->lock);
        bool is = cache->is_interrupted;
        pthread_mutex_unlock(&cache->lock);
        return is;
}

bool patience_wait(struct patience *patience, struct wasmcache *cache, unsigned retry_after_s)
{
        int64_t now_ms = clock_get_ms(), until_ms = now_ms + pause_get_ms(patience, retry_after_s);

        if (until_ms >= patience->deadline_ms)
                return false;
        patience->tries++;
        for (; now_ms < until_ms && !is_interrupted(cache); now_ms = clock_get_ms())
                poll(NULL, 0, (int)(until_ms - now_ms < SLEEP_MS ? until_ms - now_ms : SLEEP_MS));
        return !is_interrupted(cache);
}
