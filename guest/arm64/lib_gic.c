/*
 * A GICv3 as a guest uses it: affinity routing, group 1, system-register CPU interface.
 * Manual: Arm IHI 0069, 12.8 to 12.11 (GICD, GICR), 12.2 (ICC).
 */
#include "lib.h"

#define GICD_CTLR (GICD_BASE + 0x0)
#define GICD_CTLR_RWP (1u << 31)
#define GICD_CTLR_ARE_NS (1u << 4)
#define GICD_CTLR_ENABLE_GROUP1 (1u << 1)
#define GICR_TYPER 0x8
#define GICR_TYPER_LAST (1u << 4)
#define GICR_WAKER 0x14
#define GICR_WAKER_SLEEP 2u
#define GICR_WAKER_CHILDREN_ASLEEP 4u
#define GICR_SGI_FRAME 0x10000

#define REG_GROUP 0x080
#define REG_SET_ENABLE 0x100
#define REG_CLEAR_ENABLE 0x180
#define REG_SET_PENDING 0x200
#define REG_CLEAR_PENDING 0x280
#define REG_SET_ACTIVE 0x300
#define REG_CLEAR_ACTIVE 0x380
#define REG_PRIORITY 0x400
#define GICD_IROUTER (GICD_BASE + 0x6000)

#define PRIORITY_DEFAULT 0xa0
#define SGI1R_ALL_OTHERS (1ul << 40)

/* Affinity as MPIDR has it, packed as GICR_TYPER has it. */
static u32 packed_affinity(u64 mpidr)
{
	return (u32)((mpidr & 0xffffff) | (mpidr >> 8 & 0xff000000));
}

u64 gic_frame(u32 cpu)
{
	u32 want = packed_affinity(machine.cpu_ids[cpu]);

	for (u64 frame = GICR_BASE;; frame += GICR_STRIDE) {
		u64 typer = read64(frame + GICR_TYPER);

		if (typer >> 32 == want) {
			return frame;
		}
		if (typer & GICR_TYPER_LAST) {
			check("redistributor", false, "none for CPU %u (affinity %x)", cpu, want);
			guest_end();
		}
	}
}

u64 gic_bank(u32 intid, u32 offset)
{
	u64 base = intid < 32 ? gic_frame(cpu_number()) + GICR_SGI_FRAME : GICD_BASE;

	return base + offset + intid / 32 * 4;
}

static void bank_write(u32 intid, u32 offset)
{
	write32(gic_bank(intid, offset), 1u << intid % 32);
	dsb();
}

static bool bank_read(u32 intid, u32 offset)
{
	return read32(gic_bank(intid, offset)) >> intid % 32 & 1;
}

void gic_enable(u32 intid)
{
	write32(gic_bank(intid, REG_GROUP), read32(gic_bank(intid, REG_GROUP)) | 1u << intid % 32);
	bank_write(intid, REG_SET_ENABLE);
}

void gic_disable(u32 intid)
{
	bank_write(intid, REG_CLEAR_ENABLE);
}

void gic_set_priority(u32 intid, u8 priority)
{
	u64 base = intid < 32 ? gic_frame(cpu_number()) + GICR_SGI_FRAME : GICD_BASE;

	write8(base + REG_PRIORITY + intid, priority);
	dsb();
}

bool gic_is_pending(u32 intid)
{
	return bank_read(intid, REG_SET_PENDING);
}

bool gic_is_active(u32 intid)
{
	return bank_read(intid, REG_SET_ACTIVE);
}

void gic_set_pending(u32 intid)
{
	bank_write(intid, REG_SET_PENDING);
}

void gic_clear_pending(u32 intid)
{
	bank_write(intid, REG_CLEAR_PENDING);
}

void gic_clear_active(u32 intid)
{
	bank_write(intid, REG_CLEAR_ACTIVE);
}

static u64 sgi_target(u64 mpidr)
{
	u64 aff0 = mpidr & 0xff, aff1 = mpidr >> 8 & 0xff, aff2 = mpidr >> 16 & 0xff;

	return (mpidr >> 32 & 0xff) << 48 | aff2 << 32 | aff1 << 16 | (aff0 >> 4) << 44 |
	       1ul << (aff0 & 15);
}

void gic_send_sgi(u32 cpu, u32 intid)
{
	dsb();
	/* ICC_SGI1R_EL1 */
	write_sysreg(s3_0_c12_c11_5, sgi_target(machine.cpu_ids[cpu]) | (u64)intid << 24);
}

void gic_send_sgi_others(u32 intid)
{
	dsb();
	write_sysreg(s3_0_c12_c11_5, SGI1R_ALL_OTHERS | (u64)intid << 24);
}

void gic_init_distributor(void)
{
	write32(GICD_CTLR, GICD_CTLR_ARE_NS);
	write32(GICD_CTLR, GICD_CTLR_ARE_NS | GICD_CTLR_ENABLE_GROUP1);
	while (read32(GICD_CTLR) & GICD_CTLR_RWP) {
	}
	for (u32 intid = 32; intid < 64; intid++) {
		gic_disable(intid);
		gic_set_priority(intid, PRIORITY_DEFAULT);
		write64(GICD_IROUTER + 8 * intid, machine.cpu_ids[0]);
	}
}

static void redistributor_wake(u64 frame)
{
	write32(frame + GICR_WAKER, read32(frame + GICR_WAKER) & ~GICR_WAKER_SLEEP);
	while (read32(frame + GICR_WAKER) & GICR_WAKER_CHILDREN_ASLEEP) {
	}
}

void gic_init_cpu(void)
{
	u64 frame = gic_frame(cpu_number());

	redistributor_wake(frame);
	write32(frame + GICR_SGI_FRAME + REG_GROUP, ~0u);
	write32(frame + GICR_SGI_FRAME + REG_CLEAR_ENABLE, ~0u);
	write32(frame + GICR_SGI_FRAME + REG_CLEAR_PENDING, ~0u);
	write32(frame + GICR_SGI_FRAME + REG_CLEAR_ACTIVE, ~0u);
	for (u32 intid = 0; intid < 32; intid++) {
		write8(frame + GICR_SGI_FRAME + REG_PRIORITY + intid, PRIORITY_DEFAULT);
	}
	write_sysreg(s3_0_c12_c12_5, 1); /* ICC_SRE_EL1.SRE */
	write_sysreg(s3_0_c12_c12_4, 0); /* ICC_CTLR_EL1: EOImode 0 */
	write_sysreg(s3_0_c12_c12_3, 0); /* ICC_BPR1_EL1 */
	gic_set_mask(0xff);
	write_sysreg(s3_0_c12_c12_7, 1); /* ICC_IGRPEN1_EL1 */
}
