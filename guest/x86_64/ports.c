/*
 * INS and OUTS: bytes of memory to ports and back, through the guest's own page tables, and the
 * exceptions that these give (SDM volume 2, INS, OUTS and REP).
 */
#include "lib.h"

#define PORT_SCRATCH (COM1 + 7)
#define PORT_NOBODY 0x9990
#define MSR_GS_BASE 0xc0000101u
#define CR0_WP (1ul << 16)

#define WINDOW (4ul << 30) /* behind the library's map */
#define FRAMES 0x2000000ul /* pages that lie in the window, every other one */
#define ENTRY_PRESENT 1ul
#define ENTRY_WRITE 2ul
#define ENTRY_ACCESSED 0x20ul
#define ENTRY_DIRTY 0x40ul
#define ENTRY_RESERVED (1ul << 51)
#define ENTRY_ADDRESS 0x000ffffffffff000ul

#define ERROR_PRESENT 1ul
#define ERROR_WRITE 2ul
#define ERROR_RESERVED 8ul

static u64 pages[512] __attribute__((aligned(4096)));

static u64 window(u64 page, u64 offset)
{
	return WINDOW + page * PAGE_SIZE + offset;
}

static void set_page(u64 page, u64 flags)
{
	pages[page] = flags ? (FRAMES + page * 2 * PAGE_SIZE) | flags : 0;
	__asm__ volatile("invlpg (%0)" ::"r"(window(page, 0)) : "memory");
}

static void make_window(void)
{
	static u64 blocks[512] __attribute__((aligned(4096)));
	u64 *root, *pointers, cr3;

	__asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
	root = (u64 *)(cr3 & ENTRY_ADDRESS);
	pointers = (u64 *)(root[0] & ENTRY_ADDRESS);
	blocks[0] = (u64)pages | ENTRY_PRESENT | ENTRY_WRITE;
	pointers[WINDOW >> 30] = (u64)blocks | ENTRY_PRESENT | ENTRY_WRITE;
}

/* ---- The instructions: what registers are behind them ---------------------------------------- */

struct string {
	u64 at, count;
};

/* With REP all are of two bytes, as what a fault passes over. */
#define STRING(name, instruction, index)                                                           \
	static struct string name(u16 port, u64 at, u64 count)                                     \
	{                                                                                          \
		__asm__ volatile(instruction "\n\tcld"                                             \
				 : "+" index(at), "+c"(count)                                      \
				 : "d"(port)                                                       \
				 : "memory");                                                      \
		return (struct string){at, count};                                                 \
	}

STRING(outs_once, "outsb", "S")
STRING(outs, "rep outsb", "S")
STRING(outs_down, "std\n\trep outsb", "S")
STRING(outs_narrow, "addr32 rep outsb", "S")
STRING(outs_gs, "rep outsb %%gs:(%%rsi), %%dx", "S")
STRING(ins_once, "insb", "D")
STRING(ins, "rep insb", "D")
STRING(ins_down, "std\n\trep insb", "D")
STRING(ins_words, "rep insw", "D")
STRING(ins_doubles, "rep insl", "D")

static void check_registers(const char *name, struct string got, u64 at, u64 count)
{
	check(name, got.at == at && got.count == count, "at 0x%lx count 0x%lx, want 0x%lx, 0x%lx",
	      got.at, got.count, at, count);
}

static bool is_all(const u8 *bytes, u64 size, u8 value)
{
	u64 same = 0;

	while (same < size && bytes[same] == value) {
		same++;
	}
	return same == size;
}

/* ---- Plain ----------------------------------------------------------------------------------- */

static void write_lines(void)
{
	static const char line[] = "a line by OUTSB\n", back[] = "\nsdrawnwod BSTUO yb enil a";
	u64 at = (u64)line, size = strlen(line), last = (u64)back + strlen(back) - 1;

	check_registers("outsb_moves_one", outs_once(PORT_NOBODY, at, 7), at + 1, 7);
	check_registers("rep_outsb_moves_all", outs(COM1, at, size), at + size, 0);
	check_registers("and_downwards", outs_down(COM1, last, strlen(back)), (u64)back - 1, 0);
	check_registers("addresses_of_32_bits_are_cut_and_cleared",
			outs_narrow(COM1, 1ul << 40 | at, 5ul << 32 | size), at + size, 0);
	write_msr(MSR_GS_BASE, at - 0x1000);
	check_registers("a_segment_s_base_counts", outs_gs(COM1, 0x1000, size), 0x1000 + size, 0);
}

static void read_scratch(void)
{
	static u8 bytes[400];
	u64 at = (u64)bytes;

	out8(PORT_SCRATCH, 0x5a);
	check_registers("insb_moves_one", ins_once(PORT_SCRATCH, at, 7), at + 1, 7);
	check("and_only_one", bytes[0] == 0x5a && bytes[1] == 0, "%x %x", bytes[0], bytes[1]);
	check_registers("rep_insb_moves_all", ins(PORT_SCRATCH, at, 300), at + 300, 0);
	check("and_no_more", is_all(bytes, 300, 0x5a) && bytes[300] == 0, "%x", bytes[300]);
	out8(PORT_SCRATCH, 0xa5);
	check_registers("insb_downwards", ins_down(PORT_SCRATCH, at + 99, 99), at, 0);
	check("leaves_what_is_below",
	      bytes[0] == 0x5a && is_all(bytes + 1, 99, 0xa5) && bytes[100] == 0x5a, "%x %x",
	      bytes[0], bytes[100]);
	check_registers("insw_moves_two_bytes_each", ins_words(PORT_NOBODY, at, 10), at + 20, 0);
	check_registers("insl_moves_four", ins_doubles(PORT_NOBODY, at + 20, 10), at + 60, 0);
	check("nobody_s_port_is_ones", is_all(bytes, 60, 0xff) && bytes[60] == 0xa5, "%x",
	      bytes[60]);
	check_registers("many_take_many_steps", outs(PORT_NOBODY, at & ~0xffful, 5000),
			(at & ~0xffful) + 5000, 0);
}

