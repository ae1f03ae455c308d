/*
 * Page faults and translations through the guest's own page tables (SDM volume 3A, 4.6, 4.7):
 * present, writable, user and reserved bits on every level, NX, CR0.WP, SMEP, SMAP.
 */
#include "oracle.h"

#define RAM(n) (ORACLE_RAM + (n)*PAGE_SIZE)
#define READ "mov (%0), %%rax"
#define WRITE "movq $0x77, (%0)"
#define FETCH "call *%0"
#define RET 0xc3c3c3c3c3c3c3c3ul
#define CPUID_7_SMEP 7
#define CPUID_7_SMAP 20
#define BIT_NX 20

static const char *const level_names[] = {"leaf", "directory", "pointers", "root"};

/* Each way to use a page. Page 0 of the window leads to RAM(0), whose code returns. */
static void use(const char *name, const char *detail, u64 at)
{
	print("%s %s", name, detail);
	ATTEMPT("  read", READ, "r"(at));
	ATTEMPT("  write", WRITE, "r"(at + 64));
	ATTEMPT("  fetch", FETCH, "r"(at));
}

static void use_with(const char *name, u64 entry)
{
	use(name, "leaf", window_set(0, entry));
}

static void put(u64 *entry, u64 value)
{
	entry_set(entry, value);
	flush_all();
}

/* The same bit on every level. */
static void levels(const char *name, u64 clear, u64 set)
{
	for (u32 level = WINDOW_LEAF; level <= WINDOW_ROOT; level++) {
		u64 *entry = window_entry(level), before;

		window_set(0, RAM(0) | PAGE_PRESENT | PAGE_WRITE);
		before = entry_of(entry);
		put(entry, (before & ~clear) | set);
		use(name, level_names[level], WINDOW);
		put(entry, before);
	}
}

static void absent_ranges(void)
{
	ATTEMPT("nothing_behind_the_root", READ, "r"(2 * WINDOW + 0x123));
	ATTEMPT("nothing_in_the_upper_half", READ, "r"(0xffff800000000ff8ul));
	ATTEMPT("nothing_behind_the_leaves", WRITE, "r"(WINDOW + 5 * PAGE_SIZE + 1));
	window_set(0, RAM(0) | PAGE_PRESENT | PAGE_WRITE);
	window_set(1, 0);
	ATTEMPT("straddle_into_nothing", READ, "r"(WINDOW + PAGE_SIZE - 3));
	write64(RAM(0) + PAGE_SIZE - 8, 0x1122334455667788);
	ATTEMPT("straddling_write_into_nothing", "movq $0, (%0)", "r"(WINDOW + PAGE_SIZE - 3));
	print("straddling_write_did_nothing 0x%lx", read64(RAM(0) + PAGE_SIZE - 8));
	window_set(1, RAM(1) | PAGE_PRESENT);
	ATTEMPT("straddling_write_into_read_only", "movq $0, (%0)", "r"(WINDOW + PAGE_SIZE - 3));
	print("straddling_write_did_nothing 0x%lx", read64(RAM(0) + PAGE_SIZE - 8));
}

/* What an instruction that repeats has done when it faults, it has done (volume 2B, REP). */
static void partial_strings(void)
{
	u64 to = WINDOW + PAGE_SIZE - 24;

	window_set(1, 0);
	memset((void *)RAM(0), 0, PAGE_SIZE);
	ATTEMPT("rep_stops_at_nothing",
		"mov %0, %%rdi\n\tmov $100, %%ecx\n\tmov $0x5a, %%eax\n\trep stosb", "r"(to));
	print("rep_stopped_at 0x%lx 0x%lx", read64(RAM(0) + PAGE_SIZE - 32),
	      read64(RAM(0) + PAGE_SIZE - 8));
	write64(RAM(0), RET);
}

static void write_protect(void)
{
	u64 cr0 = read_register("cr0"), at = window_set(0, RAM(0) | PAGE_PRESENT);

	write64(RAM(0) + 64, 0);
	write_register("cr0", cr0 | CR0_WP);
	ATTEMPT("write_protect_on", WRITE, "r"(at + 64));
	print("write_protect_on_wrote 0x%lx", read64(RAM(0) + 64));
	write_register("cr0", cr0 & ~CR0_WP);
	ATTEMPT("write_protect_off", WRITE, "r"(at + 64));
	print("write_protect_off_wrote 0x%lx", read64(RAM(0) + 64));
	write_register("cr0", cr0 | CR0_WP);
	ATTEMPT("write_protect_on_again", WRITE, "r"(at + 64));
}

static void no_execute(void)
{
	u64 efer = read_msr(MSR_EFER);

	if (!oracle_has("nx", cpuid(0x80000001, 0).d >> BIT_NX & 1)) {
		return;
	}
	write_msr(MSR_EFER, efer & ~EFER_NXE);
	use_with("nx.off_is_reserved", RAM(0) | PAGE_PRESENT | PAGE_WRITE | PAGE_NO_EXECUTE);
	write_msr(MSR_EFER, efer | EFER_NXE);
	flush_all();
	use_with("nx.on", RAM(0) | PAGE_PRESENT | PAGE_WRITE | PAGE_NO_EXECUTE);
	use_with("nx.absent", PAGE_NO_EXECUTE);
	levels("nx.on_every_level", 0, PAGE_NO_EXECUTE);
	write_msr(MSR_EFER, efer);
	flush_all();
}

