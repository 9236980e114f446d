/*
 * How it goes: an answer is copied into the connection's buffer and queued at libmicrohttpd: within request() it goes out on the way back, later the suspended connection is
 *              resumed.
 *              A stream is a queue that libmicrohttpd empties by a callback, suspended while there is nothing in it.
 * How it fails: no memory for an answer closes the connection. A stream whose peer is gone or too slow takes no more bytes, and its owner is told from the loop, never from within
 *              its own call.
 * How it ends: libmicrohttpd's notice that the request is completed; a stream is freed when both its owner and its connection have let go.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "room.h"

static struct connection *connection_of_request(struct serve_request *request)
{
        return CONTAINER_OF(request, struct connection, request);
}

/* What the last answer of this connection left behind: most answers have its size and its type, and need but other bytes in the same place. */
static struct MHD_Response *response_take_kept(struct connection *connection, const struct serve_answer *answer)
{
        if (!connection->kept || connection->answer.used != answer->body_bytes || strcmp(connection->kept_type, answer->content_type) != 0)
                return NULL;
        memcpy(connection->answer.data, answer->body, answer->body_bytes);
        return connection->kept;
}

void response_forget(struct connection *connection)
{
        if (connection->kept)
                MHD_destroy_response(TAKE(connection->kept));
}

/* Bytes of `body` that stay where they are until the answer is sent; large ones are not kept for the life of the connection. */
static struct MHD_Response *response_of_body(struct connection *connection, const char *body, size_t body_bytes)
{
        if (body_bytes > BUFFER_KEEP_BYTES)
                return MHD_create_response_from_buffer_with_free_callback(body_bytes, string_copy_bytes(body, body_bytes), free);
        response_forget(connection);              /* its bytes are overwritten, and maybe moved */
        buffer_clear(&connection->answer);
        if (!buffer_append(&connection->answer, body, body_bytes))
                return NULL;
        return MHD_create_response_from_buffer(body_bytes, connection->answer.data, MHD_RESPMEM_PERSISTENT);
}

static void response_add_headers(struct MHD_Response *response, const struct serve_answer *answer)
{
        if (answer->content_type)
                MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, answer->content_type);
        for (size_t i = 0; i < answer->header_count; i++)
                MHD_add_response_header(response, answer->headers[i].name, answer->headers[i].value);
}

/*
 * Takes `response`. A resumed connection gets a timeout of its own for a second reason: libmicrohttpd visits connections that have one before it reads from sockets, so
 * that it starts to send. Otherwise it would first read the end of a half-closed peer, and drop the answer.
 */
static void response_queue(struct connection *connection, int status, struct MHD_Response *response, bool may_be_slow)
{
        bool was_suspended = connection->is_suspended;

        connection_end_wait(connection);
        if (was_suspended || may_be_slow)
                connection_set_timeout(connection, connection->serve->limits.write_timeout_ms);
        connection_may_stall(connection);
        bool queued = response && response_send(connection->mhd, (unsigned)status, response) == MHD_YES;
        if (response && response != connection->kept)
                MHD_destroy_response(response);   /* our reference */
        if (!queued)
                connection_close(connection);
        else if (was_suspended)
                connection_resume(connection);
}

void serve_answer(struct serve_request *request, const struct serve_answer *answer)
{
        ON_LOOP();
        struct connection *connection = connection_of_request(request);
        bool is_plain = answer->content_type && answer->header_count == 0 && answer->body_bytes > 0 && answer->body_bytes <= BUFFER_KEEP_BYTES &&
                        strlen(answer->content_type) < sizeof connection->kept_type;
        struct MHD_Response *response = is_plain ? response_take_kept(connection, answer) : NULL;

        if (!response && (response = response_of_body(connection, answer->body ? answer->body : "", answer->body_bytes))) {
                response_add_headers(response, answer);
                if (is_plain) {
                        connection->kept = response;
                        strcpy(connection->kept_type, answer->content_type);
                }
        }
        connection->serve->stats.bytes_sent += answer->body_bytes;
        connection_move(connection, PHASE_SENDING);
        response_queue(connection, answer->status, response, answer->body_bytes > BUFFER_KEEP_BYTES);
}

void answer_problem(struct connection *connection, int status, const char *detail, bool close)
{
        const char *body = serve_problem(connection->serve, status, detail);
        struct MHD_Response *response = response_of_body(connection, body, strlen(body));

        connection->serve->stats.refused++;
        if (response) {
                MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/problem+json");
                if (status == 429 || status == 503)
                        MHD_add_response_header(response, MHD_HTTP_HEADER_RETRY_AFTER, "1");
                if (close)
                        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
        }
        connection_move(connection, PHASE_SENDING);
        response_queue(connection, status, response, false);
}

