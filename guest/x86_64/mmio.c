/*
 * Devices in memory by every move that there is: all sizes, signs, registers and forms of address;
 * the local APIC, the I/O APIC, virtio slots. What no hypervisor can decode either works or faults,
 * once. And what nobody has: reads are ones, writes are lost, code is no instruction.
 */
#include "lib.h"

#define TIMER_INITIAL (LAPIC_BASE + 0x380) /* 32 bits that read as written */
#define LAPIC_VERSION (LAPIC_BASE + 0x30)
#define IOAPIC_SELECT IOAPIC_BASE
#define IOAPIC_WINDOW (IOAPIC_BASE + 0x10)
#define IOAPIC_ENTRY_HIGH(pin) (0x11 + 2 * (pin))
#define VIRTIO_MAGIC 0x74726976ul
#define VIRTIO_SLOTS 8
#define VIRTIO_STRIDE 0x200
#define MARK 0x1122334455667788ul
#define WORD 0x80c0ffeeul

/* One load into rax, preset; rcx is the address, and rdx and rbx are the instruction's own. */
#define LOAD(insn, address)                                                                        \
	({                                                                                         \
		u64 a_ = MARK;                                                                     \
		__asm__ volatile(insn                                                              \
				 : "+a"(a_)                                                        \
				 : "c"((u64)(address))                                             \
				 : "rdx", "rbx", "r8", "r15", "memory");                           \
		a_;                                                                                \
	})
/* One store of rax. */
#define STORE(insn, address, value)                                                                \
	__asm__ volatile(insn ::"a"((u64)(value)), "c"((u64)(address)) : "rdx", "memory")

/* ---- Moves ---------------------------------------------------------------------------------- */

static void check_loads(void)
{
	write32(TIMER_INITIAL, WORD);
	check_equal("mov_eax_clears_the_rest", LOAD("movl (%%rcx), %%eax", TIMER_INITIAL), WORD);
	check_equal("movslq", LOAD("movslq (%%rcx), %%rax", TIMER_INITIAL), 0xffffffff80c0ffee);
	check_equal("mov_r8d", LOAD("movl (%%rcx), %%r8d\n\tmov %%r8, %%rax", TIMER_INITIAL), WORD);
	check_equal("mov_r15d", LOAD("movl (%%rcx), %%r15d\n\tmov %%r15, %%rax", TIMER_INITIAL),
		    WORD);
	check_equal("mov_esp",
		    LOAD("mov %%rsp, %%rbx\n\tmovl (%%rcx), %%esp\n\tmov %%rsp, %%rax\n\t"
			 "mov %%rbx, %%rsp",
			 TIMER_INITIAL),
		    WORD);
	check_equal("mov_offset", LOAD("movabs 0xfee00380, %%eax", 0), WORD);
	check_equal("mov_rax", LOAD("movq (%%rcx), %%rax", VIRTIO_BASE), 2ul << 32 | VIRTIO_MAGIC);
	check_equal("mov_ax_keeps_the_rest", LOAD("movw (%%rcx), %%ax", VIRTIO_BASE),
		    (MARK & ~0xfffful) | 0x6976);
	check_equal("mov_al_keeps_the_rest", LOAD("movb (%%rcx), %%al", VIRTIO_BASE + 2),
		    (MARK & ~0xfful) | 0x72);
	check_equal("mov_ah_keeps_the_rest", LOAD("movb (%%rcx), %%ah", VIRTIO_BASE + 3),
		    (MARK & ~0xff00ul) | 0x7400);
	check_equal("movzbl", LOAD("movzbl (%%rcx), %%eax", VIRTIO_BASE + 1), 0x69);
	check_equal("movzwl", LOAD("movzwl (%%rcx), %%eax", VIRTIO_BASE + 2), 0x7472);
	check_equal("movsbl", LOAD("movsbl (%%rcx), %%eax", VIRTIO_BASE), 0x76);
}

/* Narrow reads of the local APIC are ones: what is extended then is known. */
static void check_signs(void)
{
	check_equal("movzbq_of_ones", LOAD("movzbq (%%rcx), %%rax", LAPIC_VERSION), 0xff);
	check_equal("movsbq_of_ones", LOAD("movsbq (%%rcx), %%rax", LAPIC_VERSION), ~0ul);
	check_equal("movsbl_of_ones", LOAD("movsbl (%%rcx), %%eax", LAPIC_VERSION), 0xffffffff);
	check_equal("movsbw_of_ones", LOAD("movsbw (%%rcx), %%ax", LAPIC_VERSION), MARK | 0xffff);
	check_equal("movswq_of_ones", LOAD("movswq (%%rcx), %%rax", LAPIC_VERSION), ~0ul);
	check_equal("movzwq_of_ones", LOAD("movzwq (%%rcx), %%rax", LAPIC_VERSION), 0xffff);
}

