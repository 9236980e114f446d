/* reason: what libcurl says went wrong, in words that a person can act on. */
#pragma once
#include "hop.h"

/* Fills `err` (code and text, without method and URL); true when trying again may help. */
bool reason_tell(struct hop *hop, CURLcode code, struct error *err);
