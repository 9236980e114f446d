/*
 * How it goes: a streaming list where the server has it, else pages of 500; then one watch after the other from the last resourceVersion on, each for a random 5 … 10 minutes.
 * How it fails: whatever breaks is told as KUBE_WATCH_LOST and tried again after a back-off (or Retry-After); what was committed holds. Expired versions, garbage and silence
 *               lead to a new list; a list that breaks off is abandoned whole.
 * How it ends: by cancel, or when the visitor refuses.
 */
#include <stdlib.h>
#include <string.h>
#include "room.h"

enum { PAGE = 500, LIST_MS = 120000, GUARD_MS = 30000, HEALTHY_MS = 120000, SHORT_MS = 1000, INITIAL_QUIET_MS = 15000, FAILURES_BEFORE_LIST = 5, TOO_LARGE_TRIES = 2 };

/* AGAIN: the version held is good. EXPIRED: only a list without it helps. GARBAGE: what came makes no sense, list again. */
enum end { END_AGAIN, END_EXPIRED, END_GARBAGE, END_OVER };

struct run {
        struct kube *kube;
        const struct kube_watch *watch;
        struct kube_visitor *visitor;
        struct cancel *cancel;
        char *path;                        /* without query */
        char *version;                     /* of the last list or event; NULL: never listed */
        bool must_list;
        bool from_scratch;                 /* the server does not know our version any more: list without one */
        bool in_list;                      /* between begin and commit */
        bool may_stream;
        bool is_lost;                      /* told so, and not yet live again */
        unsigned failures, too_large;
        int64_t heard_ms;                  /* when a line came last */
};

/* One answer on its way in. */
struct stream {
        struct sink sink;
        struct cut cut;
        struct run *run;
        struct value *object;              /* of the event whose envelope is still open */
        size_t object_bytes;
        struct error problem;              /* why `object` is NULL */
        struct cut_names names;
        bool has_object;
        char *continues, *version;         /* of a list's page */
        struct kube_status status;         /* of an ERROR event */
        int64_t quiet_ms;
        uint64_t bytes, bytes_max;
        unsigned lines;
        bool is_over;                      /* the visitor refused */
        bool is_told;                      /* `status` is set */
};

static void stream_fini(struct stream *stream)
{
        cut_fini(&stream->cut);
        value_free(&stream->object);
        cut_names_fini(&stream->names);
        free(stream->continues);
        free(stream->version);
}

static void state_tell(struct run *run, enum kube_watch_state state, const struct error *err)
{
        run->is_lost = state == KUBE_WATCH_LOST;
        if (run->visitor->state)
                run->visitor->state(run->visitor, state, err);
}

static void version_keep(struct run *run, const char *version)
{
        if (!version || !*version)
                return;
        free(run->version);
        run->version = string_copy(version);
}

static void list_abandon(struct run *run)
{
        if (run->in_list)
                run->visitor->abandon(run->visitor);
        run->in_list = false;
}

static bool list_begin(struct run *run, struct error *err)
{
        run->in_list = run->visitor->begin(run->visitor, err);
        return run->in_list;
}

static bool list_commit(struct run *run, const char *version, struct error *err)
{
        run->in_list = false;
        if (!run->visitor->commit(run->visitor, err))
                return false;
        version_keep(run, version);
        run->must_list = run->from_scratch = false;
        run->too_large = 0;
        run->heard_ms = clock_get_ms();
        state_tell(run, KUBE_WATCH_LIVE, NULL);
        return true;
}

/* ---- objects */
/* Parsed, or at least named. */
static void object_take(struct stream *stream, const struct cut_piece *piece)
{
        value_free(&stream->object);
        cut_names_fini(&stream->names);
        stream->problem = (struct error){ 0 };
        stream->has_object = true;
        stream->object_bytes = piece->size_bytes;
        if (piece->is_cut)
                refuse(&stream->problem, ERROR_TOO_LARGE, "the object is larger than %zu bytes", stream->cut.piece_bytes_max);
        else if (!json_parse(piece->bytes, piece->size_bytes, ERROR_UPSTREAM_ERROR, &stream->object, &stream->problem))
                refuse_within(&stream->problem, "the object cannot be read");
        cut_names_find(piece->bytes, piece->size_bytes, &stream->names);
}

