/*
 * How it goes: the note is split at its last blank line; its text has origin, size and root in the first three lines, its signatures follow line by line.
 * How it fails: anything that is no such note is refused whole; a signature line that is none spoils the note, as in Go's note.Open.
 * How it ends: the checkpoint borrows the note.
 *
 * Rules: 7.2; C2SP signed-note and tlog-checkpoint.
 */
#include <string.h>
#include "rekor.h"

static const char dash[] = "\xe2\x80\x94 ";

/* Decimal without sign or leading zeros; `length` is not 0. */
static bool size_read(const char *line, size_t length, uint64_t *ret_size)
{
        uint64_t size = 0;

        if (length > 18 || (length > 1 && line[0] == '0'))
                return false;
        for (size_t i = 0; i < length; i++) {
                if (line[i] < '0' || line[i] > '9')
                        return false;
                size = size * 10 + (uint64_t)(line[i] - '0');
        }
        *ret_size = size;
        return true;
}

static bool root_read(const char *line, size_t length, uint8_t ret_root[LOG_HASH_BYTES])
{
        uint8_t bytes[64];
        size_t size = 0;

        if (length != 44 || !base64_decode(line, length, false, bytes, &size) || size != LOG_HASH_BYTES)
                return false;
        memcpy(ret_root, bytes, LOG_HASH_BYTES);
        return true;
}

static const char *last_blank_line(const char *note, size_t length)
{
        for (size_t i = length; i > 1; i--)
                if (note[i - 1] == '\n' && note[i - 2] == '\n')
                        return note + i - 2;
        return NULL;
}

/* Text of a note: lines of printable characters, each ended by a newline. */
static bool shape_check(const char *note, size_t length, const char **ret_blank)
{
        for (size_t i = 0; i < length; i++)
                if (((unsigned char)note[i] < 0x20 && note[i] != '\n') || note[i] == 0x7f)
                        return false;
        *ret_blank = last_blank_line(note, length);
        return *ret_blank && *ret_blank != note && *ret_blank + 2 < note + length && note[length - 1] == '\n';
}

bool checkpoint_parse(const char *note, struct checkpoint *ret_checkpoint, struct error *err)
{
        size_t length = strnlen(note, CHECKPOINT_BYTES_MAX + 1), lengths[3];
        struct checkpoint checkpoint = { 0 };
        const char *blank, *at = note, *lines[3];

        if (length > CHECKPOINT_BYTES_MAX)
                return refuse(err, ERROR_SIGNATURE_INVALID, "checkpoint: more than %d bytes", CHECKPOINT_BYTES_MAX);
        if (!shape_check(note, length, &blank))
                return refuse(err, ERROR_SIGNATURE_INVALID, "checkpoint: is no signed note");
        for (size_t i = 0; i < COUNT_OF(lines); i++) {
                lines[i] = at;
                lengths[i] = at <= blank ? strcspn(at, "\n") : 0;
                at += lengths[i] + (at <= blank);
                if (lengths[i] == 0)
                        return refuse(err, ERROR_SIGNATURE_INVALID, "checkpoint: has no three lines");
        }
        if (!size_read(lines[1], lengths[1], &checkpoint.size) || !root_read(lines[2], lengths[2], checkpoint.root))
                return refuse(err, ERROR_SIGNATURE_INVALID, "checkpoint: its size is no number or its root no hash");
        checkpoint.text = SPAN(note, (size_t)(blank + 1 - note));
        checkpoint.origin = lines[0];
        checkpoint.origin_bytes = lengths[0];
        checkpoint.lines = blank + 2;
        checkpoint.end = note + length;
        *ret_checkpoint = checkpoint;
        return true;
}

/* "— NAME BASE64(key id, signature)"; what a witness signs with may be of any size, so only the key id is decoded here. */
static bool line_read(const char *line, size_t length, struct checkpoint_line *ret_line)
{
        size_t head = sizeof dash - 1, size;
        const char *name = line + head, *space;
        uint8_t bytes[9];

        if (length <= head || memcmp(line, dash, head) != 0 || !(space = memchr(name, ' ', length - head)) || space == name)
                return false;
        const char *text = space + 1;
        size_t text_bytes = (size_t)(line + length - text);
        if (text_bytes <= 8 || !base64_decode(text, 8, false, bytes, &size))
                return false;
        *ret_line = (struct checkpoint_line){ .name = name, .name_bytes = (size_t)(space - name), .text = text, .text_bytes = text_bytes };
        memcpy(ret_line->key_id, bytes, sizeof ret_line->key_id);
        return true;
}

bool checkpoint_line_next(const struct checkpoint *checkpoint, const char **at, struct checkpoint_line *ret_line, bool *ret_bad)
{
        *ret_bad = false;
        if (*at >= checkpoint->end)
                return false;

        size_t length = strcspn(*at, "\n");
        *ret_bad = !line_read(*at, length, ret_line);
        *at += length + 1;
        return !*ret_bad;
}
