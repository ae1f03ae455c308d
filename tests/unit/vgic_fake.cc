/* See vgic_fake.h. Answers the questions of arch/arm64/ich.h for the CPU that the thread plays. */
#include "vgic_fake.h"

namespace vgic_fake
{

/* Tests of other parts build guests with a GIC, too, but no machine for it. */
static Hardware spare;
thread_local Hardware *here = &spare;

namespace
{

constexpr u64 kHcrEn = 1, kHcrUie = 2, kHcrLrenpie = 4, kHcrNpie = 8;
constexpr u32 kIdle = 0xff;

u32 lr_intid(u64 lr)
{
	return (u32)lr;
}

u32 lr_priority(u64 lr)
{
	return (lr >> 48) & 0xff;
}

unsigned lr_group(u64 lr)
{
	return lr & kGroup1 ? 1 : 0;
}

bool group_enabled(u64 vmcr, unsigned group)
{
	return vmcr & (1u << group);
}

} // namespace

u32 Hardware::running_priority() const
{
	for (u32 level = 0; level < 32; level++) {
		if ((ap[0][0] | ap[1][0]) & (1ull << level)) {
			return level << 3;
		}
	}
	return kIdle;
}

/* 12.2.1: the highest-priority pending LR of an enabled group, if mask and running priority let it.
 */
int Hardware::highest_pending() const
{
	int best = -1;

	if (!(hcr & kHcrEn)) {
		return -1;
	}
	for (u32 n = 0; n < lr_count; n++) {
		if ((lr[n] & kState) == kPending && group_enabled(vmcr, lr_group(lr[n])) &&
		    (best < 0 || lr_priority(lr[n]) < lr_priority(lr[best]))) {
			best = n;
		}
	}
	if (best >= 0 && lr_priority(lr[best]) < (vmcr >> 24 & 0xff) &&
	    (running_priority() == kIdle || lr_priority(lr[best]) < running_priority())) {
		return best;
	}
	return -1;
}

u32 Hardware::acknowledge()
{
	int n = highest_pending();

	if (n < 0) {
		return kSpurious;
	}
	lr[n] = (lr[n] & ~kPending) | kActive;
	ap[lr_group(lr[n])][0] |= 1ull << (lr_priority(lr[n]) >> 3);
	return lr_intid(lr[n]);
}

int Hardware::find_active(u32 intid) const
{
	for (u32 n = 0; n < lr_count; n++) {
		if ((lr[n] & kActive) && lr_intid(lr[n]) == intid) {
			return n;
		}
	}
	return -1;
}

void Hardware::end_lr(int n)
{
	lr[n] &= ~kActive;
	if (lr[n] & kHw) {
		ppi_active[(lr[n] >> 32) & 0x1f] = false;
	}
}

/* Drops the highest active priority; an interrupt with no LR counts in EOIcount. */
void Hardware::end(u32 intid)
{
	u32 dropped = running_priority();
	int n = find_active(intid);

	if (dropped == kIdle) {
		return;
	}
	ap[ap[0][0] & (1ull << (dropped >> 3)) ? 0 : 1][0] &= ~(1ull << (dropped >> 3));
	if (n < 0) {
		hcr += 1ull << 27;
	} else if (lr_priority(lr[n]) == dropped && !(vmcr & (1u << 9))) {
		end_lr(n);
	}
}

void Hardware::deactivate(u32 intid)
{
	int n = find_active(intid);

	if (!(vmcr & (1u << 9))) {
		return;
	}
	if (n < 0) {
		hcr += 1ull << 27;
	} else {
		end_lr(n);
	}
}

u32 Hardware::eisr() const
{
	u32 bits = 0;

	for (u32 n = 0; n < lr_count; n++) {
		if ((lr[n] & (kState | kHw | kEoi)) == kEoi) {
			bits |= 1u << n;
		}
	}
	return bits;
}

u32 Hardware::elrsr() const
{
	u32 bits = 0;

	for (u32 n = 0; n < lr_count; n++) {
		if (!(lr[n] & kState) && ((lr[n] & kHw) || !(lr[n] & kEoi))) {
			bits |= 1u << n;
		}
	}
	return bits;
}

/* 12.4.7 ICH_MISR_EL2. */
u32 Hardware::misr() const
{
	u32 valid = 0, pending = 0, bits = eisr() ? 1 : 0;

	if (!(hcr & kHcrEn)) {
		return 0;
	}
	for (u32 n = 0; n < lr_count; n++) {
		valid += (lr[n] & kState) != 0;
		pending += (lr[n] & kState) == kPending;
	}
	bits |= (hcr & kHcrUie) && valid < 2 ? 2 : 0;
	bits |= (hcr & kHcrLrenpie) && (hcr >> 27 & 0x1f) ? 4 : 0;
	bits |= (hcr & kHcrNpie) && !pending ? 8 : 0;
	for (unsigned group = 0; group < 2; group++) {
		bool on = group_enabled(vmcr, group);

		bits |= (hcr & (1u << (4 + 2 * group))) && on ? 1u << (4 + 2 * group) : 0;
		bits |= (hcr & (1u << (5 + 2 * group))) && !on ? 1u << (5 + 2 * group) : 0;
	}
	return bits;
}

void Hardware::expect_legal() const
{
	for (u32 n = 0; n < lr_count; n++) {
		if (!(lr[n] & kState)) {
			continue;
		}
		EXPECT_NE(lr[n] & (kHw | kState), kHw | kState) << "LR.HW, active and pending";
		if (lr[n] & kHw) {
			EXPECT_TRUE(ppi_active[(lr[n] >> 32) & 0x1f]) << "LR.HW of no active PPI";
		}
		for (u32 m = n + 1; m < lr_count; m++) {
			EXPECT_FALSE((lr[m] & kState) && lr_intid(lr[m]) == lr_intid(lr[n]))
				<< "INTID " << lr_intid(lr[n]) << " in two LRs";
		}
	}
}

Machine::Machine(u32 count, u32 lr_count) : hardware(count), timer(count), vm(new struct vm())
{
	vm->vcpu_count = count;
	for (u32 n = 0; n < count; n++) {
		hardware[n].lr_count = lr_count;
		vcpus.emplace_back(new struct vcpu());
		vcpus[n]->vm = vm;
		vcpus[n]->id = n;
		vcpus[n]->state = VCPU_RUNNING;
		vm->vcpus[n] = vcpus[n].get();
	}
	become(0);
	vm->arch.gic = new struct vgic();
	vgic_init(vm->arch.gic, vm);
	for (u32 n = 0; n < count; n++) {
		vgic_vcpu_reset(vcpu(n));
		load(n);
	}
}

Machine::~Machine()
{
	delete vm->arch.gic;
	delete vm;
	here = &spare;
}

u64 Machine::dist_read(u32 by, u64 offset, unsigned size)
{
	become(by);
	return vgic_distributor_ops.read(gic(), vcpu(by), offset, size);
}

void Machine::dist_write(u32 by, u64 offset, u64 value, unsigned size)
{
	become(by);
	vgic_distributor_ops.write(gic(), vcpu(by), offset, size, value);
}

u64 Machine::redist_read(u32 by, u32 of, u64 offset, unsigned size)
{
	become(by);
	return vgic_redistributor_ops.read(gic(), vcpu(by), of * 0x20000ull + offset, size);
}

void Machine::redist_write(u32 by, u32 of, u64 offset, u64 value, unsigned size)
{
	become(by);
	vgic_redistributor_ops.write(gic(), vcpu(by), of * 0x20000ull + offset, size, value);
}

int Machine::enter(u32 n)
{
	Hardware &hw = hardware[n];
	int exits = 0;

	become(n);
	for (;;) {
		if (hw.ppi_fires(kTimer)) {
			hw.ppi_active[kTimer] = true;
			vgic_raise_timer(vcpu(n), kTimer);
		} else if (atomic_and(&vcpu(n)->requests, ~(u32)VCPU_REQUEST_IRQ) &
			   VCPU_REQUEST_IRQ) {
			vgic_sync(vcpu(n));
		} else if (hw.misr()) {
			vgic_maintain(vcpu(n));
		} else {
			break;
		}
		if (++exits > 1000000) { /* other threads may raise many meanwhile */
			ADD_FAILURE() << "vCPU " << n << " never enters: MISR " << hw.misr();
			break;
		}
	}
	hw.expect_legal();
	return exits;
}

void Machine::enter_all()
{
	for (u32 n = 0; n < hardware.size(); n++) {
		if (vcpu(n)->arch.gic.loaded) {
			enter(n);
		}
	}
}

u32 Machine::acknowledge(u32 n)
{
	enter(n);
	return hardware[n].acknowledge();
}

void Machine::end(u32 n, u32 intid)
{
	enter(n);
	hardware[n].end(intid);
	enter(n);
}

/* As arch_vcpu_put does: the guest's timers go off first. */
void Machine::put(u32 n)
{
	become(n);
	hardware[n].ppi_line[kTimer] = false;
	vgic_put(vcpu(n));
}

void Machine::load(u32 n)
{
	become(n);
	vgic_load(vcpu(n));
	hardware[n].ppi_line[kTimer] = timer[n];
}

/*
 * The guest's timer condition; it is the guest that changes it, or time, so it is noticed at once.
 * Of a vCPU that is not loaded the CPU has no timer: it is noticed when it is loaded.
 */
void Machine::set_timer(u32 n, bool asserted)
{
	timer[n] = asserted;
	become(n);
	if (vcpu(n)->arch.gic.loaded) {
		hardware[n].ppi_line[kTimer] = asserted;
	}
}

void Machine::start()
{
	dist_write(0, 0, 3);
	for (u32 b = 1; b < VGIC_BANKS; b++) {
		dist_write(0, 0x80 + 4 * b, 0xffffffff);
	}
	for (u32 n = 0; n < hardware.size(); n++) {
		redist_write(0, n, 0x10080, 0xffffffff);
		hardware[n].vmcr = 0xf0000003;
	}
	enter_all();
}

void Machine::enable(u32 intid, u32 owner)
{
	u64 offset = 0x100 + 4 * (intid / 32);

	if (intid < 32) {
		redist_write(owner, owner, 0x10000 + offset, 1u << intid);
	} else {
		dist_write(0, offset, 1u << intid % 32);
	}
}

void Machine::disable(u32 intid, u32 owner)
{
	u64 offset = 0x180 + 4 * (intid / 32);

	if (intid < 32) {
		redist_write(owner, owner, 0x10000 + offset, 1u << intid);
	} else {
		dist_write(0, offset, 1u << intid % 32);
	}
}

void Machine::set_priority(u32 intid, u8 priority, u32 owner)
{
	if (intid < 32) {
		redist_write(owner, owner, 0x10400 + intid, priority, 1);
	} else {
		dist_write(0, 0x400 + intid, priority, 1);
	}
}

void Machine::set_edge(u32 intid)
{
	u64 offset = 0xc00 + intid / 16 * 4;

	dist_write(0, offset, dist_read(0, offset) | 2u << 2 * (intid % 16));
}

} // namespace vgic_fake