static void check_addresses(void)
{
	u64 a = TIMER_INITIAL;

	write32(a, WORD);
	check_equal("displacement_of_8", LOAD("movl -8(%%rcx), %%eax", a + 8), WORD);
	check_equal("displacement_of_32", LOAD("movl 0x1000(%%rcx), %%eax", a - 0x1000), WORD);
	check_equal("base_and_index",
		    LOAD("mov $2, %%edx\n\tmovl (%%rcx, %%rdx, 8), %%eax", a - 16), WORD);
	check_equal("index_alone", LOAD("movl (, %%rcx, 4), %%eax", a / 4), WORD);
	check_equal("address_of_32_bits", LOAD("addr32 movl (%%ecx), %%eax", a | 1ul << 32), WORD);
	check_equal("base_r12",
		    LOAD("mov %%r12, %%rbx\n\tmov %%rcx, %%r12\n\tmovl (%%r12), %%eax\n\t"
			 "mov %%rbx, %%r12",
			 a),
		    WORD);
	check_equal("segment_fs", LOAD("movl %%fs:(%%rcx), %%eax", a - cpu_number()), WORD);
	check_equal("useless_prefixes", LOAD(".byte 0xf3, 0x3e, 0x40\n\tmovl (%%rcx), %%eax", a),
		    WORD);
}

static void check_stores(void)
{
	STORE("movl %%eax, (%%rcx)", TIMER_INITIAL, 0x12345678);
	check_equal("store_of_eax", read32(TIMER_INITIAL), 0x12345678);
	STORE("movl $0x7badcafe, (%%rcx)", TIMER_INITIAL, 0);
	check_equal("store_of_an_immediate", read32(TIMER_INITIAL), 0x7badcafe);
	STORE("movabs %%eax, 0xfee00380", 0, 0x87654321);
	check_equal("store_to_an_offset", read32(TIMER_INITIAL), 0x87654321);
	STORE("mov %%rax, %%rdx\n\tmovl %%edx, 0x10(%%rcx)", TIMER_INITIAL - 0x10, 0x1001);
	check_equal("store_of_edx", read32(TIMER_INITIAL), 0x1001);
	STORE("xchg %%rax, %%rsp\n\tmovl %%esp, (%%rcx)\n\txchg %%rax, %%rsp", TIMER_INITIAL,
	      0x2002);
	check_equal("store_of_esp", read32(TIMER_INITIAL), 0x2002);
	STORE("movb %%al, (%%rcx)", TIMER_INITIAL, 0xff);
	STORE("movw %%ax, (%%rcx)", TIMER_INITIAL, 0xffff);
	STORE("movq %%rax, (%%rcx)", TIMER_INITIAL, ~0ul);
	check_equal("other_widths_write_no_local_apic", read32(TIMER_INITIAL), 0x2002);
	STORE("movb %%ah, (%%rcx)", VIRTIO_BASE, ~0ul);
	STORE("movq $-1, (%%rcx)", VIRTIO_BASE, 0);
	STORE("movw $-1, (%%rcx)", VIRTIO_BASE, 0);
	STORE("movb $-1, (%%rcx)", VIRTIO_BASE, 0);
	check_equal("empty_slots_take_nothing", read32(VIRTIO_BASE), VIRTIO_MAGIC);
	write32(TIMER_INITIAL, 0);
}

/* Code that lies in two pages is fetched from both. */
static void check_page_crossing(void)
{
	static u8 code[2 * PAGE_SIZE] __attribute__((aligned(4096)));
	/* mov 0(%eip), %eax; ret: in 32 bits every place is in reach. */
	static const u8 load[] = {0x67, 0x8b, 0x05, 0, 0, 0, 0, 0xc3};
	u32 wrong = 0;

	write32(TIMER_INITIAL, WORD);
	for (u64 before = 0; before <= sizeof(load); before++) {
		u8 *at = code + PAGE_SIZE - before;
		u64 distance = TIMER_INITIAL - (u64)(at + 7);

		memcpy(at, load, sizeof(load));
		memcpy(at + 3, &distance, 4);
		code_will_run();
		wrong += ((u32(*)(void))(u64)at)() != WORD;
	}
	check_equal("code_across_two_pages", wrong, 0);
}

/* ---- Devices -------------------------------------------------------------------------------- */

static u32 ioapic_read(u32 index)
{
	write32(IOAPIC_SELECT, index);
	return read32(IOAPIC_WINDOW);
}

static void check_ioapic(void)
{
	check("ioapic_has_24_pins", (ioapic_read(1) & 0xff00ff) == 0x170020, "version 0x%x",
	      ioapic_read(1));
	check_equal("ioapic_entries_begin_masked", ioapic_read(0x10 + 2 * 23) >> 16 & 1, 1);
	write32(IOAPIC_SELECT, IOAPIC_ENTRY_HIGH(5));
	write32(IOAPIC_WINDOW, 0xffffffff);
	check_equal("ioapic_destination_is_8_bits", ioapic_read(IOAPIC_ENTRY_HIGH(5)), 0xff000000);
	write32(IOAPIC_SELECT, 0xffffff01);
	check_equal("ioapic_select_is_8_bits", read32(IOAPIC_SELECT), 1);
	check_equal("ioapic_behind_its_entries", ioapic_read(0x10 + 2 * 24), 0);
}

