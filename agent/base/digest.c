/*
 * How it goes: OpenSSL's EVP hashes; digests are parsed by a table of algorithms.
 * How it fails: an unknown algorithm or a wrong form is refused by name; OpenSSL without SHA-2 is a broken machine and ends the process.
 * How it ends: a hasher is freed by its owner; values need nothing.
 */
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <wasmcached/base/digest.h>
#include <wasmcached/base/memory.h>

static const struct algorithm { const char *prefix; size_t size_bytes; } algorithms[] = {
        [DIGEST_NONE] = { "", 0 },
        [DIGEST_SHA256] = { "sha256:", 32 },
        [DIGEST_SHA512] = { "sha512:", 64 },
};

struct hasher { EVP_MD_CTX *context; enum digest_algorithm algorithm; };

/* What only a broken OpenSSL can make false. */
static void must(bool truth)
{
        if (!truth) {
                fputs("wasmcached: OpenSSL cannot compute SHA-2\n", stderr);
                abort();
        }
}

int hex_digit_get(char digit)
{
        if (digit >= '0' && digit <= '9')
                return digit - '0';
        if (digit >= 'a' && digit <= 'f')
                return digit - 'a' + 10;
        return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* Digests are written in lower case alone. */
static int hex_value(char c)
{
        return c >= 'A' && c <= 'F' ? -1 : hex_digit_get(c);
}

static bool hex_decode(const char *hex, uint8_t *ret_bytes, size_t size_bytes)
{
        for (size_t i = 0; i < size_bytes; i++) {
                int high = hex_value(hex[2 * i]), low = high < 0 ? -1 : hex_value(hex[2 * i + 1]);

                if (low < 0)
                        return false;
                ret_bytes[i] = (uint8_t)(high << 4 | low);
        }
        return true;
}

bool digest_parse(const char *text, size_t length, enum error_code code, struct digest *ret_digest, struct error *err)
{
        char shown[100];

        string_printable(text, length, shown, sizeof shown);
        for (enum digest_algorithm a = DIGEST_SHA256; a < COUNT_OF(algorithms); a++) {
                size_t prefix = strlen(algorithms[a].prefix);
                struct digest digest = { .algorithm = a };

                if (length < prefix || memcmp(text, algorithms[a].prefix, prefix) != 0)
                        continue;
                if (length - prefix != 2 * algorithms[a].size_bytes)
                        return refuse(err, code, "digest \"%s\" has %zu hex digits instead of %zu", shown, length - prefix, 2 * algorithms[a].size_bytes);
                if (!hex_decode(text + prefix, digest.bytes, algorithms[a].size_bytes))
                        return refuse(err, code, "digest \"%s\" has characters other than 0-9 and a-f", shown);
                *ret_digest = digest;
                return true;
        }
        if (!memchr(text, ':', length))
                return refuse(err, code, "\"%s\" is no digest: it reads sha256:<64 hex digits>", shown);
        return refuse(err, code, "digest \"%s\" has an unsupported digest algorithm (sha256 and sha512 are supported)", shown);
}

bool digest_parse_hex(const char *hex, struct digest *ret_digest)
{
        struct digest digest = { .algorithm = DIGEST_SHA256 };

        if (strlen(hex) != 2 * DIGEST_SHA256_BYTES || !hex_decode(hex, digest.bytes, DIGEST_SHA256_BYTES))
                return false;
        *ret_digest = digest;
        return true;
}

void digest_format_hex(const struct digest *digest, char ret_hex[DIGEST_TEXT_BYTES])
{
        hex_format(digest->bytes, algorithms[digest->algorithm].size_bytes, ret_hex);
}

void digest_format(const struct digest *digest, char ret_text[DIGEST_TEXT_BYTES])
{
        size_t prefix = strlen(algorithms[digest->algorithm].prefix);

        memcpy(ret_text, algorithms[digest->algorithm].prefix, prefix);
        digest_format_hex(digest, ret_text + prefix);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
        return a->algorithm == b->algorithm && memcmp(a->bytes, b->bytes, algorithms[a->algorithm].size_bytes) == 0;
}

bool digest_is_set(const struct digest *digest)
{
        return digest->algorithm != DIGEST_NONE;
}

void digest_sha256(const void *bytes, size_t size_bytes, struct digest *ret_digest)
{
        *ret_digest = (struct digest){ .algorithm = DIGEST_SHA256 };
        must(EVP_Digest(bytes, size_bytes, ret_digest->bytes, NULL, EVP_sha256(), NULL) == 1);
}

void digest_hmac(const void *key, size_t key_bytes, const void *bytes, size_t size_bytes, struct digest *ret_digest)
{
        *ret_digest = (struct digest){ .algorithm = DIGEST_SHA256 };
        must(HMAC(EVP_sha256(), key, (int)key_bytes, bytes, size_bytes, ret_digest->bytes, NULL) != NULL);
}

void hasher_reset(struct hasher *hasher)
{
        must(EVP_DigestInit_ex(hasher->context, hasher->algorithm == DIGEST_SHA512 ? EVP_sha512() : EVP_sha256(), NULL) == 1);
}

struct hasher *hasher_new(enum digest_algorithm algorithm)
{
        struct hasher *hasher = memory_new(1, sizeof *hasher);

        hasher->algorithm = algorithm;
        hasher->context = EVP_MD_CTX_new();
        must(hasher->context != NULL);
        hasher_reset(hasher);
        return hasher;
}

void hasher_update(struct hasher *hasher, const void *bytes, size_t size_bytes)
{
        must(EVP_DigestUpdate(hasher->context, bytes, size_bytes) == 1);
}

void hasher_peek(const struct hasher *hasher, struct digest *ret_digest)
{
        EVP_MD_CTX *copy = EVP_MD_CTX_new();

        *ret_digest = (struct digest){ .algorithm = hasher->algorithm };
        must(copy && EVP_MD_CTX_copy_ex(copy, hasher->context) == 1 && EVP_DigestFinal_ex(copy, ret_digest->bytes, NULL) == 1);
        EVP_MD_CTX_free(copy);
}

void hasher_finish(struct hasher *hasher, struct digest *ret_digest)
{
        *ret_digest = (struct digest){ .algorithm = hasher->algorithm };
        must(EVP_DigestFinal_ex(hasher->context, ret_digest->bytes, NULL) == 1);
}

void hasher_free(struct hasher **hasher)
{
        if (!*hasher)
                return;
        EVP_MD_CTX_free((*hasher)->context);
        free(TAKE(*hasher));
}

void random_bytes(void *ret_bytes, size_t size_bytes)
{
        uint8_t *at = ret_bytes;

        while (size_bytes > 0) {
                ssize_t got = getrandom(at, size_bytes, 0);

                if (got < 0)
                        continue;                         /* EINTR; nothing else is possible for a valid buffer */
                at += got;
                size_bytes -= (size_t)got;
        }
}

/* Four bytes to eight digits at once, both little-endian: each hit writes two digests. */
static uint64_t hex_of(uint32_t word)
{
        uint64_t digits = word;
        digits = (digits | digits << 16) & 0x0000ffff0000ffffu;
        digits = (digits | digits << 8) & 0x00ff00ff00ff00ffu;
        digits = (digits >> 4 & 0x000f000f000f000fu) | (digits & 0x000f000f000f000fu) << 8;
        uint64_t letters = (digits + 0x0606060606060606u) >> 4 & 0x0101010101010101u;
        return digits + 0x3030303030303030u + letters * ('a' - '0' - 10);
}

void hex_format(const void *bytes, size_t size_bytes, char *ret_hex)
{
        const uint8_t *at = bytes;
        uint32_t word;
        uint64_t digits;

        for (; size_bytes >= sizeof word; at += sizeof word, size_bytes -= sizeof word, ret_hex += sizeof digits) {
                memcpy(&word, at, sizeof word);
                digits = htole64(hex_of(le32toh(word)));
                memcpy(ret_hex, &digits, sizeof digits);
        }
        word = 0;
        memcpy(&word, at, size_bytes);
        digits = htole64(hex_of(le32toh(word)));
        memcpy(ret_hex, &digits, 2 * size_bytes);
        ret_hex[2 * size_bytes] = '\0';
}

static int base64_value(char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* OpenSSL's decoder takes blanks, other paddings and loose trailing bits; a signature or secret has one spelling only. */
bool base64_decode(const char *text, size_t length, bool padding_optional, void *ret_bytes, size_t *ret_size)
{
        uint8_t *out = ret_bytes;
        size_t used = 0, padding = 0;
        uint32_t bits = 0;

        while (padding < 2 && length > 0 && text[length - 1] == '=') {
                length--;
                padding++;
        }
        if (length % 4 == 1 || (padding > 0 && (length + padding) % 4 != 0) || (padding == 0 && !padding_optional && length % 4 != 0))
                return false;
        for (size_t i = 0; i < length; i++) {
                int value = base64_value(text[i]);

                if (value < 0)
                        return false;
                bits = bits << 6 | (uint32_t)value;
                if (i % 4 != 0)
                        out[used++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
        }
        if ((length % 4 == 2 && (bits & 15)) || (length % 4 == 3 && (bits & 3)))
                return false;
        *ret_size = used;
        return true;
}

char *base64_encode(const void *bytes, size_t size_bytes)
{
        char *text = memory_new(size_bytes / 3 * 4 + 5, 1);

        EVP_EncodeBlock((unsigned char *)text, bytes, (int)size_bytes);
        return text;
}
