/*
 * How it goes: line by line: a BEGIN line whose label is known and good, base64 lines, its END line; blanks around a line, CR and empty lines do not matter. Each block's DER is
 *              handed out.
 * How it fails: what is no PEM public key is refused by what it seems to be (certificate, private key, minisign, SSH …) with the way to mend it; the text itself is never shown.
 * How it ends: pem_fini() wipes every byte that was decoded: it may have been a private key.
 */
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base.h>
#include "key.h"

/* SPKI of a raw Ed25519 key = these 12 bytes and the key (6.5). */
#define RAW_TO_PEM "{ printf '0*0\\5\\6\\3+ep\\3!\\0'; %s | tail -c 32; } | openssl pkey -pubin -inform DER"

static bool found(const char *what, struct error *err, const char *thing, const char *advice)
{
        return refuse(err, ERROR_BAD_KEY, "%s is not a PEM public key (found %s): %s", what, thing, advice);
}

static bool found_raw(const char *what, struct error *err, const char *thing, const char *reading)
{
        return refuse(err, ERROR_BAD_KEY, "%s is not a PEM public key (found %s): make a PEM of it with " RAW_TO_PEM, what, thing, reading);
}

bool pem_refuse_private(const char *what, struct error *err)
{
        return found(what, err, "a PRIVATE KEY",
                     "a private key was given; replace it, for whoever reads this configuration has seen it. The public half: openssl pkey -in FILE -pubout");
}

bool pem_is_private_der(struct span der)
{
        const uint8_t *at = der.bytes;
        size_t head = der.size_bytes < 2 ? 0 : at[1] < 0x80 ? 2 : (size_t)2 + (at[1] & 0x7f);
        return head + 3 <= der.size_bytes && at[0] == 0x30 && at[head] == 0x02 && at[head + 1] == 1 && at[head + 2] <= 1;
}

static bool contains(const char *text, size_t size_bytes, const char *word)
{
        return memmem(text, size_bytes, word, strlen(word)) != NULL;
}

static bool text_is_private(const char *text, size_t size_bytes)
{
        static const char *const words[] = { "PRIVATE KEY", "encrypted secret key", "PuTTY-User-Key-File", "AGE-SECRET-KEY" };
        for (size_t i = 0; i < COUNT_OF(words); i++)
                if (contains(text, size_bytes, words[i]))
                        return true;
        return size_bytes == 65 && (uint8_t)text[0] == 0x81;       /* wasmsign2's secret key file */
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f' || c == '\v';
}

static void trim(const char **text, size_t *length)
{
        while (*length > 0 && is_blank(**text)) {
                (*text)++;
                (*length)--;
        }
        while (*length > 0 && is_blank((*text)[*length - 1]))
                (*length)--;
}

/* One or more lines of base64 that are no PEM: what do they hold? True: refused here. */
static bool refuse_base64(const char *text, size_t length, const char *what, struct error *err)
{
        static const char pasted[] = "it was encoded once too often; decode it once (in a Secret, use stringData)";
        void *bytes = NULL;
        size_t size = 0;
        if (!base64_take(text, length, BASE64_STANDARD, TRUST_KEY_TEXT_MAX, &bytes, &size))
                return false;

        const char *decoded = bytes;
        bool known = true;
        if (text_is_private(decoded, size) || pem_is_private_der(SPAN(bytes, size)))
                pem_refuse_private(what, err);
        else if (contains(decoded, size, "-----BEGIN "))
                found(what, err, "base64 of a PEM text", pasted);
        else if (size == 42 && memcmp(decoded, "Ed", 2) == 0)
                found_raw(what, err, "a minisign public key", "tail -n 1 FILE | base64 -d");
        else if (size == 32 || (size == 33 && decoded[0] == 1))
                found_raw(what, err, "base64 of a raw key", "base64 -d FILE");
        else if (size > 40 && decoded[0] == 0x30)
                found(what, err, "base64 without its frame", "put the lines -----BEGIN PUBLIC KEY----- and -----END PUBLIC KEY----- around it");
        else
                known = false;
        explicit_bzero(bytes, size);
        free(bytes);
        return known;
}

static bool is_hex(const char *text, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if (!strchr("0123456789abcdefABCDEF", text[i]))
                        return false;
        return true;
}

