/*
 * The console's input: the operator's keys, and what Ctrl-] does.
 *
 * Keys go to the focused guest's device or to the monitor. Every key that came is taken at once,
 * even when the guest has no room for it: the one behind it may be the Ctrl-] that leaves a guest
 * which hangs. Keys without room wait in a ring; a full ring drops them with a beep, as a UART that
 * overruns.
 *
 * One CPU at a time does this. Others do not wait for it: the lock is only tried, so it has no
 * place in the lock order, and commands of the monitor may take as long as they need.
 */
#include "hyp/console.h"

#include "console_internal.h"
#include "hyp/monitor.h"

#include "arch/cpu.h"

#define HELD_MAX 1024
#define KEYS_PER_POLL 256 /* an endless stream of keys must not keep this CPU for ever */

static struct lock input_lock;

/* Guarded by input_lock. */
static bool escape_seen; /* the last key was Ctrl-] */
static struct vm *held_for;
static u8 held[HELD_MAX]; /* a ring, from held_first */
static u32 held_first;
u32 console_keys_held; /* how many; read by anyone */

/* ---- Holding a guest ------------------------------------------------------------------------ */

/*
 * A guest that ends is torn down only after console_guest_ended(), which passes through this lock.
 * So who finds under the lock that it has not ended can use it until the drop.
 */
static struct lock operator_lock;

bool console_hold_guest(const struct vm *vm)
{
	lock_take(&operator_lock);
	if (vm_has_ended(vm)) {
		lock_drop(&operator_lock);
		return false;
	}
	return true;
}

void console_release_guest(void)
{
	lock_drop(&operator_lock);
}

void console_wait_released(void)
{
	lock_take(&operator_lock);
	lock_drop(&operator_lock);
}

/* ---- Keys without room ---------------------------------------------------------------------- */

static void held_clear(struct vm *vm)
{
	held_for = vm;
	held_first = 0;
	store_relaxed(&console_keys_held, 0);
}

static void held_add(u8 key)
{
	if (console_keys_held == HELD_MAX) {
		arch_uart_putc('\a');
		return;
	}
	held[(held_first + console_keys_held) % HELD_MAX] = key;
	store_relaxed(&console_keys_held, console_keys_held + 1);
}

static bool device_key(struct vm *vm, u8 key)
{
	return vm->console->key(vm->console, key);
}

/* What fits now goes to the guest, which is held. */
static void held_send(void)
{
	while (console_keys_held > 0 && device_key(held_for, held[held_first])) {
		held_first = (held_first + 1) % HELD_MAX;
		store_relaxed(&console_keys_held, console_keys_held - 1);
	}
}

/* Keys that waited go on, or are forgotten when their guest lost the focus meanwhile. */
static void held_retry(void)
{
	if (console_keys_held == 0) {
		return;
	}
	if (held_for == console_focus() && console_hold_guest(held_for)) {
		held_send();
		console_release_guest();
	} else {
		held_clear(NULL);
	}
}

static void guest_key(struct vm *vm, u8 key)
{
	if (!vm->console || !console_hold_guest(vm)) {
		return;
	}
	if (held_for != vm) {
		held_clear(vm);
	}
	held_send();
	held_add(key); /* first: a guest that makes room now must see that somebody waits for it */
	held_send();
	console_release_guest();
}

/* ---- Keys ----------------------------------------------------------------------------------- */

static void send_key(u8 key)
{
	struct vm *vm = console_focus();

	if (vm) {
		guest_key(vm, key);
	} else {
		monitor_key(key);
	}
}

static void print_help(void)
{
	console_print("--- Ctrl-] and then\n");
	console_print("      1..9    type to that guest:");
	for (u32 i = 0; i < vm_count; i++) {
		console_print(" d%u %s%s", vms[i]->number, vms[i]->name,
			      i + 1 < vm_count ? "," : "");
	}
	console_print("\n");
	console_print("      m or 0  monitor: list, stat, exits, dump, pause, ...\n");
	console_print("      ?       this help\n");
	console_print("      x       quit: ends all guests and the run\n");
	console_print("      Ctrl-]  sends Ctrl-] itself\n");
}

static void focus_number(u8 key)
{
	char word[] = {(char)key, 0};
	char *words[] = {(char *)"console", word, NULL};

	monitor_console(2, words);
}

static void command_key(u8 key)
{
	switch (key) {
	case '1' ... '9':
		focus_number(key);
		break;
	case '0':
	case 'm':
		console_set_focus(NULL);
		break;
	case '?':
		print_help();
		break;
	case 'x':
		monitor_quit(1, NULL);
		break;
	case CONSOLE_ESCAPE_KEY:
		send_key(key);
		break;
	default:
		console_print("--- after Ctrl-]: 1..9 guest, m monitor, ? help, x quit, "
			      "Ctrl-] sends it ---\n");
	}
}

static void input_key(u8 key)
{
	if (escape_seen) {
		escape_seen = false;
		command_key(key);
	} else if (key == CONSOLE_ESCAPE_KEY) {
		escape_seen = true;
	} else {
		send_key(key);
	}
}

/* The lock is held. */
static void take_keys(void)
{
	held_retry();
	for (u32 i = 0; i < KEYS_PER_POLL; i++) {
		int key = arch_uart_getc();

		if (key < 0) {
			break;
		}
		if (!console_is_batch()) {
			input_key((u8)key);
		}
	}
}

/* Who finds the lock taken leaves word: the holder may have looked before what we came for. */
void console_poll_input(void)
{
	static bool asked;

	store_relaxed(&asked, true);
	fence_full(); /* either we get the lock, or its holder sees this after its drop */
	while (load_relaxed(&asked) && lock_try(&input_lock)) {
		store_relaxed(&asked, false);
		fence_full(); /* who asks from here on is heard; who asked before is served */
		take_keys();
		lock_drop(&input_lock);
		fence_full();
	}
}
