/* address: which addresses may be connected to. IPv4 is kept as v4-mapped IPv6, so that there is one kind. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <wasmcached/base.h>

enum { ADDRESS_TEXT_BYTES = 46 };

struct address { uint8_t bytes[16]; };
struct cidr { struct address address; unsigned bits; };       /* bits of 128 */

struct address_filter { struct cidr *block, *allow; size_t block_count, allow_count; };

bool address_parse(const char *text, struct address *ret_address);                        /* a literal; false for a name */
bool address_from_socket(const struct sockaddr *socket_address, struct address *ret_address);      /* AF_INET and AF_INET6 */
void address_format(const struct address *address, char ret_text[ADDRESS_TEXT_BYTES]);   /* "10.0.0.1", "fd00::1" */
bool address_is_loopback(const struct address *address);
/* "10.0.0.0/8", "fd00::/8", or one address. With `exact`, bits behind the prefix must be zero (a slip of the operator); else they are cleared (Go's ParseCIDR). */
bool cidr_parse(const char *text, bool exact, struct cidr *ret_cidr);
bool cidr_contains(const struct cidr *cidr, const struct address *address);

/* NULL = may be connected to; else why not, in words ("link-local"). */
const char *address_filter_check(const struct address_filter *filter, const struct address *address, bool public_only);
void address_filter_fini(struct address_filter *filter);
