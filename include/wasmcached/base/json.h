/* json: writing JSON into a buffer; commas, quotes and escapes are the writer's business. Reading is in value.h. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <wasmcached/base/buffer.h>
#include <wasmcached/base/value.h>

/* Zero-initialise with .out set. `key` is NULL inside arrays and at the top. Bytes that are no UTF-8 become U+FFFD. */
struct json_writer { struct buffer *out; bool comma; };

void json_open_map(struct json_writer *writer, const char *key);
void json_close_map(struct json_writer *writer);
void json_open_list(struct json_writer *writer, const char *key);
void json_close_list(struct json_writer *writer);
void json_put_text(struct json_writer *writer, const char *key, const char *text);         /* NULL text = null */
void json_put_int(struct json_writer *writer, const char *key, int64_t number);
void json_put_real(struct json_writer *writer, const char *key, double number);
void json_put_bool(struct json_writer *writer, const char *key, bool truth);
void json_put_null(struct json_writer *writer, const char *key);
void json_put_value(struct json_writer *writer, const char *key, const struct value *value);
void json_put_raw(struct json_writer *writer, const char *key, const char *json);          /* text that is JSON already */
