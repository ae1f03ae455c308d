/* Lamina's own lines: made whole in a buffer on the stack, then given away in one piece. */
#include "hyp/log.h"

#include "arch/cpu.h"
#include "hyp/console.h"
#include "hyp/lock.h"

#define LINE_MAX 512

enum log_level log_level = LOG_INFO;
bool log_panicking;

static bool console_is_up;
static struct lock uart_lock; /* console's place in the lock order, before there is a console */

static const char *const prefixes[] = {
	[LOG_ERROR] = "error: ",
	[LOG_WARN] = "warning: ",
	[LOG_INFO] = "",
	[LOG_DEBUG] = "debug: ",
};

static void put_text(const char *text)
{
	for (; *text != '\0'; text++) {
		arch_uart_putc((u8)*text);
	}
}

static void put_line(const char *line)
{
	lock_take(&uart_lock);
	put_text("lamina: "); /* as the console has it */
	put_text(line);
	put_text("\r\n");
	lock_drop(&uart_lock);
}

void log_use_console(void)
{
	store_release(&console_is_up, true);
}

void log_at(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX];
	int length;
	va_list args;

	if (level > log_level) {
		return;
	}
	length = text_format(line, sizeof(line), "%s", prefixes[level]);
	va_start(args, format);
	text_vformat(line + length, sizeof(line) - (size_t)length, format, args);
	va_end(args);
	if (log_panicking) {
		log_raw("lamina: %s\r\n", line);
	} else if (load_acquire(&console_is_up)) {
		console_log_line(line);
	} else {
		put_line(line);
	}
}

void log_raw(const char *format, ...)
{
	char text[LINE_MAX];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);
	put_text(text);
}
