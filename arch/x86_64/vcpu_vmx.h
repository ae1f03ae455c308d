/* What x86-64's own files ask of a loaded vCPU. */
#ifndef VCPU_VMX_H
#define VCPU_VMX_H

#include "hyp/atomic.h"
#include "hyp/vcpu.h"

#include "vwalk.h"

/* Its VMCS and the place of its FPU's state. vcpu_free() is safe after a failure, and again. */
bool vcpu_alloc(struct vcpu *vcpu);
void vcpu_free(struct vcpu *vcpu);

/* For vcpu_on: what the context is of a CPU that ACPI's mailbox starts. An entry below 1 MiB is
 * else where a startup interrupt points: real mode, in the page's own segment. */
#define VCPU_BY_MAILBOX (~0ull)

/* One of the processor-based controls, in the VMCS too if that changes it. */
void vcpu_set_control(struct vcpu *vcpu, u32 control, bool on);

/* How the code is read that it runs: 16, 32, 64. */
unsigned vcpu_code_bits(void);

/* How its page tables are. */
struct vwalk_paging vcpu_paging(void);

/* vinject_deliver() before the next entry. The vCPU's own CPU. */
static inline void vcpu_request_delivery(struct vcpu *vcpu)
{
	atomic_or(&vcpu->requests, VCPU_REQUEST_IRQ);
}

/* The operand of instructions that take 64 bits in two halves. */
static inline u64 vcpu_edx_eax(const struct vcpu *vcpu)
{
	return vcpu->arch.gpr[GPR_RDX] << 32 | (u32)vcpu->arch.gpr[GPR_RAX];
}

/* Its timer may be due. */
static inline void vcpu_poll_timer(struct vcpu *vcpu)
{
	if (arch_now() >= vlapic_timer_deadline(&vcpu->arch.lapic)) {
		vcpu_request_delivery(vcpu);
	}
}

#endif
