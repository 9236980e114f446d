/* Any stream of bytes, as list and as watch: however it is chunked, the same pieces come out, or the same refusal. The first byte seeds the chunks. */
#include <stdlib.h>
#include <string.h>
#include "../../agent/kube/room.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECE_MAX = 256 };

struct probe { struct cut cut; struct buffer seen; };

static bool on_object(struct cut *cut, const struct cut_piece *piece, struct error *err)
{
        struct probe *probe = CONTAINER_OF(cut, struct probe, cut);
        struct cut_names names;
        (void)err;
        if (piece->size_bytes == 0 || piece->size_bytes > PIECE_MAX || piece->bytes[0] != '{' || (!piece->is_cut && piece->bytes[piece->size_bytes - 1] != '}'))
                abort();
        cut_names_find(piece->bytes, piece->size_bytes, &names);
        buffer_printf(&probe->seen, "object %d %s/%s ", piece->is_cut, names.namespace ? names.namespace : "-", names.name ? names.name : "-");
        buffer_append(&probe->seen, piece->bytes, piece->size_bytes);
        cut_names_fini(&names);
        return true;
}

static bool on_envelope(struct cut *cut, const char *bytes, size_t size_bytes, struct error *err)
{
        struct probe *probe = CONTAINER_OF(cut, struct probe, cut);
        (void)err;
        buffer_append_text(&probe->seen, "envelope ");
        buffer_append(&probe->seen, bytes, size_bytes);
        return true;
}

static void run(enum cut_mode mode, const uint8_t *data, size_t size, unsigned seed, struct buffer *ret_seen)
{
        struct probe probe = { .cut = { .mode = mode, .piece_bytes_max = PIECE_MAX, .object = on_object, .envelope = on_envelope } };
        struct error err = { 0 };
        bool good = true;
        cut_init(&probe.cut);
        for (size_t at = 0; good && at < size;) {
                seed = seed * 1103515245u + 12345u;
                size_t length = seed == 0 || ret_seen->limit ? size : 1 + (seed >> 16) % 9;
                length = length < size - at ? length : size - at;
                good = cut_write(&probe.cut, data + at, length, &err);
                at += length;
        }
        buffer_printf(&probe.seen, " %d %d %s", good, good && cut_is_between(&probe.cut), err.text);
        cut_fini(&probe.cut);
        *ret_seen = probe.seen;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        for (int mode = CUT_LIST; mode <= CUT_EVENTS; mode++) {
                struct buffer whole = { .limit = 1 }, pieces = { 0 };      /* a limit: all at once */
                run((enum cut_mode)mode, data + 1, size - 1, data[0], &whole);
                run((enum cut_mode)mode, data + 1, size - 1, data[0], &pieces);
                if (whole.used != pieces.used || memcmp(whole.data, pieces.data, whole.used) != 0)
                        abort();
                buffer_fini(&whole);
                buffer_fini(&pieces);
        }
        struct kube_status status;
        status_read(data + 1, size - 1, 0, &status);
        return 0;
}