/* ---- Pages ----------------------------------------------------------------------------------- */

static void cross_pages(void)
{
	static const char line[] = "a line in two pages\n";
	u64 at = window(0, PAGE_SIZE - 7);
	struct string end;

	set_page(0, ENTRY_PRESENT | ENTRY_WRITE);
	set_page(1, ENTRY_PRESENT | ENTRY_WRITE);
	memcpy((void *)at, line, sizeof(line));
	end = outs(COM1, at, strlen(line));
	check_registers("a_string_goes_from_page_to_page", end, at + strlen(line), 0);
	at = window(0, PAGE_SIZE - 6);
	check_registers("so_does_one_element", ins_doubles(PORT_NOBODY, at, 3), at + 12, 0);
	check("with_all_its_bytes", is_all((u8 *)at, 12, 0xff) && read8(at + 12) != 0xff, "0x%lx",
	      read64(at + 8));
}

static void set_flags(void)
{
	set_page(0, ENTRY_PRESENT | ENTRY_WRITE);
	outs(PORT_NOBODY, window(0, 0), 1);
	check_equal("outsb_marks_the_page_accessed", pages[0] & (ENTRY_ACCESSED | ENTRY_DIRTY),
		    ENTRY_ACCESSED);
	ins(PORT_NOBODY, window(0, 0), 1);
	check_equal("insb_marks_it_dirty", pages[0] & (ENTRY_ACCESSED | ENTRY_DIRTY),
		    ENTRY_ACCESSED | ENTRY_DIRTY);
}

/* One line for each fault: that it came, which, where, and how far the string had come. */
static void check_fault(const char *name, struct string got, struct string want, u64 error)
{
	struct fault f = fault_end();

	check(name,
	      f.count == 1 && f.vector == VECTOR_PF && f.error == error && f.address == want.at &&
		      got.at == want.at && got.count == want.count,
	      "%u faults, vector %u, error 0x%lx at 0x%lx; 0x%lx and 0x%lx left", f.count, f.vector,
	      f.error, f.address, got.at, got.count);
}

static void fault_in_pages(void)
{
	u64 at = window(0, PAGE_SIZE - 4);
	struct string end;

	set_page(1, 0);
	memcpy((void *)at, "edge", 4);
	fault_expect();
	end = outs(COM1, at, 100);
	check_fault("outsb_stops_where_no_page_is", end, (struct string){window(1, 0), 96}, 0);
	fault_expect();
	end = ins(PORT_NOBODY, at, 100);
	check_fault("insb_too", end, (struct string){window(1, 0), 96}, ERROR_WRITE);
	check("with_what_came_before", is_all((u8 *)at, 4, 0xff), "0x%x", read32(at));
	check_registers("a_count_of_0_looks_at_no_page", outs(COM1, window(1, 0), 0), window(1, 0),
			0);
	set_page(1, ENTRY_PRESENT | ENTRY_RESERVED);
	fault_expect();
	end = outs(PORT_NOBODY, window(1, 8), 9);
	check_fault("a_reserved_bit_is_told_of", end, (struct string){window(1, 8), 9},
		    ERROR_PRESENT | ERROR_RESERVED);
}

static void write_protect(u64 on)
{
	u64 cr0;

	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	cr0 = on ? cr0 | CR0_WP : cr0 & ~CR0_WP;
	__asm__ volatile("mov %0, %%cr0" ::"r"(cr0) : "memory");
}

static void fault_by_rights(void)
{
	struct string end;

	set_page(1, ENTRY_PRESENT);
	check_registers("without_wp_a_page_to_read_is_written", ins(PORT_NOBODY, window(1, 0), 4),
			window(1, 4), 0);
	write_protect(1);
	fault_expect();
	end = ins(PORT_NOBODY, window(1, 0), 4);
	check_fault("with_it_that_is_a_fault", end, (struct string){window(1, 0), 4},
		    ERROR_PRESENT | ERROR_WRITE);
	check_registers("and_it_may_be_read", outs(PORT_NOBODY, window(1, 0), 4), window(1, 4), 0);
	write_protect(0);
}

static void fault_by_address(void)
{
	u64 at = (1ul << 47) - 2;
	struct fault f;
	struct string end;

	fault_expect();
	end = outs(PORT_NOBODY, at + 2, 3);
	f = fault_end();
	check("an_address_that_is_none_is_a_protection_fault",
	      f.count == 1 && f.vector == VECTOR_GP && f.error == 0 && end.count == 3,
	      "%u faults, vector %u, error 0x%lx, %lu left", f.count, f.vector, f.error, end.count);
}

void guest_main(void)
{
	make_window();
	write_lines();
	read_scratch();
	cross_pages();
	set_flags();
	fault_in_pages();
	fault_by_rights();
	fault_by_address();
}