void serve_answer_file(struct serve_request *request, const struct serve_answer *answer, int fd, uint64_t offset, uint64_t count)
{
        ON_LOOP();
        struct connection *connection = connection_of_request(request);
        struct MHD_Response *response = MHD_create_response_from_fd_at_offset64(count, fd, offset);

        if (response) {
                response_add_headers(response, answer);
                connection->serve->stats.bytes_sent += count;
        } else {
                close(fd);
        }
        connection_move(connection, PHASE_SENDING);
        response_queue(connection, answer->status, response, true);
}

/* ---- streams */

static void stream_free(struct serve_stream *stream)
{
        buffer_fini(&stream->queue);
        free(stream);
}

static ssize_t stream_read(void *arg, uint64_t position, char *buffer, size_t max)
{
        struct serve_stream *stream = arg;
        size_t left = stream->queue.used - stream->sent;
        (void)position;

        if (stream->is_broken || stream->connection->phase == PHASE_CLOSING)
                return MHD_CONTENT_READER_END_WITH_ERROR;
        if (left == 0) {
                buffer_clear(&stream->queue);
                stream->sent = 0;
                if (stream->is_closed)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                connection_suspend(stream->connection);
                return 0;
        }

        size_t count = left < max ? left : max;
        memcpy(buffer, stream->queue.data + stream->sent, count);
        stream->sent += count;
        stream->connection->serve->stats.bytes_sent += count;
        return (ssize_t)count;
}

struct serve_stream *serve_answer_stream(struct serve_request *request, const struct serve_answer *answer, void *data)
{
        ON_LOOP();
        struct connection *connection = connection_of_request(request);
        struct serve_stream *stream = memory_new(1, sizeof *stream);
        /* To a HEAD libmicrohttpd 0.9.75 would send the last chunk of a chunked body, which the client then takes for the start of the next answer. */
        bool has_body = strcmp(request->method, "HEAD") != 0;
        struct MHD_Response *response = has_body ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 4096, stream_read, stream, NULL) : response_of_body(connection, "", 0);

        *stream = (struct serve_stream){ .connection = connection, .data = data };
        if (response)
                response_add_headers(response, answer);
        connection->stream = stream;
        connection->serve->stats.streams++;
        connection_move(connection, PHASE_STREAMING);
        response_queue(connection, answer->status, response, true);
        return stream;
}

/* The peer has not taken what was written, or is gone: the rest is thrown away. */
void stream_break(struct serve_stream *stream)
{
        if (stream->is_broken)
                return;
        stream->is_broken = true;
        buffer_fini(&stream->queue);
        stream->sent = 0;
        if (stream->connection)
                connection_close(stream->connection);
}

void serve_stream_write(struct serve_stream *stream, const void *bytes, size_t size_bytes)
{
        ON_LOOP();
        if (stream->is_broken || stream->is_closed)
                return;
        if (stream->sent > 0 && stream->queue.used + size_bytes > STREAM_QUEUE_MAX_BYTES) {
                memmove(stream->queue.data, stream->queue.data + stream->sent, stream->queue.used - stream->sent);
                stream->queue.used -= stream->sent;
                stream->sent = 0;
        }
        if (stream->queue.used + size_bytes > STREAM_QUEUE_MAX_BYTES || !buffer_append(&stream->queue, bytes, size_bytes)) {
                stream_break(stream);
                return;
        }
        if (stream->connection->is_suspended)
                connection_resume(stream->connection);
}

void serve_stream_close(struct serve_stream **stream_ref)
{
        struct serve_stream *stream = TAKE(*stream_ref);

        if (!stream)
                return;
        ON_LOOP();
        stream->is_closed = true;
        if (stream->connection && stream->connection->is_suspended)
                connection_resume(stream->connection);
        else if (!stream->connection && !stream->is_told)
                stream_free(stream);
}

void *serve_stream_get_data(const struct serve_stream *stream)
{
        return stream->data;
}

/* libmicrohttpd is done with the connection's answer; it does not read from the stream again. */
void stream_connection_done(struct connection *connection)
{
        struct serve_stream *stream = TAKE(connection->stream);
        struct serve *serve = connection->serve;

        stream->connection = NULL;
        serve->stats.streams--;
        if (stream->is_closed) {
                stream_free(stream);
                return;
        }
        stream->is_broken = true;
        stream->is_told = true;
        stream->next_gone = serve->streams_gone;
        serve->streams_gone = stream;
        serve_run_soon(serve);
}

void stream_tell_gone(struct serve *serve)
{
        while (serve->streams_gone) {
                struct serve_stream *stream = serve->streams_gone;
                serve->streams_gone = stream->next_gone;
                if (!stream->is_closed)
                        serve->handler.stream_gone(serve->handler.arg, stream);
                stream_free(stream);
        }
}
