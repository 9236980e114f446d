/* What the files of wasmcachectl share: the tables of commands and options, what was asked for, and the ways to answer. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <wasmcache.h>
#include <wasmcached/base.h>

/* ---- options: one table (options.c) ---- */
enum option {
        OPTION_OUTPUT, OPTION_SOCKET, OPTION_HELP, OPTION_SHA256, OPTION_POLICY, OPTION_SECRET, OPTION_PULL_SECRET_FILE, OPTION_NAMESPACE, OPTION_KEY, OPTION_TIMEOUT,
        OPTION_RESOURCE, OPTION_NO_PROGRESS, OPTION_DRY_RUN, OPTION_FOLLOW, OPTION_URL, OPTION_VERSION, OPTION_LABEL,
        OPTION_DIRECTION, OPTION_PORT, OPTION_TYPE, OPTION_SERVICE, OPTION_SERVICE_ENTRY, OPTION_PLUGIN, OPTION_ALL_NAMESPACES,
        OPTION_COUNT
};
#define OPTION_BIT(option) (1u << (option))
enum { OPTIONS_EVERYWHERE = OPTION_BIT(OPTION_OUTPUT) | OPTION_BIT(OPTION_SOCKET) | OPTION_BIT(OPTION_HELP) };

struct option_row {
        const char *name;                 /* without "--" */
        char letter;                      /* 0 = none */
        const char *argument;             /* NULL = a flag */
        const char *help;
        const char *values;               /* "table json yaml": the only ones; NULL = any */
};
extern const struct option_row option_rows[OPTION_COUNT];

/* ---- commands: one table (commands.c) ---- */
struct ctl;
enum socket_choice { SOCKET_NONE, SOCKET_ADMIN, SOCKET_ANY };      /* ANY: admin if it can be reached, else agent */
struct command {
        const char *name, *arguments, *help;
        unsigned arguments_min, arguments_max;
        unsigned options;                 /* beside those that are understood everywhere */
        enum socket_choice socket;
        int (*run)(struct ctl *ctl);      /* exit status */
        const char *examples[4];          /* what follows "wasmcachectl ", with "  # why" */
        const char *notes;                /* a paragraph for --help; NULL = none */
};
extern const struct command command_rows[];
extern const size_t command_count;
const struct command *command_find(const char *name);

enum format { FORMAT_TABLE, FORMAT_JSON, FORMAT_YAML };
enum { ARGUMENTS_MAX = 64 };

/* One run of the program. */
struct ctl {
        const struct command *command;
        const char *options[OPTION_COUNT];        /* NULL = not given; "" for flags; the last one of those that may be repeated */
        struct repeated { enum option option; const char *value; } repeated[ARGUMENTS_MAX];        /* these, in order */
        unsigned repeated_count;
        const char *arguments[ARGUMENTS_MAX];
        unsigned argument_count;
        enum format format;
        const char *socket_path;                  /* the one that `cache` is connected to */
        struct wasmcache *cache;
        int output_errno;                         /* why standard output failed before the end; 0 = it did not, or not yet */
};

/* options.c: false after it has said what is wrong (exit 2). */
bool options_parse(int argc, char **argv, struct ctl *ret_ctl);
/* Of `count` names the one that a person may have meant; NULL if none is near. */
const char *nearest_name(const char *word, const char *(*name_at)(size_t index, const void *arg), size_t count, const void *arg);

/* help.c */
void help_show(void);
void help_show_command(const struct command *command);
int help_complete(int argc, char **argv);         /* words of a command line, the last one unfinished: candidates on stdout */

