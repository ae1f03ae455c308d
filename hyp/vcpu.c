/*
 * The run loop of a vCPU, and the one switch over why it came back.
 *
 *     requests -> enter the guest -> exit -> switch -> requests -> ...
 *
 * Interrupts are masked in Lamina, so a kick that comes after the requests were read is taken at
 * the first instruction of the guest, and brings us back to read them again.
 */
#include "hyp/vcpu.h"

#include "hyp/account.h"
#include "hyp/dev_virtio.h"
#include "hyp/exercise.h"
#include "hyp/log.h"
#include "hyp/sched.h"
#include "hyp/vm_view.h"

#include <arch/cpu.h>
#include <arch/vm.h>
#include <arch_enter.h>

/* ---- Requests ------------------------------------------------------------------------------ */

void vcpu_request(struct vcpu *vcpu, u32 bits)
{
	struct cpu *cpu;

	atomic_or(&vcpu->requests, bits);
	fence_full(); /* either it sees the bits before it blocks, or we see it blocked */
	cpu = load_relaxed(&vcpu->cpu);
	if (cpu) {
		cpu_kick(cpu);
	} else {
		sched_wake(vcpu);
	}
}

/* First, as it may ask this vCPU to deliver an interrupt. What is left of it is done when others
 * had their turn. */
static void take_device_request(struct vcpu *vcpu)
{
	if (unlikely(load_relaxed(&vcpu->requests) & VCPU_REQUEST_DEVICE)) {
		atomic_and(&vcpu->requests, ~(u32)VCPU_REQUEST_DEVICE);
		if (virtio_vm_work(vcpu->vm)) {
			atomic_or(&vcpu->requests, VCPU_REQUEST_DEVICE | VCPU_REQUEST_YIELD);
			arch_irq_poll(); /* however long it is kept from the guest */
		}
	}
}

/* What to do before the guest is entered; LEAVE_NOT: enter it. */
static enum vcpu_leave take_requests(struct vcpu *vcpu)
{
	u32 bits;

	take_device_request(vcpu);
	bits = atomic_and(&vcpu->requests, VCPU_REQUEST_PAUSE);

	if (bits & VCPU_REQUEST_STOP) {
		return LEAVE_STOP;
	}
	if (bits & VCPU_REQUEST_IRQ) {
		arch_vcpu_sync_irqs(vcpu);
	}
	if (bits & (VCPU_REQUEST_PAUSE | VCPU_REQUEST_YIELD | VCPU_REQUEST_RELAX)) {
		/* It still waits, or works, when it comes back. */
		atomic_or(&vcpu->requests, bits & (VCPU_REQUEST_WAIT | VCPU_REQUEST_DEVICE));
		return bits & VCPU_REQUEST_PAUSE   ? LEAVE_PAUSE
		       : bits & VCPU_REQUEST_RELAX ? LEAVE_RELAX
						   : LEAVE_YIELD;
	}
	if (unlikely(bits & VCPU_REQUEST_DEVICE)) { /* it came just now */
		atomic_or(&vcpu->requests, bits & (VCPU_REQUEST_WAIT | VCPU_REQUEST_DEVICE));
		return LEAVE_YIELD;
	}
	if ((bits & VCPU_REQUEST_WAIT) && !arch_vcpu_has_irq(vcpu)) {
		/* Who wakes it may be wrong: another CPU's clock, an interrupt that it masks. */
		atomic_or(&vcpu->requests, VCPU_REQUEST_WAIT);
		return LEAVE_BLOCK;
	}
	return LEAVE_NOT;
}

/* ---- Memory and devices -------------------------------------------------------------------- */

static u64 extend(const struct exit *e, u64 value)
{
	unsigned unused_bits = 64 - 8 * e->size;

	value <<= unused_bits;
	if (unlikely(e->sign_extend)) {
		value = (u64)((s64)value >> unused_bits);
		return e->wide ? value : (u32)value;
	}
	return value >> unused_bits; /* a narrow register's upper half is zero already */
}

static void access_device(struct vcpu *vcpu, const struct mmio_region *region)
{
	struct exit *e = &vcpu->exit;
	u64 offset = e->gpa.v - region->base.v;

	arch_vcpu_decode_access(vcpu);
	/* Without a decoded access (on Arm: load pair, writeback) it cannot be done for the guest.
	 */
	if (!e->decoded || offset + e->size > region->size) {
		arch_vcpu_inject_abort(vcpu);
		return;
	}
	if (e->access == ACCESS_WRITE) {
		u64 value = arch_vcpu_reg(vcpu, e->reg);

		value = e->size == 8 ? value : value & (BIT(8 * e->size) - 1);
		region->ops->write(region->device, vcpu, offset, e->size, value);
	} else {
		u64 value = region->ops->read(region->device, vcpu, offset, e->size);

		arch_vcpu_set_reg(vcpu, e->reg, extend(e, value));
	}
	arch_vcpu_skip(vcpu);
}

static void fault_ram(struct vcpu *vcpu)
{
	const struct exit *e = &vcpu->exit;

	switch (likely(e->view == 0) ? vm_memory_fault(vcpu->vm, e) : vm_view_fault(vcpu->vm, e)) {
	case OK:
	case AGAIN:
		break; /* the same instruction again */
	case NOMEM:
		vm_crash(vcpu->vm, "no free memory for guest-physical 0x%llx",
			 (unsigned long long)e->gpa.v);
		break;
	default:
		arch_vcpu_inject_abort(vcpu);
		break;
	}
}

