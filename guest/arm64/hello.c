/*
 * The first guest: was it entered as promised, and does it have what its configuration says?
 *
 * Bootargs: cpus=N memory=MIB, checked against the device tree. With "flat" the image has no
 * header.
 */
#include "lib.h"

#define MIB (1ul << 20)
#define EL1 (1u << 2)
#define DAIF_ALL 0x3c0
#define SCTLR_MMU_AND_CACHES 0x1005

static bool overlap(u64 a, u64 a_size, u64 b, u64 b_size)
{
	return a < b + b_size && b < a + a_size;
}

static void check_entry(void)
{
	const struct entry_state *e = &entry_state;
	u64 image_size = (u64)(image_end - image_start);

	check_equal("entered_at_el1", e->current_el, EL1);
	check_equal("entered_with_interrupts_masked", e->daif, DAIF_ALL);
	check_equal("entered_with_mmu_and_caches_off", e->sctlr & SCTLR_MMU_AND_CACHES, 0);
	check_equal("entered_on_sp_elx", e->spsel, 1);
	check_equal("entered_64k_aligned", e->pc & 0xffff, 0);
	check_equal("x1_x2_x3_are_zero", e->x1 | e->x2 | e->x3, 0);
	check_equal("device_tree_is_8_aligned", e->x0 & 7, 0);
	check("device_tree_is_in_ram",
	      e->x0 >= machine.ram_base &&
		      e->x0 + machine.tables_size <= machine.ram_base + machine.ram_size,
	      "[0x%lx, +0x%lx)", e->x0, machine.tables_size);
	check("device_tree_is_outside_the_image",
	      !overlap(e->x0, machine.tables_size, e->pc, image_size),
	      "image [0x%lx, +0x%lx), tree 0x%lx", e->pc, image_size, e->x0);
}

static void check_resources(void)
{
	check_equal("ram_begins_at_1_gib", machine.ram_base, 1024 * MIB);
	check_equal("memory_is_as_configured", machine.ram_size,
		    bootarg("memory", machine.ram_size / MIB) * MIB);
	check_equal("cpus_are_as_configured", machine.cpu_count,
		    bootarg("cpus", machine.cpu_count));
	check_equal("mpidr_is_the_device_trees", read_sysreg(mpidr_el1) & 0xff00fffffful,
		    machine.cpu_ids[0]);
	check("counter_has_a_frequency", read_sysreg(cntfrq_el0) >= 1000000, "%lu Hz",
	      read_sysreg(cntfrq_el0));
}

void guest_main(void)
{
	print("hello from a guest of %lu MiB and %u CPUs: %s", machine.ram_size / MIB,
	      machine.cpu_count, machine.bootargs);
	check_entry();
	check_resources();
	mmu_off();
	print("this line was printed with the MMU off");
	mmu_on();
	check("mmu_off_and_on", read_sysreg(sctlr_el1) & 1, "it stayed off");
}
