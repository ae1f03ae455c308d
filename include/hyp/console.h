/*
 * The console: one UART, many guests, one operator.
 *
 * Interactive: the focused guest's bytes go out raw, other guests' as whole lines behind "[dN] ",
 * with control characters and escape sequences taken out, so that no guest plays with a terminal it
 * does not own. Lamina's own log lines go behind "lamina: ". A line that has to come while another
 * is half written takes its place, and the half line is written again below it: nothing is ever
 * mixed. Ctrl-] then: 1..9 focus, 0 or m monitor, ? help, x quit, Ctrl-] sends it.
 *
 * Batch (no keyboard): nobody has the focus. What goes out is made for tools/lamina to take apart:
 *
 *     [d1] text          a line that guest 1 began
 *     [d1]+ text         the line above from guest 1 was not finished: this goes on with it
 *     [json] {...        a piece of the summary, see summary.h
 *     anything else      Lamina's own
 *
 * Output lines end in one "\n" and nothing else ends them. A guest's bytes are kept, but carriage
 * returns are dropped, and each line it writes, each piece of a line that is longer than
 * CONSOLE_LINE_MAX and each piece that waited for more than a second gets its own prefix: so no
 * guest can write a prefix that counts. Whoever takes them apart splits at "\n" alone (no other
 * control character), drops the prefix up to its one space, and ends a guest's line only when the
 * guest's next piece has no '+', or at the end of everything.
 */
#ifndef HYP_CONSOLE_H
#define HYP_CONSOLE_H

#include "hyp/types.h"

struct vm;

#define CONSOLE_LINE_MAX 256

/* Called once, before anything is printed. `batch`: no keyboard, nobody has the focus. */
void console_init(bool batch);
bool console_is_batch(void);

/* One byte that a guest's UART sent. Counts it in vm->counters.console_bytes. Any CPU. */
void console_guest_byte(struct vm *vm, u8 byte);

/*
 * Lamina's own line behind "lamina: "; the newline is added here. A newline inside makes it two
 * lines, other control characters become '?'.
 */
void console_log_line(const char *line);

/* Text of the monitor's, banner's and summary's, as it is ("\n" ends a line). Up to 511 bytes a
 * call. */
__attribute__((format(printf, 1, 2))) void console_print(const char *format, ...);

/* Takes the keys that came in on the UART and gives each where it belongs. Called on its interrupt.
 */
void console_poll_input(void);

/*
 * A guest's console device has room in its receive FIFO again, and its lock is not held: keys that
 * found no room go on. A load and a branch when there are none.
 */
extern u32 console_keys_held;
static inline void console_device_has_room(void)
{
	if (unlikely(__atomic_load_n(&console_keys_held, __ATOMIC_RELAXED) != 0)) {
		console_poll_input();
	}
}

/* The guest that gets keys, or NULL for the monitor or nobody. */
struct vm *console_focus(void);

/* Gives the keyboard to a guest, to the monitor (NULL), and says so. Nothing in batch. */
void console_set_focus(struct vm *vm);

/* ... to the next running guest after `vm` (NULL: the first); to the monitor when none runs. */
void console_focus_next(const struct vm *vm);

/*
 * The operator's side (keys, dump) is about to use a guest's device or table: from here to the
 * release it is not torn down. False when it has ended: then nothing is held. For short work; the
 * lock is the outermost of all, so no other may be held.
 */
bool console_hold_guest(const struct vm *vm);
void console_release_guest(void);

/*
 * `vm` has ended, its state says so, and it is about to be torn down: waits until nobody holds it.
 * Its last unfinished line goes out, and the focus, if it had it, to the next running guest. No
 * lock is held by the caller.
 */
void console_guest_ended(struct vm *vm);

/* About once a second, by the scheduler: reports guests that were silent for 5 s; flushes old
 * unfinished lines of unfocused guests. */
void console_tick(void);
/* The same, at a time of the caller's choice. */
void console_tick_at(u64 now_ns);

/* Everything that is still buffered goes out. The last thing a panic does, whatever was locked. */
void console_flush(void);

/* What takes the operator's keys in a guest's device; the device has it as its first member. */
struct console_device {
	/*
	 * False when there is no room; that is no overrun: the console keeps the key and offers it
	 * again. Any CPU; the guest is held, and no lock from `device` on.
	 */
	bool (*key)(struct console_device *device, u8 key);
};

#endif
