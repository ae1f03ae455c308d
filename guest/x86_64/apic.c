/*
 * The local APIC's page follows IA32_APIC_BASE (SDM volume 3A, 10.4.5), where there is nothing
 * else; and an APIC that is off or an x2APIC has none.
 */
#include "lib.h"

#define PAGE_DEFAULT 0xfee00000ul
#define PAGE_FREE 0xfed40000ul
#define PAGE_RAM 0x800000ul
#define PAGE_IOAPIC 0xfec00000ul
#define PAGE_MASK 0xffffff000ul
#define REG_VERSION 0x30
#define REG_TPR 0x80
#define BASE_ENABLE 0x800ul
#define BASE_X2 0x400ul

static u64 flags; /* of the MSR, as it began */

/* wrmsr is two bytes, as what a fault passes over. */
static u32 faults_of_move(u64 value)
{
	fault_expect();
	write_msr(MSR_APIC_BASE, value);
	return fault_end().count;
}

static bool answers(u64 page)
{
	u32 version = read32(page + REG_VERSION);

	return version != ~0u && (version & 0xff) >= 0x10;
}

/* The same registers at another place. */
static void move_to_free_page(void)
{
	write32(PAGE_DEFAULT + REG_TPR, 0x50);
	check_equal("the_page_may_be_moved", faults_of_move(PAGE_FREE | flags), 0);
	check_equal("the_msr_says_where_it_is", read_msr(MSR_APIC_BASE), PAGE_FREE | flags);
	check("it_answers_there", answers(PAGE_FREE), "0x%x", read32(PAGE_FREE + REG_VERSION));
	check_equal("with_what_was_written_before", read32(PAGE_FREE + REG_TPR), 0x50);
	check_equal("and_no_longer_where_it_was", read32(PAGE_DEFAULT + REG_VERSION), ~0u);
	write32(PAGE_DEFAULT + REG_TPR, 0x60);
	check_equal("nor_takes_writes_there", read32(PAGE_FREE + REG_TPR), 0x50);
}

static void move_to_what_is_taken(void)
{
	write64(PAGE_RAM + REG_TPR, 0x1234);
	check_equal("ram_is_no_place_for_it", faults_of_move(PAGE_RAM | flags), 1);
	check_equal("nor_is_another_device", faults_of_move(PAGE_IOAPIC | flags), 1);
	check_equal("nor_an_address_that_is_none", faults_of_move(1ul << 51 | flags), 1);
	check_equal("what_was_refused_changed_nothing", read_msr(MSR_APIC_BASE), PAGE_FREE | flags);
	check("and_it_still_answers", answers(PAGE_FREE), "0x%x", read32(PAGE_FREE + REG_VERSION));
	check_equal("ram_is_as_it_was", read64(PAGE_RAM + REG_TPR), 0x1234);
}

static void switch_modes(void)
{
	write_msr(MSR_APIC_BASE, PAGE_FREE | flags | BASE_X2);
	check_equal("an_x2apic_has_no_page", read32(PAGE_FREE + REG_VERSION), ~0u);
	write_msr(MSR_APIC_BASE, PAGE_DEFAULT | (flags & ~BASE_ENABLE));
	check_equal("nor_has_one_that_is_off", read32(PAGE_DEFAULT + REG_VERSION), ~0u);
	write_msr(MSR_APIC_BASE, PAGE_DEFAULT | flags);
	check("it_comes_back_where_it_is_put", answers(PAGE_DEFAULT), "0x%x",
	      read32(PAGE_DEFAULT + REG_VERSION));
	check_equal("as_after_power_up", read32(PAGE_DEFAULT + REG_TPR), 0);
}

void guest_main(void)
{
	flags = read_msr(MSR_APIC_BASE) & ~PAGE_MASK;
	check("it_begins_where_a_pc_has_it", answers(PAGE_DEFAULT), "0x%x",
	      read32(PAGE_DEFAULT + REG_VERSION));
	move_to_free_page();
	move_to_what_is_taken();
	switch_modes();
}
