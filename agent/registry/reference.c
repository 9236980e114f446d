/*
 * How it goes: the text is cut at the first '@' (digest), the first '/' decides between host and path by the rule of the Docker world, the first ':' of what is left is
 *               the tag; every piece is then checked by its own grammar.
 * How it fails: the first rule that is broken ends it with ERROR_BAD_URL and the rule in words; a text with userinfo is never repeated in the error.
 * How it ends: reference_fini() frees the three texts; a failed parse leaves nothing.
 *
 * Grammar and normalisation: distribution/reference regexp.go, reference.go, normalize.go ([oci] 1.1, 1.2).
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/registry.h>

enum { TEXT_BYTES_MAX = 4096, PATH_BYTES_MAX = 255, TAG_BYTES_MAX = 128, IDENTIFIER_BYTES = 64, SHOWN_BYTES = 200 };

struct span { const char *start; size_t bytes; };

static bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
static bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
static bool is_alphanumeric(char c) { return is_lower(c) || is_upper(c) || is_digit(c); }

static struct span span_of(const char *text)
{
        return (struct span){ text, strlen(text) };
}

static bool span_equal(struct span span, const char *text)
{
        return span.bytes == strlen(text) && memcmp(span.start, text, span.bytes) == 0;
}

/* Cuts `span` at the first `mark`: what stands before it stays, *ret_rest gets what stands behind it. */
static bool span_cut(struct span *span, char mark, struct span *ret_rest)
{
        const char *at = memchr(span->start, mark, span->bytes);
        if (!at)
                return false;

        size_t before = (size_t)(at - span->start);
        *ret_rest = (struct span){ at + 1, span->bytes - before - 1 };
        span->bytes = before;
        return true;
}

static const char *shown(struct span span, char out[SHOWN_BYTES])
{
        return string_printable(span.start, span.bytes, out, SHOWN_BYTES);
}

static bool port_check(struct span port, struct error *err)
{
        char text[SHOWN_BYTES];
        unsigned long number = 0;

        for (size_t i = 0; i < port.bytes; i++) {
                if (!is_digit(port.start[i]))
                        return refuse(err, ERROR_BAD_URL, "reference: port \"%s\" is no number", shown(port, text));
                number = number > 65535 ? number : number * 10 + (unsigned long)(port.start[i] - '0');
        }
        /* The grammar takes any digits (750050 too); a port is 1 to 65535. */
        if (number < 1 || number > 65535)
                return refuse(err, ERROR_BAD_URL, "reference: port \"%s\" is not between 1 and 65535", shown(port, text));
        return true;
}

static bool label_valid(struct span label)
{
        if (label.bytes == 0 || label.start[0] == '-' || label.start[label.bytes - 1] == '-')
                return false;
        for (size_t i = 0; i < label.bytes; i++)
                if (!is_alphanumeric(label.start[i]) && label.start[i] != '-')
                        return false;
        return true;
}

static bool name_check(struct span name, struct error *err)
{
        struct span label = name, rest;
        char text[SHOWN_BYTES];

        while (span_cut(&label, '.', &rest)) {
                if (!label_valid(label))
                        break;
                label = rest;
        }
        if (!label_valid(label))
                return refuse(err, ERROR_BAD_URL, "reference: \"%s\" is no host name (labels of letters, digits and inner '-', joined by single dots)", shown(name, text));
        return true;
}

/* "[" [a-fA-F0-9:]+ "]": no zone and no dots by the grammar; that it is an address is our own check. */
static bool bracket_check(struct span address, struct error *err)
{
        char literal[INET6_ADDRSTRLEN], text[SHOWN_BYTES];
        struct in6_addr parsed;
        bool valid = address.bytes > 0 && address.bytes < sizeof literal;

        for (size_t i = 0; valid && i < address.bytes; i++)
                valid = is_hex(address.start[i]) || address.start[i] == ':';
        if (valid) {
                memcpy(literal, address.start, address.bytes);
                literal[address.bytes] = '\0';
                valid = inet_pton(AF_INET6, literal, &parsed) == 1;
        }
        if (!valid)
                return refuse(err, ERROR_BAD_URL, "reference: \"[%s]\" is no IPv6 address", shown(address, text));
        return true;
}