/* No block at all: the nearest guess. `text` is trimmed and has no NUL. */
static bool refuse_unframed(const char *text, size_t length, const char *what, struct error *err)
{
        static const struct { const char *prefix, *thing, *advice; } guesses[] = {
                { "ssh-", "an SSH public key", "convert it with ssh-keygen -e -m PKCS8 -f FILE" },
                { "ecdsa-sha2-", "an SSH public key", "convert it with ssh-keygen -e -m PKCS8 -f FILE" },
                { "---- BEGIN SSH2", "an SSH public key", "convert it with ssh-keygen -i -f FILE, then ssh-keygen -e -m PKCS8 -f FILE" },
                { "{", "JSON", "JSON web keys are not supported; write the key as PEM" },
                { "/", "a file name", "the text of the PEM file itself belongs here" },
        };
        if (length == 0)
                return refuse(err, ERROR_BAD_KEY, "%s holds white space only; leave it out (nothing is verified then) or give a PEM public key", what);
        if (length > 18 && memcmp(text, "untrusted comment:", 18) == 0)
                return found_raw(what, err, "a minisign public key", "tail -n 1 FILE | base64 -d");
        if (length > 12 && memcmp(text, "ssh-ed25519 ", 12) == 0)  /* ssh-keygen converts all kinds but this */
                return found_raw(what, err, "an SSH public key", "cut -d' ' -f2 FILE | base64 -d");
        for (size_t i = 0; i < COUNT_OF(guesses); i++)
                if (length >= strlen(guesses[i].prefix) && memcmp(text, guesses[i].prefix, strlen(guesses[i].prefix)) == 0)
                        return found(what, err, guesses[i].thing, guesses[i].advice);
        if (length == 64 && is_hex(text, length))
                return found_raw(what, err, "a raw key in hex", "xxd -r -p FILE");
        if (refuse_base64(text, length, what, err))
                return false;
        if (contains(text, length, "://"))
                return found(what, err, "a URL", "the text of the PEM file itself belongs here");
        return refuse(err, ERROR_BAD_KEY, "%s is not a PEM public key: such a text begins with the line -----BEGIN PUBLIC KEY-----", what);
}

/* Whole texts that are something else. True: refused here. */
static bool refuse_whole(const char *text, size_t size_bytes, const char *what, struct error *err)
{
        const char *trimmed = text;
        size_t length = size_bytes;
        if (size_bytes > TRUST_KEY_TEXT_MAX)
                refuse(err, ERROR_BAD_KEY, "%s has %zu bytes, at most %d are taken", what, size_bytes, TRUST_KEY_TEXT_MAX);
        else if (text_is_private(text, size_bytes))
                pem_refuse_private(what, err);
        else if ((size_bytes == 33 && text[0] == 1) || (size_bytes == 36 && memcmp(text, "\2\0\0", 4) == 0))
                found_raw(what, err, "a raw wasmsign key", "cat FILE");
        else if (size_bytes > 40 && text[0] == 0x30 && ((uint8_t)text[1] & 0x80 || (uint8_t)text[1] + 2U == size_bytes))
                pem_is_private_der(SPAN(text, size_bytes)) ? pem_refuse_private(what, err) : found(what, err, "DER", "convert it with openssl pkey -pubin -inform DER -in FILE");
        else if (memchr(text, '\0', size_bytes))
                refuse(err, ERROR_BAD_KEY, "%s holds a NUL byte: it is not a text", what);
        else if (trim(&trimmed, &length), !contains(trimmed, length, "-----BEGIN "))
                refuse_unframed(trimmed, length, what, err);
        else
                return false;
        return true;
}

static const struct label { const char *name; bool good; enum pem_type type; const char *advice; } labels[] = {
        { "PUBLIC KEY", true, PEM_SPKI, NULL },
        { "RSA PUBLIC KEY", true, PEM_PKCS1, NULL },
        { "CERTIFICATE", false, 0, "a certificate was given; extract the key with openssl x509 -pubkey -noout -in FILE" },
        { "TRUSTED CERTIFICATE", false, 0, "a certificate was given; extract the key with openssl x509 -pubkey -noout -in FILE" },
        { "X509 CERTIFICATE", false, 0, "a certificate was given; extract the key with openssl x509 -pubkey -noout -in FILE" },
        { "CERTIFICATE REQUEST", false, 0, "a certificate request was given; extract the key with openssl req -pubkey -noout -in FILE" },
        { "PGP PUBLIC KEY BLOCK", false, 0, "PGP keys are not supported; sign with cosign or openssl" },
        { "EC PARAMETERS", false, 0, "these are only the parameters; write the key with openssl pkey -pubout" },
        { "DSA PUBLIC KEY", false, 0, "DSA keys are not supported; use EC P-256, RSA or Ed25519" },
        { "PKCS7", false, 0, "extract a certificate with openssl pkcs7 -print_certs, then its key with openssl x509 -pubkey -noout" },
};

static const struct label *label_find(const char *name, size_t length)
{
        for (size_t i = 0; i < COUNT_OF(labels); i++)
                if (strlen(labels[i].name) == length && memcmp(labels[i].name, name, length) == 0)
                        return &labels[i];
        return NULL;
}

