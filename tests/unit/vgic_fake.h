/*
 * A machine for the virtual GIC's tests: an honest small model of the CPU interface that guests see
 * (IHI 0069, chapter 12: list registers, active priorities, maintenance status), one for each CPU,
 * and a VM whose vCPUs are moved onto those CPUs by hand. A test is the guest, the scheduler and
 * the devices.
 */
#ifndef TESTS_UNIT_VGIC_FAKE_H
#define TESTS_UNIT_VGIC_FAKE_H

#include <gtest/gtest.h>

#include <memory>
#include <vector>

extern "C" {
#include "hyp/vcpu.h"
#include "../../arch/arm64/ich.h"
#include "../../arch/arm64/vgic.h"
}

namespace vgic_fake
{

constexpr u64 kHw = 1ull << 61, kPending = 1ull << 62, kActive = 1ull << 63, kEoi = 1ull << 41;
constexpr u64 kGroup1 = 1ull << 60;
constexpr u64 kState = kPending | kActive;
constexpr u32 kSpurious = 1023;
constexpr u32 kTimer = 27;

/* One CPU's part of the GIC. */
struct Hardware {
	u32 lr_count = 4;
	u64 lr[16] = {};
	u64 hcr = 0;
	u64 vmcr = 0;
	u64 ap[2][4] = {};
	bool ppi_active[32] = {};
	bool ppi_line[32] = {};

	/* What the guest sees. */
	int highest_pending() const; /* the LR that is signalled, or -1 */
	u32 acknowledge();	     /* ICC_IAR0/1, whichever has something */
	void end(u32 intid);	     /* ICC_EOIR0/1 */
	void deactivate(u32 intid);  /* ICC_DIR, when it is not trapped */
	u32 running_priority() const;

	/* What the hypervisor sees. */
	u32 eisr() const;
	u32 elrsr() const;
	u32 misr() const;
	bool ppi_fires(u32 intid) const
	{
		return ppi_line[intid] && !ppi_active[intid];
	}
	/* Combinations that the manual forbids. */
	void expect_legal() const;

      private:
	void end_lr(int n);
	int find_active(u32 intid) const;
};

/* The CPU that this thread plays. */
extern thread_local Hardware *here;

/* A VM with `vcpus` vCPUs, each loaded on the CPU of its number. */
class Machine
{
      public:
	explicit Machine(u32 vcpus, u32 lr_count = 4);
	~Machine();

	Hardware &cpu(u32 n)
	{
		return hardware[n];
	}
	struct vcpu *vcpu(u32 n)
	{
		return vm->vcpus[n];
	}
	struct vgic *gic()
	{
		return vm->arch.gic;
	}

	/* This thread plays the CPU where vCPU n is loaded. */
	void become(u32 n)
	{
		here = &hardware[n];
	}

	/* Registers, as vCPU `by` accesses them. */
	u64 dist_read(u32 by, u64 offset, unsigned size = 4);
	void dist_write(u32 by, u64 offset, u64 value, unsigned size = 4);
	u64 redist_read(u32 by, u32 of, u64 offset, unsigned size = 4);
	void redist_write(u32 by, u32 of, u64 offset, u64 value, unsigned size = 4);

	/* What happens before vCPU n runs on: timer, requests, maintenance. Returns exits it took.
	 */
	int enter(u32 n);
	/* ... and for all that are loaded. */
	void enter_all();

	u32 acknowledge(u32 n);
	void end(u32 n, u32 intid);
	void put(u32 n);
	void load(u32 n);
	void set_timer(u32 n, bool asserted);

	/* Distributor and CPU interfaces on, every interrupt in group 1; nothing enabled. */
	void start();
	void enable(u32 intid, u32 owner = 0);
	void disable(u32 intid, u32 owner = 0);
	void set_priority(u32 intid, u8 priority, u32 owner = 0);
	void set_edge(u32 intid);

      private:
	std::vector<Hardware> hardware;
	std::vector<bool> timer;
	struct vm *vm;
	std::vector<std::unique_ptr<struct vcpu>> vcpus;
};

} // namespace vgic_fake

#endif
