/* digest: content digests as OCI writes them, and the hashing of streams. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base/error.h>

enum digest_algorithm { DIGEST_NONE, DIGEST_SHA256, DIGEST_SHA512 };
enum { DIGEST_SHA256_BYTES = 32, DIGEST_BYTES_MAX = 64, DIGEST_HEX_BYTES = 65, DIGEST_TEXT_BYTES = 7 + 128 + 1 };

/* Plain value; all zero = none. Bytes past the algorithm's length are zero, so memcmp of whole values is equality. */
struct digest { enum digest_algorithm algorithm; uint8_t bytes[DIGEST_BYTES_MAX]; };

/* "sha256:<64 lower-case hex>" or "sha512:<128>"; anything else is refused with `code`, naming what is wrong (image-spec descriptor.md). `length` bytes, no NUL needed. */
bool digest_parse(const char *text, size_t length, enum error_code code, struct digest *ret_digest, struct error *err);
/* 64 lower-case hex digits without a prefix (the `sha256` field); false otherwise. */
bool digest_parse_hex(const char *hex, struct digest *ret_digest);
void digest_format(const struct digest *digest, char ret_text[DIGEST_TEXT_BYTES]);         /* "sha256:…" */
void digest_format_hex(const struct digest *digest, char ret_hex[DIGEST_TEXT_BYTES]);      /* without the prefix */
bool digest_equal(const struct digest *a, const struct digest *b);
bool digest_is_set(const struct digest *digest);

void digest_sha256(const void *bytes, size_t size_bytes, struct digest *ret_digest);
/* HMAC-SHA256, for what must not be guessed from a database. */
void digest_hmac(const void *key, size_t key_bytes, const void *bytes, size_t size_bytes, struct digest *ret_digest);

/* A running hash. Not thread-safe; one owner at a time. */
struct hasher;
struct hasher *hasher_new(enum digest_algorithm algorithm) __attribute__((returns_nonnull));
void hasher_update(struct hasher *hasher, const void *bytes, size_t size_bytes);
void hasher_peek(const struct hasher *hasher, struct digest *ret_digest);    /* of what was put so far; hashing goes on */
void hasher_finish(struct hasher *hasher, struct digest *ret_digest);       /* may be followed by hasher_reset only */
void hasher_reset(struct hasher *hasher);
void hasher_free(struct hasher **hasher);

void random_bytes(void *ret_bytes, size_t size_bytes);      /* getrandom(2); never fails */
int hex_digit_get(char digit);                                              /* 0 to 15, in either case; -1: it is none */
void hex_format(const void *bytes, size_t size_bytes, char *ret_hex);       /* 2 * size + 1 bytes */
/* Standard alphabet (RFC 4648 4). Decoding: padding optional when `padding_optional`, no blanks, canonical trailing bits; exact length is returned.
   `ret_bytes` has room for length / 4 * 3 + 3. */
bool base64_decode(const char *text, size_t length, bool padding_optional, void *ret_bytes, size_t *ret_size);
char *base64_encode(const void *bytes, size_t size_bytes) __attribute__((returns_nonnull));
