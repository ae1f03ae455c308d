#include "vkvmclock.h"

#include "hyp/time.h"
#include "hyp/vm.h"

#define CLOCK_ON BIT(0)
#define FLAG_TSC_STABLE BIT(0)
#define NS_PER_SECOND 1000000000ull

/* As the guest reads it; `version` is odd while it is written. */
struct clock_record {
	u32 version;
	u32 pad0;
	u64 tsc, ns; /* at the same moment */
	u32 factor;  /* ns = (ticks shifted by `shift`) * factor >> 32 */
	s8 shift;
	u8 flags;
	u8 pad[2];
} __attribute__((packed));

struct wall_record {
	u32 version, seconds, ns;
};

/* The largest factor of 32 bits; then rates from 1 kHz to 2^63 Hz fit. */
static void set_scale(struct clock_record *record, u64 hz)
{
	u64 numerator = NS_PER_SECOND, rate = hz;

	record->shift = 0;
	while (rate > numerator * 2 || rate > 0xffffffffull) {
		rate >>= 1;
		record->shift--;
	}
	while (rate <= numerator) {
		rate <<= 1;
		record->shift++;
	}
	record->factor = (u32)((numerator << 32) / rate);
}

bool vkvmclock_set(struct vcpu *vcpu, u64 value)
{
	u64 now = arch_now();
	struct clock_record record = {
		.version = 2, .tsc = now, .ns = ticks_to_ns(now), .flags = FLAG_TSC_STABLE};

	set_scale(&record, time_hz());
	if ((value & CLOCK_ON) &&
	    vm_memory_write(vcpu->vm, gpa(value & ~CLOCK_ON), &record, sizeof(record)) != OK) {
		return false;
	}
	vcpu->arch.kvmclock = value;
	return true;
}

bool vkvmclock_tell_wall(struct vcpu *vcpu, u64 value)
{
	struct wall_record record = {.version = 2};

	return vm_memory_write(vcpu->vm, gpa(value), &record, sizeof(record)) == OK;
}
