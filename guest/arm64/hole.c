/*
 * Accesses to where nothing is, of every kind: each must come back as an abort inside the guest,
 * and the guest goes on behind it.
 *
 * The holes: between the devices, the first byte behind RAM, just under RAM, far above, and beyond
 * what the hypervisor can map at all. Then what is not a plain load: pairs, write-back, exclusives,
 * compare and swap, DC ZVA, cache maintenance, execution, an access of which half is in RAM, and
 * translation tables of the guest's own that lie in a hole.
 */
#include "lib.h"

#define UNDER_RAM 0x3efff000ul /* bare: behind the PCI window's end */
#define DESC_TABLE 3ul

static u64 ram_end(void)
{
	return machine.ram_base + machine.ram_size;
}

/* An abort came, for data or instruction as wanted, at the address wanted (0: any). */
static void expect_abort(const char *name, u32 ec, u64 far)
{
	struct fault f = fault_end();

	check(name, f.count == 1 && ESR_EC(f.esr) == ec && (!far || f.far == far),
	      "%u exceptions, esr %lx, far %lx (want EC %x, far %lx)", f.count, f.esr, f.far, ec,
	      far);
}

#define DATA_ABORT(name, address, asm_text, ...)                                                   \
	do {                                                                                       \
		fault_expect();                                                                    \
		__asm__ volatile(asm_text                                                          \
				 :                                                                 \
				 : [a] "r"((u64)(address)), ##__VA_ARGS__                          \
				 : "memory", "cc", "x0", "x1", "x2", "x3");                        \
		expect_abort(name, EC_DABORT, (address));                                          \
	} while (0)

static void check_plain(u64 a)
{
	DATA_ABORT("ldrb", a, "ldrb w0, [%[a]]");
	DATA_ABORT("ldrh", a, "ldrh w0, [%[a]]");
	DATA_ABORT("ldr_w", a, "ldr w0, [%[a]]");
	DATA_ABORT("ldr_x", a, "ldr x0, [%[a]]");
	DATA_ABORT("ldrsb", a, "ldrsb x0, [%[a]]");
	DATA_ABORT("ldrsw", a, "ldrsw x0, [%[a]]");
	DATA_ABORT("strb", a, "strb wzr, [%[a]]");
	DATA_ABORT("strh", a, "strh wzr, [%[a]]");
	DATA_ABORT("str_w", a, "str wzr, [%[a]]");
	DATA_ABORT("str_x", a, "str xzr, [%[a]]");
}

static void check_without_syndrome(u64 a)
{
	DATA_ABORT("ldp", a, "ldp x0, x1, [%[a]]");
	DATA_ABORT("stp", a, "stp x0, x1, [%[a]]");
	DATA_ABORT("ldr_pre_index", a, "sub x1, %[a], #8\n\tldr x0, [x1, #8]!");
	DATA_ABORT("ldr_post_index", a, "mov x1, %[a]\n\tldr x0, [x1], #8");
	DATA_ABORT("str_pre_index", a, "sub x1, %[a], #8\n\tstr x0, [x1, #8]!");
	DATA_ABORT("str_post_index", a, "mov x1, %[a]\n\tstr x0, [x1], #8");
	DATA_ABORT("ldr_q", a, "ldr q0, [%[a]]");
	DATA_ABORT("str_q", a, "str q0, [%[a]]");
	DATA_ABORT("ldnp", a, "ldnp x0, x1, [%[a]]");
}

static void check_ordered(u64 a)
{
	DATA_ABORT("ldar", a, "ldar x0, [%[a]]");
	DATA_ABORT("stlr", a, "stlr xzr, [%[a]]");
	DATA_ABORT("ldxr", a, "ldxr x0, [%[a]]");
	DATA_ABORT("ldxp", a, "ldxp x0, x1, [%[a]]");
	if (read_sysreg(id_aa64isar0_el1) >> 20 & 0xf) {
		DATA_ABORT("cas", a, ".arch_extension lse\n\tcas x0, x1, [%[a]]");
		DATA_ABORT("ldadd", a, ".arch_extension lse\n\tldadd x0, x1, [%[a]]");
		DATA_ABORT("swp", a, ".arch_extension lse\n\tswp x0, x1, [%[a]]");
		DATA_ABORT("casp", a,
			   ".arch_extension lse\n\tmov x0, #0\n\tcasp x0, x1, x2, x3, [%[a]]");
	}
}

/* The base register of a write-back access that aborted must be as it was. */
static void check_base_kept(u64 a)
{
	u64 base = a;

	fault_expect();
	__asm__ volatile("ldr x0, [%0], #8" : "+r"(base)::"x0", "memory");
	expect_abort("post_index_aborts", EC_DABORT, a);
	check_equal("post_index_keeps_its_base", base, a);
}

/* Cache maintenance may abort or do nothing; afterwards the guest goes on. */
static void check_maintenance(u64 a)
{
	struct fault f;

	if (!(read_sysreg(dczid_el0) & 0x10)) {
		fault_expect();
		__asm__ volatile("dc zva, %0" ::"r"(a) : "memory");
		expect_abort("dc_zva", EC_DABORT, 0);
	}
	fault_expect();
	__asm__ volatile("dc civac, %0\n\tdc cvac, %0\n\tdc ivac, %0\n\tdc cvau, %0" ::"r"(a)
			 : "memory");
	__asm__ volatile("ic ivau, %0\n\tat s1e1r, %0\n\tprfm pldl1keep, [%0]" ::"r"(a) : "memory");
	f = fault_end();
	check("maintenance_in_a_hole_is_survived", f.count <= 6, "%u exceptions", f.count);
}

