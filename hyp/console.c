/*
 * The console's output: who writes on the screen's last line, and what waits in a buffer.
 *
 * Each source of text (the monitor, and every guest) has a line buffer: what it wrote since its
 * last newline. The focused source's bytes go out at once and are also kept, so that its
 * half-written line can be written again after another line had to pass; the others' are kept until
 * they are a line.
 *
 *     screen_owner   whose half-written line the cursor is on, or SOURCE_NONE at the start of a
 * line keyboard       the source that the keys go to, or SOURCE_NONE
 *
 * To write a line while somebody owns the screen: take that line off the screen (or, where it is
 * longer than its buffer, go to a new line), write, and put the half line back. Kept text is put
 * back without its escape sequences: a terminal would answer a question ("where is the cursor?") a
 * second time.
 *
 * All of it is guarded by one lock, the innermost of all (hyp/lock.h), held for one line at most.
 */
#include "hyp/console.h"

#include "console_internal.h"
#include "hyp/log.h"
#include "hyp/monitor.h"
#include "hyp/vm.h"

#include "arch/cpu.h"

#define SOURCE_MONITOR 0 /* guests are 1..VM_MAX, by their number */
#define SOURCE_NONE (VM_MAX + 1)
#define SOURCES (VM_MAX + 1)

/* Where in an escape sequence (ECMA-48, 5.2 to 5.6) a text is. */
enum escape { ESCAPE_NONE, ESCAPE_BEGUN, ESCAPE_CONTROL, ESCAPE_STRING };

struct line {
	u16 used;      /* bytes of text: since the line began, or was cut */
	u16 shown;     /* of those, what went out already */
	bool cut;      /* a part of this line went out already: the next piece goes on with it */
	bool headless; /* it was longer than the text: that begins in its middle */
	bool carriage; /* a carriage return came: the next byte overwrites, unless the line ends */
	bool old;      /* it was unfinished when the console last ticked */
	u8 escape;     /* enum escape, where the last piece ended */
	u8 text[CONSOLE_LINE_MAX];
};

static struct lock console_lock;
static struct line lines[SOURCES];
static u32 screen_owner = SOURCE_NONE;
static u32 keyboard = SOURCE_NONE;
static struct vm *focus;
static bool batch = true; /* until console_init: nothing may be assumed of a terminal */

/* ---- Bytes ---------------------------------------------------------------------------------- */

static void put_text(const char *text)
{
	for (; *text; text++) {
		arch_uart_putc((u8)*text);
	}
}

static void put_line_end(void)
{
	put_text(batch ? "\n" : "\r\n");
}

static void put_prefix(u32 number, bool goes_on)
{
	put_text("[d");
	if (number >= 10) {
		arch_uart_putc((u8)('0' + number / 10));
	}
	arch_uart_putc((u8)('0' + number % 10));
	put_text(goes_on ? "]+ " : "] ");
}

static enum escape escape_begun_next(u8 byte)
{
	switch (byte) {
	case '[':
		return ESCAPE_CONTROL;
	case ']': /* OSC, DCS, PM, APC, SOS: up to BEL or ST */
	case 'P':
	case '^':
	case '_':
	case 'X':
		return ESCAPE_STRING;
	default: /* intermediate bytes: one more follows */
		return byte >= 0x20 && byte <= 0x2f ? ESCAPE_BEGUN : ESCAPE_NONE;
	}
}

static enum escape escape_next(enum escape state, u8 byte)
{
	if (byte == 0x1b) {
		return ESCAPE_BEGUN;
	}
	switch (state) {
	case ESCAPE_BEGUN:
		return escape_begun_next(byte);
	case ESCAPE_CONTROL:
		return byte >= 0x40 && byte <= 0x7e ? ESCAPE_NONE : ESCAPE_CONTROL;
	case ESCAPE_STRING:
		return byte == '\a' ? ESCAPE_NONE : ESCAPE_STRING;
	case ESCAPE_NONE:
		break;
	}
	return ESCAPE_NONE;
}

static bool is_plain(u8 byte)
{
	return (byte >= 0x20 && byte != 0x7f) || byte == '\t';
}

/* Writes text without escape sequences and control characters. */
static enum escape put_plain(const u8 *text, u32 count, enum escape state)
{
	for (u32 i = 0; i < count; i++) {
		enum escape next = escape_next(state, text[i]);

		if (state == ESCAPE_NONE && next == ESCAPE_NONE && is_plain(text[i])) {
			arch_uart_putc(text[i]);
		}
		state = next;
	}
	return state;
}

/* ---- The screen's last line ----------------------------------------------------------------- */

