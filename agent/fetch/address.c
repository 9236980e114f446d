/*
 * How it goes: an address is checked against `allow`, then `block`, then the table of networks that no module lives in, then (public_only) the private ones.
 * How it fails: a match is a word for the error; addresses that carry an IPv4 address inside are checked by that one too.
 * How it ends: address_filter_fini() frees the lists.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include "address.h"

#define V4(a, b, c, d) { { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d } }
#define V6(a, b) { { (a) >> 8, (a) & 0xff, (b) >> 8, (b) & 0xff } }

struct network { struct cidr cidr; const char *why; };

/* [oci] 2.6 (2) and 7: never, unless allowed by configuration */
static const struct network never[] = {
        { { V4(169, 254, 169, 254), 128 },                                       "a cloud metadata service" },
        { { V4(169, 254, 0, 0), 112 },                                           "link-local" },
        { { V4(100, 100, 100, 200), 128 },                                       "a cloud metadata service" },
        { { V4(0, 0, 0, 0), 104 },                                               "unspecified" },
        { { V4(224, 0, 0, 0), 100 },                                             "multicast" },
        { { V4(255, 255, 255, 255), 128 },                                       "broadcast" },
        { { { { 0 } }, 128 },                                                    "unspecified" },
        { { V6(0xfe80, 0), 10 },                                                 "link-local" },
        { { V6(0xff00, 0), 8 },                                                  "multicast" },
        { { { { 0xfd, 0, 0x0e, 0xc2, [14] = 0x02, [15] = 0x54 } }, 128 },        "a cloud metadata service" },
        { { { { 0xfd, 0x20, 0, 0xce, [14] = 0x02, [15] = 0x54 } }, 128 },        "a cloud metadata service" },
};

static const struct network not_public[] = {
        { { V4(127, 0, 0, 0), 104 },             "loopback" },
        { { { { [15] = 1 } }, 128 },             "loopback" },
        { { V4(10, 0, 0, 0), 104 },              "private" },
        { { V4(172, 16, 0, 0), 108 },            "private" },
        { { V4(192, 168, 0, 0), 112 },           "private" },
        { { V4(100, 64, 0, 0), 106 },            "private (shared address space)" },
        { { V6(0xfc00, 0), 7 },                  "private" },
        { { V6(0xfec0, 0), 10 },                 "private" },
};

static const struct cidr mapped = { V4(0, 0, 0, 0), 96 };

/* Where an IPv6 address has an IPv4 address inside: NAT64 (RFC 6052), 6to4 (RFC 3056), v4-compatible (RFC 4291). */
static const struct { struct cidr cidr; unsigned at; } carriers[] = {
        { { { { 0, 0x64, 0xff, 0x9b } }, 96 }, 12 },
        { { V6(0x2002, 0), 16 }, 2 },
        { { { { 0 } }, 96 }, 12 },
};

bool address_parse(const char *text, struct address *ret_address)
{
        struct in_addr v4;
        struct address address = V4(0, 0, 0, 0);
        if (inet_pton(AF_INET, text, &v4) == 1) {
                memcpy(&address.bytes[12], &v4, sizeof v4);
                *ret_address = address;
                return true;
        }
        if (inet_pton(AF_INET6, text, address.bytes) != 1)
                return false;
        *ret_address = address;
        return true;
}

bool address_from_socket(const struct sockaddr *socket_address, struct address *ret_address)
{
        struct address address = V4(0, 0, 0, 0);
        if (socket_address->sa_family == AF_INET) {
                struct sockaddr_in v4;
                memcpy(&v4, socket_address, sizeof v4);
                memcpy(&address.bytes[12], &v4.sin_addr, 4);
        } else if (socket_address->sa_family == AF_INET6) {
                struct sockaddr_in6 v6;
                memcpy(&v6, socket_address, sizeof v6);
                memcpy(address.bytes, &v6.sin6_addr, 16);
        } else {
                return false;
        }
        *ret_address = address;
        return true;
}

bool cidr_contains(const struct cidr *cidr, const struct address *address)
{
        unsigned whole = cidr->bits / 8, rest = cidr->bits % 8;
        if (memcmp(cidr->address.bytes, address->bytes, whole) != 0)
                return false;
        return rest == 0 || ((cidr->address.bytes[whole] ^ address->bytes[whole]) >> (8 - rest)) == 0;
}

void address_format(const struct address *address, char ret_text[ADDRESS_TEXT_BYTES])
{
        bool v4 = cidr_contains(&mapped, address);
        inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? &address->bytes[12] : address->bytes, ret_text, ADDRESS_TEXT_BYTES);
}

bool address_is_loopback(const struct address *address)
{
        return cidr_contains(&not_public[0].cidr, address) || cidr_contains(&not_public[1].cidr, address);
}

bool cidr_parse(const char *text, bool exact, struct cidr *ret_cidr)
{
        const char *slash = strchr(text, '/');
        CLEANUP(cleanup_free) char *literal = string_copy_bytes(text, slash ? (size_t)(slash - text) : strlen(text));
        struct cidr cidr = { .bits = 128 };
        if (!address_parse(literal, &cidr.address))
                return false;

        bool v4 = !strchr(literal, ':');
        if (slash) {
                char *end = NULL;
                unsigned long bits = strtoul(slash + 1, &end, 10);
                if (slash[1] < '0' || slash[1] > '9' || *end || bits > (v4 ? 32u : 128u))
                        return false;
                cidr.bits = (unsigned)bits + (v4 ? 96 : 0);
        }
        for (unsigned bit = cidr.bits; bit < 128; bit++) {
                uint8_t mask = (uint8_t)(0x80 >> (bit % 8));
                if (exact && (cidr.address.bytes[bit / 8] & mask))
                        return false;
                cidr.address.bytes[bit / 8] &= (uint8_t)~mask;
        }
        *ret_cidr = cidr;
        return true;
}

static bool list_contains(const struct cidr *list, size_t count, const struct address *address)
{
        for (size_t i = 0; i < count; i++)
                if (cidr_contains(&list[i], address))
                        return true;
        return false;
}

static const char *network_find(const struct network *networks, size_t count, const struct address *address)
{
        for (size_t i = 0; i < count; i++)
                if (cidr_contains(&networks[i].cidr, address))
                        return networks[i].why;
        return NULL;
}

static const char *check_one(const struct address_filter *filter, const struct address *address, bool public_only)
{
        if (list_contains(filter->block, filter->block_count, address))
                return "in network.block";
        const char *why = network_find(never, COUNT_OF(never), address);
        if (!why && public_only)
                why = network_find(not_public, COUNT_OF(not_public), address);
        return why;
}

const char *address_filter_check(const struct address_filter *filter, const struct address *address, bool public_only)
{
        if (list_contains(filter->allow, filter->allow_count, address))
                return NULL;

        const char *why = check_one(filter, address, public_only);
        for (size_t i = 0; !why && i < COUNT_OF(carriers) && !cidr_contains(&mapped, address) && !address_is_loopback(address); i++) {
                if (!cidr_contains(&carriers[i].cidr, address))
                        continue;
                struct address inner = V4(0, 0, 0, 0);
                memcpy(&inner.bytes[12], &address->bytes[carriers[i].at], 4);
                why = address_filter_check(filter, &inner, public_only);
        }
        return why;
}

void address_filter_fini(struct address_filter *filter)
{
        free(filter->block);
        free(filter->allow);
        *filter = (struct address_filter){ 0 };
}
