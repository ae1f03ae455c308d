/*
 * The call chain, by frame pointers (AAPCS64: x29 points to a record of the caller's x29 and return
 * address). Every record is checked to be on one of this CPU's stacks and above the one before, so
 * a broken chain ends the list and not the CPU.
 */
#include "arch/cpu.h"
#include "hyp/log.h"
#include "hyp/symbol.h"

#include "layout.h"
#include "machine.h"

#define DEPTH_MAX 32

void backtrace_symbol(u64 address, char *text, size_t size)
{
	u32 start;
	const char *name = NULL;

	if (address >= (u64)image_start && address < (u64)text_end) {
		name = symbol_find((u32)(address - (u64)image_start), &start);
	}
	if (name == NULL) {
		text_format(text, size, "%s", "");
		return;
	}
	text_format(text, size, "%s+0x%lx", name, address - (u64)image_start - start);
}

static bool is_record(u64 fp)
{
	const struct cpu *cpu = this_cpu();
	u64 record_bytes = 16;
	bool on_stack =
		fp >= cpu->arch.stack_top - STACK_SIZE && fp <= cpu->arch.stack_top - record_bytes;
	bool on_emergency = fp >= cpu->arch.emergency_top - STACK_EMERGENCY_SIZE &&
			    fp <= cpu->arch.emergency_top - record_bytes;

	return is_aligned(fp, 8) && (on_stack || on_emergency);
}

static void print_call(u32 depth, u64 pc)
{
	char symbol[80];

	backtrace_symbol(pc, symbol, sizeof(symbol));
	log_raw("  #%-2u  %016lx  image+0x%lx  %s\n", depth, pc, pc - (u64)image_start, symbol);
}

void backtrace_print(u64 pc, u64 fp)
{
	log_raw("  call chain, innermost first:\n");
	print_call(0, pc);
	for (u32 depth = 1; depth < DEPTH_MAX && is_record(fp); depth++) {
		const u64 *record = (const u64 *)fp;

		if (record[1] == 0) {
			return;
		}
		print_call(depth, record[1] - 4); /* the call, not where it returns to */
		if (record[0] <= fp) {
			return;
		}
		fp = record[0];
	}
}