/* After it the cursor is at the start of an empty line. */
static void screen_clear(void)
{
	if (screen_owner == SOURCE_NONE) {
		return;
	}
	if (batch || lines[screen_owner].headless) {
		put_line_end();
	} else {
		put_text("\r\x1b[K"); /* EL: erase to the end of the line */
	}
	screen_owner = SOURCE_NONE;
}

/* The cursor goes to where `source` left its half-written line. */
static void screen_take(u32 source)
{
	screen_clear();
	put_plain(lines[source].text, lines[source].used, ESCAPE_NONE);
	screen_owner = source;
}

/* The half-written line of whoever has the keyboard is seen again. */
static void screen_restore(void)
{
	if (keyboard != SOURCE_NONE && screen_owner == SOURCE_NONE && lines[keyboard].used > 0) {
		screen_take(keyboard);
	}
}

/* ---- Lines ---------------------------------------------------------------------------------- */

static void line_reset(struct line *line)
{
	line->used = 0;
	line->shown = 0;
	line->cut = false;
	line->headless = false;
	line->carriage = false;
	line->old = false;
	line->escape = ESCAPE_NONE;
}

/* What has not been shown of a guest's line goes out as a whole screen line. */
static void line_emit(u32 source)
{
	struct line *line = &lines[source];
	const u8 *text = line->text + line->shown;
	u32 count = line->used - line->shown;

	screen_clear();
	put_prefix(source, line->cut);
	if (batch) {
		for (u32 i = 0; i < count; i++) {
			arch_uart_putc(text[i]);
		}
	} else {
		line->escape = (u8)put_plain(text, count, (enum escape)line->escape);
	}
	put_line_end();
	screen_restore();
	line->shown = line->used;
	line->cut = true;
	line->old = false;
}

static void line_finish(u32 source)
{
	struct line *line = &lines[source];

	/* A line that is all shown needs no empty piece: the next one without '+' ends it. */
	if (!line->cut || line->used > line->shown) {
		line_emit(source);
	}
	line_reset(line);
}

/*
 * Keeps a byte that is no newline, or does to the line what a terminal would. False when there is
 * no room left after it.
 */
static inline bool line_keep(struct line *line, u8 byte)
{
	if (byte == '\r') {
		line->carriage = !batch;
		return true;
	}
	if (!batch) {
		if (line->carriage) {
			line->used = line->shown;
			line->carriage = false;
		}
		if (byte == '\b') {
			line->used -= line->used > line->shown;
			return true;
		}
	}
	line->text[line->used++] = byte;
	return line->used < CONSOLE_LINE_MAX;
}

/* The buffer starts again in the middle of a line. */
static void line_cut(struct line *line)
{
	line->used = 0;
	line->shown = 0;
	line->cut = true;
	line->headless = true;
}

/* A byte that waits until its line is whole. */
static inline void line_buffer_byte(u32 source, u8 byte)
{
	if (byte == '\n') {
		line_finish(source);
	} else if (unlikely(!line_keep(&lines[source], byte))) {
		line_emit(source);
		line_cut(&lines[source]);
	}
}

/* A byte that goes out at once: of the focused guest, or of Lamina's text for people. */
static inline void line_show_byte(u32 source, u8 byte)
{
	struct line *line = &lines[source];

	if (unlikely(screen_owner != source)) {
		screen_take(source);
	}
	if (byte == '\n') {
		if (source == SOURCE_MONITOR) {
			put_line_end();
		} else {
			arch_uart_putc(byte);
		}
		line_reset(line);
		screen_owner = SOURCE_NONE;
		return;
	}
	arch_uart_putc(byte);
	if (unlikely(!line_keep(line, byte))) {
		line_cut(line);
	}
}

void console_guest_byte(struct vm *vm, u8 byte)
{
	lock_take(&console_lock);
	count_add(&vm->counters.console_bytes, 1);
	if (vm == focus) {
		line_show_byte(vm->number, byte);
	} else {
		line_buffer_byte(vm->number, byte);
	}
	lock_drop(&console_lock);
}

/* ---- Lamina's own text ---------------------------------------------------------------------- */

static const char *put_log_line(const char *text)
{
	put_text("lamina: ");
	for (; *text && *text != '\n'; text++) {
		arch_uart_putc(is_plain((u8)*text) ? (u8)*text : '?');
	}
	put_line_end();
	return *text ? text + 1 : text;
}

void console_log_line(const char *line)
{
	lock_take(&console_lock);
	screen_clear();
	do {
		line = put_log_line(line);
	} while (*line);
	screen_restore();
	lock_drop(&console_lock);
}

void console_print(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	text_vformat(text, sizeof(text), format, args);
	va_end(args);

	lock_take(&console_lock);
	for (const char *p = text; *p; p++) {
		line_show_byte(SOURCE_MONITOR, (u8)*p);
	}
	screen_restore();
	lock_drop(&console_lock);
}

