/*
 * handout: many links made and taken away at once, and what is promised with them. Part of the door store.h.
 */
#pragma once
#include <wasmcached/store.h>

/* `lease` may be NULL; identity, is_done and err are filled in. */
struct store_handout {
        struct digest module; const char *namespace; bool is_ending; const struct store_lease *lease;      /* borrowed */
        struct store_identity identity; bool is_done; struct error err;
};
/* As store_link() and store_unlink() one after the other; then the rows of all, leases too, in one transaction, so that the disk is waited for once. Each has its own outcome; rows
   that cannot be written refuse all that have some. No module twice in one call. */
void store_save_handouts(struct store *store, struct store_handout *handouts, size_t count);
