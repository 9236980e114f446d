/*
 * How it goes: one walk over the sections of the module, remembering those that signatures are about. Nothing is copied; offsets are into the module.
 * How it fails: a header of anything but a core module, a section that ends behind the module, a name that ends behind its section: miss, and no part of it is trusted.
 * How it ends: nothing is kept.
 */
#include <string.h>
#include "plain.h"
#include "wasm.h"

struct reader reader_of(struct span bytes)
{
        return (struct reader){ bytes.bytes, (const uint8_t *)bytes.bytes + bytes.size_bytes, false };
}

uint32_t reader_get_varuint32(struct reader *reader)
{
        uint32_t number = 0;

        for (unsigned shift = 0; shift < 35 && !reader->bad && reader->at < reader->end; shift += 7) {
                uint8_t byte = *reader->at++;

                if (shift == 28 && byte > 0x0f)
                        break;
                number |= (uint32_t)(byte & 0x7f) << shift;
                if (byte < 0x80)
                        return number;
        }
        reader->bad = true;
        return 0;
}

struct span reader_get_bytes(struct reader *reader, size_t size_bytes)
{
        if (reader->bad || size_bytes > (size_t)(reader->end - reader->at)) {
                reader->bad = true;
                return SPAN("", 0);
        }
        reader->at += size_bytes;
        return SPAN(reader->at - size_bytes, size_bytes);
}

struct reader reader_get_part(struct reader *reader)
{
        return reader_of(reader_get_bytes(reader, reader_get_varuint32(reader)));
}

bool reader_is_empty(const struct reader *reader)
{
        return !reader->bad && reader->at == reader->end;
}

static bool name_is(struct span name, const char *expected)
{
        return name.size_bytes == strlen(expected) && memcmp(name.bytes, expected, name.size_bytes) == 0;
}

/* A delimiter ends a part. Which bytes it holds does not matter: they are hashed like all others. */
static void layout_note(struct wasm_layout *layout, struct span name, const struct wasm_section *section)
{
        if (name_is(name, "signature") && layout->signature_count++ == 0)
                layout->signature = *section;
        if (name_is(name, "signature_wasmsign")) {
                layout->wasmsign1_count++;
                layout->wasmsign1 = *section;
        }
        if (name_is(name, "signature_delimiter")) {
                if (layout->part_count < WASM_PARTS_MAX)
                        layout->part_ends[layout->part_count] = section->end;
                layout->part_count++;
        }
}

static bool layout_read(struct span module, struct wasm_layout *ret_layout)
{
        const uint8_t *start = module.bytes;
        struct reader reader = reader_of(module);
        struct wasm_layout layout = { 0 };
        size_t last_end = 0;

        reader_get_bytes(&reader, WASM_HEADER_BYTES);
        while (!reader.bad && reader.at < reader.end) {
                struct wasm_section section = { .start = (size_t)(reader.at - start) };
                uint8_t id = *reader.at++;
                struct reader body = reader_get_part(&reader);

                section.end = (size_t)(reader.at - start);
                if (id != 0)
                        continue;
                struct span name = reader_get_bytes(&body, reader_get_varuint32(&body));
                if (body.bad)
                        return false;
                section.payload = SPAN(body.at, (size_t)(body.end - body.at));
                size_t parts = layout.part_count;
                layout_note(&layout, name, &section);
                last_end = layout.part_count > parts ? section.end : last_end;
        }
        if (last_end < module.size_bytes) {
                if (layout.part_count < WASM_PARTS_MAX)
                        layout.part_ends[layout.part_count] = module.size_bytes;
                layout.part_count++;
        }
        *ret_layout = layout;
        return !reader.bad;
}

bool wasm_is_module(struct span bytes)
{
        return bytes.size_bytes >= 4 && memcmp(bytes.bytes, "\0asm", 4) == 0;
}

bool wasm_take(struct judgement *judgement, const char *what, struct span *ret_module, struct wasm_layout *ret_layout)
{
        const struct trust_target *target = judgement->target;
        struct span module = SPAN(target->bytes, target->size_bytes);

        if (target->kind == TRUST_TARGET_FILE && !wasm_is_module(module))
                return miss(judgement->failure, TRUST_NOT_ACCEPTED, "%s is judged on the module itself, not on what it was delivered in", what);
        if (module.size_bytes < WASM_HEADER_BYTES || memcmp(module.bytes, "\0asm\1\0\0\0", WASM_HEADER_BYTES) != 0)
                return miss(judgement->failure, TRUST_MALFORMED, "the header is not that of a core Wasm module of version 1, and no wasm signature covers another");
        if (!layout_read(module, ret_layout))
                return miss(judgement->failure, TRUST_MALFORMED, "the sections of the module do not add up: it is cut off or damaged");
        *ret_module = module;
        return true;
}
