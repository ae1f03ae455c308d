#include "vapic.h"

#include "arch/s2.h"
#include "arch/vm.h"

#include "vcpu_vmx.h"
#include "vioapic.h"

#define STARTUP_PAGE_SHIFT 12

static struct vcpu *vcpu_of(struct vlapic *lapic)
{
	return (struct vcpu *)((u8 *)lapic - offsetof(struct vcpu, arch.lapic));
}

static void post(struct vcpu *target, const struct vapic_message *m)
{
	if (vlapic_post(&target->arch.lapic, m->vector, m->level)) {
		vcpu_request(target, VCPU_REQUEST_IRQ);
	}
}

/* INIT: it stops, and waits for a startup interrupt; one that waits goes on waiting (10.4.7). */
static void init(struct vcpu *target)
{
	if (vcpu_is_on(target)) {
		vcpu_request(target, VCPU_REQUEST_STOP);
	}
}

static void deliver(struct vcpu *target, const struct vapic_message *m)
{
	switch (m->mode) {
	case VAPIC_FIXED:
	case VAPIC_LOWEST:
		post(target, m);
		return;
	case VAPIC_NMI:
		store_relaxed(&target->arch.waiting_nmi, 1);
		vcpu_request(target, VCPU_REQUEST_IRQ);
		return;
	case VAPIC_INIT:
		init(target);
		return;
	case VAPIC_STARTUP: /* of one that runs it changes nothing: vcpu_on says so */
		vcpu_on(target, (u64)m->vector << STARTUP_PAGE_SHIFT, 0);
		return;
	default:
		return;
	}
}

static struct vcpu *less_busy(struct vcpu *a, struct vcpu *b)
{
	return a && vlapic_ppr(&a->arch.lapic) <= vlapic_ppr(&b->arch.lapic) ? a : b;
}

/* True: somebody took it. */
static bool send(struct vm *vm, const struct vlapic *source, const struct vapic_message *m)
{
	struct vcpu *chosen = NULL;
	bool taken = false;

	for (u32 i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *vcpu = vm->vcpus[i];

		if (!vlapic_matches(&vcpu->arch.lapic, source, m)) {
			continue;
		}
		taken = true;
		if (m->mode == VAPIC_LOWEST) {
			chosen = less_busy(chosen, vcpu);
		} else {
			deliver(vcpu, m);
		}
	}
	if (chosen) {
		deliver(chosen, m);
	}
	return taken;
}

static void send_from_lapic(struct vlapic *from, const struct vapic_message *message)
{
	send(vcpu_of(from)->vm, from, message);
}

static void level_ended(struct vlapic *from, u8 vector)
{
	vioapic_eoi(vcpu_of(from)->vm->arch.ioapic, vector);
}

static const struct vlapic_ops vapic_ops = {.send = send_from_lapic, .level_ended = level_ended};

bool vapic_from_ioapic(void *vm, const struct vapic_message *message)
{
	return send(vm, NULL, message);
}

bool vapic_send(struct vcpu *target, const struct vapic_message *message)
{
	bool taken = vlapic_matches(&target->arch.lapic, NULL, message);

	if (taken) {
		deliver(target, message);
	}
	return taken;
}

void vapic_settle(struct vcpu *vcpu)
{
	vkvm_eoi_take_back(vcpu->vm, &vcpu->arch.eoi, &vcpu->arch.lapic);
}

/* ---- The page ----------------------------------------------------------------------------------
 *
 * It is each vCPU's own, and where its IA32_APIC_BASE says. On RAM a CPU would see its page, and
 * all others the RAM; but they share one table, so that is refused, and so is another device.
 */

static const struct mmio_ops page_ops;

static void place_page(struct vcpu *vcpu)
{
	u64 page = vlapic_page(&vcpu->arch.lapic);

	vcpu->own_mmio = (struct mmio_region){
		.base = gpa(page),
		.size = page == VLAPIC_PAGE_NONE ? 0 : PAGE_SIZE,
		.ops = &page_ops,
		.name = "lapic",
	};
}

static bool is_place_for_page(const struct vm *vm, gpa_t page)
{
	return page.v == VLAPIC_PAGE_DEFAULT ||
	       (!vm_ram_meets(&vm->ram, page, PAGE_SIZE) && !vm_mmio_find(vm, page));
}

bool vapic_write_base(struct vcpu *vcpu, u64 base)
{
	if (!is_place_for_page(vcpu->vm, gpa(base & VLAPIC_BASE_ADDRESS)) ||
	    !vlapic_write_msr(&vcpu->arch.lapic, VLAPIC_MSR_BASE, arch_now(), base)) {
		return false;
	}
	place_page(vcpu);
	return true;
}

void vapic_init(struct vcpu *vcpu)
{
	vlapic_init(&vcpu->arch.lapic, vcpu->id, vcpu->id == 0, arch_s2_ipa_bits(), &vapic_ops);
	place_page(vcpu);
}

void vapic_reset(struct vcpu *vcpu, bool init_only)
{
	vlapic_reset(&vcpu->arch.lapic, init_only);
	place_page(vcpu);
}

/* Its registers are 32 bits wide, and software is to access them so (10.4.1). */
static u64 read_page(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size)
{
	u64 value;

	vapic_settle(vcpu);
	value = size == 4 ? vlapic_read(&vcpu->arch.lapic, (u32)offset, arch_now()) : ~0ull;
	return size == 8 ? value : value & BITS(8 * size - 1, 0);
}

static void write_page(unused void *device, struct vcpu *vcpu, u64 offset, unsigned size, u64 value)
{
	if (size == 4) {
		vapic_settle(vcpu);
		vlapic_write(&vcpu->arch.lapic, (u32)offset, arch_now(), (u32)value);
		vcpu_request_delivery(vcpu);
	}
}

static const struct mmio_ops page_ops = {.read = read_page, .write = write_page};

static u64 read_nothing(unused void *device, unused struct vcpu *vcpu, unused u64 offset,
			unused unsigned size)
{
	return ~0ull;
}

static void write_nothing(unused void *device, unused struct vcpu *vcpu, unused u64 offset,
			  unused unsigned size, unused u64 value)
{
}

const struct mmio_ops vapic_absent_ops = {.read = read_nothing, .write = write_nothing};
