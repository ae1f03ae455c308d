/*
 * Accessed and dirty flags in the guest's own page tables (SDM volume 3A, 4.8). Not printed: what a
 * faulting access leaves behind, and a flag that was cleared while a TLB may remember the page.
 */
#include "oracle.h"

#define RAM(n) (ORACLE_RAM + (n)*PAGE_SIZE)
#define FLAGS (PAGE_ACCESSED | PAGE_DIRTY)
#define PLAIN (PAGE_PRESENT | PAGE_WRITE)

static void clear_all(void)
{
	for (u32 level = WINDOW_LEAF; level <= WINDOW_ROOT; level++) {
		u64 *entry = window_entry(level);

		entry_set(entry, entry_of(entry) & ~FLAGS);
	}
	entry_set(&window_leaves[0], RAM(0) | PLAIN);
	entry_set(&window_leaves[1], RAM(1) | PLAIN);
	flush_all();
}

static u64 flags_of(const u64 *entry)
{
	return entry_of(entry) & FLAGS;
}

/* The leaves of pages 0 and 1, then the three entries above. */
static void say(const char *name)
{
	print("%s 0x%lx 0x%lx above 0x%lx 0x%lx 0x%lx", name, flags_of(&window_leaves[0]),
	      flags_of(&window_leaves[1]), flags_of(window_entry(WINDOW_DIRECTORY)),
	      flags_of(window_entry(WINDOW_POINTERS)), flags_of(window_entry(WINDOW_ROOT)));
}

static void single_accesses(void)
{
	bool done;
	u64 old = 1;

	clear_all();
	say("untouched");
	read64(WINDOW);
	say("read");
	write64(WINDOW, 0);
	say("read_then_written");
	clear_all();
	write64(WINDOW, 5);
	say("written");
	clear_all();
	read64(WINDOW + PAGE_SIZE - 4);
	say("read_straddling");
	clear_all();
	write64(WINDOW + PAGE_SIZE - 1, 0);
	say("written_straddling");
	clear_all();
	__asm__ volatile("lock cmpxchgq %3, (%2)"
			 : "+a"(old), "=@ccz"(done)
			 : "r"(WINDOW), "r"(2ul)
			 : "memory");
	say("compared_in_vain");
	clear_all();
	__asm__ volatile("lock incl (%0)" ::"r"(WINDOW + PAGE_SIZE - 2) : "memory", "cc");
	say("locked_straddling");
	clear_all();
	__asm__ volatile("prefetchw (%0)\n\tmfence" ::"r"(WINDOW) : "memory");
	print("prefetch_is_not_a_write 0x%lx", flags_of(&window_leaves[0]) & PAGE_DIRTY);
}

static void code_and_stack(void)
{
	write64(RAM(0), 0xc3c3c3c3c3c3c3c3);
	clear_all();
	((void (*)(void))WINDOW)();
	say("executed");
	clear_all();
	__asm__ volatile(
		"mov %%rsp, %%rbx\n\tmov %0, %%rsp\n\tpush %%rax\n\tmov %%rbx, %%rsp" ::"r"(
			WINDOW + PAGE_SIZE)
		: "rbx", "memory");
	say("pushed");
	clear_all();
	tables_load();
	tables_set_stack(VECTOR_UD, WINDOW + 2 * PAGE_SIZE);
	ATTEMPT("exception_on_a_clean_stack", "ud2");
	say("exception_pushed");
	tables_set_stack(VECTOR_UD, 0);
	tables_unload();
}

static void strings(void)
{
	u64 to = WINDOW + PAGE_SIZE + 8, from = WINDOW + 8, count = 100;

	clear_all();
	__asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count)::"memory");
	say("copied");
	clear_all();
	to = WINDOW + PAGE_SIZE - 8, count = 2;
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
	say("filled");
}

/* Cleared, and forgotten by the TLB: set again by the next use. */
static void again(void)
{
	clear_all();
	write64(WINDOW, 1);
	for (u32 i = 0; i < 3; i++) {
		window_set(0, entry_of(&window_leaves[0]) & ~FLAGS);
		read64(WINDOW);
		say("read_again");
		window_set(0, entry_of(&window_leaves[0]) & ~PAGE_DIRTY);
		write64(WINDOW, i);
		say("written_again");
	}
}

static void large(void)
{
	entry_set(&window_directory[1], ORACLE_RAM | PLAIN | PAGE_LARGE);
	flush_all();
	read64(WINDOW_BLOCK + 0x12345);
	print("large_read 0x%lx", flags_of(&window_directory[1]));
	write64(WINDOW_BLOCK + 0x54321, 0);
	print("large_written 0x%lx", flags_of(&window_directory[1]));
	entry_set(&window_directory[1], 0);
	flush_all();
}

/* A page table that is mapped itself: its own entry is what an access through it changes. */
static void table_in_itself(void)
{
	clear_all();
	entry_set(&window_leaves[2], (u64)window_leaves | PLAIN);
	flush_all();
	write64(WINDOW + 2 * PAGE_SIZE + 8, RAM(3) | PLAIN);
	print("table_in_itself 0x%lx 0x%lx", entry_of(&window_leaves[1]),
	      flags_of(&window_leaves[2]));
	entry_set(&window_leaves[2], 0);
	flush_all();
}

void oracle_flags(void)
{
	window_open();
	single_accesses();
	code_and_stack();
	strings();
	again();
	large();
	table_in_itself();
	window_close();
}
