/* Evidence of a transparency log (7): the parts of rekor.c. Nothing here asks the network, the clock or the log. */
#pragma once
#include "room.h"

enum { LOG_ENTRIES_MAX = 32, LOG_HASHES_MAX = 64, LOG_HASH_BYTES = 32, CHECKPOINT_BYTES_MAX = 64 << 10, CHECKPOINT_LINES_MAX = 64 };

/* ---- inclusion.c: RFC 6962 2.1.1; exactly as many hashes as the path has ---- */
struct inclusion { uint64_t index, size; const uint8_t (*hashes)[LOG_HASH_BYTES]; size_t hash_count; uint8_t root[LOG_HASH_BYTES]; };
bool inclusion_check(const struct inclusion *proof, struct span leaf, struct error *err);

/* ---- checkpoint.c: a signed note (C2SP signed-note, tlog-checkpoint) taken apart; its signatures are the caller's to check ---- */
struct checkpoint_line { const char *name; size_t name_bytes; uint8_t key_id[4]; const char *text; size_t text_bytes; /* base64 of key id and signature */ };
struct checkpoint {
        struct span text;                 /* what is signed; borrowed */
        const char *origin; size_t origin_bytes;
        uint64_t size;
        uint8_t root[LOG_HASH_BYTES];
        const char *lines, *end;          /* signature lines, for checkpoint_line_next */
};
bool checkpoint_parse(const char *note, struct checkpoint *ret_checkpoint, struct error *err);
/* *at begins as checkpoint->lines; false without an error at the end, with ret_bad set at a line that is none. */
bool checkpoint_line_next(const struct checkpoint *checkpoint, const char **at, struct checkpoint_line *ret_line, bool *ret_bad);

/* ---- rekor_body.c: what the log says was signed, bound to what we verified (7.2 MUST); kind and version NULL = whatever the body names ---- */
bool body_check(const struct judgement *judgement, struct span body, const char *kind, const char *version, const struct logged *logged, struct error *err);
