/*
 * How it goes: CLOCK_BOOTTIME for what lasts, CLOCK_REALTIME for what is shown; texts are read by small tables of units.
 * How it fails: a text that is no time or size is refused with what is allowed.
 * How it ends: nothing is kept.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <wasmcached/base/clock.h>
#include <wasmcached/base/memory.h>

int64_t clock_get_us(void)
{
        struct timespec now;

        clock_gettime(CLOCK_BOOTTIME, &now);
        return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t clock_get_ms(void)
{
        return clock_get_us() / 1000;
}

int64_t clock_get_wall_ms(void)
{
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t clock_get_wall_s(void)
{
        return clock_get_wall_ms() / 1000;
}

void clock_format_rfc3339(int64_t wall_s, char ret_text[CLOCK_RFC3339_BYTES])
{
        enum { YEAR_10000_S = 253402300800 };
        time_t seconds = (time_t)(wall_s < 0 ? 0 : wall_s >= (int64_t)YEAR_10000_S ? (int64_t)YEAR_10000_S - 1 : wall_s);
        struct tm parts;

        gmtime_r(&seconds, &parts);
        strftime(ret_text, CLOCK_RFC3339_BYTES, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static bool offset_parse(const char *text, int *ret_seconds)
{
        int hours, minutes, used = 0;

        if ((*text == 'Z' || *text == 'z') && text[1] == '\0') {
                *ret_seconds = 0;
                return true;
        }
        if ((*text != '+' && *text != '-') || sscanf(text + 1, "%2d:%2d%n", &hours, &minutes, &used) != 2 || used != 5 || text[6] != '\0')
                return false;
        if (!isdigit((unsigned char)text[1]) || !isdigit((unsigned char)text[4]) || hours > 23 || minutes > 59)
                return false;
        *ret_seconds = (hours * 60 + minutes) * (*text == '-' ? -60 : 60);
        return true;
}

bool clock_parse_rfc3339(const char *text, int64_t *ret_wall_s)
{
        static const char shape[] = "dddd-dd-ddtdd:dd:dd";
        struct tm parts = { 0 };
        int offset_s;

        for (size_t i = 0; i < sizeof shape - 1; i++)
                if (shape[i] == 'd' ? !isdigit((unsigned char)text[i]) : shape[i] == 't' ? text[i] != 'T' && text[i] != 't' : text[i] != shape[i])
                        return false;
        if (sscanf(text, "%4d-%2d-%2d%*c%2d:%2d:%2d", &parts.tm_year, &parts.tm_mon, &parts.tm_mday, &parts.tm_hour, &parts.tm_min, &parts.tm_sec) != 6)
                return false;
        if (parts.tm_mon < 1 || parts.tm_mon > 12 || parts.tm_mday < 1 || parts.tm_mday > 31 || parts.tm_hour > 23 || parts.tm_min > 59 || parts.tm_sec > 60)
                return false;

        const char *rest = text + sizeof shape - 1;
        if (*rest == '.') {
                if (!isdigit((unsigned char)rest[1]))
                        return false;
                rest += 1 + strspn(rest + 1, "0123456789");
        }
        if (!offset_parse(rest, &offset_s))
                return false;
        parts.tm_year -= 1900;
        parts.tm_mon -= 1;
        int month = parts.tm_mon, leap_s = parts.tm_sec == 60;
        parts.tm_sec -= leap_s;
        int64_t wall_s = (int64_t)timegm(&parts);
        if (parts.tm_mon != month)                                 /* timegm made the 31st of June the 1st of July */
                return false;
        *ret_wall_s = wall_s + leap_s - offset_s;
        return true;
}

bool clock_parse_http_date(const char *text, int64_t *ret_wall_s)
{
        /* The form in use and the two obsolete ones. */
        static const char *const forms[] = { "%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y" };
        for (size_t i = 0; i < COUNT_OF(forms); i++) {
                struct tm parts = { 0 };
                const char *end = strptime(text, forms[i], &parts);

                if (!end || *end != '\0')
                        continue;
                *ret_wall_s = (int64_t)timegm(&parts);
                return true;
        }
        return false;
}

bool clock_parse_retry_after(const char *text, int64_t wall_s, unsigned *ret_seconds)
{
        size_t digits = strspn(text, "0123456789");
        int64_t date_s = 0;

        if (digits > 0 && text[digits] == '\0') {
                *ret_seconds = digits > 9 ? 999999999u : (unsigned)strtoul(text, NULL, 10);
                return true;
        }
        if (!clock_parse_http_date(text, &date_s))
                return false;
        int64_t delay_s = date_s - wall_s;
        *ret_seconds = delay_s <= 0 ? 0 : delay_s > 999999999 ? 999999999u : (unsigned)delay_s;
        return true;
}

struct unit { const char *name; uint64_t factor; };
struct amount { __uint128_t whole; bool is_exact; };

enum { DIGITS_MAX = 18 };

/* Whole numbers all the way: 16.1 s are 16100 ms, which no double says. */
static bool number_parse(const char **text, uint64_t *ret_whole, uint64_t *ret_part, uint64_t *ret_scale)
{
        size_t whole = strspn(*text, "0123456789"), used = whole, part = 0;

        if ((*text)[whole] == '.') {
                part = strspn(*text + whole + 1, "0123456789");
                used += 1 + part;
        }
        if (whole == 0 || whole > DIGITS_MAX || part > DIGITS_MAX || (used > whole && part == 0))
                return false;
        *ret_whole = strtoull(*text, NULL, 10);
        *ret_part = part > 0 ? strtoull(*text + whole + 1, NULL, 10) : 0;
        *ret_scale = 1;
        for (size_t i = 0; i < part; i++)
                *ret_scale *= 10;
        *text += used;
        return true;
}

