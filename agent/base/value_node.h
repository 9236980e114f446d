/* The node of a value tree, shared by its parsers. */
#pragma once
#include <wasmcached/base/value.h>

struct value {
        enum value_kind kind;
        size_t line;
        int64_t integer;                  /* INT, and BOOL as 0 or 1 */
        double real;
        char *text; size_t text_bytes;    /* TEXT, NUL behind the end */
        struct value *items; char **keys; /* keys only for MAP; there also when the map is empty */
        size_t count;
};

void value_fini(struct value *node);
/* Room for one more item (and key): an empty node at items[count]; the caller counts it. */
struct value *value_add_child(struct value *node);
