/* folder: a folder of manifests: what a worker finds in it, and what the loop makes of the files. Private to manifests*.c and scan.c. */
#pragma once
#include <sys/types.h>
#include <wasmcached/credential.h>
#include <wasmcached/loop.h>
#include <wasmcached/plugin/manifests.h>
#include "room.h"

enum {
        FILE_MAX_BYTES = 4 << 20, FILES_MAX = 4096, SCAN_MAX_BYTES = 64 << 20, SETTLE_MS = 50, UNSETTLED_MAX = 40, DEBOUNCE_MS = 50, RESCAN_MS = 10000, MISSING_MS = 1000,
        APPLY_SLICE_US = 1000, SWAPS_MAX = 8,
};

/* ---- scan.c: a worker ---- */
struct identity { dev_t dev; ino_t ino; off_t size; int64_t modified_ns, changed_ns; };
struct known { const char *name; struct identity identity; };
/* One file as it is now: unchanged, or its documents, or why it could not be read. */
struct found { char *name; struct identity identity; bool is_unchanged; struct value *documents; struct error err; };
struct scan {
        const char *folder; int notify_fd;
        struct known *known; size_t known_count;           /* sorted by name */
        bool may_be_unsettled;
        struct found *found; size_t found_count;           /* sorted by name; also what is unchanged */
        bool is_there, is_unsettled, is_more;              /* unsettled: somebody is still writing; more: there was too much for one scan */
        size_t left_out;                                   /* files beyond FILES_MAX */
        int wd;                                            /* in and out: the folder's watch */
        struct error err;                                  /* why it is not there */
};
void scan_run(struct scan *scan);
void scan_fini(struct scan *scan);

/* ---- objects.c: what a file says ---- */
struct claim { enum plugin_kind kind; char *namespace, *name; enum docker_config_kind config_kind; struct secret *config; struct error err; };      /* Secrets and Pods */
struct batch {
        struct plugin **plugins; size_t plugin_count;      /* rows of what is refused among them */
        struct plugin_pod **pods; size_t pod_count;
        struct claim *claims; size_t claim_count;
        struct plugin *file;                               /* row of the file itself; NULL = nothing wrong */
};
/* A WasmPlugin, TrafficExtension, Secret, Pod; everything else is a problem of the file. */
void object_read(struct batch *batch, const char *file, const struct value *object);
void pod_read(struct batch *batch, const char *file, const struct value *object);           /* whatever its kind says */
void file_problem(struct batch *batch, const char *file, size_t line, const char *detail);
void claims_free(struct claim *claims, size_t count);
void batch_fini(struct batch *batch);
