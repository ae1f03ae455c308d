/*
 * Views by VMFUNC (SDM volume 3C, 26.5.6): the same memory with less rights, chosen by the guest
 * without an exit. What a view forbids is a general protection fault.
 *
 * In the second view one page may only be read, and one not even that.
 */
#include "lib_probe.h"

#define PAGE_OFFSET (12ul << 20)
#define EVERYTHING (PROBE_READ | PROBE_WRITE | PROBE_EXEC)
#define WORD 0x5ee5ee5ee5ul
#define SWITCHES 500

static u64 readable, hidden, plain; /* pages */
static u32 view;

/* Two bytes are passed over at a fault, and VMFUNC has three. */
static void call_function(u32 function, u32 index)
{
	__asm__ volatile(".byte 0x0f, 0x01, 0xd4\n\tnop\n\tnop" ::"a"(function), "c"(index)
			 : "memory");
}

static void enter(u32 index)
{
	call_function(0, index);
}

/* Both are instructions of two bytes. */
static bool write_faults(u64 at, u32 value)
{
	struct fault fault;

	fault_expect();
	__asm__ volatile("mov %%eax, (%%rcx)" ::"a"(value), "c"(at) : "memory");
	fault = fault_end();
	return fault.count == 1 && fault.vector == VECTOR_GP;
}

static bool read_faults(u64 at)
{
	struct fault fault;
	u32 value;

	fault_expect();
	__asm__ volatile("mov (%%rcx), %%eax" : "=a"(value) : "c"(at) : "memory");
	fault = fault_end();
	return fault.count == 1 && fault.vector == VECTOR_GP;
}

static bool function_faults(u32 function, u32 index)
{
	struct fault fault;

	fault_expect();
	call_function(function, index);
	fault = fault_end();
	return fault.count > 0 && fault.vector == VECTOR_UD;
}

static void one_page_may_be_read(void)
{
	bool reads, writes, others;

	enter(view);
	reads = read64(readable) == WORD;
	writes = write_faults(readable, 1);
	others = !write_faults(plain, 7);
	enter(0);
	check("a_view_shows_the_same_bytes", reads, "0x%lx", read64(readable));
	check("what_a_view_forbids_faults", writes, " ");
	check_equal("a_write_that_faulted_wrote_nothing", read64(readable), WORD);
	check("what_it_allows_does_not", others && read32(plain) == 7, "%u", read32(plain));
	check("view_0_allows_it", !write_faults(readable, (u32)WORD), " ");
}

static void one_page_is_hidden(void)
{
	bool faults;

	enter(view);
	faults = read_faults(hidden);
	enter(0);
	check("what_a_view_hides_faults", faults, " ");
	check_equal("view_0_shows_it", read64(hidden), WORD);
}

/* Without an invalidation the view would go on to show the frame of before, or the right. */
static void changes_reach_a_view(void)
{
	bool same, still, anew;

	enter(view);
	probe(PROBE_EXERCISE, EXERCISE_MIGRATE, readable, PAGE_SIZE);
	same = read64(readable) == WORD;
	probe(PROBE_VIEW_PROTECT, view, readable, PROBE_READ | PROBE_WRITE);
	still = write_faults(readable, (u32)WORD);
	probe(PROBE_VIEW_PROTECT, view, readable, PROBE_READ);
	anew = write_faults(readable, 1);
	enter(0);
	check("a_page_that_moves_moves_in_views", same, "0x%lx", read64(readable));
	check("a_right_that_a_view_gives_is_there", !still, " ");
	check("a_right_that_a_view_takes_is_gone", anew, " ");
}

static void many_switches(void)
{
	u64 wrong = 0;

	for (u32 i = 0; i < SWITCHES; i++) {
		enter(view);
		wrong += !write_faults(readable, 1);
		enter(0);
		write64(readable, WORD + i);
		enter(view);
		wrong += read64(readable) != WORD + i;
		enter(0);
	}
	check_equal("wrong_in_many_switches", wrong, 0);
}

void guest_main(void)
{
	probe_need();
	readable = machine.ram_base + PAGE_OFFSET;
	hidden = readable + PAGE_SIZE;
	plain = readable + BLOCK_SIZE;
	write64(readable, WORD);
	write64(hidden, WORD);
	check("before_there_are_views_there_is_no_function", function_faults(0, 0), " ");
	view = (u32)probe(PROBE_VIEW_ADD, EVERYTHING, 0, 0);
	if (!check("a_view_is_made", view != 0, "this machine has none")) {
		guest_end();
	}
	probe(PROBE_VIEW_PROTECT, view, readable, PROBE_READ);
	probe(PROBE_VIEW_PROTECT, view, hidden, 0);
	check("no_such_view", function_faults(0, view + 1), " ");
	check("no_such_function", function_faults(1, 0), " ");
	one_page_may_be_read();
	one_page_is_hidden();
	changes_reach_a_view();
	many_switches();
}