static void check_execution(u64 a, const char *name)
{
	fault_expect();
	__asm__ volatile("blr %0" ::"r"(a)
			 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11",
			   "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x30", "memory");
	expect_abort(name, EC_IABORT, a);
}

/* Half of it in RAM. The abort may name any byte of the access that is not. */
static void check_across_ram_end(void)
{
	struct fault f;

	fault_expect();
	__asm__ volatile("ldr x0, [%0]" ::"r"(ram_end() - 4) : "x0", "memory");
	f = fault_end();
	check("load_across_ram_end",
	      f.count == 1 && ESR_EC(f.esr) == EC_DABORT && f.far >= ram_end() - 4 &&
		      f.far < ram_end() + 4,
	      "%u exceptions, esr %lx, far %lx", f.count, f.esr, f.far);
	fault_expect();
	__asm__ volatile("str xzr, [%0]" ::"r"(ram_end() - 4) : "memory");
	f = fault_end();
	check("store_across_ram_end", f.count == 1 && ESR_EC(f.esr) == EC_DABORT,
	      "%u exceptions, esr %lx, far %lx", f.count, f.esr, f.far);
	write64(ram_end() - 8, 0x1122334455667788);
	check_equal("last_word_of_ram_works", read64(ram_end() - 8), 0x1122334455667788);
}

/* The 512 GiB from 1 << 39 on are translated by a table that lies at `table`. */
static void check_table_in_hole(const char *name, u64 table)
{
	u64 va = 1ul << 39;
	struct fault f;

	mmu_set_top(1, table | DESC_TABLE);
	fault_expect();
	__asm__ volatile("ldr x0, [%0]" ::"r"(va) : "x0", "memory");
	f = fault_end();
	check(name, f.count == 1 && ESR_EC(f.esr) == EC_DABORT && f.far == va,
	      "%u exceptions, esr %lx, far %lx", f.count, f.esr, f.far);
	fault_expect();
	__asm__ volatile("blr %0" ::"r"(va) : "x30", "memory");
	expect_abort("the_same_for_a_fetch", EC_IABORT, va);
	fault_expect();
	__asm__ volatile("at s1e1r, %0\n\tisb" ::"r"(va) : "memory");
	f = fault_end();
	check("the_same_for_at_is_survived", f.count <= 1, "%u exceptions", f.count);
	mmu_set_top(1, 0);
}

static void check_place(const char *name, u64 a)
{
	fault_expect();
	(void)read32(a);
	expect_abort(name, EC_DABORT, a);
	fault_expect();
	write32(a, 1);
	expect_abort(name, EC_DABORT, a);
}

/* With the MMU off, an address can be anything. */
static void check_far_away(void)
{
	mmu_off();
	for (u32 bit = bootarg_word("bare") ? 40 : 33; bit < 52; bit++) {
		fault_expect();
		(void)read32(1ul << bit | 0x1000);
		expect_abort("far_away_with_mmu_off", EC_DABORT, 1ul << bit | 0x1000);
	}
	fault_expect();
	(void)read32(ram_end());
	expect_abort("behind_ram_with_mmu_off", EC_DABORT, ram_end());
	mmu_on();
}

/* Many, so that something which leaks at each is noticed. */
static void check_many(void)
{
	u32 missed = 0;

	for (u32 i = 0; i < 20000; i++) {
		fault_expect();
		(void)read32(ram_end() + 4096ul * i);
		missed += fault_end().count != 1;
	}
	check_equal("twenty_thousand_aborts", missed, 0);
}

void guest_main(void)
{
	check_place("between_devices", HOLE_BASE);
	check_place("behind_ram", ram_end());
	check_place("a_gib_behind_ram", ram_end() + (1ul << 30));
	check_place("in_the_400th_gib", 400ul << 30);
	if (!guest_is_bare()) { /* flash and PCI windows are there */
		check_place("address_0", 0);
		check_place("under_ram", UNDER_RAM);
		check_place("behind_the_distributor", GICD_BASE + 0x10000);
		check_place("behind_the_redistributors",
			    GICR_BASE + GICR_STRIDE * machine.cpu_count);
		check_place("behind_the_uart", UART_BASE + 0x1000);
	}
	check_plain(ram_end() + 64);
	check_without_syndrome(ram_end() + 128);
	check_ordered(ram_end() + 192);
	check_plain(HOLE_BASE);
	check_base_kept(ram_end() + 256);
	check_maintenance(ram_end() + 320);
	check_execution(ram_end() + 4096, "execute_behind_ram");
	check_across_ram_end();
	check_table_in_hole("table_behind_ram", ram_end() + 8192);
	check_table_in_hole("table_between_devices", HOLE_BASE);
	check_table_in_hole("table_far_away", 300ul << 30);
	check_far_away();
	check_many();
}
