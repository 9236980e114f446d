/*
 * How it goes: libyaml's events of one document, read by recursive descent whose depth is bounded; plain scalars become null, booleans (true, false), numbers or strings.
 * How it fails: with the line and what is wrong there; anchors, aliases, tags, merge keys and duplicate keys are refused: configuration has no use for them.
 * How it ends: the parser is deleted, half a tree freed; what libyaml held of the text is wiped first, it may have been a Secret.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <wasmcached/base/map.h>
#include <wasmcached/base/memory.h>
#include <yaml.h>
#include "value_node.h"

struct reader { yaml_parser_t parser; size_t nodes, nodes_max; enum error_code code; struct error *err; };

static bool refuse_at(struct reader *reader, const yaml_mark_t *mark, const char *what)
{
        return refuse(reader->err, reader->code, "line %zu: %s", mark->line + 1, what);
}

static bool event_next(struct reader *reader, yaml_event_t *event)
{
        if (yaml_parser_parse(&reader->parser, event))
                return true;
        const char *problem = reader->parser.problem ? reader->parser.problem : "not valid YAML";
        size_t line = reader->parser.problem_mark.line ? reader->parser.problem_mark.line : reader->parser.context_mark.line;
        return refuse(reader->err, reader->code, "line %zu: %s", line + 1, problem);
}

static bool is_any(const char *text, const char *const *texts)
{
        for (; *texts; texts++)
                if (strcmp(text, *texts) == 0)
                        return true;
        return false;
}

/* Core scalars. A number with a leading zero ("0666") stays text: people mean octal modes or digits by it. */
static void plain_resolve(struct value *node)
{
        static const char *const nulls[] = { "", "~", "null", "Null", "NULL", NULL };
        static const char *const truths[] = { "true", "True", "TRUE", NULL }, *const lies[] = { "false", "False", "FALSE", NULL };
        const char *digits = node->text + (*node->text == '-' || *node->text == '+');
        size_t count = strspn(digits, "0123456789");
        char *end;

        if (is_any(node->text, nulls)) {
                node->kind = VALUE_NULL;
        } else if (is_any(node->text, truths) || is_any(node->text, lies)) {
                node->kind = VALUE_BOOL;
                node->integer = is_any(node->text, truths);
        } else if (count > 0 && digits[count] == '\0' && (digits[0] != '0' || count == 1)) {
                errno = 0;
                node->integer = strtoll(node->text, NULL, 10);
                node->kind = errno == 0 ? VALUE_INT : VALUE_REAL;
                node->real = errno == 0 ? 0 : strtod(node->text, NULL);
                if (node->kind == VALUE_REAL && !isfinite(node->real))
                        node->kind = VALUE_TEXT;
        } else if (count > 0 && (digits[0] != '0' || digits[1] == '.') && strspn(digits, "0123456789.eE+-") == strlen(digits)) {
                node->real = strtod(node->text, &end);
                node->kind = *end == '\0' && isfinite(node->real) ? VALUE_REAL : VALUE_TEXT;
        }
}

static void scalar_wipe(unsigned char *text, size_t size_bytes)
{
        if (text)
                explicit_bzero(text, size_bytes);
}

static void event_done(yaml_event_t *event)
{
        if (event->type == YAML_SCALAR_EVENT)
                scalar_wipe(event->data.scalar.value, event->data.scalar.length);
        yaml_event_delete(event);
}

static void parser_done(yaml_parser_t *parser)
{
        for (yaml_token_t *token = parser->tokens.head; token != parser->tokens.tail; token++)
                if (token->type == YAML_SCALAR_TOKEN)
                        scalar_wipe(token->data.scalar.value, token->data.scalar.length);
        scalar_wipe(parser->raw_buffer.start, (size_t)(parser->raw_buffer.end - parser->raw_buffer.start));
        scalar_wipe(parser->buffer.start, (size_t)(parser->buffer.end - parser->buffer.start));
        yaml_parser_delete(parser);
}

static bool node_read(struct reader *reader, const yaml_event_t *event, unsigned depth, struct value *node);

static bool scalar_read(struct reader *reader, const yaml_event_t *event, struct value *node)
{
        const char *text = (const char *)event->data.scalar.value;

        if (memchr(text, '\0', event->data.scalar.length))
                return refuse_at(reader, &event->start_mark, "a NUL character");
        node->kind = VALUE_TEXT;
        node->text_bytes = event->data.scalar.length;
        node->text = string_copy_bytes(text, node->text_bytes);
        if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                plain_resolve(node);
        return true;
}

/* `seen` finds a key among many: a file of a hundred thousand keys is read in no time too. */
static bool key_read(struct reader *reader, const yaml_event_t *event, struct value *map, struct map *seen)
{
        char text[160], shown[80];

        if (event->type != YAML_SCALAR_EVENT)
                return refuse_at(reader, &event->start_mark, "a key must be a string");
        if (event->data.scalar.anchor || event->data.scalar.tag)
                return refuse_at(reader, &event->start_mark, "anchors and tags are not supported");
        const char *key = (const char *)event->data.scalar.value;
        snprintf(text, sizeof text, "key \"%s\" is there twice", string_printable(key, strlen(key), shown, sizeof shown));
        if (strcmp(key, "<<") == 0)
                return refuse_at(reader, &event->start_mark, "merge keys (<<) are not supported");
        if (memchr(key, '\0', event->data.scalar.length))
                return refuse_at(reader, &event->start_mark, "a NUL character");
        if (map_get_text(seen, key))
                return refuse_at(reader, &event->start_mark, text);
        value_add_child(map);
        map->keys[map->count++] = string_copy(key);
        map_put_text(seen, key, map);
        return true;
}

