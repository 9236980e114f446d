/* seal: what this daemon saw itself, written down so that nobody can write it who only has the index. A fact, never a verdict: signatures are judged again, and lead to a module
   through it. Worker or loop, memory only. */
#pragma once
#include <wasmcached/base.h>
#include <wasmcached/store.h>
#include <wasmcached/trust.h>

/* "The index or manifest `top` led to `manifest`, and that to `layer`, which unpacked to `module`": into image->seal. */
void seal_image(const struct secret *key, struct store_image *image);
bool seal_image_is_good(const struct secret *key, const struct store_image *image);
/* "A body of which this was noted unpacked to `module`": the body of a row of evidence; and back, false where the row does not say so of its target. */
void seal_content(const struct secret *key, const struct digest *module, const struct trust_content *content, struct buffer *ret_body);
bool seal_content_open(const struct secret *key, const struct store_evidence *row, struct trust_content *ret_content);