static void supervisor_mode(void)
{
	u64 cr4 = read_register("cr4");

	use_with("user_page_of_the_kernel", RAM(0) | PAGE_PRESENT | PAGE_WRITE | PAGE_USER);
	if (oracle_has("smep", cpuid(7, 0).b >> CPUID_7_SMEP & 1)) {
		write_register("cr4", cr4 | CR4_SMEP);
		use_with("smep.user_page", RAM(0) | PAGE_PRESENT | PAGE_WRITE | PAGE_USER);
		use_with("smep.own_page", RAM(0) | PAGE_PRESENT | PAGE_WRITE);
	}
	if (oracle_has("smap", cpuid(7, 0).b >> CPUID_7_SMAP & 1)) {
		write_register("cr4", cr4 | CR4_SMAP);
		use_with("smap.user_page", RAM(0) | PAGE_PRESENT | PAGE_WRITE | PAGE_USER);
		ATTEMPT("smap.lifted", "stac\n\t" READ "\n\tclac", "r"(WINDOW));
	}
	write_register("cr4", cr4);
}

/* ---- Translations that change ---- */

static void changes(void)
{
	for (u32 i = 0; i < 4; i++) {
		write64(RAM(i) + 8, 0x1000 + i);
	}
	window_set(3, RAM(0) | PAGE_PRESENT | PAGE_WRITE);
	print("mapped 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	window_set(3, RAM(1) | PAGE_PRESENT | PAGE_WRITE);
	print("mapped_elsewhere 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	window_set(4, RAM(1) | PAGE_PRESENT | PAGE_WRITE);
	write64(WINDOW + 4 * PAGE_SIZE + 8, 0xabc);
	print("mapped_twice 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	entry_set(&window_leaves[3], RAM(2) | PAGE_PRESENT);
	write_register("cr3", read_register("cr3"));
	print("mapped_by_cr3 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	window_set(3, RAM(3) | PAGE_PRESENT | PAGE_GLOBAL);
	write_register("cr4", read_register("cr4") | CR4_PGE);
	print("global 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	window_set(3, RAM(0) | PAGE_PRESENT | PAGE_GLOBAL);
	print("global_changes_by_invlpg 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	entry_set(&window_leaves[3], RAM(2) | PAGE_PRESENT | PAGE_GLOBAL);
	write_register("cr4", read_register("cr4") & ~CR4_PGE);
	print("global_changes_by_cr4 0x%lx", read64(WINDOW + 3 * PAGE_SIZE + 8));
	window_set(3, 0);
}

/* A large page beside small ones: 2 MiB at WINDOW_BLOCK. */
static void large_pages(void)
{
	window_set(WINDOW_PAGES - 1, RAM(3) | PAGE_PRESENT | PAGE_WRITE);
	put(&window_directory[1], ORACLE_RAM | PAGE_PRESENT | PAGE_WRITE | PAGE_LARGE);
	print("large 0x%lx", read64(WINDOW_BLOCK + 2 * PAGE_SIZE + 8));
	write64(WINDOW_BLOCK - 4, 0x0123456789abcdef);
	print("large_and_small_straddled 0x%x 0x%x", read32(RAM(4) - 4), read32(RAM(0)));
	put(&window_directory[1], ORACLE_RAM | PAGE_PRESENT | PAGE_LARGE);
	use("large", "read_only", WINDOW_BLOCK + PAGE_SIZE);
	put(&window_directory[1], ORACLE_RAM | PAGE_PRESENT | PAGE_LARGE | 1ul << 13);
	use("large", "reserved", WINDOW_BLOCK + PAGE_SIZE);
	put(&window_directory[1], (u64)window_leaves | PAGE_PRESENT | PAGE_WRITE);
	print("large_became_table 0x%lx", read64(WINDOW_BLOCK + 4 * PAGE_SIZE + 8));
	put(&window_directory[1], 0);
	write64(RAM(0), RET);
}

void oracle_paging(void)
{
	u64 cr0 = read_register("cr0");

	write64(RAM(0), RET);
	write64(RAM(1), RET);
	write_register("cr0", cr0 | CR0_WP);
	window_open();
	use_with("good", RAM(0) | PAGE_PRESENT | PAGE_WRITE);
	absent_ranges();
	partial_strings();
	levels("absent", PAGE_PRESENT, 0);
	levels("read_only", PAGE_WRITE, 0);
	if (oracle_has("reserved", (cpuid(0x80000008, 0).a & 0xff) < 52)) {
		levels("reserved.address", 0, PAGE_RESERVED);
	}
	put(window_entry(WINDOW_ROOT), entry_of(window_entry(WINDOW_ROOT)) | PAGE_LARGE);
	use("large", "root", WINDOW);
	put(window_entry(WINDOW_ROOT), entry_of(window_entry(WINDOW_ROOT)) & ~PAGE_LARGE);
	write_protect();
	no_execute();
	supervisor_mode();
	changes();
	large_pages();
	window_close();
	write_register("cr0", cr0);
}
