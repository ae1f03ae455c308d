/* "Entering" a fake guest runs the test's script, which fills vcpu->exit. */
#ifndef ARCH_ENTER_H
#define ARCH_ENTER_H

#include "hyp/vcpu.h"

extern void (*fake_guest)(struct vcpu *vcpu);

static inline void arch_vcpu_enter(struct vcpu *vcpu)
{
	fake_guest(vcpu);
}

static inline void arch_vcpu_skip(struct vcpu *vcpu)
{
	vcpu->arch.pc += 4;
}

/* The exit told all. */
static inline void arch_vcpu_decode_access(struct vcpu *vcpu)
{
	(void)vcpu;
}

static inline u64 arch_vcpu_reg(const struct vcpu *vcpu, unsigned n)
{
	return n < 31 ? vcpu->arch.x[n] : 0;
}

static inline void arch_vcpu_set_reg(struct vcpu *vcpu, unsigned n, u64 value)
{
	if (n < 31) {
		vcpu->arch.x[n] = value;
	}
}

/* Are there guests that change among views by themselves? A test says in which one it is. */
static inline bool arch_has_views(void)
{
	return true;
}

/* Do vCPUs see devices at addresses of their own? A test gives them some. */
static inline bool arch_has_own_devices(void)
{
	return true;
}

#endif
