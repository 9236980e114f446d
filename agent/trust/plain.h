/* plain: what signatures without a statement of their own (wasm, raw, minisign, legacy) have in common after the cryptographic check. */
#pragma once
#include "room.h"

/* Identity, annotations, log: the format carries none of them, so that a policy that asks for one is a miss. Then the proof. `format` is static. */
bool prove_plain(struct judgement *judgement, const char *format, const struct verified *verified);
/* The same with a log entry in the form of SIMPLE's annotation (legacy bundle). */
bool prove_logged(struct judgement *judgement, const char *format, const struct verified *verified, const char *entry_or_null, const struct logged *logged);
bool miss_off(struct judgement *judgement, enum trust_format format);      /* TRUST_NOT_ACCEPTED: the format is switched off; always false */
bool miss_spent(struct judgement *judgement);                             /* TRUST_LIMIT; always false */