static bool object_give(struct stream *stream, enum kube_change change, struct error *err)
{
        const struct value *metadata = value_get_member(stream->object, "metadata");
        const char *const names[] = { "namespace", "name", "uid", "resourceVersion" };
        const char *const found[] = { stream->names.namespace, stream->names.name, stream->names.uid, stream->names.version };
        const char *texts[COUNT_OF(names)];
        for (size_t i = 0; i < COUNT_OF(names); i++) {
                const char *text = stream->object ? value_get_text(value_get_member(metadata, names[i])) : found[i];
                texts[i] = text ? text : "";
        }
        if (!*texts[1])
                return refuse(err, ERROR_UPSTREAM_ERROR, "an object without metadata.name%s%s", stream->object ? "" : ": ", stream->object ? "" : stream->problem.text);

        if (!stream->run->in_list)
                version_keep(stream->run, texts[3]);       /* before the texts go with an object that is taken */
        struct kube_object object = { change, texts[0], texts[1], texts[2], texts[3], stream->object, stream->object ? NULL : &stream->problem, stream->object_bytes };
        stream->is_over = !stream->run->visitor->object(stream->run->visitor, &object, err);
        stream->object = object.object;
        return !stream->is_over;
}

/* ---- a list's page */
static bool on_item(struct cut *cut, const struct cut_piece *piece, struct error *err)
{
        struct stream *stream = CONTAINER_OF(cut, struct stream, cut);
        object_take(stream, piece);
        return object_give(stream, KUBE_PUT, err);
}

static bool on_list_end(struct cut *cut, const char *bytes, size_t size_bytes, struct error *err)
{
        struct stream *stream = CONTAINER_OF(cut, struct stream, cut);
        CLEANUP(value_free) struct value *list = NULL;
        const struct value *metadata = NULL, *items = NULL;
        const char *kind = NULL, *version = NULL, *continues = NULL;
        if (!json_parse(bytes, size_bytes, ERROR_UPSTREAM_ERROR, &list, err) || !value_read_text(list, "kind", ERROR_UPSTREAM_ERROR, &kind, err) ||
            !value_read_map(list, "metadata", ERROR_UPSTREAM_ERROR, &metadata, err) || !value_read_list(list, "items", ERROR_UPSTREAM_ERROR, &items, err) ||
            !value_read_text(metadata, "resourceVersion", ERROR_UPSTREAM_ERROR, &version, err) || !value_read_text(metadata, "continue", ERROR_UPSTREAM_ERROR, &continues, err))
                return refuse_within(err, "the list");
        if (!kind || !string_ends_with(kind, "List") || !version || !*version || value_get_count(items) > 0)
                return refuse(err, ERROR_UPSTREAM_ERROR, "the answer is no list: it needs kind …List, metadata.resourceVersion and objects as items");
        stream->version = string_copy(version);
        stream->continues = continues && *continues ? string_copy(continues) : NULL;
        return true;
}

/* ---- a watch's line */
static bool is_initial_end(const struct value *object)
{
        const struct value *annotations = value_get_member(value_get_member(object, "metadata"), "annotations");
        return string_equal(value_get_text(value_get_member(annotations, "k8s.io/initial-events-end")), "true");
}

static bool bookmark_take(struct stream *stream, struct error *err)
{
        struct run *run = stream->run;
        const char *version = value_get_text(value_get_member(value_get_member(stream->object, "metadata"), "resourceVersion"));
        if (!stream->object || !version || !*version)
                return refuse(err, ERROR_UPSTREAM_ERROR, "a BOOKMARK without metadata.resourceVersion");
        if (!run->in_list) {
                version_keep(run, version);
                return true;
        }
        if (!is_initial_end(stream->object))
                return true;
        stream->quiet_ms = run->kube->silence_ms;
        stream->is_over = !list_commit(run, version, err);
        return !stream->is_over;
}

static bool error_take(struct stream *stream, struct error *err)
{
        CLEANUP(buffer_fini) struct buffer text = { 0 };
        struct json_writer json = { .out = &text };
        json_put_value(&json, NULL, stream->object);
        status_read(text.data, text.used, 0, &stream->status);
        stream->is_told = true;
        status_refuse(&stream->status, err);
        return refuse_within(err, "the watch ended");
}

