/* log: one line per event on stderr, logfmt or JSON. Never blocks: a line that cannot be written at once is counted and dropped. */
#pragma once
#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR, LOG_LEVEL_OFF };
enum log_format { LOG_FORMAT_LOGFMT, LOG_FORMAT_JSON };

/* text or, if that is NULL, number. There is no field for secrets, on purpose. */
struct log_field { const char *key; const char *text; int64_t number; };

/* Any thread; until called: info, logfmt, fd 2. */
void log_configure(enum log_level level, enum log_format format);
/* `event` is a fixed short text ("pulled", "refused"); more than 20 lines a second of one event are counted and told in one line later. When JOURNAL_STREAM names
   fd 2, a syslog priority prefix ("<6>") stands before the line and the time is left out: journald has both. */
void log_write(enum log_level level, const char *event, const struct log_field *fields, size_t field_count);
uint64_t log_get_dropped(void);

#define LOG_TEXT(key_, text_) ((struct log_field){ .key = (key_), .text = (text_) ? (text_) : "" })
#define LOG_NUMBER(key_, number_) ((struct log_field){ .key = (key_), .number = (int64_t)(number_) })
#define LOG_AT(level_, event_, ...) \
        log_write(level_, event_, (struct log_field[]){ __VA_ARGS__ }, sizeof((struct log_field[]){ __VA_ARGS__ }) / sizeof(struct log_field))
#define LOG_DEBUG(event_, ...) LOG_AT(LOG_LEVEL_DEBUG, event_, __VA_ARGS__)
#define LOG_INFO(event_, ...) LOG_AT(LOG_LEVEL_INFO, event_, __VA_ARGS__)
#define LOG_WARN(event_, ...) LOG_AT(LOG_LEVEL_WARN, event_, __VA_ARGS__)
#define LOG_ERROR(event_, ...) LOG_AT(LOG_LEVEL_ERROR, event_, __VA_ARGS__)
