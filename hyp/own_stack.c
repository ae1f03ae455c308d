#include "hyp/own.h"

static u64 slot(u32 cpu)
{
	return (u64)(uintptr_t)stacks_start + (u64)cpu * STACK_SLOT_SIZE;
}

u64 own_stack_top(u32 cpu)
{
	return slot(cpu) + STACK_SLOT_SIZE;
}

u64 own_emergency_top(u32 cpu)
{
	return slot(cpu) + STACK_GUARD_SIZE + STACK_EMERGENCY_SIZE;
}

static bool is_below(u64 top, u64 size, u64 address, u64 bytes)
{
	return address >= top - size && address <= top - bytes;
}

bool own_stack_has(u64 address, u64 bytes)
{
	u32 cpu = this_cpu_id();

	return is_below(own_stack_top(cpu), STACK_SIZE, address, bytes) ||
	       is_below(own_emergency_top(cpu), STACK_EMERGENCY_SIZE, address, bytes);
}

const char *own_stack_hole(u64 address)
{
	u64 offset = (address - (u64)(uintptr_t)stacks_start) % STACK_SLOT_SIZE;

	if (address < (u64)(uintptr_t)stacks_start || address >= (u64)(uintptr_t)image_end) {
		return "";
	}
	if (offset < STACK_GUARD_SIZE) {
		return " (guard page: emergency stack overflow)";
	}
	offset -= STACK_GUARD_SIZE + STACK_EMERGENCY_SIZE;
	return offset < STACK_GUARD_SIZE ? " (guard page: stack overflow)" : "";
}
