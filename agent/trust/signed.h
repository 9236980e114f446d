/* What the judges of OCI signatures share: bundle.c, simple.c and the log's rekor*.c. */
#pragma once
#include "plain.h"

enum { SIGNED_BODY_MAX = 1 << 20 /* payload, bundle (9.2.7) */, SIGNATURE_BYTES_MAX = 2048, TEXT_SHOWN = 96 };

/* Text from outside for a sentence: escaped, cut. */
#define SHOWN(text) string_printable((text), strlen(text), (char[TEXT_SHOWN]){ 0 }, TEXT_SHOWN)
/* The judge's last line after `struct error` was filled by a reader. */
#define MALFORMED(judgement, err) miss((judgement)->failure, TRUST_MALFORMED, "%s", (err)->text)

/* "signature is not by key …" and so on, for each outcome but good; always false. `beside` may be "". */
bool judged_bad(struct judgement *judgement, enum verify_result result, const char *beside);
/* Format, key, algorithm, signed annotations (a map, or NULL). */
void judged_good(struct judgement *judgement, const char *format, const struct verified *verified, const struct value *annotations);

/* ---- statement.c (3.4 steps 3 to 6): in-toto statement over judgement->target; *ret_document owns *ret_annotations ---- */
bool statement_check(struct judgement *judgement, struct span payload, struct value **ret_document, const struct value **ret_annotations);