/* "12.5unit": moves *text behind it; false when there is no number or no such unit. An absent unit is units[0] if `unit_optional`. */
static bool quantity_parse(const char **text, const struct unit *units, bool unit_optional, struct amount *ret_amount)
{
        uint64_t whole, part, scale;
        size_t best = 0;
        const char *rest = *text;

        if (!number_parse(&rest, &whole, &part, &scale))
                return false;
        const struct unit *found = unit_optional && *rest == '\0' ? &units[0] : NULL;
        for (const struct unit *unit = units; unit->name; unit++)
                if (strlen(unit->name) > best && string_starts_with(rest, unit->name)) {
                        found = unit;
                        best = strlen(unit->name);
                }
        if (!found)
                return false;
        *text = rest + best;
        __uint128_t parts = (__uint128_t)part * found->factor;
        *ret_amount = (struct amount){ (__uint128_t)whole * found->factor + parts / scale, parts % scale == 0 };
        return true;
}

bool clock_parse_duration(const char *text, int64_t *ret_ms, struct error *err)
{
        static const struct unit units[] = {
                { "ms", 1000000 }, { "s", 1000000000 }, { "m", 60000000000 }, { "h", 3600000000000 },
                { "us", 1000 }, { "\xc2\xb5s", 1000 }, { "\xce\xbcs", 1000 }, { "ns", 1 }, { NULL, 0 },
        };
        __uint128_t total_ns = 0;
        struct amount amount;
        const char *rest = text;
        bool is_good = *text != '\0';
        char shown[64];

        if (strcmp(text, "0") == 0) {
                *ret_ms = 0;
                return true;
        }
        while (is_good && *rest) {
                is_good = quantity_parse(&rest, units, false, &amount);
                total_ns += is_good ? amount.whole : 0;
                is_good = is_good && total_ns <= INT64_MAX;        /* 292 years, as in Go */
        }
        if (!is_good)
                return refuse(err, ERROR_BAD_REQUEST, "\"%s\" is no duration: write it like 300ms, 30s, 5m or 1h30m", string_printable(text, strlen(text), shown, sizeof shown));
        *ret_ms = (int64_t)((total_ns + 999999) / 1000000);        /* up: a timeout of 1ns is not none */
        return true;
}

void clock_format_duration(int64_t ms, char *ret_text, size_t size_bytes)
{
        static const struct { const char *name; int64_t ms; } units[] = { { "h", 3600000 }, { "m", 60000 }, { "s", 1000 } };
        size_t used = 0;

        if (ms <= 0 || ms % 1000 != 0) {
                snprintf(ret_text, size_bytes, ms == 0 ? "0s" : "%lldms", (long long)ms);
                return;
        }
        ret_text[0] = '\0';
        for (size_t i = 0; i < COUNT_OF(units) && used < size_bytes; i++)
                if (ms >= units[i].ms) {
                        used += (size_t)snprintf(ret_text + used, size_bytes - used, "%lld%s", (long long)(ms / units[i].ms), units[i].name);
                        ms %= units[i].ms;
                }
}

bool size_parse(const char *text, uint64_t *ret_bytes, struct error *err)
{
        static const struct unit units[] = {
                { "B", 1 }, { "KiB", 1024 }, { "MiB", 1048576 }, { "GiB", 1073741824 }, { "TiB", 1099511627776 }, { "KB", 1000 }, { "kB", 1000 }, { "MB", 1000000 },
                { "GB", 1000000000 }, { "TB", 1000000000000 }, { NULL, 0 },
        };
        const __uint128_t limit_bytes = 9000000000000000;
        const char *rest = text;
        struct amount amount;
        char shown[64];

        if (!quantity_parse(&rest, units, true, &amount) || *rest != '\0' || amount.whole > limit_bytes || !amount.is_exact)
                return refuse(err, ERROR_BAD_REQUEST, "\"%s\" is no size: write it like 4096, 512KiB, 64MiB or 10GiB", string_printable(text, strlen(text), shown, sizeof shown));
        *ret_bytes = (uint64_t)amount.whole;
        return true;
}

static const char *const binary_units[] = { "B", "KiB", "MiB", "GiB", "TiB" };

void size_format(uint64_t bytes, char *ret_text, size_t size_bytes)
{
        size_t unit = 0;

        while (bytes > 0 && bytes % 1024 == 0 && unit + 1 < COUNT_OF(binary_units)) {
                bytes /= 1024;
                unit++;
        }
        snprintf(ret_text, size_bytes, "%llu%s", (unsigned long long)bytes, unit ? binary_units[unit] : "");
}

void size_format_human(uint64_t bytes, char *ret_text, size_t size_bytes)
{
        double amount = (double)bytes;
        size_t unit = 0;

        while (amount >= 1024 && unit + 1 < COUNT_OF(binary_units)) {
                amount /= 1024;
                unit++;
        }
        snprintf(ret_text, size_bytes, unit ? "%.1f %s" : "%.0f %s", amount, binary_units[unit]);
}
