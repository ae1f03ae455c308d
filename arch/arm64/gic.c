/*
 * The machine's own GICv3 (IHI 0069): a few private interrupts on every CPU, one shared one (UART).
 *
 * Interrupts are masked at EL2 and polled: after an interrupt out of a guest, and by idle CPUs. End
 * of interrupt is split (EOImode = 1): EOIR drops the priority, DIR deactivates. A guest timer's
 * interrupt gets the first only; the guest's own end of it does the second, by its list register.
 */
#include "arch/cpu.h"
#include "arch/device.h"
#include "hyp/console.h"
#include "hyp/disks.h"
#include "hyp/log.h"
#include "hyp/sched.h"

#include "guest_map.h"
#include "ich.h"
#include "machine.h"
#include "sysreg.h"
#include "vgic.h"

#define GICD_CTLR 0x0000
#define GICD_TYPER 0x0004
#define GICD_IGROUPR 0x0080
#define GICD_ISENABLER 0x0100
#define GICD_ICENABLER 0x0180
#define GICD_ICACTIVER 0x0380
#define GICD_IPRIORITYR 0x0400
#define GICD_ICFGR 0x0c00
#define GICD_IROUTER 0x6000
#define GICD_CTLR_ENABLE_GRP1 BIT(1)
#define GICD_CTLR_ARE BIT(4)
#define GICD_CTLR_RWP BIT(31)
#define GICD_TYPER_ITLINES BITS(4, 0)

#define GICR_CTLR 0x0000
#define GICR_TYPER 0x0008
#define GICR_WAKER 0x0014
#define GICR_CTLR_RWP BIT(3)
#define GICR_TYPER_VLPIS BIT(1)
#define GICR_TYPER_LAST BIT(4)
#define GICR_TYPER_AFFINITY BITS(63, 32)
#define GICR_WAKER_SLEEP BIT(1)
#define GICR_WAKER_CHILDREN_ASLEEP BIT(2)
#define GICR_FRAME 0x10000ull /* RD_base, then SGI_base; two more with GICv4 */
#define GICR_IGROUPR0 (GICR_FRAME + 0x0080)
#define GICR_ISENABLER0 (GICR_FRAME + 0x0100)
#define GICR_ICENABLER0 (GICR_FRAME + 0x0180)
#define GICR_ICPENDR0 (GICR_FRAME + 0x0280)
#define GICR_ISPENDR0 (GICR_FRAME + 0x0200)
#define GICR_ISACTIVER0 (GICR_FRAME + 0x0300)
#define GICR_ICACTIVER0 (GICR_FRAME + 0x0380)
#define GICR_IPRIORITYR (GICR_FRAME + 0x0400)

#define INTID_SPURIOUS 1023
#define INTID_SPECIAL_FIRST 1020
#define PRIORITY_ALL 0xa0a0a0a0u /* one priority for everything: nothing here preempts */
#define PRIORITY_MASK_OPEN 0xff

#define PRIVATE_ENABLED                                                                            \
	(BIT(INTID_KICK) | BIT(INTID_STOP) | BIT(INTID_MAINTENANCE) | BIT(INTID_HYP_TIMER) |       \
	 BIT(INTID_VIRTUAL_TIMER) | BIT(INTID_PHYSICAL_TIMER))

static_assert(GUEST_VTIMER_INTID == INTID_VIRTUAL_TIMER &&
		      GUEST_PTIMER_INTID == INTID_PHYSICAL_TIMER,
	      "a guest's timer interrupt has the number of the physical one it is tied to");

static u32 mmio_read32(u64 address)
{
	return *(volatile u32 *)address;
}

static void mmio_write32(u64 address, u32 value)
{
	*(volatile u32 *)address = value;
}

static u64 mmio_read64(u64 address)
{
	return *(volatile u64 *)address;
}

static void mmio_write64(u64 address, u64 value)
{
	*(volatile u64 *)address = value;
}

/* GICD_IROUTER's and GICR_TYPER's affinities are packed differently from MPIDR's. */
static u64 typer_affinity(u64 mpidr)
{
	return field_get(mpidr, MPIDR_AFF3) << 24 | (mpidr & BITS(23, 0));
}

/* ---- Set-up ---------------------------------------------------------------------------------- */

static void wait_clear(u64 address, u64 bits)
{
	while ((mmio_read32(address) & bits) != 0) {
		cpu_relax();
	}
}

