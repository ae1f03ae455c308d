/*
 * dump: what a guest's stage-2 table maps, for the eye.
 *
 * The range is walked in pieces, so that the length of one walk is bounded, and neighbours that say
 * the same are joined across pieces into one line, whatever memory is behind them. A table can need
 * more lines than anybody reads: after DUMP_LINES of them it stops and says how to go on. The guest
 * runs meanwhile, so a line is what was there when the walk passed; it is held only against being
 * torn down under the walk.
 */
#include "hyp/console.h"
#include "hyp/log.h"
#include "hyp/monitor.h"
#include "hyp/units.h"
#include "hyp/vm.h"

#define DUMP_LINES 48
#define DUMP_PIECE MIB(64) /* walked in one hold of the guest */

#define COLOUR_OFF "\x1b[0m"
#define COLOUR_DIM "\x1b[2m"
#define COLOUR_WRITE_EXEC "\x1b[31m" /* red: writable and executable */
#define COLOUR_EXEC "\x1b[33m"	     /* yellow */
#define COLOUR_WRITE "\x1b[32m"	     /* green */
#define COLOUR_READ "\x1b[36m"	     /* cyan */

struct dump {
	u64 end;
	struct s2_region pending; /* size 0: none */
	u32 lines;
	u64 stopped_at; /* where the lines ran out; `end` when they did not */
};

static const char *colour_of(const struct s2_region *r)
{
	if (console_is_batch()) {
		return "";
	}
	if (r->kind != S2_LEAF) {
		return COLOUR_DIM;
	}
	switch (r->attr.perm & (S2_WRITE | S2_EXEC)) {
	case S2_WRITE | S2_EXEC:
		return COLOUR_WRITE_EXEC;
	case S2_EXEC:
		return COLOUR_EXEC;
	case S2_WRITE:
		return COLOUR_WRITE;
	default:
		return COLOUR_READ;
	}
}

static const char *kind_name(enum s2_kind kind)
{
	switch (kind) {
	case S2_EMPTY:
		return "empty";
	case S2_TRANSIT:
	case S2_BROKEN:
	case S2_POISON:
		return "in transit";
	case S2_STORED:
		return "stored";
	case S2_MMIO:
		return "mmio";
	case S2_LEAF:
	case S2_TABLE:
	case S2_HELD:
		break;
	}
	return "?";
}

static const char *memory_name(u8 memory)
{
	switch (memory) {
	case S2_NORMAL:
		return "normal";
	case S2_UNCACHED:
		return "uncached";
	case S2_DEVICE:
		return "device";
	default:
		return "?";
	}
}

/* "4K", "2M", "1G": the bytes that one entry of the level maps. */
static struct units_text page_name(const struct vm *vm, u8 level)
{
	const struct s2_format *f = vm->s2.format;
	u64 bytes = BIT(f->page_shift + level * f->index_bits);
	struct units_text t;

	if (bytes >= GIB(1)) {
		text_format(t.text, sizeof(t.text), "%luG", bytes / GIB(1));
	} else if (bytes >= MIB(1)) {
		text_format(t.text, sizeof(t.text), "%luM", bytes / MIB(1));
	} else {
		text_format(t.text, sizeof(t.text), "%luK", bytes / KIB(1));
	}
	return t;
}

static void print_region(const struct vm *vm, const struct s2_region *r)
{
	const char *colour = colour_of(r);

	console_print("  %s0x%010lx..0x%010lx %10s  %-4s", colour, r->gpa.v, r->gpa.v + r->size,
		      units_size(r->size).text, page_name(vm, r->level).text);
	if (r->kind == S2_LEAF) {
		console_print("  %c%c%c  %-8s  %s", r->attr.perm & S2_READ ? 'r' : '-',
			      r->attr.perm & S2_WRITE ? 'w' : '-',
			      r->attr.perm & S2_EXEC ? 'x' : '-', memory_name(r->attr.memory),
			      r->accessed ? "accessed" : "-");
	} else {
		console_print("  ---  %s", kind_name(r->kind));
	}
	console_print("%s\n", colour[0] ? COLOUR_OFF : "");
}

static bool says_the_same(const struct s2_region *a, const struct s2_region *b)
{
	return a->kind == b->kind && a->level == b->level && a->gpa.v + a->size == b->gpa.v &&
	       a->attr.perm == b->attr.perm && a->attr.memory == b->attr.memory &&
	       a->accessed == b->accessed;
}

struct dump_context {
	const struct vm *vm;
	struct dump *dump;
};

static void flush_pending(const struct vm *vm, struct dump *dump)
{
	if (dump->pending.size > 0) {
		print_region(vm, &dump->pending);
		dump->pending.size = 0;
		dump->lines++;
	}
}

static void on_region(void *context, const struct s2_region *r)
{
	struct dump_context *c = context;
	struct dump *dump = c->dump;

	if (r->kind == S2_EMPTY || dump->stopped_at < dump->end) {
		return;
	}
	if (dump->pending.size > 0 && says_the_same(&dump->pending, r)) {
		dump->pending.size += r->size;
		return;
	}
	flush_pending(c->vm, dump);
	if (dump->lines == DUMP_LINES) {
		dump->stopped_at = r->gpa.v;
		return;
	}
	dump->pending = *r;
}

static void dump_range(struct vm *vm, u64 start, u64 end)
{
	struct dump dump = {.end = end, .stopped_at = end};
	struct dump_context context = {vm, &dump};

	console_print("d%u %s: [0x%lx, 0x%lx) in %s, %lu table pages\n", vm->number, vm->name,
		      start, end, vm->s2.format->name, load_relaxed(&vm->s2.stats.tables));
	for (u64 at = start; at < end && dump.stopped_at == end;) {
		u64 size = min_u64(end - at, DUMP_PIECE);

		if (!console_hold_guest(vm)) {
			console_print("  ... it has ended\n");
			return;
		}
		s2_dump(&vm->s2, gpa(at), size, on_region, &context);
		console_release_guest();
		at += size;
	}
	flush_pending(vm, &dump);
	if (dump.stopped_at < end) {
		console_print("  ... more: dump d%u 0x%lx 0x%lx\n", vm->number, dump.stopped_at,
			      end);
	} else if (dump.lines == 0) {
		console_print("  nothing is mapped\n");
	}
}

/* One of the range's ends: absent keeps what is there. False, and a line, when it is no number. */
static bool read_end(const char *word, u64 *value)
{
	if (word && !monitor_number(word, value)) {
		console_print("no address: %s (0x40000000, 1G, ...)\n", word);
		return false;
	}
	return true;
}

void monitor_dump(u32 count, char **words)
{
	struct vm *vm = monitor_vm_or_say(words[1]);
	u64 start, end, limit;

	if (!vm) {
		return;
	}
	if (!vm->s2.root || vm_has_ended(vm)) {
		console_print("d%u %s has no table (%s)\n", vm->number, vm->name,
			      vm_state_name(vm->state));
		return;
	}
	limit = BIT(vm->s2.ipa_bits);
	start = vm->ram.ranges[0].base.v;
	end = vm_ram_end(&vm->ram).v;
	if (!read_end(count > 2 ? words[2] : NULL, &start) ||
	    !read_end(count > 3 ? words[3] : NULL, &end)) {
		return;
	}
	start = align_down(start, PAGE_SIZE);
	end = end > limit ? limit : align_up(end, PAGE_SIZE);
	if (start >= end) {
		console_print("no range: [0x%lx, 0x%lx)\n", start, end);
		return;
	}
	dump_range(vm, start, end);
}
