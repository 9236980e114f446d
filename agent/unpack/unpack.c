/*
 * How it goes: streams are stacked as the media type (layers) or the magics (bodies) say; the innermost one's first bytes must be a core module before anything goes to the
 *              sink; then piece after piece goes there.
 * How it fails: with the error of the stream that noticed; a box that is not what was promised; too many boxes; a module over its limit. Cut short is never an answer.
 * How it ends: the stack is freed from the top; what went to the sink is the sink owner's.
 */
#include <stdlib.h>
#include <string.h>
#include "stream.h"

const struct unpack_limits unpack_limits_default = {
        .module_max_bytes = 256u << 20, .ratio_max = 200, .ratio_free_bytes = 1u << 20, .tar_entries_max = 10000, .expanded_max_bytes = 1u << 30,
};

struct stack { struct stream *streams[2 + UNPACK_BOXES_MAX]; size_t used; };     /* the file, then boxes and a proof */

static void stack_fini(struct stack *stack)
{
        while (stack->used > 0)
                stream_free(&stack->streams[--stack->used]);
}

static struct stream *stack_push(struct stack *stack, struct stream *stream)
{
        stack->streams[stack->used++] = stream;
        return stream;
}

/* It is no module, but damage of what it came in says more: a tar that ends too early, a second plugin.wasm. Read to the end, within the limits. */
static bool boxes_tell(struct stream *module, struct error *err)
{
        struct error damage = { 0 };
        const uint8_t *bytes;
        size_t piece_bytes = 1;
        while (module->below && piece_bytes > 0)
                if (!stream_next(module, &bytes, &piece_bytes, &damage)) {
                        if (damage.code != ERROR_NONE)
                                *err = damage;
                        break;
                }
        return false;
}

/* The innermost stream, whose head was looked at. */
static bool module_pump(struct stream *module, struct sink *sink, struct error *err)
{
        uint64_t total_bytes = 0, limit_bytes = module->run->limits->module_max_bytes;
        uint64_t size_bytes = module->head_bytes < sizeof module->head ? module->head_bytes : UINT64_MAX;
        if (!unpack_check_wasm(module->head, module->head_bytes, size_bytes, err))
                return boxes_tell(module, err);

        for (;;) {
                const uint8_t *bytes;
                size_t piece_bytes;
                if (!stream_next(module, &bytes, &piece_bytes, err))
                        return false;
                if (piece_bytes == 0)
                        return true;
                total_bytes += piece_bytes;
                if (total_bytes > limit_bytes)
                        return refuse(err, ERROR_TOO_LARGE, "the module has more than %llu bytes (pull.max_module_size)", (unsigned long long)limit_bytes);
                if (!sink->write(sink, bytes, piece_bytes, err))
                        return false;
        }
}

static const struct { const char *promise; enum kind kind; struct stream *(*open)(struct stream *below); } boxes[] = {
        [UNPACK_PLAIN] = { "a plain tar archive",  KIND_TAR,  NULL },
        [UNPACK_GZIP]  = { "a tar archive in gzip", KIND_GZIP, gzip_stream_new },
        [UNPACK_ZSTD]  = { "a tar archive in zstd", KIND_ZSTD, zstd_stream_new },
};

static bool layer_check(const struct stream *stream, enum kind kind, const char *promise, struct error *err)
{
        if (kind_detect(stream->head, stream->head_bytes) == kind)
                return true;
        const char *hint = kind_detect(stream->head, stream->head_bytes) == KIND_WASM ? "; push a bare module as application/wasm" : "";
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the layer's media type promises %s, but %s is %s%s", promise, stream->below ? "what is compressed in it" : "it",
                kind_describe(stream->head, stream->head_bytes), hint);
}

static enum unpack_box box_sniff(const struct stream *stream)
{
        for (size_t i = 0; i < COUNT_OF(boxes); i++)
                if (boxes[i].open && boxes[i].kind == kind_detect(stream->head, stream->head_bytes))
                        return (enum unpack_box)i;
        return UNPACK_PLAIN;
}

bool unpack_layer(const struct unpack_source *source, enum unpack_box box, const struct unpack_limits *limits, struct cancel *cancel, struct sink *sink, struct error *err)
{
        struct unpack_run run = { .limits = limits, .cancel = cancel, .source_bytes = source->size_bytes };
        CLEANUP(stack_fini) struct stack stack = { 0 };
        struct stream *top = stack_push(&stack, file_stream_new(&run, source));
        if (!stream_peek(top, err))
                return false;
        /* Under the plain type anything that holds a tar is taken, as containerd does; a promise of gzip or zstd has to be kept. */
        if (box == UNPACK_PLAIN)
                box = box_sniff(top);
        if (!layer_check(top, boxes[box].kind, boxes[box].promise, err))
                return false;

        if (boxes[box].open) {
                top = stack_push(&stack, boxes[box].open(top));
                if (!stream_peek(top, err) || !layer_check(top, KIND_TAR, boxes[box].promise, err))
                        return false;
        }
        if (source->expanded)
                top = stack_push(&stack, proof_stream_new(top, source->expanded));
        top = stack_push(&stack, tar_stream_new_layer(top));
        return stream_peek(top, err) && module_pump(top, sink, err);
}

/* One try; ERROR_NONE: a tar's choice was learnt, try again. */
static bool body_try(const struct unpack_source *source, struct unpack_run *run, int choices[UNPACK_BOXES_MAX], struct sink *sink, struct error *err)
{
        CLEANUP(stack_fini) struct stack stack = { 0 };
        struct stream *top = stack_push(&stack, file_stream_new(run, source));
        for (;;) {
                if (!stream_peek(top, err))
                        return false;
                enum kind kind = kind_detect(top->head, top->head_bytes);
                if (kind != KIND_GZIP && kind != KIND_ZSTD && kind != KIND_TAR)
                        return module_pump(top, sink, err);
                if (stack.used > UNPACK_BOXES_MAX)
                        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "the body is boxed too deep: after %d boxes (gzip, zstd, tar) it is still %s", UNPACK_BOXES_MAX,
                                kind_describe(top->head, top->head_bytes));
                top = stack_push(&stack, kind == KIND_GZIP ? gzip_stream_new(top) : kind == KIND_ZSTD ? zstd_stream_new(top) : tar_stream_new_body(top, &choices[stack.used - 1]));
        }
}

bool unpack_body(const struct unpack_source *source, const struct unpack_limits *limits, struct cancel *cancel, struct sink *sink, struct error *err)
{
        int choices[UNPACK_BOXES_MAX] = { TAR_CHOICE_UNKNOWN, TAR_CHOICE_UNKNOWN, TAR_CHOICE_UNKNOWN };
        for (unsigned tries = 0; tries <= UNPACK_BOXES_MAX; tries++) {
                struct unpack_run run = { .limits = limits, .cancel = cancel, .source_bytes = source->size_bytes };
                struct error inner = { 0 };
                if (body_try(source, &run, choices, sink, &inner))
                        return true;
                if (inner.code != ERROR_NONE) {
                        *err = inner;
                        return false;
                }
        }
        return refuse(err, ERROR_INTERNAL, "the archives of the body could not be told apart");
}
