/* wasm: what the judges of wasm signatures share: the sections of a core module and the signature data in them (6.1). */
#pragma once
#include "room.h"

/* ---- sections.c: exact reading ---- */
/* Bytes that are read from the front. What does not fit sets `bad` and gives zeros; `bad` stays. */
struct reader { const uint8_t *at, *end; bool bad; };
struct reader reader_of(struct span bytes);
uint32_t reader_get_varuint32(struct reader *reader);      /* LEB128, at most 5 bytes, no unused bits set; long forms are legal (Wasm 5.2.2) */
struct span reader_get_bytes(struct reader *reader, size_t size_bytes);
struct reader reader_get_part(struct reader *reader);      /* varuint32 length, then a reader of that many bytes */
bool reader_is_empty(const struct reader *reader);         /* all was read, and well */

enum { WASM_HEADER_BYTES = 8, WASM_PARTS_MAX = 64 /* as wasmsign2 */ };
struct wasm_section { size_t start, end; struct span payload; };          /* of a custom section, payload behind its name */
struct wasm_layout {
        size_t signature_count; struct wasm_section signature;             /* sections named "signature", the first of them */
        size_t wasmsign1_count; struct wasm_section wasmsign1;             /* named "signature_wasmsign", the last of them */
        size_t part_count, part_ends[WASM_PARTS_MAX];                      /* offsets: behind each delimiter, and the end of the module; beyond 64 only counted */
};
bool wasm_is_module(struct span bytes);                    /* begins with the four bytes that all Wasm begins with */
/* The module that the target is: of MODULE its bytes, of FILE too when they are no box; TRUST_NOT_ACCEPTED otherwise, saying that `what` is judged on the module.
   TRUST_MALFORMED when it is no core module or its sections do not add up. */
bool wasm_take(struct judgement *judgement, const char *what, struct span *ret_module, struct wasm_layout *ret_layout);

/* ---- wasmdata.c: signature data (6.1): hash sets, each with its signatures. Both forms: with LEN as wasmsign2 writes it, and as the specification says. ---- */
enum { WASM_SETS_MAX = 64, WASM_SIGNATURES_MAX = 256, WASM_HASH_BYTES = 32, WASM_SIGNATURE_BYTES = 64, WASM_DATA_BYTES_MIN = 107, WASM_DATA_BYTES_MAX = 1 << 20 };
struct wasm_set { const uint8_t *hashes; size_t hash_count, signature_count; struct reader signatures; };
struct wasm_data { bool has_lengths; size_t count; struct wasm_set sets[WASM_SETS_MAX]; };
struct wasm_problem { enum trust_reason reason; const char *text; };
bool wasm_data_parse(struct span bytes, struct wasm_data *ret_data, struct wasm_problem *ret_problem);
struct span wasm_data_next(const struct wasm_data *data, struct reader *signatures);       /* the 64 bytes of the next signature of a set that was parsed */

/* ---- wasm.c, wasmsign1.c ---- */
bool judge_detached(struct judgement *judgement, struct span data);       /* signature data that lies beside the module (6.3) */
bool judge_wasmsign1(struct judgement *judgement, struct span module, const struct wasm_layout *layout);      /* 6.6; the layout has one at least */