static bool host_check(struct span host, struct error *err)
{
        struct span name = host, port = { NULL, 0 };
        bool has_port;

        if (host.bytes > 0 && host.start[0] == '[') {
                struct span tail;
                name = (struct span){ host.start + 1, host.bytes - 1 };
                if (!span_cut(&name, ']', &tail))
                        return refuse(err, ERROR_BAD_URL, "reference: '[' of an IPv6 host is not closed");
                if (tail.bytes > 0 && tail.start[0] != ':')
                        return refuse(err, ERROR_BAD_URL, "reference: only a port may follow the ']' of an IPv6 host");
                has_port = tail.bytes > 0;
                if (has_port)
                        port = (struct span){ tail.start + 1, tail.bytes - 1 };
                if (!bracket_check(name, err))
                        return false;
        } else {
                has_port = span_cut(&name, ':', &port);
                if (!name_check(name, err))
                        return false;
        }
        return !has_port || port_check(port, err);
}

/* [a-z0-9]+ (sep [a-z0-9]+)* with sep = "." | "_" | "__" | "-"+. Upper case is noted, not refused, so that its own message can be given. */
static bool component_valid(struct span part, bool *ret_upper)
{
        size_t i = 0;

        if (part.bytes == 0)
                return false;
        for (;;) {
                size_t start = i;
                for (; i < part.bytes && is_alphanumeric(part.start[i]); i++)
                        *ret_upper |= is_upper(part.start[i]);
                if (i == start)
                        return false;
                if (i == part.bytes)
                        return true;

                char separator = part.start[i];
                size_t run = 0;
                while (i < part.bytes && part.start[i] == separator) {
                        i++;
                        run++;
                }
                if (!(separator == '-' || (separator == '_' && run <= 2) || (separator == '.' && run == 1)))
                        return false;
        }
}

static bool path_check(struct span path, struct error *err)
{
        struct span part = path, rest = { 0 };
        char text[SHOWN_BYTES];
        bool upper = false, more;

        if (path.bytes == 0)
                return refuse(err, ERROR_BAD_URL, "reference: there is no repository path");
        if (path.start[path.bytes - 1] == '/')
                return refuse(err, ERROR_BAD_URL, "reference: ends with '/'");
        do {
                more = span_cut(&part, '/', &rest);
                if (!component_valid(part, &upper))
                        return refuse(err, ERROR_BAD_URL,
                                "reference: \"%s\" is no repository path (lower-case letters and digits, joined by single '.', '_', '__' or '-'; parts by '/')", shown(path, text));
                part = rest;
        } while (more);

        if (upper)
                return refuse(err, ERROR_BAD_URL, "reference: repository path \"%s\" has upper-case letters; it must be lower-case", shown(path, text));
        return true;
}

static bool tag_check(struct span tag, struct error *err)
{
        char text[SHOWN_BYTES];
        bool valid = tag.bytes > 0 && tag.start[0] != '.' && tag.start[0] != '-';

        for (size_t i = 0; valid && i < tag.bytes; i++)
                valid = is_alphanumeric(tag.start[i]) || strchr("_.-", tag.start[i]) != NULL;
        if (tag.bytes == 0)
                return refuse(err, ERROR_BAD_URL, "reference: the tag after ':' is empty");
        if (!valid)
                return refuse(err, ERROR_BAD_URL, "reference: \"%s\" is no tag (letters, digits, '_', '.' and '-', not first '.' or '-')", shown(tag, text));
        if (tag.bytes > TAG_BYTES_MAX)
                return refuse(err, ERROR_BAD_URL, "reference: the tag has %zu characters, at most %d are allowed", tag.bytes, TAG_BYTES_MAX);
        return true;
}

/* What would be refused anyway, but deserves its own words. Nothing of the text is repeated: it may hold a password. */
static bool text_check(const char *text, struct error *err)
{
        size_t length = strlen(text);
        const char *at = strchr(text, '@');

        if (length == 0)
                return refuse(err, ERROR_BAD_URL, "reference: is empty");
        if (length > TEXT_BYTES_MAX)
                return refuse(err, ERROR_BAD_URL, "reference: has %zu characters, at most %d are read", length, TEXT_BYTES_MAX);
        if (strstr(text, "://"))
                return refuse(err, ERROR_BAD_URL, "reference: a scheme (\"://\") is not part of host/path:tag@digest");
        if (at && strchr(at, '/'))
                return refuse(err, ERROR_BAD_URL, "reference: userinfo (\"user@\") is not allowed; credentials belong into a pull secret");
        if (strpbrk(text, " \t\r\n\v\f"))
                return refuse(err, ERROR_BAD_URL, "reference: blanks and line ends are not allowed");
        if (strpbrk(text, "?#"))
                return refuse(err, ERROR_BAD_URL, "reference: a query ('?') or fragment ('#') is not allowed");
        return true;
}

