#include "vport.h"

#include "arch_enter.h"
#include "hyp/log.h"
#include "hyp/vm.h"

#include "vinject.h"

#define PORT_SIZE BITS(2, 0) /* less 1 */
#define PORT_IN BIT(3)
#define PORT_STRING BIT(4)
#define PORT_NUMBER BITS(31, 16)

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

static void read_port(struct vcpu *vcpu, const struct vport_region *r, u32 port, unsigned size)
{
	u64 value = r ? r->ops->read(r->device, vcpu, port - r->base, size) : ~0ull;
	u64 old = vcpu->arch.gpr[GPR_RAX];

	/* A narrow one leaves the rest of the register; of four bytes, it clears the upper half. */
	vcpu->arch.gpr[GPR_RAX] =
		size == 4 ? (u32)value : (old & ~ones(size)) | (value & ones(size));
}

void vport_access(struct vcpu *vcpu, u64 qualification)
{
	unsigned size = (unsigned)field_get(qualification, PORT_SIZE) + 1;
	u32 port = (u32)field_get(qualification, PORT_NUMBER);
	const struct vport_region *r = find(vcpu->vm, port, size);

	if (unlikely(qualification & PORT_STRING)) {
		vinject_exception(vcpu, EXCEPTION_GP, 0);
		return;
	}
	arch_vcpu_skip(vcpu);
	if (qualification & PORT_IN) {
		read_port(vcpu, r, port, size);
	} else if (r) {
		r->ops->write(r->device, vcpu, port - r->base, size,
			      vcpu->arch.gpr[GPR_RAX] & ones(size));
	}
}