static bool event_take(struct stream *stream, const char *type, struct error *err)
{
        static const struct { const char *type; enum kube_change change; } changes[] = { { "ADDED", KUBE_PUT }, { "MODIFIED", KUBE_PUT }, { "DELETED", KUBE_DELETE } };
        char shown[32];
        for (size_t i = 0; i < COUNT_OF(changes); i++)
                if (strcmp(changes[i].type, type) == 0)
                        return object_give(stream, changes[i].change, err);
        if (strcmp(type, "BOOKMARK") == 0)
                return bookmark_take(stream, err);
        if (strcmp(type, "ERROR") == 0)
                return error_take(stream, err);
        return refuse(err, ERROR_UPSTREAM_ERROR, "an event of unknown type \"%s\"", string_printable(type, strlen(type), shown, sizeof shown));
}

/* Kept until the envelope says what it is: "type" may stand behind it. */
static bool on_event_object(struct cut *cut, const struct cut_piece *piece, struct error *err)
{
        struct stream *stream = CONTAINER_OF(cut, struct stream, cut);
        if (stream->has_object)
                return refuse(err, ERROR_UPSTREAM_ERROR, "an event with two objects");
        object_take(stream, piece);
        return true;
}

static bool on_event(struct cut *cut, const char *bytes, size_t size_bytes, struct error *err)
{
        struct stream *stream = CONTAINER_OF(cut, struct stream, cut);
        CLEANUP(value_free) struct value *envelope = NULL;
        const char *type = NULL;
        if (!json_parse(bytes, size_bytes, ERROR_UPSTREAM_ERROR, &envelope, err) || !value_read_text(envelope, "type", ERROR_UPSTREAM_ERROR, &type, err))
                return refuse_within(err, "an event");
        if (!type || !stream->has_object)
                return refuse(err, ERROR_UPSTREAM_ERROR, "an event needs type and object");
        bool good = event_take(stream, type, err);
        stream->has_object = false;
        stream->lines++;
        stream->run->heard_ms = clock_get_ms();
        if (good && stream->run->is_lost && !stream->run->in_list)
                state_tell(stream->run, KUBE_WATCH_LIVE, NULL);
        return good;
}

static bool on_bytes(struct sink *sink, const void *bytes, size_t size_bytes, struct error *err)
{
        struct stream *stream = CONTAINER_OF(sink, struct stream, sink);
        stream->bytes += size_bytes;
        if (stream->run->in_list && stream->bytes > stream->bytes_max)
                return refuse(err, ERROR_TOO_LARGE, "the list is larger than %llu bytes", (unsigned long long)stream->bytes_max);
        return cut_write(&stream->cut, bytes, size_bytes, err);
}

static void stream_init(struct stream *stream, struct run *run, enum cut_mode mode)
{
        *stream = (struct stream){ .sink.write = on_bytes, .run = run, .quiet_ms = run->kube->silence_ms };
        stream->bytes_max = run->watch->list_bytes_max ? run->watch->list_bytes_max : 512ull << 20;
        stream->cut = (struct cut){ .mode = mode, .piece_bytes_max = run->watch->object_bytes_max ? run->watch->object_bytes_max : 1u << 20,
                                    .object = mode == CUT_LIST ? on_item : on_event_object, .envelope = mode == CUT_LIST ? on_list_end : on_event };
        cut_init(&stream->cut);
}

/* ---- requests */
static char *path_format(const struct kube_watch *watch)
{
        struct buffer path = { 0 };
        buffer_printf(&path, *watch->kind.group ? "/apis/%s/%s" : "/api%s/%s", watch->kind.group, watch->kind.version);
        if (watch->namespace) {
                buffer_append_text(&path, "/namespaces/");
                escape_append(&path, watch->namespace);
        }
        buffer_printf(&path, "/%s", watch->kind.plural);
        return buffer_take(&path);
}

static void parameter_add(struct buffer *query, const char *name, const char *value)
{
        if (!value)
                return;
        buffer_printf(query, "%s%s=", strchr(query->data, '?') ? "&" : "?", name);
        escape_append(query, value);
}

static void query_begin(const struct run *run, struct buffer *query)
{
        buffer_append_text(query, run->path);
        parameter_add(query, "fieldSelector", run->watch->field_selector);
        parameter_add(query, "labelSelector", run->watch->label_selector);
}

static bool ask_stream(struct run *run, struct stream *stream, const char *path, int64_t most_ms, struct error *err)
{
        struct kube_call call = { run->kube, run->cancel, clock_get_ms() + most_ms };
        struct ask ask = { .method = FETCH_GET, .path = path, .sink = &stream->sink, .progress_timeout_ms = &stream->quiet_ms };
        struct kube_status status = { 0 };
        bool good = ask_run(&call, &ask, &status, err);
        if (status.code > 0) {
                stream->status = status;
                stream->is_told = true;
        }
        return good;
}

