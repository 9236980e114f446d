/* trust: hashes of files, of which the bytes may be gone (content.c). */
#pragma once
#include "room.h"

bool content_has_shape(struct span file);                 /* begins like a module or a box of one */
struct span content_get_hash(const struct trust_content *content, enum hash hash);
/* Keys of 32 bytes, signatures of 64. Noted: pure Ed25519, good over the bytes that are here now. Verified: without the bytes. */
void content_note_ed25519(struct trust_content *content, const uint8_t *key, const uint8_t *signature, struct span file);
bool content_verify_ed25519(const struct trust_content *content, const uint8_t *key, const uint8_t *signature);
bool content_verify_ed25519ph(const struct trust_content *content, const uint8_t *key, const uint8_t *signature);
