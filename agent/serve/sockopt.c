/*
 * How it goes: libmicrohttpd 0.9.75 tries TCP_NODELAY and TCP_CORK at every answer until it learns that a socket is no TCP socket, which it does from ENOPROTOOPT. Linux says
 *              EOPNOTSUPP for Unix sockets, so it never learns on sockets of MHD_add_connection(), and pays two system calls for each answer (7 % of a hit). This setsockopt(),
 *              bound before libc's in the whole program, gives the refusal the name that POSIX has for it ("the option is not supported by the protocol").
 * How it fails: as setsockopt(2).
 * How it ends: can go when libmicrohttpd is 0.9.77 or later, or tells by the address of MHD_add_connection() that the socket is AF_UNIX.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "room.h"

int setsockopt(int fd, int level, int name, const void *value, socklen_t value_bytes)
{
        long result = syscall(SYS_setsockopt, fd, level, name, value, value_bytes);

        if (result < 0 && level == IPPROTO_TCP && errno == EOPNOTSUPP)
                errno = ENOPROTOOPT;
        return (int)result;
}