/* ---- Focus ---------------------------------------------------------------------------------- */

void console_init(bool is_batch)
{
	lock_take(&console_lock);
	batch = is_batch;
	focus = NULL;
	keyboard = SOURCE_NONE;
	screen_owner = SOURCE_NONE;
	for (u32 i = 0; i < SOURCES; i++) {
		line_reset(&lines[i]);
	}
	lock_drop(&console_lock);
	log_use_console();
}

bool console_is_batch(void)
{
	return batch;
}

struct vm *console_focus(void)
{
	return load_relaxed(&focus);
}

/* The console's lock is held. */
static void focus_change(struct vm *vm, u32 source)
{
	if (focus) { /* the operator saw what it wrote so far */
		struct line *line = &lines[focus->number];

		line->shown = line->used;
		line->cut |= line->used > 0;
	}
	screen_clear();
	store_relaxed(&focus, vm);
	keyboard = source;
}

void console_set_focus(struct vm *vm)
{
	char text[96];

	if (batch) {
		return;
	}
	if (vm) {
		text_format(text, sizeof(text), "--- input: d%u (%s), Ctrl-] ? for help ---",
			    vm->number, vm->name);
	} else {
		text_format(text, sizeof(text),
			    "--- input: monitor, help for commands, Ctrl-] 1..9 to a guest ---");
	}
	lock_take(&console_lock);
	focus_change(vm, vm ? vm->number : SOURCE_MONITOR);
	line_reset(&lines[SOURCE_MONITOR]);
	put_text(text);
	put_line_end();
	screen_restore();
	lock_drop(&console_lock);
	if (!vm) {
		monitor_enter();
	}
}

/* Where `vm` stands among the VMs; the last place when it does not. */
static u32 vm_place(const struct vm *vm)
{
	for (u32 i = 0; i < vm_count; i++) {
		if (vms[i] == vm) {
			return i;
		}
	}
	return vm_count - 1;
}

static struct vm *next_running(const struct vm *vm)
{
	u32 place = vm_place(vm);

	for (u32 i = 1; i <= vm_count; i++) {
		struct vm *candidate = vms[(place + i) % vm_count];

		if (candidate != vm && !vm_has_ended(candidate) && candidate->state != VM_PAUSED) {
			return candidate;
		}
	}
	return NULL;
}

static bool all_have_ended(void)
{
	for (u32 i = 0; i < vm_count; i++) {
		if (!vm_has_ended(vms[i])) {
			return false;
		}
	}
	return true;
}

void console_focus_next(const struct vm *vm)
{
	struct vm *next = next_running(vm);

	if (next || !all_have_ended()) {
		console_set_focus(next);
		return;
	}
	/* Nobody is left to type to; the run ends. */
	lock_take(&console_lock);
	focus_change(NULL, SOURCE_NONE);
	lock_drop(&console_lock);
}

/* What a guest left unfinished goes out; the screen's line ends when it was there. */
static void line_end_for_good(struct vm *vm)
{
	struct line *line = &lines[vm->number];

	lock_take(&console_lock);
	if (screen_owner == vm->number) {
		put_line_end();
		screen_owner = SOURCE_NONE;
		line_reset(line);
	} else if (vm != focus && line->used > line->shown) {
		line_finish(vm->number);
	} else {
		line_reset(line);
	}
	lock_drop(&console_lock);
}

void console_guest_ended(struct vm *vm)
{
	console_wait_released();
	line_end_for_good(vm);
	if (console_focus() == vm) {
		console_focus_next(vm);
	}
}

/* ---- Old pieces ----------------------------------------------------------------------------- */

bool console_has_half_line(const struct vm *vm)
{
	return load_relaxed(&lines[vm->number].used) > 0;
}

static bool is_waiting(u32 source)
{
	return source != keyboard && lines[source].used > lines[source].shown;
}

void console_flush_old(void)
{
	for (u32 i = SOURCE_MONITOR + 1; i < SOURCES; i++) {
		lock_take(&console_lock);
		if (is_waiting(i) && lines[i].old) {
			line_emit(i);
		} else {
			lines[i].old = is_waiting(i);
		}
		lock_drop(&console_lock);
	}
}

void console_flush(void)
{
	if (log_panicking) { /* no other CPU runs; whoever had the lock, perhaps we, will not drop
				it */
		console_lock = (struct lock){0};
	}
	for (u32 i = SOURCE_MONITOR + 1; i < SOURCES; i++) {
		lock_take(&console_lock);
		if (is_waiting(i)) {
			line_emit(i);
		}
		lock_drop(&console_lock);
	}
}
