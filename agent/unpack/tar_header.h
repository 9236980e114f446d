/* tar_header: the raw blocks of one entry's header. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base.h>

/* What pax records said of the entry that they stand before. */
struct tar_pax { bool has_size; uint64_t size_bytes; };

/* `bytes`: from the end of the entry before to the end of this one's header, pax records and long names included. ERROR_UNSUPPORTED_IMAGE names the field. */
bool tar_header_check(const uint8_t *bytes, size_t size_bytes, int entry, struct error *err);