static bool children_read(struct reader *reader, yaml_event_type_t end, unsigned depth, struct value *node)
{
        bool is_map = node->kind == VALUE_MAP;
        CLEANUP(map_free) struct map *seen = is_map ? map_new(NULL) : NULL;

        for (;;) {
                yaml_event_t event;
                size_t line;

                if (!event_next(reader, &event))
                        return false;
                bool is_end = event.type == end;
                bool is_good = is_end || (is_map ? key_read(reader, &event, node, seen)
                                                 : (value_add_child(node), node->count++, node_read(reader, &event, depth, &node->items[node->count - 1])));
                line = event.start_mark.line + 1;
                event_done(&event);
                if (is_end || !is_good)
                        return is_good;
                if (!is_map)
                        continue;
                if (!event_next(reader, &event))
                        return false;
                is_good = node_read(reader, &event, depth, &node->items[node->count - 1]);
                node->items[node->count - 1].line = line;          /* the line of the key is what a person looks for */
                event_done(&event);
                if (!is_good)
                        return false;
        }
}

static bool node_read(struct reader *reader, const yaml_event_t *event, unsigned depth, struct value *node)
{
        node->line = event->start_mark.line + 1;
        if (depth > VALUE_DEPTH_MAX && event->type != YAML_SCALAR_EVENT)
                return refuse_at(reader, &event->start_mark, "nested too deeply");
        if (++reader->nodes > reader->nodes_max)
                return refuse_at(reader, &event->start_mark, "too many values");
        switch (event->type) {
        case YAML_SCALAR_EVENT:
                if (event->data.scalar.anchor || event->data.scalar.tag)
                        return refuse_at(reader, &event->start_mark, "anchors and tags are not supported");
                return scalar_read(reader, event, node);
        case YAML_SEQUENCE_START_EVENT:
                if (event->data.sequence_start.anchor || event->data.sequence_start.tag)
                        return refuse_at(reader, &event->start_mark, "anchors and tags are not supported");
                node->kind = VALUE_LIST;
                return children_read(reader, YAML_SEQUENCE_END_EVENT, depth + 1, node);
        case YAML_MAPPING_START_EVENT:
                if (event->data.mapping_start.anchor || event->data.mapping_start.tag)
                        return refuse_at(reader, &event->start_mark, "anchors and tags are not supported");
                node->kind = VALUE_MAP;
                node->keys = memory_new(1, sizeof *node->keys);
                return children_read(reader, YAML_MAPPING_END_EVENT, depth + 1, node);
        case YAML_ALIAS_EVENT:
                return refuse_at(reader, &event->start_mark, "aliases (*) are not supported");
        default:
                return refuse_at(reader, &event->start_mark, "a value was expected");
        }
}

static void empty_becomes_map(struct value *root)
{
        if (root->kind != VALUE_NULL || root->keys)
                return;
        free(TAKE(root->text));
        *root = (struct value){ .kind = VALUE_MAP, .line = 1, .keys = memory_new(1, sizeof *root->keys) };
}

/* Stream start, then documents, each with its one node, and nothing but the end. `many`: each one into the list `root`, without those that say nothing. */
static bool stream_read(struct reader *reader, bool many, struct value *root)
{
        bool is_done = false;

        for (size_t documents = 0; !is_done;) {
                yaml_event_t event;

                if (!event_next(reader, &event))
                        return false;
                bool is_good = true;
                if (event.type == YAML_DOCUMENT_START_EVENT && ++documents > 1 && !many)
                        is_good = refuse_at(reader, &event.start_mark, "a second document; only one is read");
                else if (event.type == YAML_STREAM_END_EVENT)
                        is_done = true;
                else if (event.type != YAML_STREAM_START_EVENT && event.type != YAML_DOCUMENT_START_EVENT && event.type != YAML_DOCUMENT_END_EVENT) {
                        struct value *node = many ? value_add_child(root) : root;
                        root->count += many;
                        is_good = node_read(reader, &event, 1, node);
                        if (many && is_good && node->kind == VALUE_NULL) {
                                free(TAKE(node->text));
                                root->count--;
                        }
                }
                event_done(&event);
                if (!is_good)
                        return false;
        }
        return true;
}

static bool text_read(const char *text, size_t size_bytes, bool many, struct reader *reader, struct value *root)
{
        if (!yaml_parser_initialize(&reader->parser))
                return refuse(reader->err, ERROR_INTERNAL, "out of memory");
        yaml_parser_set_input_string(&reader->parser, (const unsigned char *)(text ? text : ""), size_bytes);
        bool is_read = stream_read(reader, many, root);
        parser_done(&reader->parser);
        return is_read;
}

bool yaml_parse(const char *text, size_t size_bytes, enum error_code code, struct value **ret_value, struct error *err)
{
        struct reader reader = { .nodes_max = VALUE_NODES_MAX, .code = code, .err = err };
        CLEANUP(value_free) struct value *root = memory_new(1, sizeof *root);

        if (!text_read(text, size_bytes, false, &reader, root))
                return false;
        empty_becomes_map(root);
        *ret_value = TAKE(root);
        return true;
}

bool yaml_parse_all(const char *text, size_t size_bytes, enum error_code code, struct value **ret_list, struct error *err)
{
        struct reader reader = { .nodes_max = VALUE_STREAM_NODES_MAX, .code = code, .err = err };
        CLEANUP(value_free) struct value *root = memory_new(1, sizeof *root);

        *root = (struct value){ .kind = VALUE_LIST, .line = 1 };
        if (!text_read(text, size_bytes, true, &reader, root))
                return false;
        *ret_list = TAKE(root);
        return true;
}
