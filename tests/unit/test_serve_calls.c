/* The program's own setsockopt() and sendmsg(): what arrives, and what is refused, is as the kernel's. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>
#include <wasmcached/base.h>

enum { BYTES = 8192 };

static void check_pieces(const size_t *sizes, size_t count)
{
        static uint8_t sent[BYTES], got[BYTES];
        struct iovec pieces[4];
        size_t size = 0, came = 0;
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        for (size_t i = 0; i < BYTES; i++)
                sent[i] = (uint8_t)(i * 31 + i / 256);
        for (size_t i = 0; i < count; i++) {
                pieces[i] = (struct iovec){ sent + size, sizes[i] };
                size += sizes[i];
        }
        struct msghdr message = { .msg_iov = pieces, .msg_iovlen = count };
        assert_int_equal(sendmsg(ends[0], &message, MSG_NOSIGNAL), size);
        close(ends[0]);
        for (ssize_t part; (part = read(ends[1], got + came, sizeof got - came)) > 0;)
                came += (size_t)part;
        assert_int_equal(came, size);
        assert_memory_equal(got, sent, size);
        close(ends[1]);
}

static void test_pieces(void **state)
{
        (void)state;
        static const size_t rows[][4] = { { 300, 214 }, { 1, 1 }, { 0, 5 }, { 5, 0 }, { 2047, 1 }, { 2048, 0 }, { 2048, 1 }, { 1, 2048 }, { 4000, 4000 } };
        for (size_t i = 0; i < COUNT_OF(rows); i++)
                check_pieces(rows[i], 2);
        check_pieces((const size_t[]){ 700 }, 1);
        check_pieces((const size_t[]){ 10, 20, 30 }, 3);
        check_pieces((const size_t[]){ 10, 0, 30, 40 }, 4);
}

/* A descriptor that is sent along arrives: such a message is not put together. */
static void test_descriptor(void **state)
{
        (void)state;
        int ends[2], carried;
        union { struct cmsghdr head; char bytes[CMSG_SPACE(sizeof carried)]; } control = { 0 };
        char ab[] = "ab", cd[] = "cd";
        struct iovec pieces[2] = { { ab, 2 }, { cd, 2 } };
        struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control };
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        control.head = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof carried) };
        memcpy(CMSG_DATA(&control.head), &ends[0], sizeof carried);
        assert_int_equal(sendmsg(ends[0], &message, 0), 4);

        char got[8];
        struct iovec room = { got, sizeof got };
        struct msghdr back = { .msg_iov = &room, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
        assert_int_equal(recvmsg(ends[1], &back, MSG_CMSG_CLOEXEC), 4);
        assert_memory_equal(got, "abcd", 4);
        assert_int_equal(back.msg_controllen, sizeof control);
        memcpy(&carried, CMSG_DATA(&control.head), sizeof carried);
        close(carried);
        close(ends[0]);
        close(ends[1]);
}

static void test_refusals(void **state)
{
        (void)state;
        int ends[2], on = 1;
        char ab[] = "ab", cd[] = "cd";
        struct iovec pieces[2] = { { ab, 2 }, { cd, 2 } };
        struct msghdr message = { .msg_iov = pieces, .msg_iovlen = 2 };
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
        assert_int_equal(setsockopt(ends[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), -1);
        assert_int_equal(errno, ENOPROTOOPT);
        assert_int_equal(setsockopt(ends[0], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on), 0);
        close(ends[1]);
        assert_int_equal(sendmsg(ends[0], &message, MSG_NOSIGNAL), -1);
        assert_int_equal(errno, EPIPE);
        close(ends[0]);
        assert_int_equal(sendmsg(-1, &message, MSG_NOSIGNAL), -1);
        assert_int_equal(errno, EBADF);
}

int main(void)
{
        const struct CMUnitTest tests[] = { cmocka_unit_test(test_pieces), cmocka_unit_test(test_descriptor), cmocka_unit_test(test_refusals) };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
