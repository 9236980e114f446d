/*
 * load: what a start reads: all rows, or those about one request before the rest is here, and the look at every blob after an unclean end. Part of the door store.h. Worker.
 */
#pragma once
#include <stdbool.h>
#include <wasmcached/base.h>

struct store; struct store_reader; struct store_report;
struct store_module; struct store_image; struct store_reference; struct store_grant; struct store_resource; struct store_lease;

/* Is its index so large (some thousand modules) that a start should not wait for all of it? Any thread. */
bool store_is_large(const struct store *store);
/* After an unclean end: every blob is compared with its row, what differs or has none is hashed. Others may use the store meanwhile: what nobody has looked at yet does not look
   as its row says either, and is hashed before it is handed out. Does nothing when store_open() did it. Until it returned true the end of the store is no clean one.
   ERROR_BUSY: cancelled. ERROR_STORE_FULL: the disk is; the next start does the rest. ret_report says in any case what was done. */
bool store_settle(struct store *store, struct cancel *cancel, struct store_report *ret_report, struct error *err);

/* A connection of its own, for one thread at a time: reads a state of the index while others write. */
bool store_reader_open(struct store *store, struct store_reader **ret_reader, struct error *err);
void store_reader_close(struct store_reader **reader);

/* Rows, each once; those of one kind after all of the kind before. NULL members are skipped. */
struct store_visitor {
        void *arg;
        void (*module)(void *arg, const struct store_module *row);
        void (*image)(void *arg, const struct store_image *row);
        void (*reference)(void *arg, const struct store_reference *row);
        void (*grant)(void *arg, const struct store_grant *row);
        void (*resource)(void *arg, const struct store_resource *row);
        void (*lease)(void *arg, const struct store_lease *row);
        bool without_documents;           /* images come with document "": a start then reads much less; store_load_document() gets one when it is asked for */
        struct cancel *cancel;            /* NULL = none; triggered: ERROR_BUSY */
};
bool store_load_all(struct store *store, const struct store_visitor *visitor, struct error *err);
/* All rows of every module that a request may mean: by its name, by a digest of manifest, index or module (NULL = none), by a resource (NULL, both = none). */
struct store_question { const char *name; const struct digest *pin; const char *namespace, *resource; };
bool store_load_found(struct store_reader *reader, const struct store_question *question, const struct store_visitor *visitor, struct error *err);
/* Appends the manifest JSON of an image; ERROR_NOT_FOUND when there is no such row. */
bool store_load_document(struct store *store, const struct digest *manifest, struct buffer *ret_document, struct error *err);