using vgic_fake::here;

extern "C" {

u32 ich_lr_count(void)
{
	return here->lr_count;
}

u64 ich_read_lr(u32 n)
{
	EXPECT_LT(n, here->lr_count);
	return here->lr[n];
}

void ich_write_lr(u32 n, u64 value)
{
	EXPECT_LT(n, here->lr_count);
	here->lr[n] = value;
}

u64 ich_read_vmcr(void)
{
	return here->vmcr;
}

void ich_write_vmcr(u64 value)
{
	here->vmcr = value;
}

u32 ich_ap_count(void)
{
	return 1;
}

u64 ich_read_ap0r(u32 n)
{
	return here->ap[0][n];
}

void ich_write_ap0r(u32 n, u64 value)
{
	here->ap[0][n] = value;
}

u64 ich_read_ap1r(u32 n)
{
	return here->ap[1][n];
}

void ich_write_ap1r(u32 n, u64 value)
{
	here->ap[1][n] = value;
}

u64 ich_read_hcr(void)
{
	return here->hcr;
}

void ich_write_hcr(u64 value)
{
	here->hcr = value;
}

void gic_set_ppi_active(u32 intid, bool active)
{
	here->ppi_active[intid] = active;
}

bool gic_ppi_is_active(u32 intid)
{
	return here->ppi_active[intid];
}

bool gic_ppi_is_pending(u32 intid)
{
	return here->ppi_line[intid];
}
}
