/* value: a read-only tree of what a JSON, YAML or TOML text said, with the line of each node. Read strictly: a wrong type is an error that names the member. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base/error.h>

enum value_kind { VALUE_NULL, VALUE_BOOL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_LIST, VALUE_MAP };
struct value;

enum { VALUE_DEPTH_MAX = 32, VALUE_NODES_MAX = 200000, VALUE_STREAM_NODES_MAX = 1000000 };

/* One JSON text (RFC 8259): UTF-8, no duplicate members, at most VALUE_DEPTH_MAX deep and VALUE_NODES_MAX nodes, nothing after it; NUL in texts refused.
   `code` is the error's code; its text has line and column, never the content. */
bool json_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err);
/* Logins, tokens and Secrets pass through there: from now on jansson's trees, and the pieces that it reads strings into, are wiped before they are freed. It is for the whole
   process, so for main() to say, before any thread; never for a library, whose host may have its own allocator in jansson. */
void json_start_wiping(void);
/* One YAML document (YAML 1.1 as libyaml reads it, core scalars; no anchors, aliases, tags or merge keys; duplicate keys refused). Empty text = empty map. */
bool yaml_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err);
/* One TOML document (1.0) of tables, strings on one line, booleans, whole decimal numbers, arrays and inline tables; floats, dates, other numbers, strings over several lines and
   arrays of tables are refused. Members keep the order in which their table first appears. */
bool toml_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err);
/* Every document of a YAML text, as a list; empty ones are left out. Of lines the text's own; VALUE_STREAM_NODES_MAX nodes together. */
bool yaml_parse_all(const char *text, size_t size_bytes, enum error_code code, struct value **ret_list, struct error *err);
void value_free(struct value **value);

enum value_kind value_get_kind(const struct value *value);
const char *value_get_kind_name(enum value_kind kind);             /* "string", "integer", "number", "object" … as JSON Schema names them */
size_t value_get_line(const struct value *value);                  /* from 1; 0 for JSON */
size_t value_get_count(const struct value *value);                 /* children of a list or map, else 0 */
const struct value *value_get_item(const struct value *list_or_map, size_t index);
const char *value_get_key(const struct value *map, size_t index);
const struct value *value_get_member(const struct value *map, const char *name);   /* NULL if absent or no map */
/* Of a scalar; NULL/0/false when of another kind. */
const char *value_get_text(const struct value *value);
size_t value_get_text_bytes(const struct value *value);
int64_t value_get_int(const struct value *value);
double value_get_real(const struct value *value);                  /* of INT too */
bool value_get_bool(const struct value *value);

/* Members of `map`: absent (or null) leaves *ret_… as it is and is true; another kind is refused with `code` naming the member. */
bool value_read_text(const struct value *map, const char *name, enum error_code code, const char **ret_text, struct error *err);
bool value_read_int(const struct value *map, const char *name, enum error_code code, int64_t *ret_int, struct error *err);
bool value_read_bool(const struct value *map, const char *name, enum error_code code, bool *ret_bool, struct error *err);
bool value_read_map(const struct value *map, const char *name, enum error_code code, const struct value **ret_map, struct error *err);
bool value_read_list(const struct value *map, const char *name, enum error_code code, const struct value **ret_list, struct error *err);
/* Every member of `map` is one of `names` (NULL-terminated); else refused, naming the member and the allowed ones. */
bool value_only_members(const struct value *map, const char *const *names, enum error_code code, struct error *err);