/* What stands between "-----BEGIN " or "-----END " and the last "-----"; false if the line is no such line or goes on behind it. */
static bool frame_read(const char *line, size_t length, const char *begin, const char **ret_name, size_t *ret_length)
{
        size_t head = strlen(begin);
        if (length < head + 5 || memcmp(line, begin, head) != 0 || memcmp(line + length - 5, "-----", 5) != 0 || memmem(line + head, length - head - 5, "-----", 5))
                return false;

        *ret_name = line + head;
        *ret_length = length - head - 5;
        return true;
}

struct walk { const char *at, *end; size_t line; };

/* The next line that is not blank, trimmed; false at the end. */
static bool line_next(struct walk *walk, const char **ret_line, size_t *ret_length)
{
        while (walk->at < walk->end) {
                const char *line = walk->at, *stop = memchr(line, '\n', (size_t)(walk->end - line));
                size_t length = (size_t)((stop ? stop : walk->end) - line);
                walk->at = stop ? stop + 1 : walk->end;
                walk->line++;
                trim(&line, &length);
                if (length > 0) {
                        *ret_line = line;
                        *ret_length = length;
                        return true;
                }
        }
        return false;
}

/* From behind the BEGIN line to the END line. */
static bool body_read(struct walk *walk, const struct label *label, const char *what, struct pem_block *block, struct error *err)
{
        CLEANUP(buffer_fini_secret) struct buffer body = { 0 };
        const char *line, *name = "";
        size_t length, name_length = 0;
        while (line_next(walk, &line, &length)) {
                if (*line != '-') {
                        if (!buffer_append(&body, line, length))
                                return refuse(err, ERROR_INTERNAL, "%s: out of memory", what);
                        continue;
                }
                if (!frame_read(line, length, "-----END ", &name, &name_length) || label_find(name, name_length) != label)
                        return refuse(err, ERROR_BAD_KEY, "%s, line %zu: the block does not end with the line -----END %s-----", what, walk->line, label->name);
                void *der = NULL;
                if (body.used == 0 || !base64_take(body.data, body.used, BASE64_STANDARD, TRUST_KEY_TEXT_MAX, &der, &block->der_bytes))
                        return refuse(err, ERROR_BAD_KEY, "%s: the block before line %zu is not base64: characters are missing or changed", what, walk->line);
                block->der = der;
                block->type = label->type;
                return true;
        }
        return refuse(err, ERROR_BAD_KEY, "%s is cut off: the line -----END %s----- is missing", what, label->name);
}

static bool block_read(struct walk *walk, const char *line, size_t length, const char *what, struct pem_block *block, struct error *err)
{
        const char *name = "";
        size_t name_length = 0;
        if (length < 11 || memcmp(line, "-----BEGIN ", 11) != 0)
                return refuse(err, ERROR_BAD_KEY, "%s, line %zu: there is text outside of the PEM blocks; only the blocks may be given", what, walk->line);
        if (!frame_read(line, length, "-----BEGIN ", &name, &name_length))
                return refuse(err, ERROR_BAD_KEY,
                              "%s, line %zu: the BEGIN line goes on after its dashes: the line breaks of the text were lost (in YAML, use a block scalar: |)", what, walk->line);

        const struct label *label = label_find(name, name_length);
        char thing[32];
        if (!label)
                return found(what, err, "a PEM block of another type", "write the key with openssl pkey -pubout (PUBLIC KEY)");
        snprintf(thing, sizeof thing, "\"%s\"", label->name);
        return label->good ? body_read(walk, label, what, block, err) : found(what, err, thing, label->advice);
}

bool pem_read(const char *text, size_t size_bytes, const char *what, struct pem *pem, struct error *err)
{
        struct walk walk = { text, text + size_bytes, 0 };
        const char *line;
        size_t length;
        if (refuse_whole(text, size_bytes, what, err))
                return false;

        while (line_next(&walk, &line, &length)) {
                if (pem->count == TRUST_KEYS_MAX)
                        return refuse(err, ERROR_BAD_KEY, "%s, line %zu: more than %d keys are given", what, walk.line, TRUST_KEYS_MAX);
                if (!block_read(&walk, line, length, what, &pem->blocks[pem->count], err))
                        return false;
                pem->count++;
        }
        return true;
}

void pem_fini(struct pem *pem)
{
        for (size_t i = 0; i < COUNT_OF(pem->blocks); i++) {
                if (pem->blocks[i].der)
                        explicit_bzero(pem->blocks[i].der, pem->blocks[i].der_bytes);
                free(pem->blocks[i].der);
        }
        *pem = (struct pem){ 0 };
}
