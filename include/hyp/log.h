/*
 * What Lamina says about itself, and its last words.
 *
 * A log line is whole: it never mixes with another CPU's or with a guest's. Levels below the
 * chosen one (config: lamina,log-level) cost a compare. Lines go to the console through
 * console_log_line(); before the console is up, straight to the UART.
 */
#ifndef HYP_LOG_H
#define HYP_LOG_H

#include "hyp/types.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines above this level are dropped. Starts at LOG_INFO. */
extern enum log_level log_level;

__attribute__((format(printf, 2, 3))) void log_at(enum log_level level, const char *format, ...);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (unlikely(log_level >= LOG_DEBUG)) {                                            \
			log_at(LOG_DEBUG, __VA_ARGS__);                                            \
		}                                                                                  \
	} while (0)

/* From now on lines go to console_log_line(). console_init() calls it. */
void log_use_console(void);

/*
 * True from the first moment of a panic: the machine is ending, other CPUs stop wherever they are,
 * so locks they held stay taken. console_flush() then takes none.
 */
extern bool log_panicking;

/* The last words' own way out: straight to the UART, no lock, no console. Adds no newline. */
__attribute__((format(printf, 1, 2))) void log_raw(const char *format, ...);

/*
 * Prints like vsnprintf of ISO C, for: %c %s %d %i %u %x %X %p %% with flags '0' '-' '+', width,
 * precision (also '*') and lengths hh h l ll z. No floating point. Returns the length that the
 * whole text has; `buffer` always ends in a zero byte when size > 0.
 */
int text_vformat(char *buffer, size_t size, const char *format, va_list args);
__attribute__((format(printf, 3, 4))) int text_format(char *buffer, size_t size, const char *format,
						      ...);

/*
 * The parts of panic(), for exceptions that the architecture reports itself: panic_begin() stops
 * other CPUs and says "PANIC cpuN dN.vN: " (a second CPU that comes here parks); panic_end()
 * flushes and ends the run.
 */
void panic_begin(void);
noreturn_fn void panic_end(void);

/*
 * Ends everything: prints the sentence, CPU, guest, registers and a symbolised backtrace, stops the
 * other CPUs and ends the run with status 2. For our own bugs only (I5).
 */
__attribute__((format(printf, 1, 2))) noreturn_fn void panic(const char *format, ...);

/* A bug of ours if false. Never judges what a guest, a file or a device says. */
#define check(condition)                                                                           \
	do {                                                                                       \
		if (unlikely(!(condition))) {                                                      \
			panic("%s:%d: %s does not hold", __FILE__, __LINE__, #condition);          \
		}                                                                                  \
	} while (0)

#endif
