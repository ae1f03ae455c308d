#include "vpower.h"

#include "hyp/vcpu.h"
#include "hyp/vm.h"

#include "vacpi.h"
#include "vport.h"

#define POWER_PORTS VACPI_SLEEP_CONTROL_PORT
#define POWER_PORTS_SIZE (VACPI_RESET_PORT + 1 - POWER_PORTS)
#define DEBUG_EXIT_PORT 0xf4
#define DEBUG_EXIT_SIZE 4

/* Nothing is ever to be read: the guest is not there any more when it would. */
static u64 read_nothing(unused void *device, unused struct vcpu *vcpu, unused u64 offset,
			unused unsigned size)
{
	return 0;
}

static void write_power(unused void *device, struct vcpu *vcpu, u64 offset, unused unsigned size,
			u64 value)
{
	if (offset == VACPI_SLEEP_CONTROL_PORT - POWER_PORTS && value == VACPI_SLEEP_OFF) {
		vm_off(vcpu->vm);
	} else if (offset == VACPI_RESET_PORT - POWER_PORTS && value == VACPI_RESET_VALUE) {
		vm_reset(vcpu->vm);
	}
}

static void write_debug_exit(unused void *device, struct vcpu *vcpu, unused u64 offset,
			     unused unsigned size, u64 value)
{
	if (value == 0) {
		vm_off(vcpu->vm);
	} else {
		vm_crash(vcpu->vm, "it ended itself with status %u (port 0x%x)", (u32)value,
			 DEBUG_EXIT_PORT);
	}
}

void vpower_add(struct vm *vm)
{
	static const struct mmio_ops power = {.read = read_nothing, .write = write_power};
	static const struct mmio_ops debug_exit = {.read = read_nothing, .write = write_debug_exit};

	vport_add(vm, (struct vport_region){
			      .base = POWER_PORTS, .size = POWER_PORTS_SIZE, .ops = &power});
	vport_add(vm, (struct vport_region){.base = DEBUG_EXIT_PORT,
					    .size = DEBUG_EXIT_SIZE,
					    .ops = &debug_exit});
}