static bool is_too_large(const struct kube_status *status)
{
        return status->code == 504 && (strcmp(status->cause, "ResourceVersionTooLarge") == 0 || strncmp(status->message, "Too large resource version", 26) == 0);
}

/* A request or its stream failed: what helps? */
static enum end failure_judge(struct run *run, struct stream *stream, const struct error *err)
{
        const struct kube_status *status = &stream->status;
        if (stream->is_over || cancel_is_triggered(run->cancel))
                return END_OVER;
        if (!stream->is_told)
                return err->code == ERROR_UPSTREAM_ERROR || err->code == ERROR_TOO_LARGE ? END_GARBAGE : END_AGAIN;
        if (status->code == 410 || strcmp(status->reason, "Expired") == 0 || strcmp(status->reason, "Gone") == 0)
                return END_EXPIRED;
        if (is_too_large(status) && ++run->too_large >= TOO_LARGE_TRIES)
                return END_EXPIRED;
        return END_AGAIN;
}

/* One page after the other; a continue token that expired (410) makes the next try one without pages ([oci] 4.2). */
static enum end list_pages(struct run *run, struct kube_status *ret_status, struct error *err)
{
        CLEANUP(cleanup_free) char *continues = NULL;
        bool is_paged = true;
        uint64_t bytes = 0;
        if (!list_begin(run, err))
                return END_OVER;
        for (;;) {
                CLEANUP(stream_fini) struct stream stream;
                CLEANUP(buffer_fini) struct buffer path = { 0 };
                bool is_first = !continues;
                stream_init(&stream, run, CUT_LIST);
                stream.bytes = bytes;
                stream.quiet_ms = CALL_MS;
                query_begin(run, &path);
                if (is_paged)
                        buffer_printf(&path, "%slimit=%d", strchr(path.data, '?') ? "&" : "?", PAGE);
                parameter_add(&path, "continue", continues);
                if (is_first && !run->from_scratch) {              /* with `continue` no version is allowed */
                        parameter_add(&path, "resourceVersion", run->version ? run->version : "0");
                        parameter_add(&path, "resourceVersionMatch", "NotOlderThan");
                }
                bool good = ask_stream(run, &stream, path.data, LIST_MS, err);
                if (good && !stream.version)
                        good = refuse(err, ERROR_UPSTREAM_ERROR, "GET %s%s: the list ends too early", run->kube->config.server, run->path);
                if (!good) {
                        enum end end = failure_judge(run, &stream, err);
                        *ret_status = stream.status;
                        if (end != END_EXPIRED || is_first)
                                return end;
                        list_abandon(run);
                        if (!list_begin(run, err))
                                return END_OVER;
                        free(TAKE(continues));
                        is_paged = false;
                        run->from_scratch = true;
                        bytes = 0;
                        continue;
                }
                bytes = stream.bytes;
                free(continues);
                continues = TAKE(stream.continues);
                if (!continues)
                        return list_commit(run, stream.version, err) ? END_AGAIN : END_OVER;
        }
}

/* Not every server has streaming lists, some say so and some do not. */
static bool streaming_is_refused(const struct run *run, const struct stream *stream, int64_t started_ms)
{
        int code = stream->is_told ? stream->status.code : 0;
        if (code == 400 || code == 403 || code == 405 || code == 422 || code == 500)
                return true;
        return code == 0 && clock_get_ms() - (stream->lines ? run->heard_ms : started_ms) >= stream->quiet_ms - 10;
}

