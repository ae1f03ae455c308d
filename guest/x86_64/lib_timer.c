/* Time by the TSC, whose rate KVM's clock tells (Linux, Documentation/virt/kvm/x86/msr.rst). */
#include "lib.h"

#define MSR_KVM_SYSTEM_TIME_NEW 0x4b564d01u
#define CLOCK_ON 1u

struct clock_record {
	u32 version, pad;
	u64 tsc, ns;
	u32 factor;
	int8_t shift;
	u8 flags, pad2[2];
} __attribute__((aligned(32)));

static u64 ticks_per_ms;

/* The larger of two rates that differ by rounding: a wait is never too short. */
static u64 measure(void)
{
	static struct clock_record record;
	u64 per_ns;

	write_msr(MSR_KVM_SYSTEM_TIME_NEW, (u64)&record | CLOCK_ON);
	per_ns = record.factor; /* ns in 2^32 ticks, but for the shift */
	if (!per_ns) {
		return 1000000; /* nobody says: as if a tick was a ns */
	}
	return record.shift >= 0 ? ((1000000ull << 32) / per_ns) >> record.shift
				 : ((1000000ull << 32) / per_ns) << -record.shift;
}

u64 microseconds(u64 us)
{
	if (!ticks_per_ms) {
		ticks_per_ms = measure() + 1;
	}
	return us * ticks_per_ms / 1000 + 1;
}

void wait_microseconds(u64 us)
{
	u64 end = counter() + microseconds(us);

	while (counter() < end) {
		cpu_relax();
	}
}
