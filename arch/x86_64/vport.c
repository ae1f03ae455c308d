#include "vport.h"

#include "arch_enter.h"
#include "hyp/log.h"
#include "hyp/vm.h"

#include "vport_string.h"

void vport_add(struct vm *vm, struct vport_region region)
{
	check(vm->arch.port_count < VPORT_REGIONS_MAX);
	vm->arch.ports[vm->arch.port_count++] = region;
}

/* A region has to have the access as a whole. */
static const struct vport_region *find(const struct vm *vm, u32 port, unsigned size)
{
	for (u32 i = 0; i < vm->arch.port_count; i++) {
		const struct vport_region *r = &vm->arch.ports[i];

		if (port - r->base < r->size && port - r->base + size <= r->size) {
			return r;
		}
	}
	return NULL;
}

static u64 ones(unsigned size)
{
	return BITS(8 * size - 1, 0);
}

u64 vport_read(struct vcpu *vcpu, u32 port, unsigned size)
{
	const struct vport_region *r = find(vcpu->vm, port, size);

	return r ? r->ops->read(r->device, vcpu, port - r->base, size) : ~0ull;
}

void vport_write(struct vcpu *vcpu, u32 port, unsigned size, u64 value)
{
	const struct vport_region *r = find(vcpu->vm, port, size);

	if (r) {
		r->ops->write(r->device, vcpu, port - r->base, size, value);
	}
}

static void read_register(struct vcpu *vcpu, u32 port, unsigned size)
{
	u64 value = vport_read(vcpu, port, size), old = vcpu->arch.gpr[GPR_RAX];

	/* A narrow one leaves the rest of the register; of four bytes, it clears the upper half. */
	vcpu->arch.gpr[GPR_RAX] =
		size == 4 ? (u32)value : (old & ~ones(size)) | (value & ones(size));
}

void vport_access(struct vcpu *vcpu, u64 qualification)
{
	unsigned size = (unsigned)field_get(qualification, PORT_SIZE) + 1;
	u32 port = (u32)field_get(qualification, PORT_NUMBER);

	if (unlikely(qualification & PORT_STRING)) {
		vport_string(vcpu, qualification);
		return;
	}
	arch_vcpu_skip(vcpu);
	if (qualification & PORT_IN) {
		read_register(vcpu, port, size);
	} else {
		vport_write(vcpu, port, size, vcpu->arch.gpr[GPR_RAX] & ones(size));
	}
}