static void check_virtio(void)
{
	u32 empty = 0;

	for (u32 i = 0; i < VIRTIO_SLOTS; i++) {
		u64 slot = VIRTIO_BASE + VIRTIO_STRIDE * i;

		empty += read32(slot) == VIRTIO_MAGIC && read32(slot + 8) == 0;
	}
	check_equal("virtio_slots_are_empty", empty, VIRTIO_SLOTS);
}

/* ---- What is not done ----------------------------------------------------------------------- */

/* rax is the address. */
#define DONE_OR_FAULT(name, length, insn, address)                                                 \
	do {                                                                                       \
		struct fault f_ = FAULT_OF(length, insn, (u64)(address));                          \
		check(name, f_.count == 0 || (f_.count == 1 && f_.vector == VECTOR_GP),            \
		      "%u exceptions, the last %u", f_.count, f_.vector);                          \
	} while (0)

static void check_undecodable(void)
{
	u64 a = TIMER_INITIAL;
	struct fault f;

	DONE_OR_FAULT("add_to_a_device", 3, ".byte 0x83, 0x00, 0x01", a);
	DONE_OR_FAULT("compare_with_a_device", 3, ".byte 0x83, 0x38, 0x00", a);
	DONE_OR_FAULT("exchange_with_a_device", 2, ".byte 0x87, 0x08", a);
	DONE_OR_FAULT("test_of_a_device", 2, ".byte 0x85, 0x08", a);
	DONE_OR_FAULT("locked_increment_of_a_device", 3, ".byte 0xf0, 0xff, 0x00", a);
	f = FAULT_OF(3, ".byte 0xf0, 0x89, 0x08", a); /* LOCK MOV */
	check("locked_move", f.count == 1 && f.vector == VECTOR_UD, "%u exceptions, the last %u",
	      f.count, f.vector);
	fault_expect();
	__asm__ volatile("call *%0" ::"r"(LAPIC_BASE) : "memory");
	f = fault_end();
	check("code_in_a_device", f.count == 1, "%u exceptions, the last %u", f.count, f.vector);
}

/* ---- Nobody there --------------------------------------------------------------------------- */

static void check_hole(void)
{
	u64 a = HOLE_BASE + 0x1230, behind = machine.ram_base + machine.ram_size;
	struct fault f;

	fault_expect_length(2);
	STORE("movl %%eax, (%%rcx)", a, 0);
	STORE("movb %%al, (%%rcx)", a, 0);
	STORE("movq %%rax, (%%rcx)", a, 0);
	check_equal("hole_mov_eax", LOAD("movl (%%rcx), %%eax", a), 0xffffffff);
	check_equal("hole_mov_al", LOAD("movb (%%rcx), %%al", a), MARK | 0xff);
	check_equal("hole_mov_ah", LOAD("movb (%%rcx), %%ah", a), MARK | 0xff00);
	check_equal("hole_mov_ax", LOAD("movw (%%rcx), %%ax", a), MARK | 0xffff);
	check_equal("hole_mov_rax", LOAD("movq (%%rcx), %%rax", a), ~0ul);
	check_equal("hole_movzbq", LOAD("movzbq (%%rcx), %%rax", a), 0xff);
	check_equal("hole_movsbl", LOAD("movsbl (%%rcx), %%eax", a), 0xffffffff);
	check_equal("hole_right_behind_ram", LOAD("movb (%%rcx), %%al", behind), MARK | 0xff);
	f = fault_end();
	check_equal("hole_faults", f.count, 0);
}

static void check_code_in_hole(void)
{
	struct fault f;

	fault_expect();
	__asm__ volatile("call *%0" ::"r"(HOLE_BASE) : "memory");
	f = fault_end();
	check("code_in_a_hole", f.count == 1 && f.vector == VECTOR_UD, "%u exceptions, the last %u",
	      f.count, f.vector);
}

/* A table of ones: present, with reserved bits. */
static void check_table_at(const char *name, u64 table)
{
	u64 *top, a = 1ul << 39 | 0x123456;
	struct fault f;

	__asm__ volatile("mov %%cr3, %0" : "=r"(top));
	top[1] = table | 7;
	__asm__ volatile("mov %0, %%cr3" ::"r"(top) : "memory");
	f = FAULT_OF(2, ".byte 0x8b, 0x08", a); /* mov (%rax), %ecx */
	check(name, f.count == 1 && f.vector == VECTOR_PF && f.error == 9 && f.address == a,
	      "%u exceptions, the last %u with 0x%lx at 0x%lx", f.count, f.vector, f.error,
	      f.address);
	top[1] = 0;
	__asm__ volatile("mov %0, %%cr3" ::"r"(top) : "memory");
}

void guest_main(void)
{
	check_loads();
	check_signs();
	check_addresses();
	check_stores();
	check_page_crossing();
	check_ioapic();
	check_virtio();
	check_undecodable();
	check_hole();
	check_code_in_hole();
	check_table_at("table_in_a_hole", HOLE_BASE);
	check_table_at("table_in_a_device", VIRTIO_BASE);
}
