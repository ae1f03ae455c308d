/*
 * The call chain, by frame pointers: on Arm (AAPCS64) as on x86 (System V) one points to a record
 * of the caller's frame pointer and return address. Every record is checked to be on one of this
 * CPU's stacks and above the one before, so a broken chain ends the list and not the CPU.
 */
#include "hyp/log.h"
#include "hyp/own.h"
#include "hyp/symbol.h"

#define DEPTH_MAX 32

void backtrace_symbol(u64 address, char *text, size_t size)
{
	u32 start;
	const char *name = NULL;

	if (address >= (u64)(uintptr_t)image_start && address < (u64)(uintptr_t)text_end) {
		name = symbol_find((u32)(address - (u64)(uintptr_t)image_start), &start);
	}
	if (name == NULL) {
		text_format(text, size, "%s", "");
		return;
	}
	text_format(text, size, "%s+0x%llx", name,
		    (unsigned long long)(address - (u64)(uintptr_t)image_start - start));
}

static bool is_record(u64 fp)
{
	return is_aligned(fp, 8) && own_stack_has(fp, 16);
}

static void print_call(u32 depth, u64 pc)
{
	char symbol[80];

	backtrace_symbol(pc, symbol, sizeof(symbol));
	log_raw("  #%-2u  %016llx  image+0x%llx  %s\n", depth, (unsigned long long)pc,
		(unsigned long long)(pc - (u64)(uintptr_t)image_start), symbol);
}

void backtrace_print(u64 pc, u64 fp)
{
	log_raw("  call chain, innermost first:\n");
	print_call(0, pc);
	for (u32 depth = 1; depth < DEPTH_MAX && is_record(fp); depth++) {
		const u64 *record = (const u64 *)(uintptr_t)fp;

		if (record[1] == 0) {
			return;
		}
		print_call(depth, record[1] - 1); /* in the call, not where it returns to */
		if (record[0] <= fp) {
			return;
		}
		fp = record[0];
	}
}
