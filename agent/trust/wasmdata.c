/*
 * How it goes: three version bytes, then hash sets, each with its signatures; every length must nest exactly. First as wasmsign2 writes it (a length before each set and each
 *              signature), then as tool-conventions Signatures.md says (without).
 * How it fails: the problem of the first form is told; nothing of the data is used.
 * How it ends: the sets point into the bytes given.
 */
#include <string.h>
#include "wasm.h"

static bool refuse_data(struct wasm_problem *ret_problem, enum trust_reason reason, const char *text)
{
        *ret_problem = (struct wasm_problem){ reason, text };
        return false;
}

/* varuint32 key_id_len | key_id | u8 algorithm | varuint32 64 | 64 bytes. The key id is a hint, and hints choose nothing. */
static struct span entry_get(struct reader *reader, uint8_t *ret_algorithm)
{
        reader_get_bytes(reader, reader_get_varuint32(reader));
        struct span algorithm = reader_get_bytes(reader, 1);
        *ret_algorithm = algorithm.size_bytes == 1 ? *(const uint8_t *)algorithm.bytes : 0;
        return reader_get_bytes(reader, reader_get_varuint32(reader));
}

static bool entry_check(struct reader *reader, bool has_lengths, struct wasm_problem *ret_problem)
{
        struct reader part = has_lengths ? reader_get_part(reader) : *reader;
        uint8_t algorithm = 0;
        struct span signature = entry_get(&part, &algorithm);

        if (part.bad || (has_lengths && part.at != part.end))
                return refuse_data(ret_problem, TRUST_MALFORMED, "its lengths do not add up");
        if (algorithm != 1)
                return refuse_data(ret_problem, TRUST_ALGORITHM, "it has a signature of an unknown algorithm; only Ed25519 (1) is known");
        if (signature.size_bytes != WASM_SIGNATURE_BYTES)
                return refuse_data(ret_problem, TRUST_MALFORMED, "it has an Ed25519 signature that is not 64 bytes long");
        if (!has_lengths)
                *reader = part;
        return true;
}

static bool set_read(struct reader *reader, bool has_lengths, struct wasm_set *ret_set, struct wasm_problem *ret_problem)
{
        struct reader part = has_lengths ? reader_get_part(reader) : *reader;

        ret_set->hash_count = reader_get_varuint32(&part);
        if (!part.bad && (ret_set->hash_count == 0 || ret_set->hash_count > WASM_PARTS_MAX))
                return refuse_data(ret_problem, TRUST_MALFORMED, "it has a set of no hashes or of more than 64");
        ret_set->hashes = reader_get_bytes(&part, ret_set->hash_count * WASM_HASH_BYTES).bytes;
        ret_set->signature_count = reader_get_varuint32(&part);
        if (!part.bad && (ret_set->signature_count == 0 || ret_set->signature_count > WASM_SIGNATURES_MAX))
                return refuse_data(ret_problem, TRUST_MALFORMED, "it has a set of no signatures or of more than 256");
        ret_set->signatures = part;
        for (size_t i = 0; i < ret_set->signature_count && !part.bad; i++)
                if (!entry_check(&part, has_lengths, ret_problem))
                        return false;
        if (part.bad || (has_lengths && part.at != part.end))
                return refuse_data(ret_problem, TRUST_MALFORMED, "its lengths do not add up");
        if (!has_lengths)
                *reader = part;
        return true;
}

static bool form_read(struct reader reader, bool has_lengths, struct wasm_data *ret_data, struct wasm_problem *ret_problem)
{
        ret_data->has_lengths = has_lengths;
        ret_data->count = reader_get_varuint32(&reader);
        if (!reader.bad && (ret_data->count == 0 || ret_data->count > WASM_SETS_MAX))
                return refuse_data(ret_problem, TRUST_MALFORMED, "it has no signature, or more than 64 sets of them");
        for (size_t i = 0; i < ret_data->count && !reader.bad; i++)
                if (!set_read(&reader, has_lengths, &ret_data->sets[i], ret_problem))
                        return false;
        return reader_is_empty(&reader) || refuse_data(ret_problem, TRUST_MALFORMED, "its lengths do not add up");
}

bool wasm_data_parse(struct span bytes, struct wasm_data *ret_data, struct wasm_problem *ret_problem)
{
        struct reader reader = reader_of(bytes);
        struct span head = reader_get_bytes(&reader, 3);
        struct wasm_problem of_plain_form;

        if (bytes.size_bytes > WASM_DATA_BYTES_MAX)
                return refuse_data(ret_problem, TRUST_MALFORMED, "it has more than 1 MiB");
        if (head.size_bytes < 3 || memcmp(head.bytes, "\1\1\1", 3) != 0)
                return refuse_data(ret_problem, TRUST_NOT_ACCEPTED, "unknown wasm signature format (known: version 1, content 1, SHA-256)");
        return form_read(reader, true, ret_data, ret_problem) || form_read(reader, false, ret_data, &of_plain_form);
}

struct span wasm_data_next(const struct wasm_data *data, struct reader *signatures)
{
        struct reader part = data->has_lengths ? reader_get_part(signatures) : *signatures;
        uint8_t algorithm = 0;
        struct span signature = entry_get(&part, &algorithm);

        if (!data->has_lengths)
                *signatures = part;
        return signature;
}
