/*
 * How it goes: HMAC-SHA256 with the store's secret over what was seen, each part with its length, behind a label that says of what kind it is and by which rules it was unpacked.
 * How it fails: a part that was changed, moved to another row or sealed under another secret or other rules does not fit: it says nothing, and the source is asked.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "seal.h"

/* Another number when manifests, layers or bodies are read in another way than before: which child, which layer, which file of a tar. */
#define SEAL_RULES " by rules 1"

static void put_part(struct buffer *text, const void *bytes, size_t size_bytes)
{
        buffer_printf(text, "%zu:", size_bytes);
        if (size_bytes > 0)
                buffer_append(text, bytes, size_bytes);
}

static void put_text(struct buffer *text, const char *part)
{
        put_part(text, part ? part : "", part ? strlen(part) : 0);
}

static void put_digest(struct buffer *text, const struct digest *digest)
{
        char name[DIGEST_TEXT_BYTES] = "";
        if (digest_is_set(digest))
                digest_format(digest, name);
        put_text(text, name);
}

static void make_mac(const struct secret *key, const struct buffer *text, struct digest *ret_mac)
{
        digest_hmac(secret_get_text(key), secret_get_size(key), text->data, text->used, ret_mac);
}

static void image_mac(const struct secret *key, const struct store_image *image, struct digest *ret_mac)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        put_text(&text, "wasmcached image" SEAL_RULES);
        put_digest(&text, &image->top);
        put_digest(&text, &image->manifest);
        put_digest(&text, &image->layer);
        put_text(&text, image->media_type);
        put_text(&text, image->layer_type);
        put_digest(&text, &image->module);
        make_mac(key, &text, ret_mac);
}

void seal_image(const struct secret *key, struct store_image *image)
{
        image_mac(key, image, &image->seal);
}

bool seal_image_is_good(const struct secret *key, const struct store_image *image)
{
        struct digest mac;
        image_mac(key, image, &mac);
        return image->seal.algorithm == DIGEST_SHA256 && bytes_equal_consttime(mac.bytes, image->seal.bytes, DIGEST_SHA256_BYTES);
}

static void content_mac(const struct secret *key, const struct digest *module, const struct trust_content *content, struct digest *ret_mac)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        put_text(&text, "wasmcached body" SEAL_RULES);
        put_digest(&text, module);
        put_part(&text, content, sizeof *content);
        make_mac(key, &text, ret_mac);
}

void seal_content(const struct secret *key, const struct digest *module, const struct trust_content *content, struct buffer *ret_body)
{
        struct digest mac;
        content_mac(key, module, content, &mac);
        buffer_append(ret_body, mac.bytes, DIGEST_SHA256_BYTES);
        buffer_append(ret_body, content, sizeof *content);
}

bool seal_content_open(const struct secret *key, const struct store_evidence *row, struct trust_content *ret_content)
{
        struct trust_content content;
        struct digest mac;
        if (row->body_bytes != DIGEST_SHA256_BYTES + sizeof content)
                return false;
        memcpy(&content, (const uint8_t *)row->body + DIGEST_SHA256_BYTES, sizeof content);
        content_mac(key, &row->target, &content, &mac);
        if (!bytes_equal_consttime(mac.bytes, row->body, DIGEST_SHA256_BYTES))
                return false;
        *ret_content = content;
        return true;
}
