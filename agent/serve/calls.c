/*
 * How it goes: two system calls as libmicrohttpd 0.9.75 should make them on Unix sockets; bound before libc's in the whole program.
 *              setsockopt(): it tries TCP_NODELAY and TCP_CORK at every answer until it learns that a socket is no TCP socket, which it does from ENOPROTOOPT. Linux says
 *              EOPNOTSUPP, so on sockets of MHD_add_connection() it never learns, and pays two calls for each answer (7 % of a hit). The refusal gets the name that POSIX has
 *              for it ("the option is not supported by the protocol").
 *              sendmsg(): it sends head and body of an answer as two pieces. For some hundred bytes the kernel takes longer to fetch and check the list of pieces than
 *              it takes to put them together here (3 % of a hit). Whatever is more than two small pieces goes on as it is.
 * How it fails: as setsockopt(2) and sendmsg(2); a short count means the same for a buffer as for pieces.
 * How it ends: can go when libmicrohttpd is 0.9.77 or later (or tells by the address of MHD_add_connection() that the socket is AF_UNIX), and puts small answers together itself.
 */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "room.h"

enum { TOGETHER_BYTES_MAX = 2048 };

int setsockopt(int fd, int level, int name, const void *value, socklen_t value_bytes)
{
        long result = syscall(SYS_setsockopt, fd, level, name, value, value_bytes);

        if (result < 0 && level == IPPROTO_TCP && errno == EOPNOTSUPP)
                errno = ENOPROTOOPT;
        return (int)result;
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
        char together[TOGETHER_BYTES_MAX];
        const struct iovec *pieces = message->msg_iov;

        if (message->msg_iovlen != 2 || message->msg_name || message->msg_controllen > 0 || pieces[0].iov_len > sizeof together ||
            pieces[1].iov_len > sizeof together - pieces[0].iov_len)
                return syscall(SYS_sendmsg, fd, message, flags);
        memcpy(together, pieces[0].iov_base, pieces[0].iov_len);
        memcpy(together + pieces[0].iov_len, pieces[1].iov_base, pieces[1].iov_len);
        return syscall(SYS_sendto, fd, together, pieces[0].iov_len + pieces[1].iov_len, flags, NULL, 0);
}