static enum end stream_go(struct run *run, bool is_list, struct kube_status *ret_status, struct error *err)
{
        CLEANUP(stream_fini) struct stream stream;
        CLEANUP(buffer_fini) struct buffer path = { 0 };
        unsigned window_s = run->watch->window_s ? run->watch->window_s : 300;
        int64_t started_ms = clock_get_ms();
        stream_init(&stream, run, CUT_EVENTS);
        window_s += (unsigned)jitter_ms(window_s);
        query_begin(run, &path);
        buffer_printf(&path, "%swatch=1&allowWatchBookmarks=true&timeoutSeconds=%u", strchr(path.data, '?') ? "&" : "?", window_s);
        if (is_list) {
                buffer_append_text(&path, "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
                stream.quiet_ms = run->kube->silence_ms < INITIAL_QUIET_MS ? run->kube->silence_ms : INITIAL_QUIET_MS;
                if (!list_begin(run, err))
                        return END_OVER;
        }
        if (!is_list || !run->from_scratch)
                parameter_add(&path, "resourceVersion", run->version);

        bool good = ask_stream(run, &stream, path.data, (int64_t)window_s * 1000 + GUARD_MS, err), was_short = clock_get_ms() - started_ms < SHORT_MS;
        if (stream.lines > 0 && !run->in_list)
                run->failures = 0;
        if (good && !cut_is_between(&stream.cut))
                good = refuse(err, ERROR_UPSTREAM_UNREACHABLE, "GET %s%s: the watch ended in the middle of an event", run->kube->config.server, run->path);
        else if (good && (run->in_list || (was_short && stream.lines == 0)))
                good = refuse(err, ERROR_UPSTREAM_UNREACHABLE, "GET %s%s: the watch ended at once", run->kube->config.server, run->path);
        if (run->in_list && !good && !stream.is_over && streaming_is_refused(run, &stream, started_ms)) {
                run->may_stream = false;
                list_abandon(run);
                return END_GARBAGE;
        }
        *ret_status = stream.status;
        return good ? END_AGAIN : failure_judge(run, &stream, err);
}

/* ---- the whole */
static bool wait_for_next(struct run *run, const struct error *failure, const struct kube_status *status, struct error *err)
{
        int64_t wait_ms = run->kube->backoff_first_ms, most_ms = run->kube->backoff_most_ms;
        for (unsigned i = 1; i < run->failures && wait_ms < most_ms; i++)
                wait_ms *= 2;
        wait_ms = wait_ms < most_ms ? wait_ms : most_ms;
        unsigned said_s = status->retry_after_s < RETRY_AFTER_MOST_S ? status->retry_after_s : RETRY_AFTER_MOST_S;
        if ((int64_t)said_s * 1000 > wait_ms)
                wait_ms = (int64_t)said_s * 1000;
        state_tell(run, KUBE_WATCH_LOST, failure);
        return sleep_ms(run->cancel, wait_ms + jitter_ms(wait_ms), err);
}

/* False: over. */
static bool round_go(struct run *run, struct error *err)
{
        struct kube_status status = { 0 };
        struct error failure = { 0 };
        int64_t started_ms = clock_get_ms();
        bool is_list = run->must_list, was_streaming = run->may_stream;
        if (is_list)
                state_tell(run, KUBE_WATCH_LISTING, NULL);
        enum end end = is_list && !was_streaming ? list_pages(run, &status, &failure) : stream_go(run, is_list, &status, &failure);
        list_abandon(run);
        if (end == END_OVER) {
                *err = failure;
                return failure.code != ERROR_NONE ? false : refuse(err, ERROR_BUSY, "cancelled");
        }
        if (is_list && was_streaming && !run->may_stream)
                return true;               /* at once, the other way */
        if (failure.code == ERROR_NONE) {
                if (run->is_lost)
                        state_tell(run, KUBE_WATCH_LIVE, NULL);
                /* Bookmarks come each minute: who says nothing for long may be waiting for a version that an older store never reaches (kube-measured 2). */
                run->must_list = run->from_scratch = clock_get_ms() - run->heard_ms >= run->kube->silence_ms;
                return true;
        }
        if (clock_get_ms() - started_ms >= HEALTHY_MS)
                run->failures = 0;
        run->failures++;
        if (end == END_EXPIRED)
                run->from_scratch = run->must_list = true;
        else if (end == END_GARBAGE || run->failures % FAILURES_BEFORE_LIST == 0)
                run->must_list = true;
        if (!run->must_list && clock_get_ms() - run->heard_ms >= run->kube->silence_ms)
                run->must_list = run->from_scratch = true;
        if (end == END_EXPIRED && run->failures == 1)
                return !cancel_is_triggered(run->cancel) || refuse(err, ERROR_BUSY, "cancelled");
        return wait_for_next(run, &failure, &status, err);
}

bool kube_watch_run(struct kube *kube, const struct kube_watch *watch, struct kube_visitor *visitor, struct cancel *cancel, struct error *err)
{
        struct run run = { .kube = kube, .watch = watch, .visitor = visitor, .cancel = cancel, .path = path_format(watch), .must_list = true, .may_stream = !watch->no_streaming,
                           .heard_ms = clock_get_ms() };
        while (round_go(&run, err))
                continue;
        free(run.path);
        free(run.version);
        return false;
}