static const struct mmio_region *find_device(const struct vcpu *vcpu, gpa_t a)
{
	const struct mmio_region *own = &vcpu->own_mmio;

	if (arch_has_own_devices() && a.v - own->base.v < own->size) {
		return own;
	}
	return vm_mmio_find(vcpu->vm, a);
}

static void fault_or_device(struct vcpu *vcpu)
{
	struct exit *e = &vcpu->exit;
	const struct mmio_region *region;

	if (vm_memory_contains(vcpu->vm, e->gpa, 1)) {
		fault_ram(vcpu);
		return;
	}
	region = find_device(vcpu, e->gpa);
	if (region) {
		e->reason = EXIT_MMIO;
		access_device(vcpu, region);
	} else if (e->accessed) {
		s2_mark_accessed(&vcpu->vm->s2, e->gpa);
	} else if (s2_dirty_fault(&vcpu->vm->s2, e->gpa, e->access & ACCESS_WRITE) == NOENT) {
		arch_vcpu_inject_abort(vcpu);
	} /* else a page that Lamina lent, among what is logged */
}

/* ---- Exits --------------------------------------------------------------------------------- */

static void crash_unknown(struct vcpu *vcpu)
{
	char state[160];

	arch_vcpu_describe(vcpu, state, sizeof(state));
	vm_crash(vcpu->vm, "vCPU %u: exit with syndrome 0x%llx that Lamina does not know; %s",
		 vcpu->id, (unsigned long long)vcpu->exit.syndrome, state);
}

/* The guest's own doing, and on a machine the end of it. */
static void crash_shutdown(struct vcpu *vcpu)
{
	char state[160];

	arch_vcpu_describe(vcpu, state, sizeof(state));
	vm_crash(vcpu->vm, "vCPU %u: a fault while faults were delivered (triple fault); %s",
		 vcpu->id, state);
}

static void handle_exit(struct vcpu *vcpu)
{
	switch (vcpu->exit.reason) {
	case EXIT_PORT:
	case EXIT_HYPERCALL:
	case EXIT_REGISTER:
	case EXIT_IPI:
	case EXIT_CACHE:
		arch_vcpu_emulate(vcpu);
		break;
	case EXIT_MEMORY:
	case EXIT_MMIO:
		fault_or_device(vcpu);
		break;
	case EXIT_INTERRUPT:
		arch_irq_poll();
		break;
	case EXIT_LOG:
		break;
	case EXIT_IDLE:
		arch_vcpu_skip(vcpu);
		atomic_or(&vcpu->requests, VCPU_REQUEST_WAIT);
		break;
	case EXIT_RELAX:
		arch_vcpu_skip(vcpu);
		atomic_or(&vcpu->requests, VCPU_REQUEST_RELAX);
		break;
	case EXIT_SHUTDOWN:
		crash_shutdown(vcpu);
		break;
	default:
		crash_unknown(vcpu);
		break;
	}
}

/* Into the guest and out again. Who closes a batch of a view's waits for this CPU, too. */
static inline void run_guest(struct vcpu *vcpu, struct vm *vm, struct s2 *s2)
{
	s2_entering(s2);
	if (arch_has_views() && unlikely(load_relaxed(&vm->view_count))) {
		vm_view_entering(vm);
	}
	arch_vcpu_enter(vcpu);
	s2_left(s2);
	if (arch_has_views() && unlikely(load_relaxed(&vm->view_count))) {
		vm_view_left(vm);
	}
}

enum vcpu_leave vcpu_run(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;
	struct s2 *s2 = &vm->s2;

	for (;;) {
		u64 left_at;

		if (unlikely(load_relaxed(&vcpu->requests))) {
			enum vcpu_leave leave = take_requests(vcpu);

			if (leave != LEAVE_NOT) {
				return leave;
			}
		}
		run_guest(vcpu, vm, s2);
		left_at = arch_now();
		handle_exit(vcpu);
		vcpu->exits[vcpu->exit.reason]++;
		vcpu->inside_ticks[vcpu->exit.reason] += arch_now() - left_at;
		if (unlikely(vm->exercise)) {
			exercise_step(vcpu);
		}
	}
}

/* ---- Power --------------------------------------------------------------------------------- */

enum status vcpu_on(struct vcpu *vcpu, u64 entry, u64 context)
{
	struct vm *vm = vcpu->vm;
	enum status status = EXISTS;

	/* The lock decides among racing callers; a vCPU still on its way out counts as on. */
	lock_take(&vm->lock);
	if (vm_has_ended(vm) || vm->state == VM_RESETTING) {
		status = DENIED;
	} else if (!vcpu_is_on(vcpu)) {
		vcpu->requests &= VCPU_REQUEST_PAUSE;
		arch_vcpu_reset(vcpu, entry, context);
		atomic_add(&vm->vcpus_on, 1);
		check(sched_start(vcpu));
		status = OK;
	}
	lock_drop(&vm->lock);
	return status;
}

void vcpu_off(struct vcpu *vcpu)
{
	atomic_or(&vcpu->requests, VCPU_REQUEST_STOP);
}

bool vcpu_is_on(const struct vcpu *vcpu)
{
	return load_acquire(&vcpu->state) != VCPU_OFF;
}