static void init_spis(u64 gicd)
{
	u32 lines = 32 * (u32)(field_get(mmio_read32(gicd + GICD_TYPER), GICD_TYPER_ITLINES) + 1);

	for (u32 i = 32; i < lines; i += 32) {
		mmio_write32(gicd + GICD_ICENABLER + i / 8, ~0u);
		mmio_write32(gicd + GICD_ICACTIVER + i / 8, ~0u);
		mmio_write32(gicd + GICD_IGROUPR + i / 8, ~0u);
	}
	for (u32 i = 32; i < lines; i += 4) {
		mmio_write32(gicd + GICD_IPRIORITYR + i, PRIORITY_ALL);
	}
	if (machine.uart_intid >= lines) {
		boot_refuse("the UART's interrupt %u is beyond the GIC's %u", machine.uart_intid,
			    lines);
	}
}

/* Shared interrupts are CPU 0's. */
void arch_device_irq_enable(u32 irq)
{
	u64 gicd = machine.gicd.start;

	mmio_write64(gicd + GICD_IROUTER + 8 * (u64)irq, cpus[0].hw_id);
	mmio_write32(gicd + GICD_ISENABLER + irq / 32 * 4, (u32)BIT(irq % 32));
}

void gic_init_distributor(void)
{
	u64 gicd = machine.gicd.start;

	mmio_write32(gicd + GICD_CTLR, 0);
	wait_clear(gicd + GICD_CTLR, GICD_CTLR_RWP);
	mmio_write32(gicd + GICD_CTLR, GICD_CTLR_ARE);
	wait_clear(gicd + GICD_CTLR, GICD_CTLR_RWP);
	init_spis(gicd);
	arch_device_irq_enable(machine.uart_intid);
	mmio_write32(gicd + GICD_CTLR, GICD_CTLR_ARE | GICD_CTLR_ENABLE_GRP1);
	wait_clear(gicd + GICD_CTLR, GICD_CTLR_RWP);
}

/* 0 when no frame of `region` is this CPU's. */
static u64 find_in_region(const struct boot_range *region, u64 affinity)
{
	u64 at = region->start;

	while (at + 2 * GICR_FRAME <= region->end) {
		u64 typer = mmio_read64(at + GICR_TYPER);

		if (field_get(typer, GICR_TYPER_AFFINITY) == affinity) {
			return at;
		}
		if (typer & GICR_TYPER_LAST) {
			break;
		}
		at += (typer & GICR_TYPER_VLPIS ? 4 : 2) * GICR_FRAME;
	}
	return 0;
}

static u64 find_redistributor(void)
{
	u64 found = 0;

	for (u32 i = 0; i < machine.gicr_count && found == 0; i++) {
		found = find_in_region(&machine.gicr[i], typer_affinity(this_cpu()->hw_id));
	}
	if (found == 0) {
		boot_refuse("no GIC redistributor has the affinity 0x%lx of CPU %u",
			    this_cpu()->hw_id, this_cpu_id());
	}
	return found;
}

static void init_redistributor(u64 gicr)
{
	u32 waker = mmio_read32(gicr + GICR_WAKER);

	mmio_write32(gicr + GICR_WAKER, waker & ~(u32)GICR_WAKER_SLEEP);
	wait_clear(gicr + GICR_WAKER, GICR_WAKER_CHILDREN_ASLEEP);
	mmio_write32(gicr + GICR_ICENABLER0, ~0u);
	wait_clear(gicr + GICR_CTLR, GICR_CTLR_RWP);
	mmio_write32(gicr + GICR_IGROUPR0, ~0u);
	mmio_write32(gicr + GICR_ICPENDR0, ~0u);
	mmio_write32(gicr + GICR_ICACTIVER0, ~0u);
	for (u32 i = 0; i < 32; i += 4) {
		mmio_write32(gicr + GICR_IPRIORITYR + i, PRIORITY_ALL);
	}
	mmio_write32(gicr + GICR_ISENABLER0, PRIVATE_ENABLED);
}

/* System registers for the CPU interface, for Lamina and its guests; the virtual one off. */
static void init_interface(void)
{
	u64 sre = 0;

	sre |= ICC_SRE_SRE;
	sre |= ICC_SRE_DFB;
	sre |= ICC_SRE_DIB;
	sre |= ICC_SRE_ENABLE;
	write_sysreg(icc_sre_el2, sre);
	isb();
	write_sysreg(ich_hcr_el2, 0);
	write_sysreg(ich_vmcr_el2, 0);
}