/* report.c: errors, "wasmcachectl: CODE: detail" and "hint: next step" on stderr. */
int report_usage(const char *hint, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* WASMCACHE_USAGE */
int report_local(const char *hint, const char *format, ...) __attribute__((format(printf, 2, 3)));   /* WASMCACHE_REFUSED: something on this side */
int report_error(const struct error *err);                                                           /* the same of base's errors */
int report_path(const char *hint, const struct error *err);                                           /* the same; `hint` where a file of this machine is at fault */
int report_daemon(const struct ctl *ctl, int result, const struct wasmcache_error *err);             /* `result` again */

/* call.c: one exchange with the daemon. */
int daemon_connect(struct ctl *ctl);
/* The answer's JSON as a tree (NULL for an empty body). Reports failures itself. */
int daemon_ask(struct ctl *ctl, const char *method, const char *path, const char *body, struct value **ret_answer);
/* `?name=value` escaped for a path; owned by the caller. */
char *query_escape(const char *text);
/* The sha256 of what REF|SHA names, asked of the daemon. */
int daemon_resolve(struct ctl *ctl, const char *name, char ret_sha256[DIGEST_HEX_BYTES]);

/* get.c: the request of contract 1 from the options; `ret_wish` is wish_fini's in any case. What cannot be read was reported. */
struct wish { struct buffer key, pull_secret; char *resource_name; struct wasmcache_request request; };
int wish_make(const struct ctl *ctl, struct wish *ret_wish);
void wish_fini(struct wish *wish);
void wish_write(const struct wish *wish, struct buffer *out);                /* as the body of a request */

/* scratch.c: a folder beside the daemon's socket that the daemon can read, for files of this user. */
struct scratch { char *folder; uid_t uid; gid_t gid; };
bool scratch_make(const struct ctl *ctl, struct scratch *ret_scratch, struct error *err);
bool scratch_save(const struct scratch *scratch, const char *name, int fd, struct error *err);   /* the rest of `fd` as folder/name */
void scratch_remove(struct scratch *scratch);

/* output.c */
void output_value(const struct ctl *ctl, const struct value *value);         /* as -o says; table = indented lines for people */
void output_json(const struct value *value);
void output_yaml(const struct value *value, bool for_people);
struct table { size_t columns; struct buffer cells; size_t count; };          /* cells: NUL-terminated texts, row by row */
void table_add(struct table *table, const char *text);                        /* NULL shows "-" */
void table_print(struct table *table);                                        /* aligned; the first row is the head; empties it */
void query_put(struct buffer *query, const char *name, const char *value);       /* "?name=value" or "&name=value", escaped */
/* A route that answers in pages, whole, in the format asked for: list `member` of each page, one row() each in a table. `namespace` NULL = all; heads end with NULL. */
struct listing { const char *path, *member, *namespace, *const *heads; void (*row)(struct table *table, const struct value *item); };
int listing_print(struct ctl *ctl, const struct listing *listing);
bool output_has_colours(int fd);
const char *text_member(const struct value *map, const char *name);           /* NULL if absent or no text */
void format_age(const char *rfc3339, char *ret_text, size_t size_bytes);      /* "5m", "3h", "12d"; "-" of NULL */

/* get.c: the answer to explain, for people. */
void explain_print(const struct value *answer);

/* progress.c: a bar on stderr while a pull of `url` runs, fed from the events of a second connection. NULL: no terminal, or not wanted. */
struct progress;
struct progress *progress_start(const struct ctl *ctl, const char *url);
void progress_stop(struct progress **progress);

/* layout.c: an OCI image layout, folder or tar. */
struct layout;
bool layout_open(const char *path, struct layout **ret_layout, struct error *err);
void layout_close(struct layout **layout);
/* The file `name` inside into `sink`; ERROR_NOT_FOUND, ERROR_TOO_LARGE. */
bool layout_read(struct layout *layout, const char *name, uint64_t limit_bytes, struct sink *sink, struct error *err);
struct layout_writer;
bool layout_create(const char *path, struct layout_writer **ret_writer, struct error *err);      /* beside `path`, which must not be there yet */
bool layout_put_start(struct layout_writer *writer, const char *name, uint64_t size_bytes, struct error *err);
bool layout_put_bytes(struct layout_writer *writer, const void *bytes, size_t size_bytes, struct error *err);
bool layout_commit(struct layout_writer *writer, struct error *err);                             /* now it is at `path` */
void layout_discard(struct layout_writer **writer);                                              /* frees; removes what was not committed */

/* image.c: the images of a layout. */
struct image { char *url, *digest, *index, *manifest; };  /* digest of the manifest, and of the outermost index that led there, or NULL; the manifest's text, or NULL */
/* Each image of index.json and its nested indexes with a Wasm layer: its verified module in `fd` (a regular file, position 0). */
typedef bool (*image_found)(void *arg, const struct image *image, int fd, struct error *err);
bool image_each(struct layout *layout, const char *url_given, const char *folder, image_found found, void *arg, struct error *err);

/* unbox.c: the module of a tar layer (plain, gzip, zstd) in `fd`, into `out_fd`. */
bool unbox_layer(int fd, int out_fd, struct error *err);

/* the commands */
int command_get(struct ctl *ctl);
int command_ls(struct ctl *ctl);
int command_plugins(struct ctl *ctl);
int command_resources(struct ctl *ctl);
int explain_plugin(struct ctl *ctl);                      /* explain --plugin */
int command_inspect(struct ctl *ctl);
int command_explain(struct ctl *ctl);
int command_refresh(struct ctl *ctl);
int command_rm(struct ctl *ctl);
int command_pin(struct ctl *ctl);
int command_unpin(struct ctl *ctl);
int command_gc(struct ctl *ctl);
int command_verify(struct ctl *ctl);
int command_verify_signature(struct ctl *ctl);
int command_events(struct ctl *ctl);
int command_status(struct ctl *ctl);
int command_config(struct ctl *ctl);
int command_reload(struct ctl *ctl);
int command_import(struct ctl *ctl);
int command_export(struct ctl *ctl);
int command_version(struct ctl *ctl);
int command_help(struct ctl *ctl);
