/*
 * Which pages of RAM a guest writes, by its own account: "page 0x.." for each that must be in a
 * hypervisor's dirty log of what lies between the two marks, and "perhaps 0x.." for those that may
 * be.
 *
 * Perhaps: tables that a walk only reads. Where EPT has accessed and dirty flags, a processor takes
 * every access to a guest's tables for a write (SDM volume 3C, 29.3.5).
 *
 * Nothing else is written between the marks: that part runs on a stack of its own, says nothing,
 * and touches no variable. What it will do is decided before.
 */
#include "oracle.h"

#include "lib_probe.h"

#define MARK_PORT 0x5e0
#define MARK_BEGIN 1
#define MARK_END 2
#define RAM(n) (ORACLE_RAM + (n)*PAGE_SIZE)
#define PLAIN (PAGE_PRESENT | PAGE_WRITE)
#define STACK_PAGES 3ul

#define PAGES_MAX 128

static u8 stack[STACK_PAGES * PAGE_SIZE] __attribute__((aligned(4096)));
static u64 pages[PAGES_MAX];
static u32 page_count;

static void expect(u64 at)
{
	at &= ~(PAGE_SIZE - 1);
	for (u32 i = 0; i < page_count; i++) {
		if (pages[i] == at) {
			return;
		}
	}
	pages[page_count++] = at;
}

/* Lamina's log, of the lowest RAM: a bit for each page. */
#define LOG_WORDS 64
static u64 logged[LOG_WORDS] __attribute__((aligned(4096)));
static bool asks_lamina;

static u64 ask(u64 word)
{
	return probe(PROBE_DIRTY_GET, word * 64 * PAGE_SIZE, 0, 0);
}

/* The answer about the page that answers are written to comes first. */
static void take_log(void)
{
	u64 own = (u64)logged / PAGE_SIZE / 64;

	logged[own] = ask(own);
	for (u64 i = 0; i < LOG_WORDS; i++) {
		if (i != own) {
			logged[i] = ask(i);
		}
	}
}

/*
 * Whoever logs does so from here on, or tells: KVM's side listens at the port, and prints
 * "log 0x.." for each page of its own accord. Lamina is asked, and say_log() prints the same lines.
 */
static void mark(u8 which)
{
	if (!asks_lamina) {
		out8(MARK_PORT, which);
	} else if (which == MARK_BEGIN) {
		probe(PROBE_DIRTY_START, 0, 0, 0);
	} else {
		take_log();
	}
}

static void say_log(void)
{
	for (u64 i = 0; i < LOG_WORDS * 64; i++) {
		if (logged[i / 64] >> i % 64 & 1) {
			print("log 0x%lx", i * PAGE_SIZE);
		}
	}
}

/* ---- Between the marks. Each line of write_pages() has its line in expect_pages() --------------
 */

/* Uses the stack's first page and its last, two pages deeper. */
static void push_deep(void)
{
	__asm__ volatile("mov %%rsp, %%rcx\n\tpush %%rax\n\tsub $8192, %%rsp\n\tpush %%rax\n\t"
			 "mov %%rcx, %%rsp" ::
				 : "rcx", "memory");
}

__attribute__((noinline)) static void write_pages(void)
{
	u64 to = RAM(40) - 8, count = 3;

	mark(MARK_BEGIN);
	for (u32 i = 0; i < 16; i++) {
		write8(RAM(2 * i) + i * 251, (u8)i); /* every other one */
	}
	write64(RAM(33) - 4, 1); /* straddles 32, which was not written, and 33 */
	__asm__ volatile("lock incl (%0)" ::"r"(RAM(36) - 2) : "memory", "cc");
	__asm__ volatile("rep stosq" : "+D"(to), "+c"(count) : "a"(0) : "memory");
	write64(RAM(44), read64(RAM(44))); /* the same again is a write */
	read64(RAM(46));
	read64(RAM(48) - 4);
	write64(WINDOW + PAGE_SIZE + 8, 7); /* sets flags in the leaf, the rest is accessed */
	read64(WINDOW + 2 * PAGE_SIZE);	    /* sets a flag in the leaf */
	write64(ORACLE_FRESH, 1);
	write64(ORACLE_FRESH + 0x10000 - 3, 1);
	push_deep();
	mark(MARK_END);
}

static void expect_pages(void)
{
	for (u32 i = 0; i < 16; i++) {
		expect(RAM(2 * i));
	}
	expect(RAM(32)), expect(RAM(33));
	expect(RAM(35)), expect(RAM(36));
	expect(RAM(39)), expect(RAM(40));
	expect(RAM(44));
	expect(RAM(50)), expect((u64)window_leaves);
	expect(ORACLE_FRESH);
	expect(ORACLE_FRESH + 0xf000), expect(ORACLE_FRESH + 0x10000);
	expect((u64)stack), expect((u64)stack + (STACK_PAGES - 1) * PAGE_SIZE);
}

/* ---- Around them ---- */

static void on_own_stack(void (*fn)(void))
{
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %0, %%rsp\n\tcall *%1\n\tmov %%rbx, %%rsp" ::"r"(
				 stack + sizeof(stack) - 64),
			 "r"(fn)
			 : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
			   "memory", "cc");
}

/* Flags of tables that are set already are not set again. */
static void prepare(void)
{
	window_open();
	window_set(1, RAM(50) | PLAIN);
	window_set(2, RAM(51) | PLAIN);
	read64(WINDOW + PAGE_SIZE);
	window_set(1, RAM(50) | PLAIN);
	for (u64 at = ORACLE_RAM; at < ORACLE_FRESH; at += BLOCK_SIZE) {
		write64(at, 0);
	}
	write64(ORACLE_FRESH - 8, 0);
}

static void say_pages(const char *name, u64 from, u64 end)
{
	for (; from < end; from += PAGE_SIZE) {
		print("%s 0x%lx", name, from);
	}
}

void oracle_dirty(void)
{
	u64 root = read_register("cr3") & ~(PAGE_SIZE - 1);

	asks_lamina = bootarg_word("probe");
	page_count = 0;
	expect_pages();
	prepare();
	on_own_stack(write_pages);
	say_log();
	for (u32 i = 0; i < page_count; i++) {
		print("page 0x%lx", pages[i]);
	}
	say_pages("perhaps", root, root + 6 * PAGE_SIZE);
	say_pages("perhaps", (u64)window_entry(WINDOW_DIRECTORY),
		  (u64)window_entry(WINDOW_DIRECTORY) + PAGE_SIZE);
	say_pages("perhaps", (u64)window_entry(WINDOW_POINTERS),
		  (u64)window_entry(WINDOW_POINTERS) + PAGE_SIZE);
	window_close();
}
