/*
 * The GIC's hypervisor interface (IHI 0069, 12.4): a function for each register. List and active
 * priority registers are numbered in the instruction, so there is one case for each number.
 *
 * No barrier here: what is written takes effect for the guest by its entry, an exception return.
 */
#include "hyp/log.h"

#include "ich.h"
#include "sysreg.h"

u32 ich_lr_count(void)
{
	return (u32)field_get(read_sysreg(ich_vtr_el2), ICH_VTR_LISTREGS) + 1;
}

u64 ich_read_lr(u32 n)
{
	switch (n) {
	case 0:
		return read_sysreg(ich_lr0_el2);
	case 1:
		return read_sysreg(ich_lr1_el2);
	case 2:
		return read_sysreg(ich_lr2_el2);
	case 3:
		return read_sysreg(ich_lr3_el2);
	case 4:
		return read_sysreg(ich_lr4_el2);
	case 5:
		return read_sysreg(ich_lr5_el2);
	case 6:
		return read_sysreg(ich_lr6_el2);
	case 7:
		return read_sysreg(ich_lr7_el2);
	case 8:
		return read_sysreg(ich_lr8_el2);
	case 9:
		return read_sysreg(ich_lr9_el2);
	case 10:
		return read_sysreg(ich_lr10_el2);
	case 11:
		return read_sysreg(ich_lr11_el2);
	case 12:
		return read_sysreg(ich_lr12_el2);
	case 13:
		return read_sysreg(ich_lr13_el2);
	case 14:
		return read_sysreg(ich_lr14_el2);
	case 15:
		return read_sysreg(ich_lr15_el2);
	default:
		panic("list register %u does not exist", n);
	}
}

void ich_write_lr(u32 n, u64 value)
{
	switch (n) {
	case 0:
		write_sysreg(ich_lr0_el2, value);
		break;
	case 1:
		write_sysreg(ich_lr1_el2, value);
		break;
	case 2:
		write_sysreg(ich_lr2_el2, value);
		break;
	case 3:
		write_sysreg(ich_lr3_el2, value);
		break;
	case 4:
		write_sysreg(ich_lr4_el2, value);
		break;
	case 5:
		write_sysreg(ich_lr5_el2, value);
		break;
	case 6:
		write_sysreg(ich_lr6_el2, value);
		break;
	case 7:
		write_sysreg(ich_lr7_el2, value);
		break;
	case 8:
		write_sysreg(ich_lr8_el2, value);
		break;
	case 9:
		write_sysreg(ich_lr9_el2, value);
		break;
	case 10:
		write_sysreg(ich_lr10_el2, value);
		break;
	case 11:
		write_sysreg(ich_lr11_el2, value);
		break;
	case 12:
		write_sysreg(ich_lr12_el2, value);
		break;
	case 13:
		write_sysreg(ich_lr13_el2, value);
		break;
	case 14:
		write_sysreg(ich_lr14_el2, value);
		break;
	case 15:
		write_sysreg(ich_lr15_el2, value);
		break;
	default:
		panic("list register %u does not exist", n);
	}
}

u64 ich_read_vmcr(void)
{
	return read_sysreg(ich_vmcr_el2);
}

void ich_write_vmcr(u64 value)
{
	write_sysreg(ich_vmcr_el2, value);
}

/*
 * There are 1, 2 or 4 active priority registers, as many as the preemption bits need (ICH_VTR_EL2.
 * PREbits 5, 6, 7); the others are undefined, hold nothing, and read as zero here.
 */
u32 ich_ap_count(void)
{
	return 1u << (field_get(read_sysreg(ich_vtr_el2), ICH_VTR_PREBITS) + 1 - 5);
}

u64 ich_read_ap0r(u32 n)
{
	if (n >= ich_ap_count()) {
		return 0;
	}
	switch (n) {
	case 0:
		return read_sysreg(ich_ap0r0_el2);
	case 1:
		return read_sysreg(ich_ap0r1_el2);
	case 2:
		return read_sysreg(ich_ap0r2_el2);
	case 3:
		return read_sysreg(ich_ap0r3_el2);
	default:
		return 0;
	}
}

void ich_write_ap0r(u32 n, u64 value)
{
	if (n >= ich_ap_count()) {
		return;
	}
	switch (n) {
	case 0:
		write_sysreg(ich_ap0r0_el2, value);
		break;
	case 1:
		write_sysreg(ich_ap0r1_el2, value);
		break;
	case 2:
		write_sysreg(ich_ap0r2_el2, value);
		break;
	case 3:
		write_sysreg(ich_ap0r3_el2, value);
		break;
	default:
		break;
	}
}

u64 ich_read_ap1r(u32 n)
{
	if (n >= ich_ap_count()) {
		return 0;
	}
	switch (n) {
	case 0:
		return read_sysreg(ich_ap1r0_el2);
	case 1:
		return read_sysreg(ich_ap1r1_el2);
	case 2:
		return read_sysreg(ich_ap1r2_el2);
	case 3:
		return read_sysreg(ich_ap1r3_el2);
	default:
		return 0;
	}
}

void ich_write_ap1r(u32 n, u64 value)
{
	if (n >= ich_ap_count()) {
		return;
	}
	switch (n) {
	case 0:
		write_sysreg(ich_ap1r0_el2, value);
		break;
	case 1:
		write_sysreg(ich_ap1r1_el2, value);
		break;
	case 2:
		write_sysreg(ich_ap1r2_el2, value);
		break;
	case 3:
		write_sysreg(ich_ap1r3_el2, value);
		break;
	default:
		break;
	}
}

u64 ich_read_hcr(void)
{
	return read_sysreg(ich_hcr_el2);
}

void ich_write_hcr(u64 value)
{
	write_sysreg(ich_hcr_el2, value);
}