/* A bare 64-digit name could be an image id (distribution anchoredIdentifierRegexp). */
static bool is_identifier(const char *text)
{
        size_t i = 0;
        while (is_digit(text[i]) || (text[i] >= 'a' && text[i] <= 'f'))
                i++;
        return text[i] == '\0' && i == IDENTIFIER_BYTES;
}

/* normalize.go splitDockerDomain: is the piece before the first '/' a host? */
static bool is_host(struct span first)
{
        if (span_equal(first, "localhost") || (first.bytes > 0 && first.start[0] == '['))
                return true;
        for (size_t i = 0; i < first.bytes; i++)
                if (strchr(".:", first.start[i]) || is_upper(first.start[i]))
                        return true;
        return false;
}

struct pieces { struct span host, path, tag, digest; bool has_tag, has_digest; };

static struct pieces pieces_cut(const char *text)
{
        struct pieces pieces = { 0 };
        struct span name = span_of(text);

        pieces.has_digest = span_cut(&name, '@', &pieces.digest);

        struct span first = name, rest;
        pieces.host = span_of("docker.io");
        pieces.path = name;
        /* Without a '/' there is no host: "localhost:5000" is the repository localhost with the tag 5000. */
        if (span_cut(&first, '/', &rest) && is_host(first)) {
                pieces.path = rest;
                if (!span_equal(first, "index.docker.io"))
                        pieces.host = first;
        }
        pieces.has_tag = span_cut(&pieces.path, ':', &pieces.tag);
        return pieces;
}

bool reference_parse(const char *text, struct reference *ret_reference, struct error *err)
{
        if (!text_check(text, err))
                return false;
        if (is_identifier(text))
                return refuse(err, ERROR_BAD_URL, "reference: 64 hexadecimal digits are an image id, not a repository; write a host before it");

        struct pieces pieces = pieces_cut(text);
        struct digest digest = { 0 };
        if (!host_check(pieces.host, err) || !path_check(pieces.path, err))
                return false;
        if (pieces.has_tag && !tag_check(pieces.tag, err))
                return false;
        if (pieces.has_digest && !digest_parse(pieces.digest.start, pieces.digest.bytes, ERROR_BAD_URL, &digest, err))
                return refuse_within(err, "reference");

        bool official = span_equal(pieces.host, "docker.io") && !memchr(pieces.path.start, '/', pieces.path.bytes);
        size_t path_bytes = pieces.path.bytes + (official ? strlen("library/") : 0);
        if (path_bytes > PATH_BYTES_MAX)
                return refuse(err, ERROR_BAD_URL, "reference: the repository path has %zu characters, at most %d are allowed", path_bytes, PATH_BYTES_MAX);

        ret_reference->host = string_copy_bytes(pieces.host.start, pieces.host.bytes);
        ret_reference->path = string_format("%s%.*s", official ? "library/" : "", (int)pieces.path.bytes, pieces.path.start);
        ret_reference->is_tag_implied = !pieces.has_tag && !pieces.has_digest;
        ret_reference->tag = pieces.has_tag ? string_copy_bytes(pieces.tag.start, pieces.tag.bytes) : ret_reference->is_tag_implied ? string_copy("latest") : NULL;
        ret_reference->digest = digest;
        return true;
}

void reference_fini(struct reference *reference)
{
        free(reference->host);
        free(reference->path);
        free(reference->tag);
        *reference = (struct reference){ 0 };
}

char *reference_format(const struct reference *reference)
{
        char digest[DIGEST_TEXT_BYTES] = "";
        if (digest_is_set(&reference->digest))
                digest_format(&reference->digest, digest);
        return string_format("%s/%s%s%s%s%s", reference->host, reference->path, reference->tag ? ":" : "", reference->tag ? reference->tag : "",
                             digest[0] ? "@" : "", digest);
}
