/*
 * How it goes: the blocks that libarchive has read for one entry are looked through once more for what it does not show or quietly mends: names with NUL or control characters
 *              in any of the places where they can stand, and sizes that another reader would take for something else.
 * How it fails: the first such field is named (ERROR_UNSUPPORTED_IMAGE). What is malformed in other ways is libarchive's to say.
 * How it ends: pure function of the bytes.
 *
 * Rules: [oci] 5.3 (4); POSIX pax, ustar interchange format; two sizes for one entry: CVE-2025-62518.
 */
#include <string.h>
#include "tar_header.h"

enum { BLOCK_BYTES = 512, NAME_BYTES = 100, SIZE_AT = 124, SIZE_BYTES = 12, TYPE_AT = 156, MAGIC_AT = 257, PREFIX_AT = 345, PREFIX_BYTES = 155,
       STAR_PREFIX_BYTES = 131, STAR_MAGIC_AT = 508 };

struct header { const uint8_t *block; uint64_t size_bytes; unsigned char type; };

static bool refuse_field(int entry, const char *what, struct error *err)
{
        return refuse(err, ERROR_UNSUPPORTED_IMAGE, "entry %d of the tar archive has %s", entry + 1, what);
}

/* Up to the first NUL; only more of them may follow. */
static bool name_check(const uint8_t *name, size_t room, int entry, struct error *err)
{
        size_t length = strnlen((const char *)name, room);
        for (size_t i = 0; i < length; i++)
                if (name[i] < ' ' || name[i] == 0x7f)
                        return refuse_field(entry, "a control character in its name", err);
        for (size_t i = length; i < room; i++)
                if (name[i] != '\0')
                        return refuse_field(entry, "a NUL inside its name", err);
        return true;
}

/* Octal digits with blanks before and a blank or NUL behind, or the high bit and a number to the base 256. */
static bool field_parse(const uint8_t *field, uint64_t *ret_size)
{
        uint64_t size = 0;
        size_t at = 0;
        if (field[0] & 0x80) {
                for (size_t i = 1; i < SIZE_BYTES; i++) {
                        if (size >> 54 != 0)
                                return false;
                        size = size << 8 | field[i];
                }
                *ret_size = size;
                return field[0] == 0x80;          /* 0xff: negative */
        }
        while (at < SIZE_BYTES && field[at] == ' ')
                at++;
        for (; at < SIZE_BYTES && field[at] >= '0' && field[at] <= '7'; at++)
                size = size << 3 | (uint64_t)(field[at] - '0');
        for (; at < SIZE_BYTES; at++)
                if (field[at] != ' ' && field[at] != '\0')
                        return false;
        *ret_size = size;
        return true;
}

/* ---- pax: "LENGTH KEY=VALUE\n" */
struct record { const uint8_t *key, *value; size_t key_bytes, value_bytes; };

static bool record_next(const uint8_t **at, const uint8_t *end, struct record *ret_record)
{
        size_t length = 0, digits = 0;
        const uint8_t *start = *at;
        for (; start + digits < end && start[digits] >= '0' && start[digits] <= '9' && digits < 9; digits++)
                length = length * 10 + (size_t)(start[digits] - '0');
        if (digits == 0 || length > (size_t)(end - start) || length < digits + 3 || start[digits] != ' ' || start[length - 1] != '\n')
                return false;
        const uint8_t *key = start + digits + 1, *stop = start + length - 1, *equals = memchr(key, '=', (size_t)(stop - key));
        if (!equals)
                return false;
        *ret_record = (struct record){ key, equals + 1, (size_t)(equals - key), (size_t)(stop - equals - 1) };
        *at = start + length;
        return true;
}

static bool record_is(const struct record *record, const char *key)
{
        return record->key_bytes == strlen(key) && memcmp(record->key, key, record->key_bytes) == 0;
}

static bool record_read_size(const struct record *record, uint64_t *ret_size)
{
        uint64_t size = 0;
        for (size_t i = 0; i < record->value_bytes; i++) {
                if (record->value[i] < '0' || record->value[i] > '9' || i == 18)
                        return false;
                size = size * 10 + (uint64_t)(record->value[i] - '0');
        }
        *ret_size = size;
        return record->value_bytes > 0;
}

static bool records_check(const uint8_t *bytes, size_t size_bytes, struct tar_pax *pax, int entry, struct error *err)
{
        const uint8_t *end = bytes + size_bytes;
        struct record record;
        while (bytes < end && record_next(&bytes, end, &record)) {
                bool is_name = record_is(&record, "path") || record_is(&record, "GNU.sparse.name");
                if (is_name && memchr(record.value, '\0', record.value_bytes))
                        return refuse_field(entry, "a NUL inside its name (pax record)", err);
                if (is_name && !name_check(record.value, record.value_bytes, entry, err))
                        return false;
                if (!record_is(&record, "size"))
                        continue;
                pax->has_size = true;
                if (!record_read_size(&record, &pax->size_bytes))
                        return refuse_field(entry, "a size that is no number (pax record)", err);
        }
        return true;
}

/* ---- the entry itself */
static bool entry_check(const struct header *header, const struct tar_pax *pax, int entry, struct error *err)
{
        const uint8_t *block = header->block;
        bool is_posix = memcmp(block + MAGIC_AT, "ustar\0", 6) == 0;
        size_t prefix_bytes = memcmp(block + STAR_MAGIC_AT, "tar\0", 4) == 0 ? STAR_PREFIX_BYTES : PREFIX_BYTES;
        if (!name_check(block, NAME_BYTES, entry, err) || (is_posix && !name_check(block + PREFIX_AT, prefix_bytes, entry, err)))
                return false;
        if (header->type == '1' && header->size_bytes > 0)
                return refuse_field(entry, "a size, but is a hard link: readers disagree on what follows it", err);
        if (pax->has_size && pax->size_bytes != header->size_bytes)
                return refuse_field(entry, "two sizes, one in its header and another in a pax record: readers disagree on what follows it", err);
        return true;
}

bool tar_header_check(const uint8_t *bytes, size_t size_bytes, int entry, struct error *err)
{
        struct tar_pax pax = { 0 };
        while (size_bytes >= BLOCK_BYTES) {
                struct header header = { .block = bytes, .type = bytes[TYPE_AT] };
                if (!field_parse(bytes + SIZE_AT, &header.size_bytes))
                        return refuse_field(entry, "a size that is no number", err);
                if (header.type == '\0' || !strchr("xXgLKAV", header.type))
                        return entry_check(&header, &pax, entry, err);

                bytes += BLOCK_BYTES;
                size_bytes -= BLOCK_BYTES;
                if (header.size_bytes > size_bytes)
                        return true;
                bool is_good = header.type == 'L'           ? name_check(bytes, (size_t)header.size_bytes, entry, err)
                               : strchr("xXg", header.type) ? records_check(bytes, (size_t)header.size_bytes, &pax, entry, err)
                                                            : true;
                if (!is_good)
                        return false;
                uint64_t padded = (header.size_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
                size_t step = padded < size_bytes ? (size_t)padded : size_bytes;
                bytes += step;
                size_bytes -= step;
        }
        return true;
}
