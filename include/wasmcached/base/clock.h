/* clock: time, and the texts of times, durations and sizes. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <wasmcached/base/error.h>

/* CLOCK_BOOTTIME: goes on in suspend, never jumps. Deadlines, leases and back-off use this. */
int64_t clock_get_ms(void);
int64_t clock_get_us(void);
/* Seconds (milliseconds) since 1970: only for what is stored, shown or compared with a peer's date. */
int64_t clock_get_wall_s(void);
int64_t clock_get_wall_ms(void);

enum { CLOCK_RFC3339_BYTES = 24 };
/* "2026-01-01T00:00:00Z" */
void clock_format_rfc3339(int64_t wall_s, char ret_text[CLOCK_RFC3339_BYTES]);
/* RFC 3339 with any offset and fraction; false when it is none. */
bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_s);
/* RFC 9110 5.6.7; false when it is none. */
bool clock_parse_http_date(const char *text, int64_t *ret_wall_s);
/* Retry-After: seconds or an HTTP date (RFC 9110 10.2.3); false when neither. Never negative. */
bool clock_parse_retry_after(const char *text, int64_t wall_s, unsigned *ret_seconds);

/* "300ms", "30s", "5m", "1h", "1h30m", "1.5s", "0s", Go's time.ParseDuration without signs; milliseconds. Says what is allowed when refused. */
bool clock_parse_duration(const char *text, int64_t *ret_ms, struct error *err);
void clock_format_duration(int64_t ms, char *ret_text, size_t size_bytes);
/* "512KiB", "10GiB", "64MB", "4096", "1.5GiB"; bytes. */
bool size_parse(const char *text, uint64_t *ret_bytes, struct error *err);
/* Exact if it divides ("10GiB"), else bytes. */
void size_format(uint64_t bytes, char *ret_text, size_t size_bytes);
/* For people: "47.1 KiB". */
void size_format_human(uint64_t bytes, char *ret_text, size_t size_bytes);