void gic_init_cpu(void)
{
	init_interface();
	this_cpu()->arch.redistributor = find_redistributor();
	init_redistributor(this_cpu()->arch.redistributor);
	write_sysreg(icc_pmr_el1, PRIORITY_MASK_OPEN);
	write_sysreg(icc_bpr1_el1, 0);
	write_sysreg(icc_ctlr_el1, ICC_CTLR_EOIMODE);
	write_sysreg(icc_igrpen1_el1, ICC_IGRPEN1_ENABLE);
	isb();
}

/* ---- Sending --------------------------------------------------------------------------------- */

void gic_send_sgi(u32 intid, u64 affinity)
{
	u64 aff0 = field_get(affinity, MPIDR_AFF0);
	u64 sgi = 0;

	sgi |= field_set(BIT(aff0 % 16), ICC_SGI1R_TARGETS);
	sgi |= field_set(aff0 / 16, ICC_SGI1R_RS);
	sgi |= field_set(field_get(affinity, MPIDR_AFF1), ICC_SGI1R_AFF1);
	sgi |= field_set(field_get(affinity, MPIDR_AFF2), ICC_SGI1R_AFF2);
	sgi |= field_set(field_get(affinity, MPIDR_AFF3), ICC_SGI1R_AFF3);
	sgi |= field_set(intid, ICC_SGI1R_INTID);
	dsb(ishst); /* what was written before is seen by whoever takes it */
	write_sysreg(icc_sgi1r_el1, sgi);
	isb();
}

/* ---- Taking ---------------------------------------------------------------------------------- */

static void drop_priority(u32 intid)
{
	write_sysreg(icc_eoir1_el1, intid);
}

static void deactivate(u32 intid)
{
	write_sysreg(icc_dir_el1, intid);
}

/* A guest's timer fired. With no vCPU here it is a leftover: silenced until its owner loads it
 * again. */
static void take_guest_timer(u32 intid)
{
	struct vcpu *vcpu = this_cpu()->current;

	drop_priority(intid);
	if (vcpu != NULL) {
		vgic_raise_timer(vcpu, intid);
		return;
	}
	if (intid == INTID_VIRTUAL_TIMER) {
		write_sysreg(cntv_ctl_el0, CNT_CTL_IMASK);
	} else {
		write_sysreg(cntp_ctl_el0, CNT_CTL_IMASK);
	}
	isb();
	deactivate(intid);
}

/* Those whose source is quiet, or is made quiet by `handle`, before they may fire again. */
static void take_own(u32 intid)
{
	switch (intid) {
	case INTID_HYP_TIMER:
		timer_disarm();
		sched_tick();
		break;
	case INTID_MAINTENANCE:
		if (this_cpu()->current != NULL) {
			vgic_maintain(this_cpu()->current);
		} else {
			ich_write_hcr(0); /* nobody's list registers: a leftover */
		}
		break;
	default:
		if (intid == machine.uart_intid) {
			console_poll_input();
		} else if (!disks_interrupt(intid)) {
			log_warn("interrupt %u came, which nobody asked for", intid);
		}
	}
}

static void take(u32 intid)
{
	if (likely(intid == INTID_VIRTUAL_TIMER || intid == INTID_PHYSICAL_TIMER)) {
		take_guest_timer(intid);
		return;
	}
	drop_priority(intid);
	if (intid == INTID_STOP) {
		cpu_park();
	}
	if (intid != INTID_KICK) {
		take_own(intid);
	}
	deactivate(intid);
}

void arch_irq_poll(void)
{
	for (;;) {
		u32 intid = (u32)read_sysreg(icc_iar1_el1);

		if (intid >= INTID_SPECIAL_FIRST && intid <= INTID_SPURIOUS) {
			return;
		}
		dsb(sy); /* the acknowledge is done before its source is looked at */
		take(intid);
	}
}

/* ---- For the virtual GIC --------------------------------------------------------------------- */

void gic_set_ppi_active(u32 intid, bool active)
{
	mmio_write32(this_cpu()->arch.redistributor + (active ? GICR_ISACTIVER0 : GICR_ICACTIVER0),
		     (u32)BIT(intid));
}

bool gic_ppi_is_active(u32 intid)
{
	return (mmio_read32(this_cpu()->arch.redistributor + GICR_ISACTIVER0) & BIT(intid)) != 0;
}

bool gic_ppi_is_pending(u32 intid)
{
	return (mmio_read32(this_cpu()->arch.redistributor + GICR_ISPENDR0) & BIT(intid)) != 0;
}
