/* One line a message to stderr or syslog.  Every byte that is not printable
 * ASCII is escaped and a line is cut at 1 KiB, so that what comes from outside
 * can neither forge a line nor move a terminal.  No SMS text, no whole phone
 * number and no token may be handed to it.  Any thread may call it. */
#ifndef LOG_H
#define LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_target { LOG_TARGET_STDERR, LOG_TARGET_SYSLOG };

/* Call before threads.  program is a literal, shown in each line. */
void log_open(const char *program, enum log_level level, enum log_target target);

void log_write(enum log_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...)  log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...)  log_write(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif
