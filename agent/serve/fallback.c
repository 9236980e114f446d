/*
 * How it goes: libmicrohttpd answers what it cannot parse by itself, in HTML, through its public MHD_queue_response. This program's own function of that name stands before
 *              the library's (as the loader resolves names) and says it as a problem, written straight to the socket; our own answers go to the library's.
 * How it fails: a library that calls its own function directly says it in HTML, as before; without the real function nothing can be answered, and connections are closed.
 * How it ends: nothing is kept; libmicrohttpd closes the connection after such an answer.
 */
#include <dlfcn.h>
#include <string.h>
#include "room.h"

typedef enum MHD_Result (*queue_function)(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response);

static queue_function queue_real(void)
{
        static queue_function real;
        if (!real) {
                void *symbol = dlsym(RTLD_NEXT, "MHD_queue_response");
                memcpy(&real, &symbol, sizeof real);
        }
        return real;
}

enum MHD_Result response_send(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response)
{
        queue_function real = queue_real();
        return real ? real(mhd, status, response) : MHD_NO;
}

static const char *describe(unsigned status)
{
        static const struct { unsigned status; const char *detail; } rows[] = {
                { 400, "the request is no well-formed HTTP/1.1: its request line, a header, its length or a chunk cannot be read" },
                { 413, "the body, or a chunk of it, is larger than allowed" },
                { 414, "the request target is longer than allowed" },
                { 431, "the request line and headers are larger than allowed" },
                { 500, "there was not enough memory to answer" },
                { 501, "this transfer coding is not known here" },
                { 505, "this version of HTTP is not spoken here; use HTTP/1.1" },
        };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                if (rows[i].status == status)
                        return rows[i].detail;
        return "the request could not be read";
}

/* Called by libmicrohttpd alone; ours go through response_send(). Written past it, since 0.9.75 sends the head of some of these answers twice. */
enum MHD_Result MHD_queue_response(struct MHD_Connection *mhd, unsigned status, struct MHD_Response *response)
{
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
        struct connection *connection = info ? info->socket_context : NULL;
        (void)response;

        if (connection && (connection->phase == PHASE_IDLE || connection->phase == PHASE_RECEIVING)) {
                connection->serve->stats.refused++;
                connection_refuse_raw(connection->serve, connection->fd, (int)status, describe(status));
        }
        return MHD_NO;                            /* so it closes the connection */
}
